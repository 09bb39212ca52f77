"""Measure the cost of storing asset outputs, compared with Dagster's file-system IO manager.

Both call `handle_output` with the same texts of 10 kB, one per partition, with durability none. They alternate in one
process. A task table has one row per document. Needs Dagster.

Then measure a range of partitions in one step, with calls of 0.1 seconds, 50 at once: `docs.ensure_many`, durable,
compared with an asset that makes the same calls and stores nothing.

Last, the time for each partition to remove it with its row, compared with Dagster's own call, and to show its document.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg

from docid import DocsStore, Document, DraftTask, reserve_tasks, write_tasks
from docid.dagster import (
    DocsIOManager,
    DocsStoreResource,
    document_partitions,
    register_partitions,
    report_existing,
    task_table_asset,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1000, help="documents per turn")
    parser.add_argument("--dagster-turns", type=int, default=7)
    parser.add_argument("--range-turns", type=int, default=3)
    parser.add_argument("--directory", help="where to write (default: the temporary directory)")
    options, _ = parser.parse_known_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory, dg.DagsterInstance.ephemeral() as instance:
        root = Path(directory)
        ratios, seconds = [], []
        for turn in range(options.dagster_turns):
            place = root / str(turn)
            place.mkdir()
            rows = list(reserve_tasks([DraftTask(task_id=f"t-{n}") for n in range(options.documents)], DraftTask))
            write_tasks(place / "draft_tasks.csv", rows)
            docs = DocsStoreResource(root=str(place / "docs"), tables=str(place), durability="none")
            keys = [row.doc_id for row in rows]
            own = measure(instance, DocsIOManager(docs=docs), keys)
            pickles = dg.FilesystemIOManager(base_dir=str(place / "pickles"))
            other = measure(instance, pickles.create_io_manager(dg.build_init_resource_context()), keys)
            ratios.append(own / other)
            seconds.append((own, other))
        own, other = (statistics.median(column) for column in zip(*seconds, strict=True))
        print(f"{options.documents:,} texts of 10 kB: DocsIOManager {own:.3f} s, FilesystemIOManager {other:.3f} s")
        print(
            f"DocsIOManager / FilesystemIOManager {statistics.median(ratios):.2f} "
            f"(min {min(ratios):.2f}, max {max(ratios):.2f})"
        )

    more = []
    for _ in range(options.range_turns):
        seconds_of = {}
        for kind in ("without", "with"):
            with tempfile.TemporaryDirectory(dir=options.directory) as directory:
                seconds_of[kind] = run_range(Path(directory), options.documents, stores=kind == "with")
        more.append(seconds_of["with"] - seconds_of["without"])
    if more:
        print(
            f"a range of {options.documents:,} partitions, 50 calls of 0.1 s at once: docs.ensure_many takes "
            f"{statistics.median(more):.2f} s more than the calls without a store (max {max(more):.2f}; at most 3)"
        )
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        print_partitions(Path(directory), options.documents)


def print_partitions(root: Path, number: int) -> None:
    """Print the time for each partition to remove it and to show an existing document."""
    store = DocsStore(root / "docs", durability="none")
    rows = list(reserve_tasks([DraftTask(task_id=f"t-{n}") for n in range(number)], DraftTask))
    store.write_many(Document.from_task(row, raw_text="text") for row in rows)
    keys = [row.doc_id for row in rows]
    with dg.DagsterInstance.local_temp(str(root)) as instance:
        register_partitions(instance, rows)
        show = measure_each(lambda: report_existing(instance, store, {"draft": "draft"}), number)
        remove = measure_each(lambda: register_partitions(instance, rows[:1]), number - 1)
        instance.add_dynamic_partitions("draft_documents", keys)
        by_dagster = measure_each(
            lambda: [instance.delete_dynamic_partition("draft_documents", key) for key in keys], number
        )
    print(
        f"{number:,} partitions: shown as materialised in {show:.1f} ms each; removed in {remove:.1f} ms each, "
        f"by Dagster's own calls in {by_dagster:.1f} ms each"
    )


def measure_each(function: Callable[[], object], number: int) -> float:
    """Return the milliseconds for each of a number of things that a function does."""
    started = time.perf_counter()
    function()
    return (time.perf_counter() - started) * 1000 / number


def run_range(root: Path, number: int, *, stores: bool) -> float:
    """Return the seconds of a step that makes the documents of a range, or only the calls."""
    docs = DocsStoreResource(root=str(root / "docs"), tables=str(root / "tables"))
    table = task_table_asset("draft", lambda _: [DraftTask(task_id=f"t-{n}") for n in range(number)])

    async def model(_: str) -> str:
        await asyncio.sleep(0.1)
        return "text"

    async def call_all(keys: Sequence[str]) -> None:
        limit = asyncio.Semaphore(50)

        async def call(key: str) -> None:
            async with limit:
                await model(key)

        await asyncio.gather(*map(call, keys))

    class Nothing(dg.IOManager):
        def handle_output(self, context: Any, obj: Any) -> None: ...
        def load_input(self, context: Any) -> None: ...

    @dg.asset(
        partitions_def=document_partitions("draft"),
        io_manager_key="documents",
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def draft(context: dg.AssetExecutionContext, docs: DocsStoreResource) -> Any:
        if stores:
            return docs.ensure_many(context, model, prompt="p", concurrency=50)
        return asyncio.run(call_all(context.partition_keys))

    resources: Any = {"docs": docs, "documents": DocsIOManager(docs=docs) if stores else Nothing()}
    with dg.DagsterInstance.local_temp(str(root)) as instance:
        dg.materialize([table], instance=instance, resources=resources)
        keys = list(instance.get_dynamic_partitions("draft_documents"))
        ends = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
        tags = dict(zip(ends, (keys[0], keys[-1]), strict=True))
        started = time.perf_counter()
        done = dg.materialize([table, draft], selection=["draft"], instance=instance, resources=resources, tags=tags)
        assert done.success
        return time.perf_counter() - started


def measure(instance: dg.DagsterInstance, manager: Any, keys: list[str]) -> float:
    """Return the seconds that `handle_output` takes for one text per partition."""
    # Dagster would create an instance with its tables for every context. Share one, to keep that cost out of the time.
    with mock.patch.object(dg.DagsterInstance, "ephemeral", return_value=nullcontext(instance)):
        contexts = [build_context(instance, key) for key in keys]
    text = "text of one partition " * 455
    started = time.perf_counter()
    for context in contexts:
        manager.handle_output(context, text)
    return time.perf_counter() - started


def build_context(instance: dg.DagsterInstance, key: str) -> dg.OutputContext:
    """Return the output context of one partition, like the context of a step."""
    instance.add_dynamic_partitions("draft_documents", [key])
    context = dg.build_output_context(
        asset_key="draft",
        asset_partitions_def=document_partitions("draft"),
        asset_partition_key_range=dg.PartitionKeyRange(key, key),
        instance=instance,
    )
    instance.delete_dynamic_partition("draft_documents", key)
    return context


if __name__ == "__main__":
    main()

"""Measure the cost of storing asset outputs, compared with Dagster's file-system IO manager.

Both call `handle_output` with the same texts of 10 kB, one per partition, with durability none. They alternate in one
process. A task table has one row per document. Needs Dagster.
"""

import argparse
import statistics
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg

from docid import DraftTask, reserve_tasks, write_tasks
from docid.dagster import DocsIOManager, DocsStoreResource, document_partitions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1000, help="documents per turn")
    parser.add_argument("--dagster-turns", type=int, default=7)
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

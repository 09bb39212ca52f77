"""What storing an asset's text costs, beside Dagster's own file-system IO manager.

Both store the same texts of 10 kB, one partition each, by `handle_output`, durability none, in turns of one process.
The rows of the documents are in a task table of that many rows. Needs Dagster.
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
    parser.add_argument("--documents", type=int, default=1000, help="documents a turn")
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
            own = timed(instance, DocsIOManager(docs=docs), keys)
            pickles = dg.FilesystemIOManager(base_dir=str(place / "pickles"))
            other = timed(instance, pickles.create_io_manager(dg.build_init_resource_context()), keys)
            ratios.append(own / other)
            seconds.append((own, other))
        own, other = (statistics.median(column) for column in zip(*seconds, strict=True))
        print(
            f"{options.documents:,} texts of 10 kB: DocsIOManager {own:.3f} s, FilesystemIOManager {other:.3f} s a turn"
        )
        print(
            f"DocsIOManager / FilesystemIOManager {statistics.median(ratios):.2f} "
            f"(min {min(ratios):.2f}, max {max(ratios):.2f})"
        )


def timed(instance: dg.DagsterInstance, manager: Any, keys: list[str]) -> float:
    """Return the seconds that `handle_output` takes for a text of each partition."""
    # Dagster makes an instance, with its tables, for every context; those are not what is measured, so one serves all.
    with mock.patch.object(dg.DagsterInstance, "ephemeral", return_value=nullcontext(instance)):
        contexts = [context_of(instance, key) for key in keys]
    text = "text of one partition " * 455
    started = time.perf_counter()
    for context in contexts:
        manager.handle_output(context, text)
    return time.perf_counter() - started


def context_of(instance: dg.DagsterInstance, key: str) -> dg.OutputContext:
    """Return the context of one partition, as a step has it."""
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

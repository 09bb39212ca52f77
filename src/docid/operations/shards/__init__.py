"""One shard of an audit: the keys of one part of all tables and of all of a store, looked at together.

A key is a task id, a doc id, or the doc id of a parent or a source; every check is about one of them alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from docid.operations.shards.documents import Shard
from docid.operations.shards.job import Found, Job, Table
from docid.operations.shards.parents import resolved
from docid.operations.shards.rows import Rows
from docid.tables.csvfile import Faults

if TYPE_CHECKING:
    from docid.core.findings import Progress

__all__ = ["Found", "Job", "Table", "look", "resolved"]


def look(job: Job, number: int, of: int, progress: Progress | None = None) -> Found:
    """Look at one shard: through the stages, parents first.

    Raises:
        TaskTableError: rows that are damaged, of all tables; nothing else was looked at behind the first.
        OSError: a table cannot be read.
    """
    shard, faults = Shard(job, number, of, progress), Faults("")
    for stage in job.stages:
        if not faults.count:
            shard.list_ids(stage)
        rows = Rows(shard, stage, job.tables[stage]) if stage in job.tables else None
        if rows is not None:
            rows.look(faults)
        if not faults.count:
            shard.look_at_the_rest(stage)
            if rows is not None:
                rows.look_for_sources()
    faults.raise_any()
    return Found(shard.findings, shard.counts, shard.references, shard.blind)

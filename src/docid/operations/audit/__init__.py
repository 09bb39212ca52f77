"""The audit: is a task table safe to run, and is a store whole? It reads, and never writes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from docid.core.stages import DEFAULT_STAGES, Stages, check_stages
from docid.operations.audit.report import AuditReport
from docid.store.docs_store import DocsStore

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from docid.core.findings import Progress
    from docid.tables.rows import TaskRow

__all__ = ["AuditReport", "audit"]


def audit(
    store: DocsStore | str | os.PathLike[str] | None,
    tables: Mapping[str, str | os.PathLike[str] | Iterable[TaskRow]] | None = None,
    *,
    stages: Stages | None = None,
    verify: bool = False,
    executor: Executor | None = None,
    stale_after: float = 3600.0,
    progress: Progress | None = None,
) -> AuditReport:
    """Look whether task tables are safe to run, and whether a store is whole. Nothing is written.

    Tables alone, a store alone, or both against each other. What cannot be read is a finding and does not end it.
    Memory grows by some 160 bytes a row or document, and 500 a finding; texts are not held.

    Args:
        store: a store, or its directory; None to look at tables alone. A directory that is not there is an empty
            store.
        tables: for each stage its table, as a path or as rows; stages without a table are looked at in the store.
        stages: the pipeline's stages; those of the store if not given, or the default ones.
        verify: also read every part and compare its SHA-256 with the record's.
        executor: where to examine the documents, any `concurrent.futures.Executor`; in this process if None. The
            report is the same. To reach another process the store has to pickle (one in a directory does).
        stale_after: temporary and uncommitted directories that were touched in the last so many seconds may belong
            to a writer, and are passed over, but where a row's document should be.
        progress: called now and then with what is looked at, how much of it is done, and of how much, about (None
            where that is not known).

    Raises:
        TaskTableError: a file that is no task table of its stage, or rows that are damaged (not UTF-8, not CSV, too
            many cells), with all faults of all tables.
        OSError: a table that cannot be read.
        InvalidName: a table of a stage that is none of `stages`.
        ValueError: rows of another stage than they are given for.

    Example:
        >>> from docid import Document, DocsStore, DraftTask, reserve_tasks
        >>> from docid.backends import MemoryBackend
        >>> store = DocsStore(MemoryBackend())
        >>> rows = list(reserve_tasks([DraftTask(task_id="t-1"), DraftTask(task_id="t-2")], DraftTask))
        >>> _ = store.write(Document.from_task(rows[0], raw_text="Once."))
        >>> report = audit(store, {"draft": rows})
        >>> report.ok, report.stages["draft"].written, report.stages["draft"].pending
        (True, 1, 1)
    """
    # A tenth of the time that importing docid takes.
    from docid.operations.audit.parallel import Audit, Examiner  # noqa: PLC0415
    from docid.operations.audit.run import audit_stages  # noqa: PLC0415

    if isinstance(store, (str, os.PathLike)):
        store = DocsStore(store, stages=stages or DEFAULT_STAGES)
    if store is not None and not isinstance(store, DocsStore):
        raise TypeError(f"store: expected a DocsStore, a directory or None, got {type(store).__name__}")
    if tables is not None and not isinstance(tables, Mapping):
        raise TypeError(f"tables: expected a table by stage, as {{'draft': path}}, got {type(tables).__name__}")
    for stage, table in (tables or {}).items():
        if not isinstance(table, (str, os.PathLike, Iterable)):
            raise TypeError(f"tables[{stage!r}]: expected a path or rows, got {type(table).__name__}")
    stages = check_stages(stages or (DEFAULT_STAGES if store is None else store.stages))
    examiner = None if store is None else Examiner(store.backend, verify, stale_after)
    return audit_stages(Audit(stages, examiner, executor, progress), tables or {})

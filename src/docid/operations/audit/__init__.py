"""The audit: check whether task tables are safe to run and whether a store is intact. It never writes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from docid.core.findings import LEVELS
from docid.core.ids import refuse_text
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
    ignore: Collection[str] = (),
    delimiter: str = ",",
    progress: Progress | None = None,
) -> AuditReport:
    """Check whether task tables are safe to run and whether a store is intact. It never writes.

    Pass tables, a store, or both; the audit compares both with each other. An unreadable document becomes a finding
    and does not stop the audit. Memory grows by about 160 bytes per row or document, and 500 per finding.

    Args:
        store: a store or its directory; None checks tables only. A missing directory is an empty store.
        tables: the table of each stage, as a path or as rows. A stage without a table is checked in the store only.
        stages: the stages of the pipeline; by default those of the store, or else draft, essay and evaluation.
        verify: also read every part, of replaced versions too, and compare its SHA-256 with the record.
        executor: a `concurrent.futures.Executor` that examines the documents; None examines them in this process.
            The report is the same. Other processes need a store that pickles; a store in a directory does.
        stale_after: an age in seconds. Newer temporary and uncommitted directories may belong to a writer: the audit
            skips them, unless they block the document of a row.
        ignore: codes of findings to leave out, such as `orphan-document` for tables of a part of the store.
        delimiter: the delimiter of the tables given as paths, as for `read_tasks`.
        progress: a callback, called with the current activity, the number done and the approximate total (None if
            unknown).

    Raises:
        TaskTableError: a file is not a task table of its stage, or rows are damaged (not UTF-8, not CSV, too many
            cells). The error lists the faults of all tables.
        OSError: a table cannot be read.
        InvalidName: `tables` has a stage that `stages` lacks.
        ValueError: a row belongs to another stage; `ignore` has an unknown code.

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
    # Importing these takes a tenth of the time that importing docid takes.
    from docid.operations.audit.parallel import Audit, Examiner  # noqa: PLC0415
    from docid.operations.audit.run import audit_stages  # noqa: PLC0415

    if isinstance(store, (str, os.PathLike)):
        store = DocsStore(store, stages=stages)
    if store is not None and not isinstance(store, DocsStore):
        raise TypeError(f"store: expected a DocsStore, a directory or None, got {type(store).__name__}")
    if tables is not None and not isinstance(tables, Mapping):
        raise TypeError(
            f"tables: expected a mapping of stages to tables, as {{'draft': path}}, got {type(tables).__name__}"
        )
    for stage, table in (tables or {}).items():
        if not isinstance(table, (str, os.PathLike, Iterable)):
            raise TypeError(f"tables[{stage!r}]: expected a path or rows, got {type(table).__name__}")
    stages = check_stages(stages or (DEFAULT_STAGES if store is None else store.stages))
    examiner = None if store is None else Examiner(store.backend, verify, stale_after)
    refuse_text(ignore, "ignore", "codes of findings")
    if unknown := sorted(set(ignore) - set(LEVELS)):
        raise ValueError(f"ignore: {unknown[0]!r}; expected codes of findings: {', '.join(LEVELS)}")
    report = audit_stages(Audit(stages, examiner, executor, progress), tables or {}, delimiter)
    findings = tuple(finding for finding in report.findings if finding.code not in ignore)
    changed = tuple(each for each in report.changed if f"{each.role}-changed" not in ignore)
    return AuditReport(findings, report.stages, changed)

"""The audit: is a task table safe to run, and is a store whole? It reads, and never writes.

The work falls into shards by a hash of what is looked at, here or in the workers of an executor.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import orjson
from attrs import frozen

from docid.core.findings import LABELS, LEVELS, StageFacts
from docid.core.stages import DEFAULT_STAGES, Stages, check_stages
from docid.errors import TaskTableError
from docid.store.docs_store import DocsStore
from docid.tables.csvfile import Faults
from docid.tables.rows import TaskRow, row_type_of
from docid.tables.tasks import TaskRows, list_lineages, read_lineages

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from docid.core.findings import Finding, Progress
    from docid.operations.shards import Found, Job, Table

__all__ = ["AuditReport", "audit"]

_SHOWN = 20  # findings of each code, in a notebook


@frozen(repr=False)
class AuditReport:
    """What an audit found. True where there is no error: `if audit(…): run()`.

    Attributes:
        findings: all that is wrong, errors first, then by stage, code, and row or doc id; in the same order
            whatever the executor.
        stages: what was counted, by stage.

    Example:
        >>> report = audit(None, {"draft": [TaskRow.of("draft")(task_id="t-1")]})
        >>> report
        <AuditReport 1 errors, 0 warnings: missing-doc-id 1>
        >>> report.ok, report.counts, report.stages["draft"].rows
        (False, {'missing-doc-id': 1}, 1)
        >>> print(report.findings[0])
        missing-doc-id: stage draft (task_id='t-1') at row 1, column doc_id: empty; 'docid reserve' fills it
    """

    findings: tuple[Finding, ...]
    stages: dict[str, StageFacts]

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings do not count."""
        return not any(finding.level == "error" for finding in self.findings)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each code that was found, errors first."""
        counts = Counter(finding.code for finding in self.findings)
        return {code: counts[code] for code in LEVELS if code in counts}

    def by_code(self) -> dict[str, list[Finding]]:
        """Return the findings of each code that was found, errors first."""
        by_code: dict[str, list[Finding]] = {code: [] for code in self.counts}
        for finding in self.findings:
            by_code[finding.code].append(finding)
        return by_code

    def __repr__(self) -> str:
        levels = Counter(finding.level for finding in self.findings)
        told = ", ".join(f"{code} {count:,}" for code, count in self.counts.items())
        return f"<AuditReport {levels['error']:,} errors, {levels['warning']:,} warnings{': ' if told else ''}{told}>"

    def _repr_html_(self) -> str:
        from docid import _html  # noqa: PLC0415 - for notebooks alone

        summary = self.summary()
        state = "no errors" if self.ok else f"{summary['errors']:,} errors"
        rows = [_html.head(["stage", *LABELS.values()])]
        for stage, facts in self.stages.items():
            rows.append(_html.row([_html.name(stage), *map(_html.number, facts)], texts=1))
        title = f"AuditReport · {state}, {summary['warnings']:,} warnings"
        of_codes = (self._view_of(code, found) for code, found in self.by_code().items())
        return _html.box(title, _html.element("table", *rows), *of_codes)

    @staticmethod
    def _view_of(code: str, found: list[Finding]) -> str:
        """Return what a notebook shows of the findings of one code: the first few, folded."""
        from docid import _html  # noqa: PLC0415 - as above

        lines = [_html.head(["where", "task", "what is wrong", "what to do"])]
        for each in found[:_SHOWN]:
            names = (_html.name(each.where), _html.name(each.task_id or "—"))
            lines.append(_html.row([*names, _html.text(each.message), _html.text(each.hint)], texts=4))
        if len(found) > _SHOWN:
            lines.append(_html.row([f"… and {len(found) - _SHOWN:,} more", "", "", ""], texts=4))
        summary = f"{_html.text(code)} ({found[0].level}): {len(found):,}"
        return _html.fold(summary, _html.element("table", *lines))

    def rows(self) -> list[dict[str, Any]]:
        """Return the findings as rows of a data frame: code, level, stage, doc_id, task_id, where, message, hint."""
        return [finding.to_dict() for finding in self.findings]

    def summary(self) -> dict[str, Any]:
        """Return all but the findings as JSON takes it: `ok`, `errors`, `warnings`, `counts` by code, `stages`."""
        levels = Counter(finding.level for finding in self.findings)
        return {
            "ok": self.ok,
            "errors": levels["error"],
            "warnings": levels["warning"],
            "counts": self.counts,
            "stages": {stage: facts._asdict() for stage, facts in self.stages.items()},
        }

    def to_json(self) -> str:
        """Return the report as one JSON object: what `summary` has, and the `findings`."""
        return orjson.dumps({**self.summary(), "findings": self.rows()}, option=orjson.OPT_INDENT_2).decode()


def audit(
    store: DocsStore | str | os.PathLike[str] | None,
    tables: Mapping[str, str | os.PathLike[str] | Iterable[TaskRow]] | None = None,
    *,
    stages: Stages | None = None,
    verify: bool = False,
    executor: Executor | None = None,
    shards: int | None = None,
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
        executor: where to work, any `concurrent.futures.Executor`; in this process if None. The report is the same.
            To reach another process the store has to pickle (one in a directory does), and so have rows.
        shards: into how many parts the work is cut for an executor, each of which reads all tables: as many as it
            has workers is best. This machine's number of processors if not given.
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
    from docid.operations.shards import Job  # noqa: PLC0415 - importing docid is to cost little

    if isinstance(store, (str, os.PathLike)):
        store = DocsStore(store, stages=stages or DEFAULT_STAGES)
    if store is not None and not isinstance(store, DocsStore):
        raise TypeError(f"store: expected a DocsStore, a directory or None, got {type(store).__name__}")
    stages = check_stages(stages or (DEFAULT_STAGES if store is None else store.stages))
    if tables is not None and not isinstance(tables, Mapping):
        raise TypeError(f"tables: expected a table by stage, as {{'draft': path}}, got {type(tables).__name__}")
    given = {stages.check(stage): _table(stage, table, stages) for stage, table in (tables or {}).items()}
    _check_headers(given, stages)
    job = Job(store, stages, {stage: given[stage] for stage in stages if stage in given}, verify, stale_after)
    return _report(job, _looked_at(job, executor, shards, progress))


def _table(stage: str, table: object, stages: Stages) -> Table:
    from docid.operations.shards import Table  # noqa: PLC0415 - as above

    if isinstance(table, (str, os.PathLike)):
        file = os.fspath(table)
        if os.path.isdir(file):
            raise IsADirectoryError(errno.EISDIR, f"a directory; expected the table of stage {stage}", file)
        # A pipe can be read once.
        return Table(file, None if os.path.isfile(file) else list(read_lineages(file, row_type_of(stage, stages))))
    if not isinstance(table, Iterable):
        raise TypeError(f"tables[{stage!r}]: expected a path or rows, got {type(table).__name__}")
    file = table.file if isinstance(table, TaskRows) else ""
    return Table(file, list(list_lineages(cast("Iterable[TaskRow]", table), stage)))


def _check_headers(tables: Mapping[str, Table], stages: Stages) -> None:
    """Refuse what is no task table, before anything is looked at."""
    faults = Faults("")
    for stage, table in tables.items():
        try:
            next(iter(table.lineages(stage, stages)), None)
        except TaskTableError as error:
            # Rows that are damaged, if it starts with such, are told with those of all tables.
            if all(problem.row in {None, 1} for problem in error.problems):
                faults.take_over(error)
    faults.raise_any()


def _looked_at(job: Job, executor: Executor | None, shards: int | None, progress: Progress | None) -> list[Found]:
    """Look at all shards, here or in the workers of an executor."""
    from docid.operations.shards import look  # noqa: PLC0415 - as above

    if executor is None:
        return [look(job, 0, 1, progress)]
    number = max(1, shards or os.cpu_count() or 1)
    futures = [executor.submit(look, job, each, number) for each in range(number)]
    found = []
    try:
        for done, future in enumerate(futures, 1):
            found.append(future.result())
            if progress is not None:
                progress("shards", done, number)
    finally:
        for future in futures:
            future.cancel()
    return found


def _report(job: Job, founds: list[Found]) -> AuditReport:
    """Put together what was found in the shards."""
    from docid.operations.shards import resolved  # noqa: PLC0415 - as above

    findings = [each for found in founds for each in found.findings]
    findings += resolved(job, founds)
    findings.sort(key=lambda each: each[0])
    stages = {}
    for stage in job.stages:
        if job.store is not None or stage in job.tables:
            stages[stage] = _facts(job, stage, sum((found.counts[stage] for found in founds), Counter()))
    return AuditReport(tuple(finding for _, finding in findings), stages)


def _facts(job: Job, stage: str, counts: Counter[str]) -> StageFacts:
    in_table, in_store = stage in job.tables, job.store is not None
    of_parents = in_table and in_store and job.stages.parent_of(stage) is not None
    return StageFacts(
        rows=counts["rows"] if in_table else None,
        written=counts["written"] if in_table and in_store else None,
        pending=counts["pending"] if in_table and in_store else None,
        parents_pending=counts["parents_pending"] if of_parents else None,
        underived=counts["underived"] if in_table else None,
        documents=counts["documents"] if in_store else None,
        parsed_missing=counts["parsed_missing"] if in_store else None,
    )

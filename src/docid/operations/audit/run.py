"""The one pass of an audit: its tables, and its stages, parents first."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, cast

from docid.core.findings import StageFacts
from docid.errors import TaskTableError
from docid.operations.audit.parallel import Audit
from docid.operations.audit.report import AuditReport
from docid.operations.audit.rows import RowChecks, Table
from docid.tables.csvfile import Faults
from docid.tables.rows import row_type_of
from docid.tables.tasks import TaskRows, list_lineages, read_lineages

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from docid.core.findings import Finding, Progress
    from docid.core.stages import Stages
    from docid.operations.audit.parallel import Examiner
    from docid.tables.rows import TaskRow


def audit_stages(
    stages: Stages,
    given: Mapping[str, object] | None,
    examiner: Examiner | None,
    executor: Executor | None,
    progress: Progress | None,
) -> AuditReport:
    """Audit tables, and the store of the examiner if there is one. Raises what `audit` does."""
    tables = _open_tables(given, stages)
    audit = Audit(stages, frozenset(tables), examiner, executor, progress)
    faults = Faults("")
    for stage in stages:
        table = tables.get(stage)
        try:
            if faults.count == 0:
                audit.list_ids(stage)
                checks = None if table is None else RowChecks(audit, stage, table)
                if checks is not None:
                    checks.check()
                audit.check_rest(stage)
                if checks is not None:
                    checks.check_sources()
            elif table is not None:  # for its faults alone
                deque(table.lineages(), maxlen=0)
        except TaskTableError as error:
            faults.take_over(error)
    faults.raise_any()
    audit.report_lost_parents()
    positions = {stage: position for position, stage in enumerate(stages)}

    def rank(numbered: tuple[int, Finding]) -> tuple[object, ...]:
        number, each = numbered
        return each.level, positions[each.stage], each.code, number, each.doc_id, each.where, each.message

    unknown = dict.fromkeys(StageFacts._fields)
    facts = {stage: StageFacts(**{**unknown, **counts}) for stage, counts in audit.counts.items() if counts}
    return AuditReport(tuple(finding for _, finding in sorted(audit.findings, key=rank)), facts)


def _open_tables(tables: Mapping[str, object] | None, stages: Stages) -> dict[str, Table]:
    """Return the tables that `audit` was given, by stage; read nothing but headers."""
    if tables is not None and not isinstance(tables, Mapping):
        raise TypeError(f"tables: expected a table by stage, as {{'draft': path}}, got {type(tables).__name__}")
    opened = {stages.check(stage): _open_table(stage, table, stages) for stage, table in (tables or {}).items()}
    faults = Faults("")
    for table in opened.values():
        try:
            next(iter(table.lineages()), None)
        except TaskTableError as error:
            # Damaged rows, if it starts with such, are reported with those of all tables.
            if all(problem.row in {None, 1} for problem in error.problems):
                faults.take_over(error)
    faults.raise_any()
    return opened


def _open_table(stage: str, table: object, stages: Stages) -> Table:
    row_type = row_type_of(stage, stages)
    if isinstance(table, (str, os.PathLike)):
        file = os.fspath(table)
        if os.path.isdir(file):
            raise IsADirectoryError(errno.EISDIR, f"a directory; expected the table of stage {stage}", file)
        # A pipe can be read once.
        return Table(file, row_type, None if os.path.isfile(file) else list(read_lineages(file, row_type)))
    if not isinstance(table, Iterable):
        raise TypeError(f"tables[{stage!r}]: expected a path or rows, got {type(table).__name__}")
    file = table.file if isinstance(table, TaskRows) else ""
    return Table(file, row_type, list(list_lineages(cast("Iterable[TaskRow]", table), stage)))

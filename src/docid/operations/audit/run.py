"""The one pass of an audit: its tables, the checks of their rows, and its stages, parents first."""

import errno
import os
from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from zlib import error as zlib_error

from docid._text import quote
from docid.core.findings import Finding, StageFacts
from docid.core.ids import DOC_ID, DOC_ID_EXPECTED, check_text, derive, is_missing, reserve_doc_id
from docid.core.lineage_rules import find_unsaid, is_same_lineage
from docid.core.record import Record
from docid.core.stages import Stages
from docid.errors import InvalidName, TaskTableError
from docid.operations.audit.parallel import FAULTY, PROMPT, ROW, SEEN, THERE, Audit, Examination
from docid.operations.audit.report import AuditReport
from docid.tables.csvfile import Faults, open_table
from docid.tables.rows import TaskRow, row_type_of
from docid.tables.tasks import RowLineage, TaskRows, list_lineages, read_lineages

_WORD = 4  # the longest word that means missing, blanks aside, which no id has


class Table(NamedTuple):
    """A table: its path, or what its rows say."""

    file: str
    row_type: type[TaskRow]
    rows: list[tuple[int, RowLineage]] | None

    def lineages(self) -> Iterable[tuple[int, RowLineage]]:
        """Return what its rows say, with their numbers. See `read_lineages`."""
        return read_lineages(self.file, self.row_type) if self.rows is None else self.rows

    def length(self) -> int | None:
        """Return about how many rows there are: of a file, the lines behind the header; None if it cannot be read."""
        if self.rows is not None:
            return len(self.rows)
        try:
            with open_table(self.file) as stream:
                return max(0, sum(1 for _ in stream) - 1)
        except (EOFError, OSError, zlib_error):
            return None  # reading the rows says what is wrong


def audit_stages(audit: Audit, given: Mapping[str, str | os.PathLike[str] | Iterable[TaskRow]]) -> AuditReport:
    """Audit tables, and the store if there is one. Raises what the function `audit` does."""
    tables = _open_tables(given, audit.stages)
    audit.tables = tables
    faults = Faults("")
    for stage in audit.stages:
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
    positions = {stage: position for position, stage in enumerate(audit.stages)}

    def rank(numbered: tuple[int, Finding]) -> tuple[object, ...]:
        number, each = numbered
        return each.level, positions[each.stage], each.code, number, each.doc_id, each.where, each.message

    unknown = dict.fromkeys(StageFacts._fields)
    facts = {stage: StageFacts(**{**unknown, **counts}) for stage, counts in audit.counts.items() if counts}
    return AuditReport(tuple(finding for _, finding in sorted(audit.findings, key=rank)), facts)


def _open_tables(tables: Mapping[str, str | os.PathLike[str] | Iterable[TaskRow]], stages: Stages) -> dict[str, Table]:
    """Return the tables that `audit` was given, by stage; read nothing but headers."""
    opened = {stages.check(stage): _open_table(stage, table, stages) for stage, table in tables.items()}
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


def _open_table(stage: str, table: str | os.PathLike[str] | Iterable[TaskRow], stages: Stages) -> Table:
    row_type = row_type_of(stage, stages)
    if not isinstance(table, (str, os.PathLike)):
        file = table.file if isinstance(table, TaskRows) else ""
        return Table(file, row_type, list(list_lineages(table, stage)))
    file = os.fspath(table)
    if os.path.isdir(file):
        raise IsADirectoryError(errno.EISDIR, f"a directory; expected the table of stage {stage}", file)
    # A pipe can be read once.
    return Table(file, row_type, None if os.path.isfile(file) else list(read_lineages(file, row_type)))


class RowChecks:
    """The checks of the rows of one table."""

    def __init__(self, audit: Audit, stage: str, table: Table) -> None:
        self.audit = audit
        self.stage = stage
        self.table = table
        self.parent_stage = audit.stages.parent_of(stage)
        self.known = audit.known[stage]
        self.counts = audit.counts[stage]
        self.has_store = audit.examiner is not None
        self.is_listed = self.has_store and stage not in audit.blind
        counted = ["rows", "underived", *(("written", "pending") if self.has_store else ())]
        counted += ["parents_pending"] if self.has_store and self.parent_stage is not None else []
        self.counts.update(dict.fromkeys(counted, 0))
        # Hashes of what tells documents of one stage apart, which is long: a million are held.
        self.tasks: set[int] = set()
        self.repeated_tasks: set[int] = set()
        self.repeated_ids: set[str] = set()
        self.sources: list[tuple[int, RowLineage]] = []

    def check(self) -> None:
        """Check all rows, and the document of each; then raise `TaskTableError` if some are damaged."""

        def get_unseen(numbered: tuple[int, RowLineage]) -> str | None:
            doc_id = numbered[1][1]
            return doc_id if self.is_listed and self.known.get(doc_id, 0) & (THERE | SEEN) == THERE else None

        total = None if self.audit.progress is None else self.table.length()
        examined = self.audit.examine(self.stage, self.table.lineages(), get_unseen, in_row=True)
        for (number, row), examination in examined:
            self._check_row(number, row, examination)
            self.audit.report_progress(f"rows of stage {self.stage}", number, total)
        if self.repeated_tasks or self.repeated_ids:
            self._report_repeated()

    def check_sources(self) -> None:
        """Report the sources whose prompt is not in the store, once all of the stage was examined."""
        for number, row in self.sources:
            state, name = self.known.get(row[3], 0), f"{self.stage}/{row[3]}"
            if not state & THERE:
                message = f"{name} is not in the store; its prompt is to be sent again"
            elif not state & (PROMPT | FAULTY):
                message = f"{name} was stored without its prompt, which is to be sent again"
            else:
                continue
            self._add("missing-source", number, "source_doc_id", row, message, "name another source_doc_id, or none")

    def _check_row(self, number: int, row: RowLineage, examination: Examination | None) -> None:
        task_id, doc_id, parent, source, _, _ = row
        self.counts["rows"] += 1
        if fault := _find_task_fault(task_id):
            self._add("malformed-id", number, f"{self.stage}_task_id", row, fault, "correct the cell")
        else:
            hashed = hash(_identify(row))
            if hashed in self.tasks:
                self.repeated_tasks.add(hashed)
            self.tasks.add(hashed)
        if self._check_cell(number, "doc_id", row, doc_id):
            self._check_document(number, row, examination)
        if self.parent_stage is not None and self._check_cell(number, "parent_doc_id", row, parent):
            self._check_parent(number, row, self.parent_stage)
        has_source = not is_missing(source) and self._check_cell(number, "source_doc_id", row, source)
        if has_source and self.is_listed:
            self.sources.append((number, row))

    def _check_cell(self, number: int, column: str, row: RowLineage, text: str) -> bool:
        """Return whether a cell holds a doc id; report it otherwise."""
        if _holds_id(text):
            return True
        if not is_missing(text):
            code, message = "malformed-id", f"{quote(text)} is no doc id; expected {DOC_ID_EXPECTED}"
            hint = "correct the cell, or empty it and run 'docid reserve'"
        else:
            code = "missing-doc-id" if column == "doc_id" else "missing-parent-id"
            message = "empty" if text == "" else f"{quote(text)}, which means missing"
            source = "" if column == "doc_id" else f", from the table of stage {self.parent_stage}"
            hint = f"'docid reserve' fills it{source}"
        self._add(code, number, column, row, message, hint)
        return False

    def _check_document(self, number: int, row: RowLineage, examination: Examination | None) -> None:
        doc_id = row[1]
        state = self.known.get(doc_id, 0)
        if state & ROW:
            self.repeated_ids.add(doc_id)
            return
        self.known[doc_id] = state | ROW
        self.counts["underived"] += not _is_derived(self.stage, row)
        record = None if examination is None else self.audit.note(self.stage, doc_id, examination, row[0])
        if record is not None:
            self._check_lineage(number, row, record)
        if self.is_listed and not self.known[doc_id] & (THERE | FAULTY):
            self.counts["pending"] += 1

    def _check_lineage(self, number: int, row: RowLineage, record: Record) -> None:
        """Report a document of another lineage than its row, as far as the row says it; count the others."""
        task_id, doc_id, cell, *_ = row
        has_parent = self.parent_stage is not None
        parent = cell if has_parent and _holds_id(cell) else None
        if is_same_lineage(record, task_id, parent) is False:
            # What a row does not say it has a finding for, and is taken to agree.
            own_task = record.task_id if _find_task_fault(task_id) else task_id
            own_parent = record.parent_doc_id if parent is None and has_parent else parent
            if is_same_lineage(record, own_task, own_parent) is False:
                held = {"task_id": record.task_id, "parent_doc_id": record.parent_doc_id}
                said = {"task_id": task_id, "parent_doc_id": cell or None}
                # Task ids are long: what is equal is not said.
                stored, here = (
                    ", ".join(f"{name}={quote(each[name])}" for name in held if held[name] != said[name])
                    for each in (held, said)
                )
                message = f"{self.audit.locate(self.stage, doc_id)} holds {stored}; the row says {here}"
                hint = "correct the row, or empty its doc_id and reserve another id with a doc_salt: "
                hint += "a write would be refused"
                if held["task_id"] != task_id and _is_derived(self.stage, row):
                    edited = "the id is the row's own, so the record may have been edited"
                    hint = f"{edited}: if so correct it; otherwise {hint}"
                self._add("lineage-conflict", number, "doc_id", row, message, hint)
                return
        self.counts["written"] += not find_unsaid(record, has_parent=has_parent)

    def _check_parent(self, number: int, row: RowLineage, parent_stage: str) -> None:
        audit = self.audit
        if parent_stage in audit.blind or not (self.has_store or parent_stage in audit.tables):
            return  # neither store nor table can tell
        state = audit.known[parent_stage].get(row[2], 0)
        if not state & (ROW | THERE):
            child = self._make_finding("missing-parent", number, "parent_doc_id", row)
            audit.lost_parents.append(((parent_stage, row[2]), number, child))
        elif self.has_store and not state & THERE:
            self.counts["parents_pending"] += 1

    def _report_repeated(self) -> None:
        """Read the table once more, for the rows that are there twice: which they are was not held."""
        tasks: dict[tuple[str, str, str], int] = {}
        ids: dict[str, tuple[int, str]] = {}
        for number, row in self.table.lineages():
            task_id, doc_id, identity = row[0], row[1], _identify(row)
            if hash(identity) in self.repeated_tasks and (first := tasks.setdefault(identity, number)) != number:
                message = f"the task of row {first} too; expected one row a task"
                hint = "remove one of the rows; to have two documents of one task give one a doc_salt"
                self._add("duplicate-task-id", number, f"{self.stage}_task_id", row, message, hint)
            if doc_id in self.repeated_ids:
                first, other = ids.setdefault(doc_id, (number, task_id))
                if first != number:
                    message = f"the doc id of row {first} (task_id={quote(other)}) too; expected one row a document"
                    salted = ", give it a doc_salt" if other == task_id else ""
                    hint = f"remove one of the rows, or empty its doc_id{salted} and run 'docid reserve'"
                    self._add("duplicate-doc-id", number, "doc_id", row, message, hint)

    def _add(self, code: str, number: int, column: str, row: RowLineage, message: str, hint: str) -> None:  # noqa: PLR0917 - the fields of a finding
        finding = self._make_finding(code, number, column, row)
        self.audit.findings.append((number, finding._replace(message=message, hint=hint)))

    def _make_finding(self, code: str, number: int, column: str, row: RowLineage) -> Finding:
        """Return a finding about a cell, without its message and hint."""
        cell = f"row {number}, column {column}"
        where = f"{self.table.file} {cell}" if self.table.file else cell
        return Finding(code, self.stage, row[1] if _holds_id(row[1]) else "", row[0], where, "", "")


def _holds_id(text: str) -> bool:
    """Return whether a cell holds a doc id: `nan` would be one, and means missing."""
    return DOC_ID.match(text) is not None and (len(text) > _WORD or not is_missing(text))


def _identify(row: RowLineage) -> tuple[str, str, str]:
    """Return what tells documents of one stage apart: task, run and salt."""
    task_id, _, _, _, run_id, salt = row
    return task_id, "" if is_missing(run_id) else run_id, "" if is_missing(salt) else salt


def _find_task_fault(task_id: str) -> str:
    """Return what is wrong with a task id; empty where nothing is."""
    if len(task_id) <= _WORD and is_missing(task_id):
        return f"{quote(task_id)}, which means missing; expected the task's id" if task_id else "empty; expected it"
    try:
        check_text(task_id, "task_id")
    except InvalidName as error:
        return f"{quote(task_id)}: {error.problem}; expected {error.expected}"
    return ""


def _is_derived(stage: str, row: RowLineage) -> bool:
    """Return whether a doc id comes from what its row says; also where that is a finding of its own."""
    task_id, run_id, salt = _identify(row)
    noted = (task_id, run_id or None, salt or None)
    try:
        # The checks, which cost as much as the rest, are done only where they could make a difference.
        return derive(stage, *noted) == row[1] or reserve_doc_id(stage, *noted) == row[1]
    except (InvalidName, TypeError):
        return True

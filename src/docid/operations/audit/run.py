"""The pass of an audit over its stages, parents first, and its checks of table rows."""

import errno
import os
from collections import deque
from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

from docid._text import quote
from docid.core.findings import Finding, StageFacts
from docid.core.ids import DOC_ID, DOC_ID_EXPECTED, check_text, derive, is_missing, reserve_doc_id
from docid.core.lineage_rules import check_inputs, find_missing_lineage, is_same_lineage
from docid.core.record import Record
from docid.core.stages import Stages
from docid.errors import InvalidName, TaskTableError
from docid.operations.audit.parallel import FAULTY, PROMPT, ROW, STORED, Audit, Examination, is_unexamined
from docid.operations.audit.report import AuditReport
from docid.tables.faults import Faults
from docid.tables.headers import HEADER_AGAIN
from docid.tables.opening import DAMAGE, open_table
from docid.tables.rows import TaskRow, row_type_of
from docid.tables.tasks import RowLineage, TaskRows, TaskTable, list_lineages, read_lineages

_WORD = 4  # characters of the longest words that mean missing, `null` and `none`


class Table(NamedTuple):
    """A table: its path, or the lineage of its rows."""

    file: str
    row_type: type[TaskRow]
    rows: list[tuple[int, RowLineage]] | None
    delimiter: str = ","

    def lineages(self) -> Iterable[tuple[int, RowLineage]]:
        """Return the number and lineage of each row. See `read_lineages`."""
        if self.rows is not None:
            return self.rows
        return read_lineages(self.file, self.row_type, self.delimiter)

    def length(self) -> int | None:
        """Return the approximate number of rows: the lines of the file after its header; None if it cannot be read."""
        if self.rows is not None:
            return len(self.rows)
        if not os.path.isfile(self.file):  # a pipe can be read only once
            return None
        try:
            with open_table(self.file) as stream:
                return max(0, sum(1 for _ in stream) - 1)
        except (*DAMAGE, TaskTableError):
            return None  # reading the rows raises the error


Tables = Mapping[str, str | os.PathLike[str] | Iterable[TaskRow]]
"""The tables to audit by stage: paths, or rows."""


def audit_stages(audit: Audit, given: Tables, delimiter: str) -> AuditReport:
    """Audit tables and the store, if given. Raises the errors of `audit`."""
    tables = _open_tables(given, audit.stages, delimiter)
    audit.tables = tables

    @cache
    def read_rows(stage: str) -> dict[str, tuple[str, str]]:
        return {row[1]: (row[0], row[2]) for _, row in tables[stage].lineages()} if stage in tables else {}

    audit.read_rows = read_rows
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
            elif table is not None:  # only to collect its faults
                deque(table.lineages(), maxlen=0)
        except TaskTableError as error:
            faults.take_over(error)
    faults.raise_any()
    audit.report_missing_sources()
    audit.report_changed_sources()
    audit.report_cycles()
    positions = {stage: position for position, stage in enumerate(audit.stages)}

    def rank(numbered: tuple[int, Finding]) -> tuple[object, ...]:
        number, each = numbered
        return each.level, positions[each.stage], each.code, number, each.doc_id, each.where, each.message

    unknown = dict.fromkeys(StageFacts._fields)
    facts = {stage: StageFacts(**{**unknown, **counts}) for stage, counts in audit.counts.items() if counts}
    findings = tuple(finding for _, finding in sorted(audit.findings, key=rank))
    changed = sorted(
        audit.changed, key=lambda each: (positions[each.stage], each.task_id or "", each.doc_id, each.source)
    )
    return AuditReport(findings, facts, tuple(changed))


def _open_tables(tables: Tables, stages: Stages, delimiter: str) -> dict[str, Table]:
    """Return the tables by stage; read their headers only."""
    opened = {stages.check(stage): _open_table(stage, table, stages, delimiter) for stage, table in tables.items()}
    faults = Faults("")
    for table in opened.values():
        try:
            next(iter(table.lineages()), None)
        except TaskTableError as error:
            # A damaged first row is reported later, with the damaged rows of all tables.
            if all(problem.row in {None, 1} for problem in error.problems):
                faults.take_over(error)
    faults.raise_any()
    return opened


def _open_table(stage: str, table: str | os.PathLike[str] | Iterable[TaskRow], stages: Stages, delimiter: str) -> Table:
    row_type = row_type_of(stage, stages)
    if not isinstance(table, (str, os.PathLike)):
        file = table.file if isinstance(table, (TaskRows, TaskTable)) else ""
        return Table(file, row_type, list(list_lineages(table, stage)))
    file = os.fspath(table)
    if os.path.isdir(file):
        raise IsADirectoryError(errno.EISDIR, f"is a directory; expected the task table of stage {stage}", file)
    # A pipe can be read only once.
    rows = None if os.path.isfile(file) else list(read_lineages(file, row_type, delimiter))
    return Table(file, row_type, rows, delimiter)


class RowChecks:
    """Checks the rows of one table."""

    def __init__(self, audit: Audit, stage: str, table: Table) -> None:
        self.audit = audit
        self.stage = stage
        self.table = table
        self.parent_stage = audit.stages.parent_of(stage)
        self.known = audit.known[stage]
        self.counts = audit.counts[stage]
        self.has_store = audit.examiner is not None
        self.is_listed = self.has_store and stage not in audit.unlisted
        counted = ["rows", "underived", *(("written", "pending") if self.has_store else ())]
        counted += ["parents_pending"] if self.has_store and self.parent_stage is not None else []
        self.counts.update(dict.fromkeys(counted, 0))
        # Hashes of `_identify`, because the texts are long and a table may have a million rows.
        self.tasks: set[int] = set()
        self.repeated_tasks: set[int] = set()
        self.repeated_ids: set[str] = set()
        self.sources: list[tuple[int, RowLineage]] = []

    def check(self) -> None:
        """Check all rows and their documents; then raise `TaskTableError` if rows are damaged."""

        def get_unexamined(numbered: tuple[int, RowLineage]) -> str | None:
            doc_id = numbered[1][1]
            return doc_id if self.is_listed and is_unexamined(self.known.get(doc_id, 0)) else None

        total = None if self.audit.progress is None else self.table.length()
        examined = self.audit.examine(self.stage, self.table.lineages(), get_unexamined, in_row=True)
        for (number, row), examination in examined:
            self._check_row(number, row, examination)
            self.audit.report_progress(f"rows of stage {self.stage}", number, total)
        if self.repeated_tasks or self.repeated_ids:
            self._report_repeated()

    def check_sources(self) -> None:
        """Report the sources whose prompt is not in the store; call it after the whole stage is examined."""
        for number, row in self.sources:
            state, name = self.known.get(row[3], 0), f"{self.stage}/{row[3]}"
            if not state & STORED:
                message = f"source {name} is not in the store, so its prompt cannot be sent again"
            elif not state & (PROMPT | FAULTY):
                message = f"source {name} was stored without a prompt to send again"
            else:
                continue
            self._add(
                "missing-source",
                number,
                "source_doc_id",
                row,
                message,
                "set source_doc_id to another document, or empty it",
            )

    def _check_row(self, number: int, row: RowLineage, examination: Examination | None) -> None:
        task_id, doc_id, parent, source, _, _, _ = row
        if task_id == f"{self.stage}_task_id":
            self._add("malformed-id", number, task_id, row, HEADER_AGAIN, "remove the row")
            return
        self.counts["rows"] += 1
        if fault := _find_task_fault(task_id):
            self._add("malformed-id", number, f"{self.stage}_task_id", row, fault, "correct the cell")
        else:
            hashed = hash(_identify(row))
            if hashed in self.tasks:
                self.repeated_tasks.add(hashed)
            self.tasks.add(hashed)
        inputs = self._read_inputs(number, row)
        self.audit.check_inputs(inputs or (), number, self._make_finding("", number, "input_doc_ids", row))
        if self._check_cell(number, "doc_id", row, doc_id):
            if inputs:
                self.audit.note_inputs((self.stage, doc_id), parent, inputs, {})
            self._check_document(number, row, inputs, examination)
        if self.parent_stage is not None and self._check_cell(number, "parent_doc_id", row, parent):
            self._check_parent(number, row, self.parent_stage)
        has_source = not is_missing(source) and self._check_cell(number, "source_doc_id", row, source)
        if has_source and self.is_listed:
            self.sources.append((number, row))

    def _read_inputs(self, number: int, row: RowLineage) -> tuple[str, ...] | None:
        """Return the inputs of a row; None, with a finding, if the cell does not hold names of documents."""
        text = row[6]
        if is_missing(text):
            return ()
        try:
            return check_inputs(text.split(), f"{self.stage}/{row[1]}")
        except InvalidName as error:
            message = f"{quote(error.value)}: {error.problem}; expected {error.expected}"
            self._add("malformed-id", number, "input_doc_ids", row, message, "correct the cell")
            return None

    def _check_cell(self, number: int, column: str, row: RowLineage, text: str) -> bool:
        """Return whether a cell holds a doc id; report a cell that does not."""
        if _holds_id(text):
            return True
        if not is_missing(text):
            code, message = "malformed-id", f"{quote(text)} is not a doc id; expected {DOC_ID_EXPECTED}"
            hint = "correct the cell, or empty it and run 'docid reserve'"
        else:
            message = "empty" if text == "" else f"{quote(text)} counts as empty"
            code, hint = "missing-doc-id", "run 'docid reserve' to fill it"
            if column != "doc_id":
                code = "missing-parent-id"
                hint = f"run 'docid reserve --parents' with the {self.parent_stage} table to fill it"
        self._add(code, number, column, row, message, hint)
        return False

    def _check_document(
        self, number: int, row: RowLineage, inputs: tuple[str, ...] | None, examination: Examination | None
    ) -> None:
        doc_id = row[1]
        state = self.known.get(doc_id, 0)
        if state & ROW:
            self.repeated_ids.add(doc_id)
            return
        self.known[doc_id] = state | ROW
        self.counts["underived"] += not _is_derived(self.stage, row)
        record = None if examination is None else self.audit.note(self.stage, doc_id, examination, row[0])
        if record is not None:
            self._check_lineage(number, row, record.inputs if inputs is None else inputs, record)
        if self.is_listed and not self.known[doc_id] & (STORED | FAULTY):
            self.counts["pending"] += 1

    def _check_lineage(self, number: int, row: RowLineage, inputs: tuple[str, ...], record: Record) -> None:
        """Report a document whose lineage differs from its row; count the others as written."""
        task_id, doc_id, cell, *_ = row
        has_parent = self.parent_stage is not None
        parent = cell if has_parent and _holds_id(cell) else None
        if is_same_lineage(record, task_id, parent, inputs) is False:
            # An empty or malformed cell has its own finding, and counts as equal here.
            own_task = record.task_id if _find_task_fault(task_id) else task_id
            own_parent = record.parent_doc_id if parent is None and has_parent else parent
            if is_same_lineage(record, own_task, own_parent, inputs) is False:
                held = {
                    "task_id": record.task_id,
                    "parent_doc_id": record.parent_doc_id,
                    "inputs": " ".join(record.inputs),
                }
                expected = {"task_id": task_id, "parent_doc_id": cell or None, "inputs": " ".join(inputs)}
                # Task ids are long, so equal values are left out.
                stored, in_row = (
                    ", ".join(f"{name}={quote(each[name])}" for name in held if held[name] != expected[name])
                    for each in (held, expected)
                )
                message = f"{self.audit.locate(self.stage, doc_id)} has {stored}; the row has {in_row}"
                remedy = "correct the row, or empty its doc_id, set a doc_salt and run 'docid reserve'"
                if held["task_id"] != task_id and _is_derived(self.stage, row):
                    remedy = (
                        f"correct the record if it was edited (the doc id derives from this row); otherwise {remedy}"
                    )
                hint = f"docid refuses to write this row: {remedy}"
                self._add("lineage-conflict", number, "doc_id", row, message, hint)
                return
        self.counts["written"] += not find_missing_lineage(record, has_parent=has_parent)

    def _check_parent(self, number: int, row: RowLineage, parent_stage: str) -> None:
        audit = self.audit
        if parent_stage in audit.unlisted or not (self.has_store or parent_stage in audit.tables):
            return  # no store or table to check
        state = audit.known[parent_stage].get(row[2], 0)
        if not state & (ROW | STORED):
            child = self._make_finding("missing-parent", number, "parent_doc_id", row)
            audit.miss(parent_stage, row[2], number, child)
        elif self.has_store and not state & STORED:
            self.counts["parents_pending"] += 1

    def _report_repeated(self) -> None:
        """Read the table again to report repeated rows, whose numbers the first pass does not keep."""
        tasks: dict[tuple[str, str, str], int] = {}
        ids: dict[str, tuple[int, str]] = {}
        for number, row in self.table.lineages():
            task_id, doc_id, identity = row[0], row[1], _identify(row)
            if hash(identity) in self.repeated_tasks and (first := tasks.setdefault(identity, number)) != number:
                message = f"same task as row {first}; expected one row per task"
                hint = "remove one of the rows; for two documents of one task, give one row a doc_salt"
                self._add("duplicate-task-id", number, f"{self.stage}_task_id", row, message, hint)
            if doc_id in self.repeated_ids:
                first, other = ids.setdefault(doc_id, (number, task_id))
                if first != number:
                    message = f"same doc id as row {first} (task_id={quote(other)}); expected one row per document"
                    salted = ", set a doc_salt" if other == task_id else ""
                    hint = f"remove one of the rows, or empty its doc_id{salted} and run 'docid reserve'"
                    self._add("duplicate-doc-id", number, "doc_id", row, message, hint)

    def _add(self, code: str, number: int, column: str, row: RowLineage, message: str, hint: str) -> None:  # noqa: PLR0917 - the fields of a finding
        finding = self._make_finding(code, number, column, row)
        self.audit.findings.append((number, finding._replace(message=message, hint=hint)))

    def _make_finding(self, code: str, number: int, column: str, row: RowLineage) -> Finding:
        """Return a finding about a cell, with empty message and hint."""
        cell = f"row {number}, column {column}"
        where = f"{self.table.file} {cell}" if self.table.file else cell
        return Finding(code, self.stage, row[1] if _holds_id(row[1]) else "", row[0], where, "", "")


def _holds_id(text: str) -> bool:
    """Return whether a cell holds a doc id; `nan` has the form of one, but means missing."""
    return DOC_ID.match(text) is not None and (len(text) > _WORD or not is_missing(text))


def _identify(row: RowLineage) -> tuple[str, str, str]:
    """Return the task, run id and salt, which identify a document in its stage."""
    task_id, _, _, _, run_id, salt, _ = row
    return task_id, "" if is_missing(run_id) else run_id, "" if is_missing(salt) else salt


def _find_task_fault(task_id: str) -> str:
    """Return the fault of a task id; empty text if it is valid."""
    if len(task_id) <= _WORD and is_missing(task_id):
        return f"{quote(task_id)} counts as empty; expected a task id" if task_id else "empty; expected a task id"
    try:
        check_text(task_id, "task_id")
    except InvalidName as error:
        return f"{quote(task_id)}: {error.problem}; expected {error.expected}"
    return ""


def _is_derived(stage: str, row: RowLineage) -> bool:
    """Return whether a doc id derives from its row; True if the row is invalid, which has its own finding."""
    task_id, run_id, salt = _identify(row)
    noted = (task_id, run_id or None, salt or None)
    try:
        # `reserve_doc_id` checks its arguments, which costs as much as the rest, so `derive` comes first.
        return derive(stage, *noted) == row[1] or reserve_doc_id(stage, *noted) == row[1]
    except (InvalidName, TypeError):
        return True

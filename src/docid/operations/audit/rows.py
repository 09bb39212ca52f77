"""The checks of a table's rows: their cells, and the document, the parent and the source of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docid._text import shown
from docid.core.findings import Finding
from docid.core.ids import DOC_ID, DOC_ID_EXPECTED, check_text, derive, is_missing, reserve_doc_id
from docid.core.lineage_rules import find_unsaid, is_same_lineage
from docid.errors import InvalidName
from docid.operations.audit.parallel import examine_all
from docid.operations.audit.store import FAULTY, PROMPT, ROW, SEEN, THERE, LostParent

if TYPE_CHECKING:
    from docid.core.record import Record
    from docid.operations.audit.parallel import Examination
    from docid.operations.audit.store import Audit
    from docid.tables.tasks import RowLineage

    Row = tuple[int, RowLineage]

__all__ = ["RowChecks"]

_WORD = 4  # the longest word that means missing, blanks aside, which no id has


class RowChecks:
    """The checks of the rows of one table."""

    def __init__(self, audit: Audit, stage: str) -> None:
        self.audit = audit
        self.stage = stage
        self.table = audit.tables[stage]
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
        self.sources: list[Row] = []

    def check(self) -> None:
        """Check all rows, and the document of each.

        Raises:
            TaskTableError: some rows are damaged. The others were checked.
        """
        audit, rows = self.audit, self.table.lineages()
        total = None if audit.progress is None else self.table.length()
        examined = examine_all(audit.examiner, audit.executor, self.stage, rows, self._get_unseen, in_row=True)
        for (number, row), examination in examined:
            self._check_row(number, row, examination)
            audit.report_progress(f"rows of stage {self.stage}", number, total)
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

    def _get_unseen(self, row: Row) -> str | None:
        """Return the doc id of a row if its document is still to be examined."""
        doc_id = row[1][1]
        return doc_id if self.is_listed and self.known.get(doc_id, 0) & (THERE | SEEN) == THERE else None

    def _check_row(self, number: int, row: RowLineage, examination: Examination | None) -> None:
        _, doc_id, parent, source, _, _ = row
        self.counts["rows"] += 1
        self._check_task(number, row)
        if holds_id(doc_id):
            self._check_document(number, row, examination)
        else:
            self._report_cell(number, "doc_id", row, doc_id)
        if self.parent_stage is not None:
            if holds_id(parent):
                self._check_parent(number, row, self.parent_stage)
            else:
                self._report_cell(number, "parent_doc_id", row, parent)
        if holds_id(source):
            if self.is_listed:
                self.sources.append((number, row))
        elif not is_missing(source):
            self._report_cell(number, "source_doc_id", row, source)

    def _check_task(self, number: int, row: RowLineage) -> None:
        """Check the task id, and whether another row has the same task."""
        if fault := _find_task_fault(row[0]):
            self._add("malformed-id", number, f"{self.stage}_task_id", row, fault, "correct the cell")
            return
        hashed = hash(_identify(row))
        if hashed in self.tasks:
            self.repeated_tasks.add(hashed)
        self.tasks.add(hashed)

    def _check_document(self, number: int, row: RowLineage, examination: Examination | None) -> None:
        doc_id = row[1]
        state = self.known.get(doc_id, 0)
        if state & ROW:
            self.repeated_ids.add(doc_id)
            return
        self.known[doc_id] = state | ROW
        if not _is_derived(self.stage, row):
            self.counts["underived"] += 1
        if examination is not None:
            record = self.audit.note(self.stage, doc_id, examination, row[0])
            if record is not None and self._is_conflict(record, row):
                self._report_conflict(number, record, row)
            elif record is not None and not find_unsaid(record, has_parent=self.parent_stage is not None):
                self.counts["written"] += 1
        if self.is_listed and not self.known[doc_id] & (THERE | FAULTY):
            self.counts["pending"] += 1

    def _check_parent(self, number: int, row: RowLineage, parent_stage: str) -> None:
        audit = self.audit
        if parent_stage in audit.blind or not (self.has_store or parent_stage in audit.tables):
            return  # neither store nor table can tell
        state = audit.known[parent_stage].get(row[2], 0)
        if not state & (ROW | THERE):
            where = self.table.locate(number, "parent_doc_id")
            audit.lost_parents.append(
                LostParent((parent_stage, row[2]), self.stage, _get_id(row), row[0], where, number)
            )
        elif self.has_store and not state & THERE:
            self.counts["parents_pending"] += 1

    def _is_conflict(self, record: Record, row: RowLineage) -> bool:
        """Return whether a document is of another lineage than its row, as far as the row says it."""
        task_id = row[0]
        parent = row[2] if self.parent_stage is not None and holds_id(row[2]) else None
        if is_same_lineage(record, task_id, parent) is not False:
            return False
        # What a row does not say it has a finding for, and is taken to agree.
        own_task = record.task_id if _find_task_fault(task_id) else task_id
        own_parent = record.parent_doc_id if parent is None and self.parent_stage is not None else parent
        return is_same_lineage(record, own_task, own_parent) is False

    def _report_conflict(self, number: int, record: Record, row: RowLineage) -> None:
        held = {"task_id": record.task_id, "parent_doc_id": record.parent_doc_id}
        said = {"task_id": row[0], "parent_doc_id": row[2] or None}
        # Task ids are long: what is equal is not said.
        stored, here = (
            ", ".join(f"{name}={shown(each[name])}" for name in held if held[name] != said[name])
            for each in (held, said)
        )
        message = f"{self.audit.locate(self.stage, row[1])} holds {stored}; the row says {here}"
        hint = "correct the row, or empty its doc_id and reserve another id with a doc_salt: a write would be refused"
        if held["task_id"] != said["task_id"] and _is_derived(self.stage, row):
            hint = f"the id is the row's own, so the record may have been edited: if so correct it; otherwise {hint}"
        self._add("lineage-conflict", number, "doc_id", row, message, hint)

    def _report_cell(self, number: int, column: str, row: RowLineage, text: str) -> None:
        """Report a cell that should hold a doc id and does not."""
        if not is_missing(text):
            code, message = "malformed-id", f"{shown(text)} is no doc id; expected {DOC_ID_EXPECTED}"
            hint = "correct the cell, or empty it and run 'docid reserve'"
        else:
            code = "missing-doc-id" if column == "doc_id" else "missing-parent-id"
            message = "empty" if text == "" else f"{shown(text)}, which means missing"
            source = "" if column == "doc_id" else f", from the table of stage {self.parent_stage}"
            hint = f"'docid reserve' fills it{source}"
        self._add(code, number, column, row, message, hint)

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
                    message = f"the doc id of row {first} (task_id={shown(other)}) too; expected one row a document"
                    salted = ", give it a doc_salt" if other == task_id else ""
                    hint = f"remove one of the rows, or empty its doc_id{salted} and run 'docid reserve'"
                    self._add("duplicate-doc-id", number, "doc_id", row, message, hint)

    def _add(self, code: str, number: int, column: str, row: RowLineage, message: str, hint: str) -> None:  # noqa: PLR0917 - the fields of a finding
        where = self.table.locate(number, column)
        self.audit.add(Finding(code, self.stage, _get_id(row), row[0], where, message, hint), number)


def holds_id(text: str) -> bool:
    """Return whether a cell holds a doc id: `nan` would be one, and means missing."""
    return DOC_ID.match(text) is not None and (len(text) > _WORD or not is_missing(text))


def _get_id(row: RowLineage) -> str:
    return row[1] if holds_id(row[1]) else ""


def _identify(row: RowLineage) -> tuple[str, str, str]:
    """Return what tells documents of one stage apart: task, run and salt."""
    task_id, _, _, _, run_id, salt = row
    return task_id, "" if is_missing(run_id) else run_id, "" if is_missing(salt) else salt


def _find_task_fault(task_id: str) -> str:
    """Return what is wrong with a task id; empty where nothing is."""
    if len(task_id) <= _WORD and is_missing(task_id):
        return f"{shown(task_id)}, which means missing; expected the task's id" if task_id else "empty; expected it"
    try:
        check_text(task_id, "task_id")
    except InvalidName as error:
        return f"{shown(task_id)}: {error.problem}; expected {error.expected}"
    return ""


def _is_derived(stage: str, row: RowLineage) -> bool:
    """Return whether a doc id comes from what its row says; also where that is a finding of its own."""
    task_id, doc_id, _, _, run_id, salt = row
    run = None if is_missing(run_id) else run_id
    noted = None if is_missing(salt) else salt
    try:
        # The checks, which cost as much as the rest, are done only where they could make a difference.
        return derive(stage, task_id, run, noted) == doc_id or reserve_doc_id(stage, task_id, run, noted) == doc_id
    except (InvalidName, TypeError):
        return True

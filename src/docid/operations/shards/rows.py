"""The rows of one table that are looked at in a shard: their cells, documents, parents and sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docid._text import shown
from docid.core.findings import Finding
from docid.core.ids import DOC_ID, DOC_ID_EXPECTED, check_text, derive, reserve_doc_id
from docid.core.lineage_rules import find_unsaid, is_same_lineage
from docid.core.task import is_missing
from docid.errors import InvalidName, TaskTableError
from docid.operations.shards.documents import FAULTY, PROMPT, ROW, SEEN, STRIDE, THERE, WRITTEN
from docid.operations.shards.job import Reference

if TYPE_CHECKING:
    from docid.operations.shards.documents import Shard
    from docid.operations.shards.job import Table
    from docid.store.stored import StoredDocument
    from docid.tables.csvfile import Faults
    from docid.tables.tasks import RowLineage

    Look = StoredDocument | list[StoredDocument | Finding] | None

__all__ = ["Rows", "holds_id"]

_WORD = 4  # the longest word that means missing, blanks aside, which no id has


class Rows:
    """The rows of one table that are being looked at."""

    def __init__(self, shard: Shard, stage: str, table: Table) -> None:
        self.shard = shard
        self.stage = stage
        self.table = table
        self.parent_stage = shard.stages.parent_of(stage)
        self.all_mine = shard.of == 1
        self.known = shard.known[stage]
        self.counts = shard.counts[stage]
        self.stored = shard.backend is not None and stage not in shard.blind
        self.parents = shard.known[self.parent_stage] if self.parent_stage is not None else {}
        # Where neither store nor table can tell, nothing is said of parents.
        self.parents_told = self.parent_stage is not None and (
            self.parent_stage in shard.job.tables if shard.backend is None else self.parent_stage not in shard.blind
        )
        # Hashes of what tells documents of one stage apart, which is long: a million are held.
        self.tasks: set[int] = set()
        self.twice: tuple[set[int], set[str]] = (set(), set())
        self.sources: list[Reference] = []

    def look(self, faults: Faults) -> None:
        """Look at all rows, and at the document of each; note damaged rows, behind which nothing is looked at."""
        shard = self.shard
        try:
            length = None if shard.progress is None else self.table.length()
            numbered = self.table.lineages(self.stage, shard.stages)
            each = map if shard.backend is None else shard.backend.each
            for number, row, found in each(self._ahead, numbered):
                if faults.count:
                    continue
                self._look(number, row, found)
                if number % STRIDE == 0:
                    shard.told(f"rows of stage {self.stage}", number, length)
        except TaskTableError as error:
            faults.take_over(error)
        if not faults.count and any(self.twice):
            self._report_twice()

    def _ahead(self, numbered: tuple[int, RowLineage]) -> tuple[int, RowLineage, Look]:
        """Look at the document of a row, which may be done in a thread, before the row's turn."""
        number, row = numbered
        doc_id = row[1]
        if self.stored and self.known.get(doc_id, 0) & (THERE | SEEN) == THERE:
            return number, row, self.shard.looked(self.stage, doc_id, in_row=True)
        return number, row, None

    def _look(self, number: int, row: RowLineage, found: Look) -> None:
        """Look at one row: its cells, its document, its parent, its source; at what of these is of this shard."""
        task_id, doc_id, parent, source, _, _ = row
        mine = self.shard.mine
        # What is known already is a doc id, but for the short words that mean missing: nearly every one is known.
        own, of_parent = self.known.get(doc_id), self.parents.get(parent)
        is_id = (own is not None and len(doc_id) > _WORD) or holds_id(doc_id)
        is_parent = (of_parent is not None and len(parent) > _WORD) or holds_id(parent)
        all_mine = self.all_mine
        if all_mine or mine(task_id):
            self._cells(number, row, is_id=is_id, is_parent=is_parent)
        if is_id and (all_mine or mine(doc_id)):
            self._own(number, row, own or 0, found)
        if is_parent and self.parents_told and (all_mine or mine(parent)):
            self._parent(number, row, of_parent or 0)
        if source and self.stored and mine(source) and holds_id(source):
            self.sources.append(self._reference(number, row, "source_doc_id", source))

    def look_for_sources(self) -> None:
        """Report the sources whose prompt is not in the store, when all of the stage was looked at."""
        for reference in self.sources:
            self._source(reference)

    def _cells(self, number: int, row: RowLineage, *, is_id: bool, is_parent: bool) -> None:
        """Look at what the cells of a row hold, and whether its task was met before."""
        task_id, doc_id, parent, source, _, _ = row
        self.counts["rows"] += 1
        if fault := _task_fault(task_id):
            self._add("malformed-id", (number, f"{self.stage}_task_id"), row, fault, "correct the cell")
        else:
            hashed = hash(_told_apart(row))
            if hashed in self.tasks:
                self.twice[0].add(hashed)
            self.tasks.add(hashed)
        if not is_id:
            self._no_id(number, row, "doc_id", doc_id)
        if not is_parent and self.parent_stage is not None:
            self._no_id(number, row, "parent_doc_id", parent)
        if source and not holds_id(source) and not is_missing(source):
            self._no_id(number, row, "source_doc_id", source)

    def _own(self, number: int, row: RowLineage, state: int, found: Look) -> None:
        """Look at the document of a row."""
        task_id, doc_id, _, _, run_id, salt = row
        if state & ROW:
            self.twice[1].add(doc_id)
            return
        self.known[doc_id] = state | ROW
        if not _is_derived(self.stage, task_id, doc_id, run_id, salt):
            self.counts["underived"] += 1
        if not self.stored:
            return
        if found is not None and state & (THERE | SEEN) == THERE:
            document = self.shard.document(self.stage, doc_id, task_id, found)
            if document is not None:
                if self._is_conflict(document, row):
                    self._conflict(number, document, row)
                elif not find_unsaid(document.facts, has_parent=self.parent_stage is not None):
                    self.counts["written"] += 1
        if not self.known[doc_id] & (THERE | FAULTY):
            self.counts["pending"] += 1

    def _parent(self, number: int, row: RowLineage, state: int) -> None:
        """Look for the parent of a row."""
        if not state & (ROW | THERE):
            self.shard.references.append(self._reference(number, row, "parent_doc_id", row[2]))
        elif self.shard.backend is not None and not state & THERE:
            self.counts["parents_pending"] += 1

    def _reference(self, number: int, row: RowLineage, column: str, target: str) -> Reference:
        return Reference(target, self.stage, _id_of(row), row[0], number, self.table.where(number, column))

    def _add(self, code: str, cell: tuple[int, str], row: RowLineage, message: str, hint: str) -> None:
        finding = Finding(code, self.stage, _id_of(row), row[0], self.table.where(*cell), message, hint)
        self.shard.add(finding, cell[0])

    def _no_id(self, number: int, row: RowLineage, column: str, text: str) -> None:
        """Report a cell that should hold a doc id and does not."""
        cell = (number, column)
        if not is_missing(text):
            message = f"{shown(text)} is no doc id; expected {DOC_ID_EXPECTED}"
            self._add("malformed-id", cell, row, message, "correct the cell, or empty it and run 'docid reserve'")
            return
        message = "empty" if text == "" else f"{shown(text)}, which means missing"
        if column == "doc_id":
            self._add("missing-doc-id", cell, row, message, "'docid reserve' fills it")
        else:
            hint = f"'docid reserve' fills it, from the table of stage {self.parent_stage}"
            self._add("missing-parent-id", cell, row, message, hint)

    def _is_conflict(self, document: StoredDocument, row: RowLineage) -> bool:
        """Return whether a document is of another lineage than its row, as far as the row says it."""
        task_id = row[0]
        parent = row[2] if self.parent_stage is not None and holds_id(row[2]) else None
        record = document.facts
        if is_same_lineage(record, task_id, parent) is not False:
            return False
        # What a row does not say it has a finding for, and is taken to agree.
        own_task = record.task_id if _task_fault(task_id) else task_id
        own_parent = record.parent_doc_id if parent is None and self.parent_stage is not None else parent
        return is_same_lineage(record, own_task, own_parent) is False

    def _conflict(self, number: int, document: StoredDocument, row: RowLineage) -> None:
        held = {"task_id": document.task_id, "parent_doc_id": document.parent_doc_id}
        said = {"task_id": row[0], "parent_doc_id": row[2] or None}
        # Task ids are long: what is equal is not said.
        stored, here = (
            ", ".join(f"{name}={shown(each[name])}" for name in held if held[name] != said[name])
            for each in (held, said)
        )
        message = f"{document.location} holds {stored}; the row says {here}"
        hint = "correct the row, or empty its doc_id and reserve another id with a doc_salt: a write would be refused"
        if held["task_id"] != said["task_id"] and _is_derived(self.stage, row[0], row[1], row[4], row[5]):
            hint = f"the id is the row's own, so the record may have been edited: if so correct it; otherwise {hint}"
        self._add("lineage-conflict", (number, "doc_id"), row, message, hint)

    def _source(self, reference: Reference) -> None:
        state = self.known.get(reference.target, 0)
        if state & WRITTEN and not state & PROMPT:
            message = f"{self.stage}/{reference.target} was stored without its prompt, which is to be sent again"
        elif not state & THERE:
            message = f"{self.stage}/{reference.target} is not in the store; its prompt is to be sent again"
        else:
            return
        hint = "name another source_doc_id, or none"
        _, stage, doc_id, task_id, number, where = reference
        self.shard.add(Finding("missing-source", stage, doc_id, task_id, where, message, hint), number)

    def _report_twice(self) -> None:
        """Read the table once more, for the rows that are there twice: which they are was not held."""
        tasks: dict[tuple[str, str, str], int] = {}
        ids: dict[str, tuple[int, str]] = {}
        for number, row in self.table.lineages(self.stage, self.shard.stages):
            task_id, doc_id = row[0], row[1]
            if hash(_told_apart(row)) in self.twice[0]:
                first = tasks.setdefault(_told_apart(row), number)
                if first != number:
                    message = f"the task of row {first} too; expected one row a task"
                    hint = "remove one of the rows; to have two documents of one task give one a doc_salt"
                    self._add("duplicate-task-id", (number, f"{self.stage}_task_id"), row, message, hint)
            if doc_id in self.twice[1]:
                first, other = ids.setdefault(doc_id, (number, task_id))
                if first != number:
                    message = f"the doc id of row {first} (task_id={shown(other)}) too; expected one row a document"
                    salted = ", give it a doc_salt" if other == task_id else ""
                    hint = f"remove one of the rows, or empty its doc_id{salted} and run 'docid reserve'"
                    self._add("duplicate-doc-id", (number, "doc_id"), row, message, hint)


def holds_id(text: str) -> bool:
    """Return whether a cell holds a doc id: `nan` would be one, and means missing."""
    return DOC_ID.match(text) is not None and (len(text) > _WORD or not is_missing(text))


def _told_apart(row: RowLineage) -> tuple[str, str, str]:
    """Return what tells documents of one stage apart: task, run and salt."""
    task_id, _, _, _, run_id, salt = row
    if run_id or salt:
        return task_id, "" if is_missing(run_id) else run_id, "" if is_missing(salt) else salt
    return task_id, "", ""


def _id_of(row: RowLineage) -> str:
    return row[1] if holds_id(row[1]) else ""


def _task_fault(task_id: str) -> str:
    """Return what is wrong with a task id; empty where nothing is."""
    if len(task_id) <= _WORD and is_missing(task_id):
        return f"{shown(task_id)}, which means missing; expected the task's id" if task_id else "empty; expected it"
    try:
        check_text(task_id, "task_id")
    except InvalidName as error:
        return f"{shown(task_id)}: {error.problem}; expected {error.expected}"
    return ""


def _is_derived(stage: str, task_id: str, doc_id: str, run_id: str, salt: str) -> bool:
    """Return whether a doc id comes from what its row says; also where that is a finding of its own."""
    run = None if is_missing(run_id) else run_id
    noted = None if is_missing(salt) else salt
    try:
        # The checks, which cost as much as the rest, are done only where they could make a difference.
        return derive(stage, task_id, run, noted) == doc_id or reserve_doc_id(stage, task_id, run, noted) == doc_id
    except (InvalidName, TypeError):
        return True

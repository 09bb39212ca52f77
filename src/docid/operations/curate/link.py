"""`link`: task tables, filled from the documents that are there already."""

from __future__ import annotations

import os
from collections import Counter
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from docid.core.document import timestamp
from docid.core.findings import Finding
from docid.core.ids import is_doc_id, reserve_doc_id
from docid.errors import InvalidName
from docid.operations.curate.notes import Note, made_at
from docid.store.docs_store import check_store
from docid.store.scanning import answered
from docid.tables.rows import row_type_of
from docid.tables.tasks import TaskRows, infer_stage, read_tasks, write_tasks

if TYPE_CHECKING:
    from docid.store.docs_store import DocsStore
    from docid.tables.rows import TaskRow

__all__ = ["Linked", "link"]

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Linked(NamedTuple):
    """What `link` did.

    Attributes:
        rows: the rows of the table.
        filled: those whose `doc_id` is a stored document's now, and was another or none.
        kept: those whose `doc_id` was set before and stays.
        parents_filled: those whose `parent_doc_id` was filled in.
        parents_missing: those that have none still, of a stage with a parent.
        notes: `no-document`: nothing of this task is in the store. `other-documents`: several are, one was chosen.
            `other-parent`: what is there was made from another parent than the row's. `kept-id`: the row has an
            id, and what is there of its task has others. `other-salt`: the row notes a run id or salt, and no
            document has their id. `taken`: what is there is another row's. `missing-parent`: the document was linked,
            and its parent is gone. The codes of an audit: a document that cannot be used.
    """

    rows: int
    filled: int
    kept: int
    parents_filled: int
    parents_missing: int
    notes: tuple[Note, ...]


class _Candidate(NamedTuple):
    made: datetime
    doc_id: str
    parent_doc_id: str | None

    def __str__(self) -> str:
        made = "no time known" if self.made is _LONG_AGO else timestamp(self.made)
        return f"{self.doc_id} ({made})"


def link(
    table: str | os.PathLike[str],
    store: DocsStore,
    *,
    row_type: type[TaskRow] | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> Linked:
    r"""Fill `doc_id` and `parent_doc_id` of a task table, in place, from documents that are in the store already.

    A row is given the document of its own task id. So what an older system, or another run, has stored is used and
    not paid for again. Where there are several the newest is taken (by `created_at`; of equal ones the first doc id)
    and the others are noted. The store is gone through once; documents that cannot be used are passed over. The table
    is replaced atomically, and only where something is filled in.

    A row with a run id or salt is given the document of the id that these give, and no other, and one with a
    `parent_doc_id` only a document of that parent, or else of an unknown one.
    The `doc_run_id` and `doc_salt` of a row that is given another id (with `force`) are emptied: it does not come from
    them.

    Args:
        table: the table's path.
        store: where the documents are.
        row_type: the class of the rows; if not given, that of the stage which the file's name says.
        force: replace ids that are set, too, and parents; of all rows of whose task there is a document.
        dry_run: write nothing.

    Raises:
        TaskTableError: the table is faulty, or was changed by somebody else meanwhile.
        ValueError: the name says no stage, and no `row_type` is given.
        InvalidName: the stage is none of the store's.
        OSError: the table or the stage cannot be read, or the table not be written.

    Example:
        >>> import pathlib, tempfile
        >>> from docid import DocsStore, Document
        >>> store = DocsStore(tempfile.mkdtemp())
        >>> _ = store.write(Document(stage="draft", doc_id="0old1", task_id="t-1", raw_text="once"))
        >>> table = pathlib.Path(tempfile.mkdtemp(), "draft_tasks.csv")
        >>> _ = table.write_text("draft_task_id\nt-1\nt-2\n")
        >>> linked = link(table, store)
        >>> linked.filled, [note.message for note in linked.notes]
        (1, ['no document of this task is in the store'])
        >>> print(table.read_text(), end="")
        draft_task_id,doc_id
        t-1,0old1
        t-2,
    """
    check_store(store)
    path = os.fspath(table)
    if row_type is None:
        row_type = row_type_of(infer_stage(path, store.stages), store.stages)
    store.stages.check(row_type.stage)
    linker = _Linker(store, row_type, path, force=force)
    linked = linker.report()
    if not dry_run and (linked.filled or linked.parents_filled):
        write_tasks(path, linker.rows(), like=path)
    return linked


class _Asked(NamedTuple):
    """What a row asks for."""

    number: int
    task_id: str
    doc_id: str
    parent_doc_id: str | None
    derived: str | None
    noted: bool


class _Linker:
    """A table that is being linked: what its rows ask for, what is there, and who gets what."""

    def __init__(self, store: DocsStore, row_type: type[TaskRow], path: str, *, force: bool) -> None:
        self._store = store
        self._row_type = row_type
        self._path = path
        self._force = force
        table = read_tasks(path, row_type, reserved=False)
        self._state = table.state
        self._asked = [_asked(table.row, row) for row in table]
        self._found: dict[str, list[_Candidate]] = {each.task_id: [] for each in self._asked}
        self._notes = _find(store, row_type.stage, self._found)
        self._given: dict[int, _Candidate] = {}
        self._holders: dict[str, int] = {}
        self._emptied: set[int] = set()
        self._own: set[int] = set()  # rows whose document has the id that their run id and salt give
        self._decide()

    def _decide(self) -> None:
        """Say which row gets which document: first those that a row's own run id and salt name, then the newest."""
        open_rows = []
        for row in self._asked:
            if row.doc_id and not (self._force and self._found[row.task_id]):
                self._holders.setdefault(row.doc_id, row.number)
                self._look_at_kept(row)
            else:
                open_rows.append(row)
        left = []
        for row in open_rows:
            # Of a row that notes no run or salt any document of its task may be the one that is meant.
            own = next((each for each in self._found[row.task_id] if row.noted and each.doc_id == row.derived), None)
            if own is not None and self._fits(row, own) and own.doc_id not in self._holders:
                self._give(row, own)
            else:
                left.append(row)
        for row in left:
            self._choose(row)
        for row in left:
            # With force: its id has become another row's.
            if row.number not in self._given and self._holders.get(row.doc_id, row.number) != row.number:
                self._emptied.add(row.number)

    def _look_at_kept(self, row: _Asked) -> None:
        found = self._found[row.task_id]
        own = next((each for each in found if each.doc_id == row.doc_id), None)
        if own is not None:
            self._given[row.number] = own
        elif found and not (row.noted and row.doc_id == row.derived):
            self._note("kept-id", row, f"{row.doc_id} kept; the store has {_listed(found)}, which --force would take")
        elif not found and self._force:
            self._note("no-document", row, _NONE)

    def _choose(self, row: _Asked) -> None:
        found = self._found[row.task_id]
        if not found:
            self._note("no-document", row, _NONE)
            return
        fitting = [each for each in found if self._fits(row, each)]
        if row.parent_doc_id is not None:
            # Of the row's own parent first; the order by age stays.
            fitting.sort(key=lambda each: each.parent_doc_id != row.parent_doc_id)
        free = [each for each in fitting if each.doc_id not in self._holders]
        if not fitting:
            other = f"made from {found[0].parent_doc_id}, the row's parent is {row.parent_doc_id} (--force)"
            self._note("other-parent", row, f"not linked to {found[0]}: {other}")
        elif row.noted and not self._force:
            problem = "none of them has the id of its doc_run_id and doc_salt, which 'docid reserve' would fill in"
            self._note("other-salt", row, f"not linked to {_listed(fitting)}: {problem}")
        elif not free:
            self._note("taken", row, f"{_listed(fitting)}: another row's; to have one more give the row a doc_salt")
        else:
            self._give(row, free[0])

    def _fits(self, row: _Asked, candidate: _Candidate) -> bool:
        parents = {None, row.parent_doc_id}
        return self._force or row.parent_doc_id is None or candidate.parent_doc_id in parents

    def _give(self, row: _Asked, chosen: _Candidate) -> None:
        self._holders[chosen.doc_id] = row.number
        self._given[row.number] = chosen
        if row.noted and chosen.doc_id == row.derived:
            self._own.add(row.number)
        others = [each for each in self._found[row.task_id] if each is not chosen]
        if others and row.number not in self._own:
            self._note("other-documents", row, f"linked to {chosen}, not to {_listed(others)}")

    def report(self) -> Linked:
        """Return what there is to do."""
        counts: Counter[str] = Counter()
        exists = lru_cache(_PARENTS)(self._store.exists)
        for row in self._asked:
            changes = self._changes(row.number, row.doc_id, row.parent_doc_id)
            counts["filled"] += bool(changes.get("doc_id"))
            counts["kept"] += bool(row.doc_id) and "doc_id" not in changes
            counts["parents_filled"] += "parent_doc_id" in changes
            parent, stage = changes.get("parent_doc_id", row.parent_doc_id), self._row_type.parent_stage
            counts["parents_missing"] += stage is not None and not parent
            if stage is not None and parent and changes and not exists(stage, parent):
                self._note("missing-parent", row, f"linked, but its parent {stage}/{parent} is not in the store")
        return Linked(
            len(self._asked),
            counts["filled"],
            counts["kept"],
            counts["parents_filled"],
            counts["parents_missing"],
            tuple(self._notes),
        )

    def rows(self) -> TaskRows[TaskRow]:
        """Return the rows, linked; of what was looked at, which `write_tasks` sees to."""
        table = read_tasks(self._path, self._row_type, reserved=False)
        filled = (*(("parent_doc_id",) if self._row_type.parent_stage else ()), "doc_id")
        columns = (*table.columns, *(name for name in filled if name not in table.columns))
        linked = ((table.row, self._linked(table.row, row)) for row in table)
        return TaskRows(self._row_type, self._path, columns, linked, self._state)

    def _linked(self, number: int, row: TaskRow) -> TaskRow:
        changes = self._changes(number, row.doc_id, row.parent_doc_id)
        return attrs.evolve(row, **changes) if changes else row

    def _changes(self, number: int, doc_id: str, parent_doc_id: str | None) -> dict[str, Any]:
        """Return the fields of a row that become others."""
        chosen = self._given.get(number)
        if chosen is None:
            return {"doc_id": ""} if number in self._emptied else {}
        changes: dict[str, Any] = {}
        if chosen.doc_id != doc_id:
            changes["doc_id"] = chosen.doc_id
            if number not in self._own:
                changes |= {"doc_run_id": None, "doc_salt": None}
        parent = chosen.parent_doc_id
        replaces = parent_doc_id is None or (self._force and parent != parent_doc_id)
        if self._row_type.parent_stage is not None and parent is not None and replaces:
            changes["parent_doc_id"] = parent
        return changes

    def _note(self, kind: str, row: _Asked, message: str) -> None:
        self._notes.append(Note(kind, f"{self._path} row {row.number}", row.task_id, message))


_NONE = "no document of this task is in the store"
_LISTED = 5  # documents in one note
_PARENTS = 10_000  # that are remembered


def _asked(number: int, row: TaskRow) -> _Asked:
    noted = row.doc_run_id is not None or row.doc_salt is not None
    try:
        derived = reserve_doc_id(row.stage, row.task_id, row.doc_run_id, row.doc_salt)
    except InvalidName:
        derived = None
    return _Asked(number, row.task_id, row.doc_id, row.parent_doc_id, derived, noted)


def _listed(candidates: list[_Candidate]) -> str:
    more = f" and {len(candidates) - _LISTED} more" if len(candidates) > _LISTED else ""
    return ", ".join(map(str, candidates[:_LISTED])) + more


def _find(store: DocsStore, stage: str, tasks: dict[str, list[_Candidate]]) -> list[Note]:
    """Put what a stage holds of these tasks into them, the newest first; return what had to be passed over.

    Raises:
        OSError: the stage cannot be listed, or the store did not answer.
    """
    notes = []
    seen: set[str] = set()  # what is replaced now may come twice
    for found in answered(store.backend, stage):
        if isinstance(found, Finding):
            if found.level == "error":
                notes.append(Note(found.code, found.where, found.task_id, found.message))
        elif found.task_id in tasks:
            parent = found.parent_doc_id
            if parent is not None and not is_doc_id(parent):
                message = f"its parent_doc_id is {parent!r}, which is no doc id"
                notes.append(Note("malformed-id", found.location, found.task_id, message))
            elif found.doc_id not in seen:
                seen.add(found.doc_id)
                tasks[found.task_id].append(_Candidate(made_at(store, found) or _LONG_AGO, found.doc_id, parent))
    for there in tasks.values():
        there.sort(key=lambda each: each.doc_id)
        there.sort(key=lambda each: each.made, reverse=True)
    return notes

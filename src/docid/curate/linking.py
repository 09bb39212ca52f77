"""`link`: task tables, filled from the documents that are there already."""

from __future__ import annotations

import os
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from docid.curate.notes import Note
from docid.document import timestamp
from docid.findings import Finding
from docid.rows import row_type_of
from docid.tasks import TaskRows, named_stage, read_tasks, write_tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docid.rows import TaskRow
    from docid.store import DocsStore
    from docid.stored import StoredDocument

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
            id, and what is there of its task has others. `taken`: what is there is another row's. The codes of an
            audit: a document that cannot be used.
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

    A row with a `parent_doc_id` is given a document of that parent, or of an unknown one, only. A linked row's
    `doc_run_id` and `doc_salt` are emptied: its id does not come from them.

    Args:
        table: the table's path.
        store: where the documents are.
        row_type: the class of the rows; if not given, that of the stage which the file's name says.
        force: replace ids that are set, too.
        dry_run: write nothing.

    Raises:
        TaskTableError: the table is faulty.
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
    path = os.fspath(table)
    if row_type is None:
        row_type = row_type_of(named_stage(path, store.stages), store.stages)
    store.stages.check(row_type.stage)
    linker = _Linker(store, row_type, path, force=force)
    linked = linker.look()
    if not dry_run and (linked.filled or linked.parents_filled):
        write_tasks(path, linker.rows(), like=path)
    return linked


class _Linker:
    """A table that is being linked. It is read three times: its tasks, what is to be done, and to do it."""

    def __init__(self, store: DocsStore, row_type: type[TaskRow], path: str, *, force: bool) -> None:
        self._row_type = row_type
        self._path = path
        self._force = force
        self._notes: list[Note] = []
        self._counts: Counter[str] = Counter()
        self._kept: set[str] = set()
        tasks: dict[str, list[_Candidate]] = {}
        for row in self._read():
            tasks[row.task_id] = []
            if row.doc_id and not force:
                self._kept.add(row.doc_id)
        self._found = tasks
        self._passed_over = list(_find(store, row_type.stage, tasks))

    def _read(self) -> TaskRows[TaskRow]:
        return read_tasks(self._path, self._row_type, reserved=False)

    def look(self) -> Linked:
        """Return what there is to do."""
        for _ in self.rows():
            pass
        counts = self._counts
        return Linked(
            counts["rows"],
            counts["filled"],
            counts["kept"],
            counts["parents_filled"],
            counts["parents_missing"],
            (*self._passed_over, *self._notes),
        )

    def rows(self) -> TaskRows[TaskRow]:
        """Return the rows, linked."""
        table = self._read()
        filled = (*(("parent_doc_id",) if self._row_type.parent_stage else ()), "doc_id")
        columns = (*table.columns, *(name for name in filled if name not in table.columns))
        return TaskRows(self._row_type, self._path, columns, self._linked(table))

    def _linked(self, table: TaskRows[TaskRow]) -> Iterator[tuple[int, TaskRow]]:
        self._notes, self._counts = [], Counter()
        given: dict[str, int] = {}
        for row in table:
            changes = self._changes(table.row, row, given)
            self._counts["rows"] += 1
            self._counts["filled"] += "doc_id" in changes
            self._counts["kept"] += bool(row.doc_id) and "doc_id" not in changes
            self._counts["parents_filled"] += "parent_doc_id" in changes
            parent = changes.get("parent_doc_id", row.parent_doc_id)
            self._counts["parents_missing"] += self._row_type.parent_stage is not None and not parent
            yield table.row, attrs.evolve(row, **changes) if changes else row

    def _changes(self, number: int, row: TaskRow, given: dict[str, int]) -> dict[str, Any]:
        """Return the fields of a row that become others, and note what is to be said of it."""
        found = self._found[row.task_id]
        if row.doc_id and not self._force:
            own = next((each for each in found if each.doc_id == row.doc_id), None)
            if own is None and found:
                self._note("kept-id", number, row, f"{row.doc_id} kept; the store has {_listed(found)} (--force)")
            return {} if own is None or row.parent_doc_id else self._parent(row, own)
        if not found:
            self._note("no-document", number, row, "no document of this task is in the store")
            return {}
        fitting = found
        if row.parent_doc_id and not self._force:
            fitting = [each for each in found if each.parent_doc_id in {None, row.parent_doc_id}]
            if not fitting:
                other = f"made from {found[0].parent_doc_id}, the row's parent is {row.parent_doc_id} (--force)"
                self._note("other-parent", number, row, f"not linked to {found[0]}: {other}")
                return {}
        free = [each for each in fitting if given.get(each.doc_id, number) == number and each.doc_id not in self._kept]
        if not free:
            self._note("taken", number, row, f"{_listed(fitting)} is another row's; 'docid reserve' names a new one")
            return {}
        chosen = free[0]
        given[chosen.doc_id] = number
        if len(found) > 1:
            others = _listed([each for each in found if each is not chosen])
            self._note("other-documents", number, row, f"linked to {chosen}, not to {others}")
        changes: dict[str, Any] = self._parent(row, chosen)
        if chosen.doc_id != row.doc_id:
            changes |= {"doc_id": chosen.doc_id, "doc_run_id": None, "doc_salt": None}
        return changes

    def _parent(self, row: TaskRow, chosen: _Candidate) -> dict[str, str]:
        parent = chosen.parent_doc_id
        if self._row_type.parent_stage is None or parent is None or parent == row.parent_doc_id:
            return {}
        return {"parent_doc_id": parent}

    def _note(self, kind: str, number: int, row: TaskRow, message: str) -> None:
        self._notes.append(Note(kind, f"{self._path} row {number}", row.task_id, message))


def _listed(candidates: list[_Candidate]) -> str:
    return ", ".join(map(str, candidates))


def _find(store: DocsStore, stage: str, tasks: dict[str, list[_Candidate]]) -> Iterator[Note]:
    """Put what a stage holds of these tasks into them, the newest first; yield what had to be passed over."""
    for found in store.scan(stage):
        if isinstance(found, Finding):
            if found.level == "error":
                yield Note(found.code, found.where, found.task_id, found.message)
        elif found.task_id in tasks:
            there = tasks[found.task_id]
            candidate = _Candidate(_made(store, found), found.doc_id, found.parent_doc_id)
            if all(each.doc_id != candidate.doc_id for each in there):  # what is replaced now may come twice
                there.append(candidate)
    for there in tasks.values():
        there.sort(key=lambda each: each.doc_id)
        there.sort(key=lambda each: each.made, reverse=True)


def _made(store: DocsStore, document: StoredDocument) -> datetime:
    """Return when a document was made: of an older system's by the time of its file."""
    if document.created_at is not None:
        return document.created_at
    seconds = store.backend.modified(document.stage, document.doc_id)
    return _LONG_AGO if seconds is None else datetime.fromtimestamp(seconds, UTC)

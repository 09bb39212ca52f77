"""`link` and `keep_existing`: fill the ids of task tables from stored documents."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar, cast

import attrs

from docid.core.document import timestamp
from docid.core.findings import Finding
from docid.core.ids import is_doc_id, reserve_doc_id
from docid.core.lineage_rules import contradicts
from docid.core.replicates import parse_path
from docid.errors import InvalidName
from docid.operations.curate.replay import Note, file_time, read_time
from docid.store.docs_store import DocsStore, check_store
from docid.store.scanning import examine, scan
from docid.store.stored import StoredDocument
from docid.tables.rows import TaskRow, row_type_of
from docid.tables.tasks import TaskRows, infer_stage, number_rows, read_tasks, write_tasks

RowT = TypeVar("RowT", bound=TaskRow)

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_NO_DOCUMENT = "no document of this task is in the store"


class Linked(NamedTuple):
    """The result of `link`.

    Attributes:
        rows: the number of rows of the table.
        filled: the rows whose `doc_id` was filled from a stored document.
        kept: the rows that kept their `doc_id`.
        parents_filled: the rows whose `parent_doc_id` was filled.
        parents_missing: the rows still without a `parent_doc_id`, if the stage has a parent.
        notes: one per row or document that needs attention. `no-document`: the store has no document of this task.
            `other-documents`: the store has several; one was chosen. `other-parent`: the documents have another parent
            than the row. `kept-id`: the row keeps its id; the documents of its task have others. `other-salt`: no
            document has the id of the row's run id and salt, or all are of other replicates. `taken`: the documents
            belong to other rows. `missing-parent`: the linked document's parent is not stored. Any audit code: an
            unusable document.
    """

    rows: int
    filled: int
    kept: int
    parents_filled: int
    parents_missing: int
    notes: tuple[Note, ...]


def link(
    table: str | os.PathLike[str],
    store: DocsStore,
    *,
    row_type: type[TaskRow] | None = None,
    delimiter: str = ",",
    force: bool = False,
    dry_run: bool = False,
) -> Linked:
    r"""Fill `doc_id`, `parent_doc_id` and `input_doc_ids` of a task table in place, from stored documents.

    Each row gets the document of its task id. If several match, docid takes the one whose id derives from the task, or
    else the newest (by `created_at`; ties are broken by doc id), and notes the others. Unusable documents are skipped.
    docid replaces the table atomically, and only if a cell changes. Memory holds all rows.

    A row with a run id or salt gets only the document of the id that they give. A row without a salt is the first
    replicate of its task, and gets the document of no other one. A row with a `parent_doc_id` gets only a document of
    that parent, or else of an unknown one. A row with `input_doc_ids` gets only a document of these. With `force` a row
    may get another id; docid then empties its `doc_run_id` and `doc_salt`, because the id does not derive from them.

    Args:
        table: the path of the table.
        store: the store with the documents.
        row_type: the class of the rows; by default the one for the stage in the file name.
        delimiter: the delimiter of the table, as for `read_tasks`.
        force: also replace existing ids and parents, in all rows whose task has a document.
        dry_run: report the result without writing.

    Raises:
        TaskTableError: the table is faulty, or another process changed it during the run.
        ValueError: the file name has no stage, and no `row_type` is given.
        InvalidName: the store lacks the stage.
        OSError: the table or the stage cannot be read, or the table cannot be written.

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
    tasks = read_tasks(path, row_type, reserved=False, delimiter=delimiter)
    numbered = list(number_rows(tasks))
    found, notes = _find_candidates(store, row_type.stage, {row.task_id for _, row in numbered})
    rows = [_Row(number, row, found[row.task_id], force=force) for number, row in numbered]
    linker = _Linker(path, notes, force)
    linker.assign_all(rows)
    linked = linker.report(rows, store)
    if not dry_run and any(each.changes for each in rows):
        filled = ("parent_doc_id", "doc_id") if row_type.parent_stage else ("doc_id",)
        if any("input_doc_ids" in each.changes for each in rows):
            filled = ("input_doc_ids", *filled)
        columns = (*tasks.columns, *(name for name in filled if name not in tasks.columns))
        changed = ((each.number, attrs.evolve(each.row, **each.changes) if each.changes else each.row) for each in rows)
        write_tasks(path, TaskRows(row_type, path, columns, changed, tasks.state), like=tasks)
    return linked


def keep_existing(rows: Sequence[RowT], store: DocsStore, where: str = "") -> tuple[list[RowT], list[Note]]:
    """Return rows in which the document that a task already has keeps its id, as `link` fills them in.

    So a store that another system has filled is taken over without a call. Rows without a document, and rows with a run
    id or a salt, stay as they are. No row gets a document whose record says that a run id or a salt made its id. docid
    reads only the records of documents that no row names.

    Args:
        rows: rows of one stage, with their `parent_doc_id`, as far as it is known.
        store: the store with the documents.
        where: the table, for notes.

    Returns:
        The rows in order, and notes: `other-documents`, `other-parent`, `taken`, or the code of an unusable document.

    Raises:
        OSError: the stage cannot be listed, or the store does not answer.
    """
    rows = list(rows)
    empty = {row.task_id for row in rows if not row.doc_id}
    if not empty:
        return rows, []
    stage = check_store(store).stages.check(rows[0].stage)
    left = set(store.ids(stage)) - {row.doc_id for row in rows}
    if not left:
        return rows, []
    found, notes = _find_candidates(store, stage, empty, left)
    linked = [_Row(number, row, found.get(row.task_id, []), force=False) for number, row in enumerate(rows, 2)]
    counts = Counter(each.wish for each in linked if each.is_open)
    for each in linked:
        if counts[each.wish] > 1:  # equal rows: `reserve_tasks` refuses the second one
            each.found = []
        elif not each.is_bound:
            each.found = [candidate for candidate in each.found if not candidate.is_own]
    _Linker(where, notes, force=False, hints=False).assign_all(linked)
    notes = [note for note in notes if note.kind not in {"no-document", "kept-id", "other-salt"}]
    filled = [attrs.evolve(each.row, **each.changes) if each.is_open and each.changes else each.row for each in linked]
    return cast("list[RowT]", filled), notes


class _Candidate(NamedTuple):
    """A stored document of a task in the table."""

    made: datetime
    doc_id: str
    parent_doc_id: str | None
    inputs: tuple[str, ...]
    is_own: bool  # a row with a run id or a salt asked for it
    is_replicate: bool  # a row with the salt of a replicate asked for it

    def __str__(self) -> str:
        made = "unknown time" if self.made is _LONG_AGO else timestamp(self.made)
        return f"{self.doc_id} ({made})"


class _Row:
    """A row of the table, the documents of its task, the chosen one, and the fields that change.

    `derived` is the id that the task, the run id and the salt give. A row with a run id or a salt `is_bound` to it; for
    any other row, any document of the task fits, except those of replicates. A row that `is_open` may get a new id.
    """

    def __init__(self, number: int, row: TaskRow, found: list[_Candidate], *, force: bool) -> None:
        self.number = number
        self.row = row
        self.is_open = not row.doc_id or (force and bool(found))
        self.chosen: _Candidate | None = None
        self.changes: dict[str, Any] = {}
        self.is_bound = row.doc_run_id is not None or row.doc_salt is not None
        is_first = self.is_open and not self.is_bound and not force  # the first replicate of its task
        self.found = [each for each in found if not (is_first and each.is_replicate)]
        self.replicates = [each for each in found if is_first and each.is_replicate]
        self.derived = ""  # matches no document
        with contextlib.suppress(InvalidName):
            self.derived = reserve_doc_id(row.stage, row.task_id, row.doc_run_id, row.doc_salt)

    @property
    def wish(self) -> tuple[object, ...]:
        """The facts by which two rows of one task differ."""
        row = self.row
        return row.task_id, row.parent_doc_id, row.input_doc_ids, row.doc_run_id, row.doc_salt

    def find(self, doc_id: str | None) -> _Candidate | None:
        """Return the document with this id; None if the task does not have it."""
        return next((each for each in self.found if each.doc_id == doc_id), None)


@attrs.define
class _Linker:
    """Assigns documents to rows."""

    path: str
    notes: list[Note]
    force: bool
    hints: bool = True  # name the option --force of the command
    holders: dict[str, int] = attrs.Factory(dict)  # the number of the row that has a doc id

    def assign_all(self, rows: list[_Row]) -> None:
        """Assign the documents named by a run id and salt first, then the newest to the other rows."""
        for each in rows:
            if not each.is_open:
                found, doc_id = each.found, each.row.doc_id
                self.holders.setdefault(doc_id, each.number)
                each.chosen = each.find(doc_id)
                if found and each.chosen is None and not (each.is_bound and doc_id == each.derived):
                    kept = f"keeps {doc_id}; the store has {_format(found)}. Use --force to replace it"
                    self._note("kept-id", each, kept)
                elif not found and self.force:
                    self._note("no-document", each, _NO_DOCUMENT)
        left = []
        # Rows with a parent and inputs first: the documents that fit them are fewer.
        for each in sorted(rows, key=lambda each: (each.row.parent_doc_id is None, not each.row.input_doc_ids)):
            own = each.find(each.derived) if each.is_open else None
            if own is not None and _rank(each, own) == _BEST and own.doc_id not in self.holders:
                self._assign(each, own)
            elif each.is_open:
                left.append(each)
        # With force, rows whose run id and salt give another id choose last.
        for each in sorted(left, key=lambda each: each.is_bound):
            self._choose(each)
        for each in rows:
            each.changes = self._find_changes(each)

    def _choose(self, each: _Row) -> None:
        row, found = each.row, each.found
        fitting = [candidate for candidate in found if self._fits(row, candidate)]
        fitting.sort(key=lambda candidate: _rank(each, candidate))  # a stable sort keeps the order by age
        free = [candidate for candidate in fitting if candidate.doc_id not in self.holders]
        if not found and each.replicates:
            problem = "the salts of replicates give their ids, and the row has none. Use --force to link it"
            self._note("other-salt", each, f"not linked to {_format(each.replicates)}: {problem}")
        elif not found:
            self._note("no-document", each, _NO_DOCUMENT)
        elif not fitting:
            parents = f"its parent is {found[0].parent_doc_id}, the row has {row.parent_doc_id}"
            if not contradicts(found[0].parent_doc_id, row.parent_doc_id):
                parents = "it was made from other inputs than the row has"
            hint = ". Use --force to link it" if self.hints else ""
            if self.hints or not each.is_bound or each.find(each.derived):  # one with a salt gets no other one
                self._note("other-parent", each, f"not linked to {found[0]}: {parents}{hint}")
        elif each.is_bound and not self.force:
            problem = "the row's doc_run_id and doc_salt give another id. Run 'docid reserve' to fill it in"
            self._note("other-salt", each, f"not linked to {_format(fitting)}: {problem}")
        elif not free:
            self._note(
                "taken", each, f"other rows have {_format(fitting)}. Give this row a doc_salt to make another document"
            )
        else:
            self._assign(each, free[0])

    def _fits(self, row: TaskRow, candidate: _Candidate) -> bool:
        has_same_inputs = not row.input_doc_ids or row.input_doc_ids == candidate.inputs
        return self.force or (has_same_inputs and not contradicts(candidate.parent_doc_id, row.parent_doc_id))

    def _assign(self, each: _Row, chosen: _Candidate) -> None:
        self.holders[chosen.doc_id] = each.number
        each.chosen = chosen
        others = [candidate for candidate in each.found if candidate is not chosen]
        is_silent = chosen.doc_id == each.derived and (each.is_bound or not self.hints)
        if others and not is_silent:
            self._note("other-documents", each, f"linked to {chosen}, not to {_format(others)}")

    def _find_changes(self, each: _Row) -> dict[str, Any]:
        """Return the fields of a row that change."""
        row, chosen = each.row, each.chosen
        if chosen is None:
            # With force, another row may have taken its id.
            has_lost = each.is_open and self.holders.get(row.doc_id, each.number) != each.number
            return {"doc_id": ""} if has_lost else {}
        changes: dict[str, Any] = {}
        if chosen.doc_id != row.doc_id:
            changes["doc_id"] = chosen.doc_id
            if chosen.doc_id != each.derived:
                changes |= {"doc_run_id": None, "doc_salt": None}
        parent, old = chosen.parent_doc_id, row.parent_doc_id
        replaces = old is None or (self.force and parent != old)
        if row.parent_stage is not None and parent is not None and replaces:
            changes["parent_doc_id"] = parent
        if chosen.inputs != row.input_doc_ids and (self.force or not row.input_doc_ids):
            changes["input_doc_ids"] = chosen.inputs
        return changes

    def report(self, rows: list[_Row], store: DocsStore) -> Linked:
        """Return the result; note the linked rows whose parent is not in the store."""
        missing = 0
        exists = lru_cache(10_000)(store.exists)
        for each in rows:
            stage, parent = each.row.parent_stage, each.changes.get("parent_doc_id", each.row.parent_doc_id)
            missing += stage is not None and not parent
            if stage is not None and parent and each.changes and not exists(stage, parent):
                self._note("missing-parent", each, f"linked, but its parent {stage}/{parent} is not in the store")
        return Linked(
            len(rows),
            filled=sum(bool(each.changes.get("doc_id")) for each in rows),
            kept=sum(bool(each.row.doc_id) and "doc_id" not in each.changes for each in rows),
            parents_filled=sum("parent_doc_id" in each.changes for each in rows),
            parents_missing=missing,
            notes=tuple(self.notes),
        )

    def _note(self, kind: str, each: _Row, message: str) -> None:
        self.notes.append(Note(kind, f"{self.path} row {each.number}".strip(), each.row.task_id, message))


_BEST = (False, False, False)


def _rank(each: _Row, candidate: _Candidate) -> tuple[bool, bool, bool]:
    """Return how a document differs from a row: another or unknown parent, other inputs, another id."""
    row = each.row
    has_other_parent = row.parent_doc_id is not None and candidate.parent_doc_id != row.parent_doc_id
    has_other_inputs = bool(row.input_doc_ids) and candidate.inputs != row.input_doc_ids
    return has_other_parent, has_other_inputs, candidate.doc_id != each.derived


def _format(candidates: list[_Candidate]) -> str:
    """Return the first few documents for a note."""
    more = f" and {len(candidates) - 5} more" if len(candidates) > 5 else ""  # noqa: PLR2004
    return ", ".join(map(str, candidates[:5])) + more


def _find_candidates(
    store: DocsStore, stage: str, tasks: set[str], doc_ids: set[str] | None = None
) -> tuple[dict[str, list[_Candidate]], list[Note]]:
    """Return the documents of each task, newest first, and notes on skipped documents; of all, or of these doc ids."""
    notes: list[Note] = []
    found: dict[str, dict[str, _Candidate]] = {task_id: {} for task_id in tasks}
    depth = len(store.stages.ancestors_of(stage)) + 1
    documents: Iterable[StoredDocument | Finding]
    documents = scan(store.backend, stage, is_strict=True) if doc_ids is None else _examine(store, stage, doc_ids)
    for each in documents:
        if isinstance(each, Finding):
            if each.level == "error":
                notes.append(Note(each.code, each.where, each.task_id, each.message))
        elif each.task_id in found:
            parent = each.parent_doc_id
            if parent is not None and not is_doc_id(parent):
                message = f"its parent_doc_id {parent!r} is not a doc id"
                notes.append(Note("malformed-id", each.location, each.task_id, message))
            else:  # a document that is replaced during the scan may come twice
                run_id, salt = each.facts.id_from or (None, None)
                is_own = bool(run_id or salt)
                is_replicate = salt is not None and parse_path(salt, depth) is not None
                made = read_time(each) or file_time(store, stage, each.doc_id) or _LONG_AGO
                candidate = _Candidate(made, each.doc_id, parent, each.inputs, is_own, is_replicate)
                found[each.task_id].setdefault(each.doc_id, candidate)
    ordered = {task_id: sorted(by_id.values(), key=lambda each: each.doc_id) for task_id, by_id in found.items()}
    for candidates in ordered.values():
        candidates.sort(key=lambda each: each.made, reverse=True)
    return ordered, notes


def _examine(store: DocsStore, stage: str, doc_ids: set[str]) -> Iterator[StoredDocument | Finding]:
    """Yield these documents of a stage, and a finding for each fault."""

    def examine_one(doc_id: str) -> list[StoredDocument | Finding]:
        return list(examine(store.backend, stage, doc_id, verify=False, stale_after=0, is_strict=True))

    for found in store.backend.each(examine_one, sorted(doc_ids)):
        yield from found

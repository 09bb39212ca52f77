"""Reserve ids: fill the doc ids of rows and their parents before the documents exist."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import attrs

from docid.core.ids import check_text, is_doc_id, is_missing, reserve_doc_id
from docid.core.replicates import find_depth
from docid.core.stages import DEFAULT_STAGES, Stages, check_stages
from docid.errors import InvalidName, Problem, TaskTableError
from docid.tables.faults import Faults
from docid.tables.headers import find_misspelling, show_name
from docid.tables.parents import BySalt, Parent, choose_parent, index_parents, parse_rows
from docid.tables.parsing import IdCount
from docid.tables.rows import TaskRow, find_lookalike, schema_of
from docid.tables.tasks import NO_TABLE, Pass, Row, TaskRows, TaskTable, check_fresh, check_type, number_rows

_DocIds = Mapping[str, str | BySalt]
_Read = Callable[[Faults, Pass], Iterator[tuple[int, Any]]]
_Repeat = Callable[[Pass], Iterator[tuple[int, Any]]]


def reserve_tasks(
    rows: Iterable[Row | Mapping[str, Any]],
    row_type: type[Row],
    run_id: str | None = None,
    salt: str | None = None,
    *,
    parents: Mapping[str, str] | Iterable[TaskRow | Mapping[str, Any]] | None = None,
    stages: Stages = DEFAULT_STAGES,
) -> TaskRows[Row]:
    """Fill empty doc ids of rows, and empty `parent_doc_id` from the parents' table. Ids that are set stay.

    docid checks all rows before it yields the first one, and raises all faults together. To do so it reads `rows`
    twice; of an iterator, such as a generator, it holds the rows in memory. It notes the run id and salt of a new id in
    the row, as `doc_run_id` and `doc_salt`.

    Args:
        rows: rows of one stage, from `read_tasks(…, reserved=False)` or built in code; or mappings whose keys are
            columns, such as rows of `csv.DictReader` or of a database.
        row_type: the class of the rows.
        run_id, salt: as for `reserve_doc_id`, for every row without a `doc_id`; by default, the row's own `doc_run_id`
            and `doc_salt`.
        parents: the parents' rows, or a mapping of their task ids to doc ids. A row names its parent's task id in the
            column `<parent stage>_task_id`. Of several parents with this task id, it takes the replicate that the row's
            salt names; see `replicates`. A new row without a salt takes over that of its only parent, if that is a
            replicate. None leaves `parent_doc_id` unchanged.
        stages: the stages of the pipeline, for rows of replicates.

    Raises:
        TaskTableError: two rows with the same doc id; a task id that the id scheme refuses; a parent that is missing
            from `parents`, or not reserved.
        InvalidName: a run id or salt that the id scheme refuses.
        TypeError: a row that is not a `row_type`.
        ValueError: parents that are not of the row type's parent stage; an iterator that is used up.

    Example:
        >>> from docid import DraftTask, EssayTask
        >>> drafts = list(reserve_tasks([DraftTask(task_id="t-1")], DraftTask))
        >>> essays = [EssayTask(task_id="t-1__x", draft_task_id="t-1")]
        >>> [essay] = reserve_tasks(essays, EssayTask, parents=drafts)
        >>> essay.parent_doc_id == drafts[0].doc_id
        True
    """
    return reserve_with(rows, row_type, run_id, salt, parents=parents, stages=stages)


def reserve_with(
    rows: Iterable[Row | Mapping[str, Any]],
    row_type: type[Row],
    run_id: str | None = None,
    salt: str | None = None,
    *,
    parents: Mapping[str, str] | Iterable[TaskRow | Mapping[str, Any]] | None = None,
    stages: Stages = DEFAULT_STAGES,
    link: Callable[[list[Row]], list[Row]] | None = None,
) -> TaskRows[Row]:
    """Do what `reserve_tasks` does. `link` may fill ids of the rows first, when their parents are known."""
    schema_of(row_type)  # raises TypeError for any other class
    check_noted_run_and_salt(run_id, salt)
    check_fresh(rows, "rows")
    file, columns, state, delimiter = NO_TABLE
    if isinstance(rows, (TaskRows, TaskTable)):
        file, columns, state, delimiter = rows.file, rows.columns, rows.state, rows.delimiter
    doc_ids: _DocIds | None = None
    column = f"{row_type.parent_stage}_task_id"
    depth = find_depth(row_type.stage, row_type.parent_stage, check_stages(stages))
    if parents is not None and row_type.parent_stage is not None:
        stage = row_type.parent_stage
        doc_ids = cast("_DocIds", parents) if isinstance(parents, Mapping) else index_parents(parents, stage)
        _check_parent_column(file, columns, column)
    if columns:  # also for a table without rows
        filled = ("parent_doc_id", "doc_id") if row_type.parent_stage else ("doc_id",)
        filled = (*(("doc_salt",) if _have_salts(doc_ids) else ()), *filled)  # rows may take over the salt of a parent
        columns = tuple(dict.fromkeys((*columns, *filled)))
    reserver = _Reserver(row_type, run_id, salt, doc_ids, depth, file, link)
    return TaskRows(row_type, file, columns, reserver.reserve(rows), state, delimiter)


def _have_salts(parents: _DocIds | None) -> bool:
    """Return whether a parent has a salt."""
    found = [] if parents is None else parents.values()
    return any(isinstance(each, dict) and each.keys() != {None} for each in found)


def _check_parent_column(file: str, columns: tuple[str, ...], column: str) -> None:
    """Raise a `TaskTableError` for a table without the column of the parents' task ids, or with one that looks so."""
    other = find_misspelling(column, columns)
    if other or (columns and not {column, "parent_doc_id"} & set(columns)):
        hint = f"is {show_name(other, column)} misspelled?" if other else "docid needs it to find the parents"
        raise TaskTableError([Problem(file, 1, column, "", f"missing from the header; {hint}")])


def check_noted_run_and_salt(run_id: str | None, salt: str | None) -> None:
    """Raise `InvalidName` for a run id or salt that the id scheme refuses, or that a table reads as missing."""
    for argument, text in (("run_id", run_id), ("salt", salt)):
        if text is not None and is_missing(check_text(text, argument)):
            raise InvalidName(argument, text, "task tables read this word as missing", "another word")


class _Numbered:
    """Rows of a collection with their numbers, as often as needed."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        return number_rows(self._rows)


def _note_repeated(faults: Faults, number: int, doc_id: str, other: int, row: TaskRow) -> None:
    """Note that an earlier row has the doc id of a row."""
    column, text, remedy = f"{row.stage}_task_id", row.task_id, "set its doc_salt"
    if row.doc_id:
        column, text = "doc_id", row.doc_id
        remedy = "empty its doc_id (and set doc_salt, if its task is the same)"
    if number == other:
        wrong = f"two replicates of this row have the doc id {doc_id}"
        remedy = "pass no salt: each replicate has its own; and empty a doc_id that is that of another replicate"
        faults.add(number, column, text, f"{wrong}; {remedy}")
        return
    wrong = f"same doc id {doc_id} as row {other}; expected one row per document"
    faults.add(number, column, text, f"{wrong}. Remove this row, or {remedy}")


class _Reserver(NamedTuple):
    """The arguments of `reserve_tasks`."""

    row_type: type[TaskRow]
    run_id: str | None
    salt: str | None
    parents: _DocIds | None
    depth: int | None
    file: str
    link: Callable[[list[Any]], list[Any]] | None = None

    def reserve(self, rows: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Yield the reserved rows with their numbers, after a pass over all rows that finds every fault."""
        faults, seen, ids = Faults(self.file), Pass(), IdCount()
        read, repeat = self._read_twice(rows, faults)
        if self.link is not None:
            read, repeat = self._link_first(self.link, read(faults, seen))
        for _, row, changes in self._fill(read(faults, seen), faults):
            ids.add(changes.get("doc_id", row.doc_id))

        def fill_again() -> Iterator[tuple[int, str, TaskRow]]:
            ignored = Faults(self.file)
            for number, row, changes in self._fill(read(ignored, Pass()), ignored):
                yield number, changes.get("doc_id", row.doc_id), row

        for number, doc_id, other, row in ids.find_repeated(fill_again()):
            if doc_id:  # empty if it cannot be derived
                _note_repeated(faults, number, doc_id, other, row)
        faults.sort()
        faults.raise_any()
        for number, row, changes in self._fill(repeat(seen), faults):
            yield number, attrs.evolve(row, **changes) if changes else row

    def _read_twice(self, rows: Iterable[Any], faults: Faults) -> tuple[_Read, _Repeat]:
        """Return functions that read rows: the first for the first pass, the second for the next ones.

        An iterator gives its rows once, so docid holds them in memory.
        """
        numbered: Iterable[tuple[int, Any]]
        if isinstance(rows, TaskTable):
            return rows.scan, rows.repeat
        if isinstance(rows, Iterator):
            numbered = []
            try:
                numbered.extend(number_rows(rows))
            except TaskTableError as error:  # faults in the table of the rows
                faults.take_over(error)
        else:
            numbered = _Numbered(rows)

        def read(faults: Faults, _: Pass) -> Iterator[tuple[int, Any]]:
            return parse_rows(numbered, self.row_type, faults)

        return read, lambda seen: read(Faults(self.file), seen)

    def _link_first(
        self, link: Callable[[list[Any]], list[Any]], numbered: Iterable[tuple[int, Any]]
    ) -> tuple[_Read, _Repeat]:
        """Return functions that read rows in which `link` has filled ids."""
        held = []
        for number, row in numbered:
            check_type(row, self.row_type)
            changes = self._find_parent(number, row, Faults(self.file))  # `_fill` notes its faults
            held.append((number, attrs.evolve(row, **changes) if changes else row))
        has_parents = self.parents is not None and self.row_type.parent_stage is not None
        to_link = [at for at, (_, row) in enumerate(held) if not has_parents or row.parent_doc_id]
        for at, row in zip(to_link, link([held[at][1] for at in to_link]), strict=True):
            held[at] = held[at][0], row
        return lambda _faults, _seen: iter(held), lambda _seen: iter(held)

    def _fill(self, numbered: Iterable[tuple[int, Any]], faults: Faults) -> Iterator[tuple[int, Any, dict[str, Any]]]:
        """Yield each row with its number and the changes that fill its ids; note the faults of both."""
        for number, row in numbered:
            check_type(row, self.row_type)
            if found := find_lookalike(self.row_type, tuple(row.extra)):
                faults.add(number, found[0], "", found[1])
            changes = self._find_parent(number, row, faults)
            changes |= self._derive(number, row, changes.get("doc_salt"), faults)
            if (own := f"{row.stage}/{changes.get('doc_id')}") in row.input_doc_ids:
                faults.add(number, "input_doc_ids", own, "the document of this row; expected other documents")
                changes.pop("doc_id")
            yield number, row, changes

    def _derive(self, number: int, row: TaskRow, salt: str | None, faults: Faults) -> dict[str, str]:
        """Return a new doc id for a row without one, with the run id and salt used for it; `salt` is the parent's."""
        if row.doc_id:
            return {}
        run_id, salt = self.run_id or row.doc_run_id, self.salt or row.doc_salt or salt
        try:
            doc_id = reserve_doc_id(self.row_type.stage, row.task_id, run_id, salt)
        except InvalidName as error:
            column = {"task_id": f"{row.stage}_task_id", "run_id": "doc_run_id", "salt": "doc_salt"}[error.argument]
            faults.add(number, column, str(error.value), f"{error.problem}; expected {error.expected}")
            return {}
        noted = {"doc_id": doc_id, "doc_run_id": run_id, "doc_salt": salt}
        return {name: text for name, text in noted.items() if text is not None}

    def _find_parent(self, number: int, row: TaskRow, faults: Faults) -> dict[str, str]:
        """Return the `parent_doc_id` for a row without one; and the parent's salt, if a new row is to have it."""
        if row.parent_doc_id or self.parents is None:
            return {}
        column = f"{self.row_type.parent_stage}_task_id"
        task_id = row.cell(column)
        found = self.parents.get(task_id, "")
        salt = row.doc_salt if row.doc_id else self.salt or row.doc_salt
        doc_id, parent_salt, wrong = (
            choose_parent(found, salt, self.depth) if isinstance(found, dict) else Parent(found)
        )
        if wrong:
            faults.add(number, "doc_salt", salt or "", wrong)
            return {}
        if is_missing(task_id):
            wrong = "empty; expected the parent's task id"
        elif not self.parents:
            wrong = "the argument parents has no rows; an iterator gives its rows once, so pass a list or a table"
        elif task_id not in self.parents:
            wrong = "not in the parents' table; expected a task id from it"
        elif doc_id is None:
            wrong = "has several doc ids in the parents' table; set parent_doc_id yourself"
            wrong += "" if self.depth else ", or pass stages if they are replicates"
        elif not doc_id:
            wrong = "has no doc_id in the parents' table; reserve that table first"
        elif not is_doc_id(doc_id):
            wrong = f"its doc_id in the parents' table, {doc_id!r}, is not a doc id"
        elif parent_salt is None or salt is not None or row.doc_id:
            return {"parent_doc_id": doc_id}
        else:
            return {"parent_doc_id": doc_id, "doc_salt": parent_salt}
        faults.add(number, column, task_id, wrong)
        return {}

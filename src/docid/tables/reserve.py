"""Reserving: filling the doc ids of rows, and of their parents, before the documents exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import attrs

from docid.core.ids import check_text, is_doc_id, is_missing, reserve_doc_id
from docid.errors import InvalidName, Problem, TaskTableError
from docid.tables.csvfile import Faults, find_misspelling
from docid.tables.rows import TaskRow, schema_of
from docid.tables.tasks import Row, TaskRows, check_row, check_type, number_rows


def reserve_tasks(
    rows: Iterable[Row],
    row_type: type[Row],
    run_id: str | None = None,
    salt: str | None = None,
    *,
    parents: Mapping[str, str] | Iterable[TaskRow] | None = None,
) -> TaskRows[Row]:
    """Fill `doc_id`, and `parent_doc_id` from the parent table, where they are empty; keep them where they are set.

    A stream: it gives rows as it takes them, and raises all faults together at the end, as `read_tasks` does. A row
    keeps the run id or salt of its id (`doc_run_id`, `doc_salt`); these are used for a row without `doc_id`, unless
    others are given here.

    Args:
        rows: rows of one stage, from `read_tasks(…, reserved=False)` or made by hand.
        row_type: their class.
        run_id, salt: as for `reserve_doc_id`, for every row without `doc_id`.
        parents: the parents' rows, or their doc ids by task id. A row finds its parent by its column
            `<parent stage>_task_id`. None leaves `parent_doc_id` as it is.

    Raises:
        TaskTableError: two rows with one doc id; a task id that the id scheme refuses; a parent that is not among
            `parents`, or not reserved.
        InvalidName: a run id or salt that the id scheme refuses.
        TypeError: rows that are not of `row_type`.
        ValueError: parents of another stage than the row type's parent stage.

    Example:
        >>> from docid import DraftTask, EssayTask
        >>> drafts = list(reserve_tasks([DraftTask(task_id="t-1")], DraftTask))
        >>> essays = [EssayTask(task_id="t-1__x", draft_task_id="t-1")]
        >>> [essay] = reserve_tasks(essays, EssayTask, parents=drafts)
        >>> essay.parent_doc_id == drafts[0].doc_id
        True
    """
    schema_of(row_type)  # raises TypeError for a class that is no row type
    check_noted(run_id, salt)
    file, columns, state = (rows.file, rows.columns, rows.state) if isinstance(rows, TaskRows) else ("", (), None)
    doc_ids = None
    if parents is not None and row_type.parent_stage is not None:
        doc_ids = _map_doc_ids(parents, row_type.parent_stage)
        column = f"{row_type.parent_stage}_task_id"
        other = find_misspelling(column, columns)
        if other or (columns and not {column, "parent_doc_id"} & set(columns)):
            hint = f"is {other!r} meant for it?" if other else "expected it, to find the parents by"
            raise TaskTableError([Problem(file, 1, column, "", f"missing from the header; {hint}")])
    if columns:  # a table without rows gets the new columns too
        filled = ("parent_doc_id", "doc_id") if row_type.parent_stage else ("doc_id",)
        columns = tuple(dict.fromkeys((*columns, *filled)))
    reserver = _Reserver(row_type, run_id, salt, doc_ids, Faults(file))
    return TaskRows(row_type, file, columns, reserver.reserve(rows), state)


def check_noted(run_id: str | None, salt: str | None) -> None:
    """Raise `InvalidName` for a run id or salt that the id scheme refuses, or that a table would read as missing."""
    for argument, text in (("run_id", run_id), ("salt", salt)):
        if text is not None and is_missing(check_text(text, argument)):
            raise InvalidName(argument, text, "a word that means missing in a table", "another text")


def _map_doc_ids(parents: Mapping[str, str] | Iterable[TaskRow], stage: str) -> Mapping[str, str | None]:
    """Return the parents' doc ids by task id; None for a task id of several doc ids."""
    if isinstance(parents, Mapping):
        return cast("Mapping[str, str | None]", parents)
    found: dict[str, str | None] = {}
    for row in parents:
        check_row(row, "parents", stage)
        found[row.task_id] = row.doc_id if found.get(row.task_id, row.doc_id) == row.doc_id else None
    return found


class _Reserver(NamedTuple):
    """The arguments of `reserve_tasks`, and the faults so far."""

    row_type: type[TaskRow]
    run_id: str | None
    salt: str | None
    parents: Mapping[str, str | None] | None
    faults: Faults

    def reserve(self, rows: Iterable[Row]) -> Iterator[tuple[int, Row]]:
        """Yield the reserved rows with their numbers, up to the first fault; raise all faults at the end."""
        first_row: dict[str, int] = {}
        try:
            for number, row in number_rows(rows):
                check_type(row, self.row_type)
                changes: dict[str, Any] = self._derive(number, row) | self._find_parent(number, row)
                if doc_id := changes.get("doc_id", row.doc_id):
                    other = first_row.setdefault(doc_id, number)
                    if other != number:
                        column, text, remedy = f"{row.stage}_task_id", row.task_id, "give it a doc_salt"
                        if row.doc_id:
                            column, text = "doc_id", row.doc_id
                            remedy = "empty its doc_id (and, if its task is the same, give it a doc_salt)"
                        expected = f"expected one row a document: remove one, or {remedy}"
                        wrong = f"comes to the doc id {doc_id}, as row {other} does; {expected}"
                        self.faults.add(number, column, text, wrong)
                if self.faults.count == 0:
                    yield number, attrs.evolve(row, **changes) if changes else row
        except TaskTableError as error:  # the rows' own table is faulty
            self.faults.take_over(error)
        self.faults.raise_any()

    def _derive(self, number: int, row: TaskRow) -> dict[str, str]:
        """Return the doc id of a row that has none, with the run id and salt it was derived from."""
        if row.doc_id:
            return {}
        run_id, salt = self.run_id or row.doc_run_id, self.salt or row.doc_salt
        try:
            doc_id = reserve_doc_id(self.row_type.stage, row.task_id, run_id, salt)
        except InvalidName as error:
            column = {"task_id": f"{row.stage}_task_id", "run_id": "doc_run_id", "salt": "doc_salt"}[error.argument]
            self.faults.add(number, column, str(error.value), f"{error.problem}; expected {error.expected}")
            return {}
        noted = {"doc_id": doc_id, "doc_run_id": run_id, "doc_salt": salt}
        return {name: text for name, text in noted.items() if text is not None}

    def _find_parent(self, number: int, row: TaskRow) -> dict[str, str]:
        """Return the `parent_doc_id` of a row that has none."""
        if row.parent_doc_id or self.parents is None:
            return {}
        column = f"{self.row_type.parent_stage}_task_id"
        task_id = row.cell(column)
        doc_id = self.parents.get(task_id, "")
        if is_missing(task_id):
            wrong = "empty; expected the task id of the parent, to find its doc id by"
        elif task_id not in self.parents:
            wrong = "not a task id of the parents' table; expected one of them"
        elif doc_id is None:
            wrong = "the task id of more than one row of the parents' table; expected parent_doc_id set by hand"
        elif not doc_id:
            wrong = "its row in the parents' table has no doc_id; reserve that table first"
        elif not is_doc_id(doc_id):
            wrong = f"its parent's doc_id {doc_id!r} is no doc id"
        else:
            return {"parent_doc_id": doc_id}
        self.faults.add(number, column, task_id, wrong)
        return {}

"""Reserve ids: fill the doc ids of rows and their parents before the documents exist."""

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
    """Fill empty doc ids of rows, and empty `parent_doc_id` from the parents' table. Ids that are set stay.

    docid yields each reserved row as it takes it from `rows`, and raises all faults together at the end, like
    `read_tasks`. It notes the run id and salt of a new id in the row, as `doc_run_id` and `doc_salt`.

    Args:
        rows: rows of one stage, from `read_tasks(…, reserved=False)` or built in code.
        row_type: the class of the rows.
        run_id, salt: as for `reserve_doc_id`, for every row without a `doc_id`; by default, the row's own `doc_run_id`
            and `doc_salt`.
        parents: the parents' rows, or a mapping of their task ids to doc ids. A row names its parent's task id in the
            column `<parent stage>_task_id`. None leaves `parent_doc_id` unchanged.

    Raises:
        TaskTableError: two rows with the same doc id; a task id that the id scheme refuses; a parent that is missing
            from `parents`, or not reserved.
        InvalidName: a run id or salt that the id scheme refuses.
        TypeError: a row that is not a `row_type`.
        ValueError: parents that are not of the row type's parent stage.

    Example:
        >>> from docid import DraftTask, EssayTask
        >>> drafts = list(reserve_tasks([DraftTask(task_id="t-1")], DraftTask))
        >>> essays = [EssayTask(task_id="t-1__x", draft_task_id="t-1")]
        >>> [essay] = reserve_tasks(essays, EssayTask, parents=drafts)
        >>> essay.parent_doc_id == drafts[0].doc_id
        True
    """
    schema_of(row_type)  # raises TypeError for any other class
    check_noted_run_and_salt(run_id, salt)
    file, columns, state = (rows.file, rows.columns, rows.state) if isinstance(rows, TaskRows) else ("", (), None)
    doc_ids = None
    if parents is not None and row_type.parent_stage is not None:
        doc_ids = _map_doc_ids(parents, row_type.parent_stage)
        column = f"{row_type.parent_stage}_task_id"
        other = find_misspelling(column, columns)
        if other or (columns and not {column, "parent_doc_id"} & set(columns)):
            hint = f"is {other!r} misspelled?" if other else "docid needs it to find the parents"
            raise TaskTableError([Problem(file, 1, column, "", f"missing from the header; {hint}")])
    if columns:  # also for a table without rows
        filled = ("parent_doc_id", "doc_id") if row_type.parent_stage else ("doc_id",)
        columns = tuple(dict.fromkeys((*columns, *filled)))
    reserver = _Reserver(row_type, run_id, salt, doc_ids, Faults(file))
    return TaskRows(row_type, file, columns, reserver.reserve(rows), state)


def check_noted_run_and_salt(run_id: str | None, salt: str | None) -> None:
    """Raise `InvalidName` for a run id or salt that the id scheme refuses, or that a table reads as missing."""
    for argument, text in (("run_id", run_id), ("salt", salt)):
        if text is not None and is_missing(check_text(text, argument)):
            raise InvalidName(argument, text, "task tables read this word as missing", "another word")


def _map_doc_ids(parents: Mapping[str, str] | Iterable[TaskRow], stage: str) -> Mapping[str, str | None]:
    """Return the parents' doc ids by task id; None for a task id with several doc ids."""
    if isinstance(parents, Mapping):
        return cast("Mapping[str, str | None]", parents)
    found: dict[str, str | None] = {}
    for row in parents:
        check_row(row, "parents", stage)
        found[row.task_id] = row.doc_id if found.get(row.task_id, row.doc_id) == row.doc_id else None
    return found


class _Reserver(NamedTuple):
    """The arguments of `reserve_tasks`, and the faults found so far."""

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
                        column, text, remedy = f"{row.stage}_task_id", row.task_id, "set its doc_salt"
                        if row.doc_id:
                            column, text = "doc_id", row.doc_id
                            remedy = "empty its doc_id (and set doc_salt, if its task is the same)"
                        wrong = f"same doc id {doc_id} as row {other}; expected one row per document"
                        self.faults.add(number, column, text, f"{wrong}. Remove this row, or {remedy}")
                if self.faults.count == 0:
                    yield number, attrs.evolve(row, **changes) if changes else row
        except TaskTableError as error:  # faults in the table of the rows
            self.faults.take_over(error)
        self.faults.raise_any()

    def _derive(self, number: int, row: TaskRow) -> dict[str, str]:
        """Return a new doc id for a row without one, with the run id and salt used for it."""
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
        """Return the `parent_doc_id` for a row without one."""
        if row.parent_doc_id or self.parents is None:
            return {}
        column = f"{self.row_type.parent_stage}_task_id"
        task_id = row.cell(column)
        doc_id = self.parents.get(task_id, "")
        if is_missing(task_id):
            wrong = "empty; expected the parent's task id"
        elif task_id not in self.parents:
            wrong = "not in the parents' table; expected a task id from it"
        elif doc_id is None:
            wrong = "has several doc ids in the parents' table; set parent_doc_id yourself"
        elif not doc_id:
            wrong = "has no doc_id in the parents' table; reserve that table first"
        elif not is_doc_id(doc_id):
            wrong = f"its doc_id in the parents' table, {doc_id!r}, is not a doc id"
        else:
            return {"parent_doc_id": doc_id}
        self.faults.add(number, column, task_id, wrong)
        return {}

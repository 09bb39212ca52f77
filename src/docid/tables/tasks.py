"""Task tables: CSV files of one row a document, read and written cell by cell as text.

The format is described in `docs/tables.md`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, Self, TypeVar, cast

import attrs

from docid.core.ids import check_text, is_doc_id, reserve_doc_id
from docid.core.stages import DEFAULT_STAGES, Stages
from docid.core.task import is_missing, source_of
from docid.errors import InvalidName, Problem, TaskTableError
from docid.tables.csvfile import (
    Faults,
    FileState,
    Shape,
    TableWriter,
    check_header,
    check_unchanged,
    is_damaged,
    misspelt,
    names_shown,
    open_table,
    picked,
    records_of,
    shape_of,
    state_of,
)
from docid.tables.rows import (
    Column,
    DraftTask,
    EssayTask,
    EvaluationTask,
    TaskRow,
    fault_of,
    plain_text,
    row_type_of,
    schema_of,
    texts_of,
)

__all__ = [
    "DraftTask",
    "EssayTask",
    "EvaluationTask",
    "TaskRow",
    "TaskRows",
    "lineages_of",
    "read_lineages",
    "read_tasks",
    "reserve_tasks",
    "row_type_of",
    "stage_of_table",
    "write_tasks",
]

Row = TypeVar("Row", bound=TaskRow)


class TaskRows(Iterator[Row], Generic[Row]):
    """A stream of task rows, and what is known of their table: an iterator of rows, to be read once.

    Attributes:
        row_type: the class of the rows.
        file: the path of the table as it was given; empty where there is none.
        columns: the columns of the table, in order.
        row: the number of the row that was given last, as a spreadsheet counts, the header being row 1.
        state: what the file was when it was opened, which `write_tasks` compares; None where there is none.
    """

    def __init__(
        self,
        row_type: type[Row],
        file: str,
        columns: tuple[str, ...],
        rows: Iterator[tuple[int, Row]],
        state: FileState | None = None,
    ) -> None:
        self.row_type = row_type
        self.file = file
        self.columns = columns
        self.state = state
        self.row = 1
        self._rows = rows

    def __repr__(self) -> str:
        return f"<TaskRows of {self.row_type.__name__} from {self.file or 'memory'}, at row {self.row}>"

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Row:
        self.row, row = next(self._rows)
        return row


def read_tasks(path: str | os.PathLike[str], row_type: type[Row], *, reserved: bool = True) -> TaskRows[Row]:
    r"""Read a task table as a stream of rows.

    UTF-8 with or without a BOM, `\n` or `\r\n`, quoted newlines; gzip where the name ends in `.gz`. Every cell's
    text is kept as it is. In an id column blank, `nan`, `null` and `none` mean "missing".

    The header is read at once. At the first faulty row no more rows are given; the rest of the table is still
    looked at, and all faults are raised together at the end.

    Args:
        path: the table.
        row_type: the `TaskRow` subclass of its stage.
        reserved: the table is to be run or audited: every row has its `doc_id`, and its `parent_doc_id` where the
            stage has a parent. With False these may be empty or their columns missing.

    Raises:
        TaskTableError: faults of the header at once, faults of rows at the end; with file, row, column, value and
            what was expected of each.
        OSError: the file cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "draft_generation_tasks.csv")
        >>> _ = path.write_text("draft_task_id,combo_id,note\nt-1,c-1,by hand\n")
        >>> [row] = read_tasks(path, DraftTask, reserved=False)
        >>> row.task_id, row.combo_id, row.extra, row.doc_id
        ('t-1', 'c-1', {'note': 'by hand'}, '')
    """
    file = os.fspath(path)
    table = _read_table(file, row_type, reserved=reserved)
    # The first thing that the generator gives is the header, so that its faults are raised here.
    columns, state = cast("tuple[tuple[str, ...], FileState]", next(table))
    return TaskRows(row_type, file, columns, cast("Iterator[tuple[int, Row]]", table), state)


RowLineage = tuple[str, str, str, str, str, str]
"""The cells of a row that say what it is: task id, doc id, parent, source, run id, salt; empty where there is none."""


def read_lineages(path: str, row_type: type[TaskRow]) -> Iterator[tuple[int, RowLineage]]:
    """Read of a reserved table the cells that say what each row is, as they stand, with the rows' numbers.

    A stream, at a fifth of what `read_tasks` costs: what a cell holds is the caller's to judge.

    Raises:
        TaskTableError: no such table's header, at the first row; rows that are damaged, at the end. They are left out.
        OSError: the file cannot be read.
    """
    faults = Faults(path)
    with open_table(path) as stream:
        records = records_of(stream, faults)
        columns = header_of(records, row_type, faults, reserved=True)
        wanted = [f"{row_type.stage}_task_id", "doc_id", "", "source_doc_id", "doc_run_id", "doc_salt"]
        if row_type.parent_stage is not None:
            wanted[2] = "parent_doc_id"
        yield from cast("Iterator[tuple[int, RowLineage]]", picked(records, columns, wanted, faults))
    faults.raise_any()


def lineages_of(rows: Iterable[TaskRow], stage: str) -> Iterator[tuple[int, RowLineage]]:
    """Return the same of rows, with their numbers in their table, or else their positions counted from 1.

    Raises:
        ValueError: a row of another stage.
    """
    for position, row in enumerate(rows, 1):
        if getattr(row, "stage", None) != stage:
            check_row(row, "tables")
            raise ValueError(f"tables: expected rows of stage {stage!r}, got a row of stage {row.stage!r}")
        number = rows.row if isinstance(rows, TaskRows) else position
        parent = row.parent_doc_id or ""
        yield number, (row.task_id, row.doc_id, parent, source_of(row), row.doc_run_id or "", row.doc_salt or "")


def reserve_tasks(
    rows: Iterable[Row],
    row_type: type[Row],
    run_id: str | None = None,
    salt: str | None = None,
    *,
    parents: Mapping[str, str] | Iterable[TaskRow] | None = None,
) -> TaskRows[Row]:
    """Fill `doc_id`, and `parent_doc_id` from the parent table, where they are empty; keep them where they are set.

    A stream: rows come out as they go in, and all faults are raised together at the end, as in `read_tasks`.
    A run id or salt that an id was derived with is noted in the row (`doc_run_id`, `doc_salt`); a row that
    carries one already is derived with it, unless another is given here.

    Args:
        rows: rows of one stage, from `read_tasks(…, reserved=False)` or made by hand.
        row_type: their class.
        run_id, salt: as for `reserve_doc_id`, for every row that has no `doc_id`.
        parents: the parents' rows, or their doc ids by task id; a row finds its parent by its column
            `<parent stage>_task_id`. None leaves `parent_doc_id` as it is.

    Raises:
        TaskTableError: two rows that come to one doc id, both named; a task id that the id scheme refuses; a parent
            that is not among `parents`, or not reserved.
        InvalidName: a run id or salt that the id scheme refuses.
        TypeError: rows that are not of `row_type`.
        ValueError: parents of another stage than the row type's parent stage.

    Example:
        >>> drafts = list(reserve_tasks([DraftTask(task_id="t-1")], DraftTask))
        >>> essays = [EssayTask(task_id="t-1__x", draft_task_id="t-1")]
        >>> [essay] = reserve_tasks(essays, EssayTask, parents=drafts)
        >>> essay.parent_doc_id == drafts[0].doc_id
        True
    """
    schema_of(row_type)  # says what is wrong with the class, if anything is
    check_noted(run_id, salt)
    file, columns, state = (rows.file, rows.columns, rows.state) if isinstance(rows, TaskRows) else ("", (), None)
    by_task = None
    if parents is not None and row_type.parent_stage is not None:
        by_task = _doc_ids_by_task(parents, row_type.parent_stage)
        column = f"{row_type.parent_stage}_task_id"
        other = misspelt(column, columns)
        if other or (columns and not {column, "parent_doc_id"} & set(columns)):
            hint = f"is {other!r} meant for it?" if other else "expected it, to find the parents by"
            expected = f"missing from the header; {hint}"
            raise TaskTableError([Problem(file, 1, column, "", expected)])
    if columns:
        # A table without rows gets the columns too.
        filled = (*(("parent_doc_id",) if row_type.parent_stage else ()), "doc_id")
        columns = (*columns, *(name for name in filled if name not in columns))
    reserver = _Reserver(row_type, run_id, salt, by_task, Faults(file))
    return TaskRows(row_type, file, columns, reserver.rows(rows), state)


def check_noted(run_id: str | None, salt: str | None) -> None:
    """Refuse a run id or salt that a table cannot note.

    Raises:
        InvalidName: the id scheme refuses it, or in a table it means that there is none.
    """
    for argument, text in (("run_id", run_id), ("salt", salt)):
        if text is not None and is_missing(check_text(text, argument)):
            raise InvalidName(argument, text, "a word that means missing in a table", "another text")


def write_tasks(
    path: str | os.PathLike[str],
    rows: Iterable[TaskRow],
    *,
    row_type: type[TaskRow] | None = None,
    like: str | os.PathLike[str] | None = None,
) -> int:
    """Write rows as a task table, in place of what is at `path`, atomically: a reader sees the old table or the new.

    Every cell's text survives. Columns stand in the order of the rows' own table, new ones last; where there is
    none: the task id, `parent_doc_id`, the row type's fields, the extra columns, `doc_id`. LF and minimal quoting;
    gzip where the name ends in `.gz`. Whatever is raised before the one rename that puts the table in place, by the
    rows too, leaves the old one as it was.

    The rows may stream from the very table that is replaced (`TaskRows`). What somebody else writes into that table
    while they do is not undone: the table is then refused, up to a moment before the rename.

    Args:
        path: the table.
        rows: rows of one stage; a list, or a stream such as `reserve_tasks(read_tasks(…), …)`.
        row_type: the class of the rows (that of the first, if not given); gives a table without rows its header,
            where the stream does not know it.
        like: a table whose line ending and BOM are to be used, `path` itself for an edit in place; it gives the
            header to a table without rows too.

    Returns:
        How many rows were written.

    Raises:
        TaskTableError: a value that `read_tasks` would not give back: of another type than its field, text that
            UTF-8 cannot hold, a column both as a field and in `extra`; a faulty table given as `like`; a table whose
            rows are streamed into itself, and which has changed meanwhile.
        TypeError: rows of more than one class.
        ValueError: no rows, and nothing that says what the header is.
        OSError: the file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "note_tasks.csv")
        >>> Note = TaskRow.of("note")
        >>> write_tasks(path, reserve_tasks([Note(task_id="t-1", extra={"about": "tides, and moss"})], Note))
        1
        >>> print(path.read_text(), end="")
        note_task_id,about,doc_id
        t-1,"tides, and moss",kc0flifbmrcq40w5
    """
    columns: tuple[str, ...] = getattr(rows, "columns", ())
    row_type = row_type or getattr(rows, "row_type", None)
    if row_type is not None:
        schema_of(row_type)  # says what is wrong with the class, if anything is
    shape = Shape() if like is None else shape_of(os.fspath(like))
    with TableWriter(os.fspath(path), shape) as writer:
        for number, row in enumerate(rows, 2):  # as a spreadsheet will number it
            row_type = row_type or check_row(row)
            _check_type(row, row_type)
            if fault := fault_of(row):
                column, value, expected = fault
                raise TaskTableError([Problem(writer.file, number, column, str(value), expected)])
            writer.add(number, texts_of(row))
        if writer.count == 0:
            header = columns or shape.columns
            if not header and row_type is not None:
                header = tuple(column.name for column in schema_of(row_type).columns if column.always)
            if not header:
                raise ValueError("rows: none, so the header is unknown; pass row_type or like")
            writer.start(header)
        if isinstance(rows, TaskRows) and rows.state and os.path.realpath(rows.file) == os.path.realpath(writer.file):
            check_unchanged(writer.file, rows.state)
        writer.commit()
        return writer.count


def check_row(row: object, argument: str = "rows") -> type[TaskRow]:
    """Return the class of a task row.

    Raises:
        TypeError: it is none; of a path the characters are given here, of a data frame the columns.
    """
    if not isinstance(row, TaskRow):
        hint = "docid.frames.frame_to_tasks makes them of a data frame, read_tasks of a file"
        raise TypeError(f"{argument}: expected rows of task tables (TaskRow), got {type(row).__name__}; {hint}")
    return type(row)


def _check_type(row: TaskRow, row_type: type[TaskRow]) -> None:
    if not isinstance(row, row_type):
        expected, got = row_type.__name__, check_row(row).__name__
        if expected == got:
            expected, got = f"{row_type.__module__}.{expected}", f"{type(row).__module__}.{got}"
        raise TypeError(f"rows: expected rows of {expected}, got {got}")


def stage_of_table(path: str | os.PathLike[str], stages: Stages = DEFAULT_STAGES) -> str | None:
    """Return the stage whose task table has this file name; None where the name is no task table's.

    Example:
        >>> stage_of_table("data/2_tasks/essay_generation_tasks.csv"), stage_of_table("scores.csv")
        ('essay', None)
    """
    name = os.path.basename(os.fspath(path)).removesuffix(".gz")
    for ending in ("_generation_tasks.csv", "_tasks.csv"):
        if name.endswith(ending) and (stage := name.removesuffix(ending)) in stages:
            return stage
    return None


def named_stage(path: str, stages: Stages) -> str:
    """Return the stage whose task table has this file name.

    Raises:
        ValueError: the name is no task table's.
    """
    stage = stage_of_table(path, stages)
    if stage is None:
        raise ValueError(
            f"{path}: which stage's table? expected the name <stage>_tasks.csv or <stage>_generation_tasks.csv, with a "
            f"stage of {', '.join(stages)}; or the stage given"
        )
    return stage


def _read_table(
    file: str, row_type: type[Row], *, reserved: bool
) -> Iterator[tuple[tuple[str, ...], FileState] | tuple[int, Row]]:
    """Yield the header of a table with the state of its file, then its rows with their numbers."""
    faults = Faults(file)
    with open_table(file) as stream:
        state = state_of(stream.fileno())
        records = records_of(stream, faults)
        columns = header_of(records, row_type, faults, reserved=reserved)
        yield columns, state
        parse = row_parser(row_type, columns, faults, reserved=reserved)
        for number, cells in records:
            row = parse(number, cells)
            if faults.count == 0:
                yield number, cast("Row", row)
        faults.raise_any()


def row_parser(
    row_type: type[Row], columns: tuple[str, ...], faults: Faults, *, reserved: bool
) -> Callable[[int, list[str]], Row | None]:
    """Return a function that makes a row of the cells of a record; None, and faults, where they are not one."""
    schema = schema_of(row_type)
    own = [(columns.index(column.name), column) for column in schema.columns if column.name in columns]
    others = [(position, name) for position, name in enumerate(columns) if name not in schema.names]
    needed = ("doc_id", "parent_doc_id") if reserved else ()

    def parse_row(number: int, cells: list[str]) -> Row | None:
        if is_damaged(number, cells, columns, faults):
            return None
        before = faults.count
        values: dict[str, Any] = {}
        kept: dict[str, str] = {}
        for position, column in own:
            text = cells[position]
            try:
                value = values[column.argument] = column.parse(text)
            except ValueError as error:
                expected = str(error) or f"expected {column.expected}"
                faults.add(number, column.name, text, expected if text or str(error) else f"empty; {expected}")
                continue
            if not value and column.attribute in needed:
                faults.add(number, column.name, text, f"missing; expected {_needed(column, row_type)}")
            elif value is not text and plain_text(value) != text:
                kept[column.name] = text
        if faults.count > before:
            return None
        extra = {name: cells[position] for position, name in others}
        try:
            return row_type(**values, extra=extra, columns=columns, _cells=kept)
        except (TypeError, ValueError) as error:
            # A validator of the class itself.
            faults.add(number, None, "", str(error))
            return None

    return parse_row


def _needed(column: Column, row_type: type[TaskRow]) -> str:
    if column.attribute == "doc_id":
        return "the doc id of the row's document ('docid reserve' fills it)"
    return f"the doc id of a document of stage {row_type.parent_stage!r} ('docid reserve' fills it)"


def header_of(
    records: Iterator[tuple[int, list[str]]], row_type: type[TaskRow], faults: Faults, *, reserved: bool
) -> tuple[str, ...]:
    """Take the header off the records of a table and return it.

    Raises:
        TaskTableError: it is none of such a table.
    """
    _, header = next(records, (1, []))
    faults.raise_any()
    _check_header(header, row_type, faults, reserved=reserved)
    faults.raise_any()
    return tuple(header)


def _check_header(header: list[str], row_type: type[TaskRow], faults: Faults, *, reserved: bool) -> None:
    if not header:
        faults.add(None, None, "", f"no header; expected a CSV table with the column {row_type.stage}_task_id")
        return
    if not check_header(header, faults, sorted(set(header))):
        return
    for column in schema_of(row_type).columns:
        if column.name in header:
            continue
        to_be_reserved = column.attribute in {"doc_id", "parent_doc_id"}
        others = [name for name in header if name not in schema_of(row_type).names]
        if other := misspelt(column.name, others):
            # Also where it may be missing: filled, it would give new names to what has names already.
            faults.add(1, column.name, "", f"missing from the header; is {other!r} meant for it?")
        elif column.required or (reserved and to_be_reserved):
            import difflib  # noqa: PLC0415 - only where something is wrong

            near = difflib.get_close_matches(column.name, others, 1)
            hint = f"is {near[0]!r} meant for it?" if near else f"the columns are {names_shown(header)}"
            if to_be_reserved:
                hint += " ('docid reserve' adds it)"
            faults.add(1, column.name, "", f"missing from the header; {hint}")
    # Rows of any type may have it.
    source = "source_doc_id"
    if source not in schema_of(row_type).names and (other := misspelt(source, header)):
        faults.add(1, source, "", f"missing from the header; is {other!r} meant for it?")


# --- reserving -------------------------------------------------------------------------------------------------


def _doc_ids_by_task(parents: Mapping[str, str] | Iterable[TaskRow], stage: str) -> Mapping[str, str | None]:
    """Return the parents' doc ids by task id; None for a task id that stands for more than one."""
    if isinstance(parents, Mapping):
        return cast("Mapping[str, str | None]", parents)
    if isinstance(parents, (str, os.PathLike)):
        raise TypeError(
            f"parents: expected rows, or doc ids by task id; got the path {parents}, which read_tasks reads"
        )
    found: dict[str, str | None] = {}
    for row in parents:
        if getattr(row, "stage", None) != stage:
            check_row(row, "parents")
            raise ValueError(f"parents: expected rows of stage {stage!r}, got a row of stage {row.stage!r}")
        found[row.task_id] = row.doc_id if found.get(row.task_id, row.doc_id) == row.doc_id else None
    return found


class _Reserver(NamedTuple):
    """What `reserve_tasks` was given, and the faults so far."""

    row_type: type[TaskRow]
    run_id: str | None
    salt: str | None
    parents: Mapping[str, str | None] | None
    faults: Faults

    def rows(self, rows: Iterable[Row]) -> Iterator[tuple[int, Row]]:
        """Yield the reserved rows with their numbers, up to the first fault."""
        first_row: dict[str, int] = {}
        for position, row in enumerate(self._until_faulty(rows), 1):
            _check_type(row, self.row_type)
            number = rows.row if isinstance(rows, TaskRows) else position
            changes: dict[str, Any] = self._doc_id(number, row) | self._parent(number, row)
            doc_id = changes.get("doc_id", row.doc_id)
            other = first_row.setdefault(doc_id, number) if doc_id else number
            if other != number:
                column, text = ("doc_id", row.doc_id) if row.doc_id else (f"{row.stage}_task_id", row.task_id)
                remedy = "empty its doc_id (and, if its task is the same, give it a doc_salt)"
                wrong = (
                    f"comes to the doc id {doc_id}, as row {other} does; expected one row a document: remove one, or "
                    f"{remedy if row.doc_id else 'give it a doc_salt'}"
                )
                self.faults.add(number, column, text, wrong)
            if self.faults.count == 0:
                yield number, attrs.evolve(row, **changes) if changes else row
        self.faults.raise_any()

    def _until_faulty(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield rows; take over the faults that a table raises at its end."""
        try:
            yield from rows
        except TaskTableError as error:
            self.faults.take_over(error)

    def _doc_id(self, number: int, row: TaskRow) -> dict[str, str]:
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

    def _parent(self, number: int, row: TaskRow) -> dict[str, str]:
        if row.parent_doc_id or self.parents is None:
            return {}
        column = f"{self.row_type.parent_stage}_task_id"
        doc_id, wrong = _parent_of(row.cell(column), self.parents)
        if wrong:
            self.faults.add(number, column, row.cell(column), wrong)
            return {}
        return {"parent_doc_id": doc_id}


def _parent_of(task_id: str, parents: Mapping[str, str | None]) -> tuple[str, str]:
    """Return the doc id of the parent with this task id, and what is wrong (nothing where that is empty)."""
    if is_missing(task_id):
        return "", "empty; expected the task id of the parent, to find its doc id by"
    if task_id not in parents:
        return "", "not a task id of the parents' table; expected one of them"
    doc_id = parents[task_id]
    if doc_id is None:
        return "", "the task id of more than one row of the parents' table; expected parent_doc_id set by hand"
    if not doc_id:
        return "", "its row in the parents' table has no doc_id; reserve that table first"
    return (doc_id, "") if is_doc_id(doc_id) else ("", f"its parent's doc_id {doc_id!r} is no doc id")

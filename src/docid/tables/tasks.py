"""Task tables: CSV files with one row per document. `docs/tables.md` describes the format."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Self, TypeVar, cast

from attrs import define, field

from docid.core.document import get_source_doc_id
from docid.core.stages import DEFAULT_STAGES, Stages
from docid.errors import Problem, TaskTableError
from docid.tables.csvfile import (
    Faults,
    FileState,
    Shape,
    TableWriter,
    check_header,
    check_unchanged,
    find_misspelling,
    format_names,
    get_state,
    is_damaged,
    read_records,
    read_shape,
    select_cells,
)
from docid.tables.rows import TaskRow, find_fault, format_cells, plain_text, schema_of

Row = TypeVar("Row", bound=TaskRow)


@define(eq=False, repr=False)
class TaskRows(Iterator[Row], Generic[Row]):
    """A stream of task rows that knows its table. You can iterate over it once.

    Attributes:
        row_type: the class of the rows.
        file: the path of the table as given; empty for rows without a file.
        columns: the columns of the table, in order.
        row: the number of the last row, as a spreadsheet counts: the header is row 1.
        state: the state of the file when docid opened it, which `write_tasks` compares; None for rows without a file.
    """

    row_type: type[Row]
    file: str
    columns: tuple[str, ...]
    _rows: Iterator[tuple[int, Row]]
    state: FileState | None = None
    row: int = field(default=1, init=False)

    def __repr__(self) -> str:
        return f"<TaskRows of {self.row_type.__name__} from {self.file or 'memory'}, at row {self.row}>"

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Row:
        self.row, row = next(self._rows)
        return row


def read_tasks(path: str | os.PathLike[str], row_type: type[Row], *, reserved: bool = True) -> TaskRows[Row]:
    r"""Read a task table as a stream of rows.

    The table is UTF-8, with or without a BOM. Lines end in `\n` or `\r\n`. If the name ends in `.gz`, docid reads gzip.
    Every cell keeps its text. In an id column, an empty cell, `nan`, `null` and `none` mean "missing".

    docid reads the header at once. It yields rows up to the first faulty one, checks the rest of the table, and raises
    all faults together at the end.

    Args:
        path: the table.
        row_type: the `TaskRow` subclass of the table's stage.
        reserved: require a `doc_id` in every row, and a `parent_doc_id` if the stage has a parent. With False, these
            cells may be empty, and their columns missing.

    Raises:
        TaskTableError: faults in the header, at once; faults in rows, at the end.
        OSError: the file cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> from docid import DraftTask
        >>> path = pathlib.Path(tempfile.mkdtemp(), "draft_generation_tasks.csv")
        >>> _ = path.write_text("draft_task_id,combo_id,note\nt-1,c-1,by hand\n")
        >>> [row] = read_tasks(path, DraftTask, reserved=False)
        >>> row.task_id, row.combo_id, row.extra, row.doc_id
        ('t-1', 'c-1', {'note': 'by hand'}, '')
    """
    file, faults = os.fspath(path), Faults(os.fspath(path))
    state = get_state(file)
    records = read_records(file, faults)
    columns = take_header(records, row_type, faults, reserved=reserved)
    parse = build_row_parser(row_type, columns, faults, reserved=reserved)

    def parse_rows() -> Iterator[tuple[int, Row]]:
        for number, cells in records:
            row = parse(number, cells)
            if row is not None and faults.count == 0:
                yield number, row
        faults.raise_any()

    return TaskRows(row_type, file, columns, parse_rows(), state)


RowLineage = tuple[str, str, str, str, str, str]
"""The identity of a row, as text: task id, doc id, parent, source, run id, salt; empty if unset."""


def read_lineages(path: str, row_type: type[TaskRow]) -> Iterator[tuple[int, RowLineage]]:
    """Yield the number and identity of each row of a reserved table, without validating cells."""
    faults = Faults(path)
    records = read_records(path, faults)
    columns = take_header(records, row_type, faults, reserved=True)
    parent = None if row_type.parent_stage is None else "parent_doc_id"
    wanted = (f"{row_type.stage}_task_id", "doc_id", parent, "source_doc_id", "doc_run_id", "doc_salt")
    return cast("Iterator[tuple[int, RowLineage]]", select_cells(records, columns, wanted, faults))


def list_lineages(rows: Iterable[TaskRow], stage: str) -> Iterator[tuple[int, RowLineage]]:
    """Yield the number and identity of each row; raise ValueError for a row of another stage."""
    for number, row in number_rows(rows):
        check_row(row, "tables", stage)
        parent = row.parent_doc_id or ""
        yield (
            number,
            (row.task_id, row.doc_id, parent, get_source_doc_id(row), row.doc_run_id or "", row.doc_salt or ""),
        )


def number_rows(rows: Iterable[Row]) -> Iterator[tuple[int, Row]]:
    """Yield rows with their numbers in their table; without a table, with their positions from 1."""
    for position, row in enumerate(rows, 1):
        yield rows.row if isinstance(rows, TaskRows) else position, row


def write_tasks(
    path: str | os.PathLike[str],
    rows: Iterable[TaskRow],
    *,
    row_type: type[TaskRow] | None = None,
    like: str | os.PathLike[str] | None = None,
) -> int:
    """Write rows as a task table, and replace `path` atomically: a reader sees the old table or the new one.

    Every cell keeps its text. Columns keep the order of the rows' table, and new ones follow. Rows without a table get
    the task id, `parent_doc_id`, the fields of their type, the extra columns and `doc_id`. Lines end in LF, and quoting
    is minimal. If the name ends in `.gz`, docid writes gzip. After an error, even one in `rows`, the old table is
    unchanged.

    The rows may stream from the table at `path` itself (`TaskRows`). In that case docid checks the table just before
    the rename, and refuses to replace it if another process has changed it.

    Args:
        path: the table.
        rows: rows of one stage: a list, or a stream such as `reserve_tasks(read_tasks(…), …)`.
        row_type: the class of the rows, by default that of the first row. It gives a table without rows its header.
        like: a table whose line ending and BOM to use, and whose header if there are no rows. To edit a table in place,
            pass `path`.

    Returns:
        The number of rows written.

    Raises:
        TaskTableError: a value that `read_tasks` would not return unchanged; faults in the table `like`; another
            process changed the table from which the rows stream.
        TypeError: rows of more than one class.
        ValueError: no rows, and no header from `row_type` or `like`.
        OSError: the file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> from docid import TaskRow, reserve_tasks
        >>> path = pathlib.Path(tempfile.mkdtemp(), "note_tasks.csv")
        >>> Note = TaskRow.of("note")
        >>> write_tasks(path, reserve_tasks([Note(task_id="t-1", extra={"about": "tides, and moss"})], Note))
        1
        >>> print(path.read_text(), end="")
        note_task_id,about,doc_id
        t-1,"tides, and moss",kc0flifbmrcq40w5
    """
    row_type = row_type or getattr(rows, "row_type", None)
    if row_type is not None:
        schema_of(row_type)  # raises TypeError for any other class
    shape = Shape() if like is None else read_shape(os.fspath(like))
    with TableWriter(os.fspath(path), shape) as writer:
        for number, row in enumerate(rows, 2):  # as a spreadsheet will number it
            row_type = row_type or check_row(row)
            check_type(row, row_type)
            if fault := find_fault(row):
                column, value, expected = fault
                raise TaskTableError([Problem(writer.file, number, column, str(value), expected)])
            writer.add(number, format_cells(row))
        if writer.count == 0:
            header = getattr(rows, "columns", ()) or shape.columns
            if not header and row_type is not None:
                header = tuple(column.name for column in schema_of(row_type).columns if column.always)
            if not header:
                raise ValueError("rows: no rows, so the header is unknown; pass row_type or like")
            writer.start(header)
        if isinstance(rows, TaskRows) and rows.state and os.path.realpath(rows.file) == os.path.realpath(writer.file):
            check_unchanged(writer.file, rows.state)
        writer.commit()
        return writer.count


def check_row(row: object, argument: str = "rows", stage: str | None = None) -> type[TaskRow]:
    """Return the class of a task row; raise TypeError for anything else, ValueError for a row of another stage."""
    if not isinstance(row, TaskRow):
        hint = "read_tasks makes them from a file, docid.frames.frame_to_tasks from a data frame"
        raise TypeError(f"{argument}: expected rows of task tables (TaskRow), got {type(row).__name__}; {hint}")
    if stage is not None and row.stage != stage:
        raise ValueError(f"{argument}: expected rows of stage {stage!r}, got a row of stage {row.stage!r}")
    return type(row)


def check_type(row: TaskRow, row_type: type[TaskRow]) -> None:
    """Raise TypeError for a row of another class."""
    if not isinstance(row, row_type):
        expected, got = row_type.__name__, check_row(row).__name__
        if expected == got:
            expected, got = f"{row_type.__module__}.{expected}", f"{type(row).__module__}.{got}"
        raise TypeError(f"rows: expected rows of {expected}, got {got}")


def stage_of_table(path: str | os.PathLike[str], stages: Stages = DEFAULT_STAGES) -> str | None:
    """Return the stage whose task table has this file name; None for any other name.

    Example:
        >>> stage_of_table("data/2_tasks/essay_generation_tasks.csv"), stage_of_table("scores.csv")
        ('essay', None)
    """
    name = os.path.basename(os.fspath(path)).removesuffix(".gz")
    for ending in ("_generation_tasks.csv", "_tasks.csv"):
        if name.endswith(ending) and (stage := name.removesuffix(ending)) in stages:
            return stage
    return None


def infer_stage(path: str, stages: Stages) -> str:
    """Return the stage whose task table has this file name; raise ValueError for any other name."""
    if stage := stage_of_table(path, stages):
        return stage
    expected = f"expected <stage>_tasks.csv or <stage>_generation_tasks.csv, where <stage> is {', '.join(stages)}"
    raise ValueError(f"{path}: the name does not show the stage; {expected}. Rename the file, or pass the stage")


def take_header(
    records: Iterator[tuple[int, list[str]]], row_type: type[TaskRow], faults: Faults, *, reserved: bool
) -> tuple[str, ...]:
    """Read the header from a table's records; raise a `TaskTableError` unless it fits the row type."""
    schema = schema_of(row_type)
    _, header = next(records, (1, []))
    faults.raise_any()  # the header is not CSV
    if not header:
        faults.add(None, None, "", f"no header; expected a CSV table with the column {row_type.stage}_task_id")
        faults.raise_any()
    check_header(header, faults, sorted(set(header)))
    needed = {column.name for column in schema.columns if column.required}
    if reserved:
        needed |= _RESERVED
    others = [name for name in header if name not in schema.names]
    # Rows of every type may name a source.
    for name in dict.fromkeys((*(column.name for column in schema.columns), "source_doc_id")):
        if name in header:
            continue
        if other := find_misspelling(name, others):
            # Refuse even an optional column: docid would add it, and fill it with new ids for rows that have ids.
            faults.add(1, name, "", f"missing from the header; is {other!r} misspelled?")
        elif name in needed:
            import difflib  # noqa: PLC0415 - only for an error

            near = difflib.get_close_matches(name, others, 1)
            hint = f"is {near[0]!r} misspelled?" if near else f"the columns are {format_names(header)}"
            fix = " ('docid reserve' adds it)" if name in _RESERVED else ""
            faults.add(1, name, "", f"missing from the header; {hint}{fix}")
    faults.raise_any()
    return tuple(header)


_RESERVED = {"doc_id", "parent_doc_id"}


def build_row_parser(
    row_type: type[Row], columns: tuple[str, ...], faults: Faults, *, reserved: bool
) -> Callable[[int, list[str]], Row | None]:
    """Return a function that parses a record into a row. For a faulty record, it notes the faults and returns None."""
    schema = schema_of(row_type)
    own = [(columns.index(column.name), column) for column in schema.columns if column.name in columns]
    others = [(position, name) for position, name in enumerate(columns) if name not in schema.names]

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
            if reserved and not value and column.name in _RESERVED:
                parent = f"a document of stage {row_type.parent_stage!r}"
                document = "the row's document" if column.name == "doc_id" else parent
                expected = f"missing; expected the doc id of {document} ('docid reserve' fills it)"
                faults.add(number, column.name, text, expected)
            elif value is not text and plain_text(value) != text:
                kept[column.name] = text
        if faults.count > before:
            return None
        extra = {name: cells[position] for position, name in others}
        try:
            return row_type(**values, extra=extra, columns=columns, _cells=kept)
        except (TypeError, ValueError) as error:  # from a validator of the class
            faults.add(number, None, "", str(error))
            return None

    return parse_row

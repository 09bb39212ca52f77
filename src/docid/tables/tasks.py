"""Task tables: CSV files with one row per document. `docs/tables.md` describes the format."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from types import GeneratorType
from typing import Any, Generic, Self, TypeVar, cast

from attrs import define, field

from docid._text import format_count
from docid.core.document import get_source_doc_id
from docid.core.stages import DEFAULT_STAGES, Stages
from docid.errors import Problem, TaskTableError
from docid.tables.csvfile import Shape, TableWriter, detect_delimiter, open_records, read_shape, select_cells
from docid.tables.faults import Faults
from docid.tables.headers import Header, build_header_check
from docid.tables.opening import FileState, check_unchanged, describe_change, get_state, is_json_lines, spool
from docid.tables.parsing import IdCount, build_row_parser, check_columns
from docid.tables.rows import TaskRow, find_fault, format_cells, schema_of

Row = TypeVar("Row", bound=TaskRow)
NO_TABLE: tuple[str, tuple[str, ...], FileState | None, str] = "", (), None, ","
"""File, columns, state and delimiter of rows without a table."""

_SHOWN = 10  # rows in a notebook view


@define(eq=False, repr=False)
class TaskRows(Iterator[Row], Generic[Row]):
    """A stream of task rows that knows its table. You can iterate over it once; a second time raises ValueError.

    Attributes:
        row_type: the class of the rows.
        file: the path of the table as given; empty for rows without a file.
        columns: the columns of the table, in order.
        row: the number of the last row, as a spreadsheet counts: the header is row 1.
        state: the state of the file when docid opened it, which `write_tasks` compares; None for rows without a file.
        delimiter: the delimiter of the table.
    """

    row_type: type[Row]
    file: str
    columns: tuple[str, ...]
    _rows: Iterator[tuple[int, Row]]
    state: FileState | None = None
    delimiter: str = ","
    row: int = field(default=1, init=False)
    _is_used_up: bool = field(default=False, init=False)

    def __repr__(self) -> str:
        name = getattr(self.row_type, "__name__", "an unknown class")  # of `replicates` without rows
        return f"<TaskRows of {name} from {self.file or 'memory'}, at row {self.row}>"

    def __iter__(self) -> Self:
        if self._is_used_up:
            raise ValueError(_describe_use(f"the rows of {self.file or 'this stream'}"))
        return self

    def __next__(self) -> Row:
        try:
            self.row, row = next(self._rows)
        except BaseException:  # the end, or an error, which ends the rows too
            self._is_used_up = True
            raise
        return row


def check_fresh(rows: Iterable[Any], argument: str) -> None:
    """Raise ValueError for an iterator that is known to be used up: it would look like a table without rows."""
    if isinstance(rows, GeneratorType) and rows.gi_frame is None:
        raise ValueError(_describe_use(f"{argument}: the rows of this generator"))
    if isinstance(rows, TaskRows):
        iter(rows)


def _describe_use(what: str) -> str:
    return f"{what} are used up: an iterator gives its rows once. Keep them in a list, or read the table again"


@define(eq=False)
class Pass:
    """What a complete pass over a table has seen: the state of the file, and the number of rows."""

    state: FileState | None = None
    count: int = 0


Opened = tuple[FileState | None, Header, Iterator[tuple[int, list[str]]]]
"""An open table: the state of its file, its header, and its records with their numbers."""


@define(eq=False, repr=False)
class TaskTable(Iterable[Row], Generic[Row]):
    """The rows of a table. You can iterate over it many times, and `len()` is the number of rows.

    docid validates the whole table before it yields the first row, so a faulty table yields none. It reads the file in
    two passes, the first to validate it. Later iterations skip that pass if the file has not changed. docid holds one
    row at a time. To find doc ids that two rows have, it keeps 8 bytes per row, and sorts them, which takes about 60
    bytes per row for a moment.

    Attributes:
        row_type: the class of the rows.
        file: the path of the table as given; empty for rows without a file.
        columns: the columns of the table, in order.
        state: the state of the file when docid opened it, which `write_tasks` compares; None for rows without a file.
        delimiter: the delimiter of the table.
    """

    row_type: type[Row]
    file: str
    columns: tuple[str, ...]
    _open: Callable[[Faults], Opened] = field(alias="open")
    _reserved: bool = field(alias="reserved")
    _path: str = field(default="", alias="path")
    state: FileState | None = None
    delimiter: str = ","
    _new_faults: Callable[[str], Faults] = field(default=Faults, alias="new_faults")
    _checked: Pass | None = field(default=None, init=False)

    def __repr__(self) -> str:
        return f"<TaskTable of {self.row_type.__name__} from {self.file or 'memory'}>"

    def __iter__(self) -> TaskRows[Row]:
        def read_all() -> Iterator[tuple[int, Row]]:
            yield from self.repeat(self._check())

        return TaskRows(self.row_type, self.file, self.columns, read_all(), self.state, self.delimiter)

    def __len__(self) -> int:
        return self._check().count

    def _repr_html_(self) -> str:
        """Show the first rows in a notebook, or the faults."""
        from docid import _html  # noqa: PLC0415 - only notebooks need it

        title = f"TaskTable of {self.row_type.__name__} {_html.name(self.file)}"
        try:
            shown = [format_cells(row) for row in islice(self, _SHOWN)]
        except (TaskTableError, OSError) as error:
            return _html.box(title, _html.element("pre", _html.text(str(error))))
        more = len(self) - len(shown)
        rows = [
            _html.row([_html.name(each.get(name, "")) for name in self.columns], texts=len(self.columns))
            for each in shown
        ]
        table = _html.element("table", _html.head([_html.name(name) for name in self.columns]), *rows)
        return _html.box(f"{title} · {format_count(len(self), 'row')}", table, f"… and {more:,} more" if more else "")

    def scan(self, faults: Faults, seen: Pass) -> Generator[tuple[int, Row]]:
        """Yield the valid rows with their numbers, note the faults of all others, and fill `seen` at the end."""
        seen.state, header, records = self._open(faults)
        if header.columns != self.columns:
            raise describe_change(self.file)
        parse = build_row_parser(self.row_type, schema_of(self.row_type), header, faults, reserved=self._reserved)
        for number, cells in records:
            row = parse(number, cells)
            if row is not None:
                seen.count += 1
                yield number, row

    def repeat(self, seen: Pass) -> Iterator[tuple[int, Row]]:
        """Yield the rows that a pass has seen, with their numbers; raise a `TaskTableError` if the file changed."""
        faults, now = Faults(self.file), Pass()
        with closing(self.scan(faults, now)) as rows:
            # Leave out rows that another process appends during this pass: they are not validated.
            for numbered in islice(rows, seen.count):
                if now.state != seen.state or faults.count:
                    break
                yield numbered
        if seen.count and (now.state != seen.state or faults.count or now.count < seen.count):
            raise describe_change(self.file)

    def _check(self) -> Pass:
        """Validate the table, unless it was validated and has not changed; return what the pass has seen."""
        if self._checked is not None and self._checked.state == self._get_state():
            return self._checked
        faults, seen, ids = self._new_faults(self.file), Pass(), IdCount()
        for _, row in self.scan(faults, seen):
            if self._reserved:
                ids.add(row.doc_id)
        again = ((number, row.doc_id, row) for number, row in self.scan(Faults(self.file), Pass()))
        for number, doc_id, other, _ in ids.find_repeated(again):
            faults.add(number, "doc_id", doc_id, f"same doc id as row {other}; expected one row per document")
        faults.sort()
        faults.raise_any()
        self._checked = seen
        return seen

    def _get_state(self) -> FileState | None:
        """Return the present state of the file; None for rows without a file."""
        try:
            return get_state(self._path) if self._path else None
        except FileNotFoundError:
            raise describe_change(self.file) from None


def read_tasks(
    path: str | os.PathLike[str], row_type: type[Row], *, reserved: bool = True, delimiter: str = ","
) -> TaskTable[Row]:
    r"""Read a task table.

    The table is UTF-8, with or without a BOM, or UTF-16 with a BOM. Lines end in `\n` or `\r\n`. If the name ends in
    `.gz`, docid reads gzip; if it ends in `.jsonl`, JSON Lines. Every cell keeps its text. In an id column, an empty
    cell, `nan`, `null` and `none` mean "missing".

    docid checks the header at once. It checks all rows before it yields the first one, and raises all faults together.
    So a faulty table yields no rows. A pipe is copied to a temporary file.

    Args:
        path: the table.
        row_type: the `TaskRow` subclass of the table's stage.
        reserved: require a `doc_id` in every row, and a `parent_doc_id` if the stage has a parent; no two rows may have
            the same `doc_id`. With False, these cells may be empty, and their columns missing.
        delimiter: the character between cells, such as `;` or a tab; `auto` finds it in the header. A first line
            `sep=;` names it too, and takes precedence.

    Raises:
        TaskTableError: faults in the header, at once; faults in rows, before the first row.
        ValueError: `delimiter` is not one character.
        OSError: the file cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> from docid import DraftTask
        >>> path = pathlib.Path(tempfile.mkdtemp(), "draft_generation_tasks.csv")
        >>> _ = path.write_text("draft_task_id,combo_id,note\nt-1,c-1,by hand\n")
        >>> table = read_tasks(path, DraftTask, reserved=False)
        >>> [row] = table
        >>> row.task_id, row.combo_id, row.extra, row.doc_id, len(table)
        ('t-1', 'c-1', {'note': 'by hand'}, '', 1)
    """
    schema_of(row_type)  # raises TypeError for any other class
    file = os.fspath(path)
    copy = spool(file)
    source = copy.name if copy else file
    delimiter = _choose_delimiter(source, row_type, delimiter)

    def open_again(faults: Faults, _copy: object = copy) -> Opened:  # the copy lives as long as this function
        try:
            return _open_rows(source, row_type, faults, reserved=reserved, delimiter=delimiter)
        except FileNotFoundError:
            raise describe_change(file) from None

    state, header, records = _open_rows(source, row_type, Faults(file), reserved=reserved, delimiter=delimiter)
    records.close()
    return TaskTable(
        row_type,
        file,
        header.columns,
        open=open_again,
        path=source,
        reserved=reserved,
        state=state if copy is None else None,
        delimiter=delimiter,
    )


def _choose_delimiter(path: str, row_type: type[TaskRow], delimiter: str) -> str:
    """Return the delimiter of a table: the given one, or for `auto` the one that gives its header the task id."""
    if delimiter == "auto":
        return detect_delimiter(path, f"{row_type.stage}_task_id")
    check_delimiter(delimiter)
    return delimiter


def check_delimiter(delimiter: str) -> None:
    """Raise ValueError unless a delimiter is one character that can separate cells."""
    if len(delimiter) != 1 or delimiter in '"\r\n' or delimiter.isalnum():
        raise ValueError(f"delimiter: expected one character such as ',', ';' or a tab, or 'auto', got {delimiter!r}")


def _open_rows(
    path: str, row_type: type[TaskRow], faults: Faults, *, reserved: bool, delimiter: str
) -> tuple[FileState, Header, Generator[tuple[int, list[str]]]]:
    """Open a table in CSV or JSON Lines, and check its header."""
    if is_json_lines(faults.file):
        from docid.tables.jsonlines import open_json_lines  # noqa: PLC0415 - seldom needed

        state, columns, records = open_json_lines(path, row_type, faults)
    else:
        state, records = open_records(path, faults, delimiter)
        _, columns = next(records, (1, []))
    try:
        return (
            state,
            check_columns(columns, schema_of(row_type), faults, reserved=reserved, delimiter=delimiter),
            records,
        )
    except BaseException:
        records.close()
        raise


RowLineage = tuple[str, str, str, str, str, str, str]
"""The identity of a row, as text: task id, doc id, parent, source, run id, salt, inputs; empty if unset."""


def read_lineages(path: str, row_type: type[TaskRow], delimiter: str = ",") -> Iterator[tuple[int, RowLineage]]:
    """Yield the number and identity of each row of a reserved table, without validating cells.

    The identity of a repeated header has the names of its columns, in the order of the first header.
    """
    copy = spool(path)
    source = copy.name if copy else path
    faults, delimiter = Faults(path), _choose_delimiter(source, row_type, delimiter)
    _, header, records = _open_rows(source, row_type, faults, reserved=True, delimiter=delimiter)
    is_header = build_header_check(header)
    # A header in the middle is a finding of the audit, as wrong ids are.
    rows = ((number, list(header.columns) if is_header(cells) else cells) for number, cells in records)
    parent = None if row_type.parent_stage is None else "parent_doc_id"
    wanted = (f"{row_type.stage}_task_id", "doc_id", parent, "source_doc_id", "doc_run_id", "doc_salt", "input_doc_ids")
    selected = select_cells(rows, header._replace(keys=()), wanted, faults)
    with closing(records):
        yield from cast("Iterator[tuple[int, RowLineage]]", selected)


def list_lineages(rows: Iterable[TaskRow], stage: str) -> Iterator[tuple[int, RowLineage]]:
    """Yield the number and identity of each row; raise ValueError for a row of another stage."""
    for number, row in number_rows(rows):
        check_row(row, "tables", stage)
        names = (row.task_id, row.doc_id, row.parent_doc_id or "", get_source_doc_id(row))
        yield number, (*names, row.doc_run_id or "", row.doc_salt or "", " ".join(row.input_doc_ids))


def number_rows(rows: Iterable[Row]) -> Iterator[tuple[int, Row]]:
    """Yield rows with their numbers in their table; without a table, with their positions from 1."""
    check_fresh(rows, "rows")
    rows = iter(rows)
    for position, row in enumerate(rows, 1):
        yield rows.row if isinstance(rows, TaskRows) else position, row


def write_tasks(
    path: str | os.PathLike[str],
    rows: Iterable[TaskRow],
    *,
    row_type: type[TaskRow] | None = None,
    like: str | os.PathLike[str] | TaskTable[Any] | None = None,
    delimiter: str | None = None,
) -> int:
    """Write rows as a task table, and replace `path` atomically: a reader sees the old table or the new one.

    Every cell keeps its text. Columns keep the order of the rows' table, and new ones follow. Rows without a table get
    the task id, `parent_doc_id`, the fields of their type, the extra columns and `doc_id`. Lines end in LF, and quoting
    is minimal. If the name ends in `.gz`, docid writes gzip. After an error, even one in `rows`, the old table is
    unchanged.

    The rows may stream from the table at `path` itself. In that case, or if `like` is the `TaskTable` read from `path`,
    docid checks the table just before the rename, and refuses to replace it if another process has changed it since.

    Args:
        path: the table.
        rows: rows of one stage: a list, or a stream such as `reserve_tasks(read_tasks(…), …)`.
        row_type: the class of the rows, by default that of the first row. It gives a table without rows its header.
        like: a table whose line ending, encoding, BOM and delimiter to use, and whose header if `rows` is empty. To
            edit a table in place, pass its `TaskTable`, or `path`.
        delimiter: the character between cells; by default that of `like` or of the rows' table, or else a comma.

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
    file = os.fspath(path)
    check_writable(file)
    shape = _choose_shape(rows, like, row_type, delimiter)
    check_fresh(rows, "rows")
    with TableWriter(file, shape) as writer:
        for number, row in enumerate(rows, 2):  # as a spreadsheet will number it
            row_type = row_type or check_row(row)
            check_type(row, row_type)
            if fault := find_fault(row):
                column, value, expected = fault
                raise TaskTableError([Problem(writer.file, number, column, str(value), expected)])
            writer.add(number, format_cells(row))
        if writer.count == 0:
            writer.start(_choose_header(rows, shape, row_type))
        writer.commit(partial(_check_sources, file, (rows, like)))
        return writer.count


def _choose_header(rows: Iterable[TaskRow], shape: Shape, row_type: type[TaskRow] | None) -> tuple[str, ...]:
    """Return the header of a table without rows."""
    header: tuple[str, ...] = getattr(rows, "columns", ()) or shape.columns
    if not header and row_type is not None:
        header = tuple(column.name for column in schema_of(row_type).columns if column.always)
    if not header:
        raise ValueError("rows: no rows, so the header is unknown; pass row_type or like")
    return header


def _check_sources(file: str, sources: Iterable[object]) -> None:
    """Raise a `TaskTableError` if a table was read for its own replacement, and has changed since."""
    for source in sources:
        if isinstance(source, (TaskRows, TaskTable)) and source.state and is_same_file(source.file, file):
            check_unchanged(file, source.state)


def _choose_shape(
    rows: Iterable[TaskRow],
    like: str | os.PathLike[str] | TaskTable[Any] | None,
    row_type: type[TaskRow] | None,
    delimiter: str | None,
) -> Shape:
    """Return the shape in which `write_tasks` writes a table."""
    if delimiter is not None:
        check_delimiter(delimiter)
    of_rows: str = getattr(rows, "delimiter", ",")
    if like is None:
        return Shape(delimiter=delimiter or of_rows)
    if isinstance(like, TaskTable):
        shape = read_shape(like.file, like.delimiter)
    elif is_same_file(os.fspath(like), getattr(rows, "file", "")):
        shape = read_shape(os.fspath(like), of_rows)
    else:
        column = None if row_type is None else f"{row_type.stage}_task_id"
        shape = read_shape(os.fspath(like), detect_delimiter(os.fspath(like), column))
    return shape if delimiter is None else shape._replace(delimiter=delimiter, separator_line="")


def is_same_file(path: str, other: str) -> bool:
    """Return whether two paths lead to one file; False for an empty path."""
    return bool(path and other) and os.path.realpath(path) == os.path.realpath(other)


def check_writable(file: str) -> None:
    """Raise a `TaskTableError` for a table that docid reads but does not write."""
    if is_json_lines(file):
        wrong = "docid does not write JSON Lines; write the rows to a file whose name ends in .csv"
        raise TaskTableError([Problem(file, None, None, "", wrong)])


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

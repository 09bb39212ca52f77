"""Frames of tasks: reserving their ids, and reading them as task rows."""

from __future__ import annotations

import numbers
from contextlib import contextmanager
from datetime import date, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar, cast

import narwhals as nw

from docid._text import shown, utf8
from docid.core.ids import check_stage, is_missing, reserve_doc_ids
from docid.core.stages import DEFAULT_STAGES, Stages, check_stages
from docid.errors import Problem, TaskTableError
from docid.tables.csvfile import Faults, find_misspelling, format_names
from docid.tables.reserve import check_noted, reserve_tasks
from docid.tables.rows import TaskRow, schema_of
from docid.tables.tasks import TaskRows, build_row_parser, take_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from narwhals.typing import IntoDataFrame

    Frame = TypeVar("Frame", bound=IntoDataFrame)
    Row = TypeVar("Row", bound=TaskRow)

__all__ = ["frame_to_tasks", "reserve_frame"]

_OWN_IDS = ("doc_id", "doc_run_id", "doc_salt")
_OTHER_IDS = ("parent_doc_id", "source_doc_id")
_NO_COLUMN = "missing from the frame"


def reserve_frame(
    frame: Frame,
    *,
    stage: str,
    task_id: str | None = None,
    run_id: str | None = None,
    salt: str | None = None,
    parents: IntoDataFrame | Mapping[str, str] | Iterable[TaskRow] | None = None,
    stages: Stages = DEFAULT_STAGES,
) -> Frame:
    """Return the frame with the column `doc_id`: the id of each row's document.

    The rules are those of `reserve_tasks`: an id that is set stays; `doc_run_id` and `doc_salt` record the run id and
    salt of a new id, and a row that has its own uses them; `parent_doc_id` is filled from the parents. The other
    columns, the order of the rows and the index of pandas stay as they are. The given frame is not changed.

    Args:
        frame: a data frame of pandas, polars or pyarrow, one row for each document.
        stage: the stage of its rows.
        task_id: the column with the task ids, as text; default `<stage>_task_id`.
        run_id, salt: as for `reserve_doc_id`, for every row without a `doc_id`.
        parents: the parents: a frame with the columns `<parent stage>_task_id` and `doc_id`, or rows, or doc ids by
            task id. A row finds its parent by its own column `<parent stage>_task_id`.
        stages: the pipeline's stages; they name the parent stage.

    Raises:
        TaskTableError: a column is missing; a task id is empty, not text, or refused by the id scheme; two rows have
            the same doc id; a parent is not found. All faults are reported together, with rows counted from 1.
        InvalidName: the stage, run id or salt.
        TypeError: `frame` is not a data frame, or is a lazy one.
        ValueError: there are parents, but `stages` does not contain the stage.

    Example:
        >>> import polars
        >>> tasks = polars.DataFrame({"draft_task_id": ["t-1", "t-2"], "words": [300, 900]})
        >>> reserve_frame(tasks, stage="draft").rows()
        [('t-1', 300, 'dqklum3h18qwxpcp'), ('t-2', 900, 'odk354mkj1hfs43a')]
    """
    column = f"{check_stage(stage)}_task_id" if task_id is None else task_id
    if not isinstance(column, str):
        raise TypeError(f"task_id: expected the name of a column as text, got {column!r}")
    check_noted(run_id, salt)
    row_type = TaskRow.of(stage, stages.parent_of(stage) if stage in check_stages(stages) else None)
    if parents is not None and stage not in stages:
        hint = f"as stages=Stages.chain('…', {stage!r})"
        raise ValueError(f"parents: expected None, or stages that say what stage {stage!r} comes from, {hint}")
    hint = "" if task_id else "; task_id= says which it is"
    df = _select_columns(frame, [column], _id_columns(row_type)[1:], hint=hint)
    of_parents = _load_parents(parents, row_type.parent_stage)
    filled = None
    if of_parents is None and all(df[name].is_null().all() for name in _OWN_IDS if name in df.columns):
        filled = _derive_ids(df[column].to_list(), stage, run_id, salt)
    if filled is None:
        filled = _reserve_rows(df, column, row_type, run_id=run_id, salt=salt, parents=of_parents)
    return cast("Frame", _fill_columns(frame, df.implementation, filled))


def _derive_ids(tasks: list[Any], stage: str, run_id: str | None, salt: str | None) -> dict[str, list[Any]] | None:
    """Return the columns to fill where only the task decides a row's id; None if a row is faulty.

    `_reserve_rows` returns the same and reports the faults, but its row objects cost eight times as much.
    """
    try:
        # The words that mean "missing" have at most four letters; the id scheme refuses blanks around them.
        if any(is_missing(task) for task in tasks if len(task) <= 4):  # noqa: PLR2004 - see above
            return None
        filled: dict[str, list[Any]] = {"doc_id": reserve_doc_ids(stage, tasks, run_id=run_id, salt=salt)}
    except (TypeError, ValueError):
        return None
    notes = {"doc_run_id": run_id, "doc_salt": salt}
    return filled | {name: [text] * len(tasks) for name, text in notes.items() if text is not None}


def _reserve_rows(
    df: nw.DataFrame[Any],
    column: str,
    row_type: type[TaskRow],
    *,
    run_id: str | None,
    salt: str | None,
    parents: Mapping[str, str] | Iterable[TaskRow] | None,
) -> dict[str, list[Any]]:
    """Return the columns to fill, as `reserve_tasks` fills them row by row."""
    own = f"{row_type.stage}_task_id"
    names = (*(each.name for each in schema_of(row_type).columns), f"{row_type.parent_stage}_task_id")
    sources = {name: name for name in names if name in df.columns} | {own: column}
    table = df.select(**{name: nw.col(source) for name, source in sources.items()})
    with _restate_faults({own: column}):
        rows = list(reserve_tasks(_load_rows(table, row_type, reserved=False), row_type, run_id, salt, parents=parents))
    filled: dict[str, list[Any]] = {"doc_id": [row.doc_id for row in rows]}
    if parents is not None:
        filled["parent_doc_id"] = [row.parent_doc_id for row in rows]
    for name, given in (("doc_run_id", run_id), ("doc_salt", salt)):
        if given is not None or name in df.columns:
            filled[name] = [getattr(row, name) for row in rows]
    return filled


def _fill_columns(frame: Any, library: Any, filled: Mapping[str, list[Any]]) -> Any:
    """Return the frame with these columns of text, which replace columns of the same name."""
    series = [nw.new_series(name, texts, nw.String(), backend=library) for name, texts in filled.items()]
    if nw.dependencies.is_pandas_dataframe(frame):
        # pandas itself keeps the index, `attrs`, and names that are not text or not unique.
        return frame.assign(**{each.name: each.to_native().array for each in series})
    return _open_frame(frame).with_columns(*series).to_native()


def _load_parents(parents: Any, parent_stage: str | None) -> Mapping[str, str] | Iterable[TaskRow] | None:
    """Return the parents as `reserve_tasks` takes them: the rows of a frame, or what was given."""
    if parents is None or parent_stage is None:
        return None
    library = type(parents).__module__.partition(".")[0]
    if library not in {"pandas", "polars", "pyarrow"} and not nw.dependencies.is_into_dataframe(parents):
        return cast("Mapping[str, str] | Iterable[TaskRow]", parents)
    df = _select_columns(parents, [f"{parent_stage}_task_id", "doc_id"], argument="parents")
    return _load_rows(df, TaskRow.of(parent_stage), reserved=False, file="parents")


def _id_columns(row_type: type[TaskRow]) -> list[str]:
    """Return the columns that hold ids, the row's own task id first."""
    return [f"{stage}_task_id" for stage in (row_type.stage, row_type.parent_stage) if stage] + [*_OWN_IDS, *_OTHER_IDS]


def _open_frame(frame: object, argument: str = "frame") -> nw.DataFrame[Any]:
    try:
        return nw.from_native(cast("Any", frame), eager_only=True)
    except TypeError as error:
        kind = f"{type(frame).__module__.partition('.')[0]}.{type(frame).__name__}"
        hint = "; collect() it first" if "Lazy" in kind else ""
        expected = f"{argument}: expected a data frame of pandas, polars or pyarrow"
        raise TypeError(f"{expected}, got {kind}{hint}") from error


def _select_columns(
    frame: Any, needed: list[str], optional: Sequence[str] = (), *, argument: str = "frame", hint: str = ""
) -> nw.DataFrame[Any]:
    """Return those of these columns that a frame has. In pandas its other columns may have any names, even equal ones.

    Raises:
        TaskTableError: a needed column is missing; one of these columns is misspelt or there twice.
    """
    df = frame if nw.dependencies.is_pandas_dataframe(frame) else _open_frame(frame, argument)
    names = list(df.columns)
    texts = [str(name) for name in names]
    wrong: dict[str, str] = {}
    for name in (*needed, *optional):
        if names.count(name) > 1:
            wrong[name] = "there twice; expected each column once"
        elif other := find_misspelling(name, texts):
            wrong[name] = f"{_NO_COLUMN}; is {other!r} meant for it?"
        elif name in needed and name not in names:
            wrong[name] = f"{_NO_COLUMN}; the columns are {format_names(texts) or 'none'}{hint}"
    if wrong:
        file = "" if argument == "frame" else argument
        raise TaskTableError([Problem(file, None, name, "", expected) for name, expected in wrong.items()])
    return _open_frame(df[[name for name in dict.fromkeys((*needed, *optional)) if name in names]])


@contextmanager
def _restate_faults(names: Mapping[str, str], *, is_header: bool = False) -> Iterator[None]:
    """Turn the faults of a table into faults of a frame: the header is no row, and columns have the frame's `names`."""
    try:
        yield
    except TaskTableError as error:
        problems = []
        for each in error.problems:
            expected = each.expected.replace("missing from the header", _NO_COLUMN, 1)
            row = None if is_header or expected.startswith(_NO_COLUMN) else each.row
            expected = expected.replace("'docid reserve'", "reserve_frame", 1)
            column = names.get(each.column or "", each.column)
            problems.append(each._replace(row=row, column=column, expected=expected))
        raise TaskTableError(problems, error.count) from None


def frame_to_tasks(frame: IntoDataFrame, row_type: type[Row], *, reserved: bool = True) -> TaskRows[Row]:
    """Return the rows of a frame as task rows: a stream, as from `read_tasks`.

    A null is an empty cell. A number becomes its text, except in a column of ids: a CSV reader that made `007` a
    number has lost the text.

    Args:
        frame: a data frame of pandas, polars or pyarrow, with the columns of a task table.
        row_type: the `TaskRow` subclass of its stage.
        reserved: as for `read_tasks`.

    Raises:
        TaskTableError: as for `read_tasks`, with rows counted from 1.
        TypeError: `frame` is not a data frame, is a lazy one, or has a column whose name is not text.

    Example:
        >>> import pandas
        >>> from docid import DraftTask
        >>> frame = pandas.DataFrame({"draft_task_id": ["t-1"], "doc_id": ["d1"], "combo_id": ["tides"]})
        >>> list(frame_to_tasks(frame, DraftTask))
        [DraftTask(task_id='t-1', doc_id='d1', combo_id='tides')]
    """
    names = frame.columns if nw.dependencies.is_pandas_dataframe(frame) else ()
    if odd := [name for name in names if not isinstance(name, str)]:
        raise TypeError(f"frame: expected columns whose names are text, got {odd[0]!r}")
    return _load_rows(_open_frame(frame), row_type, reserved=reserved)


def _load_rows(df: nw.DataFrame[Any], row_type: type[Row], *, reserved: bool, file: str = "") -> TaskRows[Row]:
    faults = Faults(file)
    with _restate_faults({}, is_header=True):
        columns = take_header(iter([(1, list(df.columns))]), row_type, faults, reserved=reserved)
    parse = build_row_parser(row_type, columns, faults, reserved=reserved)

    def parse_rows() -> Iterator[tuple[int, Row]]:
        whole = {column.name for column in schema_of(row_type).columns if column.kind is int}
        ids = _id_columns(row_type)
        texts = [_format_cells(df[name], faults, is_id=name in ids, is_whole=name in whole) for name in columns]
        for number, cells in enumerate(zip(*texts, strict=True), 1):
            row = None if None in cells else parse(number, list(cells))
            if row is not None and faults.count == 0:
                yield number, row
        with _restate_faults({}):
            faults.raise_any()

    return TaskRows(row_type, file, columns, parse_rows())


def _format_cells(series: nw.Series[Any], faults: Faults, *, is_id: bool, is_whole: bool) -> list[str | None]:
    """Return the cells of a column as text; None for a cell without text, which is a fault."""
    texts: list[str | None] = []
    for number, (value, null) in enumerate(zip(series.to_list(), series.is_null().to_list(), strict=True), 1):
        text = "" if null else _format_cell(value, is_whole=is_whole)
        wrong = ""
        if text is None:
            wrong = f"of type {type(value).__name__}; expected text, a number or nothing"
        elif text and is_id and not isinstance(value, str):
            expected = "expected text (read the table with its columns as text: dtype=str)"
            wrong = f"of type {type(value).__name__}; {expected}"
        elif text != utf8(text):
            wrong = "expected text that UTF-8 can hold"
        if wrong:
            faults.add(number, series.name, value if isinstance(value, str) else shown(value), wrong)
        texts.append(None if wrong else text)
    return texts


def _format_cell(value: Any, *, is_whole: bool) -> str | None:
    if isinstance(value, str):
        return str.__str__(value)
    if type(value).__name__ in {"bool", "bool_"}:
        return str(bool(value)).lower()
    if isinstance(value, (numbers.Real, Decimal)) and value != value:  # noqa: PLR0124 - NaN, which is not null
        return ""
    if isinstance(value, (numbers.Integral, Decimal)):
        return str(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        # pandas makes whole numbers beside a null floats.
        return str(int(number)) if is_whole and number.is_integer() else repr(number)
    return value.isoformat() if isinstance(value, (date, time)) else None

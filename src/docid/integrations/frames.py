"""Data frames (pandas, polars, pyarrow) of tasks, stored documents, scores and findings, by way of narwhals."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import date, datetime
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

try:
    import narwhals as nw
except ImportError as error:  # pragma: no cover  - tested in an environment without it
    raise ImportError("docid.frames needs narwhals: pip install 'docid-store[frames]'") from error

from docid._files import raise_time_limit
from docid._text import escape_surrogates, quote
from docid.core.document import PART_FILES
from docid.core.findings import FIELDS
from docid.core.ids import check_stage, is_missing, reserve_doc_ids
from docid.core.metadata import cut_deep_values
from docid.core.stages import DEFAULT_STAGES, Stages, check_stages
from docid.errors import DocidError, Problem, StoreUnavailable, TaskTableError
from docid.operations.curate.aggregate import TASK_SCORE_COLUMNS, TaskScore
from docid.operations.curate.replay import Ancestors
from docid.operations.curate.scores import SCORE_COLUMNS, Score
from docid.store.scanning import scan
from docid.store.stored import StoredDocument
from docid.tables.faults import Faults
from docid.tables.headers import (
    HEADER_AGAIN,
    LOOKS_ALIKE,
    QUOTE_AFTER_BLANK,
    find_misspelling,
    fold_name,
    format_names,
    has_quote_after_blank,
    is_nearly,
    show_name,
)
from docid.tables.parsing import check_columns
from docid.tables.replicates import replicates
from docid.tables.reserve import check_noted_run_and_salt, reserve_tasks
from docid.tables.rows import TaskRow, format_cells, schema_of
from docid.tables.tasks import Opened, TaskTable, check_row
from docid.tables.values import format_value, list_id_columns, list_whole_columns

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence

    from narwhals.typing import IntoDataFrame

    from docid.core.document import Part
    from docid.operations.audit import AuditReport
    from docid.store.docs_store import DocsStore

    Frame = TypeVar("Frame", bound=IntoDataFrame)
    Row = TypeVar("Row", bound=TaskRow)
    Library = Literal["pandas", "polars", "pyarrow"]
    Columns = dict[str, tuple[type, Sequence[Any]]]  # by name: the type of a column, and its values or None

_OWN_IDS = ("doc_id", "doc_run_id", "doc_salt")
_IDS = (*_OWN_IDS, "parent_doc_id", "source_doc_id", "input_doc_ids")
_NO_COLUMN = "missing from the frame"
_READ_AS_TEXT = " (read the table with dtype=str, keep_default_na=False)"
_LIBRARIES: tuple[Library, ...] = ("pandas", "polars", "pyarrow")
_DOCUMENT_FIELDS = ("doc_id", "task_id", "parent_doc_id", "inputs", "changed", "run_id", "created_at", "location")
_EXACT = 2**53  # floats round larger integers


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
    """Return a copy of the frame with a `doc_id` for every row.

    The rules are those of `reserve_tasks`: existing ids stay; `doc_run_id` and `doc_salt` record the run id and salt
    of a new id; a row's own run id and salt take precedence. Other columns, the order of rows and the pandas index do
    not change.

    Args:
        frame: a data frame of pandas, polars or pyarrow, one row per document.
        stage: the stage of its rows.
        task_id: the column of task ids, as text; default: `<stage>_task_id`.
        run_id, salt: as for `reserve_doc_id`, for every row without a `doc_id`.
        parents: fill `parent_doc_id` from a frame with the columns `<parent stage>_task_id`, `doc_id` and, for
            replicates, `doc_salt`; from task rows; or from a mapping of task ids to doc ids. The column
            `<parent stage>_task_id` of `frame` selects the parent.
        stages: the pipeline's stages, which name the parent stage.

    Raises:
        TaskTableError: a column is missing; a task id is empty, not text, or refused by the id scheme; two rows have
            the same doc id; a parent is not found. All faults are reported together, with rows counted from 1.
        InvalidName: the stage, run id or salt is invalid.
        TypeError: `frame` is not a data frame, or is a lazy frame.
        ValueError: `parents` is given, but `stages` does not contain the stage.

    Example:
        >>> import polars
        >>> tasks = polars.DataFrame({"draft_task_id": ["t-1", "t-2"], "words": [300, 900]})
        >>> reserve_frame(tasks, stage="draft").rows()
        [('t-1', 300, 'dqklum3h18qwxpcp'), ('t-2', 900, 'odk354mkj1hfs43a')]
    """
    column = f"{check_stage(stage)}_task_id" if task_id is None else task_id
    check_noted_run_and_salt(run_id, salt)
    row_type = TaskRow.of(stage, stages.parent_of(stage) if stage in check_stages(stages) else None)
    if parents is not None and stage not in stages:
        hint = f"pass stages=Stages.chain('…', {stage!r}), for example"
        raise ValueError(f"parents: the parent stage of {stage!r} is unknown; {hint}")
    hint = "" if task_id else "; name the column with task_id="
    df = _select_columns(frame, [column], list_id_columns(row_type)[1:], hint=hint)
    _check_header_rows(frame, df[column].to_list(), column, f"{stage}_task_id")
    of_parents = _load_parents(parents, row_type.parent_stage)
    notes = {"run_id": run_id, "salt": salt}
    filled = None
    if of_parents is None and all(df[name].is_null().all() for name in _OWN_IDS if name in df.columns):
        filled = _derive_ids(df[column].to_list(), stage, notes)
    filled = filled or _reserve_rows(df, column, row_type, notes, parents=of_parents, stages=stages)
    series = [nw.new_series(name, texts, nw.String(), backend=df.implementation) for name, texts in filled.items()]
    given = cast("Any", frame)
    if nw.dependencies.is_pandas_dataframe(given):
        # pandas itself keeps the index, `attrs`, and names that are not text or not unique.
        return given.assign(**{each.name: each.to_native().array for each in series})  # type: ignore[no-any-return]
    return _open_frame(given).with_columns(*series).to_native()  # type: ignore[no-any-return]


def _check_header_rows(frame: Any, tasks: list[Any], column: str, own: str) -> None:
    """Raise a `TaskTableError` for rows that repeat the header, as joined CSV files have them."""
    faults, folded = Faults(""), fold_name(own)
    for number, task in enumerate(tasks, 1):
        if isinstance(task, str) and (
            fold_name(task) == folded or (task == column and list(frame.columns) == _read_row(frame, number - 1))
        ):
            faults.add(number, None, "", f"{HEADER_AGAIN}; remove this row")
    faults.raise_any()


def _read_row(frame: Any, position: int) -> list[Any]:
    if nw.dependencies.is_pandas_dataframe(frame):
        return list(frame.iloc[position])
    return list(_open_frame(frame).row(position))


def _derive_ids(tasks: list[Any], stage: str, notes: Mapping[str, str | None]) -> dict[str, list[Any]] | None:
    """Do the work of `_reserve_rows` eight times as fast if ids depend on task ids only; None if a row is faulty."""
    try:
        # Words that mean "missing" have at most four letters; the id scheme refuses white space around them.
        if any(is_missing(task) for task in tasks if len(task) <= 4):  # noqa: PLR2004 - see above
            return None
        filled: dict[str, list[Any]] = {"doc_id": reserve_doc_ids(stage, tasks, **notes)}
    except (TypeError, ValueError):
        return None
    return filled | {f"doc_{note}": [text] * len(tasks) for note, text in notes.items() if text is not None}


def _reserve_rows(
    df: nw.DataFrame[Any],
    column: str,
    row_type: type[TaskRow],
    notes: Mapping[str, Any],
    *,
    parents: Any,
    stages: Stages,
) -> dict[str, list[Any]]:
    """Return the columns that `reserve_tasks` fills row by row."""
    with _restate_faults({f"{row_type.stage}_task_id": column}):
        loaded = _load_ids(df, column, row_type)
        rows = list(reserve_tasks(loaded, row_type, **notes, parents=parents, stages=stages))
    filled = ["doc_id"] if parents is None else ["doc_id", "parent_doc_id"]
    # A row may take over the salt of its parent.
    notes_of_rows = {name: [getattr(row, name) for row in rows] for name in ("doc_run_id", "doc_salt")}
    filled += [name for name, found in notes_of_rows.items() if name in df.columns or any(found)]
    return {name: [getattr(row, name) for row in rows] for name in filled}


def _load_ids(df: nw.DataFrame[Any], column: str, row_type: type[TaskRow]) -> TaskTable[TaskRow]:
    """Return the rows of a frame with this column of task ids, without the columns that docid does not use."""
    own = f"{row_type.stage}_task_id"
    further = (f"{row_type.parent_stage}_task_id", f"{row_type.stage}_doc_id")
    names = (*(each.name for each in schema_of(row_type).columns), *further)
    sources = {name: name for name in names if name in df.columns} | {own: column}
    table = df.select(**{name: nw.col(source) for name, source in sources.items()})
    return _load_rows(table, row_type, reserved=False)


def replicate_frame(
    frame: Frame,
    n: int,
    *,
    stage: str,
    task_id: str | None = None,
    parents: IntoDataFrame | Iterable[TaskRow] | None = None,
    stages: Stages = DEFAULT_STAGES,
) -> Frame:
    """Return a frame with each row `n` times, for `n` documents of its task.

    The rules are those of `replicates`: the first replicate is the row itself, and the others have an empty `doc_id`
    and a `doc_salt` of their own. Pass the result to `reserve_frame`. Other columns keep their values and types, and
    pandas repeats the index.

    Args:
        frame, stage, task_id: as for `reserve_frame`.
        n, stages: as for `replicates`.
        parents: as for `replicates`, or a frame with the columns `<parent stage>_task_id`, `doc_id` and `doc_salt`.

    Raises:
        TaskTableError: as for `replicates`, and for missing columns; rows are counted from 1.
        ValueError: as for `replicates`.
        TypeError: `frame` is not a data frame, or is a lazy frame.

    Example:
        >>> import polars
        >>> tasks = polars.DataFrame({"draft_task_id": ["t-1"], "words": [300]})
        >>> replicate_frame(tasks, 3, stage="draft").rows()
        [('t-1', 300, None), ('t-1', 300, '2'), ('t-1', 300, '3')]
    """
    column = f"{check_stage(stage)}_task_id" if task_id is None else task_id
    row_type = TaskRow.of(stage, stages.parent_of(stage) if stage in check_stages(stages) else None)
    legacy = f"{stage}_doc_id"  # of tables that `select` writes
    df = _select_columns(frame, [column], [*list_id_columns(row_type)[1:], legacy])
    of_parents = cast("Iterable[TaskRow] | None", _load_parents(parents, row_type.parent_stage))
    with _restate_faults({f"{stage}_task_id": column}):
        made = replicates(_load_ids(df, column, row_type), n, parents=of_parents, stages=stages)
        numbered = [(made.row - 1, row) for row in made]
    values = {
        name: [getattr(row, name) or None for _, row in numbered] for name in ("doc_id", "doc_salt", "parent_doc_id")
    }
    filled = {name: texts for name, texts in values.items() if name in df.columns or any(texts)}
    if legacy in df.columns:
        filled[legacy] = [row.extra.get(legacy) or None for _, row in numbered]
    series = [nw.new_series(name, texts, nw.String(), backend=df.implementation) for name, texts in filled.items()]
    given, positions = cast("Any", frame), [position for position, _ in numbered]
    if nw.dependencies.is_pandas_dataframe(given):
        repeated = given.iloc[positions]
        return repeated.assign(**{each.name: each.to_native().array for each in series})  # type: ignore[no-any-return]
    opened = _open_frame(given)
    return (opened[positions] if positions else opened).with_columns(*series).to_native()  # type: ignore[no-any-return]


def _load_parents(parents: Any, parent_stage: str | None) -> Mapping[str, str] | Iterable[TaskRow] | None:
    """Return the parents in a form that `reserve_tasks` accepts: a frame becomes rows."""
    if parents is None or parent_stage is None:
        return None
    if type(parents).__module__.partition(".")[0] not in _LIBRARIES and not nw.dependencies.is_into_dataframe(parents):
        return cast("Mapping[str, str] | Iterable[TaskRow]", parents)
    df = _select_columns(parents, [f"{parent_stage}_task_id", "doc_id"], ["doc_salt"], argument="parents")
    return _load_rows(df, TaskRow.of(parent_stage), reserved=False, file="parents")


def _check_index(frame: Any, wanted: Iterable[str], file: str = "") -> None:
    """Raise a `TaskTableError` if the index of a pandas frame holds wanted columns, where docid would miss them."""
    if not nw.dependencies.is_pandas_dataframe(frame):
        return
    faults, index = Faults(file), [name for name in frame.index.names if isinstance(name, str)]
    for name in wanted:
        if name not in frame.columns and any(each == name or is_nearly(each, name) for each in index):
            faults.add(None, name, "", "in the index of the frame; expected a column: call reset_index() first")
    faults.raise_any()


def _open_frame(frame: object, argument: str = "frame") -> nw.DataFrame[Any]:
    try:
        return nw.from_native(cast("Any", frame), eager_only=True)
    except TypeError as error:
        kind = f"{type(frame).__module__.partition('.')[0]}.{type(frame).__name__}"
        got = f"{kind}; collect() it first" if "Lazy" in kind else kind
        raise TypeError(f"{argument}: expected a data frame of pandas, polars or pyarrow, got {got}") from error


def _select_columns(
    frame: Any, needed: list[str], optional: Sequence[str] = (), *, argument: str = "frame", hint: str = ""
) -> nw.DataFrame[Any]:
    """Return a frame of these columns only; other columns of a pandas frame may have duplicate or non-text names."""
    df = frame if nw.dependencies.is_pandas_dataframe(frame) else _open_frame(frame, argument)
    names = list(df.columns)
    texts = [str(name) for name in names]
    file = "" if argument == "frame" else argument
    known = (*needed, *optional)
    _check_index(frame, known, file)
    wrong = {text: QUOTE_AFTER_BLANK for text in texts if has_quote_after_blank(text)}
    for name in known:
        if names.count(name) > 1:
            wrong[name] = "repeated; expected each column once"
        elif other := find_misspelling(name, texts, known):
            what = LOOKS_ALIKE if name in names else _NO_COLUMN
            wrong[name] = f"{what}; is {show_name(other, name)} misspelled?"
        elif name in needed and name not in names:
            wrong[name] = f"{_NO_COLUMN}; the columns are {format_names(texts) or 'none'}{hint}"
    if wrong:
        raise TaskTableError([Problem(file, None, name, "", expected) for name, expected in wrong.items()])
    return _open_frame(df[[name for name in dict.fromkeys((*needed, *optional)) if name in names]])


class _FrameFaults(Faults):
    """The faults of a frame, whose messages name the functions for frames."""

    def add(self, row: int | None, column: str | None, value: str, expected: str) -> None:
        """Note one fault."""
        super().add(row, column, value, expected.replace("'docid reserve'", "reserve_frame", 1))


@contextmanager
def _restate_faults(names: Mapping[str, str]) -> Iterator[None]:
    """Restate the faults of a task table as faults of a frame: with the frame's `names`, and its functions."""
    try:
        yield
    except TaskTableError as error:
        problems = []
        for each in error.problems:
            # reserve_tasks reports the column of the parents as one of a header.
            is_column = each.expected.startswith("missing from the header")
            expected = each.expected.replace("missing from the header", _NO_COLUMN, 1)
            column = names.get(each.column or "", each.column)
            problems.append(each._replace(row=None if is_column else each.row, column=column, expected=expected))
        raise TaskTableError(problems, error.count) from None


def frame_to_tasks(frame: IntoDataFrame, row_type: type[Row], *, reserved: bool = True) -> TaskTable[Row]:
    """Return the rows of a frame as task rows, as `read_tasks` does for a file.

    A null becomes an empty cell, and a number becomes text. A number in an id column is a fault, since a CSV reader
    that read `007` as a number has lost the id.

    Args:
        frame: a data frame of pandas, polars or pyarrow, with the columns of a task table.
        row_type, reserved: as for `read_tasks`.

    Raises:
        TaskTableError: as for `read_tasks`; rows are counted from 1.
        TypeError: `frame` is not a data frame, is a lazy frame, or has a column name that is not text.

    Example:
        >>> import pandas
        >>> from docid import DraftTask
        >>> frame = pandas.DataFrame({"draft_task_id": ["t-1"], "doc_id": ["d1"], "combo_id": ["tides"]})
        >>> list(frame_to_tasks(frame, DraftTask))
        [DraftTask(task_id='t-1', doc_id='d1', combo_id='tides')]
    """
    names = frame.columns if nw.dependencies.is_pandas_dataframe(frame) else ()
    if odd := [name for name in names if not isinstance(name, str)]:
        raise TypeError(f"frame: expected column names that are text, got {odd[0]!r}")
    columns = [column.name for column in schema_of(row_type).columns]
    _check_index(frame, [*columns, "source_doc_id"])
    return _load_rows(_open_frame(frame), row_type, reserved=reserved)


def _load_rows(df: nw.DataFrame[Any], row_type: type[Row], *, reserved: bool, file: str = "") -> TaskTable[Row]:
    def open_again(faults: Faults) -> Opened:
        header = check_columns(df.columns, schema_of(row_type), faults, reserved=reserved, row=None, source="frame")
        return None, header, _read_records(df, row_type, faults)

    _, header, _ = open_again(_FrameFaults(file))
    return TaskTable(row_type, file, header.columns, open=open_again, reserved=reserved, new_faults=_FrameFaults)


def _read_records(df: nw.DataFrame[Any], row_type: type[TaskRow], faults: Faults) -> Generator[tuple[int, list[str]]]:
    """Yield the rows of a frame as records with their numbers from 1; note faulty cells."""
    ids, whole = list_id_columns(row_type), list_whole_columns(schema_of(row_type))
    texts = [_format_cells(df[name], faults, is_id=name in ids, is_whole=name in whole) for name in df.columns]
    for number, cells in enumerate(zip(*texts, strict=True), 1):
        if None not in cells:
            yield number, list(cells)


def _format_cells(series: nw.Series[Any], faults: Faults, *, is_id: bool, is_whole: bool) -> list[str | None]:
    """Return the cells of a column as text, or None for each faulty cell."""
    texts: list[str | None] = []
    for number, (value, null) in enumerate(zip(series.to_list(), series.is_null().to_list(), strict=True), 1):
        text, wrong = ("", "") if null else format_value(value, is_id=is_id, is_whole=is_whole, hint=_READ_AS_TEXT)
        if text != escape_surrogates(text):
            wrong = "expected text that UTF-8 can encode"
        if wrong:
            faults.add(number, series.name, value if isinstance(value, str) else quote(value), wrong)
        texts.append(None if wrong else text)
    return texts


def tasks_to_frame(
    rows: Iterable[TaskRow], *, row_type: type[TaskRow] | None = None, backend: Library | None = None
) -> Any:
    """Return task rows as a frame with the columns of their table.

    Columns of the row class keep their types; all others are text. An unset id is null.

    Args:
        rows: rows of one stage, for example from `read_tasks`.
        row_type: the class of the rows; default: the class of the first row.
        backend: the library of the frame, `pandas`, `polars` or `pyarrow`; default: the first one installed.

    Raises:
        TaskTableError: raised by `rows`.
        TypeError: the rows have different classes.
        ValueError: `rows` is empty and `row_type` is not given; or `backend` is another library.
        ImportError: the library is not installed.

    Example:
        >>> from docid import DraftTask
        >>> tasks_to_frame([DraftTask(task_id="t-1", combo_id="tides")], backend="polars")["combo_id"].to_list()
        ['tides']
    """
    row_type = row_type or getattr(rows, "row_type", None)
    names = dict.fromkeys(getattr(rows, "columns", ()))
    row_list = list(rows)
    if row_type is None and not row_list:
        raise ValueError("rows: empty, so the columns are unknown; pass row_type")
    row_type = row_type or check_row(row_list[0])
    own = {column.name: column for column in schema_of(row_type).columns}
    for row in row_list:
        if not isinstance(row, row_type):
            raise TypeError(f"rows: expected rows of {row_type.__name__}, got {type(row).__name__}")
        names |= dict.fromkeys(format_cells(row))
    data: Columns = {}
    for name in names or [name for name, column in own.items() if column.always]:
        if column := own.get(name):
            values = [getattr(row, column.attribute) for row in row_list]
            if name == "input_doc_ids":
                values = [" ".join(value) for value in values]
            data[name] = column.kind, [None if value == "" and name in _IDS else value for value in values]
        else:
            data[name] = str, [row.extra.get(name) for row in row_list]
    return _make_frame(data, backend)


def documents_to_frame(
    store: DocsStore,
    stage: str,
    *,
    texts: Collection[Part] = (),
    metadata: Collection[str] | None = None,
    skip_unreadable: bool = False,
    backend: Library | None = None,
) -> Any:
    """Return the documents of a stage as a frame, sorted by doc id.

    The columns are `doc_id`, `task_id`, `parent_doc_id`, `inputs` (names, separated by blanks), `changed` (as in
    `Score`), `run_id`, `created_at` (UTC) and `location`; the sizes `raw_bytes`, `parsed_bytes` and `prompt_bytes`; the
    requested texts (`raw_text`, …); and one per metadata key, named `metadata.<key>` if the name is taken. A metadata
    column holds JSON text unless all its values are text, numbers or booleans.

    Args:
        store, stage: the store, and one of its stages.
        texts: the parts to read as well: `raw`, `parsed`, `prompt`.
        metadata: the metadata keys to include; default: all.
        skip_unreadable: leave out unreadable documents instead of raising an error.
        backend: as for `tasks_to_frame`, with the same errors.

    Raises:
        UnreadableDocument: a document cannot be read.
        InvalidName: the store does not have this stage.
        ValueError: `texts` names an unknown part.
        OSError: the stage cannot be listed, or the store did not answer.

    Example:
        >>> from docid import DocsStore, Document
        >>> store = DocsStore("memory://")
        >>> _ = store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="Once", metadata={"words": 1}))
        >>> documents_to_frame(store, "draft", texts=["raw"], backend="polars")["words", "raw_text"].rows()
        [(1, 'Once')]
    """
    if wrong := [part for part in texts if part not in PART_FILES]:
        raise ValueError(f"texts: expected raw, parsed or prompt, got {wrong[0]!r}")
    kinds: dict[str, type] = {**dict.fromkeys(_DOCUMENT_FIELDS, str), "created_at": date}
    kinds |= {f"{part}_bytes": int for part in PART_FILES} | {f"{part}_text": str for part in texts}
    rows: dict[str, dict[str, Any]] = {}
    stage, ancestors = store.stages.check(stage), Ancestors(store)
    for document in scan(store.backend, stage, is_strict=True) if skip_unreadable else store.documents(stage):
        if not isinstance(document, StoredDocument):
            continue
        try:
            row: dict[str, Any] = {f"{part}_text": document.text(part) for part in texts}
            row |= {f"{part}_bytes": document.sizes.get(part) for part in PART_FILES}
        except (DocidError, OSError) as error:
            raise_time_limit(error)
            # If the store did not answer, the document may be readable all the same.
            if isinstance(error, StoreUnavailable) or not skip_unreadable:
                raise
            continue
        found = cut_deep_values(document.metadata)
        row["metadata"] = found if metadata is None else {key: found.get(key) for key in metadata}
        row |= {"inputs": " ".join(document.inputs) or None, "changed": ancestors.find_changed(document) or None}
        rows[document.doc_id] = row | {name: getattr(document, name) for name in _DOCUMENT_FIELDS if name not in row}
    in_order = [rows[doc_id] for doc_id in sorted(rows)]
    data: Columns = {name: (kind, [row[name] for row in in_order]) for name, kind in kinds.items()}
    for key in dict.fromkeys(metadata or (key for row in in_order for key in row["metadata"])):
        name = key
        while name in data:
            name = f"metadata.{name}"
        data[name] = _find_kind([row["metadata"].get(key) for row in in_order])
    return _make_frame(data, backend)


def _find_kind(values: list[Any]) -> tuple[type, list[Any]]:
    """Return the common type of the values, and the values; JSON texts if they have no common type."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) == 1 and kinds <= {str, int, bool, float}:
        return kinds.pop(), values
    if kinds == {int, float} and all(abs(value) <= _EXACT for value in values if type(value) is int):
        return float, values
    return str, [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]


def scores_to_frame(scores: Iterable[Score], *, backend: Library | None = None) -> Any:
    """Return scores as a frame: their fields, a nullable column `<stage>_doc_id` per ancestor stage, and their origin.

    Args:
        scores: from `docid.curate.scores`.
        backend: as for `tasks_to_frame`, with the same errors.

    Example:
        >>> from docid.curate import Score
        >>> given = Score("v1", "e1", "t-1__x__clarity", "clarity", "large-1", 7.5, "", "", "t-1__x", {"draft": "d1"})
        >>> scores_to_frame([given], backend="polars")["score", "draft_doc_id"].rows()
        [(7.5, 'd1')]
    """
    score_list = list(scores)
    data: Columns = {name: (str, [getattr(each, name) or None for each in score_list]) for name in SCORE_COLUMNS}
    data["score"] = float, [each.score for each in score_list]
    created = [each.created_at for each in score_list]
    data["created_at"] = date, [datetime.fromisoformat(text) if text else None for text in created]
    for stage in dict.fromkeys(stage for each in score_list for stage in each.ancestors):
        data[f"{stage}_doc_id"] = str, [each.ancestors.get(stage) or None for each in score_list]
    for name in dict.fromkeys(name for each in score_list for name in each.origin):
        data[name] = str, [each.origin.get(name) or None for each in score_list]
    return _make_frame(data, backend)


def task_scores_to_frame(scores: Iterable[TaskScore], *, backend: Library | None = None) -> Any:
    """Return the scores of tasks as a frame: their fields, and their origin.

    Args:
        scores: from `docid.curate.aggregate_scores`.
        backend: as for `tasks_to_frame`, with the same errors.

    Example:
        >>> from docid.curate import Score, aggregate_scores
        >>> given = [Score(f"v{n}", "e1", "", "clarity", "m-1", n, "", "", "t-1", {}) for n in (6.0, 8.0)]
        >>> task_scores_to_frame(aggregate_scores(given), backend="polars")["parent_task_id", "score"].rows()
        [('t-1', 7.0)]
    """
    score_list = list(scores)
    kinds: dict[str, type] = dict.fromkeys(TASK_SCORE_COLUMNS, str)
    kinds |= dict.fromkeys(("score", "lowest", "highest", "deviation"), float)
    kinds |= dict.fromkeys(("documents", "evaluations", "no_score", "changed"), int)
    kinds |= dict.fromkeys((name for each in score_list for name in each.origin), str)
    rows = [each.values() for each in score_list]
    data: Columns = {}
    for name, kind in kinds.items():
        values = [row.get(name) for row in rows]
        data[name] = kind, [value or None for value in values] if kind is str else values
    return _make_frame(data, backend)


def findings_to_frame(report: AuditReport, *, backend: Library | None = None) -> Any:
    """Return audit findings as a frame: code, level, stage, doc_id, task_id, where, message and hint, all text.

    Args:
        report: the result of `audit`.
        backend: as for `tasks_to_frame`, with the same errors.

    Example:
        >>> from docid import DraftTask, audit
        >>> found = audit(None, {"draft": [DraftTask(task_id="t-1")]})
        >>> findings_to_frame(found, backend="polars")["code", "task_id"].rows()
        [('missing-doc-id', 't-1')]
    """
    rows = report.rows()
    return _make_frame({name: (str, [row[name] or None for row in rows]) for name in FIELDS}, backend)


def _make_frame(data: Columns, backend: Library | None) -> Any:
    if backend is not None and backend not in _LIBRARIES:
        raise ValueError(f"backend: expected pandas, polars or pyarrow, got {backend!r}")
    installed: list[Library] = [name for name in _LIBRARIES if find_spec(name) is not None]
    if backend not in {None, *installed} or not installed:
        wanted = backend or "pandas, polars or pyarrow"
        raise ImportError(f"a data frame needs {wanted}: pip install {backend or 'pandas'}")
    library = backend or installed[0]
    series = [_make_series(escape_surrogates(name), kind, values, library) for name, (kind, values) in data.items()]
    return nw.concat([each.to_frame() for each in series], how="horizontal").to_native()


def _make_series(name: str, kind: type, values: Sequence[Any], library: Library) -> nw.Series[Any]:
    """Return a column of values of one type or None. Integers become text if one exceeds 64 bits."""
    if kind is int and any(value is not None and not -(2**63) <= value < 2**63 for value in values):
        kind = str
    if kind is str:
        values = [None if value is None else escape_surrogates(str(value)) for value in values]
    if library == "pandas" and kind in {int, bool} and None in values:
        # The default dtypes of pandas for integers and booleans have no null.
        dtype = "Int64" if kind is int else "boolean"
        return nw.from_native(import_module("pandas").Series(values, dtype=dtype, name=name), series_only=True)
    types: dict[type, Any] = {str: nw.String(), int: nw.Int64(), float: nw.Float64(), bool: nw.Boolean()}
    return nw.new_series(name, values, types.get(kind) or nw.Datetime("us", "UTC"), backend=library)

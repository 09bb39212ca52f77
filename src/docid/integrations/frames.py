"""Data frames (extra `frames`): of pandas, polars and pyarrow, through narwhals.

What is given back is a frame of the library that was asked for, or that the given frame is of. Ids are those that
`reserve_doc_id` gives, one by one.
"""

from __future__ import annotations

import json
import numbers
from collections.abc import Iterable
from datetime import date, datetime, time
from decimal import Decimal
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from docid._text import shown, utf8
from docid.core.findings import FIELDS
from docid.core.ids import check_stage, reserve_doc_ids
from docid.core.metadata import shallow
from docid.core.stages import DEFAULT_STAGES, Stages, check_stages
from docid.core.task import is_missing
from docid.errors import DocidError, DuplicateTaskId, InvalidName, Problem, StoreUnavailable, TaskTableError
from docid.operations.audit import AuditReport
from docid.operations.curate.scores import Score
from docid.store.docs_store import check_store
from docid.store.scanning import answered
from docid.store.stored import StoredDocument
from docid.tables.csvfile import Faults, misspelt, names_shown
from docid.tables.rows import TaskRow, schema_of, texts_of
from docid.tables.tasks import TaskRows, check_noted, check_row, header_of, reserve_tasks, row_parser

try:
    import narwhals as nw
except ImportError as error:  # pragma: no cover  - tested in an environment without it
    raise ImportError("docid.frames needs narwhals: pip install 'docid-store[frames]'") from error

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from narwhals.typing import IntoDataFrame

    from docid.core.document import Part
    from docid.store.docs_store import DocsStore

    Library = Literal["pandas", "polars", "pyarrow"]
    Frame = TypeVar("Frame", bound=IntoDataFrame)
    Row = TypeVar("Row", bound=TaskRow)

__all__ = [
    "documents_to_frame",
    "findings_to_frame",
    "frame_to_tasks",
    "reserve_frame",
    "scores_to_frame",
    "tasks_to_frame",
]

_LIBRARIES: tuple[Library, ...] = ("pandas", "polars", "pyarrow")
_EXACT = 2**53  # whole numbers past this a float rounds
_IDS = ("doc_id", "parent_doc_id", "source_doc_id", "doc_run_id", "doc_salt")


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
    """Return a frame with the column `doc_id`: for each row the name of its document.

    As `reserve_tasks` does it for a table: an id that is set is kept; a run id or salt that ids are derived with is
    noted in the columns `doc_run_id` and `doc_salt`, and those of a row are honoured; `parent_doc_id` is filled from
    the parents. The other columns, the order of the rows and the index of pandas are as they were. The frame that is
    given is not changed.

    Args:
        frame: a data frame of pandas, polars or pyarrow, one row a document.
        stage: the stage of its rows.
        task_id: the column of the task ids, which holds text; `<stage>_task_id` if not given.
        run_id, salt: as for `reserve_doc_id`, for every row without a `doc_id`.
        parents: the parents: a frame with the columns `<parent stage>_task_id` and `doc_id`, or rows, or doc ids by
            task id. A row finds its parent by its own column `<parent stage>_task_id`.
        stages: the pipeline's stages, for the parent's.

    Raises:
        TaskTableError: rows without a task id, or with one that is no text or that the scheme refuses; two rows that
            come to one doc id; a parent that is not there; each with its row, counted from 1. Or a column is missing.
        InvalidName: the stage, run id or salt.
        TypeError: no data frame, or a lazy one.
        ValueError: parents of a stage that is none of `stages`, so that nothing says what it comes from.

    Example:
        >>> import polars
        >>> tasks = polars.DataFrame({"draft_task_id": ["t-1", "t-2"], "words": [300, 900]})
        >>> reserve_frame(tasks, stage="draft").rows()
        [('t-1', 300, 'dqklum3h18qwxpcp'), ('t-2', 900, 'odk354mkj1hfs43a')]
    """
    own = f"{check_stage(stage)}_task_id"
    column = own if task_id is None else task_id
    if not isinstance(column, str):
        raise TypeError(f"task_id: expected the name of a column as text, got {column!r}")
    check_noted(run_id, salt)
    row_type = TaskRow.of(stage, stages.parent_of(stage) if stage in check_stages(stages) else None)
    if parents is not None and stage not in stages:
        hint = f"as stages=Stages.chain('…', {stage!r})"
        raise ValueError(f"parents: expected None, or stages that say what stage {stage!r} comes from, {hint}")
    wanted = (column, f"{row_type.parent_stage}_task_id", *_IDS)
    _check_columns(_names(frame), wanted, "" if task_id else "; task_id= says which it is")
    given = _by_task(parents, row_type.parent_stage)
    df = _picked(frame, wanted)
    has_ids = "doc_id" in df.columns and not df["doc_id"].is_null().all()
    ids = None
    if not has_ids and given is None and not {"doc_run_id", "doc_salt"} & set(df.columns):
        ids = _derived(df, column, stage, run_id, salt)
    if ids is not None:
        filled: dict[str, list[Any]] = {"doc_id": ids}
        for name, text in (("doc_run_id", run_id), ("doc_salt", salt)):
            if text is not None:
                filled[name] = [text] * len(ids)
    else:
        filled = _reserved(df, column, row_type, {"run_id": run_id, "salt": salt, "parents": given})
    return cast("Frame", _with_columns(frame, filled))


def _check_columns(names: list[Any], wanted: Sequence[str], hint: str = "", file: str = "") -> None:
    """Refuse a frame without the first of these columns, or with one of them under a name that is nearly its own."""
    texts = [str(name) for name in names]
    wrong = {name: f"is {other!r} meant for it?" for name in wanted if (other := misspelt(name, texts))}
    if not wrong and wanted[0] not in names:
        wrong = {wanted[0]: f"the columns are {names_shown(texts) or 'none'}{hint}"}
    if wrong:
        raise TaskTableError([Problem(file, None, name, "", f"{_NO_COLUMN}; {told}") for name, told in wrong.items()])


def _eager(frame: object, argument: str = "frame") -> nw.DataFrame[Any]:
    try:
        return nw.from_native(cast("Any", frame), eager_only=True)
    except TypeError as error:
        kind = f"{type(frame).__module__.partition('.')[0]}.{type(frame).__name__}"
        hint = "; collect() it first" if "Lazy" in kind else ""
        expected = f"{argument}: expected a data frame of pandas, polars or pyarrow"
        raise TypeError(f"{expected}, got {kind}{hint}") from error


def _names(frame: Any, argument: str = "frame") -> list[Any]:
    """Return the names of the columns, which of pandas may be anything, and several times the same."""
    return list(frame.columns if nw.dependencies.is_pandas_dataframe(frame) else _eager(frame, argument).columns)


def _picked(frame: Any, names: Iterable[str], argument: str = "frame") -> nw.DataFrame[Any]:
    """Return those of some columns that a frame has; what others are called, or how often, does not matter."""
    there = _names(frame, argument)
    wanted = [name for name in dict.fromkeys(names) if name in there]
    if twice := [name for name in wanted if there.count(name) > 1]:
        raise TaskTableError([Problem("", None, name, "", "there twice; expected each column once") for name in twice])
    if nw.dependencies.is_pandas_dataframe(frame):
        return nw.from_native(frame[wanted], eager_only=True)
    return _eager(frame, argument).select(*wanted)


def _with_columns(frame: Any, filled: Mapping[str, list[Any]]) -> Any:
    """Return a frame with columns of text beside its own, or in place of them."""
    is_pandas = nw.dependencies.is_pandas_dataframe(frame)
    library: Any = "pandas" if is_pandas else _eager(frame).implementation
    series = [nw.new_series(name, values, nw.String(), backend=library) for name, values in filled.items()]
    if not is_pandas:
        return _eager(frame).with_columns(*series).to_native()
    # By pandas itself: names that are no text, and what else hangs on the frame, stay.
    changed = frame.copy(deep=False)
    for each in series:
        changed[each.name] = each.to_native().array
    return changed


def _derived(df: nw.DataFrame[Any], column: str, stage: str, run_id: str | None, salt: str | None) -> list[Any] | None:
    """Return the ids of all rows at once; None where a row is at fault, which a closer look will tell."""
    tasks = df[column].to_list()
    if df[column].is_null().any():
        return None
    try:
        # The words that mean missing have four letters at most.
        if any(is_missing(task) for task in tasks if len(task) <= 4):  # noqa: PLR2004 - see above
            return None
        return list(reserve_doc_ids(stage, tasks, run_id=run_id, salt=salt))
    except (TypeError, DuplicateTaskId, InvalidName):
        return None


def _reserved(
    df: nw.DataFrame[Any], column: str, row_type: type[TaskRow], given: dict[str, Any]
) -> dict[str, list[Any]]:
    """Return what is to be filled in, row by row."""
    own, of_parent = f"{row_type.stage}_task_id", f"{row_type.parent_stage}_task_id"
    needed = {own: column, of_parent: of_parent, "doc_id": "doc_id", "doc_run_id": "doc_run_id", "doc_salt": "doc_salt"}
    if row_type.parent_stage is not None:
        needed["parent_doc_id"] = "parent_doc_id"
    there = {name: source for name, source in needed.items() if source in df.columns}
    try:
        rows = _tasks(df.select(**{name: nw.col(source) for name, source in there.items()}), row_type, reserved=False)
        found = list(reserve_tasks(rows, row_type, **given))
    except TaskTableError as error:
        # As the column is named in the frame; a header has no row there.
        problems = []
        for each in error.problems:
            expected = _of_frame(each.expected)
            row = None if expected.startswith(_NO_COLUMN) else each.row
            name = column if each.column == own else each.column
            problems.append(each._replace(column=name, row=row, expected=expected))
        raise TaskTableError(problems, error.count) from None
    filled: dict[str, list[Any]] = {"doc_id": [row.doc_id for row in found]}
    if row_type.parent_stage is not None and given["parents"] is not None:
        filled["parent_doc_id"] = [row.parent_doc_id for row in found]
    for name, argument in (("doc_run_id", "run_id"), ("doc_salt", "salt")):
        if given[argument] is not None or name in df.columns:
            filled[name] = [getattr(row, name) for row in found]
    return filled


class _FrameFaults(Faults):
    """Faults as they are said of a frame: it has no header, and no command fills it."""

    def add(self, row: int | None, column: str | None, value: str, expected: str) -> None:
        super().add(row, column, value, _of_frame(expected))


def _of_frame(expected: str) -> str:
    return expected.replace("missing from the header", _NO_COLUMN, 1).replace("'docid reserve'", "reserve_frame", 1)


_NO_COLUMN = "missing from the frame"


def _by_task(parents: Any, parent_stage: str | None) -> Mapping[str, str] | Iterable[TaskRow] | None:
    """Return the parents as `reserve_tasks` takes them."""
    library = type(parents).__module__.partition(".")[0]
    if parents is None or parent_stage is None:
        return None
    if library not in _LIBRARIES and not nw.dependencies.is_into_dataframe(parents):
        return cast("Mapping[str, str] | Iterable[TaskRow]", parents)
    needed = (f"{parent_stage}_task_id", "doc_id")
    df = _picked(parents, needed, "parents")
    for name in needed:
        _check_columns(_names(parents), (name,), file=_PARENTS)
    return _tasks(df, TaskRow.of(parent_stage), reserved=False, file=_PARENTS)


_PARENTS = "parents"  # where a fault is, in messages


def frame_to_tasks(frame: IntoDataFrame, row_type: type[Row], *, reserved: bool = True) -> TaskRows[Row]:
    """Return the rows of a frame as task rows: a stream, as `read_tasks` gives it.

    A null is an empty cell. A number in a column of text becomes its text, but not in a column of ids, which hold text
    or nothing: what a reader of CSV has taken for a number is not what stood there.

    Args:
        frame: a data frame of pandas, polars or pyarrow, with the columns of a task table.
        row_type: the `TaskRow` subclass of its stage.
        reserved: as for `read_tasks`.

    Raises:
        TaskTableError: as for `read_tasks`, with the rows counted from 1.
        TypeError: no data frame, or a lazy one.

    Example:
        >>> import pandas
        >>> from docid import DraftTask
        >>> frame = pandas.DataFrame({"draft_task_id": ["t-1"], "doc_id": ["d1"], "combo_id": ["tides"]})
        >>> list(frame_to_tasks(frame, DraftTask))
        [DraftTask(task_id='t-1', doc_id='d1', combo_id='tides')]
    """
    if odd := [name for name in _names(frame) if not isinstance(name, str)]:
        raise TypeError(f"frame: expected columns whose names are text, got {odd[0]!r}")
    return _tasks(_eager(frame), row_type, reserved=reserved)


def _tasks(df: nw.DataFrame[Any], row_type: type[Row], *, reserved: bool, file: str = "") -> TaskRows[Row]:
    faults = _FrameFaults(file)
    try:
        columns = header_of(iter([(1, list(df.columns))]), row_type, faults, reserved=reserved)
    except TaskTableError as error:
        raise TaskTableError([each._replace(row=None) for each in error.problems], error.count) from None
    return TaskRows(row_type, file, columns, _rows(df, row_type, columns, faults, reserved=reserved))


def _rows(
    df: nw.DataFrame[Any], row_type: type[Row], columns: tuple[str, ...], faults: Faults, *, reserved: bool
) -> Iterator[tuple[int, Row]]:
    parse = row_parser(row_type, columns, faults, reserved=reserved)
    kinds = {column.name: column.kind for column in schema_of(row_type).columns}
    ids = {f"{row_type.stage}_task_id", f"{row_type.parent_stage}_task_id", *_IDS}
    texts = [
        _texts(df[name], column, faults, is_id=column in ids, is_whole=kinds.get(column) is int)
        for name, column in zip(df.columns, columns, strict=True)
    ]
    for number, cells in enumerate(zip(*texts, strict=True), 1):
        before = faults.count
        row = parse(number, list(cells)) if None not in cells else None
        if row is not None and faults.count == before == 0:
            yield number, row
    faults.raise_any()


def _texts(series: nw.Series[Any], column: str, faults: Faults, *, is_id: bool, is_whole: bool) -> list[str | None]:
    """Return the cells of a column as text; None, and a fault, for one that has none."""
    texts: list[str | None] = []
    for number, (value, null) in enumerate(zip(series.to_list(), series.is_null().to_list(), strict=True), 1):
        text = "" if null else _text(value, is_whole=is_whole)
        if text is None:
            wrong = f"of type {type(value).__name__}; expected text, a number or nothing"
            faults.add(number, column, shown(value), wrong)
        elif text and is_id and not isinstance(value, str):
            kind = type(value).__name__
            wrong = f"of type {kind}; expected text (read the table with its columns as text: dtype=str)"
            faults.add(number, column, shown(value), wrong)
            text = None
        elif text != utf8(text):
            faults.add(number, column, text, "expected text that UTF-8 can hold")
            text = None
        texts.append(text)
    return texts


def _text(value: Any, *, is_whole: bool) -> str | None:
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
        # Whole numbers beside a null are floats in pandas.
        return str(int(number)) if is_whole and number.is_integer() else repr(number)
    return value.isoformat() if isinstance(value, (date, time)) else None


def tasks_to_frame(
    rows: Iterable[TaskRow], *, row_type: type[TaskRow] | None = None, backend: Library | None = None
) -> Any:
    """Return task rows as a frame: the columns of their table, the row type's own ones with their types.

    An id that is not set is null. Every other column of the table is text.

    Args:
        rows: rows of one stage, from `read_tasks` or made by hand.
        row_type: their class; that of the first if not given.
        backend: whose frame it is to be, `pandas`, `polars` or `pyarrow`; the first of them that is installed, if not
            given.

    Raises:
        TaskTableError: as `rows` raises it.
        TypeError: rows of more than one class.
        ValueError: no rows, and nothing that says what the columns are; another backend.
        ImportError: that library is not installed.

    Example:
        >>> from docid import DraftTask
        >>> tasks_to_frame([DraftTask(task_id="t-1", combo_id="tides")], backend="polars")["combo_id"].to_list()
        ['tides']
    """
    row_type = row_type or getattr(rows, "row_type", None)
    names = dict.fromkeys(getattr(rows, "columns", ()))
    held = list(rows)
    if row_type is None:
        if not held:
            raise ValueError("rows: none, so the columns are unknown; pass row_type")
        row_type = check_row(held[0])
    own = {column.name: column for column in schema_of(row_type).columns}
    for row in held:
        if not isinstance(row, row_type):
            raise TypeError(f"rows: expected rows of {row_type.__name__}, got {type(row).__name__}")
        names |= dict.fromkeys(texts_of(row))
    if not names:
        names = dict.fromkeys(name for name, column in own.items() if column.always)
    data: dict[str, tuple[type, list[Any]]] = {}
    for name in names:
        if name not in own:
            data[name] = str, [row.extra.get(name) for row in held]
            continue
        column = own[name]
        values = [getattr(row, column.attribute) for row in held]
        if _is_too_large(column.kind, values):
            data[name] = str, [None if value is None else str(value) for value in values]
        else:
            data[name] = column.kind, [None if value == "" and name in _IDS else value for value in values]
    return _frame(data, backend)


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

    The columns: `doc_id`, `task_id`, `parent_doc_id`, `run_id`, `created_at` (UTC), `location`; the sizes in bytes
    `raw_bytes`, `parsed_bytes`, `prompt_bytes`; the texts that are asked for (`raw_text`, …); and one for each key of
    the metadata (`metadata.<key>` where a column has that name already). A key has the type of its values where they
    have one (text, numbers, booleans), and is JSON text where they do not.

    Args:
        store: where the documents are.
        stage: their stage.
        texts: the parts whose texts are read too: `raw`, `parsed`, `prompt`.
        metadata: the keys that are wanted; all if not given.
        skip_unreadable: leave out documents that cannot be read, which are an error otherwise.
        backend: as for `tasks_to_frame`.

    Raises:
        UnreadableDocument: a document that cannot be read.
        InvalidName: none of the store's stages.
        ValueError: no such part; another backend.
        TypeError: no store.
        ImportError: that library is not installed.
        OSError: the stage cannot be listed, or the store did not answer.

    Example:
        >>> from docid import DocsStore, Document
        >>> store = DocsStore("memory://")
        >>> _ = store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="Once", metadata={"words": 1}))
        >>> documents_to_frame(store, "draft", texts=["raw"], backend="polars")["words", "raw_text"].rows()
        [(1, 'Once')]
    """
    check_store(store)
    if wrong := [part for part in texts if part not in {"raw", "parsed", "prompt"}]:
        raise ValueError(f"texts: expected raw, parsed or prompt, got {wrong[0]!r}")
    found: Iterable[Any] = (
        answered(store.backend, store.stages.check(stage)) if skip_unreadable else store.documents(stage)
    )
    rows: dict[str, dict[str, Any]] = {}
    said: dict[str, dict[str, Any]] = {}
    for document in found:
        if not isinstance(document, StoredDocument):
            continue
        try:
            parts = {f"{part}_text": document.text(part) for part in texts}
            sizes = document.sizes
        except StoreUnavailable:
            raise  # what did not answer is not unreadable
        except (DocidError, OSError):
            if skip_unreadable:
                continue
            raise
        rows[document.doc_id] = {
            "doc_id": document.doc_id,
            "task_id": document.task_id,
            "parent_doc_id": document.parent_doc_id,
            "run_id": document.run_id,
            "created_at": document.created_at,
            "location": document.location,
            **{f"{part}_bytes": sizes.get(part) for part in ("raw", "parsed", "prompt")},
            **parts,
        }
        keys = shallow(document.metadata)
        said[document.doc_id] = keys if metadata is None else {key: keys.get(key) for key in metadata}
    kinds: dict[str, type] = {**dict.fromkeys(_DOCUMENT_TEXTS, str), "created_at": date}
    kinds |= {f"{part}_bytes": int for part in ("raw", "parsed", "prompt")}
    kinds |= {f"{part}_text": str for part in texts}
    in_order = sorted(rows)
    data = {name: (kind, [rows[doc_id][name] for doc_id in in_order]) for name, kind in kinds.items()}
    for key in dict.fromkeys(metadata or (key for each in said.values() for key in each)):
        values = [said[doc_id].get(key) for doc_id in in_order]
        name = key
        while name in data:
            name = f"metadata.{name}"
        data[name] = _of_one_kind(values)
    return _frame(data, backend)


_DOCUMENT_TEXTS = ("doc_id", "task_id", "parent_doc_id", "run_id", "location")


def _of_one_kind(values: list[Any]) -> tuple[type, list[Any]]:
    """Return the type of values that have one, and otherwise their JSON texts."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) == 1 and (kind := kinds.pop()) in {str, int, bool, float} and not _is_too_large(kind, values):
        return kind, values
    exact = all(abs(value) <= _EXACT for value in values if type(value) is int)
    if kinds == {int, float} and exact:
        return float, [None if value is None else float(value) for value in values]
    return str, [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]


def _is_too_large(kind: type, values: list[Any]) -> bool:
    """Return whether whole numbers are among values that a column of 64 bits cannot hold."""
    return kind is int and any(value is not None and not -(2**63) <= value < 2**63 for value in values)


def scores_to_frame(scores: Iterable[Score], *, backend: Library | None = None) -> Any:
    """Return scores, from `docid.curate.scores`, as a frame: their fields, and `<stage>_doc_id` for each ancestor.

    What there is none of is null.

    Args:
        scores: the scores.
        backend: as for `tasks_to_frame`.

    Raises:
        ValueError: another backend.
        TypeError: what are no scores.
        ImportError: that library is not installed.

    Example:
        >>> from docid.curate import Score
        >>> given = Score("v1", "e1", "t-1__x__clarity", "clarity", "large-1", 7.5, "", "", "t-1__x", {"draft": "d1"})
        >>> scores_to_frame([given], backend="polars")["score", "draft_doc_id"].rows()
        [(7.5, 'd1')]
    """
    held: list[Any] = list(scores) if isinstance(scores, Iterable) else [scores]
    if odd := [each for each in held if not isinstance(each, Score)]:
        raise TypeError(f"scores: expected what docid.curate.scores(store) gives, got {type(odd[0]).__name__}")
    names = Score._fields[:-1]
    kinds = {"score": float, "created_at": date}
    data: dict[str, tuple[type, list[Any]]] = {
        name: (kinds.get(name, str), [_or_none(getattr(each, name)) for each in held]) for name in names
    }
    made = [None if each is None else datetime.fromisoformat(each) for each in data["created_at"][1]]
    data["created_at"] = date, made
    for stage in dict.fromkeys(stage for each in held for stage in each.ancestors):
        data[f"{stage}_doc_id"] = str, [each.ancestors.get(stage) or None for each in held]
    return _frame(data, backend)


def _or_none(value: Any) -> Any:
    return None if value == "" else value


def findings_to_frame(report: AuditReport, *, backend: Library | None = None) -> Any:
    """Return what an audit found as a frame: code, level, stage, doc_id, task_id, where, message, hint, all text.

    Args:
        report: what `audit` gave.
        backend: as for `tasks_to_frame`.

    Raises:
        ValueError: another backend.
        TypeError: what is no report.
        ImportError: that library is not installed.

    Example:
        >>> from docid import DraftTask, audit
        >>> found = audit(None, {"draft": [DraftTask(task_id="t-1")]})
        >>> findings_to_frame(found, backend="polars")["code", "task_id"].rows()
        [('missing-doc-id', 't-1')]
    """
    if not isinstance(report, AuditReport):
        raise TypeError(f"report: expected an AuditReport, as audit gives it, got {type(report).__name__}")
    rows = report.rows()
    return _frame({name: (str, [_or_none(row[name]) for row in rows]) for name in FIELDS}, backend)


def _frame(data: Mapping[str, tuple[type, Sequence[Any]]], backend: Library | None) -> Any:
    """Return a frame of these columns, each with the type of its values, which may be None."""
    library = _library(backend)
    types: dict[type, Any] = {str: nw.String(), int: nw.Int64(), float: nw.Float64(), bool: nw.Boolean()}
    types[date] = nw.Datetime("us", "UTC")
    series = []
    for given, (kind, values) in data.items():
        name = utf8(given)
        held = [None if value is None else utf8(value) for value in values] if kind is str else list(values)
        if library == "pandas" and kind in {int, bool} and None in held:
            # Its own numbers and booleans know no null.
            dtype = "Int64" if kind is int else "boolean"
            column = import_module(library).Series(held, dtype=dtype, name=name)
            series.append(nw.from_native(column, series_only=True))
        else:
            series.append(nw.new_series(name, held, types[kind], backend=library))
    return nw.concat([each.to_frame() for each in series], how="horizontal").to_native()


def _library(backend: Library | None) -> Library:
    if backend is not None and backend not in _LIBRARIES:
        raise ValueError(f"backend: expected pandas, polars or pyarrow, got {backend!r}")
    for name in _LIBRARIES if backend is None else (backend,):
        if find_spec(name) is not None:
            return name
    wanted = backend or "one of pandas, polars and pyarrow"
    raise ImportError(f"a data frame needs {wanted}: pip install {backend or 'pandas'}")

"""Task rows, stored documents, scores and findings as frames."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date, datetime
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import narwhals as nw

from docid._text import utf8
from docid.core.document import PART_FILES, shallow
from docid.core.findings import FIELDS
from docid.errors import DocidError, StoreUnavailable
from docid.operations.audit import AuditReport
from docid.operations.curate.scores import Score
from docid.store.docs_store import check_store
from docid.store.scanning import scan
from docid.store.stored import StoredDocument
from docid.tables.rows import TaskRow, format_cells, schema_of
from docid.tables.tasks import check_row

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from docid.core.document import Part
    from docid.store.docs_store import DocsStore

    Library = Literal["pandas", "polars", "pyarrow"]
    Columns = dict[str, tuple[type, Sequence[Any]]]  # by name: the type of the values, and the values or None

__all__ = ["documents_to_frame", "findings_to_frame", "scores_to_frame", "tasks_to_frame"]

_LIBRARIES: tuple[Library, ...] = ("pandas", "polars", "pyarrow")
_IDS = ("doc_id", "parent_doc_id", "source_doc_id", "doc_run_id", "doc_salt")
_DOCUMENT_FIELDS = ("doc_id", "task_id", "parent_doc_id", "run_id", "created_at", "location")
_EXACT = 2**53  # a float rounds whole numbers beyond this


def tasks_to_frame(
    rows: Iterable[TaskRow], *, row_type: type[TaskRow] | None = None, backend: Library | None = None
) -> Any:
    """Return task rows as a frame with the columns of their table; the row type's own columns keep their types.

    An id that is not set is null. Every other column of the table is text.

    Args:
        rows: rows of one stage, from `read_tasks` or made by hand.
        row_type: their class; default: that of the first row.
        backend: the library of the frame, `pandas`, `polars` or `pyarrow`; default: the first one installed.

    Raises:
        TaskTableError: as `rows` raises it.
        TypeError: the rows have more than one class.
        ValueError: there are no rows and no `row_type`; or `backend` is another library.
        ImportError: the library is not installed.

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
        names |= dict.fromkeys(format_cells(row))
    data: Columns = {}
    for name in names or [name for name, column in own.items() if column.always]:
        if column := own.get(name):
            values = [getattr(row, column.attribute) for row in held]
            data[name] = column.kind, [None if value == "" and name in _IDS else value for value in values]
        else:
            data[name] = str, [row.extra.get(name) for row in held]
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

    The columns: `doc_id`, `task_id`, `parent_doc_id`, `run_id`, `created_at` (UTC), `location`; the sizes in bytes
    `raw_bytes`, `parsed_bytes`, `prompt_bytes`; the texts you ask for (`raw_text`, …); and one for each metadata key
    (`metadata.<key>` where another column has that name). The values of a key keep their type if they have one in
    common (text, numbers, booleans); otherwise they become JSON text.

    Args:
        store: the store.
        stage: one of its stages.
        texts: the parts whose texts to read too: `raw`, `parsed`, `prompt`.
        metadata: the metadata keys to include; default: all.
        skip_unreadable: leave out unreadable documents instead of raising an error.
        backend: as for `tasks_to_frame`.

    Raises:
        UnreadableDocument: a document cannot be read.
        InvalidName: the store has no such stage.
        ValueError: there is no such part; or as for `tasks_to_frame`.
        TypeError: `store` is not a store.
        ImportError: as for `tasks_to_frame`.
        OSError: the stage cannot be listed, or the store did not answer.

    Example:
        >>> from docid import DocsStore, Document
        >>> store = DocsStore("memory://")
        >>> _ = store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="Once", metadata={"words": 1}))
        >>> documents_to_frame(store, "draft", texts=["raw"], backend="polars")["words", "raw_text"].rows()
        [(1, 'Once')]
    """
    check_store(store)
    if wrong := [part for part in texts if part not in PART_FILES]:
        raise ValueError(f"texts: expected raw, parsed or prompt, got {wrong[0]!r}")
    kinds: dict[str, type] = {**dict.fromkeys(_DOCUMENT_FIELDS, str), "created_at": date}
    kinds |= {f"{part}_bytes": int for part in PART_FILES} | {f"{part}_text": str for part in texts}
    rows: dict[str, dict[str, Any]] = {}
    keys: dict[str, dict[str, Any]] = {}
    stage = store.stages.check(stage)
    for document in scan(store.backend, stage, is_strict=True) if skip_unreadable else store.documents(stage):
        if not isinstance(document, StoredDocument):
            continue
        try:
            row: dict[str, Any] = {f"{part}_text": document.text(part) for part in texts}
            row |= {f"{part}_bytes": document.sizes.get(part) for part in PART_FILES}
        except (DocidError, OSError) as error:
            # A document that a store did not answer for may be readable.
            if isinstance(error, StoreUnavailable) or not skip_unreadable:
                raise
            continue
        rows[document.doc_id] = row | {name: getattr(document, name) for name in _DOCUMENT_FIELDS}
        found = shallow(document.metadata)
        keys[document.doc_id] = found if metadata is None else {key: found.get(key) for key in metadata}
    in_order = sorted(rows)
    data: Columns = {name: (kind, [rows[doc_id][name] for doc_id in in_order]) for name, kind in kinds.items()}
    for key in dict.fromkeys(metadata or (key for each in keys.values() for key in each)):
        name = key
        while name in data:
            name = f"metadata.{name}"
        data[name] = _find_kind([keys[doc_id].get(key) for doc_id in in_order])
    return _make_frame(data, backend)


def _find_kind(values: list[Any]) -> tuple[type, list[Any]]:
    """Return the type that values have in common, and them; their JSON texts if they have none."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) == 1 and kinds <= {str, int, bool, float}:
        return kinds.pop(), values
    if kinds == {int, float} and all(abs(value) <= _EXACT for value in values if type(value) is int):
        return float, values
    return str, [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]


def scores_to_frame(scores: Iterable[Score], *, backend: Library | None = None) -> Any:
    """Return scores, from `docid.curate.scores`, as a frame: their fields, and `<stage>_doc_id` for each ancestor.

    A field that a score does not have is null.

    Args:
        scores: the scores.
        backend: as for `tasks_to_frame`.

    Raises:
        TypeError: something in `scores` is not a score.
        ValueError, ImportError: as for `tasks_to_frame`.

    Example:
        >>> from docid.curate import Score
        >>> given = Score("v1", "e1", "t-1__x__clarity", "clarity", "large-1", 7.5, "", "", "t-1__x", {"draft": "d1"})
        >>> scores_to_frame([given], backend="polars")["score", "draft_doc_id"].rows()
        [(7.5, 'd1')]
    """
    held: list[Any] = list(scores) if isinstance(scores, Iterable) else [scores]
    if odd := [each for each in held if not isinstance(each, Score)]:
        raise TypeError(f"scores: expected what docid.curate.scores(store) gives, got {type(odd[0]).__name__}")
    data: Columns = {name: (str, [getattr(each, name) or None for each in held]) for name in Score._fields[:-1]}
    data["score"] = float, [each.score for each in held]
    created = (each.created_at for each in held)
    data["created_at"] = date, [datetime.fromisoformat(each) if each else None for each in created]
    for stage in dict.fromkeys(stage for each in held for stage in each.ancestors):
        data[f"{stage}_doc_id"] = str, [each.ancestors.get(stage) or None for each in held]
    return _make_frame(data, backend)


def findings_to_frame(report: AuditReport, *, backend: Library | None = None) -> Any:
    """Return the findings of an audit as a frame: code, level, stage, doc_id, task_id, where, message, hint, all text.

    Args:
        report: the report that `audit` returned.
        backend: as for `tasks_to_frame`.

    Raises:
        TypeError: `report` is not an AuditReport.
        ValueError, ImportError: as for `tasks_to_frame`.

    Example:
        >>> from docid import DraftTask, audit
        >>> found = audit(None, {"draft": [DraftTask(task_id="t-1")]})
        >>> findings_to_frame(found, backend="polars")["code", "task_id"].rows()
        [('missing-doc-id', 't-1')]
    """
    if not isinstance(report, AuditReport):
        raise TypeError(f"report: expected an AuditReport, as audit gives it, got {type(report).__name__}")
    rows = report.rows()
    return _make_frame({name: (str, [row[name] or None for row in rows]) for name in FIELDS}, backend)


def _make_frame(data: Columns, backend: Library | None) -> Any:
    library = _choose_library(backend)
    series = [_make_series(utf8(name), kind, values, library) for name, (kind, values) in data.items()]
    return nw.concat([each.to_frame() for each in series], how="horizontal").to_native()


def _make_series(name: str, kind: type, values: Sequence[Any], library: Library) -> nw.Series[Any]:
    """Return a column of values of one type, or None. Whole numbers become text if one is beyond 64 bits."""
    if kind is int and any(value is not None and not -(2**63) <= value < 2**63 for value in values):
        kind = str
    if kind is str:
        values = [None if value is None else utf8(str(value)) for value in values]
    if library == "pandas" and kind in {int, bool} and None in values:
        # The default numbers and booleans of pandas have no null.
        dtype = "Int64" if kind is int else "boolean"
        return nw.from_native(import_module("pandas").Series(values, dtype=dtype, name=name), series_only=True)
    types: dict[type, Any] = {str: nw.String(), int: nw.Int64(), float: nw.Float64(), bool: nw.Boolean()}
    return nw.new_series(name, values, types.get(kind) or nw.Datetime("us", "UTC"), backend=library)


def _choose_library(backend: Library | None) -> Library:
    if backend is not None and backend not in _LIBRARIES:
        raise ValueError(f"backend: expected pandas, polars or pyarrow, got {backend!r}")
    for name in _LIBRARIES if backend is None else (backend,):
        if find_spec(name) is not None:
            return name
    wanted = backend or "one of pandas, polars and pyarrow"
    raise ImportError(f"a data frame needs {wanted}: pip install {backend or 'pandas'}")

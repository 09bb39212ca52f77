"""Task rows built from stored documents and their ancestors."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from docid._text import shown, utf8
from docid.core.document import OUR_KEYS
from docid.core.ids import is_doc_id, reserve_doc_id
from docid.errors import DocumentNotFound, InvalidName, StoreUnavailable, UnreadableDocument
from docid.operations.curate.notes import Note
from docid.tables.rows import (
    DraftTask,
    EssayTask,
    EvaluationTask,
    TaskRow,
    find_fault,
    plain_text,
    row_type_of,
    schema_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from docid.store.docs_store import DocsStore
    from docid.store.stored import StoredDocument

__all__ = ["IDENTITY", "Ancestors", "Builder", "checked_row_type"]

IDENTITY = frozenset({"task_id", "doc_id", "parent_doc_id", "doc_run_id", "doc_salt", "source_doc_id"})
"""The fields of a row that say which document it is, and not what the document is made from."""

_KNOWN = 10_000  # ancestors that are remembered


class _Known(NamedTuple):
    """What is known of a document without its texts."""

    stage: str
    doc_id: str
    task_id: str | None
    parent_doc_id: str | None
    metadata: Mapping[str, str]


class Ancestors:
    """Looks documents and their ancestors up, by path; the last ones are remembered.

    Args:
        store: where they are.
        keys: the keys of metadata that are of use; all if None.
    """

    def __init__(self, store: DocsStore, keys: frozenset[str] | None) -> None:
        self._store = store
        self._keys = keys
        self._get = lru_cache(_KNOWN)(self._look)

    def of(self, document: StoredDocument) -> list[_Known]:
        """Return a document and its ancestors, as far as they are there."""
        chain = [self._known(document)]
        while (parent := self._parent(chain[-1])) is not None:
            chain.append(parent)
        return chain

    def _parent(self, child: _Known) -> _Known | None:
        stage = self._store.stages.parent_of(child.stage)
        if stage is None or child.parent_doc_id is None or not is_doc_id(child.parent_doc_id):
            return None
        return self._get(stage, child.parent_doc_id)

    def _look(self, stage: str, doc_id: str) -> _Known | None:
        try:
            return self._known(self._store.open(stage, doc_id))
        except StoreUnavailable:
            raise  # what did not answer is not missing, nor damaged
        except (DocumentNotFound, UnreadableDocument, OSError):
            return None

    def _known(self, document: StoredDocument) -> _Known:
        texts = {
            key: utf8(plain_text(value))
            for key, value in document.metadata.items()
            if isinstance(value, (str, int, float)) and (self._keys is None or key in self._keys)
        }
        return _Known(document.stage, document.doc_id, document.task_id, document.parent_doc_id, texts)


class Builder:
    """Builds the task row of a stored document out of what it and its ancestors say."""

    def __init__(self, store: DocsStore, row_type: type[TaskRow]) -> None:
        self._row_type = row_type
        self._schema = schema_of(row_type)
        self._own = [column for column in self._schema.columns if column.attribute not in IDENTITY]
        # Whatever the documents of another pipeline say beside its columns.
        self._with_others = row_type not in {DraftTask, EssayTask, EvaluationTask}
        keys = None if self._with_others else self._schema.names | {"template_id", "model_id"}
        self._ancestors = Ancestors(store, keys)
        self.unsaid: Counter[str] = Counter()

    def row(self, document: StoredDocument) -> TaskRow:
        """Return the row.

        Raises:
            ValueError: the document does not say what such a row has to have.
        """
        if document.task_id is None:
            raise ValueError("its record, of an older system, does not say its task: docid migrate")
        if self._row_type.parent_stage is not None and document.parent_doc_id is None:
            raise ValueError("its record does not say its parent: docid migrate")
        chain = self._ancestors.of(document)
        values: dict[str, Any] = {}
        for column in self._own:
            text = self._text(column.name, chain)
            try:
                if text is not None:
                    values[column.argument] = column.parse(text)
                    continue
            except ValueError:
                text = None
            if column.required:
                raise ValueError(f"its record does not say {column.name}, which such a row has to have")
            self.unsaid[column.name] += 1
        row = self._row_type(
            task_id=document.task_id,
            doc_id=document.doc_id,
            parent_doc_id=document.parent_doc_id,
            doc_run_id=_run_id(document),
            extra=self._others(chain) if self._with_others else {},
            **values,
        )
        if fault := find_fault(row):
            column_name, value, expected = fault
            raise ValueError(f"its {column_name} is {shown(value)}, which no table can hold: {expected}")
        return row

    def unsaid_notes(self) -> Iterator[Note]:
        """Return the columns that the documents did not say."""
        for column, count in self.unsaid.items():
            yield Note("unsaid", f"column {column}", None, f"left empty in {count:,} rows: the documents do not say it")

    def _others(self, chain: list[_Known]) -> dict[str, str]:
        parents = {f"{each.stage}_task_id": each.task_id for each in chain[1:2] if each.task_id is not None}
        taken = {*self._schema.names, *OUR_KEYS, "source_doc_id"}
        return {key: text for key, text in {**parents, **chain[0].metadata}.items() if key not in taken}

    def _text(self, name: str, chain: list[_Known]) -> str | None:
        """Return the text of a column, as the nearest document says it: by a key of that name, or otherwise."""
        base = name.removesuffix("_name")
        if base != name and base in self._schema.names:
            # The name of a model comes from the document that the model comes from.
            decides = next((each for each in chain if self._said(base, each) is not None), None)
            return None if decides is None else decides.metadata.get(name)
        texts = (self._said(name, each) for each in chain)
        return next((text for text in texts if text is not None), None)

    def _said(self, name: str, known: _Known) -> str | None:
        """Return what one document says of a column."""
        if name in known.metadata:
            return known.metadata[name]
        template, model = known.metadata.get("template_id"), known.metadata.get("model_id")
        stage = known.stage
        meant = {f"{stage}_task_id": known.task_id, f"{stage}_template": template, f"{stage}_model": model}
        # A generation model is that of the nearest stage that has no column for its own.
        if f"{stage}_model" not in self._schema.names:
            meant["generation_model"] = model
        return meant.get(name)


def _run_id(document: StoredDocument) -> str | None:
    """Return the run id of a document if its id comes from it."""
    run_id, task_id = document.run_id, document.task_id or ""
    try:
        derived = None if run_id is None else reserve_doc_id(document.stage, task_id, run_id)
    except InvalidName:
        return None
    return run_id if derived == document.doc_id else None


def checked_row_type(store: DocsStore, stage: str, row_type: type[TaskRow] | None) -> type[TaskRow]:
    """Return the row type of a stage, or the one that was given for it.

    Raises:
        ValueError: that is one of another stage.
    """
    row_type = row_type_of(stage, store.stages) if row_type is None else row_type
    if row_type.stage != stage:
        raise ValueError(f"row_type: expected rows of stage {stage!r}, got {row_type.__name__} of {row_type.stage!r}")
    return row_type

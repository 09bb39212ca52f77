"""Task rows built from stored documents and their ancestors."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from docid.curate.notes import Note
from docid.errors import DocumentNotFound, UnreadableDocument
from docid.ids import is_doc_id, reserve_doc_id
from docid.rows import TaskRow, plain_text, row_type_of, schema_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from docid.store import DocsStore
    from docid.stored import StoredDocument

__all__ = ["Ancestors", "Builder", "checked_row_type"]

_KNOWN = 10_000  # ancestors that are remembered


class _Known(NamedTuple):
    """What is known of a document without its texts."""

    stage: str
    doc_id: str
    task_id: str | None
    parent_doc_id: str | None
    metadata: Mapping[str, Any]


class Ancestors:
    """Looks documents and their ancestors up, by path; the last ones are remembered."""

    def __init__(self, store: DocsStore) -> None:
        self._store = store
        self._get = lru_cache(_KNOWN)(self._look)

    def of(self, document: StoredDocument) -> list[_Known]:
        """Return a document and its ancestors, as far as they are there."""
        chain = [_known(document)]
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
            return _known(self._store.open(stage, doc_id))
        except (DocumentNotFound, UnreadableDocument):
            return None


def _known(document: StoredDocument) -> _Known:
    scalars = {key: value for key, value in document.metadata.items() if isinstance(value, (str, int, float))}
    return _Known(document.stage, document.doc_id, document.task_id, document.parent_doc_id, scalars)


class Builder:
    """Builds the task row of a stored document out of what it and its ancestors say."""

    def __init__(self, store: DocsStore, row_type: type[TaskRow]) -> None:
        self._row_type = row_type
        self._schema = schema_of(row_type)
        self._ancestors = Ancestors(store)
        self._own = [
            column
            for column in self._schema.columns
            if column.attribute not in {"task_id", "doc_id", "parent_doc_id", "doc_run_id", "doc_salt", "source_doc_id"}
        ]
        self.unsaid: Counter[str] = Counter()

    def row(self, document: StoredDocument) -> TaskRow:
        """Return the row.

        Raises:
            ValueError: the document does not say what such a row has to have.
        """
        if document.task_id is None:
            raise ValueError("its record, of an older system, does not say its task: docid migrate")
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
        # Of a stage without row type of its own: whatever its documents say.
        extra = {} if self._own else self._others(chain)
        run_id = document.run_id
        if run_id is not None and reserve_doc_id(document.stage, document.task_id, run_id) != document.doc_id:
            run_id = None  # the id was not derived with it
        return self._row_type(
            task_id=document.task_id,
            doc_id=document.doc_id,
            parent_doc_id=document.parent_doc_id,
            doc_run_id=run_id,
            extra=extra,
            **values,
        )

    def unsaid_notes(self) -> Iterator[Note]:
        """Return the columns that the documents did not say."""
        for column, count in self.unsaid.items():
            yield Note("unsaid", f"column {column}", None, f"left empty in {count:,} rows: the documents do not say it")

    def _others(self, chain: list[_Known]) -> dict[str, str]:
        parents = {f"{each.stage}_task_id": each.task_id for each in chain[1:2] if each.task_id is not None}
        found = {key: plain_text(value) for key, value in chain[0].metadata.items()}
        return {key: text for key, text in {**parents, **found}.items() if key not in self._schema.names}

    def _text(self, name: str, chain: list[_Known]) -> str | None:
        """Return the text of a column: a key of that name, of the nearest that has one; or what stands for it."""
        for each in chain:
            if name in each.metadata:
                return plain_text(each.metadata[name])
        for each in chain:
            meant = {
                f"{each.stage}_task_id": each.task_id,
                f"{each.stage}_template": each.metadata.get("template_id"),
                f"{each.stage}_model": each.metadata.get("model_id"),
            }
            # A generation model is that of the nearest stage that has no column for its own.
            if f"{each.stage}_model" not in self._schema.names:
                meant["generation_model"] = each.metadata.get("model_id")
            if meant.get(name) is not None:
                return plain_text(meant[name])
        return None


def checked_row_type(store: DocsStore, stage: str, row_type: type[TaskRow] | None) -> type[TaskRow]:
    """Return the row type of a stage, or the one that was given for it.

    Raises:
        ValueError: that is one of another stage.
    """
    row_type = row_type_of(stage, store.stages) if row_type is None else row_type
    if row_type.stage != stage:
        raise ValueError(f"row_type: expected rows of stage {stage!r}, got {row_type.__name__} of {row_type.stage!r}")
    return row_type

"""Build task rows from stored documents and their ancestors."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from docid._text import shown, utf8
from docid.core.document import OUR_KEYS
from docid.core.ids import is_doc_id, reserve_doc_id
from docid.errors import InvalidName
from docid.operations.curate.notes import Note
from docid.store.scanning import try_load
from docid.store.stored import StoredDocument
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

__all__ = ["IDENTITY", "Ancestors", "Builder", "check_row_type"]

IDENTITY = frozenset({"task_id", "doc_id", "parent_doc_id", "doc_run_id", "doc_salt", "source_doc_id"})
"""The fields of a row that identify its document; the other fields say what it is made from."""

_REMEMBERED = 10_000  # ancestors


class _Facts(NamedTuple):
    """What a row may take from a document: its record without the texts."""

    stage: str
    doc_id: str
    task_id: str | None
    parent_doc_id: str | None
    metadata: Mapping[str, str]


class Ancestors:
    """Looks up the ancestors of documents, by path; the last ones are remembered.

    Args:
        store: where they are.
        keys: the keys of metadata to keep; all if None.
    """

    def __init__(self, store: DocsStore, keys: frozenset[str] | None) -> None:
        self._store = store
        self._keys = keys
        self._load = lru_cache(_REMEMBERED)(self._try_load)

    def chain_of(self, document: StoredDocument) -> list[_Facts]:
        """Return a document and its ancestors, the nearest first, as far as they are there."""
        chain = [self._read(document)]
        while (parent := self._find_parent(chain[-1])) is not None:
            chain.append(parent)
        return chain

    def _find_parent(self, child: _Facts) -> _Facts | None:
        stage = self._store.stages.parent_of(child.stage)
        if stage is None or child.parent_doc_id is None or not is_doc_id(child.parent_doc_id):
            return None
        return self._load(stage, child.parent_doc_id)

    def _try_load(self, stage: str, doc_id: str) -> _Facts | None:
        found = try_load(self._store.backend, stage, doc_id)
        return self._read(found) if isinstance(found, StoredDocument) else None

    def _read(self, document: StoredDocument) -> _Facts:
        texts = {
            key: utf8(plain_text(value))
            for key, value in document.metadata.items()
            if isinstance(value, (str, int, float)) and (self._keys is None or key in self._keys)
        }
        return _Facts(document.stage, document.doc_id, document.task_id, document.parent_doc_id, texts)


class Builder:
    """Builds task rows from the records of documents and their ancestors."""

    def __init__(self, store: DocsStore, row_type: type[TaskRow]) -> None:
        self._row_type = row_type
        self._schema = schema_of(row_type)
        self._own = [column for column in self._schema.columns if column.attribute not in IDENTITY]
        # Rows of another pipeline also take all other texts and numbers of the metadata.
        self._with_others = row_type not in {DraftTask, EssayTask, EvaluationTask}
        keys = None if self._with_others else self._schema.names | {"template_id", "model_id"}
        self._ancestors = Ancestors(store, keys)
        self._unsaid: Counter[str] = Counter()

    def build(self, document: StoredDocument) -> TaskRow:
        """Return the row.

        Raises:
            ValueError: the records lack a value that the row must have.
        """
        if document.task_id is None:
            raise ValueError("its record, of an older system, does not say its task: docid migrate")
        if self._row_type.parent_stage is not None and document.parent_doc_id is None:
            raise ValueError("its record does not say its parent: docid migrate")
        chain = self._ancestors.chain_of(document)
        values: dict[str, Any] = {}
        for column in self._own:
            text = self._find_text(column.name, chain)
            try:
                if text is not None:
                    values[column.argument] = column.parse(text)
                    continue
            except ValueError:
                text = None
            if column.required:
                raise ValueError(f"its record does not say {column.name}, which such a row has to have")
            self._unsaid[column.name] += 1
        row = self._row_type(
            task_id=document.task_id,
            doc_id=document.doc_id,
            parent_doc_id=document.parent_doc_id,
            doc_run_id=_find_run_id(document),
            extra=self._find_others(chain) if self._with_others else {},
            **values,
        )
        if fault := find_fault(row):
            column_name, value, expected = fault
            raise ValueError(f"its {column_name} is {shown(value)}, which no table can hold: {expected}")
        return row

    def note_unsaid(self) -> Iterator[Note]:
        """Return a note for each column for which some documents had no value."""
        for column, count in self._unsaid.items():
            yield Note("unsaid", f"column {column}", None, f"left empty in {count:,} rows: the documents do not say it")

    def _find_others(self, chain: list[_Facts]) -> dict[str, str]:
        parents = {f"{each.stage}_task_id": each.task_id for each in chain[1:2] if each.task_id is not None}
        taken = {*self._schema.names, *OUR_KEYS, "source_doc_id"}
        return {key: text for key, text in {**parents, **chain[0].metadata}.items() if key not in taken}

    def _find_text(self, name: str, chain: list[_Facts]) -> str | None:
        """Return the text of a column from the nearest document that has one."""
        base = name.removesuffix("_name")
        if base != name and base in self._schema.names:
            # The name of a model comes from the document that the model comes from.
            decides = next((each for each in chain if self._read_text(base, each) is not None), None)
            return None if decides is None else decides.metadata.get(name)
        texts = (self._read_text(name, each) for each in chain)
        return next((text for text in texts if text is not None), None)

    def _read_text(self, name: str, facts: _Facts) -> str | None:
        """Return the text of a column from one document: a key of that name, or one that means the same."""
        if name in facts.metadata:
            return facts.metadata[name]
        template, model = facts.metadata.get("template_id"), facts.metadata.get("model_id")
        stage = facts.stage
        meant = {f"{stage}_task_id": facts.task_id, f"{stage}_template": template, f"{stage}_model": model}
        # A generation model is that of the nearest stage that has no column for its own.
        if f"{stage}_model" not in self._schema.names:
            meant["generation_model"] = model
        return meant.get(name)


def _find_run_id(document: StoredDocument) -> str | None:
    """Return the run id of a document if its id comes from it."""
    run_id, task_id = document.run_id, document.task_id or ""
    try:
        derived = None if run_id is None else reserve_doc_id(document.stage, task_id, run_id)
    except InvalidName:
        return None
    return run_id if derived == document.doc_id else None


def check_row_type(store: DocsStore, stage: str, row_type: type[TaskRow] | None) -> type[TaskRow]:
    """Return the row type of a stage, or the one that was given for it.

    Raises:
        ValueError: that is one of another stage.
    """
    row_type = row_type_of(stage, store.stages) if row_type is None else row_type
    if row_type.stage != stage:
        raise ValueError(f"row_type: expected rows of stage {stage!r}, got {row_type.__name__} of {row_type.stage!r}")
    return row_type

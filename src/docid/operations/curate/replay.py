"""`replay`: build task rows from stored documents; also the notes, times, ancestors and rows that curation shares."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, NamedTuple

import attrs

from docid._files import raise_time_limit
from docid._text import escape_surrogates, format_count, quote
from docid.core.document import OUR_KEYS
from docid.core.ids import is_doc_id, refuse_text, reserve_doc_id
from docid.errors import DocidError, DocumentNotFound, InvalidName, StoreUnavailable
from docid.store.ancestry import find_changed_sources
from docid.store.docs_store import DocsStore, check_store
from docid.store.scanning import try_load
from docid.store.stored import StoredDocument
from docid.tables.reserve import check_noted_run_and_salt
from docid.tables.rows import (
    DraftTask,
    EssayTask,
    EvaluationTask,
    TaskRow,
    find_fault,
    find_lookalike,
    row_type_of,
    schema_of,
    with_source,
)
from docid.tables.tasks import TaskRows
from docid.tables.values import plain_text

IDENTITY = frozenset({"task_id", "doc_id", "parent_doc_id", "doc_run_id", "doc_salt", "source_doc_id", "input_doc_ids"})
"""The fields of a row that identify its document; the other fields describe how to make it."""

_CACHE_SIZE = 10_000  # ancestors


class Note(NamedTuple):
    """A note on something that curation left out, or chose from several.

    A `Finding` is a fault of one document; a `Change` is the outcome of an operation for one document.

    Attributes:
        kind: the reason, as a stable code for programs.
        where: the row of a table, or the document.
        task_id: its task, if known.
        message: the reason, for people.
        number: the number of evaluations or rows that the note counts.
    """

    kind: str
    where: str
    task_id: str | None
    message: str
    number: int = 1


class ReplayedRows(TaskRows[TaskRow]):
    """The rows of stored documents as a stream, and notes on omissions.

    Attributes:
        notes: the notes so far. `gone`: a document is not in the store. `unusable`: it cannot be read or gives no
            valid row. `no-prompt`: it was stored without a prompt. `taken`: with this salt or run id, a second
            document of the same task would get the same id. `unsaid`, at the end: a column that documents have no value
            for.
    """

    def __init__(self, row_type: type[TaskRow], rows: Iterator[tuple[int, TaskRow]], notes: list[Note]) -> None:
        super().__init__(row_type, "", (), rows)
        self.notes = notes


def replay(
    store: DocsStore,
    stage: str,
    doc_ids: Iterable[str],
    *,
    run_id: str | None = None,
    salt: str | None = None,
    row_type: type[TaskRow] | None = None,
) -> ReplayedRows:
    """Build task rows from stored documents, so that you can run them again without their old table.

    Each row has the id of its document; a run with `if_exists="replace"` makes a new version. With a run id or salt
    the row gets a new id, for a second document; with a run id alone, it keeps its salt. If the document has a prompt,
    the row's `source_doc_id` names it, and `store.source_prompt` returns that prompt.

    Column values come from metadata keys of the same name, of the document or its nearest ancestor with such a key.
    `<stage>_template` and `<stage>_model` also come from `template_id` and `model_id` of the document of that stage,
    and `<stage>_task_id` from its task. The name of a model comes from the same document as the model. Row types other
    than docid's own three take all texts and numbers of the metadata into `extra`.

    Args:
        store: the store with the documents.
        stage: the stage of the documents.
        doc_ids: the documents.
        run_id, salt: as for `reserve_doc_id`.
        row_type: the class of the rows; by default the one for the stage.

    Raises:
        InvalidName: the store lacks the stage, or the run id or salt is invalid.
        ValueError: `row_type` belongs to another stage.

    Example:
        >>> from docid import DocsStore, Document
        >>> from docid.backends import MemoryBackend
        >>> store = DocsStore(MemoryBackend())
        >>> texts = {"raw_text": "once", "prompt_text": "Write."}
        >>> metadata = {"template_id": "plain", "model_id": "m-1"}
        >>> _ = store.write(Document(stage="draft", doc_id="d1", task_id="t-1", metadata=metadata, **texts))
        >>> [row] = replay(store, "draft", ["d1"])
        >>> row.doc_id, row.draft_template, row.generation_model, store.source_prompt(row)
        ('d1', 'plain', 'm-1', 'Write.')
    """
    builder = RowBuilder(store, stage, row_type)
    refuse_text(doc_ids, "doc_ids", "doc ids")
    check_noted_run_and_salt(run_id, salt)
    return ReplayedRows(builder.row_type, _build_rows(builder, doc_ids, run_id, salt), builder.notes)


def _build_rows(
    builder: "RowBuilder", doc_ids: Iterable[str], run_id: str | None, salt: str | None
) -> Iterator[tuple[int, TaskRow]]:
    stage, notes, backend = builder.row_type.stage, builder.notes, builder.store.backend
    taken: dict[str, str] = {}
    for number, opened in enumerate(backend.each(builder.open, dict.fromkeys(doc_ids)), 1):
        doc_id, document = opened
        row = builder.build(doc_id, document)
        if row is None or isinstance(document, Exception):
            continue
        where = f"{stage}/{doc_id}"
        if "prompt" in document.sizes:
            row = with_source(row, doc_id)
        else:
            message = "stored without its prompt, so the row has no source_doc_id. The pipeline must render the prompt"
            notes.append(Note("no-prompt", where, row.task_id, message))
        if run_id is not None or salt is not None:
            # In another run, replicates of a task keep the salts by which they differ.
            own_salt = row.doc_salt if salt is None else salt
            own = reserve_doc_id(stage, row.task_id, run_id, own_salt)
            row = attrs.evolve(row, doc_id=own, doc_run_id=run_id, doc_salt=own_salt)
            if (other := taken.setdefault(own, doc_id)) != doc_id:
                remedy = f"Replay it with another {'run id' if salt is None else 'salt'}"
                message = f"same task as {stage}/{other}, which has the new doc id {own} already. {remedy}"
                notes.append(Note("taken", where, row.task_id, message))
                continue
        yield number, row
    builder.note_empty_columns()


class Ancestors:
    """Loads the ancestors of documents, and caches them."""

    def __init__(self, store: DocsStore) -> None:
        self._stages = store.stages
        self._load = lru_cache(_CACHE_SIZE)(partial(try_load, store.backend))

    def find_changed(self, document: StoredDocument) -> str:
        """Return the parent and inputs that are other versions now than the document was made from, for a cell.

        `parent`, and `input.STAGE/ID` for each input, separated by blanks; empty if none has changed.
        """
        changed = find_changed_sources(document, self._stages, self._load)
        return " ".join("parent" if each.role == "parent" else f"input.{each.source}" for each in changed)

    def chain_of(self, document: StoredDocument) -> list[StoredDocument]:
        """Return a document and its ancestors, nearest first, up to the first missing one."""
        chain, last = [document], document
        while (stage := self._stages.parent_of(last.stage)) is not None and is_doc_id(last.parent_doc_id or ""):
            found = self._load(stage, last.parent_doc_id or "")
            if not isinstance(found, StoredDocument):
                break
            last = found
            chain.append(last)
        return chain


def read_texts(document: StoredDocument) -> dict[str, str]:
    """Return the texts and numbers of a document's metadata, as text."""
    plain = {key: value for key, value in document.metadata.items() if isinstance(value, (str, int, float))}
    return {key: escape_surrogates(plain_text(value)) for key, value in plain.items()}


class RowBuilder:
    """Builds task rows from the records of documents and their ancestors, and notes omissions."""

    def __init__(self, store: DocsStore, stage: str, row_type: type[TaskRow] | None) -> None:
        stage = check_store(store).stages.check(stage)
        row_type = row_type_of(stage, store.stages) if row_type is None else row_type
        if row_type.stage != stage:
            expected = f"expected rows of stage {stage!r}, got {row_type.__name__} of {row_type.stage!r}"
            raise ValueError(f"row_type: {expected}")
        self.store = store
        self.row_type = row_type
        self.notes: list[Note] = []
        self._schema = schema_of(row_type)
        self._ancestors = Ancestors(store)
        self._empty: Counter[str] = Counter()

    def open(self, doc_id: str) -> tuple[str, StoredDocument | Exception]:
        """Return a doc id with its document, or with the error of opening it."""
        try:
            return doc_id, self.store.open(self.row_type.stage, doc_id)
        except (DocidError, OSError) as error:
            raise_time_limit(error)
            return doc_id, error

    def build(self, doc_id: str, document: StoredDocument | Exception) -> TaskRow | None:
        """Return the row of a document; None, with a note, if the document is missing or gives no valid row."""
        try:
            if isinstance(document, Exception):
                raise document
            return self._build(document)
        except StoreUnavailable:
            raise  # the document is neither missing nor damaged
        except (DocidError, ValueError, OSError) as error:
            raise_time_limit(error)
            kind = "gone" if isinstance(error, DocumentNotFound) else "unusable"
            self.notes.append(Note(kind, f"{self.row_type.stage}/{doc_id}", None, str(error)))
            return None

    def note_empty_columns(self) -> None:
        """Note each column for which some documents had no value."""
        for column, count in self._empty.items():
            message = f"empty in {format_count(count, 'row')}: the documents have no value for it"
            self.notes.append(Note("unsaid", f"column {column}", None, message))

    def _build(self, document: StoredDocument) -> TaskRow:
        task_id = document.task_id
        if task_id is None:
            raise ValueError("its record has no task_id; run 'docid migrate'")
        if self.row_type.parent_stage is not None and document.parent_doc_id is None:
            raise ValueError("its record has no parent_doc_id; run 'docid migrate'")
        chain = self._ancestors.chain_of(document)
        found = [self._read_columns(each) for each in chain]
        values: dict[str, Any] = {"extra": self._find_others(chain)}
        for column in self._schema.columns:
            if column.attribute in IDENTITY:
                continue
            base = column.name.removesuffix("_name")
            # Take the name of a model from the same document as the model.
            key = base if base in self._schema.names else column.name
            text = next((texts.get(column.name) for texts in found if key in texts), None)
            try:
                if text is not None:
                    values[column.argument] = column.parse(text)
                    continue
            except ValueError:
                pass
            if column.required:
                raise ValueError(f"its record has no {column.name}, which the row needs")
            self._empty[column.name] += 1
        run_id, salt = document.facts.id_from or (_find_run_id(document, task_id), None)
        values |= {"task_id": task_id, "doc_id": document.doc_id, "parent_doc_id": document.parent_doc_id}
        row = self.row_type(doc_run_id=run_id, doc_salt=salt, input_doc_ids=document.inputs, **values)
        if fault := find_fault(row):
            column_name, value, expected = fault
            raise ValueError(f"its {column_name} is {quote(value)}, which a table cannot hold: {expected}")
        return row

    def _find_others(self, chain: list[StoredDocument]) -> dict[str, str]:
        """Return the other texts and numbers of the metadata, for rows of another pipeline."""
        if self.row_type in {DraftTask, EssayTask, EvaluationTask}:
            return {}
        parents = {f"{each.stage}_task_id": each.task_id for each in chain[1:2] if each.task_id is not None}
        taken = {*self._schema.names, *OUR_KEYS, "source_doc_id"}
        return {
            key: text
            for key, text in {**parents, **read_texts(chain[0])}.items()
            if key not in taken and not find_lookalike(self.row_type, (key,))
        }

    def _read_columns(self, document: StoredDocument) -> dict[str, str]:
        """Return the texts of a document by column, from keys of the same name or meaning."""
        stage, texts = document.stage, read_texts(document)
        template, model = texts.get("template_id"), texts.get("model_id")
        columns = {f"{stage}_task_id": document.task_id, f"{stage}_template": template, f"{stage}_model": model}
        # `generation_model` is the model of the nearest stage without a model column of its own.
        if f"{stage}_model" not in self._schema.names:
            columns["generation_model"] = model
        return {key: text for key, text in columns.items() if text is not None} | texts


def _find_run_id(document: StoredDocument, task_id: str) -> str | None:
    """Return the run id of a record if its doc id derives from it: records of docid 0.1 do not say."""
    try:
        derived = document.run_id and reserve_doc_id(document.stage, task_id, document.run_id)
    except InvalidName:
        return None
    return document.run_id if derived == document.doc_id else None


def read_time(document: StoredDocument) -> datetime | None:
    """Return the creation time in a record, also of an older system; None if it has none."""
    if document.created_at is not None or not document.legacy:
        return document.created_at
    text: Any = document.record.get("created_at")
    try:
        moment = datetime.fromisoformat(text)
        return None if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def file_time(store: DocsStore, stage: str, doc_id: str) -> datetime | None:
    """Return the time of the last write of a document's raw text; None if unknown."""
    seconds = store.backend.last_modified(stage, doc_id)
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None  # a time past the year 9999

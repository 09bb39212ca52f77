"""`replay`: build the task rows of stored documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from docid.core.ids import refuse_text, reserve_doc_id
from docid.errors import DocidError
from docid.operations.curate.notes import Note
from docid.operations.curate.rows import Builder, check_row_type
from docid.store.docs_store import check_store
from docid.tables.reserve import check_noted
from docid.tables.rows import TaskRow, with_source
from docid.tables.tasks import TaskRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from docid.store.docs_store import DocsStore
    from docid.store.stored import StoredDocument

__all__ = ["ReplayedRows", "replay"]


class ReplayedRows(TaskRows[TaskRow]):
    """The rows of stored documents, as a stream, and what was left out.

    Attributes:
        notes: what was left out so far. `gone`: documents that are not in the store. `unusable`: documents that cannot
            be read, or made a row of. `no-prompt`: documents that were stored without one. `taken`: with a salt or run
            id, a second document of one task, which would have the first one's id. `unsaid`, at the end: columns that
            the documents do not say.
    """

    def __init__(self, row_type: type[TaskRow], build: Callable[[list[Note]], Iterator[tuple[int, TaskRow]]]) -> None:
        self.notes: list[Note] = []
        super().__init__(row_type, "", (), build(self.notes))


def replay(
    store: DocsStore,
    stage: str,
    doc_ids: Iterable[str],
    *,
    run_id: str | None = None,
    salt: str | None = None,
    row_type: type[TaskRow] | None = None,
) -> ReplayedRows:
    """Build task rows from stored documents alone, so that each can be run again exactly without its old table.

    A row has the document's own id: run again with `if_exists="replace"` it makes another version of it. With a run id
    or a salt it has an id of its own, for a document beside the first. Its `source_doc_id` names the document, where
    that was stored with its prompt: `store.source_prompt` sends that again as it was.

    The columns come from the metadata: keys of the same name, of the document or else of its nearest ancestor that has
    one; `<stage>_template` and `<stage>_model` also from `template_id` and `model_id` of that stage's document, and
    `<stage>_task_id` from its task. Of other row types than docid's own three all texts and numbers of the metadata are
    taken, into `extra`. A model's name comes from the document that the model comes from.

    Args:
        store: where the documents are.
        stage: their stage.
        doc_ids: their ids.
        run_id, salt: as for `reserve_doc_id`.
        row_type: the class of the rows; that of the stage if not given.

    Raises:
        InvalidName: none of the store's stages; a run id or salt that the id scheme refuses.
        ValueError: a row type of another stage.

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
    check_store(store)
    row_type = check_row_type(store, store.stages.check(stage), row_type)
    refuse_text(doc_ids, "doc_ids", "doc ids")
    check_noted(run_id, salt)
    return ReplayedRows(row_type, lambda notes: _build_rows(store, doc_ids, row_type, run_id, salt, notes))


_NO_PROMPT = "stored without its prompt: the row has no source_doc_id, and the pipeline has to render one"


def _open(store: DocsStore, stage: str, doc_id: str) -> tuple[str, StoredDocument | Exception]:
    try:
        return doc_id, store.open(stage, doc_id)
    except (DocidError, OSError) as error:
        return doc_id, error


def _build_rows(  # noqa: PLR0917 - from one place
    store: DocsStore,
    doc_ids: Iterable[str],
    row_type: type[TaskRow],
    run_id: str | None,
    salt: str | None,
    notes: list[Note],
) -> Iterator[tuple[int, TaskRow]]:
    stage, builder = row_type.stage, Builder(store, row_type)
    taken: dict[str, str] = {}
    opened = store.backend.each(lambda doc_id: _open(store, stage, doc_id), dict.fromkeys(doc_ids))
    for number, (doc_id, document) in enumerate(opened, 1):
        where = f"{stage}/{doc_id}"
        try:
            if isinstance(document, Exception):
                raise document
            row = builder.build(document)
        except (DocidError, ValueError, OSError) as error:
            notes.append(Note.from_error(where, error))
            continue
        if "prompt" in document.sizes:
            row = with_source(row, doc_id)
        else:
            notes.append(Note("no-prompt", where, row.task_id, _NO_PROMPT))
        if run_id is not None or salt is not None:
            own = reserve_doc_id(stage, row.task_id, run_id, salt)
            row = attrs.evolve(row, doc_id=own, doc_run_id=run_id, doc_salt=salt)
            if (other := taken.setdefault(own, doc_id)) != doc_id:
                message = f"same doc id {own} as {stage}/{other}, which is of the same task; replay it apart"
                notes.append(Note("taken", where, row.task_id, message))
                continue
        yield number, row
    notes += builder.note_unsaid()

"""Notes on what curation left out, and the time at which a document was made."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from docid.errors import DocumentNotFound, StoreUnavailable

if TYPE_CHECKING:
    from docid.store.docs_store import DocsStore
    from docid.store.stored import StoredDocument

__all__ = ["Note", "file_time", "find_time", "read_time"]


class Note(NamedTuple):
    """Something that curation left out, or chose among several, and why.

    It has no stable code, and one note may count many evaluations or rows. A `Finding` is a fault of one document, a
    `Change` the result of an operation for one document.

    Attributes:
        kind: why it was left out, for programs.
        where: the row of a table, or the document.
        task_id: its task, where that is known.
        message: what was left out, and why.
        number: how many evaluations or rows it counts.
    """

    kind: str
    where: str
    task_id: str | None
    message: str
    number: int = 1

    @classmethod
    def from_error(cls, where: str, error: Exception) -> Note:
        """Return the note on a document that gave no row: it is `gone` or `unusable`.

        Raises:
            StoreUnavailable: the store did not answer: the document is neither missing nor damaged.
        """
        if isinstance(error, StoreUnavailable):
            raise error
        return cls("gone" if isinstance(error, DocumentNotFound) else "unusable", where, None, str(error))


def find_time(store: DocsStore, document: StoredDocument) -> datetime | None:
    """Return when a document was made: as its record says, or else its file; None if neither does."""
    return read_time(document) or file_time(store, document.stage, document.doc_id)


def read_time(document: StoredDocument) -> datetime | None:
    """Return when a document was made by its record, also an older system's; None if the record has no time."""
    if document.created_at is not None or not document.legacy:
        return document.created_at
    said: Any = document.record.get("created_at")
    try:
        moment = datetime.fromisoformat(said)
        return None if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def file_time(store: DocsStore, stage: str, doc_id: str) -> datetime | None:
    """Return when the raw text of a document was last written; None if that is not known."""
    seconds = store.backend.modified(stage, doc_id)
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None  # a time past the year 9999

"""Facts of a stored document, for `docid show` and `docid ls`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docid.core.document import timestamp
from docid.core.metadata import shallow

if TYPE_CHECKING:
    from docid.store.stored import StoredDocument


def facts_of(document: StoredDocument) -> dict[str, Any]:
    """Return what is known of a document without its texts."""
    return {
        "stage": document.stage,
        "doc_id": document.doc_id,
        "task_id": document.task_id,
        "parent_doc_id": document.parent_doc_id,
        "run_id": document.run_id,
        "created_at": None if document.created_at is None else timestamp(document.created_at),
        "location": document.location,
        "parts": document.sizes,
        "legacy": document.legacy,
        "metadata": shallow(document.metadata),
    }


def format_parts(document: StoredDocument) -> str:
    """Return its parts and their sizes."""
    return ", ".join(f"{part} {size:,} bytes" for part, size in document.sizes.items())

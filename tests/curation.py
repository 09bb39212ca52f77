"""Documents and scores for the tests of curation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from docid import DocsStore, Document
from docid.curate import Score

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def put(store: DocsStore, stage: str, doc_id: str, task_id: str, **more: Any) -> Document:
    """Store a document; its parent need not exist."""
    document = Document(**{"stage": stage, "doc_id": doc_id, "task_id": task_id, "raw_text": "text", **more})
    store.write(document, require_parent=False)
    return document


def kinds(notes: Any) -> list[str]:
    return [note.kind for note in notes]


def decide_outcome(store: DocsStore) -> DocsStore:
    """Store two drafts, an essay of each, an essay without a draft, and evaluations of the essays."""
    put(store, "draft", "d1", "t-1", metadata={"combo_id": "c-1", "template_id": "dt", "model_id": "dm"})
    put(store, "draft", "d2", "t-2", metadata={"combo_id": "c-2", "template_id": "dt", "model_id": "dm"})
    for doc_id, draft in (("e1", "d1"), ("e2", "d2"), ("e3", "gone")):
        essay = {"template_id": "et", "model_id": "em"}
        put(store, "essay", doc_id, f"task-{doc_id}", parent_doc_id=draft, metadata=essay, prompt_text="Write.")
    texts = [("v1", "e1", "7.0\n"), ("v2", "e1", "3"), ("v3", "e2", " 5e0 "), ("v4", "e3", "5.0"), ("v5", "e2", None)]
    for doc_id, of, parsed in texts:
        metadata: dict[str, Any] = {"template_id": "strict" if doc_id == "v2" else "kind", "model_id": 4}
        put(
            store,
            "evaluation",
            doc_id,
            f"task-{doc_id}",
            parent_doc_id=of,
            parsed_text=parsed,
            metadata=metadata,
            created_at=NOON,
        )
    return store


def score(doc_id: str, parent: str, number: float | None, template: str = "") -> Score:
    """Return the score that an evaluation gave to its parent."""
    return Score(doc_id, parent, "", template, "", number, "", "", "", {})

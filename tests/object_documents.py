"""Drafts for the tests of object stores, and the secret that no message may contain."""

from __future__ import annotations

from typing import Any

from docid import Document
from tests.servers import CREDENTIALS

SECRET = CREDENTIALS["secret_access_key"]


def draft(doc_id: str = "d1", raw_text: str = "once", **fields: Any) -> Document:
    return Document(stage="draft", doc_id=doc_id, raw_text=raw_text, **{"task_id": "t-1", **fields})

"""Drafts for the tests of object stores, and the secret that no message may contain."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from docid import DEFAULT_STAGES, DocsStore, Document
from docid.backends.objects import ObjectsBackend
from docid.store.backends.objects.bucket import Bucket
from tests.servers import PATIENCE, SECRET, Moto, Proxy

__all__ = ["SECRET", "bucket_of", "connect", "draft"]


def draft(doc_id: str = "d1", raw_text: str = "once", **fields: Any) -> Document:
    return Document(stage="draft", doc_id=doc_id, raw_text=raw_text, **{"task_id": "t-1", **fields})


def bucket_of(store: DocsStore) -> Bucket:
    """Return the bucket of a store."""
    backend = store.backend
    assert isinstance(backend, ObjectsBackend)
    return backend._bucket


def connect(proxy: Proxy, s3: Moto, url: str, *, is_checked: bool = True, **retries: Any) -> DocsStore:
    """Return a store that sends its requests through a proxy."""
    quick = {
        "max_retries": 3,
        "backoff": {
            "base": 2,
            "init_backoff": timedelta(milliseconds=10),
            "max_backoff": timedelta(milliseconds=50),
        },
        **retries,
    }
    options = s3.options(endpoint=proxy.endpoint, retry_config=quick)
    options["client_options"] = {"allow_http": True, "timeout": timedelta(seconds=PATIENCE)}
    store = DocsStore(url, options=options, stages=DEFAULT_STAGES)
    if is_checked:  # the faults meet the requests of the test
        store.manifest._is_recorded = True
        bucket_of(store)._proof.require(lambda: None)
    return store

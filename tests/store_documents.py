"""Documents for the tests of stores."""

from __future__ import annotations

from typing import Any, NoReturn

import orjson

from docid import (
    DocsStore,
    Document,
    EssayTask,
)
from docid.backends import MemoryBackend
from docid.backends.objects import ObjectsBackend


def draft(doc_id: str = "a1", task_id: str = "t-1", raw_text: str = "once", **more: Any) -> Document:
    return Document(stage="draft", doc_id=doc_id, task_id=task_id, raw_text=raw_text, **more)


def essay(doc_id: str = "e1", task_id: str = "e-1", parent: str | None = "a1", **more: Any) -> Document:
    return Document(stage="essay", doc_id=doc_id, task_id=task_id, parent_doc_id=parent, **{"raw_text": "x", **more})


def put_legacy(store: DocsStore, stage: str, doc_id: str, keys: dict[str, Any], **parts: str) -> None:
    """Store a document in the format of an older system."""
    files = {f"{part}.txt": text.encode() for part, text in parts.items()}
    assert store.backend.create(stage, doc_id, orjson.dumps(keys), files)


ROW = EssayTask(task_id="e-1", doc_id="e1", parent_doc_id="a1")


def never(*_: object) -> NoReturn:
    raise AssertionError("the model was called")


def damage(store: DocsStore, name: str, data: bytes | None) -> None:
    """Change or delete (None) one file of draft/a1 without the store."""
    backend = store.backend
    if isinstance(backend, ObjectsBackend):
        stored = backend._bucket.get("draft/a1.json")
        assert stored is not None
        content = orjson.loads(stored.data)
        content["texts"][name] = None if data is None else data.decode("latin-1")
        content["texts"] = {file: text for file, text in content["texts"].items() if text is not None}
        backend._bucket.put("draft/a1.json", orjson.dumps(content, option=orjson.OPT_INDENT_2), "overwrite")
        return
    if isinstance(backend, MemoryBackend):
        found = backend._documents["draft"]["a1"]
        parts = {key: value for key, value in found.parts.items() if key != name}
        if name == "metadata.json":
            assert data is not None
            backend._documents["draft"]["a1"] = found._replace(record=data)
        else:
            backend._documents["draft"]["a1"] = found._replace(parts=parts if data is None else {**parts, name: data})
    else:
        path = store.path("draft", "a1") / name
        path.unlink() if data is None else path.write_bytes(data)

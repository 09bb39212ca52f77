"""Public import path of the object store backend (extra `objects`). See `docs/objects.md`."""

from __future__ import annotations

from docid.store.backends.objects.backend import ObjectsBackend

__all__ = ["ObjectsBackend"]

"""Public import path of the `Backend` protocol and of the built-in backends."""

from __future__ import annotations

from docid.store.backends.base import Backend, InternalFile, NewDocument, Stored
from docid.store.backends.local.backend import LocalBackend
from docid.store.backends.memory import MemoryBackend

__all__ = ["Backend", "InternalFile", "LocalBackend", "MemoryBackend", "NewDocument", "Stored"]

"""Public import path of the `Backend` protocol and of the built-in backends."""

from __future__ import annotations

from docid.store.backends.base import Backend, InternalFile, NewDocument, Removed, Stored, TracePath
from docid.store.backends.claims import Claim, Holder
from docid.store.backends.local.backend import LocalBackend
from docid.store.backends.memory import MemoryBackend

__all__ = [
    "Backend",
    "Claim",
    "Holder",
    "InternalFile",
    "LocalBackend",
    "MemoryBackend",
    "NewDocument",
    "Removed",
    "Stored",
    "TracePath",
]

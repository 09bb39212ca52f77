"""Where documents live: what a home has to offer, and the homes that the core brings."""

from __future__ import annotations

from docid.backends.base import Backend, NewDocument, Stored
from docid.backends.local import LocalBackend
from docid.backends.memory import MemoryBackend

__all__ = ["Backend", "LocalBackend", "MemoryBackend", "NewDocument", "Stored"]

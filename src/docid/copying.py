"""Public import path of `copy`."""

from __future__ import annotations

from docid.operations.copy import Copied, copy

__all__ = ["Copied", "copy"]

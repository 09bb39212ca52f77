"""Public import path of `copy`. See `docs/moving.md`."""

from __future__ import annotations

from docid.core.findings import Change
from docid.operations.copy import copy

__all__ = ["Change", "copy"]

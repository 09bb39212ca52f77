"""Public import path of `repair`. See `docs/repair.md`."""

from __future__ import annotations

from docid.operations.repair import Step, repair

__all__ = ["Step", "repair"]

"""Progress of commands on standard error. See `docid._progress`."""

from __future__ import annotations

import contextlib
from collections import Counter

from docid import _progress
from docid.errors import UnreadableDocument
from docid.store.docs_store import DocsStore


class Progress(_progress.Progress):
    """Shows how far a command is, its rate and the time left. The end of a `with` block removes it from the screen."""

    def __init__(self) -> None:
        super().__init__()
        self._done: Counter[str] = Counter()
        self._totals: dict[str, int | None] = {}

    def count_document(self, store: DocsStore, stage: str) -> None:
        """Show that one more document of a stage is done."""
        if stage not in self._totals:
            self._totals[stage] = None
            if self._is_terminal:  # the total takes one more listing
                with contextlib.suppress(UnreadableDocument, OSError):
                    self._totals[stage] = sum(1 for _ in store.ids(stage))
        self._done[stage] += 1
        self.show(f"documents of stage {stage}", self._done[stage], self._totals[stage])

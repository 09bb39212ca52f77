"""Progress on standard error, for a terminal alone: a bar where rich is installed, one line elsewhere."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from shutil import get_terminal_size
from time import monotonic
from typing import TYPE_CHECKING, Self

from docid.cli.terminal import find_rich, one_line
from docid.errors import UnreadableDocument
from docid.store.docs_store import DocsStore

if TYPE_CHECKING:
    from docid.cli.styled import Styled  # needs rich

_REFRESH = 0.1  # seconds between two updates
_SETTLE = 1.0  # seconds after which a rate means something


class Progress:
    """Shows how far a command is, how fast it goes, and how long the rest will take.

    It does nothing where standard error is no terminal. It is gone at the end of a `with` block.
    """

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._view: Styled | _Line | None = None
        self._what = ""
        self._started = self._updated = 0.0
        self._first = 0
        self._done: Counter[str] = Counter()
        self._totals: dict[str, int | None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    @property
    def callback(self) -> Callable[[str, int, int | None], object] | None:
        """What a function takes as `progress`: None where nobody looks."""
        return self.show if self._is_shown else None

    def show(self, what: str, done: int, of: int | None) -> None:
        """Show on the terminal that `done` of `of` things are done."""
        now = monotonic()
        if what != self._what:
            self._what, self._started, self._first = what, now, done
        elif now - self._updated < _REFRESH and done != of:
            return
        self._updated = now
        pace = _format_pace(done, of, done - self._first, now - self._started)
        if self._view is None:  # rich is slow to import
            self._view = find_rich(sys.stderr) or _Line()
        self._view.show_progress(one_line(what), pace, done, of)

    def count_document(self, store: DocsStore, stage: str) -> None:
        """Show that one document more of a stage is done."""
        if not self._is_shown:
            return
        if stage not in self._totals:
            self._totals[stage] = _count_documents(store, stage)
        self._done[stage] += 1
        self.show(f"documents of stage {stage}", self._done[stage], self._totals[stage])

    def clear(self) -> None:
        """Remove it from the screen: something else is about to be printed."""
        if self._view is not None:
            self._view.clear_progress()


class _Line:
    """Progress as one line of plain text, written over and over."""

    def __init__(self) -> None:
        self._width = 0

    def show_progress(self, what: str, pace: str, _done: int, _of: int | None) -> None:
        # What is longer than the terminal is wide would stay behind.
        line = f"{what}: {pace}"[: get_terminal_size().columns - 1]
        print(f"\r{line:<{self._width}}", end="", file=sys.stderr, flush=True)
        self._width = max(self._width, len(line))

    def clear_progress(self) -> None:
        if self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)
            self._width = 0


def _count_documents(store: DocsStore, stage: str) -> int | None:
    """Return how many documents a stage has; None where it cannot be listed."""
    try:
        return sum(1 for _ in store.ids(stage))
    except (UnreadableDocument, OSError):
        return None


def _format_pace(done: int, of: int | None, new: int, seconds: float) -> str:
    """Return how much is done, how fast it goes, and how long the rest will take."""
    text = f"{done:,}" + (f" of {of:,}" if of is not None else "")
    if seconds < _SETTLE or new <= 0:
        return text
    rate = new / seconds
    text += f", {rate:,.0f}/s" if rate >= 1 else f", {rate * 60:,.1f}/min"
    if of is not None and of > done:
        text += f", {_format_duration((of - done) / rate)} left"
    return text


def _format_duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

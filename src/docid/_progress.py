"""Progress on standard error: a bar with rich in a terminal or a notebook, or a line; elsewhere a line every 10 s."""

from __future__ import annotations

import contextlib
import os
import sys
from importlib.util import find_spec
from shutil import get_terminal_size
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, TextIO

from docid._text import escape_controls

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

_REFRESH = 0.1  # seconds between two updates
_INTERVAL = 10.0  # seconds between two lines, and before the first, unless standard error is a terminal
_SETTLE = 1.0  # seconds after which a rate means something


def find_console(stream: TextIO) -> Console | None:
    """Return rich's console; None if the stream is not a terminal or rich is not installed."""
    if not stream.isatty():
        return None
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    # rich takes COLUMNS=0 as the width, and would print nothing; for Python, the width is unknown then.
    width = get_terminal_size().columns if os.environ.get("COLUMNS") == "0" else None
    return Console(file=stream, markup=False, highlight=False, emoji=False, width=width)


def find_notebook() -> Console | None:
    """Return rich's console of a notebook with widgets; None elsewhere, and if something is not installed."""
    shell = sys.modules.get("IPython")
    kind = "" if shell is None else type(shell.get_ipython()).__name__
    if kind != "ZMQInteractiveShell" or find_spec("ipywidgets") is None or find_spec("rich") is None:
        return None
    from rich.console import Console  # noqa: PLC0415 - an extra

    return Console(markup=False, highlight=False, emoji=False)


class Progress:
    """Shows how far some work is, its rate and the time left. The end of a `with` block removes it from the screen."""

    def __init__(self) -> None:
        self._console: Console | None = find_notebook()
        self._is_terminal = sys.stderr.isatty() or self._console is not None
        self._bar: Bar | None = None
        self._width = 0  # of the line on the screen
        self._what = ""
        self._started = self._updated = monotonic()
        self._first = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, what: str, done: int, of: int | None) -> None:
        """Show that `done` of `of` items are done; pass None for an unknown total."""
        now = monotonic()
        is_new = what != self._what
        if is_new:
            self.clear()
            self._what, self._started, self._first = what, now, done
        if self._is_terminal:
            is_due = is_new or done == of or now - self._updated >= _REFRESH
        else:
            is_due = now - self._updated >= _INTERVAL
        if not is_due:
            return
        self._updated = now
        pace = _format_pace(done, of, done - self._first, now - self._started)
        if not self._is_terminal:
            # A reader that closed the pipe must not end the work.
            with contextlib.suppress(OSError):
                print(f"docid: {escape_controls(what)}: {pace}", file=sys.stderr, flush=True)
        elif self._bar is not None:
            self._bar.update(self._bar.task_ids[0], total=of, completed=done, pace=pace)
        elif console := self._console or find_console(sys.stderr):
            from rich.progress import BarColumn, TextColumn  # noqa: PLC0415 - an extra, and slow to import
            from rich.progress import Progress as Bar  # noqa: PLC0415 - as above

            columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[pace]}"))
            # Output clears the bar itself before it prints.
            bar = Bar(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
            bar.add_task(escape_controls(what), total=of, completed=done, pace=pace)
            bar.start()
            self._bar = bar
        else:
            # A longer line would wrap, and `clear` would leave its first part on the screen.
            line = f"{escape_controls(what)}: {pace}"[: get_terminal_size().columns - 1]
            print(f"\r{line:<{self._width}}", end="", file=sys.stderr, flush=True)
            self._width = max(self._width, len(line))

    def clear(self) -> None:
        """Remove the progress from the screen, so that something else can be printed."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)
            self._width = 0


class Callback:
    """Calls the `progress` argument of `ensure_many`: None is silent, True shows a bar, a function is called."""

    def __init__(self, progress: object) -> None:
        if progress is not None and not isinstance(progress, bool) and not callable(progress):
            raise TypeError(f"progress: expected None, True or a function, got {type(progress).__name__}")
        self._progress: Any = progress
        self._bar = Progress() if progress is True else None

    def show(self, done: int, total: int | None) -> None:
        """Report that `done` of `total` rows are done."""
        if self._bar is not None:
            self._bar.show("rows", done, total)
        elif self._progress:
            self._progress(done, total)

    def close(self) -> None:
        """Remove a bar from the screen."""
        if self._bar is not None:
            self._bar.clear()


def _format_pace(done: int, of: int | None, new: int, seconds: float) -> str:
    """Return the items done, the rate, and the time left."""
    text = f"{done:,}" + (f" of {of:,}" if of is not None else "")
    if seconds < _SETTLE or new <= 0:
        return text
    rate = new / seconds
    text += f", {rate:,.0f}/s" if rate >= 1 else f", {rate * 60:,.1f}/min"
    if of is not None and of > done:
        minutes, rest = divmod(round((of - done) / rate), 60)
        hours, minutes = divmod(minutes, 60)
        text += f", {hours}:{minutes:02}:{rest:02} left" if hours else f", {minutes}:{rest:02} left"
    return text

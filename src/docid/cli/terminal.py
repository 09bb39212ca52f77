"""What a terminal is shown beside plain lines: progress, tables, trees.

By rich (extra `cli`) where that is installed, and as plain text elsewhere. What is piped is plain text always, the same
with and without rich; progress is for a terminal alone. rich honours `NO_COLOR`.
"""

from __future__ import annotations

import sys
from collections import Counter
from shutil import get_terminal_size
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, TypeVar

from docid.cli.output import one_line
from docid.errors import UnreadableDocument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.console import Console
    from rich.progress import Progress

    from docid.store.ancestry import Lineage, Relative
    from docid.store.docs_store import DocsStore

    T = TypeVar("T")

_REFRESHED = 0.1  # seconds between two looks of a line
_SETTLED = 1.0  # seconds after which a rate means something


def console_of(stream: Any) -> Console | None:
    """Return rich's console for a terminal; None for a pipe or a file, and where rich is not installed."""
    if not stream.isatty():
        return None
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    return Console(file=stream, markup=False, highlight=False, emoji=False)


class Meter:
    """Says on standard error how far something is, how fast it goes and how long it will take.

    On a terminal alone; elsewhere it does nothing. At the end of a `with` block the line is gone.

    Attributes:
        is_shown: whether there is a terminal.
    """

    def __init__(self) -> None:
        self.is_shown: bool = sys.stderr.isatty()
        self._what = ""
        self._began = self._shown = 0.0
        self._first = self._width = 0
        self._console = console_of(sys.stderr)
        self._bars: Progress | None = None
        self._done: Counter[str] = Counter()
        self._totals: dict[str, int | None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    @property
    def progress(self) -> Callable[[str, int, int | None], object] | None:
        """What a function takes as `progress`: None where nobody looks."""
        return self.show if self.is_shown else None

    def show(self, what: str, done: int, of: int | None) -> None:
        """Show that so many things are done, of so many, where that is known."""
        if not self.is_shown:
            return
        now = monotonic()
        is_new = what != self._what
        if is_new:
            self._what, self._began, self._first = what, now, done
        elif now - self._shown < _REFRESHED and done != of:
            return
        self._shown = now
        text = _pace(done, of, done - self._first, now - self._began)
        if self._console is None:
            # What is longer than the terminal is wide would stay behind.
            line = one_line(f"{what}: {text}")[: get_terminal_size().columns - 1]
            print(f"\r{line:<{self._width}}", end="", file=sys.stderr, flush=True)
            self._width = max(self._width, len(line))
        else:
            self._draw(self._console, text, done, of, is_new=is_new)

    def _draw(self, console: Console, text: str, done: int, of: int | None, *, is_new: bool) -> None:
        if self._bars is None:
            from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415 - an extra

            columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[pace]}"))
            # What is printed meanwhile goes where it belongs, not through the bars.
            self._bars = Progress(
                *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._bars.start()
        if is_new or not self._bars.task_ids:
            for task in self._bars.task_ids:
                self._bars.remove_task(task)
            self._bars.add_task(one_line(self._what), total=of, completed=done, pace=text)
        else:
            self._bars.update(self._bars.task_ids[0], total=of, completed=done, pace=text)

    def over(self, items: Iterable[T], what: str, of: int | None = None) -> Iterator[T]:
        """Return items as they come, and show how many there were, until there are no more."""
        with self:
            for done, item in enumerate(items, 1):
                yield item
                self.show(what, done, of)

    def clear(self) -> None:
        """Remove the line: something is to be printed."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        elif self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)

    def document(self, store: DocsStore, stage: str) -> None:
        """Show that one document more of a stage is done, of as many as it has."""
        if not self.is_shown:
            return
        if stage not in self._totals:
            self._totals[stage] = _length(store, stage)
        self._done[stage] += 1
        self.show(f"documents of stage {stage}", self._done[stage], self._totals[stage])


def _length(store: DocsStore, stage: str) -> int | None:
    """Return how many documents a stage has; None where it cannot be listed."""
    try:
        return sum(1 for _ in store.ids(stage))
    except (UnreadableDocument, OSError):
        return None


def _pace(done: int, of: int | None, new: int, seconds: float) -> str:
    """Return how much is done, how fast it goes, and how long the rest will take."""
    text = f"{done:,}" + (f" of {of:,}" if of is not None else "")
    if seconds < _SETTLED or new <= 0:
        return text
    rate = new / seconds
    text += f", {rate:,.0f}/s" if rate >= 1 else f", {rate * 60:,.1f}/min"
    if of is not None and of > done:
        text += f", {_duration((of - done) / rate)} left"
    return text


def _duration(seconds: float) -> str:
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def print_table(lines: Sequence[Sequence[str]]) -> None:
    """Print lines in columns, the first line above them; the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    console = console_of(sys.stdout)
    # Where it is wider than the terminal its lines are better broken than its words. Three blanks stand between
    # columns.
    if console is None or sum(widths) + 3 * len(widths) + 1 > console.width:
        for first, *others in lines:
            cells = (f"{text:>{width}}" for text, width in zip(others, widths[1:], strict=True))
            print("  ".join((f"{first:<{widths[0]}}", *cells)))
        return
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - an extra
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    header, *rows = lines
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for position, name in enumerate(header):
        table.add_column(Text(name), justify="right" if position else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def print_heading(text: str, level: str = "") -> None:
    """Print a line above others: an `error` red, a `warning` yellow, anything else bold."""
    console = console_of(sys.stdout)
    if console is None:
        print(text)
        return
    styles = {"error": "bold red", "warning": "bold yellow"}
    console.print(text, style=styles.get(level, "bold"), soft_wrap=True)


def print_lineage(lineage: Lineage) -> None:
    """Print a lineage as a tree."""
    console = console_of(sys.stdout)
    plain_guides = {} if _can_show("├└│─") else str.maketrans("├└│─", "+`|-")
    for guides, relative in lineage.lines():
        guides = guides.translate(plain_guides)  # noqa: PLW2901 - the same lines
        mark = lineage.mark(relative)
        if console is None:
            print(f"{guides}{relative}{mark}")
        else:
            _print_relative(console, guides, relative, mark)


def _print_relative(console: Console, guides: str, relative: Relative, mark: str) -> None:
    from rich.text import Text  # noqa: PLC0415 - an extra

    style = "bold reverse" if mark else "bold"
    rest = str(relative).removeprefix(relative.name)
    line = Text.assemble((guides, "dim"), (relative.name, style), (rest, "red" if relative.problem else ""), mark)
    # Wider than the terminal it is broken there, and nothing is cut off.
    console.print(line, soft_wrap=True)


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True

"""Tables, headings, trees and a progress bar by rich (extra `cli`), for a terminal alone. rich honours `NO_COLOR`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from docid.store.ancestry import Relative

_STYLES = {"error": "bold red", "warning": "bold yellow"}


class Styled:
    """Prints on a terminal with rich."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, markup=False, highlight=False, emoji=False)
        self._bar: Progress | None = None
        self._what = ""

    def print_heading(self, text: str, level: str) -> None:
        """Print an `error` red, a `warning` yellow, anything else bold."""
        self._console.print(text, style=_STYLES.get(level, "bold"), soft_wrap=True)

    def print_table(self, lines: Sequence[Sequence[str]], width: int) -> bool:
        """Print a table whose cells need `width` characters; return False where the terminal is too narrow."""
        header, *rows = lines
        # rich puts three blanks between columns, and would break words where a table does not fit.
        if width + 3 * len(header) + 1 > self._console.width:
            return False
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
        for position, name in enumerate(header):
            table.add_column(Text(name), justify="right" if position else "left", no_wrap=True)
        for row in rows:
            table.add_row(*map(Text, row))
        self._console.print(table)
        return True

    def print_relative(self, guides: str, relative: Relative, mark: str) -> None:
        """Print one line of a tree."""
        rest = str(relative).removeprefix(relative.name)
        name = (relative.name, "bold reverse" if mark else "bold")
        line = Text.assemble((guides, "dim"), name, (rest, "red" if relative.problem else ""), mark)
        self._console.print(line, soft_wrap=True)  # a line wider than the terminal is broken there, not cut

    def show_progress(self, what: str, pace: str, done: int, of: int | None) -> None:
        """Draw a bar, or move it."""
        if self._bar is None or what != self._what:
            self.clear_progress()
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[pace]}"))
            # Output does not go through the bar: it has streams of its own.
            self._bar = Progress(
                *columns, console=self._console, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._bar.add_task(what, total=of, completed=done, pace=pace)
            self._bar.start()
            self._what = what
        else:
            self._bar.update(self._bar.task_ids[0], total=of, completed=done, pace=pace)

    def clear_progress(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

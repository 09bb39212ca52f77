"""All that commands print: lines, JSON, tables, headings, trees, written tables; and complaints on standard error.

On a terminal tables, headings and trees are drawn by rich (extra `cli`), which honours `NO_COLOR`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import attrs

from docid._text import escape_controls, name_task
from docid.cli.arguments import Arguments
from docid.cli.progress import Progress, find_console
from docid.core.findings import Change
from docid.errors import DocidError
from docid.operations.curate.replay import Note
from docid.store.ancestry import Lineage
from docid.store.docs_store import DocsStore
from docid.tables.rows import TaskRow, format_cells
from docid.tables.tasks import write_tasks

if TYPE_CHECKING:
    from rich.console import Console

FEW = 5  # findings of one code, names in a list
_STYLES = {"error": "bold red", "warning": "bold yellow"}


@attrs.define
class Output:
    """Prints for one command. What is printed first removes the progress from the screen.

    Attributes:
        stream: standard output, or standard error where a table goes to standard output.
        as_json: print facts as JSON, and no lines for people.
        stops_unread: raise BrokenPipeError when nobody reads any more (`docid ls | head`); otherwise print to nowhere
            from then on.
        progress: the progress of the command.
    """

    stream: TextIO
    as_json: bool = False
    stops_unread: bool = False
    progress: Progress = attrs.field(factory=Progress)

    def on_stderr(self, *, as_json: bool = False) -> Output:
        """Return the output that says on standard error what was done."""
        return attrs.evolve(self, stream=sys.stderr, as_json=as_json)

    def print(self, text: str = "") -> None:
        """Print one line of text that cannot steer a terminal; nothing with --json."""
        if not self.as_json:
            self._emit(printable(text).replace("\n", " "))

    def print_json(self, facts: dict[str, Any]) -> None:
        """Print facts as one line of JSON; nothing without --json."""
        if self.as_json:
            self._emit(_format_json(facts))

    def print_text(self, text: str) -> None:
        """Print lines of text that cannot steer a terminal, as UTF-8."""
        self.print_bytes(printable(text if text.endswith("\n") else f"{text}\n").encode())

    def print_bytes(self, data: bytes) -> None:
        """Print UTF-8 as it is, whatever the terminal's encoding and line ends."""
        self.progress.clear()
        buffer = getattr(self.stream, "buffer", None)
        if buffer is None:  # a caller of main() in a notebook, say
            print(data.decode(), end="", file=self.stream)
        else:
            self.stream.flush()
            buffer.write(data)

    def print_heading(self, text: str, level: str = "") -> None:
        """Print a line above others: on a terminal an `error` red, a `warning` yellow, anything else bold."""
        if console := self._find_console():
            console.print(text, style=_STYLES.get(level, "bold"), soft_wrap=True)
        else:
            self._emit(text)

    def print_table(self, lines: Sequence[Sequence[str]]) -> None:
        """Print lines in columns, the header first; the first column to the left, the others to the right."""
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        console = self._find_console()
        # rich puts three blanks between columns, and would break words where a table does not fit.
        if console is not None and sum(widths) + 3 * len(widths) + 1 <= console.width:
            from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - an extra
            from rich.table import Table  # noqa: PLC0415 - as above

            table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
            for position, name in enumerate(lines[0]):
                table.add_column(name, justify="right" if position else "left", no_wrap=True)
            for row in lines[1:]:
                table.add_row(*row)
            console.print(table)
            return
        for first, *others in lines:
            cells = (f"{text:>{width}}" for text, width in zip(others, widths[1:], strict=True))
            self._emit("  ".join((f"{first:<{widths[0]}}", *cells)))

    def print_tree(self, lineage: Lineage) -> None:
        """Print a lineage as a tree."""
        console = self._find_console()
        is_ascii = not "├".encode(self.stream.encoding or "utf-8", "ignore")
        plain_guides = str.maketrans("├└│─", "+`|-") if is_ascii else {}
        for guides, relative in lineage.lines():
            before, mark = guides.translate(plain_guides), lineage.mark(relative)
            if console is None:
                self._emit(f"{before}{relative}{mark}")
                continue
            # A line wider than the terminal is broken there, not cut.
            rest = str(relative).removeprefix(relative.name) + mark
            console.print(before, style="dim", end="", soft_wrap=True)
            console.print(relative.name, style="bold reverse" if mark else "bold", end="", soft_wrap=True)
            console.print(rest, style="red" if relative.problem else "", soft_wrap=True)

    def print_few(self, texts: Sequence[str], hint: str = "", limit: int = FEW) -> None:
        """Print the first few of a list, and how many more there are; the hint says where they are."""
        for text in cut_list(texts, hint, limit):
            self.print(f"  {text}")

    def print_notes(self, notes: Sequence[Note], *, as_json: bool = False) -> None:
        """Print what was left out, by kind, the first few of each; or all, as lines of JSON."""
        if as_json:
            for note in notes:
                self._emit(_format_json({"note": note._asdict()}))
            return
        for kind in dict.fromkeys(note.kind for note in notes):
            of_kind = [note for note in notes if note.kind == kind]
            self.print(f"{kind}: {sum(note.number for note in of_kind):,}")
            texts = [f"{note.where}{name_task(note.task_id)}: {note.message}" for note in of_kind]
            self.print_few(texts, " (--json gives all)")

    def print_changes(
        self,
        store: DocsStore,
        changes: Iterable[Change],
        describe: Callable[[Change], tuple[dict[str, Any], list[str]]],
    ) -> Counter[tuple[str, str]]:
        """Print each document as the JSON or the lines of `describe`; return how many have each outcome, by stage."""
        counts: Counter[tuple[str, str]] = Counter()
        for change in changes:
            counts[change.stage, change.outcome] += 1
            self.progress.count_document(store, change.stage)
            facts, lines = describe(change)
            self.print_json(facts)
            for line in lines:
                self.print(line)
        return counts

    def put_rows(self, arguments: Arguments, rows: Iterable[TaskRow], row_type: type[TaskRow]) -> Output:
        """Write task rows to where the options say; return where to say what was done."""
        return self.put_table(
            arguments, map(format_cells, rows), lambda path: write_tasks(path, rows, row_type=row_type)
        )

    def put_table(self, arguments: Arguments, rows: Iterable[dict[str, Any]], write: Callable[[str], object]) -> Output:
        """Write a table to where the options say; return where to say what was done.

        Args:
            arguments: the options of `make_output_arguments`.
            rows: the rows, for JSON.
            write: writes the table to a path.
        """
        output: str | None = arguments.output
        if arguments.json:
            for row in rows:
                self.print_json(row)
            return self.on_stderr()
        is_file = output is not None and is_replaced(output)
        done = "replaced" if output is not None and os.path.lexists(output) else "written"
        if output and is_file and not arguments.dry_run:
            write(output)
        else:
            with tempfile.TemporaryDirectory() as directory:
                path = Path(directory, "table.csv")
                write(str(path))
                if output is None:
                    self.print_bytes(path.read_bytes())
                elif not is_file:
                    Path(output).write_bytes(path.read_bytes())
        if not is_file:
            return self.on_stderr()
        self.print(f"{output}: {'would be ' if arguments.dry_run else ''}{done}")
        return self

    def _find_console(self) -> Console | None:
        self.progress.clear()
        return find_console(self.stream)

    def _emit(self, text: str) -> None:
        self.progress.clear()
        try:
            print(text, file=self.stream)
        except BrokenPipeError:
            if self.stops_unread:
                raise
            discard(self.stream)


def _format_json(facts: dict[str, Any]) -> str:
    """Return facts as JSON. It knows no NaN, which an older record may hold: that is null. An error is its text."""
    try:
        return json.dumps(facts, allow_nan=False, default=str)
    except ValueError:
        return json.dumps(json.loads(json.dumps(facts, default=str), parse_constant=lambda _: None))


def describe_change(change: Change) -> tuple[dict[str, Any], list[str]]:
    """Return what --json and the lines say of a record that was migrated, or got a key."""
    facts = change.to_dict()
    name = f"{change.location}{name_task(change.task_id)}"
    lines = [f"left alone  {name}: {change.message}"] if change.outcome == "leave" else []
    if change.warning:
        lines.append(f"differs     {name}: {change.warning}")
    return {"action": facts.pop("outcome"), **facts}, lines


def format_counts(counts: Mapping[tuple[str, str], int], stage: str, words: Mapping[str, str]) -> str:
    """Return how many documents of a stage have each outcome."""
    return ", ".join(f"{counts[stage, outcome]:,} {word}" for outcome, word in words.items())


def complain(what: object) -> None:
    """Print on standard error what is wrong, or good to know; of an error of the system the file, but no number."""
    text = str(what)
    if isinstance(what, OSError) and not isinstance(what, DocidError) and what.strerror:
        text = f"{os.fsdecode(what.filename)}: {what.strerror}" if what.filename else what.strerror
    print(f"docid: {printable(text)}", file=sys.stderr)


def discard(stream: TextIO) -> None:
    """Send what is printed from now on to nowhere: its reader is gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def printable(text: str) -> str:
    """Return a text with escapes for what would steer a terminal, or turn the order of characters."""
    return escape_controls(text.replace("\r\n", "\n"), keep="\n\t\u061c\u200e\u200f")  # the marks of right-to-left text


def cut_list(texts: Sequence[str], hint: str = "", limit: int = FEW) -> list[str]:
    """Return the first few of a list, and how many more there are."""
    more = len(texts) - limit
    return [*texts[:limit], *([f"… and {more:,} more{hint}"] if more > 0 else [])]


def join_few(names: Sequence[str]) -> str:
    """Return the first few names of a list, separated by commas."""
    return ", ".join(names[:FEW]) + (", …" if len(names) > FEW else "")


def is_replaced(path: str) -> bool:
    """Return whether a file is put in the place of what is there; a pipe or a device is written to."""
    return os.path.isfile(path) or not os.path.exists(path)

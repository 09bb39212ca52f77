"""All that commands print: lines, JSON, tables, headings, trees; and complaints on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

import attrs

from docid._text import name_task
from docid.cli.progress import Progress
from docid.cli.terminal import find_rich, one_line, printable
from docid.errors import DocidError
from docid.operations.curate.replay import Note
from docid.store.ancestry import Lineage

if TYPE_CHECKING:
    from docid.cli.styled import Styled  # needs rich

FEW = 5  # findings of one code, names in a list


@attrs.frozen
class Output:
    """Prints for one command. What is printed first removes the progress from the screen.

    Attributes:
        stream: standard output, or standard error where a table goes to standard output.
        as_json: print facts as JSON, and no lines for people.
        stops_unread: raise BrokenPipeError when nobody reads any more; otherwise print to nowhere from then on.
        progress: the progress of the command.
    """

    stream: TextIO
    as_json: bool = False
    stops_unread: bool = False
    progress: Progress = attrs.field(factory=Progress)

    def on_stderr(self, *, as_json: bool = False) -> Output:
        """Return the output that says on standard error what was done."""
        return attrs.evolve(self, stream=sys.stderr, as_json=as_json)

    def while_read(self) -> Output:
        """Return the output of a command that ends when nobody reads it any more (`docid ls | head`)."""
        return attrs.evolve(self, stops_unread=True)

    def print(self, text: str = "") -> None:
        """Print one line of text that cannot steer a terminal; nothing with --json."""
        if not self.as_json:
            self._emit(one_line(text))

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
        if rich := self._find_rich():
            rich.print_heading(text, level)
        else:
            self._emit(text)

    def print_table(self, lines: Sequence[Sequence[str]]) -> None:
        """Print lines in columns, the header first; the first column to the left, the others to the right."""
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rich = self._find_rich()
        if rich is not None and rich.print_table(lines, sum(widths)):
            return
        for first, *others in lines:
            cells = (f"{text:>{width}}" for text, width in zip(others, widths[1:], strict=True))
            self._emit("  ".join((f"{first:<{widths[0]}}", *cells)))

    def print_tree(self, lineage: Lineage) -> None:
        """Print a lineage as a tree."""
        rich = self._find_rich()
        is_ascii = not "├".encode(self.stream.encoding or "utf-8", "ignore")
        plain_guides = str.maketrans("├└│─", "+`|-") if is_ascii else {}
        for guides, relative in lineage.lines():
            before, mark = guides.translate(plain_guides), lineage.mark(relative)
            if rich is None:
                self._emit(f"{before}{relative}{mark}")
            else:
                rich.print_relative(before, relative, mark)

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

    def _find_rich(self) -> Styled | None:
        self.progress.clear()
        return find_rich(self.stream)

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


def discard(stream: TextIO) -> None:
    """Send what is printed from now on to nowhere: its reader is gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def complain(what: object) -> None:
    """Print on standard error what is wrong, or good to know; of an error of the system the file, but no number."""
    text = str(what)
    if isinstance(what, OSError) and not isinstance(what, DocidError) and what.strerror:
        text = f"{os.fsdecode(what.filename)}: {what.strerror}" if what.filename else what.strerror
    print(f"docid: {printable(text)}", file=sys.stderr)


def cut_list(texts: Sequence[str], hint: str = "", limit: int = FEW) -> list[str]:
    """Return the first few of a list, and how many more there are."""
    more = len(texts) - limit
    return [*texts[:limit], *([f"… and {more:,} more{hint}"] if more > 0 else [])]


def join_few(names: Sequence[str]) -> str:
    """Return the first few names of a list, separated by commas."""
    return ", ".join(names[:FEW]) + (", …" if len(names) > FEW else "")

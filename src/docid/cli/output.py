"""All output of the commands: lines, JSON, tables, headings, trees, written tables, progress, and standard error.

On a terminal, rich (extra `cli`) draws tables, headings and trees; it honours `NO_COLOR`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import attrs

from docid import _progress
from docid._progress import find_console
from docid._text import escape_controls, format_count, name_task
from docid.cli.arguments import Arguments
from docid.core.findings import Change
from docid.errors import DocidError, UnreadableDocument
from docid.operations.curate.replay import Note
from docid.store.ancestry import Lineage
from docid.store.docs_store import DocsStore
from docid.tables.rows import TaskRow, format_cells
from docid.tables.tasks import write_tasks

if TYPE_CHECKING:
    from rich.console import Console

FEW = 5  # the findings of one code, or the names in a list, that are printed
Styled = list[tuple[str, str]]  # a line in spans: each a text without control characters, and its style for rich
_STYLES = {"error": "bold red", "warning": "bold yellow"}


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


@attrs.define
class Output:
    """The output of one command. Each print first removes the progress from the screen.

    Attributes:
        stream: standard output, or standard error when a table goes to standard output.
        as_json: print facts as JSON, and no lines for people.
        ends_with_pipe: raise BrokenPipeError when the reader closes the pipe (`docid ls | head`). Otherwise the command
            finishes its work and discards the rest of its output.
        progress: the progress of the command.
    """

    stream: TextIO
    as_json: bool = False
    ends_with_pipe: bool = False
    progress: Progress = attrs.field(factory=Progress)

    def to_stderr(self, *, as_json: bool = False) -> Output:
        """Return a copy that prints on standard error."""
        return attrs.evolve(self, stream=sys.stderr, as_json=as_json)

    def print(self, text: str = "") -> None:
        """Print one line with control characters escaped; do nothing with --json."""
        if not self.as_json:
            self._emit(escape_text(_shorten_paths(text)).replace("\n", " "))

    def print_json(self, facts: dict[str, Any]) -> None:
        """Print facts as one line of JSON; do nothing without --json."""
        if self.as_json:
            self._emit(_format_json(facts))

    def print_text(self, text: str) -> None:
        """Print lines of text as UTF-8, with control characters escaped."""
        self.print_bytes(escape_text(text if text.endswith("\n") else f"{text}\n").encode())

    def print_bytes(self, data: bytes) -> None:
        """Print UTF-8 unchanged, whatever the terminal's encoding and line ends."""
        self.progress.clear()
        buffer = getattr(self.stream, "buffer", None)
        if buffer is None:  # main() called in a notebook, for example
            print(data.decode(), end="", file=self.stream)
        else:
            self.stream.flush()
            buffer.write(data)

    def print_heading(self, text: str, level: str = "") -> None:
        """Print a heading: on a terminal red for level `error`, yellow for `warning`, otherwise bold."""
        if console := self._find_console():
            console.print(text, style=_STYLES.get(level, "bold"), soft_wrap=True)
        else:
            self._emit(text)

    def print_table(self, lines: Sequence[Sequence[str]]) -> None:
        """Print lines in columns, the header first. The first column is aligned left, the others right."""
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        console = self._find_console()
        # rich puts three blanks between columns, and breaks words if the table does not fit.
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
        plain_guides = str.maketrans({"├": "+", "└": "`", "│": "|", "─": "-", "←": "<-"}) if is_ascii else {}
        for guides, relative in lineage.lines():
            before, mark = guides.translate(plain_guides), lineage.mark(relative)
            if console is None:
                self._emit(f"{before}{relative}{mark}")
                continue
            # soft_wrap: the terminal wraps a long line; rich would cut it.
            rest = str(relative).removeprefix(relative.name) + mark
            console.print(before, style="dim", end="", soft_wrap=True)
            console.print(relative.name, style="bold reverse" if mark else "bold", end="", soft_wrap=True)
            console.print(rest, style="red" if relative.problem else "", soft_wrap=True)

    def has_styles(self) -> bool:
        """Return whether `print_styled` shows styles: on a terminal, if rich is installed."""
        return self._find_console() is not None

    def print_styled(self, lines: Iterable[Styled]) -> None:
        """Print lines as UTF-8, on a terminal in the styles of their spans."""
        console = self._find_console()
        for line in lines:
            if console is None:
                self.print_bytes(("".join(text for text, _ in line) + "\n").encode())
                continue
            from rich.text import Text  # noqa: PLC0415 - an extra

            # soft_wrap: the terminal wraps a long line; rich would cut it.
            console.print(Text.assemble(*line), soft_wrap=True)

    def print_few(self, texts: Sequence[str], hint: str = "", limit: int = FEW) -> None:
        """Print the first few texts and the number of others; the hint says how to list them."""
        for text in cut_list(texts, hint, limit):
            self.print(f"  {text}")

    def print_notes(self, notes: Sequence[Note], *, as_json: bool = False) -> None:
        """Print the first few notes of each kind, or all as lines of JSON."""
        if as_json:
            for note in notes:
                self._emit(_format_json({"note": note._asdict()}))
            return
        for kind in dict.fromkeys(note.kind for note in notes):
            of_kind = [note for note in notes if note.kind == kind]
            self.print(f"{kind}: {sum(note.number for note in of_kind):,}")
            texts = [f"{note.where}{name_task(note.task_id)}: {note.message}" for note in of_kind]
            self.print_few(texts, " (--json lists all)")

    def print_changes(
        self,
        store: DocsStore,
        changes: Iterable[Change],
        describe: Callable[[Change], tuple[dict[str, Any], list[str]]],
    ) -> Counter[tuple[str, str]]:
        """Print each change as `describe` says; return the number of changes by stage and outcome."""
        counts: Counter[tuple[str, str]] = Counter()
        for change in changes:
            counts[change.stage, change.outcome] += 1
            self.progress.count_document(store, change.stage)
            facts, lines = describe(change)
            self.print_json(facts)
            for line in lines:
                self.print(line)
        return counts

    def print_moves(
        self, changes: Iterable[Change], verbs: Mapping[str, tuple[str, str]], *, apply: bool, **facts: object
    ) -> Counter[str]:
        """Print the changes of a removal or a restore, and their numbers; return the number by outcome.

        Args:
            changes: the changes.
            verbs: by outcome, the words for a change that is done, and for a planned one.
            apply: whether they are done.
            facts: more keys for each line of JSON.
        """
        counts: Counter[str] = Counter()
        for change in changes:
            counts[change.outcome] += 1
            self.print_json({**change.to_dict(), **facts})
            name = f"{change.stage}/{change.doc_id}{name_task(change.task_id)}"
            message = "" if change.done else change.message
            text = message if message.startswith(f"{change.stage}/{change.doc_id}") else f"{name}: {message}"
            self.print(f"{verbs[change.outcome][not apply]:<11} {text if message else name}")
        some = [f"{counts[each]:,} {words[not apply]}" for each, words in verbs.items() if counts[each]]
        is_plan = not apply and counts.total() > counts["leave"] + counts["absent"]
        self.print(", ".join(some) + ("; dry run: --apply makes these changes" if is_plan else ""))
        return counts

    def put_rows(self, arguments: Arguments, rows: Iterable[TaskRow], row_type: type[TaskRow]) -> Output:
        """Write or print task rows as the options say; return the output for the summary."""
        return self.put_table(
            arguments, map(format_cells, rows), lambda path: write_tasks(path, rows, row_type=row_type)
        )

    def put_table(self, arguments: Arguments, rows: Iterable[dict[str, Any]], write: Callable[[str], object]) -> Output:
        """Write or print a table as the options say; return the output for the summary.

        Args:
            arguments: the options of `make_output_arguments`.
            rows: the rows for --json.
            write: a function that writes the table to a path.
        """
        output: str | None = arguments.output
        if arguments.json:
            for row in rows:
                self.print_json(row)
            return self.to_stderr()
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
            return self.to_stderr()
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
            if self.ends_with_pipe:
                raise
            discard(self.stream)


def _format_json(facts: dict[str, Any]) -> str:
    """Return facts as JSON. NaN, which an old record may hold, becomes null; an error becomes its text."""
    try:
        return json.dumps(facts, allow_nan=False, default=str)
    except ValueError:
        return json.dumps(json.loads(json.dumps(facts, default=str), parse_constant=lambda _: None))


def describe_change(change: Change) -> tuple[dict[str, Any], list[str]]:
    """Return the JSON facts and the printed lines of one change by `migrate` or `backfill`."""
    facts = change.to_dict()
    name = f"{change.location}{name_task(change.task_id)}"
    lines = [f"left alone  {name}: {change.message}"] if change.outcome == "leave" else []
    if change.warning:
        lines.append(f"differs     {name}: {change.warning}")
    return {"action": facts.pop("outcome"), **facts}, lines


def format_counts(counts: Mapping[tuple[str, str], int], stage: str, words: Mapping[str, str]) -> str:
    """Return the number of changes of a stage for each outcome; `words` maps outcomes to printed words."""
    return ", ".join(f"{counts[stage, outcome]:,} {word}" for outcome, word in words.items())


def format_summary(counts: Mapping[str, Any]) -> str:
    """Return the errors and warnings of an audit's summary, such as `1 error, 2 warnings`."""
    return f"{format_count(counts['errors'], 'error')}, {format_count(counts['warnings'], 'warning')}"


def print_stderr(message: object) -> None:
    """Print a message or an exception with its notes on standard error; an error of the system without its number."""
    text = str(message)
    if isinstance(message, OSError) and not isinstance(message, DocidError) and message.strerror:
        text = f"{os.fsdecode(message.filename)}: {message.strerror}" if message.filename else message.strerror
    text = "\n".join([text, *getattr(message, "__notes__", ())])
    print(f"docid: {escape_text(_shorten_paths(text))}", file=sys.stderr)


def _shorten_paths(text: str) -> str:
    """Return a text for people in which paths below the current directory are relative to it."""
    try:
        here = re.escape(os.path.join(os.getcwd(), ""))
    except FileNotFoundError:  # it was removed
        return text
    return re.sub(rf"(?<![\w/.-]){here}(?=\w|\.\w)", "", text)


def discard(stream: TextIO) -> None:
    """Send the rest of a stream to the null device, because its reader is gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def escape_text(text: str) -> str:
    """Return a text with escapes for characters that control a terminal or reorder text."""
    return escape_controls(text.replace("\r\n", "\n"), keep="\n\t\u061c\u200e\u200f")  # the marks of right-to-left text


def cut_list(texts: Sequence[str], hint: str = "", limit: int = FEW) -> list[str]:
    """Return the first few texts, then a line with the number of others."""
    more = len(texts) - limit
    return [*texts[:limit], *([f"… and {more:,} more{hint}"] if more > 0 else [])]


def join_few(names: Sequence[str]) -> str:
    """Return the first few names, separated by commas."""
    return ", ".join(names[:FEW]) + (", …" if len(names) > FEW else "")


def is_replaced(path: str) -> bool:
    """Return whether writing replaces or creates a file, instead of writing to a pipe or a device."""
    return os.path.isfile(path) or not os.path.exists(path)

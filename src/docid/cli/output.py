"""How commands print: facts of documents, lines of JSON, text that cannot steer a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from docid._text import shown, visible
from docid.cli.options import SHOWN, other_stages
from docid.core.document import timestamp
from docid.core.metadata import shallow
from docid.errors import DocidError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from docid.operations.curate.notes import Note
    from docid.store.stored import StoredDocument


def json_line(facts: dict[str, Any]) -> str:
    """Return facts as one line of JSON, which knows no NaN: what an older record may hold becomes null."""
    try:
        return json.dumps(facts, allow_nan=False)
    except ValueError:
        return json.dumps(json.loads(json.dumps(facts), parse_constant=lambda _: None))


def facts_of(document: StoredDocument) -> dict[str, Any]:
    """Return what is known of a document without its texts."""
    return {
        "stage": document.stage,
        "doc_id": document.doc_id,
        "task_id": document.task_id,
        "parent_doc_id": document.parent_doc_id,
        "run_id": document.run_id,
        "created_at": None if document.created_at is None else timestamp(document.created_at),
        "location": document.location,
        "parts": document.sizes,
        "legacy": document.legacy,
        "metadata": shallow(document.metadata),
    }


def parts_line(document: StoredDocument) -> str:
    """Return its parts and their sizes."""
    return ", ".join(f"{part} {size:,} bytes" for part, size in document.sizes.items())


def say(text: str) -> None:
    """Print a line, for a command that changes something: one whose reader goes away goes on."""
    try:
        print(text)
    except BrokenPipeError:
        _nobody_reads()


def print_notes(notes: Sequence[Note], *, as_json: bool = False) -> None:
    """Print what was left out, by kind, the first few of each; or all, as lines of JSON."""
    if as_json:
        for note in notes:
            print(json.dumps({"note": note._asdict()}))
        return
    kinds: dict[str, list[Note]] = {}
    for note in notes:
        kinds.setdefault(note.kind, []).append(note)
    for kind, of_kind in kinds.items():
        print(f"{kind}: {sum(note.number for note in of_kind):,}")
        for note in of_kind[:SHOWN]:
            task = "" if note.task_id is None else f" (task_id={shown(note.task_id)})"
            print(one_line(f"  {note.where}{task}: {note.message}"))
        if len(of_kind) > SHOWN:
            print(f"  … and {len(of_kind) - SHOWN:,} more (--json gives all)")


def written_text(write: Callable[[str], object]) -> bytes:
    """Return the table that `write`, which is given a path, makes."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "table.csv")
        write(path)
        with open(path, "rb") as table:
            return table.read()


# What stands in right-to-left text, and steers nothing.
_MARKS = "\n\t\u061c\u200e\u200f"


def printable(text: str) -> str:
    """Return a text without what would steer a terminal, or turn the order of characters: that as its escape."""
    return visible(text.replace("\r\n", "\n"), keep=_MARKS)


def one_line(text: str) -> str:
    """Return a text as one line of a terminal."""
    return printable(text).replace("\n", " ")


def complain(what: object) -> None:
    """Say on standard error what is wrong, or to be known; of an error of the system no number, but the file."""
    text = str(what)
    if isinstance(what, OSError) and not isinstance(what, DocidError) and what.strerror:
        text = f"{os.fsdecode(what.filename)}: {what.strerror}" if what.filename else what.strerror
    print(f"docid: {printable(text)}", file=sys.stderr)


def hint_at_other_stages(arguments: argparse.Namespace, root: str | None = None) -> None:
    """Say where the store (that of --store, or another) has none of the stages, or other directories too."""
    if hint := other_stages(root or arguments.store, arguments.stages):
        complain(hint)


@contextlib.contextmanager
def while_read() -> Iterator[None]:
    """Print as long as somebody reads it (docid audit | head); what comes behind is done in any case."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _nobody_reads()


def _nobody_reads() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_text(text: str) -> None:
    """Print a text as it is, whatever the terminal's encoding and line ends."""
    print_bytes(text.encode())


def print_bytes(data: bytes) -> None:
    """Print UTF-8 as it is."""
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:  # a caller of main() in a notebook, say
        print(data.decode(), end="")
    else:
        sys.stdout.flush()
        buffer.write(data)

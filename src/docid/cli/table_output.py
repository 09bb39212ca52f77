"""`-o`, `--json` and `--dry-run` of the commands that make a table: scores, select, replay."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

from docid.cli.arguments import Argument, Arguments, UsageError, argument
from docid.cli.inputs import check_output, is_replaced
from docid.cli.output import Output
from docid.store.docs_store import DocsStore
from docid.tables.rows import TaskRow, format_cells
from docid.tables.tasks import write_tasks


def make_output_arguments(example: str) -> tuple[Argument, ...]:
    """Return the options that say where a table goes, such as `example`."""
    text = f"write the table to FILE ({example}), replacing it (default: print it)"
    return (
        argument("-o --output FILE", text),
        argument("--dry-run", "say what would be written to --output; write nothing"),
        argument("--json", "print one line of JSON a row instead"),
    )


def check_table_output(arguments: Arguments, store: DocsStore, inputs: Iterable[str] = ()) -> None:
    """Refuse an output that cannot be meant, before any work is done."""
    output: str | None = arguments.output
    if output is not None:
        check_output("--output", output, store, inputs)
    if arguments.json and output is not None:
        raise UsageError("--json prints the rows, --output writes them; expected one of the two")
    if arguments.dry_run and output is None:
        raise UsageError("--dry-run is about what would be written; expected --output with it")


def put_rows(arguments: Arguments, out: Output, rows: Iterable[TaskRow], row_type: type[TaskRow]) -> Output:
    """Write task rows to where the options say; return where to say what was done."""
    return put_table(arguments, out, map(format_cells, rows), lambda path: write_tasks(path, rows, row_type=row_type))


def put_table(
    arguments: Arguments, out: Output, rows: Iterable[dict[str, Any]], write: Callable[[str], object]
) -> Output:
    """Write a table to where the options say; return where to say what was done.

    Args:
        arguments: the options of `make_output_arguments`.
        out: where the command prints.
        rows: the rows, for JSON.
        write: writes the table to a path.
    """
    output: str | None = arguments.output
    if arguments.json:
        for row in rows:
            out.print_json(row)
    elif output is None:
        out.print_bytes(_read_table(write))
    elif not is_replaced(output):
        with open(output, "wb") as pipe:
            pipe.write(_read_table(write))
    else:
        done = "replaced" if os.path.lexists(output) else "written"
        if arguments.dry_run:
            _read_table(write)
        else:
            write(output)
        out.print(f"{output}: {'would be ' if arguments.dry_run else ''}{done}")
        return out
    return out.on_stderr()


def _read_table(write: Callable[[str], object]) -> bytes:
    """Return the table that `write` makes."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "table.csv")
        write(path)
        with open(path, "rb") as table:
            return table.read()

# PYTHON_ARGCOMPLETE_OK
"""The command line: read the arguments, run the command, return its exit code.

Name the documents of a pipeline before they exist, then check and use the stored ones. A store is a directory or a
bucket; the credentials of a bucket come from the environment. Exit codes: 0 success; 1 an audit found faults, or a
command could not make all changes; 2 wrong usage or unreadable input; 130 interrupted.

Examples:
    # Fill doc_id and parent_doc_id in two task tables
    docid reserve draft_generation_tasks.csv essay_generation_tasks.csv
    # Check the tables and the store before a run
    docid audit data/2_tasks --store data/docs
    # List the stored essays, then print one by the start of its doc id
    docid ls essay --store data/docs
    docid show essay/uu5r --store data/docs
"""

import argparse
import contextlib
import io
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from inspect import cleandoc
from shutil import get_terminal_size
from typing import NoReturn

from docid._version import __version__
from docid.cli.arguments import UsageError
from docid.cli.output import Output, discard, print_stderr
from docid.errors import DocidError

# The command modules, in the order of `docid --help`.
_COMMANDS = (
    "reserve show ls lineage diff audit report repair rescued remove restore erase link scores select replay reparse "
    "migrate backfill copy register stages"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: the arguments after the program name; None takes those of the process.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller (>&-)
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Escape characters that the terminal's encoding lacks, instead of failing.
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell completes a line
        with contextlib.suppress(ImportError):
            import argcomplete  # noqa: PLC0415 - an extra

            argcomplete.autocomplete(parser, exit_method=sys.exit)
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:  # the command's own parser prints the usage
        arguments.command_parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    out = Output(sys.stdout, as_json=getattr(arguments, "json", False))
    code = 0
    try:
        with out.progress:
            code = arguments.run(arguments, out)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe (docid ls | head). Without this, Python complains at exit.
        discard(sys.stdout)
    except (DocidError, OSError, ValueError, UsageError) as error:
        print_stderr(error)
        return 2
    except KeyboardInterrupt:
        print_stderr("interrupted")
        return 130  # the shells' convention: 128 plus the signal number
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print a usage error with the closest valid choice, and exit."""
        wrong = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)$", message)
        if wrong is not None:
            for near in get_close_matches(wrong[1], re.findall(r"[\w-]+", wrong[2]), 1, 0.7):
                message += f"; did you mean {near}?"
        super().error(message)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands, with help from their docstrings."""
    _, description, examples = _split_docstring(__doc__)
    parser = _Parser(
        allow_abbrev=False,
        prog="docid",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"docid {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in _COMMANDS.split():
        module = import_module(f"docid.cli.{name}")
        summary, description, examples = _split_docstring(module.__doc__)
        command = commands.add_parser(
            name,
            allow_abbrev=False,
            help=summary,
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for add in module.ARGUMENTS:
            add(command)
        command.set_defaults(run=module.run, command_parser=command)
    return parser


def _split_docstring(docstring: str | None) -> tuple[str, str, str]:
    """Return summary, description and examples of a module; the description is wrapped to the terminal.

    `docid.cli.arguments` states the convention. Under `python -OO` all three are empty.
    """
    first, _, rest = cleandoc(docstring or "").partition("\n\n")
    description, _, examples = rest.partition("\n\nExamples:\n")
    wrapped = textwrap.fill(" ".join(description.split()), max(get_terminal_size().columns - 2, 11))
    lines = textwrap.indent(textwrap.dedent(examples), "  ")
    return first.partition(": ")[2].removesuffix("."), wrapped, f"examples:\n{lines}" if lines else ""

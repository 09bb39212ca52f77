"""The command `docid`: the only place that reads arguments, prints, and sets an exit code.

Exit codes: 0 fine; 1 an audit found something at `--fail-on`, or a command that changes files could not do all of it;
2 wrong usage or unreadable input, which standard error says without a traceback; 130 interrupted (Ctrl-C).
"""

import argparse
import io
import os
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import NoReturn

from docid._version import __version__
from docid.cli.arguments import UsageError
from docid.cli.output import Output, complain, discard
from docid.errors import DocidError

# The modules of the commands, in the order of `docid --help`.
_COMMANDS = "reserve show ls lineage audit report repair link scores select replay migrate backfill copy register"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: the arguments behind the program's name; those of the process if None.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller (>&-): nobody reads what is printed
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a character is no reason to stop.
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments, unknown = _build_parser().parse_known_args(argv)
    if unknown:  # reported with the usage of the command that was given them
        arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    out = Output(sys.stdout, as_json=getattr(arguments, "json", False))
    code = 0
    try:
        with out.progress:
            code = arguments.run(arguments, out)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone (docid ls | head): nobody is left to tell. Python would complain at exit otherwise.
        discard(sys.stdout)
    except (DocidError, OSError, ValueError, UsageError) as error:
        complain(error)
        return 2
    except KeyboardInterrupt:
        complain("interrupted")
        return 130  # as shells have it: 128 and the number of the signal
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print what is wrong, with the nearest of the choices if one is near, and exit."""
        wrong = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)$", message)
        if wrong is not None:
            for near in get_close_matches(wrong[1], re.findall(r"[\w-]+", wrong[2]), 1, 0.7):
                message += f"; did you mean {near}?"
        super().error(message)


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        allow_abbrev=False,
        prog="docid",
        description="Name a pipeline's documents before they exist, and look at what is stored.",
    )
    parser.add_argument("--version", action="version", version=f"docid {__version__}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in _COMMANDS.split():
        command = import_module(f"docid.cli.{name}")
        first, _, rest = (command.__doc__ or "").partition("\n\n")
        verb = verbs.add_parser(
            name,
            allow_abbrev=False,
            help=first.partition(": ")[2].removesuffix("."),
            description=" ".join(rest.split()),
        )
        for add in command.ARGUMENTS:
            add(verb)
        verb.set_defaults(run=command.run, parser=verb)
    return parser

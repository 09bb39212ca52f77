"""How a command declares its arguments, and the arguments that several commands share.

Each command is a module with three things:

- A docstring. After a colon, its first line has the summary that `docid --help` prints. The middle is the description
  in `docid COMMAND --help`: two to four short sentences on the result, the changes and exit code 1. The last paragraph
  is `Examples:` with two indented examples, each a comment line and the command line below it, under 77 columns.
- `ARGUMENTS`, in the order of the help.
- `run(arguments, out)`, which returns the exit code.
"""

import argparse
import os
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from docid.core.stages import DEFAULT_STAGES, Stages

RANDOM = "random"  # this --salt asks for a fresh salt
AGE_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DEFAULT_STAGES = ",".join(DEFAULT_STAGES)
Arguments = argparse.Namespace
Argument = Callable[[Any], object]  # adds an argument to a parser or an argument group


class UsageError(Exception):
    """Wrong usage that argparse cannot detect."""


def argument(spec: str, text: str, *, variable: str = "", **options: Any) -> Argument:
    """Return a function that adds one argument to a parser.

    Args:
        spec: the argument as manuals write it: `--json` is a flag, `-o --output FILE` takes a value,
            `--task STAGE TASK_ID` two, `--fail-on {error,warning}` one of these values. `--task-id TEXT ...` may be
            repeated, and `tables TABLE ...` is positional.
        text: the help text.
        variable: the environment variable with the default, read on each run.
        options: more options of `add_argument`.
    """
    first, *words = spec.split()
    names = [first, *(word for word in words if word.startswith("-"))]
    values = words[len(names) - 1 :]
    if not values:
        options.setdefault("action", "store_true")
    else:
        options["metavar"] = values[0]
    if values[:1] and values[0].startswith("{"):
        options["choices"] = values[0][1:-1].split(",")
    if values[1:] and values[1] != "...":
        options |= {"nargs": len(values), "metavar": tuple(values)}
    elif values[1:]:
        options |= {"action": "append", "default": []} if first.startswith("-") else {"nargs": "*"}

    def add(parser: Any) -> None:
        default = {"default": os.environ[variable]} if os.environ.get(variable) else {}
        parser.add_argument(*names, help=text, **(options | default))

    return add


def one_of(*arguments: Argument) -> Argument:
    """Return arguments that exclude each other."""

    def add(parser: Any) -> None:
        group = parser.add_mutually_exclusive_group()
        for add_one in arguments:
            add_one(group)

    return add


def parse_stages(text: str) -> Stages:
    """Return the stages of --stages or DOCID_STAGES."""
    try:
        return Stages.parse(text)
    except ValueError as error:
        origin = "DOCID_STAGES in the environment: " if text == os.environ.get("DOCID_STAGES") else ""
        raise argparse.ArgumentTypeError(f"{origin}{error}") from None


def parse_root(text: str) -> str:
    """Return the root of a store; a file:// URL becomes its directory."""
    return unquote(text.removeprefix("file://")) if text.startswith("file:///") else text


def parse_age(text: str) -> float:
    """Return an age such as 30d in seconds."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd])", "0s" if text == "0" else text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number followed by s, m, h or d, such as 30d or 12h")
    return float(found[1]) * AGE_UNITS[found[2]]


def expect_number(noun: str, minimum: int = 1) -> Callable[[str], int]:
    """Return an argument type: an integer of at least `minimum`."""

    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a number of {noun}, at least {minimum}")
        return int(text)

    return parse


def _make_stages(default: str) -> Argument:
    return argument(
        "--stages LIST",
        "the stages in order, each made from the one before it, or from PARENT if written as STAGE:PARENT "
        f"(default: $DOCID_STAGES, or {default})",
        type=parse_stages,
        variable="DOCID_STAGES",
    )


STAGES = _make_stages("those that the store declares")
TABLE_STAGES = _make_stages(_DEFAULT_STAGES)
IN_FLIGHT = argument("--in-flight N", "concurrent requests to a bucket (default: 32)", type=expect_number("requests"))
ROOT = argument(
    "--store ROOT",
    "the store: a directory, or a bucket URL such as s3://bucket/docs (default: $DOCID_STORE)",
    type=parse_root,
    variable="DOCID_STORE",
)
NEW_STORE = argument("--new-store", "accept a store that does not exist yet")
STORE = (ROOT, IN_FLIGHT, STAGES)
SALT = (
    argument("--run-id TEXT", "derive ids that belong to this run only"),
    argument(
        "--salt TEXT|random",
        "derive different ids for the same tasks; 'random' draws one 64-bit salt for the whole command",
    ),
)
VERIFY = argument("--verify", "also read every part and compare its SHA-256 with the record")
STALE_AFTER = argument(
    "--stale-after AGE",
    "skip unfinished directories changed less than AGE ago (30m, 12h, 2d): a writer may still use them (default: 1h)",
    type=parse_age,
    default="1h",
)
APPLY = one_of(
    argument("--apply", "make the changes"),
    argument("--dry-run", "only list the changes (the default)"),
)
_DOCUMENT = ("document [STAGE/]ID", "doc id or a unique prefix of it; without STAGE, docid searches all stages")
DOCUMENT = argument(*_DOCUMENT)
OPTIONAL_DOCUMENT = argument(*_DOCUMENT, nargs="?")
JSON_DOCUMENTS = argument("--json", "print one line of JSON per document")


def make_output_arguments(example: str) -> tuple[Argument, ...]:
    """Return the options for where to write a table; `example` is a file name for the help."""
    return (
        argument("-o --output FILE", f"write or replace FILE, such as {example} (default: print the table)"),
        argument("--dry-run", "report what --output would write, without writing it"),
        argument("--json", "print one line of JSON per row"),
    )

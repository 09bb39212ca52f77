"""How a command declares its arguments, and the arguments that several commands take.

A module of a command has a docstring: its first line ends with what `docid --help` says of it, the rest is what `docid
COMMAND --help` says. It has `ARGUMENTS`, in the order of its help, and `run(arguments, out)`, which returns the exit
code.
"""

import argparse
import os
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from docid.core.stages import DEFAULT_STAGES, Stages

RANDOM = "random"  # the --salt that is a fresh one for each run
AGE_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DEFAULT_STAGES = ",".join(DEFAULT_STAGES)
Arguments = argparse.Namespace
Argument = Callable[[Any], object]  # adds an argument to a parser, or to a group of one


class UsageError(Exception):
    """Wrong usage that argparse cannot see."""


def argument(spec: str, text: str, *, variable: str = "", **options: Any) -> Argument:
    """Return an argument.

    Args:
        spec: how manuals write it: `--json` is a flag, `-o --output FILE` takes a value, `--fail-on {error,warning}`
            one of these values, `--task-id TEXT ...` may be repeated, `tables TABLE ...` is positional.
        text: its help.
        variable: the environment variable that holds its default, read anew in each run.
        options: what else `add_argument` takes.
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
    if values[1:]:
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
    """Return the stages of --stages, or of DOCID_STAGES."""
    try:
        return Stages.parse(text)
    except ValueError as error:
        origin = "DOCID_STAGES in the environment: " if text == os.environ.get("DOCID_STAGES") else ""
        raise argparse.ArgumentTypeError(f"{origin}{error}") from None


def parse_root(text: str) -> str:
    """Return the root of a store as it was given; of a file:// URL the directory."""
    return unquote(text.removeprefix("file://")) if text.startswith("file:///") else text


def parse_age(text: str) -> float:
    """Return an age such as 30d in seconds."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd])", "0s" if text == "0" else text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number with s, m, h or d behind it, such as 30d or 12h")
    return float(found[1]) * AGE_UNITS[found[2]]


def expect_number(what: str, least: int = 1) -> Callable[[str], int]:
    """Return a type of arguments: a number of these, so many at least."""

    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a number of {what}, {least} or more")
        return int(text)

    return parse


STAGES = argument(
    "--stages LIST",
    "the stages in order, each from the one before unless its parent is named as STAGE:PARENT "
    f"(default: the environment variable DOCID_STAGES, or {_DEFAULT_STAGES})",
    type=parse_stages,
    default=_DEFAULT_STAGES,
    variable="DOCID_STAGES",
)
IN_FLIGHT = argument(
    "--in-flight N", "requests to an object store at once (default: 32)", type=expect_number("requests")
)
STORE = (
    argument(
        "--store ROOT",
        "the store: a directory, or the URL of an object store, s3://bucket/prefix, whose credentials and "
        "endpoint come from the environment (default: the environment variable DOCID_STORE)",
        type=parse_root,
        variable="DOCID_STORE",
    ),
    IN_FLIGHT,
    STAGES,
)
SALT = (
    argument("--run-id TEXT", "derive the ids for this run alone"),
    argument(
        "--salt TEXT|random",
        "derive other ids for the same tasks; 'random' is a fresh salt of 64 bits for the whole batch",
    ),
)
VERIFY = argument("--verify", "also compare the SHA-256 of every part with its record")
STALE_AFTER = argument(
    "--stale-after AGE",
    "temporary and uncommitted directories touched in this time may be a writer's (default: 1h)",
    type=parse_age,
    default="1h",
)
APPLY = one_of(
    argument("--apply", "do it; without this nothing is changed"),
    argument("--dry-run", "say what would be done (the default)"),
)
JSON_DOCUMENTS = argument("--json", "print one line of JSON a document")


def make_output_arguments(example: str) -> tuple[Argument, ...]:
    """Return the options that say where a table goes, such as `example`."""
    return (
        argument("-o --output FILE", f"write the table to FILE ({example}), replacing it (default: print it)"),
        argument("--dry-run", "say what would be written to --output; write nothing"),
        argument("--json", "print one line of JSON a row instead"),
    )

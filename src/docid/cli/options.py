"""Arguments that several commands take, and how the text of an argument is read."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from typing import TYPE_CHECKING
from urllib.parse import unquote

from docid.cli.command import FromVariable, OneOf, argument, flag
from docid.core.stages import DEFAULT_STAGES, Stages

if TYPE_CHECKING:
    from collections.abc import Callable

RANDOM = "random"  # the --salt that is a fresh one for each run
_DEFAULT_STAGES = ",".join(DEFAULT_STAGES)


def parse_stages(text: str) -> Stages:
    """Return the stages of --stages, or of DOCID_STAGES."""
    try:
        return Stages.parse(text)
    except ValueError as error:
        origin = "DOCID_STAGES in the environment: " if isinstance(text, FromVariable) else ""
        raise ArgumentTypeError(f"{origin}{error}") from None


def parse_root(text: str) -> str:
    """Return the root of a store as it was given; of a file:// URL the directory."""
    return unquote(text.removeprefix("file://")) if text.startswith("file:///") else text


def parse_age(text: str) -> float:
    """Return an age such as 30d in seconds."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd])", "0s" if text == "0" else text)
    if found is None:
        raise ArgumentTypeError(f"{text!r}: expected a number with s, m, h or d behind it, such as 30d or 12h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def format_age(seconds: float) -> str:
    """Return an age as `parse_age` takes it, in the largest unit that it is a whole number of."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"


def number_of(what: str, least: int = 1) -> Callable[[str], int]:
    """Return a type of arguments: a number of these, so many at least."""

    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or int(text) < least:
            raise ArgumentTypeError(f"{text!r}: expected a number of {what}, {least} or more")
        return int(text)

    return parse


STAGES = argument(
    "--stages",
    "LIST",
    "the stages in order, each from the one before unless its parent is named as STAGE:PARENT "
    f"(default: the environment variable DOCID_STAGES, or {_DEFAULT_STAGES})",
    type=parse_stages,
    default=_DEFAULT_STAGES,
    variable="DOCID_STAGES",
)
IN_FLIGHT = argument(
    "--in-flight", "N", "requests to an object store at once (default: 32)", type=number_of("requests")
)
STORE = (
    argument(
        "--store",
        "ROOT",
        "the store: a directory, or the URL of an object store, s3://bucket/prefix, whose credentials and "
        "endpoint come from the environment (default: the environment variable DOCID_STORE)",
        type=parse_root,
        variable="DOCID_STORE",
    ),
    IN_FLIGHT,
    STAGES,
)
SALT = (
    argument("--run-id", "TEXT", "derive the ids for this run alone"),
    argument(
        "--salt",
        "TEXT|random",
        "derive other ids for the same tasks; 'random' is a fresh salt of 64 bits for the whole batch",
    ),
)
VERIFY = flag("--verify", "also compare the SHA-256 of every part with its record")
STALE_AFTER = argument(
    "--stale-after",
    "AGE",
    "temporary and uncommitted directories touched in this time may be a writer's (default: 1h)",
    type=parse_age,
    default="1h",
)
APPLY = OneOf(
    (
        flag("--apply", "do it; without this nothing is changed"),
        flag("--dry-run", "say what would be done (the default)"),
    )
)
JSON_DOCUMENTS = flag("--json", "print one line of JSON a document")

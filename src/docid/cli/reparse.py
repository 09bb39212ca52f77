"""`docid reparse`: parse stored replies again, after a parser was fixed.

Parse the raw text of each document of a stage that has no parsed text, and list the results. With --apply, docid adds
the parsed texts. It calls no model, and never changes a parsed text. Exit code 1 if a document still cannot be parsed.

Examples:
    # Count the evaluations that a fixed parser can read
    docid reparse --stage evaluation --parser pipeline:parse_score
    # Add their parsed texts
    docid reparse --stage evaluation --parser pipeline:parse_score --apply
"""

import importlib
import os
import sys
from collections.abc import Callable
from typing import cast

from docid._text import format_count
from docid.cli.arguments import APPLY, JSON_DOCUMENTS, STORE, Arguments, UsageError, argument
from docid.cli.inputs import open_store
from docid.cli.output import Output, describe_change, format_counts
from docid.errors import describe_error
from docid.operations.curate.reparse import reparse


def run(arguments: Arguments, out: Output) -> int:
    """Parse the documents of a stage, or count them; return 1 if one cannot be parsed."""
    store = open_store(arguments)
    stage = store.stages.check(arguments.stage)
    parse = _import_parser(arguments.parser)
    counts = out.print_changes(store, reparse(store, stage, parse, apply=arguments.apply), describe_change)
    words = {
        "parse": "parsed" if arguments.apply else "to parse",
        "current": "already parsed",
        "leave": "left alone",
    }
    total = format_count(sum(counts.values()), "document")
    out.print(f"{stage}: {total}: {format_counts(counts, stage, words)}")
    if counts[stage, "parse"] and not arguments.apply:
        out.print("dry run: --apply adds the parsed texts")
    return 1 if counts[stage, "leave"] else 0


def _import_parser(name: str) -> Callable[[str], str | None]:
    """Return the function `MODULE:FUNCTION`; the module may be in the current directory."""
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise UsageError(f"--parser {name}: expected MODULE:FUNCTION, such as pipeline:parse_score")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), function)
    except (Exception, SystemExit) as error:
        raise UsageError(f"--parser {name}: {describe_error(error)}") from error
    if not callable(found):
        raise UsageError(f"--parser {name}: {type(found).__name__}; expected a function")
    return cast("Callable[[str], str | None]", found)


ARGUMENTS = (
    argument("--stage STAGE", "stage of the documents", required=True),
    argument(
        "--parser MODULE:FUNCTION", "the parser: takes a raw text and returns the parsed text or None", required=True
    ),
    APPLY,
    JSON_DOCUMENTS,
    *STORE,
)

"""`docid report`: write an HTML page of a store: progress, findings, scores, lineage and texts.

Write one HTML page that shows a store and its task tables: rows written and pending, audit findings, the distribution
of scores, and the documents by lineage with their texts. Open the file in a browser; it needs no network and no
server. The page links to texts that do not fit.

Examples:
    # Write a page of a store and its tables
    docid report --store data/docs --tables data/2_tasks -o report.html
    # Embed up to 20 MB of texts, and check every hash
    docid report --store data/docs --texts 20M --verify -o report.html
"""

import os
import re
import sys
from argparse import ArgumentTypeError
from pathlib import Path

from docid._text import format_count
from docid.cli.arguments import STALE_AFTER, STORE, VERIFY, Arguments, UsageError, argument, expect_number
from docid.cli.inputs import DELIMITER, check_output, find_tables, hint_at_other_stages, open_store
from docid.cli.output import Output, format_summary, is_replaced
from docid.integrations.report.gathering import Limits
from docid.integrations.report.rendering import page, write_page

_LIMITS = Limits()


def run(arguments: Arguments, out: Output) -> int:
    """Write the page, and print its size and contents."""
    output: str | None = arguments.output
    store = open_store(arguments)
    tables, others = find_tables(arguments.tables, store.stages)
    if output is not None:
        check_output("--output", output, store, tables.values())
    elif arguments.dry_run or arguments.json:
        raise UsageError("--dry-run and --json report what --output writes; expected --output with them")
    elif sys.stdout.isatty():
        raise UsageError("docid does not print HTML on a terminal; expected --output FILE or a pipe")
    hint_at_other_stages(store)
    # A page for a pipe or a device has links relative to the working directory.
    is_file = output is not None and is_replaced(output)
    made = page(
        store,
        tables,
        score_stage=arguments.score_stage,
        delimiter=arguments.delimiter,
        verify=arguments.verify,
        stale_after=arguments.stale_after,
        limits=Limits(documents=arguments.documents, texts=arguments.texts),
        directory=os.path.dirname(os.path.abspath(output)) if is_file and output else os.getcwd(),
        title=arguments.title,
        progress=out.progress.show,
    )
    html = made.html.encode()
    if output is None:
        out.print_bytes(html)
        return 0
    if not is_file:
        out = out.to_stderr(as_json=out.as_json)  # --output may be standard output
    if is_file and not arguments.dry_run:
        write_page(output, made)
    elif not arguments.dry_run:
        Path(output).write_bytes(html)
    summary = made.audit.summary()
    out.print_json({"output": output, "dry_run": arguments.dry_run, **made.summary(), "skipped": others})
    out.print(f"{output}: {'would be ' if arguments.dry_run else ''}written, {len(html) / 1e6:.1f} MB")
    documents, texts = format_count(made.documents, "document"), format_count(made.texts_there, "text")
    out.print(f"{made.shown:,} of {documents}, {made.texts:,} of {texts}")
    out.print(f"{format_summary(summary)}; {format_count(made.scores, 'score')}")
    if others:
        out.print(f"ignored (not task tables): {format_count(len(others), 'file')}")
    return 0


def _parse_size(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,12})([kMG]?)", text)
    if found is None:
        raise ArgumentTypeError(f"{text!r}: expected a number of bytes, such as 5M, 500k or 0")
    return int(found[1]) * {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}[found[2]]


ARGUMENTS = (
    argument("--tables DIRECTORY|[STAGE=]TABLE ...", "task tables to compare with the store; may be repeated"),
    DELIMITER,
    argument("-o --output FILE", "write or replace FILE (default: print the page)"),
    argument("--title TEXT", "the page's heading (default: docid report)"),
    argument("--score-stage STAGE", "the stage whose parsed texts are scores (default: the last of --stages)"),
    VERIFY,
    argument(
        "--texts SIZE",
        "embed at most SIZE bytes of texts: 500k, 20M, 0 (default: 5M)",
        type=_parse_size,
        default=_LIMITS.texts,
    ),
    argument(
        "--documents N",
        f"show at most N documents (default: {_LIMITS.documents:,})",
        type=expect_number("documents", 0),
        default=_LIMITS.documents,
    ),
    STALE_AFTER,
    argument("--dry-run", "report the page's contents without writing it"),
    argument("--json", "with --output: print the page's contents as one line of JSON"),
    *STORE,
)

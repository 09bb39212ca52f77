"""`docid report`: make a page that shows a store: coverage, findings, scores, lineage, records and texts.

Make one page of HTML that shows a store, and the task tables that go with it: how many rows are written, what is
wrong, how scores are spread, and the documents by lineage, with records and texts. It needs no network and no server:
open the file. What there is no room for is linked.
"""

import os
import re
import sys
from argparse import ArgumentTypeError
from pathlib import Path

from docid.cli.arguments import STALE_AFTER, STORE, VERIFY, Arguments, UsageError, argument, expect_number
from docid.cli.inputs import check_output, find_tables, hint_at_other_stages, open_store
from docid.cli.output import Output, is_replaced
from docid.integrations.report.gathering import Limits
from docid.integrations.report.rendering import page, write_page

_LIMITS = Limits()


def run(arguments: Arguments, out: Output) -> int:
    """Write the page, and say what it holds."""
    output: str | None = arguments.output
    store = open_store(arguments)
    tables, others = find_tables(arguments.tables, store.stages)
    if output is not None:
        check_output("--output", output, store, tables.values())
    elif arguments.dry_run or arguments.json:
        raise UsageError("--dry-run and --json are about a page that is written; expected --output with them")
    elif sys.stdout.isatty():
        raise UsageError("a page of HTML is nothing for a terminal; expected --output FILE, or a pipe")
    hint_at_other_stages(store)
    # A pipe or a device is written to, and its page has links from here.
    is_file = output is not None and is_replaced(output)
    made = page(
        store,
        tables,
        score_stage=arguments.score_stage,
        verify=arguments.verify,
        stale_after=arguments.stale_after,
        limits=Limits(documents=arguments.documents, texts=arguments.texts),
        directory=os.path.dirname(os.path.abspath(output)) if is_file and output else os.getcwd(),
        title=arguments.title,
        progress=out.progress.callback,
    )
    html = made.html.encode()
    if output is None:
        out.print_bytes(html)
        return 0
    if not is_file:
        out = out.on_stderr(as_json=out.as_json)  # standard output may be where the page goes
    if is_file and not arguments.dry_run:
        write_page(output, made)
    elif not arguments.dry_run:
        Path(output).write_bytes(html)
    summary = made.audit.summary()
    out.print_json({"output": output, "dry_run": arguments.dry_run, **made.summary(), "skipped": others})
    out.print(f"{output}: {'would be ' if arguments.dry_run else ''}written, {len(html) / 1e6:.1f} MB")
    out.print(f"{made.shown:,} of {made.documents:,} documents, {made.texts:,} of {made.texts_there:,} texts")
    out.print(f"{summary['errors']:,} errors, {summary['warnings']:,} warnings; {made.scores:,} scores")
    if others:
        out.print(f"files of other names, skipped: {len(others)}")
    return 0


def _parse_size(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,12})([kMG]?)", text)
    if found is None:
        raise ArgumentTypeError(f"{text!r}: expected a number of bytes, such as 5M, 500k or 0")
    return int(found[1]) * {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}[found[2]]


ARGUMENTS = (
    argument("--tables DIRECTORY|[STAGE=]TABLE ...", "task tables, for what is written and pending; may be repeated"),
    argument("-o --output FILE", "write the page to FILE, replacing it (default: print it)"),
    argument("--title TEXT", "the heading (default: docid report)"),
    argument("--score-stage STAGE", "the stage whose parsed texts are scores (default: the last of --stages)"),
    VERIFY,
    argument(
        "--texts SIZE",
        "how many bytes of texts the page holds: 5M, 500k, 0 (default: 5M)",
        type=_parse_size,
        default=_LIMITS.texts,
    ),
    argument(
        "--documents N",
        f"how many documents it holds (default: {_LIMITS.documents:,})",
        type=expect_number("documents", 0),
        default=_LIMITS.documents,
    ),
    STALE_AFTER,
    argument("--dry-run", "say what the page would hold; write nothing"),
    argument("--json", "with --output: say what it holds as one line of JSON"),
    *STORE,
)

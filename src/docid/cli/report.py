"""`docid report`: a page of HTML that shows a store and its tables."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docid.cli.options import UsageError, add_store, check_output, is_replaced, seconds, store_of, tables_in, whole
from docid.cli.output import hint_at_other_stages, print_text, printable
from docid.cli.terminal import Meter
from docid.integrations.report.gathering import Limits
from docid.integrations.report.rendering import Page, page, write_page

if TYPE_CHECKING:
    from docid.store.docs_store import DocsStore


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    report = verbs.add_parser(
        "report",
        allow_abbrev=False,
        help="make a page that shows a store: coverage, findings, scores, lineage, records and texts",
        description="Make one page of HTML that shows a store, and the task tables that go with it: how many rows are "
        "written, what is wrong, how scores are spread, and the documents by lineage, with records and texts. It needs "
        "no network and no server: open the file. What there is no room for is linked.",
    )
    report.add_argument(
        "--tables",
        action="append",
        default=[],
        metavar="DIRECTORY|[STAGE=]TABLE",
        help="task tables, for what is written and pending; may be repeated",
    )
    report.add_argument(
        "-o", "--output", metavar="FILE", help="write the page to FILE, replacing it (default: print it)"
    )
    report.add_argument("--title", metavar="TEXT", help="the heading (default: docid report)")
    report.add_argument(
        "--score-stage", metavar="STAGE", help="the stage whose parsed texts are scores (default: the last of --stages)"
    )
    report.add_argument("--verify", action="store_true", help="also compare the SHA-256 of every part with its record")
    report.add_argument(
        "--texts",
        type=_size,
        default=Limits().texts,
        metavar="SIZE",
        help="how many bytes of texts the page holds: 5M, 500k, 0 (default: 5M)",
    )
    report.add_argument(
        "--documents",
        type=whole("documents", 0),
        default=Limits().documents,
        metavar="N",
        help=f"how many documents it holds (default: {Limits().documents:,})",
    )
    report.add_argument(
        "--stale-after",
        type=seconds,
        default="1h",
        metavar="AGE",
        help="temporary and uncommitted directories touched in this time may be a writer's (default: 1h)",
    )
    report.add_argument("--dry-run", action="store_true", help="say what the page would hold; write nothing")
    report.add_argument("--json", action="store_true", help="with --output: say what it holds as one line of JSON")
    add_store(report)
    report.set_defaults(run=_report)


def _size(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,12})([kMG]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of bytes, such as 5M, 500k or 0")
    return int(found[1]) * {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}[found[2]]


def _report(arguments: argparse.Namespace) -> int:
    output: str | None = arguments.output
    store = store_of(arguments)
    tables, skipped = tables_in(arguments.tables, store.stages)
    _check(arguments, store, tables)
    hint_at_other_stages(arguments)
    options: dict[str, Any] = {
        "score_stage": arguments.score_stage,
        "verify": arguments.verify,
        "stale_after": arguments.stale_after,
        "title": arguments.title,
        "limits": Limits(documents=arguments.documents, texts=arguments.texts),
    }
    # A pipe or a device is written to, and its page has links from here.
    is_file = output is not None and is_replaced(output)
    options["directory"] = os.path.dirname(os.path.abspath(output)) if is_file and output else os.getcwd()
    with Meter() as meter:
        made = page(store, tables, progress=meter.progress, **options)
    if output is None:
        print_text(made.html)
        return 0
    if not arguments.dry_run:
        if is_file:
            write_page(output, made)
        else:
            Path(output).write_bytes(made.html.encode())
    # Standard output may be where the page went.
    with contextlib.redirect_stdout(sys.stdout if is_file else sys.stderr):
        if arguments.json:
            print(json.dumps({"output": output, "dry_run": arguments.dry_run, **made.summary(), "skipped": skipped}))
        else:
            _print_summary(made, output, skipped, dry_run=arguments.dry_run)
    return 0


def _check(arguments: argparse.Namespace, store: DocsStore, tables: dict[str, str]) -> None:
    """Refuse what cannot be meant, before anything is looked at."""
    output: str | None = arguments.output
    if output is None:
        if arguments.dry_run or arguments.json:
            raise UsageError("--dry-run and --json are about a page that is written; expected --output with them")
        if sys.stdout.isatty():
            raise UsageError("a page of HTML is nothing for a terminal; expected --output FILE, or a pipe")
        return
    check_output("--output", output, store, tables.values())


def _print_summary(made: Page, output: str, skipped: list[str], *, dry_run: bool) -> None:
    size = len(made.html.encode()) / 1e6
    print(printable(f"{output}: {'would be ' if dry_run else ''}written, {size:.1f} MB"))
    print(f"{made.shown:,} of {made.documents:,} documents, {made.texts:,} of {made.texts_there:,} texts")
    summary = made.audit.summary()
    print(f"{summary['errors']:,} errors, {summary['warnings']:,} warnings; {made.scores:,} scores")
    if skipped:
        print(printable(f"files of other names, skipped: {len(skipped)}"))

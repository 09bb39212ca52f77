"""`docid report`: a page of HTML that shows a store and its tables."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from typing import TYPE_CHECKING

from docid.cli.options import UsageError, add_store, other_stages, store_of, tables_in
from docid.cli.output import plain, print_text
from docid.cli.terminal import Meter
from docid.report import Limits, Page, page, write_report

if TYPE_CHECKING:
    from collections.abc import Callable


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
        type=_number,
        default=Limits().documents,
        metavar="N",
        help=f"how many documents it holds (default: {Limits().documents:,})",
    )
    report.add_argument("--dry-run", action="store_true", help="say what the page would hold; write nothing")
    report.add_argument("--json", action="store_true", help="with --output: say what it holds as one line of JSON")
    add_store(report)
    report.set_defaults(run=_report)


def _size(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,12})([kM]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of bytes, such as 5M, 500k or 0")
    return int(found[1]) * {"": 1, "k": 1_000, "M": 1_000_000}[found[2]]


def _number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of documents")
    return int(text)


def _report(arguments: argparse.Namespace) -> int:
    output: str | None = arguments.output
    store = store_of(arguments)
    tables, skipped = tables_in(arguments.tables, store.stages)
    _check(arguments, tables)
    if hint := other_stages(arguments):
        print(f"docid: {hint}", file=sys.stderr)
    options = {
        "score_stage": arguments.score_stage,
        "verify": arguments.verify,
        "title": arguments.title,
        "limits": Limits(documents=arguments.documents, texts=arguments.texts),
    }
    make: Callable[..., Page] = page
    if output is not None and not arguments.dry_run:
        make = lambda *given, **others: write_report(output, *given, **others)  # noqa: E731 - of one use
    else:
        options["directory"] = os.path.dirname(os.path.abspath(output)) if output is not None else os.getcwd()
    with Meter() as meter:
        made = make(store, tables, progress=meter.progress, **options)
    if output is None:
        print_text(made.html)
    elif arguments.json:
        print(json.dumps({"output": output, "dry_run": arguments.dry_run, **made.summary(), "skipped": skipped}))
    else:
        _print_summary(made, output, skipped, dry_run=arguments.dry_run)
    return 0


def _check(arguments: argparse.Namespace, tables: dict[str, str]) -> None:
    """Refuse what cannot be meant, before anything is looked at."""
    output: str | None = arguments.output
    if output is None:
        if arguments.dry_run or arguments.json:
            raise UsageError("--dry-run and --json are about a page that is written; expected --output with them")
        if sys.stdout.isatty():
            raise UsageError("a page of HTML is nothing for a terminal; expected --output FILE, or a pipe")
        return
    if not output:
        raise UsageError("--output: expected a path, got nothing (is a variable not set?)")
    if os.path.isdir(output):
        raise UsageError(f"--output {output}: that is a directory; expected a file")
    if not os.path.isdir(os.path.dirname(output) or "."):
        raise UsageError(f"--output {output}: there is no directory {os.path.dirname(output)}; make it first")
    if os.path.realpath(output) in {os.path.realpath(table) for table in tables.values()}:
        raise UsageError(f"--output {output}: that is one of the tables; expected another file")


def _print_summary(made: Page, output: str, skipped: list[str], *, dry_run: bool) -> None:
    size = len(made.html.encode()) / 1e6
    print(plain(f"{output}: {'would be ' if dry_run else ''}written, {size:.1f} MB"))
    print(f"{made.shown:,} of {made.documents:,} documents, {made.texts:,} of {made.texts_there:,} texts")
    summary = made.report.summary()
    print(f"{summary['errors']:,} errors, {summary['warnings']:,} warnings; {made.scores:,} scores")
    if skipped:
        print(plain(f"files of other names, skipped: {len(skipped)}"))

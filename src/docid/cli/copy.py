"""`docid copy`: the documents of one store, in another."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from docid._text import shown
from docid.cli.options import add_stages, opened, root_of, whole
from docid.cli.output import hint_at_other_stages, json_line, one_line, say
from docid.cli.terminal import Meter
from docid.operations.copy import copy

if TYPE_CHECKING:
    import argparse

    from docid.core.findings import Change


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    copying = verbs.add_parser(
        "copy",
        allow_abbrev=False,
        help="copy the documents of one store into another: between directories and buckets, byte for byte",
        description="Copy the documents of one store, with their history, into another. Each may be a directory or the "
        "URL of an object store. What is there already is left alone: a copy that was interrupted is run again, and "
        "goes on. Documents whose name is taken in the other store by another one, and damaged ones, are listed and "
        "left out; the exit code is 1 then.",
    )
    copying.add_argument("source", type=root_of, metavar="FROM", help="a store: its directory, or its URL")
    copying.add_argument("target", type=root_of, metavar="TO", help="another one, which need not be there yet")
    copying.add_argument(
        "--stage", action="append", metavar="STAGE", help="copy this stage alone; may be repeated (default: all)"
    )
    copying.add_argument("--no-history", action="store_true", help="leave out the versions that were replaced")
    copying.add_argument("--verify", action="store_true", help="read what was written, and compare it")
    copying.add_argument(
        "--in-flight", type=whole("requests"), metavar="N", help="requests to an object store at once (default: 32)"
    )
    copying.add_argument("--dry-run", action="store_true", help="say what would be done; write nothing")
    copying.add_argument("--json", action="store_true", help="print one line of JSON a document")
    add_stages(copying)
    copying.set_defaults(run=_copy)


def _copy(arguments: argparse.Namespace) -> int:
    source = opened(arguments.source, arguments.stages, in_flight=arguments.in_flight)
    target = opened(arguments.target, arguments.stages, new=True, in_flight=arguments.in_flight)
    hint_at_other_stages(arguments, arguments.source)
    by_stage: dict[str, Counter[str]] = {}
    documents = copy(
        source,
        target,
        stages=arguments.stage,
        history=not arguments.no_history,
        verify=arguments.verify,
        dry_run=arguments.dry_run,
    )
    with Meter() as meter:
        for copied in documents:
            by_stage.setdefault(copied.stage, Counter())[copied.outcome] += 1
            meter.document(source, copied.stage)
            _tell(copied, meter, as_json=arguments.json)
    if not arguments.json:
        _print_counts(by_stage, dry_run=arguments.dry_run)
    return 1 if any(counts["conflict"] or counts["refused"] for counts in by_stage.values()) else 0


def _tell(copied: Change, meter: Meter, *, as_json: bool) -> None:
    """Print what needs to be known of a document."""
    if as_json:
        meter.clear()
        say(json_line(copied.to_dict("outcome", "stage", "doc_id", "task_id", "message")))
    elif copied.message:
        meter.clear()
        task = "" if copied.task_id is None else f" (task_id={shown(copied.task_id)})"
        name = f"{copied.stage}/{copied.doc_id}{task}"
        say(one_line(f"{copied.outcome}: {name}: {copied.message}"))


def _print_counts(by_stage: dict[str, Counter[str]], *, dry_run: bool) -> None:
    for stage, counts in by_stage.items():
        outcomes = (name for name in ("copied", "updated", "same", "conflict", "refused") if counts[name])
        say(f"{stage}: {', '.join(f'{counts[name]:,} {name}' for name in outcomes)}")
    if not by_stage:
        say("no documents")
    elif dry_run:
        say("nothing was written (--dry-run)")

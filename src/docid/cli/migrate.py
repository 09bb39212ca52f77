"""`docid migrate` and `docid backfill`: records of older systems, and records that lack a key."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from docid._text import shown
from docid.cli.options import UsageError, add_store, store_of, table_of, tables_in
from docid.cli.output import hint_at_other_stages, json_line, one_line, printable, say
from docid.cli.terminal import Meter
from docid.operations.migrate import backfill, migrate

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from docid.core.findings import Change
    from docid.store.docs_store import DocsStore


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    migrating = verbs.add_parser(
        "migrate",
        allow_abbrev=False,
        help="bring the records of an older system to the current format",
        description="Say which records of a store an older system wrote, and with --apply bring them to the current "
        "format, in place: stage, doc id, task id, parent, sizes, hashes and time are added, every key is kept, and no "
        "text is touched. The old record stays in history. What cannot be decided is listed and left alone. Exit code "
        "1 if there is such.",
    )
    migrating.add_argument(
        "--tables",
        action="append",
        default=[],
        metavar="DIRECTORY|[STAGE=]TABLE",
        help="task tables, for lineage that a record does not say; may be repeated",
    )
    how = migrating.add_mutually_exclusive_group()
    how.add_argument("--apply", action="store_true", help="do it; without this nothing is changed")
    how.add_argument("--dry-run", action="store_true", help="say what would be done (the default)")
    migrating.add_argument(
        "--assume-utc", action="store_true", help="take times without time zone for UTC; they are left alone otherwise"
    )
    migrating.add_argument("--json", action="store_true", help="print one line of JSON a document")
    add_store(migrating)
    migrating.set_defaults(run=_migrate)

    filling = verbs.add_parser(
        "backfill",
        allow_abbrev=False,
        help="add a metadata key to documents that lack it",
        description="Add one key to the metadata of documents, from a column of their task table; those that have the "
        "key keep its value. Done at once, unless --dry-run. Exit code 1 if something was left alone.",
    )
    filling.add_argument("--set", dest="key", metavar="KEY", required=True, help="the key: template_id, model_id, …")
    filling.add_argument(
        "--from",
        dest="source",
        metavar="[STAGE=]TABLE:COLUMN",
        required=True,
        help="the table, and its column of values",
    )
    filling.add_argument("--dry-run", action="store_true", help="say what would be done; change nothing")
    filling.add_argument("--json", action="store_true", help="print one line of JSON a document")
    add_store(filling)
    filling.set_defaults(run=_backfill)


def _migrate(arguments: argparse.Namespace) -> int:
    store = store_of(arguments)
    hint_at_other_stages(arguments)
    tables, _ = tables_in(arguments.tables, store.stages)
    sources: Counter[str] = Counter()
    changes = migrate(store, tables, apply=arguments.apply, assume_utc=arguments.assume_utc)
    counts = _told(store, changes, sources, as_json=arguments.json)
    if not arguments.json:
        for stage in store.stages:
            documents = sum(count for (each, _), count in counts.items() if each == stage)
            text = ", ".join(
                f"{counts[stage, action]:,} {words[arguments.apply]}" for action, words in _MIGRATED.items()
            )
            say(f"{stage}: {documents:,} documents: {text}")
        for message, count in sorted(sources.items()):
            say(f"  {message}: {count:,}")
        if not arguments.apply and any(action == "migrate" for _, action in counts):
            say("nothing was changed: --apply does it")
    return _code(counts)


_MIGRATED = {
    "migrate": ("to migrate", "migrated"),
    "current": ("current already", "current already"),
    "leave": ("left alone", "left alone"),
}
_SET = {
    "set": ("set", "would be set"),
    "current": ("have it already", "have it already"),
    "empty": ("without a value in the table", "without a value in the table"),
    "absent": ("not in the store", "not in the store"),
    "unnamed": ("rows without doc_id", "rows without doc_id"),
    "leave": ("left alone", "left alone"),
}


def _backfill(arguments: argparse.Namespace) -> int:
    store = store_of(arguments)
    named, colon, column = arguments.source.rpartition(":")
    if not colon or not named or not column:
        raise UsageError(f"--from {arguments.source}: expected [STAGE=]TABLE:COLUMN")
    stage, path = table_of(named, store.stages)
    changes = backfill(store, arguments.key, path, column, stage=stage, dry_run=arguments.dry_run)
    counts = _told(store, changes, Counter(), as_json=arguments.json)
    if not arguments.json:
        parts = (f"{counts[stage, action]:,} {words[arguments.dry_run]}" for action, words in _SET.items())
        say(printable(f"{arguments.key} from {path}, column {column}: {', '.join(parts)}"))
    return _code(counts)


def _told(
    store: DocsStore, changes: Iterator[Change], sources: Counter[str], *, as_json: bool
) -> Counter[tuple[str, str]]:
    """Print what needs to be known of each document; return how many there were of each kind, by stage."""
    counts: Counter[tuple[str, str]] = Counter()
    with Meter() as meter:
        for change in changes:
            counts[change.stage, change.outcome] += 1
            meter.document(store, change.stage)
            if change.outcome == "migrate" and not as_json:
                sources.update(change.sources)
            for line in _lines(change, as_json=as_json):
                meter.clear()
                say(line)
    return counts


def _lines(change: Change, *, as_json: bool) -> Iterator[str]:
    """Return what is printed of one document."""
    if as_json:
        yield json_line(_facts(change))
        return
    task = "" if change.task_id is None else f" (task_id={shown(change.task_id)})"
    if change.outcome == "leave":
        yield one_line(f"left alone  {change.location}{task}: {change.message}")
    if change.warning:
        yield one_line(f"differs     {change.location}{task}: {change.warning}")


def _facts(change: Change) -> dict[str, Any]:
    facts = change.to_dict()
    return {"action": facts.pop("outcome"), **facts}


def _code(counts: Counter[tuple[str, str]]) -> int:
    return 1 if any(action == "leave" for _, action in counts) else 0

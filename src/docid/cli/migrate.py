"""`docid migrate`: bring the records of an older system to the current format.

Say which records of a store an older system wrote, and with --apply bring them to the current format, in place:
stage, doc id, task id, parent, sizes, hashes and time are added, every key is kept, and no text is touched. The old
record stays in history. What cannot be decided is listed and left alone. Exit code 1 if there is such.
"""

from collections import Counter
from typing import Any

from docid.cli.arguments import APPLY, JSON_DOCUMENTS, STORE, Arguments, argument
from docid.cli.inputs import find_tables, hint_at_other_stages, open_store
from docid.cli.output import Output, describe_change, format_counts
from docid.core.findings import Change
from docid.operations.migrate import migrate


def run(arguments: Arguments, out: Output) -> int:
    """Migrate a store, or say what would be done; return 1 where something was left alone."""
    store = open_store(arguments)
    hint_at_other_stages(store)
    tables, _ = find_tables(arguments.tables, store.stages)
    sources: Counter[str] = Counter()

    def describe(change: Change) -> tuple[dict[str, Any], list[str]]:
        if change.outcome == "migrate":
            sources.update(change.sources)  # where the new values of records come from
        return describe_change(change)

    changes = migrate(store, tables, apply=arguments.apply, assume_utc=arguments.assume_utc)
    counts = out.print_changes(store, changes, describe)
    done = "migrated" if arguments.apply else "to migrate"
    words = {"migrate": done, "current": "current already", "leave": "left alone"}
    for stage in store.stages:
        number = sum(count for (each, _), count in counts.items() if each == stage)
        out.print(f"{stage}: {number:,} documents: {format_counts(counts, stage, words)}")
    for message, count in sorted(sources.items()):
        out.print(f"  {message}: {count:,}")
    if not arguments.apply and any(outcome == "migrate" for _, outcome in counts):
        out.print("nothing was changed: --apply does it")
    return 1 if any(outcome == "leave" for _, outcome in counts) else 0


ARGUMENTS = (
    argument(
        "--tables DIRECTORY|[STAGE=]TABLE ...", "task tables, for lineage that a record does not say; may be repeated"
    ),
    APPLY,
    argument("--assume-utc", "take times without time zone for UTC; they are left alone otherwise"),
    JSON_DOCUMENTS,
    *STORE,
)

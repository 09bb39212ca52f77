"""`docid migrate`: convert records of an older system to the current format.

List the records of a store that an older system wrote. With --apply, docid converts them in place: it adds lineage,
sizes, hashes and time, and changes no other key and no text. The old record goes to history. Exit code 1 if docid left
a record alone; the list gives the reason.

Examples:
    # List what would be converted, with lineage from the old task tables
    docid migrate --store data/docs --tables data/2_tasks
    # Convert the records; times without a time zone are UTC
    docid migrate --store data/docs --tables data/2_tasks --assume-utc --apply
"""

import re
from collections import Counter
from typing import Any

from docid._text import format_count
from docid.cli.arguments import APPLY, JSON_DOCUMENTS, STORE, Arguments, UsageError, argument
from docid.cli.inputs import find_tables, hint_at_other_stages, open_store
from docid.cli.output import Output, describe_change, format_counts
from docid.core.findings import Change
from docid.errors import TaskTableError
from docid.operations.migrate import migrate


def run(arguments: Arguments, out: Output) -> int:
    """Migrate a store or list the changes; return 1 if a document was left alone."""
    store = open_store(arguments)
    hint_at_other_stages(store)
    tables, _ = find_tables(arguments.tables, store.stages)
    sources: Counter[str] = Counter()  # the origins of the values that records get

    def describe(change: Change) -> tuple[dict[str, Any], list[str]]:
        if change.outcome == "migrate":
            sources.update(change.sources)
        return describe_change(change)

    rename = dict(_split_rename(given) for given in arguments.rename)
    if len(rename) < len(arguments.rename):
        raise UsageError("--rename: a key has two new names; expected one for each")
    try:
        changes = migrate(
            store,
            tables,
            apply=arguments.apply,
            assume_utc=arguments.assume_utc,
            rename=rename,
            task_id=arguments.task_id,
        )
    except TaskTableError:
        raise
    except ValueError as error:
        raise UsageError("--" + re.sub("^task_id", "task-id", str(error))) from error
    counts = out.print_changes(store, changes, describe)
    done = "migrated" if arguments.apply else "to migrate"
    words = {"migrate": done, "current": "already current", "leave": "left alone"}
    for stage in store.stages:
        number = sum(count for (each, _), count in counts.items() if each == stage)
        out.print(f"{stage}: {format_count(number, 'document')}: {format_counts(counts, stage, words)}")
    for message, count in sorted(sources.items()):
        out.print(f"  {message}: {count:,}")
    if not arguments.apply and any(outcome == "migrate" for _, outcome in counts):
        out.print("dry run: --apply makes these changes")
    return 1 if any(outcome == "leave" for _, outcome in counts) else 0


def _split_rename(given: str) -> tuple[str, str]:
    key, sign, new = given.partition("=")
    if not (key and sign and new):
        raise UsageError(f"--rename {given}: expected KEY=NEW, such as parent=parent_doc_id")
    return key, new


ARGUMENTS = (
    argument("--tables DIRECTORY|[STAGE=]TABLE ...", "task tables, for lineage missing from records; may be repeated"),
    APPLY,
    argument("--assume-utc", "read times without a time zone as UTC; otherwise docid leaves their records alone"),
    argument("--rename KEY=NEW ...", "give a key of the old records another name; may be repeated"),
    argument(
        "--task-id TEMPLATE",
        "make the task ids that records and tables lack, from keys of the record: '{combo_id}__{model_id}'",
    ),
    JSON_DOCUMENTS,
    *STORE,
)

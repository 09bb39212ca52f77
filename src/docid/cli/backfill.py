"""`docid backfill`: add a metadata key to documents that lack it.

Add one key to the metadata of documents, from a column of their task table; those that have the key keep its value.
Done at once, unless --dry-run. Exit code 1 if something was left alone.
"""

from docid.cli.arguments import JSON_DOCUMENTS, STORE, Arguments, UsageError, argument
from docid.cli.inputs import find_table, open_store
from docid.cli.output import Output, describe_change, format_counts
from docid.operations.migrate import backfill


def run(arguments: Arguments, out: Output) -> int:
    """Add the key, and say how many documents have it; return 1 where something was left alone."""
    store = open_store(arguments)
    table, colon, column = arguments.source.rpartition(":")
    if not colon or not table or not column:
        raise UsageError(f"--from {arguments.source}: expected [STAGE=]TABLE:COLUMN")
    stage, path = find_table(table, store.stages)
    changes = backfill(store, arguments.key, path, column, stage=stage, dry_run=arguments.dry_run)
    counts = out.print_changes(store, changes, describe_change)
    words = {
        "set": "would be set" if arguments.dry_run else "set",
        "current": "have it already",
        "empty": "without a value in the table",
        "absent": "not in the store",
        "unnamed": "rows without doc_id",
        "leave": "left alone",
    }
    out.print(f"{arguments.key} from {path}, column {column}: {format_counts(counts, stage, words)}")
    return 1 if counts[stage, "leave"] else 0


ARGUMENTS = (
    argument("--set KEY", "the key: template_id, model_id, …", dest="key", required=True),
    argument("--from [STAGE=]TABLE:COLUMN", "the table, and its column of values", dest="source", required=True),
    argument("--dry-run", "say what would be done; change nothing"),
    JSON_DOCUMENTS,
    *STORE,
)

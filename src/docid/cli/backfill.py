"""`docid backfill`: add a metadata key to documents that lack it.

Add one key to the metadata of documents, from a column of their task table. docid changes the records at once, unless
you give --dry-run; a document that has the key keeps its value. Exit code 1 if a document was left alone.

Examples:
    # Add combo_id to essays, from a column of the same name
    docid backfill --set combo_id --from essay_tasks.csv:combo_id --store docs
    # Count the drafts that would get a seed
    docid backfill --set seed --from draft_tasks.csv:seed --store docs --dry-run
"""

from docid.cli.arguments import JSON_DOCUMENTS, STORE, Arguments, argument
from docid.cli.inputs import find_column, open_store
from docid.cli.output import Output, describe_change, format_counts
from docid.operations.migrate import backfill


def run(arguments: Arguments, out: Output) -> int:
    """Add the key, and print the number of documents by outcome; return 1 if a document was left alone."""
    store = open_store(arguments)
    stage, path, column = find_column(arguments.source, store.stages)
    changes = backfill(store, arguments.key, path, column, stage=stage, dry_run=arguments.dry_run)
    counts = out.print_changes(store, changes, describe_change)
    words = {
        "set": "would be set" if arguments.dry_run else "set",
        "current": "already set",
        "empty": "without a value in the table",
        "absent": "not in the store",
        "unnamed": "without doc_id",
        "leave": "left alone",
    }
    out.print(f"{arguments.key} from {path}, column {column}: {format_counts(counts, stage, words)}")
    return 1 if counts[stage, "leave"] else 0


ARGUMENTS = (
    argument("--set KEY", "the key, such as template_id or model_id", dest="key", required=True),
    argument(
        "--from [STAGE=]TABLE:COLUMN", "the task table, and its column with the values", dest="source", required=True
    ),
    argument("--dry-run", "list the changes without making them"),
    JSON_DOCUMENTS,
    *STORE,
)

"""`docid link`: fill the ids of a task table from stored documents.

Fill empty doc_id and parent_doc_id cells of a task table with the ids of stored documents of the same task, so that a
run does not make them again. If several documents match, docid takes the newest and lists the others. It replaces the
table atomically, and keeps existing ids unless you give --force.

Examples:
    # Show which rows have a stored document
    docid link essay_generation_tasks.csv --store data/docs --dry-run
    # Replace the ids of a table whose name does not tell its stage
    docid link essay=old_essays.csv --store data/docs --force
"""

from docid._text import format_count
from docid.cli.arguments import STORE, Arguments, argument
from docid.cli.inputs import DELIMITER, find_table, open_store
from docid.cli.output import Output
from docid.operations.curate.link import link
from docid.tables.rows import row_type_of


def run(arguments: Arguments, out: Output) -> int:
    """Link a table, and print the number of cells filled."""
    store = open_store(arguments)
    stage, path = find_table(arguments.table, store.stages)
    dry = arguments.dry_run
    row_type = row_type_of(stage, store.stages)
    linked = link(path, store, row_type=row_type, delimiter=arguments.delimiter, force=arguments.force, dry_run=dry)
    would = "would be " if dry else ""
    text = f"{path}: {format_count(linked.rows, 'row')}, {would}linked: {linked.filled:,} ({linked.kept:,} kept)"
    if store.stages.parent_of(stage) is not None:
        text += f", {linked.parents_filled:,} parent_doc_id; {linked.parents_missing:,} without parent_doc_id"
    out.print(text)
    out.print_notes(linked.notes, as_json=arguments.json)
    out.print_json({"summary": {"table": path, "dry_run": dry, **linked._asdict(), "notes": len(linked.notes)}})
    return 0


ARGUMENTS = (
    argument("table [STAGE=]TABLE", "the task table to fill"),
    DELIMITER,
    argument("--force", "also replace ids that are already set"),
    argument("--dry-run", "report the result without writing the table"),
    argument("--json", "print one line of JSON per note, then one for the summary"),
    *STORE,
)

"""`docid link`: fill a table's ids from the documents that are there already.

Fill the empty doc_id and parent_doc_id cells of a task table, in place and atomically, from stored documents of the
same task id, so that they are used and not made again. Of several the newest is taken and the others are listed. What
is set is kept, unless --force.
"""

from docid.cli.arguments import STORE, Arguments, argument
from docid.cli.inputs import find_table, open_store
from docid.cli.output import Output
from docid.operations.curate.link import link
from docid.tables.rows import row_type_of


def run(arguments: Arguments, out: Output) -> int:
    """Link a table, and say what was filled."""
    store = open_store(arguments)
    stage, path = find_table(arguments.table, store.stages)
    dry = arguments.dry_run
    linked = link(path, store, row_type=row_type_of(stage, store.stages), force=arguments.force, dry_run=dry)
    text = f"{path}: {linked.rows} rows, {'would be ' if dry else ''}linked: {linked.filled} ({linked.kept} kept)"
    if store.stages.parent_of(stage) is not None:
        text += f", {linked.parents_filled} parent_doc_id; {linked.parents_missing} without parent_doc_id"
    out.print(text)
    out.print_notes(linked.notes, as_json=arguments.json)
    out.print_json({"summary": {"table": path, "dry_run": dry, **linked._asdict(), "notes": len(linked.notes)}})
    return 0


ARGUMENTS = (
    argument("table [STAGE=]TABLE", "the task table to fill"),
    argument("--force", "replace ids that are set, too"),
    argument("--dry-run", "say what would be filled; write nothing"),
    argument("--json", "print one line of JSON a note, the summary last"),
    *STORE,
)

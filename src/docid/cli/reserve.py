"""`docid reserve`: fill doc_id and parent_doc_id in task tables, or print ids.

Fill the empty doc_id and parent_doc_id cells of task tables, in place and atomically; what is set is kept. A table's
stage is told by its name (<stage>_generation_tasks.csv or <stage>_tasks.csv, also .gz), or given as STAGE=TABLE.
Parents are looked up in the other tables that are named, or in --parents. Where one table is faulty none is written.
With --stage and --task-id no table is touched: the ids of these tasks are printed.
"""

from itertools import product
from typing import Any

from docid.cli.arguments import RANDOM, SALT, STAGES, Arguments, UsageError, argument
from docid.cli.inputs import choose_salt, sort_tables
from docid.cli.output import Output, complain
from docid.core.ids import reserve_doc_ids
from docid.core.stages import Stages
from docid.operations.fill import Filled, fill_table
from docid.tables.reserve import reserve_tasks
from docid.tables.rows import TaskRow, row_type_of
from docid.tables.tasks import read_tasks


def run(arguments: Arguments, out: Output) -> int:
    """Fill tables, or print ids."""
    if bool(arguments.tables) == bool(arguments.task_id) or bool(arguments.task_id) != bool(arguments.stage):
        raise UsageError("expected either tables, or --stage with --task-id; see docid reserve --help")
    salt = choose_salt(arguments)
    if arguments.task_id:
        return _print_ids(arguments, out, salt)
    stages: Stages = arguments.stages
    tables, known = sort_tables(arguments.tables, stages), sort_tables(arguments.parents, stages)
    for stage, path in known.items():
        if stage in tables:
            raise UsageError(f"{path}: expected one table of stage {stage}, got {tables[stage]} too")
        if not tables.keys() & stages.children_of(stage):
            raise UsageError(f"{path}: none of the tables is of a stage that comes from {stage}")
    known |= tables
    options: dict[str, Any] = {"run_id": arguments.run_id, "salt": salt}
    # All of it without writing first: where one table is faulty none is changed.
    for dry, (stage, path) in product([True] if arguments.dry_run else [True, False], tables.items()):
        row_type, parents, progress = row_type_of(stage, stages), None, out.progress.callback
        if (parent := row_type.parent_stage) in known:
            parents = read_tasks(known[parent], row_type_of(parent, stages), reserved=False)
            if dry and parent in tables:  # it is not filled yet
                parents = reserve_tasks(parents, parents.row_type, **options)
        filled = fill_table(path, row_type, **options, parents=parents, dry_run=dry, progress=progress)
        if dry == arguments.dry_run:
            _print_filled(path, row_type, filled, arguments, salt, out)
    return 0


def _print_ids(arguments: Arguments, out: Output, salt: str | None) -> int:
    """Print the ids of the tasks of --task-id."""
    if arguments.parents or arguments.dry_run:
        raise UsageError("--parents and --dry-run are for tables; expected --stage and --task-id alone")
    stage = arguments.stages.check(arguments.stage)
    ids = reserve_doc_ids(stage, arguments.task_id, run_id=arguments.run_id, salt=salt)
    if arguments.salt == RANDOM:
        complain(f"salt {salt}")
    for task_id, doc_id in zip(arguments.task_id, ids, strict=True):
        out.print_json({"stage": stage, "task_id": task_id, "doc_id": doc_id, "salt": salt})
        out.print(doc_id)
    return 0


def _print_filled(  # noqa: PLR0917 - from one place
    path: str, row_type: type[TaskRow], filled: Filled, arguments: Arguments, salt: str | None, out: Output
) -> None:
    """Print what was filled in a table, or would be."""
    rows, ids, parents, orphans = filled
    out.print_json(
        {
            "table": path,
            "stage": row_type.stage,
            "rows": rows,
            "doc_id": ids,
            "parent_doc_id": parents,
            "without_parent_doc_id": orphans,
            "salt": salt if ids else None,
            "dry_run": arguments.dry_run,
        }
    )
    text = f"{path}: {rows} rows, {'would be ' if arguments.dry_run else ''}filled: {ids} doc_id ({rows - ids} kept)"
    if row_type.parent_stage is not None:
        text += f", {parents} parent_doc_id ({rows - parents - orphans} kept)"
        if orphans:
            text += f"; {orphans} without parent_doc_id (name the table of stage {row_type.parent_stage} too)"
    if ids and not arguments.dry_run and arguments.salt == RANDOM:
        text += f"; salt {salt}"
    elif not ids and rows and (arguments.salt or arguments.run_id):
        text += "; no id was to be filled: empty the doc_id of those rows that are to have another"
    out.print(text)


ARGUMENTS = (
    argument("tables [STAGE=]TABLE ...", "task tables to fill"),
    argument("--stage STAGE", "the stage of the --task-id values"),
    argument("--task-id TEXT ...", "a task to print the id of; may be repeated"),
    *SALT,
    argument("--parents [STAGE=]TABLE ...", "a reserved table to look parents up in; may be repeated"),
    argument("--dry-run", "say what would be filled; write nothing"),
    argument("--json", "print one line of JSON a table, or an id"),
    STAGES,
)

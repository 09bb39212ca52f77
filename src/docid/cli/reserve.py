"""`docid reserve`: fill doc_id and parent_doc_id in task tables, or print doc ids.

Fill empty doc_id and parent_doc_id cells of task tables; existing ids stay. docid finds parents by task id in the
other tables of the command or in --parents. It replaces each table atomically, and changes none if one is faulty.
With --stage and --task-id it prints the doc ids of tasks and changes no table.

Examples:
    # Fill the ids of two tables; the essays get their drafts as parents
    docid reserve draft_generation_tasks.csv essay_generation_tasks.csv
    # Print the doc id of one task
    docid reserve --stage draft --task-id tides__large-1
"""

from collections.abc import Iterable
from itertools import product
from typing import Any

from docid._text import format_count
from docid.cli.arguments import RANDOM, SALT, TABLE_STAGES, Arguments, UsageError, argument
from docid.cli.inputs import DELIMITER, choose_salt, sort_tables
from docid.cli.output import Output, print_stderr
from docid.core.ids import reserve_doc_ids
from docid.core.stages import DEFAULT_STAGES, Stages
from docid.operations.fill import Filled, fill_table
from docid.tables.reserve import reserve_tasks
from docid.tables.rows import TaskRow, row_type_of
from docid.tables.tasks import TaskTable, read_tasks


def run(arguments: Arguments, out: Output) -> int:
    """Fill tables, or print ids."""
    if bool(arguments.tables) == bool(arguments.task_id) or bool(arguments.task_id) != bool(arguments.stage):
        raise UsageError("expected either tables or --stage with --task-id; see docid reserve --help")
    salt = choose_salt(arguments)
    if arguments.task_id:
        return _print_ids(arguments, out, salt)
    stages: Stages = arguments.stages or DEFAULT_STAGES
    tables, known = sort_tables(arguments.tables, stages), sort_tables(arguments.tables + arguments.parents, stages)
    for stage, path in known.items():
        if stage not in tables and not tables.keys() & stages.children_of(stage):
            raise UsageError(f"{path}: no table to fill has parents of stage {stage}")
    options: dict[str, Any] = {"run_id": arguments.run_id, "salt": salt}
    delimiter: str = arguments.delimiter

    def open_parents(stage: str) -> TaskTable[TaskRow]:
        return read_tasks(known[stage], row_type_of(stage, stages), reserved=False, delimiter=delimiter)

    # A table of --parents may be a pipe, so docid opens it once.
    opened = {stage: open_parents(stage) for stage in known if stage not in tables}
    # A dry run of all tables first, so that a faulty table leaves every table unchanged.
    for dry, (stage, path) in product([True] if arguments.dry_run else [True, False], tables.items()):
        row_type, progress = row_type_of(stage, stages), out.progress.show
        parents: Iterable[TaskRow] | None = None
        if (parent := row_type.parent_stage) in known:
            parents = table = opened[parent] if parent in opened else open_parents(parent)
            if dry and parent in tables:  # the dry run has not written the ids of its tables
                parents = reserve_tasks(table, table.row_type, **options)
        filled = fill_table(
            path, row_type, **options, parents=parents, delimiter=delimiter, dry_run=dry, progress=progress
        )
        if dry == arguments.dry_run:
            _print_filled(path, row_type, filled, arguments, salt, out)
    return 0


def _print_ids(arguments: Arguments, out: Output, salt: str | None) -> int:
    """Print the doc ids of the tasks in --task-id."""
    if arguments.parents or arguments.dry_run:
        raise UsageError("--parents and --dry-run apply to tables; expected --stage and --task-id without them")
    stage = (arguments.stages or DEFAULT_STAGES).check(arguments.stage)
    ids = reserve_doc_ids(stage, arguments.task_id, run_id=arguments.run_id, salt=salt)
    if arguments.salt == RANDOM:
        print_stderr(f"salt {salt}")
    for task_id, doc_id in zip(arguments.task_id, ids, strict=True):
        out.print_json({"stage": stage, "task_id": task_id, "doc_id": doc_id, "salt": salt})
        out.print(doc_id)
    return 0


def _print_filled(  # noqa: PLR0917 - one caller
    path: str, row_type: type[TaskRow], filled: Filled, arguments: Arguments, salt: str | None, out: Output
) -> None:
    """Print the number of cells filled in a table."""
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
    would = "would be " if arguments.dry_run else ""
    text = f"{path}: {format_count(rows, 'row')}, {would}filled: {ids:,} doc_id ({rows - ids:,} kept)"
    if row_type.parent_stage is not None:
        text += f", {parents:,} parent_doc_id ({rows - parents - orphans:,} kept)"
        if orphans:
            text += f"; {orphans:,} without parent_doc_id (add the table of stage {row_type.parent_stage})"
    if ids and not arguments.dry_run and arguments.salt == RANDOM:
        text += f"; salt {salt}"
    elif not ids and rows and (arguments.salt or arguments.run_id):
        text += "; every row already has a doc_id: clear the cells that need a new one"
    out.print(text)


ARGUMENTS = (
    argument(
        "tables [STAGE=]TABLE ...",
        "task tables to fill: <stage>_tasks.csv, <stage>_generation_tasks.csv (also .gz), or STAGE=TABLE",
    ),
    argument("--stage STAGE", "the stage of the --task-id values"),
    argument("--task-id TEXT ...", "print the doc id of this task; may be repeated"),
    *SALT,
    DELIMITER,
    argument("--parents [STAGE=]TABLE ...", "reserved table with the parents; may be repeated"),
    argument("--dry-run", "report the result without writing the tables"),
    argument("--json", "print one line of JSON per table or doc id"),
    TABLE_STAGES,
)

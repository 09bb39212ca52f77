"""`docid reserve`: fill doc_id and parent_doc_id in task tables, or print doc ids.

Fill empty doc_id and parent_doc_id cells of task tables; existing ids stay. docid finds parents by task id in the
other tables of the command or in --parents. It replaces each table atomically, and changes none if one is faulty.
With --store, a row whose task already has a document keeps the id of that document, so that a run does not pay for it
again. --replicates adds the rows that are missing for several documents of each task. With --stage and --task-id it
prints the doc ids of tasks and changes no table.

Examples:
    # Fill the ids of two tables; the essays get their drafts as parents
    docid reserve draft_generation_tasks.csv essay_generation_tasks.csv
    # Print the doc id of one task
    docid reserve --stage draft --task-id tides__large-1
"""

import re
from argparse import ArgumentTypeError
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any, NamedTuple

from docid._text import format_count
from docid.cli.arguments import IN_FLIGHT, RANDOM, ROOT, SALT, TABLE_STAGES, Arguments, UsageError, argument
from docid.cli.inputs import DELIMITER, choose_salt, find_no_store, open_root, sort_tables
from docid.cli.output import Output, print_stderr
from docid.core.ids import reserve_doc_ids
from docid.core.stages import DEFAULT_STAGES, Stages
from docid.operations.fill import Filled, fill_table, reserve_existing
from docid.store.docs_store import DocsStore
from docid.tables.replicates import MOST
from docid.tables.rows import TaskRow, row_type_of
from docid.tables.tasks import TaskRows, TaskTable, read_tasks


def run(arguments: Arguments, out: Output) -> int:
    """Fill tables, or print ids."""
    if bool(arguments.tables) == bool(arguments.task_id) or bool(arguments.task_id) != bool(arguments.stage):
        raise UsageError("expected either tables or --stage with --task-id; see docid reserve --help")
    salt = choose_salt(arguments)
    opened_store = open_root(arguments, arguments.store, new=True) if arguments.store else None
    stages: Stages = arguments.stages or (DEFAULT_STAGES if opened_store is None else opened_store.stages)
    if arguments.task_id:
        return _print_ids(arguments, out, stages, salt)
    store = opened_store if arguments.existing == "link" else None
    if store is not None and (problem := find_no_store(store)):
        print_stderr(f"{arguments.store} is not a store yet ({problem}), so no row is linked to a document")
    tables, known = sort_tables(arguments.tables, stages), sort_tables(arguments.tables + arguments.parents, stages)
    for stage, path in known.items():
        if stage not in tables and not tables.keys() & stages.children_of(stage):
            raise UsageError(f"{path}: no table to fill has parents of stage {stage}")
    numbers = _find_numbers(arguments, tables, stages)
    options: dict[str, Any] = {"run_id": arguments.run_id, "salt": salt, "stages": stages}
    # A table of --parents may be a pipe, so docid opens it once.
    opened = {
        stage: read_tasks(path, row_type_of(stage, stages), reserved=False, delimiter=arguments.delimiter)
        for stage, path in known.items()
        if stage not in tables
    }
    job = _Job(tables, opened, stages, store, arguments.delimiter, options, numbers)
    # A dry run of all tables first, so that a faulty table leaves every table unchanged.
    for dry, (stage, path) in product([True] if arguments.dry_run else [True, False], tables.items()):
        row_type, progress = row_type_of(stage, stages), out.progress.show
        filled = fill_table(
            path,
            row_type,
            **options,
            parents=job.find_parents(row_type, dry_run=dry),
            replicates=numbers.get(stage),
            store=store,
            delimiter=arguments.delimiter,
            dry_run=dry,
            progress=progress,
        )
        if dry == arguments.dry_run:
            _print_filled(path, row_type, filled, arguments, salt, out)
    return 0


class _Job(NamedTuple):
    """The tables of a command: those to fill, and those of --parents; the store, and the options of `reserve_tasks`."""

    tables: Mapping[str, str]
    opened: Mapping[str, TaskTable[TaskRow]]
    stages: Stages
    store: DocsStore | None
    delimiter: str
    options: Mapping[str, Any]
    numbers: Mapping[str, int]

    def find_parents(self, row_type: type[TaskRow], *, dry_run: bool) -> Iterable[TaskRow] | None:
        """Return the rows of the parents, if the command has their table."""
        parent = row_type.parent_stage or ""
        if parent not in self.tables:
            return self.opened.get(parent)
        return self._reserve(parent) if dry_run else self._read(parent)

    def _read(self, stage: str) -> TaskTable[TaskRow]:
        row_type = row_type_of(stage, self.stages)
        return read_tasks(self.tables[stage], row_type, reserved=False, delimiter=self.delimiter)

    def _reserve(self, stage: str) -> TaskRows[TaskRow]:
        """Reserve a table in memory, because a dry run has not written its ids."""
        table = self._read(stage)
        added, path = self.numbers.get(stage), self.tables[stage]
        # Which documents and replicates a row has depends on its parents.
        needs_parents = self.store is not None or added is not None
        parents = self.find_parents(table.row_type, dry_run=True) if needs_parents else None
        options = {**self.options, "parents": parents, "replicates": added}
        reserved, _ = reserve_existing(table, table.row_type, self.store, path, **options)
        return reserved


def _find_numbers(arguments: Arguments, tables: Mapping[str, str], stages: Stages) -> dict[str, int]:
    """Return the numbers of --replicates by stage."""
    given: dict[str, int] = arguments.replicates
    if given and arguments.salt is not None:
        raise UsageError("--replicates gives each row a salt of its own; expected it without --salt")
    if "" in given:
        if len(tables) != 1:
            raise UsageError("--replicates: expected STAGE=NUMBER for each of several tables, such as draft=5,essay=2")
        return {next(iter(tables)): given[""]}
    for stage in given:
        if stages.check(stage) not in tables:
            raise UsageError(f"--replicates {stage}: the command fills no table of stage {stage}")
    return given


def _print_ids(arguments: Arguments, out: Output, stages: Stages, salt: str | None) -> int:
    """Print the doc ids of the tasks in --task-id."""
    if arguments.parents or arguments.dry_run or arguments.replicates:
        options = "--parents, --replicates and --dry-run"
        raise UsageError(f"{options} apply to tables; expected --stage and --task-id without them")
    stage = stages.check(arguments.stage)
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
    rows, ids, parents, without, existing, notes, added, above, others = filled
    out.print_json(
        {
            "table": path,
            "stage": row_type.stage,
            "rows": rows,
            "added": added,
            "doc_id": ids,
            "parent_doc_id": parents,
            "without_parent_doc_id": without,
            "existing": existing,
            "above": above,
            "others": others,
            "salt": salt if ids else None,
            "dry_run": arguments.dry_run,
        }
    )
    would = "would be " if arguments.dry_run else ""
    of_documents = f", {existing:,} of existing documents" if existing else ""
    of_added = f" ({added:,} {would}added)" if added else ""
    text = f"{path}: {format_count(rows, 'row')}{of_added}, {would}filled: "
    text += f"{ids:,} doc_id{of_documents} ({rows - ids:,} kept)"
    if row_type.parent_stage is not None:
        text += f", {parents:,} parent_doc_id ({rows - parents - without:,} kept)"
        if without:
            text += f"; {without:,} without parent_doc_id (add the table of stage {row_type.parent_stage})"
    if ids and not arguments.dry_run and arguments.salt == RANDOM:
        text += f"; salt {salt}"
    elif not ids and rows and (arguments.salt or arguments.run_id):
        text += "; every row already has a doc_id: clear the cells that need a new one"
    if above:
        text += f"; {format_count(above, 'row')} above the number of replicates kept"
    if others:
        text += f"; {format_count(others, 'row')} with a doc_salt of another kind left alone"
    out.print(text)
    out.print_notes(notes, as_json=arguments.json)


def _parse_numbers(text: str) -> dict[str, int]:
    """Return the numbers of --replicates by stage; for a single number, by an empty text."""
    numbers: dict[str, int] = {}
    for item in text.split(","):
        found = re.fullmatch(r"(?:([^=]+)=)?([0-9]{1,9})", item.strip())
        stage = (found[1] or "").strip() if found else ""
        if found is None or not 1 <= int(found[2]) <= MOST or stage in numbers or (not stage and "," in text):
            expected = f"expected a number up to {MOST:,}, or STAGE=NUMBER separated by commas, each stage once"
            raise ArgumentTypeError(f"{text!r}: {expected}, such as draft=5,essay=2")
        numbers[stage] = int(found[2])
    return numbers


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
    ROOT,
    IN_FLIGHT,
    argument(
        "--existing {link,derive}",
        "with --store: link a row to the document that its task has, or derive an id all the same (default: link)",
        default="link",
    ),
    argument(
        "--replicates LIST",
        "make this number of documents of each task: 5, or draft=5,essay=2; with the table of the parents, for each "
        "replicate of the parent",
        type=_parse_numbers,
        default={},
    ),
    argument("--dry-run", "report the result without writing the tables"),
    argument("--json", "print one line of JSON per table or doc id"),
    TABLE_STAGES,
)

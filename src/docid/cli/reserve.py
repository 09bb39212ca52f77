"""`docid reserve`: fill ids into task tables, or print them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from docid.cli.options import RANDOM, UsageError, add_salt, add_stages, by_stage, salt_of
from docid.cli.output import complain, printable
from docid.cli.terminal import Meter
from docid.core.ids import reserve_doc_ids
from docid.tables.reserve import reserve_tasks
from docid.tables.rows import row_type_of
from docid.tables.tasks import read_tasks, write_tasks

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from docid.core.stages import Stages
    from docid.tables.rows import TaskRow


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    reserve = verbs.add_parser(
        "reserve",
        allow_abbrev=False,
        help="fill doc_id and parent_doc_id in task tables, or print ids",
        description="Fill the empty doc_id and parent_doc_id cells of task tables, in place and atomically; what is "
        "set is kept. A table's stage is told by its name (<stage>_generation_tasks.csv or <stage>_tasks.csv, also "
        ".gz), or given as STAGE=TABLE. Parents are looked up in the other tables that are named, or in --parents. "
        "Where one table is faulty none is written. With --stage and --task-id no "
        "table is touched: the ids of these tasks are printed.",
    )
    reserve.add_argument("tables", nargs="*", metavar="[STAGE=]TABLE", help="task tables to fill")
    reserve.add_argument("--stage", metavar="STAGE", help="the stage of the --task-id values")
    reserve.add_argument(
        "--task-id", action="append", default=[], metavar="TEXT", help="a task to print the id of; may be repeated"
    )
    add_salt(reserve)
    reserve.add_argument(
        "--parents",
        action="append",
        default=[],
        metavar="[STAGE=]TABLE",
        help="a reserved table to look parents up in; may be repeated",
    )
    reserve.add_argument("--dry-run", action="store_true", help="say what would be filled; write nothing")
    reserve.add_argument("--json", action="store_true", help="print one line of JSON a table, or an id")
    add_stages(reserve)
    reserve.set_defaults(run=_reserve)


def _reserve(arguments: argparse.Namespace) -> int:
    stages: Stages = arguments.stages
    if bool(arguments.tables) == bool(arguments.task_id) or bool(arguments.task_id) != bool(arguments.stage):
        raise UsageError("expected either tables, or --stage with --task-id; see docid reserve --help")
    salt = salt_of(arguments)
    if arguments.task_id:
        if arguments.parents or arguments.dry_run:
            raise UsageError("--parents and --dry-run are for tables; expected --stage and --task-id alone")
        ids = reserve_doc_ids(stages.check(arguments.stage), arguments.task_id, run_id=arguments.run_id, salt=salt)
        if arguments.salt == RANDOM:
            complain(f"salt {salt}")
        for task_id, doc_id in zip(arguments.task_id, ids, strict=True):
            facts = {"stage": arguments.stage, "task_id": task_id, "doc_id": doc_id, "salt": salt}
            print(json.dumps(facts) if arguments.json else doc_id)
        return 0
    tables = by_stage(arguments.tables, stages)
    known = {**_parent_tables(arguments, tables), **tables}
    # All of it without writing first: where one table is faulty none is changed.
    for dry in [True] if arguments.dry_run else [True, False]:
        for stage in stages:
            if stage in tables:
                parents = _parents_of(stage, known, tables, arguments, salt, dry=dry)
                text = _reserve_table(arguments, stage, tables[stage], parents, salt, dry=dry)
                if dry == arguments.dry_run:
                    print(printable(text))
    return 0


def _parent_tables(arguments: argparse.Namespace, tables: dict[str, str]) -> dict[str, str]:
    """Return the tables of --parents by stage; each has to be of use."""
    stages: Stages = arguments.stages
    found = by_stage(arguments.parents, stages)
    for stage, path in found.items():
        if stage in tables:
            raise UsageError(f"{path}: expected one table of stage {stage}, got {tables[stage]} too")
        if not any(child in tables for child in stages.children_of(stage)):
            raise UsageError(f"{path}: none of the tables is of a stage that comes from {stage}")
    return found


def _parents_of(
    stage: str,
    known: dict[str, str],
    tables: dict[str, str],
    arguments: argparse.Namespace,
    salt: str | None,
    *,
    dry: bool,
) -> Iterable[TaskRow] | None:
    """Return the rows of the parents' table; None where none was named."""
    stages: Stages = arguments.stages
    parent_stage = stages.parent_of(stage)
    if parent_stage is None or parent_stage not in known:
        return None
    parents = read_tasks(known[parent_stage], row_type_of(parent_stage, stages), reserved=False)
    if parent_stage in tables and dry:
        # Its file would have been filled by now.
        return reserve_tasks(parents, parents.row_type, arguments.run_id, salt)
    return parents


def _reserve_table(
    arguments: argparse.Namespace,
    stage: str,
    path: str,
    parents: Iterable[TaskRow] | None,
    salt: str | None,
    *,
    dry: bool,
) -> str:
    """Fill one table, or only look what there is to fill; return what to say of it."""
    row_type = row_type_of(stage, arguments.stages)
    before, after, meter = _Empty(), _Empty(), Meter()
    table = read_tasks(path, row_type, reserved=False)
    for _ in meter.over(before.counted(table), f"reading {path}"):
        pass
    rows = read_tasks(path, row_type, reserved=False)
    stream = reserve_tasks(rows, row_type, arguments.run_id, salt, parents=parents)
    what = f"{'checking' if dry else 'reserving'} rows of stage {stage}"
    reserved = meter.over(after.counted(stream), what, before.rows)
    without_rows = before.rows == 0 and {"doc_id", "parent_doc_id"} & (set(stream.columns) - set(table.columns))
    with meter:  # also where the table cannot be written
        if dry or not (before.parents or before.ids or without_rows):
            for _ in reserved:
                pass
        else:
            write_tasks(path, reserved if before.rows else stream, like=path)
    ids, parent_ids = before.ids - after.ids, before.parents - after.parents
    if arguments.json:
        filled = {"doc_id": ids, "parent_doc_id": parent_ids, "without_parent_doc_id": after.parents}
        noted = salt if ids else None
        return json.dumps({"table": path, "stage": stage, "rows": after.rows, **filled, "salt": noted, "dry_run": dry})
    would = "would be " if dry else ""
    text = f"{path}: {after.rows} rows, {would}filled: {ids} doc_id ({before.rows - before.ids} kept)"
    if row_type.parent_stage is not None:
        text += f", {parent_ids} parent_doc_id ({before.rows - before.parents} kept)"
        if after.parents:
            text += f"; {after.parents} without parent_doc_id (name the table of stage {row_type.parent_stage} too)"
    if ids and not dry and arguments.salt == RANDOM:
        text += f"; salt {salt}"
    elif not ids and after.rows and (arguments.salt or arguments.run_id):
        text += "; no id was to be filled: empty the doc_id of those rows that are to have another"
    return text


class _Empty:
    """Rows that pass by, and how many of them have no id yet."""

    def __init__(self) -> None:
        self.rows = self.ids = self.parents = 0

    def counted(self, rows: Iterable[TaskRow]) -> Iterator[TaskRow]:
        for row in rows:
            self.rows += 1
            self.ids += not row.doc_id
            self.parents += row.parent_stage is not None and not row.parent_doc_id
            yield row

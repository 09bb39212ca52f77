"""`docid reserve`: fill ids into task tables, or print them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from docid.cli.command import Arguments, Command, UsageError, argument, flag, repeated
from docid.cli.inputs import choose_salt, sort_tables
from docid.cli.options import RANDOM, SALT, STAGES
from docid.cli.output import Output, complain
from docid.core.ids import reserve_doc_ids
from docid.tables.rows import row_type_of
from docid.tables.tasks import read_tasks, reserve_tasks, write_tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from docid.core.stages import Stages
    from docid.tables.rows import TaskRow


def run(arguments: Arguments, out: Output) -> int:
    """Fill tables, or print ids."""
    if bool(arguments.tables) == bool(arguments.task_id) or bool(arguments.task_id) != bool(arguments.stage):
        raise UsageError("expected either tables, or --stage with --task-id; see docid reserve --help")
    salt = choose_salt(arguments)
    if arguments.task_id:
        _print_ids(arguments, out, salt)
        return 0
    stages: Stages = arguments.stages
    tables = sort_tables(arguments.tables, stages)
    known = {**_find_parent_tables(arguments, tables), **tables}
    reservation = _Reservation(arguments, out, salt, tables, known)
    in_order = [stage for stage in stages if stage in tables]
    # All of it without writing first: where one table is faulty none is changed.
    checks = [reservation.fill(stage, dry=True) for stage in in_order]
    for filled in checks if arguments.dry_run else (reservation.fill(stage, dry=False) for stage in in_order):
        if arguments.json:
            out.json(filled.facts())
        else:
            out.line(str(filled))
    return 0


def _print_ids(arguments: Arguments, out: Output, salt: str | None) -> None:
    """Print the ids of the tasks of --task-id."""
    if arguments.parents or arguments.dry_run:
        raise UsageError("--parents and --dry-run are for tables; expected --stage and --task-id alone")
    stage = arguments.stages.check(arguments.stage)
    ids = reserve_doc_ids(stage, arguments.task_id, run_id=arguments.run_id, salt=salt)
    if arguments.salt == RANDOM:
        complain(f"salt {salt}")
    for task_id, doc_id in zip(arguments.task_id, ids, strict=True):
        if arguments.json:
            out.json({"stage": stage, "task_id": task_id, "doc_id": doc_id, "salt": salt})
        else:
            out.line(doc_id)


def _find_parent_tables(arguments: Arguments, tables: dict[str, str]) -> dict[str, str]:
    """Return the tables of --parents by stage; each has to be of use."""
    stages: Stages = arguments.stages
    found = sort_tables(arguments.parents, stages)
    for stage, path in found.items():
        if stage in tables:
            raise UsageError(f"{path}: expected one table of stage {stage}, got {tables[stage]} too")
        if not any(child in tables for child in stages.children_of(stage)):
            raise UsageError(f"{path}: none of the tables is of a stage that comes from {stage}")
    return found


@attrs.frozen
class _Reservation:
    """Fills the tables of one command.

    Attributes:
        tables: the tables to fill, by stage.
        known: these, and those of --parents.
    """

    arguments: Arguments
    out: Output
    salt: str | None
    tables: dict[str, str]
    known: dict[str, str]

    def fill(self, stage: str, *, dry: bool) -> _Filled:
        """Fill one table, or only look what there is to fill."""
        path, row_type, progress = self.tables[stage], row_type_of(stage, self.arguments.stages), self.out.progress
        before, after = _Empty(), _Empty()
        table = read_tasks(path, row_type, reserved=False)
        _exhaust(progress.over(before.count(table), f"reading {path}"))
        rows = read_tasks(path, row_type, reserved=False)
        reserved = reserve_tasks(
            rows, row_type, self.arguments.run_id, self.salt, parents=self._parents(stage, dry=dry)
        )
        what = f"{'checking' if dry else 'reserving'} rows of stage {stage}"
        filled = progress.over(after.count(reserved), what, before.rows)
        without_rows = before.rows == 0 and {"doc_id", "parent_doc_id"} & (set(reserved.columns) - set(table.columns))
        if dry or not (before.parents or before.ids or without_rows):
            _exhaust(filled)
        else:
            write_tasks(path, filled if before.rows else reserved, like=path)
        return _Filled(self.arguments, self.salt, path, row_type, before, after, dry)

    def _parents(self, stage: str, *, dry: bool) -> Iterable[TaskRow] | None:
        """Return the rows of the parents' table; None where there is none."""
        stages: Stages = self.arguments.stages
        parent_stage = stages.parent_of(stage)
        if parent_stage is None or parent_stage not in self.known:
            return None
        parents = read_tasks(self.known[parent_stage], row_type_of(parent_stage, stages), reserved=False)
        if parent_stage in self.tables and dry:
            # Its file would have been filled by now.
            return reserve_tasks(parents, parents.row_type, self.arguments.run_id, self.salt)
        return parents


class _Empty:
    """Counts rows that pass by, and how many of them have no id yet."""

    def __init__(self) -> None:
        self.rows = self.ids = self.parents = 0

    def count(self, rows: Iterable[TaskRow]) -> Iterator[TaskRow]:
        for row in rows:
            self.rows += 1
            self.ids += not row.doc_id
            self.parents += row.parent_stage is not None and not row.parent_doc_id
            yield row


def _exhaust(rows: Iterable[TaskRow]) -> None:
    for _ in rows:
        pass


@attrs.frozen
class _Filled:
    """What was filled in a table, or would be."""

    arguments: Arguments
    salt: str | None
    path: str
    row_type: type[TaskRow]
    before: _Empty
    after: _Empty
    dry: bool

    @property
    def ids(self) -> int:
        return self.before.ids - self.after.ids

    @property
    def parents(self) -> int:
        return self.before.parents - self.after.parents

    def facts(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "table": self.path,
            "stage": self.row_type.stage,
            "rows": self.after.rows,
            "doc_id": self.ids,
            "parent_doc_id": self.parents,
            "without_parent_doc_id": self.after.parents,
            "salt": self.salt if self.ids else None,
            "dry_run": self.dry,
        }

    def __str__(self) -> str:
        before, after, parent_stage = self.before, self.after, self.row_type.parent_stage
        would = "would be " if self.dry else ""
        text = f"{self.path}: {after.rows} rows, {would}filled: {self.ids} doc_id ({before.rows - before.ids} kept)"
        if parent_stage is not None:
            text += f", {self.parents} parent_doc_id ({before.rows - before.parents} kept)"
            if after.parents:
                text += f"; {after.parents} without parent_doc_id (name the table of stage {parent_stage} too)"
        if self.ids and not self.dry and self.arguments.salt == RANDOM:
            text += f"; salt {self.salt}"
        elif not self.ids and after.rows and (self.arguments.salt or self.arguments.run_id):
            text += "; no id was to be filled: empty the doc_id of those rows that are to have another"
        return text


COMMAND = Command(
    name="reserve",
    help="fill doc_id and parent_doc_id in task tables, or print ids",
    description="Fill the empty doc_id and parent_doc_id cells of task tables, in place and atomically; what is "
    "set is kept. A table's stage is told by its name (<stage>_generation_tasks.csv or <stage>_tasks.csv, also "
    ".gz), or given as STAGE=TABLE. Parents are looked up in the other tables that are named, or in --parents. "
    "Where one table is faulty none is written. With --stage and --task-id no "
    "table is touched: the ids of these tasks are printed.",
    arguments=(
        argument("tables", "[STAGE=]TABLE", "task tables to fill", nargs="*"),
        argument("--stage", "STAGE", "the stage of the --task-id values"),
        repeated("--task-id", "TEXT", "a task to print the id of; may be repeated"),
        *SALT,
        repeated("--parents", "[STAGE=]TABLE", "a reserved table to look parents up in; may be repeated"),
        flag("--dry-run", "say what would be filled; write nothing"),
        flag("--json", "print one line of JSON a table, or an id"),
        STAGES,
    ),
    run=run,
)

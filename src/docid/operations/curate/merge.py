"""Rows that follow from curated ones, merged into the table that is there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import attrs

from docid.tables.rows import TaskRow, schema_of
from docid.tables.tasks import read_tasks, stage_of_table

if TYPE_CHECKING:
    from docid.core.stages import Stages

__all__ = ["Merged", "merge_table"]

_SOURCE = "source_doc_id"  # what is sent again is for the new rows to say


class Merged(NamedTuple):
    """A table that is to be written.

    Attributes:
        path: where it goes.
        rows: all its rows.
        gone: how many rows of the table that is there are not among them.
    """

    path: str
    rows: list[TaskRow]
    gone: int


def merge_table(directory: str, rows: list[TaskRow], curated: str, stages: Stages, *, keep: bool = False) -> Merged:
    """Merge rows of one stage into its table in a directory. Nothing is written.

    The table there gives its columns, and to the rows of the same documents what it says beyond them: notes, run id,
    salt.

    Args:
        directory: where the table is, or will be.
        rows: the new rows, one at least.
        curated: the path of the curated table, whose kind of name a new table gets.
        stages: the pipeline's stages.
        keep: keep all rows that the table has, and add those that it has not.

    Raises:
        TaskTableError: the file there is no table of this stage: it is not written over.
        ValueError: two tables of the stage, or, with `keep`, a document that the table has with another task or parent.
    """
    row_type = type(rows[0])
    path = _find_path(directory, rows[0].stage, curated, stages)
    there = list(read_tasks(path, row_type, reserved=keep)) if os.path.exists(path) else []
    known = {row.doc_id: row for row in there}
    if not keep:
        new = {row.doc_id for row in rows}
        columns = there[0].columns if there else ()
        rows = [_add_notes(attrs.evolve(row, columns=columns or row.columns), known.get(row.doc_id)) for row in rows]
        return Merged(path, rows, sum(row.doc_id not in new for row in there))
    for row in rows:
        other = known.get(row.doc_id, row)
        if not _is_same(row, other):
            raise ValueError(
                f"{path}: its row of {row.doc_id} has task {other.task_id!r}, parent {other.parent_doc_id}; the new "
                f"one has task {row.task_id!r}, parent {row.parent_doc_id}: correct one, or leave out --add-only"
            )
    return Merged(path, [*there, *(row for row in rows if row.doc_id not in known)], 0)


def _find_path(directory: str, stage: str, curated: str, stages: Stages) -> str:
    """Return the path of a stage's table: the one that is there, or a new one of the curated one's kind."""
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    there = [name for name in names if stage_of_table(name, stages) == stage]
    if len(there) > 1:
        raise ValueError(f"{directory}: {' and '.join(there)} are both tables of stage {stage}; expected one")
    ending = "_generation_tasks.csv" if "_generation_tasks" in os.path.basename(curated) else "_tasks.csv"
    new = "evaluation_tasks.csv" if stage == "evaluation" else f"{stage}{ending}"
    return os.path.join(directory, there[0] if there else new)


def _is_same(row: TaskRow, other: TaskRow) -> bool:
    return (other.task_id, other.parent_doc_id) == (row.task_id, row.parent_doc_id)


def _add_notes(row: TaskRow, other: TaskRow | None) -> TaskRow:
    """Return a row with what the one that was there for its document says beyond it."""
    if other is None or not _is_same(row, other):
        return row
    more = {
        column.argument: getattr(other, column.attribute)
        for column in schema_of(type(row)).columns
        if column.attribute != _SOURCE and getattr(row, column.attribute) == column.default
    }
    extra = {name: text for name, text in other.extra.items() if name != _SOURCE}
    return attrs.evolve(row, **more, extra=extra | row.extra)

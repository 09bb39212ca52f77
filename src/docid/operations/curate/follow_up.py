"""`follow_up`: make the tables to go on with from curated documents, and merge them into the tables that are there."""

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import attrs

from docid.core.stages import DEFAULT_STAGES, Stages, check_stages
from docid.operations.curate.replay import IDENTITY
from docid.tables.reserve import reserve_tasks
from docid.tables.rows import TaskRow, row_type_of, schema_of, with_source
from docid.tables.tasks import read_tasks, stage_of_table


class Template(NamedTuple):
    """An evaluation template: its id, and the name of what parses its replies."""

    template_id: str
    parser: str = ""


class Model(NamedTuple):
    """A model that evaluates: its short id, and its provider's name for it."""

    model_id: str
    name: str = ""


class FollowUp(NamedTuple):
    """The rows that belong to curated documents.

    Attributes:
        parents: the rows of the documents that they were made from, one each.
        curated: the curated rows themselves.
        children: the rows of their evaluations, ids reserved.
    """

    parents: list[TaskRow]
    curated: list[TaskRow]
    children: list[TaskRow]


def follow_up(
    curated: Iterable[TaskRow],
    *,
    templates: Iterable[Template] = (),
    models: Iterable[Model] = (),
    run_id: str | None = None,
    salt: str | None = None,
    sources: dict[str, str] | None = None,
    stages: Stages = DEFAULT_STAGES,
) -> FollowUp:
    """Make the rows of the parents and of the evaluations of curated rows.

    A parent's row has the `parent_doc_id` and `<parent stage>_task_id` of the curated row, and of its other columns
    those that the curated row has too. There is an evaluation for each curated row, template and model; its task id is
    `<doc id>__<template>__<model>`.

    Args:
        curated: reserved rows of one stage with a parent, for example essays.
        templates, models: what evaluates them; without templates or models there are no evaluations.
        run_id, salt: as for `reserve_tasks`, for the evaluations.
        sources: by stage, the stored document whose prompt is sent again in all rows of it (`source_doc_id`).
        stages: the stages of the pipeline.

    Raises:
        ValueError: rows without doc ids, or two with one, or of a stage without parent, or that disagree about a
            parent.
        TaskTableError: two evaluations have the same id.

    Example:
        >>> from docid import EssayTask
        >>> essay = EssayTask(task_id="t-1__x", doc_id="e1", parent_doc_id="d1", draft_task_id="t-1", combo_id="tides")
        >>> tables = follow_up([essay], templates=[Template("novelty")], models=[Model("sonnet-4")])
        >>> tables.parents[0].task_id, tables.parents[0].doc_id, tables.children[0].task_id
        ('t-1', 'd1', 'e1__novelty__sonnet-4')
    """
    rows = list(curated)
    if not rows:
        return FollowUp([], [], [])
    stage = rows[0].stage
    parent_stage, children = check_stages(stages).parent_of(stage), stages.children_of(stage)
    if parent_stage is None:
        raise ValueError(f"curated: stage {stage} has no parent; expected rows of a stage that comes from another")
    parents = _build_parents(rows, row_type_of(parent_stage, stages))
    evaluations: list[TaskRow] = []
    pairs = [(template, model) for template in templates for model in models]
    if pairs and not children:
        raise ValueError(f"templates: no stage comes from {stage}, so that nothing evaluates it")
    if pairs:
        child_type = row_type_of(children[0], stages)
        made = (_build_child(child_type, row, template, model) for row in rows for template, model in pairs)
        evaluations = list(reserve_tasks(made, child_type, run_id, salt))
    groups = (parents, rows, evaluations)
    for group in groups:
        if group and (source := (sources or {}).get(group[0].stage)) is not None:
            group[:] = [with_source(row, source) for row in group]
    return FollowUp(*groups)


def _build_parents(rows: list[TaskRow], row_type: type[TaskRow]) -> list[TaskRow]:
    made: dict[str, TaskRow] = {}
    known: dict[str, TaskRow] = {}
    column = f"{row_type.stage}_task_id"
    for row in rows:
        if not row.doc_id or not row.parent_doc_id or not row.cell(column):
            raise ValueError(f"curated: task {row.task_id!r} lacks doc_id, parent_doc_id or {column}")
        if (other := known.setdefault(row.doc_id, row)) is not row:
            both = f"tasks {other.task_id!r} and {row.task_id!r} both have doc id {row.doc_id}"
            raise ValueError(f"curated: {both}; expected one row a document")
        parent = _build_row(row_type, row, {}, task_id=row.cell(column), doc_id=row.parent_doc_id)
        if made.setdefault(parent.doc_id, parent) != parent:
            expected = f"expected one {column} and so on"
            raise ValueError(f"curated: the rows of {row.parent_doc_id} disagree about it; {expected}")
    return list(made.values())


def _build_child(row_type: type[TaskRow], row: TaskRow, template: Template, model: Model) -> TaskRow:
    stage = row_type.stage
    own = {
        f"{row.stage}_task_id": row.task_id,
        f"{stage}_template": template.template_id,
        f"{stage}_model": model.model_id,
        f"{stage}_model_name": model.name,
        "parser": template.parser,
    }
    task_id = f"{row.doc_id}__{template.template_id}__{model.model_id}"
    return _build_row(row_type, row, own, task_id=task_id, parent_doc_id=row.doc_id)


def _build_row(row_type: type[TaskRow], row: TaskRow, own: dict[str, str], **identity: str) -> TaskRow:
    """Return a row whose columns come from `own`, or else from another row."""
    values: dict[str, Any] = dict(identity)
    schema = schema_of(row_type)
    for column in schema.columns:
        text = own.get(column.name) or row.cell(column.name)
        if column.attribute not in IDENTITY and text:
            values[column.argument] = column.parse(text)
    extra = {name: text for name, text in own.items() if name not in schema.names and text}
    return row_type(**values, extra=extra)


class Merged(NamedTuple):
    """A table that is to be written: where, all its rows, and how many of the old table are not among them."""

    path: str
    rows: list[TaskRow]
    gone: int


def merge_table(directory: str, rows: list[TaskRow], curated: str, stages: Stages, *, keep: bool = False) -> Merged:
    """Merge rows of one stage into its table in a directory; nothing is written.

    The table there gives its columns, and to the rows of the same documents what it says beyond them: notes, run id,
    salt. With `keep` all its rows are kept, and those that it has not are added. A new table gets the kind of name of
    the curated one.

    Raises:
        TaskTableError: the file there is no table of this stage: it is not written over.
        ValueError: two tables of the stage, or, with `keep`, a document that the table has with another task or parent.
    """
    stage = rows[0].stage
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    tables = [name for name in names if stage_of_table(name, stages) == stage]
    if len(tables) > 1:
        raise ValueError(f"{directory}: {' and '.join(tables)} are both tables of stage {stage}; expected one")
    is_generated = "_generation_tasks" in os.path.basename(curated) and stage != "evaluation"
    new_name = f"{stage}_generation_tasks.csv" if is_generated else f"{stage}_tasks.csv"
    path = os.path.join(directory, tables[0] if tables else new_name)
    there = list(read_tasks(path, type(rows[0]), reserved=keep)) if os.path.exists(path) else []
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


def _is_same(row: TaskRow, other: TaskRow) -> bool:
    return (other.task_id, other.parent_doc_id) == (row.task_id, row.parent_doc_id)


def _add_notes(row: TaskRow, other: TaskRow | None) -> TaskRow:
    """Return a row with what the one that was there for its document says beyond it."""
    if other is None or not _is_same(row, other):
        return row
    source = "source_doc_id"  # what is sent again is for the new rows to say
    more = {
        column.argument: getattr(other, column.attribute)
        for column in schema_of(type(row)).columns
        if column.attribute != source and getattr(row, column.attribute) == column.default
    }
    extra = {name: text for name, text in other.extra.items() if name != source}
    return attrs.evolve(row, **more, extra=extra | row.extra)

"""`follow_up`: make the tables to go on with from curated documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from docid.core.stages import DEFAULT_STAGES, Stages, check_stages
from docid.operations.curate.rows import IDENTITY
from docid.tables.reserve import reserve_tasks
from docid.tables.rows import TaskRow, row_type_of, schema_of, with_source

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FollowUp", "Model", "Template", "follow_up"]


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
    sources = sources or {}
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
    return FollowUp(
        *([_set_source(row, sources.get(row.stage)) for row in group] for group in (parents, rows, evaluations))
    )


def _build_parents(rows: list[TaskRow], row_type: type[TaskRow]) -> list[TaskRow]:
    made: dict[str, TaskRow] = {}
    known: dict[str, TaskRow] = {}
    column = f"{row_type.stage}_task_id"
    for row in rows:
        if not row.doc_id or not row.parent_doc_id or not row.cell(column):
            raise ValueError(f"curated: task {row.task_id!r} lacks doc_id, parent_doc_id or {column}")
        if (other := known.setdefault(row.doc_id, row)) is not row:
            raise ValueError(
                f"curated: tasks {other.task_id!r} and {row.task_id!r} both have doc id {row.doc_id}; expected one "
                f"row a document"
            )
        parent = _build_row(row_type, row, task_id=row.cell(column), doc_id=row.parent_doc_id)
        if made.setdefault(parent.doc_id, parent) != parent:
            raise ValueError(
                f"curated: the rows of {row.parent_doc_id} disagree about it; expected one {column} and so on"
            )
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


def _build_row(row_type: type[TaskRow], row: TaskRow, own: dict[str, str] | None = None, **identity: str) -> TaskRow:
    """Return a row whose columns come from `own`, or else from another row."""
    own = own or {}
    values: dict[str, Any] = dict(identity)
    for column in schema_of(row_type).columns:
        text = own.get(column.name) or row.cell(column.name)
        if column.attribute not in IDENTITY and text:
            values[column.argument] = column.parse(text)
    names = schema_of(row_type).names
    extra = {name: text for name, text in own.items() if name not in names and text}
    return row_type(**values, extra=extra)


def _set_source(row: TaskRow, source: str | None) -> TaskRow:
    return row if source is None else with_source(row, source)

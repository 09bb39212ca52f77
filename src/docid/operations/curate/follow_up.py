"""`follow_up`: build the tables for further work on curated documents, and merge them into existing tables."""

import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import attrs

from docid.core.ids import reserve_doc_id
from docid.core.replicates import format_path, parse_path
from docid.core.stages import DEFAULT_STAGES, Stages, check_stages
from docid.operations.curate.replay import IDENTITY
from docid.tables.replicates import check_number
from docid.tables.replicates import replicates as replicate
from docid.tables.reserve import reserve_tasks
from docid.tables.rows import TaskRow, row_type_of, schema_of, with_source
from docid.tables.tasks import TaskTable, read_tasks, stage_of_table


class Template(NamedTuple):
    """An evaluation template: its id, and the name of the parser for its replies."""

    template_id: str
    parser: str = ""


class Model(NamedTuple):
    """An evaluating model: its short id, and the provider's name for it."""

    model_id: str
    name: str = ""


class FollowUp(NamedTuple):
    """The rows that belong to curated documents.

    Attributes:
        parents: one row per parent document.
        curated: the curated rows.
        children: the rows of their evaluations, with reserved ids.
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
    names: Mapping[str, str] | None = None,
    replicates: int = 1,
    stages: Stages = DEFAULT_STAGES,
) -> FollowUp:
    """Build the rows of the parents and the evaluations of curated rows.

    A parent row takes its ids from `parent_doc_id` and `<parent stage>_task_id` of the curated row, and copies the
    columns that both stages have. Each curated row, template and model gives one evaluation row, with the task id
    `<doc id>__<template>__<model>`. The rows of a replicate and of its evaluations have its salt; see `replicates`.

    Args:
        curated: reserved rows of one stage with a parent, for example essays.
        templates, models: the templates and models of the evaluations; without either there are no evaluations.
        run_id, salt: as for `reserve_tasks`, for the evaluations.
        sources: by stage, the doc id to set as `source_doc_id` in all rows of the stage.
        names: by the short id of a model, the provider's name for it: fills empty columns `<…>_model_name`.
        replicates: the number of evaluations of each document, template and model; more than 1 without `salt`.
        stages: the stages of the pipeline.

    Raises:
        ValueError: rows lack ids, share a doc id, disagree about a parent, or belong to a stage without parent;
            `replicates` is less than 1, or given with `salt`.
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
        raise ValueError(f"curated: stage {stage} has no parent stage; expected rows of a stage that has one")
    check_number(replicates, "replicates")
    if replicates > 1 and salt is not None:
        raise ValueError("salt, replicates: each replicate has a salt of its own; expected only one of them")
    depth = len(stages.ancestors_of(stage)) + 1
    parents = _build_parents(rows, row_type_of(parent_stage, stages), depth)
    evaluations: list[TaskRow] = []
    pairs = [(template, model) for template in templates for model in models]
    if pairs and len(children) != 1:
        found = f"stages {', '.join(children)} have" if children else "no stage has"
        raise ValueError(f"templates: {found} the parent stage {stage}; expected one stage for the evaluations")
    if pairs:
        child_type = row_type_of(children[0], stages)
        made = (_build_child(child_type, row, template, model, depth) for row in rows for template, model in pairs)
        evaluations = list(reserve_tasks(replicate(made, replicates, stages=stages), child_type, run_id, salt))
    groups = (parents, rows, evaluations)
    for group in groups:
        group[:] = [_fill_names(row, names or {}) for row in group]
        if group and (source := (sources or {}).get(group[0].stage)) is not None:
            group[:] = [with_source(row, source) for row in group]
    return FollowUp(*groups)


def _fill_names(row: TaskRow, names: Mapping[str, str]) -> TaskRow:
    """Return a row with the names of its models, where its cells are empty."""
    changes: dict[str, Any] = {
        column.argument: names[model]
        for column in schema_of(type(row)).columns
        if column.name.endswith("_model_name")
        and not row.cell(column.name)
        and (model := row.cell(column.name.removesuffix("_name"))) in names
    }
    return attrs.evolve(row, **changes) if changes else row


def _build_parents(rows: list[TaskRow], row_type: type[TaskRow], depth: int) -> list[TaskRow]:
    made: dict[str, TaskRow] = {}
    origins: dict[str, dict[str, Any]] = {}
    known: dict[str, TaskRow] = {}
    column = f"{row_type.stage}_task_id"
    for row in rows:
        if not row.doc_id or not row.parent_doc_id or not row.cell(column):
            raise ValueError(f"curated: task {row.task_id!r} lacks doc_id, parent_doc_id or {column}")
        if (other := known.setdefault(row.doc_id, row)) is not row:
            both = f"tasks {other.task_id!r} and {row.task_id!r} both have doc id {row.doc_id}"
            raise ValueError(f"curated: {both}; expected one row per document")
        parent = _build_row(row_type, row, {}, task_id=row.cell(column), doc_id=row.parent_doc_id)
        if made.setdefault(parent.doc_id, parent) != parent:
            expected = f"expected the same {column} and shared columns"
            raise ValueError(f"curated: rows with parent_doc_id {row.parent_doc_id} disagree about it; {expected}")
        origins[parent.doc_id] = _find_origin(parent, row, depth)
    return [attrs.evolve(row, **origins[row.doc_id]) for row in made.values()]


def _find_origin(parent: TaskRow, row: TaskRow, depth: int) -> dict[str, str | None]:
    """Return the run id and the salt of a parent, from those of a child, if they give the parent's doc id."""
    if (path := parse_path(row.doc_salt, depth)) is not None:
        salt = format_path(path[:-1])
        for run_id in (None, row.doc_run_id):
            if reserve_doc_id(parent.stage, parent.task_id, run_id, salt) == parent.doc_id:
                return {"doc_run_id": run_id, "doc_salt": salt}
    return {}


def _build_child(row_type: type[TaskRow], row: TaskRow, template: Template, model: Model, depth: int) -> TaskRow:
    stage = row_type.stage
    own = {
        f"{row.stage}_task_id": row.task_id,
        f"{stage}_template": template.template_id,
        f"{stage}_model": model.model_id,
        f"{stage}_model_name": model.name,
        "parser": template.parser,
    }
    task_id = f"{row.doc_id}__{template.template_id}__{model.model_id}"
    child = _build_row(row_type, row, own, task_id=task_id, parent_doc_id=row.doc_id)
    is_path = parse_path(row.doc_salt, depth) is not None
    return attrs.evolve(child, doc_salt=row.doc_salt) if is_path else child


def _build_row(row_type: type[TaskRow], row: TaskRow, own: dict[str, str], **identity: str) -> TaskRow:
    """Return a row with the columns of `own`, or else of another row."""
    values: dict[str, Any] = dict(identity)
    schema = schema_of(row_type)
    for column in schema.columns:
        text = own.get(column.name) or row.cell(column.name)
        if column.attribute not in IDENTITY and text:
            values[column.argument] = column.parse(text)
    extra = {name: text for name, text in own.items() if name not in schema.names and text}
    return row_type(**values, extra=extra)


class Merged(NamedTuple):
    """A merged table: its path, all its rows, the number of rows dropped from the old table, and the old table."""

    path: str
    rows: list[TaskRow]
    gone: int
    old: TaskTable[TaskRow] | None


def merge_table(directory: str, rows: list[TaskRow], curated: str, stages: Stages, *, keep: bool = False) -> Merged:
    """Merge rows of one stage into the table in a directory; return the result without writing it.

    Columns come from the existing table; rows of the same document keep its further values, such as notes, run id and
    salt. With `keep` all existing rows stay, and only rows of other documents are added. A new table is named
    `<stage>_generation_tasks.csv` if the curated one has such a name.

    Raises:
        TaskTableError: the existing file is not a table of this stage.
        ValueError: the directory has two tables of the stage; or, with `keep`, the table has a document with another
            task or parent.
    """
    stage = rows[0].stage
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    tables = [name for name in names if stage_of_table(name, stages) == stage]
    if len(tables) > 1:
        raise ValueError(f"{directory}: {' and '.join(tables)} are both tables of stage {stage}; expected one")
    is_generated = "_generation_tasks" in os.path.basename(curated) and stage != "evaluation"
    new_name = f"{stage}_generation_tasks.csv" if is_generated else f"{stage}_tasks.csv"
    path = os.path.join(directory, tables[0] if tables else new_name)
    old = read_tasks(path, type(rows[0]), reserved=keep, delimiter="auto") if os.path.exists(path) else None
    existing = [] if old is None else list(old)
    known = {row.doc_id: row for row in existing}
    if not keep:
        new = {row.doc_id for row in rows}
        columns = existing[0].columns if existing else ()
        rows = [_add_notes(attrs.evolve(row, columns=columns or row.columns), known.get(row.doc_id)) for row in rows]
        return Merged(path, rows, sum(row.doc_id not in new for row in existing), old)
    for row in rows:
        other = known.get(row.doc_id, row)
        if not _is_same(row, other):
            raise ValueError(
                f"{path}: its row of {row.doc_id} has task {other.task_id!r}, parent {other.parent_doc_id}; the new "
                f"row has task {row.task_id!r}, parent {row.parent_doc_id}. Correct one, or omit --add-only"
            )
    return Merged(path, [*existing, *(row for row in rows if row.doc_id not in known)], 0, old)


def _is_same(row: TaskRow, other: TaskRow) -> bool:
    has_same_inputs = not row.input_doc_ids or row.input_doc_ids == other.input_doc_ids
    return (other.task_id, other.parent_doc_id) == (row.task_id, row.parent_doc_id) and has_same_inputs


def _add_notes(row: TaskRow, other: TaskRow | None) -> TaskRow:
    """Return a row, completed from the existing row of its document."""
    if other is None or not _is_same(row, other):
        return row
    source = "source_doc_id"  # only the new rows choose the prompt to send again
    more = {
        column.argument: getattr(other, column.attribute)
        for column in schema_of(type(row)).columns
        if column.attribute != source and getattr(row, column.attribute) == column.default
    }
    extra = {name: text for name, text in other.extra.items() if name != source}
    return attrs.evolve(row, **more, extra=extra | row.extra)

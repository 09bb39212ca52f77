"""The three task tables: which documents the pipeline is to have, each row with its doc id and its parent's."""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING

import attrs

from docid import DraftTask, EssayTask, EvaluationTask, TaskRow, read_tasks, reserve_tasks, write_tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from examples.essays.inputs import Concept, Inputs

ROW_TYPES: dict[str, type[TaskRow]] = {"draft": DraftTask, "essay": EssayTask, "evaluation": EvaluationTask}
FILES = {
    "draft": "draft_generation_tasks.csv",
    "essay": "essay_generation_tasks.csv",
    "evaluation": "evaluation_tasks.csv",
}


@attrs.frozen
class Combination:
    """Concepts that one draft is to bring together."""

    combo_id: str
    concepts: tuple[Concept, ...]


def combinations(inputs: Inputs, size: int) -> dict[str, Combination]:
    """Return all combinations of `size` active concepts (of all of them, if there are fewer), by their ids."""
    found = {}
    for concepts in itertools.combinations(inputs.concepts, min(size, len(inputs.concepts))):
        names = ",".join(sorted(concept.concept_id for concept in concepts))
        combo_id = f"combo_v1_{hashlib.sha256(names.encode()).hexdigest()[:12]}"
        found[combo_id] = Combination(combo_id, concepts)
    return found


def write_tables(directory: Path, inputs: Inputs, combos: dict[str, Combination]) -> dict[str, int]:
    """Write the three tables, each from the one before; return how many rows each has."""
    directory.mkdir(parents=True, exist_ok=True)
    of_drafts, of_essays, of_evaluations = (directory / FILES[stage] for stage in ROW_TYPES)
    return {
        "draft": write_tasks(of_drafts, reserve_tasks(drafts(inputs, combos), DraftTask), row_type=DraftTask),
        "essay": write_tasks(
            of_essays,
            reserve_tasks(
                essays(inputs, read_tasks(of_drafts, DraftTask)), EssayTask, parents=read_tasks(of_drafts, DraftTask)
            ),
            row_type=EssayTask,
        ),
        "evaluation": write_tasks(
            of_evaluations,
            reserve_tasks(evaluations(inputs, read_tasks(of_essays, EssayTask)), EvaluationTask),
            row_type=EvaluationTask,
        ),
    }


def drafts(inputs: Inputs, combos: dict[str, Combination]) -> Iterator[DraftTask]:
    """Return the rows of the drafts: each combination, template and writer."""
    writers = [model for model in inputs.models if model.for_generation]
    for combo_id, template, model in itertools.product(combos, inputs.templates["draft"], writers):
        yield DraftTask(
            task_id=f"{combo_id}__{template.template_id}__{model.model_id}",
            combo_id=combo_id,
            draft_template=template.template_id,
            generation_model=model.model_id,
            generation_model_name=model.name,
        )


def essays(inputs: Inputs, of: Iterable[DraftTask]) -> Iterator[EssayTask]:
    """Return the rows of the essays of drafts: each draft and template."""
    for draft, template in itertools.product(of, inputs.templates["essay"]):
        yield EssayTask(
            task_id=f"{draft.task_id}__{template.template_id}",
            draft_task_id=draft.task_id,
            combo_id=draft.combo_id,
            draft_template=draft.draft_template,
            essay_template=template.template_id,
            generation_model=draft.generation_model,
            generation_model_name=draft.generation_model_name,
        )


def evaluations(inputs: Inputs, of: Iterable[EssayTask]) -> Iterator[EvaluationTask]:
    """Return the rows of the evaluations of essays: each essay, template and judge."""
    judges = [model for model in inputs.models if model.for_evaluation]
    for essay in of:
        for template, model in itertools.product(inputs.templates["evaluation"], judges):
            # An evaluation is of one document, not of a task: its own task id holds that document's id.
            yield EvaluationTask(
                task_id=f"{essay.doc_id}__{template.template_id}__{model.model_id}",
                parent_doc_id=essay.doc_id,
                essay_task_id=essay.task_id,
                combo_id=essay.combo_id,
                draft_template=essay.draft_template,
                essay_template=essay.essay_template,
                generation_model=essay.generation_model,
                generation_model_name=essay.generation_model_name,
                evaluation_template=template.template_id,
                evaluation_model=model.model_id,
                evaluation_model_name=model.name,
                parser=template.parser,
            )

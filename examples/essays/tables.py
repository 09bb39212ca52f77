"""The three task tables. Each row describes one document, with its doc id and the doc id of its parent."""

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
    """The concepts that one draft combines."""

    combo_id: str
    concepts: tuple[Concept, ...]


def combinations(inputs: Inputs, size: int) -> dict[str, Combination]:
    """Return all combinations of `size` concepts, by id; with fewer concepts, the combination of all of them."""
    found = {}
    for concepts in itertools.combinations(inputs.concepts, min(size, len(inputs.concepts))):
        names = ",".join(sorted(concept.concept_id for concept in concepts))
        combo_id = f"combo_v1_{hashlib.sha256(names.encode()).hexdigest()[:12]}"
        found[combo_id] = Combination(combo_id, concepts)
    return found


def write_tables(directory: Path, inputs: Inputs, combos: dict[str, Combination]) -> dict[str, int]:
    """Write the three tables, each from the one before, and return their numbers of rows."""
    directory.mkdir(parents=True, exist_ok=True)
    draft_file, essay_file, evaluation_file = (directory / FILES[stage] for stage in ROW_TYPES)

    draft_rows = reserve_tasks(drafts(inputs, combos), DraftTask)
    draft_count = write_tasks(draft_file, draft_rows, row_type=DraftTask)

    # An essay row names the task of its draft. `parents` turns that into the draft's doc id.
    unreserved = essays(inputs, read_tasks(draft_file, DraftTask))
    essay_rows = reserve_tasks(unreserved, EssayTask, parents=read_tasks(draft_file, DraftTask))
    essay_count = write_tasks(essay_file, essay_rows, row_type=EssayTask)

    evaluation_rows = reserve_tasks(evaluations(inputs, read_tasks(essay_file, EssayTask)), EvaluationTask)
    evaluation_count = write_tasks(evaluation_file, evaluation_rows, row_type=EvaluationTask)
    return {"draft": draft_count, "essay": essay_count, "evaluation": evaluation_count}


def drafts(inputs: Inputs, combos: dict[str, Combination]) -> Iterator[DraftTask]:
    """Yield a row for each combination, draft template and writer."""
    writers = [model for model in inputs.models if model.for_generation]
    for combo_id, template, model in itertools.product(combos, inputs.templates["draft"], writers):
        yield DraftTask(
            task_id=f"{combo_id}__{template.template_id}__{model.model_id}",
            combo_id=combo_id,
            draft_template=template.template_id,
            generation_model=model.model_id,
            generation_model_name=model.name,
        )


def essays(inputs: Inputs, draft_rows: Iterable[DraftTask]) -> Iterator[EssayTask]:
    """Yield a row for each draft and essay template."""
    for draft in draft_rows:
        for template in inputs.templates["essay"]:
            yield EssayTask(
                task_id=f"{draft.task_id}__{template.template_id}",
                draft_task_id=draft.task_id,
                combo_id=draft.combo_id,
                draft_template=draft.draft_template,
                essay_template=template.template_id,
                generation_model=draft.generation_model,
                generation_model_name=draft.generation_model_name,
            )


def evaluations(inputs: Inputs, essay_rows: Iterable[EssayTask]) -> Iterator[EvaluationTask]:
    """Yield a row for each essay, evaluation template and judge."""
    judges = [model for model in inputs.models if model.for_evaluation]
    for essay in essay_rows:
        for template, model in itertools.product(inputs.templates["evaluation"], judges):
            # An evaluation judges one document, not a task, so its task id contains the essay's doc id.
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

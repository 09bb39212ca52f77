"""The essays pipeline as Dagster definitions: `dagster dev -m examples.dagster_essays`. See `docs/dagster.md`.

Environment variables: ESSAYS_DATA_ROOT is the directory for tables and results (default: `dagster-demo-data`),
ESSAYS_STORE the store's directory or URL (default: `docs` in the data root), ESSAYS_RAW_DATA the inputs.
"""

import csv
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import dagster as dg

from docid import Document, DraftTask, EssayTask, EvaluationTask, TaskRow
from docid.curate import score_columns, scores, write_scores
from docid.dagster import (
    DocsIOManager,
    DocsStoreResource,
    document_checks,
    document_partitions,
    parent_input,
    replay_job,
    task_table_asset,
)
from examples.essays.generators import from_environment
from examples.essays.inputs import Inputs
from examples.essays.parsers import PARSERS
from examples.essays.tables import Combination, combinations, drafts, essays, evaluations

DATA_ROOT = Path(os.environ.get("ESSAYS_DATA_ROOT") or "dagster-demo-data").resolve()
RAW_DATA = Path(os.environ.get("ESSAYS_RAW_DATA") or Path(__file__).parent.parent / "essays" / "data" / "1_raw")
TABLES = DATA_ROOT / "2_tasks"
COMBINATION_SIZE = 3


@lru_cache(1)
def inputs() -> Inputs:
    """Return concepts, templates and models; each process reads them once."""
    return Inputs(RAW_DATA)


@lru_cache(1)
def combos() -> dict[str, Combination]:
    """Return the combinations of concepts, by id."""
    return combinations(inputs(), COMBINATION_SIZE)


# --- tables ----------------------------------------------------------------------------------------------------


@dg.asset(group_name="tables", kinds={"csv"})
def content_combinations() -> dg.MaterializeResult:  # type: ignore[type-arg]  # the asset has no value
    """The combinations of concepts that drafts combine, as a table for people."""
    TABLES.mkdir(parents=True, exist_ok=True)
    path = TABLES / "content_combinations.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["combo_id", "concepts"])
        table.writerows([each.combo_id, " ".join(c.concept_id for c in each.concepts)] for each in combos().values())
    return dg.MaterializeResult(metadata={"path": dg.MetadataValue.path(str(path)), "rows": len(combos())})


def _drafts(_: DocsStoreResource) -> Iterator[TaskRow]:
    return drafts(inputs(), combos())


def _essays(docs: DocsStoreResource) -> Iterator[TaskRow]:
    return essays(inputs(), (row for row in docs.read_tasks("draft") if isinstance(row, DraftTask)))


def _evaluations(docs: DocsStoreResource) -> Iterator[TaskRow]:
    return evaluations(inputs(), (row for row in docs.read_tasks("essay") if isinstance(row, EssayTask)))


draft_tasks = task_table_asset(
    "draft", _drafts, name="draft_generation_tasks", deps=[content_combinations], group_name="tables"
)
essay_tasks = task_table_asset("essay", _essays, name="essay_generation_tasks", deps=[draft_tasks], group_name="tables")
evaluation_tasks = task_table_asset("evaluation", _evaluations, deps=[essay_tasks], group_name="tables")


# --- documents -------------------------------------------------------------------------------------------------


def _generate(
    docs: DocsStoreResource, context: dg.AssetExecutionContext, parent_text: str | None, **values: object
) -> object:
    """Return the document of a partition. A template with the generator `copy` copies the parent's text."""
    row = docs.task(context)
    stage, template_id = row.stage, row.cell(f"{row.stage}_template")
    model = "evaluation_model" if isinstance(row, EvaluationTask) else "generation_model"
    template = next(each for each in inputs().templates[stage] if each.template_id == template_id)
    # A replay has no table, so the metadata holds every cell that this function reads.
    metadata = {
        "template_id": template_id,
        "model_id": row.cell(model),
        f"{model}_name": row.cell(f"{model}_name"),
        "combo_id": row.cell("combo_id"),
    }
    if parent_text is not None and template.generator == "copy":
        return Document.from_task(row, raw_text=parent_text, parsed_text=parent_text, metadata=metadata)
    return docs.ensure(
        context,
        lambda text: from_environment().generate(text, row.cell(f"{model}_name")),
        prompt=lambda: inputs().render(stage, template_id, **values),
        parse=PARSERS[template.parser],
        metadata=metadata,
    )


@dg.asset(
    partitions_def=document_partitions("draft"), deps=[draft_tasks], io_manager_key="documents", group_name="documents"
)
def draft(context: dg.AssetExecutionContext, docs: DocsStoreResource) -> object:
    """A draft that a model writes about a combination of concepts."""
    row = docs.task(context)
    return _generate(docs, context, None, concepts=combos()[row.cell("combo_id")].concepts)


@dg.asset(
    partitions_def=document_partitions("essay"),
    deps=[essay_tasks],
    ins={"draft": parent_input()},
    io_manager_key="documents",
    group_name="documents",
)
def essay(context: dg.AssetExecutionContext, docs: DocsStoreResource, draft: str) -> object:
    """An essay that a model writes from a draft, or a copy of the draft."""
    return _generate(docs, context, draft, links_block=draft)


@dg.asset(
    partitions_def=document_partitions("evaluation"),
    deps=[evaluation_tasks],
    ins={"essay": parent_input()},
    io_manager_key="documents",
    group_name="documents",
)
def evaluation(context: dg.AssetExecutionContext, docs: DocsStoreResource, essay: str) -> object:
    """A model's evaluation of an essay. Its parsed text is a number."""
    return _generate(docs, context, None, response=essay)


@dg.asset(deps=[evaluation], group_name="results", kinds={"csv"})
def scores_table(docs: DocsStoreResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # the asset has no value
    """The scores of all evaluations, as a table."""
    store, path = docs.store(), DATA_ROOT / "scores.csv"
    rows = write_scores(path, scores(store), score_columns(store))
    return dg.MaterializeResult(metadata={"path": dg.MetadataValue.path(str(path)), "rows": rows})


STORE = os.environ.get("ESSAYS_STORE") or str(DATA_ROOT / "docs")
resource = DocsStoreResource(root=STORE, tables=str(TABLES))

defs = dg.Definitions(
    assets=[
        content_combinations,
        draft_tasks,
        essay_tasks,
        evaluation_tasks,
        draft,
        essay,
        evaluation,
        scores_table,
    ],
    asset_checks=[document_checks(stage) for stage in ("draft", "essay", "evaluation")],
    jobs=[replay_job(each) for each in (draft, essay, evaluation)],
    resources={"docs": resource, "documents": DocsIOManager(docs=resource)},
)

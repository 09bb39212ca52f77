"""A Dagster pipeline of three stages, and functions that read the results of a run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from docid import DocsStore, DraftTask, EssayTask, EvaluationTask, StoredDocument, TaskRow
from docid.dagster import (
    IF_EXISTS_TAG,
    DocsIOManager,
    DocsStoreResource,
    document_checks,
    document_partitions,
    parent_input,
    replay_job,
    task_table_asset,
)

# Warnings of Dagster itself: deprecations in SQLAlchemy and pydantic, beta features.
DAGSTER_WARNINGS = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::dagster.BetaWarning"
)


class Model:
    """A fake model that records its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.reply = "reply to"

    def __call__(self, prompt: str) -> str:
        self.calls.append(prompt)
        return f"{self.reply} <{prompt}>"


class Pipeline:
    """Draft, essay and evaluation as assets, with tables and a store in one directory."""

    def __init__(self, root: Path, instance: dg.DagsterInstance) -> None:
        self.root, self.instance, self.model = root, instance, Model()
        self.docs = DocsStoreResource(root=str(root / "docs"), tables=str(root / "tables"), durability="none")
        self.store = DocsStore(root / "docs", durability="none")
        self.parse: Any = None
        model, parse = self.model, lambda text: self.parse(text) if self.parse else "7.5"

        def drafts(docs: DocsStoreResource) -> Iterator[TaskRow]:
            for n in range(3):
                yield DraftTask(task_id=f"t-{n}", combo_id=f"c-{n}", generation_model="m")

        def essays(docs: DocsStoreResource) -> Iterator[TaskRow]:
            for row in docs.read_tasks("draft"):
                yield EssayTask(task_id=f"{row.task_id}__x", draft_task_id=row.task_id)

        def evaluations(docs: DocsStoreResource) -> Iterator[TaskRow]:
            for row in docs.read_tasks("essay"):
                yield EvaluationTask(task_id=f"{row.doc_id}__kind", parent_doc_id=row.doc_id)

        self.tables = [
            task_table_asset("draft", drafts, name="draft_generation_tasks"),
            task_table_asset("essay", essays, deps=["draft_generation_tasks"]),
            task_table_asset("evaluation", evaluations, deps=["essay_tasks"]),
        ]

        @dg.asset(partitions_def=document_partitions("draft"), io_manager_key="documents")
        def draft(context: dg.AssetExecutionContext, docs: DocsStoreResource) -> StoredDocument:
            row = docs.task(context)
            metadata = {"combo_id": row.cell("combo_id"), "model_id": "m"}
            return docs.ensure(context, model, prompt=lambda: f"write {row.task_id}", metadata=metadata)

        @dg.asset(
            partitions_def=document_partitions("essay"), ins={"draft": parent_input()}, io_manager_key="documents"
        )
        def essay(context: dg.AssetExecutionContext, docs: DocsStoreResource, draft: str) -> StoredDocument:
            return docs.ensure(context, model, prompt=f"go on: {draft}")

        @dg.asset(
            partitions_def=document_partitions("evaluation"),
            ins={"text": parent_input(essay)},
            io_manager_key="documents",
        )
        def evaluation(context: dg.AssetExecutionContext, docs: DocsStoreResource, text: str) -> StoredDocument:
            return docs.ensure(context, model, prompt=f"judge: {text}", parse=parse)

        self.assets = {"draft": draft, "essay": essay, "evaluation": evaluation}
        self.checks = {stage: document_checks(stage) for stage in self.assets}
        self.definitions = dg.Definitions(
            assets=[*self.tables, *self.assets.values()],
            asset_checks=list(self.checks.values()),
            jobs=[replay_job(each) for each in self.assets.values()],
            resources={"docs": self.docs, "documents": DocsIOManager(docs=self.docs)},
        )

    def make_tables(self) -> None:
        assert self.run(dg.AssetSelection.assets(*self.tables)).success

    def run(self, selection: Any, key: str | None = None, **tags: str) -> dg.ExecuteInProcessResult:
        job = dg.Definitions.merge(self.definitions, dg.Definitions(jobs=[dg.define_asset_job("it", selection)]))
        tags |= {"dagster/partition": key} if key else {}
        return job.resolve_job_def("it").execute_in_process(instance=self.instance, raise_on_error=False, tags=tags)

    def make(self, stage: str, number: int = 0, *, if_exists: str = "") -> dg.ExecuteInProcessResult:
        """Materialise one document with its checks."""
        tags = {IF_EXISTS_TAG: if_exists} if if_exists else {}
        selection = dg.AssetSelection.assets(self.assets[stage]) | dg.AssetSelection.checks(self.checks[stage])
        return self.run(selection, self.key(stage, number), **tags)

    def key(self, stage: str, number: int = 0) -> str:
        return self.instance.get_dynamic_partitions(f"{stage}_documents")[number]


def metadata_of(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """Return the metadata of the only materialisation of a run."""
    [event] = result.get_asset_materialization_events()
    return {key: value.value for key, value in event.materialization.metadata.items()}


def failure(result: dg.ExecuteInProcessResult) -> tuple[str, dict[str, Any]]:
    """Return the description and the metadata of the failed step in the event log."""
    assert not result.success
    event = next(each for each in result.all_events if each.event_type_value == "STEP_FAILURE")
    data = event.step_failure_data
    assert data.error is not None
    metadata = data.user_failure_data.metadata if data.user_failure_data else {}
    described = (data.user_failure_data.description if data.user_failure_data else None) or data.error.message
    return described, {key: value.value for key, value in metadata.items()}


def list_failed_checks(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """Return the codes of each failed check by its name."""
    return {
        each.check_name: each.metadata["codes"].value
        for each in result.get_asset_check_evaluations()
        if not each.passed
    }

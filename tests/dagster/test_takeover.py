"""Taking over the store of another system: its documents keep their ids, and a run pays for nothing."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import dagster as dg
import pytest

from docid import DocsStore, InvalidName, StoredDocument, TaskRow, audit, read_tasks
from docid.curate import migrate
from docid.dagster import DocsIOManager, DocsStoreResource, document_partitions, report_existing, task_table_asset
from docid.tables.rows import row_type_of
from tests import unpack
from tests.dagster.helpers import DAGSTER_WARNINGS, Pipeline, metadata_of
from tests.store_documents import draft

pytestmark = DAGSTER_WARNINGS

NAMES = {"draft": "draft_generation_tasks", "essay": "essay_generation_tasks", "evaluation": "evaluation_tasks"}


def never(_: str) -> str:
    raise AssertionError("the model was called")


def make_assets(tables: dict[str, Path], docs: DocsStoreResource) -> dict[str, dg.AssetsDefinition]:
    """Return the table and document assets of a pipeline; the tables are built without ids."""

    def build(stage: str) -> Callable[[DocsStoreResource], Iterator[TaskRow]]:
        def rows(_: DocsStoreResource) -> Iterator[TaskRow]:
            for row in read_tasks(tables[stage], row_type_of(stage)):
                yield attrs.evolve(row, doc_id="", parent_doc_id=None)

        return rows

    def documents(stage: str) -> dg.AssetsDefinition:
        @dg.asset(
            name=stage,
            partitions_def=document_partitions(stage),
            io_manager_key="documents",
            backfill_policy=dg.BackfillPolicy.single_run(),
        )
        def asset(context: dg.AssetExecutionContext, docs: DocsStoreResource) -> dict[str, StoredDocument]:
            return {key: docs.ensure(context, never, prompt="p", doc_id=key) for key in context.partition_keys}

        return asset

    assets: dict[str, dg.AssetsDefinition] = {}
    for stage, name in NAMES.items():
        above = [NAMES[parent]] if (parent := docs.store().stages.parent_of(stage)) else []
        assets[name] = task_table_asset(stage, build(stage), name=name, deps=above, documents=stage)
        assets[stage] = documents(stage)
    return assets


def test_real_store_is_taken_over_without_a_call(
    tmp_path: Path, daydreaming: Path, instance: dg.DagsterInstance
) -> None:
    unpack(daydreaming / "docs-store.tar.gz", tmp_path / "old")
    [root] = [path.parent for path in (tmp_path / "old").rglob("draft") if path.is_dir()]
    store = DocsStore(root, durability="none")
    tables = {stage: next(daydreaming.rglob(f"{name}.csv")) for stage, name in NAMES.items()}
    assert {change.outcome for change in migrate(store, tables, apply=True)} == {"migrate"}
    docs = DocsStoreResource(root=str(root), tables=str(tmp_path / "tables"), durability="none")
    assets = make_assets(tables, docs)
    resources: Any = {"docs": docs, "documents": DocsIOManager(docs=docs)}
    every = list(assets.values())
    result = dg.materialize(every, selection=list(NAMES.values()), instance=instance, resources=resources)
    assert result.success
    found = {stage: tmp_path / "tables" / f"{name}.csv" for stage, name in NAMES.items()}
    report = audit(store, found)
    assert report.findings == ()
    assert [(facts.written, facts.pending) for facts in report.stages.values()] == [(15, 0), (15, 0), (60, 0)]
    # The table assets have shown all documents as materialised.
    for stage in NAMES:
        assert len(instance.get_materialized_partitions(dg.AssetKey(stage))) == report.stages[stage].rows
    assert report_existing(instance, store) == {"draft": 0, "essay": 0, "evaluation": 0}
    for stage in NAMES:
        keys = list(instance.get_dynamic_partitions(f"{stage}_documents"))
        ends = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
        tags = dict(zip(ends, (keys[0], keys[-1]), strict=True))
        result = dg.materialize(every, selection=[stage], instance=instance, resources=resources, tags=tags)
        assert result.success
        events = result.asset_materializations_for_node(stage)
        assert {event.metadata["kept"].value for event in events} == {len(keys)}
        assert len(instance.get_materialized_partitions(dg.AssetKey(stage))) == len(keys)


def test_table_asset_names_what_it_links(pipeline: Pipeline, capfd: pytest.CaptureFixture[str]) -> None:
    for doc_id in ("0old1", "0old2"):
        pipeline.store.write(draft(doc_id, task_id="t-1"))
    pipeline.make_tables()
    result = dg.materialize(
        [pipeline.tables[0]], instance=pipeline.instance, resources={"docs": pipeline.docs}, raise_on_error=True
    )
    assert metadata_of(result)["existing documents"] == 1
    rows = list(pipeline.docs.read_tasks("draft"))
    assert rows[1].doc_id in {"0old1", "0old2"}
    assert "other-documents: " in capfd.readouterr().err


def test_table_asset_may_derive_all_ids(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    docs = DocsStoreResource(root=str(tmp_path / "docs"), tables=str(tmp_path / "tables"), durability="none")
    docs.store().write(draft("0old1", task_id="t-1"))
    table = task_table_asset("draft", lambda _: [{"draft_task_id": "t-1"}], existing="derive")  # type: ignore[list-item]
    dg.materialize([table], instance=instance, resources={"docs": docs})
    [row] = docs.read_tasks("draft")
    assert row.doc_id != "0old1"
    table = task_table_asset("draft", lambda _: [{"draft_task_id": "t-1"}])  # type: ignore[list-item]
    dg.materialize([table], instance=instance, resources={"docs": docs})
    [row] = docs.read_tasks("draft")
    assert row.doc_id == "0old1"
    with pytest.raises(ValueError, match="existing: expected 'link' or 'derive', got 'x'"):
        task_table_asset("draft", lambda _: [], existing="x")  # type: ignore[arg-type]


def test_existing_documents_are_shown_once(pipeline: Pipeline) -> None:
    instance, store = pipeline.instance, pipeline.store
    keys = instance.get_dynamic_partitions("draft_documents")
    for number, key in enumerate(keys[:2]):
        store.write(draft(key, task_id=f"t-{number}"))
    store.write(draft("unregistered", task_id="t-9"))
    (store.path("draft", keys[2])).mkdir()  # a directory without a record is no document
    assert report_existing(instance, store, {"draft": "texts"}) == {"draft": 2, "essay": 0, "evaluation": 0}
    assert instance.get_materialized_partitions(dg.AssetKey("texts")) == set(keys[:2])
    assert instance.get_materialized_partitions(dg.AssetKey("draft")) == set()
    assert report_existing(instance, store) == {"draft": 2, "essay": 0, "evaluation": 0}
    assert report_existing(instance, store) == {"draft": 0, "essay": 0, "evaluation": 0}
    event = instance.get_latest_materialization_event(dg.AssetKey("draft"))
    assert event is not None
    assert event.asset_materialization is not None
    assert {key: value.value for key, value in event.asset_materialization.metadata.items()} == {
        "doc_id": max(keys[0], keys[1]),
        "path": store.location("draft", max(keys[:2])),
        "outcome": "existing",
    }
    with pytest.raises(InvalidName):
        report_existing(instance, store, {"cover": "cover"})


def test_table_asset_shows_documents_of_an_asset_with_another_name(pipeline: Pipeline) -> None:
    keys = pipeline.instance.get_dynamic_partitions("draft_documents")
    pipeline.store.write(draft(keys[0], task_id="t-0"))
    rows = list(pipeline.docs.read_tasks("draft"))
    table = task_table_asset("draft", lambda _: rows, name="draft_generation_tasks", documents="texts")
    result = dg.materialize([table], instance=pipeline.instance, resources={"docs": pipeline.docs})
    assert metadata_of(result)["shown as materialised"] == 1
    assert pipeline.instance.get_materialized_partitions(dg.AssetKey("texts")) == {keys[0]}
    assert pipeline.instance.get_materialized_partitions(dg.AssetKey("draft")) == set()


def test_run_of_a_code_location_shows_existing_documents(
    tmp_path: Path, module: str, instance: dg.DagsterInstance
) -> None:
    store = DocsStore(tmp_path / "docs", durability="none")
    store.write(draft("0old", task_id="t-1"))
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "--select", "draft_tasks", "-m", module]
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path / "home"), "PIPELINE_ROOT": str(tmp_path)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert instance.get_materialized_partitions(dg.AssetKey("draft")) == {"0old"}

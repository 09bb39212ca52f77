"""A Dagster instance on disk, the pipeline of the tests, and a module with definitions."""

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.dagster.helpers import Pipeline


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an empty instance; copying it is much faster than letting Dagster make one."""
    home = tmp_path_factory.mktemp("dagster")
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert (instance.get_runs(), instance.get_dynamic_partitions("none")) == ([], [])
    return home


@pytest.fixture
def instance(tmp_path: Path, empty_home: Path) -> Iterator[dg.DagsterInstance]:
    home = shutil.copytree(empty_home, tmp_path / "home")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


@pytest.fixture
def pipeline(tmp_path: Path, instance: dg.DagsterInstance) -> Pipeline:
    pipeline = Pipeline(tmp_path, instance)
    pipeline.make_tables()
    return pipeline


DEFINITIONS = textwrap.dedent(
    """
    import os, dagster as dg
    from docid import DraftTask, EssayTask, StoredDocument
    from docid.dagster import *

    ROOT = os.environ["PIPELINE_ROOT"]
    docs = DocsStoreResource(root=f"{ROOT}/docs", tables=f"{ROOT}/tables", durability="none")
    rows = lambda docs: [DraftTask(task_id=f"t-{n}") for n in range(2)]
    draft_tasks = task_table_asset("draft", rows)

    @dg.asset(partitions_def=document_partitions("draft"), io_manager_key="documents", deps=[draft_tasks])
    def draft(context: dg.AssetExecutionContext, docs: DocsStoreResource) -> StoredDocument:
        return docs.ensure(context, str.upper, prompt="write")

    @dg.asset
    def combinations() -> int:
        return 1

    @dg.asset
    def broken() -> None:
        raise ValueError("on purpose")

    defs = dg.Definitions(
        assets=[draft_tasks, draft, combinations, broken],
        asset_checks=[document_checks("draft")],
        resources={"docs": docs, "documents": DocsIOManager(docs=docs)},
    )

    def job():
        merged = dg.Definitions.merge(defs, dg.Definitions(jobs=[dg.define_asset_job("it", ["draft"])]))
        return merged.resolve_job_def("it")
    """
)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "pipeline_for_tests.py").write_text(DEFINITIONS)
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "pipeline_for_tests", raising=False)
    return "pipeline_for_tests"

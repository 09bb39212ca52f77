"""Documents as Dagster's partitions, with a real instance on disk."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from docid import (
    DocidError,
    DocsStore,
    Document,
    DocumentBusy,
    DraftTask,
    EssayTask,
    EvaluationTask,
    InvalidName,
    StoredDocument,
    StoreUnavailable,
    TaskRow,
    read_tasks,
    write_tasks,
)
from docid.cli import main
from docid.core.findings import LEVELS
from docid.dagster import (
    IF_EXISTS_TAG,
    REPLAY_TAG,
    TASK_TAG,
    DocsIOManager,
    DocsStoreResource,
    document_checks,
    document_partitions,
    parent_input,
    register_partitions,
    replay_job,
    task_table_asset,
)
from docid.integrations.dagster import checks
from docid.integrations.dagster.checks import _look
from docid.integrations.dagster.resource import row_in_run
from tests.servers import Moto

# Dagster's own: SQLAlchemy and pydantic speak of releases to come.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::dagster.BetaWarning"
)


class Model:
    """Stands in for a model: counts its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.reply = "reply to"

    def __call__(self, prompt: str) -> str:
        self.calls.append(prompt)
        return f"{self.reply} <{prompt}>"


class Pipeline:
    """Draft, essay and evaluation as assets, in a directory of its own."""

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


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of an instance with nothing in it: a copy is had in a fraction of the time that Dagster takes to make one."""
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


def told(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """Return what people see of the one document that a run made."""
    [event] = result.get_asset_materialization_events()
    return {key: value.value for key, value in event.materialization.metadata.items()}


def failure(result: dg.ExecuteInProcessResult) -> tuple[str, dict[str, Any]]:
    """Return what the event log says of the step that failed."""
    assert not result.success
    event = next(each for each in result.all_events if each.event_type_value == "STEP_FAILURE")
    data = event.step_failure_data
    assert data.error is not None
    metadata = data.user_failure_data.metadata if data.user_failure_data else {}
    described = (data.user_failure_data.description if data.user_failure_data else None) or data.error.message
    return described, {key: value.value for key, value in metadata.items()}


def failed_checks(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    return {
        each.check_name: each.metadata["codes"].value
        for each in result.get_asset_check_evaluations()
        if not each.passed
    }


def test_documents_land_where_their_rows_say_and_are_not_made_twice(pipeline: Pipeline) -> None:
    for stage in pipeline.assets:
        for number in range(2):
            result = pipeline.make(stage, number)
            assert result.success
            assert failed_checks(result) == {}
            assert len(result.get_asset_check_evaluations()) == 4
            key = pipeline.key(stage, number)
            row = row_in_run(pipeline.docs, stage, key, {})
            path = pipeline.root / "docs" / stage / key
            assert (path / "metadata.json").is_file()
            seen = told(result)
            sizes = {f"{part} bytes": size for part, size in pipeline.store.open(stage, key).sizes.items()}
            assert seen == {
                "doc_id": key,
                "task_id": row.task_id,
                "parent_doc_id": row.parent_doc_id or "",
                "path": str(path),
                "outcome": "created",
                **sizes,
            }
            run = pipeline.instance.get_run_by_id(result.run_id)
            assert run is not None
            assert run.tags[TASK_TAG] == row.task_id
    assert len(pipeline.model.calls) == 6
    evaluation = pipeline.store.read("evaluation", pipeline.key("evaluation"))
    essay = pipeline.store.read("essay", pipeline.key("essay"))
    assert evaluation.prompt_text == f"judge: {essay.parsed_text}"
    assert essay.prompt_text == "go on: reply to <write t-0>"
    assert (evaluation.parsed_text, evaluation.parent_doc_id) == ("7.5", essay.doc_id)

    before = pipeline.store.read("essay", essay.doc_id)
    pipeline.model.reply = "another"
    result = pipeline.make("essay")
    assert (told(result)["outcome"], len(pipeline.model.calls)) == ("kept", 6)
    assert pipeline.store.read("essay", essay.doc_id) == before
    result = pipeline.make("essay", if_exists="replace")
    assert (told(result)["outcome"], len(pipeline.model.calls)) == ("replaced", 7)
    assert pipeline.store.read("essay", essay.doc_id).raw_text.startswith("another")
    assert list(pipeline.store.history("essay", essay.doc_id)) == [before]


def test_a_table_that_is_made_again_has_the_same_ids(pipeline: Pipeline) -> None:
    path = pipeline.root / "tables" / "evaluation_tasks.csv"
    before, keys = path.read_bytes(), pipeline.instance.get_dynamic_partitions("evaluation_documents")
    result = pipeline.run(dg.AssetSelection.assets("evaluation_tasks"))
    assert path.read_bytes() == before
    assert pipeline.instance.get_dynamic_partitions("evaluation_documents") == keys
    assert told(result) == {
        "path": str(path),
        "rows": 3,
        "partitions added": 0,
        "partitions removed": 0,
        "partitions kept": 3,
    }


def test_a_document_of_another_parent_is_a_failure_that_says_so(pipeline: Pipeline) -> None:
    pipeline.make("draft")
    key = pipeline.key("essay")
    pipeline.store.write(
        Document(stage="essay", doc_id=key, task_id="t-0__x", parent_doc_id="other", raw_text="x"), require_parent=False
    )
    before = pipeline.store.read("essay", key)
    message, facts = failure(pipeline.make("essay"))
    assert key in message
    assert (facts["parent_doc_id"], facts["stored_parent_doc_id"]) == (pipeline.key("draft"), "other")
    assert "doc_salt" in facts["what to do"]
    assert len(pipeline.model.calls) == 1
    message, _ = failure(pipeline.make("essay", if_exists="replace"))
    assert key in message
    assert (pipeline.store.read("essay", key), len(pipeline.model.calls)) == (before, 1)
    checked = pipeline.run(dg.AssetSelection.checks(pipeline.checks["essay"]), key)
    assert failed_checks(checked) == {
        "lineage": ["lineage-conflict"],
        "parent": ["missing-parent"],
        "parts": ["parsed-missing"],
    }


def test_a_reply_that_does_not_parse_is_kept_and_fails_a_check(pipeline: Pipeline) -> None:
    for stage in ("draft", "essay"):
        pipeline.make(stage)
    key = pipeline.key("evaluation")
    assert told(pipeline.make("evaluation"))["parsed bytes"] == 3
    for parse in (lambda _: None, lambda _: 1 / 0):
        pipeline.parse = parse
        pipeline.model.reply += "!"
        result = pipeline.make("evaluation", if_exists="replace")
        assert result.success
        assert "parsed bytes" not in told(result)
        assert failed_checks(result) == {"parts": ["parsed-missing"]}
        # The parsed text of the version before is no longer there.
        assert not (pipeline.root / "docs" / "evaluation" / key / "parsed.txt").exists()
    # What is not parsed is not gone on from.
    pipeline.store.write(Document(stage="draft", doc_id=pipeline.key("draft", 1), task_id="t-1", raw_text="not parsed"))
    message, _ = failure(pipeline.make("essay", 1))
    assert "has no parsed text, so nothing can be made from it" in message


def test_what_the_checks_find(pipeline: Pipeline) -> None:
    key = pipeline.key("draft")
    check = dg.AssetSelection.checks(pipeline.checks["draft"])
    assert failed_checks(pipeline.run(check, key)) == {"record": ["missing-document"]}
    pipeline.make("draft")
    path = pipeline.root / "docs" / "draft" / key
    (path / "notes.txt").write_text("x")
    assert failed_checks(pipeline.run(check, key)) == {"parts": ["unlisted-file"]}
    (path / "notes.txt").unlink()
    (path / "raw.txt").write_text((path / "raw.txt").read_text().swapcase())
    assert failed_checks(pipeline.run(check, key)) == {"parts": ["hash-mismatch"]}
    (path / "metadata.json").write_text("{")
    assert failed_checks(pipeline.run(check, key)) == {"record": ["unreadable-record"]}
    message, facts = failure(pipeline.make("draft"))
    assert "cannot be used" in message
    assert "docid repair" in facts["what to do"]


def test_a_replay_needs_no_table(pipeline: Pipeline) -> None:
    for stage in ("draft", "essay"):
        pipeline.make(stage)
    for table in (pipeline.root / "tables").iterdir():
        table.unlink()
    pipeline.model.reply = "another"
    key = pipeline.key("essay")
    before = pipeline.store.read("essay", key)
    job = pipeline.definitions.resolve_job_def("replay_essay")
    result = job.execute_in_process(partition_key=key, instance=pipeline.instance)
    assert told(result)["outcome"] == "replaced"
    again = pipeline.store.read("essay", key)
    assert (again.prompt_text, again.raw_text) == (before.prompt_text, f"another <{before.prompt_text}>")
    assert list(pipeline.store.history("essay", key)) == [before]
    pipeline.instance.add_dynamic_partitions("draft_documents", ["gone"])
    message, _ = failure(pipeline.run(dg.AssetSelection.assets("draft"), "gone", **{REPLAY_TAG: "true"}))
    assert "draft/gone cannot be replayed" in message


def test_a_row_that_names_a_source_sends_its_prompt(pipeline: Pipeline) -> None:
    pipeline.make("draft")
    source = pipeline.key("draft")
    rows = [DraftTask(task_id="again", doc_id="again1", source_doc_id=source)]
    (pipeline.root / "tables" / "draft_generation_tasks.csv").unlink()
    write_tasks(pipeline.root / "tables" / "draft_tasks.csv", rows)
    register_partitions(pipeline.instance, rows, add_only=True)
    result = pipeline.run(dg.AssetSelection.assets("draft"), "again1")
    assert result.success
    assert pipeline.store.read("draft", "again1").prompt_text == "write t-0"


def test_what_an_asset_may_return(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    (tmp_path / "draft_tasks.csv").write_text("draft_task_id,doc_id\na,d1\nb,d2\n")
    docs = DocsStoreResource(root=str(tmp_path / "docs"), tables=str(tmp_path), durability="none")
    store = DocsStore(tmp_path / "docs", durability="none")
    register_partitions(instance, read_tasks(tmp_path / "draft_tasks.csv", DraftTask))
    returned: list[Any] = []

    @dg.asset(partitions_def=document_partitions("draft"), io_manager_key="documents")
    def draft() -> Any:
        return returned[-1]

    @dg.asset(io_manager_key="documents")
    def plain() -> str:
        return "x"

    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(["d1"]), io_manager_key="documents")
    def other() -> str:
        return "x"

    manager = DocsIOManager(docs=docs)

    def managed(if_exists: str) -> DocsIOManager:
        options = {"root": docs.root, "tables": docs.tables, "durability": "none"}
        return DocsIOManager(docs=DocsStoreResource(if_exists=if_exists, **options))

    def run(value: Any, asset: Any = draft, key: str | None = "d1", **resources: Any) -> dg.ExecuteInProcessResult:
        returned.append(value)
        return dg.materialize(
            [asset],
            instance=instance,
            partition_key=key,
            resources={"documents": manager, **resources},
            raise_on_error=False,
        )

    assert told(run("text"))["outcome"] == "created"
    document = store.read("draft", "d1")
    assert (document.raw_text, document.parsed_text, document.task_id) == ("text", "text", "a")
    assert told(run("text"))["outcome"] == "unchanged"
    assert told(run("other"))["outcome"] == "kept"
    whole = Document(stage="draft", doc_id="d1", task_id="a", raw_text="whole", prompt_text="p")
    strict = managed("fail")
    message, facts = failure(run(whole, documents=strict))
    assert "differs" in message
    assert facts["doc_id"] == "d1"
    replacing = managed("replace")
    assert told(run(whole, documents=replacing))["outcome"] == "replaced"
    assert told(run(store.open("draft", "d1")))["outcome"] == "kept"
    wrong = managed("overwrite")
    assert "if_exists: expected fail, keep, replace, got 'overwrite'" in failure(run("x", documents=wrong))[0]
    assert "the asset returned NoneType; expected text" in failure(run(None))[0]
    assert (
        "the asset returned the document draft/d1 with doc_id='d1'; expected 'd2', as in the row of its partition"
        in (failure(run(whole, key="d2"))[0])
    )
    assert (
        "expected a dict of documents" in failure(run({"d2": "x"}))[0] or "partitions" in failure(run({"d2": "x"}))[0]
    )
    assert told(run({"d1": "x"})) == {"documents": 1, "kept": 1}
    assert "has no documents as partitions" in failure(run("x", plain, None))[0]
    assert "has no documents as partitions" in failure(run("x", other))[0]
    instance.add_dynamic_partitions("draft_documents", ["d3"])
    assert "has no row with doc id d3; materialise the table again" in failure(run("x", key="d3"))[0]


def test_many_partitions_in_one_run(pipeline: Pipeline) -> None:
    docs, model = pipeline.docs, pipeline.model

    @dg.asset(
        name="draft",
        partitions_def=document_partitions("draft"),
        io_manager_key="documents",
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def drafts(context: dg.AssetExecutionContext, docs: DocsStoreResource) -> dict[str, StoredDocument]:
        with pytest.raises(dg.Failure, match="3 partitions; expected doc_id"):
            docs.task(context)
        return {key: docs.ensure(context, model, prompt=key, doc_id=key) for key in context.partition_keys}

    @dg.asset(
        name="essay",
        partitions_def=document_partitions("essay"),
        ins={"texts": parent_input("draft")},
        io_manager_key="documents",
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def essays(context: dg.AssetExecutionContext, texts: dict[str, str]) -> dict[str, str]:
        assert sorted(texts) == sorted(context.partition_keys)
        return {key: f"essay on {text}" for key, text in texts.items()}

    @dg.asset(ins={"texts": dg.AssetIn("essay", input_manager_key="documents")})
    def everything(texts: dict[str, str]) -> int:
        return len(texts)

    resources = {"docs": docs, "documents": DocsIOManager(docs=docs)}
    for asset, stage in ((drafts, "draft"), (essays, "essay")):
        keys = pipeline.instance.get_dynamic_partitions(f"{stage}_documents")
        tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
        result = dg.materialize(
            [drafts, essays], selection=[asset], instance=pipeline.instance, resources=resources, tags=tags
        )
        assert result.success
        events = result.get_asset_materialization_events()
        assert {event.materialization.partition for event in events} == set(keys)
        assert events[0].materialization.metadata["created"].value == 3
        assert sorted(pipeline.store.ids(stage)) == sorted(keys)
    result = dg.materialize(
        [drafts, essays, everything], selection=[everything], instance=pipeline.instance, resources=resources
    )
    assert result.output_for_node("everything") == 3


def test_an_input_may_be_the_whole_document_or_ones_own(pipeline: Pipeline) -> None:
    pipeline.make("draft")
    seen: list[Any] = []

    @dg.asset(
        name="essay",
        partitions_def=document_partitions("essay"),
        ins={"draft": parent_input()},
        io_manager_key="documents",
    )
    def opened(draft: StoredDocument) -> str:
        seen.append(draft)
        return "x"

    @dg.asset(partitions_def=document_partitions("draft"), ins={"draft": dg.AssetIn("draft")})
    def own(draft: Document) -> None:
        seen.append(draft)

    @dg.asset
    def number() -> int:
        return 1

    @dg.asset(ins={"number": dg.AssetIn("number", input_manager_key="documents")})
    def wrong(number: int) -> None:
        pass

    resources = {"docs": pipeline.docs, "documents": DocsIOManager(docs=pipeline.docs)}

    def run(asset: Any, key: str | None) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            [pipeline.assets["draft"], number, asset],
            selection=[asset],
            instance=pipeline.instance,
            resources=resources,
            partition_key=key,
            raise_on_error=False,
        )

    assert run(opened, pipeline.key("essay")).success
    assert run(own, pipeline.key("draft")).success
    assert isinstance(seen[0], StoredDocument)
    assert isinstance(seen[1], Document)
    dg.materialize([number], instance=pipeline.instance)
    assert "expected an asset of document_partitions(stage)" in failure(run(wrong, None))[0]
    # A parent that is not there yet.
    message, facts = failure(run(opened, pipeline.key("essay", 1)))
    assert "not in the store" in message or "no document" in message
    assert facts["stage"] == "draft"


def test_a_row_is_looked_up_once_a_step_whatever_becomes_of_its_table(pipeline: Pipeline) -> None:
    for number in range(2):
        pipeline.make("draft", number)
    table = pipeline.root / "tables" / "essay_tasks.csv"
    text = table.read_text()
    one, two = pipeline.key("draft", 0), pipeline.key("draft", 1)
    answers: list[Any] = []

    @dg.asset(
        name="essay",
        partitions_def=document_partitions("essay"),
        ins={"draft": parent_input()},
        io_manager_key="documents",
    )
    def essay(context: dg.AssetExecutionContext, docs: DocsStoreResource, draft: str) -> Any:
        # The table is made anew while the model writes, and the essay gets another parent in it.
        table.write_text(text.replace(one, two) if one in text else text.replace(two, one))
        answers.append(docs.task(context).parent_doc_id)
        return f"made from {draft}"

    resources = {"docs": pipeline.docs, "documents": DocsIOManager(docs=pipeline.docs)}
    key = pipeline.key("essay")
    assets = [pipeline.assets["draft"], essay]
    run = dg.materialize(
        assets, selection=["essay"], instance=pipeline.instance, partition_key=key, resources=resources
    )
    document = pipeline.store.read("essay", key)
    assert answers == [one]
    assert (document.parent_doc_id, document.raw_text) == (one, "made from reply to <write t-0>")
    assert told(run)["parent_doc_id"] == one
    # The check goes by the table as it is now.
    result = pipeline.run(dg.AssetSelection.checks(pipeline.checks["essay"]), key)
    assert failed_checks(result) == {"lineage": ["lineage-conflict"]}


@pytest.mark.parametrize(
    ("parse", "parts"),
    [
        pytest.param(float, {"raw", "prompt"}, id="a parser that returns a number"),
        pytest.param(lambda _: "\ud800", {"raw", "prompt"}, id="a parser that returns what is not UTF-8"),
    ],
)
def test_a_reply_is_kept_whatever_its_parser_returns(pipeline: Pipeline, parse: Any, parts: set[str]) -> None:
    for stage in ("draft", "essay"):
        pipeline.make(stage)
    pipeline.parse = parse
    pipeline.model.reply = "7.5"
    result = pipeline.make("evaluation")
    assert result.success
    assert failed_checks(result) == {"parts": ["parsed-missing"]}
    assert set(pipeline.store.open("evaluation", pipeline.key("evaluation")).sizes) == parts


def test_what_cannot_become_a_document_is_not_tried_again(pipeline: Pipeline) -> None:
    calls: list[str] = []
    value: list[Any] = []
    prompt: list[Any] = ["p"]

    @dg.asset(
        name="draft",
        partitions_def=document_partitions("draft"),
        io_manager_key="documents",
        retry_policy=dg.RetryPolicy(max_retries=2),
    )
    def returning(context: dg.AssetExecutionContext) -> Any:
        calls.append("returned")
        return value[-1]

    @dg.asset(
        name="draft",
        partitions_def=document_partitions("draft"),
        io_manager_key="documents",
        retry_policy=dg.RetryPolicy(max_retries=2),
    )
    def ensuring(context: dg.AssetExecutionContext, docs: DocsStoreResource) -> Any:
        calls.append("ensured")
        return docs.ensure(context, lambda _: value[-1], prompt=prompt[-1])

    def run(asset: Any) -> str:
        calls.clear()
        resources = {"docs": pipeline.docs, "documents": DocsIOManager(docs=pipeline.docs)}
        result = dg.materialize(
            [asset],
            instance=pipeline.instance,
            partition_key=pipeline.key("draft"),
            resources=resources,
            raise_on_error=False,
        )
        assert len(calls) == 1
        return failure(result)[0]

    for each in (None, b"x", 7, {"other": "x"}):
        value.append(each)
        assert "expected" in run(returning)
    value.append("\ud800")
    assert "raw_text" in run(returning)
    assert "raw_text" in run(ensuring)
    value.append(None)
    assert "generate: expected text, got NoneType (task_id='t-0')" in run(ensuring)
    prompt.append(None)
    assert "prompt: expected text, got NoneType (task_id='t-0')" in run(ensuring)
    assert list(pipeline.store.ids("draft")) == []


def gone(table: Path) -> None:
    table.unlink()


def faulty(table: Path) -> None:
    table.write_text("draft_task_id,doc_id\na,Not An Id\nb,Nor This\n")


def no_file(table: Path) -> None:
    table.unlink()
    table.mkdir()


@pytest.mark.parametrize(
    ("spoil", "tries", "said"),
    [
        pytest.param(gone, 1, "no task table of stage draft; expected draft_tasks.csv or", id="gone"),
        pytest.param(faulty, 1, "2 problems:\n", id="faulty"),
        pytest.param(no_file, 3, "the table of stage draft cannot be read: ", id="unreadable"),
    ],
)
def test_a_table_that_gives_no_row_fails_the_step_and_the_check(
    pipeline: Pipeline, spoil: Any, tries: int, said: str
) -> None:
    assert pipeline.make("draft").success
    spoil(pipeline.root / "tables" / "draft_generation_tasks.csv")
    calls: list[str] = []

    @dg.asset(
        name="draft",
        partitions_def=document_partitions("draft"),
        io_manager_key="documents",
        retry_policy=dg.RetryPolicy(max_retries=2),
    )
    def asking(context: dg.AssetExecutionContext, docs: DocsStoreResource) -> Any:
        calls.append("asked")
        return docs.task(context)

    @dg.asset(
        name="draft",
        partitions_def=document_partitions("draft"),
        io_manager_key="documents",
        retry_policy=dg.RetryPolicy(max_retries=2),
    )
    def returning() -> str:
        calls.append("returned")
        return "x"

    for asset in (asking, returning):
        calls.clear()
        result = dg.materialize(
            [asset],
            instance=pipeline.instance,
            partition_key=pipeline.key("draft"),
            resources={"docs": pipeline.docs, "documents": DocsIOManager(docs=pipeline.docs)},
            raise_on_error=False,
        )
        message, facts = failure(result)
        assert said in message
        assert (spoil is faulty) == ("correct the table" in facts.get("what to do", ""))
        assert len(calls) == tries

    checked = pipeline.run(dg.AssetSelection.checks(pipeline.checks["draft"]), pipeline.key("draft"))
    assert checked.success
    assert failed_checks(checked) == {"lineage": ["missing-row"]}
    [lineage] = [each for each in checked.get_asset_check_evaluations() if each.check_name == "lineage"]
    assert said in str(lineage.description)


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        pytest.param(StoreUnavailable("write", "s3://b/draft/d1.json", "no answer", "try again"), 3, id="no-answer"),
        pytest.param(StoreUnavailable("write", "s3://b/d", "not allowed", "see", refused=True), 1, id="refused"),
        pytest.param(DocumentBusy("draft", "d1", "t-1", "docs/draft/d1"), 3, id="busy"),
    ],
)
def test_what_may_pass_is_tried_again(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, error: DocidError, tries: int
) -> None:
    calls: list[str] = []

    def away(*_: object, **__: object) -> None:
        calls.append("asked")
        raise error

    monkeypatch.setattr(DocsStore, "ensure", away)

    @dg.asset(
        name="draft",
        partitions_def=document_partitions("draft"),
        io_manager_key="documents",
        retry_policy=dg.RetryPolicy(max_retries=2),
    )
    def draft(context: dg.AssetExecutionContext, docs: DocsStoreResource) -> Any:
        return docs.ensure(context, pipeline.model, prompt="p")

    result = dg.materialize(
        [draft],
        instance=pipeline.instance,
        partition_key=pipeline.key("draft"),
        resources={"docs": pipeline.docs, "documents": DocsIOManager(docs=pipeline.docs)},
        raise_on_error=False,
    )
    assert not result.success
    assert len(calls) == tries


def test_a_document_of_another_lineage_or_store_is_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    key = pipeline.key("draft")
    elsewhere = DocsStore(tmp_path / "elsewhere", durability="none")
    mine: dict[str, Any] = {"stage": "draft", "doc_id": key, "raw_text": "x"}
    value: list[Any] = []

    @dg.asset(name="draft", partitions_def=document_partitions("draft"), io_manager_key="documents")
    def draft() -> Any:
        return value[-1]

    def run(returned: Any) -> str:
        value.append(returned)
        resources = {"documents": DocsIOManager(docs=pipeline.docs)}
        return failure(
            dg.materialize(
                [draft], instance=pipeline.instance, partition_key=key, resources=resources, raise_on_error=False
            )
        )[0]

    assert "with task_id='OTHER'; expected 't-0', as in the row" in run(Document(task_id="OTHER", **mine))
    elsewhere.write(Document(task_id="t-0", **mine))
    assert f"expected {pipeline.root / 'docs' / 'draft' / key}" in run(elsewhere.open("draft", key))
    assert list(pipeline.store.ids("draft")) == []


def test_a_range_of_partitions_has_checks_of_each(pipeline: Pipeline) -> None:
    keys = [pipeline.key("draft", number) for number in range(3)]
    for number in range(3):
        pipeline.make("draft", number)
    (pipeline.root / "docs" / "draft" / keys[1] / "notes.txt").write_text("x")
    table = pipeline.root / "tables" / "draft_generation_tasks.csv"
    table.write_text("".join(line for line in table.read_text().splitlines(keepends=True) if keys[2] not in line))
    tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[2]}
    result = pipeline.run(dg.AssetSelection.checks(pipeline.checks["draft"]), **tags)
    assert result.success
    found = {
        (each.check_name, each.partition): each.metadata["codes"].value
        for each in result.get_asset_check_evaluations()
        if not each.passed
    }
    # A row that has gone does not keep the rest from being looked at.
    assert found == {
        ("parts", keys[1]): ["unlisted-file"],
        ("parts", None): ["unlisted-file"],
        ("lineage", keys[2]): ["missing-row"],
        ("lineage", None): ["missing-row"],
    }
    of_parts = dg.AssetCheckKey(dg.AssetKey("draft"), "parts")
    known = pipeline.instance.event_log_storage.get_asset_check_partition_info([of_parts])
    assert {each.partition_key: each.latest_execution_status.value for each in known if each.partition_key} == {
        keys[0]: "SUCCEEDED",
        keys[1]: "FAILED",
        keys[2]: "SUCCEEDED",
    }


def test_the_codes_of_the_checks_are_those_of_the_audit_and_those_that_are_named() -> None:
    code = Path(checks.__file__).read_text(encoding="utf-8")
    page = Path(__file__).parent.parent.joinpath("docs", "dagster.md").read_text(encoding="utf-8")
    codes = set(re.findall(r'_Wrong\(\s*"\w+", "([\w-]+)"', code))
    own = codes - LEVELS.keys()
    assert codes - own == {"lineage-conflict", "missing-parent"}
    assert own == {"missing-document", "missing-row", "parsed-missing"}
    for each in own:
        assert f"`{each}`" in str(document_checks.__doc__)
        assert f"| `{each}` |" in page


def test_a_check_of_an_object_says_its_url(tmp_path: Path) -> None:
    write_tasks(tmp_path / "draft_tasks.csv", [DraftTask(task_id="t", doc_id="there1")])
    docs = DocsStoreResource(root="memory://", tables=str(tmp_path), durability="none")
    docs.store().write(Document(stage="draft", doc_id="there1", task_id="other", raw_text="x"))

    def messages(doc_id: str) -> dict[str, str]:
        return {each.code: each.message for each in _look(docs, "draft", doc_id, {}, parsed=True, verify=False)}

    assert messages("gone1") == {"missing-document": "memory:///draft/gone1.json: not in the store; run its asset"}
    found = messages("there1")
    assert found["lineage-conflict"].startswith("memory:///draft/there1.json: holds task_id='other'")
    assert found["parsed-missing"].startswith("memory:///draft/there1.json (task_id='other'): the reply was not parsed")


def test_a_step_that_is_tried_again_keeps_what_it_replaced(pipeline: Pipeline) -> None:
    keys = [pipeline.key("draft", number) for number in range(2)]
    for number in range(2):
        pipeline.make("draft", number)
    calls: list[str] = []

    @dg.asset(
        name="draft",
        partitions_def=document_partitions("draft"),
        io_manager_key="documents",
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=dg.RetryPolicy(max_retries=2),
    )
    def drafts(context: dg.AssetExecutionContext, docs: DocsStoreResource) -> dict[str, StoredDocument]:
        def model(prompt: str) -> str:
            calls.append(prompt)
            if calls[-2:] == [keys[0], keys[1]]:
                raise ConnectionError("the model is busy")
            return f"{prompt} {len(calls)}"

        return {key: docs.ensure(context, model, prompt=key, doc_id=key) for key in context.partition_keys}

    resources = {"docs": pipeline.docs, "documents": DocsIOManager(docs=pipeline.docs)}
    run = dg.materialize(
        [drafts],
        instance=pipeline.instance,
        resources=resources,
        tags={
            IF_EXISTS_TAG: "replace",
            "dagster/asset_partition_range_start": keys[0],
            "dagster/asset_partition_range_end": keys[1],
        },
    )
    assert run.success
    assert calls == [keys[0], keys[1], keys[1]]
    assert [len(list(pipeline.store.history("draft", key))) for key in keys] == [1, 1]


def test_the_last_of_a_range_is_given_a_dict_too_where_one_is_asked_for(pipeline: Pipeline) -> None:
    pipeline.make("draft", 2)
    seen: list[Any] = []

    def essay_of(annotation: Any) -> Any:
        def essay(draft: Any) -> str:
            seen.append(draft)
            return "x"

        essay.__annotations__["draft"] = annotation
        return dg.asset(
            name="essay",
            partitions_def=document_partitions("essay"),
            ins={"draft": parent_input()},
            io_manager_key="documents",
        )(essay)

    resources = {"docs": pipeline.docs, "documents": DocsIOManager(docs=pipeline.docs)}
    key = pipeline.key("essay", 2)
    for annotation in (dict[str, str], dict, dict[str, StoredDocument], StoredDocument | None, str):
        dg.materialize(
            [pipeline.assets["draft"], essay_of(annotation)],
            selection=["essay"],
            instance=pipeline.instance,
            partition_key=key,
            resources=resources,
        )
    text = "reply to <write t-2>"
    assert seen[:2] == [{key: text}, {key: text}]
    assert seen[2][key].parsed_text == seen[3].parsed_text == seen[4] == text


def test_a_replay_keeps_the_run_id_and_its_tag_is_true_or_false(pipeline: Pipeline) -> None:
    key = pipeline.key("draft")
    texts: dict[str, Any] = {"raw_text": "x", "prompt_text": "p"}
    pipeline.store.write(Document(stage="draft", doc_id=key, task_id="t-0", run_id="r-1", **texts))
    assert pipeline.run(dg.AssetSelection.assets("draft"), key, **{REPLAY_TAG: "true"}).success
    again = pipeline.store.read("draft", key)
    assert (again.run_id, again.raw_text) == ("r-1", "reply to <p>")
    message, _ = failure(pipeline.run(dg.AssetSelection.assets("draft"), key, **{REPLAY_TAG: "True"}))
    assert "tag docid/replay: expected true or false, got 'True'" in message


def test_two_assets_of_a_stage_have_checks_each_and_a_replay_takes_a_key() -> None:
    one, two = (
        dg.AssetsDefinition.from_op(
            dg.op(name=name)(lambda: None), partitions_def=document_partitions("draft"), key_prefix=[name]
        )
        for name in ("one", "two")
    )
    checks = [document_checks("draft", one), document_checks("draft", two, resource="others")]
    resources = {"docs": DocsStoreResource(root="one"), "others": DocsStoreResource(root="two")}
    job = replay_job(one.key, name="again")
    dg.Definitions(assets=[one, two], asset_checks=checks, jobs=[job], resources=resources).resolve_job_def("again")


def test_a_table_asset_refuses_a_second_table_of_its_stage(pipeline: Pipeline) -> None:
    second = pipeline.root / "tables" / "draft_tasks.csv"
    second.write_text("draft_task_id,doc_id\n")
    message, _ = failure(pipeline.run(dg.AssetSelection.assets("draft_generation_tasks")))
    assert "draft_tasks.csv is a table of stage draft too; expected draft_generation_tasks.csv alone" in message


def test_a_table_asset_says_which_rows_are_faulty(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    docs = DocsStoreResource(root=str(tmp_path / "docs"), tables=str(tmp_path / "tables"))
    table = task_table_asset("draft", lambda _: [DraftTask(task_id="t-1"), DraftTask(task_id=" t-2")])
    message, facts = failure(dg.materialize([table], instance=instance, resources={"docs": docs}, raise_on_error=False))
    assert "row 2, column draft_task_id: ' t-2'; white space at an end" in message
    assert "correct the table, or what builds its rows" in facts["what to do"]
    assert list((tmp_path / "tables").iterdir()) == []


def test_partitions_are_registered_once_and_in_one_call(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    rows = [DraftTask(task_id=f"t-{n}", doc_id=f"d{n}") for n in range(25_000)]
    planned = register_partitions(instance, rows, dry_run=True)
    assert instance.get_dynamic_partitions("draft_documents") == []
    assert register_partitions(instance, rows) == planned
    assert len(planned["draft"].added) == 25_000
    assert register_partitions(instance, rows) == {"draft": ((), (), 25_000)}
    few = [*rows[:3], EssayTask(task_id="e", doc_id="e1")]
    assert register_partitions(instance, few, add_only=True) == {"draft": ((), (), 25_000), "essay": (("e1",), (), 0)}
    with pytest.raises(InvalidName):
        register_partitions(instance, [DraftTask(task_id="t"), *rows])
    instance.add_dynamic_partitions("essay_documents", ["e2"])
    assert register_partitions(instance, few[3:])["essay"].removed == ("e2",)
    # A table without rows says of which stage it is.
    (tmp_path / "essay_tasks.csv").write_text("essay_task_id,parent_doc_id,doc_id\n")
    empty = read_tasks(tmp_path / "essay_tasks.csv", EssayTask)
    assert register_partitions(instance, empty) == {"essay": ((), ("e1",), 0)}


def test_a_table_asset_refuses_what_is_no_table_of_its_stage() -> None:
    with pytest.raises(ValueError, match="name: expected draft_tasks or draft_generation_tasks, got 'drafts'"):
        task_table_asset("draft", lambda _: [], name="drafts")


def test_a_resource_says_which_table_it_misses(tmp_path: Path) -> None:
    docs = DocsStoreResource(root=str(tmp_path), tables=str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="no task table of stage draft; expected draft_tasks.csv"):
        docs.table("draft")
    (tmp_path / "draft_tasks.csv").touch()
    (tmp_path / "draft_generation_tasks.csv").touch()
    with pytest.raises(FileNotFoundError, match="draft_generation_tasks.csv, draft_tasks.csv: expected one task table"):
        DocsStoreResource(root="x", tables=str(tmp_path)).table("draft")


RACE = textwrap.dedent(
    """
    import sys, time, pathlib, dagster as dg
    from docid import DocsStore, StoredDocument
    from docid.dagster import *

    root, number, start = sys.argv[1], sys.argv[2], float(sys.argv[3])
    docs = DocsStoreResource(root=f"{root}/docs", tables=root, durability="none")

    def model(prompt):
        pathlib.Path(root, f"called-{number}").touch()
        while not (pathlib.Path(root, "called-0").exists() and pathlib.Path(root, "called-1").exists()):
            assert time.time() < start + 60
            time.sleep(0.01)
        return f"text of {number}"

    @dg.asset(partitions_def=document_partitions("draft"), io_manager_key="documents")
    def draft(context: dg.AssetExecutionContext, docs: DocsStoreResource) -> StoredDocument:
        return docs.ensure(context, model, prompt="write")

    with dg.DagsterInstance.from_config(f"{root}/home") as instance:
        result = dg.materialize([draft], instance=instance, partition_key="d1",
                                resources={"docs": docs, "documents": DocsIOManager(docs=docs)})
    [event] = result.get_asset_materialization_events()
    print("OUTCOME", event.materialization.metadata["outcome"].value)
    """
)


def test_of_two_runs_that_race_for_a_partition_one_wins(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    (tmp_path / "draft_tasks.csv").write_text("draft_task_id,doc_id\na,d1\n")
    register_partitions(instance, read_tasks(tmp_path / "draft_tasks.csv", DraftTask))
    commands = [[sys.executable, "-W", "ignore", "-c", RACE, str(tmp_path), str(n), str(time.time())] for n in range(2)]
    runs = [subprocess.Popen(each, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for each in commands]
    printed = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], printed
    outcomes = [out.split("OUTCOME ")[1].strip() for out, _ in printed]
    assert sorted(outcomes) == ["created", "kept"]
    document = DocsStore(tmp_path / "docs").read("draft", "d1")
    assert document.raw_text == f"text of {outcomes.index('created')}"
    assert list(DocsStore(tmp_path / "docs").ids("draft")) == ["d1"]


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


def test_it_works_under_the_default_executor_of_many_processes(
    tmp_path: Path, module: str, instance: dg.DagsterInstance
) -> None:
    definitions = __import__(module)
    result = dg.materialize([definitions.draft_tasks], instance=instance, resources={"docs": definitions.docs})
    assert result.success
    key = instance.get_dynamic_partitions("draft_documents")[0]
    with dg.execute_job(
        dg.reconstructable(definitions.job),
        instance=instance,
        tags={"dagster/partition": key},
    ) as run:
        assert run.success, [event.message for event in run.all_events]
        started = {event.step_key for event in run.all_events if event.event_type_value == "STEP_WORKER_STARTED"}
        assert "draft" in started
    assert DocsStore(tmp_path / "docs").read("draft", key).raw_text == "WRITE"


# --- docid register ----------------------------------------------------------------------------------------------


CURATED = (
    "essay_task_id,parent_doc_id,draft_task_id,combo_id,draft_template,essay_template,doc_id\n"
    "t-1__x,d1,t-1,c-1,plain,x,e1\n"
    "t-1__y,d1,t-1,c-1,plain,y,e2\n"
    "t-2__x,d2,t-2,c-2,plain,x,e3\n"
)


@pytest.fixture
def curated(tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DOCID_STORE", raising=False)
    path = tmp_path / "best" / "essay_generation_tasks.csv"
    path.parent.mkdir()
    path.write_text(CURATED)
    return path


def register(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    try:
        code = main(["register", *map(str, arguments)])
    except SystemExit as error:
        code = int(error.code or 0)
    out, err = capfd.readouterr()
    return code, out, err


def test_register(curated: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = (curated, "--output", "out", "--templates", "novelty,kind", "--models", "m-1")
    code, out, _ = register(capfd, *arguments, "--dry-run")
    assert (code, Path("out").exists(), instance.get_dynamic_partitions("draft_documents")) == (0, False, [])
    assert out == (
        "out/draft_generation_tasks.csv: 2 rows, would be written; partitions of draft: 2 would be added, 0 would be "
        "removed, 0 kept\n"
        "out/essay_generation_tasks.csv: 3 rows, would be written; partitions of essay: 3 would be added, 0 would be "
        "removed, 0 kept\n"
        "out/evaluation_tasks.csv: 6 rows, would be written; partitions of evaluation: 6 would be added, 0 would be "
        "removed, 0 kept\n"
    )
    code, out, _ = register(capfd, *arguments)
    assert code == 0
    assert "out/evaluation_tasks.csv: 6 rows, written; partitions of evaluation: 6 added, 0 removed, 0 kept\n" in out
    one, two = read_tasks("out/draft_generation_tasks.csv", DraftTask)
    assert (one.task_id, one.doc_id, one.combo_id, one.draft_template) == ("t-1", "d1", "c-1", "plain")
    assert two.doc_id == "d2"
    evaluations = list(read_tasks("out/evaluation_tasks.csv", EvaluationTask))
    assert evaluations[1].task_id == "e1__kind__m-1"
    assert (evaluations[1].essay_task_id, evaluations[1].combo_id) == ("t-1__x", "c-1")
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    code, out, _ = register(capfd, *arguments)
    assert "6 rows, written; partitions of evaluation: 0 added, 0 removed, 6 kept\n" in out
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before

    curated.write_text("".join(CURATED.splitlines(keepends=True)[:2]).replace("e1", "e9"))
    code, out, _ = register(capfd, *arguments, "--add-only", "--salt", "random")
    assert "out/essay_generation_tasks.csv: 4 rows, written; partitions of essay: 1 added, 0 removed, 3 kept\n" in out
    code, out, _ = register(capfd, curated, "--output", "out")
    assert "partitions of essay: 0 added, 3 removed, 1 kept\n  3 rows of the table that was there gone (--add-" in out
    assert "no evaluations: --templates and --models make rows for them\n" in out


def test_register_keeps_what_a_table_says_beyond_the_curated_one(
    curated: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    del instance
    out = Path("out")
    out.mkdir()
    (out / "draft_generation_tasks.csv").write_text(
        "note,draft_task_id,combo_id,generation_model,source_doc_id,doc_run_id,doc_salt,doc_id\n"
        "first,t-1,c-0,large-1,d0,run-1,s-1,d1\n"
        "of another,t-9,c-9,large-9,,,s-9,d2\n"
    )
    code, said, _ = register(capfd, curated, "--output", out)
    assert code == 0
    assert "gone" not in said
    one, two = read_tasks(out / "draft_generation_tasks.csv", DraftTask)
    assert (one.extra, one.combo_id, one.generation_model) == ({"note": "first"}, "c-1", "large-1")
    assert (one.doc_run_id, one.doc_salt, one.source_doc_id) == ("run-1", "s-1", None)
    # Of another task: nothing that its row said is true of this one.
    assert (two.task_id, two.extra, two.generation_model, two.doc_salt) == ("t-2", {"note": ""}, "", None)
    assert one.columns[:3] == ("note", "draft_task_id", "combo_id")

    before = (out / "draft_generation_tasks.csv").read_bytes()
    assert register(capfd, curated, "--output", out)[0] == 0
    assert (out / "draft_generation_tasks.csv").read_bytes() == before


def test_register_takes_templates_and_models_from_tables(
    curated: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("templates.csv").write_text("template_id,active,parser\nkind,true,in_last_line\nold,false,complex\n")
    Path("models.csv").write_text("id,model,for_evaluation\nm-1,maker/m-1,true\nm-2,maker/m-2,false\n")
    store = DocsStore("docs", durability="none")
    store.write(Document(stage="draft", doc_id="s1", task_id="s", raw_text="x", prompt_text="p"))
    store.write(Document(stage="draft", doc_id="s2", task_id="s2", raw_text="x"))
    arguments = (curated, "--templates", "templates.csv", "--models", "models.csv", "--store", "docs")
    code, _, _ = register(capfd, *arguments, "--source", "draft/s1")
    assert code == 0
    assert curated.with_name("essay_generation_tasks.csv").read_text().splitlines()[1].startswith("t-1__x,d1,")
    rows = list(read_tasks(curated.with_name("evaluation_tasks.csv"), EvaluationTask))
    assert [(row.evaluation_model_name, row.parser) for row in rows] == [("maker/m-1", "in_last_line")] * 3
    assert {row.source_doc_id for row in read_tasks(curated.with_name("draft_generation_tasks.csv"), DraftTask)} == {
        "s1"
    }
    code, _, err = register(capfd, *arguments, "--source", "draft/s2")
    assert (code, err) == (2, "docid: --source draft/s2: it was stored without its prompt\n")


def test_register_materialises_what_it_is_told(
    curated: Path, module: str, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = (curated, "--materialize", "combinations", "draft_tasks")
    code, out, _ = register(capfd, *arguments, "--module", module, "--dry-run")
    assert (code, "would be materialised: combinations, draft_tasks\n" in out) == (0, True)
    Path("pyproject.toml").write_text(f'[tool.dagster]\nmodule_name = "{module}"\n')
    code, out, _ = register(capfd, *arguments)
    assert (code, "materialised: combinations, draft_tasks\n" in out) == (0, True)
    assert Path("tables/draft_tasks.csv").exists()
    code, _, err = register(capfd, curated, "--materialize", "broken")
    assert code == 2
    assert "broken: the run " in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--dagster-home", ""], "which Dagster instance? expected --dagster-home DIR", id="no home"),
        pytest.param(["--dagster-home", "none"], "--dagster-home none: there is no such directory", id="no such home"),
        pytest.param(["--templates", "a"], "--templates and --models: expected both", id="templates alone"),
        pytest.param(["--templates", ",", "--models", "m"], ",: expected ids, separated by commas", id="no template"),
        pytest.param(["--source", "d1"], "--source d1: expected STAGE/ID", id="source without stage"),
        pytest.param(["--source", "draft/D1"], "not a doc id", id="source that is no id"),
        pytest.param(["--source", "draft/gone", "--store", "docs"], "no store at docs", id="no such store"),
        pytest.param(["--source", "draft/gone", "--store", "."], "draft/gone is not in", id="source that is not there"),
        pytest.param(["--materialize", "x"], "whose assets? expected --module MODULE", id="no module"),
        pytest.param(["--materialize", "x", "--module", "no_such_module"], "--module no_such_module: ", id="not there"),
        pytest.param(
            ["--output", "best/essay_generation_tasks.csv"], "a file; expected a directory", id="output is a file"
        ),
        pytest.param(
            ["--materialize", "x", "--module", "docid"], "0 Definitions in it; expected one", id="no definitions"
        ),
    ],
)
def test_what_register_refuses(
    curated: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, _, err = register(capfd, curated, *arguments, *([] if "--materialize" not in arguments else ["--dry-run"]))
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert sorted(path.name for path in curated.parent.iterdir()) == [curated.name]


def test_register_looks_before_it_writes(
    curated: Path, module: str, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: object) -> str:
        code, _, err = register(capfd, curated, *arguments)
        assert code == 2
        assert len(err.splitlines()) == 1
        assert sorted(path.name for path in curated.parent.iterdir()) == [curated.name]
        assert instance.get_dynamic_partitions("essay_documents") == []
        return err

    for options in ([], ["--dry-run"]):
        assert "no_such_asset" in refused("--materialize", "no_such_asset", "--module", module, *options)
    Path("raising.py").write_text("raise RuntimeError('at import')")
    assert "RuntimeError: at import" in refused("--materialize", "x", "--module", "raising")
    curated.write_text(CURATED.replace(",e2\n", ",e1\n").replace("t-2__x,d2,e2", "t-2__x,d2,e1"))
    assert "both have doc id e1" in refused()
    curated.write_text(CURATED.splitlines(keepends=True)[0])
    assert "no rows in it" in refused()
    curated.write_text(CURATED)
    Path("broken").mkdir()
    Path("broken/dagster.yaml").write_text("]")
    assert "not a Dagster instance that can be used" in refused("--dagster-home", "broken")
    Path("empty").mkdir()
    code, out, _ = register(capfd, curated, "--dagster-home", "empty", "--dry-run")
    assert (code, "3 would be added" in out, list(Path("empty").iterdir())) == (0, True, [])
    for name in ("draft_tasks.csv", "draft_generation_tasks.csv"):
        (curated.parent / name).write_text("draft_task_id,doc_id\n")
    code, _, err = register(capfd, curated)
    assert (code, "are both tables of stage draft; expected one" in err) == (2, True)


def test_register_refuses_to_keep_a_row_of_another_lineage(
    curated: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("out").mkdir()
    Path("out/essay_tasks.csv").write_text("essay_task_id,parent_doc_id,doc_id\nt-9__x,d9,e1\n")
    code, _, err = register(capfd, curated, "--output", "out", "--add-only")
    assert code == 2
    assert "its row of e1 has task 't-9__x', parent d9; the new one has task 't-1__x', parent d1" in err
    assert [path.name for path in Path("out").iterdir()] == ["essay_tasks.csv"]


def test_register_takes_definitions_under_two_names_and_from_a_function(
    curated: Path, module: str, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("two_names.py").write_text(f"from {module} import defs\nother = defs\n")
    Path("lazy.py").write_text(
        f"import dagster as dg\nimport {module} as it\n@dg.definitions\ndef defs():\n    return it.defs\n"
    )
    for name in ("two_names", "lazy"):
        code, out, _ = register(capfd, curated, "--materialize", "combinations", "--module", name)
        assert (code, "materialised: combinations\n" in out) == (0, True)


def test_register_names_rows_without_ids_before_anything_is_written(
    curated: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    curated.write_text(CURATED.replace(",e2\n", ",\n").replace("t-2__x,d2", "t-2__x,"))
    code, _, err = register(capfd, curated, "--templates", "a", "--models", "b")
    assert code == 2
    assert "row 3, column doc_id: missing" in err
    assert "row 4, column parent_doc_id: missing" in err
    assert sorted(path.name for path in curated.parent.iterdir()) == [curated.name]
    assert instance.get_dynamic_partitions("essay_documents") == []
    curated.write_text(CURATED.replace("parent_doc_id", "x"))
    code, _, err = register(capfd, curated)
    assert (code, "column parent_doc_id: missing from the header" in err) == (2, True)


def test_without_dagster_register_says_what_to_install(
    curated: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dagster", None)
    monkeypatch.delitem(sys.modules, "docid.dagster", raising=False)
    code, _, err = register(capfd, curated)
    assert (code, err) == (2, "docid: register needs Dagster: pip install 'docid-store[dagster]'\n")


def test_without_dagster_the_module_says_what_to_install() -> None:
    code = "import sys; sys.modules['dagster'] = None; import docid.dagster"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: docid.dagster needs Dagster: pip install 'docid-store[dagster]'" in done.stderr


def run_example(environment: dict[str, str], *runs: list[str]) -> list[list[str]]:
    """Run the example program in one new process, once for each list of options; return the lines of each run."""
    program = "import sys, json; from examples.dagster_essays.__main__ import main\n"
    program += "for options in json.loads(sys.argv[1]): assert main(options) == 0; print('--')"
    command = [sys.executable, "-W", "ignore", "-c", program, json.dumps(runs)]
    root = Path(__file__).parent.parent
    environment = {**os.environ, **environment}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [printed.splitlines() for printed in done.stdout.split("--\n")[:-1]]


def test_the_example_runs_whole_then_again_then_a_replay(tmp_path: Path) -> None:
    environment = {"ESSAYS_DATA_ROOT": str(tmp_path)}
    assert run_example(environment, ["--fresh"]) == [
        [
            "tables: 1 runs: 4 written",
            "draft: 4 runs: 4 created",
            "essay: 8 runs: 8 created",
            "evaluation: 16 runs: 16 created",
            "scores: 1 runs: 1 written",
        ]
    ]
    # An essay that a model wrote, and one that is a copy of its draft.
    essays = [path.parent for path in (tmp_path / "docs" / "essay").glob("*/metadata.json")]
    written, copied = (
        next(each.name for each in essays if (each / "prompt.txt").exists() is kind) for kind in (True, False)
    )
    again, draft, *replays = run_example(
        environment, [], ["--replay"], *(["--replay", f"essay/{name}"] for name in (written, copied))
    )
    assert again[1:4] == ["draft: 4 runs: 4 kept", "essay: 8 runs: 4 kept, 4 unchanged", "evaluation: 16 runs: 16 kept"]
    assert [line.endswith("replayed: unchanged") for line in draft] == [True]
    assert replays == [[f"essay/{name} replayed: unchanged"] for name in (written, copied)]
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 17
    assert json.loads(next((tmp_path / "docs" / "draft").glob("*/metadata.json")).read_text())["generation_model_name"]


def test_the_example_runs_on_an_object_store_with_one_setting_changed(tmp_path: Path, s3: Moto) -> None:
    url, raw = s3.bucket(), tmp_path / "1_raw"
    # One template and one model make one draft: a run for each document takes its time.
    shutil.copytree(Path(__file__).parent.parent / "examples" / "essays" / "data" / "1_raw", raw)
    for name, line in (("draft_templates.csv", "thread-v1"), ("llm_models.csv", "small-1")):
        lines = (raw / name).read_text().splitlines(keepends=True)
        (raw / name).write_text("".join(each for each in lines if not each.startswith(line)))
    environment = {"ESSAYS_DATA_ROOT": str(tmp_path), "ESSAYS_RAW_DATA": str(raw), "ESSAYS_STORE": url}
    environment |= s3.environment()
    [first] = run_example(environment, [])
    assert first[1:4] == ["draft: 1 runs: 1 created", "essay: 2 runs: 2 created", "evaluation: 4 runs: 4 created"]
    [again] = run_example(environment, [])
    assert again[3] == "evaluation: 4 runs: 4 kept"
    store = DocsStore(url, options=s3.options())
    assert len(list(store.ids("evaluation"))) == 4
    assert not (tmp_path / "docs").exists()


def test_an_io_manager_works_with_a_context_that_a_test_has_built(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    (tmp_path / "draft_tasks.csv").write_text("draft_task_id,doc_id\na,d1\n")
    register_partitions(instance, read_tasks(tmp_path / "draft_tasks.csv", DraftTask))
    docs = DocsStoreResource(root=str(tmp_path / "docs"), tables=str(tmp_path), durability="none")
    context = dg.build_output_context(
        asset_key="draft",
        asset_partitions_def=document_partitions("draft"),
        asset_partition_key_range=dg.PartitionKeyRange("d1", "d1"),
        instance=instance,
    )
    DocsIOManager(docs=docs).handle_output(context, "text")
    assert docs.store().read("draft", "d1").raw_text == "text"

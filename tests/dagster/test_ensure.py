"""`DocsStoreResource.ensure`: model calls, failures, retries and replays."""

import subprocess
import sys
import textwrap
import time
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
    Stages,
    StoredDocument,
    StoreUnavailable,
    read_tasks,
    write_tasks,
)
from docid.dagster import (
    IF_EXISTS_TAG,
    REPLAY_TAG,
    DocsIOManager,
    DocsStoreResource,
    document_partitions,
    register_partitions,
)
from tests.dagster.helpers import DAGSTER_WARNINGS, Pipeline, failure, list_failed_checks, metadata_of

pytestmark = DAGSTER_WARNINGS


def test_document_of_another_parent_fails_the_step(pipeline: Pipeline) -> None:
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
    assert list_failed_checks(checked) == {
        "lineage": ["lineage-conflict"],
        "parent": ["missing-parent"],
        "parts": ["parsed-missing"],
    }


def test_unparsable_reply_is_kept_and_fails_a_check(pipeline: Pipeline) -> None:
    for stage in ("draft", "essay"):
        pipeline.make(stage)
    key = pipeline.key("evaluation")
    assert metadata_of(pipeline.make("evaluation"))["parsed bytes"] == 3
    for parse in (lambda _: None, lambda _: 1 / 0):
        pipeline.parse = parse
        pipeline.model.reply += "!"
        result = pipeline.make("evaluation", if_exists="replace")
        assert result.success
        assert "parsed bytes" not in metadata_of(result)
        assert list_failed_checks(result) == {"parts": ["parsed-missing"]}
        # The replaced version's parsed text went to history with it.
        assert not (pipeline.root / "docs" / "evaluation" / key / "parsed.txt").exists()
    # A child needs the parsed text of its parent.
    pipeline.store.write(Document(stage="draft", doc_id=pipeline.key("draft", 1), task_id="t-1", raw_text="not parsed"))
    message, _ = failure(pipeline.make("essay", 1))
    assert "has no parsed text, which its child needs" in message


@pytest.mark.parametrize(
    ("parse", "parts"),
    [
        pytest.param(float, {"raw", "prompt"}, id="a parser that returns a number"),
        pytest.param(lambda _: "\ud800", {"raw", "prompt"}, id="a parser that returns a surrogate"),
    ],
)
def test_reply_is_kept_if_its_parser_returns_no_text(pipeline: Pipeline, parse: Any, parts: set[str]) -> None:
    for stage in ("draft", "essay"):
        pipeline.make(stage)
    pipeline.parse = parse
    pipeline.model.reply = "7.5"
    result = pipeline.make("evaluation")
    assert result.success
    assert list_failed_checks(result) == {"parts": ["parsed-missing"]}
    assert set(pipeline.store.open("evaluation", pipeline.key("evaluation")).sizes) == parts


def test_replay_needs_no_table(pipeline: Pipeline) -> None:
    for stage in ("draft", "essay"):
        pipeline.make(stage)
    for table in (pipeline.root / "tables").iterdir():
        table.unlink()
    pipeline.model.reply = "another"
    key = pipeline.key("essay")
    before = pipeline.store.read("essay", key)
    job = pipeline.definitions.resolve_job_def("replay_essay")
    result = job.execute_in_process(partition_key=key, instance=pipeline.instance)
    assert metadata_of(result)["outcome"] == "replaced"
    again = pipeline.store.read("essay", key)
    assert (again.prompt_text, again.raw_text) == (before.prompt_text, f"another <{before.prompt_text}>")
    assert list(pipeline.store.history("essay", key)) == [before]
    pipeline.instance.add_dynamic_partitions("draft_documents", ["gone"])
    message, _ = failure(pipeline.run(dg.AssetSelection.assets("draft"), "gone", **{REPLAY_TAG: "true"}))
    assert "draft/gone cannot be replayed" in message


def test_replay_notes_its_run_and_checks_its_tag(pipeline: Pipeline) -> None:
    key = pipeline.key("draft")
    old = Document(
        stage="draft",
        doc_id=key,
        task_id="t-0",
        run_id="r-1",
        raw_text="x",
        prompt_text="p",
        metadata={"model_id": "m"},
    )
    pipeline.store.write(old)
    result = pipeline.run(dg.AssetSelection.assets("draft"), key, **{REPLAY_TAG: "true"})
    assert result.success
    again = pipeline.store.read("draft", key)
    assert (again.run_id, again.raw_text) == (result.run_id, "reply to <p>")
    # What the record does not say is shown, and the row of a table has it.
    columns = "combo_id, draft_template, generation_model_name"
    assert metadata_of(result)["not restored"] == columns
    message, _ = failure(pipeline.run(dg.AssetSelection.assets("draft"), key, **{REPLAY_TAG: "True"}))
    assert "tag docid/replay: expected true or false, got 'True'" in message


def test_replay_without_a_model_calls_none(pipeline: Pipeline) -> None:
    key = pipeline.key("draft")
    pipeline.store.write(Document(stage="draft", doc_id=key, task_id="t-0", raw_text="x", prompt_text="p"))
    message, _ = failure(pipeline.run(dg.AssetSelection.assets("draft"), key, **{REPLAY_TAG: "true"}))
    assert "its record names no model (generation_model or generation_model_name); add it to the record" in message
    assert pipeline.model.calls == []


def test_source_doc_id_sends_stored_prompt(pipeline: Pipeline) -> None:
    pipeline.make("draft")
    source = pipeline.key("draft")
    rows = [DraftTask(task_id="again", doc_id="again1", source_doc_id=source)]
    (pipeline.root / "tables" / "draft_generation_tasks.csv").unlink()
    write_tasks(pipeline.root / "tables" / "draft_tasks.csv", rows)
    register_partitions(pipeline.instance, rows, add_only=True)
    result = pipeline.run(dg.AssetSelection.assets("draft"), "again1")
    assert result.success
    assert pipeline.store.read("draft", "again1").prompt_text == "write t-0"


def test_invalid_document_is_not_retried(pipeline: Pipeline) -> None:
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
    message = run(ensuring)
    [rescued] = pipeline.store.list_rescued()
    assert "raw_text" in message
    assert f"docid saved the reply in {rescued.location}" in message
    assert "an earlier reply waits in" in run(ensuring)
    rescued.discard()
    value.append(None)
    assert "(task_id='t-0') was not written: make() returned None; expected the model's text" in run(ensuring)
    prompt.append(None)
    assert "prompt: expected text, got NoneType (task_id='t-0')" in run(ensuring)
    assert list(pipeline.store.ids("draft")) == []


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        pytest.param(StoreUnavailable("write", "s3://b/draft/d1.json", "no answer", "try again"), 3, id="no-answer"),
        pytest.param(StoreUnavailable("write", "s3://b/d", "not allowed", "see", refused=True), 1, id="refused"),
        pytest.param(DocumentBusy("draft", "d1", "docs/draft/d1", "t-1"), 3, id="busy"),
    ],
)
def test_temporary_error_is_retried(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, error: DocidError, tries: int
) -> None:
    calls: list[str] = []

    def raise_error(*_: object, **__: object) -> None:
        calls.append("asked")
        raise error

    monkeypatch.setattr("docid.integrations.dagster.resource.ensure", raise_error)

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


def test_retried_step_replaces_each_document_once(pipeline: Pipeline) -> None:
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


RACE = textwrap.dedent(
    """
    import sys, time, pathlib, dagster as dg
    from docid import DocsStore, StoredDocument
    from docid.dagster import *

    root, number, start = sys.argv[1], sys.argv[2], float(sys.argv[3])
    docs = DocsStoreResource(root=f"{root}/docs", tables=root, durability="none")

    def model(prompt):
        pathlib.Path(root, f"called-{number}").touch()
        while not (pathlib.Path(root, "started-0").exists() and pathlib.Path(root, "started-1").exists()):
            assert time.time() < start + 60
            time.sleep(0.01)
        time.sleep(0.5)  # the other one finds the claim
        return f"text of {number}"

    @dg.asset(partitions_def=document_partitions("draft"), io_manager_key="documents")
    def draft(context: dg.AssetExecutionContext, docs: DocsStoreResource) -> StoredDocument:
        pathlib.Path(root, f"started-{number}").touch()
        return docs.ensure(context, model, prompt="write")

    with dg.DagsterInstance.from_config(f"{root}/home") as instance:
        result = dg.materialize([draft], instance=instance, partition_key="d1",
                                resources={"docs": docs, "documents": DocsIOManager(docs=docs)})
    [event] = result.get_asset_materialization_events()
    print("OUTCOME", event.materialization.metadata["outcome"].value)
    """
)


def test_one_of_two_racing_runs_calls_the_model(tmp_path: Path, instance: dg.DagsterInstance) -> None:
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
    assert [path.name for path in tmp_path.glob("called-*")] == [f"called-{outcomes.index('created')}"]


def test_ensure_works_with_multiprocess_executor(tmp_path: Path, module: str, instance: dg.DagsterInstance) -> None:
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


def test_resource_without_stages_uses_those_of_the_store(tmp_path: Path) -> None:
    stages = Stages.chain("outline", "chapter")
    DocsStore(tmp_path / "docs", stages=stages).manifest.declare()
    (tmp_path / "outline_tasks.csv").write_text("outline_task_id,doc_id\nt-1,o1\n")
    docs = DocsStoreResource(root=str(tmp_path / "docs"), tables=str(tmp_path))
    assert docs.store().stages == stages
    assert [row.doc_id for row in docs.read_tasks("outline")] == ["o1"]
    assert docs.row_type("chapter").parent_stage == "outline"
    given = DocsStoreResource(root=str(tmp_path / "docs"), tables=str(tmp_path), stages="draft,essay")
    assert list(given.store().stages) == ["draft", "essay"]
    assert given.row_type("essay").parent_stage == "draft"

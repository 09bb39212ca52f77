"""Many partitions in one step, retries, and parsing again."""

import asyncio
import errno
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from docid import DocsStore, Document, DraftTask, EssayTask, Reply, StoredDocument, write_tasks
from docid.dagster import (
    IF_EXISTS_TAG,
    REPARSE_TAG,
    DocsIOManager,
    DocsStoreResource,
    document_partitions,
    reparse_job,
    task_table_asset,
)
from docid.integrations.dagster.resource import find_model_columns
from tests.dagster.helpers import DAGSTER_WARNINGS, Pipeline, failure, metadata_of
from tests.store_documents import draft

pytestmark = DAGSTER_WARNINGS


class Drafts:
    """A table of drafts, and a job of one asset for them."""

    def __init__(self, root: Path, instance: dg.DagsterInstance, count: int = 5) -> None:
        self.instance = instance
        self.docs = DocsStoreResource(root=str(root / "docs"), tables=str(root / "tables"), durability="none")
        self.store = self.docs.store()
        self.resources: Any = {"docs": self.docs, "documents": DocsIOManager(docs=self.docs)}
        self.table = task_table_asset("draft", lambda _: [DraftTask(task_id=f"t{n}") for n in range(count)])
        dg.materialize([self.table], instance=instance, resources=self.resources)
        self.keys = list(instance.get_dynamic_partitions("draft_documents"))
        self.calls: list[str] = []
        self.broken: set[str] = set()

    def generate(self, prompt: str) -> str:
        self.calls.append(prompt)
        if prompt in self.broken:
            raise ConnectionError(f"429 for {prompt}")
        return f"text of {prompt}"

    async def agenerate(self, prompt: str) -> str:
        await asyncio.sleep(0)
        return self.generate(prompt)

    def make_job(self, function: Any, **options: Any) -> dg.JobDefinition:
        asset = dg.asset(
            name="draft",
            partitions_def=document_partitions("draft"),
            io_manager_key="documents",
            backfill_policy=dg.BackfillPolicy.single_run(),
            deps=[self.table],
            **options,
        )(function)
        jobs = [dg.define_asset_job("it", [asset], executor_def=dg.in_process_executor), reparse_job(asset)]
        self.definitions = dg.Definitions(assets=[self.table, asset], resources=self.resources, jobs=jobs)
        return self.definitions.resolve_job_def("it")

    def run(self, job: dg.JobDefinition, *, tags: Mapping[str, str] | None = None) -> dg.ExecuteInProcessResult:
        """Run all partitions in one step."""
        ends = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
        tags = {**dict(zip(ends, (self.keys[0], self.keys[-1]), strict=True)), **(tags or {})}
        return job.execute_in_process(instance=self.instance, tags=tags, raise_on_error=False)


@pytest.fixture
def drafts(tmp_path: Path, instance: dg.DagsterInstance) -> Drafts:
    return Drafts(tmp_path, instance)


def make_many(drafts: Drafts, *, is_async: bool = False, **more: Any) -> Any:
    generate = drafts.agenerate if is_async else drafts.generate

    def draft(context: dg.AssetExecutionContext, docs: DocsStoreResource) -> dict[str, StoredDocument]:
        return docs.ensure_many(context, generate, prompt=lambda row: row.task_id, concurrency=3, **more)

    return draft


@pytest.mark.parametrize("is_async", [True, False])
def test_range_makes_its_calls_together_and_each_once(drafts: Drafts, is_async: bool) -> None:
    job = drafts.make_job(make_many(drafts, is_async=is_async, metadata=lambda row: {"task": row.task_id}))
    assert drafts.run(job).success
    assert sorted(drafts.calls) == [f"t{n}" for n in range(5)]
    documents = {each.task_id: each for each in drafts.store.documents("draft")}
    assert {name: each.raw_text for name, each in documents.items()} == {f"t{n}": f"text of t{n}" for n in range(5)}
    assert documents["t1"].parsed_text == "text of t1"
    assert documents["t1"].metadata == {"task": "t1"}
    assert drafts.run(job).success
    assert len(drafts.calls) == 5


def test_calls_of_a_range_are_bounded(drafts: Drafts) -> None:
    running, most = [0], [0]
    lock = threading.Lock()

    def slow(prompt: str) -> str:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.05)
        with lock:
            running[0] -= 1
        return prompt

    drafts.generate = slow  # type: ignore[method-assign]
    assert drafts.run(drafts.make_job(make_many(drafts))).success
    assert most == [3]


@pytest.mark.parametrize("is_async", [True, False])
def test_failed_range_keeps_what_it_made_and_its_next_run_makes_the_rest(drafts: Drafts, is_async: bool) -> None:
    drafts.broken = {"t1", "t3"}
    job = drafts.make_job(make_many(drafts, is_async=is_async))
    message, _ = failure(drafts.run(job))
    assert "2 of 5 documents failed; the others are stored:" in message
    assert "(task_id='t1'): ConnectionError: 429 for t1" in message
    assert len(list(drafts.store.ids("draft"))) == 3
    drafts.broken, drafts.calls = set(), []
    assert drafts.run(job).success
    assert sorted(drafts.calls) == ["t1", "t3"]


def test_range_that_docid_refuses_is_not_tried_again(drafts: Drafts) -> None:
    drafts.store.write(draft(drafts.keys[1], task_id="another"))
    result = drafts.run(drafts.make_job(make_many(drafts), retry_policy=dg.RetryPolicy(max_retries=2)))
    message, _ = failure(result)
    assert "1 of 5 documents failed" in message
    assert "holds another document" in message
    assert "STEP_UP_FOR_RETRY" not in {event.event_type_value for event in result.all_events}
    assert len(drafts.calls) == 4


def test_replacing_range_that_is_tried_again_pays_once(drafts: Drafts) -> None:
    job = drafts.make_job(make_many(drafts), retry_policy=dg.RetryPolicy(max_retries=1))
    assert drafts.run(job).success
    drafts.calls.clear()
    generate, failed = drafts.generate, list[str]()

    def fail_once(prompt: str) -> str:
        if prompt == "t2" and not failed:
            failed.append(prompt)
            raise ConnectionError("429")
        return generate(prompt)

    drafts.generate = fail_once  # type: ignore[method-assign]
    job = drafts.make_job(make_many(drafts), retry_policy=dg.RetryPolicy(max_retries=1))
    assert drafts.run(job, tags={IF_EXISTS_TAG: "replace"}).success
    assert sorted(drafts.calls) == [f"t{n}" for n in range(5)]
    assert {len(list(drafts.store.history("draft", key))) for key in drafts.keys} == {1}


def test_dict_of_texts_stores_the_good_ones_and_names_the_others(drafts: Drafts) -> None:
    drafts.store.write(draft(drafts.keys[1], task_id="another"))

    def texts(context: dg.AssetExecutionContext) -> dict[str, str]:
        return {key: f"text of {key}" for key in context.partition_keys}

    result = drafts.run(drafts.make_job(texts, retry_policy=dg.RetryPolicy(max_retries=2)))
    message, _ = failure(result)
    assert "1 of 5 documents refused; the others are stored:" in message
    assert f"{drafts.keys[1]}: draft/{drafts.keys[1]} (task_id='t1'" in message
    assert "STEP_UP_FOR_RETRY" not in {event.event_type_value for event in result.all_events}
    assert len(list(drafts.store.ids("draft"))) == 5


# --- Retries of a run --------------------------------------------------------------------------------------------


def make_one(drafts: Drafts) -> Any:
    def draft(context: dg.AssetExecutionContext, docs: DocsStoreResource) -> StoredDocument:
        return docs.ensure(context, drafts.generate, prompt="p")

    return draft


def outcomes(result: Any) -> list[str]:
    """Return the outcomes of the materialisations of a run."""
    return [str(event.materialization.metadata["outcome"].value) for event in result.get_asset_materialization_events()]


def test_queued_replace_whose_first_try_fails_makes_its_text(drafts: Drafts) -> None:
    """Another run replaces the document while the run waits; its own first try fails in the model."""
    job = drafts.make_job(make_one(drafts), retry_policy=dg.RetryPolicy(max_retries=1))
    key = drafts.keys[0]
    replace = {IF_EXISTS_TAG: "replace"}
    assert job.execute_in_process(instance=drafts.instance, partition_key=key).success
    waiting = drafts.instance.create_run_for_job(job, tags={**replace, "dagster/partition": key})
    assert job.execute_in_process(instance=drafts.instance, partition_key=key, tags=replace).success
    generate, failed, before = drafts.generate, list[str](), len(drafts.calls)

    def fail_once(prompt: str) -> str:
        if not failed:
            failed.append(prompt)
            raise ConnectionError("429")
        return f"{generate(prompt)}, third"

    drafts.generate = fail_once  # type: ignore[method-assign]
    from dagster._core.definitions.job_base import InMemoryJob  # noqa: PLC0415 - to run a run that was created before
    from dagster._core.execution.api import execute_run  # noqa: PLC0415 - as above

    job = drafts.make_job(make_one(drafts), retry_policy=dg.RetryPolicy(max_retries=1))
    assert execute_run(InMemoryJob(job), waiting, drafts.instance, raise_on_error=False).success
    assert len(drafts.calls) == before + 1
    assert drafts.store.read("draft", key).raw_text == "text of p, third"
    assert len(list(drafts.store.history("draft", key))) == 2


def test_retry_of_a_whole_run_does_not_pay_again(drafts: Drafts) -> None:
    """A run fails after its document was stored; Dagster starts the run again."""
    key = drafts.keys[0]
    crashes = [True]

    def draft(context: dg.AssetExecutionContext, docs: DocsStoreResource) -> StoredDocument:
        document = docs.ensure(context, drafts.generate, prompt="p")
        if crashes:
            raise RuntimeError("the machine is gone")
        return document

    job = drafts.make_job(draft)
    replace = {IF_EXISTS_TAG: "replace"}
    first = job.execute_in_process(instance=drafts.instance, partition_key=key, tags=replace, raise_on_error=False)
    assert not first.success
    crashes.clear()
    again = {"dagster/root_run_id": first.run_id, "dagster/parent_run_id": first.run_id, **replace}
    run = drafts.instance.create_run_for_job(
        job, tags={**again, "dagster/partition": key}, root_run_id=first.run_id, parent_run_id=first.run_id
    )
    from dagster._core.definitions.job_base import InMemoryJob  # noqa: PLC0415 - to run a run that was created before
    from dagster._core.execution.api import execute_run  # noqa: PLC0415 - as above

    assert execute_run(InMemoryJob(job), run, drafts.instance, raise_on_error=False).success
    assert drafts.calls == ["p"]
    assert drafts.store.read("draft", key).run_id == first.run_id
    # Dagster may name the root run in a tag alone.
    assert job.execute_in_process(instance=drafts.instance, partition_key=key, tags=again).success
    assert drafts.calls == ["p"]


# --- Parsing again -----------------------------------------------------------------------------------------------


def test_fixed_parser_parses_stored_documents_without_a_call(pipeline: Pipeline) -> None:
    def fail(_: str) -> str:
        raise LookupError("no score")

    pipeline.parse = fail
    for stage in ("draft", "essay", "evaluation"):
        assert pipeline.make(stage).success
    key, calls = pipeline.key("evaluation"), len(pipeline.model.calls)
    assert pipeline.store.open("evaluation", key).parsed_text is None
    pipeline.parse = lambda _: "8"
    result = pipeline.make("evaluation")
    assert metadata_of(result)["outcome"] == "completed"
    assert pipeline.store.open("evaluation", key).parsed_text == "8"
    assert len(pipeline.model.calls) == calls


def test_reparse_job_calls_no_model(drafts: Drafts) -> None:
    parse: list[Any] = [lambda _: None]

    def draft(context: dg.AssetExecutionContext, docs: DocsStoreResource) -> StoredDocument:
        return docs.ensure(context, drafts.generate, prompt="p", parse=parse[0])

    drafts.docs = drafts.docs.model_copy(update={"if_exists": "replace"})
    drafts.make_job(draft)
    job, reparse = (drafts.definitions.resolve_job_def(name) for name in ("it", "reparse_draft"))
    one, two, *_ = drafts.keys
    assert job.execute_in_process(instance=drafts.instance, partition_key=one).success
    parse[0] = str.upper
    result = reparse.execute_in_process(instance=drafts.instance, partition_key=one)
    assert outcomes(result) == ["completed"]
    assert drafts.store.open("draft", one).parsed_text == "TEXT OF P"
    assert outcomes(reparse.execute_in_process(instance=drafts.instance, partition_key=one)) == ["kept"]
    message, _ = failure(reparse.execute_in_process(instance=drafts.instance, partition_key=two, raise_on_error=False))
    assert "is not in the store, so there is nothing to parse" in message
    assert drafts.calls == ["p"]


def test_reparse_needs_a_parser(drafts: Drafts) -> None:
    job = drafts.make_job(make_one(drafts))
    tags = {REPARSE_TAG: "true"}
    result = job.execute_in_process(
        instance=drafts.instance, partition_key=drafts.keys[0], tags=tags, raise_on_error=False
    )
    assert "the asset passes no parser to docs.ensure" in failure(result)[0]


def test_document_without_parsed_text_stays_so_without_a_parser(drafts: Drafts) -> None:
    job = drafts.make_job(make_one(drafts))
    drafts.store.write(Document(stage="draft", doc_id=drafts.keys[0], task_id="t0", raw_text="x"))
    assert outcomes(job.execute_in_process(instance=drafts.instance, partition_key=drafts.keys[0])) == ["kept"]


def test_reply_and_source_are_in_the_record(drafts: Drafts) -> None:
    drafts.store.write(draft("0source", task_id="t", prompt_text="stored prompt"))
    table = task_table_asset("draft", lambda _: [DraftTask(task_id="t9", source_doc_id="0source")], add_only=True)
    dg.materialize([table], instance=drafts.instance, resources=drafts.resources)
    [row] = drafts.docs.read_tasks("draft")

    def make(context: dg.AssetExecutionContext, docs: DocsStoreResource) -> StoredDocument:
        return docs.ensure(
            context, lambda prompt: Reply(prompt, metadata={"usage": {"tokens": 7}}), prompt="p", metadata={"a": 1}
        )

    assert drafts.make_job(make).execute_in_process(instance=drafts.instance, partition_key=row.doc_id).success
    document = drafts.store.open("draft", row.doc_id)
    assert document.raw_text == "stored prompt"
    assert document.metadata == {"source_doc_id": "0source", "a": 1, "usage": {"tokens": 7}}


def test_model_of_an_essay_is_in_the_generation_columns() -> None:
    assert find_model_columns(EssayTask) == ["generation_model", "generation_model_name"]


RANGE = """
import os, sys, time
import dagster as dg
from docid import DraftTask
from docid.dagster import DocsIOManager, DocsStoreResource, document_partitions, task_table_asset

root = sys.argv[1]
docs = DocsStoreResource(root=f"{root}/docs", tables=f"{root}/tables", durability="none")
table = task_table_asset("draft", lambda _: [DraftTask(task_id=f"t{n}") for n in range(60)])

def model(prompt):
    os.write(1, f"call {prompt}\\n".encode())
    time.sleep(0.05)
    return "text"

@dg.asset(
    partitions_def=document_partitions("draft"), io_manager_key="documents", backfill_policy=dg.BackfillPolicy.single_run()
)
def draft(context: dg.AssetExecutionContext, docs: DocsStoreResource):
    return docs.ensure_many(context, model, prompt=lambda row: row.task_id, concurrency=4)

resources = {"docs": docs, "documents": DocsIOManager(docs=docs)}
with dg.DagsterInstance.from_config(f"{root}/home") as instance:
    dg.materialize([table], instance=instance, resources=resources)
    keys = list(instance.get_dynamic_partitions("draft_documents"))
    ends = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    tags = dict(zip(ends, (keys[0], keys[-1])))
    dg.materialize([table, draft], selection=["draft"], instance=instance, resources=resources, tags=tags)
"""


def test_killed_range_makes_the_missing_calls_alone(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    command = [sys.executable, "-W", "ignore", "-c", RANGE, str(tmp_path)]
    store = DocsStore(tmp_path / "docs", durability="none")

    def read_calls(process: subprocess.Popen[str], most: int) -> list[str]:
        assert process.stdout is not None
        return list(islice((line for line in process.stdout if line.startswith("call ")), most))

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert len(read_calls(process, 20)) == 20
        process.kill()
    missing = 60 - len(list(store.ids("draft")))
    assert 40 <= missing < 60
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        calls = read_calls(process, 100)
    assert process.returncode == 0
    assert len(set(calls)) == len(calls) == missing
    assert len(list(store.ids("draft"))) == 60


# --- Some documents of a step fail -------------------------------------------------------------------------------


def test_row_that_is_missing_stops_no_other(drafts: Drafts) -> None:
    gone = drafts.keys[1]
    rows = [row for row in drafts.docs.read_tasks("draft") if row.doc_id != gone]
    write_tasks(Path(drafts.docs.tables, "draft_tasks.csv"), rows, row_type=DraftTask)
    job = drafts.make_job(make_many(drafts))
    message, _ = failure(drafts.run(job))
    assert message.startswith(f"1 of 5 documents failed; the others are stored:\n{gone}: ")
    assert "no row with doc id" in message
    assert len(drafts.calls) == 4


def test_only_some_failures_are_listed(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    drafts = Drafts(tmp_path, instance, count=30)
    drafts.broken = {f"t{n}" for n in range(30)}
    message, _ = failure(drafts.run(drafts.make_job(make_many(drafts))))
    assert message.startswith("30 of 30 documents failed:\n")
    assert message.endswith("\n… and 10 more")


def test_model_may_ask_for_another_try(drafts: Drafts) -> None:
    generate = drafts.generate

    def ask(prompt: str) -> str:
        text = generate(prompt)
        if drafts.calls.count("t1") < 3 and prompt == "t1":
            raise dg.RetryRequested(max_retries=3)
        return text

    drafts.generate = ask  # type: ignore[method-assign]
    assert drafts.run(drafts.make_job(make_many(drafts))).success
    assert sorted(drafts.calls) == ["t0", "t1", "t1", "t1", "t2", "t3", "t4"]


def test_async_calls_see_the_context_of_the_asset(drafts: Drafts) -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="none")

    async def call(prompt: str) -> str:
        return tenant.get()

    def draft(context: dg.AssetExecutionContext, docs: DocsStoreResource) -> dict[str, StoredDocument]:
        tenant.set("seaside")
        return docs.ensure_many(context, call, prompt="p")

    assert drafts.run(drafts.make_job(draft)).success
    assert {each.raw_text for each in drafts.store.documents("draft")} == {"seaside"}


def test_dict_of_texts_stores_what_it_can(drafts: Drafts, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three, four, five = drafts.keys
    write = DocsStore.write

    def fail_once(store: DocsStore, document: Document, **more: Any) -> Any:
        if document.doc_id == three:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(store, document, **more)

    def draft(context: dg.AssetExecutionContext) -> dict[Any, Any]:
        return {one: "text", three: "text", "other": "text", four: None, five: "text"}

    monkeypatch.setattr(DocsStore, "write", fail_once)
    message, _ = failure(drafts.run(drafts.make_job(draft)))
    assert message.startswith("4 of 6 documents refused; the others are stored:\n")
    for line in (
        f"{two}: the asset returned no document of this partition",
        f"{three}: OSError: [Errno 28] No space left",
        f"{four}: ",
        "'other': not a partition of this step",
    ):
        assert f"\n{line}" in message
    assert set(drafts.store.ids("draft")) == {one, five}


def test_reparse_stores_no_new_text(drafts: Drafts) -> None:
    def draft(context: dg.AssetExecutionContext) -> str:
        return "a text that was paid for"

    job, key = drafts.make_job(draft), drafts.keys[0]
    tags = {REPARSE_TAG: "true"}
    result = job.execute_in_process(instance=drafts.instance, partition_key=key, tags=tags, raise_on_error=False)
    assert "a run with the tag docid/reparse stores no new text" in failure(result)[0]
    assert not drafts.store.exists("draft", key)


STOPPED = RANGE.replace("def model(prompt):", "async def model(prompt):").replace(
    "    time.sleep(0.05)", "    await asyncio.sleep(0.2)"
)


def test_interrupt_starts_no_more_async_calls(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    command = [sys.executable, "-W", "ignore", "-c", "import asyncio\n" + STOPPED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for _ in range(8):
            next(line for line in process.stdout if line.startswith("call "))
        process.send_signal(signal.SIGINT)
        calls = 8 + sum(line.startswith("call ") for line in process.stdout)
    assert calls < 40
    assert len(list(DocsStore(tmp_path / "docs").ids("draft"))) == calls


def test_range_needs_a_dict(drafts: Drafts) -> None:
    def draft(context: dg.AssetExecutionContext) -> str:
        return "a text"

    message, _ = failure(drafts.run(drafts.make_job(draft)))
    assert message == "expected the asset to return a dict with one document per partition (5 partitions)"


def test_missing_table_is_one_failure(drafts: Drafts) -> None:
    Path(drafts.docs.tables, "draft_tasks.csv").unlink()
    message, _ = failure(drafts.run(drafts.make_job(make_many(drafts))))
    assert "no task table for stage draft" in message
    assert "documents failed" not in message

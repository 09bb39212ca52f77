"""Assets whose documents are made from inputs, and the versions that the records name."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from docid import DocsStore, Document, DraftTask, EssayTask, Stages, StoredDocument, TaskRow, reserve_tasks, write_tasks
from docid.dagster import (
    DocsIOManager,
    DocsStoreResource,
    document_checks,
    document_partitions,
    parent_input,
    register_partitions,
    task_table_asset,
)
from tests.dagster.helpers import DAGSTER_WARNINGS, Pipeline, list_failed_checks, metadata_of

pytestmark = DAGSTER_WARNINGS

STAGES = "answer,judgement:"


class Arena:
    """A store with answers, the table of a judgement of each pair, and an asset of the judgements."""

    def __init__(self, root: Path, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.docs = DocsStoreResource(root=str(root / "docs"), tables=str(root), stages=STAGES, durability="none")
        self.store = DocsStore(root / "docs", stages=Stages.parse(STAGES), durability="none")
        self.store.write_many(self.answer(name) for name in ("a1", "a2", "a3"))
        judgement = TaskRow.of("judgement")
        pairs = [("a1", "a2"), ("a1", "a3")]
        rows = [
            judgement(task_id=f"{one}-{two}", input_doc_ids=(f"answer/{one}", f"answer/{two}")) for one, two in pairs
        ]
        self.rows = list(reserve_tasks(rows, judgement))
        write_tasks(root / "judgement_tasks.csv", self.rows)
        (root / "answer_tasks.csv").write_text("answer_task_id,doc_id\nt-a1,a1\nt-a2,a2\nt-a3,a3\n")
        for stage in ("answer", "judgement"):
            register_partitions(instance, self.docs.read_tasks(stage))

    def answer(self, name: str, text: str = "") -> Document:
        return Document(stage="answer", doc_id=name, task_id=f"t-{name}", raw_text=text, parsed_text=text or name)

    def make(self, function: Any, *, key: str | None = None, keys: tuple[str, str] | None = None) -> Any:
        """Materialise the judgements with this function as their asset."""

        @dg.asset(partitions_def=document_partitions("answer"), io_manager_key="documents")
        def answer() -> None: ...

        judgement = dg.asset(
            name="judgement",
            partitions_def=document_partitions("judgement"),
            ins={"inputs": parent_input("answer")},
            io_manager_key="documents",
            backfill_policy=dg.BackfillPolicy.single_run(),
        )(function)
        tags = {}
        if keys is not None:
            names = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
            tags = dict(zip(names, keys, strict=True))
        definitions = dg.Definitions(
            assets=[answer, judgement],
            asset_checks=[document_checks("judgement")],
            resources={"docs": self.docs, "documents": DocsIOManager(docs=self.docs)},
            jobs=[dg.define_asset_job("it", [judgement.key])],
        )
        job = definitions.resolve_job_def("it")
        return job.execute_in_process(instance=self.instance, partition_key=key, tags=tags, raise_on_error=False)


@pytest.fixture
def arena(tmp_path: Path, instance: dg.DagsterInstance) -> Arena:
    return Arena(tmp_path, instance)


def test_parameter_inputs_has_the_texts_of_the_inputs_in_order(arena: Arena) -> None:
    def judge(context: dg.AssetExecutionContext, docs: DocsStoreResource, inputs: list[str]) -> StoredDocument:
        assert docs.task(context).input_doc_ids == ("answer/a1", "answer/a2")
        return docs.ensure(context, str.upper, prompt=" or ".join(inputs))

    [row, _] = arena.rows
    result = arena.make(judge, key=row.doc_id)
    assert result.success
    assert list_failed_checks(result) == {}
    assert metadata_of(result)["inputs"] == "answer/a1 answer/a2"
    document = arena.store.open("judgement", row.doc_id)
    assert (document.raw_text, document.inputs) == ("A1 OR A2", row.input_doc_ids)
    assert document.pins == {f"answer/{name}": arena.store.open("answer", name).pin for name in ("a1", "a2")}
    # A check reports an input that was replaced.
    arena.store.write(arena.answer("a2", "new"), if_exists="replace")
    result = arena.make(judge, key=row.doc_id)
    assert "input-changed" in str(list_failed_checks(result))


@pytest.mark.parametrize("kind", [StoredDocument, Document])
def test_parameter_inputs_may_be_documents(arena: Arena, kind: type) -> None:
    def judge(docs: DocsStoreResource, inputs: Any) -> str:
        assert [type(each) for each in inputs] == [kind, kind]
        return " or ".join(each.doc_id for each in inputs)

    judge.__annotations__["inputs"] = list[kind]  # type: ignore[valid-type]
    assert arena.make(judge, key=arena.rows[1].doc_id).success
    assert arena.store.read("judgement", arena.rows[1].doc_id).raw_text == "a1 or a3"


def test_range_has_the_inputs_of_each_partition(arena: Arena) -> None:
    def judge(inputs: dict[str, Any]) -> dict[str, str]:
        return {key: " or ".join(texts) for key, texts in inputs.items()}

    keys = [row.doc_id for row in arena.rows]
    assert arena.make(judge, keys=(keys[0], keys[1])).success
    assert [arena.store.read("judgement", key).raw_text for key in keys] == ["a1 or a2", "a1 or a3"]


def test_missing_input_fails_before_the_asset_runs(arena: Arena) -> None:
    (arena.store.path("answer", "a2") / "metadata.json").unlink()

    def judge(inputs: list[str]) -> str:
        raise AssertionError("the model was called")

    result = arena.make(judge, key=arena.rows[0].doc_id)
    assert not result.success
    assert list(arena.store.ids("judgement")) == []


def test_check_reports_a_missing_input(arena: Arena) -> None:
    [row, _] = arena.rows
    arena.store.write(Document.from_task(row, raw_text="x", parsed_text="x"))

    def judge(context: dg.AssetExecutionContext, docs: DocsStoreResource, inputs: list[str]) -> StoredDocument:
        document = docs.store().open("judgement", row.doc_id)
        for name in ("metadata.json", "raw.txt", "parsed.txt"):
            (arena.store.path("answer", "a2") / name).unlink()
        return document

    assert "missing-input" in str(list_failed_checks(arena.make(judge, key=row.doc_id)))


@pytest.mark.parametrize("returns_text", [True, False])
def test_record_names_the_version_that_dagster_loaded(arena: Arena, *, returns_text: bool) -> None:
    """Another process replaces an input after Dagster has loaded it, and before the document is written."""

    def judge(context: dg.AssetExecutionContext, docs: DocsStoreResource, inputs: list[str]) -> Any:
        arena.store.write(arena.answer("a2", "new"), if_exists="replace")
        text = " or ".join(inputs)
        return text if returns_text else docs.ensure(context, str.upper, prompt=text)

    [row, _] = arena.rows
    old = {f"answer/{name}": arena.store.open("answer", name).pin for name in ("a1", "a2")}
    result = arena.make(judge, key=row.doc_id)
    assert result.success
    assert arena.store.open("judgement", row.doc_id).pins == old
    assert "input-changed" in str(list_failed_checks(result))


def test_record_names_the_parent_that_dagster_loaded(pipeline: Pipeline) -> None:
    assert pipeline.make("draft").success
    key = pipeline.key("draft")
    old = pipeline.store.open("draft", key)

    @dg.asset(partitions_def=document_partitions("essay"), ins={"draft": parent_input()}, io_manager_key="documents")
    def essay(context: dg.AssetExecutionContext, docs: DocsStoreResource, draft: str) -> StoredDocument:
        new = Document(stage="draft", doc_id=key, task_id=old.task_id, raw_text="new", parsed_text="new")
        pipeline.store.write(new, if_exists="replace")
        return docs.ensure(context, pipeline.model, prompt=draft)

    result = dg.materialize(
        [pipeline.assets["draft"], essay],
        selection=[essay],
        instance=pipeline.instance,
        partition_key=pipeline.key("essay"),
        resources={"docs": pipeline.docs, "documents": DocsIOManager(docs=pipeline.docs)},
    )
    assert result.success
    assert pipeline.store.open("essay", pipeline.key("essay")).pins == {key: old.pin}


def test_asset_that_returns_other_inputs_is_refused(arena: Arena) -> None:
    [row, other] = arena.rows

    def judge(inputs: list[str]) -> Document:
        return Document(
            stage="judgement", doc_id=row.doc_id, task_id=row.task_id, raw_text="x", inputs=other.input_doc_ids
        )

    result = arena.make(judge, key=row.doc_id)
    assert not result.success
    events = " ".join(str(event.event_specific_data) for event in result.all_events if event.is_failure)
    assert "with inputs=('answer/a1', 'answer/a3'); expected ('answer/a1', 'answer/a2')" in events


def test_row_of_another_class_has_no_inputs() -> None:
    assert EssayTask(task_id="t").input_doc_ids == ()


@pytest.mark.parametrize("library", ["", "pandas", "polars", "pyarrow"])
def test_table_asset_is_an_input(tmp_path: Path, instance: dg.DagsterInstance, library: str) -> None:
    docs = DocsStoreResource(root=str(tmp_path / "docs"), tables=str(tmp_path / "tables"), durability="none")
    table = task_table_asset("draft", lambda _: [DraftTask(task_id="t-1", combo_id="c-1")], io_manager_key="documents")
    found: list[Any] = []

    def summary(draft_tasks: Any) -> None:
        found.append(draft_tasks)

    if library:
        frames = pytest.importorskip(library)
        summary.__annotations__["draft_tasks"] = getattr(frames, "DataFrame", None) or frames.Table
    else:
        summary.__annotations__["draft_tasks"] = list[DraftTask]
    resources: Any = {"docs": docs, "documents": DocsIOManager(docs=docs)}
    assert dg.materialize([table, dg.asset(summary)], instance=instance, resources=resources).success
    [rows] = found
    if not library:
        assert [row.task_id for row in rows] == ["t-1"]
        return
    assert type(rows).__module__.partition(".")[0] == library
    assert [str(each) for each in rows["combo_id"]] == ["c-1"]


def test_cohorts_have_a_table_directory_each(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """Two resources share a store and have tables of their own; their assets take them by key."""

    def build(name: str) -> Any:
        return lambda _: [DraftTask(task_id=f"{name}-1")]

    docs = {
        name: DocsStoreResource(root=str(tmp_path / "docs"), tables=str(tmp_path / name), durability="none")
        for name in ("spring", "autumn")
    }
    for name, resource in docs.items():
        table = task_table_asset("draft", build(name), resource=name, add_only=True)
        dg.materialize([table], instance=instance, resources={name: resource})
    keys = list(instance.get_dynamic_partitions("draft_documents"))
    assert len(keys) == 2

    @dg.asset(
        name="autumn_draft",
        partitions_def=document_partitions("draft"),
        required_resource_keys={"autumn"},
        io_manager_key="documents",
    )
    def draft(context: dg.AssetExecutionContext) -> StoredDocument:
        document: StoredDocument = context.resources.autumn.ensure(context, str.upper, prompt="p")
        return document

    resources: Any = {"autumn": docs["autumn"], "documents": DocsIOManager(docs=docs["autumn"])}
    assert dg.materialize([draft], instance=instance, resources=resources, partition_key=keys[1]).success
    assert docs["spring"].store().open("draft", keys[1]).task_id == "autumn-1"

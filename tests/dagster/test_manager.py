"""The IO manager: it stores the values that assets return, and gives children the texts of their parents."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from docid import DocsStore, Document, DraftTask, StoredDocument, read_tasks
from docid.dagster import (
    TASK_TAG,
    DocsIOManager,
    DocsStoreResource,
    document_partitions,
    parent_input,
    register_partitions,
)
from docid.integrations.dagster.resource import load_row_in_run
from tests.dagster.helpers import DAGSTER_WARNINGS, Pipeline, failure, list_failed_checks, metadata_of

pytestmark = DAGSTER_WARNINGS


def test_assets_store_documents_of_their_rows_once(pipeline: Pipeline) -> None:
    for stage in pipeline.assets:
        for number in range(2):
            result = pipeline.make(stage, number)
            assert result.success
            assert list_failed_checks(result) == {}
            assert len(result.get_asset_check_evaluations()) == 4
            key = pipeline.key(stage, number)
            row = load_row_in_run(pipeline.docs, stage, key, {})
            path = pipeline.root / "docs" / stage / key
            assert (path / "metadata.json").is_file()
            seen = metadata_of(result)
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
    assert (metadata_of(result)["outcome"], len(pipeline.model.calls)) == ("kept", 6)
    assert pipeline.store.read("essay", essay.doc_id) == before
    result = pipeline.make("essay", if_exists="replace")
    assert (metadata_of(result)["outcome"], len(pipeline.model.calls)) == ("replaced", 7)
    assert pipeline.store.read("essay", essay.doc_id).raw_text.startswith("another")
    assert list(pipeline.store.history("essay", essay.doc_id)) == [before]


def test_return_values_of_assets(tmp_path: Path, instance: dg.DagsterInstance) -> None:
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

    def make_manager(if_exists: str) -> DocsIOManager:
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

    assert metadata_of(run("text"))["outcome"] == "created"
    document = store.read("draft", "d1")
    assert (document.raw_text, document.parsed_text, document.task_id) == ("text", "text", "a")
    assert metadata_of(run("text"))["outcome"] == "unchanged"
    assert metadata_of(run("other"))["outcome"] == "kept"
    whole = Document(stage="draft", doc_id="d1", task_id="a", raw_text="whole", prompt_text="p")
    strict = make_manager("fail")
    message, facts = failure(run(whole, documents=strict))
    assert "has other raw, parsed and prompt texts" in message
    assert facts["doc_id"] == "d1"
    replacing = make_manager("replace")
    assert metadata_of(run(whole, documents=replacing))["outcome"] == "replaced"
    assert metadata_of(run(store.open("draft", "d1")))["outcome"] == "kept"
    wrong = make_manager("overwrite")
    assert "if_exists: expected fail, keep, replace, got 'overwrite'" in failure(run("x", documents=wrong))[0]
    assert "the asset returned NoneType; expected text" in failure(run(None))[0]
    assert (
        "the asset returned the document draft/d1 with doc_id='d1'; expected 'd2', as in the row of its partition"
        in (failure(run(whole, key="d2"))[0])
    )
    message = failure(run({"d2": "x"}))[0]
    assert "2 of 2 documents refused:\nd1: the asset returned no document of this partition" in message
    assert "'d2': not a partition of this step" in message
    assert metadata_of(run({"d1": "x"})) == {"documents": 1, "kept": 1}
    assert "has no document partitions" in failure(run("x", plain, None))[0]
    assert "has no document partitions" in failure(run("x", other))[0]
    instance.add_dynamic_partitions("draft_documents", ["d3"])
    assert "no row with doc id d3; materialise the table again" in failure(run("x", key="d3"))[0]


def test_one_run_of_many_partitions(pipeline: Pipeline) -> None:
    docs, model = pipeline.docs, pipeline.model

    @dg.asset(
        name="draft",
        partitions_def=document_partitions("draft"),
        io_manager_key="documents",
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def drafts(context: dg.AssetExecutionContext, docs: DocsStoreResource) -> dict[str, StoredDocument]:
        with pytest.raises(dg.Failure, match="3 partitions; pass doc_id"):
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


def test_input_may_be_a_whole_document(pipeline: Pipeline) -> None:
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
    assert "has no document partitions" in failure(run(wrong, None))[0]
    # A parent that is not there yet.
    message, facts = failure(run(opened, pipeline.key("essay", 1)))
    assert "not in the store" in message or "no document" in message
    assert facts["stage"] == "draft"


def test_input_of_one_partition_is_a_dict_if_annotated(pipeline: Pipeline) -> None:
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


def test_document_of_another_lineage_or_store_is_refused(pipeline: Pipeline, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("is_legacy", [False, True])
def test_document_without_its_parent_is_refused_unless_legacy(pipeline: Pipeline, *, is_legacy: bool) -> None:
    pipeline.make("draft")
    key = pipeline.key("essay")
    if is_legacy:
        path = pipeline.root / "docs" / "essay" / key
        path.mkdir(parents=True)
        (path / "raw.txt").write_text("x")
        (path / "metadata.json").write_text('{"task_id": "t-0__x"}')
    else:
        essay = Document(stage="essay", doc_id=key, task_id="t-0__x", raw_text="x")
        pipeline.store.write(essay, require_parent=False)

    @dg.asset(name="essay", partitions_def=document_partitions("essay"), io_manager_key="documents")
    def returning() -> Any:
        return pipeline.store.open("essay", key)

    resources = {"documents": DocsIOManager(docs=pipeline.docs)}
    result = dg.materialize(
        [returning], instance=pipeline.instance, partition_key=key, resources=resources, raise_on_error=False
    )
    if is_legacy:
        assert metadata_of(result)["outcome"] == "kept"
    else:
        assert f"with parent_doc_id=None; expected '{pipeline.key('draft')}', as in the row" in failure(result)[0]


def test_io_manager_works_with_a_built_context(tmp_path: Path, instance: dg.DagsterInstance) -> None:
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

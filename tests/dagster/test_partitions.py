"""Doc ids as partition keys, and the task tables that they come from."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from docid import DraftTask, EssayTask, EvaluationTask, InvalidName, StoredDocument, TaskRow, audit, read_tasks
from docid.dagster import (
    DocsIOManager,
    DocsStoreResource,
    document_partitions,
    parent_input,
    register_partitions,
    task_table_asset,
)
from tests.dagster.helpers import DAGSTER_WARNINGS, Pipeline, failure, list_failed_checks, metadata_of

pytestmark = DAGSTER_WARNINGS


def test_partitions_are_registered_once(tmp_path: Path, instance: dg.DagsterInstance) -> None:
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
    # A table without rows still has a stage.
    (tmp_path / "essay_tasks.csv").write_text("essay_task_id,parent_doc_id,doc_id\n")
    empty = read_tasks(tmp_path / "essay_tasks.csv", EssayTask)
    assert register_partitions(instance, empty) == {"essay": ((), ("e1",), 0)}


def test_rebuilt_table_has_the_same_ids(pipeline: Pipeline) -> None:
    path = pipeline.root / "tables" / "evaluation_tasks.csv"
    before, keys = path.read_bytes(), pipeline.instance.get_dynamic_partitions("evaluation_documents")
    result = pipeline.run(dg.AssetSelection.assets("evaluation_tasks"))
    assert path.read_bytes() == before
    assert pipeline.instance.get_dynamic_partitions("evaluation_documents") == keys
    assert metadata_of(result) == {
        "path": str(path),
        "rows": 3,
        "partitions added": 0,
        "partitions removed": 0,
        "partitions kept": 3,
        "existing documents": 0,
        "shown as materialised": 0,
    }


def test_tables_may_have_another_delimiter(pipeline: Pipeline) -> None:
    tables = pipeline.root / "tables"
    for name in ("draft_generation_tasks.csv", "essay_tasks.csv"):
        (tables / name).write_text((tables / name).read_text().replace(",", ";"))
    assert [row.cell("combo_id") for row in pipeline.docs.read_tasks("draft")] == ["c-0", "c-1", "c-2"]
    assert pipeline.make("draft").success
    assert pipeline.make("essay").success
    copied = task_table_asset("draft", lambda docs: list(docs.read_tasks("draft")), name="draft_generation_tasks")
    streamed = task_table_asset("draft", lambda docs: docs.read_tasks("draft"), name="draft_generation_tasks")
    for table, first in ((streamed, "draft_task_id;combo_id"), (copied, "draft_task_id,combo_id")):
        resources = {"docs": pipeline.docs}
        assert dg.materialize([table], instance=pipeline.instance, resources=resources).success
        assert (tables / "draft_generation_tasks.csv").read_text().startswith(first)


def test_table_asset_refuses_second_table_of_its_stage(pipeline: Pipeline) -> None:
    second = pipeline.root / "tables" / "draft_tasks.csv"
    second.write_text("draft_task_id,doc_id\n")
    message, _ = failure(pipeline.run(dg.AssetSelection.assets("draft_generation_tasks")))
    assert "draft_tasks.csv is also a task table of stage draft; expected only draft_generation_tasks.csv" in message


def test_table_asset_names_faulty_rows(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    docs = DocsStoreResource(root=str(tmp_path / "docs"), tables=str(tmp_path / "tables"))
    table = task_table_asset("draft", lambda _: [DraftTask(task_id="t-1"), DraftTask(task_id=" t-2")])
    message, facts = failure(dg.materialize([table], instance=instance, resources={"docs": docs}, raise_on_error=False))
    assert "row 2, column draft_task_id: ' t-2'; leading or trailing white space" in message
    assert "correct the table, or the function that builds its rows" in facts["what to do"]
    assert list((tmp_path / "tables").iterdir()) == []


def test_table_asset_refuses_invalid_name() -> None:
    with pytest.raises(ValueError, match="name: expected draft_tasks or draft_generation_tasks, got 'drafts'"):
        task_table_asset("draft", lambda _: [], name="drafts")


def test_resource_names_missing_table(tmp_path: Path) -> None:
    docs = DocsStoreResource(root=str(tmp_path), tables=str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="no task table for stage draft; expected either draft_tasks.csv"):
        docs.table("draft")
    (tmp_path / "draft_tasks.csv").touch()
    (tmp_path / "draft_generation_tasks.csv").touch()
    with pytest.raises(FileNotFoundError, match=r"several task tables \(draft_generation_tasks.csv, draft_tasks.csv\)"):
        DocsStoreResource(root="x", tables=str(tmp_path)).table("draft")


def gone(table: Path) -> None:
    table.unlink()


def faulty(table: Path) -> None:
    table.write_text("draft_task_id,doc_id\na,Not An Id\nb,Nor This\n")


def no_file(table: Path) -> None:
    table.unlink()
    table.mkdir()


@pytest.mark.parametrize(
    ("spoil", "tries", "expected"),
    [
        pytest.param(gone, 1, "no task table for stage draft; expected either draft_tasks.csv or", id="gone"),
        pytest.param(faulty, 1, "2 problems:\n", id="faulty"),
        pytest.param(no_file, 3, "cannot read the table of stage draft: ", id="unreadable"),
    ],
)
def test_unusable_table_fails_step_and_check(pipeline: Pipeline, spoil: Any, tries: int, expected: str) -> None:
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
        assert expected in message
        assert (spoil is faulty) == ("correct the table" in facts.get("what to do", ""))
        assert len(calls) == tries

    checked = pipeline.run(dg.AssetSelection.checks(pipeline.checks["draft"]), pipeline.key("draft"))
    assert checked.success
    assert list_failed_checks(checked) == {"lineage": ["missing-row"]}
    [lineage] = [each for each in checked.get_asset_check_evaluations() if each.check_name == "lineage"]
    assert expected in str(lineage.description)


def test_step_keeps_its_row_if_the_table_changes(pipeline: Pipeline) -> None:
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
        # The table is rebuilt while the model writes, and gives the essay another parent.
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
    assert metadata_of(run)["parent_doc_id"] == one
    # The check uses the current table.
    result = pipeline.run(dg.AssetSelection.checks(pipeline.checks["essay"]), key)
    assert list_failed_checks(result) == {"lineage": ["lineage-conflict"]}


def test_table_is_found_despite_coarse_directory_times(tmp_path: Path) -> None:
    docs = DocsStoreResource(root="memory://", tables=str(tmp_path))
    for stage in ("draft", "essay"):
        (tmp_path / f"{stage}_tasks.csv").touch()
        os.utime(tmp_path, (1, 1))
        assert docs.table(stage) == str(tmp_path / f"{stage}_tasks.csv")


@pytest.mark.parametrize(("name", "requested"), [("on_missing", 1), ("eager", 3)])
def test_new_row_is_run_by_automation(tmp_path: Path, instance: dg.DagsterInstance, name: str, requested: int) -> None:
    """`on_missing` requests the new partition, and `eager` all; essays wait for all drafts."""
    tasks = ["t1", "t2"]
    condition = getattr(dg.AutomationCondition, name)()
    drafts = task_table_asset("draft", lambda _: [DraftTask(task_id=each) for each in tasks])
    essays = task_table_asset(
        "essay", lambda _: [EssayTask(task_id=f"{each}__x", draft_task_id=each) for each in tasks], deps=[drafts]
    )

    @dg.asset(
        partitions_def=document_partitions("draft"),
        deps=[drafts],
        io_manager_key="documents",
        automation_condition=condition,
    )
    def draft(context: dg.AssetExecutionContext, docs: DocsStoreResource) -> StoredDocument:
        return docs.ensure(context, str.upper, prompt="p")

    @dg.asset(
        partitions_def=document_partitions("essay"),
        deps=[essays],
        ins={"draft": parent_input()},
        io_manager_key="documents",
        automation_condition=condition,
    )
    def essay(context: dg.AssetExecutionContext, docs: DocsStoreResource, draft: str) -> StoredDocument:
        return docs.ensure(context, str.upper, prompt=draft)

    docs = DocsStoreResource(root=str(tmp_path / "docs"), tables=str(tmp_path / "tables"), durability="none")
    resources: Any = {"docs": docs, "documents": DocsIOManager(docs=docs)}
    assets = [drafts, essays, draft, essay]
    definitions, cursor = dg.Definitions(assets=assets, resources=resources), None

    def count_requests() -> tuple[int, int]:
        nonlocal cursor
        result = dg.evaluate_automation_conditions(definitions, instance, cursor=cursor)
        cursor = result.cursor
        counts = [len(result.get_requested_partitions(dg.AssetKey(each))) for each in ("draft", "essay")]
        return counts[0], counts[1]

    def materialize(*names: str, **more: Any) -> None:
        assert dg.materialize(assets, selection=names, instance=instance, resources=resources, **more).success

    assert count_requests() == (0, 0)
    materialize("draft_tasks", "essay_tasks")
    assert count_requests() == (2, 0)
    one, two = instance.get_dynamic_partitions("draft_documents")
    materialize("draft", partition_key=one)
    assert count_requests() == (0, 0)
    materialize("draft", partition_key=two)
    assert count_requests() == (0, 2)
    tasks.append("t3")
    materialize("draft_tasks", "essay_tasks")
    assert count_requests() == (requested, 0)


def make_tables(
    root: Path, instance: dg.DagsterInstance, *tables: dg.AssetsDefinition
) -> tuple[DocsStoreResource, dg.ExecuteInProcessResult]:
    docs = DocsStoreResource(root=str(root / "docs"), tables=str(root / "tables"), durability="none")
    return docs, dg.materialize([*tables], instance=instance, resources={"docs": docs}, raise_on_error=False)


def build_drafts(_: DocsStoreResource) -> Iterator[TaskRow]:
    return (DraftTask(task_id=f"t-{n}") for n in range(2))


def build_essays(_: DocsStoreResource) -> Iterator[TaskRow]:
    return (EssayTask(task_id=f"t-{n}__x", draft_task_id=f"t-{n}") for n in range(2))


def test_table_asset_makes_replicates_of_each_parent(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    def build_evaluations(docs: DocsStoreResource) -> Iterator[TaskRow]:
        for row in docs.read_tasks("essay"):  # a row for each essay, which names its parent
            yield EvaluationTask(task_id=f"{row.doc_id}__kind", parent_doc_id=row.doc_id)

    def make(drafts: int) -> tuple[list[TaskRow], ...]:
        docs, result = make_tables(
            tmp_path,
            instance,
            task_table_asset("draft", build_drafts, replicates=drafts),
            task_table_asset("essay", build_essays, deps=["draft_tasks"], replicates=2),
            task_table_asset("evaluation", build_evaluations, deps=["essay_tasks"], replicates=3),
        )
        assert result.success
        return tuple(list(docs.read_tasks(stage)) for stage in ("draft", "essay", "evaluation"))

    drafts, essays, evaluations = before = make(2)
    assert [len(rows) for rows in before] == [4, 8, 24]
    assert [row.doc_salt for row in drafts] == [None, "2"] * 2
    assert [row.doc_salt for row in essays] == [None, "1.2", "2", "2.2"] * 2
    assert [row.parent_doc_id for row in essays] == [row.doc_id for row in drafts for _ in range(2)]
    assert [row.doc_salt for row in evaluations[:4]] == [None, "1.1.2", "1.1.3", None]
    assert [row.parent_doc_id for row in evaluations] == [row.doc_id for row in essays for _ in range(3)]
    assert set(instance.get_dynamic_partitions("essay_documents")) == {row.doc_id for row in essays}
    for rows, later in zip(before, make(3), strict=True):
        assert {row.doc_id for row in rows} < {row.doc_id for row in later}
    documents = {"draft": drafts, "essay": essays, "evaluation": evaluations}
    assert audit(None, documents).findings == ()


def test_rows_that_copy_the_salts_of_their_parents_are_for_them(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    def copy_salts(docs: DocsStoreResource) -> Iterator[TaskRow]:
        for row in docs.read_tasks("draft"):
            yield EssayTask(task_id=f"{row.task_id}__x", draft_task_id=row.task_id, doc_salt=row.doc_salt)

    for number, salts in ((None, [None, "2"]), (2, [None, "1.2", "2", "2.2"])):
        docs, result = make_tables(
            tmp_path,
            instance,
            task_table_asset("draft", build_drafts, replicates=2),
            task_table_asset("essay", copy_salts, deps=["draft_tasks"], replicates=number),
        )
        assert result.success
        assert [row.doc_salt for row in docs.read_tasks("essay")] == salts * 2
    parents = {row.doc_id for row in docs.read_tasks("draft")}
    assert {row.parent_doc_id for row in docs.read_tasks("essay")} == parents


def test_rows_that_name_their_parents_take_their_salts(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    def name_parents(docs: DocsStoreResource) -> Iterator[TaskRow]:
        for row in docs.read_tasks("draft"):
            yield EssayTask(task_id=f"{row.task_id}__x", draft_task_id=row.task_id, parent_doc_id=row.doc_id)

    docs, result = make_tables(
        tmp_path,
        instance,
        task_table_asset("draft", build_drafts, replicates=2),
        task_table_asset("essay", name_parents, deps=["draft_tasks"], replicates=2),
    )
    assert result.success
    essays = list(docs.read_tasks("essay"))
    assert [row.doc_salt for row in essays] == [None, "1.2", "2", "2.2"] * 2
    assert [row.parent_doc_id for row in essays] == [row.doc_id for row in docs.read_tasks("draft") for _ in range(2)]


def test_table_asset_without_replicates_takes_the_first_parent(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    drafts = task_table_asset("draft", build_drafts, replicates=3)
    docs, result = make_tables(
        tmp_path, instance, drafts, task_table_asset("essay", build_essays, deps=["draft_tasks"])
    )
    assert result.success
    assert [row.parent_doc_id for row in docs.read_tasks("essay")] == [
        row.doc_id for row in docs.read_tasks("draft") if row.doc_salt is None
    ]


def test_table_asset_refuses_salts_of_other_kinds(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    def build(_: DocsStoreResource) -> list[TaskRow]:
        return [DraftTask(task_id="t", doc_salt="again")]

    _, result = make_tables(tmp_path, instance, task_table_asset("draft", build, replicates=2))
    assert "'again'; not the salt of a replicate" in failure(result)[0]
    with pytest.raises(ValueError, match="replicates: expected a number of replicates from 1 to 10,000, got 0"):
        task_table_asset("draft", build, replicates=0)
    with pytest.raises(ValueError, match="each replicate has a salt of its own"):
        task_table_asset("draft", build, replicates=2, salt="x")

"""The audit: every code provoked alone, and silent where nothing is wrong."""

from __future__ import annotations

import json
import os
import pickle
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import docid
from docid import (
    AuditReport,
    DocsStore,
    Document,
    DraftTask,
    EssayTask,
    EvaluationTask,
    InvalidName,
    Stages,
    TaskRow,
    TaskTableError,
    UnreadableDocument,
    audit,
    read_tasks,
    reserve_doc_id,
    reserve_tasks,
    write_tasks,
)
from docid.backends import MemoryBackend
from docid.cli import main
from docid.core.findings import LEVELS
from tests.faults import open_to_everybody

ROW_TYPES = {"draft": DraftTask, "essay": EssayTask, "evaluation": EvaluationTask}
Rows = dict[str, list[TaskRow]]


def rows_of_all() -> Rows:
    """Two drafts, an essay of each, an evaluation of each; reserved."""
    drafts = list(reserve_tasks([DraftTask(task_id=f"d-{n}") for n in (1, 2)], DraftTask))
    essays = [EssayTask(task_id=f"e-{n}", draft_task_id=f"d-{n}") for n in (1, 2)]
    essays = list(reserve_tasks(essays, EssayTask, parents=drafts))
    evaluations = [EvaluationTask(task_id=f"v-{n}", essay_task_id=f"e-{n}") for n in (1, 2)]
    return {
        "draft": list(drafts),
        "essay": list(essays),
        "evaluation": list(reserve_tasks(evaluations, EvaluationTask, parents=essays)),
    }


def document(row: TaskRow, **more: Any) -> Document:
    return Document.from_task(row, raw_text=f"raw of {row.task_id}", parsed_text="p", prompt_text="q", **more)


def write_all(store: DocsStore, rows: Rows) -> None:
    for of_stage in rows.values():
        store.write_many([document(row) for row in of_stage])


@pytest.fixture
def rows() -> Rows:
    return rows_of_all()


@pytest.fixture
def full(local: DocsStore, rows: Rows) -> DocsStore:
    """A store in a directory, with the document of every row."""
    write_all(local, rows)
    return local


def place(store: DocsStore, row: TaskRow) -> Path:
    return store.path(row.stage, row.doc_id)


def told(report: AuditReport) -> list[tuple[str, str, str]]:
    return [(finding.code, finding.stage, finding.doc_id) for finding in report.findings]


def changed(rows: Rows, stage: str, number: int, **changes: Any) -> Rows:
    of_stage = list(rows[stage])
    of_stage[number] = attrs.evolve(of_stage[number], **changes)
    return {**rows, stage: of_stage}


def with_row(rows: Rows, row: TaskRow) -> Rows:
    return {**rows, row.stage: [*rows[row.stage], row]}


# --- of tables -------------------------------------------------------------------------------------------------


def test_tables_alone_that_are_fine_are_silent(rows: Rows) -> None:
    report = audit(None, rows)
    assert (report.ok, bool(report), report.findings, report.counts) == (True, True, (), {})
    assert [facts.rows for facts in report.stages.values()] == [2, 2, 2]
    assert {facts.written for facts in report.stages.values()} == {None}


CASES: list[Any] = []


def case(name: str) -> Callable[[Callable[[Rows], tuple[Rows, list[tuple[str, str, int]]]]], None]:
    def add(act: Callable[[Rows], tuple[Rows, list[tuple[str, str, int]]]]) -> None:
        CASES.append(pytest.param(act, id=name))

    return add


@case("duplicate-doc-id")
def _(rows: Rows) -> Any:
    return changed(rows, "draft", 1, doc_id=rows["draft"][0].doc_id), [
        ("duplicate-doc-id", "row 2, column doc_id", 1),
        # The document that the row had is in no row now, and so is its essay's parent.
        ("missing-parent", "row 2, column parent_doc_id", 1),
    ]


@case("duplicate-doc-id, of a stage without children")
def _(rows: Rows) -> Any:
    doc_id = rows["evaluation"][0].doc_id
    return changed(rows, "evaluation", 1, doc_id=doc_id), [("duplicate-doc-id", "row 2, column doc_id", 2)]


@case("duplicate-task-id")
def _(rows: Rows) -> Any:
    again = attrs.evolve(rows["evaluation"][0], doc_id="other")
    return with_row(rows, again), [("duplicate-task-id", "row 3, column evaluation_task_id", 0)]


@case("a copied row")
def _(rows: Rows) -> Any:
    return with_row(rows, rows["draft"][0]), [
        ("duplicate-doc-id", "row 3, column doc_id", 0),
        ("duplicate-task-id", "row 3, column draft_task_id", 0),
    ]


@case("missing-doc-id")
def _(rows: Rows) -> Any:
    return with_row(rows, DraftTask(task_id="d-3")), [("missing-doc-id", "row 3, column doc_id", 0)]


@case("missing-parent-id")
def _(rows: Rows) -> Any:
    return changed(rows, "essay", 0, parent_doc_id=None), [("missing-parent-id", "row 1, column parent_doc_id", 0)]


@case("malformed doc id")
def _(rows: Rows) -> Any:
    return changed(rows, "evaluation", 0, doc_id="../x"), [("malformed-id", "row 1, column doc_id", 0)]


@case("malformed parent")
def _(rows: Rows) -> Any:
    return changed(rows, "essay", 0, parent_doc_id="A"), [("malformed-id", "row 1, column parent_doc_id", 0)]


@case("malformed source")
def _(rows: Rows) -> Any:
    return changed(rows, "draft", 0, source_doc_id="a b"), [("malformed-id", "row 1, column source_doc_id", 0)]


@case("malformed task id")
def _(rows: Rows) -> Any:
    return changed(rows, "draft", 0, task_id="d-1 "), [("malformed-id", "row 1, column draft_task_id", 0)]


@case("missing task id")
def _(rows: Rows) -> Any:
    return changed(rows, "draft", 0, task_id="nan"), [("malformed-id", "row 1, column draft_task_id", 0)]


@case("missing-parent")
def _(rows: Rows) -> Any:
    return changed(rows, "essay", 1, parent_doc_id="nowhere"), [("missing-parent", "row 2, column parent_doc_id", 0)]


@case("wrong-stage-parent")
def _(rows: Rows) -> Any:
    parent = rows["essay"][0].doc_id
    return changed(rows, "essay", 1, parent_doc_id=parent), [("wrong-stage-parent", "row 2, column parent_doc_id", 0)]


@case("parent of a later stage")
def _(rows: Rows) -> Any:
    parent = rows["evaluation"][0].doc_id
    return changed(rows, "essay", 1, parent_doc_id=parent), [("wrong-stage-parent", "row 2, column parent_doc_id", 0)]


@pytest.mark.parametrize("shards", [None, 1, 3, 16])
@pytest.mark.parametrize("act", CASES)
def test_a_fault_in_a_table_is_found_and_nothing_else_is(rows: Rows, act: Any, shards: int | None) -> None:
    faulty, expected = act(rows)
    report = audit_in(faulty, shards)
    assert [(finding.code, finding.where) for finding in report.findings] == [
        (code, where) for code, where, _ in sorted(expected, key=lambda each: (faulty_stage(each, faulty), each[0]))
    ]
    assert not report.ok
    for finding in report.findings:
        assert finding.message
        assert finding.hint
        assert finding.level == LEVELS[finding.code] == "error"
        assert finding.task_id is not None


def faulty_stage(expected: tuple[str, str, int], rows: Rows) -> int:
    """Findings stand by stage: of a duplicated draft its essay's parent comes behind it."""
    return int(expected[0] == "missing-parent")


def audit_in(rows: Rows, shards: int | None, store: DocsStore | None = None, **options: Any) -> AuditReport:
    if shards is None:
        return audit(store, rows, **options)
    with ThreadPoolExecutor(2) as executor:
        return audit(store, rows, executor=executor, shards=shards, **options)


def test_words_that_mean_missing_are_missing_ids(rows: Rows, tmp_path: Path) -> None:
    path = tmp_path / "essay_generation_tasks.csv"
    path.write_text("essay_task_id,parent_doc_id,doc_id\ne-1,NaN,none\ne-2,null, \ne-3,nan,d9\n")
    report = audit(None, {"essay": path})
    assert [(finding.code, finding.where.removeprefix(str(path))) for finding in report.findings] == [
        ("missing-doc-id", " row 2, column doc_id"),
        ("missing-doc-id", " row 3, column doc_id"),
        ("missing-parent-id", " row 2, column parent_doc_id"),
        ("missing-parent-id", " row 3, column parent_doc_id"),
        ("missing-parent-id", " row 4, column parent_doc_id"),
    ]
    assert report.findings[0].message == "'none', which means missing"


def test_two_documents_of_one_task_are_told_apart_by_run_or_salt() -> None:
    tasks = [DraftTask(task_id="d-1"), DraftTask(task_id="d-1", doc_salt="2"), DraftTask(task_id="d-1", doc_run_id="2")]
    report = audit(None, {"draft": reserve_tasks(tasks, DraftTask)})
    assert report.findings == ()
    assert report.stages["draft"].underived == 0


def test_ids_that_the_row_does_not_give_are_counted(rows: Rows) -> None:
    [salted] = reserve_tasks([DraftTask(task_id="d-3")], DraftTask, salt="s")
    more = with_row(with_row(rows, attrs.evolve(salted, doc_salt=None)), DraftTask(task_id="d-4", doc_id="4a2"))
    bad = DraftTask(task_id="d-5", doc_id="d5", doc_salt="a\tb")
    assert audit(None, with_row(more, bad)).stages["draft"].underived == 2


def test_where_neither_a_table_nor_a_store_can_tell_nothing_is_said_of_parents(rows: Rows) -> None:
    assert audit(None, {"essay": rows["essay"]}).ok
    assert audit(None, {"evaluation": changed(rows, "evaluation", 0, parent_doc_id="x")["evaluation"]}).ok


def test_rows_may_be_a_stream(tmp_path: Path, rows: Rows) -> None:
    path = tmp_path / "draft_tasks.csv"
    write_tasks(path, [*rows["draft"], attrs.evolve(rows["draft"][0], doc_id="x")])
    report = audit(None, {"draft": read_tasks(path, DraftTask)})
    assert [finding.where for finding in report.findings] == [f"{path} row 4, column draft_task_id"]
    assert audit(None, {"draft": iter(rows["draft"])}).stages["draft"].rows == 2


def test_a_table_that_is_none_is_refused_before_anything_is_looked_at(tmp_path: Path) -> None:
    first, second = tmp_path / "draft_tasks.csv", tmp_path / "essay_tasks.csv"
    first.write_text("draft_task_id,note\nd-1,x\n")
    second.write_text("")
    with pytest.raises(TaskTableError) as caught:
        audit(None, {"draft": first, "essay": second})
    assert [(problem.file, problem.column) for problem in caught.value.problems] == [
        (str(first), "doc_id"),
        (str(second), None),
    ]
    with pytest.raises(FileNotFoundError):
        audit(None, {"draft": tmp_path / "nowhere.csv"})


@pytest.mark.parametrize("shards", [None, 2])
def test_damaged_rows_are_raised_with_all_faults_of_all_tables(
    tmp_path: Path, full: DocsStore, shards: int | None
) -> None:
    paths = {stage: tmp_path / f"{stage}_tasks.csv" for stage in ("draft", "essay")}
    paths["draft"].write_bytes(b"draft_task_id,doc_id\nd-1,a1\nd-2,a1,x\nd-3,\xff\n")
    paths["essay"].write_text("essay_task_id,parent_doc_id,doc_id\ne-1,a1,b1\n'e-2'\n")
    with pytest.raises(TaskTableError) as caught:
        audit_in(paths, shards, full)  # type: ignore[arg-type]
    assert [(os.path.basename(problem.file), problem.row) for problem in caught.value.problems] == [
        ("draft_tasks.csv", 3),
        ("draft_tasks.csv", 4),
        ("essay_tasks.csv", 3),
    ]


def test_wrong_arguments_are_refused(rows: Rows) -> None:
    with pytest.raises(InvalidName, match="not a stage of this pipeline"):
        audit(None, {"outline": []})
    with pytest.raises(ValueError, match="expected rows of stage 'essay', got a row of stage 'draft'"):
        audit(None, {"essay": rows["draft"]})
    with pytest.raises(TypeError, match=r"tables\['draft'\]: expected a path or rows, got int"):
        audit(None, {"draft": 7})  # type: ignore[dict-item]
    for tables in ("tables", [("draft", "draft_tasks.csv")]):
        with pytest.raises(TypeError, match=r"tables: expected a table by stage, as \{'draft': path\}, got (str|list)"):
            audit(None, tables)  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match="tables: expected rows of task tables .*, got str; docid.frames.frame_to_tasks"
    ):
        audit(None, {"draft": ["draft_task_id"]})  # type: ignore[list-item]
    with pytest.raises(TypeError, match="stages: expected Stages, as .*, got str"):
        audit(None, {}, stages="draft")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="store: expected a DocsStore, a directory or None, got dict"):
        audit({"draft": rows["draft"]})  # type: ignore[arg-type]


def test_a_directory_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="a directory; expected the table of stage draft"):
        audit(None, {"draft": tmp_path})


# --- of a store ------------------------------------------------------------------------------------------------


def test_a_store_and_its_tables_that_are_fine_are_silent(full: DocsStore, rows: Rows, store: DocsStore) -> None:
    for report in (audit(full, rows), audit(full, rows, verify=True), audit(full), audit(full.backend.root)):
        assert report.findings == ()
    facts = audit(full, rows).stages["essay"]
    assert (facts.rows, facts.written, facts.pending, facts.parents_pending) == (2, 2, 0, 0)
    assert (facts.underived, facts.documents, facts.parsed_missing) == (0, 2, 0)
    assert audit(store).findings == ()


def test_a_home_in_memory_is_audited_too(rows: Rows) -> None:
    store = DocsStore(MemoryBackend())
    write_all(store, rows)
    assert audit(store, rows, verify=True).findings == ()
    store.write(Document(stage="draft", doc_id="d9", task_id="d-9", raw_text="r"))
    for shards in (None, 3):
        report = audit_in(rows, shards, store)
        assert told(report) == [("orphan-document", "draft", "d9")]
        assert report.stages["draft"].parsed_missing == 1


def test_a_store_that_is_not_there_is_an_empty_one(tmp_path: Path, rows: Rows) -> None:
    report = audit(tmp_path / "nowhere", rows)
    assert report.findings == ()
    assert [(facts.written, facts.pending, facts.parents_pending) for facts in report.stages.values()] == [
        (0, 2, None),
        (0, 2, 2),
        (0, 2, 2),
    ]
    assert not (tmp_path / "nowhere").exists()


STORE_CASES: list[Any] = []


def stored(name: str, **options: Any) -> Callable[[Callable[[DocsStore, Rows], Any]], None]:
    def add(act: Callable[[DocsStore, Rows], Any]) -> None:
        STORE_CASES.append(pytest.param(act, options, id=name))

    return add


@stored("lineage-conflict: another task")
def _(store: DocsStore, rows: Rows) -> Any:
    return changed(rows, "evaluation", 0, task_id="v-9"), [("lineage-conflict", "evaluation", 0)]


@stored("lineage-conflict: another parent")
def _(store: DocsStore, rows: Rows) -> Any:
    faulty = changed(rows, "essay", 0, parent_doc_id=rows["draft"][1].doc_id)
    return faulty, [("lineage-conflict", "essay", 0)]


@stored("lineage-conflict: a parent where the stage has none")
def _(store: DocsStore, rows: Rows) -> Any:
    edit(place(store, rows["draft"][0]), parent_doc_id="x")
    return rows, [("lineage-conflict", "draft", 0)]


@stored("missing-source")
def _(store: DocsStore, rows: Rows) -> Any:
    return changed(rows, "draft", 0, source_doc_id="d9"), [("missing-source", "draft", 0)]


@stored("missing-source: without its prompt")
def _(store: DocsStore, rows: Rows) -> Any:
    store.write(Document(stage="draft", doc_id="d9", task_id="d-9", raw_text="r"))
    with_source = changed(rows, "draft", 0, source_doc_id="d9")
    more = with_row(with_source, DraftTask(task_id="d-9", doc_id="d9"))
    return more, [("missing-source", "draft", 0)]


@stored("a source that is there")
def _(store: DocsStore, rows: Rows) -> Any:
    return changed(rows, "draft", 0, source_doc_id=rows["draft"][1].doc_id), []


@stored("a source that is torn is said once")
def _(store: DocsStore, rows: Rows) -> Any:
    (place(store, rows["draft"][1]) / "raw.txt").write_text("")
    return changed(rows, "draft", 0, source_doc_id=rows["draft"][1].doc_id), [("torn-document", "draft", 1)]


@stored("misplaced-document")
def _(store: DocsStore, rows: Rows) -> Any:
    os.rename(place(store, rows["evaluation"][0]), place(store, rows["essay"][0]).with_name("m1"))
    return rows, [("misplaced-document", "essay", "m1")]


@stored("unreadable-record")
def _(store: DocsStore, rows: Rows) -> Any:
    (place(store, rows["draft"][0]) / "metadata.json").write_text("{")
    return rows, [("unreadable-record", "draft", 0)]


@stored("unreadable-record: a file where a directory should be")
def _(store: DocsStore, rows: Rows) -> Any:
    path = place(store, rows["draft"][0])
    shutil.rmtree(path)
    path.write_text("x")
    return rows, [("unreadable-record", "draft", 0)]


@stored("unreadable-record: a circle of links")
def _(store: DocsStore, rows: Rows) -> Any:
    path = place(store, rows["draft"][0])
    shutil.rmtree(path)
    path.symlink_to(path)
    return rows, [("unreadable-record", "draft", 0)]


@stored("unreadable-record: a stage that is a file")
def _(store: DocsStore, rows: Rows) -> Any:
    path = place(store, rows["draft"][0]).parent
    shutil.rmtree(path)
    path.write_text("x")
    return rows, [("unreadable-record", "draft", "")]


@stored("torn-document: a size")
def _(store: DocsStore, rows: Rows) -> Any:
    (place(store, rows["essay"][1]) / "parsed.txt").write_text("")
    return rows, [("torn-document", "essay", 1)]


@stored("torn-document: a part that is gone")
def _(store: DocsStore, rows: Rows) -> Any:
    (place(store, rows["essay"][1]) / "prompt.txt").unlink()
    return rows, [("torn-document", "essay", 1)]


@stored("hash-mismatch", verify=True)
def _(store: DocsStore, rows: Rows) -> Any:
    (place(store, rows["essay"][1]) / "parsed.txt").write_text("P")
    return rows, [("hash-mismatch", "essay", 1)]


@stored("a changed byte is silent without verify")
def _(store: DocsStore, rows: Rows) -> Any:
    (place(store, rows["essay"][1]) / "parsed.txt").write_text("P")
    return rows, []


@stored("orphan-document")
def _(store: DocsStore, rows: Rows) -> Any:
    return {**rows, "evaluation": rows["evaluation"][:1]}, [("orphan-document", "evaluation", 1)]


@stored("an orphan whose parent is nowhere")
def _(store: DocsStore, rows: Rows) -> Any:
    lost = Document(stage="essay", doc_id="e9", task_id="e-9", parent_doc_id="d9", raw_text="r")
    store.write(lost, require_parent=False)
    return rows, [("missing-parent", "essay", "e9"), ("orphan-document", "essay", "e9")]


@stored("an orphan whose parent is reserved")
def _(store: DocsStore, rows: Rows) -> Any:
    lost = Document(stage="essay", doc_id="e9", task_id="e-9", parent_doc_id="d9", raw_text="r")
    store.write(lost, require_parent=False)
    return with_row(rows, DraftTask(task_id="d-9", doc_id="d9")), [("orphan-document", "essay", "e9")]


@stored("an orphan whose parent is of another stage")
def _(store: DocsStore, rows: Rows) -> Any:
    parent = rows["evaluation"][0].doc_id
    lost = Document(stage="essay", doc_id="e9", task_id="e-9", parent_doc_id=parent, raw_text="r")
    store.write(lost, require_parent=False)
    return rows, [("wrong-stage-parent", "essay", "e9"), ("orphan-document", "essay", "e9")]


@stored("an orphan without a parent")
def _(store: DocsStore, rows: Rows) -> Any:
    store.write(Document(stage="essay", doc_id="e9", task_id="e-9", raw_text="r"), require_parent=False)
    return rows, [("missing-parent-id", "essay", "e9"), ("orphan-document", "essay", "e9")]


@stored("an orphan whose parent is no doc id")
def _(store: DocsStore, rows: Rows) -> Any:
    lost = Document(stage="essay", doc_id="e9", task_id="e-9", parent_doc_id="d9", raw_text="r")
    edit(store.write(lost, require_parent=False).path, parent_doc_id="..")
    return rows, [("malformed-id", "essay", "e9"), ("orphan-document", "essay", "e9")]


@stored("an orphan whose parent is unfinished", stale_after=0)
def _(store: DocsStore, rows: Rows) -> Any:
    lost = Document(stage="essay", doc_id="e9", task_id="e-9", parent_doc_id="d9", raw_text="r")
    path = store.write(lost, require_parent=False).path
    (path.parents[1] / "draft" / "d9").mkdir()
    (path.parents[1] / "draft" / "d9" / "raw.txt").write_text("r")
    return rows, [
        ("missing-parent", "essay", "e9"),
        ("uncommitted-directory", "draft", "d9"),
        ("orphan-document", "essay", "e9"),
    ]


@stored("an orphan whose parent is torn")
def _(store: DocsStore, rows: Rows) -> Any:
    lost = Document(stage="essay", doc_id="e9", task_id="e-9", parent_doc_id="d9", raw_text="r")
    path = store.write(lost, require_parent=False).path
    shutil.copytree(place(store, rows["draft"][0]), path.parents[1] / "draft" / "d9")
    return rows, [("misplaced-document", "draft", "d9"), ("orphan-document", "essay", "e9")]


@stored("legacy-record")
def _(store: DocsStore, rows: Rows) -> Any:
    path = place(store, rows["evaluation"][0])
    (path / "metadata.json").write_text('{"task_id": "v-1"}')
    return rows, [("legacy-record", "evaluation", 0)]


@stored("a legacy record of another task")
def _(store: DocsStore, rows: Rows) -> Any:
    (place(store, rows["draft"][0]) / "metadata.json").write_text('{"task_id": "other"}')
    return rows, [("lineage-conflict", "draft", 0), ("legacy-record", "draft", 0)]


@stored("a legacy orphan that does not say its parent")
def _(store: DocsStore, rows: Rows) -> Any:
    path = place(store, rows["essay"][0]).with_name("e9")
    path.mkdir()
    (path / "metadata.json").write_text("{}")
    (path / "raw.txt").write_text("r")
    return rows, [("legacy-record", "essay", "e9"), ("orphan-document", "essay", "e9")]


@stored("unlisted-file in a document")
def _(store: DocsStore, rows: Rows) -> Any:
    (place(store, rows["draft"][0]) / "notes.txt").write_text("mine")
    return rows, [("unlisted-file", "draft", 0)]


@stored("unlisted-file in a stage")
def _(store: DocsStore, rows: Rows) -> Any:
    (place(store, rows["draft"][0]).parent / "notes.txt").write_text("mine")
    return rows, [("unlisted-file", "draft", "")]


@stored("malformed-id: a document under a name that is none")
def _(store: DocsStore, rows: Rows) -> Any:
    path = place(store, rows["evaluation"][0])
    os.rename(path, path.with_name("Upper"))
    return rows, [("malformed-id", "evaluation", "")]


@stored("malformed-id: a name that is no UTF-8")
def _(store: DocsStore, rows: Rows) -> Any:
    path = os.fsencode(place(store, rows["evaluation"][0]))
    os.rename(path, os.path.join(os.path.dirname(path), b"\xff\xfe"))
    return rows, [("malformed-id", "evaluation", "")]


@stored("uncommitted-directory", stale_after=0)
def _(store: DocsStore, rows: Rows) -> Any:
    (place(store, rows["evaluation"][0]) / "metadata.json").unlink()
    return rows, [("uncommitted-directory", "evaluation", 0)]


@stored("an uncommitted directory that somebody may be at, in a row's way")
def _(store: DocsStore, rows: Rows) -> Any:
    (place(store, rows["evaluation"][0]) / "metadata.json").unlink()
    return rows, [("uncommitted-directory", "evaluation", 0)]


@stored("an uncommitted directory that somebody may be at")
def _(store: DocsStore, rows: Rows) -> Any:
    (place(store, rows["evaluation"][0]) / "metadata.json").unlink()
    return {**rows, "evaluation": rows["evaluation"][1:]}, []


@stored("an empty directory is in nobody's way")
def _(store: DocsStore, rows: Rows) -> Any:
    path = place(store, rows["evaluation"][0])
    shutil.rmtree(path)
    path.mkdir()
    return rows, []


@stored("stale-temporary", stale_after=0)
def _(store: DocsStore, rows: Rows) -> Any:
    (place(store, rows["draft"][0]).parent / ".tmp-d9-0123456789abcdef").mkdir()
    return rows, [("stale-temporary", "draft", "d9")]


@stored("a document that is gone is pending")
def _(store: DocsStore, rows: Rows) -> Any:
    shutil.rmtree(place(store, rows["draft"][0]))
    return rows, []


def edit(path: Path, **changes: Any) -> None:
    record = json.loads((path / "metadata.json").read_text())
    (path / "metadata.json").write_text(json.dumps({**record, **changes}))


@pytest.mark.parametrize("shards", [None, 1, 3, 16])
@pytest.mark.parametrize(("act", "options"), STORE_CASES)
def test_a_fault_in_a_store_is_found_and_nothing_else_is(
    full: DocsStore, rows: Rows, act: Any, options: dict[str, Any], shards: int | None
) -> None:
    tables, expected = act(full, rows)
    report = audit_in(tables, shards, full, **options)
    names = [
        (code, stage, rows[stage][doc_id].doc_id if isinstance(doc_id, int) else doc_id)
        for code, stage, doc_id in expected
    ]
    assert told(report) == names
    for finding in report.findings:
        assert finding.message
        assert finding.hint
        json.dumps(finding.to_dict())
        # Whose it is stands beside every name that a row or a record knows.
        if finding.doc_id in {row.doc_id for of_stage in tables.values() for row in of_stage}:
            assert finding.task_id


def test_every_code_is_provoked_by_a_test_of_its_own() -> None:
    provoked = {str(param.id).split(":")[0].split(",")[0].split(" ")[0] for param in [*CASES, *STORE_CASES]}
    assert set(LEVELS) <= provoked


def test_a_store_alone_looks_for_the_parents_of_its_documents(full: DocsStore, rows: Rows) -> None:
    shutil.rmtree(place(full, rows["draft"][0]))
    essay = rows["essay"][0].doc_id
    for shards in (None, 2, 7):
        assert told(audit_in({}, shards, full)) == [("missing-parent", "essay", essay)]
    assert audit(full, {"draft": rows["draft"]}).ok  # it is reserved


def test_what_was_counted_tells_written_from_pending_from_faulty(full: DocsStore, rows: Rows) -> None:
    shutil.rmtree(place(full, rows["draft"][0]))
    (place(full, rows["draft"][1]) / "raw.txt").write_text("")
    (place(full, rows["evaluation"][0]) / "metadata.json").unlink()
    more = with_row(rows, DraftTask(task_id="d-3", doc_id="d3"))
    for shards in (None, 3):
        report = audit_in(more, shards, full, stale_after=0)
        draft, essay, evaluation = report.stages.values()
        assert (draft.rows, draft.written, draft.pending, draft.documents) == (3, 0, 2, 0)
        assert (essay.written, essay.pending, essay.parents_pending) == (2, 0, 1)
        assert (evaluation.written, evaluation.pending) == (1, 0)


def test_parents_in_a_stage_that_cannot_be_listed_are_not_judged(
    full: DocsStore, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = type(full.backend).ids

    def refused(backend: Any, stage: str) -> Any:
        if stage == "draft":
            raise PermissionError(13, "Permission denied", f"docs/{stage}")
        return original(backend, stage)

    monkeypatch.setattr(type(full.backend), "ids", refused)
    for shards in (None, 3):
        report = audit_in({"essay": rows["essay"]}, shards, full)
        assert told(report) == [("unreadable-record", "draft", "")]
        assert audit_in({}, shards, full).findings == report.findings
        with_source = changed(rows, "draft", 0, source_doc_id="d9")
        assert audit_in(with_source, shards, full).findings == report.findings


def test_a_parent_that_cannot_be_looked_at_is_not_called_missing(
    full: DocsStore, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = type(full.backend).load

    def refused(backend: Any, stage: str, *args: Any) -> Any:
        if stage == "draft":
            raise PermissionError(13, "Permission denied")
        return original(backend, stage, *args)

    monkeypatch.setattr(type(full.backend), "load", refused)
    monkeypatch.setattr(type(full.backend), "listing", lambda *_: None)
    expected = {("unreadable-record", "draft", row.doc_id) for row in rows["draft"]}
    for shards in (None, 5):
        assert set(told(audit_in({}, shards, full))) == expected


def test_a_document_that_vanishes_while_it_is_looked_at_is_pending(
    full: DocsStore, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = type(full.backend).listing
    gone = place(full, rows["evaluation"][0])

    def vanishes(backend: Any, stage: str, doc_id: str) -> Any:
        if doc_id == gone.name and gone.exists():
            shutil.rmtree(gone)
        return original(backend, stage, doc_id)

    monkeypatch.setattr(type(full.backend), "listing", vanishes)
    report = audit(full, rows)
    assert report.findings == ()
    assert (report.stages["evaluation"].written, report.stages["evaluation"].pending) == (1, 1)


def test_a_row_of_an_unknown_parent_or_task_is_compared_as_far_as_it_goes(full: DocsStore, rows: Rows) -> None:
    """One fault is one finding: what a row does not say for a reason is no conflict on top of it."""
    report = audit(full, changed(rows, "essay", 0, parent_doc_id=None))
    assert told(report) == [("missing-parent-id", "essay", rows["essay"][0].doc_id)]
    report = audit(full, changed(rows, "essay", 0, task_id="e-1 "))
    assert told(report) == [("malformed-id", "essay", rows["essay"][0].doc_id)]


def test_a_conflict_says_what_differs_and_not_what_is_equal(full: DocsStore, rows: Rows) -> None:
    essay, other = rows["essay"][0], rows["draft"][1].doc_id
    [finding] = audit(full, changed(rows, "essay", 0, parent_doc_id=other)).findings
    held, said = f"parent_doc_id={essay.parent_doc_id!r}", f"parent_doc_id={other!r}"
    assert finding.message == f"{place(full, essay)} holds {held}; the row says {said}"
    assert finding.hint.startswith("correct the row")


def test_a_record_of_another_task_under_the_rows_own_id_may_have_been_edited(full: DocsStore, rows: Rows) -> None:
    draft = rows["draft"][0]
    assert draft.doc_id == reserve_doc_id("draft", draft.task_id)
    edit(place(full, draft), task_id="other")
    [finding] = [each for each in audit(full, rows).findings if each.code == "lineage-conflict"]
    assert finding.hint.startswith("the id is the row's own, so the record may have been edited: if so correct it;")


@pytest.mark.parametrize(
    ("stage", "record", "unsaid"),
    [
        pytest.param("draft", "{}", "task_id", id="no task"),
        pytest.param("evaluation", '{"task_id": "v-1"}', "parent_doc_id", id="no parent"),
        pytest.param("evaluation", "{}", "task_id and parent_doc_id", id="neither"),
    ],
)
def test_an_older_record_that_does_not_say_whose_it_is_counts_as_no_rows_document(
    full: DocsStore, rows: Rows, stage: str, record: str, unsaid: str
) -> None:
    row = rows[stage][0]
    (place(full, row) / "metadata.json").write_text(record)
    report = audit(full, rows)
    [finding] = report.findings
    assert (finding.code, finding.doc_id) == ("legacy-record", row.doc_id)
    assert finding.message.endswith(f"and does not say its {unsaid}: a run refuses it")
    assert "docid migrate --tables" in finding.hint
    assert (report.stages[stage].written, report.stages[stage].pending) == (len(rows[stage]) - 1, 0)
    with pytest.raises(UnreadableDocument, match="does not say whose it is"):
        full.ensure(row, lambda: document(row))


def test_a_pipeline_of_other_stages_is_audited(tmp_path: Path) -> None:
    stages = Stages({"outline": None, "chapter": "outline", "blurb": "outline"})
    store = DocsStore(tmp_path, stages=stages)
    outline = Document(stage="outline", doc_id="o1", task_id="o", raw_text="r")
    store.write_many([outline, Document(stage="blurb", doc_id="b1", task_id="b", parent_doc_id="o1", raw_text="r")])
    blurb = TaskRow.of("blurb", "outline")(task_id="b", doc_id="b1", parent_doc_id="o1")
    assert audit(store, {"blurb": [blurb]}).ok
    assert list(audit(tmp_path, stages=stages).stages) == ["outline", "chapter", "blurb"]
    assert audit(None, {"blurb": [blurb]}, stages=stages).ok


def test_a_stage_that_cannot_be_listed_holds_no_parents_for_other_stages(full: DocsStore, rows: Rows) -> None:
    evaluations = place(full, rows["evaluation"][0]).parent
    shutil.rmtree(evaluations)
    evaluations.write_text("x")
    shutil.rmtree(place(full, rows["draft"][0]))
    essay = rows["essay"][0].doc_id
    for shards in (None, 1, 2, 3, 7):
        assert told(audit_in({}, shards, full)) == [
            ("missing-parent", "essay", essay),
            ("unreadable-record", "evaluation", ""),
        ]


@pytest.mark.skipif(not hasattr(os, "fork") or os.geteuid() != 0, reason="needs root, to become somebody else")
def test_what_may_not_be_read_is_a_finding_and_does_not_end_the_audit(full: DocsStore, rows: Rows) -> None:
    from tests.faults.test_races import gather  # noqa: PLC0415 - for this test alone

    def as_nobody() -> list[list[tuple[str, str, str]]]:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        return [told(audit(full, rows)), told(audit(full))]

    with open_to_everybody(place(full, rows["draft"][0]).parents[1]):
        place(full, rows["draft"][0]).chmod(0)
        (place(full, rows["draft"][1]) / "metadata.json").chmod(0)
        place(full, rows["evaluation"][0]).parent.chmod(0)
        [[both, alone]] = gather([as_nobody])
    unread = [("unreadable-record", "draft", row.doc_id) for row in sorted(rows["draft"], key=lambda row: row.doc_id)]
    assert sorted(both) == sorted(alone) == sorted([*unread, ("unreadable-record", "evaluation", "")])


def test_a_word_that_means_missing_reserves_no_parent(full: DocsStore) -> None:
    lost = Document(stage="essay", doc_id="e9", task_id="e-9", parent_doc_id="nan", raw_text="r")
    full.write(lost, require_parent=False)
    drafts = [DraftTask(task_id="t", doc_id="nan")]
    for shards in (None, 1, 2, 3, 7):
        found = told(audit_in({"draft": drafts}, shards, full))  # type: ignore[dict-item]
        assert [each for each in found if each[0].startswith("missing")] == [
            ("missing-doc-id", "draft", ""),
            ("missing-parent", "essay", "e9"),
        ]


@pytest.mark.parametrize("spelled", ["./docs", "docs//", "docs/.", ".//docs"])
def test_a_root_may_be_spelled_in_any_way(
    full: DocsStore, rows: Rows, spelled: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = place(full, rows["essay"][0])
    shutil.rmtree(path)
    path.write_text("x")
    monkeypatch.chdir(path.parents[2])
    for tables in (rows, {}):
        report = audit(spelled, tables)
        assert told(report) == [("unreadable-record", "essay", path.name)]
    assert run(capsys, "repair", "--store", spelled)[1].startswith(f"left alone   essay/{path.name}: ")


def test_a_source_that_is_in_no_row_is_judged_too(full: DocsStore, rows: Rows) -> None:
    full.write(Document(stage="draft", doc_id="d9", task_id="d-9", raw_text="r"))
    (place(full, rows["draft"][0]).with_name("d8")).mkdir()
    (place(full, rows["draft"][0]).with_name("d8") / "raw.txt").write_text("r")
    for source in ("d8", "d9"):
        for shards in (None, 3):
            report = audit_in(changed(rows, "draft", 0, source_doc_id=source), shards, full, stale_after=0)
            assert report.counts == {"missing-source": 1, "orphan-document": 1, "uncommitted-directory": 1}


def test_a_run_or_salt_that_is_missing_tells_no_rows_apart(tmp_path: Path) -> None:
    path = tmp_path / "draft_tasks.csv"
    path.write_text("draft_task_id,doc_run_id,doc_salt,doc_id\nt,,,d1\nt,nan,,d2\nt, ,null,d3\nt,,s,d4\n")
    for table in (path, read_tasks(path, DraftTask)):
        assert audit(None, {"draft": table}).counts == {"duplicate-task-id": 2}


def test_a_parent_that_is_written_while_the_store_is_looked_at_is_found(
    local: DocsStore, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def writes(what: str, *_: Any) -> None:
        if what == "listing stage essay":
            write_all(local, {stage: rows[stage] for stage in ("draft", "essay")})

    assert audit(local, progress=writes).findings == ()


def test_a_table_may_come_through_a_pipe(tmp_path: Path, rows: Rows) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as executor:
        writing = executor.submit(pipe.write_text, "draft_task_id,doc_id\nd-1,d1\nd-1,d2\n")
        report = audit(None, {"draft": pipe})
        assert writing.result()
    assert [finding.where for finding in report.findings] == [f"{pipe} row 3, column draft_task_id"]


def test_a_stored_document_that_cannot_be_read_is_no_missing_parent(
    full: DocsStore, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where it was listed; what was not listed is not there, whatever looking for it says."""
    lost = Document(stage="essay", doc_id="e9", task_id="e-9", parent_doc_id="d9", raw_text="r")
    full.write(lost, require_parent=False)
    original = type(full.backend).load

    def refused(backend: Any, stage: str, *args: Any) -> Any:
        if stage == "draft":
            raise PermissionError(13, "Permission denied")
        return original(backend, stage, *args)

    monkeypatch.setattr(type(full.backend), "load", refused)
    for shards in (None, 2, 5):
        assert told(audit_in({}, shards, full)) == [("missing-parent", "essay", "e9")]


# --- the report ------------------------------------------------------------------------------------------------


def test_a_report_tells_people_and_programs(full: DocsStore, rows: Rows) -> None:
    name = os.path.join(os.fsencode(place(full, rows["draft"][0]).parent), b"\xff.txt")
    with open(name, "wb"):
        pass
    report = audit(full, changed(rows, "essay", 0, parent_doc_id="nowhere"))
    assert (report.ok, bool(report)) == (False, False)
    assert report.counts == {"lineage-conflict": 1, "missing-parent": 1, "unlisted-file": 1}
    data = json.loads(report.to_json())
    assert (data["ok"], data["errors"], data["warnings"], data["counts"]) == (False, 2, 1, report.counts)
    assert data["stages"]["essay"]["rows"] == 2
    assert [finding["code"] for finding in data["findings"]] == [finding.code for finding in report.findings]
    assert data["findings"][-1]["where"].endswith("\\udcff.txt")
    assert list(report.rows()[0]) == ["code", "level", "stage", "doc_id", "task_id", "where", "message", "hint"]
    assert pickle.loads(pickle.dumps(report)) == report
    assert "audit" in docid.__all__


def test_warnings_alone_are_fine(full: DocsStore) -> None:
    assert audit(full, {"draft": []}).counts == {"orphan-document": 2}
    assert audit(full, {"draft": []}).ok


def test_progress_is_told(full: DocsStore, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in ("documents", "rows"):
        monkeypatch.setattr(f"docid.operations.shards.{each}.STRIDE", 1)
    heard: list[tuple[str, int, int | None]] = []
    audit(full, {"draft": rows["draft"]}, progress=lambda *told: heard.append(told))
    assert ("rows of stage draft", 2, 2) in heard
    assert ("listing stage essay", 0, None) in heard
    assert ("documents of stage evaluation", 2, 2) in heard
    heard.clear()
    with ThreadPoolExecutor(1) as executor:
        audit(full, rows, executor=executor, shards=3, progress=lambda *told: heard.append(told))
    assert heard == [("shards", 1, 3), ("shards", 2, 3), ("shards", 3, 3)]


# --- in parts --------------------------------------------------------------------------------------------------


def mutated(rows: Rows, faults: Iterable[tuple[str, int, str, str]]) -> Rows:
    for stage, number, field, value in faults:
        if field != "parent_doc_id" or stage != "draft":
            rows = changed(rows, stage, number, **{field: value})
    return rows


FAULTS = st.tuples(
    st.sampled_from(["draft", "essay", "evaluation"]),
    st.integers(0, 1),
    st.sampled_from(["doc_id", "parent_doc_id", "task_id"]),
    st.sampled_from(["", "x1", "x2", "nan", "A", *(row.doc_id for rows in rows_of_all().values() for row in rows)]),
)


@given(faults=st.lists(FAULTS, max_size=6), shards=st.integers(1, 9), gone=st.sets(st.integers(0, 5)))
def test_in_any_number_of_parts_the_report_is_the_same(
    faults: list[tuple[str, int, str, str]], shards: int, gone: set[int]
) -> None:
    rows = rows_of_all()
    store = DocsStore(MemoryBackend())
    for number, row in enumerate(row for of_stage in rows.values() for row in of_stage):
        if number not in gone:
            store.write(document(row), require_parent=False)
    faulty = mutated(rows, faults)
    whole = audit(store, faulty)
    assert audit_in(faulty, shards, store) == whole
    assert audit_in({"essay": faulty["essay"]}, shards, store) == audit(store, {"essay": faulty["essay"]})
    assert audit_in(faulty, shards) == audit(None, faulty)


def test_shards_do_not_hide_from_each_other_what_a_dead_writer_left(full: DocsStore, rows: Rows) -> None:
    """A look takes the lock of a temporary directory, and who finds it taken believes that its writer lives."""
    (place(full, rows["draft"][0]).parent / ".tmp-d9-0123456789abcdef").mkdir()
    with ThreadPoolExecutor(8) as executor:
        for _ in range(20):
            report = audit(full, rows, executor=executor, shards=8, stale_after=0)
            assert told(report) == [("stale-temporary", "draft", "d9")]


def test_processes_give_the_same_report(full: DocsStore, rows: Rows, tmp_path: Path) -> None:
    (place(full, rows["draft"][1]) / "raw.txt").write_text("")
    paths = {}
    for stage, of_stage in changed(rows, "essay", 0, parent_doc_id="nowhere").items():
        paths[stage] = tmp_path / f"{stage}_tasks.csv"
        write_tasks(paths[stage], of_stage)
    whole = audit(full, paths)
    assert [finding.code for finding in whole.findings] == ["torn-document", "lineage-conflict", "missing-parent"]
    with ProcessPoolExecutor(2) as executor:
        assert audit(full, paths, executor=executor) == whole
        assert audit(full, rows, executor=executor, shards=5) == audit(full, rows)


def test_an_error_in_one_part_ends_the_others(full: DocsStore, rows: Rows) -> None:
    class Broken(Executor):
        def submit(self, *_: Any, **__: Any) -> Any:
            futures.append(Future())
            return futures[-1]

    class Future:
        cancelled = False

        def result(self) -> None:
            raise OSError(5, "Input/output error")

        def cancel(self) -> None:
            self.cancelled = True

    futures: list[Future] = []
    with pytest.raises(OSError, match="Input/output"):
        audit(full, rows, executor=Broken(), shards=3)
    assert [future.cancelled for future in futures] == [True] * 3


# --- on the command line ---------------------------------------------------------------------------------------


@pytest.fixture
def tables(tmp_path: Path, rows: Rows) -> Path:
    directory = tmp_path / "2_tasks"
    directory.mkdir()
    write_tasks(directory / "draft_generation_tasks.csv", rows["draft"])
    write_tasks(directory / "essay_generation_tasks.csv.gz", rows["essay"])
    write_tasks(directory / "evaluation_tasks.csv", rows["evaluation"])
    (directory / "models.csv").write_text("id\n")
    return directory


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_sums_up_first_and_then_tells_by_code(
    tables: Path, full: DocsStore, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    path = place(full, rows["draft"][0])
    (path / "raw.txt").write_text("x")
    (path.parent / "note\n.txt").write_text("")
    root = path.parents[1]
    code, out, err = run(capsys, "audit", tables, "--store", root)
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        "stage       rows  written  pending  parents pending  underived  documents  parsed missing  findings",
        "draft          2        1        0                -          0          1               0         2",
        "essay          2        2        0                0          0          2               0         0",
        "evaluation     2        2        0                0          0          2               0         0",
        f"files of other names, skipped: 1 ({tables}/models.csv)",
        "",
        "torn-document (error): 1",
        f"  {path} (task_id='d-1'): raw.txt: 1 bytes, but the record says 10",
        "  -> touched in the last 3,600 s, so that a tool may be at it: later, or at once with --stale-after 0s, docid "
        "repair --apply moves it to quarantine; the id is free then, and the next run makes it again",
        "",
        "unlisted-file (warning): 1",
        f"  {path.parent}/note .txt: it belongs to no document",
        "  -> look what it is: nothing of docid's needs it",
        "",
        "1 errors, 1 warnings",
    ]


def test_the_command_tells_the_first_few_places_of_a_code(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tables / "draft_generation_tasks.csv"
    lines = [f"d-{n},,,,,,{'' if n % 2 else 'A'}" for n in range(7)]
    table.write_text("draft_task_id,combo_id,draft_template,a,b,c,doc_id\n" + "\n".join(lines) + "\n")
    code, out, _ = run(capsys, "audit", table)
    assert code == 1
    assert "malformed-id (error): 4\n" in out
    assert f"  {table} row 3, column doc_id (task_id='d-1'): empty\n" in out
    out = run(capsys, "audit", "--stages", "draft", f"draft={table}")[1]
    assert "  -> 'docid reserve' fills it\n\n7 errors, 0 warnings\n" in out
    table.write_text("draft_task_id,doc_id\n" + "".join(f"d-{n},\n" for n in range(7)))
    assert "  … and 2 more (--json or --csv gives all)\n" in run(capsys, "audit", table)[1]


def test_hints_that_differ_stand_with_their_findings(
    tables: Path, full: DocsStore, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    for row in rows["draft"]:
        (place(full, row) / "raw.txt").write_text("x")
    os.utime(place(full, rows["draft"][0]))
    path = place(full, rows["draft"][0])
    (path / "metadata.json").write_text('{"format": "docid/document/2"}')
    (place(full, rows["draft"][1]) / "metadata.json").write_text("{")
    code, out, _ = run(capsys, "audit", "--store", path.parents[1])
    assert code == 1
    assert "a later docid wrote it; open it with a later docid\n" in out
    assert "  -> " not in out


def test_the_command_tells_programs(
    tables: Path, full: DocsStore, rows: Rows, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.rmtree(place(full, rows["evaluation"][0]))
    (place(full, rows["draft"][0]).parent / "notes.txt").write_text("mine")
    root = place(full, rows["draft"][0]).parents[1]
    listed = tmp_path / "out.csv"
    code, out, _ = run(capsys, "audit", tables, "--store", root, "--json", "--csv", listed, "--fail-on", "warning")
    finding, summary = (json.loads(line) for line in out.splitlines())
    assert code == 1
    assert list(finding) == ["code", "level", "stage", "doc_id", "task_id", "where", "message", "hint"]
    assert (finding["code"], finding["level"]) == ("unlisted-file", "warning")
    assert summary["summary"]["stages"]["evaluation"]["pending"] == 1
    assert summary["summary"]["skipped"] == [str(tables / "models.csv")]
    where = f"{root}/draft/notes.txt"
    cell = '"{}"'.format(where.replace('"', '""')) if {",", '"'} & set(where) else where
    assert listed.read_text("utf-8").splitlines() == [
        "code,level,stage,doc_id,task_id,where,message,hint",
        f"unlisted-file,warning,draft,,,{cell},it belongs to no document,look what it is: nothing of docid's needs it",
    ]
    assert run(capsys, "audit", tables, "--store", root)[0] == 0
    assert run(capsys, "audit", tables, "--store", root, "--verify", "--jobs", "2")[0] == 0


def test_directories_that_are_none_of_the_stages_are_said(
    full: DocsStore, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    root = place(full, rows["draft"][0]).parents[1]
    code, _, err = run(capsys, "audit", "--store", root, "--stages", "draft")
    assert code == 0
    assert err == f"docid: {root} also holds essay, evaluation: no stages of draft; --stages declares others\n"


def test_a_worker_that_is_killed_is_one_line(
    tables: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    test = os.getpid()

    def dies(*_: Any) -> None:
        assert os.getpid() != test
        os._exit(9)

    # In a worker, which is forked, this stands in the table's place.
    monkeypatch.setattr(
        "docid.operations.shards.job.Table.lineages", lambda *_: iter(()) if os.getpid() == test else dies()
    )
    monkeypatch.setattr("concurrent.futures.process.mp.get_context", lambda: get_context("fork"))
    code, out, err = run(capsys, "audit", tables, "--jobs", "2")
    assert (code, out) == (2, "")
    assert err == "docid: a worker process was killed (is the memory full?); expected fewer --jobs\n"


def test_the_json_says_whether_there_is_a_store(
    full: DocsStore, tables: Path, tmp_path: Path, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: object) -> object:
        return json.loads(run(capsys, "audit", tables, "--json", *arguments)[1].splitlines()[-1])["summary"]["store"]

    root = place(full, rows["draft"][0]).parents[1]
    assert told("--store", root) == {"location": str(root), "exists": True}
    assert told("--store", tmp_path / "nowhere") == {"location": f"{tmp_path}/nowhere", "exists": False}
    assert told("--store", root / "draft") == {"location": f"{root}/draft", "exists": False}
    assert told() is None


def test_a_store_that_is_not_there_yet_is_said(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "audit", tables, "--store", tmp_path / "nowhere")
    assert (code, err) == (0, "")
    assert f"the store {tmp_path}/nowhere is not there yet: an empty one\n" in out
    assert out.endswith("\n0 errors, 0 warnings\n")


def test_tables_alone_are_audited(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "audit", tables / "essay_generation_tasks.csv.gz")
    assert code == 0
    assert "essay     2        -        -                -          0          -               -         0\n" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "nothing to audit: expected task tables, --store ROOT, or both", id="nothing"),
        pytest.param(["nowhere/draft_tasks.csv"], "nowhere/draft_tasks.csv: no such file or directory", id="path"),
        pytest.param(["models.csv"], "models.csv: which stage's table? expected the name", id="name"),
        pytest.param(["essay=models.csv"], "column essay_task_id: missing from the header", id="header"),
        pytest.param(["draft=unreserved.csv"], "column doc_id: missing from the header", id="not reserved"),
        pytest.param(["draft=empty.csv"], "no header; expected a CSV table", id="empty"),
        pytest.param(["empty"], "empty: no task table of stage draft, essay, evaluation in it", id="directory"),
        pytest.param(["twice"], "expected one table of stage draft, got", id="two of a stage"),
        pytest.param(["--store", "models.csv"], "no store at models.csv: that is no directory", id="file as store"),
        pytest.param(["--jobs", "0"], "'0': expected a number of processes", id="no jobs"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DOCID_STORE", raising=False)
    Path("models.csv").write_text("id\nx\n")
    Path("empty.csv").write_text("")
    Path("unreserved.csv").write_text("draft_task_id\nd-1\n")
    for directory in ("empty", "twice"):
        Path(directory).mkdir()
    for name in ("draft_tasks.csv", "draft_generation_tasks.csv"):
        Path("twice", name).write_text("draft_task_id,doc_id\n")
    try:
        code, out, err = run(capsys, "audit", *arguments)
        assert err.count("\n") == 1
    except SystemExit as exit_:
        code, (out, err) = exit_.code, capsys.readouterr()  # type: ignore[assignment]
    assert (code, out) == (2, "")
    assert message in err


def test_damaged_rows_of_all_tables_are_told_though_one_holds_nothing_else(tmp_path: Path) -> None:
    paths = {stage: tmp_path / f"{stage}_tasks.csv" for stage in ("draft", "essay")}
    paths["draft"].write_bytes(b"draft_task_id,doc_id\nt\xff,d1\n")
    paths["essay"].write_bytes(b"essay_task_id,parent_doc_id,doc_id\ne1,d1,e1\ne2\xff,d1,e2\n")
    with pytest.raises(TaskTableError) as caught:
        audit(None, paths)
    assert caught.value.count == 2


def test_names_that_are_no_utf_8_are_escaped(
    full: DocsStore, rows: Rows, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stage = place(full, rows["draft"][0]).parent
    with open(os.path.join(os.fsencode(stage), b"bad\xff"), "wb"):
        pass
    code, out, _ = run(capsys, "audit", "--store", stage.parent, "--json", "--csv", tmp_path / "out.csv")
    assert code == 0
    assert orjson.loads(out.splitlines()[0])["where"].endswith("bad\\udcff")
    assert "bad\\udcff" in (tmp_path / "out.csv").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--csv", "draft_tasks.csv"], "that is a file to be read; expected another file"),
        (["--csv", "pipe"], "--csv pipe: expected a file, which will be replaced"),
        (["--csv", ""], "expected a path, got nothing"),
        (["--store", ""], "expected a path, got nothing"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_written(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("draft_tasks.csv").write_text("draft_task_id,doc_id\nd-1,d1\n")
    os.mkfifo("pipe")
    code, out, err = run(capsys, "audit", "draft_tasks.csv", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert Path("draft_tasks.csv").read_text() == "draft_task_id,doc_id\nd-1,d1\n"
    assert Path("pipe").is_fifo()


def test_a_directory_may_have_any_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("draft=1").mkdir()
    Path("draft=1", "draft_tasks.csv").write_text("draft_task_id,doc_id\nd-1,d1\n")
    assert run(capsys, "audit", "draft=1")[0] == 0


def test_without_a_standard_error_nothing_comes_between_the_lines(full: DocsStore, rows: Rows) -> None:
    root = place(full, rows["draft"][0]).parents[1]
    (root / "other").mkdir()
    command = f"exec {shlex.join([sys.executable, '-m', 'docid', 'audit', '--store', str(root), '--json'])} 2>&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert [list(json.loads(line)) for line in done.stdout.splitlines()] == [["summary"]]


def test_damaged_rows_are_all_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "draft_tasks.csv"
    table.write_text("draft_task_id,doc_id\nd-1\nd-2,x,y\n")
    code, out, err = run(capsys, "audit", table)
    assert (code, out) == (2, "")
    assert err.splitlines()[1:] == [
        f"  {table} row 2: 1 cells; expected 2, as in the header",
        f"  {table} row 3: 3 cells; expected 2, as in the header",
    ]


def test_progress_of_an_executor_is_told_by_shards(full: DocsStore, rows: Rows) -> None:
    heard: list[tuple[str, int, int | None]] = []
    with ThreadPoolExecutor(2) as executor:
        audit(full, rows, executor=executor, shards=3, progress=lambda *told: heard.append(told))
    assert heard == [("shards", 1, 3), ("shards", 2, 3), ("shards", 3, 3)]


def test_the_findings_of_each_code_are_had_at_once(full: DocsStore, rows: Rows) -> None:
    report = audit(None, {"draft": [TaskRow.of("draft")(task_id="a"), TaskRow.of("draft")(task_id="a")]})
    assert {code: len(found) for code, found in report.by_code().items()} == report.counts
    assert [finding for found in report.by_code().values() for finding in found] == list(report.findings)


def test_the_exit_code_is_that_of_the_audit_also_where_nobody_reads_on(tables: Path) -> None:
    table = tables / "draft_tasks.csv"
    table.write_text("draft_task_id,doc_id\n" + "".join(f"t-{number},\n" for number in range(3000)))
    audited = shlex.join([sys.executable, "-m", "docid", "audit", str(table), "--json", "--csv", "found.csv"])
    command = f"{audited}; echo $? >&2"
    result = subprocess.run(
        ["bash", "-c", f"({command}) | head -n 1"], cwd=tables, capture_output=True, text=True, check=False
    )
    assert result.stderr == "1\n"
    assert len((tables / "found.csv").read_text().splitlines()) == 3001


def test_names_in_messages_cannot_steer_a_terminal(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tables / "draft_tasks.csv"
    table.write_text("task\x1b]0;owned\x07,\u202etxt\nx,y\n", "utf-8")
    code, _, err = run(capsys, "audit", table)
    assert code == 2
    assert "task\\x1b]0;owned\\x07, \\u202etxt" in err


@pytest.mark.parametrize("where", ["docs/draft/found.csv", "docs/.docid/found.csv"])
def test_a_list_of_findings_has_no_place_among_documents(
    where: str, tables: Path, full: DocsStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(full.root + "/..")
    os.makedirs("docs/.docid", exist_ok=True)
    code, _, err = run(capsys, "audit", "--store", "docs", "--csv", where)
    assert (code, "among its documents" in err) == (2, True)

"""The audit of tables: each fault gives exactly its findings, and sound tables give none."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest

from docid import DocsStore, DraftTask, InvalidName, TaskTableError, audit, read_tasks, reserve_tasks, write_tasks
from docid.core.findings import LEVELS
from tests.auditing import Rows, add_row, audit_in, change_row


def test_sound_tables_have_no_findings(rows: Rows) -> None:
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
    return change_row(rows, "draft", 1, doc_id=rows["draft"][0].doc_id), [
        ("duplicate-doc-id", "row 2, column doc_id", 1),
        # The row's former doc id is now in no row, so its essay has no parent.
        ("missing-parent", "row 2, column parent_doc_id", 1),
    ]


@case("missing-input: a stage that is not declared")
def _(rows: Rows) -> Any:
    row = DraftTask(task_id="m", doc_id="m1", input_doc_ids=("memo/n1",))
    return add_row(rows, row), [("missing-input", "row 3, column input_doc_ids", 1)]


@case("missing-input")
def _(rows: Rows) -> Any:
    inputs = ("essay/gone", f"evaluation/{rows['evaluation'][0].doc_id}")
    return add_row(rows, DraftTask(task_id="m", doc_id="m1", input_doc_ids=inputs)), [
        ("missing-input", "row 3, column input_doc_ids", 1)
    ]


@case("lineage-cycle")
def _(rows: Rows) -> Any:
    # Through the parent of a row without inputs: the essay is made from the draft, and the draft from the essay.
    essay = rows["essay"][0]
    rows = change_row(rows, "draft", 0, input_doc_ids=(f"essay/{essay.doc_id}",))
    return rows, [("lineage-cycle", "the table of stage draft", 1)]


@case("duplicate-doc-id, of a stage without children")
def _(rows: Rows) -> Any:
    doc_id = rows["evaluation"][0].doc_id
    return change_row(rows, "evaluation", 1, doc_id=doc_id), [("duplicate-doc-id", "row 2, column doc_id", 2)]


@case("duplicate-task-id")
def _(rows: Rows) -> Any:
    again = attrs.evolve(rows["evaluation"][0], doc_id="other")
    return add_row(rows, again), [("duplicate-task-id", "row 3, column evaluation_task_id", 0)]


@case("a copied row")
def _(rows: Rows) -> Any:
    return add_row(rows, rows["draft"][0]), [
        ("duplicate-doc-id", "row 3, column doc_id", 0),
        ("duplicate-task-id", "row 3, column draft_task_id", 0),
    ]


@case("missing-doc-id")
def _(rows: Rows) -> Any:
    return add_row(rows, DraftTask(task_id="d-3")), [("missing-doc-id", "row 3, column doc_id", 0)]


@case("missing-parent-id")
def _(rows: Rows) -> Any:
    return change_row(rows, "essay", 0, parent_doc_id=None), [("missing-parent-id", "row 1, column parent_doc_id", 0)]


@case("malformed doc id")
def _(rows: Rows) -> Any:
    return change_row(rows, "evaluation", 0, doc_id="../x"), [("malformed-id", "row 1, column doc_id", 0)]


@case("malformed parent")
def _(rows: Rows) -> Any:
    return change_row(rows, "essay", 0, parent_doc_id="A"), [("malformed-id", "row 1, column parent_doc_id", 0)]


@case("malformed source")
def _(rows: Rows) -> Any:
    return change_row(rows, "draft", 0, source_doc_id="a b"), [("malformed-id", "row 1, column source_doc_id", 0)]


@case("malformed task id")
def _(rows: Rows) -> Any:
    return change_row(rows, "draft", 0, task_id="d-1 "), [("malformed-id", "row 1, column draft_task_id", 0)]


@case("missing task id")
def _(rows: Rows) -> Any:
    return change_row(rows, "draft", 0, task_id="nan"), [("malformed-id", "row 1, column draft_task_id", 0)]


@case("missing-parent")
def _(rows: Rows) -> Any:
    return change_row(rows, "essay", 1, parent_doc_id="nowhere"), [("missing-parent", "row 2, column parent_doc_id", 0)]


@case("wrong-stage-parent")
def _(rows: Rows) -> Any:
    parent = rows["essay"][0].doc_id
    return change_row(rows, "essay", 1, parent_doc_id=parent), [
        ("wrong-stage-parent", "row 2, column parent_doc_id", 0)
    ]


@case("parent of a later stage")
def _(rows: Rows) -> Any:
    parent = rows["evaluation"][0].doc_id
    return change_row(rows, "essay", 1, parent_doc_id=parent), [
        ("wrong-stage-parent", "row 2, column parent_doc_id", 0)
    ]


@pytest.mark.parametrize("chunk", [None, 1, 3, 16])
@pytest.mark.parametrize("act", CASES)
def test_fault_in_table_gives_exactly_its_findings(rows: Rows, act: Any, chunk: int | None) -> None:
    faulty, expected = act(rows)
    report = audit_in(faulty, chunk)
    assert [(finding.code, finding.where) for finding in report.findings] == [
        (code, where) for code, where, _ in sorted(expected, key=lambda each: (rank_stage(each, faulty), each[0]))
    ]
    assert not report.ok
    for finding in report.findings:
        assert finding.message
        assert finding.hint
        assert finding.level == LEVELS[finding.code] == "error"
        assert finding.task_id is not None


def rank_stage(expected: tuple[str, str, int], rows: Rows) -> int:
    """Return the order of a finding's stage: a missing parent is in the later stage."""
    return int(expected[0] == "missing-parent")


def test_missing_values_are_missing_ids(rows: Rows, tmp_path: Path) -> None:
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
    assert report.findings[0].message == "'none' counts as empty"


def test_run_id_or_salt_separates_rows_of_one_task() -> None:
    tasks = [DraftTask(task_id="d-1"), DraftTask(task_id="d-1", doc_salt="2"), DraftTask(task_id="d-1", doc_run_id="2")]
    report = audit(None, {"draft": reserve_tasks(tasks, DraftTask)})
    assert report.findings == ()
    assert report.stages["draft"].underived == 0


def test_underived_ids_are_counted(rows: Rows) -> None:
    [salted] = reserve_tasks([DraftTask(task_id="d-3")], DraftTask, salt="s")
    more = add_row(add_row(rows, attrs.evolve(salted, doc_salt=None)), DraftTask(task_id="d-4", doc_id="4a2"))
    bad = DraftTask(task_id="d-5", doc_id="d5", doc_salt="a\tb")
    assert audit(None, add_row(more, bad)).stages["draft"].underived == 2


def test_parents_are_not_checked_without_their_table_and_store(rows: Rows) -> None:
    assert audit(None, {"essay": rows["essay"]}).ok
    assert audit(None, {"evaluation": change_row(rows, "evaluation", 0, parent_doc_id="x")["evaluation"]}).ok


def test_rows_may_be_an_iterator(tmp_path: Path, rows: Rows) -> None:
    path = tmp_path / "draft_tasks.csv"
    write_tasks(path, [*rows["draft"], attrs.evolve(rows["draft"][0], doc_id="x")])
    report = audit(None, {"draft": read_tasks(path, DraftTask)})
    assert [finding.where for finding in report.findings] == [f"{path} row 4, column draft_task_id"]
    assert audit(None, {"draft": iter(rows["draft"])}).stages["draft"].rows == 2


def test_invalid_headers_of_all_tables_are_raised_together(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("chunk", [None, 2])
def test_damaged_rows_of_all_tables_are_raised_together(tmp_path: Path, full: DocsStore, chunk: int | None) -> None:
    paths = {stage: tmp_path / f"{stage}_tasks.csv" for stage in ("draft", "essay")}
    paths["draft"].write_bytes(b"draft_task_id,doc_id\nd-1,a1\nd-2,a1,x\nd-3,\xff\n")
    paths["essay"].write_text("essay_task_id,parent_doc_id,doc_id\ne-1,a1,b1\n'e-2'\n")
    with pytest.raises(TaskTableError) as caught:
        audit_in(paths, chunk, full)
    assert [(os.path.basename(problem.file), problem.row) for problem in caught.value.problems] == [
        ("draft_tasks.csv", 3),
        ("draft_tasks.csv", 4),
        ("essay_tasks.csv", 3),
    ]


def test_wrong_arguments_raise(rows: Rows) -> None:
    with pytest.raises(InvalidName, match="not a stage of this pipeline"):
        audit(None, {"outline": []})
    with pytest.raises(ValueError, match="expected rows of stage 'essay', got a row of stage 'draft'"):
        audit(None, {"essay": rows["draft"]})
    with pytest.raises(TypeError, match=r"tables\['draft'\]: expected a path or rows, got int"):
        audit(None, {"draft": 7})  # type: ignore[dict-item]
    for tables in ("tables", [("draft", "draft_tasks.csv")], []):
        with pytest.raises(
            TypeError, match=r"tables: expected a mapping of stages to tables, as \{'draft': path\}, got (str|list)"
        ):
            audit(None, tables)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="tables: expected rows of task tables .*, got str; read_tasks"):
        audit(None, {"draft": ["draft_task_id"]})  # type: ignore[list-item]
    with pytest.raises(TypeError, match="stages: expected Stages, such as .*, got str"):
        audit(None, {}, stages="draft")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="store: expected a DocsStore, a directory or None, got dict"):
        audit({"draft": rows["draft"]})  # type: ignore[arg-type]


def test_directory_as_table_raises(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a directory; expected the task table of stage draft"):
        audit(None, {"draft": tmp_path})


def test_missing_run_id_or_salt_does_not_separate_rows(tmp_path: Path) -> None:
    path = tmp_path / "draft_tasks.csv"
    path.write_text("draft_task_id,doc_run_id,doc_salt,doc_id\nt,,,d1\nt,nan,,d2\nt, ,null,d3\nt,,s,d4\n")
    for table in (path, read_tasks(path, DraftTask)):
        assert audit(None, {"draft": table}).counts == {"duplicate-task-id": 2}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pipe", "draft_task_id,doc_id\nd-1,d1\nd-1,d2\n"),
        ("pipe", "draft_task_id;doc_id\nd-1;d1\nd-1;d2\n"),
        ("pipe.jsonl", '\n{"draft_task_id": "d-1", "doc_id": "d1"}\n{"draft_task_id": "d-1", "doc_id": "d2"}\n'),
    ],
)
def test_table_may_be_a_pipe(tmp_path: Path, name: str, text: str) -> None:
    pipe = tmp_path / name
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as executor:
        writing = executor.submit(pipe.write_text, text)
        report = audit(None, {"draft": pipe}, delimiter="auto")
        assert writing.result()
    assert [finding.where for finding in report.findings] == [f"{pipe} row 3, column draft_task_id"]


def test_table_with_only_damaged_rows_does_not_hide_other_tables(tmp_path: Path) -> None:
    paths = {stage: tmp_path / f"{stage}_tasks.csv" for stage in ("draft", "essay")}
    paths["draft"].write_bytes(b"draft_task_id,doc_id\nt\xff,d1\n")
    paths["essay"].write_bytes(b"essay_task_id,parent_doc_id,doc_id\ne1,d1,e1\ne2\xff,d1,e2\n")
    with pytest.raises(TaskTableError) as caught:
        audit(None, paths)
    assert caught.value.count == 2

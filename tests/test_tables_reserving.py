"""`reserve_tasks` fills empty doc ids and keeps the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from docid import (
    DraftTask,
    EssayTask,
    InvalidName,
    TaskRow,
    TaskTableError,
    read_tasks,
    reserve_doc_id,
    reserve_tasks,
    write_tasks,
)
from tests.tables import ChapterTask, table


def test_reserve_fills_empty_ids_and_keeps_others() -> None:
    rows = [DraftTask(task_id="a"), DraftTask(task_id="b", doc_id="by-hand"), DraftTask(task_id="c", doc_salt="s")]
    reserved = list(reserve_tasks(rows, DraftTask))
    assert [row.doc_id for row in reserved] == [
        reserve_doc_id("draft", "a"),
        "by-hand",
        reserve_doc_id("draft", "c", salt="s"),
    ]
    assert list(reserve_tasks(reserved, DraftTask, run_id="r", salt="x")) == reserved


def test_row_records_run_and_salt_of_its_id(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id,note\na,x\nb,y\n")
    write_tasks(path, reserve_tasks(read_tasks(path, DraftTask, reserved=False), DraftTask, "run 1", "salt"))
    assert path.read_text().splitlines()[0] == "draft_task_id,note,doc_run_id,doc_salt,doc_id"
    rows = list(read_tasks(path, DraftTask))
    for row in rows:
        assert row.doc_id == reserve_doc_id("draft", row.task_id, row.doc_run_id, row.doc_salt)
    emptied = [attrs.evolve(row, doc_id="") for row in rows]
    assert list(reserve_tasks(emptied, DraftTask)) == rows
    [other] = reserve_tasks(emptied[:1], DraftTask, salt="new")
    assert (other.doc_run_id, other.doc_salt) == ("run 1", "new")
    assert other.doc_id == reserve_doc_id("draft", "a", "run 1", "new")


def test_parents_are_found_by_task_id() -> None:
    drafts = list(reserve_tasks([DraftTask(task_id="a"), DraftTask(task_id="b")], DraftTask))
    essays = [
        EssayTask(task_id="1", draft_task_id="b"),
        EssayTask(task_id="2", draft_task_id="zz", parent_doc_id="by-hand"),
    ]
    for parents in (drafts, {row.task_id: row.doc_id for row in drafts}, iter(drafts)):
        reserved = list(reserve_tasks(essays, EssayTask, parents=parents))
        assert [row.parent_doc_id for row in reserved] == [drafts[1].doc_id, "by-hand"]
    assert [row.parent_doc_id for row in reserve_tasks(essays, EssayTask)] == [None, "by-hand"]
    chapters = [ChapterTask(task_id="c", extra={"outline_task_id": "o"})]
    [chapter] = reserve_tasks(chapters, ChapterTask, parents={"o": "o1"})
    assert chapter.parent_doc_id == "o1"
    assert [row.parent_doc_id for row in reserve_tasks(drafts, DraftTask, parents={})] == [None, None]


def test_wrong_parents_are_refused(tmp_path: Path) -> None:
    chapter = TaskRow.of("chapter", "outline")
    misspelt = read_tasks(table(tmp_path, "chapter_task_id,outline_taskid\nt,o\n", "m.csv"), chapter, reserved=False)
    with pytest.raises(TaskTableError, match="missing from the header; is 'outline_taskid' misspelled"):
        reserve_tasks(misspelt, chapter, parents={})
    path = table(tmp_path, "chapter_task_id,Outline Task ID,parent_doc_id\nt,o,\n", "n.csv")
    with pytest.raises(TaskTableError, match="row 1, column outline_task_id: .*; is 'Outline Task ID' misspelled"):
        reserve_tasks(read_tasks(path, chapter, reserved=False), chapter, parents={"o": "o1"})
    with pytest.raises(ValueError, match="parents: expected rows of stage 'draft', got a row of stage 'essay'"):
        reserve_tasks([], EssayTask, parents=[EssayTask(task_id="e")])
    with pytest.raises(TypeError, match="parents: expected rows of task tables .* read_tasks makes them from a file"):
        reserve_tasks([], EssayTask, parents="draft_tasks.csv")  # type: ignore[arg-type]
    rows = read_tasks(table(tmp_path, "essay_task_id\nt\n"), EssayTask, reserved=False)
    with pytest.raises(
        TaskTableError, match="row 1, column draft_task_id: missing from the header; docid needs it to find"
    ):
        reserve_tasks(rows, EssayTask, parents={})


def reserve_problems(rows: Any, row_type: type[TaskRow], **options: Any) -> list[str]:
    with pytest.raises(TaskTableError) as caught:
        list(reserve_tasks(rows, row_type, **options))
    return [str(problem) for problem in caught.value.problems]


def test_duplicate_ids_are_refused_and_both_rows_named(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id\na\nb\n\na\n", "draft_tasks.csv")
    doc_id = reserve_doc_id("draft", "a")
    before = path.read_bytes()
    expected = f"{path} row 5, column draft_task_id: 'a'; same doc id {doc_id} as row 2; expected one row per document. Remove this row, or set its doc_salt"
    assert reserve_problems(read_tasks(path, DraftTask, reserved=False), DraftTask) == [expected]
    with pytest.raises(TaskTableError):
        write_tasks(path, reserve_tasks(read_tasks(path, DraftTask, reserved=False), DraftTask))
    assert path.read_bytes() == before
    assert reserve_problems([DraftTask(task_id="x", doc_id=doc_id), DraftTask(task_id="a")], DraftTask) == [
        f"row 2, column draft_task_id: 'a'; same doc id {doc_id} as row 1; expected one row per document. "
        "Remove this row, or set its doc_salt"
    ]
    assert reserve_problems([DraftTask(task_id="x", doc_id="d"), DraftTask(task_id="y", doc_id="d")], DraftTask) == [
        "row 2, column doc_id: 'd'; same doc id d as row 1; expected one row per document. Remove this row, or "
        "empty its doc_id (and set doc_salt, if its task is the same)"
    ]


def test_faults_of_reading_and_reserving_are_raised_together(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id,doc_id\na,\na,\nb\nc,..\n", "draft_tasks.csv")
    problems = reserve_problems(read_tasks(path, DraftTask, reserved=False), DraftTask)
    assert [problem.removeprefix(f"{path} ")[:5] for problem in problems] == ["row 3", "row 4", "row 5"]


def test_reserved_table_without_rows_has_id_columns(tmp_path: Path) -> None:
    path = table(tmp_path, "essay_task_id,note\n")
    write_tasks(path, reserve_tasks(read_tasks(path, EssayTask, reserved=False), EssayTask))
    assert path.read_text() == "essay_task_id,note,parent_doc_id,doc_id\n"
    assert list(read_tasks(path, EssayTask)) == []


def test_all_faults_of_reserving_are_reported_together() -> None:
    parents = [
        DraftTask(task_id="twice", doc_id="d1"),
        DraftTask(task_id="twice", doc_id="d2"),
        DraftTask(task_id="empty"),
        DraftTask(task_id="same", doc_id="d3"),
        DraftTask(task_id="same", doc_id="d3"),
        DraftTask(task_id="odd", doc_id="../x"),
    ]
    rows = [
        EssayTask(task_id=" x", draft_task_id="same"),
        EssayTask(task_id="a", draft_task_id="twice"),
        EssayTask(task_id="b", draft_task_id="none"),
        EssayTask(task_id="c", draft_task_id="other"),
        EssayTask(task_id="d", draft_task_id="empty"),
        EssayTask(task_id="e", draft_task_id="same", doc_salt=" s"),
        EssayTask(task_id="f", draft_task_id="same", doc_run_id="r\n"),
        EssayTask(task_id="g", draft_task_id="same"),
        EssayTask(task_id="h", draft_task_id="odd"),
        EssayTask(task_id="cafe\u0301", draft_task_id="same"),
    ]
    assert reserve_problems(rows, EssayTask, parents=parents) == [
        "row 1, column essay_task_id: ' x'; leading or trailing white space; expected the text without it",
        "row 2, column draft_task_id: 'twice'; has several doc ids in the parents' table; set parent_doc_id yourself",
        "row 3, column draft_task_id: 'none'; empty; expected the parent's task id",
        "row 4, column draft_task_id: 'other'; not in the parents' table; expected a task id from it",
        "row 5, column draft_task_id: 'empty'; has no doc_id in the parents' table; reserve that table first",
        "row 6, column doc_salt: ' s'; leading or trailing white space; expected the text without it",
        "row 7, column doc_run_id: 'r\\n'; control character U+000A; expected one line of text without control characters",
        "row 9, column draft_task_id: 'odd'; its doc_id in the parents' table, '../x', is not a doc id",
        r"row 10, column essay_task_id: 'cafe\u0301'; not in NFC; expected the text, or its table, in Unicode "
        "normal form NFC (unicodedata.normalize('NFC', text))",
    ]


@pytest.mark.parametrize(("argument", "value"), [("run_id", ""), ("salt", " s"), ("salt", "nan"), ("run_id", "None")])
def test_invalid_run_or_salt_is_refused_at_once(argument: str, value: str) -> None:
    with pytest.raises(InvalidName, match=f"^{argument} '"):
        reserve_tasks([], DraftTask, **{argument: value})  # type: ignore[arg-type]


def test_words_that_mean_missing_give_no_run_or_salt(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id,doc_run_id,doc_salt\na,nan, \n")
    [row] = reserve_tasks(read_tasks(path, DraftTask, reserved=False), DraftTask)
    assert (row.doc_id, row.doc_run_id, row.doc_salt) == (reserve_doc_id("draft", "a"), None, None)


def test_reserve_refuses_faulty_row_type() -> None:
    class Odd(TaskRow):
        stage = "Chapter"

    with pytest.raises(InvalidName, match=r"Odd\.stage 'Chapter': not a stage name"):
        reserve_tasks([], Odd)

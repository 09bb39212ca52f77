"""Rows of task tables, and the classes that declare them."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import attrs
import pytest

from docid import (
    DraftTask,
    EssayTask,
    EvaluationTask,
    InvalidName,
    Stages,
    TaskRow,
    read_tasks,
    reserve_tasks,
    write_tasks,
)
from docid.tables.rows import row_type_of
from tests.tables import ChapterTask, NoteTask, table


def test_row_is_frozen_and_compares_without_columns(tmp_path: Path) -> None:
    path = table(tmp_path, "essay_task_id,note\nt-1,n\n")
    [read] = read_tasks(path, EssayTask, reserved=False)
    assert read == EssayTask(task_id="t-1", extra={"note": "n"})
    assert hash(read) == hash(EssayTask(task_id="t-1"))
    assert read.columns == ("essay_task_id", "note")
    assert pickle.loads(pickle.dumps(read)) == read
    assert (read.doc_id, read.parent_doc_id, read.combo_id) == ("", None, "")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        read.doc_id = "a1"  # type: ignore[misc]


def test_repr_shows_fields_that_differ_from_defaults() -> None:
    row = EssayTask(task_id="t", doc_id="e1", parent_doc_id="p1", combo_id="", extra={"a": "b"})
    assert repr(row) == "EssayTask(task_id='t', doc_id='e1', parent_doc_id='p1', extra={'a': 'b'})"
    assert eval(repr(row)) == row
    assert repr(NoteTask(task_id="t")) == "NoteTask(task_id='t')"


def test_cell_returns_text_of_column(tmp_path: Path) -> None:
    row = ChapterTask(task_id="t", title="One", words=7, extra={"outline_task_id": "o"})
    assert [row.cell(name) for name in ("chapter_task_id", "Chapter title", "words", "outline_task_id", "none")] == [
        "t",
        "One",
        "7",
        "o",
        "",
    ]


def test_extra_refuses_columns_of_fields() -> None:
    with pytest.raises(InvalidName, match="extra 'combo_id': also a field of the row"):
        EssayTask(task_id="t", extra={"combo_id": "x"})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({}, "NoStage: no stage; add stage = '…' to the class", id="no stage"),
        pytest.param({"stage": "Chapter"}, "NoStage.stage 'Chapter': not a stage name", id="no stage name"),
        pytest.param(
            {"stage": "x", "a": attrs.field(type=list)}, "field a: expected the type str, int, float or bool", id="list"
        ),
        pytest.param(
            {
                "stage": "x",
                "a": attrs.field(type=int | str),  # type: ignore[arg-type]
            },
            "field a: expected the type",
            id="two types",
        ),
        pytest.param(
            {"stage": "x", "a": attrs.field(type=str, metadata={"column": "doc_id"})},
            "two fields share a column",
            id="a column twice",
        ),
    ],
)
def test_invalid_row_type_is_refused(tmp_path: Path, body: dict[str, Any], message: str) -> None:
    annotations = {name: value.type for name, value in body.items() if name != "stage"}
    row_type = attrs.frozen(kw_only=True)(
        type(
            "NoStage",
            (TaskRow,),
            {
                **{
                    name: value if name == "stage" else attrs.field(metadata=value.metadata)
                    for name, value in body.items()
                },
                "__annotations__": annotations,
            },
        )
    )
    with pytest.raises((TypeError, InvalidName), match=message):
        read_tasks(table(tmp_path, "x_task_id\n"), row_type)


def test_annotation_without_attrs_is_refused(tmp_path: Path) -> None:
    class Bare(TaskRow):
        stage = "bare"
        words: int = 3

    with pytest.raises(
        TypeError, match=r"Bare.words: not a field; decorate the class with @attrs.frozen\(kw_only=True\)"
    ):
        read_tasks(table(tmp_path, "bare_task_id,words\nt,9\n"), Bare)
    with pytest.raises(TypeError, match="Bare.words"):
        Bare(task_id="t")


@attrs.frozen(kw_only=True)
class SubNote(TaskRow.of("note")):  # type: ignore[misc]
    words: int = 1


sub_note: Any = SubNote


def test_row_of_plain_type_pickles() -> None:
    sub = sub_note(task_id="t", words=5)
    assert pickle.loads(pickle.dumps(sub)) == copy.copy(sub) == sub
    row = TaskRow.of("note", "outline")(task_id="t", extra={"a": "b"}, doc_salt="s")
    again = pickle.loads(pickle.dumps(row))
    assert again == row
    assert type(again) is type(row)


@pytest.mark.parametrize("value", [None, 3])
def test_extra_refuses_values_that_are_not_text(value: Any) -> None:
    with pytest.raises(TypeError, match=r"extra\['k'\]: expected a str, got"):
        NoteTask(task_id="t", extra={"k": value})


def test_stage_without_row_type_gets_plain_one() -> None:
    row_type = TaskRow.of("side-note", "outline")
    assert (row_type.stage, row_type.parent_stage, row_type.__name__) == ("side-note", "outline", "SideNoteTask")
    assert row_type is TaskRow.of("side-note", "outline")
    assert row_type_of("essay") is EssayTask
    stages = Stages.parse("draft,essay:")
    assert row_type_of("draft", stages) is DraftTask
    assert row_type_of("essay", stages) is TaskRow.of("essay")
    for names in (("Side Note",), ("note", "")):
        with pytest.raises(InvalidName):
            TaskRow.of(*names)
    with pytest.raises(InvalidName):
        row_type_of("note")


def test_wrong_types_of_rows_and_row_types_are_refused(tmp_path: Path) -> None:
    not_a_type: Any = "essay"
    for call in (
        lambda: read_tasks(table(tmp_path, "a\n"), not_a_type),
        lambda: reserve_tasks([], not_a_type),
        lambda: write_tasks(tmp_path / "x.csv", [], row_type=not_a_type),
        lambda: write_tasks(tmp_path / "x.csv", [DraftTask(task_id="t")], row_type=not_a_type),
        lambda: read_tasks(table(tmp_path, "a\n"), str),  # type: ignore[type-var]
    ):
        with pytest.raises(
            TypeError, match="row_type: expected a subclass of TaskRow, such as EssayTask or row_type_of"
        ):
            call()
    rows: Any = ["draft_task_id"]
    with pytest.raises(TypeError, match="rows: expected rows of task tables .*, got str; read_tasks"):
        write_tasks(tmp_path / "x.csv", rows)
    with pytest.raises(TypeError, match="rows: expected rows of task tables .*, got str; read_tasks"):
        list(reserve_tasks(rows, DraftTask))
    with pytest.raises(TypeError, match="parents: expected rows of task tables .*, got str; read_tasks"):
        reserve_tasks([], EssayTask, parents=rows)
    with pytest.raises(TypeError, match="stages: expected Stages, such as .*, got str"):
        row_type_of("draft", "draft,essay")  # type: ignore[arg-type]


def test_evaluation_row_has_its_columns() -> None:
    row = EvaluationTask(task_id="t", parser="complex", extra={"file_path": "x"})
    assert row.cell("file_path") == "x"
    assert row.parent_stage == "essay"

"""Rows of task tables, and the classes that declare them."""

from __future__ import annotations

import collections
import copy
import dataclasses
import enum
import pickle
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest

from docid import (
    DraftTask,
    EssayTask,
    EvaluationTask,
    InvalidName,
    Stages,
    TaskRow,
    TaskTableError,
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
            {"stage": "x", "parent_stage": "Y"}, "NoStage.parent_stage 'Y': not a stage name", id="no parent's name"
        ),
        pytest.param({"stage": "x", "parent_stage": 7}, "NoStage.parent_stage: expected a str", id="parent a number"),
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
    annotations = {name: value.type for name, value in body.items() if "stage" not in name}
    row_type = attrs.frozen(kw_only=True)(
        type(
            "NoStage",
            (TaskRow,),
            {
                **{
                    name: value if "stage" in name else attrs.field(metadata=value.metadata)
                    for name, value in body.items()
                },
                "__annotations__": annotations,
            },
        )
    )
    with pytest.raises((TypeError, InvalidName), match=message):
        read_tasks(table(tmp_path, "x_task_id\n"), row_type)


class Bare(TaskRow):
    stage = "bare"
    words: int = 3


class BareBelow(ChapterTask):
    note: str = ""


class BareDefault(TaskRow):
    stage = "bare"
    doc_id: str = "d1"


@pytest.mark.parametrize(
    ("row_type", "field"), [(Bare, "Bare.words"), (BareBelow, "BareBelow.note"), (BareDefault, "BareDefault.doc_id")]
)
def test_field_of_undecorated_class_is_one_error(row_type: Any, field: str, tmp_path: Path) -> None:
    path = table(tmp_path, "x\n")
    for use in (
        lambda: row_type(task_id="t"),
        lambda: row_type(task_id="t", words=3, note="n"),
        lambda: row_type("t"),
        lambda: read_tasks(path, row_type),
        lambda: reserve_tasks([], row_type),
        lambda: write_tasks(path, [], row_type=row_type),
    ):
        with pytest.raises(TypeError) as caught:
            use()
        assert str(caught.value) == f"{field}: not a field; decorate the class with @attrs.frozen(kw_only=True)"


@pytest.mark.parametrize("options", [{}, {"frozen": True}, {"slots": True}, {"kw_only": True}], ids=str)
def test_dataclass_is_one_error(options: dict[str, bool], tmp_path: Path) -> None:
    for body in ({}, {"words": 1, "__annotations__": {"words": int}}):
        row_type: Any = dataclasses.dataclass(**options)(type("Note", (TaskRow,), {"stage": "note", **body}))
        for use in (
            lambda new=row_type: new(task_id="t"),
            lambda new=row_type: new(task_id="t", words=3),
            lambda new=row_type: read_tasks(table(tmp_path, "x\n"), new),
        ):
            with pytest.raises(
                TypeError, match=r"^Note: a dataclass; decorate the class with @attrs.frozen\(kw_only=True\) instead$"
            ):
                use()


@pytest.mark.parametrize("name", ["stage", "parent_stage"])
@pytest.mark.parametrize("decorate", [attrs.frozen(kw_only=True), lambda each: each], ids=["attrs", "bare"])
def test_stage_with_a_type_is_one_error(name: str, decorate: Any) -> None:
    body = {"stage": "note", name: "note", "__annotations__": {name: str}}
    row_type = decorate(type("Note", (TaskRow,), body))
    with pytest.raises(TypeError, match=f"^Note.{name}: declared as a field; write {name} = '…' without a type$"):
        row_type(task_id="t")


def test_stage_may_be_a_class_variable() -> None:
    @attrs.frozen(kw_only=True)
    class Note(TaskRow):
        stage: ClassVar[str] = "note"

    assert Note(task_id="t").cell("note_task_id") == "t"


def test_type_that_cannot_be_resolved_is_one_error() -> None:
    row_type = attrs.frozen(kw_only=True)(
        type("Note", (TaskRow,), {"stage": "note", "__annotations__": {"words": "Nowhere"}, "words": attrs.field()})
    )
    with pytest.raises(TypeError, match="Note: name 'Nowhere' is not defined; define the types of its fields in its"):
        row_type(task_id="t")


@pytest.mark.parametrize(
    ("hint", "default", "message"),
    [
        (int, None, "Note.words, default: expected an int, got None; add | None to its type"),
        (int, "3", "Note.words, default: expected an int, got the str '3'"),
        (int, True, "Note.words, default: expected an int, got the bool True"),
        (str | None, 3, "Note.words, default: expected a str or None, got the int 3"),
    ],
)
def test_default_of_another_type_is_one_error(hint: Any, default: Any, message: str) -> None:
    body = {"stage": "note", "words": default, "__annotations__": {"words": hint}}
    row_type = attrs.frozen(kw_only=True)(type("Note", (TaskRow,), body))
    with pytest.raises(TypeError) as caught:
        row_type(task_id="t", words=3)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task_id": 7}, "ChapterTask.task_id: expected a str, got the int 7"),
        ({"task_id": None}, "ChapterTask.task_id: expected a str, got None"),
        ({"doc_id": None}, "ChapterTask.doc_id (task_id='t'): expected a str, got None"),
        ({"parent_doc_id": 1.5}, "ChapterTask.parent_doc_id (task_id='t'): expected a str or None, got the float 1.5"),
        ({"doc_salt": 2}, "ChapterTask.doc_salt (task_id='t'): expected a str or None, got the int 2"),
        ({"words": "many"}, "ChapterTask.words (task_id='t'): expected an int, got the str 'many'"),
        ({"words": True}, "ChapterTask.words (task_id='t'): expected an int, got the bool True"),
        ({"words": 3.0}, "ChapterTask.words (task_id='t'): expected an int, got the float 3.0"),
        ({"words": np.int64(3)}, "ChapterTask.words (task_id='t'): expected an int, got the int64 "),
        ({"weight": "1"}, "ChapterTask.weight (task_id='t'): expected a float or an int or None, got the str '1'"),
        ({"weight": False}, "ChapterTask.weight (task_id='t'): expected a float or an int or None, got the bool False"),
        ({"title": ["a"]}, "ChapterTask.title (task_id='t'): expected a str, got the list ['a']"),
        ({"title": "x" * 7, "extra": None}, "ChapterTask.extra (task_id='t'): expected a dict, got None"),
        ({"extra": [("a", "b")]}, "ChapterTask.extra (task_id='t'): expected a dict, got the list [('a', 'b')]"),
        ({"extra": {7: "x"}}, "extra[7]: expected a str, got int"),
        ({"columns": "task_id"}, "ChapterTask.columns (task_id='t'): expected a tuple, got the str 'task_id'"),
    ],
)
def test_value_of_another_type_is_refused_at_once(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError) as caught:
        ChapterTask(**{"task_id": "t", **fields})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", ["doc_salt", "doc_run_id", "parent_doc_id"])
@pytest.mark.parametrize("text", ["", "nan"])
def test_text_that_a_table_reads_as_missing_is_not_written(name: str, text: str, tmp_path: Path) -> None:
    fields: dict[str, Any] = {"task_id": "t", name: text}
    row = ChapterTask(**fields)
    with pytest.raises(TaskTableError, match=f"row 2, column {name}: ('nan'; )?expected (text|a doc id)"):
        write_tasks(tmp_path / "x.csv", [row])


class Level(enum.IntEnum):
    HIGH = 3


class Name(enum.StrEnum):
    MOBY = "moby"


def test_value_of_a_subtype_is_accepted(tmp_path: Path) -> None:
    row = ChapterTask(task_id=Name.MOBY, words=Level.HIGH, weight=2, extra=collections.OrderedDict(a="b"))
    write_tasks(tmp_path / "x.csv", [row])
    [again] = read_tasks(tmp_path / "x.csv", ChapterTask, reserved=False)
    assert again == row
    assert ChapterTask(task_id="t", weight=np.float64(0.5)).cell("weight") == "0.5"


@attrs.frozen(kw_only=True)
class OwnRepr(ChapterTask):
    def __repr__(self) -> str:
        return "mine"


@attrs.frozen(kw_only=True)
class BelowOwnRepr(OwnRepr):
    pass


@attrs.frozen(kw_only=True, slots=False)
class Wide(ChapterTask):
    more: str = ""


@attrs.define
class Defined(ChapterTask):
    more: str = ""


@attrs.frozen(kw_only=True, repr=True)
class Shown(ChapterTask):
    pass


def test_decorated_class_keeps_the_compact_repr() -> None:
    assert repr(ChapterTask(task_id="t")) == "ChapterTask(task_id='t')"
    assert repr(Wide(task_id="t", more="x")) == "Wide(task_id='t', more='x')"
    assert repr(Defined("x", task_id="t")) == "Defined(task_id='t', more='x')"
    assert repr(Shown(task_id="t")).count("=") > 5
    assert repr(OwnRepr(task_id="t")) == repr(BelowOwnRepr(task_id="t")) == "mine"
    for row in (ChapterTask(task_id="t", words=2), Wide(task_id="t", more="x")):
        assert eval(repr(row)) == row


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

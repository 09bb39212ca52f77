"""Task tables: what is read is what is written, and what is wrong is all said."""

from __future__ import annotations

import copy
import csv
import gzip
import io
import os
import pickle
import re
import resource
import signal
import stat
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any, Optional

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from docid import (
    DraftTask,
    EssayTask,
    EvaluationTask,
    InvalidName,
    Stages,
    TaskRow,
    TaskTableError,
    read_tasks,
    reserve_doc_id,
    reserve_tasks,
    write_tasks,
)
from docid.tables.atomicfile import AtomicFile
from docid.tables.rows import row_type_of
from docid.tables.tasks import stage_of_table


@attrs.frozen(kw_only=True)
class ChapterTask(TaskRow):
    stage = "chapter"
    parent_stage = "outline"

    words: int = 0
    weight: float | None = None
    final: Optional[bool] = None  # noqa: UP045 - both spellings are read
    title: str = attrs.field(default="", metadata={"column": "Chapter title"})


class NoteTask(TaskRow):
    stage = "note"


def table(tmp_path: Path, text: str | bytes, name: str = "essay_generation_tasks.csv") -> Path:
    path = tmp_path / name
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def problems_of(path: Path, row_type: type[TaskRow], **options: Any) -> list[str]:
    with pytest.raises(TaskTableError) as caught:
        list(read_tasks(path, row_type, **options))
    assert caught.value.count == len(caught.value.problems)
    assert all(problem.file == str(path) for problem in caught.value.problems)
    return [str(problem).removeprefix(f"{path} ") for problem in caught.value.problems]


# --- rows ------------------------------------------------------------------------------------------------------


def test_a_row_is_a_frozen_value_that_does_not_compare_its_columns(tmp_path: Path) -> None:
    path = table(tmp_path, "essay_task_id,note\nt-1,n\n")
    [read] = read_tasks(path, EssayTask, reserved=False)
    assert read == EssayTask(task_id="t-1", extra={"note": "n"})
    assert hash(read) == hash(EssayTask(task_id="t-1"))
    assert read.columns == ("essay_task_id", "note")
    assert pickle.loads(pickle.dumps(read)) == read
    assert (read.doc_id, read.parent_doc_id, read.combo_id) == ("", None, "")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        read.doc_id = "a1"  # type: ignore[misc]


def test_a_row_shows_what_is_set() -> None:
    row = EssayTask(task_id="t", doc_id="e1", parent_doc_id="p1", combo_id="", extra={"a": "b"})
    assert repr(row) == "EssayTask(task_id='t', doc_id='e1', parent_doc_id='p1', extra={'a': 'b'})"
    assert eval(repr(row)) == row
    assert repr(NoteTask(task_id="t")) == "NoteTask(task_id='t')"


def test_a_cell_is_asked_for_by_its_column(tmp_path: Path) -> None:
    row = ChapterTask(task_id="t", title="One", words=7, extra={"outline_task_id": "o"})
    assert [row.cell(name) for name in ("chapter_task_id", "Chapter title", "words", "outline_task_id", "none")] == [
        "t",
        "One",
        "7",
        "o",
        "",
    ]


def test_a_column_of_a_field_is_refused_in_extra() -> None:
    with pytest.raises(InvalidName, match="extra: a field of the row already: 'combo_id'"):
        EssayTask(task_id="t", extra={"combo_id": "x"})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({}, "NoStage: expected stage = '…' in the class", id="no stage"),
        pytest.param({"stage": "Chapter"}, "NoStage.stage: not a stage name", id="no stage name"),
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
            "a column of its own for each field",
            id="a column twice",
        ),
    ],
)
def test_a_row_type_that_no_table_can_have_is_refused(tmp_path: Path, body: dict[str, Any], message: str) -> None:
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


def test_a_field_that_the_class_does_not_have_is_refused(tmp_path: Path) -> None:
    class Bare(TaskRow):
        stage = "bare"
        words: int = 3

    with pytest.raises(
        TypeError, match=r"Bare.words: no field; expected the class below @attrs.frozen\(kw_only=True\)"
    ):
        read_tasks(table(tmp_path, "bare_task_id,words\nt,9\n"), Bare)
    with pytest.raises(TypeError, match="Bare.words"):
        Bare(task_id="t")


def test_what_was_put_into_extra_behind_the_row_s_back_is_not_written(tmp_path: Path) -> None:
    for name, text in (("combo_id", "x"), ("n", 0)):
        row = DraftTask(task_id="a", combo_id="mine")
        row.extra[name] = text  # type: ignore[assignment]
        with pytest.raises(TaskTableError, match=f"row 2, column {name}: "):
            write_tasks(tmp_path / "x.csv", [row])
    assert os.listdir(tmp_path) == []


@attrs.frozen(kw_only=True)
class SubNote(TaskRow.of("note")):  # type: ignore[misc]
    words: int = 1


sub_note: Any = SubNote


def test_a_row_of_a_plain_class_pickles() -> None:
    sub = sub_note(task_id="t", words=5)
    assert pickle.loads(pickle.dumps(sub)) == copy.copy(sub) == sub
    row = TaskRow.of("note", "outline")(task_id="t", extra={"a": "b"}, doc_salt="s")
    again = pickle.loads(pickle.dumps(row))
    assert again == row
    assert type(again) is type(row)


@pytest.mark.parametrize("value", [None, 3])
def test_extra_columns_are_text(value: Any) -> None:
    with pytest.raises(TypeError, match=r"extra\['k'\]: expected a str, got"):
        NoteTask(task_id="t", extra={"k": value})


def test_a_stage_without_a_row_type_gets_a_plain_one() -> None:
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


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("essay_generation_tasks.csv", "essay"),
        ("dir/evaluation_tasks.csv", "evaluation"),
        ("draft_tasks.csv.gz", "draft"),
        ("chapter_tasks.csv", None),
        ("essay_generation_tasks.csv.bak", None),
        ("essay.csv", None),
        ("_tasks.csv", None),
    ],
)
def test_a_table_s_name_tells_its_stage(name: str, stage: str | None) -> None:
    assert stage_of_table(name) == stage


def test_the_name_of_a_stage_may_end_like_that_of_a_table() -> None:
    stages = Stages.chain("a_generation", "b")
    assert stage_of_table("a_generation_tasks.csv", stages) == "a_generation"
    assert stage_of_table("a_generation_generation_tasks.csv", stages) == "a_generation"


# --- reading ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("bom", ["", "\ufeff"], ids=["no BOM", "BOM"])
@pytest.mark.parametrize("name", ["essay_tasks.csv", "essay_tasks.csv.gz"])
def test_every_usual_form_of_a_table_is_read(tmp_path: Path, name: str, bom: str, end: str) -> None:
    text = bom + end.join(["essay_task_id,parent_doc_id,doc_id,note", 't-1,p1,e1,"a,""b"""', "", "t-2,p1,e2,7.10", ""])
    rows = read_tasks(table(tmp_path, text, name), EssayTask)
    assert rows.columns == ("essay_task_id", "parent_doc_id", "doc_id", "note")
    first, second = rows
    assert (first.task_id, first.parent_doc_id, first.doc_id, first.extra) == ("t-1", "p1", "e1", {"note": 'a,"b"'})
    assert (second.task_id, second.extra) == ("t-2", {"note": "7.10"})
    assert rows.row == 4
    assert "EssayTask" in repr(rows)


def test_a_newline_in_a_cell_is_text(tmp_path: Path) -> None:
    path = table(tmp_path, 'note_task_id,doc_id,text\nt-1,n1,"a\r\nb\rc\nd"\nt-2,n2,x\n')
    rows = read_tasks(path, NoteTask)
    assert [row.extra["text"] for row in rows] == ["a\r\nb\rc\nd", "x"]
    assert rows.row == 3


@pytest.mark.parametrize("word", ["", " ", "nan", "NaN", "null", "NULL", "none", "None", " nan "])
def test_in_an_id_column_some_words_mean_missing_and_stay_as_they_are(tmp_path: Path, word: str) -> None:
    text = f"draft_task_id,source_doc_id,doc_id,combo_id\nt-1,{word},{word},{word}\n"
    path = table(tmp_path, text)
    [row] = read_tasks(path, DraftTask, reserved=False)
    assert (row.doc_id, row.source_doc_id, row.combo_id) == ("", None, word)
    write_tasks(tmp_path / "copy.csv", [row])
    assert (tmp_path / "copy.csv").read_text() == text
    write_tasks(tmp_path / "copy.csv", reserve_tasks([row], DraftTask))
    assert (tmp_path / "copy.csv").read_text() == text.replace(
        f",{word},{word}\n", f",{reserve_doc_id('draft', 't-1')},{word}\n"
    )


def test_a_field_with_a_default_brings_no_column_that_the_table_did_not_have(tmp_path: Path) -> None:
    text = "chapter_task_id,note\na,1\n"
    path = table(tmp_path, text)
    rows = list(read_tasks(path, ChapterTask, reserved=False))
    assert write_tasks(tmp_path / "copy.csv", rows) == 1
    assert (tmp_path / "copy.csv").read_text() == text
    write_tasks(tmp_path / "copy.csv", [attrs.evolve(rows[0], words=5)])
    assert (tmp_path / "copy.csv").read_text() == "chapter_task_id,note,words\na,1,5\n"


class Level(IntEnum):
    ONE = 1


class Half(float):
    def __repr__(self) -> str:
        return "np.float64(0.5)"


def test_a_number_past_what_a_float_holds_is_written_as_it_was(tmp_path: Path) -> None:
    path = table(tmp_path, "chapter_task_id,weight\na,1e999\n")
    write_tasks(tmp_path / "copy.csv", read_tasks(path, ChapterTask, reserved=False))
    assert (tmp_path / "copy.csv").read_text() == path.read_text()


def test_numbers_are_written_as_numbers_whatever_their_class(tmp_path: Path) -> None:
    write_tasks(tmp_path / "x.csv", [ChapterTask(task_id="t", words=Level.ONE, weight=Half(0.5), final=True)])
    [row] = read_tasks(tmp_path / "x.csv", ChapterTask, reserved=False)
    assert (row.words, row.weight, row.final) == (1, 0.5, True)


def test_a_class_s_own_validator_is_a_fault_of_the_row(tmp_path: Path) -> None:
    @attrs.frozen(kw_only=True)
    class Checked(TaskRow):
        stage = "note"
        words: int = attrs.field(default=0, validator=attrs.validators.ge(0))
        _private: str = "x"

    path = table(tmp_path, "note_task_id,words,_private\na,1,p\nb,-4,p\nc,-5,p\n")
    problems = problems_of(path, Checked, reserved=False)
    assert [problem.split(":")[0] for problem in problems] == ["row 3", "row 4"]
    assert "-4" in problems[0]
    path.write_text("note_task_id,words,_private\na,1,p\n")
    [row] = read_tasks(path, Checked, reserved=False)
    assert (row.words, row._private) == (1, "p")


def test_typed_columns_are_values_and_keep_their_text(tmp_path: Path) -> None:
    text = "chapter_task_id,words,weight,final,Chapter title\nt-1,007,1.50,TRUE,x\nt-2,-3,,,\nt-3,+1,.5e3,false,nan\n"
    path = table(tmp_path, text)
    rows = list(read_tasks(path, ChapterTask, reserved=False))
    assert [(row.words, row.weight, row.final, row.title) for row in rows] == [
        (7, 1.5, True, "x"),
        (-3, None, None, ""),
        (1, 500.0, False, "nan"),
    ]
    write_tasks(tmp_path / "copy.csv", rows)
    assert (tmp_path / "copy.csv").read_text() == text
    write_tasks(tmp_path / "copy.csv", [attrs.evolve(rows[0], words=8, weight=None, final=False)])
    assert (tmp_path / "copy.csv").read_text().splitlines()[1] == "t-1,8,,false,x"


HEADER = "essay_task_id,parent_doc_id,doc_id,combo_id\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", [": no header; expected a CSV table with the column essay_task_id"], id="empty file"),
        pytest.param("\n\n", [": no header; expected a CSV table with the column essay_task_id"], id="blank lines"),
        pytest.param(
            "essay_taks_id,parent_doc_id,doc_id\n",
            ["row 1, column essay_task_id: missing from the header; is 'essay_taks_id' meant for it?"],
            id="misspelt column",
        ),
        pytest.param(
            "a,b\n1,2\n",
            [
                "row 1, column essay_task_id: missing from the header; the columns are a, b",
                "row 1, column parent_doc_id: missing from the header; the columns are a, b ('docid reserve' adds it)",
                "row 1, column doc_id: missing from the header; the columns are a, b ('docid reserve' adds it)",
            ],
            id="another table",
        ),
        pytest.param(
            "essay_task_id;parent_doc_id;doc_id\n",
            ["row 1: 'essay_task_id;parent_doc_id;doc_id'; separated by ';'; expected commas"],
            id="semicolons",
        ),
        pytest.param(
            "essay_task_id,parent_doc_id,doc_id,doc_id\n",
            ["row 1, column doc_id: there twice; expected each column once"],
            id="column twice",
        ),
        pytest.param(
            b"essay_task_id,parent_doc_id,doc_id,caf\xe9\n",
            ["row 1: 'essay_task_id,parent_doc_id,doc_id,caf\\udce9'; not UTF-8; expected the table saved as UTF-8"],
            id="latin-1 header",
        ),
        pytest.param(
            (HEADER + "t-1,p1,e1,x\n").encode("utf-16"),
            [": UTF-16; expected the table saved as UTF-8 (of a spreadsheet: 'CSV UTF-8')"],
            id="utf-16",
        ),
        pytest.param(
            b"\xfe\xff" + (HEADER.replace(",", "\t") + '"t-1"\tp1\te1\tx\n').replace("\n", "\r\n").encode("utf-16-be"),
            [": UTF-16; expected the table saved as UTF-8 (of a spreadsheet: 'CSV UTF-8')"],
            id="utf-16, tabs and the other order of bytes",
        ),
        pytest.param(
            HEADER.encode() + b"t-1,p1,e1,caf\xe9\nt-2,p1,e2,x\nt-\xfc,p1,e3,\xdf\n",
            [
                "row 2, column combo_id: 'caf\\udce9'; not UTF-8; expected the table saved as UTF-8",
                "row 4, column essay_task_id: 't-\\udcfc'; not UTF-8; expected the table saved as UTF-8",
                "row 4, column combo_id: '\\udcdf'; not UTF-8; expected the table saved as UTF-8",
            ],
            id="latin-1 cells",
        ),
        pytest.param(
            HEADER + "t-1,p1,e1\nt-2,p1,e2,x,y\nt-3,p1,e3,x\n",
            ["row 2: 3 cells; expected 4, as in the header", "row 3: 5 cells; expected 4, as in the header"],
            id="short and long row",
        ),
        pytest.param(
            HEADER + ",p1,e1,x\n t,p1,e2,x\nnan,p1,e3,x\n",
            [
                "row 2, column essay_task_id: empty; expected the task's id",
                "row 3, column essay_task_id: ' t'; white space at an end; expected the text without it",
                "row 4, column essay_task_id: 'nan'; empty; expected the task's id",
            ],
            id="no task id",
        ),
        pytest.param(
            HEADER + "t-1,..,../x,x\nt-2,P1,12345E7,x\n",
            [
                "row 2, column parent_doc_id: '..'; not a doc id; expected 1 to 64 of a-z, 0-9, _ and -, the first a "
                "letter or digit, and no Windows device name",
                "row 2, column doc_id: '../x'; not a doc id; expected 1 to 64 of a-z, 0-9, _ and -, the first a "
                "letter or digit, and no Windows device name",
                "row 3, column parent_doc_id: 'P1'; not a doc id; expected 1 to 64 of a-z, 0-9, _ and -, the first a "
                "letter or digit, and no Windows device name",
                "row 3, column doc_id: '12345E7'; not a doc id; expected 1 to 64 of a-z, 0-9, _ and -, the first a "
                "letter or digit, and no Windows device name",
            ],
            id="no doc ids",
        ),
        pytest.param(
            HEADER + "t-1,,,x\nt-2,none,nan,x\n",
            [
                "row 2, column parent_doc_id: missing; expected the doc id of a document of stage 'draft' ('docid "
                "reserve' fills it)",
                "row 2, column doc_id: missing; expected the doc id of the row's document ('docid reserve' fills it)",
                "row 3, column parent_doc_id: 'none'; missing; expected the doc id of a document of stage 'draft' "
                "('docid reserve' fills it)",
                "row 3, column doc_id: 'nan'; missing; expected the doc id of the row's document ('docid reserve' "
                "fills it)",
            ],
            id="not reserved",
        ),
        pytest.param(
            'essay_task_id,"a"b\nt-1,x\n',
            ["row 1: not CSV: ',' expected after '\"'; expected quotes closed, and doubled inside of quotes"],
            id="header that is no CSV",
        ),
        pytest.param(
            HEADER + 't-1,p1,e1,"open\nt-2,p1,e2,x\n',
            ["row 2: not CSV: unexpected end of data; expected quotes closed, and doubled inside of quotes"],
            id="quote never closed",
        ),
        pytest.param(
            HEADER + 't-1,p1,e1,"a"b\nt-2,p1,e2\n',
            [
                "row 2: not CSV: ',' expected after '\"'; expected quotes closed, and doubled inside of quotes",
                "row 3: 3 cells; expected 4, as in the header",
            ],
            id="text behind a quote",
        ),
    ],
)
def test_a_faulty_table_is_reported_whole(tmp_path: Path, text: str | bytes, expected: list[str]) -> None:
    path = table(tmp_path, text)
    assert [problem.removeprefix(str(path)) for problem in problems_of(path, EssayTask)] == expected


def test_wrong_values_of_typed_columns_are_named(tmp_path: Path) -> None:
    path = table(tmp_path, "chapter_task_id,words,weight,final\nt-1,many,nan,yes\nt-2,,1_0, 1\nt-3,1.0,1e,1\n")
    assert problems_of(path, ChapterTask, reserved=False) == [
        "row 2, column words: 'many'; expected a whole number",
        "row 2, column weight: 'nan'; expected a number, or nothing",
        "row 2, column final: 'yes'; expected true or false, or nothing",
        "row 3, column words: empty; expected a whole number",
        "row 3, column weight: '1_0'; expected a number, or nothing",
        "row 3, column final: ' 1'; expected true or false, or nothing",
        "row 4, column words: '1.0'; expected a whole number",
        "row 4, column weight: '1e'; expected a number, or nothing",
        "row 4, column final: '1'; expected true or false, or nothing",
    ]


def test_a_field_without_default_is_a_required_column(tmp_path: Path) -> None:
    @attrs.frozen(kw_only=True)
    class Needed(TaskRow):
        stage = "note"
        text: str

    path = table(tmp_path, "note_task_id,texts\nt,x\n")
    [problem] = problems_of(path, Needed, reserved=False)
    assert problem == "row 1, column text: missing from the header; is 'texts' meant for it?"


def test_at_the_first_fault_no_more_rows_are_given_and_all_faults_are_raised_at_the_end(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id,doc_id\na,d1\nb,d2\nc,..\nd,d4\ne\nf,d6\n")
    given_rows = []
    with pytest.raises(TaskTableError, match=r"^2 problems:\n") as caught:
        for row in read_tasks(path, DraftTask):
            given_rows.append(row.task_id)  # noqa: PERF401
    assert given_rows == ["a", "b"]
    assert [(problem.row, problem.column, problem.value) for problem in caught.value.problems] == [
        (4, "doc_id", ".."),
        (6, None, ""),
    ]


def test_a_thousand_faults_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id,doc_id\n" + "t,..\n" * 2500)
    with pytest.raises(TaskTableError, match="^2500 problems:") as caught:
        list(read_tasks(path, DraftTask))
    assert (len(caught.value.problems), caught.value.count) == (1000, 2500)


def test_a_missing_or_damaged_file_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_tasks(tmp_path / "nowhere.csv", DraftTask)
    whole = gzip.compress(("draft_task_id,doc_id\n" + "".join(f"task {n},d{n}\n" for n in range(9999))).encode())
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TaskTableError, match="not gzip: .*expected a whole file"):
        list(read_tasks(cut, DraftTask))
    spoilt = bytearray(whole)
    spoilt[len(whole) // 2 : len(whole) // 2 + 40] = b"x" * 40
    cut.write_bytes(spoilt)
    with pytest.raises(TaskTableError, match="not gzip: "):
        list(read_tasks(cut, DraftTask))
    plain = tmp_path / "plain.csv.gz"
    plain.write_text("draft_task_id\n")
    with pytest.raises(TaskTableError, match="not gzip"):
        read_tasks(plain, DraftTask)
    with pytest.raises(IsADirectoryError):
        read_tasks(tmp_path, DraftTask)


def test_a_file_that_cannot_be_read_is_no_fault_of_the_table() -> None:
    with pytest.raises(OSError, match="Input/output error"):
        read_tasks("/proc/self/mem", DraftTask)


def test_a_table_half_read_leaves_no_file_open(tmp_path: Path) -> None:
    rows = read_tasks(table(tmp_path, "draft_task_id,doc_id\na,d1\nb,d2\n"), DraftTask)
    next(rows)
    before = len(os.listdir("/proc/self/fd"))
    del rows
    assert len(os.listdir("/proc/self/fd")) == before - 1


# --- writing ---------------------------------------------------------------------------------------------------

cells = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["", " ", "\r", "\n", "\r\n", '"', '""', ",", "\x00", "\ufeff", "=1+1", "0001", "1e5", "nan", "a\rb", "\u2028", "'"]
)
columns = st.lists(
    cells.filter(lambda name: name not in {"note_task_id", "doc_id", "doc_run_id", "doc_salt"}), unique=True, max_size=4
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    names=columns,
    newline=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
    place=st.integers(0, 5),
    suffix=st.sampled_from(["", ".gz"]),
)
def test_every_cell_survives_reading_and_writing(
    tmp_path: Path,
    data: st.DataObject,
    names: list[str],
    newline: str,
    bom: bool,
    place: int,
    suffix: str,
) -> None:
    header = [*names[:place], "note_task_id", *names[place:]]
    rows = data.draw(st.lists(st.tuples(*[st.just("t") if name == "note_task_id" else cells for name in header])))
    # Written by another hand: everything quoted, which is the safe way.
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator=newline, quoting=csv.QUOTE_ALL).writerows([header, *rows])
    text = ("\ufeff" if bom else "") + buffer.getvalue()
    path = table(tmp_path, text, f"note_tasks.csv{suffix}")
    expected = [dict(zip(header, row, strict=True)) for row in rows]

    read = list(read_tasks(path, NoteTask, reserved=False))
    assert [{name: row.cell(name) for name in header} for row in read] == expected
    copy = tmp_path / f"copy.csv{suffix}"
    write_tasks(copy, read_tasks(path, NoteTask, reserved=False), like=path)
    again = read_tasks(copy, NoteTask, reserved=False)
    assert again.columns == tuple(header)
    assert [{name: row.cell(name) for name in header} for row in again] == expected
    written = gzip.decompress(copy.read_bytes()) if suffix else copy.read_bytes()
    assert written.startswith(b"\xef\xbb\xbf") == (bom or header[0].startswith("\ufeff"))
    # Written once more it is the same to the byte.
    write_tasks(path, read_tasks(copy, NoteTask, reserved=False), like=copy)
    assert path.read_bytes() == copy.read_bytes()


def test_like_keeps_line_ends_and_bom_and_without_it_they_are_plain(tmp_path: Path) -> None:
    path = table(tmp_path, "\ufeffnote_task_id,doc_id\r\nt,n1\r\n")
    before = path.read_bytes()
    write_tasks(path, read_tasks(path, NoteTask), like=path)
    assert path.read_bytes() == before
    write_tasks(path, read_tasks(path, NoteTask))
    assert path.read_bytes() == b"note_task_id,doc_id\nt,n1\n"


def _append(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(gzip.compress(b"u,\n") if path.suffix == ".gz" else b"u,\n")


def _put_another(path: Path) -> None:
    other = path.with_name("other.csv")
    other.write_bytes(path.read_bytes())
    other.replace(path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("change", [_append, _put_another, Path.unlink])
def test_what_is_written_into_a_table_while_it_is_edited_is_not_undone(
    tmp_path: Path, change: Callable[[Path], None], suffix: str
) -> None:
    path = table(tmp_path, "note_task_id,doc_id\nt,\n", f"note_tasks.csv{suffix}")
    link = tmp_path / f"link.csv{suffix}"
    link.symlink_to(path.name)

    rows = reserve_tasks(read_tasks(path, NoteTask, reserved=False), NoteTask)
    change(path)
    after = path.read_bytes() if path.exists() else None
    with pytest.raises(TaskTableError, match=r"link\.csv.*changed by somebody else"):
        write_tasks(link, rows)
    assert (path.read_bytes() if path.exists() else None) == after
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".tmp-")]


def test_a_table_that_changes_once_its_rows_are_read_may_be_written_elsewhere(tmp_path: Path) -> None:
    path = table(tmp_path, "note_task_id,doc_id\nt,\n")
    rows = reserve_tasks(read_tasks(path, NoteTask, reserved=False), NoteTask)
    _append(path)
    assert write_tasks(tmp_path / "copy.csv", rows) in {1, 2}


def test_rows_of_no_table_get_the_columns_of_their_type(tmp_path: Path) -> None:
    path = tmp_path / "essay_tasks.csv"
    row = EssayTask(task_id="t", draft_task_id="d", doc_id="e1", parent_doc_id="p1", extra={"note": "n"})
    assert write_tasks(path, [row, attrs.evolve(row, task_id="u", doc_id="e2")]) == 2
    assert path.read_text() == (
        "essay_task_id,parent_doc_id,draft_task_id,combo_id,draft_template,essay_template,generation_model,"
        "generation_model_name,note,doc_id\nt,p1,d,,,,,,n,e1\nu,p1,d,,,,,,n,e2\n"
    )
    assert list(read_tasks(path, EssayTask)) == [row, attrs.evolve(row, task_id="u", doc_id="e2")]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_column_that_a_later_row_brings_is_added_to_all(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"note_tasks.csv{suffix}"
    rows = [
        NoteTask(task_id="a", doc_id="n1", extra={"x": 'say "x"\r\n'}),
        NoteTask(task_id="b", doc_id="n2", extra={"empty": ""}),
        NoteTask(task_id="c", doc_id="n3", extra={"y": "late"}, doc_salt="s"),
        NoteTask(task_id="d", doc_id="n4", extra={"z": "last", "x": "again"}),
    ]
    assert write_tasks(path, rows) == 4
    read = list(read_tasks(path, NoteTask))
    assert read[0].columns == ("note_task_id", "x", "doc_id", "y", "doc_salt", "z")
    assert [{name: text for name, text in row.extra.items() if text} for row in read] == [
        {"x": 'say "x"\r\n'},
        {},
        {"y": "late"},
        {"z": "last", "x": "again"},
    ]
    assert [row.doc_salt for row in read] == [None, None, "s", None]
    assert os.listdir(tmp_path) == [path.name]


def test_a_table_without_rows_keeps_its_header(tmp_path: Path) -> None:
    path = table(tmp_path, "\ufeffnote_task_id,x,doc_id\r\n")
    copy = tmp_path / "copy.csv"
    assert write_tasks(copy, read_tasks(path, NoteTask)) == 0
    assert copy.read_bytes() == b"note_task_id,x,doc_id\n"
    write_tasks(copy, reserve_tasks(read_tasks(path, NoteTask), NoteTask))
    assert copy.read_bytes() == b"note_task_id,x,doc_id\n"
    write_tasks(copy, [], like=path)
    assert copy.read_bytes() == path.read_bytes()
    write_tasks(copy, [], row_type=NoteTask)
    assert copy.read_bytes() == b"note_task_id,doc_id\n"
    with pytest.raises(ValueError, match="rows: none, so the header is unknown; pass row_type or like"):
        write_tasks(tmp_path / "new.csv", [])
    assert not (tmp_path / "new.csv").exists()


def test_what_fails_on_the_way_leaves_the_old_table_and_nothing_beside_it(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id,doc_id\na,d1\nb,d2\nc\n")
    before = path.read_bytes()
    with pytest.raises(TaskTableError, match="1 cells; expected 2"):
        write_tasks(path, read_tasks(path, DraftTask))
    with pytest.raises(TaskTableError, match=r"row 3, column combo_id: '\\ud800'; expected text that UTF-8 can hold"):
        write_tasks(path, [DraftTask(task_id="a"), DraftTask(task_id="b", combo_id="\ud800")])
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": "many"}, "row 2, column words: 'many'; expected a whole number"),
        ({"words": None}, "row 2, column words: 'None'; expected a whole number"),
        ({"weight": float("nan")}, "row 2, column weight: 'nan'; expected a number, or nothing"),
        ({"title": None}, "row 2, column Chapter title: 'None'; expected text"),
        ({"task_id": 3}, "row 2, column chapter_task_id: '3'; expected the task's id"),
        ({"task_id": ""}, "row 2, column chapter_task_id: empty; expected the task's id"),
        ({"task_id": "t "}, "row 2, column chapter_task_id: 't '; white space at an end"),
        ({"doc_id": ".."}, "row 2, column doc_id: '..'; not a doc id"),
    ],
)
def test_what_a_reader_would_not_give_back_is_not_written(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {"task_id": "t", **change}
    with pytest.raises(TaskTableError, match=re.escape(message)):
        write_tasks(tmp_path / "x.csv", [ChapterTask(**fields)])
    assert os.listdir(tmp_path) == []


def test_rows_of_two_classes_are_no_table(tmp_path: Path) -> None:
    rows: list[Any] = [DraftTask(task_id="d"), EssayTask(task_id="e", draft_task_id="d")]
    with pytest.raises(TypeError, match="rows: expected rows of DraftTask, got EssayTask"):
        write_tasks(tmp_path / "x.csv", rows)
    with pytest.raises(TypeError, match="rows: expected rows of EssayTask, got DraftTask"):
        list(reserve_tasks(rows[:1], EssayTask))
    # Two of one name are told apart by their modules.
    plain: type[Any] = TaskRow.of("chapter")
    with pytest.raises(
        TypeError, match=re.escape(f"expected rows of docid.tables.rows.ChapterTask, got {__name__}.Chapter")
    ):
        list(reserve_tasks([ChapterTask(task_id="c")], plain))
    assert os.listdir(tmp_path) == []


def test_a_table_is_replaced_through_a_link_with_its_permissions(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id\na\n")
    path.chmod(0o640)
    (tmp_path / "link.csv").symlink_to(path.name)
    rows = reserve_tasks(read_tasks(tmp_path / "link.csv", DraftTask, reserved=False), DraftTask)
    write_tasks(tmp_path / "link.csv", rows)
    assert (tmp_path / "link.csv").is_symlink()
    assert path.read_text() == f"draft_task_id,doc_id\na,{reserve_doc_id('draft', 'a')}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_private_table_is_private_while_it_is_written(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id\na\n")
    path.chmod(0o600)
    with AtomicFile(str(path)) as new:
        assert stat.S_IMODE(os.stat(new.temporary).st_mode) == 0o600


def test_a_directory_that_is_not_there_is_an_error_with_the_table_s_name(tmp_path: Path) -> None:
    path = tmp_path / "none" / "draft_tasks.csv"
    with pytest.raises(FileNotFoundError, match=re.escape(repr(str(path)))):
        write_tasks(path, [DraftTask(task_id="a")])


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_full_disk_leaves_the_old_table_and_nothing_beside_it(tmp_path: Path, suffix: str) -> None:
    path = table(tmp_path, "draft_task_id\na\n", f"draft_tasks.csv{suffix}")
    before = path.read_bytes()
    rows = [DraftTask(task_id=os.urandom(500).hex()) for _ in range(200)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            write_tasks(path, rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_link_to_a_compressed_table_of_another_name_stays_compressed(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(gzip.compress(b"draft_task_id\na\n"))
    path = tmp_path / "draft_tasks.csv.gz"
    path.symlink_to("blob")
    late = [DraftTask(task_id="b", extra={"x": "1"}), DraftTask(task_id="c", extra={"y": "2"})]
    write_tasks(path, [*read_tasks(path, DraftTask, reserved=False), *late])
    assert [row.task_id for row in read_tasks(path, DraftTask, reserved=False)] == ["a", "b", "c"]
    assert path.is_symlink()


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("header", ['draft_task_id,"x,y"', '"draft_task_id","a\r\nb"', '"draft_task_id","a\nb"'])
def test_like_understands_a_quoted_header(tmp_path: Path, header: str, bom: str) -> None:
    path = table(tmp_path, f"{bom}{header}\r\na,1\r\n", "draft_tasks.csv")
    columns = read_tasks(path, DraftTask, reserved=False).columns
    write_tasks(tmp_path / "empty.csv", [], like=path)
    assert read_tasks(tmp_path / "empty.csv", DraftTask, reserved=False).columns == columns
    write_tasks(path, read_tasks(path, DraftTask, reserved=False), like=path)
    data = path.read_bytes()
    assert data.endswith(b"\r\na,1\r\n")
    assert data.startswith(bom.encode() + b"draft_task_id,")


def test_a_faulty_table_to_be_like_is_said(tmp_path: Path) -> None:
    path = tmp_path / "no.csv.gz"
    path.write_text("draft_task_id\n")
    with pytest.raises(TaskTableError, match="not gzip"):
        write_tasks(tmp_path / "x.csv", [], like=path)
    with pytest.raises(TaskTableError, match="not UTF-8"):
        write_tasks(tmp_path / "x.csv", [], like=table(tmp_path, b"draft_task_id,caf\xe9\n"))
    empty = table(tmp_path, "")
    assert write_tasks(tmp_path / "x.csv", [DraftTask(task_id="a")], like=empty) == 1


def test_equal_tables_are_equal_gzip_files(tmp_path: Path) -> None:
    for name in ("a.csv.gz", "b.csv.gz"):
        write_tasks(tmp_path / name, [DraftTask(task_id="a")])
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()


# --- reserving -------------------------------------------------------------------------------------------------


def test_what_is_empty_is_filled_and_what_is_set_is_kept() -> None:
    rows = [DraftTask(task_id="a"), DraftTask(task_id="b", doc_id="by-hand"), DraftTask(task_id="c", doc_salt="s")]
    reserved = list(reserve_tasks(rows, DraftTask))
    assert [row.doc_id for row in reserved] == [
        reserve_doc_id("draft", "a"),
        "by-hand",
        reserve_doc_id("draft", "c", salt="s"),
    ]
    assert list(reserve_tasks(reserved, DraftTask, run_id="r", salt="x")) == reserved


def test_a_run_or_salt_is_noted_so_that_the_id_can_be_derived_again(tmp_path: Path) -> None:
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


def test_parents_are_found_by_their_task_id() -> None:
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


@pytest.mark.parametrize(
    ("header", "column", "misspelt"),
    [
        pytest.param("draft_task_id,Doc_ID", "doc_id", "Doc_ID", id="case"),
        pytest.param("draft_task_id,docid", "doc_id", "docid", id="no underscore"),
        pytest.param("draft_task_id, doc id", "doc_id", " doc id", id="blanks"),
        pytest.param("draft_task_id,DocSalt", "doc_salt", "DocSalt", id="salt"),
        pytest.param("Draft-Task-ID,doc_id", "draft_task_id", "Draft-Task-ID", id="task"),
        pytest.param("draft_task_id,Combo ID", "combo_id", "Combo ID", id="a column of the stage"),
    ],
)
def test_a_misspelt_column_gives_no_new_names_to_what_has_names(
    tmp_path: Path, header: str, column: str, misspelt: str
) -> None:
    path = table(tmp_path, f"{header}\nt-1,d1\n")
    with pytest.raises(TaskTableError) as caught:
        read_tasks(path, DraftTask, reserved=False)
    assert [str(each) for each in caught.value.problems] == [
        f"{path} row 1, column {column}: missing from the header; is {misspelt!r} meant for it?"
    ]


def test_a_misspelt_source_is_refused_in_rows_of_any_type(tmp_path: Path) -> None:
    for row_type in (DraftTask, TaskRow.of("draft")):
        with pytest.raises(TaskTableError, match="column source_doc_id: .* is 'Source_Doc_ID' meant for it"):
            read_tasks(table(tmp_path, "draft_task_id,Source_Doc_ID\nt-1,d1\n"), row_type, reserved=False)


def test_columns_that_only_resemble_docids_own_are_others(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id,document_id,essay_doc_id,docids,parent_doc_id\nt-1,1,2,3,4\n")
    [row] = read_tasks(path, DraftTask, reserved=False)
    assert row.extra == {"document_id": "1", "essay_doc_id": "2", "docids": "3", "parent_doc_id": "4"}


def test_rows_and_row_types_that_are_none_are_refused(tmp_path: Path) -> None:
    not_a_type: Any = "essay"
    for call in (
        lambda: read_tasks(table(tmp_path, "a\n"), not_a_type),
        lambda: reserve_tasks([], not_a_type),
        lambda: write_tasks(tmp_path / "x.csv", [], row_type=not_a_type),
        lambda: write_tasks(tmp_path / "x.csv", [DraftTask(task_id="t")], row_type=not_a_type),
        lambda: read_tasks(table(tmp_path, "a\n"), str),  # type: ignore[type-var]
    ):
        with pytest.raises(TypeError, match="row_type: expected a class of rows, as EssayTask or row_type_of"):
            call()
    rows: Any = ["draft_task_id"]
    with pytest.raises(TypeError, match="rows: expected rows of task tables .*, got str; docid.frames.frame_to_tasks"):
        write_tasks(tmp_path / "x.csv", rows)
    with pytest.raises(TypeError, match="rows: expected rows of task tables .*, got str; .*, read_tasks of a file"):
        list(reserve_tasks(rows, DraftTask))
    with pytest.raises(TypeError, match="parents: expected rows of task tables .*, got str; docid.frames"):
        reserve_tasks([], EssayTask, parents=rows)
    with pytest.raises(TypeError, match="stages: expected Stages, as .*, got str"):
        row_type_of("draft", "draft,essay")  # type: ignore[arg-type]


def test_parents_of_another_kind_are_refused(tmp_path: Path) -> None:
    chapter = TaskRow.of("chapter", "outline")
    misspelt = read_tasks(table(tmp_path, "chapter_task_id,outline_taskid\nt,o\n", "m.csv"), chapter, reserved=False)
    with pytest.raises(TaskTableError, match="missing from the header; is 'outline_taskid' meant for it"):
        reserve_tasks(misspelt, chapter, parents={})
    path = table(tmp_path, "chapter_task_id,Outline Task ID,parent_doc_id\nt,o,\n", "n.csv")
    with pytest.raises(TaskTableError, match="row 1, column outline_task_id: .*; is 'Outline Task ID' meant for it"):
        reserve_tasks(read_tasks(path, chapter, reserved=False), chapter, parents={"o": "o1"})
    with pytest.raises(ValueError, match="parents: expected rows of stage 'draft', got a row of stage 'essay'"):
        reserve_tasks([], EssayTask, parents=[EssayTask(task_id="e")])
    with pytest.raises(TypeError, match="parents: .* got the path draft_tasks.csv, which read_tasks reads"):
        reserve_tasks([], EssayTask, parents="draft_tasks.csv")  # type: ignore[arg-type]
    rows = read_tasks(table(tmp_path, "essay_task_id\nt\n"), EssayTask, reserved=False)
    with pytest.raises(
        TaskTableError, match="row 1, column draft_task_id: missing from the header; expected it, to find"
    ):
        reserve_tasks(rows, EssayTask, parents={})


def reserve_problems(rows: Any, row_type: type[TaskRow], **options: Any) -> list[str]:
    with pytest.raises(TaskTableError) as caught:
        list(reserve_tasks(rows, row_type, **options))
    return [str(problem) for problem in caught.value.problems]


def test_rows_that_come_to_one_id_are_refused_and_both_are_named(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id\na\nb\n\na\n", "draft_tasks.csv")
    doc_id = reserve_doc_id("draft", "a")
    before = path.read_bytes()
    expected = f"{path} row 5, column draft_task_id: 'a'; comes to the doc id {doc_id}, as row 2 does; expected one row a document: remove one, or give it a doc_salt"
    assert reserve_problems(read_tasks(path, DraftTask, reserved=False), DraftTask) == [expected]
    with pytest.raises(TaskTableError):
        write_tasks(path, reserve_tasks(read_tasks(path, DraftTask, reserved=False), DraftTask))
    assert path.read_bytes() == before
    assert reserve_problems([DraftTask(task_id="x", doc_id=doc_id), DraftTask(task_id="a")], DraftTask) == [
        f"row 2, column draft_task_id: 'a'; comes to the doc id {doc_id}, as row 1 does; expected one row a document: "
        "remove one, or give it a doc_salt"
    ]
    assert reserve_problems([DraftTask(task_id="x", doc_id="d"), DraftTask(task_id="y", doc_id="d")], DraftTask) == [
        "row 2, column doc_id: 'd'; comes to the doc id d, as row 1 does; expected one row a document: remove one, or "
        "empty its doc_id (and, if its task is the same, give it a doc_salt)"
    ]


def test_faults_of_the_table_and_of_reserving_are_raised_together(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id,doc_id\na,\na,\nb\nc,..\n", "draft_tasks.csv")
    problems = reserve_problems(read_tasks(path, DraftTask, reserved=False), DraftTask)
    assert [problem.removeprefix(f"{path} ")[:5] for problem in problems] == ["row 3", "row 4", "row 5"]


def test_a_reserved_table_without_rows_has_the_columns(tmp_path: Path) -> None:
    path = table(tmp_path, "essay_task_id,note\n")
    write_tasks(path, reserve_tasks(read_tasks(path, EssayTask, reserved=False), EssayTask))
    assert path.read_text() == "essay_task_id,note,parent_doc_id,doc_id\n"
    assert list(read_tasks(path, EssayTask)) == []


def test_what_cannot_be_reserved_is_all_said() -> None:
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
        "row 1, column essay_task_id: ' x'; white space at an end; expected the text without it",
        "row 2, column draft_task_id: 'twice'; the task id of more than one row of the parents' table; expected "
        "parent_doc_id set by hand",
        "row 3, column draft_task_id: 'none'; empty; expected the task id of the parent, to find its doc id by",
        "row 4, column draft_task_id: 'other'; not a task id of the parents' table; expected one of them",
        "row 5, column draft_task_id: 'empty'; its row in the parents' table has no doc_id; reserve that table first",
        "row 6, column doc_salt: ' s'; white space at an end; expected the text without it",
        "row 7, column doc_run_id: 'r\\n'; control character U+000A; expected text of one line without any",
        "row 9, column draft_task_id: 'odd'; its parent's doc_id '../x' is no doc id",
        r"row 10, column essay_task_id: 'cafe\u0301'; not in NFC; expected the text, or its table, saved in Unicode "
        "normal form NFC (unicodedata.normalize('NFC', text))",
    ]


@pytest.mark.parametrize(("argument", "value"), [("run_id", ""), ("salt", " s"), ("salt", "nan"), ("run_id", "None")])
def test_a_wrong_run_or_salt_is_refused_at_once(argument: str, value: str) -> None:
    with pytest.raises(InvalidName, match=f"^{argument}: "):
        reserve_tasks([], DraftTask, **{argument: value})  # type: ignore[arg-type]


def test_a_run_or_salt_of_a_word_for_missing_is_none(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id,doc_run_id,doc_salt\na,nan, \n")
    [row] = reserve_tasks(read_tasks(path, DraftTask, reserved=False), DraftTask)
    assert (row.doc_id, row.doc_run_id, row.doc_salt) == (reserve_doc_id("draft", "a"), None, None)


def test_a_faulty_row_type_is_said_when_reserving() -> None:
    class Odd(TaskRow):
        stage = "Chapter"

    with pytest.raises(InvalidName, match=r"Odd\.stage: not a stage name"):
        reserve_tasks([], Odd)


def test_evaluation_rows_have_their_columns() -> None:
    row = EvaluationTask(task_id="t", parser="complex", extra={"file_path": "x"})
    assert row.cell("file_path") == "x"
    assert row.parent_stage == "essay"


def test_a_table_in_a_directory_that_may_not_be_written_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> Any:
        raise PermissionError(13, "Permission denied", "…")

    monkeypatch.setattr("docid.tables.atomicfile.open", refused, raising=False)
    with pytest.raises(PermissionError, match="a new file is made in its directory, and takes its place") as caught:
        write_tasks(tmp_path / "x.csv", [DraftTask(task_id="t")])
    assert caught.value.filename == str(tmp_path / "x.csv")

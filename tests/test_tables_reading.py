"""Reading task tables: cells keep their text, and all faults are reported together."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import attrs
import pytest

from docid import (
    DraftTask,
    EssayTask,
    Stages,
    TaskRow,
    TaskTableError,
    read_tasks,
    reserve_doc_id,
    reserve_tasks,
    write_tasks,
)
from docid.tables.tasks import read_lineages, stage_of_table
from tests.tables import ChapterTask, NoteTask, problems_of, table


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
def test_stage_of_table_follows_file_name(name: str, stage: str | None) -> None:
    assert stage_of_table(name) == stage


def test_stage_name_may_end_like_table_name() -> None:
    stages = Stages.chain("a_generation", "b")
    assert stage_of_table("a_generation_tasks.csv", stages) == "a_generation"
    assert stage_of_table("a_generation_generation_tasks.csv", stages) == "a_generation"


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("bom", ["", "\ufeff"], ids=["no BOM", "BOM"])
@pytest.mark.parametrize("name", ["essay_tasks.csv", "essay_tasks.csv.gz"])
def test_reads_lf_crlf_bom_and_gzip(tmp_path: Path, name: str, bom: str, end: str) -> None:
    text = bom + end.join(["essay_task_id,parent_doc_id,doc_id,note", 't-1,p1,e1,"a,""b"""', "", "t-2,p1,e2,7.10", ""])
    rows = iter(read_tasks(table(tmp_path, text, name), EssayTask))
    assert rows.columns == ("essay_task_id", "parent_doc_id", "doc_id", "note")
    first, second = rows
    assert (first.task_id, first.parent_doc_id, first.doc_id, first.extra) == ("t-1", "p1", "e1", {"note": 'a,"b"'})
    assert (second.task_id, second.extra) == ("t-2", {"note": "7.10"})
    assert rows.row == 4
    assert "EssayTask" in repr(rows)


def test_newline_in_cell_is_kept(tmp_path: Path) -> None:
    path = table(tmp_path, 'note_task_id,doc_id,text\nt-1,n1,"a\r\nb\rc\nd"\nt-2,n2,x\n')
    rows = iter(read_tasks(path, NoteTask))
    assert [row.extra["text"] for row in rows] == ["a\r\nb\rc\nd", "x"]
    assert rows.row == 3


@pytest.mark.parametrize("word", ["", " ", "nan", "NaN", "null", "NULL", "none", "None", " nan "])
def test_words_that_mean_missing_keep_their_text(tmp_path: Path, word: str) -> None:
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


def test_validator_error_is_fault_of_row(tmp_path: Path) -> None:
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


def test_typed_columns_are_parsed_and_keep_their_text(tmp_path: Path) -> None:
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
            ["row 1, column essay_task_id: missing from the header; is 'essay_taks_id' misspelled?"],
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
            [
                "row 1: 'essay_task_id;parent_doc_id;doc_id'; separated by ';'; expected commas. Save it with commas, "
                "or pass delimiter=';' (on the command line --delimiter ';')"
            ],
            id="semicolons",
        ),
        pytest.param(
            "essay_task_id,parent_doc_id,doc_id,doc_id\n",
            ["row 1, column doc_id: repeated; expected each column once"],
            id="column twice",
        ),
        pytest.param(
            b"essay_task_id,parent_doc_id,doc_id,caf\xe9\n",
            ["row 1: 'essay_task_id,parent_doc_id,doc_id,caf\\udce9'; not UTF-8; save the table as UTF-8"],
            id="latin-1 header",
        ),
        pytest.param(
            (HEADER + "t-1,p1,e1,x\n").encode("utf-16-le"),
            [
                f"row 1: {repr(''.join(each + chr(0) for each in HEADER.strip()))[:40]}…{repr(''.join(each + chr(0) for each in HEADER.strip()))[-27:]} (217 characters); "
                "UTF-16 without a BOM; save the table as UTF-8"
            ],
            id="utf-16 without a BOM",
        ),
        pytest.param(
            (HEADER + "t-1,p1,e1,x\n").encode("utf-32"),
            [": UTF-32; save the table as UTF-8. Expected a CSV table"],
            id="utf-32",
        ),
        pytest.param(
            b"\xfe\xff" + (HEADER.replace(",", "\t") + '"t-1"\tp1\te1\tx\n').replace("\n", "\r\n").encode("utf-16-be"),
            [
                "row 1: 'essay_task_id\\tparent_doc_id\\tdoc_id\\tcombo_id'; separated by '\\t'; expected commas. Save it "
                "with commas, or pass delimiter='\\t' (on the command line --delimiter tab)"
            ],
            id="utf-16, tabs and the other order of bytes",
        ),
        pytest.param(
            HEADER.encode() + b"t-1,p1,e1,caf\xe9\nt-2,p1,e2,x\nt-\xfc,p1,e3,\xdf\n",
            [
                "row 2, column combo_id: 'caf\\udce9'; not UTF-8; save the table as UTF-8",
                "row 4, column essay_task_id: 't-\\udcfc'; not UTF-8; save the table as UTF-8",
                "row 4, column combo_id: '\\udcdf'; not UTF-8; save the table as UTF-8",
            ],
            id="latin-1 cells",
        ),
        pytest.param(
            HEADER + "t-1,p1,e1\nt-2,p1,e2,x,y\nt-3,p1,e3,x\n",
            [
                "row 2: 3 cells; expected 4, as in the header: add the missing cells",
                "row 3: 5 cells; expected 4, as in the header: put quotes around a cell that contains a delimiter",
            ],
            id="short and long row",
        ),
        pytest.param(
            HEADER + ",p1,e1,x\n t,p1,e2,x\nnan,p1,e3,x\n",
            [
                "row 2, column essay_task_id: empty; expected a task id",
                "row 3, column essay_task_id: ' t'; leading or trailing white space; expected the text without it. Remove the "
                "blanks in the table, and in tables that name this task",
                "row 4, column essay_task_id: 'nan'; empty; expected a task id",
            ],
            id="no task id",
        ),
        pytest.param(
            HEADER + "t-1,..,../x,x\nt-2,P1,12345E7,x\n",
            [
                "row 2, column parent_doc_id: '..'; not a doc id; expected 1 to 64 of a-z, 0-9, _ and -, starting "
                "with a letter or digit, not a Windows device name",
                "row 2, column doc_id: '../x'; not a doc id; expected 1 to 64 of a-z, 0-9, _ and -, starting "
                "with a letter or digit, not a Windows device name",
                "row 3, column parent_doc_id: 'P1'; not a doc id; expected 1 to 64 of a-z, 0-9, _ and -, starting "
                "with a letter or digit, not a Windows device name",
                "row 3, column doc_id: '12345E7'; not a doc id; expected 1 to 64 of a-z, 0-9, _ and -, starting "
                "with a letter or digit, not a Windows device name",
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
            ["row 1: not CSV: ',' expected after '\"'; close every quote, and double quotes inside quoted cells"],
            id="header that is no CSV",
        ),
        pytest.param(
            HEADER + 't-1,p1,e1,"open\nt-2,p1,e2,x\n',
            ["row 2: not CSV: unexpected end of data; close every quote, and double quotes inside quoted cells"],
            id="quote never closed",
        ),
        pytest.param(
            HEADER + 't-1,p1,e1,"a"b\nt-2,p1,e2\n',
            [
                "row 2: not CSV: ',' expected after '\"'; close every quote, and double quotes inside quoted cells",
                "row 3: 3 cells; expected 4, as in the header: add the missing cells",
            ],
            id="text after a quote",
        ),
    ],
)
def test_all_faults_are_reported_together(tmp_path: Path, text: str | bytes, expected: list[str]) -> None:
    path = table(tmp_path, text)
    assert [problem.removeprefix(str(path)) for problem in problems_of(path, EssayTask)] == expected


def test_faults_name_values_of_typed_columns(tmp_path: Path) -> None:
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


def test_field_without_default_is_required_column(tmp_path: Path) -> None:
    @attrs.frozen(kw_only=True)
    class Needed(TaskRow):
        stage = "note"
        text: str

    path = table(tmp_path, "note_task_id,texts\nt,x\n")
    [problem] = problems_of(path, Needed, reserved=False)
    assert problem == "row 1, column text: missing from the header; is 'texts' misspelled?"


def test_faulty_table_yields_no_rows_and_raises_all_faults(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id,doc_id\na,d1\nb,d2\nc,..\nd,d4\ne\nf,d6\n")
    given_rows = []
    with pytest.raises(TaskTableError, match=r"^2 problems:\n") as caught:
        for row in read_tasks(path, DraftTask):
            given_rows.append(row.task_id)  # noqa: PERF401
    assert given_rows == []
    assert [(problem.row, problem.column, problem.value) for problem in caught.value.problems] == [
        (4, "doc_id", ".."),
        (6, None, ""),
    ]


def test_first_thousand_faults_are_kept_and_all_counted(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id,doc_id\n" + "t,..\n" * 2500)
    with pytest.raises(TaskTableError, match="^2,500 problems:") as caught:
        list(read_tasks(path, DraftTask))
    assert (len(caught.value.problems), caught.value.count) == (1000, 2500)


def test_missing_or_damaged_file_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_tasks(tmp_path / "nowhere.csv", DraftTask)
    whole = gzip.compress(("draft_task_id,doc_id\n" + "".join(f"task {n},d{n}\n" for n in range(9999))).encode())
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TaskTableError, match="not gzip: .*expected a complete gzip file"):
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


def test_io_error_is_not_a_table_fault() -> None:
    with pytest.raises(OSError, match="Input/output error"):
        read_tasks("/proc/self/mem", DraftTask)


def test_abandoned_stream_closes_its_file(tmp_path: Path) -> None:
    rows = iter(read_tasks(table(tmp_path, "draft_task_id,doc_id\na,d1\nb,d2\n"), DraftTask))
    next(rows)
    before = len(os.listdir("/proc/self/fd"))
    del rows
    assert len(os.listdir("/proc/self/fd")) == before - 1


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
def test_misspelled_column_is_refused(tmp_path: Path, header: str, column: str, misspelt: str) -> None:
    path = table(tmp_path, f"{header}\nt-1,d1\n")
    with pytest.raises(TaskTableError) as caught:
        read_tasks(path, DraftTask, reserved=False)
    assert [str(each) for each in caught.value.problems] == [
        f"{path} row 1, column {column}: missing from the header; is {misspelt!r} misspelled?"
    ]


def test_misspelled_source_is_refused_in_any_row_type(tmp_path: Path) -> None:
    for row_type in (DraftTask, TaskRow.of("draft")):
        with pytest.raises(TaskTableError, match="column source_doc_id: .* is 'Source_Doc_ID' misspelled"):
            read_tasks(table(tmp_path, "draft_task_id,Source_Doc_ID\nt-1,d1\n"), row_type, reserved=False)


def test_lineages_without_parent_stage_have_no_parent(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id,parent_doc_id,doc_id,\nt-1,p1,d1,left over\n")
    assert list(read_lineages(str(path), DraftTask)) == [(2, ("t-1", "d1", "", "", "", "", ""))]


def test_columns_that_resemble_ours_are_extra(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id,document_id,essay_doc_id,docids,parent_doc_id\nt-1,1,2,3,4\n")
    [row] = read_tasks(path, DraftTask, reserved=False)
    assert row.extra == {"document_id": "1", "essay_doc_id": "2", "docids": "3", "parent_doc_id": "4"}

"""Formats of tables: delimiters, encodings, JSON Lines, what spreadsheets leave behind, and files that are no tables."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import sqlite3
import threading
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from docid import DraftTask, EssayTask, Stages, TaskRow, TaskTableError, audit, read_tasks, reserve_tasks, write_tasks
from docid.cli import main
from docid.tables.csvfile import read_records
from docid.tables.faults import Faults
from tests.tables import ChapterTask, NoteTask, problems_of, table

DELIMITERS = [";", "\t", "|"]


@pytest.mark.parametrize("given_delimiter", ["auto", "own"])
@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_table_with_other_delimiter_is_read_and_written_back_as_it_was(
    tmp_path: Path, delimiter: str, given_delimiter: str
) -> None:
    text = "note_task_id,topic,doc_id\r\nt-1,'a, b',n1\r\nt-2,c,n2\r\n".replace(",", delimiter).replace("'", '"')
    text = text.replace(f"a{delimiter} b", f"a{delimiter} b, c")
    path = table(tmp_path, text, "note_tasks.csv")
    before = path.read_bytes()
    rows = read_tasks(path, NoteTask, delimiter="auto" if given_delimiter == "auto" else delimiter)
    assert rows.delimiter == delimiter
    assert [row.extra["topic"] for row in rows] == [f"a{delimiter} b, c", "c"]
    for is_path in (True, False):
        rows = read_tasks(path, NoteTask, delimiter=delimiter)
        assert write_tasks(path, rows, like=path if is_path else rows) == 2
        assert path.read_bytes() == before
    # Rows without a table take the form of another one.
    write_tasks(tmp_path / "new.csv", [NoteTask(task_id="t-3")], like=path)
    assert (tmp_path / "new.csv").read_bytes() == f"note_task_id{delimiter}doc_id\r\nt-3{delimiter}\r\n".encode()
    write_tasks(path, reserve_tasks(read_tasks(path, NoteTask, delimiter=delimiter), NoteTask), delimiter=",")
    assert len(read_tasks(path, NoteTask)) == 2


def test_delimiter_of_rows_is_kept_without_like(tmp_path: Path) -> None:
    path = table(tmp_path, "note_task_id;topic\nt-1;a,b\n", "note_tasks.csv")
    write_tasks(path, reserve_tasks(read_tasks(path, NoteTask, reserved=False, delimiter=";"), NoteTask))
    assert path.read_text().startswith("note_task_id;topic;doc_id\nt-1;a,b;")
    late = [*read_tasks(path, NoteTask, delimiter=";"), NoteTask(task_id="t-2", extra={"late": "x"})]
    write_tasks(path, late, delimiter=";")
    assert path.read_text().startswith("note_task_id;topic;doc_id;late\nt-1;a,b;")


def test_comma_is_assumed_if_no_delimiter_gives_the_task_column(tmp_path: Path) -> None:
    path = table(tmp_path, "a;b;c\n1;2;3\n", "note_tasks.csv")
    with pytest.raises(TaskTableError, match="separated by ';'; expected commas"):
        read_tasks(path, NoteTask, delimiter="auto")
    with pytest.raises(TaskTableError, match="separated by ','; expected tabs"):
        read_tasks(table(tmp_path, "a,b\n1,2\n"), NoteTask, delimiter="\t")
    with pytest.raises(TaskTableError, match="column note_task_id: missing from the header; the columns are a,b"):
        read_tasks(table(tmp_path, '"a,b"\n1\n'), NoteTask)
    # Without a row type, write_tasks takes the delimiter that gives the most columns.
    path.write_text("a;b;c\n1;2;3\n")
    assert write_tasks(tmp_path / "new.csv", [NoteTask(task_id="t")], like=path) == 1
    assert (tmp_path / "new.csv").read_text() == "note_task_id;doc_id\nt;\n"


@pytest.mark.parametrize("delimiter", ["", ";;", "a", '"', "\n", "7"])
def test_unusable_delimiter_is_refused(tmp_path: Path, delimiter: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path, "note_task_id\nt-1\n", "note_tasks.csv")
    with pytest.raises(ValueError, match="delimiter: expected one character"):
        read_tasks(path, NoteTask, delimiter=delimiter)
    with pytest.raises(ValueError, match="delimiter: expected one character"):
        write_tasks(path, [NoteTask(task_id="t")], delimiter=delimiter)
    with pytest.raises(SystemExit):
        main(["reserve", f"--delimiter={delimiter}", str(path)])
    assert "expected one character such as ';', or tab, or auto" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("delimiter", "option"), [(";", ";"), ("\t", "tab"), ("\t", r"\t"), (";", "auto"), (",", "auto")]
)
def test_commands_read_other_delimiters(tmp_path: Path, delimiter: str, option: str) -> None:
    drafts = table(tmp_path, f"draft_task_id{delimiter}topic\r\nt-1{delimiter}sea\r\n", "draft_tasks.csv")
    essays = table(tmp_path, f"essay_task_id{delimiter}draft_task_id\ne-1{delimiter}t-1\n", "essay_tasks.csv")
    assert main(["reserve", "--delimiter", option, str(drafts), str(essays)]) == 0
    assert drafts.read_bytes().startswith(f"draft_task_id{delimiter}topic{delimiter}doc_id\r\n".encode())
    assert main(["audit", "--delimiter", option, str(drafts), str(essays)]) == 0
    [essay] = read_tasks(essays, EssayTask, delimiter=delimiter)
    [draft] = read_tasks(drafts, DraftTask, delimiter=delimiter)
    assert essay.parent_doc_id == draft.doc_id


def test_first_line_with_separator_is_recognised_and_kept(tmp_path: Path) -> None:
    for first in ("sep=;", "SEP=;", '"sep=;"'):
        path = table(tmp_path, f"\ufeff{first}\r\nnote_task_id;topic\r\nt-1;a, b\r\nt-2\r\n", "note_tasks.csv")
        assert problems_of(path, NoteTask, reserved=False) == [
            "row 3: 1 cell; expected 2, as in the header: add the missing cells"
        ]
        path = table(tmp_path, f"\ufeff{first}\r\nnote_task_id;topic;doc_id\r\nt-1;a, b;n1\r\n", "note_tasks.csv")
        before = path.read_bytes()
        rows = read_tasks(path, NoteTask)
        assert [row.extra["topic"] for row in rows] == ["a, b"]
        write_tasks(path, rows, like=path)
        assert path.read_bytes() == before
        late = NoteTask(task_id="t-2", doc_id="n2", extra={"late": "x;y"})
        write_tasks(path, [*rows, late], like=path)
        assert [row.extra.get("late") for row in read_tasks(path, NoteTask)] == ["", "x;y"]
        write_tasks(path, read_tasks(path, NoteTask), like=path, delimiter=",")
        assert path.read_bytes().startswith(b"\xef\xbb\xbfnote_task_id,topic")


@pytest.mark.parametrize("name", ["note_tasks.csv", "note_tasks.csv.gz"])
@pytest.mark.parametrize(("encoding", "bom"), [("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")])
def test_utf16_with_bom_is_read_and_written_back(tmp_path: Path, encoding: str, bom: bytes, name: str) -> None:
    text = 'note_task_id\ttopic\tdoc_id\r\nt-1\t"See, 海\n🌊"\tn1\r\n'
    path = table(tmp_path, bom + text.encode(encoding), name)
    rows = read_tasks(path, NoteTask, delimiter="\t")
    assert [row.extra["topic"] for row in rows] == ["See, 海\n🌊"]
    write_tasks(path, rows, like=rows)
    data = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    assert data == bom + text.encode(encoding)
    rows = read_tasks(path, NoteTask, delimiter="auto")
    write_tasks(path, [*rows, NoteTask(task_id="t-2", doc_id="n2", extra={"late": "x"})], like=rows)
    assert len(read_tasks(path, NoteTask, delimiter="auto")) == 2


def test_damaged_utf16_is_a_fault(tmp_path: Path) -> None:
    good = "note_task_id,topic\nt-1,".encode("utf-16")
    path = table(tmp_path, good + b"\x00\xd8a\x00\n\x00", "note_tasks.csv")
    assert problems_of(path, NoteTask, reserved=False) == [
        "row 2, column topic: '\\ud800a'; not UTF-8; save the table as UTF-8"
    ]
    path.write_bytes(good + b"x")
    assert problems_of(path, NoteTask, reserved=False) == ["row 2: not UTF-16: truncated data; save the table as UTF-8"]
    path.write_bytes(b"\xff\xfen")
    assert "not UTF-16: truncated data" in problems_of(path, NoteTask, reserved=False)[0]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"PK\x03\x04\x14\x00", "an Excel or OpenDocument workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old Excel workbook"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"ARROW1\0\0", "an Arrow file"),
        (b"SQLite format 3\0", "an SQLite database"),
        (gzip.compress(b"note_task_id\n", mtime=0), "a gzip file; give it a name that ends in .gz"),
        (b"BZh91AY", "a bzip2 file"),
        (b"\xfd7zXZ\0", "an xz file"),
        (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
        (b"\0\0\xfe\xff\0\0\0n", "UTF-32"),
        (b'{"note_task_id": "t-1"}\n', "JSON Lines; give it a name that ends in .jsonl"),
        (b'\xef\xbb\xbf[\n {"note_task_id": "t-1"}]', "a JSON array"),
    ],
)
def test_file_of_another_format_is_named(tmp_path: Path, data: bytes, expected: str) -> None:
    path = tmp_path / "note_tasks.csv"
    path.write_bytes(data)
    [problem] = problems_of(path, NoteTask, reserved=False)
    assert f": {expected}" in problem
    with pytest.raises(TaskTableError, match=expected):
        audit(None, {"note": path}, stages=Stages.chain("note"))
    with pytest.raises(TaskTableError, match=expected):
        list(read_records(str(path), Faults(str(path))))


def test_braces_in_a_header_are_no_json(tmp_path: Path) -> None:
    path = table(tmp_path, "[a],{b},note_task_id\n1,2,t\n", "note_tasks.csv")
    assert read_tasks(path, NoteTask, reserved=False).columns == ("[a]", "{b}", "note_task_id")


@pytest.mark.parametrize("blank", [",", ", ", '"",""', ",\u00a0", ",,,,", " "])
def test_rows_of_delimiters_and_blanks_are_blank_lines(tmp_path: Path, blank: str) -> None:
    path = table(
        tmp_path, f"{blank}\r\nnote_task_id,topic\r\n{blank}\r\nt-1,sea\r\n{blank}\r\nt-2\r\n", "note_tasks.csv"
    )
    assert problems_of(path, NoteTask, reserved=False)[0].startswith("row 6: 1 cell")
    path = table(tmp_path, f"note_task_id,topic\r\n{blank}\r\nt-1,sea\r\n{blank}\r\n", "note_tasks.csv")
    assert [row.task_id for row in read_tasks(path, NoteTask, reserved=False)] == ["t-1"]


def test_empty_columns_at_the_end_are_left_out(tmp_path: Path) -> None:
    path = table(tmp_path, "note_task_id,topic,,,\nt-1,sea,,,\nt-2,moss,left over,,\n", "note_tasks.csv")
    table_ = read_tasks(path, NoteTask, reserved=False)
    assert table_.columns == ("note_task_id", "topic", "")
    assert [row.extra for row in table_] == [{"topic": "sea", "": ""}, {"topic": "moss", "": "left over"}]
    path.write_text("note_task_id,topic,,\nt-1,sea,,lost\nt-2,sea\n")
    assert [each.partition(";")[0] for each in problems_of(path, NoteTask, reserved=False)] == [
        "row 2: 4 cells",
        "row 3: 2 cells",
    ]
    path.write_text(",note_task_id,,topic\n,t-1,,x\n")
    assert problems_of(path, NoteTask, reserved=False) == [
        "row 1, column without a name: repeated; expected each column once"
    ]


def write_lines(path: Path, *lines: object) -> Path:
    text = "".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["tasks.jsonl", "tasks.jsonl.gz"])
def test_json_lines_are_read(tmp_path: Path, name: str) -> None:
    path = write_lines(
        tmp_path / name,
        {"chapter_task_id": "t-1", "words": 12, "weight": 1.50, "note": "x", "final": True},
        "",
        '{"chapter_task_id": "t-2", "weight": 1.50, "big": 12345678901234567890123, "note": null, "Chapter title": "T"}',
    )
    rows = read_tasks(path, ChapterTask, reserved=False)
    assert rows.columns == ("chapter_task_id", "words", "weight", "note", "final", "big", "Chapter title")
    with pytest.raises(TaskTableError, match="row 3, column words: empty; expected a whole number"):
        list(rows)
    plain = TaskRow.of("chapter")
    numbered = iter(read_tasks(path, plain, reserved=False))
    assert [row.extra for row in numbered] == [
        {"words": "12", "weight": "1.5", "note": "x", "final": "true", "big": "", "Chapter title": ""},
        {
            "words": "",
            "weight": "1.50",
            "note": "",
            "final": "",
            "big": "12345678901234567890123",
            "Chapter title": "T",
        },
    ]
    assert numbered.row == 3
    copy = tmp_path / "chapter_tasks.csv"
    write_tasks(copy, reserve_tasks(read_tasks(path, plain, reserved=False), plain))
    assert [row.cell("big") for row in read_tasks(copy, plain)] == ["", "12345678901234567890123"]


def test_faults_of_json_lines_have_row_numbers(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "tasks.jsonl",
        {"note_task_id": "t-1"},
        {"note_task_id": 7},
        "[1]",
        '{"note_task_id": "t',
        {"note_task_id": "t-5", "tags": ["a"]},
        {"topic": "sea"},
        '{"note_task_id": "t-7", "score": NaN}',
    )
    assert problems_of(path, NoteTask, reserved=False) == [
        "row 2, column note_task_id: \"'7'\"; of type number; expected text",
        "row 3: not a JSON object; expected one object per line",
        "row 4: not JSON: Unterminated string starting at: line 1 column 18 (char 17); expected one JSON object per line",
        "row 5, column tags: \"['a']\"; of type list; expected text, a number or null",
        "row 6, column note_task_id: empty; expected a task id",
        "row 7: not JSON: NaN is not JSON; expected one JSON object per line",
    ]
    with pytest.raises(TaskTableError, match="row 2, column note_task_id"):
        audit(
            None,
            {"note": write_lines(path, {"note_task_id": "t", "doc_id": "n"}, {"note_task_id": 7})},
            stages=Stages.chain("note"),
        )
    write_lines(path, {"note_task_id": "t-1", "Doc_ID": "n1"})
    assert "is 'Doc_ID' misspelled" in problems_of(path, NoteTask, reserved=False)[0]
    path.write_text("")
    assert problems_of(path, NoteTask)[0].endswith(": no header; expected a CSV table with the column note_task_id")
    path.write_text("note_task_id\nt-1\n")
    assert problems_of(path, NoteTask)[0].startswith("row 1: not JSON")
    cut = tmp_path / "tasks.jsonl.gz"
    whole = gzip.compress(b'{"note_task_id": "t-1"}\n' * 9)
    cut.write_bytes(whole[:-9])
    assert "not gzip" in problems_of(cut, NoteTask, reserved=False)[0]


def test_json_lines_are_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_lines(tmp_path / "tasks.jsonl", {"draft_task_id": "t-1"})
    before = path.read_bytes()
    with pytest.raises(TaskTableError, match=r"does not write JSON Lines; write the rows to a file .* \.csv"):
        write_tasks(path, [DraftTask(task_id="t")])
    for options in ([], ["--dry-run"]):
        assert main(["reserve", f"draft={path}", *options]) == 2
        assert "does not write JSON Lines" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_rows_of_dicts_are_reserved(tmp_path: Path) -> None:
    @attrs.frozen(kw_only=True)
    class Timed(TaskRow):
        stage = "note"
        words: int = 0

    made = {"note_task_id": "t-1", "words": 3, "at": datetime(2026, 1, 2, tzinfo=UTC), "on": date(2026, 1, 2)}
    [row] = reserve_tasks([made | {"cost": Decimal("1.50"), "gone": None, "ok": False, "nan": float("nan")}], Timed)
    assert (row.words, row.doc_id != "") == (3, True)
    assert row.extra == {
        "at": "2026-01-02T00:00:00+00:00",
        "on": "2026-01-02",
        "cost": "1.50",
        "gone": "",
        "ok": "false",
        "nan": "",
    }
    assert Timed.from_mapping({"note_task_id": "t", "words": 3.0}) == Timed(task_id="t", words=3)
    reader = csv.DictReader(io.StringIO("note_task_id,topic\nt-1,sea\nt-2,moss\n"))
    assert [each.extra["topic"] for each in reserve_tasks(reader, NoteTask)] == ["sea", "moss"]
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    rows = connection.execute("select 't-1' as note_task_id, 1.5 as score union select 't-2', null")
    assert [each.extra["score"] for each in reserve_tasks(rows, NoteTask)] == ["1.5", ""]
    connection.close()
    path = tmp_path / "note_tasks.csv"
    write_tasks(path, reserve_tasks([{"topic": "sea", "note_task_id": "t-1"}], NoteTask))
    assert path.read_text().startswith("topic,note_task_id,doc_id\nsea,t-1,")


def test_faults_of_dicts_have_row_numbers() -> None:
    rows: list[Any] = [
        {"note_task_id": "t-1"},
        {"note_task_id": 7},
        {"note_task_id": "t-3", "tags": ["a"]},
        {"note_task_id": "t-4", "words": b"x"},
        {"topic": "sea"},
        {"note_task_id": "t-6", None: ["more"]},
        {"note_task_id": "t-7", 5: "x"},
        {"note_task_id": " t"},
        {"note_task_id": "t-1"},
    ]
    with pytest.raises(TaskTableError) as caught:
        list(reserve_tasks(iter(rows), NoteTask))
    assert [str(each).partition(". ")[0] for each in caught.value.problems] == [
        "row 2, column note_task_id: '7'; of type int; expected text",
        "row 3, column tags: \"['a']\"; of type list; expected text, a number or null",
        "row 4, column words: \"b'x'\"; of type bytes; expected text, a number or null",
        "row 5, column note_task_id: missing from the row; the columns are topic",
        "row 6: more cells than columns; expected the names of columns as keys",
        "row 7: a key that is not text; expected the names of columns as keys",
        "row 8, column note_task_id: ' t'; leading or trailing white space; expected the text without it",
        f"row 9, column note_task_id: 't-1'; same doc id {next(reserve_tasks(rows[:1], NoteTask)).doc_id} as row 1; "
        "expected one row per document",
    ]
    with pytest.raises(TaskTableError, match="^column note_task_id: '7'; of type int; expected text$"):
        NoteTask.from_mapping({"note_task_id": 7})
    with pytest.raises(TypeError, match="mapping: expected a mapping of columns to values, got list"):
        NoteTask.from_mapping([])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected rows of task tables"):
        list(reserve_tasks(["t-1"], NoteTask))  # type: ignore[list-item]
    with pytest.raises(TaskTableError, match="parents row 1, column draft_task_id"):
        list(reserve_tasks([EssayTask(task_id="e")], EssayTask, parents=[{"draft_task_id": 1, "doc_id": "d"}]))


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), texts | st.none()), max_size=4), data=st.data())
def test_cells_survive_every_format(tmp_path: Path, rows: list[dict[str, str | None]], data: st.DataObject) -> None:
    expected = [{name: each.get(name) or "" for name in "abc"} for each in rows]
    lines = [{"note_task_id": f"t-{n}", **dict.fromkeys("abc", ""), **each} for n, each in enumerate(rows)]
    path = write_lines(tmp_path / "tasks.jsonl", *lines)
    delimiter = data.draw(st.sampled_from([",", ";", "\t", "|", " ", "^"]))
    if rows:
        copy = tmp_path / "copy.csv"
        write_tasks(copy, read_tasks(path, NoteTask, reserved=False), delimiter=delimiter)
        for given_delimiter in {delimiter, "auto" if delimiter in ",;\t|" else delimiter}:
            again = read_tasks(copy, NoteTask, reserved=False, delimiter=given_delimiter)
            assert [{name: row.cell(name) for name in "abc"} for row in again] == expected


def test_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "note_tasks.csv"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("note_task_id,doc_id\nt-1,n1\nt-2,n2\n",))
    writer.start()
    rows = read_tasks(pipe, NoteTask)
    writer.join()
    assert (len(rows), rows.state) == (2, None)
    assert [row.doc_id for row in rows] == [row.doc_id for row in rows] == ["n1", "n2"]
    writer = threading.Thread(target=pipe.write_text, args=("note_task_id,doc_id\nt-1,n1\nt-2\n",))
    writer.start()
    rows = read_tasks(pipe, NoteTask)
    writer.join()
    with pytest.raises(TaskTableError, match=f"^{pipe} row 3: 1 cell"):
        next(iter(rows))

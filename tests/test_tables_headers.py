"""A header that is almost right is refused at every door, and so is a header in the middle of a table."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from docid import (
    DocsStore,
    Document,
    DraftTask,
    EssayTask,
    Stages,
    TaskRow,
    TaskTableError,
    audit,
    read_tasks,
    reserve_tasks,
    write_tasks,
)
from docid.cli import main
from docid.tables.csvfile import read_columns
from docid.tables.headers import find_misspelling, fold_name, is_nearly
from tests.tables import NoteTask, problems_of, table

# Each of these hides in a name, or replaces a letter of it, so that a person reads `doc_id`.
INVISIBLE = {
    "BOM": "\ufeff",
    "zero-width space": "\u200b",
    "zero-width joiner": "\u200d",
    "word joiner": "\u2060",
    "soft hyphen": "\u00ad",
    "left-to-right mark": "\u200e",
    "right-to-left override": "\u202e",
    "combining grapheme joiner": "\u034f",
    "variation selector": "\ufe0f",
    "supplementary variation selector": "\U000e0100",
    "tag": "\U000e0064",
    "Mongolian vowel separator": "\u180e",
    "Hangul filler": "\u3164",
    "halfwidth Hangul filler": "\uffa0",
    "Hangul choseong filler": "\u115f",
    "Braille blank": "\u2800",
    "object replacement": "\ufffc",
    "private use": "\ue000",
    "no-break space": "\u00a0",
    "ideographic space": "\u3000",
    "line separator": "\u2028",
    "tab": "\t",
    "NUL": "\0",
    "escape": "\x1b",
    "combining accent": "\u0301",
}
ALMOST = {
    "other case": "Doc_ID",
    "Turkish capital": "DOC_İD",
    "dotless i": "doc_ıd",
    "full width": "ｄｏｃ＿ｉｄ",
    "mathematical letters": "𝐝𝐨𝐜_𝐢𝐝",
    "hyphen": "doc-id",
    "en dash": "doc–id",
    "minus": "doc−id",
    "dot": "doc.id",
    "middle dot": "doc·id",
    "low line below": "doc‿id",
    "no separator": "docid",
    "quotes": '"doc_id"',
    "typographic quotes": "“doc_id”",
    "backticks": "`doc_id`",
    "brackets": "[doc_id]",
    "blank and quotes": ' "doc_id"',
    "colon": "doc_id:",
    "equals sign": "=doc_id",
    "asterisk": "doc_id*",
    "Cyrillic letters": "dос_id",
    "Cyrillic letter": "doс_id",
    "Greek letter": "dοc_id",
}
NAMES = [
    *(pytest.param(f"{each}doc_id", id=f"{name} in front") for name, each in INVISIBLE.items()),
    *(pytest.param(f"doc{each}_id", id=f"{name} inside") for name, each in INVISIBLE.items()),
    *(pytest.param(f"doc_id{each}", id=f"{name} behind") for name, each in INVISIBLE.items()),
    *(pytest.param(each, id=name) for name, each in ALMOST.items()),
]


def quote_cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@pytest.mark.parametrize("name", NAMES)
def test_column_almost_named_doc_id_is_refused_at_every_door(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = table(tmp_path, f"note_task_id,{quote_cell(name)}\nt-1,mine-1\n", "note_tasks.csv")
    before = path.read_bytes()
    [problem] = problems_of(path, NoteTask, reserved=False)
    assert problem.startswith("row 1, column doc_id: missing from the header; is ")
    assert problem.isprintable()
    assert name == "doc_id" or "'doc_id'" not in problem
    with pytest.raises(TaskTableError, match="column doc_id"):
        audit(None, {"note": path}, stages=Stages.chain("note"))
    with pytest.raises(TaskTableError, match="column doc_id"):
        read_columns(str(path), ("note_task_id",), ("doc_id",))
    with pytest.raises(TaskTableError, match=r"row 1, column doc_id: missing from the row"):
        list(reserve_tasks([{"note_task_id": "t-1", name: "mine-1"}], NoteTask))
    built = NoteTask(task_id="t-1", extra={name: "mine-1"})
    with pytest.raises(TaskTableError, match=r"row 1, column doc_id: another column looks like it; is "):
        list(reserve_tasks([built], NoteTask))
    with pytest.raises(TaskTableError, match=r"row 2, column doc_id: another column looks like it; is "):
        write_tasks(path, [built])
    assert main(["reserve", "--stages", "note", str(path)]) == 2
    assert "column doc_id" in capsys.readouterr().err
    assert path.read_bytes() == before
    # The right column beside it does not make it right.
    path.write_text(f"note_task_id,{quote_cell(name)},doc_id\nt-1,mine-1,\n", "utf-8")
    [problem] = problems_of(path, NoteTask, reserved=False)
    assert problem.startswith("row 1, column doc_id: another column looks like it; is ")


@pytest.mark.parametrize("name", NAMES)
def test_column_almost_named_doc_id_is_refused_in_frames(name: str) -> None:
    polars = pytest.importorskip("polars")
    from docid.frames import frame_to_tasks, reserve_frame  # noqa: PLC0415 - needs narwhals

    frame = polars.DataFrame({"note_task_id": ["t-1"], name: ["mine-1"]})
    for call in (lambda: reserve_frame(frame, stage="note"), lambda: frame_to_tasks(frame, NoteTask, reserved=False)):
        with pytest.raises(TaskTableError, match="column doc_id: missing from the frame; is "):
            call()


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("doc_salt\u200b", "doc_salt"),
        ("Doc Run ID", "doc_run_id"),
        ("source–doc–id", "source_doc_id"),
        ("\ufeffnote_task_id", "note_task_id"),
    ],
)
def test_every_column_that_docid_knows_is_protected(tmp_path: Path, name: str, column: str) -> None:
    others = "" if column == "note_task_id" else ",note_task_id"
    path = table(tmp_path, f'"x"{others},{name}\na{"," * bool(others) and ",t"},z\n', "note_tasks.csv")
    assert f"column {column}: missing from the header; is " in problems_of(path, NoteTask, reserved=False)[0]


def test_names_that_mean_something_else_are_extra_columns(tmp_path: Path) -> None:
    names = ["doc_ids", "document_id", "my_doc_id", "doc_id_2", "文档文档号", "doc", "id", "...", "", "dóçîdé"]
    path = table(tmp_path, f"note_task_id,{','.join(map(quote_cell, names))}\nt{',1' * len(names)}\n", "note_tasks.csv")
    [row] = read_tasks(path, NoteTask, reserved=False)
    assert list(row.extra) == names


@given(st.text(), st.text())
def test_nearly_equal_names_are_found_in_both_directions(one: str, other: str) -> None:
    assert is_nearly(one, other) == is_nearly(other, one)
    assert not is_nearly(one, one)
    assert fold_name(fold_name(one)) == fold_name(one)
    assert find_misspelling(one, [other], [other]) is None


@given(st.text(min_size=1), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]), st.sampled_from([str.upper, str.title]))
def test_form_and_case_do_not_change_folded_name(text: str, form: Any, change: Callable[[str], str]) -> None:
    assert fold_name(unicodedata.normalize(form, text)) == fold_name(text)
    if text.isascii():
        assert fold_name(change(text)) == fold_name(text)


def test_other_form_of_a_declared_column_is_shown_with_escapes(tmp_path: Path) -> None:
    @attrs.frozen(kw_only=True)
    class Probe(TaskRow):
        stage = "probe"
        theme: str = attrs.field(default="none", metadata={"column": "thème"})

    path = table(tmp_path, f"probe_task_id,{unicodedata.normalize('NFD', 'thème')}\na,sea\n", "probe_tasks.csv")
    [problem] = problems_of(path, Probe, reserved=False)
    assert problem == r"row 1, column thème: missing from the header; is 'the\u0300me' misspelled?"
    path.write_text("probe_task_id,Thème\na,sea\n", "utf-8")
    [problem] = problems_of(path, Probe, reserved=False)
    assert problem == "row 1, column thème: missing from the header; is 'Thème' misspelled?"


def test_list_of_columns_shows_invisible_characters(tmp_path: Path) -> None:
    path = table(tmp_path, "a\u200b,b\u2060\n1,2\n", "note_tasks.csv")
    assert r"the columns are a\u200b, b\u2060" in problems_of(path, NoteTask)[0]


def test_misspelled_column_of_a_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("doc_id,Parser\nd1,x\n")
    with pytest.raises(TaskTableError, match=r"column parser: missing from the header; is 'Parser' misspelled\?"):
        read_columns(str(path), ("doc_id",), ("parser",))
    path.write_text("doc_id,Parser,parser\nd1,x,\n")
    with pytest.raises(TaskTableError, match=r"column parser: another column looks like it; is 'Parser' misspelled\?"):
        read_columns(str(path), ("doc_id",), ("parser",))
    path.write_text("a,b\n1,2\n")
    with pytest.raises(TaskTableError, match="column doc_id: missing from the header; the columns are a, b"):
        read_columns(str(path), ("doc_id",), ("parser",))


def test_misspelled_parent_column_of_reserve_is_refused(tmp_path: Path) -> None:
    chapter = TaskRow.of("chapter", "outline")
    path = table(tmp_path, "chapter_task_id,outline_task_id\u200b\nt,o\n", "chapter_tasks.csv")
    rows = read_tasks(path, chapter, reserved=False)
    with pytest.raises(TaskTableError, match=r"is 'outline_task_id\\u200b' misspelled"):
        reserve_tasks(rows, chapter, parents={"o": "o1"})


def test_quotes_after_a_blank_are_refused(tmp_path: Path) -> None:
    wrong = "a quote after a blank, so the quotes are part of the text; remove the blanks after the delimiters"
    path = table(tmp_path, '"note_task_id", "topic"\n"t-1", "tides"\n', "note_tasks.csv")
    assert problems_of(path, NoteTask, reserved=False) == [f"row 1: ' \"topic\"'; {wrong}"]
    path.write_text('note_task_id,topic,more\nt-1,\t"tides",x\nt-2,moss,\u200b"a"\nt-3, "a, b"\n', "utf-8")
    assert [each.partition(":")[0] for each in problems_of(path, NoteTask, reserved=False)] == [
        "row 2",
        "row 3",
        "row 4",
    ]
    with pytest.raises(TaskTableError, match="3 problems"):
        list(read_columns(str(path), ("note_task_id",)))


@pytest.mark.parametrize("text", ['" ""tides"""', '"\t""a"" b"', '5" disk', '"""tides"""', '– "x"', '"a, ""b"""', "''"])
def test_quotes_that_belong_to_the_text_are_kept(tmp_path: Path, text: str) -> None:
    path = table(tmp_path, f"note_task_id,topic\nt-1,{text}\n", "note_tasks.csv")
    [row] = read_tasks(path, NoteTask, reserved=False)
    assert '"' in row.extra["topic"] or row.extra["topic"] == "''"


def test_frame_with_quotes_after_a_blank_is_refused() -> None:
    polars = pytest.importorskip("polars")
    from docid.frames import frame_to_tasks, reserve_frame  # noqa: PLC0415 - needs narwhals

    frame = polars.DataFrame({"note_task_id": ["t-1"], ' "topic"': [' "tides"']})
    for call in (lambda: reserve_frame(frame, stage="note"), lambda: frame_to_tasks(frame, NoteTask, reserved=False)):
        with pytest.raises(TaskTableError, match="a quote after a blank"):
            call()


HEADERS_AGAIN = {
    "same": "note_task_id,topic,doc_id",
    "with a BOM": "\ufeffnote_task_id,topic,doc_id",
    "other case": "Note_Task_ID,Topic,Doc_ID",
    "other order": "doc_id,note_task_id,topic",
    "other columns": "note_task_id,title,doc_id",
    "quoted": '"note_task_id","topic","doc_id"',
    "full width": "ｎｏｔｅ＿ｔａｓｋ＿ｉｄ,topic,doc_id",
}


@pytest.mark.parametrize("again", HEADERS_AGAIN.values(), ids=HEADERS_AGAIN)
def test_header_in_the_middle_is_a_fault_at_every_door(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], again: str
) -> None:
    path = table(tmp_path, f"note_task_id,topic,doc_id\nt-1,sea,n1\n{again}\nt-2,moss,n2\n", "note_tasks.csv")
    stages = Stages.chain("note")
    assert problems_of(path, NoteTask) == ["row 3: the header again, as if tables were joined; remove this row"]
    report = audit(DocsStore(tmp_path / "docs", stages=stages), {"note": path})
    [finding] = [each for each in report.findings if each.level == "error"]
    assert (finding.code, finding.where) == ("malformed-id", f"{path} row 3, column note_task_id")
    assert report.stages["note"].rows == 2
    before = path.read_bytes()
    assert main(["reserve", "--stages", "note", str(path)]) == 2
    assert "the header again" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_header_in_the_middle_of_other_rows_is_a_fault(tmp_path: Path) -> None:
    header = {"note_task_id": "note_task_id", "topic": "topic"}
    with pytest.raises(TaskTableError, match="row 2: the header again"):
        list(reserve_tasks([{"note_task_id": "t-1", "topic": "sea"}, header], NoteTask))
    path = table(tmp_path, "doc_id\nd1\ndoc_id\nd2\n", "list.csv")
    with pytest.raises(TaskTableError, match="row 3: the header again"):
        list(read_columns(str(path), ("doc_id",)))
    # A table made of two headers of another width is a fault too.
    path.write_text("note_task_id,topic\nt-1,sea\nnote_task_id\nt-2\n")
    assert len(problems_of(path, NoteTask, reserved=False)) == 2


def test_header_in_the_middle_of_a_frame_is_a_fault() -> None:
    polars = pytest.importorskip("polars")
    pandas = pytest.importorskip("pandas")
    from docid.frames import frame_to_tasks, reserve_frame  # noqa: PLC0415 - needs narwhals

    data = {"note_task_id": ["t-1", "note_task_id"], "topic": ["sea", "topic"]}
    calls: Iterable[Callable[[Any], Any]] = (
        lambda frame: reserve_frame(frame, stage="note"),
        lambda frame: list(frame_to_tasks(frame, NoteTask, reserved=False)),
    )
    for library in (polars, pandas):
        for call in calls:
            with pytest.raises(TaskTableError, match="row 2: the header again"):
                call(library.DataFrame(data))
        named = library.DataFrame({"title": ["a", "title"], "topic": ["sea", "topic"]})
        with pytest.raises(TaskTableError, match="row 2: the header again"):
            reserve_frame(named, stage="note", task_id="title")
        # A task may have the name of a column.
        named = library.DataFrame({"title": ["a", "title"], "topic": ["sea", "moss"]})
        assert len(reserve_frame(named, stage="note", task_id="title")) == 2


def test_words_that_resemble_a_header_are_kept(tmp_path: Path) -> None:
    path = table(tmp_path, "topic,note_task_id,key\ntopic,topic,\nkey,t-2,note_task_id\n", "note_tasks.csv")
    rows = list(read_tasks(path, NoteTask, reserved=False))
    assert [row.task_id for row in rows] == ["topic", "t-2"]


def test_no_new_name_for_a_paid_document(tmp_path: Path) -> None:
    store = DocsStore(tmp_path / "docs")
    [row] = reserve_tasks([DraftTask(task_id="t-1")], DraftTask, salt="first")
    store.write(Document.from_task(row, raw_text="paid"))
    for name in ALMOST.values():
        rows = [{"draft_task_id": "t-1", "doc_salt": "first", name: row.doc_id}]
        with pytest.raises(TaskTableError):
            list(reserve_tasks(rows, DraftTask))
    essays = [{"essay_task_id": "e", "draft_task_id": "t-1"}]
    [essay] = reserve_tasks(essays, EssayTask, parents=[{"draft_task_id": "t-1", "doc_id": row.doc_id}])
    assert essay.parent_doc_id == row.doc_id

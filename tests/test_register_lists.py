"""The lists of `docid register`: ids, or a CSV table with a column of truth values. Nothing is guessed."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docid import TaskTableError
from docid.cli.arguments import UsageError
from docid.cli.register import _read_list

TRUE = ["true", "yes", "y", "on", "1", "1.0"]
FALSE = ["false", "no", "n", "off", "0", "0.0"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(given: str) -> list[tuple[str, ...]]:
    return _read_list(given, "template_id", "parser", "active")


def read_table(text: str, name: str = "templates.csv") -> list[tuple[str, ...]]:
    Path(name).write_text(text, "utf-8")
    return read(name)


@pytest.mark.parametrize("words", [TRUE, FALSE], ids=["true", "false"])
def test_every_truth_value_is_read_in_any_case(words: list[str]) -> None:
    texts = [
        change(f"{blank}{word}{blank}") for word in words for change in (str.upper, str.title) for blank in ("", " ")
    ]
    rows = "".join(f"t{number},{text}\n" for number, text in enumerate(texts))
    found = {name for name, _ in read_table(f"template_id,active\n{rows}sure,true\n")}
    assert found == {"sure"} | ({f"t{number}" for number in range(len(texts))} if words is TRUE else set())


@given(st.text(st.characters(codec="utf-8", exclude_characters='",\r\n\0')))
def test_any_other_word_is_a_fault_of_its_row(word: str) -> None:
    is_known = word.strip().lower() in {*TRUE, *FALSE}
    try:
        read_table(f"template_id,active\nsure,true\nother,{word}\n")
    except TaskTableError as error:
        [problem] = error.problems
        assert not is_known
        assert (problem.file, problem.row, problem.column, problem.value) == ("templates.csv", 3, "active", word)
        assert "expected true or false (or yes/no, y/n, on/off, 1/0, 1.0/0.0)" in str(error)
    else:
        assert is_known


@pytest.mark.parametrize("name", ["Active", "ACTIVE", " active", "active ", "\tActive", "\u00a0active"])
def test_column_of_truth_values_is_found_under_any_case_and_blanks(name: str) -> None:
    assert read_table(f"template_id,{name}\nclarity,true\nnovelty,false\n") == [("clarity", "")]


def test_two_columns_of_truth_values_are_refused() -> None:
    with pytest.raises(TaskTableError, match="row 1, column Active: repeated; expected one column active"):
        read_table("template_id,active,Active\nclarity,true,false\n")


def test_table_without_the_column_selects_all_rows() -> None:
    assert read_table("parser,template_id\np,clarity\n,novelty\n") == [("clarity", "p"), ("novelty", "")]


@pytest.mark.parametrize(
    "name", ["templates.CSV", "templates.txt", "templates", "a,b.csv", "a=b:c.csv", "templates.csv.gz"]
)
def test_existing_file_is_read_under_any_name(name: str) -> None:
    text = b"template_id,active\nclarity,true\nnovelty,false\n"
    Path(name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    assert read(name) == [("clarity", "")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("templates.csv", "templates.csv: no such file"),
        ("templates.CSV", "no such file"),
        ("templates.xlsx", "no such file"),
        ("lists/templates", "no such file"),
        ("clarity,templates.csv", "templates.csv looks like a file, not an id"),
        ("clarity,lists/novelty", "lists/novelty looks like a file"),
        ("directory", "directory: not a regular file; expected ids"),
        ("clarity,directory", "directory looks like a file"),
        ("clarity,clarity", "clarity is repeated; expected each id once"),
        (" , ", "expected ids separated by commas, or a CSV table"),
        ("", "expected ids separated by commas, or a CSV table"),
    ],
)
def test_text_that_looks_like_a_file_is_no_id(given: str, message: str) -> None:
    Path("directory").mkdir()
    with pytest.raises(UsageError) as caught:
        read(given)
    assert message in str(caught.value)


def test_ids_may_have_version_numbers() -> None:
    assert read("gpt-4.1, sonnet-3.5-large") == [("gpt-4.1",), ("sonnet-3.5-large",)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("clarity,true\nclarity,false\n", "row 3, column template_id: 'clarity'; repeated; row 2 has it too"),
        (",true\n", "row 2, column template_id: empty; expected an id"),
        ("nan,true\n", "row 2, column template_id: 'nan'; empty; expected an id"),
        (" clarity,true\n", "row 2, column template_id: ' clarity'; leading or trailing white space; expected an id"),
        ("clarity,\n", "row 2, column active: empty; expected true or false"),
    ],
)
def test_doubtful_row_is_a_fault(rows: str, message: str) -> None:
    with pytest.raises(TaskTableError) as caught:
        read_table(f"template_id,active\n{rows}")
    assert message in str(caught.value)


def test_table_without_a_marked_row_is_refused() -> None:
    with pytest.raises(UsageError, match="no row is marked active; expected at least one"):
        read_table("template_id,active\nclarity,no\n")

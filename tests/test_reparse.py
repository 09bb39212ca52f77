"""`reparse` and `docid reparse`: parse stored replies again, without a call."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, InvalidName
from docid.cli import main
from docid.curate import reparse
from tests.store_documents import damage, draft, put_legacy


def parse(text: str) -> str | None:
    if text == "fails":
        raise LookupError("no score")
    return None if text == "nothing" else text.upper()


def fill(store: DocsStore) -> None:
    store.write_many([draft("a1", raw_text="seven"), draft("b1", task_id="b", raw_text="x", parsed_text="old")])
    store.write_many(draft(f"c{n}", task_id=f"c{n}", raw_text=text) for n, text in enumerate(["fails", "nothing"]))
    put_legacy(store, "draft", "d1", {"task_id": "t"}, raw="seven")


def test_missing_parsed_texts_are_added(store: DocsStore) -> None:
    fill(store)
    planned = list(reparse(store, "draft", parse))
    assert [(each.doc_id, each.outcome, each.done) for each in planned] == [
        ("a1", "parse", False),
        ("b1", "current", False),
        ("c0", "leave", False),
        ("c1", "leave", False),
        ("d1", "leave", False),
    ]
    assert [each.message for each in planned[2:]] == [
        "the parser raised LookupError: no score",
        "the parser returned None",
        "an older system wrote its record; run 'docid migrate' first",
    ]
    assert store.open("draft", "a1").parsed_text is None
    [done] = [each for each in reparse(store, "draft", parse, apply=True) if each.done]
    assert (done.doc_id, done.task_id) == ("a1", "t-1")
    assert store.open("draft", "a1").parsed_text == "SEVEN"
    assert store.open("draft", "b1").parsed_text == "old"
    assert not any(each.done for each in reparse(store, "draft", parse, apply=True))


def test_unusable_results_and_documents_are_left_alone(store: DocsStore) -> None:
    store.write(draft("a1"))
    results: list[Any] = [7, "\ud800"]
    while results:
        [change] = reparse(store, "draft", lambda _: results.pop(), apply=True)
        assert (change.outcome, change.error is not None) == ("leave", True)
    damage(store, "raw.txt", None)
    [change] = reparse(store, "draft", parse, apply=True)
    assert change.outcome == "leave"
    with pytest.raises(InvalidName):
        reparse(store, "cover", parse)


def test_document_that_another_process_parses_meanwhile_is_current(store: DocsStore) -> None:
    store.write(draft("a1"))

    def parse_late(text: str) -> str:
        store.add_part("draft", "a1", "parsed", "of another process")
        return text

    [change] = reparse(store, "draft", parse_late, apply=True)
    assert change.outcome == "current"


def test_command_imports_the_parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("parser_of_tests.py").write_text("parse = str.upper\nnumber = 7\n")
    Path("leaving_of_tests.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "parser_of_tests", raising=False)
    store = DocsStore("docs", durability="none")
    store.write(draft("a1", raw_text="seven"))
    options = ["--stage", "draft", "--store", "docs", "--parser"]
    assert main(["reparse", *options, "parser_of_tests:parse"]) == 0
    assert capsys.readouterr().out == (
        "draft: 1 document: 1 to parse, 0 already parsed, 0 left alone\ndry run: --apply adds the parsed texts\n"
    )
    assert main(["reparse", *options, "parser_of_tests:parse", "--apply", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["action"] == "parse"
    assert store.open("draft", "a1").parsed_text == "SEVEN"
    put_legacy(store, "draft", "d1", {"task_id": "t"}, raw="seven")
    assert main(["reparse", *options, "parser_of_tests:parse"]) == 1
    assert "1 left alone" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["reparse", *options, "parser_of_tests:parse", "--bogus"])
    assert "unrecognized arguments: --bogus" in capsys.readouterr().err
    for name, message in (
        ("parser_of_tests", "expected MODULE:FUNCTION"),
        ("parser_of_tests:none", "AttributeError"),
        ("no_such_module:parse", "ModuleNotFoundError"),
        ("parser_of_tests:number", "int; expected a function"),
        ("leaving_of_tests:parse", "SystemExit: 3"),
    ):
        assert main(["reparse", *options, name]) == 2
        assert message in capsys.readouterr().err


def test_parser_that_leaves_the_process_fails(store: DocsStore) -> None:
    store.write(draft("a1"))

    def leave(_: str) -> str:
        raise SystemExit

    [change] = reparse(store, "draft", leave, apply=True)
    assert (change.outcome, change.message) == ("leave", "the parser raised SystemExit: ")

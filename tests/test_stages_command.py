"""`docid stages`, and how the other commands find the stages of a store, or that there is no store."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, Document, Stages
from docid.cli import main
from tests.servers import Moto

BOOK = Stages({"outline": None, "chapter": "outline"})


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([*map(str, arguments)])
    out, err = capfd.readouterr()
    return code, out, err


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DocsStore:
    """A store of a book, `book` in the working directory."""
    monkeypatch.chdir(tmp_path)
    store = DocsStore(tmp_path / "book", stages=BOOK, durability="none")
    store.write(Document(stage="outline", doc_id="o1", task_id="t-1", raw_text="Once."))
    store.write(Document(stage="chapter", doc_id="c1", task_id="c-1", parent_doc_id="o1", raw_text="Then."))
    return store


def forget(store: DocsStore) -> None:
    """Remove the manifest, as in a store of an earlier release."""
    shutil.rmtree(Path(store.root, ".docid"))


def test_stages_are_shown(book: DocsStore, capfd: pytest.CaptureFixture[str]) -> None:
    shown = "outline  parent: -\nchapter  parent: outline\ndeclared in book/.docid/store.json\n"
    assert run(capfd, "stages", "--store", "book") == (0, shown, "")
    code, out, _ = run(capfd, "stages", "--store", "book", "--json")
    assert (code, json.loads(out)) == (
        0,
        {
            "store": os.path.abspath("book"),
            "manifest": os.path.abspath("book/.docid/store.json"),
            "declared": True,
            "stages": {"outline": None, "chapter": "outline"},
            "undeclared": [],
        },
    )


def test_declare_adds_stages(book: DocsStore, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capfd, "stages", "--store", "book", "--declare", "outline,chapter,review")
    assert (code, "review   parent: chapter\n" in out) == (0, True)
    assert list(DocsStore("book").stages) == ["outline", "chapter", "review"]
    code, out, err = run(capfd, "stages", "--store", "book", "--declare", "chapter")
    assert (code, out) == (2, "")
    assert "stage chapter: its parent is outline in book/.docid/store.json, but you declare no parent" in err


def test_store_of_other_stages_without_manifest_is_refused(
    book: DocsStore, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(book)
    commands: list[list[str]] = [["ls"], ["repair"], ["audit"], ["show", "o1"], ["migrate"], ["lineage", "c1"]]
    for command in commands:
        code, out, err = run(capfd, *command, "--store", "book")
        assert (code, out) == (2, "")
        assert err == (
            "docid: book does not declare its stages, and holds documents of chapter, outline; expected --stages LIST or "
            "DOCID_STAGES, or declare them once with 'docid stages --declare LIST'\n"
        )
    assert run(capfd, "ls", "--store", "book", "--stages", "outline,chapter", "--ids")[0] == 0
    code, out, _ = run(capfd, "stages", "--store", "book")
    assert code == 0
    assert out.endswith(
        "book declares no stages; these are the default\n"
        "book also holds documents of chapter, outline; --declare LIST adds their stages\n"
    )
    assert run(capfd, "stages", "--store", "book", "--declare", "outline,chapter")[0] == 0
    for command in commands:
        assert run(capfd, *command, "--store", "book")[0] == 0
    monkeypatch.setenv("DOCID_STORE", "book")
    assert run(capfd, "ls", "--ids") == (0, "outline/o1\nchapter/c1\n", "")


def test_option_and_environment_precede_the_manifest(
    book: DocsStore, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCID_STAGES", "outline")
    code, out, err = run(capfd, "ls", "--store", "book", "--ids")
    assert (code, out) == (0, "outline/o1\n")
    assert err == "docid: book also holds chapter; --stages has only outline\n"
    assert run(capfd, "ls", "--store", "book", "--ids", "--stages", "chapter")[1] == "chapter/c1\n"
    monkeypatch.delenv("DOCID_STAGES")
    Path("book/notes").mkdir()
    code, out, err = run(capfd, "ls", "--store", "book", "--ids")
    assert (out, err) == (
        "outline/o1\nchapter/c1\n",
        "docid: book also holds notes; its manifest has only outline, chapter\n",
    )


def test_other_parents_on_the_command_line_are_reported_and_refused_for_changes(
    book: DocsStore, capfd: pytest.CaptureFixture[str]
) -> None:
    problem = "docid: stage chapter: its parent is outline in book/.docid/store.json, but you declare no parent;"
    code, out, err = run(capfd, "ls", "--store", "book", "--ids", "--stages", "outline,chapter:")
    assert (code, out) == (0, "outline/o1\nchapter/c1\n")
    assert err.startswith(problem)
    table = Path("outline_tasks.csv")
    table.write_text("outline_task_id,doc_id,model\nt-1,o1,m\n")
    backfill: list[Any] = ["backfill", "--set", "model", "--from", f"{table}:model", "--store", "book"]
    for command in (backfill, ["migrate", "--store", "book", "--apply"]):
        code, out, err = run(capfd, *command, "--stages", "outline,chapter:")
        assert (code, out) == (2, "")
        assert problem in err
    assert run(capfd, *backfill, "--stages", "outline,chapter:", "--dry-run")[0] == 0
    assert run(capfd, *backfill)[0] == 0


def test_backfill_declares_the_stages_of_an_older_store(book: DocsStore, capfd: pytest.CaptureFixture[str]) -> None:
    forget(book)
    Path("outline_tasks.csv").write_text("outline_task_id,doc_id,model\nt-1,o1,m\n")
    command = ["backfill", "--set", "model", "--from", "outline_tasks.csv:model", "--store", "book"]
    assert run(capfd, *command)[0] == 2
    assert run(capfd, *command, "--stages", "outline,chapter", "--dry-run")[0] == 0
    assert not Path("book/.docid").exists()
    assert run(capfd, *command, "--stages", "outline,chapter")[0] == 0
    assert DocsStore("book").stages == BOOK


def test_damaged_manifest_needs_stages_or_a_new_one(book: DocsStore, capfd: pytest.CaptureFixture[str]) -> None:
    Path("book/.docid/store.json").write_text("{")
    for command in (["ls"], ["audit"], ["stages"]):
        code, out, err = run(capfd, *command, "--store", "book")
        assert (code, out) == (2, "")
        assert "book/.docid/store.json: JSONDecodeError" in err
        assert "replace it with 'docid stages --declare LIST', or pass stages=… or --stages" in err
    code, out, err = run(capfd, "ls", "--store", "book", "--ids", "--stages", "outline,chapter")
    assert (code, out) == (0, "outline/o1\nchapter/c1\n")
    assert "book/.docid/store.json: JSONDecodeError" in err
    assert run(capfd, "stages", "--store", "book", "--declare", "outline,chapter")[0] == 0
    assert run(capfd, "ls", "--store", "book", "--ids") == (0, "outline/o1\nchapter/c1\n", "")


def test_new_store_is_started_on_request(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capfd, "stages", "--store", "new/book", "--declare", "outline,chapter")
    assert (code, "no store at new/book: no such directory; check the path; 'docid stages" in err) == (2, True)
    code, _, err = run(capfd, "stages", "--store", "new/book", "--new-store")
    assert (code, "expected --declare LIST with it" in err) == (2, True)
    assert not Path("new").exists()
    assert run(capfd, "stages", "--store", "new/book", "--declare", "outline,chapter", "--new-store")[0] == 0
    assert run(capfd, "ls", "--store", "new/book")[:2] == (0, "")
    assert DocsStore("new/book").stages == BOOK
    assert run(capfd, "stages")[0] == 2


def test_audit_with_new_store_still_refuses_a_store_of_other_stages(
    book: DocsStore, capfd: pytest.CaptureFixture[str]
) -> None:
    forget(book)
    assert run(capfd, "audit", "--store", "book", "--new-store")[0] == 2


def test_copy_creates_a_store_on_request(book: DocsStore, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(capfd, "copy", "book", "there")[0] == 2
    assert not Path("there").exists()
    assert run(capfd, "copy", "book", "there", "--new-store")[:2] == (0, "outline: 1 copied\nchapter: 1 copied\n")
    assert run(capfd, "copy", "book", "there")[1] == "outline: 1 same\nchapter: 1 same\n"
    assert DocsStore("there").stages == BOOK


def test_audit_reads_tables_of_declared_stages(book: DocsStore, capfd: pytest.CaptureFixture[str]) -> None:
    Path("tables").mkdir()
    Path("tables/outline_tasks.csv").write_text("outline_task_id,doc_id\nt-1,o1\n")
    code, out, _ = run(capfd, "audit", "tables", "--store", "book")
    assert (code, out.splitlines()[1].split()[:3]) == (0, ["outline", "1", "1"])


def test_bucket_without_manifest_is_checked_too(
    s3: Moto, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    url = s3.bucket()
    assert run(capfd, "ls", "--store", url)[2].startswith(f"docid: no store at {url}: it is empty; check the path;")
    store = DocsStore(url, stages=BOOK)
    store.backend.create("outline", "o1", b"{}", {})
    assert "holds documents of outline; expected --stages LIST" in run(capfd, "ls", "--store", url)[2]
    assert run(capfd, "stages", "--store", url, "--declare", "outline,chapter")[0] == 0
    s3.counts()
    assert run(capfd, "ls", "--store", url, "--ids") == (0, "outline/o1\n", "")
    assert s3.counts() == {"GET": 3}  # the manifest, and a list of each stage

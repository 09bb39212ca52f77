"""Scanning a stage in which something cannot be read, or vanishes meanwhile."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, StoredDocument, UnreadableDocument
from docid.core.findings import Finding
from docid.repair import repair
from docid.store.backends.local.directory import Directory
from tests.damaged_store import dead_create, draft, fill, torn


@pytest.fixture
def root(local: DocsStore, tmp_path: Path) -> Path:
    return fill(local, tmp_path)


def test_a_directory_that_cannot_be_read_is_a_finding_and_does_not_end_the_scan(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn(root)
    original = os.open

    def refused(path: Any, *args: Any, **options: Any) -> int:
        if str(path).endswith(("changed", "/essay")):
            raise PermissionError(13, "Permission denied", path)
        return original(path, *args, **options)

    (root / "essay").mkdir()
    monkeypatch.setattr("docid.store.backends.local.directory.os.open", refused)
    steps = list(repair(local, apply=True, stale_after=0))
    assert sorted((step.action, step.path, step.done) for step in steps) == [
        ("leave", ".docid/history/draft/changed", False),
        ("leave", "draft/changed", False),
        ("leave", "essay", False),
        ("quarantine", "draft/good", True),
    ]
    assert "Permission denied" in steps[-1].message


def test_a_name_in_a_stage_that_cannot_be_looked_at_is_a_finding(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead_create(root)

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("docid.store.backends.local.sweep.probe_lock", refused)
    [step] = repair(local, apply=True)
    assert (step.action, "Permission denied" in step.message) == ("leave", True)


def test_a_scan_gives_the_documents_and_passes_over_what_vanishes(local: DocsStore, root: Path) -> None:
    documents = [found for found in local.scan("draft") if isinstance(found, StoredDocument)]
    assert sorted(document.doc_id for document in documents) == ["changed", "good"]
    stream = local.scan("draft")
    next(stream)
    shutil.rmtree(root / "draft")
    assert [found for found in stream if isinstance(found, Finding)] == []


@pytest.mark.parametrize("odd", ["large record", "no record", "a directory in it"])
def test_what_the_first_look_cannot_tell_a_closer_one_does(local: DocsStore, root: Path, odd: str) -> None:
    if odd == "large record":
        local.write(draft("good", metadata={"k": "x" * 70_000}), if_exists="replace")
    elif odd == "no record":
        (root / "draft" / "good" / "metadata.json").unlink()
    else:
        (root / "draft" / "good" / "mine").mkdir()
    assert (local.backend.listing("draft", "good") is None) == (odd != "large record")
    assert local.backend.listing("draft", "changed") is not None
    told = {(found.doc_id, getattr(found, "code", "")) for found in local.scan("draft", stale_after=0)}
    expected = {
        "large record": {("good", "")},
        "no record": {("good", "uncommitted-directory")},
        "a directory in it": {("good", ""), ("good", "unlisted-file")},
    }
    assert told == {("changed", ""), *expected[odd]}


def test_a_document_that_vanishes_while_it_is_looked_at_is_passed_over(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = type(local.backend).sizes

    def vanished(backend: Any, stage: str, doc_id: str, *args: Any) -> Any:
        if doc_id == "good":
            shutil.rmtree(root / "draft" / "good")
        return original(backend, stage, doc_id, *args)

    monkeypatch.setattr(type(local.backend), "listing", lambda *_: None)
    monkeypatch.setattr(type(local.backend), "sizes", vanished)
    assert {found.doc_id for found in local.scan("draft")} == {"changed"}


def test_older_records_are_scanned_by_the_parts_that_are_there(local: DocsStore) -> None:
    local.backend.create("draft", "old", b'{"task_id": "t"}', {"raw.txt": b"r", "parsed.txt": b"p"})
    local.backend.create("draft", "bare", b'{"task_id": "t"}', {"parsed.txt": b"p"})
    found = {each.doc_id: each for each in local.scan("draft", stale_after=0)}
    assert isinstance(found["old"], StoredDocument)
    assert isinstance(found["bare"], Finding)
    assert (found["bare"].code, found["bare"].task_id) == ("torn-document", "t")


def test_what_vanishes_while_it_is_listed_is_passed_over(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead_create(root)
    names = Directory.names

    def gone(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("docid.store.backends.local.sweep.probe_lock", gone)
    monkeypatch.setattr(type(local.backend), "listing", lambda *_: None)
    monkeypatch.setattr(Directory, "names", lambda directory: [*names(directory), "gone", ".lock-gone"])
    steps = list(repair(local, stale_after=0, apply=True))
    assert {step.path for step in steps} == {f"draft/{name}/gone" for name in ("good", "changed")}


def test_texts_that_an_old_record_borrows_are_compared_by_hash(local: DocsStore, root: Path) -> None:
    """As where somebody has put another document in place of the one that the record was of."""
    local.write(draft("b2", raw_text="once"))
    opened = local.open("draft", "b2")
    local.add_part("draft", "b2", "parsed", "p")
    shutil.rmtree(root / "draft" / "b2")
    local.write(draft("b2", raw_text="EVIL", task_id="t-2"))
    assert list(local.history("draft", "b2")) == []  # another lineage's
    with pytest.raises(UnreadableDocument, match="SHA-256"):
        _ = opened.raw_text
    shutil.rmtree(root / "draft" / "b2")
    local.write(draft("b2", raw_text="evil"))
    with pytest.raises(
        UnreadableDocument, match="the fault is in an old version, not in the current document: raw.txt: its SHA"
    ):
        list(local.history("draft", "b2"))


@pytest.mark.parametrize("odd", ["a link", "a file", "a file for the stage's history", "a link for a stage's lock"])
def test_odd_things_of_docids_own_do_not_hide_the_documents(local: DocsStore, root: Path, odd: str) -> None:
    torn(root)
    if odd == "a link for a stage's lock":
        (root / "draft" / ".lock-aa").symlink_to("nowhere")
        (root / "draft" / ".lock-bb").touch()
    else:
        shutil.rmtree(root / ".docid")
        if odd == "a link":
            (root.parent / "elsewhere").mkdir()
            (root / ".docid").symlink_to(root.parent / "elsewhere")
        elif odd == "a file":
            (root / ".docid").write_text("")
        else:
            (root / ".docid" / "history").mkdir(parents=True)
            (root / ".docid" / "history" / "draft").write_text("")
    found = list(local.scan("draft", stale_after=0))
    assert [each.doc_id for each in found if isinstance(each, StoredDocument)] == ["changed"]
    codes = [each.code for each in found if isinstance(each, Finding)]
    assert "torn-document" in codes
    list(repair(local, apply=True, stale_after=0))
    assert not (root / "draft" / ".lock-bb").exists()


def test_a_stage_that_cannot_be_listed_is_said_once(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("docid.store.backends.local.sweep.LocalSweeper.leftovers", refused)
    monkeypatch.setattr(type(local.backend), "ids", refused)
    [finding] = local.scan("draft")
    assert isinstance(finding, Finding)
    assert finding.message.startswith("the stage cannot be listed")
    monkeypatch.setattr("docid.store.backends.local.sweep.LocalSweeper.leftovers", lambda *_: iter(()))
    [again] = local.scan("draft")
    assert again == finding

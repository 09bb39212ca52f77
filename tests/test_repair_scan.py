"""Scanning a stage whose entries cannot be read, or vanish during the scan."""

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


def test_unreadable_directory_is_a_finding_and_the_scan_goes_on(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn(root)
    original = os.open

    def refuse_open(path: Any, *args: Any, **options: Any) -> int:
        if str(path).endswith(("changed", "/essay")):
            raise PermissionError(13, "Permission denied", path)
        return original(path, *args, **options)

    (root / "essay").mkdir()
    monkeypatch.setattr("docid.store.backends.local.directory.os.open", refuse_open)
    steps = list(repair(local, apply=True, stale_after=0))
    assert sorted((step.action, step.path, step.done) for step in steps) == [
        ("leave", ".docid/history/draft/changed", False),
        ("leave", "draft/changed", False),
        ("leave", "essay", False),
        ("quarantine", "draft/good", True),
    ]
    assert "Permission denied" in steps[-1].message


def test_failed_lock_probe_is_a_finding(local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead_create(root)

    def refuse_lock(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("docid.store.backends.local.sweep.probe_lock", refuse_lock)
    [step] = repair(local, apply=True)
    assert (step.action, "Permission denied" in step.message) == ("leave", True)


def test_scan_gives_documents_and_skips_those_that_vanish(local: DocsStore, root: Path) -> None:
    documents = [found for found in local.scan("draft") if isinstance(found, StoredDocument)]
    assert sorted(document.doc_id for document in documents) == ["changed", "good"]
    stream = local.scan("draft")
    next(stream)
    shutil.rmtree(root / "draft")
    assert [found for found in stream if isinstance(found, Finding)] == []


@pytest.mark.parametrize("odd", ["large record", "no record", "a directory in it"])
def test_scan_covers_large_and_missing_records_and_subdirectories(local: DocsStore, root: Path, odd: str) -> None:
    if odd == "large record":
        local.write(draft("good", metadata={"k": "x" * 70_000}), if_exists="replace")
    elif odd == "no record":
        (root / "draft" / "good" / "metadata.json").unlink()
    else:
        (root / "draft" / "good" / "mine").mkdir()
    assert (local.backend.listing("draft", "good") is None) == (odd != "large record")
    assert local.backend.listing("draft", "changed") is not None
    codes = {(found.doc_id, getattr(found, "code", "")) for found in local.scan("draft", stale_after=0)}
    expected = {
        "large record": {("good", "")},
        "no record": {("good", "uncommitted-directory")},
        "a directory in it": {("good", ""), ("good", "unlisted-file")},
    }
    assert codes == {("changed", ""), *expected[odd]}


def test_document_that_vanishes_during_its_check_is_skipped(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = type(local.backend).sizes

    def remove_and_measure(backend: Any, stage: str, doc_id: str, *args: Any) -> Any:
        if doc_id == "good":
            shutil.rmtree(root / "draft" / "good")
        return original(backend, stage, doc_id, *args)

    monkeypatch.setattr(type(local.backend), "listing", lambda *_: None)
    monkeypatch.setattr(type(local.backend), "sizes", remove_and_measure)
    assert {found.doc_id for found in local.scan("draft")} == {"changed"}


def test_legacy_document_without_raw_text_is_torn(local: DocsStore) -> None:
    local.backend.create("draft", "old", b'{"task_id": "t"}', {"raw.txt": b"r", "parsed.txt": b"p"})
    local.backend.create("draft", "bare", b'{"task_id": "t"}', {"parsed.txt": b"p"})
    found = {each.doc_id: each for each in local.scan("draft", stale_after=0)}
    assert isinstance(found["old"], StoredDocument)
    assert isinstance(found["bare"], Finding)
    assert (found["bare"].code, found["bare"].task_id) == ("torn-document", "t")


def test_name_that_vanishes_during_the_listing_is_skipped(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead_create(root)
    names = Directory.names

    def raise_not_found(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("docid.store.backends.local.sweep.probe_lock", raise_not_found)
    monkeypatch.setattr(type(local.backend), "listing", lambda *_: None)
    monkeypatch.setattr(Directory, "names", lambda directory: [*names(directory), "gone", ".lock-gone"])
    steps = list(repair(local, stale_after=0, apply=True))
    assert {step.path for step in steps} == {f"draft/{name}/gone" for name in ("good", "changed")}


def test_old_record_verifies_borrowed_texts_by_hash(local: DocsStore, root: Path) -> None:
    # The directory of the record's document now holds another document.
    local.write(draft("b2", raw_text="once"))
    opened = local.open("draft", "b2")
    local.add_part("draft", "b2", "parsed", "p")
    shutil.rmtree(root / "draft" / "b2")
    local.write(draft("b2", raw_text="EVIL", task_id="t-2"))
    assert list(local.history("draft", "b2")) == []  # the old version has another lineage
    with pytest.raises(UnreadableDocument, match="SHA-256"):
        _ = opened.raw_text
    shutil.rmtree(root / "draft" / "b2")
    local.write(draft("b2", raw_text="evil"))
    with pytest.raises(
        UnreadableDocument, match="the fault is in an old version, not in the current document: raw.txt: its SHA"
    ):
        list(local.history("draft", "b2"))


@pytest.mark.parametrize("odd", ["a link", "a file", "a file for the stage's history", "a link for a stage's lock"])
def test_odd_files_in_docid_directories_do_not_hide_documents(local: DocsStore, root: Path, odd: str) -> None:
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


def test_unlistable_stage_is_one_finding(local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_listing(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("docid.store.backends.local.sweep.LocalSweeper.leftovers", refuse_listing)
    monkeypatch.setattr(type(local.backend), "ids", refuse_listing)
    [finding] = local.scan("draft")
    assert isinstance(finding, Finding)
    assert finding.message.startswith("the stage cannot be listed")
    monkeypatch.setattr("docid.store.backends.local.sweep.LocalSweeper.leftovers", lambda *_: iter(()))
    [again] = local.scan("draft")
    assert again == finding

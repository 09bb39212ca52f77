"""Erasures: texts that were made from the document, claims, refusals, and traces that cannot be deleted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, Document, DocumentClaimed, DraftTask, EssayTask, HasChildren, Reply
from docid.backends import Claim, LocalBackend
from docid.backends.objects import ObjectsBackend
from docid.store.backends.local.directory import Directory
from docid.store.backends.local.locks import hold_lock
from docid.store.backends.names import entry_name
from tests.store_documents import draft, essay
from tests.test_removal import SECRET, find_secret, list_names, read_all

CHILD = EssayTask(task_id="e-1", doc_id="e1", parent_doc_id="a1")


def rescue_child(store: DocsStore) -> None:
    """Save a reply that cannot be stored; its prompt quotes the parent."""
    with pytest.raises(ValueError, match="surrogate"):
        store.ensure(CHILD, lambda _: Reply("bad \ud83d", prompt_text=f"Improve: {SECRET}"))


def test_rescued_reply_counts_as_a_child(store: DocsStore) -> None:
    store.write(draft(raw_text=SECRET))
    rescue_child(store)
    with pytest.raises(HasChildren) as caught:
        store.erase("draft", "a1")
    assert caught.value.children == ("essay/e1",)
    assert store.exists("draft", "a1")
    erasure = store.erase("draft", "a1", descendants=True)
    assert [trace.document for trace in erasure.traces] == ["essay/e1", "draft/a1"]
    assert find_secret(store) == []
    assert list(store.list_rescued()) == []


def test_rescue_file_that_vanishes_is_ignored(store: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(draft())
    rescue_child(store)
    original = type(store.backend).read_file
    monkeypatch.setattr(
        type(store.backend),
        "read_file",
        lambda self, name: None if name.startswith("rescued/") else original(self, name),
    )
    assert [trace.document for trace in store.erase("draft", "a1").traces] == ["draft/a1"]


def test_second_erase_finds_the_reply_of_a_worker_that_was_making_a_child(store: DocsStore) -> None:
    store.write(draft(raw_text=SECRET))

    def make(_: EssayTask) -> Reply:
        store.erase("draft", "a1", descendants=True)
        return Reply("a reply", prompt_text=f"Improve: {SECRET}")

    with pytest.raises(LookupError, match="draft/a1 is not in the store"):
        store.ensure(CHILD, make)
    assert find_secret(store)
    assert store.erase("draft", "a1", descendants=True).traces
    assert find_secret(store) == []


def test_rescued_reply_for_an_unrelated_document_is_no_child(store: DocsStore) -> None:
    store.write_many([draft(), draft("b2", "t-2")])
    rescue_child(store)
    assert [trace.document for trace in store.erase("draft", "b2").traces] == ["draft/b2"]
    # The store has a document with the id of the reply that was made from another draft.
    store.write(draft("b2", "t-2"))
    store.write(essay(parent="b2"))
    with pytest.raises(ValueError, match="essay/e1: a rescued reply for it was made from the document"):
        store.erase("draft", "a1", descendants=True)
    assert list_names(store) == ["draft/a1", "draft/b2", "essay/e1"]


def test_erase_of_an_absent_document_respects_its_claim(store: DocsStore) -> None:
    """A removed document is pending again, so a worker may be making it."""
    store.write(draft(raw_text=SECRET))
    store.remove("draft", "a1")
    refused: list[str] = []

    def make(_: DraftTask) -> str:
        with pytest.raises(DocumentClaimed, match="draft/a1 was not erased: .* holds its claim") as caught:
            store.erase("draft", "a1")
        refused.append(str(caught.value))
        return SECRET

    assert store.ensure(DraftTask(task_id="t-1", doc_id="a1"), make).outcome == "created"
    assert len(refused) == 1
    assert len(list(store.list_removed())) == 1
    assert len(store.erase("draft", "a1").traces) == 2
    assert find_secret(store) == []


@pytest.mark.parametrize("has_damage", [False, True])
def test_refused_erasure_leaves_everything_in_place(store: DocsStore, has_damage: bool) -> None:
    store.write(draft())
    store.write_many([essay(), essay("e2", "e-2")])
    if has_damage:
        if not isinstance(store.backend, LocalBackend):
            pytest.skip("damages a file")
        store.path("draft", "a1").joinpath("metadata.json").write_text("{")
    before = read_all(store) if not has_damage else {}
    claim = store.backend.take_claim("essay", "e1")
    assert isinstance(claim, Claim)
    with pytest.raises(DocumentClaimed):
        store.erase("draft", "a1", descendants=True)
    claim.release()
    assert list_names(store) == ["draft/a1", "essay/e1", "essay/e2"]
    assert has_damage or read_all(store) == before
    assert list(store.list_removed()) == []


def test_error_of_a_refused_erasure_names_what_is_left_in_quarantine(store: DocsStore) -> None:
    store.write_many([draft(), essay()])
    lost = Document(stage="essay", doc_id="e2", task_id="e-2", parent_doc_id="a1", inputs=("draft/gone",), raw_text="x")
    store.write(lost, require_parent=False)
    claim = store.backend.take_claim("essay", "e1")
    assert isinstance(claim, Claim)
    with pytest.raises(DocumentClaimed) as caught:
        store.erase("draft", "a1", descendants=True)
    claim.release()
    [removed] = store.list_removed()
    [note] = caught.value.__notes__
    assert f"restore {removed.entry} --without-parents --apply" in note
    store.restore(removed.entry, require_parent=False)
    assert list_names(store) == ["draft/a1", "essay/e1", "essay/e2"]


def test_copy_that_cannot_be_read_does_not_stop_an_erasure(local: DocsStore) -> None:
    local.write(draft(raw_text=SECRET))
    record = local.path("draft", "a1") / "metadata.json"
    record.unlink()
    record.mkdir()  # no record can be read here
    erasure = local.erase("draft", "a1")
    assert all(trace.done for trace in erasure.traces)
    assert find_secret(local) == []


def test_file_that_another_process_uses_is_reported(local: DocsStore) -> None:
    local.write(draft())
    used = local.path("draft", "a1").with_name(".new-b2")  # of a replace of another document
    used.mkdir()
    (used / "raw.txt").write_text(SECRET)
    with Directory(str(used.parent)) as directory, hold_lock(directory, "b2"):
        [trace] = local.erase("draft", "b2").traces
    assert (trace.done, type(trace.error)) == (False, OSError)
    assert "another process uses it" in str(trace.error)
    assert all(trace.done for trace in local.erase("draft", "b2").traces)
    assert find_secret(local) == []


def test_odd_entries_of_other_documents_do_not_stop_an_erasure(local: DocsStore) -> None:
    path = local.write(draft(raw_text=SECRET)).path
    path.with_name(".tmp-other-0123456789abcdef").write_text("no directory")
    assert local.erase("draft", "a1").traces
    assert find_secret(local) == []


def test_child_and_grandchild_that_are_written_during_the_plan_are_erased(store: DocsStore) -> None:
    """The plan reads the grandchild, but not the child: it has read that stage before."""
    store.write_many([draft(), essay()])
    judged = Document(stage="evaluation", doc_id="v1", task_id="v-1", parent_doc_id="e1", raw_text="7")
    store.write(judged)
    late = Document(stage="evaluation", doc_id="v2", task_id="v-2", parent_doc_id="e2", raw_text="7")
    written: list[object] = []

    def progress(stage: str) -> None:
        if stage == "essay" and not written:
            written.extend(store.write_many([essay("e2", "e-2"), late]))

    # A listing may or may not have a document that is written meanwhile.
    ids = list(store.ids("essay"))
    original = store.backend.ids
    store.backend.ids = lambda stage: iter(ids) if stage == "essay" and not written else original(stage)  # type: ignore[method-assign]
    erasure = store.erase("draft", "a1", descendants=True, progress=progress)
    assert len(written) == 2
    assert {trace.document for trace in erasure.traces} >= {"draft/a1", "essay/e1", "evaluation/v1"}
    assert list_names(store) == []


def test_erasure_reads_each_record_once_and_deletes_in_parallel(
    store: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(draft())
    store.write_many([essay(f"e{number}", f"e-{number}") for number in range(20)])
    loads: list[str] = []
    original = type(store.backend).load

    def load(self: Any, stage: str, doc_id: str, *rest: Any) -> Any:
        loads.append(f"{stage}/{doc_id}")
        return original(self, stage, doc_id, *rest)

    monkeypatch.setattr(type(store.backend), "load", load)
    seen: list[str] = []
    store.write(draft("b2", "t-2"))
    loads.clear()
    store.erase("draft", "b2", progress=seen.append)
    others = [name for name in loads if name != "draft/b2"]
    assert sorted(others) == sorted(set(others))
    assert len(seen) <= 23
    assert len(store.erase("draft", "a1", descendants=True).traces) == 21
    assert list_names(store) == []


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
def test_erase_deletes_a_link_and_not_its_target(local: DocsStore, tmp_path: Path) -> None:
    local.write(draft(raw_text=SECRET))
    record = local.path("draft", "a1") / "metadata.json"
    target = tmp_path / "kept.json"
    record.rename(target)
    record.symlink_to(target)
    local.erase("draft", "a1")
    assert target.exists()
    assert find_secret(local) == []


def test_restore_of_a_damaged_object_is_refused() -> None:
    store = DocsStore(ObjectsBackend("memory://"))
    assert isinstance(store.backend, ObjectsBackend)
    run = entry_name(())
    store.backend._bucket.put(f".docid/quarantine/{run}/draft/a1.json", b'{"broken', "create")
    for written in (False, True):
        if written:
            store.write(draft(raw_text="made again"))
        [change] = store.restore(run)
        assert (change.outcome, change.done) == ("leave", False)
        assert "its record in quarantine cannot be used" in change.message

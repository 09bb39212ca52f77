"""Removals, restores and erasures beside other operations, each at one forced moment, on every backend."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from docid import (
    DocsStore,
    Document,
    DocumentClaimed,
    HasChildren,
    MissingParent,
    StoreUnavailable,
    WriteManyError,
)
from docid.backends import Claim, LocalBackend, Removed, TracePath
from docid.backends.objects import ObjectsBackend
from docid.core.findings import Finding
from docid.repair import repair
from docid.store.backends.local.commit import Place
from docid.store.backends.local.directory import Directory
from docid.store.backends.local.quarantine import LocalQuarantine, measure
from docid.store.backends.names import entry_name
from docid.store.backends.objects.bucket import Bucket
from docid.store.backends.objects.format import make_tombstone
from docid.store.removal import Removal, Remover
from tests.store_documents import draft, essay
from tests.test_removal import SECRET, fill, find_secret, list_names, list_outcomes, read_all, refuse


def after_first_removal(store: DocsStore, monkeypatch: pytest.MonkeyPatch, step: Callable[[], object]) -> None:
    """Do a step after the next document has been removed."""
    original = store.backend.remove

    def remove(*arguments: Any) -> str | None:
        to = original(*arguments)
        monkeypatch.setattr(store.backend, "remove", original)
        step()
        return to

    monkeypatch.setattr(store.backend, "remove", remove)


@pytest.mark.parametrize("descendants", [False, True])
def test_child_that_is_written_again_during_the_removal(
    store: DocsStore, descendants: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_many([draft(), essay()])
    after_first_removal(store, monkeypatch, lambda: store.write(essay(raw_text="again")))
    removal = store.remove_many(["draft/a1", "essay/e1"], descendants=descendants)
    if not descendants:
        assert dict(list_outcomes(removal.changes)) == {"essay/e1": "remove", "draft/a1": "leave"}
        assert list_names(store) == ["draft/a1", "essay/e1"]
        assert store.read("essay", "e1").raw_text == "again"
        return
    assert list_names(store) == []
    assert len(removal.entries) == 2
    assert [change.outcome for change in store.restore(removal.entries[1])] == ["leave"]  # its parent comes first
    store.restore(removal.entries[0], ["draft/a1"])
    store.restore(removal.entries[1])
    assert store.read("essay", "e1").raw_text == "again"


def test_parents_of_a_late_child_are_put_back(store: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child of an essay appears when the first document has just gone: the essay and its draft stay."""
    store.write_many([draft(), essay(), essay("e2", "e-2")])
    late = Document(stage="evaluation", doc_id="v1", task_id="v-1", parent_doc_id="e1", raw_text="7")
    after_first_removal(store, monkeypatch, lambda: store.write(late, require_parent=False))
    removal = store.remove_many(["draft/a1", "essay/e1", "essay/e2"])
    assert dict(list_outcomes(removal.changes)) == {"essay/e2": "remove", "essay/e1": "leave", "draft/a1": "leave"}
    assert list_names(store) == ["draft/a1", "essay/e1", "evaluation/v1"]


def test_all_documents_that_a_late_one_was_made_from_are_put_back(
    store: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_many([draft(), draft("b2", "t-2"), essay(), essay("e2", "e-2"), essay("e3", "e-3")])
    names = {"stage": "evaluation", "doc_id": "v1", "task_id": "v-1", "parent_doc_id": "e1", "raw_text": "7"}
    late = Document(**names, inputs=("essay/e2", "draft/b2"))  # type: ignore[arg-type]
    original = store.backend.remove

    def remove(stage: str, doc_id: str, expected: bytes, run: str) -> str | None:
        to = original(stage, doc_id, expected, run)
        if doc_id == "a1":  # the last one
            store.write(late, require_parent=False)
        return to

    monkeypatch.setattr(store.backend, "remove", remove)
    removal = store.remove_many(["draft/a1", "essay/e1", "essay/e2", "essay/e3"])
    outcomes = dict(list_outcomes(removal.changes))
    assert outcomes == {"essay/e3": "remove", "essay/e1": "leave", "essay/e2": "leave", "draft/a1": "leave"}
    assert list_names(store) == ["draft/a1", "draft/b2", "essay/e1", "essay/e2", "evaluation/v1"]


def test_document_that_another_removal_takes_is_absent(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write_many([draft(), draft("b2", "t-2")])
    after_first_removal(
        local, monkeypatch, lambda: local.remove_many([f"draft/{doc_id}" for doc_id in local.ids("draft")])
    )
    removal = local.remove_many(["draft/a1", "draft/b2"])
    assert sorted(outcome for _, outcome in list_outcomes(removal.changes)) == ["absent", "remove"]


def test_create_that_is_faster_than_a_restore_keeps_the_id(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft())
    run = local.remove("draft", "a1").entry
    original = Place.remove_junk

    def remove_junk(self: Place) -> bool:
        monkeypatch.setattr(Place, "remove_junk", original)
        local.write(draft(raw_text="faster"))
        return original(self)

    monkeypatch.setattr(Place, "remove_junk", remove_junk)
    assert not local.backend.restore(Removed(run, "draft", "a1"))
    assert local.read("draft", "a1").raw_text == "faster"


def test_restore_passes_errors_of_the_file_system(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft())
    run = local.remove("draft", "a1").entry
    monkeypatch.setattr(Directory, "move", refuse)
    [change] = local.restore(run)
    assert (change.outcome, change.message.startswith("[Errno 30] Read-only file system")) == ("leave", True)


def test_odd_files_in_quarantine_are_ignored(local: DocsStore) -> None:
    local.write(draft())
    run = local.remove("draft", "a1").entry
    (Path(local.root) / ".docid" / "quarantine" / run / "draft" / "Notes.TXT").write_text("by hand")
    assert [removed.doc_id for removed in local.list_removed()] == ["a1"]
    assert isinstance(local.backend, LocalBackend)
    assert not local.backend.quarantine._is_dead("draft", ".tmp-a1-0123456789abcdef")  # it has just gone
    assert measure("/no/such/file") == 0


def test_parent_that_cannot_be_put_back_is_reported(store: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(draft())
    after_first_removal(store, monkeypatch, lambda: store.write(essay(), require_parent=False))
    monkeypatch.setattr(store.backend, "restore", refuse)
    removal = store.remove_many(["draft/a1"])
    [change] = removal.changes
    assert (change.outcome, change.done, change.message) == ("leave", False, "[Errno 30] Read-only file system")
    assert [removed.entry for removed in store.list_removed()] == list(removal.entries)


def test_withdrawn_child_takes_its_own_children_along(store: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer has used the child in the moment in which it was in the store."""
    store.write(draft())
    original = store.backend.create
    judged = Document(stage="evaluation", doc_id="v1", task_id="v-1", parent_doc_id="e1", raw_text="7")

    def create(*arguments: Any) -> bool:
        monkeypatch.setattr(store.backend, "create", original)
        store.remove("draft", "a1")
        created = original(*arguments)
        assert store.write(judged).outcome == "created"
        return created

    monkeypatch.setattr(store.backend, "create", create)
    with pytest.raises(MissingParent):
        store.write(essay())
    assert list_names(store) == []
    assert sorted(removed.doc_id for removed in store.list_removed()) == ["a1", "e1", "v1"]


def test_parent_that_goes_during_a_restore(store: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_many([draft(), essay()])
    run = store.remove("essay", "e1").entry
    original = store.backend.restore

    def restore(*arguments: Any) -> bool:
        store.remove("draft", "a1")
        return original(*arguments)

    monkeypatch.setattr(store.backend, "restore", restore)
    [change] = store.restore(run)
    [again] = [each for each in store.list_removed() if each.doc_id == "e1"]
    lost = "its parent draft/a1 is not in the store; restore that first"
    assert change.message == f"{lost}, then the removal {again.entry}, in which this document is now"
    assert list_names(store) == []
    assert sorted(removed.doc_id for removed in store.list_removed()) == ["a1", "e1"]


def test_restored_child_that_cannot_be_withdrawn(store: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit reports it as a document without a parent."""
    store.write_many([draft(), essay()])
    entry = store.remove("essay", "e1").entry
    original = store.backend.restore

    def restore(*arguments: Any) -> bool:
        store.remove("draft", "a1")
        monkeypatch.setattr(store.backend, "remove", refuse)
        return original(*arguments)

    monkeypatch.setattr(store.backend, "restore", restore)
    [change] = store.restore(entry)
    assert change.message == "its parent draft/a1 is not in the store; restore that first"
    assert list_names(store) == ["essay/e1"]


def test_restore_beside_another_one(store: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(draft())
    run = store.remove("draft", "a1").entry
    monkeypatch.setattr(store.backend, "restore", lambda _: False)
    [change] = store.restore(run)
    assert change.message == "another process moves it, or other files have its place; run 'docid repair', or try again"


def test_error_of_a_restore_is_in_its_change(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(local)
    run = local.remove("evaluation", "v1").entry
    monkeypatch.setattr(local.backend, "restore", refuse)
    [change] = local.restore(run)
    assert (change.outcome, str(change.error)) == ("leave", "[Errno 30] Read-only file system")
    # Of a history without its document, too.
    quarantine = Path(local.root) / ".docid" / "quarantine" / run
    (quarantine / "evaluation" / "v1").rename(local.path("evaluation", "v1"))
    (quarantine / ".docid" / "history" / "evaluation" / "v1").mkdir(parents=True)
    [change] = local.restore(run)
    assert (change.outcome, change.message) == ("leave", "[Errno 30] Read-only file system")


def test_error_of_a_partial_removal_names_the_way_back(store: DocsStore) -> None:
    store.write_many([draft(), essay()])
    claim = store.backend.take_claim("draft", "a1")
    assert isinstance(claim, Claim)
    with pytest.raises(DocumentClaimed) as caught:
        store.remove("draft", "a1", descendants=True)
    [removed] = store.list_removed()
    assert caught.value.__notes__ == [f"docid has moved 1 document; restore('{removed.entry}') moves it back"]
    claim.release()


def test_service_that_fails_ends_a_removal(store: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(draft())

    def fail(*_: object) -> None:
        raise StoreUnavailable("write", "s3://bucket/docs", "no answer", "try again", refused=False)

    monkeypatch.setattr(store.backend, "remove", fail)
    with pytest.raises(StoreUnavailable):
        store.remove_many(["draft/a1"])


def test_busy_document_is_left(store: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(draft())
    monkeypatch.setattr(store.backend, "remove", lambda *_: None)
    [change] = store.remove_many(["draft/a1"]).changes
    assert (change.outcome, type(change.error).__name__) == ("leave", "DocumentBusy")


def test_history_comes_back_if_the_document_cannot_be_moved(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(local)
    original = LocalQuarantine.put

    def put(self: LocalQuarantine, path: str, run: str) -> str:
        if path in {"essay/e1", "draft/a1"}:
            raise OSError(30, "Read-only file system")
        return original(self, path, run)

    before = read_all(local)
    monkeypatch.setattr(LocalQuarantine, "put", put)
    removal = local.remove_many(["essay/e1", "essay/e2", "evaluation/v1"])
    assert dict(list_outcomes(removal.changes))["essay/e1"] == "leave"
    local.restore(removal.entry)
    assert read_all(local) == before
    removal = local.remove_many(["evaluation/v1", "essay/e2"])
    local.backend.remove("essay", "e1", b"", "")
    monkeypatch.undo()
    local.restore(removal.entry)
    assert read_all(local) == before


def test_history_of_a_draft_comes_back(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft())
    local.write(draft(raw_text="twice"), if_exists="replace")
    original = LocalQuarantine.put

    def put(self: LocalQuarantine, path: str, run: str) -> str:
        if path == "draft/a1":
            raise OSError(30, "Read-only file system")
        return original(self, path, run)

    before = read_all(local)
    monkeypatch.setattr(LocalQuarantine, "put", put)
    [change] = local.remove_many(["draft/a1"]).changes
    assert change.outcome == "leave"
    assert read_all(local) == before


@pytest.mark.parametrize("descendants", [False, True])
def test_late_child_is_erased_too_or_stops_the_erasure(
    store: DocsStore, descendants: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child appears between the plan of an erasure and the removal."""
    store.write(draft(raw_text=SECRET))
    original = Remover.plan

    def plan(self: Remover, names: Iterable[str]) -> Removal:
        monkeypatch.setattr(Remover, "plan", original)
        planned = original(self, names)
        store.write(essay(prompt_text=f"Continue: {SECRET}"))
        return planned

    monkeypatch.setattr(Remover, "plan", plan)
    if not descendants:
        with pytest.raises(HasChildren, match="essay/e1"):
            store.erase("draft", "a1")
        assert list_names(store) == ["draft/a1", "essay/e1"]
        return
    erasure = store.erase("draft", "a1", descendants=True)
    assert {trace.document for trace in erasure.traces if trace.done} == {"draft/a1", "essay/e1"}
    assert find_secret(store) == []


def test_document_that_is_restored_during_an_erasure_is_erased(
    store: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(draft(raw_text=SECRET))
    original = store.backend.erase_trace

    def erase(trace: TracePath) -> None:
        monkeypatch.setattr(store.backend, "erase_trace", original)
        [removed] = store.list_removed()
        assert store.backend.restore(removed)
        original(trace)

    monkeypatch.setattr(store.backend, "erase_trace", erase)
    assert store.erase("draft", "a1").traces
    assert find_secret(store) == []
    assert list_names(store) == []


def test_restore_of_an_object_beside_an_erasure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The erasure deletes the copy in quarantine when the restore has read it."""
    store = DocsStore(ObjectsBackend("memory://"))
    store.write(draft(raw_text=f"{SECRET} 1"))
    store.write(draft(raw_text=f"{SECRET} 2"), if_exists="replace")
    store.remove("draft", "a1")
    [removed] = store.list_removed()
    original = Bucket.put

    def put(self: Bucket, key: str, data: bytes, mode: Any) -> None:
        if key == "draft/a1.json" and mode == "create":
            monkeypatch.setattr(Bucket, "put", original)
            store.erase("draft", "a1")
        original(self, key, data, mode)

    monkeypatch.setattr(Bucket, "put", put)
    assert not store.backend.restore(removed)
    assert find_secret(store) == []


def test_interrupted_erasure_is_completed_by_a_second_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(BaseException):
        pass

    for limit in range(80):
        store = DocsStore(tmp_path / f"docs-{limit}", durability="none")
        store.write(draft(raw_text=SECRET))
        for text in ("early", "late"):
            store.write(essay(raw_text=f"{text} {SECRET}"), if_exists="replace")
        judged = {"doc_id": "v1", "task_id": "v-1", "parent_doc_id": "e1", "raw_text": f"7 {SECRET}"}
        store.write(Document(stage="evaluation", **judged))  # type: ignore[arg-type]
        left = limit

        def stop(original: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Interrupted
            return original(*arguments, **options)

        with monkeypatch.context() as patch:
            for name in ("unlink", "rmdir", "rename"):
                patch.setattr(os, name, partial(stop, getattr(os, name)))
            try:
                store.erase("draft", "a1", descendants=True)
            except Interrupted:
                is_complete = False
            else:
                is_complete = True
        store.erase("draft", "a1", descendants=True)
        assert find_secret(store) == [], limit
        if is_complete:
            assert limit > 20
            return
    raise AssertionError("an erasure took more than 80 calls")


def test_erase_refuses_an_unrelated_document_with_the_id_of_a_removed_child(store: DocsStore) -> None:
    store.write_many([draft(), draft("b2", "t-2"), essay()])
    store.remove("essay", "e1")
    store.write(essay(parent="b2"))
    with pytest.raises(ValueError, match="essay/e1: quarantine has a version of it that was made from the document"):
        store.erase("draft", "a1", descendants=True)
    store.erase("essay", "e1")
    assert store.erase("draft", "a1").traces
    assert list_names(store) == ["draft/b2"]


def test_erase_reports_damaged_records_in_quarantine(local: DocsStore) -> None:
    local.write_many([draft(), draft("b2", "t-2")])
    run = local.remove("draft", "b2").entry
    (Path(local.root) / ".docid" / "quarantine" / run / "draft" / "b2" / "metadata.json").write_text("{torn")
    assert [finding.doc_id for finding in local.erase("draft", "a1").findings] == ["b2"]


def test_write_whose_parent_cannot_be_checked_again_succeeds(store: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(draft())
    monkeypatch.setattr(store.backend, "still_exists", refuse)
    assert store.write(essay()).outcome == "created"


def test_objects_that_another_process_changes_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    store = DocsStore(ObjectsBackend("memory://"))
    backend = store.backend
    assert isinstance(backend, ObjectsBackend)
    store.write(draft())
    store.write(draft(raw_text="twice"), if_exists="replace")
    backend.quarantine._withdraw("draft/a1.json", b"other bytes")
    assert store.read("draft", "a1").raw_text == "twice"
    sweeper, bucket = backend.sweeper(), backend._bucket
    fault = Finding("torn-document", "draft", "a1", None, store.location("draft", "a1"), "", "", "quarantine")
    assert sweeper.clear(fault, entry_name(()), 3600) is None  # it is young
    # A change that failed deletes its copy in history at this moment.
    original = Bucket.read
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "read", lambda self, key: None if "history" in key else original(self, key))
        run = store.remove("draft", "a1").entry
    store.restore(run)
    assert [version.raw_text for version in store.history("draft", "a1")] == ["once"]
    bucket.put("draft/b2.json", make_tombstone(), "create")
    dead = fault._replace(doc_id="b2", code="stale-temporary", action="settle")
    assert sweeper.clear(dead, entry_name(()), 0) is None  # it is young
    monkeypatch.setattr("docid.store.backends.objects.quarantine.DEAD_AFTER", -60.0)
    monkeypatch.setattr(Bucket, "swap", lambda *_: (False, None))  # another repair is faster
    assert sweeper.clear(dead, entry_name(()), -60) is None


def test_document_that_is_made_again_with_a_child_stays_removed(
    store: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The late child was made from the new version: nothing is put back."""
    store.write(draft())

    def make_again() -> None:
        store.write(draft(raw_text="again"))
        store.write(essay())

    after_first_removal(store, monkeypatch, make_again)
    removal = store.remove("draft", "a1")
    assert list_outcomes(removal.changes) == [("draft/a1", "remove")]
    assert [(each.entry, each.doc_id) for each in store.list_removed()] == [(removal.entry, "a1")]
    assert store.read("draft", "a1").raw_text == "again"
    assert list_names(store) == ["draft/a1", "essay/e1"]


@pytest.mark.parametrize("has_cycle", [False, True])
@pytest.mark.parametrize("erases", [False, True])
def test_claimed_document_stays_also_below_a_cycle(store: DocsStore, has_cycle: bool, erases: bool) -> None:
    inputs = {"a1": ("draft/b2",), "b2": ("draft/a1",)} if has_cycle else {"a1": (), "b2": ("draft/a1",)}
    for doc_id, names in inputs.items():
        document = Document(stage="draft", doc_id=doc_id, task_id=doc_id, raw_text="x", inputs=names)
        store.write(document, require_parent=False)
    store.write(essay())
    claim = store.backend.take_claim("essay", "e1")
    assert isinstance(claim, Claim)
    with pytest.raises((DocumentClaimed, HasChildren)):
        (store.erase if erases else store.remove)("draft", "a1", descendants=True)
    claim.release()
    # Everything that the claimed document was made from stays, too.
    assert set(list_names(store)) >= {"draft/a1", "essay/e1", *(["draft/b2"] if has_cycle else [])}
    (store.erase if erases else store.remove)("draft", "a1", descendants=True)
    assert list_names(store) == []


def test_member_of_a_cycle_that_is_claimed_puts_the_others_back(store: DocsStore) -> None:
    for doc_id, other in (("a1", "b2"), ("b2", "a1")):
        document = Document(stage="draft", doc_id=doc_id, task_id=doc_id, raw_text="x", inputs=(f"draft/{other}",))
        store.write(document, require_parent=False)
    claim = store.backend.take_claim("draft", "b2")
    assert isinstance(claim, Claim)
    removal = store.remove_many(["draft/a1", "draft/b2"])
    claim.release()
    assert dict(list_outcomes(removal.changes)) == {"draft/a1": "leave", "draft/b2": "leave"}
    messages = {change.doc_id: change.message for change in removal.changes}
    assert messages["a1"].endswith("was not removed: 1 document that was made from it stays: draft/b2")
    assert list_names(store) == ["draft/a1", "draft/b2"]


def test_document_that_gets_another_parent_during_the_plan_is_found(store: DocsStore) -> None:
    store.write_many([draft(), draft("b2", "t-2")])
    store.write(essay(parent="b2"))
    store.write(essay("e2", "e-2", parent="b2"))
    store.write(Document(stage="evaluation", doc_id="v1", task_id="v-1", parent_doc_id="e2", raw_text="7"))
    done: list[object] = []

    def progress(stage: str) -> None:
        if stage == "evaluation" and not done:  # the essays have been read
            done.append(store.remove("essay", "e1"))
            store.write(essay(raw_text="from a1"))

    removal = store.remove_many(["draft/a1"], progress=progress)
    assert list_outcomes(removal.changes) == [("draft/a1", "leave")]
    assert "draft/a1" in list_names(store)


@pytest.mark.parametrize("is_made_again", [False, True])
def test_document_that_goes_during_the_plan_is_no_descendant(store: DocsStore, is_made_again: bool) -> None:
    store.write_many([draft(), essay()])
    store.write(draft("b2", "t-2", inputs=("essay/e1",)))
    done: list[object] = []

    def progress(stage: str) -> None:
        if stage == "essay" and not done:  # the drafts have been read, and b2 waits for its input
            done.append(store.remove("draft", "b2"))
            if is_made_again:
                store.write(draft("b2", "t-2"))

    planned = store.remove_many(["draft/a1"], descendants=True, dry_run=True, progress=progress)
    assert list_outcomes(planned.changes) == [("essay/e1", "remove"), ("draft/a1", "remove")]


def test_children_of_a_removed_parent_are_withdrawn_together(store: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(draft())
    store.write_many([draft(f"d{number}", f"d-{number}") for number in range(30)])
    original = store.backend.create_many

    def create_many(documents: Any) -> Any:
        if documents:
            monkeypatch.setattr(store.backend, "create_many", original)
            store.remove("draft", "a1")
        return original(documents)

    monkeypatch.setattr(store.backend, "create_many", create_many)
    loads: list[str] = []
    load = type(store.backend).load

    def count(self: Any, *names: Any) -> Any:
        loads.append(str(names))
        return load(self, *names)

    monkeypatch.setattr(type(store.backend), "load", count)
    with pytest.raises(WriteManyError) as caught:
        store.write_many([essay(f"e{number}", f"e-{number}") for number in range(20)])
    assert {type(error) for error in caught.value.failures.values()} == {MissingParent}
    assert len(caught.value.failures) == 20
    assert len({removed.entry for removed in store.list_removed() if removed.stage == "essay"}) == 1
    assert len(loads) < 200  # one pass over the store, not one for each child
    assert not list(store.ids("essay"))


def test_restore_that_was_killed_before_the_history_is_finished_by_a_second_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = DocsStore(ObjectsBackend("memory://", in_flight=1))
    assert isinstance(store.backend, ObjectsBackend)
    bucket = store.backend._bucket
    store.write(draft(raw_text="one"))
    store.write(draft(raw_text="two"), if_exists="replace")
    run = store.remove("draft", "a1").entry
    original = bucket.put

    def put(key: str, data: bytes, mode: Any) -> None:
        original(key, data, mode)
        if key == "draft/a1.json":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bucket, "put", put)
        with pytest.raises(KeyboardInterrupt):
            store.restore(run)
    assert list(store.history("draft", "a1")) == []
    [change] = store.restore(run)  # the process of the first one may be alive
    assert (change.outcome, change.message.split(";")[0]) == ("leave", "the store has a document with this id again")
    monkeypatch.setattr("docid.store.backends.objects.quarantine.DEAD_AFTER", -60.0)  # the clock of the service
    [change] = store.restore(run)
    assert (change.outcome, change.done) == ("restore", True)
    assert [version.raw_text for version in store.history("draft", "a1")] == ["one"]
    assert list(store.list_removed()) == []


def test_repair_clears_the_history_of_a_removal_that_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    store = DocsStore(ObjectsBackend("memory://", in_flight=1))
    assert isinstance(store.backend, ObjectsBackend)
    store.write(draft(raw_text="one"))
    store.write(draft(raw_text="two"), if_exists="replace")
    with monkeypatch.context() as patch:
        patch.setattr(store.backend._bucket, "delete", refuse)
        with pytest.raises(OSError, match="Read-only"):
            store.remove("draft", "a1")
    monkeypatch.setattr("docid.store.backends.objects.quarantine.DEAD_AFTER", -60.0)
    [step] = repair(store, apply=True, stale_after=-60)
    assert step.done
    store.write(draft(raw_text="another"))
    assert list(store.history("draft", "a1")) == []
    store.remove("draft", "a1")
    run = min(removed.entry for removed in store.list_removed())
    store.restore(run)
    assert [version.raw_text for version in store.history("draft", "a1")] == ["one"]


def test_failed_removal_leaves_no_empty_directory(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft())
    monkeypatch.setattr(Directory, "move", refuse)
    [change] = local.remove_many(["draft/a1"]).changes
    assert change.outcome == "leave"
    quarantine = Path(local.root) / ".docid" / "quarantine"
    assert not quarantine.exists() or list(quarantine.iterdir()) == []

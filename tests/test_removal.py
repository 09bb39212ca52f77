"""Removal, restoration and erasure of documents, on every backend. `test_removal_schedules.py` tests races."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from docid import (
    DEFAULT_STAGES,
    DocsStore,
    Document,
    DocumentClaimed,
    DocumentNotFound,
    DraftTask,
    EssayTask,
    HasChildren,
    InvalidName,
    MissingParent,
    Reply,
    ReplyRescued,
    Stages,
    StagesConflict,
    UnreadableDocument,
    UnreadableManifest,
    audit,
)
from docid.backends import Claim, LocalBackend
from docid.backends.objects import ObjectsBackend
from docid.repair import repair
from docid.store.backends.names import entry_name
from tests.servers import Moto
from tests.store_documents import damage, draft, essay

NAMES = ("draft/a1", "essay/e1", "essay/e2", "evaluation/v1")


def fill(store: DocsStore) -> None:
    """Write a draft with two versions, two essays, and an evaluation of one of them."""
    store.write(draft(raw_text="first version", prompt_text="sent"))
    store.write(draft(raw_text="second version", prompt_text="sent"), if_exists="replace")
    store.write_many([essay("e1"), essay("e2", "e-2")])
    store.write(Document(stage="evaluation", doc_id="v1", task_id="v-1", parent_doc_id="e1", raw_text="7"))


def list_names(store: DocsStore) -> list[str]:
    return sorted(f"{stage}/{doc_id}" for stage in store.stages for doc_id in store.ids(stage))


def read_all(store: DocsStore) -> dict[str, object]:
    """Return every record and text in a store, of earlier versions, too."""
    found: dict[str, object] = {}
    for name in list_names(store):
        stage, doc_id = name.split("/")
        found[name] = store.backend.load(stage, doc_id, ("raw.txt", "parsed.txt", "prompt.txt"))
        found[f"{name} history"] = list(store.backend.history(stage, doc_id, ("raw.txt", "prompt.txt")))
    return found


def list_outcomes(changes: object) -> list[tuple[str, str]]:
    return [(f"{change.stage}/{change.doc_id}", change.outcome) for change in changes]  # type: ignore[attr-defined]


def test_document_with_children_is_not_removed(store: DocsStore) -> None:
    fill(store)
    before = read_all(store)
    with pytest.raises(HasChildren, match=r"draft/a1 .* 2 documents were made from it: essay/e1, essay/e2") as caught:
        store.remove("draft", "a1")
    assert caught.value.children == ("essay/e1", "essay/e2")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert read_all(store) == before
    assert list(store.list_removed()) == []


def test_removal_with_descendants_is_undone_byte_for_byte(store: DocsStore) -> None:
    fill(store)
    before = read_all(store)
    removal = store.remove("draft", "a1", descendants=True)
    order = [name for name, _ in list_outcomes(removal.changes)]
    assert sorted(order) == sorted(NAMES)
    assert order.index("evaluation/v1") < order.index("essay/e1") < order.index("draft/a1")
    assert all(change.done and change.message for change in removal.changes)
    assert read_all(store) == {}
    assert audit(store).findings == ()
    planned = store.restore(removal.entry, dry_run=True)
    assert {outcome for _, outcome in list_outcomes(planned)} == {"restore"}
    assert not any(change.done for change in planned)
    assert read_all(store) == {}
    restored = store.restore(removal.entry)
    assert list_outcomes(restored)[0] == ("draft/a1", "restore")
    assert read_all(store) == before
    assert list(store.list_removed()) == []
    assert audit(store).findings == ()


def test_removal_of_one_document_leaves_the_others(store: DocsStore) -> None:
    fill(store)
    removal = store.remove("essay", "e2")
    assert list_outcomes(removal.changes) == [("essay/e2", "remove")]
    assert list_names(store) == ["draft/a1", "essay/e1", "evaluation/v1"]
    with pytest.raises(DocumentNotFound, match="essay/e2"):
        store.remove("essay", "e2")
    assert (
        store.ensure(EssayTask(task_id="e-2", doc_id="e2", parent_doc_id="a1"), lambda _: "again").outcome == "created"
    )
    [change] = store.restore(removal.entry)
    assert (change.outcome, change.done) == ("leave", False)
    assert change.message == "the store has a document with this id again; remove that one first"
    store.remove("essay", "e2")
    assert [each.outcome for each in store.restore(removal.entry)] == ["restore"]
    assert store.read("essay", "e2").raw_text == "x"


def test_inputs_count_as_children(store: DocsStore) -> None:
    store.write_many([draft(), draft("b2", "t-2")])
    store.write(Document(stage="draft", doc_id="c3", task_id="t-3", raw_text="merged", inputs=("draft/b2",)))
    store.write(Document(stage="essay", doc_id="e1", task_id="e-1", parent_doc_id="c3", raw_text="x"))
    with pytest.raises(HasChildren, match="draft/c3"):
        store.remove("draft", "b2")
    assert len(store.remove("draft", "b2", descendants=True).changes) == 3
    assert list_names(store) == ["draft/a1"]


def test_many_documents_are_removed_with_one_pass(store: DocsStore) -> None:
    fill(store)
    names = ["evaluation/v1", "essay/e1", "draft/a1", "essay/e9"]
    planned = store.remove_many(names, dry_run=True)
    assert planned.entry == ""
    assert list_outcomes(planned.changes) == [
        ("evaluation/v1", "remove"),
        ("essay/e1", "remove"),
        ("essay/e9", "absent"),
        ("draft/a1", "leave"),
    ]
    assert isinstance(planned.changes[-1].error, HasChildren)
    assert sorted(list_names(store)) == sorted(NAMES)
    done = store.remove_many(names)
    assert sorted(list_outcomes(done.changes)) == sorted(list_outcomes(planned.changes))
    assert list_names(store) == ["draft/a1", "essay/e2"]
    assert store.remove_many([]).changes == ()


def test_progress_counts_the_records_that_are_read(store: DocsStore) -> None:
    fill(store)
    read: list[str] = []
    store.remove_many(["essay/e2"], dry_run=True, progress=read.append)
    assert sorted(read) == ["draft", "essay", "essay", "evaluation"]
    read.clear()
    store.erase("essay", "e2", dry_run=True, progress=read.append)
    assert sorted(read) == ["draft", "essay", "essay", "evaluation"]


def test_records_are_read_at_most_twice(store: DocsStore) -> None:
    """Each draft has the essay of the one before it as input, so the inputs lead back to the first stage."""
    documents = [draft("d0", "t-0")]
    for number in range(5):
        documents.append(essay(f"e{number}", f"e-{number}", parent=f"d{number}"))
        documents.append(draft(f"d{number + 1}", f"t-{number + 1}", inputs=(f"essay/e{number}",)))
    for document in reversed(documents):
        store.write(document, require_parent=False)
    read: list[str] = []
    planned = store.remove_many(["draft/d0"], descendants=True, dry_run=True, progress=read.append)
    assert len(planned.changes) == len(documents)
    assert len(read) <= 2 * len(documents)


def test_parent_stays_if_its_parent_stays(store: DocsStore) -> None:
    """An essay stays because of its evaluation, and so its draft stays, too."""
    fill(store)
    removal = store.remove_many(["draft/a1", "essay/e1", "essay/e2"])
    outcomes = dict(list_outcomes(removal.changes))
    assert outcomes == {"essay/e2": "remove", "essay/e1": "leave", "draft/a1": "leave"}
    assert list_names(store) == ["draft/a1", "essay/e1", "evaluation/v1"]


def test_claimed_document_and_its_ancestors_stay(store: DocsStore) -> None:
    fill(store)
    claim = store.backend.take_claim("essay", "e1")
    assert isinstance(claim, Claim)
    with pytest.raises(
        DocumentClaimed, match=r"essay/e1 .* was not removed: .* remove it when that worker has finished"
    ):
        store.remove("draft", "a1", descendants=True)
    assert list_names(store) == ["draft/a1", "essay/e1"]
    claim.release()
    assert [each.outcome for each in store.remove("draft", "a1", descendants=True).changes] == ["remove", "remove"]
    runs = sorted({removed.entry for removed in store.list_removed()})
    assert {change.message for change in store.restore(runs[0])} == {
        "its parent draft/a1 is not in the store; restore that first",
        "its parent essay/e1 is not in the store; restore that first",
    }
    assert {change.outcome for run in reversed(runs) for change in store.restore(run)} == {"restore"}
    assert sorted(list_names(store)) == sorted(NAMES)


def test_child_of_a_parent_that_is_removed_during_its_call_is_rescued(store: DocsStore) -> None:
    store.write(draft())
    row = EssayTask(task_id="e-1", doc_id="e1", parent_doc_id="a1")
    runs = []

    def make(_: EssayTask) -> str:
        runs.append(store.remove("draft", "a1").entry)
        return "paid"

    with pytest.raises(MissingParent):
        store.ensure(row, make)
    store.restore(runs[0])
    with pytest.raises(ReplyRescued):
        store.ensure(row, make)
    [rescued] = store.list_rescued()
    assert rescued.adopt().outcome == "created"
    assert store.read("essay", "e1").raw_text == "paid"


@pytest.mark.parametrize("many", [False, True])
def test_child_is_withdrawn_if_its_parent_goes_during_the_write(
    store: DocsStore, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent goes between the look for it and the write of the child."""
    store.write(draft())
    name = "create_many" if many else "create"
    original = getattr(store.backend, name)

    def remove_first(*arguments: object) -> object:
        if arguments == ([],):  # of the stage before
            return []
        monkeypatch.undo()
        store.remove("draft", "a1")
        return original(*arguments)

    monkeypatch.setattr(store.backend, name, remove_first)
    with pytest.raises(Exception, match="its parent draft/a1 is not in the store"):
        store.write_many([essay()]) if many else store.write(essay())
    assert list_names(store) == []
    assert sorted(removed.doc_id for removed in store.list_removed()) == ["a1", "e1"]


def test_document_without_parent_check_is_not_withdrawn(store: DocsStore) -> None:
    assert store.write(essay(), require_parent=False).outcome == "created"
    assert store.write_many([essay("e2", "e-2")], require_parent=False)[0].outcome == "created"
    assert len(store.remove_many(["essay/e1", "essay/e2"]).changes) == 2


def test_removal_follows_a_cycle_of_inputs(store: DocsStore) -> None:
    for doc_id, other in (("a1", "b2"), ("b2", "a1")):
        store.write(draft(doc_id, doc_id, inputs=(f"draft/{other}",)), require_parent=False)
    with pytest.raises(HasChildren, match="draft/b2"):
        store.remove("draft", "a1")
    removal = store.remove("draft", "a1", descendants=True)
    assert sorted(list_outcomes(removal.changes)) == [("draft/a1", "remove"), ("draft/b2", "remove")]
    assert sorted(list_outcomes(store.restore(removal.entry))) == [("draft/a1", "restore"), ("draft/b2", "restore")]


def test_document_without_parent_is_restored_on_request(store: DocsStore) -> None:
    store.write(essay(), require_parent=False)
    run = store.remove("essay", "e1").entry
    [change] = store.restore(run)
    assert change.message == "its parent draft/a1 is not in the store; restore that first"
    [change] = store.restore(run, require_parent=False)
    assert (change.outcome, change.done) == ("restore", True)


def test_stages_of_the_manifest_count(tmp_path: Path) -> None:
    fill(DocsStore(tmp_path / "docs"))
    other = DocsStore(tmp_path / "docs", stages=Stages({"draft": None, "essay": None}))
    with pytest.raises(StagesConflict):
        other.remove("draft", "a1")
    with pytest.raises(HasChildren, match="essay/e1"):
        DocsStore(tmp_path / "docs", stages=Stages.chain("draft")).remove("draft", "a1")
    (tmp_path / "docs" / ".docid" / "store.json").write_text("{torn")
    with pytest.raises(UnreadableManifest):
        DocsStore(tmp_path / "docs").remove("draft", "a1")
    with pytest.raises(HasChildren, match="essay/e1"):
        DocsStore(tmp_path / "docs", stages=DEFAULT_STAGES).remove("draft", "a1")


def test_wrong_names_are_refused(store: DocsStore) -> None:
    with pytest.raises(InvalidName):
        store.remove("poem", "a1")
    with pytest.raises(InvalidName):
        store.remove_many(["a1"])
    with pytest.raises(TypeError, match="names"):
        store.remove_many("draft/a1")
    with pytest.raises(ValueError, match="not in quarantine; 'docid restore' lists"):
        store.restore(entry_name(()))
    store.write(draft())
    run = store.remove("draft", "a1").entry
    with pytest.raises(ValueError, match="draft/b2: not in quarantine"):
        store.restore(run, ["draft/b2"])
    with pytest.raises(InvalidName):
        store.erase("draft", "../a1")


def test_chosen_documents_are_restored(store: DocsStore) -> None:
    fill(store)
    run = store.remove("draft", "a1", descendants=True).entry
    assert list_outcomes(store.restore(run, ["draft/a1", "essay/e2"])) == [
        ("draft/a1", "restore"),
        ("essay/e2", "restore"),
    ]
    assert list_names(store) == ["draft/a1", "essay/e2"]
    assert sorted(list_outcomes(store.restore(run))) == [("essay/e1", "restore"), ("evaluation/v1", "restore")]


def test_purge_deletes_removed_documents(tmp_path: Path) -> None:
    store = DocsStore(tmp_path / "docs")
    fill(store)
    run = store.remove("draft", "a1", descendants=True).entry
    steps = list(repair(store, purge=True, older_than=0, apply=True))
    assert [(step.action, run in step.path, step.done) for step in steps] == [("purge", True, True)]
    assert list(store.list_removed()) == []


def test_damaged_document_is_not_removed(store: DocsStore) -> None:
    store.write(draft())
    damage(store, "metadata.json", b"{torn") if not isinstance(store.backend, ObjectsBackend) else damage_object(store)
    with pytest.raises(UnreadableDocument):
        store.remove("draft", "a1")


def damage_object(store: DocsStore) -> None:
    assert isinstance(store.backend, ObjectsBackend)
    store.backend._bucket.put("draft/a1.json", b"{torn", "overwrite")


# Erasure

SECRET = "the text of a person"


def find_secret(store: DocsStore, secret: str = SECRET) -> list[str]:
    """Return every file or object of a store that contains a text."""
    wanted = secret.encode()
    if isinstance(store.backend, LocalBackend):
        files = [path for path in Path(store.root).rglob("*") if path.is_file()]
        return sorted(str(path) for path in files if wanted in path.read_bytes())
    if isinstance(store.backend, ObjectsBackend):
        bucket = store.backend._bucket
        keys = [key for key, _ in bucket.entries_below("")]
        return sorted(key for key in keys if wanted in (bucket.read(key) or b""))
    return [str(each) for each in store.backend.__dict__.items() if secret in str(each)]


def write_secret(store: DocsStore) -> None:
    """Store a secret as a document, in its history, in quarantine, and in a rescue file."""
    row = DraftTask(task_id="t-1", doc_id="a1")
    store.write(draft(raw_text=f"{SECRET} 1", prompt_text=SECRET, metadata={"name": SECRET}))
    store.remove("draft", "a1")
    store.write(draft(raw_text=f"{SECRET} 2"))
    store.write(draft(raw_text=f"{SECRET} 3"), if_exists="replace")

    def lose_race(_: DraftTask) -> Reply:
        store.write(draft(raw_text=f"{SECRET} 4"), if_exists="replace")
        return Reply(f"{SECRET} 5")

    assert store.ensure(row, lose_race, if_exists="replace").outcome == "kept"
    store.write(draft("b2", "t-2", raw_text="another document"))


def test_erase_leaves_no_trace_of_a_text(store: DocsStore) -> None:
    write_secret(store)
    assert find_secret(store)
    planned = store.erase("draft", "a1", dry_run=True)
    assert not any(trace.done for trace in planned.traces)
    assert store.read("draft", "a1").raw_text == f"{SECRET} 4"
    erasure = store.erase("draft", "a1")
    assert [trace.location for trace in erasure.traces] == [trace.location for trace in planned.traces]
    assert all(trace.done and trace.size and trace.document == "draft/a1" for trace in erasure.traces)
    kinds = [".docid/history", ".docid/quarantine", ".docid/rescued"]
    assert [any(kind in trace.location for trace in erasure.traces) for kind in kinds] == [True] * 3
    assert find_secret(store) == []
    assert list_names(store) == ["draft/b2"]
    assert store.read("draft", "b2").raw_text == "another document"
    assert store.erase("draft", "a1").traces == ()
    assert list(store.list_rescued()) == []
    assert list(store.list_removed()) == []


def test_erase_finds_a_rescue_file_in_the_directory_of_the_user(
    store: DocsStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCID_RESCUE_DIR", str(tmp_path / "own"))
    row = DraftTask(task_id="t-1", doc_id="a1")
    store._rescue.save(row, None, Reply(SECRET), {}, "a full disk", own=True)
    [trace] = store.erase("draft", "a1").traces
    assert trace.location.startswith(str(tmp_path / "own"))
    assert not any(SECRET in path.read_text() for path in (tmp_path / "own").rglob("*.json"))


def test_erase_refuses_children_unless_they_are_erased_too(store: DocsStore) -> None:
    store.write(draft(raw_text=SECRET))
    store.write(essay(raw_text="derived", prompt_text=f"Continue: {SECRET}"))
    with pytest.raises(HasChildren, match=r"draft/a1 .* was not erased: 1 document was made from it and may quote it"):
        store.erase("draft", "a1")
    erasure = store.erase("draft", "a1", descendants=True)
    assert [trace.document for trace in erasure.traces] == ["essay/e1", "draft/a1"]
    assert find_secret(store) == []


def test_erase_finds_descendants_in_quarantine(store: DocsStore) -> None:
    store.write(draft(raw_text=SECRET))
    store.write(essay(prompt_text=f"Continue: {SECRET}"))
    store.remove("essay", "e1")
    with pytest.raises(HasChildren, match="essay/e1"):
        store.erase("draft", "a1")
    store.erase("draft", "a1", descendants=True)
    assert find_secret(store) == []


def test_erase_waits_for_no_worker_and_deletes_nothing_then(store: DocsStore) -> None:
    fill(store)
    before = read_all(store)
    claim = store.backend.take_claim("draft", "a1")
    assert isinstance(claim, Claim)
    with pytest.raises(DocumentClaimed, match=r"draft/a1 .* was not erased: .* erase it when that worker has finished"):
        store.erase("draft", "a1", descendants=True)
    assert read_all(store) == before
    claim.release()
    assert store.erase("draft", "a1", descendants=True).traces
    assert read_all(store) == {}


def test_erase_deletes_a_damaged_document(store: DocsStore) -> None:
    if not isinstance(store.backend, LocalBackend | ObjectsBackend):
        pytest.skip("this backend has no repair")
    store.write(draft(raw_text=SECRET))
    if isinstance(store.backend, LocalBackend):
        damage(store, "metadata.json", b"{torn")
    else:
        store.backend._bucket.put("draft/a1.json", f"{{{SECRET}".encode(), "overwrite")
    assert store.erase("draft", "a1").traces
    assert find_secret(store) == []


def test_erase_deletes_files_of_dead_writers(tmp_path: Path) -> None:
    store = DocsStore(tmp_path / "docs", durability="none")
    path = store.write(draft(raw_text=SECRET)).path
    for name in (".tmp-a1-0123456789abcdef", ".tmp-a1-b-0123456789abcdef"):
        path.with_name(name).mkdir()
        path.with_name(name).joinpath("raw.txt").write_text(SECRET)
    rescued = tmp_path / "docs" / ".docid" / "rescued" / "draft"
    rescued.mkdir(parents=True)
    torn = rescued / f".tmp-a1-{entry_name(())}.json-0123456789abcdef"
    torn.write_text(SECRET)
    purged = tmp_path / "docs" / ".docid" / "quarantine" / f".tmp-{entry_name(())}-0123456789abcdef" / "draft" / "a1"
    purged.mkdir(parents=True)
    purged.joinpath("raw.txt").write_text(SECRET)
    path.rename(path.with_name(".old-a1"))  # of a replace that was killed
    assert len(store.erase("draft", "a1").traces) == 4
    lone = path.with_name(".new-a1")
    lone.mkdir()
    lone.joinpath("raw.txt").write_text(SECRET)
    assert len(store.erase("draft", "a1").traces) == 1
    assert find_secret(store) == [str(path.with_name(".tmp-a1-b-0123456789abcdef") / "raw.txt")]  # of the document a1-b


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root, to make files immutable")
def test_erase_reports_what_it_cannot_delete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DocsStore(tmp_path / "docs", durability="none")
    store.write(draft(raw_text=SECRET))
    monkeypatch.setattr(LocalBackend, "erase_trace", refuse)
    erasure = store.erase("draft", "a1")
    [trace] = erasure.traces
    assert (trace.done, str(trace.error)) == (False, "[Errno 30] Read-only file system")
    assert ".docid/quarantine" in trace.location


def refuse(*_: object) -> None:
    raise OSError(30, "Read-only file system")


def test_tombstone_of_a_killed_removal_counts_as_no_document(s3: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DocsStore(ObjectsBackend(s3.bucket(), options=s3.options(), in_flight=4))
    store.write(draft())
    backend = store.backend
    assert isinstance(backend, ObjectsBackend)
    with monkeypatch.context() as patch:
        patch.setattr(backend._bucket, "delete", refuse)
        with pytest.raises(OSError, match="Read-only"):
            store.remove("draft", "a1")
    assert not store.exists("draft", "a1")
    assert list(store.documents("draft")) == list(store.scan("draft")) == []
    monkeypatch.setattr("docid.store.backends.objects.backend._PAUSE", 0.0)
    with pytest.raises(Exception, match="other writers"):
        store.write(draft())
    assert not backend.replace("draft", "a1", b"", b"", {})
    assert backend.remove("draft", "a1", b"", entry_name(())) is None
    monkeypatch.setattr("docid.store.backends.objects.quarantine.DEAD_AFTER", -60.0)  # the clock of the service
    [step] = repair(store, apply=True, stale_after=-60)
    assert (step.finding and step.finding.code, step.done) == ("stale-temporary", True)
    [removed] = store.list_removed()
    assert [change.outcome for change in store.restore(removed.entry)] == ["restore"]
    assert store.read("draft", "a1").raw_text == "once"

"""What dead writers leave and what cannot be used: found, planned, cleared away; and nothing else."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from docid import DocsStore, Document, LineageConflict, Outcome, Stages, StoredDocument, UnreadableDocument
from docid.backends import MemoryBackend
from docid.cli import main
from docid.core.findings import LEVELS, Finding
from docid.repair import Step, repair
from docid.store.backends.local.directory import Directory


def draft(doc_id: str = "a1", raw_text: str = "once", task_id: str = "t-1", **more: Any) -> Document:
    return Document(stage="draft", doc_id=doc_id, task_id=task_id, raw_text=raw_text, **more)


@pytest.fixture
def root(local: DocsStore, tmp_path: Path) -> Path:
    """The root of `local`, with two good documents in it, one of which was changed."""
    local.write(draft("good"))
    local.write(draft("changed"))
    local.write(draft("changed", raw_text="twice"), if_exists="replace")
    local.add_part("draft", "changed", "parsed", "p")
    for lock in (tmp_path / "docs" / "draft").glob(".lock-*"):
        lock.unlink()
    return tmp_path / "docs"


def tree(root: Path) -> dict[str, bytes | None]:
    """Return all files below a directory with their bytes, and the directories."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in sorted(root.rglob("*"))
    }


def findings(store: DocsStore, **options: Any) -> list[Finding]:
    return [found for found in store.scan("draft", stale_after=0, **options) if isinstance(found, Finding)]


def moved(step: Step, root: Path) -> Path:
    assert step.done
    assert re.fullmatch(r"\.docid/quarantine/[0-9T.]+Z-[0-9a-f]{16}/" + re.escape(step.path), step.to)
    return root / step.to


TEMPORARY = ".tmp-{}-0123456789abcdef"


def dead_create(root: Path) -> str:
    path = root / "draft" / TEMPORARY.format("a1")
    path.mkdir()
    (path / "raw.txt").write_text("half")
    return f"draft/{path.name}"


def dead_add_part(root: Path) -> str:
    (root / "draft" / "good" / "parsed.txt").write_text("p")
    return "draft/good/parsed.txt"


def dead_swap(root: Path) -> str:
    path = root / "draft" / "good" / TEMPORARY.format("metadata.json")
    path.write_text("{")
    return f"draft/good/{path.name}"


def dead_entry(root: Path) -> str:
    path = root / ".docid" / "history" / "draft" / "changed" / TEMPORARY.format("20260101T000000.000000Z.json")
    path.write_text("{")
    return str(path.relative_to(root))


def entry_of_no_change(root: Path) -> str:
    path = root / ".docid" / "history" / "draft" / "changed" / "20990101T000000.000000Z-0123456789abcdef.json"
    shutil.copy(root / "draft" / "changed" / "metadata.json", path)
    return str(path.relative_to(root))


def entry_twice(root: Path) -> str:
    directory = root / ".docid" / "history" / "draft" / "changed"
    [record] = directory.glob("*.json")
    path = directory / f"{record.name[:21]}1Z-0123456789abcdef.json"
    shutil.copy(record, path)
    return str(min(path, record).relative_to(root))


def uncommitted(root: Path) -> str:
    (root / "draft" / "a1").mkdir()
    (root / "draft" / "a1" / "raw.txt").write_text("half")
    return "draft/a1"


def torn(root: Path) -> str:
    (root / "draft" / "good" / "raw.txt").write_text("on")
    return "draft/good"


def broken(root: Path) -> str:
    (root / "draft" / "good" / "metadata.json").write_text("{")
    return "draft/good"


def misplaced(root: Path) -> str:
    shutil.copytree(root / "draft" / "good", root / "draft" / "a1")
    return "draft/a1"


def odd_record(root: Path) -> str:
    (root / "draft" / "good" / "metadata.json").unlink()
    (root / "draft" / "good" / "metadata.json").mkdir()
    return "draft/good"


def edited(root: Path) -> str:
    (root / "draft" / "good" / "raw.txt").write_text("ones")
    return "draft/good"


FAULTS = [
    pytest.param(dead_create, "stale-temporary", id="dead create"),
    pytest.param(dead_add_part, "unlisted-file", id="dead add_part"),
    pytest.param(dead_swap, "stale-temporary", id="dead swap of a record"),
    pytest.param(dead_entry, "stale-temporary", id="dead entry of history"),
    pytest.param(entry_of_no_change, "stale-temporary", id="entry of a change that was not made"),
    pytest.param(entry_twice, "stale-temporary", id="entry of a change that was made again"),
    pytest.param(uncommitted, "uncommitted-directory", id="uncommitted directory"),
    pytest.param(torn, "torn-document", id="torn document"),
    pytest.param(broken, "unreadable-record", id="broken record"),
    pytest.param(odd_record, "unreadable-record", id="record that is a directory"),
    pytest.param(misplaced, "misplaced-document", id="misplaced document"),
    pytest.param(edited, "hash-mismatch", id="edited document"),
]


@pytest.mark.parametrize(("fault", "code"), FAULTS)
def test_what_is_wrong_is_found_planned_and_moved_aside_once(
    local: DocsStore, root: Path, fault: Any, code: str
) -> None:
    assert list(repair(local, stale_after=0, verify=True)) == []
    path = fault(root)
    before = tree(root)
    [finding] = findings(local, verify=True)
    assert (finding.code, finding.level, finding.where) == (code, LEVELS[code], str(root / path))
    assert "--apply moves it to quarantine" in finding.hint
    assert finding.to_dict()["code"] == code
    [plan] = repair(local, stale_after=0, verify=True)
    assert (plan.action, plan.path, plan.done, plan.to) == ("quarantine", path, False, "")
    assert tree(root) == before
    [step] = repair(local, stale_after=0, verify=True, apply=True)
    assert step.error is None
    assert {
        str((root / path).relative_to(root) / name) if name != "." else path: content
        for name, content in (
            tree(moved(step, root)).items()
            if moved(step, root).is_dir()
            else {".": moved(step, root).read_bytes()}.items()
        )
    } == {
        name: content for name, content in before.items() if content is not None and (name + "/").startswith(path + "/")
    } | {name: None for name, content in before.items() if content is None and name.startswith(path + "/")}
    assert list(repair(local, stale_after=0, verify=True, apply=True)) == []
    assert {name for name in before if not (name + "/").startswith(path + "/")} == {
        name for name in tree(root) if not name.startswith(".docid/quarantine")
    }


@pytest.mark.parametrize(("fault", "code"), FAULTS)
def test_what_a_writer_may_be_at_is_left_alone(local: DocsStore, root: Path, fault: Any, code: str) -> None:
    path = fault(root)
    whole = code in {"torn-document", "unreadable-record", "misplaced-document", "hash-mismatch"}
    if not whole:
        # Young: also where no lock tells.
        assert list(repair(local, apply=True)) == []
        assert (root / path).exists()
    with contextlib.ExitStack() as stack:
        target = root / path if "tmp-a1" in path else root / "draft" / f".lock-{path.split('/')[1]}"
        if path.startswith(".docid"):
            target = root / "draft" / ".lock-changed"
        fd = os.open(target, os.O_RDONLY if target.is_dir() else os.O_RDWR | os.O_CREAT)
        stack.callback(os.close, fd)
        fcntl.flock(fd, fcntl.LOCK_SH if target.is_dir() else fcntl.LOCK_EX)
        assert [step.done for step in repair(local, stale_after=0, verify=True, apply=True)] in ([], [False])
        assert (root / path).exists()
    assert [step.done for step in repair(local, stale_after=0, verify=True, apply=True)] == [True]


def test_the_id_of_what_was_moved_aside_is_free(local: DocsStore, root: Path) -> None:
    torn(root)
    [step] = repair(local, apply=True, stale_after=0)
    assert moved(step, root).is_dir()
    assert local.write(draft("good", task_id="t-2")).outcome is Outcome.CREATED


@pytest.mark.parametrize("in_place", [False, True])
def test_an_interrupted_replace_is_finished_or_rolled_back(local: DocsStore, root: Path, in_place: bool) -> None:
    os.rename(root / "draft" / "changed", root / "draft" / ".old-changed")
    if in_place:
        other = DocsStore(root.parent / "other")
        os.rename(other.write(draft("changed", raw_text="thrice")).path, root / "draft" / "changed")
    assert list(repair(local)) == []  # a moment ago: its writer may be at it
    [finding] = findings(local)
    assert (finding.code, finding.doc_id) == ("stale-temporary", "changed")
    assert "finishes that, or rolls it back" in finding.hint
    [step] = repair(local, stale_after=0, apply=True)
    assert (step.action, step.path, step.done, step.to) == ("settle", "draft/.old-changed", True, "")
    assert local.read("draft", "changed").raw_text == ("thrice" if in_place else "twice")
    assert [old.raw_text for old in local.history("draft", "changed")][-1] == "once"
    assert list(repair(local, stale_after=0, apply=True)) == []


def test_an_interrupted_replace_that_another_settled_meanwhile_is_skipped(local: DocsStore, root: Path) -> None:
    os.rename(root / "draft" / "changed", root / "draft" / ".old-changed")
    steps = repair(local, stale_after=0, apply=True)
    [finding] = findings(local)
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    assert finding.action is not None
    held = os.open(root / "draft" / ".lock-changed", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert sweeper.clear(finding, "run", 0) is None
    os.close(held)
    assert [step.done for step in steps] == [True]
    assert sweeper.clear(finding, "run", 0) is None


def test_an_empty_directory_is_removed(local: DocsStore, root: Path) -> None:
    (root / "draft" / "a1").mkdir()
    assert list(repair(local)) == []
    [step] = repair(local, stale_after=0, apply=True)
    assert (step.finding and step.finding.code, step.done, step.to) == ("uncommitted-directory", True, "")
    assert not (root / "draft" / "a1").exists()


def test_a_create_that_takes_the_place_of_an_empty_directory_is_not_moved(local: DocsStore, root: Path) -> None:
    (root / "draft" / "a1").mkdir()
    steps = []
    for finding in findings(local):
        assert finding.action is not None
        local.write(draft())
        sweeper = local.backend.sweeper()
        assert sweeper is not None
        steps.append(sweeper.clear(finding, "run", 0))
    assert steps == [None]
    assert local.read("draft", "a1").raw_text == "once"


def test_a_document_that_was_mended_meanwhile_stays(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn(root)
    steps = iter(repair(local, apply=True, stale_after=0))
    original = DocsStore.scan

    def mended(store: DocsStore, *args: Any, **options: Any) -> Iterator[Any]:
        for found in original(store, *args, **options):
            if isinstance(found, Finding):
                (root / "draft" / "good" / "raw.txt").write_text("once")
            yield found

    monkeypatch.setattr(DocsStore, "scan", mended)
    assert [(step.done, step.error) for step in steps] == [(False, None)]
    assert local.read("draft", "good", verify=True).raw_text == "once"


def test_what_is_nobodys_is_left_alone_and_said(local: DocsStore, root: Path) -> None:
    shutil.copytree(root / "draft" / "good", root / "draft" / "Good")
    (root / "draft" / "notes.txt").write_text("mine")
    (root / "draft" / "lost").write_text("a file under a doc id")
    (root / "draft" / "link").symlink_to("good")
    (root / "draft" / ".hidden").mkdir()
    (root / "draft" / ".old-..").mkdir()
    (root / "draft" / TEMPORARY.format("file")).write_text("a file")
    (root / "draft" / "good" / "notes.txt").write_text("mine")
    (root / "draft" / "good" / ".DS_Store").write_text("")
    os.mkdir(os.fsencode(root / "draft") + b"/\xff\xfe")
    record = root / "draft" / "changed" / "metadata.json"
    record.write_bytes(record.read_bytes().replace(b"docid/document/1", b"docid/document/2"))
    before = tree(root)
    steps = list(repair(local, stale_after=0, apply=True, verify=True))
    assert {(step.action, step.done) for step in steps} == {("leave", False)}
    codes = {step.path.removeprefix("draft/"): step.finding.code for step in steps if step.finding}
    assert codes == {
        "Good": "malformed-id",
        "notes.txt": "unlisted-file",
        "lost": "unreadable-record",
        "link": "unreadable-record",
        "good/notes.txt": "unlisted-file",
        "changed": "unreadable-record",
        "\udcff\udcfe": "unlisted-file",
    }
    assert tree(root) == before


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


def test_an_error_in_one_step_does_not_end_the_others(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncommitted(root)
    path = dead_create(root)
    original = os.rename

    def refused(source: Any, *args: Any, **options: Any) -> None:
        if source == os.path.basename(path):
            raise OSError(28, "No space left on device")
        original(source, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr("docid.store.backends.local.directory.os.rename", refused)
        steps = {step.path: step for step in repair(local, stale_after=0, apply=True)}
    assert str(steps[path].error) == "[Errno 28] No space left on device"
    assert (steps[path].done, steps["draft/a1"].done) == (False, True)
    assert [step.path for step in repair(local, stale_after=0, apply=True)] == [path]


def test_a_rename_that_was_done_and_reported_failed_is_done(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = dead_create(root)
    original = os.rename

    def done_and_failed(*args: Any, **options: Any) -> None:
        original(*args, **options)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("docid.store.backends.local.directory.os.rename", done_and_failed)
        [step] = repair(local, stale_after=0, apply=True)
    assert (step.path, step.done) == (path, True)


def test_a_home_in_memory_has_nothing_to_repair(local: DocsStore) -> None:
    store = DocsStore(MemoryBackend())
    store.write(draft())
    assert list(repair(store, apply=True, purge=True)) == []
    assert [type(found) for found in store.scan("draft")] == [StoredDocument]
    assert store.backend.create("draft", "b2", b"{", {})
    [finding] = (found for found in store.scan("draft") if isinstance(found, Finding))
    assert (finding.code, finding.action) == ("unreadable-record", None)
    assert [step.action for step in repair(store, apply=True)] == ["leave"]
    assert list(repair(local, purge=True, history=True, apply=True)) == []


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


def test_a_directory_that_is_touched_again_before_it_is_moved_stays(local: DocsStore, root: Path) -> None:
    uncommitted(root)
    [finding] = findings(local)
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    assert finding.action is not None
    assert sweeper.clear(finding, "run", 3600) is None
    assert (root / "draft" / "a1" / "raw.txt").exists()


def test_a_document_that_is_moved_takes_its_history_with_it(local: DocsStore, root: Path) -> None:
    opened = local.open("draft", "changed")
    (root / "draft" / "changed" / "raw.txt").write_text("x")
    [step] = repair(local, apply=True, stale_after=0)
    assert step.done
    assert list(local.history("draft", "changed")) == []
    other = draft("changed", task_id="t-2", raw_text="twice")
    local.write(other)
    local.write(attrs.evolve(other, raw_text="again"), if_exists="replace")
    assert [old.task_id for old in local.history("draft", "changed")] == ["t-2"]
    with pytest.raises(UnreadableDocument, match="another document has taken its place"):
        opened.read()
    run = root / "/".join(step.to.split("/")[:3])
    assert len(list((run / ".docid" / "history" / "draft" / "changed").iterdir())) == 2


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
    with pytest.raises(UnreadableDocument, match="a version in its history, not the document itself: raw.txt: its SHA"):
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


def test_a_document_that_is_being_copied_here_is_left_alone(local: DocsStore, root: Path) -> None:
    (root / "draft" / "good" / "raw.txt").unlink()
    before = tree(root)
    [step] = repair(local, apply=True)
    assert (step.action, step.done) == ("leave", False)
    assert (
        "touched in the last 3,600 s, so that a tool may be at it: later, or at once with --stale-after 0s"
        in step.message
    )
    assert tree(root) == before
    [finding] = findings(local)
    assert finding.action is not None
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    assert sweeper.clear(finding, "run", 3600) is None
    assert not sweeper.is_stale("draft", "gone", 0)


def test_a_directory_of_somebody_elses_is_left_alone(local: DocsStore, root: Path) -> None:
    (root / "draft" / "thesis").mkdir()
    (root / "draft" / "thesis" / "notes.md").write_text("mine")
    [step] = repair(local, apply=True, stale_after=0)
    assert (step.action, step.finding and step.finding.code) == ("leave", "uncommitted-directory")
    assert (root / "draft" / "thesis" / "notes.md").exists()


def test_a_run_does_not_delete_what_it_moved(local: DocsStore, root: Path) -> None:
    torn(root)
    steps = list(repair(local, apply=True, stale_after=0, purge=True, older_than=0))
    assert [step.action for step in steps] == ["quarantine"]
    assert moved(steps[0], root).exists()


# --- locks and purge -------------------------------------------------------------------------------------------


def test_locks_that_nobody_has_held_for_long_are_removed_and_others_stay(local: DocsStore, root: Path) -> None:
    for name in ("good", "held", "young"):
        (root / "draft" / f".lock-{name}").touch()
    (root / "draft" / ".lock-..").touch()
    held = os.open(root / "draft" / ".lock-held", os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    assert sweeper.tidy("draft", 3600) == 0
    assert sweeper.tidy("draft", 0) == 2
    assert sorted(path.name for path in (root / "draft").glob(".lock-*")) == [".lock-..", ".lock-held"]
    os.close(held)
    assert sweeper.tidy("essay", 0) == 0


def test_an_empty_history_goes_with_its_lock(local: DocsStore, root: Path) -> None:
    (root / ".docid" / "history" / "draft" / "good").mkdir()
    (root / "draft" / ".lock-good").touch()
    (root / "draft" / ".lock-changed").touch()
    assert list(repair(local, stale_after=0, apply=True)) == []
    assert sorted(path.name for path in (root / ".docid" / "history" / "draft").iterdir()) == ["changed"]


def test_quarantine_and_history_are_deleted_when_told_and_old_enough(local: DocsStore, root: Path) -> None:
    torn(root)
    [step] = repair(local, apply=True, stale_after=0)
    run = "/".join(step.to.split("/")[:3])
    assert list(repair(local, apply=True, purge=True, history=True)) == []
    assert [(step.action, step.path, step.done) for step in repair(local, purge=True, older_than=0)] == [
        ("purge", run, False)
    ]
    assert (root / run).is_dir()
    [step] = repair(local, apply=True, purge=True, older_than=0)
    assert (step.path, step.done) == (run, True)
    assert re.fullmatch(r"[0-9]+ bytes", step.message)
    assert not (root / run).exists()
    assert len(list(local.history("draft", "changed"))) == 2
    steps = list(repair(local, apply=True, purge=True, history=True, older_than=0))
    assert [step.done for step in steps] == [True, True]
    assert list(local.history("draft", "changed")) == []
    assert not (root / ".docid" / "history" / "draft").exists()
    assert root.is_dir()
    assert local.read("draft", "changed", verify=True).parsed_text == "p"


def test_history_is_deleted_in_a_stage_that_is_gone(local: DocsStore, root: Path) -> None:
    shutil.rmtree(root / "draft")
    assert len(list(repair(local, apply=True, purge=True, history=True, older_than=0))) == 2
    assert list((root / ".docid" / "history").iterdir()) == []


def test_what_cannot_be_deleted_is_said(local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torn(root)
    list(repair(local, apply=True, stale_after=0))

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("shutil.rmtree", refused)
    [step] = repair(local, apply=True, purge=True, older_than=0)
    assert (step.done, str(step.error)) == (False, "[Errno 13] Permission denied")


def test_what_another_purge_deletes_meanwhile_is_deleted(local: DocsStore, root: Path) -> None:
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    [path, *_] = [path for path, _ in sweeper.discarded(0, history=["draft"])]
    sweeper.discard(path)
    sweeper.discard(path)
    assert len(list(local.history("draft", "changed"))) == 1


def test_an_entry_that_a_purge_takes_away_is_passed_over(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = root / ".docid" / "history" / "draft" / "changed"
    [whole] = [path for path in history.iterdir() if path.is_dir()]
    names = Directory.names

    def purged(directory: Directory) -> list[str]:
        found = names(directory)
        if whole.name in found:
            shutil.rmtree(whole)
        return found

    monkeypatch.setattr(Directory, "names", purged)
    assert [old.raw_text for old in local.history("draft", "changed")] == ["twice"]
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    (history / whole.name).mkdir()
    assert len(list(sweeper.discarded(0, history=["draft"]))) == 1


@pytest.mark.parametrize("stamp", ["99999999T999999.999999Z", "99991231T235959.999999Z"])
def test_an_entry_of_no_time_is_somebody_elses(local: DocsStore, root: Path, stamp: str) -> None:
    odd = root / ".docid" / "history" / "draft" / "changed" / f"{stamp}-0123456789abcdef"
    odd.mkdir()
    local.write(draft("changed", raw_text="again"), if_exists="replace")
    assert [old.raw_text for old in local.history("draft", "changed")] == ["twice", "twice", "once"]
    list(repair(local, apply=True, purge=True, history=True, older_than=0))
    assert odd.exists()


def test_a_purge_that_was_interrupted_is_finished_by_the_next(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn(root)
    list(repair(local, apply=True, stale_after=0))

    def interrupted(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", interrupted)
        steps = list(repair(local, apply=True, purge=True, history=True, older_than=0))
    assert {step.done for step in steps} == {True, False}
    assert all(step.done for step in repair(local, apply=True, purge=True, history=True, older_than=0))
    assert not list((root / ".docid" / "quarantine").iterdir())
    assert not (root / ".docid" / "history" / "draft").exists()


def test_history_is_purged_in_the_stages_of_the_store_alone(local: DocsStore, root: Path) -> None:
    other = DocsStore(root, stages=Stages({"other": None}))
    assert list(repair(other, apply=True, purge=True, history=True, older_than=0)) == []
    assert len(list(local.history("draft", "changed"))) == 2


def test_history_alone_is_a_wrong_argument(local: DocsStore) -> None:
    with pytest.raises(ValueError, match="expected purge=True"):
        repair(local, history=True)


def test_the_history_of_a_document_that_is_gone_is_moved_aside(local: DocsStore, root: Path) -> None:
    shutil.rmtree(root / "draft" / "changed")
    assert list(repair(local, apply=True)) == []
    [step] = repair(local, apply=True, stale_after=0)
    assert (step.action, step.path, step.done) == ("quarantine", ".docid/history/draft/changed", True)
    assert list(repair(local, apply=True, stale_after=0)) == []


def test_where_only_one_of_a_document_and_its_history_can_be_moved_the_next_run_moves_the_other(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "draft" / "changed" / "raw.txt").write_text("x")
    move = Directory.move

    def refused(directory: Directory, name: str, new: str, to: Directory | None = None) -> None:
        if "history" in directory.path:
            raise OSError(28, "No space left on device")
        move(directory, name, new, to)

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "move", refused)
        [step] = repair(local, apply=True, stale_after=0)
    assert (step.done, str(step.error)) == (False, "[Errno 28] No space left on device")
    [step] = repair(local, apply=True, stale_after=0)
    assert step.done
    assert list(local.history("draft", "changed")) == []


def test_a_history_whose_document_is_there_again_stays(local: DocsStore, root: Path) -> None:
    os.rename(root / "draft" / "changed", root / "aside")
    [finding] = findings(local)
    os.rename(root / "aside", root / "draft" / "changed")
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    assert finding.action is not None
    assert sweeper.clear(finding, "run", 0) is None
    assert len(list(local.history("draft", "changed"))) == 2


# --- beside others ---------------------------------------------------------------------------------------------


def test_nothing_is_done_about_what_changed_since_it_was_seen(local: DocsStore, root: Path) -> None:
    """Every leftover of the faults above, seen, and then its document replaced or gone."""
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    for fault in (dead_add_part, torn):
        fault(root)
        [finding] = findings(local)
        assert finding.action is not None
        shutil.rmtree(root / "draft" / "good")
        assert sweeper.clear(finding, "run", 0) is None
        local.write(draft("good", raw_text="again"))
        assert sweeper.clear(finding, "run", 0) is None
        assert local.read("draft", "good", verify=True).raw_text == "again"
        shutil.rmtree(root / "draft" / "good")
        local.write(draft("good"))


def test_a_part_that_is_added_while_it_is_looked_at_is_no_stray(local: DocsStore, root: Path) -> None:
    opened = local.open("draft", "good")
    local.add_part("draft", "good", "parsed", "p")
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    record = json.dumps(opened.record, indent=2).encode() + b"\n"
    assert sweeper.strays("draft", "good", record, ["raw.txt"], 0) == []
    assert sweeper.strays("draft", "gone", record, ["raw.txt"], 0) == []


def test_a_lineage_that_was_there_first_keeps_its_id_through_a_repair(local: DocsStore, root: Path) -> None:
    os.rename(root / "draft" / "good", root / "draft" / ".old-good")
    other = DocsStore(root.parent / "other")
    os.rename(other.write(draft("good", task_id="t-2")).path, root / "draft" / "good")
    first, second = repair(local, stale_after=0, apply=True), repair(local, stale_after=0, apply=True)
    assert [step.action for step in first] == ["settle"]
    assert [step.action for step in second] == ["quarantine"]  # the one that told nobody
    with pytest.raises(LineageConflict):
        local.write(draft("good", task_id="t-2"))
    assert list(repair(local, stale_after=0, apply=True)) == []


# --- on the command line ---------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_plans_does_and_then_has_nothing_to_do(
    local: DocsStore, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn(root)
    (root / "draft" / "notes.txt").write_text("mine")
    before = tree(root)
    code, out, err = run(capsys, "repair", "--store", root, "--stale-after", "0s")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "left alone   draft/notes.txt: unlisted-file: it belongs to no document; look what it is: nothing of "
        "docid's needs it",
        "to move      draft/good (task_id='t-1'): raw.txt: 2 bytes, but the record says 4",
        "1 to move, 1 left alone; nothing was changed: --apply does it",
    ]
    assert tree(root) == before
    code, out, _ = run(capsys, "repair", "--store", root, "--apply", "--stale-after", "0s")
    assert code == 0
    assert re.search(
        r"^moved        draft/good \(task_id='t-1'\) -> \.docid/quarantine/\S+/draft/good: raw", out, re.MULTILINE
    )
    assert out.endswith("\n1 moved, 1 left alone\n")
    (root / "draft" / "notes.txt").unlink()
    assert run(capsys, "repair", "--store", root, "--apply", "--stale-after", "0s")[:2] == (0, "nothing to repair\n")
    code, out, _ = run(capsys, "repair", "--store", root, "--apply", "--purge", "--older-than", "0s")
    assert code == 0
    assert re.match(r"deleted      \.docid/quarantine/\S+: [0-9]+ bytes\n1 deleted\n$", out)


def test_the_command_tells_programs(local: DocsStore, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torn(root)
    code, out, _ = run(capsys, "repair", "--store", root, "--json", "--stale-after", "0s")
    step = json.loads(out)
    assert (code, step["action"], step["path"], step["done"], step["error"]) == (
        0,
        "quarantine",
        "draft/good",
        False,
        None,
    )
    assert step["finding"]["code"] == "torn-document"
    _, out, _ = run(
        capsys, "repair", "--store", root, "--json", "--purge", "--history", "--older-than", "0s", "--stale-after", "0s"
    )
    assert [json.loads(line)["finding"] for line in out.splitlines()[1:]] == [None, None]


def test_the_command_fails_where_something_could_not_be_done(
    local: DocsStore, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torn(root)

    def refused(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("docid.store.backends.local.directory.os.rename", refused)
        code, out, _ = run(capsys, "repair", "--store", root, "--apply", "--stale-after", "0s")
    assert code == 1
    assert "failed       draft/good (task_id='t-1'): [Errno 28] No space left on device\n" in out
    assert out.endswith("\n1 failed\n")


def test_the_command_skips_what_somebody_is_changing(
    local: DocsStore, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn(root)
    with open(root / "draft" / ".lock-good", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, out, _ = run(capsys, "repair", "--store", root, "--apply", "--stale-after", "0s")
    assert code == 0
    assert "skipped      draft/good (task_id='t-1'): raw.txt: 2 bytes, but the record says 4\n" in out
    assert out.endswith("\n1 skipped\n")
    assert (root / "draft" / "good").exists()


def test_the_command_says_where_a_store_has_other_stages(
    local: DocsStore, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "repair", "--store", root, "--stages", "outline")
    assert (code, out) == (0, "nothing to repair\n")
    assert "holds no directory of stage outline: an empty store; it holds draft: --stages declares other stages" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--history"], "expected --purge with them"),
        (["--older-than", "3d"], "expected --purge with them"),
        (["--stale-after", "soon"], "'soon': expected a number with s, m, h or d behind it"),
        (["--purge", "--older-than", "30"], "'30': expected a number with s, m, h or d"),
    ],
)
def test_wrong_arguments_are_said(
    root: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    try:
        code, _, err = run(capsys, "repair", "--store", root, *arguments)
    except SystemExit as exit_:
        code, err = exit_.code, capsys.readouterr().err  # type: ignore[assignment]
    assert code == 2
    assert message in err

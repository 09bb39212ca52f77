"""Interrupted replaces, creates during a replace, and the history of a document."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, DraftTask, Finding, LineageConflict, Outcome, UnreadableDocument
from docid.repair import repair
from docid.store.backends.local.locks import hold_lock
from tests.local_documents import draft, interrupt_replace, names_in, patch_os


def test_old_version_keeps_its_id_in_the_gap_of_a_replace(local: DocsStore) -> None:
    interrupt_replace(local, new_in_place=False)
    assert local.exists("draft", "a1")
    assert local.read("draft", "a1").raw_text == "once"
    assert local.open("draft", "a1").raw_text == "once"
    assert list(local.ids("draft")) == ["a1"]
    assert not local.backend.create("draft", "a1", b"{}", {})
    assert local.write(draft()).outcome is Outcome.UNCHANGED
    with pytest.raises(LineageConflict):
        local.write(draft(task_id="t-2"))
    assert local.read("draft", "a1").raw_text == "once"


def test_next_change_rolls_back_interrupted_replace(local: DocsStore) -> None:
    interrupt_replace(local, new_in_place=False)
    assert local.add_part("draft", "a1", "parsed", "p").outcome is Outcome.COMPLETED
    assert names_in(local.path("draft", "a1").parent) == ["a1"]
    assert local.read("draft", "a1").parsed_text == "p"
    assert [document.raw_text for document in local.history("draft", "a1")] == ["once"]


def test_next_change_completes_replace_with_new_version_in_place(local: DocsStore) -> None:
    interrupt_replace(local, new_in_place=True)
    assert local.read("draft", "a1").raw_text == "twice"
    assert local.write(draft(raw_text="thrice"), if_exists="replace").outcome is Outcome.REPLACED
    assert names_in(local.path("draft", "a1").parent) == ["a1"]
    assert [document.raw_text for document in local.history("draft", "a1")] == ["twice", "once"]


@pytest.mark.parametrize("call", ["write", "ensure", "add_part"])
def test_create_killed_in_the_gap_does_not_keep_the_id(local: DocsStore, call: str) -> None:
    """A replace is killed in its gap; then a create is killed between its rename and its check of the lock."""
    interrupt_replace(local, new_in_place=False)
    stage = local.path("draft", "a1").parent
    other = DocsStore(stage.parent.parent / "other", durability="none")
    os.rename(other.write(draft(raw_text="twice")).path, stage / ".new-a1")
    os.rename(other.write(draft(task_id="t-2")).path, stage / "a1")
    assert local.read("draft", "a1").raw_text == "once"
    if call == "add_part":
        # add_part knows no lineage, so it settles the replace first and changes the document that keeps the id.
        local.add_part("draft", "a1", "parsed", "p")
    elif call == "write":
        with pytest.raises(LineageConflict):
            local.write(draft(task_id="t-2"))
    else:
        with pytest.raises(LineageConflict):
            local.ensure(DraftTask(task_id="t-2", doc_id="a1"), lambda _: draft(task_id="t-2"))
    assert local.read("draft", "a1").task_id == "t-1"
    assert [name for name in names_in(stage) if not name.startswith(".tmp-a1-")] == ["a1"]
    assert local.write(draft(), if_exists="keep").outcome in {Outcome.KEPT, Outcome.UNCHANGED}


def test_ensure_returns_the_version_that_stays(local: DocsStore) -> None:
    interrupt_replace(local, new_in_place=True)
    row = DraftTask(task_id="t-1", doc_id="a1")
    assert local.ensure(row, lambda _: draft()).document.raw_text == "twice"
    assert names_in(local.path("draft", "a1").parent) == ["a1"]


def test_settle_keeps_record_of_later_format(local: DocsStore) -> None:
    interrupt_replace(local, new_in_place=True)
    record = local.path("draft", "a1") / "metadata.json"
    record.write_bytes(record.read_bytes().replace(b"docid/document/1", b"docid/document/2"))
    assert local.backend.settle("draft", "a1")
    assert b"docid/document/2" in record.read_bytes()
    assert names_in(local.path("draft", "a1").parent) == ["a1"]


@pytest.mark.parametrize("broken", ["new version", "old version"])
def test_settle_keeps_the_version_with_a_record(local: DocsStore, broken: str) -> None:
    interrupt_replace(local, new_in_place=True)
    stage = local.path("draft", "a1").parent
    (stage / ("a1" if broken == "new version" else ".old-a1") / "metadata.json").unlink()
    assert local.backend.settle("draft", "a1")
    assert local.read("draft", "a1").raw_text == ("once" if broken == "new version" else "twice")
    assert not (stage / ".old-a1").exists()


def test_settle_without_interrupted_replace_does_nothing(local: DocsStore, monkeypatch: Any) -> None:
    assert not local.backend.settle("draft", "a1")
    monkeypatch.setattr("docid.store.backends.local.backend.os.path.lexists", lambda _: True)
    assert not local.backend.settle("draft", "a1")
    local.write(draft())
    assert not local.backend.settle("draft", "a1")


def test_create_checks_for_an_old_version_before_its_rename(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another replace dies in its gap while the create builds its directory."""
    stage = local.write(draft()).path.parent
    (stage / "a1").rename(stage.parent / "kept")

    def leave_old_version(write: Callable[..., int], *args: Any) -> int:
        with contextlib.suppress(FileNotFoundError):
            (stage.parent / "kept").rename(stage / ".old-a1")
        return write(*args)

    patch_os(monkeypatch, "write", leave_old_version)
    assert not local.backend.create("draft", "a1", b"{}", {})
    assert names_in(stage) == [".old-a1"]


def test_empty_old_directory_takes_no_id(local: DocsStore) -> None:
    stage = local.path("draft", "a1").parent
    (stage / ".old-a1").mkdir(parents=True)
    assert local.write(draft()).outcome is Outcome.CREATED
    assert names_in(stage) == ["a1"]


def test_history_has_old_version_before_its_move(local: DocsStore) -> None:
    other = DocsStore(local.path("draft", "a1").parent.parent, durability="none")
    local.write(draft())
    opened = other.open("draft", "a1")
    stage = local.path("draft", "a1").parent
    local.write(draft(raw_text="twice"), if_exists="replace")
    [entry] = (stage.parent / ".docid" / "history" / "draft" / "a1").iterdir()
    os.rename(entry, stage / ".old-a1")  # as in a replace that is still running
    assert opened.raw_text == "once"
    assert [document.raw_text for document in local.history("draft", "a1")] == ["once"]
    assert list(local.ids("draft")) == ["a1"]
    # If it is moved during the listing, history has it once.
    shutil.copytree(stage / ".old-a1", entry)
    assert [document.raw_text for document in local.history("draft", "a1")] == ["once"]


def test_unchanged_stage_is_listed_once(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft())
    os.utime(local.path("draft", "a1").parent, (1, 1))
    scans: list[Any] = []
    scandir = os.scandir

    def count_and_scan(where: Any) -> Any:
        scans.append(where)
        return scandir(where)

    monkeypatch.setattr(os, "scandir", count_and_scan)
    assert list(local.ids("draft")) == ["a1"]
    assert len(scans) == 1


def test_listing_during_a_replace_has_the_document(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for doc_id in ("a1", "b2"):
        local.write(draft(doc_id))
        local.write(draft(doc_id, raw_text="twice"), if_exists="replace")
    stage = local.path("draft", "a1").parent

    class Scan:
        """A listing of the stage at a moment when the hidden document has no name."""

        def __init__(self, where: Any) -> None:
            self.entries = [entry for entry in os_scandir(where) if entry.name != hidden]

        def __enter__(self) -> Any:
            changes.pop()()
            return iter(self.entries)

        def __exit__(self, *_: object) -> None: ...

    hidden = "a1"
    os_scandir = os.scandir
    monkeypatch.setattr("docid.store.backends.local.backend.os.scandir", Scan)

    changes: list[Callable[[], object]] = [lambda: None, lambda: None]
    assert sorted(local.ids("draft")) == ["b2"]  # nothing changed between the listings, so a1 counts as removed
    changes = [lambda: None, lambda: local.write(draft(raw_text="thrice"), if_exists="replace")]
    assert sorted(local.ids("draft")) == ["a1", "b2"]
    held = os.open(stage / ".lock-a1", os.O_RDWR)
    changes = [lambda: None, lambda: fcntl.flock(held, fcntl.LOCK_EX)]
    assert sorted(local.ids("draft")) == ["a1", "b2"]
    os.close(held)
    # The first change of a document: its lock file did not exist when the listing began.
    local.write(draft("c3"))
    hidden = "c3"
    changes = [lambda: None, lambda: local.write(draft("c3", raw_text="twice"), if_exists="replace")]
    assert sorted(local.ids("draft")) == ["a1", "b2", "c3"]
    # The document enters the gap between two listings.
    changes = [lambda: None, lambda: os.rename(stage / "c3", stage / ".old-c3")]
    assert sorted(local.ids("draft")) == ["a1", "b2", "c3"]
    os.rename(stage / ".old-c3", stage / "c3")


def test_interrupted_change_is_not_in_history(local: DocsStore) -> None:
    path = local.write(draft()).path
    history = path.parent.parent / ".docid" / "history" / "draft" / "a1"
    history.mkdir(parents=True)
    shutil.copy(path / "metadata.json", history / "20260101T000000.000000Z-0123456789abcdef.json")
    assert list(local.history("draft", "a1")) == []


@pytest.mark.parametrize("fold", [str.lower, str.swapcase, None])
def test_history_survives_a_file_system_that_folds_case(local: DocsStore, tmp_path: Path, fold: Any) -> None:
    texts = [f"version {number}" for number in range(6)]
    local.write(draft(raw_text=texts[0]))
    for number, text in enumerate(texts[1:], 1):
        local.write(draft(raw_text=text), if_exists="replace")
        local.write(draft(raw_text=text, metadata={"number": number}), if_exists="replace")
        history = tmp_path / "docs/.docid/history/draft/a1"
        assert [name for name in os.listdir(history) if name != name.lower()] == [], "docs/formats.md"
    for number, name in enumerate(sorted(os.listdir(history))):
        # Earlier stores have upper-case names; here both kinds are in one history.
        stamp, _, rest = name.partition("-")
        old = stamp.upper() if number % 2 else stamp
        os.rename(history / name, history / f"{fold(old) if fold else old}-{rest}")
    found = [document.raw_text for document in local.history("draft", "a1")]
    assert list(dict.fromkeys(found)) == texts[::-1]
    assert len(found) == 10
    assert [each for each in local.scan("draft", stale_after=0) if isinstance(each, Finding)] == []
    local.write(draft(raw_text="last"), if_exists="replace")
    assert next(local.history("draft", "a1")).raw_text == texts[-1]
    steps = list(repair(local, apply=True, purge=True, history=True, older_than=0))
    assert (len(steps), {step.done for step in steps}) == (11, {True})


def test_history_has_old_version_that_cannot_be_moved(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft())

    def fail_to_move_old(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        if source == ".old-a1":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target, **where)

    with monkeypatch.context() as patch:
        patch_os(patch, "rename", fail_to_move_old)
        assert local.write(draft(raw_text="twice"), if_exists="replace").outcome is Outcome.REPLACED
    assert local.read("draft", "a1").raw_text == "twice"
    assert [document.raw_text for document in local.history("draft", "a1")] == ["once"]
    local.write(draft(raw_text="thrice"), if_exists="replace")
    assert [document.raw_text for document in local.history("draft", "a1")] == ["twice", "once"]


def test_create_in_the_gap_of_a_replace_withdraws(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The create checks the id while it is free, and commits while a replace has moved the document away."""
    stage = local.path("draft", "a1").parent
    steps: list[str] = []

    def rename_in_gap(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        if target == "a1" and not steps:
            steps.append("another writer creates a1, and its replace is killed in the gap")
            rename(DocsStore(stage.parent.parent / "other").write(draft()).path, stage / ".old-a1")
            (stage / ".lock-a1").touch()
        rename(source, target, **where)

    with monkeypatch.context() as patch:
        patch_os(patch, "rename", rename_in_gap)
        with pytest.raises(LineageConflict):
            local.write(draft(task_id="t-2"))
    assert names_in(stage) == ["a1"]
    assert local.read("draft", "a1").task_id == "t-1"


def test_replace_removes_create_that_came_into_its_gap(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft())
    stage = local.path("draft", "a1").parent
    other = DocsStore(stage.parent.parent / "other")
    steps: list[str] = []

    def rename_in_gap(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        if target == "a1" and not steps:
            steps.append("another writer creates a1 with another lineage")
            rename(other.write(draft(task_id="t-2")).path, stage / "a1")
        rename(source, target, **where)

    with monkeypatch.context() as patch:
        patch_os(patch, "rename", rename_in_gap)
        assert local.write(draft(raw_text="twice"), if_exists="replace").outcome is Outcome.REPLACED
    assert steps
    assert local.read("draft", "a1").raw_text == "twice"
    assert [document.raw_text for document in local.history("draft", "a1")] == ["once"]
    assert names_in(stage) == ["a1"]


def test_create_removed_by_a_replace_raises(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = local.path("draft", "a1").parent
    other = DocsStore(stage.parent.parent / "other")
    steps: list[str] = []

    def rename_and_replace(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        rename(source, target, **where)
        if target == "a1" and not steps:
            steps.append("a replace takes the id back, and holds the lock")
            (stage / ".lock-a1").touch()
            rename(stage / "a1", stage.parent / "put-out")
            rename(other.write(draft()).path, stage / "a1")

    with monkeypatch.context() as patch:
        patch_os(patch, "rename", rename_and_replace)
        with pytest.raises(LineageConflict):
            local.write(draft(task_id="t-2"))
    assert local.read("draft", "a1").task_id == "t-1"


def test_create_next_to_an_unused_lock_file_succeeds(local: DocsStore) -> None:
    stage = local.path("draft", "a1").parent
    stage.mkdir(parents=True)
    (stage / ".lock-a1").touch()
    assert local.write(draft()).outcome is Outcome.CREATED


def test_history_keeps_order_when_clock_goes_back(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft(raw_text="0"))
    for turn, year in enumerate((2030, 2020, 2025), 1):

        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None, year: int = year) -> Any:
                return datetime(year, 1, 1, tzinfo=tz)

        with monkeypatch.context() as patch:
            patch.setattr("docid.store.backends.names.datetime", Clock)
            local.write(draft(raw_text=f"{turn}"), if_exists="replace")
    assert [old.raw_text for old in local.history("draft", "a1")] == ["2", "1", "0"]


def test_replace_that_cannot_keep_old_version_changes_nothing(local: DocsStore, tmp_path: Path) -> None:
    local.write(draft())
    shutil.rmtree(tmp_path / "docs" / ".docid")
    (tmp_path / "docs" / ".docid").write_text("in the way")
    with pytest.raises(UnreadableDocument, match=r"\.docid is not a directory"):
        local.write(draft(raw_text="twice"), if_exists="replace")
    with pytest.raises(UnreadableDocument, match=r"\.docid is not a directory"):
        local.add_part("draft", "a1", "parsed", "p")
    assert local.read("draft", "a1").raw_text == "once"
    assert names_in(tmp_path / "docs" / "draft") == ["a1"]
    (tmp_path / "docs" / ".docid").unlink()
    assert local.write(draft(raw_text="twice"), if_exists="replace").outcome is Outcome.REPLACED


def test_history_is_readable_when_the_document_is_not(local: DocsStore) -> None:
    path = local.write(draft()).path
    local.write(draft(raw_text="twice"), if_exists="replace")
    (path / "metadata.json").unlink()
    assert [document.raw_text for document in local.history("draft", "a1")] == ["once"]


def test_foreign_files_in_history_are_ignored(local: DocsStore, tmp_path: Path) -> None:
    local.write(draft())
    local.write(draft(raw_text="twice"), if_exists="replace")
    history = tmp_path / "docs" / ".docid" / "history" / "draft" / "a1"
    (history / "zzz").mkdir()
    (history / ".DS_Store").write_text("")
    local.write(draft(raw_text="thrice"), if_exists="replace")
    assert [old.raw_text for old in local.history("draft", "a1")] == ["twice", "once"]


def test_history_has_texts_of_versions_that_changed_only_the_record(local: DocsStore) -> None:
    versions = [
        draft(raw_text="1"),
        draft(raw_text="1", run_id="r"),
        draft(raw_text="2"),
        draft(raw_text="2", run_id="r"),
    ]
    for version in versions:
        local.write(version, if_exists="replace")
    assert [*local.history("draft", "a1")] == versions[2::-1]
    assert local.read("draft", "a1") == versions[-1]


def test_create_removed_by_a_replace_raises_without_lock_file(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = local.path("draft", "a1").parent
    other = DocsStore(stage.parent.parent / "other")
    steps: list[str] = []

    def rename_and_replace(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        rename(source, target, **where)
        if target == "a1" and not steps:
            steps.append("a replace takes the id back, and a sweep removes its lock")
            rename(stage / "a1", stage.parent / "put-out")
            rename(other.write(draft()).path, stage / "a1")

    with monkeypatch.context() as patch:
        patch_os(patch, "rename", rename_and_replace)
        with pytest.raises(LineageConflict):
            local.write(draft(task_id="t-2"))
    assert local.read("draft", "a1").task_id == "t-1"


@pytest.mark.parametrize("change", ["add_part", "replace", "replace, not in history yet", "replace, lock swept"])
def test_create_whose_document_changes_at_once_succeeds(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    stage = local.path("draft", "a1").parent
    other = DocsStore(stage.parent, durability="none")
    steps: list[str] = []

    def rename_and_change(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        rename(source, target, **where)
        if target == "a1" and not steps:
            steps.append("others change a1 before its writer checks the lock")
            if change == "add_part":
                other.add_part("draft", "a1", "parsed", "p")
            else:
                other.write(draft(raw_text="twice"), if_exists="replace")
            if change == "replace, not in history yet":
                [entry] = (stage.parent / ".docid" / "history" / "draft" / "a1").iterdir()
                rename(entry, stage / ".old-a1")
            if change == "replace, lock swept":
                (stage / ".lock-a1").unlink()

    with monkeypatch.context() as patch:
        patch_os(patch, "rename", rename_and_change)
        assert local.write(draft()).outcome is Outcome.CREATED
    assert steps
    assert [old.raw_text for old in local.history("draft", "a1")] == ["once"]


def test_withdrawing_create_that_cannot_move_old_version_back_raises(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = local.path("draft", "a1").parent
    steps: list[str] = []

    def rename_in_gap(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        if target == "a1" and not steps:
            steps.append("another writer creates a1, and its replace is killed in the gap")
            rename(DocsStore(stage.parent.parent / "other").write(draft()).path, stage / ".old-a1")
            (stage / ".lock-a1").touch()
        elif source == ".old-a1" and len(steps) == 1:
            steps.append("the old version cannot be moved back")
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target, **where)

    with monkeypatch.context() as patch:
        patch_os(patch, "rename", rename_in_gap)
        with pytest.raises(LineageConflict):
            local.write(draft(task_id="t-2"))
    assert len(steps) == 2
    assert local.read("draft", "a1").task_id == "t-1"


def test_create_in_a_gap_settled_by_third_process_succeeds(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lineage is the same, so the create counts as the new version of the replace; both texts are kept."""
    stage = local.path("draft", "a1").parent
    third = DocsStore(stage.parent, durability="none")
    steps: list[str] = []

    def rename_in_gap(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        if target == "a1" and not steps:
            steps.append("another writer creates a1, and its replace is killed in the gap")
            rename(DocsStore(stage.parent.parent / "other").write(draft()).path, stage / ".old-a1")
        rename(source, target, **where)

    def settle_and_lock(*args: Any, **options: Any) -> Any:
        if len(steps) == 1:
            steps.append("a third process settles the replace")
            third.backend.settle("draft", "a1")
        return hold_lock(*args, **options)

    with monkeypatch.context() as patch:
        patch_os(patch, "rename", rename_in_gap)
        patch.setattr("docid.store.backends.local.commit.hold_lock", settle_and_lock)
        assert local.write(draft(raw_text="twice")).outcome is Outcome.CREATED
    assert local.read("draft", "a1").raw_text == "twice"
    assert [old.raw_text for old in local.history("draft", "a1")] == ["once"]


def test_replace_killed_before_its_gap_leaves_the_document(local: DocsStore) -> None:
    local.write(draft())
    stage = local.path("draft", "a1").parent
    other = DocsStore(stage.parent.parent / "other", durability="none")
    os.rename(other.write(draft(raw_text="twice")).path, stage / ".new-a1")
    (stage / ".lock-a1").touch()
    assert local.read("draft", "a1").raw_text == "once"
    [finding] = [each for each in local.scan("draft", stale_after=0) if isinstance(each, Finding)]
    assert (finding.code, finding.action) == ("stale-temporary", "settle")
    assert [step.done for step in repair(local, apply=True, stale_after=0)] == [True]
    assert list(repair(local, apply=True, stale_after=0)) == []
    assert (local.read("draft", "a1").raw_text, names_in(stage)) == ("once", ["a1"])


def test_reader_waits_for_the_end_of_a_gap(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader opens the directory of a create that withdraws; the replace ends before the reader looks again."""
    local.write(draft())
    stage = local.path("draft", "a1").parent
    other = DocsStore(stage.parent.parent / "other", durability="none")
    os.rename(stage / "a1", stage.parent / "kept")
    os.rename(other.write(draft(raw_text="refused")).path, stage / "a1")
    (stage / ".lock-a1").touch()
    withdrawn: list[str] = []

    def withdraw(close: Callable[..., None], fd: int) -> None:
        close(fd)
        if not withdrawn and (stage / "a1" / "raw.txt").read_text() == "refused":
            withdrawn.append("refused")
            os.rename(stage / "a1", stage.parent / "withdrawn")
            os.rename(stage.parent / "kept", stage / "a1")

    with monkeypatch.context() as patch:
        patch_os(patch, "close", withdraw)
        assert local.read("draft", "a1").raw_text == "once"
    assert withdrawn


def test_listing_needs_a_closer_look_in_a_gap(local: DocsStore) -> None:
    local.write(draft())
    stage = local.path("draft", "a1").parent
    other = DocsStore(stage.parent.parent / "other", durability="none")
    (stage / ".lock-a1").touch()
    assert local.backend.listing("draft", "a1") is not None
    os.rename(stage / "a1", stage / ".old-a1")
    os.rename(other.write(draft(raw_text="twice")).path, stage / ".new-a1")
    os.rename(other.write(draft(raw_text="refused")).path, stage / "a1")
    assert local.backend.listing("draft", "a1") is None
    assert [document.raw_text for document in local.documents("draft")] == ["once"]
    assert list(local.history("draft", "a1")) == []


def test_listing_finds_old_version_that_gets_its_id_back(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that moves it back is killed before it sets the time of the lock file."""
    path = local.write(draft()).path
    os.rename(path, path.with_name(".old-a1"))
    (path.parent / ".lock-a1").touch()
    os.utime(path.parent / ".lock-a1", (1, 1))
    scandir = os.scandir
    names: list[Any] = []

    def scan_and_move(where: Any) -> Any:
        with scandir(where) as entries:
            names[:] = list(entries)
        if path.with_name(".old-a1").exists():
            os.rename(path.with_name(".old-a1"), path)
        return contextlib.nullcontext(names)

    monkeypatch.setattr(os, "scandir", scan_and_move)
    assert set(local.ids("draft")) == {"a1"}

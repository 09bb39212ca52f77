"""Replaces that were interrupted, creates that land in one, and the history of a document."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, DraftTask, LineageConflict, Outcome, UnreadableDocument
from docid.store.backends.local.locks import hold_lock
from tests.local_documents import draft, failing, interrupted, names_in


def test_in_the_gap_of_a_replace_the_old_one_is_there_and_keeps_its_id(local: DocsStore) -> None:
    interrupted(local, new_in_place=False)
    assert local.exists("draft", "a1")
    assert local.read("draft", "a1").raw_text == "once"
    assert local.open("draft", "a1").raw_text == "once"
    assert list(local.ids("draft")) == ["a1"]
    assert not local.backend.create("draft", "a1", b"{}", {})
    assert local.write(draft()).outcome is Outcome.UNCHANGED
    with pytest.raises(LineageConflict):
        local.write(draft(task_id="t-2"))
    assert local.read("draft", "a1").raw_text == "once"


def test_the_next_change_rolls_back_a_gap(local: DocsStore) -> None:
    interrupted(local, new_in_place=False)
    assert local.add_part("draft", "a1", "parsed", "p").outcome is Outcome.COMPLETED
    assert names_in(local.path("draft", "a1").parent) == ["a1"]
    assert local.read("draft", "a1").parsed_text == "p"
    assert [document.raw_text for document in local.history("draft", "a1")] == ["once"]


def test_the_next_change_finishes_a_replace_whose_new_version_is_in_place(local: DocsStore) -> None:
    interrupted(local, new_in_place=True)
    assert local.read("draft", "a1").raw_text == "twice"
    assert local.write(draft(raw_text="thrice"), if_exists="replace").outcome is Outcome.REPLACED
    assert names_in(local.path("draft", "a1").parent) == ["a1"]
    assert [document.raw_text for document in local.history("draft", "a1")] == ["twice", "once"]


@pytest.mark.parametrize("read_by", ["write", "ensure", "add_part"])
def test_a_create_of_another_lineage_that_was_killed_in_the_gap_does_not_keep_the_id(
    local: DocsStore, read_by: str
) -> None:
    """A replace killed in its gap; then a create killed between its rename and its look at the lock."""
    interrupted(local, new_in_place=False)
    stage = local.path("draft", "a1").parent
    other = DocsStore(stage.parent.parent / "other", durability="none")
    os.rename(other.write(draft(task_id="t-2")).path, stage / "a1")
    if read_by == "add_part":
        # Who asks by name alone completes what is there first of all: the one that has the id.
        local.add_part("draft", "a1", "parsed", "p")
    elif read_by == "write":
        with pytest.raises(LineageConflict):
            local.write(draft(task_id="t-2"))
    else:
        with pytest.raises(LineageConflict):
            local.ensure(DraftTask(task_id="t-2", doc_id="a1"), lambda: draft(task_id="t-2"))
    assert local.read("draft", "a1").task_id == "t-1"
    assert [name for name in names_in(stage) if not name.startswith(".tmp-a1-")] == ["a1"]
    assert local.write(draft(), if_exists="keep").outcome in {Outcome.KEPT, Outcome.UNCHANGED}


def test_a_row_is_answered_from_the_version_that_stays(local: DocsStore) -> None:
    interrupted(local, new_in_place=True)
    row = DraftTask(task_id="t-1", doc_id="a1")
    assert local.ensure(row, draft).raw_text == "twice"
    assert names_in(local.path("draft", "a1").parent) == ["a1"]


def test_of_two_lineages_that_cannot_be_told_the_record_of_a_later_docid_stays(local: DocsStore) -> None:
    interrupted(local, new_in_place=True)
    record = local.path("draft", "a1") / "metadata.json"
    record.write_bytes(record.read_bytes().replace(b"docid/document/1", b"docid/document/2"))
    assert local.backend.settle("draft", "a1")
    assert b"docid/document/2" in record.read_bytes()
    assert names_in(local.path("draft", "a1").parent) == ["a1"]


@pytest.mark.parametrize("broken", ["the new one", "the old one"])
def test_what_is_no_document_does_not_take_the_place_of_one(local: DocsStore, broken: str) -> None:
    interrupted(local, new_in_place=True)
    stage = local.path("draft", "a1").parent
    (stage / ("a1" if broken == "the new one" else ".old-a1") / "metadata.json").unlink()
    assert local.backend.settle("draft", "a1")
    assert local.read("draft", "a1").raw_text == ("once" if broken == "the new one" else "twice")
    assert not (stage / ".old-a1").exists()


def test_there_is_nothing_to_settle_in_a_store_that_is_not_there(local: DocsStore, monkeypatch: Any) -> None:
    assert not local.backend.settle("draft", "a1")
    monkeypatch.setattr("docid.store.backends.local.backend.os.path.lexists", lambda _: True)
    assert not local.backend.settle("draft", "a1")
    local.write(draft())
    assert not local.backend.settle("draft", "a1")


def test_an_empty_directory_under_the_interim_name_claims_nothing(local: DocsStore) -> None:
    stage = local.path("draft", "a1").parent
    (stage / ".old-a1").mkdir(parents=True)
    assert local.write(draft()).outcome is Outcome.CREATED
    assert names_in(stage) == ["a1"]


def test_the_old_version_is_in_history_before_it_is_moved_there(local: DocsStore) -> None:
    opened_of = DocsStore(local.path("draft", "a1").parent.parent, durability="none")
    local.write(draft())
    opened = opened_of.open("draft", "a1")
    stage = local.path("draft", "a1").parent
    local.write(draft(raw_text="twice"), if_exists="replace")
    [entry] = (stage.parent / ".docid" / "history" / "draft" / "a1").iterdir()
    os.rename(entry, stage / ".old-a1")  # as if the replace were not over yet
    assert opened.raw_text == "once"
    assert [document.raw_text for document in local.history("draft", "a1")] == ["once"]
    assert list(local.ids("draft")) == ["a1"]
    # Moved while it is being listed: it is there once.
    shutil.copytree(stage / ".old-a1", entry)
    assert [document.raw_text for document in local.history("draft", "a1")] == ["once"]


def test_a_stage_that_does_not_change_is_listed_once(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft())
    os.utime(local.path("draft", "a1").parent, (1, 1))
    scans: list[Any] = []
    scandir = os.scandir

    def counted(where: Any) -> Any:
        scans.append(where)
        return scandir(where)

    monkeypatch.setattr(os, "scandir", counted)
    assert list(local.ids("draft")) == ["a1"]
    assert len(scans) == 1


def test_a_listing_that_passes_by_a_replace_has_the_document(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for doc_id in ("a1", "b2"):
        local.write(draft(doc_id))
        local.write(draft(doc_id, raw_text="twice"), if_exists="replace")
    stage = local.path("draft", "a1").parent

    class Scan:
        """The stage as a listing sees it that comes by while a1 has no name."""

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
    assert sorted(local.ids("draft")) == ["b2"]  # it was removed, for all that is known
    changes = [lambda: None, lambda: local.write(draft(raw_text="thrice"), if_exists="replace")]
    assert sorted(local.ids("draft")) == ["a1", "b2"]
    held = os.open(stage / ".lock-a1", os.O_RDWR)
    changes = [lambda: None, lambda: fcntl.flock(held, fcntl.LOCK_EX)]
    assert sorted(local.ids("draft")) == ["a1", "b2"]
    os.close(held)
    # The very first change of a document: no lock file was there when the listing came by.
    local.write(draft("c3"))
    hidden = "c3"
    changes = [lambda: None, lambda: local.write(draft("c3", raw_text="twice"), if_exists="replace")]
    assert sorted(local.ids("draft")) == ["a1", "b2", "c3"]
    # In the gap, and out of it between two looks.
    changes = [lambda: None, lambda: os.rename(stage / "c3", stage / ".old-c3")]
    assert sorted(local.ids("draft")) == ["a1", "b2", "c3"]
    os.rename(stage / ".old-c3", stage / "c3")


def test_a_change_that_was_interrupted_is_not_in_history_yet(local: DocsStore) -> None:
    path = local.write(draft()).path
    history = path.parent.parent / ".docid" / "history" / "draft" / "a1"
    history.mkdir(parents=True)
    shutil.copy(path / "metadata.json", history / "20260101T000000.000000Z-0123456789abcdef.json")
    assert list(local.history("draft", "a1")) == []


def test_an_old_version_that_cannot_be_moved_now_is_in_history_all_the_same(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.write(draft())

    def stuck(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        if source == ".old-a1":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target, **where)

    with monkeypatch.context() as patch:
        failing(patch, "rename", stuck)
        assert local.write(draft(raw_text="twice"), if_exists="replace").outcome is Outcome.REPLACED
    assert local.read("draft", "a1").raw_text == "twice"
    assert [document.raw_text for document in local.history("draft", "a1")] == ["once"]
    local.write(draft(raw_text="thrice"), if_exists="replace")
    assert [document.raw_text for document in local.history("draft", "a1")] == ["twice", "once"]


def test_a_create_that_lands_in_the_gap_of_a_replace_withdraws(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A create that looked before the id was taken at all, and commits while a replace has moved the document."""
    stage = local.path("draft", "a1").parent
    steps: list[str] = []

    def in_the_gap(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        if target == "a1" and not steps:
            steps.append("another creates, and its replace is killed in the gap")
            rename(DocsStore(stage.parent.parent / "other").write(draft()).path, stage / ".old-a1")
            (stage / ".lock-a1").touch()
        rename(source, target, **where)

    with monkeypatch.context() as patch:
        failing(patch, "rename", in_the_gap)
        with pytest.raises(LineageConflict):
            local.write(draft(task_id="t-2"))
    assert names_in(stage) == ["a1"]
    assert local.read("draft", "a1").task_id == "t-1"


def test_a_replace_puts_out_a_create_that_took_the_id_in_its_gap(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.write(draft())
    stage = local.path("draft", "a1").parent
    other = DocsStore(stage.parent.parent / "other")
    steps: list[str] = []

    def in_the_gap(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        if target == "a1" and not steps:
            steps.append("a create of another lineage gets in")
            rename(other.write(draft(task_id="t-2")).path, stage / "a1")
        rename(source, target, **where)

    with monkeypatch.context() as patch:
        failing(patch, "rename", in_the_gap)
        assert local.write(draft(raw_text="twice"), if_exists="replace").outcome is Outcome.REPLACED
    assert steps
    assert local.read("draft", "a1").raw_text == "twice"
    assert [document.raw_text for document in local.history("draft", "a1")] == ["once"]
    assert names_in(stage) == ["a1"]


def test_a_create_that_was_put_out_says_that_it_did_not_create(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = local.path("draft", "a1").parent
    other = DocsStore(stage.parent.parent / "other")
    steps: list[str] = []

    def put_out(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        rename(source, target, **where)
        if target == "a1" and not steps:
            steps.append("a replace that holds the lock takes the id back")
            (stage / ".lock-a1").touch()
            rename(stage / "a1", stage.parent / "put-out")
            rename(other.write(draft()).path, stage / "a1")

    with monkeypatch.context() as patch:
        failing(patch, "rename", put_out)
        with pytest.raises(LineageConflict):
            local.write(draft(task_id="t-2"))
    assert local.read("draft", "a1").task_id == "t-1"


def test_a_create_beside_a_lock_that_nothing_hides_behind_stays(local: DocsStore) -> None:
    stage = local.path("draft", "a1").parent
    stage.mkdir(parents=True)
    (stage / ".lock-a1").touch()
    assert local.write(draft()).outcome is Outcome.CREATED


def test_history_keeps_its_order_when_the_clock_goes_back(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_replace_that_cannot_keep_the_old_version_replaces_nothing(local: DocsStore, tmp_path: Path) -> None:
    local.write(draft())
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


def test_what_others_leave_in_a_history_does_no_harm(local: DocsStore, tmp_path: Path) -> None:
    local.write(draft())
    local.write(draft(raw_text="twice"), if_exists="replace")
    history = tmp_path / "docs" / ".docid" / "history" / "draft" / "a1"
    (history / "zzz").mkdir()
    (history / ".DS_Store").write_text("")
    local.write(draft(raw_text="thrice"), if_exists="replace")
    assert [old.raw_text for old in local.history("draft", "a1")] == ["twice", "once"]


def test_the_texts_of_a_version_whose_record_alone_changed_are_those_of_the_next(local: DocsStore) -> None:
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


def test_a_create_whose_document_was_put_out_and_whose_lock_was_swept_says_so(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = local.path("draft", "a1").parent
    other = DocsStore(stage.parent.parent / "other")
    steps: list[str] = []

    def put_out(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        rename(source, target, **where)
        if target == "a1" and not steps:
            steps.append("a replace took the id back, and a sweep its lock")
            rename(stage / "a1", stage.parent / "put-out")
            rename(other.write(draft()).path, stage / "a1")

    with monkeypatch.context() as patch:
        failing(patch, "rename", put_out)
        with pytest.raises(LineageConflict):
            local.write(draft(task_id="t-2"))
    assert local.read("draft", "a1").task_id == "t-1"


@pytest.mark.parametrize("change", ["add_part", "replace", "replace, not in history yet", "replace, lock swept"])
def test_a_create_whose_document_others_change_at_once_has_created_it(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    stage = local.path("draft", "a1").parent
    other = DocsStore(stage.parent, durability="none")
    steps: list[str] = []

    def changed(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        rename(source, target, **where)
        if target == "a1" and not steps:
            steps.append("others change it before its writer looks at the lock")
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
        failing(patch, "rename", changed)
        assert local.write(draft()).outcome is Outcome.CREATED
    assert steps
    assert [old.raw_text for old in local.history("draft", "a1")] == ["once"]


def test_a_create_that_withdraws_and_cannot_move_the_old_one_back_is_answered_from_it(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = local.path("draft", "a1").parent
    steps: list[str] = []

    def in_the_gap(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        if target == "a1" and not steps:
            steps.append("another creates, and its replace is killed in the gap")
            rename(DocsStore(stage.parent.parent / "other").write(draft()).path, stage / ".old-a1")
            (stage / ".lock-a1").touch()
        elif source == ".old-a1" and len(steps) == 1:
            steps.append("it cannot be moved back")
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target, **where)

    with monkeypatch.context() as patch:
        failing(patch, "rename", in_the_gap)
        with pytest.raises(LineageConflict):
            local.write(draft(task_id="t-2"))
    assert len(steps) == 2
    assert local.read("draft", "a1").task_id == "t-1"


def test_a_create_in_a_gap_that_a_third_process_has_settled_stays(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one lineage, it counts as the replace's new version: both texts are kept."""
    stage = local.path("draft", "a1").parent
    third = DocsStore(stage.parent, durability="none")
    steps: list[str] = []

    def in_the_gap(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        if target == "a1" and not steps:
            steps.append("another creates, and its replace is killed in the gap")
            rename(DocsStore(stage.parent.parent / "other").write(draft()).path, stage / ".old-a1")
        rename(source, target, **where)

    def settled(*args: Any, **options: Any) -> Any:
        if len(steps) == 1:
            steps.append("a third process settles it")
            third.backend.settle("draft", "a1")
        return hold_lock(*args, **options)

    with monkeypatch.context() as patch:
        failing(patch, "rename", in_the_gap)
        patch.setattr("docid.store.backends.local.commit.hold_lock", settled)
        assert local.write(draft(raw_text="twice")).outcome is Outcome.CREATED
    assert local.read("draft", "a1").raw_text == "twice"
    assert [old.raw_text for old in local.history("draft", "a1")] == ["once"]

"""What only the home on a file system has: directories, links, interim names, and what others leave there."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from docid import (
    DocsStore,
    Document,
    DraftTask,
    DurabilityUnknown,
    LineageConflict,
    Outcome,
    UnreadableDocument,
)
from docid.backends import LocalBackend
from docid.store.backends.local.directory import Directory
from docid.store.backends.local.locks import _Lock, hold_lock, is_held


def draft(doc_id: str = "a1", raw_text: str = "once", task_id: str = "t-1", **more: Any) -> Document:
    return Document(stage="draft", doc_id=doc_id, task_id=task_id, raw_text=raw_text, **more)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if not path.name.startswith(".lock-"))


def test_a_document_is_a_directory_of_plain_files(tmp_path: Path) -> None:
    store = DocsStore(tmp_path / "deep" / "docs")
    result = store.write(draft(raw_text="a\r\nb\rc\n", parsed_text="é", prompt_text=""))
    assert result.path == tmp_path / "deep" / "docs" / "draft" / "a1"
    assert names_in(result.path) == ["metadata.json", "parsed.txt", "prompt.txt", "raw.txt"]
    assert (result.path / "raw.txt").read_bytes() == b"a\r\nb\rc\n"
    assert (result.path / "parsed.txt").read_bytes() == "é".encode()
    assert (result.path / "prompt.txt").read_bytes() == b""
    assert names_in(tmp_path / "deep" / "docs" / "draft") == ["a1"]


def test_files_have_the_permissions_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = DocsStore(tmp_path / "docs").write(draft()).path
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    assert stat.S_IMODE((path / "raw.txt").stat().st_mode) == 0o640


def test_the_root_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "docs").symlink_to("real")
    DocsStore(tmp_path / "docs").write(draft())
    assert (tmp_path / "real" / "draft" / "a1" / "raw.txt").read_text() == "once"


def test_a_link_for_a_stage_or_a_document_is_refused_and_nothing_goes_through_it(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "a1").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "draft").symlink_to(tmp_path / "elsewhere")
    store = DocsStore(tmp_path / "docs")
    for act in (lambda: store.write(draft("b2")), lambda: store.read("draft", "a1")):
        with pytest.raises(UnreadableDocument, match=r"draft is a symbolic link; link the store's root instead"):
            act()
    (tmp_path / "docs" / "draft").unlink()
    store.write(draft("b2"))
    (tmp_path / "docs" / "draft" / "a1").symlink_to(tmp_path / "elsewhere" / "a1")
    for act in (lambda: store.write(draft("a1")), lambda: store.read("draft", "a1")):
        with pytest.raises(UnreadableDocument, match="a1 is a symbolic link"):
            act()
    assert not store.exists("draft", "a1")
    assert list(store.ids("draft")) == ["b2"]
    assert names_in(tmp_path / "elsewhere") == ["a1"]
    assert names_in(tmp_path / "elsewhere" / "a1") == []


def test_a_part_that_is_a_link_is_not_followed(local: DocsStore, tmp_path: Path) -> None:
    path = local.write(draft()).path
    (tmp_path / "secret").write_text("none")
    (path / "raw.txt").unlink()
    (path / "raw.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(UnreadableDocument, match=r"raw\.txt is no file"):
        local.read("draft", "a1")


def test_a_stage_that_is_a_link_is_not_listed(local: DocsStore, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "draft").symlink_to(tmp_path)
    with pytest.raises(UnreadableDocument, match="draft is a symbolic link"):
        list(local.ids("draft"))


def something_else(kind: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "file":
        path.write_text("a file")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "no record":
        path.mkdir()
        (path / "raw.txt").write_text("half")
    elif kind == "record a directory":
        (path / "metadata.json").mkdir(parents=True)
    elif kind == "record a link":
        path.mkdir()
        (path / "metadata.json").symlink_to("elsewhere")
    elif kind == "record a socket":
        path.mkdir()
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
            where = os.getcwd()
            os.chdir(path)  # the name of a socket may be no longer than 107 bytes
            try:
                server.bind("metadata.json")
            finally:
                os.chdir(where)
    elif kind == "record a pipe":
        path.mkdir()
        os.mkfifo(path / "metadata.json")


@pytest.mark.parametrize(
    "kind",
    ["file", "pipe", "no record", "record a directory", "record a pipe", "record a link", "record a socket"],
)
def test_what_is_no_document_is_said_left_alone_and_not_hung_on(local: DocsStore, kind: str) -> None:
    path = local.path("draft", "a1")
    something_else(kind, path)
    for act in (lambda: local.write(draft()), lambda: local.read("draft", "a1"), lambda: local.open("draft", "a1")):
        with pytest.raises(UnreadableDocument, match=r"no directory|no metadata\.json|is no file") as caught:
            act()
        assert str(path) in str(caught.value)
    assert not local.exists("draft", "a1")
    assert names_in(path.parent) == ["a1"]


def test_an_uncommitted_directory_points_to_repair(local: DocsStore) -> None:
    something_else("no record", local.path("draft", "a1"))
    with pytest.raises(UnreadableDocument, match=r"the directory has no metadata\.json.*docid repair"):
        local.write(draft())


def test_an_empty_directory_claims_nothing(local: DocsStore) -> None:
    local.path("draft", "a1").mkdir(parents=True)
    assert not local.exists("draft", "a1")
    assert local.write(draft()).outcome is Outcome.CREATED
    assert local.read("draft", "a1").raw_text == "once"


def test_a_stage_that_is_a_file_is_said(local: DocsStore, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "draft").write_text("")
    for act in (lambda: local.write(draft()), lambda: local.read("draft", "a1")):
        with pytest.raises(UnreadableDocument, match="draft is no directory; look what it is"):
            act()


def test_a_root_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "docs").write_text("")
    with pytest.raises(UnreadableDocument, match=re.escape(f"{tmp_path / 'docs'} is no directory")):
        DocsStore(tmp_path / "docs").write(draft())


def test_ids_are_documents_and_nothing_that_lies_beside_them(local: DocsStore, tmp_path: Path) -> None:
    local.write(draft())
    stage = tmp_path / "docs" / "draft"
    for name in (".tmp-b2-00", ".lock-b2", "UPPER", "a.b", "con", "x" * 65, ".old-..", ".old-a1"):
        (stage / name).mkdir()
    (stage / "b2").write_text("a file")
    (stage / "notes.txt").write_text("")
    assert list(local.ids("draft")) == ["a1"]
    assert [document.doc_id for document in local.documents("draft")] == ["a1"]


def test_a_name_on_disk_that_is_not_utf8_is_passed_over(local: DocsStore, tmp_path: Path) -> None:
    local.write(draft())
    os.mkdir(os.fsencode(tmp_path / "docs" / "draft") + b"/\xff\xfe")
    assert list(local.ids("draft")) == ["a1"]


# --- a replace that was interrupted ----------------------------------------------------------------------------


def interrupted(store: DocsStore, *, new_in_place: bool) -> None:
    """Leave draft/a1 as a replace does that was killed behind its first, or its second rename."""
    stage = store.path("draft", "a1").parent
    store.write(draft())
    os.rename(stage / "a1", stage / ".old-a1")
    if new_in_place:
        other = DocsStore(stage.parent.parent / "other", durability="none")
        os.rename(other.write(draft(raw_text="twice")).path, stage / "a1")


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


def test_a_lock_that_is_swept_away_meanwhile_is_held_by_nobody(tmp_path: Path) -> None:
    assert not is_held(Directory(str(tmp_path)), "a1")


# --- calls that fail, or report a failure that was none --------------------------------------------------------


def failing(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[..., Any]) -> None:
    """Let `act(original, *args)` stand for os.<name> in the local home."""
    original = getattr(os, name)
    monkeypatch.setattr(
        f"docid.store.backends.local.backend.os.{name}", lambda *args, **options: act(original, *args, **options)
    )


@pytest.mark.parametrize("number", [errno.EIO, errno.EEXIST, errno.ENOENT], ids=errno.errorcode.get)
def test_a_rename_that_was_done_and_reported_failed_is_a_success(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def done_and_failed(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        rename(source, target, **where)
        if target == "a1":
            raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        failing(patch, "rename", done_and_failed)
        assert local.write(draft()).outcome is Outcome.CREATED
        assert local.write(draft(raw_text="twice"), if_exists="replace").outcome is Outcome.REPLACED
    assert local.read("draft", "a1", verify=True).raw_text == "twice"
    assert [document.raw_text for document in local.history("draft", "a1")] == ["once"]


def test_a_rename_that_finds_nothing_though_all_is_there_is_an_error(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    with monkeypatch.context() as patch:
        failing(patch, "rename", lost)
        with pytest.raises(FileNotFoundError, match=re.escape(str(local.path("draft", "a1")))):
            local.write(draft())
    assert names_in(local.path("draft", "a1").parent) == []


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free bytes or inodes"),
        (errno.EDQUOT, "free some of the user's quota"),
        (errno.EACCES, "look at the owner and the mode"),
        (errno.EROFS, "mount the file system for writing"),
        (errno.EIO, "look at the disk, in the system's log"),
        (errno.ENODEV, "No such device: {path!r}"),
    ],
    ids=lambda value: errno.errorcode.get(value, ""),
)
def test_what_the_file_system_refuses_is_said_with_the_path_and_what_to_do(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("docid.store.backends.local.directory.os.mkdir", refused)
    path = str(local.path("draft", "a1"))
    with pytest.raises(OSError, match=re.escape(remedy.format(path=path))) as caught:
        local.write(draft())
    assert caught.value.errno == number
    assert caught.value.filename == path
    if number == errno.EACCES:
        assert isinstance(caught.value, PermissionError)


@pytest.mark.parametrize("call", ["write", "rename", "mkdir"])
def test_a_full_disk_is_one_error_with_the_path_and_leaves_nothing(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    local.write(draft("b2"))

    def full(original: Callable[..., Any], *args: Any, **options: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        failing(patch, call, full)
        with pytest.raises(OSError, match=re.escape(str(local.path("draft", "a1")))) as caught:
            local.write(draft())
    assert caught.value.errno == errno.ENOSPC
    assert names_in(local.path("draft", "a1").parent) == ["b2"]
    assert local.write(draft()).outcome is Outcome.CREATED


def test_a_part_that_may_not_be_read_is_an_error_with_the_path(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.write(draft())

    def refused(original: Callable[..., int], path: str, *args: Any, **options: Any) -> int:
        if path == "raw.txt":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return original(path, *args, **options)

    failing(monkeypatch, "open", refused)
    with pytest.raises(PermissionError, match=re.escape(repr(str(local.path("draft", "a1"))))):
        local.read("draft", "a1")


@pytest.mark.parametrize("call", ["write", "rename"])
def test_a_part_that_cannot_be_added_leaves_nothing(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = local.write(draft()).path

    def full(original: Callable[..., Any], *args: Any, **options: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        failing(patch, call, full)
        with pytest.raises(OSError, match=re.escape(str(path))):
            local.add_part("draft", "a1", "parsed", "p")
    assert names_in(path) == ["metadata.json", "raw.txt"]
    assert list(local.history("draft", "a1")) == []
    assert local.add_part("draft", "a1", "parsed", "p").outcome is Outcome.COMPLETED


def test_an_added_part_whose_record_cannot_be_written_leaves_nothing(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = local.write(draft()).path

    def full(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        if target == "metadata.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target, **where)

    for _ in range(2):
        with monkeypatch.context() as patch:
            failing(patch, "rename", full)
            with pytest.raises(OSError, match="No space left"):
                local.add_part("draft", "a1", "parsed", "p")
        assert names_in(path) == ["metadata.json", "raw.txt"]
        assert list(local.history("draft", "a1")) == []


@pytest.mark.parametrize("seen", [True, False], ids=["seen by name", "seen by its record alone"])
def test_a_record_that_was_put_in_place_and_reported_failed_is_a_success(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch, seen: bool
) -> None:
    local.write(draft())
    done: list[str] = []

    def done_and_failed(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        rename(source, target, **where)
        if target == "metadata.json":
            done.append(target)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def stat_fails_once(stat: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if done and not seen:
            done.clear()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return stat(*args, **options)

    with monkeypatch.context() as patch:
        failing(patch, "rename", done_and_failed)
        failing(patch, "stat", stat_fails_once)
        assert local.add_part("draft", "a1", "parsed", "p").outcome is Outcome.COMPLETED
    assert local.read("draft", "a1", verify=True).parsed_text == "p"


def test_an_added_part_is_not_cleaned_away_while_nothing_can_be_read(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is in place, the rename said it failed, and reading fails too: its part has to stay."""
    local.write(draft())
    broken: list[str] = []

    def done_and_failed(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        rename(source, target, **where)
        if target == "metadata.json":
            broken.append(target)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def unreadable(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return call(*args, **options)

    with monkeypatch.context() as patch:
        failing(patch, "rename", done_and_failed)
        failing(patch, "read", unreadable)
        failing(patch, "stat", unreadable)
        with pytest.raises(OSError, match="Input/output"):
            local.add_part("draft", "a1", "parsed", "p")
    assert local.read("draft", "a1", verify=True).parsed_text == "p"
    assert [old.parsed_text for old in local.history("draft", "a1")] == [None]


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


def test_the_lock_file_of_another_user_is_no_obstacle(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft())

    def only_now(utime: Callable[..., None], where: Any, **options: Any) -> None:
        if options:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        utime(where)

    original = os.utime
    monkeypatch.setattr(os, "supports_fd", {*os.supports_fd})
    failing(monkeypatch, "utime", only_now)
    os.supports_fd.add(os.utime)
    assert local.write(draft(raw_text="twice"), if_exists="replace").outcome is Outcome.REPLACED
    assert original is not os.utime


@pytest.mark.parametrize("failures", [1, 2], ids=["first rename", "second rename"])
def test_a_replace_that_fails_leaves_the_old_one(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    local.write(draft())
    calls: list[str] = []

    def broken(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        calls.append(source)
        if len(calls) == failures:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target, **where)

    with monkeypatch.context() as patch:
        failing(patch, "rename", broken)
        with pytest.raises(OSError, match="Input/output"):
            local.write(draft(raw_text="twice"), if_exists="replace")
    assert local.read("draft", "a1", verify=True).raw_text == "once"
    assert names_in(local.path("draft", "a1").parent) == ["a1"]


def test_short_writes_are_continued(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, "write", lambda write, fd, data: write(fd, data[:7]))
    local.write(draft(raw_text="x" * 1000))
    assert local.read("draft", "a1", verify=True).raw_text == "x" * 1000


def test_short_reads_are_continued(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft(raw_text="x" * 1000))
    failing(monkeypatch, "read", lambda read, fd, size: read(fd, min(size, 7)))
    assert local.read("draft", "a1", verify=True).raw_text == "x" * 1000


def test_a_directory_that_cannot_be_synced_after_the_commit_has_an_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DocsStore(tmp_path / "docs")
    store.write(draft("b2"))
    stage = os.stat(tmp_path / "docs" / "draft")

    def broken(fsync: Callable[[int], None], fd: int) -> None:
        if os.path.samestat(os.fstat(fd), stage):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    with monkeypatch.context() as patch:
        failing(patch, "fsync", broken)
        with pytest.raises(DurabilityUnknown, match="it is there and whole"):
            store.write(draft())
    assert store.write(draft()).outcome is Outcome.UNCHANGED


@pytest.mark.parametrize(("durability", "synced"), [("full", True), ("none", False)])
def test_durability_is_what_is_synced(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    durability: Any,
    synced: bool,
) -> None:
    paths: set[str] = set()

    def noted(fsync: Callable[[int], None], fd: int) -> None:
        paths.add(re.sub("[0-9a-f]{16}", "…", os.readlink(f"/proc/self/fd/{fd}").removeprefix(str(tmp_path))))
        fsync(fd)

    failing(monkeypatch, "fsync", noted)
    store = DocsStore(tmp_path / "docs", durability=durability)
    store.write(draft(parsed_text="p"))
    temporary = "/docs/draft/.tmp-a1-…"
    files = {f"{temporary}/{name}" for name in ("raw.txt", "parsed.txt", "metadata.json")}
    assert paths == ({"", "/docs", "/docs/draft", temporary, *files} if synced else set())


# --- two at once -----------------------------------------------------------------------------------------------


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


def test_a_lock_whose_file_was_swept_away_is_taken_again(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft())
    stage = local.path("draft", "a1").parent
    swept: list[int] = []

    def sweep(flock: Callable[..., None], fd: int, how: int) -> None:
        flock(fd, how)
        if not swept:
            swept.append(fd)
            (stage / ".lock-a1").unlink()

    original = fcntl.flock
    monkeypatch.setattr("docid.store.backends.local.locks.fcntl.flock", lambda fd, how: sweep(original, fd, how))
    assert local.add_part("draft", "a1", "parsed", "p").outcome is Outcome.COMPLETED
    assert swept
    assert (stage / ".lock-a1").exists()


def test_changes_of_one_document_by_many_threads_are_all_in_its_history(local: DocsStore) -> None:
    local.write(draft(raw_text="-1"))
    threads = [
        threading.Thread(target=lambda n=n: local.write(draft(raw_text=f"{n}"), if_exists="replace")) for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = [local.read("draft", "a1").raw_text, *(old.raw_text for old in local.history("draft", "a1"))]
    assert sorted(texts, key=int) == [f"{n}" for n in range(-1, 12)]


RACE = """
import sys
from docid import DocsStore, Document, LineageConflict
store = DocsStore(sys.argv[1], durability="none")
sys.stdin.readline()
won = []
for turn in range(100):
    document = Document(stage="draft", doc_id=f"d{turn}", task_id=sys.argv[2], raw_text=sys.argv[2] * 1000)
    try:
        store.write(document)
        won.append(turn)
    except LineageConflict:
        assert store.read("draft", f"d{turn}", verify=True).task_id != sys.argv[2]
print(*won)
"""


def test_of_processes_that_race_for_an_id_one_wins(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(tmp_path / "docs"), f"task-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    won = [[int(turn) for turn in process.communicate()[0].split()] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert sorted(turn for each in won for turn in each) == list(range(100))
    store = DocsStore(tmp_path / "docs")
    for number, turns in enumerate(won):
        for turn in turns:
            assert store.read("draft", f"d{turn}", verify=True).raw_text == f"task-{number}" * 1000
    assert len(names_in(tmp_path / "docs" / "draft")) == 100


# --- temporary directories and sweeps --------------------------------------------------------------------------


def swept(stage: Path, turns: int) -> Callable[[], None]:
    """Return what moves the temporary directories of a stage away, the first times that it is called."""
    left = [turns]

    def sweep() -> None:
        for name in os.listdir(stage):
            if name.startswith(".tmp-") and left[0]:
                left[0] -= 1
                os.rename(stage / name, stage.parent / f"swept{name}")

    return sweep


def test_a_temporary_directory_is_locked_while_it_is_written(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = local.path("draft", "a1").parent
    probes: list[str] = []

    def probe(write: Callable[..., int], fd: int, data: bytes) -> int:
        [name] = [name for name in os.listdir(stage) if name.startswith(".tmp-")]
        directory = os.open(stage / name, os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            probes.append("held")
        os.close(directory)
        return write(fd, data)

    with monkeypatch.context() as patch:
        failing(patch, "write", probe)
        local.write(draft())
        local.write(draft(raw_text="twice"), if_exists="replace")
    assert probes == ["held"] * 4


@pytest.mark.parametrize("moment", ["made", "locked", "filled", "renamed"])
def test_a_writer_whose_temporary_directory_was_swept_away_starts_again(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """As it can happen between its making and its lock; and later where a lock is local to one client of NFS."""
    local.write(draft("b2"))
    stage = local.path("draft", "a1").parent
    sweep = swept(stage, turns=3)

    def before(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if moment != "renamed" or args[1] == "a1":
            sweep()
        return call(*args, **options)

    def after_mkdir(mkdir: Callable[..., None], *args: Any, **options: Any) -> None:
        mkdir(*args, **options)
        sweep()

    with monkeypatch.context() as patch:
        if moment == "made":
            failing(patch, "mkdir", after_mkdir)
        elif moment == "locked":
            flock = fcntl.flock
            patch.setattr("docid.store.backends.local.locks.fcntl.flock", lambda *args: before(flock, *args))
        else:
            failing(patch, {"filled": "write", "renamed": "rename"}[moment], before)
        assert local.write(draft()).outcome is Outcome.CREATED
    assert names_in(stage) == ["a1", "b2"]
    assert local.read("draft", "a1", verify=True) == draft(created_at=local.open("draft", "a1").created_at)
    sweep = swept(stage, turns=1)
    with monkeypatch.context() as patch:
        if moment in {"filled", "renamed"}:
            failing(patch, {"filled": "write", "renamed": "rename"}[moment], before)
        assert local.write(draft(raw_text="twice"), if_exists="replace").outcome is Outcome.REPLACED
    assert names_in(stage) == ["a1", "b2"]


@pytest.mark.parametrize("moment", ["mkdir", "write"])
def test_a_writer_that_is_swept_away_all_the_time_says_so(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    local.write(draft("b2"))
    stage = local.path("draft", "a1").parent
    sweep = swept(stage, turns=1000)

    def act(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        result = call(*args, **options)
        sweep()
        return result

    with monkeypatch.context() as patch:
        failing(patch, moment, act)
        with pytest.raises(OSError, match="again and again") as caught:
            local.write(draft())
    assert caught.value.errno == errno.EBUSY
    assert names_in(stage) == ["b2"]


def test_a_temporary_directory_that_cannot_be_opened_is_removed(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(original: Callable[..., int], path: str, *args: Any, **options: Any) -> int:
        if str(path).startswith(".tmp-"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return original(path, *args, **options)

    with monkeypatch.context() as patch:
        failing(patch, "open", refused)
        told = f"Too many open files; raise the limit on open files (ulimit -n): {str(local.path('draft', 'a1'))!r}"
        with pytest.raises(OSError, match=re.escape(told)):
            local.write(draft())
    assert names_in(local.path("draft", "a1").parent) == []


def test_a_file_system_without_locks_is_written_to_but_not_changed(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("docid.store.backends.local.locks.fcntl.flock", no_locks)
    assert local.write(draft()).outcome is Outcome.CREATED
    with pytest.raises(OSError, match="changing a document needs a file system with locks"):
        local.write(draft(raw_text="twice"), if_exists="replace")
    assert local.read("draft", "a1").raw_text == "once"
    # A lock that somebody left is no obstacle to a create, nor to a reader.
    (local.path("draft", "a1").parent / ".lock-b2").touch()
    assert not local.exists("draft", "b2")
    assert local.write(draft("b2")).outcome is Outcome.CREATED


def test_a_create_that_cannot_see_whether_it_got_its_id_says_that_it_is_there(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed: list[str] = []

    def rename(call: Callable[..., None], source: str, target: str, **where: Any) -> None:
        call(source, target, **where)
        renamed.append(target)

    def blind(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if renamed:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return call(*args, **options)

    with monkeypatch.context() as patch:
        failing(patch, "rename", rename)
        failing(patch, "stat", blind)
        with pytest.raises(DurabilityUnknown, match="what has to follow failed .*Input/output error"):
            local.write(draft("b2"))
    assert local.exists("draft", "b2")


def test_a_lock_that_is_held_for_ever_does_not_hang_a_reader(local: DocsStore) -> None:
    local.write(draft())
    held = os.open(local.path("draft", "b2").parent / ".lock-b2", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert not local.exists("draft", "b2")
    os.close(held)
    assert not local.exists("draft", "b2")


@pytest.mark.parametrize("lack", ["an old kernel", "no such call", "another file system", "no error", "an error"])
def test_one_sync_of_all_is_trusted_where_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lack: str) -> None:
    class Libc:
        def __init__(self, *_: object, **__: object) -> None:
            if lack != "no such call":
                self.syncfs = self._syncfs

        def fstatfs(self, fd: int, status: Any) -> int:
            status[0:8] = (0x6969 if lack == "another file system" else 0xEF53).to_bytes(8, sys.byteorder)
            return 0

        def _syncfs(self, fd: int) -> int:
            ctypes.set_errno(errno.EIO)
            return -1 if lack == "an error" else 0

    uname = os.uname()
    release = "5.4.0-generic" if lack == "an old kernel" else "6.1.0"
    monkeypatch.setattr(os, "uname", lambda: type(uname)((*uname[:2], release, *uname[3:])))
    monkeypatch.setattr(ctypes, "CDLL", Libc)
    with Directory(str(tmp_path)) as directory:
        if lack == "an error":
            with pytest.raises(OSError, match="Input/output error"):
                directory.sync_all()
        else:
            assert directory.can_sync_all() == (lack == "no error")
            if lack == "no error":
                directory.sync_all()


# --- history ---------------------------------------------------------------------------------------------------


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
    with pytest.raises(UnreadableDocument, match=r"\.docid is no directory"):
        local.write(draft(raw_text="twice"), if_exists="replace")
    with pytest.raises(UnreadableDocument, match=r"\.docid is no directory"):
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


def test_a_directory_removed_while_it_is_being_made_is_an_error_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docid.store.backends.local.backend.os.mkdir", lambda *_: None)
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "docs"))):
        LocalBackend(tmp_path / "docs", durability="none").create("draft", "a1", b"{}", {})


def test_a_root_that_cannot_be_looked_at_ends_at_the_top(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "isdir", lambda _: False)
    with pytest.raises(OSError, match="."):
        LocalBackend("/proc/nothing/docs").create("draft", "a1", b"{}", {})


def test_what_vanishes_while_it_is_looked_at_does_not_take_an_id(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = local.path("draft", "a1").parent
    (stage / "a1").mkdir(parents=True)
    sub = Directory.sub

    def vanished(directory: Directory, name: str) -> Directory:
        if name == "a1":
            os.rmdir(stage / "a1")
        return sub(directory, name)

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "sub", vanished)
        assert local.backend.create("draft", "a1", b"{}", {})


# --- what an interrupt, another user or another mount leaves ----------------------------------------------------


def test_a_lock_that_nobody_knows_any_more_is_given_back(local: DocsStore) -> None:
    local.write(draft())
    with Directory(str(local.path("draft", "a1").parent)) as stage:
        lock = _Lock(stage, ".lock-a1")
        fcntl.flock(lock.fd, fcntl.LOCK_EX)
        assert is_held(stage, "a1")
        del lock
        assert not is_held(stage, "a1")


def test_the_lock_file_of_another_user_is_locked_by_reading_it(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.write(draft())
    (local.path("draft", "a1").parent / ".lock-a1").touch()

    def refused(original: Callable[..., int], path: str, flags: int, *args: Any, **options: Any) -> int:
        if str(path).startswith(".lock-") and flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return original(path, flags, *args, **options)

    failing(monkeypatch, "open", refused)
    assert local.add_part("draft", "a1", "parsed", "p").outcome is Outcome.COMPLETED
    local.write(draft("b2"))
    with pytest.raises(PermissionError, match="look at the owner"):
        local.add_part("draft", "b2", "parsed", "p")


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


def test_a_listing_that_fails_is_an_error_with_the_path(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.listdir` of a descriptor names the descriptor in its error."""
    (local.path("draft", "a1")).mkdir(parents=True)

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), 3)

    with monkeypatch.context() as patch:
        failing(patch, "listdir", broken)
        with pytest.raises(OSError, match=re.escape(str(local.path("draft", "a1")))):
            local.read("draft", "a1")
    with monkeypatch.context() as patch:
        failing(patch, "scandir", broken)
        with pytest.raises(OSError, match=re.escape(str(local.path("draft", "a1").parent))):
            list(local.ids("draft"))


def test_a_stage_on_another_file_system_than_history_is_not_changed(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.write(draft())
    with monkeypatch.context() as patch:
        patch.setattr(Directory, "is_beside", lambda *_: False)
        with pytest.raises(OSError, match="have all of a store on one file system"):
            local.write(draft(raw_text="twice"), if_exists="replace")
    assert local.read("draft", "a1").raw_text == "once"
    assert names_in(local.path("draft", "a1").parent) == ["a1"]


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


def test_a_lock_does_not_stay_with_a_process_that_was_forked_meanwhile(local: DocsStore) -> None:
    local.write(draft())
    with Directory(str(local.path("draft", "a1").parent)) as stage:
        with hold_lock(stage, "a1"):
            child = os.fork()
            if not child:
                signal.pause()
                os._exit(0)
        try:
            assert not is_held(stage, "a1")
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_a_root_that_is_a_link_to_what_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to("/nowhere/mounted")
    with pytest.raises(FileNotFoundError, match="a symbolic link to what is not there .is it mounted"):
        DocsStore(tmp_path / "docs").write(draft())


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


def test_another_durability_is_refused() -> None:
    with pytest.raises(ValueError, match=r"durability: expected 'full' or 'none', got 'some'"):
        LocalBackend("docs", durability="some")  # type: ignore[arg-type]

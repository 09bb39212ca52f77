"""Calls of the file system that fail, or report a failure that was none."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, DurabilityUnknown, Outcome
from docid.backends import LocalBackend
from docid.store.backends.local.directory import Directory
from tests.local_documents import draft, failing, names_in


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
        (errno.ENOSPC, "free disk space or inodes"),
        (errno.EDQUOT, "free some of the user's quota"),
        (errno.EACCES, "check the owner and the mode"),
        (errno.EROFS, "mount the file system for writing"),
        (errno.EIO, "check the disk and the system log"),
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
        with pytest.raises(DurabilityUnknown, match="It is complete"):
            store.write(draft())
    assert store.write(draft()).outcome is Outcome.UNCHANGED


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
        with pytest.raises(DurabilityUnknown, match="a later step failed .*Input/output error"):
            local.write(draft("b2"))
    assert local.exists("draft", "b2")


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
        with pytest.raises(OSError, match="keep the whole store on one file system"):
            local.write(draft(raw_text="twice"), if_exists="replace")
    assert local.read("draft", "a1").raw_text == "once"
    assert names_in(local.path("draft", "a1").parent) == ["a1"]

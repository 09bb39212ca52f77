"""File system calls that fail, or that succeed and report a failure."""

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
from tests.local_documents import draft, names_in, patch_os


@pytest.mark.parametrize("number", [errno.EIO, errno.EEXIST, errno.ENOENT], ids=errno.errorcode.get)
def test_rename_that_reports_false_failure_is_a_success(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def rename_and_fail(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        rename(source, target, **where)
        if target == "a1":
            raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch_os(patch, "rename", rename_and_fail)
        assert local.write(draft()).outcome is Outcome.CREATED
        assert local.write(draft(raw_text="twice"), if_exists="replace").outcome is Outcome.REPLACED
    assert local.read("draft", "a1", verify=True).raw_text == "twice"
    assert [document.raw_text for document in local.history("draft", "a1")] == ["once"]


def test_rename_that_finds_no_file_raises(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_not_found(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    with monkeypatch.context() as patch:
        patch_os(patch, "rename", raise_not_found)
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
def test_os_error_names_path_and_remedy(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("docid.store.backends.local.directory.os.mkdir", refuse)
    path = str(local.path("draft", "a1"))
    with pytest.raises(OSError, match=re.escape(remedy.format(path=path))) as caught:
        local.write(draft())
    assert caught.value.errno == number
    assert caught.value.filename == path
    if number == errno.EACCES:
        assert isinstance(caught.value, PermissionError)


@pytest.mark.parametrize("call", ["write", "rename", "mkdir"])
def test_full_disk_raises_and_leaves_nothing(local: DocsStore, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    local.write(draft("b2"))

    def raise_disk_full(original: Callable[..., Any], *args: Any, **options: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch_os(patch, call, raise_disk_full)
        with pytest.raises(OSError, match=re.escape(str(local.path("draft", "a1")))) as caught:
            local.write(draft())
    assert caught.value.errno == errno.ENOSPC
    assert names_in(local.path("draft", "a1").parent) == ["b2"]
    assert local.write(draft()).outcome is Outcome.CREATED


def test_unreadable_part_raises_with_path(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft())

    def refuse(original: Callable[..., int], path: str, *args: Any, **options: Any) -> int:
        if path == "raw.txt":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return original(path, *args, **options)

    patch_os(monkeypatch, "open", refuse)
    with pytest.raises(PermissionError, match=re.escape(repr(str(local.path("draft", "a1"))))):
        local.read("draft", "a1")


@pytest.mark.parametrize("call", ["write", "rename"])
def test_failed_add_part_leaves_nothing(local: DocsStore, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = local.write(draft()).path

    def raise_disk_full(original: Callable[..., Any], *args: Any, **options: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch_os(patch, call, raise_disk_full)
        with pytest.raises(OSError, match=re.escape(str(path))):
            local.add_part("draft", "a1", "parsed", "p")
    assert names_in(path) == ["metadata.json", "raw.txt"]
    assert list(local.history("draft", "a1")) == []
    assert local.add_part("draft", "a1", "parsed", "p").outcome is Outcome.COMPLETED


def test_add_part_without_room_for_record_leaves_nothing(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    path = local.write(draft()).path

    def raise_disk_full(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        if target == "metadata.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target, **where)

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch_os(patch, "rename", raise_disk_full)
            with pytest.raises(OSError, match="No space left"):
                local.add_part("draft", "a1", "parsed", "p")
        assert names_in(path) == ["metadata.json", "raw.txt"]
        assert list(local.history("draft", "a1")) == []


@pytest.mark.parametrize("seen", [True, False], ids=["stat works", "stat fails"])
def test_add_part_with_false_failure_is_a_success(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch, seen: bool
) -> None:
    local.write(draft())
    done: list[str] = []

    def rename_and_fail(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
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
        patch_os(patch, "rename", rename_and_fail)
        patch_os(patch, "stat", stat_fails_once)
        assert local.add_part("draft", "a1", "parsed", "p").outcome is Outcome.COMPLETED
    assert local.read("draft", "a1", verify=True).parsed_text == "p"


def test_added_part_stays_if_reads_fail(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is in place, but its rename reports a failure, and reads fail too: the new part must stay."""
    local.write(draft())
    broken: list[str] = []

    def rename_and_fail(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        rename(source, target, **where)
        if target == "metadata.json":
            broken.append(target)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def fail_if_broken(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return call(*args, **options)

    with monkeypatch.context() as patch:
        patch_os(patch, "rename", rename_and_fail)
        patch_os(patch, "read", fail_if_broken)
        patch_os(patch, "stat", fail_if_broken)
        with pytest.raises(OSError, match="Input/output"):
            local.add_part("draft", "a1", "parsed", "p")
    assert local.read("draft", "a1", verify=True).parsed_text == "p"
    assert [old.parsed_text for old in local.history("draft", "a1")] == [None]


@pytest.mark.parametrize("failures", [1, 2, 3], ids=["first rename", "second rename", "third rename"])
def test_failed_replace_keeps_old_version(local: DocsStore, monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    local.write(draft())
    calls: list[str] = []

    def fail_once(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        calls.append(source)
        if len(calls) == failures:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target, **where)

    with monkeypatch.context() as patch:
        patch_os(patch, "rename", fail_once)
        with pytest.raises(OSError, match="Input/output"):
            local.write(draft(raw_text="twice"), if_exists="replace")
    assert local.read("draft", "a1", verify=True).raw_text == "once"
    assert names_in(local.path("draft", "a1").parent) == ["a1"]


def test_short_writes_are_continued(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    patch_os(monkeypatch, "write", lambda write, fd, data: write(fd, data[:7]))
    local.write(draft(raw_text="x" * 1000))
    assert local.read("draft", "a1", verify=True).raw_text == "x" * 1000


def test_short_reads_are_continued(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft(raw_text="x" * 1000))
    patch_os(monkeypatch, "read", lambda read, fd, size: read(fd, min(size, 7)))
    assert local.read("draft", "a1", verify=True).raw_text == "x" * 1000


def test_failed_sync_after_commit_raises_durability_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DocsStore(tmp_path / "docs")
    store.write(draft("b2"))
    stage = os.stat(tmp_path / "docs" / "draft")

    def fail_for_stage(fsync: Callable[[int], None], fd: int) -> None:
        if os.path.samestat(os.fstat(fd), stage):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    with monkeypatch.context() as patch:
        patch_os(patch, "fsync", fail_for_stage)
        with pytest.raises(DurabilityUnknown, match="is complete"):
            store.write(draft())
    assert store.write(draft()).outcome is Outcome.UNCHANGED


def test_failed_check_after_commit_raises_durability_unknown(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.manifest.record()
    renamed: list[str] = []

    def rename(call: Callable[..., None], source: str, target: str, **where: Any) -> None:
        call(source, target, **where)
        renamed.append(target)

    def fail_after_rename(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if renamed:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return call(*args, **options)

    with monkeypatch.context() as patch:
        patch_os(patch, "rename", rename)
        patch_os(patch, "stat", fail_after_rename)
        with pytest.raises(DurabilityUnknown, match="a later step failed .*Input/output error"):
            local.write(draft("b2"))
    assert local.exists("draft", "b2")


def test_directory_removed_during_create_raises_with_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docid.store.backends.local.backend.os.mkdir", lambda *_: None)
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "docs"))):
        LocalBackend(tmp_path / "docs", durability="none").create("draft", "a1", b"{}", {})


def test_root_without_existing_parent_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "isdir", lambda _: False)
    with pytest.raises(OSError, match="."):
        LocalBackend("/proc/nothing/docs").create("draft", "a1", b"{}", {})


def test_failed_listing_raises_with_path(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of `os.listdir(fd)` names the descriptor, not the path."""
    (local.path("draft", "a1")).mkdir(parents=True)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), 3)

    with monkeypatch.context() as patch:
        patch_os(patch, "listdir", fail)
        with pytest.raises(OSError, match=re.escape(str(local.path("draft", "a1")))):
            local.read("draft", "a1")
    with monkeypatch.context() as patch:
        patch_os(patch, "scandir", fail)
        with pytest.raises(OSError, match=re.escape(str(local.path("draft", "a1").parent))):
            list(local.ids("draft"))


def test_stage_and_history_on_two_file_systems_are_refused(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft())
    with monkeypatch.context() as patch:
        patch.setattr(Directory, "is_beside", lambda *_: False)
        with pytest.raises(OSError, match="keep the whole store on one file system"):
            local.write(draft(raw_text="twice"), if_exists="replace")
    assert local.read("draft", "a1").raw_text == "once"
    assert names_in(local.path("draft", "a1").parent) == ["a1"]

"""Documents on a file system: files, names and links, and directory entries that are not documents."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import shutil
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, DraftTask, LineageConflict, Outcome, UnreadableDocument, audit
from docid.backends import LocalBackend
from docid.repair import repair
from docid.store.backends.local.directory import Directory
from tests.local_documents import draft, names_in, patch_os


def test_document_is_a_directory_of_plain_files(tmp_path: Path) -> None:
    store = DocsStore(tmp_path / "deep" / "docs")
    result = store.write(draft(raw_text="a\r\nb\rc\n", parsed_text="é", prompt_text=""))
    assert result.path == tmp_path / "deep" / "docs" / "draft" / "a1"
    assert names_in(result.path) == ["metadata.json", "parsed.txt", "prompt.txt", "raw.txt"]
    assert (result.path / "raw.txt").read_bytes() == b"a\r\nb\rc\n"
    assert (result.path / "parsed.txt").read_bytes() == "é".encode()
    assert (result.path / "prompt.txt").read_bytes() == b""
    assert names_in(tmp_path / "deep" / "docs" / "draft") == ["a1"]


def test_files_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = DocsStore(tmp_path / "docs").write(draft()).path
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    assert stat.S_IMODE((path / "raw.txt").stat().st_mode) == 0o640


def test_root_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "docs").symlink_to("real")
    DocsStore(tmp_path / "docs").write(draft())
    assert (tmp_path / "real" / "draft" / "a1" / "raw.txt").read_text() == "once"


def test_link_as_stage_or_document_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "a1").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "draft").symlink_to(tmp_path / "elsewhere")
    store = DocsStore(tmp_path / "docs")
    for act in (lambda: store.write(draft("b2")), lambda: store.read("draft", "a1")):
        with pytest.raises(UnreadableDocument, match=r"draft is a symbolic link; replace it by a directory"):
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


def test_link_as_part_is_not_followed(local: DocsStore, tmp_path: Path) -> None:
    path = local.write(draft()).path
    (tmp_path / "secret").write_text("none")
    (path / "raw.txt").unlink()
    (path / "raw.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(UnreadableDocument, match=r"raw\.txt is not a file"):
        local.read("draft", "a1")


def test_link_as_stage_is_not_listed(local: DocsStore, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "draft").symlink_to(tmp_path)
    with pytest.raises(UnreadableDocument, match="draft is a symbolic link"):
        list(local.ids("draft"))


def put_other_entry(kind: str, path: Path) -> None:
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
            previous = os.getcwd()
            os.chdir(path)  # the path of a socket has at most 107 bytes
            try:
                server.bind("metadata.json")
            finally:
                os.chdir(previous)
    elif kind == "record a pipe":
        path.mkdir()
        os.mkfifo(path / "metadata.json")


def test_open_pipe_as_record_is_refused(local: DocsStore) -> None:
    path = local.path("draft", "a1")
    put_other_entry("record a pipe", path)
    pipe = os.open(path / "metadata.json", os.O_RDWR | os.O_NONBLOCK)
    for data in (b"", b"{", b"x" * 65_536):
        os.write(pipe, data)
        with pytest.raises(UnreadableDocument, match=r"metadata\.json is not a file"):
            local.read("draft", "a1")
    os.close(pipe)


@pytest.mark.parametrize(
    "kind",
    ["file", "pipe", "no record", "record a directory", "record a pipe", "record a link", "record a socket"],
)
def test_other_entry_is_reported_and_left_alone(local: DocsStore, kind: str) -> None:
    path = local.path("draft", "a1")
    put_other_entry(kind, path)
    for act in (lambda: local.write(draft()), lambda: local.read("draft", "a1"), lambda: local.open("draft", "a1")):
        with pytest.raises(UnreadableDocument, match=r"not a directory|no metadata\.json|is not a file") as caught:
            act()
        assert str(path) in str(caught.value)
    assert not local.exists("draft", "a1")
    assert names_in(path.parent) == ["a1"]


def test_uncommitted_directory_points_to_repair(local: DocsStore) -> None:
    put_other_entry("no record", local.path("draft", "a1"))
    with pytest.raises(UnreadableDocument, match=r"the directory has no metadata\.json.*docid repair"):
        local.write(draft())


def test_empty_directory_takes_no_id(local: DocsStore) -> None:
    local.path("draft", "a1").mkdir(parents=True)
    assert not local.exists("draft", "a1")
    assert local.write(draft()).outcome is Outcome.CREATED
    assert local.read("draft", "a1").raw_text == "once"


JUNK = [".DS_Store", "._raw.txt", "@eaDir", "Thumbs.db", "desktop.ini", "Desktop.ini"]


def put_junk(directory: Path, names: list[str] = JUNK) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name == "@eaDir":
            (directory / name).mkdir()
            (directory / name / "SYNOINDEX").write_text("thumbnail")
        else:
            (directory / name).write_text("icon")


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("names", [*([name] for name in JUNK), JUNK], ids=repr)
def test_directory_with_only_junk_takes_no_id(tmp_path: Path, names: list[str], batched: bool) -> None:
    store = DocsStore(tmp_path / "docs")
    put_junk(store.path("draft", "a1"), names)
    assert not store.exists("draft", "a1")
    row = DraftTask(task_id="t-1", doc_id="a1")
    assert audit(store, {"draft": [row]}, stale_after=0).stages["draft"].pending == 1
    assert audit(store, stale_after=0).findings == ()
    if batched:
        assert {each.outcome for each in store.write_many([draft(), draft("b2")])} == {Outcome.CREATED}
    else:
        assert store.write(draft()).outcome is Outcome.CREATED
    assert store.read("draft", "a1", verify=True).raw_text == "once"
    assert names_in(store.path("draft", "a1")) == ["metadata.json", "raw.txt"]
    assert list(repair(store, stale_after=0)) == []


def test_junk_beside_other_files_takes_the_id(local: DocsStore) -> None:
    path = local.path("draft", "a1")
    put_junk(path)
    (path / "notes.txt").write_text("mine")
    with pytest.raises(UnreadableDocument, match=r"the directory has no metadata\.json"):
        local.write(draft())
    assert names_in(path) == sorted([*JUNK, "notes.txt"])


def test_junk_in_a_store_is_no_finding(local: DocsStore, tmp_path: Path) -> None:
    local.write(draft())
    put_junk(tmp_path / "docs")
    put_junk(tmp_path / "docs" / "draft")
    put_junk(local.path("draft", "a1"))
    assert audit(local, verify=True, stale_after=0).findings == ()
    assert local.read("draft", "a1", verify=True).raw_text == "once"
    assert local.write(draft(raw_text="twice"), if_exists="replace").outcome is Outcome.REPLACED
    assert [old.raw_text for old in local.history("draft", "a1")] == ["once"]


def test_junk_that_vanishes_does_not_hinder_a_write(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    path = local.path("draft", "a1")
    put_junk(path, [".DS_Store", "Thumbs.db"])
    names = Directory.names

    def list_and_remove(directory: Directory) -> list[str]:
        found = names(directory)
        if ".DS_Store" in found and directory.path == str(path):
            (path / ".DS_Store").unlink()
        return [*found, ".DS_Store"] if "Thumbs.db" in found else found

    monkeypatch.setattr(Directory, "names", list_and_remove)
    assert local.write(draft()).outcome is Outcome.CREATED


def test_directory_that_vanishes_after_a_refused_rename_is_no_junk(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a create that used the gap of a replace withdrew at this moment."""
    refused = iter([True])

    def refuse_once(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        if target == "a1" and next(refused, False):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        rename(source, target, **where)

    patch_os(monkeypatch, "rename", refuse_once)
    assert local.write(draft()).outcome is Outcome.CREATED


def test_document_that_takes_the_place_of_junk_stays(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    path = local.path("draft", "a1")
    put_junk(path, [".DS_Store"])
    names = Directory.names
    turn = iter(range(10))

    def list_and_lose(directory: Directory) -> list[str]:
        found = names(directory)
        if found == [".DS_Store"] and next(turn) == 1:  # after the check, before the junk is moved
            shutil.rmtree(path)
            DocsStore(local.root).write(draft(task_id="t-2"))
            (path / ".DS_Store").write_text("icon")
        return found

    monkeypatch.setattr(Directory, "names", list_and_lose)
    with pytest.raises(LineageConflict):
        local.write(draft())
    assert next(turn) == 2
    assert local.read("draft", "a1", verify=True).task_id == "t-2"
    assert names_in(path.parent) == ["a1"]


def test_file_as_stage_is_reported(local: DocsStore, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "draft").write_text("")
    for act in (lambda: local.write(draft()), lambda: local.read("draft", "a1")):
        with pytest.raises(UnreadableDocument, match="draft is not a directory; check what it is"):
            act()


def test_file_as_root_is_reported(tmp_path: Path) -> None:
    (tmp_path / "docs").write_text("")
    with pytest.raises(UnreadableDocument, match=re.escape(f"{tmp_path / 'docs'} is not a directory")):
        DocsStore(tmp_path / "docs").write(draft())


def test_ids_lists_only_documents(local: DocsStore, tmp_path: Path) -> None:
    local.write(draft())
    stage = tmp_path / "docs" / "draft"
    for name in (".tmp-b2-00", ".lock-b2", "UPPER", "a.b", "con", "x" * 65, ".old-..", ".old-a1"):
        (stage / name).mkdir()
    (stage / "b2").write_text("a file")
    (stage / "notes.txt").write_text("")
    assert list(local.ids("draft")) == ["a1"]
    assert [document.doc_id for document in local.documents("draft")] == ["a1"]


def test_ids_skips_names_that_are_not_utf8(local: DocsStore, tmp_path: Path) -> None:
    local.write(draft())
    os.mkdir(os.fsencode(tmp_path / "docs" / "draft") + b"/\xff\xfe")
    assert list(local.ids("draft")) == ["a1"]


@pytest.mark.parametrize(("durability", "synced"), [("full", True), ("none", False)])
def test_durability_decides_what_is_synced(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    durability: Any,
    synced: bool,
) -> None:
    paths: set[str] = set()

    def record_path(fsync: Callable[[int], None], fd: int) -> None:
        paths.add(re.sub("[0-9a-f]{16}", "…", os.readlink(f"/proc/self/fd/{fd}").removeprefix(str(tmp_path))))
        fsync(fd)

    patch_os(monkeypatch, "fsync", record_path)
    store = DocsStore(tmp_path / "docs", durability=durability)
    store.write(draft(parsed_text="p"))
    temporary = "/docs/draft/.tmp-a1-…"
    files = {f"{temporary}/{name}" for name in ("raw.txt", "parsed.txt", "metadata.json")}
    manifest = {"/docs/.docid", "/docs/.docid/.tmp-store.json"}
    assert paths == ({"", "/docs", "/docs/draft", temporary, *files, *manifest} if synced else set())


@pytest.mark.parametrize("lack", ["an old kernel", "no such call", "another file system", "no error", "an error"])
def test_sync_all_is_used_only_where_reliable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lack: str) -> None:
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


def test_vanishing_directory_takes_no_id(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = local.path("draft", "a1").parent
    (stage / "a1").mkdir(parents=True)
    sub = Directory.sub

    def remove_and_open(directory: Directory, name: str) -> Directory:
        if name == "a1":
            os.rmdir(stage / "a1")
        return sub(directory, name)

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "sub", remove_and_open)
        assert local.backend.create("draft", "a1", b"{}", {})


def test_broken_link_as_root_is_reported(tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to("/nowhere/mounted")
    with pytest.raises(FileNotFoundError, match="a symbolic link to a missing directory .is it mounted"):
        DocsStore(tmp_path / "docs").write(draft())


def test_unknown_durability_is_refused() -> None:
    with pytest.raises(ValueError, match=r"durability: expected 'full' or 'none', got 'some'"):
        LocalBackend("docs", durability="some")  # type: ignore[arg-type]

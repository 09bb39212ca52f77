"""What a store needs from users and file systems: permissions, modes, syncs and renames that are refused."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, DraftTask, Outcome, write_tasks
from docid.repair import repair
from docid.store.backends.local.directory import Directory, share
from tests.local_documents import draft, interrupt_replace, names_in, patch_os

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs users and modes")


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def refuse(monkeypatch: pytest.MonkeyPatch, call: str, place: Path, number: int = errno.EACCES) -> None:
    """Let a call on any name in a directory fail, as for a user who may not write there; access(2) agrees."""
    status = place.stat()

    def fail(original: Callable[..., Any], *args: Any, **options: Any) -> Any:
        fd = options.get("dir_fd", options.get("dst_dir_fd"))
        if fd is not None and os.path.samestat(os.fstat(fd), status):
            raise OSError(number, os.strerror(number), args[0])
        return original(*args, **options)

    def deny(access: Callable[..., bool], name: str, mode: int, *, dir_fd: int) -> bool:
        return not os.path.samestat(os.stat(name, dir_fd=dir_fd), status) and access(name, mode, dir_fd=dir_fd)

    patch_os(monkeypatch, call, fail)
    patch_os(monkeypatch, "access", deny)


@pytest.mark.parametrize("place", ["draft", "draft/a1", ".docid/history/draft/a1"])
def test_replace_tests_all_it_needs_before_its_first_rename(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    local.write(draft())
    local.write(draft(raw_text="twice"), if_exists="replace")
    refusing = local.path("draft", "a1").parent.parent / place
    with monkeypatch.context() as patch:
        refuse(patch, "mkdir", refusing)
        patch_os(patch, "rename", lambda *_, **__: pytest.fail("renamed"))
        with pytest.raises(PermissionError, match="check the owner and the mode of this path") as caught:
            local.write(draft(raw_text="thrice"), if_exists="replace")
    assert caught.value.filename == str(refusing)
    assert names_in(local.path("draft", "a1").parent) == ["a1"]
    assert local.read("draft", "a1").raw_text == "twice"


def test_replace_tries_if_access_is_wrong(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft())
    patch_os(monkeypatch, "access", lambda *_, **__: False)
    assert local.write(draft(raw_text="twice"), if_exists="replace").outcome is Outcome.REPLACED
    assert sorted(os.listdir(local.path("draft", "a1"))) == ["metadata.json", "raw.txt"]


@pytest.mark.parametrize("refusing", ["draft", ".docid/history/draft/a1", "draft/a1"])
def test_refused_rename_names_the_directory(
    local: DocsStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusing: str
) -> None:
    local.write(draft())
    local.write(draft(raw_text="twice"), if_exists="replace")
    root = tmp_path / "docs"
    status = (root / refusing).stat()

    def deny(access: Callable[..., bool], name: str, mode: int, *, dir_fd: int) -> bool:
        return not os.path.samestat(os.stat(name, dir_fd=dir_fd), status)

    def fail(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "a1")

    patch_os(monkeypatch, "access", deny)
    patch_os(monkeypatch, "rename", fail)
    with Directory(f"{root}/draft") as stage, Directory(f"{root}/.docid/history/draft/a1") as history:
        with pytest.raises(PermissionError) as caught:
            stage.rename("a1", "20260101", history)
        assert caught.value.filename == str(root / refusing)
        with pytest.raises(PermissionError) as caught:
            stage.rename("a1", ".old-a1")
        assert caught.value.filename == str(root / "draft")


@pytest.mark.parametrize("call", ["open", "unlink"])
def test_refused_change_of_a_file_names_the_directory(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = local.write(draft()).path
    refuse(monkeypatch, call, path)
    with Directory(str(path)) as document, pytest.raises(PermissionError) as caught:
        document.open("new", os.O_CREAT) if call == "open" else document.unlink("raw.txt")
    assert caught.value.filename == str(path)


def test_refused_new_root_names_the_directory_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    patch_os(monkeypatch, "mkdir", fail)
    with pytest.raises(PermissionError) as caught:
        DocsStore(tmp_path / "docs").write(draft())
    assert caught.value.filename == str(tmp_path)


def test_unreadable_stage_is_named(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = local.write(draft()).path.parent

    def fail(original: Callable[..., int], path: str, *args: Any, **options: Any) -> int:
        if str(path) == str(stage):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return original(path, *args, **options)

    patch_os(monkeypatch, "open", fail)
    with pytest.raises(PermissionError) as caught:
        local.read("draft", "a1")
    assert caught.value.filename == str(stage)


@pytest.mark.parametrize("new_in_place", [False, True])
@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES], ids=errno.errorcode.get)
def test_settle_that_fails_does_not_fail_what_changes_nothing(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch, number: int, new_in_place: bool
) -> None:
    interrupt_replace(local, new_in_place=new_in_place)
    text = "twice" if new_in_place else "once"

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    for call in ("rename", "mkdir", "rmdir"):
        patch_os(monkeypatch, call, fail)
    assert local.ensure(DraftTask(task_id="t-1", doc_id="a1"), lambda _: pytest.fail("called")).outcome == "kept"
    assert local.write(draft(raw_text=text)).outcome is Outcome.UNCHANGED
    assert local.write(draft(raw_text="other"), if_exists="keep").outcome is Outcome.KEPT
    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        local.write(draft(raw_text="other"), if_exists="replace")
    assert local.read("draft", "a1").raw_text == text


def test_settle_that_finds_no_directory_does_not_fail_ensure(local: DocsStore, tmp_path: Path) -> None:
    interrupt_replace(local, new_in_place=True)
    shutil.rmtree(tmp_path / "docs" / ".docid")
    (tmp_path / "docs" / ".docid").write_text("in the way")
    assert local.ensure(DraftTask(task_id="t-1", doc_id="a1"), lambda _: draft()).outcome == "kept"


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("mode", [0o755, 0o775, 0o2775, 0o777, 0o1777], ids=oct)
def test_files_of_docid_belong_to_all_who_may_write_in_the_stage(local: DocsStore, tmp_path: Path, mode: int) -> None:
    stage = tmp_path / "docs" / "draft"
    stage.mkdir(parents=True)
    stage.chmod(mode)
    local.write(draft())
    local.write(draft(raw_text="twice"), if_exists="replace")
    (stage / ".tmp-b2-0123456789abcdef").mkdir()
    assert [step.done for step in repair(local, apply=True, stale_after=0)] == [True]
    local.add_part("draft", "a1", "parsed", "p")
    docid = tmp_path / "docs" / ".docid"
    made = [docid, *(docid / name for name in ("history", "history/draft", "history/draft/a1", "quarantine"))]
    for path in made:
        assert stat.S_IMODE(path.stat().st_mode) & ~0o2000 == mode & ~0o2000, path
    assert stat.S_IMODE((stage / ".lock-a1").stat().st_mode) == 0o644 | mode & 0o066
    # Documents keep to the umask.
    assert stat.S_IMODE((stage / "a1").stat().st_mode) & ~0o2000 == 0o755


def test_root_gives_files_of_docid_to_the_owner_of_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, int]] = []
    status = tmp_path.stat()
    theirs = os.stat_result((*status[:4], 4001, 4002, *status[6:]))
    real = os.fstat
    with Directory(str(tmp_path)) as stage, Directory(str(tmp_path)) as made:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(os, "fstat", lambda fd: theirs if fd == stage.fd else real(fd))
        monkeypatch.setattr(os, "fchown", lambda _, *owner: given.append(owner))
        share(made.fd, stage)
    assert given == [(4001, 4002)]


def test_lock_file_of_another_process_is_used(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process makes the lock file between the two calls that open it."""
    stage = local.write(draft()).path.parent

    def make_first(original: Callable[..., int], path: str, flags: int, *args: Any, **options: Any) -> int:
        if flags & os.O_EXCL and str(path) == ".lock-a1":
            (stage / ".lock-a1").touch()
        return original(path, flags, *args, **options)

    patch_os(monkeypatch, "open", make_first)
    assert local.write(draft(raw_text="twice"), if_exists="replace").outcome is Outcome.REPLACED


def fail_for_directories(number: int) -> Callable[..., None]:
    def sync(fsync: Callable[[int], None], fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(fd)

    return sync


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def test_file_system_that_cannot_sync_directories_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    patch_os(monkeypatch, "fsync", fail_for_directories(number))
    store = DocsStore(tmp_path / "docs")
    assert store.write(draft()).outcome is Outcome.CREATED
    assert store.write(draft(raw_text="twice"), if_exists="replace").outcome is Outcome.REPLACED
    assert store.add_part("draft", "a1", "parsed", "p").outcome is Outcome.COMPLETED
    assert {result.outcome for result in store.write_many([draft("b2"), draft("c3")])} == {Outcome.CREATED}
    assert write_tasks(tmp_path / "draft_tasks.csv", [DraftTask(task_id="t")]) == 1


def test_failed_sync_of_a_directory_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch_os(monkeypatch, "fsync", fail_for_directories(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        write_tasks(tmp_path / "draft_tasks.csv", [DraftTask(task_id="t")])
    with pytest.raises(OSError, match="Input/output error"):
        DocsStore(tmp_path / "docs").write(draft())


@pytest.mark.parametrize(
    ("number", "is_raised"),
    [(errno.EPERM, False), (errno.EOPNOTSUPP, False), (errno.ENOSYS, False), (errno.EIO, True)],
    ids=lambda value: errno.errorcode.get(value, ""),
)
def test_table_is_replaced_where_modes_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_raised: bool
) -> None:
    table = tmp_path / "draft_tasks.csv"
    rows = [DraftTask(task_id="t")]
    write_tasks(table, rows)

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "chmod", fail)
        assert write_tasks(table, rows * 2) == 2  # the mode is right already
    table.chmod(0o666)
    with monkeypatch.context() as patch:
        patch.setattr(os, "chmod", fail)
        if is_raised:
            with pytest.raises(OSError, match="Input/output error"):
                write_tasks(table, rows)
        else:
            assert write_tasks(table, rows) == 1
    assert [path.name for path in tmp_path.iterdir()] == [table.name]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EMFILE], ids=errno.errorcode.get)
def test_mounted_bucket_that_cannot_rename_is_refused_with_its_remedy(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    patch_os(monkeypatch, "rename", fail)
    with pytest.raises(OSError, match=r"pass its URL \(s3://, gs://, az://\) instead of a mount: ") as caught:
        local.write(draft())
    assert caught.value.errno == number
    assert "ulimit" not in str(caught.value)
    assert names_in(local.path("draft", "a1").parent) == []


def test_layer_that_cannot_rename_is_refused_with_its_remedy(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft())

    def fail(rename: Callable[..., None], source: str, target: str, **where: Any) -> None:
        if source == "a1":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(source, target, **where)

    patch_os(monkeypatch, "rename", fail)
    with pytest.raises(OSError, match="another layer or branch .* put the store on a volume"):
        local.write(draft(raw_text="twice"), if_exists="replace")
    assert local.read("draft", "a1").raw_text == "once"
    assert names_in(local.path("draft", "a1").parent) == ["a1"]


def test_lock_file_that_needs_write_access_names_its_remedy(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft())

    def fail(*_: object) -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr("docid.store.backends.local.locks.fcntl.flock", fail)
    with pytest.raises(OSError, match="another user owns this lock file") as caught:
        local.add_part("draft", "a1", "parsed", "p")
    assert caught.value.filename == str(local.path("draft", "a1").parent / ".lock-a1")


def test_manifest_can_be_read_by_all_who_may_read_the_root(tmp_path: Path) -> None:
    root = tmp_path / "docs"
    root.mkdir(mode=0o755)
    before = os.umask(0o077)
    try:
        DocsStore(root).write(draft())
    finally:
        os.umask(before)
    assert stat.S_IMODE((root / ".docid" / "store.json").stat().st_mode) == 0o644
    assert stat.S_IMODE((root / ".docid").stat().st_mode) == 0o755


def test_absolute_root_needs_no_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert not DocsStore(tmp_path / "docs").exists("draft", "a1")

"""Locks, temporary directories and sweeps of concurrent writers."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, Outcome
from docid.store.backends.local.directory import Directory
from docid.store.backends.local.locks import LockFile, hold_lock, is_held
from tests.local_documents import draft, make_sweep, names_in, patch_os


def test_missing_lock_file_is_not_held(tmp_path: Path) -> None:
    assert not is_held(Directory(str(tmp_path)), "a1")


def test_replace_works_with_lock_file_of_another_user(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft())

    def only_now(utime: Callable[..., None], where: Any, **options: Any) -> None:
        if options:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        utime(where)

    original = os.utime
    monkeypatch.setattr(os, "supports_fd", {*os.supports_fd})
    patch_os(monkeypatch, "utime", only_now)
    os.supports_fd.add(os.utime)
    assert local.write(draft(raw_text="twice"), if_exists="replace").outcome is Outcome.REPLACED
    assert original is not os.utime


def test_lock_is_taken_again_if_its_file_was_swept(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft())
    stage = local.path("draft", "a1").parent
    sweeps: list[int] = []

    def sweep(flock: Callable[..., None], fd: int, how: int) -> None:
        flock(fd, how)
        if not sweeps:
            sweeps.append(fd)
            (stage / ".lock-a1").unlink()

    original = fcntl.flock
    monkeypatch.setattr("docid.store.backends.local.locks.fcntl.flock", lambda fd, how: sweep(original, fd, how))
    assert local.add_part("draft", "a1", "parsed", "p").outcome is Outcome.COMPLETED
    assert sweeps
    assert (stage / ".lock-a1").exists()


def test_history_has_changes_of_all_threads(local: DocsStore) -> None:
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


def test_one_of_racing_processes_gets_the_id(tmp_path: Path) -> None:
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


def test_temporary_directory_is_locked_during_write(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
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
        patch_os(patch, "write", probe)
        local.write(draft())
        local.write(draft(raw_text="twice"), if_exists="replace")
    assert probes == ["held"] * 4


@pytest.mark.parametrize("moment", ["made", "locked", "filled", "renamed"])
def test_writer_starts_again_if_its_directory_was_swept(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """A sweep may come before the lock is taken, or later if NFS keeps locks local to one client."""
    local.write(draft("b2"))
    stage = local.path("draft", "a1").parent
    sweep = make_sweep(stage, turns=3)

    def before(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if moment != "renamed" or args[1] == "a1":
            sweep()
        return call(*args, **options)

    def after_mkdir(mkdir: Callable[..., None], *args: Any, **options: Any) -> None:
        mkdir(*args, **options)
        sweep()

    with monkeypatch.context() as patch:
        if moment == "made":
            patch_os(patch, "mkdir", after_mkdir)
        elif moment == "locked":
            flock = fcntl.flock
            patch.setattr("docid.store.backends.local.locks.fcntl.flock", lambda *args: before(flock, *args))
        else:
            patch_os(patch, {"filled": "write", "renamed": "rename"}[moment], before)
        assert local.write(draft()).outcome is Outcome.CREATED
    assert names_in(stage) == ["a1", "b2"]
    assert local.read("draft", "a1", verify=True) == draft(created_at=local.open("draft", "a1").created_at)
    sweep = make_sweep(stage, turns=1)
    with monkeypatch.context() as patch:
        if moment in {"filled", "renamed"}:
            patch_os(patch, {"filled": "write", "renamed": "rename"}[moment], before)
        assert local.write(draft(raw_text="twice"), if_exists="replace").outcome is Outcome.REPLACED
    assert names_in(stage) == ["a1", "b2"]


@pytest.mark.parametrize("moment", ["mkdir", "write"])
def test_writer_that_is_always_swept_raises(local: DocsStore, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    local.write(draft("b2"))
    stage = local.path("draft", "a1").parent
    sweep = make_sweep(stage, turns=1000)

    def act(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        result = call(*args, **options)
        sweep()
        return result

    with monkeypatch.context() as patch:
        patch_os(patch, moment, act)
        with pytest.raises(OSError, match="moved its temporary directory away 100 times") as caught:
            local.write(draft())
    assert caught.value.errno == errno.EBUSY
    assert names_in(stage) == ["b2"]


def test_temporary_directory_that_cannot_be_opened_is_removed(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(original: Callable[..., int], path: str, *args: Any, **options: Any) -> int:
        if str(path).startswith(".tmp-"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return original(path, *args, **options)

    with monkeypatch.context() as patch:
        patch_os(patch, "open", refuse)
        message = f"Too many open files; raise the limit on open files (ulimit -n): {str(local.path('draft', 'a1'))!r}"
        with pytest.raises(OSError, match=re.escape(message)):
            local.write(draft())
    assert names_in(local.path("draft", "a1").parent) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def test_file_system_without_locks_allows_only_creates(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("docid.store.backends.local.locks.fcntl.flock", no_locks)
    assert local.write(draft()).outcome is Outcome.CREATED
    with pytest.raises(OSError, match="docid can create and read documents here, but not change them") as caught:
        local.write(draft(raw_text="twice"), if_exists="replace")
    assert caught.value.errno == number
    assert local.read("draft", "a1").raw_text == "once"
    # A leftover lock file blocks neither a create nor a reader.
    (local.path("draft", "a1").parent / ".lock-b2").touch()
    assert not local.exists("draft", "b2")
    assert local.write(draft("b2")).outcome is Outcome.CREATED


def test_reader_does_not_wait_for_a_lock(local: DocsStore) -> None:
    local.write(draft())
    held = os.open(local.path("draft", "b2").parent / ".lock-b2", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert not local.exists("draft", "b2")
    os.close(held)
    assert not local.exists("draft", "b2")


def test_garbage_collected_lock_is_released(local: DocsStore) -> None:
    local.write(draft())
    with Directory(str(local.path("draft", "a1").parent)) as stage:
        lock = LockFile(stage, ".lock-a1")
        fcntl.flock(lock.fd, fcntl.LOCK_EX)
        assert is_held(stage, "a1")
        del lock
        assert not is_held(stage, "a1")


def test_read_only_lock_file_can_be_locked(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write(draft())
    (local.path("draft", "a1").parent / ".lock-a1").touch()

    def refuse(original: Callable[..., int], path: str, flags: int, *args: Any, **options: Any) -> int:
        is_there = (local.path("draft", "a1").parent / path).exists()
        if str(path).startswith(".lock-") and flags & os.O_RDWR and (flags & os.O_CREAT or is_there):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return original(path, flags, *args, **options)

    patch_os(monkeypatch, "open", refuse)
    assert local.add_part("draft", "a1", "parsed", "p").outcome is Outcome.COMPLETED
    local.write(draft("b2"))
    with pytest.raises(PermissionError, match="check the owner"):
        local.add_part("draft", "b2", "parsed", "p")


def test_forked_process_does_not_keep_the_lock(local: DocsStore) -> None:
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

"""Locks between changes, writers and sweeps, and the locked temporary directory for a new document.

Every lock is a `flock`, which ends with its process. If several machines mount a file system, a lock may be local to
one machine, so a sweep also requires a minimum age.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
import weakref
from os.path import join
from typing import TYPE_CHECKING, Self

from docid._files import ignore_system_errors
from docid.core.record import RECORD_FILE
from docid.store.backends.base import TURNS
from docid.store.backends.local.directory import LOCK, NEW_LOCK, READ, ExplainedError, share
from docid.store.backends.names import lock_name, temporary_name

# Windows has no flock: there, two processes must not change one document at the same time.
if sys.platform != "win32":  # pragma: no branch
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from docid.store.backends.local.directory import Directory


SWEPT = f"a repair moved its temporary directory away {TURNS} times; run the repair with a longer --stale-after"
"""The message of a writer that gives up because of a sweep."""


# What flock(2) reports on a file system without locks: NFS, Lustre, some FUSE mounts.
_CANNOT_LOCK = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_NO_LOCKS = (
    "this file system has no locks (flock), so docid can create and read documents here, but not change them (replace, "
    "add_part, repair); mount it with locks (for Lustre: -o flock), or move the store"
)
# NFS and its relatives lock a file only through a descriptor that may write.
_READ_ONLY_LOCK = (
    "another user owns this lock file, and this file system locks only files that you may write; let that user run "
    "'docid repair --apply', which removes unused lock files"
)


class LockFile:
    """An open lock file. It is closed at the latest when it is garbage collected.

    An interrupt (Ctrl-C) may come at any line, and a lock that is never released would block the document. A forked
    child closes the file at once, without releasing the lock, which belongs to its parent.

    Attributes:
        fd: the descriptor; -1 once the file is closed.
        is_new: whether the file did not exist before.
        is_writable: whether the descriptor may write.
    """

    __slots__ = ("__weakref__", "_is_claim", "fd", "is_new", "is_writable")

    def __init__(self, directory: Directory, name: str, *, is_claim: bool = False) -> None:
        self.fd = -1
        self.is_new = False
        self.is_writable = True
        self._is_claim = is_claim
        _open_locks.add(self)
        if is_claim:  # it is nearly always new
            self._create(directory, name)
        while self.fd < 0:
            try:
                self.fd = directory.open(name, LOCK)
            except PermissionError:
                # The file belongs to another user. On a local file system, read access is enough to lock it.
                self.fd = directory.open(name, READ)
                self.is_writable = False
            except FileNotFoundError:
                self._create(directory, name)

    def _create(self, directory: Directory, name: str) -> None:
        with contextlib.suppress(FileExistsError):
            self.fd = directory.open(name, NEW_LOCK)
            self.is_new = True
            if self._is_claim:  # another user must be able to find out whether it is held, and that takes no more
                with ignore_system_errors:
                    os.chmod(self.fd if os.chmod in os.supports_fd else join(directory.path, name), 0o644)
            else:
                share(self.fd, directory)

    def take(self, directory: Directory, name: str, *, wait: bool) -> bool:
        """Lock it; return False if another process holds the lock and `wait` is false."""
        try:
            return _flock(self.fd, wait=wait)
        except OSError as error:
            if error.errno in _CANNOT_LOCK:
                raise ExplainedError(error.errno, f"{error.strerror}; {_NO_LOCKS}", directory.path) from error
            if error.errno == errno.EBADF:
                text = f"{error.strerror}; {_READ_ONLY_LOCK}"
                raise ExplainedError(error.errno, text, join(directory.path, name)) from error
            raise

    def is_at(self, directory: Directory, name: str) -> bool:
        """Return whether the file still has its name: if not, other processes lock a new one."""
        if self._is_claim:  # it is never renamed, so this one call is enough
            return os.fstat(self.fd).st_nlink > 0
        status = directory.stat(name)
        return status is not None and os.path.samestat(status, os.fstat(self.fd))

    def close(self) -> None:
        """Release the lock and close the file."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            _close(fd)

    __del__ = close

    def abandon(self) -> None:  # pragma: no cover  - runs in a forked child, which ends without its coverage
        """Close it without releasing the lock, which belongs to the parent of this forked child."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with ignore_system_errors:
                os.close(fd)


_open_locks: weakref.WeakSet[LockFile] = weakref.WeakSet()


def count_open_locks() -> int:
    """Return how many lock files this process has open, claims included."""
    return len(_open_locks)


def _abandon_locks() -> None:  # pragma: no cover  - as above
    for lock in list(_open_locks):
        lock.abandon()


if hasattr(os, "register_at_fork"):  # pragma: no branch
    os.register_at_fork(after_in_child=_abandon_locks)


@contextlib.contextmanager
def hold_lock(directory: Directory, doc_id: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold the exclusive lock of a document; yield False if another process holds it and `wait` is false."""
    name = lock_name(doc_id)
    while True:
        lock = LockFile(directory, name)
        try:
            if not lock.take(directory, name, wait=wait):
                yield False
                return
            if not lock.is_at(directory, name):
                continue
            try:
                yield True
            finally:
                # The time is only a hint for listings: an error here must not hide the result of the change. If the
                # file belongs to another user, only the current time can be set.
                now = time.time_ns()
                where = lock.fd if os.utime in os.supports_fd else join(directory.path, name)
                with ignore_system_errors:
                    try:
                        os.utime(where, ns=(now, now))
                    except PermissionError:
                        os.utime(where)
            return
        finally:
            lock.close()


@contextlib.contextmanager
def probe_lock(directory: Directory, name: str) -> Iterator[bool]:
    """Try to lock a temporary directory; yield whether its lock was free, so that no writer uses it."""
    with directory.sub(name) as temporary:
        free = True
        if temporary.fd is not None:  # pragma: no branch  - Windows
            # On a file system without locks, only the age keeps a sweep away.
            with ignore_system_errors:
                free = _flock(temporary.fd, wait=False)
        try:
            yield free
        finally:
            if temporary.fd is not None:  # pragma: no branch
                _unlock(temporary.fd)


def is_held(directory: Directory, doc_id: str) -> bool:
    """Return whether a process holds the lock of a document; False if that cannot be determined."""
    return is_locked(directory, lock_name(doc_id))


def is_locked(directory: Directory, name: str) -> bool:
    """Return whether a process holds the lock of a file; False if that cannot be determined."""
    with ignore_system_errors:
        fd = directory.open(name, READ)
        try:
            return not _flock(fd, is_shared=True, wait=False)
        finally:
            _close(fd)
    return False


def _flock(fd: int, *, is_shared: bool = False, wait: bool = True) -> bool:
    """Lock an open file; return False if another process holds the lock and `wait` is false."""
    if sys.platform != "win32":  # pragma: no branch
        how = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
        try:
            fcntl.flock(fd, how if wait else how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _unlock(fd: int) -> None:
    """Release a lock. Closing the file is not enough: a forked child may have it open, too."""
    if sys.platform != "win32":  # pragma: no branch
        with ignore_system_errors:
            fcntl.flock(fd, fcntl.LOCK_UN)


def _close(fd: int) -> None:
    """Release a lock and close its file. Ignore errors: the work under the lock is done."""
    try:
        _unlock(fd)
    finally:
        with ignore_system_errors:
            os.close(fd)


class Temporary:
    """A new, locked temporary directory in a stage, which no sweep moves. Use it in a `with` statement.

    At the end of the `with`, it is removed unless `is_moved` was set.
    """

    __slots__ = ("_directory", "_pid", "_stage", "is_moved", "name")

    def __init__(self, stage: Directory, doc_id: str) -> None:
        self._stage = stage
        self._pid = os.getpid()
        self.is_moved = False
        for _ in range(TURNS):
            self.name = temporary_name(doc_id)
            try:
                stage.mkdir(self.name)
                if self._open():
                    return
            except BaseException:
                stage.remove_empty(self.name)
                raise
        raise OSError(errno.EBUSY, SWEPT, join(stage.path, self.name))

    def _open(self) -> bool:
        """Open and lock the directory; return False if a sweep has moved it.

        A sweep may hold the lock now, and move the directory before we get it. The rename to the id then fails
        (`was_swept`), because no other process makes a directory of this name.
        """
        try:
            self._directory = self._stage.sub(self.name)
        except FileNotFoundError:
            return False
        if self._directory.fd is not None:  # pragma: no branch
            # On a file system without locks, only the age keeps a sweep away.
            with ignore_system_errors:
                _flock(self._directory.fd, is_shared=True)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if not self.is_moved and self._pid == os.getpid():  # it belongs to the parent of a forked child
                self._stage.remove(self.name)
        finally:
            self._directory.close()

    def fill(self, record: bytes, parts: Mapping[str, bytes], *, sync: bool) -> None:
        """Write a document into it, the record last. With `sync`, all but the directory's own name is durable."""
        for name, data in {**parts, RECORD_FILE: record}.items():
            self._directory.write(name, data, sync=sync)
        if sync:
            self._directory.sync()

    def is_at(self, name: str, directory: Directory | None = None) -> bool:
        """Return whether it has this name now, in its stage directory or in `directory`."""
        return self._directory.is_at(name, directory or self._stage)

    def was_swept(self) -> bool:
        """Return whether a sweep has moved it away."""
        return not self.is_moved and not self._stage.exists(self.name)

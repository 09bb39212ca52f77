"""The locks that keep changes, writers and sweeps apart, and the locked directory that a document is built in.

Every lock is a `flock`, which ends with its process. Where several machines mount a file system it may be local to
each of them, so a sweep asks for an age as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from os.path import join
from typing import TYPE_CHECKING, Self

from docid.core.record import RECORD_FILE
from docid.store.backends.base import TURNS
from docid.store.backends.local.directory import LOCK, READ
from docid.store.backends.names import lock_name, temporary_name

# Windows has no flock: changes of one document by two processes at once are not kept apart there.
if sys.platform != "win32":  # pragma: no branch
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from docid.store.backends.local.directory import Directory


class _Lock:
    """An open lock file, closed at the latest when nothing refers to it any more.

    An interrupt (Ctrl-C) may come at any line; a lock that is never given back would block the document.
    """

    __slots__ = ("fd",)

    def __init__(self, directory: Directory, name: str) -> None:
        self.fd = -1
        try:
            self.fd = directory.open(name, LOCK)
        except PermissionError:
            if not directory.exists(name):
                raise
            # Another user's: on a local file system reading is enough to lock it.
            self.fd = directory.open(name, READ)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            _close(fd)

    __del__ = close


@contextlib.contextmanager
def hold_lock(directory: Directory, doc_id: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold the exclusive lock of a document; yield False without it, where another holds it and `wait` is false."""
    name = lock_name(doc_id)
    while True:
        lock = _Lock(directory, name)
        fd = lock.fd
        try:
            if not _flock(fd, wait=wait):
                yield False
                return
            # A sweep may have removed the file while we waited; then others lock another one.
            status = directory.stat(name)
            if status is None or not os.path.samestat(status, os.fstat(fd)):
                continue
            try:
                yield True
            finally:
                # Only a hint for listings: it must not hide what became of the change. The lock file may be another
                # user's, who alone may set any time but now.
                now = time.time_ns()
                where = fd if os.utime in os.supports_fd else join(directory.path, name)
                with contextlib.suppress(OSError):
                    try:
                        os.utime(where, ns=(now, now))
                    except PermissionError:
                        os.utime(where)
            return
        finally:
            lock.close()


@contextlib.contextmanager
def probe_lock(directory: Directory, name: str) -> Iterator[bool]:
    """Open a temporary directory and take its lock; yield whether it was free: nobody is writing it."""
    with directory.sub(name) as temporary:
        free = True
        if temporary.fd is not None:  # pragma: no branch  - Windows
            # A file system without locks: then its age alone keeps a sweep away.
            with contextlib.suppress(OSError):
                free = _flock(temporary.fd, wait=False)
        try:
            yield free
        finally:
            if temporary.fd is not None:  # pragma: no branch
                _unlock(temporary.fd)


def is_held(directory: Directory, doc_id: str) -> bool:
    """Return whether somebody holds the lock of a document now; where that cannot be seen, nobody does."""
    with contextlib.suppress(OSError):
        fd = directory.open(lock_name(doc_id), READ)
        try:
            return not _flock(fd, is_shared=True, wait=False)
        finally:
            _close(fd)
    return False


def _flock(fd: int, *, is_shared: bool = False, wait: bool = True) -> bool:
    """Lock an open file; return False where another's lock forbids it and `wait` is false."""
    if sys.platform != "win32":  # pragma: no branch
        how = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
        try:
            fcntl.flock(fd, how if wait else how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _unlock(fd: int) -> None:
    """Give a lock back. A process that was forked meanwhile has the file open too: closing it would not do that."""
    if sys.platform != "win32":  # pragma: no branch
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)


def _close(fd: int) -> None:
    """Give a lock back, and close its file. What was done under it is done, whatever that says."""
    _unlock(fd)
    with contextlib.suppress(OSError):
        os.close(fd)


class Temporary:
    """A new directory under a name of its own in a stage, locked so that no sweep takes it. For a `with`.

    Behind the `with` it is gone, unless it was moved to where it belongs: then `is_moved` is set.
    """

    __slots__ = ("_directory", "_stage", "is_moved", "name")

    def __init__(self, stage: Directory, doc_id: str) -> None:
        self._stage = stage
        self.is_moved = False
        for _ in range(TURNS):
            self.name = temporary_name(doc_id)
            stage.mkdir(self.name)
            try:
                self._directory = stage.sub(self.name)
            except FileNotFoundError:
                continue  # a sweep came between
            except BaseException:
                stage.remove_empty(self.name)
                raise
            # A sweep may have it at this moment, and have moved it away when we get the lock. Whether it is still
            # under its name, which nobody else makes, the rename to the id tells (`was_swept`).
            if self._directory.fd is not None:  # pragma: no branch
                # A file system without locks: then its age alone keeps a sweep away.
                with contextlib.suppress(OSError):
                    _flock(self._directory.fd, is_shared=True)
            return
        raise OSError(errno.EBUSY, "taken away again and again while it was made", join(stage.path, self.name))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.is_moved:
            self._stage.remove(self.name)
        self._directory.close()

    def fill(self, record: bytes, parts: Mapping[str, bytes], *, sync: bool) -> None:
        """Write a document into it, the record last; with `sync` it is durable then, but for its own name."""
        for name, data in {**parts, RECORD_FILE: record}.items():
            self._directory.write(name, data, sync=sync)
        if sync:
            self._directory.sync()

    def is_at(self, name: str, directory: Directory | None = None) -> bool:
        """Return whether it has this name now, in its stage directory or in another one."""
        if self._directory.fd is None:  # pragma: no cover  - Windows
            return True
        status = (directory or self._stage).stat(name)
        return status is not None and os.path.samestat(status, os.fstat(self._directory.fd))

    def was_swept(self) -> bool:
        """Return whether it has been taken away from under its name."""
        return not self.is_moved and not self._stage.exists(self.name)

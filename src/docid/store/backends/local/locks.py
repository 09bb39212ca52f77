"""The locks that keep changes, writers and sweeps apart in a stage directory.

Every lock is a `flock`, which ends with its process. Where a file system is mounted by several machines it may be
local to each; what a sweep does is bound to an age as well, for that.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from os.path import join
from typing import TYPE_CHECKING

from docid.store.backends.local.directory import READ, Directory
from docid.store.backends.names import lock_name

# Windows has no flock: changes of one document by two processes at once are not kept apart there.
if sys.platform != "win32":  # pragma: no branch
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class _Lock:
    """An open lock file. It is closed, and the lock given back, at the latest when nobody knows it any more.

    An interrupt (Ctrl-C) may come at any line; a lock that is never given back would block the document.
    """

    __slots__ = ("fd",)

    def __init__(self, directory: Directory, name: str) -> None:
        self.fd = -1
        try:
            self.fd = directory.open(name, _LOCK)
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
    """Hold the exclusive lock of a document, beside other processes and threads.

    Yields True; False without the lock, where another holds it and `wait` is false.
    """
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
            if status is not None and os.path.samestat(status, os.fstat(fd)):
                try:
                    yield True
                finally:
                    # Only a hint for listings: it must not hide what became of the change. The lock file may be
                    # another user's, who alone may set any time but now.
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
    """Open a temporary directory and take its lock; yield whether it was free: nobody is writing it.

    Raises:
        FileNotFoundError: it is not there any more.
    """
    with directory.sub(name) as temporary:
        free = True
        if temporary.fd is not None:  # pragma: no branch  - Windows
            # A file system without locks: then its age alone keeps a sweep away.
            with contextlib.suppress(OSError):
                free = _flock(temporary.fd, wait=False)
        try:
            yield free
        finally:
            if sys.platform != "win32" and temporary.fd is not None:  # pragma: no branch
                with contextlib.suppress(OSError):
                    fcntl.flock(temporary.fd, fcntl.LOCK_UN)


def is_held(directory: Directory, doc_id: str) -> bool:
    """Return whether somebody holds the lock of a document now; where that cannot be seen, nobody does."""
    if sys.platform == "win32":  # pragma: no cover
        return False
    with contextlib.suppress(OSError):
        fd = directory.open(lock_name(doc_id), READ)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            _close(fd)
    return False


def _close(fd: int) -> None:
    """Give a lock back, and close its file. What was done under it is done, whatever that says."""
    # A process that was forked meanwhile has the file open too: closing it here would not end the lock.
    if sys.platform != "win32":  # pragma: no branch
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
    with contextlib.suppress(OSError):
        os.close(fd)


def _flock(fd: int, *, wait: bool) -> bool:
    """Take the exclusive lock of an open file; return False where another holds one and `wait` is false."""
    if sys.platform != "win32":  # pragma: no branch
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True

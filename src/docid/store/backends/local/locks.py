"""What keeps writers, changes and sweeps apart in a stage directory: the locks, and the temporary directories.

Every lock is a `flock`, which ends with its process. Where a file system is mounted by several machines it may be
local to each; what a sweep does is bound to an age as well, for that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from os.path import join
from typing import TYPE_CHECKING, Self, cast

from docid.core.record import RECORD_FILE
from docid.store.backends.base import TURNS
from docid.store.backends.local.directory import READ, Directory
from docid.store.backends.names import lock_name, temporary_name

# Windows has no flock: changes of one document by two processes at once are not kept apart there.
if sys.platform != "win32":  # pragma: no branch
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LOCK = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class Temporary:
    """A new directory under a name of its own in a stage, locked so that no sweep takes it. For a `with`.

    Behind the `with` it is gone, unless it was moved to where it belongs.

    Attributes:
        name: its name in the stage directory.
        moved: whether it was moved to where it belongs.
    """

    __slots__ = ("_directory", "_stage", "moved", "name")

    def __init__(self, stage: Directory, doc_id: str) -> None:
        """Make and lock it.

        Raises:
            OSError: it cannot be made; or others took it away again and again.
        """
        self._stage = stage
        self.moved = False
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
            if sys.platform != "win32" and self._directory.fd is not None:  # pragma: no branch
                try:  # noqa: SIM105 - as cheap as can be: every write comes by
                    fcntl.flock(self._directory.fd, fcntl.LOCK_SH)
                except OSError:
                    pass  # a file system without locks: then its age alone keeps a sweep away
            return
        raise OSError(errno.EBUSY, "taken away again and again while it was made", join(stage.path, self.name))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.moved:
            self._stage.remove(self.name)
        self._directory.close()

    def fill(self, record: bytes, parts: Mapping[str, bytes], *, sync: bool) -> None:
        """Write a document into it, the record last; with `sync` it is durable then, but for its own name."""
        for name, data in parts.items():
            self._directory.write(name, data, sync=sync)
        self._directory.write(RECORD_FILE, record, sync=sync)
        if sync:
            self._directory.sync()

    def is_at(self, name: str) -> bool:
        """Return whether it is under this name now."""
        if self._directory.fd is None:  # pragma: no cover  - Windows
            return True
        return self.is_in(self._stage, name)

    def is_in(self, directory: Directory, name: str) -> bool:
        """Return whether it is under this name in a directory now."""
        status = directory.stat(name)
        return status is not None and os.path.samestat(status, os.fstat(cast("int", self._directory.fd)))

    def was_swept(self) -> bool:
        """Return whether it has been taken away from under its name."""
        return not self.moved and not self._stage.exists(self.name)


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
def locked(directory: Directory, doc_id: str, *, wait: bool = True) -> Iterator[bool]:
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
def probed(directory: Directory, name: str) -> Iterator[bool]:
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

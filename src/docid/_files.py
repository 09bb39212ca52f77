"""File-system rules that tables and stores share: which errors to ignore, and how to sync.

An `OSError` without `errno` does not come from the file system. A signal handler may have raised it: the time limits of
several tools raise a bare `TimeoutError` at any line. docid lets it pass through unchanged.
The tests of `os.path` would swallow it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from typing import TYPE_CHECKING

if sys.platform == "darwin":  # pragma: no cover  - tested on Linux
    import fcntl

if TYPE_CHECKING:
    from types import TracebackType

# The errors of file systems that cannot sync a directory: CIFS, vboxsf, DrvFs and some FUSE mounts.
_CANNOT_SYNC = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


def is_system_error(error: BaseException | None) -> bool:
    """Return whether the operating system reported this error."""
    return isinstance(error, OSError) and error.errno is not None


def is_time_limit(error: BaseException) -> bool:
    """Return whether a signal handler raised this error. Backends of others may raise any `OSError` without errno."""
    return isinstance(error, TimeoutError) and error.errno is None


def raise_time_limit(error: BaseException) -> None:
    """Raise an error again if a signal handler raised it."""
    if is_time_limit(error):
        raise error


class _IgnoreSystemErrors:
    """Ends a `with` block at the first error of the operating system, and ignores the error."""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return is_system_error(error)


ignore_system_errors = _IgnoreSystemErrors()


def get_mode(path: str, *, follow_links: bool = False) -> int:
    """Return the type and the permissions of a path, of a link itself; 0 if there is nothing or an error."""
    with ignore_system_errors:
        return os.stat(path).st_mode if follow_links else os.lstat(path).st_mode
    return 0


def is_link(path: str) -> bool:
    """Return whether a path is a symbolic link."""
    return stat.S_ISLNK(get_mode(path))


def is_directory(path: str) -> bool:
    """Return whether a path is a directory, or a link to one."""
    return stat.S_ISDIR(get_mode(path, follow_links=True))


def sync_file(fd: int) -> None:
    """Make all data that was written through a descriptor durable."""
    if sys.platform == "darwin":  # pragma: no cover  - tested on Linux
        # On macOS, fsync only moves the data to the drive, which may keep it in its cache.
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
    os.fsync(fd)


def sync_directory(fd: int) -> None:
    """Make the names in a directory durable. Do nothing if the file system cannot sync directories."""
    try:
        sync_file(fd)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise

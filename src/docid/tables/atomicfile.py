"""Replacing a file atomically: a reader sees the old file or the new one, whole."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import io


class AtomicFile:
    """A file that is written beside its place; `commit` puts it there. Without that nothing changes.

    Attributes:
        stream: takes the bytes.
        temporary: the path until then; empty when the file is in its place, or discarded.

    Raises:
        OSError: it cannot be created; the error names the file to be replaced.
    """

    def __init__(self, path: str) -> None:
        # The file itself, not a link to it: a link that somebody set up stays one.
        self._target = os.path.realpath(path)
        self.temporary = os.path.join(os.path.dirname(self._target), f".tmp-{os.urandom(8).hex()}")
        # With the permissions of the old file from the start: it may hold what others must not see.
        mode = 0o666
        with contextlib.suppress(OSError):
            mode = stat.S_IMODE(os.stat(self._target).st_mode)
        try:
            self.stream: io.BufferedWriter = open(  # noqa: SIM115 - closed by commit and discard
                self.temporary, "xb", opener=lambda path, flags: os.open(path, flags, mode)
            )
        except OSError as error:
            hint = "; a new file is made in its directory, and takes its place"
            problem = f"{error.strerror}{hint if isinstance(error, PermissionError) else ''}"
            raise OSError(error.errno, problem, path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def commit(self) -> None:
        """Put the file in its place, durably, with the permissions of the old file."""
        with self.stream:
            self.stream.flush()
            os.fsync(self.stream.fileno())
        with contextlib.suppress(FileNotFoundError):
            os.chmod(self.temporary, os.stat(self._target).st_mode & 0o7777)
        os.replace(self.temporary, self._target)
        self.temporary = ""
        if os.name == "posix":  # pragma: no branch  - Windows has no sync of directories
            directory = os.open(os.path.dirname(self._target), os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def discard(self) -> None:
        """Remove what was written, unless it is in its place."""
        # Closing writes the rest of a buffer; on a full disk that fails again, after the error that is on its way.
        with contextlib.suppress(OSError):
            self.stream.close()
        if self.temporary:
            os.unlink(self.temporary)
            self.temporary = ""

"""A file that takes the place of another one at once: a reader sees the old one or the new one, whole."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import io


class AtomicFile:
    """A file that is being written beside its place, and is put there by `commit`; without that nothing changes.

    Attributes:
        stream: what to write to, bytes.
        temporary: where it is until then; empty when it is in its place, or nowhere.

    Raises:
        OSError: it cannot be made; the error names the file that was to be replaced.
    """

    def __init__(self, path: str) -> None:
        # The file itself, not a link to it: a link that somebody set up stays one.
        self._target = os.path.realpath(path)
        temporary = os.path.join(os.path.dirname(self._target), f".tmp-{os.urandom(8).hex()}")
        try:
            # As readable as the one that was there, from the start: it may hold what others are not to see.
            mode = 0o666
            with contextlib.suppress(OSError):
                mode = stat.S_IMODE(os.stat(self._target).st_mode)
            self.stream: io.BufferedWriter = open(  # noqa: SIM115 - closed by commit and discard
                temporary, "xb", opener=lambda path, flags: os.open(path, flags, mode)
            )
        except OSError as error:
            hint = "; a new file is made in its directory, and takes its place"
            problem = f"{error.strerror}{hint if isinstance(error, PermissionError) else ''}"
            raise OSError(error.errno, problem, path) from error
        self.temporary = temporary

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def commit(self) -> None:
        """Put the file in its place, durably, with the permissions of the one that was there."""
        try:
            self.stream.flush()
            os.fsync(self.stream.fileno())
        finally:
            self.stream.close()
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
        # Where commit has not been reached an error is on its way already; a full disk would say itself once more.
        with contextlib.suppress(OSError):
            self.stream.close()
        temporary, self.temporary = self.temporary, ""
        if temporary:
            os.unlink(temporary)

"""Temporary directories: a document is built in one, and renamed to its id when it is whole."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from os.path import join
from typing import TYPE_CHECKING, Self

from docid.core.record import RECORD_FILE
from docid.store.backends.base import TURNS
from docid.store.backends.names import temporary_name

if sys.platform != "win32":  # pragma: no branch
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docid.store.backends.local.directory import Directory


class Temporary:
    """A new directory under a name of its own in a stage, locked so that no sweep takes it. For a `with`.

    Behind the `with` it is gone, unless it was moved to where it belongs.

    Attributes:
        name: its name in the stage directory.
        is_moved: whether it was moved to where it belongs.
    """

    __slots__ = ("_directory", "_stage", "is_moved", "name")

    def __init__(self, stage: Directory, doc_id: str) -> None:
        """Make and lock it.

        Raises:
            OSError: it cannot be made; or others took it away again and again.
        """
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
            if sys.platform != "win32" and self._directory.fd is not None:  # pragma: no branch
                # A file system without locks: then its age alone keeps a sweep away.
                with contextlib.suppress(OSError):
                    fcntl.flock(self._directory.fd, fcntl.LOCK_SH)
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
        for name, data in parts.items():
            self._directory.write(name, data, sync=sync)
        self._directory.write(RECORD_FILE, record, sync=sync)
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

"""The claims of a local backend: a locked file next to the document, or leases where locks cannot be trusted."""

from __future__ import annotations

import contextlib
import os
import time
from functools import partial
from os.path import join
from typing import TYPE_CHECKING, Protocol

import orjson

from docid._files import ignore_system_errors
from docid.core.ids import is_doc_id
from docid.store.backends.base import TURNS, InternalFile
from docid.store.backends.claims import Claim, Holder
from docid.store.backends.leases import TTL, LeaseFiles, Leases
from docid.store.backends.local.directory import Directory, make_below
from docid.store.backends.local.locks import LockFile, is_locked
from docid.store.backends.names import claim_name, interim_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


class _Files(LeaseFiles, Protocol):
    """The internal files of a `LocalBackend`, and the directory that holds one."""

    def open_internal(self, name: str) -> AbstractContextManager[Directory]:
        """Make and open the directory of a file."""
        ...


class LocalClaims:
    """The claims of a `LocalBackend`.

    Args:
        root: the root of the backend.
        files: its internal files, for leases.
        sync: whether changes are durable.

    Where `flock` can be trusted, a claim is the locked file `<stage>/.claim-<doc_id>`, which names its holder for
    people. Its lock ends with its process. Elsewhere it is a lease.
    """

    def __init__(self, root: str, files: _Files, *, sync: bool) -> None:
        self._root = root
        self._sync = sync
        self._trusted: dict[str, bool] = {}
        self.leases = Leases(_FilesWithoutLocks(files))

    def take(self, stage: str, doc_id: str) -> Claim | Holder:
        """Take a claim, or return its holder."""
        if stage not in self._trusted:
            with make_below(self._root, (stage,), sync=self._sync) as directory:
                self._trusted[stage] = directory.trusts_locks()
        if not self._trusted[stage]:
            return self.leases.take(stage, doc_id)
        directory = Directory.at(join(self._root, stage))
        try:
            return self._lock(directory, doc_id)
        except FileNotFoundError:
            with make_below(self._root, (stage,), sync=self._sync):
                return self._lock(directory, doc_id)

    @property
    def uses_leases(self) -> bool:
        """Whether a stage that this process has claimed in has leases."""
        return not all(self._trusted.values())

    def _lock(self, directory: Directory, doc_id: str) -> Claim | Holder:
        name = claim_name(doc_id)
        for _ in range(TURNS):
            lock = LockFile(directory, name, is_claim=True)
            if not lock.take(directory, name, wait=False):
                lock.close()
                if lock.is_new:  # not a worker, but a command that looks at claims has locked it for a moment
                    continue
                return _read_holder(directory, name)
            # The holder removes the file before it releases the lock; then other processes lock a new one.
            if not lock.is_at(directory, name):
                lock.close()
                continue
            try:
                if not lock.is_new:
                    directory.check_writable()
                # This also shows whether a document can be written here, before a model is paid for its text.
                if lock.is_writable:
                    if not lock.is_new:
                        os.truncate(lock.fd, 0)
                    os.pwrite(lock.fd, orjson.dumps(Holder.here()._asdict()), 0)
            except BaseException:
                _unlock(directory, lock, name)
                raise
            return Claim(partial(_unlock, directory, lock, name))
        return Holder("", 0, "")

    def list(self, stage: str) -> Iterator[tuple[str, Holder]]:
        """Yield the doc ids that are claimed, each with its holder."""
        with contextlib.suppress(FileNotFoundError), Directory(join(self._root, stage)) as directory:
            for doc_id in _list_names(directory):
                if is_locked(directory, claim_name(doc_id)):
                    yield doc_id, _read_holder(directory, claim_name(doc_id))
        yield from self.leases.list(stage)

    def clear(self, stage: str, stale_after: float) -> int:
        """Remove the claims of dead workers; return how many."""
        count = 0
        with contextlib.suppress(FileNotFoundError), Directory(join(self._root, stage)) as directory:
            for doc_id in _list_names(directory):
                name = claim_name(doc_id)
                # If one file cannot be opened, go on with the others.
                with ignore_system_errors:
                    lock = LockFile(directory, name, is_claim=True)
                    try:
                        if lock.take(directory, name, wait=False) and lock.is_at(directory, name):
                            directory.unlink(name)
                            count += 1
                    finally:
                        lock.close()
        return count + self.leases.clear(stage, stale_after)


def _unlock(directory: Directory, lock: LockFile, name: str) -> None:
    """Remove the file of a claim, and then release its lock."""
    try:
        with ignore_system_errors:
            if lock.is_at(directory, name):
                directory.unlink(name)
    finally:
        lock.close()


def _list_names(directory: Directory) -> list[str]:
    """Return the doc ids of which there are claim files."""
    prefix = claim_name("")
    found = (name.removeprefix(prefix) for name in directory.names() if name.startswith(prefix))
    return sorted(filter(is_doc_id, found))


def _read_holder(directory: Directory, name: str) -> Holder:
    """Return whom a claim file names; its holder may be about to write it."""
    with ignore_system_errors, contextlib.suppress(orjson.JSONDecodeError):
        return Holder.from_json(orjson.loads(directory.read(name) or b"{}"))
    return Holder("", 0, "")


class _FilesWithoutLocks:
    """The internal files of a local backend, compared and swapped without locks.

    Only an exclusive create and a rename are atomic here. So whoever swaps a file first creates a marker, which only
    one process can do. A marker that its process could not remove counts for as long as a lease.
    """

    def __init__(self, files: _Files) -> None:
        self._files = files
        self.read_file = files.read_file
        self.write_file = files.write_file
        self.list_files = files.list_files
        self.remove_file = files.remove_file

    def swap_file(self, name: str, expected: InternalFile | None, data: bytes) -> bool:
        file = name.rpartition("/")[2]
        with self._files.open_internal(name) as directory:
            if expected is None:
                return _create(directory, file, data)
            marker = interim_name(file)
            if not _create(directory, marker, b""):
                status = directory.stat(marker)
                if status is not None and time.time() - status.st_mtime > TTL:
                    directory.unlink(marker)
                return False
            try:
                if directory.read(file) != expected.data:
                    return False
                directory.swap_in(file, data, sync=False)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    directory.unlink(marker)
            return True


def _create(directory: Directory, name: str, data: bytes) -> bool:
    """Write a new file; return False if the name exists."""
    try:
        directory.write(name, data, sync=False)
    except FileExistsError:
        return False
    return True

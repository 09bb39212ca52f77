"""Documents on a file system: a directory each, built aside and renamed into place.

A document is the directory `<root>/<stage>/<doc_id>/` with its part files and `metadata.json`. A new one is
built under a temporary name in the stage directory and becomes visible by one rename, which fails where a
document is already. So a reader sees all of a document or nothing, and of many writers one wins.

All names below a stage are used relative to a descriptor of the stage directory, where the platform can do
that: the directory cannot be exchanged on the way, and opening it makes an NFS client look again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import time
from datetime import UTC, datetime, timedelta
from os.path import join
from typing import TYPE_CHECKING, Literal

from docid.backends.base import Stored
from docid.backends.directory import READ, Directory
from docid.document import RECORD_FILE, nonce
from docid.errors import DurabilityUnknown, UnreadableDocument
from docid.ids import is_doc_id

# Windows has no flock: changes of one document by two processes at once are not kept apart there.
if sys.platform != "win32":  # pragma: no branch
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

__all__ = ["LocalBackend"]

_LOCK = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)

# What a rename onto a directory that is not empty (ENOTEMPTY, on XFS EEXIST) or onto a file says.
_TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})

_HISTORY = (".docid", "history")
# What stands beside a document that is being changed, or once was: its interim name, its lock.
_CHANGE_NAMES = (".old-", ".lock-")

_STAMP = "%Y%m%dT%H%M%S.%fZ"
# Whatever else lies in a history is somebody else's.
_ENTRY = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-[0-9a-f]{16}(\.json)?")


class LocalBackend:
    """Documents in directories below a root, on a file system of this machine or a mounted one.

    Args:
        root: the directory of the stages; need not exist yet, and may be a symbolic link.
        durability: `"full"`: when a write returns, the document survives a power cut (every file and directory
            is synced). `"none"`: it survives the end of the process, not a power cut: faster, for what is
            made again easily. Whole or absent it is in both.

    Raises:
        ValueError: another durability.
    """

    def __init__(self, root: str | os.PathLike[str], *, durability: Literal["full", "none"] = "full") -> None:
        if durability not in {"full", "none"}:
            raise ValueError(f"durability: expected 'full' or 'none', got {durability!r}")
        self.root = os.fspath(root)
        self.durability = durability
        self._sync = durability == "full"

    def __repr__(self) -> str:
        return f"LocalBackend({self.root!r}, durability={self.durability!r})"

    def path(self, stage: str, doc_id: str) -> Path:
        """Return the directory of the document."""
        # Not imported by us before somebody asks: it is a tenth of what importing docid costs.
        from pathlib import Path  # noqa: PLC0415

        return Path(self.root, stage, doc_id)

    def create(self, stage: str, doc_id: str, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """See `Backend.create`."""
        with self._at(stage, doc_id), self._made(join(self.root, stage), stage, doc_id) as directory:
            # A document under its interim name keeps its id; an empty directory claims nothing, here too.
            if directory.exists(_old(doc_id)) and not directory.remove_empty(_old(doc_id)):
                return False
            temporary = self._build(directory, doc_id, record, parts)
            try:
                directory.rename(temporary, doc_id)
            except OSError as error:
                # NFS may report a rename that was done as failed, so what is there decides.
                if not _holds(directory, doc_id, record):
                    directory.remove(temporary)
                    if error.errno in _TAKEN:
                        return False
                    raise
            # A replace may have moved a document aside at that moment. It holds the lock, whose file is there
            # before anything moves; the id is its, not ours.
            if directory.exists(_lock(doc_id)):
                with _locked(directory, doc_id):
                    if not _holds(directory, doc_id, record):
                        return False
                    if directory.exists(_old(doc_id)):
                        directory.rename(doc_id, temporary)
                        directory.rename(_old(doc_id), doc_id)
                        directory.remove(temporary)
                        return False
            self._committed(directory, stage, doc_id)
            return True

    def load(self, stage: str, doc_id: str, parts: Collection[str] = ()) -> Stored | None:
        """See `Backend.load`."""
        with self._at(stage, doc_id):
            directory = self._open(join(self.root, stage), stage, doc_id)
            if directory is None:
                return None
            with directory:
                # Twice: a replace may be between its renames, and under way from the second name to the first.
                for name in (doc_id, _old(doc_id)) * 2:
                    found = self._read(directory, name, stage, doc_id, parts)
                    if found is not None:
                        return found
                return None

    def sizes(self, stage: str, doc_id: str, parts: Collection[str]) -> dict[str, int]:
        """See `Backend.sizes`."""
        sizes = {}
        for name in parts:
            with contextlib.suppress(FileNotFoundError):
                sizes[name] = os.lstat(join(self.root, stage, doc_id, name)).st_size
        return sizes

    def amend(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """See `Backend.amend`."""
        with self._at(stage, doc_id), self._changing(stage, doc_id, expected) as directory:
            if directory is None:
                return False
            with self._history(stage, doc_id) as history, directory.sub(doc_id) as document:
                entry = f"{_next_stamp(history)}.json"
                history.swap_in(entry, expected, sync=self._sync)
                self._settle_directory(history)
                try:
                    for name, data in {**parts, RECORD_FILE: record}.items():
                        document.swap_in(name, data, sync=self._sync)
                except OSError:
                    if not _holds(directory, doc_id, record):
                        # Cleaned up only where the old record is seen to be there: where nothing can be read now,
                        # the new one may be in place, and then these files are its own.
                        if _holds(directory, doc_id, expected):
                            for left, name in ((history, entry), *((document, name) for name in parts)):
                                with contextlib.suppress(OSError):
                                    left.unlink(name)
                        raise
                self._committed(document, stage, doc_id)
            return True

    def replace(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """See `Backend.replace`."""
        with self._at(stage, doc_id), self._changing(stage, doc_id, expected) as directory:
            if directory is None:
                return False
            # History is opened first: what cannot be put aside is not replaced.
            with self._history(stage, doc_id) as history:
                temporary = self._build(directory, doc_id, record, parts)
                try:
                    directory.rename(doc_id, _old(doc_id))
                    self._put(directory, temporary, doc_id, record)
                except OSError:
                    if not directory.exists(doc_id):
                        with contextlib.suppress(OSError):
                            directory.rename(_old(doc_id), doc_id)
                    directory.remove(temporary)
                    raise
                self._committed(directory, stage, doc_id)
                # The new version is in place. Where the old one cannot be moved now, the next change does it, and
                # history finds it where it is.
                with contextlib.suppress(OSError):
                    self._retire(directory, doc_id, history)
            return True

    def ids(self, stage: str) -> Iterator[str]:
        """See `Backend.ids`.

        A document that is replaced while its stage is listed is among the names, and may be there twice.
        """
        started = time.time_ns()
        directory = self._open(join(self.root, stage), stage, "")
        if directory is None:
            return
        changed: set[str] = set()
        seen: set[str] = set()
        with directory:
            for entry in directory.scan():
                name = entry.name
                if is_doc_id(name):
                    if entry.is_dir(follow_symlinks=False):
                        if name in changed:
                            seen.add(name)
                        yield name
                elif name.startswith(_CHANGE_NAMES):
                    changed.add(name.split("-", 1)[1])
            # A replace renames, and a listing that passes by at that moment may miss the name. Its lock file says
            # when it was held last; where names have come since, it may be among them.
            if directory.changed_since(started):
                changed |= {
                    entry.name.split("-", 1)[1] for entry in directory.scan() if entry.name.startswith(_CHANGE_NAMES)
                }
            for doc_id in changed - seen:
                if is_doc_id(doc_id) and self._was_missed(directory, doc_id, started):
                    yield doc_id

    def history(self, stage: str, doc_id: str, parts: Collection[str]) -> Iterator[Stored]:
        """See `Backend.history`."""
        with self._at(stage, doc_id):
            # The version that is being replaced, or whose replace was interrupted, is not in history yet.
            later = self._replaced(stage, doc_id, parts)
            if later is not None:
                yield later
            else:
                # Loaded before history is listed: whatever takes its place meanwhile puts it there.
                with contextlib.suppress(UnreadableDocument):
                    later = self.load(stage, doc_id, parts)
            known = b"" if later is None else later.record
            # Where only the record changed, the parts are those of the next later version.
            contents = {} if later is None else later.parts
            directory = self._open(join(self.root, *_HISTORY, stage, doc_id), stage, doc_id)
            if directory is None:
                return
            with directory:
                for name in sorted(filter(_ENTRY.fullmatch, directory.names()), reverse=True):
                    if name.endswith(".json"):
                        record = directory.read(name)
                    else:
                        with directory.sub(name) as old:
                            record = old.read(RECORD_FILE)
                            contents = {part: data for part in parts if (data := old.read(part)) is not None}
                    # An equal record is the current one, whose change was interrupted or has been put here since.
                    if record is not None and record != known:
                        yield Stored(record, contents)

    def _replaced(self, stage: str, doc_id: str, parts: Collection[str]) -> Stored | None:
        """Return the version under the interim name, where the new one is in place already."""
        directory = self._open(join(self.root, stage), stage, doc_id)
        if directory is None:
            return None
        with directory:
            old = self._read(directory, _old(doc_id), stage, doc_id, parts)
            return old if old is not None and directory.exists(doc_id) else None

    @staticmethod
    def _was_missed(directory: Directory, doc_id: str, started: int) -> bool:
        """Return whether a listing that started then (in ns) may have passed by a document while it was replaced."""
        there = directory.exists(doc_id)
        if not there and directory.exists(_old(doc_id)):
            return True
        # Held before the time is looked at: it is set before the lock is given back.
        held = _is_held(directory, doc_id)
        lock = directory.stat(_lock(doc_id))
        just_now = held or (lock is not None and lock.st_mtime_ns >= started)
        return just_now and (there or directory.exists(doc_id) or directory.exists(_old(doc_id)))

    @contextlib.contextmanager
    def _at(self, stage: str, doc_id: str) -> Iterator[None]:
        """Give an `OSError` the whole path: calls relative to a descriptor know only the last part."""
        try:
            yield
        except OSError as error:
            if error.filename is not None and os.path.dirname(error.filename):
                raise
            raise OSError(error.errno, error.strerror, join(self.root, stage, doc_id)) from error

    def _open(self, path: str, stage: str, doc_id: str) -> Directory | None:
        try:
            return Directory(path)
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise self._no_directory(path, stage, doc_id) from None

    def _no_directory(self, path: str, stage: str, doc_id: str) -> UnreadableDocument:
        if os.path.islink(path):
            found, remedy = f"{path} is a symbolic link", "link the store's root instead, which may be one"
        else:
            wrong = path if os.path.isdir(self.root) else self.root
            found, remedy = f"{wrong} is no directory", "look what it is, and move it aside"
        return UnreadableDocument(stage, doc_id, str(self.path(stage, doc_id)), found, remedy)

    def _made(self, path: str, stage: str, doc_id: str) -> Directory:
        """Open a directory, after making it and what is missing above it."""
        if directory := self._open(path, stage, doc_id):
            return directory
        missing = [path]
        while not os.path.isdir(_parent(missing[-1])):
            missing.append(_parent(missing[-1]))
        for made in reversed(missing):
            with contextlib.suppress(FileExistsError):
                os.mkdir(made)
            if self._sync:
                # Also where another process made it just now: it may not have come to its own sync yet.
                with Directory(os.path.realpath(_parent(made))) as parent:
                    parent.sync()
        directory = self._open(path, stage, doc_id)
        if directory is None:
            raise FileNotFoundError(errno.ENOENT, "removed while it was being made", path)
        return directory

    def _read(self, directory: Directory, name: str, stage: str, doc_id: str, parts: Collection[str]) -> Stored | None:
        """Return what a directory holds, by one descriptor, so that all is of one version; None if it is absent.

        Raises:
            UnreadableDocument: it is no document.
        """
        try:
            document = directory.sub(name)
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise self._no_directory(join(directory.path, name), stage, doc_id) from None
        with document:
            try:
                record = document.read(RECORD_FILE)
                if record is None:
                    # An empty directory claims nothing: a rename replaces it.
                    if not document.names():
                        return None
                    problem = f"the directory has no {RECORD_FILE}, so it is no document"
                    raise UnreadableDocument(stage, doc_id, document.path, problem, self._repair())
                contents = {part: data for part in parts if (data := document.read(part)) is not None}
            except IsADirectoryError as error:
                problem = f"{error.filename} is no file"
                raise UnreadableDocument(stage, doc_id, document.path, problem, self._repair()) from None
            return Stored(record, contents)

    def _repair(self) -> str:
        return f"see what 'docid repair --store {self.root}' plans"

    def _build(self, directory: Directory, doc_id: str, record: bytes, parts: Mapping[str, bytes]) -> str:
        """Write a whole document under a temporary name in the stage directory; return that name."""
        temporary = f".tmp-{doc_id}-{nonce()}"
        directory.mkdir(temporary)
        try:
            with directory.sub(temporary) as document:
                for name, data in {**parts, RECORD_FILE: record}.items():
                    document.write(name, data, sync=self._sync)
                self._settle_directory(document)
        except BaseException:
            directory.remove(temporary)
            raise
        return temporary

    def _put(self, directory: Directory, temporary: str, doc_id: str, record: bytes) -> None:
        """Rename a new version to its id, under the lock, past a create that took the id a moment ago."""
        while True:
            try:
                directory.rename(temporary, doc_id)
            except OSError as error:
                if _holds(directory, doc_id, record):
                    return
                if error.errno not in _TAKEN:
                    raise
                # That create will wait for our lock, see that the id is not its own any more, and say so.
                moved = f".tmp-{doc_id}-{nonce()}"
                directory.rename(doc_id, moved)
                directory.remove(moved)
            else:
                return

    def _settle_directory(self, directory: Directory) -> None:
        if self._sync:
            directory.sync()

    def _committed(self, directory: Directory, stage: str, doc_id: str) -> None:
        """Make a rename durable that was done in a directory."""
        try:
            self._settle_directory(directory)
        except OSError as error:
            raise DurabilityUnknown(stage, doc_id, str(self.path(stage, doc_id)), str(error)) from error

    @contextlib.contextmanager
    def _changing(self, stage: str, doc_id: str, expected: bytes) -> Iterator[Directory | None]:
        """Hold the lock of a document for a change; None where its record is not the expected one."""
        directory = self._open(join(self.root, stage), stage, doc_id)
        if directory is None:
            yield None
            return
        with directory, _locked(directory, doc_id):
            if directory.exists(_old(doc_id)):
                if directory.exists(doc_id):
                    with self._history(stage, doc_id) as history:
                        self._retire(directory, doc_id, history)
                else:
                    directory.rename(_old(doc_id), doc_id)
            found = self._read(directory, doc_id, stage, doc_id, ())
            yield directory if found is not None and found.record == expected else None

    @contextlib.contextmanager
    def _history(self, stage: str, doc_id: str) -> Iterator[Directory]:
        with self._made(join(self.root, *_HISTORY, stage, doc_id), stage, doc_id) as directory:
            yield directory

    def _retire(self, directory: Directory, doc_id: str, history: Directory) -> None:
        """Move the version that was replaced from its interim name into history."""
        directory.rename(_old(doc_id), _next_stamp(history), history)
        self._settle_directory(history)
        self._settle_directory(directory)


def _parent(path: str) -> str:
    return os.path.dirname(path) or os.curdir


def _old(doc_id: str) -> str:
    return f".old-{doc_id}"


def _lock(doc_id: str) -> str:
    return f".lock-{doc_id}"


def _next_stamp(history: Directory) -> str:
    """Return a name for the next entry of a history, behind all that are there even if the clock went back."""
    now = datetime.now(UTC)
    if names := list(filter(_ENTRY.fullmatch, history.names())):
        last = datetime.strptime(max(names).partition("-")[0], _STAMP).replace(tzinfo=UTC)
        now = max(now, last + timedelta(microseconds=1))
    return f"{now.strftime(_STAMP)}-{nonce()}"


def _holds(directory: Directory, doc_id: str, record: bytes) -> bool:
    """Return whether the document of that id has this record, which a nonce makes one of a kind."""
    with contextlib.suppress(OSError), directory.sub(doc_id) as document:
        return document.read(RECORD_FILE) == record
    return False


@contextlib.contextmanager
def _locked(directory: Directory, doc_id: str) -> Iterator[None]:
    """Hold the exclusive lock of a document, beside other processes and threads."""
    name = _lock(doc_id)
    while True:
        fd = directory.open(name, _LOCK)
        try:
            if sys.platform != "win32":  # pragma: no branch
                fcntl.flock(fd, fcntl.LOCK_EX)
            # A sweep may have removed the file while we waited; then others lock another one.
            status = directory.stat(name)
            if status is not None and os.path.samestat(status, os.fstat(fd)):
                try:
                    yield
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
            os.close(fd)


def _is_held(directory: Directory, doc_id: str) -> bool:
    """Return whether somebody holds the lock of a document now."""
    if sys.platform == "win32":  # pragma: no cover
        return False
    try:
        fd = directory.open(_lock(doc_id), READ)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False

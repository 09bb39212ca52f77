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
import time
from os.path import join
from typing import TYPE_CHECKING, Literal

from docid.core.document import PART_FILES
from docid.core.ids import DOC_ID, is_doc_id
from docid.core.lineage_rules import is_other_lineage
from docid.core.record import RECORD_FILE, Record
from docid.errors import DocidError, DurabilityUnknown, InvalidDocument, UnreadableDocument
from docid.store.backends.base import TURNS, Backend, Stored
from docid.store.backends.local.directory import Directory, glance, make_below, open_below, read_flat
from docid.store.backends.local.locks import Temporary, is_held, locked
from docid.store.backends.local.sweep import LocalSweeper
from docid.store.backends.names import CHANGE_NAMES, HISTORY, entries, entry_name, lock_name, old_name, temporary_name

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterator, Mapping, Sequence

    from docid.store.backends.base import NewDocument

__all__ = ["LocalBackend"]

# What a rename onto a directory that is not empty (ENOTEMPTY, on XFS EEXIST) or onto a file says.
_TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})

_RUN_AGAIN = "nothing is half written, so that it can be run again"
# What to do about what a file system refuses.
_REMEDIES = {
    errno.ENOSPC: f"free bytes or inodes (df, df -i); {_RUN_AGAIN}",
    errno.EDQUOT: f"free some of the user's quota; {_RUN_AGAIN}",
    errno.EFBIG: f"raise the limit on the size of files (ulimit -f); {_RUN_AGAIN}",
    errno.EACCES: "look at the owner and the mode of the directories on this path: this user may not do that here",
    errno.EPERM: "look at the owner and the attributes of the directories on this path: this user may not do that here",
    errno.EROFS: "mount the file system for writing, or use another root",
    errno.EIO: f"look at the disk, in the system's log; {_RUN_AGAIN}",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.EXDEV: "have all of a store on one file system: a version is put aside by a rename",
    errno.ENOLCK: "changing a document needs a file system with locks (flock)",
    errno.EOPNOTSUPP: "changing a document needs a file system with locks (flock)",
}

# So often a document is looked for whose lock is there and free, before it is believed not to be there.
_LOOKS = 3


class _WithHistory:
    """The documents of a stage that have a history, or an interim name: one that was replaced is there already."""

    def __init__(self, history: str, stage: str) -> None:
        self._history = history
        self._stage = stage

    def __contains__(self, doc_id: object) -> bool:
        name = str(doc_id)
        return os.path.lexists(join(self._history, name)) or os.path.lexists(join(self._stage, old_name(name)))


class LocalBackend(Backend):
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
        given = os.fspath(root)
        self.root = given.rstrip(os.sep) or given[:1]  # "/" stays
        self._below = join(self.root, "")
        self.durability = durability
        self._sync = durability == "full"

    def __repr__(self) -> str:
        return f"LocalBackend({self.root!r}, durability={self.durability!r})"

    def location(self, stage: str, doc_id: str) -> str:
        """See `Backend.location`."""
        return f"{self._below}{stage}{os.sep}{doc_id}"

    def create(self, stage: str, doc_id: str, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """See `Backend.create`."""
        try:
            with self._made((stage,), doc_id) as directory:
                for _ in range(TURNS):
                    # Where it is there nothing is built. Whether it is not is seen again at the rename.
                    if directory.seems_there(doc_id) and _is_taken(directory, doc_id):
                        return False
                    with Temporary(directory, doc_id) as temporary:
                        try:
                            temporary.fill(record, parts, sync=self._sync)
                            created = self._commit(directory, temporary, stage, doc_id, record)
                        except FileNotFoundError:
                            if temporary.was_swept():
                                continue
                            raise
                        if created:
                            self._committed(directory, stage, doc_id)
                        return created
                raise OSError(errno.EBUSY, "swept away again and again while it was written")  # noqa: TRY301 - explained below
        except OSError as error:
            raise self._explained(error, stage, doc_id) from error

    def create_many(self, documents: Sequence[NewDocument]) -> list[bool | Exception]:
        """See `Backend.create_many`. On a local Linux file system all are made durable by one sync of it."""
        results = self._create_together(documents) if self._sync and len(documents) > 1 else {}
        one_by_one = super().create_many([each for number, each in enumerate(documents) if number not in results])
        return [results[number] if number in results else one_by_one.pop(0) for number in range(len(documents))]

    def _create_together(self, documents: Sequence[NewDocument]) -> dict[int, bool | Exception]:
        """Create documents, with few syncs; return what became of each, by number.

        What cannot be done so is left out, for `create`, which says by itself what is wrong with one.
        """
        with contextlib.ExitStack() as stack:
            directories: dict[str, Directory] = {}
            temporaries: dict[int, Temporary] = {}
            taken: dict[int, bool | Exception] = {}
            for number, (stage, doc_id, record, parts) in enumerate(documents):
                with contextlib.suppress(DocidError, OSError):
                    if stage not in directories:
                        directories[stage] = stack.enter_context(self._made((stage,), doc_id))
                    if directories[stage].seems_there(doc_id) and _is_taken(directories[stage], doc_id):
                        taken[number] = False
                        continue
                    temporary = stack.enter_context(Temporary(directories[stage], doc_id))
                    temporary.fill(record, parts, sync=False)
                    temporaries[number] = temporary
            synced = False
            with contextlib.suppress(OSError):
                synced = bool(temporaries) and all(directory.sync_all() for directory in directories.values())
            return taken | (self._commit_together(documents, directories, temporaries) if synced else {})

    def _commit_together(
        self,
        documents: Sequence[NewDocument],
        directories: Mapping[str, Directory],
        temporaries: Mapping[int, Temporary],
    ) -> dict[int, bool | Exception]:
        results: dict[int, bool | Exception] = {}
        for number, temporary in temporaries.items():
            stage, doc_id, record, _ = documents[number]
            try:
                with self._at(stage, doc_id):
                    results[number] = self._commit(directories[stage], temporary, stage, doc_id, record)
            except (DocidError, OSError) as error:
                if not temporary.was_swept():
                    results[number] = error
        for stage, directory in directories.items():
            try:
                directory.sync()
            except OSError as error:
                for number in [number for number, result in results.items() if result is True]:
                    if documents[number].stage == stage:
                        results[number] = self._unknown(stage, documents[number].doc_id, error)
        return results

    def _commit(self, directory: Directory, temporary: Temporary, stage: str, doc_id: str, record: bytes) -> bool:
        """Rename a whole document to its id; return False where the id is taken."""
        # A document under its interim name keeps its id; an empty directory claims nothing, here too. Seen before the
        # rename, so that no reader sees the new one meanwhile; behind it, so that it is true.
        old = old_name(doc_id)
        if directory.seems_there(old) and not directory.remove_empty(old):
            return False
        try:
            directory.rename(temporary.name, doc_id)
        except OSError as error:
            # NFS may report a rename that was done as failed, so what is there decides.
            if not _holds(directory, doc_id, record):
                if error.errno in _TAKEN:
                    return False
                raise
        temporary.moved = True
        # A replace may have moved a document aside at that moment, and the id is its, not ours. It holds the lock as
        # long as the old version is under its interim name; behind that, what is at the id tells.
        try:
            if directory.exists(old):
                with locked(directory, doc_id):
                    return self._stays(directory, temporary, stage, doc_id)
            elif not temporary.is_at(doc_id):
                return self._stays(directory, temporary, stage, doc_id)
        except OSError as error:
            raise self._unknown(stage, doc_id, error) from error
        return True

    def _stays(self, directory: Directory, temporary: Temporary, stage: str, doc_id: str) -> bool:
        """Return whether a document that was renamed to its id got it; withdraw it where another one has the id."""
        if temporary.is_at(doc_id):
            if not directory.exists(old_name(doc_id)):
                return True  # others may have added to it by now
            # It has come between the renames of a replace that died.
            directory.move(doc_id, temporary.name)
            temporary.moved = False
            # Where it cannot be moved back, it is found under its interim name.
            with contextlib.suppress(OSError):
                directory.move(old_name(doc_id), doc_id)
            return False
        # Replaced already, or put out by a replace that has the id.
        if temporary.is_at(old_name(doc_id)):
            return True
        history = self._open((*HISTORY, stage, doc_id), doc_id)
        if history is None:
            return False
        with history:
            return any(temporary.is_in(history, name) for name in entries(history.names()))

    def load(self, stage: str, doc_id: str, parts: Collection[str] = ()) -> Stored | None:
        """See `Backend.load`."""
        try:
            # What is nearly always so, in the fewest steps; anything else is looked at closely below.
            flat = read_flat(self._below + stage, doc_id, (RECORD_FILE, *parts))
        except OSError:
            flat = None
        if flat is not None and (record := flat[0]) is not None:
            found = {part: data for part, data in zip(parts, flat[1:], strict=True) if data is not None}
            return Stored(record, found)
        return self._load(stage, doc_id, parts)

    def _load(self, stage: str, doc_id: str, parts: Collection[str]) -> Stored | None:
        try:
            directory = self._open((stage,), doc_id)
            if directory is None:
                return None
            with directory:
                free = 0
                for _ in range(TURNS):
                    for name in (doc_id, old_name(doc_id)):
                        found = self._read(directory, name, stage, doc_id, parts)
                        if found is not None:
                            return found
                    # A replace may have renamed it from the second name to the first meanwhile. Then its lock is
                    # there; one that nobody holds may be of a replace that was over a moment ago.
                    if not directory.exists(lock_name(doc_id)):
                        return None
                    free += not is_held(directory, doc_id)
                    if free == _LOOKS:
                        return None
                return None
        except OSError as error:
            raise self._explained(error, stage, doc_id) from error

    def settle(self, stage: str, doc_id: str) -> bool:
        """See `Backend.settle`."""
        # One call where there is nothing to do, which is nearly always.
        if not os.path.lexists(join(self.root, stage, old_name(doc_id))):
            return False
        with self._at(stage, doc_id):
            directory = self._open((stage,), doc_id)
            if directory is None:
                return False
            with directory, locked(directory, doc_id):
                return self._settle(directory, stage, doc_id)

    def _settle(self, directory: Directory, stage: str, doc_id: str) -> bool:
        """Finish or roll back a replace that was interrupted, under the lock; return whether there was one."""
        old = old_name(doc_id)
        if not directory.exists(old) or directory.remove_empty(old):
            return False
        if directory.exists(doc_id):
            if self._replaces(directory, stage, doc_id):
                with self._history(stage, doc_id) as history:
                    self._retire(directory, doc_id, history)
                return True
            # A create of another lineage, killed before it saw that the id is taken: it told nobody.
            directory.move(doc_id, temporary_name(doc_id))
        directory.move(old, doc_id)
        self._settle_directory(directory)
        return True

    @staticmethod
    def _replaces(directory: Directory, stage: str, doc_id: str) -> bool:
        """Return whether what stands at an id is a later version of the document under the interim name."""
        records = []
        for name in (old_name(doc_id), doc_id):
            try:
                with directory.sub(name) as document:
                    records.append(Record.from_bytes(document.read(RECORD_FILE) or b"", stage, doc_id))
            except (InvalidDocument, NotADirectoryError, IsADirectoryError) as error:
                # The record of a later docid is its business. What is no document goes to history, as the old one;
                # as the new one it does not count.
                return name != doc_id or getattr(error, "field", "") == "format"
        old, new = records
        return not is_other_lineage(old, new)

    def sizes(self, stage: str, doc_id: str, parts: Collection[str]) -> dict[str, int]:
        """See `Backend.sizes`."""
        sizes = {}
        with self._at(stage, doc_id):
            for name in parts:
                with contextlib.suppress(FileNotFoundError):
                    sizes[name] = os.lstat(join(self.root, stage, doc_id, name)).st_size
        return sizes

    def modified(self, stage: str, doc_id: str) -> float | None:
        """See `Backend.modified`."""
        with self._at(stage, doc_id), contextlib.suppress(FileNotFoundError):
            return os.lstat(join(self.root, stage, doc_id, PART_FILES["raw"])).st_mtime
        return None

    def listing(self, stage: str, doc_id: str) -> tuple[bytes, dict[str, int]] | None:
        """See `Backend.listing`."""
        try:
            return glance(f"{self._below}{stage}{os.sep}{doc_id}", RECORD_FILE)
        except OSError:
            return None  # a closer look says what it is

    def amend(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """See `Backend.amend`."""
        with self._at(stage, doc_id), self._changing(stage, doc_id, expected) as directory:
            if directory is None:
                return False
            with self._history(stage, doc_id) as history, directory.sub(doc_id) as document:
                entry = f"{entry_name(history.names())}.json"
                try:
                    history.swap_in(entry, expected, sync=self._sync)
                    self._settle_directory(history)
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
            with self._history(stage, doc_id) as history, Temporary(directory, doc_id) as temporary:
                try:
                    if not directory.is_beside(history):
                        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), history.path)  # noqa: TRY301 - cleaned up below
                    temporary.fill(record, parts, sync=self._sync)
                    directory.move(doc_id, old_name(doc_id))
                    self._put(directory, temporary, doc_id, record)
                except OSError as error:
                    if not directory.exists(doc_id):
                        with contextlib.suppress(OSError):
                            directory.move(old_name(doc_id), doc_id)
                    if isinstance(error, FileNotFoundError) and temporary.was_swept():
                        return False
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
        with self._at(stage):
            yield from self._listed(stage)

    def with_history(self, stage: str) -> Container[str]:
        """See `Backend.with_history`: looked at when it is asked for, not before."""
        return _WithHistory(join(self.root, *HISTORY, stage), join(self.root, stage))

    def _listed(self, stage: str) -> Iterator[str]:
        started = time.time_ns()
        directory = self._open((stage,), "")
        if directory is None:
            return
        changed: set[str] = set()
        seen: set[str] = set()
        with directory:
            is_name = DOC_ID.match  # a call for each of millions
            with os.scandir(directory.path if directory.fd is None else directory.fd) as listing:
                for entry in listing:
                    name = entry.name
                    if is_name(name):
                        if entry.is_dir(follow_symlinks=False):
                            if changed and name in changed:
                                seen.add(name)
                            yield name
                    elif name.startswith(CHANGE_NAMES):
                        changed.add(name.split("-", 1)[1])
            # A replace renames, and a listing that passes by at that moment may miss the name. Its lock file says
            # when it was held last; where names have come since, it may be among them.
            if directory.changed_since(started):
                changed |= {
                    entry.name.split("-", 1)[1] for entry in directory.scan() if entry.name.startswith(CHANGE_NAMES)
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
            directory = self._open((*HISTORY, stage, doc_id), doc_id)
            if directory is None:
                return
            with directory:
                for name in reversed(entries(directory.names())):
                    record = None
                    if name.endswith(".json"):
                        record = directory.read(name)
                    else:
                        # A purge may take it away at this moment.
                        with contextlib.suppress(FileNotFoundError, NotADirectoryError), directory.sub(name) as old:
                            record = old.read(RECORD_FILE)
                            contents = {part: data for part in parts if (data := old.read(part)) is not None}
                    # An equal record is the one before, whose change was interrupted or has been put here since.
                    if record is not None and record != known:
                        known = record
                        yield Stored(record, contents)

    def _replaced(self, stage: str, doc_id: str, parts: Collection[str]) -> Stored | None:
        """Return the version under the interim name, where the new one is in place already."""
        directory = self._open((stage,), doc_id)
        if directory is None:
            return None
        with directory:
            old = self._read(directory, old_name(doc_id), stage, doc_id, parts)
            return old if old is not None and directory.exists(doc_id) else None

    @staticmethod
    def _was_missed(directory: Directory, doc_id: str, started: int) -> bool:
        """Return whether a listing that started then (in ns) may have passed by a document while it was replaced."""
        there = directory.exists(doc_id)
        if not there and directory.exists(old_name(doc_id)):
            return True
        # Held before the time is looked at: it is set before the lock is given back.
        held = is_held(directory, doc_id)
        lock = directory.stat(lock_name(doc_id))
        just_now = held or (lock is not None and lock.st_mtime_ns >= started)
        return just_now and (there or directory.exists(doc_id) or directory.exists(old_name(doc_id)))

    def sweeper(self) -> LocalSweeper:
        """See `Backend.sweeper`."""
        return LocalSweeper(self.root, self.settle, sync=self._sync)

    @contextlib.contextmanager
    def _at(self, stage: str, doc_id: str = "") -> Iterator[None]:
        """Give an `OSError` the whole path, and a remedy."""
        try:
            yield
        except OSError as error:
            raise self._explained(error, stage, doc_id) from error

    def _explained(self, error: OSError, stage: str, doc_id: str) -> OSError:
        """Return an error with the whole path, which calls relative to a descriptor do not know, and a remedy."""
        path = error.filename
        if not isinstance(path, str) or not os.path.dirname(path):
            path = join(self.root, stage, doc_id) if doc_id else join(self.root, stage)
        remedy = _REMEDIES.get(error.errno or 0)
        problem = f"{error.strerror}; {remedy}" if remedy else error.strerror
        return OSError(error.errno, problem, path)

    def _open(self, names: Sequence[str], doc_id: str) -> Directory | None:
        """Open a directory below the root; None where it is not there."""
        try:
            return open_below(self.root, names)
        except FileNotFoundError:
            return None
        except NotADirectoryError as error:
            raise self._no_directory(error.filename, names[-2:][0], doc_id) from None

    def _made(self, names: Sequence[str], doc_id: str) -> Directory:
        """Open a directory below the root, after making it and what is missing above it."""
        try:
            if len(names) == 1:
                # What every write does, in the fewest steps.
                try:
                    return Directory(self._below + names[0])
                except FileNotFoundError:
                    pass
            return make_below(self.root, names, sync=self._sync)
        except NotADirectoryError as error:
            raise self._no_directory(error.filename, names[-2:][0], doc_id) from None

    def _no_directory(self, path: str, stage: str, doc_id: str) -> UnreadableDocument:
        if os.path.islink(path):
            found, remedy = f"{path} is a symbolic link", "link the store's root instead, which may be one"
        else:
            wrong = path if os.path.isdir(self.root) else self.root
            found, remedy = f"{wrong} is no directory", "look what it is, and move it aside"
        return UnreadableDocument(stage, doc_id, str(self.path(stage, doc_id)), found, remedy)

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
                    raise UnreadableDocument(stage, doc_id, document.path, problem, code="uncommitted-directory")
                contents = {part: data for part in parts if (data := document.read(part)) is not None}
            except IsADirectoryError as error:
                problem = f"{error.filename} is no file"
                raise UnreadableDocument(stage, doc_id, document.path, problem) from None
            return Stored(record, contents)

    @staticmethod
    def _put(directory: Directory, temporary: Temporary, doc_id: str, record: bytes) -> None:
        """Rename a new version to its id, under the lock, past a create that took the id a moment ago."""
        while True:
            try:
                directory.rename(temporary.name, doc_id)
            except OSError as error:
                if not _holds(directory, doc_id, record):
                    if error.errno not in _TAKEN:
                        raise
                    # That create will wait for our lock, see that the id is not its own any more, and say so.
                    moved = temporary_name(doc_id)
                    directory.move(doc_id, moved)
                    directory.remove(moved)
                    continue
            temporary.moved = True
            return

    def _settle_directory(self, directory: Directory) -> None:
        if self._sync:
            directory.sync()

    def _committed(self, directory: Directory, stage: str, doc_id: str) -> None:
        """Make a rename durable that was done in a directory."""
        try:
            self._settle_directory(directory)
        except OSError as error:
            raise self._unknown(stage, doc_id, error) from error

    def _unknown(self, stage: str, doc_id: str, error: OSError) -> DurabilityUnknown:
        return DurabilityUnknown(stage, doc_id, str(self.path(stage, doc_id)), str(error))

    @contextlib.contextmanager
    def _changing(self, stage: str, doc_id: str, expected: bytes) -> Iterator[Directory | None]:
        """Hold the lock of a document for a change; None where its record is not the expected one."""
        directory = self._open((stage,), doc_id)
        if directory is None:
            yield None
            return
        with directory, locked(directory, doc_id):
            self._settle(directory, stage, doc_id)
            found = self._read(directory, doc_id, stage, doc_id, ())
            yield directory if found is not None and found.record == expected else None

    @contextlib.contextmanager
    def _history(self, stage: str, doc_id: str) -> Iterator[Directory]:
        with self._made((*HISTORY, stage, doc_id), doc_id) as directory:
            yield directory

    def _retire(self, directory: Directory, doc_id: str, history: Directory) -> None:
        """Move the version that was replaced from its interim name into history."""
        directory.move(old_name(doc_id), entry_name(history.names()), history)
        self._settle_directory(history)
        self._settle_directory(directory)


def _is_taken(directory: Directory, doc_id: str) -> bool:
    """Return whether what stands at an id claims it: an empty directory does not."""
    try:
        with directory.sub(doc_id) as there:
            return bool(there.names())
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return True


def _holds(directory: Directory, doc_id: str, record: bytes) -> bool:
    """Return whether the document of that id has this record, which a nonce makes one of a kind."""
    with contextlib.suppress(OSError), directory.sub(doc_id) as document:
        return document.read(RECORD_FILE) == record
    return False

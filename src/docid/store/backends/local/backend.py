"""The local backend: one directory per document, built under a temporary name and renamed into place.

A document is the directory `<root>/<stage>/<doc_id>/` with its part files and `metadata.json`. docid builds a new one
under a temporary name in the stage directory, and makes it visible by one rename, which fails if the document exists.
So a reader sees a whole document or none, and one of several writers wins.

`docs/internals.md` describes each step, what a crash after it leaves, and why each sync is needed.
"""

# ruff: noqa: D102 - the docstrings are those of `Backend`, which help() shows
from __future__ import annotations

import contextlib
import errno
import math
import os
import stat
import time
from functools import cached_property
from os.path import join
from typing import TYPE_CHECKING, Any, Literal

from docid._files import get_mode, ignore_system_errors, is_system_error
from docid.core.document import PART_FILES
from docid.core.findings import Finding
from docid.core.ids import DOC_ID, is_doc_id
from docid.core.record import RECORD_FILE
from docid.errors import DocidError, UnreadableDocument
from docid.store.backends.base import TURNS, Backend, InternalFile, Removed, Stored, TracePath
from docid.store.backends.local.claims import LocalClaims
from docid.store.backends.local.commit import Place, commit_new, commit_version, settle
from docid.store.backends.local.directory import (
    Directory,
    explain,
    explain_errors,
    make_below,
    open_below,
    open_root,
    share,
)
from docid.store.backends.local.locks import SWEPT, Temporary, count_open_locks, hold_lock, is_held
from docid.store.backends.local.quarantine import LocalQuarantine
from docid.store.backends.local.sweep import LocalSweeper
from docid.store.backends.names import (
    CHANGE_NAMES,
    HISTORY,
    INTERNAL,
    QUARANTINE,
    entries,
    entry_name,
    interim_name,
    lock_name,
    new_name,
    old_name,
)

try:
    import resource
except ImportError:  # pragma: no cover  - Windows
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterator, Mapping, Sequence

    from docid.store.backends.base import NewDocument
    from docid.store.backends.claims import Claim, Holder

_DESCRIPTORS = 200  # for documents that are written together, and for the rest of the process
_FILES = "files"  # one lock for the internal files in a directory
_CLOCK_STEP = 2_000_000_000  # ns; file systems store times in steps of up to two seconds


class LocalBackend(Backend):
    """A backend in directories below a root, on a local or mounted file system.

    Args:
        root: the directory that holds the stages. It does not need to exist, and may be a symbolic link. docid resolves
            `~` and a relative path at once.
        durability: with `"full"`, a document survives a power cut once its write returns (docid syncs every file and
            directory). With `"none"`, it survives the end of the process, but maybe not a power cut. This is faster;
            use it for documents that are easy to make again. Both keep each document whole or absent.

    Raises:
        ValueError: `durability` has another value.
    """

    def __init__(self, root: str | os.PathLike[str], *, durability: Literal["full", "none"] = "full") -> None:
        if durability not in {"full", "none"}:
            raise ValueError(f"durability: expected 'full' or 'none', got {durability!r}")
        # Resolve it now: the process may change its directory, and workers may start in another one.
        self.root = _make_absolute(os.fspath(root))
        self._below = join(self.root, "")
        self.durability = durability
        self._sync = durability == "full"
        self._proven: set[str] = set()  # the stages in which this process has found that it can write

    def __repr__(self) -> str:
        return f"LocalBackend({self.root!r}, durability={self.durability!r})"

    def location(self, stage: str, doc_id: str) -> str:
        return f"{self._below}{stage}{os.sep}{doc_id}"

    def create(self, stage: str, doc_id: str, record: bytes, parts: Mapping[str, bytes]) -> bool:
        with explain_errors(self.root, stage, doc_id), make_below(self.root, (stage,), sync=self._sync) as directory:
            place = Place(directory, self.root, stage, doc_id, self._sync)
            for _ in range(TURNS):
                # If the id is taken, save the work. The rename checks it again.
                if place.is_taken():
                    return False
                with Temporary(directory, doc_id) as temporary:
                    try:
                        temporary.fill(record, parts, sync=self._sync)
                        created = commit_new(place, temporary, record)
                    except FileNotFoundError:
                        if temporary.was_swept():
                            continue
                        raise
                    if created:
                        place.sync_commit(directory)
                    return created
            raise OSError(errno.EBUSY, SWEPT)

    def create_many(self, documents: Sequence[NewDocument]) -> list[bool | Exception]:
        """See `Backend.create_many`. On a local Linux file system, one sync makes all documents durable.

        docid checks whether the file system supports this before it writes. Only if that sync fails, it writes the
        documents a second time.
        """
        results = self._create_together(documents) if self._sync and len(documents) > 1 else {}
        one_by_one = super().create_many([each for number, each in enumerate(documents) if number not in results])
        return [results[number] if number in results else one_by_one.pop(0) for number in range(len(documents))]

    def _create_together(self, documents: Sequence[NewDocument]) -> dict[int, bool | Exception]:
        """Build documents, sync the file system once, commit each; return the results by number.

        Documents that fail before the commit are left out: `create` tries them again and raises their errors.
        """
        with contextlib.ExitStack() as stack:
            directories: dict[str, Directory | None] = {}
            built: dict[int, tuple[Place, Temporary, bytes]] = {}
            taken: dict[int, bool | Exception] = {}
            for number, (stage, doc_id, record, parts) in enumerate(documents):
                with ignore_system_errors:
                    if stage not in directories:
                        directories[stage] = None
                        made = stack.enter_context(make_below(self.root, (stage,), sync=True))
                        directories[stage] = made if made.can_sync_all() else None
                    directory = directories[stage]
                    if directory is None:
                        continue
                    place = Place(directory, self.root, stage, doc_id, sync=True)
                    if place.is_taken():
                        taken[number] = False
                        continue
                    temporary = stack.enter_context(Temporary(directory, doc_id))
                    temporary.fill(record, parts, sync=False)
                    built[number] = (place, temporary, record)
            try:
                for directory in {place.stage: place.directory for place, *_ in built.values()}.values():
                    directory.sync_all()
            except OSError as error:
                if not is_system_error(error):
                    raise
                return taken  # `create` writes and syncs each of the others on its own
            return taken | _commit_all(built)

    def load(self, stage: str, doc_id: str, parts: Collection[str] = ()) -> Stored | None:
        try:
            with Directory(self._below + stage) as directory:
                return Place(directory, self.root, stage, doc_id, self._sync).find(parts)
        except FileNotFoundError:
            return None  # the stage does not exist
        except OSError as error:
            if not is_system_error(error):
                raise
            raise explain(error, self.root, stage, doc_id) from error

    def sizes(self, stage: str, doc_id: str, parts: Collection[str]) -> dict[str, int]:
        with explain_errors(self.root, stage, doc_id), contextlib.suppress(FileNotFoundError):
            with Directory(self.location(stage, doc_id)) as document:
                statuses = {name: document.stat(name) for name in parts}
            return {name: status.st_size for name, status in statuses.items() if status is not None}
        return {}

    def listing(self, stage: str, doc_id: str) -> tuple[bytes, dict[str, int]] | None:
        sizes = {}
        # If the document cannot be read, `load` raises the error.
        with ignore_system_errors, Directory(self.location(stage, doc_id)) as document:
            record = document.read(RECORD_FILE)
            for name in document.names():
                if name != RECORD_FILE:
                    status = document.stat(name)
                    if status is None or not stat.S_ISREG(status.st_mode):
                        return None
                    sizes[name] = status.st_size
            if record is not None and get_mode(join(self.root, stage, lock_name(doc_id))):
                with Directory(self._below + stage) as directory:
                    if not Place(directory, self.root, stage, doc_id, self._sync).is_owner(document):
                        return None
            return None if record is None else (record, sizes)
        return None

    def still_exists(self, stage: str, doc_id: str) -> bool:
        """See `Backend.still_exists`. One system call, which costs an eighth of `exists`."""
        return stat.S_ISDIR(get_mode(self.location(stage, doc_id))) or self.exists(stage, doc_id)

    def last_modified(self, stage: str, doc_id: str) -> float | None:
        with explain_errors(self.root, stage, doc_id), contextlib.suppress(FileNotFoundError):
            return os.lstat(join(self.root, stage, doc_id, PART_FILES["raw"])).st_mtime
        return None

    def ids(self, stage: str) -> Iterator[str]:
        """See `Backend.ids`. If a document is replaced in the meantime, its id may appear twice."""
        with explain_errors(self.root, stage):
            place = self._open_place(stage, "")
            if place is not None:
                with place.directory:
                    yield from _list_ids(place.directory)

    def with_history(self, stage: str) -> Container[str]:
        """See `Backend.with_history`. Each `in` checks the disk."""
        return _WithHistory(join(self.root, *HISTORY, stage), join(self.root, stage))

    def history(self, stage: str, doc_id: str, parts: Collection[str]) -> Iterator[Stored]:
        with explain_errors(self.root, stage, doc_id):
            later = None
            place = self._open_place(stage, doc_id)
            if place is not None:
                with place.directory:
                    # Load it before listing history: a version that is replaced in between is then in history.
                    with contextlib.suppress(UnreadableDocument, NotADirectoryError):
                        later = place.find(parts)
                    # During a replace, or if one was interrupted, the old version is not in history yet.
                    old = place.read(place.old, parts)
                    if old is not None and (later is None or old.record != later.record):
                        yield old
                        later = old
            try:
                history = open_below(self.root, (*HISTORY, stage, doc_id))
            except FileNotFoundError:
                return
            with history:
                yield from _read_entries(history, later, parts)

    def amend(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        with explain_errors(self.root, stage, doc_id), self._change(stage, doc_id, expected) as place:
            if place is None:
                return False
            with place.make_history() as history, place.directory.sub(doc_id) as document:
                entry = f"{entry_name(history.names())}.json"
                try:
                    history.swap_in(entry, expected, sync=self._sync)
                    place.sync_names(history)
                    for name, data in {**parts, RECORD_FILE: record}.items():
                        document.swap_in(name, data, sync=self._sync)
                except BaseException as error:
                    # Clean up only if the old record can be read. Otherwise the new one may be in place, and these
                    # files belong to it.
                    if place.holds(expected):
                        for left, name in ((history, entry), *((document, name) for name in parts)):
                            with ignore_system_errors:
                                left.unlink(name)
                    if not is_system_error(error) or not place.holds(record):
                        raise
                place.sync_commit(document)
            return True

    def replace(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        with explain_errors(self.root, stage, doc_id), self._change(stage, doc_id, expected) as place:
            if place is None:
                return False
            # Check first that the old version can be moved into history: its directory gets another parent, so it
            # must be writable, too.
            with place.directory.sub(doc_id) as document:
                document.check_writable()
            with place.make_history() as history, Temporary(place.directory, doc_id) as temporary:
                if not place.directory.is_beside(history):
                    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), history.path)
                history.check_writable()
                try:
                    temporary.fill(record, parts, sync=self._sync)
                    commit_version(place, temporary, record)
                except OSError as error:
                    if isinstance(error, FileNotFoundError) and temporary.was_swept():
                        return False
                    raise
                place.sync_commit(place.directory)
                # The replace has succeeded. If the old version cannot be moved now, the next change moves it, and
                # `history` reads it under its interim name.
                with ignore_system_errors:
                    place.retire_old(history)
            return True

    def settle(self, stage: str, doc_id: str) -> bool:
        # In nearly every case there is nothing to settle, and this one call shows it.
        if not get_mode(join(self.root, stage, old_name(doc_id))):
            return False
        # If this fails, as on a read-only mount, readers still find the right version, and the next change raises.
        with contextlib.suppress(UnreadableDocument), ignore_system_errors:
            return self._settle(stage, doc_id) is not None
        return False

    def remove(self, stage: str, doc_id: str, expected: bytes, entry: str) -> str | None:
        with explain_errors(self.root, stage, doc_id), self._change(stage, doc_id, expected) as place:
            if place is None:
                return None
            with place.directory.sub(doc_id) as document:
                document.check_writable()  # its `..` changes: check that before its history moves
            return self.quarantine.put_document(stage, doc_id, entry)

    def list_removed(self) -> Iterator[Removed]:
        with explain_errors(self.root, *QUARANTINE):
            yield from self.quarantine.list()

    def load_removed(self, removed: Removed) -> Stored | None:
        with explain_errors(self.root, *QUARANTINE):
            return self.quarantine.load(removed)

    def restore(self, removed: Removed) -> bool:
        entry, stage, doc_id = removed
        with explain_errors(self.root, stage, doc_id), make_below(self.root, (stage,), sync=self._sync) as directory:
            place = Place(directory, self.root, stage, doc_id, self._sync)
            with hold_lock(directory, doc_id):
                settle(place)
                return self.quarantine.take_back(place, entry)

    def list_traces(self, documents: Collection[tuple[str, str]]) -> Iterator[TracePath]:
        with explain_errors(self.root, *QUARANTINE):
            yield from self.quarantine.list_traces(documents)

    def erase_trace(self, trace: TracePath) -> None:
        stage, doc_id, path = trace[:3]
        name, sweeper = os.path.basename(path), self.sweeper()
        with explain_errors(self.root, stage, doc_id):
            if path == join(stage, name):
                # Move it first, under its lock: a writer that has just made it begins again then.
                action: Literal["quarantine", "settle"] = "settle" if name == new_name(doc_id) else "quarantine"
                fault = Finding("stale-temporary", stage, doc_id, None, self._below + path, "", "", action)
                path = sweeper.clear(fault, entry_name(()), 0.0) or ""
                if not path and get_mode(self._below + trace.path):
                    raise OSError(errno.EBUSY, "another process uses it; try again", self._below + trace.path)
            if tuple(path.split(os.sep)[:2]) == QUARANTINE:
                with self._lock_place(stage, doc_id):  # a restore may be about to move it back
                    self.quarantine.erase(trace._replace(path=path))
            elif path:
                sweeper.discard(path)
                self.quarantine.sync_above(path)

    @property
    def quarantine(self) -> LocalQuarantine:
        """The quarantine of this backend."""
        return LocalQuarantine(self.root, sync=self._sync)

    def _settle(self, stage: str, doc_id: str) -> list[str] | None:
        with explain_errors(self.root, stage, doc_id), self._lock_place(stage, doc_id) as place:
            return None if place is None else settle(place)

    def sweeper(self) -> LocalSweeper:
        return LocalSweeper(self.root, self._settle, self.claims.clear, sync=self._sync)

    @cached_property
    def claims(self) -> LocalClaims:
        """The claims of this backend."""
        return LocalClaims(self.root, self, sync=self._sync)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "claims"}

    @property
    def claim_delay(self) -> float:  # type: ignore[override]
        """See `Backend.claim_delay`. To check a lease costs more than to check a lock."""
        return self.claims.leases.delay if self.claims.uses_leases else 0.5

    def take_claim(self, stage: str, doc_id: str) -> Claim | Holder:
        with explain_errors(self.root, stage, doc_id):
            return self.claims.take(stage, doc_id)

    def find_most_claims(self) -> float:
        """See `Backend.find_most_claims`. Each claim keeps a descriptor open, unless it is a lease."""
        limit = math.inf
        if resource is not None:  # pragma: no branch  - Windows
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return math.inf if limit == -1 else limit - _DESCRIPTORS  # -1 means unlimited

    def has_room_for_claim(self) -> bool:
        return count_open_locks() < self.find_most_claims()

    def list_claims(self, stage: str) -> Iterator[tuple[str, Holder]]:
        with explain_errors(self.root, stage):
            yield from self.claims.list(stage)

    def probe(self, stage: str, doc_id: str, *, replaces: bool) -> None:
        """See `Backend.probe`. A trial is certain where access(2) may be wrong, and where directories have layers."""
        if stage in self._proven and not replaces:
            return
        with explain_errors(self.root, stage, doc_id), make_below(self.root, (stage,), sync=self._sync) as directory:
            if stage not in self._proven:
                directory.check_writable()
                if not directory.renames_directories():
                    directory.check_renames()
                self._proven.add(stage)
            if not replaces:
                return
            with self._lock_place(stage, doc_id) as place:
                if place is None or not directory.exists(doc_id):
                    return
                with directory.sub(doc_id) as document:
                    document.check_writable()
                with place.make_history() as history:
                    history.check_writable()
                if not directory.renames_directories() and settle(place) is None:
                    # The same step that a replace begins with: readers find the document under this name.
                    directory.move(doc_id, place.old)
                    directory.move(place.old, doc_id)

    def _open_place(self, stage: str, doc_id: str) -> Place | None:
        """Open the place of a document; return None if the stage does not exist."""
        try:
            return Place(Directory(self._below + stage), self.root, stage, doc_id, self._sync)
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def _lock_place(self, stage: str, doc_id: str) -> Iterator[Place | None]:
        """Open the place of a document and hold its lock; yield None if the stage does not exist."""
        place = self._open_place(stage, doc_id)
        if place is None:
            yield None
        else:
            with place.directory, hold_lock(place.directory, doc_id):
                yield place

    @contextlib.contextmanager
    def _change(self, stage: str, doc_id: str, expected: bytes) -> Iterator[Place | None]:
        """Lock a document for a change; yield its place, or None if it does not have the expected record."""
        with self._lock_place(stage, doc_id) as place:
            found = None
            if place is not None:
                settle(place)
                found = place.read(doc_id)
            yield place if found is not None and found.record == expected else None

    def directories(self) -> Collection[str]:
        try:
            with os.scandir(self.root) as found:
                return [
                    each.name for each in found if each.is_dir(follow_symlinks=False) and not each.name.startswith(".")
                ]
        except OSError:  # the command or the method that needs the root reports it
            return ()

    def read_file(self, name: str) -> InternalFile | None:
        *above, file = (INTERNAL, *name.split("/"))
        # A root that is not a directory is reported when a document is read or written.
        with (
            explain_errors(self.root, INTERNAL, name),
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            open_below(self.root, above) as directory,
        ):
            data = directory.read(file)
            return None if data is None else InternalFile(data)
        return None

    def swap_file(self, name: str, expected: InternalFile | None, data: bytes) -> bool:
        file = name.rpartition("/")[2]
        with self.open_internal(name) as directory, open_root(self.root) as root, hold_lock(directory, _FILES):
            found = directory.read(file)
            if found != (None if expected is None else expected.data):
                return False
            # Under the lock, no other writer uses this name: the file is there only if its writer died.
            temporary = interim_name(file)
            with contextlib.suppress(FileNotFoundError):
                directory.unlink(temporary)
            directory.swap_in(file, data, sync=self._sync, temporary=temporary, like=root)
            if self._sync:
                directory.sync()
            return True

    def write_file(self, name: str, data: bytes, *, is_private: bool = False) -> None:
        file = name.rpartition("/")[2]
        with self.open_internal(name) as directory, open_root(self.root) as root:
            if is_private:
                directory.swap_in(file, data, sync=self._sync, mode=0o600)
            else:
                directory.swap_in(file, data, sync=self._sync, like=root)
            if self._sync:
                directory.sync()

    def list_files(self, directory: str) -> Iterator[tuple[str, float]]:
        # Usually this directory does not exist, and this one call shows it.
        if not get_mode(join(self.root, INTERNAL, *directory.split("/"))):
            return
        with (
            explain_errors(self.root, INTERNAL, directory),
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            open_below(self.root, (INTERNAL, *directory.split("/"))) as found,
        ):
            for name in found.names():
                status = None if name.startswith(".") else found.stat(name)
                if status is not None and stat.S_ISREG(status.st_mode):
                    yield name, status.st_mtime

    def remove_file(self, name: str) -> None:
        *above, file = (INTERNAL, *name.split("/"))
        with (
            explain_errors(self.root, INTERNAL, name),
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            open_below(self.root, above) as directory,
        ):
            directory.unlink(file)

    @contextlib.contextmanager
    def open_internal(self, name: str) -> Iterator[Directory]:
        """Make and open the directory of a small file below `.docid/`."""
        above = (INTERNAL, *name.split("/")[:-1])
        with explain_errors(self.root, INTERNAL, name), make_below(self.root, above, sync=self._sync) as directory:
            with open_root(self.root) as root:
                share(directory.fd, root)  # there may be no stage yet
            yield directory


def _make_absolute(path: str) -> str:
    """Return a path with `~` and `.` resolved; `..` stays, because the name before it may be a link."""
    path = os.path.expanduser(path)
    path = path if os.path.isabs(path) else join(os.getcwd(), path)
    return path.rstrip(os.sep) or os.sep if os.pardir in path.split(os.sep) else os.path.normpath(path)


class _WithHistory:
    """The doc ids of a stage that have a history, or an old version under its interim name."""

    def __init__(self, history: str, stage: str) -> None:
        self._history = history
        self._stage = stage

    def __contains__(self, doc_id: object) -> bool:
        name = str(doc_id)
        return bool(get_mode(join(self._history, name)) or get_mode(join(self._stage, old_name(name))))


def _commit_all(built: Mapping[int, tuple[Place, Temporary, bytes]]) -> dict[int, bool | Exception]:
    """Rename documents to their ids and sync each stage directory once; leave out those that a sweep moved away."""
    results: dict[int, bool | Exception] = {}
    for number, (place, temporary, record) in built.items():
        try:
            with explain_errors(place.root, place.stage, place.doc_id):
                results[number] = commit_new(place, temporary, record)
        except (DocidError, OSError) as error:
            if not isinstance(error, DocidError) and not is_system_error(error):
                raise
            if not temporary.was_swept():
                results[number] = error
    for stage, directory in {place.stage: place.directory for place, *_ in built.values()}.items():
        try:
            directory.sync()
        except OSError as error:
            if not is_system_error(error):
                raise
            created = {number: built[number][0] for number, result in results.items() if result is True}
            results |= {n: place.durability_unknown(error) for n, place in created.items() if place.stage == stage}
    return results


def _list_ids(directory: Directory) -> Iterator[str]:
    """Yield the doc ids in a stage directory. If a document is replaced in the meantime, its id may appear twice."""

    def find_changed_id(entry: os.DirEntry[str]) -> str:
        """Return the doc id in the name of a lock file or an old version; empty for other names."""
        return entry.name.partition("-")[2] if entry.name.startswith(CHANGE_NAMES) else ""

    started = time.time_ns()
    changed: set[str] = set()
    old: set[str] = set()
    seen: set[str] = set()
    for entry in directory.scan():
        if not DOC_ID.match(entry.name):
            changed.add(find_changed_id(entry))
            if entry.name.startswith(old_name("")):
                old.add(find_changed_id(entry))
        elif entry.is_dir(follow_symlinks=False):
            if entry.name in changed:
                seen.add(entry.name)
            yield entry.name
    # A listing may miss a document that a replace renames at that moment. The time of its lock file shows when it was
    # last held. If names have been added since the listing began, its lock file may be one of them.
    status = directory.stat(".")
    if status is None or status.st_mtime_ns >= started - _CLOCK_STEP:
        changed.update(map(find_changed_id, directory.scan()))
    for doc_id in filter(is_doc_id, changed - seen):
        # An old version may have got its id back since, from a process that was killed right after.
        is_back = doc_id in old and not directory.exists(old_name(doc_id)) and directory.exists(doc_id)
        if is_back or _is_missed(directory, doc_id, started):
            yield doc_id


def _is_missed(directory: Directory, doc_id: str, started: int) -> bool:
    """Return whether a listing that began at `started` (ns) may have missed a document because it was replaced."""
    exists = directory.exists(doc_id)
    if not exists and directory.exists(old_name(doc_id)):
        return True
    # Check the lock before its time: a change sets the time before it releases the lock.
    held = is_held(directory, doc_id)
    lock = directory.stat(lock_name(doc_id))
    just_now = held or (lock is not None and lock.st_mtime_ns >= started)
    return just_now and (exists or directory.exists(doc_id) or directory.exists(old_name(doc_id)))


def _read_entries(history: Directory, later: Stored | None, parts: Collection[str]) -> Iterator[Stored]:
    """Yield the versions in a history, the latest first; `later` is the version that follows them."""
    known = None if later is None else later.record
    # If only the record was changed, the parts are those of the next later version.
    contents = {} if later is None else later.parts
    for name in reversed(entries(history.names())):
        record = None
        if name.endswith(".json"):
            record = history.read(name)
        else:
            # A purge may delete it at this moment.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), history.sub(name) as old:
                contents = old.read_all((RECORD_FILE, *parts))
                record = contents.pop(RECORD_FILE, None)
        # An equal record is the same version: its change was interrupted, or it moved here during the listing.
        if record is not None and record != known:
            known = record
            yield Stored(record, contents)

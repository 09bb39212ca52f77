"""The names of one document in its stage directory, and the renames that commit a version.

A create takes no lock: its rename fails if the document exists. A replace holds the document's lock. It renames the new
version to `.new-<id>`, the old one to `.old-<id>`, and then the new one to the id. In between there is a gap in which
the id has no directory. A create that renames its directory into this gap withdraws it again.

So the names alone tell whose a directory under the id is: if `.old-<id>` and `.new-<id>` both exist, it is a create's
that will withdraw; if only `.old-<id>` exists, it is the new version.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
from os.path import join
from typing import TYPE_CHECKING, NamedTuple

from docid._files import ignore_system_errors, is_system_error
from docid.core.lineage_rules import is_other_lineage
from docid.core.record import RECORD_FILE, Record
from docid.errors import DurabilityUnknown, InvalidDocument, UnreadableDocument
from docid.store.backends.base import TURNS, Stored
from docid.store.backends.local.directory import make_below, open_below
from docid.store.backends.local.locks import hold_lock, is_held
from docid.store.backends.names import (
    HISTORY,
    entries,
    entry_name,
    is_junk,
    lock_name,
    new_name,
    old_name,
    temporary_name,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from docid.store.backends.local.directory import Directory
    from docid.store.backends.local.locks import Temporary

# The errors of a rename onto a directory that is not empty (ENOTEMPTY, on XFS EEXIST), or onto a file.
TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})
_TRIES = 3  # how often a document with a free lock file is searched for before it counts as absent


class Place(NamedTuple):
    """A document's names in its open stage directory. With `sync`, changes are durable."""

    directory: Directory
    root: str
    stage: str
    doc_id: str
    sync: bool

    @property
    def old(self) -> str:
        """The interim name of the old version while a replace moves the new one in."""
        return old_name(self.doc_id)

    @property
    def new(self) -> str:
        """The interim name of the new version until a replace moves it in."""
        return new_name(self.doc_id)

    def read(self, name: str, parts: Collection[str] = ()) -> Stored | None:
        """Read the document in the directory of this name, through one descriptor, so that all is of one version.

        Return None if the directory does not exist, or holds nothing or only junk of file managers: then it does not
        take the id. Raise `UnreadableDocument` if it holds no document, NotADirectoryError if it is not a directory.
        """
        try:
            document = self.directory.sub(name)
        except FileNotFoundError:
            return None
        with document:
            return self._read(document, parts)

    def _read(self, document: Directory, parts: Collection[str]) -> Stored | None:
        try:
            contents = document.read_all((RECORD_FILE, *parts))
        except IsADirectoryError as error:
            problem = f"{error.filename} is not a file"
            raise UnreadableDocument(self.stage, self.doc_id, document.path, problem) from None
        if RECORD_FILE in contents:
            return Stored(contents.pop(RECORD_FILE), contents)
        if all(map(is_junk, document.names())):
            return None
        problem, code = f"the directory has no {RECORD_FILE}, so it is not a document", "uncommitted-directory"
        raise UnreadableDocument(self.stage, self.doc_id, document.path, problem, code=code)

    def find(self, parts: Collection[str] = ()) -> Stored | None:
        """Read the document under its id or its interim name; return None if neither exists."""
        tries = 0
        for _ in range(TURNS):
            found, fault, is_certain = self._read_current(parts)
            if not is_certain and (found is None or self.directory.exists(self.new)):
                if self.directory.exists(self.old) and (old := self.read(self.old, parts)) is not None:
                    return old
                # In the meantime a replace may have renamed it from the second name to the first. Then its lock file
                # exists, and may be free if the replace has just ended. A repair may have removed it, so look again.
                is_back = found is None and fault is None and self.directory.exists(self.doc_id)
                is_certain = not self.directory.exists(lock_name(self.doc_id)) and not is_back
            tries += not is_certain and not is_held(self.directory, self.doc_id)
            if is_certain or tries == _TRIES:
                if fault is not None:
                    raise fault
                return found
        return None

    def _read_current(self, parts: Collection[str]) -> tuple[Stored | None, UnreadableDocument | None, bool]:
        """Read the directory under the id; return the document, its fault, and whether it certainly owns the id."""
        found = fault = None
        try:
            document = self.directory.sub(self.doc_id)
        except FileNotFoundError:
            return None, None, False
        with document:
            try:
                found = self._read(document, parts)
            except UnreadableDocument as error:
                fault = error
            return found, fault, (found or fault) is not None and self.is_owner(document)

    def is_owner(self, document: Directory) -> bool:
        """Return whether a directory that was opened under the id certainly owns it.

        The directory of a create that is about to withdraw is there only while `.old-<id>` and `.new-<id>` both exist,
        and it leaves for good. Without a lock file neither of them exists.
        """
        return not self.directory.exists(lock_name(self.doc_id)) or (
            not (self.directory.exists(self.new) and self.directory.exists(self.old))
            and document.is_at(self.doc_id, self.directory)
        )

    def is_taken(self) -> bool:
        """Return whether a directory with more than junk, another kind of file or an old version takes the id."""
        try:
            with self.directory.sub(self.doc_id) as document:
                return not all(map(is_junk, document.names()))
        except FileNotFoundError:
            return self.has_old()
        except NotADirectoryError:
            return True

    def remove_junk(self) -> bool:
        """Remove the junk of file managers from the directory under the id; return False if it holds other files."""
        with contextlib.suppress(FileNotFoundError), self.directory.sub(self.doc_id) as document:
            names = document.names()
            if not all(map(is_junk, names)):
                return False
            # Move only the files: a document that takes the id in the meantime must stay.
            trash = temporary_name(self.doc_id)
            self.directory.mkdir(trash)
            try:
                with self.directory.sub(trash) as to:
                    for name in names:
                        with contextlib.suppress(FileNotFoundError):
                            document.move(name, name, to)
            finally:
                with ignore_system_errors:  # a repair clears the rest
                    shutil.rmtree(join(self.directory.path, trash))
            return True
        return False

    def has_old(self) -> bool:
        """Return whether a version has the interim name, which keeps its id; remove an empty directory."""
        return self.directory.exists(self.old) and not self.directory.remove_empty(self.old)

    def holds(self, record: bytes) -> bool:
        """Return whether the document has this record, which is unique by its nonce; False if it cannot be read."""
        with ignore_system_errors, self.directory.sub(self.doc_id) as document:
            return document.read(RECORD_FILE) == record
        return False

    def make_history(self) -> Directory:
        """Make the directory of its history, if missing, and open it."""
        return make_below(self.root, (*HISTORY, self.stage, self.doc_id), sync=self.sync, like=self.directory)

    def retire_old(self, history: Directory) -> None:
        """Move the replaced version from its interim name into history."""
        self.directory.move(self.old, entry_name(history.names()), history)
        self.sync_names(history)
        self.sync_names(self.directory)

    def sync_names(self, directory: Directory) -> None:
        """Make renames in a directory durable, if `sync` is set."""
        if self.sync:
            directory.sync()

    def sync_commit(self, directory: Directory) -> None:
        """Make the rename that committed the document durable, or raise `DurabilityUnknown`."""
        try:
            self.sync_names(directory)
        except OSError as error:
            if not is_system_error(error):
                raise
            raise self.durability_unknown(error) from error

    def durability_unknown(self, error: OSError) -> DurabilityUnknown:
        """Return the error for a document that is stored, but may not survive a power cut."""
        return DurabilityUnknown(self.stage, self.doc_id, join(self.directory.path, self.doc_id), str(error))


def commit_new(place: Place, temporary: Temporary, record: bytes) -> bool:
    """Rename the directory of a new document to its id; return False if the id is taken."""
    directory = place.directory
    # Check this before the rename, so that readers rarely see a new document that withdraws, and again after it,
    # because only then it is certain.
    if place.has_old():
        return False
    try:
        try:
            directory.rename(temporary.name, place.doc_id)
        except OSError as error:
            if error.errno not in TAKEN or not place.remove_junk():
                raise
            directory.rename(temporary.name, place.doc_id)
    except OSError as error:
        # NFS may report a successful rename as failed, so the stored record decides.
        if not is_system_error(error) or not place.holds(record):
            if error.errno in TAKEN:
                return False
            raise
    temporary.is_moved = True
    # A replace may have just renamed an old version to its interim name, and the id belongs to that document. The
    # replace holds the lock while the interim name exists. After that, the directory under the id decides.
    try:
        if directory.exists(place.old):
            with hold_lock(directory, place.doc_id):
                return _keep_or_withdraw(place, temporary)
        return temporary.is_at(place.doc_id) or _keep_or_withdraw(place, temporary)
    except OSError as error:
        if not is_system_error(error):
            raise
        raise place.durability_unknown(error) from error


def _keep_or_withdraw(place: Place, temporary: Temporary) -> bool:
    """Return whether a new document keeps its id; withdraw it if the id belongs to another document."""
    directory = place.directory
    if temporary.is_at(place.doc_id):
        if not directory.exists(place.old):
            return True  # other writers may have changed it in the meantime
        # It was renamed into the gap of a replace that died.
        directory.move(place.doc_id, temporary.name)
        temporary.is_moved = False
        # If this fails, readers find the old version under its interim name.
        with ignore_system_errors:
            settle(place)
        return False
    # Either it was created and has been replaced in the meantime, or the replace that owns the id removed it.
    if temporary.is_at(place.old):
        return True
    try:
        history = open_below(place.root, (*HISTORY, place.stage, place.doc_id))
    except FileNotFoundError:
        return False
    with history:
        return any(temporary.is_at(name, history) for name in entries(history.names()))


def commit_version(place: Place, temporary: Temporary, record: bytes) -> None:
    """Rename the old version to its interim name and the new one to the id, or change nothing. Needs the lock."""
    directory = place.directory
    try:
        directory.move(temporary.name, place.new)
        temporary.name = place.new
        directory.move(place.doc_id, place.old)
        while not temporary.is_moved:
            try:
                directory.rename(temporary.name, place.doc_id)
            except OSError as error:
                if not is_system_error(error) or not place.holds(record):
                    if error.errno not in TAKEN:
                        raise
                    # A create used the gap. It waits for our lock, and then finds that it has lost the id.
                    moved = temporary_name(place.doc_id)
                    directory.move(place.doc_id, moved)
                    directory.remove(moved)
                    continue
            temporary.is_moved = True
    except BaseException:
        # If this fails, readers find the old version under its interim name, and the next change moves it back.
        with ignore_system_errors:
            for name in settle(place) or ():
                directory.remove(name)
        raise


def settle(place: Place) -> list[str] | None:
    """Finish or roll back an interrupted replace. Needs the lock.

    Returns:
        The temporary names to which it moved versions that were never committed; None if there was no replace.
    """
    directory = place.directory
    has_old = place.has_old()
    has_new = directory.exists(place.new)
    if has_old and not has_new and directory.exists(place.doc_id) and _is_replaced(place):
        with place.make_history() as history:
            place.retire_old(history)
        return []
    moved = []
    # If the id has a directory, a create used the gap and was killed before it could withdraw.
    for name in [place.doc_id] * has_old + [place.new] * has_new:
        if directory.exists(name):
            moved.append(temporary_name(place.doc_id))
            directory.move(name, moved[-1])
    if has_old:
        directory.move(place.old, place.doc_id)
    if has_old or has_new:
        place.sync_names(directory)
        return moved
    return None


def _is_replaced(place: Place) -> bool:
    """Return whether the directory under the id is a later version of the one under the interim name."""
    records = []
    for name in (place.old, place.doc_id):
        try:
            with place.directory.sub(name) as document:
                records.append(Record.from_bytes(document.read(RECORD_FILE) or b"", place.stage, place.doc_id))
        except (InvalidDocument, NotADirectoryError, IsADirectoryError) as error:
            # If the old one is unreadable, it goes to history. If the new one is unreadable, it counts only if a later
            # docid has written its record.
            return name != place.doc_id or getattr(error, "field", "") == "format"
    old, new = records
    return not is_other_lineage(old, new)

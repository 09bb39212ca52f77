"""One document in its stage directory: its names there, what they hold, and the renames that commit.

A create takes no lock: its rename fails where a document is. A replace holds the document's lock, and leaves the id
without a directory for an instant; a create that renames into that instant withdraws. Each function says how.
"""

from __future__ import annotations

import contextlib
import errno
from os.path import join
from typing import TYPE_CHECKING, NamedTuple

from docid.core.lineage_rules import is_other_lineage
from docid.core.record import RECORD_FILE, Record
from docid.errors import DurabilityUnknown, InvalidDocument, UnreadableDocument
from docid.store.backends.base import TURNS, Stored
from docid.store.backends.local.directory import make_below, open_below
from docid.store.backends.local.locks import hold_lock, is_held
from docid.store.backends.names import HISTORY, entries, entry_name, lock_name, old_name, temporary_name

if TYPE_CHECKING:
    from collections.abc import Collection

    from docid.store.backends.local.directory import Directory
    from docid.store.backends.local.locks import Temporary

# What a rename onto a directory that is not empty (ENOTEMPTY, on XFS EEXIST) or onto a file says.
_TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})
_LOOKS = 3  # at a document whose lock file is there and free, before it counts as absent


class Place(NamedTuple):
    """The place of a document in its open stage directory; with `sync` changes of it are made durable."""

    directory: Directory
    root: str
    stage: str
    doc_id: str
    sync: bool

    @property
    def old(self) -> str:
        """The interim name: that of the old version, while a replace moves the new one in place."""
        return old_name(self.doc_id)

    def read(self, name: str, parts: Collection[str] = ()) -> Stored | None:
        """Return what the directory of that name holds, read by one descriptor, so that all is of one version.

        None if the directory does not exist or is empty: an empty one claims nothing, since a rename replaces it. A
        directory without a document raises `UnreadableDocument`, anything else NotADirectoryError.
        """
        try:
            document = self.directory.sub(name)
        except FileNotFoundError:
            return None
        with document:
            try:
                contents = document.read_all((RECORD_FILE, *parts))
            except IsADirectoryError as error:
                problem = f"{error.filename} is no file"
                raise UnreadableDocument(self.stage, self.doc_id, document.path, problem) from None
            if RECORD_FILE in contents:
                return Stored(contents.pop(RECORD_FILE), contents)
            if not document.names():
                return None
            problem, code = f"the directory has no {RECORD_FILE}, so it is no document", "uncommitted-directory"
            raise UnreadableDocument(self.stage, self.doc_id, document.path, problem, code=code)

    def find(self, parts: Collection[str] = ()) -> Stored | None:
        """Return the document, under its id or its interim name; None if it is under neither."""
        looks = 0
        for _ in range(TURNS):
            found = self.read(self.doc_id, parts) or self.read(self.old, parts)
            if found is not None:
                return found
            # A replace may have renamed it from the second name to the first meanwhile. Then its lock file is there;
            # one that nobody holds may be of a replace that was over a moment ago.
            if not self.directory.exists(lock_name(self.doc_id)):
                return None
            looks += not is_held(self.directory, self.doc_id)
            if looks == _LOOKS:
                return None
        return None

    def is_taken(self) -> bool:
        """Return whether what stands at the id claims it: an empty directory does not."""
        try:
            with self.directory.sub(self.doc_id) as document:
                return bool(document.names())
        except FileNotFoundError:
            return False
        except NotADirectoryError:
            return True

    def holds(self, record: bytes) -> bool:
        """Return whether the document has this record, which a nonce makes one of a kind; False where it is unseen."""
        with contextlib.suppress(OSError), self.directory.sub(self.doc_id) as document:
            return document.read(RECORD_FILE) == record
        return False

    def make_history(self) -> Directory:
        """Open the directory of its history, after making what is missing of it."""
        return make_below(self.root, (*HISTORY, self.stage, self.doc_id), sync=self.sync)

    def retire_old(self, history: Directory) -> None:
        """Move the version that was replaced from its interim name into history."""
        self.directory.move(self.old, entry_name(history.names()), history)
        self.sync_names(history)
        self.sync_names(self.directory)

    def sync_names(self, directory: Directory) -> None:
        """Make durable what was renamed in a directory, if that is asked for."""
        if self.sync:
            directory.sync()

    def sync_commit(self, directory: Directory) -> None:
        """Make the rename durable that has committed the document, or raise `DurabilityUnknown`."""
        try:
            self.sync_names(directory)
        except OSError as error:
            raise self.durability_unknown(error) from error

    def durability_unknown(self, error: OSError) -> DurabilityUnknown:
        """Return the error that the document is there, and may not survive a power cut."""
        return DurabilityUnknown(self.stage, self.doc_id, join(self.directory.path, self.doc_id), str(error))


def commit_new(place: Place, temporary: Temporary, record: bytes) -> bool:
    """Rename a whole new document to its id; return False where the id is taken."""
    directory = place.directory
    # A document under its interim name keeps its id; an empty directory claims nothing, here too. Looked for before the
    # rename, so that no reader sees the new one meanwhile; and after it, so that it is true.
    if directory.exists(place.old) and not directory.remove_empty(place.old):
        return False
    try:
        directory.rename(temporary.name, place.doc_id)
    except OSError as error:
        # NFS may report a rename that was done as failed, so what is there decides.
        if not place.holds(record):
            if error.errno in _TAKEN:
                return False
            raise
    temporary.is_moved = True
    # A replace may have moved a document aside at that moment, and the id belongs to that one. It holds the lock as
    # long as the old version has its interim name; after that, what has the id decides.
    try:
        if directory.exists(place.old):
            with hold_lock(directory, place.doc_id):
                return _keep_or_withdraw(place, temporary)
        return temporary.is_at(place.doc_id) or _keep_or_withdraw(place, temporary)
    except OSError as error:
        raise place.durability_unknown(error) from error


def _keep_or_withdraw(place: Place, temporary: Temporary) -> bool:
    """Return whether a new document keeps the id that it was renamed to; withdraw it where another one has the id."""
    directory = place.directory
    if temporary.is_at(place.doc_id):
        if not directory.exists(place.old):
            return True  # others may have added to it by now
        # It has come between the renames of a replace that died.
        directory.move(place.doc_id, temporary.name)
        temporary.is_moved = False
        # Where the old version cannot be moved back, readers find it under its interim name.
        with contextlib.suppress(OSError):
            directory.move(place.old, place.doc_id)
        return False
    # It was replaced already, or a replace that has the id put it out.
    if temporary.is_at(place.old):
        return True
    try:
        history = open_below(place.root, (*HISTORY, place.stage, place.doc_id))
    except FileNotFoundError:
        return False
    with history:
        return any(temporary.is_at(name, history) for name in entries(history.names()))


def commit_version(place: Place, temporary: Temporary, record: bytes) -> None:
    """Move the document to its interim name and rename a new version to the id, under the lock; or do neither."""
    directory = place.directory
    try:
        directory.move(place.doc_id, place.old)
        while not temporary.is_moved:
            try:
                directory.rename(temporary.name, place.doc_id)
            except OSError as error:
                if not place.holds(record):
                    if error.errno not in _TAKEN:
                        raise
                    # A create took the id in that instant. It waits for our lock, and sees that it lost the id.
                    moved = temporary_name(place.doc_id)
                    directory.move(place.doc_id, moved)
                    directory.remove(moved)
                    continue
            temporary.is_moved = True
    except OSError:
        # Where that fails, readers find the old version under its interim name, and the next change moves it back.
        with contextlib.suppress(OSError):
            if not directory.exists(place.doc_id):
                directory.move(place.old, place.doc_id)
        raise


def settle(place: Place) -> bool:
    """Finish or roll back a replace that was interrupted, under the lock; return whether there was one."""
    directory = place.directory
    if not directory.exists(place.old) or directory.remove_empty(place.old):
        return False
    if directory.exists(place.doc_id):
        if _is_replaced(place):
            with place.make_history() as history:
                place.retire_old(history)
            return True
        # A create of another lineage, killed before it saw that the id is taken: it has reported no success.
        directory.move(place.doc_id, temporary_name(place.doc_id))
    directory.move(place.old, place.doc_id)
    place.sync_names(directory)
    return True


def _is_replaced(place: Place) -> bool:
    """Return whether what has the id is a later version of the document under the interim name."""
    records = []
    for name in (place.old, place.doc_id):
        try:
            with place.directory.sub(name) as document:
                records.append(Record.from_bytes(document.read(RECORD_FILE) or b"", place.stage, place.doc_id))
        except (InvalidDocument, NotADirectoryError, IsADirectoryError) as error:
            # The record of a later docid is its business. What is no document goes to history, as the old one; as
            # the new one it does not count.
            return name != place.doc_id or getattr(error, "field", "") == "format"
    old, new = records
    return not is_other_lineage(old, new)

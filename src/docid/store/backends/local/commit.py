"""The renames that commit: of a new document, of a new version, and of what an interrupted replace has left.

A create takes no lock: its rename fails where a document is. A replace holds the document's lock, and leaves the id
without a directory for an instant; a create that renames into that instant withdraws. Each function says how.
"""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from docid.core.lineage_rules import is_other_lineage
from docid.core.record import RECORD_FILE, Record
from docid.errors import InvalidDocument
from docid.store.backends.local.locks import hold_lock
from docid.store.backends.names import entries, temporary_name

if TYPE_CHECKING:
    from docid.store.backends.local.place import Place
    from docid.store.backends.local.temporary import Temporary

# What a rename onto a directory that is not empty (ENOTEMPTY, on XFS EEXIST) or onto a file says.
_TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})


def commit_new(place: Place, temporary: Temporary, record: bytes) -> bool:
    """Rename a whole new document to its id; return False where the id is taken.

    Raises:
        DurabilityUnknown: it was renamed, and cannot be seen any more.
    """
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
    """Return whether a document that was renamed to its id keeps it; withdraw it where another one has the id."""
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
    history = place.open_history()
    if history is None:
        return False
    with history:
        return any(temporary.is_at(name, history) for name in entries(history.names()))


def commit_version(place: Place, temporary: Temporary, record: bytes) -> None:
    """Move the document to its interim name and rename a new version to the id, under the lock.

    Where the second rename fails, the first is taken back.
    """
    directory = place.directory
    directory.move(place.doc_id, place.old)
    while True:
        try:
            directory.rename(temporary.name, place.doc_id)
        except OSError as error:
            if not place.holds(record):
                if error.errno not in _TAKEN:
                    raise
                # A create took the id in that instant. It waits for our lock, sees that it lost the id, and says so.
                moved = temporary_name(place.doc_id)
                directory.move(place.doc_id, moved)
                directory.remove(moved)
                continue
        temporary.is_moved = True
        return


def undo_version(place: Place) -> None:
    """Move the old version back to its id, where a replace has failed between its renames."""
    if not place.directory.exists(place.doc_id):
        # Where that fails, readers find it under its interim name, and the next change moves it back.
        with contextlib.suppress(OSError):
            place.directory.move(place.old, place.doc_id)


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

"""Listing the documents of a stage while others replace some of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from docid.core.ids import DOC_ID, is_doc_id
from docid.store.backends.local.locks import is_held
from docid.store.backends.names import CHANGE_NAMES, lock_name, old_name

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from docid.store.backends.local.directory import Directory

_CLOCK_STEP = 2_000_000_000  # ns; the clocks of file systems go in steps, of two seconds at the most


def list_ids(directory: Directory) -> Iterator[str]:
    """Return the doc ids in a stage directory, as a stream; one that is replaced meanwhile may be there twice."""
    started = time.time_ns()
    changed: set[str] = set()
    seen: set[str] = set()
    for entry in directory.scan():
        if DOC_ID.match(entry.name):
            if entry.is_dir(follow_symlinks=False):
                if entry.name in changed:
                    seen.add(entry.name)
                yield entry.name
        elif _is_of_change(entry):
            changed.add(_changed_id(entry))
    # A replace renames, and a listing that passes by at that moment may miss the name. Its lock file says when it was
    # held last; where names have come since the listing began, it may be among them.
    status = directory.stat(".")
    if status is None or status.st_mtime_ns >= started - _CLOCK_STEP:
        changed.update(_changed_id(entry) for entry in directory.scan() if _is_of_change(entry))
    for doc_id in changed - seen:
        if is_doc_id(doc_id) and _may_be_missed(directory, doc_id, started):
            yield doc_id


def _is_of_change(entry: os.DirEntry[str]) -> bool:
    return entry.name.startswith(CHANGE_NAMES)


def _changed_id(entry: os.DirEntry[str]) -> str:
    return entry.name.split("-", 1)[1]


def _may_be_missed(directory: Directory, doc_id: str, started: int) -> bool:
    """Return whether a listing that started then (in ns) may have passed by a document while it was replaced."""
    there = directory.exists(doc_id)
    if not there and directory.exists(old_name(doc_id)):
        return True
    # Whether it is held is asked before its time: a change sets the time before it gives the lock back.
    held = is_held(directory, doc_id)
    lock = directory.stat(lock_name(doc_id))
    just_now = held or (lock is not None and lock.st_mtime_ns >= started)
    return just_now and (there or directory.exists(doc_id) or directory.exists(old_name(doc_id)))

"""The sweeper of the local backend: finds files of dead writers and moves them to quarantine.

A lock shows whether a writer is alive, so the sweeper moves files only under their lock. On a mounted file system,
locks may be local to each client, so the sweeper also requires a minimum age. It deletes only empty directories, unused
lock files, and the entries that `discard` is called with.
"""

# ruff: noqa: D102 - the docstrings are those of `Sweeper`
from __future__ import annotations

import contextlib
import os
import stat
import time
from os.path import join
from typing import TYPE_CHECKING, Literal

from docid._files import ignore_system_errors, is_system_error
from docid.core.document import ALL_FILES
from docid.core.findings import Finding
from docid.core.ids import DOC_ID, is_doc_id
from docid.core.record import RECORD_FILE
from docid.store.backends.base import Sweeper
from docid.store.backends.local.directory import Directory, open_below
from docid.store.backends.local.locks import hold_lock, is_held, probe_lock
from docid.store.backends.local.quarantine import LocalQuarantine, list_names, measure
from docid.store.backends.names import (
    HISTORY,
    QUARANTINE,
    is_junk,
    lock_name,
    new_name,
    old_name,
    parse_entry_time,
    parse_temporary_name,
    temporary_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from datetime import datetime

_Action = Literal["quarantine", "settle"]
_UNREADABLE = "history cannot be read: "


class LocalSweeper(Sweeper):
    """The sweeper of a `LocalBackend`; `settle` is the method of that backend, `clear_claims` that of its claims."""

    def __init__(
        self,
        root: str,
        settle: Callable[[str, str], list[str] | None],
        clear_claims: Callable[[str, float], int],
        *,
        sync: bool,
    ) -> None:
        self._root = root
        self._clear_claims = clear_claims
        self._below = join(root, "")
        self._settle = settle
        self._quarantine = LocalQuarantine(root, sync=sync)

    def leftovers(self, stage: str, stale_after: float) -> Iterator[Finding]:
        with contextlib.suppress(FileNotFoundError), Directory(self._below + stage) as directory:
            is_name = DOC_ID.match  # called for millions of names
            for entry in directory.scan():
                if not (is_name(entry.name) and entry.is_dir(follow_symlinks=False)):
                    found = self._scan_entry(directory, stage, entry, stale_after)
                    yield from self._report_error(found, stage, "", join(stage, entry.name))
            found = self._scan_histories(directory, stage, stale_after)
            yield from self._report_error(found, stage, "", join(*HISTORY, stage), _UNREADABLE)

    def _report_error(
        self, found: Iterator[Finding], stage: str, doc_id: str, path: str, prefix: str = ""
    ) -> Iterator[Finding]:
        """Yield findings, and one for an error that ends them; a file that vanished is not an error."""
        try:
            yield from found
        except FileNotFoundError:
            return
        except OSError as error:
            if not is_system_error(error):
                raise
            yield self._finding("unreadable-record", stage, doc_id, path, f"{prefix}{error}")

    def _finding(  # noqa: PLR0917 - the facts of a finding
        self, code: str, stage: str, doc_id: str, path: str, message: str, action: _Action | None = None
    ) -> Finding:
        return Finding(code, stage, doc_id, None, self._below + path, message, "", action)

    def _scan_entry(
        self, directory: Directory, stage: str, entry: os.DirEntry[str], stale_after: float
    ) -> Iterator[Finding]:
        """Yield the finding for an entry that is not a document, unless a writer may be using it."""
        name, path = entry.name, join(stage, entry.name)
        is_directory = entry.is_dir(follow_symlinks=False)
        if is_junk(name):
            return
        if name.startswith("."):
            if is_directory:
                yield from self._scan_interim(directory, stage, name, stale_after)
        elif is_doc_id(name):
            what = "a symbolic link" if entry.is_symlink() else "not a directory"
            yield self._finding("unreadable-record", stage, name, path, f"{what}, so it is not a document")
        elif is_directory and directory.exists(join(name, RECORD_FILE)):
            yield self._finding("malformed-id", stage, "", path, "the name of this document is not a doc id")
        else:
            yield self._finding("unlisted-file", stage, "", path, "it belongs to no document")

    def _scan_interim(self, directory: Directory, stage: str, name: str, stale_after: float) -> Iterator[Finding]:
        """Yield the finding for a stale temporary directory, or for the old version of an interrupted replace."""
        action: _Action
        doc_id = parse_temporary_name(name)
        if doc_id is not None:
            with probe_lock(directory, name) as is_free:
                pass  # `clear` takes the lock again
            what, action = "an unfinished document whose writer died", "quarantine"
        else:
            doc_id = name.removeprefix(old_name("")).removeprefix(new_name(""))
            is_interim = name in {old_name(doc_id), new_name(doc_id)} and is_doc_id(doc_id)
            is_free = is_interim and not is_held(directory, doc_id)
            what, action = "an interrupted replace whose writer died", "settle"
        if is_free and _is_stale(directory, name, stale_after):
            yield self._finding("stale-temporary", stage, doc_id, join(stage, name), what, action)

    def _scan_histories(self, directory: Directory, stage: str, stale_after: float) -> Iterator[Finding]:
        """Yield the findings for the histories of a stage."""
        with open_below(self._root, (*HISTORY, stage)) as histories:
            for doc_id in filter(is_doc_id, histories.names()):
                found = self._scan_history(directory, histories, stage, doc_id, stale_after)
                path = join(*HISTORY, stage, doc_id)
                yield from self._report_error(found, stage, doc_id, path, _UNREADABLE)

    def _scan_history(
        self, directory: Directory, histories: Directory, stage: str, doc_id: str, stale_after: float
    ) -> Iterator[Finding]:
        """Yield the findings for one history: entries of interrupted changes, or a document that no longer exists."""
        above = join(*HISTORY, stage, doc_id)
        with histories.sub(doc_id) as history:
            names = history.names()
            if is_held(directory, doc_id):
                return
            if names and not directory.exists(doc_id) and not directory.exists(old_name(doc_id)):
                # The next document of this id may be of another lineage.
                if _is_stale(histories, doc_id, stale_after):
                    what = "the history of a document that no longer exists"
                    yield self._finding("unlisted-file", stage, doc_id, above, what, "quarantine")
                return
            later = _read_record(directory, doc_id)
            for name in sorted(names, key=str.lower, reverse=True):
                what = ""
                if parse_temporary_name(name) is not None:
                    what = "an unfinished history entry whose writer died"
                elif parse_entry_time(name) is not None:
                    is_record = name.endswith(".json")
                    record = history.read(name if is_record else join(name, RECORD_FILE))
                    if is_record and record == later:
                        what = "the history entry of an unfinished change whose writer died"
                    later = record
                if what and _is_stale(history, name, stale_after):
                    yield self._finding("stale-temporary", stage, doc_id, join(above, name), what, "quarantine")

    def strays(
        self, stage: str, doc_id: str, expected: bytes | None, listed: Collection[str], stale_after: float
    ) -> list[Finding]:
        path = join(stage, doc_id)
        with (
            contextlib.suppress(FileNotFoundError),
            Directory(self._below + stage) as directory,
            directory.sub(doc_id) as document,
        ):
            names = document.names()
            if names and all(map(is_junk, names)):
                return []  # the next create removes it
            if RECORD_FILE not in names:
                if expected is not None or not _is_stale(directory, doc_id, stale_after):
                    return []
                what = f"the directory has no {RECORD_FILE}, so it is not a document"
                # If it has other files, docid did not make it.
                is_ours = all(name in ALL_FILES or parse_temporary_name(name) is not None for name in names)
                can_do: _Action | None = "quarantine" if is_ours else None
                return [self._finding("uncommitted-directory", stage, doc_id, path, what, can_do)]
            odd = sorted(name for name in names if name != RECORD_FILE and name not in listed)
            # Keep this order: a part that a writer is adding is unlisted until its record is written.
            if odd and not is_held(directory, doc_id) and _read_record(directory, doc_id) == expected:
                return [
                    self._finding(code, stage, doc_id, join(path, name), what, action)._replace(expected=expected)
                    for name in odd
                    for code, what, action in _classify_stray(name)
                    if action is None or _is_stale(document, name, stale_after)
                ]
        return []

    def is_stale(self, stage: str, doc_id: str, stale_after: float) -> bool:
        """See `Sweeper.is_stale`. The age of every file counts, for tools that do not take locks."""
        with ignore_system_errors, open_below(self._root, (stage, doc_id)) as document:
            return all(_is_stale(document, name, stale_after) for name in (".", *document.names()))
        return False

    def clear(self, finding: Finding, entry: str, stale_after: float) -> str | None:
        stage, doc_id, path = finding.stage, finding.doc_id, finding.where.removeprefix(self._below)
        above, name = os.path.split(path)
        with contextlib.suppress(FileNotFoundError), Directory(self._below + stage) as directory:
            if above == stage and parse_temporary_name(name) is not None:
                # A temporary directory is its own lock. A writer that has just made it waits for this lock.
                with probe_lock(directory, name) as is_free:
                    is_stale = is_free and _is_stale(directory, name, stale_after)
                    return self._quarantine.put(path, entry) if is_stale else None
            with hold_lock(directory, doc_id, wait=False) as is_free:
                if is_free and finding.action == "quarantine" and not directory.exists(old_name(doc_id)):
                    if path == join(stage, doc_id):
                        return self._clear_document(directory, finding, entry, stale_after)
                    is_in_use = path == join(*HISTORY, stage, doc_id) and directory.exists(doc_id)
                    if not is_in_use and finding.expected in {None, _read_record(directory, doc_id)}:
                        return self._quarantine.put(path, entry)
            if is_free and finding.action == "settle" and (moved := self._settle(stage, doc_id)) is not None:
                return next(iter([self._quarantine.put(join(stage, name), entry) for name in moved]), "")
        return None

    def _clear_document(self, directory: Directory, finding: Finding, entry: str, stale_after: float) -> str | None:
        """Move the directory or file under an id to quarantine. Needs the lock."""
        stage, doc_id = finding.stage, finding.doc_id
        # An empty directory does not take the id: a create may replace it at any moment.
        if directory.remove_empty(doc_id):
            return ""
        record = None
        with contextlib.suppress(IsADirectoryError), directory.sub(doc_id) as document:
            record = document.read(RECORD_FILE)
        if record != finding.expected or not self.is_stale(stage, doc_id, stale_after):
            return None
        return self._quarantine.put_document(stage, doc_id, entry)

    def list_discarded(self, older_than: float, *, history: Collection[str]) -> Iterator[tuple[str, int]]:
        places: list[tuple[str, ...]] = [QUARANTINE]
        for stage in history:
            places += [(*HISTORY, stage, doc_id) for doc_id in list_names(self._root, (*HISTORY, stage))]
        for place in places:
            for name in list_names(self._root, place):
                # An entry that an earlier purge did not finish has a temporary name.
                named = parse_entry_time(parse_temporary_name(name) or name)
                with contextlib.suppress(FileNotFoundError):
                    if named is not None and self._is_older(join(*place, name), named, older_than):
                        yield join(*place, name), measure(join(self._root, *place, name))

    def _is_older(self, path: str, named: datetime, seconds: float) -> bool:
        """Return whether an entry has this age, by its name and by the file system: one clock may have been wrong."""
        status = os.lstat(join(self._root, path))
        moved = max(named.timestamp(), status.st_mtime, status.st_ctime)
        return seconds <= 0 or time.time() - moved >= seconds

    def discard(self, path: str) -> None:
        import shutil  # noqa: PLC0415 - only used here

        *above, name = path.split(os.sep)
        is_history = tuple(above[: len(HISTORY)]) == HISTORY
        with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as stack:
            if is_history:
                # A change may be about to add an entry.
                with contextlib.suppress(FileNotFoundError):
                    directory = stack.enter_context(Directory(self._below + above[-2]))
                    stack.enter_context(hold_lock(directory, above[-1]))
            around = stack.enter_context(open_below(self._root, above))
            # Rename it first, so that a half-deleted entry is never read.
            doomed = name if parse_temporary_name(name) else temporary_name(name)
            if doomed != name:
                around.move(name, doomed)
            status = around.stat(doomed)
            if status is not None and stat.S_ISDIR(status.st_mode):
                shutil.rmtree(join(around.path, doomed))
            else:
                around.unlink(doomed)
            if is_history:
                # Remove the directories of the document and of the stage if they are empty now.
                for path_above in (above, above[:-1]):
                    with ignore_system_errors:
                        os.rmdir(join(self._root, *path_above))

    def tidy(self, stage: str, stale_after: float) -> int:
        count = self._clear_claims(stage, stale_after)
        with contextlib.suppress(FileNotFoundError), Directory(self._below + stage) as directory:
            for name in directory.names():
                doc_id = name.removeprefix(lock_name(""))
                if name != lock_name(doc_id) or not is_doc_id(doc_id) or not _is_stale(directory, name, stale_after):
                    continue
                # If one lock file cannot be opened, go on with the others.
                with ignore_system_errors, hold_lock(directory, doc_id, wait=False) as is_free:
                    if is_free and not directory.exists(old_name(doc_id)):
                        # A change that failed early leaves an empty history.
                        with ignore_system_errors, open_below(self._root, (*HISTORY, stage)) as histories:
                            histories.remove_empty(doc_id)
                        directory.unlink(name)
                        count += 1
        return count


def _classify_stray(name: str) -> Iterator[tuple[str, str, _Action | None]]:
    """Yield the code, message and action for a file in a document that is not one of its parts."""
    if parse_temporary_name(name) is not None:
        yield "stale-temporary", "an unfinished file whose writer died", "quarantine"
    elif name in ALL_FILES:
        yield "unlisted-file", "the record does not list this part", "quarantine"
    elif not name.startswith(".") and not is_junk(name):
        yield "unlisted-file", "not a part of the document", None


def _is_stale(directory: Directory, name: str, seconds: float) -> bool:
    """Return whether a name exists and has not been changed or renamed for this time."""
    status = directory.stat(name)
    return status is not None and (seconds <= 0 or time.time() - max(status.st_mtime, status.st_ctime) >= seconds)


def _read_record(directory: Directory, doc_id: str) -> bytes | None:
    """Return the record of a document; None if it cannot be read."""
    with ignore_system_errors:
        for name in (doc_id, old_name(doc_id)):
            with contextlib.suppress(FileNotFoundError), directory.sub(name) as document:
                return document.read(RECORD_FILE)
    return None

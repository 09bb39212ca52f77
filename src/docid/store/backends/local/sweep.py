"""What writers leave on a file system when they die, and how it is cleared away beside those that live.

A lock tells whether a writer lives: everything is probed, and what is taken away is taken under its lock. Where
locks are local to each client of a mounted file system the age alone tells, so it is asked for in every case.
Nothing is deleted here but empty directories, locks that nobody needs, and what `discard` is told to.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from datetime import UTC, datetime
from os.path import join
from typing import TYPE_CHECKING, Literal

from docid.core.document import PART_FILES
from docid.core.findings import Finding
from docid.core.ids import DOC_ID, is_doc_id
from docid.core.record import RECORD_FILE
from docid.store.backends.local.directory import Directory, make_below, open_below
from docid.store.backends.local.locks import hold_lock, is_held, probe_lock
from docid.store.backends.names import (
    HISTORY,
    QUARANTINE,
    lock_name,
    name_of_temporary,
    old_name,
    temporary_name,
    time_of_entry,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence


_PARTS = frozenset(PART_FILES.values())


class LocalSweeper:
    """Finds and clears away what was left over below the root of a `LocalBackend`. See `Sweeper`."""

    def __init__(self, root: str, settle: Callable[[str, str], bool], *, sync: bool) -> None:
        """Take what it needs of its backend.

        Args:
            root: the backend's root.
            settle: the backend's `settle`.
            sync: whether what is moved has to survive a power cut.
        """
        self._root = root
        self._below = join(root, "")
        self._settle = settle
        self._sync = sync

    def leftovers(self, stage: str, stale_after: float) -> Iterator[Finding]:
        """See `Sweeper.leftovers`."""
        with contextlib.suppress(FileNotFoundError), Directory(join(self._root, stage)) as directory:
            is_name = DOC_ID.match  # a call for each of millions
            for entry in directory.scan():
                try:
                    if is_name(entry.name) and entry.is_dir(follow_symlinks=False):
                        continue
                    if (found := self._leftover(directory, stage, entry, stale_after)) is not None:
                        yield found
                except FileNotFoundError:
                    continue
                except OSError as error:
                    yield self._found("unreadable-record", stage, "", join(stage, entry.name), str(error), None)
        yield from self._in_histories(stage, stale_after)

    def in_the_way(self, stage: str) -> list[str]:
        """See `Sweeper.in_the_way`."""
        # Where the stage cannot be listed that is said elsewhere.
        with contextlib.suppress(OSError), Directory(join(self._root, stage)) as directory:
            entries = (entry for entry in directory.scan() if DOC_ID.match(entry.name))
            return [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]
        return []

    def _in_histories(self, stage: str, stale_after: float) -> Iterator[Finding]:
        """Return what lies in the history of a stage; where it cannot be read, that."""
        above = join(*HISTORY, stage)
        try:
            with (
                open_below(self._root, (*HISTORY, stage)) as histories,
                Directory(join(self._root, stage)) as directory,
            ):
                for doc_id in filter(is_doc_id, histories.names()):
                    try:
                        yield from self._in_history(directory, histories, stage, doc_id, stale_after)
                    except FileNotFoundError:
                        continue
                    except OSError as error:
                        problem = f"history cannot be read: {error}"
                        yield self._found("unreadable-record", stage, doc_id, join(above, doc_id), problem, None)
        except FileNotFoundError:
            return
        except OSError as error:
            yield self._found("unreadable-record", stage, "", above, f"history cannot be read: {error}", None)

    def _found(  # noqa: PLR0917 - what is found, and where
        self,
        code: str,
        stage: str,
        doc_id: str,
        path: str,
        message: str,
        action: Literal["quarantine", "settle"] | None,
        expected: bytes | None = None,
    ) -> Finding:
        return Finding(code, stage, doc_id, None, self._below + path, message, "", action, expected)

    def _leftover(
        self, directory: Directory, stage: str, entry: os.DirEntry[str], stale_after: float
    ) -> Finding | None:
        name, path = entry.name, join(stage, entry.name)
        is_directory = entry.is_dir(follow_symlinks=False)
        if name.startswith("."):
            return self._interim(directory, stage, name, stale_after) if is_directory else None
        if is_doc_id(name):
            what = "a symbolic link" if entry.is_symlink() else "no directory"
            problem = f"{what}, so it is no document"
            return self._found("unreadable-record", stage, name, path, problem, None)
        if is_directory and directory.exists(join(name, RECORD_FILE)):
            return self._found("malformed-id", stage, "", path, "a document under a name that is no doc id", None)
        return self._found("unlisted-file", stage, "", path, "it belongs to no document", None)

    def _interim(self, directory: Directory, stage: str, name: str, stale_after: float) -> Finding | None:
        """Return what a directory under one of docid's interim names is, where nobody is at it."""
        code, path = "stale-temporary", join(stage, name)
        doc_id = name_of_temporary(name)
        if doc_id is not None:
            with probe_lock(directory, name) as free:
                if free and _is_older(directory.stat(name), stale_after):
                    what = "an unfinished document that no writer holds"
                    return self._found(code, stage, doc_id, path, what, "quarantine")
            return None
        doc_id = name.removeprefix(old_name(""))
        dead = name == old_name(doc_id) and is_doc_id(doc_id) and not is_held(directory, doc_id)
        if dead and _is_older(directory.stat(name), stale_after):
            what = "a version that was being replaced when its writer died"
            return self._found(code, stage, doc_id, path, what, "settle")
        return None

    def _in_history(
        self, directory: Directory, histories: Directory, stage: str, doc_id: str, stale_after: float
    ) -> Iterator[Finding]:
        """Return what interrupted changes left in the history of a document, or that the document is gone."""
        with histories.sub(doc_id) as history:
            names = history.names()
            if is_held(directory, doc_id):
                return
            if names and not directory.exists(doc_id) and not directory.exists(old_name(doc_id)):
                # The next document of this id may be of another lineage.
                if _is_older(histories.stat(doc_id), stale_after):
                    path, what = join(*HISTORY, stage, doc_id), "the history of a document that is gone"
                    yield self._found("unlisted-file", stage, doc_id, path, what, "quarantine")
                return
            later = self._record(stage, doc_id)
            for name in sorted(names, reverse=True):
                path = join(*HISTORY, stage, doc_id, name)
                if name_of_temporary(name) is not None and _is_older(history.stat(name), stale_after):
                    what = "the unfinished entry of a change whose writer died"
                    yield self._found("stale-temporary", stage, doc_id, path, what, "quarantine")
                if time_of_entry(name) is None:
                    continue
                record = history.read(name if name.endswith(".json") else join(name, RECORD_FILE))
                if record == later and name.endswith(".json") and _is_older(history.stat(name), stale_after):
                    what = "the entry of a change that was not made, its writer died"
                    yield self._found("stale-temporary", stage, doc_id, path, what, "quarantine")
                later = record

    def strays(
        self, stage: str, doc_id: str, expected: bytes | None, listed: Collection[str], stale_after: float
    ) -> list[Finding]:
        """See `Sweeper.strays`."""
        with (
            contextlib.suppress(FileNotFoundError),
            Directory(join(self._root, stage)) as directory,
            directory.sub(doc_id) as document,
        ):
            names = document.names()
            if RECORD_FILE not in names:
                if expected is not None or not _is_older(directory.stat(doc_id), stale_after):
                    return []
                what = f"the directory has no {RECORD_FILE}, so it is no document"
                # With other files in it, it is somebody's who knows what they are.
                ours = all(name in _PARTS or name_of_temporary(name) is not None for name in names)
                action: Literal["quarantine"] | None = "quarantine" if ours else None
                return [self._found("uncommitted-directory", stage, doc_id, join(stage, doc_id), what, action)]
            odd = [name for name in names if name != RECORD_FILE and name not in listed]
            # Looked at in this order: a part that a writer adds now is unlisted until its record is there.
            if odd and not is_held(directory, doc_id) and self._record(stage, doc_id) == expected:
                return [
                    self._found(code, stage, doc_id, join(stage, doc_id, name), what, action, expected)
                    for name in sorted(odd)
                    for code, what, action in _stray(name)
                    if action is None or _is_older(document.stat(name), stale_after)
                ]
        return []

    def clear(self, finding: Finding, run: str, stale_after: float) -> str | None:
        """See `Sweeper.clear`."""
        stage, doc_id, path = finding.stage, finding.doc_id, finding.where.removeprefix(self._below)
        with contextlib.suppress(FileNotFoundError), Directory(join(self._root, stage)) as directory:
            name = os.path.basename(path)
            if os.path.dirname(path) == stage and name_of_temporary(name) is not None:
                # It has no other lock than its own, which a writer that has just made it waits for.
                with probe_lock(directory, name) as free:
                    dead = free and _is_older(directory.stat(name), stale_after)
                    return self._quarantine(directory, path, run) if dead else None
            with hold_lock(directory, doc_id, wait=False) as free:
                if free and finding.action == "quarantine" and not directory.exists(old_name(doc_id)):
                    if path == join(stage, doc_id):
                        return self._clear_document(directory, finding, run, stale_after)
                    if path == join(*HISTORY, stage, doc_id) and directory.exists(doc_id):
                        return None
                    if finding.expected in {None, self._record(stage, doc_id)}:
                        with open_below(self._root, path.split(os.sep)[:-1]) as around:
                            return self._quarantine(around, path, run)
            if free and finding.action == "settle" and self._settle(stage, doc_id):
                return ""
        return None

    def _clear_document(self, directory: Directory, finding: Finding, run: str, stale_after: float) -> str | None:
        """Move what stands at an id aside, under its lock."""
        stage, doc_id = finding.stage, finding.doc_id
        # An empty directory claims nothing: a create may put its document in its place at any moment.
        if directory.remove_empty(doc_id):
            return ""
        with directory.sub(doc_id) as document:
            try:
                record = document.read(RECORD_FILE)
            except IsADirectoryError:
                record = None
            if record != finding.expected or not self._is_stale(document, stale_after):
                return None
        # Its history is of its lineage; the next document of this id may be of another one. It goes first: where
        # only one of the two can be moved, the next run finds the other.
        with contextlib.suppress(FileNotFoundError), open_below(self._root, (*HISTORY, stage)) as histories:
            if histories.exists(doc_id):
                self._quarantine(histories, join(*HISTORY, stage, doc_id), run)
        return self._quarantine(directory, join(stage, doc_id), run)

    def is_stale(self, stage: str, doc_id: str, stale_after: float) -> bool:
        """See `Sweeper.is_stale`."""
        with contextlib.suppress(OSError), open_below(self._root, (stage, doc_id)) as document:
            return self._is_stale(document, stale_after)
        return False

    @staticmethod
    def _is_stale(document: Directory, stale_after: float) -> bool:
        """Return whether nobody, a tool that knows no locks included, has touched a document for so long."""
        return all(_is_older(document.stat(name), stale_after) for name in (".", *document.names()))

    def _quarantine(self, directory: Directory, path: str, run: str) -> str:
        """Move what is in a directory to where it is found again; return that path, relative to the root."""
        *above, name = path.split(os.sep)
        with make_below(self._root, (*QUARANTINE, run, *above), sync=self._sync) as quarantine:
            directory.move(name, name, quarantine)
            if self._sync:
                quarantine.sync()
                directory.sync()
        return join(*QUARANTINE, run, path)

    def _record(self, stage: str, doc_id: str) -> bytes | None:
        """Return the record of a document; None where there is none that can be read."""
        with contextlib.suppress(OSError), Directory(join(self._root, stage)) as directory:
            for name in (doc_id, old_name(doc_id)):
                with contextlib.suppress(FileNotFoundError), directory.sub(name) as document:
                    return document.read(RECORD_FILE)
        return None

    def discarded(self, older_than: float, *, history: Collection[str]) -> Iterator[tuple[str, int]]:
        """See `Sweeper.discarded`."""
        now = datetime.now(UTC)

        def old(*path: str) -> Iterator[tuple[str, int]]:
            for name in self._names(path):
                # What an earlier purge did not come to the end of has a temporary name.
                put = time_of_entry(name_of_temporary(name) or name)
                if put is not None and (now - put).total_seconds() >= older_than:
                    with contextlib.suppress(FileNotFoundError):
                        yield join(*path, name), _size(join(self._root, *path, name))

        yield from old(*QUARANTINE)
        for stage in history:
            for doc_id in self._names((*HISTORY, stage)):
                yield from old(*HISTORY, stage, doc_id)

    def _names(self, path: Sequence[str]) -> list[str]:
        """Return the names in a directory below the root; none where it is not there, or no directory."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), open_below(self._root, path) as directory:
            return sorted(directory.names())
        return []

    def discard(self, path: str) -> None:
        """See `Sweeper.discard`."""
        import shutil  # noqa: PLC0415 - for this alone

        *above, name = path.split(os.sep)
        stage, doc_id = above[-2], above[-1]
        with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as stack:
            in_history = tuple(above[: len(HISTORY)]) == HISTORY
            if in_history:
                # A change may be about to add an entry.
                with contextlib.suppress(FileNotFoundError):
                    directory = stack.enter_context(Directory(join(self._root, stage)))
                    stack.enter_context(hold_lock(directory, doc_id))
            around = stack.enter_context(open_below(self._root, above))
            # Out of the way first: half of it is never an entry.
            doomed = name if name_of_temporary(name) else temporary_name(name)
            if doomed != name:
                around.move(name, doomed)
            status = around.stat(doomed)
            if status is not None and stat.S_ISDIR(status.st_mode):
                shutil.rmtree(join(around.path, doomed))
            else:
                around.unlink(doomed)
            if in_history:
                # What is empty now, up to the directory of all history.
                for path_above in (above, above[:-1]):
                    with contextlib.suppress(OSError):
                        os.rmdir(join(self._root, *path_above))

    def tidy(self, stage: str, stale_after: float) -> int:
        """See `Sweeper.tidy`."""
        count = 0
        with contextlib.suppress(FileNotFoundError), Directory(join(self._root, stage)) as directory:
            for name in directory.names():
                doc_id = name.removeprefix(lock_name(""))
                if name == lock_name(doc_id) and is_doc_id(doc_id):
                    # One lock that cannot be opened is no reason to leave the others.
                    with contextlib.suppress(OSError):
                        count += self._tidy(directory, stage, doc_id, stale_after)
        return count

    def _tidy(self, directory: Directory, stage: str, doc_id: str, stale_after: float) -> bool:
        """Remove a lock file that nobody needs, and an empty history; return whether it did."""
        if not _is_older(directory.stat(lock_name(doc_id)), stale_after):
            return False
        with hold_lock(directory, doc_id, wait=False) as free:
            if not free or directory.exists(old_name(doc_id)):
                return False
            # An empty history is what a change leaves that got no further.
            with contextlib.suppress(OSError), open_below(self._root, (*HISTORY, stage)) as histories:
                histories.remove_empty(doc_id)
            directory.unlink(lock_name(doc_id))
            return True


def _stray(name: str) -> Iterator[tuple[str, str, Literal["quarantine"] | None]]:
    """Return what a file in a document is that is none of its parts: the code, what it is, and what can be done."""
    if name_of_temporary(name) is not None:
        yield "stale-temporary", "an unfinished file of a writer that died", "quarantine"
    elif name in _PARTS:
        what = "a part that the record does not list, so it is not part of the document"
        yield "unlisted-file", what, "quarantine"
    elif not name.startswith("."):
        yield "unlisted-file", "no part of the document", None


def _is_older(status: os.stat_result | None, seconds: float) -> bool:
    """Return whether something is there, and nobody has touched or renamed it for so long."""
    if status is None:
        return False
    return seconds <= 0 or time.time() - max(status.st_mtime, status.st_ctime) >= seconds


def _size(path: str) -> int:
    """Return the size of a file, or of all files below a directory, in bytes."""
    size = os.lstat(path).st_size if not os.path.isdir(path) else 0
    for above, _, files in os.walk(path):
        size += sum(os.lstat(join(above, name)).st_size for name in files)
    return size

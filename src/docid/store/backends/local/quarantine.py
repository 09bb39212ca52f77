"""The quarantine of the local backend: documents and files that were moved aside, and the traces of a document.

An entry is `<root>/.docid/quarantine/<entry>/` with the original path below it. The history of a document keeps its
path there, too.
"""

from __future__ import annotations

import contextlib
import os
import stat
from os.path import join
from typing import TYPE_CHECKING, NamedTuple

from docid._files import get_mode, ignore_system_errors
from docid.core.ids import is_doc_id
from docid.core.record import RECORD_FILE
from docid.store.backends.base import Removed, Stored, TracePath
from docid.store.backends.local.commit import TAKEN
from docid.store.backends.local.directory import make_below, open_below
from docid.store.backends.local.locks import probe_lock
from docid.store.backends.names import (
    HISTORY,
    QUARANTINE,
    RESCUED,
    new_name,
    old_name,
    parse_entry_time,
    parse_rescue_name,
    parse_temporary_name,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from docid.store.backends.local.commit import Place
    from docid.store.backends.local.directory import Directory


class _Moved(NamedTuple):
    """A file or directory of a document that a removal or repair has moved aside.

    Attributes:
        stage, doc_id: the document.
        path: its path, relative to the root.
        in_history: whether it is the history of the document.
    """

    stage: str
    doc_id: str
    path: str
    in_history: bool


class LocalQuarantine:
    """The quarantine of a `LocalBackend`. With `sync`, changes are durable."""

    def __init__(self, root: str, *, sync: bool) -> None:
        self._root = root
        self._sync = sync

    def put(self, path: str, entry: str) -> str:
        """Move a path to quarantine; return the new path, relative to the root."""
        *above, name = path.split(os.sep)
        with open_below(self._root, above) as directory:
            if not directory.exists(name):
                raise FileNotFoundError(path)
            with make_below(self._root, (*QUARANTINE, entry, *above), sync=self._sync, like=directory) as quarantine:
                directory.move(name, name, quarantine)
                self._sync_all(quarantine, directory)
        return join(*QUARANTINE, entry, path)

    def put_document(self, stage: str, doc_id: str, entry: str) -> str:
        """Move a document to quarantine with its history; return the new path. Needs the lock of the document.

        The history goes first, because the next document of this id may have another lineage. If the document cannot
        follow, the history comes back.
        """
        history = join(*HISTORY, stage, doc_id)
        moved = ""
        try:
            with contextlib.suppress(FileNotFoundError):
                moved = self.put(history, entry)
            return self.put(join(stage, doc_id), entry)
        except BaseException:
            if moved:
                with ignore_system_errors:  # else a restore brings it back
                    os.rename(join(self._root, moved), join(self._root, history))
            self._remove_empty(entry, stage)
            raise

    def list(self) -> Iterator[Removed]:
        """Yield the documents in quarantine, each one once; also one of which only the history is there."""
        for entry in list_names(self._root, QUARANTINE):
            if parse_entry_time(entry) is not None:
                found = [
                    (each.stage, each.doc_id)
                    for each in self._list_moved(entry)
                    if each.in_history or self._has_record(each)
                ]
                yield from (Removed(entry, stage, doc_id) for stage, doc_id in dict.fromkeys(found))

    def _has_record(self, moved: _Moved) -> bool:
        """Return whether this is the directory of a whole or damaged document."""
        is_named = os.path.basename(moved.path) == moved.doc_id
        return is_named and bool(get_mode(join(self._root, moved.path, RECORD_FILE)))

    def load(self, removed: Removed) -> Stored | None:
        """Return the record of a document in quarantine; None if it is not there."""
        entry, stage, doc_id = removed
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            open_below(self._root, (*QUARANTINE, entry, stage, doc_id)) as document,
        ):
            record = document.read(RECORD_FILE)
            return None if record is None else Stored(record, {})
        return None

    def take_back(self, place: Place, entry: str) -> bool:
        """Move a document and its history back; return False if its id is taken. Needs the lock of the document."""
        stage, doc_id = place.stage, place.doc_id
        is_back = False
        with contextlib.suppress(FileNotFoundError), open_below(self._root, (*QUARANTINE, entry, stage)) as removed:
            if removed.exists(doc_id):
                if place.is_taken():
                    return False
                place.remove_junk()
                try:
                    removed.move(doc_id, doc_id, place.directory)
                except OSError as error:
                    if error.errno in TAKEN:  # a create was faster
                        return False
                    raise
                self._sync_all(place.directory, removed)
                is_back = True
        # An earlier removal or restore may have been interrupted between the document and its history.
        is_back = self._take_back_history(place, entry) or is_back
        self._remove_empty(entry, stage)
        return is_back

    def _take_back_history(self, place: Place, entry: str) -> bool:
        """Move a history back into that of its document; return whether there was one."""
        above = (*QUARANTINE, entry, *HISTORY, place.stage)
        with contextlib.suppress(FileNotFoundError), open_below(self._root, above) as histories:
            with histories.sub(place.doc_id) as removed, place.make_history() as history:
                for name in removed.names():
                    removed.move(name, name, history)
                self._sync_all(history, removed)
            histories.remove_empty(place.doc_id)
            return True
        return False

    def list_traces(self, documents: Collection[tuple[str, str]]) -> Iterator[TracePath]:
        """Yield whatever may hold a text of one of these documents, except the documents."""
        for entry in list_names(self._root, QUARANTINE):
            for each in self._list_moved(entry):
                if each[:2] in documents:
                    size = measure(join(self._root, each.path))
                    yield TracePath(each.stage, each.doc_id, each.path, size, not each.in_history)
        for stage, doc_id, path in self._list_others(documents):
            if (stage, doc_id) in documents:
                yield TracePath(stage, doc_id, path, measure(join(self._root, path)))

    def _list_others(self, documents: Collection[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
        """Yield stage, doc id and path of history, rescue files and files of dead writers, also of other documents."""
        for stage, doc_id in documents:
            history = (*HISTORY, stage, doc_id)
            yield from ((stage, doc_id, join(*history, name)) for name in list_names(self._root, history))
        for stage in {stage for stage, _ in documents}:
            names = list_names(self._root, (stage,))
            for name in names:
                own = parse_temporary_name(name)
                if own is not None and (stage, own) in documents and self._is_dead(stage, name):
                    yield stage, own, join(stage, name)
                own = name.removeprefix(new_name(""))
                if name == new_name(own) and old_name(own) not in names:  # of a replace that was killed
                    yield stage, own, join(stage, name)
            for name in list_names(self._root, (*RESCUED, stage)):
                own = parse_rescue_name(parse_temporary_name(name) or name)
                if own is not None:
                    yield stage, own, join(*RESCUED, stage, name)

    def _is_dead(self, stage: str, name: str) -> bool:
        """Return whether no writer uses a temporary directory."""
        with (
            contextlib.suppress(FileNotFoundError),
            open_below(self._root, (stage,)) as directory,
            probe_lock(directory, name) as is_free,
        ):
            return is_free
        return False

    def erase(self, trace: TracePath) -> None:
        """Delete an entry, and the directories above it that are empty then. Needs the lock of the document.

        The record goes last: it says what the document was made from, which an erasure that is repeated must know.
        """
        names = trace.path.split(os.sep)
        with contextlib.suppress(FileNotFoundError):
            self._delete(names)
        self._remove_empty(names[2], names[-2])
        self.sync_above(trace.path)

    def _delete(self, path: Sequence[str]) -> None:
        """Delete a file, or a directory with everything in it."""
        with open_below(self._root, path[:-1]) as around:
            status = around.stat(path[-1])
            if status is None or not stat.S_ISDIR(status.st_mode):
                around.unlink(path[-1])
                return
            for name in sorted(list_names(self._root, path), key=RECORD_FILE.__eq__):
                self._delete([*path, name])
            around.remove_empty(path[-1])

    def sync_above(self, path: str) -> None:
        """Make the deletion of a path durable: sync the nearest directory above it that is left."""
        *above, _ = path.split(os.sep)
        while self._sync and above:
            with contextlib.suppress(FileNotFoundError), open_below(self._root, above) as directory:
                directory.sync()
                break
            above.pop()

    def _list_moved(self, entry: str) -> Iterator[_Moved]:
        """Yield everything of a document that a removal or repair has moved aside."""
        for above in ((), HISTORY):
            for stage in list_names(self._root, (*QUARANTINE, entry, *above)):
                place = (*QUARANTINE, entry, *above, stage)
                for name in [] if stage.startswith(".") else list_names(self._root, place):
                    doc_id = parse_temporary_name(name) or name
                    for prefix in (old_name(""), new_name("")):
                        doc_id = doc_id.removeprefix(prefix)
                    if is_doc_id(doc_id):
                        yield _Moved(stage, doc_id, join(*place, name), bool(above))

    def _remove_empty(self, entry: str, stage: str) -> None:
        """Remove the directories of an entry that are empty."""
        at = join(self._root, *QUARANTINE, entry)
        for names in ((*HISTORY, stage), HISTORY, HISTORY[:1], (stage,), ()):
            with ignore_system_errors:
                os.rmdir(join(at, *names))

    def _sync_all(self, *directories: Directory) -> None:
        for each in directories if self._sync else ():
            each.sync()


def list_names(root: str, path: Sequence[str]) -> list[str]:
    """Return the names in a directory below the root; none if it does not exist or is not a directory."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), open_below(root, path) as directory:
        return sorted(directory.names())
    return []


def measure(path: str) -> int:
    """Return the size of a file, or of all files below a directory that can be listed, in bytes; 0 if it is gone."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return 0
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size
    size = 0
    with ignore_system_errors, os.scandir(path) as entries:
        for entry in entries:
            size += measure(entry.path)
    return size

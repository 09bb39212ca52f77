"""The quarantine of an object store: objects that were moved aside, and the traces of a document.

The key of an object in quarantine is `.docid/quarantine/<entry>/` and its original key. An object store cannot move,
and a delete cannot be conditional, but a put can. So docid copies an object, replaces exactly this version by a
tombstone, which keeps the id taken but counts as no document, and deletes that.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, cast

from docid.errors import StoreUnavailable, UnreadableDocument
from docid.store.backends.base import Removed, Stored, TracePath
from docid.store.backends.names import HISTORY, QUARANTINE, RESCUED, parse_rescue_name
from docid.store.backends.objects.bucket import VERSION_GONE
from docid.store.backends.objects.format import document_key, history_prefix, make_tombstone, parse_doc_id, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from docid.store.backends.objects.bucket import Bucket, Object

DEAD_AFTER = 300.0  # seconds after which the process of an unfinished removal or restore counts as dead


class ObjectsQuarantine:
    """The quarantine in a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def put(self, stage: str, doc_id: str, found: Object, entry: str) -> str | None:
        """Move this version of a document to quarantine, with its history; return the new key.

        If the object has another version now, change nothing and return None.
        """
        key, prefix = document_key(stage, doc_id), history_prefix(stage, doc_id)
        to = self._key(entry, key)
        self._bucket.put(to, found.data, "overwrite")
        copied = self._copy_below(prefix, self._key(entry, prefix))
        if not self._bucket.swap(key, make_tombstone(), found.version, found.data)[0]:
            self._delete_all([to, *copied.values()])
            return None
        # The document is removed now. If the service fails, a repair deletes the tombstone.
        with contextlib.suppress(StoreUnavailable):
            self._delete_all([*copied, key])
        return to

    def list(self) -> Iterator[Removed]:
        """Yield the documents in quarantine."""
        for key, _ in self._bucket.entries_below(self._key()):
            entry, *path = key.removeprefix(self._key()).split("/")
            if len(path) == 2 and (doc_id := parse_doc_id(path[1])) is not None:  # noqa: PLR2004 - stage and name
                yield Removed(entry, path[0], doc_id)

    def load(self, removed: Removed) -> Stored | None:
        """Return the record of a document in quarantine; None if it is not there."""
        entry, stage, doc_id = removed
        key = self._key(entry, document_key(stage, doc_id))
        data = self._bucket.read(key)
        try:
            return None if data is None else Stored(unpack(data)[0], {})
        except ValueError as error:
            raise UnreadableDocument(stage, doc_id, self._bucket.locate(key), str(error)) from None

    def restore(self, removed: Removed) -> bool:
        """Move a document and its history back; return False if it is gone, or its id is taken."""
        entry, stage, doc_id = removed
        key, prefix = document_key(stage, doc_id), history_prefix(stage, doc_id)
        at = self._key(entry, key)
        data = self._bucket.read(at)
        if data is None:
            return False
        try:
            self._bucket.put(key, data, "create")
        except VERSION_GONE:
            # An earlier restore may have died before it moved the history.
            if self._bucket.read(key) != data or not self.is_dead(key):
                return False
            self._finish(entry, key, prefix)
            return True
        # Only one restore can create the document, and only that one deletes the copy in quarantine. If the copy has
        # gone, an erasure deleted it. That checks the document afterwards, so one of the two sees the other.
        if self._bucket.read(at) is None:
            self._withdraw(key, data)
            return False
        self._finish(entry, key, prefix)
        return True

    def _finish(self, entry: str, key: str, prefix: str) -> None:
        """Move back the history of a document that a restore has created, then delete the copy of the document."""
        self._delete_all(self._copy_below(self._key(entry, prefix), prefix))
        self.erase(self._key(entry, key))

    def put_history(self, stage: str, doc_id: str, entry: str) -> None:
        """Move the history of a document to quarantine, while a tombstone keeps its id."""
        prefix = history_prefix(stage, doc_id)
        self._delete_all(self._copy_below(prefix, self._key(entry, prefix)))

    def is_dead(self, key: str, stale_after: float = 0.0) -> bool:
        """Return whether an object is so old that its process is dead. The time is from the service."""
        return get_age(self._bucket.head(key)) >= max(stale_after, DEAD_AFTER)

    def _withdraw(self, key: str, data: bytes) -> None:
        """Delete an object, if it has these bytes."""
        found = self._bucket.get(key)
        if (
            found is not None
            and found.data == data
            and self._bucket.swap(key, make_tombstone(), found.version, data)[0]
        ):
            self.erase(key)

    def list_traces(
        self, documents: Collection[tuple[str, str]], each: Callable[..., Iterator[Any]]
    ) -> Iterator[TracePath]:
        """Yield each object that may hold a text of one of these documents, except the documents.

        `each` is `Backend.each`: there is a request for the history of each document.
        """
        for history in each(self._list_history, documents):
            yield from history
        for stage in {stage for stage, _ in documents}:
            prefix = "/".join((*RESCUED, stage)) + "/"
            for key, meta in self._bucket.entries_below(prefix, skip_odd=True):
                own = parse_rescue_name(key.removeprefix(prefix))
                if own is not None and (stage, own) in documents:
                    yield TracePath(stage, own, key, meta["size"])
        for key, meta in self._bucket.entries_below(self._key(), skip_odd=True):
            path = key.removeprefix(self._key()).partition("/")[2].split("/")
            in_history = tuple(path[:2]) == HISTORY
            names = path[2:4] if in_history else path
            if len(names) == 2 and (name := (names[0], names[1].removesuffix(".json"))) in documents:  # noqa: PLR2004 - stage and doc id
                yield TracePath(*name, key, meta["size"], not in_history)

    def _list_history(self, document: tuple[str, str]) -> Iterable[TracePath]:
        found = self._bucket.entries_below(history_prefix(*document), skip_odd=True)
        return [TracePath(*document, key, meta["size"]) for key, meta in found]

    def erase(self, key: str) -> None:
        """Delete an object, if it exists."""
        with contextlib.suppress(FileNotFoundError):
            self._bucket.delete(key)

    def _copy_below(self, prefix: str, to: str) -> dict[str, str]:
        """Copy all objects directly below a prefix to another one; return their keys, and those of the copies."""
        copied = {}
        for name in list(self._bucket.names_below(prefix, skip_odd=True)):
            data = self._bucket.read(prefix + name)
            if data is not None:  # a change that failed may have deleted its copy
                self._bucket.put(to + name, data, "overwrite")
                copied[prefix + name] = to + name
        return copied

    def _delete_all(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.erase(key)

    @staticmethod
    def _key(*names: str) -> str:
        """Return a key in quarantine; without names, the prefix of all keys there."""
        return "/".join((*QUARANTINE, *names)) if names else "/".join(QUARANTINE) + "/"


def get_age(meta: Mapping[str, Any]) -> float:
    """Return the age of an object in seconds."""
    return time.time() - cast("float", meta["last_modified"].timestamp())

"""Documents in an object store, one object each: S3, Google Cloud Storage, Azure, over obstore.

A document is `<prefix>/<stage>/<doc_id>.json`: its record, as a local backend keeps it in `metadata.json`, and in the
same JSON object the `texts` of its parts by file name. One conditional put is the whole commit, so there is nothing to
lock and nothing to sweep. Needs the extra `objects`: `pip install 'docid-store[objects]'`.
"""

# ruff: noqa: D102 - the docstrings are those of `Backend`, which help() shows
from __future__ import annotations

import contextlib
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from docid.core.lineage_rules import is_other_lineage
from docid.core.record import Record
from docid.errors import StoreUnavailable, UnreadableDocument
from docid.store.backends.base import Backend, R, Stored, T
from docid.store.backends.names import HISTORY
from docid.store.backends.objects.bucket import VERSION_GONE, Bucket, check_process
from docid.store.backends.objects.format import (
    digest_in,
    digest_of,
    doc_id_of,
    history_entries,
    history_name,
    history_of,
    key_of,
    pack,
    unpack,
)
from docid.store.backends.objects.sweep import ObjectsSweeper

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import ThreadPoolExecutor

    from docid.store.backends.base import NewDocument

_here = threading.local()  # whether this thread is one that works for `each`, of any backend


class ObjectsBackend(Backend):
    """One object a document, in a bucket or a container.

    Safe beside any number of other writers on any machines, where the service honours conditional puts (S3, Google
    Cloud Storage, Azure and most that speak S3 do). What was acknowledged is as durable as the service makes it.

    It cannot be used in a process that was forked from one that has used it; start workers with `spawn`. It pickles:
    to workers goes what it was made from, options too. Credentials that come from the environment do not travel.

    Args:
        store: a URL, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`; `memory://` is a fresh one
            in this process. Or a store of `obstore.store`.
        options: what `obstore.store.from_url` takes beside the URL (`endpoint`, `region`, `client_options`,
            `retry_config`, …); what is not given comes from the environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`
            and so on). Never shown.
        in_flight: how many requests are under way at once in work on many documents.

    Raises:
        ValueError: no such URL, or an option that obstore does not know.

    Example:
        >>> from docid import DocsStore, Document
        >>> store = DocsStore("memory://")
        >>> store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="once")).outcome
        <Outcome.CREATED: 'created'>
        >>> store.open("draft", "d1").raw_text
        'once'
    """

    loads_whole = True

    def __init__(self, store: Any, *, options: Mapping[str, Any] | None = None, in_flight: int = 32) -> None:
        if in_flight < 1:
            raise ValueError(f"in_flight: expected 1 or more, got {in_flight}")
        self.in_flight = in_flight
        self.together = 20 * in_flight  # at the end of a batch some requests wait for the slowest
        self._threads: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._bucket = Bucket(store, dict(options or {}))
        self.root = self._bucket.url

    def __repr__(self) -> str:
        return f"ObjectsBackend({self.root!r}, in_flight={self.in_flight})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._bucket.is_in_memory:
            raise TypeError(f"{self!r} lives in one process and cannot be pickled")
        return partial(ObjectsBackend, options=self._bucket.options, in_flight=self.in_flight), (self._bucket.given,)

    def location(self, stage: str, doc_id: str) -> str:
        """Return the URL of the object."""
        return self._bucket.locate(key_of(stage, doc_id))

    def each(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """See `Backend.each`: twice `in_flight` items are held."""
        if getattr(_here, "is_worker", False):  # what a worker asks for, it does itself
            yield from map(function, items)
            return
        check_process(self.root)
        with self._lock:
            if self._threads is None:
                from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - for work on many alone

                # Nothing that a thread holds may hold this backend, or neither would ever end.
                begin = partial(setattr, _here, "is_worker", True)
                self._threads = ThreadPoolExecutor(self.in_flight, "docid", begin)
            threads = self._threads
        pending: deque[Any] = deque()
        try:
            for item in items:
                pending.append(threads.submit(function, item))
                if len(pending) >= 2 * self.in_flight:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def create(self, stage: str, doc_id: str, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """See `Backend.create`. One request, where the id is free."""
        key, data = key_of(stage, doc_id), pack(record, parts)
        is_done, there = self._put(key, data, "create")
        if is_done or there is None:
            return is_done
        # Or it was done, its answer lost, and another change has come since: then it is in history.
        return self._is_later(stage, doc_id, there, record, parts) and self._is_in_history(stage, doc_id, data)

    def create_many(self, documents: Sequence[NewDocument]) -> list[bool | Exception]:
        """See `Backend.create_many`: `in_flight` requests at once."""
        # Of a name that is there twice the first one is first.
        first: dict[tuple[str, str], int] = {}
        later = [at for at, each in enumerate(documents) if first.setdefault((each.stage, each.doc_id), at) != at]
        answers: dict[int, bool | Exception] = {}
        for numbers in (list(first.values()), later):
            answers.update(zip(numbers, super().create_many([documents[at] for at in numbers]), strict=True))
        return [answers[at] for at in range(len(documents))]

    def load(self, stage: str, doc_id: str, parts: Collection[str] = ()) -> Stored | None:
        """See `Backend.load`. One request."""
        found = self._read(key_of(stage, doc_id), stage, doc_id)
        if found is None:
            return None
        record, texts = found
        return Stored(record, {name: texts[name] for name in parts if name in texts})

    def exists(self, stage: str, doc_id: str) -> bool:
        """See `Backend.exists`. One request, of which no text comes back."""
        key = key_of(stage, doc_id)
        try:
            self._bucket.head(key)
        except FileNotFoundError:
            # The answer to this request does not say whether the bucket is there.
            return self._bucket.get(key) is not None
        return True

    def listing(self, stage: str, doc_id: str) -> tuple[bytes, dict[str, int]] | None:
        """See `Backend.listing`. One request."""
        with contextlib.suppress(UnreadableDocument, OSError):
            if (found := self._read(key_of(stage, doc_id), stage, doc_id)) is not None:
                record, texts = found
                return record, {name: len(data) for name, data in texts.items()}
        return None

    def amend(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        return self._swap(stage, doc_id, expected, record, parts, keep=True)

    def replace(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        return self._swap(stage, doc_id, expected, record, parts, keep=False)

    def ids(self, stage: str) -> Iterator[str]:
        """See `Backend.ids`. One request a thousand."""
        names = self._bucket.names_below(f"{stage}/")
        yield from (doc_id for name in names if (doc_id := doc_id_of(name)) is not None)

    def history(self, stage: str, doc_id: str, parts: Collection[str]) -> Iterator[Stored]:
        """See `Backend.history`. The latest is the one whose time, by the clock of who replaced it, is the latest."""
        place = history_of(stage, doc_id)
        names = self._entries(place)
        if not names:
            return
        # A change puts the old version there before it is made: one that was not made, or lost to another, leaves a
        # version that is still the current one, or there twice. Its digest is in its name, and the first one counts.
        current = self._data(key_of(stage, doc_id))
        known = "" if current is None else digest_of(current)
        same: dict[str, list[str]] = {}
        for name in names:
            same.setdefault(digest_in(name), []).append(name)
        for digest, each in sorted(same.items(), key=lambda named: named[1][0], reverse=True):
            # A change that was not made takes its own away, at this moment maybe.
            versions = (self._read(place + name, stage, doc_id) for name in each if digest != known)
            found = next(filter(None, versions), None)
            if found is not None:
                record, texts = found
                yield Stored(record, {part: texts[part] for part in parts if part in texts})

    def check(self, record: bytes, parts: Mapping[str, bytes]) -> None:
        pack(record, parts)

    def with_history(self, stage: str) -> Collection[str]:
        return self._bucket.directories("/".join((*HISTORY, stage)))

    def sweeper(self) -> ObjectsSweeper:
        return ObjectsSweeper(self._bucket)

    def _swap(
        self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes], *, keep: bool
    ) -> bool:
        key, place = key_of(stage, doc_id), history_of(stage, doc_id)
        old = self._bucket.get(key)
        if old is None:
            return False
        there, texts = self._unpack(stage, doc_id, old.data)
        if there != expected:
            return False
        new = pack(record, {**(texts if keep else {}), **parts})
        put_aside = self._put_aside(place, old.data)
        is_done, _ = self._put(key, new, old.version, old.data)
        if is_done or self._is_in_history(stage, doc_id, new):
            return True
        self._bucket.delete(put_aside)  # another change was first, and has put it aside itself
        return False

    @staticmethod
    def _is_later(stage: str, doc_id: str, there: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """Return whether an object may have taken the place of a document: the same lineage, and other texts."""
        try:
            later, texts = unpack(there)
            old, new = (Record.from_bytes(each, stage, doc_id) for each in (record, later))
        except ValueError:
            return False
        return texts != parts and not is_other_lineage(old, new)

    def _put_aside(self, place: str, data: bytes) -> str:
        """Put a version into history, before its change; return where: a name of its own.

        Also where another change has put it aside already: that one takes its own away if it is not made.
        """
        key = place + history_name(self._entries(place), data)
        self._bucket.put(key, data, "overwrite")
        return key

    def _entries(self, place: str) -> list[str]:
        """Return the names in a place of history, the earliest first."""
        return history_entries(self._bucket.names_below(place))

    def _is_in_history(self, stage: str, doc_id: str, data: bytes) -> bool:
        """Return whether a version is in history: what a change takes the place of is there before it is made."""
        digest = digest_of(data)
        return any(digest_in(name) == digest for name in self._entries(history_of(stage, doc_id)))

    def _put(self, key: str, data: bytes, mode: Any, old: bytes | None = None) -> tuple[bool, bytes | None]:
        """Put a version where `mode` allows it; return whether that was done, and what is there instead of `old`."""
        try:
            self._bucket.put(key, data, mode)
        except VERSION_GONE:
            there = self._data(key)
        except StoreUnavailable as error:
            # It may have been done, and only its answer lost; or it may be done yet.
            there = None
            with contextlib.suppress(StoreUnavailable):
                there = None if error.refused else self._data(key)
            if there in {None, old}:
                raise
        else:
            there = data
        return there == data, there

    def _read(self, key: str, stage: str, doc_id: str) -> tuple[bytes, dict[str, bytes]] | None:
        """Return the record and the parts of a version of a document; None where there is none."""
        data = self._data(key)
        return None if data is None else self._unpack(stage, doc_id, data)

    def _data(self, key: str) -> bytes | None:
        found = self._bucket.get(key)
        return None if found is None else found.data

    def _unpack(self, stage: str, doc_id: str, data: bytes) -> tuple[bytes, dict[str, bytes]]:
        try:
            return unpack(data)
        except ValueError as error:
            raise UnreadableDocument(stage, doc_id, self.location(stage, doc_id), str(error)) from None

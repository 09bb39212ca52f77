"""The object store backend, over obstore: S3, Google Cloud Storage, Azure.

A document is one object, `<prefix>/<stage>/<doc_id>.json`: its record with one more key, `texts`, the text of each part
by file name. One conditional put is the commit, so there are no locks and no temporary files. Needs the extra
`objects`: `pip install 'docid-store[objects]'`.
"""

# ruff: noqa: D102 - the docstrings are those of `Backend`, which help() shows
from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from docid.core.lineage_rules import is_other_lineage
from docid.core.record import Record
from docid.errors import StoreUnavailable, UnreadableDocument
from docid.store.backends.base import Backend, InternalFile, R, Removed, Stored, T, TracePath
from docid.store.backends.leases import Leases
from docid.store.backends.names import HISTORY, INTERNAL
from docid.store.backends.objects.bucket import Bucket, OddKeyError, check_process
from docid.store.backends.objects.format import (
    TOMBSTONE_SIZE,
    document_key,
    history_entries,
    history_name,
    history_prefix,
    is_tombstone,
    pack,
    parse_digest,
    parse_doc_id,
    short_digest,
    unpack,
)
from docid.store.backends.objects.quarantine import ObjectsQuarantine
from docid.store.backends.objects.sweep import ObjectsSweeper
from docid.store.threads import Threads, is_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from docid.store.backends.base import NewDocument
    from docid.store.backends.claims import Claim, Holder

_PAUSE = 0.1  # seconds before the next try to write an id whose document is being removed


class ObjectsBackend(Backend):
    """A backend in a bucket or a container, with one object per document.

    It is safe with any number of writers on any machines, if the service supports conditional puts (S3, Google Cloud
    Storage, Azure and most services with the S3 API do). A finished write is as durable as the service makes it.

    Before its first write, a process checks with two or three puts of `.docid/probe.txt` that the service honours
    conditional puts, and refuses to write otherwise.

    A process that was forked from one that used obstore cannot use it; start workers with `spawn`. It pickles with its
    URL and options. Credentials from the environment are not pickled.

    An exception that a signal handler raises, as Ctrl-C does, interrupts every call at once and passes unchanged. A
    request that was sent may still be carried out.

    Args:
        store: a URL: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, or `memory://` for a new
            store in this process. Or a store from `obstore.store`.
        options: arguments for `obstore.store.from_url` (`endpoint`, `region`, `client_options`, `retry_config`, …).
            obstore reads missing ones from the environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL` and so on). docid
            never shows them.
        in_flight: how many requests to send at once when an operation is about many documents.

    Raises:
        ValueError: the URL is not supported, obstore does not know an option, or `in_flight` is below 1.

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
        self.in_flight = self.io_threads = in_flight
        self.together = 20 * in_flight  # larger batches wait less often for their slowest request
        self._threads: Threads | None = None
        self._lock = threading.RLock()  # a signal handler may use the store, too
        self._bucket = Bucket(store, dict(options or {}))
        self.root = self._bucket.url
        self.leases = Leases(self)

    def __repr__(self) -> str:
        return f"ObjectsBackend({self.root!r}, in_flight={self.in_flight})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._bucket.is_in_memory:
            raise TypeError(f"{self!r} lives in one process and cannot be pickled; use a bucket or a local directory")
        return partial(ObjectsBackend, options=self._bucket.options, in_flight=self.in_flight), (self._bucket.given,)

    def location(self, stage: str, doc_id: str) -> str:
        """Return the URL of the object."""
        return self._bucket.locate(document_key(stage, doc_id))

    def each(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """See `Backend.each`. It reads up to `2 * in_flight` items ahead."""
        if is_worker():  # a worker that waited for other workers could block them all
            yield from map(function, items)
            return
        check_process(self.root)
        with self._lock:
            if self._threads is None:
                self._threads = Threads(self.in_flight)
            threads = self._threads
        pending: deque[Future[R]] = deque()
        failures: list[StoreUnavailable] = []
        try:
            for item in _yield_until_failure(items, failures):
                pending.append(threads.submit(function, item))
                if len(pending) >= 2 * self.in_flight:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
        for failure in failures:
            raise failure

    def create(self, stage: str, doc_id: str, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """See `Backend.create`. One request if the id is free."""
        key, data = document_key(stage, doc_id), pack(record, parts)
        is_done, stored = self._bucket.swap(key, data, "create")
        if is_done or stored is None:
            return is_done
        if is_tombstone(stored):
            time.sleep(_PAUSE)  # another process is removing the old document: it takes a few requests
            return False
        # If the response to a successful put was lost and another change followed, this version is in history.
        return self._is_later(stage, doc_id, stored, record, parts) and self._is_in_history(stage, doc_id, data)

    def create_many(self, documents: Sequence[NewDocument]) -> list[bool | Exception]:
        """See `Backend.create_many`. `in_flight` requests at once."""
        # If a name appears twice, the first document wins.
        first: dict[tuple[str, str], int] = {}
        later = [at for at, each in enumerate(documents) if first.setdefault((each.stage, each.doc_id), at) != at]
        results: dict[int, bool | Exception] = {}
        for numbers in (list(first.values()), later):
            results.update(zip(numbers, super().create_many([documents[at] for at in numbers]), strict=True))
        return [results[at] for at in range(len(documents))]

    def load(self, stage: str, doc_id: str, parts: Collection[str] = ()) -> Stored | None:
        """See `Backend.load`. One request."""
        found = self._load(document_key(stage, doc_id), stage, doc_id)
        if found is None:
            return None
        record, texts = found
        return Stored(record, {name: texts[name] for name in parts if name in texts})

    def exists(self, stage: str, doc_id: str) -> bool:
        """See `Backend.exists`. One request, which transfers no text."""
        key = document_key(stage, doc_id)
        try:
            if self._bucket.head(key)["size"] == TOMBSTONE_SIZE:
                return self._load(key, stage, doc_id) is not None
        except (FileNotFoundError, StoreUnavailable) as error:
            if isinstance(error, StoreUnavailable) and not error.refused:
                raise
        else:
            return True
        # A HEAD response does not show whether the bucket exists, or why the service refuses. A GET does.
        return self._bucket.get(key) is not None

    def remove(self, stage: str, doc_id: str, expected: bytes, entry: str) -> str | None:
        """See `Backend.remove`. Five requests, and three for each version in history."""
        key = document_key(stage, doc_id)
        found = self._bucket.get(key)
        if found is None or is_tombstone(found.data) or self._unpack(stage, doc_id, found.data)[0] != expected:
            return None
        return self.quarantine.put(stage, doc_id, found, entry)

    @property
    def quarantine(self) -> ObjectsQuarantine:
        """The quarantine of this backend."""
        return ObjectsQuarantine(self._bucket)

    def list_removed(self) -> Iterator[Removed]:
        """See `Backend.list_removed`. One request per 1,000 objects in quarantine."""
        return self.quarantine.list()

    def load_removed(self, removed: Removed) -> Stored | None:
        return self.quarantine.load(removed)

    def restore(self, removed: Removed) -> bool:
        return self.quarantine.restore(removed)

    def list_traces(self, documents: Collection[tuple[str, str]]) -> Iterator[TracePath]:
        """See `Backend.list_traces`. One request per document, and one per 1,000 objects in quarantine."""
        return self.quarantine.list_traces(documents, self.each)

    def erase_trace(self, trace: TracePath) -> None:
        self.quarantine.erase(trace.path)

    def listing(self, stage: str, doc_id: str) -> tuple[bytes, dict[str, int]] | None:
        """See `Backend.listing`. One request."""
        with contextlib.suppress(UnreadableDocument, StoreUnavailable):
            if (found := self._load(document_key(stage, doc_id), stage, doc_id)) is not None:
                record, texts = found
                return record, {name: len(data) for name, data in texts.items()}
        return None

    def amend(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        return self._swap(stage, doc_id, expected, record, parts, keep=True)

    def replace(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        return self._swap(stage, doc_id, expected, record, parts, keep=False)

    def ids(self, stage: str) -> Iterator[str]:
        """See `Backend.ids`. One request per 1,000 documents.

        If other programs put keys there that obstore cannot read, it yields the ids and then raises `StoreUnavailable`.
        """
        last = None
        for name in self._bucket.names_below(f"{stage}/"):
            doc_id = parse_doc_id(name)
            if doc_id is not None and doc_id != last:  # obstore lists the key `d1.json/` as `d1.json`
                yield doc_id
                last = doc_id

    def history(self, stage: str, doc_id: str, parts: Collection[str]) -> Iterator[Stored]:
        """See `Backend.history`. Versions are sorted by the clocks of the writers that replaced them."""
        prefix = history_prefix(stage, doc_id)
        names = self._list_history(prefix)
        if not names:
            return
        # A change copies the old version to history first. If it then fails, the copy is of the current version, or
        # the second one of an old version. The digest in the name tells; of two copies the first one counts.
        current = self._bucket.read(document_key(stage, doc_id))
        known = "" if current is None else short_digest(current)
        same: dict[str, list[str]] = {}
        for name in names:
            same.setdefault(parse_digest(name), []).append(name)
        for digest, each in sorted(same.items(), key=lambda pair: pair[1][0].lower(), reverse=True):
            # A failed change may delete its copy at this moment.
            versions = (self._load(prefix + name, stage, doc_id) for name in each if digest != known)
            found = next(filter(None, versions), None)
            if found is not None:
                record, texts = found
                yield Stored(record, {part: texts[part] for part in parts if part in texts})

    def check(self, record: bytes, parts: Mapping[str, bytes]) -> None:
        pack(record, parts)

    def with_history(self, stage: str) -> Collection[str] | None:
        try:
            return self._bucket.directories("/".join((*HISTORY, stage)))
        except OddKeyError:
            return None

    def sweeper(self) -> ObjectsSweeper:
        return ObjectsSweeper(self._bucket, self.leases)

    def _swap(
        self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes], *, keep: bool
    ) -> bool:
        key = document_key(stage, doc_id)
        old = self._bucket.get(key)
        if old is None or is_tombstone(old.data):
            return False
        current, texts = self._unpack(stage, doc_id, old.data)
        if current != expected:
            return False
        new = pack(record, {**(texts if keep else {}), **parts})
        copy = self._put_aside(history_prefix(stage, doc_id), old.data)
        is_done, _ = self._bucket.swap(key, new, old.version, old.data)
        if is_done or self._is_in_history(stage, doc_id, new):
            return True
        self._bucket.delete(copy)  # another change was first, and has made its own copy
        return False

    @staticmethod
    def _is_later(stage: str, doc_id: str, stored: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """Return whether an object may have replaced a document: it has the same lineage and other texts."""
        try:
            later, texts = unpack(stored)
            old, new = (Record.from_bytes(each, stage, doc_id) for each in (record, later))
        except ValueError:
            return False
        return texts != parts and not is_other_lineage(old, new)

    def _put_aside(self, prefix: str, data: bytes) -> str:
        """Copy a version to history and return the key of the copy.

        The copy is needed even if another change has made one: if that change fails, it deletes its own.
        """
        key = prefix + history_name(self._list_history(prefix), data)
        self._bucket.put(key, data, "overwrite")
        return key

    def _list_history(self, prefix: str) -> list[str]:
        """Return the names of the versions below a prefix, the earliest first."""
        return history_entries(self._bucket.names_below(prefix, skip_odd=True))

    def _is_in_history(self, stage: str, doc_id: str, data: bytes) -> bool:
        """Return whether a version is in history: every change copies the old version there first."""
        digest = short_digest(data)
        return any(parse_digest(name) == digest for name in self._list_history(history_prefix(stage, doc_id)))

    def _load(self, key: str, stage: str, doc_id: str) -> tuple[bytes, dict[str, bytes]] | None:
        """Return the record and the parts in the object with this key; None if it does not exist."""
        data = self._bucket.read(key)
        return None if data is None or is_tombstone(data) else self._unpack(stage, doc_id, data)

    def _unpack(self, stage: str, doc_id: str, data: bytes) -> tuple[bytes, dict[str, bytes]]:
        try:
            return unpack(data)
        except ValueError as error:
            raise UnreadableDocument(stage, doc_id, self.location(stage, doc_id), str(error)) from None

    def directories(self) -> Collection[str]:
        """See `Backend.directories`. One request per 1,000 names."""
        try:
            return [name for name in self._bucket.directories("") if not name.startswith(".")]
        except OddKeyError as error:
            raise self._bucket.name_odd_keys("", [str(error)], is_whole=False) from None

    def read_file(self, name: str) -> InternalFile | None:
        """See `Backend.read_file`. One request."""
        found = self._bucket.get(f"{INTERNAL}/{name}")
        return None if found is None else InternalFile(found.data, found.version)

    def write_file(self, name: str, data: bytes, *, is_private: bool = False) -> None:  # noqa: ARG002 - one access rule
        """See `Backend.write_file`. One request."""
        self._bucket.put(f"{INTERNAL}/{name}", data, "overwrite")

    def list_files(self, directory: str) -> Iterator[tuple[str, float]]:
        """See `Backend.list_files`. One request per 1,000 files."""
        prefix = f"{INTERNAL}/{directory}/"
        for key, meta in self._bucket.entries_below(prefix, skip_odd=True):
            name = key.removeprefix(prefix)
            if "/" not in name:
                yield name, meta["last_modified"].timestamp()

    def remove_file(self, name: str) -> None:
        """See `Backend.remove_file`. One request."""
        with contextlib.suppress(FileNotFoundError):
            self._bucket.delete(f"{INTERNAL}/{name}")

    @property
    def claim_delay(self) -> float:  # type: ignore[override]
        """See `Backend.claim_delay`."""
        return 0.5 if self._bucket.is_in_memory else self.leases.delay

    def take_claim(self, stage: str, doc_id: str) -> Claim | Holder:
        """See `Backend.take_claim`. One request if it is free; a process also writes its worker file."""
        return self.leases.take(stage, doc_id)

    def list_claims(self, stage: str) -> Iterator[tuple[str, Holder]]:
        return self.leases.list(stage)

    def probe(self, stage: str, doc_id: str, *, replaces: bool) -> None:  # noqa: ARG002 - one rule for the bucket
        self._bucket.prove()

    def swap_file(self, name: str, expected: InternalFile | None, data: bytes) -> bool:
        """See `Backend.swap_file`. One request, and another one if it is refused."""
        key = f"{INTERNAL}/{name}"
        if expected is None:
            return self._bucket.swap(key, data, "create")[0]
        return self._bucket.swap(key, data, expected.version, expected.data)[0]


def _yield_until_failure(items: Iterable[T], failures: list[StoreUnavailable]) -> Iterator[T]:
    """Yield items; add the error of an incomplete listing to `failures`, to raise it after the results of these."""
    try:
        yield from items
    except StoreUnavailable as error:
        failures.append(error)

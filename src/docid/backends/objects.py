"""Documents in an object store, one object each: S3, Google Cloud Storage, Azure, over obstore.

A document is `<prefix>/<stage>/<doc_id>.json`: its record, as a local home keeps it in `metadata.json`, and in the same
JSON object the `texts` of its parts by file name. One conditional put is the whole commit, so there is nothing to lock
and nothing to sweep. Needs the extra `objects`: `pip install 'docid-store[objects]'`.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import threading
import time
from collections import deque
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import orjson

try:
    import obstore
    from obstore.exceptions import AlreadyExistsError, PreconditionError
    from obstore.store import MemoryStore, from_url
except ImportError as error:  # pragma: no cover  - tested in an environment without it
    raise ImportError("a store at a URL needs obstore: pip install 'docid-store[objects]'") from error

from docid.backends.base import Backend, Leftover, Stored
from docid.backends.names import HISTORY, QUARANTINE, entry_name, time_of_entry
from docid.document import nonce
from docid.errors import InvalidDocument, StoreUnavailable, UnreadableDocument
from docid.ids import is_doc_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import ThreadPoolExecutor

    from docid.backends.base import NewDocument

__all__ = ["ObjectsBackend"]

T = TypeVar("T")
R = TypeVar("R")

TEXTS = "texts"
"""The key of an object that holds the texts of a document; everything beside it is the record."""

# A record whose bytes do not come back when it is parsed and written (an older system's) is kept as a text too; so is
# one that has a key of that name itself.
_RECORD = "metadata.json"
_SUFFIX = ".json"
_FORMAT = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE  # as a record has it
_DIGITS = 12  # of a digest in a name; four more keep the names of two changes of one version apart
_TOMBSTONE = b"docid_quarantined"
_TOMBSTONE_AGE = 300.0  # seconds
_LISTINGS = 3  # that are begun again
_PAGE = 1000  # names in an answer: as many as the services give

# A request is tried again where the server is busy or the line is cut, for a minute and a half at most in all.
_RETRIES = {"max_retries": 8, "retry_timeout": timedelta(seconds=90)}

_URL = re.compile(r"(s3|s3a|gs|az|abfss?|memory)://[^?#@]*")

_here = threading.local()  # whether this thread is one that works for `each`, of any home


def _begin() -> None:
    _here.is_worker = True


_used_by: int | None = None  # the process that has sent requests


class _Object(NamedTuple):
    """An object as it was got: its bytes, and what tells this version of it from others."""

    data: bytes
    version: dict[str, str]


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
        self._given = store
        self._options = dict(options or {})
        self._threads: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        if isinstance(store, str):
            self.url = "memory://" if store.startswith("memory:") else store.rstrip("/")
            self._store = _opened(store, self._options)
        else:
            self.url = _shown(store)
            self._store = store
        self._made_in = os.getpid()

    def __repr__(self) -> str:
        return f"ObjectsBackend({self.url!r}, in_flight={self.in_flight})"

    def __reduce__(self) -> tuple[Any, ...]:
        if isinstance(self._store, MemoryStore):
            raise TypeError(f"{self!r} lives in one process and cannot be pickled")
        return _unpickled, (self._given, self._options, self.in_flight)

    def path(self, stage: str, doc_id: str) -> Path:
        """Return a name for the object; there is no such file. `location` is its URL."""
        return Path(self.location(stage, doc_id))

    def location(self, stage: str, doc_id: str) -> str:
        """Return the URL of the object."""
        return f"{self.url}/{stage}/{doc_id}{_SUFFIX}"

    def each(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """See `Backend.each`: twice `in_flight` items are held."""
        if getattr(_here, "is_worker", False):  # what a worker asks for, it does itself
            yield from map(function, items)
            return
        threads = self._pool()
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

    def _pool(self) -> ThreadPoolExecutor:
        _check_process(self.url)
        with self._lock:
            if self._threads is None:
                from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - for work on many alone

                # Nothing that a thread holds may hold this home, or neither would ever end.
                self._threads = ThreadPoolExecutor(self.in_flight, "docid", _begin)
            return self._threads

    # --- documents -----------------------------------------------------------------------------------------------

    def create(self, stage: str, doc_id: str, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """See `Backend.create`. One request, where the id is free."""
        key, data = _key(stage, doc_id), packed(record, parts)
        try:
            self._put(key, data, "create")
        except AlreadyExistsError:
            found = self._get(key)
            there = None if found is None else found.data
        except StoreUnavailable as error:
            there = self._after(error, key)
            if there is None:
                raise  # it may be done yet
        else:
            return True
        # Or it was done, its answer lost, and another change has come since: then it is in history.
        return there == data or (_is_later(there, record, parts) and self._is_in_history(stage, doc_id, data))

    def create_many(self, documents: Sequence[NewDocument]) -> list[bool | Exception]:
        """See `Backend.create_many`: `in_flight` requests at once."""

        def create(document: NewDocument) -> bool | Exception:
            try:
                return self.create(*document)
            except Exception as error:  # noqa: BLE001 - each has its answer
                return error

        # Of a name that is there twice the first one is first.
        first: dict[tuple[str, str], int] = {}
        later = [at for at, each in enumerate(documents) if first.setdefault((each.stage, each.doc_id), at) != at]
        answers = dict(zip(first.values(), self.each(create, map(documents.__getitem__, first.values())), strict=True))
        answers.update((at, create(documents[at])) for at in later)
        return [answers[at] for at in range(len(documents))]

    def load(self, stage: str, doc_id: str, parts: Collection[str] = ()) -> Stored | None:
        """See `Backend.load`. One request."""
        found = self._get(_key(stage, doc_id))
        if found is None:
            return None
        record, texts = self._unpacked(stage, doc_id, found.data)
        return Stored(record, {name: texts[name] for name in parts if name in texts})

    def exists(self, stage: str, doc_id: str) -> bool:
        """See `Backend.exists`. One request, of which no text comes back."""
        key = _key(stage, doc_id)
        try:
            self._ask("read", key, obstore.head, key)
        except FileNotFoundError:
            # The answer to this request does not say whether the bucket is there.
            return self._get(key) is not None
        return True

    def sizes(self, stage: str, doc_id: str, parts: Collection[str]) -> dict[str, int]:
        """See `Backend.sizes`."""
        found = self.load(stage, doc_id, parts)
        return {} if found is None else {name: len(data) for name, data in found.parts.items()}

    def listing(self, stage: str, doc_id: str) -> tuple[bytes, dict[str, int]] | None:
        """See `Backend.listing`. One request."""
        try:
            found = self._get(_key(stage, doc_id))
            if found is None:
                return None
            record, texts = self._unpacked(stage, doc_id, found.data)
        except (UnreadableDocument, OSError):
            return None
        return record, {name: len(data) for name, data in texts.items()}

    def amend(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """See `Backend.amend`."""
        return self._swap(stage, doc_id, expected, record, parts, keep=True)

    def replace(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """See `Backend.replace`."""
        return self._swap(stage, doc_id, expected, record, parts, keep=False)

    def ids(self, stage: str) -> Iterator[str]:
        """See `Backend.ids`. One request a thousand."""
        for name, _ in self._listed(f"{stage}/"):
            doc_id = name.removesuffix(_SUFFIX)
            if name.endswith(_SUFFIX) and is_doc_id(doc_id):
                yield doc_id

    def history(self, stage: str, doc_id: str, parts: Collection[str]) -> Iterator[Stored]:
        """See `Backend.history`. The latest is the one whose time, by the clock of who replaced it, is the latest."""
        place = _history(stage, doc_id)
        names = self._entries(place)
        if not names:
            return
        current = self._get(_key(stage, doc_id))
        # A change puts the old version there before it is made: one that was not made, or lost to another, leaves a
        # version that is still the current one, or there twice. Its digest is in its name, and the first one counts.
        known = "" if current is None else _digest(current.data)
        same: dict[str, list[str]] = {}
        for name in names:
            same.setdefault(_digest_of(name), []).append(name)
        for digest, each in sorted(same.items(), key=lambda named: named[1][0], reverse=True):
            # A change that was not made takes its own away, at this moment maybe.
            found = None if digest == known else next(filter(None, (self._get(place + name) for name in each)), None)
            if found is not None:
                record, texts = self._unpacked(stage, doc_id, found.data)
                yield Stored(record, {part: texts[part] for part in parts if part in texts})

    def check(self, record: bytes, parts: Mapping[str, bytes]) -> None:
        """See `Backend.check`."""
        packed(record, parts)

    def changed(self, stage: str) -> Collection[str]:
        """See `Backend.changed`."""
        place = "/".join((*HISTORY, stage))
        found = self._ask("list", place, obstore.list_with_delimiter, place)
        return {name.rstrip("/").rpartition("/")[2] for name in found["common_prefixes"]}

    def sweeper(self) -> ObjectsSweeper:
        """Return what moves objects aside that cannot be used, and deletes what was put aside long ago."""
        return ObjectsSweeper(self)

    def _swap(
        self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes], *, keep: bool
    ) -> bool:
        key, place = _key(stage, doc_id), _history(stage, doc_id)
        old = self._get(key)
        if old is None:
            return False
        there, texts = self._unpacked(stage, doc_id, old.data)
        if there != expected:
            return False
        new = packed(record, {**(texts if keep else {}), **parts})
        put_aside = self._put_aside(place, old.data)
        try:
            self._put(key, new, old.version)
        except (PreconditionError, AlreadyExistsError, FileNotFoundError):
            found = self._get(key)
            there_now = None if found is None else found.data
        except StoreUnavailable as error:
            there_now = self._after(error, key)
            if there_now is None or there_now == old.data:
                raise  # as above
        else:
            return True
        if there_now == new or self._is_in_history(stage, doc_id, new):
            return True
        self._delete(put_aside)  # another change was first, and has put it aside itself
        return False

    def _put_aside(self, place: str, data: bytes) -> str:
        """Put a version into history, before its change; return where: a name of its own.

        Also where another change has put it aside already: that one takes its own away if it is not made.
        """
        names = (name.removesuffix(_SUFFIX) for name in self._entries(place))
        time_of, _, unique = entry_name(names).partition("-")
        key = f"{place}{time_of}-{_digest(data)}{unique[_DIGITS:]}{_SUFFIX}"
        self._put(key, data, "overwrite")
        return key

    def _is_in_history(self, stage: str, doc_id: str, data: bytes) -> bool:
        """Return whether a version is in history: what a change takes the place of is there before it is made."""
        digest = _digest(data)
        return any(_digest_of(name) == digest for name in self._entries(_history(stage, doc_id)))

    def _after(self, error: StoreUnavailable, key: str) -> bytes | None:
        """Return what is there after a put that failed: it may have been done, and only its answer lost."""
        if error.refused:
            return None
        try:
            found = self._get(key)
        except StoreUnavailable:
            return None  # the failure of the put is what is told
        return None if found is None else found.data

    def _unpacked(self, stage: str, doc_id: str, data: bytes) -> tuple[bytes, dict[str, bytes]]:
        try:
            return unpacked(data)
        except ValueError as error:
            raise UnreadableDocument(stage, doc_id, self.location(stage, doc_id), str(error)) from None

    # --- requests ------------------------------------------------------------------------------------------------

    def _get(self, key: str) -> _Object | None:
        try:
            found = self._ask("read", key, obstore.get, key)
            data = self._ask("read", key, lambda _: bytes(found.bytes()))
        except FileNotFoundError:
            return None
        meta = found.meta
        version = {name: str(told) for name in ("e_tag", "version") if (told := meta.get(name)) is not None}
        return _Object(data, version)

    def _put(self, key: str, data: bytes, mode: Any) -> None:
        self._ask("write", key, obstore.put, key, data, mode=mode, use_multipart=False)

    def _delete(self, key: str) -> None:
        self._ask("delete", key, obstore.delete, key)

    def _listed(self, prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Return the names below a prefix, without those in directories of their own, and what the service says."""
        for path, meta in self._all_below(prefix):
            name = path.removeprefix(prefix)
            if "/" not in name:
                yield name, meta

    def _all_below(self, prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Return all paths below a prefix, and what the service says of each."""
        last: str | None = None
        failed = 0
        while True:
            pages = self._ask("list", prefix, obstore.list, prefix, offset=last, chunk_size=_PAGE)
            try:
                while (page := self._ask("list", prefix, lambda _: next(pages, None))) is not None:  # noqa: B023 - now
                    for meta in page:
                        last = meta["path"]
                        yield last, meta
            except StoreUnavailable as error:
                # obstore does not ask again for an answer that was cut off; from the last name on, this does.
                failed += 1
                if error.refused or failed > _LISTINGS:
                    raise
            else:
                return

    def _entries(self, place: str) -> list[str]:
        """Return the names in a place of history, the earliest first."""
        return sorted(name for name, _ in self._listed(place) if time_of_entry(name.removesuffix(_SUFFIX)) is not None)

    def _ask(self, action: str, key: str, function: Callable[..., R], *arguments: Any, **options: Any) -> R:
        """Do a request; raise what it means if it fails, without what the service says of credentials."""
        _check_process(self.url)
        if self._made_in != os.getpid() and not isinstance(self._store, MemoryStore):
            # Made before this process was forked, and not used: its connections are of the other process.
            self._store = _again(self._given, self._options)
            self._made_in = os.getpid()
        is_conditional = options.get("mode", "overwrite") != "overwrite"
        try:
            return function(self._store, *arguments, **options)
        except Exception as error:  # noqa: BLE001 - obstore's, of many kinds
            failure: Exception
            if is_conditional and isinstance(error, AlreadyExistsError | PreconditionError):
                failure = type(error)(key)
            elif isinstance(error, FileNotFoundError) and not _is_bucket_missing(str(error)):
                failure = FileNotFoundError(key)
            else:
                failure = _unavailable(error, action, f"{self.url}/{key}")
        # Raised here, the error has no other one behind it, whose text may show what is secret.
        raise failure


class ObjectsSweeper:
    """See `Sweeper`. Writers leave nothing behind in an object store: what there is to do is about documents."""

    def __init__(self, backend: ObjectsBackend) -> None:
        self._backend = backend

    def leftovers(self, stage: str, older_than: float) -> Iterator[Leftover]:  # noqa: ARG002 - there are none
        """See `Sweeper.leftovers`."""
        return iter(())

    def in_the_way(self, stage: str) -> list[str]:  # noqa: ARG002 - nothing can be
        """See `Sweeper.in_the_way`."""
        return []

    def strays(
        self,
        stage: str,
        doc_id: str,
        expected: bytes | None,
        listed: Collection[str],
        older_than: float,  # noqa: ARG002 - nobody is at an object
    ) -> list[Leftover]:
        """See `Sweeper.strays`: texts that the record does not list."""
        there = self._backend.listing(stage, doc_id)
        if there is None or there[0] != expected:
            return []
        path, problem = _key(stage, doc_id), "a text {!r} that its record does not list"
        names = [name for name in sorted(there[1]) if name not in listed]
        return [Leftover("unlisted-file", stage, doc_id, path, problem.format(name), None) for name in names]

    def is_stale(self, stage: str, doc_id: str, older_than: float) -> bool:
        """See `Sweeper.is_stale`; the time is the service's."""
        key = _key(stage, doc_id)
        try:
            meta = self._backend._ask("read", key, obstore.head, key)  # noqa: SLF001 - two halves of one home
        except FileNotFoundError:
            return True
        return _age(meta) >= older_than

    def clear(self, leftover: Leftover, run: str, older_than: float) -> str | None:
        """See `Sweeper.clear`. An object store has no move: it is put aside, and then deleted."""
        backend, stage, doc_id = self._backend, leftover.stage, leftover.doc_id
        key = _key(stage, doc_id)
        found = backend._get(key)  # noqa: SLF001 - as above
        if found is None or (leftover.expected is not None and _record_of(found.data) != leftover.expected):
            return None
        # Another repair that is between its tombstone and its deletion is given time.
        if not self.is_stale(stage, doc_id, max(older_than, _TOMBSTONE_AGE if _TOMBSTONE in found.data else 0)):
            return None
        to = "/".join((*QUARANTINE, run, key))
        backend._put(to, found.data, "overwrite")  # noqa: SLF001 - as above
        # A deletion has no condition. A tombstone has: it takes the place of this object and no other, and keeps the
        # id from being given away until it is deleted.
        try:
            backend._put(key, b'{"%b": "%b"}\n' % (_TOMBSTONE, nonce().encode()), found.version)  # noqa: SLF001 - as above
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            backend._delete(to)  # noqa: SLF001 - as above
            return None
        backend._delete(key)  # noqa: SLF001 - as above
        return to

    def discarded(self, older_than: float, *, history: Collection[str]) -> Iterator[tuple[str, int]]:
        """See `Sweeper.discarded`; the time is the service's."""
        places = ["/".join(QUARANTINE), *("/".join((*HISTORY, stage)) for stage in history)]
        for place in places:
            listed = self._backend._all_below(place + "/")  # noqa: SLF001 - as above
            yield from ((path, meta["size"]) for path, meta in listed if _age(meta) >= older_than)

    def discard(self, path: str) -> None:
        """See `Sweeper.discard`."""
        self._backend._delete(path)  # noqa: SLF001 - as above

    def tidy(self, stage: str, older_than: float) -> int:  # noqa: ARG002 - there are no locks
        """See `Sweeper.tidy`."""
        return 0


def packed(record: bytes, parts: Mapping[str, bytes]) -> bytes:
    """Return the object of a document: its record with the texts of its parts.

    Raises:
        InvalidDocument: a part, or the record, is not UTF-8.
    """
    try:
        texts = {name: data.decode() for name, data in parts.items()}
        fields = _fields(record)
        if orjson.dumps(fields, option=_FORMAT) != record:
            texts[_RECORD] = record.decode()
    except UnicodeDecodeError as error:
        problem = f"a part or the record is not UTF-8 ({error}), and an object store keeps text"
        raise InvalidDocument("document", problem) from None
    return orjson.dumps({**fields, TEXTS: texts}, option=_FORMAT)


def _fields(record: bytes) -> dict[str, Any]:
    """Return the keys of a record that can stand in an object: of one that is no JSON object there are none."""
    try:
        fields = orjson.loads(record)
    except orjson.JSONDecodeError:
        return {}
    return {key: value for key, value in fields.items() if key != TEXTS} if isinstance(fields, dict) else {}


def unpacked(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Return the record and the parts of an object.

    Raises:
        ValueError: it is no document.
    """
    try:
        fields = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error})") from None
    texts = fields.pop(TEXTS, None) if isinstance(fields, dict) else None
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError(f"no {TEXTS!r} in it, by part; expected the JSON object of a document")
    own = texts.pop(_RECORD, None)
    record = orjson.dumps(fields, option=_FORMAT) if own is None else own.encode()
    return record, {name: text.encode() for name, text in texts.items()}


def _record_of(data: bytes) -> bytes | None:
    try:
        return unpacked(data)[0]
    except ValueError:
        return None


def _digest(data: bytes) -> str:
    """Return what is in the name of a version in history: the first 12 hex digits of the SHA-256 of the object."""
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


def _digest_of(name: str) -> str:
    return name.partition("-")[2][:_DIGITS]


def _is_later(there: bytes | None, record: bytes, parts: Mapping[str, bytes]) -> bool:
    """Return whether an object could have taken the place of a document: the same lineage, and other texts."""
    if there is None:
        return False
    try:
        other, texts = unpacked(there)
    except ValueError:
        return False
    mine, theirs = _fields(record), _fields(other)
    return texts != parts and all(mine.get(key) == theirs.get(key) for key in ("task_id", "parent_doc_id"))


def _key(stage: str, doc_id: str) -> str:
    return f"{stage}/{doc_id}{_SUFFIX}"


def _history(stage: str, doc_id: str) -> str:
    return "/".join((*HISTORY, stage, doc_id)) + "/"


def _age(meta: Mapping[str, Any]) -> float:
    return time.time() - cast("float", meta["last_modified"].timestamp())


def _opened(url: str, options: Mapping[str, Any]) -> Any:
    """Return obstore's store of a URL."""
    if not _URL.fullmatch(url):
        raise ValueError(
            f"root: {url.partition('://')[0]}://… is no URL of an object store; expected "
            "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, memory:// or file:///directory, without "
            "credentials in it"
        )
    if url.startswith("memory://"):
        if options or url.rstrip("/") != "memory:":
            raise ValueError(f"root: expected 'memory://' and no options, got {url!r}")
        return MemoryStore()
    given = dict(options)
    retries = {**_RETRIES, **(given.pop("retry_config", None) or {})}
    try:
        # Client options of ours would take the place of those in the environment (AWS_ALLOW_HTTP), so there are none.
        return from_url(url, retry_config=cast("Any", retries), **given)
    except Exception as error:  # noqa: BLE001 - obstore's, of many kinds; its text may show options
        wrong = type(error).__name__
        names = ", ".join(sorted(options)) or "none"
        raise ValueError(f"root: obstore cannot open {url} ({wrong}); options given: {names}") from None


def _again(given: Any, options: Mapping[str, Any]) -> Any:
    """Return the same store of obstore's once more."""
    return _opened(given, options) if isinstance(given, str) else pickle.loads(pickle.dumps(given))  # noqa: S301 - its own


def _shown(store: Any) -> str:
    """Return a name for one of obstore's stores, without its configuration."""
    kind = type(store).__name__.removesuffix("Store").lower()
    scheme = {"google": "gs", "gcs": "gs", "azure": "az"}.get(kind, kind)
    config = getattr(store, "config", {}) or {}
    bucket = config.get("bucket") or config.get("container_name") or ""
    return f"{scheme}://{'/'.join(filter(None, (bucket, str(getattr(store, 'prefix', None) or ''))))}"


def _unpickled(store: Any, options: Mapping[str, Any], in_flight: int) -> ObjectsBackend:
    return ObjectsBackend(store, options=options, in_flight=in_flight)


def _check_process(url: str) -> None:
    """Refuse to work in a forked child of a process that has: obstore's threads are not there, and it would wait."""
    global _used_by  # noqa: PLW0603 - of the process, as obstore's threads are
    here = os.getpid()
    if _used_by is None:
        _used_by = here
    elif _used_by != here:
        problem = "this process was forked from one that has used an object store, which does not work in it"
        raise StoreUnavailable("use", url, problem, "start workers with 'spawn' or 'forkserver'", refused=True)


_NO_CREDENTIALS = re.compile(r"169\.254\.16|169\.254\.17|metadata\.google\.internal|CredentialsError")
_BUCKET = re.compile(r"<Code>(NoSuchBucket|ContainerNotFound|ContainerBeingDeleted)</Code>|bucket does not exist")


def _is_bucket_missing(text: str) -> bool:
    return _BUCKET.search(text) is not None


def _unavailable(error: Exception, action: str, location: str) -> StoreUnavailable:
    """Return what a failure means. Of what the service says only its status and code are shown."""
    text = str(error)
    code, status = re.search(r"<Code>(\w{1,60})</Code>", text), re.search(r"status code: ([45]\d\d)", text)
    said = " ".join(found[1] for found in (status, code) if found)
    told = f" ({said})" if said else ""
    number = int(status[1]) if status else 0
    if _is_bucket_missing(text):
        problem, remedy = f"the bucket or container is not there{told}", "create it, or correct the URL"
    elif number == 0 and _NO_CREDENTIALS.search(text):
        problem, remedy = "no credentials were found", "set them in the environment, or give them as options"
    elif number in {401, 403} or type(error).__name__ in {"PermissionDeniedError", "UnauthenticatedError"}:
        problem = f"the service refused the credentials{told}"
        remedy = "see to the credentials, the region, and the rights on the bucket"
    elif number in {429, 500, 502, 503, 504}:
        problem = f"the service is busy or failing{told}, after several tries"
        remedy = "try again later, or with fewer requests at once (in_flight); what was written is there"
    elif number == 0:
        problem = f"no whole answer came ({type(error).__name__}), after several tries"
        remedy = "look at the network and the endpoint, and try again; what was written is there"
    else:
        problem, remedy = f"the service refused it{told}", "see what the service says to that code"
    return StoreUnavailable(action, location, problem, remedy, refused=400 <= number < 500)  # noqa: PLR2004 - HTTP's

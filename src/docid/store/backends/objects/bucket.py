"""Requests to an object store, over obstore: retries, and errors in docid's words.

This module does not know what a document is. It needs the extra `objects`.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import threading
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

try:
    import obstore
    from obstore.exceptions import AlreadyExistsError, InvalidPathError, PreconditionError
    from obstore.store import MemoryStore, from_url
except ImportError as error:  # pragma: no cover  - tested in an environment without it
    raise ImportError("a store at a URL needs obstore: pip install 'docid-store[objects]'") from error

from docid._text import quote
from docid.errors import StoreUnavailable
from docid.store.backends.base import join_location
from docid.store.backends.objects.failures import (
    UNSUPPORTED,
    explain_failure,
    is_late_upload,
    is_missing_bucket,
)
from docid.store.backends.objects.proof import Budget, Proof
from docid.store.threads import call_interruptibly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

R = TypeVar("R")

VERSION_GONE = (PreconditionError, AlreadyExistsError, FileNotFoundError)
"""The errors of `Bucket.put` if its condition does not hold."""

RETRIES = {"max_retries": 8, "retry_timeout": timedelta(seconds=90)}
"""obstore's `retry_config`: it retries a request for up to 90 s if the server is busy or the connection breaks."""

_LISTINGS = 3  # how often docid continues a listing whose response was cut off, which obstore does not retry
_PAGE = 1000  # names per response, the maximum of the services

_URL = re.compile(r"(s3|s3a|gs|az|abfss?|memory)://[^?#@]*")
_ODD_KEY = re.compile(r'Path "(.*)"(?: contained empty|: Encountered illegal)', re.DOTALL)
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_NAMED = 3  # how many odd keys an error names
_AT_ONCE = 8_000_000  # bytes that several threads send at once: a slow line sends them before a request times out
_UPLOADS = 3  # how often docid sends the data of a put that the service did not get in time

_PROBE = ".docid/probe.txt"
_PROBE_TEXT = b"docid checks with this object that conditional writes are honoured.\n"
_STALE = {"e_tag": '"00000000000000000000000000000000"', "version": "1"}  # of no object

_proofs: dict[tuple[str, str], Proof] = {}  # by URL and endpoint
_used_by: int | None = None  # the id of the process that sent the first request
_THREADS = Path("/proc/self/task")  # Linux
_START = 3.0  # seconds until a thread that obstore starts has its name


class Object(NamedTuple):
    """The bytes of an object, and the e-tag or version that identifies them."""

    data: bytes
    version: dict[str, str]


class OddKeyError(Exception):
    """A listing contains a key that obstore cannot parse: it has an empty segment, `.`, `..` or a control character."""


class Bucket:
    """A bucket, or a prefix in one; keys are relative to it. It takes the arguments of `ObjectsBackend`.

    Every method may raise `StoreUnavailable`, which shows no credentials.
    """

    def __init__(self, given: Any, options: Mapping[str, Any]) -> None:
        self.given = given
        self.options = options
        if isinstance(given, str):
            self.url = "memory://" if given.startswith("memory:") else given.rstrip("/")
            self.store = _open(given, options)
        else:
            self.url = _name_store(given)
            self.store = given
        prefix = getattr(self.store, "prefix", None)
        self._base = f"{prefix}/" if prefix else ""  # of every key in the errors of obstore
        self.is_in_memory = isinstance(self.store, MemoryStore)
        self._made_in = os.getpid()
        self._endpoint = _find_endpoint(self.store)
        self._proof = _proofs.setdefault((self.url, self._endpoint), Proof())
        self._budget = Budget(_AT_ONCE)

    def locate(self, key: str) -> str:
        """Return the URL of an object."""
        return join_location(self.url, key)

    def get(self, key: str) -> Object | None:
        """Return an object; None if it does not exist."""
        try:
            return self._ask("read", key, _fetch, key)
        except FileNotFoundError:
            return None

    def head(self, key: str) -> Mapping[str, Any]:
        """Return the metadata of an object; FileNotFoundError may also mean that the bucket does not exist."""
        return cast("Mapping[str, Any]", self._ask("read", key, obstore.head, key))

    def put(self, key: str, data: bytes, mode: Any) -> None:
        """Store an object. The first put of a process also checks that the service honours conditions.

        Args:
            key, data: the object.
            mode: `create` requires that the key is free; the `version` of an object requires that it is still the
                stored one; `overwrite` requires nothing.

        Raises:
            VERSION_GONE: one of these, if the condition does not hold.
        """
        self.prove()
        if threading.current_thread() is threading.main_thread():  # a signal handler may put, too, during a put
            self._put(key, data, mode)
        else:
            with self._budget.take(len(data)):
                self._put(key, data, mode)

    def swap(self, key: str, data: bytes, mode: Any, old: bytes | None = None) -> tuple[bool, bytes | None]:
        """Put a version if `mode` allows it; return whether it is stored now, and the stored object.

        `old` is the object that the put may replace. It shows whether a put whose response was lost has succeeded.
        """
        try:
            self.put(key, data, mode)
        except VERSION_GONE:
            stored = self.read(key)
        except StoreUnavailable as error:
            # The put may have succeeded although its response was lost, or may succeed later.
            stored = None
            with contextlib.suppress(StoreUnavailable):
                stored = None if error.refused else self.read(key)
            if stored in {None, old}:
                raise
        else:
            stored = data
        return stored == data, stored

    def read(self, key: str) -> bytes | None:
        """Return the bytes of an object; None if it does not exist."""
        found = self.get(key)
        return None if found is None else found.data

    def prove(self) -> None:
        """Check once per process that the service takes writes and honours their conditions; raise an error if not."""
        if not self.is_in_memory:
            self._proof.require(self._find_danger)

    def delete(self, key: str) -> None:
        """Delete an object."""
        self._ask("delete", key, obstore.delete, key)

    def directories(self, prefix: str) -> set[str]:
        """Return the names of the directories directly below a prefix; raise `OddKeyError` for an odd one."""
        found = self._ask("list", prefix, obstore.list_with_delimiter, prefix)
        return {name.rstrip("/").rpartition("/")[2] for name in found["common_prefixes"]}

    def names_below(self, prefix: str, *, skip_odd: bool = False) -> Iterator[str]:
        """Return the names of the objects directly below a prefix. See `entries_below`."""
        names = (path.removeprefix(prefix) for path, _ in self.entries_below(prefix, skip_odd=skip_odd))
        return (name for name in names if "/" not in name)

    def entries_below(self, prefix: str, *, skip_odd: bool = False) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the key and the metadata of every object below a prefix.

        Other programs may have put odd keys there, which obstore cannot parse. None of them is docid's. This yields the
        other keys, and then raises `StoreUnavailable`, which names the odd keys. With `skip_odd` it raises only if
        objects directly below the prefix may be missing.
        """
        odd: list[str] = []
        is_whole = True
        last: str | None = None
        failed = 0
        while True:
            pages = self._ask("list", prefix, obstore.list, prefix, offset=last, chunk_size=_PAGE)
            try:
                while (page := self._ask("list", prefix, lambda _: next(pages, None))) is not None:  # noqa: B023 - called at once
                    for meta in page:
                        last = meta["path"]
                        yield last, meta
            except OddKeyError as error:
                # obstore refused all names of the response. Continue after the odd key.
                key = str(error)
                is_stuck = odd[-1:] == [key]  # this service cannot list from a given key (Azure)
                after = "\U0010ffff" if is_stuck else _find_key_after(key.removeprefix(self._base))
                missed = self._list_between(prefix, last, after)
                is_whole = is_whole and missed is not None
                yield from missed or ()
                if is_stuck:
                    break
                odd.append(key)
                last = after
            except StoreUnavailable as error:
                # obstore does not retry a response that was cut off. Continue after the last name.
                failed += 1
                if error.refused or failed > _LISTINGS:
                    raise
            else:
                break
        if odd and not (skip_odd and is_whole):
            raise self.name_odd_keys(prefix, odd, is_whole=is_whole)

    def _list_between(self, prefix: str, first: str | None, end: str) -> list[tuple[str, Mapping[str, Any]]] | None:
        """Return the objects directly below a prefix between two keys; None if obstore cannot list them."""
        if end.removeprefix(prefix) < "1":  # docid's names start with a letter or a digit
            return []
        try:
            found = self._ask("list", prefix, obstore.list_with_delimiter, prefix)["objects"]
        except OddKeyError:
            return None
        return [(meta["path"], meta) for meta in found if (first or "") < meta["path"] < end]

    def name_odd_keys(self, prefix: str, odd: list[str], *, is_whole: bool) -> StoreUnavailable:
        """Return the error that names the odd keys of a listing."""
        names = ", ".join(quote(key) for key in odd[:_NAMED])
        more = f" and {len(odd) - _NAMED:,} more" if len(odd) > _NAMED else ""
        rest = "docid listed all others" if is_whole else "until then, docid cannot list all others"
        problem = f"other programs put keys there that obstore cannot read: {names}{more}"
        return StoreUnavailable("list", self.locate(prefix), problem, f"rename or delete them; {rest}", refused=True)

    def _put(self, key: str, data: bytes, mode: Any) -> None:
        self._ask("write", key, obstore.put, key, data, mode=mode, use_multipart=False)

    def _find_danger(self) -> StoreUnavailable | None:
        """Return the error for a service that ignores conditional writes; None if it honours them. 2 or 3 puts."""

        def is_refused(mode: Any) -> bool:
            try:
                self._put(_PROBE, _PROBE_TEXT, mode)
            except VERSION_GONE:
                return True
            return False

        try:
            # The first process creates the object; every later one is refused at once.
            if (is_refused("create") or is_refused("create")) and is_refused(_STALE):
                return None
        except StoreUnavailable as error:
            if not error.problem.startswith(UNSUPPORTED):
                raise
            return error
        service = f"the service at {self._endpoint}" if self._endpoint else "the service"
        problem = f"{service} ignores conditional writes, so one writer would overwrite the documents of another"
        remedy = "upgrade it, or keep the store at another service (S3, Google Cloud Storage, Azure) or in a directory"
        return StoreUnavailable("use", self.url, problem, remedy, refused=True)

    def _ask(self, action: str, key: str, function: Callable[..., R], *arguments: Any, **options: Any) -> R:
        """Send a request; if it fails, raise an error in docid's words, without the service's text."""
        check_process(self.url)
        if self._made_in != os.getpid() and not self.is_in_memory:
            # The store was made, but not used, before this process was forked: its connections are the parent's.
            given = self.given
            is_url = isinstance(given, str)
            self.store = _open(given, self.options) if is_url else pickle.loads(pickle.dumps(given))  # noqa: S301 - its own
            self._made_in = os.getpid()
        is_conditional = options.get("mode", "overwrite") != "overwrite"
        tries = 1
        while (answer := call_interruptibly(partial(_send, function, self.store, arguments, options)))[1] is not None:
            if action != "write" or tries == _UPLOADS or not is_late_upload(answer[1]):
                break
            time.sleep(tries / 10)
            tries += 1
        result, error = answer
        if error is None:
            return cast("R", result)
        failure: Exception
        if is_conditional and isinstance(error, AlreadyExistsError | PreconditionError):
            failure = type(error)(key)
        elif isinstance(error, FileNotFoundError) and not is_missing_bucket(error):
            failure = FileNotFoundError(key)
        elif isinstance(error, InvalidPathError) and (odd := _ODD_KEY.search(str(error))):
            failure = OddKeyError(odd[1])
        else:
            failure = explain_failure(error, action, self.locate(key), tries)
        # The text of obstore's error may show secrets: keep it out of the traceback, too.
        del answer, result, error
        raise failure


def _fetch(store: Any, key: str) -> Object:
    found = obstore.get(store, key)
    data, meta = bytes(found.bytes()), found.meta
    version = {name: str(value) for name in ("e_tag", "version") if (value := meta.get(name)) is not None}
    return Object(data, version)


def _send(
    function: Callable[..., R], store: Any, arguments: tuple[Any, ...], options: Mapping[str, Any]
) -> tuple[R | None, Exception | None]:
    """Send a request; return its result, or its error. So a caller cannot take an error of a signal handler for it."""
    try:
        return function(store, *arguments, **options), None
    except Exception as error:  # noqa: BLE001 - obstore raises many kinds
        return None, error


def _find_key_after(key: str) -> str:
    """Return a key that obstore can parse and that sorts after every key with the same odd segment."""
    segments = key.split("/")
    for at, segment in enumerate(segments):
        if segment in {"", ".", ".."}:
            return "/".join([*segments[:at], f"{segment}0"])  # "0" sorts after "/"
        if control := _CONTROL.search(segment):
            after = "\x80" if control[0] == "\x7f" else " "
            return "/".join([*segments[:at], segment[: control.start()] + after])
    return key


def _open(url: str, options: Mapping[str, Any]) -> Any:
    """Return obstore's store for a URL."""
    if not _URL.fullmatch(url):
        raise ValueError(
            f"root: {url.partition('://')[0]}://… is not a supported URL; expected "
            "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, memory:// or file:///directory, without "
            "credentials"
        )
    if url.startswith("memory://"):
        if options or url.rstrip("/") != "memory:":
            raise ValueError(f"root: expected 'memory://' and no options, got {url!r}")
        return MemoryStore()
    given = dict(options)
    retries = {**RETRIES, **(given.pop("retry_config", None) or {})}
    try:
        # Pass no client options of docid's own: they would override those in the environment (AWS_ALLOW_HTTP).
        return from_url(url, retry_config=cast("Any", retries), **given)
    except Exception as error:  # noqa: BLE001 - obstore raises many kinds; the text may show options
        names = ", ".join(sorted(options)) or "none"
        raise ValueError(
            f"root: obstore cannot open {url} ({type(error).__name__}); check the URL and these options: {names}"
        ) from None


def _name_store(store: Any) -> str:
    """Return the URL of one of obstore's stores, without its other options."""
    kind = type(store).__name__.removesuffix("Store").lower()
    scheme = {"google": "gs", "gcs": "gs", "azure": "az"}.get(kind, kind)
    config = getattr(store, "config", {}) or {}
    bucket = config.get("bucket") or config.get("container_name") or ""
    return f"{scheme}://{'/'.join(filter(None, (bucket, str(getattr(store, 'prefix', None) or ''))))}"


def _find_endpoint(store: Any) -> str:
    """Return the host and port that a store asks; empty if it is that of the cloud."""
    config = getattr(store, "config", None) or {}
    names = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
    endpoint = str(config.get("endpoint") or next(filter(None, map(os.environ.get, names)), ""))
    return urlsplit(endpoint).netloc.rpartition("@")[2]


def check_process(url: str) -> None:
    """Raise `StoreUnavailable` in a child forked from a process that used obstore, where requests would hang."""
    global _used_by  # noqa: PLW0603 - obstore's threads belong to the process, too
    here = os.getpid()
    if _used_by is None:
        _used_by = here if _has_threads() else 0
    if _used_by != here:
        problem = "this process was forked from one that used an object store, and requests would hang"
        raise StoreUnavailable("use", url, problem, "start workers with 'spawn' or 'forkserver'", refused=True)


def _has_threads() -> bool:
    """Return whether obstore's threads run in this process; True if the platform does not tell.

    obstore starts them at its first call and never again: a child that was forked later has none.
    """
    if not _THREADS.is_dir():
        return True
    with contextlib.suppress(FileNotFoundError):
        obstore.head(MemoryStore(), "any")  # its first call, or one that needs no threads
    end = time.monotonic() + _START
    while not any(map(_is_of_obstore, _THREADS.iterdir())):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)  # a new thread sets its name itself
    return True


def _is_of_obstore(thread: Path) -> bool:
    try:
        return (thread / "comm").read_text().startswith("tokio")
    except OSError:  # it has just ended
        return False

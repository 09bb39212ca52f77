"""Requests to an object store, over obstore: retries, and errors in docid's words.

This module does not know what a document is. It needs the extra `objects`.
"""

from __future__ import annotations

import os
import pickle
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

try:
    import obstore
    from obstore.exceptions import AlreadyExistsError, PreconditionError
    from obstore.store import MemoryStore, from_url
except ImportError as error:  # pragma: no cover  - tested in an environment without it
    raise ImportError("a store at a URL needs obstore: pip install 'docid-store[objects]'") from error

from docid.errors import StoreUnavailable
from docid.store.backends.base import join_location

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
_NO_CREDENTIALS = re.compile(r"169\.254\.16|169\.254\.17|metadata\.google\.internal|CredentialsError")
_NO_BUCKET = re.compile(r"<Code>(NoSuchBucket|ContainerNotFound|ContainerBeingDeleted)</Code>|bucket does not exist")

_used_by: int | None = None  # the id of the process that sent the first request


class Object(NamedTuple):
    """The bytes of an object, and the e-tag or version that identifies them."""

    data: bytes
    version: dict[str, str]


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
        self.is_in_memory = isinstance(self.store, MemoryStore)
        self._made_in = os.getpid()

    def locate(self, key: str) -> str:
        """Return the URL of an object."""
        return join_location(self.url, key)

    def get(self, key: str) -> Object | None:
        """Return an object; None if it does not exist."""
        try:
            found = self._ask("read", key, obstore.get, key)
            data = self._ask("read", key, lambda _: bytes(found.bytes()))
        except FileNotFoundError:
            return None
        meta = found.meta
        version = {name: str(value) for name in ("e_tag", "version") if (value := meta.get(name)) is not None}
        return Object(data, version)

    def head(self, key: str) -> Mapping[str, Any]:
        """Return the metadata of an object; FileNotFoundError may also mean that the bucket does not exist."""
        return cast("Mapping[str, Any]", self._ask("read", key, obstore.head, key))

    def put(self, key: str, data: bytes, mode: Any) -> None:
        """Store an object.

        Args:
            key, data: the object.
            mode: `create` requires that the key is free; the `version` of an object requires that it is still the
                stored one; `overwrite` requires nothing.

        Raises:
            VERSION_GONE: one of these, if the condition does not hold.
        """
        self._ask("write", key, obstore.put, key, data, mode=mode, use_multipart=False)

    def delete(self, key: str) -> None:
        """Delete an object."""
        self._ask("delete", key, obstore.delete, key)

    def directories(self, prefix: str) -> set[str]:
        """Return the names of the directories directly below a prefix."""
        found = self._ask("list", prefix, obstore.list_with_delimiter, prefix)
        return {name.rstrip("/").rpartition("/")[2] for name in found["common_prefixes"]}

    def names_below(self, prefix: str) -> Iterator[str]:
        """Return the names of the objects directly below a prefix."""
        names = (path.removeprefix(prefix) for path, _ in self.entries_below(prefix))
        return (name for name in names if "/" not in name)

    def entries_below(self, prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the key and the metadata of every object below a prefix."""
        last: str | None = None
        failed = 0
        while True:
            pages = self._ask("list", prefix, obstore.list, prefix, offset=last, chunk_size=_PAGE)
            try:
                while (page := self._ask("list", prefix, lambda _: next(pages, None))) is not None:  # noqa: B023 - called at once
                    for meta in page:
                        last = meta["path"]
                        yield last, meta
            except StoreUnavailable as error:
                # obstore does not retry a response that was cut off. Continue after the last name.
                failed += 1
                if error.refused or failed > _LISTINGS:
                    raise
            else:
                return

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
        try:
            return function(self.store, *arguments, **options)
        except Exception as error:  # noqa: BLE001 - obstore raises many kinds
            failure: Exception
            if is_conditional and isinstance(error, AlreadyExistsError | PreconditionError):
                failure = type(error)(key)
            elif isinstance(error, FileNotFoundError) and not _NO_BUCKET.search(str(error)):
                failure = FileNotFoundError(key)
            else:
                failure = _explain_failure(error, action, self.locate(key))
        # Raise outside the `except`: obstore's error would be its context, and its text may show secrets.
        raise failure


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


def check_process(url: str) -> None:
    """Raise `StoreUnavailable` in a child forked from a process that used obstore, where requests would hang."""
    global _used_by  # noqa: PLW0603 - obstore's threads belong to the process, too
    here = os.getpid()
    if _used_by is None:
        _used_by = here
    elif _used_by != here:
        problem = "this process was forked from one that used an object store, and requests would hang"
        raise StoreUnavailable("use", url, problem, "start workers with 'spawn' or 'forkserver'", refused=True)


def _explain_failure(error: Exception, action: str, location: str) -> StoreUnavailable:
    """Return the error for a request that failed after obstore's retries, with the service's codes but not its text."""
    text = str(error)
    code, status = re.search(r"<Code>(\w{1,60})</Code>", text), re.search(r"status code: ([45]\d\d)", text)
    codes = " ".join(found[1] for found in (status, code) if found)
    codes = f" ({codes})" if codes else ""
    number = int(status[1]) if status else 0
    if _NO_BUCKET.search(text):
        problem, remedy = f"the bucket or container does not exist{codes}", "create it, or correct the URL"
    elif number == 0 and _NO_CREDENTIALS.search(text):
        problem, remedy = "no credentials were found", "set them in the environment, or pass them as options"
    elif number in {401, 403} or type(error).__name__ in {"PermissionDeniedError", "UnauthenticatedError"}:
        problem = f"the service refused the credentials{codes}"
        remedy = "check the credentials, the region, and the permissions on the bucket"
    elif number in {408, 429, 500, 502, 503, 504}:
        problem = f"the service is busy or failing{codes}, after several retries"
        remedy = "try again later, or send fewer requests at once (in_flight); finished writes are stored"
    elif number == 0:
        problem = f"no complete response ({type(error).__name__}), after several retries"
        remedy = "check the network and the endpoint, and try again; finished writes are stored"
    else:
        problem, remedy = f"the service refused the request{codes}", "see the service's documentation of this code"
    # 408 (timeout) and 429 (too many requests) are no refusals: the same request may succeed later.
    refused = 400 <= number < 500 and number not in {408, 429}  # noqa: PLR2004 - HTTP's
    return StoreUnavailable(action, location, problem, remedy, refused=refused)

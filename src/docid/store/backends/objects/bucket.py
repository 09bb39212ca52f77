"""Requests to an object store, over obstore: what is tried again, for how long, and what a failure means.

Nothing here knows of documents. Needs the extra `objects`.
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
"""What `Bucket.put` raises where its condition does not hold."""

RETRIES = {"max_retries": 8, "retry_timeout": timedelta(seconds=90)}
"""obstore's `retry_config`: it tries a request again where the server is busy or the line is cut, for 90 s in all."""

_LISTINGS = 3  # so often docid goes on with a listing whose answer was cut off: obstore does not try that again
_PAGE = 1000  # names in an answer: as many as the services give

_URL = re.compile(r"(s3|s3a|gs|az|abfss?|memory)://[^?#@]*")
_NO_CREDENTIALS = re.compile(r"169\.254\.16|169\.254\.17|metadata\.google\.internal|CredentialsError")
_NO_BUCKET = re.compile(r"<Code>(NoSuchBucket|ContainerNotFound|ContainerBeingDeleted)</Code>|bucket does not exist")

_used_by: int | None = None  # the process that has sent requests


class Object(NamedTuple):
    """An object as it was got: its bytes, and what tells this version of it from others."""

    data: bytes
    version: dict[str, str]


class Bucket:
    """A place in an object store: objects by key, relative to it. Its arguments are those of `ObjectsBackend`.

    Every method may raise `StoreUnavailable`, which shows nothing of what the service says of credentials.
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
        """Return where an object is, for people."""
        return join_location(self.url, key)

    def get(self, key: str) -> Object | None:
        """Return an object; None where there is none."""
        try:
            found = self._ask("read", key, obstore.get, key)
            data = self._ask("read", key, lambda _: bytes(found.bytes()))
        except FileNotFoundError:
            return None
        meta = found.meta
        version = {name: str(told) for name in ("e_tag", "version") if (told := meta.get(name)) is not None}
        return Object(data, version)

    def head(self, key: str) -> Mapping[str, Any]:
        """Return what the service says of an object; FileNotFoundError does not say whether there is a bucket."""
        return cast("Mapping[str, Any]", self._ask("read", key, obstore.head, key))

    def put(self, key: str, data: bytes, mode: Any) -> None:
        """Store an object.

        With the mode `create` only where none is there; with `overwrite` in any case; with the
        `version` of an object only in place of that. Or else it raises one of
        `VERSION_GONE`.
        """
        self._ask("write", key, obstore.put, key, data, mode=mode, use_multipart=False)

    def delete(self, key: str) -> None:
        """Delete an object."""
        self._ask("delete", key, obstore.delete, key)

    def directories(self, place: str) -> set[str]:
        """Return the names below a place that have objects below them."""
        found = self._ask("list", place, obstore.list_with_delimiter, place)
        return {name.rstrip("/").rpartition("/")[2] for name in found["common_prefixes"]}

    def names_below(self, prefix: str) -> Iterator[str]:
        """Return the names of the objects below a prefix, without those in directories of their own."""
        names = (path.removeprefix(prefix) for path, _ in self.entries_below(prefix))
        return (name for name in names if "/" not in name)

    def entries_below(self, prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Return all keys below a prefix, and what the service says of each."""
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

    def _ask(self, action: str, key: str, function: Callable[..., R], *arguments: Any, **options: Any) -> R:
        """Do a request; raise what it means if it fails, without what the service says of credentials."""
        check_process(self.url)
        if self._made_in != os.getpid() and not self.is_in_memory:
            # Made before this process was forked, and not used: its connections are of the other process.
            given = self.given
            is_url = isinstance(given, str)
            self.store = _open(given, self.options) if is_url else pickle.loads(pickle.dumps(given))  # noqa: S301 - its own
            self._made_in = os.getpid()
        is_conditional = options.get("mode", "overwrite") != "overwrite"
        try:
            return function(self.store, *arguments, **options)
        except Exception as error:  # noqa: BLE001 - obstore's, of many kinds
            failure: Exception
            if is_conditional and isinstance(error, AlreadyExistsError | PreconditionError):
                failure = type(error)(key)
            elif isinstance(error, FileNotFoundError) and not _NO_BUCKET.search(str(error)):
                failure = FileNotFoundError(key)
            else:
                failure = _explain_failure(error, action, self.locate(key))
        # Raised here, the error has no other one behind it, whose text may show what is secret.
        raise failure


def _open(url: str, options: Mapping[str, Any]) -> Any:
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
    retries = {**RETRIES, **(given.pop("retry_config", None) or {})}
    try:
        # Client options of ours would take the place of those in the environment (AWS_ALLOW_HTTP), so there are none.
        return from_url(url, retry_config=cast("Any", retries), **given)
    except Exception as error:  # noqa: BLE001 - obstore's, of many kinds; its text may show options
        wrong = type(error).__name__
        names = ", ".join(sorted(options)) or "none"
        raise ValueError(f"root: obstore cannot open {url} ({wrong}); options given: {names}") from None


def _name_store(store: Any) -> str:
    """Return a name for one of obstore's stores, without its configuration."""
    kind = type(store).__name__.removesuffix("Store").lower()
    scheme = {"google": "gs", "gcs": "gs", "azure": "az"}.get(kind, kind)
    config = getattr(store, "config", {}) or {}
    bucket = config.get("bucket") or config.get("container_name") or ""
    return f"{scheme}://{'/'.join(filter(None, (bucket, str(getattr(store, 'prefix', None) or ''))))}"


def check_process(url: str) -> None:
    """Refuse to work in a forked child of a process that has: obstore's threads are not there, and it would wait."""
    global _used_by  # noqa: PLW0603 - of the process, as obstore's threads are
    here = os.getpid()
    if _used_by is None:
        _used_by = here
    elif _used_by != here:
        problem = "this process was forked from one that has used an object store, which does not work in it"
        raise StoreUnavailable("use", url, problem, "start workers with 'spawn' or 'forkserver'", refused=True)


def _explain_failure(error: Exception, action: str, location: str) -> StoreUnavailable:
    """Return what a request that failed after obstore's tries means. Of what the service says only codes are shown."""
    text = str(error)
    code, status = re.search(r"<Code>(\w{1,60})</Code>", text), re.search(r"status code: ([45]\d\d)", text)
    said = " ".join(found[1] for found in (status, code) if found)
    told = f" ({said})" if said else ""
    number = int(status[1]) if status else 0
    if _NO_BUCKET.search(text):
        problem, remedy = f"the bucket or container is not there{told}", "create it, or correct the URL"
    elif number == 0 and _NO_CREDENTIALS.search(text):
        problem, remedy = "no credentials were found", "set them in the environment, or give them as options"
    elif number in {401, 403} or type(error).__name__ in {"PermissionDeniedError", "UnauthenticatedError"}:
        problem = f"the service refused the credentials{told}"
        remedy = "see to the credentials, the region, and the rights on the bucket"
    elif number in {408, 429, 500, 502, 503, 504}:
        problem = f"the service is busy or failing{told}, after several tries"
        remedy = "try again later, or with fewer requests at once (in_flight); what was written is there"
    elif number == 0:
        problem = f"no whole answer came ({type(error).__name__}), after several tries"
        remedy = "look at the network and the endpoint, and try again; what was written is there"
    else:
        problem, remedy = f"the service refused it{told}", "see what the service says to that code"
    # Of the client's faults by HTTP these two are the service's: too slow, too many.
    refused = 400 <= number < 500 and number not in {408, 429}  # noqa: PLR2004 - HTTP's
    return StoreUnavailable(action, location, problem, remedy, refused=refused)

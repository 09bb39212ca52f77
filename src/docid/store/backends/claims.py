"""Claims: who is making a document now. A claim is advisory: writes are correct without it."""

from __future__ import annotations

import os
import threading
import weakref
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Holder(NamedTuple):
    """Who holds a claim, for people.

    Attributes:
        host, pid: the machine and the process; the pid is 0 if it is unknown.
        since: when it took the claim, in ISO 8601 UTC; empty if that is unknown.
    """

    host: str
    pid: int
    since: str

    @classmethod
    def here(cls) -> Holder:
        """Return this process, now."""
        host = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
        return cls(host, os.getpid(), datetime.now(UTC).isoformat(timespec="seconds"))

    @classmethod
    def from_json(cls, fields: object) -> Holder:
        """Return the holder that the content of a claim names; an unknown one if it names none."""
        found = fields if isinstance(fields, dict) else {}
        pid = found.get("pid")
        return cls(str(found.get("host", "")), pid if isinstance(pid, int) else 0, str(found.get("since", "")))

    def __str__(self) -> str:
        who = f"process {self.pid}" if self.pid else "a worker"
        return who + (f" on {self.host}" if self.host else "") + (f" since {self.since}" if self.since else "")


class Claim:
    """A claim that this process holds. A forked child inherits the object, but not the claim."""

    __slots__ = ("_pid", "_release")

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release
        self._pid = os.getpid()

    def release(self) -> None:
        """Give the claim back; do nothing the second time, and in a forked child."""
        release, self._release = self._release, None
        if release is not None and self._pid == os.getpid():
            release()


class ForkAware:
    """An object that a forked child resets, because it knows things about its process."""

    def __init__(self) -> None:
        _fork_aware.add(self)

    def reset(self) -> None:
        """Forget the state of the parent process."""


_fork_aware: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def _reset_all() -> None:
    for each in list(_fork_aware):
        each.reset()


if hasattr(os, "register_at_fork"):  # pragma: no branch
    os.register_at_fork(after_in_child=_reset_all)


class ProcessClaims(ForkAware):
    """Claims among the threads of this process; other processes do not see them."""

    def __init__(self) -> None:
        self.reset()
        super().__init__()

    def reset(self) -> None:
        """Forget the claims of the parent process."""
        self._held: dict[tuple[str, str], Holder] = {}
        self._lock = threading.RLock()  # a signal handler may use the store, too

    def __reduce__(self) -> tuple[type[ProcessClaims], tuple[()]]:
        return ProcessClaims, ()

    def take(self, stage: str, doc_id: str) -> Claim | Holder:
        """Take a claim, or return its holder."""
        key = (stage, doc_id)
        with self._lock:
            if key in self._held:
                return self._held[key]
            self._held[key] = Holder.here()
        return Claim(lambda: self._drop(key))

    def list(self, stage: str) -> Iterator[tuple[str, Holder]]:
        """Yield the doc ids that are claimed, each with its holder."""
        with self._lock:
            found = list(self._held.items())
        return ((doc_id, holder) for (claimed, doc_id), holder in found if claimed == stage)

    def _drop(self, key: tuple[str, str]) -> None:
        with self._lock:
            self._held.pop(key, None)

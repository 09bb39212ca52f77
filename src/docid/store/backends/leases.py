"""Claims as leases: for buckets, and for file systems whose locks cannot be trusted.

Each process that makes documents has one worker file, which it renews. A claim names its worker. It is taken over once
the worker has not renewed its file for its time to live, by the clock of the process that waits; and at once if the
worker ran on this machine and is gone.

    .docid/workers/<nonce>.json           {"format": "docid/worker/1", "ttl": 300, "renewed": 7, "host": …, "pid": …, …}
    .docid/claims/<stage>/<doc_id>.json   {"format": "docid/claim/1", "worker": <nonce>, "token": …, "host": …, …}

This follows C. Gray and D. Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file cache
consistency", SOSP 1989, with one lease for all claims of a process.
"""

# ruff: noqa: D102 - the docstrings of `LeaseFiles` are those of `Backend`
from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import orjson

from docid.core.ids import is_doc_id
from docid.core.record import nonce
from docid.store.backends.base import attempt
from docid.store.backends.claims import Claim, ForkAware, Holder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docid.store.backends.base import InternalFile

TTL = 300.0
"""Seconds without a sign of life after which a worker counts as dead."""

_RENEWALS = 5  # of a worker file in its time to live
_RETRIES = 20  # the same, after one that failed
_SAFE = 0.4  # of the time to live: a worker that has not renewed for this long does not delete its claims any more
_TRIES = 5
_WORKERS, _CLAIMS, _SUFFIX = "workers", "claims", ".json"


class LeaseFiles(Protocol):
    """The methods of a `Backend` that leases need, with the same meaning."""

    def read_file(self, name: str) -> InternalFile | None: ...
    def swap_file(self, name: str, expected: InternalFile | None, data: bytes) -> bool: ...
    def write_file(self, name: str, data: bytes) -> None: ...
    def list_files(self, directory: str) -> Iterator[tuple[str, float]]: ...
    def remove_file(self, name: str) -> None: ...


class _Worker:
    """The worker file of this process, and the claims that name it."""

    def __init__(self, ttl: float) -> None:
        self.nonce = nonce()
        self.ttl = ttl
        self.count = 0
        self.renewed_at = -1e9  # by `_read_clock`
        self.held: set[str] = set()
        self.is_renewing = False
        self.has_lapsed = False  # whether another process may have taken claims over

    @property
    def file(self) -> str:
        return f"{_WORKERS}/{self.nonce}{_SUFFIX}"

    def is_safe(self) -> bool:
        """Return whether its last renewal is so recent that no other process has taken its claims over."""
        return _read_clock() - self.renewed_at < self.ttl * _SAFE

    def renew(self, files: LeaseFiles) -> None:
        began = _read_clock()
        self.count += 1
        facts = {"format": "docid/worker/1", "ttl": self.ttl, "renewed": self.count, **_describe_process()}
        files.write_file(self.file, orjson.dumps(facts))
        self.renewed_at = began


class _Seen(NamedTuple):
    """A sign of life of a worker, and when this process saw it first, by its monotonic clock."""

    sign: bytes
    at: float


class Leases(ForkAware):
    """The claims of one backend, as leases.

    Args:
        files: where the worker files and claims are.
        ttl: the time to live of this process's worker file, in seconds.
        knows_processes: whether a worker on this machine that is gone loses its claims at once.
    """

    def __init__(self, files: LeaseFiles, *, ttl: float = TTL, knows_processes: bool = True) -> None:
        self._files = files
        self.ttl = ttl
        self.knows_processes = knows_processes
        self.reset()
        _all.add(self)
        super().__init__()

    def reset(self) -> None:
        """Forget the worker and the claims of the parent process."""
        self._worker: _Worker | None = None
        self._seen: dict[str, _Seen] = {}
        self._lock = threading.RLock()  # a signal handler may use the store, too

    @property
    def delay(self) -> float:
        """How long to wait at most between two tries, in seconds."""
        return self.ttl / 10

    def take(self, stage: str, doc_id: str) -> Claim | Holder:
        """Take a claim, or return its holder. Two requests if it is free and the worker file is fresh, else more."""
        name = f"{_CLAIMS}/{stage}/{doc_id}{_SUFFIX}"
        holder = Holder("", 0, "")
        for _ in range(_TRIES):
            worker = self._find_worker()
            claim = {"format": "docid/claim/1", "worker": worker.nonce, "token": nonce(), **Holder.here()._asdict()}
            data = orjson.dumps(claim)
            if name in worker.held:
                found = self._files.read_file(name)
                return Holder.from_json(_parse(found))
            if self._swap(worker, name, None, data):
                return Claim(partial(self._release, worker, name, data))
            found = self._files.read_file(name)
            if found is None:
                continue  # it has just been released
            fields = _parse(found)
            holder = Holder.from_json(fields)
            # One that names this worker, and is not held, could not be deleted when it was released.
            if fields.get("worker") != worker.nonce and self._is_alive(name, found, fields):
                return holder
            if self._swap(worker, name, found, data):
                return Claim(partial(self._release, worker, name, data))
        return holder

    def list(self, stage: str) -> Iterator[tuple[str, Holder]]:
        """Yield the doc ids that are claimed, each with its holder.

        The claim of a dead worker counts until this process has seen no sign of life for its time to live.
        """
        for doc_id, _ in self._list_claims(stage):
            name = f"{_CLAIMS}/{stage}/{doc_id}{_SUFFIX}"
            found = self._files.read_file(name)
            if found is not None and self._is_alive(name, found, _parse(found)):
                yield doc_id, Holder.from_json(_parse(found))

    def clear(self, stage: str, stale_after: float) -> int:
        """Delete the claims of dead workers, and then their files; return how many claims.

        A worker is dead if its process is gone, or if its file is older than its time to live and `stale_after`.
        """
        limit, now = max(stale_after, self.ttl), self._read_time()
        dead: dict[str, bool] = {}
        for file, modified in self._files.list_files(_WORKERS):
            worker = file.removesuffix(_SUFFIX)
            is_old = now - modified >= limit
            dead[worker] = is_old or self._is_gone(_parse(self._read_worker(worker)))
            if is_old:
                self._files.remove_file(f"{_WORKERS}/{file}")
        count = 0
        for doc_id, modified in self._list_claims(stage):
            name = f"{_CLAIMS}/{stage}/{doc_id}{_SUFFIX}"
            found = self._files.read_file(name)
            is_stale = dead.get(str(_parse(found).get("worker")), now - modified >= limit)
            # Swap it first: between a read and a delete, another process may take it over.
            if found is not None and is_stale and self._files.swap_file(name, found, b"{}"):
                self._files.remove_file(name)
                count += 1
        return count

    def _read_time(self) -> float:
        """Return the time by the clock that dates the files, in seconds since 1970 UTC."""
        if next(self._files.list_files(_WORKERS), None) is None:
            return time.time()  # there is nothing to compare
        worker = self._find_worker()
        worker.renew(self._files)
        return max(modified for _, modified in self._files.list_files(_WORKERS))

    def _list_claims(self, stage: str) -> Iterator[tuple[str, float]]:
        for file, modified in self._files.list_files(f"{_CLAIMS}/{stage}"):
            doc_id = file.removesuffix(_SUFFIX)
            if is_doc_id(doc_id):
                yield doc_id, modified

    def _swap(self, worker: _Worker, name: str, expected: InternalFile | None, data: bytes) -> bool:
        """Write a claim, if the file is still the expected one."""
        with self._lock:
            if name in worker.held:
                return False
            worker.held.add(name)
            if not worker.is_renewing:
                self._start_renewing(worker)
        is_done = False
        try:
            is_done = self._files.swap_file(name, expected, data)
        finally:
            if not is_done:
                worker.held.discard(name)
        return is_done

    def _release(self, worker: _Worker, name: str, data: bytes) -> None:
        try:
            # Without a sign of life, another process may hold it by now: it is left to its time to live. If that fails,
            # repair removes it.
            if worker.is_safe():
                attempt(partial(self._remove, worker, name, data))
        finally:
            worker.held.discard(name)

    def _remove(self, worker: _Worker, name: str, data: bytes) -> None:
        if worker.has_lapsed:
            found = self._files.read_file(name)
            if found is None or found.data != data:
                return
        self._files.remove_file(name)

    def _find_worker(self) -> _Worker:
        """Return the worker of this process, with a fresh file."""
        with self._lock:
            worker = self._worker = self._worker or _Worker(self.ttl)
            if _read_clock() - worker.renewed_at >= worker.ttl / _RENEWALS:
                worker.renew(self._files)
            return worker

    def _start_renewing(self, worker: _Worker) -> None:
        """Start the thread that renews a worker file. Needs the lock."""
        with contextlib.suppress(RuntimeError):  # the interpreter is ending: each claim renews the file
            threading.Thread(target=_renew, args=(weakref.ref(self), worker), name="docid", daemon=True).start()
            worker.is_renewing = True

    def renew(self, worker: _Worker) -> float:
        """Renew a worker file in its thread; return the seconds until the next time, or 0 if the thread may end."""
        with self._lock:
            if self._worker is not worker or not worker.held:
                worker.is_renewing = False
                return 0.0
            # Another process takes a claim over by a compare-and-swap, so a late renewal harms none.
            worker.has_lapsed = worker.has_lapsed or not worker.is_safe()
        try:
            worker.renew(self._files)
        except Exception:  # noqa: BLE001 - as long as the process lives, so must its claims
            return worker.ttl / _RETRIES
        return worker.ttl / _RENEWALS

    def _is_alive(self, name: str, found: InternalFile, fields: dict[str, Any]) -> bool:
        """Return whether a claim's worker may be at work."""
        worker = fields.get("worker")
        if not isinstance(worker, str):  # torn, or of a later release: its own bytes are its sign of life
            return self._has_changed(name, found.data, self.ttl)
        file = self._read_worker(worker)
        known = _parse(file)
        if file is not None and self._is_gone(known):
            return False
        ttl = known.get("ttl")
        sign = b"" if file is None else file.data
        return self._has_changed(worker, sign, ttl if isinstance(ttl, (int, float)) else self.ttl)

    def _has_changed(self, key: str, sign: bytes, ttl: float) -> bool:
        """Return whether a sign of life is younger than its time to live, by this process's clock."""
        now = time.monotonic()
        with self._lock:
            seen = self._seen.get(key)
            if seen is None or seen.sign != sign:
                self._seen[key] = _Seen(sign, now)
                return True
            return now - seen.at < ttl

    def _read_worker(self, worker: str) -> InternalFile | None:
        return self._files.read_file(f"{_WORKERS}/{worker}{_SUFFIX}")

    def _is_gone(self, facts: dict[str, Any]) -> bool:
        """Return whether a worker ran on this machine, and its process has ended."""
        here = _describe_process()
        if not self.knows_processes or not here["boot"] or not here["started"]:
            return False
        if any(facts.get(key) != here[key] for key in ("host", "boot", "namespace")):
            return False
        pid, started = facts.get("pid"), facts.get("started")
        if not isinstance(pid, int):
            return False
        found = _find_start(pid)
        return found != started if found is not None else not _is_process(pid)

    def end(self) -> None:
        """Delete the worker file of this process, unless a claim names it."""
        worker = self._worker
        if worker is not None and worker.count and not worker.held:
            self._files.remove_file(worker.file)
            self._worker = None


_all: weakref.WeakSet[Leases] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for leases in list(_all):
        with contextlib.suppress(Exception):  # repair deletes it
            leases.end()


def _renew(reference: weakref.ref[Leases], worker: _Worker) -> None:
    """Renew a worker file while its claims are held, in a thread of its own."""
    delay = worker.ttl / _RENEWALS
    while delay:
        time.sleep(delay)
        leases = reference()
        delay = 0.0 if leases is None else leases.renew(worker)
        del leases


def _read_clock() -> float:
    """Return seconds of a clock that does not stop while the machine sleeps, where there is one."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)  # Linux
    return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)


def _parse(file: InternalFile | None) -> dict[str, Any]:
    try:
        found = None if file is None else orjson.loads(file.data)
    except orjson.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) else {}


def _describe_process() -> dict[str, Any]:
    """Return what identifies this process: host, boot, PID namespace, pid and start."""
    pid = os.getpid()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:  # pragma: no cover  - not Linux
        boot = namespace = ""
    return {"host": Holder.here().host, "boot": boot, "namespace": namespace, "pid": pid, "started": _find_start(pid)}


def _find_start(pid: int) -> str | None:
    """Return when a process started, in clock ticks since the boot (proc(5)).

    Empty for a process that has ended and is not collected yet; None if it cannot be read: there may be no such
    process, or `/proc` hides those of other users.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in {b"Z", b"X"} else fields[19].decode("ascii")


def _is_process(pid: int) -> bool:
    """Return whether there is a process with this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

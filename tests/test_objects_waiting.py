"""Waiting for an object store: signals, forks, threads, and how much is sent at once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, StoreUnavailable
from docid.backends.objects import ObjectsBackend
from docid.store.backends.objects import bucket
from docid.store.backends.objects.proof import Budget
from docid.store.threads import Threads
from tests.object_documents import bucket_of, draft
from tests.servers import CREDENTIALS, Moto


@pytest.fixture
def silent() -> Iterator[str]:
    """The endpoint of a service that accepts connections and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


ACTS: dict[str, Any] = {
    "write": lambda store: store.write(draft()),
    "write_many": lambda store: store.write_many([draft(f"d{n}", task_id=f"t-{n}") for n in range(100)]),
    "read": lambda store: store.read("draft", "d1"),
    "ids": lambda store: list(store.ids("draft")),
    "documents": lambda store: list(store.documents("draft")),
    "history": lambda store: list(store.history("draft", "d1")),
}


@pytest.mark.parametrize("act", ["write", "write_many", "documents"])
def test_ctrl_c_ends_a_process_that_waits_for_a_silent_service(silent: str, act: str) -> None:
    options = {**CREDENTIALS, "endpoint": silent, "client_options": {"allow_http": True}}
    program = f"""
from docid import DocsStore
from tests.test_objects_waiting import ACTS
store = DocsStore("s3://bucket/x", options={options!r})
print("go", flush=True)
ACTS[{act!r}](store)
"""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, error = process.communicate(timeout=60)
    assert time.monotonic() - began < 2
    assert error.splitlines()[-1].startswith("KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT


class TimeLimitError(Exception):
    """As the time limits of task queues raise it."""


@pytest.mark.parametrize("kind", [TimeoutError, OSError, TimeLimitError, KeyboardInterrupt])
@pytest.mark.parametrize("act", ACTS)
def test_exception_of_a_signal_handler_passes_unchanged(silent: str, act: str, kind: type[BaseException]) -> None:
    limit = kind("the time is up")

    def raise_limit(*_: object) -> None:
        raise limit

    options = {**CREDENTIALS, "endpoint": silent, "retry_config": {"max_retries": 0}}
    store = DocsStore("s3://bucket/x", options={**options, "client_options": {"allow_http": True, "timeout": "3s"}})
    before = signal.signal(signal.SIGALRM, raise_limit)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    began = time.monotonic()
    try:
        with pytest.raises(kind) as caught:
            ACTS[act](store)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert caught.value is limit
    assert limit.__cause__ is None
    assert time.monotonic() - began < 2


def test_signal_handler_may_write_during_a_write(s3: Moto) -> None:
    store = DocsStore(s3.bucket(), options=s3.options())
    outcomes: list[str] = []

    def write(*_: object) -> None:
        outcomes.append(store.write(draft("d2", "x" * 9_000_000)).outcome.value)

    before = signal.signal(signal.SIGUSR1, write)
    find_danger = bucket_of(store)._find_danger

    def interrupt_check() -> StoreUnavailable | None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN if outcomes else write)
        outcomes.append("checked")
        os.kill(os.getpid(), signal.SIGUSR1)
        return find_danger()

    bucket_of(store)._find_danger = interrupt_check  # type: ignore[method-assign]
    try:
        outcomes.append(store.write(draft("d1", "x" * 9_000_000)).outcome.value)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert outcomes == ["checked", "checked", "created", "created"]
    assert list(store.ids("draft")) == ["d1", "d2"]


def test_many_documents_are_written_at_exit() -> None:
    program = """
import atexit
from docid import DocsStore, Document
store = DocsStore("memory://")
def flush():
    store.write_many(Document(stage="draft", doc_id=f"d{n}", task_id=f"t-{n}", raw_text="x") for n in range(100))
    print(len(list(store.ids("draft"))), flush=True)
atexit.register(flush)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("100\n", "")


def test_child_forked_after_obstore_was_used_gets_an_error(s3: Moto) -> None:
    program = f"""
import os, sys
import obstore
from obstore.store import from_url
from docid import DocsStore, StoreUnavailable
url, options = {s3.bucket()!r}, {s3.options()!r}
list(obstore.list(from_url(url, **options)))
pid = os.fork()
if pid == 0:
    for _ in range(3):
        try:
            DocsStore(url, options=options).exists("draft", "a1")
        except StoreUnavailable as error:
            print(error, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.count("forked from one that used an object store") == 3


def test_process_without_threads_of_obstore_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    backend = ObjectsBackend("memory://")
    (tmp_path / "7").mkdir()  # a thread that has just ended has no `comm`
    monkeypatch.setattr(bucket, "_THREADS", tmp_path)
    monkeypatch.setattr(bucket, "_START", 0.05)
    monkeypatch.setattr(bucket, "_used_by", None)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="forked from one that used an object store"):
            backend.load("draft", "d1")
    # Where the platform does not tell, docid knows only about its own requests.
    monkeypatch.setattr(bucket, "_THREADS", tmp_path / "missing")
    monkeypatch.setattr(bucket, "_used_by", None)
    assert backend.load("draft", "d1") is None


def test_threads_send_a_limited_number_of_bytes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ObjectsBackend("memory://", in_flight=8)
    inner = backend._bucket
    inner._budget = Budget(2_000)
    lock, sizes, peaks = threading.Lock(), [], []
    put = inner._put

    def slow(key: str, data: bytes, mode: Any) -> None:
        with lock:
            sizes.append(len(data))
            peaks.append((sum(sizes), len(sizes)))
        time.sleep(0.01)
        put(key, data, mode)
        with lock:
            sizes.remove(len(data))

    monkeypatch.setattr(inner, "_put", slow)
    store = DocsStore(backend)
    store.write_many([draft(f"d{n}", "x" * (9_000 if n % 10 == 5 else 10), task_id=f"t-{n}") for n in range(40)])
    assert len(list(store.ids("draft"))) == 40
    assert max(total for total, _ in peaks) > 9_000
    assert all(total <= 2_000 or number == 1 for total, number in peaks)
    assert max(number for _, number in peaks) > 1


def test_cancelled_task_is_not_started() -> None:
    threads = Threads(1)
    begun, end = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        end.wait(30)

    first = threads.submit(wait)
    assert begun.wait(30)
    second = threads.submit(lambda: 1)
    assert second.cancel()
    end.set()
    assert first.result() is None
    assert threads.submit(lambda: 2).result() == 2
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 // 0).result()

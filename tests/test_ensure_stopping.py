"""The stopping contract of `ensure_many` and `aensure_many`, rule by rule (`docs/running.md`)."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, DraftTask
from docid.backends import MemoryBackend
from tests.drivers import DRIVERS, Nap, Sync

ROOT = Path(__file__).parents[1]


@pytest.fixture(params=DRIVERS, ids=lambda driver: driver.name)
def driver(request: pytest.FixtureRequest) -> Sync:
    return request.param  # type: ignore[no-any-return]


def make_rows(count: int) -> list[DraftTask]:
    return [DraftTask(task_id=f"t-{number}", doc_id=f"d{number}") for number in range(count)]


class Calls:
    """The calls of a run: which began, and which returned."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.began: list[str] = []
        self.returned: list[str] = []
        self._seconds = seconds

    def make(self, row: DraftTask) -> Nap:
        self.began.append(row.doc_id)

        def finish() -> str:
            self.returned.append(row.doc_id)
            return f"text of {row.doc_id}"

        return Nap(self._seconds, finish)

    async def amake(self, row: DraftTask) -> str:
        nap = self.make(row)
        await asyncio.sleep(nap.seconds)
        return str(nap.then())

    def check(self, store: DocsStore, *, cancelled: bool = False) -> None:
        """Check that each reply is stored, that each claim is free, and that no more calls begin."""
        began = len(self.began)
        if not cancelled:
            assert sorted(self.began) == sorted(self.returned)
        assert sorted(store.ids("draft")) == sorted(self.returned)
        assert list(store.backend.list_claims("draft")) == []
        time.sleep(0.1)
        assert len(self.began) == began < 100


@pytest.fixture
def store() -> DocsStore:
    return DocsStore(MemoryBackend())


class Stop(Exception):
    pass


# --- Rules 1 to 3: results, the loop body, callbacks -----------------------------------------------------------


@pytest.mark.parametrize("error", [Stop(), KeyboardInterrupt(), SystemExit(2)])
def test_exception_in_the_loop_body_is_raised_after_the_calls_are_stored(
    store: DocsStore, driver: Sync, error: BaseException
) -> None:
    calls = Calls(0.05)

    def body(_: object) -> None:
        raise error

    with pytest.raises(type(error)):
        driver.run(store, make_rows(100), calls.make, concurrency=8, each=body)
    assert len(calls.began) >= 8
    calls.check(store)


def test_exception_of_progress_stops_the_run(store: DocsStore, driver: Sync) -> None:
    calls = Calls(0.02)

    def progress(done: int, _: object) -> None:
        if done == 3:
            raise Stop

    with pytest.raises(Stop):
        driver.run(store, make_rows(100), calls.make, concurrency=4, progress=progress)
    calls.check(store)


def test_close_waits_for_the_calls_under_way(store: DocsStore) -> None:
    calls = Calls(0.1)
    run = store.ensure_many(make_rows(100), lambda row: finish(calls.make(row)), concurrency=4)
    next(run)
    run.close()
    calls.check(store)
    left = sum(1 for _ in run)  # results that nobody has taken yet
    assert left == len(calls.returned) - 1
    run.close()
    run = store.ensure_many(make_rows(100), lambda row: finish(calls.make(row)))
    run.close()  # before the first row
    assert list(run) == []


def finish(nap: Nap) -> Any:
    time.sleep(nap.seconds)
    return nap.then()


def test_aclose_waits_for_the_calls_under_way(store: DocsStore) -> None:
    calls = Calls(0.1)

    async def main() -> None:
        run = store.aensure_many(make_rows(100), calls.amake, concurrency=4)
        await anext(run)
        await run.aclose()
        assert sorted(store.ids("draft")) == sorted(calls.returned)
        assert len([each async for each in run]) == len(calls.returned) - 1
        await run.aclose()
        unused = store.aensure_many(make_rows(3), calls.amake)
        await unused.aclose()
        assert [each async for each in unused] == []

    asyncio.run(main())
    calls.check(store)


def test_break_without_with_stops_and_does_not_wait(store: DocsStore) -> None:
    calls = Calls()

    def make(row: DraftTask) -> str:
        nap = calls.make(row)
        time.sleep(0.0 if row.doc_id == "d0" else 1.0)
        return str(nap.then())

    for _ in store.ensure_many(make_rows(100), make, concurrency=4):
        break
    gc.collect()
    assert len(calls.returned) < len(calls.began)
    deadline = time.monotonic() + 20
    # A claim is free shortly after its document is there.
    while len(list(store.ids("draft"))) < len(calls.began) or list(store.backend.list_claims("draft")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    calls.check(store)


def test_break_without_async_with_stops_and_does_not_wait(store: DocsStore) -> None:
    calls = Calls()

    async def make(row: DraftTask) -> str:
        nap = calls.make(row)
        await asyncio.sleep(0.0 if row.doc_id == "d0" else 0.3)
        return str(nap.then())

    async def main() -> None:
        async for _ in store.aensure_many(make_rows(100), make, concurrency=4):
            break
        gc.collect()
        at = len(calls.returned)
        assert at < len(calls.began)
        await asyncio.sleep(0.5)
        assert len(calls.returned) > at  # those under way went on

    asyncio.run(main())
    calls.check(store)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signals")
def test_exception_of_a_signal_handler_stops_the_run(store: DocsStore) -> None:
    calls = Calls(0.3)

    def limit(*_: object) -> None:
        raise TimeoutError("the time is up")

    old = signal.signal(signal.SIGALRM, limit)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.15)
        with (
            pytest.raises(TimeoutError),
            store.ensure_many(make_rows(100), lambda row: finish(calls.make(row)), concurrency=3) as run,
        ):
            list(run)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    calls.check(store)


PROGRAM = """
import asyncio, os, sys, time
from docid import DocsStore, DraftTask

store = DocsStore(sys.argv[1], durability="none")
rows = [DraftTask(task_id=f"t-{n}", doc_id=f"d{n}") for n in range(100)]

def say(*words):  # whole lines, from any thread
    os.write(1, (" ".join(words) + "\\n").encode())

def make(row):
    say("began", row.doc_id)
    time.sleep(float(sys.argv[3]))
    say("returned", row.doc_id)
    return "text"

async def amake(row):
    say("began", row.doc_id)
    await asyncio.sleep(float(sys.argv[3]))
    say("returned", row.doc_id)
    return "text"

async def main():
    async with store.aensure_many(rows, amake, concurrency=4) as run:
        async for done in run:
            say("stored", done.row.doc_id)

if sys.argv[2] == "sync":
    with store.ensure_many(rows, make, concurrency=4) as run:
        for done in run:
            say("stored", done.row.doc_id)
elif sys.argv[2] == "break":
    for done in store.ensure_many(rows, make, concurrency=4):
        break
else:
    asyncio.run(main())
"""


def run_program(
    root: Path, kind: str, seconds: float, act: Callable[[subprocess.Popen[str]], None]
) -> tuple[int, list[str], float]:
    """Run the program; call `act` once four calls are under way. Return its exit code, lines, and seconds after that."""
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(root), kind, str(seconds)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    began = time.monotonic()
    act(process)
    rest, _ = process.communicate(timeout=120)
    return process.returncode, [*lines, *rest.splitlines(keepends=True)], time.monotonic() - began


def count(lines: list[str], word: str) -> set[str]:
    return {line.split()[1] for line in lines if line.startswith(word)}


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_ctrl_c_waits_until_the_calls_under_way_are_stored(tmp_path: Path) -> None:
    code, lines, seconds = run_program(tmp_path, "sync", 1.0, lambda process: process.send_signal(signal.SIGINT))
    assert code in {-signal.SIGINT, 1}
    assert count(lines, "began") == count(lines, "returned") == set(DocsStore(tmp_path).ids("draft"))
    assert seconds < 20  # all rows would take 25


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_second_ctrl_c_gives_up_waiting(tmp_path: Path) -> None:
    def interrupt(process: subprocess.Popen[str]) -> None:
        for _ in range(3):  # the third is for the wait at the end of the process
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)

    code, lines, seconds = run_program(tmp_path, "sync", 60.0, interrupt)
    assert code != 0
    assert seconds < 50
    assert count(lines, "returned") == set()
    done = DocsStore(tmp_path).ensure(make_rows(1)[0], lambda row: "again")
    assert done.outcome == "created"


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_ctrl_c_cancels_async_calls_and_stores_what_they_returned(tmp_path: Path) -> None:
    code, lines, seconds = run_program(tmp_path, "async", 60.0, lambda process: process.send_signal(signal.SIGINT))
    assert code in {-signal.SIGINT, 1}
    assert seconds < 50
    assert count(lines, "returned") == set(DocsStore(tmp_path).ids("draft")) == set()


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_process_that_ends_after_a_break_stores_its_calls(tmp_path: Path) -> None:
    code, lines, _ = run_program(tmp_path, "break", 0.3, lambda _: None)
    assert code == 0
    assert count(lines, "began") == count(lines, "returned") == set(DocsStore(tmp_path).ids("draft"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM] if sys.platform != "win32" else [])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_kill_loses_only_the_calls_under_way(tmp_path: Path, kind: str, number: signal.Signals) -> None:
    def kill(process: subprocess.Popen[str]) -> None:
        time.sleep(0.5)
        process.send_signal(number)

    code, lines, _ = run_program(tmp_path, kind, 0.2, kill)
    assert code == -number
    store = DocsStore(tmp_path)
    assert count(lines, "stored") <= set(store.ids("draft")) <= count(lines, "returned")
    missing = 100 - len(list(store.ids("draft")))
    calls = Calls()
    with store.ensure_many(make_rows(100), lambda row: finish(calls.make(row))) as run:
        assert all(each.error is None for each in run)
    assert len(calls.returned) == missing


# --- Rule 4: cancellation --------------------------------------------------------------------------------------


def test_timeout_cancels_calls_and_stores_what_they_returned(store: DocsStore) -> None:
    calls = Calls()
    cancelled = []

    async def make(row: DraftTask) -> str:
        nap = calls.make(row)
        try:
            await asyncio.sleep(30 if int(row.task_id[2:]) % 2 else 0.05)
        except asyncio.CancelledError:
            cancelled.append(row.doc_id)
            raise
        return str(nap.then())

    async def main() -> None:
        async with asyncio.timeout(0.3), store.aensure_many(make_rows(100), make, concurrency=4) as run:
            async for _ in run:
                pass

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert cancelled
    calls.check(store, cancelled=True)


@pytest.mark.parametrize("is_inside", [True, False])
def test_cancelled_task_stores_replies_of_threads(store: DocsStore, is_inside: bool) -> None:
    calls = Calls(0.3)

    async def work() -> None:
        run = store.aensure_many(make_rows(100), lambda row: finish(calls.make(row)), concurrency=4)
        if is_inside:
            async with run:
                async for _ in run:
                    pass
        else:
            async for _ in run:
                pass

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.15)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(store.ids("draft")) == sorted(calls.returned)

    asyncio.run(main())
    calls.check(store)


def test_cancelled_aclose_cancels_the_calls(store: DocsStore) -> None:
    calls = Calls(30)

    async def work() -> None:
        async with store.aensure_many(make_rows(100), calls.amake, concurrency=4) as run:
            await asyncio.wait_for(anext(run), None)

    async def close() -> None:
        run = store.aensure_many(make_rows(100), calls.amake, concurrency=4)
        first = asyncio.create_task(anext(run))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(run.aclose())
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(StopAsyncIteration):
            await first

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await close()

    asyncio.run(main())
    assert calls.returned == []
    calls.check(store, cancelled=True)


@pytest.mark.parametrize("is_async", [True, False])
def test_cancelled_aensure_stores_what_its_call_returned(
    store: DocsStore, is_async: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(0.1)
    create = store.backend.create
    [row] = make_rows(1)

    def slowly(*arguments: Any) -> bool:
        time.sleep(0.3)
        return create(*arguments)

    monkeypatch.setattr(store.backend, "create", slowly)

    async def main() -> None:
        make: Any = calls.amake if is_async else lambda row: finish(calls.make(row))
        task = asyncio.create_task(store.aensure(row, make))
        await asyncio.sleep(0.2)  # the call has returned, and its reply is being written
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert list(store.ids("draft")) == ["d0"]

    asyncio.run(main())
    calls.check(store)


@pytest.mark.parametrize("is_async", [True, False])
def test_cancelled_aensure_during_its_call(store: DocsStore, is_async: bool) -> None:
    """A coroutine is cancelled; a call in a thread cannot be, so its reply is stored."""
    calls = Calls(0.3)
    [row] = make_rows(1)

    async def main() -> None:
        make: Any = calls.amake if is_async else lambda row: finish(calls.make(row))
        task = asyncio.create_task(store.aensure(row, make))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert list(store.ids("draft")) == ([] if is_async else ["d0"])
    calls.check(store, cancelled=True)


def test_cancelled_aensure_that_waits_leaves_no_claim(store: DocsStore) -> None:
    [row] = make_rows(1)
    claim: Any = store.backend.take_claim("draft", "d0")

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await store.aensure(row, lambda row: "text")

    asyncio.run(main())
    claim.release()
    assert list(store.backend.list_claims("draft")) == []


def test_call_that_cancels_itself_stops_the_run(store: DocsStore) -> None:
    calls: list[str] = []

    async def make(row: DraftTask) -> str:
        if row.doc_id == "d1":
            raise asyncio.CancelledError
        calls.append(row.doc_id)
        return "text"

    async def main() -> dict[str, str]:
        async with store.aensure_many(make_rows(3), make) as run:
            return {each.row.doc_id: str(each.outcome) async for each in run}

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert sorted(store.ids("draft")) == sorted(calls)  # d2, if it began before the run was stopped
    assert list(store.backend.list_claims("draft")) == []


def test_run_of_another_loop_is_refused(store: DocsStore) -> None:
    run = store.aensure_many(make_rows(3), Calls().amake)

    async def take() -> None:
        await anext(run)

    asyncio.run(take())
    with pytest.raises(RuntimeError, match="belongs to another event loop"):
        asyncio.run(take())


# --- Rule 5: the row stream, the store, and base exceptions -----------------------------------------------------


def test_error_of_the_row_stream_is_raised_after_the_results(store: DocsStore, driver: Sync) -> None:
    calls = Calls(0.02)

    def stream() -> Iterator[DraftTask]:
        yield from make_rows(10)
        raise Stop

    seen: list[object] = []
    with pytest.raises(Stop):
        driver.run(store, stream(), calls.make, concurrency=4, each=seen.append)
    assert len(seen) == len(calls.returned)
    calls.check(store)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_base_exception_of_make_is_raised_after_the_results(store: DocsStore, error: BaseException) -> None:
    calls = Calls(0.05)

    def make(row: DraftTask) -> str:
        if row.doc_id == "d5":
            raise error
        return str(finish(calls.make(row)))

    seen: list[Any] = []
    with pytest.raises(type(error)), store.ensure_many(make_rows(100), make, concurrency=3) as run:
        seen.extend(run)
    calls.check(store)


def test_base_exception_of_a_prompt_is_raised(store: DocsStore, driver: Sync) -> None:
    def render(row: DraftTask) -> str:
        raise SystemExit(4)

    with pytest.raises(SystemExit):
        driver.run(store, make_rows(100), lambda row, prompt: "text", prompt=render)
    assert list(store.backend.list_claims("draft")) == []


def test_fault_of_the_whole_store_stops_the_run_and_loses_no_reply(
    store: DocsStore, driver: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(0.01)

    def fail(*_: object) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store.backend, "create", fail)
        with pytest.raises(OSError, match="No space left"):
            driver.run(store, make_rows(100), calls.make, concurrency=4)
    assert len(calls.returned) < 30
    assert sorted(each.doc_id for each in store.list_rescued()) == sorted(calls.returned)


def test_fault_in_a_backend_loses_no_reply(store: DocsStore, driver: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> Any:
        raise ZeroDivisionError("a fault in the backend")

    with monkeypatch.context() as patch:
        patch.setattr(store.backend, "create_many", fail)
        done = driver.run(store, make_rows(5), lambda row: "paid")
    assert {type(each.error) for each in done} == {ZeroDivisionError}
    assert {each.reply.raw_text for each in store.list_rescued()} == {"paid"}
    assert len(list(store.list_rescued())) == 5


def test_error_is_raised_once(store: DocsStore) -> None:
    def stream() -> Iterator[DraftTask]:
        yield from make_rows(1)
        raise Stop

    run = store.ensure_many(stream(), lambda row: "text")
    with pytest.raises(Stop):
        list(run)
    assert list(run) == []


def test_threads_end_with_their_run(driver: Sync) -> None:
    def list_threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "docid"}

    before = list_threads()
    store = DocsStore(MemoryBackend())
    for _ in range(5):
        driver.run(store, make_rows(20), lambda row: "x", concurrency=10)
    gc.collect()
    deadline = time.monotonic() + 5
    while left := list_threads() - before:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)

"""Measure `ensure_many` and `aensure_many`: what they add to the calls, and how many documents they store.

1. 300 async calls of 0.5 s, 100 at once: the time beside the ideal one, and how long the event loop was blocked.
2. Many async calls of 2 s, 500 at once: the time beside the same calls with bare asyncio, and the memory.
3. Instant replies, 16 at once: durable documents a second beside `ensure`, `write_many` and diskcache.

Every document has three texts, 7 kB in all. Absolute rates depend on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import resource
import secrets
import statistics
import tempfile
import time
from typing import TYPE_CHECKING, Any

import diskcache

from docid import DocsStore, Document, DraftTask, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

RAW, PARSED, PROMPT = "r" * 3000, "p" * 2500, "q" * 1500
REPLY = Reply(RAW, parsed_text=PARSED)


def make_rows(number: int) -> list[DraftTask]:
    return [DraftTask(task_id=f"t-{n}", doc_id=secrets.token_hex(8)) for n in range(number)]


def build_call(seconds: float) -> Callable[[DraftTask, str], Any]:
    async def call(_: DraftTask, __: str) -> Reply:
        await asyncio.sleep(seconds)
        return REPLY

    return call


async def watch_loop(delays: list[float]) -> None:
    """Note how late the event loop wakes a task that sleeps for 5 ms."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.005)
        delays.append(time.perf_counter() - began - 0.005)


async def ensure_rows(store: DocsStore, rows: Iterable[DraftTask], seconds: float, concurrency: int) -> int:
    count = 0
    async with store.aensure_many(rows, build_call(seconds), prompt=PROMPT, concurrency=concurrency) as run:
        async for done in run:
            assert done.outcome == "created", done
            count += 1
    return count


async def call_bare(rows: Iterable[DraftTask], seconds: float, concurrency: int) -> int:
    """Make the same calls without a store: workers that share one iterator."""
    call, waiting, count = build_call(seconds), iter(rows), 0

    async def work() -> None:
        nonlocal count
        for row in waiting:
            await call(row, PROMPT)
            count += 1

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return count


def measure_loop(directory: str, turns: int) -> None:
    ratios: list[float] = []
    delays: list[float] = []
    for _ in range(turns):
        rows = make_rows(300)

        async def main(rows: list[DraftTask] = rows) -> float:
            watching = asyncio.create_task(watch_loop(delays))
            began = time.perf_counter()
            assert await ensure_rows(DocsStore(tempfile.mkdtemp(dir=directory)), rows, 0.5, 100) == len(rows)
            seconds = time.perf_counter() - began
            watching.cancel()
            return seconds

        ratios.append(asyncio.run(main()) / 1.5)
    ordered = sorted(delays)
    print(
        f"  300 calls of 0.5 s, 100 at once / 1.5 s       {statistics.median(ratios):8.2f}    (max {max(ratios):.2f})"
    )
    print(
        f"  event loop blocked: median {ordered[len(ordered) // 2] * 1000:.1f} ms, "
        f"p99 {ordered[int(len(ordered) * 0.99)] * 1000:.1f} ms, max {ordered[-1] * 1000:.1f} ms"
    )


def measure_long_run(directory: str, number: int) -> None:
    """Run docid first: the highest memory of the process, in which bare asyncio needs less, is then its own."""
    store = DocsStore(tempfile.mkdtemp(dir=directory))
    marks = []

    def stream() -> Iterable[DraftTask]:
        for n in range(number):
            if n % max(number // 8, 1) == 0:
                marks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            yield DraftTask(task_id=f"t-{n}", doc_id=secrets.token_hex(8))

    seconds = {}
    began = time.perf_counter()
    assert asyncio.run(ensure_rows(store, stream(), 2.0, 500)) == number
    seconds["docid"] = time.perf_counter() - began
    began = time.perf_counter()
    assert asyncio.run(call_bare(make_rows(number), 2.0, 500)) == number
    seconds["bare"] = time.perf_counter() - began
    print(f"  {number:,} calls of 2 s, 500 at once / bare asyncio {seconds['docid'] / seconds['bare']:7.2f}")
    print(f"  memory after each eighth of the rows: {', '.join(f'{mark:.0f}' for mark in marks)} MB")


def ensure_each(root: str, rows: list[DraftTask]) -> None:
    store = DocsStore(root)
    for row in rows:
        store.ensure(row, lambda _, __: REPLY, prompt=PROMPT)


def ensure_many(root: str, rows: list[DraftTask]) -> None:
    with DocsStore(root).ensure_many(rows, lambda _, __: REPLY, prompt=PROMPT, concurrency=16) as run:
        assert all(done.outcome == "created" for done in run)


def aensure_many(root: str, rows: list[DraftTask]) -> None:
    assert asyncio.run(ensure_rows(DocsStore(root), rows, 0.0, 16)) == len(rows)


def write_many(root: str, rows: list[DraftTask]) -> None:
    DocsStore(root).write_many(
        Document.from_task(row, raw_text=RAW, parsed_text=PARSED, prompt_text=PROMPT) for row in rows
    )


def fill_diskcache(root: str, rows: list[DraftTask]) -> None:
    with diskcache.Cache(root, eviction_policy="none", size_limit=1 << 50, sqlite_synchronous=2) as cache:
        for row in rows:
            cache[row.doc_id] = {"task_id": row.task_id, "raw": RAW, "parsed": PARSED, "prompt": PROMPT}


CONTENDERS = {
    "ensure": ensure_each,
    "ensure_many": ensure_many,
    "aensure_many": aensure_many,
    "write_many": write_many,
    "diskcache, synchronous 2": fill_diskcache,
}
RATIOS = [
    (many, other)
    for many in ("ensure_many", "aensure_many")
    for other in ("ensure", "write_many", "diskcache, synchronous 2")
]


def measure_rates(directory: str, number: int, turns: int) -> None:
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for turn in range(turns + 1):
        for name, contender in CONTENDERS.items():
            rows = make_rows(number)
            root = tempfile.mkdtemp(dir=directory)
            began = time.perf_counter()
            contender(root, rows)
            if turn:  # the first turn is a warm-up
                rates[name].append(number / (time.perf_counter() - began))
    for name, each in rates.items():
        print(f"  {name:<44}{statistics.median(each):10,.0f} documents/s")
    for upper, lower in RATIOS:
        ratios = sorted(a / b for a, b in zip(rates[upper], rates[lower], strict=True))
        print(
            f"  {f'{upper} / {lower}':<44}{statistics.median(ratios):10.2f}    "
            f"(min {ratios[0]:.2f}, max {ratios[-1]:.2f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls-turns", type=int, default=10)
    parser.add_argument("--calls-documents", type=int, default=1000, help="documents per turn of instant replies")
    parser.add_argument("--calls-long", type=int, default=20_000, help="calls of the long run")
    parser.add_argument("--directory", help="directory for the stores (default: the temporary directory)")
    arguments, _ = parser.parse_known_args()
    print(f"calls: {arguments.calls_turns} turns, Python {platform.python_version()}")
    # Delete all files at the end: ext4 creates files slowly right after deletions.
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        measure_rates(directory, arguments.calls_documents, arguments.calls_turns)
        measure_loop(directory, min(arguments.calls_turns, 5))
        measure_long_run(directory, arguments.calls_long)


if __name__ == "__main__":
    main()

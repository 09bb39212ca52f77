"""Worker processes that ensure the rows of one table: `python -m tests.faults.payers` with a JSON object.

Each call of the model is one line in a log that all workers append to.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from docid import DocsStore, DraftTask
from docid.store.backends.local.directory import Directory

ROOT = Path(__file__).parents[2]


def make_rows(count: int) -> list[DraftTask]:
    return [DraftTask(task_id=f"t-{number}", doc_id=f"d{number}") for number in range(count)]


class Log:
    """The calls of all workers: one line each, with the doc id, the process, and a time."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.touch()

    def add(self, doc_id: str) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, f"{doc_id} {os.getpid()} {time.monotonic()}\n".encode())
        os.close(fd)

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.path.read_text().splitlines()]

    def counts(self) -> Counter[str]:
        return Counter(doc_id for doc_id, *_ in self.lines())


def open_store(job: dict[str, Any]) -> DocsStore:
    """Return the store of a job; with `ttl` its claims are leases with that time to live."""
    store = DocsStore(job["root"], options=job.get("options"), durability=job.get("durability", "none"))
    if "ttl" in job:
        if "://" not in job["root"]:
            Directory.trusts_locks = lambda _: False  # type: ignore[assignment,method-assign]
        backend: Any = store.backend
        leases = getattr(backend, "claims", backend).leases
        leases.ttl, leases.knows_processes = job["ttl"], job.get("knows_processes", True)
    return store


def work(job: dict[str, Any]) -> None:
    """Ensure the rows of a job: in a plain loop, with one thread for each, or with a form for many rows."""
    store, log = open_store(job), Log(job["log"])
    rows = make_rows(job["rows"])
    if "own" in job:
        rows = [rows[number] for number in job["own"]]
    if job.get("shuffled"):
        random.Random(os.getpid()).shuffle(rows)
    time.sleep(job.get("delay", 0))

    def make(row: DraftTask) -> str:
        log.add(row.doc_id)
        if job.get("stops"):
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(job["seconds"])
        return f"{row.doc_id} of {os.getpid()}"

    def ensure(row: DraftTask) -> None:
        done = store.ensure(row, make, if_exists=job.get("if_exists", "keep"))
        assert done.document.raw_text.startswith(f"{row.doc_id} of ")

    options: dict[str, Any] = {"if_exists": job.get("if_exists", "keep"), "concurrency": 8}
    options |= {"run_id": job["run_id"]} if "run_id" in job else {}

    async def amake(row: DraftTask) -> str:
        log.add(row.doc_id)
        await asyncio.sleep(job["seconds"])
        return f"{row.doc_id} of {os.getpid()}"

    async def amain() -> None:
        async with store.aensure_many(rows, amake, **options) as run:
            async for done in run:
                assert done.error is None, done

    def ensure_many() -> None:
        with store.ensure_many(rows, make, **options) as run:
            for done in run:
                assert done.error is None, done

    forms = {"many": ensure_many, "amany": lambda: asyncio.run(amain())}
    if job.get("forms"):
        threads = [threading.Thread(target=forms[form]) for form in job["forms"]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    elif job.get("threads"):
        threads = [threading.Thread(target=ensure, args=(row,), daemon=True) for row in rows]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        for row in rows:
            ensure(row)


def start(**job: Any) -> subprocess.Popen[bytes]:
    """Start a worker process."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "tests.faults.payers", json.dumps(job)]
    return subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE)


def finish(workers: list[subprocess.Popen[bytes]], seconds: float = 300) -> None:
    """Wait for worker processes; fail if one failed or hangs."""
    problems = []
    for worker in workers:
        try:
            _, error = worker.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.communicate()
            problems.append("a worker hangs")
            continue
        if worker.returncode:
            problems.append(error.decode()[-500:])
    assert not problems, problems


if __name__ == "__main__":
    work(json.loads(sys.argv[1]))

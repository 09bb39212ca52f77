"""Runs of many rows: `ensure_many` and `aensure_many` in several processes, killed and resumed.

Injected: processes on one table; a kill of all of them during a replace; a kill at each call of the file system with 16
calls under way.
Must hold: each row costs one call; every result that was yielded is stored; a rerun makes exactly the missing calls.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, DraftTask
from docid.repair import repair
from tests.faults import LONG, Tally
from tests.faults.calls import count_calls, kill_at, run_in_child
from tests.faults.payers import Log, finish, make_rows, start
from tests.faults.test_payments import LEFT, MISSING, TWICE, check_calls
from tests.servers import Moto

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs flock")

ROWS = 500 if LONG else 60
FORMS = [["many"], ["amany"], ["many", "amany"]]
WAYS = [(workers, shuffled) for workers in ((2, 4) if LONG else (3,)) for shuffled in (False, True)]


@pytest.mark.parametrize("forms", FORMS, ids="+".join)
@pytest.mark.parametrize("kind", ["local", "local, leases"])
def test_processes_on_one_table_pay_once(tmp_path: Path, kind: str, forms: list[str]) -> None:
    tally = Tally(f"calls: {'+'.join(forms)}, {kind}", TWICE, MISSING, LEFT)
    for number, (workers, shuffled) in enumerate(WAYS):
        log = Log(tmp_path / f"{number}.log")
        job: dict[str, Any] = {"root": str(tmp_path / f"{number}"), "rows": ROWS, "shuffled": shuffled}
        job |= {"log": str(log.path), "seconds": 0.02, "forms": forms}
        job |= {"ttl": 300} if kind == "local, leases" else {}
        finish([start(**job) for _ in range(workers)])
        check_calls(tally, log, DocsStore(job["root"]), ROWS, (workers, shuffled))
    tally.close()


@pytest.mark.integration("moto")
@pytest.mark.parametrize("forms", FORMS, ids="+".join)
def test_processes_on_one_table_in_a_bucket_pay_once(tmp_path: Path, s3: Moto, forms: list[str]) -> None:
    tally = Tally(f"calls: {'+'.join(forms)}, bucket", TWICE, MISSING, LEFT)
    rows = 200 if LONG else 20
    for number, (workers, shuffled) in enumerate(WAYS):
        log = Log(tmp_path / f"{number}.log")
        job: dict[str, Any] = {"root": s3.bucket(), "options": s3.options(), "rows": rows, "shuffled": shuffled}
        job |= {"log": str(log.path), "seconds": 0.02, "forms": forms}
        finish([start(**job) for _ in range(workers)])
        check_calls(tally, log, DocsStore(job["root"], options=s3.options()), rows, (workers, shuffled))
    tally.close()


@pytest.mark.parametrize("form", ["many", "amany"])
def test_replacing_run_is_killed_and_resumed(tmp_path: Path, form: str) -> None:
    """Four workers replace 100 documents in one run; all are killed in the middle, and started again."""
    tally = Tally(f"calls: 4 workers replace 100 documents, killed and resumed, {form}", TWICE, "wrong histories")
    for turn in range(5 if LONG else 1):
        log = Log(tmp_path / f"{turn}.log")
        store = DocsStore(tmp_path / f"{turn}", durability="none")
        with store.ensure_many(make_rows(100), lambda row: f"{row.doc_id} of before") as run:
            assert all(done.outcome == "created" for done in run)
        job: dict[str, Any] = {"root": store.root, "rows": 100, "log": str(log.path), "seconds": 0.05, "forms": [form]}
        job |= {"if_exists": "replace", "run_id": "again", "shuffled": True}
        workers = [start(**job) for _ in range(4)]
        end = time.monotonic() + 60
        while len(log.lines()) < 40:
            assert time.monotonic() < end
            time.sleep(0.005)
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
        for worker in workers:
            worker.communicate()
        under_way = 4 * (8 + 16)  # calls, and replies of the open group
        finish([start(**job) for _ in range(4)])
        calls = log.counts()
        tally.count("rows", 100)
        tally.count("calls", calls.total())
        tally.check(TWICE, 100 <= calls.total() <= 100 + under_way and max(calls.values()) <= 2, calls.most_common(3))
        for row in make_rows(100):
            versions = [each.raw_text for each in store.history("draft", row.doc_id)]
            tally.check("wrong histories", versions == [f"{row.doc_id} of before"], (row.doc_id, versions))
            tally.check("wrong histories", store.open("draft", row.doc_id).run_id == "again", row.doc_id)
    tally.close()


NOT_STORED, PAID_AGAIN, NOT_PAID = "yielded documents lost", "stored rows paid for again", "missing rows not paid for"


@pytest.mark.parametrize("form", ["many", "amany"])
def test_kill_at_any_call_with_16_calls_under_way(tmp_path: Path, form: str) -> None:
    tally = Tally(f"process killed with 16 calls under way, {form}", NOT_STORED, PAID_AGAIN, NOT_PAID)
    rows = make_rows(24)

    def work(root: Path, log: Path) -> None:
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        store = DocsStore(root)
        gate = threading.Barrier(16)

        def note(row: DraftTask) -> None:
            os.write(fd, f"{row.doc_id}\n".encode())

        def make(row: DraftTask) -> str:
            if int(row.task_id[2:]) < 16:
                gate.wait(30)  # 16 calls are under way
            return f"text of {row.doc_id}"

        async def amake(row: DraftTask) -> str:
            return f"text of {row.doc_id}"

        async def amain() -> None:
            async with store.aensure_many(rows, amake, concurrency=16) as run:
                async for done in run:
                    note(done.row)

        if form == "many":
            with store.ensure_many(rows, make, concurrency=16) as run:
                for done in run:
                    note(done.row)
        else:
            asyncio.run(amain())
        os.close(fd)

    total = sum(count_calls(lambda: work(tmp_path / "count", tmp_path / "count.log")).values())
    assert total > 24 * 20
    choose = random.Random(form)
    points = range(1, total + 30) if LONG else sorted(choose.sample(range(1, total), 12))
    for point in points:
        root, log = tmp_path / "docs", tmp_path / "log"
        shutil.rmtree(root, ignore_errors=True)
        log.unlink(missing_ok=True)
        run_in_child(kill_at(point, half=bool(point % 2)), lambda root=root, log=log: work(root, log))  # type: ignore[misc]
        tally.count("points")
        store = DocsStore(root)
        lines = log.read_text().splitlines(keepends=True) if log.exists() else []
        yielded = {line.strip() for line in lines if line.endswith("\n")}  # the kill may tear the last line
        stored = set(store.ids("draft"))
        tally.check(NOT_STORED, yielded <= stored, (point, yielded - stored))
        if point % 3 == 0:
            list(repair(store, apply=True, stale_after=0))
        calls: list[str] = []

        def make(row: DraftTask, calls: list[str] = calls) -> str:
            calls.append(row.doc_id)
            return "again"

        with store.ensure_many(rows, make) as run:
            assert all(done.error is None for done in run)
        tally.check(PAID_AGAIN, not set(calls) & stored, (point, set(calls) & stored))
        tally.check(NOT_PAID, sorted({*calls, *stored}) == sorted(row.doc_id for row in rows), point)
        texts = {store.read("draft", doc_id, verify=True).raw_text for doc_id in stored}
        tally.check(NOT_STORED, texts <= {f"text of {row.doc_id}" for row in rows}, point)
    tally.close()

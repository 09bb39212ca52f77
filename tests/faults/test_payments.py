"""Calls: how often a row is paid for.

Injected: many processes and threads on one table; holders of claims that are killed or stopped; full disks, a bucket
that goes away, and places that cannot be written.
Must hold: each row costs one call while its worker lives; a paid text is stored or rescued; what can be known before a
call costs none.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from docid import DEFAULT_STAGES, DocsStore, Document, DraftTask, Reply, ReplyRescued, StoreUnavailable
from docid.backends import MemoryBackend
from docid.store.backends.objects.proof import Proof
from tests.faults import LONG, Tally, allow_reading
from tests.faults.mounts import Mounts, run, tmpfs
from tests.faults.payers import Log, finish, start
from tests.faults.test_races import gather
from tests.servers import Moto, moto, run_proxy

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs flock")

ROW = DraftTask(task_id="t-1", doc_id="d1")
ROWS = 500 if LONG else 40
KILLS = 200 if LONG else 8
TWICE, MISSING, LEFT, SLOW = "rows paid for twice", "rows without a document", "claims left", "slow takeovers"
LOST, PAID = "paid texts lost", "calls that could have been avoided"
needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")


@pytest.fixture(autouse=True)
def own_rescue_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCID_RESCUE_DIR", str(tmp_path / "own"))


def check_calls(tally: Tally, log: Log, store: DocsStore, rows: int, where: object, calls: int | None = None) -> None:
    """Check that each row was paid for once and has its document."""
    counts = log.counts()
    tally.count("rows", rows)
    tally.count("calls", counts.total())
    tally.check(TWICE, counts.total() == (rows if calls is None else calls), (where, counts.most_common(3)))
    found = {each.doc_id for each in store.documents("draft")}
    tally.check(MISSING, len(found) == rows, (where, len(found)))
    tally.check(LEFT, not list(store.backend.list_claims("draft")), where)


WAYS = (
    [(2, True, 0.0), (4, False, 0.0), (8, True, 1.0)]
    if not LONG
    else [(workers, shuffled, delay) for workers in (2, 4, 8) for shuffled in (False, True) for delay in (0.0, 1.0)]
)


@pytest.mark.parametrize("kind", ["local", "local, leases"])
def test_processes_on_one_table_pay_once(tmp_path: Path, kind: str) -> None:
    tally = Tally(f"calls: processes on one table, {kind}", TWICE, MISSING, LEFT)
    for number, (workers, shuffled, delay) in enumerate(WAYS):
        log = Log(tmp_path / f"{number}.log")
        job: dict[str, Any] = {
            "root": str(tmp_path / f"{number}"),
            "rows": ROWS,
            "shuffled": shuffled,
            "seconds": 0.005,
        }
        job |= {"log": str(log.path)} | ({"ttl": 300} if kind == "local, leases" else {})
        finish([start(**job, delay=delay * worker) for worker in range(workers)])
        check_calls(tally, log, DocsStore(job["root"]), ROWS, (workers, shuffled, delay))
    tally.close()


@pytest.mark.integration("moto")
def test_processes_on_one_table_in_a_bucket_pay_once(tmp_path: Path, s3: Moto) -> None:
    tally = Tally("calls: processes on one table, bucket", TWICE, MISSING, LEFT)
    rows = ROWS if LONG else 10
    for number, (workers, shuffled, delay) in enumerate(WAYS):
        log = Log(tmp_path / f"{number}.log")
        job: dict[str, Any] = {
            "root": s3.bucket(),
            "options": s3.options(),
            "rows": rows,
            "shuffled": shuffled,
            "seconds": 0.005,
        }
        finish([start(**job, log=str(log.path), delay=delay * worker) for worker in range(workers)])
        check_calls(tally, log, DocsStore(job["root"], options=s3.options()), rows, (workers, shuffled, delay))
    tally.close()


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_threads_on_one_row_pay_once(tmp_path: Path, kind: str) -> None:
    tally = Tally(f"calls: 8 threads on one row, {kind}", TWICE, MISSING, LEFT)
    for turn in range(200 if LONG else 20):
        store = DocsStore(MemoryBackend() if kind == "memory" else tmp_path / f"{turn}")
        log, barrier = Log(tmp_path / f"{turn}.log"), threading.Barrier(8)

        def work(store: DocsStore = store, log: Log = log, barrier: threading.Barrier = barrier) -> None:
            def make(row: DraftTask) -> str:
                log.add(row.doc_id)
                time.sleep(0.02)
                return "text"

            barrier.wait()
            store.ensure(ROW, make)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        check_calls(tally, log, store, 1, turn)
    tally.close()


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("kind", "limit"),
    [
        pytest.param({}, 1.0, id="locks"),
        pytest.param({"ttl": 3.0}, 1.0, id="leases of a known process"),
        pytest.param({"ttl": 3.0, "knows_processes": False}, 3.0, id="leases"),
    ],
)
def test_claim_of_a_killed_worker_is_taken_over_once(tmp_path: Path, kind: dict[str, Any], limit: float) -> None:
    """Each worker holds one row; two more processes wait for all rows, in threads, when it is killed."""
    tally = Tally(f"calls: workers killed during a call, {kind or 'locks'}", TWICE, MISSING, LEFT, SLOW)
    at_once = 20 if LONG else 4
    for turn in range(KILLS // at_once):
        root, log = str(tmp_path / f"{turn}"), Log(tmp_path / f"{turn}.log")
        job: dict[str, Any] = {"root": root, "log": str(log.path), "rows": at_once, **kind}
        holders = [start(**job, own=[number], seconds=600) for number in range(at_once)]
        wait_for(lambda log=log: len(log.lines()) == at_once)  # type: ignore[misc]
        waiters = [start(**job, threads=True, seconds=0.0) for _ in range(2)]
        time.sleep(2.5 if LONG else 1.5)  # until they wait
        killed_at = time.monotonic()
        for holder in holders:
            holder.send_signal(signal.SIGKILL)
            holder.communicate()
        finish(waiters, 60)
        # A poll of a lease comes up to a tenth of its delay late; two cores start many threads slowly.
        slack = 2.0 if "ttl" in kind else 1.0
        taken = [float(at) - killed_at for *_, at in log.lines()[at_once:]]
        tally.check(SLOW, max(taken) <= limit + slack, (turn, max(taken)))
        tally.counts["slowest takeover in s"] = max(tally.counts.get("slowest takeover in s", 0.0), *taken)
        tally.count("kills", at_once)
        check_calls(tally, log, DocsStore(root), at_once, turn, calls=2 * at_once)
    tally.close()


def test_worker_that_is_stopped_past_its_lease_costs_at_most_one_more_call(tmp_path: Path) -> None:
    tally = Tally("calls: a worker stopped past its lease", TWICE, MISSING, LOST)
    for turn in range(10 if LONG else 2):
        root, log = str(tmp_path / f"{turn}"), Log(tmp_path / f"{turn}.log")
        job: dict[str, Any] = {"root": root, "log": str(log.path), "rows": 1, "ttl": 1.0}
        stopped = start(**job, stops=True, seconds=0)
        wait_for(lambda log=log: len(log.lines()) == 1)  # type: ignore[misc]
        finish([start(**job, seconds=0.0)], 60)
        stopped.send_signal(signal.SIGCONT)
        finish_stopped(stopped)
        counts = log.counts()
        tally.count("calls", counts.total())
        tally.check(TWICE, counts.total() == 2, counts)
        store = DocsStore(root)
        [document] = store.documents("draft")
        [rescued] = store.list_rescued()
        tally.check(LOST, document.raw_text != rescued.reply.raw_text and str(stopped.pid) in rescued.reply.raw_text)
    tally.close()


def finish_stopped(worker: subprocess.Popen[bytes]) -> None:
    """Wait for a worker that stops itself; continue it until it ends."""
    for _ in range(200):
        worker.send_signal(signal.SIGCONT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(0.1)
            break
    # Its own text differs from the stored one, so its check of the text fails; that is fine here.
    worker.communicate()


@contextlib.contextmanager
def on_full_disk(tmp_path: Path) -> Iterator[tuple[DocsStore, Callable[[], None], Callable[[], None]]]:
    with tmpfs(tmp_path / "tmpfs", "size=256k") as path:
        filler = path / "filler"

        def fill() -> None:
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)

        yield DocsStore(path / "docs"), fill, filler.unlink


@needs_root
def test_text_paid_for_while_the_disk_fills_is_not_lost(tmp_path: Path) -> None:
    tally = Tally("calls: a full disk during the call", LOST, PAID)

    def pay_again(_: DraftTask) -> str:
        tally.check(PAID, False)
        return ""

    with on_full_disk(tmp_path) as (store, fill, empty):

        def make(_: DraftTask) -> str:
            fill()
            return "paid " * 10_000

        with pytest.raises(OSError, match="free disk space") as caught:
            store.ensure(ROW, make)
        tally.check(LOST, str(tmp_path / "own") in caught.value.rescued)  # type: ignore[attr-defined]
        with pytest.raises(ReplyRescued):
            store.ensure(ROW, pay_again)
        fill()
        with pytest.raises(OSError, match="free disk space"):
            store.ensure(DraftTask(task_id="t-2", doc_id="d2"), pay_again)
        empty()
        with pytest.raises(ReplyRescued):
            store.ensure(ROW, pay_again)
        [rescued] = store.list_rescued()
        rescued.adopt()
        tally.check(LOST, store.read("draft", "d1").raw_text == "paid " * 10_000)
    tally.close()


@pytest.mark.integration("moto")
def test_text_paid_for_while_the_bucket_goes_away_is_not_lost() -> None:
    tally = Tally("calls: a bucket that goes away during the call", LOST, PAID)

    def pay_again(_: DraftTask) -> str:
        tally.check(PAID, False)
        return ""

    retries = {"max_retries": 1, "retry_timeout": timedelta(seconds=1)}
    with moto() as server, moto() as other:
        url = server.bucket()
        store = DocsStore(url, options=server.options(retry_config=retries))

        def make(_: DraftTask) -> str:
            os.kill(_find_server(server), signal.SIGKILL)
            return "paid"

        with pytest.raises(StoreUnavailable) as caught:
            store.ensure(ROW, make)
        tally.check(LOST, getattr(caught.value, "rescued", ""))
        assert other.bucket() == url
        again = DocsStore(url, options=other.options())
        with pytest.raises(ReplyRescued):
            again.ensure(ROW, pay_again)
        [rescued] = again.list_rescued()
        rescued.adopt()
        tally.check(LOST, again.read("draft", "d1").raw_text == "paid")
    tally.close()


def _find_server(server: Moto) -> int:
    """Return the process that listens on a server's port."""
    port = int(server.endpoint.rpartition(":")[2])
    wanted = f":{port:04X} 00000000:0000 0A"
    [inode] = [line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines() if wanted in line]
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(fd) == f"socket:[{inode}]":
                return int(fd.parts[2])
    raise AssertionError("no such server")


# --- What can be known before the call -------------------------------------------------------------------------


def count_calls(store: DocsStore, doc_id: str = "d9", **options: Any) -> tuple[int, str]:
    """Ensure a row; return how often the model was called, and the error."""
    calls: list[int] = []

    def make(_: DraftTask) -> Reply:
        calls.append(1)
        return Reply("paid")

    try:
        store.ensure(DraftTask(task_id=f"t-{doc_id}", doc_id=doc_id), make, **options)
    except OSError as error:
        return len(calls), f"{type(error).__name__}: {error}"
    return len(calls), "done"


def count_in_all_ways(store: DocsStore) -> list[tuple[int, str]]:
    """Count the calls for a new document with and without a claim, and for a replace."""
    found = [count_calls(store, claim=claim) for claim in ("wait", "skip", "off")]
    return [*found, count_calls(store, "d1", if_exists="replace")]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    DocsStore(tmp_path / "docs").write(Document(stage="draft", doc_id="d1", task_id="t-d1", raw_text="once"))
    with allow_reading(tmp_path):
        yield tmp_path / "docs"


def check_nothing_paid(tally: Tally, answers: list[tuple[int, str]], problem: str) -> None:
    for calls, error in answers:
        tally.count("tries")
        tally.check(PAID, calls == 0 and problem in error, (calls, error))


@needs_root
def test_directory_that_cannot_be_written_costs_no_call(root: Path) -> None:
    tally = Tally("calls: a directory of another user", PAID)

    def as_nobody() -> list[tuple[int, str]]:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        return count_in_all_ways(DocsStore(root))

    [answers] = gather([as_nobody])
    check_nothing_paid(tally, answers, "Permission denied; check the owner")
    tally.close()


@needs_root
def test_read_only_mount_costs_no_call_and_serves_what_exists(root: Path, tmp_path: Path) -> None:
    tally = Tally("calls: a read-only mount", PAID)
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    run("mount", "--bind", root, mounted)
    try:
        run("mount", "-o", "remount,ro,bind", mounted)
        store = DocsStore(mounted)
        check_nothing_paid(tally, count_in_all_ways(store), "Read-only file system; mount the file system")
        assert count_calls(store, "d1") == (0, "done")
    finally:
        subprocess.run(["umount", str(mounted)], check=False)
    tally.close()


@needs_root
def test_document_of_a_lower_layer_costs_no_call(tmp_path: Path) -> None:
    tally = Tally("calls: a document in a lower layer of overlayfs", PAID)
    DocsStore(tmp_path / "lower" / "docs").write(Document(stage="draft", doc_id="d1", task_id="t-d1", raw_text="once"))
    with contextlib.contextmanager(Mounts.overlayfs)(tmp_path) as mounted:
        store = DocsStore(mounted / "docs")
        check_nothing_paid(
            tally, [count_calls(store, "d1", if_exists="replace")], "cannot rename a directory of another layer"
        )
        assert store.read("draft", "d1").raw_text == "once"
        assert count_calls(store) == (1, "done")
        assert count_calls(store, if_exists="replace") == (1, "done")
    tally.close()


@pytest.mark.integration("moto")
def test_keys_that_may_only_read_cost_no_call(s3: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally("calls: keys that may only read", PAID)
    url = s3.bucket()
    DocsStore(url, options=s3.options()).write(Document(stage="draft", doc_id="d1", task_id="t-d1", raw_text="once"))
    with run_proxy(s3) as proxy:
        proxy.faults = ["403 AccessDenied"] * 200
        store = DocsStore(url, options=s3.options(endpoint=proxy.endpoint), stages=DEFAULT_STAGES)
        monkeypatch.setattr(store.backend._bucket, "_proof", Proof())  # type: ignore[attr-defined]
        check_nothing_paid(tally, count_in_all_ways(store), "StoreUnavailable")
        assert count_calls(store, "d1") == (0, "done")
    tally.close()

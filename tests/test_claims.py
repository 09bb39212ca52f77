"""Claims: locked files, leases, and waiting without a circle."""

from __future__ import annotations

import gc
import logging
import os
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from docid import DocsStore, DocumentClaimed, DraftTask, EssayTask, EvaluationTask
from docid.backends import Claim, Holder, LocalBackend, MemoryBackend
from docid.backends.objects import ObjectsBackend
from docid.repair import repair
from docid.store import claiming
from docid.store.backends import leases as leases_module
from docid.store.backends.leases import Leases
from docid.store.backends.local.directory import Directory
from docid.store.backends.local.locks import LockFile, Temporary, hold_lock
from tests.store_documents import draft, essay, never

ROW = DraftTask(task_id="t-1", doc_id="a1")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def local(tmp_path: Path) -> LocalBackend:
    return LocalBackend(tmp_path / "docs", durability="none")


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every file system look like one whose locks cannot be trusted."""
    monkeypatch.setattr(Directory, "trusts_locks", lambda _: False)


def take(backend: Any, doc_id: str = "a1") -> Claim:
    claim = backend.take_claim("draft", doc_id)
    assert isinstance(claim, Claim), claim
    return claim


def run_in_child(function: Callable[[], object]) -> int:
    """Call a function in a forked child; return its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            function()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# --- Locked files ----------------------------------------------------------------------------------------------


def test_claim_file_names_its_holder_and_goes(local: LocalBackend) -> None:
    claim = take(local)
    file = Path(local.root, "draft", ".claim-a1")
    found = orjson.loads(file.read_bytes())
    assert (found["pid"], found["host"]) == (os.getpid(), Holder.here().host)
    claim.release()
    assert not file.exists()
    assert not Path(local.root, ".docid").exists()
    assert local.claim_delay == 0.5


def test_claim_of_dead_process_is_free_and_cleared(local: LocalBackend) -> None:
    Path(local.root, "draft").mkdir(parents=True)
    left = [Path(local.root, "draft", name) for name in (".claim-a1", ".claim-b2", ".claim-")]
    for file in left:
        file.write_bytes(b"torn {")
    assert list(local.list_claims("draft")) == []
    held = take(local)
    assert [doc_id for doc_id, _ in local.list_claims("draft")] == ["a1"]
    assert local.sweeper().tidy("draft", 0) == 1  # b2; a1 is held, and the third is no claim
    assert [file.exists() for file in left] == [True, False, True]
    held.release()
    assert list(repair(DocsStore(local), apply=True)) == []


def test_torn_claim_file_is_held_all_the_same(local: LocalBackend) -> None:
    held = take(local)
    Path(local.root, "draft", ".claim-a1").write_bytes(b"{")
    assert local.take_claim("draft", "a1") == Holder("", 0, "")
    assert str(Holder("", 0, "")) == "a worker"
    held.release()


def test_file_that_is_removed_while_it_is_opened_is_locked_anew(
    local: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder removes the file before it releases the lock; whoever opened it before gets a lock on no file."""
    first = take(local)
    original = LockFile.take

    def release_first(self: LockFile, *arguments: Any, **options: Any) -> bool:
        first.release()
        return original(self, *arguments, **options)

    monkeypatch.setattr(LockFile, "take", release_first)
    second = take(local)
    assert isinstance(local.take_claim("draft", "a1"), Holder)
    second.release()


def test_claim_shows_that_nothing_can_be_written(local: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(OSError, match="free disk space"):
        DocsStore(local).ensure(ROW, never)
    assert os.listdir(Path(local.root, "draft")) == []


def test_forgotten_claim_ends_when_it_is_collected(local: LocalBackend) -> None:
    claim = take(local)
    del claim
    gc.collect()
    take(local).release()


# --- Fork ------------------------------------------------------------------------------------------------------


@needs_fork
def test_forked_child_does_not_release_a_claim(local: LocalBackend) -> None:
    for backend in (local, MemoryBackend()):
        claim = take(backend)
        assert run_in_child(claim.release) == 0
        if backend is local:
            assert isinstance(backend.take_claim("draft", "a1"), Holder)
            assert run_in_child(lambda backend=backend: take_fails(backend)) == 0  # type: ignore[misc]
        claim.release()
        take(backend).release()


def take_fails(backend: Any) -> None:
    assert isinstance(backend.take_claim("draft", "a1"), Holder)


@needs_fork
def test_claim_of_a_parent_ends_with_it_although_its_child_lives(local: LocalBackend, tmp_path: Path) -> None:
    """A child that inherits the descriptor would hold the lock on."""
    script = f"""
        import os, time
        from docid.backends import LocalBackend
        claim = LocalBackend({local.root!r}).take_claim("draft", "a1")
        if os.fork() == 0:
            print("child", flush=True)
            time.sleep(60)
        os.kill(os.getpid(), 9)
    """
    started = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    started.stdout.readline()
    started.wait()
    take(local).release()
    started.stdout.close()


@needs_fork
def test_forked_child_does_not_release_the_lock_of_a_document(local: LocalBackend) -> None:
    DocsStore(local).write(draft())
    with Directory(str(Path(local.root, "draft"))) as directory:
        context = hold_lock(directory, "a1")
        assert context.__enter__()

        def leave() -> None:
            context.__exit__(None, None, None)
            gc.collect()

        assert run_in_child(leave) == 0
        with hold_lock(directory, "a1", wait=False) as is_free:
            assert not is_free
        context.__exit__(None, None, None)


@needs_fork
def test_forked_child_does_not_remove_the_temporary_directory_of_its_parent(local: LocalBackend) -> None:
    Path(local.root, "draft").mkdir(parents=True)
    with Directory(str(Path(local.root, "draft"))) as directory, Temporary(directory, "a1") as temporary:
        temporary.fill(b"{}", {}, sync=False)
        assert run_in_child(lambda: temporary.__exit__(None, None, None)) == 0
        assert temporary.is_at(temporary.name)


@needs_fork
def test_forked_child_in_make_does_not_free_the_claim(local: LocalBackend) -> None:
    """The child leaves `ensure` with an exception; its parent still makes the document."""
    store = DocsStore(local)

    def make(_: DraftTask) -> str:
        child = os.fork()
        if child == 0:
            raise SystemExit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        assert isinstance(local.take_claim("draft", "a1"), Holder)
        return "text"

    parent = os.getpid()
    try:
        assert store.ensure(ROW, make).outcome == "created"
    except SystemExit as ended:
        assert os.getpid() != parent
        os._exit(int(str(ended.code)))


# --- Leases ----------------------------------------------------------------------------------------------------


class Clock:
    """A clock that stands still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(leases_module, "_read_clock", lambda: self.now)
        monkeypatch.setattr(Leases, "_start_renewing", lambda *_: None)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture(params=["memory", "objects", "local without locks"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Return where leases are, for each way to swap a file."""
    if request.param == "memory":
        return MemoryBackend()
    if request.param == "objects":
        return ObjectsBackend("memory://")
    return LocalBackend(tmp_path / "docs").claims.leases._files


def hold(leases: Leases, doc_id: str = "a1") -> Claim:
    claim = leases.take("draft", doc_id)
    assert isinstance(claim, Claim), claim
    return claim


def test_lease_of_a_silent_worker_is_taken_over_after_its_time_to_live(files: Any, clock: Clock) -> None:
    first, second = Leases(files, ttl=100), Leases(files)
    claim = hold(first)
    assert isinstance(second.take("draft", "a1"), Holder)
    clock.now += 99
    assert isinstance(second.take("draft", "a1"), Holder)
    clock.now += 2
    taken = hold(second)
    assert [doc_id for doc_id, _ in second.list("draft")] == ["a1"]
    claim.release()  # after the lapse, it is another's
    assert isinstance(first.take("draft", "a1"), Holder)
    taken.release()
    hold(first).release()


def test_lease_of_a_renewing_worker_is_not_taken_over(files: Any, clock: Clock) -> None:
    first, second = Leases(files, ttl=100), Leases(files, ttl=1)
    claim = hold(first)
    assert first._worker is not None
    for _ in range(10):
        assert isinstance(second.take("draft", "a1"), Holder)
        clock.now += 25
        assert first.renew(first._worker)
    claim.release()
    assert not first.renew(first._worker)  # nothing is held any more
    hold(second).release()


def test_worker_that_lapsed_renews_and_deletes_only_its_own_claims(files: Any, clock: Clock) -> None:
    leases, other = Leases(files, ttl=100), Leases(files)
    claims = {doc_id: hold(leases, doc_id) for doc_id in ("a1", "b2")}
    assert isinstance(other.take("draft", "a1"), Holder)
    worker = leases._worker
    assert worker is not None
    clock.now += 101
    taken = hold(other)
    assert leases.renew(worker) == 20  # a call of its own still runs
    assert leases._worker is worker
    assert isinstance(other.take("draft", "b2"), Holder)
    for claim in claims.values():
        claim.release()
    assert isinstance(leases.take("draft", "a1"), Holder)
    hold(other, "b2").release()
    taken.release()


def test_failed_renewal_is_tried_again_soon(files: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    leases, other = Leases(files, ttl=100), Leases(files)
    claim = hold(leases)
    assert leases._worker is not None
    for error in (OSError(5, "Input/output error"), ZeroDivisionError()):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(files, "write_file", fail)
            assert leases.renew(leases._worker) == 5
    for _ in range(6):
        assert isinstance(other.take("draft", "a1"), Holder)
        clock.now += 90
        assert leases.renew(leases._worker) == 20
    claim.release()


def test_process_that_proc_hides_is_not_gone(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Leases(files), Leases(files)
    claim = hold(first)
    own = os.getpid()
    start = leases_module._find_start(own)
    monkeypatch.setattr(leases_module, "_find_start", lambda pid: start if second._worker is None else None)
    hold(second, "b2").release()
    assert isinstance(second.take("draft", "a1"), Holder)

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert isinstance(second.take("draft", "a1"), Holder)
    claim.release()


def test_idle_worker_keeps_its_file(files: Any, clock: Clock) -> None:
    leases = Leases(files, ttl=100)
    hold(leases).release()
    worker = leases._worker
    clock.now += 1000
    hold(leases).release()
    assert leases._worker is worker
    assert len(list(files.list_files("workers"))) == 1
    leases.end()
    assert list(files.list_files("workers")) == []
    leases.end()


def test_worker_file_stays_while_a_claim_names_it(files: Any) -> None:
    leases = Leases(files)
    claim = hold(leases)
    leases.end()
    assert len(list(files.list_files("workers"))) == 1
    claim.release()


def test_lease_of_a_gone_process_is_taken_over_at_once(files: Any) -> None:
    first, second = Leases(files), Leases(files)
    hold(first)
    assert first._worker is not None
    facts = orjson.loads(files.read_file(first._worker.file).data)
    for change, is_gone in (({"started": "1"}, True), ({"host": "elsewhere", "started": "1"}, False)):
        files.write_file(first._worker.file, orjson.dumps({**facts, **change}))
        taken = second.take("draft", "a1")
        assert isinstance(taken, Claim) == is_gone
        if isinstance(taken, Claim):
            taken.release()
            files.swap_file("claims/draft/a1.json", None, orjson.dumps({"worker": first._worker.nonce}))
    second.knows_processes = False
    files.write_file(first._worker.file, orjson.dumps({**facts, "started": "1"}))
    assert isinstance(second.take("draft", "a1"), Holder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"worker": 5}', b'{"worker": "gone"}'])
def test_torn_claim_is_taken_over_after_the_time_to_live(files: Any, clock: Clock, content: bytes) -> None:
    leases = Leases(files, ttl=100)
    assert files.swap_file("claims/draft/a1.json", None, content)
    assert isinstance(leases.take("draft", "a1"), Holder)
    clock.now += 101
    hold(leases).release()


def test_claim_that_could_not_be_deleted_is_taken_again(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    leases = Leases(files)
    claim = hold(leases)

    def fail(_: str) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(files, "remove_file", fail)
        claim.release()
    hold(leases).release()
    assert list(files.list_files("claims/draft")) == []


def test_repair_clears_leases_of_dead_workers(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dead, live, cleaner = Leases(files), Leases(files), Leases(files)
    hold(dead)
    held = hold(live, "b2")
    files.write_file("claims/draft/not a doc id", b"")
    assert cleaner.clear("draft", 0) == 0
    assert dead._worker is not None
    facts = orjson.loads(files.read_file(dead._worker.file).data)
    files.write_file(dead._worker.file, orjson.dumps({**facts, "started": "1"}))
    assert cleaner.clear("draft", 0) == 1
    assert [doc_id for doc_id, _ in cleaner.list("draft")] == ["b2"]
    cleaner.ttl = 0.2
    time.sleep(0.3)
    if not isinstance(files, MemoryBackend):  # whose files are dated by this clock
        monkeypatch.setattr(time, "time", lambda: 1.0)  # a wrong clock does not matter
    assert cleaner.clear("draft", 500) == 0
    assert cleaner.clear("draft", 0) == 1
    assert cleaner._worker is not None
    assert [name for name, _ in files.list_files("workers")] == [f"{cleaner._worker.nonce}.json"]
    held.release()


def test_only_one_of_many_takes_a_lease_over(files: Any, clock: Clock) -> None:
    for turn in range(20):
        doc_id = f"a{turn}"
        hold(Leases(files), doc_id)
        waiters = [Leases(files) for _ in range(6)]
        for waiter in waiters:
            assert isinstance(waiter.take("draft", doc_id), Holder)
        clock.now += 301
        barrier = threading.Barrier(len(waiters))
        taken: list[Claim | Holder] = []

        def race(waiter: Leases, doc_id: str = doc_id, barrier: Any = barrier, taken: list[Any] = taken) -> None:
            barrier.wait()
            taken.append(waiter.take("draft", doc_id))

        threads = [threading.Thread(target=race, args=(waiter,)) for waiter in waiters]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(isinstance(each, Claim) for each in taken) == 1


def test_worker_file_is_renewed_in_a_thread(files: Any) -> None:
    leases = Leases(files, ttl=0.2)
    claim = hold(leases)
    assert leases._worker is not None
    first = files.read_file(leases._worker.file).data
    deadline = time.monotonic() + 10
    while files.read_file(leases._worker.file).data == first:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    claim.release()
    while leases._worker.is_renewing:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("without_locks")
def test_local_store_without_trusted_locks_uses_leases(local: LocalBackend) -> None:
    store = DocsStore(local)

    def make(_: DraftTask) -> str:
        assert [doc_id for doc_id, _ in local.list_claims("draft")] == ["a1"]
        assert Path(local.root, ".docid", "claims", "draft", "a1.json").exists()
        assert local.claim_delay == 30.0
        return "text"

    assert store.ensure(ROW, make).outcome == "created"
    assert os.listdir(Path(local.root, ".docid", "claims", "draft")) == []
    assert stat.S_ISREG(Path(local.root, "draft", "a1", "raw.txt").stat().st_mode)
    assert local.sweeper().tidy("draft", 0) == 0


@needs_fork
@pytest.mark.usefixtures("without_locks")
def test_forked_child_has_a_worker_of_its_own(local: LocalBackend) -> None:
    claim = take(local)

    def check() -> None:
        claim.release()
        assert isinstance(local.take_claim("draft", "a1"), Holder)
        take(local, "b2").release()

    assert run_in_child(check) == 0
    assert isinstance(local.take_claim("draft", "a1"), Holder)
    claim.release()
    take(local).release()


# --- Waiting ---------------------------------------------------------------------------------------------------


def test_waiter_gets_the_document_of_the_holder(store: DocsStore) -> None:
    started, calls = threading.Event(), []

    def make(_: DraftTask) -> str:
        calls.append(1)
        started.set()
        time.sleep(0.1)
        return "first"

    first = threading.Thread(target=store.ensure, args=(ROW, make))
    first.start()
    started.wait()
    done = store.ensure(ROW, make)
    first.join()
    assert (done.outcome, done.called, done.document.raw_text, calls) == ("kept", False, "first", [1])


def test_waiter_calls_if_the_holder_failed(store: DocsStore) -> None:
    started = threading.Event()

    def fail(_: DraftTask) -> str:
        started.set()
        time.sleep(0.1)
        raise LookupError("no answer")

    def run() -> None:
        with pytest.raises(LookupError):
            store.ensure(ROW, fail)

    first = threading.Thread(target=run)
    first.start()
    started.wait()
    done = store.ensure(ROW, lambda row: "second")
    first.join()
    assert (done.outcome, done.document.raw_text) == ("created", "second")


def test_waiters_that_replace_pay_once(store: DocsStore) -> None:
    store.write(draft())
    barrier, calls = threading.Barrier(6), []

    def make(_: DraftTask) -> str:
        calls.append(1)
        time.sleep(0.1)
        return f"text {len(calls)}"

    outcomes = []

    def run() -> None:
        barrier.wait()
        outcomes.append(str(store.ensure(ROW, make, if_exists="replace").outcome))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sorted(outcomes), calls) == (["kept"] * 5 + ["replaced"], [1])
    assert len(list(store.history("draft", "a1"))) == 1


def test_long_wait_is_logged(
    store: DocsStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(claiming, "_LOGGED_AFTER", 0.0)
    claim = take(store.backend)
    with caplog.at_level(logging.WARNING, "docid"), pytest.raises(DocumentClaimed):
        store.ensure(ROW, never, claim_timeout=0.1)
    assert [record.getMessage().partition(" process")[0] for record in caplog.records] == ["draft/a1: waiting for"]
    claim.release()


def test_row_inside_its_own_make_is_refused(store: DocsStore) -> None:
    def make(row: DraftTask) -> str:
        return str(store.ensure(row, lambda _: "inner").document.raw_text)

    with pytest.raises(
        DocumentClaimed, match=r"this very call holds its claim; make\(row\) must not ensure its own row"
    ):
        store.ensure(ROW, make, claim_timeout=5)
    assert store.ensure(ROW, lambda row: "later").outcome == "created"


def test_make_may_ensure_its_parent(store: DocsStore) -> None:
    row = EssayTask(task_id="e-1", doc_id="e1", parent_doc_id="a1")

    def make(_: EssayTask) -> str:
        return store.ensure(ROW, lambda row: "draft").document.raw_text + " essay"

    assert store.ensure(row, make, require_parent=False).document.raw_text == "draft essay"


def test_make_waits_only_for_an_earlier_stage(store: DocsStore) -> None:
    store.write(draft())
    store.write(essay())
    rows = {
        "draft": DraftTask(task_id="t-2", doc_id="a2"),
        "essay": EssayTask(task_id="e-2", doc_id="e2", parent_doc_id="a1"),
        "evaluation": EvaluationTask(task_id="v-2", doc_id="v2", parent_doc_id="e1"),
    }
    for stage, row in rows.items():
        holder = store.backend.take_claim(stage, row.doc_id)
        assert isinstance(holder, Claim)

        def make(_: EssayTask, row: Any = row) -> str:
            return store.ensure(row, lambda _: "inner", claim_timeout=0.05).document.raw_text

        outer = EssayTask(task_id="e-3", doc_id="e3", parent_doc_id="a1")
        remedy = (
            "pass a longer claim_timeout" if stage == "draft" else r"the make\(\) of essay/e3 waits only for earlier"
        )
        with pytest.raises(DocumentClaimed, match=remedy):
            store.ensure(outer, make)
        holder.release()


def test_make_does_not_wait_for_another_store(store: DocsStore, tmp_path: Path) -> None:
    other = DocsStore(LocalBackend(tmp_path / "other"))
    claim = take(other.backend)

    def make(_: DraftTask) -> str:
        return other.ensure(ROW, lambda row: "inner").document.raw_text

    with pytest.raises(DocumentClaimed, match="waits only for earlier stages"):
        store.ensure(DraftTask(task_id="t-2", doc_id="a2"), make)
    claim.release()
    assert store.ensure(DraftTask(task_id="t-2", doc_id="a2"), make).document.raw_text == "inner"


def test_two_workers_that_want_each_others_rows_do_not_hang(store: DocsStore) -> None:
    rows = [DraftTask(task_id=f"t-{number}", doc_id=f"a{number}") for number in (1, 2)]
    barrier, answers = threading.Barrier(2), []

    def work(mine: DraftTask, its: DraftTask) -> None:
        def make(_: DraftTask) -> str:
            barrier.wait()
            return store.ensure(its, lambda _: "inner").document.raw_text

        try:
            answers.append(str(store.ensure(mine, make).outcome))
        except DocumentClaimed:
            answers.append("refused")

    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in (rows, rows[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert "refused" in answers


@pytest.fixture(autouse=True)
def no_claims_left() -> Iterator[None]:
    yield
    assert claiming.held.get() == ()


def test_marker_of_a_dead_swap_counts_as_long_as_a_lease(tmp_path: Path) -> None:
    files = LocalBackend(tmp_path / "docs").claims.leases._files
    assert files.swap_file("claims/draft/a1.json", None, b"old")
    assert not files.swap_file("claims/draft/a1.json", None, b"new")
    old = files.read_file("claims/draft/a1.json")
    marker = tmp_path / "docs" / ".docid" / "claims" / "draft" / ".tmp-a1.json"
    marker.touch()
    assert not files.swap_file("claims/draft/a1.json", old, b"new")
    os.utime(marker, (1, 1))
    assert not files.swap_file("claims/draft/a1.json", old, b"new")  # this try removes it
    assert files.swap_file("claims/draft/a1.json", old, b"new")
    assert not files.swap_file("claims/draft/a1.json", old, b"newer")
    assert not marker.exists()

"""Edges of claims, rescue and runs that other tests do not reach."""

from __future__ import annotations

import asyncio
import builtins
import copyreg
import ctypes
import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, DocumentClaimed, DraftTask, MissingParent, StagesConflict
from docid._progress import find_notebook
from docid.backends import Claim, Holder, LocalBackend, MemoryBackend
from docid.errors import copy_error
from docid.store.backends.base import Backend, Sweeper
from docid.store.backends.claims import ProcessClaims
from docid.store.backends.leases import Leases, _describe_process, _is_process
from docid.store.backends.local.directory import LOCK, Directory
from docid.store.backends.local.locks import LockFile
from docid.store.ensure import Attempt, Options
from tests.store_documents import draft, never
from tests.test_backends import ThirdPartyBackend

ROW = DraftTask(task_id="t-1", doc_id="a1")


def test_default_methods_of_a_backend_say_that_it_keeps_no_files() -> None:
    backend: Backend = ThirdPartyBackend()
    with pytest.raises(OSError, match="keeps no files"):
        backend.write_file("a", b"")
    with pytest.raises(OSError, match="keeps no files"):
        backend.remove_file("a")
    assert list(backend.list_files("a")) == []
    assert Sweeper.tidy(None, "draft", 0) == 0  # type: ignore[arg-type]


def test_claims_of_a_process_do_not_pickle_with_their_backend() -> None:
    claims = ProcessClaims()
    claims.take("draft", "a1")
    assert list(pickle.loads(pickle.dumps(claims)).list("draft")) == []


def test_progress_in_a_notebook_needs_widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    class ZMQInteractiveShell:
        pass

    class IPython:
        get_ipython = staticmethod(ZMQInteractiveShell)

    monkeypatch.setitem(sys.modules, "IPython", IPython())
    monkeypatch.setattr("docid._progress.find_spec", lambda name: None)
    assert find_notebook() is None
    pytest.importorskip("rich")
    monkeypatch.setattr("docid._progress.find_spec", lambda name: object())
    assert find_notebook() is not None


@pytest.mark.parametrize("form", ["ensure", "aensure"])
def test_waiter_tries_more_than_once(store: DocsStore, form: str) -> None:
    claim = store.backend.take_claim("draft", "a1")
    assert isinstance(claim, Claim)
    timer = threading.Timer(0.3, claim.release)
    timer.start()
    if form == "ensure":
        done = store.ensure(ROW, lambda row: "text")
    else:
        done = asyncio.run(store.aensure(ROW, lambda row: "text"))
    assert done.outcome == "created"
    timer.join()


def test_lease_that_is_released_or_torn_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    files = MemoryBackend()
    leases, other = Leases(files), Leases(files)
    claim: Any = other.take("draft", "a1")
    monkeypatch.setattr(leases, "_list_claims", lambda _: iter([("a1", 0.0), ("gone", 0.0)]))
    assert [doc_id for doc_id, _ in leases.list("draft")] == ["a1"]
    claim.release()
    files.write_file("workers/odd.json", b'{"host": "%s", "pid": "x"}' % Holder.here().host.encode())
    files.write_file("claims/draft/a1.json", b'{"worker": "odd"}')
    assert isinstance(leases.take("draft", "a1"), Holder)


def test_worker_with_an_odd_pid_is_not_gone() -> None:
    leases = Leases(MemoryBackend())
    claim = leases.take("draft", "a1")
    assert isinstance(claim, Claim)
    assert not leases._is_gone({**_describe_process(), "pid": "x"})
    claim.release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_process_is_known_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert (_is_process(os.getpid()), _is_process(child)) == (True, False)

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert _is_process(child)


def test_document_that_vanishes_before_a_probe_is_no_error(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    backend.probe("draft", "a1", replaces=True)
    assert not backend.exists("draft", "a1")


def test_claim_in_a_stage_that_was_removed_is_taken(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    first = backend.take_claim("draft", "a1")
    assert isinstance(first, Claim)
    first.release()
    (tmp_path / "draft").rmdir()
    assert isinstance(backend.take_claim("draft", "a1"), Claim)


def test_claim_file_of_another_user_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = LocalBackend(tmp_path)
    (tmp_path / "draft").mkdir()
    (tmp_path / "draft" / ".claim-a1").write_bytes(b"{}")
    original = Directory.open

    def refuse(self: Directory, name: str, flags: int, mode: int = 0o666) -> int:
        if flags == LOCK:
            raise PermissionError(13, "Permission denied")
        return original(self, name, flags, mode)

    monkeypatch.setattr(Directory, "open", refuse)
    claim = backend.take_claim("draft", "a1")
    assert isinstance(claim, Claim)
    assert (tmp_path / "draft" / ".claim-a1").read_bytes() == b"{}"
    claim.release()


def test_claim_that_is_probed_all_the_time_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docid.store.backends.local.claims.TURNS", 3)
    monkeypatch.setattr(LockFile, "is_at", lambda *_: False)
    backend = LocalBackend(tmp_path)
    assert backend.take_claim("draft", "a1") == Holder("", 0, "")


def test_new_claim_that_a_command_probes_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = LocalBackend(tmp_path)
    original, turns = LockFile.take, []

    def probed(self: LockFile, *arguments: Any, **options: Any) -> bool:
        turns.append(self.is_new)
        return len(turns) > 1 and original(self, *arguments, **options)

    monkeypatch.setattr(LockFile, "take", probed)
    claim = backend.take_claim("draft", "a1")
    assert isinstance(claim, Claim)
    assert turns == [True, False]
    claim.release()


@pytest.mark.parametrize("cause", ["no ctypes", "fstatfs fails"])
def test_unknown_file_system_has_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: str) -> None:
    backend = LocalBackend(tmp_path)
    if cause == "no ctypes":
        original = builtins.__import__

        def refuse(name: str, *arguments: Any, **options: Any) -> Any:
            if name == "ctypes":
                raise ImportError(name)
            return original(name, *arguments, **options)

        monkeypatch.setattr(builtins, "__import__", refuse)
    else:

        class Libc:
            def __init__(self, _: object) -> None: ...

            def fstatfs(self, *_: object) -> int:
                return -1

        monkeypatch.setattr(ctypes, "CDLL", Libc)
    claim = backend.take_claim("draft", "a1")
    assert isinstance(claim, Claim)
    assert backend.claims.uses_leases
    claim.release()


def test_reply_is_saved_with_the_descriptor_of_its_claim(store: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise OSError(24, "Too many open files")

    def make(_: DraftTask) -> str:
        monkeypatch.setattr(store.backend, "create", fail)
        monkeypatch.setattr(store.backend, "write_file", fail)
        return "paid"

    with pytest.raises(OSError, match="Too many") as caught:
        store.ensure(ROW, make)
    assert "docid" in caught.value.rescued  # type: ignore[attr-defined]
    for each in store.list_rescued():
        each.discard()


def test_worker_that_parses_otherwise_at_the_same_time_is_kept(store: DocsStore) -> None:
    store.write(draft())

    def parse(text: str) -> str:
        store.add_part("draft", "a1", "parsed", "of another worker")
        return text.upper()

    done = store.ensure(ROW, never, parse=parse)
    assert (done.outcome, done.document.parsed_text) == ("kept", "of another worker")


def test_rescue_file_that_vanishes_or_may_not_be_read(store: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError):
        store.ensure(ROW, lambda row: 5)  # type: ignore[arg-type,return-value]

    def refuse(_: str) -> Any:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(store.backend, "read_file", refuse)
        [rescued] = store.list_rescued()
        assert rescued.problem == "the rescue file cannot be read: Permission denied"
        patch.setattr(store.backend, "read_file", lambda _: None)
        assert list(store.list_rescued()) == []


def test_user_without_a_home_has_a_rescue_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOCID_RESCUE_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = DocsStore(tmp_path / "docs")
    assert store._rescue.own.root.startswith(str(tmp_path / "docid"))


def test_stages_declared_during_the_calls_lose_no_reply(store: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    declared: list[int] = []

    def record(stages: object = None) -> None:
        if declared:
            raise StagesConflict("store.json", "draft", "outline", None)

    monkeypatch.setattr(store.manifest, "record", record)

    def make(_: DraftTask) -> str:
        declared.append(1)
        return "paid"

    rows = [ROW, DraftTask(task_id="t-2", doc_id="a2")]
    with pytest.raises(StagesConflict), store.ensure_many(rows, make) as run:
        list(run)
    assert [each.reply.raw_text for each in store.list_rescued()] == ["paid"] * len(declared)


def test_error_that_cannot_be_copied_is_used_itself() -> None:
    class Single(Exception):
        def __reduce__(self) -> Any:
            raise ValueError

    error = Single()
    assert copy_error(error) is error


@pytest.mark.parametrize(
    "error", [OSError(28, "full", "a.txt"), ZeroDivisionError("x"), MissingParent("essay", "e1", "t", "draft", "d1")]
)
def test_copy_of_an_error_is_separate_whatever_pickles_it(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> Any:
        raise TypeError("cannot pickle frames")

    monkeypatch.setitem(copyreg.dispatch_table, type(error), refuse)  # as tblib does
    error.add_note("one")
    copied = copy_error(error)
    copied.add_note("two")
    assert (str(copied), copied.args, copied.__notes__) == (str(error), error.args, ["one", "two"])
    assert error.__notes__ == ["one"]


def test_row_of_a_closed_loop_is_dropped() -> None:
    store = DocsStore(MemoryBackend())
    gate = threading.Event()

    def rows() -> Any:
        yield ROW
        gate.wait(10)
        yield DraftTask(task_id="t-2", doc_id="a2")

    async def make(_: DraftTask) -> str:
        return "text"

    async def main() -> Any:
        run = store.aensure_many(rows(), make)
        await anext(run)
        return run

    run = asyncio.run(main())
    gate.set()
    end = time.monotonic() + 10
    while not run._run.is_idle() or not run._run.is_stopped:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert list(store.backend.list_claims("draft")) == []
    assert list(store.ids("draft")) == ["a1"]


def test_call_that_is_prepared_while_the_run_is_cancelled_is_dropped() -> None:
    store = DocsStore(MemoryBackend())

    async def main() -> Any:
        run = store.aensure_many([ROW], lambda row: "text")
        run._calls.bind()
        run._calls.cancel()
        run._run._slots = run._run._open = 1
        run._calls._spawn(run._run, Attempt(store, ROW, never, Options()), ())
        return run._run

    assert asyncio.run(main()).wait_until_idle(10)


def test_cancelled_call_whose_reply_cannot_be_stored_names_the_file(
    store: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.backend, "create", fail)

    def make(_: DraftTask) -> str:
        time.sleep(0.3)
        return "paid"

    async def main() -> None:
        task = asyncio.create_task(store.aensure(ROW, make))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.rescued == next(store.list_rescued()).location  # type: ignore[attr-defined]

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signals")
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_during_close_is_raised_after_the_wait(times: int) -> None:
    store = DocsStore(MemoryBackend())
    began = threading.Event()

    def make(_: DraftTask) -> str:
        began.set()
        time.sleep(1.0)
        return "text"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        run = store.ensure_many([ROW], make)
        run._run.start()
        began.wait(10)
        signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2 if times == 2 else 0)
        with pytest.raises(KeyboardInterrupt):
            run.close()
        signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert store.exists("draft", "a1") == (times == 1)
    assert run._run.wait_until_idle(10)
    with pytest.raises(DocumentClaimed):
        raise DocumentClaimed("draft", "a1", "", None, "")


def test_async_waiter_gets_the_document_of_the_holder(store: DocsStore) -> None:
    claim = store.backend.take_claim("draft", "a1")
    assert isinstance(claim, Claim)

    def finish() -> None:
        time.sleep(0.2)
        store.write(draft())
        claim.release()

    other = threading.Thread(target=finish)
    other.start()
    assert asyncio.run(store.aensure(ROW, never)).outcome == "kept"
    other.join()


def test_lease_that_others_always_take_first_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    files = MemoryBackend()
    leases = Leases(files)
    monkeypatch.setattr(files, "swap_file", lambda *_: False)
    assert leases.take("draft", "a1") == Holder("", 0, "")


def test_claim_file_that_somebody_deleted_is_released(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    claim = backend.take_claim("draft", "a1")
    assert isinstance(claim, Claim)
    (tmp_path / "draft" / ".claim-a1").unlink()
    other = backend.take_claim("draft", "a1")
    claim.release()
    assert isinstance(other, Claim)
    assert (tmp_path / "draft" / ".claim-a1").exists()
    other.release()


def test_interrupt_in_a_row_or_a_parser_of_many_is_raised(store: DocsStore) -> None:
    class Row:
        doc_run_id = None

        @property
        def doc_id(self) -> str:
            raise SystemExit(3)

    def parse(_: str) -> str:
        raise SystemExit(4)

    rows: list[Any] = [Row()]
    with pytest.raises(SystemExit), store.ensure_many(rows, lambda row: "text") as run:
        list(run)
    with pytest.raises(SystemExit), store.ensure_many([ROW], lambda row: "text", parse=parse) as run:
        list(run)
    assert [each.reply.raw_text for each in store.list_rescued()] == ["text"]


def test_reply_is_stored_although_the_task_is_cancelled_again_and_again(
    store: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = store.backend.create

    def slowly(*arguments: Any) -> bool:
        time.sleep(0.3)
        return create(*arguments)

    def make(_: DraftTask) -> str:
        time.sleep(0.2)
        return "paid"

    monkeypatch.setattr(store.backend, "create", slowly)

    async def main() -> None:
        task = asyncio.create_task(store.aensure(ROW, make))
        for _ in range(8):
            await asyncio.sleep(0.05)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert list(store.ids("draft")) == ["a1"]

    asyncio.run(main())

"""Callers that do odd things: they ensure documents in their prompts and parsers, fork, and raise odd exceptions."""

from __future__ import annotations

import asyncio
import copyreg
import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from docid import ConvertedError, DocsStore, DocumentClaimed, DraftTask, EssayTask, InvalidReply, Reply, TooManyFailures
from docid.backends import LocalBackend, MemoryBackend
from docid.store import many
from tests.drivers import DRIVERS, Nap, Sync

ROOT = Path(__file__).parents[1]
ROWS = [DraftTask(task_id=f"t-{number}", doc_id=f"d{number}") for number in range(100)]
ROW = ROWS[0]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(params=DRIVERS, ids=lambda driver: driver.name)
def driver(request: pytest.FixtureRequest) -> Sync:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["prompt", "metadata", "parse"])
def test_function_that_ensures_its_own_row_is_refused(store: DocsStore, driver: Sync, name: str) -> None:
    def ensure_itself(_: object) -> Any:
        return store.ensure(ROW, lambda row: "inner").document.raw_text

    options: dict[str, Any] = {name: ensure_itself}
    if name == "parse":
        done = driver.one(store, ROW, lambda *_: "text", **options)
        assert "DocumentClaimed" in str(done.parse_error)
    else:
        with pytest.raises(DocumentClaimed, match="this very call"):
            driver.one(store, ROW, lambda *_: "text", **options)
    [result] = driver.run(store, [ROWS[1]], lambda *_: "text", parse=ensure_itself)
    assert result.outcome == "created"


def test_prompts_that_want_each_other_do_not_hang(store: DocsStore) -> None:
    barrier, answers = threading.Barrier(2), []

    def work(mine: DraftTask, its: DraftTask) -> None:
        def render(_: DraftTask) -> str:
            barrier.wait(10)
            return store.ensure(its, lambda row: "inner").document.raw_text

        try:
            answers.append(str(store.ensure(mine, lambda row, prompt: prompt, prompt=render).outcome))
        except DocumentClaimed:
            answers.append("refused")

    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in (ROWS[:2], ROWS[1::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert "refused" in answers


def test_parser_of_many_rows_waits_for_no_document(store: DocsStore, driver: Sync) -> None:
    """It runs in the thread that would store the document."""
    store.write_many([])
    claim: Any = store.backend.take_claim("draft", "d9")

    def parse(_: str) -> str:
        return store.ensure(ROWS[9], lambda row: "x").document.raw_text

    [done] = driver.run(
        store,
        [EssayTask(task_id="e", doc_id="e1", parent_doc_id="d0")],
        lambda row: "text",
        parse=parse,
        require_parent=False,
    )
    assert "waits for no document" in str(done.parse_error)
    claim.release()


class Wrapped:
    """A plain function that returns a coroutine."""

    def __init__(self, call: Any) -> None:
        self.call = call

    def __call__(self, row: DraftTask) -> Any:
        return self.call(row)


def test_plain_function_that_returns_a_coroutine_is_awaited(store: DocsStore) -> None:
    async def call(row: DraftTask) -> str:
        with pytest.raises(DocumentClaimed):
            await store.aensure(row, lambda _: "inner")
        return "text"

    async def main() -> None:
        assert (await store.aensure(ROW, Wrapped(call))).outcome == "created"
        async with store.aensure_many(ROWS[1:4], Wrapped(call)) as run:
            assert {str(done.outcome) async for done in run} == {"created"}

    asyncio.run(main())


@pytest.mark.parametrize("made", [None, Reply("x", metadata={"k": {1}})])
def test_replies_that_cannot_be_stored_stop_the_run(driver: Sync, made: Any) -> None:
    calls: list[object] = []

    def make(row: DraftTask) -> Any:
        calls.append(row)
        return made

    with pytest.raises(TooManyFailures):
        driver.run(DocsStore(MemoryBackend()), ROWS, make, concurrency=2, stop_after=5)
    assert len(calls) < 20


class Odd(Exception):
    """An exception without a text, which pickles and does not unpickle."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize("error", [Odd(code=1), Silent()])
def test_odd_exception_of_make_is_in_its_result(driver: Sync, error: Exception) -> None:
    def make(_: DraftTask) -> str:
        raise error

    with pytest.raises(TooManyFailures):
        driver.run(DocsStore(MemoryBackend()), ROWS, make, stop_after=3)
    [done] = driver.run(DocsStore(MemoryBackend()), [ROW], make)
    assert done.error is error


def test_result_with_an_error_that_does_not_pickle_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(copyreg.dispatch_table, Odd, raising=False)  # tblib, which Dask imports, makes it pickle

    def fail(_: DraftTask) -> str:
        raise Odd(code=529)

    with DocsStore(tmp_path).ensure_many([ROW], fail) as run:
        [done] = run
    copy = pickle.loads(pickle.dumps(done))
    assert copy.error == ConvertedError("Odd", "code 529") or str(copy.error) == "Odd: code 529"
    assert (copy.row, copy.outcome) == (ROW, "failed")
    with pytest.raises(ConvertedError):
        copy.unwrap()


class Torn(str):
    """A reply whose text cannot be had."""

    __slots__ = ()

    @property
    def raw_text(self) -> str:
        raise ValueError("torn")


class NoReply:
    @property
    def raw_text(self) -> str:
        raise ValueError("torn")


def test_object_whose_attributes_raise_is_refused_and_saved(store: DocsStore, driver: Sync) -> None:
    [done] = driver.run(store, [ROW], lambda row: NoReply())
    assert isinstance(done.error, InvalidReply)
    assert len(list(store.list_rescued())) == 1
    [done] = driver.run(store, [ROWS[1]], lambda row: Torn("text"))
    assert done.document.raw_text == "text"


def test_errors_of_one_group_name_their_own_replies(
    store: DocsStore, driver: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(store.backend, "create_many", fail)
    done = driver.run(store, ROWS[:6], lambda row: Nap(0.05, lambda: "paid"), concurrency=6)
    assert len({each.error.rescued for each in done}) == 6  # type: ignore[union-attr]


def test_fault_while_a_group_is_written_ends_the_run(
    store: DocsStore, driver: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(many.Run, "_write_group", fail)
    with pytest.raises(ZeroDivisionError):
        driver.run(store, ROWS[:3], lambda row: "paid")
    assert len(list(store.list_rescued())) >= 1


def test_task_factory_that_raises_fails_its_row(store: DocsStore) -> None:
    async def make(_: DraftTask) -> str:
        return "text"

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()

        def factory(loop: Any, coroutine: Any, **options: Any) -> Any:
            if options.get("context") is not None:
                raise TypeError("no context")
            return asyncio.Task(coroutine, loop=loop)

        loop.set_task_factory(factory)
        async with store.aensure_many([ROW], make) as run:
            return [str(done.error) async for done in run]

    assert asyncio.run(main()) == ["no context"]


def test_async_iterator_of_rows_is_refused(store: DocsStore) -> None:
    async def stream() -> Any:
        yield ROW

    with pytest.raises(TypeError, match="rows: an async iterator; expected an iterator"):
        store.aensure_many(stream(), lambda row: "text")


@pytest.mark.parametrize("options", [{"parse": 5}, {"claim_timeout": "3"}])
def test_wrong_option_costs_no_call(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        DocsStore("memory://").ensure(ROW, lambda row: pytest.fail("paid"), **options)


def test_nested_runs_share_the_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalBackend, "find_most_claims", lambda _: 8)
    monkeypatch.setattr(many, "_RETRY_SECONDS", 0.02)
    store = DocsStore(tmp_path)
    essays = [EssayTask(task_id=f"e-{number}", doc_id=f"e{number}", parent_doc_id="d0") for number in range(20)]

    def make(row: EssayTask) -> str:
        number = int(row.task_id[2:])
        with store.ensure_many(ROWS[number : number + 5], lambda row: row.task_id, concurrency=5) as run:
            return " ".join(done.unwrap().raw_text for done in run)

    with store.ensure_many(essays, make, concurrency=8, require_parent=False) as run:
        assert {str(done.outcome) for done in run} == {"created"}


def work_in_child(root: str) -> None:
    async def make(_: DraftTask) -> str:
        return "text"

    assert asyncio.run(STORES[root].aensure(ROWS[1], make)).outcome == "created"


STORES: dict[str, DocsStore] = {}


@needs_fork
def test_forked_child_of_an_async_program_works(tmp_path: Path) -> None:
    async def make(_: DraftTask) -> str:
        return "text"

    store = STORES[str(tmp_path)] = DocsStore(tmp_path)
    asyncio.run(store.aensure(ROW, make))
    child = multiprocessing.get_context("fork").Process(target=work_in_child, args=(str(tmp_path),))
    child.start()
    child.join(30)
    assert child.exitcode == 0


@needs_fork
def test_child_that_is_forked_in_a_run_ends(tmp_path: Path) -> None:
    script = f"""
        import os, sys
        from docid import DocsStore, DraftTask
        rows = [DraftTask(task_id=f"t-{{n}}", doc_id=f"d{{n}}") for n in range(20)]
        with DocsStore({str(tmp_path)!r}).ensure_many(rows, lambda row: "text", concurrency=2) as run:
            next(run)
            child = os.fork()
            if child == 0:
                assert list(run) == []
                run.close()
                sys.exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            assert len(list(run)) == 19
    """
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, env=environment, timeout=60)


@pytest.mark.parametrize("kind", ["coroutine", "function"])
def test_process_that_ends_after_an_async_break_stores_what_was_returned(tmp_path: Path, kind: str) -> None:
    script = f"""
        import asyncio, os, time
        from docid import DocsStore, DraftTask
        rows = [DraftTask(task_id=f"t-{{n}}", doc_id=f"d{{n}}") for n in range(50)]

        async def amake(row):
            os.write(1, f"{{row.doc_id}}\\n".encode())
            return "text"

        def make(row):
            time.sleep(0.02)
            os.write(1, f"{{row.doc_id}}\\n".encode())
            return "text"

        async def main():
            store = DocsStore({str(tmp_path)!r})
            async for _ in store.aensure_many(rows, {"amake" if kind == "coroutine" else "make"}, concurrency=8):
                break

        asyncio.run(main())
    """
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, check=True, env=environment, timeout=60, stdout=subprocess.PIPE, text=True)
    assert set(done.stdout.split()) == set(DocsStore(tmp_path).ids("draft"))

"""`ensure_many`, `aensure` and `aensure_many`: the same tests on all forms."""

from __future__ import annotations

import contextvars
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from docid import (
    DocsStore,
    DocumentClaimed,
    DraftTask,
    EssayTask,
    InvalidName,
    InvalidReply,
    LineageConflict,
    MissingParent,
    Reply,
    Stages,
    StagesConflict,
    TooManyFailures,
)
from docid.backends import Claim, LocalBackend, MemoryBackend
from docid.backends.objects import ObjectsBackend
from docid.store import many
from tests.drivers import DRIVERS, Gauge, Nap, Sync
from tests.store_documents import draft, never


@pytest.fixture(params=DRIVERS, ids=lambda driver: driver.name)
def driver(request: pytest.FixtureRequest) -> Sync:
    return request.param  # type: ignore[no-any-return]


def make_rows(count: int) -> list[DraftTask]:
    return [DraftTask(task_id=f"t-{number}", doc_id=f"d{number}") for number in range(count)]


def upper(row: DraftTask) -> str:
    return row.task_id.upper()


def test_every_row_gets_its_document(store: DocsStore, driver: Sync) -> None:
    rows = make_rows(50)
    store.write(draft("d3", "t-3", raw_text="before"))
    calls: Counter[str] = Counter()

    def make(row: DraftTask, prompt: str) -> Reply:
        calls[row.doc_id] += 1
        return Reply(prompt.upper(), metadata={"n": calls[row.doc_id]})

    done = driver.run(
        store,
        iter(rows),
        make,
        prompt=lambda row: f"write {row.task_id}",
        metadata={"k": 1},
        parse=str.lower,
        run_id="r",
    )
    assert sorted(each.row.doc_id for each in done) == sorted(row.doc_id for row in rows)
    assert Counter(str(each.outcome) for each in done) == {"created": 49, "completed": 1}
    assert calls == {row.doc_id: 1 for row in rows if row.doc_id != "d3"}
    document = store.read("draft", "d7")
    assert (document.raw_text, document.parsed_text, document.prompt_text) == ("WRITE T-7", "write t-7", "write t-7")
    assert (document.metadata, document.run_id) == ({"k": 1, "n": 1}, "r")
    again = driver.run(store, rows, never, prompt="x")
    assert {str(each.outcome) for each in again} == {"kept"}
    assert list(store.backend.list_claims("draft")) == []


def test_no_rows_are_fine(store: DocsStore, driver: Sync) -> None:
    assert driver.run(store, [], never) == []


def test_one_row_is_ensured(store: DocsStore, driver: Sync) -> None:
    row = make_rows(1)[0]
    done = driver.one(store, row, lambda row, prompt: Nap(0.01, prompt.upper), prompt="once")
    assert (done.outcome, done.called, done.document.raw_text) == ("created", True, "ONCE")
    assert driver.one(store, row, never).outcome == "kept"
    assert driver.one(store, row, lambda row: "twice", if_exists="replace").outcome == "replaced"
    claim = store.backend.take_claim("draft", "d0")
    assert isinstance(claim, Claim)
    assert driver.one(store, row, never, if_exists="replace", claim="skip").outcome == "claimed"
    with pytest.raises(DocumentClaimed):
        driver.one(store, row, never, if_exists="replace", claim_timeout=0.05)
    claim.release()
    with pytest.raises(LookupError, match="no answer"):
        driver.one(store, row, fail, if_exists="replace")
    with pytest.raises(InvalidReply):
        driver.one(store, row, lambda row: None, if_exists="replace")
    assert list(store.backend.list_claims("draft")) == []


def fail(*_: object) -> str:
    raise LookupError("no answer")


def test_calls_run_at_once_up_to_the_limit(driver: Sync) -> None:
    store, gauge = DocsStore(MemoryBackend()), Gauge()

    def make(row: DraftTask) -> Nap:
        gauge.enter()

        def finish() -> str:
            gauge.leave()
            return row.task_id

        return Nap(0.05, finish)

    began = time.monotonic()
    assert len(driver.run(store, make_rows(40), make, concurrency=10)) == 40
    assert 0.2 <= time.monotonic() - began < 2
    assert gauge.most == 10


@pytest.mark.parametrize("concurrency", [1, 3])
def test_slow_consumer_stops_new_calls(driver: Sync, concurrency: int) -> None:
    store = DocsStore(MemoryBackend())
    calls: Counter[str] = Counter()
    taken = 0

    def take(_: object) -> None:
        nonlocal taken
        taken += 1
        time.sleep(0.02)
        assert calls.total() - taken <= 2 * concurrency + 1

    def make(row: DraftTask) -> str:
        calls[row.doc_id] += 1
        return "text"

    assert len(driver.run(store, make_rows(25), make, concurrency=concurrency, each=take)) == 25


def test_rows_are_read_as_they_are_needed_in_one_thread(driver: Sync) -> None:
    store, threads, pulled, taken = DocsStore(MemoryBackend()), set(), 0, 0

    def stream() -> Iterator[DraftTask]:
        nonlocal pulled
        for row in make_rows(60):
            threads.add(threading.get_ident())
            pulled += 1
            assert pulled - taken <= 2 * 4 + 1
            yield row

    def take(_: object) -> None:
        nonlocal taken
        taken += 1

    assert len(driver.run(store, stream(), upper, concurrency=4, each=take)) == 60
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_error_of_a_row_is_in_its_result(store: DocsStore, driver: Sync) -> None:
    store.write(draft("d1", "another"))
    rows: list[Any] = [
        *make_rows(4),
        DraftTask(task_id="t"),
        "not a row",
        EssayTask(task_id="e", doc_id="e1", parent_doc_id="x"),
    ]

    def make(row: DraftTask) -> Any:
        return {"d0": "text", "d2": 5}.get(row.doc_id) or fail()

    done = {str(getattr(each.row, "doc_id", each.row)): each for each in driver.run(store, rows, make)}
    assert {key: type(each.error) for key, each in done.items()} == {
        "d0": type(None),
        "d1": LineageConflict,
        "d2": InvalidReply,
        "d3": LookupError,
        "": InvalidName,
        "not a row": TypeError,
        "e1": MissingParent,
    }
    assert {str(each.outcome) for key, each in done.items() if key != "d0"} == {"failed"}
    with pytest.raises(LineageConflict):
        done["d1"].unwrap()
    assert getattr(done["d2"].error, "rescued", "") == next(store.list_rescued()).location
    assert list(store.backend.list_claims("draft")) == []
    assert repr(done["not a row"]).startswith("<Ensured failed str/: TypeError: row: expected a task row")
    assert "expected a task row" in done["not a row"]._repr_html_()


def test_many_failures_in_a_row_stop_the_run(store: DocsStore, driver: Sync) -> None:
    calls: list[str] = []

    def make(row: DraftTask) -> str:
        calls.append(row.doc_id)
        raise PermissionError("the key was revoked")

    seen: list[object] = []
    with pytest.raises(TooManyFailures, match="5 rows in a row failed.*the key was revoked") as caught:
        driver.run(store, make_rows(500), make, concurrency=2, stop_after=5, each=seen.append)
    assert isinstance(caught.value.__cause__, PermissionError)
    assert 5 <= len(seen) == len(calls) <= 5 + 4
    assert not list(store.backend.list_claims("draft"))
    assert len(driver.run(store, make_rows(30), make, concurrency=2, stop_after=None)) == 30


def test_success_between_failures_goes_on(driver: Sync) -> None:
    store = DocsStore(MemoryBackend())
    done = driver.run(
        store, make_rows(40), lambda row: "x" if int(row.task_id[2:]) % 4 == 3 else fail(), concurrency=1, stop_after=4
    )
    assert Counter(str(each.outcome) for each in done) == {"failed": 30, "created": 10}


def test_claimed_rows_are_looked_at_again(store: DocsStore, driver: Sync) -> None:
    rows = make_rows(12)
    claims = [store.backend.take_claim("draft", row.doc_id) for row in rows[:6]]

    def release() -> None:
        time.sleep(0.2)
        for claim, row in zip(claims, rows, strict=False):
            assert isinstance(claim, Claim)
            if row.doc_id != "d0":
                store.write(draft(row.doc_id, row.task_id, raw_text="of another worker"))
            claim.release()

    other = threading.Thread(target=release)
    other.start()
    done = driver.run(store, rows, upper, concurrency=2)
    other.join()
    assert Counter(str(each.outcome) for each in done) == {"created": 7, "kept": 5}
    assert {each.row.doc_id for each in done[:5]} <= {row.doc_id for row in rows[6:]}  # these did not wait


def test_claimed_rows_are_skipped_or_time_out(store: DocsStore, driver: Sync) -> None:
    claim = store.backend.take_claim("draft", "d1")
    assert isinstance(claim, Claim)
    outcomes = {each.row.doc_id: str(each.outcome) for each in driver.run(store, make_rows(3), upper, claim="skip")}
    assert outcomes == {"d0": "created", "d1": "claimed", "d2": "created"}
    [done] = [each for each in driver.run(store, make_rows(3), upper, claim_timeout=0.05) if each.error is not None]
    assert (done.row.doc_id, type(done.error)) == ("d1", DocumentClaimed)
    claim.release()
    assert {str(each.outcome) for each in driver.run(store, make_rows(3), upper, claim="off")} == {"kept", "created"}


def test_row_that_comes_twice_is_made_once(store: DocsStore, driver: Sync) -> None:
    calls: list[str] = []

    def make(row: DraftTask) -> Nap:
        calls.append(row.doc_id)
        return Nap(0.05, lambda: "text")

    done = driver.run(store, [*make_rows(3), *make_rows(3)], make, concurrency=6)
    assert (len(calls), Counter(str(each.outcome) for each in done)) == (3, {"created": 3, "kept": 3})


def test_only_so_many_rows_are_put_aside(driver: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "_ASIDE", 3)
    store = DocsStore(MemoryBackend())
    rows = make_rows(8)
    claims = [store.backend.take_claim("draft", row.doc_id) for row in rows[:5]]

    def release() -> None:
        for claim in claims:
            assert isinstance(claim, Claim)
            claim.release()

    timer = threading.Timer(0.2, release)
    timer.start()
    assert {str(each.outcome) for each in driver.run(store, rows, upper, concurrency=2)} == {"created"}
    timer.join()


def test_replace_is_resumed_by_its_run_id(store: DocsStore, driver: Sync) -> None:
    rows = make_rows(6)
    driver.run(store, rows, upper, run_id="first")
    with pytest.raises(ValueError, match="run_id: if_exists='replace' needs it with many rows"):
        driver.run(store, rows, upper, if_exists="replace")
    calls: list[str] = []

    def make(row: DraftTask) -> str:
        calls.append(row.doc_id)
        return f"again {row.doc_id}"

    for part in (rows[:4], rows):
        driver.run(store, part, make, if_exists="replace", run_id="second")
    assert sorted(calls) == [row.doc_id for row in rows]
    assert [len(list(store.history("draft", row.doc_id))) for row in rows] == [1] * 6


def test_changed_documents_are_made_again(store: DocsStore, driver: Sync) -> None:
    rows = make_rows(4)
    driver.run(store, rows, lambda row, prompt: prompt, prompt=lambda row: f"v1 {row.task_id}")
    done = driver.run(
        store,
        rows,
        lambda row, prompt: prompt,
        prompt=lambda row: f"v{1 + (row.doc_id == 'd2')} {row.task_id}",
        if_changed="replace",
    )
    assert {each.row.doc_id: str(each.outcome) for each in done} == {
        "d0": "kept",
        "d1": "kept",
        "d2": "replaced",
        "d3": "kept",
    }


def test_loser_of_a_race_is_kept_and_its_reply_rescued(store: DocsStore, driver: Sync) -> None:
    def make(row: DraftTask) -> str:
        if row.doc_id == "d1":
            store.write(draft("d1", "t-1", raw_text="first"))
        return "mine"

    done = {each.row.doc_id: each for each in driver.run(store, make_rows(4), make)}
    assert (done["d1"].outcome, done["d1"].document.raw_text) == ("kept", "first")
    assert done["d1"].rescued == next(store.list_rescued()).location


def test_other_stages_of_the_store_stop_the_run(driver: Sync) -> None:
    backend = MemoryBackend()
    DocsStore(backend, stages=Stages({"draft": None, "essay": None})).manifest.declare()
    calls: list[str] = []
    with pytest.raises(StagesConflict):
        driver.run(DocsStore(backend, stages=Stages.chain("draft", "essay")), make_rows(50), calls.append)
    assert calls == []


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_context_reaches_every_call(driver: Sync) -> None:
    token = variable.set("set")
    seen = set()

    def render(_: DraftTask) -> str:
        seen.add(variable.get())
        return "p"

    def make(_: DraftTask, prompt: str) -> str:
        seen.add(variable.get())
        return prompt

    try:
        driver.run(DocsStore(MemoryBackend()), make_rows(5), make, prompt=render)
    finally:
        variable.reset(token)
    assert seen == {"set"}


def test_nested_runs_end(store: DocsStore, driver: Sync) -> None:
    """A call ensures the drafts that its essay is made from, as another call does at the same time."""
    drafts = make_rows(3)
    essays = [
        EssayTask(task_id=f"e-{number}", doc_id=f"e{number}", parent_doc_id=f"d{number % 3}") for number in range(6)
    ]

    def make(row: EssayTask) -> str:
        with store.ensure_many(drafts, upper, concurrency=2) as run:
            return "".join(sorted(each.unwrap().raw_text for each in run))

    inner = DRIVERS[0] if driver.name == "asyncio" else driver
    done = inner.run(store, essays, make, concurrency=3, require_parent=False)
    assert {each.document.raw_text for each in done} == {"T-0T-1T-2"}


def test_row_inside_its_own_run_is_refused(store: DocsStore, driver: Sync) -> None:
    row = make_rows(1)[0]

    def make(_: DraftTask) -> str:
        with store.ensure_many([row], upper) as run:
            return "".join(each.unwrap().raw_text for each in run)

    [done] = driver.run(store, [row], make)
    assert isinstance(done.error, DocumentClaimed)


def count_groups(store: DocsStore, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of documents of each group."""
    groups: list[int] = []
    create_many = store.backend.create_many

    def counted(documents: Any) -> Any:
        groups.append(len(documents))
        return create_many(documents)

    monkeypatch.setattr(store.backend, "create_many", counted)
    return groups


@pytest.mark.parametrize("backend", ["local", "objects"])
def test_documents_are_written_together(
    driver: Sync, backend: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DocsStore(tmp_path / "docs" if backend == "local" else ObjectsBackend("memory://"))
    groups = count_groups(store, monkeypatch)
    rows = make_rows(120)
    done = driver.run(store, rows, lambda row: Nap(0.1, lambda: "x"), concurrency=60)
    assert len(done) == 120
    assert sum(groups) == 120
    assert len(groups) <= 60
    assert max(groups) > 5


def test_large_texts_are_written_in_smaller_groups(driver: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "_GROUP_BYTES", 1000)
    store = DocsStore(MemoryBackend())
    groups = count_groups(store, monkeypatch)
    driver.run(store, make_rows(30), lambda row: "x" * 400, concurrency=30)
    assert max(groups) <= 3


@pytest.mark.parametrize(
    ("options", "error", "problem"),
    [
        ({"concurrency": 0}, ValueError, "concurrency: expected a whole number, 1 or more, got 0"),
        ({"concurrency": True}, ValueError, "concurrency: expected a whole number"),
        ({"stop_after": 0}, ValueError, "stop_after: expected a whole number, 1 or more, got 0"),
        ({"progress": 5}, TypeError, "progress: expected None, True or a function, got int"),
        ({"claim": "later"}, ValueError, "claim: expected"),
        ({"prompt": 5}, TypeError, "prompt: expected a str"),
    ],
)
def test_wrong_argument_is_refused_before_any_row(
    driver: Sync, options: dict[str, Any], error: type[Exception], problem: str
) -> None:
    def stream() -> Iterator[DraftTask]:
        yield never()

    with pytest.raises(error, match=problem):
        driver.run(DocsStore("memory://"), stream(), upper, **options)


def test_concurrency_beyond_the_open_files_is_refused(
    driver: Sync, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DocsStore(tmp_path / "docs")
    monkeypatch.setattr(LocalBackend, "find_most_claims", lambda _: 10)
    with pytest.raises(
        ValueError, match=r"concurrency: 64, but this process can hold 10 claims at once; raise the limit"
    ):
        driver.run(store, make_rows(3), upper, concurrency=64)
    assert len(driver.run(store, make_rows(30), lambda row: Nap(0.01, lambda: "x"), concurrency=10)) == 30


def test_progress_is_called_with_counts(driver: Sync) -> None:
    counts: list[tuple[int, int | None]] = []
    driver.run(DocsStore("memory://"), make_rows(3), upper, progress=lambda done, total: counts.append((done, total)))
    assert counts == [(1, 3), (2, 3), (3, 3)]
    counts.clear()
    driver.run(DocsStore("memory://"), iter(make_rows(2)), upper, progress=lambda *count: counts.append(count))
    assert counts == [(1, None), (2, None)]


def test_progress_bar_goes_to_standard_error(
    driver: Sync, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docid._progress._INTERVAL", 0.0)
    driver.run(DocsStore("memory://"), make_rows(3), upper, progress=True)
    found = capsys.readouterr()
    assert (found.out, found.err.splitlines()[-1]) == ("", "docid: rows: 3 of 3")
    driver.run(DocsStore("memory://"), make_rows(3), upper, progress=False)
    assert capsys.readouterr().err == ""


def test_results_hold_what_ensure_returns(store: DocsStore, driver: Sync) -> None:
    [row] = make_rows(1)
    [done] = driver.run(store, [row], upper)
    single = store.ensure(attrs.evolve(row, task_id="t-9", doc_id="d9"), upper)
    assert (done.outcome, done.called, done.location) == (single.outcome, True, store.location("draft", "d0"))
    assert type(done) is type(single)

"""Exceptions that a signal handler raises at any file-system call, as the time limits of several tools do."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os.path import join
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, Document, DraftTask, audit, read_tasks, write_tasks
from docid.copying import copy
from docid.curate import migrate, replay, scores
from docid.repair import repair
from docid.store.backends.base import NewDocument
from docid.store.backends.local.sweep import LocalSweeper
from docid.testing import new_document
from tests.faults.calls import Act, intercept_calls
from tests.faults.test_kills import NEW, OLD, add_part, create, read_all, replace, swap_record
from tests.local_documents import draft, interrupt_replace

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs signals")


class SoftTimeLimitExceeded(Exception):
    """As the one of Celery: not an OSError."""


LIMITS: list[Callable[[], Exception]] = [lambda: TimeoutError("the time is up"), SoftTimeLimitExceeded]


def raise_at(call: int, limit: Exception) -> Act:
    """Return an act that raises an exception at its `call`-th call: after it, unless it opens something."""

    def act(number: int, name: str, original: Any, args: Any, options: Any) -> Any:
        if number == call and name in {"open", "scandir"}:
            raise limit
        try:
            return original(*args, **options)
        finally:
            if number == call:
                raise limit

    return act


def check_every_call(prepare: Callable[[], object], change: Callable[[], object], check: Callable[[], None]) -> None:
    """Raise each limit at each call of a change: it must pass unchanged, and the change must succeed afterwards."""
    prepare()
    change()  # imports that happen only once are no calls of the change
    prepare()
    names = []

    def note(number: int, name: str, original: Any, args: Any, options: Any) -> Any:
        names.append((name, args))
        return original(*args, **options)

    with intercept_calls(note):
        change()
    calls = len(names)
    assert calls > 3
    for make in LIMITS:
        for call in range(1, calls + 1, 1 if make is LIMITS[0] else 5):
            prepare()
            limit = make()
            raised: BaseException | None = None
            with intercept_calls(raise_at(call, limit)):
                try:
                    change()
                except Exception as error:  # noqa: BLE001 - compared below
                    # Free the frames now: their generators close directories, which would count as calls.
                    raised = error.with_traceback(None)
                    raised.__context__ = None
            assert raised is limit, (call, names[max(call - 4, 0) : call])
            assert raised.__cause__ is None
            check()


@pytest.mark.parametrize("change", [create, replace, add_part, swap_record], ids=lambda change: change.__name__)
def test_time_limit_passes_through_every_call_of_a_change(tmp_path: Path, change: Callable[[DocsStore], None]) -> None:
    stores: list[DocsStore] = []

    def prepare() -> None:
        stores.append(DocsStore(tmp_path / f"{len(stores)}", durability="none"))
        if change is not create:
            stores[-1].write(OLD)

    def check() -> None:
        assert read_all(stores[-1]).get("a1") in (None if change is create else OLD, goal)
        change(stores[-1])
        assert read_all(stores[-1])["a1"] == goal
        assert all(step.done for step in repair(stores[-1], apply=True, stale_after=0))
        assert list(repair(stores[-1], stale_after=0)) == []

    prepare()
    change(stores[-1])
    goal = stores[-1].read("draft", "a1")
    check_every_call(prepare, lambda: change(stores[-1]), check)


def test_time_limit_passes_through_a_batch(tmp_path: Path) -> None:
    stores: list[DocsStore] = []
    new: list[NewDocument] = []

    def prepare() -> None:
        stores.append(DocsStore(tmp_path / f"{len(stores)}", durability="none"))
        stores[-1].write(OLD)
        new[:] = [new_document("b2"), new_document("c3")]

    def check() -> None:
        assert set(read_all(stores[-1])) <= {"a1", "b2", "c3"}
        assert all(step.done for step in repair(stores[-1], apply=True, stale_after=0))
        assert list(repair(stores[-1], stale_after=0)) == []

    check_every_call(prepare, lambda: stores[-1].backend._create_together(new), check)  # type: ignore[attr-defined]


def test_time_limit_passes_through_reading(tmp_path: Path) -> None:
    store = DocsStore(tmp_path / "docs")
    store.write(OLD)
    store.write(NEW, if_exists="replace")

    def read() -> None:
        assert read_all(store) == {"a1": NEW}
        assert list(store.history("draft", "a1")) == [OLD]
        assert store.backend.listing("draft", "a1") is not None
        assert store.ensure(DraftTask(task_id="t-1", doc_id="a1"), lambda _: OLD).outcome == "kept"

    check_every_call(lambda: None, read, lambda: None)


def test_time_limit_passes_through_settle(tmp_path: Path) -> None:
    stores: list[DocsStore] = []

    def prepare() -> None:
        stores.append(DocsStore(tmp_path / f"{len(stores)}", durability="none"))
        interrupt_replace(stores[-1], new_in_place=False)

    def check() -> None:
        stores[-1].backend.settle("draft", "a1")
        assert read_all(stores[-1])["a1"].raw_text == "once"

    check_every_call(prepare, lambda: stores[-1].backend.settle("draft", "a1"), check)


def test_time_limit_passes_through_repair(tmp_path: Path) -> None:
    stores: list[DocsStore] = []

    def prepare() -> None:
        stores.append(DocsStore(tmp_path / f"{len(stores)}", durability="none"))
        stores[-1].write(draft("b2"))
        stores[-1].write(draft("b2", raw_text="twice"), if_exists="replace")
        interrupt_replace(stores[-1], new_in_place=True)
        (tmp_path / f"{len(stores) - 1}" / "draft" / ".tmp-b2-0123456789abcdef").mkdir()

    def apply() -> None:
        for step in repair(stores[-1], apply=True, stale_after=0):
            assert step.done, step

    check_every_call(prepare, apply, apply)


@pytest.mark.parametrize(
    "call",
    [(LocalSweeper, "clear"), (LocalSweeper, "discard"), (LocalSweeper, "tidy"), (DocsStore, "read")],
    ids=lambda call: call[1],
)
def test_time_limit_passes_through_each_step_of_repair(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch, call: tuple[type, str]
) -> None:
    local.write(OLD)
    local.write(NEW, if_exists="replace")
    (local.path("draft", "a1") / "raw.txt").unlink()
    limit = TimeoutError("the time is up")

    def stop(*_: object, **__: object) -> None:
        raise limit

    monkeypatch.setattr(*call, stop)
    with pytest.raises(TimeoutError) as caught:
        list(repair(local, apply=True, stale_after=0, purge=True, older_than=0, history=True))
    assert caught.value is limit


def test_time_limit_passes_through_the_scan_of_a_damaged_document(local: DocsStore) -> None:
    local.write(OLD)
    (local.path("draft", "a1") / "raw.txt").unlink()
    check_every_call(lambda: None, lambda: list(local.scan("draft", stale_after=0)), lambda: None)


def test_time_limit_passes_through_durable_writes(tmp_path: Path) -> None:
    stores: list[DocsStore] = []

    def write() -> None:
        stores.append(DocsStore(tmp_path / f"{len(stores)}"))
        stores[-1].write(OLD)
        stores[-1].write(NEW, if_exists="replace")
        stores[-1].backend._create_together([new_document("b2"), new_document("c3")])  # type: ignore[attr-defined]

    check_every_call(lambda: None, write, lambda: None)


def test_time_limit_passes_through_writing_a_table(tmp_path: Path) -> None:
    table = tmp_path / "draft_tasks.csv"
    old, new = ([DraftTask(task_id=task_id, doc_id="a1")] for task_id in ("t", "u"))

    def prepare() -> None:
        write_tasks(table, old, row_type=DraftTask)
        table.chmod(0o640)

    def check() -> None:
        assert table.read_text().splitlines()[1].split(",")[0] in {"t", "u"}
        assert [path.name for path in tmp_path.iterdir()] == [table.name]
        assert write_tasks(table, new, row_type=DraftTask) == 1

    with change_umask(0o077):
        check_every_call(prepare, lambda: write_tasks(table, new, row_type=DraftTask), check)


@contextmanager
def change_umask(umask: int) -> Iterator[None]:
    before = os.umask(umask)
    try:
        yield
    finally:
        os.umask(before)


def test_time_limit_of_a_real_signal_passes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise TimeoutError("the time is up")

    def sync_slowly(fd: int) -> None:
        time.sleep(0.2)
        fsync(fd)

    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", sync_slowly)
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(TimeoutError, match="^the time is up$"):
            DocsStore(tmp_path / "docs").write(NEW)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


WORK: list[Any] = [
    pytest.param(lambda store: audit(store, verify=True), id="audit"),
    pytest.param(lambda store: list(copy(store, DocsStore("memory://"))), id="copy"),
    pytest.param(lambda store: list(migrate(store)), id="migrate"),
    pytest.param(lambda store: list(scores(store)), id="scores"),
    pytest.param(lambda store: replay(store, "evaluation", ["v1", "old"]), id="replay"),
    pytest.param(
        lambda store: [row.doc_id for row in read_tasks(join(store.root, "t_tasks.csv"), DraftTask)], id="table"
    ),
    pytest.param(lambda store: list(read_tasks(join(store.root, "t.jsonl"), DraftTask)), id="JSON Lines"),
]


@pytest.mark.parametrize("work", WORK)
def test_time_limit_passes_through_work_on_many_documents(tmp_path: Path, work: Callable[[DocsStore], object]) -> None:
    """Work that reports one bad document and goes on must not take a time limit for one."""
    store = DocsStore(tmp_path / "docs")
    store.write(draft(raw_text="first"))
    store.write(draft(), if_exists="replace")
    store.write(Document(stage="essay", doc_id="e1", task_id="t-1", parent_doc_id="a1", raw_text="x"))
    parsed = {"raw_text": "7", "parsed_text": "7"}
    store.write(Document(stage="evaluation", doc_id="v1", task_id="t-1", parent_doc_id="e1", **parsed))  # type: ignore[arg-type]
    old = tmp_path / "docs" / "evaluation" / "old"
    old.mkdir()
    (old / "raw.txt").write_text("7")
    (old / "metadata.json").write_text('{"task_id": "t-2", "parent_doc_id": "e1"}')
    (tmp_path / "docs" / "t_tasks.csv").write_text("draft_task_id,doc_id\nt-1,a1\n")
    (tmp_path / "docs" / "t.jsonl").write_text('{"draft_task_id": "t-1", "doc_id": "a1"}\n')
    check_every_call(lambda: None, lambda: work(DocsStore(tmp_path / "docs")), lambda: None)

"""write_many: the same rules as write, with fewer syncs."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import attrs
import pytest

from docid import (
    ContentConflict,
    DocsStore,
    Document,
    DurabilityUnknown,
    InvalidName,
    LineageConflict,
    MissingParent,
    Outcome,
    Stages,
    StoreUnavailable,
    UnreadableDocument,
    WriteManyError,
)
from docid.backends import LocalBackend, MemoryBackend
from docid.backends.objects import ObjectsBackend
from docid.store.backends.local.directory import Directory


def draft(number: int | str, raw_text: str = "once", **more: Any) -> Document:
    return Document(stage="draft", doc_id=f"d{number}", task_id=f"t-{number}", raw_text=raw_text, **more)


def essay(number: int | str, **more: Any) -> Document:
    return Document(
        stage="essay", doc_id=f"e{number}", task_id=f"t-{number}", parent_doc_id=f"d{number}", raw_text="x", **more
    )


@pytest.fixture
def durable(tmp_path: Path) -> DocsStore:
    return DocsStore(tmp_path / "docs")


def test_write_many_returns_results_in_order(store: DocsStore) -> None:
    store.write(draft(7))
    results = store.write_many(draft(number) for number in range(250))
    assert [result.doc_id for result in results] == [f"d{number}" for number in range(250)]
    assert [number for number, result in enumerate(results) if result.outcome is not Outcome.CREATED] == [7]
    assert results[7].outcome is Outcome.UNCHANGED
    assert sorted(store.ids("draft")) == sorted(f"d{number}" for number in range(250))
    assert store.read("draft", "d249", verify=True).raw_text == "once"


def test_write_many_of_nothing_returns_nothing(store: DocsStore) -> None:
    assert store.write_many([]) == []


def test_parent_earlier_in_the_stream_counts(store: DocsStore) -> None:
    pairs = [document for number in range(60) for document in (draft(number), essay(number))]
    assert {result.outcome for result in store.write_many(pairs)} == {Outcome.CREATED}


def test_parent_later_in_the_stream_does_not_count(store: DocsStore) -> None:
    store.write(draft(2, raw_text="another"))
    store.write(attrs.evolve(draft(3), task_id="another"))
    with pytest.raises(WriteManyError) as caught:
        store.write_many([essay(1), draft(1), draft(2), essay(2), draft(3), essay(3), essay(4), draft(4)])
    kinds = {position: type(error) for position, error in caught.value.failures.items()}
    # The drafts of essays 2 and 3 are stored, though with another text and another lineage.
    assert kinds == {0: MissingParent, 2: ContentConflict, 4: LineageConflict, 6: MissingParent}
    outcomes = [result and result.outcome.value for result in caught.value.results]
    assert outcomes == [None, "created", None, "created", None, "created", None, "created"]
    assert store.write_many([essay(5)], require_parent=False)[0].outcome is Outcome.CREATED


@pytest.mark.parametrize("policy", ["fail", "keep", "replace"])
def test_if_exists_applies_to_each_document(store: DocsStore, policy: Any) -> None:
    store.write(draft(1))
    documents = [draft(0), draft(1, "twice"), draft(2), draft(2), draft(2, "twice"), draft(0)]
    expected = {
        "fail": ["created", None, "created", "unchanged", None, "unchanged"],
        "keep": ["created", "kept", "created", "unchanged", "kept", "unchanged"],
        "replace": ["created", "replaced", "created", "unchanged", "replaced", "unchanged"],
    }[policy]
    try:
        results: Any = store.write_many(documents, if_exists=policy)
    except WriteManyError as error:
        results = error.results
    assert [result and result.outcome.value for result in results] == expected
    assert [document.raw_text for document in store.history("draft", "d2")] == ["once"] * (policy == "replace")


def test_invalid_document_does_not_stop_the_others(store: DocsStore) -> None:
    wrong: Any = "no document"
    batch = [draft(1), wrong, Document(stage="poem", doc_id="p1", task_id="t", raw_text=""), draft(2)]
    with pytest.raises(
        WriteManyError,
        match=r"^2 of 4 documents failed \(the others are stored\); positions count from 0:\n  position 1: doc",
    ) as e:
        store.write_many(batch)
    assert [type(error) for error in e.value.failures.values()] == [TypeError, InvalidName]
    assert sorted(store.ids("draft")) == ["d1", "d2"]


def test_failing_stream_writes_its_documents_and_chains_failures(store: DocsStore) -> None:
    def documents() -> Iterator[Document]:
        yield from map(draft, range(150))
        raise RuntimeError("the model is gone")

    store.write(attrs.evolve(draft(5), task_id="another"))
    with pytest.raises(RuntimeError) as caught:
        store.write_many(documents())
    assert len(list(store.ids("draft"))) == 150
    assert isinstance(caught.value.__cause__, WriteManyError)
    assert list(caught.value.__cause__.failures) == [5]

    def one() -> Iterator[Document]:
        yield draft(200)
        raise RuntimeError("the model is gone")

    with pytest.raises(RuntimeError) as caught:
        store.write_many(one())
    assert caught.value.__cause__ is None
    assert store.exists("draft", "d200")


def test_failing_stream_keeps_its_own_cause(store: DocsStore) -> None:
    def documents() -> Iterator[Document]:
        yield attrs.evolve(draft(5), task_id="another")
        raise RuntimeError("row 17 is bad") from KeyError("model")

    with pytest.raises(RuntimeError, match="row 17") as caught:
        store.write_many(documents())
    assert isinstance(caught.value.__cause__, KeyError)
    store.write_many([draft(6)])
    store.write(attrs.evolve(draft(5), raw_text="twice", task_id="another"), if_exists="replace")
    with pytest.raises(RuntimeError, match="row 17") as caught:
        store.write_many(documents())
    assert isinstance(caught.value.__cause__, KeyError)
    assert "1 of 1 document failed" in caught.value.__notes__[0]
    failed = caught.value.__cause__.__cause__
    assert isinstance(failed, WriteManyError)
    assert list(failed.documents) == [0]


def test_failing_stream_may_be_its_own_cause(store: DocsStore) -> None:
    wrong: Any = "no document"

    def documents() -> Iterator[Document]:
        yield wrong
        error = RuntimeError("row 17 is bad")
        raise error from error

    with pytest.raises(RuntimeError, match="row 17") as caught:
        store.write_many(documents())
    assert isinstance(caught.value.__cause__, WriteManyError)
    assert caught.value.__cause__.documents == {0: wrong}


def test_error_carries_documents_that_were_not_written(store: DocsStore) -> None:
    store.write(attrs.evolve(draft(1), task_id="another"))
    documents = [draft(0), draft(1), draft(2), essay(9)]
    with pytest.raises(WriteManyError) as caught:
        store.write_many(documents)
    error = pickle.loads(pickle.dumps(caught.value))
    assert error.documents == {1: documents[1], 3: documents[3]}
    assert not error.stopped


def test_failures_hold_no_frames_in_memory(store: DocsStore) -> None:
    store.write(attrs.evolve(draft(1), task_id="another"))
    wrong: Any = "no document"
    with pytest.raises(WriteManyError) as caught:
        store.write_many([draft(1), essay(9), wrong])
    assert [error.__traceback__ for error in caught.value.failures.values()] == [None] * 3
    assert [error.__context__ for error in caught.value.failures.values()] == [None] * 3


def test_error_is_freed_at_once(store: DocsStore) -> None:
    wrong: Any = "no document"

    def documents() -> Iterator[Document]:
        yield wrong
        raise SoftTimeLimitExceeded

    gone = []
    gc.disable()
    try:
        for stream in ([wrong], documents()):
            try:
                store.write_many(stream)
            except Exception as error:  # noqa: BLE001 - either of two
                gone.append(weakref.ref(error))
    finally:
        gc.enable()
    assert [each() for each in gone] == [None, None]


def test_invalid_if_exists_raises_before_any_write(store: DocsStore) -> None:
    wrong: Any = "overwrite"
    with pytest.raises(ValueError, match="if_exists: expected 'fail', 'keep' or 'replace', got 'overwrite'"):
        store.write_many([draft(1)], if_exists=wrong)
    assert list(store.ids("draft")) == []


class FullBackend(MemoryBackend):
    """A backend on a disk with room for a number of documents. It has no room for a document with the text `big`."""

    together = 10

    def __init__(self, room: int, error: Exception) -> None:
        super().__init__()
        self.room = room
        self.error = error

    def create(self, stage: str, doc_id: str, record: bytes, parts: Mapping[str, bytes]) -> bool:
        if self.room <= 0 or parts["raw.txt"] == b"big":
            raise self.error
        self.room -= 1
        return super().create(stage, doc_id, record, parts)


DISK_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(number, os.strerror(number)) for number in (errno.ENOSPC, errno.EROFS, errno.EIO, errno.ESTALE)),
        StoreUnavailable("write", "s3://b", "the service refused the credentials", "check them", refused=True),
        DurabilityUnknown("draft", "d1", "docs/draft/d1", "[Errno 5] Input/output error"),
    ],
    ids=repr,
)
def test_write_many_takes_no_more_documents_from_its_stream_if_the_store_fails(error: Exception) -> None:
    taken: list[Document] = []

    def documents() -> Iterator[Document]:
        for number in range(100):
            taken.append(draft(number))
            yield taken[-1]

    store = DocsStore(FullBackend(13, error))
    with pytest.raises(WriteManyError, match="the store failed, so docid took no more documents") as caught:
        store.write_many(documents())
    assert (len(taken), caught.value.stopped) == (20, True)
    assert caught.value.documents == dict(enumerate(taken[13:], 13))
    assert caught.value.failures == dict.fromkeys(range(13, 20), error)
    assert [result is not None for result in caught.value.results] == [True] * 13 + [False] * 7
    store.backend.room = 100  # type: ignore[attr-defined]
    assert {each.outcome for each in store.write_many(caught.value.documents.values())} == {Outcome.CREATED}
    assert len(list(store.ids("draft"))) == 20


def test_write_many_goes_on_if_only_one_text_is_too_large() -> None:
    store = DocsStore(FullBackend(100, DISK_FULL))
    documents = [draft(number, "big" if number == 5 else "once") for number in range(30)]
    with pytest.raises(WriteManyError) as caught:
        store.write_many(documents)
    assert (list(caught.value.failures), caught.value.stopped) == ([5], False)
    assert len(caught.value.results) == 30


@pytest.mark.parametrize("policy", ["fail", "keep"])
def test_existing_documents_do_not_show_that_a_store_works(policy: Any) -> None:
    store = DocsStore(FullBackend(10, DISK_FULL))
    store.write_many(draft(number) for number in range(0, 20, 2))
    with pytest.raises(WriteManyError) as caught:
        store.write_many((draft(number) for number in range(100)), if_exists=policy)
    assert (len(caught.value.results), caught.value.stopped) == (10, True)


def test_conflicts_do_not_stop_write_many(store: DocsStore) -> None:
    store.write_many(attrs.evolve(draft(number), task_id="another") for number in range(250))
    with pytest.raises(WriteManyError) as caught:
        store.write_many(map(draft, range(1000)))
    assert (len(caught.value.documents), len(caught.value.results), caught.value.stopped) == (250, 1000, False)


def test_children_of_documents_that_were_not_written_do_not_hide_a_failing_store() -> None:
    store = DocsStore(FullBackend(3, DISK_FULL))
    with pytest.raises(WriteManyError) as caught:
        store.write_many(document for number in range(50) for document in (draft(number), essay(number)))
    assert (len(caught.value.results), caught.value.stopped) == (10, True)


class SoftTimeLimitExceeded(Exception):
    pass


@contextlib.contextmanager
def time_limit(seconds: float, error: BaseException) -> Iterator[None]:
    """Raise an error in a signal handler, as time limits of Celery, Airflow and pytest-timeout do."""

    def stop(*_: object) -> None:
        raise error

    old = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


LIMITS = [TimeoutError, SoftTimeLimitExceeded, KeyboardInterrupt]


@pytest.mark.parametrize("used", [True, False])
def test_write_many_works_where_no_thread_can_start(monkeypatch: pytest.MonkeyPatch, used: bool) -> None:
    """As in a function registered with `atexit`, since Python 3.12."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    store = DocsStore(ObjectsBackend("memory://"))
    if used:
        store.write_many(map(draft, range(300)))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert len(store.write_many(map(draft, range(300)))) == 300
    assert len(list(store.documents("draft"))) == 300


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("backend", ["ObjectsBackend('memory://')", "LocalBackend(sys.argv[1])", "MemoryBackend()"])
def test_write_many_works_at_the_exit_of_the_process(tmp_path: Path, backend: str, used: bool) -> None:
    code = f"""
import atexit, sys
from docid import DocsStore, Document
from docid.backends import LocalBackend, MemoryBackend
from docid.backends.objects import ObjectsBackend

store = DocsStore({backend})
waiting = [Document(stage="draft", doc_id=f"d{{n}}", task_id=f"t-{{n}}", raw_text="") for n in range(300)]
atexit.register(lambda: print(len(store.write_many(waiting)), len(list(store.documents("draft")))))
if {used}:
    store.write_many(waiting[:100])
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "docs"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("300 300\n", "")


# --- on a file system ------------------------------------------------------------------------------------------


def test_hundred_documents_need_one_sync_all(durable: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    durable.write_many([draft("first"), essay("first")])
    calls: list[str] = []
    for name in ("sync", "sync_all"):
        original = getattr(Directory, name)

        def count_and_sync(directory: Directory, name: str = name, original: Any = original) -> Any:
            calls.append(name)
            return original(directory)

        monkeypatch.setattr(Directory, name, count_and_sync)
    monkeypatch.setattr("docid.store.backends.local.directory.os.fsync", lambda fd: calls.append("fsync"))
    durable.write_many(draft(number) for number in range(100))
    assert calls == ["sync_all", "sync", "fsync"]


@pytest.fixture
def calls(durable: DocsStore, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts of the writes and syncs of files, and of the syncs of the whole file system, by `durable`."""
    durable.write(draft("first"))
    counts: Counter[str] = Counter()

    def count(name: str, original: Any) -> Any:
        def count_and_call(*args: Any) -> Any:
            counts[name] += 1
            return original(*args)

        return count_and_call

    for name in ("write", "fsync"):
        monkeypatch.setattr(os, name, count(name, getattr(os, name)))
    monkeypatch.setattr(Directory, "sync_all", count("sync_all", Directory.sync_all))
    return counts


def test_without_sync_all_each_file_is_written_once(
    durable: DocsStore, monkeypatch: pytest.MonkeyPatch, calls: Counter[str]
) -> None:
    monkeypatch.setattr(Directory, "can_sync_all", lambda _: False)
    assert {result.outcome for result in durable.write_many(map(draft, range(3)))} == {Outcome.CREATED}
    # Per document: write text and record; sync both, its directory and its stage.
    assert calls == {"write": 3 * 2, "fsync": 3 * 4}
    assert sorted(os.listdir(durable.path("draft", "d0").parent)) == ["d0", "d1", "d2", "dfirst"]


def test_failing_sync_all_writes_and_syncs_each_again(
    durable: DocsStore, monkeypatch: pytest.MonkeyPatch, calls: Counter[str]
) -> None:
    def fail(_: Directory) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Directory, "can_sync_all", lambda _: True)
    monkeypatch.setattr(Directory, "sync_all", fail)
    assert {result.outcome for result in durable.write_many(map(draft, range(3)))} == {Outcome.CREATED}
    assert calls == {"write": 3 * 2 * 2, "fsync": 3 * 4}
    assert sorted(os.listdir(durable.path("draft", "d0").parent)) == ["d0", "d1", "d2", "dfirst"]


def test_failing_last_sync_is_reported_for_each_document(durable: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    durable.write(draft("first"))
    durable.write(essay("first"))

    def sync(directory: Directory) -> None:
        if directory.path.endswith("draft"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Directory, "sync", sync)
    backend = durable.backend
    assert isinstance(backend, LocalBackend)
    with pytest.raises(WriteManyError) as caught:
        durable.write_many([draft(1), essay("first"), draft("first"), draft(2)])
    assert {position: type(error) for position, error in caught.value.failures.items()} == {
        0: DurabilityUnknown,
        3: DurabilityUnknown,
    }
    assert durable.exists("draft", "d1")


def test_each_stage_has_its_own_last_sync(durable: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Directory,
        "sync",
        lambda directory: (_ for _ in ()).throw(OSError(5, "EIO")) if "draft" in directory.path else None,
    )
    os.makedirs(durable.path("draft", "d1").parent)
    os.makedirs(durable.path("essay", "e1").parent)
    with pytest.raises(WriteManyError) as caught:
        durable.write_many([draft(1), essay(7), draft(2)], require_parent=False)
    assert sorted(caught.value.failures) == [0, 2]


def test_swept_document_is_written_again(durable: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Directory.sync_all
    stage = durable.path("draft", "d1").parent

    def sweep_then_sync(directory: Directory) -> None:
        for name in os.listdir(stage):
            if name.startswith(".tmp-d1-"):
                os.rename(stage / name, stage.parent / "swept")
        original(directory)

    monkeypatch.setattr(Directory, "sync_all", sweep_then_sync)
    assert {result.outcome for result in durable.write_many(map(draft, range(3)))} == {Outcome.CREATED}
    assert durable.read("draft", "d1", verify=True).raw_text == "once"


def test_id_taken_during_write_stays_with_its_writer(durable: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Directory.sync_all

    def sync_then_take_id(directory: Directory) -> None:
        original(directory)
        other = DocsStore(durable.path("draft", "d1").parent.parent, durability="none")
        other.write(draft(0))
        other.write(attrs.evolve(draft(1), task_id="another"))

    monkeypatch.setattr(Directory, "sync_all", sync_then_take_id)
    with pytest.raises(WriteManyError) as caught:
        durable.write_many(map(draft, range(3)))
    assert [result and result.outcome.value for result in caught.value.results] == ["unchanged", None, "created"]
    assert isinstance(caught.value.failures[1], LineageConflict)


def test_full_disk_fails_only_its_document(durable: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def fail_for_big_text(fd: int, data: bytes) -> int:
        if bytes(data).startswith(b"big"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data)

    monkeypatch.setattr("docid.store.backends.local.directory.os.write", fail_for_big_text)
    with pytest.raises(
        WriteManyError, match=r"position 1: \[Errno 28\] No space left on device; free disk space or inodes"
    ) as e:
        durable.write_many([draft(0), draft(1, "big"), draft(2)])
    assert list(e.value.failures) == [1]
    assert sorted(os.listdir(durable.path("draft", "d0").parent)) == ["d0", "d2"]


def test_commit_error_fails_only_its_document(durable: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def fail_for_d1(source: str, target: str, **where: Any) -> None:
        if target == "d1":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target, **where)

    monkeypatch.setattr("docid.store.backends.local.directory.os.rename", fail_for_d1)
    with pytest.raises(WriteManyError) as caught:
        durable.write_many(map(draft, range(3)))
    assert list(caught.value.failures) == [1]
    assert sorted(os.listdir(durable.path("draft", "d0").parent)) == ["d0", "d2"]


STEPS = [
    *((step, True) for step in ("write", "mkdir", "rename", "sync_all")),
    *((step, False) for step in ("write", "mkdir", "rename", "fsync")),
    *(("unlink", batched) for batched in (True, False)),
]


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(("step", "batched"), STEPS)
def test_time_limit_ends_write_many_in_every_step(
    durable: DocsStore, monkeypatch: pytest.MonkeyPatch, step: str, batched: bool, limit: type[BaseException]
) -> None:
    """`batched`: with one sync for all documents; otherwise each document is synced."""
    monkeypatch.setattr(Directory, "can_sync_all", lambda _: batched)
    durable.write(draft("first"))
    where: Any = Directory if step == "sync_all" else os
    call, calls = getattr(where, step), 0

    def interrupt(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == (1 if step == "sync_all" else 3):
            signal.raise_signal(signal.SIGALRM)
        return call(*args, **options)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    documents = [draft(number) for number in range(6)]
    error = limit("the time is up")
    with time_limit(60, error), monkeypatch.context() as patch, pytest.raises(limit) as caught:
        patch.setattr(where, step, interrupt)
        if step == "unlink":  # only clean-up code removes files
            patch.setattr(os, "rename", fail)
        durable.write_many(documents)
    assert caught.value is error
    failed = caught.value.__cause__
    assert isinstance(failed, WriteManyError)
    left = failed.documents.values()
    assert {each.doc_id for each in documents} - set(durable.ids("draft")) <= {each.doc_id for each in left}
    assert {each.outcome for each in durable.write_many(left)} <= {Outcome.CREATED, Outcome.UNCHANGED}
    assert len(list(durable.ids("draft"))) == 7


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("batched", [True, False])
def test_time_limit_ends_write_many_at_once(
    durable: DocsStore, monkeypatch: pytest.MonkeyPatch, batched: bool, limit: type[BaseException]
) -> None:
    fsync = os.fsync

    def sync_slowly(fd: int) -> None:
        time.sleep(0.05)
        fsync(fd)

    monkeypatch.setattr(Directory, "can_sync_all", lambda _: batched)
    monkeypatch.setattr(Directory, "sync_all", lambda _: time.sleep(5))
    monkeypatch.setattr(os, "fsync", sync_slowly)
    began = time.monotonic()
    with time_limit(0.2, limit("the time is up")), pytest.raises(limit):
        durable.write_many(map(draft, range(50)))
    assert time.monotonic() - began < 2


def test_unreadable_parent_fails_its_children(local: DocsStore, tmp_path: Path) -> None:
    (tmp_path / "docs" / "draft" / "d1").mkdir(parents=True)
    (tmp_path / "docs" / "draft" / "d1" / "raw.txt").write_text("half")
    local.write(draft(2))
    with pytest.raises(WriteManyError) as caught:
        local.write_many([essay(1), essay(2)])
    assert {at: type(error) for at, error in caught.value.failures.items()} == {0: UnreadableDocument}


def test_one_document_that_this_user_may_not_read_does_not_stop_write_many() -> None:
    class Backend(MemoryBackend):
        def load(self, stage: str, doc_id: str, parts: Any = ()) -> Any:
            if doc_id == draft(5).doc_id:
                raise PermissionError(errno.EACCES, "Permission denied", "docs/draft/d5")
            return super().load(stage, doc_id, parts)

    store = DocsStore(Backend())
    store.write_many(draft(number) for number in range(200))
    with pytest.raises(WriteManyError) as caught:
        store.write_many(draft(number) for number in range(1000))
    assert (list(caught.value.failures), caught.value.stopped, len(caught.value.results)) == ([5], False, 1000)


def test_conflict_of_stages_stops_write_many() -> None:
    backend = MemoryBackend()
    store = DocsStore(backend, stages=Stages.chain("draft", "essay"))
    taken: list[int] = []

    def stream() -> Iterator[Document]:
        for number in range(1000):
            if not taken:
                DocsStore(backend, stages=Stages({"outline": None, "draft": "outline"})).manifest.declare()
            taken.append(number)
            yield draft(number)

    with pytest.raises(WriteManyError) as caught:
        store.write_many(stream())
    assert (len(taken), caught.value.stopped, len(caught.value.documents)) == (100, True, 100)


def test_error_of_the_stream_is_the_context_of_a_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def stream() -> Iterator[Document]:
        yield draft(0)
        raise ValueError("the stream broke")

    def stop(*_: object) -> None:
        raise TimeoutError("the time is up")

    store = DocsStore("memory://")
    monkeypatch.setattr(store.backend, "create_many", stop)
    with pytest.raises(TimeoutError) as caught:
        store.write_many(stream())
    assert isinstance(caught.value.__context__, ValueError)


def test_metadata_that_changed_after_the_document_was_made_is_compared_as_stored() -> None:
    store, document = DocsStore("memory://"), draft(0)
    document.metadata.update(day=date(2026, 11, 23), stage="draft", span=(1, 2))
    assert store.write(document).outcome == "created"
    again = store.write(document, if_exists="replace")
    assert (again.outcome, again.metadata_differs) == ("unchanged", False)

"""The manifest: a store knows its stages, and nobody gives one of them another parent."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docid import (
    DEFAULT_STAGES,
    DocsStore,
    Document,
    DraftTask,
    EssayTask,
    InvalidName,
    Stages,
    StagesConflict,
    StoreUnavailable,
    UnreadableManifest,
    WriteManyError,
    audit,
)
from docid.backends import InternalFile, LocalBackend, MemoryBackend
from docid.backends.objects import ObjectsBackend
from docid.copying import copy
from docid.report import page
from docid.store.manifest import find_undeclared
from tests.servers import Moto

BOOK = Stages({"outline": None, "chapter": "outline", "blurb": "outline"})
OTHER = Stages.chain("chapter", "outline")


def outline(doc_id: str = "o1", **fields: Any) -> Document:
    return Document(stage="outline", doc_id=doc_id, task_id=f"t-{doc_id}", raw_text="Once.", **fields)


def draft() -> Document:
    return Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="Once.")


def file_of(root: Path) -> Path:
    return root / ".docid" / "store.json"


def reopen(store: DocsStore, stages: Stages | None = None) -> DocsStore:
    """Return a new store on the same backend, as another process opens it."""
    return DocsStore(store.backend, stages=stages)


class Counting(MemoryBackend):
    """A backend that counts the reads and writes of internal files."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = self.swaps = 0

    def read_file(self, name: str) -> InternalFile | None:
        self.reads += 1
        return super().read_file(name)

    def swap_file(self, name: str, expected: InternalFile | None, data: bytes) -> bool:
        self.swaps += 1
        return super().swap_file(name, expected, data)


# What the store knows.


def test_first_write_declares_the_stages(store: DocsStore) -> None:
    book = reopen(store, BOOK)
    assert reopen(store).stages == DEFAULT_STAGES
    book.write(outline())
    found = reopen(store)
    assert found.stages == BOOK
    assert list(found.stages) == ["outline", "chapter", "blurb"]
    assert found.read("outline", "o1").raw_text == "Once."
    with pytest.raises(InvalidName, match="expected one of outline, chapter, blurb"):
        found.ids("draft")


def test_manifest_is_a_json_file(tmp_path: Path) -> None:
    DocsStore(tmp_path, stages=BOOK).write(outline())
    assert json.loads(file_of(tmp_path).read_bytes()) == {
        "format": "docid/store/1",
        "stages": {"outline": None, "chapter": "outline", "blurb": "outline"},
    }
    assert file_of(tmp_path).read_bytes().endswith(b"}\n")
    assert {path.name for path in (tmp_path / ".docid").iterdir()} == {"store.json", ".lock-files"}
    assert DocsStore(tmp_path).manifest.location == f"{tmp_path}/.docid/store.json"


def test_given_stages_take_precedence_and_are_added(store: DocsStore) -> None:
    reopen(store, BOOK).write(outline())
    both = Stages({"outline": None, "notes": "outline", "draft": None})
    second = reopen(store, both)
    assert second.stages == both
    second.write(draft())
    assert second.stages == both
    assert list(reopen(store).stages) == ["outline", "chapter", "blurb", "notes", "draft"]
    assert reopen(store).stages.parent_of("notes") == "outline"


def test_store_without_manifest_has_the_default_stages(store: DocsStore) -> None:
    found = reopen(store)
    assert (found.manifest.read(), found.stages) == (None, DEFAULT_STAGES)
    found.write(draft())
    assert reopen(store).manifest.read() == DEFAULT_STAGES


@given(st.permutations([("a", None), ("b", "a"), ("c", "b"), ("d", "a"), ("e", None)]))
def test_order_of_keys_does_not_matter(pairs: list[tuple[str, str | None]]) -> None:
    backend = MemoryBackend()
    backend.swap_file("store.json", None, json.dumps({"format": "docid/store/1", "stages": dict(pairs)}).encode())
    stages = DocsStore(backend).stages
    assert {stage: stages.parent_of(stage) for stage in stages} == dict(pairs)


def test_unknown_keys_survive(tmp_path: Path) -> None:
    DocsStore(tmp_path, stages=BOOK).manifest.declare()
    facts = json.loads(file_of(tmp_path).read_bytes())
    file_of(tmp_path).write_text(json.dumps({"note": ["kept"], **facts}))
    DocsStore(tmp_path, stages=DEFAULT_STAGES).write(draft())
    facts = json.loads(file_of(tmp_path).read_bytes())
    assert (facts["note"], len(facts["stages"])) == (["kept"], 6)


# Contradictions.


def test_other_parent_is_refused_before_any_work(store: DocsStore) -> None:
    reopen(store, BOOK).write(outline())
    wrong = reopen(store, OTHER)
    row = DraftTask.of("chapter", None)(task_id="t", doc_id="c1")
    documents = iter([Document(stage="chapter", doc_id="c1", task_id="t", raw_text="")])
    for act in (
        lambda: wrong.write(Document(stage="chapter", doc_id="c1", task_id="t", raw_text="")),
        lambda: wrong.ensure(row, lambda _: pytest.fail("paid")),
        lambda: wrong.write_many(documents),
        lambda: wrong.add_part("outline", "o1", "parsed", "p"),
    ):
        with pytest.raises(StagesConflict) as raised:
            act()
        error = raised.value
        assert (error.stage, error.stored_parent, error.parent) == ("chapter", "outline", None)
        assert "its parent is outline in" in str(error)
        assert "but you declare no parent" in str(error)
    assert next(documents).doc_id == "c1"
    assert list(wrong.ids("chapter")) == []
    assert wrong.read("outline", "o1").parsed_text is None
    assert reopen(store).stages == BOOK


def test_corrected_manifest_is_read_again_after_a_conflict(tmp_path: Path) -> None:
    DocsStore(tmp_path, stages=OTHER).manifest.declare()
    book = DocsStore(tmp_path, stages=BOOK)
    with pytest.raises(StagesConflict):
        book.write(outline())
    file_of(tmp_path).unlink()
    assert book.write(outline()).outcome == "created"


def test_conflict_declared_during_a_batch_is_reported_for_each_document() -> None:
    store = DocsStore(MemoryBackend(), stages=BOOK)

    def documents() -> Any:
        reopen(store, OTHER).manifest.declare()
        yield from (outline("o1"), outline("o2"))

    store.manifest.read()
    with pytest.raises(WriteManyError) as raised:
        store.write_many(documents())
    assert {type(error) for error in raised.value.failures.values()} == {StagesConflict}
    assert len(raised.value.failures) == 2


# Cost.


def test_process_reads_once_and_writes_once() -> None:
    backend = Counting()
    store = DocsStore(backend, stages=BOOK)
    assert repr(store).startswith("<DocsStore outline, chapter, blurb in MemoryBackend(")
    row = DraftTask.of("outline", None)(task_id="t-o1", doc_id="o1")
    assert (backend.reads, backend.swaps) == (0, 0)
    store.write(outline())
    assert (backend.reads, backend.swaps) == (1, 1)
    for _ in range(3):
        store.ensure(row, lambda _: outline())
        store.write_many([outline("o2"), outline("o3")])
        store.write(outline("o4"), if_exists="keep")
        store.add_part("outline", "o1", "parsed", "p")
        list(store.documents("outline"))
    assert (backend.reads, backend.swaps) == (1, 1)

    second = DocsStore(backend)
    assert repr(second).startswith("<DocsStore in Mem")
    second.ensure(row, lambda _: pytest.fail("made again"))
    second.write(outline("o5"))
    assert (backend.reads, backend.swaps) == (2, 1)
    assert repr(second).startswith("<DocsStore outline, chapter, blurb in Mem")


def test_ensure_of_an_existing_document_reads_no_manifest_if_stages_are_given() -> None:
    backend = Counting()
    DocsStore(backend, stages=BOOK).write(outline())
    row = DraftTask.of("outline", None)(task_id="t-o1", doc_id="o1")
    before = backend.reads
    assert DocsStore(backend, stages=BOOK).ensure(row, lambda _: outline()).outcome == "kept"
    assert backend.reads == before


def test_threads_of_a_process_read_once() -> None:
    backend = Counting()
    DocsStore(backend, stages=BOOK).manifest.declare()
    backend.reads = 0
    store = DocsStore(backend)
    barrier = threading.Barrier(8)

    def write(number: int) -> None:
        barrier.wait()
        store.write(outline(f"o{number}"))

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(write, range(8)))
    assert (backend.reads, backend.swaps) == (1, 1)


def test_bucket_gets_one_read_and_one_conditional_put(s3: Moto) -> None:
    url, options = s3.bucket(), s3.options()

    def count_requests(act: Callable[[], object]) -> dict[str, int]:
        s3.counts()
        act()
        return s3.counts()

    first = DocsStore(url, options=options, stages=BOOK)
    # The first write of a process checks the bucket, too.
    assert count_requests(lambda: first.write(outline())) == {"GET": 1, "PUT": 2 + 3}
    assert count_requests(lambda: first.write(outline("o2"))) == {"PUT": 1}
    second = DocsStore(url, options=options, stages=Stages.chain("outline", "notes"))
    assert count_requests(lambda: second.write(outline("o3"))) == {"GET": 1, "PUT": 2}
    third = DocsStore(url, options=options)
    assert count_requests(lambda: third.write(outline("o4"))) == {"GET": 1, "PUT": 1}
    assert list(third.stages) == ["outline", "chapter", "blurb", "notes"]
    assert list(third.backend.directories()) == ["outline"]


def test_pickled_store_keeps_what_it_read(tmp_path: Path) -> None:
    DocsStore(tmp_path, stages=BOOK).manifest.declare()
    unread, read = DocsStore(tmp_path), DocsStore(tmp_path)
    assert read.stages == BOOK
    copies = [pickle.loads(pickle.dumps(each)) for each in (unread, read, DocsStore(tmp_path, stages=OTHER))]
    file_of(tmp_path).unlink()
    assert [each.stages for each in copies] == [DEFAULT_STAGES, BOOK, OTHER]
    copies[1].write(outline())


def test_constructor_does_no_io(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("open", "stat", "mkdir", "scandir"):
        monkeypatch.setattr(os, name, lambda *_, name=name, **__: calls.append(name))
    repr(DocsStore(tmp_path / "docs"))
    assert calls == []


# Writers that meet.


def test_writers_of_different_stages_all_declare_theirs(tmp_path: Path) -> None:
    barrier = threading.Barrier(12)

    def write(number: int) -> None:
        stage = f"stage-{number}"
        store = DocsStore(tmp_path / "docs", stages=Stages.chain(stage))
        barrier.wait()
        store.write(Document(stage=stage, doc_id="a1", task_id="t", raw_text=""))

    with ThreadPoolExecutor(12) as executor:
        list(executor.map(write, range(12)))
    assert set(DocsStore(tmp_path / "docs").stages) == {f"stage-{number}" for number in range(12)}


def test_writers_that_never_get_their_turn_write_their_documents() -> None:
    class Busy(MemoryBackend):
        def swap_file(self, *_: Any, **__: Any) -> bool:
            return False

    store = DocsStore(Busy(), stages=BOOK)
    assert store.write(outline()).outcome == "created"
    with pytest.raises(OSError, match="other writers change the manifest") as raised:
        store.manifest.declare()
    assert raised.value.errno == errno.EBUSY


def test_temporary_file_of_a_dead_writer_is_replaced(tmp_path: Path) -> None:
    file_of(tmp_path).parent.mkdir()
    (tmp_path / ".docid" / ".tmp-store.json").write_text("{")
    DocsStore(tmp_path, stages=BOOK).write(outline())
    assert DocsStore(tmp_path).stages == BOOK
    assert not (tmp_path / ".docid" / ".tmp-store.json").exists()


# Damage.

DAMAGED = [
    pytest.param(b"", "JSONDecodeError", id="empty"),
    pytest.param(b'{"format": "docid/sto', "JSONDecodeError", id="torn"),
    pytest.param(b"\xff\xfe", "JSONDecodeError", id="not UTF-8"),
    pytest.param(b"[]", "expected a JSON object with the format 'docid/store/1'", id="list"),
    pytest.param(b'{"format": "other/1", "stages": {"a": null}}', "expected a JSON object", id="other format"),
    pytest.param(b'{"format": 1, "stages": {"a": null}}', "expected a JSON object", id="number as format"),
    pytest.param(b'{"format": "docid/store/1"}', "KeyError: 'stages'", id="no stages"),
    pytest.param(b'{"format": "docid/store/1", "stages": {}}', "at least one stage", id="empty stages"),
    pytest.param(b'{"format": "docid/store/1", "stages": ["draft"]}', "ValueError", id="list of stages"),
    pytest.param(b'{"format": "docid/store/1", "stages": 7}', "TypeError", id="number as stages"),
    pytest.param(b'{"format": "docid/store/1", "stages": {"../x": null}}', "not a stage name", id="hostile name"),
    pytest.param(b'{"format": "docid/store/1", "stages": {"a": "b", "b": "a"}}', "not declared before", id="cycle"),
    pytest.param(b'{"format": "docid/store/1", "stages": {"a": ["b"]}}', "TypeError", id="list as parent"),
    pytest.param(b'{"format": "docid/store/2", "stages": {"a": null}}', "its format is docid/store/2", id="later"),
]


@pytest.mark.parametrize(("data", "problem"), DAMAGED)
def test_damaged_manifest_blocks_only_stores_without_stages(tmp_path: Path, data: bytes, problem: str) -> None:
    DocsStore(tmp_path, stages=BOOK).write(outline())
    file_of(tmp_path).write_bytes(data)
    found = DocsStore(tmp_path)
    for _ in range(2):
        with pytest.raises(UnreadableManifest, match=problem.replace("(", r"\(")) as raised:
            found.read("outline", "o1")
    assert raised.value.location == str(file_of(tmp_path))
    explicit = DocsStore(tmp_path, stages=BOOK)
    assert explicit.read("outline", "o1").raw_text == "Once."
    assert explicit.write(outline("o2")).outcome == "created"
    assert len(explicit.write_many([outline("o3"), outline("o4")])) == 2
    assert explicit.add_part("outline", "o1", "parsed", "p").outcome == "completed"
    row = DraftTask.of("outline", None)(task_id="t-o9", doc_id="o9")
    assert explicit.ensure(row, lambda _: outline("o9")).outcome == "created"
    assert audit(tmp_path, stages=BOOK).ok
    assert file_of(tmp_path).read_bytes() == data
    target = DocsStore(MemoryBackend())
    assert {each.outcome for each in copy(explicit, target)} == {"copied"}
    assert {each.outcome for each in copy(target, explicit)} == {"same"}


def test_damaged_manifest_is_overwritten_on_request_only(tmp_path: Path) -> None:
    store = DocsStore(tmp_path, stages=BOOK)
    store.manifest.declare()
    file_of(tmp_path).write_bytes(b'{"format": ')
    with pytest.raises(UnreadableManifest, match="docid stages --declare"):
        DocsStore(tmp_path, stages=BOOK).manifest.declare()
    assert DocsStore(tmp_path).manifest.declare(BOOK, overwrite_damaged=True) == BOOK
    assert DocsStore(tmp_path).stages == BOOK
    file_of(tmp_path).write_bytes(b'{"format": "docid/store/2"}')
    with pytest.raises(UnreadableManifest, match="upgrade docid"):
        DocsStore(tmp_path).manifest.declare(BOOK, overwrite_damaged=True)


# Stores that cannot be written, or not quite.


class Failing(MemoryBackend):
    """A backend whose internal files fail with an error."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def swap_file(self, name: str, expected: InternalFile | None, data: bytes) -> bool:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EROFS, "Read-only file system"),
        OSError(errno.ENOSPC, "No space left on device"),
        PermissionError(errno.EACCES, "Permission denied"),
        StoreUnavailable("write", "s3://b/.docid/store.json", "403", "ask", refused=True),
    ],
)
def test_document_is_written_even_if_the_manifest_is_not(error: OSError) -> None:
    store = DocsStore(Failing(error), stages=BOOK)
    assert store.write(outline()).outcome == "created"
    assert len(store.write_many([outline("o2"), outline("o3")])) == 2
    assert reopen(store).manifest.read() is None
    with pytest.raises(OSError, match=re.escape(str(error))):
        store.manifest.declare()


@pytest.mark.parametrize("error", [TimeoutError("time limit"), KeyboardInterrupt(), RuntimeError("soft limit")])
def test_error_of_a_signal_handler_passes_through(error: BaseException) -> None:
    store = DocsStore(Failing(error), stages=BOOK)
    with pytest.raises(type(error)) as raised:
        store.write(outline())
    assert raised.value is error


def test_unreadable_file_blocks_only_stores_without_stages(tmp_path: Path) -> None:
    file_of(tmp_path).mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match=r"store\.json"):
        DocsStore(tmp_path).ids("draft")
    assert DocsStore(tmp_path, stages=BOOK).write(outline()).outcome == "created"


def test_docid_directory_that_is_a_file_holds_no_manifest(tmp_path: Path) -> None:
    (tmp_path / ".docid").write_text("in the way")
    store = DocsStore(tmp_path)
    assert store.write(draft()).outcome == "created"
    assert store.manifest.read() is None


def test_reading_never_writes(store: DocsStore) -> None:
    book = reopen(store, BOOK)
    book.write(outline())
    for stages in (None, BOOK, DEFAULT_STAGES):
        other = reopen(store, stages)
        [stage, *_] = other.stages
        list(other.ids(stage))
        list(other.scan(stage))
        audit(other)
        page(other)
    assert reopen(store).stages == BOOK
    empty = DocsStore(MemoryBackend())
    audit(empty)
    assert empty.backend.read_file("store.json") is None


def test_refused_document_leaves_no_manifest(tmp_path: Path) -> None:
    store = DocsStore(tmp_path / "docs")
    orphan = Document(stage="essay", doc_id="e1", task_id="t", parent_doc_id="d1", raw_text="")
    for act in (
        lambda: store.write(orphan),
        lambda: store.write_many([orphan]),
        lambda: store.ensure(EssayTask(task_id="t", doc_id="e1", parent_doc_id="d1"), lambda _: pytest.fail("paid")),
    ):
        with pytest.raises((LookupError, WriteManyError)):
            act()
    assert store.write_many([]) == []
    assert not (tmp_path / "docs").exists()


# Operations.


def test_copy_declares_the_stages_of_the_source(store: DocsStore, tmp_path: Path) -> None:
    book = reopen(store, BOOK)
    book.write(outline())
    target = DocsStore(tmp_path / "copy")
    planned = copy(book, target, dry_run=True)
    assert [each.outcome for each in planned] == ["copied"]
    assert not (tmp_path / "copy").exists()
    assert [each.outcome for each in copy(book, DocsStore(tmp_path / "copy"))] == ["copied"]
    assert DocsStore(tmp_path / "copy").stages == BOOK
    assert DocsStore(tmp_path / "copy").read("outline", "o1") == book.read("outline", "o1")
    drafts = DocsStore(MemoryBackend())
    drafts.write(draft())
    assert [each.outcome for each in copy(drafts, DocsStore(tmp_path / "copy"))] == ["copied"]
    assert set(DocsStore(tmp_path / "copy").stages) == {*BOOK, *DEFAULT_STAGES}


def test_copy_refuses_other_parents(store: DocsStore) -> None:
    book = reopen(store, BOOK)
    book.write(outline())
    declared = DocsStore(MemoryBackend(), stages=OTHER)
    with pytest.raises(StagesConflict, match="outline"):
        copy(book, declared)
    declared.manifest.declare()
    with pytest.raises(StagesConflict, match="outline"):
        copy(book, reopen(declared))
    with pytest.raises(InvalidName, match="expected one of outline"):
        copy(book, DocsStore(MemoryBackend(), stages=Stages.chain("outline")))


def test_audit_and_report_of_a_directory_use_its_manifest(tmp_path: Path) -> None:
    DocsStore(tmp_path, stages=BOOK).write(outline())
    assert list(audit(tmp_path).stages) == list(BOOK)
    assert page(tmp_path).documents == 1
    assert outline("o2").write_files(tmp_path) == tmp_path / "outline" / "o2"


def test_find_undeclared_names_directories_with_documents(tmp_path: Path, store: DocsStore) -> None:
    book = reopen(store, BOOK)
    assert find_undeclared(book.backend, DEFAULT_STAGES) == []
    book.write(outline())
    assert find_undeclared(book.backend, DEFAULT_STAGES) == ["outline"]
    assert find_undeclared(book.backend, BOOK) == []
    docs = tmp_path / "docs"
    for name in ("Not a stage", "notes/2024", "empty", "outline-2/a1"):
        (docs / name).mkdir(parents=True)
    (docs / "outline-2" / "a1" / "metadata.json").write_text("{}")
    assert find_undeclared(LocalBackend(docs), BOOK) == ["outline-2"]
    shutil.rmtree(docs)
    assert find_undeclared(LocalBackend(docs), BOOK) == []


def test_find_undeclared_skips_directories_of_others() -> None:
    class Private(MemoryBackend):
        def ids(self, stage: str) -> Any:
            raise PermissionError(errno.EACCES, "Permission denied")

    store = DocsStore(Private(), stages=BOOK)
    store.write(outline())
    assert find_undeclared(store.backend, DEFAULT_STAGES) == []


def test_objects_backend_in_memory_swaps_by_version() -> None:
    backend = ObjectsBackend("memory://")
    assert backend.swap_file("x.json", None, b"one")
    found = backend.read_file("x.json")
    assert found is not None
    assert backend.swap_file("x.json", found, b"two")
    assert not backend.swap_file("x.json", found, b"three")


def test_signal_handler_may_write_while_the_manifest_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DocsStore(tmp_path / "docs", stages=BOOK)
    swap_file = type(store.backend).swap_file
    outcomes: list[str] = []

    def write_within(*args: Any, **options: Any) -> bool:
        if not outcomes:
            outcomes.append("")
            outcomes[0] = store.write(outline("o2")).outcome
        return swap_file(*args, **options)

    monkeypatch.setattr(type(store.backend), "swap_file", write_within)
    assert store.write(outline()).outcome == "created"
    assert outcomes == ["created"]
    assert list(DocsStore(tmp_path / "docs").stages) == list(BOOK)


def test_writer_adds_its_own_stages_after_another_writer(tmp_path: Path) -> None:
    store = DocsStore(tmp_path / "docs")
    assert list(store.stages) == ["draft", "essay", "evaluation"]  # there is no manifest yet
    DocsStore(tmp_path / "docs", stages=BOOK).manifest.declare()
    store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="x"))
    for each in (store, DocsStore(tmp_path / "docs")):
        assert each.read("draft", "d1").raw_text == "x"
        assert set(BOOK) < set(each.stages)

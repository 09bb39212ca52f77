"""`DocsStore.ensure` and `source_prompt`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import pytest

from docid import (
    DocsStore,
    Document,
    DocumentNotFound,
    DraftTask,
    EssayTask,
    InvalidDocument,
    InvalidName,
    InvalidReply,
    LineageConflict,
    MissingParent,
    Reply,
    UnreadableDocument,
)
from tests.store_documents import ROW, damage, draft, essay, never, put_legacy


def test_ensure_makes_missing_and_returns_existing_document(store: DocsStore) -> None:
    store.write(draft())
    calls: list[EssayTask] = []

    def make(row: EssayTask) -> Document:
        calls.append(row)
        return Document.from_task(row, raw_text="made", parsed_text="parsed")

    first = store.ensure(ROW, make)
    texts = (first.document.raw_text, first.document.parsed_text, first.document.prompt_text)
    assert (first.outcome, first.document.outcome, texts) == ("created", "created", ("made", "parsed", None))
    again = store.ensure(ROW, never)
    assert (again.outcome, again.document.outcome, again.document.read()) == ("kept", "kept", first.document.read())
    assert (first.called, again.called, calls) == (True, False, [ROW])


def test_ensure_replaces_on_request(store: DocsStore) -> None:
    row = DraftTask(task_id="t-1", doc_id="d1")
    made: list[str] = []

    def make(row: DraftTask) -> Document:
        made.append("")
        return Document.from_task(row, raw_text=f"text {len(made)}")

    assert store.ensure(row, make, if_exists="replace").outcome == "created"
    again = store.ensure(row, make, if_exists="replace")
    assert (again.outcome, again.document.raw_text) == ("replaced", "text 2")
    assert [version.raw_text for version in store.history("draft", "d1")] == ["text 1"]
    with pytest.raises(LineageConflict):
        store.ensure(DraftTask(task_id="t-2", doc_id="d1"), make, if_exists="replace")
    put_legacy(store, "draft", "d2", {"task_id": "t-3"}, raw="once")
    with pytest.raises(UnreadableDocument, match="docid migrate"):
        store.ensure(DraftTask(task_id="t-3", doc_id="d2"), make, if_exists="replace")
    with pytest.raises(ValueError, match="if_exists: expected 'keep' or 'replace', got 'fail'"):
        store.ensure(row, make, if_exists="fail")  # type: ignore[call-overload]
    assert len(made) == 2


@pytest.mark.parametrize(
    ("row", "error"),
    [
        pytest.param(attrs.evolve(ROW, doc_id="e2", parent_doc_id="zz"), MissingParent, id="parent is missing"),
        pytest.param(attrs.evolve(ROW, doc_id="e2", parent_doc_id=None), MissingParent, id="no parent"),
        pytest.param(attrs.evolve(ROW, doc_id="e2", parent_doc_id=".."), InvalidName, id="parent is not a doc id"),
        pytest.param(attrs.evolve(ROW, task_id="e-2"), LineageConflict, id="another task"),
        pytest.param(attrs.evolve(ROW, parent_doc_id="zz"), LineageConflict, id="another parent"),
        pytest.param(attrs.evolve(ROW, doc_id=""), InvalidName, id="not reserved"),
        pytest.param(attrs.evolve(ROW, doc_id=".."), InvalidName, id="invalid doc id"),
        pytest.param(attrs.evolve(ROW, doc_id="e2", task_id=" t"), InvalidName, id="invalid task id"),
        pytest.param(attrs.evolve(ROW, doc_id="e2", doc_run_id=" r"), InvalidName, id="invalid run id"),
        pytest.param(DraftTask(task_id="t", doc_id="d9", parent_doc_id="a1"), InvalidDocument, id="parent of a draft"),
    ],
)
def test_ensure_refuses_wrong_row_before_it_calls_the_model(
    store: DocsStore, row: EssayTask, error: type[Exception]
) -> None:
    store.write(draft())
    store.write(essay())
    with pytest.raises(error):
        store.ensure(row, never)
    assert list(store.ids("essay")) == ["e1"]
    assert list(store.ids("draft")) == ["a1"]


def test_ensure_refuses_damaged_document(store: DocsStore) -> None:
    row = DraftTask(task_id="t-1", doc_id="a1")
    store.write(draft())
    damage(store, "raw.txt", b"onc")
    with pytest.raises(UnreadableDocument, match="raw.txt: 3 bytes, but the record says 4"):
        store.ensure(row, never)


def test_ensure_reads_again_if_a_size_differs(store: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(draft())
    monkeypatch.setattr(store.backend, "sizes", lambda *_: {"raw.txt": 99})  # as of another version
    assert store.ensure(DraftTask(task_id="t-1", doc_id="a1"), never).document.raw_text == "once"


@pytest.mark.parametrize(
    "change",
    [{"stage": "draft", "parent_doc_id": None}, {"doc_id": "e2"}, {"task_id": "e-2"}, {"parent_doc_id": "a2"}],
    ids=["stage", "doc id", "task", "parent"],
)
def test_ensure_refuses_result_of_another_identity(store: DocsStore, change: dict[str, Any]) -> None:
    store.write(draft())
    with pytest.raises(InvalidDocument, match=r"make\(\) returned .*; expected .*, as in the row of task"):
        store.ensure(ROW, lambda _: attrs.evolve(essay(), **change))
    assert list(store.ids("essay")) == []


@pytest.mark.parametrize("made", [None, b"text", 7], ids=["nothing", "bytes", "a number"])
def test_ensure_refuses_result_that_is_no_reply(store: DocsStore, made: Any) -> None:
    store.write(draft())
    returned = "None" if made is None else type(made).__name__
    with pytest.raises(
        InvalidReply, match=rf"essay/e1 .*make\(\) returned {returned}; expected the model's text"
    ) as caught:
        store.ensure(ROW, lambda _: made)
    assert isinstance(caught.value, TypeError)
    assert not store.exists("essay", "e1")


@pytest.mark.parametrize("made", ["once", Reply("once"), draft()], ids=["text", "reply", "document"])
def test_ensure_stores_text_reply_and_document(store: DocsStore, made: Any) -> None:
    done = store.ensure(DraftTask(task_id="t-1", doc_id="a1"), lambda _: made)
    assert (done.outcome, store.read("draft", "a1").raw_text) == ("created", "once")


def test_ensure_passes_exception_on_and_writes_nothing(store: DocsStore) -> None:
    store.write(draft())

    def make(_: EssayTask) -> Document:
        raise TimeoutError("the model does not answer")

    with pytest.raises(TimeoutError):
        store.ensure(ROW, make)
    assert not store.exists("essay", "e1")


def test_slower_of_two_writers_gets_the_first_document(store: DocsStore) -> None:
    store.write(draft())

    def make(_: EssayTask) -> Document:
        store.write(essay(raw_text="the other was faster"))
        return essay(raw_text="mine")

    done = store.ensure(ROW, make)
    assert (done.outcome, done.document.raw_text) == ("kept", "the other was faster")
    [saved] = store.list_rescued()
    assert (done.rescued, saved.reply.raw_text) == (saved.location, "mine")


def test_ensure_without_required_parent(store: DocsStore) -> None:
    assert store.ensure(ROW, lambda _: essay(), require_parent=False).outcome == "created"


def test_threads_ensure_one_document(store: DocsStore) -> None:
    store.write(draft())
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda n: store.ensure(ROW, lambda _: essay(raw_text=f"{n}")), range(40)))
    assert len({each.document.raw_text for each in done}) == 1
    assert [each.called for each in done].count(True) == 1


# --- source_doc_id ---------------------------------------------------------------------------------------------


def test_source_prompt_returns_prompt_of_source(store: DocsStore) -> None:
    store.write(draft("a1", prompt_text="as it was sent\r\n"))
    store.write(draft("a2", "t-2"))
    row = DraftTask(task_id="t-3", doc_id="a3", source_doc_id="a1")
    assert store.source_prompt(row) == "as it was sent\r\n"
    assert store.source_prompt(DraftTask(task_id="t", doc_id="a3")) is None
    assert store.source_prompt(ROW) is None
    with pytest.raises(
        DocumentNotFound, match="draft/zz is not in the store.*; the source_doc_id of draft task 't-3' names it"
    ):
        store.source_prompt(attrs.evolve(row, source_doc_id="zz"))
    with pytest.raises(
        UnreadableDocument,
        match="draft/a2 .* stored without its prompt, but the source_doc_id of draft task 't-3' names it",
    ):
        store.source_prompt(attrs.evolve(row, source_doc_id="a2"))
    with pytest.raises(InvalidName):
        store.source_prompt(attrs.evolve(row, source_doc_id=".."))


def test_ensure_returns_legacy_document_of_known_lineage(store: DocsStore) -> None:
    put_legacy(store, "essay", "e1", {"task_id": "e-1", "parent_doc_id": "a1"}, raw="old")
    assert store.ensure(ROW, never).document.raw_text == "old"
    put_legacy(store, "essay", "e2", {"task_id": "e-1"}, raw="old")
    with pytest.raises(UnreadableDocument, match="does not name its task or parent.*docid migrate"):
        store.ensure(attrs.evolve(ROW, doc_id="e2"), never)
    put_legacy(store, "essay", "e3", {"task_id": "e-1"}, raw="old")
    with pytest.raises(UnreadableDocument, match="does not name its task or parent"):
        store.ensure(attrs.evolve(ROW, doc_id="e3", parent_doc_id=None), never)
    put_legacy(store, "draft", "d0", {"task_id": "t"}, parsed="p")
    with pytest.raises(UnreadableDocument, match=r"raw\.txt is missing"):
        store.ensure(DraftTask(task_id="t", doc_id="d0"), never)
    put_legacy(store, "draft", "d1", {"task_id": "t"}, raw="old")
    assert store.ensure(DraftTask(task_id="t", doc_id="d1"), never).outcome == "kept"


def test_equal_document_of_another_writer_is_kept(store: DocsStore) -> None:
    row = DraftTask(task_id="t-1", doc_id="a1")

    def make(row: DraftTask) -> Document:
        document = Document.from_task(row, raw_text="once")
        store.write(document)
        return document

    assert store.ensure(row, make).outcome == "kept"

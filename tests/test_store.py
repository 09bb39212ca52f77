"""The rules of writing and reading, the same in every backend."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
from hypothesis import HealthCheck, given, settings

from docid import (
    ContentConflict,
    DocsStore,
    Document,
    DocumentBusy,
    DocumentNotFound,
    InvalidDocument,
    InvalidName,
    LineageConflict,
    MissingParent,
    Outcome,
    Stages,
    UnreadableDocument,
)
from docid import testing as strategies
from docid.backends import MemoryBackend
from docid.backends.objects import ObjectsBackend
from docid.core.record import Record
from tests.store_documents import damage, draft, essay, put_legacy

POLICIES = ["fail", "keep", "replace"]


# --- the five outcomes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_new_document_is_created(store: DocsStore, policy: Any) -> None:
    result = store.write(draft(), if_exists=policy)
    assert result.outcome is Outcome.CREATED
    assert str(result.outcome) == "created"
    assert (result.stage, result.doc_id, result.path) == ("draft", "a1", store.path("draft", "a1"))
    assert not result.metadata_differs
    assert store.read("draft", "a1").raw_text == "once"


@pytest.mark.parametrize("policy", POLICIES)
def test_same_document_is_unchanged(store: DocsStore, policy: Any) -> None:
    first = draft(prompt_text="p", metadata={"k": 1})
    store.write(first)
    result = store.write(draft(prompt_text="p", metadata={"k": 1}), if_exists=policy)
    assert (result.outcome, result.metadata_differs) == (Outcome.UNCHANGED, False)
    assert store.read("draft", "a1") == first  # created_at too
    assert list(store.history("draft", "a1")) == []


@pytest.mark.parametrize("change", [{"metadata": {"k": 2}}, {"run_id": "r2"}], ids=["metadata", "run"])
@pytest.mark.parametrize("policy", ["fail", "keep"])
def test_other_metadata_is_reported_and_not_written(store: DocsStore, policy: Any, change: dict[str, Any]) -> None:
    first = draft(metadata={"k": 1}, run_id="r1")
    store.write(first)
    result = store.write(draft(**{"metadata": {"k": 1}, "run_id": "r1", **change}), if_exists=policy)
    assert (result.outcome, result.metadata_differs) == (Outcome.UNCHANGED, True)
    assert store.read("draft", "a1") == first


def test_replace_writes_other_metadata(store: DocsStore) -> None:
    first, second = draft(metadata={"k": 1}, parsed_text="p"), draft(metadata={"k": 2}, parsed_text="p", run_id="r")
    store.write(first)
    result = store.write(second, if_exists="replace")
    assert (result.outcome, result.metadata_differs) == (Outcome.REPLACED, False)
    assert store.read("draft", "a1", verify=True) == second
    assert list(store.history("draft", "a1")) == [first]


DIFFERENT = [
    pytest.param({"raw_text": "twice"}, ("raw",), (), id="raw"),
    pytest.param({"parsed_text": "q"}, ("parsed",), (), id="parsed"),
    pytest.param({"raw_text": "twice", "parsed_text": None}, ("raw", "parsed"), (), id="raw, and no parsed"),
    pytest.param({"parsed_text": None}, ("parsed",), (), id="no parsed"),
    pytest.param({"prompt_text": "sent"}, ("prompt",), ("prompt",), id="prompt is new"),
    pytest.param({"prompt_text": "sent", "raw_text": "twice"}, ("raw", "prompt"), (), id="prompt is new, raw another"),
    pytest.param({"raw_text": "once\n"}, ("raw",), (), id="a newline at the end"),
]


@pytest.mark.parametrize(("change", "parts", "missing"), DIFFERENT)
def test_fail_refuses_other_text(
    store: DocsStore, change: dict[str, Any], parts: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    first = draft(parsed_text="p")
    store.write(first)
    with pytest.raises(ContentConflict) as caught:
        store.write(attrs.evolve(first, **change))
    assert (caught.value.parts, caught.value.missing_parts) == (parts, missing)
    assert ("add_part" in str(caught.value)) == bool(missing)
    assert store.read("draft", "a1") == first


@pytest.mark.parametrize(("change", "parts", "missing"), DIFFERENT)
def test_keep_leaves_the_first_text(
    store: DocsStore, change: dict[str, Any], parts: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    first = draft(parsed_text="p")
    store.write(first)
    result = store.write(attrs.evolve(first, metadata={"k": 1}, **change), if_exists="keep")
    assert (result.outcome, result.missing_parts, result.metadata_differs) == (Outcome.KEPT, missing, True)
    assert store.read("draft", "a1") == first


@pytest.mark.parametrize(("change", "parts", "missing"), DIFFERENT)
def test_replace_keeps_old_version_in_history(
    store: DocsStore, change: dict[str, Any], parts: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    first = draft(parsed_text="p")
    second = attrs.evolve(first, **change)
    third = attrs.evolve(second, raw_text="thrice")
    store.write(first)
    assert store.write(second, if_exists="replace").outcome is Outcome.REPLACED
    assert store.read("draft", "a1", verify=True) == second
    assert store.write(third, if_exists="replace").outcome is Outcome.REPLACED
    assert list(store.history("draft", "a1")) == [second, first]
    assert list(store.ids("draft")) == ["a1"]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "other",
    [
        pytest.param(essay(task_id="e-2"), id="another task"),
        pytest.param(essay(parent="a2"), id="another parent"),
        pytest.param(essay(parent="a2", raw_text="y"), id="another parent and text"),
        pytest.param(essay(parent="zz"), id="missing parent"),
        pytest.param(essay(parent=None), id="no parent"),
    ],
)
def test_every_policy_refuses_another_lineage(store: DocsStore, policy: Any, other: Document) -> None:
    store.write(draft("a1"))
    store.write(draft("a2", "t-2"))
    store.write(essay())
    before = store.read("essay", "e1")
    with pytest.raises(LineageConflict) as caught:
        store.write(other, if_exists=policy)
    error = caught.value
    assert (error.stored_task_id, error.stored_parent_doc_id) == ("e-1", "a1")
    assert (error.task_id, error.parent_doc_id) == (other.task_id, other.parent_doc_id)
    assert error.location == store.location("essay", "e1")
    assert store.read("essay", "e1") == before
    assert list(store.history("essay", "e1")) == []


class Name(str, Enum):
    STAGE = "draft"
    DOC = "a1"


def test_str_enum_may_be_a_name(store: DocsStore) -> None:
    stages = Stages.chain(Name.STAGE, "essay")
    assert repr(stages) == "Stages({'draft': None, 'essay': 'draft'})"
    document = Document(stage=Name.STAGE, doc_id=Name.DOC, task_id="t-1", raw_text="once")
    result = store.write(document)
    assert (result.path, repr(document)) == (store.path("draft", "a1"), "<Document draft/a1 task_id='t-1' raw>")
    assert store.read("draft", "a1") == store.read(Name.STAGE, Name.DOC) == document
    assert store.path(Name.STAGE, Name.DOC) == store.path("draft", "a1")


def test_write_and_ensure_refuse_other_types(store: DocsStore) -> None:
    with pytest.raises(TypeError, match="document: expected a Document, got str"):
        store.write("text")  # type: ignore[arg-type]
    store.write(draft())
    stored = store.open("draft", "a1")
    with pytest.raises(TypeError, match=r"expected a Document, got StoredDocument; pass its read\(\)"):
        store.write(stored)  # type: ignore[arg-type]
    assert store.write(stored.read()).outcome is Outcome.UNCHANGED
    with pytest.raises(TypeError, match=r"row: expected a task row \(TaskRow\), got str"):
        store.ensure("a1", lambda _: draft())  # type: ignore[call-overload]


def test_ensure_accepts_any_class_with_the_fields_of_a_row(store: DocsStore) -> None:
    @attrs.frozen
    class Row:
        stage: ClassVar[str] = "draft"
        task_id: str
        doc_id: str
        parent_doc_id: str | None = None
        doc_run_id: str | None = None

    row = Row("t-1", "a1")
    done = store.ensure(row, lambda row: Document.from_task(row, raw_text="once"))
    assert (done.row, done.document.task_id, done.outcome) == (row, "t-1", Outcome.CREATED)


def test_unknown_policy_is_refused(store: DocsStore) -> None:
    with pytest.raises(ValueError, match="if_exists: expected 'fail', 'keep' or 'replace', got 'overwrite'"):
        store.write(draft(), if_exists="overwrite")  # type: ignore[arg-type]


def test_stages_do_not_share_ids(store: DocsStore) -> None:
    store.write(draft("same"))
    store.write(essay("same", parent="same"))
    assert store.read("draft", "same").task_id == "t-1"
    assert store.read("essay", "same").task_id == "e-1"


# --- parents ---------------------------------------------------------------------------------------------------


def test_document_without_parent_is_not_written(store: DocsStore) -> None:
    with pytest.raises(MissingParent, match="its parent draft/a1 is not in the store") as caught:
        store.write(essay())
    assert (caught.value.parent_stage, caught.value.parent_doc_id, caught.value.found_in) == ("draft", "a1", ())
    assert isinstance(caught.value, LookupError)
    with pytest.raises(MissingParent, match="has no parent_doc_id; reserve the row with the table of its parents"):
        store.write(essay(parent=None))
    assert not store.exists("essay", "e1")
    assert store.write(essay(), require_parent=False).outcome is Outcome.CREATED
    assert store.write(essay("e2", parent=None), require_parent=False).outcome is Outcome.CREATED


def test_error_names_the_wrong_stage_of_a_parent(store: DocsStore) -> None:
    store.write(draft("a1"))
    store.write(essay("e1"))
    with pytest.raises(MissingParent, match=r"is not in the store; the id e1 is in stage essay; set parent_doc_id"):
        store.write(essay("e2", parent="e1"))
    with pytest.raises(MissingParent, match="the id a1 is in stage draft"):
        store.write(Document(stage="evaluation", doc_id="v1", task_id="v", raw_text="", parent_doc_id="a1"))


def test_metadata_of_another_type_differs(store: DocsStore) -> None:
    store.write(draft(metadata={"score": 1}))
    for score in (True, 1.0):
        assert store.write(draft(metadata={"score": score})).metadata_differs
    assert store.write(draft(metadata={"score": True}), if_exists="replace").outcome is Outcome.REPLACED
    assert store.read("draft", "a1").metadata["score"] is True


def test_stage_without_parent_stage_refuses_a_parent(store: DocsStore) -> None:
    with pytest.raises(InvalidDocument, match="^parent_doc_id: 'a2', but stage 'draft' has no parent"):
        store.write(draft(parent_doc_id="a2"), require_parent=False)
    assert not store.exists("draft", "a1")


def test_only_replace_needs_the_parent_again(store: DocsStore) -> None:
    store.write(essay(), require_parent=False)
    assert store.write(essay()).outcome is Outcome.UNCHANGED
    assert store.write(essay(raw_text="y"), if_exists="keep").outcome is Outcome.KEPT
    with pytest.raises(MissingParent):
        store.write(essay(raw_text="y"), if_exists="replace")
    assert store.read("essay", "e1").raw_text == "x"


def test_legacy_document_is_a_valid_parent(store: DocsStore) -> None:
    put_legacy(store, "draft", "a1", {"task_id": "t-1"}, raw="once")
    assert store.write(essay()).outcome is Outcome.CREATED


# --- add_part --------------------------------------------------------------------------------------------------


def test_add_part_adds_a_part_once(store: DocsStore) -> None:
    first = draft(metadata={"k": [1, {"a": None}]}, run_id="r", prompt_text="sent")
    store.write(first)
    result = store.add_part("draft", "a1", "parsed", "7.0\r\n")
    assert (result.outcome, result.path) == (Outcome.COMPLETED, store.path("draft", "a1"))
    assert store.read("draft", "a1", verify=True) == attrs.evolve(first, parsed_text="7.0\r\n")
    assert store.add_part("draft", "a1", "parsed", "7.0\r\n").outcome is Outcome.UNCHANGED
    with pytest.raises(ContentConflict) as caught:
        store.add_part("draft", "a1", "parsed", "8.0")
    assert (caught.value.parts, caught.value.missing_parts) == (("parsed",), ())
    with pytest.raises(ContentConflict):
        store.add_part("draft", "a1", "raw", "another")
    assert list(store.history("draft", "a1")) == [first]


def test_add_part_refuses_invalid_arguments(store: DocsStore) -> None:
    with pytest.raises(DocumentNotFound):
        store.add_part("draft", "a1", "parsed", "7.0")
    store.write(draft())
    with pytest.raises(ValueError, match="part: expected one of raw, parsed, prompt, got 'score'"):
        store.add_part("draft", "a1", "score", "7.0")  # type: ignore[arg-type]
    with pytest.raises(InvalidDocument, match="^text: .*surrogate"):
        store.add_part("draft", "a1", "parsed", "\ud800")
    with pytest.raises(TypeError, match="^text: expected a str, got float"):
        store.add_part("draft", "a1", "parsed", 7.0)  # type: ignore[arg-type]
    with pytest.raises(InvalidName):
        store.add_part("draft", "../a1", "parsed", "7.0")
    assert store.read("draft", "a1").parsed_text is None


# --- reading ---------------------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=strategies.documents())
def test_any_document_is_read_as_it_was_written(store: DocsStore, document: Document) -> None:
    store.write(document, if_exists="replace") if not store.exists("draft", document.doc_id) else None
    existing = store.read("draft", document.doc_id)
    document = attrs.evolve(document, task_id=existing.task_id)
    store.write(document, if_exists="replace")
    read = store.read("draft", document.doc_id, verify=True)
    assert (read.parts(), read.metadata, read.run_id) == (document.parts(), document.metadata, document.run_id)
    stored = store.open("draft", document.doc_id)
    assert stored.read() == read
    assert (stored.raw_text, stored.parsed_text, stored.prompt_text) == (
        document.raw_text,
        document.parsed_text,
        document.prompt_text,
    )
    assert stored.sizes == {part: len(text.encode()) for part, text in document.parts().items()}


def test_stored_document_exposes_its_record(store: DocsStore) -> None:
    document = draft(run_id="r", metadata={"k": 1}, prompt_text="p")
    store.write(document)
    stored = store.open("draft", "a1", verify=True)
    assert (stored.stage, stored.doc_id, stored.task_id, stored.parent_doc_id) == ("draft", "a1", "t-1", None)
    assert (stored.run_id, stored.created_at, stored.metadata) == ("r", document.created_at, {"k": 1})
    assert (stored.legacy, stored.outcome, stored.path) == (False, None, store.path("draft", "a1"))
    assert stored.record["files"]["raw.txt"]["bytes"] == 4
    assert repr(stored) == "<StoredDocument draft/a1 task_id='t-1'>"
    with pytest.raises(ValueError, match="part: expected"):
        stored.text("score")  # type: ignore[arg-type]


def test_not_found_error_names_the_stage_of_the_id(store: DocsStore) -> None:
    store.write(draft("same"))
    for read in (store.read, store.open):
        with pytest.raises(
            DocumentNotFound, match="essay/same is not in the store.*; that id is in stage draft"
        ) as caught:
            read("essay", "same")
        assert caught.value.found_in == ("draft",)
        assert isinstance(caught.value, LookupError)
    with pytest.raises(DocumentNotFound):
        store.read("draft", "other")
    assert not store.exists("draft", "other")


def test_empty_store_has_no_documents(store: DocsStore) -> None:
    assert [list(store.ids(stage)) for stage in store.stages] == [[], [], []]
    assert list(store.documents("draft")) == []
    assert list(store.history("draft", "a1")) == []
    assert not store.exists("draft", "a1")


def test_documents_and_ids_cover_one_stage(store: DocsStore) -> None:
    for number in range(50):
        store.write(draft(f"d{number}", f"t-{number}"))
    assert sorted(store.ids("draft")) == sorted(f"d{number}" for number in range(50))
    assert {document.task_id for document in store.documents("draft")} == {f"t-{number}" for number in range(50)}
    assert list(store.documents("essay")) == []


@pytest.mark.parametrize(
    ("stage", "doc_id"), [("draft", ".."), ("draft", "a/b"), ("Draft", "a1"), ("chapter", "a1"), ("..", "a1")]
)
def test_invalid_name_never_reaches_the_backend(store: DocsStore, stage: str, doc_id: str) -> None:
    methods: list[Any] = [store.path, store.exists, store.open, store.read, store.history]
    for method in methods:
        with pytest.raises(InvalidName):
            method(stage, doc_id)
    if stage != "draft":
        streams: list[Any] = [store.ids, store.documents]
        for stream in streams:
            with pytest.raises(InvalidName):
                stream(stage)


def test_open_document_keeps_its_version(store: DocsStore) -> None:
    store.write(draft(parsed_text="p1"))
    opened = store.open("draft", "a1")
    store.write(draft(raw_text="twice", parsed_text="p2"), if_exists="replace")
    store.add_part("draft", "a1", "prompt", "q")
    assert (opened.raw_text, opened.parsed_text, opened.prompt_text) == ("once", "p1", None)
    assert store.open("draft", "a1").raw_text == "twice"


def test_open_document_reports_its_removal() -> None:
    backend = MemoryBackend()
    store = DocsStore(backend)
    store.write(draft())
    opened = store.open("draft", "a1")
    backend._documents["draft"].clear()
    with pytest.raises(DocumentNotFound):
        _ = opened.raw_text
    assert list(store.documents("draft")) == []
    store.write(draft("a1", "another"))
    with pytest.raises(UnreadableDocument, match="another document replaced it after it was opened; open it again"):
        opened.read()


DAMAGE = [
    pytest.param("raw.txt", None, "raw.txt: listed in the record, but missing", False, id="file gone"),
    pytest.param("raw.txt", b"onc", "raw.txt: 3 bytes, but the record says 4", False, id="cut short"),
    pytest.param("raw.txt", b"", "raw.txt: 0 bytes, but the record says 4", False, id="emptied"),
    pytest.param("parsed.txt", b"\xff", "parsed.txt: (byte 0 is not UTF-8|its SHA-256|2 bytes)", False, id="not UTF-8"),
    pytest.param("raw.txt", b"ONCE", "raw.txt: its SHA-256 differs from the record", True, id="one bit"),
    pytest.param("metadata.json", b"{", "metadata.json: not JSON", False, id="record torn"),
    pytest.param(
        "metadata.json",
        b'{"format": "docid/document/9"}',
        "a later docid wrote it; upgrade docid to read it",
        False,
        id="later major",
    ),
    pytest.param(
        "metadata.json",
        b'{"format": "docid/document/1", "stage": "draft", "doc_id": "b2"}',
        "its record belongs to draft/b2",
        False,
        id="record of another document",
    ),
]


@pytest.mark.parametrize(("name", "data", "message", "needs_hash"), DAMAGE)
def test_damage_is_reported_by_reads_and_writes(
    store: DocsStore,
    name: str,
    data: bytes | None,
    message: str,
    needs_hash: bool,
) -> None:
    document = draft(parsed_text="p")
    store.write(document)
    damage(store, name, data)
    for read in (
        lambda: store.read("draft", "a1", verify=True),
        lambda: store.open("draft", "a1", verify=True),
        lambda: store.write(document) if name != "parsed.txt" else store.read("draft", "a1"),
        lambda: store.open("draft", "a1").read(verify=True),
    ):
        with pytest.raises(UnreadableDocument, match=message) as caught:
            read()
        assert store.location("draft", "a1") in str(caught.value)
    if needs_hash:
        assert store.read("draft", "a1").raw_text == "ONCE"
    else:
        with pytest.raises(UnreadableDocument, match=message):
            store.read("draft", "a1")
    assert store.exists("draft", "a1")


def test_damage_is_not_a_content_conflict(store: DocsStore) -> None:
    store.write(draft())
    damage(store, "raw.txt", b"ONCE")
    for policy in POLICIES:
        with pytest.raises(UnreadableDocument, match="SHA-256"):
            store.write(draft(raw_text="new"), if_exists=policy)  # type: ignore[arg-type]


# --- records of older systems ----------------------------------------------------------------------------------


def test_legacy_document_opens_and_reads(store: DocsStore) -> None:
    put_legacy(store, "draft", "4a", {"task_id": "t", "usage": None}, raw="r\r\n", prompt="p")
    stored = store.open("draft", "4a", verify=True)
    assert (stored.legacy, stored.task_id, stored.created_at, stored.parsed_text) == (True, "t", None, None)
    assert (stored.raw_text, stored.prompt_text, stored.sizes) == ("r\r\n", "p", {"raw": 3, "prompt": 1})
    document = stored.read()
    assert (document.task_id, document.created_at, document.metadata) == ("t", None, {"usage": None})
    assert pickle.loads(pickle.dumps(document)) == document
    assert store.read("draft", "4a") == document


def test_legacy_document_without_raw_text_opens_but_does_not_read(store: DocsStore) -> None:
    put_legacy(store, "draft", "4a", {"task_id": "t"}, parsed="p")
    stored = store.open("draft", "4a")
    assert (stored.parsed_text, stored.sizes) == ("p", {"parsed": 1})
    for read in (lambda: stored.raw_text, stored.read, lambda: store.read("draft", "4a")):
        with pytest.raises(UnreadableDocument, match=r"raw\.txt is missing"):
            read()


@pytest.mark.parametrize("policy", POLICIES)
def test_write_to_legacy_document_is_unchanged_or_refused(store: DocsStore, policy: Any) -> None:
    keys = {"task_id": "e-1", "parent_doc_id": "a1", "k": 1, "doc_id": "e1"}
    put_legacy(store, "essay", "e1", keys, raw="x", parsed="p")
    same = essay(parsed_text="p", metadata={"k": 1})
    result = store.write(same, if_exists=policy)
    assert (result.outcome, result.metadata_differs) == (Outcome.UNCHANGED, False)
    result = store.write(essay(parsed_text="p"), if_exists=policy)
    assert (result.outcome, result.metadata_differs) == (Outcome.UNCHANGED, True)
    for other in (essay(raw_text="y", parsed_text="p"), essay()):
        with pytest.raises(UnreadableDocument, match="an older system wrote its record; run 'docid migrate' first"):
            store.write(other, if_exists=policy)
    with pytest.raises(LineageConflict):
        store.write(essay(task_id="e-2", parsed_text="p"), if_exists=policy)
    with pytest.raises(UnreadableDocument, match="docid migrate"):
        store.add_part("essay", "e1", "prompt", "q")
    assert store.open("essay", "e1").record == keys


def test_legacy_document_cannot_be_copied_by_write(store: DocsStore) -> None:
    put_legacy(store, "draft", "a1", {"task_id": "t"}, raw="old")
    put_legacy(store, "draft", "a2", {}, raw="old")
    other = DocsStore(MemoryBackend())
    with pytest.raises(InvalidDocument, match="^created_at: None, because"):
        other.write(store.read("draft", "a1"))
    with pytest.raises(InvalidDocument, match="^task_id: None, because"):
        other.write(store.read("draft", "a2"))


# --- stores ----------------------------------------------------------------------------------------------------


def test_local_store_pickles_and_memory_store_does_not(tmp_path: Path) -> None:
    store = DocsStore(tmp_path, durability="none")
    store.write(draft())
    assert pickle.loads(pickle.dumps(store)).read("draft", "a1").raw_text == "once"
    with pytest.raises(TypeError, match="lives in one process"):
        pickle.dumps(DocsStore(MemoryBackend()))


def test_repr_shows_the_backend_in_one_line(tmp_path: Path) -> None:
    expected = f"LocalBackend({str(tmp_path)!r}, durability='full')"
    assert repr(DocsStore(tmp_path)) == f"<DocsStore in {expected}>"
    assert repr(DocsStore(tmp_path, stages=Stages.chain("draft"))) == f"<DocsStore draft in {expected}>"
    backend = MemoryBackend()
    DocsStore(backend).write(draft())
    assert repr(backend) == "MemoryBackend(1 documents)"


def test_invalid_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="durability: expected 'full' or 'none', got 'some'"):
        DocsStore(tmp_path, durability="some")  # type: ignore[arg-type]
    for root in (None, b"docs"):
        with pytest.raises(TypeError, match="root: expected a directory or a Backend, got"):
            DocsStore(root)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="root: empty"):
        DocsStore("")
    with pytest.raises(TypeError, match="stages: expected Stages, such as Stages.chain.*, got dict"):
        DocsStore(tmp_path, stages={"draft": None})  # type: ignore[arg-type]
    for url in ("http://host/x", "s3://key:secret@bucket/x", "s3://bucket/x?versions", "s3://key:se?cret@b/x"):
        with pytest.raises(ValueError, match="is not a supported URL") as caught:
            DocsStore(url)
        assert "secret" not in str(caught.value)
        assert "se?cret" not in str(caught.value)
    for mangled in (Path("s3://key:secret@bucket/x"), "s3:/bucket/x", Path("abfss://x/y")):
        with pytest.raises(ValueError, match="a URL with one slash, as pathlib.Path writes it") as caught:
            DocsStore(mangled)
        assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="root: expected file:///directory, got 'file://docs'"):
        DocsStore("file://docs")
    with pytest.raises(ValueError, match="root: expected 'memory://' alone, got 'memory://shelf'"):
        DocsStore("memory://shelf")
    with pytest.raises(ValueError, match="expected None with the directory"):
        DocsStore(tmp_path, options={})
    with pytest.raises(ValueError, match="options, in_flight: expected None with a Backend"):
        DocsStore(MemoryBackend(), options={})
    with pytest.raises(ValueError, match="in_flight: expected 1 or more, got 0"):
        DocsStore(ObjectsBackend("memory://", in_flight=0))
    with pytest.raises(ValueError, match="expected None with the directory"):
        DocsStore(tmp_path, in_flight=8)
    assert repr(DocsStore(f"file://{tmp_path}/a%20b").path("draft", "d1")) == repr(tmp_path / "a b" / "draft" / "d1")


class AlwaysBusy(MemoryBackend):
    """A backend in which another writer is always faster."""

    def create(self, *_: Any) -> bool:
        return False

    def amend(self, *_: Any) -> bool:
        return False

    def replace(self, *_: Any) -> bool:
        return False


def test_writer_gives_up_after_repeated_conflicts() -> None:
    backend = AlwaysBusy()
    store = DocsStore(backend)
    told = (
        "draft/a1 (task_id='t-1') at memory://draft/a1 was not written: other writers changed it at every attempt; try"
    )
    with pytest.raises(DocumentBusy, match=re.escape(told)):
        store.write(draft())
    record, parts = Record.from_document(draft(), "n")
    MemoryBackend.create(backend, "draft", "a1", record.to_bytes(), parts)
    with pytest.raises(DocumentBusy, match=re.escape(told)):
        store.add_part("draft", "a1", "parsed", "p")
    with pytest.raises(DocumentBusy, match="try again"):
        store.write(draft(raw_text="y"), if_exists="replace")


@pytest.mark.parametrize("root", ["docs", "memory://", MemoryBackend()])
def test_unknown_durability_is_refused_by_every_backend(root: Any) -> None:
    with pytest.raises(ValueError, match=r"durability: expected 'full' or 'none', got 'some'"):
        DocsStore(root, durability="some")  # type: ignore[arg-type]


def test_error_for_a_missing_object_names_its_url() -> None:
    store = DocsStore(ObjectsBackend("memory://"))
    store.write(draft())
    stored = store.open("draft", "a1")
    stored._loaded = ()
    stored.stored.parts.clear()
    stored.backend._bucket.store.delete("draft/a1.json")  # type: ignore[attr-defined]
    with pytest.raises(DocumentNotFound, match="memory://draft/a1"):
        stored.text("raw")


def test_replace_retries_after_a_concurrent_change() -> None:
    class Disturbed(MemoryBackend):
        turns = 0

        def amend(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
            self.turns += 1
            return self.turns > 1 and super().amend(stage, doc_id, expected, record, parts)

    backend = Disturbed()
    store = DocsStore(backend)
    store.write(draft())
    assert store.write(draft(run_id="r"), if_exists="replace").outcome == "replaced"
    assert (backend.turns, store.open("draft", "a1").run_id) == (2, "r")

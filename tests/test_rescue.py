"""Rescue files: where they are, what is in them, and what people do with them."""

from __future__ import annotations

import datetime as dt
import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from docid import (
    ContentConflict,
    DocsStore,
    Document,
    DraftTask,
    EssayTask,
    InvalidDocument,
    MissingParent,
    Reply,
    ReplyRescued,
)
from docid.backends import MemoryBackend
from docid.store.docs_store import DocsStore as Store
from tests.store_documents import draft, essay, never

ROW = DraftTask(task_id="t-1", doc_id="a1", doc_run_id="r-1")
PAID = Reply("a paid text", metadata={"usage": {"tokens": 12}, "cost": {1, 2}})


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("DOCID_RESCUE_DIR", str(tmp_path / "own"))
    return DocsStore(tmp_path / "docs", durability="none")


def lose(store: Store, row: Any = ROW, made: Any = PAID, **options: Any) -> Exception:
    """Ensure a row whose reply cannot be stored; return the error."""
    with pytest.raises((TypeError, ValueError, LookupError, OSError)) as caught:
        store.ensure(row, lambda *_: made, **options)
    return caught.value


def fail(*_: object, **__: object) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device", "docs")


def test_rescue_file_holds_everything_and_is_private(local: Store) -> None:
    error: Any = lose(local, prompt="sent", metadata={"model": "m"})
    file = Path(error.rescued)
    assert file.parent == Path(local.root, ".docid", "rescued", "draft")
    assert file.name.startswith("a1-20")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = json.loads(file.read_bytes())
    assert found["format"] == "docid/rescued/1"
    assert [found[key] for key in ("stage", "doc_id", "task_id", "parent_doc_id", "run_id")] == [
        "draft",
        "a1",
        "t-1",
        None,
        "r-1",
    ]
    assert found["problem"] == f"InvalidDocument: {error}"
    assert found["docid"]["given"].keys() == {"prompt", "metadata"}
    assert found["reply"] == {
        "raw_text": "a paid text",
        "parsed_text": None,
        "prompt_text": "sent",
        "metadata": {"model": "m", "usage": {"tokens": 12}, "cost": {"type": "set", "repr": "{1, 2}"}},
        "created_at": None,
    }


def test_reply_goes_to_the_users_directory_if_the_store_cannot_be_written(
    local: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(local.backend, "create", fail)
        patch.setattr(local.backend, "write_file", fail)
        error: Any = lose(local, made="a paid text")
    assert error.errno == errno.ENOSPC
    assert Path(error.rescued).is_relative_to(tmp_path / "own")
    assert "docs-" in error.rescued
    with pytest.raises(ReplyRescued):
        local.ensure(ROW, never)
    [rescued] = local.list_rescued()
    assert rescued.adopt().outcome == "created"
    assert local.read("draft", "a1").raw_text == "a paid text"
    assert list(local.list_rescued()) == []
    other = DocsStore(tmp_path / "other")
    assert other.ensure(ROW, lambda row: "of another store").outcome == "created"


def test_users_directory_is_the_state_directory(local: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCID_RESCUE_DIR")
    monkeypatch.setattr(local.backend, "write_file", fail)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    error: Any = lose(local)
    assert Path(error.rescued).is_relative_to(tmp_path / "state" / "docid" / "rescued")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    error = lose(local, DraftTask(task_id="t-2", doc_id="a2"))
    assert Path(error.rescued).is_relative_to(tmp_path / "home" / ".local" / "state" / "docid" / "rescued")


def test_reply_is_on_the_exception_if_no_file_can_be_written(
    local: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").write_bytes(b"a file")
    monkeypatch.setattr(local.backend, "write_file", fail)
    error: Any = lose(local)
    assert error.reply is PAID
    assert "docid could not save the reply" in error.__notes__[0]
    assert not hasattr(error, "rescued")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TimeoutError("the time is up"), SystemExit(1)])
def test_interrupt_while_storing_does_not_lose_the_reply(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def interrupt(*_: object) -> bool:
        raise error

    monkeypatch.setattr(store.backend, "create", interrupt)
    with pytest.raises(type(error)):
        store.ensure(ROW, lambda row: "a paid text")
    assert [each.reply.raw_text for each in store.list_rescued()] == ["a paid text"]
    assert list(store.backend.list_claims("draft")) == []


def test_interrupt_in_the_parser_does_not_lose_the_reply(store: Store) -> None:
    def parse(_: str) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.ensure(ROW, lambda row: "a paid text", parse=parse)
    assert [each.reply.raw_text for each in store.list_rescued()] == ["a paid text"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TimeoutError("the time is up")])
def test_interrupt_while_saving_saves_in_the_users_directory(
    local: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(local.backend, "write_file", interrupt)
    expected = type(error) if isinstance(error, KeyboardInterrupt) else InvalidDocument
    with pytest.raises(expected) as caught:
        local.ensure(ROW, lambda row: PAID)
    assert Path(caught.value.rescued).is_relative_to(tmp_path / "own")  # type: ignore[attr-defined]
    (tmp_path / "own2").write_bytes(b"a file")
    monkeypatch.setenv("DOCID_RESCUE_DIR", str(tmp_path / "own2"))
    with pytest.raises(expected) as caught:
        local.ensure(DraftTask(task_id="t-2", doc_id="a2"), lambda row: PAID)
    assert caught.value.reply is PAID  # type: ignore[attr-defined]


class Closed(Exception):
    """An exception that takes no attributes and has no text."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)

    def __str__(self) -> str:
        raise ValueError("no text")


def test_error_that_takes_no_attributes_loses_no_reply(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bool:
        raise Closed

    with monkeypatch.context() as patch:
        patch.setattr(store.backend, "create", refuse)
        with pytest.raises(Closed):
            store.ensure(ROW, lambda row: "paid")
    [rescued] = store.list_rescued()
    assert (rescued.reply.raw_text, rescued.problem) == ("paid", "Closed")


def test_parent_that_vanishes_during_the_call_costs_no_reply(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(draft())
    row = EssayTask(task_id="e-1", doc_id="e1", parent_doc_id="a1")
    with monkeypatch.context() as patch:

        def make(_: EssayTask) -> str:
            patch.setattr(store.backend, "exists", lambda *_: False)
            return "a paid text"

        with pytest.raises(MissingParent):
            store.ensure(row, make)
        [rescued] = store.list_rescued()
        with pytest.raises(MissingParent):
            rescued.adopt()
    assert rescued.adopt().outcome == "created"
    assert store.read("essay", "e1").raw_text == "a paid text"


def test_adopted_reply_is_the_document_that_ensure_would_have_stored(store: Store) -> None:
    made = Reply("half \ud83d", created_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC))
    lose(store, made=made, prompt="sent", metadata={"model": "m"})
    [rescued] = store.list_rescued()
    with pytest.raises(InvalidDocument, match="lone surrogate"):
        rescued.adopt()
    [rescued] = store.list_rescued()
    name = f"rescued/draft/{rescued.name}.json"
    found = store.backend.read_file(name)
    assert found is not None
    store.backend.write_file(name, found.data.replace(b"half \\ud83d", b"whole"))
    [rescued] = store.list_rescued()
    rescued.adopt()
    expected = Document.from_task(
        ROW, raw_text="whole", prompt_text="sent", metadata={"model": "m"}, created_at=made.created_at
    )
    assert store.read("draft", "a1") == expected
    assert store.ensure(ROW, never, prompt="sent", metadata={"model": "m"}, if_changed="fail").outcome == "kept"
    assert list(store.list_rescued()) == []


def test_reply_of_a_race_blocks_nothing_and_is_not_adopted_over_another_text(store: Store) -> None:
    def make(_: DraftTask) -> str:
        store.write(draft(raw_text="first", run_id="r-1"))
        return "second"

    done = store.ensure(ROW, make)
    assert done.outcome == "kept"
    assert store.ensure(ROW, never).outcome == "kept"
    [rescued] = store.list_rescued()
    assert (rescued.location, rescued.is_waiting) == (done.rescued, False)
    with pytest.raises(ContentConflict):
        rescued.adopt()
    rescued.discard()
    rescued.discard()
    assert list(store.list_rescued()) == []


def test_reply_that_equals_the_stored_document_is_adopted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store.backend, "create", fail)
        lose(store, made="text")
    store.write(draft(raw_text="text", run_id="r-1"))
    [rescued] = store.list_rescued()
    assert rescued.adopt().outcome == "unchanged"
    assert list(store.list_rescued()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"format": "docid/rescued/2"}',
        b'{"format": "docid/rescued/1"}',
        b'{"format": "docid/rescued/1", "reply": 5, "docid": []}',
        b'{"format": "docid/rescued/1", "reply": {"created_at": "now"}}',
    ],
)
def test_file_that_cannot_be_read_is_listed_and_blocks(store: Store, content: bytes) -> None:
    store.backend.write_file("rescued/draft/a1-20260102t030405.000006z-0123456789abcdef.json", content)
    store.backend.write_file("rescued/draft/notes.json", b"somebody's own")
    [rescued] = store.list_rescued()
    assert (rescued.doc_id, rescued.reply.raw_text) == ("a1", "")
    with pytest.raises(InvalidDocument, match="raw_text: empty; edit it in .*rescued/draft/a1-"):
        rescued.adopt()
    with pytest.raises(ReplyRescued):
        store.ensure(ROW, never)
    rescued.discard()


class Odd:
    def __repr__(self) -> str:
        raise ValueError("no repr")


def test_any_object_can_be_saved(local: Store) -> None:
    own: dict[str, Any] = {}
    own["a"] = own["b"] = [own]
    made = {"odd": Odd(), "deep": own, ("a", 1): {2}, "name": "half \ud83d", "nan": float("nan")}
    error: Any = lose(local, made=made)
    found = json.loads(Path(error.rescued).read_bytes())["reply"]
    assert (found["raw_text"], found["object"]["name"]) == ("", "half \ud83d")
    assert found["object"]["odd"] == {"type": "Odd", "repr": "repr failed: ValueError"}
    assert found["object"]["('a', 1)"] == {"type": "set", "repr": "{2}"}


def test_backend_without_files_saves_in_the_users_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCID_RESCUE_DIR", str(tmp_path / "own"))

    class Bare(MemoryBackend):
        root = "bare://"

        def write_file(self, name: str, data: bytes, *, is_private: bool = False) -> None:
            raise OSError(errno.ENOTSUP, "no files")

    store = DocsStore(Bare())
    error: Any = lose(store)
    assert Path(error.rescued).is_relative_to(tmp_path / "own")
    assert [each.doc_id for each in store.list_rescued()] == ["a1"]


def test_replaced_document_is_made_again_in_spite_of_a_rescued_reply(store: Store) -> None:
    """A rescued reply blocks only a document that does not exist."""
    store.write(draft(run_id="r-1"))
    lose(store, if_exists="replace")
    assert store.ensure(ROW, lambda row: "again", if_exists="replace").outcome == "replaced"
    [rescued] = store.list_rescued()
    assert not rescued.is_waiting
    assert "RescuedReply draft/a1 at" in repr(rescued)


def test_rescued_replies_come_by_stage_and_doc_id(store: Store) -> None:
    store.write(draft())
    for doc_id in ("e2", "e1"):
        lose(store, EssayTask(task_id=f"t-{doc_id}", doc_id=doc_id, parent_doc_id="a1"))
    lose(store, DraftTask(task_id="t-9", doc_id="d9"))
    assert [(each.stage, each.doc_id) for each in store.list_rescued()] == [
        ("draft", "d9"),
        ("essay", "e1"),
        ("essay", "e2"),
    ]
    assert essay().stage == "essay"
    assert os.sep in str(store.root) or "memory" in store.root

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given

from docid import Document, DraftTask, EssayTask, InvalidDocument, InvalidName, Stages
from docid import testing as strategies
from docid.core.document import OUR_KEYS
from docid.core.lineage_rules import is_same_lineage
from docid.core.record import PartEntry, Record

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def make(**changes: Any) -> Document:
    fields = {"stage": "draft", "doc_id": "a1", "task_id": "t-1", "raw_text": "text", "created_at": NOON}
    return Document(**{**fields, **changes})


def record_of(document: Document) -> dict[str, Any]:
    data: dict[str, Any] = orjson.loads(Record.from_document(document, "n0nce")[0].to_bytes())
    return data


def test_document_is_frozen_and_compares_by_value() -> None:
    document = make()
    assert document == make()
    assert hash(document) == hash(make())
    assert document != make(raw_text="text\n")
    assert document != make(metadata={"a": 1})
    assert pickle.loads(pickle.dumps(document)) == document
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        document.raw_text = "other"  # type: ignore[misc]
    assert repr(document) == "<Document draft/a1 task_id='t-1' raw>"
    assert len(repr(make(raw_text="x" * 10**6, prompt_text="p", task_id="t" * 500))) < 200


def test_document_defaults_are_empty_and_created_now() -> None:
    before = datetime.now(UTC)
    document = Document(stage="draft", doc_id="a1", task_id="t", raw_text="")
    assert document.created_at is not None
    assert before <= document.created_at <= datetime.now(UTC)
    assert document.created_at.tzinfo is UTC
    assert (document.parent_doc_id, document.parsed_text, document.prompt_text, document.run_id) == (None,) * 4
    assert document.metadata == {}
    assert document.parts() == {"raw": ""}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        pytest.param({"stage": "Draft"}, InvalidName, "^stage 'Draft': not a stage name", id="stage"),
        pytest.param({"doc_id": ".."}, InvalidName, r"^doc_id '\.\.': not a doc id", id="doc id"),
        pytest.param({"doc_id": "nul"}, InvalidName, "^doc_id 'nul': not a doc id", id="device"),
        pytest.param({"doc_id": "A1"}, InvalidName, "^doc_id 'A1': not a doc id", id="case twin"),
        pytest.param({"parent_doc_id": "a/b"}, InvalidName, "^parent_doc_id 'a/b': not a doc id", id="parent"),
        pytest.param({"parent_doc_id": 7}, TypeError, "^parent_doc_id: expected a str, got int", id="parent type"),
        pytest.param({"task_id": ""}, InvalidName, "^task_id '': empty", id="task empty"),
        pytest.param({"task_id": None}, TypeError, "^task_id: expected a str, got NoneType", id="task None"),
        pytest.param({"run_id": " r"}, InvalidName, "^run_id ' r': leading or trailing white space", id="run"),
        pytest.param({"raw_text": None}, TypeError, "^raw_text: expected a str", id="no text"),
        pytest.param({"raw_text": b"bytes"}, TypeError, "^raw_text: expected a str, got bytes", id="bytes"),
        pytest.param({"parsed_text": 7.0}, TypeError, "^parsed_text: expected a str, got float", id="number"),
        pytest.param(
            {"prompt_text": "ab\ud800"}, InvalidDocument, r"^prompt_text: character 2 .* U\+D800", id="surrogate"
        ),
        pytest.param({"created_at": "2026-11-23"}, TypeError, "^created_at: expected a datetime", id="time text"),
        pytest.param(
            {"created_at": datetime(2026, 11, 23)}, InvalidDocument, "^created_at: .* no time zone", id="naive"
        ),
        pytest.param(
            {"created_at": datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))},
            InvalidDocument,
            "^created_at: .* expected a year from 1 to 9999 in UTC",
            id="before the first year",
        ),
        pytest.param({"metadata": [("a", 1)]}, TypeError, "^metadata: expected a mapping", id="pairs"),
    ],
)
def test_invalid_field_is_refused_by_name(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(**changes)


def test_record_has_the_documented_format() -> None:
    document = make(
        stage="essay",
        parent_doc_id="p1",
        parsed_text="parsé",
        run_id="r",
        metadata={"template_id": "x"},
        created_at=datetime(2026, 11, 23, 5, tzinfo=timezone(timedelta(hours=1))),
    )
    record, parts = Record.from_document(document, "n0nce")
    assert parts == {"raw.txt": b"text", "parsed.txt": "parsé".encode()}
    assert json.loads(record.to_bytes()) == {
        "format": "docid/document/1",
        "stage": "essay",
        "doc_id": "a1",
        "task_id": "t-1",
        "parent_doc_id": "p1",
        "run_id": "r",
        "created_at": "2026-11-23T04:00:00.000000Z",
        "files": {
            "raw.txt": {
                "bytes": 4,
                "sha256": "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1",
            },
            "parsed.txt": {"bytes": 6, "sha256": PartEntry.of("parsé".encode()).sha256},
        },
        "docid": {"nonce": "n0nce"},
        "template_id": "x",
    }
    assert record.to_bytes().startswith(b'{\n  "format": "docid/document/1",\n')
    assert record.to_bytes().endswith(b"}\n")
    assert list(record_of(document))[: len(OUR_KEYS)] == list(OUR_KEYS)


@given(strategies.documents())
def test_record_round_trip_keeps_the_document(document: Document) -> None:
    record, parts = Record.from_document(document, "n0nce")
    again = Record.from_bytes(record.to_bytes(), document.stage, document.doc_id)
    assert again == record
    assert again.document(document.stage, document.doc_id, {n: data.decode() for n, data in parts.items()}) == document


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"format": "docid/document/2"}, "a later docid wrote it", id="later major"),
        pytest.param({"format": "docid/other/1"}, "a later docid wrote it", id="another of docid's formats"),
        pytest.param({"stage": "essay"}, "its record belongs to essay/a1", id="another stage"),
        pytest.param({"doc_id": "b2"}, "its record belongs to draft/b2", id="another id"),
        pytest.param({"task_id": None}, "task_id: expected str, got None", id="no task"),
        pytest.param({"parent_doc_id": 7}, "parent_doc_id: expected str, got 7", id="parent a number"),
        pytest.param({"created_at": "yesterday"}, "created_at|isoformat", id="no time"),
        pytest.param({"created_at": "2026-11-23T12:00:00"}, "no time zone", id="time without zone"),
        pytest.param(
            {"created_at": "0001-01-01T00:00:00+14:00"},
            "expected a year from 1 to 9999",
            id="time before the first year",
        ),
        pytest.param({"files": []}, "files: expected dict", id="files a list"),
        pytest.param({"files": {}}, "raw.txt", id="no raw.txt"),
        pytest.param({"files": {"raw.txt": 7}}, "not a docid/document/1 record", id="entry a number"),
        pytest.param(
            {"files": {"raw.txt": {"bytes": "4", "sha256": "x"}}}, "bytes: expected int, got '4'", id="size a text"
        ),
        pytest.param({"files": {"raw.txt": {"bytes": 4}}}, "sha256", id="no hash"),
        pytest.param({"docid": None}, "docid: expected dict, got None", id="no docid"),
    ],
)
def test_invalid_or_foreign_record_is_refused(change: dict[str, Any], message: str) -> None:
    data = orjson.dumps({**record_of(make()), **change})
    with pytest.raises(InvalidDocument, match=message):
        Record.from_bytes(data, "draft", "a1")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b'{"format": "docid', "not JSON", id="torn"),
        pytest.param(b"\xff\xfe", "not JSON", id="binary"),
        pytest.param(b"[]", "not a JSON object", id="list"),
        pytest.param(b"7", "not a JSON object", id="number"),
    ],
)
def test_record_must_be_a_json_object(data: bytes, message: str) -> None:
    with pytest.raises(InvalidDocument, match=message):
        Record.from_bytes(data, "draft", "a1")


def test_add_part_keeps_unknown_keys() -> None:
    data = record_of(make(metadata={"mine": 1}))
    data["docid"]["later"] = {"a": 1}
    data["files"]["raw.txt"]["later"] = 2
    data["files"]["thumbnail.png"] = {"bytes": 1, "sha256": "x"}
    record = Record.from_bytes(orjson.dumps(data), "draft", "a1").with_part("parsed.txt", b"p", "n2")
    again = orjson.loads(record.to_bytes())
    assert again["docid"] == {"nonce": "n2", "later": {"a": 1}}
    assert again["files"]["raw.txt"] == data["files"]["raw.txt"]
    assert list(again["files"]) == ["raw.txt", "parsed.txt", "thumbnail.png"]
    assert again["mine"] == 1


def test_replace_keeps_unknown_keys() -> None:
    data = record_of(make())
    data["docid"]["later"] = 1
    data["files"]["raw.txt"]["mime"] = "text/plain"
    data["files"]["notes.txt"] = {"bytes": 1, "sha256": "x"}
    old = Record.from_bytes(orjson.dumps(data), "draft", "a1")
    new = Record.from_document(make(metadata={"k": 1}), "n2")[0].with_additions_of(old)
    assert new.data["docid"] == {"nonce": "n2", "later": 1}
    assert new.data["files"]["raw.txt"] == {**record_of(make())["files"]["raw.txt"], "mime": "text/plain"}
    assert new.data["files"]["notes.txt"] == {"bytes": 1, "sha256": "x"}
    assert new.data["k"] == 1


@pytest.mark.parametrize(
    "data", [b'{"task_id": "t", "n": NaN}', b'\xef\xbb\xbf{"task_id": "t"}', b'{"task_id": "t", "a": "\\ud800"}']
)
def test_legacy_record_may_be_lenient_json(data: bytes) -> None:
    assert Record.from_bytes(data, "draft", "a1").task_id == "t"
    with pytest.raises(InvalidDocument, match="not JSON"):
        Record.from_bytes(data.replace(b'"task_id": "t"', b'"format": "docid/document/1", "n": NaN'), "draft", "a1")


def legacy(**keys: Any) -> Record:
    return Record.from_bytes(orjson.dumps(keys), "essay", "a1")


def test_legacy_record_is_read_unchanged() -> None:
    record = legacy(task_id="t", parent_doc_id="p", run_id="r", format="markdown", stage="other", files=["x"], doc_id=7)
    assert record.legacy
    assert (record.task_id, record.parent_doc_id, record.run_id, record.created_at) == ("t", "p", "r", None)
    assert record.metadata == {"format": "markdown", "stage": "other", "files": ["x"], "doc_id": 7}
    bare = legacy(task_id=None, parent_doc_id="", run_id=5)
    assert (bare.task_id, bare.parent_doc_id, bare.run_id) == (None, None, None)
    assert bare.metadata == {"task_id": None, "parent_doc_id": "", "run_id": 5}


@pytest.mark.parametrize(
    ("record", "task_id", "parent", "same"),
    [
        pytest.param(legacy(task_id="t", parent_doc_id="p"), "t", "p", True, id="all equal"),
        pytest.param(legacy(task_id="t", parent_doc_id="p"), "u", "p", False, id="another task"),
        pytest.param(legacy(task_id="t", parent_doc_id="p"), "t", "q", False, id="another parent"),
        pytest.param(legacy(task_id="t", parent_doc_id="p"), "t", None, False, id="a parent, none given"),
        pytest.param(legacy(task_id="t"), "t", "p", None, id="parent unknown"),
        pytest.param(legacy(task_id="t"), "t", None, True, id="no parent, none given"),
        pytest.param(legacy(parent_doc_id="p"), "t", "p", None, id="task unknown"),
        pytest.param(legacy(parent_doc_id="p"), "t", "q", False, id="task unknown, another parent"),
        pytest.param(legacy(), "t", None, None, id="nothing known"),
    ],
)
def test_unknown_lineage_is_neither_match_nor_conflict(
    record: Record,
    task_id: str,
    parent: str | None,
    same: bool | None,
) -> None:
    assert is_same_lineage(record, task_id, parent, ()) is same


def test_current_record_without_parent_has_none() -> None:
    record = Record.from_document(make(), "n")[0]
    assert is_same_lineage(record, "t-1", None, ()) is True
    assert is_same_lineage(record, "t-1", "p", ()) is False
    assert is_same_lineage(record, "t-2", None, ()) is False


def test_from_task_takes_identity_and_lineage() -> None:
    row = EssayTask(task_id="t-1", doc_id="a1", parent_doc_id="p1", doc_run_id="run-7")
    document = Document.from_task(
        row, raw_text="r", parsed_text="p", prompt_text="q", metadata={"a": 1}, created_at=NOON
    )
    assert document == make(
        stage="essay",
        parent_doc_id="p1",
        raw_text="r",
        parsed_text="p",
        prompt_text="q",
        metadata={"a": 1},
        run_id="run-7",
    )
    assert Document.from_task(row, raw_text="r", run_id="other").run_id == "other"
    with pytest.raises(
        InvalidName,
        match="^doc_id '': the row of task 't' is not reserved.*expected a row from reserve_tasks",
    ):
        Document.from_task(DraftTask(task_id="t"), raw_text="")
    for other in ("t", Document.from_task(row, raw_text="r")):
        with pytest.raises(TypeError, match=f"row: expected a task row .*, got {type(other).__name__}"):
            Document.from_task(other, raw_text="")  # type: ignore[arg-type]


def test_write_files_writes_into_a_store(tmp_path: Path) -> None:
    directory = make().write_files(tmp_path / "docs")
    assert directory == tmp_path / "docs" / "draft" / "a1"
    assert (directory / "raw.txt").read_bytes() == b"text"
    stages = Stages.chain("outline", "chapter")
    chapter = make(stage="chapter", parent_doc_id="p1")
    chapter.write_files(tmp_path / "book", stages=stages, durability="none", require_parent=False)
    assert (tmp_path / "book" / "chapter" / "a1" / "metadata.json").is_file()

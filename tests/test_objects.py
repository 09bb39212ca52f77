"""Object stores, in memory and on an S3 server: the stored format, and the requests of each call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import obstore
import orjson
import pytest

from docid import (
    ContentConflict,
    DocsStore,
    Document,
    DraftTask,
    EssayTask,
    MissingParent,
    UnreadableDocument,
    WriteManyError,
    audit,
)
from docid.backends import Backend
from docid.backends.objects import ObjectsBackend
from docid.errors import InvalidDocument
from docid.repair import repair
from docid.store.backends.objects.format import pack, unpack
from docid.testing import BackendTests
from tests.object_documents import draft
from tests.servers import Moto


@pytest.fixture
def store(s3: Moto) -> DocsStore:
    return DocsStore(s3.bucket(), options=s3.options())


class TestInMemory(BackendTests):
    @pytest.fixture
    def backend(self) -> Backend:
        return ObjectsBackend("memory://")


class TestOnS3(BackendTests):
    @pytest.fixture
    def backend(self, s3: Moto) -> Backend:
        return ObjectsBackend(s3.bucket(), options=s3.options())


def test_document_is_one_json_object(store: DocsStore) -> None:
    store.write(draft(parsed_text="p", metadata={"model_id": "m"}))
    backend = store.backend
    assert isinstance(backend, ObjectsBackend)
    found = json.loads(bytes(obstore.get(backend._bucket.store, "draft/d1.json").bytes()))
    assert found.pop("texts") == {"raw.txt": "once", "parsed.txt": "p"}
    assert found == store.open("draft", "d1").record
    assert found["model_id"] == "m"
    assert store.location("draft", "d1") == f"{backend.root}/draft/d1.json"


LEGACY = [
    b'{"task_id": "t-1", "b":1}',
    b'{"x": 1.0e5, "big": 123456789012345678901234567890}\n',
    b'{"a": 1, "a": 2}',
    b'{"texts": {"raw.txt": "not this"}, "a": 1}',
    b'{"a": "\\ud800"}',
    b"[]",
    b"{",
    b"",
    b'\n {"caf\xc3\xa9": "\\u00e9"} \n\n',
]


@pytest.mark.parametrize("record", LEGACY)
def test_pack_keeps_legacy_record_byte_for_byte(record: bytes) -> None:
    parts = {"raw.txt": b"x\r\n", "parsed.txt": b""}
    data = pack(record, parts)
    assert unpack(data) == (record, parts)
    assert json.loads(data)["texts"]["raw.txt"] == "x\r\n"


@pytest.mark.parametrize(
    ("record", "parts", "message"),
    [
        pytest.param(b"{}", {"raw.txt": b"\xff"}, "not UTF-8", id="a part"),
        pytest.param(b'{"a": "\xff"}', {}, "not UTF-8", id="the record"),
    ],
)
def test_create_refuses_bytes_that_are_not_utf8(record: bytes, parts: dict[str, bytes], message: str) -> None:
    backend = ObjectsBackend("memory://")
    with pytest.raises(InvalidDocument, match=message):
        backend.create("draft", "d1", record, parts)
    assert backend.load("draft", "d1") is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"{", "not JSON", id="torn"),
        pytest.param(b"[]", "with the key 'texts'", id="a list"),
        pytest.param(b"{}", "with the key 'texts'", id="no texts"),
        pytest.param(b'{"texts": {"raw.txt": 1}}', "with the key 'texts'", id="texts that are none"),
    ],
)
def test_invalid_object_is_found_and_quarantined(data: bytes, message: str) -> None:
    store = DocsStore(ObjectsBackend("memory://"))
    backend = store.backend
    assert isinstance(backend, ObjectsBackend)
    store.write(draft("good"))
    obstore.put(backend._bucket.store, "draft/d1.json", data)
    with pytest.raises(UnreadableDocument, match=message):
        store.open("draft", "d1")
    with pytest.raises(UnreadableDocument, match="memory://draft/d1.json cannot be used"):
        store.write(draft())
    [finding] = audit(store).findings
    assert (finding.code, finding.where) == ("unreadable-record", "memory://draft/d1.json")
    assert [step.done for step in repair(store, apply=True)] == [False]  # too young: a writer may still be active
    [step] = repair(store, apply=True, stale_after=0)
    assert (step.action, step.done) == ("quarantine", True)
    assert step.to.endswith("/draft/d1.json")
    assert list(repair(store, apply=True, stale_after=0)) == []
    assert store.write(draft()).outcome == "created"
    assert bytes(obstore.get(backend._bucket.store, step.to).bytes()) == data
    [purged] = repair(store, apply=True, purge=True, older_than=0)
    assert (purged.action, purged.done, purged.path) == ("purge", True, step.to)


def test_purge_deletes_history_on_request(store: DocsStore) -> None:
    for number in range(3):
        store.write(draft(raw_text=f"{number}"), if_exists="replace")
    assert list(repair(store, purge=True, history=True)) == []
    steps = list(repair(store, apply=True, purge=True, history=True, older_than=0))
    assert [(step.action, step.done) for step in steps] == [("purge", True)] * 2
    assert list(store.history("draft", "d1")) == []
    assert store.read("draft", "d1").raw_text == "2"


def test_objects_with_other_names_are_ignored(store: DocsStore) -> None:
    backend = store.backend
    assert isinstance(backend, ObjectsBackend)
    store.write(draft())
    for name in ("draft/NO.json", "draft/d2", "draft/sub/d3.json", "draft.json", "draft2/d4.json", "draft/.json"):
        obstore.put(backend._bucket.store, name, b"{}")
    assert list(store.ids("draft")) == ["d1"]
    assert audit(store).findings == ()


def test_interrupted_replace_is_in_history_once(store: DocsStore) -> None:
    backend = store.backend
    assert isinstance(backend, ObjectsBackend)
    store.write(draft())
    first = backend._bucket.get("draft/d1.json")
    assert first is not None
    # The process copied the old version to history and ended before it put the new one.
    place = ".docid/history/draft/d1/"
    for _ in range(2):
        backend._put_aside(place, first.data)
    assert list(store.history("draft", "d1")) == []
    store.write(draft(raw_text="twice"), if_exists="replace")
    assert [each.raw_text for each in store.history("draft", "d1")] == ["once"]
    obstore.delete(backend._bucket.store, "draft/d1.json")
    assert [each.raw_text for each in store.history("draft", "d1")] == ["once"]


def test_each_call_makes_one_request(s3: Moto, store: DocsStore) -> None:
    def count_requests(act: Any) -> dict[str, int]:
        s3.counts()
        act()
        return s3.counts()

    store.write(draft("d0", task_id="t-0"))  # the first write of a process checks the service and the manifest
    row = DraftTask(task_id="t-1", doc_id="d1")
    assert count_requests(lambda: store.write(draft(parsed_text="p", prompt_text="q"))) == {"PUT": 1}
    assert count_requests(lambda: store.write(draft("d2"))) == {"PUT": 1}
    assert count_requests(lambda: store.ensure(row, lambda _: draft())) == {"GET": 1}
    assert count_requests(lambda: store.read("draft", "d1")) == {"GET": 1}

    def read_all_parts() -> None:
        opened = store.open("draft", "d1", verify=True)
        assert (opened.raw_text, opened.parsed_text, opened.prompt_text) == ("once", "p", "q")

    assert count_requests(read_all_parts) == {"GET": 1}
    assert count_requests(lambda: store.exists("draft", "d1")) == {"HEAD": 1}
    assert count_requests(lambda: list(store.ids("draft"))) == {"GET": 1}


def test_requests_of_a_new_document_are_counted(s3: Moto, store: DocsStore) -> None:
    """Look, claim, look again, search for a rescued reply, write, and give the claim back.

    A parent costs three more: to read its version, and to check before and after the write that it is still there.
    """

    def count_requests(row: DraftTask | EssayTask, **options: Any) -> dict[str, int]:
        s3.counts()
        store.ensure(row, lambda _: "text", **options)
        return s3.counts()

    # The first call of a process also checks the service (3 PUT), and reads and writes manifest and worker file.
    first = count_requests(DraftTask(task_id="t-0", doc_id="d0"))
    assert first == {"GET": 4, "PUT": 7, "POST": 1}
    assert count_requests(DraftTask(task_id="t-1", doc_id="d1")) == {"GET": 3, "PUT": 2, "POST": 1}
    assert count_requests(DraftTask(task_id="t-2", doc_id="d2"), claim="off") == {"GET": 3, "PUT": 1}
    essay = EssayTask(task_id="e-1", doc_id="e1", parent_doc_id="d1")
    assert count_requests(essay) == {"GET": 4, "HEAD": 2, "PUT": 2, "POST": 1}
    assert count_requests(essay) == {"GET": 1}


def test_requests_of_a_removal_are_counted(s3: Moto, store: DocsStore) -> None:
    store.write_many([draft(f"d{number}", task_id=f"t-{number}") for number in range(20)])
    store.write(draft("d1", "again", task_id="t-1"), if_exists="replace")
    store.remove("draft", "d2")  # the process has its worker file then

    def count_requests(doc_id: str) -> int:
        s3.counts()
        store.remove("draft", doc_id)
        return sum(s3.counts().values())

    # 18 records, 6 listings of stages and one of quarantine, and the document itself before the pass; then 8 for the
    # move.
    assert count_requests("d3") == 19 + 7 + 1 + 8
    assert count_requests("d1") == 18 + 7 + 1 + 8 + 3


def test_write_many_checks_each_parent_once_per_batch(s3: Moto) -> None:
    store = DocsStore(ObjectsBackend(s3.bucket(), options=s3.options(), in_flight=8))
    drafts = [draft(f"d{number}", task_id=f"t-{number}") for number in range(300)]
    store.write(draft("d-0", task_id="t"))
    s3.counts()
    assert {result.outcome.value for result in store.write_many(drafts)} == {"created"}
    assert s3.counts() == {"PUT": 300}
    essays = [
        Document(stage="essay", doc_id=f"e{n}", task_id=f"t-{n}", parent_doc_id=f"d{n % 10}", raw_text="x")
        for n in range(300)
    ]
    store.write_many(essays)
    counts = s3.counts()
    # One GET per parent and batch, for its version, and one HEAD, to see that it was not removed meanwhile.
    assert counts == {"PUT": 300, "GET": 20, "HEAD": 20}
    assert {result.outcome.value for result in store.write_many(drafts)} == {"unchanged"}
    assert sorted(store.ids("draft")) == sorted(["d-0", *(each.doc_id for each in drafts)])
    assert sorted(each.doc_id for each in store.documents("draft")) == sorted(store.ids("draft"))
    report = audit(store, verify=True)
    assert report.stages["essay"].documents == 300
    assert report.ok
    orphan = Document(stage="essay", doc_id="e-x", task_id="x", parent_doc_id="gone", raw_text="x")
    with pytest.raises(WriteManyError) as caught:
        store.write_many([drafts[0], orphan, draft("d1", raw_text="other", task_id="t-1")])
    assert {at: type(error) for at, error in caught.value.failures.items()} == {1: MissingParent, 2: ContentConflict}


def test_each_is_ordered_bounded_and_stops_when_closed() -> None:
    backend = ObjectsBackend("memory://", in_flight=3)
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = backend.each(lambda number: number * 2, items())
    assert [next(results) for _ in range(5)] == [0, 2, 4, 6, 8]
    assert len(taken) <= 5 + 2 * 3
    results.close()  # type: ignore[attr-defined]
    assert len(taken) <= 5 + 2 * 3
    # A call that makes calls of its own does not wait for a free thread.
    nested = backend.each(lambda number: sum(backend.each(lambda each: each, range(number))), range(20))
    assert list(nested) == [sum(range(number)) for number in range(20)]
    with pytest.raises(ZeroDivisionError):
        list(backend.each(lambda number: 1 // number, [1, 0, 1]))


def test_later_format_is_not_overwritten(store: DocsStore) -> None:
    backend = store.backend
    assert isinstance(backend, ObjectsBackend)
    store.write(draft())
    found = backend._bucket.get("draft/d1.json")
    assert found is not None
    later = orjson.loads(found.data) | {"format": "docid/document/2"}
    obstore.put(backend._bucket.store, "draft/d1.json", orjson.dumps(later))
    with pytest.raises(UnreadableDocument, match="a later docid wrote it"):
        store.write(draft(), if_exists="replace")


def test_audit_finds_unlisted_text(store: DocsStore) -> None:
    backend = store.backend
    assert isinstance(backend, ObjectsBackend)
    store.write(draft())
    found = backend._bucket.get("draft/d1.json")
    assert found is not None
    whole = json.loads(found.data)
    whole["texts"]["parsed.txt"] = "not of it"
    obstore.put(backend._bucket.store, "draft/d1.json", orjson.dumps(whole, option=orjson.OPT_INDENT_2))
    [finding] = audit(store).findings
    assert (finding.code, finding.where) == ("unlisted-file", store.location("draft", "d1"))
    assert "the record does not list the text 'parsed.txt'" in finding.message
    assert store.read("draft", "d1").parsed_text is None
    assert [step.action for step in repair(store, apply=True, stale_after=0)] == ["leave"]

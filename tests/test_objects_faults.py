"""Faults between docid and an object store: docid retries, or raises one clear error."""

from __future__ import annotations

import os
import pickle
import socket
import threading
from collections.abc import Callable
from typing import Any

import obstore
import pytest

from docid import (
    DEFAULT_STAGES,
    DocsStore,
    Document,
    DocumentBusy,
    DocumentNotFound,
    DraftTask,
    LineageConflict,
    StoreUnavailable,
    WriteManyError,
    audit,
    reserve_tasks,
)
from docid.backends.objects import ObjectsBackend
from docid.cli import main
from docid.core.findings import Finding
from docid.curate import replay, scores
from docid.repair import repair
from docid.report import page
from docid.store.backends.objects.format import pack
from tests.object_documents import SECRET, connect, draft
from tests.servers import Moto, run_proxy


@pytest.fixture
def store(s3: Moto) -> DocsStore:
    return DocsStore(s3.bucket(), options=s3.options())


FAULTS = ["503", "500", "429", "closed", "answer lost", "slow", "answer torn"]


@pytest.mark.parametrize("fault", FAULTS)
def test_temporary_fault_is_retried(s3: Moto, fault: str) -> None:
    url = s3.bucket()
    direct = DocsStore(url, options=s3.options())
    with run_proxy(s3) as proxy:
        store = connect(proxy, s3, url)
        proxy.faults = [fault]
        result = store.write(draft())
        assert result.outcome == "created"
        assert direct.read("draft", "d1", verify=True) == store.read("draft", "d1")
        proxy.faults = [fault]
        assert store.write(draft(raw_text="twice"), if_exists="replace").outcome == "replaced"
        # A replace first tries to create, then copies the old version to history, then puts the new one.
        proxy.faults = ["", fault]
        assert store.write(draft(raw_text="twice and a half"), if_exists="replace").outcome == "replaced"
        proxy.faults = ["", "", fault]
        assert store.write(draft(raw_text="thrice"), if_exists="replace").outcome == "replaced"
        proxy.methods, proxy.faults = ("GET",), [fault]
        assert store.read("draft", "d1", verify=True).raw_text == "thrice"
        proxy.faults = [fault]
        assert list(store.ids("draft")) == ["d1"]
    assert [each.raw_text for each in direct.history("draft", "d1")] == ["twice and a half", "twice", "once"]
    assert list(direct.ids("draft")) == ["d1"]


@pytest.mark.parametrize("fault", FAULTS)
def test_lasting_fault_is_one_error_and_leaves_no_half_document(s3: Moto, fault: str) -> None:
    url = s3.bucket()
    direct = DocsStore(url, options=s3.options())
    with run_proxy(s3) as proxy:
        store = connect(proxy, s3, url)
        proxy.faults = [fault] * 100
        try:
            # If every answer is lost, docid finds the document that its own request wrote.
            outcome = store.write(draft()).outcome.value
        except StoreUnavailable as error:
            outcome = "failed"
            assert (error.action, error.location) == ("write", f"{url}/draft/d1.json")
            assert "tries" in str(error)
            assert SECRET not in str(error) + repr(error.__dict__)
            assert error.__cause__ is None
            assert error.__context__ is None
            assert pickle.loads(pickle.dumps(error)).problem == error.problem
        assert proxy.seen <= 4 * 2
        found = list(direct.ids("draft"))
        assert found == (["d1"] if outcome == "created" else [])
        proxy.faults = []
        assert store.write(draft()).outcome.value == ("unchanged" if found else "created")
        proxy.methods, proxy.faults = ("GET",), [fault] * 100
        with pytest.raises(StoreUnavailable) as caught:
            store.read("draft", "d1")
        assert caught.value.action == "read"
    assert direct.read("draft", "d1", verify=True).raw_text == "once"


def test_missing_bucket_is_reported(s3: Moto) -> None:
    store = DocsStore("s3://no-such-bucket/x", options=s3.options())
    acts: list[Any] = [
        lambda: store.write(draft()),
        lambda: store.read("draft", "d1"),
        lambda: store.exists("draft", "d1"),
        lambda: list(store.ids("draft")),
        lambda: store.ensure(DraftTask(task_id="t-1", doc_id="d1"), lambda _: draft()),
    ]
    for act in acts:
        with pytest.raises(StoreUnavailable, match="the bucket or container does not exist") as caught:
            act()
        assert "create it, or correct the URL" in str(caught.value)
    # Without stages, docid reads the manifest first.
    store = DocsStore("s3://no-such-bucket/x", options=s3.options(), stages=DEFAULT_STAGES)
    with pytest.raises(WriteManyError, match="the bucket or container does not exist"):
        store.write_many([draft()])
    report = audit(store)
    assert {(each.code, each.doc_id) for each in report.findings} == {("unreadable-record", "")}


@pytest.mark.parametrize(("status", "problem"), [("403", "403 SlowDown"), ("401", "401 SlowDown")])
def test_refused_credentials_are_reported_and_not_retried(s3: Moto, status: str, problem: str) -> None:
    url = s3.bucket()
    with run_proxy(s3) as proxy:
        store = connect(proxy, s3, url)
        proxy.faults = [status] * 10
        with pytest.raises(StoreUnavailable, match="the service refused the credentials") as caught:
            store.write(draft())
        assert problem in str(caught.value)
        assert SECRET not in str(caught.value)
        assert (caught.value.refused, proxy.seen) == (True, 1)
        proxy.faults = ["418"]
        with pytest.raises(StoreUnavailable, match="the service refused the request"):
            store.write(draft())


def test_unreachable_endpoint_is_reported(s3: Moto) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    options = s3.options(endpoint=f"http://127.0.0.1:{port}", retry_config={"max_retries": 1})
    store = DocsStore("s3://bucket/x", options=options)
    with pytest.raises(StoreUnavailable, match="no complete response"):
        store.write(draft())
    with pytest.raises(StoreUnavailable, match="check the network and the endpoint"):
        store.read("draft", "d1")


def test_missing_credentials_are_reported(monkeypatch: pytest.MonkeyPatch, s3: Moto) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    options = {"retry_config": {"max_retries": 0}, "endpoint": s3.endpoint, "client_options": {"allow_http": True}}
    # If no credentials are configured, obstore asks this address, where no server answers.
    store = DocsStore("s3://bucket/x", options={**options, "metadata_endpoint": "http://127.0.0.1:9"})
    with pytest.raises(StoreUnavailable) as caught:
        store.write(draft())
    assert "tries" in str(caught.value) or "no credentials" in str(caught.value)


def test_write_many_accounts_for_each_document_despite_faults(s3: Moto) -> None:
    url = s3.bucket()
    direct = DocsStore(url, options=s3.options())
    documents = [draft(f"d{number}", task_id=f"t-{number}") for number in range(100)]
    with run_proxy(s3) as proxy:
        store = connect(proxy, s3, url, max_retries=1)
        proxy.faults = (["closed", "503", "", "answer lost", "", ""] * 100)[:250]
        try:
            results: list[Any] = list(store.write_many(documents))
        except WriteManyError as error:
            results = list(error.results)
            assert all(isinstance(each, StoreUnavailable) for each in error.failures.values())
    stored = set(direct.ids("draft"))
    assert {result.doc_id for result in results if result is not None} == stored
    assert {result.outcome.value for result in direct.write_many(documents)} <= {"created", "unchanged"}
    assert audit(direct, verify=True).ok


def test_missing_document_is_not_a_fault(store: DocsStore) -> None:
    with pytest.raises(DocumentNotFound, match="no document at s3://"):
        store.open("draft", "gone")
    assert not store.exists("draft", "gone")
    rows = list(reserve_tasks([DraftTask(task_id="t-1")], DraftTask))
    report = audit(store, {"draft": rows})
    assert (report.ok, report.stages["draft"].pending) == (True, 1)


def test_replace_without_an_answer_fails_and_can_be_repeated(s3: Moto) -> None:
    url = s3.bucket()
    direct = DocsStore(url, options=s3.options())
    direct.write(draft())
    with run_proxy(s3) as proxy:
        store = connect(proxy, s3, url, max_retries=0)
        proxy.faults = ["", "", "closed"]
        with pytest.raises(StoreUnavailable, match="no complete response"):
            store.write(draft(raw_text="twice"), if_exists="replace")
        assert direct.read("draft", "d1").raw_text == "once"
        assert list(direct.history("draft", "d1")) == []
        assert store.write(draft(raw_text="twice"), if_exists="replace").outcome == "replaced"
        # If the check after the put fails too, docid reports the failure of the put.
        proxy.methods, proxy.faults = ("PUT", "GET"), ["", "closed"]
        proxy.faults = ["closed", "closed"]
        with pytest.raises(StoreUnavailable, match="cannot write"):
            store.write(draft("d2"))
    assert [each.raw_text for each in direct.history("draft", "d1")] == ["once"]
    # Another writer replaced the document while the answer was lost.
    backend = direct.backend
    assert isinstance(backend, ObjectsBackend)
    old = backend.load("draft", "d1")
    assert old is not None
    put = backend._bucket.put

    def failing(key: str, data: bytes, mode: Any) -> None:
        if isinstance(mode, dict):
            put(key, pack(old.record.replace(b"t-1", b"t-9"), {"raw.txt": b"x"}), "overwrite")
            raise StoreUnavailable("write", key, "no answer", "try again")
        put(key, data, mode)

    backend._bucket.put = failing  # type: ignore[method-assign]
    assert not backend.replace("draft", "d1", old.record, old.record, {"raw.txt": b"y"})
    backend._bucket.put = put  # type: ignore[method-assign]


def test_sweeper_checks_again_before_it_moves_an_object() -> None:
    store = DocsStore(ObjectsBackend("memory://"))
    backend = store.backend
    assert isinstance(backend, ObjectsBackend)
    sweeper = backend.sweeper()
    assert sweeper.is_stale("draft", "gone", 0)
    obstore.put(backend._bucket.store, "draft/d1.json", b"[]")
    found = Finding("unreadable-record", "draft", "d1", None, "memory://draft/d1.json", "x", "", "quarantine", b"{}")
    assert sweeper.clear(found, "run", 0) is None  # the record has changed since the scan
    assert sweeper.clear(found._replace(expected=None, doc_id="gone"), "run", 0) is None
    assert sweeper.tidy("draft", 0) == 0
    assert sweeper.strays("draft", "gone", b"{}", (), 0) == []
    assert sweeper.strays("draft", "d1", b"[]", (), 0) == []  # not a document


@pytest.mark.parametrize(
    ("text", "problem", "refused"),
    [
        (
            "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 1s",
            "no credentials",
            False,
        ),
        ("Error performing GET http://h/metadata/docs/draft/d1.json in 1s - HTTP error", "no complete response", False),
        (
            "Server returned non-2xx status code: 409 Conflict: <Code>OperationAborted</Code>",
            "refused the request (409 Op",
            True,
        ),
        ("Server returned non-2xx status code: 429 Too Many: <Code>SlowDown</Code>", "is busy or failing (429", False),
        ("Server returned non-2xx status code: 408 Timeout", "the service is busy or failing (408)", False),
    ],
)
def test_failure_is_classified_by_its_text(
    text: str, problem: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = ObjectsBackend("memory://")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(obstore, "get", fail)
    with pytest.raises(StoreUnavailable) as caught:
        backend.load("draft", "d1")
    assert problem in str(caught.value)
    assert text not in str(caught.value)
    assert caught.value.refused == refused


def test_lost_answer_and_concurrent_change_keep_every_version(s3: Moto) -> None:
    url = s3.bucket()
    direct = DocsStore(url, options=s3.options())
    direct.write(draft(raw_text="1"))
    with run_proxy(s3) as proxy:
        store = connect(proxy, s3, url)

        def other_change() -> None:
            direct.write(draft(raw_text="3"), if_exists="replace")

        proxy.after = other_change  # before the client retries
        proxy.faults = ["", "", "answer lost"]
        assert store.write(draft(raw_text="2"), if_exists="replace").outcome == "replaced"
        assert direct.read("draft", "d1").raw_text == "3"
        assert [each.raw_text for each in direct.history("draft", "d1")] == ["2", "1"]
        # The same for a create: history has its version.
        proxy.after = lambda: direct.write(draft("d2", raw_text="later"), if_exists="replace")
        proxy.faults = ["answer lost"]
        assert store.write(draft("d2", raw_text="first")).outcome == "created"
        assert [each.raw_text for each in direct.history("draft", "d2")] == ["first"]
        proxy.after = None
        # A document of another lineage cannot be the one that this writer sent.
        direct.write(draft("d3", task_id="other"))
        with pytest.raises(LineageConflict):
            store.write(draft("d3"))


def test_concurrent_repairs_keep_a_new_document(monkeypatch: pytest.MonkeyPatch) -> None:
    store = DocsStore(ObjectsBackend("memory://"))
    backend = store.backend
    assert isinstance(backend, ObjectsBackend)
    obstore.put(backend._bucket.store, "draft/d1.json", b"[]")
    [step] = repair(store, stale_after=0)
    assert step.finding is not None
    finding = step.finding
    first, second = backend.sweeper(), backend.sweeper()
    put = backend._bucket.put

    def interleaved(key: str, data: bytes, mode: Any) -> None:
        put(key, data, mode)
        if key.startswith(".docid/quarantine/one"):
            backend._bucket.put = put  # type: ignore[method-assign]
            assert second.clear(finding, "two", 0) is not None
            assert store.write(draft()).outcome == "created"

    backend._bucket.put = interleaved  # type: ignore[method-assign]
    assert first.clear(finding, "one", 0) is None
    assert store.read("draft", "d1").raw_text == "once"
    # A repair died between its tombstone and the deletion. The next repair clears a tombstone once it is old.
    obstore.put(backend._bucket.store, "draft/d2.json", b'{"docid_quarantined": "0123456789abcdef"}\n')
    assert list(repair(store, apply=True, stale_after=0)) == []
    monkeypatch.setattr("docid.store.backends.objects.backend._PAUSE", 0.0)
    with pytest.raises(DocumentBusy):
        store.write(draft("d2"))


def test_failed_request_raises_store_unavailable(s3: Moto) -> None:
    url = s3.bucket()
    DocsStore(url, options=s3.options()).write(draft())
    with run_proxy(s3) as proxy:
        store = connect(proxy, s3, url, max_retries=0)
        proxy.methods = ("GET",)
        for fault in ("403", "503", "closed", "409"):
            for act in (
                lambda: list(repair(store, purge=True)),
                lambda: list(store.ids("draft")),
                lambda: store.read("draft", "d1"),
            ):
                proxy.faults = [fault] * 20
                with pytest.raises(StoreUnavailable) as caught:
                    act()
                assert SECRET not in str(caught.value)
                assert caught.value.__context__ is None
        proxy.methods, proxy.faults = ("PUT",), ["", "409"]  # the copy to history fails
        with pytest.raises(StoreUnavailable, match="refused the request"):
            store.write(draft(raw_text="2"), if_exists="replace")


def test_version_moved_by_two_replaces_is_in_history_once() -> None:
    backend = ObjectsBackend("memory://")
    store = DocsStore(backend)
    store.write(draft(raw_text="1"))
    put = backend._bucket.put

    def interleaved(key: str, data: bytes, mode: Any) -> None:
        # The other replace copies the same version to history after this one, and completes first.
        if isinstance(mode, dict):
            backend._bucket.put = put  # type: ignore[method-assign]
            assert store.write(draft(raw_text="2"), if_exists="replace").outcome == "replaced"
        put(key, data, mode)

    old = backend.load("draft", "d1")
    assert old is not None
    backend._bucket.put = interleaved  # type: ignore[method-assign]
    assert not backend.replace("draft", "d1", old.record, old.record, {"raw.txt": b"3"})
    assert [each.raw_text for each in store.history("draft", "d1")] == ["1"]
    assert store.read("draft", "d1").raw_text == "2"


def test_history_of_an_earlier_release_has_names_in_upper_case() -> None:
    backend = ObjectsBackend("memory://")
    store = DocsStore(backend)
    store.write(draft())
    prefix = ".docid/history/draft/d1/"
    for number, text in enumerate(["twice", "thrice", "again"]):
        store.write(draft(raw_text=text), if_exists="replace")
        name = next(name for name in backend._bucket.names_below(prefix) if name == name.lower())
        if number < 2:
            stamp, _, rest = name.partition("-")
            obstore.rename(backend._bucket.store, prefix + name, f"{prefix}{stamp.upper()}-{rest}")
    assert [old.raw_text for old in store.history("draft", "d1")] == ["thrice", "twice", "once"]


def test_history_skips_an_entry_that_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ObjectsBackend("memory://")
    store = DocsStore(backend)
    store.write(draft(raw_text="1"))
    first = backend._bucket.get("draft/d1.json")
    assert first is not None
    gone = backend._put_aside(".docid/history/draft/d1/", first.data)
    store.write(draft(raw_text="2"), if_exists="replace")
    get = backend._bucket.get
    monkeypatch.setattr(backend._bucket, "get", lambda key: None if key == gone else get(key))
    assert [each.raw_text for each in store.history("draft", "d1")] == ["1"]


def test_create_returns_false_if_the_existing_document_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ObjectsBackend("memory://")
    assert backend.create("draft", "d1", b"{}\n", {"raw.txt": b"x"})
    monkeypatch.setattr(backend._bucket, "get", lambda _: None)
    assert not backend.create("draft", "d1", b"{}\n", {"raw.txt": b"y"})


@pytest.mark.parametrize(
    ("method", "read"),
    [
        ((ObjectsBackend, "load"), lambda store: list(scores(store))),
        ((DocsStore, "open"), lambda store: list(replay(store, "evaluation", [f"v{number}" for number in range(4)]))),
        ((DocsStore, "open"), page),
        ((DocsStore, "open"), lambda store: main(["ls", "--store", "s3://of-the-test"])),
    ],
    ids=["scores", "replay", "report", "ls"],
)
def test_documents_are_requested_concurrently(
    method: tuple[type, str], read: Callable[[DocsStore], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DocsStore(ObjectsBackend("memory://"))
    for number in range(4):
        judged: dict[str, Any] = {"task_id": f"t-{number}", "parent_doc_id": "e1", "raw_text": "7", "parsed_text": "7"}
        store.write(Document(stage="evaluation", doc_id=f"v{number}", **judged), require_parent=False)
    first, another = threading.Lock(), threading.Event()
    answer = getattr(*method)

    def slow(*arguments: Any) -> Any:
        if first.acquire(blocking=False):
            assert another.wait(60)  # answers only after another request starts
        else:
            another.set()
        return answer(*arguments)

    monkeypatch.setattr("docid.cli.ls.open_store", lambda _: store)
    monkeypatch.setattr(*method, slow)
    read(store)
    assert another.is_set()

"""What a service answers, what docid says about it, and whether the same request may succeed later."""

from __future__ import annotations

import socket
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import obstore
import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.exceptions import InvalidPathError
from obstore.store import MemoryStore

from docid import DEFAULT_STAGES, DocsStore, StoreUnavailable, audit
from docid.backends.objects import ObjectsBackend
from docid.cli import main
from docid.copying import copy
from docid.repair import repair
from docid.store.backends.objects.bucket import _find_key_after
from tests.object_documents import SECRET, bucket_of, connect, draft
from tests.servers import Moto, run_proxy

ANSWERS = [
    # (the answer, what docid says, what to do, whether to try again later)
    ("301 PermanentRedirect", "another region or at another endpoint", "set region or endpoint", False),
    ("307 TemporaryRedirect", "another region or at another endpoint", "set region or endpoint", False),
    ("400 AuthorizationHeaderMalformed", "another region or at another endpoint (400 Auth", "AWS_REGION", False),
    ("400 IllegalLocationConstraintException", "another region or at another", "AWS_ENDPOINT_URL", False),
    ("403 RequestTimeTooSkewed", "the clock of this machine is wrong (403 Req", "set the clock", False),
    ("403 InvalidObjectState", "the object is in an archive (403 Inv", "restore it", False),
    ("409 BlobArchived", "the object is in an archive (409 Blob", "restore it", False),
    ("400 ExpiredToken", "the credentials have expired (400 Exp", "get new ones", False),
    ("403 TokenRefreshRequired", "the credentials have expired", "get new ones", False),
    ("403 AccessDenied", "the service refused the credentials (403 Acc", "the permissions on the bucket", False),
    ("403 SignatureDoesNotMatch", "the service refused the credentials", "check the credentials", False),
    ("401 Unauthorized", "the service refused the credentials (401 Una", "check the credentials", False),
    ("403 QuotaExceeded", "the quota is used up", "raise the quota", False),
    ("507 XMinioStorageFull", "the disk of the service is full (507 XMinio", "free space", False),
    ("400 EntityTooLarge", "the document is too large for one request (400 Ent", "split its texts", False),
    ("413 RequestBodyTooLarge", "the document is too large", "split its texts", False),
    ("501 NotImplemented", "does not allow conditional writes (501 Not", "use another one", False),
    ("400 RequestTimeout", "did not get the data in time (400 Req", "client_options={'timeout': …}", True),
    ("408 Timeout", "the service is busy or failing (408 Timeout), after 1 retry", "try again later", True),
    ("429 SlowDown", "the service is busy or failing (429 SlowDown), after 1 retry", "(in_flight)", True),
    ("429 quotaExceeded", "the service is busy or failing (429", "try again later", True),
    ("500 InternalError", "the service is busy or failing (500", "try again later", True),
    ("503 SlowDown", "the service is busy or failing (503 SlowDown), after 1 retry", "(in_flight)", True),
    ("404 NoSuchBucket", "the bucket or container does not exist (404 NoS", "create it", False),
    ("418 Teapot", "the service refused the request (418 Teapot)", "documentation of this code", False),
]


@pytest.mark.parametrize(
    ("method", "answer", "problem", "remedy", "may_retry"),
    [
        pytest.param(method, *each, id=f"{method} {each[0]}")
        for each in ANSWERS
        for method in ("GET", "PUT")
        if (method, each[0][:3]) != ("PUT", "409")  # a put that another object prevents
    ],
)
def test_error_names_the_cause(
    s3: Moto, method: str, answer: str, problem: str, remedy: str, *, may_retry: bool
) -> None:
    with run_proxy(s3) as proxy:
        store = connect(proxy, s3, s3.bucket(), max_retries=1)
        proxy.methods, proxy.faults = (method,), [answer] * 3
        with pytest.raises(StoreUnavailable) as caught:
            store.write(draft()) if method == "PUT" else store.read("draft", "d1")
    error = caught.value
    assert problem in error.problem
    assert remedy in error.remedy
    assert error.refused is not may_retry
    assert SECRET not in str(error)
    assert error.__context__ is None


def test_refused_head_is_explained_by_a_get(s3: Moto) -> None:
    url = s3.bucket()
    DocsStore(url, options=s3.options()).write(draft())
    with run_proxy(s3) as proxy:
        store = connect(proxy, s3, url, max_retries=0)
        proxy.methods, proxy.faults = ("HEAD", "GET"), ["403 RequestTimeTooSkewed"] * 2
        with pytest.raises(StoreUnavailable, match="the clock of this machine is wrong"):
            store.exists("draft", "d1")
        proxy.faults = ["403 AccessDenied"]  # of the HEAD alone
        assert store.exists("draft", "d1")
        proxy.faults = ["503 SlowDown"]
        with pytest.raises(StoreUnavailable, match="busy or failing"):
            store.exists("draft", "d1")


def test_late_upload_is_sent_again(s3: Moto) -> None:
    with run_proxy(s3) as proxy:
        store = connect(proxy, s3, s3.bucket())
        proxy.faults = ["400 RequestTimeout"] * 2
        assert store.write(draft()).outcome == "created"
        proxy.faults = ["400 RequestTimeout"] * 3
        with pytest.raises(StoreUnavailable, match=r"in time \(400 RequestTimeout\), after 2 retries; set a longer"):
            store.write(draft("d2"))
        assert store.write(draft("d2")).outcome == "created"


def test_only_requests_that_were_retried_are_called_so(s3: Moto) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = s3.options(
            endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}",
            retry_config={"max_retries": 1},
            client_options={"allow_http": True, "timeout": "300ms"},
        )
        store = DocsStore("s3://bucket/x", options=options, stages=DEFAULT_STAGES)
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="no complete response in time") as caught:
            store.write(draft())  # obstore does not retry a put that timed out
        assert "retr" not in str(caught.value)
        assert "client_options={'timeout': …}" in caught.value.remedy
        assert "in_flight" in caught.value.remedy
        with pytest.raises(StoreUnavailable, match=r"no complete response in time \(GenericError\), after 1 retry"):
            store.read("draft", "d1")
        assert time.monotonic() - began < 10


ODD = [
    # (the key below the store, whether obstore allows to list everything else)
    ("draft//odd.json", True),
    ("draft/m//", True),
    ("draft/m/./odd.json", True),
    ("draft/./odd.json", True),
    ("draft/../odd.json", True),
    ("draft/m/\x01odd/x", True),
    ("draft/\x01odd.json", True),
    ("draft/m\x7f.json", False),
]


def put_key(s3: Moto, url: str, key: str) -> None:
    """Put an object, as other programs may name it."""
    target = f"{s3.endpoint}/{urllib.parse.quote(url.removeprefix('s3://'))}/{urllib.parse.quote(key)}"
    urllib.request.urlopen(urllib.request.Request(target, data=b"{}", method="PUT"), timeout=30).read()


@pytest.mark.parametrize(("key", "is_whole"), ODD, ids=[repr(key) for key, _ in ODD])
def test_odd_key_is_named_and_hides_no_other(s3: Moto, key: str, *, is_whole: bool) -> None:
    url = s3.bucket()
    store = DocsStore(url, options=s3.options())
    names = ["a1", "z1"] if is_whole else ["z1"]
    for doc_id in ("a1", "z1"):
        store.write(draft(doc_id, task_id=doc_id))
    put_key(s3, url, key)
    found: list[str] = []
    with pytest.raises(StoreUnavailable, match="other programs put keys there") as caught:
        found.extend(store.ids("draft"))
    assert found == names
    assert repr(f"some/place/{key}") in caught.value.problem
    assert ("docid listed all others" in caught.value.remedy) == is_whole
    assert caught.value.refused
    report = audit(store)
    assert report.stages["draft"].documents == len(names)
    assert [(each.code, each.doc_id) for each in report.findings] == [("unreadable-record", "")]
    copied: list[Any] = []
    with pytest.raises(StoreUnavailable, match="other programs"):
        copied.extend(copy(store, DocsStore("memory://")))
    assert [each.doc_id for each in copied] == names
    assert [repr(f"some/place/{key}") in step.message for step in repair(store)] == [True]


def test_odd_keys_in_history_do_not_stop_a_replace(s3: Moto) -> None:
    url = s3.bucket()
    store = DocsStore(url, options=s3.options())
    store.write(draft())
    store.write(draft(raw_text="twice"), if_exists="replace")
    put_key(s3, url, ".docid/history/draft/d1//odd.json")
    put_key(s3, url, ".docid/history/draft//odd.json")
    assert store.write(draft(raw_text="thrice"), if_exists="replace").outcome == "replaced"
    assert [each.raw_text for each in store.history("draft", "d1")] == ["twice", "once"]
    target = DocsStore("memory://")
    assert [each.outcome for each in copy(store, target)] == ["copied"]
    assert [each.raw_text for each in target.history("draft", "d1")] == ["twice", "once"]
    store.write(draft("d2"))
    put_key(s3, url, ".docid/history/draft/d2/z//odd.json")
    assert store.write(draft("d2", "twice"), if_exists="replace").outcome == "replaced"
    assert [each.raw_text for each in store.history("draft", "d2")] == ["once"]
    put_key(s3, url, ".docid/history/draft/d1/z\x01.json")
    with pytest.raises(StoreUnavailable, match="until then, docid cannot list all others"):
        list(store.history("draft", "d1"))


def test_many_odd_keys_are_counted(s3: Moto) -> None:
    url = s3.bucket()
    store = DocsStore(url, options=s3.options())
    for number in range(5):
        put_key(s3, url, f"draft/m{number}//odd")
    with pytest.raises(StoreUnavailable, match=r"draft/m2//odd' and 2 more; rename"):
        list(store.ids("draft"))


def test_key_with_a_slash_at_its_end_is_no_second_document(s3: Moto) -> None:
    url = s3.bucket()
    store = DocsStore(url, options=s3.options())
    store.write(draft())
    put_key(s3, url, "draft/d1.json/")
    assert list(store.ids("draft")) == ["d1"]


def test_service_that_lists_only_from_the_start_names_the_odd_key(monkeypatch: pytest.MonkeyPatch) -> None:
    store = DocsStore(ObjectsBackend("memory://"))
    store.write(draft())
    bucket = bucket_of(store)
    asked: list[Any] = []

    def fail(*_: object, offset: str | None, **__: object) -> Iterator[Any]:
        yield from ()
        asked.append(offset)
        raise InvalidPathError('Encountered object with invalid path: Path "draft//x" contained empty path segment')

    monkeypatch.setattr(obstore, "list", fail)
    found: list[str] = []
    with pytest.raises(StoreUnavailable, match="'draft//x'; rename or delete them; docid listed all others"):
        found.extend(bucket.names_below("draft/"))
    assert found == ["d1.json"]
    assert asked == [None, "draft/0"]
    monkeypatch.setattr(obstore, "list_with_delimiter", lambda *_: next(fail(offset=None)))
    with pytest.raises(StoreUnavailable, match="'draft//x'; rename or delete them; until then"):
        list(bucket.entries_below("draft/"))


@given(st.lists(st.sampled_from(["", ".", "..", "a", "draft", "m\x01", "\x7f", "\x1fx", "é", "0", "~"]), min_size=1))
def test_listing_continues_after_an_odd_key(segments: list[str]) -> None:
    key = "/".join([*segments, "odd", "", "x"])
    after = _find_key_after(key)
    list(obstore.list(MemoryStore(), offset=after))  # obstore can parse it
    assert after.encode() > key.encode()
    assert _find_key_after(after) == after


@pytest.mark.parametrize("key", ["../x", "bad\x01dir/y"])
def test_odd_key_at_the_root_is_named_by_commands(
    s3: Moto, key: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    url = s3.bucket()
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    put_key(s3, url, key)
    assert main(["stages", "--store", url]) == 2
    assert "other programs put keys there that obstore cannot read" in capsys.readouterr().err

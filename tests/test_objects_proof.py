"""Before its first write, a process checks that a bucket honours conditional writes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import obstore
import pytest
from obstore.store import MemoryStore

from docid import DocsStore, StoreUnavailable, WriteManyError
from docid.backends.objects import ObjectsBackend
from docid.repair import repair
from docid.store.backends.objects.proof import Proof
from tests.object_documents import bucket_of, connect, draft
from tests.servers import Moto, run_proxy


@pytest.mark.parametrize("header", [b"if-none-match", b"if-match", b"if-(none-)?match"])
def test_service_that_ignores_conditions_is_refused(s3: Moto, header: bytes) -> None:
    url = s3.bucket()
    direct = DocsStore(url, options=s3.options())
    direct.write(draft("d0"))
    with run_proxy(s3) as proxy:
        proxy.dropped = header
        store = connect(proxy, s3, url, is_checked=False)
        with pytest.raises(StoreUnavailable, match="ignores conditional writes") as caught:
            store.write(draft("d0", "another", task_id="t-2"))
        assert (caught.value.location, caught.value.refused) == (url, True)
        assert f"the service at {proxy.endpoint.removeprefix('http://')} ignores" in caught.value.problem
        assert "keep the store at another service" in caught.value.remedy
        seen = proxy.seen
        with pytest.raises(WriteManyError, match="ignores conditional writes"):
            store.write_many([draft("d1"), draft("d2")])
        assert proxy.seen == seen  # the answer is remembered
        assert store.read("draft", "d0").raw_text == "once"
    assert list(direct.ids("draft")) == ["d0"]


def test_service_without_conditions_is_refused(s3: Moto) -> None:
    url = s3.bucket()
    with run_proxy(s3) as proxy:
        proxy.faults = ["501 NotImplemented"] * 4
        store = connect(proxy, s3, url, is_checked=False)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="does not allow conditional writes") as caught:
                store.write(draft())
            assert caught.value.refused
        assert proxy.faults == []
        assert proxy.seen == 4
    with pytest.raises(StoreUnavailable, match="do not set conditional_put='disabled'"):
        DocsStore(f"{url}/other", options=s3.options(conditional_put="disabled")).write(draft())


def test_check_runs_once_per_process_and_bucket(s3: Moto) -> None:
    url = s3.bucket()
    store = DocsStore(url, options=s3.options())
    s3.counts()
    assert not store.exists("draft", "d1")
    assert "PUT" not in s3.counts()
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda n: store.write(draft(f"d{n}", task_id=f"t-{n}")), range(16)))
    assert s3.counts() == {"PUT": 16 + 3}
    DocsStore(url, options=s3.options()).write(draft("d16", task_id="t-16"))
    assert s3.counts() == {"PUT": 1}
    program = f"""
from docid import DocsStore, Document
store = DocsStore({url!r}, options={s3.options()!r})
for n in range(2):
    store.write(Document(stage="draft", doc_id=f"e{{n}}", task_id=f"u-{{n}}", raw_text="x"))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert s3.counts() == {"PUT": 2 + 2}  # the object exists: one put for each kind of condition
    assert list(repair(store, purge=True, history=True, older_than=0)) == []
    assert [path for path, _ in bucket_of(store).entries_below(".docid/")] == [".docid/probe.txt"]


def test_store_in_memory_needs_no_check() -> None:
    inner = MemoryStore()
    DocsStore(ObjectsBackend(inner)).write(draft())
    assert [each["path"] for page in obstore.list(inner) for each in page] == ["draft/d1.json"]


def test_bucket_that_is_read_only_is_read(s3: Moto) -> None:
    url = s3.bucket()
    DocsStore(url, options=s3.options()).write(draft())
    with run_proxy(s3) as proxy:
        store = connect(proxy, s3, url, is_checked=False)
        proxy.faults = ["403 AccessDenied"]
        assert list(store.ids("draft")) == ["d1"]
        with pytest.raises(StoreUnavailable, match=r"cannot write .*probe\.txt: the service refused the credentials"):
            store.write(draft("d2"))
        assert store.read("draft", "d1").raw_text == "once"
        # The permissions were corrected: the next write checks again.
        assert store.write(draft("d2")).outcome == "created"


def test_threads_share_the_failure_of_a_check() -> None:
    proof = Proof()
    checks: list[int] = []

    def fail() -> None:
        checks.append(1)
        time.sleep(0.5)
        raise StoreUnavailable("write", "s3://b/x", "no response", "try again")

    def require(_: int) -> Any:
        with pytest.raises(StoreUnavailable) as caught:
            proof.require(fail)
        return caught.value

    with ThreadPoolExecutor(8) as threads:
        errors = list(threads.map(require, range(8)))
    assert len(checks) == 1
    assert len({id(error) for error in errors}) == 8  # each thread has a traceback of its own
    proof.require(lambda: None)
    proof.require(fail)
    assert len(checks) == 1


def test_interrupted_check_is_repeated() -> None:
    proof = Proof()

    def interrupt() -> None:
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            proof.require(interrupt)
    done = threading.Event()
    proof.require(done.set)
    assert done.is_set()

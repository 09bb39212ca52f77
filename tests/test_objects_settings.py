"""Object stores: settings, secrets, forked processes and threads."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore, S3Store

from docid import DocsStore, StoreUnavailable
from docid.backends.objects import ObjectsBackend
from docid.store.backends.objects import bucket
from tests.object_documents import SECRET, draft
from tests.servers import CREDENTIALS, Moto


@pytest.fixture
def store(s3: Moto) -> DocsStore:
    return DocsStore(s3.bucket(), options=s3.options())


def test_backend_accepts_an_obstore_store(s3: Moto) -> None:
    url = s3.bucket()
    options: dict[str, Any] = {**CREDENTIALS, "endpoint": s3.endpoint, "client_options": {"allow_http": True}}
    inner = S3Store(url.split("/")[2], prefix="some/place", **options)
    backend = ObjectsBackend(inner)
    DocsStore(backend).write(draft())
    assert (backend.root, SECRET in repr(backend)) == (url, False)
    assert DocsStore(url, options=s3.options()).read("draft", "d1").raw_text == "once"
    assert DocsStore(pickle.loads(pickle.dumps(backend))).exists("draft", "d1")


def test_invalid_settings_are_refused_without_secrets() -> None:
    with pytest.raises(ValueError, match="in_flight: expected 1 or more"):
        ObjectsBackend("memory://", in_flight=0)
    with pytest.raises(ValueError, match="expected 'memory://' and no options"):
        ObjectsBackend("memory://x")
    with pytest.raises(ValueError, match="obstore cannot open s3://bucket/x") as caught:
        DocsStore("s3://bucket/x", options={"no_such_option": SECRET})
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__
    with pytest.raises(TypeError, match="lives in one process and cannot be pickled"):
        pickle.dumps(DocsStore(ObjectsBackend("memory://")))
    assert ObjectsBackend(MemoryStore()).root == "memory://"


def _read_in_child(store: DocsStore, answers: Any) -> None:
    signal.alarm(20)  # a deadlocked fork would wait forever
    try:
        answers.put(store.read("draft", "d1").raw_text)
    except StoreUnavailable as error:
        answers.put(str(error))


def test_store_raises_in_a_fork_of_a_process_that_used_it(store: DocsStore) -> None:
    store.write(draft())
    answers: dict[str, str] = {}
    for method in ("fork", "spawn"):
        context: Any = multiprocessing.get_context(method)
        queue = context.SimpleQueue()
        child = context.Process(target=_read_in_child, args=(store, queue))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        answers[method] = queue.get()
    assert "forked from one that used an object store" in answers["fork"]
    assert "start workers with 'spawn'" in answers["fork"]
    assert answers["spawn"] == "once"


def test_store_works_in_a_fork_of_a_process_that_did_not_use_it(s3: Moto, tmp_path: Path) -> None:
    DocsStore(url := s3.bucket(), options=s3.options()).write(draft())
    program = f"""
import os
from docid import DocsStore
from docid.backends.objects import ObjectsBackend
from docid.store.backends.objects import bucket
from obstore.store import S3Store
store = DocsStore({url!r})
own = DocsStore(ObjectsBackend(S3Store({url!r}.split("/")[2], prefix="some/place")))
pid = os.fork()
if pid == 0:
    assert store.read("draft", "d1").raw_text == "once"
    assert own.read("draft", "d1").raw_text == "once"
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    environment = {**os.environ, **s3.environment()}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "7\n"


def test_import_error_names_the_package_to_install() -> None:
    code = "import sys; sys.modules['obstore'] = None; from docid import DocsStore; DocsStore('s3://b/p')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: a store at a URL needs obstore: pip install 'docid-store[objects]'" in done.stderr


def test_store_is_rebuilt_after_a_fork(s3: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    url = s3.bucket()
    options: dict[str, Any] = {**CREDENTIALS, "endpoint": s3.endpoint, "client_options": {"allow_http": True}}
    own = S3Store(url.split("/")[2], prefix="some/place", **options)
    for backend in (ObjectsBackend(url, options=s3.options()), ObjectsBackend(own)):
        before = backend._bucket.store
        backend._bucket._made_in = -1
        assert list(backend.ids("draft")) == []
        assert backend._bucket.store is not before
    monkeypatch.setattr(bucket, "_used_by", -1)
    with pytest.raises(StoreUnavailable, match="forked from one that used an object store"):
        backend.load("draft", "d1")
    with pytest.raises(StoreUnavailable, match="forked"):
        list(backend.each(str, [1]))


def test_deleted_backend_ends_its_threads() -> None:
    before = threading.active_count()
    for _ in range(10):
        DocsStore(ObjectsBackend("memory://", in_flight=4)).write_many(
            [draft(f"d{n}", task_id=f"t-{n}") for n in range(20)]
        )
    gc.collect()
    for _ in range(100):
        if threading.active_count() <= before + 4:
            break
        time.sleep(0.05)
    assert threading.active_count() <= before + 4

"""The built-in backends, and a third-party one, in the suite that every backend must pass."""

from __future__ import annotations

import errno
import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from docid import DocidError, DocsStore, Document, DocumentBusy, WriteManyError
from docid.backends import (
    Backend,
    Claim,
    Holder,
    InternalFile,
    LocalBackend,
    MemoryBackend,
    NewDocument,
    Removed,
    Stored,
    TracePath,
)
from docid.testing import BackendTests
from tests.store_documents import draft


class TestLocalBackend(BackendTests):
    @pytest.fixture(params=["full", "none"])
    def backend(self, tmp_path: Path, request: pytest.FixtureRequest) -> Backend:
        return LocalBackend(tmp_path / "docs", durability=request.param)


class TestMemoryBackend(BackendTests):
    @pytest.fixture
    def backend(self) -> Backend:
        return MemoryBackend()


class ThirdPartyBackend(Backend):
    """A third-party backend: a root and the six required methods."""

    root = "shelf://library"

    def __init__(self) -> None:
        self.memory = MemoryBackend()

    def create(self, stage: str, doc_id: str, record: bytes, parts: Mapping[str, bytes]) -> bool:
        return self.memory.create(stage, doc_id, record, parts)

    def load(self, stage: str, doc_id: str, parts: Collection[str] = ()) -> Stored | None:
        return self.memory.load(stage, doc_id, parts)

    def amend(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        return self.memory.amend(stage, doc_id, expected, record, parts)

    def replace(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        return self.memory.replace(stage, doc_id, expected, record, parts)

    def ids(self, stage: str) -> Iterator[str]:
        return self.memory.ids(stage)

    def history(self, stage: str, doc_id: str, parts: Collection[str]) -> Iterator[Stored]:
        return self.memory.history(stage, doc_id, parts)


def test_backend_without_a_method_cannot_be_created() -> None:
    class Half(Backend):
        root = "half://"

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]


@pytest.mark.parametrize("error", [OSError(errno.EBUSY, "locked"), DocumentBusy("draft", "b2", "docs/draft/b2", None)])
def test_storage_error_belongs_to_its_document(error: Exception) -> None:
    documents = [Document(stage="draft", doc_id=doc_id, task_id=doc_id, raw_text="") for doc_id in ("a1", "b2", "c3")]
    with pytest.raises(WriteManyError) as caught:
        DocsStore(failing_backend(error)).write_many(documents)
    assert caught.value.failures == {1: error}
    assert caught.value.documents == {1: documents[1]}
    assert [result and result.doc_id for result in caught.value.results] == ["a1", None, "c3"]


@pytest.mark.parametrize("error", [LookupError("a fault"), TimeoutError("the time is up"), KeyboardInterrupt()])
def test_any_other_error_ends_write_many(error: BaseException) -> None:
    documents = [Document(stage="draft", doc_id=doc_id, task_id=doc_id, raw_text="") for doc_id in ("a1", "b2", "c3")]
    store = DocsStore(failing_backend(error))
    with pytest.raises(type(error)) as caught:
        store.write_many(documents)
    assert caught.value is error
    cause = caught.value.__cause__
    assert isinstance(cause, WriteManyError)
    assert list(cause.documents.values()) == documents
    assert str(cause) == "0 of 3 documents failed, 3 were not tried"
    assert list(store.ids("draft")) == ["a1"]


def failing_backend(error: BaseException) -> MemoryBackend:
    class Failing(MemoryBackend):
        def create(self, stage: str, doc_id: str, record: bytes, parts: Mapping[str, bytes]) -> bool:
            if doc_id == "b2":
                raise error
            return super().create(stage, doc_id, record, parts)

    return Failing()


class TestThirdPartyBackend(BackendTests):
    @pytest.fixture
    def backend(self) -> Backend:
        return ThirdPartyBackend()


class Forgetful(MemoryBackend):
    def replace(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        done = super().replace(stage, doc_id, expected, record, parts)
        self._history.clear()
        return done


class Overwriting(MemoryBackend):
    def create(self, stage: str, doc_id: str, record: bytes, parts: Mapping[str, bytes]) -> bool:
        self._documents.setdefault(stage, {})[doc_id] = Stored(record, dict(parts))
        return True


class Unchecked(MemoryBackend):
    def amend(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        found = self.load(stage, doc_id)
        return super().amend(stage, doc_id, b"" if found is None else found.record, record, parts)


class Mixing(MemoryBackend):
    def ids(self, stage: str) -> Iterator[str]:
        for each in self._documents:
            yield from self._documents[each]


class Raising(MemoryBackend):
    def create(self, stage: str, doc_id: str, record: bytes, parts: Mapping[str, bytes]) -> bool:
        if threading.current_thread() is not threading.main_thread():
            raise AssertionError("not in a thread")
        return super().create(stage, doc_id, record, parts)


class CurrentTexts(MemoryBackend):
    """Returns old records with the current texts."""

    def history(self, stage: str, doc_id: str, parts: Collection[str]) -> Iterator[Stored]:
        current = self.load(stage, doc_id, parts)
        for old in super().history(stage, doc_id, parts):
            yield Stored(old.record, old.parts if current is None else {**old.parts, **current.parts})


class ByPrefix(MemoryBackend):
    def ids(self, stage: str) -> Iterator[str]:
        for each in self._documents:
            if each.startswith(stage):
                yield from self._documents[each]


class HistoryByPrefix(MemoryBackend):
    def history(self, stage: str, doc_id: str, parts: Collection[str]) -> Iterator[Stored]:
        for _, each in list(self._history):
            if each.startswith(doc_id):
                yield from super().history(stage, each, parts)


class WithoutHistory(MemoryBackend):
    def with_history(self, stage: str) -> Container[str]:
        return ()


class AllOrNothing(MemoryBackend):
    def create_many(self, documents: Sequence[NewDocument]) -> list[bool | Exception]:
        return [self.create(*document) for document in documents]


class LastWins(MemoryBackend):
    def swap_file(self, name: str, expected: InternalFile | None, data: bytes) -> bool:
        return super().swap_file(name, self.read_file(name), data)


class FilesAsDocuments(MemoryBackend):
    def swap_file(self, name: str, expected: InternalFile | None, data: bytes) -> bool:
        stage, _, doc_id = name.partition("/")
        self.create(stage, doc_id, data, {})
        return super().swap_file(name, expected, data)


class FailingFiles(MemoryBackend):
    def swap_file(self, name: str, expected: InternalFile | None, data: bytes) -> bool:
        raise OSError(errno.EIO, "Input/output error", name)


class ClaimsForAll(MemoryBackend):
    def take_claim(self, stage: str, doc_id: str) -> Claim | Holder:
        return Claim(lambda: None)


class FilesOfAllDirectories(MemoryBackend):
    def list_files(self, directory: str) -> Iterator[tuple[str, float]]:
        for name in self._files:
            yield name.rpartition("/")[2], time.time()


WRONG = [
    ClaimsForAll,
    FilesOfAllDirectories,
    FailingFiles,
    LastWins,
    FilesAsDocuments,
    Forgetful,
    Overwriting,
    Unchecked,
    Mixing,
    Raising,
    CurrentTexts,
    ByPrefix,
    HistoryByPrefix,
    WithoutHistory,
    AllOrNothing,
]


@pytest.mark.parametrize("wrong", WRONG)
def test_backend_that_breaks_a_rule_fails_the_suite(wrong: type[MemoryBackend]) -> None:
    failed = []
    for name in dir(BackendTests):
        if name.startswith("test_") and "any_document" not in name:
            try:
                test = getattr(BackendTests(), name)
                with pytest.MonkeyPatch.context() as monkeypatch:
                    more = {"monkeypatch": monkeypatch} if "monkeypatch" in inspect.signature(test).parameters else {}
                    test(wrong(), **more)
            except (AssertionError, OSError, DocidError):
                failed.append(name)
    assert failed


def test_backend_without_root_is_refused() -> None:
    class Shelf(ThirdPartyBackend):
        root = None  # type: ignore[assignment]

    problem = "root: the backend Shelf has no attribute `root`; expected the prefix of its locations as text"
    with pytest.raises(TypeError, match=problem):
        DocsStore(Shelf())


def test_suite_names_missing_backend_fixture(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "from docid.testing import BackendTests\nclass TestMine(BackendTests):\n    pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "-x", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "expected a fixture 'backend' that returns an empty backend" in done.stdout


def test_suite_skips_what_it_cannot_try(tmp_path: Path) -> None:
    class ByItself(MemoryBackend):
        def create_many(self, documents: Sequence[NewDocument]) -> list[bool | Exception]:
            return [MemoryBackend.create(self, *document) for document in documents]

    test = BackendTests().test_create_many_goes_on_after_an_error
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        pytest.raises(pytest.skip.Exception, match="does not call create"),
    ):
        test(ByItself(), monkeypatch)


def test_two_suites_pass_in_one_session(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "import pytest\nfrom docid.backends import MemoryBackend\nfrom docid.testing import BackendTests\n"
        + "".join(
            f"class Test{name}(BackendTests):\n    @pytest.fixture\n    def backend(self):\n"
            "        return MemoryBackend()\n"
            for name in ("One", "Two")
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_suite_without_its_extra_says_what_to_install() -> None:
    code = "import sys; sys.modules['hypothesis'] = None\nimport docid.testing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "ImportError: docid.testing needs pytest and hypothesis: pip install 'docid-store[testing]'"
    )


def test_backend_without_removal_says_so() -> None:
    store = DocsStore(ThirdPartyBackend())
    store.write(draft())
    with pytest.raises(OSError, match="this backend cannot remove documents"):
        store.remove("draft", "a1")
    with pytest.raises(OSError, match="this backend cannot remove documents"):
        store.erase("draft", "a1")
    assert list(store.list_removed()) == []
    removed = Removed("run", "draft", "a1")
    assert store.backend.load_removed(removed) is None
    with pytest.raises(OSError, match="this backend cannot remove documents"):
        store.backend.restore(removed)
    with pytest.raises(OSError, match="this backend cannot remove documents"):
        store.backend.erase_trace(TracePath("draft", "a1", "x", 0))
    assert store.exists("draft", "a1")


def test_suite_passes_the_errors_of_a_removal(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    backend = MemoryBackend()
    monkeypatch.setattr(backend, "remove", fail)
    with pytest.raises(OSError, match="Input/output error"):
        TestMemoryBackend().test_remove_requires_the_expected_record(backend)

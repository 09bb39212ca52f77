"""Test helpers: a test suite for backends, and Hypothesis strategies for documents.

Requires the extra `testing`: `pip install 'docid-store[testing]'`.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

try:
    import pytest
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st
except ImportError as error:  # pragma: no cover  - tested in a separate environment
    raise ImportError("docid.testing needs pytest and hypothesis: pip install 'docid-store[testing]'") from error

from attrs import evolve

from docid.core.document import ALL_FILES, Document
from docid.core.record import Record, nonce
from docid.store.backends.base import InternalFile, NewDocument, Removed, Stored
from docid.store.backends.claims import Claim, Holder
from docid.store.backends.names import entry_name
from docid.store.docs_store import DocsStore
from docid.tables.rows import DraftTask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from docid.store.backends.base import Backend

__all__ = ["BackendTests", "contents", "documents", "metadata", "moments", "new_document"]

_TEXT = st.characters(exclude_categories=["Cs"])
_LINE_ENDS = ("\r\n", "\r", "\n\n", "\x85\u2028", "a\r\nb\rc\n")
_FRAGILE = ("", *_LINE_ENDS, "a\x00b", "\ufeffmark", "x\x1a", "  b \t", "\U0001f40b")
_CLOCKS = 3600.0  # seconds that the clock of a service may differ from ours
# Each backend runs the suite in its own class, with a new backend for each test.
_EXPECTED = (HealthCheck.differing_executors, HealthCheck.function_scoped_fixture, HealthCheck.too_slow)


def contents() -> st.SearchStrategy[str]:
    """Return texts for documents: any text that UTF-8 can encode, often one that text mode would change."""
    return st.text(_TEXT) | st.sampled_from(_FRAGILE)


def metadata() -> st.SearchStrategy[dict[str, Any]]:
    """Return metadata for documents: JSON objects without the keys that docid uses."""
    leaves: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(_TEXT)
    leaves |= st.floats(allow_nan=False, allow_infinity=False)
    values: st.SearchStrategy[Any] = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(_TEXT, max_size=5), inner, max_size=3),
        max_leaves=8,
    )
    return st.dictionaries(st.sampled_from(["template_id", "model_id", "usage", "ключ", ""]), values, max_size=4)


def moments() -> st.SearchStrategy[datetime]:
    """Return times for `created_at`, in UTC."""
    return st.datetimes(datetime(1000, 1, 2), datetime(9998, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 - Hypothesis adds the time zone


def documents(**fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[Document]:
    """Return documents of stage `draft`; few ids and task ids, so that some collide. `fixed` overrides fields."""
    fields: dict[str, st.SearchStrategy[Any]] = {
        "stage": st.just("draft"),
        "doc_id": st.sampled_from(["a1", "b2"]),
        "task_id": st.sampled_from(["t-1", "t-2"]),
        "raw_text": contents(),
        "parsed_text": st.none() | contents(),
        "prompt_text": st.none() | contents(),
        "run_id": st.none() | st.just("run-1"),
        "metadata": metadata(),
        "created_at": moments(),
    }
    return st.builds(Document, **{**fields, **fixed})


def new_document(doc_id: str = "a1", stage: str = "draft", **fields: Any) -> NewDocument:
    """Return a document in the form that a backend receives: its name, and the bytes of its record and part files.

    Each call returns a record with a new nonce, so equal arguments give different records.

    Args:
        doc_id, stage: its name.
        fields: other fields of `Document`; the task id defaults to `t-1`, the raw text to `once`.

    Example:
        >>> from docid.backends import MemoryBackend
        >>> backend, new = MemoryBackend(), new_document(raw_text="a text")
        >>> backend.create(*new)
        True
        >>> backend.load("draft", "a1", ["raw.txt"]) == (new.record, {"raw.txt": b"a text"})
        True
    """
    fields = {"task_id": "t-1", "raw_text": "once", **fields}
    record, parts = Record.from_document(Document(stage=stage, doc_id=doc_id, **fields), nonce())
    return NewDocument(stage, doc_id, record.to_bytes(), parts)


class BackendTests:
    """The tests that every backend must pass. Add your own tests for further guarantees of your backend.

    Inherit from this class and define the fixture `backend`::

        class TestMyBackend(BackendTests):
            @pytest.fixture
            def backend(self, tmp_path):
                return MyBackend(tmp_path)  # a new, empty backend for each test
    """

    @pytest.fixture
    def backend(self) -> Backend:
        """Return an empty backend."""
        raise NotImplementedError("expected a fixture 'backend' that returns an empty backend")

    def test_create_stores_every_byte(self, backend: Backend) -> None:
        new = _create(backend, raw_text="a\r\nb\rc\x00\U0001f40b", parsed_text="", prompt_text="x" * 1_000_000)
        _check_stored(backend, new)
        assert backend.load("draft", "a1") == (new.record, {})
        assert backend.load("draft", "a1", ("parsed.txt",)) == (new.record, {"parsed.txt": b""})

    def test_load_sizes_and_listing_omit_missing_parts(self, backend: Backend) -> None:
        assert (backend.sizes("draft", "a1", ALL_FILES), backend.listing("draft", "a1")) == ({}, None)
        new = _create(backend, raw_text="é", parsed_text="")
        assert backend.load("draft", "a1", ALL_FILES) == (new.record, {"raw.txt": "é".encode(), "parsed.txt": b""})
        assert backend.sizes("draft", "a1", ALL_FILES) == {"raw.txt": 2, "parsed.txt": 0}
        assert backend.sizes("draft", "a1", ("raw.txt", "prompt.txt")) == {"raw.txt": 2}
        # A backend may always return None: the caller then loads the document.
        assert backend.listing("draft", "a1") in (None, (new.record, {"raw.txt": 2, "parsed.txt": 0}))

    def test_create_keeps_an_existing_document(self, backend: Backend) -> None:
        first = _create(backend)
        assert not backend.create(*new_document(task_id="t-2", raw_text="twice", parsed_text="p"))
        _check_stored(backend, first)
        _check_history(backend)

    def test_stages_do_not_share_ids(self, backend: Backend) -> None:
        assert list(backend.ids("draft")) == []
        for stage in ("draft-2", "dra", "draft_"):
            _create(backend, "other", stage=stage)
        names = ["a1", "b-2", "c_3", "0", "x" * 64]
        drafts = [_create(backend, doc_id) for doc_id in names]
        essay = _create(backend, stage="essay", raw_text="other", parent_doc_id="a1")
        assert sorted(backend.ids("draft")) == sorted(names)
        assert list(backend.ids("essay")) == ["a1"]
        assert list(backend.ids("evaluation")) == []
        for new in (*drafts, essay):
            _check_stored(backend, new)
        assert backend.location("draft", "a1") != backend.location("essay", "a1")

    def test_location_names_document_without_creating_it(self, backend: Backend) -> None:
        assert backend.location("draft", "a1").startswith(backend.root.rstrip("/"))
        for place in (backend.location("draft", "a1"), str(backend.path("draft", "a1"))):
            assert place.replace("\\", "/").rsplit(".json", 1)[0].endswith("draft/a1")
        assert backend.load("draft", "a1") is None

    def test_amend_adds_parts_and_keeps_old_record_in_history(self, backend: Backend) -> None:
        first, second = _create(backend), new_document(metadata={"k": 1})
        third = new_document(metadata={"k": 1}, parsed_text="p")
        assert _amend(backend, first, second)
        _check_stored(backend, second)
        _check_history(backend, first)
        assert _amend(backend, second, third)
        _check_stored(backend, third)
        assert [version.record for version in backend.history("draft", "a1", ())] == [second.record, first.record]
        assert backend.sizes("draft", "a1", ALL_FILES) == {"raw.txt": 4, "parsed.txt": 1}
        assert list(backend.ids("draft")) == ["a1"]

    def test_replace_keeps_old_version_in_history(self, backend: Backend) -> None:
        old, new = _create(backend, parsed_text="p", prompt_text="q"), new_document(raw_text="twice")
        _create(backend, "b2")
        assert _replace(backend, old, new)
        _check_stored(backend, new)
        assert backend.sizes("draft", "a1", ALL_FILES) == {"raw.txt": 5}
        _check_history(backend, old)
        assert list(backend.history("draft", "a1", ("parsed.txt",))) == [(old.record, {"parsed.txt": b"p"})]
        assert sorted(backend.ids("draft")) == ["a1", "b2"]
        known = backend.with_history("draft")
        assert known is None or "a1" in known

    def test_history_lists_newest_version_first(self, backend: Backend) -> None:
        versions = [_create(backend, raw_text="0"), *(new_document(raw_text=f"{number}") for number in (1, 2, 3))]
        for old, new in pairwise(versions):
            assert _replace(backend, old, new)
        _check_history(backend, *reversed(versions[:3]))
        for doc_id in ("b2", "a", "a10", "a1-"):
            assert list(backend.history("draft", doc_id, ALL_FILES)) == []

    def test_history_keeps_texts_of_each_version(self, backend: Backend) -> None:
        first, second = _create(backend, raw_text="1"), new_document(raw_text="1", metadata={"k": 1})
        third, fourth = new_document(raw_text="2"), new_document(raw_text="2", parsed_text="p")
        assert _amend(backend, first, second)
        assert _replace(backend, second, third)
        assert _amend(backend, third, fourth)
        found = [(each.record, each.parts["raw.txt"]) for each in backend.history("draft", "a1", ALL_FILES)]
        assert found == [(each.record, each.parts["raw.txt"]) for each in (third, second, first)]

    def test_changes_require_the_expected_record(self, backend: Backend) -> None:
        old, other, new = new_document(), new_document(), new_document(raw_text="twice", parsed_text="p")
        assert not _amend(backend, old, new)
        assert not _replace(backend, old, new)
        assert backend.load("draft", "a1") is None
        backend.create(*old)
        assert not _amend(backend, other, new)
        assert not _replace(backend, other, new)
        _check_stored(backend, old)
        _check_history(backend)

    def test_settle_and_sweeper_ignore_complete_documents(self, backend: Backend) -> None:
        old, new = _create(backend), new_document(raw_text="twice")
        _replace(backend, old, new)
        assert not backend.settle("draft", "a1")
        assert not backend.settle("draft", "b2")
        if (sweeper := backend.sweeper()) is not None:
            assert list(sweeper.leftovers("draft", 0)) == []
            assert list(sweeper.strays("draft", "a1", new.record, ALL_FILES, 0)) == []
            sweeper.tidy("draft", 0)
            _check_stored(backend, new)
            _check_history(backend, old)

    def test_create_many_reports_each_document(self, backend: Backend) -> None:
        assert backend.create_many([]) == []
        _create(backend, task_id="t-0")
        many = [*map(new_document, ("a1", "b2", "c3", "b2")), new_document("e1", stage="essay")]
        assert backend.create_many(many) == [False, True, True, False, True]
        for new in (many[1], many[2], many[4]):
            _check_stored(backend, new)

    def test_create_many_goes_on_after_an_error(self, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        create = backend.create
        calls: list[str] = []

        def fail_for_b2(stage: str, doc_id: str, record: bytes, parts: Mapping[str, bytes]) -> bool:
            calls.append(doc_id)
            if doc_id == "b2":
                raise OSError(28, "No space left on device")
            return create(stage, doc_id, record, parts)

        monkeypatch.setattr(backend, "create", fail_for_b2)
        done = backend.create_many([new_document("a1"), new_document("b2"), new_document("c3")])
        if not calls:
            assert done == [True, True, True]
            pytest.skip("create_many of this backend does not call create, so this test cannot inject an error")
        assert (done[0], done[2]) == (True, True)
        assert isinstance(done[1], OSError)

    def test_only_one_thread_creates_or_replaces_a_document(self, backend: Backend) -> None:
        old = _check_one_wins(backend, "raw_text", lambda new: backend.create(*new))
        _check_one_wins(backend, "raw_text", partial(_replace, backend, old))
        _check_history(backend, old)

    def test_only_one_thread_amends_a_version(self, backend: Backend) -> None:
        _check_one_wins(backend, "parsed_text", partial(_amend, backend, _create(backend)))

    def test_readers_see_complete_versions(self, backend: Backend) -> None:
        versions = [new_document(raw_text=f"{number}" * 500, parsed_text=f"{number}" * 500) for number in range(30)]
        whole = {version.record: version.parts for version in versions}
        backend.create(*versions[0])
        is_over = threading.Event()

        def change() -> bool:
            try:
                return all(_replace(backend, old, new) for old, new in pairwise(versions))
            finally:
                is_over.set()

        def read() -> bool:
            while not is_over.is_set():
                found = backend.load("draft", "a1", ALL_FILES)
                assert found is not None
                assert found.parts == whole[found.record]
            return True

        assert _run_together([change, read, read]) == [True, True, True]

    def test_internal_file_is_swapped_only_if_unchanged(self, backend: Backend) -> None:
        for name in ("store.json", "claims/draft/a1.json"):
            assert backend.read_file(name) is None
            first = _create_file(backend, name, b"\xff\r\n\x00")
            assert first.data == b"\xff\r\n\x00"
            assert not backend.swap_file(name, None, b"second")
            assert backend.read_file(name) == first
            assert backend.swap_file(name, first, b"")
            second = backend.read_file(name)
            assert second is not None
            assert second.data == b""
            assert not backend.swap_file(name, first, b"third")
            assert backend.swap_file(name, second, b"third" * 50_000)
            assert getattr(backend.read_file(name), "data", None) == b"third" * 50_000
            assert backend.read_file(f"{name}2") is None

    def test_internal_files_are_no_documents(self, backend: Backend) -> None:
        _create(backend)
        assert set(backend.directories()) <= {"draft"}
        _create_file(backend, "draft/a2", b"{}")
        _create_file(backend, "essay/a1", b"{}")
        assert set(backend.directories()) <= {"draft"}
        assert (list(backend.ids("draft")), list(backend.ids("essay"))) == (["a1"], [])
        assert backend.read_file("draft/a1") is None

    def test_only_one_thread_swaps_an_internal_file(self, backend: Backend) -> None:
        first = _create_file(backend, "store.json", b"first")
        for expected, name in ((None, "other.json"), (first, "store.json")):
            rivals = [b"%d" % number for number in range(8)]
            done = _run_together([partial(backend.swap_file, name, expected, rival) for rival in rivals])
            assert done.count(True) == 1
            assert getattr(backend.read_file(name), "data", None) == rivals[done.index(True)]

    def test_internal_files_are_written_listed_and_removed(self, backend: Backend) -> None:
        _create_file(backend, "rescued/draft/a1.json", b"{}")
        for name in ("rescued/draft/b2.json", "rescued/essay/c3.json", "rescued/d4.json"):
            backend.write_file(name, b"first", is_private=name.endswith("b2.json"))
        backend.write_file("rescued/draft/a1.json", b"\x00second")
        assert getattr(backend.read_file("rescued/draft/a1.json"), "data", None) == b"\x00second"
        listed = dict(backend.list_files("rescued/draft"))
        assert sorted(listed) == ["a1.json", "b2.json"]
        assert all(abs(time.time() - modified) < _CLOCKS for modified in listed.values())
        assert [name for name, _ in backend.list_files("rescued")] == ["d4.json"]
        assert list(backend.list_files("nothing/here")) == []
        backend.remove_file("rescued/draft/a1.json")
        backend.remove_file("rescued/draft/a1.json")
        assert backend.read_file("rescued/draft/a1.json") is None
        assert [name for name, _ in backend.list_files("rescued/draft")] == ["b2.json"]

    def test_claim_is_held_by_one_until_it_is_released(self, backend: Backend) -> None:
        claim, others = _take(backend, "a1"), [_take(backend, "b2"), _take(backend, "a1", "essay")]
        holder = backend.take_claim("draft", "a1")
        assert isinstance(holder, Holder)
        assert str(os.getpid()) in str(holder)
        assert sorted(doc_id for doc_id, _ in backend.list_claims("draft")) == ["a1", "b2"]
        assert dict(backend.list_claims("draft"))["a1"] == holder
        claim.release()
        again = _take(backend, "a1")
        claim.release()  # the second time it does nothing
        assert isinstance(backend.take_claim("draft", "a1"), Holder)
        for each in (again, *others):
            each.release()
        assert list(backend.list_claims("draft")) == []

    def test_claims_are_no_documents(self, backend: Backend) -> None:
        claim = _take(backend, "a1")
        assert not backend.exists("draft", "a1")
        assert list(backend.ids("draft")) == []
        new = _create(backend)
        _check_stored(backend, new)
        assert list(backend.ids("draft")) == ["a1"]
        if (sweeper := backend.sweeper()) is not None:
            assert list(sweeper.leftovers("draft", 0)) == []
            sweeper.tidy("draft", 0)
        assert isinstance(backend.take_claim("draft", "a1"), Holder)
        claim.release()

    def test_only_one_thread_takes_a_claim(self, backend: Backend) -> None:
        for turn in range(5):
            taken: list[Claim] = []

            def take(doc_id: str = f"a{turn}", taken: list[Claim] = taken) -> bool:
                claim = backend.take_claim("draft", doc_id)
                if isinstance(claim, Claim):
                    taken.append(claim)
                return isinstance(claim, Claim)

            assert _run_together([take] * 8).count(True) == 1
            taken[0].release()

    def test_removed_document_is_in_quarantine_and_can_be_restored(self, backend: Backend) -> None:
        first, second = _create(backend), new_document(raw_text="twice", prompt_text="sent")
        assert backend.replace("draft", "a1", first.record, second.record, second.parts)
        entry = entry_name(())
        assert _remove(backend, second, entry)
        assert backend.load("draft", "a1") is None
        assert not backend.exists("draft", "a1")
        assert not backend.still_exists("draft", "a1")
        assert list(backend.ids("draft")) == []
        assert list(backend.history("draft", "a1", ALL_FILES)) == []
        [removed] = backend.list_removed()
        assert removed == Removed(entry, "draft", "a1")
        assert backend.load_removed(removed) == Stored(second.record, {})
        assert backend.restore(removed)
        _check_stored(backend, second)
        assert [old.record for old in backend.history("draft", "a1", ALL_FILES)] == [first.record]
        assert list(backend.list_removed()) == []
        assert backend.load_removed(removed) is None
        assert not backend.restore(removed)

    def test_remove_requires_the_expected_record(self, backend: Backend) -> None:
        new, other = _create(backend), new_document()
        assert _remove(backend, new, "", expected=other.record) is None
        assert _remove(backend, new_document("b2"), "") is None
        _check_stored(backend, new)
        assert list(backend.list_removed()) == []

    def test_restore_keeps_a_document_that_has_taken_the_id(self, backend: Backend) -> None:
        old = _create(backend)
        entry = entry_name(())
        assert _remove(backend, old, entry)
        new = _create(backend, raw_text="new")
        assert not backend.restore(Removed(entry, "draft", "a1"))
        _check_stored(backend, new)
        assert _remove(backend, new, entry_name(()))
        assert backend.restore(Removed(entry, "draft", "a1"))
        _check_stored(backend, old)

    def test_traces_of_a_document_can_be_erased(self, backend: Backend) -> None:
        first, second = _create(backend), new_document(raw_text="twice")
        other = _create(backend, "b2")
        assert backend.replace("draft", "a1", first.record, second.record, second.parts)
        file = f"rescued/draft/a1-{entry_name(())}.json"
        _create_file(backend, file, b"{}")
        _create_file(backend, f"rescued/draft/a1-2-{entry_name(())}.json", b"{}")  # of another document
        sizes = [trace.size for trace in backend.list_traces([("draft", "a1")])]
        assert len(sizes) == 2
        assert min(sizes) == 2
        for trace in backend.list_traces([("draft", "a1")]):
            if trace.size != len(b"{}"):
                backend.erase_trace(trace)
        _check_stored(backend, second)
        assert list(backend.history("draft", "a1", ALL_FILES)) == []
        assert _remove(backend, second, entry_name(()))
        assert _remove(backend, other, entry_name(()))
        for trace in list(backend.list_traces([("draft", "a1")])):
            backend.erase_trace(trace)
            backend.erase_trace(trace)  # it is gone
        assert list(backend.list_traces([("draft", "a1")])) == []
        assert [removed.doc_id for removed in backend.list_removed()] == ["b2"]
        assert backend.read_file(file) is None
        assert len(list(backend.list_traces([("draft", "a1-2")]))) == 1

    def test_only_one_thread_removes_or_restores_a_document(self, backend: Backend) -> None:
        new = _create(backend)
        entries = [entry_name(()) for _ in range(8)]
        done = _run_together([lambda entry=entry: bool(_remove(backend, new, entry)) for entry in entries])  # type: ignore[misc]
        assert done.count(True) == 1
        removed = Removed(entries[done.index(True)], "draft", "a1")
        for _ in range(10):
            assert _run_together([partial(backend.restore, removed)] * 8).count(True) == 1
            assert list(backend.list_removed()) == []
            _check_stored(backend, new)
            assert _remove(backend, new, removed.entry)

    def test_probe_changes_nothing(self, backend: Backend) -> None:
        backend.probe("draft", "a1", replaces=False)
        old, new = _create(backend), new_document(raw_text="twice")
        backend.probe("draft", "a1", replaces=True)
        _check_stored(backend, old)
        _check_history(backend)
        assert list(backend.ids("draft")) == ["a1"]
        assert _replace(backend, old, new)

    def test_threads_that_ensure_one_row_make_one_call(self, backend: Backend) -> None:
        store, row = DocsStore(backend), DraftTask(task_id="t-1", doc_id="a1")
        calls: list[str] = []

        def make(row: DraftTask) -> str:
            calls.append(row.doc_id)
            time.sleep(0.05)
            return f"text {len(calls)}"

        assert all(_run_together([lambda: store.ensure(row, make).document.raw_text == "text 1"] * 8))
        assert calls == ["a1"]
        assert list(backend.list_claims("draft")) == []

    @settings(suppress_health_check=_EXPECTED, deadline=None)
    @given(document=documents(task_id=st.just("t-1")))
    def test_any_document_reads_back_unchanged(self, backend: Backend, document: Document) -> None:
        store = DocsStore(backend)
        store.write(document, if_exists="replace")
        found = store.read("draft", document.doc_id, verify=True)
        # A store does not rewrite an equal document, so the stored one keeps its time.
        assert found.created_at is not None
        assert evolve(document, created_at=found.created_at) == found


def _create(backend: Backend, doc_id: str = "a1", **fields: Any) -> NewDocument:
    """Create a new document and return it."""
    new = new_document(doc_id, **fields)
    assert backend.create(*new)
    return new


def _remove(backend: Backend, new: NewDocument, entry: str, *, expected: bytes = b"") -> str | None:
    """Remove a document; skip the test if the backend cannot."""
    try:
        return backend.remove(new.stage, new.doc_id, expected or new.record, entry or entry_name(()))
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        pytest.skip("this backend cannot remove documents")


def _take(backend: Backend, doc_id: str, stage: str = "draft") -> Claim:
    """Take a claim that must be free."""
    claim = backend.take_claim(stage, doc_id)
    assert isinstance(claim, Claim)
    return claim


def _create_file(backend: Backend, name: str, data: bytes) -> InternalFile:
    """Create an internal file and return it; skip the test if the backend keeps none."""
    try:
        assert backend.swap_file(name, None, data)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        pytest.skip("this backend keeps no files of docid's own, so its stores have no manifest")
    found = backend.read_file(name)
    assert found is not None
    return found


def _amend(backend: Backend, old: NewDocument, new: NewDocument) -> bool:
    """Amend `old` with the record of `new` and the parts that `old` lacks."""
    added = {name: data for name, data in new.parts.items() if name not in old.parts}
    return backend.amend(old.stage, old.doc_id, old.record, new.record, added)


def _replace(backend: Backend, old: NewDocument, new: NewDocument) -> bool:
    return backend.replace(old.stage, old.doc_id, old.record, new.record, new.parts)


def _check_stored(backend: Backend, document: NewDocument) -> None:
    assert backend.load(document.stage, document.doc_id, ALL_FILES) == (document.record, document.parts)


def _check_history(backend: Backend, *versions: NewDocument) -> None:
    """Check that draft a1 has exactly these old versions, newest first."""
    assert list(backend.history("draft", "a1", ALL_FILES)) == [(each.record, each.parts) for each in versions]


def _check_one_wins(backend: Backend, field: str, write: Callable[[NewDocument], bool]) -> NewDocument:
    """Write eight versions concurrently, check that exactly one write succeeds, and return its version."""
    rivals = [new_document(**{field: f"{number}" * 1000}) for number in range(8)]
    done = _run_together([partial(write, new) for new in rivals])
    assert done.count(True) == 1
    winner = rivals[done.index(True)]
    _check_stored(backend, winner)
    return winner


def _run_together(actions: list[Callable[[], bool]]) -> list[bool]:
    """Run each action in its own thread, started together; return the results or raise the first error."""
    barrier = threading.Barrier(len(actions))

    def run(action: Callable[[], bool]) -> bool:
        barrier.wait()
        return action()

    with ThreadPoolExecutor(len(actions)) as executor:
        return list(executor.map(run, actions))

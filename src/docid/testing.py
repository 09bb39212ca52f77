"""For tests: a suite that every home of documents has to pass, and Hypothesis strategies for documents.

Needs the extra `testing`: `pip install 'docid-store[testing]'`.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

try:
    import pytest
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st
except ImportError as error:  # pragma: no cover  - tested in an environment of its own
    raise ImportError("docid.testing needs pytest and hypothesis: pip install 'docid-store[testing]'") from error

from attrs import evolve

from docid.core.document import ALL_FILES, Document
from docid.core.record import Record, nonce
from docid.store.backends.base import NewDocument
from docid.store.docs_store import DocsStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from docid.store.backends.base import Backend

__all__ = ["BackendTests", "contents", "documents", "metadata", "moments", "new_document"]

_TEXT = st.characters(exclude_categories=["Cs"])
_CHANGED_BY_TEXT_FILES = [
    "",
    "\r\n",
    "\r",
    "\n\n",
    "a\x00b",
    "\ufeffmark",
    "x\x1a",
    "\x85\u2028",
    "a\r\nb\rc\n",
    "  b \t",
]


def contents() -> st.SearchStrategy[str]:
    """Return texts that may be stored: any that UTF-8 can hold, with what text files are apt to lose."""
    return st.text(_TEXT) | st.sampled_from([*_CHANGED_BY_TEXT_FILES, "\U0001f40b"])


def metadata() -> st.SearchStrategy[dict[str, Any]]:
    """Return metadata of a document: JSON objects whose keys are the caller's."""
    leaves: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(_TEXT)
    leaves |= st.floats(allow_nan=False, allow_infinity=False)
    values: st.SearchStrategy[Any] = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(_TEXT, max_size=5), inner, max_size=3),
        max_leaves=8,
    )
    return st.dictionaries(st.sampled_from(["template_id", "model_id", "usage", "ключ", ""]), values, max_size=4)


def moments() -> st.SearchStrategy[datetime]:
    """Return moments that `created_at` may be, in UTC."""
    return st.datetimes(datetime(1000, 1, 2), datetime(9998, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 - given there


def documents(**fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[Document]:
    """Return documents of stage `draft`, of few ids and task ids, so that some of them meet.

    Args:
        fixed: strategies for fields that are to be other than these.
    """
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
    """Return what a home is given of a document: its name, its record and its part files, as bytes.

    Two calls with the same arguments give two records, as two writers would: each has a nonce of its own.

    Args:
        doc_id, stage: its name.
        fields: fields of `Document` that are to be other than the task id `t-1` and the raw text `once`.

    Example:
        >>> from docid.backends import MemoryBackend
        >>> home, new = MemoryBackend(), new_document(raw_text="a text")
        >>> home.create(*new)
        True
        >>> home.load("draft", "a1", ["raw.txt"]) == (new.record, {"raw.txt": b"a text"})
        True
    """
    fields = {"task_id": "t-1", "raw_text": "once", **fields}
    record, parts = Record.from_document(Document(stage=stage, doc_id=doc_id, **fields), nonce())
    return NewDocument(stage, doc_id, record.to_bytes(), parts)


class BackendTests:
    """What a home of documents has to do: inherit, and give the fixture `backend`.

    A module of tests has::

        import pytest
        from docid.testing import BackendTests

        class TestMyBackend(BackendTests):
            @pytest.fixture
            def backend(self, tmp_path):
                return MyBackend(tmp_path)  # empty, another one for each test

    Every test holds for every home. What a home promises beyond that (to survive a power cut, say) is for its own
    tests.
    """

    @pytest.fixture
    def backend(self) -> Backend:
        """Return an empty home."""
        raise NotImplementedError("expected a fixture 'backend' that returns an empty home")

    def test_a_document_is_created_and_loaded_as_it_was_given(self, backend: Backend) -> None:
        new = new_document(raw_text="a\r\nb\rc\x00\U0001f40b", parsed_text="", prompt_text="x" * 1_000_000)
        assert backend.load("draft", "a1") is None
        assert backend.create(*new)
        assert backend.load("draft", "a1", ALL_FILES) == (new.record, new.parts)
        assert backend.load("draft", "a1") == (new.record, {})
        assert backend.load("draft", "a1", ("parsed.txt",)) == (new.record, {"parsed.txt": b""})

    def test_a_part_that_is_not_there_is_left_out(self, backend: Backend) -> None:
        new = new_document()
        backend.create(*new)
        assert backend.load("draft", "a1", ALL_FILES) == (new.record, {"raw.txt": b"once"})
        assert backend.sizes("draft", "a1", ALL_FILES) == {"raw.txt": 4}

    def test_sizes_are_those_of_the_parts_that_are_asked_for(self, backend: Backend) -> None:
        assert backend.sizes("draft", "a1", ALL_FILES) == {}
        backend.create(*new_document(raw_text="é", parsed_text=""))
        assert backend.sizes("draft", "a1", ("raw.txt", "prompt.txt")) == {"raw.txt": 2}
        assert backend.sizes("draft", "a1", ALL_FILES) == {"raw.txt": 2, "parsed.txt": 0}

    def test_a_listing_is_the_record_and_the_sizes_of_what_is_there(self, backend: Backend) -> None:
        assert backend.listing("draft", "a1") is None
        new = new_document(raw_text="é", parsed_text="")
        backend.create(*new)
        # A home may always ask for a closer look.
        assert backend.listing("draft", "a1") in (None, (new.record, {"raw.txt": 2, "parsed.txt": 0}))

    def test_an_id_that_is_taken_is_not_written(self, backend: Backend) -> None:
        first, second = new_document(), new_document(task_id="t-2", raw_text="twice", parsed_text="p")
        assert backend.create(*first)
        assert not backend.create(*second)
        assert backend.load("draft", "a1", ALL_FILES) == (first.record, first.parts)
        assert list(backend.history("draft", "a1", ALL_FILES)) == []

    def test_an_id_is_one_of_its_stage(self, backend: Backend) -> None:
        draft, essay = new_document(), new_document(stage="essay", raw_text="other", parent_doc_id="a1")
        assert backend.create(*draft)
        assert backend.create(*essay)
        assert backend.load("draft", "a1", ALL_FILES) == (draft.record, draft.parts)
        assert backend.load("essay", "a1", ALL_FILES) == (essay.record, essay.parts)
        assert backend.path("draft", "a1") != backend.path("essay", "a1")

    def test_ids_are_those_of_a_stage(self, backend: Backend) -> None:
        assert list(backend.ids("draft")) == []
        for stage in ("draft-2", "dra", "draft_"):
            backend.create(*new_document("other", stage=stage))
        names = ["a1", "b-2", "c_3", "0", "x" * 64]
        for doc_id in names:
            backend.create(*new_document(doc_id))
        backend.create(*new_document("e1", stage="essay"))
        assert sorted(backend.ids("draft")) == sorted(names)
        assert list(backend.ids("essay")) == ["e1"]
        assert list(backend.ids("evaluation")) == []

    def test_the_path_names_the_document_and_is_no_look(self, backend: Backend) -> None:
        assert str(backend.path("draft", "a1")).replace("\\", "/").rsplit(".json", 1)[0].endswith("draft/a1")
        assert backend.load("draft", "a1") is None

    def test_a_part_is_added_and_the_old_record_goes_to_history(self, backend: Backend) -> None:
        old, new = new_document(), new_document(parsed_text="p")
        backend.create(*old)
        assert backend.amend("draft", "a1", old.record, new.record, {"parsed.txt": b"p"})
        assert backend.load("draft", "a1", ALL_FILES) == (new.record, new.parts)
        assert [version.record for version in backend.history("draft", "a1", ())] == [old.record]
        assert backend.sizes("draft", "a1", ALL_FILES) == {"raw.txt": 4, "parsed.txt": 1}
        assert list(backend.ids("draft")) == ["a1"]

    def test_a_record_alone_is_changed(self, backend: Backend) -> None:
        old, new = new_document(), new_document(metadata={"k": 1})
        backend.create(*old)
        assert backend.amend("draft", "a1", old.record, new.record, {})
        assert backend.load("draft", "a1", ALL_FILES) == (new.record, old.parts)
        assert list(backend.history("draft", "a1", ALL_FILES)) == [(old.record, old.parts)]

    def test_a_replaced_version_is_whole_in_history_and_leaves_nothing_behind(self, backend: Backend) -> None:
        old, new = new_document(parsed_text="p", prompt_text="q"), new_document(raw_text="twice")
        backend.create(*old)
        assert backend.replace("draft", "a1", old.record, new.record, new.parts)
        assert backend.load("draft", "a1", ALL_FILES) == (new.record, {"raw.txt": b"twice"})
        assert backend.sizes("draft", "a1", ALL_FILES) == {"raw.txt": 5}
        assert list(backend.history("draft", "a1", ALL_FILES)) == [(old.record, old.parts)]
        assert list(backend.history("draft", "a1", ("parsed.txt",))) == [(old.record, {"parsed.txt": b"p"})]
        assert list(backend.ids("draft")) == ["a1"]

    def test_history_is_the_latest_first(self, backend: Backend) -> None:
        assert list(backend.history("draft", "a1", ALL_FILES)) == []
        versions = [new_document(raw_text=f"{number}") for number in range(4)]
        backend.create(*versions[0])
        for old, new in pairwise(versions):
            assert backend.replace("draft", "a1", old.record, new.record, new.parts)
        told = [version.parts["raw.txt"] for version in backend.history("draft", "a1", ALL_FILES)]
        assert told == [b"2", b"1", b"0"]
        for doc_id in ("b2", "a", "a10", "a1-"):
            assert list(backend.history("draft", doc_id, ALL_FILES)) == []

    def test_what_has_a_history_is_among_what_is_said_to_have_one(self, backend: Backend) -> None:
        old, new = new_document(), new_document(raw_text="twice")
        backend.create(*old)
        backend.create(*new_document("b2"))
        backend.replace("draft", "a1", old.record, new.record, new.parts)
        known = backend.with_history("draft")
        assert known is None or "a1" in known

    def test_history_has_the_texts_of_its_time(self, backend: Backend) -> None:
        versions = [
            new_document(raw_text="1"),
            new_document(raw_text="1", metadata={"k": 1}),
            new_document(raw_text="2"),
        ]
        versions.append(new_document(raw_text="2", parsed_text="p"))
        backend.create(*versions[0])
        assert backend.amend("draft", "a1", versions[0].record, versions[1].record, {})
        assert backend.replace("draft", "a1", versions[1].record, versions[2].record, versions[2].parts)
        assert backend.amend("draft", "a1", versions[2].record, versions[3].record, {"parsed.txt": b"p"})
        told = [(version.record, version.parts["raw.txt"]) for version in backend.history("draft", "a1", ALL_FILES)]
        assert told == [(version.record, version.parts["raw.txt"]) for version in reversed(versions[:3])]

    def test_what_is_not_expected_is_not_changed(self, backend: Backend) -> None:
        old, other, new = new_document(), new_document(), new_document(raw_text="twice")
        assert not backend.replace("draft", "a1", old.record, new.record, new.parts)
        assert not backend.amend("draft", "a1", old.record, new.record, {})
        assert backend.load("draft", "a1") is None
        backend.create(*old)
        assert not backend.replace("draft", "a1", other.record, new.record, new.parts)
        assert not backend.amend("draft", "a1", other.record, new.record, {"parsed.txt": b"p"})
        assert backend.load("draft", "a1", ALL_FILES) == (old.record, old.parts)
        assert list(backend.history("draft", "a1", ALL_FILES)) == []

    def test_many_are_created_and_each_is_answered(self, backend: Backend) -> None:
        assert backend.create_many([]) == []
        backend.create(*new_document("a1", task_id="t-0"))
        many = [
            new_document("a1"),
            new_document("b2"),
            new_document("c3"),
            new_document("b2", raw_text="twice"),
            new_document("e1", stage="essay"),
        ]
        assert backend.create_many(many) == [False, True, True, False, True]
        for new in (many[1], many[2], many[4]):
            assert backend.load(new.stage, new.doc_id, ALL_FILES) == (new.record, new.parts)

    def test_there_is_nothing_to_settle_or_to_sweep_in_a_whole_home(self, backend: Backend) -> None:
        new, later = new_document(), new_document(raw_text="twice")
        backend.create(*new)
        backend.replace("draft", "a1", new.record, later.record, later.parts)
        assert not backend.settle("draft", "a1")
        assert not backend.settle("draft", "b2")
        sweeper = backend.sweeper()
        if sweeper is not None:
            assert list(sweeper.leftovers("draft", 0)) == []
            assert list(sweeper.strays("draft", "a1", later.record, ALL_FILES, 0)) == []
            sweeper.tidy("draft", 0)
            assert backend.load("draft", "a1", ALL_FILES) == (later.record, later.parts)
            assert len(list(backend.history("draft", "a1", ALL_FILES))) == 1

    def test_of_threads_that_create_one_document_one_does(self, backend: Backend) -> None:
        rivals = [new_document(task_id=f"t-{number}", raw_text=f"{number}" * 1000) for number in range(8)]
        done = _at_once([lambda new=new: backend.create(*new) for new in rivals])  # type: ignore[misc]
        assert done.count(True) == 1
        winner = rivals[done.index(True)]
        assert backend.load("draft", "a1", ALL_FILES) == (winner.record, winner.parts)

    def test_of_threads_that_change_one_version_one_does(self, backend: Backend) -> None:
        old = new_document()
        backend.create(*old)
        rivals = [new_document(raw_text=f"{number}" * 1000) for number in range(8)]
        changes: list[Callable[[], bool]] = [
            lambda new=new: backend.replace("draft", "a1", old.record, new.record, new.parts)  # type: ignore[misc]
            for new in rivals
        ]
        done = _at_once(changes)
        assert done.count(True) == 1
        winner = rivals[done.index(True)]
        assert backend.load("draft", "a1", ALL_FILES) == (winner.record, winner.parts)
        assert list(backend.history("draft", "a1", ALL_FILES)) == [(old.record, old.parts)]

    def test_of_threads_that_add_to_one_version_one_does(self, backend: Backend) -> None:
        old = new_document()
        backend.create(*old)
        rivals = [new_document(parsed_text=f"{number}" * 1000) for number in range(8)]
        changes: list[Callable[[], bool]] = [
            lambda new=new: backend.amend(  # type: ignore[misc]
                "draft", "a1", old.record, new.record, {"parsed.txt": new.parts["parsed.txt"]}
            )
            for new in rivals
        ]
        done = _at_once(changes)
        assert done.count(True) == 1
        winner = rivals[done.index(True)]
        assert backend.load("draft", "a1", ALL_FILES) == (winner.record, winner.parts)

    def test_one_that_cannot_be_created_does_not_keep_the_others_back(
        self, backend: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create = backend.create
        asked: list[str] = []

        def refused(stage: str, doc_id: str, record: bytes, parts: Mapping[str, bytes]) -> bool:
            asked.append(doc_id)
            if doc_id == "b2":
                raise OSError(28, "No space left on device")
            return create(stage, doc_id, record, parts)

        monkeypatch.setattr(backend, "create", refused)
        done = backend.create_many([new_document("a1"), new_document("b2"), new_document("c3")])
        if not asked:
            assert done == [True, True, True]
            pytest.skip("create_many of this home does not go by create, so that nothing could be made to fail")
        assert (done[0], done[2]) == (True, True)
        assert isinstance(done[1], OSError)

    def test_a_reader_beside_changes_sees_whole_versions(self, backend: Backend) -> None:
        versions = [new_document(raw_text=f"{number}" * 500, parsed_text=f"{number}" * 500) for number in range(30)]
        whole = {version.record: version.parts for version in versions}
        backend.create(*versions[0])
        over = threading.Event()

        def change() -> bool:
            for old, new in pairwise(versions):
                assert backend.replace("draft", "a1", old.record, new.record, new.parts)
            over.set()
            return True

        def read() -> bool:
            while not over.is_set():
                found = backend.load("draft", "a1", ALL_FILES)
                assert found is not None
                assert found.parts == whole[found.record]
            return True

        assert _at_once([change, read, read]) == [True, True, True]

    @settings(
        suppress_health_check=[
            HealthCheck.differing_executors,  # the suite of one home is not that of another
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
        ],
        deadline=None,
    )
    @given(document=documents(task_id=st.just("t-1")))
    def test_any_document_is_read_as_it_was_written(self, backend: Backend, document: Document) -> None:
        store = DocsStore(backend)
        store.write(document, if_exists="replace")
        found = store.read("draft", document.doc_id, verify=True)
        # What is equal to what was there is not written again, and keeps its time.
        assert found.created_at is not None
        assert evolve(document, created_at=found.created_at) == found


def _at_once(acts: list[Callable[[], bool]]) -> list[bool]:
    """Do each in a thread of its own, all started together; return what each returned."""
    barrier = threading.Barrier(len(acts))
    results: list[bool | BaseException | None] = [None] * len(acts)

    def act(number: int) -> None:
        barrier.wait()
        try:
            results[number] = acts[number]()
        except BaseException as error:  # noqa: BLE001 - raised where it is seen
            results[number] = error

    threads = [threading.Thread(target=act, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [bool(result) for result in results]

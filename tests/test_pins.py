"""The record names the versions of the parent and inputs that a document was made from, in every way to write it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from docid import (
    DocidError,
    DocsStore,
    Document,
    DocumentChanged,
    DraftTask,
    EssayTask,
    LineageConflict,
    MissingParent,
    Outcome,
    Reply,
    Stages,
    WriteManyError,
    reserve_doc_id,
)
from docid.backends import Claim, MemoryBackend
from docid.backends.objects import ObjectsBackend
from docid.copying import copy
from docid.core.record import Record, parse_pins
from docid.curate import migrate
from tests.drivers import DRIVERS, Sync
from tests.store_documents import draft, never, put_legacy

STAGES = Stages.chain("draft", "essay")
ROW = EssayTask(task_id="e-1", doc_id="e1", parent_doc_id="a1", input_doc_ids=("draft/b1", "essay/x1"))
NAMES = ("a1", "draft/b1", "essay/x1")


@pytest.fixture(params=["local", "memory", "objects"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> DocsStore:
    roots: dict[str, Any] = {"local": tmp_path / "docs", "memory": MemoryBackend(), "objects": None}
    store = DocsStore(roots[request.param] or ObjectsBackend("memory://"), stages=STAGES)
    fill(store)
    return store


def fill(store: DocsStore) -> None:
    store.write(draft("a1", raw_text="parent", parsed_text="parsed", prompt_text="p"))
    store.write(draft("b1", task_id="b-1", raw_text="first input"))
    store.write(Document(stage="essay", doc_id="x1", task_id="x-1", parent_doc_id="a1", raw_text="second input"))


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


PINS = {
    "a1": {"raw.txt": digest("parent"), "parsed.txt": digest("parsed")},
    "draft/b1": {"raw.txt": digest("first input")},
    "essay/x1": {"raw.txt": digest("second input")},
}


def replace_all(store: DocsStore) -> None:
    """Replace the parent and both inputs."""
    store.write(draft("a1", raw_text="new parent"), if_exists="replace")
    store.write(draft("b1", task_id="b-1", raw_text="new input"), if_exists="replace")
    new = Document(stage="essay", doc_id="x1", task_id="x-1", parent_doc_id="a1", raw_text="new second input")
    store.write(new, if_exists="replace")


NEW_PINS = {
    "a1": {"raw.txt": digest("new parent")},
    "draft/b1": {"raw.txt": digest("new input")},
    "essay/x1": {"raw.txt": digest("new second input")},
}

WAYS: dict[str, Callable[[DocsStore], object]] = {
    "write": lambda store: store.write(Document.from_task(ROW, raw_text="x")),
    "write_many": lambda store: store.write_many([Document.from_task(ROW, raw_text="x")]),
    "ensure": lambda store: store.ensure(ROW, lambda _: "x"),
    "ensure, a document": lambda store: store.ensure(ROW, lambda row: Document.from_task(row, raw_text="x")),
    **{
        driver.name: lambda store, driver=driver: driver.run(store, [ROW], lambda _: "x")  # type: ignore[misc]
        for driver in DRIVERS
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_document_names_the_versions_it_was_made_from(store: DocsStore, way: str) -> None:
    WAYS[way](store)
    found = store.open("essay", "e1")
    assert found.pins == PINS
    assert found.inputs == ("draft/b1", "essay/x1")
    own = found.record["docid"]
    assert own["parent"] == PINS["a1"]
    assert own["inputs"] == [{"name": name, "pin": PINS[name]} for name in NAMES[1:]]
    again = store.read("essay", "e1")
    assert (again.pins, again.inputs) == (found.pins, found.inputs)


@pytest.mark.parametrize("way", WAYS)
def test_missing_input_is_refused_before_a_call(store: DocsStore, way: str) -> None:
    row = attrs.evolve(ROW, input_doc_ids=("draft/gone",))

    def refuse() -> None:
        if way == "write":
            store.write(Document.from_task(row, raw_text="x"))
        elif way == "write_many":
            store.write_many([Document.from_task(row, raw_text="x")])
        elif driver := next((each for each in DRIVERS if each.name == way), None):
            [done] = driver.run(store, [row], never)
            done.unwrap()
        else:
            store.ensure(row, never)

    with pytest.raises(Exception, match="its input draft/gone is not in the store; write the input first") as caught:
        refuse()
    errors = getattr(caught.value, "failures", {0: caught.value})
    assert isinstance(errors[0], MissingParent)
    assert errors[0].is_input
    assert not store.exists("essay", "e1")


def test_no_versions_without_require_parent(store: DocsStore) -> None:
    unknown = dict.fromkeys(NAMES)
    store.write(Document.from_task(ROW, raw_text="x"), require_parent=False)
    assert store.open("essay", "e1").pins == unknown
    row = attrs.evolve(ROW, task_id="e-2", doc_id="e2")
    store.ensure(row, lambda _: "x", require_parent=False)
    store.write_many([Document.from_task(attrs.evolve(row, doc_id="e3"), raw_text="x")], require_parent=False)
    assert store.open("essay", "e2").pins == store.open("essay", "e3").pins == unknown
    # Nothing is known to have changed.
    replace_all(store)
    assert store.ensure(row, never, if_changed="report").changed == ()


def test_write_names_the_version_that_was_read(store: DocsStore) -> None:
    parent, inputs = store.open_parent(ROW), store.open_inputs(ROW)
    assert [each.raw_text for each in (parent, *inputs)] == ["parent", "first input", "second input"]
    replace_all(store)
    store.write(Document.from_task(ROW, raw_text="x", parent=parent, inputs=inputs))
    assert store.open("essay", "e1").pins == PINS
    # Versions that are not given are those of the store.
    row = attrs.evolve(ROW, doc_id="e2")
    store.write(Document.from_task(row, raw_text="x", parent=parent.read(), inputs=inputs[:1]))
    assert store.open("essay", "e2").pins == {**PINS, "essay/x1": NEW_PINS["essay/x1"]}
    with pytest.raises(ValueError, match=r"parent: draft/b1; expected draft/a1, the parent of the row"):
        Document.from_task(ROW, raw_text="x", parent=inputs[0])
    with pytest.raises(ValueError, match=r"inputs: draft/a1; expected only documents in the input_doc_ids"):
        Document.from_task(ROW, raw_text="x", inputs=[parent])


def test_versions_are_those_from_before_the_prompt(store: DocsStore) -> None:
    def render(_: EssayTask) -> str:
        replace_all(store)  # another process replaces the parent after docid has looked
        return "a prompt from the new parent, or from the old one"

    store.ensure(ROW, lambda row, prompt: prompt, prompt=render)
    assert store.open("essay", "e1").pins == PINS


def test_part_added_to_a_parent_later_is_no_change(store: DocsStore) -> None:
    store.ensure(ROW, lambda _: "x")
    store.add_part("draft", "b1", "parsed", "late")
    store.add_part("draft", "b1", "prompt", "late")
    assert store.ensure(ROW, never, if_changed="report").changed == ()


def test_versions_survive_add_part_copy_and_a_write_elsewhere(store: DocsStore) -> None:
    store.ensure(ROW, lambda _: "x")
    replace_all(store)
    store.add_part("essay", "e1", "parsed", "late")
    assert store.open("essay", "e1").pins == PINS
    target = DocsStore(MemoryBackend(), stages=STAGES)
    list(copy(store, target))
    assert target.open("essay", "e1").pins == PINS
    other = DocsStore(MemoryBackend(), stages=STAGES)
    fill(other)
    replace_all(other)
    other.write(store.read("essay", "e1"))
    assert other.open("essay", "e1").pins == PINS


def test_unchanged_write_keeps_the_versions(store: DocsStore) -> None:
    document = Document.from_task(ROW, raw_text="x")
    store.write(document)
    replace_all(store)
    assert store.write(document).outcome == "unchanged"
    assert store.write(document, if_exists="keep").outcome == "unchanged"
    assert store.open("essay", "e1").pins == PINS


def test_replace_renews_the_versions_of_the_same_text(store: DocsStore) -> None:
    document = Document.from_task(ROW, raw_text="x")
    store.write(document)
    assert store.write(document, if_exists="replace").outcome == "unchanged"
    replace_all(store)
    # Without the parents there is nothing to renew, and the known versions stay.
    other = attrs.evolve(document, run_id="r")
    assert store.write(other, if_exists="replace", require_parent=False).outcome == "replaced"
    assert store.open("essay", "e1").pins == PINS
    assert store.write(document, if_exists="replace").outcome == "replaced"
    assert store.open("essay", "e1").pins == NEW_PINS
    assert [each.pins for each in store.history("essay", "e1")] == [PINS, PINS]


def test_ensure_acts_on_changed_parents_and_inputs(store: DocsStore) -> None:
    store.ensure(ROW, lambda _: "x")
    assert store.ensure(ROW, never, if_changed="replace").outcome == "kept"
    store.write(draft("b1", task_id="b-1", raw_text="new input"), if_exists="replace")
    assert store.ensure(ROW, never, if_changed="report").changed == ("input.draft/b1",)
    replace_all(store)
    changed = ("parent", "input.draft/b1", "input.essay/x1")
    kept = store.ensure(ROW, never, if_changed="report")
    assert (kept.outcome, kept.changed) == ("kept", changed)
    assert store.ensure(ROW, never).changed == ()
    with pytest.raises(DocumentChanged, match="another version of its parent, another version of its input.draft/b1"):
        store.ensure(ROW, never, if_changed="fail")
    done = store.ensure(ROW, lambda _: "y", if_changed="replace")
    assert (done.outcome, done.changed, done.document.pins) == ("replaced", changed, NEW_PINS)
    assert [each.raw_text for each in store.history("essay", "e1")] == ["x"]
    assert store.ensure(ROW, never, if_changed="replace").outcome == "kept"
    # An equal text is made again, too: its versions are renewed.
    store.write(draft("a1", raw_text="newest"), if_exists="replace")
    assert store.ensure(ROW, lambda _: "y", if_changed="replace").outcome == "replaced"
    assert store.ensure(ROW, never, if_changed="fail").outcome == "kept"


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.name)
def test_many_forms_act_on_changed_parents(store: DocsStore, driver: Sync) -> None:
    driver.run(store, [ROW], lambda _: "x")
    replace_all(store)
    [done] = driver.run(store, [ROW], lambda _: "y", if_changed="replace")
    assert done.outcome == "replaced"
    assert done.unwrap().pins == NEW_PINS


def test_missing_parent_of_an_existing_document_is_no_change(store: DocsStore) -> None:
    orphan = EssayTask(task_id="o", doc_id="o1", parent_doc_id="gone")
    document = Document.from_task(orphan, raw_text="x")
    store.write(attrs.evolve(document, pins={"gone": {"raw.txt": digest("once")}}), require_parent=False)
    assert store.ensure(orphan, never, if_changed="report").changed == ()
    with pytest.raises(MissingParent):
        store.ensure(orphan, never, if_exists="replace")


def test_changed_parent_is_found_beside_a_missing_input(tmp_path: Path) -> None:
    store = DocsStore(tmp_path, stages=STAGES)
    fill(store)
    store.ensure(ROW, lambda _: "x")
    store.write(draft("a1", raw_text="new"), if_exists="replace")
    shutil.rmtree(store.path("draft", "b1"))
    for require in (True, False):
        assert store.ensure(ROW, never, if_changed="report", require_parent=require).changed == ("parent",)
    with pytest.raises(DocumentChanged):
        store.ensure(ROW, never, if_changed="fail")
    with pytest.raises(MissingParent):
        store.ensure(ROW, never, if_changed="replace")

    def render(row: EssayTask) -> str:
        """Render a prompt from the parent; meanwhile another process replaces it, and writes the missing input."""
        text = store.open_parent(row).raw_text
        if text == "new":
            store.write(draft("a1", raw_text="newest"), if_exists="replace")
            store.write(draft("b1", task_id="b-1", raw_text="again"))
        return text

    done = store.ensure(ROW, lambda row, prompt: prompt, prompt=render, if_changed="replace")
    # The prompt is never older than the versions that the record names.
    assert done.document.raw_text == "newest"
    assert store.ensure(ROW, never, if_changed="report").changed == ()


def test_document_that_was_read_gets_new_versions(store: DocsStore) -> None:
    store.ensure(ROW, lambda _: "x")
    replace_all(store)

    def edit(_: EssayTask) -> Document:
        return attrs.evolve(store.read("essay", "e1"), raw_text="y")

    assert store.ensure(ROW, edit, if_changed="replace").document.pins == NEW_PINS
    assert store.ensure(ROW, never, if_changed="fail").outcome == "kept"
    # Also if its record did not know them.
    store.write(attrs.evolve(store.read("essay", "x1"), doc_id="e1", task_id="e-1", inputs=ROW.input_doc_ids, pins={}),
        if_exists="replace", require_parent=False)  # fmt: skip
    assert store.ensure(ROW, edit, if_exists="replace").document.pins == NEW_PINS


def test_document_of_make_names_the_version_that_it_was_given(tmp_path: Path) -> None:
    store = DocsStore(tmp_path, stages=STAGES)
    fill(store)
    parent, inputs = store.open_parent(ROW), store.open_inputs(ROW)
    replace_all(store)

    def make(row: EssayTask) -> Document:
        return Document.from_task(row, raw_text="from the old versions", parent=parent, inputs=inputs)

    assert store.ensure(ROW, make).document.pins == PINS
    # Also if the reply is rescued, and stored later.
    row = attrs.evolve(ROW, doc_id="e2")
    path = store.path("draft", "b1")

    def make_and_lose(row: EssayTask) -> Document:
        path.rename(path.with_name(".away"))
        return make(row)

    with pytest.raises(MissingParent):
        store.ensure(row, make_and_lose)
    path.with_name(".away").rename(path)
    [rescued] = store.list_rescued()
    rescued.adopt()
    assert store.open("essay", "e2").pins == PINS


def test_worker_that_has_waited_names_the_version_at_the_end_of_the_wait(tmp_path: Path) -> None:
    store = DocsStore(tmp_path, stages=STAGES)
    fill(store)
    row = EssayTask(task_id="e-1", doc_id="e1", parent_doc_id="a1")
    claim = store.backend.take_claim("essay", "e1")
    assert isinstance(claim, Claim)

    def release() -> None:
        store.write(draft("a1", raw_text="new parent"), if_exists="replace")
        claim.release()

    timer = threading.Timer(0.3, release)
    timer.start()
    done = store.ensure(row, lambda row, prompt: prompt, prompt=lambda row: store.open_parent(row).raw_text)
    timer.join()
    assert (done.document.raw_text, done.document.pins) == ("new parent", {"a1": NEW_PINS["a1"]})


def test_version_of_an_unreadable_parent_is_unknown(tmp_path: Path) -> None:
    store = DocsStore(tmp_path)
    path = store.write(draft("a1")).path
    (path / "metadata.json").write_text("{")
    row = EssayTask(task_id="e-1", doc_id="e1", parent_doc_id="a1")
    assert store.ensure(row, lambda _: "x").document.pins == {"a1": None}


def test_version_of_a_legacy_parent_is_unknown(store: DocsStore) -> None:
    put_legacy(store, "draft", "old", {"task_id": "t-old", "created_at": "2026-01-01T00:00:00Z"}, raw="once")
    assert store.open("draft", "old").pin is None
    row = EssayTask(task_id="e-1", doc_id="e9", parent_doc_id="old")
    store.ensure(row, lambda _: "x")
    list(migrate(store, apply=True))
    assert store.open("draft", "old").pin == {"raw.txt": digest("once")}
    assert store.ensure(row, never, if_changed="report").changed == ()
    assert store.open("essay", "e9").pins == {"old": None}


def test_rescued_reply_keeps_versions_inputs_and_origin(store: DocsStore) -> None:
    doc_id = reserve_doc_id("essay", "e-1", "run-1", "2")
    row = attrs.evolve(ROW, doc_id=doc_id, doc_run_id="run-1", doc_salt="2")
    with pytest.raises(ValueError, match="metadata.tags"):
        store.ensure(row, lambda _: Reply("paid", metadata={"tags": {"sea"}}), metadata={"a": 1})
    replace_all(store)
    [rescued] = store.list_rescued()
    assert (rescued.inputs, rescued.pins) == (row.input_doc_ids, PINS)
    object.__setattr__(rescued, "reply", attrs.evolve(rescued.reply, metadata={}))
    assert rescued.adopt().outcome is Outcome.CREATED
    found = store.open("essay", doc_id)
    assert (found.inputs, found.pins, found.facts.id_from) == (row.input_doc_ids, PINS, ("run-1", "2"))
    assert store.ensure(row, never).outcome == "kept"


def test_other_inputs_are_another_lineage(store: DocsStore) -> None:
    store.ensure(ROW, lambda _: "x")
    for inputs in ((), ("draft/b1",), ("essay/x1", "draft/b1")):
        row = attrs.evolve(ROW, input_doc_ids=inputs)
        with pytest.raises(LineageConflict, match="inputs='draft/b1 essay/x1'") as caught:
            store.ensure(row, never, if_exists="replace")
        assert (caught.value.inputs, caught.value.stored_inputs) == (inputs, ROW.input_doc_ids)
        with pytest.raises(LineageConflict):
            store.write(Document.from_task(row, raw_text="y"), if_exists="replace")


def test_chunk_may_hold_inputs_and_what_is_made_from_them(store: DocsStore) -> None:
    """Documents of one stage, inputs of later stages, and children of these, in one call, in any chunks."""
    documents = [
        Document(stage="draft", doc_id="m1", task_id="m-1", raw_text="one"),
        Document(stage="draft", doc_id="m2", task_id="m-2", raw_text="two", inputs=("draft/m1", "draft/a1")),
        Document(stage="essay", doc_id="n1", task_id="n-1", raw_text="three", parent_doc_id="m2"),
        Document(stage="draft", doc_id="m3", task_id="m-3", raw_text="four", inputs=("essay/n1",)),
        Document(stage="essay", doc_id="n2", task_id="n-2", raw_text="five", parent_doc_id="a1"),
    ]
    results = store.write_many(documents)
    assert [str(each.outcome) for each in results] == ["created"] * 5
    assert store.open("draft", "m2").pins == {"draft/m1": {"raw.txt": digest("one")}, "draft/a1": PINS["a1"]}
    assert store.open("draft", "m3").pins == {"essay/n1": {"raw.txt": digest("three")}}
    assert store.open("essay", "n1").pins == {"m2": {"raw.txt": digest("two")}}
    assert store.open("essay", "n2").pins == {"a1": PINS["a1"]}
    assert [str(each.outcome) for each in store.write_many(documents)] == ["unchanged"] * 5


def test_child_written_with_a_parent_that_is_kept_names_the_stored_version(store: DocsStore) -> None:
    documents = [draft("a1", raw_text="not stored"), Document.from_task(ROW, raw_text="x")]
    kept, created = store.write_many(documents, if_exists="keep")
    assert (kept.outcome, created.outcome) == ("kept", "created")
    assert store.open("essay", "e1").pins == PINS
    # A parent that is replaced in the same call counts in its new version.
    documents = [draft("a1", raw_text="new"), Document.from_task(attrs.evolve(ROW, doc_id="e2"), raw_text="x")]
    store.write_many(documents, if_exists="replace")
    assert store.open("essay", "e2").pins["a1"] == {"raw.txt": digest("new")}


Listed = list[tuple[str, str, str, tuple[str, ...]]]
REPEATS: dict[str, Listed] = {
    "a parent before and after its child": [
        ("draft", "p", "v1", ()),
        ("essay", "c", "x", ()),
        ("draft", "p", "v2", ()),
    ],
    "an input before and after": [
        ("draft", "i", "v1", ()),
        ("draft", "d", "x", ("draft/i",)),
        ("draft", "i", "v2", ()),
    ],
    "an input that comes later": [
        ("draft", "p", "p", ()),
        ("essay", "c", "x", ("draft/a1",)),
        ("draft", "a1", "v2", ()),
    ],
    "a child before and after": [("draft", "p", "p", ()), ("essay", "c", "x", ()), ("essay", "c", "y", ())],
}


@pytest.mark.parametrize("name", REPEATS)
@pytest.mark.parametrize("before", [0, 97, 98, 99])
def test_many_writes_name_the_versions_of_one_write_after_the_other(tmp_path: Path, name: str, before: int) -> None:
    def make() -> list[Document]:
        return [
            Document(
                stage=stage,
                doc_id=doc_id,
                task_id=doc_id if doc_id != "a1" else "t-1",
                raw_text=text,
                parent_doc_id="p" if stage == "essay" else None,
                inputs=inputs,
            )
            for stage, doc_id, text, inputs in REPEATS[name]
        ]

    pads = [draft(f"pad{number}", task_id=f"pad-{number}") for number in range(before)]
    one, many = (DocsStore(tmp_path / root, stages=STAGES, durability="none") for root in ("one", "many"))
    for store in (one, many):
        fill(store)
    for document in make():
        one.write(document, if_exists="replace")
    many.write_many([*pads, *make()], if_exists="replace")
    for stage in STAGES:
        assert [each.pins for each in one.documents(stage)] == [
            many.open(stage, each.doc_id).pins for each in one.documents(stage)
        ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["draft", "essay"]),
            st.sampled_from("pq"),
            st.sampled_from("xyz"),
            st.lists(st.sampled_from(["draft/p", "draft/q", "essay/p", "essay/q"]), unique=True, max_size=2),
        ),
        max_size=8,
    ),
    st.integers(1, 8),
)
def test_many_writes_do_what_single_writes_do(listed: list[tuple[str, str, str, list[str]]], together: int) -> None:
    """Any documents of two stages, with inputs and repeated ids, in chunks of any size."""
    documents = []
    for stage, doc_id, text, others in listed:
        inputs = tuple(name for name in others if name != f"{stage}/{doc_id}")
        parent = "q" if stage == "essay" else None
        documents.append(
            Document(stage=stage, doc_id=doc_id, task_id=doc_id, raw_text=text, parent_doc_id=parent, inputs=inputs)
        )
    one, many = (DocsStore(MemoryBackend(), stages=STAGES) for _ in range(2))
    many.backend.together = together
    answers: list[str] = []
    for document in documents:
        try:
            answers.append(str(one.write(document, if_exists="replace").outcome))
        except DocidError as error:
            answers.append(type(error).__name__)
    try:
        found = [str(each.outcome) for each in many.write_many(documents, if_exists="replace")]
    except WriteManyError as error:
        found = [
            type(error.failures[number]).__name__ if each is None else str(each.outcome)
            for number, each in enumerate(error.results)
        ]
    assert found == answers
    for stage in STAGES:
        stored = {each.doc_id: (each.raw_text, each.pins) for each in one.documents(stage)}
        assert {each.doc_id: (each.raw_text, each.pins) for each in many.documents(stage)} == stored


def test_input_that_comes_later_in_the_stream_does_not_count(store: DocsStore) -> None:
    documents = [
        Document(stage="draft", doc_id="m2", task_id="m-2", raw_text="two", inputs=("draft/m1",)),
        Document(stage="draft", doc_id="m1", task_id="m-1", raw_text="one"),
    ]
    with pytest.raises(Exception, match="its input draft/m1 is not in the store"):
        store.write_many(documents)
    assert sorted(store.ids("draft")) == ["a1", "b1", "m1"]


@pytest.mark.parametrize(
    ("run_id", "salt"),
    [(None, None), ("run-1", None), (None, "2"), ("run-1", "2")],
    ids=["plain", "run", "salt", "both"],
)
def test_record_alone_gives_its_id_again(store: DocsStore, run_id: str | None, salt: str | None) -> None:
    doc_id = reserve_doc_id("draft", "t-7", run_id, salt)
    row = DraftTask(task_id="t-7", doc_id=doc_id, doc_run_id=run_id, doc_salt=salt)
    store.ensure(row, lambda _: "x", run_id="another run")
    record = store.open("draft", doc_id).record
    assert record["docid"]["id_from"] == {"run_id": run_id, "salt": salt}
    assert reserve_doc_id(record["stage"], record["task_id"], **record["docid"]["id_from"]) == doc_id
    store.write(store.read("draft", doc_id), if_exists="replace")
    assert store.open("draft", doc_id).facts.id_from == (run_id, salt)


def test_origin_of_a_document_without_a_row_is_found_or_left_out(store: DocsStore) -> None:
    for run_id in (None, "run-1"):
        doc_id = reserve_doc_id("draft", "t-7", run_id)
        store.write(Document(stage="draft", doc_id=doc_id, task_id="t-7", run_id=run_id, raw_text="x"))
        assert store.open("draft", doc_id).facts.id_from == (run_id, None)
    assert store.open("draft", "a1").facts.id_from is None
    assert "id_from" not in store.open("draft", "a1").record["docid"]


@pytest.mark.parametrize(
    ("own", "pins"),
    [
        ({"parent": "x"}, None),
        ({"parent": {"raw.txt": 1}}, None),
        ({"parent": {"raw.txt": "f" * 64, "later.txt": "e"}}, {"raw.txt": "f" * 64}),
    ],
)
def test_malformed_version_is_unknown(store: DocsStore, own: dict[str, Any], pins: object) -> None:
    """A record of a later release, or one that was edited."""
    put_record(store, {"nonce": "0", "id_from": "x", **own})
    found = store.open("essay", "e1")
    assert found.pins == {"a1": pins}
    assert found.facts.id_from is None
    put_record(store, {"nonce": "0", "id_from": {"run_id": 1}, "inputs": [{"name": "draft/b1", "pin": 3}]}, "e2")
    assert store.open("essay", "e2").pins == {"a1": None, "draft/b1": None}
    assert store.open("essay", "e2").facts.id_from == (None, None)


@pytest.mark.parametrize("inputs", [["draft/b1"], [{"name": "b1"}], "x", [{"name": "draft/b1"}] * 2, [{}], 7])
def test_malformed_inputs_make_a_record_unreadable(store: DocsStore, inputs: object) -> None:
    put_record(store, {"nonce": "0", "inputs": inputs})
    with pytest.raises(Exception, match=r"metadata.json: not a docid/document/1 record"):
        store.open("essay", "e1")


def test_edited_rescue_file_may_have_malformed_inputs() -> None:
    assert parse_pins({"inputs": ["x", {"name": 3}, {"name": "draft/b1"}]}, None) == {"draft/b1": None}
    assert parse_pins({"inputs": "x"}, "a1") == {"a1": None}


def put_record(store: DocsStore, own: dict[str, Any], doc_id: str = "e1") -> None:
    document = Document(stage="essay", doc_id=doc_id, task_id="e-1", parent_doc_id="a1", raw_text="x")
    record, parts = Record.from_document(document, "0")
    data = record._replace(data={**record.data, "docid": own}).to_bytes()
    assert store.backend.create("essay", doc_id, data, parts)

"""Inputs: documents that are made from several others, in documents, rows, tables, frames, lineage and curation."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from docid import (
    DocsStore,
    Document,
    DocumentNotFound,
    DraftTask,
    EssayTask,
    InvalidName,
    LineageConflict,
    Stages,
    TaskRow,
    TaskTableError,
    audit,
    read_tasks,
    reserve_doc_id,
    reserve_tasks,
    write_tasks,
)
from docid.backends import MemoryBackend
from docid.cli import main
from docid.curate import link, replay, scores, select
from docid.report import page
from docid.store.ancestry import Lineage
from tests.store_documents import draft, never, put_legacy

WRONG: list[tuple[Any, type[Exception], str]] = [
    ("draft/a1", TypeError, "expected names of documents, such as"),
    (7, TypeError, "expected names of documents"),
    (["a1"], InvalidName, "'a1': not STAGE/ID"),
    (["draft/"], InvalidName, "not STAGE/ID"),
    (["Draft/a1"], InvalidName, "stage 'Draft'"),
    (["draft/A1"], InvalidName, "not STAGE/ID"),
    ([7], InvalidName, "not STAGE/ID"),
    (["draft/a1", "draft/a1"], InvalidName, "repeated; expected other documents, each one once"),
    (["essay/e1"], InvalidName, "the document itself"),
    ([f"draft/d{number}" for number in range(1001)], InvalidName, "1,001 inputs; expected at most 1,000"),
]


@pytest.mark.parametrize(("inputs", "error", "message"), WRONG)
def test_wrong_inputs_are_refused(inputs: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Document(stage="essay", doc_id="e1", task_id="t", raw_text="x", inputs=inputs)
    with pytest.raises((error, TypeError)):
        EssayTask(task_id="t", doc_id="e1", input_doc_ids=inputs)


def test_wrong_pins_and_origins_are_refused() -> None:
    for pins in ("x", {"a1": "x"}, {"a1": {"raw.txt": "not hex"}}, {"a1": {"raw.txt": 7}}, {"a1": {1: "0" * 64}}):
        with pytest.raises(TypeError, match="pins: expected a dict"):
            draft(pins=pins)
    with pytest.raises(InvalidName, match="pins 'draft/a1': neither the parent nor an input"):
        Document(stage="essay", doc_id="e1", task_id="t", parent_doc_id="a1", raw_text="x", pins={"draft/a1": None})
    for origin in ("x", ("r",), ("r", 1)):
        with pytest.raises(TypeError, match="id_from: expected a tuple"):
            draft(id_from=origin)
    # A document that was read may be moved to another parent: its versions are of the old one.
    store = DocsStore(MemoryBackend())
    store.write_many([draft("a1"), Document(stage="essay", doc_id="e1", task_id="t", parent_doc_id="a1", raw_text="x")])
    assert attrs.evolve(store.read("essay", "e1"), parent_doc_id="b1").pins == {}


def test_inputs_are_compared_and_pins_are_not() -> None:
    one = draft(inputs=["essay/e1"], pins={"essay/e1": {"raw.txt": "0" * 64}}, id_from=("r", None))
    assert one.inputs == ("essay/e1",)
    assert one == attrs.evolve(one, pins={}, id_from=None)
    assert hash(one) == hash(attrs.evolve(one, pins={}))
    assert one != attrs.evolve(one, inputs=(), pins={})


def test_thousand_inputs_are_stored() -> None:
    store = DocsStore(MemoryBackend())
    names = [f"d{number}" for number in range(1000)]
    store.write_many(draft(name, task_id=name) for name in names)
    row = DraftTask(task_id="t", doc_id="m1", input_doc_ids=[f"draft/{name}" for name in names])
    assert store.ensure(row, lambda _: "merged").document.inputs == row.input_doc_ids
    assert [each.doc_id for each in store.open_inputs(row)] == names
    assert audit(store).ok


def test_stage_of_an_input_must_be_of_the_store() -> None:
    store = DocsStore(MemoryBackend())
    row = DraftTask(task_id="t", doc_id="m1", input_doc_ids=("cover/c1",))
    for write in (lambda: store.ensure(row, never), lambda: store.write(Document.from_task(row, raw_text="x"))):
        with pytest.raises(InvalidName, match="'cover': not a stage of this pipeline"):
            write()
    with pytest.raises(InvalidName):
        store.open_inputs(row)


def test_open_parent_and_inputs_name_the_row_that_wants_them() -> None:
    store = DocsStore(MemoryBackend())
    row = EssayTask(task_id="e-1", doc_id="e1", parent_doc_id="a1", input_doc_ids=("draft/b1",))
    with pytest.raises(DocumentNotFound, match="the row of essay task 'e-1' names it"):
        store.open_parent(row)
    with pytest.raises(DocumentNotFound, match="the row of essay task 'e-1' names it"):
        store.open_inputs(row)
    with pytest.raises(InvalidName, match="parent_doc_id"):
        store.open_parent(attrs.evolve(row, parent_doc_id=None))
    with pytest.raises(ValueError, match="stage 'draft' has no parent"):
        store.open_parent(DraftTask(task_id="t", doc_id="d1"))
    assert store.open_inputs(attrs.evolve(row, input_doc_ids=())) == ()


# --- Tables ----------------------------------------------------------------------------------------------------

names = st.builds("{}/{}".format, st.sampled_from(["draft", "essay"]), st.from_regex(r"[a-z0-9]{1,16}", fullmatch=True))


@given(st.lists(names, max_size=20, unique=True).map(tuple))
def test_table_keeps_inputs(tmp_path_factory: pytest.TempPathFactory, inputs: tuple[str, ...]) -> None:
    path = tmp_path_factory.mktemp("tables") / "draft_tasks.csv"
    row = DraftTask(task_id="t", doc_id="0own", input_doc_ids=inputs)
    write_tasks(path, [row])
    assert ("input_doc_ids" in path.read_text().splitlines()[0]) is bool(inputs)
    [again] = read_tasks(path, DraftTask)
    assert again.input_doc_ids == inputs
    assert DraftTask.from_mapping({"draft_task_id": "t", "doc_id": "0own", "input_doc_ids": " ".join(inputs)}) == row


def test_cell_of_inputs_keeps_its_text(tmp_path: Path) -> None:
    path = tmp_path / "draft_tasks.csv"
    text = "draft_task_id,input_doc_ids,doc_id\nt-1,  draft/a1   essay/e1 ,d1\nt-2,,d2\nt-3,nan,d3\n"
    path.write_text(text)
    rows = list(read_tasks(path, DraftTask))
    assert [row.input_doc_ids for row in rows] == [("draft/a1", "essay/e1"), (), ()]
    write_tasks(path, rows)
    assert path.read_text() == text


def test_faulty_cells_of_inputs_are_reported_together(tmp_path: Path) -> None:
    path = tmp_path / "draft_tasks.csv"
    path.write_text("draft_task_id,input_doc_ids,doc_id\nt-1,a1,d1\nt-2,draft/a draft/a,d2\n")
    with pytest.raises(TaskTableError) as caught:
        list(read_tasks(path, DraftTask))
    assert [(each.row, each.column) for each in caught.value.problems] == [(2, "input_doc_ids"), (3, "input_doc_ids")]
    assert "not STAGE/ID" in str(caught.value)
    assert "repeated" in str(caught.value)
    path.write_text("draft_task_id,input_docids,doc_id\nt-1,draft/a1,d1\n")
    with pytest.raises(TaskTableError, match="input_docids"):
        read_tasks(path, DraftTask)


def test_lists_of_names_are_inputs(tmp_path: Path) -> None:
    names = ["draft/a1", "draft/b1"]
    assert DraftTask.from_mapping({"draft_task_id": "t", "input_doc_ids": names}).input_doc_ids == tuple(names)
    path = tmp_path / "draft_tasks.jsonl"
    path.write_text(json.dumps({"draft_task_id": "t", "doc_id": "d1", "input_doc_ids": names}) + "\n")
    [row] = read_tasks(path, DraftTask)
    assert row.input_doc_ids == tuple(names)
    with pytest.raises(TaskTableError, match="of type list"):
        DraftTask.from_mapping({"draft_task_id": "t", "input_doc_ids": [1]})


def test_row_that_is_its_own_input_is_named(tmp_path: Path) -> None:
    path = tmp_path / "draft_tasks.csv"
    path.write_text("draft_task_id,input_doc_ids,doc_id\nt-1,draft/d1,d1\n")
    with pytest.raises(TaskTableError, match="row 2: input_doc_ids 'draft/d1': the document itself"):
        list(read_tasks(path, DraftTask))
    own = reserve_doc_id("draft", "t-1")
    rows = [DraftTask(task_id="t-1", input_doc_ids=(f"draft/{own}",))]
    with pytest.raises(TaskTableError, match="row 1, column input_doc_ids"):
        list(reserve_tasks(rows, DraftTask))


class Duck:
    """A row that is no `TaskRow`."""

    stage = "draft"
    task_id = "t"
    doc_id = "m1"
    parent_doc_id = None
    doc_run_id = None
    inputs = "a column of its own"


def test_rows_of_other_classes_may_have_inputs() -> None:
    store = DocsStore(MemoryBackend())
    assert store.ensure(Duck(), lambda _: "x").document.inputs == ()
    row: Any = Duck()
    row.doc_id, row.input_doc_ids = "m2", ["draft/m1"]
    assert store.ensure(row, lambda _: "x").outcome == "created"
    assert store.ensure(row, never).document.inputs == ("draft/m1",)


def test_reserve_keeps_inputs() -> None:
    inputs = ("draft/a1", "draft/b1")
    [row] = reserve_tasks([DraftTask(task_id="t", input_doc_ids=inputs)], DraftTask)
    assert row.input_doc_ids == inputs
    [plain] = reserve_tasks([DraftTask(task_id="t")], DraftTask)
    assert plain.doc_id == row.doc_id  # the id depends on the task alone


# --- Pairwise judging ------------------------------------------------------------------------------------------

ARENA = Stages.parse("answer,judgement:,note:judgement")


def make_arena(count: int) -> tuple[DocsStore, list[TaskRow], list[TaskRow]]:
    """Return a store with answers, their rows, and the rows of a judgement of each pair."""
    store = DocsStore(MemoryBackend(), stages=ARENA)
    answer, judgement = TaskRow.of("answer"), TaskRow.of("judgement")
    answers = list(reserve_tasks([answer(task_id=f"q-{number}") for number in range(count)], answer))
    store.write_many(Document.from_task(row, raw_text=f"answer to {row.task_id}") for row in answers)
    pairs = [
        judgement(task_id=f"{a.task_id}-or-{b.task_id}", input_doc_ids=(f"answer/{a.doc_id}", f"answer/{b.doc_id}"))
        for a, b in combinations(answers, 2)
    ]
    return store, answers, list(reserve_tasks(pairs, judgement))


def test_pairwise_judging_of_a_hundred_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, answers, pairs = make_arena(100)
    assert len(pairs) == 4950
    table = tmp_path / "judgement_tasks.csv"
    write_tasks(table, pairs)
    rows = list(read_tasks(table, TaskRow.of("judgement")))

    def judge(row: TaskRow) -> str:
        one, two = store.open_inputs(row)
        return f"{one.raw_text} or {two.raw_text}"

    with store.ensure_many(rows, judge, concurrency=16) as run:
        assert {done.outcome for done in run} == {"created"}
    report = audit(store, {"answer": answers, "judgement": table})
    assert report.findings == ()
    assert report.stages["judgement"].written == 4950
    first = answers[0]
    lineage = store.lineage("answer", first.doc_id)
    assert len(lineage.descendants) == 99
    assert len(store.lineage("judgement", rows[0].doc_id).inputs) == 2
    made = page(store, {"judgement": table})
    assert made.documents == 5050
    # Other inputs under the same id are refused before a call.
    swapped = attrs.evolve(rows[0], input_doc_ids=rows[0].input_doc_ids[::-1])
    with pytest.raises(LineageConflict):
        store.ensure(swapped, never)
    assert [each.code for each in audit(store, {"judgement": [swapped, *rows[1:]]}).findings] == ["lineage-conflict"]
    # An answer that is replaced marks exactly its judgements.
    store.write(Document.from_task(first, raw_text="a better answer"), if_exists="replace")
    found = audit(store).findings
    assert {each.code for each in found} == {"input-changed"}
    assert {each.doc_id for each in found} == {each.doc_id for each in lineage.descendants}
    with store.ensure_many(rows, judge, if_changed="replace") as run:
        outcomes = [str(done.outcome) for done in run]
    assert (outcomes.count("replaced"), outcomes.count("kept")) == (99, 4851)
    assert audit(store).findings == ()


# --- Lineage ---------------------------------------------------------------------------------------------------


def fill(store: DocsStore) -> DocsStore:
    """Fill a store: two answers, a judgement of them, a note on it, and an answer refined with the note."""
    store.write_many(Document(stage="answer", doc_id=each, task_id=f"t-{each}", raw_text=each) for each in ("a1", "a2"))
    inputs = ("answer/a1", "answer/a2")
    store.write(Document(stage="judgement", doc_id="j1", task_id="t-j1", raw_text="a1", inputs=inputs))
    store.write(Document(stage="note", doc_id="n1", task_id="t-n1", parent_doc_id="j1", raw_text="be brief"))
    refined = ("answer/a1", "note/n1")
    store.write(Document(stage="answer", doc_id="a3", task_id="t-a3", raw_text="short", inputs=refined))
    store.write(Document(stage="answer", doc_id="a4", task_id="t-a4", raw_text="shorter", inputs=("answer/a3",)))
    store.write(Document(stage="judgement", doc_id="j2", task_id="t-j2", raw_text="a4", inputs=("answer/a4",)))
    store.write(Document(stage="note", doc_id="n2", task_id="t-n2", parent_doc_id="j2", raw_text="good"))
    return store


@pytest.fixture
def arena() -> DocsStore:
    return fill(DocsStore(MemoryBackend(), stages=ARENA))


def list_names(lineage: Lineage, which: str) -> list[str]:
    return [each.name for each in getattr(lineage, which)]


def test_descendants_follow_inputs_of_any_stage(arena: DocsStore) -> None:
    everything = ["answer/a3", "answer/a4", "judgement/j1", "judgement/j2", "note/n1", "note/n2"]
    assert list_names(arena.lineage("answer", "a1"), "descendants") == everything
    assert list_names(arena.lineage("note", "n1"), "descendants") == [
        "answer/a3",
        "answer/a4",
        "judgement/j2",
        "note/n2",
    ]
    assert list_names(arena.lineage("note", "n2"), "descendants") == []


def test_inputs_are_listed_with_what_they_were_made_from(arena: DocsStore) -> None:
    lineage = arena.lineage("note", "n2")
    assert list_names(lineage, "ancestors") == ["judgement/j2"]
    assert list_names(lineage, "inputs") == [
        *("answer/a4", "answer/a3", "answer/a1", "note/n1", "judgement/j1", "answer/a2"),
    ]
    assert repr(lineage) == "<Lineage of note/n2: 1 ancestor, 0 descendants, 6 inputs>"
    assert str(lineage).splitlines() == [
        "judgement/j2  t-j2",
        "← answer/a4  t-a4",
        "  ← answer/a3  t-a3",
        "    ← answer/a1  t-a1",
        "    ← note/n1  t-n1",
        "      ← judgement/j1  t-j1",
        "        ← answer/a1  t-a1  (shown above)",
        "        ← answer/a2  t-a2",
        "└── note/n2  t-n2  <",
    ]
    assert next(each["doc_id"] for each in json.loads(json.dumps(lineage.to_dict()))["inputs"]) == "a4"


def test_tree_shows_a_document_with_two_parents_once(arena: DocsStore) -> None:
    assert str(arena.lineage("answer", "a1")).splitlines() == [
        "answer/a1  t-a1  <",
        "├── answer/a3  t-a3",
        "│   └── answer/a4  t-a4",
        "│       └── judgement/j2  t-j2",
        "│           └── note/n2  t-n2",
        "└── judgement/j1  t-j1",
        "    └── note/n1  t-n1",
        "        └── answer/a3  t-a3  (shown above)",
    ]


def test_mermaid_distinguishes_inputs_and_changes(arena: DocsStore) -> None:
    arena.write(Document(stage="answer", doc_id="a2", task_id="t-a2", raw_text="new"), if_exists="replace")
    arena.write(
        Document(stage="judgement", doc_id="j2", task_id="t-j2", raw_text="new", inputs=("answer/a4",)),
        if_exists="replace",
    )
    chart = arena.lineage("judgement", "j1").to_mermaid()
    assert [line.strip() for line in chart.splitlines() if "[" not in line][1:-1] == [
        *("d1 -.-> d0", "d2 -.->|changed| d0", "d1 -.-> d3", "d6 -.-> d3", "d3 -.-> d4", "d4 -.-> d5", "d0 --> d6"),
        "d5 -->|changed| d7",
    ]
    assert "judgement/j1  t-j1  (made from another version of answer/a2)" in str(arena.lineage("answer", "a2"))


def test_lineage_shows_inputs_that_are_missing_or_of_no_stage(arena: DocsStore) -> None:
    inputs = ("answer/gone", "answer/a1")
    document = Document(stage="judgement", doc_id="j9", task_id="t", raw_text="x", inputs=inputs)
    arena.write(document, require_parent=False)
    other = DocsStore(arena.backend, stages=Stages.parse("judgement"))
    assert [each.problem for each in arena.lineage("judgement", "j9").inputs] == ["not in the store", ""]
    lineage = other.lineage("judgement", "j9")
    assert {each.problem for each in lineage.inputs} == {"not a stage of this pipeline"}
    assert str(lineage).count("not a stage of this pipeline") == lineage.to_mermaid().count("not a stage") == 2
    arena.write(Document(stage="answer", doc_id="a1", task_id="t-a1", raw_text="new"), if_exists="replace")
    assert lineage.document.changed == other.lineage("judgement", "j9").document.changed == ()


def test_cycle_ends_every_traversal() -> None:
    store = DocsStore(MemoryBackend(), stages=ARENA)
    for own, other in (("a1", "a2"), ("a2", "a1")):
        document = Document(stage="answer", doc_id=own, task_id=own, raw_text="x", inputs=(f"answer/{other}",))
        store.write(document, require_parent=False)
    lineage = store.lineage("answer", "a1")
    assert (list_names(lineage, "inputs"), list_names(lineage, "descendants")) == (["answer/a2"], ["answer/a2"])
    assert str(lineage).count("shown above") == 2
    assert [each.code for each in audit(store).findings] == ["lineage-cycle"]


def test_long_chain_of_inputs_is_walked() -> None:
    store = DocsStore(MemoryBackend(), stages=ARENA)
    count = 3_000
    store.write_many(
        Document(
            stage="answer", doc_id=f"a{n}", task_id=f"t{n}", raw_text="x", inputs=(f"answer/a{n - 1}",) if n else ()
        )
        for n in range(count)
    )
    assert len(store.lineage("answer", f"a{count - 1}").inputs) == count - 1
    lineage = store.lineage("answer", "a0")
    assert len(lineage.descendants) == count - 1
    assert len(str(lineage).splitlines()) == count
    assert audit(store).ok


def test_command_shows_inputs(arena: DocsStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = fill(DocsStore(tmp_path, stages=ARENA))
    at = ("--store", str(tmp_path))
    assert main(["lineage", "judgement/j1", "--ancestors", *at]) == 0
    assert capsys.readouterr().out == "judgement/j1  t-j1  <\n← answer/a1  t-a1\n← answer/a2  t-a2\n"
    assert main(["show", "judgement/j1", *at]) == 0
    assert "answer/a1" in capsys.readouterr().out
    assert "answer/a1 answer/a2" in store.open("judgement", "j1")._repr_html_()


# --- Frames and curation ---------------------------------------------------------------------------------------


def test_frames_carry_inputs_and_changes(arena: DocsStore) -> None:
    frames = pytest.importorskip("docid.frames")
    pytest.importorskip("polars")
    arena.write(Document(stage="answer", doc_id="a2", task_id="t-a2", raw_text="new"), if_exists="replace")
    frame = frames.documents_to_frame(arena, "judgement", backend="polars")
    assert frame["doc_id", "inputs", "changed"].rows() == [
        ("j1", "answer/a1 answer/a2", "input.answer/a2"),
        ("j2", "answer/a4", None),
    ]
    row_type = TaskRow.of("judgement")
    rows = list(replay(arena, "judgement", ["j1", "j2"], row_type=row_type))
    table = frames.tasks_to_frame(rows, backend="polars")
    assert table["input_doc_ids"].to_list() == ["answer/a1 answer/a2", "answer/a4"]
    assert [row.input_doc_ids for row in frames.frame_to_tasks(table, row_type)] == [row.input_doc_ids for row in rows]


def test_replay_restores_inputs_run_and_salt() -> None:
    store = DocsStore(MemoryBackend(), stages=ARENA)
    fill(store)
    [row] = reserve_tasks(
        [TaskRow.of("answer")(task_id="t", input_doc_ids=("answer/a1",))], TaskRow.of("answer"), "r", "2"
    )
    store.ensure(row, lambda _: "x")
    [again] = replay(store, "answer", [row.doc_id])
    assert (again.input_doc_ids, again.doc_run_id, again.doc_salt) == (("answer/a1",), "r", "2")
    [other] = replay(store, "answer", [row.doc_id], salt="3")
    assert (other.input_doc_ids, other.doc_salt) == (("answer/a1",), "3")


def test_link_fills_inputs_and_compares_them(tmp_path: Path) -> None:
    store = fill(DocsStore(tmp_path / "docs", stages=ARENA))
    table = tmp_path / "judgement_tasks.csv"
    table.write_text("judgement_task_id,doc_id\nt-j1,\nt-j2,j2\nt-j3,\n")
    linked = link(table, store)
    assert (linked.filled, linked.kept) == (1, 1)
    assert table.read_text() == (
        "judgement_task_id,doc_id,input_doc_ids\nt-j1,j1,answer/a1 answer/a2\nt-j2,j2,answer/a4\nt-j3,,\n"
    )
    table.write_text("judgement_task_id,input_doc_ids,doc_id\nt-j1,answer/a2 answer/a1,\n")
    linked = link(table, store)
    assert (linked.filled, [note.kind for note in linked.notes]) == (0, ["other-parent"])
    assert "made from other inputs" in linked.notes[0].message
    assert link(table, store, force=True).filled == 1
    assert "t-j1,answer/a1 answer/a2,j1" in table.read_text()


def test_selection_keeps_inputs(arena: DocsStore) -> None:
    chosen = select(scores(arena, "note"), arena, top=1, stage="judgement")
    assert chosen.picks == ()
    for name, parent, score in (("s1", "j1", "3"), ("s2", "j2", "9")):
        document = Document(
            stage="note", doc_id=name, task_id=name, parent_doc_id=parent, raw_text=score, parsed_text=score
        )
        arena.write(document)
    chosen = select(scores(arena, "note"), arena, top=2, stage="judgement")
    assert [row.input_doc_ids for row in chosen.rows] == [("answer/a4",), ("answer/a1", "answer/a2")]


def test_report_shows_inputs(arena: DocsStore) -> None:
    html = page(arena).html
    assert '"inputs":["answer/a1","answer/a2"]' in html


def test_legacy_document_has_no_inputs(arena: DocsStore) -> None:
    put_legacy(arena, "answer", "old", {"task_id": "t-old", "docid": {"inputs": [1]}}, raw="once")
    assert arena.open("answer", "old").inputs == ()
    row = TaskRow.of("answer")(task_id="t-old", doc_id="old", input_doc_ids=("answer/a1",))
    with pytest.raises(LineageConflict):
        arena.ensure(row, never)

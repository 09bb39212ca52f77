"""`replay`: task rows from stored documents alone."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from docid import (
    DocsStore,
    Document,
    DraftTask,
    EssayTask,
    InvalidName,
    Stages,
    TaskRow,
    read_tasks,
    replicates,
    reserve_doc_id,
    reserve_tasks,
    write_tasks,
)
from docid.curate import replay, select
from tests.curation import decide_outcome, kinds, put, score


@pytest.fixture
def judged(store: DocsStore) -> DocsStore:
    return decide_outcome(store)


def test_replay_builds_a_row_that_sends_the_same_prompt(judged: DocsStore, tmp_path: Path) -> None:
    rows = replay(judged, "essay", ["e2", "e2", "gone"])
    [row] = rows
    assert isinstance(row, EssayTask)
    assert (row.task_id, row.doc_id, row.parent_doc_id, row.draft_task_id) == ("task-e2", "e2", "d2", "t-2")
    assert judged.source_prompt(row) == "Write."
    assert kinds(rows.notes) == ["gone", "unsaid"]
    assert write_tasks(tmp_path / "essay_tasks.csv", replay(judged, "essay", ["e1", "e2"])) == 2
    assert [each.doc_id for each in read_tasks(tmp_path / "essay_tasks.csv", EssayTask)] == ["e1", "e2"]
    # A rerun with replace writes the same lineage.
    again = Document.from_task(row, raw_text="another")
    assert judged.write(again, if_exists="replace").outcome == "replaced"


def test_replay_with_salt_derives_a_new_id(judged: DocsStore) -> None:
    [row] = replay(judged, "essay", ["e1"], run_id="r", salt="s")
    assert row.doc_id == reserve_doc_id("essay", "task-e1", "r", "s")
    assert (row.doc_run_id, row.doc_salt, row.extra) == ("r", "s", {"source_doc_id": "e1"})
    with pytest.raises(InvalidName):
        replay(judged, "essay", [], salt="")


def test_replay_recovers_the_run_of_a_derived_id(store: DocsStore) -> None:
    put(store, "draft", reserve_doc_id("draft", "t-1", "r-1"), "t-1", run_id="r-1", prompt_text="p")
    put(store, "draft", "other", "t-1", run_id="r-1")
    rows = replay(store, "draft", sorted(store.ids("draft"), key="other".__eq__))
    one, other = rows
    assert isinstance(one, DraftTask)
    assert (one.doc_run_id, one.source_doc_id) == ("r-1", one.doc_id)
    assert isinstance(other, DraftTask)
    assert (other.doc_run_id, other.source_doc_id) == (None, None)
    assert kinds(rows.notes)[0] == "no-prompt"


def test_typed_columns_come_from_metadata(store: DocsStore) -> None:
    @attrs.frozen(kw_only=True)
    class Draft(TaskRow):
        stage = "draft"
        words: int
        hot: bool = False
        weight: float | None = None

    put(store, "draft", "a", "t-a", metadata={"words": 9, "hot": True, "weight": "heavy"}, prompt_text="p")
    put(store, "draft", "b", "t-b", metadata={"words": "many"})
    rows = replay(store, "draft", ["a", "b"], row_type=Draft)
    assert list(rows) == [
        Draft(task_id="t-a", doc_id="a", words=9, hot=True, weight=None, extra={"source_doc_id": "a"})
    ]
    assert [(note.kind, note.where) for note in rows.notes] == [("unusable", "draft/b"), ("unsaid", "column weight")]
    assert "has no words, which the row needs" in rows.notes[0].message


def test_column_comes_from_the_nearest_ancestor(store: DocsStore) -> None:
    far = {"combo_id": "far", "generation_model": "d-model", "generation_model_name": "d-name"}
    put(store, "draft", "d1", "t-1", metadata=far)
    put(store, "essay", "e1", "e-1", parent_doc_id="d1", metadata={"combo_id": "near"}, prompt_text="p")
    put(store, "essay", "e2", "e-2", parent_doc_id="d1", metadata={"model_id": "e-model"}, prompt_text="p")
    one, two = replay(store, "essay", ["e1", "e2"])
    assert isinstance(one, EssayTask)
    assert (one.combo_id, one.generation_model, one.generation_model_name) == ("near", "d-model", "d-name")
    # A model and its name come from the same record.
    assert isinstance(two, EssayTask)
    assert (two.combo_id, two.generation_model, two.generation_model_name) == ("far", "e-model", "")


def test_document_that_no_table_can_hold_gives_a_note(store: DocsStore) -> None:
    put(store, "draft", "d1", "none", prompt_text="p")
    store.backend.create("draft", "d2", b'{"task_id": "t-2", "run_id": " "}', {"raw.txt": b"x"})
    put(store, "draft", "d3", "t-3", metadata={"source_doc_id": "zzz"})
    store.backend.create("essay", "e1", b'{"task_id": "e-1"}', {"raw.txt": b"x"})
    store.backend.create("draft", "d4", rb'{"task_id": "t-4", "combo_id": "\ud800x"}', {"raw.txt": b"x"})
    rows = replay(store, "draft", ["d1", "d2", "d3", "d4"])
    found = {row.doc_id: row for row in rows}
    assert sorted(found) == ["d2", "d3", "d4"]
    assert found["d4"].cell("combo_id") == "\\ud800x"
    assert rows.notes[0].message.startswith("its draft_task_id is 'none', which a table cannot hold")
    essays = replay(store, "essay", ["e1"])
    assert list(essays) == []
    assert "has no parent_doc_id" in essays.notes[0].message
    # A column "Doc-ID" beside "doc_id" would make the table unreadable.
    store.backend.create("draft", "d5", b'{"task_id": "t-5", "Doc-ID": "x", "note": "y"}', {"raw.txt": b"x"})
    plain = DocsStore(store.backend, stages=Stages.chain("draft", "other"))
    [other] = replay(plain, "draft", ["d5"], row_type=TaskRow.of("draft"))
    assert other.extra == {"note": "y"}
    [row] = replay(plain, "draft", ["d3"], row_type=TaskRow.of("draft"))
    assert row.extra == {}


def test_second_document_of_a_task_gives_a_note(store: DocsStore) -> None:
    put(store, "draft", "d1", "t-1", prompt_text="p")
    put(store, "draft", "d2", "t-1", prompt_text="p")
    rows = replay(store, "draft", ["d1", "d2"], salt="s")
    assert len(list(rows)) == 1
    assert kinds(rows.notes)[0] == "taken"
    with pytest.raises(InvalidName, match="read this word as missing"):
        replay(store, "draft", [], salt="nan")
    chosen = select([score("a", "d1", 2.0), score("b", "d2", 1.0)], store, top=2, stage="draft")
    assert "same-task" in kinds(chosen.notes)


def test_replay_in_another_run_keeps_the_salts_of_replicates(store: DocsStore) -> None:
    drafts = list(reserve_tasks(replicates([DraftTask(task_id="t")], 2), DraftTask))
    unmade = replicates([EssayTask(task_id="t__x", draft_task_id="t")], 2, parents=drafts)
    essays = list(reserve_tasks(unmade, EssayTask, parents=drafts))
    for row in (*drafts, *essays):
        store.write(Document.from_task(row, raw_text=f"text of {row.doc_id}", prompt_text="Write."))
    rows = replay(store, "essay", [row.doc_id for row in essays], run_id="r2")
    made = list(rows)
    assert [row.doc_salt for row in made] == [None, "1.2", "2", "2.2"]
    again = replicates([EssayTask(task_id="t__x", draft_task_id="t", doc_run_id="r2")], 2, parents=drafts)
    assert [row.doc_id for row in made] == [row.doc_id for row in reserve_tasks(again, EssayTask, parents=drafts)]
    assert "taken" not in kinds(rows.notes)
    # With a salt, they would be one document.
    rows = replay(store, "essay", [row.doc_id for row in essays], salt="again")
    assert len(list(rows)) == 1
    [note, *_] = [note for note in rows.notes if note.kind == "taken"]
    assert note.message.endswith("Replay it with another salt")

"""`select`: the documents with the best scores."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docid import DocsStore, Document, DraftTask, EssayTask, EvaluationTask, InvalidName, Stages, TaskRow
from docid.backends import MemoryBackend
from docid.curate import Score, scores, select
from tests.curation import decide_outcome, kinds, put, score


@pytest.fixture
def judged(store: DocsStore) -> DocsStore:
    return decide_outcome(store)


def test_select_gives_rows_of_the_best_documents(judged: DocsStore) -> None:
    chosen = select(scores(judged), judged, top=2)
    assert [(pick.doc_id, pick.score, pick.evaluations) for pick in chosen.picks] == [("e1", 7.0, 2), ("e2", 5.0, 1)]
    assert chosen.rows[0] == EssayTask(
        task_id="task-e1",
        doc_id="e1",
        parent_doc_id="d1",
        draft_task_id="t-1",
        combo_id="c-1",
        draft_template="dt",
        essay_template="et",
        generation_model="em",
        extra={"essay_doc_id": "e1"},
    )
    assert (chosen.evaluations, chosen.scored, chosen.row_type) == (5, 3, EssayTask)
    assert [(note.kind, note.where, note.number) for note in chosen.notes] == [
        ("no-score", "evaluations", 1),
        ("below", "essay/e3", 1),
        ("unsaid", "column generation_model_name", 1),
    ]


@pytest.mark.parametrize(
    ("options", "picked"),
    [
        pytest.param({"aggregate": "max"}, [("e1", 7.0), ("e2", 5.0), ("e3", 5.0)], id="max"),
        pytest.param({"aggregate": "mean"}, [("e1", 5.0), ("e2", 5.0), ("e3", 5.0)], id="mean, ties by doc id"),
        pytest.param({"aggregate": "median"}, [("e1", 5.0), ("e2", 5.0), ("e3", 5.0)], id="median"),
        pytest.param({"templates": ["strict"]}, [("e1", 3.0)], id="one template"),
        pytest.param({"templates": {"none"}}, [], id="no such template"),
    ],
)
def test_aggregate_and_templates_decide_the_order(
    judged: DocsStore, options: dict[str, Any], picked: list[tuple[str, float]]
) -> None:
    chosen = select(scores(judged), judged, top=9, **options)
    assert [(pick.doc_id, pick.score) for pick in chosen.picks] == picked
    assert ("other-template" in kinds(chosen.notes)) == ("templates" in options)


def test_missing_or_unusable_document_gives_way_to_the_next(judged: DocsStore) -> None:
    judged.backend.create("essay", "old", b"{}", {"raw.txt": b"x"})
    found = [score("1", "lost", 9), score("2", "old", 8), score("3", "e1", 7), score("4", "e2", 6), score("5", "", 5)]
    chosen = select(found, judged, top=1)
    assert [pick.doc_id for pick in chosen.picks] == ["e1"]
    assert kinds(chosen.notes) == ["no-parent", "gone", "unusable", "below", "unsaid"]
    assert "has no task_id; run 'docid migrate'" in chosen.notes[2].message


def test_select_works_with_other_stages() -> None:
    store = DocsStore(MemoryBackend(), stages=Stages.chain("outline", "chapter"))
    put(store, "outline", "o1", "t-1", metadata={"style": "dry", "words": 3, "doc_id": "o1", "usage": {"n": 1}})
    put(store, "chapter", "c1", "t-2", parent_doc_id="o1", parsed_text="4")
    [row] = select(scores(store), store, top=1).rows
    assert (row.stage, row.doc_id, row.extra) == ("outline", "o1", {"style": "dry", "words": "3"})
    [row] = select([score("x", "c1", 1.0)], store, top=1, stage="chapter").rows
    assert (row.parent_doc_id, row.extra) == ("o1", {"outline_task_id": "t-1"})
    drafts = DocsStore(store.backend, stages=Stages.chain("draft", "chapter"))
    assert select([score("x", "c1", 1.0)], drafts, top=1, stage="draft").rows == ()


def test_evaluation_row_has_its_legacy_column(judged: DocsStore) -> None:
    [row] = select([score("x", "v1", 1.0)], judged, top=1, stage="evaluation").rows
    assert row.extra == {"document_id": "task-e1"}
    assert isinstance(row, EvaluationTask)
    assert (row.evaluation_template, row.evaluation_model, row.generation_model) == ("kind", "4", "em")


def test_field_replaces_the_legacy_column_of_its_name(judged: DocsStore) -> None:
    @attrs.frozen(kw_only=True)
    class Essay(TaskRow):
        stage = "essay"
        parent_stage = "draft"
        essay_doc_id: str = "none"

    [row] = select([score("x", "e1", 1.0)], judged, top=1, row_type=Essay).rows
    extra = {"draft_task_id": "t-1", "template_id": "et", "model_id": "em"}
    assert row == Essay(task_id="task-e1", doc_id="e1", parent_doc_id="d1", extra=extra)


def test_select_refuses_invalid_arguments(judged: DocsStore) -> None:
    for top in (0, -1, True, 1.0):
        with pytest.raises(ValueError, match="top: expected a number of documents"):
            select([], judged, top=top)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="aggregate: expected one of max, mean, median, min, got 'sum'"):
        select([], judged, top=1, aggregate="sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected rows of stage 'essay', got DraftTask of 'draft'"):
        select([], judged, top=1, row_type=DraftTask)
    with pytest.raises(ValueError, match="the last stage 'draft' has no parent"):
        select([], DocsStore(MemoryBackend(), stages=Stages.chain("draft")), top=1)
    with pytest.raises(InvalidName):
        select([], judged, top=1, stage="chapter")


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.none() | st.floats(allow_nan=False, allow_infinity=False)),
        max_size=40,
    ),
    st.integers(1, 9),
)
def test_selected_scores_are_never_worse_than_the_rest(found: list[tuple[str, float | None]], top: int) -> None:
    store = DocsStore(MemoryBackend())
    store.write_many([Document(stage="draft", doc_id=each, task_id=each, raw_text="") for each in "abcdefgh"])
    chosen = select([score("x", *each) for each in found], store, top=top, stage="draft")
    best = {
        parent: max(n for each, n in found if each == parent and n is not None) for parent, n in found if n is not None
    }
    ranked = sorted(best, key=lambda parent: (-best[parent], parent))
    assert [pick.doc_id for pick in chosen.picks] == ranked[:top]
    assert len([note for note in chosen.notes if note.kind == "below"]) == len(ranked[top:])


def test_template_without_scores_gives_a_note(judged: DocsStore) -> None:
    chosen = select(scores(judged), judged, top=1, templates=["styel"])
    assert chosen.notes[0].message == "no score has template 'styel'; expected one of kind, strict"
    chosen = select([score("v", "e1", 1.0)], judged, top=1, templates=["styel"])
    assert "docid backfill --set template_id" in chosen.notes[0].message


def test_models_limit_the_scores() -> None:
    store = DocsStore(MemoryBackend())
    for doc_id in ("e1", "e2"):
        put(store, "essay", doc_id, doc_id, parent_doc_id="d1")
    given = [
        Score(f"v{number}", doc_id, "", "kind", model, score, "", "", "", {})
        for number, (doc_id, model, score) in enumerate([("e1", "m-1", 3.0), ("e1", "m-2", 9.0), ("e2", "m-1", 5.0)])
    ]
    chosen = select(given, store, top=2, models=["m-1", "m-3"], stage="essay")
    assert [(pick.doc_id, pick.score) for pick in chosen.picks] == [("e2", 5.0), ("e1", 3.0)]
    assert [(note.kind, note.number) for note in chosen.notes][:2] == [("unknown-model", 1), ("other-model", 1)]
    assert "expected one of m-1, m-2" in chosen.notes[0].message

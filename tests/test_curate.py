"""Errors that all operations of curation share, and `follow_up`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from docid import DocsStore, Document, DraftTask, EssayTask, EvaluationTask, StoreUnavailable
from docid.backends import MemoryBackend
from docid.copying import copy
from docid.curate import Model, Score, Template, backfill, follow_up, link, migrate, replay, scores, select
from docid.repair import repair
from tests.curation import decide_outcome


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "essay_tasks.csv"
    path.write_text("essay_task_id,draft_task_id,note\ne-1,t-1,x\ne-2,t-1,y\ne-3,t-2,z\n")
    return path


def test_wrong_argument_types_raise(store: DocsStore, table: Path) -> None:
    path: Any = "docs"
    for call in (
        lambda: link(table, path),
        lambda: migrate(path),
        lambda: backfill(path, "key", table, "note"),
        lambda: replay(path, "essay", []),
        lambda: select([], path, top=1, stage="essay"),
        lambda: repair(path),
    ):
        with pytest.raises(
            TypeError, match=r"store: expected a DocsStore, got str; DocsStore\(…\) makes one from a dir"
        ):
            call()
    with pytest.raises(TypeError, match="source: expected a DocsStore, got str"):
        copy(path, store)
    with pytest.raises(TypeError, match="target: expected a DocsStore, got dict"):
        copy(store, {})  # type: ignore[arg-type]
    # A str is an iterable too: of its characters.
    with pytest.raises(TypeError, match="only: expected an iterable of names of stages, got the str 'draft'"):
        copy(store, store, only="draft")
    with pytest.raises(TypeError, match="doc_ids: expected an iterable of doc ids, got the str 'e1'"):
        replay(store, "essay", "e1")
    with pytest.raises(TypeError, match="templates: expected an iterable of template ids, got the str 'novelty'"):
        select([], store, top=1, templates="novelty")


def test_follow_up_refuses_unusable_rows() -> None:
    essay = EssayTask(task_id="e-1", doc_id="e1", parent_doc_id="d1", draft_task_id="t-1", combo_id="c")
    assert follow_up([]) == ([], [], [])
    with pytest.raises(ValueError, match="stage draft has no parent"):
        follow_up([DraftTask(task_id="t", doc_id="d1")])
    with pytest.raises(ValueError, match="task 'e-1' lacks doc_id, parent_doc_id or draft_task_id"):
        follow_up([attrs.evolve(essay, draft_task_id="")])
    with pytest.raises(ValueError, match="rows with parent_doc_id d1 disagree"):
        follow_up([essay, attrs.evolve(essay, doc_id="e2", combo_id="other")])
    last = EvaluationTask(task_id="v-1", doc_id="v1", parent_doc_id="e1", essay_task_id="e-1")
    assert follow_up([last]).parents == [EssayTask(task_id="e-1", doc_id="e1")]
    with pytest.raises(ValueError, match="no stage has the parent stage evaluation"):
        follow_up([last], templates=[Template("t")], models=[Model("m")])


def test_unreadable_document_is_left_out(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store = decide_outcome(local)
    load = store.backend.load

    def refuse_e1(stage: str, doc_id: str, parts: Any = ()) -> Any:
        if doc_id == "e1":
            raise PermissionError(13, "Permission denied")
        return load(stage, doc_id, parts)

    monkeypatch.setattr(store.backend, "load", refuse_e1)
    assert [each.score for each in scores(store)][:2] == [7.0, 3.0]
    selection = select(scores(store), store, top=1)
    assert ([pick.doc_id for pick in selection.picks], selection.notes[1].kind) == (["e2"], "unusable")
    rows = replay(store, "essay", ["e1", "e2"])
    assert [row.doc_id for row in rows] == ["e2"]


def _run(act: str, store: DocsStore) -> object:
    if act == "scores":
        return list(scores(store))
    if act == "replay":
        return list(replay(store, "essay", ["e1"]))
    found = Score("v1", "e1", "v-1", "x", "m", 7.0, "", "", "", {})
    return select([found], store, top=1)


@pytest.mark.parametrize(
    ("act", "silent"), [("scores", "draft"), ("scores", "evaluation"), ("replay", "essay"), ("select", "essay")]
)
def test_unavailable_store_raises(act: str, silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DocsStore(MemoryBackend())
    store.write(Document(stage="draft", doc_id="d1", task_id="t", raw_text="…"))
    store.write(Document(stage="essay", doc_id="e1", task_id="t__x", parent_doc_id="d1", raw_text="…", prompt_text="p"))
    store.write(
        Document(stage="evaluation", doc_id="v1", task_id="v-1", parent_doc_id="e1", raw_text="…", parsed_text="7")
    )
    load = MemoryBackend.load

    def fail_for_silent_stage(self: MemoryBackend, stage: str, doc_id: str, parts: object = ()) -> object:
        if stage == silent:
            raise StoreUnavailable("read", "s3://bucket", "no answer", "try again")
        return load(self, stage, doc_id, parts)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryBackend, "load", fail_for_silent_stage)
    with pytest.raises(StoreUnavailable):
        _run(act, store)

"""Stores and tables of earlier releases stay readable. `tests/data` has one set per release, and only grows."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import obstore
import pytest

from docid import DocsStore, DraftTask, EssayTask, Outcome, read_tasks
from docid.backends.objects import ObjectsBackend
from docid.copying import copy

DATA = Path(__file__).parent / "data"
NOON = datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=UTC)
DRAFT, ESSAY = "v01omsg789e00wgz", "mjujvqr4idl970mt"


@pytest.fixture
def release_0_1_0(tmp_path: Path) -> Path:
    """A copy of the data of release 0.1.0."""
    return Path(shutil.copytree(DATA / "0.1.0", tmp_path / "0.1.0"))


def test_store_of_0_1_0_is_read(release_0_1_0: Path) -> None:
    store = DocsStore(release_0_1_0 / "docs")
    draft = store.read("draft", DRAFT, verify=True)
    assert (draft.task_id, draft.parent_doc_id, draft.run_id, draft.created_at) == (
        "tides__pairs-v1__large-1",
        None,
        "run-1",
        NOON,
    )
    assert draft.parts() == {
        "raw": "Die Ebbe kam.\n",
        "parsed": "Die Ebbe kam.",
        "prompt": "Schreib über Gezeiten: \U0001f30a",
    }
    assert draft.metadata == {"model_id": "large-1", "usage": {"tokens": [12, 34], "cost": 0.5, "cached": None}}
    assert [old.raw_text for old in store.history("draft", DRAFT)] == ["Die Flut kam.\r\n"]
    essay = store.read("essay", ESSAY, verify=True)
    assert (essay.parent_doc_id, essay.metadata) == (DRAFT, {})
    assert essay.parts() == {"raw": "\ufeffAn essay\x00 without a parsed text\r", "prompt": "sent"}
    assert [old.prompt_text for old in store.history("essay", ESSAY)] == [None]
    assert {stage: list(store.ids(stage)) for stage in store.stages} == {
        "draft": [DRAFT],
        "essay": [ESSAY],
        "evaluation": [],
    }


def test_store_of_0_1_0_is_written(release_0_1_0: Path) -> None:
    store = DocsStore(release_0_1_0 / "docs", durability="none")
    assert store.write(store.read("draft", DRAFT)).outcome is Outcome.UNCHANGED
    assert store.add_part("essay", ESSAY, "parsed", "p").outcome is Outcome.COMPLETED
    assert len(list(store.history("essay", ESSAY))) == 2


def test_tables_of_0_1_0_are_read(release_0_1_0: Path) -> None:
    [draft] = read_tasks(release_0_1_0 / "draft_generation_tasks.csv", DraftTask)
    assert draft == DraftTask(
        task_id="tides__pairs-v1__large-1",
        doc_id=DRAFT,
        doc_salt="s-1",
        combo_id="tides",
        draft_template="pairs-v1",
        generation_model="large-1",
        extra={"note": 'say "so",\r\nplainly'},
    )
    [essay] = read_tasks(release_0_1_0 / "essay_generation_tasks.csv.gz", EssayTask)
    assert (essay.doc_id, essay.parent_doc_id, essay.draft_task_id) == (ESSAY, DRAFT, draft.task_id)


def test_objects_of_0_1_0_are_the_same_documents(release_0_1_0: Path, tmp_path: Path) -> None:
    objects, docs = DocsStore(ObjectsBackend("memory://")), DocsStore(release_0_1_0 / "docs")
    assert isinstance(objects.backend, ObjectsBackend)
    root = release_0_1_0 / "objects"
    for path in root.rglob("*.json"):
        obstore.put(objects.backend._bucket.store, path.relative_to(root).as_posix(), path.read_bytes())
    for stage, doc_id in (("draft", DRAFT), ("essay", ESSAY)):
        assert objects.read(stage, doc_id, verify=True) == docs.read(stage, doc_id, verify=True)
        assert list(objects.history(stage, doc_id)) == list(docs.history(stage, doc_id))
    assert [each.outcome for each in copy(objects, DocsStore(tmp_path / "back"))] == ["copied", "copied"]
    for path in (tmp_path / "back").rglob("*.*"):
        if path.is_file() and ".docid" not in path.parts and path.name[0] != ".":
            assert path.read_bytes() == (release_0_1_0 / "docs" / path.relative_to(tmp_path / "back")).read_bytes()

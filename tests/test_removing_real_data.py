"""Removal, restoration, erasure and replicates on the tables and the old store of a real project."""

from __future__ import annotations

from pathlib import Path

import pytest

from docid import DocsStore, DraftTask, EssayTask, EvaluationTask, read_tasks, replicates, reserve_doc_id, reserve_tasks
from docid.curate import migrate
from tests import unpack
from tests.test_curating_real_data import hash_files


@pytest.fixture
def store(daydreaming: Path, tmp_path: Path) -> DocsStore:
    """The old store, with migrated records."""
    unpack(daydreaming / "docs-store.tar.gz", tmp_path)
    store = DocsStore(tmp_path / "docs", durability="none")
    assert all(change.done or change.outcome == "current" for change in migrate(store, apply=True))
    return store


def hash_documents(store: DocsStore) -> dict[str, str]:
    """Return the hashes of all files of documents and of history, without locks."""
    found = hash_files(Path(store.root))
    return {path: digest for path, digest in found.items() if "/.lock-" not in path and ".docid/.lock" not in path}


def test_every_draft_is_removed_with_its_descendants_and_restored_byte_for_byte(store: DocsStore) -> None:
    before = hash_documents(store)
    count = sum(1 for stage in store.stages for _ in store.ids(stage))
    drafts = [f"draft/{doc_id}" for doc_id in store.ids("draft")]
    removal = store.remove_many(drafts, descendants=True)
    assert sum(change.done for change in removal.changes) == len(removal.changes) == count
    assert [doc_id for stage in store.stages for doc_id in store.ids(stage)] == []
    assert all(change.done for change in store.restore(removal.entry))
    assert hash_documents(store) == before


def test_erasure_of_a_draft_takes_its_descendants_and_no_other_file(store: DocsStore) -> None:
    before = hash_documents(store)
    doc_id = min(store.read("essay", each).parent_doc_id or "" for each in store.ids("essay"))
    erased = {trace.document.rpartition("/")[2] for trace in store.erase("draft", doc_id, descendants=True).traces}
    assert doc_id in erased
    assert len(erased) > 1
    assert hash_documents(store) == {
        path: digest for path, digest in before.items() if erased.isdisjoint(path.split("/"))
    }


def test_replicates_of_real_rows_keep_the_ids_of_the_first_ones(daydreaming: Path) -> None:
    tables = daydreaming / "tables" / "all_templates"
    rows = list(read_tasks(tables / "draft_generation_tasks.csv.gz", DraftTask, reserved=False))[:20]
    drafts = {n: list(reserve_tasks(replicates(rows, n), DraftTask)) for n in (5, 8)}
    chosen = {row.task_id for row in rows}
    essay_rows = [
        row
        for row in read_tasks(tables / "essay_generation_tasks.csv.gz", EssayTask, reserved=False)
        if row.draft_task_id in chosen
    ]
    assert essay_rows
    for n, parents in drafts.items():
        bare = [EssayTask(task_id=row.task_id, draft_task_id=row.draft_task_id) for row in essay_rows]
        essays = list(reserve_tasks(replicates(bare, 2, parents=parents), EssayTask, parents=parents))
        judged = [
            EvaluationTask(task_id=f"{row.task_id}__novelty", essay_task_id=row.task_id) for row in dict.fromkeys(bare)
        ]
        evaluations = list(reserve_tasks(replicates(judged, 3, parents=essays), EvaluationTask, parents=essays))
        ids = [row.doc_id for group in (parents, essays, evaluations) for row in group]
        assert len(ids) == len(set(ids)) == 20 * n + len(bare) * n * 2 + len(bare) * n * 2 * 3
        by_id = {row.doc_id: row for row in parents}
        for row in essays:
            assert by_id[row.parent_doc_id or ""].task_id == row.draft_task_id
            assert row.doc_id == reserve_doc_id("essay", row.task_id, salt=row.doc_salt)
    earlier = {(row.task_id, row.doc_salt): row.doc_id for row in drafts[5]}
    later = {(row.task_id, row.doc_salt): row.doc_id for row in drafts[8]}
    assert earlier.items() <= later.items()

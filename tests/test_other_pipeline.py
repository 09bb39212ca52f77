"""A pipeline with its own stages, from tables to stored documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from docid import (
    DocsStore,
    Document,
    LineageConflict,
    MissingParent,
    Stages,
    TaskRow,
    read_tasks,
    reserve_tasks,
    write_tasks,
)

# The complete declaration:
STAGES = Stages.chain("outline", "chapter", "review")


class OutlineTask(TaskRow):
    stage = "outline"


class ChapterTask(TaskRow):
    stage, parent_stage = "chapter", "outline"


class ReviewTask(TaskRow):
    stage, parent_stage = "review", "chapter"


def test_custom_stages_work_from_tables_to_documents(store: DocsStore, tmp_path: Path) -> None:
    store = DocsStore(store.backend, stages=STAGES)
    tables: dict[str, tuple[type[TaskRow], list[dict[str, Any]]]] = {
        "outline": (OutlineTask, [{"task_id": "whales"}]),
        "chapter": (ChapterTask, [{"task_id": f"whales__{n}", "extra": {"outline_task_id": "whales"}} for n in (1, 2)]),
        "review": (ReviewTask, [{"task_id": "r", "extra": {"chapter_task_id": "whales__2"}}]),
    }
    parents: list[TaskRow] = []
    for stage, (row_type, fields) in tables.items():
        path = tmp_path / f"{stage}_tasks.csv"
        write_tasks(path, reserve_tasks([row_type(**each) for each in fields], row_type, parents=parents))
        parents = list(read_tasks(path, row_type))
        for row in parents:
            assert store.ensure(row, lambda row: Document.from_task(row, raw_text=row.task_id)).outcome == "created"
            assert store.ensure(row, lambda _: pytest.fail("made again")).outcome == "kept"

    [review] = store.documents("review")
    chapter = store.read("chapter", str(review.parent_doc_id))
    assert (chapter.task_id, store.read("outline", str(chapter.parent_doc_id)).raw_text) == ("whales__2", "whales")
    with pytest.raises(LineageConflict):
        store.write(Document(stage="review", doc_id=review.doc_id, task_id="other", raw_text=""))
    with pytest.raises(MissingParent, match="chapter/zz"):
        store.write(Document(stage="review", doc_id="r2", task_id="other", raw_text="", parent_doc_id="zz"))

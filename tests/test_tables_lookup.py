"""Finding rows by doc id."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from docid import EvaluationTask, TaskTableError, read_tasks
from docid.tables.lookup import TaskIndex, index_of


def test_index_has_rows_of_its_table(tmp_path: Path) -> None:
    path = tmp_path / "evaluation_tasks.csv"
    text = 'evaluation_task_id,parent_doc_id,note,doc_id\na,e1,"x\ny",v1\nb,e1,,v2\n'
    path.write_text(text)
    index = TaskIndex(path, EvaluationTask)
    rows = list(read_tasks(path, EvaluationTask))
    assert list(index) == ["v1", "v2"]
    assert [index[key] for key in index] == rows
    assert (index.get("v3"), "v1" in index, len(index)) == (None, True, 2)


def make_older(path: Path) -> None:
    """Set the time of a file back by a minute."""
    os.utime(path, (time.time() - 60, time.time() - 60))


def test_young_table_is_not_cached(tmp_path: Path) -> None:
    """On a file system with times of whole seconds, a change may leave time, size and inode as they were."""
    path = tmp_path / "evaluation_tasks.csv"
    now = int(time.time())
    for doc_id in ("v1", "v2"):
        path.write_text(f"evaluation_task_id,parent_doc_id,doc_id\na,e1,{doc_id}\n")
        os.utime(path, (now, now))
        assert list(index_of(path, EvaluationTask)) == [doc_id]


def test_index_is_rebuilt_only_after_change(tmp_path: Path) -> None:
    path = tmp_path / "evaluation_tasks.csv"
    path.write_text("evaluation_task_id,parent_doc_id,doc_id\na,e1,v1\n")
    make_older(path)
    index = index_of(path, EvaluationTask)
    assert index_of(path, EvaluationTask) is index
    assert index_of(os.path.relpath(path), EvaluationTask) is index
    path.write_text("evaluation_task_id,parent_doc_id,doc_id\na,e1,v1\nb,e1,v2\n")
    assert len(index_of(path, EvaluationTask)) == 2


def test_index_reports_all_faults_and_duplicates(tmp_path: Path) -> None:
    path = tmp_path / "evaluation_tasks.csv"
    path.write_text("evaluation_task_id,parent_doc_id,doc_id\na,e1,v1\nb,,v2\nc,e1,v1\nd,e1\n")
    with pytest.raises(TaskTableError) as caught:
        TaskIndex(path, EvaluationTask)
    assert [(problem.row, problem.column) for problem in caught.value.problems] == [
        (3, "parent_doc_id"),
        (4, "doc_id"),
        (5, None),
    ]

"""Tables as callers rarely have them: without progress, from a pipe, with ids in a pandas index, with one id twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from docid import DocsStore, DraftTask, EssayTask, TaskTableError
from docid.cli import main
from docid.curate import follow_up
from docid.frames import reserve_frame
from docid.operations.audit.run import Table
from docid.operations.fill import fill_table


def test_table_is_filled_without_progress(tmp_path: Path) -> None:
    path = tmp_path / "draft_tasks.csv"
    path.write_text("draft_task_id\nt-1\nt-2\n")
    assert fill_table(str(path), DraftTask).rows == 2


def test_length_of_a_pipe_is_unknown() -> None:
    assert Table("/dev/null", DraftTask, None).length() is None


def test_ids_in_a_pandas_index_are_refused() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"draft_task_id": ["t-1"], "doc_id": ["d1"]}).set_index("doc_id")
    with pytest.raises(
        TaskTableError, match=r"in the index of the frame; expected a column: call reset_index\(\) first"
    ):
        reserve_frame(frame, stage="draft")


def test_curated_rows_with_one_id_are_refused() -> None:
    rows = [
        EssayTask(task_id=task_id, doc_id="e1", parent_doc_id="d1", draft_task_id="t") for task_id in ("t-1", "t-2")
    ]
    with pytest.raises(ValueError, match="tasks 't-1' and 't-2' both have doc id e1; expected one row per document"):
        follow_up(rows)


def test_copy_of_an_empty_store_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    DocsStore("docs").manifest.declare()
    assert main(["copy", "docs", "there", "--new-store"]) == 0
    assert capsys.readouterr().out == "no documents\n"

"""An audit with an executor gives the same report as one without."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docid import DocsStore, DraftTask, TaskRow, audit, write_tasks
from docid.backends import MemoryBackend
from tests.auditing import Rows, audit_in, change_row, find_path, make_document, make_rows, run


def add_faults(rows: Rows, faults: Iterable[tuple[str, int, str, str]]) -> Rows:
    for stage, number, field, value in faults:
        if field != "parent_doc_id" or stage != "draft":
            rows = change_row(rows, stage, number, **{field: value})
    return rows


FAULTS = st.tuples(
    st.sampled_from(["draft", "essay", "evaluation"]),
    st.integers(0, 1),
    st.sampled_from(["doc_id", "parent_doc_id", "task_id"]),
    st.sampled_from(["", "x1", "x2", "nan", "A", *(row.doc_id for rows in make_rows().values() for row in rows)]),
)


@given(faults=st.lists(FAULTS, max_size=6), chunk=st.integers(1, 9), unwritten=st.sets(st.integers(0, 5)))
def test_report_is_the_same_for_any_chunk_size(
    faults: list[tuple[str, int, str, str]], chunk: int, unwritten: set[int]
) -> None:
    rows = make_rows()
    store = DocsStore(MemoryBackend())
    for number, row in enumerate(row for stage_rows in rows.values() for row in stage_rows):
        if number not in unwritten:
            store.write(make_document(row), require_parent=False)
    faulty = add_faults(rows, faults)
    expected = audit(store, faulty)
    assert audit_in(faulty, chunk, store) == expected
    assert audit_in({"essay": faulty["essay"]}, chunk, store) == audit(store, {"essay": faulty["essay"]})
    assert audit_in(faulty, chunk) == audit(None, faulty)


def test_process_pool_gives_the_same_report(
    full: DocsStore, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (find_path(full, rows["draft"][1]) / "raw.txt").write_text("")
    paths = {}
    for stage, stage_rows in change_row(rows, "essay", 0, parent_doc_id="nowhere").items():
        paths[stage] = tmp_path / f"{stage}_tasks.csv"
        write_tasks(paths[stage], stage_rows)
    expected = audit(full, paths)
    assert [finding.code for finding in expected.findings] == ["torn-document", "lineage-conflict", "missing-parent"]
    with ProcessPoolExecutor(2) as executor:
        assert audit(full, paths, executor=executor) == expected
        monkeypatch.setattr("docid.operations.audit.parallel.CHUNK", 1)
        assert audit(full, rows, executor=executor) == audit(full, rows)


def test_number_of_running_chunks_is_limited(full: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    # Memory must not grow with the tables or the store.
    monkeypatch.setattr("docid.operations.audit.parallel.CHUNK", 2)
    monkeypatch.setattr("docid.operations.audit.parallel.AHEAD", 3)
    monkeypatch.setattr("docid.operations.audit.parallel.STRIDE", 1)

    class Counting(ThreadPoolExecutor):
        submitted = 0

        def submit(self, *arguments: Any, **options: Any) -> Any:
            self.submitted += 1
            return super().submit(*arguments, **options)

    def note_ahead(what: str, done: int, _: int | None) -> None:
        if what == "rows of stage draft":
            ahead.append(2 * executor.submitted - done)

    ahead: list[int] = []
    rows: list[TaskRow] = [DraftTask(task_id=f"t-{number}", doc_id=f"t{number}") for number in range(100)]
    with Counting(2) as executor:
        audit(full, {"draft": rows}, executor=executor, progress=note_ahead)
    assert (len(ahead), max(ahead)) == (100, 2 * 3 - 1)


def test_error_in_one_chunk_cancels_the_others(full: DocsStore, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Executor):
        def submit(self, *_: Any, **__: Any) -> Any:
            futures.append(Future())
            return futures[-1]

    class Future:
        cancelled = False

        def result(self) -> None:
            raise OSError(5, "Input/output error")

        def cancel(self) -> None:
            self.cancelled = True

    futures: list[Future] = []
    monkeypatch.setattr("docid.operations.audit.parallel.CHUNK", 1)
    more = {"draft": [DraftTask(task_id=f"t-{number}", doc_id=f"t{number}") for number in range(4)]}
    with pytest.raises(OSError, match="Input/output"):
        audit(full, more, executor=Broken())
    assert [future.cancelled for future in futures] == [False, True, True, True]


def test_killed_worker_prints_one_line(
    tables: Path, full: DocsStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    test = os.getpid()

    def kill_worker(*_: Any, **__: Any) -> None:
        assert os.getpid() != test
        os._exit(9)

    # Forked workers inherit the patch.
    monkeypatch.setattr("docid.operations.audit.parallel.examine", kill_worker)
    monkeypatch.setattr("concurrent.futures.process.mp.get_context", lambda: get_context("fork"))
    code, out, err = run(capsys, "audit", tables, "--store", full.root, "--jobs", "2")
    assert (code, out) == (2, "")
    assert err == "docid: a worker process was killed, perhaps for lack of memory; use fewer --jobs\n"

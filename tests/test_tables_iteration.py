"""A faulty table yields no rows, and an iterator that is used up says so."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from docid import DraftTask, EssayTask, Stages, TaskTableError, audit, read_tasks, reserve_tasks, write_tasks
from docid.cli import main
from docid.tables.opening import open_table
from docid.tables.parsing import IdCount
from docid.tables.tasks import TaskRows, TaskTable
from tests.tables import NoteTask, table

GOOD = "note_task_id,doc_id\n" + "".join(f"t-{n},n{n}\n" for n in range(900))
FAULTS = {
    "ragged": "t-900\n",
    "quote": 't-900,"n\n',
    "not UTF-8": b"t-900,caf\xe9\n",
    "id": "t-900,../x\n",
    "empty id": "t-900,\n",
    "task id": ",n900\n",
    "header": "note_task_id,doc_id\n",
    "same doc id": "t-900,n7\n",
}


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_faulty_table_yields_no_rows(tmp_path: Path, fault: str | bytes, suffix: str) -> None:
    data = GOOD.encode() + (fault if isinstance(fault, bytes) else fault.encode())
    path = table(tmp_path, data, f"note_tasks.csv{suffix}")
    calls: list[str] = []
    for _ in range(2):
        rows = read_tasks(path, NoteTask)
        with pytest.raises(TaskTableError, match="row 902") as caught:
            calls.extend(row.doc_id for row in rows)
        assert caught.value.count == 1
        with pytest.raises(TaskTableError, match="row 902"):
            len(rows)
    assert calls == []


@pytest.mark.parametrize("give", [list, iter, tuple], ids=["list", "iterator", "tuple"])
def test_reserve_yields_no_rows_if_ids_repeat(give: Callable[[Any], Any]) -> None:
    rows = [DraftTask(task_id=f"t-{n % 900}") for n in range(901)]
    calls: list[str] = []
    with pytest.raises(TaskTableError, match=r"row 901, column draft_task_id: 't-0'; same doc id \S+ as row 1"):
        calls.extend(row.doc_id for row in reserve_tasks(give(rows), DraftTask))
    assert calls == []
    assert [row.task_id for row in reserve_tasks(give(rows[:900]), DraftTask)] == [f"t-{n}" for n in range(900)]


def test_rows_are_validated_again_only_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path, GOOD, "note_tasks.csv")
    rows = read_tasks(path, NoteTask)
    opened = []
    original = os.fspath

    def count(opener: Any) -> Any:
        def open_counted(*arguments: Any, **options: Any) -> Any:
            opened.append(original(arguments[0]))
            return opener(*arguments, **options)

        return open_counted

    monkeypatch.setattr("docid.tables.csvfile.open_table", count(open_table))
    assert (len(rows), len(opened)) == (900, 1)
    assert (len(list(rows)), len(opened)) == (900, 2)
    assert (len(list(rows)), len(opened)) == (900, 3)
    with path.open("a") as stream:
        stream.write("t-900,n900\n")
    assert (len(list(rows)), len(opened)) == (901, 5)


def test_deleted_table_is_reported_as_changed(tmp_path: Path) -> None:
    path = table(tmp_path, GOOD, "note_tasks.csv")
    rows, others = read_tasks(path, NoteTask), read_tasks(path, NoteTask)
    assert len(rows) == 900
    path.unlink()
    for each in (rows, others):
        with pytest.raises(TaskTableError, match="changed by another process after docid read it"):
            len(each)


def test_json_lines_that_change_while_docid_opens_them_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"note_task_id": "t-1"}\n')
    rows = read_tasks(path, NoteTask, reserved=False)
    opened = []

    def open_and_change(*arguments: Any) -> Any:
        opened.append(True)
        if len(opened) == 2:
            path.write_text('{"note_task_id": "t-1", "more": "x"}\n')
        return open_table(*arguments)

    monkeypatch.setattr("docid.tables.jsonlines.open_table", open_and_change)
    with pytest.raises(TaskTableError, match="changed by another process"):
        list(rows)


def test_iterations_of_a_table_are_independent(tmp_path: Path) -> None:
    rows = read_tasks(table(tmp_path, GOOD, "note_tasks.csv"), NoteTask)
    assert isinstance(rows, TaskTable)
    assert [(one.doc_id, other.doc_id) for one, other in zip(rows, rows, strict=True)][-1] == ("n899", "n899")
    assert repr(rows).startswith("<TaskTable of NoteTask from ")
    assert bool(rows)
    assert list(rows) == list(rows)


def test_table_without_rows_can_be_iterated(tmp_path: Path) -> None:
    rows = read_tasks(table(tmp_path, "note_task_id,doc_id\n", "note_tasks.csv"), NoteTask)
    assert (len(rows), list(rows), list(rows)) == (0, [], [])


@pytest.mark.parametrize("change", ["replaced", "appended", "cut", "damaged", "other columns", "deleted"])
def test_change_between_the_passes_yields_no_row_that_was_not_validated(tmp_path: Path, change: str) -> None:
    path = table(tmp_path, GOOD, "note_tasks.csv")
    reserved = reserve_tasks(read_tasks(path, NoteTask), NoteTask)
    rows = iter(read_tasks(path, NoteTask))
    first = next(rows)
    other = GOOD.replace("t-899,n899\n", "") if change == "cut" else GOOD + "t-900,n900\n"
    if change == "replaced":
        (tmp_path / "new").write_text(other)
        (tmp_path / "new").replace(path)
    elif change == "deleted":
        path.unlink()
    else:
        other = other.replace("t-880,n880", "t-880,..") if change == "damaged" else other
        other = other.replace("doc_id\n", "doc_id,\n", 1) if change == "other columns" else other
        path.write_text(other)
    if change in {"replaced", "appended", "deleted"}:
        # The open file, or the part of it that was validated, is complete.
        assert [first, *rows][-1].doc_id == "n899"
    else:
        with pytest.raises(TaskTableError, match="changed by another process after docid read it"):
            list(rows)
    if change not in {"replaced", "appended", "cut"}:
        with pytest.raises(TaskTableError):
            next(reserved)


def test_change_before_the_second_pass_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path, GOOD, "note_tasks.csv")

    class Watched(dict[str, str]):
        def get(self, key: str, default: Any = None) -> Any:
            if key == "t-5":
                other = path.with_name("other")
                other.write_bytes(path.read_bytes())
                other.replace(path)
            return super().get(key, default)

    @attrs.frozen(kw_only=True)
    class Child(NoteTask):
        stage = "child"
        parent_stage = "note"

    path.write_text("child_task_id,doc_id,note_task_id\n" + "".join(f"c-{n},c{n},t-{n}\n" for n in range(9)))
    parents = Watched({f"t-{n}": f"n{n}" for n in range(9)})
    with pytest.raises(TaskTableError, match="changed by another process"):
        next(reserve_tasks(read_tasks(path, Child, reserved=False), Child, parents=parents))
    # Without rows there is nothing to refuse.
    assert list(reserve_tasks([], NoteTask)) == []


USED_UP = "used up: an iterator gives its rows once"


def make_iterators(path: Path) -> Iterator[Any]:
    yield reserve_tasks([DraftTask(task_id="t-1")], DraftTask)
    yield iter(read_tasks(path, DraftTask))
    yield (row for row in [DraftTask(task_id="t-1", doc_id="d1")])
    empty = table(path.parent, "draft_task_id,doc_id\n", "empty.csv")
    yield iter(read_tasks(empty, DraftTask))


def test_used_up_iterator_says_so_everywhere(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id,doc_id\nt-1,d1\n", "draft_tasks.csv")
    essays = [EssayTask(task_id="e", draft_task_id="t-1")]
    for rows in make_iterators(path):
        list(rows)
        if isinstance(rows, TaskRows):
            with pytest.raises(ValueError, match=USED_UP):
                iter(rows)
            assert next(rows, None) is None
        for call in (
            lambda rows=rows: reserve_tasks(rows, DraftTask),
            lambda rows=rows: reserve_tasks(essays, EssayTask, parents=rows),
            lambda rows=rows: write_tasks(path, rows, row_type=DraftTask),
            lambda rows=rows: audit(None, {"draft": rows}),
        ):
            with pytest.raises(ValueError, match=USED_UP):
                call()
    assert path.read_text() == "draft_task_id,doc_id\nt-1,d1\n"


def test_iterator_is_used_up_after_an_error(tmp_path: Path) -> None:
    rows = iter(read_tasks(table(tmp_path, "draft_task_id,doc_id\nt-1,\n", "draft_tasks.csv"), DraftTask))
    with pytest.raises(TaskTableError):
        list(rows)
    with pytest.raises(ValueError, match=USED_UP):
        list(rows)


def test_started_iterator_continues() -> None:
    rows = reserve_tasks([DraftTask(task_id=f"t-{n}") for n in range(3)], DraftTask)
    next(rows)
    assert [row.task_id for row in rows] == ["t-1", "t-2"]


def test_parents_without_rows_are_named_as_the_cause() -> None:
    rows = iter([DraftTask(task_id="t-1", doc_id="d1")])
    next(rows)
    with pytest.raises(TaskTableError, match="the argument parents has no rows; an iterator gives its rows once"):
        list(reserve_tasks([EssayTask(task_id="e", draft_task_id="t-1")], EssayTask, parents=rows))


def test_faults_of_an_iterator_of_rows_are_taken_over(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id,doc_id\nt-1,..\n", "draft_tasks.csv")
    with pytest.raises(TaskTableError, match="row 2, column doc_id"):
        list(reserve_tasks(iter(read_tasks(path, DraftTask, reserved=False)), DraftTask))


def test_table_serves_as_rows_and_parents_many_times(tmp_path: Path) -> None:
    drafts = read_tasks(table(tmp_path, "draft_task_id,doc_id\nt-1,d1\n", "draft_tasks.csv"), DraftTask)
    essays = [EssayTask(task_id="e", draft_task_id="t-1")]
    for _ in range(2):
        assert [row.parent_doc_id for row in reserve_tasks(essays, EssayTask, parents=drafts)] == ["d1"]


def test_notebook_view_shows_rows_or_faults(tmp_path: Path) -> None:
    path = table(tmp_path, GOOD.replace("t-0", "<b>"), "note_tasks.csv")
    view = read_tasks(path, NoteTask)._repr_html_()
    assert "900 rows" in view
    assert "&lt;b&gt;" in view
    assert "… and 890 more" in view
    path.write_text("note_task_id,doc_id\nt-1,n1\n")
    assert "more" not in read_tasks(path, NoteTask)._repr_html_()
    rows = read_tasks(path, NoteTask)
    path.write_text("note_task_id,doc_id\nt-1,\n")
    assert "column doc_id: missing" in rows._repr_html_()
    path.unlink()
    assert "changed by another process" in rows._repr_html_()


def test_equal_hashes_are_no_equal_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docid.tables.parsing.hash", lambda _: 7, raising=False)
    ids = IdCount()
    for doc_id in ("a", "b", "a"):
        ids.add(doc_id)
    assert list(ids.find_repeated(enumerate_items(["a", "b", "a"]))) == [(3, "a", 1, None)]


def enumerate_items(ids: list[str]) -> Iterator[tuple[int, str, None]]:
    return ((number, doc_id, None) for number, doc_id in enumerate(ids, 1))


def test_memory_grows_by_less_than_200_bytes_per_row(tmp_path: Path) -> None:
    peaks = []
    for number in (1_000, 21_000):
        text = "draft_task_id,doc_id\n" + "".join(f"task-{n:09},{n:016}\n" for n in range(number))
        path = table(tmp_path, text, "draft_tasks.csv")
        tracemalloc.start()
        assert sum(1 for _ in reserve_tasks(read_tasks(path, DraftTask), DraftTask)) == number
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 20_000 < 200


cells = st.sampled_from(
    ["t-1", "t-2", "d1", "d2", "", "nan", " d1", "..", "D1", "note_task_id", "doc_id", ' "d1"', "é", "x,y"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(cells, min_size=1, max_size=4), max_size=5), is_quoted=st.booleans())
@example(rows=[["t-1", "d1"], ["t-2", "d1"]], is_quoted=True)
@example(rows=[["t-1", "d1"], ["note_task_id", "doc_id"]], is_quoted=True)
def test_audit_and_loop_make_the_same_judgement(tmp_path: Path, rows: list[list[str]], is_quoted: bool) -> None:
    mark = '"' if is_quoted else ""
    lines = [",".join(f"{mark}{cell.replace(mark, mark * 2) if mark else cell}{mark}" for cell in row) for row in rows]
    path = table(tmp_path, "\n".join(["note_task_id,doc_id", *lines]), "note_tasks.csv")
    yielded = []
    try:
        yielded += list(read_tasks(path, NoteTask))
        is_usable = True
    except TaskTableError:
        is_usable = False
        assert yielded == []
    try:
        report = audit(None, {"note": path}, stages=Stages.chain("note"))
        # The audit also refuses two documents of one task, which two salts would tell apart.
        is_safe = all(each.level != "error" or each.code == "duplicate-task-id" for each in report.findings)
    except TaskTableError:
        is_safe = False
    assert is_usable == is_safe


def test_table_that_changes_during_the_sync_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path, "draft_task_id\nt-1\n", "draft_tasks.csv")
    sync = os.fsync
    is_done: list[bool] = []

    def append_and_sync(descriptor: int) -> None:
        if not is_done:
            is_done.append(True)
            with path.open("a") as other:
                other.write("t-2\n")
        sync(descriptor)

    monkeypatch.setattr("docid.tables.csvfile.os.fsync", append_and_sync)
    with pytest.raises(
        TaskTableError, match=r"draft_tasks\.csv: changed by another process after docid read it\. docid did"
    ):
        write_tasks(path, reserve_tasks(read_tasks(path, DraftTask, reserved=False), DraftTask))
    assert path.read_text() == "draft_task_id\nt-1\nt-2\n"
    assert os.listdir(tmp_path) == [path.name]
    is_done.clear()
    assert main(["reserve", str(path)]) == 2
    assert path.read_text() == "draft_task_id\nt-1\nt-2\nt-2\n"


def test_two_processes_lose_no_row(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id,doc_id\n", "draft_tasks.csv")
    code = """
import sys
from docid import DraftTask, TaskTableError, read_tasks, write_tasks
name, path = sys.argv[1:]
written = 0
while written < 25:
    rows = read_tasks(path, DraftTask)
    try:
        write_tasks(path, [*rows, DraftTask(task_id=f"{name}-{written}", doc_id=f"{name}{written}")], like=rows)
        written += 1
    except TaskTableError as error:
        assert "changed by another process" in str(error), error
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, name, str(path)]) for name in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(read_tasks(path, DraftTask)) == 50


def test_list_of_rows_with_its_table_as_form_is_checked_too(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id,doc_id\r\nt-1,d1\r\n", "draft_tasks.csv")
    rows = read_tasks(path, DraftTask)
    held = [*rows, DraftTask(task_id="t-2", doc_id="d2")]
    with path.open("a") as other:
        other.write("t-3,d3\r\n")
    with pytest.raises(TaskTableError, match="changed by another process"):
        write_tasks(path, held, like=rows)
    assert write_tasks(tmp_path / "copy.csv", held, like=rows) == 2
    rows = read_tasks(path, DraftTask)
    assert write_tasks(path, [*rows, held[-1]], like=rows) == 3
    assert path.read_bytes() == b"draft_task_id,doc_id\r\nt-1,d1\r\nt-3,d3\r\nt-2,d2\r\n"


def test_damaged_gzip_yields_no_rows(tmp_path: Path) -> None:
    path = table(tmp_path, GOOD, "note_tasks.csv.gz")
    path.write_bytes(gzip.compress(GOOD.encode())[:-20])
    with pytest.raises(TaskTableError, match="not gzip"):
        next(iter(read_tasks(path, NoteTask)))

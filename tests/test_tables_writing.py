"""Writing task tables: cells keep their text, and the old table stays until the new one is complete."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import resource
import signal
import stat
import time
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from docid import DraftTask, EssayTask, TaskRow, TaskTableError, read_tasks, reserve_doc_id, reserve_tasks, write_tasks
from docid.tables.csvfile import AtomicFile
from tests.tables import ChapterTask, NoteTask, table


def test_invalid_extra_is_not_written(tmp_path: Path) -> None:
    for name, text in (("combo_id", "x"), ("n", 0)):
        row = DraftTask(task_id="a", combo_id="mine")
        row.extra[name] = text  # type: ignore[assignment]
        with pytest.raises(TaskTableError, match=f"row 2, column {name}: "):
            write_tasks(tmp_path / "x.csv", [row])
    assert os.listdir(tmp_path) == []


def test_default_adds_no_column(tmp_path: Path) -> None:
    text = "chapter_task_id,note\na,1\n"
    path = table(tmp_path, text)
    rows = list(read_tasks(path, ChapterTask, reserved=False))
    assert write_tasks(tmp_path / "copy.csv", rows) == 1
    assert (tmp_path / "copy.csv").read_text() == text
    write_tasks(tmp_path / "copy.csv", [attrs.evolve(rows[0], words=5)])
    assert (tmp_path / "copy.csv").read_text() == "chapter_task_id,note,words\na,1,5\n"


class Level(IntEnum):
    ONE = 1


class Half(float):
    def __repr__(self) -> str:
        return "np.float64(0.5)"


def test_float_overflow_keeps_its_text(tmp_path: Path) -> None:
    path = table(tmp_path, "chapter_task_id,weight\na,1e999\n")
    write_tasks(tmp_path / "copy.csv", read_tasks(path, ChapterTask, reserved=False))
    assert (tmp_path / "copy.csv").read_text() == path.read_text()


def test_subclasses_of_numbers_are_written_as_numbers(tmp_path: Path) -> None:
    write_tasks(tmp_path / "x.csv", [ChapterTask(task_id="t", words=Level.ONE, weight=Half(0.5), final=True)])
    [row] = read_tasks(tmp_path / "x.csv", ChapterTask, reserved=False)
    assert (row.words, row.weight, row.final) == (1, 0.5, True)


cells = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["", " ", "\r", "\n", "\r\n", '"', '""', ",", "\x00", "\ufeff", "=1+1", "0001", "1e5", "nan", "a\rb", "\u2028", "'"]
)


columns = st.lists(
    cells.filter(lambda name: name not in {"note_task_id", "doc_id", "doc_run_id", "doc_salt"}), unique=True, max_size=4
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    names=columns,
    newline=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
    place=st.integers(0, 5),
    suffix=st.sampled_from(["", ".gz"]),
)
def test_every_cell_survives_reading_and_writing(
    tmp_path: Path,
    data: st.DataObject,
    names: list[str],
    newline: str,
    bom: bool,
    place: int,
    suffix: str,
) -> None:
    header = [*names[:place], "note_task_id", *names[place:]]
    rows = data.draw(st.lists(st.tuples(*[st.just("t") if name == "note_task_id" else cells for name in header])))
    # Write it as another program may: every cell quoted.
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator=newline, quoting=csv.QUOTE_ALL).writerows([header, *rows])
    text = ("\ufeff" if bom else "") + buffer.getvalue()
    path = table(tmp_path, text, f"note_tasks.csv{suffix}")
    expected = [dict(zip(header, row, strict=True)) for row in rows]

    read = list(read_tasks(path, NoteTask, reserved=False))
    assert [{name: row.cell(name) for name in header} for row in read] == expected
    copy = tmp_path / f"copy.csv{suffix}"
    write_tasks(copy, read_tasks(path, NoteTask, reserved=False), like=path)
    again = read_tasks(copy, NoteTask, reserved=False)
    assert again.columns == tuple(header)
    assert [{name: row.cell(name) for name in header} for row in again] == expected
    written = gzip.decompress(copy.read_bytes()) if suffix else copy.read_bytes()
    assert written.startswith(b"\xef\xbb\xbf") == (bom or header[0].startswith("\ufeff"))
    # A second copy has the same bytes.
    write_tasks(path, read_tasks(copy, NoteTask, reserved=False), like=copy)
    assert path.read_bytes() == copy.read_bytes()


def test_like_keeps_line_ends_and_bom(tmp_path: Path) -> None:
    path = table(tmp_path, "\ufeffnote_task_id,doc_id\r\nt,n1\r\n")
    before = path.read_bytes()
    write_tasks(path, read_tasks(path, NoteTask), like=path)
    assert path.read_bytes() == before
    write_tasks(path, read_tasks(path, NoteTask))
    assert path.read_bytes() == b"note_task_id,doc_id\nt,n1\n"


def _append(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(gzip.compress(b"u,\n") if path.suffix == ".gz" else b"u,\n")


def _put_another(path: Path) -> None:
    other = path.with_name("other.csv")
    other.write_bytes(path.read_bytes())
    other.replace(path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("change", [_append, _put_another, Path.unlink])
def test_concurrent_change_of_table_is_not_overwritten(
    tmp_path: Path, change: Callable[[Path], None], suffix: str
) -> None:
    path = table(tmp_path, "note_task_id,doc_id\nt,\n", f"note_tasks.csv{suffix}")
    link = tmp_path / f"link.csv{suffix}"
    link.symlink_to(path.name)

    rows = reserve_tasks(read_tasks(path, NoteTask, reserved=False), NoteTask)
    change(path)
    after = path.read_bytes() if path.exists() else None
    with pytest.raises(TaskTableError, match=r"(link|note_tasks)\.csv.*changed by another process"):
        write_tasks(link, rows)
    assert (path.read_bytes() if path.exists() else None) == after
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".tmp-")]


def test_next_write_removes_files_of_killed_writers(tmp_path: Path) -> None:
    def write(name: str, kill: bool) -> None:
        def rows() -> Iterator[TaskRow]:
            yield NoteTask(task_id="t-1", doc_id="d1")
            if kill:
                os.kill(os.getpid(), signal.SIGKILL)

        write_tasks(tmp_path / name, rows(), row_type=NoteTask)

    for name in ("note_tasks.csv", "note_tasks.csv.gz"):
        child = os.fork()
        if child == 0:
            try:
                write(name, kill=True)
            finally:
                os._exit(1)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    dead = [path for path in tmp_path.iterdir() if path.name.startswith(".tmp-")]
    assert len(dead) == 2
    write("note_tasks.csv", kill=False)
    assert all(path.exists() for path in dead)  # their writers may be alive
    others = [tmp_path / name for name in (".tmp-mine.csv", "tmp-0123456789abcdef.csv", "draft_tasks.csv")]
    others[0].with_name(".tmp-0123456789abcdef").mkdir()
    for path in others:
        path.touch()
    for path in tmp_path.iterdir():
        os.utime(path, (time.time() - 90_000, time.time() - 90_000))
    write("note_tasks.csv", kill=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*(path.name for path in others), ".tmp-0123456789abcdef", "note_tasks.csv"]
    )


def test_changed_table_may_be_written_elsewhere(tmp_path: Path) -> None:
    path = table(tmp_path, "note_task_id,doc_id\nt,\n")
    rows = reserve_tasks(read_tasks(path, NoteTask, reserved=False), NoteTask)
    _append(path)
    assert write_tasks(tmp_path / "copy.csv", rows) in {1, 2}


def test_rows_without_a_table_get_columns_of_their_type(tmp_path: Path) -> None:
    path = tmp_path / "essay_tasks.csv"
    row = EssayTask(task_id="t", draft_task_id="d", doc_id="e1", parent_doc_id="p1", extra={"note": "n"})
    assert write_tasks(path, [row, attrs.evolve(row, task_id="u", doc_id="e2")]) == 2
    assert path.read_text() == (
        "essay_task_id,parent_doc_id,draft_task_id,combo_id,draft_template,essay_template,generation_model,"
        "generation_model_name,note,doc_id\nt,p1,d,,,,,,n,e1\nu,p1,d,,,,,,n,e2\n"
    )
    assert list(read_tasks(path, EssayTask)) == [row, attrs.evolve(row, task_id="u", doc_id="e2")]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_column_of_later_row_is_added_to_all(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"note_tasks.csv{suffix}"
    rows = [
        NoteTask(task_id="a", doc_id="n1", extra={"x": 'say "x"\r\n'}),
        NoteTask(task_id="b", doc_id="n2", extra={"empty": ""}),
        NoteTask(task_id="c", doc_id="n3", extra={"y": "late"}, doc_salt="s"),
        NoteTask(task_id="d", doc_id="n4", extra={"z": "last", "x": "again"}),
    ]
    assert write_tasks(path, rows) == 4
    read = list(read_tasks(path, NoteTask))
    assert read[0].columns == ("note_task_id", "x", "doc_id", "y", "doc_salt", "z")
    assert [{name: text for name, text in row.extra.items() if text} for row in read] == [
        {"x": 'say "x"\r\n'},
        {},
        {"y": "late"},
        {"z": "last", "x": "again"},
    ]
    assert [row.doc_salt for row in read] == [None, None, "s", None]
    assert os.listdir(tmp_path) == [path.name]


def test_table_without_rows_keeps_its_header(tmp_path: Path) -> None:
    path = table(tmp_path, "\ufeffnote_task_id,x,doc_id\r\n")
    copy = tmp_path / "copy.csv"
    assert write_tasks(copy, read_tasks(path, NoteTask)) == 0
    assert copy.read_bytes() == b"note_task_id,x,doc_id\n"
    write_tasks(copy, reserve_tasks(read_tasks(path, NoteTask), NoteTask))
    assert copy.read_bytes() == b"note_task_id,x,doc_id\n"
    write_tasks(copy, [], like=path)
    assert copy.read_bytes() == path.read_bytes()
    write_tasks(copy, [], row_type=NoteTask)
    assert copy.read_bytes() == b"note_task_id,doc_id\n"
    with pytest.raises(ValueError, match="rows: no rows, so the header is unknown; pass row_type or like"):
        write_tasks(tmp_path / "new.csv", [])
    assert not (tmp_path / "new.csv").exists()


def test_failed_write_keeps_old_table_and_leaves_no_file(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id,doc_id\na,d1\nb,d2\nc\n")
    before = path.read_bytes()
    with pytest.raises(TaskTableError, match="1 cell; expected 2"):
        write_tasks(path, read_tasks(path, DraftTask))
    with pytest.raises(TaskTableError, match=r"row 3, column combo_id: '\\ud800'; expected text that UTF-8 can hold"):
        write_tasks(path, [DraftTask(task_id="a"), DraftTask(task_id="b", combo_id="\ud800")])
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": float("nan")}, "row 2, column weight: 'nan'; expected a number, or nothing"),
        ({"task_id": ""}, "row 2, column chapter_task_id: empty; expected a task id"),
        ({"task_id": "t "}, "row 2, column chapter_task_id: 't '; leading or trailing white space"),
        ({"doc_id": ".."}, "row 2, column doc_id: '..'; not a doc id"),
    ],
)
def test_value_that_cannot_be_read_back_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {"task_id": "t", **change}
    with pytest.raises(TaskTableError, match=re.escape(message)):
        write_tasks(tmp_path / "x.csv", [ChapterTask(**fields)])
    assert os.listdir(tmp_path) == []


def test_rows_of_two_classes_are_refused(tmp_path: Path) -> None:
    rows: list[Any] = [DraftTask(task_id="d"), EssayTask(task_id="e", draft_task_id="d")]
    with pytest.raises(TypeError, match="rows: expected rows of DraftTask, got EssayTask"):
        write_tasks(tmp_path / "x.csv", rows)
    with pytest.raises(TypeError, match="rows: expected rows of EssayTask, got DraftTask"):
        list(reserve_tasks(rows[:1], EssayTask))
    # The message adds the modules if two classes share a name.
    plain: type[Any] = TaskRow.of("chapter")
    with pytest.raises(
        TypeError,
        match=re.escape(f"expected rows of docid.tables.rows.ChapterTask, got {ChapterTask.__module__}.Chapter"),
    ):
        list(reserve_tasks([ChapterTask(task_id="c")], plain))
    assert os.listdir(tmp_path) == []


def test_replacing_follows_link_and_keeps_permissions(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id\na\n")
    path.chmod(0o640)
    (tmp_path / "link.csv").symlink_to(path.name)
    rows = reserve_tasks(read_tasks(tmp_path / "link.csv", DraftTask, reserved=False), DraftTask)
    write_tasks(tmp_path / "link.csv", rows)
    assert (tmp_path / "link.csv").is_symlink()
    assert path.read_text() == f"draft_task_id,doc_id\na,{reserve_doc_id('draft', 'a')}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_temporary_file_has_permissions_of_table(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id\na\n")
    path.chmod(0o600)
    with AtomicFile(str(path)) as new:
        assert stat.S_IMODE(os.stat(new.temporary).st_mode) == 0o600


def test_missing_directory_error_names_table(tmp_path: Path) -> None:
    path = tmp_path / "none" / "draft_tasks.csv"
    with pytest.raises(FileNotFoundError, match=re.escape(repr(str(path)))):
        write_tasks(path, [DraftTask(task_id="a")])


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_full_disk_keeps_old_table_and_leaves_no_file(tmp_path: Path, suffix: str) -> None:
    path = table(tmp_path, "draft_task_id\na\n", f"draft_tasks.csv{suffix}")
    before = path.read_bytes()
    rows = [DraftTask(task_id=os.urandom(500).hex()) for _ in range(200)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            write_tasks(path, rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_link_to_compressed_table_stays_compressed(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(gzip.compress(b"draft_task_id\na\n"))
    path = tmp_path / "draft_tasks.csv.gz"
    path.symlink_to("blob")
    late = [DraftTask(task_id="b", extra={"x": "1"}), DraftTask(task_id="c", extra={"y": "2"})]
    write_tasks(path, [*read_tasks(path, DraftTask, reserved=False), *late])
    assert [row.task_id for row in read_tasks(path, DraftTask, reserved=False)] == ["a", "b", "c"]
    assert path.is_symlink()


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("header", ['draft_task_id,"x,y"', '"draft_task_id","a\r\nb"', '"draft_task_id","a\nb"'])
def test_like_reads_a_quoted_header(tmp_path: Path, header: str, bom: str) -> None:
    path = table(tmp_path, f"{bom}{header}\r\na,1\r\n", "draft_tasks.csv")
    columns = read_tasks(path, DraftTask, reserved=False).columns
    write_tasks(tmp_path / "empty.csv", [], like=path)
    assert read_tasks(tmp_path / "empty.csv", DraftTask, reserved=False).columns == columns
    write_tasks(path, read_tasks(path, DraftTask, reserved=False), like=path)
    data = path.read_bytes()
    assert data.endswith(b"\r\na,1\r\n")
    assert data.startswith(bom.encode() + b"draft_task_id,")


def test_like_refuses_faulty_table(tmp_path: Path) -> None:
    path = tmp_path / "no.csv.gz"
    path.write_text("draft_task_id\n")
    with pytest.raises(TaskTableError, match="not gzip"):
        write_tasks(tmp_path / "x.csv", [], like=path)
    with pytest.raises(TaskTableError, match="not UTF-8"):
        write_tasks(tmp_path / "x.csv", [], like=table(tmp_path, b"draft_task_id,caf\xe9\n"))
    empty = table(tmp_path, "")
    assert write_tasks(tmp_path / "x.csv", [DraftTask(task_id="a")], like=empty) == 1


def test_equal_tables_are_equal_gzip_files(tmp_path: Path) -> None:
    for name in ("a.csv.gz", "b.csv.gz"):
        write_tasks(tmp_path / name, [DraftTask(task_id="a")])
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()


def test_permission_error_explains_new_file_in_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_open(*_: object, **__: object) -> Any:
        raise PermissionError(13, "Permission denied", "…")

    monkeypatch.setattr("docid.tables.csvfile.open", refuse_open, raising=False)
    with pytest.raises(
        PermissionError, match="docid must be able to create a temporary file in the same directory"
    ) as caught:
        write_tasks(tmp_path / "x.csv", [DraftTask(task_id="t")])
    assert caught.value.filename == str(tmp_path / "x.csv")

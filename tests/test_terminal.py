"""Output on a terminal with and without rich, and in a pipe, where both print the same."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from docid import (
    DocsStore,
    Document,
    DraftTask,
    EssayTask,
    UnreadableDocument,
    _progress,
    reserve_doc_id,
    reserve_tasks,
    write_tasks,
)
from docid.backends import LocalBackend
from docid.cli import main
from docid.cli.output import Progress

WITHOUT_RICH = "import sys; sys.modules['rich'] = None; from docid.cli import main; sys.exit(main(sys.argv[1:]))"
WITH_RICH = WITHOUT_RICH.replace("sys.modules['rich'] = None; ", "")


def hide_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rich", "rich.console"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture(params=["rich", "plain"])
def is_rich(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    if request.param == "plain":
        hide_rich(monkeypatch)
    return bool(request.param == "rich")


@pytest.fixture
def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def set_up() -> None:
        monkeypatch.setattr(_progress, "_REFRESH", 0.0)
        monkeypatch.setattr("docid.operations.audit.parallel.STRIDE", 1)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)

    return set_up


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """Two tables and a store: the parent of one written essay is missing, and a pending essay names an unknown parent."""
    drafts = list(reserve_tasks([DraftTask(task_id=f"t-{n}") for n in range(3)], DraftTask))
    rows = [EssayTask(task_id=f"t-{n}__[red]x", draft_task_id=f"t-{n}") for n in range(3)]
    essays = list(reserve_tasks(rows, EssayTask, parents=drafts))
    essays[2] = attrs.evolve(essays[2], parent_doc_id="nowhere")
    write_tasks(tmp_path / "draft_tasks.csv", drafts)
    write_tasks(tmp_path / "essay_tasks.csv", essays)
    store = DocsStore(tmp_path / "docs", durability="none")
    store.write_many(Document.from_task(row, raw_text="…") for row in (*drafts, *essays[:2]))
    os.rename(store.path("draft", drafts[1].doc_id), tmp_path / "moved")
    return tmp_path


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(each) for each in arguments])
    out, err = capfd.readouterr()
    return code, out, err


def strip_codes(text: str) -> str:
    """Remove terminal control codes from a text."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.mark.parametrize(
    ("arguments", "label"),
    [
        pytest.param(["audit", "."], "rows of stage essay", id="audit"),
        pytest.param(["audit", "--store", "docs"], "documents of stage essay", id="audit of a store"),
        pytest.param(["reserve", "draft_tasks.csv"], "checking rows of stage draft", id="reserve"),
        pytest.param(["migrate", "--store", "docs"], "documents of stage draft", id="migrate"),
        pytest.param(["copy", "docs", "there", "--new-store"], "documents of stage essay", id="copy"),
    ],
)
def test_progress_is_redrawn_on_a_terminal_only(
    arguments: list[str],
    label: str,
    pipeline: Path,
    is_rich: bool,
    on_a_terminal: Callable[[], None],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(pipeline)
    code, out, err = run(capfd, *arguments)
    assert "\r" not in err
    on_a_terminal()
    terminal_code, terminal_out, terminal_err = run(capfd, *arguments)
    assert terminal_code == code
    if arguments[0] != "copy":  # the first run has copied everything
        assert terminal_out == out
    assert re.search(rf"{label}.* [23]( of [23])?", strip_codes(terminal_err))
    # The line is erased at the end.
    assert terminal_err.endswith("\x1b[2K" if is_rich else "\r")
    assert ("━" in terminal_err) == is_rich


@pytest.mark.parametrize(
    ("arguments", "label"),
    [
        (["audit", "."], "rows of stage essay: 3 of 3"),
        (["reserve", "draft_tasks.csv"], "checking rows of stage draft"),
        (["migrate", "--store", "docs"], "documents of stage draft: 2"),
        (["copy", "docs", "there", "--new-store"], "documents of stage essay: 2"),
        (["scores", "--store", "docs", "--stage", "essay"], "documents of stage essay: 2"),
        (["show", "--store", "docs", "--task", "essay", "none"], "documents of stage essay: 2"),
        (["report", "--store", "docs", "-o", "page.html"], "documents of stage essay: 2"),
    ],
)
def test_progress_in_a_pipe_is_lines_on_stderr(
    arguments: list[str],
    label: str,
    pipeline: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(pipeline)
    code, out, err = run(capfd, *arguments)
    assert label not in err
    monkeypatch.setattr("docid.operations.audit.parallel.STRIDE", 1)
    monkeypatch.setattr(_progress, "_INTERVAL", 0.0)
    code_again, out_again, err_again = run(capfd, *arguments)
    assert code_again == code
    if arguments[0] not in {"copy", "report"}:  # the first run has copied everything, or names the file as new
        assert out_again == out
    assert any(line.startswith(f"docid: {label}") for line in err_again.split("\n"))
    assert not {"\r", "\x1b"} & set(err_again)


def test_progress_in_a_pipe_is_one_line_in_ten_seconds(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(_progress, "monotonic", lambda: now[0])
    with Progress() as meter:
        for tenth in range(315):
            now[0] = 100.0 + tenth / 10
            meter.show("rows" if tenth < 150 else "docu\x1bments", tenth, 400)
    assert capfd.readouterr().err == (
        "docid: rows: 100 of 400, 10/s, 0:30 left\n"
        "docid: docu\\x1bments: 200 of 400, 10/s, 0:20 left\n"
        "docid: docu\\x1bments: 300 of 400, 10/s, 0:10 left\n"
    )


def test_command_ends_its_work_if_nobody_reads_its_progress(pipeline: Path) -> None:
    code = (
        "import sys; from docid import _progress; from docid.cli import main; _progress._INTERVAL = 0.0\n"
        "sys.exit(main(['reserve', 'draft_tasks.csv', '--json']))"
    )
    (pipeline / "draft_tasks.csv").write_text("draft_task_id\n" + "".join(f"t-{n}\n" for n in range(2_000)))
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=pipeline, stdout=subprocess.PIPE, stderr=writer, check=False
    )
    os.close(writer)
    assert b'"doc_id": 2000' in done.stdout
    assert (pipeline / "draft_tasks.csv").read_text().count(",") == 2_001
    assert done.returncode in {0, 120}  # Python's, if it cannot flush standard error at the end


def test_audit_of_a_pipe_reads_it_once(pipeline: Path) -> None:
    command = f"{sys.executable} -m docid audit draft=<(cat draft_tasks.csv) --json"
    done = subprocess.run(["bash", "-c", command], cwd=pipeline, capture_output=True, text=True, check=True)
    assert '"draft": {"rows": 3,' in done.stdout


def test_progress_shows_rate_and_time_left(
    is_rich: bool,
    on_a_terminal: Callable[[], None],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_a_terminal()
    now = [100.0]
    monkeypatch.setattr(_progress, "monotonic", lambda: now[0])
    meter = Progress()
    lines = []
    for seconds, done, of in (
        *((0.0, 0, 10_000), (0.5, 100, 10_000), (2.0, 2_000, 10_000), (10.0, 10_000, 10_000)),
        *((11.0, 10_010, 100_000_000), (100.0, 10_020, None)),
    ):
        now[0] = 100.0 + seconds
        meter.show("documents", done, of)
        lines.append(strip_codes(capfd.readouterr().err))
    meter.clear()
    expected = [
        "0 of 10,000",
        "100 of 10,000",
        "2,000 of 10,000, 1,000/s, 0:08 left",
        "10,000 of 10,000, 1,000/s",
        "10,010 of 100,000,000, 910/s, 30:31:19 left",
        "10,020, 100/s",
    ]
    if not is_rich:  # rich draws in its own thread, at its own times
        assert [each.strip().removeprefix("documents: ") for each in lines] == expected
    now[0] = 500.0
    meter.show("slow", 0, 10)
    now[0] = 620.0
    meter.show("slow", 1, 10)
    meter.clear()
    assert "1 of 10, 0.5/min, 18:00 left" in strip_codes(capfd.readouterr().err)


def test_progress_line_is_refreshed_at_intervals(
    on_a_terminal: Callable[[], None], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_terminal()
    hide_rich(monkeypatch)
    monkeypatch.setattr(_progress, "_REFRESH", 3600.0)
    meter = Progress()
    for done in range(1, 1001):
        meter.show("things", done, 1000)
    assert strip_codes(capfd.readouterr().err).split("\r")[1:3] == ["things: 1 of 1,000", "things: 1,000 of 1,000"]


def test_progress_line_is_erased_before_an_error(
    pipeline: Path, is_rich: bool, on_a_terminal: Callable[[], None], capfd: pytest.CaptureFixture[str]
) -> None:
    table = pipeline / "draft_tasks.csv"
    table.write_text(table.read_text() + "too,many,cells,in,this,row,of,it,and,more\n")
    on_a_terminal()
    code, _, err = run(capfd, "reserve", table)
    assert code == 2
    assert re.search(r"(\x1b\[2K|\r)docid: ", err)


def test_unknown_total_is_left_out(
    local: DocsStore,
    on_a_terminal: Callable[[], None],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse_listing(*_: object) -> None:
        raise UnreadableDocument("draft", "", "docs/draft", "no directory")

    monkeypatch.setattr(LocalBackend, "ids", refuse_listing)
    hide_rich(monkeypatch)
    Progress().count_document(local, "draft")  # not on a terminal
    assert capfd.readouterr().err == ""
    on_a_terminal()
    Progress().count_document(local, "draft")
    assert capfd.readouterr().err == "\rdocuments of stage draft: 1"


def test_truncated_table_is_one_error(
    tmp_path: Path, on_a_terminal: Callable[[], None], capfd: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "draft_tasks.csv.gz"
    write_tasks(table, reserve_tasks([DraftTask(task_id=f"t-{n}") for n in range(99)], DraftTask))
    table.write_bytes(table.read_bytes()[:-40])
    on_a_terminal()
    code, _, err = run(capfd, "audit", table)
    assert code == 2
    assert "not gzip" in err


def run_on_terminal(pipeline: Path, code: str, *arguments: str, is_coloured: bool = True, columns: int = 200) -> str:
    """Run a command on a pseudo-terminal and return its output."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), "NO_COLOR": "1"}
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", *(("NO_COLOR",) if is_coloured else ())):
        environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=pipeline,
        env=environment,
    )
    os.close(follower)
    output = b""
    while True:
        try:
            data = os.read(leader, 65536)
        except OSError:  # the process has ended
            break
        if not data:
            break
        output += data
    os.close(leader)
    process.wait()
    return output.decode()


@pytest.mark.parametrize("columns", [80, 96, 100, 104, 108, 112])
def test_table_has_all_columns_at_any_terminal_width(pipeline: Path, columns: int) -> None:
    output = run_on_terminal(pipeline, WITH_RICH, "audit", ".", "--store", "docs", is_coloured=False, columns=columns)
    lines = strip_codes(output).replace("|", " ").splitlines()  # on an ASCII terminal bars separate the columns
    [header] = [line for line in lines if line.lstrip().startswith("stage ")]
    names = "stage rows written pending parents pending underived documents parsed missing findings"
    assert header.split() == names.split()


@pytest.mark.parametrize("arguments", [["audit", ".", "--store", "docs"], ["lineage", "--store", "docs", "draft/"]])
def test_terminal_and_pipe_show_the_same_words(pipeline: Path, arguments: list[str]) -> None:
    if arguments[0] == "lineage":
        arguments = [*arguments[:-1], f"draft/{reserve_doc_id('draft', 't-0')}"]
    coloured = run_on_terminal(pipeline, WITH_RICH, *arguments)
    without = run_on_terminal(pipeline, WITH_RICH, *arguments, is_coloured=False)
    plain = run_on_terminal(pipeline, WITHOUT_RICH, *arguments)
    piped = [
        subprocess.run([sys.executable, "-c", code, *arguments], cwd=pipeline, capture_output=True, check=False)
        for code in (WITH_RICH, WITHOUT_RICH)
    ]
    assert piped[0].stdout == piped[1].stdout
    assert b"\x1b" not in piped[0].stdout + piped[0].stderr
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", coloured) or arguments[0] == "lineage"
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", without)
    for output in (coloured, without, plain):
        assert "[red]x" in output  # text, not markup
    words = set(re.findall(r"[a-z0-9_-]{4,}", piped[0].stdout.decode()))
    for output in (coloured, without, plain):
        assert words <= set(re.findall(r"[a-z0-9_-]{4,}", strip_codes(output)))


def test_tree_marks_missing_documents(
    pipeline: Path, is_rich: bool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pipeline)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    store = DocsStore("docs")
    [orphan] = [
        each
        for each in store.documents("essay")
        if each.parent_doc_id is not None and not store.exists("draft", each.parent_doc_id)
    ]
    code, out, _ = run(capfd, "lineage", "--store", "docs", f"essay/{orphan.doc_id}")
    assert code == 0
    assert strip_codes(out).splitlines() == [
        f"draft/{orphan.parent_doc_id}  (not in the store)",
        f"└── essay/{orphan.doc_id}  {orphan.task_id}  <",
    ]


def test_long_name_is_wrapped_not_cut(
    pipeline: Path, is_rich: bool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pipeline)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    store = DocsStore("docs", durability="none")
    for number in range(2):
        doc_id, task_id = f"long{number}", f"{'name-' * 30}{number}"
        store.write(Document(stage="draft", doc_id=doc_id, task_id=task_id, raw_text="…"))
        code, out, _ = run(capfd, "lineage", "--store", "docs", f"draft/{doc_id}")
        assert code == 0
        assert strip_codes(out).replace("\n", "") == f"draft/{doc_id}  {task_id}  <"


def test_wide_table_keeps_its_words(
    pipeline: Path, is_rich: bool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pipeline)
    piped = run(capfd, "audit", ".")[1]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    assert strip_codes(run(capfd, "audit", ".")[1]) == piped


def test_tree_is_ascii_if_the_encoding_is(pipeline: Path) -> None:
    command = [sys.executable, "-m", "docid", "lineage", "--store", "docs", f"draft/{reserve_doc_id('draft', 't-0')}"]
    result = subprocess.run(
        command,
        cwd=pipeline,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines()[1].startswith("`-- essay/")


def test_progress_line_fits_the_terminal(
    on_a_terminal: Callable[[], None], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_terminal()
    hide_rich(monkeypatch)
    monkeypatch.setenv("COLUMNS", "20")
    meter = Progress()
    meter.show("a name\x1b that is longer than twenty", 1, 2)
    assert capfd.readouterr().err == "\ra name\\x1b that is "


def test_progress_line_is_erased_before_a_write_error(
    pipeline: Path,
    is_rich: bool,
    on_a_terminal: Callable[[], None],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (pipeline / "draft_tasks.csv").write_text("draft_task_id\nnew\n")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("docid.tables.csvfile.os.fsync", full)
    on_a_terminal()
    code, _, err = run(capfd, "reserve", pipeline / "draft_tasks.csv")
    assert code == 2
    assert re.search(r"(\x1b\[2K|\r)docid: No space left on device", err)

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

import docid
from docid import DocsStore, Document, StoreUnavailable, reserve_doc_id
from docid.cli import main
from docid.cli.output import print_stderr

DRAFTS = "draft_task_id,note\na,x\nb,y\n"
ESSAYS = "essay_task_id,draft_task_id\n1,a\n2,b\n"


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DOCID_STORE", raising=False)
    (tmp_path / "draft_generation_tasks.csv").write_text(DRAFTS)
    (tmp_path / "essay_tasks.csv").write_text(ESSAYS)
    return tmp_path


@pytest.fixture
def root(tables: Path) -> Path:
    store = DocsStore(tables / "docs", durability="none")
    store.write(
        Document(
            stage="draft",
            doc_id="aa1",
            task_id="t-1",
            raw_text="raw é\r\n",
            parsed_text="parsed",
            metadata={"model_id": "m", "usage": {"n": 1}},
        )
    )
    store.write(Document(stage="draft", doc_id="aa2", task_id="t-2", raw_text="no newline"))
    store.write(Document(stage="essay", doc_id="aa1", task_id="e-1", raw_text="x", parent_doc_id="aa1"))
    return tables / "docs"


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        code = main(arguments)
    except SystemExit as error:
        code = int(error.code or 0)
    out, err = capfd.readouterr()
    return code, out, err


def test_reserve_fills_tables_once(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["reserve", "essay_tasks.csv", "draft_generation_tasks.csv"]
    code, out, err = run(capfd, *arguments, "--dry-run")
    assert (code, err) == (0, "")
    assert out == (
        "draft_generation_tasks.csv: 2 rows, would be filled: 2 doc_id (0 kept)\n"
        "essay_tasks.csv: 2 rows, would be filled: 2 doc_id (0 kept), 2 parent_doc_id (0 kept)\n"
    )
    assert (tables / "draft_generation_tasks.csv").read_text() == DRAFTS
    code, out, _ = run(capfd, *arguments)
    assert (code, out) == (
        0,
        "draft_generation_tasks.csv: 2 rows, filled: 2 doc_id (0 kept)\n"
        "essay_tasks.csv: 2 rows, filled: 2 doc_id (0 kept), 2 parent_doc_id (0 kept)\n",
    )
    a, b = reserve_doc_id("draft", "a"), reserve_doc_id("draft", "b")
    assert (tables / "draft_generation_tasks.csv").read_text() == f"draft_task_id,note,doc_id\na,x,{a}\nb,y,{b}\n"
    one, two = reserve_doc_id("essay", "1"), reserve_doc_id("essay", "2")
    filled = f"essay_task_id,draft_task_id,parent_doc_id,doc_id\n1,a,{a},{one}\n2,b,{b},{two}\n"
    assert (tables / "essay_tasks.csv").read_text() == filled
    inode = (tables / "essay_tasks.csv").stat().st_ino
    code, out, _ = run(capfd, *arguments)
    assert out.count("filled: 0 doc_id (2 kept)") == 2
    assert (tables / "essay_tasks.csv").stat().st_ino == inode


def test_system_error_is_printed_without_errno(
    root: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, printed in (
        (OSError(5, "Input/output error"), "Input/output error"),
        (PermissionError(13, "Permission denied", "docs/draft"), "docs/draft: Permission denied"),
        (OSError("no number"), "no number"),
        (StoreUnavailable("read", "s3://b", "the line is cut", "try again"), None),
    ):
        monkeypatch.setattr(DocsStore, "ids", lambda *_, error=error: (_ for _ in ()).throw(error))
        code, _, err = run(capfd, "ls", "draft", "--store", str(root))
        assert (code, err) == (2, f"docid: {printed or error}\n")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_reserve_reads_the_table_of_parents_once(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(capfd, "reserve", "draft=draft_generation_tasks.csv")
    text = Path("draft_generation_tasks.csv").read_text()
    os.mkfifo("pipe")
    writer = threading.Thread(target=Path("pipe").write_text, args=(text,))
    writer.start()
    code, out, _ = run(capfd, "reserve", "essay_tasks.csv", "--parents", "draft=pipe")
    writer.join(10)
    assert (code, "2 parent_doc_id" in out) == (0, True), out


def test_reserve_takes_parents_from_another_table(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capfd, "reserve", "essay_tasks.csv", "--run-id", "r1", "--salt", "s")
    assert code == 0
    assert (
        "filled: 2 doc_id (0 kept), 0 parent_doc_id (0 kept); 2 without parent_doc_id (add the table of stage draft)"
        in out
    )
    text = (tables / "essay_tasks.csv").read_text()
    assert text.startswith("essay_task_id,draft_task_id,doc_run_id,doc_salt,doc_id\n1,a,r1,s,")
    code, out, _ = run(capfd, "reserve", "essay_tasks.csv", "--salt", "other")
    assert (code, "; every row already has a doc_id: clear the cells" in out) == (0, True)
    code, _, err = run(capfd, "reserve", "essay_tasks.csv", "--parents", "draft=draft_generation_tasks.csv")
    assert code == 2
    assert "has no doc_id in the parents' table; reserve that table first" in err
    assert (tables / "essay_tasks.csv").read_text() == text
    run(capfd, "reserve", "draft=draft_generation_tasks.csv")
    code, out, _ = run(capfd, "reserve", "essay_tasks.csv", "--parents", "draft_generation_tasks.csv")
    assert (code, out) == (0, "essay_tasks.csv: 2 rows, filled: 0 doc_id (2 kept), 2 parent_doc_id (0 kept)\n")


def test_reserve_writes_no_table_if_one_is_faulty(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tables / "essay_tasks.csv").write_text("essay_task_id,draft_task_id\n1,a\n2,none-such\n")
    code, out, err = run(capfd, "reserve", "draft_generation_tasks.csv", "essay_tasks.csv")
    assert (code, out) == (2, "")
    assert "row 3, column draft_task_id: 'none-such'; not in the parents' table" in err
    assert (tables / "draft_generation_tasks.csv").read_text() == DRAFTS


def test_path_may_contain_equals_sign(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tables / "run=1").mkdir()
    (tables / "run=1" / "t.csv").write_text(DRAFTS)
    (tables / "run=1" / "draft_tasks.csv").write_text(DRAFTS)
    for argument in ("draft=run=1/t.csv", "run=1/draft_tasks.csv"):
        assert "filled: 2 doc_id" in run(capfd, "reserve", argument)[1]


def test_reserve_keeps_line_ends_and_bom(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tables / "draft_tasks.csv"
    path.write_bytes(b"\xef\xbb\xbfdraft_task_id\r\na\r\n")
    assert run(capfd, "reserve", "draft_tasks.csv")[0] == 0
    assert path.read_bytes() == f"\ufeffdraft_task_id,doc_id\r\na,{reserve_doc_id('draft', 'a')}\r\n".encode()


def test_reserve_prints_ids_of_tasks(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capfd, "reserve", "--stage", "draft", "--task-id", "a", "--task-id", "b", "--salt", "s")
    assert (code, out.split()) == (0, [reserve_doc_id("draft", task, salt="s") for task in "ab"])
    code, out, _ = run(capfd, "reserve", "--stages", "outline,chapter", "--stage", "chapter", "--task-id", "a")
    assert (code, out) == (0, reserve_doc_id("chapter", "a") + "\n")


def test_stages_option_declares_other_stages(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tables / "outline_tasks.csv").write_text("outline_task_id\no\n")
    (tables / "part_generation_tasks.csv").write_text("part_task_id,outline_task_id\np,o\n")
    arguments = ["reserve", "outline_tasks.csv", "part_generation_tasks.csv", "--stages", "outline,notes,part:outline"]
    code, out, err = run(capfd, *arguments)
    assert (code, err) == (0, "")
    assert "1 doc_id (0 kept), 1 parent_doc_id (0 kept)" in out
    assert reserve_doc_id("outline", "o") in (tables / "part_generation_tasks.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["reserve"], "expected either tables or --stage with --task-id", id="nothing"),
        pytest.param(["reserve", "--stage", "draft"], "expected either tables", id="stage alone"),
        pytest.param(["reserve", "--task-id", "a"], "expected either tables", id="task alone"),
        pytest.param(["reserve", "scores.csv"], "scores.csv: not the name of a task table;", id="no table's name"),
        pytest.param(
            ["reserve", "draft_tasks.csv"], "^docid: draft_tasks.csv: No such file or directory$", id="no such table"
        ),
        pytest.param(
            ["reserve", "essay=draft_generation_tasks.csv"],
            "row 1, column essay_task_id: missing from the header; the columns are draft_task_id, note",
            id="another stage's table",
        ),
        pytest.param(
            ["reserve", "draft_tasks.csv", "draft=x.csv"], "second table of stage draft, after", id="two of one stage"
        ),
        pytest.param(
            ["reserve", "essay_tasks.csv", "--parents", "essay=x.csv"],
            "second table of stage essay, after",
            id="both ways",
        ),
        pytest.param(
            ["reserve", "essay_tasks.csv", "--parents", "evaluation=x.csv"],
            "x.csv: no table to fill has parents of stage evaluation",
            id="parents of nothing",
        ),
        pytest.param(["reserve", "draft="], "draft=: not the name of a task table;", id="stage without table"),
        pytest.param(
            ["reserve", "--stage", "draft", "--task-id", "a", "--dry-run"], "apply to tables", id="dry run of an id"
        ),
        pytest.param(
            ["reserve", "essay_tasks.csv", "--run", "r"], "unrecognized arguments: --run r", id="abbreviation"
        ),
        pytest.param(["ls", "--store", "essay_tasks.csv"], "no store at essay_tasks.csv: not a dir", id="root a file"),
        pytest.param(["show", "--store", "docs", "draft/"], "'draft/': no doc id;", id="empty id"),
        pytest.param(
            ["show", "--store", "docs", "o1", "--stages", "draft"],
            "docs also holds essay; --stages has only draft",
            id="stages that are not declared",
        ),
        pytest.param(["reserve", "--stage", "x", "--task-id", "a"], "not a stage of this pipeline", id="no stage"),
        pytest.param(["reserve", "--stage", "draft", "--task-id", ""], r"task_ids\[0\] '': empty", id="empty task"),
        pytest.param(["reserve", "essay_tasks.csv", "--salt", ""], "salt '': empty", id="empty salt"),
        pytest.param(["reserve", "x", "--stages", "a,a"], "each name once", id="stages"),
        pytest.param(["ls"], "expected --store ROOT, or the environment variable DOCID_STORE", id="no store"),
        pytest.param(["ls", "--store", "nowhere"], "no store at nowhere: no such directory", id="no root"),
        pytest.param(
            ["ls", "--store", "docs", "chapter"], "stage 'chapter': not a stage of this pipeline", id="ls stage"
        ),
        pytest.param(["show", "--store", "docs", "zz"], "zz: no such document in stage draft", id="unknown"),
        pytest.param(["show", "--store", "docs", "aa"], r"aa: matches 3 documents: draft/aa1, ", id="ambiguous"),
        pytest.param(["show", "--store", "docs", "aa1"], "aa1: matches 2 documents: draft/aa1, essay/aa1;", id="two"),
        pytest.param(["show", "--store", "docs", "../aa1"], "stage '..': not a stage name", id="traversal"),
        pytest.param(["show", "--store", "docs", "essay/.."], "no such document", id="dots"),
        pytest.param(
            ["show", "--store", "docs", "essay/aa1", "--prompt"], "no prompt text; stored parts: raw 1 byte$", id="part"
        ),
        pytest.param([], "required: COMMAND", id="no command"),
        pytest.param(["paint"], r"invalid choice: 'paint' \(choose from .*\)\n$", id="no such command"),
        pytest.param(["shwo"], r"invalid choice: 'shwo' \(choose from .*\); did you mean show\?$", id="slip"),
        pytest.param(["ls", "--nope"], "(?m)^docid ls: error: unrecognized arguments: --nope$", id="no such option"),
    ],
)
def test_wrong_usage_prints_one_line_and_exits_2(
    root: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, out, err = run(capfd, *arguments)
    assert (code, out) == (2, "")
    assert re.search(message, err)
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("docid")


def test_show_prints_lineage_metadata_and_text(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capfd, "show", "--store", str(root), "draft/aa1")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["stage", "draft"]
    for line in (["doc_id", "aa1"], ["task_id", "t-1"], ["parent_doc_id", "null"], ["metadata.usage", '{"n":', "1}"]):
        assert line in [each.split() for each in lines]
    assert any(line.split() == ["parts", "raw", "8", "bytes,", "parsed", "6", "bytes"] for line in lines)
    assert lines[-2:] == ["--- parsed ---", "parsed"]
    code, out, _ = run(capfd, "show", "--store", str(root), "aa2")
    assert out.endswith("--- raw ---\nno newline\n")


def test_show_of_task_id_says_how_to_get_its_doc_id(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capfd, "show", "--store", str(root), "t-1")
    assert code == 2
    assert err.endswith("; 'docid show --task STAGE TASK_ID' finds the document of a task\n")


@pytest.mark.parametrize("options", [[], ["--json"], ["--parsed"]])
def test_show_reports_damaged_part_that_it_does_not_print(
    options: list[str], root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ("show", "--store", str(root), "draft/aa1", *options)
    whole = run(capfd, *command)
    assert (whole[0], whole[2]) == (0, "")
    (root / "draft" / "aa1" / "raw.txt").unlink()
    code, out, err = run(capfd, *command)
    assert (code, out) == (2, whole[1])
    assert re.fullmatch(r"docid: draft/aa1 \(task_id='t-1'\).*: raw\.txt: listed in the record, but missing; .*\n", err)


def test_show_prints_part_unchanged(root: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["show", "--store", str(root), "draft/aa1", "--raw"]) == 0
    assert capfdbinary.readouterr().out == "raw é\r\n".encode()


def test_show_and_ls_print_json(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capfd, "show", "--store", str(root), "draft/aa1", "--json")
    record = (root / "draft" / "aa1" / "metadata.json").read_text("utf-8")
    assert json.loads(out) == json.loads(record)
    assert list(json.loads(out)) == list(json.loads(record))
    _, out, _ = run(capfd, "ls", "--store", str(root), "--json")
    facts, *others = [json.loads(line) for line in out.splitlines()]
    assert [(each["stage"], each["doc_id"]) for each in others] == [("draft", "aa2"), ("essay", "aa1")]
    assert facts["metadata"] == {"model_id": "m", "usage": {"n": 1}}
    assert facts["parts"] == {"raw": 8, "parsed": 6}
    assert (facts["legacy"], facts["location"]) == (False, str(root / "draft" / "aa1"))


def test_ls_prints_one_document_per_line(
    root: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCID_STORE", str(root))
    code, out, _ = run(capfd, "ls")
    assert code == 0
    assert len(out.splitlines()) == 3
    stage, task, parent, created, parts = out.splitlines()[-1].split("\t")
    assert (stage, task, parent, parts) == ("essay/aa1", "e-1", "aa1", "raw")
    assert created.endswith("Z")
    code, out, _ = run(capfd, "ls", "draft", "--ids")
    assert sorted(out.split()) == ["draft/aa1", "draft/aa2"]


def test_ls_sorts_documents_unless_told(
    root: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = ["aa2", "aa1", "aa2"]  # a document that is replaced may be listed twice
    monkeypatch.setattr(DocsStore, "ids", lambda self, stage: iter(listed if stage == "draft" else ["aa1"]))
    for options in (["--ids"], [], ["--json"]):
        for order, names in (([], ["aa1", "aa2"]), (["--unsorted"], listed)):
            _, out, _ = run(capfd, "ls", "essay", "draft", "--store", str(root), *options, *order)
            assert re.findall(r"(?m)^(?:\w+/|.*?\"doc_id\": \")(aa[12])", out) == ["aa1", *names]


def test_unsorted_list_begins_before_the_stage_is_listed(
    root: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def list_then_fail(self: DocsStore, stage: str) -> Iterator[str]:
        yield "aa2"
        raise OSError("the line is cut")

    monkeypatch.setattr(DocsStore, "ids", list_then_fail)
    for order, out in ((["--unsorted"], "draft/aa2\n"), ([], "")):
        assert run(capfd, "ls", "draft", "--store", str(root), "--ids", *order)[:2] == (2, out)


def test_ls_continues_after_unreadable_document(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (root / "draft" / "aa1" / "metadata.json").write_text("{")
    code, out, err = run(capfd, "ls", "--store", str(root), "draft")
    assert code == 2
    assert out.startswith("draft/aa2\t")
    assert err.startswith("docid: draft/aa1 at ")


def test_ls_names_undeclared_stages(
    root: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCID_STAGES", "outline,chapter")
    code, out, err = run(capfd, "ls", "--store", str(root))
    assert (code, out) == (0, "")
    assert err == (
        "docid: docs has no directory of stage outline, chapter; docid treats it as an empty store. "
        "It holds draft, essay (--stages declares other stages)\n"
    )
    assert run(capfd, "ls", "--store", str(root), "--stages", "draft,essay")[2] == ""
    monkeypatch.setenv("DOCID_STAGES", "outline,Chapter")
    with pytest.raises(SystemExit):
        main(["ls", "--store", str(root)])
    assert (
        "argument --stages: DOCID_STAGES in the environment: stage 'Chapter': not a stage name"
        in capfd.readouterr().err
    )
    with pytest.raises(SystemExit):
        main(["ls", "--store", str(root), "--stages", "Chapter"])
    assert "DOCID_STAGES" not in capfd.readouterr().err
    monkeypatch.setenv("DOCID_STAGES", "outline,chapter")
    for number in range(6):
        (root / f"more-{number}").mkdir()
    assert "essay, more-0, more-1, more-2, …" in run(capfd, "ls", "--store", str(root))[2]


def test_paths_below_the_current_directory_are_printed_as_relative(
    root: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, printed in {
        root / "draft": "docs/draft",
        f"x{root}": f"x{root}",
        root.parent: root.parent,
        f"'{root}/.docid'": "'docs/.docid'",
        "/": "/",
    }.items():
        print_stderr(f"{path}: no")
        assert capfd.readouterr().err == f"docid: {printed}: no\n"
    directory = root.parent / "removed"
    directory.mkdir()
    monkeypatch.chdir(directory)
    directory.rmdir()
    print_stderr(f"{root}: no")
    assert capfd.readouterr().err == f"docid: {root}: no\n"
    monkeypatch.chdir(root.parent)


@pytest.mark.parametrize("command", [["ls"], ["repair"], ["report", "--output", "page.html"], ["audit", "tables"]])
def test_directory_that_is_not_a_store_is_reported(
    command: list[str], root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (root.parent / "empty").mkdir()
    (root.parent / "tables").mkdir()
    os.rename("draft_generation_tasks.csv", "tables/draft_tasks.csv")
    run(capfd, "reserve", "tables/draft_tasks.csv")
    remedy = "check the path; 'docid stages --declare LIST --new-store' starts a store there"
    problem = "it holds documents directly; did you mean its parent directory?"
    for place, wrong in {
        "nowhere": "no such directory",
        "empty": "it is empty",
        "tables": "it is empty",
        "docs/draft": problem,
        "docs/draft/aa1": "it is empty",
        ".": "it has no directory of a stage",
    }.items():
        code, out, err = run(capfd, *command, "--store", place)
        assert (code, out, err) == (2, "", f"docid: no store at {place}: {wrong}; {remedy}\n")
    assert run(capfd, *command, "--store", "docs")[2] == ""


def test_copy_reports_source_that_is_not_a_store(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capfd, "copy", "docs/draft", "there", "--new-store")
    assert (code, out) == (2, "")
    assert "no store at docs/draft: it holds documents directly; did you mean its parent directory?" in err
    assert not os.path.exists("there")


def test_age_may_be_zero_without_unit(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (root / "draft" / "aa1" / "raw.txt").unlink()
    code, out, _ = run(capfd, "repair", "--store", str(root), "--stale-after", "0")
    assert (code, "to move" in out) == (0, True)


def test_show_escapes_control_characters(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hostile = Document(
        stage="draft", doc_id="bb", task_id="t", raw_text="a\x1b[2Jb\tc\r\nd\x9b\n", metadata={"k": "\x07"}
    )
    DocsStore(root).write(hostile)
    _, out, _ = run(capfd, "show", "--store", str(root), "bb")
    assert "metadata.k       \\x07\n" in out
    assert out.endswith("a\\x1b[2Jb\tc\nd\\x9b\n")
    assert run(capfd, "show", "--store", str(root), "bb", "--raw")[1].count("\x1b") == 1


def test_legacy_documents_are_listed(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    directory = tables / "old" / "draft" / "4a"
    directory.mkdir(parents=True)
    (directory / "metadata.json").write_bytes(orjson.dumps({"task_id": "t"}))
    (directory / "raw.txt").write_text("r")
    _, out, _ = run(capfd, "ls", "--store", "old")
    assert out == "draft/4a\tt\t-\t-\traw\n"
    _, out, _ = run(capfd, "show", "--store", "old", "4")
    assert "legacy           true" in out


def test_deeply_nested_metadata_is_cut(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    directory = tables / "old" / "draft" / "4a"
    directory.mkdir(parents=True)
    nested = f"{'[' * 1000}{']' * 1000}"
    (directory / "metadata.json").write_text(f'{{"task_id": "t", "model_id": "m", "a": {nested}}}')
    (directory / "raw.txt").write_text("r")
    metadata = {"model_id": "m", "a": "(more than 250 levels deep)"}
    assert json.loads(run(capfd, "ls", "--store", "old", "--json")[1])["metadata"] == metadata
    assert json.loads(run(capfd, "show", "--store", "old", "4a", "--json")[1]) == {"task_id": "t", **metadata}
    assert "metadata.a       (more than 250 levels deep)\n" in run(capfd, "show", "--store", "old", "4a")[1]


def test_main_runs_inside_another_program(root: Path) -> None:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert main(["show", "--store", str(root), "draft/aa1", "--raw"]) == 0
    assert output.getvalue() == "raw é\r\n"


def docid_command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "docid", *arguments], text=True, capture_output=True, check=False, **options
    )


def test_docid_runs_as_a_module(tables: Path) -> None:
    assert docid_command("--version").stdout == f"docid {docid.__version__}\n"
    for command in ([], ["reserve"], ["show"], ["ls"]):
        assert "usage: docid" in docid_command(*command, "--help").stdout


def test_ascii_terminal_gets_escaped_text(root: Path) -> None:
    DocsStore(root).write(Document(stage="draft", doc_id="bb", task_id="Überfahrt", raw_text=""))
    done = docid_command("ls", "draft", "--store", str(root), env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xdcberfahrt" in done.stdout


@pytest.mark.parametrize("arguments", [["ls"], ["show", "draft/aa1"], ["show", "draft/aa1", "--raw"]])
def test_closed_stdout_is_not_an_error(root: Path, arguments: list[str]) -> None:
    command = f"{shlex.join([sys.executable, '-m', 'docid', *arguments, '--store', str(root)])} >&-; echo $? >&2"
    done = subprocess.run(["bash", "-c", command], text=True, capture_output=True, check=True)
    assert done.stderr == "0\n"


def test_store_path_need_not_be_utf8(root: Path) -> None:
    odd = os.fsencode(root.parent) + b"/\xff"
    os.rename(root, odd)
    for arguments in (["ls", "--json"], ["show", "draft/aa1", "--json"], ["show", "draft/aa1"]):
        done = subprocess.run(
            [sys.executable, "-m", "docid", *arguments, "--store", odd], capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")


def test_ls_continues_after_unlistable_stage(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    os.rename(root / "draft", root.parent / "elsewhere")
    (root / "draft").symlink_to(root.parent / "elsewhere")
    code, out, err = run(capfd, "ls", "--store", str(root))
    assert code == 2
    assert out.startswith("essay/aa1\t")
    assert "docid: stage 'draft' at" in err


def test_document_listed_twice_is_not_ambiguous(
    root: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DocsStore, "ids", lambda self, stage: iter(["aa2", "aa2"] if stage == "draft" else []))
    assert run(capfd, "show", "--store", str(root), "aa2"[:2])[0] == 0


def test_reserve_adds_columns_to_table_without_rows(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tables / "draft_generation_tasks.csv").write_text("draft_task_id,note\r\n")
    for _ in range(2):
        assert run(capfd, "reserve", "draft_generation_tasks.csv")[0] == 0
        assert (tables / "draft_generation_tasks.csv").read_bytes() == b"draft_task_id,note,doc_id\r\n"


def test_legacy_document_without_raw_text_is_an_error(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tables / "old" / "draft" / "4a").mkdir(parents=True)
    (tables / "old" / "draft" / "4a" / "metadata.json").write_text('{"task_id": "t", "score": NaN}')
    code, out, err = run(capfd, "show", "--store", "old", "4a")
    assert code == 2
    assert "raw.txt is missing" in err
    assert "metadata.score   NaN" in out
    assert json.loads(run(capfd, "ls", "--store", "old", "--json")[1])["metadata"] == {"score": None}


def test_closed_pipe_is_not_an_error(root: Path) -> None:
    store = DocsStore(root, durability="none")
    for number in range(2000):
        store.write(Document(stage="draft", doc_id=f"n{number}", task_id=f"{number}" * 20, raw_text=""))
    listing = shlex.join([sys.executable, "-m", "docid", "ls", "--store", str(root)])
    command = f"{listing} | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], text=True, capture_output=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0"


def test_lineage_prints_a_tree(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tree = "draft/aa1  t-1  <\n└── essay/aa1  e-1\n"
    assert run(capfd, "lineage", "--store", str(root), "draft/aa1") == (0, tree, "")
    up = "draft/aa1  t-1\n└── essay/aa1  e-1  <\n"
    assert run(capfd, "lineage", "--store", str(root), "essay/a", "--ancestors") == (0, up, "")
    code, out, _ = run(capfd, "lineage", "--store", str(root), "draft/aa1", "--mermaid")
    assert (code, out.splitlines()[0]) == (0, "flowchart TD")
    code, out, _ = run(capfd, "lineage", "--store", str(root), "draft/aa1", "--json")
    assert (code, [each["doc_id"] for each in json.loads(out)["descendants"]]) == (0, ["aa1"])


def test_lineage_of_ambiguous_prefix_lists_matches(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capfd, "lineage", "--store", str(root), "aa")
    assert (code, out) == (2, "")
    assert "aa: matches 3 documents: draft/aa1, draft/aa2, essay/aa1" in err
    assert run(capfd, "lineage", "--store", str(root), "zz")[0] == 2


def test_lineage_reports_unreadable_records(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(7):
        (root / "essay" / f"torn{number}").mkdir()
        (root / "essay" / f"torn{number}" / "metadata.json").write_text("{")
    code, out, err = run(capfd, "lineage", "--store", str(root), "draft/aa1")
    assert (code, out.splitlines()[1]) == (0, "└── essay/aa1  e-1")
    assert len(err.splitlines()) == 6
    assert err.startswith("docid: not read: unreadable-record: essay/torn")
    assert err.endswith("docid: … and 2 more ('docid audit' lists all)\n")


def test_interrupt_prints_one_line(
    root: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DocsStore, "ids", interrupted)
    assert run(capfd, "ls", "--store", str(root)) == (130, "", "docid: interrupted\n")


def test_hostile_record_is_escaped_and_shortened(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = root / "draft" / "aa1" / "metadata.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "doc_id": "\x1b]52;c;x\x07" + "y" * 100_000}))
    code, _, err = run(capfd, "show", "--store", str(root), "draft/aa1")
    assert code == 2
    assert "\x1b" not in err
    assert len(err) < 1_000


def test_table_name_is_escaped(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tables / "x\x1b]0;owned\x07.csv").write_text(DRAFTS)
    code, out, err = run(capfd, "reserve", "draft=x\x1b]0;owned\x07.csv")
    assert code == 0
    assert "\x1b" not in out + err
    assert out.startswith("x\\x1b]0;owned\\x07.csv: 2 rows")


def test_repair_accepts_dry_run_but_not_with_apply(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(capfd, "repair", "--store", str(root), "--dry-run") == (0, "nothing to repair\n", "")
    assert run(capfd, "repair", "--store", str(root), "--dry-run", "--apply")[0] == 2


@pytest.mark.parametrize(
    ("given", "age"),
    [([], "30d"), (["1.5h"], "90m"), (["48h"], "2d"), (["5h"], "5h"), (["90s"], "90s"), (["0.5s"], "0.5s")],
)
def test_purge_reports_that_nothing_is_old_enough(
    given: list[str], age: str, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    older = [f"--older-than={each}" for each in given]
    store = DocsStore(root, durability="none")
    store.write(Document(stage="draft", doc_id="aa2", task_id="t-2", raw_text="second"), if_exists="replace")
    purge = ("repair", "--store", str(root), "--purge", "--history")
    code, out, err = run(capfd, *purge, *older)
    assert (code, out, err) == (0, f"nothing to purge is older than {age}\n", "")
    assert "1 deleted" in run(capfd, *purge, "--older-than", "0s", "--apply")[1]
    assert run(capfd, *purge, "--older-than", "0s")[1] == "nothing to purge is older than 0s\n"


def test_lineage_warns_of_mermaid_limit(
    root: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docid.cli.lineage._EDGES", 0)
    code, out, err = run(capfd, "lineage", "--store", str(root), "draft/aa1", "--mermaid")
    assert (code, out.splitlines()[0]) == (0, "flowchart TD")
    assert err == "docid: the chart has more than 0 edges; Mermaid may refuse to draw it\n"


def test_show_prints_replaced_versions(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shown = ("show", "--store", str(root), "draft/aa2", "--history")
    assert run(capfd, *shown) == (0, "", "docid: draft/aa2 (task_id='t-2') has no earlier versions\n")
    assert run(capfd, *shown, "--json") == (0, "", "")
    store = DocsStore(root, durability="none")
    for text in ("second", "third"):
        store.write(Document(stage="draft", doc_id="aa2", task_id="t-2", raw_text=text), if_exists="replace")
    code, out, _ = run(capfd, *shown)
    lines = out.splitlines()
    assert (code, lines[1], lines[3]) == (0, "second", "no newline")
    assert lines[0].startswith("--- raw, 1 version before the current one, created 20")
    assert "(no prompt text)" in run(capfd, *shown, "--prompt")[1]
    versions = [json.loads(line) for line in run(capfd, *shown, "--json")[1].splitlines()]
    assert [each["texts"] for each in versions] == [{"raw": "second"}, {"raw": "no newline"}]


def test_show_prints_version_of_unknown_time(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    old = root / "draft" / "old"
    old.mkdir()
    (old / "raw.txt").write_text("…", "utf-8")
    (old / "metadata.json").write_text(json.dumps({"task_id": "t-old"}))
    assert run(capfd, "migrate", "--store", str(root), "--apply")[0] == 0
    code, out, _ = run(capfd, "show", "--store", str(root), "draft/old", "--history")
    assert (code, out) == (0, "--- raw, 1 version before the current one, created at an unknown time ---\n…\n")


def test_reserve_prints_json(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capfd, "reserve", "draft_generation_tasks.csv", "essay_tasks.csv", "--json", "--salt", "s")
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [
        {
            "table": "draft_generation_tasks.csv",
            "stage": "draft",
            "rows": 2,
            "added": 0,
            "doc_id": 2,
            "parent_doc_id": 0,
            "without_parent_doc_id": 0,
            "existing": 0,
            "above": 0,
            "others": 0,
            "salt": "s",
            "dry_run": False,
        },
        {
            "table": "essay_tasks.csv",
            "stage": "essay",
            "rows": 2,
            "added": 0,
            "doc_id": 2,
            "parent_doc_id": 2,
            "without_parent_doc_id": 0,
            "existing": 0,
            "above": 0,
            "others": 0,
            "salt": "s",
            "dry_run": False,
        },
    ]
    code, out, _ = run(capfd, "reserve", "--stage", "draft", "--task-id", "a", "--json")
    assert json.loads(out) == {"stage": "draft", "task_id": "a", "doc_id": reserve_doc_id("draft", "a"), "salt": None}

"""`docid audit`."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from docid import DocsStore, Document, audit
from docid.cli import main
from tests.auditing import Rows, find_path, run


def test_audit_prints_summary_then_findings_by_code(
    tables: Path, full: DocsStore, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    path = find_path(full, rows["draft"][0])
    (path / "raw.txt").write_text("x")
    (path.parent / "note\n.txt").write_text("")
    root = path.parents[1]
    code, out, err = run(capsys, "audit", tables, "--store", root)
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        "stage       rows  written  pending  parents pending  underived  documents  parsed missing  findings",
        "draft          2        1        0                -          0          1               0         2",
        "essay          2        2        0                0          0          2               0         0",
        "evaluation     2        2        0                0          0          2               0         0",
        f"ignored (not task tables): 1 file ({tables}/models.csv)",
        "",
        "torn-document (error): 1",
        f"  {path} (task_id='d-1'): raw.txt: 1 byte, but the record says 10",
        "  -> it changed in the last 3,600 s, so a writer may still use it. Later, or at once with --stale-after 0s if no "
        "writer runs, run 'docid repair --apply' to move it to quarantine; the next run creates it again",
        "",
        "unlisted-file (warning): 1",
        f"  {path.parent}/note .txt: it belongs to no document",
        "  -> check what it is; docid does not need it",
        "",
        "1 error, 1 warning",
    ]


def test_audit_prints_first_places_of_each_code(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tables / "draft_generation_tasks.csv"
    lines = [f"d-{n},,,,,,{'' if n % 2 else 'A'}" for n in range(7)]
    table.write_text("draft_task_id,combo_id,draft_template,a,b,c,doc_id\n" + "\n".join(lines) + "\n")
    code, out, _ = run(capsys, "audit", table)
    assert code == 1
    assert "malformed-id (error): 4\n" in out
    assert f"  {table} row 3, column doc_id (task_id='d-1'): empty\n" in out
    out = run(capsys, "audit", "--stages", "draft", f"draft={table}")[1]
    assert "  -> run 'docid reserve' to fill it\n\n7 errors, 0 warnings\n" in out
    table.write_text("draft_task_id,doc_id\n" + "".join(f"d-{n},\n" for n in range(7)))
    assert "  … and 2 more (--json or --csv lists all)\n" in run(capsys, "audit", table)[1]


def test_audit_prints_differing_hints_with_their_findings(
    tables: Path, full: DocsStore, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    for row in rows["draft"]:
        (find_path(full, row) / "raw.txt").write_text("x")
    os.utime(find_path(full, rows["draft"][0]))
    path = find_path(full, rows["draft"][0])
    (path / "metadata.json").write_text('{"format": "docid/document/2"}')
    (find_path(full, rows["draft"][1]) / "metadata.json").write_text("{")
    code, out, _ = run(capsys, "audit", "--store", path.parents[1])
    assert code == 1
    assert "a later docid wrote it; upgrade docid to read it\n" in out
    assert "  -> " not in out


def test_audit_writes_json_and_csv(
    tables: Path, full: DocsStore, rows: Rows, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.rmtree(find_path(full, rows["evaluation"][0]))
    (find_path(full, rows["draft"][0]).parent / "notes.txt").write_text("mine")
    root = find_path(full, rows["draft"][0]).parents[1]
    listed = tmp_path / "out.csv"
    code, out, _ = run(capsys, "audit", tables, "--store", root, "--json", "--csv", listed, "--fail-on", "warning")
    finding, summary = (json.loads(line) for line in out.splitlines())
    assert code == 1
    assert list(finding) == ["code", "level", "stage", "doc_id", "task_id", "where", "message", "hint"]
    assert (finding["code"], finding["level"]) == ("unlisted-file", "warning")
    assert summary["summary"]["stages"]["evaluation"]["pending"] == 1
    assert summary["summary"]["skipped"] == [str(tables / "models.csv")]
    where = f"{root}/draft/notes.txt"
    cell = '"{}"'.format(where.replace('"', '""')) if {",", '"'} & set(where) else where
    assert listed.read_text("utf-8").splitlines() == [
        "code,level,stage,doc_id,task_id,where,message,hint",
        f"unlisted-file,warning,draft,,,{cell},it belongs to no document,check what it is; docid does not need it",
    ]
    assert run(capsys, "audit", tables, "--store", root)[0] == 0
    assert run(capsys, "audit", tables, "--store", root, "--verify", "--jobs", "2")[0] == 0


def test_audit_names_directories_of_undeclared_stages(
    full: DocsStore, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    root = find_path(full, rows["draft"][0]).parents[1]
    code, _, err = run(capsys, "audit", "--store", root, "--stages", "draft")
    assert code == 0
    assert err == f"docid: {root} also holds essay, evaluation; --stages has only draft\n"


def test_audit_json_says_whether_store_exists(
    full: DocsStore, tables: Path, tmp_path: Path, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    def read_store(*arguments: object) -> object:
        return json.loads(run(capsys, "audit", tables, "--json", *arguments)[1].splitlines()[-1])["summary"]["store"]

    root = find_path(full, rows["draft"][0]).parents[1]
    assert read_store("--store", root) == {"location": str(root), "exists": True}
    assert read_store("--store", tmp_path / "nowhere", "--new-store") == {
        "location": f"{tmp_path}/nowhere",
        "exists": False,
    }
    assert read_store("--store", root / "draft", "--new-store") == {"location": f"{root}/draft", "exists": False}
    assert read_store() is None


def test_audit_reports_missing_store_as_empty(tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "audit", tables, "--store", tmp_path / "nowhere", "--new-store")
    assert (code, err) == (0, "")
    assert f"store {tmp_path}/nowhere does not exist yet; docid treats it as an empty store\n" in out
    assert out.endswith("\n0 errors, 0 warnings\n")


def test_audit_works_without_store(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "audit", tables / "essay_generation_tasks.csv.gz")
    assert code == 0
    assert "essay     2        -        -                -          0          -               -         0\n" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "nothing to audit; expected task tables, --store ROOT, or both", id="nothing"),
        pytest.param(["nowhere/draft_tasks.csv"], "nowhere/draft_tasks.csv: no such file or directory", id="path"),
        pytest.param(["models.csv"], "models.csv: not the name of a task table; expected", id="name"),
        pytest.param(["essay=models.csv"], "column essay_task_id: missing from the header", id="header"),
        pytest.param(["draft=unreserved.csv"], "column doc_id: missing from the header", id="not reserved"),
        pytest.param(["draft=empty.csv"], "no header; expected a CSV table", id="empty"),
        pytest.param(["empty"], "empty: a directory without task tables; expected", id="directory"),
        pytest.param(["twice"], "second table of stage draft, after", id="two of a stage"),
        pytest.param(["--store", "models.csv"], "no store at models.csv: not a directory", id="file as store"),
        pytest.param(["--jobs", "0"], "'0': expected a number of processes", id="no jobs"),
    ],
)
def test_wrong_usage_prints_one_line_and_exits_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DOCID_STORE", raising=False)
    Path("models.csv").write_text("id\nx\n")
    Path("empty.csv").write_text("")
    Path("unreserved.csv").write_text("draft_task_id\nd-1\n")
    for directory in ("empty", "twice"):
        Path(directory).mkdir()
    for name in ("draft_tasks.csv", "draft_generation_tasks.csv"):
        Path("twice", name).write_text("draft_task_id,doc_id\n")
    try:
        code, out, err = run(capsys, "audit", *arguments)
        assert err.count("\n") == 1
    except SystemExit as exit_:
        code, (out, err) = exit_.code, capsys.readouterr()  # type: ignore[assignment]
    assert (code, out) == (2, "")
    assert message in err


def test_audit_escapes_names_that_are_not_utf8(
    full: DocsStore, rows: Rows, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stage = find_path(full, rows["draft"][0]).parent
    with open(os.path.join(os.fsencode(stage), b"bad\xff"), "wb"):
        pass
    code, out, _ = run(capsys, "audit", "--store", stage.parent, "--json", "--csv", tmp_path / "out.csv")
    assert code == 0
    assert orjson.loads(out.splitlines()[0])["where"].endswith("bad\\udcff")
    assert "bad\\udcff" in (tmp_path / "out.csv").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--csv", "draft_tasks.csv"], "the command reads this file; expected another one"),
        (["--csv", "pipe"], "--csv pipe: a pipe or a device; expected a file"),
        (["--csv", ""], "empty; expected a path"),
        (["--store", ""], "empty; expected a path"),
    ],
)
def test_audit_refuses_unusable_path_and_writes_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("draft_tasks.csv").write_text("draft_task_id,doc_id\nd-1,d1\n")
    os.mkfifo("pipe")
    code, out, err = run(capsys, "audit", "draft_tasks.csv", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert Path("draft_tasks.csv").read_text() == "draft_task_id,doc_id\nd-1,d1\n"
    assert Path("pipe").is_fifo()


def test_directory_name_may_contain_equals_sign(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("draft=1").mkdir()
    Path("draft=1", "draft_tasks.csv").write_text("draft_task_id,doc_id\nd-1,d1\n")
    assert run(capsys, "audit", "draft=1")[0] == 0


def test_closed_stderr_puts_no_warning_into_json(full: DocsStore, rows: Rows) -> None:
    root = find_path(full, rows["draft"][0]).parents[1]
    (root / "other").mkdir()
    command = f"exec {shlex.join([sys.executable, '-m', 'docid', 'audit', '--store', str(root), '--json'])} 2>&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert [list(json.loads(line)) for line in done.stdout.splitlines()] == [["summary"]]


def test_audit_reports_every_damaged_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "draft_tasks.csv"
    table.write_text("draft_task_id,doc_id\nd-1\nd-2,x,y\n")
    code, out, err = run(capsys, "audit", table)
    assert (code, out) == (2, "")
    assert err.splitlines()[1:] == [
        f"  {table} row 2: 1 cell; expected 2, as in the header: add the missing cells",
        f"  {table} row 3: 3 cells; expected 2, as in the header: put quotes around a cell that contains a delimiter",
    ]


def test_closed_pipe_keeps_exit_code_of_audit(tables: Path) -> None:
    table = tables / "draft_tasks.csv"
    table.write_text("draft_task_id,doc_id\n" + "".join(f"t-{number},\n" for number in range(3000)))
    audited = shlex.join([sys.executable, "-m", "docid", "audit", str(table), "--json", "--csv", "found.csv"])
    command = f"{audited}; echo $? >&2"
    result = subprocess.run(
        ["bash", "-c", f"({command}) | head -n 1"], cwd=tables, capture_output=True, text=True, check=False
    )
    assert result.stderr == "1\n"
    assert len((tables / "found.csv").read_text().splitlines()) == 3001


def test_messages_escape_control_characters(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tables / "draft_tasks.csv"
    table.write_text("task\x1b]0;owned\x07,\u202etxt\nx,y\n", "utf-8")
    code, _, err = run(capsys, "audit", table)
    assert code == 2
    assert "task\\x1b]0;owned\\x07, \\u202etxt" in err


@pytest.mark.parametrize("where", ["docs/draft/found.csv", "docs/.docid/found.csv"])
def test_audit_refuses_csv_among_documents(
    where: str, tables: Path, full: DocsStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(full.root + "/..")
    os.makedirs("docs/.docid", exist_ok=True)
    code, _, err = run(capsys, "audit", "--store", "docs", "--csv", where)
    assert (code, "inside the store" in err) == (2, True)


def test_ignored_codes_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = DocsStore(tmp_path / "docs", durability="none")
    for number in range(3):
        store.write(Document(stage="draft", doc_id=f"d{number}", task_id=f"t-{number}", raw_text="x"))
    table = tmp_path / "draft_tasks.csv"
    table.write_text("draft_task_id,doc_id\nt-1,d1\n")
    arguments = [str(table), "--store", str(tmp_path / "docs"), "--fail-on", "warning"]
    assert main(["audit", *arguments]) == 1
    assert "orphan-document (warning): 2" in capsys.readouterr().out
    assert main(["audit", *arguments, "--ignore", "orphan-document,parent-changed"]) == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out
    assert main(["audit", *arguments, "--ignore", ","]) == 2
    assert "--ignore: expected codes separated by commas" in capsys.readouterr().err
    assert main(["audit", *arguments, "--ignore", "orphans"]) == 2
    assert "--ignore orphans: not a code; expected duplicate-doc-id" in capsys.readouterr().err
    with pytest.raises(ValueError, match="ignore: 'orphans'; expected codes of findings"):
        audit(store, ignore=["orphans"])

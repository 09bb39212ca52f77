"""The commands of curation: link, scores, select, replay, migrate, backfill; and random salts."""

from __future__ import annotations

import csv
import json
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, Document, DraftTask, read_tasks, reserve_doc_id
from docid.cli import main


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    try:
        code = main([str(each) for each in arguments])
    except SystemExit as error:
        code = int(error.code or 0)
    out, err = capfd.readouterr()
    return code, out, err


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of two drafts, two essays and four evaluations, in the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCID_STORE", "docs")
    store = DocsStore("docs", durability="none")
    documents = []
    for n in (1, 2):
        metadata = {"template_id": "plain", "model_id": "m-1", "combo_id": f"c-{n}"}
        documents += [
            Document(stage="draft", doc_id=f"d{n}", task_id=f"t-{n}", raw_text="x", metadata=metadata),
            Document(
                stage="essay",
                doc_id=f"e{n}",
                task_id=f"t-{n}__essay",
                parent_doc_id=f"d{n}",
                raw_text="x",
                prompt_text="Write.",
                metadata={"template_id": "theme"},
            ),
        ]
    for n, essay, parsed in ((1, "e1", "4"), (2, "e2", "7.5"), (3, "e2", None), (4, "e1", "good")):
        evaluation: dict[str, Any] = {
            "parent_doc_id": essay,
            "parsed_text": parsed,
            "metadata": {"template_id": "kind"},
        }
        documents.append(Document(stage="evaluation", doc_id=f"v{n}", task_id=f"v-{n}", raw_text="x", **evaluation))
    store.write_many(documents)
    return tmp_path / "docs"


# --- reserve -----------------------------------------------------------------------------------------------------


def test_random_salt_is_shared_by_all_tables_and_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("draft_tasks.csv").write_text("draft_task_id\na\nb\n")
    Path("essay_tasks.csv").write_text("essay_task_id,draft_task_id\n1,a\n")
    tables = ("draft_tasks.csv", "essay_tasks.csv")
    code, out, _ = run(capfd, "reserve", *tables, "--salt", "random", "--dry-run")
    assert (code, "salt" in out) == (0, False)
    code, out, _ = run(capfd, "reserve", *tables, "--salt", "random", "--run-id", "r-1")
    assert code == 0
    [salt] = set(re.findall("; salt (s[0-9a-f]{16})\n", out))
    assert out.count(salt) == 2
    one, two = read_tasks("draft_tasks.csv", DraftTask)
    assert (one.doc_salt, two.doc_salt, one.doc_run_id) == (salt, salt, "r-1")
    assert one.doc_id == reserve_doc_id("draft", "a", "r-1", salt)
    assert Path("essay_tasks.csv").read_text().splitlines()[1].startswith(f"1,a,{one.doc_id},r-1,{salt},")
    before = [Path(name).read_bytes() for name in tables]
    code, out, _ = run(capfd, "reserve", *tables, "--salt", "random")
    assert (code, "salt" in out) == (0, False)
    assert [Path(name).read_bytes() for name in tables] == before


def test_random_salt_is_printed_with_ids(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capfd, "reserve", "--stage", "draft", "--task-id", "a", "--salt", "random")
    salt = err.removeprefix("docid: salt ").strip()
    assert (code, out) == (0, reserve_doc_id("draft", "a", salt=salt) + "\n")
    _, again, _ = run(capfd, "reserve", "--stage", "draft", "--task-id", "a", "--salt", "random")
    assert again != out


@pytest.mark.parametrize("digits", ["1234567890123456", "12345678901234e5", "0000000000000000"])
def test_random_salt_never_looks_like_a_number(
    digits: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("docid.cli.inputs.nonce", lambda: digits)
    _, _, err = run(capfd, "reserve", "--stage", "draft", "--task-id", "a", "--salt", "random")
    assert err == f"docid: salt s{digits}\n"


# --- link --------------------------------------------------------------------------------------------------------


def test_link_fills_ids_and_prints_notes(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = "".join(f"t-{n}__essay\n" for n in range(1, 9))
    Path("essay_tasks.csv").write_text("essay_task_id\n" + text)
    code, out, err = run(capfd, "link", "essay_tasks.csv", "--dry-run")
    assert (code, err) == (0, "")
    assert out == (
        "essay_tasks.csv: 8 rows, would be linked: 2 (0 kept), 2 parent_doc_id; 6 without parent_doc_id\n"
        "no-document: 6\n"
        + "".join(
            f"  essay_tasks.csv row {n + 1} (task_id='t-{n}__essay'): no document of this task is in the store\n"
            for n in range(3, 8)
        )
        + "  … and 1 more (--json lists all)\n"
    )
    assert Path("essay_tasks.csv").read_text() == "essay_task_id\n" + text
    code, out, _ = run(capfd, "link", "essay_tasks.csv", "--json")
    *notes, summary = map(json.loads, out.splitlines())
    assert (code, len(notes), notes[0]["note"]["kind"]) == (0, 6, "no-document")
    assert summary["summary"] == {
        "table": "essay_tasks.csv",
        "dry_run": False,
        "rows": 8,
        "filled": 2,
        "kept": 0,
        "parents_filled": 2,
        "parents_missing": 6,
        "notes": 6,
    }
    Path("mine.csv").write_text("draft_task_id\nt-1\n")
    code, out, _ = run(capfd, "link", "draft=mine.csv")
    assert (code, out) == (0, "mine.csv: 1 row, linked: 1 (0 kept)\n")
    assert Path("mine.csv").read_text() == "draft_task_id,doc_id\nt-1,d1\n"


# --- scores and select -------------------------------------------------------------------------------------------


def test_scores_writes_table(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (root / "other").mkdir()
    code, out, err = run(capfd, "scores", "-o", "scores.csv")
    assert (code, out) == (
        0,
        "scores.csv: written\n"
        "4 documents of stage evaluation: 2 with a score\n"
        "  no parsed text: 1\n"
        "  parsed text is not a number: 1\n",
    )
    assert "docs also holds other" in err
    rows = list(csv.DictReader(Path("scores.csv").read_text().splitlines()))
    assert [(row["doc_id"], row["score"], row["draft_doc_id"]) for row in rows] == [
        ("v1", "4.0", "d1"),
        ("v2", "7.5", "d2"),
        ("v3", "", "d2"),
        ("v4", "", "d1"),
    ]
    before = Path("scores.csv").read_bytes()
    code, out, _ = run(capfd, "scores", "-o", "scores.csv", "--dry-run")
    assert (code, out.splitlines()[0]) == (0, "scores.csv: would be replaced")
    code, out, _ = run(capfd, "scores", "-o", "scores.csv")
    assert (out.splitlines()[0], Path("scores.csv").read_bytes()) == ("scores.csv: replaced", before)
    code, out, err = run(capfd, "scores")
    assert (code, out.encode()) == (0, before)
    assert "2 with a score" in err
    code, out, _ = run(capfd, "scores", "--stage", "essay", "--json")
    assert [json.loads(line)["error"] for line in out.splitlines()] == ["no parsed text"] * 2
    assert [json.loads(line)["score"] for line in out.splitlines()] == [None] * 2
    code, out, _ = run(capfd, "scores", "--json")
    assert {json.loads(line)["score"] for line in out.splitlines()} == {7.5, 4.0, None}


def test_select_writes_best_rows(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(capfd, "scores", "-o", "scores.csv")
    options = ("select", "--scores", "scores.csv", "--top", 1)
    code, out, err = run(capfd, *options, "-o", "essay_tasks.csv")
    assert (code, err) == (0, "")
    assert out == (
        "essay_tasks.csv: written\n"
        "4 evaluations, 2 documents of stage essay with a score (max); 1 selected\n"
        "  7.5  essay/e2  t-2__essay\n"
        "no-score: 2\n"
        "  evaluations: without a score\n"
        "below: 1\n"
        "  essay/e1: its score 4.0 is not among the best 1\n"
        "unsaid: 1\n"
        "  column generation_model_name: empty in 1 row: the documents have no value for it\n"
    )
    written = Path("essay_tasks.csv").read_text()
    assert written == (
        "essay_task_id,parent_doc_id,draft_task_id,combo_id,draft_template,essay_template,generation_model,"
        "generation_model_name,essay_doc_id,doc_id\n"
        "t-2__essay,d2,t-2,c-2,plain,theme,m-1,,e2,e2\n"
    )
    run(capfd, *options, "-o", "essay_tasks.csv")
    assert Path("essay_tasks.csv").read_text() == written
    code, out, err = run(capfd, *options)
    assert (code, out) == (0, written)
    assert "1 selected" in err
    code, out, err = run(capfd, *options[:-1], 9, "--templates", "other, kind", "--aggregate", "mean", "--json")
    assert [json.loads(line)["doc_id"] for line in out.splitlines()] == ["e2", "e1"]
    assert "fewer than --top 9" in err
    notes = [json.loads(line)["note"] for line in err.splitlines() if line.startswith("{")]
    assert [note["kind"] for note in notes][:2] == ["unknown-template", "no-score"]
    code, out, err = run(capfd, *options, "--templates", "styel", "-o", "essay_tasks.csv")
    assert (code, out.splitlines()[0]) == (0, "essay_tasks.csv: not written, because no document was selected")
    assert Path("essay_tasks.csv").read_text() == written


def test_select_prints_first_rows_only(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = DocsStore("docs", durability="none")
    store.write_many([Document(stage="draft", doc_id=f"x{n}", task_id=f"x-{n}", raw_text="") for n in range(20)])
    Path("scores.csv").write_text("parent_doc_id,score\n" + "".join(f"x{n},{n}\n" for n in range(20)))
    code, out, _ = run(capfd, "select", "--scores", "scores.csv", "--top", 12, "--stage", "draft", "-o", "best.csv")
    assert code == 0
    assert out.count("  draft/x") == 15  # ten selected, five not selected
    assert "  … and 2 more\n" in out


# --- replay ------------------------------------------------------------------------------------------------------


def test_replay_of_unusable_document_keeps_table(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (root / "essay" / "e1" / "metadata.json").write_text("{")
    Path("mine.csv").write_text("mine\n")
    code, out, err = run(capfd, "replay", "essay/e1", "-o", "mine.csv")
    assert (code, out, Path("mine.csv").read_text()) == (2, "", "mine\n")
    assert "essay/e1 at" in err
    assert "cannot be used: metadata.json: not JSON" in err


def test_replay_writes_rows(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capfd, "replay", "essay/e1", "--dry-run")
    assert (code, "--dry-run reports what --output would write" in err) == (2, True)
    code, out, err = run(capfd, "replay", "essay/e1", "e2")
    header, one, two = csv.reader(out.splitlines())
    assert code == 0
    assert dict(zip(header, one, strict=True)) == {
        "essay_task_id": "t-1__essay",
        "parent_doc_id": "d1",
        "draft_task_id": "t-1",
        "combo_id": "c-1",
        "draft_template": "plain",
        "essay_template": "theme",
        "generation_model": "m-1",
        "generation_model_name": "",
        "source_doc_id": "e1",
        "doc_id": "e1",
    }
    assert two[-1] == "e2"
    assert err.startswith("2 rows of stage essay, from the documents of docs\nthe rows keep the documents' ids, ")
    Path("old.csv").write_text("doc_id\ne2\nnan\ngone\n")
    arguments = ("replay", "--from", "essay=old.csv", "-o", "essay_tasks.csv", "--salt", "s")
    code, out, _ = run(capfd, *arguments)
    assert code == 0
    assert "1 row of stage essay" in out
    assert "gone: 1\n  essay/gone: " in out
    written = Path("essay_tasks.csv").read_text()
    assert written.splitlines()[1].endswith(f",e2,s,{reserve_doc_id('essay', 't-2__essay', salt='s')}")
    run(capfd, *arguments)
    assert Path("essay_tasks.csv").read_text() == written
    # The row can run: the store has the source document, and no document with the new id.
    assert run(capfd, "audit", "essay_tasks.csv")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["replay"], "expected either documents or --from TABLE", id="replay of nothing"),
        pytest.param(["replay", "d1", "--from", "x_tasks.csv"], "expected either", id="replay of both"),
        pytest.param(["replay", "d1", "e1"], "documents of stages draft, essay; expected one", id="two stages"),
        pytest.param(["replay", "q"], "q: no such document in stage", id="no such document"),
        pytest.param(
            ["replay", "--from", "draft=bad.csv"], "bad.csv row 2, column doc_id: 'D1'; not a doc id", id="id"
        ),
        pytest.param(["replay", "--from", "bad.csv"], "bad.csv: not the name of a task table;", id="no stage"),
        pytest.param(["replay", "d1", "-o", "docs"], "--output docs: a directory; expected a file", id="a directory"),
        pytest.param(["replay", "d1", "-o", ""], "--output: empty; expected a path", id="no path"),
        pytest.param(["replay", "d1", "-o", "x", "--json"], "expected one of the two", id="json and output"),
        pytest.param(["scores", "--store", "nowhere"], "no store at nowhere", id="no store"),
        pytest.param(["scores", "--stage", "chapter"], "chapter", id="no such stage"),
        pytest.param(
            ["scores", "-o", "no/where.csv", "--dry-run"], "directory no does not exist; create", id="plan of no place"
        ),
        pytest.param(
            ["replay", "--from", "draft=ok.csv", "-o", "ok.csv"], "the command reads this file", id="over its own"
        ),
        pytest.param(["migrate", "--tables", "none"], "none: no such file or directory", id="no such tables"),
        pytest.param(["scores", "-o", "no/where.csv"], "no/where.csv", id="no directory for the output"),
        pytest.param(["select", "--scores", "s.csv", "--top", "0"], "'0': expected a number of documents", id="top 0"),
        pytest.param(["select", "--scores", "none.csv", "--top", "1"], "none.csv", id="no scores"),
        pytest.param(
            ["select", "--scores", "bad.csv", "--top", "1"], "column parent_doc_id: missing", id="no scores in it"
        ),
        pytest.param(
            ["select", "--scores", "s.csv", "--top", "1", "-o", "s.csv"], "the command reads this file", id="over it"
        ),
        pytest.param(
            ["select", "--scores", "s.csv", "--top", "1", "--templates", ","], "--templates: expected", id="none"
        ),
        pytest.param(["link", "bad.csv"], "bad.csv: not the name of a task table;", id="link without a stage"),
        pytest.param(["link", "draft=bad.csv"], "column draft_task_id: missing", id="link of no table"),
        pytest.param(["migrate", "--tables", "docs"], "docs: a directory without task tables;", id="no tables"),
        pytest.param(["migrate", "--apply", "--dry-run"], "not allowed with argument", id="both"),
        pytest.param(
            ["backfill", "--set", "k", "--from", "x_tasks.csv"], "expected [STAGE=]TABLE:COLUMN", id="no column"
        ),
        pytest.param(
            ["backfill", "--set", "k", "--from", "draft=bad.csv:"], "expected [STAGE=]TABLE:", id="empty column"
        ),
        pytest.param(["backfill", "--set", "stage", "--from", "draft=bad.csv:x"], "expected a metadata key", id="ours"),
    ],
)
def test_wrong_usage_prints_one_line(
    root: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    Path("bad.csv").write_text("doc_id,x\nD1,y\n")
    Path("s.csv").write_text("parent_doc_id,score\ne1,1\n")
    Path("ok.csv").write_text("doc_id\nd1\n")
    code, out, err = run(capfd, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1 or err.startswith(("usage: ", "docid: 2 problems:\n"))
    assert Path("s.csv").read_text() == "parent_doc_id,score\ne1,1\n"


# --- migrate and backfill ----------------------------------------------------------------------------------------


@pytest.fixture
def old(root: Path) -> Path:
    for doc_id, record in (("o1", {"task_id": "o-1"}), ("o2", {}), ("o3", {"task_id": "o-3", "stage": "x"})):
        (root / "draft" / doc_id).mkdir()
        (root / "draft" / doc_id / "metadata.json").write_text(json.dumps(record))
        (root / "draft" / doc_id / "raw.txt").write_text("x")
    return root


def test_migrate_plans_then_applies(old: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("tables").mkdir()
    Path("tables/draft_tasks.csv").write_text("draft_task_id,doc_id\no-9,o1\no-2,o2\n")
    before = (old / "draft/o1/metadata.json").read_bytes()
    (old / "other").mkdir()
    code, out, err = run(capfd, "migrate", "--tables", "tables", "--dry-run")
    assert (code, "docs also holds other" in err) == (1, True)
    assert out == (
        "differs     docs/draft/o1 (task_id='o-1'): task_id is 'o-1' in its record (kept), and 'o-9' in the table\n"
        "left alone  docs/draft/o3 (task_id='o-3'): stage is 'x' in its record, but docid reserves this key; rename it\n"
        "draft: 5 documents: 2 to migrate, 2 already current, 1 left alone\n"
        "essay: 2 documents: 0 to migrate, 2 already current, 0 left alone\n"
        "evaluation: 4 documents: 0 to migrate, 4 already current, 0 left alone\n"
        "  created_at from the time of raw.txt: 2\n"
        "  task_id from the table: 1\n"
        "dry run: --apply makes these changes\n"
    )
    assert (old / "draft/o1/metadata.json").read_bytes() == before
    code, out, _ = run(capfd, "migrate", "--tables", "tables", "--apply")
    assert (code, "draft: 5 documents: 2 migrated, 2 already current, 1 left alone\n" in out) == (1, True)
    assert "--apply" not in out
    code, out, _ = run(capfd, "migrate", "--json")
    facts = {each["doc_id"]: each for each in map(json.loads, out.splitlines())}
    assert code == 1
    assert {each["action"] for name, each in facts.items() if name != "o3"} == {"current"}
    assert facts["o3"]["error"] is None
    (old / "draft/o3/metadata.json").write_text('{"task_id": "o-3", "created_at": "2025-01-01T00:00:00"}')
    assert run(capfd, "migrate", "--apply", "--assume-utc")[0] == 0


def test_backfill_sets_missing_values(old: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table = Path("draft_tasks.csv")
    table.write_text("draft_task_id,doc_id,model:1\nt-1,d1,m\nt-2,d2,\no-1,o1,m\nq,gone,m\n")
    arguments = ("backfill", "--set", "origin", "--from", "draft_tasks.csv:model")
    assert run(capfd, *arguments)[0] == 2
    table.write_text(table.read_text().replace("model:1", "model"))
    code, out, _ = run(capfd, *arguments, "--dry-run")
    assert (code, out) == (
        1,
        "left alone  docs/draft/o1 (task_id='o-1'): its record was written by an older system; run 'docid "
        "migrate --apply' first\n"
        "origin from draft_tasks.csv, column model: 1 would be set, 0 already set, 1 without a value in the table, "
        "1 not in the store, 0 without doc_id, 1 left alone\n",
    )
    run(capfd, "migrate", "--apply")
    code, out, _ = run(capfd, *arguments)
    assert (code, "2 set, 0 already set" in out) == (0, True)
    code, out, _ = run(capfd, *arguments)
    assert (code, "0 set, 2 already set" in out) == (0, True)
    table.write_text(table.read_text().replace("t-1,d1,m", "t-1,d1,other"))
    code, out, _ = run(capfd, *arguments)
    assert (
        "differs     docs/draft/d1 (task_id='t-1'): origin is 'm' in its record (kept), and 'other' in the table\n"
        in out
    )
    code, out, _ = run(capfd, *arguments, "--json")
    assert [json.loads(line)["action"] for line in out.splitlines()] == ["current", "empty", "current", "absent"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_output_may_be_a_pipe(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe")
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(Path("pipe").read_bytes()))
    reader.start()
    code, out, err = run(capfd, "scores", "-o", "pipe")
    reader.join(10)
    assert (code, out) == (0, "")
    assert "2 with a score" in err
    assert received[0].startswith(b"doc_id,parent_doc_id,")
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)


def test_migrate_continues_after_closed_pipe(root: Path) -> None:
    for number in range(300):
        (root / "draft" / f"o{number}").mkdir()
        (root / "draft" / f"o{number}" / "metadata.json").write_text(
            '{"task_id": "t", "created_at": "2025-01-01T00:00Z"}'
        )
        (root / "draft" / f"o{number}" / "raw.txt").write_text("x")
    command = [sys.executable, "-m", "docid", "migrate", "--apply", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait() == 0
    assert not any(document.legacy for document in DocsStore("docs").documents("draft"))

"""Paths in the arguments of commands: `=` and `:` in their names, and files that a command reads."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from docid import DocsStore, Document, reserve_doc_id
from docid.backends import LocalBackend
from docid.cli import main
from docid.cli.arguments import UsageError
from docid.cli.inputs import find_column, find_table
from docid.core.stages import DEFAULT_STAGES

DRAFTS = "draft_task_id\nt-1\n"
ESSAYS = "essay_task_id,parent_doc_id,doc_id,__metadata:tone\nt__x,d1,e1,warm\n"
# Directories as Hive names them; the last two begin like STAGE=TABLE and like a URL.
DIRECTORIES = ["date=2026-01-01", "12:30", "essay=1", "draft=essay=1", "memory:1", "=", ":"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DOCID_STORE", raising=False)
    store = DocsStore("docs", durability="none")
    store.write(Document(stage="draft", doc_id="d1", task_id="t", raw_text="x", prompt_text="p"))
    store.write(Document(stage="essay", doc_id="e1", task_id="t__x", parent_doc_id="d1", raw_text="x", prompt_text="p"))
    store.write(
        Document(stage="evaluation", doc_id="v1", task_id="v", parent_doc_id="e1", raw_text="7", parsed_text="7")
    )
    return tmp_path


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(each) for each in arguments])
    out, err = capfd.readouterr()
    return code, out, err


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_every_command_reads_the_file_that_exists(
    directory: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path(directory).mkdir()
    drafts, essays, other = (f"{directory}/{name}" for name in ("draft_tasks.csv", "essay_tasks.csv", "other.csv"))
    for path, text in ((drafts, DRAFTS), (essays, ESSAYS), (other, ESSAYS)):
        Path(path).write_text(text)
    store = ("--store", "docs")
    assert run(capfd, "reserve", drafts) == (0, f"{drafts}: 1 row, filled: 1 doc_id (0 kept)\n", "")
    Path(f"{directory}/new.csv").write_text("essay_task_id,draft_task_id\nn,t-1\n")
    code, out, _ = run(capfd, "reserve", f"essay={directory}/new.csv", "--parents", drafts)
    assert (code, "1 parent_doc_id (0 kept)" in out) == (0, True)
    for tables in ([essays], [f"essay={other}"], [directory]):
        code, out, err = run(capfd, "audit", *tables, *store, "--json")
        assert (code, err) == (0, "")
        assert '"stage": "essay"' not in out  # no finding
    for table in (essays, f"essay={other}"):
        assert run(capfd, "link", table, *store)[0] == 0
        assert run(capfd, "replay", "--from", table, *store)[1].splitlines()[1].startswith("t__x,")
        code, out, _ = run(
            capfd, "backfill", "--set", "tone", "--from", f"{table}:__metadata:tone", *store, "--dry-run"
        )
        assert (code, "1 would be set" in out) == (0, True)
        assert run(capfd, "migrate", "--tables", table, *store)[0] == 0
        assert run(capfd, "report", "--tables", table, *store, "-o", f"{directory}/page.html")[0] == 0
    assert run(capfd, "audit", *store, "--csv", f"{directory}/findings.csv")[0] == 0
    assert run(capfd, "scores", *store, "-o", f"{directory}/scores.csv")[0] == 0
    select = ("select", "--scores", f"{directory}/scores.csv", "--top", 1, *store)
    assert run(capfd, *select, "-o", f"{directory}/best.csv")[0] == 0
    assert Path(directory, "best.csv").read_text().startswith("essay_task_id,")
    assert run(capfd, "copy", "docs", f"{directory}/docs")[0] == 0
    assert run(capfd, "ls", "essay", "--store", f"{directory}/docs", "--ids")[1] == "essay/e1\n"


def test_store_in_a_directory_that_looks_like_a_url(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for root in ("memory:docs", "./s3://docs", f"{here}/a://docs"):
        os.makedirs(os.path.dirname(root) or ".", exist_ok=True)
        assert run(capfd, "copy", "docs", root)[0] == 0
        assert isinstance(DocsStore(root).backend, LocalBackend)
        assert run(capfd, "ls", "draft", "--store", root, "--ids")[1] == "draft/d1\n"


def test_existing_file_wins_over_stage_and_table(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("draft=t.csv").write_text(DRAFTS)
    Path("t.csv").write_text(DRAFTS)
    code, _, err = run(capfd, "reserve", "draft=t.csv")
    assert (code, "draft=t.csv: not the name of a task table; expected" in err) == (2, True)
    assert run(capfd, "reserve", "draft=draft=t.csv")[0] == 0
    assert Path("draft=t.csv").read_text().endswith(f"t-1,{reserve_doc_id('draft', 't-1')}\n")
    assert run(capfd, "reserve", "draft=./t.csv")[1].startswith("./t.csv: 1 row, filled: 1")


def test_missing_file_is_taken_apart(here: Path) -> None:
    assert find_table("draft=x.csv", DEFAULT_STAGES) == ("draft", "x.csv")
    assert find_table("a=b/draft_tasks.csv", DEFAULT_STAGES) == ("draft", "a=b/draft_tasks.csv")
    assert find_column("draft=x.csv:a", DEFAULT_STAGES) == ("draft", "x.csv", "a")


def test_longest_existing_path_is_the_table(here: Path) -> None:
    for name in ("draft_tasks.csv", "draft_tasks.csv:a"):
        Path(name).write_text(DRAFTS)
    assert find_column("draft_tasks.csv:b:c", DEFAULT_STAGES) == ("draft", "draft_tasks.csv", "b:c")
    assert find_column("draft=draft_tasks.csv:a:b", DEFAULT_STAGES) == ("draft", "draft_tasks.csv:a", "b")
    assert find_column("draft_tasks.csv:b:", DEFAULT_STAGES) == ("draft", "draft_tasks.csv", "b:")
    for text, wrong in (
        ("draft_tasks.csv", "expected [STAGE=]TABLE:COLUMN"),
        (":a", "expected [STAGE=]TABLE:COLUMN"),
        ("draft_tasks.csv:", "expected [STAGE=]TABLE:COLUMN"),
        ("no.csv:b:c", "no such table as no.csv:b or no.csv; expected"),
    ):
        with pytest.raises(UsageError) as caught:
            find_column(text, DEFAULT_STAGES)
        assert wrong in str(caught.value)


@pytest.mark.parametrize("directory", ["plain", "date=1", "essay=1"])
@pytest.mark.parametrize("link", ["same", "symlink", "hard link"])
def test_no_command_replaces_a_file_that_it_reads(
    directory: str, link: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path(directory).mkdir()
    essays, drafts, scores = (Path(directory, f"{name}.csv") for name in ("essay_tasks", "draft_tasks", "scores"))
    essays.write_text(ESSAYS)
    drafts.write_text("draft_task_id,doc_id\nt,d1\n")
    assert run(capfd, "scores", "--store", "docs", "-o", scores)[0] == 0
    before = {path: path.read_bytes() for path in (essays, drafts, scores)}

    def name_again(path: Path) -> Path:
        other = Path(f"{path}.again")
        if link == "symlink":
            other.symlink_to(path.absolute())
        elif link == "hard link":
            os.link(path, other)
        return path if link == "same" else other

    again = {path: name_again(path) for path in before}
    store = ("--store", "docs")
    for arguments, path in (
        (("replay", "--from", essays, "-o"), essays),
        (("replay", "--from", f"essay={essays}", "-o"), essays),
        (("select", "--scores", scores, "--top", 1, "-o"), scores),
        (("audit", essays, "--csv"), essays),
        (("audit", directory, "--csv"), drafts),
        (("report", "--tables", essays, "-o"), essays),
    ):
        code, out, err = run(capfd, *arguments, again[path], *store)
        assert (code, out) == (2, "")
        assert f"{again[path]}: the command reads this file; expected another one\n" in err
    assert {path: path.read_bytes() for path in before} == before


def test_one_file_is_the_table_of_one_stage(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("essay_tasks.csv").write_text("essay_task_id,draft_task_id\nt__x,t\n")
    Path("link.csv").symlink_to("essay_tasks.csv")
    for arguments in (
        ("reserve", "essay_tasks.csv", "draft=link.csv"),
        ("reserve", "essay_tasks.csv", "--parents", "draft=./essay_tasks.csv"),
        ("audit", "essay_tasks.csv", "draft=essay_tasks.csv"),
    ):
        code, _, err = run(capfd, *arguments)
        assert (code, "expected one table per stage" in err) == (2, True)
    assert Path("essay_tasks.csv").read_text() == "essay_task_id,draft_task_id\nt__x,t\n"


def test_backfill_sets_values_of_a_column_with_colons(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("essay_tasks.csv").write_text(ESSAYS)
    command = ("backfill", "--set", "tone", "--from", "essay_tasks.csv:__metadata:tone", "--store", "docs")
    code, out, _ = run(capfd, *command)
    assert (code, out.startswith("tone from essay_tasks.csv, column __metadata:tone: 1 set")) == (0, True)
    assert json.loads(Path("docs/essay/e1/metadata.json").read_text())["tone"] == "warm"

"""Tables separated by semicolons or tabs, in every command that reads a table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from docid import DocsStore, Document, DraftTask, read_tasks
from docid.cli import main
from docid.curate import link
from docid.report import page

NAMES = {";": ";", "\t": "tab"}


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    out, err = capfd.readouterr()
    return code, out, err


@pytest.fixture(params=[";", "\t"], ids=["semicolon", "tab"])
def delimiter(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delimiter: str) -> Path:
    monkeypatch.chdir(tmp_path)
    DocsStore("docs").write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="x"))
    path = Path("draft_tasks.csv")
    lines = ["draft_task_id,doc_id,mood", "t-1,,calm", "t-2,,loud"]
    path.write_text("".join(f"{line}\n" for line in lines).replace(",", delimiter))
    return path


def test_link_fills_the_table_and_keeps_its_delimiter(
    table: Path, delimiter: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capfd, "link", str(table), "--store", "docs", "--delimiter", NAMES[delimiter])
    assert (code, out.partition(" (")[0]) == (0, "draft_tasks.csv: 2 rows, linked: 1")
    assert table.read_text().splitlines()[1] == f"t-1{delimiter}d1{delimiter}calm"
    assert link(table, DocsStore("docs"), delimiter="auto", dry_run=True).kept == 1


def test_commands_that_read_columns_find_the_delimiter(
    table: Path, delimiter: str, capfd: pytest.CaptureFixture[str]
) -> None:
    link(table, DocsStore("docs"), delimiter=delimiter)
    code, out, _ = run(capfd, "backfill", "--set", "mood", "--from", f"{table}:mood", "--store", "docs")
    assert (code, "1 set" in out) == (0, True)
    assert DocsStore("docs").open("draft", "d1").metadata == {"mood": "calm"}
    assert run(capfd, "replay", "--from", str(table), "--store", "docs")[1].splitlines()[1].startswith("t-1,")
    old = Path("docs/draft/0old1")
    old.mkdir()
    (old / "raw.txt").write_text("x")
    (old / "metadata.json").write_text("{}")
    table.write_text(table.read_text().replace(f"t-2{delimiter}", f"t-2{delimiter}0old1"))
    assert run(capfd, "migrate", "--tables", str(table), "--store", "docs", "--apply")[0] == 0
    assert DocsStore("docs").open("draft", "0old1").task_id == "t-2"


def test_report_takes_the_delimiter(table: Path, delimiter: str, capfd: pytest.CaptureFixture[str]) -> None:
    made = page(DocsStore("docs"), {"draft": table}, delimiter=delimiter)
    assert made.audit.stages["draft"].rows == len(
        list(read_tasks(table, DraftTask, reserved=False, delimiter=delimiter))
    )
    arguments = ("report", "--tables", str(table), "--store", "docs", "-o", "page.html", "--json")
    code, out, _ = run(capfd, *arguments, "--delimiter", NAMES[delimiter])
    assert (code, json.loads(out)["documents"]) == (0, 1)

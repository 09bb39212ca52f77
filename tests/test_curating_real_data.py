"""Curation of a real legacy store and its tables, from migrate to replay; each command runs twice."""

from __future__ import annotations

import csv
import hashlib
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from docid import DocsStore, EvaluationTask, read_tasks, write_tasks
from docid.cli import main
from tests import unpack

Command = Callable[..., str]


def hash_files(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def work(daydreaming: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    unpack(daydreaming / "docs-store.tar.gz", tmp_path)
    # copyfile makes writable files, even if the data is read-only.
    (tmp_path / "tables").mkdir()
    for table in (daydreaming / "tables" / "active").iterdir():
        shutil.copyfile(table, tmp_path / "tables" / table.name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCID_STORE", "docs")
    return tmp_path


@pytest.fixture
def command(work: Path, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command twice: it exits 0, and the second run changes no file."""

    def run(*arguments: str) -> str:
        assert main(arguments) == 0, arguments
        printed = capfd.readouterr().out
        before = hash_files(work)
        assert main(arguments) == 0, arguments
        assert hash_files(work) == before, arguments
        capfd.readouterr()
        return printed

    return run


def test_curation_from_migrate_to_replay(work: Path, command: Command, capfd: pytest.CaptureFixture[str]) -> None:
    texts = {name: digest for name, digest in hash_files(work / "docs").items() if name.endswith(".txt")}
    printed = command("migrate", "--apply")
    assert printed == (
        "draft: 15 documents: 15 migrated, 0 already current, 0 left alone\n"
        "essay: 15 documents: 15 migrated, 0 already current, 0 left alone\n"
        "evaluation: 60 documents: 60 migrated, 0 already current, 0 left alone\n"
        "  created_at from the time of raw.txt: 90\n"
    )
    assert {name: digest for name, digest in hash_files(work / "docs").items() if name.endswith(".txt")} == texts
    assert command("audit", "tables", "--verify").endswith("\n0 errors, 0 warnings\n")

    # The tables have the older system's ids. If these are deleted, link finds the same ids in the store.
    for name in ("draft_generation_tasks.csv", "essay_generation_tasks.csv", "evaluation_tasks.csv"):
        original = (work / "tables" / name).read_bytes()
        assert "linked: 0 (" in command("link", f"tables/{name}")
        rows = read(work / "tables" / name)
        for row in rows:
            row["doc_id"] = ""
            row.update({"parent_doc_id": ""} if "parent_doc_id" in row else {})
        with (work / "tables" / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        assert f"{len(rows)} rows, linked: {len(rows)} (0 kept)" in command("link", f"tables/{name}")
        assert (work / "tables" / name).read_bytes() == original

    printed = command("scores", "-o", "scores.csv")
    assert printed == ("scores.csv: written\n60 documents of stage evaluation: 4 with a score\n  no parsed text: 56\n")
    scored = [row for row in read(work / "scores.csv") if row["score"]]
    assert [row["score"] for row in scored] == ["7.0"] * 4
    assert all(row["draft_doc_id"] and not row["error"] for row in scored)

    printed = command("select", "--scores", "scores.csv", "--top", "3", "-o", "essay_generation_tasks.csv")
    assert "60 evaluations, 4 documents of stage essay with a score (max); 3 selected\n" in printed
    assert "no-score: 56\n" in printed
    best = read(work / "essay_generation_tasks.csv")
    expected = {row["doc_id"]: row for row in read(work / "tables/essay_generation_tasks.csv")}
    assert [row["doc_id"] for row in best] == sorted(row["parent_doc_id"] for row in scored)[:3]
    for row in best:
        # Every value of the old table, except the one column that no document records.
        assert row == {**expected[row["doc_id"]], "generation_model_name": ""}

    tasks = [
        EvaluationTask(
            task_id=f"{row['doc_id']}__novelty__{model}",
            essay_task_id=row["essay_task_id"],
            evaluation_template="novelty",
            evaluation_model=model,
        )
        for row in best
        for model in ("sonnet-4", "gemini_25_pro")
    ]
    write_tasks("evaluation_tasks.csv", tasks)
    printed = command("reserve", "evaluation_tasks.csv", "--parents", "essay_generation_tasks.csv", "--salt", "random")
    assert "6 rows, filled: 6 doc_id (0 kept), 6 parent_doc_id (0 kept); salt " in printed
    reserved = list(read_tasks("evaluation_tasks.csv", EvaluationTask))
    assert [row.parent_doc_id for row in reserved] == [row["doc_id"] for row in best for _ in range(2)]
    printed = command("audit", "essay_generation_tasks.csv", "evaluation_tasks.csv")
    assert "0 errors" in printed

    printed = command("replay", f"essay/{best[0]['doc_id']}", "-o", "replay.csv")
    assert "1 row of stage essay" in printed
    [row] = read(work / "replay.csv")
    assert {key: row[key] for key in best[0] if key != "essay_doc_id"} == {
        key: value for key, value in best[0].items() if key != "essay_doc_id"
    }
    command("show", f"essay/{row['source_doc_id']}", "--prompt")
    assert main(["show", f"essay/{row['source_doc_id']}", "--prompt"]) == 0
    sent = DocsStore("docs").read("essay", row["doc_id"]).prompt_text
    assert capfd.readouterr().out == sent


def test_migrated_records_keep_every_value(work: Path, command: Command) -> None:
    store = DocsStore("docs")
    before = {(stage, each.doc_id): each.record for stage in store.stages for each in store.documents(stage)}
    assert len(before) == 90
    command("migrate", "--apply")
    for (stage, doc_id), old in before.items():
        document = store.open(stage, doc_id, verify=True)
        assert {key: document.record[key] for key in old} == old
        assert next(iter(store.history(stage, doc_id))).metadata == {
            key: value for key, value in old.items() if key not in {"task_id", "parent_doc_id"}
        }


def test_backfill_copies_values_from_table(work: Path, command: Command) -> None:
    command("migrate", "--apply")
    printed = command("backfill", "--set", "combo_id", "--from", "tables/essay_generation_tasks.csv:combo_id")
    assert "15 set, 0 already set" in printed
    store = DocsStore("docs")
    assert {each.metadata["combo_id"] for each in store.documents("essay")} == {"combo_v1_5fb53e9e18fc"}
    assert command("audit", "tables", "--verify").endswith("\n0 errors, 0 warnings\n")


def test_guide_shows_real_output(
    work: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (work / "replay").mkdir()
    task = "combo_v1_5fb53e9e18fc__recursive-light__sonnet-4__synthesis-theme-narrative-v19"
    (work / "without_ids.csv").write_text(f"essay_task_id,note\n{task},by hand\nnever-run,\n")
    lines = (Path(__file__).parent.parent / "docs" / "moving.md").read_text("utf-8").splitlines()
    commands: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith("    $ docid "):
            commands.append((line.removeprefix("    $ docid "), []))
        elif commands and line.startswith("    ") and not line.startswith("    $ "):
            commands[-1][1].append(line[4:])
        elif line:
            commands.append(("", []))
        elif commands:
            commands[-1][1].append("")
    expected = [(command, "\n".join(printed).strip("\n") + "\n") for command, printed in commands if command]
    assert len(expected) > 10
    for command, printed in expected:
        assert main(shlex.split(command)) == 0, command
        assert capfd.readouterr().out == printed, command

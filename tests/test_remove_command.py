"""`docid remove`, `docid restore` and `docid erase`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from docid import DocsStore, Document, DraftTask, EssayTask, TaskTableError, write_tasks
from docid.backends import Claim, LocalBackend
from docid.cli import main
from docid.cli.remove import find_orphans
from docid.store.backends.names import entry_name
from tests.store_documents import draft, essay


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DocsStore:
    """A store with two drafts, an essay of the first one, and an evaluation."""
    monkeypatch.chdir(tmp_path)
    store = DocsStore(tmp_path / "docs", durability="none")
    store.write_many([draft(), draft("b2", "t-2"), essay()])
    store.write(Document(stage="evaluation", doc_id="v1", task_id="v-1", parent_doc_id="e1", raw_text="7"))
    return store


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main([*arguments, "--store", "docs"])
    found = capsys.readouterr()
    return code, found.out, found.err


def test_remove_plans_then_removes_and_names_the_way_back(docs: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "remove", "a1", "--descendants")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "to remove   evaluation/v1 (task_id='v-1')",
        "to remove   essay/e1 (task_id='e-1')",
        "to remove   draft/a1 (task_id='t-1')",
        "3 to remove; dry run: --apply makes these changes",
    ]
    assert docs.exists("draft", "a1")
    code, out, _ = run(capsys, "remove", "draft/a1", "--descendants", "--apply")
    [run_name] = {removed.entry for removed in docs.list_removed()}
    assert code == 0
    assert out.splitlines()[2:] == [
        "removed     draft/a1 (task_id='t-1')",
        "3 removed",
        f"  -> 'docid restore {run_name} --apply' moves them back",
    ]
    assert not docs.exists("draft", "a1")


def test_remove_leaves_a_document_with_children(docs: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "remove", "b2", "a1", "--apply")
    assert code == 1
    lines = out.splitlines()
    assert lines[0] == "removed     draft/b2 (task_id='t-2')"
    assert lines[1].startswith(
        "left        draft/a1 (task_id='t-1') was not removed: 1 document was made from it: essay/e1"
    )
    assert lines[2] == "1 removed, 1 left"
    assert lines[3].endswith("--apply' moves it back")
    code, out, _ = run(capsys, "remove", "draft/a1", "--json")
    assert (code, json.loads(out)["outcome"], json.loads(out)["entries"]) == (1, "leave", [])


def test_remove_refuses_wrong_usage(docs: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, text in (
        ([], "expected either documents, or --orphans with a --tables for each"),
        (["a1", "--orphans", "--tables", "."], "expected either documents, or --orphans"),
        (["--orphans"], "--orphans and --tables: expected both or neither"),
        (["a1", "--tables", "."], "--orphans and --tables: expected both or neither"),
        (["--orphans", "--tables", ".", "--descendants"], "expected it without --orphans"),
        (["a9"], "a9: no such document"),
    ):
        code, _, err = run(capsys, "remove", *arguments)
        assert (code, text in err) == (2, True), (arguments, err)


def test_remove_reports_records_that_it_cannot_read(docs: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    (docs.path("essay", "e1") / "metadata.json").write_text("{torn")
    code, _, err = run(capsys, "remove", "draft/b2", "--apply")
    assert (code, "not read: unreadable-record: essay/e1" in err) == (1, True)
    code, _, err = run(capsys, "erase", "draft/a1", "--apply")
    assert (code, "not read: unreadable-record: essay/e1" in err) == (1, True)


def test_remove_of_a_claimed_document_is_refused(docs: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    claim = docs.backend.take_claim("draft", "b2")
    assert isinstance(claim, Claim)
    code, out, _ = run(capsys, "remove", "draft/b2", "--apply")
    assert (code, "holds its claim; remove it when that worker has finished" in out, "1 left" in out) == (1, True, True)
    claim.release()


def test_orphans_of_tables_are_removed(docs: DocsStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = tmp_path / "2_tasks"
    tables.mkdir()
    write_tasks(tables / "draft_generation_tasks.csv", [DraftTask(task_id="t-1", doc_id="a1")])
    code, out, _ = run(capsys, "remove", "--orphans", "--tables", "2_tasks", "--apply")
    assert (code, out.splitlines()[0]) == (0, "removed     draft/b2 (task_id='t-2')")
    assert list(docs.ids("essay")) == ["e1"]  # of a stage without a table
    code, out, _ = run(capsys, "remove", "--orphans", "--tables", "2_tasks", "--apply")
    assert (code, out) == (0, "nothing to remove\n")
    write_tasks(tables / "essay_generation_tasks.csv", [EssayTask(task_id="e-9", doc_id="e9", parent_doc_id="a1")])
    code, out, _ = run(capsys, "remove", "--orphans", "--tables", "2_tasks")
    assert (code, out.splitlines()[0].startswith("left        essay/e1")) == (1, True)  # its evaluation has no table
    write_tasks(tables / "essay_generation_tasks.csv", [], row_type=EssayTask)
    code, _, err = run(capsys, "remove", "--orphans", "--tables", "2_tasks")
    assert (code, "no rows, so every document of stage essay would be an orphan" in err) == (2, True)


def test_orphans_are_documents_that_no_row_names(docs: DocsStore, tmp_path: Path) -> None:
    docs.write_many([draft(doc_id, doc_id) for doc_id in ("c3", "d4", "f5")])
    rows = [
        DraftTask(task_id="t-1", doc_id="a1", source_doc_id="c3", input_doc_ids=("draft/d4",)),
        DraftTask(task_id="t-9", doc_id="z9"),
    ]
    write_tasks(tmp_path / "draft_tasks.csv", rows)
    tables = {"draft": tmp_path / "draft_tasks.csv"}
    assert list(find_orphans(docs, tables)) == ["draft/b2", "draft/f5"]
    write_tasks(tmp_path / "essay_tasks.csv", [EssayTask(task_id="e-1", doc_id="e1", parent_doc_id="b2")])
    assert list(find_orphans(docs, {**tables, "essay": tmp_path / "essay_tasks.csv"})) == ["draft/f5"]
    (tmp_path / "draft_tasks.csv").write_text("draft_task_id,doc_id\nt-1,\n")
    with pytest.raises(TaskTableError, match="doc_id"):
        find_orphans(docs, tables)


def test_restore_refuses_an_empty_name(docs: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    docs.remove("draft", "a1", descendants=True)
    code, _, err = run(capsys, "restore", "", "--apply")
    assert (code, "ENTRY: empty; expected the name of a removal" in err) == (2, True)
    assert not docs.exists("draft", "a1")


def test_restore_lists_plans_and_restores(docs: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "restore") == (
        0,
        "",
        f"docid: nothing to restore in {docs.root}\n".replace(f"{docs.root}", "docs"),
    )
    run_name = docs.remove("draft", "a1", descendants=True).entry
    code, out, _ = run(capsys, "restore")
    assert (code, out.splitlines()[0].split("  ")[0::2]) == (0, [run_name, "3 documents"])
    assert out.splitlines()[1:] == ["  draft/a1", "  essay/e1", "  evaluation/v1"]
    code, out, _ = run(capsys, "restore", "--json")
    assert (code, json.loads(out)["documents"]) == (0, ["draft/a1", "essay/e1", "evaluation/v1"])
    other = docs.remove("draft", "b2").entry
    code, _, err = run(capsys, "restore", "20")
    assert (code, f"20: matches 2 removals: {run_name}, {other}; give more of the name" in err) == (2, True)
    assert run(capsys, "restore", other[:22], "--apply")[1].splitlines()[-1] == "1 restored"
    code, out, _ = run(capsys, "restore", run_name)
    assert (code, out.splitlines()[-1]) == (0, "3 to restore; dry run: --apply makes these changes")
    code, out, _ = run(capsys, "restore", run_name, "essay/e1", "--apply")
    assert (code, out.splitlines()[0]) == (
        1,
        "left        essay/e1 (task_id='e-1'): its parent draft/a1 is not in the store; restore that first",
    )
    code, out, _ = run(capsys, "restore", run_name, "--apply")
    assert (code, out.splitlines()[-1]) == (0, "3 restored")
    code, _, err = run(capsys, "restore", run_name, "--apply")
    assert (code, f"{run_name}: not in quarantine" in err) == (2, True)


def test_restore_leaves_what_is_no_whole_document(docs: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    removal = docs.remove("draft", "b2")
    quarantine = Path(docs.root) / ".docid" / "quarantine" / removal.entry / "draft"
    (quarantine / "b2" / "metadata.json").write_text("{torn")
    (quarantine / "c3").mkdir()  # a directory without a record is no document
    (quarantine.parent / ".docid" / "history" / "draft" / "d4").mkdir(parents=True)
    record = (docs.path("draft", "a1") / "metadata.json").read_text()
    (quarantine.parent / "poem" / "a1").mkdir(parents=True)
    (quarantine.parent / "poem" / "a1" / "metadata.json").write_text(record.replace('"draft"', '"poem"'))
    code, out, _ = run(capsys, "restore", removal.entry, "--apply")
    assert code == 1
    assert sorted(line.split(":")[0] for line in out.splitlines()) == [
        "3 left",
        "left        draft/b2",
        "left        draft/d4",
        "left        poem/a1",
    ]
    assert "its record in quarantine cannot be used" in out
    assert "only its history is in quarantine, and the store has no such document" in out
    assert "not a stage of this pipeline" in out


def test_restore_without_parents(docs: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    run_name = docs.remove("draft", "a1", descendants=True).entry
    code, out, _ = run(capsys, "restore", run_name, "essay/e1", "--without-parents", "--apply")
    assert (code, out.splitlines()) == (0, ["restored    essay/e1 (task_id='e-1')", "1 restored"])


def test_restore_completes_an_interrupted_one(docs: DocsStore) -> None:
    """A restore that was killed after it moved the document left the history in quarantine."""
    docs.write(draft("b2", "t-2", raw_text="twice"), if_exists="replace")
    run_name = docs.remove("draft", "b2").entry
    quarantine = Path(docs.root) / ".docid" / "quarantine" / run_name
    (quarantine / "draft" / "b2").rename(docs.path("draft", "b2"))
    assert list(docs.history("draft", "b2")) == []
    [planned] = docs.restore(run_name, dry_run=True)
    assert (planned.outcome, planned.done) == ("restore", False)
    [change] = docs.restore(run_name)
    assert (change.outcome, change.done) == ("restore", True)
    assert [version.raw_text for version in docs.history("draft", "b2")] == ["once"]
    assert list(docs.list_removed()) == []


def test_erase_plans_then_deletes(docs: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    docs.write(draft("b2", "t-2", raw_text="twice"), if_exists="replace")
    code, out, _ = run(capsys, "erase", "draft/b2")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("to delete  ")
    assert lines[0].endswith(" bytes)")
    assert lines[2] == "2 items of 1 document to delete; dry run: --apply deletes for good"
    assert docs.exists("draft", "b2")
    code, out, _ = run(capsys, "erase", "draft/b2", "--apply")
    assert (code, out.splitlines()[2]) == (0, "2 items of 1 document deleted")
    code, _, err = run(capsys, "erase", "draft/b2", "--apply")
    assert (code, "draft/b2: the store docs has no text of this document" in err) == (2, True)
    code, _, err = run(capsys, "erase", "b2", "--apply")
    assert (code, "expected the stage and the doc id" in err) == (2, True)


def test_erase_refuses_children_and_claimed_documents(docs: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "erase", "draft/a1", "--apply")
    assert (code, "may quote it: essay/e1; erase it too" in err) == (1, True)
    claim = docs.backend.take_claim("draft", "b2")
    code, _, err = run(capsys, "erase", "draft/b2", "--apply")
    assert (code, "holds its claim" in err) == (1, True)
    assert isinstance(claim, Claim)
    claim.release()
    code, out, _ = run(capsys, "erase", "draft/a1", "--descendants", "--apply", "--json")
    facts = [json.loads(line) for line in out.splitlines()]
    assert (code, [each["document"] for each in facts]) == (0, ["evaluation/v1", "essay/e1", "draft/a1"])
    assert all(each["done"] and each["error"] is None for each in facts)


def test_erase_reports_failures(
    docs: DocsStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (docs.path("essay", "e1") / "metadata.json").write_text("{torn")

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(LocalBackend, "erase_trace", refuse)
    code, out, err = run(capsys, "erase", "draft/b2", "--apply")
    assert code == 1
    assert out.splitlines()[0].startswith("failed     ")
    assert out.splitlines()[0].endswith(": [Errno 30] Read-only file system")
    assert out.splitlines()[1] == "0 items of 1 document deleted, 1 failed"
    assert "not read: unreadable-record: essay/e1" in err


def test_erased_document_of_an_unknown_run_is_ignored(docs: DocsStore) -> None:
    """Other programs may have put directories into quarantine."""
    other = Path(docs.root) / ".docid" / "quarantine" / "by-hand" / "draft" / "b2"
    other.mkdir(parents=True)
    (other / "raw.txt").write_text("a copy")
    assert list(docs.list_removed()) == []
    assert docs.erase("draft", "b2").traces
    assert not other.exists()
    with pytest.raises(ValueError, match="not in quarantine"):
        docs.restore(entry_name(()))


def test_note_of_a_refused_erasure_is_printed(
    docs: DocsStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        error = OSError(30, "Read-only file system", "docs/draft/a1")
        error.add_note("'docid restore 2 --apply' moves it back")
        raise error

    monkeypatch.setattr(DocsStore, "erase", refuse)
    code, _, err = run(capsys, "erase", "draft/a1", "--apply")
    assert (code, err) == (2, "docid: docs/draft/a1: Read-only file system\n'docid restore 2 --apply' moves it back\n")

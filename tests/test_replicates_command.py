"""`docid reserve --replicates` adds the missing rows of replicates to tables in place."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from docid import (
    DocsStore,
    Document,
    DraftTask,
    EssayTask,
    EvaluationTask,
    TaskRow,
    audit,
    read_tasks,
    replicates,
    reserve_doc_id,
    reserve_tasks,
)
from docid.cli import main

TABLES: dict[str, type[TaskRow]] = {
    "draft_generation_tasks.csv": DraftTask,
    "essay_generation_tasks.csv": EssayTask,
    "evaluation_tasks.csv": EvaluationTask,
}
DRAFTS, ESSAYS, EVALUATIONS = TABLES


@pytest.fixture(autouse=True)
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_tables(2)
    return tmp_path


def write_tables(number: int) -> None:
    tasks = [f"t-{at}" for at in range(number)]
    write(DRAFTS, "draft_task_id,note", *(f"{task},by hand" for task in tasks))
    write(ESSAYS, "essay_task_id,draft_task_id", *(f"{task}__x,{task}" for task in tasks))
    write(EVALUATIONS, "evaluation_task_id,essay_task_id", *(f"{task}__x__v,{task}__x" for task in tasks))


def write(name: str, *lines: str) -> None:
    Path(name).write_text("\n".join((*lines, "")))


def read(name: str) -> list[Any]:
    return list(read_tasks(name, TABLES[name]))


def salts(name: str) -> list[tuple[str, str | None]]:
    return [(row.task_id, row.doc_salt) for row in read(name)]


def reserve(*arguments: str) -> int:
    return main(["reserve", *arguments])


def reserve_all(numbers: str, *more: str) -> int:
    return reserve(*TABLES, "--replicates", numbers, *more)


def usage_error(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    before = {name: Path(name).read_bytes() for name in TABLES}
    assert reserve(*arguments) == 2
    assert {name: Path(name).read_bytes() for name in TABLES} == before
    return capfd.readouterr().err


def test_new_rows_stand_after_the_rows_of_their_task() -> None:
    assert reserve(DRAFTS, "--replicates", "3") == 0
    assert salts(DRAFTS) == [
        ("t-0", None),
        ("t-0", "2"),
        ("t-0", "3"),
        ("t-1", None),
        ("t-1", "2"),
        ("t-1", "3"),
    ]
    for row in read(DRAFTS):
        assert row.doc_id == reserve_doc_id("draft", row.task_id, salt=row.doc_salt)
        assert row.extra == {"note": "by hand"}


def test_numbers_multiply_along_the_stages_and_only_grow(capfd: pytest.CaptureFixture[str]) -> None:
    write_tables(20)
    assert reserve_all("draft=5,essay=2,evaluation=3") == 0
    printed = capfd.readouterr().out
    assert f"{EVALUATIONS}: 600 rows (580 added), filled: 600 doc_id (0 kept), 600 parent_doc_id (0 kept)" in printed
    before = {name: read(name) for name in TABLES}
    assert [len(rows) for rows in before.values()] == [100, 200, 600]
    # The command gives what Python gives.
    drafts = [DraftTask(task_id=f"t-{at}", extra={"note": "by hand"}) for at in range(20)]
    made = list(reserve_tasks(replicates(drafts, 5), DraftTask))
    assert before[DRAFTS] == made
    essays = [EssayTask(task_id=f"t-{at}__x", draft_task_id=f"t-{at}") for at in range(20)]
    assert before[ESSAYS] == list(reserve_tasks(replicates(essays, 2, parents=made), EssayTask, parents=made))

    files = {name: Path(name).read_bytes() for name in TABLES}
    assert reserve_all("draft=5,essay=2,evaluation=3") == 0
    assert {name: Path(name).read_bytes() for name in TABLES} == files
    assert "added" not in capfd.readouterr().out

    assert reserve_all("draft=8,essay=2,evaluation=3") == 0
    for name, rows in before.items():
        later = read(name)
        assert len({row.doc_id for row in later}) == len(later) == len(rows) * 8 // 5
        ids = {row.doc_id for row in rows}
        assert [row for row in later if row.doc_id in ids] == rows

    files = {name: Path(name).read_bytes() for name in TABLES}
    capfd.readouterr()
    assert reserve_all("draft=1,essay=1,evaluation=1") == 0
    assert {name: Path(name).read_bytes() for name in TABLES} == files
    assert f"{DRAFTS}: 160 rows, filled: 0 doc_id (160 kept); 140 rows above the number of replicates kept" in (
        capfd.readouterr().out
    )


def test_written_replicates_audit_clean(tmp_path: Path) -> None:
    store = DocsStore(tmp_path / "docs")
    assert reserve_all("draft=2,essay=2,evaluation=2") == 0
    for name in TABLES:
        store.write_many(Document.from_task(row, raw_text=row.doc_id) for row in read(name))
    report = audit(store, {row_type.stage: read_tasks(name, row_type) for name, row_type in TABLES.items()})
    assert report.findings == ()
    assert [len(list(store.ids(stage))) for stage in store.stages] == [4, 8, 16]
    assert main(["audit", ".", "--store", "docs"]) == 0


def test_dry_run_reports_the_rows_and_changes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    before = {name: Path(name).read_bytes() for name in TABLES}
    assert reserve_all("draft=5,essay=2,evaluation=3", "--dry-run", "--json") == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(line["rows"], line["added"], line["doc_id"]) for line in lines] == [
        (10, 8, 10),
        (20, 18, 20),
        (60, 58, 60),
    ]
    assert [line["parent_doc_id"] for line in lines] == [0, 20, 60]
    assert reserve_all("draft=5", "--dry-run") == 0
    assert f"{DRAFTS}: 10 rows (8 would be added), would be filled: 10 doc_id" in capfd.readouterr().out
    assert {name: Path(name).read_bytes() for name in TABLES} == before


def test_each_parent_in_the_command_gets_rows() -> None:
    assert reserve(DRAFTS, ESSAYS, "--replicates", "draft=3") == 0
    assert salts(ESSAYS) == [("t-0__x", None), ("t-1__x", None)]
    # Without the table of the parents, new rows are for the parents that have rows.
    assert reserve(ESSAYS, "--replicates", "2") == 0
    assert salts(ESSAYS)[:2] == [("t-0__x", None), ("t-0__x", "1.2")]
    first, second, *_ = read(ESSAYS)
    assert first.parent_doc_id == second.parent_doc_id == read(DRAFTS)[0].doc_id
    assert reserve(ESSAYS, "--parents", DRAFTS, "--replicates", "1") == 0
    assert salts(ESSAYS)[:4] == [("t-0__x", None), ("t-0__x", "1.2"), ("t-0__x", "2"), ("t-0__x", "3")]
    assert reserve(DRAFTS, ESSAYS, "--replicates", "essay=2") == 0
    assert len(read(ESSAYS)) == 12


def test_rows_take_over_the_salt_of_their_only_parent() -> None:
    """After `docid select`, the table of the parents has one replicate of each task."""
    write(DRAFTS, "draft_task_id,doc_salt", "t-0,3", "t-1,")
    assert reserve(DRAFTS) == 0
    for arguments in (["--replicates", "2"], []):
        write(ESSAYS, "essay_task_id,draft_task_id", "y,t-1", "x,t-0")
        assert reserve(ESSAYS, "--parents", DRAFTS, *arguments) == 0
        found = salts(ESSAYS)
        assert found == (
            [("y", None), ("y", "1.2"), ("x", "3"), ("x", "3.2")] if arguments else [("y", None), ("x", "3")]
        )
        by_salt = {(row.task_id, row.doc_salt): row.doc_id for row in read(ESSAYS)}
        assert by_salt["x", "3"] == reserve_doc_id("essay", "x", salt="3")


def test_id_of_another_replicate_is_a_fault(capfd: pytest.CaptureFixture[str]) -> None:
    write(DRAFTS, "draft_task_id,doc_id", f"t-0,{reserve_doc_id('draft', 't-0', salt='2')}")
    error = usage_error(capfd, DRAFTS, "--replicates", "2")
    assert "two replicates of this row have the doc id" in error
    assert len(read(DRAFTS)) == 1


def test_new_rows_do_not_copy_the_id_of_the_first_one() -> None:
    """`docid select` writes the id of an essay into a column of an older system, too."""
    write(ESSAYS, "essay_task_id,parent_doc_id,essay_doc_id,note", "x,d1,e1,by hand")
    assert reserve(ESSAYS, "--replicates", "2") == 0
    assert [(row.extra["essay_doc_id"], row.extra["note"]) for row in read(ESSAYS)] == [
        ("e1", "by hand"),
        ("", "by hand"),
    ]


def test_rows_with_other_salts_stay(capfd: pytest.CaptureFixture[str]) -> None:
    write(DRAFTS, "draft_task_id,doc_salt", "t-0,", "t-0,second try", "t-1,s1")
    assert reserve(DRAFTS, "--replicates", "2") == 0
    assert salts(DRAFTS) == [("t-0", None), ("t-0", "2"), ("t-0", "second try"), ("t-1", "s1")]
    assert "2 rows with a doc_salt of another kind left alone" in capfd.readouterr().out


def test_row_that_names_its_own_parent_is_for_that_one() -> None:
    assert reserve(DRAFTS, "--replicates", "2") == 0
    second = read(DRAFTS)[1].doc_id
    write(ESSAYS, "essay_task_id,draft_task_id,parent_doc_id", f"x,t-0,{second}", "y,t-0,")
    assert reserve(ESSAYS, "--parents", DRAFTS, "--replicates", "2") == 0
    made = [("x", "2"), ("x", "2.2"), ("y", None), ("y", "1.2"), ("y", "2"), ("y", "2.2")]
    assert salts(ESSAYS) == made
    assert [row.parent_doc_id for row in read(ESSAYS)[:2]] == [second, second]
    assert reserve(ESSAYS, "--parents", DRAFTS, "--replicates", "2") == 0
    assert salts(ESSAYS) == made
    # A row with an id keeps its salt.
    write(ESSAYS, "essay_task_id,draft_task_id,parent_doc_id,doc_id", f"x,t-0,{second},e1")
    assert reserve(ESSAYS, "--parents", DRAFTS, "--replicates", "1") == 0
    assert salts(ESSAYS) == [("x", None)]


def test_row_whose_only_parent_is_a_later_replicate_counts_as_one_of_it() -> None:
    """The draft was selected. The essay was made before, so its row has no salt."""
    write(DRAFTS, "draft_task_id,doc_id,doc_salt", "t-0,d2,2")
    for parent in ("", "d2"):
        write(ESSAYS, "essay_task_id,draft_task_id,doc_id,parent_doc_id", f"x,t-0,e1,{parent}")
        for number in ("1", "2", "2"):
            assert reserve(ESSAYS, "--parents", DRAFTS, "--replicates", number) == 0
            assert salts(ESSAYS) == [("x", None), ("x", "2.2")][: int(number)]
        assert {row.parent_doc_id for row in read(ESSAYS)} == {"d2"}


def test_salt_that_a_spreadsheet_has_changed_is_a_fault(capfd: pytest.CaptureFixture[str]) -> None:
    write(DRAFTS, "draft_task_id", "t-0")
    write(ESSAYS, "essay_task_id,draft_task_id", "x,t-0")
    assert reserve(DRAFTS, ESSAYS, "--replicates", "draft=2,essay=20") == 0
    text = Path(ESSAYS).read_text()
    for salt, changed, row in (("1.10", "1.1", 11), ("1.20", "1.2", 21), ("2", "2.0", 22)):
        Path(ESSAYS).write_text(re.sub(rf",{re.escape(salt)}$", f",{changed}", text, flags=re.MULTILINE))
        error = usage_error(capfd, DRAFTS, ESSAYS, "--replicates", "draft=2,essay=20")
        assert f"row {row}, column doc_salt: '{changed}'; the doc_id is that of the salt {salt}" in error
        assert f"set it to {salt}" in error
    assert re.sub(r",2\.0$", ",2", Path(ESSAYS).read_text(), flags=re.MULTILINE) == text


def test_missing_first_replicate_is_added() -> None:
    write(DRAFTS, "draft_task_id,doc_salt", "t-0,2", "t-1,3")
    assert reserve(DRAFTS, "--replicates", "2") == 0
    assert salts(DRAFTS) == [("t-0", "2"), ("t-0", None), ("t-1", "3"), ("t-1", None), ("t-1", "2")]


def test_task_whose_parent_is_missing_is_a_fault(capfd: pytest.CaptureFixture[str]) -> None:
    write(ESSAYS, "essay_task_id,draft_task_id", "x,gone")
    error = usage_error(capfd, DRAFTS, ESSAYS, "--replicates", "draft=2,essay=2")
    assert "column draft_task_id: 'gone'; not in the parents' table" in error


def test_run_id_goes_with_replicates() -> None:
    assert reserve(DRAFTS) == 0
    assert reserve(DRAFTS, "--run-id", "r1", "--replicates", "2") == 0
    # Rows with an id keep it, and their replicates belong to their run.
    assert [(row.doc_salt, row.doc_run_id) for row in read(DRAFTS)][:2] == [(None, None), ("2", None)]
    for _ in range(2):
        assert reserve(DRAFTS, ESSAYS, "--run-id", "r1", "--replicates", "draft=2,essay=2") == 0
        assert [(row.doc_salt, row.doc_run_id) for row in read(ESSAYS)][:4] == [
            (None, "r1"),
            ("1.2", "r1"),
            ("2", "r1"),
            ("2.2", "r1"),
        ]
    essay = read(ESSAYS)[1]
    assert essay.doc_id == reserve_doc_id("essay", "t-0__x", "r1", "1.2")


def test_existing_documents_keep_their_ids(tmp_path: Path) -> None:
    store = DocsStore(tmp_path / "docs")
    store.write(Document(stage="draft", doc_id="0old", task_id="t-0", raw_text="once"))
    second = DraftTask(task_id="t-0", doc_id=reserve_doc_id("draft", "t-0", salt="2"), doc_salt="2")
    store.write(Document.from_task(second, raw_text="twice"))
    assert reserve(DRAFTS, ESSAYS, "--store", "docs", "--replicates", "draft=2,essay=1", "--dry-run") == 0
    assert reserve(DRAFTS, ESSAYS, "--store", "docs", "--replicates", "draft=2,essay=1") == 0
    assert [row.doc_id for row in read(DRAFTS)][:2] == ["0old", second.doc_id]
    assert [row.parent_doc_id for row in read(ESSAYS)][:2] == ["0old", second.doc_id]


def test_table_of_other_stages_and_delimiter() -> None:
    write("book.csv", "chapter_task_id;outline_task_id;doc_salt", "c;o;2")
    write("parts.csv", "outline_task_id;doc_salt", "o;2")
    code = reserve(
        "chapter=book.csv",
        "outline=parts.csv",
        "--stages",
        "outline,chapter",
        "--delimiter",
        ";",
        "--replicates",
        "outline=2, chapter=2",
    )
    assert code == 0
    with open("book.csv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    assert [row["doc_salt"] for row in rows] == ["2", "", "1.2", "2.2"]
    assert rows[0]["parent_doc_id"] == rows[3]["parent_doc_id"] != rows[1]["parent_doc_id"]


def test_wrong_usage_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    error = usage_error(capfd, DRAFTS, "--replicates", "2", "--salt", "random")
    assert "--replicates gives each row a salt of its own; expected it without --salt" in error
    assert "expected STAGE=NUMBER for each of several tables" in usage_error(capfd, DRAFTS, ESSAYS, "--replicates", "2")
    assert "--replicates essay: the command fills no table of stage essay" in usage_error(
        capfd, DRAFTS, "--replicates", "draft=2,essay=2"
    )
    assert "stage 'note': not a stage of this pipeline" in usage_error(capfd, DRAFTS, "--replicates", "note=2")
    assert "--parents, --replicates and --dry-run apply to tables" in usage_error(
        capfd, "--stage", "draft", "--task-id", "t", "--replicates", "2"
    )


@pytest.mark.parametrize(
    "text", ["0", "-1", "draft", "draft=", "draft=0", "2,3", "draft=2,draft=3", "draft=2,3", "²", "10001", ""]
)
def test_numbers_are_refused(capfd: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        reserve(DRAFTS, "--replicates", text)
    assert stopped.value.code == 2
    assert f"{text!r}: expected a number up to 10,000, or STAGE=NUMBER separated by commas" in capfd.readouterr().err


def test_salt_of_another_kind_with_dots_is_left_alone() -> None:
    write(DRAFTS, "draft_task_id,doc_id,doc_salt", "t-0,,", "t-1,d1,.0", "t-2,d2,v1.5")
    assert reserve(DRAFTS, "--replicates", "1") == 0
    assert salts(DRAFTS) == [("t-0", None), ("t-1", ".0"), ("t-2", "v1.5")]

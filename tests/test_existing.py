"""Reserving with a store: the document that a task already has keeps its id."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest

from docid import (
    DocsStore,
    Document,
    DraftTask,
    EssayTask,
    audit,
    read_tasks,
    reserve_doc_id,
    reserve_tasks,
    write_tasks,
)
from docid.cli import main
from docid.curate import migrate
from docid.tables.rows import row_type_of
from tests import unpack
from tests.store_documents import draft, essay


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DocsStore:
    monkeypatch.chdir(tmp_path)
    return DocsStore(tmp_path / "docs", durability="none")


def reserve(*arguments: str) -> int:
    return main(["reserve", *arguments])


def read_ids(name: str, row_type: Any = DraftTask) -> dict[str, str]:
    return {row.task_id: row.doc_id for row in read_tasks(name, row_type)}


def test_document_of_a_task_keeps_its_id(store: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    store.write(draft("0old1", task_id="t-1"))
    store.write(essay("0old2", task_id="t-1__x", parent="0old1"))
    Path("draft_tasks.csv").write_text("draft_task_id\nt-1\nt-2\n")
    Path("essay_tasks.csv").write_text("essay_task_id,draft_task_id\nt-1__x,t-1\nt-2__x,t-2\n")
    tables = ("draft_tasks.csv", "essay_tasks.csv", "--store", "docs")
    assert reserve(*tables, "--dry-run") == 0
    assert "doc_id" not in Path("draft_tasks.csv").read_text()
    planned = capsys.readouterr().out
    assert reserve(*tables) == 0
    out = capsys.readouterr().out
    assert planned.replace("would be ", "") == out
    assert "draft_tasks.csv: 2 rows, filled: 2 doc_id, 1 of existing documents (0 kept)" in out
    assert read_ids("draft_tasks.csv") == {"t-1": "0old1", "t-2": reserve_doc_id("draft", "t-2")}
    assert read_ids("essay_tasks.csv", EssayTask) == {"t-1__x": "0old2", "t-2__x": reserve_doc_id("essay", "t-2__x")}
    report = audit(store, {"draft": "draft_tasks.csv", "essay": "essay_tasks.csv"})
    assert (report.findings, report.stages["draft"].pending, report.stages["essay"].pending) == ((), 1, 1)
    # A second run changes nothing.
    assert reserve(*tables) == 0
    assert "filled: 0 doc_id (2 kept)" in capsys.readouterr().out


def test_derived_id_wins_then_the_newest_document(store: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    own = reserve_doc_id("draft", "t-1")
    for number, doc_id in enumerate(["0new", "0old", "0mid"]):
        moment = datetime(2026, 1, [9, 1, 5][number], tzinfo=UTC)
        store.write(attrs.evolve(draft(doc_id, task_id="t-2"), created_at=moment))
        store.write(attrs.evolve(draft(f"{doc_id}1", task_id="t-1"), created_at=moment))
    store.write(draft(own, task_id="t-1"))
    Path("draft_tasks.csv").write_text("draft_task_id\nt-1\nt-2\n")
    assert reserve("draft_tasks.csv", "--store", "docs", "--json") == 0
    assert read_ids("draft_tasks.csv") == {"t-1": own, "t-2": "0new"}
    summary, note = map(json.loads, capsys.readouterr().out.splitlines())
    assert summary["existing"] == 2
    assert note["note"]["kind"] == "other-documents"
    assert note["note"]["where"] == "draft_tasks.csv row 3"
    assert note["note"]["message"].startswith("linked to 0new (2026-01-09")
    assert "not to 0mid (2026-01-05" in note["note"]["message"]


@pytest.mark.parametrize(
    "table",
    [
        "draft_task_id,doc_salt\nt-1,2\n",
        "draft_task_id,doc_run_id\nt-1,r\n",
        "draft_task_id,doc_id\nt-1,own\n",
        "draft_task_id,input_doc_ids\nt-1,draft/0x\n",
    ],
)
def test_row_that_asks_for_another_document_gets_its_own(store: DocsStore, table: str) -> None:
    store.write(draft("0old1", task_id="t-1"))
    Path("draft_tasks.csv").write_text(table)
    assert reserve("draft_tasks.csv", "--store", "docs") == 0
    assert read_ids("draft_tasks.csv")["t-1"] != "0old1"


def test_options_ask_for_other_documents(store: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    store.write(draft("0old1", task_id="t-1"))
    for options in (["--salt", "2"], ["--run-id", "r"], ["--existing", "derive"]):
        Path("draft_tasks.csv").write_text("draft_task_id\nt-1\n")
        assert reserve("draft_tasks.csv", "--store", "docs", *options) == 0
        assert read_ids("draft_tasks.csv")["t-1"] != "0old1"
    Path("draft_tasks.csv").write_text("draft_task_id\nt-1\n")
    assert reserve("draft_tasks.csv", "--store", "not-yet") == 0  # a store that does not exist has no documents
    assert read_ids("draft_tasks.csv") == {"t-1": reserve_doc_id("draft", "t-1")}


def test_document_of_another_parent_is_named_and_not_used(store: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    store.write_many([draft("0old1", task_id="t-1"), draft("0old2", task_id="t-2")])
    store.write(essay("0e1", task_id="same", parent="0old2"))
    Path("draft_tasks.csv").write_text("draft_task_id\nt-1\nt-2\n")
    Path("essay_tasks.csv").write_text("essay_task_id,draft_task_id\nsame,t-1\n")
    assert reserve("draft_tasks.csv", "essay_tasks.csv", "--store", "docs") == 0
    assert read_ids("essay_tasks.csv", EssayTask) == {"same": reserve_doc_id("essay", "same")}
    assert "other-parent: 1" in capsys.readouterr().out


def test_two_rows_never_get_one_document(store: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    store.write(draft("0old1", task_id="t-1"))
    Path("draft_tasks.csv").write_text("draft_task_id,doc_id\nt-1,0old1\nt-1,\n")
    assert reserve("draft_tasks.csv", "--store", "docs") == 0
    assert [row.doc_id for row in read_tasks("draft_tasks.csv", DraftTask)] == ["0old1", reserve_doc_id("draft", "t-1")]


def test_unreadable_document_is_named(store: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    path = store.write(draft("0old1", task_id="t-1")).path
    (path / "metadata.json").write_text("{")
    Path("draft_tasks.csv").write_text("draft_task_id\nt-1\n")
    assert reserve("draft_tasks.csv", "--store", "docs") == 0
    assert "unreadable-record: 1" in capsys.readouterr().out


def test_real_store_is_taken_over(store: DocsStore, daydreaming: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables of an older system without their ids, and its store: each row gets the id of its document."""
    unpack(daydreaming / "docs-store.tar.gz", Path("old"))
    [root] = [path.parent for path in Path("old").rglob("draft") if path.is_dir()]
    old = DocsStore(root)
    names = {
        "draft": "draft_generation_tasks.csv",
        "essay": "essay_generation_tasks.csv",
        "evaluation": "evaluation_tasks.csv",
    }
    tables = {}
    for stage, name in names.items():
        [tables[stage]] = daydreaming.rglob(name)
    list(migrate(old, tables, apply=True))
    for stage, path in tables.items():
        rows = list(read_tasks(path, row_type_of(stage)))
        blank = [attrs.evolve(row, doc_id="", parent_doc_id=None) for row in rows]
        write_tasks(names[stage], blank, like=path)
    assert main(["reserve", *names.values(), "--store", str(root)]) == 0
    report = audit(old, dict(names))
    assert report.counts.get("orphan-document", 0) == 0
    assert [facts.pending for facts in report.stages.values()] == [0, 0, 0]
    for stage, path in tables.items():
        expected = {row.task_id: row.doc_id for row in read_tasks(path, row_type_of(stage))}
        assert read_ids(names[stage], row_type_of(stage)) == expected


# --- Which document: as `docid link` chooses it ------------------------------------------------------------------


OWN = reserve_doc_id("essay", "E")


def put_essay(store: DocsStore, doc_id: str, parent: str | None, **more: Any) -> None:
    document = Document(stage="essay", doc_id=doc_id, task_id="E", parent_doc_id=parent, raw_text=doc_id, **more)
    store.write(document, require_parent=False)


@pytest.mark.parametrize("is_reserve", [True, False])
@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ({OWN: "p2", "eone": "p1"}, "eone"),
        ({OWN: None, "exact": "p1"}, "exact"),
        ({"exact": "p1", "later": None}, "exact"),
        ({OWN: "p1", "later": "p1"}, OWN),
    ],
)
def test_row_gets_the_document_of_its_parent(
    store: DocsStore, documents: dict[str, str | None], expected: str, is_reserve: bool
) -> None:
    for number, (doc_id, parent) in enumerate(documents.items()):
        put_essay(store, doc_id, parent, created_at=datetime(2026, 1, 1 + number, tzinfo=UTC))
    Path("essay_tasks.csv").write_text("essay_task_id,parent_doc_id,doc_id\nE,p1,\n")
    assert main(["reserve" if is_reserve else "link", "essay_tasks.csv", "--store", "docs"]) == 0
    [row] = read_tasks("essay_tasks.csv", EssayTask)
    assert (row.doc_id, row.parent_doc_id) == (expected, "p1")


def test_forced_link_keeps_the_parent_of_a_row(store: DocsStore) -> None:
    put_essay(store, OWN, "p2")
    put_essay(store, "eone", "p1")
    Path("essay_tasks.csv").write_text("essay_task_id,parent_doc_id,doc_id\nE,p1,eone\n")
    assert main(["link", "essay_tasks.csv", "--store", "docs", "--force"]) == 0
    assert read_ids("essay_tasks.csv", EssayTask) == {"E": "eone"}


def test_row_takes_over_the_parent_and_inputs_of_its_document(store: DocsStore) -> None:
    store.write(draft("p1", task_id="T1"))
    store.write(draft("p2", task_id="T2"))
    put_essay(store, "f1", "p1", inputs=("draft/p2",))
    Path("essay_tasks.csv").write_text("essay_task_id,draft_task_id\nE,T2\n")
    Path("draft_tasks.csv").write_text("draft_task_id,doc_id\nT1,p1\nT2,p2\n")
    assert reserve("essay_tasks.csv", "--store", "docs") == 0
    [row] = read_tasks("essay_tasks.csv", EssayTask)
    assert (row.doc_id, row.parent_doc_id, row.input_doc_ids) == ("f1", "p1", ("draft/p2",))
    # Adding the table of parents later changes nothing.
    assert reserve("essay_tasks.csv", "--store", "docs", "--parents", "draft_tasks.csv") == 0
    assert audit(store, {"essay": "essay_tasks.csv", "draft": "draft_tasks.csv"}).findings == ()


def test_two_rows_of_a_task_keep_the_documents_of_their_parents(store: DocsStore) -> None:
    put_essay(store, "hp1", "p1")
    put_essay(store, "hp2", "p2")
    Path("essay_tasks.csv").write_text("essay_task_id,parent_doc_id\nE,p2\nE,p1\n")
    assert reserve("essay_tasks.csv", "--store", "docs") == 0
    assert [row.doc_id for row in read_tasks("essay_tasks.csv", EssayTask)] == ["hp2", "hp1"]


def test_document_of_a_salt_belongs_to_its_row(store: DocsStore) -> None:
    [salted] = reserve_tasks([DraftTask(task_id="t")], DraftTask, salt="B")
    store.write(Document.from_task(salted, raw_text="sample B"))
    Path("draft_tasks.csv").write_text("draft_task_id\nt\n")
    assert reserve("draft_tasks.csv", "--store", "docs") == 0
    assert read_ids("draft_tasks.csv") == {"t": reserve_doc_id("draft", "t")}


def test_row_with_an_unknown_parent_task_is_a_fault(store: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    put_essay(store, "f1", "p1")
    Path("essay_tasks.csv").write_text("essay_task_id,draft_task_id\nE,gone\n")
    Path("draft_tasks.csv").write_text("draft_task_id,doc_id\nT1,p1\n")
    assert reserve("essay_tasks.csv", "--store", "docs", "--parents", "draft_tasks.csv") == 2
    assert "not in the parents' table" in capsys.readouterr().err


def test_reserve_uses_the_stages_of_the_store(store: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stages", "--declare", "outline,chapter", "--store", "books", "--new-store"]) == 0
    Path("outline_tasks.csv").write_text("outline_task_id\na\n")
    assert reserve("outline_tasks.csv", "--store", "books", "--existing", "derive") == 0
    capsys.readouterr()
    assert reserve("--stage", "outline", "--task-id", "a", "--store", "books") == 0
    assert capsys.readouterr().out == f"{reserve_doc_id('outline', 'a')}\n"


def test_missing_store_is_named(store: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    Path("draft_tasks.csv").write_text("draft_task_id\na\n")
    assert reserve("draft_tasks.csv", "--store", "not-mounted") == 0
    assert "not-mounted is not a store yet" in capsys.readouterr().err


def test_rows_that_nothing_tells_apart_are_refused(store: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise they would swap their documents in the next run."""
    store.write(draft("0old1", task_id="t-1"))
    Path("draft_tasks.csv").write_text("draft_task_id\nt-1\nt-1\n")
    assert reserve("draft_tasks.csv", "--store", "docs") == 2
    assert "same doc id" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["reserve", "link"])
def test_row_with_a_parent_comes_first(store: DocsStore, command: str) -> None:
    put_essay(store, "w1", "p1", created_at=datetime(2026, 1, 1, tzinfo=UTC))
    put_essay(store, "w2", "p2", created_at=datetime(2026, 1, 2, tzinfo=UTC))
    Path("essay_tasks.csv").write_text("essay_task_id,parent_doc_id,doc_id\nE,,\nE,p2,\n")
    assert main([command, "essay_tasks.csv", "--store", "docs"]) == 0
    rows = [(row.doc_id, row.parent_doc_id) for row in read_tasks("essay_tasks.csv", EssayTask)]
    assert rows == [("w1", "p1"), ("w2", "p2")]


def test_salted_row_gets_its_own_document_with_its_parent(store: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    [salted] = reserve_tasks([EssayTask(task_id="E", parent_doc_id="p1")], EssayTask, salt="2")
    store.write(Document.from_task(salted, raw_text="sample 2"), require_parent=False)
    Path("essay_tasks.csv").write_text("essay_task_id,parent_doc_id,doc_salt\nE,,2\n")
    assert reserve("essay_tasks.csv", "--store", "docs") == 0
    [row] = read_tasks("essay_tasks.csv", EssayTask)
    assert (row.doc_id, row.parent_doc_id, row.doc_salt) == (salted.doc_id, "p1", "2")
    Path("essay_tasks.csv").write_text("essay_task_id,parent_doc_id,doc_salt\nE,p2,2\n")
    capsys.readouterr()
    assert reserve("essay_tasks.csv", "--store", "docs") == 0
    assert "other-parent: 1" in capsys.readouterr().out
    # A row with another salt asks for a document of its own, so there is nothing to note.
    Path("essay_tasks.csv").write_text("essay_task_id,parent_doc_id,doc_salt\nE,p2,3\n")
    assert reserve("essay_tasks.csv", "--store", "docs") == 0
    assert "other-parent" not in capsys.readouterr().out

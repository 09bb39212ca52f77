"""`link`: which stored document each row of a table gets."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from docid import (
    DocsStore,
    Document,
    DraftTask,
    EssayTask,
    InvalidName,
    StoreUnavailable,
    TaskRow,
    TaskTableError,
    read_tasks,
    reserve_doc_id,
)
from docid.backends import MemoryBackend
from docid.backends.objects import ObjectsBackend
from docid.curate import Linked, link
from tests.curation import NOON, kinds, put


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "essay_tasks.csv"
    path.write_text("essay_task_id,draft_task_id,note\ne-1,t-1,x\ne-2,t-1,y\ne-3,t-2,z\n")
    return path


def test_link_fills_ids_and_parents_once(store: DocsStore, table: Path) -> None:
    put(store, "essay", "old1", "e-1", parent_doc_id="d1")
    put(store, "essay", "old2", "e-2", parent_doc_id="d1")
    put(store, "essay", "other", "e-9", parent_doc_id="d1")
    put(store, "draft", "d1", "t-1")
    before = table.read_bytes()
    planned = link(table, store, dry_run=True)
    assert table.read_bytes() == before
    linked = link(table, store)
    assert linked == planned
    assert linked[:5] == (3, 2, 0, 2, 1)
    assert linked.notes == (("no-document", f"{table} row 4", "e-3", "no document of this task is in the store", 1),)
    after = "essay_task_id,draft_task_id,note,parent_doc_id,doc_id\ne-1,t-1,x,d1,old1\ne-2,t-1,y,d1,old2\ne-3,t-2,z,,\n"
    assert table.read_text() == after
    inode = table.stat().st_ino
    assert link(table, store)[:5] == (3, 0, 2, 0, 1)
    assert (table.read_text(), table.stat().st_ino) == (after, inode)


def test_link_takes_newest_and_names_the_others(store: DocsStore, table: Path) -> None:
    for doc_id, hours in (("b", 2), ("a", 2), ("c", 1)):
        put(store, "essay", doc_id, "e-1", parent_doc_id="d1", created_at=NOON + timedelta(hours=hours))
    linked = link(table, store)
    assert next(iter(read_tasks(table, EssayTask, reserved=False))).doc_id == "a"
    [note] = [note for note in linked.notes if note.kind == "other-documents"]
    assert note.message == (
        "linked to a (2026-11-24T14:00:00.000000Z), not to b (2026-11-24T14:00:00.000000Z), "
        "c (2026-11-24T13:00:00.000000Z)"
    )


def test_legacy_document_takes_time_of_its_file(local: DocsStore, table: Path) -> None:
    put(local, "essay", "new1", "e-1", parent_doc_id="d1", created_at=NOON)
    for doc_id, when in (("old1", NOON.timestamp() - 1), ("old2", NOON.timestamp() + 1)):
        directory = local.path("essay", doc_id)
        directory.mkdir()
        (directory / "metadata.json").write_text('{"task_id": "e-1"}')
        (directory / "raw.txt").write_text("x")
        os.utime(directory / "raw.txt", (when, when))
    link(table, local)
    row = next(iter(read_tasks(table, EssayTask, reserved=False)))
    assert (row.doc_id, row.parent_doc_id) == ("old2", None)


def test_known_time_is_newer_than_unknown(table: Path) -> None:
    backend = MemoryBackend()
    store = DocsStore(backend)
    backend.create("essay", "aaa", b'{"task_id": "e-1"}', {"raw.txt": b"x"})
    put(store, "essay", "bbb", "e-1", parent_doc_id="d1")
    linked = link(table, store)
    assert "not to aaa (unknown time)" in linked.notes[0].message


def test_link_keeps_existing_id_unless_forced(store: DocsStore, tmp_path: Path) -> None:
    put(store, "draft", "new", "t-1")
    put(store, "draft", "own", "t-2")
    path = tmp_path / "draft_tasks.csv"
    before = "draft_task_id,doc_salt,doc_id\nt-1,s,mine\nt-2,,own\nt-3,,gone\n"
    path.write_text(before)
    linked = link(path, store)
    assert linked[:5] == (3, 0, 3, 0, 0)
    assert kinds(linked.notes) == ["kept-id"]
    assert "keeps mine; the store has new (" in linked.notes[0].message
    assert path.read_text() == before
    linked = link(path, store, force=True)
    assert linked[:3] == (3, 1, 2)
    assert kinds(linked.notes) == ["no-document"]
    # The new id does not derive from the salt, so link clears the salt.
    assert path.read_text() == "draft_task_id,doc_salt,doc_id\nt-1,,new\nt-2,,own\nt-3,,gone\n"


def test_link_fills_parent_of_existing_id(store: DocsStore, tmp_path: Path) -> None:
    put(store, "essay", "own", "e-1", parent_doc_id="d1")
    path = tmp_path / "essay_tasks.csv"
    path.write_text("essay_task_id,parent_doc_id,doc_id\ne-1,,own\ne-1,d7,own\n")
    assert link(path, store)[:5] == (2, 0, 2, 1, 0)
    assert path.read_text() == "essay_task_id,parent_doc_id,doc_id\ne-1,d1,own\ne-1,d7,own\n"


def test_link_matches_parent_of_row(store: DocsStore, tmp_path: Path) -> None:
    put(store, "essay", "one", "e-1", parent_doc_id="d1", created_at=NOON)
    put(store, "essay", "two", "e-1", parent_doc_id="d2", created_at=NOON + timedelta(1))
    path = tmp_path / "essay_tasks.csv"
    path.write_text("essay_task_id,parent_doc_id,doc_id\ne-1,d1,\n")
    assert link(path, store).filled == 1
    assert path.read_text() == "essay_task_id,parent_doc_id,doc_id\ne-1,d1,one\n"
    path.write_text("essay_task_id,parent_doc_id,doc_id\ne-1,d3,\n")
    linked = link(path, store)
    assert (linked.filled, kinds(linked.notes)) == (0, ["other-parent"])
    assert "its parent is d2, the row has d3. Use --force" in linked.notes[0].message
    assert link(path, store, force=True).filled == 1
    assert path.read_text() == "essay_task_id,parent_doc_id,doc_id\ne-1,d2,two\n"


def test_link_uses_each_document_once(store: DocsStore, tmp_path: Path) -> None:
    put(store, "draft", "one", "t-1", created_at=NOON)
    put(store, "draft", "two", "t-1", created_at=NOON + timedelta(1))
    path = tmp_path / "draft_tasks.csv"
    path.write_text("draft_task_id,note,doc_id\nt-1,a,\nt-1,b,\nt-1,c,\nt-1,d,one\n")
    linked = link(path, store)
    assert (linked.filled, linked.kept) == (1, 1)
    assert [row.doc_id for row in read_tasks(path, DraftTask, reserved=False)] == ["two", "", "", "one"]
    assert kinds(linked.notes) == ["other-documents", "taken", "taken"]
    linked = link(path, store, force=True)
    assert [row.doc_id for row in read_tasks(path, DraftTask, reserved=False)] == ["two", "one", "", ""]


@pytest.mark.parametrize("swapped", [False, True])
def test_forced_link_takes_no_document_for_a_replicate(store: DocsStore, tmp_path: Path, swapped: bool) -> None:
    store.write(Document(stage="draft", doc_id="0old", task_id="moss", raw_text="x"))
    second = reserve_doc_id("draft", "moss", None, "2")
    lines = [f"moss,{second},2", "moss,0old,"]
    text = "\n".join(["draft_task_id,doc_id,doc_salt", *(lines[::-1] if swapped else lines), ""])
    table = tmp_path / "draft_tasks.csv"
    table.write_text(text)
    link(table, store, force=True)
    assert table.read_text() == text


def test_forced_link_moves_id_to_first_row(store: DocsStore, tmp_path: Path) -> None:
    put(store, "draft", "one", "t-1")
    path = tmp_path / "draft_tasks.csv"
    for rows, after in (("t-1,\nt-1,one\n", "t-1,one\nt-1,\n"), ("t-1,\nt-9,one\n", "t-1,\nt-9,one\n")):
        path.write_text(f"draft_task_id,doc_id\n{rows}")
        link(path, store, force=True)
        assert path.read_text() == f"draft_task_id,doc_id\n{after}"


def test_link_matches_salt_of_row(store: DocsStore, tmp_path: Path) -> None:
    ids = {salt: reserve_doc_id("draft", "t-1", salt=salt) for salt in (None, "a", "b")}
    for hours, doc_id in enumerate(ids.values()):
        put(store, "draft", doc_id, "t-1", created_at=NOON + timedelta(hours=hours))
    path = tmp_path / "draft_tasks.csv"
    path.write_text("draft_task_id,doc_salt,doc_id\nt-1,b,\nt-1,,\nt-1,a,\nt-1,c,\n")
    linked = link(path, store)
    assert [row.doc_id for row in read_tasks(path, DraftTask, reserved=False)] == [ids["b"], ids[None], ids["a"], ""]
    assert [row.doc_salt for row in read_tasks(path, DraftTask, reserved=False)] == ["b", None, "a", "c"]
    assert kinds(linked.notes) == ["other-documents", "other-salt"]
    before = path.read_bytes()
    linked = link(path, store, force=True)
    assert (linked.filled, kinds(linked.notes), path.read_bytes()) == (0, ["other-documents", "taken"], before)
    # A row reserved with a salt is meant to be another document, so link reports nothing.
    path.write_text(f"draft_task_id,doc_salt,doc_id\nt-1,c,{reserve_doc_id('draft', 't-1', salt='c')}\n")
    assert link(path, store).notes == ()


def test_invalid_salt_matches_no_document(store: DocsStore, tmp_path: Path) -> None:
    put(store, "draft", "one", "t-1")
    path = tmp_path / "draft_tasks.csv"
    path.write_text('draft_task_id,doc_salt,doc_id\nt-1,"a\nb",\n')
    assert kinds(link(path, store).notes) == ["other-salt"]
    assert link(path, store, force=True).filled == 1
    assert path.read_text() == "draft_task_id,doc_salt,doc_id\nt-1,,one\n"


def test_known_parent_is_preferred_to_unknown(local: DocsStore, tmp_path: Path) -> None:
    put(local, "draft", "d1", "t-1")
    put(local, "essay", "fits", "e-1", parent_doc_id="d1", created_at=NOON)
    local.backend.create("essay", "unknown", b'{"task_id": "e-1"}', {"raw.txt": b"x"})
    local.backend.create("essay", "odd", b'{"task_id": "e-1", "parent_doc_id": "Not An Id"}', {"raw.txt": b"x"})
    path = tmp_path / "essay_tasks.csv"
    path.write_text("essay_task_id,parent_doc_id\ne-1,d1\n")
    linked = link(path, local)
    assert path.read_text() == "essay_task_id,parent_doc_id,doc_id\ne-1,d1,fits\n"
    assert kinds(linked.notes) == ["malformed-id", "other-documents"]


def test_note_names_url_of_object(tmp_path: Path) -> None:
    store = DocsStore(ObjectsBackend("memory://"))
    store.backend.create("essay", "odd", b'{"task_id": "e-1", "parent_doc_id": "Not An Id"}', {"raw.txt": b"x"})
    path = tmp_path / "essay_tasks.csv"
    path.write_text("essay_task_id\ne-1\n")
    assert [note.where for note in link(path, store).notes if note.kind == "malformed-id"] == [
        "memory://essay/odd.json"
    ]


def test_unlistable_stage_raises(local: DocsStore, table: Path) -> None:
    put(local, "draft", "d1", "t-1")
    (local.path("essay", "x").parent).write_text("a file")
    with pytest.raises(OSError, match="cannot be listed"):
        link(table, local)


@pytest.mark.parametrize("has_listing", [True, False])
def test_unavailable_document_is_not_passed_over(
    has_listing: bool, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DocsStore(MemoryBackend())
    put(store, "draft", "d1", "t-1")
    put(store, "essay", "old", "e-1", parent_doc_id="d1")
    put(store, "essay", "new", "e-1", parent_doc_id="d1")
    load = MemoryBackend.load

    def fail_for_new(self: MemoryBackend, stage: str, doc_id: str, parts: object = ()) -> object:
        if doc_id == "new":
            raise StoreUnavailable("read", "s3://bucket", "no answer", "try again")
        return load(self, stage, doc_id, parts)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryBackend, "load", fail_for_new)
    if not has_listing:
        monkeypatch.setattr(MemoryBackend, "listing", lambda *_: None)
    before = table.read_bytes()
    with pytest.raises(StoreUnavailable):
        link(table, store)
    assert table.read_bytes() == before


def test_note_names_first_documents_only(store: DocsStore, tmp_path: Path) -> None:
    for n in range(9):
        put(store, "draft", f"d{n}", "t-1", created_at=NOON)
    path = tmp_path / "draft_tasks.csv"
    path.write_text("draft_task_id\nt-1\n")
    [note] = link(path, store).notes
    assert note.message.endswith(" and 3 more")


def test_time_in_far_future_counts_as_unknown(local: DocsStore, tmp_path: Path) -> None:
    local.backend.create("draft", "one", b'{"task_id": "t-1"}', {"raw.txt": b"x"})
    local.backend.last_modified = lambda *_: 1e12  # type: ignore[method-assign]
    path = tmp_path / "draft_tasks.csv"
    path.write_text("draft_task_id\nt-1\n")
    assert link(path, local).filled == 1


def test_link_skips_unusable_documents(local: DocsStore, table: Path) -> None:
    put(local, "essay", "torn", "e-1", parent_doc_id="d1")
    (local.path("essay", "torn") / "raw.txt").unlink()
    put(local, "essay", "fine", "e-2", parent_doc_id="d1")
    (local.path("essay", "fine") / "odd.txt").write_text("unlisted")
    linked = link(table, local)
    assert (linked.filled, kinds(linked.notes)) == (1, ["torn-document", *["no-document"] * 2, "missing-parent"])


def test_document_listed_twice_is_linked_once(store: DocsStore, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, "essay", "one", "e-1", parent_doc_id="d1")
    names = store.backend.ids
    monkeypatch.setattr(store.backend, "ids", lambda stage: [*names(stage), *names(stage)])
    linked = link(table, store)
    assert (linked.filled, kinds(linked.notes)) == (1, [*["no-document"] * 2, "missing-parent"])


def test_link_refuses_table_changed_in_the_meantime(
    store: DocsStore, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "essay", "e1", "e-1", parent_doc_id="d1")
    listed = store.backend.ids

    def ids(stage: str) -> Any:
        rows = table.read_text().splitlines(keepends=True)
        table.write_text("".join([rows[0], *reversed(rows[1:])]))
        os.utime(table, (1, 1))
        return listed(stage)

    monkeypatch.setattr(store.backend, "ids", ids)
    before = sorted(table.read_text())
    with pytest.raises(TaskTableError, match="changed by another process after docid read it"):
        link(table, store)
    assert sorted(table.read_text()) == before


def test_link_needs_a_stage(store: DocsStore, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("draft_task_id\nt-1\n")
    with pytest.raises(ValueError, match=r"rows\.csv: the name does not show the stage"):
        link(path, store)
    assert link(path, store, row_type=DraftTask).rows == 1
    with pytest.raises(InvalidName):
        link(path, store, row_type=TaskRow.of("chapter"))
    path.write_text("x\n1\n")
    with pytest.raises(TaskTableError):
        link(path, store, row_type=DraftTask)


def test_notes_convert_to_json(store: DocsStore, table: Path) -> None:
    linked = link(table, store, dry_run=True)
    assert isinstance(linked, Linked)
    assert json.loads(json.dumps([note._asdict() for note in linked.notes]))[0]["task_id"] == "e-1"


def test_document_of_the_derived_id_wins_over_a_newer_one(tmp_path: Path) -> None:
    store = DocsStore(tmp_path / "docs", durability="none")
    own = reserve_doc_id("draft", "t-1")
    for doc_id, days in ((own, 0), ("0newer", 1)):
        made = NOON + timedelta(days=days)
        store.write(Document(stage="draft", doc_id=doc_id, task_id="t-1", raw_text="x", created_at=made))
    table = tmp_path / "draft_tasks.csv"
    table.write_text("draft_task_id\nt-1\n")
    [note] = link(table, store).notes
    assert f"t-1,{own}" in table.read_text()
    assert (note.kind, "0newer" in note.message) == ("other-documents", True)

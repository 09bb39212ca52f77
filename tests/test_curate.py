"""Tables from what a store holds: link, scores, select, replay."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docid import (
    DocsStore,
    Document,
    DraftTask,
    EssayTask,
    EvaluationTask,
    InvalidName,
    Stages,
    StoreUnavailable,
    TaskRow,
    TaskTableError,
    read_tasks,
    reserve_doc_id,
    write_tasks,
)
from docid.backends import MemoryBackend
from docid.backends.objects import ObjectsBackend
from docid.copying import copy
from docid.curate import (
    Linked,
    Model,
    Score,
    Template,
    backfill,
    follow_up,
    link,
    migrate,
    read_scores,
    replay,
    score_columns,
    scores,
    select,
    write_scores,
)
from docid.repair import repair

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def put(store: DocsStore, stage: str, doc_id: str, task_id: str, **more: Any) -> Document:
    document = Document(**{"stage": stage, "doc_id": doc_id, "task_id": task_id, "raw_text": "text", **more})
    store.write(document, require_parent=False)
    return document


def kinds(notes: Any) -> list[str]:
    return [note.kind for note in notes]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "essay_tasks.csv"
    path.write_text("essay_task_id,draft_task_id,note\ne-1,t-1,x\ne-2,t-1,y\ne-3,t-2,z\n")
    return path


def test_what_is_no_store_or_several_names_is_said(store: DocsStore, table: Path) -> None:
    path: Any = "docs"
    for call in (
        lambda: link(table, path),
        lambda: migrate(path),
        lambda: backfill(path, "key", table, "note"),
        lambda: replay(path, "essay", []),
        lambda: select([], path, top=1, stage="essay"),
        lambda: repair(path),
    ):
        with pytest.raises(TypeError, match=r"store: expected a DocsStore, got str; DocsStore\(…\) is that of a dir"):
            call()
    with pytest.raises(TypeError, match="source: expected a DocsStore, got str"):
        copy(path, store)
    with pytest.raises(TypeError, match="target: expected a DocsStore, got dict"):
        copy(store, {})  # type: ignore[arg-type]
    # The characters of a text would be taken for names.
    with pytest.raises(TypeError, match="stages: expected an iterable of names of stages, got the str 'draft'"):
        copy(store, store, stages="draft")
    with pytest.raises(TypeError, match="doc_ids: expected an iterable of doc ids, got the str 'e1'"):
        replay(store, "essay", "e1")
    with pytest.raises(TypeError, match="templates: expected an iterable of template ids, got the str 'novelty'"):
        select([], store, top=1, templates="novelty")


# --- link --------------------------------------------------------------------------------------------------------


def test_link_fills_ids_and_parents_and_a_second_time_nothing(store: DocsStore, table: Path) -> None:
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


def test_link_takes_the_newest_of_several_and_names_the_others(store: DocsStore, table: Path) -> None:
    for doc_id, hours in (("b", 2), ("a", 2), ("c", 1)):
        put(store, "essay", doc_id, "e-1", parent_doc_id="d1", created_at=NOON + timedelta(hours=hours))
    linked = link(table, store)
    assert next(iter(read_tasks(table, EssayTask, reserved=False))).doc_id == "a"
    [note] = [note for note in linked.notes if note.kind == "other-documents"]
    assert note.message == (
        "linked to a (2026-11-24T14:00:00.000000Z), not to b (2026-11-24T14:00:00.000000Z), "
        "c (2026-11-24T13:00:00.000000Z)"
    )


def test_an_older_systems_document_is_as_old_as_its_file(local: DocsStore, table: Path) -> None:
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


def test_where_no_time_is_known_a_document_with_one_is_newer(table: Path) -> None:
    backend = MemoryBackend()
    store = DocsStore(backend)
    backend.create("essay", "aaa", b'{"task_id": "e-1"}', {"raw.txt": b"x"})
    put(store, "essay", "bbb", "e-1", parent_doc_id="d1")
    linked = link(table, store)
    assert "not to aaa (no time known)" in linked.notes[0].message


def test_link_keeps_an_id_that_is_set_unless_forced(store: DocsStore, tmp_path: Path) -> None:
    put(store, "draft", "new", "t-1")
    put(store, "draft", "own", "t-2")
    path = tmp_path / "draft_tasks.csv"
    before = "draft_task_id,doc_salt,doc_id\nt-1,s,mine\nt-2,,own\nt-3,,gone\n"
    path.write_text(before)
    linked = link(path, store)
    assert linked[:5] == (3, 0, 3, 0, 0)
    assert kinds(linked.notes) == ["kept-id"]
    assert "mine kept; the store has new (" in linked.notes[0].message
    assert path.read_text() == before
    linked = link(path, store, force=True)
    assert linked[:3] == (3, 1, 2)
    assert kinds(linked.notes) == ["no-document"]
    # The salt is no longer what the id comes from.
    assert path.read_text() == "draft_task_id,doc_salt,doc_id\nt-1,,new\nt-2,,own\nt-3,,gone\n"


def test_link_fills_the_parent_of_an_id_that_is_set(store: DocsStore, tmp_path: Path) -> None:
    put(store, "essay", "own", "e-1", parent_doc_id="d1")
    path = tmp_path / "essay_tasks.csv"
    path.write_text("essay_task_id,parent_doc_id,doc_id\ne-1,,own\ne-1,d7,own\n")
    assert link(path, store)[:5] == (2, 0, 2, 1, 0)
    assert path.read_text() == "essay_task_id,parent_doc_id,doc_id\ne-1,d1,own\ne-1,d7,own\n"


def test_a_row_with_a_parent_is_linked_to_a_document_of_that_parent(store: DocsStore, tmp_path: Path) -> None:
    put(store, "essay", "one", "e-1", parent_doc_id="d1", created_at=NOON)
    put(store, "essay", "two", "e-1", parent_doc_id="d2", created_at=NOON + timedelta(1))
    path = tmp_path / "essay_tasks.csv"
    path.write_text("essay_task_id,parent_doc_id,doc_id\ne-1,d1,\n")
    assert link(path, store).filled == 1
    assert path.read_text() == "essay_task_id,parent_doc_id,doc_id\ne-1,d1,one\n"
    path.write_text("essay_task_id,parent_doc_id,doc_id\ne-1,d3,\n")
    linked = link(path, store)
    assert (linked.filled, kinds(linked.notes)) == (0, ["other-parent"])
    assert "made from d2, the row's parent is d3 (--force)" in linked.notes[0].message
    assert link(path, store, force=True).filled == 1
    assert path.read_text() == "essay_task_id,parent_doc_id,doc_id\ne-1,d2,two\n"


def test_no_two_rows_are_linked_to_one_document(store: DocsStore, tmp_path: Path) -> None:
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


def test_with_force_an_id_that_is_given_away_is_taken_from_its_row(store: DocsStore, tmp_path: Path) -> None:
    put(store, "draft", "one", "t-1")
    path = tmp_path / "draft_tasks.csv"
    for rows, after in (("t-1,\nt-1,one\n", "t-1,one\nt-1,\n"), ("t-1,\nt-9,one\n", "t-1,\nt-9,one\n")):
        path.write_text(f"draft_task_id,doc_id\n{rows}")
        link(path, store, force=True)
        assert path.read_text() == f"draft_task_id,doc_id\n{after}"


def test_a_row_is_given_the_document_that_its_salt_names(store: DocsStore, tmp_path: Path) -> None:
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
    # A row that was reserved with a salt is meant to be another document: nothing is said of it.
    path.write_text(f"draft_task_id,doc_salt,doc_id\nt-1,c,{reserve_doc_id('draft', 't-1', salt='c')}\n")
    assert link(path, store).notes == ()


def test_a_salt_that_the_scheme_refuses_names_nothing(store: DocsStore, tmp_path: Path) -> None:
    put(store, "draft", "one", "t-1")
    path = tmp_path / "draft_tasks.csv"
    path.write_text('draft_task_id,doc_salt,doc_id\nt-1,"a\nb",\n')
    assert kinds(link(path, store).notes) == ["other-salt"]
    assert link(path, store, force=True).filled == 1
    assert path.read_text() == "draft_task_id,doc_salt,doc_id\nt-1,,one\n"


def test_a_document_of_the_rows_parent_comes_before_one_of_an_unknown(local: DocsStore, tmp_path: Path) -> None:
    put(local, "draft", "d1", "t-1")
    put(local, "essay", "fits", "e-1", parent_doc_id="d1", created_at=NOON)
    local.backend.create("essay", "unknown", b'{"task_id": "e-1"}', {"raw.txt": b"x"})
    local.backend.create("essay", "odd", b'{"task_id": "e-1", "parent_doc_id": "Not An Id"}', {"raw.txt": b"x"})
    path = tmp_path / "essay_tasks.csv"
    path.write_text("essay_task_id,parent_doc_id\ne-1,d1\n")
    linked = link(path, local)
    assert path.read_text() == "essay_task_id,parent_doc_id,doc_id\ne-1,d1,fits\n"
    assert kinds(linked.notes) == ["malformed-id", "other-documents"]


def test_a_note_on_an_object_says_its_url(tmp_path: Path) -> None:
    store = DocsStore(ObjectsBackend("memory://"))
    store.backend.create("essay", "odd", b'{"task_id": "e-1", "parent_doc_id": "Not An Id"}', {"raw.txt": b"x"})
    path = tmp_path / "essay_tasks.csv"
    path.write_text("essay_task_id\ne-1\n")
    assert [note.where for note in link(path, store).notes if note.kind == "malformed-id"] == ["memory:/essay/odd.json"]


def test_a_stage_that_cannot_be_listed_is_no_empty_one(local: DocsStore, table: Path) -> None:
    put(local, "draft", "d1", "t-1")
    (local.path("essay", "x").parent).write_text("a file")
    with pytest.raises(OSError, match="cannot be listed"):
        link(table, local)


@pytest.mark.parametrize("looked", [True, False])
def test_a_document_that_was_not_answered_for_gives_its_place_to_no_other(
    looked: bool, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DocsStore(MemoryBackend())
    put(store, "draft", "d1", "t-1")
    put(store, "essay", "old", "e-1", parent_doc_id="d1")
    put(store, "essay", "new", "e-1", parent_doc_id="d1")
    load = MemoryBackend.load

    def away(self: MemoryBackend, stage: str, doc_id: str, parts: object = ()) -> object:
        if doc_id == "new":
            raise StoreUnavailable("read", "s3://bucket", "no answer", "try again")
        return load(self, stage, doc_id, parts)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryBackend, "load", away)
    if not looked:
        monkeypatch.setattr(MemoryBackend, "listing", lambda *_: None)
    before = table.read_bytes()
    with pytest.raises(StoreUnavailable):
        link(table, store)
    assert table.read_bytes() == before


def test_many_documents_of_one_task_are_not_all_named(store: DocsStore, tmp_path: Path) -> None:
    for n in range(9):
        put(store, "draft", f"d{n}", "t-1", created_at=NOON)
    path = tmp_path / "draft_tasks.csv"
    path.write_text("draft_task_id\nt-1\n")
    [note] = link(path, store).notes
    assert note.message.endswith(" and 3 more")


def test_a_file_from_the_far_future_says_no_time(local: DocsStore, tmp_path: Path) -> None:
    local.backend.create("draft", "one", b'{"task_id": "t-1"}', {"raw.txt": b"x"})
    local.backend.modified = lambda *_: 1e12  # type: ignore[method-assign]
    path = tmp_path / "draft_tasks.csv"
    path.write_text("draft_task_id\nt-1\n")
    assert link(path, local).filled == 1


def test_link_passes_over_what_cannot_be_used(local: DocsStore, table: Path) -> None:
    put(local, "essay", "torn", "e-1", parent_doc_id="d1")
    (local.path("essay", "torn") / "raw.txt").unlink()
    put(local, "essay", "fine", "e-2", parent_doc_id="d1")
    (local.path("essay", "fine") / "odd.txt").write_text("a warning is nobody's business here")
    linked = link(table, local)
    assert (linked.filled, kinds(linked.notes)) == (1, ["torn-document", *["no-document"] * 2, "missing-parent"])


def test_what_is_listed_twice_is_linked_once(store: DocsStore, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, "essay", "one", "e-1", parent_doc_id="d1")
    names = store.backend.ids
    monkeypatch.setattr(store.backend, "ids", lambda stage: [*names(stage), *names(stage)])
    linked = link(table, store)
    assert (linked.filled, kinds(linked.notes)) == (1, [*["no-document"] * 2, "missing-parent"])


def test_rows_that_move_while_documents_are_looked_for_are_not_mistaken(
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
    with pytest.raises(TaskTableError, match="changed by somebody else since its rows were read"):
        link(table, store)
    assert sorted(table.read_text()) == before


def test_link_needs_to_know_the_stage(store: DocsStore, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("draft_task_id\nt-1\n")
    with pytest.raises(ValueError, match=r"rows\.csv: which stage's table\?"):
        link(path, store)
    assert link(path, store, row_type=DraftTask).rows == 1
    with pytest.raises(InvalidName):
        link(path, store, row_type=TaskRow.of("chapter"))
    path.write_text("x\n1\n")
    with pytest.raises(TaskTableError):
        link(path, store, row_type=DraftTask)


# --- scores ------------------------------------------------------------------------------------------------------


def judge(store: DocsStore) -> DocsStore:
    """Store two drafts, an essay each and one whose draft is gone, and evaluations of them."""
    put(store, "draft", "d1", "t-1", metadata={"combo_id": "c-1", "template_id": "dt", "model_id": "dm"})
    put(store, "draft", "d2", "t-2", metadata={"combo_id": "c-2", "template_id": "dt", "model_id": "dm"})
    for doc_id, draft in (("e1", "d1"), ("e2", "d2"), ("e3", "gone")):
        essay = {"template_id": "et", "model_id": "em"}
        put(store, "essay", doc_id, f"task-{doc_id}", parent_doc_id=draft, metadata=essay, prompt_text="Write.")
    texts = [("v1", "e1", "7.0\n"), ("v2", "e1", "3"), ("v3", "e2", " 5e0 "), ("v4", "e3", "5.0"), ("v5", "e2", None)]
    for doc_id, of, parsed in texts:
        metadata: dict[str, Any] = {"template_id": "strict" if doc_id == "v2" else "kind", "model_id": 4}
        put(
            store,
            "evaluation",
            doc_id,
            f"task-{doc_id}",
            parent_doc_id=of,
            parsed_text=parsed,
            metadata=metadata,
            created_at=NOON,
        )
    return store


@pytest.fixture
def judged(store: DocsStore) -> DocsStore:
    return judge(store)


def test_scores_say_what_was_scored_and_what_that_was_made_from(judged: DocsStore) -> None:
    found = list(scores(judged))
    assert [each.doc_id for each in found] == ["v1", "v2", "v3", "v4", "v5"]
    assert found[0] == Score(
        "v1", "e1", "task-v1", "kind", "4", 7.0, "", "2026-11-24T12:00:00.000000Z", "task-e1", {"draft": "d1"}
    )
    # The essay is there and names its draft, which is not.
    assert (found[3].score, found[3].ancestors) == (5.0, {"draft": "gone"})
    assert (found[4].score, found[4].error) == (None, "no parsed text")
    assert next(scores(judged, "essay")).ancestors == {}


@pytest.mark.parametrize(
    ("parsed", "score", "error"),
    [
        pytest.param("7", 7.0, "", id="whole"),
        pytest.param("-.5", -0.5, "", id="no digit before the point"),
        pytest.param("\n 8.25 \r\n", 8.25, "", id="blanks around"),
        pytest.param("1e3", 1000.0, "", id="exponent"),
        pytest.param("", None, "parsed text is empty", id="empty"),
        pytest.param(" \n", None, "parsed text is empty", id="blank"),
        pytest.param("nan", None, "parsed text is not a number: 'nan'", id="nan"),
        pytest.param("inf", None, "parsed text is not a number: 'inf'", id="inf"),
        pytest.param("1e301", None, "parsed text is too large: '1e301'", id="too large to be added up"),
        pytest.param("1e999", None, "parsed text is too large: '1e999'", id="too large"),
        pytest.param("7/10", None, "parsed text is not a number: '7/10'", id="a fraction"),
        pytest.param("1_000", None, "parsed text is not a number: '1_000'", id="an underscore"),
        pytest.param("٧", None, "parsed text is not a number: '٧'", id="other digits"),
        pytest.param("7\n8", None, "parsed text is not a number: '7\\n8'", id="two"),
    ],
)
def test_a_score_is_the_number_that_the_parsed_text_is(
    store: DocsStore, parsed: str, score: float | None, error: str
) -> None:
    put(store, "evaluation", "v1", "t-1", parent_doc_id="e1", parsed_text=parsed)
    [found] = scores(store)
    assert (found.score, found.error, found.parent_task_id, found.ancestors) == (score, error, "", {"draft": ""})


def test_scores_go_on_past_what_cannot_be_read(local: DocsStore) -> None:
    judged = judge(local)
    (judged.path("evaluation", "v1") / "parsed.txt").write_text("9")
    (judged.path("evaluation", "v2") / "metadata.json").write_text("{")
    (judged.path("evaluation", "v3") / "parsed.txt").write_bytes(b"\xff" * 5)
    (judged.path("essay", "e3") / "metadata.json").unlink()
    found = list(scores(judged))
    assert [each.score for each in found] == [None, None, None, 5.0, None]
    assert all(each.error.startswith("unreadable: ") for each in found[:3])
    assert (found[3].parent_doc_id, found[3].parent_task_id, found[3].ancestors) == ("e3", "", {"draft": ""})


def test_scores_of_older_records_and_of_documents_that_vanish() -> None:
    backend = MemoryBackend()
    store = DocsStore(backend)
    backend.create(
        "evaluation",
        "v1",
        b'{"task_id": "t", "parent_doc_id": "Not An Id", "created_at": "2025-01-01T01:00:00+01:00"}',
        {"parsed.txt": b"1"},
    )
    backend.create("evaluation", "v2", b'{"created_at": "2025-01-01T01:00:00"}', {"parsed.txt": b"2", "raw.txt": b""})
    names = store.ids
    store.ids = lambda stage: [*names(stage), "v0"]  # type: ignore[assignment,method-assign,return-value]
    assert [(each.doc_id, each.score, each.created_at, each.task_id) for each in scores(store)] == [
        ("v1", 1.0, "2025-01-01T00:00:00.000000Z", "t"),
        ("v2", 2.0, "", ""),
    ]


def test_a_table_of_scores_is_the_same_file_twice_and_is_read_back(judged: DocsStore, tmp_path: Path) -> None:
    columns = score_columns(judged)
    for name in ("one.csv", "two.csv", "three.csv.gz"):
        assert write_scores(tmp_path / name, scores(judged), columns) == 5
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    header, first, *_ = (tmp_path / "one.csv").read_text().splitlines()
    assert header == (
        "doc_id,parent_doc_id,task_id,template_id,model_id,score,error,created_at,parent_task_id,draft_doc_id"
    )
    assert first == "v1,e1,task-v1,kind,4,7.0,,2026-11-24T12:00:00.000000Z,task-e1,d1"
    expected = [each._replace(ancestors={}) for each in scores(judged)]
    assert list(read_scores(tmp_path / "one.csv")) == list(read_scores(tmp_path / "three.csv.gz")) == expected


def test_a_stage_without_documents_gives_a_header(store: DocsStore, tmp_path: Path) -> None:
    assert write_scores(tmp_path / "scores.csv", scores(store), score_columns(store)) == 0
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 1
    with pytest.raises(InvalidName):
        scores(store, "chapter")


def test_scores_are_those_of_a_store() -> None:
    with pytest.raises(TypeError, match="store: expected a DocsStore, got str"):
        scores("docs")  # type: ignore[arg-type]


def test_scores_know_all_ancestors_of_a_longer_chain() -> None:
    store = DocsStore(MemoryBackend(), stages=Stages.chain("idea", "plan", "text", "mark"))
    put(store, "idea", "i1", "i")
    put(store, "plan", "p1", "p", parent_doc_id="i1")
    put(store, "text", "t1", "t", parent_doc_id="p1")
    put(store, "mark", "m1", "m", parent_doc_id="t1", parsed_text="1")
    assert score_columns(store)[-2:] == ("plan_doc_id", "idea_doc_id")
    [found] = scores(store)
    assert found.ancestors == {"plan": "p1", "idea": "i1"}
    [found] = scores(store, "text")
    assert found.ancestors == {"idea": "i1"}


def test_a_faulty_table_of_scores_is_told_whole(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("doc_id,score\nv1,1\n")
    with pytest.raises(TaskTableError, match="column parent_doc_id: missing from the header; the columns are doc_id, "):
        read_scores(path)
    path.write_text("parent_doc_id,score\ne1,1\nE1,2\ne2,good\ne3\n,\n")
    found: list[Score] = []
    with pytest.raises(TaskTableError) as caught:
        found.extend(read_scores(path))
    assert [each.score for each in found] == [1.0]
    assert [(problem.row, problem.column) for problem in caught.value.problems] == [
        (3, "parent_doc_id"),
        (4, "score"),
        (5, None),
    ]
    path.write_bytes(b"parent_doc_id,score\xff\n")
    with pytest.raises(TaskTableError, match="not UTF-8"):
        read_scores(path)
    path.write_bytes(b"")
    with pytest.raises(TaskTableError, match="the columns are none"):
        read_scores(path)
    path.write_bytes(b"parent_doc_id;score\n")
    with pytest.raises(TaskTableError, match="separated by ';'"):
        read_scores(path)
    path.write_bytes(b"parent_doc_id,score,score\n")
    with pytest.raises(TaskTableError, match="column score: there twice"):
        read_scores(path)
    path.write_bytes(b"parent_doc_id,score\n\xff,1\n")
    with pytest.raises(TaskTableError, match="not UTF-8"):
        list(read_scores(path))


# --- select ------------------------------------------------------------------------------------------------------


def score(doc_id: str, parent: str, number: float | None, template: str = "") -> Score:
    return Score(doc_id, parent, "", template, "", number, "", "", "", {})


def test_select_makes_rows_of_the_best_with_their_own_ids(judged: DocsStore) -> None:
    chosen = select(scores(judged), judged, top=2)
    assert [(pick.doc_id, pick.score, pick.evaluations) for pick in chosen.picks] == [("e1", 7.0, 2), ("e2", 5.0, 1)]
    assert chosen.rows[0] == EssayTask(
        task_id="task-e1",
        doc_id="e1",
        parent_doc_id="d1",
        draft_task_id="t-1",
        combo_id="c-1",
        draft_template="dt",
        essay_template="et",
        generation_model="em",
        extra={"essay_doc_id": "e1"},
    )
    assert (chosen.evaluations, chosen.scored, chosen.row_type) == (5, 3, EssayTask)
    assert [(note.kind, note.where, note.number) for note in chosen.notes] == [
        ("no-score", "evaluations", 1),
        ("below", "essay/e3", 1),
        ("unsaid", "column generation_model_name", 1),
    ]


@pytest.mark.parametrize(
    ("options", "picked"),
    [
        pytest.param({"aggregate": "max"}, [("e1", 7.0), ("e2", 5.0), ("e3", 5.0)], id="max"),
        pytest.param({"aggregate": "mean"}, [("e1", 5.0), ("e2", 5.0), ("e3", 5.0)], id="mean, ties by doc id"),
        pytest.param({"aggregate": "median"}, [("e1", 5.0), ("e2", 5.0), ("e3", 5.0)], id="median"),
        pytest.param({"templates": ["strict"]}, [("e1", 3.0)], id="one template"),
        pytest.param({"templates": {"none"}}, [], id="no such template"),
    ],
)
def test_how_scores_are_brought_together(
    judged: DocsStore, options: dict[str, Any], picked: list[tuple[str, float]]
) -> None:
    chosen = select(scores(judged), judged, top=9, **options)
    assert [(pick.doc_id, pick.score) for pick in chosen.picks] == picked
    assert ("other-template" in kinds(chosen.notes)) == ("templates" in options)


def test_what_is_gone_or_unusable_leaves_its_place_to_the_next(judged: DocsStore) -> None:
    judged.backend.create("essay", "old", b"{}", {"raw.txt": b"x"})
    found = [score("1", "lost", 9), score("2", "old", 8), score("3", "e1", 7), score("4", "e2", 6), score("5", "", 5)]
    chosen = select(found, judged, top=1)
    assert [pick.doc_id for pick in chosen.picks] == ["e1"]
    assert kinds(chosen.notes) == ["no-parent", "gone", "unusable", "below", "unsaid"]
    assert "does not say its task: docid migrate" in chosen.notes[2].message


def test_select_of_other_stages() -> None:
    store = DocsStore(MemoryBackend(), stages=Stages.chain("outline", "chapter"))
    put(store, "outline", "o1", "t-1", metadata={"style": "dry", "words": 3, "doc_id": "o1", "usage": {"n": 1}})
    put(store, "chapter", "c1", "t-2", parent_doc_id="o1", parsed_text="4")
    [row] = select(scores(store), store, top=1).rows
    assert (row.stage, row.doc_id, row.extra) == ("outline", "o1", {"style": "dry", "words": "3"})
    [row] = select([score("x", "c1", 1.0)], store, top=1, stage="chapter").rows
    assert (row.parent_doc_id, row.extra) == ("o1", {"outline_task_id": "t-1"})
    assert select([score("x", "c1", 1.0)], DocsStore(store.backend), top=1, stage="draft").rows == ()


def test_an_evaluations_row_has_its_legacy_column(judged: DocsStore) -> None:
    [row] = select([score("x", "v1", 1.0)], judged, top=1, stage="evaluation").rows
    assert row.extra == {"document_id": "task-e1"}
    assert isinstance(row, EvaluationTask)
    assert (row.evaluation_template, row.evaluation_model, row.generation_model) == ("kind", "4", "em")


def test_a_field_of_that_name_is_no_legacy_column(judged: DocsStore) -> None:
    @attrs.frozen(kw_only=True)
    class Essay(TaskRow):
        stage = "essay"
        parent_stage = "draft"
        essay_doc_id: str = "none"

    [row] = select([score("x", "e1", 1.0)], judged, top=1, row_type=Essay).rows
    extra = {"draft_task_id": "t-1", "template_id": "et", "model_id": "em"}
    assert row == Essay(task_id="task-e1", doc_id="e1", parent_doc_id="d1", extra=extra)


def test_select_refuses_what_cannot_be_meant(judged: DocsStore) -> None:
    for top in (0, -1, True, 1.0):
        with pytest.raises(ValueError, match="top: expected a number of documents"):
            select([], judged, top=top)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="aggregate: expected one of max, mean, median, got 'sum'"):
        select([], judged, top=1, aggregate="sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected rows of stage 'essay', got DraftTask of 'draft'"):
        select([], judged, top=1, row_type=DraftTask)
    with pytest.raises(ValueError, match="stage 'draft' comes from none"):
        select([], DocsStore(MemoryBackend(), stages=Stages.chain("draft")), top=1)
    with pytest.raises(InvalidName):
        select([], judged, top=1, stage="chapter")


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.none() | st.floats(allow_nan=False, allow_infinity=False)),
        max_size=40,
    ),
    st.integers(1, 9),
)
def test_what_is_selected_is_never_worse_than_what_is_not(found: list[tuple[str, float | None]], top: int) -> None:
    store = DocsStore(MemoryBackend())
    store.write_many([Document(stage="draft", doc_id=each, task_id=each, raw_text="") for each in "abcdefgh"])
    chosen = select([score("x", *each) for each in found], store, top=top, stage="draft")
    best = {
        parent: max(n for each, n in found if each == parent and n is not None) for parent, n in found if n is not None
    }
    ranked = sorted(best, key=lambda parent: (-best[parent], parent))
    assert [pick.doc_id for pick in chosen.picks] == ranked[:top]
    assert len([note for note in chosen.notes if note.kind == "below"]) == len(ranked[top:])


# --- follow_up ---------------------------------------------------------------------------------------------------


def test_follow_up_refuses_what_cannot_be_followed() -> None:
    essay = EssayTask(task_id="e-1", doc_id="e1", parent_doc_id="d1", draft_task_id="t-1", combo_id="c")
    assert follow_up([]) == ([], [], [])
    with pytest.raises(ValueError, match="stage draft has no parent"):
        follow_up([DraftTask(task_id="t", doc_id="d1")])
    with pytest.raises(ValueError, match="task 'e-1' lacks doc_id, parent_doc_id or draft_task_id"):
        follow_up([attrs.evolve(essay, draft_task_id="")])
    with pytest.raises(ValueError, match="the rows of d1 disagree"):
        follow_up([essay, attrs.evolve(essay, doc_id="e2", combo_id="other")])
    last = EvaluationTask(task_id="v-1", doc_id="v1", parent_doc_id="e1", essay_task_id="e-1")
    assert follow_up([last]).parents == [EssayTask(task_id="e-1", doc_id="e1")]
    with pytest.raises(ValueError, match="no stage comes from evaluation"):
        follow_up([last], templates=[Template("t")], models=[Model("m")])


# --- replay ------------------------------------------------------------------------------------------------------


def test_replay_builds_a_row_that_sends_the_same_prompt(judged: DocsStore, tmp_path: Path) -> None:
    rows = replay(judged, "essay", ["e2", "e2", "gone"])
    [row] = rows
    assert isinstance(row, EssayTask)
    assert (row.task_id, row.doc_id, row.parent_doc_id, row.draft_task_id) == ("task-e2", "e2", "d2", "t-2")
    assert judged.source_prompt(row) == "Write."
    assert kinds(rows.notes) == ["gone", "unsaid"]
    assert write_tasks(tmp_path / "essay_tasks.csv", replay(judged, "essay", ["e1", "e2"])) == 2
    assert [each.doc_id for each in read_tasks(tmp_path / "essay_tasks.csv", EssayTask)] == ["e1", "e2"]
    # What a run with replace writes has the same lineage.
    again = Document.from_task(row, raw_text="another")
    assert judged.write(again, if_exists="replace").outcome == "replaced"


def test_replay_under_an_id_of_its_own(judged: DocsStore) -> None:
    [row] = replay(judged, "essay", ["e1"], run_id="r", salt="s")
    assert row.doc_id == reserve_doc_id("essay", "task-e1", "r", "s")
    assert (row.doc_run_id, row.doc_salt, row.extra) == ("r", "s", {"source_doc_id": "e1"})
    with pytest.raises(InvalidName):
        replay(judged, "essay", [], salt="")


def test_the_run_that_an_id_was_derived_with_is_known_again(store: DocsStore) -> None:
    put(store, "draft", reserve_doc_id("draft", "t-1", "r-1"), "t-1", run_id="r-1", prompt_text="p")
    put(store, "draft", "other", "t-1", run_id="r-1")
    rows = replay(store, "draft", sorted(store.ids("draft"), key="other".__eq__))
    one, other = rows
    assert isinstance(one, DraftTask)
    assert (one.doc_run_id, one.source_doc_id) == ("r-1", one.doc_id)
    assert isinstance(other, DraftTask)
    assert (other.doc_run_id, other.source_doc_id) == (None, None)
    assert kinds(rows.notes)[0] == "no-prompt"


def test_typed_columns_are_read_from_metadata(store: DocsStore) -> None:
    @attrs.frozen(kw_only=True)
    class Draft(TaskRow):
        stage = "draft"
        words: int
        hot: bool = False
        weight: float | None = None

    put(store, "draft", "a", "t-a", metadata={"words": 9, "hot": True, "weight": "heavy"}, prompt_text="p")
    put(store, "draft", "b", "t-b", metadata={"words": "many"})
    rows = replay(store, "draft", ["a", "b"], row_type=Draft)
    assert list(rows) == [
        Draft(task_id="t-a", doc_id="a", words=9, hot=True, weight=None, extra={"source_doc_id": "a"})
    ]
    assert [(note.kind, note.where) for note in rows.notes] == [("unusable", "draft/b"), ("unsaid", "column weight")]
    assert "does not say words, which such a row has to have" in rows.notes[0].message


def test_the_nearest_of_the_ancestors_says_a_column(store: DocsStore) -> None:
    far = {"combo_id": "far", "generation_model": "d-model", "generation_model_name": "d-name"}
    put(store, "draft", "d1", "t-1", metadata=far)
    put(store, "essay", "e1", "e-1", parent_doc_id="d1", metadata={"combo_id": "near"}, prompt_text="p")
    put(store, "essay", "e2", "e-2", parent_doc_id="d1", metadata={"model_id": "e-model"}, prompt_text="p")
    one, two = replay(store, "essay", ["e1", "e2"])
    assert isinstance(one, EssayTask)
    assert (one.combo_id, one.generation_model, one.generation_model_name) == ("near", "d-model", "d-name")
    # The name of a model does not come from elsewhere than the model.
    assert isinstance(two, EssayTask)
    assert (two.combo_id, two.generation_model, two.generation_model_name) == ("far", "e-model", "")


def test_what_no_table_can_hold_is_no_row(store: DocsStore) -> None:
    put(store, "draft", "d1", "none", prompt_text="p")
    store.backend.create("draft", "d2", b'{"task_id": "t-2", "run_id": " "}', {"raw.txt": b"x"})
    put(store, "draft", "d3", "t-3", metadata={"source_doc_id": "zzz"})
    store.backend.create("essay", "e1", b'{"task_id": "e-1"}', {"raw.txt": b"x"})
    store.backend.create("draft", "d4", rb'{"task_id": "t-4", "combo_id": "\ud800x"}', {"raw.txt": b"x"})
    rows = replay(store, "draft", ["d1", "d2", "d3", "d4"])
    found = {row.doc_id: row for row in rows}
    assert sorted(found) == ["d2", "d3", "d4"]
    assert found["d4"].cell("combo_id") == "\\ud800x"
    assert rows.notes[0].message.startswith("its draft_task_id is 'none', which no table can hold")
    essays = replay(store, "essay", ["e1"])
    assert list(essays) == []
    assert "does not say its parent" in essays.notes[0].message
    plain = DocsStore(store.backend, stages=Stages.chain("draft", "other"))
    [row] = replay(plain, "draft", ["d3"], row_type=TaskRow.of("draft"))
    assert row.extra == {}


def test_two_documents_of_one_task_are_told_apart(store: DocsStore) -> None:
    put(store, "draft", "d1", "t-1", prompt_text="p")
    put(store, "draft", "d2", "t-1", prompt_text="p")
    rows = replay(store, "draft", ["d1", "d2"], salt="s")
    assert len(list(rows)) == 1
    assert kinds(rows.notes)[0] == "taken"
    with pytest.raises(InvalidName, match="a word that means missing"):
        replay(store, "draft", [], salt="nan")
    chosen = select([score("a", "d1", 2.0), score("b", "d2", 1.0)], store, top=2, stage="draft")
    assert "same-task" in kinds(chosen.notes)


def test_a_document_that_may_not_be_read_is_left_out(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = judge(local)
    load = judged.backend.load

    def refusing(stage: str, doc_id: str, parts: Any = ()) -> Any:
        if doc_id == "e1":
            raise PermissionError(13, "Permission denied")
        return load(stage, doc_id, parts)

    monkeypatch.setattr(judged.backend, "load", refusing)
    assert [each.score for each in scores(judged)][:2] == [7.0, 3.0]
    chosen = select(scores(judged), judged, top=1)
    assert ([pick.doc_id for pick in chosen.picks], chosen.notes[1].kind) == (["e2"], "unusable")
    rows = replay(judged, "essay", ["e1", "e2"])
    assert [row.doc_id for row in rows] == ["e2"]


def test_a_template_that_nothing_is_of_is_said(judged: DocsStore) -> None:
    chosen = select(scores(judged), judged, top=1, templates=["styel"])
    assert chosen.notes[0].message == "none is of template 'styel'; the scores are of kind, strict"
    chosen = select([score("v", "e1", 1.0)], judged, top=1, templates=["styel"])
    assert "docid backfill --set template_id" in chosen.notes[0].message


def test_a_stage_named_parent_has_no_column_of_its_own(store: DocsStore) -> None:
    odd = DocsStore(store.backend, stages=Stages.chain("parent", "child", "verdict"))
    with pytest.raises(ValueError, match="'parent' names a column parent_doc_id"):
        score_columns(odd)


def test_what_is_said_fits_into_json(store: DocsStore, table: Path) -> None:
    linked = link(table, store, dry_run=True)
    assert isinstance(linked, Linked)
    assert json.loads(json.dumps([note._asdict() for note in linked.notes]))[0]["task_id"] == "e-1"


def _all_of(act: str, store: DocsStore) -> object:
    if act == "scores":
        return list(scores(store))
    if act == "replay":
        return list(replay(store, "essay", ["e1"]))
    found = Score("v1", "e1", "v-1", "x", "m", 7.0, "", "", "", {})
    return select([found], store, top=1)


@pytest.mark.parametrize(
    ("act", "silent"), [("scores", "draft"), ("scores", "evaluation"), ("replay", "essay"), ("select", "essay")]
)
def test_a_store_that_does_not_answer_is_an_error_and_nothing_is_missing(
    act: str, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DocsStore(MemoryBackend())
    store.write(Document(stage="draft", doc_id="d1", task_id="t", raw_text="…"))
    store.write(Document(stage="essay", doc_id="e1", task_id="t__x", parent_doc_id="d1", raw_text="…", prompt_text="p"))
    store.write(
        Document(stage="evaluation", doc_id="v1", task_id="v-1", parent_doc_id="e1", raw_text="…", parsed_text="7")
    )
    load = MemoryBackend.load

    def away(self: MemoryBackend, stage: str, doc_id: str, parts: object = ()) -> object:
        if stage == silent:
            raise StoreUnavailable("read", "s3://bucket", "no answer", "try again")
        return load(self, stage, doc_id, parts)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryBackend, "load", away)
    with pytest.raises(StoreUnavailable):
        _all_of(act, store)

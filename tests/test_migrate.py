"""`migrate` converts records of older systems; `backfill` sets a metadata key from a table."""

from __future__ import annotations

import json
import os
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from docid import DocsStore, Document, DraftTask, InvalidName, Stages, TaskTableError
from docid.backends import LocalBackend, MemoryBackend
from docid.cli import main
from docid.curate import Change, backfill, migrate
from docid.testing import metadata

FILE_TIME = datetime(2025, 8, 30, 12, 0, 0, 250_000, tzinfo=UTC)


def write_old(store: DocsStore, stage: str, doc_id: str, record: Any, **parts: bytes) -> Path:
    """Write a document as an older system did."""
    path = store.path(stage, doc_id)
    path.mkdir(parents=True)
    text = record if isinstance(record, bytes) else json.dumps(record, ensure_ascii=False).encode()
    (path / "metadata.json").write_bytes(text)
    for name, data in ({"raw": b"Once.\r\n"} | parts).items():
        (path / f"{name}.txt").write_bytes(data)
        os.utime(path / f"{name}.txt", (0, FILE_TIME.timestamp()))
    return path


def only(store: DocsStore, **options: Any) -> Change:
    """Migrate a store with one document; return its change."""
    [change] = migrate(store, **options)
    return change


def read_files(path: Path) -> dict[str, tuple[bytes, int, int]]:
    """Return the bytes, inode and mtime of each file except the record."""
    return {
        each.name: (each.read_bytes(), each.stat().st_ino, each.stat().st_mtime_ns)
        for each in path.iterdir()
        if each.name != "metadata.json"
    }


def test_migrate_converts_the_record_in_place(local: DocsStore) -> None:
    record = {"task_id": "e-1", "parent_doc_id": "d1", "usage": {"cost": 0.1, "n": 2**60}, "none": None, "é": "ü"}
    path = write_old(local, "essay", "0e1", record, parsed="ö".encode(), prompt=b"")
    texts = read_files(path)
    before = (path / "metadata.json").read_bytes()
    planned = only(local)
    assert (planned.outcome, planned.done, planned.sources) == (
        "migrate",
        False,
        ("created_at from the time of raw.txt",),
    )
    assert (path / "metadata.json").read_bytes() == before
    assert not (path.parent.parent / ".docid").exists()

    assert only(local, apply=True) == planned._replace(done=True)
    assert read_files(path) == texts
    document = local.read("essay", "0e1", verify=True)
    assert document == Document(
        stage="essay",
        doc_id="0e1",
        task_id="e-1",
        parent_doc_id="d1",
        raw_text="Once.\r\n",
        parsed_text="ö",
        prompt_text="",
        metadata={"usage": {"cost": 0.1, "n": 2**60}, "none": None, "é": "ü"},
        created_at=FILE_TIME,
    )
    assert local.open("essay", "0e1").record["docid"]["migrated"] == {"created_at": "raw.txt"}
    # History keeps the old record byte for byte and reads it as a version.
    [entry] = (path.parent.parent / ".docid" / "history" / "essay" / "0e1").iterdir()
    assert entry.read_bytes() == before
    [version] = local.history("essay", "0e1")
    assert (version.raw_text, version.metadata["none"]) == ("Once.\r\n", None)

    inode = (path / "metadata.json").stat().st_ino
    assert only(local, apply=True).outcome == "current"
    assert (path / "metadata.json").stat().st_ino == inode
    assert local.write(document).outcome == "unchanged"


def test_migrate_takes_missing_values_from_the_table(local: DocsStore, tmp_path: Path) -> None:
    write_old(local, "draft", "d1", {"task_id": ""})
    write_old(local, "essay", "e1", {"task_id": None, "parent_doc_id": ""})
    write_old(local, "essay", "e2", {"task_id": "e-2", "parent_doc_id": "d1"})
    write_old(local, "essay", "e3", {"task_id": "e-3"})
    drafts, essays = tmp_path / "draft_tasks.csv", tmp_path / "essay_tasks.csv"
    drafts.write_text("draft_task_id,doc_id,parent_doc_id\nt-1,d1,nothing\nt-2,,x\n")
    essays.write_text("essay_task_id,doc_id,parent_doc_id\ne-1,e1,d1\nother,e2,d9\ne-3,e3,nan\n")
    changes = {each.doc_id: each for each in migrate(local, {"draft": drafts, "essay": essays}, apply=True)}
    assert {name: (each.outcome, each.task_id) for name, each in changes.items()} == {
        "d1": ("migrate", "t-1"),
        "e1": ("migrate", "e-1"),
        "e2": ("migrate", "e-2"),
        "e3": ("leave", "e-3"),
    }
    assert changes["e1"].sources == (
        "task_id from the table",
        "parent_doc_id from the table",
        "created_at from the time of raw.txt",
    )
    assert changes["e2"].warning == (
        "task_id is 'e-2' in its record (kept), and 'other' in the table; "
        "parent_doc_id is 'd1' in its record (kept), and 'd9' in the table"
    )
    assert changes["e3"].message == "neither its record nor a table has its parent_doc_id"
    assert local.open("essay", "e1").record["docid"]["migrated"] == {
        "task_id": "table",
        "parent_doc_id": "table",
        "created_at": "raw.txt",
    }
    document = local.open("draft", "d1")
    assert (document.task_id, document.parent_doc_id, document.metadata) == ("t-1", None, {})


def test_migrate_ignores_contradicting_rows(local: DocsStore, tmp_path: Path) -> None:
    write_old(local, "draft", "d1", {})
    write_old(local, "draft", "d2", {})
    table = tmp_path / "draft_tasks.csv"
    write_old(local, "draft", "d3", {"task_id": "t-3"})
    write_old(local, "draft", "d4", {})
    write_old(local, "draft", "d5", {})
    table.write_text("draft_task_id,doc_id\nt-1,d1\nt-2,d1\nt-1,d1\nt-2,d2\nt-2,d2\nt-3,d3\nt-4,d3\nnan,d4\n t-5,d5\n")
    one, two, three, four, five = migrate(local, {"draft": table})
    assert one.outcome == "leave"
    assert one.message == "its record has no task_id, and two rows of the table disagree about it"
    assert (two.outcome, two.task_id) == ("migrate", "t-2")
    assert (three.outcome, three.task_id) == ("migrate", "t-3")
    assert (four.outcome, four.message) == ("leave", "neither its record nor a table has its task_id")
    assert (five.outcome, five.message.endswith("(from the table)")) == ("leave", True)
    with pytest.raises(InvalidName):
        migrate(local, {"chapter": table})
    with pytest.raises(TaskTableError):
        migrate(local, {"essay": table})


TASK = '"task_id": "t-1"'


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        pytest.param(b"{}", "neither its record nor a table has its task_id", id="no task"),
        pytest.param(f'{{{TASK}, "x": NaN}}'.encode(), "metadata.json contains NaN, which is not valid JSON", id="NaN"),
        pytest.param(f'{{{TASK}, "x": [-Infinity]}}'.encode(), "contains -Infinity", id="infinity"),
        pytest.param(
            f'{{{TASK}, "x": 1e999}}'.encode(), "x is inf in its record, and cannot be stored unchanged", id="1e999"
        ),
        pytest.param(
            f'{{{TASK}, "x": {2**64}}}'.encode(), "its values cannot be stored in a record", id="past 64 bits"
        ),
        pytest.param(f'{{{TASK}, "x": 1, "x": 2}}'.encode(), "metadata.json has the key 'x' twice", id="a key twice"),
        pytest.param(f'{{{TASK}, "u": {{"x": 1, "x": 1}}}}'.encode(), "has the key 'x' twice", id="twice inside"),
        pytest.param(
            f'{{{TASK}, "x": "\\ud800"}}'.encode(), "cannot be stored in a record", id="half a surrogate pair"
        ),
        pytest.param(f'{{{TASK}, "x": {"[" * 900 + "]" * 900}}}'.encode(), "more than 250 deep", id="too deep"),
        pytest.param({"task_id": 7}, "task_id is 7 in its record; expected text", id="a number as task"),
        pytest.param({"task_id": "a\nb"}, "task_id 'a\\nb': ", id="a task with a newline"),
        pytest.param(
            {"task_id": "t", "parent_doc_id": "d1"}, "parent_doc_id 'd1', but stage draft has no", id="a parent"
        ),
        pytest.param({"task_id": "t", "run_id": 7}, "run_id: ", id="a number as run"),
        pytest.param({"task_id": "t", "run_id": "a\0"}, "run_id '", id="a run with NUL"),
        pytest.param({"task_id": "t", "stage": "essay"}, "stage is 'essay' in its record", id="another stage"),
        pytest.param({"task_id": "t", "doc_id": "d2"}, "doc_id is 'd2' in its record", id="another doc id"),
        pytest.param({"task_id": "t", "created_at": 1e9}, "created_at is 1000000000.0 in its record", id="seconds"),
        pytest.param({"task_id": "t", "created_at": "noon"}, "created_at is 'noon' in its record", id="no time"),
        pytest.param({"task_id": "t", "created_at": "0001-01-01T00:00:00+01:00"}, "created_at is", id="before year 1"),
        pytest.param({"task_id": "t", "created_at": "2025-01-01"}, "without time zone; use --assume-utc", id="no zone"),
    ],
)
def test_migrate_leaves_unclear_records_and_gives_the_reason(local: DocsStore, record: Any, reason: str) -> None:
    path = write_old(local, "draft", "d1", record)
    before = (path / "metadata.json").read_bytes()
    change = only(local, apply=True)
    assert (change.outcome, change.done) == ("leave", False)
    assert reason in change.message
    assert (path / "metadata.json").read_bytes() == before
    assert not (path.parent.parent / ".docid").exists()


def test_migrate_leaves_record_with_invalid_parent(local: DocsStore) -> None:
    write_old(local, "essay", "e1", {"task_id": "t", "parent_doc_id": "../d1"})
    assert "parent_doc_id '../d1': not a doc id" in only(local).message


def test_migrate_keeps_matching_keys_and_time_with_zone(local: DocsStore) -> None:
    own = {"stage": "draft", "doc_id": "d1", "created_at": "2025-08-30 14:00:00+02:00", "run_id": "r-1", "format": None}
    write_old(local, "draft", "d1", {"task_id": "t-1", **own, "files": ""})
    change = only(local, apply=True)
    assert (change.outcome, change.sources) == ("migrate", ())
    document = local.open("draft", "d1")
    assert document.record["created_at"] == own["created_at"]
    assert (document.created_at, document.run_id, document.metadata) == (FILE_TIME.replace(microsecond=0), "r-1", {})


def test_assume_utc_accepts_time_without_zone(local: DocsStore) -> None:
    write_old(local, "draft", "d1", {"task_id": "t-1", "created_at": "2025-01-01T10:00:00"})
    assert only(local, apply=True, assume_utc=True).sources == ("created_at read as UTC",)
    document = local.open("draft", "d1")
    assert document.created_at == datetime(2025, 1, 1, 10, tzinfo=UTC)
    assert document.record["docid"]["migrated"] == {"created_at": "2025-01-01T10:00:00, taken for UTC"}


def test_migrate_accepts_byte_order_mark(local: DocsStore) -> None:
    write_old(local, "draft", "d1", b"\xef\xbb\xbf" + b'{"task_id": "t-1", "x": 1}')
    assert only(local, apply=True).done
    assert local.open("draft", "d1").metadata == {"x": 1}


def test_migrate_leaves_unreadable_documents(local: DocsStore) -> None:
    (write_old(local, "draft", "d1", {"task_id": "t"}) / "raw.txt").unlink()
    write_old(local, "draft", "d2", {"task_id": "t"}, parsed=b"\xff")
    write_old(local, "draft", "d3", b"[]")
    (local.path("draft", "d4") / "sub").mkdir(parents=True)
    write_old(local, "draft", "d5", {"task_id": "t"}, odd=b"no part of it")
    changes = {each.doc_id: each for each in migrate(local, apply=True)}
    assert {name: each.outcome for name, each in changes.items()} == {
        **dict.fromkeys(("d1", "d2", "d3", "d4"), "leave"),
        "d5": "migrate",
    }
    assert "raw.txt is missing" in changes["d1"].message
    assert "parsed.txt: byte 0 is not UTF-8" in changes["d2"].message
    assert list(local.open("draft", "d5").record["files"]) == ["raw.txt"]


def test_migrate_needs_created_at_or_a_file_time() -> None:
    backend = MemoryBackend()
    backend.create("draft", "d1", b'{"task_id": "t"}', {"raw.txt": b"x"})
    backend.create("draft", "d2", b'{"task_id": "t", "created_at": "2025-01-01T10:00:00Z"}', {"raw.txt": b"x"})
    one, two = migrate(DocsStore(backend), apply=True)
    assert (one.outcome, one.message) == (
        "leave",
        "its record has no created_at, and the store has no file time for it",
    )
    assert two.done


class BusyBackend(LocalBackend):
    """A backend that other processes change at the same time."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, durability="none")
        self.refusals = 0
        self.gone = False

    def amend(self, *arguments: Any) -> bool:
        self.refusals -= 1
        if self.refusals == 99:
            raise OSError(28, "No space left on device")
        return self.refusals < 0 and super().amend(*arguments)

    def load(self, stage: str, doc_id: str, parts: Any = ()) -> Any:
        found = super().load(stage, doc_id, parts)
        if self.gone and parts:
            return None
        return None if doc_id == "vanished" else found


def test_migrate_retries_after_concurrent_changes(tmp_path: Path) -> None:
    backend = BusyBackend(tmp_path)
    store = DocsStore(backend)
    write_old(store, "draft", "d1", {"task_id": "t"})
    write_old(store, "draft", "vanished", {"task_id": "t"})
    backend.refusals = 1000
    assert only(store, apply=True).message == "other processes keep changing it; try again"
    backend.refusals = 100
    change = only(store, apply=True)
    assert (change.outcome, change.done) == ("leave", False)
    assert isinstance(change.error, OSError)
    backend.gone = True
    assert only(store, apply=True).message == "another process changed it during the run; run it again"
    backend.gone, backend.refusals = False, 3
    assert only(store, apply=True).done


def test_migrate_leaves_current_and_later_formats(local: DocsStore) -> None:
    local.write(Document(stage="draft", doc_id="d1", task_id="t", raw_text="x"))
    write_old(local, "draft", "d2", {"format": "docid/document/2"})
    one, two = migrate(local, apply=True)
    assert (one.outcome, two.outcome) == ("current", "leave")
    assert "a later docid wrote it" in two.message


@settings(max_examples=60)
@given(metadata())
def test_migrate_keeps_every_key_and_value(values: dict[str, Any]) -> None:
    own = {"format", "stage", "doc_id", "task_id", "parent_doc_id", "run_id", "created_at", "files", "docid"}
    values = {key: value for key, value in values.items() if key not in own}
    backend = MemoryBackend()
    record = {"task_id": "t", "created_at": "2025-01-01T10:00:00Z", **values}
    backend.create("draft", "d1", json.dumps(record).encode(), {"raw.txt": b"x"})
    store = DocsStore(backend)
    assert [each.done for each in migrate(store, apply=True)] == [True]
    assert json.dumps(store.open("draft", "d1").metadata) == json.dumps(values)


def test_migrate_reports_unusable_directories(local: DocsStore) -> None:
    write_old(local, "draft", "d1", {"task_id": "t"})
    for name in ("Draft-1", "con"):
        shutil.copytree(local.path("draft", "d1"), local.path("draft", "d1").parent / name)
    os.symlink(local.path("draft", "d1"), local.path("draft", "d1").parent / "d2")
    changes = list(migrate(local, apply=True))
    assert sorted(Path(each.location).name for each in changes if each.outcome == "leave") == ["Draft-1", "con", "d2"]
    assert [each.doc_id for each in changes if each.done] == ["d1"]


def test_migrate_ignores_stale_temporary_directories(local: DocsStore) -> None:
    path = write_old(local, "draft", "d1", {"task_id": "t"})
    (path.parent / ".tmp-d9-0123456789abcdef").mkdir()
    assert only(local).outcome == "migrate"


def test_old_version_keeps_its_parts(local: DocsStore) -> None:
    write_old(local, "draft", "d1", {"task_id": "t"})
    opened = local.open("draft", "d1")
    assert only(local, apply=True).done
    local.add_part("draft", "d1", "parsed", "later")
    assert [version.parsed_text for version in local.history("draft", "d1")] == [None, None]
    assert opened.read().parsed_text is None
    assert opened.parsed_text is None
    # An open document stays readable even if its new record is damaged.
    write_old(local, "draft", "d2", {"task_id": "t"})
    opened = local.open("draft", "d2")
    list(migrate(local, apply=True))
    (local.path("draft", "d2") / "metadata.json").write_text("{")
    assert opened.raw_text == "Once.\r\n"
    assert local.backend.last_modified("draft", "none") is None


# --- backfill ----------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "draft_tasks.csv"
    path.write_text("draft_task_id,doc_id,model\nt-1,d1,m-1\nt-2,d2,m-2\nt-3,d3,\nt-4,d4,m-4\nt-5,,m-5\nt-6,d6,m-6\n")
    return path


def test_backfill_sets_missing_keys_only(store: DocsStore, table: Path) -> None:
    store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="x", metadata={"n": 1}))
    store.write(Document(stage="draft", doc_id="d2", task_id="t-2", raw_text="x", metadata={"model_id": "own"}))
    store.write(Document(stage="draft", doc_id="d4", task_id="other", raw_text="x"))
    store.backend.create("draft", "d6", b'{"task_id": "t-6"}', {"raw.txt": b"x"})
    planned = list(backfill(store, "model_id", table, "model", dry_run=True))
    assert store.open("draft", "d1").metadata == {"n": 1}
    changes = list(backfill(store, "model_id", table, "model"))
    assert [(each.outcome, each.doc_id, each.done) for each in changes] == [
        ("set", "d1", True),
        ("current", "d2", False),
        ("empty", "d3", False),
        ("leave", "d4", False),
        ("unnamed", "", False),
        ("leave", "d6", False),
    ]
    assert [each._replace(done=False) for each in changes] == planned
    assert changes[0].message == "model_id='m-1'"
    assert changes[1].warning == "model_id is 'own' in its record (kept), and 'm-2' in the table"
    assert changes[3].message == "its task is 'other'; the table has 't-4'"
    assert "'docid migrate --apply'" in changes[5].message
    assert store.open("draft", "d1").metadata == {"n": 1, "model_id": "m-1"}
    assert store.read("draft", "d1", verify=True).raw_text == "x"
    again = list(backfill(store, "model_id", table, "model"))
    assert (again[0].outcome, again[0].warning, again[0].done) == ("current", "", False)


def test_backfill_refuses_invalid_arguments(store: DocsStore, table: Path, tmp_path: Path) -> None:
    for key in ("task_id", "docid", "", " ", "a\nb", "\udcff"):
        with pytest.raises(ValueError, match="expected a metadata key"):
            backfill(store, key, table, "model")
    with pytest.raises(TaskTableError, match="column modle: missing from the header; the columns are draft_task_id, "):
        backfill(store, "k", table, "modle")
    other = tmp_path / "rows.csv"
    other.write_text("draft_task_id,doc_id,v\nt-1,d1,x\nt-2,D2,x\nt-3,d3,x\n")
    with pytest.raises(ValueError, match="the name does not show the stage"):
        backfill(store, "k", other, "v")
    with pytest.raises(TaskTableError, match="row 3, column doc_id: 'D2'; not a doc id"):
        backfill(store, "k", other, "v", stage="draft")
    other.write_text("draft_task_id,doc_id,v\nt-1,d1,x\nt-1,d1,y\nt-1,d1,x\nt-1\n")
    with pytest.raises(TaskTableError) as caught:
        backfill(store, "k", other, "v", stage="draft")
    assert [(problem.row, problem.column) for problem in caught.value.problems] == [(3, "v"), (5, None)]
    with pytest.raises(InvalidName):
        backfill(DocsStore(MemoryBackend(), stages=Stages.chain("a")), "k", other, "v", stage="draft")


def test_backfill_leaves_edited_record_that_would_change(local: DocsStore, table: Path) -> None:
    local.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="x", metadata={"n": 1}))
    path = local.path("draft", "d1") / "metadata.json"
    path.write_text(path.read_text().replace('"n": 1', f'"n": {2**70}'))
    before = path.read_bytes()
    change = next(backfill(local, "model_id", table, "model"))
    assert (change.outcome, change.message) == (
        "leave",
        f"n is {2**70} in its record, and cannot be stored unchanged",
    )
    assert path.read_bytes() == before


def test_keys_that_docid_uses_itself_stay_as_metadata(local: DocsStore) -> None:
    own = {"format": "v1", "files": ["a.txt"], "docid": 0}
    write_old(local, "draft", "d1", {"task_id": "t", **own, "model": "m"})
    assert only(local, apply=True).done
    assert local.open("draft", "d1").metadata == {**own, "model": "m"}
    assert local.open("draft", "d1").record["format"] == "docid/document/1"


def test_keys_get_other_names(local: DocsStore) -> None:
    write_old(local, "draft", "d1", {"task": "t-0"})
    write_old(local, "essay", "e1", {"task": "t-1", "source": "d1", "when": "2025-01-01T00:00:00Z", "model": "m"})
    rename = {"task": "task_id", "source": "parent_doc_id", "when": "created_at", "model": "model_id"}
    assert {each.outcome for each in migrate(local, rename=rename)} == {"migrate"}
    assert all(each.done for each in migrate(local, rename=rename, apply=True))
    document = local.read("essay", "e1")
    assert (document.task_id, document.parent_doc_id, document.metadata) == ("t-1", "d1", {"model_id": "m"})
    assert document.created_at == datetime(2025, 1, 1, tzinfo=UTC)
    write_old(local, "draft", "d2", {"task": "t-2", "task_id": "t-3"})
    [change] = [each for each in migrate(local, rename=rename) if each.outcome == "leave"]
    assert change.message == "its record has both task and its new name task_id"


def test_task_id_is_made_from_keys_of_the_record(local: DocsStore) -> None:
    write_old(local, "draft", "d1", {"combo_id": "tides", "model": "m-1", "seed": 7})
    write_old(local, "draft", "d2", {"combo_id": "moss", "model": "m-1"})
    write_old(local, "draft", "d3", {"task_id": "own"})
    one, two, three = migrate(local, task_id="{combo_id}__{model}-{seed}", apply=True)
    assert one.sources == ("task_id from the template", "created_at from the time of raw.txt")
    assert local.open("draft", "d1").task_id == "tides__m-1-7"
    assert local.open("draft", "d1").record["docid"]["migrated"]["task_id"] == "template"
    assert two.message == "the template of task ids needs seed, which is None in its record"
    write_old(local, "draft", "d4", {"combo_id": ""})
    [change] = [each for each in migrate(local, task_id="{combo_id}__") if each.doc_id == "d4"]
    assert change.message == "the template of task ids needs combo_id, which is '' in its record"
    assert three.done
    assert local.open("draft", "d3").task_id == "own"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rename": {"a": "task_id", "b": "task_id"}}, "rename: two keys to 'task_id'; expected a new name for each"),
        ({"task_id": "same"}, "task_id: 'same'; expected keys of records in braces"),
        ({"task_id": "{"}, "task_id: '{' is not a template: "),
        ({"rename": {"a": "files"}}, "rename: a to 'files'; expected another key than docid's own"),
        ({"task_id": "{a.b}"}, "task_id: '{a.b}'; expected keys of records in braces"),
        ({"task_id": "{a!r}"}, "expected keys of records in braces"),
        ({"task_id": "{}"}, "expected keys of records in braces"),
        ({"task_id": "{a:>3}"}, "expected keys of records in braces"),
    ],
)
def test_unusable_names_and_templates_are_refused(local: DocsStore, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        migrate(local, **options)


def test_directory_with_a_prompt_alone_is_explained_at_once(
    local: DocsStore, capsys: pytest.CaptureFixture[str]
) -> None:
    path = local.path("draft", "d1")
    path.mkdir(parents=True)
    (path / "prompt.txt").write_text("Write.")
    local.path("draft", "d2").mkdir()
    local.path("draft", "d3").mkdir()
    (local.path("draft", "d3") / "raw.txt").write_text("a text that was paid for")
    found = {change.doc_id: change.message for change in migrate(local)}
    assert found["d1"].startswith("it has prompt.txt, but no metadata.json: the older system has not finished it")
    assert "'docid repair --stale-after 0s --apply' moves it aside" in found["d1"]
    assert found["d3"] == "it has raw.txt, but no metadata.json: restore the record to keep the text"
    at = ("--store", str(path.parent.parent))
    assert main(["repair", *at]) == 0
    out = capsys.readouterr().out
    assert out.startswith("nothing to repair\n")
    assert "changed less than 3,600 s ago: a writer may still use it" in out
    # Files that repair leaves alone do not hide them.
    (path.parent / "notes.txt").write_text("mine")
    os.utime(path.parent / "notes.txt", (0, 0))
    assert main(["repair", *at]) == 0
    assert "3 unfinished or damaged documents changed less than 3,600 s ago" in capsys.readouterr().out
    assert main(["repair", "--stale-after", "0s", "--apply", *at]) == 0
    assert local.ensure(DraftTask(task_id="t", doc_id="d1"), lambda _: "made").outcome == "created"


def test_command_renames_and_makes_task_ids(local: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_old(local, "draft", "d1", {"combo": "tides", "m": 1})
    at = ("--store", str(path.parent.parent))
    options = ["--rename", "combo=combo_id", "--task-id", "{combo_id}__{m}", "--apply"]
    assert main(["migrate", *options, *at]) == 0
    assert "task_id from the template: 1" in capsys.readouterr().out
    assert local.open("draft", "d1").task_id == "tides__1"
    for wrong, message in (("combo", "--rename combo: expected KEY=NEW"), ("a=files", "--rename: a to 'files'")):
        assert main(["migrate", "--rename", wrong, *at]) == 2
        assert message in capsys.readouterr().err
    assert main(["migrate", "--rename", "a=b", "--rename", "a=c", *at]) == 2
    assert "--rename: a key has two new names" in capsys.readouterr().err
    assert main(["migrate", "--rename", "task_id=format", *at]) == 2
    assert "--rename: task_id to 'format'" in capsys.readouterr().err
    (path.parent / "draft_tasks.csv").write_text('draft_task_id,doc_id\n"')
    assert main(["migrate", "--tables", str(path.parent / "draft_tasks.csv"), *at]) == 2
    assert "docid: --" not in capsys.readouterr().err
    assert main(["migrate", "--task-id", "{}", *at]) == 2
    assert "--task-id: '{}'" in capsys.readouterr().err

"""The audit of a store: each fault gives exactly its findings, and a sound store gives none."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from docid import DocsStore, Document, DraftTask, Stages, TaskRow, UnreadableDocument, audit, reserve_doc_id
from docid.backends import MemoryBackend, Stored
from docid.core.findings import LEVELS
from docid.core.record import Record
from docid.repair import repair
from tests.auditing import (
    Rows,
    add_row,
    audit_in,
    change_row,
    edit_record,
    find_path,
    list_findings,
    make_document,
    run,
    write_all,
)
from tests.faults import allow_reading
from tests.test_audit_tables import CASES


def test_sound_store_has_no_findings(full: DocsStore, rows: Rows, store: DocsStore) -> None:
    for report in (audit(full, rows), audit(full, rows, verify=True), audit(full), audit(full.backend.root)):
        assert report.findings == ()
    facts = audit(full, rows).stages["essay"]
    assert (facts.rows, facts.written, facts.pending, facts.parents_pending) == (2, 2, 0, 0)
    assert (facts.underived, facts.documents, facts.parsed_missing) == (0, 2, 0)
    assert audit(store).findings == ()


def test_memory_backend_is_audited(rows: Rows) -> None:
    store = DocsStore(MemoryBackend())
    write_all(store, rows)
    assert audit(store, rows, verify=True).findings == ()
    store.write(Document(stage="draft", doc_id="d9", task_id="d-9", raw_text="r"))
    for chunk in (None, 3):
        report = audit_in(rows, chunk, store)
        assert list_findings(report) == [("orphan-document", "draft", "d9")]
        assert report.stages["draft"].parsed_missing == 1


def test_missing_store_counts_as_empty(tmp_path: Path, rows: Rows) -> None:
    report = audit(tmp_path / "nowhere", rows)
    assert report.findings == ()
    assert [(facts.written, facts.pending, facts.parents_pending) for facts in report.stages.values()] == [
        (0, 2, None),
        (0, 2, 2),
        (0, 2, 2),
    ]
    assert not (tmp_path / "nowhere").exists()


STORE_CASES: list[Any] = []


def store_case(name: str, **options: Any) -> Callable[[Callable[[DocsStore, Rows], Any]], None]:
    def add(act: Callable[[DocsStore, Rows], Any]) -> None:
        STORE_CASES.append(pytest.param(act, options, id=name))

    return add


@store_case("lineage-conflict: another task")
def _(store: DocsStore, rows: Rows) -> Any:
    return change_row(rows, "evaluation", 0, task_id="v-9"), [("lineage-conflict", "evaluation", 0)]


@store_case("lineage-conflict: another parent")
def _(store: DocsStore, rows: Rows) -> Any:
    faulty = change_row(rows, "essay", 0, parent_doc_id=rows["draft"][1].doc_id)
    return faulty, [("lineage-conflict", "essay", 0)]


@store_case("lineage-conflict: a parent in a stage without parents")
def _(store: DocsStore, rows: Rows) -> Any:
    edit_record(find_path(store, rows["draft"][0]), parent_doc_id="x")
    return rows, [("lineage-conflict", "draft", 0)]


@store_case("lineage-conflict: other inputs")
def _(store: DocsStore, rows: Rows) -> Any:
    faulty = change_row(rows, "evaluation", 0, input_doc_ids=(f"draft/{rows['draft'][1].doc_id}",))
    return faulty, [("lineage-conflict", "evaluation", 0)]


@store_case("parent-changed")
def _(store: DocsStore, rows: Rows) -> Any:
    store.write(Document.from_task(rows["draft"][0], raw_text="another text"), if_exists="replace")
    return rows, [("parent-changed", "essay", 0)]


@store_case("parent-changed: of a record whose hashes are damaged")
def _(store: DocsStore, rows: Rows) -> Any:
    path = find_path(store, rows["draft"][0])
    record = json.loads((path / "metadata.json").read_text())
    record["files"]["raw.txt"]["sha256"] = "?" * 64
    edit_record(path, files=record["files"])
    return rows, [("parent-changed", "essay", 0)]


@store_case("input-changed")
def _(store: DocsStore, rows: Rows) -> Any:
    row = DraftTask(task_id="merged", doc_id="m1", input_doc_ids=(f"evaluation/{rows['evaluation'][0].doc_id}",))
    store.write(Document.from_task(row, raw_text="of a score"))
    store.write(Document.from_task(rows["evaluation"][0], raw_text="another text"), if_exists="replace")
    return add_row(rows, row), [("input-changed", "draft", "m1")]


@store_case("missing-input")
def _(store: DocsStore, rows: Rows) -> Any:
    inputs = ("essay/gone", f"evaluation/{rows['evaluation'][0].doc_id}")
    row = DraftTask(task_id="merged", doc_id="m1", input_doc_ids=inputs)
    store.write(Document.from_task(row, raw_text="of a score"), require_parent=False)
    return add_row(rows, row), [("missing-input", "draft", "m1")]


@store_case("missing-input of a document without a row")
def _(store: DocsStore, rows: Rows) -> Any:
    document = Document(stage="draft", doc_id="m1", task_id="m", raw_text="x", inputs=("essay/gone", "cover/c1"))
    record, parts = Record.from_document(document, "0" * 16)
    store.backend.create("draft", "m1", record.to_bytes(), parts)
    return rows, [
        ("missing-input", "draft", "m1"),
        ("missing-input", "draft", "m1"),
        ("orphan-document", "draft", "m1"),
    ]


@store_case("missing-input: a document of another stage")
def _(store: DocsStore, rows: Rows) -> Any:
    row = DraftTask(task_id="merged", doc_id="m1", input_doc_ids=(f"essay/{rows['evaluation'][0].doc_id}",))
    return add_row(rows, row), [("missing-input", "draft", "m1")]


@store_case("malformed-id: inputs")
def _(store: DocsStore, rows: Rows) -> Any:
    # Of one table as a file: rows refuse such inputs themselves.
    row = DraftTask(task_id="merged", doc_id="m1")
    object.__setattr__(row, "input_doc_ids", ("essay", "draft/m1"))
    return add_row(rows, row), [("malformed-id", "draft", "m1")]


@store_case("malformed-id: inputs of a stored document")
def _(store: DocsStore, rows: Rows) -> Any:
    # The document is compared by the other cells.
    row = DraftTask(task_id="merged", doc_id="m1", input_doc_ids=(f"draft/{rows['draft'][0].doc_id}",))
    store.write(Document.from_task(row, raw_text="x"))
    object.__setattr__(row, "input_doc_ids", ("essay",))
    return add_row(rows, row), [("malformed-id", "draft", "m1")]


@store_case("lineage-cycle")
def _(store: DocsStore, rows: Rows) -> Any:
    # a draft from the essay that is made from it; and two drafts from each other
    essay = rows["essay"][0]
    names = {"a1": ("draft/b1",), "b1": ("draft/a1",), "c1": (f"essay/{essay.doc_id}", "draft/e1"), "e1": ("draft/c1",)}
    more = [DraftTask(task_id=f"merged-{name}", doc_id=name, input_doc_ids=inputs) for name, inputs in names.items()]
    for row in more:
        store.write(Document.from_task(row, raw_text="x"), require_parent=False)
    for row in more:
        rows = add_row(rows, row)
    return rows, [("lineage-cycle", "draft", "a1"), ("lineage-cycle", "draft", "c1")]


@store_case("missing-source")
def _(store: DocsStore, rows: Rows) -> Any:
    return change_row(rows, "draft", 0, source_doc_id="d9"), [("missing-source", "draft", 0)]


@store_case("missing-source: without its prompt")
def _(store: DocsStore, rows: Rows) -> Any:
    store.write(Document(stage="draft", doc_id="d9", task_id="d-9", raw_text="r"))
    with_source = change_row(rows, "draft", 0, source_doc_id="d9")
    more = add_row(with_source, DraftTask(task_id="d-9", doc_id="d9"))
    return more, [("missing-source", "draft", 0)]


@store_case("an existing source")
def _(store: DocsStore, rows: Rows) -> Any:
    return change_row(rows, "draft", 0, source_doc_id=rows["draft"][1].doc_id), []


@store_case("a torn source gives one finding")
def _(store: DocsStore, rows: Rows) -> Any:
    (find_path(store, rows["draft"][1]) / "raw.txt").write_text("")
    return change_row(rows, "draft", 0, source_doc_id=rows["draft"][1].doc_id), [("torn-document", "draft", 1)]


@store_case("misplaced-document")
def _(store: DocsStore, rows: Rows) -> Any:
    os.rename(find_path(store, rows["evaluation"][0]), find_path(store, rows["essay"][0]).with_name("m1"))
    return rows, [("misplaced-document", "essay", "m1")]


@store_case("unreadable-record")
def _(store: DocsStore, rows: Rows) -> Any:
    (find_path(store, rows["draft"][0]) / "metadata.json").write_text("{")
    return rows, [("unreadable-record", "draft", 0)]


@store_case("unreadable-record: a file where a directory should be")
def _(store: DocsStore, rows: Rows) -> Any:
    path = find_path(store, rows["draft"][0])
    shutil.rmtree(path)
    path.write_text("x")
    return rows, [("unreadable-record", "draft", 0)]


@store_case("unreadable-record: a loop of links")
def _(store: DocsStore, rows: Rows) -> Any:
    path = find_path(store, rows["draft"][0])
    shutil.rmtree(path)
    path.symlink_to(path)
    return rows, [("unreadable-record", "draft", 0)]


@store_case("unreadable-record: a stage that is a file")
def _(store: DocsStore, rows: Rows) -> Any:
    path = find_path(store, rows["draft"][0]).parent
    shutil.rmtree(path)
    path.write_text("x")
    return rows, [("unreadable-record", "draft", "")]


@store_case("torn-document: a size")
def _(store: DocsStore, rows: Rows) -> Any:
    (find_path(store, rows["essay"][1]) / "parsed.txt").write_text("")
    return rows, [("torn-document", "essay", 1)]


@store_case("torn-document: a missing part")
def _(store: DocsStore, rows: Rows) -> Any:
    (find_path(store, rows["essay"][1]) / "prompt.txt").unlink()
    return rows, [("torn-document", "essay", 1)]


@store_case("hash-mismatch", verify=True)
def _(store: DocsStore, rows: Rows) -> Any:
    (find_path(store, rows["essay"][1]) / "parsed.txt").write_text("P")
    return rows, [("hash-mismatch", "essay", 1)]


@store_case("a changed byte without verify")
def _(store: DocsStore, rows: Rows) -> Any:
    (find_path(store, rows["essay"][1]) / "parsed.txt").write_text("P")
    return rows, []


@store_case("orphan-document")
def _(store: DocsStore, rows: Rows) -> Any:
    return {**rows, "evaluation": rows["evaluation"][:1]}, [("orphan-document", "evaluation", 1)]


@store_case("an orphan whose parent is missing")
def _(store: DocsStore, rows: Rows) -> Any:
    orphan = Document(stage="essay", doc_id="e9", task_id="e-9", parent_doc_id="d9", raw_text="r")
    store.write(orphan, require_parent=False)
    return rows, [("missing-parent", "essay", "e9"), ("orphan-document", "essay", "e9")]


@store_case("an orphan whose parent is reserved")
def _(store: DocsStore, rows: Rows) -> Any:
    orphan = Document(stage="essay", doc_id="e9", task_id="e-9", parent_doc_id="d9", raw_text="r")
    store.write(orphan, require_parent=False)
    return add_row(rows, DraftTask(task_id="d-9", doc_id="d9")), [("orphan-document", "essay", "e9")]


@store_case("an orphan whose parent is of another stage")
def _(store: DocsStore, rows: Rows) -> Any:
    parent = rows["evaluation"][0].doc_id
    orphan = Document(stage="essay", doc_id="e9", task_id="e-9", parent_doc_id=parent, raw_text="r")
    store.write(orphan, require_parent=False)
    return rows, [("wrong-stage-parent", "essay", "e9"), ("orphan-document", "essay", "e9")]


@store_case("an orphan without a parent")
def _(store: DocsStore, rows: Rows) -> Any:
    store.write(Document(stage="essay", doc_id="e9", task_id="e-9", raw_text="r"), require_parent=False)
    return rows, [("missing-parent-id", "essay", "e9"), ("orphan-document", "essay", "e9")]


@store_case("an orphan whose parent is not a doc id")
def _(store: DocsStore, rows: Rows) -> Any:
    orphan = Document(stage="essay", doc_id="e9", task_id="e-9", parent_doc_id="d9", raw_text="r")
    edit_record(store.write(orphan, require_parent=False).path, parent_doc_id="..")
    return rows, [("malformed-id", "essay", "e9"), ("orphan-document", "essay", "e9")]


@store_case("an orphan whose parent is unfinished", stale_after=0)
def _(store: DocsStore, rows: Rows) -> Any:
    orphan = Document(stage="essay", doc_id="e9", task_id="e-9", parent_doc_id="d9", raw_text="r")
    path = store.write(orphan, require_parent=False).path
    (path.parents[1] / "draft" / "d9").mkdir()
    (path.parents[1] / "draft" / "d9" / "raw.txt").write_text("r")
    return rows, [
        ("missing-parent", "essay", "e9"),
        ("uncommitted-directory", "draft", "d9"),
        ("orphan-document", "essay", "e9"),
    ]


@store_case("an orphan whose parent is torn")
def _(store: DocsStore, rows: Rows) -> Any:
    orphan = Document(stage="essay", doc_id="e9", task_id="e-9", parent_doc_id="d9", raw_text="r")
    path = store.write(orphan, require_parent=False).path
    shutil.copytree(find_path(store, rows["draft"][0]), path.parents[1] / "draft" / "d9")
    return rows, [("misplaced-document", "draft", "d9"), ("orphan-document", "essay", "e9")]


@store_case("legacy-record")
def _(store: DocsStore, rows: Rows) -> Any:
    path = find_path(store, rows["evaluation"][0])
    (path / "metadata.json").write_text('{"task_id": "v-1"}')
    return rows, [("legacy-record", "evaluation", 0)]


@store_case("a legacy record of another task")
def _(store: DocsStore, rows: Rows) -> Any:
    (find_path(store, rows["draft"][0]) / "metadata.json").write_text('{"task_id": "other"}')
    return rows, [("lineage-conflict", "draft", 0), ("legacy-record", "draft", 0)]


@store_case("a legacy orphan without a recorded parent")
def _(store: DocsStore, rows: Rows) -> Any:
    path = find_path(store, rows["essay"][0]).with_name("e9")
    path.mkdir()
    (path / "metadata.json").write_text("{}")
    (path / "raw.txt").write_text("r")
    return rows, [("legacy-record", "essay", "e9"), ("orphan-document", "essay", "e9")]


@store_case("unlisted-file in a document")
def _(store: DocsStore, rows: Rows) -> Any:
    (find_path(store, rows["draft"][0]) / "notes.txt").write_text("mine")
    return rows, [("unlisted-file", "draft", 0)]


@store_case("unlisted-file in a stage")
def _(store: DocsStore, rows: Rows) -> Any:
    (find_path(store, rows["draft"][0]).parent / "notes.txt").write_text("mine")
    return rows, [("unlisted-file", "draft", "")]


@store_case("malformed-id: a name that is not a doc id")
def _(store: DocsStore, rows: Rows) -> Any:
    path = find_path(store, rows["evaluation"][0])
    os.rename(path, path.with_name("Upper"))
    return rows, [("malformed-id", "evaluation", "")]


@store_case("malformed-id: a name that is not UTF-8")
def _(store: DocsStore, rows: Rows) -> Any:
    path = os.fsencode(find_path(store, rows["evaluation"][0]))
    os.rename(path, os.path.join(os.path.dirname(path), b"\xff\xfe"))
    return rows, [("malformed-id", "evaluation", "")]


@store_case("uncommitted-directory", stale_after=0)
def _(store: DocsStore, rows: Rows) -> Any:
    (find_path(store, rows["evaluation"][0]) / "metadata.json").unlink()
    return rows, [("uncommitted-directory", "evaluation", 0)]


@store_case("a young uncommitted directory with a row")
def _(store: DocsStore, rows: Rows) -> Any:
    (find_path(store, rows["evaluation"][0]) / "metadata.json").unlink()
    return rows, [("uncommitted-directory", "evaluation", 0)]


@store_case("a young uncommitted directory without a row")
def _(store: DocsStore, rows: Rows) -> Any:
    (find_path(store, rows["evaluation"][0]) / "metadata.json").unlink()
    return {**rows, "evaluation": rows["evaluation"][1:]}, []


@store_case("torn-document, newlines of Windows")
def _(store: DocsStore, rows: Rows) -> Any:
    store.write(attrs.evolve(make_document(rows["evaluation"][0]), raw_text="one\ntwo\n"), if_exists="replace")
    (find_path(store, rows["evaluation"][0]) / "raw.txt").write_bytes(b"one\r\ntwo\r\n")
    return rows, [("torn-document", "evaluation", 0)]


@store_case("damaged-history", verify=True)
def _(store: DocsStore, rows: Rows) -> Any:
    row = rows["evaluation"][0]
    for text in ("second", "third"):
        store.write(attrs.evolve(make_document(row), raw_text=text), if_exists="replace")
    for path in (Path(store.root) / ".docid/history/evaluation" / row.doc_id).glob("*/raw.txt"):
        path.write_bytes(path.read_bytes().swapcase())
    return rows, [("damaged-history", "evaluation", 0)]


@store_case("a damaged history without verify")
def _(store: DocsStore, rows: Rows) -> Any:
    row = rows["evaluation"][0]
    store.write(attrs.evolve(make_document(row), raw_text="second"), if_exists="replace")
    [path] = (Path(store.root) / ".docid/history/evaluation" / row.doc_id).glob("*/raw.txt")
    path.unlink()
    return rows, []


@store_case("an empty directory")
def _(store: DocsStore, rows: Rows) -> Any:
    path = find_path(store, rows["evaluation"][0])
    shutil.rmtree(path)
    path.mkdir()
    return rows, []


@store_case("stale-temporary", stale_after=0)
def _(store: DocsStore, rows: Rows) -> Any:
    (find_path(store, rows["draft"][0]).parent / ".tmp-d9-0123456789abcdef").mkdir()
    return rows, [("stale-temporary", "draft", "d9")]


@store_case("a deleted document")
def _(store: DocsStore, rows: Rows) -> Any:
    shutil.rmtree(find_path(store, rows["draft"][0]))
    return rows, []


@pytest.mark.parametrize("chunk", [None, 1, 3, 16])
@pytest.mark.parametrize(("act", "options"), STORE_CASES)
def test_fault_in_store_gives_exactly_its_findings(
    full: DocsStore, rows: Rows, act: Any, options: dict[str, Any], chunk: int | None
) -> None:
    tables, expected = act(full, rows)
    report = audit_in(tables, chunk, full, **options)
    names = [
        (code, stage, rows[stage][doc_id].doc_id if isinstance(doc_id, int) else doc_id)
        for code, stage, doc_id in expected
    ]
    assert list_findings(report) == names
    for finding in report.findings:
        assert finding.message
        assert finding.hint
        json.dumps(finding.to_dict())
        # A finding about a doc id of the tables also names its task id.
        if finding.doc_id in {row.doc_id for stage_rows in tables.values() for row in stage_rows}:
            assert finding.task_id


def test_every_code_has_a_case() -> None:
    covered = {str(param.id).split(":")[0].split(",")[0].split(" ")[0] for param in [*CASES, *STORE_CASES]}
    assert set(LEVELS) <= covered


@pytest.mark.parametrize(
    ("stored", "found", "named"),
    [
        (b"one\ntwo\n", b"one\r\ntwo\r\n", "LF to CRLF"),
        (b"one\r\ntwo\r\n", b"one\ntwo\n", "CRLF to LF"),
        (b"one\r\ntwo\n", b"one\r\ntwo\r\n", ""),  # the first newline was not translated, so nothing restores it
        (b"one\n", b"two\r\n", ""),
        (b"one\n", b"one\n\n", ""),
    ],
)
@pytest.mark.parametrize("verify", [True, False])
def test_translated_newlines_are_named_and_left_to_the_user(
    local: DocsStore, stored: bytes, found: bytes, named: str, verify: bool
) -> None:
    path = local.write(Document(stage="draft", doc_id="a1", task_id="t-1", raw_text=stored.decode())).path
    (path / "raw.txt").write_bytes(found)
    [finding] = audit(local, verify=verify, stale_after=0).findings
    assert finding.code == "torn-document"
    assert ("newlines were translated" in finding.message) == bool(named)
    assert named in finding.message
    assert (".gitattributes" in finding.hint) == bool(named)
    [step] = repair(local, apply=True, stale_after=0)
    assert step.done == (not named)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("attributes", ["", "* -text\n"])
def test_store_survives_git_with_the_documented_attributes(local: DocsStore, tmp_path: Path, attributes: str) -> None:
    local.write(Document(stage="draft", doc_id="a1", task_id="t-1", raw_text="one\ntwo\n"))
    local.write(Document(stage="draft", doc_id="b2", task_id="t-2", raw_text="one\r\ntwo\n", parsed_text="one"))
    (Path(local.root) / ".gitattributes").write_text(attributes)

    def git(*arguments: str) -> None:
        settings = ("core.autocrlf=true", "core.safecrlf=false", "user.name=a", "user.email=a@b", "gc.auto=0")
        options = [option for setting in settings for option in ("-c", setting)]
        subprocess.run(["git", "-C", local.root, *options, *arguments], check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "documents")
    git("clone", "-q", ".", str(tmp_path / "clone"), "-c", "core.autocrlf=true")
    messages = [finding.message for finding in audit(tmp_path / "clone", verify=True).findings]
    assert ["LF to CRLF" in message for message in messages] == ([] if attributes else [True, False])


def test_history_is_verified_in_every_backend(store: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    row = DraftTask(task_id="t-1", doc_id="d1")
    store.write(make_document(row))
    store.write(attrs.evolve(make_document(row), raw_text="second"), if_exists="replace")
    assert audit(store, verify=True).findings == ()
    history = store.backend.history

    def damage(stage: str, doc_id: str, parts: Any) -> Iterator[Stored]:
        for version in history(stage, doc_id, parts):
            yield version._replace(parts={**version.parts, "raw.txt": b"RAW OF T-1"})
            yield version._replace(parts={})
            yield version

    monkeypatch.setattr(store.backend, "history", damage)
    report = audit(store, {"draft": [row]}, verify=True)
    assert report.ok
    assert list_findings(report) == [("damaged-history", "draft", "d1")] * 2
    assert {finding.task_id for finding in report.findings} == {"t-1"}
    assert "not in the current document: raw.txt: its SHA-256 differs" in report.findings[0].message
    assert report.stages["draft"].written == 1

    def fail(*_: object) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(store.backend, "history", fail)
    monkeypatch.setattr(store.backend, "with_history", fail)
    [finding] = audit(store, {"draft": [row]}, verify=True).findings
    assert (finding.code, finding.task_id) == ("damaged-history", "t-1")
    assert "its history cannot be read: [Errno 5]" in finding.message


def test_missing_parent_is_found_without_tables(full: DocsStore, rows: Rows) -> None:
    shutil.rmtree(find_path(full, rows["draft"][0]))
    essay = rows["essay"][0].doc_id
    for chunk in (None, 2, 7):
        assert list_findings(audit_in({}, chunk, full)) == [("missing-parent", "essay", essay)]
    assert audit(full, {"draft": rows["draft"]}).ok  # the missing parent has a row


def test_counts_separate_written_pending_and_faulty_rows(full: DocsStore, rows: Rows) -> None:
    shutil.rmtree(find_path(full, rows["draft"][0]))
    (find_path(full, rows["draft"][1]) / "raw.txt").write_text("")
    (find_path(full, rows["evaluation"][0]) / "metadata.json").unlink()
    more = add_row(rows, DraftTask(task_id="d-3", doc_id="d3"))
    for chunk in (None, 3):
        report = audit_in(more, chunk, full, stale_after=0)
        draft, essay, evaluation = report.stages.values()
        assert (draft.rows, draft.written, draft.pending, draft.documents) == (3, 0, 2, 0)
        assert (essay.written, essay.pending, essay.parents_pending) == (2, 0, 1)
        assert (evaluation.written, evaluation.pending) == (1, 0)


def test_parents_in_unlistable_stage_are_not_reported(
    full: DocsStore, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = type(full.backend).ids

    def refuse(backend: Any, stage: str) -> Any:
        if stage == "draft":
            raise PermissionError(13, "Permission denied", f"docs/{stage}")
        return original(backend, stage)

    monkeypatch.setattr(type(full.backend), "ids", refuse)
    for chunk in (None, 3):
        report = audit_in({"essay": rows["essay"]}, chunk, full)
        assert list_findings(report) == [("unreadable-record", "draft", "")]
        assert audit_in({}, chunk, full).findings == report.findings
        with_source = change_row(rows, "draft", 0, source_doc_id="d9")
        assert audit_in(with_source, chunk, full).findings == report.findings


def test_unreadable_parent_is_not_reported_missing(
    full: DocsStore, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = type(full.backend).load

    def refuse(backend: Any, stage: str, *args: Any) -> Any:
        if stage == "draft":
            raise PermissionError(13, "Permission denied")
        return original(backend, stage, *args)

    monkeypatch.setattr(type(full.backend), "load", refuse)
    monkeypatch.setattr(type(full.backend), "listing", lambda *_: None)
    expected = {("unreadable-record", "draft", row.doc_id) for row in rows["draft"]}
    for chunk in (None, 5):
        assert set(list_findings(audit_in({}, chunk, full))) == expected


def test_document_deleted_during_audit_is_pending(full: DocsStore, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    original = type(full.backend).listing
    path = find_path(full, rows["evaluation"][0])

    def delete_then_list(backend: Any, stage: str, doc_id: str) -> Any:
        if doc_id == path.name and path.exists():
            shutil.rmtree(path)
        return original(backend, stage, doc_id)

    monkeypatch.setattr(type(full.backend), "listing", delete_then_list)
    report = audit(full, rows)
    assert report.findings == ()
    assert (report.stages["evaluation"].written, report.stages["evaluation"].pending) == (1, 1)


def test_invalid_cell_gives_no_second_finding(full: DocsStore, rows: Rows) -> None:
    report = audit(full, change_row(rows, "essay", 0, parent_doc_id=None))
    assert list_findings(report) == [("missing-parent-id", "essay", rows["essay"][0].doc_id)]
    report = audit(full, change_row(rows, "essay", 0, task_id="e-1 "))
    assert list_findings(report) == [("malformed-id", "essay", rows["essay"][0].doc_id)]


def test_conflict_names_only_differing_fields(full: DocsStore, rows: Rows) -> None:
    essay, other = rows["essay"][0], rows["draft"][1].doc_id
    [finding] = audit(full, change_row(rows, "essay", 0, parent_doc_id=other)).findings
    stored, expected = f"parent_doc_id={essay.parent_doc_id!r}", f"parent_doc_id={other!r}"
    assert finding.message == f"{find_path(full, essay)} has {stored}; the row has {expected}"
    assert finding.hint.startswith("docid refuses to write this row: correct the row")


def test_conflict_under_derived_id_suggests_edited_record(full: DocsStore, rows: Rows) -> None:
    draft = rows["draft"][0]
    assert draft.doc_id == reserve_doc_id("draft", draft.task_id)
    edit_record(find_path(full, draft), task_id="other")
    [finding] = [each for each in audit(full, rows).findings if each.code == "lineage-conflict"]
    assert finding.hint.startswith("docid refuses to write this row: correct the record if it was edited (the doc id")


@pytest.mark.parametrize(
    ("stage", "record", "unknown"),
    [
        pytest.param("draft", "{}", "task_id", id="no task"),
        pytest.param("evaluation", '{"task_id": "v-1"}', "parent_doc_id", id="no parent"),
        pytest.param("evaluation", "{}", "task_id and parent_doc_id", id="neither"),
    ],
)
def test_legacy_record_without_lineage_does_not_count_as_written(
    full: DocsStore, rows: Rows, stage: str, record: str, unknown: str
) -> None:
    row = rows[stage][0]
    (find_path(full, row) / "metadata.json").write_text(record)
    report = audit(full, rows)
    [finding] = report.findings
    assert (finding.code, finding.doc_id) == ("legacy-record", row.doc_id)
    assert finding.message.endswith(f"it lacks {unknown}, so a run refuses it")
    assert "docid migrate --tables" in finding.hint
    assert (report.stages[stage].written, report.stages[stage].pending) == (len(rows[stage]) - 1, 0)
    with pytest.raises(UnreadableDocument, match="does not name its task or parent"):
        full.ensure(row, make_document)


def test_verify_reports_legacy_record_without_hashes(full: DocsStore, rows: Rows) -> None:
    (find_path(full, rows["draft"][0]) / "metadata.json").write_text('{"task_id": "d-1"}')
    [finding] = audit(full, rows, verify=True).findings
    assert finding.message == "its record was written by an older system and has no hashes to verify"


def test_audit_accepts_other_stages(tmp_path: Path) -> None:
    stages = Stages({"outline": None, "chapter": "outline", "blurb": "outline"})
    store = DocsStore(tmp_path, stages=stages)
    outline = Document(stage="outline", doc_id="o1", task_id="o", raw_text="r")
    store.write_many([outline, Document(stage="blurb", doc_id="b1", task_id="b", parent_doc_id="o1", raw_text="r")])
    blurb = TaskRow.of("blurb", "outline")(task_id="b", doc_id="b1", parent_doc_id="o1")
    assert audit(store, {"blurb": [blurb]}).ok
    assert list(audit(tmp_path, stages=stages).stages) == ["outline", "chapter", "blurb"]
    assert audit(None, {"blurb": [blurb]}, stages=stages).ok


def test_unlistable_stage_does_not_hide_missing_parents(full: DocsStore, rows: Rows) -> None:
    evaluations = find_path(full, rows["evaluation"][0]).parent
    shutil.rmtree(evaluations)
    evaluations.write_text("x")
    shutil.rmtree(find_path(full, rows["draft"][0]))
    essay = rows["essay"][0].doc_id
    for chunk in (None, 1, 2, 3, 7):
        assert list_findings(audit_in({}, chunk, full)) == [
            ("missing-parent", "essay", essay),
            ("unreadable-record", "evaluation", ""),
        ]


@pytest.mark.skipif(not hasattr(os, "fork") or os.geteuid() != 0, reason="needs root, to switch to another user")
def test_permission_error_is_a_finding(full: DocsStore, rows: Rows) -> None:
    from tests.faults.test_races import gather  # noqa: PLC0415 - for this test alone

    def as_nobody() -> list[list[tuple[str, str, str]]]:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        return [list_findings(audit(full, rows)), list_findings(audit(full))]

    with allow_reading(find_path(full, rows["draft"][0]).parents[1]):
        find_path(full, rows["draft"][0]).chmod(0)
        (find_path(full, rows["draft"][1]) / "metadata.json").chmod(0)
        find_path(full, rows["evaluation"][0]).parent.chmod(0)
        [[both, alone]] = gather([as_nobody])
    unread = [("unreadable-record", "draft", row.doc_id) for row in sorted(rows["draft"], key=lambda row: row.doc_id)]
    assert sorted(both) == sorted(alone) == sorted([*unread, ("unreadable-record", "evaluation", "")])


def test_missing_value_does_not_reserve_a_parent(full: DocsStore) -> None:
    orphan = Document(stage="essay", doc_id="e9", task_id="e-9", parent_doc_id="nan", raw_text="r")
    full.write(orphan, require_parent=False)
    drafts: list[TaskRow] = [DraftTask(task_id="t", doc_id="nan")]
    for chunk in (None, 1, 2, 3, 7):
        found = list_findings(audit_in({"draft": drafts}, chunk, full))
        assert [each for each in found if each[0].startswith("missing")] == [
            ("missing-doc-id", "draft", ""),
            ("missing-parent", "essay", "e9"),
        ]


@pytest.mark.parametrize("spelled", ["./docs", "docs//", "docs/.", ".//docs"])
def test_root_may_have_any_spelling(
    full: DocsStore, rows: Rows, spelled: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = find_path(full, rows["essay"][0])
    shutil.rmtree(path)
    path.write_text("x")
    monkeypatch.chdir(path.parents[2])
    for tables in (rows, {}):
        report = audit(spelled, tables)
        assert list_findings(report) == [("unreadable-record", "essay", path.name)]
    assert run(capsys, "repair", "--store", spelled)[1].startswith(f"left alone   essay/{path.name}: ")


def test_source_without_row_is_checked(full: DocsStore, rows: Rows) -> None:
    full.write(Document(stage="draft", doc_id="d9", task_id="d-9", raw_text="r"))
    (find_path(full, rows["draft"][0]).with_name("d8")).mkdir()
    (find_path(full, rows["draft"][0]).with_name("d8") / "raw.txt").write_text("r")
    for source in ("d8", "d9"):
        for chunk in (None, 3):
            report = audit_in(change_row(rows, "draft", 0, source_doc_id=source), chunk, full, stale_after=0)
            assert report.counts == {"missing-source": 1, "orphan-document": 1, "uncommitted-directory": 1}


def test_parent_written_during_audit_is_found(local: DocsStore, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_parents(what: str, *_: Any) -> None:
        if what == "listing stage essay":
            write_all(local, {stage: rows[stage] for stage in ("draft", "essay")})

    assert audit(local, progress=write_parents).findings == ()


def test_unlisted_parent_is_missing_even_if_load_fails(
    full: DocsStore, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan = Document(stage="essay", doc_id="e9", task_id="e-9", parent_doc_id="d9", raw_text="r")
    full.write(orphan, require_parent=False)
    original = type(full.backend).load

    def refuse(backend: Any, stage: str, *args: Any) -> Any:
        if stage == "draft":
            raise PermissionError(13, "Permission denied")
        return original(backend, stage, *args)

    monkeypatch.setattr(type(full.backend), "load", refuse)
    for chunk in (None, 2, 5):
        assert list_findings(audit_in({}, chunk, full)) == [("missing-parent", "essay", "e9")]

"""`repair` finds, plans and quarantines leftovers of dead writers and damaged documents, and touches no other file."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from docid import DocsStore, LineageConflict, Outcome, StoredDocument, UnreadableDocument
from docid.backends import MemoryBackend
from docid.core.findings import LEVELS, Finding
from docid.repair import repair
from tests.damaged_store import (
    TEMPORARY,
    broken,
    dead_add_part,
    dead_create,
    dead_entry,
    dead_swap,
    draft,
    edit_text,
    entry_of_no_change,
    entry_twice,
    fill,
    find_quarantined,
    findings,
    make_uncommitted,
    misplace,
    odd_record,
    torn,
    tree,
)


@pytest.fixture
def root(local: DocsStore, tmp_path: Path) -> Path:
    return fill(local, tmp_path)


FAULTS = [
    pytest.param(dead_create, "stale-temporary", id="dead create"),
    pytest.param(dead_add_part, "unlisted-file", id="dead add_part"),
    pytest.param(dead_swap, "stale-temporary", id="dead record swap"),
    pytest.param(dead_entry, "stale-temporary", id="dead history entry"),
    pytest.param(entry_of_no_change, "stale-temporary", id="history entry of an unfinished change"),
    pytest.param(entry_twice, "stale-temporary", id="history entry of a repeated change"),
    pytest.param(make_uncommitted, "uncommitted-directory", id="uncommitted directory"),
    pytest.param(torn, "torn-document", id="torn document"),
    pytest.param(broken, "unreadable-record", id="broken record"),
    pytest.param(odd_record, "unreadable-record", id="record that is a directory"),
    pytest.param(misplace, "misplaced-document", id="misplaced document"),
    pytest.param(edit_text, "hash-mismatch", id="edited document"),
]


@pytest.mark.parametrize(("fault", "code"), FAULTS)
def test_each_fault_is_found_planned_and_quarantined_once(local: DocsStore, root: Path, fault: Any, code: str) -> None:
    assert list(repair(local, stale_after=0, verify=True)) == []
    path = fault(root)
    before = tree(root)
    [finding] = findings(local, verify=True)
    assert (finding.code, finding.level, finding.where) == (code, LEVELS[code], str(root / path))
    assert "--apply' to move it to quarantine" in finding.hint
    assert finding.to_dict()["code"] == code
    [plan] = repair(local, stale_after=0, verify=True)
    assert (plan.action, plan.path, plan.done, plan.to) == ("quarantine", path, False, "")
    assert tree(root) == before
    [step] = repair(local, stale_after=0, verify=True, apply=True)
    assert step.error is None
    assert {
        str((root / path).relative_to(root) / name) if name != "." else path: content
        for name, content in (
            tree(find_quarantined(step, root)).items()
            if find_quarantined(step, root).is_dir()
            else {".": find_quarantined(step, root).read_bytes()}.items()
        )
    } == {
        name: content for name, content in before.items() if content is not None and (name + "/").startswith(path + "/")
    } | {name: None for name, content in before.items() if content is None and name.startswith(path + "/")}
    assert list(repair(local, stale_after=0, verify=True, apply=True)) == []
    assert {name for name in before if not (name + "/").startswith(path + "/")} == {
        name for name in tree(root) if not name.startswith(".docid/quarantine")
    }


@pytest.mark.parametrize(("fault", "code"), FAULTS)
def test_young_and_locked_files_are_left(local: DocsStore, root: Path, fault: Any, code: str) -> None:
    path = fault(root)
    whole = code in {"torn-document", "unreadable-record", "misplaced-document", "hash-mismatch"}
    if not whole:
        # Too young, even without a lock.
        assert list(repair(local, apply=True)) == []
        assert (root / path).exists()
    with contextlib.ExitStack() as stack:
        target = root / path if "tmp-a1" in path else root / "draft" / f".lock-{path.split('/')[1]}"
        if path.startswith(".docid"):
            target = root / "draft" / ".lock-changed"
        fd = os.open(target, os.O_RDONLY if target.is_dir() else os.O_RDWR | os.O_CREAT)
        stack.callback(os.close, fd)
        fcntl.flock(fd, fcntl.LOCK_SH if target.is_dir() else fcntl.LOCK_EX)
        assert [step.done for step in repair(local, stale_after=0, verify=True, apply=True)] in ([], [False])
        assert (root / path).exists()
    assert [step.done for step in repair(local, stale_after=0, verify=True, apply=True)] == [True]


def test_quarantine_frees_the_id(local: DocsStore, root: Path) -> None:
    torn(root)
    [step] = repair(local, apply=True, stale_after=0)
    assert find_quarantined(step, root).is_dir()
    assert local.write(draft("good", task_id="t-2")).outcome is Outcome.CREATED


@pytest.mark.parametrize("in_place", [False, True])
def test_interrupted_replace_is_finished_or_rolled_back(local: DocsStore, root: Path, in_place: bool) -> None:
    os.rename(root / "draft" / "changed", root / "draft" / ".old-changed")
    if in_place:
        other = DocsStore(root.parent / "other")
        os.rename(other.write(draft("changed", raw_text="thrice")).path, root / "draft" / "changed")
    assert list(repair(local)) == []  # too young: its writer may still be active
    [finding] = findings(local)
    assert (finding.code, finding.doc_id) == ("stale-temporary", "changed")
    assert "to finish or roll back the change" in finding.hint
    [step] = repair(local, stale_after=0, apply=True)
    assert (step.action, step.path, step.done, step.to) == ("settle", "draft/.old-changed", True, "")
    assert local.read("draft", "changed").raw_text == ("thrice" if in_place else "twice")
    assert [old.raw_text for old in local.history("draft", "changed")][-1] == "once"
    assert list(repair(local, stale_after=0, apply=True)) == []


def test_replace_settled_by_another_process_is_skipped(local: DocsStore, root: Path) -> None:
    os.rename(root / "draft" / "changed", root / "draft" / ".old-changed")
    steps = repair(local, stale_after=0, apply=True)
    [finding] = findings(local)
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    assert finding.action is not None
    held = os.open(root / "draft" / ".lock-changed", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert sweeper.clear(finding, "run", 0) is None
    os.close(held)
    assert [step.done for step in steps] == [True]
    assert sweeper.clear(finding, "run", 0) is None


def test_empty_directory_is_removed(local: DocsStore, root: Path) -> None:
    (root / "draft" / "a1").mkdir()
    assert list(repair(local)) == []
    [step] = repair(local, stale_after=0, apply=True)
    assert (step.finding and step.finding.code, step.done, step.to) == ("uncommitted-directory", True, "")
    assert not (root / "draft" / "a1").exists()


def test_document_created_in_an_empty_directory_stays(local: DocsStore, root: Path) -> None:
    (root / "draft" / "a1").mkdir()
    steps = []
    for finding in findings(local):
        assert finding.action is not None
        local.write(draft())
        sweeper = local.backend.sweeper()
        assert sweeper is not None
        steps.append(sweeper.clear(finding, "run", 0))
    assert steps == [None]
    assert local.read("draft", "a1").raw_text == "once"


def test_document_fixed_during_the_scan_stays(local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torn(root)
    steps = iter(repair(local, apply=True, stale_after=0))
    original = DocsStore.scan

    def scan_and_fix(store: DocsStore, *args: Any, **options: Any) -> Iterator[Any]:
        for found in original(store, *args, **options):
            if isinstance(found, Finding):
                (root / "draft" / "good" / "raw.txt").write_text("once")
            yield found

    monkeypatch.setattr(DocsStore, "scan", scan_and_fix)
    assert [(step.done, step.error) for step in steps] == [(False, None)]
    assert local.read("draft", "good", verify=True).raw_text == "once"


def test_unknown_files_are_reported_and_left(local: DocsStore, root: Path) -> None:
    shutil.copytree(root / "draft" / "good", root / "draft" / "Good")
    (root / "draft" / "notes.txt").write_text("mine")
    (root / "draft" / "lost").write_text("a file under a doc id")
    (root / "draft" / "link").symlink_to("good")
    (root / "draft" / ".hidden").mkdir()
    (root / "draft" / ".old-..").mkdir()
    (root / "draft" / TEMPORARY.format("file")).write_text("a file")
    (root / "draft" / "good" / "notes.txt").write_text("mine")
    (root / "draft" / "good" / ".DS_Store").write_text("")
    os.mkdir(os.fsencode(root / "draft") + b"/\xff\xfe")
    record = root / "draft" / "changed" / "metadata.json"
    record.write_bytes(record.read_bytes().replace(b"docid/document/1", b"docid/document/2"))
    before = tree(root)
    steps = list(repair(local, stale_after=0, apply=True, verify=True))
    assert {(step.action, step.done) for step in steps} == {("leave", False)}
    codes = {step.path.removeprefix("draft/"): step.finding.code for step in steps if step.finding}
    assert codes == {
        "Good": "malformed-id",
        "notes.txt": "unlisted-file",
        "lost": "unreadable-record",
        "link": "unreadable-record",
        "good/notes.txt": "unlisted-file",
        "changed": "unreadable-record",
        "\udcff\udcfe": "unlisted-file",
    }
    assert tree(root) == before


def test_failed_step_does_not_stop_the_others(local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_uncommitted(root)
    path = dead_create(root)
    original = os.rename

    def refuse_rename(source: Any, *args: Any, **options: Any) -> None:
        if source == os.path.basename(path):
            raise OSError(28, "No space left on device")
        original(source, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr("docid.store.backends.local.directory.os.rename", refuse_rename)
        steps = {step.path: step for step in repair(local, stale_after=0, apply=True)}
    assert str(steps[path].error) == "[Errno 28] No space left on device"
    assert (steps[path].done, steps["draft/a1"].done) == (False, True)
    assert [step.path for step in repair(local, stale_after=0, apply=True)] == [path]


def test_rename_that_succeeds_but_reports_an_error_is_done(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = dead_create(root)
    original = os.rename

    def rename_and_fail(*args: Any, **options: Any) -> None:
        original(*args, **options)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("docid.store.backends.local.directory.os.rename", rename_and_fail)
        [step] = repair(local, stale_after=0, apply=True)
    assert (step.path, step.done) == (path, True)


def test_memory_backend_has_nothing_to_repair(local: DocsStore) -> None:
    store = DocsStore(MemoryBackend())
    store.write(draft())
    assert list(repair(store, apply=True, purge=True)) == []
    assert [type(found) for found in store.scan("draft")] == [StoredDocument]
    assert store.backend.create("draft", "b2", b"{", {})
    [finding] = (found for found in store.scan("draft") if isinstance(found, Finding))
    assert (finding.code, finding.action) == ("unreadable-record", None)
    assert [step.action for step in repair(store, apply=True)] == ["leave"]
    assert list(repair(local, purge=True, history=True, apply=True)) == []


def test_directory_touched_after_the_scan_stays(local: DocsStore, root: Path) -> None:
    make_uncommitted(root)
    [finding] = findings(local)
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    assert finding.action is not None
    assert sweeper.clear(finding, "run", 3600) is None
    assert (root / "draft" / "a1" / "raw.txt").exists()


def test_quarantined_document_takes_its_history(local: DocsStore, root: Path) -> None:
    opened = local.open("draft", "changed")
    (root / "draft" / "changed" / "raw.txt").write_text("x")
    [step] = repair(local, apply=True, stale_after=0)
    assert step.done
    assert list(local.history("draft", "changed")) == []
    other = draft("changed", task_id="t-2", raw_text="twice")
    local.write(other)
    local.write(attrs.evolve(other, raw_text="again"), if_exists="replace")
    assert [old.task_id for old in local.history("draft", "changed")] == ["t-2"]
    with pytest.raises(UnreadableDocument, match="another document replaced it"):
        opened.read()
    run = root / "/".join(step.to.split("/")[:3])
    assert len(list((run / ".docid" / "history" / "draft" / "changed").iterdir())) == 2


def test_recently_touched_document_is_left(local: DocsStore, root: Path) -> None:
    (root / "draft" / "good" / "raw.txt").unlink()
    before = tree(root)
    [step] = repair(local, apply=True)
    assert (step.action, step.done) == ("leave", False)
    assert (
        "it changed in the last 3,600 s, so a writer may still use it. Later, or at once with --stale-after 0s"
        in step.message
    )
    assert tree(root) == before
    [finding] = findings(local)
    assert finding.action is not None
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    assert sweeper.clear(finding, "run", 3600) is None
    assert not sweeper.is_stale("draft", "gone", 0)


def test_unrelated_directory_is_left(local: DocsStore, root: Path) -> None:
    (root / "draft" / "thesis").mkdir()
    (root / "draft" / "thesis" / "notes.md").write_text("mine")
    [step] = repair(local, apply=True, stale_after=0)
    assert (step.action, step.finding and step.finding.code) == ("leave", "uncommitted-directory")
    assert (root / "draft" / "thesis" / "notes.md").exists()


def test_purge_keeps_what_the_same_run_quarantined(local: DocsStore, root: Path) -> None:
    torn(root)
    steps = list(repair(local, apply=True, stale_after=0, purge=True, older_than=0))
    assert [step.action for step in steps] == ["quarantine"]
    assert find_quarantined(steps[0], root).exists()


def test_document_changed_after_the_scan_stays(local: DocsStore, root: Path) -> None:
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    for fault in (dead_add_part, torn):
        fault(root)
        [finding] = findings(local)
        assert finding.action is not None
        shutil.rmtree(root / "draft" / "good")
        assert sweeper.clear(finding, "run", 0) is None
        local.write(draft("good", raw_text="again"))
        assert sweeper.clear(finding, "run", 0) is None
        assert local.read("draft", "good", verify=True).raw_text == "again"
        shutil.rmtree(root / "draft" / "good")
        local.write(draft("good"))


def test_part_added_during_the_scan_is_not_a_stray(local: DocsStore, root: Path) -> None:
    opened = local.open("draft", "good")
    local.add_part("draft", "good", "parsed", "p")
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    record = json.dumps(opened.record, indent=2).encode() + b"\n"
    assert sweeper.strays("draft", "good", record, ["raw.txt"], 0) == []
    assert sweeper.strays("draft", "gone", record, ["raw.txt"], 0) == []


def test_first_lineage_keeps_the_id(local: DocsStore, root: Path) -> None:
    os.rename(root / "draft" / "good", root / "draft" / ".old-good")
    other = DocsStore(root.parent / "other")
    os.rename(other.write(draft("good", task_id="t-2")).path, root / "draft" / "good")
    first, second = repair(local, stale_after=0, apply=True), repair(local, stale_after=0, apply=True)
    # The later document, which no writer acknowledged, goes to quarantine.
    assert [(step.action, step.to.split(os.sep)[:2]) for step in first] == [("settle", [".docid", "quarantine"])]
    assert list(second) == []
    with pytest.raises(LineageConflict):
        local.write(draft("good", task_id="t-2"))
    assert list(repair(local, stale_after=0, apply=True)) == []

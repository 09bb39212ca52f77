"""Locks and histories that nobody needs, and deleting what was put aside."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from pathlib import Path

import pytest

from docid import DocsStore, Stages
from docid.repair import repair
from docid.store.backends.local.directory import Directory
from tests.damaged_store import draft, fill, findings, torn


@pytest.fixture
def root(local: DocsStore, tmp_path: Path) -> Path:
    return fill(local, tmp_path)


def test_locks_that_nobody_has_held_for_long_are_removed_and_others_stay(local: DocsStore, root: Path) -> None:
    for name in ("good", "held", "young"):
        (root / "draft" / f".lock-{name}").touch()
    (root / "draft" / ".lock-..").touch()
    held = os.open(root / "draft" / ".lock-held", os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    assert sweeper.tidy("draft", 3600) == 0
    assert sweeper.tidy("draft", 0) == 2
    assert sorted(path.name for path in (root / "draft").glob(".lock-*")) == [".lock-..", ".lock-held"]
    os.close(held)
    assert sweeper.tidy("essay", 0) == 0


def test_an_empty_history_goes_with_its_lock(local: DocsStore, root: Path) -> None:
    (root / ".docid" / "history" / "draft" / "good").mkdir()
    (root / "draft" / ".lock-good").touch()
    (root / "draft" / ".lock-changed").touch()
    assert list(repair(local, stale_after=0, apply=True)) == []
    assert sorted(path.name for path in (root / ".docid" / "history" / "draft").iterdir()) == ["changed"]


def test_quarantine_and_history_are_deleted_when_told_and_old_enough(local: DocsStore, root: Path) -> None:
    torn(root)
    [step] = repair(local, apply=True, stale_after=0)
    run = "/".join(step.to.split("/")[:3])
    assert list(repair(local, apply=True, purge=True, history=True)) == []
    assert [(step.action, step.path, step.done) for step in repair(local, purge=True, older_than=0)] == [
        ("purge", run, False)
    ]
    assert (root / run).is_dir()
    [step] = repair(local, apply=True, purge=True, older_than=0)
    assert (step.path, step.done) == (run, True)
    assert re.fullmatch(r"[0-9]+ bytes", step.message)
    assert not (root / run).exists()
    assert len(list(local.history("draft", "changed"))) == 2
    steps = list(repair(local, apply=True, purge=True, history=True, older_than=0))
    assert [step.done for step in steps] == [True, True]
    assert list(local.history("draft", "changed")) == []
    assert not (root / ".docid" / "history" / "draft").exists()
    assert root.is_dir()
    assert local.read("draft", "changed", verify=True).parsed_text == "p"


def test_history_is_deleted_in_a_stage_that_is_gone(local: DocsStore, root: Path) -> None:
    shutil.rmtree(root / "draft")
    assert len(list(repair(local, apply=True, purge=True, history=True, older_than=0))) == 2
    assert list((root / ".docid" / "history").iterdir()) == []


def test_what_cannot_be_deleted_is_said(local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torn(root)
    list(repair(local, apply=True, stale_after=0))

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("shutil.rmtree", refused)
    [step] = repair(local, apply=True, purge=True, older_than=0)
    assert (step.done, str(step.error)) == (False, "[Errno 13] Permission denied")


def test_what_another_purge_deletes_meanwhile_is_deleted(local: DocsStore, root: Path) -> None:
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    [path, *_] = [path for path, _ in sweeper.list_discarded(0, history=["draft"])]
    sweeper.discard(path)
    sweeper.discard(path)
    assert len(list(local.history("draft", "changed"))) == 1


def test_an_entry_that_a_purge_takes_away_is_passed_over(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = root / ".docid" / "history" / "draft" / "changed"
    [whole] = [path for path in history.iterdir() if path.is_dir()]
    names = Directory.names

    def purged(directory: Directory) -> list[str]:
        found = names(directory)
        if whole.name in found:
            shutil.rmtree(whole)
        return found

    monkeypatch.setattr(Directory, "names", purged)
    assert [old.raw_text for old in local.history("draft", "changed")] == ["twice"]
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    (history / whole.name).mkdir()
    assert len(list(sweeper.list_discarded(0, history=["draft"]))) == 1


@pytest.mark.parametrize("stamp", ["99999999T999999.999999Z", "99991231T235959.999999Z"])
def test_an_entry_of_no_time_is_somebody_elses(local: DocsStore, root: Path, stamp: str) -> None:
    odd = root / ".docid" / "history" / "draft" / "changed" / f"{stamp}-0123456789abcdef"
    odd.mkdir()
    local.write(draft("changed", raw_text="again"), if_exists="replace")
    assert [old.raw_text for old in local.history("draft", "changed")] == ["twice", "twice", "once"]
    list(repair(local, apply=True, purge=True, history=True, older_than=0))
    assert odd.exists()


def test_a_purge_that_was_interrupted_is_finished_by_the_next(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn(root)
    list(repair(local, apply=True, stale_after=0))

    def interrupted(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", interrupted)
        steps = list(repair(local, apply=True, purge=True, history=True, older_than=0))
    assert {step.done for step in steps} == {True, False}
    assert all(step.done for step in repair(local, apply=True, purge=True, history=True, older_than=0))
    assert not list((root / ".docid" / "quarantine").iterdir())
    assert not (root / ".docid" / "history" / "draft").exists()


def test_history_is_purged_in_the_stages_of_the_store_alone(local: DocsStore, root: Path) -> None:
    other = DocsStore(root, stages=Stages({"other": None}))
    assert list(repair(other, apply=True, purge=True, history=True, older_than=0)) == []
    assert len(list(local.history("draft", "changed"))) == 2


def test_history_alone_is_a_wrong_argument(local: DocsStore) -> None:
    with pytest.raises(ValueError, match="expected purge=True"):
        repair(local, history=True)


def test_the_history_of_a_document_that_is_gone_is_moved_aside(local: DocsStore, root: Path) -> None:
    shutil.rmtree(root / "draft" / "changed")
    assert list(repair(local, apply=True)) == []
    [step] = repair(local, apply=True, stale_after=0)
    assert (step.action, step.path, step.done) == ("quarantine", ".docid/history/draft/changed", True)
    assert list(repair(local, apply=True, stale_after=0)) == []


def test_where_only_one_of_a_document_and_its_history_can_be_moved_the_next_run_moves_the_other(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "draft" / "changed" / "raw.txt").write_text("x")
    move = Directory.move

    def refused(directory: Directory, name: str, new: str, to: Directory | None = None) -> None:
        if "history" in directory.path:
            raise OSError(28, "No space left on device")
        move(directory, name, new, to)

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "move", refused)
        [step] = repair(local, apply=True, stale_after=0)
    assert (step.done, str(step.error)) == (False, "[Errno 28] No space left on device")
    [step] = repair(local, apply=True, stale_after=0)
    assert step.done
    assert list(local.history("draft", "changed")) == []


def test_a_history_whose_document_is_there_again_stays(local: DocsStore, root: Path) -> None:
    os.rename(root / "draft" / "changed", root / "aside")
    [finding] = findings(local)
    os.rename(root / "aside", root / "draft" / "changed")
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    assert finding.action is not None
    assert sweeper.clear(finding, "run", 0) is None
    assert len(list(local.history("draft", "changed"))) == 2

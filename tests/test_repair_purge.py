"""Repair removes unused locks and empty histories; `purge` deletes old quarantine and history."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, Stages
from docid.repair import repair
from docid.store.backends.local.directory import Directory
from tests.damaged_store import draft, fill, findings, torn


@pytest.fixture
def root(local: DocsStore, tmp_path: Path) -> Path:
    return fill(local, tmp_path)


def test_tidy_removes_old_locks_that_are_not_held(local: DocsStore, root: Path) -> None:
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


def test_repair_removes_an_empty_history(local: DocsStore, root: Path) -> None:
    (root / ".docid" / "history" / "draft" / "good").mkdir()
    (root / "draft" / ".lock-good").touch()
    (root / "draft" / ".lock-changed").touch()
    assert list(repair(local, stale_after=0, apply=True)) == []
    assert sorted(path.name for path in (root / ".docid" / "history" / "draft").iterdir()) == ["changed"]


def test_purge_deletes_old_quarantine_and_history_on_request(local: DocsStore, root: Path) -> None:
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


def test_purge_deletes_history_of_a_missing_stage(local: DocsStore, root: Path) -> None:
    shutil.rmtree(root / "draft")
    assert len(list(repair(local, apply=True, purge=True, history=True, older_than=0))) == 2
    assert list((root / ".docid" / "history").iterdir()) == []


def test_failed_purge_is_reported(local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torn(root)
    list(repair(local, apply=True, stale_after=0))

    def refuse_rmtree(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("shutil.rmtree", refuse_rmtree)
    [step] = repair(local, apply=True, purge=True, older_than=0)
    assert (step.done, str(step.error)) == (False, "[Errno 13] Permission denied")


@pytest.mark.parametrize("year", [1970, 2099])
def test_purge_does_not_trust_a_clock_that_was_wrong(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch, year: int
) -> None:
    torn(root)
    list(repair(local, apply=True, stale_after=0))
    places = [root / ".docid/quarantine", root / ".docid/history/draft/changed"]
    for path in [path for place in places for path in place.iterdir()]:
        path.rename(path.with_name(f"{year}{path.name[4:]}"))
    options: Any = {"apply": True, "purge": True, "history": True}
    assert list(repair(local, **options)) == []
    now = time.time()
    monkeypatch.setattr("docid.store.backends.local.sweep.time.time", lambda: now + 29 * 86400)
    assert list(repair(local, **options)) == []
    monkeypatch.setattr("docid.store.backends.local.sweep.time.time", lambda: now + 31 * 86400)
    assert len(list(repair(local, **options))) == (3 if year == 1970 else 0)
    assert len(list(repair(local, older_than=0, **options))) == (0 if year == 1970 else 3)


def test_discard_accepts_a_path_that_is_gone(local: DocsStore, root: Path) -> None:
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    [path, *_] = [path for path, _ in sweeper.list_discarded(0, history=["draft"])]
    sweeper.discard(path)
    sweeper.discard(path)
    assert len(list(local.history("draft", "changed"))) == 1


def test_history_skips_an_entry_that_a_purge_deletes(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = root / ".docid" / "history" / "draft" / "changed"
    [whole] = [path for path in history.iterdir() if path.is_dir()]
    names = Directory.names

    def purge_and_list(directory: Directory) -> list[str]:
        found = names(directory)
        if whole.name in found:
            shutil.rmtree(whole)
        return found

    monkeypatch.setattr(Directory, "names", purge_and_list)
    assert [old.raw_text for old in local.history("draft", "changed")] == ["twice"]
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    (history / whole.name).mkdir()
    assert len(list(sweeper.list_discarded(0, history=["draft"]))) == 1


@pytest.mark.parametrize("stamp", ["99999999T999999.999999Z", "99991231T235959.999999Z"])
def test_entry_with_an_invalid_time_is_ignored_and_kept(local: DocsStore, root: Path, stamp: str) -> None:
    odd = root / ".docid" / "history" / "draft" / "changed" / f"{stamp}-0123456789abcdef"
    odd.mkdir()
    local.write(draft("changed", raw_text="again"), if_exists="replace")
    assert [old.raw_text for old in local.history("draft", "changed")] == ["twice", "twice", "once"]
    list(repair(local, apply=True, purge=True, history=True, older_than=0))
    assert odd.exists()


def test_next_purge_finishes_an_interrupted_one(local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torn(root)
    list(repair(local, apply=True, stale_after=0))

    def interrupt(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", interrupt)
        steps = list(repair(local, apply=True, purge=True, history=True, older_than=0))
    assert {step.done for step in steps} == {True, False}
    assert all(step.done for step in repair(local, apply=True, purge=True, history=True, older_than=0))
    assert not list((root / ".docid" / "quarantine").iterdir())
    assert not (root / ".docid" / "history" / "draft").exists()


def test_purge_keeps_history_of_undeclared_stages(local: DocsStore, root: Path) -> None:
    other = DocsStore(root, stages=Stages({"other": None}))
    assert list(repair(other, apply=True, purge=True, history=True, older_than=0)) == []
    assert len(list(local.history("draft", "changed"))) == 2


def test_history_without_purge_is_refused(local: DocsStore) -> None:
    with pytest.raises(ValueError, match="expected purge=True"):
        repair(local, history=True)


def test_history_without_its_document_is_quarantined(local: DocsStore, root: Path) -> None:
    shutil.rmtree(root / "draft" / "changed")
    assert list(repair(local, apply=True)) == []
    [step] = repair(local, apply=True, stale_after=0)
    assert (step.action, step.path, step.done) == ("quarantine", ".docid/history/draft/changed", True)
    assert list(repair(local, apply=True, stale_after=0)) == []


def test_next_repair_moves_a_history_that_failed_to_move(
    local: DocsStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "draft" / "changed" / "raw.txt").write_text("x")
    move = Directory.move

    def refuse_history(directory: Directory, name: str, new: str, to: Directory | None = None) -> None:
        if "history" in directory.path:
            raise OSError(28, "No space left on device")
        move(directory, name, new, to)

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "move", refuse_history)
        [step] = repair(local, apply=True, stale_after=0)
    assert (step.done, str(step.error)) == (False, "[Errno 28] No space left on device")
    [step] = repair(local, apply=True, stale_after=0)
    assert step.done
    assert list(local.history("draft", "changed")) == []


def test_history_stays_if_its_document_returns(local: DocsStore, root: Path) -> None:
    os.rename(root / "draft" / "changed", root / "aside")
    [finding] = findings(local)
    os.rename(root / "aside", root / "draft" / "changed")
    sweeper = local.backend.sweeper()
    assert sweeper is not None
    assert finding.action is not None
    assert sweeper.clear(finding, "run", 0) is None
    assert len(list(local.history("draft", "changed"))) == 2

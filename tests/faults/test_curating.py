"""Kills at every step of `migrate` and `reserve`.

Injected: the process dies at each file-system call of `migrate`, and at each line of `reserve` that writes tables.
Must hold: each file is the old or the new one, and a second run finishes the work.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from docid import DocsStore
from docid.cli import main
from docid.curate import migrate
from tests.faults import Tally
from tests.faults.calls import KILLED, kill_at, run_in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

TORN, UNFINISHED, CHANGED = "torn files", "runs that did not finish", "texts changed"
RECORD = {"task_id": "t-1", "usage": {"n": 1}, "function": "draft"}
DRAFTS = "draft_task_id,note\na,x\nb,\n"
ESSAYS = "essay_task_id,draft_task_id\n1,a\n2,b\n"


def old_store(root: Path) -> DocsStore:
    for doc_id in ("d1", "d2"):
        (root / "draft" / doc_id).mkdir(parents=True)
        (root / "draft" / doc_id / "metadata.json").write_text(json.dumps(RECORD | {"task_id": doc_id}))
        (root / "draft" / doc_id / "raw.txt").write_text(f"text of {doc_id}")
        os.utime(root / "draft" / doc_id / "raw.txt", (0, 1e9))
    return DocsStore(root)


def test_killed_migrate_leaves_old_or_new_records(tmp_path: Path) -> None:
    tally = Tally("process killed, migrate", TORN, UNFINISHED, CHANGED)
    old = (json.dumps(RECORD | {"task_id": "d1"}).encode(), json.dumps(RECORD | {"task_id": "d2"}).encode())
    for half in (False, True):
        call, finished = 0, False
        while not finished:
            call += 1
            root = tmp_path / f"{half}-{call}"
            store = old_store(root)
            finished = run_in_child(kill_at(call, half=half), lambda store=store: list(migrate(store, apply=True)))  # type: ignore[misc]
            for doc_id, before in zip(("d1", "d2"), old, strict=True):
                record = (root / "draft" / doc_id / "metadata.json").read_bytes()
                document = store.read("draft", doc_id, verify=True)
                tally.check(TORN, record == before if store.open("draft", doc_id).legacy else document.created_at)
                tally.check(CHANGED, document.raw_text == f"text of {doc_id}" and document.task_id == doc_id)
            again = list(migrate(store, apply=True))
            tally.check(UNFINISHED, [each.outcome in {"migrate", "current"} for each in again] == [True, True], again)
            tally.check(UNFINISHED, [each.outcome for each in migrate(store)] == ["current"] * 2, root)
            for doc_id, before in zip(("d1", "d2"), old, strict=True):
                history = list((root / ".docid" / "history" / "draft" / doc_id).glob("[!.]*.json"))
                tally.check(CHANGED, all(entry.read_bytes() == before for entry in history) and history, root)
                tally.check(CHANGED, store.open("draft", doc_id).metadata == {"usage": {"n": 1}, "function": "draft"})
            tally.count("points")
    assert tally.counts["points"] / 2 > 40
    tally.close()


def reserve(directory: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["reserve", str(directory / "draft_tasks.csv"), str(directory / "essay_tasks.csv")]) == 0


def kill_at_line(number: int) -> None:
    """Kill this process before it runs the given line, counted from 1, of the code that writes tables."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if not frame.f_code.co_qualname.startswith(("TableWriter.", "write_tasks")):
            return trace if frame.f_code.co_filename.endswith("reserve.py") else None
        if event == "line":
            lines += 1
            if lines == number:
                os._exit(KILLED)
        return trace

    sys.settrace(trace)


def test_killed_reserve_leaves_old_or_new_tables(tmp_path: Path) -> None:
    tally = Tally("process killed, reserve", TORN, UNFINISHED)
    before = {"draft_tasks.csv": DRAFTS, "essay_tasks.csv": ESSAYS}
    whole = tmp_path / "whole"
    whole.mkdir()
    for name, text in before.items():
        (whole / name).write_text(text)
    reserve(whole)
    after = {name: (whole / name).read_text() for name in before}
    line, finished = 0, False
    while not finished:
        line += 1
        directory = tmp_path / str(line)
        directory.mkdir()
        for name, text in before.items():
            (directory / name).write_text(text)

        def change(line: int = line, directory: Path = directory) -> None:
            kill_at_line(line)
            reserve(directory)
            sys.settrace(None)

        finished = run_in_child(lambda _, __, original, args, options: original(*args, **options), change)
        for name, text in before.items():
            tally.check(TORN, (directory / name).read_text() in {text, after[name]}, directory / name)
        reserve(directory)
        tally.check(UNFINISHED, {name: (directory / name).read_text() for name in before} == after, directory)
        tally.count("points")
    assert tally.counts["points"] > 100
    tally.close()

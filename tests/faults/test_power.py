"""Power cuts.

Injected: the file system of a disk image is shut down at a call of a change, or after acknowledged writes. Its log is
flushed or dropped, and it is mounted again.
Must hold: no document is corrupt, and every acknowledged change survives.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from docid import DocsStore, Document
from docid.repair import repair
from tests.faults import LONG, Tally
from tests.faults.calls import KILLED, count_calls, run_in_child
from tests.faults.mounts import LOG_DROPPED, LOG_FLUSHED, Image, image
from tests.faults.test_kills import COMPLETED, NEW, OLD, add_part, create, read_all, replace, swap_record, write_many

CHANGES = [
    pytest.param(create, None, NEW, id="create"),
    pytest.param(write_many, None, NEW, id="write_many"),
    pytest.param(replace, OLD, NEW, id="replace"),
    pytest.param(add_part, OLD, COMPLETED, id="add_part"),
    pytest.param(swap_record, OLD, None, id="swap of one record"),
]

FLAGS = [
    pytest.param(LOG_DROPPED, id="log dropped"),
    *([pytest.param(LOG_FLUSHED, id="log kept")] if LONG else []),
]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def change_until_power_cut(disk: Image, flags: int, call: int, change: Callable[[], object]) -> bool:
    """Make a change and cut the power at its `call`-th call, or after it; return whether it was acknowledged."""

    def cut_power(number: int, name: str, original: Any, args: Any, options: Any) -> Any:
        if number == call:
            disk.cut_power(flags)
            os._exit(KILLED)
        return original(*args, **options)

    done = run_in_child(cut_power, change)
    if done:
        disk.cut_power(flags)
    disk.unmount()
    disk.mount()
    return done


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
@pytest.mark.parametrize(("change", "before", "after"), CHANGES)
def test_power_cut_corrupts_nothing_and_keeps_acknowledged_changes(
    tmp_path: Path, change: Any, before: Document | None, after: Document | None, kind: str, flags: int
) -> None:
    tally = Tally(f"power cut, {change.__name__}, {kind}, {_log(flags)}", "corrupt", "acknowledged and lost")
    probe = DocsStore(tmp_path / "probe")
    if before is not None:
        probe.write(before)
    calls = sum(count_calls(lambda: change(probe)).values())
    goal = probe.read("draft", "a1")
    assert after in (None, goal)
    done = False
    with image(tmp_path, kind) as disk:
        # The last cut follows the change, after it was acknowledged.
        for call in range(1, 10 * calls) if LONG else (*range(8, calls, 15), 10 * calls):
            store = DocsStore(disk.path / f"docs-{call}")
            if before is not None:
                store.write(before)
            done = change_until_power_cut(disk, flags, call, lambda store=store: change(store))  # type: ignore[misc]
            found = read_all(store).get("a1")
            tally.check("corrupt", found in ((before, goal) if before is not None else (None, goal)), call)
            tally.check("acknowledged and lost", not done or found == goal, call)
            for step in repair(store, stale_after=0, apply=True, verify=True):
                tally.check("corrupt", step.done, step)
            change(store)
            tally.check("corrupt", read_all(store)["a1"] == goal, call)
            tally.count("points")
            if done:
                break
    assert done
    assert tally.counts["points"] > calls or not LONG
    tally.close()


def _log(flags: int) -> str:
    return "log kept" if flags == LOG_FLUSHED else "log dropped"


@pytest.mark.parametrize("how", ["single", "batched"])
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_acknowledged_writes_survive_a_power_cut(tmp_path: Path, kind: str, flags: int, how: str) -> None:
    tally = Tally(f"power cut after acknowledged writes, {how}, {kind}, {_log(flags)}", "lost or torn")
    documents = [attrs.evolve(NEW, doc_id=f"d{each}", task_id=f"t-{each}") for each in range(300 if LONG else 40)]
    with image(tmp_path, kind) as disk:
        store = DocsStore(disk.path / "docs")

        def write() -> None:
            if how == "single":
                for document in documents:
                    store.write(document)
            else:
                store.write_many(documents)

        assert change_until_power_cut(disk, flags, -1, write)
        found = read_all(store)
        for document in documents:
            tally.count("writes")
            tally.check("lost or torn", found.get(document.doc_id) == document, document)
    tally.close()


def test_power_cut_loses_data_without_a_sync(tmp_path: Path) -> None:
    """Check the fault itself: without a sync the cut must lose or tear the document."""
    with image(tmp_path, "ext4") as disk:
        store = DocsStore(disk.path / "docs", durability="none")
        assert change_until_power_cut(disk, LOG_DROPPED, -1, lambda: store.write(NEW))
        with contextlib.suppress(Exception):
            assert read_all(store) == {}
            return
        pytest.fail("the document survived without a sync")

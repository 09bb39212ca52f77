"""Kills at every file-system call of a change, and in the middle of every write.

Injected: a child process makes one change and dies at its k-th call, for every k.
Must hold: another process reads the old or the new version, the change can be repeated, and repair removes all
leftovers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import pytest

from docid import DocsStore, Document, LineageConflict, WriteManyError
from docid.repair import repair
from tests.faults import LONG, Tally
from tests.faults.calls import count_calls, kill_at, run_in_child

OLD = Document(stage="draft", doc_id="a1", task_id="t-1", raw_text="old " * 50, parsed_text="p")
NEW = attrs.evolve(OLD, raw_text="new " * 70, prompt_text="q")
COMPLETED = attrs.evolve(OLD, prompt_text="sent")
CHANGED = attrs.evolve(OLD, metadata={"k": 1}, run_id="r")
OTHER = attrs.evolve(OLD, task_id="t-2")
MANY = [attrs.evolve(NEW, doc_id=doc_id) for doc_id in ("a1", "b2", "c3")]

HALF, BLOCKED = "half-visible documents", "blocked retries"
GIVEN, LEFT = "ids given to another lineage", "leftovers after repair"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def create(store: DocsStore) -> None:
    store.write(NEW)


def write_many(store: DocsStore) -> None:
    store.write_many(MANY)


def replace(store: DocsStore) -> None:
    store.write(NEW, if_exists="replace")


def add_part(store: DocsStore) -> None:
    store.add_part("draft", "a1", "prompt", "sent")


def swap_record(store: DocsStore) -> None:
    store.write(CHANGED, if_exists="replace")


# The change, the document a1 before and after it, and the least number of calls.
CHANGES = [
    pytest.param(create, None, NEW, 28, id="create"),
    pytest.param(write_many, None, NEW, 50, id="write_many"),
    pytest.param(replace, OLD, NEW, 40, id="replace"),
    pytest.param(add_part, OLD, COMPLETED, 25, id="add_part"),
    pytest.param(swap_record, OLD, CHANGED, 20, id="swap of one record"),
]


def read_all(store: DocsStore) -> dict[str, Document]:
    """Return all documents, with every text compared with its hash."""
    found = {document.doc_id: document.read(verify=True) for document in store.documents("draft")}
    assert sorted(store.ids("draft")) == sorted(found)
    assert all(store.exists("draft", doc_id) for doc_id in found)
    return found


def list_leftovers(store: DocsStore, root: Path) -> list[str]:
    """Repair twice; return the remaining steps and the files outside documents, history and quarantine."""
    for step in repair(store, apply=True, verify=True, stale_after=0):
        assert step.done, step
    again = [step.path for step in repair(store, apply=True, verify=True, stale_after=0)]
    hidden = [path.name for path in (root / "draft").glob(".*")]
    strays = [
        str(path)
        for path in root.rglob("*")
        if ".docid" not in path.parts and path.name not in {"raw.txt", "parsed.txt", "prompt.txt", "metadata.json"}
        if path.is_file()
    ]
    entries = list((root / ".docid" / "history").glob("draft/a1/*"))
    assert len(entries) == len(list(store.history("draft", "a1")))
    return again + hidden + strays


@pytest.mark.parametrize(("change", "before", "after", "least"), CHANGES)
def test_kill_leaves_old_or_new_version_and_retry_succeeds(
    tmp_path: Path, change: Any, before: Document | None, after: Document, least: int
) -> None:
    tally = Tally(f"process killed, {change.__name__}", HALF, BLOCKED, GIVEN, LEFT)
    for half in (False, True):
        call, finished = 0, False
        while not finished:
            call += 1
            root = tmp_path / f"{half}-{call}"
            store = DocsStore(root)
            if before is not None:
                store.write(before)
            finished = run_in_child(kill_at(call, half=half), lambda store=store: change(store))  # type: ignore[misc]
            check_after_kill(DocsStore(root), root, change, before, after, tally)
            tally.count("points")
    assert tally.counts["points"] / 2 > least
    tally.close()


def check_after_kill(
    store: DocsStore, root: Path, change: Any, before: Document | None, after: Document, tally: Tally
) -> None:
    """Read the store after a kill as another process does; then repeat the change, and repair."""
    found = read_all(store)
    tally.check(HALF, found.get("a1") in ([before, after] if before is not None else [None, after]), found)
    if before is None:
        tally.check(HALF, all(found[doc_id] == attrs.evolve(after, doc_id=doc_id) for doc_id in found), found)
    if "a1" in found:
        tally.check(GIVEN, refuses_another_lineage(store), root)
    # Repair first in every other case: the retry must work before and after a repair.
    if len(root.name) % 2:
        tally.check(LEFT, list_leftovers(store, root) == [], root)
        tally.check(HALF, read_all(store) == found, root)
    try:
        change(store)
    except Exception as error:  # noqa: BLE001 - counted
        tally.check(BLOCKED, False, repr(error))
    tally.check(BLOCKED, read_all(store).get("a1") == after, root)
    if before is not None and after.raw_text != before.raw_text:
        tally.check(HALF, list(store.history("draft", "a1")) == [before], root)
    tally.check(LEFT, list_leftovers(store, root) == [], root)
    tally.check(HALF, read_all(store).get("a1") == after, root)


def refuses_another_lineage(store: DocsStore) -> bool:
    refused = 0
    for policy in ("fail", "keep", "replace"):
        try:
            store.write(OTHER, if_exists=policy)
        except LineageConflict:
            refused += 1
        try:
            store.write_many([OTHER], if_exists=policy)
        except WriteManyError as error:
            refused += isinstance(error.failures[0], LineageConflict)
    return refused == 6


def test_two_kills_never_give_the_id_to_another_lineage(tmp_path: Path) -> None:
    """Kill a replace at each call, then a create or a batch of another lineage at each call."""
    store = DocsStore(tmp_path / "count", durability="none")
    store.write(OLD)
    calls = sum(count_calls(lambda: replace(store)).values())
    tally = Tally("killed in a replace, then another lineage killed", GIVEN, LEFT)
    for first in range(1, calls + 1) if LONG else range(8, calls, 5):
        for other in (lambda store: store.write(OTHER), lambda store: store.write_many([OTHER, MANY[1]])):
            second, finished = 0, False
            while not finished:
                second += 1 if LONG else 4
                root = tmp_path / "store"
                shutil.rmtree(root, ignore_errors=True)
                store = DocsStore(root, durability="none")
                store.write(OLD)
                run_in_child(kill_at(first, half=False), lambda store=store: replace(store))  # type: ignore[misc]

                def attempt(store: DocsStore = store, other: Any = other) -> None:
                    with contextlib.suppress(LineageConflict, WriteManyError):
                        other(store)

                finished = run_in_child(kill_at(second, half=False), attempt)
                tally.check(GIVEN, read_all(store).get("a1") in (OLD, NEW), (first, second))
                tally.check(GIVEN, refuses_another_lineage(store), (first, second))
                tally.check(LEFT, list_leftovers(store, root) == [], (first, second))
                tally.check(GIVEN, read_all(store).get("a1") in (OLD, NEW), (first, second))
                tally.count("pairs of points")
    tally.close()


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_kills_cover_every_call_that_strace_counts(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import ctypes, os, sys
        from docid import DocsStore, Document
        from tests.faults import test_kills as kills
        for turn, (name, before) in enumerate([("create", 0), ("replace", 1), ("add_part", 1), ("write_many", 0)]):
            store = DocsStore(f"{sys.argv[1]}/{name}")
            if before:
                store.write(kills.OLD)
            else:
                os.makedirs(f"{sys.argv[1]}/{name}/draft")
            if sys.argv[2:]:
                print(name, dict(kills.count_calls(lambda: getattr(kills, name)(store))))
            else:
                os.access("/begin", os.F_OK)
                getattr(kills, name)(store)
                os.access("/end-" + name, os.F_OK)
    """)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    traced = tmp_path / "trace"
    command = [sys.executable, "-c", script]
    strace = ["strace", "-f", "-o", str(traced), "-e", "trace=%file,%desc,flock,syncfs,fsync"]
    try:
        subprocess.run([*strace, *command, str(tmp_path / "traced")], check=True, env=environment, capture_output=True)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"strace cannot trace here: {error.stderr[-200:]!r}")
    output = subprocess.run(
        [*command, str(tmp_path / "counted"), "count"], check=True, env=environment, capture_output=True, text=True
    ).stdout
    expected = {line.split(" ", 1)[0]: eval(line.split(" ", 1)[1]) for line in output.splitlines()}
    kernel = {"openat": "open", "mkdir": "mkdir", "mkdirat": "mkdir", "renameat": "rename", "write": "write"}
    kernel |= {"fsync": "fsync", "unlinkat": "unlink", "flock": "flock", "syncfs": "syncfs"}
    counts: dict[str, Counter[str]] = {}
    current: Counter[str] = Counter()
    for line in traced.read_text().splitlines():
        call = line.split(None, 1)[1].split("(", 1)[0]
        if "/begin" in line:
            current = Counter()
        elif "/end-" in line:
            counts[line.split("/end-", 1)[1].split('"', 1)[0]] = Counter(current)
        elif call in kernel and ".so" not in line and "/proc/" not in line:
            current[kernel[call]] += 1
    for name, calls in expected.items():
        assert {call: counts[name][call] for call in kernel.values()} == {
            call: calls.get(call, 0) for call in kernel.values()
        }, name

"""Removals beside running writers.

Injected: writers of children and grandchildren, in processes or threads, during a removal with descendants.
Must hold: no child without its parent, no acknowledged document lost, all of them restorable byte for byte.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, Document, DocumentClaimed, EssayTask, MissingParent, ReplyRescued, WriteManyError
from docid.backends import MemoryBackend
from docid.backends.objects import ObjectsBackend
from docid.core.document import ALL_FILES
from tests.faults import LONG, Tally
from tests.faults.test_races import gather

ROUNDS = 200 if LONG else 5
WRITERS = 3


def write_children(store: DocsStore, writer: int, seed: int) -> dict[str, str]:
    """Write essays of draft/a1 and evaluations of them until the draft is gone; return the acknowledged texts."""
    choose = random.Random(seed * WRITERS + writer)
    stored: dict[str, str] = {}
    for number in range(400):
        name = f"w{writer}-{number}"
        essay = Document(stage="essay", doc_id=name, task_id=name, parent_doc_id="a1", raw_text=f"essay {name}")
        judged = Document(stage="evaluation", doc_id=name, task_id=name, parent_doc_id=name, raw_text=f"score {name}")
        try:
            how = choose.randrange(3)
            if how == 0:
                store.write(essay)
            elif how == 1:
                store.write_many([essay])
            else:
                row = EssayTask(task_id=name, doc_id=name, parent_doc_id="a1")
                store.ensure(row, lambda _: essay.raw_text)  # noqa: B023 - called at once
            stored[f"essay/{name}"] = essay.raw_text
            store.write(judged)
            stored[f"evaluation/{name}"] = judged.raw_text
        except (MissingParent, WriteManyError, ReplyRescued):
            if not store.exists("draft", "a1"):
                break
    return stored


def remove_soon(store: DocsStore, seed: int) -> None:
    time.sleep(random.Random(seed).uniform(0.0, 0.04))
    while store.exists("draft", "a1"):
        with contextlib.suppress(DocumentClaimed):  # a worker is making a child
            store.remove("draft", "a1", descendants=True)


def restore_all(store: DocsStore) -> None:
    """Restore every removal. A child waits until its parent is back, which may be of another run."""
    for _ in store.stages:
        for run in {removed.entry for removed in store.list_removed()}:
            store.restore(run)


def run_in_threads(jobs: list[Callable[[], Any]]) -> list[Any]:
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result() for future in [pool.submit(job) for job in jobs]]


def read_documents(store: DocsStore) -> dict[str, Any]:
    return {
        f"{stage}/{doc_id}": store.backend.load(stage, doc_id, ALL_FILES)
        for stage in store.stages
        for doc_id in store.ids(stage)
    }


def find_orphans(store: DocsStore) -> list[str]:
    return [
        f"{stage}/{each.doc_id}"
        for stage in ("essay", "evaluation")
        for each in store.documents(stage)
        if not store.exists(store.stages.parent_of(stage) or "", each.parent_doc_id or "")
    ]


def read_quarantine(root: str) -> dict[str, bytes]:
    """Return the files in quarantine, by their original path."""
    top = Path(root) / ".docid" / "quarantine"
    return {"/".join(path.relative_to(top).parts[1:]): path.read_bytes() for path in top.rglob("*") if path.is_file()}


@pytest.fixture(params=["local", "memory", "objects"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[int], DocsStore]:
    def make(number: int) -> DocsStore:
        if request.param == "local":
            return DocsStore(tmp_path / f"docs-{number}", durability="none")
        return DocsStore(MemoryBackend() if request.param == "memory" else ObjectsBackend("memory://"))

    return make


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_removal_beside_writers_orphans_and_loses_nothing(make_store: Callable[[int], DocsStore]) -> None:
    faults = ("orphaned children", "documents lost", "documents not restored byte for byte")
    tally = Tally(f"removals beside {WRITERS} writers, {type(make_store(0).backend).__name__}", *faults)
    for number in range(1, ROUNDS + 1):
        store = make_store(number)
        is_local = "memory" not in store.root
        store.write(Document(stage="draft", doc_id="a1", task_id="t-1", raw_text="draft"))
        jobs: list[Callable[[], Any]] = [partial(write_children, store, each, number) for each in range(WRITERS)]
        jobs.append(partial(remove_soon, store, number))
        *written, _ = gather(jobs) if is_local else run_in_threads(jobs)
        stored = {"draft/a1": "draft"}
        for each in written:
            stored |= each
        orphans = find_orphans(store)
        tally.check("orphaned children", not orphans, (number, orphans))
        quarantine = read_quarantine(store.root) if is_local else {}
        removed = list(store.list_removed())
        restore_all(store)
        found = read_documents(store)
        lost = [
            name for name, text in stored.items() if name not in found or found[name].parts["raw.txt"] != text.encode()
        ]
        tally.check("documents lost", not lost, (number, lost))
        differing = [path for path, data in quarantine.items() if (Path(store.root) / path).read_bytes() != data]
        left = list(store.list_removed())
        tally.check("documents not restored byte for byte", not differing and not left, (number, differing, left))
        tally.count("rounds")
        tally.count("documents acknowledged", len(stored))
        tally.count("documents removed", len(removed))
    assert tally.counts["documents removed"] > ROUNDS
    tally.close()

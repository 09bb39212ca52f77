"""All schedules of a removal beside writers of children: no child loses its parent, and no text is lost."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from functools import partial
from itertools import combinations_with_replacement, count
from pathlib import Path

import attrs
import pytest

from docid import (
    DocsStore,
    Document,
    DocumentClaimed,
    DocumentNotFound,
    EssayTask,
    HasChildren,
    MissingParent,
    WriteManyError,
)
from docid.repair import repair
from tests.faults import LONG, Tally
from tests.schedules import CHANGES, Run, explore
from tests.test_schedules import read_quarantine

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs flock")

PARENT = Document(stage="draft", doc_id="a1", task_id="t-1", raw_text="parent")
CHILD = Document(stage="essay", doc_id="e1", task_id="t-1", parent_doc_id="a1", raw_text="child")
REFUSALS = (DocumentNotFound, DocumentClaimed, HasChildren, MissingParent)
ORPHANS, LOST, ERRORS, LEFT = "orphaned children", "acknowledged texts lost", "wrong errors", "leftovers after repair"

Operation = Callable[[DocsStore, set[str]], object]
_numbers = count()


def child(doc_id: str = "e1") -> Document:
    return attrs.evolve(CHILD, doc_id=doc_id, raw_text=f"child {next(_numbers)}")


def write(store: DocsStore, stored: set[str]) -> None:
    document = child()
    if store.write(document, if_exists="keep").outcome == "created":
        stored.add(document.raw_text)


def write_many(store: DocsStore, stored: set[str]) -> None:
    grandchild = Document(stage="evaluation", doc_id="v1", task_id="t-1", parent_doc_id="e2", raw_text="many")
    documents = [child("e2"), grandchild]
    results = store.write_many(documents, if_exists="keep")
    stored.update(each.raw_text for each, result in zip(documents, results, strict=True) if result.outcome == "created")


def ensure(store: DocsStore, stored: set[str]) -> None:
    text = f"ensured {next(_numbers)}"
    row = EssayTask(task_id="t-1", doc_id="e1", parent_doc_id="a1")
    if store.ensure(row, lambda _: text).outcome == "created":
        stored.add(text)


def write_with_input(store: DocsStore, stored: set[str]) -> None:
    document = Document(stage="draft", doc_id="b2", task_id="t-2", inputs=("draft/a1",), raw_text="from an input")
    if store.write(document, if_exists="keep").outcome == "created":
        stored.add(document.raw_text)


def remove(store: DocsStore, _: set[str]) -> None:
    store.remove("draft", "a1")


def remove_all(store: DocsStore, _: set[str]) -> None:
    store.remove("draft", "a1", descendants=True)


def remove_and_restore(store: DocsStore, _: set[str]) -> None:
    removal = store.remove("draft", "a1", descendants=True)
    with contextlib.suppress(ValueError):  # another operation has just erased it
        store.restore(removal.entry)


def erase_all(store: DocsStore, _: set[str]) -> None:
    store.erase("draft", "a1", descendants=True)


def run_repair(store: DocsStore, _: set[str]) -> None:
    for step in repair(store, apply=True, stale_after=0):
        assert step.error is None, step


WRITERS: dict[str, Operation] = {
    "write": write,
    "write_many": write_many,
    "ensure": ensure,
    "write with an input": write_with_input,
}
REMOVERS: dict[str, Operation] = {
    "remove": remove,
    "remove with descendants": remove_all,
    "remove and restore": remove_and_restore,
    "erase with descendants": erase_all,
}
OPERATIONS = {**WRITERS, **REMOVERS, "repair": run_repair}
PAIRS = [pair for pair in combinations_with_replacement(OPERATIONS, 2) if set(pair) & set(REMOVERS)]


def check_schedules(
    directory: Path, names: tuple[str, ...], tally: Tally, *, has_child: bool, **options: object
) -> None:
    root = directory / "docs"
    acknowledged: list[set[str]] = []

    def prepare() -> list[Callable[[], object]]:
        shutil.rmtree(root, ignore_errors=True)
        store = DocsStore(root, durability="none")
        store.write(PARENT)
        if has_child:
            store.write(CHILD)
        acknowledged[:] = [set() for _ in names]
        return [
            partial(OPERATIONS[name], DocsStore(root, durability="none"), stored)
            for name, stored in zip(names, acknowledged, strict=True)
        ]

    def check(run: Run) -> None:
        where = (names, has_child, run.plan)
        for name, outcome in zip(names, run.outcomes, strict=True):
            error = outcome.error
            reasons = error.failures.values() if isinstance(error, WriteManyError) else (error,)
            fine = error is None or all(isinstance(each, REFUSALS) for each in reasons)
            tally.check(ERRORS, fine, (*where, name, repr(error)))
        store = DocsStore(root, durability="none")
        documents = {f"{each.stage}/{each.doc_id}": each for stage in store.stages for each in store.documents(stage)}
        # If a process dies between two steps, an audit reports its orphan.
        is_killed = any(outcome.killed for outcome in run.outcomes)
        for each in documents.values():
            sources = {"essay": (f"draft/{each.parent_doc_id}",), "evaluation": (f"essay/{each.parent_doc_id}",)}
            lost = [name for name in (*sources.get(each.stage, ()), *each.inputs) if name not in documents]
            tally.check(ORPHANS, is_killed or not lost, (*where, each.doc_id, lost))
        found = {each.read(verify=True).raw_text for each in documents.values()}
        found |= {text for _, text in read_quarantine(root)} | {each.reply.raw_text for each in store.list_rescued()}
        stored = set().union(*acknowledged, {"parent"}, {"child"} if has_child else ())
        tally.check(LOST, "erase with descendants" in names or stored <= found, (*where, stored - found))
        for again in (False, True):
            steps = list(repair(store, apply=True, verify=True, stale_after=0))
            left = steps if again else [step for step in steps if not step.done]
            tally.check(LEFT, not left, (*where, again, left))

    tally.count("schedules", explore(prepare, check, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("has_child", [False, True], ids=["parent alone", "parent with a child"])
def test_removal_beside_another_operation_orphans_no_child(tmp_path: Path, has_child: bool) -> None:
    tally = Tally(f"schedules of a removal, {'with' if has_child else 'without'} a child", ORPHANS, LOST, ERRORS, LEFT)
    for names in PAIRS:
        stops, sample = (*CHANGES, "flock", "stat", "listdir", "scandir"), 150 if LONG else 4
        check_schedules(tmp_path, names, tally, has_child=has_child, switches=2, stops=stops, sample=sample)
        check_schedules(tmp_path, names, tally, has_child=has_child, switches=2, stops=stops, sample=sample, kills=True)
    tally.close()


@pytest.mark.parametrize(
    "names",
    [
        ("write", "ensure", "remove with descendants"),
        ("write_many", "ensure", "remove"),
        ("write_many", "remove and restore", "remove with descendants"),
        ("ensure", "repair", "erase with descendants"),
    ],
    ids=", ".join,
)
def test_removal_beside_two_operations_orphans_no_child(tmp_path: Path, names: tuple[str, ...]) -> None:
    tally = Tally(f"schedules of {', '.join(names)}", ORPHANS, LOST, ERRORS, LEFT)
    stops = (*CHANGES, "flock", "stat", "scandir")
    check_schedules(tmp_path, names, tally, has_child=False, switches=3, stops=stops, sample=200 if LONG else 10)
    tally.close()

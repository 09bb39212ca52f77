"""All schedules of two or three operations on one document, with a few switches, with and without a kill.

`nox -s faults` tries more switches, and prints how many schedules it ran. A new operation joins by one line in
OPERATIONS; what it stores and sees goes into its `Log`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations, combinations_with_replacement, count
from pathlib import Path
from typing import Literal

import attrs
import orjson
import pytest

from docid import (
    ContentConflict,
    DocsStore,
    Document,
    DocumentClaimed,
    DocumentNotFound,
    DraftTask,
    LineageConflict,
    StoredDocument,
    WriteManyError,
)
from docid.repair import repair
from tests.faults import LONG, Tally
from tests.schedules import CHANGES, Run, explore

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs flock")

FIRST = Document(stage="draft", doc_id="a1", task_id="t-1", raw_text="first")
REFUSALS = (LineageConflict, ContentConflict, DocumentNotFound, DocumentClaimed)


def version(raw_text: str, task_id: str = "t-1") -> Document:
    return attrs.evolve(FIRST, raw_text=raw_text, task_id=task_id)


@attrs.define
class Log:
    """What one operation stored, was refused, saw, and paid for: pairs of task id and raw text, and a text.

    `began` and `ended` are points of a clock that ticks at the start and the end of each operation.
    """

    tried: set[tuple[str | None, str]] = attrs.field(factory=set)
    stored: set[tuple[str | None, str]] = attrs.field(factory=set)
    seen: set[tuple[str | None, str]] = attrs.field(factory=set)
    missed: bool = False
    prompt: bool = False
    called: str = ""
    erased: bool = False
    began: int = 0
    ended: int = 0

    def see(self, *documents: Document) -> None:
        self.seen.update((each.task_id, each.raw_text) for each in documents)


Operation = Callable[[DocsStore, Log], object]
Texts = set[tuple[str | None, str]]
_numbers = count()


def write(document: Document, if_exists: str = "fail") -> Operation:
    def operation(store: DocsStore, log: Log) -> None:
        log.tried.add((document.task_id, document.raw_text))
        outcome = store.write(document, if_exists=if_exists).outcome  # type: ignore[arg-type]
        if outcome in {"created", "replaced", "unchanged"}:
            log.stored.add((document.task_id, document.raw_text))

    return operation


def write_and_replace(store: DocsStore, log: Log) -> None:
    write(version("early"))(store, log)
    write(version("late"), "replace")(store, log)


def write_many(store: DocsStore, log: Log) -> None:
    document = version("many")
    log.tried.add(("t-1", "many"))
    [answer] = store.write_many([document], if_exists="keep")
    # `unchanged`, too: another operation may have removed and restored it before its create has looked for it.
    if answer.outcome in {"created", "unchanged"}:
        log.stored.add(("t-1", "many"))


def ensure(if_exists: Literal["keep", "replace"] = "keep") -> Operation:
    def operation(store: DocsStore, log: Log) -> None:
        text = f"ensured {next(_numbers)}"

        def make(_: DraftTask) -> str:
            log.called = text
            log.tried.add(("t-1", text))
            return text

        done = store.ensure(DraftTask(task_id="t-1", doc_id="a1"), make, if_exists=if_exists)
        if done.outcome in {"created", "replaced"}:
            log.stored.add(("t-1", text))
        log.see(done.document.read())

    return operation


def add_part(store: DocsStore, log: Log) -> None:
    store.add_part("draft", "a1", "prompt", "sent")
    log.prompt = True


def change_record(store: DocsStore, log: Log) -> None:
    current = store.read("draft", "a1")
    document = attrs.evolve(current, metadata={"k": 1})
    log.tried.add((document.task_id, document.raw_text))
    store.write(document, if_exists="replace")
    log.stored.add((document.task_id, document.raw_text))


def read(store: DocsStore, log: Log) -> None:
    try:
        log.see(store.read("draft", "a1"))
    except DocumentNotFound:
        log.missed = True


def open_then_read(store: DocsStore, log: Log) -> None:
    try:
        stored = store.open("draft", "a1")
    except DocumentNotFound:
        log.missed = True
    else:
        log.see(stored.read())


def list_all(store: DocsStore, log: Log) -> None:
    found = [document.read() for document in store.documents("draft")]
    log.see(*found)
    log.missed = not found


def read_history(store: DocsStore, log: Log) -> None:
    log.see(*store.history("draft", "a1"))


def settle(store: DocsStore, _: Log) -> None:
    store.backend.settle("draft", "a1")


def run_repair(store: DocsStore, _: Log) -> None:
    for step in repair(store, apply=True, stale_after=0):
        assert step.error is None, step


def remove(store: DocsStore, _: Log) -> None:
    store.remove("draft", "a1")


def remove_and_restore(store: DocsStore, _: Log) -> None:
    store.restore(store.remove("draft", "a1").entry)


def erase(store: DocsStore, log: Log) -> None:
    store.erase("draft", "a1")
    log.erased = True


OPERATIONS: dict[str, Operation] = {
    "write": write(version("written")),
    "write another lineage": write(version("alien", "t-2")),
    "write and replace": write_and_replace,
    "replace": write(version("replacing"), "replace"),
    "write_many": write_many,
    "ensure": ensure(),
    "ensure, replacing": ensure("replace"),
    "add_part": add_part,
    "change the record": change_record,
    "read": read,
    "open, then read": open_then_read,
    "list": list_all,
    "history": read_history,
    "settle": settle,
    "repair": run_repair,
    "remove": remove,
    "remove and restore": remove_and_restore,
    "erase": erase,
}
REMOVALS = {"remove", "remove and restore", "erase"}
READERS = ("read", "open, then read", "list", "history")
TRIPLES = [
    ("write and replace", "write another lineage", "read"),
    ("write and replace", "write", "read"),
    ("write and replace", "write", "list"),
    ("write and replace", "write another lineage", "open, then read"),
    ("write and replace", "write another lineage", "history"),
    ("write and replace", "ensure", "replace"),
    ("replace", "repair", "read"),
    ("replace", "add_part", "list"),
    ("ensure", "ensure", "ensure"),
    ("ensure", "ensure", "repair"),
    ("ensure", "ensure, replacing", "replace"),
    ("ensure, replacing", "ensure, replacing", "ensure, replacing"),
    ("remove", "write", "read"),
    ("remove", "ensure", "repair"),
    ("remove and restore", "write and replace", "read"),
    ("remove and restore", "remove", "list"),
    ("erase", "write and replace", "repair"),
    ("erase", "ensure, replacing", "history"),
]


def start_empty(_: DocsStore) -> None:
    """No document."""


def start_with_document(store: DocsStore) -> None:
    store.write(FIRST)


def start_between_renames(store: DocsStore) -> None:
    """Leave a document as a replace does that was killed between its two renames."""
    path = store.write(FIRST).path
    path.rename(path.with_name(".old-a1"))


STARTS = [start_empty, start_with_document, start_between_renames]


def prepare_run(
    root: Path, names: tuple[str, ...], start: Callable[[DocsStore], None], logs: list[Log]
) -> list[Callable[[], object]]:
    """Make a fresh store, and return the operations on it, each with a log."""
    shutil.rmtree(root, ignore_errors=True)
    start(DocsStore(root, durability="none"))
    logs[:] = [Log() for _ in names]
    clock = count(1)

    def run_one(operation: Operation, log: Log) -> None:
        log.began = next(clock)
        try:
            operation(DocsStore(root, durability="none"), log)
        finally:
            log.ended = next(clock)

    return [partial(run_one, OPERATIONS[name], log) for name, log in zip(names, logs, strict=True)]


def check_schedules(
    directory: Path, names: tuple[str, ...], start: Callable[[DocsStore], None], tally: Tally, **options: object
) -> None:
    """Explore the schedules of some operations after a start, and check what the guarantees say after each."""
    logs: list[Log] = []
    root = directory / "docs"
    has_first = start is not start_empty
    removes = bool(REMOVALS & set(names))

    def check(run: Run) -> None:
        where = (names, start.__name__, run.plan)
        for name, outcome in zip(names, run.outcomes, strict=True):
            fine = outcome.error is None or is_refusal(name, outcome.error, removes=removes)
            tally.check(WRONG_ERROR, fine, (*where, name, repr(outcome.error)))
        initial: Texts = {("t-1", "first")} if has_first else set()
        stored = initial.union(*(log.stored for log in logs))
        possible = stored.union(*(log.tried for log, each in zip(logs, run.outcomes, strict=True) if each.killed))
        # Of several that ensure one document, one pays; another one only if that was killed during its call, or if the
        # document was removed. (A replace that begins when another one has ended pays again.)
        paid = [log.called for log, name in zip(logs, names, strict=True) if log.called and name == "ensure"]
        killed = sum(bool(log.called) and each.killed for log, each in zip(logs, run.outcomes, strict=True))
        tally.check(PAID_TWICE, removes or len(paid) <= 1 + killed, (*where, paid))
        tally.count("calls", len(paid))
        kept = {log.called for log, each in zip(logs, run.outcomes, strict=True) if log.called and not each.killed}
        seen = set().union(*(log.seen for log in logs))
        tally.check(REFUSED, seen <= possible, (*where, seen - possible))
        stored, must_lose = apply_erasures(names, logs, initial, stored)
        # A repair with an age limit of 0 removes locks that a listing needs.
        may_miss = not has_first or removes or {"list", "repair"} <= set(names)
        tally.check(MISSED, may_miss or not any(log.missed for log in logs), where)
        for again in (False, True):
            store = DocsStore(root, durability="none")
            documents = read_versions(store)
            found = {(each.task_id, each.raw_text) for each in documents}
            found |= read_quarantine(root)
            on_disk = {path.read_text() for path in root.rglob("raw.txt")}
            tally.check(NOT_ERASED, not must_lose & on_disk, (*where, again, must_lose & on_disk))
            texts = {text for _, text in found} | {each.reply.raw_text for each in store.list_rescued()}
            tally.check(PAID_LOST, "erase" in names or kept <= texts, (*where, kept - texts))
            tally.check(LOST, stored <= found, (*where, again, stored - found))
            tally.check(REFUSED, found <= possible, (*where, again, found - possible))
            tally.check(MIXED, len({each.task_id for each in documents}) <= 1, (*where, again, found))
            if any(log.prompt for log in logs) and not removes:
                tally.check(LOST, any(each.prompt_text == "sent" for each in documents), (*where, "prompt"))
            steps = [step for step in repair(store, apply=True, verify=True, stale_after=0) if not again or step]
            left = steps if again else [step for step in steps if not step.done]
            tally.check(LEFT, not left, (*where, again, left))
        hidden = [path.name for path in (root / "draft").glob(".*")]
        tally.check(LEFT, not hidden, (*where, hidden))

    prepare = partial(prepare_run, root, names, start, logs)
    tally.count("schedules", explore(prepare, check, **options))  # type: ignore[arg-type]


REFUSED, LOST, MIXED = "refused texts seen", "acknowledged texts lost", "lineages mixed"
PAID_TWICE, PAID_LOST = "rows paid for twice", "paid texts lost"
MISSED, LEFT, WRONG_ERROR = "documents not found", "leftovers after repair", "wrong errors"
NOT_ERASED = "erased texts found"
FAULTS = (REFUSED, LOST, MIXED, MISSED, LEFT, WRONG_ERROR, PAID_TWICE, PAID_LOST, NOT_ERASED)


def apply_erasures(names: tuple[str, ...], logs: list[Log], initial: Texts, stored: Texts) -> tuple[Texts, set[str]]:
    """Return the stored texts that no erasure may have deleted, and the raw texts that one must have deleted.

    An erasure may delete what was written before its end, and must delete what was written before its start.
    """
    erasures = [log for log, name in zip(logs, names, strict=True) if name == "erase"]
    if not erasures:
        return stored, set()
    last = max(log.ended or sys.maxsize for log in erasures)  # one that was killed has no end
    kept = set().union(*(log.stored for log in logs if log.began > last))
    must_lose: Texts = set()
    for each in erasures:
        if each.erased:
            must_lose |= initial.union(*(log.stored for log in logs if 0 < log.ended < each.began))
    if "change the record" in names:  # it writes the same text again
        must_lose -= initial
    return kept, {text for _, text in must_lose}


def is_refusal(name: str, error: BaseException, *, removes: bool) -> bool:
    """Return whether an operation may raise this error; a reader may, if another operation removes the document."""
    if removes and isinstance(error, DocumentNotFound):
        return True
    reasons = error.failures.values() if isinstance(error, WriteManyError) else (error,)
    return name not in READERS and all(isinstance(each, REFUSALS) for each in reasons)


def read_versions(store: DocsStore) -> list[Document]:
    """Return the documents of a store and the history of one, all of them verified."""
    versions: list[Document | StoredDocument] = [*store.documents("draft"), *store.history("draft", "a1")]
    return [each if isinstance(each, Document) else each.read(verify=True) for each in versions]


def read_quarantine(root: Path) -> set[tuple[str | None, str]]:
    """Return the task ids and raw texts of the whole documents in quarantine, and of their histories."""
    return {
        (orjson.loads(record.read_bytes())["task_id"], raw.read_text())
        for record in (root / ".docid" / "quarantine").rglob("metadata.json")
        if (raw := record.with_name("raw.txt")).exists()
    }


def pairs() -> Iterator[tuple[str, str]]:
    for first, second in combinations_with_replacement(OPERATIONS, 2):
        if not (first in READERS and second in READERS):
            yield first, second


@pytest.mark.parametrize("start", STARTS, ids=lambda start: start.__name__)
def test_two_operations_in_every_order(tmp_path: Path, start: Callable[[DocsStore], None]) -> None:
    tally = Tally(f"schedules of two operations, {start.__name__}", *FAULTS)
    for names in pairs():
        # Every plan with up to three switches before the calls that change names or lock, and two if one is killed.
        stops, sample = (*CHANGES, "flock"), None if LONG else 2
        check_schedules(tmp_path, names, start, tally, switches=3, stops=stops, sample=sample)
        check_schedules(tmp_path, names, start, tally, switches=2, stops=stops, sample=sample, kills=True)
        if LONG:
            check_schedules(tmp_path, names, start, tally, switches=3, kills=True, sample=100)
    tally.close()


@pytest.mark.parametrize("names", TRIPLES, ids=", ".join)
def test_three_operations_in_every_order(tmp_path: Path, names: tuple[str, ...]) -> None:
    tally = Tally(f"schedules of {', '.join(names)}", *FAULTS)
    # The first triple is the one in which a create uses the gap of a replace.
    sample = None if LONG or names == TRIPLES[0] else 20
    for start in STARTS if LONG else STARTS[:1]:
        check_schedules(tmp_path, names, start, tally, switches=3, stops=("rename", "flock"), sample=sample)
        check_schedules(tmp_path, names, start, tally, switches=3, sample=300 if LONG else 8, kills=True)
    tally.close()


@pytest.mark.skipif(not LONG, reason="the long run of `nox -s faults`")
def test_any_three_operations_in_sampled_orders(tmp_path: Path) -> None:
    tally = Tally("schedules of any three operations", *FAULTS)
    for names in combinations(OPERATIONS, 3):
        if not set(names) <= set(READERS):
            for start in STARTS:
                check_schedules(tmp_path, names, start, tally, switches=3, stops=(*CHANGES, "flock"), sample=10)
    tally.close()


def test_explorer_tries_every_switch(tmp_path: Path) -> None:
    """Two operations with one call each: two orders, with and without a switch before the first call."""

    def prepare() -> list[Callable[[], object]]:
        shutil.rmtree(tmp_path / "x", ignore_errors=True)
        (tmp_path / "x").mkdir()
        return [lambda: os.mkdir(tmp_path / "x" / "a"), lambda: os.mkdir(tmp_path / "x" / "b")]

    runs: list[Run] = []
    assert explore(prepare, runs.append, switches=1, stops=("mkdir",)) == 4
    assert {len(run.points) for run in runs} == {2}
    assert explore(prepare, runs.append, switches=1, stops=("mkdir",), kills=True) == 6
    assert sum(outcome.killed for run in runs for outcome in run.outcomes) == 2

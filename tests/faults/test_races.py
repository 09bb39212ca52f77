"""Races between processes.

Injected: eight processes at one id or one document, readers during replaces, sweeps and repairs during writes.
Must hold: one lineage wins, readers see one whole version, and no write is lost or disturbed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from docid import ContentConflict, DocsStore, Document, DocumentNotFound, LineageConflict, Outcome
from docid.repair import repair
from tests.faults import LONG, Tally
from tests.faults.mounts import image, tmpfs

WRITERS = 8
ROUNDS = 300 if LONG else 15
READS = 100_000 if LONG else 300

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
FORK: Any = multiprocessing.get_context("fork") if hasattr(os, "fork") else None


def gather(jobs: list[Callable[[], Any]]) -> list[Any]:
    """Run each job in its own process; return their results."""

    def work(job: Callable[[], Any], pipe: Any) -> None:
        try:
            pipe.send((True, job()))
        except BaseException as error:  # noqa: BLE001 - raised in the other process
            pipe.send((False, repr(error)))
        os._exit(0)  # skips the cleanup that belongs to the test's process

    pipes = [FORK.Pipe(duplex=False) for _ in jobs]
    processes = [FORK.Process(target=work, args=(job, pipe[1])) for job, pipe in zip(jobs, pipes, strict=True)]
    for process in processes:
        process.start()
    for _, sender in pipes:
        sender.close()
    results = [receiver.recv() for receiver, _ in pipes]
    for process in processes:
        process.join()
    assert [value for fine, value in results if not fine] == []
    return [value for _, value in results]


@pytest.fixture(params=["ext4", "tmpfs"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "ext4":
        with image(tmp_path, "ext4") as disk:
            yield disk.path / "docs"
    else:
        with tmpfs(tmp_path / "tmpfs", "size=400m") as path:
            yield path / "docs"


def text(writer: int) -> str:
    return f"{writer} " * 2000


def test_one_of_eight_lineages_wins_and_the_others_get_an_error(root: Path) -> None:  # noqa: PLR0915 - one race
    tally = Tally(
        f"8 processes, 8 lineages, one id, {'ext4' if 'ext4' in str(root) else 'tmpfs'}",
        "rounds without a single winner",
        "other errors",
        "wrong bytes",
        "torn reads",
    )
    store = DocsStore(root, durability="full" if LONG else "none")
    barrier, read, over = FORK.Barrier(WRITERS), FORK.Value("q", 0), FORK.Value("i", 0)

    def write(writer: int) -> list[str]:
        outcomes = []
        for turn in range(100 * ROUNDS):
            barrier.wait()
            # All writers see the same value, which is set between two barriers.
            if turn >= ROUNDS and over.value:
                break
            try:
                document = Document(
                    stage="draft",
                    doc_id=f"d{turn}",
                    task_id=f"t-{writer}",
                    raw_text=text(writer),
                    parsed_text=str(writer),
                )
                outcomes.append(store.write(document).outcome.value)
            except LineageConflict:
                outcomes.append("conflict")
            except Exception as error:  # noqa: BLE001 - counted
                outcomes.append(repr(error))
            barrier.wait()
            if writer == 0 and turn + 1 >= ROUNDS and read.value >= READS:
                over.value = 1
        over.value = 1
        return outcomes

    def check_reads(_: int) -> list[str]:
        torn, turn = [], 0
        while not over.value or read.value < READS:
            try:
                document = store.read("draft", f"d{turn}", verify=True)
            except DocumentNotFound:
                turn = max(0, turn - 1)
                continue
            except Exception as error:  # noqa: BLE001 - counted
                torn.append(repr(error))
                continue
            finally:
                with read.get_lock():
                    read.value += 1
            turn += 1
            writer = str(document.task_id).removeprefix("t-")
            if document.raw_text != text(int(writer)) or document.parsed_text != writer:
                torn.append(f"{document!r} is mixed")
        return torn

    jobs = [lambda writer=writer: write(writer) for writer in range(WRITERS)]
    *outcomes, torn, torn_too = gather([*jobs, lambda: check_reads(0), lambda: check_reads(1)])
    for turn, round_ in enumerate(zip(*outcomes, strict=True)):
        tally.count("rounds")
        tally.count("losers with LineageConflict", round_.count("conflict"))
        tally.check("rounds without a single winner", round_.count("created") == 1, round_)
        tally.check("other errors", round_.count("conflict") == WRITERS - 1, round_)
        winner = round_.index("created")
        document = store.read("draft", f"d{turn}", verify=True)
        tally.check("wrong bytes", (document.task_id, document.raw_text) == (f"t-{winner}", text(winner)), document)
    tally.count("concurrent reads", read.value)
    tally.faults["torn reads"] = len(torn) + len(torn_too)
    assert list(repair(store, stale_after=0)) == []
    tally.close()


@pytest.mark.parametrize("policy", ["keep", "fail"])
def test_first_of_eight_texts_stays(root: Path, policy: Any) -> None:
    kind = "ext4" if "ext4" in str(root) else "tmpfs"
    tally = Tally(f"8 processes, one lineage, 8 texts, {policy}, {kind}", "rounds with another outcome", "wrong bytes")
    store = DocsStore(root, durability="none")
    barrier = FORK.Barrier(WRITERS)
    rounds = 300 if LONG else 15

    def write(writer: int) -> list[str]:
        outcomes = []
        for turn in range(rounds):
            barrier.wait()
            document = Document(stage="draft", doc_id=f"d{turn}", task_id="t", raw_text=text(writer))
            try:
                outcomes.append(store.write(document, if_exists=policy).outcome.value)
            except ContentConflict:
                outcomes.append("conflict")
        return outcomes

    outcomes = gather([lambda writer=writer: write(writer) for writer in range(WRITERS)])  # type: ignore[misc]
    other = {"keep": "kept", "fail": "conflict"}[policy]
    for turn, round_ in enumerate(zip(*outcomes, strict=True)):
        tally.count("rounds")
        tally.count(other, round_.count(other))
        fine = sorted(round_) == sorted(["created", *[other] * (WRITERS - 1)])
        tally.check("rounds with another outcome", fine, round_)
        same = store.read("draft", f"d{turn}", verify=True).raw_text == text(round_.index("created"))
        tally.check("wrong bytes", same, turn)
    tally.close()


def test_readers_see_the_old_or_the_new_version(tmp_path: Path) -> None:
    tally = Tally("reads during replacement", "torn or mixed", "not found", "missed by a listing")
    store = DocsStore(tmp_path / "docs", durability="none")
    goal = 50_000 if LONG else 1_000
    read, over = FORK.Value("q", 0), FORK.Value("i", 0)

    def version(number: int) -> Document:
        parsed = f"{number}" if number % 2 else None
        return Document(stage="draft", doc_id="a1", task_id="t", raw_text=f"{number} " * 1000, parsed_text=parsed)

    store.write(version(0))

    def replace() -> list[str]:
        number = 0
        while read.value < goal:
            number += 1
            store.write(version(number), if_exists="replace")
        over.value = 1
        return [f"{number}"]

    def check_reads() -> list[str]:
        wrong, last = [], 0
        while not over.value:
            try:
                document = store.read("draft", "a1", verify=True)
            except DocumentNotFound as error:
                wrong.append(f"not found: {error}")
                continue
            except Exception as error:  # noqa: BLE001 - counted
                wrong.append(f"torn or mixed: {error!r}")
                continue
            number = int(document.raw_text.split(" ", 1)[0])
            same = document.raw_text == version(number).raw_text and document.parsed_text == version(number).parsed_text
            if not same or number < last:
                wrong.append(f"torn or mixed: {number} after {last}")
            last = number
            with read.get_lock():
                read.value += 1
        return wrong

    def check_listings() -> list[str]:
        wrong = []
        while not over.value:
            if "a1" not in store.ids("draft"):
                wrong.append("missed by a listing")
        return wrong

    (replacements,), *seen = gather([replace, check_reads, check_reads, check_listings])
    for wrong in (fault for faults in seen for fault in faults):
        tally.check(wrong.split(":", 1)[0], False, wrong)
    tally.count("reads", read.value)
    tally.count("replacements", int(replacements))
    tally.close()


def test_endless_sweep_disturbs_no_writer(tmp_path: Path) -> None:
    tally = Tally("writes during a sweep, age limit 0", "lost", "writers disturbed", "dead temporaries left")
    root = tmp_path / "docs"
    store = DocsStore(root, durability="none")
    each = 2_500 if LONG else 100
    done = FORK.Value("i", 0)

    def document(writer: int, number: int) -> Document:
        return Document(stage="draft", doc_id=f"w{writer}-{number}", task_id=f"t-{number}", raw_text=f"{writer} " * 300)

    def write(writer: int) -> list[str]:
        disturbed = []
        for number in range(each):
            try:
                if number % 50 == 0:  # a writer that dies here
                    dead = root / "draft" / f".tmp-dead{writer}-{number:016x}"
                    with contextlib.suppress(FileNotFoundError):  # swept in between
                        dead.mkdir(parents=True)
                        (dead / "raw.txt").write_text("half")
                store.write(document(writer, number))
                if number % 10 == 0:
                    store.add_part("draft", f"w{writer}-{number}", "parsed", "p")
                if number % 10 == 5:
                    again = attrs.evolve(document(writer, number), parsed_text="again")
                    store.write(again, if_exists="replace")
            except Exception as error:  # noqa: BLE001 - counted
                disturbed.append(repr(error))
        with done.get_lock():
            done.value += 1
        return disturbed

    def sweep() -> int:
        swept = 0
        sweeper = store.backend.sweeper()
        assert sweeper is not None
        while done.value < 4:
            for leftover in sweeper.leftovers("draft", 0):
                swept += sweeper.clear(leftover, "sweep", 0) is not None
            sweeper.tidy("draft", 0)
        return swept

    def repair_repeatedly() -> int:
        steps = 0
        while done.value < 4:
            for step in repair(store, apply=True, stale_after=0):
                assert step.error is None, step
                steps += step.done
        return steps

    *disturbed, swept, repaired = gather([*(lambda w=w: write(w) for w in range(4)), sweep, repair_repeatedly])
    for error in (error for errors in disturbed for error in errors):
        tally.check("writers disturbed", False, error)
    # On a busy machine the writers may be done before the sweeps begin.
    left = sum(step.done for step in repair(store, apply=True, stale_after=0))
    for writer in range(4):
        for number in range(each):
            tally.count("writes")
            found = store.read("draft", f"w{writer}-{number}", verify=True)
            tally.check(
                "lost", found.raw_text == f"{writer} " * 300 and (number % 10 or found.parsed_text == "p"), found
            )
    tally.count("dead temporaries swept", swept + repaired)
    for path in (root / "draft").glob(".tmp-*"):
        tally.check("dead temporaries left", False, path)
    assert swept + repaired + left > 0
    tally.close()
    shutil.rmtree(root)


def test_processes_with_the_same_batch_all_succeed(tmp_path: Path) -> None:
    """One process creates each document, and the others find it unchanged."""
    store = DocsStore(tmp_path / "docs")
    number = 300 if LONG else 60
    barrier = FORK.Barrier(4)
    documents = [
        Document(stage="draft", doc_id=f"d{each}", task_id=f"t-{each}", raw_text="x" * each) for each in range(number)
    ]

    def write() -> list[str]:
        barrier.wait()
        return [result.outcome.value for result in store.write_many(documents)]

    outcomes = gather([write] * 4)
    for position, round_ in enumerate(zip(*outcomes, strict=True)):
        assert sorted(round_) == [Outcome.CREATED, *[Outcome.UNCHANGED] * 3], position
    assert list(repair(store, stale_after=0)) == []

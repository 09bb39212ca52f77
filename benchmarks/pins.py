"""Measure the cost of noting from which versions documents were made: of writes, and of an audit.

Each contender writes the same documents: with the versions noted, with a look for the parent alone, and with neither
(`require_parent=False`). Contenders alternate in separate processes; the output shows the ratios. With strace, it also
shows the system calls of one document. The audit compares a store with versions with one without.

`--store ROOT` takes the documents of an existing store, such as that of `nox -s demo -- --full`.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import attrs

from docid import DocsStore, Document, DraftTask, EssayTask, EvaluationTask, audit, reserve_doc_id

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARES = {"draft": 1, "essay": 3, "evaluation": 6}  # tenths
ROWS = {"draft": DraftTask, "essay": EssayTask, "evaluation": EvaluationTask}
TEXT = "Once upon a time.\n" * 100
KINDS = ("noted", "parent only", "neither")


def make_documents(number: int) -> Iterator[Document]:
    """Yield documents of three stages, parents first."""
    parents: list[str] = []
    for stage, share in SHARES.items():
        ids: list[str] = []
        for position in range(number * share // 10):
            task_id = f"combination-{position}__template-{position % 7}__large-1"
            ids.append(reserve_doc_id(stage, task_id))
            parent = parents[position % len(parents)] if parents else None
            yield Document(
                stage=stage,
                doc_id=ids[-1],
                task_id=task_id,
                parent_doc_id=parent,
                raw_text=TEXT,
                parsed_text="7.5" if stage == "evaluation" else TEXT,
                prompt_text=TEXT,
            )
        parents = ids


def read_documents(source: str, number: int) -> Iterator[Document]:
    """Yield the documents of a store, or made ones, without versions."""
    if not source:
        yield from make_documents(number)
        return
    store = DocsStore(source)
    for stage in store.stages:
        for document in store.documents(stage):
            yield attrs.evolve(document.read(), pins={})


def without_pins(document: Document) -> Document:
    """Return a document whose versions are unknown, so that docid only looks for the parent."""
    return attrs.evolve(document, pins={} if document.parent_doc_id is None else {document.parent_doc_id: None})


def write(documents: list[Document], root: str, way: str, kind: str, durability: str) -> tuple[float, int]:
    """Write documents; return the seconds and their number."""
    if kind == "parent only":
        documents = [without_pins(document) for document in documents]
    store = DocsStore(root, durability=durability)  # type: ignore[arg-type]
    begin = time.perf_counter()
    if way == "write_many":
        store.write_many(documents, require_parent=kind != "neither")
    elif way == "write":
        for document in documents:
            store.write(document, require_parent=kind != "neither")
    else:
        for document in documents:
            row = ROWS[document.stage](
                task_id=document.task_id or "", doc_id=document.doc_id, parent_doc_id=document.parent_doc_id
            )
            store.ensure(row, lambda _, made=document: made, require_parent=kind != "neither")  # type: ignore[misc]
    return time.perf_counter() - begin, len(documents)


def run(*options: str, strace: str = "") -> tuple[float, ...]:
    """Run one contender in a process of its own; return the numbers that it prints."""
    command = [sys.executable, __file__, *options]
    if strace:
        command = ["strace", "-f", "-c", "-o", strace, *command]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return tuple(float(number) for number in done.stdout.split())


def print_ratio(name: str, results: dict[str, list[float]], base: str, unit: str) -> None:
    """Print the median of each contender, and its ratio to the base, turn by turn."""
    for contender, each in results.items():
        ratios = sorted(one / other for one, other in zip(each, results[base], strict=True))
        print(
            f"  {name:<28}{contender:<14}{statistics.median(each):9.3f} {unit}    / {base} "
            f"{statistics.median(ratios):.2f} (min {ratios[0]:.2f}, max {ratios[-1]:.2f})",
            flush=True,
        )


def compare_writes(arguments: argparse.Namespace, directory: str) -> None:
    """Compare the contenders of each way to write."""
    for way, durability in (("write", "none"), ("write_many", "none"), ("ensure", "none"), ("write_many", "full")):
        results: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for turn in range(arguments.write_turns):
            for kind in KINDS[turn % 3 :] + KINDS[: turn % 3]:
                root = f"{directory}/{kind}"
                seconds, count = run("--only", way, kind, durability, "--root", root, *_pass_on(arguments))
                results[kind].append(seconds / count * 1000)
                shutil.rmtree(root)
        print_ratio(f"{way}, durability {durability}", results, "parent only", "ms a document")


def count_system_calls(directory: str) -> None:
    """Print the system calls of one document, the difference of two runs."""
    if shutil.which("strace") is None:
        print("  system calls: strace is not installed")
        return

    def count(way: str, kind: str, number: int) -> int:
        root, counted = f"{directory}/{number}", f"{directory}/strace"
        run("--only", way, kind, "none", "--root", root, "--documents", str(number), strace=counted)
        shutil.rmtree(root)
        with open(counted, encoding="utf-8") as file:
            rows = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", file.read(), re.MULTILINE)
        return sum(int(calls) for calls, name in rows if name not in {"total", "brk", "mmap", "munmap", "futex"})

    for way in ("write", "write_many", "ensure"):
        calls = {kind: (count(way, kind, 2000) - count(way, kind, 1000)) / 1000 for kind in KINDS}
        print(f"  {way:<28}" + ", ".join(f"{kind} {each:.1f}" for kind, each in calls.items()) + " system calls")


def compare_audits(arguments: argparse.Namespace, directory: str) -> None:
    """Compare the audit of a store with versions and of one without."""
    roots = {"with versions": f"{directory}/with", "without": f"{directory}/without"}
    for root, kind in zip(roots.values(), ("noted", "neither"), strict=True):
        run("--only", "write_many", kind, "none", "--root", root, *_pass_on(arguments))
    results: dict[str, list[float]] = {name: [] for name in roots}
    for turn in range(arguments.turns + 1):
        for name, root in list(roots.items())[:: 1 if turn % 2 else -1]:
            seconds, count = run("--only", "audit", "", "", "--root", root)
            if turn:  # the first turn fills the cache
                results[name].append(seconds / count * 1000)
    print_ratio("audit", results, "without", "ms a document")


def _pass_on(arguments: argparse.Namespace) -> list[str]:
    return ["--documents", str(arguments.documents), "--store", arguments.store]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--documents", type=int, default=2_000)
    parser.add_argument("--store", default="", help="take the documents of this store")
    parser.add_argument("--turns", type=int, default=5, help="turns of the audit")
    parser.add_argument("--write-turns", type=int, default=5, help="turns of each way to write")
    parser.add_argument("--directory", help="directory for the stores (default: the temporary directory)")
    parser.add_argument("--only", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--root", help=argparse.SUPPRESS)
    arguments, _ = parser.parse_known_args()
    if arguments.only:
        way, kind, durability = arguments.only
        if way == "audit":
            begin = time.perf_counter()
            report = audit(arguments.root)
            assert report.ok, report
            print(time.perf_counter() - begin, sum(facts.documents or 0 for facts in report.stages.values()))
        else:
            documents = list(read_documents(arguments.store, arguments.documents))
            print(*write(documents, arguments.root, way, kind, durability))
        return
    what = f"the documents of {os.path.basename(arguments.store)}" if arguments.store else f"{arguments.documents:,}"
    print(f"versions: {what} documents, {arguments.turns} turns, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        count_system_calls(directory)
        compare_writes(arguments, directory)
        compare_audits(arguments, directory)


if __name__ == "__main__":
    main()

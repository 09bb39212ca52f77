"""Measure the cost of a write, compared with bare system calls and with a plain writer of files.

In each turn every contender of a group writes fresh documents to the same file system. The output shows the median,
minimum and maximum of the ratios. Contenders that sync are in a separate group, because they would pay for journal
entries that the others leave behind. Absolute rates depend on the machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import secrets
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from docid import DocsStore, Document

if TYPE_CHECKING:
    from collections.abc import Callable

RAW, PARSED, PROMPT = "r" * 3000, "p" * 2500, "q" * 1500
# About as long as a record of docid.
FILES = {"raw.txt": RAW.encode(), "parsed.txt": PARSED.encode(), "prompt.txt": PROMPT.encode()}
FILES["metadata.json"] = b"m" * 720


def write_bare(root: str, ids: list[str]) -> None:
    """Write documents with the minimal system calls for a temporary directory and a rename."""
    for doc_id in ids:
        temporary = f"{root}/.tmp-{doc_id}"
        os.mkdir(temporary)
        for name, data in FILES.items():
            fd = os.open(f"{temporary}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.write(fd, data)
            os.close(fd)
        os.rename(temporary, f"{root}/{doc_id}")


def write_files(root: str, ids: list[str]) -> None:
    """Write each file under a temporary name and rename it, as plain writers do. Documents are not atomic."""
    for doc_id in ids:
        directory = Path(root, doc_id)
        directory.mkdir()
        for name, data in FILES.items():
            temporary = directory / f"{name}.tmp"
            temporary.write_bytes(data)
            temporary.replace(directory / name)


def make_documents(ids: list[str]) -> list[Document]:
    return [
        Document(stage="draft", doc_id=doc_id, task_id=doc_id, raw_text=RAW, parsed_text=PARSED, prompt_text=PROMPT)
        for doc_id in ids
    ]


def build_writer(durability: str) -> Callable[[str, list[str]], None]:
    def write(root: str, ids: list[str]) -> None:
        store = DocsStore(root, durability="none" if durability == "none" else "full")
        documents = make_documents(ids)
        start = time.perf_counter()
        for document in documents:
            store.write(document)
        SECONDS.append(time.perf_counter() - start)

    return write


def write_many(root: str, ids: list[str]) -> None:
    store = DocsStore(root)
    documents = make_documents(ids)
    start = time.perf_counter()
    store.write_many(documents)
    SECONDS.append(time.perf_counter() - start)


SECONDS: list[float] = []
GROUPS: list[dict[str, Callable[[str, list[str]], None]]] = [
    {"write, durable": build_writer("full"), "write_many, durable": write_many},
    {"bare calls": write_bare, "a file at a time": write_files, "write, durability none": build_writer("none")},
]
RATIOS = [
    ("write, durability none", "bare calls"),
    ("write, durability none", "a file at a time"),
    ("write_many, durable", "write, durable"),
]


def measure_rate(contender: Callable[[str, list[str]], None], root: str, number: int) -> float:
    """Return the rate of a contender in documents per second."""
    os.mkdir(f"{root}/draft")
    SECONDS.clear()
    os.sync()  # so that this contender does not pay for data that an earlier one left unwritten
    ids = [secrets.token_hex(8) for _ in range(number)]
    start = time.perf_counter()
    contender(root, ids)
    return number / (SECONDS[0] if SECONDS else time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--documents", type=int, default=1000, help="documents per turn")
    parser.add_argument("--store-turns", type=int, default=15)
    parser.add_argument("--directory", help="directory for the stores (default: the temporary directory)")
    arguments, _ = parser.parse_known_args()
    rates: dict[str, list[float]] = {}
    # Delete all files at the end: ext4 creates files slowly right after deletions.
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        for group in GROUPS:
            for turn in range(arguments.store_turns + 1):
                for name, contender in group.items():
                    rate = measure_rate(contender, tempfile.mkdtemp(dir=directory), arguments.documents)
                    if turn:  # the first turn is a warm-up
                        rates.setdefault(name, []).append(rate)
    print(
        f"writes: {arguments.documents:,} documents per turn, {arguments.store_turns} turns, "
        f"Python {platform.python_version()}"
    )
    for name, each in rates.items():
        print(f"  {name:<44}{statistics.median(each):10,.0f} documents/s")
    for upper, lower in RATIOS:
        ratios = sorted(a / b for a, b in zip(rates[upper], rates[lower], strict=True))
        print(
            f"  {f'{upper} / {lower}':<44}{statistics.median(ratios):10.2f}    "
            f"(min {ratios[0]:.2f}, max {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()

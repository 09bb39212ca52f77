"""What a write costs, beside the bare system calls and beside a plain writer of files.

Every turn writes fresh documents with every contender of a group, turn by turn, on one file system; the figures are the
medians, least and most of the turns' ratios. Those that sync and those that do not are groups of their own: what the
latter leave for the journal would be on the bill of the former. Absolute rates are of this machine at this moment.
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
# The record is about as long as docid's own.
FILES = {"raw.txt": RAW.encode(), "parsed.txt": PARSED.encode(), "prompt.txt": PROMPT.encode()}
FILES["metadata.json"] = b"m" * 720


def bare(root: str, ids: list[str]) -> None:
    """The system calls that a document built aside cannot do without, and nothing else."""
    for doc_id in ids:
        temporary = f"{root}/.tmp-{doc_id}"
        os.mkdir(temporary)
        for name, data in FILES.items():
            fd = os.open(f"{temporary}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.write(fd, data)
            os.close(fd)
        os.rename(temporary, f"{root}/{doc_id}")


def per_file(root: str, ids: list[str]) -> None:
    """Each file by a temporary name and a rename, in the final directory, as plain writers do: no document is whole."""
    for doc_id in ids:
        directory = Path(root, doc_id)
        directory.mkdir()
        for name, data in FILES.items():
            temporary = directory / f"{name}.tmp"
            temporary.write_bytes(data)
            temporary.replace(directory / name)


def documents(ids: list[str]) -> list[Document]:
    return [
        Document(stage="draft", doc_id=doc_id, task_id=doc_id, raw_text=RAW, parsed_text=PARSED, prompt_text=PROMPT)
        for doc_id in ids
    ]


def store_of(durability: str) -> Callable[[str, list[str]], None]:
    def write(root: str, ids: list[str]) -> None:
        store = DocsStore(root, durability="none" if durability == "none" else "full")
        made = documents(ids)
        start = time.perf_counter()
        for document in made:
            store.write(document)
        SECONDS.append(time.perf_counter() - start)

    return write


def batch(root: str, ids: list[str]) -> None:
    store = DocsStore(root)
    made = documents(ids)
    start = time.perf_counter()
    store.write_many(made)
    SECONDS.append(time.perf_counter() - start)


SECONDS: list[float] = []
GROUPS: list[dict[str, Callable[[str, list[str]], None]]] = [
    {"write, durable": store_of("full"), "write_many, durable": batch},
    {"bare calls": bare, "a file at a time": per_file, "write, durability none": store_of("none")},
]
RATIOS = [
    ("write, durability none", "bare calls"),
    ("write, durability none", "a file at a time"),
    ("write_many, durable", "write, durable"),
]


def rate_of(contender: Callable[[str, list[str]], None], root: str, number: int) -> float:
    """Return how many documents a second it writes."""
    os.mkdir(f"{root}/draft")
    SECONDS.clear()
    os.sync()  # what others left to be written is not on this one's bill
    ids = [secrets.token_hex(8) for _ in range(number)]
    start = time.perf_counter()
    contender(root, ids)
    return number / (SECONDS[0] if SECONDS else time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--documents", type=int, default=1000, help="documents a turn")
    parser.add_argument("--store-turns", type=int, default=15)
    parser.add_argument("--directory", help="where to write (default: the temporary directory)")
    arguments, _ = parser.parse_known_args()
    rates: dict[str, list[float]] = {}
    # Nothing is deleted before the end: ext4 makes files slowly where others were deleted a moment ago.
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        for group in GROUPS:
            for turn in range(arguments.store_turns + 1):
                for name, contender in group.items():
                    rate = rate_of(contender, tempfile.mkdtemp(dir=directory), arguments.documents)
                    if turn:  # the first one is to get warm
                        rates.setdefault(name, []).append(rate)
    print(
        f"writes: {arguments.documents:,} documents a turn, {arguments.store_turns} turns, {platform.python_version()}"
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

"""Create and list a million documents in one stage; measure rates and memory.

The output shows the rate for each tenth of the documents, and the time of a listing compared with `os.scandir`.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import statistics
import tempfile
import time
import tracemalloc

from docid import DocsStore, Document, reserve_doc_id


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=7, help="number of listings")
    parser.add_argument("--directory", help="where to write (default: the temporary directory)")
    arguments = parser.parse_args()
    root = tempfile.mkdtemp(dir=arguments.directory)
    try:
        measure(root, arguments.documents, arguments.turns)
    finally:
        shutil.rmtree(root)


def measure(root: str, number: int, turns: int) -> None:
    store = DocsStore(root, durability="none")
    print(f"a stage of {number:,} documents, durability none, Python {platform.python_version()}")
    tenth = number // 10
    rates, peaks = [], []
    for part in range(10):
        start = time.perf_counter()
        for position in range(part * tenth, (part + 1) * tenth):
            task_id = f"t-{position}"
            doc_id = reserve_doc_id("draft", task_id)
            store.write(Document(stage="draft", doc_id=doc_id, task_id=task_id, raw_text="Once upon a time.\n" * 20))
        rates.append(tenth / (time.perf_counter() - start))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        print(
            f"  {(part + 1) * tenth:>12,} documents {rates[-1]:10,.0f} documents/s {peaks[-1]:8.1f} MB peak memory",
            flush=True,
        )
    print(f"  last tenth / first tenth {rates[-1] / rates[0]:.2f}")
    ratios = []
    for turn in range(turns + 1):
        start = time.perf_counter()
        with os.scandir(f"{root}/draft") as entries:
            bare = sum(1 for _ in entries)
        middle = time.perf_counter()
        listed = sum(1 for _ in store.ids("draft"))
        end = time.perf_counter()
        assert bare == listed == number
        if turn:  # the first turn fills the cache
            ratios.append((end - middle) / (middle - start))
    print(f"  store.ids / os.scandir {statistics.median(ratios):.2f} (min {min(ratios):.2f}, max {max(ratios):.2f})")
    print(f"  last turn: {middle - start:.2f} s os.scandir, {end - middle:.2f} s store.ids")
    tracemalloc.start()
    for _ in store.ids("draft"):
        pass
    print(f"  peak memory of a listing: {tracemalloc.get_traced_memory()[1] / 1024:.1f} KB")
    tracemalloc.stop()


if __name__ == "__main__":
    main()

"""Measure the cost of `reserve_frame`, compared with `reserve_doc_ids` on a list."""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pyarrow as pa

from docid import reserve_doc_ids
from docid.frames import reserve_frame

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET = 1.3


def measure(function: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows per frame (default: 1,000,000)")
    parser.add_argument("--frame-turns", type=int, default=5, help="number of turns (default: 5)")
    arguments, _ = parser.parse_known_args()
    ids = [f"combo-{number}__outline-v2__sonnet-4" for number in range(arguments.rows)]
    data: dict[str, list[Any]] = {"draft_task_id": ids, "words": list(range(arguments.rows))}
    frames = {"pandas": pd.DataFrame(data), "polars": pl.DataFrame(data), "pyarrow": pa.table(data)}
    ratios: dict[str, list[float]] = {name: [] for name in frames}
    for _ in range(arguments.frame_turns):
        for name, frame in frames.items():
            # Measure the list before and after, so that a machine that slows down affects both contenders.
            before = measure(lambda: reserve_doc_ids("draft", ids))
            own = measure(lambda frame=frame: reserve_frame(frame, stage="draft"))  # type: ignore[misc]
            after = measure(lambda: reserve_doc_ids("draft", ids))
            ratios[name].append(2 * own / (before + after))
    print(f"reserve_frame / reserve_doc_ids, {arguments.rows:,} rows, {arguments.frame_turns} turns (target {TARGET})")
    print(f"{'':<10}{'median':>8}{'min':>8}{'max':>8}")
    for name, each in ratios.items():
        print(f"{name:<10}{statistics.median(each):>8.2f}{min(each):>8.2f}{max(each):>8.2f}")


if __name__ == "__main__":
    main()

"""Measure the cost of a doc id, compared with a bare SHA-256 and with a version 5 UUID.

In each turn all contenders use the same fresh names. The output shows the median, minimum and maximum of the ratios.
Absolute times depend on the machine.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import secrets
import statistics
import time
import uuid
from typing import TYPE_CHECKING

from docid import reserve_doc_id, reserve_doc_ids

if TYPE_CHECKING:
    from collections.abc import Callable

NAMESPACE = uuid.UUID("9a1d0f5e-0f6c-4d7e-9d0c-5a2f6f0a1b2c")

CONTENDERS: dict[str, Callable[[list[str]], object]] = {
    "sha256": lambda names: [hashlib.sha256(name.encode()).digest() for name in names],
    "reserve_doc_id": lambda names: [reserve_doc_id("draft", name) for name in names],
    "reserve_doc_ids": lambda names: reserve_doc_ids("draft", names),
    "uuid5": lambda names: [str(uuid.uuid5(NAMESPACE, name)) for name in names],
}
RATIOS = [("reserve_doc_id", "sha256"), ("reserve_doc_ids", "sha256"), ("uuid5", "reserve_doc_id")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--names", type=int, default=10_000, help="names per turn")
    parser.add_argument("--turns", type=int, default=50)
    arguments, _ = parser.parse_known_args()
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(arguments.turns):
        names = [f"combo_v1_{secrets.token_hex(6)}__recursive-light__gemini_2.5_flash" for _ in range(arguments.names)]
        for name, contender in CONTENDERS.items():
            start = time.perf_counter()
            contender(names)
            seconds[name].append((time.perf_counter() - start) / arguments.names)
    print(f"ids: {arguments.names:,} fresh names per turn, {arguments.turns} turns, Python {platform.python_version()}")
    for name, each in seconds.items():
        print(f"  {name:<34}{statistics.median(each) * 1e9:8.0f} ns")
    for upper, lower in RATIOS:
        ratios = sorted(a / b for a, b in zip(seconds[upper], seconds[lower], strict=True))
        print(
            f"  {f'{upper} / {lower}':<34}{statistics.median(ratios):8.2f}    "
            f"(min {ratios[0]:.2f}, max {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()

"""Measure the cost of `import docid`, compared with importing only attrs and orjson.

Each import runs in a new process, which measures the import statement alone.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys

CONTENDERS = {"attrs, orjson": "import attrs, orjson", "docid": "import docid"}
TIMED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
UNWANTED = {"argparse", "asyncio", "docid.cli", "dagster", "obstore", "narwhals", "rich"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--turns", type=int, default=40)
    arguments, _ = parser.parse_known_args()
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for turn in range(arguments.turns + 1):
        for name, statement in CONTENDERS.items():
            output = subprocess.run(
                [sys.executable, "-c", TIMED.format(statement)], check=True, capture_output=True, text=True
            ).stdout
            if turn:  # the first turn fills the disk cache
                seconds[name].append(float(output))
    print(f"import: {arguments.turns} processes each, alternating, Python {platform.python_version()}")
    for name, each in seconds.items():
        print(f"  {name:<34}{statistics.median(each) * 1e3:8.1f} ms")
    ratios = sorted(a / b for a, b in zip(seconds["docid"], seconds["attrs, orjson"], strict=True))
    print(
        f"  {'docid / attrs, orjson':<34}{statistics.median(ratios):8.2f}    "
        f"(min {ratios[0]:.2f}, max {ratios[-1]:.2f})"
    )
    code = "import sys, docid; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    print(f"  loaded, of {', '.join(sorted(UNWANTED))}: {', '.join(sorted(UNWANTED & set(loaded))) or 'none'}")


if __name__ == "__main__":
    main()

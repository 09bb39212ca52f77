"""Measure the pass that validates a task table before the first row: time and peak memory, on 1,000,000 rows.

Run it as `python benchmarks/tables.py`; `--rows` sets another number.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from docid import DraftTask, read_tasks, reserve_tasks

READ_ONLY = "one pass, rows only"
VALIDATED = "read_tasks"
RESERVED = "reserve_tasks"


def measure(work: str, path: str) -> None:
    """Do the work in this process, and print its seconds and its peak memory in MiB."""
    import resource  # noqa: PLC0415 - not on Windows

    from docid.tables.faults import Faults  # noqa: PLC0415
    from docid.tables.tasks import Pass  # noqa: PLC0415

    table = read_tasks(path, DraftTask)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    if work == READ_ONLY:
        number = sum(1 for _ in table.scan(Faults(path), Pass()))
    else:
        number = sum(1 for _ in (table if work == VALIDATED else reserve_tasks(table, DraftTask)))
    seconds = time.perf_counter() - start
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{work:20} {number:>10,} rows  {seconds:7.1f} s  {grown * 1024 / number:6.0f} bytes per row")


def main() -> None:
    """Write a table, and measure each way of reading it in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        measure(arguments.work, arguments.path)
        return
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "draft_tasks.csv")
        with path.open("w") as stream:
            stream.write("draft_task_id,combo_id,draft_template,generation_model,note,doc_id\n")
            for number in range(arguments.rows):
                stream.write(f"combo-{number:07}__plain__large-1,combo-{number:07},plain,large-1,,{number:016}\n")
        print(f"{os.path.getsize(path) / 1e6:.0f} MB")
        for work in (READ_ONLY, VALIDATED, RESERVED):
            subprocess.run([sys.executable, __file__, "--work", work, "--path", str(path)], check=True)


if __name__ == "__main__":
    main()

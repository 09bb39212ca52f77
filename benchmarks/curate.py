"""Measure the time and memory of the commands link, scores, select and replay, on tables of 25,630 rows.

The store has the shape of the essays example with every template: 110 drafts, 880 essays, 24,640 evaluations. Each
command runs in a separate process. If strace is installed, it counts the records that a command opens.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from docid import DocsStore, Document, reserve_doc_id

SIZES = {"draft": 110, "essay": 880, "evaluation": 24_640}


def generate(root: Path, scale: float) -> int:
    """Make a store, and task tables without doc ids; return their number of rows."""
    store = DocsStore(root / "docs", durability="none")
    parents: list[tuple[str, str]] = []
    rows = 0
    for stage, size in SIZES.items():
        tasks: list[tuple[str, str]] = []
        documents = []
        with (root / f"{stage}_tasks.csv").open("w", newline="") as file:
            table = csv.writer(file)
            parent_stage = store.stages.parent_of(stage)
            table.writerow([f"{stage}_task_id", *([f"{parent_stage}_task_id"] if parent_stage else []), "note"])
            for number in range(max(1, int(size * scale))):
                parent = parents[number % len(parents)] if parents else None
                task_id = f"combination-{number}__template-{number % 7}__large-1"
                doc_id = reserve_doc_id(stage, task_id)
                tasks.append((task_id, doc_id))
                documents.append(
                    Document(
                        stage=stage,
                        doc_id=doc_id,
                        task_id=task_id,
                        parent_doc_id=None if parent is None else parent[1],
                        raw_text="Once upon a time.\n" * 100,
                        prompt_text="Write about tides.\n" * 50,
                        parsed_text=f"{number % 97 / 10}" if number % 3 else None,
                        metadata={"template_id": f"template-{number % 7}", "model_id": "large-1"},
                    )
                )
                table.writerow([task_id, *([] if parent is None else [parent[0]]), "x"])
                rows += 1
        store.write_many(documents)
        parents = tasks
    return rows


def measure(*arguments: str) -> tuple[str, float, float]:
    """Run a command; return a line of its output, its time in seconds, and its peak memory in MB."""
    before = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "docid", *arguments], stdout=subprocess.PIPE, text=True) as process:
        printed = process.stdout.read() if process.stdout else ""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"docid {arguments[0]} failed")
    # Linux reports KB, macOS bytes.
    peak = used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    # Skip the lines about written files, to get the line with the counts.
    line = next(line for line in printed.splitlines() if not line.endswith("written"))
    return line.removeprefix(os.path.dirname(arguments[1]) + os.sep), time.perf_counter() - before, peak


def count_records(*arguments: str) -> str:
    """Return the number of records that a command opens, as text; empty without strace."""
    if shutil.which("strace") is None:
        return ""
    command = ["strace", "-f", "-qq", "-e", "trace=openat", sys.executable, "-m", "docid", *arguments]
    calls = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return f"{calls.count('metadata.json'):,} records opened"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="factor for 110 drafts, 880 essays and 24,640 evaluations"
    )
    parser.add_argument("--directory", help="directory for the store (default: the temporary directory)")
    options, _ = parser.parse_known_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        root = Path(directory)
        # In a separate process: the measured commands would inherit the memory of this one.
        with ProcessPoolExecutor(1, get_context("spawn")) as executor:
            rows = executor.submit(generate, root, options.scale).result()
        store = ["--store", str(root / "docs")]
        scores, selected = str(root / "scores.csv"), str(root / "selected.csv")
        print(f"Python {platform.python_version()}, {platform.machine()}; {rows:,} rows and documents")
        for arguments in (
            *(["link", str(root / f"{stage}_tasks.csv"), *store] for stage in SIZES),
            ["scores", *store, "-o", scores],
            ["select", "--scores", scores, "--top", "100", *store, "-o", selected],
            [
                "replay",
                "--from",
                f"evaluation={root / 'evaluation_tasks.csv'}",
                *store,
                "-o",
                str(root / "replayed.csv"),
            ],
        ):
            line, seconds, peak = measure(*arguments)
            # Count in a second run, since strace costs time.
            again = [*arguments, "--dry-run"] if arguments[0] != "link" else [*arguments, "--force", "--dry-run"]
            print(f"{arguments[0]:<8} {seconds:6.2f} s  {peak:6.1f} MB  {count_records(*again)}  ({line})")


if __name__ == "__main__":
    main()

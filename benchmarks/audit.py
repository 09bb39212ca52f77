"""Measure the cost of an audit, compared with the minimal work on the same tables and the same store (the floor).

The floor reads the tables with csv.reader, lists the stages with os.scandir, opens, reads and parses every record, and
calls stat once per part. Audit and floor alternate in separate processes. For each size the output shows the ratios and
the peak memory; for several sizes also the growth of the time. With `--cold`, every run reads from disk (Linux, root).
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor

import orjson

from docid import DocsStore, Document, DraftTask, EssayTask, EvaluationTask, TaskRow, audit, reserve_doc_id, write_tasks

SHARES = {"draft": 1, "essay": 3, "evaluation": 6}  # tenths
ROWS = {"draft": DraftTask, "essay": EssayTask, "evaluation": EvaluationTask}
MODEL = "large-1"


def format_table_path(root: str, stage: str) -> str:
    return f"{root}/tables/{stage}_generation_tasks.csv"


def generate(root: str, number: int) -> None:
    """Make three tables with `number` rows in total, and a document for each row."""
    os.makedirs(f"{root}/tables")
    store = DocsStore(f"{root}/docs", durability="none")
    parents: list[str] = []
    for stage, share in SHARES.items():
        ids: list[str] = []
        rows: list[TaskRow] = []
        for position in range(number * share // 10):
            task_id = f"combination-{position}__template-{position % 7}__{MODEL}"
            doc_id = reserve_doc_id(stage, task_id)
            parent = parents[position % len(parents)] if parents else None
            rows.append(ROWS[stage](task_id=task_id, doc_id=doc_id, parent_doc_id=parent, generation_model=MODEL))
            ids.append(doc_id)
            parsed = "7.5" if stage == "evaluation" else None
            metadata = {"template_id": f"template-{position % 7}", "model_id": MODEL}
            document = Document(
                stage=stage,
                doc_id=doc_id,
                task_id=task_id,
                parent_doc_id=parent,
                raw_text="Once upon a time.\n" * 10,
                parsed_text=parsed,
                metadata=metadata,
            )
            store.write(document, require_parent=False)
        write_tasks(format_table_path(root, stage), rows)
        parents = ids


def run_floor(root: str) -> int:
    number = 0
    for stage in SHARES:
        with open(format_table_path(root, stage), encoding="utf-8", newline="") as table:
            for _ in csv.reader(table):
                number += 1
        with os.scandir(f"{root}/docs/{stage}") as entries:
            for entry in entries:
                fd = os.open(f"{entry.path}/metadata.json", os.O_RDONLY)
                record = orjson.loads(os.read(fd, 1 << 16))
                os.close(fd)
                for name in record["files"]:
                    os.stat(f"{entry.path}/{name}")
    return number


def run_audit(root: str, jobs: int = 1) -> int:
    tables = {stage: format_table_path(root, stage) for stage in SHARES}
    if jobs == 1:
        report = audit(f"{root}/docs", tables)
    else:
        with ProcessPoolExecutor(jobs) as executor:
            report = audit(f"{root}/docs", tables, executor=executor)
    assert report.findings == (), report.findings[:3]
    return sum(facts.written or 0 for facts in report.stages.values())


def measure(contender: str, root: str, number: int = 0) -> tuple[float, float]:
    """Run a contender in a separate process; return its seconds and its peak memory in MB."""
    options = ["--only", contender, "--root", root, "--number", str(number)]
    done = subprocess.run([sys.executable, __file__, *options], check=True, stdout=subprocess.PIPE, text=True)
    seconds, memory = done.stdout.split()
    return float(seconds), float(memory)


def run_contender(contender: str, root: str, number: int) -> None:
    """Run a contender in this process; print its seconds and its peak memory in MB."""
    start = time.perf_counter()
    if contender == "generate":
        generate(root, number)
    elif contender == "floor":
        run_floor(root)
    else:
        run_audit(root, 2 if "2" in contender else 1)
    seconds = time.perf_counter() - start
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(seconds, peak / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000], help="sizes: the number of rows and documents")
    parser.add_argument("--audit-turns", type=int, default=3)
    parser.add_argument("--cold", action="store_true", help="drop the caches before each run (Linux, as root)")
    parser.add_argument("--directory", help="directory for the stores (default: the temporary directory)")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--root", help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, default=0, help=argparse.SUPPRESS)
    arguments, _ = parser.parse_known_args()
    if arguments.only:
        run_contender(arguments.only, arguments.root, arguments.number)
        return
    medians: list[float] = []
    caches = "cold" if arguments.cold else "warm"
    print(f"audit: tables and a store, {caches}, {arguments.audit_turns} turns, Python {platform.python_version()}")
    for number in arguments.rows:
        root = tempfile.mkdtemp(dir=arguments.directory)
        try:
            measure("generate", root, number)
            medians.append(compare(root, number, arguments.audit_turns, cold=arguments.cold))
        finally:
            shutil.rmtree(root)
    if len(medians) > 1:
        growth = medians[-1] / medians[0]
        print(f"  {arguments.rows[0]:,} to {arguments.rows[-1]:,} rows: {growth:.2f} times the time")


def compare(root: str, number: int, turns: int, *, cold: bool) -> float:
    """Print the results of one size; return the median of the audit's seconds."""
    results: dict[str, list[tuple[float, float]]] = {}
    for turn in range(1 if cold else 0, turns + 1):
        for contender in ("floor", "audit", "audit, 2 jobs"):
            if cold:
                os.sync()
                with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
                    file.write("3")
            result = measure(contender, root)
            if turn:  # the first turn fills the cache
                results.setdefault(contender, []).append(result)
    print(f"  {number:,} rows, {number:,} documents")
    for contender, each in results.items():
        seconds = statistics.median(second for second, _ in each)
        peak = max(memory for _, memory in each)
        ratios = sorted(second / bare for (second, _), (bare, _) in zip(each, results["floor"], strict=True))
        print(
            f"    {contender:<16}{seconds:8.2f} s {peak:8.1f} MB    / floor {statistics.median(ratios):.2f} "
            f"(min {ratios[0]:.2f}, max {ratios[-1]:.2f})",
            flush=True,
        )
    return statistics.median(second for second, _ in results["audit"])


if __name__ == "__main__":
    main()

"""The cost of a document.

The number of system calls must stay at or below 36. Times are printed next to those of bare calls, not checked.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import LONG, REPORT, Tally
from tests.faults.mounts import image

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "store.py"

SCRIPT = """
import sys
from docid import DocsStore, Document
store = DocsStore(sys.argv[1])
texts = {"raw_text": "r" * 3000, "parsed_text": "p" * 2000, "prompt_text": "q" * 1000}
documents = [Document(stage="draft", doc_id=f"d{n}", task_id=f"t-{n}", **texts) for n in range(int(sys.argv[2]))]
for document in documents:
    store.write(document)
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_durable_document_takes_at_most_36_system_calls(tmp_path: Path) -> None:
    def count_calls(number: int) -> int:
        counted = tmp_path / f"{number}.strace"
        command = ["strace", "-f", "-c", "-o", str(counted), sys.executable, "-c", SCRIPT]
        environment = {**os.environ, "PYTHONHASHSEED": "0", "COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}
        done = subprocess.run(
            [*command, str(tmp_path / str(number)), str(number)], capture_output=True, env=environment, check=False
        )
        if done.returncode:
            pytest.skip(f"strace cannot trace here: {done.stderr[-200:]!r}")
        found = re.search(r"^100\.00\s+[\d.]+\s+\d+\s+(\d+)", counted.read_text(), re.MULTILINE)
        assert found, counted.read_text()[-500:]
        return int(found[1])

    count_calls(1)  # Python compiles its modules once
    each = (count_calls(101) - count_calls(1)) / 100
    tally = Tally("system calls", "calls beyond 36")
    tally.count("calls a durable document", round(each))
    tally.check("calls beyond 36", each <= 36, each)
    assert each > 20
    tally.close()


ENSURE = """
import sys
from docid import DEFAULT_STAGES, DocsStore, Document, DraftTask
rows = [DraftTask(task_id=f"t-{n}", doc_id=f"d{n}") for n in range(100)]
if sys.argv[2] == "fill":
    DocsStore(sys.argv[1]).write_many(Document.from_task(row, raw_text="r") for row in rows)
store = DocsStore(sys.argv[1], stages=DEFAULT_STAGES if sys.argv[2] == "given" else None)
for row in rows[: int(sys.argv[3])]:
    assert store.ensure(row, lambda _: None).outcome == "kept"
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_manifest_costs_an_existing_document_nothing_and_a_process_6_system_calls(tmp_path: Path) -> None:
    def count_calls(kind: str, number: int) -> int:
        counted = tmp_path / "strace"
        command = ["strace", "-f", "-c", "-o", str(counted), sys.executable, "-c", ENSURE, str(tmp_path / "docs"), kind]
        environment = {**os.environ, "PYTHONHASHSEED": "0", "COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}
        done = subprocess.run([*command, str(number)], capture_output=True, env=environment, check=False)
        if done.returncode:
            pytest.skip(f"strace cannot trace here: {done.stderr[-200:]!r}")
        # The number of calls for memory is not the same in every run.
        rows = [line.split() for line in counted.read_text().splitlines()[2:] if line.strip()]
        return sum(
            int(row[3]) for row in rows if row[-1] not in {"total", "brk", "mmap", "munmap"} and row[0] != "------"
        )

    count_calls("fill", 0)
    first = {kind: count_calls(kind, 1) for kind in ("given", "declared")}
    each = {kind: (count_calls(kind, 100) - first[kind]) / 99 for kind in first}
    assert each == {"given": 13, "declared": 13}
    assert first["declared"] - first["given"] == 6


ESSAYS = """
import sys
from docid import DocsStore, Document
store = DocsStore(sys.argv[1], durability="none")
store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="r"), if_exists="keep")
pins = {"d1": None} if sys.argv[2] == "looked for" else {}  # a version that is given is not read
names = {"stage": "essay", "parent_doc_id": "d1", "raw_text": "x"}
for n in range(int(sys.argv[3])):
    store.write(Document(doc_id=f"e{sys.argv[3]}-{n}", task_id=f"t-{n}", pins=pins, **names))
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_version_of_a_parent_costs_no_more_system_calls_than_a_look_for_it(tmp_path: Path) -> None:
    def count_calls(kind: str, number: int) -> int:
        counted, root = tmp_path / "strace", tmp_path / kind
        command = ["strace", "-f", "-c", "-o", str(counted), sys.executable, "-c", ESSAYS, str(root), kind, str(number)]
        environment = {**os.environ, "PYTHONHASHSEED": "0", "COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}
        done = subprocess.run(command, capture_output=True, env=environment, check=False)
        if done.returncode:
            pytest.skip(f"strace cannot trace here: {done.stderr[-200:]!r}")
        found = re.search(r"^100\.00\s+[\d.]+\s+\d+\s+(\d+)", counted.read_text(), re.MULTILINE)
        assert found
        return int(found[1])

    kinds = ("looked for", "noted")
    for kind in kinds:
        count_calls(kind, 1)
    each = {kind: (count_calls(kind, 201) - count_calls(kind, 101)) / 100 for kind in kinds}
    tally = Tally("system calls", "calls for the version of a parent")
    tally.count("calls of a document with a parent, durability none", round(each["noted"]))
    tally.check("calls for the version of a parent", each["noted"] - each["looked for"] < 0.5, each)
    tally.close()


def test_benchmark_of_writes_runs_on_a_fresh_disk(tmp_path: Path) -> None:
    """The disk is fresh because ext4 creates files slowly after other tests deleted many."""
    documents, turns, size = ("1000", "15", "8G") if LONG else ("20", "1", "400M")
    with image(tmp_path, "ext4", size, ("-N", "1000000" if LONG else "20000")) as disk:
        options = ["--documents", documents, "--store-turns", turns, "--directory", str(disk.path)]
        done = subprocess.run(
            [sys.executable, str(BENCHMARK), *options], capture_output=True, text=True, check=True, env=os.environ
        )
    lines = done.stdout.splitlines()
    REPORT.extend(lines)
    assert [line.split("  ")[1] for line in lines[-3:]] == [
        "write, durability none / bare calls",
        "write, durability none / a file at a time",
        "write_many, durable / write, durable",
    ]

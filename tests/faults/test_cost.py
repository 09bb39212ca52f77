"""What a document costs: in system calls, counted; in time, beside the bare calls, measured and told, not asserted."""

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
def test_a_durable_document_of_four_files_takes_at_most_36_system_calls(tmp_path: Path) -> None:
    def calls(number: int) -> int:
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

    calls(1)  # what Python compiles once is compiled now
    each = (calls(101) - calls(1)) / 100
    tally = Tally("system calls", "calls beyond 36")
    tally.count("calls a durable document", round(each))
    tally.check("calls beyond 36", each <= 36, each)
    assert each > 20
    tally.close()


def test_what_a_write_costs_is_measured_on_a_disk_of_its_own(tmp_path: Path) -> None:
    """On a fresh one: ext4 makes files slowly for a while after many were deleted, which other tests do."""
    documents, turns, size = ("1000", "15", "8G") if LONG else ("20", "1", "400M")
    with image(tmp_path, "ext4", size, ("-N", "1000000" if LONG else "20000")) as disk:
        options = ["--documents", documents, "--store-turns", turns, "--directory", str(disk.path)]
        done = subprocess.run(
            [sys.executable, str(BENCHMARK), *options], capture_output=True, text=True, check=True, env=os.environ
        )
    told = done.stdout.splitlines()
    REPORT.extend(told)
    assert [line.split("  ")[1] for line in told[-3:]] == [
        "write, durability none / bare calls",
        "write, durability none / a file at a time",
        "write_many, durable / write, durable",
    ]

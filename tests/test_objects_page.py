"""docs/objects.md: its snippets run unchanged on an S3 server, and an audit runs on a cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, Document, DraftTask, TaskRow, audit, write_tasks
from tests.servers import Moto

PAGE = Path(__file__).parent.parent / "docs" / "objects.md"


def test_snippets_of_the_page_run(s3: Moto, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    # Join the blocks to one program, which the worker processes import again.
    program = "\n".join(blocks)
    (tmp_path / "page.py").write_text(program, encoding="utf-8")
    urllib.request.urlopen(urllib.request.Request(f"{s3.endpoint}/bucket", method="PUT"), timeout=30).read()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "page.py"],
        cwd=tmp_path,
        # The page prints table lines that some locales cannot encode.
        env={**os.environ, **s3.environment(), "HOME": str(tmp_path), "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("created s3://bucket/docs/draft/") == 3
    assert "('draft', 'large-1', 3, 3" in done.stdout
    assert "tides__large-1" in done.stdout
    assert "<AuditReport 0 errors, 0 warnings> True" in done.stdout


# Distributed closes some sockets late.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_audit_on_a_cluster_gives_the_same_report(s3: Moto, tmp_path: Path) -> None:
    distributed: Any = pytest.importorskip("distributed")
    store = DocsStore(s3.bucket(), options=s3.options())
    store.write_many(
        Document(stage="draft", doc_id=f"d{n}", task_id=f"t-{n}", raw_text="x", parsed_text=None if n % 3 else "p")
        for n in range(60)
    )
    store.write(
        Document(stage="essay", doc_id="e1", task_id="e", parent_doc_id="gone", raw_text="x"), require_parent=False
    )
    rows: list[TaskRow] = [DraftTask(task_id=f"t-{n}", doc_id=f"d{n}") for n in range(10, 80)]
    rows.append(DraftTask(task_id="other", doc_id="d9"))
    write_tasks(tmp_path / "draft_tasks.csv", rows)
    tables = {"draft": tmp_path / "draft_tasks.csv"}
    expected = audit(store, tables)
    assert expected.counts == {"lineage-conflict": 1, "missing-parent": 1, "orphan-document": 9}
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    )
    with cluster, distributed.Client(cluster) as client:
        report = audit(store, tables, executor=client.get_executor())
    assert report == expected
    assert report.to_json() == expected.to_json()

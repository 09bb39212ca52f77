"""The report of an audit, and its progress."""

from __future__ import annotations

import gzip
import json
import os
import pickle
from pathlib import Path

import pytest

import docid
from docid import DocsStore, TaskRow, TaskTableError, audit
from tests.auditing import Rows, audit_in, change_row, find_path


def test_report_converts_to_bool_json_and_rows(full: DocsStore, rows: Rows) -> None:
    name = os.path.join(os.fsencode(find_path(full, rows["draft"][0]).parent), b"\xff.txt")
    with open(name, "wb"):
        pass
    report = audit(full, change_row(rows, "essay", 0, parent_doc_id="nowhere"))
    assert (report.ok, bool(report)) == (False, False)
    assert report.counts == {"lineage-conflict": 1, "missing-parent": 1, "unlisted-file": 1}
    data = json.loads(report.to_json())
    assert (data["ok"], data["errors"], data["warnings"], data["counts"]) == (False, 2, 1, report.counts)
    assert data["stages"]["essay"]["rows"] == 2
    assert [finding["code"] for finding in data["findings"]] == [finding.code for finding in report.findings]
    assert data["findings"][-1]["where"].endswith("\\udcff.txt")
    assert list(report.rows()[0]) == ["code", "level", "stage", "doc_id", "task_id", "where", "message", "hint"]
    assert pickle.loads(pickle.dumps(report)) == report
    assert "audit" in docid.__all__


def test_report_with_only_warnings_is_ok(full: DocsStore) -> None:
    assert audit(full, {"draft": []}).counts == {"orphan-document": 2}
    assert audit(full, {"draft": []}).ok


@pytest.mark.parametrize("chunk", [None, 1])
def test_audit_reports_progress(
    full: DocsStore, rows: Rows, chunk: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docid.operations.audit.parallel.STRIDE", 1)
    calls: list[tuple[str, int, int | None]] = []
    audit_in({"draft": rows["draft"]}, chunk, full, progress=lambda *call: calls.append(call))
    assert calls == [
        ("listing stage draft", 0, None),
        ("rows of stage draft", 1, 2),
        ("rows of stage draft", 2, 2),
        ("listing stage essay", 0, None),
        ("documents of stage essay", 1, 2),
        ("documents of stage essay", 2, 2),
        ("listing stage evaluation", 0, None),
        ("documents of stage evaluation", 1, 2),
        ("documents of stage evaluation", 2, 2),
    ]


def test_audit_reports_progress_of_table_file(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docid.operations.audit.parallel.STRIDE", 1)
    calls: list[tuple[str, int, int | None]] = []
    table = tables / "essay_generation_tasks.csv.gz"
    audit(None, {"essay": table}, progress=lambda *call: calls.append(call))
    assert calls == [("rows of stage essay", 2, 2), ("rows of stage essay", 3, 2)]
    calls.clear()
    lines = "".join(f"e-{number},p1,{os.urandom(9).hex()}\n" for number in range(9000))
    whole = gzip.compress(f"essay_task_id,parent_doc_id,doc_id\n{lines}".encode())
    table.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TaskTableError, match="not gzip"):
        audit(None, {"essay": table}, progress=lambda *call: calls.append(call))
    assert calls[0] == ("rows of stage essay", 2, None)


def test_by_code_groups_findings(full: DocsStore, rows: Rows) -> None:
    report = audit(None, {"draft": [TaskRow.of("draft")(task_id="a"), TaskRow.of("draft")(task_id="a")]})
    assert {code: len(found) for code, found in report.by_code().items()} == report.counts
    assert [finding for found in report.by_code().values() for finding in found] == list(report.findings)

"""A small pipeline for the tests of the audit, and functions that damage it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest

from docid import AuditReport, DocsStore, Document, DraftTask, EssayTask, EvaluationTask, TaskRow, audit, reserve_tasks
from docid.cli import main

Rows = dict[str, list[TaskRow]]


def make_rows() -> Rows:
    """Return reserved rows: two drafts, one essay per draft, one evaluation per essay."""
    drafts = list(reserve_tasks([DraftTask(task_id=f"d-{n}") for n in (1, 2)], DraftTask))
    essays = [EssayTask(task_id=f"e-{n}", draft_task_id=f"d-{n}") for n in (1, 2)]
    essays = list(reserve_tasks(essays, EssayTask, parents=drafts))
    evaluations = [EvaluationTask(task_id=f"v-{n}", essay_task_id=f"e-{n}") for n in (1, 2)]
    return {
        "draft": list(drafts),
        "essay": list(essays),
        "evaluation": list(reserve_tasks(evaluations, EvaluationTask, parents=essays)),
    }


def make_document(row: TaskRow, **more: Any) -> Document:
    return Document.from_task(row, raw_text=f"raw of {row.task_id}", parsed_text="p", prompt_text="q", **more)


def write_all(store: DocsStore, rows: Rows) -> None:
    for stage_rows in rows.values():
        store.write_many([make_document(row) for row in stage_rows])


def find_path(store: DocsStore, row: TaskRow) -> Path:
    return store.path(row.stage, row.doc_id)


def list_findings(report: AuditReport) -> list[tuple[str, str, str]]:
    return [(finding.code, finding.stage, finding.doc_id) for finding in report.findings]


def change_row(rows: Rows, stage: str, number: int, **changes: Any) -> Rows:
    stage_rows = list(rows[stage])
    stage_rows[number] = attrs.evolve(stage_rows[number], **changes)
    return {**rows, stage: stage_rows}


def add_row(rows: Rows, row: TaskRow) -> Rows:
    return {**rows, row.stage: [*rows[row.stage], row]}


def audit_in(
    rows: Rows | dict[str, Path], chunk: int | None, store: DocsStore | None = None, **options: Any
) -> AuditReport:
    """Audit in this process, or with an executor that examines `chunk` documents per call."""
    if chunk is None:
        return audit(store, rows, **options)
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as executor:
        patch.setattr("docid.operations.audit.parallel.CHUNK", chunk)
        patch.setattr("docid.operations.audit.parallel.AHEAD", 2)
        return audit(store, rows, executor=executor, **options)


def edit_record(path: Path, **changes: Any) -> None:
    record = json.loads((path / "metadata.json").read_text())
    (path / "metadata.json").write_text(json.dumps({**record, **changes}))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err

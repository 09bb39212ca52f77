"""The types of the public API. mypy and pyright check this file; no test runs it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, assert_type

import attrs
import polars as pl

import docid
from docid import (
    DocId,
    DocsStore,
    Document,
    DraftTask,
    Ensured,
    Outcome,
    Reply,
    Stages,
    StoredDocument,
    TaskRow,
    WriteResult,
)
from docid.backends import Backend, LocalBackend, MemoryBackend
from docid.curate import Change, Note, Score, backfill, link, migrate, read_scores, replay, scores, select
from docid.frames import frame_to_tasks, reserve_frame, tasks_to_frame
from docid.report import Page, write_report
from docid.store.ancestry import Lineage, Relative


@attrs.frozen(kw_only=True)
class ChapterTask(TaskRow):
    stage: ClassVar[str] = "chapter"
    parent_stage: ClassVar[str | None] = "outline"
    words: int = 0


def check_ids(text: str, anything: object) -> None:
    assert_type(docid.reserve_doc_id("draft", text, run_id=None, salt=text), DocId)
    assert_type(docid.reserve_doc_ids("draft", [text]), list[DocId])
    if docid.is_doc_id(anything):
        assert_type(anything, DocId)
    assert_type(docid.collision_probability(10), float)


def check_audit(store: DocsStore, path: Path, rows: list[ChapterTask]) -> None:
    report = docid.audit(store, {"chapter": rows, "outline": path}, verify=True)
    assert_type(report, docid.AuditReport)
    assert_type(report.ok, bool)
    assert_type(report.counts, dict[str, int])
    assert_type(report.findings[0].code, str)
    assert_type(report.stages["chapter"].pending, int | None)
    assert_type(docid.audit(None, {"chapter": path}).rows(), list[dict[str, Any]])
    assert_type(docid.audit("docs").to_json(), str)


def check_tables(path: Path) -> None:
    rows = docid.read_tasks(path, ChapterTask)
    assert_type(len(rows), int)
    assert_type(next(iter(rows)), ChapterTask)
    reserved = docid.reserve_tasks(rows, ChapterTask, parents={"t": "p1"})
    assert_type(next(iter(reserved)).words, int)
    assert_type(next(docid.replicates(rows, 2, stages=Stages.chain("book", "chapter"))).words, int)
    assert_type(next(docid.replicates([ChapterTask(task_id="t", words=3)], 2, parents=reserved)), ChapterTask)
    assert_type(docid.write_tasks(path, reserved, like=path), int)
    assert_type(ChapterTask(task_id="t", words=3).doc_id, str)


def check_documents(row: ChapterTask, store: DocsStore) -> None:
    document = Document.from_task(row, raw_text="x", metadata={"a": 1})
    assert_type(document, Document)
    assert_type(document.metadata, dict[str, Any])
    assert_type(document.created_at, datetime | None)
    assert_type(document.write_files("docs"), Path)
    assert_type(store.write(document, if_exists="keep", require_parent=False), WriteResult)
    assert_type(store.write(document).outcome, Outcome)
    assert_type(store.add_part("draft", "a1", "parsed", "x"), WriteResult)
    assert_type(store.read("draft", "a1", verify=True), Document)
    assert_type(store.open("draft", "a1"), StoredDocument)
    assert_type(store.open("draft", "a1").parsed_text, str | None)
    assert_type(store.ids("draft"), Iterator[str])
    assert_type(store.documents("draft"), Iterator[StoredDocument])
    assert_type(store.history("draft", "a1"), Iterator[Document])
    assert_type(store.path("draft", "a1"), Path)
    assert_type(store.exists("draft", "a1"), bool)


def check_ensure(row: ChapterTask, store: DocsStore, document: Document) -> None:
    assert_type(store.ensure(row, lambda row: f"{row.words}"), Ensured[ChapterTask])
    assert_type(store.ensure(row, lambda row: f"{row.words}", claim="off"), Ensured[ChapterTask, StoredDocument])
    assert_type(store.ensure(row, lambda _: document).document, StoredDocument)
    done = store.ensure(
        row,
        lambda row, prompt: Reply(f"{prompt} {row.words}", metadata={"usage": 12}),
        prompt=lambda row: f"{row.words}",
        metadata=lambda row: {"words": row.words},
        parse=lambda text: text.strip() or None,
        if_changed="report",
        claim_timeout=60,
    )
    assert_type(done, Ensured[ChapterTask, StoredDocument])
    assert_type(done.document.raw_text, str)
    assert_type(done.outcome, Outcome)
    assert_type((done.location, done.path, done.called), tuple[str, Path, bool])
    assert_type((done.changed, done.parse_error, done.rescued), tuple[tuple[str, ...], str | None, str | None])
    assert_type(done.error, BaseException | None)
    skipped = store.ensure(row, lambda row: f"{row.words}", claim="skip")
    assert_type(skipped, Ensured[ChapterTask, StoredDocument | None])
    assert_type(skipped.document, StoredDocument | None)
    assert_type(skipped.unwrap(), StoredDocument)
    prompted = store.ensure(row, lambda row, prompt: f"{prompt} {row.words}", prompt="write", claim="skip")
    assert_type(prompted, Ensured[ChapterTask, StoredDocument | None])
    assert_type(store.pending([row]), Iterator[ChapterTask])
    # A function that does not fit.
    store.ensure(row, lambda row, prompt: prompt)  # type: ignore[arg-type, misc]  # pyright: ignore[reportArgumentType]
    store.ensure(row, lambda row: row.task_id, prompt="write")  # type: ignore[arg-type, misc]  # pyright: ignore[reportCallIssue, reportArgumentType]
    store.ensure(row, lambda row: row.words)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]


def check_backends(future: Future[str]) -> None:
    backend: Backend = MemoryBackend()
    backend = LocalBackend("docs", durability="none")
    store = DocsStore(backend, stages=Stages.chain("outline", "chapter"))
    assert_type(store.stages, Stages)
    assert_type(store.manifest.read(), Stages | None)
    assert_type(store.manifest.declare(), Stages)
    DocsStore(Path("docs"), durability="full")
    DocsStore("docs", durability="some")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    docid.reserve_doc_id("draft", 7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def check_curation(store: DocsStore) -> None:
    assert_type(link("essay_tasks.csv", store, dry_run=True).notes, tuple[Note, ...])
    assert_type(scores(store), Iterator[Score])
    assert_type(
        select(scores=read_scores("scores.csv"), store=store, top=3, aggregate="mean").rows, tuple[TaskRow, ...]
    )
    assert_type(list(replay(store, "essay", ["e1"])), list[TaskRow])
    assert_type(migrate(store, {"draft": Path("draft_tasks.csv")}, apply=True), Iterator[Change])
    assert_type(backfill(store, "model_id", "draft_tasks.csv", "generation_model", dry_run=True), Iterator[Change])


def check_views(store: DocsStore, frame: pl.DataFrame, lineage: Lineage) -> None:
    assert_type(store.lineage("essay", "e1", descendants=False), Lineage)
    assert_type(lineage.children_of(lineage.document), tuple[Relative, ...])
    assert_type(write_report("report.html", store, {"draft": "draft_tasks.csv"}), Page)
    assert_type(reserve_frame(frame, stage="draft"), pl.DataFrame)
    assert_type(list(frame_to_tasks(frame, DraftTask)), list[DraftTask])
    tasks_to_frame([], backend="dask")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# pyright: strict
"""Every way to declare a row type. mypy and pyright check this file; no test runs it."""

from __future__ import annotations

from typing import ClassVar, assert_type

import attrs

from docid import (
    DocsStore,
    Document,
    DraftTask,
    Ensured,
    Reply,
    StoredDocument,
    TaskRow,
    read_tasks,
    reserve_tasks,
    write_tasks,
)


class OutlineTask(TaskRow):
    stage = "outline"


class AnnotatedTask(TaskRow):
    stage: ClassVar[str] = "outline"
    parent_stage: ClassVar[str | None] = None


@attrs.frozen(kw_only=True)
class ChapterTask(TaskRow):
    stage, parent_stage = "chapter", "outline"
    words: int = 1000
    editor: str | None = None


@attrs.frozen(kw_only=True)
class AnnotatedChapterTask(TaskRow):
    stage: ClassVar[str] = "chapter"
    parent_stage: ClassVar[str | None] = "outline"
    words: int = 1000


def keep(row: TaskRow, store: DocsStore) -> Ensured[TaskRow]:
    """Take a row of any stage."""
    prompt = store.source_prompt(row)
    assert_type(next(store.pending([row])), TaskRow)
    return store.ensure(row, lambda row: Document.from_task(row, raw_text="", prompt_text=prompt))


def use_plain(store: DocsStore, row: OutlineTask) -> None:
    assert_type(Document.from_task(row, raw_text=""), Document)
    assert_type(store.ensure(row, lambda row: Document.from_task(row, raw_text="")), Ensured[OutlineTask])
    assert_type(store.ensure(row, lambda row: row.task_id).row, OutlineTask)
    assert_type(store.ensure(row, lambda row: row.task_id).document, StoredDocument)
    assert_type(store.source_prompt(row), str | None)
    assert_type(next(reserve_tasks([row], OutlineTask)), OutlineTask)
    assert_type(write_tasks("outline_tasks.csv", [row]), int)
    keep(row, store)


def use_annotated(store: DocsStore, row: AnnotatedTask) -> None:
    assert_type(store.ensure(row, lambda row: Reply(row.task_id)), Ensured[AnnotatedTask])
    assert_type(store.source_prompt(row), str | None)
    assert_type(next(reserve_tasks([row], AnnotatedTask)), AnnotatedTask)
    write_tasks("outline_tasks.csv", [row], row_type=AnnotatedTask)
    keep(row, store)


def use_fields(store: DocsStore, row: ChapterTask, other: AnnotatedChapterTask, outlines: list[OutlineTask]) -> None:
    assert_type(store.ensure(row, lambda row: f"{row.words}"), Ensured[ChapterTask])
    assert_type(store.ensure(other, lambda row: f"{row.words}"), Ensured[AnnotatedChapterTask])
    assert_type(
        store.ensure(row, lambda row, prompt: f"{prompt} {row.words}", prompt=lambda row: f"{row.words}"),
        Ensured[ChapterTask],
    )
    skipped = store.ensure(row, lambda row, prompt: f"{prompt} {row.words}", prompt="write", claim="skip")
    assert_type(skipped, Ensured[ChapterTask, StoredDocument | None])
    assert_type(skipped.unwrap(), StoredDocument)
    assert_type([store.source_prompt(row), store.source_prompt(other)], list[str | None])
    chapters = reserve_tasks([ChapterTask(task_id="t", words=3)], ChapterTask, parents=outlines)
    assert_type([(chapter.words, chapter.editor) for chapter in chapters], list[tuple[int, str | None]])
    write_tasks("chapter_tasks.csv", reserve_tasks([other], AnnotatedChapterTask, parents={"t": "o1"}))
    assert_type(next(iter(read_tasks("chapter_tasks.csv", ChapterTask))).words, int)
    keep(row, store)
    keep(other, store)


def use_any_stage(store: DocsStore, rows: list[DraftTask]) -> None:
    note_type = TaskRow.of("note", "draft")
    [note] = reserve_tasks([note_type(task_id="t")], note_type, parents=rows)
    assert_type(note, TaskRow)
    keep(note, store)

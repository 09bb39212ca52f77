"""Row types for the tests of task tables; `table` writes a file, and `problems_of` reads its problems."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, Optional

import attrs
import pytest

from docid import TaskRow, TaskTableError, read_tasks


@attrs.frozen(kw_only=True)
class ChapterTask(TaskRow):
    stage = "chapter"
    parent_stage = "outline"

    words: int = 0
    weight: float | None = None
    final: Optional[bool] = None  # noqa: UP045 - both spellings are read
    title: str = attrs.field(default="", metadata={"column": "Chapter title"})


class NoteTask(TaskRow):
    stage = "note"


def table(tmp_path: Path, text: str | bytes, name: str = "essay_generation_tasks.csv") -> Path:
    path = tmp_path / name
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def problems_of(path: Path, row_type: type[TaskRow], **options: Any) -> list[str]:
    with pytest.raises(TaskTableError) as caught:
        list(read_tasks(path, row_type, **options))
    assert caught.value.count == len(caught.value.problems)
    assert all(problem.file == str(path) for problem in caught.value.problems)
    return [str(problem).removeprefix(f"{path} ") for problem in caught.value.problems]

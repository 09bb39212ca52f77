"""Find rows of a task table by doc id: read the table once, for many lookups."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

from docid.tables.opening import FileState, get_state
from docid.tables.rows import TaskRow
from docid.tables.tasks import read_tasks

__all__ = ["TaskIndex", "index_of"]


class TaskIndex(Mapping[str, TaskRow]):
    r"""A mapping of doc ids to the rows of a reserved table. docid finds its delimiter, and keeps its rows in memory.

    Raises:
        TaskTableError: the table has faults, or two rows with the same doc id.
        OSError: the file cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> from docid import DraftTask
        >>> path = pathlib.Path(tempfile.mkdtemp(), "draft_tasks.csv")
        >>> _ = path.write_text("draft_task_id,doc_id\nt-1,d1\nt-2,d2\n")
        >>> TaskIndex(path, DraftTask)["d2"].task_id
        't-2'
    """

    def __init__(self, path: str | os.PathLike[str], row_type: type[TaskRow]) -> None:
        self.file = os.fspath(path)
        self._rows: dict[str, TaskRow] = {row.doc_id: row for row in read_tasks(path, row_type, delimiter="auto")}

    def __getitem__(self, doc_id: str) -> TaskRow:
        return self._rows[doc_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


_CLOCK_STEP = 2_000_000_000  # ns; file systems store times in steps of up to two seconds


def index_of(path: str | os.PathLike[str], row_type: type[TaskRow]) -> TaskIndex:
    """Return the index of a table; docid reads the file again if it changed, and if it is younger than two seconds.

    Raises as `TaskIndex` does.
    """
    file = os.path.abspath(path)
    state = get_state(file)
    if time.time_ns() - state[3] < _CLOCK_STEP:
        return TaskIndex(file, row_type)  # a later change may have the same time
    # Cast, because type checkers confuse the hash of a class with that of its instances.
    return _read_index(file, cast("Any", row_type), state)


@lru_cache(16)
def _read_index(file: str, row_type: Any, state: FileState) -> TaskIndex:  # noqa: ARG001 - part of the key
    return TaskIndex(file, row_type)

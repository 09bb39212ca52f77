"""A task table by doc id: for those who look rows up, many times, instead of going through them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from docid.errors import TaskTableError
from docid.tables.csvfile import Faults, open_table, records_of
from docid.tables.tasks import header_of, row_parser

if TYPE_CHECKING:
    from docid.tables.rows import TaskRow

__all__ = ["TaskIndex", "index_of"]

_TABLES = 16  # that are remembered


class TaskIndex(Mapping[str, "TaskRow"]):
    r"""The rows of a reserved table by their doc ids.

    The table is read once; its cells are held as text, and a row is made of them when it is asked for.

    Args:
        path: the table.
        row_type: the class of its rows.

    Raises:
        TaskTableError: the table is faulty, or two of its rows have one doc id.
        OSError: the file cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> from docid import DraftTask
        >>> path = pathlib.Path(tempfile.mkdtemp(), "draft_tasks.csv")
        >>> _ = path.write_text("draft_task_id,doc_id\nt-1,d1\nt-2,d2\n")
        >>> index = TaskIndex(path, DraftTask)
        >>> len(index), index["d2"].task_id, "d3" in index
        (2, 't-2', False)
    """

    def __init__(self, path: str | os.PathLike[str], row_type: type[TaskRow]) -> None:
        self.file = os.fspath(path)
        self.row_type = row_type
        self._cells: dict[str, tuple[int, list[str]]] = {}
        faults = Faults(self.file)
        with open_table(self.file) as stream:
            records = records_of(stream, faults)
            columns = header_of(records, row_type, faults, reserved=True)
            self._parse = row_parser(row_type, columns, faults, reserved=True)
            position = columns.index("doc_id")
            for number, cells in records:
                # Parsed for its faults alone.
                if (row := self._parse(number, cells)) is not None:
                    other, _ = self._cells.setdefault(row.doc_id, (number, cells))
                    if other != number:
                        wrong = f"the doc id of row {other} too; expected one row a document"
                        faults.add(number, "doc_id", cells[position], wrong)
        faults.raise_any()

    def __getitem__(self, doc_id: str) -> TaskRow:
        row = self._parse(*self._cells[doc_id])
        if row is None:  # pragma: no cover  - it was parsed before
            raise TaskTableError([])
        return row

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)


def index_of(path: str | os.PathLike[str], row_type: type[TaskRow]) -> TaskIndex:
    """Return the index of a table, which is read again only when its file has changed. Raises as `TaskIndex` does."""
    file = os.path.abspath(path)
    there = os.stat(file)
    return _index_of(file, cast("Any", row_type), (there.st_ino, there.st_size, there.st_mtime_ns))


@lru_cache(_TABLES)
def _index_of(file: str, row_type: Any, state: tuple[int, ...]) -> TaskIndex:  # noqa: ARG001 - of the key
    return TaskIndex(file, row_type)

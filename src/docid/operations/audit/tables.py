"""The tables that an audit looks at: files, or rows."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, cast
from zlib import error as zlib_error

from docid.errors import TaskTableError
from docid.tables.csvfile import Faults, open_table
from docid.tables.rows import TaskRow, row_type_of
from docid.tables.tasks import TaskRows, list_lineages, read_lineages

if TYPE_CHECKING:
    from docid.core.stages import Stages
    from docid.tables.tasks import RowLineage

__all__ = ["Table", "open_tables"]


class Table(NamedTuple):
    """A table: its path, or what its rows say."""

    file: str
    row_type: type[TaskRow]
    rows: list[tuple[int, RowLineage]] | None

    def lineages(self) -> Iterable[tuple[int, RowLineage]]:
        """Return what its rows say, with their numbers. See `read_lineages`."""
        return read_lineages(self.file, self.row_type) if self.rows is None else self.rows

    def length(self) -> int | None:
        """Return about how many rows there are: of a file, the lines behind the header; None if it cannot be read."""
        if self.rows is not None:
            return len(self.rows)
        try:
            with open_table(self.file) as stream:
                return max(0, sum(1 for _ in stream) - 1)
        except (EOFError, OSError, zlib_error):
            return None  # reading the rows says what is wrong

    def locate(self, number: int, column: str) -> str:
        """Return where a cell is, as a finding says it."""
        cell = f"row {number}, column {column}"
        return f"{self.file} {cell}" if self.file else cell


def open_tables(tables: Mapping[str, object] | None, stages: Stages) -> dict[str, Table]:
    """Return the tables that `audit` was given, by stage, parents first.

    Raises:
        As `audit` does, before anything is read but headers.
    """
    if tables is not None and not isinstance(tables, Mapping):
        raise TypeError(f"tables: expected a table by stage, as {{'draft': path}}, got {type(tables).__name__}")
    given = {stages.check(stage): _open_table(stage, table, stages) for stage, table in (tables or {}).items()}
    faults = Faults("")
    for table in given.values():
        try:
            next(iter(table.lineages()), None)
        except TaskTableError as error:
            # Damaged rows, if it starts with such, are reported with those of all tables.
            if all(problem.row in {None, 1} for problem in error.problems):
                faults.take_over(error)
    faults.raise_any()
    return {stage: given[stage] for stage in stages if stage in given}


def _open_table(stage: str, table: object, stages: Stages) -> Table:
    row_type = row_type_of(stage, stages)
    if isinstance(table, (str, os.PathLike)):
        file = os.fspath(table)
        if os.path.isdir(file):
            raise IsADirectoryError(errno.EISDIR, f"a directory; expected the table of stage {stage}", file)
        # A pipe can be read once.
        return Table(file, row_type, None if os.path.isfile(file) else list(read_lineages(file, row_type)))
    if not isinstance(table, Iterable):
        raise TypeError(f"tables[{stage!r}]: expected a path or rows, got {type(table).__name__}")
    file = table.file if isinstance(table, TaskRows) else ""
    return Table(file, row_type, list(list_lineages(cast("Iterable[TaskRow]", table), stage)))

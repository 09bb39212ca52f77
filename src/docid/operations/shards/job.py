"""What is to be audited, and what was found in one shard of it: values that cross to an executor's workers and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import error as zlib_error

from docid.tables.csvfile import open_table
from docid.tables.rows import row_type_of
from docid.tables.tasks import read_lineages

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

    from docid.core.findings import Finding
    from docid.core.stages import Stages
    from docid.store.docs_store import DocsStore
    from docid.tables.tasks import RowLineage

__all__ = ["Found", "Job", "Reference", "Table", "sorted_by"]


class Table(NamedTuple):
    """A table: its path, or what its rows say."""

    file: str
    rows: list[tuple[int, RowLineage]] | None

    def lineages(self, stage: str, stages: Stages) -> Iterable[tuple[int, RowLineage]]:
        """Return what its rows say, with their numbers. See `read_lineages`."""
        return read_lineages(self.file, row_type_of(stage, stages)) if self.rows is None else self.rows

    def length(self) -> int | None:
        """Return how many rows there are, about: of a file the lines behind the header are counted; None if it fails.

        What is wrong with the file is said when it is read.
        """
        if self.rows is not None:
            return len(self.rows)
        try:
            with open_table(self.file) as stream:
                return max(0, sum(1 for _ in stream) - 1)
        except (EOFError, OSError, zlib_error):
            return None

    def where(self, number: int, column: str) -> str:
        """Return where a cell is, as a finding says it."""
        row = f"row {number}, column {column}"
        return f"{self.file} {row}" if self.file else row


class Job(NamedTuple):
    """What is to be audited."""

    store: DocsStore | None
    stages: Stages
    tables: dict[str, Table]
    verify: bool
    stale_after: float


class Reference(NamedTuple):
    """A parent, or a source, that was not found where it should be."""

    target: str
    stage: str
    doc_id: str
    task_id: str | None
    number: int
    where: str


class Found(NamedTuple):
    """What was found in one shard.

    Attributes:
        findings: behind what they are sorted by.
        counts: by stage.
        references: parents that were not found in the shard, for `resolved`.
        blind: the stages that cannot be listed: what is in them cannot be told.
    """

    findings: list[tuple[tuple[Any, ...], Finding]]
    counts: dict[str, Counter[str]]
    references: list[Reference]
    blind: set[str]


def sorted_by(stages: Stages, finding: Finding, number: int = 0) -> tuple[tuple[Any, ...], Finding]:
    """Return a finding behind what it is sorted by: errors, then warnings."""
    position = list(stages).index(finding.stage)
    key = (finding.level, position, finding.code, number, finding.doc_id, finding.where, finding.message)
    return key, finding

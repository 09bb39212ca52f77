"""What the core asks of a task row: its identity and lineage, whatever class it is of."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from docid._text import shown
from docid.core.ids import DocId, check_doc_id
from docid.errors import InvalidName

_MISSING = frozenset({"", "nan", "null", "none"})


class _Task(Protocol):
    """The identity and lineage of a task row, apart from its stage."""

    @property
    def doc_id(self) -> str: ...
    @property
    def task_id(self) -> str: ...
    @property
    def parent_doc_id(self) -> str | None: ...
    @property
    def doc_run_id(self) -> str | None: ...


class _StageOfClass(_Task, Protocol):
    stage: ClassVar[str]


class _StageOfRow(_Task, Protocol):
    @property
    def stage(self) -> str: ...


# What a document takes from a task row. Two protocols, because pyright keeps class variables and properties apart:
# `stage: ClassVar[str] = "outline"` matches the first only, a plain `stage = "outline"` the second only.
TaskLike = _StageOfClass | _StageOfRow


def reserved_id(row: TaskLike) -> DocId:
    """Return the doc id of a row.

    Raises:
        InvalidName: it has none yet, or it is no doc id.
        TypeError: it is no row; a document is none either.
    """
    if not hasattr(row, "doc_run_id"):
        raise TypeError(f"row: expected a row of a task table (TaskRow), got {type(row).__name__}")
    if row.doc_id == "":
        problem = f"the row of task {shown(row.task_id)} is not reserved"
        raise InvalidName("doc_id", "", problem, "a row that went through reserve_tasks or 'docid reserve'")
    return check_doc_id(row.doc_id)


def source_of(row: Any) -> str:
    """Return the `source_doc_id` of a row, a field of its type or another column; empty where there is none."""
    source: str | None = getattr(row, "source_doc_id", None)
    return source or str(getattr(row, "extra", {}).get("source_doc_id", ""))


def is_missing(text: str) -> bool:
    """Return whether the text of an id's cell means that there is no id: blank, `nan`, `null` or `none`."""
    return text in _MISSING or text.strip().lower() in _MISSING

"""The one place that compares lineage: a task id and a parent doc id.

A record of an older system may not say one of them. That is no conflict, and no match either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from docid._text import quote
from docid.errors import LineageConflict

if TYPE_CHECKING:
    from docid.core.record import Record


class _HasLineage(Protocol):
    """A row, a document or a record."""

    @property
    def task_id(self) -> str | None: ...
    @property
    def parent_doc_id(self) -> str | None: ...


def find_differences(document: _HasLineage, expected: _HasLineage, *, legacy: bool) -> list[str]:
    """Return in which keys the lineage of a document differs from another, a row's for example.

    With `legacy` the document may come from a record of an older system: what it does not say is no difference.
    """
    found = {"task_id": document.task_id, "parent_doc_id": document.parent_doc_id}
    return [key for key, value in found.items() if value != getattr(expected, key) and not (legacy and value is None)]


def is_other_lineage(record: Record, other: _HasLineage) -> bool:
    """Return whether a record is of another lineage, as far as it says."""
    return bool(find_differences(record, other, legacy=record.legacy))


def is_same_lineage(record: Record, task_id: str | None, parent_doc_id: str | None) -> bool | None:
    """Return whether a record is of this task id and parent; None where a record of an older system does not say."""
    wanted = record._replace(task_id=task_id, parent_doc_id=parent_doc_id)
    if is_other_lineage(record, wanted):
        return False
    return None if find_differences(record, wanted, legacy=False) else True


def check_lineage(record: Record, document: _HasLineage, stage: str, doc_id: str, location: str) -> bool | None:
    """Return `is_same_lineage` of the record at `location` and the document to write there, or its row.

    Raises:
        LineageConflict: it is another lineage.
    """
    same = is_same_lineage(record, document.task_id, document.parent_doc_id)
    if same is False:
        raise LineageConflict(
            stage=stage,
            doc_id=doc_id,
            task_id=document.task_id,
            parent_doc_id=document.parent_doc_id,
            stored_task_id=record.task_id,
            stored_parent_doc_id=record.parent_doc_id,
            location=location,
        )
    return same


def contradicts(stored: str | None, given: str | None) -> bool:
    """Return whether two task ids, or two parents, differ; an unknown one (None) differs from none."""
    return stored is not None and given is not None and stored != given


def find_contradictions(
    record: Record, task_id: str | None, parent_doc_id: str | None
) -> dict[str, tuple[str | None, str | None]]:
    """Return, by key, the record's value and that of a task table where they contradict each other."""
    pairs = {"task_id": (record.task_id, task_id), "parent_doc_id": (record.parent_doc_id, parent_doc_id)}
    return {key: pair for key, pair in pairs.items() if contradicts(*pair)}


def describe_lineage(record: Record) -> str:
    """Return the lineage of a record for a message."""
    return f"task_id={quote(record.task_id)}, parent_doc_id={quote(record.parent_doc_id)}"


def find_unsaid(record: Record, *, has_parent: bool) -> list[Literal["task_id", "parent_doc_id"]]:
    """Return which keys of its lineage a record of an older system does not say.

    A run refuses such a document until it is migrated.
    """
    unsaid: list[Literal["task_id", "parent_doc_id"]] = []
    if record.legacy and record.task_id is None:
        unsaid.append("task_id")
    if record.legacy and has_parent and record.parent_doc_id is None:
        unsaid.append("parent_doc_id")
    return unsaid

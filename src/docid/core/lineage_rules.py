"""Comparing lineage: a task id and a parent doc id. All comparisons in docid use this module.

A record of an older system may lack either of them. An unknown value is neither a conflict nor a match.
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
    """Return the keys in which the lineage of a document differs from the expected one.

    With `legacy`, the document comes from a record of an older system: an unknown value does not differ.
    """
    found = {"task_id": document.task_id, "parent_doc_id": document.parent_doc_id}
    return [key for key, value in found.items() if value != getattr(expected, key) and not (legacy and value is None)]


def is_other_lineage(record: Record, other: _HasLineage) -> bool:
    """Return whether a record has another lineage. An unknown value does not differ."""
    return bool(find_differences(record, other, legacy=record.legacy))


def is_same_lineage(record: Record, task_id: str | None, parent_doc_id: str | None) -> bool | None:
    """Return whether a record has this task id and parent; None if a record of an older system lacks one of them."""
    wanted = record._replace(task_id=task_id, parent_doc_id=parent_doc_id)
    if is_other_lineage(record, wanted):
        return False
    return None if find_differences(record, wanted, legacy=False) else True


def check_lineage(record: Record, document: _HasLineage, stage: str, doc_id: str, location: str) -> bool | None:
    """Compare the record at `location` with the document to write there, or with its row, as `is_same_lineage` does.

    Raises:
        LineageConflict: the record has another lineage.
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
    """Return whether two task ids, or two parents, differ. None is unknown and does not differ."""
    return stored is not None and given is not None and stored != given


def find_contradictions(
    record: Record, task_id: str | None, parent_doc_id: str | None
) -> dict[str, tuple[str | None, str | None]]:
    """Return the keys in which a record and a task table differ, each with both values."""
    pairs = {"task_id": (record.task_id, task_id), "parent_doc_id": (record.parent_doc_id, parent_doc_id)}
    return {key: pair for key, pair in pairs.items() if contradicts(*pair)}


def describe_lineage(record: Record) -> str:
    """Format the lineage of a record for a message."""
    return f"task_id={quote(record.task_id)}, parent_doc_id={quote(record.parent_doc_id)}"


def find_missing_lineage(record: Record, *, has_parent: bool) -> list[Literal["task_id", "parent_doc_id"]]:
    """Return the lineage keys that a record of an older system lacks.

    `DocsStore.ensure` refuses the document until you migrate it.
    """
    unsaid: list[Literal["task_id", "parent_doc_id"]] = []
    if record.legacy and record.task_id is None:
        unsaid.append("task_id")
    if record.legacy and has_parent and record.parent_doc_id is None:
        unsaid.append("parent_doc_id")
    return unsaid

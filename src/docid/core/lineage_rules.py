"""The one place that compares lineage: whether a document is of the task and parent that somebody names.

Lineage is a task id and a parent doc id. A record of an older system may not say one of them: that is no conflict, and
no match either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from docid._text import shown
from docid.errors import LineageConflict

if TYPE_CHECKING:
    from docid.core.record import Record

__all__ = [
    "HasLineage",
    "check_lineage",
    "contradicts",
    "describe_lineage",
    "find_contradictions",
    "find_differences",
    "find_unsaid",
    "is_other_lineage",
    "is_same_lineage",
]


class HasLineage(Protocol):
    """What has a lineage: a row, a document, a record."""

    @property
    def task_id(self) -> str | None:
        """The task."""
        ...

    @property
    def parent_doc_id(self) -> str | None:
        """The parent's doc id."""
        ...


def is_same_lineage(record: Record, task_id: str | None, parent_doc_id: str | None) -> bool | None:
    """Return whether a record is of this task id and parent; None where a record of an older system does not say."""
    if not record.legacy:
        return record.task_id == task_id and record.parent_doc_id == parent_doc_id
    pairs = ((record.task_id, task_id), (record.parent_doc_id, parent_doc_id))
    if any(stored is not None and stored != given for stored, given in pairs):
        return False
    return None if any(stored is None and given is not None for stored, given in pairs) else True


def is_other_lineage(old: Record, new: Record) -> bool:
    """Return whether two records are of different lineages, as far as they say it: then they are no two versions."""
    return is_same_lineage(old, new.task_id, new.parent_doc_id) is False


def find_differences(document: HasLineage, expected: HasLineage, *, legacy: bool) -> list[str]:
    """Return in what a document's lineage differs from another, as the names of the record's keys.

    Args:
        document: the document.
        expected: the row that it is compared with, say.
        legacy: whether the document may come from a record of an older system: what it does not say is no difference.
    """
    found = {"task_id": document.task_id, "parent_doc_id": document.parent_doc_id}
    return [key for key, value in found.items() if value != getattr(expected, key) and not (legacy and value is None)]


def check_lineage(  # noqa: PLR0917 - the names of the document that is to be written
    record: Record, stage: str, doc_id: str, task_id: str | None, parent_doc_id: str | None, location: str
) -> bool | None:
    """Return `is_same_lineage` of a stored record.

    Args:
        record: the record that holds the id.
        stage, doc_id, task_id, parent_doc_id: of the document that is to be written.
        location: where the stored document is.

    Raises:
        LineageConflict: it is another lineage.
    """
    same = is_same_lineage(record, task_id, parent_doc_id)
    if same is False:
        raise LineageConflict(
            stage=stage,
            doc_id=doc_id,
            task_id=task_id,
            parent_doc_id=parent_doc_id,
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
    """Return the values in which a record differs from another source: by key, the record's value and the other one.

    Args:
        record: the record.
        task_id, parent_doc_id: the values of the other source, for example a task table; None if it has none.
    """
    pairs = {"task_id": (record.task_id, task_id), "parent_doc_id": (record.parent_doc_id, parent_doc_id)}
    return {key: (own, other) for key, (own, other) in pairs.items() if contradicts(own, other)}


def describe_lineage(record: Record) -> str:
    """Return the lineage of a record as messages show it."""
    return f"task_id={shown(record.task_id)}, parent_doc_id={shown(record.parent_doc_id)}"


def find_unsaid(record: Record, *, has_parent: bool) -> list[str]:
    """Return what of its lineage a record does not say, as the names of its keys.

    Only records of older systems lack any. A run refuses their documents until they are migrated.

    Args:
        record: the record.
        has_parent: whether documents of its stage have a parent.
    """
    if not record.legacy:
        return []
    said = {"task_id": record.task_id, "parent_doc_id": record.parent_doc_id if has_parent else ""}
    return [key for key, value in said.items() if value is None]

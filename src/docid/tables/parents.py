"""Find the parents of rows by task id and, among replicates of one task, by salt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from docid.core.replicates import format_path, parse_path
from docid.tables.faults import Faults
from docid.tables.mappings import MappingParser, is_mapping
from docid.tables.rows import TaskRow, schema_of
from docid.tables.tasks import check_fresh, check_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

BySalt = dict[str | None, str | None]
"""The doc ids of the parents with one task id, by salt; empty text if not reserved, None if a salt has several."""


def index_parents(parents: Iterable[TaskRow | Mapping[str, Any]], stage: str) -> dict[str, BySalt]:
    """Return the doc ids of parents by task id and salt; raise ValueError for rows of another stage."""
    check_fresh(parents, "parents")
    found: dict[str, BySalt] = {}
    faults = Faults("parents")
    for _, row in parse_rows(enumerate(parents, 1), TaskRow.of(stage), faults):
        check_row(row, "parents", stage)
        by_salt = found.setdefault(row.task_id, {})
        by_salt[row.doc_salt] = row.doc_id if by_salt.get(row.doc_salt, row.doc_id) == row.doc_id else None
    faults.raise_any()
    return found


def parse_rows(
    numbered: Iterable[tuple[int, Any]], row_type: type[TaskRow], faults: Faults
) -> Iterator[tuple[int, Any]]:
    """Yield numbered rows; parse those that are mappings, and note their faults."""
    parser = MappingParser(row_type, schema_of(row_type), faults)
    for number, each in numbered:
        if isinstance(each, TaskRow) or not is_mapping(each):
            yield number, each
        elif (row := parser.parse(number, each)) is not None:
            yield number, row


class Parent(NamedTuple):
    """The parent of a row.

    Attributes:
        doc_id: its doc id; None if there are several, or after a fault.
        salt: its salt, if that is the path of a replicate; the row takes it over.
        fault: the fault of the row's salt; empty if it has none.
    """

    doc_id: str | None
    salt: str | None = None
    fault: str = ""


def choose_parent(parents: BySalt, salt: str | None, depth: int | None) -> Parent:
    """Return the parent of a row among those with the task id that the row names.

    Args:
        parents: these parents, at least one.
        salt: the row's salt.
        depth: the number of stages from the root to the row's; None if unknown.
    """
    path = None if depth is None else parse_path(salt, depth)
    if len(parents) == 1:
        [(own, doc_id)] = parents.items()
        known = None if depth is None else parse_path(own, depth - 1)
        if known is None:  # a salt of another kind
            return Parent(doc_id)
        if salt is None or path is None or path[:-1] == known:
            return Parent(doc_id, own)
        return Parent(None, None, _describe_no_parent(path, known))
    if path is not None and (wanted := format_path(path[:-1])) in parents:
        return Parent(parents[wanted], wanted)
    if len(doc_ids := set(parents.values())) == 1:
        return Parent(doc_ids.pop())
    return Parent(None) if path is None else Parent(None, None, _describe_no_parent(path))


def _describe_no_parent(path: tuple[int, ...], known: tuple[int, ...] | None = None) -> str:
    """Return the fault of a row whose path names a parent that does not exist, unlike the parent `known`."""
    wrong = f"{describe_parent(path[:-1])}, which the parents' table does not have"
    if known is None:
        return wrong
    return f"{wrong}; for a second document of the same parent use {format_path((*known, 2))!r}, or set parent_doc_id"


def describe_parent(path: tuple[int, ...]) -> str:
    """Return the words for the parent that a row's salt, or a row without one, names."""
    return f"names replicate {format_path(path) or 1} of its parent"

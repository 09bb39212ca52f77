"""Documents as Dagster's dynamic partitions: a partition's key is a doc id."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import dagster as dg

from docid.core.ids import check_doc_id
from docid.tables.rows import TaskRow
from docid.tables.tasks import TaskRows

__all__ = ["Registered", "document_partitions", "list_keys", "parent_input", "register_partitions", "stage_of"]

_PARTITIONS = "_documents"
_KEYS_AT_ONCE = 10_000  # a database takes only so many values in one statement


def document_partitions(stage: str) -> dg.DynamicPartitionsDefinition:
    """Return the partitions of a stage's documents: dynamic, keyed by doc id, named `<stage>_documents`."""
    return dg.DynamicPartitionsDefinition(name=f"{stage}{_PARTITIONS}")


def parent_input(asset: Any = None) -> dg.AssetIn:
    """Return the input by which an asset of documents is given its parent's text, for its `ins`.

    Which document that is, the row's `parent_doc_id` says, not a mapping of partitions. To Dagster each document comes
    from all of the parent's stage.

    Args:
        asset: the asset of the parent's documents, or its key; the one of the parameter's name if not given.
    """
    key = asset.key if isinstance(asset, dg.AssetsDefinition) else asset
    return dg.AssetIn(key=key, partition_mapping=dg.AllPartitionMapping())


class Registered(NamedTuple):
    """What `register_partitions` did, or would do, in one stage.

    Attributes:
        added: keys that were not there.
        removed: keys that no row has any more.
        kept: how many were there already, and stay.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    kept: int


def register_partitions(
    instance: dg.DagsterInstance,
    rows: Iterable[TaskRow],
    *,
    add_only: bool = False,
    dry_run: bool = False,
) -> dict[str, Registered]:
    """Make the doc ids of rows the partition keys of their stages; a second time changes nothing.

    Args:
        instance: the Dagster instance.
        rows: reserved rows, of any stages; `read_tasks` of a table knows its stage even where it has no rows.
        add_only: leave keys that no row has.
        dry_run: change nothing.

    Returns:
        By stage what was added, removed and kept.

    Raises:
        InvalidName: a row without doc id. Nothing is registered then.
        TaskTableError: the table is faulty.
    """
    keys: dict[str, dict[str, None]] = {rows.row_type.stage: {}} if isinstance(rows, TaskRows) else {}
    for row in rows:
        keys.setdefault(row.stage, {})[check_doc_id(row.doc_id)] = None
    registered = {}
    for stage, wanted in keys.items():
        name = f"{stage}{_PARTITIONS}"
        there = set(instance.get_dynamic_partitions(name))
        added = tuple(key for key in wanted if key not in there)
        removed = () if add_only else tuple(sorted(there - wanted.keys()))
        if not dry_run:
            for start in range(0, len(added), _KEYS_AT_ONCE):
                instance.add_dynamic_partitions(name, added[start : start + _KEYS_AT_ONCE])
            for key in removed:
                instance.delete_dynamic_partition(name, key)
        registered[stage] = Registered(added, removed, len(there) - len(removed))
    return registered


def stage_of(partitions: dg.PartitionsDefinition | None) -> str | None:
    """Return the stage whose documents some partitions are."""
    name = getattr(partitions, "name", None)
    return name.removesuffix(_PARTITIONS) if name is not None and name.endswith(_PARTITIONS) else None


def list_keys(step: Any, partitions: dg.PartitionsDefinition | None) -> list[str]:
    """Return the doc ids of a step's partitions."""
    if partitions is None or not step.has_partitions:
        return []
    span = step.partition_key_range
    if span.start == span.end:
        return [span.start]
    # A range of a backfill that is one run: dynamic partitions have the order in which they were added.
    keys = list(step.instance.get_dynamic_partitions(getattr(partitions, "name", "")))
    return keys[keys.index(span.start) : keys.index(span.end) + 1]

"""Documents as Dagster's dynamic partitions, whose keys are doc ids, and the task tables that register them."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import dagster as dg

from docid.core.ids import check_doc_id
from docid.core.stages import Stages
from docid.integrations.dagster.resource import PARTITIONS, DocsStoreResource, find_table_files, raise_failures, refuse
from docid.tables.reserve import reserve_tasks
from docid.tables.rows import TaskRow
from docid.tables.tasks import TaskRows, read_tasks, stage_of_table, write_tasks


def document_partitions(stage: str) -> dg.DynamicPartitionsDefinition:
    """Return the partitions of a stage's documents: dynamic, keyed by doc id, named `<stage>_documents`."""
    return dg.DynamicPartitionsDefinition(name=f"{stage}{PARTITIONS}")


def parent_input(asset: Any = None) -> dg.AssetIn:
    """Return the input by which an asset of documents is given its parent's text, for its `ins`.

    The row's `parent_doc_id` says which document that is. To Dagster it may be any of the parent's stage.

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
    instance: dg.DagsterInstance, rows: Iterable[TaskRow], *, add_only: bool = False, dry_run: bool = False
) -> dict[str, Registered]:
    """Make the doc ids of rows the partition keys of their stages; return by stage what changed.

    Args:
        instance: the Dagster instance.
        rows: reserved rows, of any stages; `read_tasks` of a table knows its stage even where it has no rows.
        add_only: leave keys that no row has.
        dry_run: change nothing.

    Raises:
        InvalidName: a row without doc id. Nothing is registered then, nor where the table is faulty (TaskTableError).
    """
    keys: dict[str, dict[str, None]] = {rows.row_type.stage: {}} if isinstance(rows, TaskRows) else {}
    for row in rows:
        keys.setdefault(row.stage, {})[check_doc_id(row.doc_id)] = None
    registered = {}
    for stage, wanted in keys.items():
        name = f"{stage}{PARTITIONS}"
        there = set(instance.get_dynamic_partitions(name))
        added = tuple(key for key in wanted if key not in there)
        removed = () if add_only else tuple(sorted(there - wanted.keys()))
        if not dry_run:
            for start in range(0, len(added), 10_000):  # a database takes only so many values in one statement
                instance.add_dynamic_partitions(name, added[start : start + 10_000])
            for key in removed:
                instance.delete_dynamic_partition(name, key)
        registered[stage] = Registered(added, removed, len(there) - len(removed))
    return registered


def task_table_asset(
    stage: str,
    build: Callable[..., Iterable[TaskRow]],
    *,
    name: str | None = None,
    deps: Iterable[Any] = (),
    ins: Mapping[str, dg.AssetIn] | None = None,
    run_id: str | None = None,
    salt: str | None = None,
    add_only: bool = False,
    resource: str = "docs",
    group_name: str | None = None,
) -> dg.AssetsDefinition:
    """Return an asset that makes the task table of a stage: builds its rows, reserves ids, writes it, registers them.

    `parent_doc_id` is looked up in the table of the parent's stage, where a row does not have it. Nothing is written or
    registered where a row is faulty.

    Args:
        stage: the stage.
        build: returns the rows; is given the resource and the inputs of `ins`, by name.
        name: the name of the asset; that of the file is `<name>.csv`. `<stage>_tasks` if not given.
        deps, ins, group_name: as for `dagster.asset`; the table of the parent's stage is one of `deps`, say.
        run_id, salt: as for `reserve_tasks`.
        add_only: leave partitions that the table has no row for.
        resource: the key of the `DocsStoreResource`.

    Raises:
        ValueError: the file would not be the task table of the stage.
    """
    name = f"{stage}_tasks" if name is None else name
    if stage_of_table(f"{name}.csv", Stages({stage: None})) != stage:
        raise ValueError(f"name: expected {stage}_tasks or {stage}_generation_tasks, got {name!r}")

    @dg.asset(
        name=name,
        deps=deps,
        ins=ins,
        required_resource_keys={resource},
        group_name=group_name,
        description=f"The task table of stage {stage}: {name}.csv",
        kinds={"csv"},
    )
    def table(context: dg.AssetExecutionContext, **inputs: Any) -> dg.MaterializeResult[Any]:
        docs: DocsStoreResource = getattr(context.resources, resource)
        path, row_type = os.path.join(docs.tables, f"{name}.csv"), docs.row_type(stage)
        if others := ", ".join(other for other in find_table_files(docs, stage) if other != f"{name}.csv"):
            raise refuse(f"{docs.tables}: {others} is a table of stage {stage} too; expected {name}.csv alone")
        os.makedirs(docs.tables, exist_ok=True)
        with raise_failures():
            parents = None if row_type.parent_stage is None else docs.read_tasks(row_type.parent_stage)
            rows = reserve_tasks(build(docs, **inputs), row_type, run_id, salt, parents=parents)
            written = write_tasks(path, rows, row_type=row_type)
        [registered] = register_partitions(context.instance, read_tasks(path, row_type), add_only=add_only).values()
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(path),
                "rows": written,
                "partitions added": len(registered.added),
                "partitions removed": len(registered.removed),
                "partitions kept": registered.kept,
            }
        )

    return table

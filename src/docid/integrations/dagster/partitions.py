"""Documents as Dagster's dynamic partitions, keyed by doc id, and the task tables that register them."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import dagster as dg

from docid.core.ids import check_doc_id
from docid.core.stages import Stages
from docid.integrations.dagster.resource import (
    PARTITIONS,
    TABLE_KEY,
    DocsStoreResource,
    find_table_files,
    raise_failures,
    refuse,
    stage_of,
)
from docid.operations.fill import reserve_existing
from docid.store.docs_store import DocsStore, check_store
from docid.tables.replicates import check_number, replicate_rows
from docid.tables.rows import TaskRow
from docid.tables.tasks import TaskRows, TaskTable, read_tasks, stage_of_table, write_tasks


def document_partitions(stage: str) -> dg.DynamicPartitionsDefinition:
    """Return a stage's document partitions: dynamic, keyed by doc id, named `<stage>_documents`."""
    return dg.DynamicPartitionsDefinition(name=f"{stage}{PARTITIONS}")


def parent_input(asset: Any = None) -> dg.AssetIn:
    """Return an asset input (for `ins`) that receives the parent's text.

    The IO manager finds the parent by the row's `parent_doc_id`. Dagster itself sees a dependency on all partitions of
    the parent's asset.

    Args:
        asset: the parent's asset, or its key; default: the asset named like the parameter.
    """
    key = asset.key if isinstance(asset, dg.AssetsDefinition) else asset
    return dg.AssetIn(key=key, partition_mapping=dg.AllPartitionMapping())


class Registered(NamedTuple):
    """The changes that `register_partitions` made (or would make) in one stage.

    Attributes:
        added: new keys.
        removed: keys without a row.
        kept: the number of existing keys that stay.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    kept: int


def register_partitions(
    instance: dg.DagsterInstance, rows: Iterable[TaskRow], *, add_only: bool = False, dry_run: bool = False
) -> dict[str, Registered]:
    """Register the doc ids of rows as partition keys, and remove keys without a row.

    Args:
        instance: the Dagster instance.
        rows: reserved rows, of any stages. The stage of an empty table is known if they come from `read_tasks`.
        add_only: keep keys without a row.
        dry_run: report the changes without making them.

    Returns:
        The changes, by stage.

    Raises:
        InvalidName: a row has no doc id.
        TaskTableError: the table is faulty. Neither error changes any partition.
    """
    keys: dict[str, dict[str, None]] = {rows.row_type.stage: {}} if isinstance(rows, (TaskRows, TaskTable)) else {}
    for row in rows:
        keys.setdefault(row.stage, {})[check_doc_id(row.doc_id)] = None
    registered = {}
    for stage, wanted in keys.items():
        name = f"{stage}{PARTITIONS}"
        existing = set(instance.get_dynamic_partitions(name))
        added = tuple(key for key in wanted if key not in existing)
        removed = () if add_only else tuple(sorted(existing - wanted.keys()))
        if not dry_run:
            for start in range(0, len(added), 10_000):  # databases limit the number of values in one statement
                instance.add_dynamic_partitions(name, added[start : start + 10_000])
            for key in removed:
                instance.delete_dynamic_partition(name, key)
        registered[stage] = Registered(added, removed, len(existing) - len(removed))
    return registered


def report_existing(
    instance: dg.DagsterInstance, store: DocsStore, assets: Mapping[str, Any] | None = None
) -> dict[str, int]:
    """Show the documents of a store as materialised partitions, if they are registered and Dagster does not know them.

    For documents of another system, of a script, or of a step that failed after it had stored them. A second call
    reports nothing. docid reads no document. Dagster takes some milliseconds for each partition.

    Args:
        instance: the Dagster instance.
        store: the store with the documents.
        assets: by stage, the asset of its documents, or its key; other stages are left out. By default all stages, each
            with the asset named like it.

    Returns:
        The number of documents reported, by stage.

    Raises:
        InvalidName: `assets` has a stage that the store does not have.
    """
    check_store(store)
    for stage in assets or {}:
        store.stages.check(stage)
    reported = dict.fromkeys(store.stages, 0)
    for stage in store.stages if assets is None else assets:
        asset = stage if assets is None else assets[stage]
        key = asset.key if isinstance(asset, dg.AssetsDefinition) else dg.AssetKey.from_coercible(asset)
        registered = set(instance.get_dynamic_partitions(f"{stage}{PARTITIONS}"))
        missing = registered - instance.get_materialized_partitions(key)
        for doc_id in sorted(missing.intersection(store.ids(stage))):
            if not store.exists(stage, doc_id):  # a directory without a record
                continue
            where = store.location(stage, doc_id)
            path = dg.MetadataValue.url(where) if "://" in where else dg.MetadataValue.path(where)
            event = dg.AssetMaterialization(
                key, partition=doc_id, metadata={"doc_id": doc_id, "path": path, "outcome": "existing"}
            )
            instance.report_runless_asset_event(event)
            reported[stage] += 1
    return reported


def task_table_asset(
    stage: str,
    build: Callable[..., Iterable[TaskRow]],
    *,
    name: str | None = None,
    deps: Iterable[Any] = (),
    ins: Mapping[str, dg.AssetIn] | None = None,
    run_id: str | None = None,
    salt: str | None = None,
    replicates: int | None = None,
    existing: Literal["link", "derive"] = "link",
    documents: Any = None,
    add_only: bool = False,
    resource: str = "docs",
    io_manager_key: str | None = None,
    group_name: str | None = None,
) -> dg.AssetsDefinition:
    """Return an asset that writes a stage's task table: it builds rows, reserves doc ids and registers partitions.

    If a row has no `parent_doc_id`, the asset finds the parent in the table of the parent's stage. If a row is faulty,
    the asset fails and changes neither the table nor the partitions.

    Args:
        stage: the stage.
        build: returns the rows; takes the resource, and the inputs of `ins` by name.
        name: the asset's name, which makes the file `<name>.csv`; default: `<stage>_tasks`.
        deps, ins, group_name: as for `dagster.asset`. List the table of the parent's stage in `deps`.
        run_id, salt: as for `reserve_tasks`.
        replicates: the number of documents of each task, as for `docid.replicates`, for each replicate of its parent.
            A row with a salt or a `parent_doc_id` is for that parent only. By default the rows stay as they are.
        existing: with `link`, a row without an id, run id and salt whose task has a stored document of the same parent
            and inputs keeps the id of that document, so that a run does not pay for it again. If a task has several
            documents, the row's own derived id wins, or else the newest; the asset logs the others. With `derive`,
            every row derives its id.
        documents: the key of the asset of the stage's documents. The table asset shows existing documents as
            materialised; see `report_existing`. By default the asset named like the stage, if the code location has it;
            a run of `dg.materialize` does not know its code location.
        add_only: keep partitions without a row.
        resource: the key of the `DocsStoreResource`.
        io_manager_key: the key of the `DocsIOManager`, for an asset that takes the table as its input: it gets the
            rows, or a data frame of pandas, polars or pyarrow if its parameter is annotated so.

    Raises:
        ValueError: `<name>.csv` is not a file name of the stage's task table; `replicates` is less than 1, or given
            with `salt`.
    """
    if replicates is not None:
        check_number(replicates, "replicates")
        if salt is not None:
            raise ValueError("salt, replicates: each replicate has a salt of its own; expected only one of them")
    if existing not in {"link", "derive"}:
        raise ValueError(f"existing: expected 'link' or 'derive', got {existing!r}")
    name = f"{stage}_tasks" if name is None else name
    if stage_of_table(f"{name}.csv", Stages({stage: None})) != stage:
        raise ValueError(f"name: expected {stage}_tasks or {stage}_generation_tasks, got {name!r}")

    @dg.asset(
        name=name,
        deps=deps,
        ins=ins,
        required_resource_keys={resource},
        io_manager_key=io_manager_key,
        metadata={TABLE_KEY: stage},
        group_name=group_name,
        description=f"The task table of stage {stage}: {name}.csv",
        kinds={"csv"},
    )
    def table(context: dg.AssetExecutionContext, **inputs: Any) -> dg.MaterializeResult[Any]:
        docs: DocsStoreResource = getattr(context.resources, resource)
        path, row_type = os.path.join(docs.tables, f"{name}.csv"), docs.row_type(stage)
        if others := ", ".join(other for other in find_table_files(docs, stage) if other != f"{name}.csv"):
            raise refuse(f"{docs.tables}: {others} is also a task table of stage {stage}; expected only {name}.csv")
        os.makedirs(docs.tables, exist_ok=True)
        with raise_failures():
            parents = None if row_type.parent_stage is None else docs.read_tasks(row_type.parent_stage)
            store = docs.store() if existing == "link" else None
            stages, built = docs.store().stages, build(docs, **inputs)
            if replicates is not None:
                built = replicate_rows(built, replicates, parents, stages, keep_parents=True)
            options: dict[str, Any] = {"run_id": run_id, "salt": salt, "parents": parents, "stages": stages}
            rows, kept = reserve_existing(built, row_type, store, path, **options)
            written = write_tasks(path, rows, row_type=row_type)
        for note in kept.notes:
            context.log.warning("%s: %s (task_id=%r): %s", note.kind, note.where, note.task_id, note.message)
        table = read_tasks(path, row_type, delimiter="auto")
        [registered] = register_partitions(context.instance, table, add_only=add_only).values()
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(path),
                "rows": written,
                "existing documents": kept.rows,
                "shown as materialised": _show_existing(context, docs.store(), stage, documents),
                "partitions added": len(registered.added),
                "partitions removed": len(registered.removed),
                "partitions kept": registered.kept,
            }
        )

    return table


def _show_existing(context: Any, store: DocsStore, stage: str, documents: Any) -> int:
    """Show existing documents as materialised, if their asset is known; return their number."""
    key = dg.AssetKey.from_coercible(stage if documents is None else documents)
    if documents is None and not _has_asset(context, key):
        return 0
    return report_existing(context.instance, store, {stage: key})[stage]


def _has_asset(context: Any, key: dg.AssetKey) -> bool:
    """Return whether the code location of a step has this asset with document partitions; False if unknown."""
    try:
        graph = context.repository_def.asset_graph
    except Exception:  # noqa: BLE001 - of a run without a code location, such as `dg.materialize`
        return False
    return bool(graph.has(key)) and stage_of(graph.get(key).partitions_def) is not None

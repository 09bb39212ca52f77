"""Task tables as assets."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import dagster as dg

from docid.core.stages import Stages
from docid.integrations.dagster.partitions import register_partitions
from docid.integrations.dagster.resource import DocsStoreResource, find_tables
from docid.integrations.dagster.steps import explain_errors, refuse
from docid.tables.reserve import reserve_tasks
from docid.tables.rows import TaskRow
from docid.tables.tasks import read_tasks, stage_of_table, write_tasks

__all__ = ["task_table_asset"]


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

    The ids come from the rows alone: made again, the table has the same ones. `parent_doc_id` is looked up in the table
    of the parent's stage, where a row does not have it. Nothing is written or registered where a row is faulty.

    Args:
        stage: the stage.
        build: returns the rows; is given the resource and the inputs of `ins`, by name.
        name: the name of the asset; that of the file is `<name>.csv`. `<stage>_tasks` if not given.
        deps: assets that have to be made before, the table of the parent's stage say.
        ins: inputs for `build`.
        run_id, salt: as for `reserve_tasks`.
        add_only: leave partitions that the table has no row for.
        resource: the key of the `DocsStoreResource`.
        group_name: as for `dagster.asset`.

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
        if others := [other for other in find_tables(docs, stage) if other != f"{name}.csv"]:
            raise refuse(
                f"{docs.tables}: {', '.join(others)} is a table of stage {stage} too; expected {name}.csv alone"
            )
        os.makedirs(docs.tables, exist_ok=True)
        with explain_errors():
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

"""Jobs that make documents again from what is stored."""

from typing import Any

import dagster as dg

from docid.integrations.dagster.steps import REPLAY_TAG

__all__ = ["replay_job"]


def replay_job(asset: Any, *, name: str | None = None) -> Any:
    """Return a job that makes documents again exactly: from the stored row and prompt, without the tables.

    Its partitions are those of the asset. Each is made again with `if_exists="replace"`; the text that was there goes
    to history. The asset has to go through `DocsStoreResource.ensure`, which sends the stored prompt.

    Args:
        asset: the asset of a stage's documents.
        name: the job's name; `replay_<asset>` if not given.
    """
    selection = dg.AssetSelection.assets(asset)
    key = asset.key if isinstance(asset, dg.AssetsDefinition) else dg.AssetKey.from_coercible(asset)
    return dg.define_asset_job(
        name or f"replay_{key.to_python_identifier()}",
        selection=selection | selection.required_multi_asset_neighbors(),
        tags={REPLAY_TAG: "true"},
        description="Makes documents again from their stored rows and prompts; what was there goes to history.",
    )

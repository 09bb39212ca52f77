"""Steps of Dagster: their partitions, the tags of their runs, and how docid's errors become their failures."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import dagster as dg

from docid.errors import DocidError, DocumentBusy, LineageConflict, StoreUnavailable, TaskTableError, UnreadableDocument
from docid.integrations.dagster.partitions import list_keys, stage_of
from docid.tables.rows import TaskRow

__all__ = [
    "IF_EXISTS_TAG",
    "REPLAY_TAG",
    "TASK_TAG",
    "StepContext",
    "explain_errors",
    "is_replay",
    "refuse",
    "replay_job",
]

IF_EXISTS_TAG = "docid/if_exists"
"""A tag of a run: `replace` makes another text where a document is there, which goes to history."""

REPLAY_TAG = "docid/replay"
"""A tag of a run: `true` takes the rows from the stored documents, not the tables, and sends their prompts again."""

TASK_TAG = "docid/task_id"
"""A tag that a run gets: the task of its partition, whose key tells people nothing."""

_STEPS = 8  # of this process, whose rows are held


def refuse(message: str) -> dg.Failure:
    """Return the failure of a step that would fail again in the same way, so that Dagster does not retry it."""
    return dg.Failure(message, allow_retries=False)


@contextmanager
def explain_errors() -> Iterator[None]:
    """Turn an error of docid into a failure of the step: with its facts, what to do, and no retry.

    A retry policy applies only where an object store did not answer, or others were changing the document.
    """
    try:
        yield
    except DocidError as error:
        facts = {key: str(value) for key, value in vars(error).items() if isinstance(value, (str, tuple)) and value}
        if isinstance(error, LineageConflict):
            facts["what to do"] = (
                "the row is of another task or parent than the document: correct the row, or empty its doc_id and "
                "reserve another one with a doc_salt; the document is untouched"
            )
        elif isinstance(error, UnreadableDocument):
            facts["what to do"] = error.remedy
        elif isinstance(error, TaskTableError):
            # The message lists them.
            facts = {"what to do": "correct the table, or what builds its rows, and materialise it again"}
        may_pass = isinstance(error, DocumentBusy) or (isinstance(error, StoreUnavailable) and not error.refused)
        raise dg.Failure(str(error), metadata=facts, allow_retries=may_pass) from error


class StepContext(NamedTuple):
    """What a context says of its step: the stage and doc ids of its partitions, its run's tags, the rows it used.

    A step looks a row up once: when somebody rewrites the table meanwhile, the document still gets the parent whose
    text it was made from.
    """

    stage: str | None
    keys: list[str]
    tags: Mapping[str, str]
    rows: dict[tuple[str, str, str], TaskRow]

    @classmethod
    def of(cls, context: Any) -> "StepContext":
        """Return the step of the context of an asset, an input or an output."""
        if isinstance(context, dg.OutputContext):
            # Its public attributes: the context that a test builds has no step.
            partitions = context.asset_partitions_def if context.has_asset_partitions else None
            keys = [] if partitions is None else list(context.asset_partition_keys)
            try:
                step = context.step_context
            except dg.DagsterInvariantViolationError:
                return cls(stage_of(partitions), keys, {}, {})
        else:
            of_input = isinstance(context, dg.InputContext)
            step = context.step_context if of_input else context.get_step_execution_context()
            partitions = None if step.assets_def is None else step.assets_def.partitions_def
            keys = list_keys(step, partitions)
        rows = _rows_of_try(step.dagster_run.run_id, step.step.key, step.previous_attempt_count)
        return cls(stage_of(partitions), keys, step.dagster_run.tags, rows)

    @property
    def named_stage(self) -> str:
        """The stage; a failure where the asset has no documents as partitions."""
        if self.stage is None:
            raise refuse("this asset has no documents as partitions; expected partitions_def=document_partitions(…)")
        return self.stage


def is_replay(tags: Mapping[str, str]) -> bool:
    """Return whether a run with these tags is a replay; a failure where the tag is neither true nor false."""
    tag = tags.get(REPLAY_TAG, "false")
    if tag not in {"true", "false"}:
        raise refuse(f"tag {REPLAY_TAG}: expected true or false, got {tag!r}")
    return tag == "true"


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


@lru_cache(_STEPS)
def _rows_of_try(*_: object) -> dict[tuple[str, str, str], TaskRow]:
    return {}

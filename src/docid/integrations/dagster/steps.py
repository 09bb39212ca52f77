"""What the parts of the integration ask of a step, and how they refuse."""

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

import dagster as dg

from docid.errors import DocidError, DocumentBusy, LineageConflict, StoreUnavailable, TaskTableError, UnreadableDocument
from docid.integrations.dagster.partitions import stage_of
from docid.tables.rows import TaskRow

__all__ = ["IF_EXISTS_TAG", "REPLAY_TAG", "TASK_TAG", "Step", "explained", "is_replay", "keys_of", "refused"]

IF_EXISTS_TAG = "docid/if_exists"
"""A tag of a run: `replace` makes another text where a document is there, which goes to history."""

REPLAY_TAG = "docid/replay"
"""A tag of a run: `true` takes the rows from the stored documents, not the tables, and sends their prompts again."""

TASK_TAG = "docid/task_id"
"""A tag that a run gets: the task of its partition, whose key tells people nothing."""

_STEPS = 8  # of this process, whose rows are held


def refused(message: str) -> dg.Failure:
    """Return the failure of a step that would fail again in the same way, and so is not tried again."""
    return dg.Failure(message, allow_retries=False)


class explained:  # noqa: N801 - a context manager
    """Turns what docid refuses into a failure of the step that people can act on, and that is not tried again.

    An object store that did not answer has refused nothing, nor has a document that others were changing: a step with
    a retry policy is tried again.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, frames: object) -> None:
        if not isinstance(error, DocidError):
            return
        facts = {key: str(value) for key, value in vars(error).items() if isinstance(value, (str, tuple)) and value}
        if isinstance(error, LineageConflict):
            facts["what to do"] = (
                "the row is of another task or parent than the document: correct the row, or empty its doc_id and "
                "reserve another one with a doc_salt; the document is untouched"
            )
        if isinstance(error, UnreadableDocument) and error.remedy:
            facts["what to do"] = error.remedy
        if isinstance(error, TaskTableError):
            # The message lists them.
            facts = {"what to do": "correct the table, or what builds its rows, and materialise it again"}
        may_pass = isinstance(error, DocumentBusy) or (isinstance(error, StoreUnavailable) and not error.refused)
        raise dg.Failure(str(error), metadata=facts, allow_retries=may_pass) from error


class Step(NamedTuple):
    """What a context says of its step: the stage and doc ids of its partitions, its run's tags, the rows it went by.

    A row is looked up once a step: a table that is written anew meanwhile does not give a document another parent than
    the one whose text it was made from.
    """

    stage: str | None
    keys: list[str]
    tags: Mapping[str, str]
    rows: dict[tuple[str, str, str], TaskRow]

    @classmethod
    def of(cls, context: Any) -> "Step":
        """Return the step of the context of an asset, an input or an output."""
        if isinstance(context, dg.OutputContext):
            return cls._of_output(context)
        of_input = isinstance(context, dg.InputContext)
        step = context.step_context if of_input else context.get_step_execution_context()
        partitions = None if step.assets_def is None else step.assets_def.partitions_def
        return cls(stage_of(partitions), keys_of(step, partitions), step.dagster_run.tags, _rows_of(step))

    @classmethod
    def _of_output(cls, context: dg.OutputContext) -> "Step":
        """Return the same by what is public of an output, which a test can build."""
        tags: Mapping[str, str] = {}
        rows: dict[tuple[str, str, str], TaskRow] = {}
        with suppress(dg.DagsterInvariantViolationError):
            tags, rows = context.step_context.dagster_run.tags, _rows_of(context.step_context)
        if not context.has_asset_partitions:
            return cls(None, [], tags, rows)
        return cls(stage_of(context.asset_partitions_def), list(context.asset_partition_keys), tags, rows)

    @property
    def named_stage(self) -> str:
        """The stage; a failure where the asset has no documents as partitions."""
        if self.stage is None:
            raise refused("this asset has no documents as partitions; expected partitions_def=document_partitions(…)")
        return self.stage

    @property
    def one_key(self) -> str:
        """The doc id; a failure where the step has several."""
        if len(self.keys) != 1:
            raise refused(f"this step has {len(self.keys)} partitions; expected doc_id, to say which is meant")
        return self.keys[0]


def is_replay(tags: Mapping[str, str]) -> bool:
    """Return whether a run with these tags is a replay; a failure where the tag says neither true nor false."""
    said = tags.get(REPLAY_TAG, "false")
    if said not in {"true", "false"}:
        raise refused(f"tag {REPLAY_TAG}: expected true or false, got {said!r}")
    return said == "true"


def _rows_of(step: Any) -> dict[tuple[str, str, str], TaskRow]:
    return _rows_of_try(step.dagster_run.run_id, step.step.key, step.previous_attempt_count)


@lru_cache(_STEPS)
def _rows_of_try(*_: object) -> dict[tuple[str, str, str], TaskRow]:
    return {}


def keys_of(step: Any, partitions: dg.PartitionsDefinition | None) -> list[str]:
    """Return the doc ids of a step's partitions."""
    if partitions is None or not step.has_partitions:
        return []
    span = step.partition_key_range
    if span.start == span.end:
        return [span.start]
    # A range of a backfill that is one run: dynamic partitions have the order in which they were added.
    keys = list(step.instance.get_dynamic_partitions(getattr(partitions, "name", "")))
    return keys[keys.index(span.start) : keys.index(span.end) + 1]

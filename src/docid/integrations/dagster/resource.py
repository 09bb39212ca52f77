"""The `DocsStoreResource`, and how a Dagster step finds its rows, tags and failures."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, NamedTuple, get_args

import dagster as dg
from attrs import evolve

from docid._text import format_count
from docid.core.lineage_rules import Pin, Pins, split_name
from docid.core.outcomes import Policy
from docid.core.reply import Reply
from docid.core.stages import Stages
from docid.errors import (
    DocidError,
    DocumentBusy,
    DocumentClaimed,
    LineageConflict,
    StoreUnavailable,
    TaskTableError,
    UnreadableDocument,
)
from docid.operations.curate.replay import replay
from docid.store.docs_store import DocsStore
from docid.store.ensure import Attempt, IfExists, Options, ensure
from docid.store.stored import StoredDocument
from docid.tables.lookup import index_of
from docid.tables.rows import TaskRow, row_type_of
from docid.tables.tasks import TaskTable, read_tasks, stage_of_table

PARTITIONS = "_documents"  # partition names are `<stage>_documents`
_POLICIES: tuple[Policy, ...] = get_args(Policy)

IF_EXISTS_TAG = "docid/if_exists"
"""A run tag that overrides `DocsStoreResource.if_exists`: `keep`, `replace` or `fail`."""

REPLAY_TAG = "docid/replay"
"""A run tag: `true` takes rows and prompts from the stored documents instead of the task tables."""

TASK_TAG = "docid/task_id"
"""A run tag that docid sets: the task id of the partition, since people cannot read a doc id."""


def refuse(message: str) -> dg.Failure:
    """Return a failure that Dagster does not retry, since the step would fail again."""
    return dg.Failure(message, allow_retries=False)


@contextmanager
def raise_failures() -> Iterator[None]:
    """Turn a docid error into a Dagster failure. Dagster retries it only if a busy or unavailable store caused it."""
    try:
        yield
    except DocidError as error:
        facts = {key: str(value) for key, value in vars(error).items() if isinstance(value, (str, tuple)) and value}
        if isinstance(error, LineageConflict):
            facts["what to do"] = (
                "correct the row, or clear its doc_id and reserve another one with a doc_salt; "
                "the stored document is unchanged"
            )
        elif isinstance(error, UnreadableDocument):
            facts["what to do"] = error.remedy
        elif isinstance(error, TaskTableError):
            # The message already lists the faults.
            facts = {"what to do": "correct the table, or the function that builds its rows, and materialise it again"}
        can_retry = isinstance(error, (DocumentBusy, DocumentClaimed)) or (
            isinstance(error, StoreUnavailable) and not error.refused
        )
        message = "\n".join([str(error), *getattr(error, "__notes__", ())])  # a note names a saved reply
        raise dg.Failure(message, metadata=facts, allow_retries=can_retry) from error


def stage_of(partitions: dg.PartitionsDefinition | None) -> str | None:
    """Return the stage of document partitions; None for other partitions."""
    name = getattr(partitions, "name", None)
    return name.removesuffix(PARTITIONS) if name is not None and name.endswith(PARTITIONS) else None


def list_keys(step: Any, partitions: dg.PartitionsDefinition | None) -> list[str]:
    """Return the doc ids of a step's partitions."""
    if partitions is None or not step.has_partitions:
        return []
    span = step.partition_key_range
    if span.start == span.end:
        return [span.start]
    # A backfill in one run selects a range. Dynamic partitions are ordered by the time they were added.
    keys = list(step.instance.get_dynamic_partitions(getattr(partitions, "name", "")))
    return keys[keys.index(span.start) : keys.index(span.end) + 1]


class StepContext(NamedTuple):
    """The step of a Dagster context: its stage, its doc ids and the tags of its run.

    Attributes:
        rows: its rows so far.
        pins: the versions of the parents and inputs that it has loaded, by stage and doc id.
    """

    stage: str | None
    keys: list[str]
    tags: Mapping[str, str]
    rows: dict[tuple[str, str, str], TaskRow]
    pins: dict[tuple[str, str], Pin | None]

    def find_pins(self, store: DocsStore, row: TaskRow) -> Pins:
        """Return the versions that the step has loaded of the parent and inputs of a row."""
        names = {name: split_name(name) for name in row.input_doc_ids}
        if row.parent_doc_id is not None:
            names[row.parent_doc_id] = store.stages.parent_of(row.stage) or "", row.parent_doc_id
        return {key: self.pins[name] for key, name in names.items() if name in self.pins}

    @classmethod
    def of(cls, context: Any) -> "StepContext":
        """Return the step of the context of an asset, an input or an output."""
        if isinstance(context, dg.OutputContext):
            # Read public attributes only: a context from `build_output_context` has no step.
            partitions = context.asset_partitions_def if context.has_asset_partitions else None
            keys = [] if partitions is None else list(context.asset_partition_keys)
            try:
                step = context.step_context
            except dg.DagsterInvariantViolationError:
                return cls(stage_of(partitions), keys, {}, {}, {})
        else:
            of_input = isinstance(context, dg.InputContext)
            step = context.step_context if of_input else context.get_step_execution_context()
            partitions = None if step.assets_def is None else step.assets_def.partitions_def
            keys = list_keys(step, partitions)
        cached = _cache_of_try(step.dagster_run.run_id, step.step.key, step.previous_attempt_count)
        return cls(stage_of(partitions), keys, step.dagster_run.tags, *cached)

    @property
    def named_stage(self) -> str:
        """The stage; fails if the asset has no document partitions."""
        if self.stage is None:
            raise refuse("this asset has no document partitions; expected partitions_def=document_partitions(stage)")
        return self.stage


@lru_cache(8)
def _cache_of_try(*_: object) -> tuple[dict[tuple[str, str, str], TaskRow], dict[tuple[str, str], Pin | None]]:
    """Return the rows and the versions that one try of a step has read: even if a table or a parent changes."""
    return {}, {}


def is_replay(tags: Mapping[str, str]) -> bool:
    """Return whether the tags ask for a replay."""
    tag = tags.get(REPLAY_TAG, "false")
    if tag not in {"true", "false"}:
        raise refuse(f"tag {REPLAY_TAG}: expected true or false, got {tag!r}")
    return tag == "true"


class DocsStoreResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # nothing is configured beyond the fields
    """A pipeline's document store and its task tables.

    To use row classes of your own, override `row_type`.

    Attributes:
        root: the store's directory, or the URL of an object store. Credentials come from the environment.
        tables: the directory of the task tables.
        stages: the stages in order, in the form that `Stages.parse` takes; by default those of the store's manifest.
        if_exists: the policy for an existing document: `keep`, `replace`, or `fail` if an asset returns a different
            text. `ensure` treats `fail` as `keep`. The run tag `docid/if_exists` overrides it for one run.
        durability: as for `DocsStore`.
    """

    root: str
    tables: str = "."
    stages: str | None = None
    if_exists: str = "keep"
    durability: str = "full"

    def store(self) -> DocsStore:
        """Return the store; one instance per process."""
        return _open_store(self.root, self.stages, self.durability)

    def row_type(self, stage: str) -> type[TaskRow]:
        """Return the class of a stage's rows."""
        return row_type_of(stage, self.store().stages)

    def table(self, stage: str) -> str:
        """Return the path of a stage's task table; raise FileNotFoundError unless there is exactly one."""
        found = find_table_files(self, stage)
        if len(found) != 1:
            wrong = f"several task tables ({', '.join(found)})" if found else "no task table"
            expected = f"expected either {stage}_tasks.csv or {stage}_generation_tasks.csv"
            raise FileNotFoundError(f"{self.tables}: {wrong} for stage {stage}; {expected}")
        return os.path.join(self.tables, found[0])

    def read_tasks(self, stage: str) -> TaskTable[TaskRow]:
        """Return the rows of a stage's table. Raises what `docid.read_tasks` and `table` raise."""
        return read_tasks(self.table(stage), self.row_type(stage), delimiter="auto")

    def task(self, context: Any, doc_id: str | None = None) -> TaskRow:
        """Return the row of the step's partition, from the task table, or in a replay from the stored document.

        Args:
            context: the context of an asset, an input or an output.
            doc_id: the partition, if the step has several.

        Raises:
            dagster.Failure: the table is missing, faulty or unreadable, or has no row for the partition.
        """
        step = StepContext.of(context)
        stage = step.named_stage
        if doc_id is None and len(step.keys) != 1:
            raise refuse(f"this step has {format_count(len(step.keys), 'partition')}; pass doc_id to choose one")
        return load_row(self, step, stage, step.keys[0] if doc_id is None else doc_id)

    def ensure(
        self,
        context: Any,
        generate: Callable[[str], str | Reply],
        *,
        prompt: str | Callable[[], str],
        parse: Callable[[str], str | None] | None = None,
        metadata: Mapping[str, Any] | None = None,
        doc_id: str | None = None,
    ) -> StoredDocument:
        """Return the document of the step's partition; call the model only to create or replace it.

        docid stores the prompt with the reply. If the row has a `source_doc_id`, and in a replay, it sends the stored
        prompt of that document instead. With `replace`, a retry keeps the document that an earlier try has written.

        Args:
            context: the context of the asset.
            generate: calls the model: takes the prompt, returns the reply as text, or a `Reply` with its metadata.
            prompt: the prompt, or a function that renders it.
            parse: takes the reply and returns the parsed text, which child documents read; default: the reply itself.
                If it raises, or returns anything but text, docid stores the document without parsed text.
            metadata: your keys for the record.
            doc_id: the partition, if the step has several.

        Returns:
            The stored document, for the asset to return. Its `outcome` says whether it was created, kept or replaced.

        Raises:
            dagster.Failure: docid refused the write, for example because the id belongs to another lineage or the
                parent is missing. No document is written. Dagster retries only if the store was busy or unavailable.
        """
        row = self.task(context, doc_id)
        if doc_id is None:
            context.instance.add_run_tags(context.run.run_id, {TASK_TAG: row.task_id})
        policy, store = find_policy(self, context.run.tags), self.store()

        def render(_: TaskRow) -> str:
            text = store.source_prompt(row)
            if text is None:
                text = prompt() if callable(prompt) else prompt
            return _check_text(text, "prompt", row)

        def make(_: TaskRow, text: str) -> str | Reply:
            reply = generate(text)
            if isinstance(reply, str):
                reply = Reply(reply)
            if isinstance(reply, Reply) and reply.parsed_text is None:
                parsed = reply.raw_text if parse is None else _try_parse(context, parse, reply.raw_text)
                reply = evolve(reply, parsed_text=parsed)
            return reply

        with raise_failures():
            # In a retry, an earlier try of this step may have written the document.
            if policy == "replace" and context.retry_number and store.exists(row.stage, row.doc_id):
                created_at = store.open(row.stage, row.doc_id).created_at
                began = context.instance.get_run_record_by_id(context.run.run_id).create_timestamp
                policy = "keep" if created_at is not None and created_at >= began else policy
            # A replayed row has a run id only if its doc id depends on it. The new version keeps the stored run id.
            run_id = store.open(row.stage, row.doc_id).run_id if is_replay(context.run.tags) else None
            if_exists: IfExists = "replace" if policy == "replace" else "keep"
            # The prompt may come from the inputs of the step, which Dagster has loaded before.
            pins = partial(StepContext.of(context).find_pins, store)
            options = Options(prompt=render, metadata=metadata, run_id=run_id, if_exists=if_exists, find_pins=pins)
            return ensure(Attempt(store, row, make, options)).unwrap()


def replay_job(asset: Any, *, name: str | None = None) -> Any:
    """Return a job that makes documents again from their stored rows and prompts, without the task tables.

    The old versions move to history.

    Args:
        asset: the asset of a stage's documents. It must use `DocsStoreResource.ensure`.
        name: the job's name; default: `replay_<asset>`.
    """
    selection = dg.AssetSelection.assets(asset)
    key = asset.key if isinstance(asset, dg.AssetsDefinition) else dg.AssetKey.from_coercible(asset)
    return dg.define_asset_job(
        name or f"replay_{key.to_python_identifier()}",
        selection=selection | selection.required_multi_asset_neighbors(),
        tags={REPLAY_TAG: "true"},
        description="Makes documents again from their stored rows and prompts. The old versions move to history.",
    )


def find_table_files(docs: DocsStoreResource, stage: str) -> list[str]:
    """Return the names of a stage's task tables; one is expected."""
    stages = docs.store().stages
    try:
        return sorted(name for name in os.listdir(docs.tables) if stage_of_table(name, stages) == stage)
    except FileNotFoundError:
        return []


def load_row(docs: DocsStoreResource, step: StepContext, stage: str, doc_id: str) -> TaskRow:
    """Return the row of a document; a step always gets the same one."""
    key = (docs.tables, stage, doc_id)
    if key not in step.rows:
        step.rows[key] = load_row_in_run(docs, stage, doc_id, step.tags)
    return step.rows[key]


@raise_failures()
def load_row_in_run(docs: DocsStoreResource, stage: str, doc_id: str, tags: Mapping[str, str]) -> TaskRow:
    """Return the row of a document in a run with these tags."""
    if is_replay(tags):
        rows = replay(docs.store(), stage, [doc_id], row_type=docs.row_type(stage))
        if (row := next(rows, None)) is None:
            raise refuse(f"{stage}/{doc_id} cannot be replayed: {rows.notes[0].message}")
        return row
    try:
        index = index_of(docs.table(stage), docs.row_type(stage))
    except FileNotFoundError as error:
        raise refuse(f"{error}; materialise the table, or correct `tables` of the resource") from error
    except OSError as error:
        # The next try may succeed, so let Dagster retry.
        raise dg.Failure(f"cannot read the table of stage {stage}: {error}") from error
    if doc_id not in index:
        remedy = "materialise the table again, which updates its partitions"
        raise refuse(f"{index.file}: no row with doc id {doc_id}; {remedy}")
    return index[doc_id]


def find_policy(docs: DocsStoreResource, tags: Mapping[str, str]) -> Policy:
    """Return the policy for existing documents in a run with these tags."""
    policy = tags.get(IF_EXISTS_TAG) or ("replace" if is_replay(tags) else docs.if_exists)
    if policy not in _POLICIES:
        expected = ", ".join(_POLICIES)
        raise refuse(f"if_exists: expected {expected}, got {policy!r} (from the tag {IF_EXISTS_TAG}, or the resource)")
    return policy


@lru_cache(16)
def _open_store(root: str, stages: str | None, durability: Any) -> DocsStore:
    return DocsStore(root, stages=Stages.parse(stages) if stages else None, durability=durability)


def _check_text(text: object, source: str, row: TaskRow) -> str:
    if not isinstance(text, str):
        raise refuse(f"{source}: expected text, got {type(text).__name__} (task_id={row.task_id!r})")
    return text


def _try_parse(context: Any, parse: Callable[[str], str | None], raw: str) -> str | None:
    """Return the parsed text, or None if the parser fails: the reply is stored either way."""
    try:
        parsed = parse(raw)
        if parsed is not None:
            parsed.encode()
    except Exception as error:  # noqa: BLE001 - a parser may raise anything, or return something other than text
        context.log.warning("the parser failed, so the document has no parsed text: %r", error)
        return None
    return parsed

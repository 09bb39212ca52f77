"""The store of a pipeline's documents as a resource, and the steps that use it: partitions, tags, rows and failures."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple, get_args

import dagster as dg

from docid.core.document import Document
from docid.core.outcomes import Policy
from docid.core.stages import DEFAULT_STAGES, Stages
from docid.errors import DocidError, DocumentBusy, LineageConflict, StoreUnavailable, TaskTableError, UnreadableDocument
from docid.operations.curate.replay import replay
from docid.store.docs_store import DocsStore
from docid.store.stored import StoredDocument
from docid.tables.lookup import index_of
from docid.tables.rows import TaskRow, row_type_of
from docid.tables.tasks import TaskRows, read_tasks, stage_of_table

PARTITIONS = "_documents"  # behind the name of a stage: the name of its partitions
_POLICIES: tuple[Policy, ...] = get_args(Policy)

IF_EXISTS_TAG = "docid/if_exists"
"""A tag of a run: `replace` makes another text where a document is there, which goes to history."""

REPLAY_TAG = "docid/replay"
"""A tag of a run: `true` takes the rows from the stored documents, not the tables, and sends their prompts again."""

TASK_TAG = "docid/task_id"
"""A tag that a run gets: the task of its partition, whose key tells people nothing."""


def refuse(message: str) -> dg.Failure:
    """Return the failure of a step that would fail again in the same way, so that Dagster does not retry it."""
    return dg.Failure(message, allow_retries=False)


@contextmanager
def raise_failures() -> Iterator[None]:
    """Turn an error of docid into a failure of the step; Dagster retries it only where the store may answer later."""
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


def stage_of(partitions: dg.PartitionsDefinition | None) -> str | None:
    """Return the stage whose documents some partitions are."""
    name = getattr(partitions, "name", None)
    return name.removesuffix(PARTITIONS) if name is not None and name.endswith(PARTITIONS) else None


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


class StepContext(NamedTuple):
    """What a context says of its step: the stage and doc ids of its partitions, its run's tags, the rows it used."""

    stage: str | None
    keys: list[str]
    tags: Mapping[str, str]
    rows: dict[tuple[str, str, str], TaskRow]

    @classmethod
    def of(cls, context: Any) -> "StepContext":
        """Return the step of an asset's, an input's or an output's context."""
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


@lru_cache(8)
def _rows_of_try(*_: object) -> dict[tuple[str, str, str], TaskRow]:
    """Return the rows of a step: if the table changes meanwhile, a document keeps the parent that it was made from."""
    return {}


def is_replay(tags: Mapping[str, str]) -> bool:
    """Return whether a run with these tags is a replay; a failure where the tag is neither true nor false."""
    tag = tags.get(REPLAY_TAG, "false")
    if tag not in {"true", "false"}:
        raise refuse(f"tag {REPLAY_TAG}: expected true or false, got {tag!r}")
    return tag == "true"


class DocsStoreResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # nothing is configured beyond the fields
    """The store of a pipeline's documents, and the tables that say what they are.

    A pipeline with row types of its own overrides `row_type`.

    Attributes:
        root: the store's directory, or the URL of an object store, whose credentials come from the environment.
        tables: the directory of the task tables.
        stages: the stages in order, as `Stages.parse` takes them.
        if_exists: what becomes of a document that is there: `keep` it (a retry would give another text), `replace` it,
            or `fail` where an asset returns another text; `ensure`, which asks before there is a text, keeps it then.
            The tag `docid/if_exists` says it for one run.
        durability: as for `DocsStore`.
    """

    root: str
    tables: str = "."
    stages: str = ",".join(DEFAULT_STAGES)
    if_exists: str = "keep"
    durability: str = "full"

    def store(self) -> DocsStore:
        """Return the store, one for each process."""
        return _open_store(self.root, self.stages, self.durability)

    def row_type(self, stage: str) -> type[TaskRow]:
        """Return the class of a stage's rows."""
        return row_type_of(stage, Stages.parse(self.stages))

    def table(self, stage: str) -> str:
        """Return the path of a stage's task table; raise FileNotFoundError if there is none, or more than one."""
        found = find_table_files(self, stage)
        if len(found) != 1:
            wrong = f"{', '.join(found)}: expected one task table" if found else "no task table"
            raise FileNotFoundError(
                f"{self.tables}: {wrong} of stage {stage}; expected {stage}_tasks.csv or {stage}_generation_tasks.csv"
            )
        return os.path.join(self.tables, found[0])

    def read_tasks(self, stage: str) -> TaskRows[TaskRow]:
        """Return the rows of a stage's table, as a stream. Raises as `docid.read_tasks` and `table` do."""
        return read_tasks(self.table(stage), self.row_type(stage))

    def task(self, context: Any, doc_id: str | None = None) -> TaskRow:
        """Return the row of a step's partition: from the table, or in a replay from the stored document.

        Args:
            context: the context of an asset, or of an input or output.
            doc_id: which of the step's partitions, where it has several.

        Raises:
            dagster.Failure: there is no such row, no table, or a faulty one; or the table cannot be read.
        """
        step = StepContext.of(context)
        stage = step.named_stage
        if doc_id is None and len(step.keys) != 1:
            raise refuse(f"this step has {len(step.keys)} partitions; expected doc_id, to say which is meant")
        return load_row(self, step, stage, step.keys[0] if doc_id is None else doc_id)

    def ensure(
        self,
        context: Any,
        generate: Callable[[str], str],
        *,
        prompt: str | Callable[[], str],
        parse: Callable[[str], str | None] | None = None,
        metadata: Mapping[str, Any] | None = None,
        doc_id: str | None = None,
    ) -> StoredDocument:
        """Return the document of a step's partition, and call the model only where there is none.

        The prompt is held in memory, and stored with the reply. Where the row has a `source_doc_id`, and in a replay,
        the prompt of that document is sent instead. A step that is tried again keeps what an earlier try replaced.

        Args:
            context: the context of the asset.
            generate: is given the prompt and returns what the model wrote.
            prompt: the prompt, or what renders it.
            parse: is given what the model wrote and returns the parsed text, which children are made from; the text
                itself if not given. Where it raises, or returns anything but text, the document has no parsed text.
            metadata: the caller's keys of the record.
            doc_id: which of the step's partitions, where it has several.

        Returns:
            The stored document, to be returned from the asset; its `outcome` says what became of it.

        Raises:
            dagster.Failure: docid refuses it: the id is taken by another lineage, say, or the parent is missing.
                Nothing was written, and Dagster does not retry it, unless an object store did not answer.
        """
        row = self.task(context, doc_id)
        if doc_id is None:
            context.instance.add_run_tags(context.run.run_id, {TASK_TAG: row.task_id})
        policy, store = find_policy(self, context.run.tags), self.store()

        def make() -> Document:
            text = store.source_prompt(row)
            if text is None:
                text = prompt() if callable(prompt) else prompt
            text = _check_text(text, "prompt", row)
            raw = _check_text(generate(text), "generate", row)
            parsed = raw if parse is None else _try_parse(context, parse, raw)
            # The row of a stored document notes a run only where that alone gives its id; the document had it anyway.
            run_id = store.open(row.stage, row.doc_id).run_id if is_replay(context.run.tags) else None
            return Document.from_task(
                row, raw_text=raw, parsed_text=parsed, prompt_text=text, metadata=metadata, run_id=run_id
            )

        with raise_failures():
            # Where Dagster retries the step, the document may come from its earlier try.
            if policy == "replace" and context.retry_number and store.exists(row.stage, row.doc_id):
                created_at = store.open(row.stage, row.doc_id).created_at
                began = context.instance.get_run_record_by_id(context.run.run_id).create_timestamp
                policy = "keep" if created_at is not None and created_at >= began else policy
            return store.ensure(row, make, if_exists="replace" if policy == "replace" else "keep")


def replay_job(asset: Any, *, name: str | None = None) -> Any:
    """Return a job that makes documents again exactly: from the stored row and prompt, without the tables.

    What was there goes to history.

    Args:
        asset: the asset of a stage's documents, which has to go through `DocsStoreResource.ensure`.
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


def find_table_files(docs: DocsStoreResource, stage: str) -> list[str]:
    """Return the names of the files that are tables of a stage; there should be one."""
    stages = Stages.parse(docs.stages)
    try:
        return sorted(name for name in os.listdir(docs.tables) if stage_of_table(name, stages) == stage)
    except FileNotFoundError:
        return []


def load_row(docs: DocsStoreResource, step: StepContext, stage: str, doc_id: str) -> TaskRow:
    """Return the row of a document, the same one all through a step. Raises as `DocsStoreResource.task` does."""
    key = (docs.tables, stage, doc_id)
    if key not in step.rows:
        step.rows[key] = load_row_in_run(docs, stage, doc_id, step.tags)
    return step.rows[key]


@raise_failures()
def load_row_in_run(docs: DocsStoreResource, stage: str, doc_id: str, tags: Mapping[str, str]) -> TaskRow:
    """Return the row of a document, in a run with these tags. Raises as `DocsStoreResource.task` does."""
    if is_replay(tags):
        rows = replay(docs.store(), stage, [doc_id], row_type=docs.row_type(stage))
        if (row := next(rows, None)) is None:
            raise refuse(f"{stage}/{doc_id} cannot be replayed: {rows.notes[0].message}")
        return row
    try:
        index = index_of(docs.table(stage), docs.row_type(stage))
    except FileNotFoundError as error:
        raise refuse(f"{error}; materialise the table, or correct where the resource looks for it") from error
    except OSError as error:
        # It has refused nothing, and may be read at the next try.
        raise dg.Failure(f"the table of stage {stage} cannot be read: {error}") from error
    if doc_id not in index:
        remedy = "materialise the table again, which registers the partitions of its rows"
        raise refuse(f"{index.file} has no row with doc id {doc_id}; {remedy}")
    return index[doc_id]


def find_policy(docs: DocsStoreResource, tags: Mapping[str, str]) -> Policy:
    """Return what becomes of a document that is there, in a run with these tags."""
    policy = tags.get(IF_EXISTS_TAG) or ("replace" if is_replay(tags) else docs.if_exists)
    if policy not in _POLICIES:
        expected = ", ".join(_POLICIES)
        raise refuse(f"if_exists: expected {expected}, got {policy!r} (tag {IF_EXISTS_TAG}, or the resource)")
    return policy


@lru_cache(16)
def _open_store(root: str, stages: str, durability: Any) -> DocsStore:
    return DocsStore(root, stages=Stages.parse(stages), durability=durability)


def _check_text(text: object, source: str, row: TaskRow) -> str:
    if not isinstance(text, str):
        raise refuse(f"{source}: expected text, got {type(text).__name__} (task_id={row.task_id!r})")
    return text


def _try_parse(context: Any, parse: Callable[[str], str | None], raw: str) -> str | None:
    """Return the parsed text, or None: whatever a parser does, docid keeps what the model wrote."""
    try:
        parsed = parse(raw)
        if parsed is not None:
            parsed.encode()
    except Exception as error:  # noqa: BLE001 - a parser may raise anything, or return what is no text
        context.log.warning("stored without parsed text, as parsing failed: %r", error)
        return None
    return parsed

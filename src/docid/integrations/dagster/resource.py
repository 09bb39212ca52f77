"""The `DocsStoreResource`, and how a Dagster step finds its rows, tags and failures."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import lru_cache, partial
from itertools import islice
from typing import Any, NamedTuple, cast, get_args

import dagster as dg
from attrs import evolve, fields, frozen

from docid._text import format_count
from docid.core.document import Reply, get_source_doc_id
from docid.core.ids import is_missing
from docid.core.lineage_rules import Pin, Pins, split_name
from docid.core.outcomes import Outcome, Policy
from docid.core.stages import Stages
from docid.errors import (
    DocidError,
    DocumentBusy,
    DocumentClaimed,
    LineageConflict,
    StoreUnavailable,
    TaskTableError,
    UnreadableDocument,
    describe_error,
)
from docid.operations.curate.replay import Note, replay
from docid.store.docs_store import DocsStore
from docid.store.ensure import Attempt, Options, ensure, is_coroutine_function
from docid.store.ensured import Ensured
from docid.store.stored import StoredDocument
from docid.tables.lookup import TaskIndex, index_of
from docid.tables.rows import TaskRow, row_type_of, schema_of
from docid.tables.tasks import TaskTable, read_tasks, stage_of_table

PARTITIONS = "_documents"  # partition names are `<stage>_documents`
_POLICIES: tuple[Policy, ...] = get_args(Policy)

IF_EXISTS_TAG = "docid/if_exists"
"""A run tag that overrides `DocsStoreResource.if_exists`: `keep`, `replace` or `fail`."""

REPLAY_TAG = "docid/replay"
"""A run tag: `true` takes rows and prompts from the stored documents instead of the task tables."""

REPARSE_TAG = "docid/reparse"
"""A run tag: `true` parses stored documents without parsed text, and calls no model."""

SHOWN = 20
"""The number of failed documents that a message describes."""

TABLE_KEY = "docid/table_of_stage"
"""A key of an asset's metadata: the stage whose task table it writes."""

TASK_TAG = "docid/task_id"
"""A run tag that docid sets: the task id of the partition, since people cannot read a doc id."""


def refuse(message: str) -> dg.Failure:
    """Return a failure that Dagster does not retry, since the step would fail again."""
    return dg.Failure(message, allow_retries=False)


def is_temporary(error: BaseException) -> bool:
    """Return whether a later try may succeed: for docid's errors, only if the store was busy or unavailable."""
    if isinstance(error, DocidError):
        is_busy = isinstance(error, (DocumentBusy, DocumentClaimed))
        return is_busy or (isinstance(error, StoreUnavailable) and not error.refused)
    return not isinstance(error, dg.Failure) or error.allow_retries


def refuse_some(errors: Mapping[str, BaseException], of: int, verb: str) -> dg.Failure:
    """Return the failure of a step some of whose documents failed; `errors` are by their names."""
    others = "; the others are stored" if len(errors) < of else ""
    lines = [f"{len(errors):,} of {format_count(of, 'document')} {verb}{others}:"]
    for name, error in islice(errors.items(), SHOWN):
        text = error.description if isinstance(error, dg.Failure) else describe_error(error)
        lines.append("\n".join([f"{name}: {text}", *getattr(error, "__notes__", ())]))
    if len(errors) > SHOWN:
        lines.append(f"… and {len(errors) - SHOWN:,} more")
    can_retry = any(map(is_temporary, errors.values()))
    return dg.Failure("\n".join(lines), metadata={verb: len(errors)}, allow_retries=can_retry)


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
        can_retry = is_temporary(error)
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
        notes: what a replay could not restore, by stage and doc id.
    """

    stage: str | None
    keys: list[str]
    tags: Mapping[str, str]
    rows: dict[tuple[str, str, str], TaskRow]
    pins: dict[tuple[str, str], Pin | None]
    notes: dict[tuple[str, str], list[Note]]

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
                return cls(stage_of(partitions), keys, {}, {}, {}, {})
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
def _cache_of_try(*_: object) -> tuple[dict[Any, Any], dict[Any, Any], dict[Any, Any]]:
    """Return what one try of a step has read: rows, versions, notes. All reads in it see one row and one version."""
    return {}, {}, {}


def is_set(tags: Mapping[str, str], name: str) -> bool:
    """Return whether a tag of a run is `true`."""
    tag = tags.get(name, "false")
    if tag not in {"true", "false"}:
        raise refuse(f"tag {name}: expected true or false, got {tag!r}")
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
        prompt of that document instead. With `replace`, a retry of the step or of the run keeps the documents that an
        earlier try has written. An existing document without parsed text is parsed from its stored raw text.

        Args:
            context: the context of the asset.
            generate: calls the model: takes the prompt, returns the reply as text, or a `Reply` with its metadata.
            prompt: the prompt, or a function that renders it.
            parse: takes the reply and returns the parsed text, which child documents read; default: the reply itself.
                If it raises, or returns anything but text, docid stores the document without parsed text.
            metadata: your keys for the record. docid adds `source_doc_id` if the row has one.
            doc_id: the partition, if the step has several; `ensure_many` makes all of them at once.

        Returns:
            The stored document, for the asset to return. Its `outcome` says whether it was created, kept or replaced.

        Raises:
            dagster.Failure: docid refused the write, for example because the id belongs to another lineage or the
                parent is missing. No document is written. Dagster retries only if the store was busy or unavailable.
        """
        row = self.task(context, doc_id)
        if doc_id is None:
            context.instance.add_run_tags(context.run.run_id, {TASK_TAG: row.task_id})
        step, render = StepContext.of(context), lambda _: prompt() if callable(prompt) else prompt
        call = _Call(self, context, step, generate, render, parse, metadata)
        call.check(row)
        with raise_failures():
            done = ensure(Attempt(self.store(), row, call.make, call.options, keeps_run=True))
            call.log(done)
            return done.unwrap()

    def ensure_many(
        self,
        context: Any,
        generate: Callable[[str], str | Reply | Awaitable[str | Reply]],
        *,
        prompt: str | Callable[[TaskRow], str],
        parse: Callable[[str], str | None] | None = None,
        metadata: Mapping[str, Any] | Callable[[TaskRow], Mapping[str, Any]] | None = None,
        concurrency: int = 16,
    ) -> dict[str, StoredDocument]:
        """Do what `ensure` does for all partitions of the step, with several calls at once.

        For an asset with `backfill_policy=dg.BackfillPolicy.single_run()`. Every document that can be made is made and
        stored. So if the step fails, its next try makes only the missing ones.

        Args:
            context, parse: as for `ensure`.
            generate: as for `ensure`; a plain function, called in threads, or a coroutine function.
            prompt: the prompt, or a function that renders it from a row, called in threads.
            metadata: your keys for the records, or a function of the row.
            concurrency: the number of calls at once.

        Returns:
            The stored documents by doc id, for the asset to return.

        Raises:
            dagster.Failure: some documents could not be made; its description names them. The others are stored.
        """
        step = StepContext.of(context)
        stage, rows, failed = step.named_stage, list[TaskRow](), dict[str, BaseException]()
        render = cast("Callable[[TaskRow], str]", prompt if callable(prompt) else lambda _: prompt)
        call = _Call(self, context, step, generate, render, parse, metadata)
        for key in step.keys:
            try:
                row = load_row(self, step, stage, key)
                call.check(row)
                rows.append(row)
            except dg.Failure as failure:
                failed[key] = failure
        if failed and not rows:
            raise next(iter(failed.values()))
        with raise_failures():
            results = call.run(rows, concurrency)
        for done in results:
            if isinstance(done.error, dg.RetryRequested):  # the model asks for another try of the step
                raise done.error
            if done.error is not None:
                failed[f"{done.row.doc_id} (task_id={done.row.task_id!r})"] = done.error
        if failed:
            raise refuse_some(failed, len(step.keys), "failed") from next(iter(failed.values()))
        return {done.row.doc_id: done.unwrap() for done in results}


@frozen
class _Call:
    """The calls of the model for the rows of a step: the rules that `ensure` and `ensure_many` share."""

    docs: DocsStoreResource
    context: Any
    step: StepContext
    generate: Callable[[str], Any]
    prompt: Callable[[TaskRow], str]
    parse: Callable[[str], str | None] | None
    metadata: Mapping[str, Any] | Callable[[TaskRow], Mapping[str, Any]] | None

    @property
    def tags(self) -> Mapping[str, str]:
        tags: Mapping[str, str] = self.context.run.tags
        return tags

    def check(self, row: TaskRow) -> None:
        """Fail if the row cannot be sent to a model: what a replay could not restore, a reparse without a document."""
        name = f"{row.stage}/{row.doc_id} (task_id={row.task_id!r})"
        if is_set(self.tags, REPLAY_TAG):
            for note in self.step.notes.get((row.stage, row.doc_id), ()):
                self.context.log.warning("replay of %s: %s: %s", name, note.where, note.message)
            columns = find_model_columns(type(row))
            if columns and not any(map(row.cell, columns)):
                hint = "add it to the record with 'docid backfill --set model_id', or run the row of its table"
                raise refuse(f"{name} cannot be replayed: its record names no model ({' or '.join(columns)}); {hint}")
        if is_set(self.tags, REPARSE_TAG):
            if self.parse is None:
                raise refuse(f"{name}: the asset passes no parser to docs.ensure, so there is nothing to parse with")
            if not self.docs.store().exists(row.stage, row.doc_id):
                raise refuse(f"{name} is not in the store, so there is nothing to parse; select stored partitions")

    @property
    def options(self) -> Options:
        """The options of `DocsStore.ensure`."""
        policy = "keep" if is_set(self.tags, REPARSE_TAG) else find_policy(self.docs, self.tags)
        # The prompt may come from the inputs of the step, which Dagster has loaded before.
        pins = partial(self.step.find_pins, self.docs.store())
        return Options(
            prompt=self.render,
            metadata=self.describe,
            parse=self.parse,
            run_id=find_root_run(self.context.run),
            if_exists="replace" if policy == "replace" else "keep",
            find_pins=pins,
        )

    def render(self, row: TaskRow) -> str:
        """Return the prompt of a row, or the stored prompt of its source."""
        text = self.docs.store().source_prompt(row)
        return _check_text(self.prompt(row) if text is None else text, "prompt", row)

    def describe(self, row: TaskRow) -> Mapping[str, Any]:
        """Return the metadata of a row."""
        found = self.metadata(row) if callable(self.metadata) else self.metadata or {}
        source = get_source_doc_id(row)
        return found if is_missing(source) else {"source_doc_id": source, **found}

    def make(self, _: TaskRow, prompt: str) -> Any:
        """Call the model."""
        return self._read(self.generate(prompt))

    async def amake(self, _: TaskRow, prompt: str) -> Any:
        """Call a model whose function is a coroutine function."""
        return self._read(await self.generate(prompt))

    def _read(self, reply: Any) -> Any:
        """Return a reply; without a parser, its parsed text is its raw text."""
        if isinstance(reply, str):
            reply = Reply(reply)
        if self.parse is None and isinstance(reply, Reply) and reply.parsed_text is None:
            return evolve(reply, parsed_text=reply.raw_text)
        return reply

    def run(self, rows: list[TaskRow], concurrency: int) -> list[Ensured[TaskRow, Any]]:
        """Make the documents of many rows."""
        store, found = self.docs.store(), list[Ensured[TaskRow, Any]]()
        options = {field.name: getattr(self.options, field.name) for field in fields(Options)}
        options |= {"concurrency": concurrency, "stop_after": None}
        if is_coroutine_function(self.generate):
            stopped = threading.Event()

            async def collect() -> None:
                async with store.aensure_many(rows, self.amake, **options) as run:
                    async for done in run:
                        found.append(self.log(done))
                        if stopped.is_set():
                            break  # no new calls; those under way are stored

            # In a thread: an async asset has an event loop of its own.
            with ThreadPoolExecutor(1) as executor:
                running = executor.submit(copy_context().run, asyncio.run, collect())
                try:
                    running.result()
                except BaseException:
                    stopped.set()
                    raise
            return found
        with store.ensure_many(rows, self.make, **options) as run:
            found += map(self.log, run)
        return found

    def log(self, done: Ensured[TaskRow, Any]) -> Ensured[TaskRow, Any]:
        """Log that a reply was not parsed, or that a retry keeps a document."""
        name = f"{done.row.stage}/{done.row.doc_id} (task_id={done.row.task_id!r})"
        if done.parse_error is not None:
            self.context.log.warning("%s has no parsed text: %s", name, done.parse_error)
        elif done.outcome == Outcome.KEPT and self.options.if_exists == "replace":
            run = self.options.run_id
            self.context.log.info("%s is kept: run %s has made it; start a new run to replace it", name, run)
        return done


def find_root_run(run: Any) -> str:
    """Return the id of the first of the runs that try one thing: a retry of a run has its own id."""
    return str(run.root_run_id or run.tags.get("dagster/root_run_id") or run.run_id)


def find_model_columns(row_type: type[TaskRow]) -> list[str]:
    """Return the columns that name the model of a stage; none for a row type without them."""
    names = {column.name for column in schema_of(row_type).columns}
    own = f"{row_type.stage}_model" if f"{row_type.stage}_model" in names else "generation_model"
    return [name for name in (own, f"{own}_name") if name in names]


def reparse_job(asset: Any, *, name: str | None = None) -> Any:
    """Return a job that parses stored documents without parsed text again, with the parser of their asset.

    It calls no model. Select the partitions whose parser has failed.

    Args:
        asset: the asset of a stage's documents. It must pass `parse` to `DocsStoreResource.ensure`.
        name: the job's name; default: `reparse_<asset>`.
    """
    what = "Parses stored documents without parsed text, without calling a model."
    return _make_job(asset, name, "reparse", {REPARSE_TAG: "true"}, what)


def replay_job(asset: Any, *, name: str | None = None) -> Any:
    """Return a job that makes documents again from their stored rows and prompts, without the task tables.

    The old versions move to history.

    Args:
        asset: the asset of a stage's documents. It must use `DocsStoreResource.ensure`.
        name: the job's name; default: `replay_<asset>`.
    """
    what = "Makes documents again from their stored rows and prompts. The old versions move to history."
    return _make_job(asset, name, "replay", {REPLAY_TAG: "true"}, what)


def _make_job(asset: Any, name: str | None, kind: str, tags: dict[str, str], description: str) -> Any:
    selection = dg.AssetSelection.assets(asset)
    key = asset.key if isinstance(asset, dg.AssetsDefinition) else dg.AssetKey.from_coercible(asset)
    return dg.define_asset_job(
        name or f"{kind}_{key.to_python_identifier()}",
        selection=selection | selection.required_multi_asset_neighbors(),
        tags=tags,
        description=description,
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
        if is_set(step.tags, REPLAY_TAG):
            step.rows[key], step.notes[stage, doc_id] = _replay_row(docs, stage, doc_id)
        else:
            # The rows of all partitions at once: a table that was just written would be read for each one.
            index = _read_index(docs, stage)
            wanted = {doc_id, *(step.keys if stage == step.stage else ())}
            step.rows.update({(docs.tables, stage, each): index[each] for each in wanted if each in index})
            if key not in step.rows:
                raise _make_missing_row(index, doc_id)
    return step.rows[key]


def load_row_in_run(docs: DocsStoreResource, stage: str, doc_id: str, tags: Mapping[str, str]) -> TaskRow:
    """Return the row of a document in a run with these tags."""
    if is_set(tags, REPLAY_TAG):
        return _replay_row(docs, stage, doc_id)[0]
    index = _read_index(docs, stage)
    if doc_id not in index:
        raise _make_missing_row(index, doc_id)
    return index[doc_id]


@raise_failures()
def _replay_row(docs: DocsStoreResource, stage: str, doc_id: str) -> tuple[TaskRow, list[Note]]:
    """Return the row of a stored document, and notes on what it could not restore."""
    replayed = replay(docs.store(), stage, [doc_id], row_type=docs.row_type(stage))
    found = list(replayed)
    if not found:
        raise refuse(f"{stage}/{doc_id} cannot be replayed: {replayed.notes[0].message}")
    return found[0], [note for note in replayed.notes if note.kind == "unsaid"]


@raise_failures()
def _read_index(docs: DocsStoreResource, stage: str) -> TaskIndex:
    """Return the rows of a table by doc id."""
    try:
        return index_of(docs.table(stage), docs.row_type(stage))
    except FileNotFoundError as error:
        raise refuse(f"{error}; materialise the table, or correct `tables` of the resource") from error
    except OSError as error:
        # The next try may succeed, so let Dagster retry.
        raise dg.Failure(f"cannot read the table of stage {stage}: {error}") from error


def _make_missing_row(index: TaskIndex, doc_id: str) -> dg.Failure:
    remedy = "materialise the table again, which updates its partitions"
    return refuse(f"{index.file}: no row with doc id {doc_id}; {remedy}")


def find_policy(docs: DocsStoreResource, tags: Mapping[str, str]) -> Policy:
    """Return the policy for existing documents in a run with these tags."""
    policy = tags.get(IF_EXISTS_TAG) or ("replace" if is_set(tags, REPLAY_TAG) else docs.if_exists)
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

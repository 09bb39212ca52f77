"""Dagster: task tables as assets, documents as their partitions, all text through the store.

Needs the extra `dagster`. Described in `docs/dagster.md`.
"""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, cast

try:
    import dagster as dg
except ImportError as error:  # pragma: no cover  - tested in an environment without it
    raise ImportError("docid.dagster needs Dagster: pip install 'docid-store[dagster]'") from error

from docid.curate import replay
from docid.document import Document
from docid.errors import DocidError, LineageConflict, UnreadableDocument
from docid.findings import Finding
from docid.ids import check_doc_id
from docid.indexed import index_of
from docid.outcomes import Outcome
from docid.rows import TaskRow, row_type_of
from docid.scanning import examine
from docid.stages import DEFAULT_STAGES, Stages
from docid.store import DocsStore
from docid.stored import StoredDocument, Version
from docid.tasks import TaskRows, read_tasks, reserve_tasks, stage_of_table, write_tasks

__all__ = [
    "IF_EXISTS_TAG",
    "REPLAY_TAG",
    "TASK_TAG",
    "DocsIOManager",
    "DocsStoreResource",
    "Registered",
    "document_checks",
    "document_partitions",
    "parent_input",
    "register_partitions",
    "replay_job",
    "task_table_asset",
]

IF_EXISTS_TAG = "docid/if_exists"
"""A tag of a run: `replace` makes another text where a document is there, which goes to history."""

REPLAY_TAG = "docid/replay"
"""A tag of a run: `true` takes the rows from the stored documents, not the tables, and sends their prompts again."""

TASK_TAG = "docid/task_id"
"""A tag that a run gets: the task of its partition, whose key tells people nothing."""

_PARTITIONS = "_documents"
_POLICIES = ("fail", "keep", "replace")
_REMEMBERED = 16  # stores and directories
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
    keys: dict[str, dict[str, None]] = {}
    if isinstance(rows, TaskRows):
        keys[rows.row_type.stage] = {}
    for row in rows:
        keys.setdefault(row.stage, {})[check_doc_id(row.doc_id)] = None
    return {
        stage: _register(instance, stage, wanted, add_only=add_only, dry_run=dry_run) for stage, wanted in keys.items()
    }


def _register(
    instance: dg.DagsterInstance, stage: str, wanted: Mapping[str, None], *, add_only: bool, dry_run: bool
) -> Registered:
    name = f"{stage}{_PARTITIONS}"
    there = set(instance.get_dynamic_partitions(name))
    added = [key for key in wanted if key not in there]
    removed = [] if add_only else sorted(there - wanted.keys())
    if not dry_run:
        for start in range(0, len(added), _KEYS_AT_ONCE):
            instance.add_dynamic_partitions(name, added[start : start + _KEYS_AT_ONCE])
        for key in removed:
            instance.delete_dynamic_partition(name, key)
    return Registered(tuple(added), tuple(removed), len(there) - len(removed))


class DocsStoreResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # nothing is configured beyond the fields
    """The store of a pipeline's documents, and the tables that say what they are.

    A pipeline with row types of its own overrides `row_type`.

    Attributes:
        root: the store's directory.
        tables: the directory of the task tables.
        stages: the stages in order, as `Stages.parse` takes them.
        if_exists: what becomes of a document that is there: `keep` it (a retry would give another text), `replace` it,
            or `fail` where the text is another. The tag `docid/if_exists` says it for one run.
        durability: as for `DocsStore`.
    """

    root: str
    tables: str = "."
    stages: str = ",".join(DEFAULT_STAGES)
    if_exists: str = "keep"
    durability: str = "full"

    def store(self) -> DocsStore:
        """Return the store."""
        return _store(self.root, self.stages, self.durability)

    def row_type(self, stage: str) -> type[TaskRow]:
        """Return the class of a stage's rows."""
        return row_type_of(stage, _stages(self.stages))

    def table(self, stage: str) -> str:
        """Return the path of a stage's task table.

        Raises:
            FileNotFoundError: there is none.
        """
        try:
            changed = os.stat(self.tables).st_mtime_ns
        except FileNotFoundError:
            changed = 0
        found = _tables(self.tables, self.stages, changed).get(stage, [])
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
            dagster.Failure: there is no such row.
        """
        step = _Step.of(context)
        return self.row(step.named_stage, step.one_key if doc_id is None else doc_id, step.tags)

    def row(self, stage: str, doc_id: str, tags: Mapping[str, str]) -> TaskRow:
        """Return the row of a document, in a run with these tags. Raises as `task` does."""
        if tags.get(REPLAY_TAG) == "true":
            rows = replay(self.store(), stage, [doc_id], row_type=self.row_type(stage))
            if (row := next(rows, None)) is None:
                raise dg.Failure(f"{stage}/{doc_id} cannot be replayed: {rows.notes[0].message}", allow_retries=False)
            return row
        try:
            return index_of(self.table(stage), self.row_type(stage))[doc_id]
        except KeyError:
            problem = f"{self.table(stage)} has no row with doc id {doc_id}"
            remedy = "materialise the table again, which registers the partitions of its rows"
            raise dg.Failure(f"{problem}; {remedy}", allow_retries=False) from None

    def policy(self, tags: Mapping[str, str]) -> str:
        """Return what becomes of a document that is there, in a run with these tags."""
        policy = tags.get(IF_EXISTS_TAG) or ("replace" if tags.get(REPLAY_TAG) == "true" else self.if_exists)
        if policy not in _POLICIES:
            raise dg.Failure(
                f"if_exists: expected {', '.join(_POLICIES)}, got {policy!r} (tag {IF_EXISTS_TAG}, or the resource)",
                allow_retries=False,
            )
        return policy

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
        the prompt of that document is sent instead.

        Args:
            context: the context of the asset.
            generate: is given the prompt and returns what the model wrote.
            prompt: the prompt, or what renders it.
            parse: is given what the model wrote and returns the parsed text, which children are made from; the text
                itself if not given. Where it returns None or raises, the document is stored without parsed text, and
                the check `parts` fails.
            metadata: the caller's keys of the record.
            doc_id: which of the step's partitions, where it has several.

        Returns:
            The stored document, to be returned from the asset; its `outcome` says what became of it.

        Raises:
            dagster.Failure: the id is taken by another lineage, the parent is missing, and whatever else docid
                refuses; nothing was written, and it is not tried again.
        """
        row = self.task(context, doc_id)
        if doc_id is None:
            context.instance.add_run_tags(context.run.run_id, {TASK_TAG: row.task_id})
        policy, store = self.policy(context.run.tags), self.store()

        def make() -> Document:
            text = store.source_prompt(row)
            if text is None:
                text = prompt if isinstance(prompt, str) else prompt()
            raw = generate(text)
            parsed = raw if parse is None else _parsed(context, parse, raw)
            return Document.from_task(row, raw_text=raw, parsed_text=parsed, prompt_text=text, metadata=metadata)

        with _explained():
            return store.ensure(row, make, if_exists="replace" if policy == "replace" else "keep")


# What a resource stands for, made once a process: a resource is asked for each document.


@lru_cache(_REMEMBERED)
def _stages(text: str) -> Stages:
    return Stages.parse(text)


@lru_cache(_REMEMBERED)
def _store(root: str, stages: str, durability: Any) -> DocsStore:
    return DocsStore(root, stages=_stages(stages), durability=durability)


@lru_cache(_REMEMBERED)
def _tables(directory: str, stages: str, changed: int) -> dict[str, list[str]]:
    """Return the names of the task tables in a directory by stage; `changed`, its time, is 0 where it is not there."""
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(directory)) if changed else ():
        if (stage := stage_of_table(name, _stages(stages))) is not None:
            found.setdefault(stage, []).append(name)
    return found


def _parsed(context: Any, parse: Callable[[str], str | None], raw: str) -> str | None:
    try:
        return parse(raw)
    except Exception as error:  # noqa: BLE001 - whatever a parser raises: what the model wrote is kept
        context.log.warning("stored without parsed text, as parsing failed: %r", error)
        return None


class DocsIOManager(dg.ConfigurableIOManager):
    """Stores what an asset returns as the document of its partition, and gives a child its parent's parsed text.

    An asset of `document_partitions(stage)` returns text (which is the raw and the parsed text), a `Document`, or what
    `DocsStoreResource.ensure` returned; one with several partitions in a step returns a dict of these by doc id.

    An input is the parsed text of the document that the row's `parent_doc_id` names; a `Document` or a `StoredDocument`
    where the parameter is annotated so. An asset without partitions, or one of no child's stage, is given a dict of
    texts by doc id. With several partitions in a step the dict is by the child's doc id.

    Attributes:
        docs: the store.
    """

    docs: DocsStoreResource

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Store what an asset returned.

        Raises:
            dagster.Failure: as `DocsStoreResource.ensure`; or it is nothing that can be a document of the partition.
        """
        step = _Step.of(context)
        stage = step.named_stage
        if len(step.keys) == 1 and not isinstance(obj, dict):
            context.add_output_metadata(self._stored(step, stage, step.keys[0], obj))
            return
        if not isinstance(obj, dict) or obj.keys() != set(step.keys):
            raise dg.Failure(
                f"expected a dict with a document for each of the {len(step.keys)} partitions of this step"
            )
        outcomes = Counter(str(self._stored(step, stage, key, each)["outcome"]) for key, each in obj.items())
        context.add_output_metadata({"documents": len(obj), **outcomes})

    def _stored(self, step: "_Step", stage: str, doc_id: str, obj: Any) -> dict[str, Any]:
        """Store one document; return what people are to see of it."""
        if isinstance(obj, StoredDocument):
            sizes = obj.sizes
            outcome: str = obj.outcome or Outcome.KEPT
            path = str(obj.path)
            document: Document | StoredDocument = obj
        else:
            row = self.docs.row(stage, doc_id, step.tags)
            if isinstance(obj, str):
                obj = Document.from_task(row, raw_text=obj, parsed_text=obj)
            if not isinstance(obj, Document):
                raise dg.Failure(
                    f"{stage}/{doc_id}: the asset returned {type(obj).__name__}; expected text, a Document, or what "
                    f"DocsStoreResource.ensure returned"
                )
            document = obj
            _check_identity(document, stage, doc_id)
            with _explained():
                result = self.docs.store().write(document, if_exists=cast("Any", self.docs.policy(step.tags)))
            outcome, path = result.outcome, result.location
            sizes = {part: len(text.encode()) for part, text in document.parts().items()}
        _check_identity(document, stage, doc_id)
        return {
            "doc_id": doc_id,
            "task_id": document.task_id or "",
            "parent_doc_id": document.parent_doc_id or "",
            "path": dg.MetadataValue.path(path),
            "outcome": str(outcome),
            **{f"{part} bytes": size for part, size in sizes.items()},
        }

    def load_input(self, context: dg.InputContext) -> Any:
        """Return the text that a child is made from.

        Raises:
            dagster.Failure: the parent is not in the store, or was stored without parsed text.
        """
        step = _Step.of(context)
        upstream = _stage_of(context.asset_partitions_def) if context.has_asset_partitions else None
        store, kind = self.docs.store(), context.dagster_type.typing_type
        if upstream is None:
            raise dg.Failure(f"{context.asset_key.to_user_string()}: expected an asset of document_partitions(stage)")
        if step.stage == upstream:
            given = {key: _given(store, upstream, key, kind) for key in step.keys}
        elif step.stage is not None and store.stages.parent_of(step.stage) == upstream:
            rows = {key: self.docs.row(step.stage, key, step.tags) for key in step.keys}
            given = {key: _given(store, upstream, row.parent_doc_id, kind) for key, row in rows.items()}
        else:
            return {key: _given(store, upstream, key, kind) for key in context.asset_partition_keys}
        return given[step.keys[0]] if len(given) == 1 else given


def _given(store: DocsStore, stage: str, doc_id: str | None, kind: Any) -> Any:
    with _explained():
        document = store.open(stage, check_doc_id(doc_id or "", "parent_doc_id"))
        if kind is StoredDocument:
            return document
        if kind is Document:
            return document.read()
        text = document.parsed_text
    if text is None:
        raise dg.Failure(
            f"{stage}/{doc_id} (task_id={document.task_id!r}) has no parsed text, so nothing can be made from it; "
            f"mend its parser and store.add_part, or run it again with the tag {IF_EXISTS_TAG}=replace",
            allow_retries=False,
        )
    return text


def _check_identity(document: Document | StoredDocument, stage: str, doc_id: str) -> None:
    if (document.stage, document.doc_id) != (stage, doc_id):
        raise dg.Failure(
            f"the asset returned the document {document.stage}/{document.doc_id}; expected that of its partition, "
            f"{stage}/{doc_id}",
            allow_retries=False,
        )


class _explained:  # noqa: N801 - a context manager
    """Turns what docid refuses into a failure of the step that people can act on, and that is not tried again."""

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
        raise dg.Failure(str(error), metadata=facts, allow_retries=False) from error


class _Step(NamedTuple):
    """What a context says of its step: the stage and the doc ids of its partitions, and the tags of its run."""

    stage: str | None
    keys: list[str]
    tags: Mapping[str, str]

    @classmethod
    def of(cls, context: Any) -> "_Step":
        if isinstance(context, dg.OutputContext):
            return cls._of_output(context)
        of_input = isinstance(context, dg.InputContext)
        step = context.step_context if of_input else context.get_step_execution_context()
        partitions = None if step.assets_def is None else step.assets_def.partitions_def
        return cls(_stage_of(partitions), _keys_of(step, partitions), step.dagster_run.tags)

    @classmethod
    def _of_output(cls, context: dg.OutputContext) -> "_Step":
        """Return the same by what is public of an output, which a test can build."""
        try:
            tags = context.step_context.dagster_run.tags
        except dg.DagsterInvariantViolationError:
            tags = {}
        if not context.has_asset_partitions:
            return cls(None, [], tags)
        return cls(_stage_of(context.asset_partitions_def), list(context.asset_partition_keys), tags)

    @property
    def named_stage(self) -> str:
        if self.stage is None:
            raise dg.Failure(
                "this asset has no documents as partitions; expected partitions_def=document_partitions(…)"
            )
        return self.stage

    @property
    def one_key(self) -> str:
        if len(self.keys) != 1:
            raise dg.Failure(f"this step has {len(self.keys)} partitions; expected doc_id, to say which is meant")
        return self.keys[0]


def _keys_of(step: Any, partitions: dg.PartitionsDefinition | None) -> list[str]:
    if partitions is None or not step.has_partitions:
        return []
    span = step.partition_key_range
    if span.start == span.end:
        return [span.start]
    # A range of a backfill that is one run: dynamic partitions have the order in which they were added.
    keys = list(step.instance.get_dynamic_partitions(getattr(partitions, "name", "")))
    return keys[keys.index(span.start) : keys.index(span.end) + 1]


def _stage_of(partitions: dg.PartitionsDefinition | None) -> str | None:
    name = getattr(partitions, "name", None)
    return name.removesuffix(_PARTITIONS) if name is not None and name.endswith(_PARTITIONS) else None


# --- tables ----------------------------------------------------------------------------------------------------


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
        parents = None if row_type.parent_stage is None else docs.read_tasks(row_type.parent_stage)
        os.makedirs(docs.tables, exist_ok=True)
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


# --- checks ----------------------------------------------------------------------------------------------------

_CHECKS = {
    "lineage": "the document is of the row's task and parent",
    "parent": "the document's parent is in the store, in its stage",
    "parts": "every part is there as its record says, and the text was parsed",
    "record": "the document is in the store, and its record can be read",
}
_OF_PARTS = frozenset({"torn-document", "hash-mismatch", "unlisted-file"})


def document_checks(
    stage: str,
    asset: Any = None,
    *,
    parsed: bool = True,
    verify: bool = True,
    blocking: bool = False,
    resource: str = "docs",
) -> dg.AssetChecksDefinition:
    """Return the checks of a stage's documents, of the partitions of a run: `lineage`, `parent`, `parts`, `record`.

    They find what an audit does, with the same codes.

    Args:
        stage: the stage.
        asset: the asset of its documents, or its key; the stage's name if not given.
        parsed: a document without parsed text fails `parts`.
        verify: compare the SHA-256 of every part with its record's.
        blocking: assets downstream in the same run wait for the checks, and are not made where one fails.
        resource: the key of the `DocsStoreResource`.
    """
    of = dg.AssetKey([stage]) if asset is None else asset
    with warnings.catch_warnings():
        # Checks of single partitions are a preview in Dagster 1.13. Without them a check says nothing of any but the
        # last partition that was run.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        specs = [
            dg.AssetCheckSpec(
                name, asset=of, description=text, blocking=blocking, partitions_def=document_partitions(stage)
            )
            for name, text in _CHECKS.items()
        ]

    @dg.multi_asset_check(
        name=f"{stage}_document_checks", specs=specs, required_resource_keys={resource}, can_subset=True
    )
    def checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        docs: DocsStoreResource = getattr(context.resources, resource)
        step = context.get_step_execution_context()
        keys, tags = _keys_of(step, document_partitions(stage)), step.dagster_run.tags
        found = [each for key in keys for each in _look(docs, stage, key, tags, parsed=parsed, verify=verify)]
        for key in sorted(context.selected_asset_check_keys):
            wrong = [each for each in found if each.check == key.name]
            is_error = any(each.level == "error" for each in wrong)
            yield dg.AssetCheckResult(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=not wrong,
                severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
                description="; ".join(each.message for each in wrong[:_SHOWN]) or None,
                metadata={"documents": len(keys), "codes": sorted({each.code for each in wrong})},
            )

    return checks


_SHOWN = 10  # findings of one check


class _Wrong(NamedTuple):
    """Something that is wrong with a document: the check that it fails, its code and level, and what to say of it."""

    check: str
    code: str
    message: str
    level: str = "error"


def _look(
    docs: DocsStoreResource, stage: str, doc_id: str, tags: Mapping[str, str], *, parsed: bool, verify: bool
) -> Iterator[_Wrong]:
    """Look at one document; yield what is wrong with it."""
    store = docs.store()
    found = list(examine(store.backend, stage, doc_id, verify=verify, older_than=0))
    for each in found:
        if isinstance(each, Finding):
            yield _Wrong("parts" if each.code in _OF_PARTS else "record", each.code, str(each), each.level)
    version = next((each for each in found if isinstance(each, Version)), None)
    if version is None:
        if not found:
            yield _Wrong("record", "missing-document", f"{store.path(stage, doc_id)}: not in the store; run its asset")
        return
    row, document = docs.row(stage, doc_id, tags), StoredDocument(version)
    where = f"{document.path} (task_id={row.task_id!r})"
    if version.record.same_lineage(row.task_id, row.parent_doc_id) is False:
        holds = f"holds task_id={document.task_id!r}, parent_doc_id={document.parent_doc_id!r}"
        message = (
            f"{where}: {holds}; the row says parent_doc_id={row.parent_doc_id!r}: correct it, or reserve another id"
        )
        yield _Wrong("lineage", "lineage-conflict", message)
    parent_stage, parent = store.stages.parent_of(stage), document.parent_doc_id or row.parent_doc_id
    if parent_stage is not None and (parent is None or not store.exists(parent_stage, parent)):
        yield _Wrong("parent", "missing-parent", f"{where}: its parent {parent_stage}/{parent} is not in the store")
    if parsed and "parsed" not in document.sizes:
        message = f"{where}: the reply was not parsed; mend the parser and store.add_part, or run it again"
        yield _Wrong("parts", "parsed-missing", message)


def replay_job(asset: Any, *, name: str | None = None) -> Any:
    """Return a job that makes documents again exactly: from the stored row and prompt, without the tables.

    Its partitions are those of the asset. Each is made again with `if_exists="replace"`; the text that was there goes
    to history. The asset has to go through `DocsStoreResource.ensure`, which sends the stored prompt.

    Args:
        asset: the asset of a stage's documents.
        name: the job's name; `replay_<asset>` if not given.
    """
    selection = dg.AssetSelection.assets(asset)
    key = asset.key if isinstance(asset, dg.AssetsDefinition) else dg.AssetKey(asset)
    return dg.define_asset_job(
        name or f"replay_{key.to_python_identifier()}",
        selection=selection | selection.required_multi_asset_neighbors(),
        tags={REPLAY_TAG: "true"},
        description="Makes documents again from their stored rows and prompts; what was there goes to history.",
    )

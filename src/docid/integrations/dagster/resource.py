"""The store of a pipeline's documents, as a resource."""

import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, get_args

import dagster as dg

from docid.core.document import Document
from docid.core.outcomes import Policy
from docid.core.stages import DEFAULT_STAGES, Stages
from docid.integrations.dagster.steps import IF_EXISTS_TAG, TASK_TAG, Step, explained, is_replay, refused
from docid.operations.curate.replay import replay
from docid.store.docs_store import DocsStore
from docid.store.stored import StoredDocument
from docid.tables.lookup import index_of
from docid.tables.rows import TaskRow, row_type_of
from docid.tables.tasks import TaskRows, read_tasks, stage_of_table

__all__ = ["DocsStoreResource", "policy_of", "row_in_run", "row_of", "tables_of"]

_POLICIES: tuple[Policy, ...] = get_args(Policy)
_REMEMBERED = 16  # stores and directories


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
        found = tables_of(self, stage)
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
            dagster.Failure: there is no such row, no table, or a faulty one, and it is not tried again; or the table
                cannot be read.
        """
        step = Step.of(context)
        return row_of(self, step, step.named_stage, step.one_key if doc_id is None else doc_id)

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
                itself if not given. Where it raises, or returns anything but text, the document is stored without
                parsed text, and the check `parts` fails.
            metadata: the caller's keys of the record.
            doc_id: which of the step's partitions, where it has several.

        Returns:
            The stored document, to be returned from the asset; its `outcome` says what became of it.

        Raises:
            dagster.Failure: the id is taken by another lineage, the parent is missing, and whatever else docid
                refuses; nothing was written, and it is not tried again, unless an object store did not answer.
        """
        row = self.task(context, doc_id)
        if doc_id is None:
            context.instance.add_run_tags(context.run.run_id, {TASK_TAG: row.task_id})
        policy, store = policy_of(self, context.run.tags), self.store()

        def make() -> Document:
            text = store.source_prompt(row)
            if text is None:
                text = prompt() if callable(prompt) else prompt
            if not isinstance(text, str):
                raise refused(f"prompt: expected text, got {type(text).__name__} (task_id={row.task_id!r})")
            raw = generate(text)
            if not isinstance(raw, str):
                raise refused(f"generate: expected text, got {type(raw).__name__} (task_id={row.task_id!r})")
            parsed = raw if parse is None else _parsed(context, parse, raw)
            # The row of a stored document notes a run only where that alone gives its id; the document had it anyway.
            run_id = store.open(row.stage, row.doc_id).run_id if is_replay(context.run.tags) else None
            return Document.from_task(
                row, raw_text=raw, parsed_text=parsed, prompt_text=text, metadata=metadata, run_id=run_id
            )

        with explained():
            replace = policy == "replace" and not _is_of_this_run(context, store, row)
            return store.ensure(row, make, if_exists="replace" if replace else "keep")


# What the other parts of the integration ask of a resource.


def tables_of(docs: DocsStoreResource, stage: str) -> list[str]:
    """Return the names of the files that are tables of a stage; there should be one."""
    try:
        changed = os.stat(docs.tables).st_mtime_ns
    except FileNotFoundError:
        changed = 0
    return _tables(docs.tables, docs.stages, changed).get(stage, [])


def row_of(docs: DocsStoreResource, step: Step, stage: str, doc_id: str) -> TaskRow:
    """Return the row of a document, the same one all through a step. Raises as `DocsStoreResource.task` does."""
    key = (docs.tables, stage, doc_id)
    if key not in step.rows:
        step.rows[key] = row_in_run(docs, stage, doc_id, step.tags)
    return step.rows[key]


def row_in_run(docs: DocsStoreResource, stage: str, doc_id: str, tags: Mapping[str, str]) -> TaskRow:
    """Return the row of a document, in a run with these tags. Raises as `DocsStoreResource.task` does."""
    with explained():
        if is_replay(tags):
            rows = replay(docs.store(), stage, [doc_id], row_type=docs.row_type(stage))
            if (row := next(rows, None)) is None:
                raise refused(f"{stage}/{doc_id} cannot be replayed: {rows.notes[0].message}")
            return row
        try:
            index = index_of(docs.table(stage), docs.row_type(stage))
        except FileNotFoundError as error:
            raise refused(f"{error}; materialise the table, or correct where the resource looks for it") from error
        except OSError as error:
            # It has refused nothing, and may be read at the next try.
            raise dg.Failure(f"the table of stage {stage} cannot be read: {error}") from error
        if doc_id not in index:
            problem = f"{index.file} has no row with doc id {doc_id}"
            remedy = "materialise the table again, which registers the partitions of its rows"
            raise refused(f"{problem}; {remedy}")
        return index[doc_id]


def policy_of(docs: DocsStoreResource, tags: Mapping[str, str]) -> Policy:
    """Return what becomes of a document that is there, in a run with these tags."""
    policy = tags.get(IF_EXISTS_TAG) or ("replace" if is_replay(tags) else docs.if_exists)
    if policy not in _POLICIES:
        raise refused(
            f"if_exists: expected {', '.join(_POLICIES)}, got {policy!r} (tag {IF_EXISTS_TAG}, or the resource)"
        )
    return policy


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
    """Return the parsed text, or None: whatever a parser does, what the model wrote is kept."""
    try:
        parsed = parse(raw)
        if parsed is not None:
            parsed.encode()
    except Exception as error:  # noqa: BLE001 - a parser may raise anything, or return what is no text
        context.log.warning("stored without parsed text, as parsing failed: %r", error)
        return None
    return parsed


def _is_of_this_run(context: Any, store: DocsStore, row: TaskRow) -> bool:
    """Return whether an earlier try of a step that is tried again made the document that is there."""
    if not context.retry_number or not store.exists(row.stage, row.doc_id):
        return False
    created_at = store.open(row.stage, row.doc_id).created_at
    began = context.instance.get_run_record_by_id(context.run.run_id).create_timestamp
    return created_at is not None and created_at >= began

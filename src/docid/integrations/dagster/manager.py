"""The IO manager: stores asset outputs as documents, and loads parent texts for child assets."""

import typing
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

import dagster as dg
from attrs import evolve

from docid._text import format_count
from docid.core.document import Document
from docid.core.ids import check_doc_id
from docid.core.lineage_rules import find_differences, split_name
from docid.core.outcomes import Outcome
from docid.integrations.dagster.resource import (
    REPARSE_TAG,
    TABLE_KEY,
    DocsStoreResource,
    StepContext,
    find_policy,
    is_set,
    load_row,
    raise_failures,
    refuse,
    refuse_some,
    stage_of,
)
from docid.store.docs_store import DocsStore
from docid.store.stored import StoredDocument
from docid.tables.rows import TaskRow


class DocsIOManager(dg.ConfigurableIOManager):
    """Stores the output of an asset as the document of its partition, and loads the parent's text for a child asset.

    An asset with `document_partitions(stage)` returns text (stored as raw and parsed text), a `Document`, or the result
    of `DocsStoreResource.ensure`. For a step with several partitions it returns a dict of these by doc id.

    A parameter is the parsed text of the document that `parent_doc_id` names. Annotate it with `Document` or
    `StoredDocument` to get that instead. The parameter named `inputs` is a list of the documents that `input_doc_ids`
    names, of any stage. A step with several partitions gets a dict by the child's doc id. Annotate the parameter with a
    dict to always get one, since a range of partitions can consist of one. An asset without partitions, or of a stage
    that is not a child, gets a dict by the upstream doc ids. If the upstream asset is a `task_table_asset`, the
    parameter is a list of its rows, or the annotated kind of data frame.
    """

    docs: DocsStoreResource

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Store the output of an asset; fail if it is not the document of its partition, or docid refuses it."""
        step = StepContext.of(context)
        stage = step.named_stage
        if len(step.keys) == 1 and not isinstance(obj, dict):
            context.add_output_metadata(self._put(step, stage, step.keys[0], obj))
            return
        if not isinstance(obj, dict):
            partitions = format_count(len(step.keys), "partition")
            raise refuse(f"expected the asset to return a dict with one document per partition ({partitions})")
        outcomes: Counter[str] = Counter()
        refused: dict[str, BaseException] = {}
        for key in step.keys:
            try:
                if key not in obj:
                    raise refuse("the asset returned no document of this partition; expected one for each")  # noqa: TRY301 - as the others
                outcomes[str(self._put(step, stage, key, obj[key])["outcome"])] += 1
            except Exception as error:  # noqa: BLE001 - the other documents are stored all the same
                refused[key] = error
        for key in obj.keys() - set(step.keys):
            refused[repr(key)] = refuse("not a partition of this step; expected only documents of its partitions")
        if refused:
            raise refuse_some(refused, len(obj.keys() | set(step.keys)), "refused") from next(iter(refused.values()))
        context.add_output_metadata({"documents": len(obj), **outcomes})

    @raise_failures()
    def _put(self, step: StepContext, stage: str, doc_id: str, obj: Any) -> dict[str, Any]:
        """Store one document; return the metadata of its materialization."""
        store, row = self.docs.store(), load_row(self.docs, step, stage, doc_id)
        document, location = _read_returned(obj, row), store.location(stage, doc_id)
        if isinstance(document, Document):
            if is_set(step.tags, REPARSE_TAG):
                name = f"{stage}/{doc_id} (task_id={row.task_id!r})"
                raise refuse(f"{name}: a run with the tag {REPARSE_TAG} stores no new text; expected docs.ensure")
            pins = step.find_pins(store, row)
            document = evolve(document, pins={**pins, **document.pins})
            outcome = store.write(document, if_exists=find_policy(self.docs, step.tags)).outcome
            sizes = store.open(stage, doc_id).sizes
        elif document.location == location:
            outcome, sizes = document.outcome or Outcome.KEPT, document.sizes
        else:
            name = f"{stage}/{doc_id} (task_id={row.task_id!r})"
            raise refuse(f"{name}: the asset returned the document at {document.location}; expected {location}")
        return {
            "doc_id": doc_id,
            "task_id": document.task_id or "",
            "parent_doc_id": document.parent_doc_id or "",
            **({"inputs": " ".join(document.inputs)} if document.inputs else {}),
            "path": dg.MetadataValue.url(location) if "://" in location else dg.MetadataValue.path(location),
            "outcome": str(outcome),
            **({"not restored": ", ".join(unsaid)} if (unsaid := _list_unsaid(step, stage, doc_id)) else {}),
            **{f"{part} bytes": size for part, size in sizes.items()},
        }

    def load_input(self, context: dg.InputContext) -> Any:
        """Load the parent document of a child asset; fail if it is not in the store, or has no parsed text."""
        table = (context.upstream_output.definition_metadata if context.upstream_output else {}).get(TABLE_KEY)
        if table is not None:
            return self._load_table(str(table), context.dagster_type.typing_type)
        step = StepContext.of(context)
        upstream = stage_of(context.asset_partitions_def) if context.has_asset_partitions else None
        if upstream is None:
            asset = context.asset_key.to_user_string()
            raise refuse(
                f"asset {asset} has no document partitions; expected partitions_def=document_partitions(stage)"
            )
        store = self.docs.store()
        kind, is_dict = _read_annotation(context.dagster_type.typing_type)
        if context.has_input_name and context.name == "inputs" and step.stage is not None:
            return self._load_inputs(step, step.stage, store, kind, is_dict=is_dict)
        if step.stage == upstream:
            ids: dict[str, str | None] = {key: key for key in step.keys}
        elif step.stage is not None and store.stages.parent_of(step.stage) == upstream:
            ids = {key: load_row(self.docs, step, step.stage, key).parent_doc_id for key in step.keys}
        else:
            ids = {key: key for key in context.asset_partition_keys}
            is_dict = True
        values = {key: _load(step, store, upstream, doc_id, kind) for key, doc_id in ids.items()}
        return values if is_dict or len(values) != 1 else values[step.keys[0]]

    @raise_failures()
    def _load_table(self, stage: str, kind: Any) -> Any:
        """Load a task table: its rows, or a data frame of the annotated library."""
        rows = list(self.docs.read_tasks(stage))
        library = str(getattr(kind, "__module__", "")).partition(".")[0]
        if library not in {"pandas", "polars", "pyarrow"}:
            return rows
        from docid.integrations.frames import tasks_to_frame  # noqa: PLC0415 - an extra

        return tasks_to_frame(rows, row_type=self.docs.row_type(stage), backend=cast("Any", library))

    def _load_inputs(self, step: StepContext, stage: str, store: DocsStore, kind: Any, *, is_dict: bool) -> Any:
        """Load the documents that the rows of a step name in `input_doc_ids`: a list for each row."""
        rows = {key: load_row(self.docs, step, stage, key) for key in step.keys}
        values = {
            key: [_load(step, store, *split_name(name), kind) for name in row.input_doc_ids]
            for key, row in rows.items()
        }
        return values if is_dict or len(values) != 1 else values[step.keys[0]]


def _list_unsaid(step: StepContext, stage: str, doc_id: str) -> list[str]:
    """Return the columns of a row that a replay could not restore."""
    return [note.where.removeprefix("column ") for note in step.notes.get((stage, doc_id), ())]


def _read_annotation(annotation: Any) -> tuple[Any, bool]:
    """Return the annotated type of each document, and whether the annotation is a dict of them."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) in {dict, Mapping} and len(arguments) > 1:
        return _read_annotation(arguments[1])[0], True
    kinds = [each for each in arguments if each in {Document, StoredDocument}]
    return (kinds[0] if kinds else annotation), annotation in {dict, Mapping}


@raise_failures()
def _load(
    step: StepContext, store: DocsStore, stage: str, doc_id: str | None, kind: Any
) -> StoredDocument | Document | str:
    """Load a document as a `StoredDocument` or a `Document`, or its parsed text for any other `kind`.

    The step notes its version, so that the record of a child names the version that the child was made from.
    """
    document = store.open(stage, check_doc_id(doc_id or "", "parent_doc_id"))
    step.pins.setdefault((stage, document.doc_id), document.pin)
    if kind is StoredDocument:
        return document
    if kind is Document:
        return document.read()
    if (text := document.parsed_text) is None:
        raise refuse(
            f"{stage}/{doc_id} (task_id={document.task_id!r}) has no parsed text, which its child needs; fix the "
            "parser and materialise it again, which parses the stored reply"
        )
    return text


def _read_returned(obj: Any, row: TaskRow) -> Document | StoredDocument:
    """Return an asset's output as a document; refuse one whose name or lineage differs from the row."""
    if isinstance(obj, str):
        return Document.from_task(row, raw_text=obj, parsed_text=obj)
    name = f"{row.stage}/{row.doc_id} (task_id={row.task_id!r})"
    if not isinstance(obj, Document | StoredDocument):
        expected = "text, a Document, or the result of DocsStoreResource.ensure"
        raise refuse(f"{name}: the asset returned {type(obj).__name__}; expected {expected}")
    differences = [key for key in ("stage", "doc_id") if getattr(obj, key) != getattr(row, key)]
    # A Document from a legacy record may lack lineage. The store then refuses it.
    legacy = isinstance(obj, Document) or obj.legacy
    for key in differences + find_differences(obj, row, legacy=legacy):
        raise refuse(
            f"{name}: the asset returned the document {obj.stage}/{obj.doc_id} with {key}={getattr(obj, key)!r}; "
            f"expected {getattr(row, 'input_doc_ids' if key == 'inputs' else key)!r}, as in the row of its partition"
        )
    return obj

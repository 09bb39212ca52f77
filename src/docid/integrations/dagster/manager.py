"""The IO manager: stores what assets return as documents, and gives children the texts of their parents."""

import typing
from collections import Counter
from collections.abc import Mapping
from typing import Any

import dagster as dg

from docid.core.document import Document
from docid.core.ids import check_doc_id
from docid.core.lineage_rules import find_differences
from docid.core.outcomes import Outcome
from docid.integrations.dagster.resource import (
    IF_EXISTS_TAG,
    DocsStoreResource,
    StepContext,
    find_policy,
    load_row,
    raise_failures,
    refuse,
    stage_of,
)
from docid.store.docs_store import DocsStore
from docid.store.stored import StoredDocument
from docid.tables.rows import TaskRow


class DocsIOManager(dg.ConfigurableIOManager):
    """Stores what an asset returns as the document of its partition, and gives a child its parent's parsed text.

    An asset of `document_partitions(stage)` returns text (which is the raw and the parsed text), a `Document`, or what
    `DocsStoreResource.ensure` returned; one with several partitions in a step returns a dict of these by doc id.

    An input is the parsed text of the document that the row's `parent_doc_id` names; a `Document` or a `StoredDocument`
    where the parameter is annotated so. An asset without partitions, or one of no child's stage, is given a dict of
    texts by doc id. With several partitions in a step the dict is by the child's doc id, and so it is with one where
    the parameter is annotated as a dict: a range of partitions may end with one.
    """

    docs: DocsStoreResource

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Store what an asset returned; a failure where that is no document of its partition, or docid refuses it."""
        step = StepContext.of(context)
        stage = step.named_stage
        if len(step.keys) == 1 and not isinstance(obj, dict):
            context.add_output_metadata(self._put(step, stage, step.keys[0], obj))
            return
        if not isinstance(obj, dict) or obj.keys() != set(step.keys):
            raise refuse(f"expected a dict with a document for each of the {len(step.keys)} partitions of this step")
        outcomes = Counter(str(self._put(step, stage, key, each)["outcome"]) for key, each in obj.items())
        context.add_output_metadata({"documents": len(obj), **outcomes})

    @raise_failures()
    def _put(self, step: StepContext, stage: str, doc_id: str, obj: Any) -> dict[str, Any]:
        """Store one document; return the metadata of its materialization."""
        store, row = self.docs.store(), load_row(self.docs, step, stage, doc_id)
        document, location = _read_returned(obj, row), store.location(stage, doc_id)
        if isinstance(document, Document):
            outcome = store.write(document, if_exists=find_policy(self.docs, step.tags)).outcome
            sizes = store.open(stage, doc_id).sizes
        elif document.location == location:
            outcome, sizes = document.outcome or Outcome.KEPT, document.sizes
        else:
            raise refuse(f"the asset returned {document.location}; expected {location}")
        return {
            "doc_id": doc_id,
            "task_id": document.task_id or "",
            "parent_doc_id": document.parent_doc_id or "",
            "path": dg.MetadataValue.url(location) if "://" in location else dg.MetadataValue.path(location),
            "outcome": str(outcome),
            **{f"{part} bytes": size for part, size in sizes.items()},
        }

    def load_input(self, context: dg.InputContext) -> Any:
        """Return what a child is made from; a failure where its parent is not in the store, or has no parsed text."""
        step = StepContext.of(context)
        upstream = stage_of(context.asset_partitions_def) if context.has_asset_partitions else None
        if upstream is None:
            raise refuse(f"{context.asset_key.to_user_string()}: expected an asset of document_partitions(stage)")
        store = self.docs.store()
        kind, is_dict = _read_annotation(context.dagster_type.typing_type)
        if step.stage == upstream:
            ids: dict[str, str | None] = {key: key for key in step.keys}
        elif step.stage is not None and store.stages.parent_of(step.stage) == upstream:
            ids = {key: load_row(self.docs, step, step.stage, key).parent_doc_id for key in step.keys}
        else:
            ids = {key: key for key in context.asset_partition_keys}
            is_dict = True
        values = {key: _load(store, upstream, doc_id, kind) for key, doc_id in ids.items()}
        return values if is_dict or len(values) != 1 else values[step.keys[0]]


def _read_annotation(annotation: Any) -> tuple[Any, bool]:
    """Return the type that a parameter's annotation asks for each document, and whether it asks for a dict of them."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) in {dict, Mapping} and len(arguments) > 1:
        return _read_annotation(arguments[1])[0], True
    kinds = [each for each in arguments if each in {Document, StoredDocument}]
    return (kinds[0] if kinds else annotation), annotation in {dict, Mapping}


@raise_failures()
def _load(store: DocsStore, stage: str, doc_id: str | None, kind: Any) -> StoredDocument | Document | str:
    """Return a document as the type that is asked for; its parsed text where that is neither class of documents."""
    document = store.open(stage, check_doc_id(doc_id or "", "parent_doc_id"))
    if kind is StoredDocument:
        return document
    if kind is Document:
        return document.read()
    if (text := document.parsed_text) is None:
        raise refuse(
            f"{stage}/{doc_id} (task_id={document.task_id!r}) has no parsed text, so nothing can be made from it; "
            f"mend its parser and store.add_part, or run it again with the tag {IF_EXISTS_TAG}=replace"
        )
    return text


def _read_returned(obj: Any, row: TaskRow) -> Document | StoredDocument:
    """Return what an asset returned as a document; refuse one of another name or lineage than its row."""
    if isinstance(obj, str):
        return Document.from_task(row, raw_text=obj, parsed_text=obj)
    name = f"{row.stage}/{row.doc_id}"
    if not isinstance(obj, Document | StoredDocument):
        expected = "text, a Document, or what DocsStoreResource.ensure returned"
        raise refuse(f"{name}: the asset returned {type(obj).__name__}; expected {expected}")
    others = [key for key in ("stage", "doc_id") if getattr(obj, key) != getattr(row, key)]
    # An asset may have read a Document from an older system's record: the store refuses it where it lacks lineage.
    legacy = isinstance(obj, Document) or obj.legacy
    for key in others + find_differences(obj, row, legacy=legacy):
        raise refuse(
            f"the asset returned the document {obj.stage}/{obj.doc_id} with {key}={getattr(obj, key)!r}; expected "
            f"{getattr(row, key)!r}, as in the row of its partition, {name} (task_id={row.task_id!r})"
        )
    return obj

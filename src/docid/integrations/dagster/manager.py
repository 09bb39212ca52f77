"""The IO manager: what assets return becomes documents, and children are given their parents' texts."""

import typing
from collections import Counter
from collections.abc import Mapping
from typing import Any

import dagster as dg

from docid.core.document import Document
from docid.core.ids import check_doc_id
from docid.core.outcomes import Outcome
from docid.integrations.dagster.partitions import stage_of
from docid.integrations.dagster.resource import DocsStoreResource, policy_of, row_of
from docid.integrations.dagster.steps import IF_EXISTS_TAG, Step, explained, refused
from docid.store.docs_store import DocsStore
from docid.store.stored import StoredDocument
from docid.tables.rows import TaskRow

__all__ = ["DocsIOManager"]


class DocsIOManager(dg.ConfigurableIOManager):
    """Stores what an asset returns as the document of its partition, and gives a child its parent's parsed text.

    An asset of `document_partitions(stage)` returns text (which is the raw and the parsed text), a `Document`, or what
    `DocsStoreResource.ensure` returned; one with several partitions in a step returns a dict of these by doc id.

    An input is the parsed text of the document that the row's `parent_doc_id` names; a `Document` or a `StoredDocument`
    where the parameter is annotated so. An asset without partitions, or one of no child's stage, is given a dict of
    texts by doc id. With several partitions in a step the dict is by the child's doc id, and so it is with one where
    the parameter is annotated as a dict: a range of partitions may end with one.

    Attributes:
        docs: the store.
    """

    docs: DocsStoreResource

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Store what an asset returned.

        Raises:
            dagster.Failure: as `DocsStoreResource.ensure`; or it is nothing that can be a document of the partition.
        """
        step = Step.of(context)
        stage = step.named_stage
        if len(step.keys) == 1 and not isinstance(obj, dict):
            context.add_output_metadata(self._stored(step, stage, step.keys[0], obj))
            return
        if not isinstance(obj, dict) or obj.keys() != set(step.keys):
            raise refused(f"expected a dict with a document for each of the {len(step.keys)} partitions of this step")
        outcomes = Counter(str(self._stored(step, stage, key, each)["outcome"]) for key, each in obj.items())
        context.add_output_metadata({"documents": len(obj), **outcomes})

    def _stored(self, step: Step, stage: str, doc_id: str, obj: Any) -> dict[str, Any]:
        """Store one document; return what people are to see of it."""
        row, store = row_of(self.docs, step, stage, doc_id), self.docs.store()
        with explained():
            document = _document_of(row, obj)
            _check_lineage(document, row)
            if isinstance(document, Document):
                result = store.write(document, if_exists=policy_of(self.docs, step.tags))
                outcome, path = str(result.outcome), result.location
                sizes = store.open(stage, doc_id).sizes if outcome == Outcome.KEPT else _sizes(document)
            else:
                if document.location != store.location(stage, doc_id):
                    raise refused(f"the asset returned {document.location}; expected {store.location(stage, doc_id)}")
                outcome, path, sizes = str(document.outcome or Outcome.KEPT), document.location, document.sizes
        return {
            "doc_id": doc_id,
            "task_id": document.task_id or "",
            "parent_doc_id": document.parent_doc_id or "",
            "path": dg.MetadataValue.url(path) if "://" in path else dg.MetadataValue.path(path),
            "outcome": outcome,
            **{f"{part} bytes": size for part, size in sizes.items()},
        }

    def load_input(self, context: dg.InputContext) -> Any:
        """Return the text that a child is made from.

        Raises:
            dagster.Failure: the parent is not in the store, or was stored without parsed text.
        """
        step = Step.of(context)
        upstream = stage_of(context.asset_partitions_def) if context.has_asset_partitions else None
        if upstream is None:
            raise refused(f"{context.asset_key.to_user_string()}: expected an asset of document_partitions(stage)")
        store = self.docs.store()
        kind, is_dict = _kind_of(context.dagster_type.typing_type)
        if step.stage == upstream:
            ids: dict[str, str | None] = {key: key for key in step.keys}
        elif step.stage is not None and store.stages.parent_of(step.stage) == upstream:
            ids = {key: row_of(self.docs, step, step.stage, key).parent_doc_id for key in step.keys}
        else:
            ids = {key: key for key in context.asset_partition_keys}
            is_dict = True
        given = {key: _given(store, upstream, doc_id, kind) for key, doc_id in ids.items()}
        return given if is_dict or len(given) != 1 else given[step.keys[0]]


def _kind_of(annotation: Any) -> tuple[Any, bool]:
    """Return what each document is to be given as, by a parameter's annotation, and whether that asks for a dict."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) in {dict, Mapping} and len(arguments) > 1:
        return _kind_of(arguments[1])[0], True
    kinds = [each for each in arguments if each in {Document, StoredDocument}]
    return (kinds[0] if kinds else annotation), annotation in {dict, Mapping}


def _given(store: DocsStore, stage: str, doc_id: str | None, kind: Any) -> Any:
    with explained():
        document = store.open(stage, check_doc_id(doc_id or "", "parent_doc_id"))
        if kind is StoredDocument:
            return document
        if kind is Document:
            return document.read()
        text = document.parsed_text
    if text is None:
        raise refused(
            f"{stage}/{doc_id} (task_id={document.task_id!r}) has no parsed text, so nothing can be made from it; "
            f"mend its parser and store.add_part, or run it again with the tag {IF_EXISTS_TAG}=replace"
        )
    return text


def _document_of(row: TaskRow, obj: Any) -> Document | StoredDocument:
    if isinstance(obj, str):
        return Document.from_task(row, raw_text=obj, parsed_text=obj)
    if isinstance(obj, Document | StoredDocument):
        return obj
    raise refused(
        f"{row.stage}/{row.doc_id}: the asset returned {type(obj).__name__}; expected text, a Document, or what "
        f"DocsStoreResource.ensure returned"
    )


def _check_lineage(document: Document | StoredDocument, row: TaskRow) -> None:
    """Refuse a document that is not its row's; lineage that an older system's record does not say is no difference."""
    for what in ("stage", "doc_id", "task_id", "parent_doc_id"):
        got, expected = getattr(document, what), getattr(row, what)
        if got != expected and got is not None:
            raise refused(
                f"the asset returned the document {document.stage}/{document.doc_id} with {what}={got!r}; expected "
                f"{expected!r}, as in the row of its partition, {row.stage}/{row.doc_id} (task_id={row.task_id!r})"
            )


def _sizes(document: Document) -> dict[str, int]:
    return {part: len(text.encode()) for part, text in document.parts().items()}

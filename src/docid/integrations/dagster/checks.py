"""What the audit finds, as asset checks of single documents."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import dagster as dg

from docid.core.findings import Finding
from docid.core.lineage_rules import is_same_lineage
from docid.integrations.dagster.partitions import document_partitions
from docid.integrations.dagster.resource import DocsStoreResource, row_in_run
from docid.integrations.dagster.steps import keys_of
from docid.store.scanning import examine
from docid.store.stored import StoredDocument

__all__ = ["document_checks"]

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

    They find what an audit does, with the same codes, and have three of their own: `missing-document` (of `record`: it
    is not in the store), `missing-row` (of `lineage`: its table has no row for it, is not there or cannot be used) and
    `parsed-missing` (of `parts`: it was stored without parsed text).

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

    key_of_asset = specs[0].asset_key

    @dg.multi_asset_check(
        name=f"{key_of_asset.to_python_identifier()}_document_checks",
        specs=specs,
        required_resource_keys={resource},
        can_subset=True,
    )
    def checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult | dg.AssetCheckEvaluation]:
        docs: DocsStoreResource = getattr(context.resources, resource)
        step = context.get_step_execution_context()
        keys, tags = keys_of(step, document_partitions(stage)), step.dagster_run.tags
        found = {key: list(_look(docs, stage, key, tags, parsed=parsed, verify=verify)) for key in keys}
        for key in sorted(context.selected_asset_check_keys):
            of_check = {doc_id: [each for each in wrong if each.check == key.name] for doc_id, wrong in found.items()}
            if len(keys) > 1:
                # The result below is of the whole range; people ask what is wrong with one document.
                for doc_id, wrong in of_check.items():
                    yield dg.AssetCheckEvaluation(
                        asset_key=key.asset_key, check_name=key.name, partition=doc_id, **_told(wrong, 1)
                    )
            whole = [each for wrong in of_check.values() for each in wrong]
            yield dg.AssetCheckResult(asset_key=key.asset_key, check_name=key.name, **_told(whole, len(keys)))

    return checks


def _told(wrong: "list[_Wrong]", documents: int) -> dict[str, Any]:
    is_error = any(each.level == "error" for each in wrong)
    codes: Any = sorted({each.code for each in wrong})
    return {
        "passed": not wrong,
        "severity": dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
        "description": "; ".join(each.message for each in wrong[:_SHOWN]) or None,
        "metadata": {"documents": dg.MetadataValue.int(documents), "codes": dg.MetadataValue.json(codes)},
    }


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
    found = list(examine(store.backend, stage, doc_id, verify=verify, stale_after=0))
    for each in found:
        if isinstance(each, Finding):
            yield _Wrong("parts" if each.code in _OF_PARTS else "record", each.code, str(each), each.level)
    document = next((each for each in found if isinstance(each, StoredDocument)), None)
    if document is None:
        if not found:
            yield _Wrong(
                "record", "missing-document", f"{store.location(stage, doc_id)}: not in the store; run its asset"
            )
        return
    where = f"{document.location} (task_id={document.task_id!r})"
    try:
        row = row_in_run(docs, stage, doc_id, tags)
    except dg.Failure as failure:
        row = None
        yield _Wrong("lineage", "missing-row", f"{where}: {failure.description}")
    if row is not None and is_same_lineage(document.facts, row.task_id, row.parent_doc_id) is False:
        holds = f"holds task_id={document.task_id!r}, parent_doc_id={document.parent_doc_id!r}"
        says = f"the row says task_id={row.task_id!r}, parent_doc_id={row.parent_doc_id!r}"
        message = f"{document.location}: {holds}; {says}: correct it, or reserve another id"
        yield _Wrong("lineage", "lineage-conflict", message)
    parent_stage, parent = (
        store.stages.parent_of(stage),
        document.parent_doc_id or (None if row is None else row.parent_doc_id),
    )
    if parent_stage is not None and (parent is None or not store.exists(parent_stage, parent)):
        yield _Wrong("parent", "missing-parent", f"{where}: its parent {parent_stage}/{parent} is not in the store")
    if parsed and "parsed" not in document.sizes:
        message = f"{where}: the reply was not parsed; mend the parser and store.add_part, or run it again"
        yield _Wrong("parts", "parsed-missing", message)

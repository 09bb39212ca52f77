"""Asset checks for single documents: audit findings as Dagster check results."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import dagster as dg

from docid.core.findings import LEVELS, Finding
from docid.core.lineage_rules import describe_lineage, is_same_lineage, split_name
from docid.integrations.dagster.partitions import document_partitions
from docid.integrations.dagster.resource import DocsStoreResource, list_keys, load_row_in_run
from docid.store.ancestry import find_changed_sources
from docid.store.docs_store import DocsStore
from docid.store.scanning import examine, try_load
from docid.store.stored import StoredDocument

_CHECKS = {
    "lineage": "the document has the task and the parent of its row",
    "parent": "the document's parent is in the store",
    "parts": "every part matches the record, and the reply was parsed",
    "record": "the document is in the store, and its record is readable",
}
_CHECK_OF_CODE = {
    "hash-mismatch": "parts",
    "lineage-conflict": "lineage",
    "missing-parent": "parent",
    "missing-row": "lineage",
    "parsed-missing": "parts",
    "torn-document": "parts",
    "unlisted-file": "parts",
}  # all other codes fail `record`
_OWN_LEVELS = {"missing-document": "error", "missing-row": "error", "parsed-missing": "error"}


def document_checks(
    stage: str,
    asset: Any = None,
    *,
    parsed: bool = True,
    verify: bool = True,
    blocking: bool = False,
    resource: str = "docs",
) -> dg.AssetChecksDefinition:
    """Return four checks for each document of a stage: `lineage`, `parent`, `parts` and `record`.

    They report audit findings under the audit's codes, and three codes of their own: `missing-document` (check
    `record`), `missing-row` (check `lineage`; no usable row in the task table) and `parsed-missing` (check `parts`).

    Args:
        stage: the stage.
        asset: the stage's asset, or its key; default: the asset named like the stage.
        parsed: fail `parts` for a document without parsed text.
        verify: compare the SHA-256 of every part with the record.
        blocking: downstream assets in the same run wait for the checks and are skipped if one fails.
        resource: the key of the `DocsStoreResource`.
    """
    key = dg.AssetKey([stage]) if asset is None else asset
    partitions = document_partitions(stage)
    with warnings.catch_warnings():
        # Partitioned checks are a preview in Dagster 1.13. Without them it keeps the last partition's result only.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        specs = [
            dg.AssetCheckSpec(name, asset=key, description=text, blocking=blocking, partitions_def=partitions)
            for name, text in _CHECKS.items()
        ]

    @dg.multi_asset_check(
        name=f"{specs[0].asset_key.to_python_identifier()}_document_checks",
        specs=specs,
        required_resource_keys={resource},
        can_subset=True,
    )
    def checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult | dg.AssetCheckEvaluation]:
        docs: DocsStoreResource = getattr(context.resources, resource)
        step = context.get_step_execution_context()
        tags = step.dagster_run.tags
        faults = {
            key: list(find_faults(docs, stage, key, tags, parsed=parsed, verify=verify))
            for key in list_keys(step, partitions)
        }
        for check in sorted(context.selected_asset_check_keys):
            of_check = {
                doc_id: [fault for fault in found if _CHECK_OF_CODE.get(fault.code, "record") == check.name]
                for doc_id, found in faults.items()
            }
            if len(of_check) > 1:
                # The result below covers the whole range. Users also want a result per document.
                for doc_id, found in of_check.items():
                    yield dg.AssetCheckEvaluation(partition=doc_id, **_describe(check, found, documents=1))
            of_range = list(chain.from_iterable(of_check.values()))
            yield dg.AssetCheckResult(**_describe(check, of_range, documents=len(of_check)))

    return checks


def _describe(check: dg.AssetCheckKey, faults: Sequence[Finding], *, documents: int) -> dict[str, Any]:
    """Return the fields of a check's result."""
    is_error = any((LEVELS | _OWN_LEVELS)[fault.code] == "error" for fault in faults)
    codes: Any = sorted({fault.code for fault in faults})
    return {
        "asset_key": check.asset_key,
        "check_name": check.name,
        "passed": not faults,
        "severity": dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
        "description": "; ".join(map(str, faults[:10])) or None,
        "metadata": {"documents": dg.MetadataValue.int(documents), "codes": dg.MetadataValue.json(codes)},
    }


def find_faults(
    docs: DocsStoreResource, stage: str, doc_id: str, tags: Mapping[str, str], *, parsed: bool, verify: bool
) -> Iterator[Finding]:
    """Check one document against its row, in a run with these tags, and yield the findings."""
    store = docs.store()
    found = list(examine(store.backend, stage, doc_id, verify=verify, stale_after=0))
    yield from (each for each in found if isinstance(each, Finding))
    document = next((each for each in found if isinstance(each, StoredDocument)), None)
    if document is None:
        if not found:
            where = store.location(stage, doc_id)
            hint = "materialise its partition"
            yield Finding("missing-document", stage, doc_id, None, where, "not in the store", hint)
        return
    about = (stage, doc_id, document.task_id, document.location)
    try:
        row = load_row_in_run(docs, stage, doc_id, tags)
    except dg.Failure as failure:
        row = None
        yield Finding("missing-row", *about, str(failure.description), "")
    parent_stage, parent = store.stages.parent_of(stage), document.parent_doc_id
    if row is not None:
        if is_same_lineage(document.facts, row.task_id, row.parent_doc_id, row.input_doc_ids) is False:
            stored = f"the document has {describe_lineage(document)}"
            expected = f"the row has {describe_lineage(row)}"
            hint = "correct the row, or reserve another id"
            yield Finding("lineage-conflict", *about, f"{stored}; {expected}", hint)
        parent = parent or row.parent_doc_id
    if parent_stage is not None and (parent is None or not store.exists(parent_stage, parent)):
        missing = f"its parent {parent_stage}/{parent} is not in the store"
        message = "parent_doc_id is empty" if parent is None else missing
        yield Finding("missing-parent", *about, message, "write the parent first, or correct parent_doc_id")
    yield from _check_sources(store, document)
    if parsed and "parsed" not in document.sizes:
        hint = "fix the parser and materialise it again, which parses the stored reply"
        yield Finding("parsed-missing", *about, "the reply was not parsed", hint)


def _check_sources(store: DocsStore, document: StoredDocument) -> Iterator[Finding]:
    """Yield a finding for each missing input, and for a parent and inputs that are another version now."""
    about = (document.stage, document.doc_id, document.task_id, document.location)
    for name in document.inputs:
        stage, doc_id = split_name(name)
        if stage not in store.stages or not store.exists(stage, doc_id):
            message = f"its input {name} is not in the store"
            yield Finding("missing-input", *about, message, "write the input first, or correct input_doc_ids")
    for changed in find_changed_sources(document, store.stages, partial(try_load, store.backend)):
        yield changed.to_finding(document.location)

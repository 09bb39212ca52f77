"""Asset checks of single documents: the findings of the audit, as results of Dagster."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import dagster as dg

from docid.core.findings import LEVELS, Finding
from docid.core.lineage_rules import is_same_lineage
from docid.integrations.dagster.partitions import document_partitions
from docid.integrations.dagster.resource import DocsStoreResource, list_keys, load_row_in_run
from docid.store.scanning import examine
from docid.store.stored import StoredDocument

_CHECKS = {
    "lineage": "the document is of the row's task and parent",
    "parent": "the document's parent is in the store, in its stage",
    "parts": "every part is there as its record says, and the text was parsed",
    "record": "the document is in the store, and its record can be read",
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
    """Return the checks of a stage's documents: `lineage`, `parent`, `parts`, `record`, for each partition of a run.

    They report the findings of an audit, with its codes, and three of their own: `missing-document` (of `record`),
    `missing-row` (of `lineage`: its table has no row for it, or cannot be used) and `parsed-missing` (of `parts`).

    Args:
        stage: the stage.
        asset: the asset of its documents, or its key; the stage's name if not given.
        parsed: a document without parsed text fails `parts`.
        verify: compare the SHA-256 of every part with its record's.
        blocking: assets downstream in the same run wait for the checks, and are not made where one fails.
        resource: the key of the `DocsStoreResource`.
    """
    of = dg.AssetKey([stage]) if asset is None else asset
    partitions = document_partitions(stage)
    with warnings.catch_warnings():
        # A preview in Dagster 1.13, without which it keeps only the result of the last partition that ran.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        specs = [
            dg.AssetCheckSpec(name, asset=of, description=text, blocking=blocking, partitions_def=partitions)
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
                # The result below is of the whole range; people ask what is wrong with one document.
                for doc_id, found in of_check.items():
                    yield dg.AssetCheckEvaluation(partition=doc_id, **_describe(check, found, documents=1))
            of_range = list(chain.from_iterable(of_check.values()))
            yield dg.AssetCheckResult(**_describe(check, of_range, documents=len(of_check)))

    return checks


def _describe(check: dg.AssetCheckKey, faults: Sequence[Finding], *, documents: int) -> dict[str, Any]:
    """Return the values of a check's result, where it found these faults in so many documents."""
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
    """Look at one document and its row, in a run with these tags; yield what is wrong with it."""
    store = docs.store()
    found = list(examine(store.backend, stage, doc_id, verify=verify, stale_after=0))
    yield from (each for each in found if isinstance(each, Finding))
    document = next((each for each in found if isinstance(each, StoredDocument)), None)
    if document is None:
        if not found:
            where = store.location(stage, doc_id)
            yield Finding("missing-document", stage, doc_id, None, where, "not in the store", "run its asset")
        return
    about = (stage, doc_id, document.task_id, document.location)
    try:
        row = load_row_in_run(docs, stage, doc_id, tags)
    except dg.Failure as failure:
        row = None
        yield Finding("missing-row", *about, str(failure.description), "")
    parent_stage, parent = store.stages.parent_of(stage), document.parent_doc_id
    if row is not None:
        if is_same_lineage(document.facts, row.task_id, row.parent_doc_id) is False:
            holds = f"holds task_id={document.task_id!r}, parent_doc_id={parent!r}"
            says = f"the row says task_id={row.task_id!r}, parent_doc_id={row.parent_doc_id!r}"
            yield Finding("lineage-conflict", *about, f"{holds}; {says}", "correct the row, or reserve another id")
        parent = parent or row.parent_doc_id
    if parent_stage is not None and (parent is None or not store.exists(parent_stage, parent)):
        message = f"its parent {parent_stage}/{parent} is not in the store"
        yield Finding("missing-parent", *about, message, "make the parent first, or name the one that is meant")
    if parsed and "parsed" not in document.sizes:
        hint = "mend the parser and store.add_part, or run it again"
        yield Finding("parsed-missing", *about, "the reply was not parsed", hint)

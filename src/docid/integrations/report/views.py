"""What notebooks show of documents, stores, audits and writes: HTML without script, in the colours of the notebook."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any

from docid.core.document import is_too_deep, timestamp
from docid.core.findings import LABELS
from docid.errors import DocidError
from docid.integrations.report.markup import element, head, name, number, row, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from docid.core.document import Document
    from docid.core.outcomes import WriteResult
    from docid.operations.auditing import AuditReport
    from docid.store.docs_store import DocsStore
    from docid.store.stored import StoredDocument

__all__ = ["audit_view", "document_view", "store_view", "stored_view", "write_view"]

_SHOWN = 2_000  # characters of a text
_DEEPEST = 200  # lists and dicts in each other
_FINDINGS = 20  # of each code
_COUNTED = 10_000  # documents of a stage
_ASKED = 1_000  # the same of a home that is asked over a network: one request

# Colours are those of the notebook, light or dark: what stands out does so by its weight, and lines are faint.
_BOX = "border:1px solid color-mix(in srgb, currentColor 25%, transparent);border-radius:4px;padding:.6em .8em;"
_PRE = "white-space:pre-wrap;overflow-wrap:anywhere;max-height:24em;overflow:auto;margin:.4em 0;text-align:start;"
_CELL = "text-align:start;vertical-align:top;"


def _box(title: str, *content: str) -> str:
    heading = element("div", title, style="font-weight:600;margin-bottom:.4em;")
    return element("div", heading, *content, style=_BOX)


def _table(lines: Iterable[tuple[str, str]]) -> str:
    rows = (
        element("tr", element("th", text(key), scope="row", style=_CELL), element("td", value, style=_CELL))
        for key, value in lines
    )
    return element("table", *rows)


def _folded(summary: str, content: str, *, is_open: bool = False) -> str:
    opened = {"open": ""} if is_open else {}
    return element("details", element("summary", summary), content, **opened)


def _part(part: str, content: str, *, is_open: bool) -> str:
    """Return one text: its beginning, folded."""
    size = len(content)
    shown = content[:_SHOWN]
    more = "" if size <= _SHOWN else element("div", f"… and {number(size - _SHOWN)} characters more")
    body = element("pre", text(shown), dir="auto", style=_PRE) + more
    return _folded(f"{part} ({number(size)} characters)", body, is_open=is_open)


def _parts(parts: Mapping[str, str]) -> Iterator[str]:
    """Return the texts of a document: the parsed one open, the raw one where nothing was parsed."""
    shown = "parsed" if "parsed" in parts else "raw"
    return (_part(part, content, is_open=part == shown) for part, content in parts.items())


def _metadata(metadata: Mapping[str, Any]) -> str:
    if not metadata:
        return ""
    if is_too_deep(metadata, _DEEPEST):
        return element("div", "metadata: nested too deeply to be shown")
    shown = json.dumps(metadata, ensure_ascii=False, indent=2)
    return _part("metadata", shown, is_open=False)


def _facts(document: Document | StoredDocument) -> str:
    created = document.created_at
    facts = {
        "task_id": document.task_id,
        "parent_doc_id": document.parent_doc_id,
        "run_id": document.run_id,
        "created_at": None if created is None else timestamp(created),
    }
    return _table((key, name(value)) for key, value in facts.items() if value is not None)


def _heading(kind: str, stage: str, doc_id: str, note: str = "") -> str:
    return f"{kind} {name(f'{stage}/{doc_id}')}{f' · {note}' if note else ''}"


def document_view(document: Document) -> str:
    """Return what a notebook shows of a `Document`."""
    title = _heading("Document", document.stage, document.doc_id)
    return _box(title, _facts(document), *_parts(document.parts()), _metadata(document.metadata))


def stored_view(document: StoredDocument) -> str:
    """Return what a notebook shows of a `StoredDocument`; its texts are read for it."""
    note = "" if document.outcome is None else text(str(document.outcome))
    title = _heading("StoredDocument", document.stage, document.doc_id, note)
    where = _table([("location", name(document.location))])
    try:
        parts = document.read().parts()
    except (DocidError, OSError) as error:
        problem = element("div", f"cannot be read: {text(str(error))}", role="alert")
        return _box(title, _facts(document), where, problem, _metadata(document.metadata))
    return _box(title, _facts(document), where, *_parts(parts), _metadata(document.metadata))


def write_view(result: WriteResult) -> str:
    """Return what a notebook shows of a `WriteResult`."""
    notes = []
    if result.metadata_differs:
        notes.append(("metadata", "differs from what is stored; if_exists='replace' writes it"))
    if result.missing_parts:
        notes.append(("missing parts", f"{text(', '.join(result.missing_parts))}: store.add_part adds them"))
    title = _heading("WriteResult", result.stage, result.doc_id, text(str(result.outcome)))
    return _box(title, _table([("location", name(result.location)), *notes]))


def store_view(store: DocsStore) -> str:
    """Return what a notebook shows of a `DocsStore`: its stages, and how many documents they have."""
    rows = [head(["stage", "made from", "documents"])]
    rows += [
        row([name(stage), name(store.stages.parent_of(stage) or "—"), _count(store, stage)], texts=2)
        for stage in store.stages
    ]
    return _box(f"DocsStore {name(store.root)}", element("table", *rows))


def _count(store: DocsStore, stage: str) -> str:
    most = _ASKED if store.backend.loads_whole else _COUNTED
    try:
        count = sum(1 for _ in islice(store.ids(stage), most + 1))
    except (DocidError, OSError) as error:
        return f"cannot be listed: {text(str(error))}"
    return f"more than {number(most)}" if count > most else number(count)


def audit_view(report: AuditReport) -> str:
    """Return what a notebook shows of an `AuditReport`: what was counted, and the first findings of each code."""
    summary = report.summary()
    state = "no errors" if report.ok else f"{number(summary['errors'])} errors"
    title = f"AuditReport · {state}, {number(summary['warnings'])} warnings"
    header = ["stage", *LABELS.values()]
    rows = [head(header)]
    rows += [row([name(stage), *map(number, facts)], texts=1) for stage, facts in report.stages.items()]
    by_code = []
    for code, of_code in report.by_code().items():
        count, found = len(of_code), of_code[:_FINDINGS]
        lines = [head(["where", "task", "what is wrong", "what to do"])]
        for each in found:
            cells = [name(each.where), name(each.task_id or "—"), text(each.message), text(each.hint)]
            lines.append(row(cells, texts=4))
        if count > _FINDINGS:
            lines.append(row([f"… and {number(count - _FINDINGS)} more", "", "", ""], texts=4))
        level = found[0].level
        by_code.append(_folded(f"{text(code)} ({level}): {number(count)}", element("table", *lines)))
    return _box(title, element("table", *rows), *by_code)

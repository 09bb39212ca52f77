"""Collect the data of the report page: the records, and texts up to the page's limits."""

from __future__ import annotations

import contextlib
import os
from heapq import nsmallest
from math import isfinite
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import orjson

from docid._text import escape_surrogates
from docid.core.document import PART_FILES, timestamp
from docid.core.findings import Finding
from docid.core.metadata import is_too_deep
from docid.errors import DocidError
from docid.store.backends.local.backend import LocalBackend
from docid.store.stored import StoredDocument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docid.core.document import Part
    from docid.core.findings import Progress
    from docid.store.docs_store import DocsStore

    Row = dict[str, Any]  # a document, in the form that page.js reads

_STRIDE = 1_000  # items between two calls of `progress`
_LONGEST = 10_000  # characters of a name or a metadata value


class Limits(NamedTuple):
    """The limits of a report page. `Limits(texts=20_000_000)` changes one of them.

    Attributes:
        documents: the number of documents.
        records: the size of all metadata and hashes, in bytes.
        texts: the size of all texts on the page, in bytes.
        text: the size of one text or one record, in bytes.
    """

    documents: int = 50_000
    records: int = 12_000_000
    texts: int = 5_000_000
    text: int = 100_000


def gather(
    store: DocsStore, directory: str | None, limits: Limits, progress: Progress | None
) -> tuple[dict[str, Any], dict[str, int]]:
    """Read every record of a store once, then texts up to the limits.

    Return the data for page.js, and the counts of `Page`. Unreadable documents are included as far as their record is
    readable; the audit reports the fault.
    """
    stages: list[dict[str, Any]] = []
    rows: list[tuple[str, Row]] = []
    total, room = 0, limits.records
    for number, stage in enumerate(store.stages):
        # Each stage gets an equal share of the remaining room.
        share = (limits.documents - len(rows)) // (len(store.stages) - number)
        of_stage, count = _load_documents(store, stage, share, progress)
        total += count
        rows += [(stage, row) for row in of_stage]
        for row in of_stage:
            room -= _cut_record(row, min(room, limits.text))
        before, _, after = store.location(stage, "0").rpartition("0")
        stages.append(
            {
                "name": stage,
                "parent": store.stages.parent_of(stage),
                "documents": of_stage,
                "before": _make_exact(before),
                "after": after,
                # Only the local backend has files to link.
                "link": _make_link(before, directory) if isinstance(store.backend, LocalBackend) else None,
            }
        )
    counts = {
        "documents": total,
        "shown": len(rows),
        "texts": _add_texts(store, rows, limits, progress),
        "texts_there": sum(size is not None for _, row in rows for size in row["sizes"]),
    }
    return {"parts": list(PART_FILES.values()), "stages": stages, "isCut": len(rows) < total}, counts


def report_progress(progress: Progress | None, what: str, done: int) -> None:
    """Call `progress` every thousand items."""
    if progress is not None and done % _STRIDE == 0:
        progress(what, done, None)


def _load_documents(store: DocsStore, stage: str, room: int, progress: Progress | None) -> tuple[list[Row], int]:
    """Return the first documents of a stage, sorted by task id, and the number of documents in the stage."""
    total = 0

    def load() -> Iterator[Row]:
        nonlocal total
        for found in store.scan(stage):
            if isinstance(found, Finding) and not (found.doc_id and found.level == "error"):
                continue
            row = _make_row(found) if isinstance(found, StoredDocument) else _make_broken_row(store, found)
            total += 1
            report_progress(progress, f"records of stage {stage}", total)
            yield {key: _make_exact(value) for key, value in row.items() if value is not None}

    # `nsmallest(0, …)` would not read the stage, and so not count it.
    first = nsmallest(max(room, 1), load(), key=lambda row: (row.get("task", ""), row["id"]))[:room]
    # A scan can yield a document twice if another process replaces it during the scan.
    return list({row["id"]: row for row in first}.values()), total


def _make_row(document: StoredDocument) -> Row:
    hashes = {} if document.legacy else document.record["files"]
    sizes = document.sizes
    row: Row = {
        "id": document.doc_id,
        "task": document.task_id,
        "parent": document.parent_doc_id,
        "inputs": list(document.inputs) or None,
        "run": document.run_id,
        "created": None if document.created_at is None else timestamp(document.created_at),
        "sizes": [sizes.get(part) for part in PART_FILES],
        "sha256": [hashes.get(name, {}).get("sha256") for name in PART_FILES.values()] if hashes else None,
        "metadata": document.metadata or None,
        "legacy": document.legacy or None,
    }
    # orjson refuses deeper metadata.
    return row | {"metadata": None, "cut": True} if is_too_deep(document.metadata, 200) else row


def _make_broken_row(store: DocsStore, finding: Finding) -> Row:
    row: Row = {"id": finding.doc_id, "broken": True, "sizes": [None] * len(PART_FILES)}
    with contextlib.suppress(DocidError, OSError):
        record = store.open(finding.stage, finding.doc_id)
        row |= {"task": record.task_id, "parent": record.parent_doc_id}
    return row


def _make_exact(value: Any) -> Any:
    """Return a JSON value that a browser reads without loss: large integers and non-finite numbers become text."""
    if isinstance(value, dict):
        return {_make_exact(key): _make_exact(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_make_exact(each) for each in value]
    if isinstance(value, str):
        return escape_surrogates(value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…")
    if isinstance(value, float) and not isfinite(value):
        return str(value)  # from a legacy record
    return str(value) if isinstance(value, int) and abs(value) > 2**53 else value


def _cut_record(row: Row, room: int) -> int:
    """Return the size of a record in bytes; if it exceeds `room`, drop its contents, and the page links the record."""
    size = len(orjson.dumps([row.get("metadata"), row.get("sha256")]))
    if size <= room:
        return size
    for key in ("metadata", "sha256"):
        row.pop(key, None)
    row["cut"] = True
    return 0


def _add_texts(store: DocsStore, rows: list[tuple[str, Row]], limits: Limits, progress: Progress | None) -> int:
    """Add texts to their documents up to the limits, prompts last; return their number."""
    waves: list[list[Part]] = [["raw", "parsed"], ["prompt"]]
    room, count = limits.texts, 0

    def find_fitting(parts: list[Part]) -> Iterator[tuple[str, Row, list[Part]]]:
        for stage, row in rows:
            sizes = dict(zip(PART_FILES, row["sizes"], strict=True))
            known: list[Part] = [part for part in parts if sizes[part] is not None]
            fitting: list[Part] = [part for part in known if sizes[part] <= min(room, limits.text)]
            if fitting:
                yield stage, row, fitting

    def read(item: tuple[str, Row, list[Part]]) -> tuple[Row, dict[Part, str]]:
        stage, row, parts = item
        with contextlib.suppress(DocidError, OSError):  # removed or damaged since the scan
            document = store.open(stage, row["id"])
            return row, {part: text for part in parts if (text := document.text(part)) is not None}
        return row, {}

    for parts in waves:
        for row, texts in store.backend.each(read, find_fitting(parts)):
            for part, text in texts.items():
                size = len(orjson.dumps(text))  # the page escapes some characters, so this can exceed the stored size
                if size <= room:
                    row.setdefault("texts", {})[part] = text
                    room -= size
                    count += 1
                    report_progress(progress, "texts", count)
    return count


def _make_link(path: str, directory: str | None) -> str:
    """Return a link to a directory, relative to the page's directory if possible."""
    absolute = os.path.abspath(path)
    try:
        relative = os.path.relpath(absolute, os.path.abspath(directory)) if directory is not None else None
    except ValueError:  # pragma: no cover  - Windows: another drive
        relative = None
    if relative is None:
        return PurePath(absolute).as_uri() + "/"
    # Without "./" a browser reads "a:b/" as a URL with the scheme "a".
    return "./" + quote(os.fsencode(relative.replace(os.sep, "/"))) + "/"

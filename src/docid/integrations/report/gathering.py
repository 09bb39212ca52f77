"""What stands on the page: documents with their records, and as many of their texts as there is room for."""

from __future__ import annotations

import contextlib
import os
from heapq import nsmallest
from math import isfinite
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import orjson

from docid._text import utf8
from docid.core.document import PART_FILES, timestamp
from docid.core.metadata import is_too_deep
from docid.errors import DocidError
from docid.store.backends.local.backend import LocalBackend
from docid.store.stored import StoredDocument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from docid.core.document import Part
    from docid.core.findings import Finding, Progress
    from docid.store.docs_store import DocsStore

__all__ = ["Documents", "Limits", "gather"]

_DEEPEST = 200  # lists and dicts in each other
_STRIDE = 1_000  # so often progress is told
_LONGEST = 10_000  # characters of a name, and of a value in metadata
_EXACT = 2**53  # whole numbers past this a browser rounds


class Limits(NamedTuple):
    """How much of a store a page holds; `Limits(texts=20_000_000)` changes one.

    Attributes:
        documents: how many documents.
        records: bytes of their metadata and hashes.
        texts: bytes of their texts, as they stand on the page.
        text: bytes of one text, and of one record.
    """

    documents: int = 50_000
    records: int = 12_000_000
    texts: int = 5_000_000
    text: int = 100_000


class Documents(NamedTuple):
    """The documents of a store, as the page holds them.

    Attributes:
        data: what the script of the page reads.
        there: how many documents there are, by stage, also those that there was no room for.
        shown: how many of them the page holds.
        texts: how many texts it holds, of how many.
    """

    data: dict[str, Any]
    there: dict[str, int]
    shown: int
    texts: tuple[int, int]


class _Stage(NamedTuple):
    rows: list[dict[str, Any]]
    there: int


def gather(store: DocsStore, directory: str | None, limits: Limits, progress: Progress | None) -> Documents:
    """Go through a store once, and then through the texts of those documents that there is room for.

    What cannot be used is among them, as far as its record says; the audit tells what is wrong with it.

    Args:
        store: the store.
        directory: where the page will be, from which its links start; None for links from the root.
        limits: how much it holds.
        progress: as for `audit`.
    """
    stages: dict[str, _Stage] = {}
    left = limits.documents
    for number, stage in enumerate(store.stages):
        # Each has its share of the room that those before it have left.
        stages[stage] = _stage(store, stage, left // (len(store.stages) - number), progress)
        left -= len(stages[stage].rows)
    shown = limits.documents - left
    _cut_records([row for each in stages.values() for row in each.rows], limits)
    texts = _texts(store, stages, limits, progress)
    data = {
        "parts": list(PART_FILES.values()),
        "stages": [
            {
                "name": stage,
                "parent": store.stages.parent_of(stage),
                "documents": each.rows,
                **_places(store, stage, directory),
            }
            for stage, each in stages.items()
        ],
    }
    return Documents(data, {stage: each.there for stage, each in stages.items()}, shown, texts)


def _stage(store: DocsStore, stage: str, room: int, progress: Progress | None) -> _Stage:
    """Return the documents of a stage, in the order of their tasks, as many as there is room for."""
    there = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal there
        for found in store.scan(stage):
            row = _row(found) if isinstance(found, StoredDocument) else _broken(store, found)
            if row is not None:
                there += 1
                if progress is not None and there % _STRIDE == 0:
                    progress(f"records of stage {stage}", there, None)
                yield row

    first = nsmallest(room, rows(), key=lambda each: (each.get("task", ""), each["id"]))
    for _ in rows() if room == 0 else ():
        pass  # nsmallest looks at nothing where none is wanted
    # What is replaced meanwhile may come twice.
    return _Stage(list({row["id"]: row for row in first}.values()), there)


def _row(document: StoredDocument) -> dict[str, Any]:
    """Return a document as the page holds it; what there is none of is left out."""
    hashes = {} if document.legacy else document.record["files"]
    sizes = document.sizes
    row: dict[str, Any] = {
        "id": document.doc_id,
        "task": document.task_id,
        "parent": document.parent_doc_id,
        "run": document.run_id,
        "created": None if document.created_at is None else timestamp(document.created_at),
        "sizes": [sizes.get(part) for part in PART_FILES],
        "sha256": [hashes.get(name, {}).get("sha256") for name in PART_FILES.values()] if hashes else None,
        "metadata": document.metadata or None,
        "legacy": document.legacy or None,
    }
    if is_too_deep(document.metadata, _DEEPEST):
        # Deeper than what writes it goes.
        row |= {"metadata": None, "cut": True}
    return {key: _exact(value) for key, value in row.items() if value is not None}


def _broken(store: DocsStore, finding: Finding) -> dict[str, Any] | None:
    """Return a document that cannot be used, as far as its record says; None for what is none."""
    if finding.level != "error" or not finding.doc_id:
        return None
    row: dict[str, Any] = {"id": finding.doc_id, "broken": True, "sizes": [None] * len(PART_FILES)}
    with contextlib.suppress(DocidError, OSError):
        record = store.open(finding.stage, finding.doc_id)
        row |= {"task": record.task_id, "parent": record.parent_doc_id}
    return {key: _exact(value) for key, value in row.items() if value is not None}


def _exact(value: Any) -> Any:
    """Return a value of JSON as a browser reads it back: what it would round, or knows not at all, as text."""
    if isinstance(value, dict):
        return {_exact(key): _exact(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_exact(each) for each in value]
    if isinstance(value, str):
        return utf8(value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…")
    if isinstance(value, float) and not isfinite(value):
        return str(value)  # an older record's
    return str(value) if isinstance(value, int) and abs(value) > _EXACT else value


def _cut_records(rows: Iterable[dict[str, Any]], limits: Limits) -> None:
    """Take out what the page has no room for: of those documents the record is linked."""
    room = limits.records
    for row in rows:
        size = len(orjson.dumps([row.get("metadata"), row.get("sha256")]))
        if size > min(room, limits.text):
            row.pop("metadata", None)
            row.pop("sha256", None)
            row["cut"] = True
        else:
            room -= size


def _texts(store: DocsStore, stages: dict[str, _Stage], limits: Limits, progress: Progress | None) -> tuple[int, int]:
    """Put texts to their documents, as long as there is room: what models wrote first, then what they were sent."""
    waves: tuple[tuple[Part, ...], ...] = (("raw", "parsed"), ("prompt",))
    room = _Room(limits)

    def read(item: tuple[str, dict[str, Any], tuple[Part, ...]]) -> tuple[dict[str, Any], dict[Part, str]]:
        stage, row, parts = item
        return row, _read(store, stage, row["id"], parts)

    for parts in waves:
        for row, texts in store.backend.each(read, room.fitting(stages, parts)):
            for part, text in texts.items():
                if room.put(row, part, text) and progress is not None and room.held % _STRIDE == 0:
                    progress("texts", room.held, None)
    return room.held, sum(size is not None for each in stages.values() for row in each.rows for size in row["sizes"])


class _Room:
    """The room that a page has for texts, and how many it holds."""

    def __init__(self, limits: Limits) -> None:
        self._left = limits.texts
        self._longest = limits.text
        self.held = 0

    def fitting(
        self, stages: dict[str, _Stage], parts: tuple[Part, ...]
    ) -> Iterator[tuple[str, dict[str, Any], tuple[Part, ...]]]:
        """Return of each document those parts that there is room for, as far as their sizes tell."""
        for stage, each in stages.items():
            for row in each.rows:
                sizes = dict(zip(PART_FILES, row["sizes"], strict=True))
                most = min(self._left, self._longest)
                wanted: tuple[Part, ...] = tuple(
                    part for part in parts if sizes[part] is not None and sizes[part] <= most
                )
                if wanted:
                    yield stage, row, wanted

    def put(self, row: dict[str, Any], part: Part, text: str) -> bool:
        """Put a text to its document; return False where there is no room."""
        # As it stands on the page: some characters take six bytes there.
        size = len(orjson.dumps(text))
        if size > self._left:
            return False
        row.setdefault("texts", {})[part] = text
        self._left -= size
        self.held += 1
        return True


def _read(store: DocsStore, stage: str, doc_id: str, parts: tuple[Part, ...]) -> dict[Part, str]:
    with contextlib.suppress(DocidError, OSError):  # it has vanished, or been damaged, since
        document = store.open(stage, doc_id)
        return {part: text for part in parts if (text := document.text(part)) is not None}
    return {}


def _places(store: DocsStore, stage: str, directory: str | None) -> dict[str, str | None]:
    """Return what stands before and behind a doc id in its location, and what a link to its files starts with."""
    before, _, behind = store.location(stage, "0").rpartition("0")
    # Other homes have no files to lead to.
    link = _link(before, directory) if isinstance(store.backend, LocalBackend) else None
    return {"before": _exact(before), "behind": behind, "link": link}


def _link(path: str, directory: str | None) -> str:
    """Return a link to a directory: relative, or absolute from another drive, which has no way to there."""
    absolute = os.path.abspath(path)
    try:
        relative = os.path.relpath(absolute, os.path.abspath(directory)) if directory is not None else None
    except ValueError:  # pragma: no cover  - Windows: another drive
        relative = None
    if relative is None:
        return PurePath(absolute).as_uri() + "/"
    # Each part on its own; a first one with a colon would be taken for a scheme.
    return "./" + quote(os.fsencode(relative.replace(os.sep, "/"))) + "/"

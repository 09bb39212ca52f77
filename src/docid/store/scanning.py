"""Scanning a stage: its documents, and what is wrong in it as findings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docid.core.document import ALL_FILES, PART_FILES
from docid.core.findings import Finding
from docid.errors import DocumentNotFound, StoreUnavailable, UnreadableDocument
from docid.store.backends.base import Stored
from docid.store.stored import StoredDocument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from docid.store.backends.base import Backend, Sweeper

__all__ = ["examine", "leftovers", "not_listed", "scan", "unreadable", "whole"]

_RAW_FILE = PART_FILES["raw"]
_PARTS = frozenset(ALL_FILES)

_HINTS = {
    "quarantine": "docid repair --apply moves it to quarantine",
    "settle": "docid repair --apply finishes that, or rolls it back",
}
_IN_THE_WAY = "look what it is, and move it away: no document can be written there"
_LEFT_TO_PEOPLE = {
    "malformed-id": "rename it to the doc id that its record names: under this name nothing finds it",
    "uncommitted-directory": _IN_THE_WAY,
    "unlisted-file": "look what it is: nothing of docid's needs it",
}
_FREED = "docid repair --apply moves it to quarantine; the id is free then, and the next run makes it again"
_REMEDIES = {
    "hash-mismatch": _FREED.replace("--apply", "--verify --apply"),
    "misplaced-document": "move it to where its record names; docid repair --apply moves it to quarantine",
}
_READABLE = "see to it that it can be read"


def answered(backend: Backend, stage: str) -> Iterator[StoredDocument | Finding]:
    """Return what `scan` does, for work that takes what it is not given for missing.

    Raises:
        OSError: the stage cannot be listed, or a store did not answer: it may hold what is asked for.
    """
    return scan(backend, stage, verify=False, stale_after=3600.0, is_strict=True)


def scan(
    backend: Backend, stage: str, *, verify: bool, stale_after: float, is_strict: bool = False
) -> Iterator[StoredDocument | Finding]:
    """Return the documents of a stage, and what is wrong in it. See `DocsStore.scan`; for `is_strict`, `answered`."""
    said: set[tuple[str, str]] = set()
    for finding in leftovers(backend, stage, stale_after=stale_after, is_strict=is_strict):
        if finding.doc_id == "":
            said.add((finding.code, finding.where))
        yield finding
    try:

        def look(doc_id: str) -> Iterable[StoredDocument | Finding]:
            version = None if verify else whole(backend, stage, doc_id)
            found = examine(backend, stage, doc_id, verify=verify, stale_after=stale_after, is_strict=is_strict)
            return list(found) if version is None else (version,)

        for each in backend.each(look, backend.ids(stage)):
            for found in each:
                # What is replaced, or repaired, while the stage is listed may be listed twice.
                if isinstance(found, StoredDocument):
                    yield found
                elif (found.code, found.where) not in said:
                    said.add((found.code, found.where))
                    yield found
    except (UnreadableDocument, OSError) as error:
        finding = not_listed(backend, stage, error, is_strict=is_strict)
        if (finding.code, finding.where) not in said:
            yield finding


def leftovers(backend: Backend, stage: str, *, stale_after: float, is_strict: bool = False) -> Iterator[Finding]:
    """Return what lies beside the documents of a stage and belongs to none; where it cannot be listed, that."""
    sweeper = backend.sweeper()
    try:
        if sweeper is not None:
            for leftover in sweeper.leftovers(stage, stale_after):
                yield _with_hint(backend, leftover)
    except (UnreadableDocument, OSError) as error:
        yield not_listed(backend, stage, error, is_strict=is_strict)


def not_listed(backend: Backend, stage: str, error: Exception, *, is_strict: bool = False) -> Finding:
    """Return the finding for a stage that cannot be listed; with `is_strict` raise what `answered` does."""
    where, message = _of_stage(backend, stage), f"the stage cannot be listed: {error}"
    if is_strict:
        raise error if isinstance(error, StoreUnavailable) else OSError(f"{where}: {message}")
    return Finding("unreadable-record", stage, "", None, where, message, "see to it that the stage can be listed")


def _of_stage(backend: Backend, stage: str) -> str:
    return f"{backend.root.rstrip('/')}/{stage}"


def whole(backend: Backend, stage: str, doc_id: str) -> StoredDocument | None:
    """Return a document that a first look shows to be whole, and alone in its place; None where a closer one is needed.

    This is what is done millions of times.
    """
    listing = backend.listing(stage, doc_id)
    if listing is None:
        return None
    data, sizes = listing
    try:
        version = StoredDocument(backend, stage, doc_id, Stored(data, {}))
    except UnreadableDocument:
        return None
    files = version.facts.files
    if version.legacy:
        return version if _RAW_FILE in sizes and _PARTS.issuperset(sizes) else None
    if len(sizes) != len(files):
        return None
    for name, entry in files.items():
        if sizes.get(name) != entry.size:
            return None
    return version


def examine(
    backend: Backend, stage: str, doc_id: str, *, verify: bool, stale_after: float, is_strict: bool = False
) -> Iterator[StoredDocument | Finding]:
    """Look at one document closely: return it, or what is wrong with it; and what lies in it that is none of its parts.

    Nothing where there is none, or a writer may be at it.
    """
    sweeper = backend.sweeper()
    try:
        version = StoredDocument.load(backend, stage, doc_id, ALL_FILES if verify else ())
        record, listed = None, ALL_FILES
        if version is not None:
            version.check(verify=verify)
            yield version
            record = version.stored.record
            listed = ALL_FILES if version.legacy else tuple(version.facts.files)
        if sweeper is not None:
            # Without a version it has vanished meanwhile, or is an empty directory.
            for leftover in sweeper.strays(stage, doc_id, record, listed, stale_after):
                yield _with_hint(backend, leftover, None if version is None else version.task_id)
    except UnreadableDocument as error:
        yield from _fault(backend, sweeper, error, stale_after)
    except DocumentNotFound:
        return  # it has vanished meanwhile
    except OSError as error:
        if is_strict and isinstance(error, StoreUnavailable):
            raise
        yield unreadable(backend, stage, doc_id, error)


def unreadable(backend: Backend, stage: str, doc_id: str, error: OSError) -> Finding:
    """Return the finding for a document that the system does not let be read."""
    where = backend.location(stage, doc_id)
    return Finding("unreadable-record", stage, doc_id, None, where, str(error), _READABLE)


def _fault(
    backend: Backend, sweeper: Sweeper | None, error: UnreadableDocument, stale_after: float
) -> Iterator[Finding]:
    """Return what is wrong with a document that cannot be used; nothing where a writer may be at it."""
    stage, doc_id, finding = error.stage, error.doc_id, Finding.of(error)
    if sweeper is not None and error.code == "uncommitted-directory":
        for stray in sweeper.strays(stage, doc_id, None, (), stale_after):
            yield _with_hint(backend, stray)
        return
    if sweeper is None or not error.repairable:
        yield finding
        return
    hint = _REMEDIES.get(error.code, _FREED)
    if sweeper.is_stale(stage, doc_id, stale_after):
        where, record = backend.location(stage, doc_id), _record(backend, stage, doc_id)
        yield finding._replace(where=where, hint=hint, action="quarantine", expected=record)
    else:
        wait = f"touched in the last {stale_after:,.0f} s, so that a tool may be at it"
        yield finding._replace(hint=f"{wait}: later, or at once with --stale-after 0s, {hint}")


def _record(backend: Backend, stage: str, doc_id: str) -> bytes | None:
    """Return the record as it lies there; None where there is none."""
    try:
        stored = backend.load(stage, doc_id)
    except (UnreadableDocument, OSError):
        return None
    return None if stored is None else stored.record


def _with_hint(backend: Backend, finding: Finding, task_id: str | None = None) -> Finding:
    """Return the finding of a sweeper with its task, and what to do about it."""
    if finding.action is not None:
        return finding._replace(task_id=task_id, hint=_HINTS[finding.action])
    is_in_the_way = finding.where == backend.location(finding.stage, finding.doc_id)
    hint = _LEFT_TO_PEOPLE.get(finding.code, _IN_THE_WAY if is_in_the_way else _READABLE)
    return finding._replace(task_id=task_id, hint=hint)

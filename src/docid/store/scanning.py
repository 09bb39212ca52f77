"""Scan a stage: yield its documents, and a finding for each fault."""

import contextlib
from collections.abc import Iterator

from docid.core.document import ALL_FILES, PART_FILES
from docid.core.findings import Finding
from docid.errors import DocumentNotFound, StoreUnavailable, UnreadableDocument
from docid.store.backends.base import Backend, Stored, Sweeper, join_location
from docid.store.stored import StoredDocument

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
_PARTS = frozenset(ALL_FILES)


def scan(
    backend: Backend, stage: str, *, verify: bool = False, stale_after: float = 3600.0, is_strict: bool = False
) -> Iterator[StoredDocument | Finding]:
    """Return the documents of a stage, and a finding for each fault in it. See `DocsStore.scan`.

    With `is_strict` an OSError is raised where the stage cannot be listed, or a store does not answer: for work that
    takes a document it does not see for missing.
    """

    def look(doc_id: str) -> list[StoredDocument | Finding]:
        return list(examine(backend, stage, doc_id, verify=verify, stale_after=stale_after, is_strict=is_strict))

    def look_at_all() -> Iterator[StoredDocument | Finding]:
        yield from find_leftovers(backend, stage, stale_after=stale_after, is_strict=is_strict)
        try:
            for found in backend.each(look, backend.ids(stage)):
                yield from found
        except (UnreadableDocument, OSError) as error:
            yield report_unlisted(backend, stage, error, is_strict=is_strict)

    known: set[tuple[str, str]] = set()
    for found in look_at_all():
        # A document that is replaced or repaired during the listing may be listed twice.
        if isinstance(found, StoredDocument):
            yield found
        elif (found.code, found.where) not in known:
            known.add((found.code, found.where))
            yield found


def find_leftovers(backend: Backend, stage: str, *, stale_after: float, is_strict: bool = False) -> Iterator[Finding]:
    """Return findings for files that belong to no document, or one for a stage that cannot be listed."""
    sweeper = backend.sweeper()
    try:
        if sweeper is not None:
            for leftover in sweeper.leftovers(stage, stale_after):
                yield _with_hint(backend, leftover)
    except (UnreadableDocument, OSError) as error:
        yield report_unlisted(backend, stage, error, is_strict=is_strict)


def report_unlisted(backend: Backend, stage: str, error: Exception, *, is_strict: bool = False) -> Finding:
    """Return the finding for a stage that cannot be listed; with `is_strict` raise an OSError."""
    where, message = join_location(backend.root, stage), f"the stage cannot be listed: {error}"
    if is_strict:
        raise error if isinstance(error, StoreUnavailable) else OSError(f"{where}: {message}")
    return Finding("unreadable-record", stage, "", None, where, message, "see to it that the stage can be listed")


def try_load(backend: Backend, stage: str, doc_id: str) -> StoredDocument | Finding | None:
    """Return a document with its record; a finding where that cannot be read; None where there is no document."""
    try:
        return StoredDocument.load(backend, stage, doc_id)
    except UnreadableDocument as error:
        return Finding.of(error)
    except StoreUnavailable:
        raise  # the document is neither missing nor damaged
    except OSError as error:
        return _report_unreadable(backend, stage, doc_id, error)


def examine(
    backend: Backend, stage: str, doc_id: str, *, verify: bool, stale_after: float, is_strict: bool = False
) -> Iterator[StoredDocument | Finding]:
    """Check one document: return it, or a finding for its fault; and a finding for each file that is not a part of it.

    Returns nothing if there is no document, or a writer may still be at work on it.
    """
    sweeper = backend.sweeper()
    try:
        if not verify and (version := _load_whole(backend, stage, doc_id)) is not None:
            yield version
            return
        version = StoredDocument.load(backend, stage, doc_id, ALL_FILES if verify else ())
        record, listed = None, ALL_FILES
        if version is not None:
            version.check(verify=verify)
            yield version
            record = version.stored.record
            listed = ALL_FILES if version.legacy else tuple(version.facts.files)
        if sweeper is not None:
            # Without a version the document has vanished, or this is an empty directory.
            for leftover in sweeper.strays(stage, doc_id, record, listed, stale_after):
                yield _with_hint(backend, leftover, None if version is None else version.task_id)
    except UnreadableDocument as error:
        yield from _examine_fault(backend, sweeper, error, stale_after)
    except DocumentNotFound:
        return  # it has vanished
    except OSError as error:
        if is_strict and isinstance(error, StoreUnavailable):
            raise
        yield _report_unreadable(backend, stage, doc_id, error)


def _report_unreadable(backend: Backend, stage: str, doc_id: str, error: OSError) -> Finding:
    return Finding("unreadable-record", stage, doc_id, None, backend.location(stage, doc_id), str(error), _READABLE)


def _load_whole(backend: Backend, stage: str, doc_id: str) -> StoredDocument | None:
    """Return a document that one listing shows to be whole and alone in its place; a scan asks millions of times."""
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
        return version if PART_FILES["raw"] in sizes and _PARTS.issuperset(sizes) else None
    return version if sizes == {name: entry.size for name, entry in files.items()} else None


def _examine_fault(
    backend: Backend, sweeper: Sweeper | None, error: UnreadableDocument, stale_after: float
) -> Iterator[Finding]:
    """Return the finding for an unusable document; nothing if a writer may still be at work on it."""
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
        stored = None
        with contextlib.suppress(UnreadableDocument, OSError):
            stored = backend.load(stage, doc_id)
        record = None if stored is None else stored.record
        where = backend.location(stage, doc_id)
        yield finding._replace(where=where, hint=hint, action="quarantine", expected=record)
    else:
        wait = f"touched in the last {stale_after:,.0f} s, so that a tool may be at it"
        yield finding._replace(hint=f"{wait}: later, or at once with --stale-after 0s, {hint}")


def _with_hint(backend: Backend, finding: Finding, task_id: str | None = None) -> Finding:
    """Add the task, and the hint what to do, to a finding of a sweeper."""
    if finding.action is not None:
        return finding._replace(task_id=task_id, hint=_HINTS[finding.action])
    is_in_the_way = finding.where == backend.location(finding.stage, finding.doc_id)
    hint = _LEFT_TO_PEOPLE.get(finding.code, _IN_THE_WAY if is_in_the_way else _READABLE)
    return finding._replace(task_id=task_id, hint=hint)

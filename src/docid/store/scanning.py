"""Scan a stage: yield its documents, and a finding for each fault."""

from collections.abc import Iterator

from docid._files import raise_time_limit
from docid.core.document import ALL_FILES, PART_FILES
from docid.core.findings import Finding
from docid.errors import DocumentNotFound, StoreUnavailable, UnreadableDocument
from docid.store.backends.base import Backend, Stored, Sweeper, join_location
from docid.store.stored import StoredDocument, read_history

_ACTION_HINTS = {
    "quarantine": "run 'docid repair --apply' to move it to quarantine",
    "settle": "run 'docid repair --apply' to finish or roll back the change",
}
_HINT_BLOCKED = "check what it is, and move it elsewhere: docid cannot write a document here"
_MANUAL_HINTS = {
    "malformed-id": "rename it to the doc id in its record: docid cannot find it under this name",
    "uncommitted-directory": _HINT_BLOCKED,
    "unlisted-file": "check what it is; docid does not need it",
}
_HINT_QUARANTINE = f"{_ACTION_HINTS['quarantine']}; the next run creates it again"
_REMEDIES = {
    "hash-mismatch": _HINT_QUARANTINE.replace("--apply", "--verify --apply"),
    "misplaced-document": f"move it to the place named in its record, or {_ACTION_HINTS['quarantine']}",
}
_HINT_READABLE = "make sure that docid can read it"


def scan(
    backend: Backend, stage: str, *, verify: bool = False, stale_after: float = 3600.0, is_strict: bool = False
) -> Iterator[StoredDocument | Finding]:
    """Yield the documents of a stage, and a finding for each fault. See `DocsStore.scan`.

    With `is_strict`, raise an OSError if the stage cannot be listed or the store does not answer. A caller that treats
    an unseen document as missing needs this.
    """

    def examine_one(doc_id: str) -> list[StoredDocument | Finding]:
        return list(examine(backend, stage, doc_id, verify=verify, stale_after=stale_after, is_strict=is_strict))

    def examine_all() -> Iterator[StoredDocument | Finding]:
        yield from find_leftovers(backend, stage, stale_after=stale_after, is_strict=is_strict)
        try:
            for found in backend.each(examine_one, backend.ids(stage)):
                yield from found
        except (UnreadableDocument, OSError) as error:
            yield report_unlisted(backend, stage, error, is_strict=is_strict)

    known: set[tuple[str, str]] = set()
    for found in examine_all():
        # A document that is replaced or repaired during the scan may be listed twice.
        if isinstance(found, StoredDocument):
            yield found
        elif (found.code, found.where) not in known:
            known.add((found.code, found.where))
            yield found


def find_leftovers(backend: Backend, stage: str, *, stale_after: float, is_strict: bool = False) -> Iterator[Finding]:
    """Yield findings for files that belong to no document, or one finding if the stage cannot be listed."""
    sweeper = backend.sweeper()
    try:
        if sweeper is not None:
            for leftover in sweeper.leftovers(stage, stale_after):
                yield _with_hint(backend, leftover)
    except (UnreadableDocument, OSError) as error:
        yield report_unlisted(backend, stage, error, is_strict=is_strict)


def report_unlisted(backend: Backend, stage: str, error: Exception, *, is_strict: bool = False) -> Finding:
    """Return the finding for a stage that cannot be listed; with `is_strict`, raise an OSError instead."""
    raise_time_limit(error)
    where, message = join_location(backend.root, stage), f"the stage cannot be listed: {error}"
    if is_strict:
        raise error if isinstance(error, StoreUnavailable) else OSError(f"{where}: {message}")
    return Finding("unreadable-record", stage, "", None, where, message, "make sure that docid can list the stage")


def try_load(backend: Backend, stage: str, doc_id: str) -> StoredDocument | Finding | None:
    """Load a document's record; return a finding if it cannot be read, None if the document does not exist."""
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
    """Check one document: yield it or a finding for its fault, and a finding for each file that does not belong to it.

    Yields nothing if the document does not exist, or if a writer may still be working on it.
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
            # Without a version, the document has just been removed, or the directory is empty.
            for leftover in sweeper.strays(stage, doc_id, record, listed, stale_after):
                yield _with_hint(backend, leftover, None if version is None else version.task_id)
    except UnreadableDocument as error:
        yield from _examine_fault(backend, sweeper, error, stale_after)
    except DocumentNotFound:
        return  # removed in the meantime
    except OSError as error:
        if is_strict and isinstance(error, StoreUnavailable):
            raise
        yield _report_unreadable(backend, stage, doc_id, error)


def examine_history(backend: Backend, stage: str, doc_id: str) -> Iterator[Finding]:
    """Read all replaced versions of a document, and yield a finding for each kind of fault in them."""
    found: dict[Finding, None] = {}
    try:
        for version in read_history(backend, stage, doc_id):
            if isinstance(version, UnreadableDocument):
                found[Finding.of(version)._replace(code="damaged-history")] = None
    except OSError as error:
        raise_time_limit(error)
        message = f"its history cannot be read: {error}"
        where = backend.location(stage, doc_id)
        found[Finding("damaged-history", stage, doc_id, None, where, message, _HINT_READABLE)] = None
    yield from found


def _report_unreadable(backend: Backend, stage: str, doc_id: str, error: OSError) -> Finding:
    raise_time_limit(error)
    return Finding(
        "unreadable-record", stage, doc_id, None, backend.location(stage, doc_id), str(error), _HINT_READABLE
    )


def _load_whole(backend: Backend, stage: str, doc_id: str) -> StoredDocument | None:
    """Return a document if one listing shows that it is whole and has no extra files: the fast path of a scan."""
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
        return version if PART_FILES["raw"] in sizes and sizes.keys() <= set(ALL_FILES) else None
    return version if sizes == {name: entry.size for name, entry in files.items()} else None


def _examine_fault(
    backend: Backend, sweeper: Sweeper | None, error: UnreadableDocument, stale_after: float
) -> Iterator[Finding]:
    """Yield the finding for an unusable document; nothing if a writer may still be working on it."""
    stage, doc_id, finding = error.stage, error.doc_id, Finding.of(error)
    if sweeper is not None and error.code == "uncommitted-directory":
        for stray in sweeper.strays(stage, doc_id, None, (), stale_after):
            yield _with_hint(backend, stray)
        return
    if sweeper is None or not error.repairable:
        yield finding
        return
    hint = _REMEDIES.get(error.code, _HINT_QUARANTINE)
    if sweeper.is_stale(stage, doc_id, stale_after):
        stored = None
        try:
            stored = backend.load(stage, doc_id)
        except (UnreadableDocument, OSError) as failed:
            raise_time_limit(failed)
        record = None if stored is None else stored.record
        where = backend.location(stage, doc_id)
        yield finding._replace(where=where, hint=hint, action="quarantine", expected=record)
    else:
        wait = f"it changed in the last {stale_after:,.0f} s, so a writer may still use it"
        yield finding._replace(hint=f"{wait}. Later, or at once with --stale-after 0s if no writer runs, {hint}")


def _with_hint(backend: Backend, finding: Finding, task_id: str | None = None) -> Finding:
    """Add the task id and a hint to a sweeper's finding."""
    if finding.action is not None:
        return finding._replace(task_id=task_id, hint=_ACTION_HINTS[finding.action])
    is_blocking = finding.where == backend.location(finding.stage, finding.doc_id)
    hint = _MANUAL_HINTS.get(finding.code, _HINT_BLOCKED if is_blocking else _HINT_READABLE)
    return finding._replace(task_id=task_id, hint=hint)

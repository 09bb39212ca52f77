"""`repair`: plan what to do about leftovers of dead writers and unusable documents, and do it."""

import contextlib
from collections.abc import Iterator
from itertools import chain
from typing import Literal, NamedTuple

from docid.core.findings import Finding
from docid.errors import DocidError
from docid.store.backends.base import Sweeper, join_location
from docid.store.backends.names import entry_name
from docid.store.docs_store import DocsStore, check_store


class Step(NamedTuple):
    """One thing that repair does, would do, or leaves alone.

    It is about a path and the finding behind it, which may be no document; a `Change` is about a document.

    Attributes:
        action: `quarantine`: move it aside. `settle`: finish or roll back an interrupted replace. `purge`: delete what
            was moved aside, or replaced, long ago. `leave`: people have to decide.
        path: what it is done to, relative to the root.
        message: the fault, or the size of what is purged.
        done: whether it was done; false in a plan, if it was no longer needed, and if it failed.
        to: where it is now, relative to the root; empty if it was not moved.
        finding: the finding behind it; None for a purge.
        error: why it could not be done.
    """

    action: Literal["quarantine", "settle", "purge", "leave"]
    path: str
    message: str
    done: bool = False
    to: str = ""
    finding: Finding | None = None
    error: Exception | None = None


def repair(
    store: DocsStore,
    *,
    apply: bool = False,
    verify: bool = False,
    stale_after: float = 3600.0,
    purge: bool = False,
    history: bool = False,
    older_than: float = 30 * 86400.0,
) -> Iterator[Step]:
    """Go through a store and yield what there is to repair, step by step; do it where `apply` is set.

    Nothing is deleted without a purge. What is in the way moves to `<root>/.docid/quarantine/<run>/`, under the path
    that it had. It is safe beside writers and readers. An error in one step does not end the run.

    Args:
        store: the store; all of its stages are gone through.
        apply: do it; otherwise nothing is changed.
        verify: also compare the SHA-256 of every part with its record's.
        stale_after: age in seconds. What was touched since may belong to a writer, or to a tool that copies documents
            here, and is left alone. On a file system of one machine a lock also tells which writers of docid are dead;
            where several machines mount it, only the age does.
        purge: delete what earlier runs moved to quarantine.
        history: with `purge`: also delete replaced versions of documents, in the store's stages.
        older_than: with `purge`: only what was put aside more than so many seconds ago.

    Raises:
        ValueError: `history` without `purge`.

    Example:
        >>> import tempfile
        >>> from docid import DocsStore, Document
        >>> store = DocsStore(tempfile.mkdtemp())
        >>> result = store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="once"))
        >>> _ = (result.path / "raw.txt").write_text("on")
        >>> for step in repair(store, apply=True, stale_after=0):
        ...     print(step.action, step.path, step.done, step.message)
        quarantine draft/d1 True raw.txt: 2 bytes, but the record says 4
        >>> store.exists("draft", "d1"), list(repair(store))
        (False, [])
    """
    if history and not purge:
        raise ValueError("history: expected purge=True with it, which deletes it")
    sweeper = check_store(store).backend.sweeper()
    steps = _repair_stages(store, sweeper, apply=apply, verify=verify, stale_after=stale_after)
    if sweeper is None or not purge:
        return steps
    # Listed first, so that this run does not delete what it moves aside.
    doomed = list(sweeper.list_discarded(older_than, history=tuple(store.stages) if history else ()))
    return chain(steps, _purge(sweeper, doomed, apply=apply))


def _repair_stages(
    store: DocsStore, sweeper: Sweeper | None, *, apply: bool, verify: bool, stale_after: float
) -> Iterator[Step]:
    run = entry_name(())
    below = join_location(store.backend.root, "")
    for stage in store.stages:
        for finding in store.scan(stage, verify=verify, stale_after=stale_after):
            if not isinstance(finding, Finding):
                continue
            path = finding.where.removeprefix(below)
            if sweeper is None or finding.action is None:
                message = f"{finding.code}: {finding.message}; {finding.hint}"
                yield Step("leave", path, message, finding=finding)
                continue
            step = Step(finding.action, path, finding.message, finding=finding)
            if apply and not _is_mended(store, finding, verify=verify):
                try:
                    to = sweeper.clear(finding, run, stale_after)
                    step = step if to is None else step._replace(done=True, to=to)
                except (DocidError, OSError) as error:
                    step = step._replace(error=error)
            yield step
        if sweeper is not None and apply:
            # If the stage cannot be listed, the scan has reported that.
            with contextlib.suppress(OSError):
                sweeper.tidy(stage, stale_after)


def _is_mended(store: DocsStore, finding: Finding, *, verify: bool) -> bool:
    """Return whether a finding is about a document that can be read now."""
    if finding.code not in {"hash-mismatch", "misplaced-document", "torn-document", "unreadable-record"}:
        return False
    try:
        store.read(finding.stage, finding.doc_id, verify=verify)
    except (DocidError, OSError):
        return False
    return True


def _purge(sweeper: Sweeper, doomed: list[tuple[str, int]], *, apply: bool) -> Iterator[Step]:
    for path, size in doomed:
        step = Step("purge", path, f"{size:,} bytes")
        if apply:
            try:
                sweeper.discard(path)
                step = step._replace(done=True)
            except OSError as error:
                step = step._replace(error=error)
        yield step

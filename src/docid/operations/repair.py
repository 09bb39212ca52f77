"""`repair`: move leftovers of dead writers and unusable documents to quarantine."""

from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Literal, NamedTuple

from docid._files import raise_time_limit
from docid.core.findings import Finding
from docid.errors import DocidError
from docid.store.backends.base import Sweeper, attempt, join_location
from docid.store.backends.names import entry_name
from docid.store.docs_store import DocsStore, check_store


class Step(NamedTuple):
    """One step of a repair, planned or done.

    A step is about a path, which need not belong to a document; a `Change` is about a document.

    Attributes:
        action: `quarantine`: move the path to quarantine. `settle`: finish or roll back an interrupted replace.
            `purge`: delete an old quarantine entry or replaced version. `leave`: needs a decision by a person.
        path: the path, relative to the root.
        message: the fault; for a purge the size.
        done: whether the step was done; false in a plan, after an error, and if the fault was gone.
        to: the new path in quarantine, relative to the root; empty if nothing moved.
        finding: the finding that the step is for; None for a purge.
        error: the error that stopped the step.
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
    """Find the faults of a store and yield a repair step for each; do the steps if `apply` is set.

    Faulty files move to `<root>/.docid/quarantine/<entry>/`, under their old path; only `purge` deletes files. Writers
    and readers may run at the same time. An error in one step does not stop the run.

    Args:
        store: the store to repair, in all of its stages.
        apply: do the steps; otherwise only plan them.
        verify: also compare the SHA-256 of every part with the record.
        stale_after: an age in seconds. Newer files may belong to a writer or a copying tool, and stay. On a local file
            system locks also show which writers of docid are dead; on a shared one only the age does.
        purge: delete entries that earlier runs moved to quarantine.
        history: with `purge`: also delete replaced versions of documents in the store's stages.
        older_than: with `purge`: delete only entries that were quarantined or replaced more than N seconds ago.

    Returns:
        A stream of steps.

    Raises:
        ValueError: `history` without `purge`.

    Example:
        >>> import tempfile
        >>> from docid import DocsStore, Document
        >>> store = DocsStore(tempfile.mkdtemp())
        >>> result = store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="once"))
        >>> _ = (result.path / "raw.txt").write_text("on")
        >>> for step in repair(store, apply=True, stale_after=0):
        ...     print(step.action, step.path, step.done, step.finding.code)
        quarantine draft/d1 True torn-document
        >>> store.exists("draft", "d1"), list(repair(store))
        (False, [])
    """
    if history and not purge:
        raise ValueError("history: works only with a purge; expected purge=True too")
    sweeper = check_store(store).backend.sweeper()
    steps = _repair_stages(store, sweeper, apply=apply, verify=verify, stale_after=stale_after)
    if sweeper is None or not purge:
        return steps
    # List the entries first, so that this run does not delete what it moves to quarantine.
    discarded = list(sweeper.list_discarded(older_than, history=tuple(store.stages) if history else ()))
    return chain(steps, _purge(sweeper, discarded, apply=apply))


def _repair_stages(
    store: DocsStore, sweeper: Sweeper | None, *, apply: bool, verify: bool, stale_after: float
) -> Iterator[Step]:
    entry = entry_name(())
    prefix = join_location(store.backend.root, "")
    for stage in store.stages:
        for finding in store.scan(stage, verify=verify, stale_after=stale_after):
            if not isinstance(finding, Finding):
                continue
            path = finding.where.removeprefix(prefix)
            if sweeper is None or finding.action is None:
                message = f"{finding.code}: {finding.message}; {finding.hint}"
                yield Step("leave", path, message, finding=finding)
                continue
            step = Step(finding.action, path, finding.message, finding=finding)
            if apply and not _is_repaired(store, finding, verify=verify):
                try:
                    to = sweeper.clear(finding, entry, stale_after)
                    step = step if to is None else step._replace(done=True, to=to)
                except (DocidError, OSError) as error:
                    raise_time_limit(error)
                    step = step._replace(error=error)
            yield step
        if sweeper is not None and apply:
            attempt(
                partial(sweeper.tidy, stage, stale_after)
            )  # the scan already reported a stage that cannot be listed


def _is_repaired(store: DocsStore, finding: Finding, *, verify: bool) -> bool:
    """Return whether the document of a finding is readable by now."""
    if finding.code not in {"hash-mismatch", "misplaced-document", "torn-document", "unreadable-record"}:
        return False
    try:
        store.read(finding.stage, finding.doc_id, verify=verify)
    except (DocidError, OSError) as error:
        raise_time_limit(error)
        return False
    return True


def _purge(sweeper: Sweeper, discarded: list[tuple[str, int]], *, apply: bool) -> Iterator[Step]:
    for path, size in discarded:
        step = Step("purge", path, f"{size:,} bytes")
        if apply:
            try:
                sweeper.discard(path)
                step = step._replace(done=True)
            except OSError as error:
                raise_time_limit(error)
                step = step._replace(error=error)
        yield step

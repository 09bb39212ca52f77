"""Remove documents, restore them, and erase them for good.

A document must not lose its parent or an input. So a removal moves children first. It then searches for children that a
writer has created since, and removes them, too, or puts their parents back. A writer that creates a child checks its
parent again after that (`Writer`). So one of the two sees the other, in every order of their steps.
"""

from __future__ import annotations

from functools import partial
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, NamedTuple

from attrs import frozen

from docid.core.document import ALL_FILES
from docid.core.findings import Change, Finding, RemoveOutcome
from docid.core.ids import refuse_text
from docid.core.lineage_rules import is_other_lineage, split_name
from docid.errors import (
    DocumentBusy,
    DocumentClaimed,
    DocumentNotFound,
    HasChildren,
    StoreUnavailable,
    UnreadableDocument,
)
from docid.store.ancestry import find_descendants, name_document, name_sources
from docid.store.backends.base import TURNS, Backend, Removed, Stored, TracePath, attempt, join_location
from docid.store.backends.claims import Holder
from docid.store.backends.names import entry_name
from docid.store.stored import StoredDocument, exists

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from docid.core.stages import Stages

__all__ = ["Erasure", "Removal", "Trace"]


@frozen
class Removal:
    """The result of a removal, or its plan.

    Attributes:
        runs: the names of the directories in quarantine to which documents were moved, for `DocsStore.restore`. Usually
            one. A document that a writer created again during the removal has another one. Empty in a plan.
        changes: one for each document, children first: `remove`, `absent` (not in the store), or `leave` with the
            reason.
        findings: records that docid could not read; they may belong to children.

    Example:
        >>> from docid import DocsStore, Document
        >>> store = DocsStore("memory://")
        >>> _ = store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="Once."))
        >>> planned = store.remove_many(["draft/d1", "draft/d2"], dry_run=True)
        >>> [(change.doc_id, change.outcome) for change in planned.changes], planned.runs
        ([('d1', 'remove'), ('d2', 'absent')], ())
    """

    runs: tuple[str, ...]
    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]

    @property
    def run(self) -> str:
        """The first of `runs`; empty if no document was moved."""
        return self.runs[0] if self.runs else ""


class Trace(NamedTuple):
    """A file, a directory or an object that holds a text of a document.

    Attributes:
        document: the document, as `STAGE/ID`.
        location: its path or URL.
        size: its size in bytes.
        done: whether docid deleted it; False in a plan, and after an error.
        error: the error that stopped the deletion.
    """

    document: str
    location: str
    size: int
    done: bool = False
    error: Exception | None = None


@frozen
class Erasure:
    """The result of an erasure, or its plan.

    Attributes:
        traces: everything that held a text of the documents.
        findings: records that docid could not read; they may belong to children.

    Example:
        >>> from docid import DocsStore, Document
        >>> store = DocsStore("memory://")
        >>> _ = store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="Once."))
        >>> [(trace.location, trace.done) for trace in store.erase("draft", "d1").traces]
        [('memory://draft/d1', True)]
    """

    traces: tuple[Trace, ...]
    findings: tuple[Finding, ...]


class Remover:
    """Removes documents of a store.

    Args:
        backend, stages: those of the store.
        descendants: also remove the documents that were made from them; otherwise leave a document that has children.
        takes_claims: leave a document that a worker is making.
        action: what messages call it: `remove` or `erase`.
        progress: a function that is called with the stage of each record that docid has read.
    """

    def __init__(
        self,
        backend: Backend,
        stages: Stages,
        *,
        descendants: bool,
        takes_claims: bool = True,
        action: str = "remove",
        progress: Callable[[str], object] | None = None,
    ) -> None:
        self._backend = backend
        self._stages = stages
        self._descendants = descendants
        self._takes_claims = takes_claims
        self._action = action
        self._progress = progress
        self._runs = [entry_name(())]
        self._seen: set[str] = set()  # documents that were read, so a later pass need not read them
        self._chosen: dict[str, StoredDocument] = {}
        self._moved: set[str] = set()  # the documents in the first of the runs
        self._stuck: set[str] = set()  # those that could not be put back
        self._changes: dict[str, Change] = {}
        self._findings: dict[Finding, None] = {}

    def plan(self, names: Iterable[str]) -> Removal:
        """Choose the documents to remove, in one pass over all records."""
        for name in dict.fromkeys(names):
            found = self._load(name)
            if isinstance(found, StoredDocument):
                self._chosen[name] = found
            else:
                self._changes[name] = found
        if self._chosen:
            below = self._find_below(self._chosen, self._seen)
            if self._descendants:
                self._chosen |= below
            else:
                self._leave_parents(below)
        planned = [_report(document, "remove") for group in _sort(self._chosen, self._stages) for document in group]
        return Removal((), (*planned, *self._changes.values()), tuple(self._findings))

    def apply(self) -> Removal:
        """Remove the chosen documents, and late children, or put the parents of late children back."""
        self._remove_all(self._chosen, takes_claims=self._takes_claims)
        while late := self._find_late():
            left = late
            if self._descendants:
                for name in late:
                    self._changes.pop(name, None)  # of an earlier version
                self._chosen |= late
                self._remove_all(late, takes_claims=False)
                left = {name: each for name, each in late.items() if not self._is_gone(name)}
            self._put_back(left)
        changes = sorted(self._changes.values(), key=lambda change: not change.done)
        runs = self._runs if self._moved | self._stuck else ()
        return Removal(tuple(runs), tuple(changes), tuple(self._findings))

    def withdraw(self, document: StoredDocument) -> None:
        """Remove a document whose parent or input is gone, and everything made from it."""
        self._chosen = {name_document(document): document}
        self.apply()

    def _load(self, name: str) -> StoredDocument | Change:
        stage, doc_id = split_name(name, "names")
        where = self._backend.location(self._stages.check(stage), doc_id)
        try:
            found = StoredDocument.load(self._backend, stage, doc_id)
        except UnreadableDocument as error:
            return Change("leave", stage, doc_id, error.task_id, where, str(error), error=error)
        missing = DocumentNotFound(stage, doc_id, where)
        return found or Change("absent", stage, doc_id, None, where, str(missing), error=missing)

    def _find_below(self, names: Iterable[str], seen: set[str] | None = None) -> dict[str, StoredDocument]:
        """Return the descendants of documents, of those that are not in `seen`."""
        found, findings = find_descendants(self._backend, self._stages, names, seen=seen, progress=self._progress)
        self._findings |= dict.fromkeys(findings)
        return found

    def _find_late(self) -> dict[str, StoredDocument]:
        """Return descendants of removed documents that were created since the plan, and everything made from them."""
        self._seen -= self._chosen.keys()  # they may be created or restored again
        late = self._find_below(self._moved, self._seen)
        # The first pass may have read a grandchild before it was known to be one.
        return late | self._find_below(late) if late else late

    def _leave_parents(self, below: Mapping[str, StoredDocument]) -> None:
        """Leave the chosen documents that have children which are not chosen."""
        children = _map_children({**below, **self._chosen}, self._stages)
        while refused := {
            name: others
            for name in self._chosen
            if (others := [child for child in children.get(name, ()) if child not in self._chosen])
        }:
            for name, others in refused.items():
                self._leave(self._chosen.pop(name), others)

    def _remove_all(self, documents: Mapping[str, StoredDocument], *, takes_claims: bool) -> None:
        """Remove documents, children first; leave each one with a child that stays."""

        def remove(document: StoredDocument) -> Change:
            answer = attempt(lambda: self._remove(document, takes_claim=takes_claims))
            if isinstance(answer, StoreUnavailable):
                raise answer  # no other document could be removed
            return answer if isinstance(answer, Change) else _report(document, "leave", answer)

        children = _map_children(self._chosen, self._stages)
        for group in _sort(documents, self._stages):
            free = []
            for document in group:
                below = children.get(name_document(document), ())
                if left := [child for child in below if child in self._changes and not self._is_gone(child)]:
                    self._leave(document, left)
                else:
                    free.append(document)
            for document, change in zip(free, self._backend.each(remove, free), strict=True):
                self._changes[name_document(document)] = change
                self._moved |= {name_document(document)} if change.done else set()

    def _remove(self, document: StoredDocument, *, takes_claim: bool) -> Change:
        """Move a document to quarantine; raise an error if it must stay."""
        backend, stage, doc_id = self._backend, document.stage, document.doc_id
        claim = backend.take_claim(stage, doc_id) if takes_claim else None
        if isinstance(claim, Holder):
            remedy = f"{self._action} it when that worker has finished"
            facts = (stage, doc_id, document.location, document.task_id, str(claim), remedy)
            raise DocumentClaimed(*facts, action=f"{self._action}d")
        try:
            for _ in range(TURNS):
                current = StoredDocument.load(backend, stage, doc_id)
                if current is None or is_other_lineage(current.facts, document):
                    return _report(document, "absent", DocumentNotFound(stage, doc_id, document.location))
                run = self._choose_run(f"{stage}/{doc_id}")
                if (to := backend.remove(stage, doc_id, current.stored.record, run)) is not None:
                    return _report(current, "remove")._replace(message=to, done=True)
            raise DocumentBusy(stage, doc_id, document.location, document.task_id)
        finally:
            if claim is not None:
                claim.release()

    def _choose_run(self, name: str) -> str:
        """Return the run to which to move a document: a new one for a second version of a name."""
        if name not in self._moved:
            return self._runs[0]
        self._runs.append(entry_name(self._runs))
        return self._runs[-1]

    def _put_back(self, late: Mapping[str, StoredDocument]) -> None:
        """Restore the documents that late children were made from, and those that these were made from."""
        wanted: dict[str, list[str]] = {}
        left = list(late.items())
        while left:
            child, document = left.pop()
            for source in name_sources(document, self._stages):
                if source in self._moved:
                    if source not in wanted:
                        left.append((source, self._chosen[source]))
                    wanted.setdefault(source, []).append(child)
        for group in reversed(_sort({name: self._chosen[name] for name in wanted}, self._stages)):
            for document in group:
                name = name_document(document)
                removed = Removed(self._runs[0], document.stage, document.doc_id)
                error = attempt(lambda: self._backend.restore(removed))  # noqa: B023 - called at once
                self._moved.discard(name)
                if isinstance(error, Exception):
                    self._stuck.add(name)
                    self._changes[name] = _report(document, "leave", error)
                else:
                    self._leave(document, wanted[name])

    def _leave(self, document: StoredDocument, children: Iterable[str]) -> None:
        """Note that a document stays because of its children."""
        names = tuple(sorted(children))
        facts = (document.stage, document.doc_id, document.location, document.task_id)
        error = HasChildren(*facts, names, self._action)
        self._changes[name_document(document)] = _report(document, "leave", error)

    def _is_gone(self, name: str) -> bool:
        """Return whether a document was removed, or was not in the store."""
        change = self._changes.get(name)
        return change is not None and (change.done or change.outcome == "absent")


def _map_children(documents: Mapping[str, StoredDocument], stages: Stages) -> dict[str, list[str]]:
    """Return the children of documents among these, by name."""
    children: dict[str, list[str]] = {}
    for name, each in documents.items():
        for source in name_sources(each, stages):
            children.setdefault(source, []).append(name)
    return children


def _sort(documents: Mapping[str, StoredDocument], stages: Stages) -> list[list[StoredDocument]]:
    """Return documents in groups, children before the groups of their parents and inputs."""
    children = _map_children(documents, stages)
    sorter = TopologicalSorter({name: children.get(name, ()) for name in documents})
    try:
        sorter.prepare()
    except CycleError:  # documents that were written without their parents
        return [list(documents.values())]
    groups = []
    while ready := sorter.get_ready():
        groups.append([documents[name] for name in ready])
        sorter.done(*ready)
    return groups


def _report(document: StoredDocument, outcome: RemoveOutcome, error: Exception | None = None) -> Change:
    message = "" if error is None else str(error)
    names = (document.stage, document.doc_id, document.task_id, document.location)
    return Change(outcome, *names, message, error=error)


class Restorer(NamedTuple):
    """Moves the documents of a removal back. See `DocsStore.restore`.

    Attributes:
        backend, stages: those of the store.
        require_parent: leave a document whose parent or input is missing.
        apply: move them; otherwise only plan.
    """

    backend: Backend
    stages: Stages
    require_parent: bool
    apply: bool

    def restore(self, run: str, names: Collection[str] = ()) -> tuple[Change, ...]:
        """Restore documents, parents first; return a change for each."""
        refuse_text(names, "names", "names of documents")
        removed = {f"{each.stage}/{each.doc_id}": each for each in self.backend.list_removed() if each.run == run}
        if missing := [name for name in names if name not in removed] or ([] if removed else [run]):
            raise ValueError(f"{missing[0]}: not in quarantine; 'docid restore' lists all removals")
        chosen = {name: each for name, each in removed.items() if not names or name in names}
        documents: dict[str, StoredDocument] = {}
        changes: list[Change] = []
        loaded = self.backend.each(lambda each: attempt(lambda: _load_removed(self.backend, each)), chosen.values())
        for (name, each), found in zip(chosen.items(), loaded, strict=True):
            if isinstance(found, StoredDocument) and each.stage in self.stages:
                documents[name] = found
            else:
                changes.append(self._restore_rest(each, found))
        done: set[str] = set()  # restored, or planned
        for group in reversed(_sort(documents, self.stages)):
            # The others of a cycle come back at the same time; in a plan, those before it count, too.
            known = set(map(name_document, group)) | (set() if self.apply else done)
            jobs = [(document, chosen[name_document(document)], known) for document in group]
            of_group = list(self.backend.each(lambda job: self._restore_one(*job), jobs))
            done.update(f"{change.stage}/{change.doc_id}" for change in of_group if change.outcome == "restore")
            changes += of_group
        return tuple(changes)

    def _restore_one(self, document: StoredDocument, removed: Removed, known: Collection[str]) -> Change:
        answer = attempt(lambda: self._restore(document, removed, known))
        error = answer if isinstance(answer, Exception) else None
        change = _report(document, "leave" if answer else "restore", error)
        return change._replace(message=str(answer), done=self.apply and not answer)

    def _restore(self, document: StoredDocument, removed: Removed, known: Collection[str]) -> str:
        """Move a document back, or check that it can be; return why it cannot, or an empty text.

        `known` has the names of documents that need not be in the store yet.
        """
        if problem := self._find_lost_source(document, known):
            return problem
        is_taken = exists(self.backend, document.stage, document.doc_id)
        if is_taken or not (self.backend.restore(removed) if self.apply else True):
            taken = "the store has a document with this id again; remove that one first"
            return taken if is_taken else "another process moves it; try again, or run 'docid repair' if that one died"
        problem = self._find_lost_source(document, known) if self.apply else ""
        if problem:  # it was removed in the meantime
            Remover(self.backend, self.stages, descendants=True, takes_claims=False).withdraw(document)
        return problem

    def _find_lost_source(self, document: StoredDocument, known: Collection[str]) -> str:
        """Return the fault if a parent or input is neither known nor in the store; else an empty text."""
        for name in name_sources(document, self.stages) if self.require_parent else ():
            if name not in known and not exists(self.backend, *split_name(name)):
                role = "input" if name in document.inputs else "parent"
                return f"its {role} {name} is not in the store; restore that first"
        return ""

    def _restore_rest(self, removed: Removed, found: StoredDocument | Exception | None) -> Change:
        """Restore the history of a document that was restored without it; leave all other entries."""
        _, stage, doc_id = removed
        change = Change("leave", stage, doc_id, None, self.backend.location(stage, doc_id))
        if isinstance(found, Exception):
            return change._replace(message=f"its record in quarantine cannot be used: {found}", error=found)
        if stage not in self.stages:
            return change._replace(message="not a stage of this pipeline; declare it with stages=… or --stages")
        if not exists(self.backend, stage, doc_id):
            return change._replace(message="only its history is in quarantine, and the store has no such document")
        answer = attempt(lambda: self.apply and self.backend.restore(removed))
        if isinstance(answer, Exception):
            return change._replace(message=str(answer), error=answer)
        return change._replace(outcome="restore", done=answer)


def _load_removed(backend: Backend, removed: Removed) -> StoredDocument | None:
    stored = backend.load_removed(removed)
    return None if stored is None else StoredDocument(backend, removed.stage, removed.doc_id, stored)


class Eraser:
    """Deletes every trace of the texts of a document.

    Args:
        backend, stages: those of the store.
        own: the backend in the user's directory, which may have rescue files of the store.
        descendants: also erase the documents that were made from it.
        progress: as for `Remover`.
    """

    def __init__(
        self,
        backend: Backend,
        stages: Stages,
        own: Backend,
        *,
        descendants: bool,
        progress: Callable[[str], object] | None,
    ) -> None:
        self._backend = backend
        self._stages = stages
        self._own = own
        self._descendants = descendants
        self._progress = progress
        self._names: list[str] = []  # the documents to erase, children first
        self._records: set[bytes] = set()  # of the removed documents
        self._planned = Erasure((), ())

    def plan(self, stage: str, doc_id: str) -> Erasure:
        """Find everything that holds a text of the document, and of its descendants in the store and in quarantine.

        Raises:
            HasChildren: documents were made from it, and they are not to be erased.
            ValueError: quarantine has a descendant, and the store a document of another lineage with its id.
        """
        name = f"{stage}/{doc_id}"
        answers = [attempt(partial(_load_removed, self._backend, each)) for each in self._backend.list_removed()]
        removed = [each for each in answers if isinstance(each, StoredDocument)]
        below, findings = find_descendants(self._backend, self._stages, [name], more=removed, progress=self._progress)
        below.pop(name, None)  # of a cycle
        if below and not self._descendants:
            children = tuple(sorted(_map_children(below, self._stages).get(name, below)))
            where, task_id = self._backend.location(stage, doc_id), self._find_task(stage, doc_id)
            raise HasChildren(stage, doc_id, where, task_id, children, "erase")
        for child, document in below.items():
            self._refuse_other_lineage(child, document, below.keys() | {name})
        self._names = [name_document(each) for group in _sort(below, self._stages) for each in group] + [name]
        findings += tuple(Finding.of(each) for each in answers if isinstance(each, UnreadableDocument))
        self._planned = Erasure(tuple(self._list_traces(self._names)), findings)
        return self._planned

    def apply(self) -> Erasure:
        """Erase the planned documents; return the deleted traces, and those that could not be deleted.

        Raises:
            HasChildren: a child was created since the plan, and children are not to be erased.
            DocumentClaimed, OSError: a document cannot be removed.
        """
        names = self._remove()
        done = self._delete_traces(names)
        while self._find_restored():
            names = self._remove()
            done += self._delete_traces(names)
        failing = {trace.document for trace in done if trace.error is not None}
        traces = [each._replace(done=True) for each in self._planned.traces if each.document not in failing]
        late = set(names) - set(self._names)
        return Erasure((*traces, *(each for each in done if each.document in failing | late)), self._planned.findings)

    def _refuse_other_lineage(self, name: str, document: StoredDocument, erased: Collection[str]) -> None:
        """Raise ValueError if the store has a document with the name of a removed one, made from other documents."""
        found = attempt(partial(StoredDocument.load, self._backend, *split_name(name)))
        if (
            isinstance(found, StoredDocument)
            and is_other_lineage(found.facts, document)
            and set(erased).isdisjoint(name_sources(found, self._stages))
        ):
            where = "quarantine has a version of it that was made from the document, and the store another document"
            raise ValueError(f"{name}: {where}; erase {name} first, or purge the quarantine")

    def _find_task(self, stage: str, doc_id: str) -> str | None:
        found = attempt(partial(StoredDocument.load, self._backend, stage, doc_id))
        return found.task_id if isinstance(found, StoredDocument) else None

    def _list_traces(self, names: list[str]) -> Iterator[Trace]:
        """Yield what holds texts of documents, by document."""
        found: dict[str, list[Trace]] = {name: [] for name in names}
        for name, size in zip(names, self._backend.each(self._measure, names), strict=True):
            if size is not None:
                found[name].append(Trace(name, self._backend.location(*split_name(name)), size))
        for backend, path in self._list_paths(names):
            trace = _describe_path(backend, path)
            found[trace.document].append(trace)
        for traces in found.values():
            yield from traces

    def _list_paths(self, names: Iterable[str]) -> list[tuple[Backend, TracePath]]:
        """Return the traces of documents in the order in which to delete them.

        The records go last, children first: they say what the documents were made from, and an erasure that is
        interrupted must find that out again.
        """
        order = {split_name(name): number for number, name in enumerate(names)}
        found = [(each, path) for each in (self._backend, self._own) for path in each.list_traces(order.keys())]
        return sorted(found, key=lambda pair: (pair[1].has_record, order[pair[1].stage, pair[1].doc_id]))

    def _measure(self, name: str) -> int | None:
        """Return the size of a document in bytes, 0 if it is damaged; None if it does not exist."""
        found = attempt(lambda: self._backend.load(*split_name(name), ALL_FILES))
        if isinstance(found, Stored):
            return len(found.record) + sum(map(len, found.parts.values()))
        return None if found is None else 0

    def _remove(self) -> list[str]:
        """Move the documents to quarantine, so that a reader sees a whole document or none; all of them, or raise.

        Returns:
            Their names, and those of late children, children first.
        """
        remover = Remover(
            self._backend, self._stages, descendants=self._descendants, action="erase", progress=self._progress
        )
        remover.plan(self._names)
        removal = remover.apply()
        for change in removal.changes:
            is_damaged = isinstance(change.error, UnreadableDocument)
            if change.error is not None and change.outcome == "leave" and not (is_damaged and self._clear(change)):
                restorer = Restorer(self._backend, self._stages, require_parent=True, apply=True)
                for run in removal.runs:
                    restorer.restore(run)
                raise change.error
        return list(
            dict.fromkeys([f"{each.stage}/{each.doc_id}" for each in removal.changes if each.done] + self._names)
        )

    def _clear(self, change: Change) -> bool:
        """Move a damaged document to quarantine; return whether that was possible."""
        sweeper, stage, doc_id = self._backend.sweeper(), change.stage, change.doc_id
        found = attempt(lambda: self._backend.load(stage, doc_id))
        expected = found.record if isinstance(found, Stored) else None
        fault = Finding("torn-document", stage, doc_id, None, change.location, "", "", "quarantine", expected)
        return sweeper is not None and sweeper.clear(fault, entry_name(()), 0.0) is not None

    def _delete_traces(self, names: Iterable[str]) -> list[Trace]:
        """Delete all traces of documents that are not in the store; return them, some with an error."""
        self._records = {
            stored.record
            for each in self._backend.list_removed()
            if f"{each.stage}/{each.doc_id}" in set(names) and (stored := self._backend.load_removed(each)) is not None
        }
        done = []
        for backend, path in self._list_paths(names):
            error = attempt(lambda: backend.erase_trace(path))  # noqa: B023 - called at once
            failure = error if isinstance(error, Exception) else None
            done.append(_describe_path(backend, path)._replace(done=failure is None, error=failure))
        return done

    def _find_restored(self) -> bool:
        """Return whether a restore has moved a document back before its trace was deleted."""
        found = (attempt(lambda: self._backend.load(*split_name(name))) for name in self._names)  # noqa: B023 - at once
        return any(isinstance(each, Stored) and each.record in self._records for each in found)


def _describe_path(backend: Backend, path: TracePath) -> Trace:
    return Trace(f"{path.stage}/{path.doc_id}", join_location(backend.root, path.path), path.size)

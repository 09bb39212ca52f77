"""Remove documents, restore them, and erase them for good.

A document must not lose its parent or an input. So a removal moves children first. It then looks for children that a
writer has created meanwhile, and removes them, too, or puts their parents back. A writer that creates a child looks for
its parent once more (`Writer`). So one of the two sees the other, in every order of their steps.
"""

from __future__ import annotations

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
from docid.store.stored import StoredDocument
from docid.store.writing import exists

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from docid.core.stages import Stages

__all__ = ["Erasure", "Removal", "Trace"]


@frozen
class Removal:
    """The result of a removal, or its plan.

    Attributes:
        run: the name of the removal, for `DocsStore.restore`; empty in a plan.
        changes: one for each document, children first: `remove`, `absent` (not in the store), or `leave` with the
            reason.
        findings: records that docid could not read; they may belong to children.
    """

    run: str
    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]


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
    """

    traces: tuple[Trace, ...]
    findings: tuple[Finding, ...]


class Remover:
    """Removes documents of a store.

    Args:
        backend, stages: those of the store.
        descendants: also remove the documents that were made from them; otherwise leave a document that has children.
    """

    def __init__(self, backend: Backend, stages: Stages, *, descendants: bool) -> None:
        self._backend = backend
        self._stages = stages
        self._descendants = descendants
        self._run = entry_name(())
        self._seen: set[str] = set()  # documents that were read, so a later pass need not read them
        self._chosen: dict[str, StoredDocument] = {}
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
        return Removal("", (*planned, *self._changes.values()), tuple(self._findings))

    def apply(self) -> Removal:
        """Remove the chosen documents."""
        self._remove_all(self._chosen, takes_claims=True)
        while late := self._find_late():
            if self._descendants:
                self._chosen |= late
                self._remove_all(late, takes_claims=False)
            self._put_back({name: each for name, each in late.items() if not self._is_done(name)})
        changes = sorted(self._changes.values(), key=lambda change: not change.done)
        return Removal(self._run if changes and changes[0].done else "", tuple(changes), tuple(self._findings))

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
        found, findings = find_descendants(self._backend, self._stages, names, seen=seen)
        self._findings |= dict.fromkeys(findings)
        return found

    def _find_late(self) -> dict[str, StoredDocument]:
        """Return the descendants of removed documents that were created meanwhile, and everything made from them."""
        self._seen -= self._chosen.keys()  # they may be created or restored again
        late = self._find_below([name for name, change in self._changes.items() if change.done], self._seen)
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
                if left := [child for child in below if child in self._changes and not self._is_done(child)]:
                    self._leave(document, left)
                else:
                    free.append(document)
            for document, change in zip(free, self._backend.each(remove, free), strict=True):
                name = name_document(document)
                if change.outcome == "leave" or not self._is_done(name):  # a late version may go after the first one
                    self._changes[name] = change

    def _remove(self, document: StoredDocument, *, takes_claim: bool) -> Change:
        """Move a document to quarantine; raise an error if it must stay."""
        backend, stage, doc_id = self._backend, document.stage, document.doc_id
        claim = backend.take_claim(stage, doc_id) if takes_claim else None
        if isinstance(claim, Holder):
            remedy = "remove it when that worker has finished"
            raise DocumentClaimed(
                stage, doc_id, document.location, document.task_id, str(claim), remedy, action="removed"
            )
        try:
            for _ in range(TURNS):
                current = StoredDocument.load(backend, stage, doc_id)
                if current is None or is_other_lineage(current.facts, document):
                    return _report(document, "absent", DocumentNotFound(stage, doc_id, document.location))
                # A writer may have created it again, since its parent was removed after it.
                run = entry_name(()) if self._is_done(f"{stage}/{doc_id}") else self._run
                if (to := backend.remove(stage, doc_id, current.stored.record, run)) is not None:
                    return _report(current, "remove")._replace(message=to, done=True)
            raise DocumentBusy(stage, doc_id, document.location, document.task_id)
        finally:
            if claim is not None:
                claim.release()

    def _put_back(self, late: Mapping[str, StoredDocument]) -> None:
        """Restore the documents that late children were made from, and those that these were made from."""
        wanted: dict[str, list[str]] = {}
        left = list(late.items())
        while left:
            child, document = left.pop()
            for source in name_sources(document, self._stages):
                if source in self._chosen and self._is_done(source):
                    if source not in wanted:
                        left.append((source, self._chosen[source]))
                    wanted.setdefault(source, []).append(child)
        for group in reversed(_sort({name: self._chosen[name] for name in wanted}, self._stages)):
            for document in group:
                removed = Removed(self._run, document.stage, document.doc_id)
                attempt(lambda: self._backend.restore(removed))  # noqa: B023 - called at once
                self._leave(document, wanted[name_document(document)])

    def _leave(self, document: StoredDocument, children: Iterable[str]) -> None:
        """Note that a document stays because of its children."""
        names = tuple(sorted(children))
        error = HasChildren(document.stage, document.doc_id, document.location, document.task_id, names)
        self._changes[name_document(document)] = _report(document, "leave", error)

    def _is_done(self, name: str) -> bool:
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


def restore(
    backend: Backend, stages: Stages, run: str, names: Collection[str] = (), *, apply: bool
) -> tuple[Change, ...]:
    """Move the documents of a removal back, parents first. See `DocsStore.restore`."""
    refuse_text(names, "names", "names of documents")
    removed = {f"{each.stage}/{each.doc_id}": each for each in backend.list_removed() if each.run == run}
    if missing := [name for name in names if name not in removed] or ([] if removed else [run]):
        raise ValueError(f"{missing[0]}: not in quarantine; 'docid restore' lists what can be restored")
    chosen = {name: each for name, each in removed.items() if not names or name in names}
    documents: dict[str, StoredDocument] = {}
    changes: list[Change] = []
    loaded = backend.each(lambda each: attempt(lambda: _load_removed(backend, each)), chosen.values())
    for (name, each), found in zip(chosen.items(), loaded, strict=True):
        if isinstance(found, StoredDocument):
            documents[name] = found
        else:
            changes.append(_restore_rest(backend, each, found, apply=apply))
    restored: set[str] = set()  # or planned

    def restore_one(document: StoredDocument) -> Change:
        each = chosen[name_document(document)]
        answer = attempt(lambda: _restore(document, each, stages, restored, apply=apply))
        error = answer if isinstance(answer, Exception) else None
        change = _report(document, "leave" if answer else "restore", error)
        return change._replace(message=str(answer), done=apply and not answer)

    for group in reversed(_sort(documents, stages)):
        done = list(backend.each(restore_one, group))
        restored.update(f"{change.stage}/{change.doc_id}" for change in done if change.outcome == "restore")
        changes += done
    return tuple(changes)


def _load_removed(backend: Backend, removed: Removed) -> StoredDocument | None:
    stored = backend.load_removed(removed)
    return None if stored is None else StoredDocument(backend, removed.stage, removed.doc_id, stored)


def _restore(
    document: StoredDocument, removed: Removed, stages: Stages, restored: Collection[str], *, apply: bool
) -> str:
    """Move a document back, or in a plan check that it can be; return why it cannot, or an empty text."""
    backend = document.backend
    if problem := _find_lost_source(document, stages, () if apply else restored):
        return problem
    if not (backend.restore(removed) if apply else not exists(backend, document.stage, document.doc_id)):
        return "the store has a document with this id again; remove that one first"
    problem = _find_lost_source(document, stages, ()) if apply else ""
    if problem:  # it was removed in the meantime
        backend.remove(document.stage, document.doc_id, document.stored.record, removed.run)
    return problem


def _find_lost_source(document: StoredDocument, stages: Stages, known: Collection[str]) -> str:
    """Return what is wrong if a parent or input is neither known nor in the store; else an empty text."""
    for name in name_sources(document, stages):
        if name not in known and not exists(document.backend, *split_name(name)):
            role = "input" if name in document.inputs else "parent"
            return f"its {role} {name} is not in the store; restore that first"
    return ""


def _restore_rest(backend: Backend, removed: Removed, found: Exception | None, *, apply: bool) -> Change:
    """Restore the history of a document that was restored without it; leave anything that is not a whole document."""
    _, stage, doc_id = removed
    change = Change("leave", stage, doc_id, None, backend.location(stage, doc_id))
    if found is not None:
        return change._replace(message=f"its record in quarantine cannot be used: {found}", error=found)
    if not exists(backend, stage, doc_id):
        return change._replace(message="quarantine has no record of it, so it is not a document")
    answer = attempt(lambda: apply and backend.restore(removed))
    if isinstance(answer, Exception):
        return change._replace(message=str(answer), error=answer)
    return change._replace(outcome="restore", done=answer)


class Eraser(NamedTuple):
    """Deletes every trace of the texts of documents.

    Attributes:
        backend, stages: those of the store.
        own: the backend in the user's directory, which may have rescue files of the store.
    """

    backend: Backend
    stages: Stages
    own: Backend

    def plan(self, stage: str, doc_id: str, *, descendants: bool) -> tuple[list[str], Erasure]:
        """Return the names of the documents to erase, children first, and the traces of their texts.

        Raises:
            HasChildren: documents were made from it, and `descendants` is false.
        """
        name = f"{stage}/{doc_id}"
        removed = [found for each in self.backend.list_removed() if (found := self._load_removed(each)) is not None]
        below, findings = find_descendants(self.backend, self.stages, [name], more=removed)
        below.pop(name, None)  # of a cycle
        if below and not descendants:
            children = tuple(sorted(_map_children(below, self.stages).get(name, ())))
            where, task_id = self.backend.location(stage, doc_id), self._find_task(stage, doc_id)
            raise HasChildren(stage, doc_id, where, task_id, children, "erase")
        names = [name_document(each) for group in _sort(below, self.stages) for each in group] + [name]
        return names, Erasure(tuple(self._list_traces(names)), findings)

    def apply(self, names: list[str], planned: Erasure) -> Erasure:
        """Erase the planned documents; return the deleted traces, and those that could not be deleted.

        Raises:
            DocumentClaimed, OSError: a document cannot be removed. docid has deleted nothing then.
        """
        self._remove(names)
        failed = list(self._delete_traces(names))
        failing = {trace.document for trace in failed}
        done = [each._replace(done=True) for each in planned.traces if each.document not in failing]
        return Erasure((*done, *failed), planned.findings)

    def _load_removed(self, removed: Removed) -> StoredDocument | None:
        found = attempt(lambda: _load_removed(self.backend, removed))
        return found if isinstance(found, StoredDocument) else None

    def _find_task(self, stage: str, doc_id: str) -> str | None:
        found = attempt(lambda: StoredDocument.load(self.backend, stage, doc_id))
        return found.task_id if isinstance(found, StoredDocument) else None

    def _list_traces(self, names: list[str]) -> Iterator[Trace]:
        """Yield what holds texts of documents, by document."""
        found: dict[str, list[Trace]] = {name: [] for name in names}
        for name, size in zip(names, self.backend.each(self._measure, names), strict=True):
            if size is not None:
                found[name].append(Trace(name, self.backend.location(*split_name(name)), size))
        for backend, path in self._list_paths(names):
            name = f"{path.stage}/{path.doc_id}"
            found[name].append(Trace(name, join_location(backend.root, path.path), path.size))
        for traces in found.values():
            yield from traces

    def _list_paths(self, names: Iterable[str]) -> Iterator[tuple[Backend, TracePath]]:
        documents = {split_name(name) for name in names}
        for backend in (self.backend, self.own):
            for path in list(backend.list_traces(documents)):
                yield backend, path

    def _measure(self, name: str) -> int | None:
        """Return the size of a document in bytes, 0 if it is damaged; None if it does not exist."""
        found = attempt(lambda: self.backend.load(*split_name(name), ALL_FILES))
        if isinstance(found, Stored):
            return len(found.record) + sum(map(len, found.parts.values()))
        return None if found is None else 0

    def _remove(self, names: Iterable[str]) -> None:
        """Move documents to quarantine, so that a reader sees a whole document or none; all of them, or raise."""
        remover = Remover(self.backend, self.stages, descendants=True)
        remover.plan(names)
        removal = remover.apply()
        for change in removal.changes:
            if change.outcome != "leave":
                continue
            if isinstance(change.error, UnreadableDocument) and self._clear(change):
                continue
            if removal.run:
                restore(self.backend, self.stages, removal.run, apply=True)
            assert change.error is not None  # noqa: S101 - a document is left because of an error
            raise change.error

    def _clear(self, change: Change) -> bool:
        """Move a damaged document to quarantine; return whether that was possible."""
        sweeper, stage, doc_id = self.backend.sweeper(), change.stage, change.doc_id
        found = attempt(lambda: self.backend.load(stage, doc_id))
        expected = found.record if isinstance(found, Stored) else None
        fault = Finding("torn-document", stage, doc_id, None, change.location, "", "", "quarantine", expected)
        return sweeper is not None and sweeper.clear(fault, entry_name(()), 0.0) is not None

    def _delete_traces(self, names: Iterable[str]) -> Iterator[Trace]:
        """Delete all traces of documents that are not in the store; yield those that cannot be deleted."""
        for backend, path in self._list_paths(names):
            error = attempt(lambda: backend.erase_trace(path))  # noqa: B023 - called at once
            if isinstance(error, Exception):
                location = join_location(backend.root, path.path)
                yield Trace(f"{path.stage}/{path.doc_id}", location, path.size, error=error)

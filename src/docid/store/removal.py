"""Remove documents, restore them, and erase them for good.

A document must not lose its parent or an input. So a removal moves children first. It then searches for children that a
writer has created since, and removes them, too, or puts their parents back. A writer that creates a child checks its
parent again after that (`Writer`). So one of the two sees the other, in every order of their steps.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from graphlib import CycleError, TopologicalSorter
from itertools import chain, groupby
from typing import TYPE_CHECKING, NamedTuple, cast

from attrs import frozen

from docid._text import format_count
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
    from docid.store.rescue import Rescue

__all__ = ["Erasure", "Removal", "Trace"]


@frozen
class Removal:
    """The result of a removal, or its plan.

    Attributes:
        entries: the names of the directories in quarantine to which documents were moved, for `DocsStore.restore`.
            Usually one. A document that a writer created again during the removal has another one. Empty in a plan.
        changes: one for each document, children first: `remove`, `absent` (not in the store), or `leave` with the
            reason.
        findings: records that docid could not read; they may belong to children.

    Example:
        >>> from docid import DocsStore, Document
        >>> store = DocsStore("memory://")
        >>> _ = store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="Once."))
        >>> planned = store.remove_many(["draft/d1", "draft/d2"], dry_run=True)
        >>> [(change.doc_id, change.outcome) for change in planned.changes], planned.entries
        ([('d1', 'remove'), ('d2', 'absent')], ())
    """

    entries: tuple[str, ...]
    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]

    @property
    def entry(self) -> str:
        """The first of `entries`; empty if no document was moved."""
        return self.entries[0] if self.entries else ""


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
        seen: names of documents that were read before and are not descendants.
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
        seen: Iterable[str] = (),
    ) -> None:
        self._backend = backend
        self._stages = stages
        self._descendants = descendants
        self._takes_claims = takes_claims
        self._action = action
        self._progress = progress
        self._entries = [entry_name(())]
        self._seen = set(seen)  # documents that were read, so a later pass need not read them
        self._chosen: dict[str, StoredDocument] = {}
        self._moved: set[str] = set()  # the documents in the first entry
        self._stuck: set[str] = set()  # those that stay in quarantine, although a child was created
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
            has_seen = bool(self._seen)
            below = self._find_below(self._chosen, self._seen)
            if has_seen and (new := below.keys() - self._chosen.keys()):
                below |= self._find_below(new)  # as in `_find_late`
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
            new = {name: each for name, each in late.items() if self._descendants and not self._is_left(name)}
            for name in new:
                self._changes.pop(name, None)  # of an earlier version
            self._chosen |= new
            self._remove_all(new, takes_claims=False)
            self._put_back({name: each for name, each in late.items() if not self._is_gone(name) or name not in new})
        changes = sorted(self._changes.values(), key=lambda change: not change.done)
        entries = self._entries if self._moved | self._stuck else ()
        return Removal(tuple(entries), tuple(changes), tuple(self._findings))

    def withdraw(self, documents: Iterable[StoredDocument]) -> Removal:
        """Remove documents whose parent or input is gone, and everything made from them."""
        self._chosen = {name_document(each): each for each in documents}
        return self.apply()

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
        if not self._moved:
            return {}
        # These may be in the store again, and be made from other documents now.
        self._seen -= self._chosen.keys()
        self._seen -= {f"{each.stage}/{each.doc_id}" for each in self._backend.list_removed()}
        late = self._find_below(self._moved, self._seen)
        # An earlier pass may have read a grandchild before it was known to be one.
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
            free = dict(zip(map(name_document, group), group, strict=True))
            # In a cycle, a document may have a child in its own group.
            while left := {
                name: found
                for name in free
                if (found := [child for child in children.get(name, ()) if self._is_left(child)])
            }:
                for name, found in left.items():
                    self._leave(free.pop(name), found)
            for name, change in zip(free, self._backend.each(remove, free.values()), strict=True):
                self._changes[name] = change
                self._moved |= {name} if change.done else set()

    def _remove(self, document: StoredDocument, *, takes_claim: bool) -> Change:
        """Move a document to quarantine; raise an error if it must stay."""
        backend, stage, doc_id = self._backend, document.stage, document.doc_id
        claim = backend.take_claim(stage, doc_id) if takes_claim else None
        if isinstance(claim, Holder):
            raise _refuse_claim(stage, doc_id, document.location, document.task_id, claim, self._action)
        try:
            for _ in range(TURNS):
                current = StoredDocument.load(backend, stage, doc_id)
                if current is None or is_other_lineage(current.facts, document):
                    return _report(document, "absent", DocumentNotFound(stage, doc_id, document.location))
                entry = self._choose_entry(f"{stage}/{doc_id}")
                if (to := backend.remove(stage, doc_id, current.stored.record, entry)) is not None:
                    return _report(current, "remove")._replace(message=to, done=True)
            raise DocumentBusy(stage, doc_id, document.location, document.task_id)
        finally:
            if claim is not None:
                claim.release()

    def _choose_entry(self, name: str) -> str:
        """Return the entry to which to move a document: a new one for a second version of a name."""
        if name not in self._moved:
            return self._entries[0]
        self._entries.append(entry_name(self._entries))
        return self._entries[-1]

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
                removed = Removed(self._entries[0], document.stage, document.doc_id)
                answer = attempt(lambda: self._backend.restore(removed))  # noqa: B023 - called at once
                self._moved.discard(name)
                if answer is True:
                    self._leave(document, wanted[name])
                    continue
                self._stuck.add(name)
                if isinstance(answer, Exception):
                    self._changes[name] = _report(document, "leave", answer)
                # Otherwise a writer has made this document again, and it is the parent of the late child.

    def _leave(self, document: StoredDocument, children: Iterable[str]) -> None:
        """Note that a document stays because of its children."""
        names = tuple(sorted(children))
        facts = (document.stage, document.doc_id, document.location, document.task_id)
        # A child that was to be removed, too, has its own change with the reason why it stays.
        is_tried = self._descendants or not self._chosen.keys().isdisjoint(names)
        error = HasChildren(*facts, names, self._action, is_tried)
        self._changes[name_document(document)] = _report(document, "leave", error)

    def _is_left(self, name: str) -> bool:
        """Return whether a document was to be removed, and stays."""
        return name in self._changes and not self._is_gone(name)

    def _is_gone(self, name: str) -> bool:
        """Return whether a document was removed, or was not in the store."""
        change = self._changes.get(name)
        return change is not None and (change.done or change.outcome == "absent")


def _refuse_claim(  # noqa: PLR0917 - the facts of the error
    stage: str, doc_id: str, where: str, task_id: str | None, holder: Holder, action: str
) -> DocumentClaimed:
    remedy = f"{action} it when that worker has finished"
    return DocumentClaimed(stage, doc_id, where, task_id, str(holder), remedy, f"{action}d")


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
    with suppress(CycleError):  # of documents that were written without their parents
        sorter.prepare()
    groups, left = [], dict(documents)
    while ready := sorter.get_ready():
        groups.append([left.pop(name) for name in ready])
        sorter.done(*ready)
    # A cycle, and everything above it, is one group.
    return [*groups, list(left.values())] if left else groups


def _report(document: StoredDocument, outcome: RemoveOutcome, error: Exception | None = None) -> Change:
    message = "" if error is None else str(error)
    names = (document.stage, document.doc_id, document.task_id, document.location)
    return Change(outcome, *names, message, error=error)


_MOVING = "another process moves it, or other files have its place; run 'docid repair', or try again"


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

    def restore(self, entry: str, names: Collection[str] = ()) -> tuple[Change, ...]:
        """Restore documents, parents first; return a change for each."""
        refuse_text(names, "names", "names of documents")
        removed = {f"{each.stage}/{each.doc_id}": each for each in self.backend.list_removed() if each.entry == entry}
        if missing := [name for name in names if name not in removed] or ([] if removed else [entry]):
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
        if not (self.apply and self.backend.restore(removed)):
            if exists(self.backend, document.stage, document.doc_id):
                return "the store has a document with this id again; remove that one first"
            return _MOVING if self.apply else ""
        if problem := self._find_lost_source(document, known):  # it was removed in the meantime
            remover = Remover(self.backend, self.stages, descendants=True, takes_claims=False)
            if entry := remover.withdraw([document]).entry:
                problem += f", then the removal {entry}, in which this document is now"
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
        answer = attempt(lambda: not self.apply or self.backend.restore(removed))
        if isinstance(answer, Exception):
            return change._replace(message=str(answer), error=answer)
        return change._replace(outcome="restore", done=self.apply) if answer else change._replace(message=_MOVING)


def _load_removed(backend: Backend, removed: Removed) -> StoredDocument | None:
    stored = backend.load_removed(removed)
    return None if stored is None else StoredDocument(backend, removed.stage, removed.doc_id, stored)


class Eraser:
    """Deletes every trace of the texts of a document.

    Args:
        backend, stages: those of the store.
        rescue: the rescue files of the store.
        descendants: also erase the documents that were made from it.
        progress: as for `Remover`.
    """

    def __init__(
        self,
        backend: Backend,
        stages: Stages,
        rescue: Rescue,
        *,
        descendants: bool,
        progress: Callable[[str], object] | None,
    ) -> None:
        self._backend = backend
        self._stages = stages
        self._rescue = rescue
        self._descendants = descendants
        self._progress = progress
        self._levels: dict[str, int] = {}  # the documents to erase: those of a lower level first
        self._seen: set[str] = set()  # the documents that were read
        self._records: set[bytes] = set()  # of the removed documents
        self._planned = Erasure((), ())

    def plan(self, stage: str, doc_id: str) -> Erasure:
        """Find everything that holds a text of the document, and of its descendants in the store and in quarantine.

        Raises:
            HasChildren: documents were made from it, and they are not to be erased.
            ValueError: quarantine has a descendant, and the store a document of another lineage with its id.
        """
        name, load = f"{stage}/{doc_id}", partial(_load_removed, self._backend)
        answers = list(self._backend.each(lambda each: attempt(lambda: load(each)), self._backend.list_removed()))
        removed = [each for each in answers if isinstance(each, StoredDocument)]
        below, findings = find_descendants(
            self._backend, self._stages, [name], seen=self._seen, more=removed, progress=self._progress
        )
        below.pop(name, None)  # of a cycle
        rescued = self._find_rescued({name, *below})
        if (below or rescued) and not self._descendants:
            stored = _map_children(below, self._stages).get(name, below)
            children = {*stored, *(child for child, sources in rescued.items() if name in sources)}
            where, task_id = self._backend.location(stage, doc_id), self._find_task(stage, doc_id)
            raise HasChildren(stage, doc_id, where, task_id, tuple(sorted(children)), "erase")
        for child, document in below.items():
            self._refuse_other_lineage(child, document, below.keys() | {name})
        groups = [list(rescued), *(list(map(name_document, group)) for group in _sort(below, self._stages)), [name]]
        self._levels = {each: level for level, group in enumerate(groups) for each in group}
        findings += tuple(Finding.of(each) for each in answers if isinstance(each, UnreadableDocument))
        self._planned = Erasure(tuple(self._list_traces(self._levels)), findings)
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
        late = set(names) - self._levels.keys()
        return Erasure((*traces, *(each for each in done if each.document in failing | late)), self._planned.findings)

    def _find_rescued(self, known: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Return the documents of which there is only a rescued reply that was made from known ones, with its sources.

        Raises:
            ValueError: the store has a document of another lineage with the id of a rescued reply.
        """
        found: dict[str, tuple[str, ...]] = {}
        for reply in chain.from_iterable(map(self._rescue.list_lineages, self._stages)):
            sources, name = name_sources(reply, self._stages), name_document(reply)
            if name in known or set(known).isdisjoint(sources):
                continue
            found[name] = sources
            if exists(self._backend, reply.stage, reply.doc_id):
                wrong = "a rescued reply for it was made from the document, and the store has another document"
                raise ValueError(f"{name}: {wrong}; delete that reply with 'docid rescued --discard', and erase again")
        return found

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

    def _list_traces(self, names: Iterable[str]) -> Iterator[Trace]:
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
        documents = set(map(split_name, names))
        backends = self._backend, self._rescue.own
        return sorted(((each, path) for each in backends for path in each.list_traces(documents)), key=self._rank)

    def _rank(self, pair: tuple[Backend, TracePath]) -> tuple[bool, int]:
        """Return the place of a trace in the order. Children that were created late are in no level."""
        trace = pair[1]
        return trace.has_record, self._levels.get(f"{trace.stage}/{trace.doc_id}", -1)

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
            self._backend,
            self._stages,
            descendants=self._descendants,
            action="erase",
            progress=self._progress,
            seen=self._seen,
        )
        self._refuse_claims(remover.plan(self._levels))
        removal = remover.apply()
        left = [change for change in removal.changes if change.outcome == "leave" and change.error is not None]
        damaged = [change for change in left if isinstance(change.error, UnreadableDocument)]
        if refused := [change for change in left if change not in damaged] or [
            change for change in damaged if not self._clear(change)
        ]:
            raise self._undo(removal, cast("Exception", refused[0].error))
        return list(
            dict.fromkeys([f"{each.stage}/{each.doc_id}" for each in removal.changes if each.done] + [*self._levels])
        )

    def _refuse_claims(self, planned: Removal) -> None:
        """Raise DocumentClaimed if a worker is making a document that is not in the store."""
        absent = [change for change in planned.changes if change.outcome == "absent"]
        for stage in {change.stage for change in absent}:
            holders = dict(self._backend.list_claims(stage))
            for each in absent:
                if each.stage == stage and each.doc_id in holders:
                    raise _refuse_claim(each.stage, each.doc_id, each.location, None, holders[each.doc_id], "erase")

    def _undo(self, removal: Removal, error: Exception) -> Exception:
        """Move the documents of a removal back; return the error that stopped the erasure."""
        restorer = Restorer(self._backend, self._stages, require_parent=True, apply=True)
        for entry in reversed(removal.entries):
            if left := sum(not change.done for change in restorer.restore(entry)):
                way = f"'docid restore {entry} --without-parents --apply' moves {'it' if left == 1 else 'them'} back"
                error.add_note(f"{format_count(left, 'document')} left in quarantine; {way}")
        return error

    def _clear(self, change: Change) -> bool:
        """Move a damaged document to quarantine; return whether that was possible."""
        sweeper, stage, doc_id = self._backend.sweeper(), change.stage, change.doc_id
        found = attempt(lambda: self._backend.load(stage, doc_id))
        expected = found.record if isinstance(found, Stored) else None
        fault = Finding("torn-document", stage, doc_id, None, change.location, "", "", "quarantine", expected)
        return sweeper is not None and sweeper.clear(fault, entry_name(()), 0.0) is not None

    def _delete_traces(self, names: Iterable[str]) -> list[Trace]:
        """Delete all traces of documents that are not in the store; return them, some with an error."""
        chosen, load = set(names), self._backend.load_removed
        removed = [each for each in self._backend.list_removed() if f"{each.stage}/{each.doc_id}" in chosen]
        found = self._backend.each(lambda each: attempt(lambda: load(each)), removed)
        self._records = {each.record for each in found if isinstance(each, Stored)}
        done: list[Trace] = []
        for _, group in groupby(self._list_paths(names), key=self._rank):
            done += self._backend.each(_delete_trace, group)
        return done

    def _find_restored(self) -> bool:
        """Return whether a restore has moved a document back before its trace was deleted."""

        def is_back(name: str) -> bool:
            found = attempt(lambda: self._backend.load(*split_name(name)))
            return isinstance(found, Stored) and found.record in self._records

        return any(list(self._backend.each(is_back, self._levels)))


def _delete_trace(found: tuple[Backend, TracePath]) -> Trace:
    """Delete a trace; return it, with the error that stopped the deletion."""
    backend, path = found
    answer = attempt(lambda: backend.erase_trace(path))
    trace = _describe_path(backend, path)
    return trace._replace(error=answer) if isinstance(answer, Exception) else trace._replace(done=True)


def _describe_path(backend: Backend, path: TracePath) -> Trace:
    return Trace(f"{path.stage}/{path.doc_id}", join_location(backend.root, path.path), path.size)

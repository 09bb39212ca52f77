"""`copy`: copy documents from one store to another, byte for byte."""

import os
from collections.abc import Container, Iterable, Iterator
from itertools import islice, pairwise
from typing import NamedTuple

from docid._files import raise_time_limit
from docid._text import format_count
from docid.core.document import ALL_FILES
from docid.core.findings import Change, ChangeOutcome
from docid.core.ids import refuse_text
from docid.core.lineage_rules import describe_lineage, is_other_lineage, is_same_lineage
from docid.errors import InvalidDocument, StoreUnavailable, UnreadableDocument
from docid.store.backends.base import Backend, NewDocument, Stored
from docid.store.backends.local.backend import LocalBackend
from docid.store.docs_store import DocsStore, check_store
from docid.store.stored import StoredDocument, drop_later_parts


def copy(
    source: DocsStore,
    target: DocsStore,
    *,
    only: Iterable[str] | None = None,
    history: bool = True,
    verify: bool = False,
    dry_run: bool = False,
) -> Iterator[Change]:
    """Copy documents from one store into another, and yield the outcome for each.

    Records, texts and history stay the same byte for byte, also in records of older systems. Each document is created
    atomically, after its sizes and SHA-256 are compared with its record. A copy never overwrites another document.
    Run an interrupted copy again to continue it: documents already in the target are skipped. The target's manifest
    gets the stages of the source.

    Args:
        source: the store to copy from; it is not changed.
        target: the store to copy to. If it was opened without `stages`, it takes those of the source.
        only: names of the stages to copy; by default all stages of the source, parents first.
        history: also copy replaced versions.
        verify: read each copy back and compare it with the source.
        dry_run: report the outcomes without writing.

    Returns:
        A stream with one `Change` per document; its outcome is copied, updated, same, conflict or refused.

    Raises:
        InvalidName: the source lacks a stage, or the target was opened with `stages` that lack one.
        StagesConflict: the target has another parent for a stage of the source.
        ValueError: source and target are the same directory, or one contains the other.
        OSError: a stage cannot be listed, a store does not answer, or the target cannot be written. Documents copied
            before stay. An unreadable document is refused, and does not stop the others.

    Example:
        >>> from docid import DocsStore, Document
        >>> here, there = DocsStore("memory://"), DocsStore("memory://")
        >>> _ = here.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="once"))
        >>> [each.outcome for each in copy(here, there)], [each.outcome for each in copy(here, there)]
        (['copied'], ['same'])
    """
    check_store(source, "source")
    check_store(target, "target")
    refuse_text(only, "only", "names of stages")
    names = list(dict.fromkeys(source.stages.check(each) for each in (source.stages if only is None else only)))
    united = target.manifest.unite(source.stages)
    for stage in names:
        united.check(stage)
    if isinstance(source.backend, LocalBackend) and isinstance(target.backend, LocalBackend):
        here, there = (os.path.join(os.path.realpath(each.root), "") for each in (source, target))
        if here.startswith(there) or there.startswith(here):
            raise ValueError(f"target: {target.root} and {source.root} overlap; expected two separate directories")
    job = _Copy(source.backend, target.backend, history, verify, dry_run)

    def run() -> Iterator[Change]:
        if not dry_run:
            target.manifest.record(source.stages)
        for stage in names:
            yield from job.copy_stage(stage)

    return run()


class _Versions(NamedTuple):
    """The versions of a document to copy, earliest first, and a message if the history is incomplete."""

    versions: list[StoredDocument]
    message: str = ""

    @property
    def last(self) -> StoredDocument:
        return self.versions[-1]

    def find(self, stored: Stored | None) -> int | None:
        """Return the position of a stored version, the last one if it repeats; None if it is not among them."""
        return next((at for at in reversed(range(len(self.versions))) if self.versions[at].stored == stored), None)


class _Copy(NamedTuple):
    """A copy between two backends, with the options of `copy`."""

    source: Backend
    target: Backend
    history: bool
    verify: bool
    dry_run: bool

    def copy_stage(self, stage: str) -> Iterator[Change]:
        """Copy the documents of a stage."""
        with_history = self.source.with_history(stage) if self.history else ()
        # In an empty stage no document exists yet. If one appears during the copy, `create_many` returns False for it.
        is_new = next(iter(self.target.ids(stage)), None) is None
        loaded = self.source.each(lambda doc_id: self._load(stage, doc_id, with_history), self.source.ids(stage))
        ended: StoreUnavailable | None = None
        while ended is None:
            chunk: list[_Versions | Change | None] = []
            try:
                chunk.extend(islice(loaded, self.target.together))
            except StoreUnavailable as error:
                ended = error  # raised below, after the documents before it are copied
            if not chunk:
                break
            yield from self._copy_chunk(stage, [each for each in chunk if each is not None], is_new=is_new)
        if ended is not None:
            raise ended

    def _copy_chunk(self, stage: str, chunk: list[_Versions | Change], *, is_new: bool) -> Iterator[Change]:
        """Create the documents that the target lacks in one call, then compare and update the rest."""
        # A document that is replaced during the listing may be listed twice.
        found = {each.last.doc_id: each for each in chunk if isinstance(each, _Versions)}
        exists = [False] * len(found) if is_new else self.target.each(lambda doc_id: self._exists(stage, doc_id), found)
        done = self._create([each for each, is_there in zip(found.values(), exists, strict=True) if not is_there])
        rest = [each for doc_id, each in found.items() if doc_id not in done]
        done.update((change.doc_id, change) for change in self.target.each(self._update, rest))
        if self.verify:
            written = [each for doc_id, each in found.items() if done[doc_id].done]
            done.update((change.doc_id, change) for change in self.target.each(self._verify, written) if change)
        for each in chunk:
            if isinstance(each, Change):
                yield each
            elif each.last.doc_id in done:
                yield done.pop(each.last.doc_id)

    def _create(self, new: list[_Versions]) -> dict[str, Change]:
        """Create the first version of each document, then add its later ones; skip existing documents."""
        if self.dry_run:
            return {each.last.doc_id: self._report(each, "copied") for each in new}
        done: dict[str, Change] = {}
        first = [each.versions[0] for each in new]
        answers = self.target.create_many([NewDocument(each.stage, each.doc_id, *each.stored) for each in first])
        for each, answer in zip(new, answers, strict=True):
            if isinstance(answer, UnreadableDocument):
                done[each.last.doc_id] = self._report(each, "conflict", str(answer))
            elif isinstance(answer, Exception):
                raise answer
            elif answer:
                only = len(each.versions) == 1
                done[each.last.doc_id] = self._report(each, "copied") if only else self._update(each, "copied")
        return done

    def _update(self, each: _Versions, outcome: ChangeOutcome = "updated") -> Change:
        """Update the target's document to the last version; report a conflict unless it is an earlier one."""
        last = each.last
        try:
            current = self.target.load(last.stage, last.doc_id, ALL_FILES)
            at = each.find(current)
            if at is None and not self.history:
                # The target may hold an earlier version, which only the source's history has.
                again = self._load(last.stage, last.doc_id, None)
                each = again if isinstance(again, _Versions) else each
                at = each.find(current)
            if at is None:
                return self._report(each, "conflict", self._describe_difference(last, current))
            later = each.versions[at + 1 :] if self.history else each.versions[at + 1 :][-1:]
            if not later:
                return self._report(each, "same" if outcome == "updated" else outcome)
            if self.dry_run or all(self._put(old, new) for old, new in pairwise([each.versions[at], *later])):
                return self._report(each, outcome)
        except UnreadableDocument as error:
            return self._report(each, "conflict", str(error))
        return self._report(each, "conflict", self._describe_difference(last, None))

    def _put(self, old: StoredDocument, new: StoredDocument) -> bool:
        """Replace a version with the next one; return False if another writer changed the target's document."""
        stage, doc_id, before, after = new.stage, new.doc_id, old.stored, new.stored
        if before.parts.items() <= after.parts.items():
            added = {name: data for name, data in after.parts.items() if name not in before.parts}
            return self.target.amend(stage, doc_id, before.record, after.record, added)
        return self.target.replace(stage, doc_id, before.record, after.record, after.parts)

    def _exists(self, stage: str, doc_id: str) -> bool:
        try:
            return self.target.exists(stage, doc_id)
        except UnreadableDocument:
            return True  # `_update` reports it

    def _load(self, stage: str, doc_id: str, with_history: Container[str] | None) -> _Versions | Change | None:
        """Return the versions of a document, checked against their records; None if it vanished."""
        version = None
        try:
            version = StoredDocument.load(self.source, stage, doc_id, ALL_FILES)
            if version is None:
                return None
            last = self._check(version)
        except StoreUnavailable:
            raise  # the document is neither missing nor damaged
        except (UnreadableDocument, InvalidDocument, OSError) as error:
            raise_time_limit(error)
            # One unreadable document, for example on a bad disk block, does not stop the others.
            task_id = None if version is None else version.task_id
            return Change("refused", stage, doc_id, task_id, self.target.location(stage, doc_id), str(error))
        versions, later, message = [last], version, ""
        try:
            if with_history is None or doc_id in with_history:
                for stored in self.source.history(stage, doc_id, ALL_FILES):
                    later = drop_later_parts(StoredDocument(self.source, stage, doc_id, stored, ALL_FILES), later)
                    if is_other_lineage(version.facts, later.facts):
                        break  # earlier versions belong to another document
                    versions.insert(0, self._check(later))
        except StoreUnavailable:
            raise
        except (UnreadableDocument, InvalidDocument, OSError) as error:
            raise_time_limit(error)
            problem = error if isinstance(error, OSError) else error.problem
            message = f"history incomplete, {format_count(len(versions), 'version')} copied: {problem}"
        return _Versions(versions, message)

    def _check(self, version: StoredDocument) -> StoredDocument:
        """Return a version without stray files; raise if it does not match its record or the target cannot hold it."""
        if unknown := [name for name in version.facts.files if name not in ALL_FILES]:
            problem = f"its record lists {', '.join(unknown)}, which this version of docid does not know"
            raise version.unreadable(problem, "copy it with a later version of docid")
        version.read(verify=True)
        stored = Stored(version.stored.record, version.contents(ALL_FILES, verify=False))
        if version.legacy:  # every backend accepts docid's own records
            self.target.check(*stored)
        return version.with_stored(stored, ALL_FILES)

    def _verify(self, each: _Versions) -> Change | None:
        """Return a refusal if the target returns other data than the copy wrote; otherwise None."""
        last = each.last
        if self.target.load(last.stage, last.doc_id, ALL_FILES) == last.stored:
            return None
        where = self.target.location(last.stage, last.doc_id)
        return self._report(each, "refused", f"{where} differs from the data that the copy wrote")

    def _report(self, each: _Versions, outcome: ChangeOutcome, message: str = "") -> Change:
        last, done = each.last, outcome in {"copied", "updated"} and not self.dry_run
        where = self.target.location(last.stage, last.doc_id)
        return Change(outcome, last.stage, last.doc_id, last.task_id, where, message or each.message, done)

    def _describe_difference(self, last: StoredDocument, current: Stored | None) -> str:
        """Return how the target's document differs; None means that another writer changed it."""
        where = self.target.location(last.stage, last.doc_id)
        if current is None:
            return f"{where}: another writer changed it during the copy; copy it again"
        record, other = last.facts, StoredDocument(self.target, last.stage, last.doc_id, current).facts
        if is_same_lineage(record, other.task_id, other.parent_doc_id, other.inputs) is not True:
            own = describe_lineage(record)
            return f"{where} has {describe_lineage(other)}; expected {own}, as in {last.location}"
        if last.stored.parts == current.parts:
            return f"{where} has the same texts as {last.location}, but another record"
        return f"{where} has other texts than {last.location}, and is not an earlier version of it"

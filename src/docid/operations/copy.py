"""`copy`: the documents of one store, in another: between a directory and a bucket, both ways, byte for byte."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

from docid._text import shown
from docid.core.document import ALL_FILES
from docid.core.ids import refuse_text
from docid.core.lineage_rules import is_other_lineage, is_same_lineage
from docid.errors import InvalidDocument, StoreUnavailable, UnreadableDocument
from docid.store.backends.base import TURNS, NewDocument, Stored
from docid.store.backends.local.backend import LocalBackend
from docid.store.docs_store import check_store
from docid.store.stored import StoredDocument, without_later_parts

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from docid.store.backends.base import Backend
    from docid.store.docs_store import DocsStore

__all__ = ["Copied", "copy"]


class Copied(NamedTuple):
    """What became of one document.

    Attributes:
        outcome: `copied`: it was not there. `updated`: an earlier version of it was. `same`: it was there, byte for
            byte. `conflict`: another document has its name. `refused`: it is damaged, or the other home cannot hold it.
        stage, doc_id: the document.
        task_id: its task, where that is known.
        message: what is wrong; empty where nothing is. Of a document that was copied, what was left out of its history.
    """

    outcome: Literal["copied", "updated", "same", "conflict", "refused"]
    stage: str
    doc_id: str
    task_id: str | None
    message: str = ""


def copy(
    source: DocsStore,
    target: DocsStore,
    *,
    stages: Iterable[str] | None = None,
    history: bool = True,
    verify: bool = False,
    dry_run: bool = False,
) -> Iterator[Copied]:
    """Copy the documents of one store into another, and yield what becomes of each, as they come.

    Bytes are copied: records, of older systems too, texts and history come out as they were. What is there already is
    left alone, so that a copy that ended half way is done again from the start and goes on. Each document is there
    whole or not at all. Sizes and SHA-256 of all that is copied are compared with its record before.

    Args:
        source: where the documents are; nothing is changed there.
        target: where they go.
        stages: which stages; all of the source's if not given, parents first.
        history: also copy the versions that were replaced.
        verify: read what was written, and compare it.
        dry_run: say what would be done; nothing is written.

    Raises:
        InvalidName: a stage that one of the stores does not have.
        ValueError: source and target are one directory, or one lies in the other.
        OSError: a stage cannot be listed, a store does not answer, or the target cannot be written; what was copied
            before is there. A document that cannot be read is refused, and the others are copied.

    Example:
        >>> from docid import DocsStore, Document
        >>> here, there = DocsStore("memory://"), DocsStore("memory://")
        >>> _ = here.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="once"))
        >>> [each.outcome for each in copy(here, there)], [each.outcome for each in copy(here, there)]
        (['copied'], ['same'])
    """
    check_store(source, "source")
    check_store(target, "target")
    refuse_text(stages, "stages", "names of stages")
    names = list(dict.fromkeys(source.stages.check(each) for each in (source.stages if stages is None else stages)))
    for stage in names:
        target.stages.check(stage)
    _check_apart(source.backend, target.backend)
    job = _Copy(source.backend, target.backend, history=history, verify=verify, dry_run=dry_run)
    return (copied for stage in names for copied in job.stage(stage))


def _check_apart(source: Backend, target: Backend) -> None:
    """Refuse two directories one of which is, or lies in, the other."""
    if isinstance(source, LocalBackend) and isinstance(target, LocalBackend):
        here, there = (os.path.join(os.path.realpath(each.root), "") for each in (source, target))
        if here.startswith(there) or there.startswith(here):
            raise ValueError(f"target: {target.root} and {source.root} are one, or one inside the other; expected two")


class _Versions(NamedTuple):
    """The versions of a document that are to be copied, the earliest first, and what was left out of its history."""

    versions: list[StoredDocument]
    message: str = ""

    @property
    def last(self) -> StoredDocument:
        return self.versions[-1]

    def told(self, outcome: Literal["copied", "updated", "same", "conflict", "refused"], message: str = "") -> Copied:
        """Return what became of it."""
        last = self.last
        return Copied(outcome, last.stage, last.doc_id, last.task_id, message or self.message)


class _Copy:
    """A copy from one home to another."""

    def __init__(self, source: Backend, target: Backend, *, history: bool, verify: bool, dry_run: bool) -> None:
        self.source = source
        self.target = target
        self.history = history
        self.verify = verify
        self.dry_run = dry_run

    def stage(self, stage: str) -> Iterator[Copied]:
        """Copy the documents of a stage."""
        with_history = self.source.with_history(stage) if self.history else ()
        # Where nothing is there yet nothing is looked for: a document that is there after all is refused then.
        is_new = next(iter(self.target.ids(stage)), None) is None
        loaded = self.source.each(lambda doc_id: self._loaded(stage, doc_id, with_history), self.source.ids(stage))
        while chunk := list(islice(loaded, self.target.together)):
            yield from self._chunk(stage, [each for each in chunk if each is not None], is_new=is_new)

    def _chunk(self, stage: str, chunk: list[_Versions | Copied], *, is_new: bool) -> Iterator[Copied]:
        # What is replaced while its stage is listed may be listed twice.
        found = {each.last.doc_id: each for each in chunk if isinstance(each, _Versions)}
        ids = list(found)
        there = dict.fromkeys(ids, False)
        if not is_new:
            there.update(zip(ids, self.target.each(lambda doc_id: self._is_taken(stage, doc_id), ids), strict=True))
        new = [each for doc_id, each in found.items() if not there[doc_id]]
        done: dict[str, Copied] = {}
        if self.dry_run:
            done.update((each.last.doc_id, each.told("copied")) for each in new)
        else:
            self._create(new, done)
        rest = [each for doc_id, each in found.items() if doc_id not in done]
        done.update((copied.doc_id, copied) for copied in self.target.each(self._brought, rest))
        if self.verify and not self.dry_run:
            written = [each for doc_id, each in found.items() if done[doc_id].outcome in {"copied", "updated"}]
            done.update((copied.doc_id, copied) for copied in self.target.each(self._verified, written) if copied)
        for each in chunk:
            if isinstance(each, Copied):
                yield each
            elif each.last.doc_id in done:
                yield done.pop(each.last.doc_id)

    def _create(self, new: list[_Versions], done: dict[str, Copied]) -> None:
        """Create what is not there, the first version of each; note what became of those that have one alone."""
        asked = [each.versions[0] for each in new]
        answers = self.target.create_many([NewDocument(each.stage, each.doc_id, *each.stored) for each in asked])
        for each, answer in zip(new, answers, strict=True):
            if isinstance(answer, UnreadableDocument):
                done[each.last.doc_id] = each.told("conflict", str(answer))
            elif isinstance(answer, Exception):
                raise answer
            elif answer and len(each.versions) == 1:
                done[each.last.doc_id] = each.told("copied")
            elif answer:
                done[each.last.doc_id] = self._brought(each, outcome="copied")

    def _is_taken(self, stage: str, doc_id: str) -> bool:
        try:
            return self.target.exists(stage, doc_id)
        except UnreadableDocument:
            return True  # and is told when it is compared

    def _loaded(self, stage: str, doc_id: str, with_history: Container[str] | None) -> _Versions | Copied | None:
        """Return the versions of a document, compared with their records; None where it has vanished."""
        task_id = None
        try:
            version = StoredDocument.load(self.source, stage, doc_id, ALL_FILES)
            if version is None:
                return None
            task_id = version.task_id
            found = self._checked(version)
        except StoreUnavailable:
            raise
        except (UnreadableDocument, InvalidDocument, OSError) as error:
            # What may not be read, or is on a bad block, is one document's fault.
            return Copied("refused", stage, doc_id, task_id, str(error))
        versions, message = [found], ""
        if with_history is None or doc_id in with_history:
            try:
                later = version
                for stored in self.source.history(stage, doc_id, ALL_FILES):
                    old = StoredDocument(self.source, stage, doc_id, stored, ALL_FILES)
                    later = without_later_parts(old, later)
                    if is_other_lineage(found.facts, later.facts):
                        break
                    versions.insert(0, self._checked(later))
            except StoreUnavailable:
                raise
            except (UnreadableDocument, InvalidDocument, OSError) as error:
                problem = error if isinstance(error, OSError) else error.problem
                message = f"copied without its history before {len(versions)} versions: {problem}"
        return _Versions(versions, message)

    def _checked(self, version: StoredDocument) -> StoredDocument:
        """Return a version with its parts alone, compared with what its record says.

        Raises:
            UnreadableDocument: it is damaged, or lists a file that this docid does not know.
            InvalidDocument: the other home cannot hold it.
        """
        if unknown := [name for name in version.facts.files if name not in ALL_FILES]:
            problem = f"its record lists {', '.join(unknown)}, which this docid does not know"
            raise version.unreadable(problem, "copy it with a later docid")
        version.read(verify=True)
        stored = Stored(version.stored.record, version.contents(ALL_FILES, verify=False))
        if version.legacy:  # what docid has written every home can hold
            self.target.check(*stored)
        return version.with_stored(stored, ALL_FILES)

    def _brought(self, each: _Versions, outcome: Literal["copied", "updated"] = "updated") -> Copied:
        """Bring what is there up to the last version, if it is one of them."""
        is_whole = is_changed = False
        last = each.last
        try:
            for _ in range(TURNS):
                last = each.last
                there = self.target.load(last.stage, last.doc_id, ALL_FILES)
                at = _position(each.versions, there)
                if at is None:
                    # It may be a version that history was not asked for, or that has come since.
                    again = None if is_whole else self._loaded(last.stage, last.doc_id, None)
                    if not isinstance(again, _Versions):
                        return each.told("conflict", self._difference(last, there))
                    each, is_whole = again, True
                elif at == len(each.versions) - 1:
                    return each.told("same" if outcome == "updated" and not is_changed else outcome)
                elif self.dry_run:
                    return each.told(outcome)
                else:
                    # Where another one has changed it, this looks again; after each version, too.
                    self._changed(each.versions[at], each.versions[at + 1] if self.history else last)
                    is_changed = True
        except UnreadableDocument as error:
            return each.told("conflict", str(error))
        return each.told("conflict", f"{self.target.location(last.stage, last.doc_id)}: others change it all the time")

    def _changed(self, old: StoredDocument, new: StoredDocument) -> None:
        """Put a version in the place of the one before, if that is there still."""
        stage, doc_id, before, after = new.stage, new.doc_id, old.stored, new.stored
        if before.parts.items() <= after.parts.items():
            added = {name: data for name, data in after.parts.items() if name not in before.parts}
            self.target.amend(stage, doc_id, before.record, after.record, added)
        else:
            self.target.replace(stage, doc_id, before.record, after.record, after.parts)

    def _difference(self, last: StoredDocument, there: Stored | None) -> str:
        """Return what a document that is there differs in."""
        where = self.target.location(last.stage, last.doc_id)
        if there is None:
            return f"{where}: others remove it"
        record, other = last.facts, StoredDocument(self.target, last.stage, last.doc_id, there).facts
        if is_same_lineage(record, other.task_id, other.parent_doc_id) is not True:
            held = f"task_id={shown(other.task_id)}, parent_doc_id={shown(other.parent_doc_id)}"
            own = f"task_id={shown(record.task_id)}, parent_doc_id={shown(record.parent_doc_id)}"
            return f"{where} holds {held}; expected {own}, of {last.location}"
        if last.stored.parts == there.parts:
            return f"{where} has the same texts, and a record that differs from that of {last.location}"
        return f"{where} has other texts than {last.location}, and is no earlier version of it that is known"

    def _verified(self, each: _Versions) -> Copied | None:
        last = each.last
        there = self.target.load(last.stage, last.doc_id, ALL_FILES)
        if _position([last], there) == 0:
            return None
        where = self.target.location(last.stage, last.doc_id)
        return each.told("refused", f"{where}: what was written does not come back as it was")


def _position(versions: list[StoredDocument], there: Stored | None) -> int | None:
    """Return which version something is, the latest such; None where it is none."""
    for at in range(len(versions) - 1, -1, -1):
        if there is not None and (versions[at].stored.record, versions[at].stored.parts) == (there.record, there.parts):
            return at
    return None

"""The documents of one shard: what is in the store, looked at and reported."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any, cast
from zlib import crc32

from docid._text import shown
from docid.core.document import PART_FILES
from docid.core.findings import Finding
from docid.core.ids import DOC_ID, DOC_ID_EXPECTED
from docid.core.lineage_rules import find_unsaid
from docid.errors import UnreadableDocument
from docid.operations.shards.job import Reference, sorted_by
from docid.store.scanning import examine, leftovers, not_listed, whole

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from docid.core.findings import Progress
    from docid.operations.shards.job import Job
    from docid.store.backends.base import Backend
    from docid.store.stored import StoredDocument

__all__ = ["FAULTY", "PROMPT", "ROW", "SEEN", "STRIDE", "THERE", "WRITTEN", "Shard"]

# What is known of a doc id in a stage, as bits: a million of them are held.
ROW = 1  # it stands in the stage's table
THERE = 2  # something of its name is in the store
SEEN = 4  # and was looked at
WRITTEN = 8  # it is a document that can be used
PROMPT = 16  # with its prompt
FAULTY = 32  # something that is no document stands in its place

_PARSED_FILE, _PROMPT_FILE = PART_FILES["parsed"], PART_FILES["prompt"]
STRIDE = 1000  # so often progress is told


class Shard:
    """What is looked at together: the keys of one shard, in all tables and all of the store."""

    def __init__(self, job: Job, number: int, of: int, progress: Progress | None = None) -> None:
        self.job = job
        self.backend = None if job.store is None else job.store.backend
        self.stages = job.stages
        self.number = number
        self.of = of
        self.progress = progress
        self.known: dict[str, dict[str, int]] = {stage: {} for stage in job.stages}
        self.blind: set[str] = set()  # stages that cannot be listed: what is in them cannot be told
        self.counts: dict[str, Counter[str]] = {stage: Counter() for stage in job.stages}
        self.findings: list[tuple[tuple[Any, ...], Finding]] = []
        self.references: list[Reference] = []

    def mine(self, key: str) -> bool:
        """Return whether a key is of this shard."""
        return self.of == 1 or crc32(key.encode("utf-8", "backslashreplace")) % self.of == self.number

    def add(self, finding: Finding, number: int = 0) -> None:
        """Report something; where it is in a table, with the number of the row."""
        self.findings.append(sorted_by(self.stages, finding, number))

    def told(self, what: str, done: int, of: int | None = None) -> None:
        """Tell how far the work is, if anybody listens."""
        if self.progress is not None:
            self.progress(what, done, of)

    def list_ids(self, stage: str) -> None:
        """Note which ids there are, and report what is none."""
        backend, known = self.backend, self.known[stage]
        if backend is None:
            return
        self.told(f"listing stage {stage}", 0)
        in_the_way: Iterable[str] = ()
        if self.number == 0:
            # In one shard alone: a look at what may be a writer's takes its lock, and another one would see it taken.
            in_the_way = self._leftovers(stage)
        elif (sweeper := backend.sweeper()) is not None:
            in_the_way = sweeper.in_the_way(stage)
        # A file, or a link, where a document should be: looked at with its row, which knows the task.
        known.update(dict.fromkeys(filter(self.mine, in_the_way), THERE))
        try:
            ids = backend.ids(stage)
            known.update(dict.fromkeys(ids if self.of == 1 else filter(self.mine, ids), THERE))
        except (UnreadableDocument, OSError) as error:
            self.blind.add(stage)
            unlisted = not_listed(backend, stage, error)
            said = any((each.code, each.where) == (unlisted.code, unlisted.where) for _, each in self.findings)
            if self.number == 0 and not said:
                self.add(unlisted)

    def _leftovers(self, stage: str) -> list[str]:
        """Report what lies beside the documents of a stage; return the ids at which there is something else."""
        backend = cast("Backend", self.backend)
        in_the_way = []
        for finding in leftovers(backend, stage, stale_after=self.job.stale_after):
            if finding.doc_id and finding.where == backend.location(stage, finding.doc_id):
                in_the_way.append(finding.doc_id)
            else:
                self.add(finding)
        return in_the_way

    def look_at_the_rest(self, stage: str) -> None:
        """Look at what is in the store and in no row."""
        backend, known = self.backend, self.known[stage]
        if backend is None:
            return
        in_table = stage in self.job.tables
        left = (doc_id for doc_id, state in known.items() if state & (THERE | SEEN) == THERE)
        number = None if self.progress is None else sum(state & (THERE | SEEN) == THERE for state in known.values())
        looks = backend.each(lambda doc_id: (doc_id, self.looked(stage, doc_id)), left)
        for done, (doc_id, found) in enumerate(looks, 1):
            if done % STRIDE == 0:
                self.told(f"documents of stage {stage}", done, number)
            document = self.document(stage, doc_id, None, found)
            if document is None:
                continue
            if in_table:
                hint = "add a row for it ('docid link' gives it to the row of its task), or let it be: no row reads it"
                message = f"in no row of the table of stage {stage}"
                self.add(_of(document, "orphan-document", message, hint))
            self._stored_parent(document)

    def looked(
        self, stage: str, doc_id: str, *, in_row: bool = False
    ) -> StoredDocument | list[StoredDocument | Finding]:
        """Look at one document: return it where it is whole, and otherwise what a closer look finds."""
        version = None if self.job.verify else whole(cast("Backend", self.backend), stage, doc_id)
        return version or self._examined(stage, doc_id, in_row=in_row)

    def document(
        self, stage: str, doc_id: str, task_id: str | None, found: StoredDocument | list[StoredDocument | Finding]
    ) -> StoredDocument | None:
        """Note what a look at a document has found, report what is wrong, and return it where it can be used."""
        backend = cast("Backend", self.backend)
        document = self._reported(stage, doc_id, task_id, found) if isinstance(found, list) else found
        if document is None:
            return None
        legacy, counts = document.legacy, self.counts[stage]
        files: Collection[str] = document.facts.files
        if legacy:
            with contextlib.suppress(UnreadableDocument, OSError):  # it has vanished since
                files = backend.sizes(stage, doc_id, (_PARSED_FILE, _PROMPT_FILE))
        self.known[stage][doc_id] |= SEEN | WRITTEN | (PROMPT if _PROMPT_FILE in files else 0)
        counts["documents"] += 1
        if _PARSED_FILE not in files:
            counts["parsed_missing"] += 1
        if legacy:
            hint = "docid migrate brings it to the current format"
            message = "its record was written by an older system"
            message += ", and has no hashes to compare" if self.job.verify else ""
            if unsaid := find_unsaid(document.facts, has_parent=self.stages.parent_of(stage) is not None):
                message += f", and does not say its {' and '.join(unsaid)}: a run refuses it"
                hint = "docid migrate --tables brings it to the current format, as its row says"
            self.add(_of(document, "legacy-record", message, hint))
        return document

    def _reported(
        self, stage: str, doc_id: str, task_id: str | None, looked: list[StoredDocument | Finding]
    ) -> StoredDocument | None:
        """Report what is wrong with a document, and return it where it can be used."""
        document: StoredDocument | None = None
        levels = set()
        for found in looked:
            if isinstance(found, Finding):
                self.add(found if found.task_id is not None else self._of_row(found, task_id))
                levels.add(found.level)
            else:
                document = found
        if document is None:
            # Where something is there that is no document it is in the way; only of an error there may be a record,
            # and then it may be the parent of others.
            state = self.known[stage][doc_id] | SEEN
            self.known[stage][doc_id] = (state if "error" in levels else state & ~THERE) | (FAULTY if levels else 0)
        return document

    @staticmethod
    def _of_row(finding: Finding, task_id: str | None) -> Finding:
        """Return a finding about what no record says the task of, with that of its row, which it is in the way of."""
        blocks = task_id is not None and finding.code == "uncommitted-directory"
        hint = f"{finding.hint}; until then this row's document cannot be written" if blocks else finding.hint
        return finding._replace(task_id=task_id, hint=hint)

    def _examined(self, stage: str, doc_id: str, *, in_row: bool) -> list[StoredDocument | Finding]:
        backend, verify = cast("Backend", self.backend), self.job.verify
        found = list(examine(backend, stage, doc_id, verify=verify, stale_after=self.job.stale_after))
        if found or not in_row:
            return found
        # What a tool may be at is passed over, unless it is in the way of a row.
        with contextlib.suppress(OSError):
            try:
                backend.load(stage, doc_id)
            except UnreadableDocument:
                found = list(examine(backend, stage, doc_id, verify=verify, stale_after=0))
        return found

    def _stored_parent(self, document: StoredDocument) -> None:
        """Look for the parent of a document that no row stands for."""
        stage, task_id, parent = document.stage, document.task_id, document.parent_doc_id
        parent_stage = self.stages.parent_of(stage)
        if parent_stage is None or parent_stage in self.blind:
            return
        if parent is None:
            if not document.legacy:
                message = f"no parent_doc_id in its record; expected the doc id of a document of stage {parent_stage}"
                hint = "it was written with require_parent=False; write it anew with its parent, under another id"
                self.add(_of(document, "missing-parent-id", message, hint))
            return
        if not DOC_ID.match(parent):
            message = f"the parent in its record, {shown(parent)}, is no doc id; expected {DOC_ID_EXPECTED}"
            self.add(_of(document, "malformed-id", message, "correct its record"))
            return
        if not self.mine(parent) or not self.known[parent_stage].get(parent, 0) & (ROW | THERE):
            self.references.append(Reference(parent, stage, document.doc_id, task_id, 0, document.location))


def _of(document: StoredDocument, code: str, message: str, hint: str) -> Finding:
    return Finding(code, document.stage, document.doc_id, document.task_id, document.location, message, hint)

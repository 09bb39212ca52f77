"""One shard of an audit: the keys of one part of all tables and of all of a store, looked at together.

A key is a task id, a doc id, or the doc id of a parent or a source; every check is about one of them alone.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from zlib import crc32
from zlib import error as zlib_error

from docid.csvfile import Faults, open_table
from docid.document import PART_FILES
from docid.errors import InvalidName, TaskTableError, UnreadableDocument, shown
from docid.findings import Finding
from docid.ids import DOC_ID, DOC_ID_EXPECTED, check_text, derive, reserve_doc_id
from docid.rows import is_missing, row_type_of
from docid.scanning import examine, leftovers, not_listed, whole
from docid.tasks import read_lineages

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from docid.backends import Backend
    from docid.stages import Stages
    from docid.store import DocsStore
    from docid.stored import Version
    from docid.tasks import RowLineage

    Look = Version | list[Version | Finding] | None

__all__ = ["LABELS", "Found", "Job", "Progress", "Reference", "Shard", "StageFacts", "Table", "look", "resolved"]

Progress = Callable[[str, int, int | None], object]
"""What is told of work under way: what is looked at, how much of it is done, and of how much (None where unknown)."""

# What is known of a doc id in a stage, as bits: a million of them are held.
_ROW = 1  # it stands in the stage's table
_THERE = 2  # something of its name is in the store
_SEEN = 4  # and was looked at
_WRITTEN = 8  # it is a document that can be used
_PROMPT = 16  # with its prompt
_FAULTY = 32  # something that is no document stands in its place

_PARSED_FILE, _PROMPT_FILE = PART_FILES["parsed"], PART_FILES["prompt"]
_WORD = 4  # the longest word that means missing, blanks aside, which no id has
_STRIDE = 1000  # so often progress is told


class Table(NamedTuple):
    """A table: its path, or what its rows say."""

    file: str
    rows: list[tuple[int, RowLineage]] | None

    def lineages(self, stage: str, stages: Stages) -> Iterable[tuple[int, RowLineage]]:
        """Return what its rows say, with their numbers. See `read_lineages`."""
        return read_lineages(self.file, row_type_of(stage, stages)) if self.rows is None else self.rows

    def length(self) -> int | None:
        """Return how many rows there are, about: of a file the lines behind the header are counted; None if it fails.

        What is wrong with the file is said when it is read.
        """
        if self.rows is not None:
            return len(self.rows)
        try:
            with open_table(self.file) as stream:
                return max(0, sum(1 for _ in stream) - 1)
        except (EOFError, OSError, zlib_error):
            return None

    def where(self, number: int, column: str) -> str:
        """Return where a cell is, as a finding says it."""
        row = f"row {number}, column {column}"
        return f"{self.file} {row}" if self.file else row


class Job(NamedTuple):
    """What is to be audited."""

    store: DocsStore | None
    stages: Stages
    tables: dict[str, Table]
    verify: bool
    stale_after: float


class Reference(NamedTuple):
    """A parent, or a source, that was not found where it should be."""

    target: str
    stage: str
    doc_id: str
    task_id: str | None
    number: int
    where: str


class StageFacts(NamedTuple):
    """What an audit counted in one stage; None where it was not looked at.

    Attributes:
        rows: the rows of its table.
        written: those whose document is in the store, of the row's lineage.
        pending: those whose document is not there: a run makes it.
        parents_pending: those whose parent is reserved, and not there yet.
        underived: those whose doc id does not come from the row (its task, and the run id and salt that it notes): a
            run or salt that was not noted, or another system's id.
        documents: the documents in the store.
        parsed_missing: those of them without a parsed text.

    A row with a finding of its own may be neither written nor pending.
    """

    rows: int | None
    written: int | None
    pending: int | None
    parents_pending: int | None
    underived: int | None
    documents: int | None
    parsed_missing: int | None


LABELS = {name: name.replace("_", " ") for name in StageFacts._fields}
"""What the counts of `StageFacts` are called in tables for people."""


class Found(NamedTuple):
    """What was found in one shard.

    Attributes:
        findings: behind what they are sorted by.
        counts: by stage.
        references: parents that were not found in the shard, for `resolved`.
        blind: the stages that cannot be listed: what is in them cannot be told.
    """

    findings: list[tuple[tuple[Any, ...], Finding]]
    counts: dict[str, Counter[str]]
    references: list[Reference]
    blind: set[str]


def look(job: Job, number: int, of: int, progress: Progress | None = None) -> Found:
    """Look at one shard."""
    return Shard(job, number, of, progress).look()


def resolved(job: Job, founds: Sequence[Found]) -> Iterator[tuple[tuple[Any, ...], Finding]]:
    """Return what is wrong with the parents that no shard has found: missing, or of another stage.

    They are looked for once more: in a store that others write to they may be there by now.
    """
    references = [each for found in founds for each in found.references]
    if not references:
        return
    targets = {reference.target for reference in references}
    places = _Places(job, targets, {stage for found in founds for stage in found.blind})
    for reference in references:
        parent_stage = cast("str", job.stages.parent_of(reference.stage))
        if not places.has(parent_stage, reference.target):
            holding = tuple(stage for stage in job.stages if places.has(stage, reference.target))
            yield _sorted_by(job.stages, _missing_parent(job, reference, holding), reference.number)


class _Places:
    """Where some doc ids are: in which tables, and under which stages of the store."""

    def __init__(self, job: Job, wanted: set[str], blind: set[str]) -> None:
        self._backend = None if job.store is None else job.store.backend
        self._blind = blind
        self._names: dict[str, set[str]] = {}
        self._reserved = {
            stage: {row[1] for _, row in table.lineages(stage, job.stages) if row[1] in wanted and _is_id(row[1])}
            for stage, table in job.tables.items()
        }

    def has(self, stage: str, doc_id: str) -> bool:
        """Return whether an id is reserved in a table, or something that is, or once was, a document stands there."""
        if doc_id in self._reserved.get(stage, ()):
            return True
        return self._backend is not None and stage not in self._blind and self._stands(self._backend, stage, doc_id)

    def _stands(self, backend: Backend, stage: str, doc_id: str) -> bool:
        try:
            return backend.load(stage, doc_id) is not None
        except UnreadableDocument as error:
            return error.code != "uncommitted-directory"
        except OSError:
            # What cannot be read is a finding of its own, if it is there at all.
            if stage not in self._names:
                with contextlib.suppress(UnreadableDocument, OSError):
                    self._names[stage] = set(backend.ids(stage))
            return doc_id in self._names.get(stage, ())


def _missing_parent(job: Job, reference: Reference, holding: tuple[str, ...]) -> Finding:
    parent_stage = job.stages.parent_of(reference.stage)
    parent = f"{parent_stage}/{reference.target}"
    if holding:
        code = "wrong-stage-parent"
        message = f"{reference.target} is of stage {', '.join(holding)}; expected a document of stage {parent_stage}"
        hint = "name a document of the parent's stage"
    else:
        code = "missing-parent"
        places = ["in the store"] if job.store is not None else []
        places += [f"reserved in the table of stage {parent_stage}"] if parent_stage in job.tables else []
        message = f"the parent {parent} is {'neither ' if len(places) == 2 else 'not '}{' nor '.join(places)}"  # noqa: PLR2004 - there are two places
        hint = "make or reserve the parent first, or name the one that is meant"
    return Finding(code, reference.stage, reference.doc_id, reference.task_id, reference.where, message, hint)


def _sorted_by(stages: Stages, finding: Finding, number: int = 0) -> tuple[tuple[Any, ...], Finding]:
    """Return a finding behind what it is sorted by: errors, then warnings."""
    position = list(stages).index(finding.stage)
    key = (finding.level, position, finding.code, number, finding.doc_id, finding.where, finding.message)
    return key, finding


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
        self.faults = Faults("")

    def look(self) -> Found:
        """Go through the stages, parents first."""
        for stage in self.stages:
            if self.backend is not None and not self.faults.count:
                self._list(stage)
            rows = self._table(stage) if stage in self.job.tables else None
            if self.backend is not None and not self.faults.count:
                self._rest(stage)
                if rows is not None:
                    rows.look_for_sources()
        self.faults.raise_any()
        return Found(self.findings, self.counts, self.references, self.blind)

    def mine(self, key: str) -> bool:
        """Return whether a key is of this shard."""
        return self.of == 1 or crc32(key.encode("utf-8", "backslashreplace")) % self.of == self.number

    def add(self, finding: Finding, number: int = 0) -> None:
        """Report something; where it is in a table, with the number of the row."""
        self.findings.append(_sorted_by(self.stages, finding, number))

    def _told(self, what: str, done: int, of: int | None = None) -> None:
        if self.progress is not None:
            self.progress(what, done, of)

    # --- the store -------------------------------------------------------------------------------------------

    def _list(self, stage: str) -> None:
        """Note which ids there are, and report what is none."""
        backend = cast("Backend", self.backend)
        known = self.known[stage]
        self._told(f"listing stage {stage}", 0)
        in_the_way: Iterable[str] = ()
        if self.number == 0:
            # In one shard alone: a look at what may be a writer's takes its lock, and another one would see it taken.
            in_the_way = self._leftovers(stage)
        elif (sweeper := backend.sweeper()) is not None:
            in_the_way = sweeper.in_the_way(stage)
        # A file, or a link, where a document should be: looked at with its row, which knows the task.
        known.update(dict.fromkeys(filter(self.mine, in_the_way), _THERE))
        try:
            ids = backend.ids(stage)
            known.update(dict.fromkeys(ids if self.of == 1 else filter(self.mine, ids), _THERE))
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

    def _rest(self, stage: str) -> None:
        """Look at what is in the store and in no row."""
        known = self.known[stage]
        in_table = stage in self.job.tables
        left = (doc_id for doc_id, state in known.items() if state & (_THERE | _SEEN) == _THERE)
        number = None if self.progress is None else sum(state & (_THERE | _SEEN) == _THERE for state in known.values())
        looks = cast("Backend", self.backend).each(lambda doc_id: (doc_id, self.looked(stage, doc_id)), left)
        for done, (doc_id, found) in enumerate(looks, 1):
            if done % _STRIDE == 0:
                self._told(f"documents of stage {stage}", done, number)
            document = self.document(stage, doc_id, None, found)
            if document is None:
                continue
            if in_table:
                hint = "add a row for it ('docid link' gives it to the row of its task), or let it be: no row reads it"
                message = f"in no row of the table of stage {stage}"
                self.add(_of(document, "orphan-document", message, hint))
            self._stored_parent(document)

    def looked(self, stage: str, doc_id: str, *, in_row: bool = False) -> Version | list[Version | Finding]:
        """Look at one document: return it where it is whole, and otherwise what a closer look finds."""
        version = None if self.job.verify else whole(cast("Backend", self.backend), stage, doc_id)
        return version or self._examined(stage, doc_id, in_row=in_row)

    def document(
        self, stage: str, doc_id: str, task_id: str | None, found: Version | list[Version | Finding]
    ) -> Version | None:
        """Note what a look at a document has found, report what is wrong, and return it where it can be used."""
        backend = cast("Backend", self.backend)
        document = self._reported(stage, doc_id, task_id, found) if isinstance(found, list) else found
        if document is None:
            return None
        legacy, counts = document.record.legacy, self.counts[stage]
        files: Collection[str] = document.record.files
        if legacy:
            with contextlib.suppress(UnreadableDocument, OSError):  # it has vanished since
                files = backend.sizes(stage, doc_id, (_PARSED_FILE, _PROMPT_FILE))
        self.known[stage][doc_id] |= _SEEN | _WRITTEN | (_PROMPT if _PROMPT_FILE in files else 0)
        counts["documents"] += 1
        if _PARSED_FILE not in files:
            counts["parsed_missing"] += 1
        if legacy:
            hint = "docid migrate brings it to the current format"
            message = "its record was written by an older system"
            message += ", and has no hashes to compare" if self.job.verify else ""
            self.add(_of(document, "legacy-record", message, hint))
        return document

    def _reported(
        self, stage: str, doc_id: str, task_id: str | None, looked: list[Version | Finding]
    ) -> Version | None:
        """Report what is wrong with a document, and return it where it can be used."""
        document: Version | None = None
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
            state = self.known[stage][doc_id] | _SEEN
            self.known[stage][doc_id] = (state if "error" in levels else state & ~_THERE) | (_FAULTY if levels else 0)
        return document

    @staticmethod
    def _of_row(finding: Finding, task_id: str | None) -> Finding:
        """Return a finding about what no record says the task of, with that of its row, which it is in the way of."""
        blocks = task_id is not None and finding.code == "uncommitted-directory"
        hint = f"{finding.hint}; until then this row's document cannot be written" if blocks else finding.hint
        return finding._replace(task_id=task_id, hint=hint)

    def _examined(self, stage: str, doc_id: str, *, in_row: bool) -> list[Version | Finding]:
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

    def _stored_parent(self, document: Version) -> None:
        """Look for the parent of a document that no row stands for."""
        stage, task_id, parent = document.stage, document.record.task_id, document.record.parent_doc_id
        parent_stage = self.stages.parent_of(stage)
        if parent_stage is None or parent_stage in self.blind:
            return
        if parent is None:
            if not document.record.legacy:
                message = f"no parent_doc_id in its record; expected the doc id of a document of stage {parent_stage}"
                hint = "it was written with require_parent=False; write it anew with its parent, under another id"
                self.add(_of(document, "missing-parent-id", message, hint))
            return
        if not DOC_ID.match(parent):
            message = f"the parent in its record, {shown(parent)}, is no doc id; expected {DOC_ID_EXPECTED}"
            self.add(_of(document, "malformed-id", message, "correct its record"))
            return
        if not self.mine(parent) or not self.known[parent_stage].get(parent, 0) & (_ROW | _THERE):
            self.references.append(Reference(parent, stage, document.doc_id, task_id, 0, document.location))

    # --- the tables ------------------------------------------------------------------------------------------

    def _table(self, stage: str) -> _Rows:
        """Go through the rows of a stage, and look at the document of each."""
        table = self.job.tables[stage]
        rows = _Rows(self, stage, table)
        try:
            length = None if self.progress is None else table.length()
            numbered = table.lineages(stage, self.stages)
            each = map if self.backend is None else self.backend.each
            for number, row, found in each(rows.ahead, numbered):
                if self.faults.count:
                    continue
                rows.look(number, row, found)
                if number % _STRIDE == 0:
                    self._told(f"rows of stage {stage}", number, length)
        except TaskTableError as error:
            self.faults.take_over(error)
        if not self.faults.count and any(rows.twice):
            rows.report_twice()
        return rows


class _Rows:
    """The rows of one table that are being looked at."""

    def __init__(self, shard: Shard, stage: str, table: Table) -> None:
        self.shard = shard
        self.stage = stage
        self.table = table
        self.parent_stage = shard.stages.parent_of(stage)
        self.all_mine = shard.of == 1
        self.known = shard.known[stage]
        self.counts = shard.counts[stage]
        self.stored = shard.backend is not None and stage not in shard.blind
        self.parents = shard.known[self.parent_stage] if self.parent_stage is not None else {}
        # Where neither store nor table can tell, nothing is said of parents.
        self.parents_told = self.parent_stage is not None and (
            self.parent_stage in shard.job.tables if shard.backend is None else self.parent_stage not in shard.blind
        )
        # Hashes of what tells documents of one stage apart, which is long: a million are held.
        self.tasks: set[int] = set()
        self.twice: tuple[set[int], set[str]] = (set(), set())
        self.sources: list[Reference] = []

    def ahead(self, numbered: tuple[int, RowLineage]) -> tuple[int, RowLineage, Look]:
        """Look at the document of a row, which may be done in a thread, before the row's turn."""
        number, row = numbered
        doc_id = row[1]
        if self.stored and self.known.get(doc_id, 0) & (_THERE | _SEEN) == _THERE:
            return number, row, self.shard.looked(self.stage, doc_id, in_row=True)
        return number, row, None

    def look(self, number: int, row: RowLineage, found: Look) -> None:
        """Look at one row: its cells, its document, its parent, its source; at what of these is of this shard."""
        task_id, doc_id, parent, source, _, _ = row
        mine = self.shard.mine
        # What is known already is a doc id, but for the short words that mean missing: nearly every one is known.
        own, of_parent = self.known.get(doc_id), self.parents.get(parent)
        is_id = (own is not None and len(doc_id) > _WORD) or _is_id(doc_id)
        is_parent = (of_parent is not None and len(parent) > _WORD) or _is_id(parent)
        all_mine = self.all_mine
        if all_mine or mine(task_id):
            self._cells(number, row, is_id=is_id, is_parent=is_parent)
        if is_id and (all_mine or mine(doc_id)):
            self._own(number, row, own or 0, found)
        if is_parent and self.parents_told and (all_mine or mine(parent)):
            self._parent(number, row, of_parent or 0)
        if source and self.stored and mine(source) and _is_id(source):
            self.sources.append(self._reference(number, row, "source_doc_id", source))

    def look_for_sources(self) -> None:
        """Report the sources whose prompt is not in the store, when all of the stage was looked at."""
        for reference in self.sources:
            self._source(reference)

    def _cells(self, number: int, row: RowLineage, *, is_id: bool, is_parent: bool) -> None:
        """Look at what the cells of a row hold, and whether its task was met before."""
        task_id, doc_id, parent, source, _, _ = row
        self.counts["rows"] += 1
        if fault := _task_fault(task_id):
            self._add("malformed-id", (number, f"{self.stage}_task_id"), row, fault, "correct the cell")
        else:
            hashed = hash(_told_apart(row))
            if hashed in self.tasks:
                self.twice[0].add(hashed)
            self.tasks.add(hashed)
        if not is_id:
            self._no_id(number, row, "doc_id", doc_id)
        if not is_parent and self.parent_stage is not None:
            self._no_id(number, row, "parent_doc_id", parent)
        if source and not _is_id(source) and not is_missing(source):
            self._no_id(number, row, "source_doc_id", source)

    def _own(self, number: int, row: RowLineage, state: int, found: Look) -> None:
        """Look at the document of a row."""
        task_id, doc_id, _, _, run_id, salt = row
        if state & _ROW:
            self.twice[1].add(doc_id)
            return
        self.known[doc_id] = state | _ROW
        if not _is_derived(self.stage, task_id, doc_id, run_id, salt):
            self.counts["underived"] += 1
        if not self.stored:
            return
        if found is not None and state & (_THERE | _SEEN) == _THERE:
            document = self.shard.document(self.stage, doc_id, task_id, found)
            if document is not None:
                if not self._is_conflict(document, row):
                    self.counts["written"] += 1
                else:
                    self._conflict(number, document, row)
        if not self.known[doc_id] & (_THERE | _FAULTY):
            self.counts["pending"] += 1

    def _parent(self, number: int, row: RowLineage, state: int) -> None:
        """Look for the parent of a row."""
        if not state & (_ROW | _THERE):
            self.shard.references.append(self._reference(number, row, "parent_doc_id", row[2]))
        elif self.shard.backend is not None and not state & _THERE:
            self.counts["parents_pending"] += 1

    def _reference(self, number: int, row: RowLineage, column: str, target: str) -> Reference:
        return Reference(target, self.stage, _id_of(row), row[0], number, self.table.where(number, column))

    def _add(self, code: str, cell: tuple[int, str], row: RowLineage, message: str, hint: str) -> None:
        finding = Finding(code, self.stage, _id_of(row), row[0], self.table.where(*cell), message, hint)
        self.shard.add(finding, cell[0])

    def _no_id(self, number: int, row: RowLineage, column: str, text: str) -> None:
        """Report a cell that should hold a doc id and does not."""
        cell = (number, column)
        if not is_missing(text):
            message = f"{shown(text)} is no doc id; expected {DOC_ID_EXPECTED}"
            self._add("malformed-id", cell, row, message, "correct the cell, or empty it and run 'docid reserve'")
            return
        message = "empty" if text == "" else f"{shown(text)}, which means missing"
        if column == "doc_id":
            self._add("missing-doc-id", cell, row, message, "'docid reserve' fills it")
        else:
            hint = f"'docid reserve' fills it, from the table of stage {self.parent_stage}"
            self._add("missing-parent-id", cell, row, message, hint)

    def _is_conflict(self, document: Version, row: RowLineage) -> bool:
        """Return whether a document is of another lineage than its row, as far as the row says it."""
        task_id = row[0]
        parent = row[2] if self.parent_stage is not None and _is_id(row[2]) else None
        record = document.record
        if record.same_lineage(task_id, parent) is not False:
            return False
        # What a row does not say it has a finding for, and is taken to agree.
        own_task = record.task_id if _task_fault(task_id) else task_id
        own_parent = record.parent_doc_id if parent is None and self.parent_stage is not None else parent
        return record.same_lineage(own_task, own_parent) is False

    def _conflict(self, number: int, document: Version, row: RowLineage) -> None:
        held = {"task_id": document.record.task_id, "parent_doc_id": document.record.parent_doc_id}
        said = {"task_id": row[0], "parent_doc_id": row[2] or None}
        # Task ids are long: what is equal is not said.
        stored, here = (
            ", ".join(f"{name}={shown(each[name])}" for name in held if held[name] != said[name])
            for each in (held, said)
        )
        message = f"{document.location} holds {stored}; the row says {here}"
        hint = "correct the row, or empty its doc_id and reserve another id with a doc_salt: a write would be refused"
        self._add("lineage-conflict", (number, "doc_id"), row, message, hint)

    def _source(self, reference: Reference) -> None:
        state = self.known.get(reference.target, 0)
        if state & _WRITTEN and not state & _PROMPT:
            message = f"{self.stage}/{reference.target} was stored without its prompt, which is to be sent again"
        elif not state & _THERE:
            message = f"{self.stage}/{reference.target} is not in the store; its prompt is to be sent again"
        else:
            return
        hint = "name another source_doc_id, or none"
        _, stage, doc_id, task_id, number, where = reference
        self.shard.add(Finding("missing-source", stage, doc_id, task_id, where, message, hint), number)

    def report_twice(self) -> None:
        """Read the table once more, for the rows that are there twice: which they are was not held."""
        tasks: dict[tuple[str, str, str], int] = {}
        ids: dict[str, tuple[int, str]] = {}
        for number, row in self.table.lineages(self.stage, self.shard.stages):
            task_id, doc_id = row[0], row[1]
            if hash(_told_apart(row)) in self.twice[0]:
                first = tasks.setdefault(_told_apart(row), number)
                if first != number:
                    message = f"the task of row {first} too; expected one row a task"
                    hint = "remove one of the rows; to have two documents of one task give one a doc_salt"
                    self._add("duplicate-task-id", (number, f"{self.stage}_task_id"), row, message, hint)
            if doc_id in self.twice[1]:
                first, other = ids.setdefault(doc_id, (number, task_id))
                if first != number:
                    message = f"the doc id of row {first} (task_id={shown(other)}) too; expected one row a document"
                    hint = "remove one of the rows, or empty its doc_id and run 'docid reserve'"
                    self._add("duplicate-doc-id", (number, "doc_id"), row, message, hint)


def _is_id(text: str) -> bool:
    """Return whether a cell holds a doc id: `nan` would be one, and means missing."""
    return DOC_ID.match(text) is not None and (len(text) > _WORD or not is_missing(text))


def _told_apart(row: RowLineage) -> tuple[str, str, str]:
    """Return what tells documents of one stage apart: task, run and salt."""
    task_id, _, _, _, run_id, salt = row
    if run_id or salt:
        return task_id, "" if is_missing(run_id) else run_id, "" if is_missing(salt) else salt
    return task_id, "", ""


def _id_of(row: RowLineage) -> str:
    return row[1] if _is_id(row[1]) else ""


def _task_fault(task_id: str) -> str:
    """Return what is wrong with a task id; empty where nothing is."""
    if len(task_id) <= _WORD and is_missing(task_id):
        return f"{shown(task_id)}, which means missing; expected the task's id" if task_id else "empty; expected it"
    try:
        check_text("task_id", task_id)
    except InvalidName as error:
        return f"{shown(task_id)}: {error.problem}; expected {error.expected}"
    return ""


def _is_derived(stage: str, task_id: str, doc_id: str, run_id: str, salt: str) -> bool:
    """Return whether a doc id comes from what its row says; also where that is a finding of its own."""
    run = None if is_missing(run_id) else run_id
    noted = None if is_missing(salt) else salt
    try:
        # The checks, which cost as much as the rest, are done only where they could make a difference.
        return derive(stage, task_id, run, noted) == doc_id or reserve_doc_id(stage, task_id, run, noted) == doc_id
    except (InvalidName, TypeError):
        return True


def _of(document: Version, code: str, message: str, hint: str) -> Finding:
    return Finding(code, document.stage, document.doc_id, document.record.task_id, document.location, message, hint)

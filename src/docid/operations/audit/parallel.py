"""An audit under way: what it knows of every doc id, and its checks of the store.

Documents are examined in chunks, in this process or in an executor's workers. The rest is one pass in this process,
so that the report is the same with every executor.
"""

from __future__ import annotations

import contextlib
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from attrs import Factory, define

from docid._text import quote
from docid.core.document import PART_FILES
from docid.core.findings import Finding
from docid.core.ids import DOC_ID, DOC_ID_EXPECTED
from docid.core.lineage_rules import find_unsaid
from docid.core.record import Record
from docid.errors import UnreadableDocument
from docid.store.scanning import examine, find_leftovers, report_unlisted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from concurrent.futures import Executor, Future

    from docid.core.findings import Progress
    from docid.core.stages import Stages
    from docid.store.backends.base import Backend

CHUNK = 1000  # documents of one call of a worker
AHEAD = 64  # chunks under way, which bounds the memory: enough for as many workers
STRIDE = 1000  # rows or documents between two calls of the progress callback

# What is known of a doc id in a stage, as bits: a million of them are held.
ROW = 1  # it stands in the stage's table
THERE = 2  # something of its name is in the store
SEEN = 4  # and was examined
PROMPT = 8  # it is a document with its prompt
FAULTY = 16  # something that is no document stands in its place

Item = TypeVar("Item")


class Examination(NamedTuple):
    """What was found of one document; small, because it crosses from a worker. Without record none can be used."""

    findings: list[Finding]
    record: Record | None = None
    has_parsed: bool = False
    has_prompt: bool = False


class Examiner(NamedTuple):
    """Examines documents of a backend. It pickles if the backend does."""

    backend: Backend
    verify: bool
    stale_after: float

    def examine_chunk(self, stage: str, doc_ids: Sequence[str | None], in_row: bool) -> list[Examination | None]:  # noqa: FBT001 - what executors do with keywords differs
        """Examine documents, None for None. What a tool may be at is no finding, unless it is in the way of a row."""

        def examine_one(doc_id: str | None) -> Examination | None:
            return None if doc_id is None else self._examine(stage, doc_id, in_row=in_row)

        return list(self.backend.each(examine_one, doc_ids))

    def _examine(self, stage: str, doc_id: str, *, in_row: bool) -> Examination:
        found = list(examine(self.backend, stage, doc_id, verify=self.verify, stale_after=self.stale_after))
        if in_row and not found:
            with contextlib.suppress(OSError):
                try:
                    self.backend.load(stage, doc_id)
                except UnreadableDocument:
                    found = list(examine(self.backend, stage, doc_id, verify=self.verify, stale_after=0))
        findings = [each for each in found if isinstance(each, Finding)]
        version = next((each for each in found if not isinstance(each, Finding)), None)
        if version is None:
            return Examination(findings)
        parsed, prompt = PART_FILES["parsed"], PART_FILES["prompt"]
        files: Collection[str] = version.facts.files
        if version.legacy:
            with contextlib.suppress(UnreadableDocument, OSError):  # it has vanished since
                files = self.backend.sizes(stage, doc_id, (parsed, prompt))
        record = Record({}, version.task_id, version.parent_doc_id, version.run_id, None, {}, version.legacy)
        return Examination(findings, record, parsed in files, prompt in files)


@define
class Audit:
    """An audit under way: what is known of each doc id, what is counted, and the findings so far.

    Without an examiner there is no store. `tables` are the stages that have a table; `blind` are those that cannot be
    listed. A finding stands behind the number of its row (0: it is in no table). A parent that was not found is its
    stage and doc id, the number of the row that names it, and a finding without message about the child.
    """

    stages: Stages
    examiner: Examiner | None
    executor: Executor | None
    progress: Progress | None
    known: dict[str, dict[str, int]] = Factory(lambda self: {stage: {} for stage in self.stages}, takes_self=True)
    counts: dict[str, dict[str, int]] = Factory(lambda self: {stage: {} for stage in self.stages}, takes_self=True)
    tables: Collection[str] = ()
    blind: set[str] = Factory(set)
    findings: list[tuple[int, Finding]] = Factory(list)
    lost_parents: list[tuple[tuple[str, str], int, Finding]] = Factory(list)

    def locate(self, stage: str, doc_id: str) -> str:
        """Return where a document of the store is."""
        return "" if self.examiner is None else self.examiner.backend.location(stage, doc_id)

    def report_progress(self, what: str, done: int, total: int | None = None) -> None:
        """Call the progress callback now and then, if there is one."""
        if self.progress is not None and done % STRIDE == 0:
            self.progress(what, done, total)

    def examine(
        self, stage: str, items: Iterable[Item], get_doc_id: Callable[[Item], str | None], *, in_row: bool
    ) -> Iterator[tuple[Item, Examination | None]]:
        """Yield each item with the examination of its document; None without a store, or a doc id.

        Items are taken before their turn: `CHUNK` of them, with an executor `AHEAD` times as many.
        """
        items = iter(items)
        chunks = iter(lambda: list(islice(items, CHUNK)), [])
        examiner, executor = self.examiner, self.executor
        if examiner is None:
            yield from ((item, None) for item in items)
            return
        if executor is None:
            for chunk in chunks:
                yield from zip(chunk, examiner.examine_chunk(stage, list(map(get_doc_id, chunk)), in_row), strict=True)
            return
        pending: deque[tuple[list[Item], Future[list[Examination | None]]]] = deque()
        try:
            while True:
                for chunk in islice(chunks, AHEAD - len(pending)):
                    future = executor.submit(examiner.examine_chunk, stage, list(map(get_doc_id, chunk)), in_row)
                    pending.append((chunk, future))
                if not pending:
                    return
                chunk, future = pending.popleft()
                yield from zip(chunk, future.result(), strict=True)
        finally:
            for _, future in pending:
                future.cancel()

    def list_ids(self, stage: str) -> None:
        """Note which doc ids of a stage are in the store; report what lies beside its documents."""
        if self.examiner is None:
            return
        self.report_progress(f"listing stage {stage}", 0)
        self.counts[stage] = {"documents": 0, "parsed_missing": 0}
        backend, known, reported = self.examiner.backend, self.known[stage], set()
        for finding in find_leftovers(backend, stage, stale_after=self.examiner.stale_after):
            if finding.doc_id and finding.where == backend.location(stage, finding.doc_id):
                # A file, or a link, where a document should be: examined with its row, which knows the task.
                known[finding.doc_id] = THERE
            else:
                reported.add((finding.code, finding.where))
                self.findings.append((0, finding))
        try:
            known.update(dict.fromkeys(backend.ids(stage), THERE))
        except (UnreadableDocument, OSError) as error:
            self.blind.add(stage)
            finding = report_unlisted(backend, stage, error)
            if (finding.code, finding.where) not in reported:
                self.findings.append((0, finding))

    def note(self, stage: str, doc_id: str, examination: Examination, task_id: str | None = None) -> Record | None:
        """Note and report what was found of a document, given the task of its row; return its record if it is whole."""
        known, record = self.known[stage], examination.record
        known[doc_id] |= SEEN
        for finding in examination.findings:
            if finding.task_id is None:  # no record says the task; the row that it is in the way of does
                finding = finding._replace(task_id=task_id)  # noqa: PLW2901
                if task_id is not None and finding.code == "uncommitted-directory":
                    hint = f"{finding.hint}; until then this row's document cannot be written"
                    finding = finding._replace(hint=hint)  # noqa: PLW2901
            self.findings.append((0, finding))
        if record is None:
            # Something that is no document is in the way. An error may hide one, which may be the parent of others.
            if all(finding.level != "error" for finding in examination.findings):
                known[doc_id] &= ~THERE
            if examination.findings:
                known[doc_id] |= FAULTY
            return None
        known[doc_id] |= PROMPT if examination.has_prompt else 0
        self.counts[stage]["documents"] += 1
        self.counts[stage]["parsed_missing"] += not examination.has_parsed
        if record.legacy:
            message, hint = "its record was written by an older system", "docid migrate brings it to the current format"
            if self.examiner is not None and self.examiner.verify:
                message += ", and has no hashes to compare"
            if unsaid := find_unsaid(record, has_parent=self.stages.parent_of(stage) is not None):
                message += f", and does not say its {' and '.join(unsaid)}: a run refuses it"
                hint = "docid migrate --tables brings it to the current format, as its row says"
            self._report("legacy-record", stage, doc_id, record, message, hint)
        return record

    def check_rest(self, stage: str) -> None:
        """Check the documents of a stage that are in no row."""
        if self.examiner is None:
            return
        known = self.known[stage]
        rest = (doc_id for doc_id, state in known.items() if state & (THERE | SEEN) == THERE)
        total = None if self.progress is None else sum(state & (THERE | SEEN) == THERE for state in known.values())
        for done, (doc_id, examination) in enumerate(self.examine(stage, rest, str, in_row=False), 1):
            self.report_progress(f"documents of stage {stage}", done, total)
            record = None if examination is None else self.note(stage, doc_id, examination)
            if record is None:
                continue
            if stage in self.tables:
                hint = "add a row for it ('docid link' gives it to the row of its task), or let it be: no row reads it"
                message = f"in no row of the table of stage {stage}"
                self._report("orphan-document", stage, doc_id, record, message, hint)
            self._check_parent(stage, doc_id, record)

    def _check_parent(self, stage: str, doc_id: str, record: Record) -> None:
        """Check the parent that a record names."""
        parent_stage, parent = self.stages.parent_of(stage), record.parent_doc_id
        if parent_stage is None or parent_stage in self.blind:
            return
        if parent is None:
            if not record.legacy:
                message = f"no parent_doc_id in its record; expected the doc id of a document of stage {parent_stage}"
                hint = "it was written with require_parent=False; write it anew with its parent, under another id"
                self._report("missing-parent-id", stage, doc_id, record, message, hint)
        elif not DOC_ID.match(parent):
            message = f"the parent in its record, {quote(parent)}, is no doc id; expected {DOC_ID_EXPECTED}"
            self._report("malformed-id", stage, doc_id, record, message, "correct its record")
        elif not self.known[parent_stage].get(parent, 0) & (ROW | THERE):
            child = Finding("missing-parent", stage, doc_id, record.task_id, self.locate(stage, doc_id), "", "")
            self.lost_parents.append(((parent_stage, parent), 0, child))

    def _report(self, code: str, stage: str, doc_id: str, record: Record, message: str, hint: str) -> None:  # noqa: PLR0917 - the fields of a finding
        where = self.locate(stage, doc_id)
        self.findings.append((0, Finding(code, stage, doc_id, record.task_id, where, message, hint)))

    def report_lost_parents(self) -> None:
        """Report the parents that were not found, unless another process has written them by now."""
        parents = list(dict.fromkeys(parent for parent, _, _ in self.lost_parents))
        each = map if self.examiner is None else self.examiner.backend.each
        is_stored = dict(zip(parents, each(self._is_stored, parents), strict=True))
        for name, number, child in self.lost_parents:
            if is_stored[name]:
                continue
            parent_stage, parent = name
            if others := [each for each in self.stages if self.known[each].get(parent, 0) & (ROW | THERE)]:
                code, hint = "wrong-stage-parent", "name a document of the parent's stage"
                message = f"{parent} is of stage {', '.join(others)}; expected a document of stage {parent_stage}"
            else:
                code, hint = "missing-parent", "make or reserve the parent first, or name the one that is meant"
                places = [] if self.examiner is None else ["in the store"]
                places += [f"reserved in the table of stage {parent_stage}"] if parent_stage in self.tables else []
                neither = "neither" if len(places) > 1 else "not"
                message = f"the parent {parent_stage}/{parent} is {neither} {' nor '.join(places)}"
            self.findings.append((number, child._replace(code=code, message=message, hint=hint)))

    def _is_stored(self, name: tuple[str, str]) -> bool:
        try:
            return self.examiner is not None and self.examiner.backend.load(*name) is not None
        except UnreadableDocument as error:
            return error.code != "uncommitted-directory"
        except OSError:
            return False  # it was not listed

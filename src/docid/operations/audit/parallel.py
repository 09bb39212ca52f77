"""The state of an audit, and its checks of the store.

Documents are examined in chunks, in this process or by the workers of an executor. Everything else is one pass in this
process, so every executor gives the same report.
"""

from __future__ import annotations

import contextlib
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from attrs import Factory, define

from docid._files import ignore_system_errors, raise_time_limit
from docid._text import quote
from docid.core.document import PART_FILES
from docid.core.findings import Finding
from docid.core.ids import DOC_ID, DOC_ID_EXPECTED
from docid.core.lineage_rules import find_missing_lineage
from docid.core.record import Record
from docid.errors import UnreadableDocument
from docid.store.scanning import examine, examine_history, find_leftovers, report_unlisted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence
    from concurrent.futures import Executor, Future

    from docid.core.findings import Progress
    from docid.core.stages import Stages
    from docid.store.backends.base import Backend

CHUNK = 1000  # documents per call of a worker
AHEAD = 64  # chunks submitted at once: bounds the memory, and keeps 64 workers busy
STRIDE = 1000  # rows or documents per call of the progress callback

# The state of a doc id in a stage, as bits, because an audit holds a million of them.
ROW = 1  # a row of the stage's table has it
STORED = 2  # the store has an entry of this name
EXAMINED = 4  # the entry was examined
PROMPT = 8  # the entry is a document with its prompt
FAULTY = 16  # the entry is not a usable document

Item = TypeVar("Item")


def is_unexamined(state: int) -> bool:
    """Return whether a doc id is stored and not examined yet."""
    return state & (STORED | EXAMINED) == STORED


class Examination(NamedTuple):
    """The result for one document, small because a worker sends it. Without a record the document is unusable."""

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
        """Examine documents; None gives None. Skip an entry that a tool may still use, unless it blocks a row."""
        with_history: Container[str] | None = ()
        if self.verify:
            with ignore_system_errors:  # then reading the history of a document raises it again
                with_history = None
                with_history = self.backend.with_history(stage)

        def examine_one(doc_id: str | None) -> Examination | None:
            if doc_id is None:
                return None
            result = self._examine(stage, doc_id, in_row=in_row)
            if with_history is None or doc_id in with_history:
                result.findings.extend(examine_history(self.backend, stage, doc_id))
            return result

        return list(self.backend.each(examine_one, doc_ids))

    def _examine(self, stage: str, doc_id: str, *, in_row: bool) -> Examination:
        found = list(examine(self.backend, stage, doc_id, verify=self.verify, stale_after=self.stale_after))
        if in_row and not found:
            with ignore_system_errors:
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
            with contextlib.suppress(UnreadableDocument), ignore_system_errors:  # it vanished after the check
                files = self.backend.sizes(stage, doc_id, (parsed, prompt))
        record = Record({}, version.task_id, version.parent_doc_id, version.run_id, None, {}, version.legacy)
        return Examination(findings, record, parsed in files, prompt in files)


@define
class Audit:
    """The state of an audit: the state of each doc id, the counts, and the findings so far.

    Attributes:
        examiner: None without a store.
        known: the bits of each doc id, by stage.
        counts: the counts of `StageFacts`, by stage.
        tables: the stages that have a table.
        unlisted: the stages that cannot be listed.
        findings: each with the number of its row; 0 if it has none.
        missing_parents: the stage and doc id of each parent not found, the number of the row that names it (or 0),
            and a finding about the child, still without a code, message and hint of its own.
    """

    stages: Stages
    examiner: Examiner | None
    executor: Executor | None
    progress: Progress | None
    known: dict[str, dict[str, int]] = Factory(lambda self: {stage: {} for stage in self.stages}, takes_self=True)
    counts: dict[str, dict[str, int]] = Factory(lambda self: {stage: {} for stage in self.stages}, takes_self=True)
    tables: Collection[str] = ()
    unlisted: set[str] = Factory(set)
    findings: list[tuple[int, Finding]] = Factory(list)
    missing_parents: list[tuple[tuple[str, str], int, Finding]] = Factory(list)

    def locate(self, stage: str, doc_id: str) -> str:
        """Return the location of a stored document; empty text without a store."""
        return "" if self.examiner is None else self.examiner.backend.location(stage, doc_id)

    def report_progress(self, what: str, done: int, total: int | None = None) -> None:
        """Call the progress callback for every `STRIDE`th item."""
        if self.progress is not None and done % STRIDE == 0:
            self.progress(what, done, total)

    def examine(
        self, stage: str, items: Iterable[Item], get_doc_id: Callable[[Item], str | None], *, in_row: bool
    ) -> Iterator[tuple[Item, Examination | None]]:
        """Yield each item with the examination of its document; None if there is no store or no doc id.

        Reads up to `CHUNK` items ahead; with an executor, up to `AHEAD` chunks.
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
        """Collect the doc ids of a stage in the store; report files that belong to no document."""
        if self.examiner is None:
            return
        self.report_progress(f"listing stage {stage}", 0)
        self.counts[stage] = {"documents": 0, "parsed_missing": 0}
        backend, known, reported = self.examiner.backend, self.known[stage], set()
        for finding in find_leftovers(backend, stage, stale_after=self.examiner.stale_after):
            if finding.doc_id and finding.where == backend.location(stage, finding.doc_id):
                # A file or link in place of a document is examined with its row, which names the task.
                known[finding.doc_id] = STORED
            else:
                reported.add((finding.code, finding.where))
                self.findings.append((0, finding))
        try:
            for doc_id in backend.ids(stage):  # those before an error count, too
                known[doc_id] = STORED
        except (UnreadableDocument, OSError) as error:
            finding = report_unlisted(backend, stage, error)
            self.unlisted.add(stage)
            if (finding.code, finding.where) not in reported:
                self.findings.append((0, finding))

    def note(self, stage: str, doc_id: str, examination: Examination, task_id: str | None = None) -> Record | None:
        """Update state and findings with an examination; return the record of a usable document, otherwise None."""
        known, record = self.known[stage], examination.record
        known[doc_id] |= EXAMINED
        for finding in examination.findings:
            if finding.task_id is None:  # without a record only the row that it blocks names the task
                finding = finding._replace(task_id=task_id)  # noqa: PLW2901
                if task_id is not None and finding.code == "uncommitted-directory":
                    hint = f"{finding.hint}; until then docid cannot write the document of this row"
                    finding = finding._replace(hint=hint)  # noqa: PLW2901
            self.findings.append((0, finding))
        if record is None:
            # An error may hide a document that is a parent of others, so its doc id still counts as stored.
            if all(finding.level != "error" for finding in examination.findings):
                known[doc_id] &= ~STORED
            if examination.findings:
                known[doc_id] |= FAULTY
            return None
        known[doc_id] |= PROMPT if examination.has_prompt else 0
        self.counts[stage]["documents"] += 1
        self.counts[stage]["parsed_missing"] += not examination.has_parsed
        if record.legacy:
            message, hint = "its record was written by an older system", "run 'docid migrate --apply' to convert it"
            if self.examiner is not None and self.examiner.verify:
                message += " and has no hashes to verify"
            if missing := find_missing_lineage(record, has_parent=self.stages.parent_of(stage) is not None):
                message += f"; it lacks {' and '.join(missing)}, so a run refuses it"
                hint = "run 'docid migrate --tables TABLE --apply' to convert it and complete it from its row"
            self._report("legacy-record", stage, doc_id, record, message, hint)
        return record

    def check_rest(self, stage: str) -> None:
        """Check the documents of a stage that no row has."""
        if self.examiner is None:
            return
        known = self.known[stage]
        rest = (doc_id for doc_id, state in known.items() if is_unexamined(state))
        total = None if self.progress is None else sum(map(is_unexamined, known.values()))
        for done, (doc_id, examination) in enumerate(self.examine(stage, rest, str, in_row=False), 1):
            self.report_progress(f"documents of stage {stage}", done, total)
            record = None if examination is None else self.note(stage, doc_id, examination)
            if record is None:
                continue
            if stage in self.tables:
                message = f"no row of the {stage} table has its doc id"
                hint = "add a row for it, or run 'docid link' to give it to the row of its task; otherwise ignore it"
                self._report("orphan-document", stage, doc_id, record, message, hint)
            self._check_parent(stage, doc_id, record)

    def _check_parent(self, stage: str, doc_id: str, record: Record) -> None:
        """Check the parent that a record names."""
        parent_stage, parent = self.stages.parent_of(stage), record.parent_doc_id
        if parent_stage is None or parent_stage in self.unlisted:
            return
        if parent is None:
            if not record.legacy:
                message = f"its record has no parent_doc_id; expected the doc id of a document of stage {parent_stage}"
                hint = "it was written with require_parent=False: write it again with its parent, under another doc id"
                self._report("missing-parent-id", stage, doc_id, record, message, hint)
        elif not DOC_ID.match(parent):
            message = f"its record has parent_doc_id {quote(parent)}, not a doc id; expected {DOC_ID_EXPECTED}"
            self._report("malformed-id", stage, doc_id, record, message, "correct its record")
        elif not self.known[parent_stage].get(parent, 0) & (ROW | STORED):
            child = Finding("missing-parent", stage, doc_id, record.task_id, self.locate(stage, doc_id), "", "")
            self.missing_parents.append(((parent_stage, parent), 0, child))

    def _report(self, code: str, stage: str, doc_id: str, record: Record, message: str, hint: str) -> None:  # noqa: PLR0917 - the fields of a finding
        where = self.locate(stage, doc_id)
        self.findings.append((0, Finding(code, stage, doc_id, record.task_id, where, message, hint)))

    def report_missing_parents(self) -> None:
        """Report the parents not found, unless another process wrote them during the audit."""
        parents = list(dict.fromkeys(parent for parent, _, _ in self.missing_parents))
        each = map if self.examiner is None else self.examiner.backend.each
        is_stored = dict(zip(parents, each(self._is_stored, parents), strict=True))
        for name, number, child in self.missing_parents:
            if is_stored[name]:
                continue
            parent_stage, parent = name
            if others := [each for each in self.stages if self.known[each].get(parent, 0) & (ROW | STORED)]:
                code, hint = "wrong-stage-parent", f"set parent_doc_id to a document of stage {parent_stage}"
                message = f"{parent} belongs to stage {', '.join(others)}; expected a document of stage {parent_stage}"
            else:
                code, hint = "missing-parent", "write or reserve the parent first, or correct parent_doc_id"
                places = [] if self.examiner is None else ["in the store"]
                places += [f"reserved in the {parent_stage} table"] if parent_stage in self.tables else []
                neither = "neither" if len(places) > 1 else "not"
                message = f"parent {parent_stage}/{parent} is {neither} {' nor '.join(places)}"
            self.findings.append((number, child._replace(code=code, message=message, hint=hint)))

    def _is_stored(self, name: tuple[str, str]) -> bool:
        try:
            return self.examiner is not None and self.examiner.backend.load(*name) is not None
        except UnreadableDocument as error:
            return error.code != "uncommitted-directory"
        except OSError as error:
            raise_time_limit(error)
            return False  # the listing did not have it either

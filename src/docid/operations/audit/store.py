"""An audit under way: what it knows of every doc id, and its checks of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from docid._text import shown
from docid.core.findings import Finding
from docid.core.ids import DOC_ID, DOC_ID_EXPECTED
from docid.core.lineage_rules import find_unsaid
from docid.errors import UnreadableDocument
from docid.operations.audit.parallel import examine_all
from docid.store.scanning import find_leftovers, report_unlisted

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from docid.core.findings import Progress
    from docid.core.record import Record
    from docid.core.stages import Stages
    from docid.operations.audit.parallel import Examination, Examiner
    from docid.operations.audit.tables import Table

__all__ = ["FAULTY", "PROMPT", "ROW", "SEEN", "THERE", "Audit", "LostParent"]

# What is known of a doc id in a stage, as bits: a million of them are held.
ROW = 1  # it stands in the stage's table
THERE = 2  # something of its name is in the store
SEEN = 4  # and was examined
PROMPT = 8  # it is a document with its prompt
FAULTY = 16  # something that is no document stands in its place

STRIDE = 1000  # rows or documents between two calls of the progress callback


class LostParent(NamedTuple):
    """A parent that was not found, as stage and doc id, and the child that names it: in a row, or (0) in its record."""

    parent: tuple[str, str]
    stage: str
    doc_id: str
    task_id: str | None
    where: str
    number: int = 0


class Audit:
    """An audit under way.

    Attributes:
        stages, tables, examiner, executor, progress: what is audited, and how; without an examiner there is no store.
        known: what is known of each doc id, by stage.
        blind: the stages that cannot be listed: of what is in them nothing is known.
        counts: what is counted, by stage and name.
        findings: the findings so far, each behind the number of its row (0: it is in no table).
        lost_parents: the parents that were not found so far.
    """

    def __init__(
        self,
        stages: Stages,
        tables: dict[str, Table],
        examiner: Examiner | None,
        executor: Executor | None,
        progress: Progress | None,
    ) -> None:
        self.stages = stages
        self.tables = tables
        self.examiner = examiner
        self.executor = executor
        self.progress = progress
        self.known: dict[str, dict[str, int]] = {stage: {} for stage in stages}
        self.blind: set[str] = set()
        self.counts: dict[str, dict[str, int]] = {stage: {} for stage in stages}
        self.findings: list[tuple[int, Finding]] = []
        self.lost_parents: list[LostParent] = []

    def add(self, finding: Finding, number: int = 0) -> None:
        """Add a finding; where it is about a row, with the row's number."""
        self.findings.append((number, finding))

    def locate(self, stage: str, doc_id: str) -> str:
        """Return where a document of the store is."""
        return "" if self.examiner is None else self.examiner.backend.location(stage, doc_id)

    def report_progress(self, what: str, done: int, total: int | None = None) -> None:
        """Call the progress callback now and then, if there is one."""
        if self.progress is not None and done % STRIDE == 0:
            self.progress(what, done, total)

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
                self.add(finding)
        try:
            known.update(dict.fromkeys(backend.ids(stage), THERE))
        except (UnreadableDocument, OSError) as error:
            self.blind.add(stage)
            finding = report_unlisted(backend, stage, error)
            if (finding.code, finding.where) not in reported:
                self.add(finding)

    def note(self, stage: str, doc_id: str, examination: Examination, task_id: str | None = None) -> Record | None:
        """Note and report what was found of a document, given the task of its row; return its record if it is whole."""
        known, record = self.known[stage], examination.record
        known[doc_id] |= SEEN
        for finding in examination.findings:
            self.add(finding if finding.task_id is not None else _add_task(finding, task_id))
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
            self._report_legacy(stage, doc_id, record)
        return record

    def check_rest(self, stage: str) -> None:
        """Check the documents of a stage that are in no row."""
        if self.examiner is None:
            return
        known = self.known[stage]
        rest = (doc_id for doc_id, state in known.items() if state & (THERE | SEEN) == THERE)
        total = None if self.progress is None else sum(state & (THERE | SEEN) == THERE for state in known.values())
        examined = examine_all(self.examiner, self.executor, stage, rest, str, in_row=False)
        for done, (doc_id, examination) in enumerate(examined, 1):
            self.report_progress(f"documents of stage {stage}", done, total)
            record = None if examination is None else self.note(stage, doc_id, examination)
            if record is None:
                continue
            if stage in self.tables:
                hint = "add a row for it ('docid link' gives it to the row of its task), or let it be: no row reads it"
                message = f"in no row of the table of stage {stage}"
                self._report("orphan-document", stage, doc_id, record, message, hint)
            self._check_parent(stage, doc_id, record)

    def report_lost_parents(self) -> None:
        """Report the parents that were not found, unless another process has written them by now."""
        parents = list(dict.fromkeys(lost.parent for lost in self.lost_parents))
        each = map if self.examiner is None else self.examiner.backend.each
        is_stored = dict(zip(parents, each(self._is_stored, parents), strict=True))
        for lost in self.lost_parents:
            if not is_stored[lost.parent]:
                self._report_lost_parent(lost)

    def _is_stored(self, name: tuple[str, str]) -> bool:
        try:
            return self.examiner is not None and self.examiner.backend.load(*name) is not None
        except UnreadableDocument as error:
            return error.code != "uncommitted-directory"
        except OSError:
            return False  # it was not listed

    def _report_lost_parent(self, lost: LostParent) -> None:
        (parent_stage, parent), stage, doc_id, task_id, where, number = lost
        if others := [each for each in self.stages if self.known[each].get(parent, 0) & (ROW | THERE)]:
            code, hint = "wrong-stage-parent", "name a document of the parent's stage"
            message = f"{parent} is of stage {', '.join(others)}; expected a document of stage {parent_stage}"
        else:
            code, hint = "missing-parent", "make or reserve the parent first, or name the one that is meant"
            stored = [] if self.examiner is None else ["in the store"]
            reserved = [f"reserved in the table of stage {parent_stage}"] if parent_stage in self.tables else []
            neither = "neither" if stored and reserved else "not"
            message = f"the parent {parent_stage}/{parent} is {neither} {' nor '.join(stored + reserved)}"
        self.add(Finding(code, stage, doc_id, task_id, where, message, hint), number)

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
            message = f"the parent in its record, {shown(parent)}, is no doc id; expected {DOC_ID_EXPECTED}"
            self._report("malformed-id", stage, doc_id, record, message, "correct its record")
        elif not self.known[parent_stage].get(parent, 0) & (ROW | THERE):
            where = self.locate(stage, doc_id)
            self.lost_parents.append(LostParent((parent_stage, parent), stage, doc_id, record.task_id, where))

    def _report_legacy(self, stage: str, doc_id: str, record: Record) -> None:
        message, hint = "its record was written by an older system", "docid migrate brings it to the current format"
        if self.examiner is not None and self.examiner.verify:
            message += ", and has no hashes to compare"
        if unsaid := find_unsaid(record, has_parent=self.stages.parent_of(stage) is not None):
            message += f", and does not say its {' and '.join(unsaid)}: a run refuses it"
            hint = "docid migrate --tables brings it to the current format, as its row says"
        self._report("legacy-record", stage, doc_id, record, message, hint)

    def _report(self, code: str, stage: str, doc_id: str, record: Record, message: str, hint: str) -> None:  # noqa: PLR0917 - the fields of a finding
        self.add(Finding(code, stage, doc_id, record.task_id, self.locate(stage, doc_id), message, hint))


def _add_task(finding: Finding, task_id: str | None) -> Finding:
    """Return a finding about what no record says the task of, with the task of the row that it is in the way of."""
    blocks = task_id is not None and finding.code == "uncommitted-directory"
    hint = f"{finding.hint}; until then this row's document cannot be written" if blocks else finding.hint
    return finding._replace(task_id=task_id, hint=hint)

"""The state of an audit, and its checks of the store.

Documents are examined in chunks, in this process or by the workers of an executor. Everything else is one pass in this
process, so every executor gives the same report.
"""

from __future__ import annotations

import contextlib
from collections import deque
from functools import lru_cache, partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from attrs import Factory, define

from docid._files import ignore_system_errors, raise_time_limit
from docid._text import quote
from docid.core.document import PART_FILES
from docid.core.findings import ChangedSource, Finding
from docid.core.ids import DOC_ID, DOC_ID_EXPECTED
from docid.core.lineage_rules import find_missing_lineage, split_name
from docid.core.record import PINNED, Record
from docid.errors import UnreadableDocument
from docid.store.ancestry import find_changed_sources
from docid.store.scanning import examine, examine_history, find_leftovers, report_unlisted, try_load
from docid.store.stored import StoredDocument

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor, Future

    from docid.core.findings import Progress
    from docid.core.lineage_rules import Pin
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
VERSION = 5  # the bits above these are the version of the document; see `pack_pin`
_HALF = 96  # bits of a hash in a version: 12 hexadecimal digits as ASCII

Item = TypeVar("Item")
Name = tuple[str, str]  # the stage and the doc id of a document


def is_unexamined(state: int) -> bool:
    """Return whether a doc id is stored and not examined yet."""
    return state & (STORED | EXAMINED) == STORED


def pack_pin(pin: Pin | None) -> int:
    """Return a version as a number, because an audit holds a million of them: 48 bits of each hash; 0 is unknown.

    Of a text that is not a hash, too: the record may be damaged.
    """
    if pin is None:
        return 0
    raw, parsed = (int.from_bytes(pin.get(name, "")[:12].encode(errors="replace")[:12], "big") for name in PINNED)
    return raw << _HALF | parsed


def differs(pin: int, now: int) -> bool:
    """Return whether a packed version is another one now: whether a part that it has differs. See `pack_pin`."""
    if not pin or not now:
        return False
    changed = pin ^ now
    mask = (1 << _HALF) - 1
    return bool((pin >> _HALF and changed >> _HALF) or (pin & mask and changed & mask))


class Examination(NamedTuple):
    """The result for one document, small because a worker sends it. Without a record the document is unusable.

    `version` is its own version, and `pins` are those of its parent and its inputs, packed.
    """

    findings: list[Finding]
    record: Record | None = None
    has_parsed: bool = False
    has_prompt: bool = False
    version: int = 0
    pins: tuple[tuple[str, int], ...] = ()


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
        record = version.facts._replace(data={}, created_at=None, files={})
        pins = tuple((key, pack_pin(pin)) for key, pin in version.pins.items() if pin)
        return Examination(findings, record, parsed in files, prompt in files, pack_pin(version.pin), pins)


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
        missing_sources: the stage and doc id of each parent or input not found, the number of the row that names it (or
            0), and a finding about the child, still without a message and hint.
        inputs: the parent and the inputs of each document that has inputs, by its stage and doc id.
        suspects: documents whose parent or input seems to be another version than they were made from.
        changed: those of them that are.
        read_rows: returns the task id and the parent of each row in the table of a stage, by doc id.
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
    missing_sources: list[tuple[Name, int, Finding]] = Factory(list)
    inputs: dict[Name, tuple[str | None, tuple[tuple[str, int], ...]]] = Factory(dict)
    suspects: dict[Name, None] = Factory(dict)
    changed: list[ChangedSource] = Factory(list)
    read_rows: Callable[[str], Mapping[str, tuple[str, str]]] = Factory(lambda: lambda _: {})

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
        known[doc_id] |= (PROMPT if examination.has_prompt else 0) | examination.version << VERSION
        self._note_pins((stage, doc_id), record, dict(examination.pins))
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

    def _note_pins(self, name: Name, record: Record, pins: dict[str, int]) -> None:
        """Compare the version of the parent, whose stage is examined already; inputs are compared at the end."""
        parent_stage, parent = self.stages.parent_of(name[0]), record.parent_doc_id
        if parent_stage is not None and parent in pins:
            now = self.known[parent_stage].get(parent, 0) >> VERSION
            if differs(pins[parent], now):
                self.suspects[name] = None
        if record.inputs:
            self.note_inputs(name, parent, record.inputs, pins)

    def note_inputs(self, name: Name, parent: str | None, inputs: tuple[str, ...], pins: Mapping[str, int]) -> None:
        """Note the parent and inputs of a document or a row, to compare versions and find cycles at the end."""
        self.inputs[name] = parent, tuple((each, pins.get(each, 0)) for each in inputs)

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
                hint = (
                    "add a row for it, or empty the doc_id of its task's row and run 'docid link'; otherwise ignore it"
                )
                self._report("orphan-document", stage, doc_id, record, message, hint)
            self._check_parent(stage, doc_id, record)
            self.check_inputs(record.inputs, 0, self._make_finding("", stage, doc_id, record))

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
            self.miss(parent_stage, parent, 0, self._make_finding("missing-parent", stage, doc_id, record))

    def check_inputs(self, names: Iterable[str], number: int, child: Finding) -> None:
        """Note the inputs that are not found yet, and may be of a later stage. `child` is as for `miss`."""
        for name in names:
            stage, doc_id = split_name(name)
            if not self._is_known(stage, doc_id):
                self.miss(stage, doc_id, number, child._replace(code="missing-input"))

    def miss(self, stage: str, doc_id: str, number: int, child: Finding) -> None:
        """Note a parent or an input that is not found yet. `child` is a finding without a message and hint."""
        self.missing_sources.append(((stage, doc_id), number, child))

    def _report(self, code: str, stage: str, doc_id: str, record: Record, message: str, hint: str) -> None:  # noqa: PLR0917 - the fields of a finding
        finding = self._make_finding(code, stage, doc_id, record)
        self.findings.append((0, finding._replace(message=message, hint=hint)))

    def _make_finding(self, code: str, stage: str, doc_id: str, record: Record) -> Finding:
        """Return a finding about a document, with empty message and hint."""
        return Finding(code, stage, doc_id, record.task_id, self.locate(stage, doc_id), "", "")

    def report_missing_sources(self) -> None:
        """Report the parents and inputs not found, unless another process wrote them during the audit."""
        missing = [each for each in self.missing_sources if not self._is_known(*each[0])]
        names = list(dict.fromkeys(name for name, _, _ in missing if name[0] in self.stages))
        each = map if self.examiner is None else self.examiner.backend.each
        is_stored = dict(zip(names, each(self._is_stored, names), strict=True))
        for (stage, doc_id), number, child in missing:
            if is_stored.get((stage, doc_id)):
                continue
            is_input = child.code == "missing-input"
            role, cell = ("input", "input_doc_ids") if is_input else ("parent", "parent_doc_id")
            code, hint = child.code, f"write or reserve the {role} first, or correct {cell}"
            others = [each for each in self.stages if self.known[each].get(doc_id, 0) & (ROW | STORED)]
            if others:
                code = code if is_input else "wrong-stage-parent"
                hint = f"set {cell} to a document of stage {stage}"
                message = f"{doc_id} belongs to stage {', '.join(others)}; expected a document of stage {stage}"
            elif stage not in self.stages:
                message = f"input {stage}/{doc_id} is of a stage that this pipeline does not have"
                hint = "declare the stage (--stages), or correct input_doc_ids"
            else:
                places = [] if self.examiner is None else ["in the store"]
                places += [f"reserved in the {stage} table"] if stage in self.tables else []
                neither = "neither" if len(places) > 1 else "not"
                message = f"{role} {stage}/{doc_id} is {neither} {' nor '.join(places)}"
            self.findings.append((number, child._replace(code=code, message=message, hint=hint)))

    def _is_known(self, stage: str, doc_id: str) -> bool:
        """Return whether a row or the listing of the store has a document, or whether the audit cannot know."""
        if stage not in self.stages:
            return False
        if stage in self.unlisted or self.known[stage].get(doc_id, 0) & (ROW | STORED):
            return True
        return self.examiner is None and stage not in self.tables

    def report_changed_sources(self) -> None:
        """Report the documents that were made from another version of their parent or of an input.

        docid reads the records of those that seem to be again: another process may have replaced documents since.
        """
        examiner = self.examiner
        if examiner is None:
            return
        for name, (_, inputs) in self.inputs.items():
            for each, pin in inputs:
                stage, doc_id = split_name(each)
                if stage in self.stages and differs(pin, self.known[stage].get(doc_id, 0) >> VERSION):
                    self.suspects[name] = None
        load = lru_cache(10_000)(partial(try_load, examiner.backend))

        def compare(name: Name) -> list[ChangedSource]:
            found = try_load(examiner.backend, *name)
            return list(find_changed_sources(found, self.stages, load)) if isinstance(found, StoredDocument) else []

        for found in examiner.backend.each(compare, self.suspects):
            self.changed += found
        self.findings += [(0, each.to_finding(self.locate(each.stage, each.doc_id))) for each in self.changed]

    def report_cycles(self) -> None:
        """Report each document that is, by inputs, made from itself: possible only with `require_parent=False`."""
        for path in find_cycles(self.inputs, self.stages, lambda name: self._read_lineage(name)[1]):
            stage, doc_id = path[0]
            around = " <- ".join("/".join(name) for name in (*path, path[0]))
            hint = "give one of them other inputs, under another doc id: set its doc_salt and reserve it again"
            task_id, _ = self._read_lineage(path[0])
            where = self.locate(stage, doc_id) or f"the table of stage {stage}"
            finding = Finding("lineage-cycle", stage, doc_id, task_id, where, f"made from itself: {around}", hint)
            self.findings.append((0, finding))

    def _read_lineage(self, name: Name) -> tuple[str | None, str | None]:
        """Return the task id and the parent of a document, or of a row; None if unknown."""
        found = None if self.examiner is None else try_load(self.examiner.backend, *name)
        if isinstance(found, StoredDocument):
            return found.task_id, found.parent_doc_id
        return self.read_rows(name[0]).get(name[1], (None, None))

    def _is_stored(self, name: tuple[str, str]) -> bool:
        try:
            return self.examiner is not None and self.examiner.backend.load(*name) is not None
        except UnreadableDocument as error:
            return error.code != "uncommitted-directory"
        except OSError as error:
            raise_time_limit(error)
            return False  # the listing did not have it either


def find_cycles(
    inputs: Mapping[Name, tuple[str | None, tuple[tuple[str, int], ...]]],
    stages: Stages,
    read_parent: Callable[[Name], str | None],
) -> Iterator[list[Name]]:
    """Yield cycles in the lineage, each as the documents on it, child first. Of those that overlap, yield at least one.

    `inputs` are as in `Audit`. A parent is of an earlier stage, so a cycle needs an input of the same or a later stage.
    The search is one depth-first pass (https://en.wikipedia.org/wiki/Cycle_(graph_theory)#Algorithms).
    """
    positions = {stage: position for position, stage in enumerate(stages)}

    def list_above(name: Name) -> Iterator[Name]:
        stage, _ = name
        parent, of_name = inputs[name] if name in inputs else (read_parent(name), ())
        if (parent_stage := stages.parent_of(stage)) is not None and parent is not None and DOC_ID.match(parent):
            yield parent_stage, parent
        yield from (above for each, _ in of_name if (above := split_name(each))[0] in stages)

    def leads_up(name: Name) -> bool:
        return any(positions.get(split_name(each)[0], -1) >= positions[name[0]] for each, _ in inputs[name][1])

    finished: set[Name] = set()
    for start in filter(leads_up, inputs):
        path: dict[Name, Iterator[Name]] = {} if start in finished else {start: list_above(start)}
        while path:
            last = next(reversed(path))
            above = next(path[last], None)
            if above is None:
                finished.add(last)
                del path[last]
            elif above in path:
                on_path = list(path)
                yield on_path[on_path.index(above) :]
            elif above not in finished:
                path[above] = list_above(above)

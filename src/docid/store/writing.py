"""Write documents: check them, find their parent, decide the outcome, and write many together."""

from __future__ import annotations

from functools import partial
from itertools import chain, compress, islice
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

from docid._files import raise_time_limit
from docid._text import name_task
from docid.core.document import ALL_FILES, Document
from docid.core.ids import check_doc_id
from docid.core.lineage_rules import find_changed, get_inputs, split_name
from docid.core.outcomes import Outcome, Policy, WriteManyError, WriteResult, decide_outcome
from docid.core.record import Record, nonce
from docid.errors import (
    DocumentBusy,
    DurabilityUnknown,
    InvalidDocument,
    MissingParent,
    StagesConflict,
    UnreadableDocument,
    copy_error,
)
from docid.store.backends.base import TURNS, Backend, NewDocument, Stored, T, attempt
from docid.store.stored import StoredDocument, exists

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence

    from docid.core.lineage_rules import Pin, Pins
    from docid.core.stages import Stages


class Source(NamedTuple):
    """A document that another one is made from.

    Attributes:
        key: its key among the pins of that document.
        stage, doc_id: its name; a parent may have no doc id.
        is_input: whether it is an input, not the parent.
    """

    key: str | None
    stage: str
    doc_id: str | None
    is_input: bool


class Draft(NamedTuple):
    """A document that `make` returned, ready to be written.

    Attributes:
        document, new: the document, and the version to store.
        seen: the version that it may replace; None if the id must be free.
        made: what `make` returned.
        parse_error: why the document has no parsed text, if `parse` failed.
    """

    document: Document
    new: StoredDocument
    seen: StoredDocument | None
    made: object
    parse_error: str | None


class Writer(NamedTuple):
    """Writes documents to a backend by the rules of `DocsStore.write`.

    Attributes:
        backend, stages: those of the store.
        record_stages: a function to call before a write, which raises StagesConflict if the stages are not the store's.
    """

    backend: Backend
    stages: Stages
    record_stages: Callable[[], None]

    def put(self, document: Document, if_exists: Policy, *, require_parent: bool) -> tuple[WriteResult, StoredDocument]:
        """Write a document; return the result and the version now stored. See `DocsStore.write`."""
        _check_policy(if_exists)
        return self._put(document, self.prepare(document), lambda _: if_exists, require_parent=require_parent)

    def put_made(self, draft: Draft, *, require_parent: bool) -> tuple[WriteResult, StoredDocument]:
        """Write a document that `ensure` had made, with the notes for its record.

        Replace only the version that it was made for; keep any other version, which another writer has stored since.
        """

        def choose(current: StoredDocument) -> Policy:
            return "replace" if draft.seen is not None and draft.seen.is_version(current) else "keep"

        return self._put(draft.document, draft.new, choose, require_parent=require_parent, is_noted=True)

    def put_made_many(
        self, drafts: Sequence[Draft], *, require_parent: bool
    ) -> list[tuple[WriteResult, StoredDocument] | BaseException]:
        """Write several documents as `put_made` does, new ones together; return the answer or error of each."""

        def put(number: int) -> tuple[WriteResult, StoredDocument] | Exception:
            return attempt(lambda: self.put_made(drafts[number], require_parent=require_parent))

        answers: dict[int, tuple[WriteResult, StoredDocument] | BaseException] = {}
        new = {number: draft.new for number, draft in enumerate(drafts) if draft.seen is None}
        # `put_made` reports a missing parent. Nothing can be created together with its parent: that was there before.
        parentless: list[int] = []
        if require_parent:
            new, parentless = self._pin_all(new, [draft.document for draft in drafts], {})
        others = set(parentless)
        together = {number: each for number, each in new.items() if number not in others}
        for number, answer in self._create_all(together, require_parent=require_parent).items():
            if answer is not None:
                answers[number] = (answer, new[number]) if isinstance(answer, WriteResult) else answer
        left = [number for number in range(len(drafts)) if number not in answers]
        answers |= zip(left, self.backend.each(put, left), strict=True)
        return [answers[number] for number in range(len(drafts))]

    def _put(
        self,
        document: Document,
        new: StoredDocument,
        choose: Callable[[StoredDocument], Policy],
        *,
        require_parent: bool,
        is_noted: bool = False,
    ) -> tuple[WriteResult, StoredDocument]:
        """Write a document; `choose` returns the policy for the version that is stored.

        With `is_noted`, a replace also renews the notes of the record.
        """
        stage, doc_id = new.stage, new.doc_id
        missing: MissingParent | None = None
        if require_parent:
            new, missing = self._try_pin(new, document)
        stored = new.stored
        if missing is None:
            self.record_stages()
        for _ in range(TURNS):
            # Create first: usually the id is free, and a check costs half as much as the write.
            if missing is None and self._create(new, require_parent=require_parent):
                return WriteResult(Outcome.CREATED, stage, doc_id, new.location), new
            current = StoredDocument.load(self.backend, stage, doc_id, ALL_FILES)
            if current is None or self.backend.settle(stage, doc_id):
                if current is None and missing is not None:
                    raise missing
                continue  # settling may have rolled back the loaded version
            contents = current.contents(ALL_FILES, verify=True)
            result, differing = decide_outcome(
                document,
                stored.parts,
                current.facts,
                contents,
                current.location,
                choose(current),
                notes_differ=new.facts.notes != current.facts.notes
                if is_noted
                else bool(find_changed(current.pins, new.pins)),
            )
            if result.outcome is not Outcome.REPLACED:
                return result, current
            if missing is not None:
                raise missing
            if (written := self._replace_version(new, current, has_new_texts=bool(differing))) is not None:
                return result, written
        raise DocumentBusy(stage, doc_id, new.location, document.task_id)

    def _create(self, new: StoredDocument, *, require_parent: bool) -> bool:
        """Create a document; return False if its id is taken."""
        is_created = self.backend.create(new.stage, new.doc_id, *new.stored)
        if is_created and require_parent:
            for lost in self._withdraw_parentless({0: new}).values():
                raise lost
        return is_created

    def _create_all(
        self, new: Mapping[int, StoredDocument], *, require_parent: bool
    ) -> dict[int, WriteResult | Exception | None]:
        """Create documents together; return the result or the error of each, None if its id is taken."""
        # It fails if another process has just declared other stages, or if the store cannot be written.
        if new and isinstance(error := attempt(self.record_stages), Exception):
            return {number: cast("Exception", copy_error(error)) for number in new}
        created = self.backend.create_many(
            [NewDocument(each.stage, each.doc_id, *each.stored) for each in new.values()]
        )
        answers = dict(zip(new, created, strict=True))
        made = {number: new[number] for number, answer in answers.items() if answer is True}
        lost = self._withdraw_parentless(made) if require_parent else {}
        results = {
            number: lost.get(number) or WriteResult(Outcome.CREATED, each.stage, each.doc_id, each.location)
            for number, each in made.items()
        }
        return {
            number: answer if isinstance(answer, Exception) else results.get(number)
            for number, answer in answers.items()
        }

    def put_many(self, documents: Iterable[Document], if_exists: Policy, *, require_parent: bool) -> list[WriteResult]:
        """Write many documents. See `DocsStore.write_many`."""
        _check_policy(if_exists)
        written = _Written([], {}, {})
        waiting = iter(documents)
        ended: BaseException | None = None
        is_failing = False
        while ended is None and not is_failing:
            chunk: list[Document] = []
            answers: dict[int, WriteResult | Exception] = {}
            try:
                chunk.extend(islice(waiting, self.backend.together))
            except BaseException as error:  # noqa: BLE001 - raised below, after the documents before it are written
                ended = error
            if not chunk:
                break
            try:
                answers.update(self._put_chunk(chunk, if_exists, require_parent=require_parent))
            except BaseException as error:  # noqa: BLE001 - raised below, with the documents that were not written
                error.__context__ = error.__context__ or ended
                ended = error
            written.add(chunk, answers)
            is_failing = _is_store_failing(answers.values())
        failed = WriteManyError(*written, is_failing) if written.documents else None
        try:
            if ended is not None:
                raise ended if failed is None else _chain(ended, failed)
            if failed is not None:
                raise failed
        finally:
            # An exception and the frame that holds it are a cycle, which would keep texts and open files for long.
            del ended, failed
        return cast("list[WriteResult]", written.results)

    def check_parent(self, stage: str, parent_doc_id: str | None, task_id: str) -> None:
        """Raise InvalidName unless the parent is a doc id, InvalidDocument if its stage has no parent stage."""
        if parent_doc_id is None:
            return
        check_doc_id(parent_doc_id, "parent_doc_id")
        if self.stages.parent_of(stage) is None:
            problem = f"{parent_doc_id!r}, but stage {stage!r} has no parent; expected None{name_task(task_id)}"
            raise InvalidDocument("parent_doc_id", problem)

    def list_sources(self, child: Any) -> list[Source]:
        """Return the parent and the inputs of a row or a document.

        Raises:
            InvalidName: an input is of a stage that the store does not have.
        """
        parent_stage, parent = self.stages.parent_of(child.stage), child.parent_doc_id
        found = [] if parent_stage is None else [Source(parent, parent_stage, parent, is_input=False)]
        for name in get_inputs(child):
            stage, doc_id = split_name(name)
            found.append(Source(name, self.stages.check(stage), doc_id, is_input=True))
        return found

    def pin(self, child: Any, given: Container[str | None] = (), *, is_strict: bool = True) -> Pins:
        """Return the present versions of the parent and the inputs of a row or a document.

        Of those whose version is `given`, check only that they exist. Unless `is_strict`, leave missing ones out.

        Raises:
            MissingParent: one of them is not in the store.
            InvalidName: as for `list_sources`.
        """
        sources = self.list_sources(child)
        each = self.backend.each if len(sources) > 1 else map  # an object store reads several at once
        pins: Pins = {}
        for source, found in zip(sources, each(lambda source: self._find_version(source, given), sources), strict=True):
            if found is None:
                if not is_strict:
                    continue
                raise self._missing(child, source)
            if source.key not in given:
                pins[cast("str", source.key)] = found[0]
        return pins

    def _missing(self, child: Any, source: Source) -> MissingParent:
        """Return the error for a document whose parent or input is not in the store."""
        found_in = () if source.doc_id is None else self.find_stages(source.doc_id)
        facts = (child.stage, child.doc_id, child.task_id, source.stage, source.doc_id, found_in)
        return MissingParent(*facts, source.is_input)

    def _withdraw_parentless(self, new: Mapping[int, StoredDocument]) -> dict[int, MissingParent]:
        """Remove new documents again whose parent or an input was removed during the write; return their errors.

        A removal moves a document and then searches for its children. A write creates a child and then checks its
        parent again. So at least one of them sees the other.
        """
        of_each = {number: self.list_sources(each) for number, each in new.items()}
        sources = list(dict.fromkeys(chain.from_iterable(of_each.values())))
        each = self.backend.each if len(sources) > 1 else map
        gone = set(compress(sources, each(self._is_gone, sources)))
        lost = {number: found[0] for number, of in of_each.items() if (found := [each for each in of if each in gone])}
        if lost:
            from docid.store.removal import Remover  # noqa: PLC0415 - only in this race

            remover = Remover(self.backend, self.stages, descendants=True, takes_claims=False)
            # If this fails, an audit reports documents without a parent.
            attempt(lambda: remover.withdraw([new[number] for number in lost]))
        return {number: self._missing(new[number], source) for number, source in lost.items()}

    def _is_gone(self, source: Source) -> bool:
        """Return whether a document has been removed from the store; False if unknown."""
        try:
            return source.doc_id is not None and not self.backend.still_exists(source.stage, source.doc_id)
        except (UnreadableDocument, OSError) as error:
            raise_time_limit(error)
            return False

    def _try_pin(self, new: StoredDocument, document: Document) -> tuple[StoredDocument, MissingParent | None]:
        """Return a version to store with the versions of its parent and inputs, or the error if one is missing."""
        try:
            return self._with_pins(new, self.pin(document, document.pins)), None
        except MissingParent as error:
            return new, error

    def _find_version(self, source: Source, given: Container[str | None]) -> tuple[Pin | None] | None:
        """Return the version of a document; None if it does not exist. A version that is `given` is not read."""
        if source.doc_id is None:
            return None
        if source.key not in given:
            try:
                stored = StoredDocument.load(self.backend, source.stage, source.doc_id)
            except UnreadableDocument:
                pass  # it exists, in a version that docid cannot name
            else:
                return None if stored is None else (stored.pin,)
        return (None,) if self.backend.exists(source.stage, source.doc_id) else None

    def _with_pins(self, new: StoredDocument, pins: Pins) -> StoredDocument:
        """Return a version to store, with the versions of its parent and inputs."""
        if not pins:
            return new
        facts = new.facts.with_pins({**new.pins, **pins})
        stored = Stored(facts.to_bytes(), new.stored.parts)
        return StoredDocument(self.backend, new.stage, new.doc_id, stored, ALL_FILES, facts)

    def find_stages(self, doc_id: str) -> tuple[str, ...]:
        """Return the stages that hold a document with this id."""
        return tuple(stage for stage in self.stages if exists(self.backend, stage, doc_id))

    def prepare(self, document: Document, notes: Mapping[str, Any] | None = None) -> StoredDocument:
        """Return the version to store for a document; raise an error if this store cannot hold it."""
        given: object = document
        if not isinstance(given, Document):
            hint = "; pass its read()" if isinstance(given, StoredDocument) else ""
            raise TypeError(f"document: expected a Document, got {type(given).__name__}{hint}")
        stage = self.stages.check(document.stage)
        if document.task_id is None or document.created_at is None:
            missing = "task_id" if document.task_id is None else "created_at"
            raise InvalidDocument(missing, "None, because the document comes from an older system's record; set it")
        self.check_parent(stage, document.parent_doc_id, document.task_id)
        self.list_sources(document)
        record, parts = Record.from_document(document, nonce(), notes)
        return StoredDocument(self.backend, stage, document.doc_id, Stored(record.to_bytes(), parts), ALL_FILES, record)

    def _replace_version(
        self, new: StoredDocument, current: StoredDocument, *, has_new_texts: bool
    ) -> StoredDocument | None:
        """Replace the current version; return the new one, or None if another writer changed the document first."""
        stage, doc_id, expected = new.stage, new.doc_id, current.stored.record
        if has_new_texts:
            return new if self.backend.replace(stage, doc_id, expected, *new.stored) else None
        merged = new.facts.with_additions_of(current.facts)
        stored = Stored(merged.to_bytes(), new.stored.parts)
        if not self.backend.amend(stage, doc_id, expected, stored.record, {}):
            return None
        return StoredDocument(self.backend, stage, doc_id, stored, ALL_FILES, merged)

    def _put_chunk(
        self, documents: Sequence[Document], if_exists: Policy, *, require_parent: bool
    ) -> Iterator[tuple[int, WriteResult | Exception]]:
        """Write a chunk of documents; yield the number and the result or error of each, in the order of the writes."""

        def put(number: int) -> WriteResult | Exception:
            return _attempt(lambda: self.put(documents[number], if_exists, require_parent=require_parent)[0])

        new: dict[int, StoredDocument] = {}
        for number, document in enumerate(documents):
            try:
                prepared = _attempt(partial(self.prepare, document))
            except TypeError as error:  # not a Document
                prepared = _without_frames(error)
            if isinstance(prepared, Exception):
                yield number, prepared
            else:
                new[number] = prepared
        if not require_parent:
            yield from self._create_stages(new, documents, put, require_parent=False)
            return
        for numbers in self._split(new):
            together = {number: new[number] for number in numbers}
            yield from self._create_stages(together, documents, put, require_parent=True)

    def _split(self, new: Mapping[int, StoredDocument]) -> Iterator[list[int]]:
        """Yield runs of documents that can be written stage by stage, with the result of one write after the other.

        A document begins a new run if a document of the run was made from it, or from an earlier version of it; or if
        it has an input in the run, which may be of any stage.
        """
        run: list[int] = []
        names: set[tuple[str, str | None]] = set()
        used: set[tuple[str, str | None]] = set()
        for number, each in new.items():
            sources = self.list_sources(each)
            name = (each.stage, each.doc_id)
            if name in used or any(source.is_input and (source.stage, source.doc_id) in names for source in sources):
                yield run
                run, names, used = [], set(), set()
            run.append(number)
            names.add(name)
            used.update((source.stage, source.doc_id) for source in sources)
        yield run

    def _create_stages(
        self,
        new: Mapping[int, StoredDocument],
        documents: Sequence[Document],
        put: Callable[[int], WriteResult | Exception],
        *,
        require_parent: bool,
    ) -> Iterator[tuple[int, WriteResult | Exception]]:
        """Create documents stage by stage, parents first: a chunk may hold a parent and its children."""
        pins: dict[tuple[str, str | None], Pin | None] = {}
        for stage in self.stages:
            first: dict[str, int] = {}
            of_stage = [number for number, each in new.items() if each.stage == stage]
            repeated = [number for number in of_stage if first.setdefault(new[number].doc_id, number) != number]
            together, parentless = {number: new[number] for number in first.values()}, list[int]()
            if require_parent:
                together, parentless = self._pin_all(together, documents, pins)
            for number, answer in self._create_together(together, parentless, put, require_parent=require_parent):
                if isinstance(answer, WriteResult) and answer.outcome is not Outcome.KEPT:
                    pins[stage, new[number].doc_id] = new[number].pin
                yield number, answer
            # If an id repeats, docid compares the later document with the first, as separate writes would.
            for number in repeated:
                pins.pop((stage, new[number].doc_id), None)
                yield number, put(number)

    def _create_together(
        self,
        new: Mapping[int, StoredDocument],
        parentless: Collection[int],
        put: Callable[[int], WriteResult | Exception],
        *,
        require_parent: bool,
    ) -> Iterator[tuple[int, WriteResult | Exception]]:
        """Create documents of one stage together; `put` each one whose id is taken, and those without a parent."""
        # `put` accepts a document that already exists, even without a parent.
        yield from zip(parentless, self.backend.each(put, parentless), strict=True)
        without = set(parentless)
        others = {number: each for number, each in new.items() if number not in without}
        taken = []
        for number, answer in self._create_all(others, require_parent=require_parent).items():
            if answer is None:
                taken.append(number)
            else:
                yield number, _without_frames(answer) if isinstance(answer, Exception) else answer
        yield from zip(taken, self.backend.each(put, taken), strict=True)

    def _pin_all(
        self,
        new: Mapping[int, StoredDocument],
        documents: Sequence[Document],
        known: Mapping[tuple[str, str | None], Pin | None],
    ) -> tuple[dict[int, StoredDocument], list[int]]:
        """Return documents with the versions of their parents and inputs, and the numbers of those without a parent.

        These lack their parent or an input, or docid cannot check it. `put` checks it again, and returns the error.
        `known` has the versions of documents that were just written.
        """
        sources = {number: self.list_sources(each) for number, each in new.items()}
        wanted: dict[Source, bool] = {}  # whether the version is needed, or only whether it exists
        for number, of_number in sources.items():
            for source in of_number:
                if (source.stage, source.doc_id) not in known:
                    wanted[source] = wanted.get(source, False) or source.key not in documents[number].pins

        def find(source: Source) -> tuple[Pin | None] | Exception | None:
            return attempt(lambda: self._find_version(source, () if wanted[source] else (source.key,)))

        found = dict(zip(wanted, self.backend.each(find, wanted), strict=True))
        pinned, parentless = {}, []
        for number, each in new.items():
            pins: Pins = {}
            for source in sources[number]:
                name = source.stage, source.doc_id
                version = (known[name],) if name in known else found[source]
                if not isinstance(version, tuple):
                    parentless.append(number)
                    break
                if source.key not in documents[number].pins:
                    pins[cast("str", source.key)] = version[0]
            pinned[number] = self._with_pins(each, pins)
        return pinned, parentless


class _Written(NamedTuple):
    """The results of `write_many` so far; see `WriteManyError`."""

    results: list[WriteResult | None]
    failures: dict[int, Exception]
    documents: dict[int, Document]

    def add(self, chunk: Sequence[Document], answers: Mapping[int, WriteResult | Exception]) -> None:
        """Add a chunk; a document without an answer was not tried."""
        for number, document in enumerate(chunk):
            answer = answers.get(number)
            if isinstance(answer, Exception):
                self.failures[len(self.results)] = answer
            if not isinstance(answer, WriteResult):
                self.documents[len(self.results)] = document
            self.results.append(answer if isinstance(answer, WriteResult) else None)


def _check_policy(if_exists: object) -> None:
    if if_exists not in get_args(Policy):
        raise ValueError(f"if_exists: expected 'fail', 'keep' or 'replace', got {if_exists!r}")


def _is_store_failing(answers: Iterable[WriteResult | Exception]) -> bool:
    """Return whether the store failed, judged by the answers for a chunk, in the order of the writes.

    An error of the file system or service may concern one document only (a text too large for the disk). Then docid can
    still store others. So the store fails if no document was stored after the error. A single document that this user
    may not read is no such error, if other documents have results.
    """
    found = list(answers)
    failures: list[Exception] = []
    for answer in found:
        if isinstance(answer, (OSError, DurabilityUnknown, StagesConflict)):
            failures.append(answer)
        elif isinstance(answer, WriteResult) and answer.outcome in {Outcome.CREATED, Outcome.REPLACED}:
            failures.clear()
    is_one_refusal = len(failures) == 1 and isinstance(failures[0], PermissionError)
    return bool(failures) and not (is_one_refusal and any(isinstance(answer, WriteResult) for answer in found))


def _chain(ended: BaseException, failed: WriteManyError) -> BaseException:
    """Return the exception that ended a batch, with the documents that were not written as its first cause."""
    ended.add_note(str(failed))
    first, seen = ended, {id(ended)}
    while first.__cause__ is not None and id(first.__cause__) not in seen:
        first = first.__cause__
        seen.add(id(first))
    first.__cause__ = failed
    return ended


def _attempt(function: Callable[[], T]) -> T | Exception:
    """Return the result of a call or the error of its document. See `attempt`."""
    answer = attempt(function)
    return _without_frames(answer) if isinstance(answer, Exception) else answer


def _without_frames(error: Exception) -> Exception:
    """Return an error without its traceback frames, which would keep the texts of a whole chunk in memory."""
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = cause.__context__ = None
        cause = cause.__cause__
    return error

"""The store: the rules of writing and reading documents, over a backend that keeps their bytes."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, cast

from attrs import evolve

from docid.core.document import PART_FILES, Document, Record, check_content, nonce
from docid.core.ids import check_doc_id, check_text
from docid.core.outcomes import BatchError, Outcome, WriteResult, check_lineage, content_conflict, judge, not_migrated
from docid.core.stages import DEFAULT_STAGES, Stages, check_stages
from docid.core.task import is_missing, reserved_id, source_of
from docid.errors import (
    DocumentBusy,
    DocumentNotFound,
    InvalidDocument,
    MissingParent,
    UnreadableDocument,
)
from docid.store.backends.base import TURNS, NewDocument, Stored
from docid.store.backends.local.backend import LocalBackend
from docid.store.stored import ALL_FILES, Part, StoredDocument, Version, earlier_version, file_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from docid.core.findings import Finding
    from docid.core.outcomes import Policy
    from docid.core.task import TaskLike
    from docid.store.ancestry import Lineage
    from docid.store.backends.base import Backend

__all__ = ["DocsStore"]

_POLICIES = ("fail", "keep", "replace")


class DocsStore:
    """A store of documents: `<root>/<stage>/<doc_id>/`, or the same in another home.

    It holds no state but its settings: any number of stores, threads and processes may use one root. It pickles,
    for worker pools, where its backend does.

    Args:
        root: the directory of the stages, which need not exist yet and then is an empty store; or the URL of an object
            store, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` (extra `objects`); `memory://` is
            one in this process, `file:///directory` a directory. Or a `Backend` (`docid.backends.MemoryBackend()`).
        stages: the stages of the pipeline, and which comes from which.
        durability: `"full"`: what is written survives a power cut. `"none"`: it survives the end of the process,
            and costs a tenth. Whole or absent it is in both. For a `root` that is a directory; elsewhere the service
            decides.
        options: for a URL, what `obstore.store.from_url` takes beside it: `endpoint`, `region`, `client_options` and
            so on. What is not given comes from the environment.
        in_flight: for a URL, how many requests are under way at once in work on many documents; 32 if not given.

    Raises:
        ValueError: another durability; a URL or options that obstore does not know.
        TypeError: `root` or `stages` is nothing of the above.
        ImportError: a URL, and obstore is not installed.

    Example:
        >>> from docid import Document, DocsStore, reserve_doc_id
        >>> from docid.backends import MemoryBackend
        >>> store = DocsStore(MemoryBackend())
        >>> doc_id = reserve_doc_id("draft", "t-1")
        >>> store.write(Document(stage="draft", doc_id=doc_id, task_id="t-1", raw_text="Once.")).outcome
        <Outcome.CREATED: 'created'>
        >>> store.read("draft", doc_id).raw_text
        'Once.'
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | Backend,
        *,
        stages: Stages = DEFAULT_STAGES,
        durability: Literal["full", "none"] = "full",
        options: Mapping[str, Any] | None = None,
        in_flight: int | None = None,
    ) -> None:
        if durability not in {"full", "none"}:
            raise ValueError(f"durability: expected 'full' or 'none', got {durability!r}")
        if isinstance(root, (str, os.PathLike)):
            if not os.fspath(root):
                raise ValueError("root: empty; expected a directory ('.' for the current one)")
            self.backend: Backend = _home(root, durability, options, in_flight)
        elif options is not None or in_flight is not None:
            raise ValueError("options, in_flight: expected None with a Backend, which has its own")
        elif callable(getattr(root, "create", None)):
            self.backend = root
        else:
            raise TypeError(f"root: expected a directory or a Backend, got {type(root).__name__}")
        self.stages = check_stages(stages)

    def __repr__(self) -> str:
        return f"<DocsStore {', '.join(self.stages)} in {self.backend!r}>"

    def _repr_html_(self) -> str:
        from docid.integrations.report.views import store_view  # noqa: PLC0415 - for notebooks alone

        return store_view(self)

    @property
    def root(self) -> str:
        """Where the store is, as text: its directory, or the URL of its prefix."""
        from docid.store.scanning import root_of  # noqa: PLC0415 - not needed to read and write

        return root_of(self.backend).rstrip("/\\") or "."

    def path(self, stage: str, doc_id: str) -> Path:
        """Return where a document is or would be, without looking. Of an object in a bucket `location` is the URL.

        Raises:
            InvalidName: none of the store's stages, or no doc id.
        """
        return self.backend.path(*self._checked(stage, doc_id))

    def location(self, stage: str, doc_id: str) -> str:
        """Return the same as text: a path, or the URL of an object.

        Raises:
            InvalidName: none of the store's stages, or no doc id.
        """
        return self.backend.location(*self._checked(stage, doc_id))

    def exists(self, stage: str, doc_id: str) -> bool:
        """Return whether a committed document of that stage and id is there; its record is not judged.

        Raises:
            InvalidName: none of the store's stages, or no doc id.
        """
        try:
            return self.backend.exists(*self._checked(stage, doc_id))
        except UnreadableDocument:
            return False

    def open(self, stage: str, doc_id: str, *, verify: bool = False) -> StoredDocument:
        """Return a document with its record loaded, its texts to be read when asked for.

        Args:
            stage, doc_id: its name.
            verify: read its parts now, and compare sizes and SHA-256 with the record's.

        Raises:
            DocumentNotFound: it is not there (a `LookupError`); the error says which stages hold that id.
            UnreadableDocument: something stands there that is no whole document.
            InvalidName: none of the store's stages, or no doc id.
        """
        version = self._found(*self._checked(stage, doc_id))
        document = StoredDocument(version)
        if verify:
            document.read(verify=True)
        return document

    def read(self, stage: str, doc_id: str, *, verify: bool = False) -> Document:
        """Return a document whole, as it was written: lineage, metadata and every text, character for character.

        The sizes of its parts are compared with the record, and with `verify` their SHA-256 too. Raises as `open`
        does.
        """
        # Record and texts by one call of the backend are of one version, whatever others write meanwhile.
        return self._found(*self._checked(stage, doc_id), ALL_FILES).document(verify=verify)

    def ids(self, stage: str) -> Iterator[str]:
        """Return the doc ids of a stage as a stream, in no order, opening nothing.

        Where somebody left a directory without a record, its name is among them. What another process replaces at
        that moment is among them too, and may come twice.

        Raises:
            InvalidName: none of the store's stages.
        """
        return self.backend.ids(self.stages.check(stage))

    def documents(self, stage: str) -> Iterator[StoredDocument]:
        """Return the documents of a stage as a stream, in no order, each with its record loaded.

        What vanishes meanwhile is passed over; what is replaced meanwhile may come twice.

        Raises:
            UnreadableDocument: a document that cannot be read; the stream ends there.
            InvalidName: none of the store's stages.
        """
        versions = self.backend.each(lambda doc_id: self._load(stage, doc_id), self.ids(stage))
        return (StoredDocument(version) for version in versions if version is not None)

    def scan(
        self, stage: str, *, verify: bool = False, stale_after: float = 3600.0
    ) -> Iterator[StoredDocument | Finding]:
        """Return what `documents` does, and what is wrong in the stage as findings instead of errors.

        A stream, in no order; one faulty document, or a directory that cannot be read, does not end it. The audit
        and `docid repair` stand on it.

        Args:
            stage: the stage.
            verify: compare the SHA-256 of every part with its record's, not only its size.
            stale_after: what a writer may still be at is passed over: temporary and uncommitted directories that
                were touched in the last so many seconds.

        Raises:
            InvalidName: none of the store's stages.
        """
        from docid.store.scanning import scan  # noqa: PLC0415 - not needed to read and write

        return scan(self.backend, self.stages.check(stage), verify=verify, stale_after=stale_after)

    def history(self, stage: str, doc_id: str) -> Iterator[Document]:
        """Return the versions of a document that others have replaced, the latest first.

        Raises:
            UnreadableDocument: a version that cannot be read; the stream ends there.
            InvalidName: none of the store's stages, or no doc id.
        """
        return self._history(*self._checked(stage, doc_id))

    def _history(self, stage: str, doc_id: str) -> Iterator[Document]:
        lineage: tuple[str | None, str | None] | None = None
        current: Version | None = None
        with contextlib.suppress(UnreadableDocument):
            if (current := Version.load(self.backend, stage, doc_id)) is not None:
                lineage = current.record.task_id, current.record.parent_doc_id
        later = current
        for stored in self.backend.history(stage, doc_id, ALL_FILES):
            try:
                version = earlier_version(later, Version(self.backend, stage, doc_id, stored))
                # What is left of another one that had the id is none of this document's versions.
                if lineage is not None and version.record.same_lineage(*lineage) is False:
                    return
                # By hash: the texts of an old record may be those of a later version.
                yield version.document(verify=True)
            except UnreadableDocument as error:
                problem = f"a version in its history, not the document itself: {error.problem}"
                remedy = "docid repair --purge --history deletes old versions"
                raise UnreadableDocument(
                    stage, doc_id, error.location, problem, remedy, error.task_id, error.code
                ) from None
            lineage, later = (version.record.task_id, version.record.parent_doc_id), version

    def lineage(self, stage: str, doc_id: str, *, descendants: bool = True) -> Lineage:
        """Return what a document was made from, and what was made from it, as the records say.

        Ancestors are looked up one by one, by path. Descendants are found in one pass over the records of all stages
        that come from this one, so that it takes as long as to list them. Texts are not read.

        Args:
            stage, doc_id: the document.
            descendants: look for them; with False the ancestors alone.

        Returns:
            A `Lineage`; a parent that is not in the store, and records that cannot be read, are noted in it.

        Raises:
            DocumentNotFound: it is not there (a `LookupError`).
            UnreadableDocument: its own record cannot be read.
            InvalidName: none of the store's stages, or no doc id.
            OSError: a stage cannot be listed.
        """
        from docid.store.ancestry import lineage  # noqa: PLC0415 - not needed to read and write

        return lineage(self._found(*self._checked(stage, doc_id)), self.stages, descendants=descendants)

    def write(self, document: Document, *, if_exists: Policy = "fail", require_parent: bool = True) -> WriteResult:
        """Write a document, whole or not at all.

        Args:
            document: what to write.
            if_exists: what to do where the id holds a document of the same lineage with other text: `fail`, `keep`
                it, or `replace` it, the old one going to history. With equal text nothing is written, except that
                `replace` writes a record with another run id or metadata.
            require_parent: refuse a document whose parent is not in the store.

        Returns:
            A `WriteResult`: created, unchanged, kept or replaced.

        Raises:
            LineageConflict: the id is taken by another task id or parent; under every policy.
            ContentConflict: the id holds other text of the same lineage, and `if_exists` is `fail`.
            MissingParent: the parent is not in the store.
            UnreadableDocument: something stands there that is no whole document, or an older system's document
                that has to be migrated first.
            InvalidDocument: a parent in a stage that has none, or no task id.
            InvalidName: none of the store's stages.
            DocumentBusy: others changed the document each time it was tried; nothing was written.
            DurabilityUnknown: written, but the file system failed to say that it would survive a power cut.
            OSError: the file system refused; nothing of the document is visible.
            ValueError: another policy.
        """
        return self._put(document, if_exists, require_parent=require_parent)[0]

    def write_many(
        self, documents: Iterable[Document], *, if_exists: Policy = "fail", require_parent: bool = True
    ) -> list[WriteResult]:
        """Write many documents, each whole or not at all, at a fraction of what as many `write` cost.

        They are taken 100 at a time, more to an object store, so that a stream of any length is held in little memory,
        and what a process that ends half way has written is there. A local home makes each hundred durable together. A
        document's parent may stand earlier among them. Where the stream itself fails, what it gave before is written,
        and then its error is raised (from a `BatchError`, where some could not be written).

        Args:
            documents: what to write.
            if_exists, require_parent: as for `write`, for each of them.

        Returns:
            What became of each, in their order.

        Raises:
            BatchError: some could not be written; the others are. It carries all results and errors.
            ValueError: another policy.
        """
        if if_exists not in _POLICIES:
            raise _no_policy(if_exists)
        results: list[WriteResult | None] = []
        failures: dict[int, Exception] = {}
        waiting = iter(documents)
        ended: BaseException | None = None
        while ended is None:
            chunk: list[Document] = []
            try:
                chunk.extend(islice(waiting, self.backend.together))
            except BaseException as error:  # noqa: BLE001 - raised below, when what came before it is written
                ended = error
            if not chunk:
                break
            for outcome in self._write_chunk(chunk, if_exists, require_parent=require_parent):
                if isinstance(outcome, Exception):
                    failures[len(results)] = outcome
                results.append(None if isinstance(outcome, Exception) else outcome)
        failed = BatchError(results, failures) if failures else None
        if ended is not None:
            if failed is None:
                raise ended
            ended.add_note(str(failed))
            raise ended from (failed if ended.__cause__ is None else ended.__cause__)
        if failed is not None:
            raise failed
        return cast("list[WriteResult]", results)

    def ensure(
        self,
        row: TaskLike,
        make: Callable[[], Document],
        *,
        if_exists: Literal["keep", "replace"] = "keep",
        require_parent: bool = True,
    ) -> StoredDocument:
        """Return the document of a task row, and make it only where there is none: nothing is paid for twice.

        Lineage and parent are checked before `make` is called. Of two that make one document at once the first
        to write stays, and both are handed that one.

        Args:
            row: a reserved task row.
            make: called without arguments where nothing is there; returns the `Document` of this row
                (`Document.from_task(row, …)`).
            if_exists: `replace` makes another text also where one is there, which goes to history.
            require_parent: refuse, before `make` is called, a row whose parent is not in the store.

        Returns:
            The stored document; its `outcome` says `created` or `kept`; with `replace` also `replaced` or `unchanged`.

        Raises:
            LineageConflict: the id is taken by another task id or parent.
            MissingParent: the parent is not in the store.
            InvalidDocument: what `make` returned is no `Document` of the row's identity and lineage (a `ValueError`).
            UnreadableDocument, InvalidName, DocumentBusy, DurabilityUnknown, OSError: as for `write`.
            ValueError: another policy.
        """
        if if_exists not in {"keep", "replace"}:
            raise ValueError(f"if_exists: expected 'keep' or 'replace', got {if_exists!r}")
        doc_id, stage, task_id = reserved_id(row), self.stages.check(row.stage), check_text(row.task_id, "task_id")
        held = self._held(row, stage, doc_id, task_id)
        if held is not None and if_exists == "keep":
            return StoredDocument(held, Outcome.KEPT)
        if held is not None and held.record.legacy:
            raise not_migrated(held, "its record was written by an older system")
        self._check_parent(stage, row.parent_doc_id)
        if row.doc_run_id is not None:
            check_text(row.doc_run_id, "doc_run_id")
        if require_parent and (missing := self._missing_parent(stage, doc_id, task_id, row.parent_doc_id)):
            raise missing
        document: object = make()
        if not isinstance(document, Document):
            problem = f"make() returned {type(document).__name__}; expected a Document of task {task_id!r}"
            raise InvalidDocument("document", problem)
        for name in ("stage", "doc_id", "task_id", "parent_doc_id"):
            made, expected = getattr(document, name), getattr(row, name)
            if made != expected:
                raise InvalidDocument(name, f"make() returned {made!r}; expected the row's {expected!r}")
        result, version = self._put(document, if_exists, require_parent=require_parent)
        # Another one has made the same text meanwhile.
        kept = if_exists == "keep" and result.outcome is Outcome.UNCHANGED
        return StoredDocument(version, Outcome.KEPT if kept else result.outcome)

    def _held(self, row: TaskLike, stage: str, doc_id: str, task_id: str) -> Version | None:
        """Return the document of a row that is there; None where there is none.

        Raises:
            LineageConflict, UnreadableDocument: it is of another lineage, or cannot be used.
        """
        version = self._load(stage, doc_id)
        if version is not None and self.backend.settle(stage, doc_id):
            version = self._load(stage, doc_id)  # it may not be the one that stays
        if version is not None:
            if not check_lineage(version, task_id, row.parent_doc_id, has_parent=self._has_parent(stage)):
                raise not_migrated(version, "its record, of an older system, does not say whose it is")
            version.check(verify=False)
        return version

    def add_part(self, stage: str, doc_id: str, part: Part, text: str) -> WriteResult:
        """Add a part that a document was written without: a parsed text, say, after its parser was mended.

        A part that is there is never changed.

        Args:
            stage, doc_id: the document.
            part: `parsed` or `prompt` (`raw` is always there).
            text: its text.

        Returns:
            A `WriteResult`: completed, or unchanged where the part is there with this text.

        Raises:
            DocumentNotFound: there is no such document.
            ContentConflict: the part is there with other text.
            UnreadableDocument, InvalidName, InvalidDocument, DocumentBusy, DurabilityUnknown, OSError: as for `write`.
            ValueError: no such part.
        """
        name, data = file_of(part), check_content(text, "text").encode()
        stage, doc_id = self._checked(stage, doc_id)
        task_id: str | None = None
        for _ in range(TURNS):
            version = self._found(stage, doc_id, (name,))
            task_id = version.record.task_id
            record, result = version.record, WriteResult(Outcome.COMPLETED, stage, doc_id, version.location)
            if record.legacy:
                raise not_migrated(version, "its record was written by an older system")
            if name in record.files:
                if version.contents((name,), verify=True)[name] == data:
                    return evolve(result, outcome=Outcome.UNCHANGED)
                raise content_conflict(version, (part,), ())
            changed = record.with_part(name, data, nonce()).to_bytes()
            if self.backend.amend(stage, doc_id, version.stored.record, changed, {name: data}):
                return result
        raise DocumentBusy(stage, doc_id, task_id, self.backend.location(stage, doc_id))

    def source_prompt(self, row: TaskLike) -> str | None:
        """Return the prompt to send for a row with `source_doc_id`: that of the stored document it names.

        A row of any stage may have it, as a field or as a column of its own.

        None for a row without one, whose prompt is to be rendered. Look before any model is called: a wrong
        `source_doc_id` is an error of the row.

        Raises:
            DocumentNotFound: no such document in the row's stage.
            UnreadableDocument: it was stored without its prompt, or cannot be read.
            InvalidName: what it names is no doc id.
        """
        source = source_of(row)
        if is_missing(source):
            return None
        wanted_by = f"the source_doc_id of {row.stage} task {row.task_id!r}"
        version = self._found(*self._checked(row.stage, source), ALL_FILES, wanted_by)
        prompt = version.texts(ALL_FILES, verify=False).get(PART_FILES["prompt"])
        if prompt is None:
            problem = f"it was stored without its prompt, and {wanted_by} names it to send that again"
            raise version.unreadable(problem, "name another source_doc_id, or none")
        return prompt

    def _write_chunk(
        self, documents: Sequence[Document], if_exists: Policy, *, require_parent: bool
    ) -> list[WriteResult | Exception]:
        """Write some documents together; return the result or the error of each."""
        done: dict[int, WriteResult | Exception] = {}
        for wave in self._waves(documents):
            new: dict[int, Version] = {}
            for number in wave:
                try:
                    new[number] = self._prepared(documents[number])
                except Exception as error:  # noqa: BLE001 - also what a home raises that is no error of docid's
                    done[number] = _without_frames(error)
            put = partial(self._tried, documents, if_exists, require_parent)
            # Of a document that is there already no parent is asked for. Before the others: a parent that is written
            # with them stands later.
            orphans = self._without_parent(new) if require_parent else []
            done.update(zip(orphans, self.backend.each(put, orphans), strict=True))
            asked = {number: each for number, each in new.items() if number not in done}
            created = self.backend.create_many(
                [NewDocument(each.stage, each.doc_id, *each.stored) for each in asked.values()]
            )
            taken = []
            for number, answer in zip(asked, created, strict=True):
                if isinstance(answer, Exception):
                    done[number] = _without_frames(answer)
                elif answer:
                    done[number] = self._result(Outcome.CREATED, new[number])
                else:
                    taken.append(number)
            done.update(zip(taken, self.backend.each(put, taken), strict=True))
        return [done[number] for number in range(len(documents))]

    def _without_parent(self, new: Mapping[int, Version]) -> list[int]:
        """Return the numbers of those documents whose parent is not there, or cannot be looked for; asked once each."""
        parents = {
            number: (parent_stage, version.record.parent_doc_id)
            for number, version in new.items()
            if (parent_stage := self.stages.parent_of(version.stage)) is not None
        }
        names = list(dict.fromkeys(parents.values()))
        there = dict(zip(names, self.backend.each(self._is_surely_there, names), strict=True))
        return [number for number, name in parents.items() if not there[name]]

    def _is_surely_there(self, name: tuple[str, str | None]) -> bool:
        stage, doc_id = name
        try:
            return doc_id is not None and self.backend.exists(stage, doc_id)
        except Exception:  # noqa: BLE001 - it is met again, and told, by each document that needs it
            return False

    def _tried(
        self,
        documents: Sequence[Document],
        if_exists: Policy,
        require_parent: bool,  # noqa: FBT001 - a partial's
        number: int,
    ) -> WriteResult | Exception:
        try:
            return self._put(documents[number], if_exists, require_parent=require_parent)[0]
        except Exception as error:  # noqa: BLE001 - also what a home raises that is no error of docid's
            return _without_frames(error)

    def _waves(self, documents: Sequence[Document]) -> list[list[int]]:
        """Return the numbers of documents that can be written together: behind their parent, and their namesakes."""
        last: dict[tuple[str | None, str | None], int] = {}
        waves: list[list[int]] = []
        for number, document in enumerate(cast("Sequence[object]", documents)):
            if isinstance(document, Document):
                name = (document.stage, document.doc_id)
                parent_stage = self.stages.parent_of(document.stage) if document.stage in self.stages else None
                wave = 1 + max(last.get(name, -1), last.get((parent_stage, document.parent_doc_id), -1))
                last[name] = wave
            else:
                wave = 0
            if wave == len(waves):
                waves.append([])
            waves[wave].append(number)
        return waves

    def _prepared(self, document: Document) -> Version:
        """Return the version that a document is to become.

        Raises:
            InvalidDocument, InvalidName, TypeError: it cannot be stored here.
        """
        given: object = document
        if not isinstance(given, Document):
            hint = "; its read() gives one" if isinstance(given, StoredDocument) else ""
            raise TypeError(f"document: expected a Document, got {type(given).__name__}{hint}")
        stage, doc_id = self.stages.check(document.stage), document.doc_id
        self._check_writable(document)
        record, parts = Record.from_document(document, nonce())
        return Version(self.backend, stage, doc_id, Stored(record.to_bytes(), parts), record)

    def _put(self, document: Document, if_exists: Policy, *, require_parent: bool) -> tuple[WriteResult, Version]:
        """Do `write`; return with its result the version that is there now."""
        if if_exists not in _POLICIES:
            raise _no_policy(if_exists)
        new = self._prepared(document)
        stage, doc_id, stored = new.stage, new.doc_id, new.stored
        missing = self._missing_parent_of(new) if require_parent else None
        for _ in range(TURNS):
            # Tried first: mostly nothing is there, and looking for it costs as much as the half of writing it.
            if missing is None and self.backend.create(stage, doc_id, *stored):
                return self._result(Outcome.CREATED, new), new
            version = Version.load(self.backend, stage, doc_id, ALL_FILES)
            if version is None or self.backend.settle(stage, doc_id):
                if version is None and missing is not None:
                    raise missing
                continue  # what was loaded may not be what stays
            has_parent = self._has_parent(stage)
            result, differing = judge(document, stored.parts, version, if_exists, has_parent=has_parent)
            if result.outcome is not Outcome.REPLACED:
                return result, version
            if missing is not None:
                raise missing
            if differing:
                written = new
                done = self.backend.replace(stage, doc_id, version.stored.record, *stored)
            else:
                merged = new.record.in_place_of(version.record)
                written = Version(self.backend, stage, doc_id, Stored(merged.to_bytes(), stored.parts), merged)
                done = self.backend.amend(stage, doc_id, version.stored.record, written.stored.record, {})
            if done:
                return result, written
        raise DocumentBusy(stage, doc_id, document.task_id, new.location)

    def _result(self, outcome: Outcome, version: Version) -> WriteResult:
        return WriteResult(outcome, version.stage, version.doc_id, version.location)

    def _check_writable(self, document: Document) -> None:
        """Refuse what cannot be stored here."""
        if document.task_id is None or document.created_at is None:
            missing = "task_id" if document.task_id is None else "created_at"
            raise InvalidDocument(missing, "unknown, as it was read from an older system's record; expected one")
        self._check_parent(document.stage, document.parent_doc_id)

    def _check_parent(self, stage: str, parent_doc_id: str | None) -> None:
        """Refuse a parent that is no doc id, or that is named in a stage that has none."""
        if parent_doc_id is None:
            return
        check_doc_id(parent_doc_id, "parent_doc_id")
        if self.stages.parent_of(stage) is None:
            problem = f"{parent_doc_id!r}, but stage {stage!r} has no parent; expected None"
            raise InvalidDocument("parent_doc_id", problem)

    def _missing_parent(self, stage: str, doc_id: str, task_id: str, parent_doc_id: str | None) -> MissingParent | None:
        """Return the error for a document whose parent is not in the store; None where nothing is missing."""
        parent_stage = self.stages.parent_of(stage)
        if parent_stage is None:
            return None
        if parent_doc_id is not None and self.backend.exists(parent_stage, parent_doc_id):
            return None
        return MissingParent(
            stage=stage,
            doc_id=doc_id,
            task_id=task_id,
            parent_stage=parent_stage,
            parent_doc_id=parent_doc_id,
            found_in=self._stages_with(parent_doc_id) if parent_doc_id is not None else (),
        )

    def _missing_parent_of(self, new: Version) -> MissingParent | None:
        task_id = cast("str", new.record.task_id)
        return self._missing_parent(new.stage, new.doc_id, task_id, new.record.parent_doc_id)

    def _has_parent(self, stage: str) -> bool:
        return self.stages.parent_of(stage) is not None

    def _checked(self, stage: str, doc_id: str) -> tuple[str, str]:
        return self.stages.check(stage), check_doc_id(doc_id)

    def _stages_with(self, doc_id: str) -> tuple[str, ...]:
        return tuple(stage for stage in self.stages if self.exists(stage, doc_id))

    def _load(self, stage: str, doc_id: str, files: Collection[str] = ()) -> Version | None:
        """Return the version that is there, with all its texts where they come with it anyway."""
        return Version.load(self.backend, stage, doc_id, ALL_FILES if self.backend.loads_whole else files)

    def _found(self, stage: str, doc_id: str, files: Collection[str] = (), wanted_by: str = "") -> Version:
        version = self._load(stage, doc_id, files)
        if version is None:
            location = self.backend.location(stage, doc_id)
            raise DocumentNotFound(stage, doc_id, location, self._stages_with(doc_id), wanted_by)
        return version


def check_store(store: object, argument: str = "store") -> DocsStore:
    """Return `store` if that is what it is.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(store, DocsStore):
        hint = "; DocsStore(…) is that of a directory" if isinstance(store, (str, os.PathLike)) else ""
        raise TypeError(f"{argument}: expected a DocsStore, got {type(store).__name__}{hint}")
    return store


def _home(
    root: str | os.PathLike[str], durability: Literal["full", "none"], options: Any, in_flight: int | None
) -> Backend:
    """Return the home that a directory or a URL names."""
    name = os.fspath(root)
    scheme, is_url, rest = name.partition("://") if isinstance(name, str) else ("", "", "")
    if is_url and scheme != "file":
        from docid.store.backends.objects.backend import ObjectsBackend  # noqa: PLC0415 - an extra

        return ObjectsBackend(name, options=options, **({} if in_flight is None else {"in_flight": in_flight}))
    if options is not None or in_flight is not None:
        raise ValueError(f"options, in_flight: expected None with the directory {name!r}; they are for a URL")
    if is_url:
        from urllib.parse import unquote  # noqa: PLC0415 - seldom needed

        if not rest.startswith("/"):
            raise ValueError(f"root: expected file:///directory, got {name!r}")
        return LocalBackend(unquote(rest), durability=durability)
    if isinstance(name, str) and name.startswith(_MANGLED):
        raise ValueError("root: a URL with one slash, as a pathlib.Path makes of it; expected the URL as text")
    return LocalBackend(root, durability=durability)


_MANGLED = ("s3:/", "s3a:/", "gs:/", "az:/", "abfs:/", "abfss:/", "memory:/", "file:/")


def _without_frames(error: Exception) -> Exception:
    """Return an error that is kept, without the frames of its traceback, which hold the texts of a whole chunk."""
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = cause.__context__ = None
        cause = cause.__cause__
    return error


def _no_policy(if_exists: object) -> ValueError:
    return ValueError(f"if_exists: expected 'fail', 'keep' or 'replace', got {if_exists!r}")

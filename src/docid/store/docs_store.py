"""The store: writing and reading documents, over a backend that keeps their bytes."""

from __future__ import annotations

import contextlib
import os
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from attrs import evolve

from docid.core.document import ALL_FILES, Document, check_content, get_part_file, get_source_doc_id, require_doc_id
from docid.core.ids import check_doc_id, check_text, is_missing
from docid.core.lineage_rules import check_lineage, find_differences, find_unsaid, is_other_lineage
from docid.core.outcomes import Outcome, WriteResult, not_migrated
from docid.core.record import nonce
from docid.core.stages import DEFAULT_STAGES, Stages, check_stages
from docid.errors import (
    ContentConflict,
    DocidError,
    DocumentBusy,
    DocumentNotFound,
    InvalidDocument,
    UnreadableDocument,
)
from docid.store.backends.base import TURNS
from docid.store.backends.local.backend import LocalBackend
from docid.store.backends.memory import MemoryBackend
from docid.store.stored import StoredDocument, without_later_parts
from docid.store.writing import Writer, exists

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from docid.core.document import Part, TaskLike
    from docid.core.findings import Finding
    from docid.core.outcomes import Policy
    from docid.store.ancestry import Lineage
    from docid.store.backends.base import Backend


_COUNTED = 10_000  # documents of a stage that a notebook counts
_ASKED = 1_000  # the same over a network: one request


class DocsStore:
    """A store of documents: `<root>/<stage>/<doc_id>/`, or the same in another backend.

    Any number of stores, threads and processes may use one root. A store pickles, for worker pools, where its backend
    does.

    Args:
        root: the directory of the stages, which need not exist yet; or the URL of an object store, `s3://bucket/prefix`,
            `gs://bucket/prefix`, `az://container/prefix` (extra `objects`), `memory://` or `file:///directory`; or a
            `Backend`.
        stages: the stages of the pipeline.
        durability: `"full"`: what is written survives a power cut. `"none"`: it survives the end of the process, and
            costs a tenth. With both it is whole or absent. For a directory; elsewhere the service decides.
        options: for a URL, what `obstore.store.from_url` takes beside it: `endpoint`, `region`, `client_options` and
            so on. What is not given comes from the environment.
        in_flight: for a URL, how many requests are under way at once in work on many documents; 32 if not given.

    Raises:
        ValueError: another durability; a URL or options that obstore does not know.
        TypeError: `root` or `stages` is nothing of the above.
        ImportError: a URL, and obstore is not installed.

    Example:
        >>> from docid import Document, DocsStore, reserve_doc_id
        >>> store = DocsStore("memory://")
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
            self.backend: Backend = _open_backend(root, durability, options, in_flight)
        elif options is not None or in_flight is not None:
            raise ValueError("options, in_flight: expected None with a Backend, which has its own")
        elif callable(getattr(root, "create", None)):
            if not isinstance(getattr(root, "root", None), str):
                problem = "has no attribute `root`; expected the text before the stage in its locations"
                raise TypeError(f"root: the backend {type(root).__name__} {problem}, such as 'shelf://library'")
            self.backend = root
        else:
            raise TypeError(f"root: expected a directory or a Backend, got {type(root).__name__}")
        self.stages = check_stages(stages)

    def __repr__(self) -> str:
        return f"<DocsStore {', '.join(self.stages)} in {self.backend!r}>"

    def _repr_html_(self) -> str:
        from docid import _html  # noqa: PLC0415 - for notebooks alone

        rows = [_html.head(["stage", "made from", "documents"])]
        rows += [
            _html.row([_html.name(stage), _html.name(self.stages.parent_of(stage) or "—"), self._count(stage)], texts=2)
            for stage in self.stages
        ]
        return _html.box(f"DocsStore {_html.name(self.root)}", _html.element("table", *rows))

    def _count(self, stage: str) -> str:
        from docid import _html  # noqa: PLC0415 - as above

        most = _ASKED if self.backend.loads_whole else _COUNTED
        try:
            count = sum(1 for _ in islice(self.ids(stage), most + 1))
        except (DocidError, OSError) as error:
            return f"cannot be listed: {_html.text(str(error))}"
        return f"more than {most:,}" if count > most else f"{count:,}"

    @property
    def root(self) -> str:
        """Where the store is, as text: its directory, or the URL of its prefix."""
        return self.backend.root

    def path(self, stage: str, doc_id: str) -> Path:
        """Return where a document is or would be, without looking. Of an object in a bucket `location` is the URL.

        Raises:
            InvalidName: none of the store's stages, or no doc id.
        """
        return self.backend.path(*self._check_name(stage, doc_id))

    def location(self, stage: str, doc_id: str) -> str:
        """Return the same as text: a path, or the URL of an object. Raises as `path` does."""
        return self.backend.location(*self._check_name(stage, doc_id))

    def exists(self, stage: str, doc_id: str) -> bool:
        """Return whether a committed document of that name exists; its record is not read. Raises as `path` does."""
        return exists(self.backend, *self._check_name(stage, doc_id))

    def open(self, stage: str, doc_id: str, *, verify: bool = False) -> StoredDocument:
        """Return a document with its record loaded, its texts to be read when asked for.

        Args:
            stage, doc_id: its name.
            verify: read its parts now, and compare sizes and SHA-256 with the record's.

        Raises:
            DocumentNotFound: it is not there (a `LookupError`).
            UnreadableDocument: something stands there that is no whole document.
            InvalidName: none of the store's stages, or no doc id.
        """
        document = self._find(*self._check_name(stage, doc_id))
        if verify:
            document.read(verify=True)
        return document

    def read(self, stage: str, doc_id: str, *, verify: bool = False) -> Document:
        """Return a document whole, as it was written. Raises as `open` does.

        docid compares the sizes of its parts with the record, and with `verify` their SHA-256 too.
        """
        # Record and texts by one call of the backend are of one version, whatever others write meanwhile.
        return self._find(*self._check_name(stage, doc_id), ALL_FILES).read(verify=verify)

    def ids(self, stage: str) -> Iterator[str]:
        """Return the doc ids of a stage as a stream, in no order, opening nothing.

        Directories without a record are among them. What another process replaces meanwhile may come twice.

        Raises:
            InvalidName: none of the store's stages.
        """
        return self.backend.ids(self.stages.check(stage))

    def documents(self, stage: str) -> Iterator[StoredDocument]:
        """Return the documents of a stage as a stream, in no order, each with its record loaded.

        Documents that vanish during the listing are left out; one that is replaced may come twice.

        Raises:
            UnreadableDocument: a document that cannot be read; the stream ends there.
            InvalidName: none of the store's stages.
        """
        documents = self.backend.each(lambda doc_id: self._load(stage, doc_id), self.ids(stage))
        return (document for document in documents if document is not None)

    def scan(
        self, stage: str, *, verify: bool = False, stale_after: float = 3600.0
    ) -> Iterator[StoredDocument | Finding]:
        """Return what `documents` does, and what is wrong in the stage as findings instead of errors.

        A stream, in no order; one faulty document, or a directory that cannot be read, does not end it.

        Args:
            stage: the stage.
            verify: compare the SHA-256 of every part with its record's, not only its size.
            stale_after: seconds; temporary and uncommitted directories younger than this may belong to a writer, and
                are passed over.

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
        return self._history(*self._check_name(stage, doc_id))

    def _history(self, stage: str, doc_id: str) -> Iterator[Document]:
        later: StoredDocument | None = None
        with contextlib.suppress(UnreadableDocument):
            later = StoredDocument.load(self.backend, stage, doc_id)
        for stored in self.backend.history(stage, doc_id, ALL_FILES):
            try:
                version = without_later_parts(StoredDocument(self.backend, stage, doc_id, stored, ALL_FILES), later)
                # What is left of another lineage that had the id is none of this document's versions.
                if later is not None and is_other_lineage(version.facts, later.facts):
                    return
                # By hash: the texts of an old record may be those of a later version.
                yield version.read(verify=True)
            except UnreadableDocument as error:
                problem = f"a version in its history, not the document itself: {error.problem}"
                remedy = "docid repair --purge --history deletes old versions"
                where = stage, doc_id, error.location
                raise UnreadableDocument(*where, problem, remedy, error.task_id, error.code) from None
            later = version

    def lineage(self, stage: str, doc_id: str, *, descendants: bool = True) -> Lineage:
        """Return what a document was made from, and what was made from it, as the records say. Texts are not read.

        Args:
            stage, doc_id: the document.
            descendants: look for them, in one pass over the records of all stages that come from this one; with False
                return the ancestors alone.

        Returns:
            A `Lineage`; a parent that is not in the store, and records that cannot be read, are noted in it.

        Raises:
            DocumentNotFound: it is not there (a `LookupError`).
            UnreadableDocument: its own record cannot be read.
            InvalidName: none of the store's stages, or no doc id.
            OSError: a stage cannot be listed.
        """
        from docid.store.ancestry import lineage  # noqa: PLC0415 - not needed to read and write

        return lineage(self._find(*self._check_name(stage, doc_id)), self.stages, descendants=descendants)

    def write(self, document: Document, *, if_exists: Policy = "fail", require_parent: bool = True) -> WriteResult:
        """Write a document, whole or not at all.

        Args:
            document: what to write.
            if_exists: what to do where the id holds a document of the same lineage with other text: `fail`, `keep`
                it, or `replace` it, the old one going to history. Where only run id or metadata differ, `replace`
                writes the record alone, and the others write nothing.
            require_parent: refuse a document whose parent is not in the store.

        Returns:
            A `WriteResult`: created, unchanged, kept or replaced.

        Raises:
            LineageConflict: the id is taken by another task id or parent; under every policy.
            ContentConflict: the id holds other text of the same lineage, and `if_exists` is `fail`.
            MissingParent: the parent is not in the store.
            UnreadableDocument: the id holds no whole document, or one that must be migrated first.
            InvalidDocument: a parent in a stage that has none, or no task id.
            InvalidName: none of the store's stages.
            DocumentBusy: others changed the document each time it was tried; nothing was written.
            DurabilityUnknown: written, but the file system failed to say that it would survive a power cut.
            OSError: the file system refused; nothing of the document is visible.
        """
        return self._writer.put(document, if_exists, require_parent=require_parent)[0]

    def write_many(
        self, documents: Iterable[Document], *, if_exists: Policy = "fail", require_parent: bool = True
    ) -> list[WriteResult]:
        """Write many documents, each whole or not at all.

        docid takes 100 at a time, more to an object store, so that a stream of any length needs little memory. A
        document's parent may stand earlier among them. Where the stream itself fails, docid writes what it gave before
        and then raises its error (from a `WriteManyError`, where some could not be written).

        An object store gets many requests at once. On a local Linux file system (ext4, XFS, btrfs, F2FS, ZFS, tmpfs;
        Linux 5.8 or later) one sync makes each hundred durable, at a fraction of what as many `write` cost. Elsewhere,
        and with `durability="none"`, it costs as much as they do.

        Args:
            documents: what to write.
            if_exists, require_parent: as for `write`, for each of them.

        Returns:
            What became of each, in their order.

        Raises:
            WriteManyError: some could not be written; the others are. It carries all results and errors.
        """
        return self._writer.put_many(documents, if_exists, require_parent=require_parent)

    def ensure(
        self,
        row: TaskLike,
        make: Callable[[], Document],
        *,
        if_exists: Literal["keep", "replace"] = "keep",
        require_parent: bool = True,
    ) -> StoredDocument:
        """Return the document of a task row; call `make` only if it does not exist, so that nothing is paid for twice.

        Lineage and parent are checked before `make` is called. Where two callers make one document at once, both get
        the one that was written first.

        Args:
            row: a reserved task row.
            make: called without arguments where nothing is there; returns the `Document` of this row
                (`Document.from_task(row, …)`).
            if_exists: `replace` makes another text where one is there too, which goes to history.
            require_parent: refuse, before `make` is called, a row whose parent is not in the store.

        Returns:
            The stored document; its `outcome` says `created` or `kept`; with `replace` also `replaced` or `unchanged`.

        Raises:
            LineageConflict: the id is taken by another task id or parent.
            MissingParent: the parent is not in the store.
            InvalidDocument: what `make` returned is no `Document` of the row's identity and lineage (a `ValueError`).
            UnreadableDocument, InvalidName, DocumentBusy, DurabilityUnknown, OSError: as for `write`.
        """
        if if_exists not in {"keep", "replace"}:
            raise ValueError(f"if_exists: expected 'keep' or 'replace', got {if_exists!r}")
        doc_id, stage, task_id = require_doc_id(row), self.stages.check(row.stage), check_text(row.task_id, "task_id")
        stored = self._find_stored(row, stage, doc_id)
        if stored is not None and if_exists == "keep":
            stored.outcome = Outcome.KEPT
            return stored
        if stored is not None and stored.legacy:
            raise not_migrated(stored.facts, stage, doc_id, stored.location)
        self._writer.check_parent(stage, row.parent_doc_id)
        if row.doc_run_id is not None:
            check_text(row.doc_run_id, "doc_run_id")
        if require_parent and (missing := self._writer.find_missing_parent(stage, doc_id, task_id, row.parent_doc_id)):
            raise missing
        document: object = make()
        if not isinstance(document, Document):
            problem = f"make() returned {type(document).__name__}; expected a Document of task {task_id!r}"
            raise InvalidDocument("document", problem)
        wrong = [name for name in ("stage", "doc_id") if getattr(document, name) != getattr(row, name)]
        wrong += find_differences(document, row, legacy=False)
        if wrong:
            made, expected = getattr(document, wrong[0]), getattr(row, wrong[0])
            raise InvalidDocument(wrong[0], f"make() returned {made!r}; expected the row's {expected!r}")
        result, stored = self._writer.put(document, if_exists, require_parent=require_parent)
        stored.outcome = result.outcome
        if if_exists == "keep" and result.outcome is Outcome.UNCHANGED:  # another writer has made the same text
            stored.outcome = Outcome.KEPT
        return stored

    def _find_stored(self, row: TaskLike, stage: str, doc_id: str) -> StoredDocument | None:
        """Return the stored document of a row; None where there is none, an error where the row cannot have it."""
        stored = self._load(stage, doc_id)
        if stored is not None and self.backend.settle(stage, doc_id):
            stored = self._load(stage, doc_id)  # it may not be the one that stays
        if stored is not None:
            same = check_lineage(stored.facts, row, stage, doc_id, stored.location)
            has_parent = self.stages.parent_of(stage) is not None
            if same is None or find_unsaid(stored.facts, has_parent=has_parent):
                problem = "its record, of an older system, does not say whose it is"
                raise not_migrated(stored.facts, stage, doc_id, stored.location, problem)
            stored.check(verify=False)
        return stored

    def add_part(self, stage: str, doc_id: str, part: Part, text: str) -> WriteResult:
        """Add a part that a document was written without, as a parsed text. A part that is there is never changed.

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
        name, data = get_part_file(part), check_content(text, "text").encode()
        stage, doc_id = self._check_name(stage, doc_id)
        task_id: str | None = None
        for _ in range(TURNS):
            stored = self._find(stage, doc_id, (name,))
            task_id = stored.task_id
            result = WriteResult(Outcome.COMPLETED, stage, doc_id, stored.location)
            if stored.legacy:
                raise not_migrated(stored.facts, stage, doc_id, stored.location)
            if name in stored.facts.files:
                if stored.contents((name,), verify=True)[name] == data:
                    return evolve(result, outcome=Outcome.UNCHANGED)
                raise ContentConflict(stage, doc_id, stored.location, task_id, (part,), ())
            changed = stored.facts.with_part(name, data, nonce()).to_bytes()
            if self.backend.amend(stage, doc_id, stored.stored.record, changed, {name: data}):
                return result
        raise DocumentBusy(stage, doc_id, self.backend.location(stage, doc_id), task_id)

    def source_prompt(self, row: TaskLike) -> str | None:
        """Return the prompt to send again for a row with `source_doc_id`: that of the stored document it names.

        None for a row without one, whose prompt is to be rendered. A row of any stage may have it, as a field or as a
        column of its own.

        Raises:
            DocumentNotFound: no such document in the row's stage.
            UnreadableDocument: it was stored without its prompt, or cannot be read.
            InvalidName: what it names is no doc id.
        """
        source = get_source_doc_id(row)
        if is_missing(source):
            return None
        wanted_by = f"the source_doc_id of {row.stage} task {row.task_id!r}"
        document = self._find(*self._check_name(row.stage, source), ALL_FILES, wanted_by)
        prompt = document.prompt_text
        if prompt is None:
            problem = f"it was stored without its prompt, and {wanted_by} names it to send that again"
            raise document.unreadable(problem, "name another source_doc_id, or none")
        return prompt

    @property
    def _writer(self) -> Writer:
        return Writer(self.backend, self.stages)

    def _check_name(self, stage: str, doc_id: str) -> tuple[str, str]:
        return self.stages.check(stage), check_doc_id(doc_id)

    def _load(self, stage: str, doc_id: str, files: Collection[str] = ()) -> StoredDocument | None:
        files = ALL_FILES if self.backend.loads_whole else files  # they come with it anyway
        return StoredDocument.load(self.backend, stage, doc_id, files)

    def _find(self, stage: str, doc_id: str, files: Collection[str] = (), wanted_by: str = "") -> StoredDocument:
        document = self._load(stage, doc_id, files)
        if document is None:
            location, found_in = self.backend.location(stage, doc_id), self._writer.stages_with(doc_id)
            raise DocumentNotFound(stage, doc_id, location, found_in, wanted_by)
        return document


def _open_backend(
    root: str | os.PathLike[str], durability: Literal["full", "none"], options: Any, in_flight: int | None
) -> Backend:
    """Return the backend that a directory or a URL names. The arguments are those of `DocsStore`."""
    name = os.fspath(root)
    if not name:
        raise ValueError("root: empty; expected a directory ('.' for the current one)")
    scheme, is_url, rest = name.partition("://")
    if is_url and scheme not in {"file", "memory"}:
        from docid.store.backends.objects.backend import ObjectsBackend  # noqa: PLC0415 - an extra

        return ObjectsBackend(name, options=options, **({} if in_flight is None else {"in_flight": in_flight}))
    if options is not None or in_flight is not None:
        kind = "" if scheme == "memory" else "the directory "
        raise ValueError(f"options, in_flight: expected None with {kind}{name!r}; they are for an object store")
    if name == "memory://":
        return MemoryBackend()
    if is_url and scheme == "memory":
        raise ValueError(f"root: expected 'memory://' alone, got {name!r}")
    if is_url:
        from urllib.parse import unquote  # noqa: PLC0415 - seldom needed

        if not rest.startswith("/"):
            raise ValueError(f"root: expected file:///directory, got {name!r}")
        return LocalBackend(unquote(rest), durability=durability)
    if name.startswith(("s3:/", "s3a:/", "gs:/", "az:/", "abfs:/", "abfss:/", "memory:/", "file:/")):
        raise ValueError("root: a URL with one slash, as a pathlib.Path makes of it; expected the URL as text")
    return LocalBackend(root, durability=durability)


def check_store(store: object, argument: str = "store") -> DocsStore:
    """Return `store`; raise TypeError unless it is a DocsStore."""
    if not isinstance(store, DocsStore):
        hint = "; DocsStore(…) is that of a directory" if isinstance(store, (str, os.PathLike)) else ""
        raise TypeError(f"{argument}: expected a DocsStore, got {type(store).__name__}{hint}")
    return store

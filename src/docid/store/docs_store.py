"""The store: write and read documents through a backend."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Sized
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

from attrs import evolve

from docid._progress import Callback
from docid._text import format_count, quote
from docid.core.document import ALL_FILES, Document, check_content, get_part_file, get_source_doc_id, require_doc_id
from docid.core.ids import check_doc_id, is_missing, refuse_text
from docid.core.lineage_rules import check_lineage, find_missing_lineage, get_inputs, split_name
from docid.core.outcomes import Outcome, WriteResult, make_not_migrated_error
from docid.core.record import nonce
from docid.core.stages import check_stages
from docid.errors import (
    ContentConflict,
    DocidError,
    DocumentBusy,
    DocumentNotFound,
    UnreadableDocument,
    UnreadableManifest,
)
from docid.store.backends.base import TURNS
from docid.store.backends.local.backend import LocalBackend
from docid.store.backends.memory import MemoryBackend
from docid.store.ensure import Attempt, Options, ensure
from docid.store.manifest import Manifest
from docid.store.rescue import Rescue
from docid.store.stored import StoredDocument, exists, read_history
from docid.store.writing import Draft, Writer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from docid.core.document import Part, Reply, TaskLike
    from docid.core.findings import Change, Finding
    from docid.core.outcomes import Policy
    from docid.core.stages import Stages
    from docid.store.amany import AsyncManyRun
    from docid.store.ancestry import Lineage
    from docid.store.backends.base import Backend, Removed
    from docid.store.ensure import (
        ClaimPolicy,
        EnsureOptions,
        IfChanged,
        IfExists,
        ManyOptions,
        Metadata,
        Parse,
        Prompt,
    )
    from docid.store.ensured import Ensured
    from docid.store.many import ManyRun
    from docid.store.removal import Erasure, Removal
    from docid.store.rescue import RescuedReply
    from docid.store.threads import Threads

    Made = str | Reply | Document

RowT = TypeVar("RowT", bound="TaskLike")


_COUNT_LIMIT = 10_000  # a notebook counts this many documents per stage
_COUNT_LIMIT_REMOTE = 1_000  # the same over a network: one request


class DocsStore:
    """A store of documents, in the directories `<root>/<stage>/<doc_id>/` or in another backend.

    Any number of stores, threads and processes can share one root. You can pickle a store for worker pools if its
    backend can be pickled.

    Args:
        root: a directory, which need not exist yet (docid resolves `~` and a relative path at once); an object store's
            URL (`s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`; install the extra `objects`);
            `memory://`; `file:///directory`; or a `Backend`.
        stages: the stages of the pipeline. By default, those that the store's manifest declares; a store without a
            manifest has the stages draft, essay and evaluation.
        durability: for a directory. With `"full"`, a written document survives a power cut. With `"none"`, it survives
            the end of the process, and a write takes a tenth of the time. Either way it is whole or absent.
        options: for an object store: keyword arguments of `obstore.store.from_url`, such as `endpoint`, `region` and
            `client_options`. The environment supplies the rest.
        in_flight: for an object store: how many requests run at once when docid works on many documents; default 32.

    Raises:
        ValueError: `durability`, the URL or an option is not supported.
        TypeError: `root` or `stages` has the wrong type.
        ImportError: `root` is an object store's URL, and obstore is not installed.

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
        stages: Stages | None = None,
        durability: Literal["full", "none"] = "full",
        options: Mapping[str, Any] | None = None,
        in_flight: int | None = None,
    ) -> None:
        if durability not in {"full", "none"}:
            raise ValueError(f"durability: expected 'full' or 'none', got {durability!r}")
        if isinstance(root, (str, os.PathLike)):
            self.backend: Backend = _open_backend(root, durability, options, in_flight)
        elif options is not None or in_flight is not None:
            raise ValueError("options, in_flight: expected None with a Backend; set them in the Backend itself")
        elif callable(getattr(root, "create", None)):
            if not isinstance(getattr(root, "root", None), str):
                problem = "has no attribute `root`; expected the prefix of its locations as text"
                raise TypeError(f"root: the backend {type(root).__name__} {problem}, such as 'shelf://library'")
            self.backend = root
        else:
            raise TypeError(f"root: expected a directory or a Backend, got {type(root).__name__}")
        self._rescue = Rescue(self.backend)
        self.manifest = Manifest(self.backend, None if stages is None else check_stages(stages))

    def __repr__(self) -> str:
        stages = ", ".join(self.manifest.peek() or ())
        return f"<DocsStore {stages}{' ' * bool(stages)}in {self.backend!r}>"

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

        limit = _COUNT_LIMIT_REMOTE if self.backend.loads_whole else _COUNT_LIMIT
        try:
            count = sum(1 for _ in islice(self.ids(stage), limit + 1))
        except (DocidError, OSError) as error:
            return f"cannot be listed: {_html.text(str(error))}"
        return f"more than {limit:,}" if count > limit else f"{count:,}"

    @property
    def stages(self) -> Stages:
        """The stages of the pipeline: those that you passed, or those of the manifest, or the default ones.

        If you passed none, the first access reads the manifest.

        Raises:
            UnreadableManifest: you passed no stages, and the manifest is damaged or of a later release.
            OSError: you passed no stages, and the manifest cannot be read.
        """
        return self.manifest.stages

    @property
    def root(self) -> str:
        """The store's directory, as an absolute path, or its URL."""
        return self.backend.root

    def path(self, stage: str, doc_id: str) -> Path:
        """Return the path of a document, whether or not it exists. For the URL of an object, use `location`.

        Raises:
            InvalidName: the store has no such stage, or `doc_id` is not a doc id.
        """
        return self.backend.path(*self._check_name(stage, doc_id))

    def location(self, stage: str, doc_id: str) -> str:
        """Return the location of a document as text: a path, or the URL of an object. Raises as `path` does."""
        return self.backend.location(*self._check_name(stage, doc_id))

    def exists(self, stage: str, doc_id: str) -> bool:
        """Return whether the store holds this document, without reading its record. Raises as `path` does."""
        return exists(self.backend, *self._check_name(stage, doc_id))

    def open(self, stage: str, doc_id: str, *, verify: bool = False) -> StoredDocument:
        """Open a document: load its record now, and its texts when you access them.

        Args:
            stage, doc_id: the document.
            verify: read all parts now, and compare their sizes and SHA-256 with the record.

        Raises:
            DocumentNotFound: the store does not hold the document (a `LookupError`).
            UnreadableDocument: the document is damaged or incomplete.
            InvalidName: the store has no such stage, or `doc_id` is not a doc id.
        """
        document = self._find(*self._check_name(stage, doc_id))
        if verify:
            document.read(verify=True)
        return document

    def read(self, stage: str, doc_id: str, *, verify: bool = False) -> Document:
        """Read a document with all its texts. Raises as `open` does.

        docid compares the size of each part with the record; with `verify`, also its SHA-256.
        """
        # One call of the backend returns one version, even if another process writes at the same time.
        return self._find(*self._check_name(stage, doc_id), ALL_FILES).read(verify=verify)

    def ids(self, stage: str) -> Iterator[str]:
        """Iterate over the doc ids of a stage, in no particular order, without opening documents.

        Directories without a record are included. A document that another process replaces during the iteration may
        appear twice.

        Raises:
            InvalidName: the store has no such stage.
        """
        return self.backend.ids(self.stages.check(stage))

    def documents(self, stage: str) -> Iterator[StoredDocument]:
        """Iterate over the documents of a stage, in no particular order, each with its record loaded.

        docid skips documents that are removed during the iteration. A document that is replaced may appear twice.

        Raises:
            UnreadableDocument: a document cannot be read; the iteration ends there.
            InvalidName: the store has no such stage.
        """
        documents = self.backend.each(lambda doc_id: self._load(stage, doc_id), self.ids(stage))
        return (document for document in documents if document is not None)

    def scan(
        self, stage: str, *, verify: bool = False, stale_after: float = 3600.0
    ) -> Iterator[StoredDocument | Finding]:
        """Iterate over the documents of a stage, and yield a finding for each fault instead of raising an error.

        A damaged document or an unreadable directory does not end the iteration.

        Args:
            stage: the stage.
            verify: compare the SHA-256 of every part with the record, not only its size.
            stale_after: seconds. docid skips temporary and uncommitted directories younger than this, because they may
                belong to a running writer.

        Raises:
            InvalidName: the store has no such stage.
        """
        from docid.store.scanning import scan  # noqa: PLC0415 - not needed to read and write

        return scan(self.backend, self.stages.check(stage), verify=verify, stale_after=stale_after)

    def history(self, stage: str, doc_id: str) -> Iterator[Document]:
        """Iterate over the replaced versions of a document, latest first.

        Raises:
            UnreadableDocument: a version cannot be read; the iteration ends there.
            InvalidName: the store has no such stage, or `doc_id` is not a doc id.
        """
        return self._history(*self._check_name(stage, doc_id))

    def _history(self, stage: str, doc_id: str) -> Iterator[Document]:
        for version in read_history(self.backend, stage, doc_id):
            if isinstance(version, UnreadableDocument):
                raise version
            yield version

    def lineage(self, stage: str, doc_id: str, *, descendants: bool = True) -> Lineage:
        """Find the ancestors, inputs and descendants of a document in the records, without reading texts.

        Args:
            stage, doc_id: the document.
            descendants: also find the descendants, in one pass over all records: a document of any stage may have this
                one as its input. With False, return only the ancestors and inputs.

        Returns:
            A `Lineage`. It includes missing parents and unreadable records, each with its problem.

        Raises:
            DocumentNotFound: the store does not hold the document (a `LookupError`).
            UnreadableDocument: the document's own record cannot be read.
            InvalidName: the store has no such stage, or `doc_id` is not a doc id.
            OSError: a stage cannot be listed.
        """
        from docid.store.ancestry import lineage  # noqa: PLC0415 - not needed to read and write

        return lineage(self._find(*self._check_name(stage, doc_id)), self.stages, descendants=descendants)

    def write(self, document: Document, *, if_exists: Policy = "fail", require_parent: bool = True) -> WriteResult:
        """Write a document atomically: readers see the whole document or none of it.

        Args:
            document: the document.
            if_exists: what to do if the id already holds other text of the same lineage. `fail` raises
                `ContentConflict`, `keep` keeps the stored document, `replace` moves it to history and writes the new
                one. If only the run id, the metadata or the versions in `pins` differ, `replace` updates the record
                alone; `fail` and `keep` write nothing.
            require_parent: refuse a document whose parent or input is not in the store. The record names the versions
                of both that it was made from: those of the document's `pins`, or else the present ones. With False, the
                record names no versions beyond those of `pins`.

        The first write also adds the store's stages to its manifest. If that fails, the document is written all the
        same; but a store that was given no stages must be able to read its manifest.

        Returns:
            A `WriteResult`: created, unchanged, kept or replaced.

        Raises:
            StagesConflict: the manifest has another parent for one of the stages.
            UnreadableManifest: the store was given no stages, and its manifest is damaged or of a later release.
            LineageConflict: the id belongs to another task id, parent or inputs; no policy overwrites it.
            ContentConflict: the id holds other text of the same lineage, and `if_exists` is `fail`.
            MissingParent: the parent or an input is not in the store.
            UnreadableDocument: the stored document is damaged, or you must migrate it first.
            InvalidDocument: the document has no task id, or names a parent although its stage has none.
            InvalidName: the store has no such stage, or `parent_doc_id` is not a doc id.
            DocumentBusy: other writers changed the document at every attempt; docid wrote nothing.
            DurabilityUnknown: the document is written, but the file system cannot confirm that it survives a power cut.
            OSError: the file system failed; no part of the document is visible.
        """
        return self._writer.put(document, if_exists, require_parent=require_parent)[0]

    def write_many(
        self, documents: Iterable[Document], *, if_exists: Policy = "fail", require_parent: bool = True
    ) -> list[WriteResult]:
        """Write many documents, each one atomically.

        docid takes 100 documents at a time (more for an object store), so a stream of any length needs little memory.
        A document's parent may come earlier in the same stream. If the store fails (a full disk, no network), docid
        takes no more documents from the stream.

        Any other exception passes through unchanged: of the stream (docid writes the documents before it first), of a
        signal handler, Ctrl-C. If documents are not written then, its cause is a `WriteManyError` that carries them.

        An object store gets many requests at once. On a local Linux file system (ext4, XFS, btrfs, F2FS, ZFS, tmpfs;
        Linux 5.8 or later), one sync makes 100 documents durable, at a fraction of the cost of 100 calls of `write`.
        Elsewhere, and with `durability="none"`, the cost is the same.

        Args:
            documents: the documents.
            if_exists, require_parent: as for `write`, for each document.

        Returns:
            The result of each document, in order.

        Raises:
            WriteManyError: some documents could not be written; the others were. It carries all results and errors, and
                the documents that were not written.
            StagesConflict: as for `write`; before docid takes a document.
        """
        self.manifest.refuse_conflict()
        return self._writer.put_many(documents, if_exists, require_parent=require_parent)

    @overload
    def ensure(
        self,
        row: RowT,
        make: Callable[[RowT], Made],
        *,
        prompt: None = None,
        claim: Literal["wait", "off"] = "wait",
        **options: Unpack[EnsureOptions[RowT]],
    ) -> Ensured[RowT]: ...

    @overload
    def ensure(
        self,
        row: RowT,
        make: Callable[[RowT, str], Made],
        *,
        prompt: str | Callable[[RowT], str],
        claim: Literal["wait", "off"] = "wait",
        **options: Unpack[EnsureOptions[RowT]],
    ) -> Ensured[RowT]: ...

    @overload
    def ensure(
        self,
        row: RowT,
        make: Callable[[RowT], Made],
        *,
        prompt: None = None,
        claim: ClaimPolicy,
        **options: Unpack[EnsureOptions[RowT]],
    ) -> Ensured[RowT, StoredDocument | None]: ...

    @overload
    def ensure(
        self,
        row: RowT,
        make: Callable[[RowT, str], Made],
        *,
        prompt: str | Callable[[RowT], str],
        claim: ClaimPolicy,
        **options: Unpack[EnsureOptions[RowT]],
    ) -> Ensured[RowT, StoredDocument | None]: ...

    def ensure(
        self,
        row: Any,
        make: Callable[..., Any],
        *,
        prompt: Prompt = None,
        metadata: Metadata = None,
        parse: Parse = None,
        run_id: str | None = None,
        if_exists: IfExists = "keep",
        if_changed: IfChanged = "ignore",
        claim: ClaimPolicy = "wait",
        claim_timeout: float | None = None,
        require_parent: bool = True,
    ) -> Ensured[Any, Any]:
        """Return the document of a task row; call `make` only if the document does not exist.

        So a rerun repeats no model call. Workers that ensure one row at the same time, in any threads, processes and
        machines, make one call: the others wait for its document. Everything that can be checked before the call is
        checked before it. If the reply cannot be stored, docid saves it in a rescue file and raises the error.

        Args:
            row: a reserved task row.
            make: a function that calls the model: `make(row)`, or `make(row, prompt)` with `prompt`. It returns the
                raw text, a `Reply`, or a `Document` of the row.
            prompt: the prompt, or a function of the row that renders it. docid stores it with the document.
            metadata: your keys for the record, or a function of the row. Keys that `make` returns win over them.
            parse: takes the raw text and returns the parsed text or None. If it raises, the document is stored without
                parsed text, and its record says why. A stored document without parsed text is parsed, too.
            run_id: the run, for the record; by default the row's `doc_run_id`. It is not part of the id.
            if_exists: `keep` returns an existing document. `replace` makes it again, and moves the old version to
                history. Of several workers that replace one version, one makes a call.
            if_changed: what to do if an existing document was made from another version of its parent or inputs than
                the store has now, or from another prompt or other metadata than given now: `ignore` does not look,
                `report` fills `changed` of the result, `replace` makes the document again, `fail` raises
                `DocumentChanged`. A value that the record does not know has not changed.
            claim: what to do if another worker is making the document: `wait` for it, `skip` the row with the outcome
                `claimed`, or `off` to make it without a claim.
            claim_timeout: the longest time to wait, in seconds; None waits as long as the worker lives.
            require_parent: refuse a row whose parent or input is not in the store, before the call. docid notes the
                versions of both before it calls `prompt` and `metadata`, and the record names them.

        Returns:
            An `Ensured`: created, kept, completed, replaced or unchanged, and the stored document. With `claim="skip"`
            also `claimed`, without a document.

        Raises:
            LineageConflict: the id belongs to another task id, parent or inputs.
            MissingParent: the parent or an input is not in the store.
            ReplyRescued: an earlier reply for this document waits in a rescue file.
            DocumentClaimed: the claim was not free in time, or waiting for it could wait for this very call.
            DocumentChanged: something that the document was made from has changed, and `if_changed` is `fail`.
            TypeError: `make` does not take these arguments.
            InvalidReply: `make` returned no reply (a `TypeError`).
            InvalidDocument: the prompt, the metadata, or what `make` returned cannot be stored (a `ValueError`).
            StagesConflict, UnreadableDocument, InvalidName, DocumentBusy, DurabilityUnknown, OSError: as for `write`.
                An error after the call has the attribute `rescued`, the location of the saved reply, or `reply`.

        Example:
            >>> from docid import DocsStore, DraftTask, reserve_doc_id
            >>> store = DocsStore("memory://")
            >>> row = DraftTask(task_id="t-1", doc_id=reserve_doc_id("draft", "t-1"))
            >>> done = store.ensure(row, lambda row, prompt: prompt.upper(), prompt="once upon a time")
            >>> done.outcome, done.document.raw_text
            (<Outcome.CREATED: 'created'>, 'ONCE UPON A TIME')
        """
        options = Options(
            prompt=prompt,
            metadata=metadata,
            parse=parse,
            run_id=run_id,
            if_exists=if_exists,
            if_changed=if_changed,
            claim=claim,
            claim_timeout=claim_timeout,
            require_parent=require_parent,
        )
        options.check_make(make)
        return ensure(Attempt(self, row, make, options))

    @overload
    async def aensure(
        self,
        row: RowT,
        make: Callable[[RowT], Made | Awaitable[Made]],
        *,
        prompt: None = None,
        claim: Literal["wait", "off"] = "wait",
        **options: Unpack[EnsureOptions[RowT]],
    ) -> Ensured[RowT]: ...

    @overload
    async def aensure(
        self,
        row: RowT,
        make: Callable[[RowT, str], Made | Awaitable[Made]],
        *,
        prompt: str | Callable[[RowT], str],
        claim: Literal["wait", "off"] = "wait",
        **options: Unpack[EnsureOptions[RowT]],
    ) -> Ensured[RowT]: ...

    @overload
    async def aensure(
        self,
        row: RowT,
        make: Callable[[RowT], Made | Awaitable[Made]],
        *,
        prompt: None = None,
        claim: ClaimPolicy,
        **options: Unpack[EnsureOptions[RowT]],
    ) -> Ensured[RowT, StoredDocument | None]: ...

    @overload
    async def aensure(
        self,
        row: RowT,
        make: Callable[[RowT, str], Made | Awaitable[Made]],
        *,
        prompt: str | Callable[[RowT], str],
        claim: ClaimPolicy,
        **options: Unpack[EnsureOptions[RowT]],
    ) -> Ensured[RowT, StoredDocument | None]: ...

    async def aensure(
        self,
        row: Any,
        make: Callable[..., Any],
        *,
        prompt: Prompt = None,
        claim: ClaimPolicy = "wait",
        **options: Unpack[EnsureOptions[Any]],
    ) -> Ensured[Any, Any]:
        """Do what `ensure` does, without blocking the event loop.

        `make` is a coroutine function, or a plain function, which docid then calls in a thread. If the task is
        cancelled, the call is cancelled; a reply that it has returned is stored before the cancellation goes on.

        Args:
            row, make, prompt, claim, options: as for `ensure`. docid calls the functions `prompt`, `metadata` and
                `parse` in a thread.

        Returns, Raises:
            As for `ensure`.
        """
        chosen = Options(prompt=prompt, claim=claim, **options)
        chosen.check_make(make, is_async=True)
        from docid.store.amany import aensure  # noqa: PLC0415 - asyncio takes half of the time of `import docid`

        return await aensure(partial(Attempt, self, row, make, chosen), self._io_threads, chosen)

    @overload
    def ensure_many(
        self,
        rows: Iterable[RowT],
        make: Callable[[RowT], Made],
        *,
        prompt: None = None,
        claim: Literal["wait", "off"] = "wait",
        **options: Unpack[ManyOptions[RowT]],
    ) -> ManyRun[RowT]: ...

    @overload
    def ensure_many(
        self,
        rows: Iterable[RowT],
        make: Callable[[RowT, str], Made],
        *,
        prompt: str | Callable[[RowT], str],
        claim: Literal["wait", "off"] = "wait",
        **options: Unpack[ManyOptions[RowT]],
    ) -> ManyRun[RowT]: ...

    @overload
    def ensure_many(
        self,
        rows: Iterable[RowT],
        make: Callable[[RowT], Made],
        *,
        prompt: None = None,
        claim: ClaimPolicy,
        **options: Unpack[ManyOptions[RowT]],
    ) -> ManyRun[RowT, StoredDocument | None]: ...

    @overload
    def ensure_many(
        self,
        rows: Iterable[RowT],
        make: Callable[[RowT, str], Made],
        *,
        prompt: str | Callable[[RowT], str],
        claim: ClaimPolicy,
        **options: Unpack[ManyOptions[RowT]],
    ) -> ManyRun[RowT, StoredDocument | None]: ...

    def ensure_many(
        self,
        rows: Iterable[Any],
        make: Callable[..., Any],
        *,
        concurrency: int = 8,
        stop_after: int | None = 20,
        progress: bool | Callable[[int, int | None], object] | None = None,
        prompt: Prompt = None,
        claim: ClaimPolicy = "wait",
        **options: Unpack[EnsureOptions[Any]],
    ) -> ManyRun[Any, Any]:
        """Ensure the documents of many rows, several at once; yield each result when its document is stored.

        docid makes up to `concurrency` calls at once in threads, and writes their replies together, so that one sync
        makes many documents durable. An error of a row is in its result. Rows that other workers are making are looked
        at again later, so several processes can share one table.

        Use it in a `with` statement. When the block ends, also by an exception or by Ctrl-C, no new call starts, and
        the block waits until the calls under way are stored. The loop may also be left by `break`; docid does not wait
        then. A kill loses only the calls under way and the replies of the last 50 ms.

        Args:
            rows: reserved task rows, of any number and any stages. docid reads them in a thread, as it needs them.
            make, prompt, claim, options: as for `ensure`. With `if_exists="replace"`, `run_id` is required: documents
                that have it are kept, so that the run can be resumed. `parse` must not wait for other documents.
            concurrency: how many calls at once. At most twice as many results wait for you.
            stop_after: how many failures in a row stop the run; None for no limit.
            progress: None for none, True for a bar on standard error, or a function that is called with the number of
                rows done, and of all rows (None if `rows` has no length).

        Returns:
            A `ManyRun`: an iterator over `Ensured`, in the order in which the documents are stored.

        Raises:
            TypeError, ValueError: an argument is wrong. Before any row is read.

        Example:
            >>> from docid import DocsStore, DraftTask
            >>> rows = [DraftTask(task_id=task_id, doc_id=task_id) for task_id in ("a", "b")]
            >>> with DocsStore("memory://").ensure_many(rows, lambda row: row.task_id.upper()) as run:
            ...     print(sorted(done.unwrap().raw_text for done in run))
            ['A', 'B']
        """
        chosen = Options(prompt=prompt, claim=claim, **options)
        chosen.check_make(make)
        from docid.store.many import ManyRun  # noqa: PLC0415 - not needed for one row

        return ManyRun.of(*self._prepare_run(rows, make, chosen, concurrency, stop_after, progress))

    @overload
    def aensure_many(
        self,
        rows: Iterable[RowT],
        make: Callable[[RowT], Made | Awaitable[Made]],
        *,
        prompt: None = None,
        claim: Literal["wait", "off"] = "wait",
        **options: Unpack[ManyOptions[RowT]],
    ) -> AsyncManyRun[RowT]: ...

    @overload
    def aensure_many(
        self,
        rows: Iterable[RowT],
        make: Callable[[RowT, str], Made | Awaitable[Made]],
        *,
        prompt: str | Callable[[RowT], str],
        claim: Literal["wait", "off"] = "wait",
        **options: Unpack[ManyOptions[RowT]],
    ) -> AsyncManyRun[RowT]: ...

    @overload
    def aensure_many(
        self,
        rows: Iterable[RowT],
        make: Callable[[RowT], Made | Awaitable[Made]],
        *,
        prompt: None = None,
        claim: ClaimPolicy,
        **options: Unpack[ManyOptions[RowT]],
    ) -> AsyncManyRun[RowT, StoredDocument | None]: ...

    @overload
    def aensure_many(
        self,
        rows: Iterable[RowT],
        make: Callable[[RowT, str], Made | Awaitable[Made]],
        *,
        prompt: str | Callable[[RowT], str],
        claim: ClaimPolicy,
        **options: Unpack[ManyOptions[RowT]],
    ) -> AsyncManyRun[RowT, StoredDocument | None]: ...

    def aensure_many(
        self,
        rows: Iterable[Any],
        make: Callable[..., Any],
        *,
        concurrency: int = 64,
        stop_after: int | None = 20,
        progress: bool | Callable[[int, int | None], object] | None = None,
        prompt: Prompt = None,
        claim: ClaimPolicy = "wait",
        **options: Unpack[EnsureOptions[Any]],
    ) -> AsyncManyRun[Any, Any]:
        """Do what `ensure_many` does with `async for`, and `make` as tasks of the event loop.

        Use it in an `async with` statement. If the task is cancelled, also by `asyncio.timeout` or Ctrl-C, the calls
        under way are cancelled; replies that they have returned are stored before the cancellation goes on.

        Args:
            rows, stop_after, progress, prompt, claim, options: as for `ensure_many`.
            make: a coroutine function, or a plain function, which docid then calls in threads.
            concurrency: how many calls at once.

        Returns:
            An `AsyncManyRun`: an async iterator over `Ensured`, in the order in which the documents are stored.

        Raises:
            TypeError, ValueError: an argument is wrong. Before any row is read.
        """
        chosen = Options(prompt=prompt, claim=claim, **options)
        chosen.check_make(make, is_async=True)
        from docid.store.amany import AsyncManyRun  # noqa: PLC0415 - asyncio takes half of the time of `import docid`

        return AsyncManyRun(*self._prepare_run(rows, make, chosen, concurrency, stop_after, progress))

    def _prepare_run(  # noqa: PLR0917 - the arguments of the public functions
        self,
        rows: Iterable[Any],
        make: Callable[..., Any],
        options: Options,
        concurrency: int,
        stop_after: int | None,
        progress: Any,
    ) -> tuple[tuple[Any, ...], int, Callback, int | None]:
        """Check the arguments of a run; return those of `Run`, the concurrency, the progress and the number of rows."""
        if options.if_exists == "replace" and options.run_id is None:
            problem = "if_exists='replace' needs it with many rows, so that the run can be resumed"
            raise ValueError(f"run_id: {problem}; expected an id of this run")
        for name, value in (("concurrency", concurrency), ("stop_after", stop_after)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name}: expected a whole number, 1 or more, got {value!r}")
        if isinstance(rows, AsyncIterable):
            raise TypeError("rows: an async iterator; expected an iterator or another iterable, such as a list")
        if concurrency > (most := self.backend.find_most_claims()):
            problem = f"this process can hold {most:,.0f} claims at once; raise the limit on open files (ulimit -n)"
            raise ValueError(f"concurrency: {concurrency:,}, but {problem}")
        arguments = (self, rows, make, options, concurrency, stop_after)
        return arguments, concurrency, Callback(progress), len(rows) if isinstance(rows, Sized) else None

    def pending(self, rows: Iterable[RowT]) -> Iterator[RowT]:
        """Yield the rows whose documents do not exist, in order. docid opens no document.

        Args:
            rows: reserved task rows, of any stages.

        Raises:
            InvalidName: a row is not reserved, or the store has no such stage.

        Example:
            >>> from docid import DocsStore, DraftTask
            >>> store = DocsStore("memory://")
            >>> rows = [DraftTask(task_id=task_id, doc_id=task_id) for task_id in ("a", "b")]
            >>> _ = store.ensure(rows[0], lambda row: "done")
            >>> [row.task_id for row in store.pending(rows)]
            ['b']
        """

        def keep(row: Any) -> Any:
            return None if self.exists(row.stage, require_doc_id(row)) else (row,)

        return (found[0] for found in self.backend.each(keep, rows) if found)

    def list_rescued(self) -> Iterator[RescuedReply]:
        """Yield the replies that were paid for and could not be stored, by stage, doc id and time.

        Each has `adopt()`, which stores it, and `discard()`, which deletes it.
        """

        def write(document: Document, notes: dict[str, Any]) -> WriteResult:
            draft = Draft(document, self._writer.prepare(document, notes), None, None, None)
            result, _ = self._writer.put_made(draft, require_parent=True)
            if result.outcome is Outcome.KEPT:
                return self.write(document)
            return result

        for stage in self.stages:
            yield from self._rescue.list(stage, partial(exists, self.backend, stage), write)

    def remove(self, stage: str, doc_id: str, *, descendants: bool = False) -> Removal:
        """Move a document to quarantine, with its history. Readers see the whole document or none.

        docid reads every record of the store that could be a child: so remove many documents with one `remove_many`.
        Writers may run at the same time: a document never loses its parent or an input. `restore` moves it back;
        `docid repair --purge` deletes it.

        Args:
            stage, doc_id: the document.
            descendants: also remove the documents that were made from it, directly or not.

        Returns:
            A `Removal`. Its `entry` is the argument of `restore`.

        Raises:
            HasChildren: other documents were made from it, and `descendants` is false.
            DocumentClaimed: a worker is making it, or one of its descendants, again.
            StagesConflict: the manifest has another parent for one of the store's stages.
            DocumentNotFound: the store does not hold the document.
            UnreadableDocument: it is damaged; `docid repair` moves it to quarantine.
            InvalidName: the store has no such stage, or `doc_id` is not a doc id.
            OSError: it cannot be moved.

        Example:
            >>> from docid import DocsStore, Document
            >>> store = DocsStore("memory://")
            >>> _ = store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="Once."))
            >>> removal = store.remove("draft", "d1")
            >>> store.exists("draft", "d1"), [change.outcome for change in store.restore(removal.entry)]
            (False, ['restore'])
            >>> store.read("draft", "d1").raw_text
            'Once.'
        """
        removal = self.remove_many([f"{stage}/{doc_id}"], descendants=descendants)
        moved = sum(change.done for change in removal.changes)
        for change in removal.changes:
            if change.error is not None and (
                change.outcome == "leave" or (change.stage, change.doc_id) == (stage, doc_id)
            ):
                if moved:
                    way = f"restore({removal.entry!r}) moves {'it' if moved == 1 else 'them'} back"
                    change.error.add_note(f"docid has moved {format_count(moved, 'document')}; {way}")
                raise change.error
        return removal

    def remove_many(
        self,
        names: Iterable[str],
        *,
        descendants: bool = False,
        dry_run: bool = False,
        progress: Callable[[str], object] | None = None,
    ) -> Removal:
        """Remove many documents as `remove` does, with one pass over the records of the store.

        Args:
            names: the documents, each as `STAGE/ID`. A document may be removed together with its children.
            descendants: as for `remove`.
            dry_run: only plan.
            progress: a function that is called with the stage of each record that docid has read.

        Returns:
            A `Removal`: a document that cannot be removed is left, with the reason, and so are those that it was made
            from.

        Raises:
            InvalidName: a name is not that of a document of the store's stages.
            OSError: a stage cannot be listed.
        """
        from docid.store.removal import Remover  # noqa: PLC0415 - not needed to read and write

        refuse_text(names, "names", "names of documents")
        remover = Remover(self.backend, self._find_all_stages(), descendants=descendants, progress=progress)
        planned = remover.plan(names)
        return planned if dry_run else remover.apply()

    def list_removed(self) -> Iterator[Removed]:
        """Yield the documents in quarantine, which `remove` or `docid repair` moved there, in no particular order."""
        return self.backend.list_removed()

    def restore(
        self, entry: str, names: Collection[str] = (), *, require_parent: bool = True, dry_run: bool = False
    ) -> tuple[Change, ...]:
        """Move the documents of a removal back, with their history. Each byte is as before.

        docid leaves a document whose id the store has again, and one whose parent or input is missing. If the removal
        has several `entries`, restore the last one first.

        Args:
            entry: the `entry` of the removal, or of an entry of `list_removed`.
            names: restore only these documents, each as `STAGE/ID`; empty for all.
            require_parent: leave a document whose parent or input is missing.
            dry_run: only plan.

        Returns:
            A change for each document: `restore`, or `leave` with the reason.

        Raises:
            ValueError: the entry, or one of the names, is not in quarantine.
            OSError: quarantine cannot be listed.
        """
        from docid.store.removal import Restorer  # noqa: PLC0415 - as above

        stages = self._find_all_stages()
        return Restorer(self.backend, stages, require_parent=require_parent, apply=not dry_run).restore(entry, names)

    def erase(
        self,
        stage: str,
        doc_id: str,
        *,
        descendants: bool = False,
        dry_run: bool = False,
        progress: Callable[[str], object] | None = None,
    ) -> Erasure:
        """Delete every trace of a document's texts for good, for example on a privacy request.

        docid deletes the document, its history, its copies in quarantine, and its rescue files in the store and in your
        directory. The document need not exist any more. Nothing can bring it back. SECURITY.md lists the copies that
        docid cannot reach. A rescued reply that was made from the document counts as a child.

        Args:
            stage, doc_id: the document.
            descendants: also erase the documents that were made from it: their prompts may quote its text.
            dry_run: only plan.
            progress: as for `remove_many`.

        Returns:
            An `Erasure`: everything that held a text.

        Raises:
            HasChildren: other documents were made from it, also removed ones, and `descendants` is false.
            ValueError: quarantine or a rescue file has a descendant with the id of another document in the store.
            DocumentClaimed: a worker is making it again. docid has deleted nothing then.
            InvalidName: the store has no such stage, or `doc_id` is not a doc id.
            OSError: it cannot be removed.

        Example:
            >>> from docid import DocsStore, Document
            >>> store = DocsStore("memory://")
            >>> for text in ("Once.", "Twice."):
            ...     document = Document(stage="draft", doc_id="d1", task_id="t-1", raw_text=text)
            ...     _ = store.write(document, if_exists="replace")
            >>> [trace.location for trace in store.erase("draft", "d1").traces]
            ['memory://draft/d1', 'memory://.docid/history/draft/d1']
        """
        from docid.store.removal import Eraser  # noqa: PLC0415 - as above

        stage, doc_id = self._check_name(stage, doc_id)
        stages = self._find_all_stages()
        eraser = Eraser(self.backend, stages, self._rescue, descendants=descendants, progress=progress)
        planned = eraser.plan(stage, doc_id)
        return planned if dry_run else eraser.apply()

    def _find_all_stages(self) -> Stages:
        """Return the stages of this store and of its manifest: a document of any of them may be a child.

        Raises:
            StagesConflict: the manifest has another parent for one of the stages.
        """
        try:
            return self.manifest.check()
        except (UnreadableManifest, OSError):
            return self.stages  # raises the error again, unless stages were given

    @cached_property
    def _io_threads(self) -> Threads:
        """Threads for the I/O of `aensure`, in which no `make` runs."""
        from docid.store.threads import Threads  # noqa: PLC0415 - as for `aensure`

        return Threads(max(16, self.backend.io_threads))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_io_threads"}

    def _find_stored(self, row: TaskLike, stage: str, doc_id: str) -> StoredDocument | None:
        """Return the row's stored document, or None; raise an error if the id holds another lineage."""
        stored = self._load(stage, doc_id)
        if stored is not None and self.backend.settle(stage, doc_id):
            stored = self._load(stage, doc_id)  # settling may have rolled back this version
        if stored is not None:
            same = check_lineage(stored.facts, row, stage, doc_id, stored.location)
            has_parent = self.stages.parent_of(stage) is not None
            if same is None or find_missing_lineage(stored.facts, has_parent=has_parent):
                problem = "its record, written by an older system, does not name its task or parent"
                raise make_not_migrated_error(stored.facts, stage, doc_id, stored.location, problem)
            stored.check(verify=False)
        return stored

    def add_part(self, stage: str, doc_id: str, part: Part, text: str) -> WriteResult:
        """Add a part that a document lacks, such as a parsed text. Existing parts never change.

        Args:
            stage, doc_id: the document.
            part: `parsed` or `prompt` (every document has `raw`).
            text: the part's text.

        Returns:
            A `WriteResult`: completed, or unchanged if the part already exists with this text.

        Raises:
            DocumentNotFound: the store does not hold the document.
            ContentConflict: the part already exists with other text.
            UnreadableDocument, InvalidName, InvalidDocument, DocumentBusy, DurabilityUnknown, OSError: as for `write`.
            ValueError: unknown part.
        """
        name, data = get_part_file(part), check_content(text, "text").encode()
        stage, doc_id = self._check_name(stage, doc_id)
        task_id: str | None = None
        for _ in range(TURNS):
            stored = self._find(stage, doc_id, (name,))
            task_id = stored.task_id
            result = WriteResult(Outcome.COMPLETED, stage, doc_id, stored.location)
            if stored.legacy:
                raise make_not_migrated_error(stored.facts, stage, doc_id, stored.location)
            if name in stored.facts.files:
                if stored.contents((name,), verify=True)[name] == data:
                    return evolve(result, outcome=Outcome.UNCHANGED)
                raise ContentConflict(stage, doc_id, stored.location, task_id, (part,), ())
            changed = stored.facts.with_part(name, data, nonce()).to_bytes()
            self.manifest.record()
            if self.backend.amend(stage, doc_id, stored.stored.record, changed, {name: data}):
                return result
        raise DocumentBusy(stage, doc_id, self.backend.location(stage, doc_id), task_id)

    def source_prompt(self, row: TaskLike) -> str | None:
        """Return the stored prompt of the document that a row names in `source_doc_id`, to send it again.

        Returns None for a row without `source_doc_id`: render its prompt. A row of any stage may have
        `source_doc_id`, as a field or an extra column.

        Raises:
            DocumentNotFound: the row's stage has no such document.
            UnreadableDocument: the document cannot be read, or was stored without its prompt.
            InvalidName: `source_doc_id` is not a doc id.
        """
        source = get_source_doc_id(row)
        if is_missing(source):
            return None
        wanted_by = f"the source_doc_id of {row.stage} task {quote(row.task_id)}"
        document = self._find(*self._check_name(row.stage, source), ALL_FILES, wanted_by)
        prompt = document.prompt_text
        if prompt is None:
            problem = f"it was stored without its prompt, but {wanted_by} names it"
            raise document.unreadable(problem, "name another document, or leave source_doc_id empty")
        return prompt

    def open_parent(self, row: TaskLike) -> StoredDocument:
        """Open the parent of a row, for example to render a prompt from its text.

        Raises:
            DocumentNotFound: the parent is not in the store.
            UnreadableDocument: it is damaged or incomplete.
            ValueError: the row's stage has no parent, or the row has no `parent_doc_id`.

        Example:
            >>> from docid import Document, DocsStore, EssayTask
            >>> store = DocsStore("memory://")
            >>> _ = store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="Once."))
            >>> row = EssayTask(task_id="t-1__plain", doc_id="e1", parent_doc_id="d1")
            >>> store.open_parent(row).raw_text
            'Once.'
        """
        parent_stage = self.stages.parent_of(row.stage)
        if parent_stage is None:
            raise ValueError(f"row: stage {row.stage!r} has no parent; expected a row of another stage")
        return self._find(parent_stage, check_doc_id(row.parent_doc_id or "", "parent_doc_id"), (), _describe(row))

    def open_inputs(self, row: TaskLike) -> tuple[StoredDocument, ...]:
        """Open the documents that a row names in `input_doc_ids`, in this order.

        Raises:
            DocumentNotFound: one of them is not in the store.
            UnreadableDocument: one of them is damaged or incomplete.
            InvalidName: one of them is of a stage that the store does not have.

        Example:
            >>> from docid import Document, DocsStore, EvaluationTask
            >>> store = DocsStore("memory://")
            >>> texts = {"e1": "Once.", "e2": "Twice."}
            >>> for doc_id, text in texts.items():
            ...     _ = store.write(
            ...         Document(stage="essay", doc_id=doc_id, task_id=doc_id, parent_doc_id="d1", raw_text=text),
            ...         require_parent=False,
            ...     )
            >>> row = EvaluationTask(task_id="e1-or-e2", doc_id="v1", input_doc_ids=("essay/e1", "essay/e2"))
            >>> [each.raw_text for each in store.open_inputs(row)]
            ['Once.', 'Twice.']
        """
        names = [self._check_name(*split_name(name)) for name in get_inputs(row)]
        return tuple(self.backend.each(lambda name: self._find(*name, (), _describe(row)), names))

    @property
    def _writer(self) -> Writer:
        return Writer(self.backend, self.stages, self.manifest.record)

    def _check_name(self, stage: str, doc_id: str) -> tuple[str, str]:
        return self.stages.check(stage), check_doc_id(doc_id)

    def _load(self, stage: str, doc_id: str, files: Collection[str] = ()) -> StoredDocument | None:
        files = ALL_FILES if self.backend.loads_whole else files  # they cost nothing more
        return StoredDocument.load(self.backend, stage, doc_id, files)

    def _find(self, stage: str, doc_id: str, files: Collection[str] = (), wanted_by: str = "") -> StoredDocument:
        document = self._load(stage, doc_id, files)
        if document is None:
            location, found_in = self.backend.location(stage, doc_id), self._writer.find_stages(doc_id)
            raise DocumentNotFound(stage, doc_id, location, found_in, wanted_by)
        return document


def _describe(row: TaskLike) -> str:
    return f"the row of {row.stage} task {quote(row.task_id)}"


def _open_backend(
    root: str | os.PathLike[str], durability: Literal["full", "none"], options: Any, in_flight: int | None
) -> Backend:
    """Return the backend for the arguments of `DocsStore`."""
    name = os.fspath(root)
    if not name:
        raise ValueError("root: empty; expected a directory ('.' is the current one)")
    scheme, is_url, rest = name.partition("://")
    if "/" in scheme:  # a directory such as ./a://b
        is_url = ""
    if is_url and scheme not in {"file", "memory"}:
        from docid.store.backends.objects.backend import ObjectsBackend  # noqa: PLC0415 - an extra

        return ObjectsBackend(name, options=options, **({} if in_flight is None else {"in_flight": in_flight}))
    if options is not None or in_flight is not None:
        kind = "" if scheme == "memory" else "the directory "
        raise ValueError(f"options, in_flight: expected None with {kind}{name!r}; only object stores take them")
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
        raise ValueError("root: a URL with one slash, as pathlib.Path writes it; pass the URL as a str")
    return LocalBackend(root, durability=durability)


def check_store(store: object, argument: str = "store") -> DocsStore:
    """Return `store`; raise TypeError unless it is a DocsStore."""
    if not isinstance(store, DocsStore):
        hint = "; DocsStore(…) makes one from a directory" if isinstance(store, (str, os.PathLike)) else ""
        raise TypeError(f"{argument}: expected a DocsStore, got {type(store).__name__}{hint}")
    return store

"""Documents as they lie in a backend: what is read of them, and what makes them unreadable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from docid._text import shown
from docid.core.document import PART_FILES, Document, Record
from docid.errors import DocumentNotFound, InvalidDocument, UnreadableDocument

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime
    from pathlib import Path

    from docid.core.outcomes import Outcome
    from docid.store.backends.base import Backend, Stored

__all__ = ["Part", "StoredDocument"]

Part = Literal["raw", "parsed", "prompt"]
"""A text of a document."""

ALL_FILES = tuple(PART_FILES.values())
_RAW_FILE = PART_FILES["raw"]


def file_of(part: str) -> str:
    """Return the file of a part.

    Raises:
        ValueError: no such part.
    """
    if part not in PART_FILES:
        raise ValueError(f"part: expected one of {', '.join(PART_FILES)}, got {part!r}")
    return PART_FILES[part]


class Version:
    """One version of a document: its record, and the part files that were loaded with it.

    Attributes:
        backend, stage, doc_id: where it is.
        stored: the bytes, as the backend gave them.
        record: the record.
    """

    __slots__ = ("backend", "doc_id", "record", "stage", "stored")

    def __init__(self, backend: Backend, stage: str, doc_id: str, stored: Stored, record: Record | None = None) -> None:
        """Take what a backend gave; `record` where it is known already.

        Raises:
            UnreadableDocument: it is no record, or that of another document.
        """
        self.backend = backend
        self.stage = stage
        self.doc_id = doc_id
        self.stored = stored
        if record is None:
            try:
                record = Record.from_bytes(stored.record, stage, doc_id)
            except InvalidDocument as error:
                remedy = "open it with a later docid" if error.field == "format" else None
                code = "misplaced-document" if error.field == "doc_id" else "unreadable-record"
                problem = error.problem if error.field == "doc_id" else str(error)
                where = backend.location(stage, doc_id)
                raise UnreadableDocument(stage, doc_id, where, problem, remedy, code=code) from None
        self.record = record

    @classmethod
    def load(cls, backend: Backend, stage: str, doc_id: str, files: Collection[str] = ()) -> Version | None:
        """Return the version that is there, with these part files; None if there is no document."""
        stored = backend.load(stage, doc_id, files)
        return None if stored is None else cls(backend, stage, doc_id, stored)

    @property
    def location(self) -> str:
        """Where it is."""
        return self.backend.location(self.stage, self.doc_id)

    def unreadable(
        self, problem: str, remedy: str | None = None, code: str = "unreadable-record"
    ) -> UnreadableDocument:
        """Return the error that says what is wrong with this document."""
        return UnreadableDocument(self.stage, self.doc_id, self.location, problem, remedy, self.record.task_id, code)

    def contents(self, files: Collection[str], *, verify: bool) -> dict[str, bytes]:
        """Return those of the loaded `files` that belong to the document, compared with what the record says of them.

        Raises:
            UnreadableDocument: one is missing, has another size or, with `verify`, another SHA-256.
        """
        parts, listed = self.stored.parts, self.record.files
        if self.record.legacy:
            return parts
        contents = {}
        for name in files:
            if (entry := listed.get(name)) is None:
                continue
            data = parts.get(name)
            if data is None or verify or len(data) != entry.size:
                if fault := entry.fault(data, verify=verify):
                    raise self.unreadable(f"{name}: {fault[1]}", code=fault[0])
                data = parts[name]
            contents[name] = data
        return contents

    def texts(self, files: Collection[str], *, verify: bool) -> dict[str, str]:
        """Return `contents` as text.

        Raises:
            UnreadableDocument: as `contents`, or one is not UTF-8.
        """
        texts = {}
        for name, data in self.contents(files, verify=verify).items():
            try:
                texts[name] = data.decode()
            except UnicodeDecodeError as error:
                raise self.unreadable(f"{name}: byte {error.start} is not UTF-8", code="torn-document") from None
        return texts

    def document(self, *, verify: bool) -> Document:
        """Return the `Document`, of a version that was loaded with `ALL_FILES`.

        Raises:
            UnreadableDocument: as `texts`, or there is no raw text.
        """
        texts = self.texts(ALL_FILES, verify=verify)
        if _RAW_FILE not in texts:
            raise self.no_raw_text()
        return self.record.document(self.stage, self.doc_id, texts)

    def check(self, *, verify: bool) -> None:
        """Refuse a version whose parts are not what its record says, by their sizes; with `verify`, by what they hold.

        Raises:
            UnreadableDocument: they are not.
        """
        version = self
        if not verify and not self.has(ALL_FILES):
            listed = {name: entry.size for name, entry in self.record.files.items() if name in ALL_FILES}
            sizes = self.backend.sizes(self.stage, self.doc_id, ALL_FILES if self.record.legacy else list(listed))
            if _RAW_FILE in sizes if self.record.legacy else sizes == listed:
                return
            # Another version may be taking its place: what is said then is said of one version.
            again = Version.load(self.backend, self.stage, self.doc_id, ALL_FILES)
            if again is None:
                raise DocumentNotFound(self.stage, self.doc_id, self.location)
            version = again
        version.document(verify=verify)

    def has(self, files: Collection[str]) -> bool:
        """Return whether those of some part files that the document has were loaded with it, for all that is known."""
        return not self.record.legacy and all(name in self.stored.parts for name in files if name in self.record.files)

    def no_raw_text(self) -> UnreadableDocument:
        """Return the error for a document of an older system without its main part."""
        return self.unreadable(f"there is no {_RAW_FILE}", code="torn-document")


def earlier_version(later: Version | None, version: Version) -> Version:
    """Return a version from history, without what its document has got since.

    The record of an older system does not list its parts; that which took its place when it was migrated does.
    """
    if not version.record.legacy or later is None or later.record.legacy:
        return version
    parts = {name: data for name, data in version.stored.parts.items() if name in later.record.files}
    return Version(version.backend, version.stage, version.doc_id, version.stored._replace(parts=parts), version.record)


class StoredDocument:
    """A document in a store: its record is loaded, its texts are read when they are asked for.

    It stays the version that was opened: where another one takes its place meanwhile, the texts of this one are
    read from history.

    Attributes:
        stage, doc_id: its name.
        outcome: how `DocsStore.ensure` came by it: created or kept, with `replace` also replaced or unchanged; None
            from elsewhere.

    Example:
        >>> from docid import DocsStore, Document
        >>> from docid.backends import MemoryBackend
        >>> store = DocsStore(MemoryBackend())
        >>> draft = Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="once")
        >>> _ = store.write(draft)
        >>> stored = store.open("draft", "d1")
        >>> stored.task_id, stored.sizes, stored.raw_text, stored.parsed_text
        ('t-1', {'raw': 4}, 'once', None)
    """

    __slots__ = ("_version", "outcome")

    def __init__(self, version: Version, outcome: Outcome | None = None) -> None:
        self._version = version
        self.outcome = outcome

    def __repr__(self) -> str:
        return f"<StoredDocument {self.stage}/{self.doc_id} task_id={shown(self.task_id)}>"

    def _repr_html_(self) -> str:
        from docid.integrations.report.views import stored_view  # noqa: PLC0415 - for notebooks alone

        return stored_view(self)

    @property
    def stage(self) -> str:
        """The stage that made it."""
        return self._version.stage

    @property
    def doc_id(self) -> str:
        """Its name, unique in its stage."""
        return self._version.doc_id

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._version.backend.path(self.stage, self.doc_id)

    @property
    def location(self) -> str:
        """The same as text: a path, or the URL of an object."""
        return self._version.location

    @property
    def task_id(self) -> str | None:
        """The task that it answers; None if its record, of an older system, does not say."""
        return self._version.record.task_id

    @property
    def parent_doc_id(self) -> str | None:
        """The document that it was made from; None where there is none, or an older record does not say."""
        return self._version.record.parent_doc_id

    @property
    def run_id(self) -> str | None:
        """The run that made it, where that was noted."""
        return self._version.record.run_id

    @property
    def created_at(self) -> datetime | None:
        """When it was made, in UTC; None if its record, of an older system, does not say."""
        return self._version.record.created_at

    @property
    def metadata(self) -> dict[str, Any]:
        """The caller's own keys of the record."""
        return self._version.record.metadata

    @property
    def record(self) -> dict[str, Any]:
        """The whole record, as it is stored."""
        return self._version.record.data

    @property
    def legacy(self) -> bool:
        """Whether its record was written by an older system, without docid's `format`."""
        return self._version.record.legacy

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of its parts in bytes, by part: `raw`, and `parsed` and `prompt` where there are such."""
        if self.legacy:
            found = self._version.backend.sizes(self.stage, self.doc_id, ALL_FILES)
        else:
            found = {name: entry.size for name, entry in self._version.record.files.items()}
        return {part: found[name] for part, name in PART_FILES.items() if name in found}

    @property
    def raw_text(self) -> str:
        """What the model wrote, whole. Raises as `read` does."""
        text = self.text("raw")
        if text is None:
            raise self._version.no_raw_text()
        return text

    @property
    def parsed_text(self) -> str | None:
        """What was parsed out of the raw text; None where nothing was. Raises as `read` does."""
        return self.text("parsed")

    @property
    def prompt_text(self) -> str | None:
        """What the model was sent; None where it was not kept. Raises as `read` does."""
        return self.text("prompt")

    def text(self, part: Part, *, verify: bool = False) -> str | None:
        """Read and return one part; None where the document has none.

        Args:
            part: `raw`, `parsed` or `prompt`.
            verify: compare its SHA-256 with the record's, not only its size.

        Raises:
            ValueError: no such part.
            UnreadableDocument, DocumentNotFound: as for `read`.
        """
        files = (file_of(part),)
        version, replaced = self._loaded(files)
        return version.texts(files, verify=verify or replaced).get(files[0])

    def read(self, *, verify: bool = False) -> Document:
        """Read all parts and return the `Document`.

        Args:
            verify: compare their SHA-256 with the record's, not only their sizes.

        Raises:
            UnreadableDocument: a part cannot be read or is not what the record says; or another document has taken
                the place of this one, and it is not in history.
            DocumentNotFound: it is gone.
        """
        version, replaced = self._loaded(ALL_FILES)
        return version.document(verify=verify or replaced)

    def _loaded(self, files: Collection[str]) -> tuple[Version, bool]:
        """Return this version with these part files, and whether it comes from history.

        There the texts of an old record may be those of a later version: what they are is to be compared.
        """
        opened = self._version
        if opened.has(files):
            return opened, False
        stored = opened.backend.load(self.stage, self.doc_id, files)
        if stored is None:
            raise DocumentNotFound(self.stage, self.doc_id, self.location)
        replaced = stored.record != opened.stored.record
        if replaced:
            versions = opened.backend.history(self.stage, self.doc_id, files)
            for version in versions:
                if version.record == opened.stored.record:
                    old = Version(opened.backend, self.stage, self.doc_id, version, opened.record)
                    return earlier_version(self._version_of(stored), old), True
                stored = version
            raise opened.unreadable("another document has taken its place since it was opened", "open it again")
        return Version(opened.backend, self.stage, self.doc_id, stored, opened.record), False

    def _version_of(self, stored: Stored) -> Version | None:
        try:
            return Version(self._version.backend, self.stage, self.doc_id, stored)
        except UnreadableDocument:
            return None

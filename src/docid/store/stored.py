"""Stored documents: reading them and detecting damage."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from docid._text import quote
from docid.core.document import (
    ALL_FILES,
    DEPTH_SHOWN,
    PART_FILES,
    Document,
    document_facts,
    get_part_file,
)
from docid.core.lineage_rules import is_other_lineage
from docid.core.metadata import cut_deep_values
from docid.core.record import Record
from docid.errors import DocidError, DocumentNotFound, InvalidDocument, UnreadableDocument

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime
    from pathlib import Path

    from docid.core.document import Part
    from docid.core.lineage_rules import Pin, Pins
    from docid.core.outcomes import Outcome
    from docid.store.backends.base import Backend, Stored


class StoredDocument:
    """A document in a store. Its record is loaded; docid reads its texts when you access them.

    It remains the version that you opened. If another version replaces it, docid reads its texts from history.

    Attributes:
        stage, doc_id: the name of the document.
        task_id, parent_doc_id, run_id, created_at: as for `Document`; None also if an older system's record lacks them.
        inputs: as for `Document`.
        record: the whole record, as stored.
        legacy: whether an older system wrote the record, without docid's `format`.
        outcome: the `Outcome` of the `ensure` that returned it; None if another method returned it.
        backend, stored, facts: the backend, the bytes that it returned, and the parsed record.

    Example:
        >>> from docid import DocsStore, Document
        >>> store = DocsStore("memory://")
        >>> _ = store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="once"))
        >>> stored = store.open("draft", "d1")
        >>> stored.task_id, stored.sizes, stored.raw_text, stored.parsed_text
        ('t-1', {'raw': 4}, 'once', None)
    """

    __slots__ = (
        *("stage", "doc_id", "task_id", "parent_doc_id", "run_id", "created_at", "record", "legacy", "outcome"),
        *("inputs", "backend", "facts", "stored", "_loaded"),
    )

    def __init__(  # noqa: PLR0917 - its name and its bytes
        self,
        backend: Backend,
        stage: str,
        doc_id: str,
        stored: Stored,
        loaded: Collection[str] = (),
        facts: Record | None = None,
    ) -> None:
        """Take the bytes that a backend loaded: the record, and the part files named in `loaded`.

        Raises:
            UnreadableDocument: the record is malformed, or belongs to another document.
        """
        self.backend = backend
        self.stage = stage
        self.doc_id = doc_id
        self.stored = stored
        self.outcome: Outcome | None = None
        self._loaded = loaded
        self.facts = facts = self._parse(stored.record) if facts is None else facts
        self.task_id: str | None = facts.task_id
        self.parent_doc_id: str | None = facts.parent_doc_id
        self.inputs: tuple[str, ...] = facts.inputs
        self.run_id: str | None = facts.run_id
        self.created_at: datetime | None = facts.created_at
        self.record: dict[str, Any] = facts.data
        self.legacy: bool = facts.legacy

    def _parse(self, data: bytes) -> Record:
        try:
            return Record.from_bytes(data, self.stage, self.doc_id)
        except InvalidDocument as error:
            remedy = "upgrade docid to read it" if error.field == "format" else ""
            code = "misplaced-document" if error.field == "doc_id" else "unreadable-record"
            problem = error.problem if error.field == "doc_id" else str(error)
            raise UnreadableDocument(self.stage, self.doc_id, self.location, problem, remedy, code=code) from None

    @classmethod
    def load(cls, backend: Backend, stage: str, doc_id: str, files: Collection[str] = ()) -> StoredDocument | None:
        """Load a document with these part files; return None if it does not exist."""
        stored = backend.load(stage, doc_id, files)
        return None if stored is None else cls(backend, stage, doc_id, stored, files)

    def __repr__(self) -> str:
        return f"<StoredDocument {self.stage}/{self.doc_id} task_id={quote(self.task_id)}>"

    def _repr_html_(self) -> str:
        from docid import _html  # noqa: PLC0415 - for notebooks alone

        title = _html.heading("StoredDocument", self.stage, self.doc_id, str(self.outcome or ""))
        location = _html.fact_table([("location", _html.name(self.location))])
        facts = [_html.describe_document(document_facts(self)), location]
        try:
            facts += _html.fold_parts(self.read().parts())
        except (DocidError, OSError) as error:
            facts.append(_html.element("div", f"cannot be read: {_html.text(str(error))}", role="alert"))
        return _html.box(title, *facts, _html.fold_metadata(cut_deep_values(self.metadata, DEPTH_SHOWN)))

    @property
    def path(self) -> Path:
        """The location as a path."""
        return self.backend.path(self.stage, self.doc_id)

    @property
    def location(self) -> str:
        """The location as text: a path, or the URL of an object."""
        return self.backend.location(self.stage, self.doc_id)

    @property
    def metadata(self) -> dict[str, Any]:
        """The caller's metadata, without docid's own keys."""
        return self.facts.metadata

    @property
    def pin(self) -> Pin | None:
        """The version of this document, as the record of a child names it: the SHA-256 of `raw.txt` and `parsed.txt`.

        None if unknown: records of older systems have no hashes.
        """
        return self.facts.pin

    @property
    def pins(self) -> Pins:
        """The versions that it was made from: of its parent by doc id, of each input by name. None is unknown."""
        return self.facts.pins

    @property
    def sizes(self) -> dict[str, int]:
        """The size of each stored part in bytes: `raw`, and perhaps `parsed` and `prompt`."""
        if self.legacy:
            found = self.backend.sizes(self.stage, self.doc_id, ALL_FILES)
        else:
            found = {name: entry.size for name, entry in self.facts.files.items()}
        return {part: found[name] for part, name in PART_FILES.items() if name in found}

    @property
    def raw_text(self) -> str:
        """The whole answer of the model. Raises as `read` does."""
        text = self.text("raw")
        if text is None:
            raise self._no_raw_text()
        return text

    @property
    def parsed_text(self) -> str | None:
        """The text parsed from the raw text; None if none was stored. Raises as `read` does."""
        return self.text("parsed")

    @property
    def prompt_text(self) -> str | None:
        """The prompt sent to the model; None if none was stored. Raises as `read` does."""
        return self.text("prompt")

    def text(self, part: Part, *, verify: bool = False) -> str | None:
        """Read one part; return None if the document does not have it.

        Args:
            part: `raw`, `parsed` or `prompt`.
            verify: compare its SHA-256 with the record, not only its size.

        Raises:
            ValueError: unknown part.
            UnreadableDocument, DocumentNotFound: as for `read`.
        """
        name = get_part_file(part)
        return self._texts((name,), verify=verify).get(name)

    def read(self, *, verify: bool = False) -> Document:
        """Read all parts and return the `Document`.

        Args:
            verify: compare their SHA-256 with the record, not only their sizes.

        Raises:
            UnreadableDocument: a part cannot be read or does not match the record; or another document replaced this
                one, and history does not hold it.
            DocumentNotFound: the document was removed.
        """
        texts = self._texts(ALL_FILES, verify=verify)
        if PART_FILES["raw"] not in texts:
            raise self._no_raw_text()
        return self.facts.document(self.stage, self.doc_id, texts)

    def contents(self, files: Collection[str], *, verify: bool) -> dict[str, bytes]:
        """Return the bytes of loaded `files` that belong to the document.

        Raises:
            UnreadableDocument: a file is missing, or its size (with `verify`, its SHA-256) does not match the record.
        """
        parts = self.stored.parts
        if self.legacy:
            return parts
        for name in files:
            entry = self.facts.files.get(name)
            if entry is not None and (fault := entry.find_fault(parts.get(name), verify=verify)):
                raise self.unreadable(f"{name}: {fault.problem}", fault.remedy, fault.code)
        return {name: parts[name] for name in files if name in self.facts.files}

    def check(self, *, verify: bool) -> None:
        """Check all parts and raise as `read` does; unless `verify`, compare only their sizes."""
        if not verify and not self._has(ALL_FILES):
            listed = {name: entry.size for name, entry in self.facts.files.items() if name in ALL_FILES}
            sizes = self.backend.sizes(self.stage, self.doc_id, ALL_FILES if self.legacy else list(listed))
            if PART_FILES["raw"] in sizes if self.legacy else sizes == listed:
                return
            # A writer may be replacing the document: load one version, and report an error only about that.
            again = StoredDocument.load(self.backend, self.stage, self.doc_id, ALL_FILES)
            if again is None:
                raise DocumentNotFound(self.stage, self.doc_id, self.location)
            again.read()
            return
        self.read(verify=verify)

    def unreadable(self, problem: str, remedy: str = "", code: str = "unreadable-record") -> UnreadableDocument:
        """Return an error about this document."""
        return UnreadableDocument(self.stage, self.doc_id, self.location, problem, remedy, self.task_id, code)

    def is_version(self, other: StoredDocument) -> bool:
        """Return whether two records are of one version of a document: a part may have been added in between."""
        mine, its = self.facts, other.facts
        raw = PART_FILES["raw"]
        return (mine.created_at, mine.run_id, mine.files.get(raw)) == (its.created_at, its.run_id, its.files.get(raw))

    def with_stored(self, stored: Stored, loaded: Collection[str]) -> StoredDocument:
        """Return the same version with other part bytes."""
        return StoredDocument(self.backend, self.stage, self.doc_id, stored, loaded, self.facts)

    def _texts(self, files: Collection[str], *, verify: bool) -> dict[str, str]:
        texts = {}
        version, is_replaced = self._with_files(files)
        for name, data in version.contents(files, verify=verify or is_replaced).items():
            try:
                texts[name] = data.decode()
            except UnicodeDecodeError as error:
                raise self.unreadable(f"{name}: byte {error.start} is not UTF-8", code="torn-document") from None
        return texts

    def _has(self, files: Collection[str]) -> bool:
        """Return whether all of `files` that the document has are loaded."""
        if set(files) <= set(self._loaded):
            return True
        return not self.legacy and all(name in self.stored.parts for name in files if name in self.facts.files)

    def _with_files(self, files: Collection[str]) -> tuple[StoredDocument, bool]:
        """Return this version with these part files, and whether docid found it in history.

        In history, the files next to an old record may belong to a later version, so the caller compares hashes.
        """
        if self._has(files):
            return self, False
        stored = self.backend.load(self.stage, self.doc_id, files)
        if stored is None:
            raise DocumentNotFound(self.stage, self.doc_id, self.location)
        if stored.record == self.stored.record:
            return self.with_stored(stored, files), False
        for version in self.backend.history(self.stage, self.doc_id, files):
            if version.record == self.stored.record:
                later = None
                with contextlib.suppress(UnreadableDocument):
                    later = StoredDocument(self.backend, self.stage, self.doc_id, stored)
                return drop_later_parts(self.with_stored(version, files), later), True
            stored = version
        raise self.unreadable("another document replaced it after it was opened", "open it again")

    def _no_raw_text(self) -> UnreadableDocument:
        return self.unreadable(f"{PART_FILES['raw']} is missing", code="torn-document")


def drop_later_parts(version: StoredDocument, later: StoredDocument | None) -> StoredDocument:
    """Return a version from history without parts that were added later.

    An older system's record does not list its parts. The record that replaced it during migration does.
    """
    if not version.legacy or later is None or later.legacy:
        return version
    parts = {name: data for name, data in version.stored.parts.items() if name in later.facts.files}
    return version.with_stored(version.stored._replace(parts=parts), ALL_FILES)


def read_history(backend: Backend, stage: str, doc_id: str) -> Iterator[Document | UnreadableDocument]:
    """Yield the replaced versions of a document, latest first, each verified; an error for each that is unreadable."""
    later: StoredDocument | None = None
    with contextlib.suppress(UnreadableDocument):
        later = StoredDocument.load(backend, stage, doc_id)
    for stored in backend.history(stage, doc_id, ALL_FILES):
        try:
            version = drop_later_parts(StoredDocument(backend, stage, doc_id, stored, ALL_FILES), later)
            # An earlier document of another lineage may have used the id. Its versions do not count.
            if later is not None and is_other_lineage(version.facts, later.facts):
                return
            later = version
            # Compare hashes: the texts next to an old record may belong to a later version.
            yield version.read(verify=True)
        except UnreadableDocument as error:
            problem = f"the fault is in an old version, not in the current document: {error.problem}"
            remedy = "'docid repair --purge --history' deletes old versions"
            yield UnreadableDocument(stage, doc_id, error.location, problem, remedy, error.task_id, error.code)


def exists(backend: Backend, stage: str, doc_id: str) -> bool:
    """Return whether a document exists; False if something else occupies its place."""
    try:
        return backend.exists(stage, doc_id)
    except UnreadableDocument:
        return False

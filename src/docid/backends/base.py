"""What a home of documents has to offer: atomic primitives on whole documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

__all__ = ["Backend", "Stored"]


class Stored(NamedTuple):
    """One version of a stored document: the bytes of its record, and of the part files that were asked for."""

    record: bytes
    parts: dict[str, bytes]


class Backend(Protocol):
    """A home of documents. The store states the rules; a backend keeps bytes and keeps them whole.

    A document is a record (bytes of JSON) and part files (bytes, by file name: `raw.txt`, `parsed.txt`,
    `prompt.txt`). Every method sees one version of a document, never half of one or a mix of two, also beside
    other threads and processes. Stages and doc ids are checked before they come here.

    Every method may raise `UnreadableDocument` where something stands that is no document, and `OSError`.
    """

    def path(self, stage: str, doc_id: str) -> Path:
        """Return where the document is or would be, without looking. Where a home has no files, a mere name."""
        ...

    def create(self, stage: str, doc_id: str, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """Store a new document, whole, and return True; return False and change nothing if the id is taken."""
        ...

    def load(self, stage: str, doc_id: str, parts: Collection[str] = ()) -> Stored | None:
        """Return the record, and those of the part files in `parts` that are there; None if there is no document."""
        ...

    def sizes(self, stage: str, doc_id: str, parts: Collection[str]) -> dict[str, int]:
        """Return the sizes in bytes of those of the part files in `parts` that are there, without reading them."""
        ...

    def amend(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """Store a new record, and part files beside those that are there, which stay as they are.

        The old record goes to history. Return False and change nothing if the record that is there is not
        `expected`.
        """
        ...

    def replace(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """Store another version of a document in place of the one that is there, which goes to history, whole.

        Return False and change nothing if the record that is there is not `expected`.
        """
        ...

    def ids(self, stage: str) -> Iterator[str]:
        """Return the doc ids of a stage, as a stream, in no order, without opening documents."""
        ...

    def history(self, stage: str, doc_id: str, parts: Collection[str]) -> Iterator[Stored]:
        """Return what `amend` and `replace` have put aside for an id, the latest first."""
        ...

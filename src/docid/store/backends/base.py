"""What a home of documents has to offer: atomic primitives on whole documents."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeVar

from docid.core.document import PART_FILES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["Backend", "Leftover", "NewDocument", "Stored", "Sweeper"]

T = TypeVar("T")
R = TypeVar("R")

TURNS = 100
"""What meets another writer, or a sweep, at every turn looks again this often before it gives up."""


class Stored(NamedTuple):
    """One version of a stored document: the bytes of its record, and of the part files that were asked for."""

    record: bytes
    parts: dict[str, bytes]


class NewDocument(NamedTuple):
    """A document that is to be created: its name, the bytes of its record, and of its part files by file name."""

    stage: str
    doc_id: str
    record: bytes
    parts: Mapping[str, bytes]


class Leftover(NamedTuple):
    """Something in a home that is no part of any document, or a document that cannot be read.

    Attributes:
        code: what kind of fault it is, a code of `docid.core.findings`.
        stage: the stage it is in.
        doc_id: the document it lies beside, or in; empty where that cannot be told.
        path: where it is, relative to the root of the home.
        problem: what it is.
        action: `quarantine`: it can be moved aside. `settle`: it is an interrupted replace, to be finished or rolled
            back. None: it is nobody's but its owner's.
        expected: the record that it was seen beside: where another is there by now, nothing is done.
    """

    code: str
    stage: str
    doc_id: str
    path: str
    problem: str
    action: Literal["quarantine", "settle"] | None
    expected: bytes | None = None


class Sweeper(Protocol):
    """What can be done in a home about what was left over in it. All of it is safe beside writers."""

    def leftovers(self, stage: str, stale_after: float) -> Iterator[Leftover]:
        """Return what lies beside the documents of a stage and belongs to none.

        Args:
            stage: the stage.
            stale_after: what was touched in the last so many seconds may belong to a writer, and is passed over.
        """
        ...

    def in_the_way(self, stage: str) -> list[str]:
        """Return the doc ids of a stage at which something else than a document's directory stands."""
        ...

    def strays(
        self, stage: str, doc_id: str, expected: bytes | None, listed: Collection[str], stale_after: float
    ) -> list[Leftover]:
        """Return the files in a document that are none of its parts, which are `listed`.

        With `expected` None: the directory at an id itself, where it has no record.
        """
        ...

    def is_stale(self, stage: str, doc_id: str, stale_after: float) -> bool:
        """Return whether nobody has touched a document, or what stands in its place, for so many seconds."""
        ...

    def clear(self, leftover: Leftover, run: str, stale_after: float) -> str | None:
        """Do what is to be done about a leftover, if it is one still; return where it is now, relative to the root.

        Args:
            leftover: what was found.
            run: a name for this run, which what is moved aside is found under.
            stale_after: as for `leftovers`.

        Returns:
            Where it is now; empty where it is nowhere. None where nothing was to be done any more.
        """
        ...

    def discarded(self, older_than: float, *, history: Collection[str]) -> Iterator[tuple[str, int]]:
        """Return what `discard` would delete: the path, relative to the root, and its size in bytes.

        Args:
            older_than: only what was put aside more than so many seconds ago.
            history: the stages whose replaced versions are meant, too.
        """
        ...

    def discard(self, path: str) -> None:
        """Delete what `discarded` returned."""
        ...

    def tidy(self, stage: str, stale_after: float) -> int:
        """Remove the lock files of a stage that nobody has held for so many seconds; return how many."""
        ...


class Backend(Protocol):
    """A home of documents. The store states the rules; a backend keeps bytes and keeps them whole.

    A document is a record (bytes of JSON) and part files (bytes, by file name: `raw.txt`, `parsed.txt`,
    `prompt.txt`). Every method sees one version of a document, never half of one or a mix of two, also beside
    other threads and processes. Stages and doc ids are checked before they come here.

    Every method may raise `UnreadableDocument` where something stands that is no document, and `OSError`.

    A class that inherits from this one gets `location`, `each`, `exists`, `create_many`, `listing`, `modified`,
    `settle`, `check`, `with_history` and `sweeper`, which a home may do better.
    """

    @abstractmethod
    def path(self, stage: str, doc_id: str) -> Path:
        """Return where the document is or would be, without looking. Where a home has no files, a mere name."""
        ...

    together: int = 100
    """How many documents `create_many` is best given at once; in a directory each is held open, and of as many as this
    any system allows that."""

    loads_whole: bool = False
    """Whether `load` costs the same with all part files as with none: then they are asked for at once."""

    def location(self, stage: str, doc_id: str) -> str:
        """Return the same as text, which costs less."""
        return str(self.path(stage, doc_id))

    def each(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Apply a function to each item, and return the results in order, as a stream.

        A home that is far away does many at once, in threads, and takes as many items before their turn.
        """
        return map(function, items)

    def exists(self, stage: str, doc_id: str) -> bool:
        """Return whether a document is there; what it holds is not looked at."""
        return self.load(stage, doc_id) is not None

    @abstractmethod
    def create(self, stage: str, doc_id: str, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """Store a new document, whole, and return True; return False and change nothing if the id is taken."""
        ...

    def create_many(self, documents: Sequence[NewDocument]) -> list[bool | Exception]:
        """Create documents; return for each what `create` would, or the error that it would raise.

        Each is atomic on its own; they become visible in any order.
        """
        results: list[bool | Exception] = []
        for document in documents:
            try:
                results.append(self.create(*document))
            except Exception as error:  # noqa: BLE001 - also what a home raises that is neither
                results.append(error)
        return results

    @abstractmethod
    def load(self, stage: str, doc_id: str, parts: Collection[str] = ()) -> Stored | None:
        """Return the record, and those of the part files in `parts` that are there; None if there is no document."""
        ...

    @abstractmethod
    def sizes(self, stage: str, doc_id: str, parts: Collection[str]) -> dict[str, int]:
        """Return the sizes in bytes of those of the part files in `parts` that are there, without reading them."""
        ...

    def listing(self, stage: str, doc_id: str) -> tuple[bytes, dict[str, int]] | None:
        """Return the record, and by name the sizes in bytes of all that lies beside it: for a look at millions.

        None where there is no document, and where a closer look is needed. What differs from the record may be that
        of another version: whoever finds it so looks again with `load`.
        """
        found = self.load(stage, doc_id)
        return None if found is None else (found.record, self.sizes(stage, doc_id, PART_FILES.values()))

    def modified(self, stage: str, doc_id: str) -> float | None:  # noqa: ARG002 - for a home that knows
        """Return when the raw text of a document was last written, in seconds since 1970; None where that is not known.

        For what older systems stored without a time.
        """
        return None

    @abstractmethod
    def amend(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """Store a new record, and part files beside those that are there, which stay as they are.

        The old record goes to history. Return False and change nothing if the record that is there is not
        `expected`.
        """
        ...

    @abstractmethod
    def replace(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """Store another version of a document in place of the one that is there, which goes to history, whole.

        Return False and change nothing if the record that is there is not `expected`.
        """
        ...

    def settle(self, stage: str, doc_id: str) -> bool:  # noqa: ARG002 - for a home that has something to settle
        """Finish or roll back a change that was interrupted; return whether there was one."""
        return False

    @abstractmethod
    def ids(self, stage: str) -> Iterator[str]:
        """Return the doc ids of a stage, as a stream, in no order, without opening documents."""
        ...

    def check(self, record: bytes, parts: Mapping[str, bytes]) -> None:  # noqa: ARG002 - for a home that cannot
        """Refuse what this home cannot hold; most can hold any bytes.

        Raises:
            InvalidDocument: it cannot.
        """
        return

    def with_history(self, stage: str) -> Container[str] | None:  # noqa: ARG002 - for a home that knows
        """Return the doc ids of a stage that have a history, and maybe others; None where that is not known."""
        return None

    @abstractmethod
    def history(self, stage: str, doc_id: str, parts: Collection[str]) -> Iterator[Stored]:
        """Return what `amend` and `replace` have put aside for an id, the latest first."""
        ...

    def sweeper(self) -> Sweeper | None:
        """Return what finds and clears away what was left over; None for a home in which nothing can be."""
        return None

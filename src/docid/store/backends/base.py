"""The backend protocol: atomic primitives on whole documents."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from docid.core.document import PART_FILES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from docid.core.findings import Finding

T = TypeVar("T")
R = TypeVar("R")

TURNS = 100
"""What meets another writer, or a sweep, at every turn looks again this often before it gives up."""


def join_location(root: str, *names: str) -> str:
    """Return the location of what has these names, stage and document, below the root of a backend."""
    return (root if root.endswith("/") else f"{root}/") + "/".join(names)


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


class Sweeper(Protocol):
    """Finds and clears what dead writers left in a backend. All of it is safe beside live writers.

    What was touched in the last `stale_after` seconds may belong to a writer, and is passed over. Its findings have no
    hint: `docid.store.scanning` adds it.
    """

    def leftovers(self, stage: str, stale_after: float) -> Iterator[Finding]:  # noqa: ARG002 - for one that has them
        """Return findings about files and directories of a stage that belong to no document."""
        return iter(())

    @abstractmethod
    def strays(
        self, stage: str, doc_id: str, expected: bytes | None, listed: Collection[str], stale_after: float
    ) -> list[Finding]:
        """Return the files in a document that are none of its parts, which are `listed`.

        With `expected` None: the directory at an id itself, where it has no record.
        """

    @abstractmethod
    def is_stale(self, stage: str, doc_id: str, stale_after: float) -> bool:
        """Return whether nobody has touched a document, or what stands in its place, for so many seconds."""

    @abstractmethod
    def clear(self, finding: Finding, run: str, stale_after: float) -> str | None:
        """Do the action of a finding, if it still holds; `run` is a name that what is moved aside is found under.

        Returns:
            Where it is now, relative to the root; empty where it is nowhere. None where nothing was to be done.
        """

    @abstractmethod
    def list_discarded(self, older_than: float, *, history: Collection[str]) -> Iterator[tuple[str, int]]:
        """Return what `discard` would delete: the path, relative to the root, and its size in bytes.

        Only what was put aside more than `older_than` seconds ago; also replaced versions, in the stages of `history`.
        """

    @abstractmethod
    def discard(self, path: str) -> None:
        """Delete what `discarded` returned."""

    def tidy(self, stage: str, stale_after: float) -> int:  # noqa: ARG002 - for one that has locks
        """Remove the lock files of a stage that nobody has held for so many seconds; return how many."""
        return 0


class Backend(Protocol):
    """Keeps the bytes of documents, and keeps them whole. The store states the rules.

    A document is a record (bytes of JSON) and part files (bytes, by file name: `raw.txt`, `parsed.txt`,
    `prompt.txt`). Every method sees one version of a document, never half of one or a mix of two, also beside
    other threads and processes. Stages and doc ids are checked before they come here.

    Every method may raise `UnreadableDocument` where something stands that is no document, and `OSError`.

    A class that inherits from this one gets defaults of all methods that are not abstract; a backend may do better.

    Attributes:
        root: the text before the stage in every location: a directory, `s3://bucket/prefix`, `memory://`.
        together: how many documents `create_many` is best given at once. In a directory each is held open: every system
            allows that many.
        loads_whole: whether `load` costs the same with all part files as with none: then they are loaded together.
    """

    root: str
    together: int = 100
    loads_whole: bool = False

    def location(self, stage: str, doc_id: str) -> str:
        """Return where the document is or would be, as text, without looking."""
        return join_location(self.root, stage, doc_id)

    def path(self, stage: str, doc_id: str) -> Path:
        """Return the location as a path; where a backend has no files, a mere name."""
        from pathlib import Path  # noqa: PLC0415 - importing it is a tenth of what importing docid costs

        return Path(self.location(stage, doc_id))

    def each(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Apply a function to each item, and return the results in order, as a stream.

        A backend over a network does many at once, in threads, and takes as many items before their turn.
        """
        return map(function, items)

    def exists(self, stage: str, doc_id: str) -> bool:
        """Return whether a document is there; what it holds is not looked at."""
        return self.load(stage, doc_id) is not None

    @abstractmethod
    def create(self, stage: str, doc_id: str, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """Store a new document, whole, and return True; return False and change nothing if the id is taken."""

    def create_many(self, documents: Sequence[NewDocument]) -> list[bool | Exception]:
        """Create documents; return for each what `create` would, or the error that it would raise.

        Each is atomic on its own; they become visible in any order. What a backend can do at less cost for many, it
        does here; this default calls `create` for each.
        """

        def create(document: NewDocument) -> bool | Exception:
            try:
                return self.create(*document)
            except Exception as error:  # noqa: BLE001 - also what a backend raises that is neither
                return error

        return list(self.each(create, documents))

    @abstractmethod
    def load(self, stage: str, doc_id: str, parts: Collection[str] = ()) -> Stored | None:
        """Return the record, and those of the part files in `parts` that are there; None if there is no document."""

    def sizes(self, stage: str, doc_id: str, parts: Collection[str]) -> dict[str, int]:
        """Return the sizes in bytes of those of the part files in `parts` that are there.

        This default reads them; a backend that knows their sizes does better.
        """
        found = self.load(stage, doc_id, parts)
        return {} if found is None else {name: len(data) for name, data in found.parts.items()}

    def listing(self, stage: str, doc_id: str) -> tuple[bytes, dict[str, int]] | None:
        """Return the record, and by name the sizes in bytes of all that lies beside it: for a look at millions.

        None where there is no document, and where a closer look is needed. What differs from the record may be that
        of another version: whoever finds it so looks again with `load`.
        """
        found = self.load(stage, doc_id)
        return None if found is None else (found.record, self.sizes(stage, doc_id, PART_FILES.values()))

    def last_modified(self, stage: str, doc_id: str) -> float | None:  # noqa: ARG002 - for a backend that knows
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

    @abstractmethod
    def replace(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """Store another version of a document in place of the one that is there, which goes to history, whole.

        Return False and change nothing if the record that is there is not `expected`.
        """

    def settle(self, stage: str, doc_id: str) -> bool:  # noqa: ARG002 - for a backend that has something to settle
        """Finish or roll back a change that was interrupted; return whether there was one."""
        return False

    @abstractmethod
    def ids(self, stage: str) -> Iterator[str]:
        """Return the doc ids of a stage, as a stream, in no order, without opening documents."""

    def check(self, record: bytes, parts: Mapping[str, bytes]) -> None:  # noqa: ARG002 - for a backend that cannot
        """Refuse what this backend cannot hold, by `InvalidDocument`; most can hold any bytes."""
        return

    def with_history(self, stage: str) -> Container[str] | None:  # noqa: ARG002 - for a backend that knows
        """Return the doc ids of a stage that have a history, and maybe others; None where that is not known."""
        return None

    @abstractmethod
    def history(self, stage: str, doc_id: str, parts: Collection[str]) -> Iterator[Stored]:
        """Return what `amend` and `replace` have put aside for an id, the latest first."""

    def sweeper(self) -> Sweeper | None:
        """Return what finds and clears away what was left over; None for a backend in which nothing can be."""
        return None

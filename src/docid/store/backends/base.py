"""The backend protocol: atomic operations on whole documents."""

from __future__ import annotations

import errno
import math
from abc import abstractmethod
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from docid.core.document import PART_FILES
from docid.errors import DocidError
from docid.store.backends.claims import Claim, Holder, ProcessClaims

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from docid.core.findings import Finding

T = TypeVar("T")
R = TypeVar("R")

TURNS = 100
"""How often an operation is tried, if other writers or a sweep interfere each time, before it fails."""


_NO_FILES = "this backend keeps no files of docid's own"
_NO_QUARANTINE = "this backend cannot remove documents"


def attempt(function: Callable[[], R]) -> R | Exception:
    """Call a function; return its result, or the error of the document that it is about.

    The error of a document is a `DocidError`, or an `OSError` with an errno. All others are raised: those of a signal
    handler, as for a time limit (a `TimeoutError` of Python code has no errno), and faults in a backend.
    """
    try:
        return function()
    except DocidError as error:
        return error
    except OSError as error:
        if error.errno is None:
            raise
        return error


def join_location(root: str, *names: str) -> str:
    """Return the location below a root: of a stage, or of a stage and a document."""
    return (root if root.endswith("/") else f"{root}/") + "/".join(names)


class Stored(NamedTuple):
    """One version of a stored document: its record, and the requested part files by name."""

    record: bytes
    parts: dict[str, bytes]


class NewDocument(NamedTuple):
    """A document to create: its name, its record, and its part files by name."""

    stage: str
    doc_id: str
    record: bytes
    parts: Mapping[str, bytes]


class InternalFile(NamedTuple):
    """A small file that docid keeps in a store for itself, as `Backend.read_file` found it.

    Attributes:
        data: its bytes.
        version: the e-tag of this version, or whatever the backend compares; None if it compares the bytes.
    """

    data: bytes
    version: object = None


class Removed(NamedTuple):
    """A document in quarantine, or only its history.

    Attributes:
        entry: the directory in quarantine: the time of the removal or repair, and a nonce.
        stage, doc_id: the document.
    """

    entry: str
    stage: str
    doc_id: str


class TracePath(NamedTuple):
    """A file, a directory or an object that may hold a text of a document.

    Attributes:
        stage, doc_id: the document.
        path: its path, relative to the root.
        size: its size in bytes; that of all files below it, if it is a directory.
        has_record: whether it may be a whole document, with the record that names what it was made from.
    """

    stage: str
    doc_id: str
    path: str
    size: int
    has_record: bool = False


class Sweeper(Protocol):
    """Finds and clears files that dead writers left in a backend. Every method is safe while writers are at work.

    Anything changed in the last `stale_after` seconds may belong to a writer, so the sweeper ignores it. It leaves the
    hint of its findings empty; `docid.store.scanning` adds one.
    """

    def leftovers(self, stage: str, stale_after: float) -> Iterator[Finding]:  # noqa: ARG002 - the default finds none
        """Return a finding for each file or directory of a stage that belongs to no document."""
        return iter(())

    @abstractmethod
    def strays(
        self, stage: str, doc_id: str, expected: bytes | None, listed: Collection[str], stale_after: float
    ) -> list[Finding]:
        """Return a finding for each file in a document that is not one of its parts.

        Args:
            stage, doc_id: the document.
            expected: the record that the caller has read. If the document has another record now, return no findings.
                If None, check whether the id is a directory without a record, and report that directory.
            listed: the file names of the document's parts.
            stale_after: age in seconds.
        """

    @abstractmethod
    def is_stale(self, stage: str, doc_id: str, stale_after: float) -> bool:
        """Return whether a document, readable or not, has not changed for `stale_after` seconds."""

    @abstractmethod
    def clear(self, finding: Finding, entry: str, stale_after: float) -> str | None:
        """Carry out the action of a finding, if the finding still holds.

        Args:
            finding: its action is `quarantine` (move the file or directory) or `settle` (finish or roll back a change).
            entry: the name of the directory in quarantine to move to.
            stale_after: age in seconds.

        Returns:
            The new path, relative to the root; empty if no file was moved. None if the finding no longer holds.
        """

    @abstractmethod
    def list_discarded(self, older_than: float, *, history: Collection[str]) -> Iterator[tuple[str, int]]:
        """Yield the path, relative to the root, and the size in bytes of each entry that `discard` may delete.

        These are the entries of quarantine and, for the stages in `history`, replaced versions. Each was moved there
        at least `older_than` seconds ago.
        """

    @abstractmethod
    def discard(self, path: str) -> None:
        """Delete an entry that `list_discarded` returned."""

    def tidy(self, stage: str, stale_after: float) -> int:  # noqa: ARG002 - the default has none
        """Remove lock files not held for `stale_after` seconds, and claims of dead workers; return how many."""
        return 0


class Backend(Protocol):
    """Stores the bytes of documents. The store that calls it checks rules such as lineage and overwriting.

    A document is a record (JSON, as bytes) and part files (bytes by file name: `raw.txt`, `parsed.txt`, `prompt.txt`).
    Reads and writes are atomic: even if other threads and processes change a document at the same time, a method sees
    one whole version of it. The store validates stages and doc ids before it passes them.

    Every method may raise `UnreadableDocument` if the id holds something other than a document, and `StoreUnavailable`
    or an `OSError` with an errno if the storage fails. Any other exception ends an operation on many documents.

    Inherit from this class and implement the abstract methods; the others have defaults that you may improve.

    Attributes:
        root: the text before the stage in every location: a directory, `s3://bucket/prefix`, `memory://`.
        together: how many documents to pass to `create_many` at once. A local backend opens a descriptor for each;
            every system allows 100.
        loads_whole: whether `load` costs the same with all part files as with none. If so, the store always requests
            all of them.
        io_threads: how many threads of one run find documents and take claims. More of them help only if the backend
            waits for a network.
        claim_delay: the longest time in seconds between two tries to take a claim that another worker holds.
    """

    root: str
    together: int = 100
    loads_whole: bool = False
    claim_delay: float = 0.5
    io_threads: int = 1

    def location(self, stage: str, doc_id: str) -> str:
        """Return the location of a document, whether or not it exists; do no I/O."""
        return join_location(self.root, stage, doc_id)

    def path(self, stage: str, doc_id: str) -> Path:
        """Return the location as a path. Unless the backend is a directory, no file is at that path."""
        from pathlib import Path  # noqa: PLC0415 - importing it is a tenth of what importing docid costs

        return Path(self.location(stage, doc_id))

    def each(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Call a function with each item, and yield the results in order.

        A backend over a network makes many calls at once, in threads, and reads `items` that far ahead.
        """
        return map(function, items)

    def exists(self, stage: str, doc_id: str) -> bool:
        """Return whether a document exists; its contents are not checked."""
        return self.load(stage, doc_id) is not None

    def still_exists(self, stage: str, doc_id: str) -> bool:
        """Return whether a document exists that existed a moment ago. docid asks this after each write of a child."""
        return self.exists(stage, doc_id)

    @abstractmethod
    def create(self, stage: str, doc_id: str, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """Store a new document and return True. If the id is taken, change nothing and return False.

        If several callers create one id at the same time, one of them gets True.
        """

    def create_many(self, documents: Sequence[NewDocument]) -> list[bool | Exception]:
        """Create documents; return, in their order, the result of `create` for each, or the error it would raise.

        Each document is atomic on its own, and they become visible in any order. An exception that is neither a
        `DocidError` nor an `OSError` with an errno ends the call: a signal handler raised it. This default calls
        `create` for each; override it if your backend can create many at a lower cost.
        """

        def create(document: NewDocument) -> bool | Exception:
            return attempt(lambda: self.create(*document))

        return list(self.each(create, documents))

    @abstractmethod
    def load(self, stage: str, doc_id: str, parts: Collection[str] = ()) -> Stored | None:
        """Return the record and the part files named in `parts`; None if the document does not exist.

        Missing part files are left out. Part files that the record does not list may be returned; the store ignores
        them.
        """

    def sizes(self, stage: str, doc_id: str, parts: Collection[str]) -> dict[str, int]:
        """Return the sizes in bytes of the part files named in `parts`; missing files are left out.

        This default reads the files; override it if your backend knows their sizes.
        """
        found = self.load(stage, doc_id, parts)
        return {} if found is None else {name: len(data) for name, data in found.parts.items()}

    def listing(self, stage: str, doc_id: str) -> tuple[bytes, dict[str, int]] | None:
        """Return the record, and the sizes in bytes of all other files of the document by name.

        A scan calls this for each document of a stage, so it should be fast. It may return None even if the document
        exists; the caller then calls `load`. If another process changes the document, the sizes may belong to another
        version than the record; a caller that finds a difference calls `load`, too.
        """
        found = self.load(stage, doc_id)
        return None if found is None else (found.record, self.sizes(stage, doc_id, PART_FILES.values()))

    def last_modified(self, stage: str, doc_id: str) -> float | None:  # noqa: ARG002 - the default does not know
        """Return when the raw text was last written, in seconds since 1970 UTC; None if unknown.

        docid uses this time for documents of older systems, whose records have none.
        """
        return None

    @abstractmethod
    def amend(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """Add part files to a document, replace its record and return True. Its other part files stay unchanged.

        The old record goes to history. If the stored record is not `expected`, or the document does not exist, change
        nothing and return False.
        """

    @abstractmethod
    def replace(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        """Replace a document by a new version and return True. The old version goes to history, with its part files.

        If the stored record is not `expected`, or the document does not exist, change nothing and return False.
        """

    def settle(self, stage: str, doc_id: str) -> bool:  # noqa: ARG002 - the default leaves no change half done
        """Finish or roll back an interrupted change; return whether there was one."""
        return False

    @abstractmethod
    def ids(self, stage: str) -> Iterator[str]:
        """Yield the doc ids of a stage, in any order, without opening documents.

        A document that exists throughout the listing is never missed. If it is changed during the listing, its id may
        appear twice.
        """

    def check(self, record: bytes, parts: Mapping[str, bytes]) -> None:  # noqa: ARG002 - the default stores any bytes
        """Raise `InvalidDocument` if this backend cannot store these bytes."""
        return

    def with_history(self, stage: str) -> Container[str] | None:  # noqa: ARG002 - the default does not know
        """Return a container of the doc ids that have a history; it may hold others too. None if unknown."""
        return None

    @abstractmethod
    def history(self, stage: str, doc_id: str, parts: Collection[str]) -> Iterator[Stored]:
        """Yield the versions that `amend` and `replace` moved to history, the latest first.

        Each has the part files named in `parts`, as in `load`. A version before an `amend` may also have the files
        that were added to it.
        """

    def remove(self, stage: str, doc_id: str, expected: bytes, entry: str) -> str | None:  # noqa: ARG002 - the default cannot
        """Move a document and its history to quarantine; return its new path, relative to the root.

        If the stored record is not `expected`, or the document does not exist, change nothing and return None. A reader
        sees the whole document or none.

        Args:
            stage, doc_id: the document.
            expected: its record.
            entry: the name of the directory in quarantine to move to, from `names.entry_name`.

        Raises:
            OSError: it cannot be moved. This default always raises it: override these six methods together.
        """
        raise OSError(errno.ENOTSUP, _NO_QUARANTINE, self.location(stage, doc_id))

    def list_removed(self) -> Iterator[Removed]:
        """Yield the documents in quarantine, in any order."""
        return iter(())

    def load_removed(self, removed: Removed) -> Stored | None:  # noqa: ARG002 - as above
        """Return the record of a document in quarantine, without parts; None if it is not there."""
        return None

    def restore(self, removed: Removed) -> bool:
        """Move a document and its history back from quarantine and return True.

        If it is not there any more, or the store has a document with this id again, change nothing and return False.
        """
        raise OSError(errno.ENOTSUP, _NO_QUARANTINE, self.location(removed.stage, removed.doc_id))

    def list_traces(self, documents: Collection[tuple[str, str]]) -> Iterator[TracePath]:  # noqa: ARG002 - as above
        """Yield whatever may hold a text of one of these documents, each given by stage and doc id, in any order.

        These are its history, its copies in quarantine and its rescue files; not the document itself.
        """
        return iter(())

    def erase_trace(self, trace: TracePath) -> None:
        """Delete a trace that `list_traces` returned, if it exists."""
        raise OSError(errno.ENOTSUP, _NO_QUARANTINE, trace.path)

    def take_claim(self, stage: str, doc_id: str) -> Claim | Holder:
        """Take the claim of a document, or return its holder. Do not wait.

        A claim keeps other workers from making the same document, so that only one of them pays for it. It is advisory:
        writes are correct without it. It ends when it is released and when its process ends, however that happens; the
        claim of a dead worker must become free by itself. This default knows the threads of this process only.

        Raises:
            OSError: the storage cannot be written. So a worker learns this before it pays for a text.
        """
        return self._process_claims().take(stage, doc_id)

    def find_most_claims(self) -> float:
        """Return how many claims this process can hold at once."""
        return math.inf

    def has_room_for_claim(self) -> bool:
        """Return whether this process can hold one more claim now."""
        return True

    def list_claims(self, stage: str) -> Iterator[tuple[str, Holder]]:
        """Yield the doc ids that workers have claimed, each with its holder."""
        return self._process_claims().list(stage)

    def _process_claims(self) -> ProcessClaims:
        found: ProcessClaims | None = self.__dict__.get("_claims")
        return self.__dict__.setdefault("_claims", ProcessClaims()) if found is None else found

    def probe(self, stage: str, doc_id: str, *, replaces: bool) -> None:  # noqa: ARG002 - the default knows nothing
        """Raise the error that a write of this document would raise, as far as that can be known before.

        docid calls it before a model is paid for the text. It may write temporary files.

        Args:
            stage, doc_id: the document.
            replaces: whether the write replaces a stored document.
        """
        return

    def sweeper(self) -> Sweeper | None:
        """Return the sweeper of this backend; None if writers leave nothing to clear."""
        return None

    def directories(self) -> Collection[str]:
        """Return the names below the root that may be stages, in any order; empty if they are unknown."""
        return ()

    def read_file(self, name: str) -> InternalFile | None:  # noqa: ARG002 - the default keeps no files
        """Return a small file below `.docid/`; None if it does not exist.

        Args:
            name: its path there, with `/` between names: `store.json`. The names of documents are not among them.
        """
        return None

    def swap_file(self, name: str, expected: InternalFile | None, data: bytes) -> bool:  # noqa: ARG002 - as above
        """Write a small file below `.docid/` and return True, if it is still the expected version.

        A reader sees the old file or the new one. Of several callers that expect the same version, one gets True; a
        caller whose data another one writes at that moment may get True, too.

        Args:
            name: as for `read_file`.
            expected: what `read_file` returned; None if the file must not exist.
            data: the new bytes.

        Raises:
            OSError: the file cannot be written. This default always raises it: override these five methods together.
        """
        raise OSError(errno.ENOTSUP, _NO_FILES, name)

    def write_file(self, name: str, data: bytes, *, is_private: bool = False) -> None:  # noqa: ARG002 - as above
        """Write a small file below `.docid/`, over an existing one. A reader sees the old file or the new one.

        Args:
            name, data: as for `swap_file`.
            is_private: let no other user read it, where files have modes.

        Raises:
            OSError: the file cannot be written.
        """
        raise OSError(errno.ENOTSUP, _NO_FILES, name)

    def list_files(self, directory: str) -> Iterator[tuple[str, float]]:  # noqa: ARG002 - as above
        """Yield the names of the files directly below `.docid/<directory>/`, in any order.

        Each has the time of its last change, in seconds since 1970 UTC.
        """
        return iter(())

    def remove_file(self, name: str) -> None:
        """Delete a small file below `.docid/`, if it exists.

        Raises:
            OSError: it cannot be deleted.
        """
        raise OSError(errno.ENOTSUP, _NO_FILES, name)

"""The manifest of a store, `<root>/.docid/store.json`: its stages and their parents.

    {"format": "docid/store/1", "stages": {"draft": null, "essay": "draft"}}

Each writer adds its own stages by a compare-and-swap, so the manifest only grows. It has one parent for each stage.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson

from docid.core.ids import check_stage
from docid.core.stages import DEFAULT_STAGES, Stages
from docid.errors import InvalidName, StagesConflict, StoreUnavailable, UnreadableDocument, UnreadableManifest
from docid.store.backends.base import TURNS, join_location
from docid.store.backends.names import INTERNAL
from docid.store.stored import exists

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docid.store.backends.base import Backend, InternalFile

FILE = "store.json"
FORMAT = "docid/store/1"
_LAYOUT = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
_SAMPLE = 20  # ids of a directory that are examined to find out whether it holds documents


class Manifest:
    """The manifest of one `DocsStore`: read when it is first needed, and extended at the first write.

    This object keeps what it has read, also when it is pickled for a worker process.

    Args:
        backend: the backend of the store.
        given: the stages that `DocsStore` was given, or None; they take precedence over the manifest.

    Example:
        >>> from docid import DocsStore, Stages
        >>> from docid.backends import MemoryBackend
        >>> backend = MemoryBackend()
        >>> DocsStore(backend, stages=Stages.chain("outline", "chapter")).manifest.declare()
        Stages({'outline': None, 'chapter': 'outline'})
        >>> DocsStore(backend).stages.parent_of("chapter")
        'outline'
    """

    def __init__(self, backend: Backend, given: Stages | None) -> None:
        self._backend = backend
        self.given = given
        self._is_read = self._is_recorded = False
        self._file: InternalFile | None = None
        self._known: Stages | None = None
        self._lock = threading.RLock()  # a signal handler may use the store, too

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    @property
    def location(self) -> str:
        """The location of the file, whether or not it exists."""
        return join_location(self._backend.root, INTERNAL, FILE)

    @property
    def stages(self) -> Stages:
        """The stages of the store: those given, else those of the manifest, else the default ones. Raises as `read`."""
        return self.given or self.read() or DEFAULT_STAGES

    def peek(self) -> Stages | None:
        """Return the stages of the store without reading the manifest; None if they are not known yet."""
        return self.given or ((self._known or DEFAULT_STAGES) if self._is_read else None)

    def read(self) -> Stages | None:
        """Return the stages in the manifest when this object first read it; None if there was no manifest.

        Raises:
            UnreadableManifest: it is not a manifest, or a later release wrote it.
            OSError: it cannot be read.
        """
        if not self._is_read:
            with self._lock:
                self._load()
        return self._known

    def check(self, stages: Stages | None = None) -> Stages:
        """Return the union of the manifest and `stages` (default: those of the store), without writing it.

        Raises:
            StagesConflict: the manifest has another parent for one of the stages.
            UnreadableManifest, OSError: as for `read`.
        """
        self.read()
        return self._add(stages or self.stages)

    def unite(self, stages: Stages) -> Stages:
        """Return the stages that the store has once `stages` are added; write nothing. Those given to it stay alone.

        Raises:
            StagesConflict: the manifest, or the stages given to the store, have another parent for one of the stages.
            UnreadableManifest, OSError: as for `read`, if the store was given no stages.
        """
        if self.given is None:
            return self.check(stages)
        with _ignore_failures():
            self.check(stages)
        _unite(self.given, stages, self.location)
        return self.given

    def declare(self, stages: Stages | None = None, *, overwrite_damaged: bool = False) -> Stages:
        """Add `stages` (default: those of the store) to the manifest; return all that it has then.

        This is atomic, and durable if the store is. It writes nothing if the manifest has them already.

        Args:
            stages: the stages to add.
            overwrite_damaged: write a new manifest if the old one is damaged.

        Raises:
            StagesConflict: the manifest has another parent for one of the stages.
            UnreadableManifest: it is damaged, or a later release wrote it.
            OSError: it cannot be read or written.
        """
        with self._lock:
            # Another writer may be first: then add these stages to its own, and not what it has declared.
            added = stages
            for _ in range(TURNS):
                try:
                    added = added or self.stages
                    known = self._load()
                except UnreadableManifest as error:
                    if error.is_later or not overwrite_damaged:
                        raise
                    added, known = added or DEFAULT_STAGES, None
                united = self._add(added)
                if united == known or self._backend.swap_file(FILE, self._file, _format(self._file, united)):
                    self._known, self._is_read = united, True
                    return united
                self._is_read = False  # another writer was first
            raise OSError(errno.EBUSY, "other writers change the manifest all the time; try again", self.location)

    def record(self, stages: Stages | None = None) -> None:
        """Call `declare` once, before a write. Ignore all errors but `StagesConflict`: the document matters more.

        The next process tries again.
        """
        if not self._is_recorded:
            with _ignore_failures():
                self.declare(stages)
            self._is_recorded = stages is None

    def refuse_conflict(self) -> None:
        """Raise `StagesConflict` if `record` would, before documents are taken from a caller."""
        if not self._is_recorded:
            with _ignore_failures():
                self.check()

    def _load(self) -> Stages | None:
        """Read the file unless that was done; return its stages. Needs the lock."""
        if not self._is_read:
            self._known = None
            self._file = self._backend.read_file(FILE)
            self._known = None if self._file is None else _parse(self._file.data, self.location)
            self._is_read = True
        return self._known

    def _add(self, stages: Stages) -> Stages:
        """Return the union of the known manifest and `stages`."""
        try:
            return _unite(self._known, stages, self.location)
        except StagesConflict:
            self._is_read = False  # the caller may correct the file and try again
            raise


def _unite(known: Stages | None, added: Stages, location: str) -> Stages:
    """Return the union of stages; raise StagesConflict if they have different parents for one stage."""
    parents = {} if known is None else _list_parents(known)
    for stage, parent in _list_parents(added).items():
        if parents.setdefault(stage, parent) != parent:
            raise StagesConflict(location, stage, parents[stage], parent)
    return Stages(parents)


def find_undeclared(backend: Backend, declared: Stages) -> list[str]:
    """Return the other directories of a store that hold documents, sorted.

    Only the first few names in a directory are examined. In a bucket, this takes a few requests for each directory.
    """
    names = (name for name in backend.directories() if name not in declared and _is_stage(name))
    return sorted(name for name in names if _has_documents(backend, name))


def _has_documents(backend: Backend, stage: str) -> bool:
    try:
        return any(exists(backend, stage, doc_id) for doc_id in islice(backend.ids(stage), _SAMPLE))
    except PermissionError:  # the directory of another user
        return False


def _is_stage(name: str) -> bool:
    try:
        check_stage(name)
    except InvalidName:
        return False
    return True


def _list_parents(stages: Stages) -> dict[str, str | None]:
    return {stage: stages.parent_of(stage) for stage in stages}


def _parse(data: bytes, location: str) -> Stages:
    """Return the stages in a manifest. The order of its keys does not matter."""
    try:
        fields = orjson.loads(data)
        format_ = fields.get("format") if isinstance(fields, dict) else None
        if isinstance(format_, str) and format_ != FORMAT and format_.startswith(FORMAT.rstrip("1")):
            raise UnreadableManifest(location, f"its format is {format_}", is_later=True)
        if format_ != FORMAT:
            raise ValueError(f"expected a JSON object with the format {FORMAT!r}")  # noqa: TRY301 - one place adds the location
        waiting = dict(fields["stages"])
        ordered: dict[str, Any] = {}
        # A tool may have sorted the keys, but `Stages` takes parents first.
        while stage := next((each for each, parent in waiting.items() if parent is None or parent in ordered), None):
            ordered[stage] = waiting.pop(stage)
        return Stages(ordered | waiting)
    except (ValueError, TypeError, KeyError) as error:
        raise UnreadableManifest(location, f"{type(error).__name__}: {error}") from None


def _format(file: InternalFile | None, stages: Stages) -> bytes:
    """Return the bytes of a manifest; keep the other keys of the file that it replaces."""
    fields = None
    with contextlib.suppress(orjson.JSONDecodeError):
        fields = None if file is None else orjson.loads(file.data)
    others = fields if isinstance(fields, dict) else {}
    return orjson.dumps({**others, "format": FORMAT, "stages": _list_parents(stages)}, option=_LAYOUT)


@contextlib.contextmanager
def _ignore_failures() -> Iterator[None]:
    """Ignore a manifest that is unreadable, and the errors of its backend."""
    try:
        yield
    except UnreadableManifest:
        pass
    except (OSError, UnreadableDocument) as error:
        # Without a number it is of a signal handler, such as the TimeoutError of a time limit.
        if isinstance(error, OSError) and error.errno is None and not isinstance(error, StoreUnavailable):
            raise

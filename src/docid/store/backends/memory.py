"""The memory backend: for tests and notebooks, and the reference for other backends."""

# ruff: noqa: D102 - the docstrings are those of `Backend`, which help() shows
from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, cast

from docid.store.backends.base import Backend, InternalFile, Removed, Stored, TracePath
from docid.store.backends.names import HISTORY, QUARANTINE, RESCUED, parse_rescue_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping


class MemoryBackend(Backend):
    """A backend in the memory of this process. Stores with the same `MemoryBackend` share its documents.

    It is safe to use from several threads. It does not pickle, because another process would get a copy.

    Example:
        >>> from docid import DocsStore
        >>> DocsStore(MemoryBackend()).exists("draft", "a1")
        False
    """

    root = "memory://"

    def __init__(self) -> None:
        self._documents: dict[str, dict[str, Stored]] = {}
        self._history: dict[tuple[str, str], list[Stored]] = {}
        self._removed: dict[Removed, list[Stored]] = {}  # the history of each, then the document itself
        self._files: dict[str, InternalFile] = {}
        self._lock = threading.RLock()  # a signal handler may use the store, too

    def __repr__(self) -> str:
        return f"MemoryBackend({sum(map(len, self._documents.values()))} documents)"

    def __reduce__(self) -> str:
        raise TypeError("a MemoryBackend lives in one process and cannot be pickled; use a local directory")

    def create(self, stage: str, doc_id: str, record: bytes, parts: Mapping[str, bytes]) -> bool:
        with self._lock:
            documents = self._documents.setdefault(stage, {})
            if doc_id in documents:
                return False
            documents[doc_id] = Stored(record, dict(parts))
            return True

    def load(self, stage: str, doc_id: str, parts: Collection[str] = ()) -> Stored | None:
        found = self._documents.get(stage, {}).get(doc_id)
        if found is None:
            return None
        return Stored(found.record, {name: found.parts[name] for name in parts if name in found.parts})

    def amend(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        return self._swap(stage, doc_id, expected, record, parts, keep=True)

    def replace(self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes]) -> bool:
        return self._swap(stage, doc_id, expected, record, parts, keep=False)

    def ids(self, stage: str) -> Iterator[str]:
        with self._lock:
            names = list(self._documents.get(stage, ()))
        yield from names

    def history(self, stage: str, doc_id: str, parts: Collection[str]) -> Iterator[Stored]:
        for old in reversed(self._history.get((stage, doc_id), [])):
            yield Stored(old.record, {name: old.parts[name] for name in parts if name in old.parts})

    def _swap(
        self, stage: str, doc_id: str, expected: bytes, record: bytes, parts: Mapping[str, bytes], *, keep: bool
    ) -> bool:
        with self._lock:
            found = self._documents.get(stage, {}).get(doc_id)
            if found is None or found.record != expected:
                return False
            self._history.setdefault((stage, doc_id), []).append(found)
            self._documents[stage][doc_id] = Stored(record, {**(found.parts if keep else {}), **parts})
            return True

    def remove(self, stage: str, doc_id: str, expected: bytes, entry: str) -> str | None:
        with self._lock:
            found = self._documents.get(stage, {}).get(doc_id)
            if found is None or found.record != expected:
                return None
            del self._documents[stage][doc_id]
            removed = Removed(entry, stage, doc_id)
            self._removed[removed] = [*self._history.pop((stage, doc_id), []), found]
            return "/".join((*QUARANTINE, *removed))

    def list_removed(self) -> Iterator[Removed]:
        with self._lock:
            return iter(list(self._removed))

    def load_removed(self, removed: Removed) -> Stored | None:
        versions = self._removed.get(removed)
        return None if versions is None else versions[-1]._replace(parts={})

    def restore(self, removed: Removed) -> bool:
        _, stage, doc_id = removed
        with self._lock:
            documents = self._documents.setdefault(stage, {})
            if removed not in self._removed or doc_id in documents:
                return False
            *history, documents[doc_id] = self._removed.pop(removed)
            if history:
                self._history[stage, doc_id] = history
            return True

    def list_traces(self, documents: Collection[tuple[str, str]]) -> Iterator[TracePath]:
        with self._lock:
            found = [(each[1:], (*QUARANTINE, *each), versions) for each, versions in self._removed.items()]
            found += [(name, ("", *HISTORY, *name), versions) for name, versions in self._history.items()]
            traces = [
                TracePath(*name, "/".join(filter(None, path)), sum(map(_measure, versions)), bool(path[0]))
                for name, path, versions in found
                if name in documents
            ]
            for name, file in self._files.items():
                above, _, last = name.rpartition("/")
                stage, doc_id = above.removeprefix(f"{RESCUED[1]}/"), parse_rescue_name(last)
                if above == f"{RESCUED[1]}/{stage}" and doc_id is not None and (stage, doc_id) in documents:
                    traces.append(TracePath(stage, doc_id, f"{RESCUED[0]}/{name}", len(file.data)))
        return iter(traces)

    def erase_trace(self, trace: TracePath) -> None:
        names = trace.path.split("/")
        with self._lock:
            if tuple(names[:2]) == QUARANTINE:
                self._removed.pop(Removed(*names[2:]), None)
            elif tuple(names[:2]) == HISTORY:
                self._history.pop((trace.stage, trace.doc_id), None)
            else:
                self._files.pop("/".join(names[1:]), None)

    def directories(self) -> Collection[str]:
        return list(self._documents)

    def read_file(self, name: str) -> InternalFile | None:
        return self._files.get(name)

    def swap_file(self, name: str, expected: InternalFile | None, data: bytes) -> bool:
        with self._lock:
            if self._files.get(name) != expected:
                return False
            self._files[name] = InternalFile(data, time.time())
            return True

    def write_file(self, name: str, data: bytes, *, is_private: bool = False) -> None:  # noqa: ARG002 - of one process
        with self._lock:
            self._files[name] = InternalFile(data, time.time())

    def list_files(self, directory: str) -> Iterator[tuple[str, float]]:
        with self._lock:
            found = [(name.rpartition("/"), file.version) for name, file in self._files.items()]
        return ((name, cast("float", time)) for (above, _, name), time in found if above == directory)

    def remove_file(self, name: str) -> None:
        with self._lock:
            self._files.pop(name, None)


def _measure(version: Stored) -> int:
    """Return the size of a version in bytes."""
    return len(version.record) + sum(map(len, version.parts.values()))

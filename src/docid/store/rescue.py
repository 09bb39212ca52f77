"""Rescue files: replies that were paid for and could not be stored.

A rescue file is `<root>/.docid/rescued/<stage>/<doc_id>-<time>-<nonce>.json`. If it cannot be written there, it goes to
a directory of this user: `$DOCID_RESCUE_DIR`, or `docid/rescued` in the user's state directory (XDG Base Directory
Specification).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from attrs import asdict, frozen

from docid._text import quote
from docid.core.document import Document, Reply, timestamp
from docid.core.metadata import convert_metadata
from docid.core.record import NOTES, parse_pins
from docid.errors import InvalidDocument, describe_error
from docid.store.backends.base import join_location
from docid.store.backends.local.backend import LocalBackend
from docid.store.backends.names import INTERNAL, RESCUED, entry_name, parse_rescue_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docid.core.document import TaskLike
    from docid.core.lineage_rules import Pins
    from docid.core.outcomes import WriteResult
    from docid.store.backends.base import Backend

FORMAT = "docid/rescued/1"
_DIRECTORY = RESCUED[1]
_DEPTH = 200  # levels of nested values; the standard library can write a few hundred
_REPR = 1_000_000  # characters of an object that JSON cannot hold


@frozen(repr=False, eq=False)
class RescuedReply:
    """A reply that was paid for and could not be stored.

    Attributes:
        stage, doc_id, task_id, parent_doc_id, inputs, run_id: the document that it was made for.
        pins: the versions of its parent and inputs; see `Document`.
        name: the name of the rescue file without `.json`, which is unique.
        location: the rescue file.
        saved_at: when docid saved it, in ISO 8601 UTC.
        problem: why the reply could not be stored.
        reply: the reply. If `make` returned an object that is not a reply, its `raw_text` is empty and the object is in
            the file.
        is_waiting: whether its document does not exist, so that `ensure` raises `ReplyRescued` until you decide.

    Example:
        >>> from docid import DocsStore, DraftTask, Reply
        >>> store = DocsStore("memory://")
        >>> row = DraftTask(task_id="t-1", doc_id="d1")
        >>> try:
        ...     store.ensure(row, lambda row: Reply("a paid text", metadata={"tags": {"sea"}}))
        ... except ValueError as error:
        ...     print(error)
        metadata.tags: {'sea'} of type set; expected sorted(value), a list
        >>> for rescued in store.list_rescued():
        ...     print(rescued.stage, rescued.doc_id, rescued.reply.raw_text, rescued.adopt().outcome)
        draft d1 a paid text created
    """

    stage: str
    doc_id: str
    task_id: str | None
    parent_doc_id: str | None
    run_id: str | None
    name: str
    location: str
    saved_at: str
    problem: str
    reply: Reply
    is_waiting: bool
    inputs: tuple[str, ...]
    pins: Pins
    _id_from: tuple[str | None, str | None]
    _notes: dict[str, Any]
    _write: Callable[[Document, dict[str, Any]], WriteResult]
    _delete: Callable[[], None]

    def __repr__(self) -> str:
        return f"<RescuedReply {self.stage}/{self.doc_id} at {self.location}: {self.problem}>"

    def adopt(self) -> WriteResult:
        """Store the reply as its document, then delete the file.

        Raises:
            ContentConflict: the document exists with other text.
            InvalidDocument: the reply cannot be stored as it is: edit `raw_text` or `metadata` in the file first.
            MissingParent, LineageConflict, OSError: as for `DocsStore.write`.
        """
        reply = self.reply
        if not isinstance(reply.raw_text, str) or not reply.raw_text:
            raise InvalidDocument("raw_text", f"empty; edit it in {self.location}, or discard this reply")
        document = Document(
            stage=self.stage,
            doc_id=self.doc_id,
            task_id=self.task_id,
            parent_doc_id=self.parent_doc_id,
            run_id=self.run_id,
            raw_text=reply.raw_text,
            parsed_text=reply.parsed_text,
            prompt_text=reply.prompt_text,
            metadata=reply.metadata or {},
            created_at=reply.created_at or datetime.now(UTC),
            inputs=self.inputs,
            pins=self.pins,
            id_from=self._id_from,
        )
        result = self._write(document, self._notes)
        self._delete()
        return result

    def discard(self) -> None:
        """Delete the file. The next `ensure` of its row calls `make` again."""
        self._delete()


class RescuedLineage(NamedTuple):
    """The document that a rescued reply was made for, and the names of its parent and inputs."""

    stage: str
    doc_id: str
    parent_doc_id: str | None
    inputs: tuple[str, ...]


@frozen
class Rescue:
    """The rescue files of a store.

    Attributes:
        backend: that of the store.
    """

    backend: Backend

    @property
    def own(self) -> LocalBackend:
        """The directory of this user for the files of this store, which the environment may change."""
        return _open_own(_find_own_directory(), self.backend.root)

    def save(
        self,
        row: TaskLike,
        run_id: str | None,
        made: object,
        notes: dict[str, Any],
        problem: object,
        *,
        own: bool = False,
    ) -> str:
        """Save what `make` returned for a row; return the location of the file.

        With `own`, save it in the user's directory and not in the store.

        Raises:
            OSError: the store, or the user's directory, cannot be written.
        """
        fields = {
            "format": FORMAT,
            "stage": str(row.stage),
            "doc_id": str(row.doc_id),
            "task_id": row.task_id,
            "parent_doc_id": row.parent_doc_id,
            "run_id": run_id,
            "doc_run_id": row.doc_run_id,
            "doc_salt": getattr(row, "doc_salt", None),
            "saved_at": timestamp(datetime.now(UTC)),
            "problem": describe_error(problem) if isinstance(problem, BaseException) else str(problem),
            "docid": notes,
            "reply": _describe(made),
        }
        # The standard library writes lone surrogates, which orjson refuses.
        data = json.dumps(_make_plain(fields), indent=2).encode("ascii")
        name = f"{_DIRECTORY}/{row.stage}/{row.doc_id}-{entry_name(())}.json"
        backend = self.own if own else self.backend
        backend.write_file(name, data, is_private=True)
        return _locate(backend, name)

    def find(self, stage: str, doc_id: str) -> list[str]:
        """Return the locations of the files of a document, the latest first."""
        found = [
            (name, _locate(backend, f"{_DIRECTORY}/{stage}/{name}"))
            for backend, name, its_id in self._list(stage)
            if its_id == doc_id
        ]
        return [location for _, location in sorted(found, reverse=True)]

    def list(
        self, stage: str, exists: Callable[[str], bool], write: Callable[[Document, dict[str, Any]], WriteResult]
    ) -> Iterator[RescuedReply]:
        """Yield the rescued replies of a stage by doc id and time. See `DocsStore.list_rescued`."""
        for backend, file, doc_id in sorted(self._list(stage), key=lambda each: each[1]):
            name = f"{_DIRECTORY}/{stage}/{file}"
            if (fields := _load(backend, name)) is None:
                continue
            reply, notes = fields.get("reply"), _read_notes(fields)
            pins = parse_pins(notes, fields.get("parent_doc_id"))
            yield RescuedReply(
                stage,
                doc_id,
                fields.get("task_id"),
                fields.get("parent_doc_id"),
                fields.get("run_id"),
                file.removesuffix(".json"),
                _locate(backend, name),
                str(fields.get("saved_at", "")),
                str(fields.get("problem", "")),
                _read_reply(reply if isinstance(reply, dict) else {}),
                not exists(doc_id),
                tuple(name for name in pins if "/" in name),
                pins,
                (fields.get("doc_run_id"), fields.get("doc_salt")),
                notes,
                write,
                partial(backend.remove_file, name),
            )

    def list_lineages(self, stage: str) -> Iterator[RescuedLineage]:
        """Yield the documents of a stage for which there are rescue files, with the names of their sources."""
        for backend, file, doc_id in self._list(stage):
            if (fields := _load(backend, f"{_DIRECTORY}/{stage}/{file}")) is not None:
                parent_doc_id = fields.get("parent_doc_id")
                pins = parse_pins(_read_notes(fields), parent_doc_id)
                yield RescuedLineage(stage, doc_id, parent_doc_id, tuple(name for name in pins if "/" in name))

    def _list(self, stage: str) -> Iterator[tuple[Backend, str, str]]:
        """Yield the files of a stage: the backend that holds each, its name, and its doc id."""
        for backend in (self.backend, self.own):
            for name, _ in backend.list_files(f"{_DIRECTORY}/{stage}"):
                if (doc_id := parse_rescue_name(name)) is not None:
                    yield backend, name, doc_id


@lru_cache(8)
def _open_own(directory: str, root: str) -> LocalBackend:
    """Return the backend in a user's directory for the store at a root."""
    label = re.sub(r"[^A-Za-z0-9.-]+", "-", root.rstrip("/").rpartition("/")[2]).strip(".-")[:40]
    return LocalBackend(os.path.join(directory, f"{label or 'store'}-{sha256(os.fsencode(root)).hexdigest()[:12]}"))


def _locate(backend: Backend, name: str) -> str:
    return join_location(backend.root, INTERNAL, name)


def _find_own_directory() -> str:
    """Return the directory of this user for rescue files."""
    if given := os.environ.get("DOCID_RESCUE_DIR"):
        return given
    if sys.platform == "win32":  # pragma: no cover  - tested on Linux
        state = os.environ.get("LOCALAPPDATA") or os.path.join("~", "AppData", "Local")
    else:
        state = os.environ.get("XDG_STATE_HOME") or os.path.join("~", ".local", "state")
    path = os.path.expanduser(state)
    if path.startswith("~"):  # a user without a home, as in some containers
        from tempfile import gettempdir  # noqa: PLC0415 - rarely needed; keeps `import docid` fast

        path = gettempdir()
    return os.path.join(path, "docid", _DIRECTORY)


def _describe(made: object) -> dict[str, Any]:
    """Return the fields of a reply, or of whatever `make` returned."""
    if isinstance(made, Reply):
        return asdict(made, recurse=False)
    return {**asdict(Reply("")), "object": made}


def _load(backend: Backend, name: str) -> dict[str, Any] | None:
    """Return the fields of a rescue file; None if it is gone."""
    try:
        found = backend.read_file(name)
    except PermissionError as error:  # another user's: the others of the stage are listed all the same
        return {"problem": f"the rescue file cannot be read: {error.strerror}"}
    return None if found is None else _read_fields(found.data)


def _read_notes(fields: dict[str, Any]) -> dict[str, Any]:
    notes = fields.get("docid")
    return {key: notes[key] for key in NOTES if key in notes} if isinstance(notes, dict) else {}


def _read_fields(data: bytes) -> dict[str, Any]:
    """Return the fields of a rescue file, which a person may have edited."""
    try:
        found = json.loads(data)
        problem = f"expected a JSON object with the format {FORMAT}"
    except (ValueError, RecursionError) as error:
        found, problem = None, str(error)
    if isinstance(found, dict) and found.get("format") == FORMAT:
        return found
    return {"problem": f"the rescue file cannot be read: {problem}"}


def _read_reply(fields: dict[str, Any]) -> Reply:
    created_at = None
    with contextlib.suppress(TypeError, ValueError):
        created_at = datetime.fromisoformat(fields.get("created_at") or "")
    return Reply(
        fields.get("raw_text") or "",
        parsed_text=fields.get("parsed_text"),
        prompt_text=fields.get("prompt_text"),
        metadata=fields.get("metadata"),
        created_at=created_at,
    )


def _make_plain(value: Any, above: tuple[int, ...] = ()) -> Any:
    """Return a value that the standard library can write as JSON; other objects as their type and repr.

    `above` has the ids of the values that contain this one: a value that contains itself would never end.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if len(above) < _DEPTH and id(value) not in above:
        inside = (*above, id(value))
        if isinstance(value, Mapping):
            return {str(key): _make_plain(each, inside) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [_make_plain(each, inside) for each in value]
        with contextlib.suppress(Exception):
            return convert_metadata({"value": value})["value"]
    try:
        shown = quote(value, _REPR)
    except Exception as error:  # noqa: BLE001 - of the object's own repr
        shown = f"repr failed: {type(error).__name__}"
    return {"type": type(value).__name__, "repr": shown}

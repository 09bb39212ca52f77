"""What a document is: a frozen value, and the record that stands beside its texts. Pure, without I/O.

The record is the file `metadata.json`, format `docid/document/1` (specified in `docs/formats.md`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import orjson
from attrs import field, frozen

from docid._text import shown, visible
from docid.core.ids import check_doc_id, check_stage, check_text, plain
from docid.core.task import reserved_id
from docid.errors import InvalidDocument

if TYPE_CHECKING:
    from pathlib import Path

    from docid.core.stages import Stages
    from docid.core.task import TaskLike

__all__ = ["Document"]

FORMAT = "docid/document/1"
RECORD_FILE = "metadata.json"

PART_FILES = {"raw": "raw.txt", "parsed": "parsed.txt", "prompt": "prompt.txt"}
"""The file of each part of a document. `raw` is always there, the others where there is one."""

OUR_KEYS = ("format", "stage", "doc_id", "task_id", "parent_doc_id", "run_id", "created_at", "files", "docid")
"""The top-level keys of a record that are not the caller's, for ever; whatever comes later goes under `docid`."""


_PLAIN = frozenset({str, bool, int, type(None)})
_NAME_SHOWN = 150  # characters of another document's name, in a message
DEPTH = 250  # levels of lists and dicts; orjson writes 254


def check_content(text: str, argument: str) -> str:
    """Return `text` if it may be stored: anything that UTF-8 can hold.

    Raises:
        InvalidDocument: it has a lone surrogate.
        TypeError: it is no `str`.
    """
    if not isinstance(text, str):
        raise TypeError(f"{argument}: expected a str, got {type(text).__name__}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidDocument(
                argument,
                f"character {error.start} is the lone surrogate U+{ord(text[error.start]):04X}, which UTF-8 "
                f"cannot hold; expected text without any",
            ) from None
    return plain(text)


# One converter a field, each with its type: type checkers read the constructor's signature off them.


def _stage(value: str) -> str:
    return check_stage(value)


def _doc_id(value: str) -> str:
    return check_doc_id(value)


def _task_id(value: str | None) -> str:
    return check_text(cast("str", value), "task_id")


def _parent_doc_id(value: str | None) -> str | None:
    return None if value is None else check_doc_id(value, "parent_doc_id")


def _run_id(value: str | None) -> str | None:
    return None if value is None else check_text(value, "run_id")


def _raw_text(value: str) -> str:
    return check_content(value, "raw_text")


def _parsed_text(value: str | None) -> str | None:
    return None if value is None else check_content(value, "parsed_text")


def _prompt_text(value: str | None) -> str | None:
    return None if value is None else check_content(value, "prompt_text")


def _moment(value: datetime) -> datetime:
    if type(value) is datetime and value.tzinfo is UTC:
        return value
    if not isinstance(value, datetime):
        raise TypeError(f"created_at: expected a datetime, got {type(value).__name__}")
    if value.tzinfo is None:
        raise InvalidDocument("created_at", f"{value.isoformat()} has no time zone; expected one, such as UTC")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidDocument("created_at", f"{value.isoformat()} is in no year from 1 to 9999 in UTC") from None


def _json_object(value: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"metadata: expected a mapping, got {type(value).__name__}")
    copied = dict(value)
    if all(type(key) is str and type(each) in _PLAIN for key, each in copied.items()):
        # What most metadata is: it comes back equal if it can be written at all.
        try:
            orjson.dumps(copied)
        except TypeError:
            raise InvalidDocument(*_first_fault("metadata", copied)) from None
        return copied
    copy = _as_json(copied)
    if copy is None or copy[0] != copied or is_too_deep(copied):
        raise InvalidDocument(*_first_fault("metadata", copied))
    return cast("dict[str, Any]", copy[0])


def is_too_deep(value: Any, depth: int = DEPTH) -> bool:
    """Return whether lists and dicts stand in each other deeper than this: than a record may have them."""
    level = [value]
    for _ in range(depth):
        children = (child for each in level for child in (each.values() if isinstance(each, dict) else each))
        # Each once: what holds itself would double with every level.
        level = list({id(child): child for child in children if isinstance(child, (dict, list))}.values())
        if not level:
            return False
    return True


def shallow(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return metadata as the standard library can write it: of what an older record nests too deeply, that."""
    if not is_too_deep(metadata):
        return metadata
    return {key: f"(more than {DEPTH} deep)" if is_too_deep(each) else each for key, each in metadata.items()}


def _as_json(value: Any) -> tuple[Any] | None:
    """Return a 1-tuple of `value` as it comes back from JSON; None where JSON cannot hold it at all."""
    try:
        return (orjson.loads(orjson.dumps(value)),)
    except (TypeError, ValueError):
        return None


def _first_fault(path: str, value: Any) -> tuple[str, str]:
    """Return the path to what JSON does not give back equal in `value`, and what is wrong with it."""
    if is_too_deep(value):
        return path, f"lists and dicts more than {DEPTH} deep; expected less"
    while True:
        children: list[tuple[str, Any]] = []
        if isinstance(value, dict):
            for key in value:
                if type(key) is not str or _as_json(key) is None:
                    return path, f"the key {shown(key)}; expected keys of text"
            children = [(f"{path}.{key}", child) for key, child in value.items()]
        elif isinstance(value, list):
            children = [(f"{path}[{position}]", child) for position, child in enumerate(value)]
        for place, child in children:
            copy = _as_json(child)
            if copy is None or copy[0] != child:
                path, value = place, child
                break
        else:
            return path, (
                f"{shown(value)} of type {type(value).__name__} does not come back equal from JSON; expected text, "
                f"finite numbers (integers of 64 bits), booleans, None, and lists and dicts of these"
            )


@frozen(kw_only=True, repr=False)
class Document:
    r"""A document of a pipeline: its name, its lineage and its texts. A frozen value, compared by value.

    Texts are kept as they are: no strip, no newline change. Everything is checked when the value is made, so
    that a store has nothing left to refuse but what it already holds.

    Attributes:
        stage: the stage that made it.
        doc_id: its name, unique in its stage.
        task_id: the task it answers; None only where it was read from a record of an older system without one.
        raw_text: what the model wrote, whole.
        parent_doc_id: the document of the parent stage that it was made from; None where there is none.
        parsed_text: what was parsed out of the raw text; None where nothing was.
        prompt_text: what the model was sent; None where it was not kept.
        run_id: the run that made it, if it is to be known; not part of the lineage.
        metadata: the caller's own keys, a JSON object; a copy is taken. A key of docid's own record may be
            repeated with the same value and is dropped.
        created_at: when it was made, with a time zone (kept as UTC, microseconds); now if not given. None only
            where it was read from a record of an older system.

    Raises:
        InvalidName: a stage, doc id, task id or run id that may not be one (a `ValueError`).
        InvalidDocument: text with a lone surrogate; metadata that JSON does not give back equal, or that has a
            key of docid's own with another value; a time without zone (a `ValueError`).
        TypeError: a value of the wrong type.

    Example:
        >>> document = Document(stage="draft", doc_id="a1", task_id="t-1", raw_text="Once upon a time\n")
        >>> document.raw_text, document.parsed_text, document.metadata
        ('Once upon a time\n', None, {})
    """

    stage: str = field(converter=_stage)
    doc_id: str = field(converter=_doc_id)
    task_id: str | None = field(converter=_task_id)
    raw_text: str = field(converter=_raw_text)
    parent_doc_id: str | None = field(default=None, converter=_parent_doc_id)
    parsed_text: str | None = field(default=None, converter=_parsed_text)
    prompt_text: str | None = field(default=None, converter=_prompt_text)
    run_id: str | None = field(default=None, converter=_run_id)
    # Not hashed: a dict has no hash, and equal documents still hash equal without it.
    metadata: dict[str, Any] = field(factory=dict, converter=_json_object, hash=False)
    created_at: datetime | None = field(factory=lambda: datetime.now(UTC), converter=_moment)

    def __attrs_post_init__(self) -> None:
        if not self.metadata.keys().isdisjoint(OUR_KEYS):
            for key in self.checked_metadata(self._own_keys()):
                del self.metadata[key]

    def checked_metadata(self, own: Mapping[str, Any]) -> list[str]:
        """Return the keys of `own` that the metadata repeats with the same value.

        Raises:
            InvalidDocument: one has another value, or is a key of docid's that only the store gives a value.
        """
        repeated = sorted(self.metadata.keys() & set(OUR_KEYS))
        for key in repeated:
            if key not in own or self.metadata[key] != own[key]:
                raise InvalidDocument(
                    f"metadata.{key}",
                    f"{shown(self.metadata[key])}, a key of docid's own record; expected another key"
                    + (f", or the document's own value {own[key]!r}" if key in own else ""),
                )
        return repeated

    def __repr__(self) -> str:
        parts = "+".join(PART_FILES[part].removesuffix(".txt") for part in self.parts())
        return f"<Document {self.stage}/{self.doc_id} task_id={shown(self.task_id)} {parts}>"

    def _repr_html_(self) -> str:
        from docid.integrations.report.views import document_view  # noqa: PLC0415 - for notebooks alone

        return document_view(self)

    @classmethod
    def from_task(
        cls,
        row: TaskLike,
        *,
        raw_text: str,
        parsed_text: str | None = None,
        prompt_text: str | None = None,
        run_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        created_at: datetime | None = None,
    ) -> Document:
        """Return the document of a task row: identity and lineage from the row, the rest as given.

        Args:
            row: a reserved row (`doc_id` is set).
            raw_text, parsed_text, prompt_text, metadata, created_at: as for the class.
            run_id: as for the class; the row's `doc_run_id` if not given.

        Raises:
            InvalidName: the row's `doc_id` is empty or no doc id: reserve the row first.
            InvalidDocument, TypeError: as for the class.
        """
        return cls(
            doc_id=reserved_id(row),
            stage=row.stage,
            task_id=row.task_id,
            parent_doc_id=row.parent_doc_id,
            raw_text=raw_text,
            parsed_text=parsed_text,
            prompt_text=prompt_text,
            run_id=row.doc_run_id if run_id is None else run_id,
            metadata={} if metadata is None else metadata,
            created_at=datetime.now(UTC) if created_at is None else created_at,
        )

    def parts(self) -> dict[str, str]:
        """Return the texts that this document has, by part: `raw`, `parsed`, `prompt`, in this order."""
        texts = {"raw": self.raw_text, "parsed": self.parsed_text, "prompt": self.prompt_text}
        return {part: text for part, text in texts.items() if text is not None}

    def write_files(
        self,
        docs_root: str | os.PathLike[str],
        *,
        stages: Stages | None = None,
        durability: Literal["full", "none"] = "full",
        if_exists: Literal["fail", "keep", "replace"] = "fail",
        require_parent: bool = True,
    ) -> Path:
        """Write this document below `docs_root` and return its directory.

        The short form of `DocsStore(docs_root, …).write(document, …)`, with the same guarantees and errors.

        Args:
            docs_root, durability: as for `DocsStore`.
            stages: as for `DocsStore`; the default ones if not given.
            if_exists, require_parent: as for `DocsStore.write`.
        """
        from docid.core.stages import DEFAULT_STAGES  # noqa: PLC0415 - as the store
        from docid.store.docs_store import DocsStore  # noqa: PLC0415 - the store stands on this module

        store = DocsStore(docs_root, stages=stages or DEFAULT_STAGES, durability=durability)
        return store.write(self, if_exists=if_exists, require_parent=require_parent).path

    def _own_keys(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "stage": self.stage,
            "doc_id": self.doc_id,
            "task_id": self.task_id,
            "parent_doc_id": self.parent_doc_id,
            "run_id": self.run_id,
            "created_at": None if self.created_at is None else timestamp(self.created_at),
        }


def nonce() -> str:
    """Return a text that no other write uses: 16 hexadecimal digits."""
    return os.urandom(8).hex()


def timestamp(moment: datetime) -> str:
    """Return a moment as the record holds it: ISO 8601, UTC, microseconds, `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class PartEntry(NamedTuple):
    """What a record says of one part file: its size in bytes and the SHA-256 of its bytes, in hex."""

    size: int
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> PartEntry:
        """Return the entry of these bytes."""
        return cls(len(data), sha256(data).hexdigest())

    @classmethod
    def from_json(cls, entry: Any) -> PartEntry:
        """Return the entry that stands in a record so.

        Raises:
            KeyError, TypeError: it is none.
        """
        size, digest = entry["bytes"], entry["sha256"]
        if type(size) is not int or type(digest) is not str:
            raise TypeError(f"bytes is {shown(size)}, sha256 is {shown(digest)}")
        return tuple.__new__(cls, (size, digest))  # a third of what calling the class costs

    def to_json(self) -> dict[str, Any]:
        """Return the entry as it stands in the record."""
        return {"bytes": self.size, "sha256": self.sha256}

    def fault(self, data: bytes | None, *, verify: bool = True) -> tuple[str, str] | None:
        """Return what is wrong with the bytes that were found for this entry, as code and text; None where nothing is.

        Args:
            data: the bytes, or None where there is no such file.
            verify: compare the hash as well as the size.
        """
        if data is None:
            return "torn-document", "listed in the record, but not there"
        if len(data) != self.size:
            return "torn-document", f"{len(data)} bytes, but the record says {self.size}"
        if verify and sha256(data).hexdigest() != self.sha256:
            return "hash-mismatch", "its SHA-256 is not the one in the record"
        return None


class Record(NamedTuple):
    """The record of a stored document, `metadata.json`: what is known of it without its texts.

    Attributes:
        data: the whole JSON object, as it is stored.
        task_id, parent_doc_id, run_id, created_at: as in `Document`. In a legacy record None means unknown.
        files: the part files and what is said of them; empty for a legacy record, which lists none.
        legacy: the record of an older system (no `format` of docid's).
    """

    data: dict[str, Any]
    task_id: str | None
    parent_doc_id: str | None
    run_id: str | None
    created_at: datetime | None
    files: dict[str, PartEntry]
    legacy: bool

    @classmethod
    def from_document(cls, document: Document, nonce: str) -> tuple[Record, dict[str, bytes]]:
        """Return the record to store for a document, and the bytes of its part files by file name.

        Args:
            document: the document.
            nonce: a text that no other write uses; a writer knows its own record by it.
        """
        contents, files, listed = {}, {}, {}
        for name, text in zip(
            PART_FILES.values(), (document.raw_text, document.parsed_text, document.prompt_text), strict=True
        ):
            if text is not None:
                contents[name] = content = text.encode()
                files[name] = PartEntry.of(content)
                listed[name] = files[name].to_json()
        metadata = document.metadata
        own = document._own_keys()  # noqa: SLF001 - the two classes describe one format
        if metadata:
            # A frozen value holds a dict that is not: what was put there since is looked at again.
            metadata = _json_object(metadata)
            document.checked_metadata(own)
        data = {
            **own,
            "files": listed,
            "docid": {"nonce": nonce},
            **metadata,
        }
        record = cls(
            data,
            document.task_id,
            document.parent_doc_id,
            document.run_id,
            document.created_at,
            files,
            False,
        )
        return record, contents

    @classmethod
    def from_bytes(cls, data: bytes, stage: str, doc_id: str) -> Record:
        """Return the record that was stored as `data` for the document `stage`/`doc_id`.

        Raises:
            InvalidDocument: it is no record, one of a later major version, or the record of another document.
        """
        try:
            record = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            # What Python's own json writes and reads, and JSON does not know: NaN, a BOM, half a surrogate pair.
            record = _lenient_json(data)
            if not isinstance(record, dict) or str(record.get("format")).startswith("docid/"):
                raise InvalidDocument(RECORD_FILE, f"not JSON ({error})") from None
        if not isinstance(record, dict):
            raise InvalidDocument(RECORD_FILE, "not a JSON object")
        kind = record.get("format")
        if kind != FORMAT:
            if not isinstance(kind, str) or not kind.startswith("docid/"):
                return cls._from_legacy(record)
            raise InvalidDocument("format", f"{shown(kind)}, which is not {FORMAT!r}: a later docid wrote it")
        if record.get("stage") != stage or record.get("doc_id") != doc_id:
            name = f"{record.get('stage')}/{record.get('doc_id')}"
            raise InvalidDocument("doc_id", f"its record is that of {visible(name[:_NAME_SHOWN])}")
        try:
            files = {name: PartEntry.from_json(entry) for name, entry in _typed(record, "files", dict).items()}
            files[PART_FILES["raw"]]  # always there
            _typed(record, "docid", dict)
            fields = (
                record,
                _typed(record, "task_id", str),
                None if record["parent_doc_id"] is None else _typed(record, "parent_doc_id", str),
                None if record["run_id"] is None else _typed(record, "run_id", str),
                _moment(datetime.fromisoformat(_typed(record, "created_at", str))),
                files,
                False,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidDocument(RECORD_FILE, f"not a record of {FORMAT}: {error}") from None
        return tuple.__new__(cls, fields)  # as for its files

    @classmethod
    def _from_legacy(cls, record: dict[str, Any]) -> Record:
        known = {key: value for key, value in record.items() if isinstance(value, str) and value}
        return cls(record, known.get("task_id"), known.get("parent_doc_id"), known.get("run_id"), None, {}, True)

    def to_bytes(self) -> bytes:
        """Return the record as it is stored: one JSON object, UTF-8, indented by two."""
        return orjson.dumps(self.data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @property
    def metadata(self) -> dict[str, Any]:
        """The caller's own keys. Of a legacy record: all but the lineage and run that are understood."""
        if not self.legacy:
            return {key: value for key, value in self.data.items() if key not in OUR_KEYS}
        lifted = {"task_id": self.task_id, "parent_doc_id": self.parent_doc_id, "run_id": self.run_id}
        return {key: value for key, value in self.data.items() if lifted.get(key) is None}

    def same_lineage(self, task_id: str | None, parent_doc_id: str | None) -> bool | None:
        """Return whether a document of this task id and parent is of this record's lineage.

        None where the record, of an older system, does not say: that is no conflict and no match.
        """
        if not self.legacy:
            return self.task_id == task_id and self.parent_doc_id == parent_doc_id
        pairs = ((self.task_id, task_id), (self.parent_doc_id, parent_doc_id))
        if any(stored is not None and stored != given for stored, given in pairs):
            return False
        return None if any(stored is None and given is not None for stored, given in pairs) else True

    def in_place_of(self, old: Record) -> Record:
        """Return this record with what a later docid has put into the one whose texts it takes over."""
        files = {name: {**entry, **self.data["files"].get(name, {})} for name, entry in old.data["files"].items()}
        return self._replace(data={**self.data, "files": files, "docid": {**old.data["docid"], **self.data["docid"]}})

    def with_part(self, name: str, data: bytes, nonce: str) -> Record:
        """Return this record with one more part file; all other keys as they were."""
        files = {**self.files, name: PartEntry.of(data)}
        in_order = {file: files[file] for file in sorted(files, key=_part_order)}
        changed = {
            **self.data,
            "files": {
                file: {**self.data["files"].get(file, {}), **entry.to_json()} for file, entry in in_order.items()
            },
            "docid": {**self.data["docid"], "nonce": nonce},
        }
        return self._replace(data=changed, files=in_order)

    def document(self, stage: str, doc_id: str, texts: Mapping[str, str]) -> Document:
        """Return the `Document` of this record and its texts, by file name. What was stored is not checked again."""
        document = Document.__new__(Document)
        # As unpickling does it: the checks of the constructor are for what comes from outside, and would refuse
        # what an older system wrote (no task id, keys that have become docid's own).
        document.__setstate__(  # type: ignore[attr-defined]
            {
                "stage": stage,
                "doc_id": doc_id,
                "task_id": self.task_id,
                "raw_text": texts[PART_FILES["raw"]],
                "parent_doc_id": self.parent_doc_id,
                "parsed_text": texts.get(PART_FILES["parsed"]),
                "prompt_text": texts.get(PART_FILES["prompt"]),
                "run_id": self.run_id,
                "metadata": self.metadata,
                "created_at": self.created_at,
            }
        )
        return document


def _lenient_json(data: bytes) -> Any:
    import json  # noqa: PLC0415 - seldom needed

    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _part_order(name: str) -> int:
    names = list(PART_FILES.values())
    return names.index(name) if name in names else len(names)


def _typed(record: Any, key: str, kind: type) -> Any:
    value = record[key]
    if type(value) is not kind:
        raise TypeError(f"{key} is {shown(value)}")
    return value

"""The record of a document: the file `metadata.json` next to its texts, in the format `docid/document/1`.

`docs/formats.md` specifies the format. docid also reads records of an older system, which have no `format` of docid's.
"""

from __future__ import annotations

import os
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import orjson

from docid._text import escape_controls, format_count, quote
from docid.core.document import ALL_FILES, FORMAT, OUR_KEYS, PART_FILES, Document, check_moment
from docid.core.ids import derive
from docid.core.lineage_rules import ReadPins, check_inputs, get_inputs
from docid.errors import InvalidDocument

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docid.core.lineage_rules import Pin, Pins

RECORD_FILE = "metadata.json"

NOTES = ("given", "parse_error", "parent", "inputs")
"""The keys under `docid` that are about one version of a document: a new version does not inherit them.

`given` holds the hashes of the prompt and the metadata that `ensure` was given, `parse_error` why the document has no
parsed text, `parent` the version of its parent, and `inputs` its inputs with their versions.
"""

PINNED = (PART_FILES["raw"], PART_FILES["parsed"])
"""The files whose hashes name a version of a document."""

_TRANSLATED = "translate them back: for git, add the line '* -text' to .gitattributes and check the files out again"


def nonce() -> str:
    """Return a random text that is unique to one write: 16 hexadecimal digits."""
    return os.urandom(8).hex()


class Fault(NamedTuple):
    """A fault in a part file: the code of its finding, its description, and a remedy other than repair."""

    code: str
    problem: str
    remedy: str = ""


class PartEntry(NamedTuple):
    """The entry of one part file in a record: its size in bytes and its SHA-256 in hex."""

    size: int
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> PartEntry:
        """Return the entry for a file with these bytes."""
        return cls(len(data), sha256(data).hexdigest())

    @classmethod
    def from_json(cls, entry: Any) -> PartEntry:
        """Parse an entry of a record; raise KeyError or TypeError if it is not valid."""
        return cls(_get_typed(entry, "bytes", int), _get_typed(entry, "sha256", str))

    def to_json(self) -> dict[str, Any]:
        """Return the entry as JSON."""
        return {"bytes": self.size, "sha256": self.sha256}

    def find_fault(self, data: bytes | None, *, verify: bool = True) -> Fault | None:
        """Return a fault in the bytes of a file, or None.

        `data` is None for a missing file. With `verify`, compare the hash as well as the size.
        """
        if data is None:
            return Fault("torn-document", "listed in the record, but missing")
        if len(data) != self.size:
            problem = f"{format_count(len(data), 'byte')}, but the record says {self.size:,}"
            unix = data.replace(b"\r\n", b"\n")
            for original, change in ((unix, "LF to CRLF"), (unix.replace(b"\n", b"\r\n"), "CRLF to LF")):
                if len(original) == self.size and PartEntry.of(original) == self:
                    problem += f"; its newlines were translated from {change}, as git's autocrlf does"
                    return Fault("torn-document", problem, _TRANSLATED)
            return Fault("torn-document", problem)
        if verify and sha256(data).hexdigest() != self.sha256:
            return Fault("hash-mismatch", "its SHA-256 differs from the record")
        return None


class Record(NamedTuple):
    """The record of a stored document, `metadata.json`.

    Attributes:
        data: the complete JSON object, as stored.
        task_id, parent_doc_id, run_id, created_at: as in `Document`. In a legacy record None means unknown.
        files: the entries of the part files by name; empty in a legacy record.
        legacy: whether an older system wrote it, without a `format` of docid's.
        inputs: the documents that it was made from in addition to its parent, as `STAGE/ID`.
    """

    data: dict[str, Any]
    task_id: str | None
    parent_doc_id: str | None
    run_id: str | None
    created_at: datetime | None
    files: dict[str, PartEntry]
    legacy: bool
    inputs: tuple[str, ...] = ()

    @classmethod
    def from_document(
        cls, document: Document, nonce: str, notes: Mapping[str, Any] | None = None
    ) -> tuple[Record, dict[str, bytes]]:
        """Return the record of a document, and the bytes of its part files by file name.

        A writer recognizes its own record by the `nonce`. `notes` are other keys for `docid`, among NOTES.
        """
        contents = {PART_FILES[part]: text.encode() for part, text in document.parts().items()}
        files = {name: PartEntry.of(content) for name, content in contents.items()}
        listed = {name: entry.to_json() for name, entry in files.items()}
        own = {**format_pins(document, document.pins), **(notes or {}), "nonce": nonce}
        if origin := _find_origin(document):
            own = {"id_from": dict(zip(("run_id", "salt"), origin, strict=True)), **own}
        data = {**document.own_keys(), "files": listed, "docid": own}
        metadata = document.convert_metadata()
        # Keys of the caller that docid uses itself.
        if kept := {key: metadata.pop(key) for key in OUR_KEYS if key in metadata}:
            data["docid"]["metadata"] = kept
        data |= metadata
        facts = (document.task_id, document.parent_doc_id, document.run_id, document.created_at)
        return cls(data, *facts, files, False, document.inputs), contents

    @classmethod
    def from_bytes(cls, data: bytes, stage: str, doc_id: str) -> Record:
        """Parse the stored record of the document `stage`/`doc_id`.

        Raises:
            InvalidDocument: the bytes are not a record, the record has a later major version, or it belongs to
                another document.
        """
        try:
            record = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            record = _parse_leniently(data)
            if not isinstance(record, dict) or str(record.get("format")).startswith("docid/"):
                raise InvalidDocument(RECORD_FILE, f"not JSON ({error})") from None
        if not isinstance(record, dict):
            raise InvalidDocument(RECORD_FILE, "not a JSON object")
        kind = record.get("format")
        if kind != FORMAT:
            if not isinstance(kind, str) or not kind.startswith("docid/"):
                known = {key: value for key, value in record.items() if isinstance(value, str) and value}
                lineage = known.get("task_id"), known.get("parent_doc_id"), known.get("run_id")
                return cls(record, *lineage, None, {}, True)
            raise InvalidDocument("format", f"expected {FORMAT!r}, got {quote(kind)}: a later docid wrote it")
        if record.get("stage") != stage or record.get("doc_id") != doc_id:
            name = f"{record.get('stage')}/{record.get('doc_id')}"
            raise InvalidDocument("doc_id", f"its record belongs to {escape_controls(name[:150])}")
        try:
            files = {name: PartEntry.from_json(entry) for name, entry in _get_typed(record, "files", dict).items()}
            files[PART_FILES["raw"]]  # required
            own = _get_typed(record, "docid", dict)
            inputs = [_get_typed(each, "name", str) for each in own.get("inputs", ())]
            return cls(
                record,
                _get_typed(record, "task_id", str),
                None if record["parent_doc_id"] is None else _get_typed(record, "parent_doc_id", str),
                None if record["run_id"] is None else _get_typed(record, "run_id", str),
                check_moment(datetime.fromisoformat(_get_typed(record, "created_at", str))),
                files,
                False,
                check_inputs(inputs) if inputs else (),
            )
        except (KeyError, TypeError, ValueError) as error:
            problem = f"missing key {error}" if isinstance(error, KeyError) else error
            raise InvalidDocument(RECORD_FILE, f"not a {FORMAT} record: {problem}") from None

    @property
    def notes(self) -> dict[str, Any]:
        """The NOTES of this record."""
        own = self._own
        return {key: own[key] for key in NOTES if key in own}

    @property
    def _own(self) -> dict[str, Any]:
        return {} if self.legacy else self.data["docid"]

    @property
    def pin(self) -> Pin | None:
        """The version of this document, as a child records it; None in a legacy record."""
        return {name: self.files[name].sha256 for name in PINNED if name in self.files} or None

    @property
    def pins(self) -> Pins:
        """The versions that this document was made from: of its parent by doc id, of each input by `STAGE/ID`."""
        return parse_pins(self._own, self.parent_doc_id)

    @property
    def id_from(self) -> tuple[str | None, str | None] | None:
        """The run id and salt that the doc id was derived from; None if unknown."""
        found = self._own.get("id_from")
        if not isinstance(found, dict):
            return None
        run_id, salt = (each if isinstance(each, str) else None for each in (found.get("run_id"), found.get("salt")))
        return run_id, salt

    def with_pins(self, pins: Pins) -> Record:
        """Return this record with the versions of its parent and inputs."""
        own = {**self.data["docid"], **format_pins(self, pins)}
        return self._replace(data={**self.data, "docid": own})

    def to_bytes(self) -> bytes:
        """Return the bytes to store: one JSON object in UTF-8, indented by two spaces."""
        return orjson.dumps(self.data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @property
    def metadata(self) -> dict[str, Any]:
        """The caller's own keys. In a legacy record, all keys except a known task, parent and run."""
        if not self.legacy:
            kept = self.data["docid"].get("metadata")
            own = {key: value for key, value in self.data.items() if key not in OUR_KEYS}
            return own | kept if isinstance(kept, dict) else own
        lifted = {"task_id": self.task_id, "parent_doc_id": self.parent_doc_id, "run_id": self.run_id}
        return {key: value for key, value in self.data.items() if lifted.get(key) is None}

    def with_additions_of(self, old: Record) -> Record:
        """Return this record with the keys that a later docid added to the record it replaces.

        Both have the same texts, so versions of the parent and inputs that are unknown now stay as they were.
        """
        files = {name: {**entry, **self.data["files"].get(name, {})} for name, entry in old.data["files"].items()}
        own, before = self.data["docid"], old.data["docid"]
        added = {key: value for key, value in before.items() if key not in {"metadata", *NOTES}}
        known = format_pins(self, {**old.pins, **{key: pin for key, pin in self.pins.items() if pin is not None}})
        return self._replace(data={**self.data, "files": files, "docid": {**added, **own, **known}})

    def with_part(self, name: str, data: bytes, nonce: str) -> Record:
        """Return this record with another part file and a new nonce."""
        entry = PartEntry.of(data)
        files, listed = {**self.files, name: entry}, {**self.data["files"], name: entry.to_json()}
        # The order of a new record: known parts first, then the parts that a later release added.
        order = [file for file in ALL_FILES if file in files] + [file for file in files if file not in ALL_FILES]
        own = {**self.data["docid"], "nonce": nonce}
        if name == PART_FILES["parsed"]:
            own.pop("parse_error", None)
        changed = {**self.data, "files": {file: listed[file] for file in order}, "docid": own}
        return self._replace(data=changed, files={file: files[file] for file in order})

    def document(self, stage: str, doc_id: str, texts: Mapping[str, str]) -> Document:
        """Return the `Document` of this record, unvalidated. `texts` maps file names to texts."""
        document = Document.__new__(Document)
        # Set the fields as unpickling does: the constructor would refuse values from older systems.
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
                "inputs": self.inputs,
                "pins": self.pins,
                "id_from": self.id_from,
            }
        )
        return document


def format_pins(document: Any, pins: Pins) -> dict[str, Any]:
    """Return the keys `parent` and `inputs` of a document, a row or a record, for `docid` of its record."""
    found: dict[str, Any] = {}
    if pin := pins.get(document.parent_doc_id):
        found["parent"] = pin
    if inputs := get_inputs(document):
        found["inputs"] = [{"name": name, **({"pin": pin} if (pin := pins.get(name)) else {})} for name in inputs]
    return found


def parse_pins(own: Mapping[str, Any], parent_doc_id: str | None) -> Pins:
    """Return the versions in `docid` of a record; a malformed one is unknown."""
    pins: Pins = ReadPins({} if parent_doc_id is None else {parent_doc_id: _parse_pin(own.get("parent"))})
    inputs = own.get("inputs")
    for each in inputs if isinstance(inputs, list) else ():
        if isinstance(each, dict) and isinstance(name := each.get("name"), str):
            pins[name] = _parse_pin(each.get("pin"))
    return pins


def _parse_pin(found: object) -> Pin | None:
    if not isinstance(found, dict):
        return None
    pin = {name: digest for name in PINNED if isinstance(digest := found.get(name), str)}
    return pin or None


def _find_origin(document: Document) -> tuple[str | None, str | None] | None:
    """Return the run id and salt that give the doc id of a document; None if it derives from neither."""
    task_id = cast("str", document.task_id)
    for origin in (document.id_from, (None, None), (document.run_id, None)):
        if origin is not None and derive(document.stage, task_id, *origin) == document.doc_id:
            return origin
    return None


def _parse_leniently(data: bytes) -> Any:
    """Parse JSON with Python's json module, which accepts NaN, a BOM and lone surrogates; return None if it fails."""
    import json  # noqa: PLC0415 - rarely needed

    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _get_typed(record: Any, key: str, kind: type) -> Any:
    value = record[key]
    if type(value) is not kind:
        raise TypeError(f"{key}: expected {kind.__name__}, got {quote(value)}")
    return value

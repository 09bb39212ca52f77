"""The format of an object, and the names of objects; no I/O.

A document is `<stage>/<doc_id>.json`: the record that a local backend stores in `metadata.json`, with one more key,
`texts`: the text of each part by file name. A version in history is
`.docid/history/<stage>/<doc_id>/<time>-<12 hex digits of its SHA-256><4 random ones>.json`.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import orjson

from docid.core.ids import is_doc_id
from docid.core.record import nonce
from docid.errors import InvalidDocument
from docid.store.backends.names import HISTORY, entries, entry_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TEXTS = "texts"  # the key of the texts; all other keys are the record
# The record is kept as a text, too, if parsing and writing it gives other bytes (records of older systems), or if it
# has a key `texts` itself.
_RECORD = "metadata.json"
_FORMAT = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE  # that of a record
_SUFFIX = ".json"
_TOMBSTONE = re.compile(rb'\{"docid_quarantined": "[0-9a-f]{16}"\}\n')
TOMBSTONE_SIZE = 42  # bytes
_DIGITS = 12  # of the digest in a name; four random ones follow, so that two changes of one version differ in name


def pack(record: bytes, parts: Mapping[str, bytes]) -> bytes:
    """Return the object of a document; raise `InvalidDocument` unless its record and parts are UTF-8."""
    try:
        texts = {name: data.decode() for name, data in parts.items()}
        try:
            found = orjson.loads(record)
        except orjson.JSONDecodeError:
            found = None
        # Only a JSON object has keys that the object of the document can hold.
        fields = {key: value for key, value in found.items() if key != TEXTS} if isinstance(found, dict) else {}
        if orjson.dumps(fields, option=_FORMAT) != record:
            texts[_RECORD] = record.decode()
    except UnicodeDecodeError as error:
        problem = f"a part or the record is not UTF-8 ({error}); an object store holds only text"
        raise InvalidDocument("document", problem) from None
    return orjson.dumps({**fields, TEXTS: texts}, option=_FORMAT)


def unpack(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Return the record and the parts in an object; raise ValueError if it is not a document."""
    try:
        fields = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error})") from None
    texts = fields.pop(TEXTS, None) if isinstance(fields, dict) else None
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError(f"not a document; expected a JSON object with the key {TEXTS!r}, the text of each part")
    own = texts.pop(_RECORD, None)
    record = orjson.dumps(fields, option=_FORMAT) if own is None else own.encode()
    return record, {name: text.encode() for name, text in texts.items()}


def make_tombstone() -> bytes:
    """Return an object that keeps an id taken while its document moves to quarantine. Each one is unique."""
    return b'{"docid_quarantined": "%b"}\n' % nonce().encode()


def is_tombstone(data: bytes) -> bool:
    """Return whether an object is a tombstone."""
    return len(data) == TOMBSTONE_SIZE and _TOMBSTONE.fullmatch(data) is not None


def document_key(stage: str, doc_id: str) -> str:
    """Return the key of a document, relative to the root."""
    return f"{stage}/{doc_id}{_SUFFIX}"


def parse_doc_id(name: str) -> str | None:
    """Return the doc id in the name of an object of a stage; None if it is not the name of a document."""
    doc_id = name.removesuffix(_SUFFIX)
    return doc_id if name.endswith(_SUFFIX) and is_doc_id(doc_id) else None


def history_prefix(stage: str, doc_id: str) -> str:
    """Return the prefix of a document's old versions, with the slash at its end."""
    return "/".join((*HISTORY, stage, doc_id)) + "/"


def history_name(names: Iterable[str], data: bytes) -> str:
    """Return a new, unique name for a version in history, which sorts after `names`."""
    time, _, unique = entry_name(name.removesuffix(_SUFFIX) for name in names).partition("-")
    return f"{time}-{short_digest(data)}{unique[_DIGITS:]}{_SUFFIX}"


def history_entries(names: Iterable[str]) -> list[str]:
    """Return the versions in history among `names`, the earliest first."""
    return entries(name for name in names if name.endswith(_SUFFIX))


def short_digest(data: bytes) -> str:
    """Return the digest for the name of a version in history: the first 12 hex digits of the object's SHA-256."""
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


def parse_digest(name: str) -> str:
    """Return the digest in the name of a version in history."""
    return name.partition("-")[2][:_DIGITS]

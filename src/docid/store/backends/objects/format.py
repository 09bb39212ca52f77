"""What an object of a document holds, and the names of objects: pure, without an object store.

A document is `<stage>/<doc_id>.json`: its record, as a local backend keeps it in `metadata.json`, and in the same JSON
object the `texts` of its parts by file name. A version in history is
`.docid/history/<stage>/<doc_id>/<time>-<12 hex digits of its SHA-256><4 of its own>.json`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import orjson

from docid.core.ids import is_doc_id
from docid.errors import InvalidDocument
from docid.store.backends.names import HISTORY, entry_name, time_of_entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TEXTS = "texts"  # the key that holds the texts of a document; everything beside it is the record
# A record whose bytes do not come back when it is parsed and written (an older system's) is kept as a text too; so is
# one that has a key of that name itself.
_RECORD = "metadata.json"
_FORMAT = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE  # as a record has it
_SUFFIX = ".json"
_DIGITS = 12  # of a digest in a name; four more keep the names of two changes of one version apart


def pack(record: bytes, parts: Mapping[str, bytes]) -> bytes:
    """Return the object of a document; raise `InvalidDocument` where a part, or the record, is not UTF-8."""
    try:
        texts = {name: data.decode() for name, data in parts.items()}
        try:
            found = orjson.loads(record)
        except orjson.JSONDecodeError:
            found = None
        # A record that is not a JSON object has no keys that the object could hold.
        fields = {key: value for key, value in found.items() if key != TEXTS} if isinstance(found, dict) else {}
        if orjson.dumps(fields, option=_FORMAT) != record:
            texts[_RECORD] = record.decode()
    except UnicodeDecodeError as error:
        problem = f"a part or the record is not UTF-8 ({error}), and an object store keeps text"
        raise InvalidDocument("document", problem) from None
    return orjson.dumps({**fields, TEXTS: texts}, option=_FORMAT)


def unpack(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Return the record and the parts of an object; raise ValueError where it is no document."""
    try:
        fields = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error})") from None
    texts = fields.pop(TEXTS, None) if isinstance(fields, dict) else None
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError(f"no {TEXTS!r} in it, by part; expected the JSON object of a document")
    own = texts.pop(_RECORD, None)
    record = orjson.dumps(fields, option=_FORMAT) if own is None else own.encode()
    return record, {name: text.encode() for name, text in texts.items()}


def key_of(stage: str, doc_id: str) -> str:
    """Return the key of a document, relative to the root."""
    return f"{stage}/{doc_id}{_SUFFIX}"


def doc_id_of(name: str) -> str | None:
    """Return the doc id of what has this name in a stage; None where it is no document's."""
    doc_id = name.removesuffix(_SUFFIX)
    return doc_id if name.endswith(_SUFFIX) and is_doc_id(doc_id) else None


def history_of(stage: str, doc_id: str) -> str:
    """Return the prefix of a document's replaced versions, with its slash."""
    return "/".join((*HISTORY, stage, doc_id)) + "/"


def history_name(names: Iterable[str], data: bytes) -> str:
    """Return a name for a version in history, behind those of `names`, and another one each time."""
    time, _, unique = entry_name(name.removesuffix(_SUFFIX) for name in names).partition("-")
    return f"{time}-{digest_of(data)}{unique[_DIGITS:]}{_SUFFIX}"


def history_entries(names: Iterable[str]) -> list[str]:
    """Return those of `names` that are of versions in history, the earliest first."""
    return sorted(name for name in names if time_of_entry(name.removesuffix(_SUFFIX)) is not None)


def digest_of(data: bytes) -> str:
    """Return what is in the name of a version in history: the first 12 hex digits of the SHA-256 of the object."""
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


def digest_in(name: str) -> str:
    """Return the digest that stands in the name of a version in history."""
    return name.partition("-")[2][:_DIGITS]

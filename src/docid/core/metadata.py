"""Metadata: convert the caller's values to JSON, or name the value that JSON cannot hold; hash them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from pathlib import PurePath
from typing import Any
from uuid import UUID

import attrs
import orjson

from docid._text import quote
from docid.core.ids import plain
from docid.errors import InvalidDocument

DEPTH = 250  # levels of nested lists and dicts in metadata; orjson can write 254

# Types that JSON lacks, and what to pass instead.
_INSTEAD: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (Decimal, "str(value) or float(value)"),
    ((set, frozenset), "sorted(value), a list"),
    ((bytes, bytearray, memoryview), "text"),
    (timedelta, "value.total_seconds()"),
)


def convert_metadata(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata as a new JSON object.

    It converts tuples to lists; dates and datetimes to ISO 8601 text; UUIDs and paths to text; enums to their values;
    attrs classes and dataclasses to dicts, without fields that `repr` leaves out; objects with `model_dump`, such as
    those of model clients, to its result; NumPy scalars and arrays to numbers, text and lists.

    Raises:
        TypeError: `value` is not a mapping.
        InvalidDocument: a value that JSON cannot hold; the error names its path and what to pass instead.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"metadata: expected a mapping, got {type(value).__name__}")
    if not value:
        return {}
    copied = dict(value)
    if not is_too_deep(copied):
        try:
            # Most metadata is JSON already, and orjson copies it fast.
            copy: dict[str, Any] = orjson.loads(orjson.dumps(copied))
        except (TypeError, ValueError):
            pass
        else:
            if copy == copied:
                return copy
    try:
        converted: dict[str, Any] = _convert("metadata", copied, DEPTH)
    except RecursionError:
        raise InvalidDocument("metadata", _TOO_DEEP) from None
    return converted


def is_too_deep(value: Any, depth: int = DEPTH) -> bool:
    """Return whether lists and dicts are nested more than `depth` levels deep."""
    level = [value]
    for _ in range(depth):
        children = (child for each in level for child in (each.values() if isinstance(each, dict) else each))
        # Count each object once: a list that contains itself twice would double at every level.
        level = list({id(child): child for child in children if isinstance(child, (dict, list))}.values())
        if not level:
            return False
    return True


def cut_deep_values(metadata: dict[str, Any], depth: int = DEPTH) -> dict[str, Any]:
    """Return metadata that the standard library can write: a note replaces each value that is nested too deep."""
    if not is_too_deep(metadata, depth):
        return metadata
    note = f"(more than {depth} levels deep)"
    return {key: note if is_too_deep(each, depth) else each for key, each in metadata.items()}


def _convert(path: str, value: Any, depth: int) -> Any:
    """Return a value as JSON; raise InvalidDocument with its path."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return _convert(path, value.value, depth)
    if isinstance(value, (str, int, float)):
        return _convert_scalar(path, value)
    if isinstance(value, (datetime, date)) and value == value:  # noqa: PLR0124 - pandas.NaT is a datetime unequal to itself
        return value.isoformat()
    if isinstance(value, (UUID, PurePath)):
        return _convert_scalar(path, str(value))
    return _convert_container(path, value, depth)


def _convert_scalar(path: str, value: str | float) -> Any:
    """Return text or a number as a plain value of Python."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidDocument(
                path,
                f"{quote(value)}: character {error.start} is a lone surrogate; expected text that UTF-8 can encode",
            ) from None
        return plain(value)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise InvalidDocument(path, f"{quote(value)}: an integer of more than 64 bits; expected str(value)")
        return int(value)
    if not math.isfinite(value):
        raise InvalidDocument(path, f"{value}: JSON has no such number; expected a finite number, None or text")
    return float(value)


def _convert_container(path: str, value: Any, depth: int) -> Any:
    """Return an object of other values as a list or a dict."""
    if depth == 0:
        raise InvalidDocument(path.partition(".")[0].partition("[")[0], _TOO_DEEP)
    if isinstance(value, Mapping):
        return {_check_key(path, key): _convert(f"{path}.{key}", each, depth - 1) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_convert(f"{path}[{position}]", each, depth - 1) for position, each in enumerate(value)]
    kind = type(value)
    if attrs.has(kind):
        names = [field.name for field in attrs.fields(kind) if field.repr is not False]
        return _convert(path, {name: getattr(value, name) for name in names}, depth)
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclass_fields(value) if field.repr]
        return _convert(path, {name: getattr(value, name) for name in names}, depth)
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):
        return _convert(path, dump(), depth - 1)
    if kind.__module__.partition(".")[0] == "numpy" and (found := _list_numpy(value)) is not None:
        return _convert(path, found, depth - 1)
    instead = next((each for kinds, each in _INSTEAD if isinstance(value, kinds)), "a value that JSON can hold")
    raise InvalidDocument(path, f"{quote(value)} of type {kind.__name__}; expected {instead}")


def _list_numpy(value: Any) -> Any:
    """Return a NumPy scalar or array as values of Python; None if it has none: masked values, NaT, time spans."""
    kind = getattr(getattr(value, "dtype", None), "kind", "m")
    if kind == "m" or hasattr(value, "mask"):
        return None
    if kind == "M":  # `tolist` would make integers of nanoseconds
        value = value.astype(str)
    found = value.tolist()
    is_wrong = type(found) is type(value) or (kind == "M" and "NaT" in str(found))
    return None if is_wrong else found


_TOO_DEEP = f"lists and dicts nested more than {DEPTH} levels deep; expected at most {DEPTH}"


def _check_key(path: str, key: Any) -> str:
    if isinstance(key, str):
        key = key.value if isinstance(key, Enum) else key
        if key.isascii() or key.encode(errors="replace").decode() == key:
            return plain(key)
    raise InvalidDocument(path, f"the key {quote(key)} cannot be a JSON key; expected str keys")


def hash_given(prompt: str | None, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the hashes of the prompt and the metadata that were given to `ensure`, for `docid.given` of a record.

    SHA-256 in hex: of the prompt in UTF-8, and of each metadata value as JSON with sorted keys. `metadata` is
    converted already.
    """
    given: dict[str, Any] = {}
    if prompt is not None:
        given["prompt"] = sha256(prompt.encode()).hexdigest()
    if metadata is not None:
        given["metadata"] = {key: hash_value(value) for key, value in metadata.items()}
    return given


def hash_value(value: Any) -> str:
    """Return the SHA-256 in hex of a JSON value, which distinguishes 1, True and 1.0."""
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

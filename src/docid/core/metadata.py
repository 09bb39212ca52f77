"""The caller's metadata: a JSON object that comes back from JSON as it was given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import orjson

from docid._text import shown
from docid.errors import InvalidDocument

_PLAIN = frozenset({str, bool, int, type(None)})
DEPTH = 250  # levels of lists and dicts; orjson writes 254


def check_metadata(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of `value` if JSON gives it back equal.

    Raises:
        InvalidDocument: JSON cannot hold it, with the path of the first fault.
        TypeError: it is no mapping.
    """
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
    """Return metadata as the standard library can write it: values that an old record nests too deeply are cut."""
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

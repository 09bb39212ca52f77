"""Deriving and checking doc ids: the `docid/1` scheme. This module does no I/O.

`docs/ids.md` specifies the derivation, which never changes. The check for NFC depends on the Unicode data of the Python
version.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256
from math import expm1
from typing import TYPE_CHECKING, NewType, TypeGuard
from unicodedata import is_normalized

from orjson import dumps

from docid._text import quote
from docid.errors import DuplicateTaskId, InvalidName

if TYPE_CHECKING:
    from collections.abc import Iterable

DocId = NewType("DocId", str)
"""A text that is a valid doc id: `reserve_doc_id` returned it, or `is_doc_id` accepted it."""

SCHEME = "docid/1"

_FIRST = "abcdefghijklmnopqrstuvwxyz"
_REST = b"0123456789abcdefghijklmnopqrstuvwxyz"
_FIRST_OF_BYTE = [_FIRST[byte % 26] for byte in range(256)]
_REST_OF_BYTE = bytes(_REST[byte % 36] for byte in range(256))

# Windows reserves these names in every directory. It ignores case, but docid's names are lower case anyway.
_DEVICES = "con|prn|aux|nul|com[0-9]|lpt[0-9]"
_STAGE = re.compile(rf"(?!(?:{_DEVICES})\Z)[a-z][a-z0-9_-]{{0,63}}\Z")
DOC_ID = re.compile(rf"(?!(?:{_DEVICES})\Z)[a-z0-9][a-z0-9_-]{{0,63}}\Z")
_STAGE_EXPECTED = "1 to 64 of a-z, 0-9, _ and -, starting with a letter, not a Windows device name"
DOC_ID_EXPECTED = "1 to 64 of a-z, 0-9, _ and -, starting with a letter or digit, not a Windows device name"

# The white space of docid/1. The scheme fixes this set; str.strip uses a different one.
_BLANKS = "\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
# Patterns as text: `re` compiles them at first use, and most names never need them.
_BLANK_AT_AN_END = rf"\A[{_BLANKS}]|[{_BLANKS}]\Z"
_CONTROL = "[\x00-\x1f\x7f-\x9f]"
_SURROGATE = "[\ud800-\udfff]"
_NFC_EXPECTED = "the text, or its table, in Unicode normal form NFC (unicodedata.normalize('NFC', text))"


def plain(text: str) -> str:
    """Return `text` as a plain `str`. A subclass, such as an enum, may print as another text."""
    return text if type(text) is str else str.__str__(text)


@lru_cache(maxsize=256)  # a pipeline has few stages and checks one for every row
def _is_stage(stage: str) -> bool:
    return _STAGE.match(stage) is not None


def check_stage(stage: str, argument: str = "stage") -> str:
    """Return `stage`; raise InvalidName unless it is a stage name, and TypeError unless it is a `str`."""
    if not isinstance(stage, str):
        raise TypeError(f"{argument}: expected a str, got {type(stage).__name__}")
    if not _is_stage(stage):
        raise InvalidName(argument, stage, "not a stage name", _STAGE_EXPECTED)
    return plain(stage)


def check_doc_id(doc_id: str, argument: str = "doc_id") -> DocId:
    """Return `doc_id`; raise InvalidName unless it is a doc id, and TypeError unless it is a `str`."""
    if not isinstance(doc_id, str):
        raise TypeError(f"{argument}: expected a str, got {type(doc_id).__name__}")
    if not DOC_ID.match(doc_id):
        raise InvalidName(argument, doc_id, "not a doc id", DOC_ID_EXPECTED)
    return DocId(plain(doc_id))


def is_missing(text: str) -> bool:
    """Return whether a cell means a missing id: it is blank, `nan`, `null` or `none`."""
    return text.strip().lower() in {"", "nan", "null", "none"}


def refuse_text(names: object, argument: str, kind: str) -> None:
    """Raise TypeError if `names` is one text: a loop would treat its characters as names."""
    if isinstance(names, str):
        raise TypeError(f"{argument}: expected an iterable of {kind}, got the str {quote(names)}")


def check_text(text: str, argument: str) -> str:
    """Return `text`; raise InvalidName unless it is a task id, run id or salt, and TypeError unless it is a `str`."""
    # Fast path: in printable ASCII, as in almost all names, only leading or trailing white space can be wrong.
    if type(text) is str and text.isascii() and text.isprintable() and text.strip() == text != "":
        return text
    if not isinstance(text, str):
        raise TypeError(f"{argument}: expected a str, got {type(text).__name__}")
    if not text:
        expected = "some text" if argument.startswith("task_id") else "some text, or None"
        raise InvalidName(argument, text, "empty", expected)
    if re.search(_BLANK_AT_AN_END, text):
        raise InvalidName(argument, text, "leading or trailing white space", "the text without it")
    if found := re.search(_CONTROL, text):
        expected = "one line of text without control characters"
        raise InvalidName(argument, text, f"control character U+{ord(found[0]):04X}", expected)
    if found := re.search(_SURROGATE, text):
        raise InvalidName(argument, text, f"lone surrogate U+{ord(found[0]):04X}", "text that UTF-8 can encode")
    if not is_normalized("NFC", text):
        raise InvalidName(argument, text, "not in NFC", _NFC_EXPECTED)
    return plain(text)


def check_run_and_salt(run_id: str | None, salt: str | None) -> None:
    """Check a run id and a salt with `check_text`; both may be None."""
    if run_id is not None:
        check_text(run_id, "run_id")
    if salt is not None:
        check_text(salt, "salt")


def reserve_doc_id(stage: str, task_id: str, run_id: str | None = None, salt: str | None = None) -> DocId:
    """Derive the doc id of a task: 16 characters that depend only on the arguments.

    The same arguments give the same id on every platform and in every release (scheme `docid/1`). Different arguments
    give different ids, except with the chance that `collision_probability` returns. docid stores nothing.

    Args:
        stage: the stage that makes the document, `[a-z][a-z0-9_-]{0,63}`.
        task_id: the task: one line of text in NFC, without leading or trailing white space.
        run_id: the run, if runs must not share documents; None to share them.
        salt: a text that distinguishes otherwise equal tasks.

    Returns:
        A letter and 15 characters of `0-9a-z`.

    Raises:
        InvalidName: an argument is not valid (a `ValueError`); the message names it.
        TypeError: an argument is not a `str` (`run_id` and `salt` may be None).

    Example:
        >>> reserve_doc_id("draft", "combo-1__outline-v2__sonnet-4")
        'dyqgt4ths788xgx8'
        >>> reserve_doc_id("draft", "combo-1__outline-v2__sonnet-4", salt="second try")
        'kdrk6e9492v7qy19'
    """
    check_stage(stage)
    check_text(task_id, "task_id")
    check_run_and_salt(run_id, salt)
    return derive(stage, task_id, run_id, salt)


def reserve_doc_ids(
    stage: str, task_ids: Iterable[str], *, run_id: str | None = None, salt: str | None = None
) -> list[DocId]:
    """Derive the doc ids of many tasks of one stage, in order, as `reserve_doc_id` does for one.

    Raises:
        DuplicateTaskId: two task ids are equal (a `ValueError`); the message gives their positions.
        InvalidName: an argument is not valid; for a task id the message gives its position.
        TypeError: an argument is not a `str`, or `task_ids` is one `str`.

    Example:
        >>> reserve_doc_ids("draft", ["a", "b"])
        ['zf4sck55iw2vqoyz', 'pwb9njrtefd6lkqi']
    """
    refuse_text(task_ids, "task_ids", "task ids")
    check_stage(stage)
    check_run_and_salt(run_id, salt)
    first: dict[str, int] = {}
    for position, task_id in enumerate(task_ids):
        check_text(task_id, f"task_ids[{position}]")
        if first.setdefault(task_id, position) != position:
            raise DuplicateTaskId(task_id, (first[task_id], position))
    return [derive(stage, task_id, run_id, salt) for task_id in first]


def is_doc_id(text: object) -> TypeGuard[DocId]:
    """Return whether `text` is a doc id: 1 to 64 of `a-z`, `0-9`, `_` and `-`, starting with a letter or digit.

    Windows device names are not doc ids. Ids of other systems are doc ids if they follow this rule.

    Example:
        >>> is_doc_id("dyqgt4ths788xgx8"), is_doc_id("4a2wetfbrppa1fta"), is_doc_id(".."), is_doc_id("nul")
        (True, True, False, False)
    """
    return isinstance(text, str) and DOC_ID.match(text) is not None


def collision_probability(n: int) -> float:
    """Return the probability that at least two of `n` different tasks get the same doc id.

    It is the birthday bound `1 - exp(-n (n - 1) / 2 / 2**82.2)`: 9e-14 for a million tasks, 9e-8 for 10⁹. The 82.2
    bits are the collision entropy of the scheme, whose characters are slightly uneven.

    Args:
        n: the number of tasks, 0 or more.

    Raises:
        ValueError: `n` is negative.

    Example:
        >>> f"{collision_probability(1_000_000):.1e}"
        '9.0e-14'
    """
    if n < 0:
        raise ValueError(f"n: expected 0 or more, got {n}")
    # From 10¹⁸ on the result rounds to 1.0, and a much larger n would overflow a float.
    return -expm1(-n * (n - 1) / 2 * _PAIR_COLLIDES) if n < 10**18 else 1.0


def derive(stage: str, task_id: str, run_id: str | None, salt: str | None) -> DocId:
    """Derive a doc id as `reserve_doc_id` does, from arguments that are already checked."""
    # An array of strings and nulls has one RFC 8785 form, and orjson writes it. Each argument has its own position, and
    # null differs from any text, so different arguments never share a payload.
    digest = sha256(dumps((SCHEME, stage, task_id, run_id, salt))).digest()
    # Calling DocId, which only returns its argument, would add a tenth to the time.
    return _FIRST_OF_BYTE[digest[0]] + digest[1:16].translate(_REST_OF_BYTE).decode()  # type: ignore[return-value]


def _chance_of_same_character(alphabet: int) -> float:
    """Return the chance that two random bytes give the same character; 256 is not a multiple of `alphabet`."""
    more, rest = divmod(256, alphabet)
    return (rest * (more + 1) ** 2 + (alphabet - rest) * more**2) / 256**2


_PAIR_COLLIDES = _chance_of_same_character(26) * _chance_of_same_character(36) ** 15

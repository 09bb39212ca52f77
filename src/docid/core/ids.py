"""The names of documents: the `docid/1` scheme, pure functions without I/O.

The derivation is specified in `docs/ids.md` and frozen. Which texts are refused depends on the Python in one case: its
Unicode data decides what is in NFC.
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
"""A text that is known to be a doc id, as `reserve_doc_id` gives it or `is_doc_id` has checked it."""

SCHEME = "docid/1"

_FIRST = "abcdefghijklmnopqrstuvwxyz"
_REST = b"0123456789abcdefghijklmnopqrstuvwxyz"
_FIRST_OF_BYTE = [_FIRST[byte % 26] for byte in range(256)]
_REST_OF_BYTE = bytes(_REST[byte % 36] for byte in range(256))

# Names that Windows gives to devices, in every directory; compared in lower case, as all our names are.
_DEVICES = "con|prn|aux|nul|com[0-9]|lpt[0-9]"
_STAGE = re.compile(rf"(?!(?:{_DEVICES})\Z)[a-z][a-z0-9_-]{{0,63}}\Z")
DOC_ID = re.compile(rf"(?!(?:{_DEVICES})\Z)[a-z0-9][a-z0-9_-]{{0,63}}\Z")
_STAGE_EXPECTED = "1 to 64 of a-z, 0-9, _ and -, the first a letter, and no Windows device name"
DOC_ID_EXPECTED = "1 to 64 of a-z, 0-9, _ and -, the first a letter or digit, and no Windows device name"

# The white space of docid/1: fixed here, since what str.strip takes off is not the same set.
_BLANKS = "\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
# Patterns as text, compiled when they are first needed: most names never get there.
_BLANK_AT_AN_END = rf"\A[{_BLANKS}]|[{_BLANKS}]\Z"
_CONTROL = "[\x00-\x1f\x7f-\x9f]"
_SURROGATE = "[\ud800-\udfff]"
_NFC_EXPECTED = "the text, or its table, saved in Unicode normal form NFC (unicodedata.normalize('NFC', text))"


def plain(text: str) -> str:
    """Return `text` as a `str` and nothing else: an enum member, say, prints as another text than it equals."""
    return text if type(text) is str else str.__str__(text)


@lru_cache(maxsize=256)  # a pipeline has a few stages and asks about them for every row
def _is_stage(stage: str) -> bool:
    return _STAGE.match(stage) is not None


def check_stage(stage: str, argument: str = "stage") -> str:
    """Return `stage`; raise InvalidName if it may not name a stage, TypeError if it is no `str`."""
    if not isinstance(stage, str):
        raise TypeError(f"{argument}: expected a str, got {type(stage).__name__}")
    if not _is_stage(stage):
        raise InvalidName(argument, stage, "not a stage name", _STAGE_EXPECTED)
    return plain(stage)


def check_doc_id(doc_id: str, argument: str = "doc_id") -> DocId:
    """Return `doc_id`; raise InvalidName if it may not name a document, TypeError if it is no `str`."""
    if not isinstance(doc_id, str):
        raise TypeError(f"{argument}: expected a str, got {type(doc_id).__name__}")
    if not DOC_ID.match(doc_id):
        raise InvalidName(argument, doc_id, "not a doc id", DOC_ID_EXPECTED)
    return DocId(plain(doc_id))


def is_missing(text: str) -> bool:
    """Return whether the text of an id's cell means that there is no id: blank, `nan`, `null` or `none`."""
    return text.strip().lower() in {"", "nan", "null", "none"}


def refuse_text(names: object, argument: str, kind: str) -> None:
    """Raise TypeError for one text where several are expected: its characters would be taken for them."""
    if isinstance(names, str):
        raise TypeError(f"{argument}: expected an iterable of {kind}, got the str {quote(names)}")


def check_text(text: str, argument: str) -> str:
    """Return `text`; raise InvalidName if it may be no task id, run id or salt, TypeError if it is no `str`."""
    # Nearly every real name is printable ASCII, where only blanks at the ends can be wrong.
    if type(text) is str and text.isascii() and text.isprintable() and text.strip() == text != "":
        return text
    if not isinstance(text, str):
        raise TypeError(f"{argument}: expected a str, got {type(text).__name__}")
    if not text:
        expected = "some text" if argument.startswith("task_id") else "some text, or None"
        raise InvalidName(argument, text, "empty", expected)
    if re.search(_BLANK_AT_AN_END, text):
        raise InvalidName(argument, text, "white space at an end", "the text without it")
    if found := re.search(_CONTROL, text):
        raise InvalidName(argument, text, f"control character U+{ord(found[0]):04X}", "text of one line without any")
    if found := re.search(_SURROGATE, text):
        raise InvalidName(argument, text, f"lone surrogate U+{ord(found[0]):04X}", "text that UTF-8 can hold")
    if not is_normalized("NFC", text):
        raise InvalidName(argument, text, "not in NFC", _NFC_EXPECTED)
    return plain(text)


def check_run_and_salt(run_id: str | None, salt: str | None) -> None:
    """Raise InvalidName if a run id or salt is given that `check_text` refuses."""
    if run_id is not None:
        check_text(run_id, "run_id")
    if salt is not None:
        check_text(salt, "salt")


def reserve_doc_id(stage: str, task_id: str, run_id: str | None = None, salt: str | None = None) -> DocId:
    """Return the doc id of a task: 16 characters, derived from the arguments alone.

    The same arguments give the same id on every platform and in every release (scheme `docid/1`); different
    ones give different ids up to a chance that `collision_probability` states. Nothing is stored.

    Args:
        stage: the stage that makes the document, `[a-z][a-z0-9_-]{0,63}`.
        task_id: the task, any one-line text in NFC without blanks at its ends.
        run_id: a run whose documents shall not be shared with other runs; None to share them.
        salt: any text that tells otherwise equal tasks apart.

    Returns:
        A letter and 15 of `0-9a-z`.

    Raises:
        InvalidName: an argument that the scheme refuses (a `ValueError`); the message names it.
        TypeError: an argument that is no `str`, nor None where that is allowed.

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
    """Return the doc ids of many tasks of one stage, in their order: as `reserve_doc_id` gives them one by one.

    Raises:
        DuplicateTaskId: two task ids are equal (a `ValueError`); the message says at which positions.
        InvalidName: an argument that the scheme refuses; the message says at which position.
        TypeError: an argument that is no `str`; or one `str` where many were expected.

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
    """Return whether `text` may name a document: 1 to 64 of `[a-z0-9_-]`, first a letter or digit, no device name.

    This admits what `reserve_doc_id` gives and the ids of other systems.

    Example:
        >>> is_doc_id("dyqgt4ths788xgx8"), is_doc_id("4a2wetfbrppa1fta"), is_doc_id(".."), is_doc_id("nul")
        (True, True, False, False)
    """
    return isinstance(text, str) and DOC_ID.match(text) is not None


def collision_probability(n: int) -> float:
    """Return the chance that `n` different tasks have any two doc ids equal.

    It is `1 - exp(-n (n - 1) / 2 / 2**82.2)`, the birthday bound with the collision entropy of the scheme (the
    slight unevenness of its characters included); 9e-14 for a million tasks, 9e-8 for 10⁹.

    Args:
        n: how many documents, not negative.

    Raises:
        ValueError: `n` is negative.

    Example:
        >>> f"{collision_probability(1_000_000):.1e}"
        '9.0e-14'
    """
    if n < 0:
        raise ValueError(f"n: expected a number of documents, got {n}")
    # Past 10¹⁸ it is 1.0 in a float, and the product soon is no float any more.
    return -expm1(-n * (n - 1) / 2 * _PAIR_COLLIDES) if n < 10**18 else 1.0


def derive(stage: str, task_id: str, run_id: str | None, salt: str | None) -> DocId:
    """Return what `reserve_doc_id` does, of arguments that were checked."""
    # An array of strings and nulls has one RFC 8785 form, and orjson writes it. Every argument has its own place in it
    # and null differs from any text, so no two different arguments share a payload.
    digest = sha256(dumps((SCHEME, stage, task_id, run_id, salt))).digest()
    # A call of DocId, which only returns its argument, would cost a tenth of the whole.
    return _FIRST_OF_BYTE[digest[0]] + digest[1:16].translate(_REST_OF_BYTE).decode()  # type: ignore[return-value]


def _same_character(alphabet: int) -> float:
    """Return the chance that two random bytes give one character: 256 is no multiple of 26 nor of 36."""
    more, rest = divmod(256, alphabet)
    return (rest * (more + 1) ** 2 + (alphabet - rest) * more**2) / 256**2


_PAIR_COLLIDES = _same_character(26) * _same_character(36) ** 15

"""Text for people: quoting and escaping for messages."""

from __future__ import annotations

import re
from unicodedata import is_normalized

_STEERING = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"


def quote(value: object, limit: int = 80) -> str:
    """Return `repr(value)`, cut in the middle to `limit` characters, for a message of one line.

    Text that is not in NFC is escaped, because it looks like the text that is.
    """
    text = repr(value)
    if not is_normalized("NFC", text):
        text = ascii(value)
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[-limit // 3 :]} ({len(text)} characters)"


def escape_controls(text: str, keep: str = "") -> str:
    r"""Return a text with escapes for characters that steer a terminal or turn the order of characters.

    Args:
        text: the text.
        keep: such characters that stay as they are.

    Example:
        >>> print(escape_controls("essay \u202e txt"))
        essay \u202e txt
    """
    return re.sub(_STEERING, lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)


def escape_surrogates(text: str) -> str:
    r"""Return a text that UTF-8 can hold: lone surrogates, as in an old record or an odd file name, are escaped.

    Example:
        >>> print(escape_surrogates("half \ud800"))
        half \ud800
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def name_task(task_id: object) -> str:
    """Return ` (task_id=…)` for a message; nothing where the task is not known."""
    return "" if task_id is None else f" (task_id={quote(task_id)})"


def format_count(number: int, noun: str) -> str:
    """Return a number with its noun, for people.

    Example:
        >>> format_count(1, "row"), format_count(1200, "row")
        ('1 row', '1,200 rows')
    """
    return f"{number:,} {noun}" + "s" * (number != 1)

"""Text for messages: quoting, escaping and counting."""

from __future__ import annotations

import re
from unicodedata import is_normalized

_CONTROLS = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"


def quote(value: object, limit: int = 80) -> str:
    """Return `repr(value)` for a one-line message, shortened in the middle to `limit` characters.

    Text that is not in NFC is escaped, because it looks the same as its NFC form.
    """
    text = repr(value)
    if not is_normalized("NFC", text):
        text = ascii(value)
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[-limit // 3 :]} ({len(text)} characters)"


def escape_controls(text: str, keep: str = "") -> str:
    r"""Escape the characters that control a terminal or change the direction of text.

    Args:
        text: the text.
        keep: control characters to leave unescaped.

    Example:
        >>> print(escape_controls("essay \u202e txt"))
        essay \u202e txt
    """
    return re.sub(_CONTROLS, lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)


def escape_surrogates(text: str) -> str:
    r"""Escape lone surrogates, which UTF-8 cannot encode. Old records and undecodable file names have them.

    Example:
        >>> print(escape_surrogates("half \ud800"))
        half \ud800
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def name_task(task_id: object) -> str:
    """Return ` (task_id=…)` for a message, or an empty text if the task is unknown."""
    return "" if task_id is None else f" (task_id={quote(task_id)})"


def format_count(number: int, noun: str) -> str:
    """Return a number and its noun, in the plural unless the number is 1.

    Example:
        >>> format_count(1, "row"), format_count(1200, "row")
        ('1 row', '1,200 rows')
    """
    return f"{number:,} {noun}" + "s" * (number != 1)

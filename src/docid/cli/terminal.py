"""What a terminal can show: text that cannot steer it, and rich where that is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from docid._text import visible

if TYPE_CHECKING:
    from docid.cli.styled import Styled

# What stands in right-to-left text, and steers nothing.
_MARKS = "\n\t\u061c\u200e\u200f"


def printable(text: str) -> str:
    """Return a text with escapes for what would steer a terminal, or turn the order of characters."""
    return visible(text.replace("\r\n", "\n"), keep=_MARKS)


def one_line(text: str) -> str:
    """Return a text as one line of a terminal."""
    return printable(text).replace("\n", " ")


def find_rich(stream: TextIO) -> Styled | None:
    """Return what prints on a terminal with rich; None for a pipe or a file, and where rich is not installed."""
    if not stream.isatty():
        return None
    try:
        from docid.cli.styled import Styled  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    return Styled(stream)

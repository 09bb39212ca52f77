"""Parsers of model replies. They return None if they find nothing; the pipeline stores the reply either way."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBER = r"[\s*#_:]*(\d+(?:\.\d+)?)"


def whole(text: str) -> str | None:
    """Return the whole reply."""
    return text


def essay_block(text: str) -> str | None:
    """Return the contents of the first `<essay>` element."""
    found = re.search(r"<essay>(.*?)</essay>", text, re.DOTALL)
    return found[1].strip() if found else None


def essay_idea_last(text: str) -> str | None:
    """Return the contents of the last `<essay-idea>` element."""
    found = re.findall(r"<essay-idea\b[^>]*>(.*?)</essay-idea>", text, re.DOTALL)
    return found[-1].strip() if found else None


def score_in_last_line(text: str) -> str | None:
    """Return the score of a last line `SCORE: 7`, as `7.0`."""
    lines = text.strip().splitlines() or [""]
    return _score(re.fullmatch(rf"\W*score{_NUMBER}(?:/10)?\W*", lines[-1], re.IGNORECASE))


def score_out_of_ten(text: str) -> str | None:
    """Return a total or final score out of ten, otherwise any score out of ten, as `7.0`."""
    out_of_ten = rf"{_NUMBER}\s*/\s*10\b"
    found = re.search(rf"(?:total|final)\s+score{out_of_ten}", text, re.IGNORECASE)
    return _score(found or re.search(rf"\bscore{out_of_ten}", text, re.IGNORECASE))


def _score(found: re.Match[str] | None) -> str | None:
    return f"{float(found[1])}\n" if found else None


PARSERS: dict[str, Callable[[str], str | None]] = {
    "": whole,
    "essay_block": essay_block,
    "essay_idea_last": essay_idea_last,
    "in_last_line": score_in_last_line,
    "complex": score_out_of_ten,
}

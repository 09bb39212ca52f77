"""Compare two texts line by line, and lay out the difference: unified, or in two columns.

difflib compares the lines. Inside a block of changed lines, docid pairs the lines that share most of their words: a
paragraph of prose is often one long line.
"""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import accumulate, takewhile, zip_longest
from typing import NamedTuple
from unicodedata import category, east_asian_width

from docid.cli.output import Styled, escape_text

NO_NEWLINE = "\\ No newline at end of text"
_NEAR = 50  # the lines in which docid searches for the new form of a changed line
_SIMILAR = 0.5  # the share of words that two forms of a line have in common, at least
_MOST_WORDS = 3_000  # words, blanks and signs of a line; a comparison of more would take too long
_NARROW = 8  # columns for a text, at least
_CHANGED = "bold reverse"  # the style of changed words
_STYLES = {"-": ("red", f"{_CHANGED} red"), "+": ("green", f"{_CHANGED} green"), " ": ("", "")}


class Row(NamedTuple):
    """A line of the left text next to one of the right text; None if the line has no counterpart.

    `kind` is `=` for equal lines, `~` for two forms of one line, and `|` for other lines.
    """

    left: str | None
    right: str | None
    kind: str


class Hunk(NamedTuple):
    """Changed rows with some unchanged ones around them, below a header with their line numbers."""

    header: str
    rows: list[Row]


def compare_texts(left: str | None, right: str | None) -> list[Row]:
    """Return the lines of two texts in rows. None is an absent text.

    A missing newline at the end counts only if the texts have no other difference. CRLF counts only if one of the texts
    also has other newlines.
    """
    texts = ["" if text is None else text for text in (left, right)]
    if all(text.count("\n") == text.count("\r\n") for text in texts):
        texts = [text.replace("\r\n", "\n") for text in texts]
    lefts, rights = (text.removesuffix("\n").split("\n") if text else [] for text in texts)
    if lefts == rights and texts[0] != texts[1]:
        lines = lefts if texts[1].endswith("\n") else rights
        lines[-1] += f"\n{NO_NEWLINE}"
    return list(_align(lefts, rights))


def _align(lefts: list[str], rights: list[str]) -> Iterator[Row]:
    """Yield the rows of two texts. Most lines of two versions are the same: those at both ends need no comparison."""
    start = _count_equal(lefts, rights)
    end = _count_equal(lefts[start:][::-1], rights[start:][::-1])
    yield from (Row(line, line, "=") for line in lefts[:start])
    yield from _align_middle(lefts[start : len(lefts) - end], rights[start : len(rights) - end])
    yield from (Row(line, line, "=") for line in lefts[len(lefts) - end :])


def _align_middle(lefts: list[str], rights: list[str]) -> Iterator[Row]:
    # Blank lines are junk: between paragraphs, they would align with the wrong ones.
    for tag, start, end, start_right, end_right in _compare(lefts, rights):
        if tag == "equal":
            yield from (Row(line, line, "=") for line in lefts[start:end])
        else:
            yield from _pair(lefts[start:end], rights[start_right:end_right])


def _compare(left: Sequence[str], right: Sequence[str]) -> Sequence[tuple[str, int, int, int, int]]:
    """Return the operations that turn one sequence into the other; blank items match only next to others."""
    return SequenceMatcher(lambda item: not item.strip(), left, right).get_opcodes()


def _pair(lefts: list[str], rights: list[str]) -> Iterator[Row]:
    """Yield the rows of a changed block, in which similar lines are next to each other."""
    bags = [_list_words(line) for line in rights]
    done, done_right = 0, 0
    for position, line in enumerate(lefts if rights else ()):
        words = _list_words(line)
        near = [_measure(words, bag) for bag in bags[done_right : done_right + _NEAR]]
        if max(near, default=0) >= _SIMILAR:
            found = done_right + near.index(max(near))
            yield from _align_others(lefts[done:position], rights[done_right:found])
            yield Row(line, rights[found], "=" if line == rights[found] else "~")
            done, done_right = position + 1, found + 1
    yield from _align_others(lefts[done:], rights[done_right:])


def _list_words(line: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", line))


def _measure(words: frozenset[str], others: frozenset[str]) -> float:
    """Return the share of the words that two lines have in common."""
    return 2 * len(words & others) / (len(words) + len(others) or 1)


def _align_others(lefts: list[str], rights: list[str]) -> Iterator[Row]:
    """Yield the rows of lines without a similar one: equal blank lines, and lines by their position."""
    for tag, start, end, start_right, end_right in SequenceMatcher(None, lefts, rights).get_opcodes():
        kind = "=" if tag == "equal" else "|"
        pairs = zip_longest(lefts[start:end], rights[start_right:end_right])
        yield from (Row(left, right, kind) for left, right in pairs)


def cut_hunks(rows: Sequence[Row], context: int) -> Iterator[Hunk]:
    """Yield the changed rows with `context` unchanged ones around them."""
    spans: list[list[int]] = []
    for position in (position for position, row in enumerate(rows) if row.kind != "="):
        start, end = max(0, position - context), min(len(rows), position + context + 1)
        if spans and start <= spans[-1][1]:
            spans[-1][1] = end
        else:
            spans.append([start, end])
    lefts, rights = ([0, *accumulate(row[side] is not None for row in rows)] for side in (0, 1))
    for start, end in spans:
        ranges = [_format_range(counts[start], counts[end]) for counts in (lefts, rights)]
        yield Hunk(f"@@ -{ranges[0]} +{ranges[1]} @@", list(rows[start:end]))


def _format_range(start: int, end: int) -> str:
    """Return the numbers of lines as `diff -u` writes them: the first one and the count."""
    count = end - start
    return f"{start + 1}" if count == 1 else f"{start + (count > 0)},{count}"


def format_unified(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Yield the lines of a hunk, each with its mark: `-`, `+` or a blank."""
    for mark, line, _ in _list_unified(rows):
        yield mark, line


def _list_unified(rows: Sequence[Row]) -> Iterator[tuple[str, str, Row]]:
    """Yield the lines of a hunk with their marks and rows. The two forms of a line follow each other."""
    removed: list[tuple[str, str, Row]] = []
    added: list[tuple[str, str, Row]] = []
    for row in rows:
        if row.kind != "|":
            yield from (*removed, *added)
            removed, added = [], []
        if row.kind == "=":
            yield " ", row.left or "", row
        else:
            removed += [("-", row.left, row)] if row.left is not None else []
            added += [("+", row.right, row)] if row.right is not None else []
    yield from (*removed, *added)


def draw_unified(rows: Sequence[Row], columns: int | None) -> Iterator[Styled]:
    """Yield the lines of a hunk for the screen.

    Args:
        rows: those of the hunk.
        columns: the width of the terminal, for wrapped lines with styles for changed words. None leaves lines whole.
    """
    for mark, line, row in _list_unified(rows):
        if columns is None:
            yield [(f"{mark}{escape_text(line)}", "")]
            continue
        wrapped = _wrap(_style_words(row, mark), max(_NARROW, columns - 1))
        for number, part in enumerate(wrapped):
            yield [(" " if number else mark, _STYLES[mark][0]), *part]


def draw_columns(rows: Sequence[Row], columns: int) -> Iterator[Styled]:
    """Yield the lines of a hunk in two columns, wrapped to the width of the screen.

    The marks between the columns are those of `diff -y`: `|` changed, `<` only on the left, `>` only on the right. In a
    wrapped line, they are next to the changed words.
    """
    for row in rows:
        mark = " " if row.kind == "=" else ">" if row.left is None else "<" if row.right is None else "|"
        left, right = (_style_words(row, " " if row.kind == "=" else side) for side in "-+")
        yield from join_columns(left, mark, right, columns)


def join_columns(left: Styled, mark: str, right: Styled, columns: int) -> Iterator[Styled]:
    """Yield the lines of two texts in two columns, with a mark between them."""
    width = max(_NARROW, (columns - 3) // 2)
    empty: Styled = []
    pairs = list(zip_longest(_wrap(left, width), _wrap(right, width), fillvalue=empty))
    changed = [any(style.startswith(_CHANGED) for _, style in (*one, *other)) for one, other in pairs]
    has_changed = any(changed)
    for (one, other), is_changed in zip(pairs, changed, strict=True):
        blanks = " " * (width - _measure_width("".join(text for text, _ in one)))
        gutter = mark if is_changed or not has_changed else " "
        if other:
            yield [*one, (f"{blanks} {gutter} ", ""), *other]
        else:
            yield one if gutter == " " else [*one, (f"{blanks} {gutter}", "")]


def _style_words(row: Row, mark: str) -> Styled:
    """Return the line of a row for the screen; the changed words of a similar line have their own style."""
    lines = ["" if line is None else escape_text(line).expandtabs() for line in (row.left, row.right)]
    own = 1 if mark == "+" else 0
    plain, changed = _STYLES[mark]
    if row.kind != "~":
        return [(lines[own], plain)]
    spans = _find_changed_words(*lines)[own]
    return [(text, changed if is_changed else plain) for text, is_changed in spans if text]


def _find_changed_words(left: str, right: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Return the spans of two lines, each with whether it changed."""
    words, others = (re.findall(r"\w+|\s+|[^\w\s]", line) for line in (left, right))
    if max(len(words), len(others)) > _MOST_WORDS:
        return _find_changed_middle(left, right)
    spans: tuple[list[tuple[str, bool]], list[tuple[str, bool]]] = ([], [])
    for tag, start, end, start_right, end_right in _compare(words, others):
        spans[0].append(("".join(words[start:end]), tag != "equal"))
        spans[1].append(("".join(others[start_right:end_right]), tag != "equal"))
    return spans


def _find_changed_middle(left: str, right: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Return the spans of two long lines: the text between the same start and the same end is changed."""
    start = _count_equal(left, right)
    end = _count_equal(left[start:][::-1], right[start:][::-1])
    spans = []
    for line in (left, right):
        stop = len(line) - end
        spans.append([(line[:start], False), (line[start:stop], True), (line[stop:], False)])
    return spans[0], spans[1]


def _count_equal(left: Sequence[str], right: Sequence[str]) -> int:
    """Return the number of equal lines, or characters, with which both texts start."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))


def _wrap(line: Styled, width: int) -> list[Styled]:
    """Return a line in parts of at most `width` columns, broken between words if possible."""
    rows: list[Styled] = []
    for start, end in _find_breaks("".join(text for text, _ in line), width):
        row, offset = [], 0
        for text, style in line:
            if part := text[max(0, start - offset) : max(0, end - offset)]:
                row.append((part, style))
            offset += len(text)
        rows.append(row)
    return rows


def _find_breaks(text: str, width: int) -> list[tuple[int, int]]:
    """Return the start and end of each part of a text that fits into a width. Blanks between two parts are left out."""
    parts: list[tuple[int, int]] = []
    start = end = used = 0
    for found in re.finditer(r"\n|[^\S\n]+|\S+", text):
        word, needed = found[0], _measure_width(found[0])
        if used + needed <= width and word != "\n":
            end, used = found.end(), used + needed
            continue
        if used or word == "\n":
            parts.append((start, end))
        start, used = found.end() if word.isspace() else found.start(), 0
        end = start
        for position, character in enumerate("" if word.isspace() else word, start):
            size = _measure_width(character)
            if used + size > width:
                parts.append((start, position))
                start, used = position, 0
            end, used = position + 1, used + size
    return parts if parts and start == end else [*parts, (start, end)]


def _measure_width(text: str) -> int:
    """Return the columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    wide = sum(east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(category(character) in {"Mn", "Me", "Cf"} for character in text)

"""Headers of tables: the comparison of column names, and the check of records against them."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from docid._text import format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from docid.tables.faults import Faults

_NULS = "\0" * 4
HEADER_AGAIN = "the header again, as if tables were joined"
LOOKS_ALIKE = "another column looks like it"
NOT_UTF8 = "not UTF-8; save the table as UTF-8"
QUOTE_AFTER_BLANK = "a quote after a blank, so the quotes are part of the text; remove the blanks after the delimiters"
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_PUNCTUATION = {code: None for code in range(128) if not chr(code).isalnum()}


def fold_name(text: str) -> str:
    r"""Return the letters and digits of a column name, without case, accents and compatibility forms.

    Names that fold to the same text look the same, or almost: blanks, punctuation, quotes and invisible characters do
    not count.

    Example:
        >>> fold_name("\ufeffDoc-ID"), fold_name("doc_id")
        ('docid', 'docid')
    """
    if text.isascii():
        return text.translate(_PUNCTUATION).lower()
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    # The fillers of Hangul are letters to Unicode, but invisible.
    return "".join(each for each in folded if each.isalnum() and "FILLER" not in unicodedata.name(each, ""))


def is_nearly(text: str, name: str) -> bool:
    """Return whether a column name differs from `name`, but looks like it.

    A letter of another alphabet may look like a Latin one. So a letter outside of ASCII matches every ASCII letter, if
    at least half of the letters are equal.
    """
    one, other = fold_name(text), fold_name(name)
    if text == name or len(one) != len(other) or not one:
        return False
    pairs = list(zip(one, other, strict=True))
    equal = sum(a == b for a, b in pairs)
    return 2 * equal >= len(pairs) and all(a == b or a.isascii() != b.isascii() for a, b in pairs)


def find_misspelling(name: str, header: Iterable[str], known: Collection[str] = ()) -> str | None:
    """Return a column that looks like `name`, but is neither `name` nor a `known` column; else None."""
    return next((each for each in header if each not in known and is_nearly(each, name)), None)


def show_name(other: str, name: str) -> str:
    """Quote a misspelled column name for a message, with escapes for all that the eye cannot tell from `name`."""
    return repr(other) if other.casefold() == name.casefold() else ascii(other)


def format_names(header: Sequence[str]) -> str:
    """Format column names for a message: the first 20, each up to 60 characters, invisible ones as escapes."""
    names = [repr(name[:60])[1:-1] + "…" * bool(name[60:]) for name in header[:20]]
    return ", ".join(names + ["…"] * bool(header[20:]))


def check_header(header: Sequence[str], faults: Faults, names: Iterable[str], delimiter: str = ",") -> None:
    """Note each of `names` that a header repeats; raise a `TaskTableError` unless its text and delimiter are right."""
    text, before = delimiter.join(header), faults.count
    if not is_utf8(text):
        faults.add(1, None, text, NOT_UTF8)
    elif text[1::2].startswith(_NULS) or text[::2].startswith(_NULS):
        faults.add(1, None, text, "UTF-16 without a BOM; save the table as UTF-8")
    elif len(header) == 1 and (
        found := next((each for each in DELIMITERS if each in header[0] and each != delimiter), None)
    ):
        fix = f"pass delimiter={found!r} (on the command line --delimiter {'tab' if found == chr(9) else repr(found)})"
        expected = DELIMITERS.get(delimiter, repr(delimiter))
        faults.add(
            1, None, header[0], f"separated by {found!r}; expected {expected}. Save it with {expected}, or {fix}"
        )
    if faults.count > before:
        faults.raise_any()
    for name in names:
        if header.count(name) > 1:
            faults.add(1, name, "", "repeated; expected each column once")


def has_quote_after_blank(text: str) -> bool:
    """Return whether a quote follows blanks or invisible characters at the start of a text."""
    blank, quote, _ = text.partition('"')
    return bool(blank and quote) and all(each.isspace() or not each.isprintable() for each in blank)


def is_utf8(text: str) -> bool:
    """Return whether text from `open_table` was valid."""
    return text.isascii() or re.search("[\ud800-\udfff]", text) is None


class Header(NamedTuple):
    """The columns of a table.

    Attributes:
        columns: the columns; of the columns without a name at the end, only the first.
        width: the number of cells in the header.
        keys: the columns whose cells hold their name only in a repeated header.
    """

    columns: tuple[str, ...]
    width: int
    keys: tuple[str, ...]


def make_header(cells: Sequence[str], keys: Iterable[str]) -> Header:
    """Return the header of a table. See `Header`."""
    columns = list(cells)
    while columns and not columns[-1] and columns.count("") > 1:
        del columns[-1]
    return Header(tuple(columns), len(cells), tuple(key for key in keys if key in columns))


def build_header_check(header: Header) -> Callable[[list[str]], bool]:
    """Return a function that returns whether cells repeat the header, perhaps in another order."""
    names = set(header.columns)
    keys = [(header.columns.index(name), fold_name(name)) for name in header.keys]

    def is_header(cells: list[str]) -> bool:
        if cells[0] in names and names.issuperset(cells):
            return any(name in cells for name in header.keys)
        for position, folded in keys:
            cell = cells[position] if position < len(cells) else ""
            # Most cells are too short, and folding takes time.
            if (len(cell) >= len(folded) or not cell.isascii()) and fold_name(cell) == folded:
                return True
        return False

    return is_header


def build_check(header: Header, faults: Faults) -> Callable[[int, list[str]], bool]:
    """Return a function that returns whether a record is damaged, and notes why.

    A record is damaged if it is not UTF-8, repeats the header, or has more or fewer cells than the header. The function
    removes the cells of columns that `make_header` leaves out.
    """
    count, is_header = len(header.columns), build_header_check(header)

    def is_damaged(number: int, cells: list[str]) -> bool:
        if len(cells) == header.width > count and not any(cells[count:]):
            del cells[count:]
        if len(cells) != count:
            fix = (
                "add the missing cells" if len(cells) < count else "put quotes around a cell that contains a delimiter"
            )
            faults.add(
                number, None, "", f"{format_count(len(cells), 'cell')}; expected {count:,}, as in the header: {fix}"
            )
            return True
        if is_header(cells):
            faults.add(number, None, "", f"{HEADER_AGAIN}; remove this row")
            return True
        if is_utf8("".join(cells)):
            return False
        for name, text in zip(header.columns, cells, strict=True):
            if not is_utf8(text):
                faults.add(number, name, text, NOT_UTF8)
        return True

    return is_damaged

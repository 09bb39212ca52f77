"""Parse the records of a table into rows: the check of its header, the parsing of cells, and repeated doc ids."""

from __future__ import annotations

from array import array
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar, cast

from docid.tables.headers import (
    LOOKS_ALIKE,
    QUOTE_AFTER_BLANK,
    Header,
    build_check,
    check_header,
    find_misspelling,
    format_names,
    has_quote_after_blank,
    make_header,
    show_name,
)
from docid.tables.values import plain_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from docid.tables.faults import Faults

Made = TypeVar("Made")
Item = TypeVar("Item")
_RESERVED = {"doc_id", "parent_doc_id"}


def check_columns(
    cells: Sequence[str],
    schema: Any,
    faults: Faults,
    *,
    reserved: bool,
    delimiter: str = ",",
    row: int | None = 1,
    source: str = "header",
) -> Header:
    """Return the header of these cells; raise a `TaskTableError` unless it fits the row type.

    Args:
        cells: the names of the columns.
        schema: the schema of the row type.
        faults: takes the faults.
        reserved: require the columns `doc_id` and `parent_doc_id`.
        delimiter: the delimiter of the table.
        row: the number of the header, for messages.
        source: what holds the columns, for messages.
    """
    task_column = schema.columns[0].name
    if not cells:
        faults.raise_any()
        faults.add(None, None, "", f"no {source}; expected a CSV table with the column {task_column}")
        faults.raise_any()
    header = make_header(cells, (task_column,))
    check_header(header.columns, faults, sorted(set(header.columns)), delimiter)
    if source == "frame":  # a reader of CSV compares with the raw text
        for name in filter(has_quote_after_blank, header.columns):
            faults.add(row, name, "", QUOTE_AFTER_BLANK)
    needed = {column.name for column in schema.columns if column.required}
    if reserved:
        needed |= _RESERVED
    # Rows of every type may name a source.
    known = dict.fromkeys((*(column.name for column in schema.columns), "source_doc_id"))
    others = [name for name in header.columns if name not in known]
    for name in known:
        if other := find_misspelling(name, others):
            # Refuse even an optional column: docid would add it, and fill it with new ids for rows that have ids.
            wrong = LOOKS_ALIKE if name in header.columns else f"missing from the {source}"
            faults.add(row, name, "", f"{wrong}; is {show_name(other, name)} misspelled?")
        elif name in needed and name not in header.columns:
            import difflib  # noqa: PLC0415 - only for an error

            near = difflib.get_close_matches(name, others, 1)
            hint = f"is {near[0]!a} misspelled?" if near else f"the columns are {format_names(header.columns)}"
            fix = " ('docid reserve' adds it)" if name in _RESERVED else ""
            faults.add(row, name, "", f"missing from the {source}; {hint}{fix}")
    faults.raise_any()
    return header


def build_row_parser(
    row_type: type[Made], schema: Any, header: Header, faults: Faults, *, reserved: bool
) -> Callable[[int, list[str]], Made | None]:
    """Return a function that parses a record into a row. For a faulty record, it notes the faults and returns None."""
    columns = header.columns
    own = [(columns.index(column.name), column) for column in schema.columns if column.name in columns]
    others = [(position, name) for position, name in enumerate(columns) if name not in schema.names]
    is_damaged, make = build_check(header, faults), cast("Any", row_type)

    def parse_row(number: int, cells: list[str]) -> Made | None:
        if is_damaged(number, cells):
            return None
        before = faults.count
        values: dict[str, Any] = {}
        kept: dict[str, str] = {}
        for position, column in own:
            text = cells[position]
            try:
                value = values[column.argument] = column.parse(text)
            except ValueError as error:
                expected = str(error) or f"expected {column.expected}"
                if column.attribute == "task_id" and text != text.strip():
                    expected += ". Remove the blanks in the table, and in tables that name this task"
                faults.add(number, column.name, text, expected if text or str(error) else f"empty; {expected}")
                continue
            if reserved and not value and column.name in _RESERVED:
                parent = f"a document of stage {make.parent_stage!r}"
                document = "the row's document" if column.name == "doc_id" else parent
                expected = f"missing; expected the doc id of {document} ('docid reserve' fills it)"
                faults.add(number, column.name, text, expected)
            elif value is not text and plain_text(value) != text:
                kept[column.name] = text
        if faults.count > before:
            return None
        extra = {name: cells[position] for position, name in others}
        try:
            made: Made = make(**values, extra=extra, columns=columns, _cells=kept)
        except (TypeError, ValueError) as error:  # from a validator of the class
            faults.add(number, None, "", str(error))
            return None
        return made

    return parse_row


class IdCount:
    """Finds doc ids that several rows have. It keeps 8 bytes per id: its hash.

    Hashes of different ids may be equal, in theory. So compare the ids themselves in a second pass: `find_repeated`.
    """

    def __init__(self) -> None:
        self._hashes = array("q")

    def add(self, doc_id: str) -> None:
        """Count one id."""
        self._hashes.append(hash(doc_id))

    def find_repeated(self, numbered: Iterable[tuple[int, str, Item]]) -> Iterator[tuple[int, str, int, Item]]:
        """Yield each row whose doc id an earlier row has: its number, its doc id, the earlier number, and the item.

        `numbered` is the number, doc id and item of each row again; docid reads it only if hashes are equal.
        """
        repeated = {one for one, other in pairwise(sorted(self._hashes)) if one == other}
        first: dict[str, int] = {}
        for number, doc_id, item in numbered if repeated else ():
            if hash(doc_id) not in repeated:
                continue
            if doc_id in first:  # maybe with the same number: the replicates of a row share it
                yield number, doc_id, first[doc_id], item
            else:
                first[doc_id] = number

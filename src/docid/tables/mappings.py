"""Rows from mappings: JSON objects, rows of `csv.DictReader` or of a database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar, cast

from docid._text import quote
from docid.errors import TaskTableError
from docid.tables.faults import Faults
from docid.tables.parsing import build_row_parser, check_columns
from docid.tables.values import INPUTS, format_value, join_names, list_id_columns, list_whole_columns

Made = TypeVar("Made")


def is_mapping(value: object) -> bool:
    """Return whether a value is a mapping, or a row of a database, which has `keys` too."""
    return isinstance(value, Mapping) or (hasattr(value, "keys") and hasattr(value, "__getitem__"))


class MappingParser(Generic[Made]):
    """Parses mappings into rows, by the rules of a table whose columns are their keys."""

    def __init__(self, row_type: type[Made], schema: Any, faults: Faults) -> None:
        self._row_type = row_type
        self._schema = schema
        self._faults = faults
        self._parsers: dict[tuple[object, ...], Any] = {}
        self._ids = set(list_id_columns(row_type))
        self._whole = list_whole_columns(schema)

    def parse(self, number: int | None, mapping: Mapping[str, object]) -> Made | None:
        """Return the row of a mapping; note its faults and return None if it has any."""
        keys = tuple(mapping.keys())
        if self._parsers.get(keys) is None:
            self._parsers[keys] = self._build_parser(number, keys)
        parse = self._parsers[keys]
        if parse is None:
            return None
        before, cells = self._faults.count, []
        for key in keys:
            value = join_names(mapping[key]) if key == INPUTS else mapping[key]
            text, wrong = format_value(value, is_id=key in self._ids, is_whole=key in self._whole)
            if wrong:
                self._faults.add(number, str(key), value if isinstance(value, str) else quote(value), wrong)
            cells.append(text)
        return cast("Made | None", parse(number, cells)) if self._faults.count == before else None

    def _build_parser(self, number: int | None, keys: tuple[object, ...]) -> Any:
        """Return the parser of mappings with these keys; None for unusable keys, which it notes as faults."""
        faults = Faults(self._faults.file)
        if odd := [key for key in keys if not isinstance(key, str)]:
            # csv.DictReader puts the cells without a column below the key None.
            wrong = "more cells than columns" if odd == [None] else "a key that is not text"
            self._faults.add(number, None, "", f"{wrong}; expected the names of columns as keys")
            return None
        try:
            header = check_columns(
                cast("tuple[str, ...]", keys), self._schema, faults, reserved=False, row=number, source="row"
            )
        except TaskTableError as error:
            self._faults.take_over(error)
            return None
        return build_row_parser(self._row_type, self._schema, header, self._faults, reserved=False)


def parse_mapping(mapping: Mapping[str, object], row_type: type[Made], schema: Any) -> Made:
    """Return the row of a mapping; raise a `TaskTableError` if it has faults. See `TaskRow.from_mapping`."""
    if not is_mapping(mapping):
        raise TypeError(f"mapping: expected a mapping of columns to values, got {type(mapping).__name__}")
    faults = Faults("")
    row = MappingParser(row_type, schema, faults).parse(None, mapping)
    faults.raise_any()
    return cast("Made", row)

"""Values as the text of cells, and the columns whose values have rules of their own."""

from __future__ import annotations

import numbers
from datetime import date, time
from decimal import Decimal
from typing import Any

_IDS = ("doc_id", "doc_run_id", "doc_salt", "parent_doc_id", "source_doc_id", "input_doc_ids")


INPUTS = "input_doc_ids"


def join_names(value: object) -> object:
    """Return the inputs of a row as the text of a cell, if they are a list of names."""
    if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
        return " ".join(value)
    return value


def list_id_columns(row_type: type[Any]) -> list[str]:
    """Return the names of id columns, the row's own task id first."""
    return [*(f"{stage}_task_id" for stage in (row_type.stage, row_type.parent_stage) if stage), *_IDS]


def list_whole_columns(schema: Any) -> set[str]:
    """Return the names of the columns of type `int`."""
    return {column.name for column in schema.columns if column.kind is int}


class JsonNumber(str):
    """A number of a JSON text, as it is written there."""

    __slots__ = ()


def format_value(value: object, *, is_id: bool, is_whole: bool, hint: str = "") -> tuple[str, str]:
    """Return a value as the text of a cell, and its fault; one of them is empty.

    None and NaN become an empty cell. A number in an id column is a fault: a reader that took `007` for a number has
    lost the id.
    """
    text = _format(value, is_whole=is_whole)
    if text is None:
        return "", f"of type {type(value).__name__}; expected text, a number or null"
    if text and is_id and (isinstance(value, JsonNumber) or not isinstance(value, str)):
        kind = "number" if isinstance(value, JsonNumber) else type(value).__name__
        return "", f"of type {kind}; expected text{hint}"
    return text, ""


def _format(value: Any, *, is_whole: bool) -> str | None:
    if value is None or isinstance(value, str):
        return str.__str__(value or "")
    if type(value).__name__ in {"bool", "bool_"}:
        return str(bool(value)).lower()
    if isinstance(value, (numbers.Real, Decimal)) and value != value:  # noqa: PLR0124 - NaN, which is not null
        return ""
    if isinstance(value, (numbers.Integral, Decimal)):
        return str(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        # pandas stores integers as floats if the column has a null.
        return str(int(number)) if is_whole and number.is_integer() else repr(number)
    return value.isoformat() if isinstance(value, (date, time)) else None


def plain_text(value: Any) -> str:
    """Return the cell text of a value."""
    # Use the base types' methods: a subclass (an IntEnum, NumPy's float64) may print another text.
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, tuple):  # the names of input_doc_ids
        return " ".join(value)
    return str.__str__(value) if isinstance(value, str) else repr(value)

"""Task tables in JSON Lines: one object per line, whose keys are columns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from docid._files import raise_time_limit
from docid._text import quote
from docid.tables.faults import Faults
from docid.tables.opening import DAMAGE, FileState, describe_change, describe_damage, get_state, open_table
from docid.tables.rows import TaskRow, schema_of
from docid.tables.values import INPUTS, JsonNumber, format_value, join_names, list_id_columns, list_whole_columns

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def open_json_lines(
    path: str, row_type: type[TaskRow], faults: Faults
) -> tuple[FileState, list[str], Generator[tuple[int, list[str]]]]:
    """Open a table in JSON Lines: return its state, its columns and its records. See `csvfile.open_records`.

    The columns are the keys of all objects, so docid reads the file once to find them. A missing key is an empty cell.
    """
    found = Faults(faults.file)
    with open_table(path, faults.file) as stream:
        state = get_state(stream.fileno())
        columns = list(dict.fromkeys(key for _, each in _read_objects(stream, found) for key in each))
    if not columns:
        found.raise_any()
    ids, whole = set(list_id_columns(row_type)), list_whole_columns(schema_of(row_type))

    def format_records() -> Generator[tuple[int, list[str]]]:
        with open_table(path, faults.file) as stream:
            if get_state(stream.fileno()) != state:
                raise describe_change(faults.file)
            for number, each in _read_objects(stream, faults):
                before, cells = faults.count, []
                for name in columns:
                    value = join_names(each.get(name)) if name == INPUTS else each.get(name)
                    text, wrong = format_value(value, is_id=name in ids, is_whole=name in whole)
                    if wrong:
                        faults.add(number, name, quote(value), wrong)
                    cells.append(text)
                if faults.count == before:
                    yield number, cells

    return state, columns, format_records()


def _read_objects(stream: Iterable[str], faults: Faults) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of JSON Lines with the numbers of their lines; note a fault for every other line."""
    numbered = enumerate(stream, 1)
    number = 0
    while True:
        try:
            number, line = next(numbered)
            if not line.strip():
                continue
            found = json.loads(
                line.rstrip("\r\n"), parse_int=JsonNumber, parse_float=JsonNumber, parse_constant=_refuse_constant
            )
        except StopIteration:
            return
        except DAMAGE as error:
            raise_time_limit(error)
            faults.add(number + 1, None, "", describe_damage(error))
            return
        except (ValueError, RecursionError) as error:
            faults.add(number, None, "", f"not JSON: {error}; expected one JSON object per line")
            continue
        if isinstance(found, dict):
            yield number, found
        else:
            faults.add(number, None, "", "not a JSON object; expected one object per line")

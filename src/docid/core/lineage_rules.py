"""Lineage: a task id, a parent doc id and inputs. All comparisons in docid use this module.

A record of an older system may lack a task id or a parent. An unknown value is neither a conflict nor a match.

The lineage names documents. A *pin* names a version of one: the SHA-256 of its raw and parsed text. Two versions of a
document have one lineage, and may have different pins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

from docid._text import quote
from docid.core.ids import DOC_ID_EXPECTED, check_stage, is_doc_id
from docid.errors import InvalidName, LineageConflict

_DIGEST = re.compile("[0-9a-f]{64}")

MOST_INPUTS = 1_000
"""The largest number of inputs of a document."""

Pin = dict[str, str]
"""A version of a document: the SHA-256 in hex of its raw and parsed text, by file name. The prompt does not count."""

Pins = dict[str, Pin | None]
"""The versions that a document was made from: of its parent by doc id, of its inputs by `STAGE/ID`. None is unknown."""


class _HasLineage(Protocol):
    """A row, a document or a record."""

    @property
    def task_id(self) -> str | None: ...
    @property
    def parent_doc_id(self) -> str | None: ...


class _HasStoredLineage(_HasLineage, Protocol):
    """A record."""

    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def legacy(self) -> bool: ...


class _Lineage(NamedTuple):
    task_id: str | None
    parent_doc_id: str | None
    inputs: tuple[str, ...]


class ReadPins(dict[str, "Pin | None"]):
    """Pins that were read from a record, not given by the caller: `ensure` renews them."""


def get_inputs(document: Any) -> tuple[str, ...]:
    """Return the inputs of a row, a document or a record. A row of another class may have none."""
    is_row = hasattr(document, "doc_run_id")  # a row may have a column `inputs` of its own
    return tuple(getattr(document, "input_doc_ids", ()) if is_row else document.inputs)


def split_name(name: str, argument: str = "inputs") -> tuple[str, str]:
    """Return the stage and the doc id of a name `STAGE/ID`; raise InvalidName for any other text."""
    if isinstance(name, str):
        stage, slash, doc_id = name.partition("/")
        if slash and is_doc_id(doc_id):
            return check_stage(stage, f"{argument}, stage"), doc_id
    raise InvalidName(argument, name, "not STAGE/ID", f"the stage and the doc id of a document ({DOC_ID_EXPECTED})")


def check_inputs(names: Iterable[str], own: str = "", argument: str = "inputs") -> tuple[str, ...]:
    """Return inputs as a tuple; `own` is the name of the document that is made from them.

    Raises:
        InvalidName: a name is not `STAGE/ID`, or repeats, or is the document's own; there are too many.
        TypeError: `names` is one text, or not iterable.
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        kind = f"the text {quote(names)}" if isinstance(names, str) else type(names).__name__
        raise TypeError(f"{argument}: expected names of documents, such as ('essay/a1', 'essay/b2'), got {kind}")
    found = tuple(names)
    seen = {own}
    for name in found:
        split_name(name, argument)
        if name in seen:
            problem = "the document itself" if name == own else "repeated"
            raise InvalidName(argument, name, problem, "other documents, each one once")
        seen.add(name)
    if len(found) > MOST_INPUTS:
        raise InvalidName(argument, f"{found[0]} …", f"{len(found):,} inputs", f"at most {MOST_INPUTS:,}")
    return found


def check_pins(pins: object, parent_doc_id: str | None, inputs: tuple[str, ...]) -> Pins:
    """Return the pins of a document.

    Those that were read from a record may name another parent, if the caller has changed that: they are left out.

    Raises:
        TypeError: they are not pins.
        InvalidName: a pin is for a document that is neither the parent nor an input.
    """
    if not isinstance(pins, dict) or not all(each is None or _is_pin(each) for each in pins.values()):
        raise TypeError(f"pins: expected a dict of the `pin` of each parent and input, got {quote(pins)}")
    sources = {parent_doc_id, *inputs} - {None}
    if isinstance(pins, ReadPins):
        return ReadPins({key: pin for key, pin in pins.items() if key in sources})
    for key in pins:
        if key not in sources:
            expected = "the doc id of the parent, or the name of an input"
            raise InvalidName("pins", key, "neither the parent nor an input", expected)
    return pins


def _is_pin(value: object) -> bool:
    """Return whether a value is a version: SHA-256 in hex by file name."""
    if not isinstance(value, dict) or not all(isinstance(each, str) for pair in value.items() for each in pair):
        return False
    return all(map(_DIGEST.fullmatch, value.values()))


def find_differences(document: _HasLineage, expected: _HasLineage, *, legacy: bool) -> list[str]:
    """Return the keys in which the lineage of a document differs from the expected one.

    With `legacy`, the document comes from a record of an older system, which has no inputs: an unknown value does not
    differ.
    """
    found = {"task_id": document.task_id, "parent_doc_id": document.parent_doc_id}
    differing = [
        key for key, value in found.items() if value != getattr(expected, key) and not (legacy and value is None)
    ]
    return differing if get_inputs(document) == get_inputs(expected) else [*differing, "inputs"]


def find_changed_parts(pin: Pin | None, now: Pin | None) -> tuple[str, ...]:
    """Return the files of a pinned version that differ now, such as `raw.txt`.

    A file that was added later does not count, and an unknown version never differs.
    """
    if pin is None or now is None:
        return ()
    return tuple(name for name, digest in pin.items() if now.get(name) != digest)


def find_changed(pins: Pins, now: Mapping[str, Pin | None]) -> tuple[str, ...]:
    """Return the keys of `pins` whose document is another version now. An unknown version never differs."""
    return tuple(key for key, pin in pins.items() if find_changed_parts(pin, now.get(key)))


def is_other_lineage(record: _HasStoredLineage, other: _HasLineage) -> bool:
    """Return whether a record has another lineage. An unknown value does not differ."""
    return bool(find_differences(record, other, legacy=record.legacy))


def is_same_lineage(
    record: _HasStoredLineage, task_id: str | None, parent_doc_id: str | None, inputs: tuple[str, ...]
) -> bool | None:
    """Return whether a record has this lineage; None if a record of an older system lacks a task id or a parent."""
    wanted = _Lineage(task_id, parent_doc_id, inputs)
    if is_other_lineage(record, wanted):
        return False
    return None if find_differences(record, wanted, legacy=False) else True


def check_lineage(
    record: _HasStoredLineage, document: _HasLineage, stage: str, doc_id: str, location: str
) -> bool | None:
    """Compare the record at `location` with the document to write there, or with its row, as `is_same_lineage` does.

    Raises:
        LineageConflict: the record has another lineage.
    """
    inputs = get_inputs(document)
    same = is_same_lineage(record, document.task_id, document.parent_doc_id, inputs)
    if same is False:
        raise LineageConflict(
            stage=stage,
            doc_id=doc_id,
            task_id=document.task_id,
            parent_doc_id=document.parent_doc_id,
            stored_task_id=record.task_id,
            stored_parent_doc_id=record.parent_doc_id,
            location=location,
            inputs=inputs,
            stored_inputs=record.inputs,
        )
    return same


def contradicts(stored: str | None, given: str | None) -> bool:
    """Return whether two task ids, or two parents, differ. None is unknown and does not differ."""
    return stored is not None and given is not None and stored != given


def find_contradictions(
    record: _HasStoredLineage, task_id: str | None, parent_doc_id: str | None
) -> dict[str, tuple[str | None, str | None]]:
    """Return the keys in which a record and a task table differ, each with both values."""
    pairs = {"task_id": (record.task_id, task_id), "parent_doc_id": (record.parent_doc_id, parent_doc_id)}
    return {key: pair for key, pair in pairs.items() if contradicts(*pair)}


def describe_lineage(document: _HasLineage) -> str:
    """Format the lineage of a row, a document or a record for a message."""
    inputs = get_inputs(document)
    more = f", inputs={quote(' '.join(inputs))}" if inputs else ""
    return f"task_id={quote(document.task_id)}, parent_doc_id={quote(document.parent_doc_id)}{more}"


def find_missing_lineage(record: _HasStoredLineage, *, has_parent: bool) -> list[Literal["task_id", "parent_doc_id"]]:
    """Return the lineage keys that a record of an older system lacks.

    `DocsStore.ensure` refuses the document until you migrate it.
    """
    unsaid: list[Literal["task_id", "parent_doc_id"]] = []
    if record.legacy and record.task_id is None:
        unsaid.append("task_id")
    if record.legacy and has_parent and record.parent_doc_id is None:
        unsaid.append("parent_doc_id")
    return unsaid

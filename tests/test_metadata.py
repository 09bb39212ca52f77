"""Metadata: values that docid converts to JSON, values that it refuses, and keys that it uses itself."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections import namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from docid import DocsStore, Document, InvalidDocument
from docid.core.metadata import convert_metadata
from docid.core.record import Record

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def make(**fields: Any) -> Document:
    return Document(
        **{"stage": "draft", "doc_id": "a1", "task_id": "t-1", "raw_text": "x", "created_at": NOON, **fields}
    )


class Colour(StrEnum):
    RED = "red"


class Number(IntEnum):
    ONE = 1


class Kind(Enum):
    PAIR = (1, NOON)


Point = namedtuple("Point", "x y")  # noqa: PYI024 - as users write it


@attrs.frozen
class Usage:
    tokens: int
    key: str = attrs.field(default="secret", repr=False)


@dataclasses.dataclass
class Cost:
    usd: float
    usage: Usage
    key: str = dataclasses.field(default="secret", repr=False)


class Model:
    """An object of a model client: it has `model_dump`, as pydantic models have."""

    def model_dump(self) -> dict[str, Any]:
        return {"prompt_tokens": 3, "details": (1, None)}


CONVERTED = [
    pytest.param((1, (2,)), [1, [2]], id="tuple"),
    pytest.param(Point(1, 2), [1, 2], id="namedtuple"),
    pytest.param(NOON, "2026-11-23T12:00:00+00:00", id="time in UTC"),
    pytest.param(datetime(2026, 11, 23, 12, 0, 0, 5), "2026-11-23T12:00:00.000005", id="time without zone"),
    pytest.param(
        datetime(2026, 11, 23, 12, tzinfo=timezone(timedelta(hours=2))),
        "2026-11-23T12:00:00+02:00",
        id="time in a zone",
    ),
    pytest.param(date(2026, 11, 23), "2026-11-23", id="date"),
    pytest.param(UUID(int=1), "00000000-0000-0000-0000-000000000001", id="UUID"),
    pytest.param(PurePosixPath("a/b"), "a/b", id="path"),
    pytest.param(Path("a"), "a", id="local path"),
    pytest.param(Colour.RED, "red", id="text enum"),
    pytest.param(Number.ONE, 1, id="integer enum"),
    pytest.param(Kind.PAIR, [1, "2026-11-23T12:00:00+00:00"], id="enum of other values"),
    pytest.param(Usage(5), {"tokens": 5}, id="attrs class"),
    pytest.param(Cost(0.5, Usage(5)), {"usd": 0.5, "usage": {"tokens": 5}}, id="dataclass"),
    pytest.param(Model(), {"prompt_tokens": 3, "details": [1, None]}, id="object with model_dump"),
    pytest.param(MappingProxyType({"k": (1,)}), {"k": [1]}, id="mapping"),
    pytest.param(
        [True, None, 2**64 - 1, -(2**63), 1e300, "é"], [True, None, 2**64 - 1, -(2**63), 1e300, "é"], id="JSON"
    ),
]


@pytest.mark.parametrize(("value", "expected"), CONVERTED)
def test_value_is_converted(value: Any, expected: Any) -> None:
    # An element next to it that JSON lacks takes the slow way.
    for metadata in ({"a": value}, {"a": value, "b": ()}, {"a": [{"b": value}]}):
        found = json.dumps(make(metadata=metadata).metadata, ensure_ascii=False)
        assert json.dumps(expected, ensure_ascii=False) in found


@pytest.mark.parametrize(("value", "expected"), CONVERTED)
def test_converted_value_is_stored_and_equal(value: Any, expected: Any) -> None:
    store = DocsStore("memory://")
    document = make(metadata={"a": value})
    store.write(document)
    assert store.read("draft", "a1") == document
    assert store.read("draft", "a1").metadata == {"a": expected}
    assert store.write(make(metadata={"a": value})).metadata_differs is False


def test_numpy_values_are_converted() -> None:
    np = pytest.importorskip("numpy")
    metadata = {
        "score": np.float64(0.5),
        "half": np.float32(0.25),
        "count": np.int64(3),
        "flag": np.bool_(True),
        "text": np.str_("a"),
        "when": np.datetime64("2026-11-23T12:00:00"),
        "grid": np.array([[1, 2], [3, 4]]),
    }
    expected = {
        "score": 0.5,
        "half": 0.25,
        "count": 3,
        "flag": True,
        "text": "a",
        "when": "2026-11-23T12:00:00",
        "grid": [[1, 2], [3, 4]],
    }
    assert make(metadata=metadata).metadata == expected
    assert make(metadata={"a": np.datetime64("2024-01-01T00:00:00", "ns")}).metadata["a"].startswith("2024-01-01T00:00")
    assert make(metadata={"a": np.array(["2024-01-01"], "datetime64[D]")}).metadata == {"a": ["2024-01-01"]}
    refused = [
        *(np.float64("nan"), np.array([1.0, np.inf]), np.array([object()]), np.complex64(1), np.longdouble("1.5")),
        *(np.datetime64("NaT"), np.array(["2024-01-01", "NaT"], "datetime64[D]"), np.timedelta64(5, "ns")),
        *(np.ma.masked, np.ma.array([1, 2], mask=[0, 1]), np.random.default_rng(1)),
    ]
    for value in refused:
        with pytest.raises(InvalidDocument, match="^metadata.a"):
            make(metadata={"a": value})


def test_pandas_values_are_converted_or_refused() -> None:
    pd = pytest.importorskip("pandas")
    assert make(metadata={"a": pd.Timestamp("2026-11-23")}).metadata == {"a": "2026-11-23T00:00:00"}
    for value in (pd.NaT, pd.NA):
        with pytest.raises(InvalidDocument, match="^metadata.a"):
            make(metadata={"a": value})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param({"a": math.nan}, "metadata.a: nan: .*; expected a finite number, None or text", id="NaN"),
        pytest.param({"a": {"b": [0, math.inf]}}, r"metadata.a.b\[1\]: inf", id="infinity, deep"),
        pytest.param(
            {"a": 2**64}, r"metadata.a: .* more than 64 bits; expected str\(value\)", id="integer past 64 bits"
        ),
        pytest.param({"a": -(2**63) - 1}, "metadata.a", id="negative integer past 64 bits"),
        pytest.param({"a": {1, 2}}, r"metadata.a: .* of type set; expected sorted\(value\), a list", id="set"),
        pytest.param({"a": b"x"}, "metadata.a: b'x' of type bytes; expected text", id="bytes"),
        pytest.param({"a": Decimal("1.5")}, r"metadata.a: .*; expected str\(value\) or float\(value\)", id="decimal"),
        pytest.param({"a": timedelta(1)}, r"metadata.a: .*; expected value.total_seconds\(\)", id="duration"),
        pytest.param({"a": time(12)}, "metadata.a: .*; expected a value that JSON can hold", id="time of day"),
        pytest.param({"a": "\ud800"}, "metadata.a: .*lone surrogate", id="surrogate"),
        pytest.param({"a": {1: 2}}, "metadata.a: the key 1 cannot be a JSON key; expected str keys", id="integer key"),
        pytest.param({"\ud800": 1}, "metadata: the key", id="key with a surrogate"),
        pytest.param({"a": object()}, "metadata.a", id="object"),
        pytest.param({"a": Usage}, "metadata.a", id="class"),
        pytest.param({"a": Cost}, "metadata.a", id="dataclass itself"),
        pytest.param({"a": Model}, "metadata.a", id="class with model_dump"),
        pytest.param({"a": Cost(math.nan, Usage(1))}, "metadata.a.usd: nan", id="NaN in a dataclass"),
    ],
)
def test_value_that_json_cannot_hold_is_refused_with_its_path(value: Any, message: str) -> None:
    with pytest.raises(InvalidDocument, match=f"^{message}"):
        make(metadata=value)


@pytest.mark.parametrize("depth", [250, 251, 254, 255, 2000])
@pytest.mark.parametrize("wrap", [lambda each: [each], lambda each: (each,)], ids=["list", "tuple"])
def test_metadata_too_deep_for_json_is_refused(depth: int, wrap: Any) -> None:
    deep: Any = {}
    for _ in range(depth - 2):
        deep = wrap(deep)
    assert make(metadata={"a": deep[0]}).metadata if depth == 250 else True
    with pytest.raises(InvalidDocument, match="^metadata: lists and dicts nested more than 250 levels deep"):
        make(metadata={"a": wrap(deep)})


def test_recursive_metadata_is_refused() -> None:
    metadata: dict[str, Any] = {}
    metadata["a"] = metadata["b"] = metadata
    with pytest.raises(InvalidDocument, match="^metadata: lists and dicts nested more than 250 levels deep"):
        make(metadata=metadata)


def test_full_call_stack_is_an_error_of_the_metadata() -> None:
    deep: Any = ()
    for _ in range(240):
        deep = (deep,)

    def make_after(calls: int) -> Document:
        return make_after(calls - 1) if calls else make(metadata={"a": deep})

    with pytest.raises(InvalidDocument, match="^metadata: lists and dicts nested more than 250 levels deep"):
        make_after(sys.getrecursionlimit() - 400)


class Endless:
    def model_dump(self) -> Endless:
        return self


def test_endless_conversion_is_refused() -> None:
    with pytest.raises(InvalidDocument, match="^metadata: lists and dicts nested more than 250 levels deep"):
        make(metadata={"a": Endless()})


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(), each, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_json_is_unchanged_either_way(metadata: dict[str, Any]) -> None:
    expected = json.dumps(metadata)
    assert json.dumps(convert_metadata(metadata)) == expected
    slow = convert_metadata({**metadata, "a tuple": ()})
    assert json.dumps({key: slow[key] for key in metadata}) == expected or "a tuple" in metadata


def test_metadata_is_converted_again_when_the_record_is_made() -> None:
    for key, value in (("doc_id", "zz"), ("score", math.nan)):
        document = make(metadata={"k": 1})
        document.metadata[key] = value
        with pytest.raises(InvalidDocument, match=f"^metadata.{key}"):
            Record.from_document(document, "n")


def test_metadata_is_copied_and_made_plain() -> None:
    given_metadata: dict[str, Any] = {"colour": Colour.RED, "n": Number.ONE, "list": [1], Colour.RED: 2}
    document = make(metadata=given_metadata)
    given_metadata["list"].append(2)
    assert document.metadata == {"colour": "red", "n": 1, "list": [1], "red": 2}
    assert type(document.metadata["colour"]) is str
    assert type(document.metadata["n"]) is int
    assert {type(key) for key in document.metadata} == {str}


def test_key_that_repeats_the_identity_is_dropped() -> None:
    own = {"stage": "draft", "doc_id": "a1", "task_id": "t-1", "parent_doc_id": None, "run_id": None}
    assert make(metadata={**own, "mine": 1}).metadata == {"mine": 1}


@pytest.mark.parametrize("key", ["stage", "doc_id", "task_id", "parent_doc_id", "run_id"])
def test_key_that_contradicts_the_identity_is_refused(key: str) -> None:
    with pytest.raises(InvalidDocument, match=rf"^metadata\.{key}: 'other', but the document's own value is "):
        make(metadata={key: "other"})


OWN = {"format": "markdown", "files": ["a.png"], "created_at": "yesterday", "docid": {"nonce": "mine"}}


@pytest.mark.parametrize("root", ["memory://", "docs"])
def test_keys_of_the_record_are_kept_and_read_back(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = DocsStore(root)
    document = make(metadata={**OWN, "mine": 1})
    store.write(document)
    stored = store.open("draft", "a1")
    assert stored.record["format"] == "docid/document/1"
    assert stored.record["docid"]["metadata"] == OWN
    assert stored.record["mine"] == 1
    assert store.read("draft", "a1") == document
    assert store.write(document).metadata_differs is False
    # They are replaced with the rest of the metadata, and kept when a part is added.
    assert store.write(make(metadata={"format": "html"})).metadata_differs
    store.add_part("draft", "a1", "parsed", "p")
    assert store.open("draft", "a1").metadata == {**OWN, "mine": 1}
    changed = attrs.evolve(store.read("draft", "a1"), metadata={"files": []})
    assert store.write(changed, if_exists="replace").outcome == "replaced"
    assert store.open("draft", "a1").record["docid"]["metadata"] == {"files": []}
    bare = attrs.evolve(changed, metadata={})
    assert store.write(bare, if_exists="replace").outcome == "replaced"
    assert store.open("draft", "a1").metadata == {}
    assert "metadata" not in store.open("draft", "a1").record["docid"]


def test_foreign_value_under_docid_is_ignored() -> None:
    record, _ = Record.from_document(make(metadata={"mine": 1}), "n")
    record.data["docid"]["metadata"] = ["not an object"]
    assert Record.from_bytes(record.to_bytes(), "draft", "a1").metadata == {"mine": 1}

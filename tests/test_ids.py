from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import unicodedata
from enum import Enum
from math import isclose
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from docid import (
    DuplicateTaskId,
    InvalidName,
    collision_probability,
    is_doc_id,
    reserve_doc_id,
    reserve_doc_ids,
)
from docid.core.ids import check_doc_id

VECTORS = Path(__file__).parent / "vectors"
VALID = json.loads((VECTORS / "ids-valid.json").read_text("utf-8"))["vectors"]
INVALID = json.loads((VECTORS / "ids-invalid.json").read_text("utf-8"))["must_be_refused"]

BLANKS = "\u0020\u00a0\u1680\u2000\u2005\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
DEVICES = ["con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))]

stages = st.from_regex(r"\A[a-z][a-z0-9_-]{0,63}\Z").filter(lambda name: name not in DEVICES)
texts = (
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1)
    .map(lambda text: unicodedata.normalize("NFC", text).strip(BLANKS))
    .filter(lambda text: text != "" and unicodedata.is_normalized("NFC", text))
)
arguments = st.tuples(stages, texts, st.none() | texts, st.none() | texts)


def payload_of(stage: str, task_id: str, run_id: str | None, salt: str | None) -> bytes:
    """Return the bytes that an id is the hash of."""
    seen: list[bytes] = []

    def sha256(data: bytes) -> Any:
        seen.append(data)
        return hashlib.sha256(data)

    with mock.patch("docid.core.ids.sha256", sha256):
        reserve_doc_id(stage, task_id, run_id, salt)
    [payload] = seen
    return payload


# Per release: the number of vectors and the SHA-256 of their JSON. Vectors are only added; a release adds a line.
HISTORY = {
    "0.1.0": (
        *(20, "d8503d2ae6f7d9a3b6a27d7346569bf9b305614ad4b676db068373bec61fee23"),
        *(31, "4a4616a772049783f87dab9cf353d44424b3b0fa14910503fe92f96e3699b03e"),
    ),
}


@pytest.mark.parametrize("release", HISTORY)
def test_vectors_of_a_release_never_change(release: str) -> None:
    valid, valid_hash, invalid, invalid_hash = HISTORY[release]
    for vectors, count, expected in ((VALID, valid, valid_hash), (INVALID, invalid, invalid_hash)):
        assert len(vectors) >= count
        text = json.dumps(vectors[:count], sort_keys=True)
        assert hashlib.sha256(text.encode()).hexdigest() == expected


@pytest.mark.parametrize("vector", VALID, ids=lambda vector: vector["name"])
def test_vector_gives_its_payload_hash_and_id(vector: dict[str, Any]) -> None:
    row = (vector["stage"], vector["task_id"], vector["run_id"], vector["salt"])
    payload = payload_of(*row)
    assert payload.decode() == vector["payload"]
    assert hashlib.sha256(payload).hexdigest() == vector["sha256"]
    assert reserve_doc_id(*row) == vector["doc_id"]
    stage, task_id, run_id, salt = row
    assert reserve_doc_ids(stage, [task_id], run_id=run_id, salt=salt) == [vector["doc_id"]]


@pytest.mark.parametrize("vector", INVALID, ids=lambda vector: vector["name"])
def test_invalid_vector_is_refused_by_argument_name(vector: dict[str, Any]) -> None:
    argument = vector["name"].split()[0].replace("task", "task_id").replace("run", "run_id")
    row = [vector["stage"], vector["task_id"], vector["run_id"], vector["salt"]]
    kind = ValueError if isinstance(row[["stage", "task_id", "run_id", "salt"].index(argument)], str) else TypeError
    with pytest.raises(kind, match=rf"^{argument}\b.*: .*expected"):
        reserve_doc_id(*row)
    with pytest.raises(kind, match=rf"^{argument}.*: .*expected"):
        reserve_doc_ids(row[0], [row[1]], run_id=row[2], salt=row[3])


@given(arguments)
def test_equal_arguments_give_equal_well_formed_ids(row: tuple[str, str, str | None, str | None]) -> None:
    doc_id = reserve_doc_id(*row)
    assert re.fullmatch(r"[a-z][a-z0-9]{15}", doc_id)
    assert is_doc_id(doc_id)
    assert doc_id == reserve_doc_id(*(text and "".join(list(text)) for text in row))  # type: ignore[arg-type]


@given(arguments, arguments)
@example(("draft", "a|b", None, None), ("draft", "a", "b", None))
@example(("draft", "a", "b", None), ("draft", "a", None, "b"))
@example(("draft", 'a","b', None, None), ("draft", "a", "b", None))
@example(("draft", "null", None, None), ("draft", "a", "null", None))
def test_different_arguments_give_different_payloads_and_ids(
    one: tuple[str, str, str | None, str | None], other: tuple[str, str, str | None, str | None]
) -> None:
    assume(one != other)
    assert payload_of(*one) != payload_of(*other)
    assert reserve_doc_id(*one) != reserve_doc_id(*other)


@given(arguments)
def test_payload_decodes_to_its_arguments(row: tuple[str, str, str | None, str | None]) -> None:
    assert json.loads(payload_of(*row)) == ["docid/1", *row]


@given(arguments)
def test_payload_equals_json_of_standard_library(
    row: tuple[str, str, str | None, str | None],
) -> None:
    plain = json.dumps(["docid/1", *row], ensure_ascii=False, separators=(",", ":"))
    assert payload_of(*row) == plain.encode()


@given(st.text() | st.text(st.characters(categories=["Cc", "Cs", "Zs", "Mn", "L"]), max_size=4))
def test_scheme_decides_which_texts_have_ids(text: str) -> None:
    right = (
        text != ""
        and text.strip(BLANKS) == text
        and not any(unicodedata.category(character) in {"Cc", "Cs"} for character in text)
        and unicodedata.is_normalized("NFC", text)
    )
    for row in (("draft", text, None, None), ("draft", "t", text, None), ("draft", "t", None, text)):
        if right:
            assert is_doc_id(reserve_doc_id(*row))
        else:
            with pytest.raises(InvalidName):
                reserve_doc_id(*row)


@pytest.mark.parametrize("blank", [*BLANKS], ids=lambda blank: f"U+{ord(blank):04X}")
def test_blank_is_refused_at_both_ends_and_kept_inside(blank: str) -> None:
    for text in (f"{blank}t", f"t{blank}"):
        with pytest.raises(InvalidName, match="leading or trailing white space"):
            reserve_doc_id("draft", text)
    inside = unicodedata.normalize("NFC", f"a{blank}b")
    assert reserve_doc_id("draft", inside)


def test_ids_do_not_depend_on_hash_seed() -> None:
    task_id = 'ä|"\\ b'
    code = f"import docid; print(docid.reserve_doc_id('draft', {task_id!a}, 'r', 's'))"
    ids = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("0", "1", "4242")
    }
    assert ids == {reserve_doc_id("draft", task_id, "r", "s")}


@given(st.lists(texts, unique=True, max_size=20), st.none() | texts, st.none() | texts)
def test_reserve_doc_ids_equals_reserve_doc_id(names: list[str], run_id: str | None, salt: str | None) -> None:
    one_by_one = [reserve_doc_id("draft", name, run_id, salt) for name in names]
    assert reserve_doc_ids("draft", iter(names), run_id=run_id, salt=salt) == one_by_one


def test_duplicate_task_ids_are_named_by_position() -> None:
    with pytest.raises(DuplicateTaskId, match=r"'b' appears at positions 1 and 3 \(counted from 0\)") as caught:
        reserve_doc_ids("draft", ["a", "b", "c", "b", "a"])
    assert (caught.value.task_id, caught.value.positions) == ("b", (1, 3))
    assert isinstance(caught.value, ValueError)


def test_invalid_task_id_is_named_by_position() -> None:
    with pytest.raises(InvalidName, match=r"^task_ids\[2\] '': empty"):
        reserve_doc_ids("draft", ["a", "b", ""])


def test_text_that_is_not_nfc_is_shown_escaped() -> None:
    with pytest.raises(InvalidName, match=r"^task_id 'cafe\\u0301': not in NFC; expected .*, or its table, in"):
        reserve_doc_id("draft", "cafe\u0301")


def test_str_instead_of_task_ids_is_refused() -> None:
    with pytest.raises(TypeError, match=r"task_ids: expected an iterable of task ids, got the str 'abc'"):
        reserve_doc_ids("draft", "abc")


def test_no_task_ids_give_no_doc_ids() -> None:
    assert reserve_doc_ids("draft", []) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("j8frjsl32flnij5i", True, id="of this scheme"),
        pytest.param("4a2wetfbrppa1fta", True, id="of another system, digit first"),
        pytest.param("a", True, id="short"),
        pytest.param("a" * 64, True, id="longest"),
        pytest.param("a_b-c", True, id="with _ and -"),
        pytest.param("a" * 65, False, id="too long"),
        pytest.param("", False, id="empty"),
        pytest.param("A1", False, id="upper case"),
        pytest.param("-a", False, id="dash first"),
        pytest.param("_a", False, id="underscore first"),
        pytest.param("..", False, id="dot dot"),
        pytest.param("a.b", False, id="dot"),
        pytest.param("a/b", False, id="slash"),
        pytest.param("a\\b", False, id="backslash"),
        pytest.param("a\n", False, id="newline at the end"),
        pytest.param("a\x00", False, id="NUL"),
        pytest.param("ä", False, id="letter beyond ASCII"),
        pytest.param("１", False, id="digit beyond ASCII"),
        pytest.param(None, False, id="None"),
        pytest.param(7, False, id="number"),
        pytest.param(b"a", False, id="bytes"),
        *(pytest.param(name, False, id=f"device {name}") for name in DEVICES),
        pytest.param("com10", True, id="not a device"),
    ],
)
def test_is_doc_id(text: object, expected: bool) -> None:
    assert is_doc_id(text) is expected


def test_check_doc_id_says_what_is_expected() -> None:
    with pytest.raises(InvalidName, match=r"parent_doc_id '\.\.': not a doc id; expected 1 to 64 of a-z"):
        check_doc_id("..", "parent_doc_id")
    with pytest.raises(TypeError, match="doc_id: expected a str, got int"):
        check_doc_id(7)  # type: ignore[arg-type]


class Name(str, Enum):
    """A StrEnum of the old style, which equals its value and prints as something else."""

    STAGE = "draft"
    TASK = "t-1"


def test_str_enum_counts_as_its_value() -> None:
    assert reserve_doc_id(Name.STAGE, Name.TASK, Name.TASK) == reserve_doc_id("draft", "t-1", "t-1")
    assert reserve_doc_ids(Name.STAGE, [Name.TASK]) == reserve_doc_ids("draft", ["t-1"])
    assert type(check_doc_id(Name.TASK)) is str


def test_collision_probability_is_the_birthday_bound() -> None:
    assert [f"{collision_probability(10**power):.0e}" for power in (6, 9, 12)] == ["9e-14", "9e-08", "9e-02"]
    assert collision_probability(0) == collision_probability(1) == 0.0
    assert isclose(collision_probability(2), 2**-82.2, rel_tol=0.05)
    assert collision_probability(10**15) == collision_probability(10**200) == 1.0
    with pytest.raises(ValueError, match=r"^n: expected"):
        collision_probability(-1)


def test_characters_have_the_documented_distribution() -> None:
    """Chi-square per position over a fixed sample; the bounds are the 0.1 % quantiles for 25 and 35 degrees of freedom."""
    ids = reserve_doc_ids("draft", [f"task {number}" for number in range(20_000)])
    assert len(set(ids)) == len(ids)
    alphabets = ["abcdefghijklmnopqrstuvwxyz", *["0123456789abcdefghijklmnopqrstuvwxyz"] * 15]
    for position, alphabet in enumerate(alphabets):
        counts = dict.fromkeys(alphabet, 0)
        for doc_id in ids:
            counts[doc_id[position]] += 1
        weights = {
            character: sum(byte % len(alphabet) == place for byte in range(256)) / 256
            for place, character in enumerate(alphabet)
        }
        statistic = sum(
            (counts[character] - len(ids) * weight) ** 2 / (len(ids) * weight) for character, weight in weights.items()
        )
        assert statistic < (52.6 if position == 0 else 66.6), (position, statistic)


def test_neighbouring_characters_are_independent() -> None:
    """Chi-square of character pairs over a fixed sample: 1,295 degrees of freedom, 0.1 % quantile about 1,457."""
    ids = reserve_doc_ids("draft", [f"task {number}" for number in range(60_000)])
    alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
    weight = {c: sum(byte % 36 == place for byte in range(256)) / 256 for place, c in enumerate(alphabet)}
    counts: dict[str, int] = {}
    for doc_id in ids:
        counts[doc_id[7:9]] = counts.get(doc_id[7:9], 0) + 1
    statistic = sum(
        (counts.get(a + b, 0) - (expected := len(ids) * weight[a] * weight[b])) ** 2 / expected
        for a in alphabet
        for b in alphabet
    )
    assert statistic < 1457

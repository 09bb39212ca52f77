"""The rules that compare lineage; `test_document` has those that a write uses."""

from __future__ import annotations

import json

import pytest

from docid.core.lineage_rules import (
    contradicts,
    describe_lineage,
    find_contradictions,
    find_missing_lineage,
    is_other_lineage,
)
from docid.core.record import Record


def legacy(**values: object) -> Record:
    return Record.from_bytes(json.dumps(values).encode(), "essay", "e1")


@pytest.mark.parametrize(
    ("stored", "given", "expected"),
    [("a", "b", True), ("a", "a", False), (None, "a", False), ("a", None, False), ("a", "", True)],
)
def test_unknown_value_contradicts_nothing(stored: str | None, given: str | None, expected: bool) -> None:
    assert contradicts(stored, given) is expected


def test_contradiction_needs_both_values() -> None:
    record = legacy(task_id="t-1", parent_doc_id="d1")
    assert find_contradictions(record, "t-2", "d1") == {"task_id": ("t-1", "t-2")}
    assert list(find_contradictions(record, "t-2", "d2")) == ["task_id", "parent_doc_id"]
    assert find_contradictions(record, None, None) == {}
    assert find_contradictions(legacy(), "t-2", "d2") == {}


def test_unknown_parent_does_not_make_another_lineage() -> None:
    record = legacy(task_id="t-1")
    assert describe_lineage(record) == "task_id='t-1', parent_doc_id=None"
    assert find_missing_lineage(record, has_parent=True) == ["parent_doc_id"]
    assert find_missing_lineage(record, has_parent=False) == []
    assert is_other_lineage(record, legacy(task_id="t-2"))
    assert not is_other_lineage(record, legacy(task_id="t-1"))

"""Ancestors and descendants, read from the records in one pass."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docid import DocsStore, Document, DocumentNotFound, InvalidName, Stages, StoreUnavailable, UnreadableDocument
from docid.backends import LocalBackend, MemoryBackend
from docid.store.ancestry import Lineage, Relative


def put(store: DocsStore, stage: str, doc_id: str, parent: str | None = None, task_id: str = "") -> None:
    document = Document(
        stage=stage, doc_id=doc_id, task_id=task_id or f"t-{doc_id}", parent_doc_id=parent, raw_text="…"
    )
    store.write(document, require_parent=False)


def fill(store: DocsStore) -> DocsStore:
    put(store, "draft", "d1")
    put(store, "draft", "d2")
    for number, parent in enumerate(("d1", "d1", "d2")):
        put(store, "essay", f"e{number}", parent)
        for template in ("a", "b"):
            put(store, "evaluation", f"v{number}{template}", f"e{number}")
    return store


def ids(relatives: tuple[Relative, ...]) -> list[str]:
    return [each.name for each in relatives]


def test_first_stage_has_all_descendants(store: DocsStore) -> None:
    found = fill(store).lineage("draft", "d1")
    assert found.ancestors == ()
    assert ids(found.descendants) == [
        *("essay/e0", "essay/e1"),
        *("evaluation/v0a", "evaluation/v0b", "evaluation/v1a", "evaluation/v1b"),
    ]
    assert ids(found.children_of(found.descendants[1])) == ["evaluation/v1a", "evaluation/v1b"]
    assert found.root == found.document
    assert repr(found) == "<Lineage of draft/d1: 0 ancestors, 6 descendants>"


def test_last_stage_has_all_ancestors(store: DocsStore) -> None:
    found = fill(store).lineage("evaluation", "v2a")
    assert ids(found.ancestors) == ["essay/e2", "draft/d2"]
    assert found.root.name == "draft/d2"
    assert str(found).splitlines() == [
        "draft/d2  t-d2",
        "└── essay/e2  t-e2",
        "    └── evaluation/v2a  t-v2a  <",
    ]


def test_middle_stage_has_relatives_but_no_siblings(store: DocsStore) -> None:
    found = fill(store).lineage("essay", "e0")
    assert str(found).splitlines() == [
        "draft/d1  t-d1",
        "└── essay/e0  t-e0  <",
        "    ├── evaluation/v0a  t-v0a",
        "    └── evaluation/v0b  t-v0b",
    ]


def test_lineage_without_descendants_lists_no_stage(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(local)
    monkeypatch.setattr(LocalBackend, "ids", lambda *_: pytest.fail("a stage was listed"))
    found = local.lineage("essay", "e0", descendants=False)
    assert (ids(found.ancestors), found.descendants) == (["draft/d1"], ())


def test_same_doc_id_in_two_stages_is_two_documents(store: DocsStore) -> None:
    put(store, "draft", "same")
    put(store, "essay", "same", "same")
    put(store, "evaluation", "same", "same")
    found = store.lineage("draft", "same")
    assert str(found).splitlines() == [
        "draft/same  t-same  <",
        "└── essay/same  t-same",
        "    └── evaluation/same  t-same",
    ]


def test_stages_may_branch() -> None:
    stages = Stages({"outline": None, "chapter": "outline", "review": "chapter", "blurb": "outline", "note": None})
    store = DocsStore(MemoryBackend(), stages=stages)
    put(store, "outline", "o1")
    put(store, "blurb", "b1", "o1")
    put(store, "chapter", "c1", "o1")
    put(store, "review", "r1", "c1")
    put(store, "note", "o1")
    assert str(store.lineage("outline", "o1")).splitlines() == [
        "outline/o1  t-o1  <",
        "├── chapter/c1  t-c1",
        "│   └── review/r1  t-r1",
        "└── blurb/b1  t-b1",
    ]


def test_missing_ancestor_is_named(store: DocsStore) -> None:
    put(store, "essay", "e1", "gone")
    put(store, "evaluation", "v1", "e1")
    assert str(store.lineage("evaluation", "v1")).splitlines() == [
        "draft/gone  (not in the store)",
        "└── essay/e1  t-e1",
        "    └── evaluation/v1  t-v1  <",
    ]


def test_missing_document_raises_and_names_its_stage(store: DocsStore) -> None:
    fill(store)
    with pytest.raises(DocumentNotFound, match=r"essay"):
        store.lineage("draft", "e1")
    with pytest.raises(InvalidName):
        store.lineage("draft", "../e1")
    with pytest.raises(InvalidName):
        store.lineage("chapter", "e1")


def test_damaged_records_are_findings(local: DocsStore) -> None:
    fill(local)
    Path(local.path("essay", "e0"), "metadata.json").write_text("{")
    Path(local.path("evaluation", "empty")).mkdir()
    Path(local.path("evaluation", "begun")).mkdir()
    Path(local.path("evaluation", "begun"), "raw.txt").write_text("no record yet")
    found = local.lineage("draft", "d1")
    assert ids(found.descendants) == ["essay/e1", "evaluation/v1a", "evaluation/v1b"]
    assert [(each.code, each.doc_id) for each in found.findings] == [("unreadable-record", "e0")]
    child = local.lineage("evaluation", "v0a")
    assert child.ancestors[0].problem.startswith("metadata.json: not JSON")
    assert len(child.ancestors) == 1
    with pytest.raises(UnreadableDocument):
        local.lineage("essay", "e0")
    # The error does not name stages where a document with this id is unreadable.
    Path(local.path("draft", "v0a")).symlink_to(local.path("draft", "d1"))
    with pytest.raises(DocumentNotFound):
        local.lineage("essay", "v0a")


def test_permission_error_is_a_finding(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(local)
    load = LocalBackend.load

    def refuse(self: LocalBackend, stage: str, doc_id: str, parts: object = ()) -> object:
        if doc_id in {"e0", "gone"}:
            raise PermissionError(13, "Permission denied")
        return load(self, stage, doc_id)

    monkeypatch.setattr(LocalBackend, "load", refuse)
    found = local.lineage("draft", "d1")
    assert [(each.code, each.doc_id, each.hint) for each in found.findings] == [
        ("unreadable-record", "e0", "make sure that docid can read it")
    ]
    assert "Permission denied" in local.lineage("evaluation", "v0a").ancestors[0].problem


def test_unavailable_store_raises(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(local)
    load = LocalBackend.load

    def fail_for_essays(self: LocalBackend, stage: str, doc_id: str, parts: object = ()) -> object:
        if stage == "essay":
            raise StoreUnavailable("reading", "s3://bucket", "no answer", "try again")
        return load(self, stage, doc_id)

    monkeypatch.setattr(LocalBackend, "load", fail_for_essays)
    with pytest.raises(StoreUnavailable):
        local.lineage("draft", "d1")
    with pytest.raises(StoreUnavailable):
        local.lineage("evaluation", "v0a")


def test_unlistable_stage_is_a_finding(local: DocsStore) -> None:
    put(local, "draft", "d1")
    Path(local.path("essay", "x")).parent.write_text("a file where a stage should be")
    found = local.lineage("draft", "d1")
    assert [(each.code, each.stage) for each in found.findings] == [("unreadable-record", "essay")]


def test_legacy_records_are_followed(local: DocsStore) -> None:
    for stage, doc_id, record in (
        ("draft", "d1", {"task_id": "t-1"}),
        ("essay", "e1", {"task_id": "t-1__x", "parent_doc_id": "d1"}),
        ("essay", "e2", {}),
        ("evaluation", "v1", {"parent_doc_id": "No Id"}),
    ):
        directory = Path(local.path(stage, doc_id))
        directory.mkdir(parents=True)
        (directory / "raw.txt").write_text("…", "utf-8")
        (directory / "metadata.json").write_text(json.dumps(record))
    assert ids(local.lineage("draft", "d1").descendants) == ["essay/e1"]
    assert local.lineage("essay", "e2").ancestors == ()
    assert str(local.lineage("evaluation", "v1")).splitlines() == [
        "essay/'No Id'  (not a doc id)",
        "└── evaluation/v1  <",
    ]


HOSTILE = 'x"];end<script>#34;\u202e`[]{}()&'


def test_tree_and_mermaid_escape_hostile_names(store: DocsStore) -> None:
    put(store, "draft", "d1", task_id=HOSTILE)
    put(store, "essay", "e1", "d1")
    found = store.lineage("draft", "d1")
    assert "\\u202e" in str(found)
    lines = found.to_mermaid().splitlines()
    assert lines[0] == "flowchart TD"
    assert lines[3:] == ["    d0 --> d1", "    style d0 stroke-width:4px"]
    label = re.fullmatch(r'    d0\["(.*)"\]', lines[1])
    assert label is not None
    assert re.fullmatch(r"(?:[\w ./-]|#[0-9]+;|<br>)*", label[1])


def test_lineage_converts_to_json(store: DocsStore) -> None:
    result = json.loads(json.dumps(fill(store).lineage("essay", "e2").to_dict()))
    assert list(result["document"].values()) == ["essay", "e2", "t-e2", "d2", "", [], []]
    assert [each["doc_id"] for each in result["ancestors"]] == ["d2"]
    assert [each["doc_id"] for each in result["descendants"]] == ["v2a", "v2b"]
    assert result["findings"] == []


@given(st.lists(st.integers(min_value=0, max_value=30), max_size=40), st.data())
def test_document_is_a_descendant_of_each_ancestor(choices: list[int], data: st.DataObject) -> None:
    stages = Stages.chain("a", "b", "c")
    store = DocsStore(MemoryBackend(), stages=stages)
    stored: dict[str, list[str]] = {"a": ["r"], "b": [], "c": []}
    put(store, "a", "r")
    for number, choice in enumerate(choices):
        stage = "abc"[choice % 3]
        parent_stage = stages.parent_of(stage)
        above = stored[parent_stage] if parent_stage else [""]
        if above:
            put(store, stage, f"x{number}", above[choice % len(above)] or None)
            stored[stage].append(f"x{number}")
    stage, doc_id = data.draw(st.sampled_from([(stage, each) for stage in stored for each in stored[stage]]))
    found: Lineage = store.lineage(stage, doc_id)
    for ancestor in found.ancestors:
        of_ancestor = store.lineage(ancestor.stage, ancestor.doc_id)
        assert found.document in of_ancestor.descendants
        assert set(found.descendants) <= set(of_ancestor.descendants)
    for child in found.descendants:
        assert found.document in store.lineage(child.stage, child.doc_id).ancestors
    assert len(str(found).splitlines()) == 1 + len(found.ancestors) + len(found.descendants)

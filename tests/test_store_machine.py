"""Local and memory stores checked against a model, through all outcomes and policies."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from docid import (
    ContentConflict,
    DocsStore,
    Document,
    DocumentNotFound,
    EssayTask,
    LineageConflict,
    MissingParent,
    Outcome,
)
from docid import testing as strategies
from docid.backends import MemoryBackend

DRAFTS, ESSAYS = ["d1", "d2"], ["e1", "e2"]
POLICIES = ["fail", "keep", "replace"]

some_texts = st.sampled_from(["", "a", "a\r\n", "\x00\U0001f40b"]) | strategies.contents()
documents = strategies.documents(
    doc_id=st.sampled_from(DRAFTS), raw_text=some_texts, parsed_text=st.none() | some_texts
) | strategies.documents(
    stage=st.just("essay"),
    doc_id=st.sampled_from(ESSAYS),
    parent_doc_id=st.none() | st.sampled_from(DRAFTS),
    raw_text=some_texts,
    parsed_text=st.none() | some_texts,
)
names = st.sampled_from([("draft", name) for name in DRAFTS] + [("essay", name) for name in ESSAYS])

Key = tuple[str, str]


def with_text(document: Document, part: str, text: str) -> Document:
    change: dict[str, Any] = {f"{part}_text": text}
    return attrs.evolve(document, **change)


class Model:
    """The table of outcomes in docs/store.md, over two dictionaries."""

    def __init__(self) -> None:
        self.current: dict[Key, Document] = {}
        self.old: dict[Key, list[Document]] = {}

    def write(self, new: Document, policy: str, *, require_parent: bool) -> tuple[Any, ...]:
        key = (new.stage, new.doc_id)
        existing = self.current.get(key)
        if existing is not None and (existing.task_id, existing.parent_doc_id) != (new.task_id, new.parent_doc_id):
            return (LineageConflict,)
        if existing is not None:
            differs = (existing.run_id, existing.metadata) != (new.run_id, new.metadata)
            different = [
                part for part in ("raw", "parsed", "prompt") if existing.parts().get(part) != new.parts().get(part)
            ]
            missing = different if all(part not in existing.parts() for part in different) else []
            if policy != "replace" or not (different or differs):
                if not different:
                    return (Outcome.UNCHANGED, differs, ())
                if policy == "fail":
                    return (ContentConflict, tuple(different), tuple(missing))
                return (Outcome.KEPT, differs, tuple(missing))
        if require_parent and new.stage == "essay" and ("draft", new.parent_doc_id) not in self.current:
            return (MissingParent,)
        if existing is not None:
            self.old.setdefault(key, []).insert(0, existing)
        self.current[key] = new
        return (Outcome.CREATED if existing is None else Outcome.REPLACED, False, ())

    def add_part(self, key: Key, part: str, text: str) -> tuple[Any, ...]:
        existing = self.current.get(key)
        if existing is None:
            return (DocumentNotFound,)
        if part in existing.parts():
            return (Outcome.UNCHANGED,) if existing.parts()[part] == text else (ContentConflict,)
        self.old.setdefault(key, []).insert(0, existing)
        self.current[key] = with_text(existing, part, text)
        return (Outcome.COMPLETED,)


class Stores(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.stores: list[DocsStore] = []
        self.model = Model()

    @initialize()
    def open_stores(self) -> None:
        self.stores = [DocsStore(self.directory / "docs", durability="none"), DocsStore(MemoryBackend())]

    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    @rule(document=documents, policy=st.sampled_from(POLICIES), require_parent=st.booleans())
    def write(self, document: Document, policy: Any, require_parent: bool) -> None:
        expected = self.model.write(document, policy, require_parent=require_parent)
        for store in self.stores:
            try:
                result = store.write(document, if_exists=policy, require_parent=require_parent)
            except (LineageConflict, MissingParent) as error:
                assert (type(error),) == expected
            except ContentConflict as error:
                assert (type(error), error.parts, error.missing_parts) == expected
            else:
                assert (result.outcome, result.metadata_differs, result.missing_parts) == expected

    @precondition(lambda self: self.model.current)
    @rule(data=st.data(), policy=st.sampled_from(POLICIES), change=st.booleans())
    def write_again(self, data: st.DataObject, policy: Any, change: bool) -> None:
        """Write to an existing lineage, which a random document seldom has."""
        existing = data.draw(st.sampled_from(list(self.model.current.values())))
        if change:
            text = data.draw(some_texts)
            part = data.draw(st.sampled_from(["raw", "parsed", "prompt"]))
            existing = attrs.evolve(with_text(existing, part, text), metadata=data.draw(strategies.metadata()))
        self.write(existing, policy, require_parent=False)

    @rule(document=documents)
    def ensure(self, document: Document) -> None:
        if document.stage == "draft":
            return
        row = EssayTask(task_id=str(document.task_id), doc_id=document.doc_id, parent_doc_id=document.parent_doc_id)
        existing = self.model.current.get(("essay", document.doc_id))
        expected = self.model.write(document, "keep", require_parent=True)
        for store in self.stores:
            try:
                done = store.ensure(row, lambda _: document)
            except (LineageConflict, MissingParent) as error:
                assert (type(error),) == expected
            else:
                assert done.outcome == (Outcome.CREATED if existing is None else Outcome.KEPT)
                assert done.document.read() == (existing or document)

    @rule(key=names, part=st.sampled_from(["raw", "parsed", "prompt"]), text=some_texts)
    def add_part(self, key: Key, part: Any, text: str) -> None:
        expected = self.model.add_part(key, part, text)
        for store in self.stores:
            try:
                result = store.add_part(*key, part, text)
            except (DocumentNotFound, ContentConflict) as error:
                assert (type(error),) == expected
            else:
                assert (result.outcome,) == expected

    @invariant()
    def stores_match_the_model(self) -> None:
        for store in self.stores:
            for stage in ("draft", "essay"):
                keys = {doc_id for stored_stage, doc_id in self.model.current if stored_stage == stage}
                assert set(store.ids(stage)) == keys
                assert {document.doc_id: document.read() for document in store.documents(stage)} == {
                    doc_id: self.model.current[stage, doc_id] for doc_id in keys
                }
            for key, document in self.model.current.items():
                assert store.read(*key, verify=True) == document
                assert list(store.history(*key)) == self.model.old.get(key, [])

    @invariant()
    def no_temporary_files_remain(self) -> None:
        root = self.directory / "docs"
        left = [path.name for path in root.glob("*/.*") if not path.name.startswith(".lock-")]
        assert [name for name in left if name != "history"] == []
        assert not list(root.glob("*/*/.tmp-*"))


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=150, stateful_step_count=20)

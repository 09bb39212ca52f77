"""A writer that is killed at any of its file-system calls, or in the middle of a write.

A child process does one change, and dies at its k-th call, for every k there is. What it leaves is looked at as
another process would find it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from docid import DocsStore, Document, LineageConflict, Outcome

CALLS = [
    "open",
    "mkdir",
    "rename",
    "write",
    "close",
    "fsync",
    "stat",
    "fstat",
    "unlink",
    "rmdir",
    "listdir",
    "utime",
    "read",
]
KILLED, DONE = 77, 78

OLD = Document(stage="draft", doc_id="a1", task_id="t-1", raw_text="old " * 50, parsed_text="p")
NEW = attrs.evolve(OLD, raw_text="new " * 70, prompt_text="q")
OTHER = attrs.evolve(OLD, task_id="t-2")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def dies_at(call: int, change: Callable[[], object], *, half: bool) -> bool:
    """Run a change in a child that dies before its `call`-th call (`half`: within it); return whether it got there."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED
    try:
        left = [call]

        def deadly(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
            def act(*args: Any, **options: Any) -> Any:
                left[0] -= 1
                if left[0] == 0:
                    if half and name == "write":
                        original(args[0], args[1][: len(args[1]) // 2])
                    os._exit(KILLED)
                return original(*args, **options)

            return act

        for name in CALLS:
            setattr(os, name, deadly(name, getattr(os, name)))
        change()
    finally:
        os._exit(DONE if sys.exc_info()[0] is None else 1)


def every_kill(
    tmp_path: Path, change: Callable[[DocsStore], object], check: Callable[[DocsStore], None], *, before: bool
) -> int:
    """Kill `change` at every call, each time on a store of its own; return how many calls there are."""
    for half in (False, True):
        call = 0
        killed = True
        while killed:
            call += 1
            store = DocsStore(tmp_path / f"{half}-{call}")
            if before:
                store.write(OLD)
            killed = dies_at(call, lambda store=store: change(store), half=half)  # type: ignore[misc]
            check(DocsStore(tmp_path / f"{half}-{call}"))
    return call - 1


def visible(store: DocsStore) -> list[Document]:
    """Return what a reader sees of the stage, every text compared with its hash."""
    documents = [document.read(verify=True) for document in store.documents("draft")]
    assert sorted(store.ids("draft")) == ["a1"] * len(documents)
    assert store.exists("draft", "a1") == bool(documents)
    return documents


def test_a_create_leaves_the_document_or_nothing(tmp_path: Path) -> None:
    def check(store: DocsStore) -> None:
        found = visible(store)
        assert found in ([], [NEW])
        assert store.write(NEW).outcome is (Outcome.UNCHANGED if found else Outcome.CREATED)
        assert visible(store) == [NEW]

    assert every_kill(tmp_path, lambda store: store.write(NEW), check, before=False) > 25


def test_a_replace_leaves_the_old_version_or_the_new_and_the_id_taken(tmp_path: Path) -> None:
    def check(store: DocsStore) -> None:
        [found] = visible(store)
        assert found in (OLD, NEW)
        for policy in ("fail", "keep", "replace"):
            with pytest.raises(LineageConflict):
                store.write(OTHER, if_exists=policy)
        assert visible(store) == [found]
        result = store.write(NEW, if_exists="replace")
        assert result.outcome is (Outcome.UNCHANGED if found == NEW else Outcome.REPLACED)
        assert visible(store) == [NEW]
        assert list(store.history("draft", "a1")) == [OLD]

    assert every_kill(tmp_path, lambda store: store.write(NEW, if_exists="replace"), check, before=True) > 40


def test_an_added_part_is_there_or_not_and_nothing_else_changes(tmp_path: Path) -> None:
    completed = attrs.evolve(OLD, prompt_text="sent")

    def check(store: DocsStore) -> None:
        [found] = visible(store)
        assert found in (OLD, completed)
        result = store.add_part("draft", "a1", "prompt", "sent")
        assert result.outcome is (Outcome.UNCHANGED if found == completed else Outcome.COMPLETED)
        assert visible(store) == [completed]
        assert OLD in store.history("draft", "a1")

    assert every_kill(tmp_path, lambda store: store.add_part("draft", "a1", "prompt", "sent"), check, before=True) > 25


def test_new_metadata_is_there_or_not_and_nothing_else_changes(tmp_path: Path) -> None:
    changed = attrs.evolve(OLD, metadata={"k": 1}, run_id="r")

    def check(store: DocsStore) -> None:
        [found] = visible(store)
        assert found in (OLD, changed)
        store.write(changed, if_exists="replace")
        assert visible(store) == [changed]

    assert every_kill(tmp_path, lambda store: store.write(changed, if_exists="replace"), check, before=True) > 20

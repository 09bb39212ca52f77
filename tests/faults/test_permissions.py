"""Stores without write permission.

Injected: another user without write permission, and a file system that is mounted read-only.
Must hold: each change raises an error that names the path and the remedy, and reading still works.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from docid import DocsStore, Document, Outcome, WriteManyError
from docid.repair import repair
from tests.faults import allow_reading
from tests.faults.mounts import run
from tests.faults.test_kills import NEW, OLD, read_all
from tests.faults.test_races import gather

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")

NOBODY = 65534


def catch_error(act: Callable[[], object]) -> str:
    try:
        act()
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    except WriteManyError as error:
        [failure] = error.failures.values()
        return f"{type(failure).__name__}: {failure}"
    return "done"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A store that belongs to root, with one document, in a directory that every user may read."""
    DocsStore(tmp_path / "docs").write(OLD)
    with allow_reading(tmp_path):
        yield tmp_path / "docs"


def attempt_changes(root: Path) -> dict[str, str]:
    store = DocsStore(root)
    errors = {
        "create": catch_error(lambda: store.write(Document(stage="draft", doc_id="b2", task_id="t", raw_text="x"))),
        "batch": catch_error(
            lambda: store.write_many([Document(stage="draft", doc_id="b2", task_id="t", raw_text="")])
        ),
        "replace": catch_error(lambda: store.write(NEW, if_exists="replace")),
        "add_part": catch_error(lambda: store.add_part("draft", "a1", "prompt", "q")),
        "new stage": catch_error(
            lambda: store.write(Document(stage="essay", doc_id="e1", task_id="t", parent_doc_id="a1", raw_text="x"))
        ),
    }
    assert read_all(store) == {"a1": OLD}
    assert store.write(OLD).outcome is Outcome.UNCHANGED
    assert list(repair(store, stale_after=0)) == []
    return errors


def test_permission_error_names_the_path_and_the_remedy(root: Path) -> None:
    def as_nobody() -> dict[str, str]:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        return attempt_changes(root)

    [errors] = gather([as_nobody])
    for what, text in errors.items():
        assert text.startswith("PermissionError: [Errno 13] Permission denied; check the owner and the mode"), what
        assert str(root) in text


def test_read_only_error_names_the_path_and_the_remedy(root: Path, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    run("mount", "--bind", root, mounted)
    try:
        run("mount", "-o", "remount,ro,bind", mounted)
        [errors] = gather([lambda: attempt_changes(mounted)])
    finally:
        subprocess.run(["umount", str(mounted)], check=False)
    for what, text in errors.items():
        assert "Read-only file system; mount the file system for writing, or use another root" in text, what
        assert str(mounted) in text

"""A store that may not be written to: what is said names the path and what to do, and reading still works."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from docid import DocsStore, Document, Outcome, WriteManyError
from docid.repair import repair
from tests.faults import open_to_everybody
from tests.faults.mounts import run
from tests.faults.test_kills import NEW, OLD, seen
from tests.faults.test_races import gather

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")

NOBODY = 65534


def refused(act: Callable[[], object]) -> str:
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
    """A store of root's, of one document, in a directory that everybody may enter."""
    DocsStore(tmp_path / "docs").write(OLD)
    with open_to_everybody(tmp_path):
        yield tmp_path / "docs"


def attempts(root: Path) -> dict[str, str]:
    store = DocsStore(root)
    told = {
        "create": refused(lambda: store.write(Document(stage="draft", doc_id="b2", task_id="t", raw_text="x"))),
        "batch": refused(lambda: store.write_many([Document(stage="draft", doc_id="b2", task_id="t", raw_text="")])),
        "replace": refused(lambda: store.write(NEW, if_exists="replace")),
        "add_part": refused(lambda: store.add_part("draft", "a1", "prompt", "q")),
        "new stage": refused(
            lambda: store.write(Document(stage="essay", doc_id="e1", task_id="t", parent_doc_id="a1", raw_text="x"))
        ),
    }
    assert seen(store) == {"a1": OLD}
    assert store.write(OLD).outcome is Outcome.UNCHANGED
    assert list(repair(store, stale_after=0)) == []
    return told


def test_without_permission_the_path_and_what_to_do_are_said(root: Path) -> None:
    def as_nobody() -> dict[str, str]:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        return attempts(root)

    [told] = gather([as_nobody])
    for what, text in told.items():
        assert text.startswith("PermissionError: [Errno 13] Permission denied; check the owner and the mode"), what
        assert str(root) in text


def test_on_a_file_system_that_is_read_only_so_is_it(root: Path, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    run("mount", "--bind", root, mounted)
    try:
        run("mount", "-o", "remount,ro,bind", mounted)
        [told] = gather([lambda: attempts(mounted)])
    finally:
        subprocess.run(["umount", str(mounted)], check=False)
    for what, text in told.items():
        assert "Read-only file system; mount the file system for writing, or use another root" in text, what
        assert str(mounted) in text

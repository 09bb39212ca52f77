"""Other file systems: exFAT, NTFS-3G, overlayfs, bindfs without chmod, mergerfs, and a mounted bucket (s3fs).

Injected: file systems that cannot sync directories, lock, chmod, or rename some directories; kills and races on each.
Must hold: the backend passes its test suite and survives kills, or docid refuses the file system in one clear line.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

from docid import DocsStore, Document, DraftTask, LineageConflict, write_tasks
from docid.backends import Backend, LocalBackend
from docid.repair import repair
from docid.testing import BackendTests
from tests.faults import LONG, Tally
from tests.faults.calls import kill_at, run_in_child
from tests.faults.mounts import Mounts
from tests.faults.test_kills import BLOCKED, CHANGES, GIVEN, HALF, LEFT, NEW, OLD, check_after_kill, read_all
from tests.faults.test_races import gather

pytestmark = pytest.mark.skipif(not LONG, reason="takes minutes: `nox -s faults` runs it")

NAMES = ["exfat", "ntfs", "overlayfs", "bindfs", "mergerfs", "s3fs"]
numbers = itertools.count()


@pytest.fixture(scope="module", params=NAMES)
def mounted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    mount: Callable[[Path], Iterator[Path]] = getattr(Mounts, request.param)
    with contextlib.contextmanager(mount)(tmp_path_factory.mktemp(request.param)) as path:
        yield path


@pytest.fixture
def root(mounted: Path) -> Path:
    return mounted / f"{next(numbers)}"


SLOW = "takes minutes in a mounted bucket"
BRANCHES = "mergerfs may refuse a rename between its branches (docs/promises.md)"
EXCEPTIONS = {
    ("s3fs", "test_readers_see_complete_versions"): SLOW,
    ("s3fs", "test_any_document_reads_back_unchanged"): SLOW,
    ("mergerfs", "test_only_one_thread_creates_or_replaces_a_document"): BRANCHES,
}


class TestBackend(BackendTests):
    @pytest.fixture
    def backend(self, root: Path, request: pytest.FixtureRequest) -> Backend:
        kind = next(name for name in NAMES if root.parent.parent.name.startswith(name))
        if (reason := EXCEPTIONS.get((kind, request.node.originalname))) is not None:
            pytest.skip(reason)
        return LocalBackend(root)


@pytest.mark.parametrize(("change", "before", "after", "least"), CHANGES)
def test_kill_leaves_old_or_new_version_and_retry_succeeds(
    mounted: Path, change: Any, before: Document | None, after: Document, least: int
) -> None:
    if "s3fs" in mounted.parent.name and not LONG and before is None:
        pytest.skip("the short form tries only changes of documents in a mounted bucket")
    tally = Tally(f"process killed, {change.__name__}, {mounted.parent.name}", HALF, BLOCKED, GIVEN, LEFT)
    step = (1 if LONG else 7) * (8 if "s3fs" in mounted.parent.name else 1)
    for call in range(1, 200, step):
        root = mounted / f"{next(numbers)}"
        store = DocsStore(root)
        if before is not None:
            store.write(before)
        finished = run_in_child(kill_at(call, half=False), lambda store=store: change(store))  # type: ignore[misc]
        check_after_kill(DocsStore(root), root, change, before, after, tally)
        tally.count("points")
        if finished:
            break
    assert tally.counts["points"] * step > least
    tally.close()


def test_one_of_four_lineages_wins(mounted: Path) -> None:
    tally = Tally(f"4 processes, 4 lineages, one id, {mounted.parent.name}", "rounds without a single winner")
    may_refuse = "mergerfs" in mounted.parent.name
    for _ in range(50 if LONG else 5):
        root = mounted / f"{next(numbers)}"

        def write(writer: int, root: Path = root) -> str:
            document = Document(stage="draft", doc_id="a1", task_id=f"t-{writer}", raw_text=f"{writer} " * 2000)
            try:
                return DocsStore(root).write(document).outcome
            except LineageConflict:
                return "conflict"
            except OSError as error:
                return "refused" if may_refuse and error.errno == errno.EXDEV else repr(error)

        outcomes = gather([partial(write, writer) for writer in range(4)])
        winner = [writer for writer, outcome in enumerate(outcomes) if outcome == "created"]
        stored = [each.read(verify=True).task_id for each in DocsStore(root).documents("draft")]
        fine = [f"t-{writer}" for writer in winner] == stored and set(outcomes) <= {"created", "conflict", "refused"}
        tally.check("rounds without a single winner", fine and (len(winner) == 1 or may_refuse), outcomes)
        tally.count("rounds")
    tally.close()


def test_table_is_replaced(mounted: Path) -> None:
    table = mounted / "draft_tasks.csv"
    for task_id in ("t", "u"):
        assert write_tasks(table, [DraftTask(task_id=task_id, doc_id="a1")], row_type=DraftTask) == 1
        assert task_id in table.read_text()


def test_document_in_a_lower_layer_is_refused_with_its_remedy(tmp_path: Path) -> None:
    """As in a container image that holds a store: its documents can be read, completed and added, but not replaced."""
    DocsStore(tmp_path / "lower" / "docs").write(OLD)
    with contextlib.contextmanager(Mounts.overlayfs)(tmp_path) as mounted:
        store = DocsStore(mounted / "docs")
        try:
            store.write(NEW, if_exists="replace")
        except OSError as error:
            assert error.errno == errno.EXDEV
            assert "another layer or branch (overlayfs, mergerfs)" in str(error)
            assert read_all(store) == {"a1": OLD}
        else:
            pytest.skip("this kernel renames directories of lower layers (redirect_dir)")
        assert store.add_part("draft", "a1", "prompt", "sent").outcome == "completed"
        assert store.write(attrs.evolve(OLD, doc_id="b2")).outcome == "created"
        assert list(repair(store, stale_after=0)) == []

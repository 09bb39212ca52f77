"""Full disks.

Injected: a disk without free bytes, or without free inodes.
Must hold: each failed write raises an error and leaves no half document; it succeeds once there is room.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from docid import DocsStore, Document, WriteManyError
from docid.repair import repair
from tests.faults import LONG, Tally
from tests.faults.mounts import image, tmpfs
from tests.faults.test_kills import read_all

ATTEMPTS = 200 if LONG else 30


def document(number: int, size: int) -> Document:
    return Document(stage="draft", doc_id=f"d{number}", task_id=f"t-{number}", raw_text="x" * size, parsed_text="y")


@contextlib.contextmanager
def small_disk(tmp_path: Path, kind: str, by: str) -> Iterator[Path]:
    """A disk with few bytes or few inodes."""
    if kind == "tmpfs":
        with tmpfs(tmp_path / "tmpfs", "size=256k,nr_inodes=2000" if by == "bytes" else "size=4m,nr_inodes=80") as path:
            yield path
    else:
        options = ("-m", "0", "-N", "2000" if by == "bytes" else "80")
        with image(tmp_path, "ext4", "4M", (*options, "-O", "^has_journal")) as disk:
            yield disk.path


def fill(path: Path, by: str) -> list[Path]:
    """Leave room for a few documents; return the filler files."""
    fillers: list[Path] = []
    free = os.statvfs(path)
    while (free.f_bavail * free.f_frsize > 150_000) if by == "bytes" else (free.f_ffree > 30):
        fillers.append(path / f"filler-{len(fillers)}")
        fillers[-1].write_bytes(b"x" * 40_000 if by == "bytes" else b"")
        free = os.statvfs(path)
    return fillers


@pytest.mark.parametrize("by", ["bytes", "inodes"])
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
@pytest.mark.parametrize("how", ["single", "batched"])
def test_full_disk_raises_and_leaves_no_half_document(tmp_path: Path, kind: str, by: str, how: str) -> None:
    tally = Tally(
        f"full disk, {how}, {kind}, by {by}", "half documents", "other errors", "leftovers", "retries that fail"
    )
    chance = random.Random(7)
    with small_disk(tmp_path, kind, by) as path:
        fillers = fill(path, by)
        store = DocsStore(path / "docs")
        refused = []
        for number in range(ATTEMPTS):
            tally.count("attempts")
            each = document(number, chance.randrange(1, 30_000 if by == "bytes" else 300))
            try:
                if how == "single":
                    store.write(each)
                else:
                    store.write_many([each, document(number + 1000, 10)])
            except (OSError, WriteManyError) as error:
                refused.append(each)
                failures = [error] if isinstance(error, OSError) else error.failures.values()
                for failure in failures:
                    fine = (
                        isinstance(failure, OSError) and failure.errno == errno.ENOSPC and "free disk" in str(failure)
                    )
                    tally.check("other errors", fine, repr(failure))
            except Exception as error:  # noqa: BLE001 - counted
                tally.check("other errors", False, repr(error))
            found = read_all(store).get(f"d{number}")
            tally.check("half documents", found in (None, each), found)
        tally.count("refused", len(refused))
        assert refused
        steps = list(repair(store, stale_after=0))
        tally.check("leftovers", steps == [], steps)
        for filler in fillers:
            filler.unlink()
        chosen = min(refused, key=lambda document: len(document.raw_text))
        try:
            store.write(chosen, if_exists="keep")
        except OSError as error:
            tally.check("retries that fail", False, error)
        tally.check("retries that fail", read_all(store)[chosen.doc_id] == chosen)
    tally.close()

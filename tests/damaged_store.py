"""A store for the tests of repair, and functions that damage it and read it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from docid import DocsStore, Document
from docid.core.findings import Finding
from docid.repair import Step


def draft(doc_id: str = "a1", raw_text: str = "once", task_id: str = "t-1", **more: Any) -> Document:
    return Document(stage="draft", doc_id=doc_id, task_id=task_id, raw_text=raw_text, **more)


def fill(local: DocsStore, tmp_path: Path) -> Path:
    """Write two good documents, replace one of them, and return the root of `local`."""
    local.write(draft("good"))
    local.write(draft("changed"))
    local.write(draft("changed", raw_text="twice"), if_exists="replace")
    local.add_part("draft", "changed", "parsed", "p")
    for lock in (tmp_path / "docs" / "draft").glob(".lock-*"):
        lock.unlink()
    return tmp_path / "docs"


def tree(root: Path) -> dict[str, bytes | None]:
    """Return the bytes of each file below a directory, and None for each directory or link."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in sorted(root.rglob("*"))
    }


def findings(store: DocsStore, **options: Any) -> list[Finding]:
    return [each for each in store.scan("draft", stale_after=0, **options) if isinstance(each, Finding)]


def find_quarantined(step: Step, root: Path) -> Path:
    """Return the path in quarantine that a step of repair moved its file or directory to."""
    assert step.done
    assert re.fullmatch(r"\.docid/quarantine/[0-9t.]+z-[0-9a-f]{16}/" + re.escape(step.path), step.to)
    return root / step.to


TEMPORARY = ".tmp-{}-0123456789abcdef"

# Each function below damages the store and returns the damaged path, relative to the root. `dead_` leaves the files of
# a process that was killed during that call.


def dead_create(root: Path) -> str:
    path = root / "draft" / TEMPORARY.format("a1")
    path.mkdir()
    (path / "raw.txt").write_text("half")
    return f"draft/{path.name}"


def dead_add_part(root: Path) -> str:
    (root / "draft" / "good" / "parsed.txt").write_text("p")
    return "draft/good/parsed.txt"


def dead_swap(root: Path) -> str:
    path = root / "draft" / "good" / TEMPORARY.format("metadata.json")
    path.write_text("{")
    return f"draft/good/{path.name}"


def dead_entry(root: Path) -> str:
    path = root / ".docid" / "history" / "draft" / "changed" / TEMPORARY.format("20260101T000000.000000Z.json")
    path.write_text("{")
    return str(path.relative_to(root))


def entry_of_no_change(root: Path) -> str:
    path = root / ".docid" / "history" / "draft" / "changed" / "20990101T000000.000000Z-0123456789abcdef.json"
    shutil.copy(root / "draft" / "changed" / "metadata.json", path)
    return str(path.relative_to(root))


def entry_twice(root: Path) -> str:
    directory = root / ".docid" / "history" / "draft" / "changed"
    [record] = directory.glob("*.json")
    path = directory / f"{record.name[:21]}1z-0123456789abcdef.json"
    shutil.copy(record, path)
    return str(min(path, record).relative_to(root))


def make_uncommitted(root: Path) -> str:
    (root / "draft" / "a1").mkdir()
    (root / "draft" / "a1" / "raw.txt").write_text("half")
    return "draft/a1"


def torn(root: Path) -> str:
    (root / "draft" / "good" / "raw.txt").write_text("on")
    return "draft/good"


def broken(root: Path) -> str:
    (root / "draft" / "good" / "metadata.json").write_text("{")
    return "draft/good"


def misplace(root: Path) -> str:
    shutil.copytree(root / "draft" / "good", root / "draft" / "a1")
    return "draft/a1"


def odd_record(root: Path) -> str:
    (root / "draft" / "good" / "metadata.json").unlink()
    (root / "draft" / "good" / "metadata.json").mkdir()
    return "draft/good"


def edit_text(root: Path) -> str:
    (root / "draft" / "good" / "raw.txt").write_text("ones")
    return "draft/good"

"""Drafts in a local directory, and patched file system calls, for the tests of the local backend."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, Document


def draft(doc_id: str = "a1", raw_text: str = "once", task_id: str = "t-1", **more: Any) -> Document:
    return Document(stage="draft", doc_id=doc_id, task_id=task_id, raw_text=raw_text, **more)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if not path.name.startswith(".lock-"))


def interrupt_replace(store: DocsStore, *, new_in_place: bool) -> None:
    """Leave draft/a1 as a replace that was killed after its first rename, or after its second (`new_in_place`)."""
    stage = store.path("draft", "a1").parent
    store.write(draft())
    os.rename(stage / "a1", stage / ".old-a1")
    if new_in_place:
        other = DocsStore(stage.parent.parent / "other", durability="none")
        os.rename(other.write(draft(raw_text="twice")).path, stage / "a1")


def patch_os(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[..., Any]) -> None:
    """Make the local backend call `act(original, *args)` instead of os.<name>."""
    original = getattr(os, name)
    monkeypatch.setattr(
        f"docid.store.backends.local.backend.os.{name}", lambda *args, **options: act(original, *args, **options)
    )


def make_sweep(stage: Path, turns: int) -> Callable[[], None]:
    """Return a function that moves temporary directories of a stage away, at most `turns` in all."""
    left = [turns]

    def sweep() -> None:
        for name in os.listdir(stage):
            if name.startswith(".tmp-") and left[0]:
                left[0] -= 1
                os.rename(stage / name, stage.parent / f"make_sweep{name}")

    return sweep

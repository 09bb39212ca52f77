"""Hostile names and links.

Injected: names that lead out of a store or mean two things, in every call that takes a name; symbolic links in a store
that lead out of it.
Must hold: docid refuses each name with InvalidName, follows no link, and touches no file outside the store.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, Document, InvalidName, UnreadableDocument
from docid.repair import repair
from tests.faults import Tally
from tests.faults.test_races import gather

DEVICES = ["con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))]
_NAMES = [
    *(
        "",
        ".",
        "..",
        "...",
        "/",
        "//",
        "\\",
        "~",
        "~root",
        "-",
        "--help",
        "_",
        "*",
        "?",
        "[a]",
        "{a,b}",
        "$HOME",
        "`id`",
    ),
    *(
        "../x",
        "../../etc/passwd",
        "x/..",
        "x/../..",
        "x/../../y",
        "/etc/passwd",
        "/x",
        "x/",
        "x//y",
        "./x",
        "x/.",
        "..x",
    ),
    *("..\\x", "c:\\x", "c:x", "\\\\server\\share", "x\\..\\y", "x:stream", "x::$DATA", "%2e%2e%2f", "..%2f", "x%00"),
    *("\x00", "x\x00", "x\x00.txt", "x\n", "\nx", "x\r", "x\t", " x", "x ", "x y", "\x1b[2J", "\x7f", "x\x07", "x\x0b"),
    *("A", "Draft", "DRAFT", "dRAFT", "a1B", "X", "ID", "Con", "NUL", "Aux.txt", "İ", "ı", "ſ", "K", "ß", "ﬁ"),
    *(
        "é",
        "e\u0301",
        "Å",
        "A\u030a",
        "\u212b",
        "ñ",
        "n\u0303",
        "한",
        "\u1112\u1161\u11ab",
        "日本",
        "а",
        "ο",
        "１",
        "x\u200b",
    ),
    *(
        "\u202ex",
        "x\u2028",
        "x\u00a0",
        "\ufeffx",
        "x\u00ad",
        "\U0001f600",
        "x\ufe0f",
        "\ud800",
        "x\udcff",
        "\u2024\u2024",
    ),
    *(".hidden", ".git", ".docid", ".tmp-a1-0123456789abcdef", ".old-a1", ".lock-a1", ".DS_Store", "-rf", "_x", "-x"),
    *("a.b", "a.txt", "metadata.json", "raw.txt", "x.", "x..", "a,b", "a;b", "a&b", "a|b", "a>b", "a<b", "a'b", 'a"b'),
    *(
        "a=b",
        "a+b",
        "a@b",
        "a#b",
        "a!b",
        "a^b",
        "a(b",
        "a)b",
        "a%b",
        "a$b",
        "a~b",
        "a`b",
        "http://x",
        "s3://b/k",
        "x:y",
    ),
    *("x" * length for length in (65, 128, 255, 256, 1000, 4096, 70_000)),
    *("é" * 100, "a" * 64 + "/..", "a" * 64 + ".", "a" * 63 + "É"),
    *DEVICES,
    *(f"{name}.txt" for name in DEVICES),
    *(name.upper() for name in DEVICES),
    *(f"{name} " for name in DEVICES[:4]),
]

NAMES = list(dict.fromkeys(_NAMES))


def tree(path: Path) -> dict[str, Any]:
    return {str(each): (each.lstat().st_mode, each.lstat().st_mtime_ns) for each in [path, *sorted(path.rglob("*"))]}


def test_hostile_names_are_refused_and_touch_no_file_outside_the_root(tmp_path: Path) -> None:
    tally = Tally("hostile names", "not refused", "paths touched outside the root")
    assert len(NAMES) >= 200
    root = tmp_path / "outer" / "docs"
    outside = tmp_path / "outer" / "x"
    outside.mkdir(parents=True)
    store = DocsStore(root, durability="none")
    store.write(Document(stage="draft", doc_id="a1", task_id="t", raw_text="r"))
    good: dict[str, Any] = {"stage": "draft", "doc_id": "d1", "task_id": "t", "raw_text": "r"}
    acts: dict[str, Callable[[str], object]] = {
        "stage": lambda name: store.write(Document(**{**good, "stage": name})),
        "doc id": lambda name: store.write(Document(**{**good, "doc_id": name})),
        "parent": lambda name: store.write(Document(**{**good, "stage": "essay", "parent_doc_id": name})),
        "path": lambda name: store.path("draft", name),
        "exists": lambda name: store.exists("draft", name),
        "read": lambda name: store.read("draft", name),
        "open": lambda name: store.open(name, "a1"),
        "ids": lambda name: list(store.ids(name)),
        "scan": lambda name: list(store.scan(name)),
        "history": lambda name: list(store.history("draft", name)),
        "add_part": lambda name: store.add_part("draft", name, "parsed", "p"),
        "write_many": lambda name: store.write_many([Document(**{**good, "doc_id": name})]),
    }

    def attack() -> tuple[list[str], list[str], int]:
        touched: list[str] = []
        wrong: list[str] = []
        watching = [False]

        def hook(event: str, args: tuple[Any, ...]) -> None:
            if watching[0] and event.split(".", maxsplit=1)[0] in {"open", "os", "shutil"}:
                paths = [path for path in args if isinstance(path, str)]
                touched.extend(
                    f"{event} {path!r}" for path in paths if not os.path.normpath(path).startswith(str(root))
                )

        sys.addaudithook(hook)
        refused = 0
        for name in NAMES:
            for what, act in acts.items():
                watching[0] = True
                try:
                    act(name)
                    wrong.append(f"{what} {name!r}")
                except InvalidName:
                    refused += 1
                except Exception as error:  # noqa: BLE001 - counted
                    wrong.append(f"{what} {name!r}: {error!r}")
                finally:
                    watching[0] = False
        return touched, wrong, refused

    before = tree(tmp_path)
    [(touched, wrong, refused)] = gather([attack])
    tally.count("names", len(NAMES))
    tally.count("refusals", refused)
    for each in wrong:
        tally.check("not refused", False, each)
    for each in touched:
        tally.check("paths touched outside the root", False, each)
    assert tree(tmp_path) == before
    tally.close()


@pytest.mark.parametrize("place", ["stage", "document", "temporary document", "history", "docid's own directory"])
def test_links_out_of_the_root_are_not_followed(tmp_path: Path, place: str) -> None:
    root, outside = tmp_path / "docs", tmp_path / "outside"
    store = DocsStore(root, durability="none")
    document = Document(stage="draft", doc_id="a1", task_id="t", raw_text="r")
    store.write(document)
    other = DocsStore(outside / "store", durability="none").write(document).path
    if place == "stage":
        os.rename(root / "draft", tmp_path / "moved")
        (root / "draft").symlink_to(other.parent)
    elif place == "document":
        os.rename(root / "draft" / "a1", tmp_path / "moved")
        (root / "draft" / "a1").symlink_to(other)
    elif place == "temporary document":
        (root / "draft" / ".old-a1").symlink_to(other)
        (root / "draft" / ".tmp-a1-0123456789abcdef").symlink_to(other)
    elif place == "docid's own directory":
        (other.parent / "history" / "draft" / "a1").mkdir(parents=True)
        shutil.rmtree(root / ".docid")
        (root / ".docid").symlink_to(other.parent)
        (root / "draft" / ".tmp-a1-0123456789abcdef").mkdir()
    else:
        (root / ".docid" / "history" / "draft").mkdir(parents=True)
        (root / ".docid" / "history" / "draft" / "a1").symlink_to(other)
    before = tree(outside)
    changed = Document(stage="draft", doc_id="a1", task_id="t", raw_text="changed")
    for act in (
        lambda: store.write(document),
        lambda: store.write(changed, if_exists="replace"),
        lambda: store.add_part("draft", "a1", "parsed", "p"),
        lambda: store.read("draft", "a1"),
        lambda: list(store.documents("draft")),
        lambda: list(repair(store, apply=True, stale_after=0, purge=True, history=True, older_than=0)),
    ):
        try:
            act()
        except UnreadableDocument as error:
            assert "symbolic link" in str(error)
    assert tree(outside) == before

"""Two users of one group who share a store.

Injected: two users with a umask of 022 or 002 replace, ensure, add parts and repair in turns; some replaces are killed;
root changes documents in between.
Must hold: no id is stuck, and no user is refused where that user may write.
"""

from __future__ import annotations

# Imported before a child changes its user, who may not be able to read the libraries.
import _strptime  # type: ignore[import-not-found]  # noqa: F401 - typeshed does not know it
import contextlib
import ctypes  # noqa: F401
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, Document, DraftTask, Outcome
from docid.repair import repair
from tests.faults import LONG, Tally
from tests.faults.calls import KILLED, intercept_calls, kill_at
from tests.faults.test_races import gather

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")

ANN, BEN, GROUP = 4001, 4002, 4100
IDS = ["a1", "b2", "c3"]
ROUNDS = 200 if LONG else 20


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that every user may read, and whose parents too."""
    path = Path(tempfile.mkdtemp(dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def make_shared(path: Path, mode: int = 0o2775) -> None:
    path.mkdir()
    os.chown(path, ANN, GROUP)
    path.chmod(mode)


def as_user(user: int, act: Callable[[], Any], umask: int = 0o022) -> Any:
    """Run a function in another process, as a user of the group; return its result."""

    def work() -> Any:
        os.setgroups([GROUP])
        os.setgid(user)
        os.setuid(user)
        os.umask(umask)
        return act()

    [result] = gather([work])
    return result


def draft(doc_id: str = "a1", text: str = "once") -> Document:
    return Document(stage="draft", doc_id=doc_id, task_id=f"t-{doc_id}", raw_text=text)


def catch_refusal(act: Callable[[], Any]) -> str:
    """Return the outcome of a change, or the path that refused it."""
    try:
        return str(act().outcome)
    except PermissionError as error:
        return f"refused by {error.filename}"


def replace(root: Path, text: str, doc_id: str = "a1") -> str:
    return catch_refusal(lambda: DocsStore(root).write(draft(doc_id, text), if_exists="replace"))


def add_part(root: Path, text: str, doc_id: str = "a1") -> str:
    return catch_refusal(lambda: DocsStore(root).add_part("draft", doc_id, "parsed", text))


def ensure(root: Path, doc_id: str = "a1") -> str:
    row = DraftTask(task_id=f"t-{doc_id}", doc_id=doc_id)
    return catch_refusal(lambda: DocsStore(root).ensure(row, lambda _: draft(doc_id)))


def test_refused_replace_changes_nothing_and_names_what_refuses(directory: Path) -> None:
    """Each directory that a replace needs refuses in turn."""
    root = directory / "docs"
    make_shared(root)
    make_shared(root / "draft")
    as_user(ANN, lambda: DocsStore(root).write(draft()).outcome)
    before = sorted(os.listdir(root / "draft"))
    assert as_user(BEN, lambda: replace(root, "twice")) == f"refused by {root}/draft/a1"
    assert as_user(BEN, lambda: add_part(root, "p")) == f"refused by {root}/draft/a1"
    assert sorted({*os.listdir(root / "draft")} - {".lock-a1"}) == before
    assert as_user(BEN, lambda: ensure(root)) == "kept"
    assert as_user(ANN, lambda: replace(root, "twice")) == "replaced"
    assert as_user(BEN, lambda: ensure(root)) == "kept"

    history = root / ".docid" / "history" / "draft"
    os.chown(history / "a1", 0, 0)
    (history / "a1").chmod(0o755)
    for change in (replace, add_part):
        assert as_user(ANN, partial(change, root, "thrice")) == f"refused by {history}/a1"
    as_user(ANN, lambda: DocsStore(root).write(draft("b2")).outcome)
    os.chown(history, 0, 0)
    history.chmod(0o755)
    assert as_user(ANN, lambda: replace(root, "twice", "b2")) == f"refused by {history}"
    (root / "draft").chmod(0o755)
    assert as_user(BEN, lambda: replace(root, "twice", "c3")) == f"refused by {root}/draft"
    assert as_user(ANN, lambda: catch_refusal(lambda: DocsStore(directory / "new").write(draft()))) == (
        f"refused by {directory}"
    )
    assert [DocsStore(root).read("draft", doc_id).raw_text for doc_id in ("a1", "b2")] == ["twice", "once"]
    assert [name for name in os.listdir(root / "draft") if name.startswith((".old", ".new", ".tmp"))] == []


def test_root_leaves_no_file_that_stops_the_owner(directory: Path) -> None:
    """One run as root, or in a container, changes a store; then its owner changes it."""
    root = directory / "docs"
    make_shared(root, 0o755)
    as_user(ANN, lambda: DocsStore(root).write(draft("b2")).outcome)
    DocsStore(root).write(draft())
    for change in (replace, add_part):
        assert change(root, "by root", "b2") != "kept"
    DocsStore(root).write(draft(text="by root"), if_exists="replace")
    (root / "draft" / ".tmp-c3-0123456789abcdef").mkdir()
    assert [step.done for step in repair(DocsStore(root), apply=True, stale_after=0)] == [True]
    as_user(ANN, lambda: DocsStore(root).write(draft("c3")).outcome)
    assert as_user(ANN, lambda: [replace(root, "mine", "c3"), add_part(root, "p", "c3")]) == ["replaced", "completed"]
    # The documents of root stay root's.
    assert as_user(ANN, lambda: replace(root, "mine")) == f"refused by {root}/draft/a1"
    assert as_user(ANN, lambda: [ensure(root, doc_id) for doc_id in IDS]) == ["kept"] * 3


def test_old_version_that_cannot_be_moved_stops_only_a_replace(directory: Path) -> None:
    """As an earlier docid left it: the old version of another user under its interim name."""
    root = directory / "docs"
    make_shared(root, 0o755)
    DocsStore(root).write(draft())
    os.chown(root / "draft", ANN, GROUP)
    (root / "draft" / "a1").rename(root / "draft" / ".old-a1")
    other = DocsStore(directory / "other")
    other.write(draft(text="twice")).path.rename(root / "draft" / "a1")
    assert as_user(ANN, lambda: ensure(root)) == "kept"
    assert as_user(ANN, lambda: DocsStore(root).write(draft(text="twice")).outcome) is Outcome.UNCHANGED
    assert as_user(ANN, lambda: replace(root, "thrice")) == f"refused by {root}/draft/.old-a1"
    assert replace(root, "thrice") == "replaced"
    assert [old.raw_text for old in DocsStore(root).history("draft", "a1")] == ["twice", "once"]


def may_change(root: Path, doc_id: str) -> bool:
    """Return whether the user of this process may write in the stage, and in the document if there is one."""
    places = [root / "draft" / f"{before}{doc_id}" for before in ("", ".old-")]
    return os.access(root / "draft", os.W_OK) and all(os.access(path, os.W_OK) for path in places if path.exists())


def take_turn(root: Path, turn: int, seed: int) -> list[tuple[str, bool, str]]:
    """Make one change of each kind; return the outcomes, and whether the user may change the document."""
    choose = random.Random(f"{turn} {seed}")
    found: list[tuple[str, bool, str]] = []
    for kind in ("replace", "ensure", "add_part", "killed replace", "repair"):
        doc_id = choose.choice(IDS)
        allowed = may_change(root, doc_id)
        if kind == "repair":
            steps = list(repair(DocsStore(root), apply=True, stale_after=0))
            # Files of the other user that are in the way of nobody stay for that user's own repair.
            found += [(kind, os.access(step.path, os.W_OK), str(step.error)) for step in steps if not step.done]
            continue
        try:
            if kind == "killed replace":
                outcome = kill_replace(root, f"{turn}", doc_id, choose)
            else:
                change: Any = {"replace": replace, "add_part": add_part}.get(kind)
                outcome = ensure(root, doc_id) if change is None else change(root, f"{turn}", doc_id)
        except Exception as error:  # noqa: BLE001 - checked by the caller
            outcome = repr(error)
        found.append((kind, allowed, outcome))
    return found


def kill_replace(root: Path, text: str, doc_id: str, choose: random.Random) -> str:
    child = os.fork()
    if not child:
        with contextlib.suppress(Exception), intercept_calls(kill_at(choose.randrange(1, 90), half=False)):
            replace(root, f"{text} killed", doc_id)
        os._exit(KILLED)
    os.waitpid(child, 0)
    return "killed"


STUCK, REFUSED, OTHER = "stuck ids", "refused where the user may write", "other errors"


@pytest.mark.parametrize(
    ("umasks", "stage_mode"),
    [
        pytest.param((0o002, 0o002), None, id="umask 002"),
        pytest.param((0o022, 0o022), None, id="umask 022"),
        pytest.param((0o022, 0o022), 0o2775, id="umask 022, shared stage"),
        pytest.param((0o002, 0o022), 0o2775, id="umask 002 and 022"),
    ],
)
def test_two_users_take_turns(directory: Path, umasks: tuple[int, int], stage_mode: int | None) -> None:
    tally = Tally(f"two users, umask {umasks[0]:03o} and {umasks[1]:03o}, stage {stage_mode}", STUCK, REFUSED, OTHER)
    root = directory / "docs"
    make_shared(root)
    if stage_mode is not None:
        make_shared(root / "draft", stage_mode)
    users = list(zip((ANN, BEN), umasks, strict=True))
    for doc_id, (user, umask) in zip(IDS, [*users, users[0]], strict=True):
        as_user(user, partial(ensure, root, doc_id), umask)
    for turn in range(ROUNDS):
        user, umask = users[turn % 2]
        for kind, allowed, outcome in as_user(user, partial(take_turn, root, turn, umasks[0]), umask):
            tally.count(kind)
            tally.count("refused where the user may not write", outcome.startswith("refused") and not allowed)
            tally.check(REFUSED, not outcome.startswith("refused") or not allowed, (turn, user, kind, outcome))
            known = outcome.startswith("refused") or outcome in {"killed", *map(str, Outcome)}
            missing = "DocumentNotFound" in outcome or ("ContentConflict" in outcome and kind == "add_part")
            tally.check(OTHER, known or missing or kind == "repair", (turn, user, kind, outcome))
        for reader, mask in users:
            # A document that a user may not create is only missing.
            outcomes = as_user(reader, lambda: [ensure(root, doc_id) for doc_id in IDS], mask)
            fine = [each in {"kept", "created"} or each == f"refused by {root}/draft" for each in outcomes]
            tally.check(STUCK, all(fine), (turn, reader, outcomes))
    for user, umask in users * 2:
        as_user(user, lambda: [step.done for step in repair(DocsStore(root), apply=True, stale_after=0)], umask)
    store = DocsStore(root)
    for document in list(store.documents("draft")):
        owner = document.path.stat().st_uid
        outcome = as_user(owner, partial(replace, root, "last", document.doc_id), dict(users)[owner])
        tally.check(STUCK, outcome == "replaced", (document.doc_id, outcome))
        assert store.read("draft", document.doc_id, verify=True).raw_text == "last"
    left = [path.name for path in (root / "draft").glob(".*") if not path.name.startswith(".lock-")]
    tally.check(STUCK, not left, left)
    tally.close()


@pytest.mark.parametrize("mode", [0o2775, 0o1777])
def test_claim_of_a_killed_user_is_taken_over_by_another(directory: Path, mode: int) -> None:
    """In a directory of the group, and in one where nobody may remove the files of others."""
    root = directory / "docs"
    make_shared(root, mode)
    make_shared(root / "draft", mode)

    def die_in_call() -> None:
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                DocsStore(root).ensure(DraftTask(task_id="t-a1", doc_id="a1"), lambda _: os._exit(KILLED))
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED

    as_user(ANN, die_in_call, 0o077)
    assert (root / "draft" / ".claim-a1").exists()
    assert as_user(BEN, lambda: ensure(root)) == "created"
    assert as_user(ANN, lambda: ensure(root, "b2")) == "created"

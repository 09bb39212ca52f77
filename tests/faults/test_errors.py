"""Every file-system call of a change failing, once and from then on: what is said is true, and nothing is left."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from docid import BatchError, ContentConflict, DocsStore, Document, DurabilityUnknown, LineageConflict
from docid.repair import repair
from tests.faults.calls import Act, count_of, watched
from tests.faults.test_kills import COMPLETED, NEW, OLD, add_part, create, replace, seen, swap_record, write_many

NUMBERS = [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EACCES]
CHANGES = [
    pytest.param(create, None, NEW, id="create"),
    pytest.param(write_many, None, NEW, id="write_many"),
    pytest.param(replace, OLD, NEW, id="replace"),
    pytest.param(add_part, OLD, COMPLETED, id="add_part"),
    pytest.param(swap_record, OLD, None, id="swap of one record"),
]


def fails_at(call: int, number: int, *, ever_after: bool) -> Act:
    def act(at: int, name: str, original: Any, args: Any, options: Any) -> Any:
        if at == call or (ever_after and at > call):
            if name == "close":
                original(*args, **options)
            raise OSError(number, os.strerror(number))
        return original(*args, **options)

    return act


@pytest.mark.parametrize("ever_after", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize(("change", "before", "after"), CHANGES)
def test_a_call_that_fails_is_neither_success_nor_conflict_and_leaves_nothing(
    tmp_path: Path,
    change: Any,
    before: Document | None,
    after: Document | None,
    ever_after: bool,
    long: bool,
    counted: Callable[..., None],
) -> None:
    counts: Counter[str] = Counter()
    numbers = NUMBERS if long else NUMBERS[:2]
    probe = DocsStore(tmp_path / "probe")
    if before is not None:
        probe.write(before)
    calls = sum(count_of(lambda: change(probe)).values())
    goal = probe.read("draft", "a1")
    assert after in (None, goal)
    for number in numbers:
        for call in range(1, calls + 1, 1 if long or not ever_after else 3):
            root = tmp_path / f"{number}-{call}"
            store = DocsStore(root)
            if before is not None:
                store.write(before)
            said: BaseException | None = None
            with watched(fails_at(call, number, ever_after=ever_after)):
                try:
                    change(store)
                except Exception as error:  # noqa: BLE001 - looked at below
                    said = error
            counts["points"] += 1
            failures = [*said.failures.values()] if isinstance(said, BatchError) else [said]
            for failure in failures:
                assert not isinstance(failure, (LineageConflict, ContentConflict)), f"call {call}: {failure!r}"
                assert failure is None or isinstance(failure, (OSError, DurabilityUnknown)), f"call {call}: {failure!r}"
            found = seen(store).get("a1")
            assert found in ((before, goal) if before is not None else (None, goal)), f"call {call}"
            if said is None or isinstance(failures[0], DurabilityUnknown):
                assert found == goal, f"call {call}: success that was none"
            if not ever_after:
                # Whatever could clean up did; a version whose move to history failed is moved by the next change.
                left = [step for step in repair(store, stale_after=0) if step.action != "settle"]
                assert left == [], f"call {call}: {said!r}"
            change(store)
            assert seen(store)["a1"] == goal
            counts["errors"] += said is not None
            for step in repair(store, stale_after=0, apply=True):
                assert step.done
            assert list(repair(store, stale_after=0)) == []
    counted(
        f"call failing {'from then on' if ever_after else 'once'}, {change.__name__}",
        points=counts["points"],
        errors_said=counts["errors"],
        silent_successes=0,
        false_conflicts=0,
        leftovers=0,
    )


@pytest.mark.parametrize("number", [errno.EIO, errno.EEXIST, errno.ENOENT], ids=errno.errorcode.get)
@pytest.mark.parametrize(("change", "before", "after"), CHANGES)
def test_a_rename_that_was_done_and_reported_failed_is_a_success(
    tmp_path: Path,
    change: Any,
    before: Document | None,
    after: Document | None,
    number: int,
    counted: Callable[..., None],
) -> None:
    probe = DocsStore(tmp_path / "probe")
    if before is not None:
        probe.write(before)
    renames = count_of(lambda: change(probe))["rename"]
    for wrong in range(1, renames + 1):
        store = DocsStore(tmp_path / str(wrong))
        if before is not None:
            store.write(before)
        met = 0

        def act(at: int, name: str, original: Any, args: Any, options: Any, wrong: int = wrong) -> Any:
            nonlocal met
            result = original(*args, **options)
            met += name == "rename"
            if name == "rename" and met == wrong:
                raise OSError(number, os.strerror(number))
            return result

        with watched(act):
            change(store)
        assert seen(store)["a1"] == probe.read("draft", "a1")
        assert list(repair(store, stale_after=0)) == []
        assert [old.raw_text for old in store.history("draft", "a1")] == ([] if before is None else [before.raw_text])
    counted(f"rename done, reported failed, {change.__name__}, {errno.errorcode[number]}", renames=renames, failures=0)


@pytest.mark.parametrize(("change", "before", "after"), CHANGES)
def test_short_writes_and_reads_are_continued(
    tmp_path: Path, change: Any, before: Document | None, after: Document | None
) -> None:
    store = DocsStore(tmp_path)

    def act(at: int, name: str, original: Any, args: Any, options: Any) -> Any:
        if name == "write":
            return original(args[0], args[1][:7])
        if name == "read":
            return original(args[0], min(args[1], 5))
        return original(*args, **options)

    with watched(act):
        if before is not None:
            store.write(before)
        change(store)
        assert after in (None, store.read("draft", "a1", verify=True))


def test_a_limit_on_the_size_of_files_is_an_error_and_no_half_document(tmp_path: Path) -> None:
    """Real short writes: a write goes as far as the limit, and the next one fails."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    store = DocsStore(tmp_path)
    long_text = attrs.evolve(NEW, raw_text="x" * 5000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(OSError, match=r"ulimit -f") as caught:
            store.write(long_text)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG
    assert seen(store) == {}
    assert list(repair(store, stale_after=0)) == []
    store.write(long_text)

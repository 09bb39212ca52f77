"""Failing file-system calls.

Injected: each call of a change fails, once or from then on; a rename succeeds but reports an error; reads and writes
are cut short; the system limits the size of files.
Must hold: docid reports no false success and no false conflict, keeps the old or the new version, and leaves no
leftovers.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import attrs
import pytest

from docid import DocsStore, Document, DurabilityUnknown, WriteManyError
from docid.repair import repair
from tests.faults import LONG, Tally
from tests.faults.calls import Act, count_calls, intercept_calls
from tests.faults.test_kills import COMPLETED, NEW, OLD, add_part, create, read_all, replace, swap_record, write_many

NUMBERS = [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EACCES]
CHANGES = [
    pytest.param(create, None, NEW, id="create"),
    pytest.param(write_many, None, NEW, id="write_many"),
    pytest.param(replace, OLD, NEW, id="replace"),
    pytest.param(add_part, OLD, COMPLETED, id="add_part"),
    pytest.param(swap_record, OLD, None, id="swap of one record"),
]


def fail_at(call: int, number: int, *, ever_after: bool) -> Act:
    def act(at: int, name: str, original: Any, args: Any, options: Any) -> Any:
        if at == call or (ever_after and at > call):
            if name == "close":
                original(*args, **options)
            raise OSError(number, os.strerror(number))
        return original(*args, **options)

    return act


SILENT, FALSE, LEFT = "silent successes", "false conflicts", "leftovers"


@pytest.mark.parametrize("ever_after", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize(("change", "before", "after"), CHANGES)
def test_failed_call_is_reported_and_leaves_no_leftovers(
    tmp_path: Path, change: Any, before: Document | None, after: Document | None, ever_after: bool
) -> None:
    tally = Tally(f"call failing {'from then on' if ever_after else 'once'}, {change.__name__}", SILENT, FALSE, LEFT)
    numbers = NUMBERS if LONG else NUMBERS[:2]
    probe = DocsStore(tmp_path / "probe")
    if before is not None:
        probe.write(before)
    calls = sum(count_calls(lambda: change(probe)).values())
    goal = probe.read("draft", "a1")
    assert after in (None, goal)
    for number in numbers:
        for call in range(1, calls + 1, 1 if LONG or not ever_after else 3):
            store = DocsStore(tmp_path / f"{number}-{call}")
            if before is not None:
                store.write(before)
            raised: BaseException | None = None
            with intercept_calls(fail_at(call, number, ever_after=ever_after)):
                try:
                    change(store)
                except Exception as error:  # noqa: BLE001 - checked below
                    raised = error
            where = f"call {call}, {errno.errorcode[number]}: {raised!r}"
            tally.count("points")
            tally.count("errors", raised is not None)
            failures = [*raised.failures.values()] if isinstance(raised, WriteManyError) else [raised]
            for failure in failures:
                tally.check(FALSE, isinstance(failure, (OSError, DurabilityUnknown)) or failure is None, where)
            found = read_all(store).get("a1")
            tally.check(SILENT, found in ((before, goal) if before is not None else (None, goal)), where)
            if raised is None or isinstance(failures[0], DurabilityUnknown):
                tally.check(SILENT, found == goal, where)
            if not ever_after:
                # docid cleaned up. If the move to history failed, the next change repeats it.
                left = [step for step in repair(store, stale_after=0) if step.action != "settle"]
                tally.check(LEFT, left == [], (where, left))
            change(store)
            tally.check(SILENT, read_all(store)["a1"] == goal, where)
            for step in repair(store, stale_after=0, apply=True):
                tally.check(LEFT, step.done, step)
            tally.check(LEFT, list(repair(store, stale_after=0)) == [], where)
    tally.close()


@pytest.mark.parametrize(("change", "before", "after"), CHANGES)
def test_rename_that_succeeds_but_reports_an_error_is_a_success(
    tmp_path: Path, change: Any, before: Document | None, after: Document | None
) -> None:
    tally = Tally(f"rename done, reported failed, {change.__name__}", "failures", "leftovers")
    probe = DocsStore(tmp_path / "probe")
    if before is not None:
        probe.write(before)
    renames = count_calls(lambda: change(probe))["rename"]
    for number in (errno.EIO, errno.EEXIST, errno.ENOENT):
        for wrong in range(1, renames + 1):
            store = DocsStore(tmp_path / f"{number}-{wrong}")
            if before is not None:
                store.write(before)
            rename_count = 0

            def act(
                at: int, name: str, original: Any, args: Any, options: Any, wrong: int = wrong, number: int = number
            ) -> Any:
                nonlocal rename_count
                result = original(*args, **options)
                rename_count += name == "rename"
                if name == "rename" and rename_count == wrong:
                    raise OSError(number, os.strerror(number))
                return result

            try:
                with intercept_calls(act):
                    change(store)
            except Exception as error:  # noqa: BLE001 - counted
                tally.check("failures", False, f"rename {wrong}: {error!r}")
            tally.count("renames")
            tally.check("failures", read_all(store).get("a1") == probe.read("draft", "a1"), wrong)
            history = [old.raw_text for old in store.history("draft", "a1")]
            tally.check("failures", history == ([] if before is None else [before.raw_text]), wrong)
            tally.check("leftovers", list(repair(store, stale_after=0)) == [], wrong)
    tally.close()


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

    with intercept_calls(act):
        if before is not None:
            store.write(before)
        change(store)
        assert after in (None, store.read("draft", "a1", verify=True))


def test_file_size_limit_raises_and_leaves_no_half_document(tmp_path: Path) -> None:
    """The kernel cuts one write short at the limit, and fails the next."""
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
    assert read_all(store) == {}
    assert list(repair(store, stale_after=0)) == []
    store.write(long_text)

"""Intercept every file-system call of a change: count it, let it fail, or end the process there."""

from __future__ import annotations

import fcntl
import itertools
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from docid.store.backends.local.directory import Directory

NAMES = [
    "access",
    "chmod",
    "close",
    "fchmod",
    "fchown",
    "fstat",
    "fsync",
    "listdir",
    "lstat",
    "mkdir",
    "open",
    "read",
    "rename",
    "replace",
    "rmdir",
    "scandir",
    "stat",
    "unlink",
    "utime",
    "write",
]
KILLED, DONE = 77, 78

Act = Callable[[int, str, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


@contextmanager
def intercept_calls(act: Act) -> Iterator[None]:
    """Replace each file-system call by `act(number, name, original, args, options)`; numbers start at 1."""
    numbers = itertools.count(1)
    inside = threading.local()

    def wrap(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if getattr(inside, "act", False):
                return original(*args, **options)  # a call that `act` makes
            inside.act = True
            try:
                return act(next(numbers), name, original, args, options)
            finally:
                inside.act = False

        return call

    originals = {name: getattr(os, name) for name in NAMES}
    flock, sync_all = fcntl.flock, Directory.sync_all
    try:
        for name, original in originals.items():
            setattr(os, name, wrap(name, original))
        fcntl.flock = wrap("flock", flock)
        Directory.sync_all = wrap("syncfs", sync_all)  # type: ignore[method-assign]
        yield
    finally:
        for name, original in originals.items():
            setattr(os, name, original)
        fcntl.flock = flock
        Directory.sync_all = sync_all  # type: ignore[method-assign]


def count_calls(change: Callable[[], object]) -> Counter[str]:
    """Make a change; return the number of calls by name."""
    counts: Counter[str] = Counter()

    def count(number: int, name: str, original: Any, args: Any, options: Any) -> Any:
        counts[name] += 1
        return original(*args, **options)

    with intercept_calls(count):
        change()
    return counts


def run_in_child(act: Act, change: Callable[[], object]) -> bool:
    """Make a change in a child process with `act`; return False if it was killed. Fail if the change raised."""
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in {KILLED, DONE}, f"the child ended with {code}"
        return code == DONE
    try:
        with intercept_calls(act):
            change()
    finally:
        if sys.exc_info()[0] is not None:
            sys.excepthook(*sys.exc_info())
        os._exit(DONE if sys.exc_info()[0] is None else 1)


def kill_at(call: int, *, half: bool) -> Act:
    """Return an act that kills the process before its `call`-th call; with `half`, in the middle of a write."""

    def act(number: int, name: str, original: Any, args: Any, options: Any) -> Any:
        if number == call:
            if half and name == "write":
                original(args[0], args[1][: len(args[1]) // 2])
            os._exit(KILLED)
        return original(*args, **options)

    return act

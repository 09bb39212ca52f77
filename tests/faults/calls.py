"""Every file-system call of a change, as a place where something can happen to it."""

from __future__ import annotations

import fcntl
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from docid.store.backends.local.directory import Directory

NAMES = [
    "access",
    "close",
    "fstat",
    "fsync",
    "listdir",
    "lstat",
    "mkdir",
    "open",
    "read",
    "rename",
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
def watched(act: Act) -> Iterator[None]:
    """Let `act(number, name, original, args, options)` stand for every call of a file system, counted from 1."""
    number = 0
    depth = 0

    def stand_in(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal number, depth
            if depth:
                return original(*args, **options)  # what `act` itself does
            number += 1
            depth += 1
            try:
                return act(number, name, original, args, options)
            finally:
                depth -= 1

        return call

    originals = {name: getattr(os, name) for name in NAMES}
    flock, sync_all = fcntl.flock, Directory.sync_all
    try:
        for name, original in originals.items():
            setattr(os, name, stand_in(name, original))
        fcntl.flock = stand_in("flock", flock)
        Directory.sync_all = stand_in("syncfs", sync_all)  # type: ignore[method-assign]
        yield
    finally:
        for name, original in originals.items():
            setattr(os, name, original)
        fcntl.flock = flock
        Directory.sync_all = sync_all  # type: ignore[method-assign]


def count_of(change: Callable[[], object]) -> Counter[str]:
    """Do a change and return how many calls of each name it makes."""
    counts: Counter[str] = Counter()

    def count(number: int, name: str, original: Any, args: Any, options: Any) -> Any:
        counts[name] += 1
        return original(*args, **options)

    with watched(count):
        change()
    return counts


def in_child(act: Act, change: Callable[[], object]) -> bool:
    """Do a change in a child process, watched; return whether it came to its end.

    Where it was not killed, an error in it is an error here.
    """
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in {KILLED, DONE}, f"the child ended with {code}"
        return code == DONE
    try:
        with watched(act):
            change()
    finally:
        if sys.exc_info()[0] is not None:
            sys.excepthook(*sys.exc_info())
        os._exit(DONE if sys.exc_info()[0] is None else 1)


def dies_at(call: int, *, half: bool) -> Act:
    """Return what kills the process before its `call`-th call, or with `half` in the middle of that, a write."""

    def act(number: int, name: str, original: Any, args: Any, options: Any) -> Any:
        if number == call:
            if half and name == "write":
                original(args[0], args[1][: len(args[1]) // 2])
            os._exit(KILLED)
        return original(*args, **options)

    return act

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LONG = os.environ.get("DOCID_FAULTS") == "long"
"""Whether this is the long run, `nox -s faults`."""

REPORT: list[str] = []
"""The counts that the long run prints at its end."""


@contextlib.contextmanager
def _one_process_at_a_time() -> Iterator[None]:
    """Hold a lock that all processes of a test run share."""
    fd = os.open(tempfile.gettempdir(), os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def allow_reading(directory: Path) -> Iterator[None]:
    """Let every user read a directory and its contents, but not write them, whatever the umask was.

    The parent directories get their modes back afterwards. Parallel test processes share them, so one process at a
    time changes them.
    """
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    with _one_process_at_a_time():
        modes = {path: path.stat().st_mode for path in directory.parents}
        closed = {path: mode for path, mode in modes.items() if mode & 0o055 != 0o055}
        for path, mode in closed.items():
            path.chmod(mode | 0o055)
        try:
            yield
        finally:
            for path, mode in closed.items():
                path.chmod(mode)


class Tally:
    """Counts events, and faults. The count of each of `faults` must stay 0."""

    def __init__(self, title: str, *faults: str) -> None:
        self.title = title
        self.counts: dict[str, Any] = {}
        self.faults = dict.fromkeys(faults, 0)
        self.details: list[str] = []

    def count(self, name: str, number: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + number

    def check(self, fault: str, fine: object, detail: object = "") -> None:
        """Count a fault unless `fine` is true."""
        self.faults[fault] += not fine
        if not fine:
            self.details.append(f"{fault}: {detail}")

    def close(self) -> None:
        """Report the counts; fail if there was a fault."""
        counts = {**self.counts, **self.faults}
        REPORT.append(
            f"{self.title}: " + ", ".join(f"{_format_number(number)} {name}" for name, number in counts.items())
        )
        assert not any(self.faults.values()), f"{self.faults}, {self.details[:5]}"


def _format_number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"

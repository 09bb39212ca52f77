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
"""What was counted, for the end of the run."""


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
def open_to_everybody(directory: Path) -> Iterator[None]:
    """Let everybody come to a directory and read what is in it, and nobody else write it, whatever the umask was.

    The directories above it, which may be anybody's, get their modes back. Parallel test processes share these
    directories, so that each waits for the others.
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
    """Counts what happened, and what must not happen: each of `faults` is a count that has to stay 0."""

    def __init__(self, what: str, *faults: str) -> None:
        self.what = what
        self.counts: dict[str, Any] = {}
        self.faults = dict.fromkeys(faults, 0)
        self.details: list[str] = []

    def count(self, name: str, number: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + number

    def check(self, fault: str, fine: object, detail: object = "") -> None:
        """Count a fault where something is not fine."""
        self.faults[fault] += not fine
        if not fine:
            self.details.append(f"{fault}: {detail}")

    def close(self) -> None:
        """Report, and fail where there was a fault."""
        counts = {**self.counts, **self.faults}
        REPORT.append(f"{self.what}: " + ", ".join(f"{_shown(number)} {name}" for name, number in counts.items()))
        assert not any(self.faults.values()), f"{self.faults}, {self.details[:5]}"


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"

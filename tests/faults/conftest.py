"""Faults: processes that are killed, power that is cut, calls that fail, disks that are full, many at once.

Each has a short form, in the tests, and a long one, `nox -s faults`, which prints what it counted.
"""

from __future__ import annotations

from typing import Any

from tests.faults import LONG, REPORT


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if LONG:
        terminalreporter.section("faults: what was counted")
        for line in REPORT:
            terminalreporter.write_line(line)

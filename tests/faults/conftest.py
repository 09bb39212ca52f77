"""Faults: killed processes, power cuts, failing calls, full disks and races.

pytest runs a short form of each. `nox -s faults` runs the long form and prints its counts.
"""

from __future__ import annotations

from typing import Any

from tests.faults import LONG, REPORT


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if LONG:
        terminalreporter.section("faults: counts")
        for line in REPORT:
            terminalreporter.write_line(line)

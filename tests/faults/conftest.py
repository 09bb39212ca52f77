"""Faults: processes that are killed, power that is cut, calls that fail, disks that are full, many at once.

Each has a short form, in the tests, and a long one, `nox -s faults`, which prints what it counted.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

COUNTED: list[tuple[str, dict[str, Any]]] = []


@pytest.fixture(scope="session")
def long() -> bool:
    """Whether this is the long run."""
    return os.environ.get("DOCID_FAULTS") == "long"


@pytest.fixture
def counted(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Take what a test counted, for the end of the run."""
    return lambda what, **counts: COUNTED.append((what, counts))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not COUNTED or os.environ.get("DOCID_FAULTS") != "long":
        return
    terminalreporter.section("faults: what was counted")
    for what, counts in COUNTED:
        text = ", ".join(f"{_shown(value)} {name.replace('_', ' ')}" for name, value in counts.items())
        terminalreporter.write_line(f"{what}: {text}")


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}" if isinstance(value, float) else str(value)

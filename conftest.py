"""Pytest configuration: integration tests, and tests of the documentation.

Every code block in the documentation and every docstring example is a test.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from doctest import ELLIPSIS
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

if TYPE_CHECKING:
    from collections.abc import Iterator

# Files and fixtures that need a package outside the dependency group `tests`. Their tests get the marker `integration`.
# pytest does not import a file whose package is not installed.
FILES = {
    "tests/test_browser*.py": "playwright",
    "tests/dagster": "dagster",
    "tests/dagster/*.py": "dagster",
    "tests/test_dagster*.py": "dagster",
    "docs/dagster.md": "dagster",
    "src/docid/integrations/dagster/*.py": "dagster",
}
FIXTURES = {"s3": "moto"}

# Pages whose code runs in tests/test_embedding.py, tests/test_objects_page.py and tests/test_running_page.py.
ELSEWHERE = ["*/prefect.md", "*/snakemake.md", "*/airflow.md", "*/objects.md", "*/running.md"]


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


collect_ignore_glob = [pattern for pattern, package in FILES.items() if not _is_installed(package)]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark integration tests, and skip those whose package is not installed."""
    needed = [package for pattern, package in FILES.items() if item.path.match(pattern)]
    needed += [FIXTURES[name] for name in getattr(item, "fixturenames", ()) if name in FIXTURES]
    for package in needed:
        item.add_marker(pytest.mark.integration(package))
    for mark in list(item.iter_markers("integration")):
        [package] = mark.args
        item.add_marker(pytest.mark.skipif(not _is_installed(package), reason=f"{package} is not installed"))


@pytest.fixture(scope="session", autouse=True)
def own_directories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep temporary files and rescue files in pytest's own directory, which it deletes when all tests have passed."""
    temporary = tmp_path_factory.mktemp("tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        patch.setattr(tempfile, "tempdir", str(temporary))
        patch.setenv("DOCID_RESCUE_DIR", str(tmp_path_factory.getbasetemp() / "rescued"))
        yield


def _enter_directory(namespace: dict[str, Any]) -> None:
    """Enter a temporary directory, which all code blocks of a page share."""
    namespace["_previous"] = Path.cwd()
    namespace["_directory"] = tempfile.TemporaryDirectory()
    os.chdir(namespace["_directory"].name)


def _leave_directory(namespace: dict[str, Any]) -> None:
    os.chdir(namespace["_previous"])
    namespace["_directory"].cleanup()


pytest_collect_file = (
    Sybil(
        parsers=[PythonCodeBlockParser()],
        patterns=["*.md"],
        excludes=ELSEWHERE,
        setup=_enter_directory,
        teardown=_leave_directory,
    )
    + Sybil(
        parsers=[DocTestParser(ELLIPSIS)],
        patterns=["*.py"],
        document_types={".py": PythonDocStringDocument},
    )
).pytest()

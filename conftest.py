"""Which tests need more than the core, and how the documentation is tested.

Every code block of the documentation, and every example in a docstring, is a test.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from doctest import ELLIPSIS
from pathlib import Path
from typing import Any

import pytest
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

# The files and fixtures that need a package which the dependency group `tests` does not have. Their tests have the
# marker `integration`, as if each had it itself. pytest does not import a file whose package is not installed.
FILES = {
    "tests/test_browser*.py": "playwright",
    "tests/dagster": "dagster",
    "tests/dagster/*.py": "dagster",
    "tests/test_dagster*.py": "dagster",
    "docs/dagster.md": "dagster",
    "src/docid/integrations/dagster/*.py": "dagster",
}
FIXTURES = {"s3": "moto"}

# Pages that other tests run: tests/test_embedding.py and tests/test_objects_page.py.
ELSEWHERE = ["*/prefect.md", "*/snakemake.md", "*/airflow.md", "*/objects.md"]


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


collect_ignore_glob = [pattern for pattern, package in FILES.items() if not _is_installed(package)]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what needs more than the core, and skip it where its package is not installed."""
    needed = [package for pattern, package in FILES.items() if item.path.match(pattern)]
    needed += [FIXTURES[name] for name in getattr(item, "fixturenames", ()) if name in FIXTURES]
    for package in needed:
        item.add_marker(pytest.mark.integration(package))
    for mark in list(item.iter_markers("integration")):
        [package] = mark.args
        item.add_marker(pytest.mark.skipif(not _is_installed(package), reason=f"{package} is not installed"))


def _run_in_its_own_directory(namespace: dict[str, Any]) -> None:
    """The blocks of one page share their names and a directory."""
    namespace["_left"] = Path.cwd()
    namespace["_directory"] = tempfile.TemporaryDirectory()
    os.chdir(namespace["_directory"].name)


def _leave(namespace: dict[str, Any]) -> None:
    os.chdir(namespace["_left"])
    namespace["_directory"].cleanup()


pytest_collect_file = (
    Sybil(
        parsers=[PythonCodeBlockParser()],
        patterns=["*.md"],
        excludes=ELSEWHERE,
        setup=_run_in_its_own_directory,
        teardown=_leave,
    )
    + Sybil(
        parsers=[DocTestParser(ELLIPSIS)],
        patterns=["*.py"],
        document_types={".py": PythonDocStringDocument},
    )
).pytest()

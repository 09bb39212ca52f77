"""Every code block of the documentation, and every example in a docstring, is a test."""

from __future__ import annotations

import os
import tempfile
from doctest import ELLIPSIS
from pathlib import Path
from typing import Any

from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

# What others run, not Python alone: tests/test_embedding.py; what needs a server: tests/test_objects_page.py.
ELSEWHERE = ["*/prefect.md", "*/snakemake.md", "*/airflow.md", "*/objects.md"]


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

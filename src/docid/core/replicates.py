"""Replicates: the salts that number the documents of one task. This module does no I/O.

A document of a stage has one number for each stage from the root to its own: which replicate of its task it is, and
which ones its ancestors are. The salt of a row is this path, joined by ".", without the 1s at its end.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docid.core.stages import Stages

Path = tuple[int, ...]
"""The numbers of a document's ancestors, the root first, and its own number."""

_PATH = re.compile(r"(?:[1-9][0-9]{0,8}\.)*(?!1\Z)[1-9][0-9]{0,8}\Z")


def parse_path(salt: str | None, depth: int) -> Path | None:
    """Return the `depth` numbers of a salt; None if it is not a path of replicates.

    Example:
        >>> parse_path(None, 2), parse_path("2", 2), parse_path("1.2", 2), parse_path("2.1", 2), parse_path("1.1.2", 2)
        ((1, 1), (2, 1), (1, 2), None, None)
    """
    if salt is None:
        return (1,) * depth
    if not _PATH.match(salt):
        return None
    numbers = tuple(map(int, salt.split(".")))
    return numbers + (1,) * (depth - len(numbers)) if len(numbers) <= depth else None


def format_path(path: Path) -> str | None:
    """Return the numbers of a path as a salt: without the 1s at its end; None if all are 1.

    Example:
        >>> format_path((1, 1)), format_path((2, 1)), format_path((1, 2))
        (None, '2', '1.2')
    """
    end = max((at for at, number in enumerate(path, 1) if number != 1), default=0)
    return ".".join(map(str, path[:end])) or None


def find_depth(stage: str, parent_stage: str | None, stages: Stages) -> int | None:
    """Return the number of stages from the root to a stage; None if `stages` has no such stage with this parent."""
    if stage not in stages or stages.parent_of(stage) != parent_stage:
        return None
    return len(stages.ancestors_of(stage)) + 1

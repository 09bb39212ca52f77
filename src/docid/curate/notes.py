"""What is said of things that were left out."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Note"]


class Note(NamedTuple):
    """Something that was left out, or chosen among several, and why.

    Attributes:
        kind: what kind of thing it is, for programs.
        where: the row of a table, or the document.
        task_id: its task, where that is known.
        message: what it is, and what was done about it.
        number: how many things it stands for.
    """

    kind: str
    where: str
    task_id: str | None
    message: str
    number: int = 1

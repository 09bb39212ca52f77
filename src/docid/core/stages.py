"""Which stage of a pipeline comes from which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import field, frozen

from docid.core.ids import check_stage, plain
from docid.errors import InvalidName

if TYPE_CHECKING:
    from collections.abc import Iterator


def _check_parents(parents: Mapping[str, str | None]) -> dict[str, str | None]:
    if not isinstance(parents, Mapping):
        raise TypeError(
            f"stages: expected a mapping of stage to parent (or Stages.chain), got {type(parents).__name__}"
        )
    if not parents:
        raise ValueError("stages: expected at least one stage")
    declared: dict[str, str | None] = {}
    for stage, parent in parents.items():
        stage = check_stage(stage)  # noqa: PLW2901 - as plain text
        if parent is not None and parent not in declared:
            # One rule keeps out unknown parents, a stage that is its own parent, and circles.
            known = ", ".join(declared) or "no parent for the first"
            raise InvalidName(f"the parent of stage {stage!r}", parent, "not declared before it", known)
        declared[stage] = None if parent is None else plain(parent)
    return declared


@frozen
class Stages:
    """The stages of a pipeline, each with the stage that its documents are made from.

    A mapping of stage to parent stage, or to None for a stage whose documents have no parent. A parent is
    declared before its children; iteration gives the stages in that order.

    Raises:
        InvalidName: a name that is no stage name, or a parent that was not declared before (a `ValueError`).

    Example:
        >>> stages = Stages({"outline": None, "chapter": "outline", "review": "chapter", "blurb": "outline"})
        >>> stages.parent_of("blurb")
        'outline'
        >>> stages.children_of("outline")
        ('chapter', 'blurb')
        >>> Stages.chain("draft", "essay", "evaluation") == DEFAULT_STAGES
        True
    """

    _parents: dict[str, str | None] = field(converter=_check_parents, hash=False)

    @classmethod
    def chain(cls, *names: str) -> Stages:
        """Return stages that each come from the one before.

        Raises:
            InvalidName: a name that is no stage name.
            ValueError: a name given twice, or none at all.
        """
        if len(set(names)) != len(names):
            raise ValueError(f"stages: expected each name once, got {', '.join(names)}")
        return cls(dict(zip(names, (None, *names), strict=False)))

    @classmethod
    def parse(cls, text: str) -> Stages:
        """Return the stages of a short text, as the command line takes it.

        Stages stand in order, separated by commas. Each comes from the one before it, unless a colon names
        its parent; nothing behind the colon says that it has none.

        Raises:
            InvalidName: a name that is no stage name, or a parent that was not declared before.
            ValueError: a name given twice, or none at all.

        Example:
            >>> Stages.parse("outline,chapter,blurb:outline,notes:")
            Stages({'outline': None, 'chapter': 'outline', 'blurb': 'outline', 'notes': None})
        """
        parents: dict[str, str | None] = {}
        previous = None
        for item in text.split(","):
            name, colon, parent = (part.strip() for part in item.partition(":"))
            if name in parents:
                raise ValueError(f"stages: expected each name once, got {text}")
            parents[name] = (parent or None) if colon else previous
            previous = name
        return cls(parents)

    def parent_of(self, stage: str) -> str | None:
        """Return the stage that documents of `stage` are made from; None where they have no parent.

        Raises:
            InvalidName: `stage` is none of these stages.
        """
        return self._parents[self.check(stage)]

    def children_of(self, stage: str) -> tuple[str, ...]:
        """Return the stages whose documents are made from documents of `stage`.

        Raises:
            InvalidName: `stage` is none of these stages.
        """
        self.check(stage)
        return tuple(child for child, parent in self._parents.items() if parent == stage)

    def check(self, stage: str) -> str:
        """Return `stage` if it is one of these.

        Raises:
            InvalidName: it is none of them.
            TypeError: it is no `str`.
        """
        if not isinstance(stage, str) or stage not in self._parents:
            check_stage(stage)
            expected = f"one of {', '.join(self._parents)}, or others declared (stages=…, --stages)"
            raise InvalidName("stage", stage, "not a stage of this pipeline", expected)
        return plain(stage)

    def __contains__(self, stage: object) -> bool:
        return stage in self._parents

    def __iter__(self) -> Iterator[str]:
        return iter(self._parents)

    def __len__(self) -> int:
        return len(self._parents)

    def __repr__(self) -> str:
        return f"Stages({self._parents!r})"


def check_stages(stages: Stages) -> Stages:
    """Return `stages`; raise TypeError if they are something else, as a list of names."""
    if not isinstance(stages, Stages):
        raise TypeError(f"stages: expected Stages, as Stages.chain('draft', 'essay'), got {type(stages).__name__}")
    return stages


DEFAULT_STAGES = Stages.chain("draft", "essay", "evaluation")

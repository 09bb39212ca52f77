"""The stages of a pipeline and their parents."""

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
            f"stages: expected a mapping of stage to parent stage (or Stages.chain), got {type(parents).__name__}"
        )
    if not parents:
        raise ValueError("stages: expected at least one stage")
    declared: dict[str, str | None] = {}
    for stage, parent in parents.items():
        stage = check_stage(stage)  # noqa: PLW2901 - a plain str
        if parent is not None and not isinstance(parent, str):
            raise TypeError(f"stage {stage}, parent: expected a str or None, got {type(parent).__name__}")
        if parent is not None and parent not in declared:
            # One rule refuses unknown parents, a stage that is its own parent, and cycles.
            known = f"one of {', '.join(declared)}" if declared else "no parent for the first stage"
            raise InvalidName(f"stage {stage}, parent", parent, f"not declared before {stage}", known)
        declared[stage] = None if parent is None else plain(parent)
    return declared


@frozen
class Stages:
    """The stages of a pipeline, each with its parent stage.

    Takes a mapping of stage to parent stage; None means that documents of the stage have no parent. Declare a
    parent before its children. Iteration follows the order of declaration.

    Raises:
        InvalidName: a name is not a stage name, or a parent is not declared before its child (a `ValueError`).
        ValueError: the mapping is empty.

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
        """Return stages in a chain: the parent of each stage is the one before it.

        Raises:
            InvalidName: a name is not a stage name.
            ValueError: a name appears twice, or you pass no name.
            TypeError: a name is not a `str`.
        """
        if others := [type(name).__name__ for name in names if not isinstance(name, str)]:
            hint = "write Stages.chain(*names) for names in a list"
            raise TypeError(f"stages: expected names, such as Stages.chain('draft'), got {others[0]}; {hint}")
        if len(set(names)) != len(names):
            raise ValueError(f"stages: expected each name once, got {', '.join(names)}")
        return cls(dict(zip(names, (None, *names), strict=False)))

    @classmethod
    def parse(cls, text: str) -> Stages:
        """Parse the text form of stages, as in `--stages`.

        Commas separate the stages. The parent of a stage is the one before it, unless a colon and a name
        follow. A colon without a name means no parent.

        Raises:
            InvalidName: a name is not a stage name, or a parent is not declared before its child.
            ValueError: a name appears twice.
            TypeError: `text` is not a `str`.

        Example:
            >>> Stages.parse("outline,chapter,blurb:outline,notes:")
            Stages({'outline': None, 'chapter': 'outline', 'blurb': 'outline', 'notes': None})
        """
        if not isinstance(text, str):
            raise TypeError(f"stages: expected a str, such as 'draft,essay', got {type(text).__name__}")
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
        """Return the parent stage of `stage`, or None if its documents have no parent.

        Raises:
            InvalidName: `stage` is not one of these stages.
        """
        return self._parents[self.check(stage)]

    def ancestors_of(self, stage: str) -> tuple[str, ...]:
        """Return the stages above `stage`, its parent stage first.

        Raises:
            InvalidName: `stage` is not one of these stages.

        Example:
            >>> DEFAULT_STAGES.ancestors_of("evaluation")
            ('essay', 'draft')
        """
        found: list[str] = []
        above = self.parent_of(stage)
        while above is not None:
            found.append(above)
            above = self._parents[above]
        return tuple(found)

    def children_of(self, stage: str) -> tuple[str, ...]:
        """Return the stages whose parent is `stage`.

        Raises:
            InvalidName: `stage` is not one of these stages.
        """
        self.check(stage)
        return tuple(child for child, parent in self._parents.items() if parent == stage)

    def check(self, stage: str) -> str:
        """Return `stage` if it is one of these stages.

        Raises:
            InvalidName: it is not.
            TypeError: it is not a `str`.
        """
        if not isinstance(stage, str) or stage not in self._parents:
            check_stage(stage)
            expected = f"one of {', '.join(self._parents)}; declare others with stages=… or --stages"
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
    """Return `stages`; raise TypeError unless they are `Stages`."""
    if not isinstance(stages, Stages):
        raise TypeError(f"stages: expected Stages, such as Stages.chain('draft'), got {type(stages).__name__}")
    return stages


DEFAULT_STAGES = Stages.chain("draft", "essay", "evaluation")

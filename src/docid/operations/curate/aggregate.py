"""`aggregate_scores`: one score for each evaluated task, over all replicates of its documents and evaluations."""

import statistics
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple, cast

from docid.operations.curate.scores import (
    Aggregate,
    Score,
    check_aggregate,
    find_score_stage,
    has_score,
    list_origin_columns,
)
from docid.store.docs_store import DocsStore
from docid.tables.values import plain_text


class TaskScore(NamedTuple):
    """The score of a task by one evaluation template and model.

    Attributes:
        parent_task_id: the evaluated task; empty if the store does not know the task of the document.
        parent_doc_id: the evaluated document, if its task is unknown; else empty.
        template_id, model_id: those of the evaluations.
        score: the aggregate of their scores; None if no evaluation counts.
        documents: the number of evaluated documents.
        evaluations: the number of evaluations that count.
        no_score: the number of evaluations without a number, which do not count.
        changed: the number of evaluations of another version of the document; they count only if you allow it.
        lowest, highest: the range of the scores; None if no evaluation counts.
        deviation: the sample standard deviation of the scores; None for fewer than two.
        origin: as in `Score`; empty text if the documents of the task differ.
    """

    parent_task_id: str
    parent_doc_id: str
    template_id: str
    model_id: str
    score: float | None
    documents: int
    evaluations: int
    no_score: int
    changed: int
    lowest: float | None
    highest: float | None
    deviation: float | None
    origin: Mapping[str, str] = MappingProxyType({})

    def values(self) -> dict[str, str | int | float | None]:
        """Return the values of its row, by column."""
        values = self._asdict()
        return {**{name: values[name] for name in TASK_SCORE_COLUMNS}, **self.origin}

    def texts(self) -> dict[str, str]:
        """Return the cells of its row, by column."""
        return {name: plain_text(value) for name, value in self.values().items()}


TASK_SCORE_COLUMNS = tuple(name for name in TaskScore._fields if name != "origin")
"""The columns of a table of aggregates, without those of the origin."""


def aggregate_columns(store: DocsStore, stage: str | None = None) -> tuple[str, ...]:
    """Return the columns of a table of aggregates: the fields of `TaskScore`, and the origin.

    Raises:
        InvalidName: the store lacks the stage.
    """
    stage = find_score_stage(store, stage)
    return (*TASK_SCORE_COLUMNS, *list_origin_columns(store.stages.ancestors_of(stage)))


def aggregate_scores(
    scores: Iterable[Score], by: Aggregate = "mean", *, allow_changed: bool = False
) -> list[TaskScore]:
    """Combine the scores of each evaluated task, evaluation template and model into one.

    All replicates count alike: of the document, and of its evaluation. Scores without a `parent_doc_id` are left out.
    Memory holds all scores.

    Args:
        scores: scores, from the function `scores`. Those of `read_scores` have no origin.
        by: the function that combines them: `mean`, `median`, `max` or `min`.
        allow_changed: also use scores that were given for another version of the document or of an input.

    Returns:
        The rows, sorted by task, document, template and model.

    Raises:
        ValueError: `by` is unknown.

    Example:
        >>> from docid.curate import Score
        >>> judged = [("v1", "e1", 6.0), ("v2", "e1", 8.0), ("v3", "e2", 10.0)]
        >>> found = [Score(doc_id, of, "", "clarity", "m-1", n, "", "", "t-1", {}) for doc_id, of, n in judged]
        >>> [row] = aggregate_scores(found)
        >>> row.parent_task_id, row.score, row.documents, row.evaluations, row.deviation
        ('t-1', 8.0, 2, 3, 2.0)
    """
    combine = check_aggregate(by, "by")
    groups: dict[tuple[str, str, str, str], _Group] = {}
    for score in scores:
        if score.parent_doc_id:
            document = "" if score.parent_task_id else score.parent_doc_id
            key = score.parent_task_id, document, score.template_id, score.model_id
            groups.setdefault(key, _Group()).add(score, allow_changed=allow_changed)
    rows = []
    for key, group in sorted(groups.items(), key=lambda item: item[0]):
        numbers = group.numbers
        rows.append(
            TaskScore(
                *key,
                score=combine(numbers) if numbers else None,
                documents=len(group.documents),
                evaluations=len(numbers),
                no_score=group.no_score,
                changed=group.changed,
                lowest=min(numbers, default=None),
                highest=max(numbers, default=None),
                deviation=statistics.stdev(numbers) if len(numbers) > 1 else None,
                origin={name: found.pop() if len(found) == 1 else "" for name, found in group.origins.items()},
            )
        )
    return rows


class _Group:
    """The scores of one task, template and model."""

    def __init__(self) -> None:
        self.numbers: list[float] = []
        self.documents: set[str] = set()
        self.no_score = 0
        self.changed = 0
        self.origins: dict[str, set[str]] = {}

    def add(self, score: Score, *, allow_changed: bool) -> None:
        """Add a score."""
        for name, text in score.origin.items():
            self.origins.setdefault(name, set()).update([text] if text else [])
        self.documents.add(score.parent_doc_id)
        if not has_score(score):
            self.no_score += 1
            return
        self.changed += bool(score.changed)
        if allow_changed or not score.changed:
            self.numbers.append(cast("float", score.score))

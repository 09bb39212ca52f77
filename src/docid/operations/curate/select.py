"""`select`: choose the documents with the best scores, as task rows."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import TYPE_CHECKING, Literal, NamedTuple

import attrs

from docid.core.ids import refuse_text
from docid.errors import DocidError
from docid.operations.curate.notes import Note
from docid.operations.curate.rows import Builder, check_row_type
from docid.operations.curate.scores import scored_by
from docid.store.docs_store import check_store
from docid.tables.rows import TaskRow, plain_text, schema_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from docid.operations.curate.scores import Score
    from docid.store.docs_store import DocsStore

__all__ = ["Pick", "Selection", "select"]


class Pick(NamedTuple):
    """A document that was selected.

    Attributes:
        doc_id, task_id: the document.
        score: its score, of all its evaluations.
        evaluations: how many have a score.
    """

    doc_id: str
    task_id: str
    score: float
    evaluations: int


class Selection(NamedTuple):
    """What `select` chose.

    Attributes:
        stage: the stage of the documents.
        picks: the best, the best first.
        rows: their rows, in the same order.
        row_type: the class of the rows.
        evaluations: how many scores were read, of any kind.
        scored: how many documents have a score.
        notes: what was left out. `unknown-template`: a template that no score is of. `no-score`: evaluations without a
            number. `other-template`: of other templates. `no-parent`: that do not say what they are of. `below`:
            documents that are not among the best. `gone`: documents that are not in the store. `unusable`: documents
            that cannot be read, or made a row of. `same-task`: two of the best are of one task. `unsaid`: columns that
            the documents do not say. Evaluations are counted, documents given one by one.
    """

    stage: str
    picks: tuple[Pick, ...]
    rows: tuple[TaskRow, ...]
    row_type: type[TaskRow]
    evaluations: int
    scored: int
    notes: tuple[Note, ...]


_AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "max": max,
    "mean": statistics.fmean,
    "median": statistics.median,
}
_LEFT_OUT = {
    "no-score": "without a score",
    "no-parent": "that do not say what they are of",
    "other-template": "of other templates",
}
_SHOWN = 20  # templates in a message
# Columns of an older system's tables, and the field that fills them; docid does not use them.
_LEGACY = {"essay": ("essay_doc_id", "doc_id"), "evaluation": ("document_id", "essay_task_id")}


def select(
    scores: Iterable[Score],
    store: DocsStore,
    *,
    top: int,
    templates: Collection[str] = (),
    aggregate: Literal["max", "mean", "median"] = "max",
    stage: str | None = None,
    row_type: type[TaskRow] | None = None,
) -> Selection:
    """Choose the documents with the best scores, and return their task rows with their own ids: a run skips them.

    The scores are gone through once. Ties are broken by doc id. A document that is not in the store, or cannot be
    used, is left out, and the next one takes its place.

    Args:
        scores: scores, from the function `scores` or `read_scores`.
        store: where the documents are.
        top: how many.
        templates: count the scores of these evaluation templates only; all if empty.
        aggregate: how a document's score comes from those of its evaluations.
        stage: the stage of the documents; if not given, the one that the last of the store's comes from.
        row_type: the class of the rows; that of the stage if not given.

    Raises:
        ValueError: `top` below 1, another aggregate, a row type of another stage, no stage that is scored.
        InvalidName: none of the store's stages.

    Example:
        >>> from docid import DocsStore, Document
        >>> from docid.backends import MemoryBackend
        >>> from docid.curate import Score
        >>> store = DocsStore(MemoryBackend())
        >>> drafts = [Document(stage="draft", doc_id=f"d{n}", task_id=f"t-{n}", raw_text="") for n in range(3)]
        >>> _ = store.write_many(drafts)
        >>> judged = [Score(f"v{n}", f"d{n}", "", "", "", n / 2, "", "", "", {}) for n in range(3)]
        >>> chosen = select(judged, store, top=2, stage="draft")
        >>> [(row.doc_id, row.task_id) for row in chosen.rows], [note.kind for note in chosen.notes][:1]
        ([('d2', 't-2'), ('d1', 't-1')], ['below'])
    """
    if type(top) is not int or top < 1:
        raise ValueError(f"top: expected a number of documents, 1 or more, got {top!r}")
    if aggregate not in _AGGREGATES:
        raise ValueError(f"aggregate: expected one of {', '.join(_AGGREGATES)}, got {aggregate!r}")
    refuse_text(templates, "templates", "template ids")
    check_store(store)
    stage = _find_scored_stage(store) if stage is None else store.stages.check(stage)
    row_type = check_row_type(store, stage, row_type)
    found = _group_scores(scores, frozenset(templates))
    ranked = [Pick(doc_id, "", _AGGREGATES[aggregate](each), len(each)) for doc_id, each in found.scores.items()]
    ranked.sort(key=lambda pick: (-pick.score, pick.doc_id))
    notes = _note_left_out(found, templates)
    chosen = _pick(store, row_type, ranked, top, notes)
    picks, rows = tuple(pick for pick, _ in chosen), tuple(_add_legacy_column(row) for _, row in chosen)
    return Selection(stage, picks, rows, row_type, found.evaluations, len(ranked), tuple(notes))


class _Found(NamedTuple):
    """The scores of each document; how many evaluations were left out, and why; of which templates there are any."""

    scores: dict[str, list[float]]
    left_out: Counter[str]
    templates: set[str]
    evaluations: int


def _group_scores(scores: Iterable[Score], templates: frozenset[str]) -> _Found:
    known: set[str] = set()
    of_each: dict[str, list[float]] = {}
    left_out: Counter[str] = Counter()
    evaluations = 0
    for score in scores:
        evaluations += 1
        known.add(score.template_id)
        if templates and score.template_id not in templates:
            left_out["other-template"] += 1
        elif score.score is None:
            left_out["no-score"] += 1
        elif not score.parent_doc_id:
            left_out["no-parent"] += 1
        else:
            of_each.setdefault(score.parent_doc_id, []).append(score.score)
    return _Found(of_each, left_out, known, evaluations)


def _note_left_out(found: _Found, templates: Collection[str]) -> list[Note]:
    known = ", ".join(sorted(each for each in found.templates if each)[:_SHOWN])
    known = f"the scores are of {known}" if known else "the scores say no template (docid backfill --set template_id)"
    unknown = [f"none is of template {each!r}; {known}" for each in templates if each not in found.templates]
    return [
        *(Note("unknown-template", "evaluations", None, message) for message in unknown),
        *(Note(kind, "evaluations", None, _LEFT_OUT[kind], count) for kind, count in found.left_out.items()),
    ]


def _pick(
    store: DocsStore, row_type: type[TaskRow], ranked: list[Pick], top: int, notes: list[Note]
) -> list[tuple[Pick, TaskRow]]:
    """Return the best documents that have a row, with it; add what was left out to the notes."""
    builder = Builder(store, row_type)
    tasks: dict[str, str] = {}
    chosen: list[tuple[Pick, TaskRow]] = []
    for pick in ranked:
        where = f"{row_type.stage}/{pick.doc_id}"
        if len(chosen) == top:
            is_tie = pick.score == chosen[-1][0].score
            tie = "; the last of them has the same, and comes first by doc id" if is_tie else ""
            below = f"its score {plain_text(pick.score)} is not among the best {top}{tie}"
            notes.append(Note("below", where, None, below))
            continue
        try:
            row = builder.build(store.open(row_type.stage, pick.doc_id))
        except (DocidError, ValueError, OSError) as error:
            notes.append(Note.from_error(where, error))
            continue
        if (other := tasks.setdefault(row.task_id, where)) != where:
            message = f"of one task with {other}: what comes from them is told apart by parent_doc_id alone"
            notes.append(Note("same-task", where, row.task_id, message))
        chosen.append((pick._replace(task_id=row.task_id), row))
    notes += builder.note_unsaid()
    return chosen


def _find_scored_stage(store: DocsStore) -> str:
    last = scored_by(store, None)
    parent = store.stages.parent_of(last)
    if parent is None:
        raise ValueError(f"stage: stage {last!r} comes from none; expected the stage of the documents that were scored")
    return parent


def _add_legacy_column(row: TaskRow) -> TaskRow:
    column, source = _LEGACY.get(row.stage, ("", ""))
    if not column or column in schema_of(type(row)).names:
        return row
    return attrs.evolve(row, extra={**row.extra, column: row.cell(source)})

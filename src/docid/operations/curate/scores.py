"""`scores`: read the numbers that evaluations gave, and keep them in a table."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from docid._text import shown
from docid.core.document import PART_FILES, timestamp
from docid.core.ids import is_doc_id, is_missing
from docid.errors import StoreUnavailable, TaskTableError, UnreadableDocument
from docid.operations.curate.notes import read_time
from docid.operations.curate.rows import Ancestors
from docid.store.docs_store import check_store
from docid.store.stored import StoredDocument
from docid.tables.csvfile import Faults, Shape, TableWriter, read_columns
from docid.tables.rows import plain_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from docid.store.docs_store import DocsStore

__all__ = ["Score", "read_scores", "score_columns", "scores", "write_scores"]

_PARSED_FILE = PART_FILES["parsed"]


class Score(NamedTuple):
    """The result of an evaluation.

    Attributes:
        doc_id, task_id: the evaluation.
        parent_doc_id: the document that was evaluated.
        parent_task_id: the task of that document; empty if it is not in the store.
        template_id, model_id: these keys of its metadata, as text; empty if it has none.
        score: its parsed text as a number; None if that is not a number.
        error: why it has no score; empty if it has one.
        created_at: when it was made, ISO 8601, UTC; empty if an older system's record has no time.
        ancestors: the doc ids of the ancestors of its parent, by stage, the nearest first; empty text if one is not
            in the store.
    """

    doc_id: str
    parent_doc_id: str
    task_id: str
    template_id: str
    model_id: str
    score: float | None
    error: str
    created_at: str
    parent_task_id: str
    ancestors: dict[str, str]

    def texts(self) -> dict[str, str]:
        """Return it as the cells of a row, by column."""
        texts = {key: value for key, value in self._asdict().items() if isinstance(value, str)}
        texts["score"] = "" if self.score is None else plain_text(self.score)
        return {**texts, **{f"{stage}_doc_id": doc_id for stage, doc_id in self.ancestors.items()}}


def score_columns(store: DocsStore, stage: str | None = None) -> tuple[str, ...]:
    """Return the columns of a table of scores: the fields of `Score`, and `<stage>_doc_id` for each of the ancestors.

    Raises:
        InvalidName: none of the store's stages.
        ValueError: a stage whose column would be named as that of the parent.
    """
    further = _stages_above_parent(store, scored_by(store, stage))
    if "parent" in further:
        raise ValueError("stages: 'parent' names a column parent_doc_id, which is the parent's; expected another name")
    return (*Score._fields[:-1], *(f"{each}_doc_id" for each in further))


def scores(store: DocsStore, stage: str | None = None) -> Iterator[Score]:
    """Read the scores of a stage: the parsed text of each of its documents, as a number.

    A stream, sorted by doc id: the names of the stage are held, its documents are not. A document without a number,
    or that cannot be read, has the reason in `error`. Documents that vanish during the run are left out.

    Args:
        store: where the documents are.
        stage: their stage; the last of the store's if not given.

    Raises:
        InvalidName: none of the store's stages.
        OSError: the stage cannot be listed.
        TypeError: no store.

    Example:
        >>> from docid import DocsStore, Document, Stages
        >>> from docid.backends import MemoryBackend
        >>> store = DocsStore(MemoryBackend(), stages=Stages.chain("essay", "evaluation"))
        >>> _ = store.write(Document(stage="essay", doc_id="e1", task_id="t-1", raw_text="Once."))
        >>> for number, parsed in enumerate(["7.5", "good", None]):
        ...     judged = {"task_id": f"v-{number}", "parent_doc_id": "e1", "raw_text": "…", "parsed_text": parsed}
        ...     _ = store.write(Document(stage="evaluation", doc_id=f"v{number}", **judged))
        >>> [(each.doc_id, each.score, each.error) for each in scores(store)]
        [('v0', 7.5, ''), ('v1', None, "parsed text is not a number: 'good'"), ('v2', None, 'no parsed text')]
    """
    stage = scored_by(store, stage)
    ancestors = Ancestors(store, frozenset({"template_id", "model_id"}))
    further = _stages_above_parent(store, stage)
    found = store.backend.each(
        lambda doc_id: _read_score(store, stage, doc_id, ancestors, further), sorted(set(store.ids(stage)))
    )
    return (score for score in found if score is not None)


def _read_score(store: DocsStore, stage: str, doc_id: str, ancestors: Ancestors, further: list[str]) -> Score | None:
    """Return the score of one document; None if it has vanished."""
    try:
        document = StoredDocument.load(store.backend, stage, doc_id, (_PARSED_FILE,))
        if document is None:
            return None
        parsed = document.parsed_text
    except StoreUnavailable:
        raise  # a document whose store did not answer is neither missing nor damaged
    except (UnreadableDocument, OSError) as problem:
        return Score(doc_id, "", "", "", "", None, f"unreadable: {problem}", "", "", dict.fromkeys(further, ""))
    score, error = _parse_number(parsed)
    own, *others = ancestors.chain_of(document)
    found = {each.stage: each.doc_id for each in others[1:]}
    if others and others[-1].parent_doc_id is not None and len(others) <= len(further):
        # The last ancestor names its parent, which is not in the store; the name is known.
        found[further[len(others) - 1]] = others[-1].parent_doc_id
    return Score(
        doc_id,
        own.parent_doc_id or "",
        own.task_id or "",
        own.metadata.get("template_id", ""),
        own.metadata.get("model_id", ""),
        score,
        error,
        "" if (made := read_time(document)) is None else timestamp(made),
        (others[0].task_id or "") if others else "",
        {each: found.get(each, "") for each in further},
    )


def scored_by(store: DocsStore, stage: str | None) -> str:
    """Return the stage that scores: the one that is given, or else the last of the store's."""
    return list(check_store(store).stages)[-1] if stage is None else store.stages.check(stage)


def _stages_above_parent(store: DocsStore, stage: str) -> list[str]:
    found: list[str] = []
    above = store.stages.parent_of(stage)
    while above is not None:
        found.append(above)
        above = store.stages.parent_of(above)
    return found[1:]


_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")

_LARGEST = 1e300  # larger numbers cannot be added up


def _parse_number(text: str | None) -> tuple[float | None, str]:
    """Return a text, stripped of blanks, as a number; or None and the reason."""
    if text is None:
        return None, "no parsed text"
    stripped = text.strip()
    if not stripped:
        return None, "parsed text is empty"
    if not _NUMBER.fullmatch(stripped):
        return None, f"parsed text is not a number: {shown(stripped)}"
    number = float(stripped)
    return (number, "") if abs(number) < _LARGEST else (None, f"parsed text is too large: {shown(stripped)}")


def write_scores(path: str | os.PathLike[str], scores: Iterable[Score], columns: tuple[str, ...]) -> int:
    """Write scores as a CSV table, in place of what is at `path`, atomically; gzip where the name ends in `.gz`.

    Args:
        path: the table.
        scores: the scores, from the function `scores`.
        columns: its columns, from `score_columns`.

    Returns:
        How many there are.

    Raises:
        OSError: the file cannot be written.
    """
    with TableWriter(os.fspath(path), Shape()) as writer:
        writer.start(columns)
        for number, score in enumerate(scores, 2):
            writer.add(number, score.texts())
        writer.commit()
        return writer.count


def read_scores(path: str | os.PathLike[str]) -> Iterator[Score]:
    """Read a table of scores as a stream: at least its columns `parent_doc_id` and `score`.

    Other columns of `write_scores` are read too, except for `ancestors`.

    Raises:
        TaskTableError: a column is missing; at the end, for all cells that are not a doc id or not a number.
        OSError: the file cannot be read.
    """
    file = os.fspath(path)
    return _parse_rows(file, read_columns(file, ("parent_doc_id", "score"), _TEXTS))


_TEXTS = ("doc_id", "task_id", "template_id", "model_id", "error", "created_at", "parent_task_id")


def _parse_rows(file: str, rows: Iterator[tuple[int, tuple[str, ...]]]) -> Iterator[Score]:
    faults = Faults(file)
    try:
        for number, (cell, text, *others) in rows:
            score, parent = None, "" if is_missing(cell) else cell
            if parent and not is_doc_id(parent):
                wrong = "not a doc id; expected that of the document that was scored"
                faults.add(number, "parent_doc_id", parent, wrong)
            if not is_missing(text):
                score, wrong = _parse_number(text)
                if wrong:
                    faults.add(number, "score", text, "expected a number, or nothing")
            if faults.count == 0:
                yield Score(parent_doc_id=parent, score=score, ancestors={}, **dict(zip(_TEXTS, others, strict=True)))
    except TaskTableError as error:
        faults.take_over(error)
    faults.raise_any()

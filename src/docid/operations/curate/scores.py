"""`scores` and `select`: read the scores of evaluations, and select the best documents."""

import math
import os
import re
import statistics
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, cast

import attrs
import orjson

from docid._files import raise_time_limit
from docid._text import quote
from docid.core.document import PART_FILES, timestamp
from docid.core.ids import is_doc_id, is_missing, refuse_text
from docid.errors import StoreUnavailable, TaskTableError, UnreadableDocument
from docid.operations.curate.replay import Ancestors, Note, RowBuilder, read_texts, read_time
from docid.store.docs_store import DocsStore, check_store
from docid.store.stored import StoredDocument
from docid.tables.csvfile import Shape, TableWriter, read_columns
from docid.tables.faults import Faults
from docid.tables.rows import TaskRow, schema_of
from docid.tables.values import plain_text


class Score(NamedTuple):
    """The result of an evaluation.

    Attributes:
        doc_id, task_id: the evaluation.
        parent_doc_id: the evaluated document.
        parent_task_id: the task of that document; empty if it is not in the store.
        template_id, model_id: metadata of the evaluation, as text; empty if missing.
        score: the parsed text as a number; None if it is not a number.
        error: the reason for a missing score; empty if there is a score.
        created_at: the creation time, ISO 8601 UTC; empty if an older record has no time.
        ancestors: the doc ids of the ancestors of the evaluated document, by stage, nearest first; empty text for an
            unknown one.
        changed: the documents that were replaced after the evaluation: `parent`, and `input.STAGE/ID` for each input,
            separated by blanks; empty if none was.
        origin: how the evaluated document was made, from the metadata: `combo_id`, and `<stage>_template` and
            `<stage>_model` of the document and each ancestor, nearest first; empty text if unknown.
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
    changed: str = ""
    origin: Mapping[str, str] = MappingProxyType({})

    def texts(self) -> dict[str, str]:
        """Return the cells of its row, by column."""
        texts = {key: value for key, value in self._asdict().items() if isinstance(value, str)}
        texts["score"] = "" if self.score is None else plain_text(self.score)
        return {**texts, **{f"{stage}_doc_id": doc_id for stage, doc_id in self.ancestors.items()}, **self.origin}


def has_score(score: Score) -> bool:
    """Return whether there is a number: not None, and not the NaN of a data frame."""
    return score.score is not None and not math.isnan(score.score)


class ScoreRow(Protocol):
    """A row of a table of scores."""

    def texts(self) -> dict[str, str]:
        """Return the cells of the row, by column."""
        ...


SCORE_COLUMNS = tuple(name for name in Score._fields if name not in {"ancestors", "origin"})
"""The columns of a score table, without those of ancestors."""

OF_AGGREGATES = "no_score"
"""A column that only tables of `aggregate_scores` have."""


def score_columns(store: DocsStore, stage: str | None = None) -> tuple[str, ...]:
    """Return the columns of a score table: the fields of `Score`, `<stage>_doc_id` for each ancestor, and the origin.

    Raises:
        InvalidName: the store lacks the stage.
        ValueError: an ancestor stage is named `parent`, which clashes with the column `parent_doc_id`.
    """
    above = store.stages.ancestors_of(find_score_stage(store, stage))
    further = above[1:]
    if "parent" in further:
        raise ValueError(
            "stages: the stage 'parent' would have the column parent_doc_id, which is taken; expected another name"
        )
    return (*SCORE_COLUMNS, *(f"{each}_doc_id" for each in further), *list_origin_columns(above))


def scores(
    store: DocsStore,
    stage: str | None = None,
    *,
    rows: Iterable[TaskRow] | None = None,
    models: Collection[str] = (),
    pattern: str | None = None,
    key: str | None = None,
) -> Iterator[Score]:
    r"""Read the scores of a stage: the parsed text of each document, as a number.

    Yields scores sorted by doc id; memory holds the doc ids only. If a document is unreadable or has no number, `error`
    has the reason. Documents that vanish during the run are left out.

    Args:
        store: the store with the documents.
        stage: their stage; by default the last stage of the store.
        rows: read only the evaluations that these rows name, or those of the documents that these rows name.
        models: read only the evaluations of these models (`model_id`); empty for all.
        pattern: a regular expression. The score is its last match in the parsed text, or its group 1; a document
            without parsed text is searched in its raw text. `r"SCORE: *([0-9.]+)"`, for example.
        key: a JSON Pointer (RFC 6901) into the text, which must be JSON: `/score`, for example.

    Raises:
        InvalidName: the store lacks the stage.
        ValueError: `pattern` is not a regular expression, `key` is not a JSON Pointer, both are given, or `rows` are of
            another stage than the evaluations or their parents.
        OSError: the stage cannot be listed.
        TypeError: `store` is not a DocsStore.

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
    stage = find_score_stage(store, stage)
    reader = _Reader.of(pattern, key)
    wanted, parents = _find_cohort(store, stage, rows)
    refuse_text(models, "models", "model ids")
    ancestors, above = Ancestors(store), store.stages.ancestors_of(stage)
    doc_ids = sorted(set(store.ids(stage)) if wanted is None else wanted)
    found = store.backend.each(lambda doc_id: _read_score(store, stage, doc_id, reader, ancestors, above), doc_ids)
    return (
        score
        for score in found
        if score is not None
        and (not models or score.model_id in models or score.error.startswith(_UNREADABLE))
        and (parents is None or score.parent_doc_id in parents or score.error.startswith(_UNREADABLE))
    )


def _find_cohort(
    store: DocsStore, stage: str, rows: Iterable[TaskRow] | None
) -> tuple[set[str] | None, set[str] | None]:
    """Return the doc ids of evaluations, or of evaluated documents, that rows name; None for all."""
    if rows is None:
        return None, None
    by_stage: dict[str, set[str]] = {}
    for row in rows:
        by_stage.setdefault(row.stage, set()).add(row.doc_id)
    parent = store.stages.parent_of(stage)
    if others := by_stage.keys() - {stage, parent}:
        expected = f"rows of stage {stage}{f' or {parent}' if parent else ''}"
        raise ValueError(f"rows: of stage {', '.join(sorted(others))}; expected {expected}")
    if len(by_stage) > 1:
        raise ValueError(f"rows: of stages {', '.join(sorted(by_stage))}; expected rows of one stage")
    return by_stage.get(stage, None if by_stage else set()), by_stage.get(parent or "")


class _Reader(NamedTuple):
    """Finds the score in a document: its parsed text as a number, a match of a pattern, or a value in JSON."""

    pattern: re.Pattern[str] | None
    pointer: tuple[str, ...] | None

    @classmethod
    def of(cls, pattern: str | None, key: str | None) -> "_Reader":
        """Return the reader for the arguments of `scores`."""
        if pattern is not None and key is not None:
            raise ValueError("pattern, key: expected only one of them")
        if key is not None and key and not key.startswith("/"):
            raise ValueError(f"key: expected a JSON Pointer such as '/score', got {key!r}")
        try:
            compiled = None if pattern is None else re.compile(pattern)
        except re.error as error:
            raise ValueError(f"pattern: {pattern!r} is not a regular expression: {error}") from None
        steps = None if key is None else tuple(_unescape(step) for step in key.split("/")[1:])
        return cls(compiled, steps)

    @property
    def files(self) -> tuple[str, ...]:
        """The part files that it reads."""
        parsed, raw = PART_FILES["parsed"], PART_FILES["raw"]
        return (parsed,) if self.pattern is None and self.pointer is None else (parsed, raw)

    def read(self, document: StoredDocument) -> tuple[float | None, str]:
        """Return the score and an empty text, or None and the reason."""
        parsed = document.parsed_text
        if self.pattern is None and self.pointer is None:
            return _parse_number(parsed)
        text, part = (document.raw_text, "raw") if parsed is None else (parsed, "parsed")
        if self.pointer is not None:
            return _find_in_json(text, part, self.pointer)
        assert self.pattern is not None  # noqa: S101 - see above
        match = None
        for match in self.pattern.finditer(text):  # noqa: B007 - the last one
            pass
        if match is None:
            return None, f"no match of the pattern in the {part} text"
        return _parse_number(match[1] if self.pattern.groups else match[0], f"match in the {part} text")


def _unescape(step: str) -> str:
    """Return one step of a JSON Pointer (RFC 6901, section 4)."""
    return step.replace("~1", "/").replace("~0", "~")


def _find_in_json(text: str, part: str, pointer: tuple[str, ...]) -> tuple[float | None, str]:
    """Return the number at a JSON Pointer in a text, and an empty text; or None and the reason."""
    try:
        value: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None, f"the {part} text is not JSON"
    for step in pointer:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and _INDEX.fullmatch(step) and int(step) < len(value):
            value = value[int(step)]
        else:
            return None, f"the JSON in the {part} text has no key {quote('/'.join(('', *pointer)))}"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None, f"value of the key is not a number: {quote(value)}"
    return _parse_number(str(value), f"value in the {part} text")


def _read_score(  # noqa: PLR0917 - one caller
    store: DocsStore, stage: str, doc_id: str, reader: _Reader, ancestors: Ancestors, above: Sequence[str]
) -> Score | None:
    """Return the score of one document; None if it vanished."""
    further, origin = above[1:], dict.fromkeys(list_origin_columns(above), "")
    try:
        document = StoredDocument.load(store.backend, stage, doc_id, reader.files)
        if document is None:
            return None
        score, error = reader.read(document)
    except StoreUnavailable:
        raise  # the document is neither missing nor damaged
    except (UnreadableDocument, OSError) as problem:
        raise_time_limit(problem)
        no_ancestors = dict.fromkeys(further, "")
        return Score(doc_id, "", "", "", "", None, f"{_UNREADABLE}{problem}", "", "", no_ancestors, "", origin)
    _, *others = ancestors.chain_of(document)
    found = {each.stage: each.doc_id for each in others[1:]}
    if others and others[-1].parent_doc_id is not None and len(others) <= len(further):
        # The last ancestor names its parent, which is not in the store.
        found[further[len(others) - 1]] = others[-1].parent_doc_id
    texts, made = read_texts(document), read_time(document)
    return Score(
        doc_id,
        document.parent_doc_id or "",
        document.task_id or "",
        texts.get("template_id", ""),
        texts.get("model_id", ""),
        score,
        error,
        "" if made is None else timestamp(made),
        (others[0].task_id or "") if others else "",
        {each: found.get(each, "") for each in further},
        ancestors.find_changed(document),
        origin | _read_origin([document, *others]),
    )


def list_origin_columns(above: Sequence[str]) -> list[str]:
    """Return the columns of the origin of documents with ancestors of these stages."""
    return ["combo_id", *(f"{stage}_{what}" for stage in above for what in ("template", "model"))] if above else []


def _read_origin(chain: list[StoredDocument]) -> dict[str, str]:
    """Return how a document was made: the combination, and the template and model of each ancestor."""
    found: dict[str, str] = {}
    for position, document in enumerate(chain):
        texts = read_texts(document)
        if not position:  # the evaluation
            continue
        if combo := texts.get("combo_id"):
            found.setdefault("combo_id", combo)
        for what in ("template", "model"):
            name = f"{document.stage}_{what}"
            if text := texts.get(name) or texts.get(f"{what}_id"):
                found[name] = text
    return found if len(chain) > 1 else {}


def find_score_stage(store: DocsStore, stage: str | None) -> str:
    """Return the stage of the scores: the given one, or else the last stage of the store."""
    return list(check_store(store).stages)[-1] if stage is None else store.stages.check(stage)


_INDEX = re.compile("0|[1-9][0-9]{0,17}")  # of a list: RFC 6901, section 4
_UNREADABLE = "unreadable: "
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_LARGEST = 1e300  # sums of larger numbers overflow


def _parse_number(text: str | None, what: str = "parsed text") -> tuple[float | None, str]:
    """Parse a text as a number; return it and an empty text, or None and the reason, which says `what` it is."""
    if text is None:
        return None, f"no {what}"
    stripped = text.strip()
    if not stripped:
        return None, f"{what} is empty"
    if not _NUMBER.fullmatch(stripped):
        return None, f"{what} is not a number: {quote(stripped)}"
    number = float(stripped)
    return (number, "") if abs(number) < _LARGEST else (None, f"{what} is too large: {quote(stripped)}")


def write_scores(path: str | os.PathLike[str], scores: Iterable[ScoreRow], columns: tuple[str, ...]) -> int:
    """Write scores as a CSV table, atomically; gzip it if the name ends in `.gz`.

    Args:
        path: the table; an existing file is replaced.
        scores: the scores, from the function `scores` or `aggregate_scores`.
        columns: the columns, from `score_columns` or `aggregate_columns`.

    Returns:
        The number of scores.

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
    """Read a score table as a stream.

    The table needs the columns `parent_doc_id` and `score`; the other columns of `write_scores` are read if present,
    except for those of `ancestors`.

    Raises:
        TaskTableError: a column is missing; or, at the end of the stream, cells are not a doc id or a number, or the
            table is one of aggregates.
        OSError: the file cannot be read.
    """
    file = os.fspath(path)
    texts = ("doc_id", "task_id", "template_id", "model_id", "error", "created_at", "parent_task_id", "changed")
    rows = read_columns(file, ("parent_doc_id", "score"), (*texts, OF_AGGREGATES))

    def parse_rows() -> Iterator[Score]:
        faults = Faults(file)
        try:
            for number, (cell, text, *others, aggregated) in rows:
                if aggregated:
                    wrong = "a table of 'docid scores --aggregate'; expected one with a row for each evaluation"
                    faults.add(1, OF_AGGREGATES, "", f"{wrong}: run 'docid scores' without --aggregate")
                    break
                score, parent = None, "" if is_missing(cell) else cell
                if parent and not is_doc_id(parent):
                    wrong = "not a doc id; expected the doc id of the evaluated document"
                    faults.add(number, "parent_doc_id", parent, wrong)
                if not is_missing(text):
                    score, wrong = _parse_number(text)
                    if wrong:
                        faults.add(number, "score", text, "expected a number or an empty cell")
                if faults.count == 0:
                    more: Any = dict(zip(texts, others, strict=True))
                    yield Score(parent_doc_id=parent, score=score, ancestors={}, **more)
        except TaskTableError as error:
            faults.take_over(error)
        faults.raise_any()

    return parse_rows()


class Pick(NamedTuple):
    """A selected document.

    Attributes:
        doc_id, task_id: the document.
        score: the aggregate of its evaluations.
        evaluations: the number of evaluations with a score.
    """

    doc_id: str
    task_id: str
    score: float
    evaluations: int


class Selection(NamedTuple):
    """The result of `select`.

    Attributes:
        stage: the stage of the documents.
        picks: the selected documents, best first.
        rows: their rows, in the same order.
        row_type: the class of the rows.
        evaluations: the number of scores read.
        scored: the number of documents with a score.
        notes: `no-score`, `other-template`, `other-model`, `no-parent`: the number of evaluations without a number, of
            another template or model, or without a parent. `changed`: a score was given for another version.
            `unknown-template`, `unknown-model`: no score has this one. `below`: a document is not among the best.
            `gone`: it is not in the store. `unusable`: it cannot be read or gives no valid row. `same-task`: it is
            selected along with another document of its task and salt. `unsaid`: a column that documents have no value
            for.
    """

    stage: str
    picks: tuple[Pick, ...]
    rows: tuple[TaskRow, ...]
    row_type: type[TaskRow]
    evaluations: int
    scored: int
    notes: tuple[Note, ...]


Aggregate = Literal["max", "mean", "median", "min"]
"""The name of a function that combines several scores."""

_AGGREGATES: dict[str, Callable[[list[float]], float]]
_AGGREGATES = {"max": max, "mean": statistics.fmean, "median": statistics.median, "min": min}


def check_aggregate(name: str, argument: str) -> Callable[[list[float]], float]:
    """Return the function of this name; raise ValueError for an unknown name."""
    if name not in _AGGREGATES:
        raise ValueError(f"{argument}: expected one of {', '.join(_AGGREGATES)}, got {name!r}")
    return _AGGREGATES[name]


# Columns in the tables of an older system, and the fields that fill them. docid itself does not use them.
_LEGACY = {"essay": ("essay_doc_id", "doc_id"), "evaluation": ("document_id", "essay_task_id")}


def select(
    scores: Iterable[Score],
    store: DocsStore,
    *,
    top: int,
    templates: Collection[str] = (),
    models: Collection[str] = (),
    aggregate: Aggregate = "max",
    allow_changed: bool = False,
    stage: str | None = None,
    row_type: type[TaskRow] | None = None,
) -> Selection:
    """Select the documents with the best scores, and return their task rows.

    The rows keep the ids of the documents, so a run skips them. Ties are broken by doc id. If a document is missing or
    unusable, the next one takes its place. The scores are read once.

    Args:
        scores: scores, from the function `scores` or `read_scores`.
        store: the store with the documents.
        top: the number of documents to select.
        templates, models: use the scores of these evaluation templates and models only; empty for all.
        aggregate: the function that combines the scores of a document.
        allow_changed: also use scores that were given for another version of the document or of an input.
        stage: the stage of the documents; by default the parent of the store's last stage.
        row_type: the class of the rows; by default the one for the stage.

    Raises:
        ValueError: `top` is below 1, `aggregate` is unknown, `row_type` belongs to another stage, or the last stage
            has no parent.
        InvalidName: the store lacks the stage.

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
    combine = check_aggregate(aggregate, "aggregate")
    refuse_text(templates, "templates", "template ids")
    refuse_text(models, "models", "model ids")
    if stage is None:
        last = find_score_stage(store, None)
        stage = store.stages.parent_of(last)
        if stage is None:
            expected = "expected the stage of the evaluated documents"
            raise ValueError(f"stage: the last stage {last!r} has no parent; {expected}")
    builder = RowBuilder(store, stage, row_type)
    wanted = {"template": templates, "model": models}
    found, evaluations = _group_scores(scores, wanted, builder.notes, allow_changed=allow_changed)
    ranked = [Pick(doc_id, "", combine(each), len(each)) for doc_id, each in found.items()]
    ranked.sort(key=lambda pick: (-pick.score, pick.doc_id))
    chosen = _pick(builder, ranked, top)
    picks, rows = tuple(pick for pick, _ in chosen), tuple(row for _, row in chosen)
    return Selection(stage, picks, rows, builder.row_type, evaluations, len(ranked), tuple(builder.notes))


def _group_scores(
    scores: Iterable[Score], wanted: Mapping[str, Collection[str]], notes: list[Note], *, allow_changed: bool
) -> tuple[dict[str, list[float]], int]:
    """Return the scores of each document and the number of evaluations; note omissions.

    `wanted` has the ids of templates and models to use; none for all.
    """
    known: dict[str, set[str]] = {kind: set() for kind in wanted}
    found: dict[str, list[float]] = {}
    left_out: Counter[tuple[str, str]] = Counter()
    evaluations = 0
    for score in scores:
        evaluations += 1
        ids = {"template": score.template_id, "model": score.model_id}
        for kind, name in ids.items():
            known[kind].add(name)
        other = next((kind for kind, name in ids.items() if wanted[kind] and name not in wanted[kind]), None)
        if other is not None:
            left_out[f"other-{other}", f"of other {other}s"] += 1
        elif not has_score(score):
            left_out["no-score", "without a score"] += 1
        elif not score.parent_doc_id:
            left_out["no-parent", "without a parent_doc_id"] += 1
        elif score.changed and not allow_changed:
            notes.append(_describe_changed(score))
        else:
            found.setdefault(score.parent_doc_id, []).append(cast("float", score.score))
    notes += _find_unknown(wanted, known)
    notes += [Note(kind, "evaluations", None, message, count) for (kind, message), count in left_out.items()]
    return found, evaluations


def _find_unknown(wanted: Mapping[str, Collection[str]], known: Mapping[str, set[str]]) -> Iterator[Note]:
    """Yield a note for each template or model that no score has."""
    for kind, names in wanted.items():
        first = ", ".join(sorted(each for each in known[kind] if each)[:20])
        hint = f"expected one of {first}" if first else f"no score has any. Add it with docid backfill --set {kind}_id"
        for name in names:
            if name not in known[kind]:
                yield Note(f"unknown-{kind}", "evaluations", None, f"no score has {kind} {name!r}; {hint}")


def _describe_changed(score: Score) -> Note:
    """Return the note for a score that was given for another version."""
    parent = f"its parent {score.parent_doc_id}"
    what = " and ".join(parent if each == "parent" else f"its {each}" for each in score.changed.split())
    message = f"its score was given for another version of {what}; evaluate that again, or allow changed scores"
    return Note("changed", f"evaluation {score.doc_id}", score.task_id or None, message)


def _pick(builder: RowBuilder, ranked: list[Pick], top: int) -> list[tuple[Pick, TaskRow]]:
    """Return the best documents that give a row, with their rows; note omissions."""
    tasks: dict[tuple[str, str | None], str] = {}
    chosen: list[tuple[Pick, TaskRow]] = []
    for pick in ranked:
        where = f"{builder.row_type.stage}/{pick.doc_id}"
        if len(chosen) == top:
            is_tie = pick.score == chosen[-1][0].score
            tie = "; the last of these has the same score and wins by doc id" if is_tie else ""
            below = f"its score {plain_text(pick.score)} is not among the best {top}{tie}"
            builder.notes.append(Note("below", where, None, below))
            continue
        row = builder.build(*builder.open(pick.doc_id))
        if row is None:
            continue
        if (other := tasks.setdefault((row.task_id, row.doc_salt), where)) != where:
            message = f"same task as {other}; rows made from them differ only by parent_doc_id"
            builder.notes.append(Note("same-task", where, row.task_id, message))
        column, source = _LEGACY.get(row.stage, ("", ""))
        if column and column not in schema_of(builder.row_type).names:
            row = attrs.evolve(row, extra={**row.extra, column: row.cell(source)})
        chosen.append((pick._replace(task_id=row.task_id), row))
    builder.note_empty_columns()
    return chosen

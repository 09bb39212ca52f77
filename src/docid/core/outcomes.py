"""The outcomes of a write, and the table that decides them. Pure rules, over what was loaded."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from attrs import evolve, frozen

from docid.core.document import OUR_KEYS, PART_FILES
from docid.core.lineage_rules import check_lineage
from docid.errors import LISTED, ContentConflict, DocidError, UnreadableDocument

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from docid.core.document import Document
    from docid.core.record import Record

Policy = Literal["fail", "keep", "replace"]
"""What a write does where other text of the same lineage is there."""


class Outcome(StrEnum):
    """What became of a write. There are no others: everything else is an error.

    Example:
        >>> Outcome.CREATED == "created", f"{Outcome.CREATED}"
        (True, 'created')
    """

    CREATED = "created"
    """Nothing was there; the document is."""
    UNCHANGED = "unchanged"
    """The same lineage and the same texts were there; nothing was written."""
    KEPT = "kept"
    """The same lineage with other texts was there, and stays."""
    REPLACED = "replaced"
    """The document took the place of another version, which is in history."""
    COMPLETED = "completed"
    """A part was added that the document was written without."""


@frozen(repr=False)
class WriteResult:
    """What a write did.

    Attributes:
        outcome: created, unchanged, kept, replaced or completed.
        stage, doc_id: the document.
        location: where it is, as text; `path` is the same as a `pathlib.Path`.
        metadata_differs: whether the stored run id or metadata differ from those given; they were left unchanged.
        missing_parts: the parts that the stored document lacks, where nothing else differs: `store.add_part` adds
            them.

    Example:
        >>> from docid import DocsStore, Document
        >>> store = DocsStore("memory://")
        >>> draft = Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="once")
        >>> store.write(draft).outcome, store.write(draft).outcome
        (<Outcome.CREATED: 'created'>, <Outcome.UNCHANGED: 'unchanged'>)
    """

    outcome: Outcome
    stage: str
    doc_id: str
    location: str
    metadata_differs: bool = False
    missing_parts: tuple[str, ...] = ()

    def __repr__(self) -> str:
        notes = [" metadata differs"] if self.metadata_differs else []
        notes += [f" without {part}" for part in self.missing_parts]
        return f"<WriteResult {self.outcome} {self.stage}/{self.doc_id} at {self.location}{','.join(notes)}>"

    def _repr_html_(self) -> str:
        from docid import _html  # noqa: PLC0415 - for notebooks alone

        notes = []
        if self.metadata_differs:
            notes.append(("metadata", "differs from what is stored; if_exists='replace' writes it"))
        if self.missing_parts:
            names = _html.text(", ".join(self.missing_parts))
            notes.append(("missing parts", f"{names}: store.add_part adds them"))
        title = _html.heading("WriteResult", self.stage, self.doc_id, str(self.outcome))
        return _html.box(title, _html.fact_table([("location", _html.name(self.location)), *notes]))

    @property
    def path(self) -> Path:
        """Where it is."""
        from pathlib import Path  # noqa: PLC0415 - importing it is a tenth of what importing docid costs

        return Path(self.location)


class WriteManyError(DocidError):
    """Some of the documents of `DocsStore.write_many` were not written. The others were.

    Attributes:
        results: what became of each document, by position; None where it was not written.
        failures: what was raised for the others: the error by position, counted from 0.

    Example:
        >>> from docid import DocsStore, Document
        >>> store = DocsStore("memory://")
        >>> drafts = [Document(stage="draft", doc_id="d1", task_id=task_id, raw_text="once") for task_id in "ab"]
        >>> try:
        ...     store.write_many(drafts)
        ... except WriteManyError as error:
        ...     print([result and str(result.outcome) for result in error.results], *error.failures)
        ['created', None] 1
    """

    results: Sequence[WriteResult | None]
    failures: Mapping[int, Exception]

    def _describe(self) -> str:
        self.results = tuple(self.results)
        lines = [f"{len(self.failures)} of {len(self.results)} documents were not written (the others are):"]
        lines += [f"position {number}: {error}" for number, error in list(self.failures.items())[:LISTED]]
        if len(self.failures) > LISTED:
            lines.append(f"… and {len(self.failures) - LISTED} more")
        return "\n  ".join(lines)


def judge(  # noqa: PLR0917 - what to write, and what is there
    document: Document,
    parts: Mapping[str, bytes],
    there: Record,
    held: Mapping[str, bytes],
    location: str,
    if_exists: Policy,
) -> tuple[WriteResult, tuple[str, ...]]:
    """Return the result of a write by the table of outcomes, and which parts differ. `replaced` is still to be done.

    `parts` are the part files of the document to write, `held` those of the document that is there. It raises what
    `DocsStore.write` does.
    """
    stage, doc_id = document.stage, document.doc_id
    check_lineage(there, document, stage, doc_id, location)
    differing = tuple(part for part, name in PART_FILES.items() if held.get(name) != parts.get(name))
    metadata_differs = there.run_id != document.run_id or _as_text(there.metadata) != _as_text(document.metadata)
    result = WriteResult(Outcome.UNCHANGED, stage, doc_id, location)
    if there.legacy and differing:
        raise not_migrated(there, stage, doc_id, location)
    if if_exists == "replace" and (differing or metadata_differs) and not there.legacy:
        return evolve(result, outcome=Outcome.REPLACED), differing
    if not differing:
        return evolve(result, metadata_differs=metadata_differs), ()
    missing = differing if all(PART_FILES[part] not in held for part in differing) else ()
    if if_exists == "fail":
        raise ContentConflict(stage, doc_id, location, there.task_id, differing, missing)
    kept = evolve(result, outcome=Outcome.KEPT, metadata_differs=metadata_differs, missing_parts=missing)
    return kept, differing


def not_migrated(
    record: Record, stage: str, doc_id: str, location: str, problem: str = "its record was written by an older system"
) -> UnreadableDocument:
    """Return the error for a write to a document of an older system."""
    remedy = "bring the store to this format first: docid migrate"
    return UnreadableDocument(stage, doc_id, location, problem, remedy, record.task_id)


def _as_text(metadata: dict[str, Any]) -> str:
    """Return metadata as text, which tells 1 from True and 1.0; a key of docid's own in an older record is left out."""
    import json  # noqa: PLC0415 - where a document exists already: importing docid has to cost little

    return json.dumps({key: value for key, value in metadata.items() if key not in OUR_KEYS}, sort_keys=True)

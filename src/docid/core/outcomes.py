"""The outcomes of a write, and the rules that decide between them. This module does no I/O."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from attrs import evolve, frozen

from docid._text import format_count
from docid.core.document import OUR_KEYS, PART_FILES
from docid.core.lineage_rules import check_lineage
from docid.errors import LISTED, ContentConflict, DocidError, UnreadableDocument

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from docid.core.document import Document
    from docid.core.record import Record

Policy = Literal["fail", "keep", "replace"]
"""What a write does if the stored document has the same lineage and other text."""


class Outcome(StrEnum):
    """The outcome of a write or of `ensure`. A write has one of the first five, or raises an error.

    Example:
        >>> Outcome.CREATED == "created", f"{Outcome.CREATED}"
        (True, 'created')
    """

    CREATED = "created"
    """The document is new in the store."""
    UNCHANGED = "unchanged"
    """The store already had the document, with the same lineage and texts. docid wrote nothing."""
    KEPT = "kept"
    """The store keeps its document, which has the same lineage and other texts."""
    REPLACED = "replaced"
    """The document replaced the stored version, which is now in history."""
    COMPLETED = "completed"
    """The stored document received a part that it lacked."""
    CLAIMED = "claimed"
    """`ensure` with `claim="skip"` made no call, because another worker is making the document."""
    FAILED = "failed"
    """The row has no document: its `error` says why."""


@frozen(repr=False)
class WriteResult:
    """The result of a write.

    Attributes:
        outcome: created, unchanged, kept, replaced or completed.
        stage, doc_id: the document.
        location: where it is, as text; `path` is the same as a `pathlib.Path`.
        metadata_differs: whether the stored run id or metadata differ from yours; the stored values did not change.
        missing_parts: the parts that the stored document lacks, if no other part differs. `store.add_part` adds them.

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
        from docid import _html  # noqa: PLC0415 - only notebooks need it

        notes = []
        if self.metadata_differs:
            notes.append(("metadata", "differs from the stored metadata; if_exists='replace' writes it"))
        if self.missing_parts:
            names = _html.text(", ".join(self.missing_parts))
            notes.append(("missing parts", f"{names}: store.add_part adds them"))
        title = _html.heading("WriteResult", self.stage, self.doc_id, str(self.outcome))
        return _html.box(title, _html.fact_table([("location", _html.name(self.location)), *notes]))

    @property
    def path(self) -> Path:
        """The location as a path."""
        from pathlib import Path  # noqa: PLC0415 - it would add a tenth to the time of `import docid`

        return Path(self.location)


class WriteManyError(DocidError):
    """`DocsStore.write_many` failed for some documents. It wrote the others.

    Attributes:
        results: the result of each document, in order; None for a document that was not written.
        failures: the error of each document that failed, by its position, counted from 0.
        documents: the documents that were not written, by position: those that failed, and those that docid took from
            the stream but did not try. Write them again with `write_many(error.documents.values())`.
        stopped: True if the store failed, so that docid took no more documents from the stream.

    Example:
        >>> from docid import DocsStore, Document
        >>> store = DocsStore("memory://")
        >>> drafts = [Document(stage="draft", doc_id="d1", task_id=task_id, raw_text="once") for task_id in "ab"]
        >>> try:
        ...     store.write_many(drafts)
        ... except WriteManyError as error:
        ...     print([result and str(result.outcome) for result in error.results], *error.failures)
        ...     print([document.task_id for document in error.documents.values()])
        ['created', None] 1
        ['b']
    """

    results: Sequence[WriteResult | None]
    failures: Mapping[int, Exception]
    documents: Mapping[int, Document] = MappingProxyType({})
    stopped: bool = False

    def _describe(self) -> str:
        self.results = tuple(self.results)
        failed, untried = len(self.failures), len(self.documents.keys() - self.failures.keys())
        total = format_count(len(self.results), "document")
        wrong = f"{failed:,} of {total} failed" + (f", {untried:,} were not tried" if untried else "")
        others = " (the others are stored)" if failed + untried < len(self.results) else ""
        lines = [f"{wrong}{others}{'; positions count from 0:' if failed else ''}"]
        lines += [f"position {number}: {error}" for number, error in list(self.failures.items())[:LISTED]]
        if failed > LISTED:
            lines.append(f"… and {failed - LISTED:,} more")
        if self.stopped:
            lines.append("the store failed, so docid took no more documents; `documents` holds those not written")
        return "\n  ".join(lines)


def decide_outcome(  # noqa: PLR0917 - the new and the stored document
    document: Document,
    parts: Mapping[str, bytes],
    stored: Record,
    stored_parts: Mapping[str, bytes],
    location: str,
    if_exists: Policy,
    *,
    notes_differ: bool = False,
) -> tuple[WriteResult, tuple[str, ...]]:
    """Return the result of a write and the parts that differ. The caller carries out the outcome `replaced`.

    `parts` are the part files of the new document. `stored` and `stored_parts` are the record and the part files of
    the stored one. With `notes_differ`, docid's own notes in the record differ. Raises the same errors as
    `DocsStore.write`.
    """
    stage, doc_id = document.stage, document.doc_id
    check_lineage(stored, document, stage, doc_id, location)
    differing = tuple(part for part, name in PART_FILES.items() if stored_parts.get(name) != parts.get(name))
    metadata_differs = stored.run_id != document.run_id or _to_text(stored.metadata, stored) != _to_text(
        document.convert_metadata(), stored
    )
    result = WriteResult(Outcome.UNCHANGED, stage, doc_id, location)
    if stored.legacy and differing:
        raise make_not_migrated_error(stored, stage, doc_id, location)
    if if_exists == "replace" and (differing or metadata_differs or notes_differ) and not stored.legacy:
        return evolve(result, outcome=Outcome.REPLACED), differing
    if not differing:
        return evolve(result, metadata_differs=metadata_differs), ()
    missing = differing if all(PART_FILES[part] not in stored_parts for part in differing) else ()
    if if_exists == "fail":
        raise ContentConflict(stage, doc_id, location, stored.task_id, differing, missing)
    kept = evolve(result, outcome=Outcome.KEPT, metadata_differs=metadata_differs, missing_parts=missing)
    return kept, differing


def make_not_migrated_error(
    record: Record, stage: str, doc_id: str, location: str, problem: str = "an older system wrote its record"
) -> UnreadableDocument:
    """Return the error for a write to a document of an older system."""
    return UnreadableDocument(stage, doc_id, location, problem, "run 'docid migrate' first", record.task_id)


def _to_text(metadata: dict[str, Any], stored: Record) -> str:
    """Return metadata as text, which distinguishes 1, True and 1.0.

    For a legacy record without the keys that docid uses itself, which an older system filled.
    """
    import json  # noqa: PLC0415 - only needed for an existing document; keeps `import docid` fast

    return json.dumps(
        {key: value for key, value in metadata.items() if not (stored.legacy and key in OUR_KEYS)}, sort_keys=True
    )

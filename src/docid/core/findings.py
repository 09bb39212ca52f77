"""The reports of operations: findings with stable codes, changes of documents, and counts of an audit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from docid._text import escape_surrogates

if TYPE_CHECKING:
    from docid.errors import UnreadableDocument

__all__ = ["FIELDS", "LABELS", "LEVELS", "Change", "ChangedSource", "Finding", "Progress", "StageFacts"]

FIELDS = ("code", "level", "stage", "doc_id", "task_id", "where", "message", "hint")
"""The fields of a finding in JSON, in this order."""

LEVELS: dict[str, Literal["error", "warning"]] = {
    "duplicate-doc-id": "error",
    "duplicate-task-id": "error",
    "hash-mismatch": "error",
    "lineage-conflict": "error",
    "lineage-cycle": "error",
    "malformed-id": "error",
    "misplaced-document": "error",
    "missing-doc-id": "error",
    "missing-input": "error",
    "missing-parent": "error",
    "missing-parent-id": "error",
    "missing-source": "error",
    "torn-document": "error",
    "unreadable-record": "error",
    "wrong-stage-parent": "error",
    "damaged-history": "warning",
    "input-changed": "warning",
    "legacy-record": "warning",
    "orphan-document": "warning",
    "parent-changed": "warning",
    "stale-temporary": "warning",
    "uncommitted-directory": "warning",
    "unlisted-file": "warning",
}
"""Every code and its level. An `error` means a row that cannot run, or a document that must not be used."""

CopyOutcome = Literal["copied", "updated", "same", "conflict", "refused"]
MigrateOutcome = Literal["migrate", "set", "parse", "current", "leave", "absent", "empty", "unnamed"]
RemoveOutcome = Literal["remove", "restore", "leave", "absent"]
ChangeOutcome = CopyOutcome | MigrateOutcome | RemoveOutcome
"""The outcome of an operation for one document. See `Change`."""


class Finding(NamedTuple):
    """A fault in a store or a task table: its location, and what to do about it.

    Attributes:
        code: the kind of fault, one of `LEVELS`; stable, for programs.
        stage: the stage.
        doc_id: the document with the fault, or next to it; empty if no document is involved.
        task_id: the task of that document, if it is known.
        where: the path, or the file and row.
        message: the fault.
        hint: what to do about it; empty if the message says so.
        action: what `docid repair` does: `quarantine` moves the file or document aside, `settle` finishes or rolls
            back an interrupted replace, and None means that you must decide.
        expected: the document's record at the time of the scan; repair does nothing if it has changed since.

    Example:
        >>> finding = Finding("torn-document", "draft", "d1", "t-1", "docs/draft/d1", "no raw.txt", "docid repair")
        >>> finding.level, str(finding)
        ('error', "torn-document: draft/d1 (task_id='t-1') at docs/draft/d1: no raw.txt; docid repair")
    """

    code: str
    stage: str
    doc_id: str
    task_id: str | None
    where: str
    message: str
    hint: str
    action: Literal["quarantine", "settle"] | None = None
    expected: bytes | None = None

    @classmethod
    def of(cls, error: UnreadableDocument) -> Finding:
        """Return the finding for a document that cannot be used. The remedy of the error becomes the hint."""
        return cls(error.code, error.stage, error.doc_id, error.task_id, error.location, error.problem, error.remedy)

    @property
    def level(self) -> Literal["error", "warning"]:
        """The level of the code: `error` or `warning`."""
        return LEVELS[self.code]

    def to_dict(self) -> dict[str, Any]:
        """Return the finding for JSON. Bytes of file names that are not UTF-8 are escaped."""
        values = {key: getattr(self, key) for key in FIELDS}
        return {key: escape_surrogates(value) if isinstance(value, str) else value for key, value in values.items()}

    def __str__(self) -> str:
        name = f"{self.stage}/{self.doc_id}" if self.doc_id else f"stage {self.stage}"
        task = "" if self.task_id is None else f" (task_id={self.task_id!r})"
        text = f"{self.code}: {name}{task} at {self.where}: {self.message}"
        return f"{text}; {self.hint}" if self.hint else text


class ChangedSource(NamedTuple):
    """A document that was made from another version of its parent, or of an input, than the one in the store.

    Attributes:
        stage, doc_id, task_id: the document.
        role: `parent` or `input`.
        source: its parent or input, as `STAGE/ID`.
        parts: the parts of the source whose text differs: `raw`, `parsed`, or both, separated by a blank.
        created_at: when the document was made, in ISO 8601 UTC; empty if unknown.
        changed_at: when the present version of the source was made.

    Example:
        >>> ChangedSource("essay", "e1", "t-1", "parent", "draft/d1", "raw", "", "").describe()
        'made from another version of its parent draft/d1: the raw text in the store differs'
    """

    stage: str
    doc_id: str
    task_id: str | None
    role: Literal["parent", "input"]
    source: str
    parts: str
    created_at: str
    changed_at: str

    def describe(self) -> str:
        """Return the change as a message."""
        made = f" (made {self.changed_at})" if self.changed_at else ""
        differ = "differs" if " " not in self.parts else "differ"
        texts = f"the {self.parts.replace(' ', ' and ')} text{'' if differ == 'differs' else 's'} in the store{made}"
        return f"made from another version of its {self.role} {self.source}: {texts} {differ}"

    def to_finding(self, where: str) -> Finding:
        """Return the finding of an audit, for the document at this location."""
        hint = "ensure(…, if_changed='replace') makes it again from the present version"
        return Finding(f"{self.role}-changed", self.stage, self.doc_id, self.task_id, where, self.describe(), hint)


class Change(NamedTuple):
    """The result of an operation for one document: what it did, or would do.

    The operations are copy, migrate, backfill, reparse, remove and restore.

    Attributes:
        outcome: for copy: `copied` (new in the target), `updated` (the target had an earlier version), `same` (the
            target has the same bytes), `conflict` (another document has the id), `refused` (the document is damaged,
            or the target cannot store it). For migrate, backfill and reparse: `migrate` (the record gets the current
            format), `set` (the record gets a key), `parse` (the document gets a parsed text), `current` (up to date),
            `leave` (not possible), `absent` (not in the store), `empty` (the table has no value for it), `unnamed` (a
            row of the table has no doc id). For remove and restore: `remove` (moved to quarantine), `restore` (moved
            back), `leave` and `absent`.
        stage, doc_id: the document.
        task_id: its task, if it is known.
        location: where it is; for copy, in the target.
        message: the keys that were set or skipped, or the reason why the document did not change.
        done: whether docid wrote the document; False in a plan.
        warning: a difference between the document and the table; the document keeps its value.
        error: the exception that caused the outcome, if any.
        sources: the origin of each value that the old record lacked.

    Example:
        >>> change = Change("conflict", "draft", "d1", "t-1", "docs/draft/d1", "it has other texts")
        >>> change.outcome, change.done
        ('conflict', False)
    """

    outcome: ChangeOutcome
    stage: str
    doc_id: str
    task_id: str | None
    location: str = ""
    message: str = ""
    done: bool = False
    warning: str = ""
    error: Exception | None = None
    sources: tuple[str, ...] = ()

    def to_dict(self, *fields: str) -> dict[str, Any]:
        """Return these fields for JSON; by default all of them."""
        values = {**self._asdict(), "error": None if self.error is None else str(self.error)}
        return {key: values[key] for key in fields or self._fields}


class StageFacts(NamedTuple):
    """The counts of an audit for one stage; None if the audit did not read the table or the store.

    Attributes:
        rows: the rows of the table.
        written: rows whose document is in the store, with the lineage of the row.
        pending: rows whose document is not in the store; the next run makes it.
        parents_pending: rows whose parent is reserved but not in the store.
        underived: rows whose doc id is not derived from their task, run id and salt.
        documents: the documents in the store.
        parsed_missing: documents without a parsed text.

    A row with a finding may be neither written nor pending.
    """

    rows: int | None
    written: int | None
    pending: int | None
    parents_pending: int | None
    underived: int | None
    documents: int | None
    parsed_missing: int | None


LABELS = {name: name.replace("_", " ") for name in StageFacts._fields}
"""The names of the `StageFacts` counts in tables for people."""

Progress = Callable[[str, int, int | None], object]
"""A progress callback. It receives the current step, the number of items done, and the total (None if unknown)."""

"""What an operation reports: findings with stable codes, changes of documents, and what an audit counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from docid._text import escape_surrogates

if TYPE_CHECKING:
    from docid.errors import UnreadableDocument

__all__ = ["FIELDS", "LABELS", "LEVELS", "Change", "Finding", "Progress", "StageFacts"]

FIELDS = ("code", "level", "stage", "doc_id", "task_id", "where", "message", "hint")
"""What programs are told of a finding, in this order."""

LEVELS: dict[str, Literal["error", "warning"]] = {
    "duplicate-doc-id": "error",
    "duplicate-task-id": "error",
    "hash-mismatch": "error",
    "lineage-conflict": "error",
    "malformed-id": "error",
    "misplaced-document": "error",
    "missing-doc-id": "error",
    "missing-parent": "error",
    "missing-parent-id": "error",
    "missing-source": "error",
    "torn-document": "error",
    "unreadable-record": "error",
    "wrong-stage-parent": "error",
    "legacy-record": "warning",
    "orphan-document": "warning",
    "stale-temporary": "warning",
    "uncommitted-directory": "warning",
    "unlisted-file": "warning",
}
"""Every code there is, and its level; an `error` is about a row that cannot be run, or a document not to be used."""

CopyOutcome = Literal["copied", "updated", "same", "conflict", "refused"]
MigrateOutcome = Literal["migrate", "set", "current", "leave", "absent", "empty", "unnamed"]
ChangeOutcome = CopyOutcome | MigrateOutcome
"""What became of a document. See `Change`."""


class Finding(NamedTuple):
    """Something that is wrong in a store or a table, where, and what to do about it.

    Attributes:
        code: what kind of fault it is, one of `LEVELS`; stable, for programs.
        stage: the stage it is in.
        doc_id: the document it is about, or lies beside; empty where it is about none.
        task_id: the task of that document, where it is known.
        where: the path, or file and row.
        message: what is wrong.
        hint: what to do about it; empty where the message says it.
        action: what `docid repair` does: `quarantine` moves it aside, `settle` finishes or rolls back an interrupted
            replace, None leaves it to people.
        expected: the record beside it; repair does nothing where another one is there by now.

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
        """Return the finding about a document that cannot be used; the error's remedy is the hint."""
        return cls(error.code, error.stage, error.doc_id, error.task_id, error.location, error.problem, error.remedy)

    @property
    def level(self) -> Literal["error", "warning"]:
        """`error` or `warning`."""
        return LEVELS[self.code]

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON takes it; of a name on a disk that is no UTF-8 the odd bytes are escaped."""
        values = {key: getattr(self, key) for key in FIELDS}
        return {key: escape_surrogates(value) if isinstance(value, str) else value for key, value in values.items()}

    def __str__(self) -> str:
        name = f"{self.stage}/{self.doc_id}" if self.doc_id else f"stage {self.stage}"
        task = "" if self.task_id is None else f" (task_id={self.task_id!r})"
        text = f"{self.code}: {name}{task} at {self.where}: {self.message}"
        return f"{text}; {self.hint}" if self.hint else text


class Change(NamedTuple):
    """What an operation did to one document, or would do: the result of copy, migrate and backfill.

    Attributes:
        outcome: of copy: `copied` (new in the target), `updated` (an earlier version was there), `same` (it was there,
            byte for byte), `conflict` (another document has its id), `refused` (it is damaged, or the target cannot
            hold it). Of migrate and backfill: `migrate` (it gets a record of the current format), `set` (it gets a
            key), `current` (nothing to do), `leave` (it cannot be done), `absent` (no such document), `empty` (the
            table has no value for it), `unnamed` (a row of the table has no doc id).
        stage, doc_id: the document.
        task_id: its task, where that is known.
        location: where it is; for a copy, in the target.
        message: what was set or left out, or why nothing was done.
        done: whether something was written; false in a plan.
        warning: what differs between the document and the table; the document's value stays.
        error: the error behind the message, if there is one.
        sources: where the values come from that the old record did not have.

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
        """Return these fields as JSON takes them, or all of them."""
        values = {**self._asdict(), "error": None if self.error is None else str(self.error)}
        return {key: values[key] for key in fields or self._fields}


class StageFacts(NamedTuple):
    """What an audit counted in one stage; None where it was not looked at.

    Attributes:
        rows: the rows of its table.
        written: those whose document is in the store, of the row's lineage.
        pending: those whose document is not there: a run makes it.
        parents_pending: those whose parent is reserved, and not there yet.
        underived: those whose doc id does not come from the row's task, run id and salt.
        documents: the documents in the store.
        parsed_missing: those of them without a parsed text.

    A row with a finding of its own may be neither written nor pending.
    """

    rows: int | None
    written: int | None
    pending: int | None
    parents_pending: int | None
    underived: int | None
    documents: int | None
    parsed_missing: int | None


LABELS = {name: name.replace("_", " ") for name in StageFacts._fields}
"""What the counts of `StageFacts` are called in tables for people."""

Progress = Callable[[str, int, int | None], object]
"""A progress callback: what is looked at, how much of it is done, and of how much (None where unknown)."""

"""The errors that docid raises on purpose.

Each is a `DocidError`, mixed with `ValueError`, `LookupError` or `OSError` where that is natural. The message is for
people; the same facts are attributes, for programs. All of them pickle, because worker pools send errors between
processes.

Two other kinds of error come out of docid: `TypeError` and `ValueError` for a wrong argument, and the `OSError` of the
file system, with the whole path and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from docid._text import name_task, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "ContentConflict",
    "DocidError",
    "DocumentBusy",
    "DocumentNotFound",
    "DuplicateTaskId",
    "DurabilityUnknown",
    "InvalidDocument",
    "InvalidName",
    "LineageConflict",
    "MissingParent",
    "Problem",
    "StoreUnavailable",
    "TaskTableError",
    "UnreadableDocument",
]

LISTED = 10  # faults that a message lists


def _rebuild(cls: type[DocidError], args: tuple[object, ...], facts: dict[str, Any]) -> DocidError:
    error = cls.__new__(cls, *args)
    error.args = args  # an OSError's come from its own __init__
    error.__dict__.update(facts)
    return error


class DocidError(Exception):
    """The base of docid's errors: `except DocidError` catches them and nothing else.

    Args:
        message: what is wrong, where, what was expected, what to do.
        facts: the attributes of the error.

    Example:
        >>> from docid import reserve_doc_id
        >>> try:
        ...     reserve_doc_id("draft", "")
        ... except DocidError as error:
        ...     print(error)
        task_id: empty: ''; expected some text
    """

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.__dict__.update(facts)

    def __reduce__(self) -> tuple[Callable[..., DocidError], tuple[object, ...]]:
        # The default would call the class with the message alone; the classes below take facts.
        return _rebuild, (type(self), self.args, self.__dict__)


class InvalidName(DocidError, ValueError):
    """A text that may not be used as a stage, a doc id, a task id, a run id or a salt.

    Attributes:
        argument: which argument it was given for.
        value: the text itself.
        problem: what is wrong with it.
        expected: what would be right.

    Example:
        >>> from docid import reserve_doc_id
        >>> reserve_doc_id("../draft", "t-1")
        Traceback (most recent call last):
        docid.errors.InvalidName: stage: not a stage name: '../draft'; expected 1 to 64 of a-z, 0-9, _ and -, ...
    """

    argument: str
    value: object
    problem: str
    expected: str

    def __init__(self, argument: str, value: object, problem: str, expected: str) -> None:
        message = f"{argument}: {problem}: {shown(value)}; expected {expected}"
        super().__init__(message, argument=argument, value=value, problem=problem, expected=expected)


class DuplicateTaskId(DocidError, ValueError):
    """One task id given twice, where each stands for a document of its own.

    Attributes:
        task_id: the task id.
        positions: its first two positions, counted from 0.

    Example:
        >>> from docid import reserve_doc_ids
        >>> reserve_doc_ids("draft", ["t-1", "t-2", "t-1"])
        Traceback (most recent call last):
        docid.errors.DuplicateTaskId: task_ids: the same task id at positions 0 and 2 (counted from 0): 't-1'; ...
    """

    task_id: str
    positions: tuple[int, int]

    def __init__(self, task_id: str, positions: tuple[int, int]) -> None:
        first, second = positions
        super().__init__(
            f"task_ids: the same task id at positions {first} and {second} (counted from 0): {shown(task_id)}; "
            f"expected each task id once, since equal task ids have one doc id",
            task_id=task_id,
            positions=positions,
        )


class InvalidDocument(DocidError, ValueError):
    """A `Document` that cannot be made or stored as it was given.

    Attributes:
        field: which field of the document, with the path into metadata (`metadata.usage.cost`).
        problem: what is wrong with it, and what would be right.

    Example:
        >>> from docid import Document
        >>> Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="", metadata={"usage": {"cost": float("nan")}})
        Traceback (most recent call last):
        docid.errors.InvalidDocument: metadata.usage.cost: nan of type float does not come back equal from JSON; ...
    """

    field: str
    problem: str

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}", field=field, problem=problem)


class _StoredDocumentError(DocidError):
    """The base of errors about one document of a store: which one, and where it is."""

    stage: str
    doc_id: str
    location: str


class LineageConflict(_StoredDocumentError):
    """The id is taken by a document of another lineage: another task id or another parent.

    No policy overwrites it. Either two rows carry one doc id (a copied row), or a row's parent changed after its id was
    reserved: give the new row an id of its own (`reserve_doc_id(…, salt=…)`).

    Attributes:
        stage, doc_id, task_id, parent_doc_id: of the document that was to be written.
        stored_task_id, stored_parent_doc_id: of the document that holds the id.
        location: where that document is.

    Example:
        >>> from docid import DocsStore, Document
        >>> store = DocsStore("memory://")
        >>> _ = store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="once"))
        >>> store.write(Document(stage="draft", doc_id="d1", task_id="t-2", raw_text="once"))
        Traceback (most recent call last):
        docid.errors.LineageConflict: draft/d1 is taken by another lineage: memory:/draft/d1 holds task_id='t-1', ...
    """

    task_id: str | None
    parent_doc_id: str | None
    stored_task_id: str | None
    stored_parent_doc_id: str | None

    def __init__(
        self,
        *,
        stage: str,
        doc_id: str,
        task_id: str | None,
        parent_doc_id: str | None,
        stored_task_id: str | None,
        stored_parent_doc_id: str | None,
        location: str,
    ) -> None:
        super().__init__(
            f"{stage}/{doc_id} is taken by another lineage: {location} holds task_id={shown(stored_task_id)}, "
            f"parent_doc_id={stored_parent_doc_id!r}; this is task_id={shown(task_id)}, "
            f"parent_doc_id={parent_doc_id!r}. Nothing was written; reserve another id for this row "
            f"(a salt gives one)",
            stage=stage,
            doc_id=doc_id,
            task_id=task_id,
            parent_doc_id=parent_doc_id,
            stored_task_id=stored_task_id,
            stored_parent_doc_id=stored_parent_doc_id,
            location=location,
        )


class ContentConflict(_StoredDocumentError):
    """The id holds a document of the same lineage with other text, and the policy was to fail.

    Attributes:
        stage, doc_id, task_id: the document.
        parts: the parts that differ (`raw`, `parsed`, `prompt`).
        missing_parts: the parts that the stored document lacks; where these are all that differs, `add_part` adds
            them.
        location: where the stored document is.

    Example:
        >>> from docid import DocsStore, Document
        >>> store = DocsStore("memory://")
        >>> _ = store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="once"))
        >>> store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="twice"))
        Traceback (most recent call last):
        docid.errors.ContentConflict: draft/d1 (task_id='t-1') is already at memory:/draft/d1 and differs ...
    """

    task_id: str | None
    parts: tuple[str, ...]
    missing_parts: tuple[str, ...]

    def __init__(
        self,
        *,
        stage: str,
        doc_id: str,
        task_id: str | None,
        parts: tuple[str, ...],
        missing_parts: tuple[str, ...],
        location: str,
    ) -> None:
        names = ", ".join(parts)
        if parts == missing_parts:
            wrong, remedy = f"without {names}", f"store.add_part({stage!r}, {doc_id!r}, …) completes it"
        else:
            wrong = f"and differs in {names}"
            remedy = "write(…, if_exists='keep') leaves the stored one, if_exists='replace' puts it into history"
        super().__init__(
            f"{stage}/{doc_id}{name_task(task_id)} is already at {location} {wrong}. Nothing was written; {remedy}",
            stage=stage,
            doc_id=doc_id,
            task_id=task_id,
            parts=parts,
            missing_parts=missing_parts,
            location=location,
        )


class MissingParent(DocidError, LookupError):
    """The parent that a document names is not in the store under the parent's stage.

    Attributes:
        stage, doc_id, task_id: the document that was to be written.
        parent_stage, parent_doc_id: the parent it needs; `parent_doc_id` is None where it names none.
        found_in: the other stages that hold a document of that id.

    Example:
        >>> from docid import DocsStore, Document
        >>> store = DocsStore("memory://")
        >>> store.write(Document(stage="essay", doc_id="e1", task_id="t-1", raw_text="", parent_doc_id="d1"))
        Traceback (most recent call last):
        docid.errors.MissingParent: essay/e1 (task_id='t-1') names the parent draft/d1, which is not ...
    """

    stage: str
    doc_id: str
    task_id: str
    parent_stage: str
    parent_doc_id: str | None
    found_in: tuple[str, ...]

    def __init__(
        self,
        *,
        stage: str,
        doc_id: str,
        task_id: str,
        parent_stage: str,
        parent_doc_id: str | None,
        found_in: tuple[str, ...] = (),
    ) -> None:
        if parent_doc_id is None:
            wrong = f"has no parent_doc_id; expected the doc id of a document of stage {parent_stage!r}"
        else:
            wrong = f"names the parent {parent_stage}/{parent_doc_id}, which is not in the store"
        if found_in:
            wrong += f" (that id is a document of stage {', '.join(found_in)}, which is not the parent's stage)"
        super().__init__(
            f"{stage}/{doc_id}{name_task(task_id)} {wrong}. Nothing was written; "
            f"write the parent first, or pass require_parent=False",
            stage=stage,
            doc_id=doc_id,
            task_id=task_id,
            parent_stage=parent_stage,
            parent_doc_id=parent_doc_id,
            found_in=found_in,
        )


class DocumentNotFound(_StoredDocumentError, LookupError):
    """No document of that stage and id is in the store.

    Attributes:
        stage, doc_id: what was asked for.
        location: where it would be.
        found_in: the other stages that hold a document of that id.

    Example:
        >>> from docid import DocsStore, Document
        >>> store = DocsStore("memory://")
        >>> _ = store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="once"))
        >>> store.read("essay", "d1")
        Traceback (most recent call last):
        docid.errors.DocumentNotFound: essay/d1 is not in the store: ...; that id is in stage draft
    """

    found_in: tuple[str, ...]

    def __init__(
        self, stage: str, doc_id: str, location: str, found_in: tuple[str, ...] = (), wanted_by: str = ""
    ) -> None:
        hint = f"; that id is in stage {', '.join(found_in)}" if found_in else ""
        hint += f"; {wanted_by} names it" if wanted_by else ""
        message = f"{stage}/{doc_id} is not in the store: nothing at {location}{hint}"
        super().__init__(message, stage=stage, doc_id=doc_id, location=location, found_in=found_in)


class UnreadableDocument(_StoredDocumentError):
    """Something stands where the document should be, and it is no whole document.

    Attributes:
        stage, doc_id: the document.
        location: where it is.
        problem: what was found.
        remedy: what to do about it.
        task_id: the task it answers; None where no record says it.
        code: the code of the finding that `DocsStore.scan` makes of it.
        repairable: whether `docid repair` can move it to quarantine.

    Example:
        >>> import pathlib, tempfile
        >>> from docid import DocsStore, Document
        >>> store = DocsStore(tempfile.mkdtemp())
        >>> result = store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="once"))
        >>> _ = (result.path / "raw.txt").write_text("on")
        >>> store.read("draft", "d1")
        Traceback (most recent call last):
        docid.errors.UnreadableDocument: draft/d1 (task_id='t-1') at ... cannot be used: raw.txt: 2 bytes, but the ...
    """

    problem: str
    remedy: str
    task_id: str | None
    code: str
    repairable: bool

    def __init__(  # noqa: PLR0917 - one order for all errors of a document
        self,
        stage: str,
        doc_id: str,
        location: str,
        problem: str,
        remedy: str | None = None,
        task_id: str | None = None,
        code: str = "unreadable-record",
    ) -> None:
        repairable = remedy is None
        remedy = remedy or "see what 'docid repair' plans for it; nothing was changed"
        name = f"{stage}/{doc_id}" if doc_id else f"stage {stage!r}"
        super().__init__(
            f"{name}{name_task(task_id)} at {location} cannot be used: {problem}; {remedy}",
            stage=stage,
            doc_id=doc_id,
            location=location,
            problem=problem,
            remedy=remedy,
            task_id=task_id,
            code=code,
            repairable=repairable,
        )


class DocumentBusy(_StoredDocumentError):
    """Other writers changed the document at every try of this write, so docid gave up. Nothing of it was written.

    Nothing is wrong with the document; the same write may succeed later.

    Attributes:
        stage, doc_id, task_id: the document; `task_id` is None where that is not known.
        location: where it is.

    Example:
        >>> print(DocumentBusy("draft", "d1", "t-1", "docs/draft/d1"))
        draft/d1 (task_id='t-1') at docs/draft/d1 was not written: others changed it each time it was tried; try again
    """

    task_id: str | None

    def __init__(self, stage: str, doc_id: str, task_id: str | None, location: str) -> None:
        where = f"{stage}/{doc_id}{name_task(task_id)} at {location}"
        message = f"{where} was not written: others changed it each time it was tried; try again"
        super().__init__(message, stage=stage, doc_id=doc_id, task_id=task_id, location=location)


class DurabilityUnknown(_StoredDocumentError):
    """The document is in the store, whole, but the file system could not say that it would survive a power cut.

    Writing it again gives `unchanged` and syncs nothing; the machine's log tells whether the disk is well.

    Attributes:
        stage, doc_id: the document.
        location: where it is.
        problem: what the file system said.

    Example:
        >>> print(DurabilityUnknown("draft", "d1", "docs/draft/d1", "[Errno 5] Input/output error"))
        draft/d1 was written to docs/draft/d1, but what has to follow failed ([Errno 5] Input/output error): it ...
    """

    problem: str

    def __init__(self, stage: str, doc_id: str, location: str, problem: str) -> None:
        super().__init__(
            f"{stage}/{doc_id} was written to {location}, but what has to follow failed ({problem}): it is there "
            f"and whole, and may be gone after a power cut; look at the disk (writing it again finds it, and syncs "
            f"nothing)",
            stage=stage,
            doc_id=doc_id,
            location=location,
            problem=problem,
        )


class StoreUnavailable(DocidError, OSError):
    """A store at a URL did not do what it was asked: network, credentials, limits; no fault of a document.

    Requests that may succeed later were tried again, within bounds. Where a write fails so, the document is there whole
    or not at all; written again it is `unchanged` if it was.

    Attributes:
        action: what was to be done: `read`, `write`, `list`, `delete`, `use`.
        location: of what.
        problem: what is wrong. Of the service's answer only its status and code are shown: the rest may be secret.
        remedy: what to do.
        refused: the service said no, so that nothing was done; otherwise the answer may have been lost.

    Example:
        >>> print(StoreUnavailable("read", "s3://docs/draft/d1.json", "no whole answer came", "look at the network"))
        cannot read s3://docs/draft/d1.json: no whole answer came; look at the network
    """

    action: str
    location: str
    problem: str
    remedy: str
    refused: bool

    def __init__(self, action: str, location: str, problem: str, remedy: str, *, refused: bool = False) -> None:
        facts = {"action": action, "location": location, "problem": problem, "remedy": remedy, "refused": refused}
        super().__init__(f"cannot {action} {location}: {problem}; {remedy}", **facts)


class Problem(NamedTuple):
    """One fault in a task table.

    Attributes:
        file: the table's path as it was given; empty for rows that come from no file.
        row: the row as a spreadsheet numbers it, the header being row 1; for rows that come from no file, the
            position counted from 1; None for the table as a whole.
        column: the column, or None where the fault is the row's as a whole.
        value: the text that was found there.
        expected: what is wrong and what would be right.
    """

    file: str
    row: int | None
    column: str | None
    value: str
    expected: str

    def __str__(self) -> str:
        where = [self.file] if self.file else []
        if self.row is not None:
            where.append(f"row {self.row}")
        place = " ".join(where)
        if self.column is not None:
            column = self.column or "without a name"
            place += f", column {column}" if place else f"column {column}"
        found = f" {shown(self.value)};" if self.value else ""
        return f"{place}:{found} {self.expected}" if place else f"{found} {self.expected}".strip()


class TaskTableError(DocidError, ValueError):
    """A task table with faults, all of them reported together.

    Attributes:
        problems: the first 1,000 faults, as `Problem`.
        count: how many there are in all.

    Example:
        >>> from docid import DraftTask, reserve_tasks
        >>> list(reserve_tasks([DraftTask(task_id="t-1"), DraftTask(task_id=" t-2")], DraftTask))
        Traceback (most recent call last):
        docid.errors.TaskTableError: row 2, column draft_task_id: ' t-2'; white space at an end; expected the text ...
    """

    problems: tuple[Problem, ...]
    count: int

    def __init__(self, problems: Sequence[Problem], count: int | None = None) -> None:
        count = len(problems) if count is None else count
        lines = [str(problem) for problem in problems[:LISTED]]
        if count > LISTED:
            lines.append(f"… and {count - LISTED} more")
        message = lines[0] if count == 1 else "\n  ".join([f"{count} problems:", *lines])
        super().__init__(message, problems=tuple(problems), count=count)

"""The errors that docid raises on purpose.

Each is a `DocidError`, mixed with `ValueError`, `LookupError` or `OSError` where that is natural. The message is for
people; the same facts are attributes, for programs. All of them pickle, because worker pools send errors between
processes.

Two other kinds of error come out of docid: `TypeError` and `ValueError` for a wrong argument, and the `OSError` of the
file system, with the whole path and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, dataclass_transform

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


@dataclass_transform(eq_default=False)
class DocidError(Exception):
    """The base of docid's errors: `except DocidError` catches them and nothing else.

    A subclass declares its facts as annotated attributes, with defaults, and makes the message of them. It is called
    with these facts, in their order or by keyword, as a dataclass is.

    Example:
        >>> from docid import reserve_doc_id
        >>> try:
        ...     reserve_doc_id("draft", "")
        ... except DocidError as error:
        ...     print(error)
        task_id: empty: ''; expected some text
    """

    _facts: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._facts = (*cls._facts, *(name for name in cls.__annotations__ if name not in cls._facts))

    def __init__(self, *values: object, **facts: object) -> None:
        self.__dict__.update(zip(self._facts, values, strict=False), **facts)
        super().__init__(self._describe())

    def _describe(self) -> str:
        """Return the message: what is wrong, where, what was expected, what to do."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Callable[..., DocidError], tuple[object, ...]]:
        # The default would call the class with the message alone; it is called with facts.
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

    def _describe(self) -> str:
        return f"{self.argument}: {self.problem}: {shown(self.value)}; expected {self.expected}"


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

    def _describe(self) -> str:
        first, second = self.positions
        return (
            f"task_ids: the same task id at positions {first} and {second} (counted from 0): {shown(self.task_id)}; "
            f"expected each task id once, since equal task ids have one doc id"
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

    def _describe(self) -> str:
        return f"{self.field}: {self.problem}"


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

    def _describe(self) -> str:
        return (
            f"{self.stage}/{self.doc_id} is taken by another lineage: {self.location} holds "
            f"task_id={shown(self.stored_task_id)}, parent_doc_id={self.stored_parent_doc_id!r}; this is "
            f"task_id={shown(self.task_id)}, parent_doc_id={self.parent_doc_id!r}. Nothing was written; reserve "
            f"another id for this row (a salt gives one)"
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

    def _describe(self) -> str:
        names = ", ".join(self.parts)
        if self.parts == self.missing_parts:
            wrong, remedy = f"without {names}", f"store.add_part({self.stage!r}, {self.doc_id!r}, …) completes it"
        else:
            wrong = f"and differs in {names}"
            remedy = "write(…, if_exists='keep') leaves the stored one, if_exists='replace' puts it into history"
        where = f"{self.stage}/{self.doc_id}{name_task(self.task_id)} is already at {self.location}"
        return f"{where} {wrong}. Nothing was written; {remedy}"


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
    found_in: tuple[str, ...] = ()

    def _describe(self) -> str:
        if self.parent_doc_id is None:
            wrong = f"has no parent_doc_id; expected the doc id of a document of stage {self.parent_stage!r}"
        else:
            wrong = f"names the parent {self.parent_stage}/{self.parent_doc_id}, which is not in the store"
        if self.found_in:
            wrong += f" (that id is a document of stage {', '.join(self.found_in)}, which is not the parent's stage)"
        return (
            f"{self.stage}/{self.doc_id}{name_task(self.task_id)} {wrong}. Nothing was written; "
            f"write the parent first, or pass require_parent=False"
        )


class DocumentNotFound(_StoredDocumentError, LookupError):
    """No document of that stage and id is in the store.

    Attributes:
        stage, doc_id: what was asked for.
        location: where it would be.
        found_in: the other stages that hold a document of that id.
        wanted_by: what names the document, if docid looked for it by itself.

    Example:
        >>> from docid import DocsStore, Document
        >>> store = DocsStore("memory://")
        >>> _ = store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="once"))
        >>> store.read("essay", "d1")
        Traceback (most recent call last):
        docid.errors.DocumentNotFound: essay/d1 is not in the store: ...; that id is in stage draft
    """

    found_in: tuple[str, ...] = ()
    wanted_by: str = ""

    def _describe(self) -> str:
        hint = f"; that id is in stage {', '.join(self.found_in)}" if self.found_in else ""
        hint += f"; {self.wanted_by} names it" if self.wanted_by else ""
        return f"{self.stage}/{self.doc_id} is not in the store: nothing at {self.location}{hint}"


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
    remedy: str = ""
    task_id: str | None = None
    code: str = "unreadable-record"
    repairable: bool = False

    def _describe(self) -> str:
        if not self.remedy:
            self.repairable = True
            self.remedy = "see what 'docid repair' plans for it; nothing was changed"
        name = f"{self.stage}/{self.doc_id}" if self.doc_id else f"stage {self.stage!r}"
        return f"{name}{name_task(self.task_id)} at {self.location} cannot be used: {self.problem}; {self.remedy}"


class DocumentBusy(_StoredDocumentError):
    """Other writers changed the document at every try of this write, so docid gave up. Nothing of it was written.

    Nothing is wrong with the document; the same write may succeed later.

    Attributes:
        stage, doc_id, task_id: the document; `task_id` is None where that is not known.
        location: where it is.

    Example:
        >>> print(DocumentBusy("draft", "d1", "docs/draft/d1", "t-1"))
        draft/d1 (task_id='t-1') at docs/draft/d1 was not written: others changed it each time it was tried; try again
    """

    task_id: str | None

    def _describe(self) -> str:
        where = f"{self.stage}/{self.doc_id}{name_task(self.task_id)} at {self.location}"
        return f"{where} was not written: others changed it each time it was tried; try again"


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

    def _describe(self) -> str:
        return (
            f"{self.stage}/{self.doc_id} was written to {self.location}, but what has to follow failed "
            f"({self.problem}): it is there and whole, and may be gone after a power cut; look at the disk (writing it "
            f"again finds it, and syncs nothing)"
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
    refused: bool = False

    def _describe(self) -> str:
        return f"cannot {self.action} {self.location}: {self.problem}; {self.remedy}"


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

    problems: Sequence[Problem]
    count: int = 0

    def _describe(self) -> str:
        self.problems = tuple(self.problems)
        self.count = self.count or len(self.problems)
        lines = [str(problem) for problem in self.problems[:LISTED]]
        if self.count > LISTED:
            lines.append(f"… and {self.count - LISTED} more")
        return lines[0] if self.count == 1 else "\n  ".join([f"{self.count} problems:", *lines])

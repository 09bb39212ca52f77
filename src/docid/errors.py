"""The errors that docid raises on purpose.

Each is a `DocidError`, mixed with `ValueError`, `LookupError` or `OSError` where that is natural. The message is for
people; the same facts are attributes, for programs. All of them pickle, for worker pools. Besides these docid raises
`TypeError` and `ValueError` for a wrong argument, and the `OSError` of the file system, with the path and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, dataclass_transform

from docid._text import name_task, quote

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
        >>> issubclass(InvalidName, DocidError), issubclass(InvalidName, ValueError)
        (True, True)
    """

    _facts: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._facts = (*cls._facts, *(name for name in cls.__annotations__ if name not in cls._facts))

    def __init__(self, *values: object, **facts: object) -> None:
        if not self._facts:  # the base itself, or a subclass with a text alone
            super().__init__(*values)
            return
        if len(values) > len(self._facts) or not facts.keys() <= set(self._facts):
            raise TypeError(f"{type(self).__name__}: expected the facts {', '.join(self._facts)}")
        self.__dict__.update(zip(self._facts, values, strict=False), **facts)
        super().__init__(self._describe())

    def _describe(self) -> str:
        """Return the message: what is wrong, where, what was expected, what to do."""
        return ""

    def __reduce__(self) -> tuple[Callable[..., DocidError], tuple[object, ...]]:
        # The default would call the class with the message alone; it is called with facts.
        return _rebuild, (type(self), self.args, self.__dict__)


class InvalidName(DocidError, ValueError):
    """A text that may not be used as a stage, a doc id, a task id, a run id or a salt.

    Attributes:
        argument: which argument it was given for.
        value: the text itself.
        problem, expected: what is wrong with it, and what would be right.

    Example:
        >>> print(InvalidName("task_id", "", "empty", "some text"))
        task_id: empty: ''; expected some text
    """

    argument: str
    value: object
    problem: str
    expected: str

    def _describe(self) -> str:
        return f"{self.argument}: {self.problem}: {quote(self.value)}; expected {self.expected}"


class DuplicateTaskId(DocidError, ValueError):
    """One task id given twice, where each stands for a document of its own.

    Attributes:
        task_id, positions: the task id, and its first two positions, counted from 0.

    Example:
        >>> print(DuplicateTaskId("t-1", (0, 2)))
        task_ids: the same task id at positions 0 and 2 (counted from 0): 't-1'; expected each task id once, ...
    """

    task_id: str
    positions: tuple[int, int]

    def _describe(self) -> str:
        first, second = self.positions
        return (
            f"task_ids: the same task id at positions {first} and {second} (counted from 0): {quote(self.task_id)}; "
            f"expected each task id once, since equal task ids have one doc id"
        )


class InvalidDocument(DocidError, ValueError):
    """A `Document` that cannot be made or stored as it was given.

    Attributes:
        field: which field of the document, with the path into metadata (`metadata.usage.cost`).
        problem: what is wrong with it, and what would be right.

    Example:
        >>> print(InvalidDocument("created_at", "2026-01-31T12:00:00 has no time zone; expected one, such as UTC"))
        created_at: 2026-01-31T12:00:00 has no time zone; expected one, such as UTC
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

    No policy overwrites it. Give the new row an id of its own (`reserve_doc_id(…, salt=…)`).

    Attributes:
        stage, doc_id, task_id, parent_doc_id: of the document that was to be written.
        stored_task_id, stored_parent_doc_id: of the document that holds the id.
        location: where that document is.

    Example:
        >>> print(LineageConflict("draft", "d1", "docs/draft/d1", "t-2", None, "t-1", None))
        draft/d1 is taken by another lineage: docs/draft/d1 holds task_id='t-1', parent_doc_id=None; this is ...
    """

    task_id: str | None
    parent_doc_id: str | None
    stored_task_id: str | None
    stored_parent_doc_id: str | None

    def _describe(self) -> str:
        return (
            f"{self.stage}/{self.doc_id} is taken by another lineage: {self.location} holds "
            f"task_id={quote(self.stored_task_id)}, parent_doc_id={self.stored_parent_doc_id!r}; this is "
            f"task_id={quote(self.task_id)}, parent_doc_id={self.parent_doc_id!r}. Nothing was written; reserve "
            f"another id for this row (a salt gives one)"
        )


class ContentConflict(_StoredDocumentError):
    """The id holds a document of the same lineage with other text, and the policy was to fail.

    Attributes:
        stage, doc_id, location, task_id: the stored document, and where it is.
        parts: the parts that differ (`raw`, `parsed`, `prompt`).
        missing_parts: the parts that it lacks; where these are all that differs, `add_part` adds them.

    Example:
        >>> print(ContentConflict("draft", "d1", "docs/draft/d1", "t-1", ("raw",), ()))
        draft/d1 (task_id='t-1') is already at docs/draft/d1 and differs in raw. Nothing was written; ...
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
        >>> print(MissingParent("essay", "e1", "t-1", "draft", "d1"))
        essay/e1 (task_id='t-1') names the parent draft/d1, which is not in the store. Nothing was written; ...
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
        stage, doc_id, location: what was asked for, and where it would be.
        found_in: the other stages that hold a document of that id.
        wanted_by: what names the document, if docid looked for it by itself.

    Example:
        >>> print(DocumentNotFound("essay", "d1", "docs/essay/d1", ("draft",)))
        essay/d1 is not in the store: nothing at docs/essay/d1; that id is in stage draft
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
        stage, doc_id, location: the document, and where it is.
        problem: what was found.
        remedy: what to do about it.
        task_id: the task it answers; None where no record says it.
        code: the code of the finding that `DocsStore.scan` makes of it.
        repairable: whether `docid repair` can move it to quarantine.

    Example:
        >>> print(UnreadableDocument("draft", "d1", "docs/draft/d1", "there is no raw.txt", task_id="t-1"))
        draft/d1 (task_id='t-1') at docs/draft/d1 cannot be used: there is no raw.txt; see what 'docid repair' ...
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

    Attributes:
        stage, doc_id, location, task_id: the document, and where it is; `task_id` is None where that is not known.

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

    Attributes:
        stage, doc_id, location: the document, and where it is.
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

    Where a write fails so, the document is there whole or not at all.

    Attributes:
        action, location: what was to be done (`read`, `write`, `list`, `delete`, `use`), and where.
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
        row: the row as a spreadsheet numbers it, the header being row 1; for rows of no file, the position counted
            from 1; None for the table as a whole.
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
        place = " ".join(filter(None, [self.file, "" if self.row is None else f"row {self.row}"]))
        column = "" if self.column is None else f"column {self.column or 'without a name'}"
        where = ", ".join(filter(None, [place, column]))
        found = f"{quote(self.value)}; " if self.value else ""
        return f"{where}: {found}{self.expected}" if where else found + self.expected


class TaskTableError(DocidError, ValueError):
    """A task table with faults, all of them reported together.

    Attributes:
        problems: the first 1,000 faults, as `Problem`.
        count: how many there are in all.

    Example:
        >>> print(TaskTableError([Problem("draft_tasks.csv", 12, "doc_id", "", "missing")]))
        draft_tasks.csv row 12, column doc_id: missing
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

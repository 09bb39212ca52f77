"""The exceptions that docid raises.

Each one derives from `DocidError`, and from `ValueError`, `LookupError` or `OSError` if one of them fits. The message
is for people; its facts are also attributes. All exceptions pickle, so they cross process pools. docid also raises
`TypeError` and `ValueError` for a wrong argument, and the `OSError` of the file system, with the path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast, dataclass_transform

from docid._text import format_count, name_task, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "ContentConflict",
    "ConvertedError",
    "DocidError",
    "DocumentBusy",
    "DocumentChanged",
    "DocumentClaimed",
    "DocumentNotFound",
    "DuplicateTaskId",
    "DurabilityUnknown",
    "HasChildren",
    "InvalidDocument",
    "InvalidName",
    "InvalidReply",
    "LineageConflict",
    "MissingParent",
    "Problem",
    "ReplyRescued",
    "StagesConflict",
    "StoreUnavailable",
    "TaskTableError",
    "TooManyFailures",
    "UnreadableDocument",
    "UnreadableManifest",
]


def describe_error(error: BaseException) -> str:
    """Return the type and text of an exception, for a message; only the type if its text cannot be made."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - of the exception's own __str__
        return type(error).__name__


def copy_error(error: BaseException) -> BaseException:
    """Return a copy of an error that several rows share, so that each can name its own reply; else the error."""
    try:
        # Not copy.copy: for exceptions, tblib (a requirement of Dask) replaces it by a function that fails for some.
        make, arguments, *state = cast("tuple[Any, ...]", error.__reduce__())
        copied = make(*arguments)
        copied.__setstate__(state[0] if state else None)
        if (notes := getattr(error, "__notes__", None)) is not None:
            copied.__notes__ = list(notes)
    except Exception:  # noqa: BLE001 - of the exception's own class
        return error
    return copied if isinstance(copied, BaseException) else error


LISTED = 10  # a message lists at most this many faults


def _rebuild(cls: type[DocidError], args: tuple[object, ...], facts: dict[str, Any]) -> DocidError:
    error = cls.__new__(cls, *args)
    error.args = args  # OSError sets its args in its own __init__
    error.__dict__.update(facts)
    return error


@dataclass_transform(eq_default=False)
class DocidError(Exception):
    """The base class of docid's exceptions: `except DocidError` catches all of them and nothing else.

    A subclass declares its facts as annotated attributes, with optional defaults, and builds its message from them.
    Call it like a dataclass: with the facts in order, or by keyword.

    Example:
        >>> issubclass(InvalidName, DocidError), issubclass(InvalidName, ValueError)
        (True, True)
    """

    _facts: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._facts = (*cls._facts, *(name for name in cls.__annotations__ if name not in cls._facts))

    def __init__(self, *values: object, **facts: object) -> None:
        if not self._facts:  # DocidError itself, or a subclass that takes only a text
            super().__init__(*values)
            return
        if len(values) > len(self._facts) or not facts.keys() <= set(self._facts):
            raise TypeError(f"{type(self).__name__}: expected the facts {', '.join(self._facts)}")
        self.__dict__.update(zip(self._facts, values, strict=False), **facts)
        super().__init__(self._describe())

    def _describe(self) -> str:
        """Return the message: the fault and its place, the expected value, and a remedy."""
        return ""

    def __reduce__(self) -> tuple[Callable[..., DocidError], tuple[object, ...]]:
        # Exception.__reduce__ would call the class with the message, but the class takes facts.
        return _rebuild, (type(self), self.args, self.__dict__)


class InvalidName(DocidError, ValueError):
    """A text is not a valid stage, doc id, task id, run id or salt.

    Attributes:
        argument: the argument that received the text.
        value: the text.
        problem, expected: the fault, and a description of valid texts.

    Example:
        >>> print(InvalidName("task_id", "", "empty", "some text"))
        task_id '': empty; expected some text
    """

    argument: str
    value: object
    problem: str
    expected: str

    def _describe(self) -> str:
        return f"{self.argument} {quote(self.value)}: {self.problem}; expected {self.expected}"


class DuplicateTaskId(DocidError, ValueError):
    """A task id appears twice in a list that needs one document per task.

    Attributes:
        task_id, positions: the task id and its first two positions, counted from 0.

    Example:
        >>> print(DuplicateTaskId("t-1", (0, 2)))
        task_ids: 't-1' appears at positions 0 and 2 (counted from 0); expected each task id once, ...
    """

    task_id: str
    positions: tuple[int, int]

    def _describe(self) -> str:
        first, second = self.positions
        return (
            f"task_ids: {quote(self.task_id)} appears at positions {first} and {second} (counted from 0); "
            f"expected each task id once, because equal task ids get the same doc id"
        )


class InvalidDocument(DocidError, ValueError):
    """A `Document` has an invalid field, or cannot be stored.

    Attributes:
        field: the field of the document; inside metadata, its path (`metadata.usage.cost`).
        problem: the fault, and the expected value.

    Example:
        >>> print(InvalidDocument("created_at", "2026-01-31T12:00:00 has no time zone; expected one, such as UTC"))
        created_at: 2026-01-31T12:00:00 has no time zone; expected one, such as UTC
    """

    field: str
    problem: str

    def _describe(self) -> str:
        return f"{self.field}: {self.problem}"


class _StoredDocumentError(DocidError):
    """The base class of errors about one document of a store: its name and its location."""

    stage: str
    doc_id: str
    location: str


class LineageConflict(_StoredDocumentError):
    """The id belongs to a document of another lineage: another task id, another parent or other inputs.

    docid never overwrites another lineage. Give the new row its own id: `reserve_doc_id(…, salt=…)`.

    Attributes:
        stage, doc_id, task_id, parent_doc_id, inputs: the new document.
        stored_task_id, stored_parent_doc_id, stored_inputs: the lineage of the stored document.
        location: where the stored document is.

    Example:
        >>> print(LineageConflict("draft", "d1", "docs/draft/d1", "t-2", None, "t-1", None))
        draft/d1 (task_id='t-2', parent_doc_id=None) was not written: docs/draft/d1 holds another document ...
    """

    task_id: str | None
    parent_doc_id: str | None
    stored_task_id: str | None
    stored_parent_doc_id: str | None
    inputs: tuple[str, ...] = ()
    stored_inputs: tuple[str, ...] = ()

    def _describe(self) -> str:
        own, stored = "", ""
        if self.inputs != self.stored_inputs:
            own, stored = (f", inputs={quote(' '.join(each))}" for each in (self.inputs, self.stored_inputs))
        return (
            f"{self.stage}/{self.doc_id} (task_id={quote(self.task_id)}, parent_doc_id={self.parent_doc_id!r}{own}) "
            f"was not written: {self.location} holds another document (task_id={quote(self.stored_task_id)}, "
            f"parent_doc_id={self.stored_parent_doc_id!r}{stored}); correct the row, or empty its doc_id, set its "
            f"doc_salt and reserve it again"
        )


class ContentConflict(_StoredDocumentError):
    """The store has a document of the same lineage with other text, and `if_exists` is `fail`.

    Attributes:
        stage, doc_id, location, task_id: the stored document and its location.
        parts: the parts that differ (`raw`, `parsed`, `prompt`).
        missing_parts: the parts that the stored document lacks. If no other part differs, `add_part` adds them.

    Example:
        >>> print(ContentConflict("draft", "d1", "docs/draft/d1", "t-1", ("raw",), ()))
        draft/d1 (task_id='t-1') was not written: docs/draft/d1 has other raw text; if_exists='keep' keeps ...
    """

    task_id: str | None
    parts: tuple[str, ...]
    missing_parts: tuple[str, ...]

    def _describe(self) -> str:
        *others, last = self.parts
        names = f"{', '.join(others)} and {last} texts" if others else f"{last} text"
        if self.parts == self.missing_parts:
            wrong, remedy = f"has no {names}", f"store.add_part({self.stage!r}, {self.doc_id!r}, …) adds it"
        else:
            wrong = f"has other {names}"
            remedy = "if_exists='keep' keeps the stored document, if_exists='replace' moves it to history"
        name = f"{self.stage}/{self.doc_id}{name_task(self.task_id)}"
        return f"{name} was not written: {self.location} {wrong}; {remedy}"


class MissingParent(DocidError, LookupError):
    """The parent of a document, or one of its inputs, is not in the store.

    Attributes:
        stage, doc_id, task_id: the document that was not written.
        parent_stage, parent_doc_id: its parent, or the input; `parent_doc_id` may be None.
        found_in: the other stages that have a document with the parent's id.
        is_input: whether it is an input, not the parent.

    Example:
        >>> print(MissingParent("essay", "e1", "t-1", "draft", "d1"))
        essay/e1 (task_id='t-1') was not written: its parent draft/d1 is not in the store; write the parent first, ...
    """

    stage: str
    doc_id: str
    task_id: str
    parent_stage: str
    parent_doc_id: str | None
    found_in: tuple[str, ...] = ()
    is_input: bool = False

    def _describe(self) -> str:
        parent = f"{self.parent_stage}/{self.parent_doc_id}"
        role, cell = ("input", "input_doc_ids") if self.is_input else ("parent", "parent_doc_id")
        if self.parent_doc_id is None:
            wrong = "it has no parent_doc_id"
            remedy = "reserve the row with the table of its parents, or pass require_parent=False"
        elif self.found_in:
            wrong = f"{parent} is not in the store; the id {self.parent_doc_id} is in stage {', '.join(self.found_in)}"
            remedy = f"set {cell} to a document of stage {self.parent_stage}"
        else:
            wrong = f"its {role} {parent} is not in the store"
            remedy = f"write the {role} first, or pass require_parent=False"
        return f"{self.stage}/{self.doc_id}{name_task(self.task_id)} was not written: {wrong}; {remedy}"


class DocumentNotFound(_StoredDocumentError, LookupError):
    """The store has no document with this stage and id.

    Attributes:
        stage, doc_id, location: the document, and where docid expected it.
        found_in: the other stages that have a document with this id.
        wanted_by: the reference that names the document, if you did not ask for it directly.

    Example:
        >>> print(DocumentNotFound("essay", "d1", "docs/essay/d1", ("draft",)))
        essay/d1 is not in the store: no document at docs/essay/d1; that id is in stage draft
    """

    found_in: tuple[str, ...] = ()
    wanted_by: str = ""

    def _describe(self) -> str:
        hint = f"; that id is in stage {', '.join(self.found_in)}" if self.found_in else ""
        hint += f"; {self.wanted_by} names it" if self.wanted_by else ""
        return f"{self.stage}/{self.doc_id} is not in the store: no document at {self.location}{hint}"


class UnreadableDocument(_StoredDocumentError):
    """A stored document is incomplete, damaged or in a format that this docid cannot use.

    Attributes:
        stage, doc_id, location: the document and its location.
        problem: the fault.
        remedy: what to do about it.
        task_id: its task; None if the record does not name one.
        code: the code of the finding that `DocsStore.scan` reports for it.
        repairable: whether `docid repair` can move it to quarantine.

    Example:
        >>> print(UnreadableDocument("draft", "d1", "docs/draft/d1", "raw.txt is missing", task_id="t-1"))
        draft/d1 (task_id='t-1') at docs/draft/d1 cannot be used: raw.txt is missing; run 'docid repair' to see ...
    """

    problem: str
    remedy: str = ""
    task_id: str | None = None
    code: str = "unreadable-record"
    repairable: bool = False

    def _describe(self) -> str:
        if not self.remedy:
            self.repairable = True
            self.remedy = "run 'docid repair' to see a repair plan"
        name = f"{self.stage}/{self.doc_id}" if self.doc_id else f"stage {self.stage!r}"
        return f"{name}{name_task(self.task_id)} at {self.location} cannot be used: {self.problem}; {self.remedy}"


class DocumentBusy(_StoredDocumentError):
    """Other writers changed the document at every attempt, so docid gave up and wrote nothing.

    Attributes:
        stage, doc_id, location, task_id: the document and its location; `task_id` may be None.

    Example:
        >>> print(DocumentBusy("draft", "d1", "docs/draft/d1", "t-1"))
        draft/d1 (task_id='t-1') at docs/draft/d1 was not written: other writers changed it at every attempt; try again
    """

    task_id: str | None

    def _describe(self) -> str:
        where = f"{self.stage}/{self.doc_id}{name_task(self.task_id)} at {self.location}"
        return f"{where} was not written: other writers changed it at every attempt; try again"


class DocumentClaimed(_StoredDocumentError):
    """Another worker is making the document now, so docid made no call.

    Attributes:
        stage, doc_id, location, task_id: the document and its location.
        holder: who holds the claim.
        remedy: what to do.
        action: the action that was refused: `made`, `removed` or `erased`.

    Example:
        >>> print(DocumentClaimed("essay", "e1", "docs/essay/e1", "t-1", "process 12 on node-3 since 09:00"))
        essay/e1 (task_id='t-1') was not made: process 12 on node-3 since 09:00 holds its claim; try again later, or ...
    """

    task_id: str | None
    holder: str
    remedy: str = "try again later, or pass a longer claim_timeout"
    action: str = "made"

    def _describe(self) -> str:
        name = f"{self.stage}/{self.doc_id}{name_task(self.task_id)}"
        return f"{name} was not {self.action}: {self.holder} holds its claim; {self.remedy}"


class HasChildren(_StoredDocumentError):
    """Other documents were made from this one, so docid did not remove it: they would lack their parent or input.

    Attributes:
        stage, doc_id, location, task_id: the document and its location.
        children: the documents that were made from it, each as `STAGE/ID`.
        action: the action that was refused: `remove` or `erase`.
        is_tried: whether the children were to be removed, too, and could not be.

    Example:
        >>> print(HasChildren("draft", "d1", "docs/draft/d1", "t-1", ("essay/e1", "essay/e2")))
        draft/d1 (task_id='t-1') was not removed: 2 documents were made from it: essay/e1, essay/e2; remove ...
    """

    task_id: str | None
    children: tuple[str, ...]
    action: str = "remove"
    is_tried: bool = False

    def _describe(self) -> str:
        count, name = len(self.children), f"{self.stage}/{self.doc_id}"
        verb, them = ("was", "it") if count == 1 else ("were", "them")
        some = ", ".join(self.children[:LISTED]) + (", …" if count > LISTED else "")
        refused = f"{name}{name_task(self.task_id)} was not {self.action}d"
        if self.is_tried:
            stays = "that was made from it stays" if count == 1 else "that were made from it stay"
            return f"{refused}: {format_count(count, 'document')} {stays}: {some}"
        quotes = " and may quote it" if self.action == "erase" else ""
        remedy = f"{self.action} {them} too: descendants=True, or 'docid {self.action} {name} --descendants'"
        return f"{refused}: {format_count(count, 'document')} {verb} made from it{quotes}: {some}; {remedy}"


class DocumentChanged(_StoredDocumentError):
    """A stored document was made from another prompt, metadata, parent or input than now, and `if_changed` is `fail`.

    Attributes:
        stage, doc_id, location, task_id: the stored document and its location.
        changed: what changed: `parent` or `input.STAGE/ID` (another version is in the store now), `prompt`, or
            `metadata.KEY`.

    Example:
        >>> print(DocumentChanged("essay", "e1", "docs/essay/e1", "t-1", ("prompt",)))
        essay/e1 (task_id='t-1') at docs/essay/e1 was made from another prompt; if_changed='replace' makes it again ...
    """

    task_id: str | None
    changed: tuple[str, ...]

    def _describe(self) -> str:
        name = f"{self.stage}/{self.doc_id}{name_task(self.task_id)}"
        kinds = [f"version of its {each}" if each.startswith(("parent", "input.")) else each for each in self.changed]
        return (
            f"{name} at {self.location} was made from another {', another '.join(kinds)}; if_changed='replace' "
            f"makes it again, if_changed='ignore' keeps it"
        )


class InvalidReply(DocidError, TypeError):
    """The `make` of an `ensure` returned neither a text nor a `Reply` nor a `Document`.

    Attributes:
        stage, doc_id, task_id: the row.
        returned: the type of what it returned.

    Example:
        >>> print(InvalidReply("essay", "e1", "t-1", "bytes"))
        essay/e1 (task_id='t-1') was not written: make() returned bytes; expected the model's text (a str), a Reply, ...
    """

    stage: str
    doc_id: str
    task_id: str
    returned: str

    def _describe(self) -> str:
        return (
            f"{self.stage}/{self.doc_id}{name_task(self.task_id)} was not written: make() returned {self.returned}; "
            f"expected the model's text (a str), a Reply, or a Document of this row"
        )


class ReplyRescued(_StoredDocumentError):
    """An earlier call was paid for, but its reply could not be stored. docid does not pay again until you decide.

    Attributes:
        stage, doc_id, location, task_id: the document, which does not exist.
        rescued: the locations of the rescue files, the latest first.

    Example:
        >>> print(ReplyRescued("essay", "e1", "docs/essay/e1", "t-1", ("docs/.docid/rescued/essay/e1-x.json",)))
        essay/e1 (task_id='t-1') was not made: an earlier reply waits in docs/.docid/rescued/essay/e1-x.json; run ...
    """

    task_id: str | None
    rescued: tuple[str, ...]

    def _describe(self) -> str:
        name, file = f"{self.stage}/{self.doc_id}{name_task(self.task_id)}", self.rescued[0]
        return (
            f"{name} was not made: an earlier reply waits in {file}; run 'docid rescued' to list such replies, and "
            f"store it with --adopt or delete it with --discard"
        )


class DurabilityUnknown(_StoredDocumentError):
    """The document was written completely, but it may not survive a power failure: the file system reported an error.

    Attributes:
        stage, doc_id, location: the document and its location.
        problem: the error of the file system.

    Example:
        >>> print(DurabilityUnknown("draft", "d1", "docs/draft/d1", "[Errno 5] Input/output error"))
        draft/d1 is complete at docs/draft/d1, but a power failure may lose it, because a later step failed ...
    """

    problem: str

    def _describe(self) -> str:
        return (
            f"{self.stage}/{self.doc_id} is complete at {self.location}, but a power failure may lose it, because a "
            f"later step failed ({self.problem}); check the disk, and copy the store. Writing it again does not sync it"
        )


class StoreUnavailable(DocidError, OSError):
    """An object store did not do what docid asked: a network, credentials or quota error, not a damaged document.

    A failed write is complete or absent, never partial.

    Attributes:
        action, location: what docid tried (`read`, `write`, `list`, `delete`, `use`), and where.
        problem: the fault. It includes only the status and code of the service's answer: the rest may hold secrets.
        remedy: what to do.
        refused: True if the service refused the request and did nothing; False if its answer may have been lost.

    Example:
        >>> print(StoreUnavailable("read", "s3://docs/draft/d1.json", "the connection was lost", "check the network"))
        cannot read s3://docs/draft/d1.json: the connection was lost; check the network
    """

    action: str
    location: str
    problem: str
    remedy: str
    refused: bool = False

    def _describe(self) -> str:
        return f"cannot {self.action} {self.location}: {self.problem}; {self.remedy}"


class StagesConflict(DocidError, ValueError):
    """The manifest of a store has another parent for a stage than the stages that you passed.

    docid writes nothing then, and `ensure` makes no call.

    Attributes:
        location: the manifest.
        stage: the stage.
        stored_parent, parent: its parent in the manifest, and in your stages; None if it has no parent there.

    Example:
        >>> print(StagesConflict("docs/.docid/store.json", "essay", "draft", None))
        stage essay: its parent is draft in docs/.docid/store.json, but you declare no parent; pass the same stages, \
or use another store
    """

    location: str
    stage: str
    stored_parent: str | None
    parent: str | None

    def _describe(self) -> str:
        stored, given = (each or "no parent" for each in (self.stored_parent, self.parent))
        return (
            f"stage {self.stage}: its parent is {stored} in {self.location}, but you declare {given}; "
            "pass the same stages, or use another store"
        )


class UnreadableManifest(DocidError):
    """The manifest of a store is damaged, or a later release of docid wrote it. Pass `stages` to work without it.

    Attributes:
        location: the manifest.
        problem: the fault.
        is_later: whether a later release wrote it.

    Example:
        >>> print(UnreadableManifest("docs/.docid/store.json", "its format is docid/store/2", is_later=True))
        docs/.docid/store.json: its format is docid/store/2; upgrade docid, or pass stages=… or --stages
    """

    location: str
    problem: str
    is_later: bool = False

    def _describe(self) -> str:
        remedy = "upgrade docid" if self.is_later else "replace it with 'docid stages --declare LIST'"
        return f"{self.location}: {self.problem}; {remedy}, or pass stages=… or --stages"


class TooManyFailures(DocidError):
    """Many rows failed one after the other, so `ensure_many` made no more calls. The last error is its cause.

    Attributes:
        count: how many rows failed in a row.
        last: the text of the last error.

    Example:
        >>> print(TooManyFailures(20, "AuthenticationError: the key was revoked"))
        20 rows in a row failed, so no more calls were made; the last: AuthenticationError: the key was revoked; ...
    """

    count: int
    last: str

    def _describe(self) -> str:
        return (
            f"{self.count:,} rows in a row failed, so no more calls were made; the last: {self.last}; correct the "
            f"cause and run again, or pass stop_after=None"
        )


class ConvertedError(DocidError):
    """An exception that does not pickle, in a form that does: that of a row in a result that another process made.

    Attributes:
        kind, text: the type of the exception, and its text.

    Example:
        >>> print(ConvertedError("APIStatusError", "Error code: 529"))
        APIStatusError: Error code: 529
    """

    kind: str
    text: str

    def _describe(self) -> str:
        return f"{self.kind}: {self.text}"


class Problem(NamedTuple):
    """One fault in a task table.

    Attributes:
        file: the path of the table as you gave it; empty for rows that do not come from a file.
        row: the row number as in a spreadsheet: the header is row 1. For rows that do not come from a file, the
            position counted from 1. None if the fault concerns the whole table.
        column: the column; None if the fault concerns the whole row.
        value: the text of the cell.
        expected: the fault, and the expected value.
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
    """A task table has faults. docid reports all of them together.

    Attributes:
        problems: the first 1,000 faults, as `Problem`.
        count: the number of all faults.

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
            lines.append(f"… and {self.count - LISTED:,} more")
        return lines[0] if self.count == 1 else "\n  ".join([f"{format_count(self.count, 'problem')}:", *lines])

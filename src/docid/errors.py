"""Every error that docid raises on purpose.

Each is a `DocidError`, mixed with `ValueError` or `LookupError` where that is natural. The message is for
people; the same facts stand on attributes, for programs. All of them pickle, because worker pools send
errors between processes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple
from unicodedata import is_normalized

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from docid.core.outcomes import WriteResult

__all__ = [
    "BatchError",
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


def shown(value: object, limit: int = 80) -> str:
    """`repr(value)`, cut in the middle to `limit` characters, for a message that has to stay one line.

    Escaped where it is not in NFC: it looks like the text that is.
    """
    text = repr(value)
    if not is_normalized("NFC", text):
        text = ascii(value)
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[-limit // 3 :]} ({len(text)} characters)"


def visible(text: str, keep: str = "") -> str:
    r"""Return a name for people: what would steer a terminal, or turn the order of characters, as its escape.

    Args:
        text: the name.
        keep: such characters that stay as they are all the same.

    Example:
        >>> print(visible("essay \u202e txt"))
        essay \u202e txt
    """
    return re.sub(_STEERING, lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)


def utf8(text: str) -> str:
    r"""Return a text that UTF-8 can hold: half a surrogate pair, of an older record or of a name's odd bytes, escaped.

    Example:
        >>> print(utf8("half \ud800"))
        half \ud800
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


_STEERING = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"


def _rebuild(cls: type[DocidError], args: tuple[object, ...], facts: dict[str, Any]) -> DocidError:
    error = cls.__new__(cls, *args)
    error.args = args  # an OSError's come from its own __init__
    error.__dict__.update(facts)
    return error


class DocidError(Exception):
    """The base of all errors of docid: `except DocidError` catches them and nothing else.

    Example:
        >>> from docid import reserve_doc_id
        >>> try:
        ...     reserve_doc_id("draft", "")
        ... except DocidError as error:
        ...     print(error)
        task_id: empty: ''; expected some text
    """

    def __reduce__(self) -> tuple[Callable[..., DocidError], tuple[object, ...]]:
        # The default would call the class with the message alone, and the classes below take keywords.
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

    def __init__(self, argument: str, value: object, problem: str, expected: str) -> None:
        super().__init__(f"{argument}: {problem}: {shown(value)}; expected {expected}")
        self.argument = argument
        self.value = value
        self.problem = problem
        self.expected = expected


class DuplicateTaskId(DocidError, ValueError):
    """One task id given twice, where each stands for a document of its own.

    Attributes:
        task_id: the task id.
        positions: where it was met first and again, counted from 0.

    Example:
        >>> from docid import reserve_doc_ids
        >>> reserve_doc_ids("draft", ["t-1", "t-2", "t-1"])
        Traceback (most recent call last):
        docid.errors.DuplicateTaskId: task_ids: the same task id at positions 0 and 2 (counted from 0): 't-1'; ...
    """

    def __init__(self, task_id: str, positions: tuple[int, int]) -> None:
        super().__init__(
            f"task_ids: the same task id at positions {positions[0]} and {positions[1]} (counted from 0): "
            f"{shown(task_id)}; expected each task id once, since equal task ids have one doc id"
        )
        self.task_id = task_id
        self.positions = positions


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

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class LineageConflict(DocidError):
    """The id is taken by a document of another lineage: another task id or another parent.

    No policy writes over it. Either two rows carry one doc id (a copied row), or a row's parent changed after
    its id was reserved: give the new row an id of its own (`reserve_doc_id(…, salt=…)`).

    Attributes:
        stage, doc_id, task_id, parent_doc_id: of the document that was to be written.
        stored_task_id, stored_parent_doc_id: of the document that holds the id.
        location: where that document is.

    Example:
        >>> from docid import DocsStore, Document
        >>> from docid.backends import MemoryBackend
        >>> store = DocsStore(MemoryBackend())
        >>> draft = Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="once")
        >>> _ = store.write(draft)
        >>> store.write(Document(stage="draft", doc_id="d1", task_id="t-2", raw_text="once"))
        Traceback (most recent call last):
        docid.errors.LineageConflict: draft/d1 is taken by another lineage: memory:/draft/d1 holds task_id='t-1', ...
    """

    def __init__(  # keyword-only facts, all of them needed
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
            f"(a salt gives one)"
        )
        self.stage = stage
        self.doc_id = doc_id
        self.task_id = task_id
        self.parent_doc_id = parent_doc_id
        self.stored_task_id = stored_task_id
        self.stored_parent_doc_id = stored_parent_doc_id
        self.location = location


class ContentConflict(DocidError):
    """The id holds a document of the same lineage with other text, and the policy was to fail.

    Attributes:
        stage, doc_id, task_id: the document.
        parts: the parts that differ (`raw`, `parsed`, `prompt`).
        missing_parts: the parts that only lack in the stored document; `add_part` completes it where these
            are all that differs.
        location: where the stored document is.

    Example:
        >>> from docid import DocsStore, Document
        >>> from docid.backends import MemoryBackend
        >>> store = DocsStore(MemoryBackend())
        >>> draft = Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="once")
        >>> _ = store.write(draft)
        >>> store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="twice"))
        Traceback (most recent call last):
        docid.errors.ContentConflict: draft/d1 (task_id='t-1') is already at memory:/draft/d1 and differs ...
    """

    def __init__(  # keyword-only facts, all of them needed
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
            f"{stage}/{doc_id} (task_id={shown(task_id)}) is already at {location} {wrong}. "
            f"Nothing was written; {remedy}"
        )
        self.stage = stage
        self.doc_id = doc_id
        self.task_id = task_id
        self.parts = parts
        self.missing_parts = missing_parts
        self.location = location


class MissingParent(DocidError, LookupError):
    """The parent that a document names is not in the store under the parent's stage.

    Attributes:
        stage, doc_id, task_id: the document that was to be written.
        parent_stage, parent_doc_id: the parent it needs; `parent_doc_id` is None where it names none.
        found_in: the other stages that hold a document of that id.

    Example:
        >>> from docid import DocsStore, Document
        >>> from docid.backends import MemoryBackend
        >>> store = DocsStore(MemoryBackend())
        >>> draft = Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="once")
        >>> store.write(Document(stage="essay", doc_id="e1", task_id="t-1", raw_text="", parent_doc_id="d1"))
        Traceback (most recent call last):
        docid.errors.MissingParent: essay/e1 (task_id='t-1') names the parent draft/d1, which is not ...
    """

    def __init__(  # keyword-only facts, all of them needed
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
            f"{stage}/{doc_id} (task_id={shown(task_id)}) {wrong}. Nothing was written; "
            f"write the parent first, or pass require_parent=False"
        )
        self.stage = stage
        self.doc_id = doc_id
        self.task_id = task_id
        self.parent_stage = parent_stage
        self.parent_doc_id = parent_doc_id
        self.found_in = found_in


class DocumentNotFound(DocidError, LookupError):
    """No document of that stage and id is in the store.

    Attributes:
        stage, doc_id: what was asked for.
        location: where it would be.
        found_in: the other stages that hold a document of that id.

    Example:
        >>> from docid import DocsStore, Document
        >>> from docid.backends import MemoryBackend
        >>> store = DocsStore(MemoryBackend())
        >>> draft = Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="once")
        >>> _ = store.write(draft)
        >>> store.read("essay", "d1")
        Traceback (most recent call last):
        docid.errors.DocumentNotFound: essay/d1 is not in the store: ...; that id is in stage draft
    """

    def __init__(
        self, stage: str, doc_id: str, location: str, found_in: tuple[str, ...] = (), wanted_by: str = ""
    ) -> None:
        hint = f"; that id is in stage {', '.join(found_in)}" if found_in else ""
        hint += f"; {wanted_by} names it" if wanted_by else ""
        super().__init__(f"{stage}/{doc_id} is not in the store: nothing at {location}{hint}")
        self.stage = stage
        self.doc_id = doc_id
        self.location = location
        self.found_in = found_in


class UnreadableDocument(DocidError):
    """Something stands where the document should be, and it is no whole document.

    Attributes:
        stage, doc_id: the document.
        location: where it is.
        problem: what was found.
        remedy: what to do about it.
        task_id: the task it answers; None where there is no record that says it.
        code: the code of the finding that `DocsStore.scan` makes of it.
        repairable: whether `docid repair` can put it aside.

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
        self.repairable = remedy is None
        remedy = remedy or "see what 'docid repair' plans for it; nothing was changed"
        task = "" if task_id is None else f" (task_id={shown(task_id)})"
        name = f"{stage}/{doc_id}" if doc_id else f"stage {stage!r}"
        super().__init__(f"{name}{task} at {location} cannot be used: {problem}; {remedy}")
        self.stage = stage
        self.doc_id = doc_id
        self.location = location
        self.problem = problem
        self.remedy = remedy
        self.task_id = task_id
        self.code = code


class DocumentBusy(DocidError):
    """Others changed the document each time this write was tried, so that it gave up. Nothing of it was written.

    Nothing is wrong with the document; the same write may pass later.

    Attributes:
        stage, doc_id, task_id: the document; `task_id` is None where that is not known.
        location: where it is.

    Example:
        >>> print(DocumentBusy("draft", "d1", "t-1", "docs/draft/d1"))
        draft/d1 (task_id='t-1') at docs/draft/d1 was not written: others changed it each time it was tried; try again
    """

    def __init__(self, stage: str, doc_id: str, task_id: str | None, location: str) -> None:
        task = "" if task_id is None else f" (task_id={shown(task_id)})"
        super().__init__(
            f"{stage}/{doc_id}{task} at {location} was not written: others changed it each time it was tried; try again"
        )
        self.stage = stage
        self.doc_id = doc_id
        self.task_id = task_id
        self.location = location


class DurabilityUnknown(DocidError):
    """The document is in the store, whole, but the file system could not say that it would survive a power cut.

    Writing it again gives `unchanged` and syncs nothing; whether the disk is well is for the machine's log to say.

    Attributes:
        stage, doc_id: the document.
        location: where it is.
        problem: what the file system said.

    Example:
        >>> print(DurabilityUnknown("draft", "d1", "docs/draft/d1", "[Errno 5] Input/output error"))
        draft/d1 was written to docs/draft/d1, but what has to follow failed ([Errno 5] Input/output error): it ...
    """

    def __init__(self, stage: str, doc_id: str, location: str, problem: str) -> None:
        super().__init__(
            f"{stage}/{doc_id} was written to {location}, but what has to follow failed ({problem}): it is there and "
            f"whole, and may be gone after a power cut; look at the disk (writing it again finds it, and syncs nothing)"
        )
        self.stage = stage
        self.doc_id = doc_id
        self.location = location
        self.problem = problem


class StoreUnavailable(DocidError, OSError):
    """A store at a URL did not do what it was asked: network, credentials, limits; nothing that is a document's fault.

    It was tried again, within bounds, where that can help. Where a write fails so, the document is there whole or not
    at all; written again it is `unchanged` if it was.

    Attributes:
        action: what was to be done: `read`, `write`, `list`, `delete`, `use`.
        location: of what.
        problem: what is wrong. What the service said is not in it, but for its status and code: it may be secret.
        remedy: what to do.
        refused: the service said no, so that nothing was done; otherwise the answer may have been lost.

    Example:
        >>> print(StoreUnavailable("read", "s3://docs/draft/d1.json", "no whole answer came", "look at the network"))
        cannot read s3://docs/draft/d1.json: no whole answer came; look at the network
    """

    def __init__(self, action: str, location: str, problem: str, remedy: str, *, refused: bool = False) -> None:
        super().__init__(f"cannot {action} {location}: {problem}; {remedy}")
        self.action = action
        self.location = location
        self.problem = problem
        self.remedy = remedy
        self.refused = refused


class BatchError(DocidError):
    """Some of the documents of `DocsStore.write_many` were not written. The others were.

    Attributes:
        results: what became of each document, by position; None where it was not written.
        failures: what was raised for the others: the error by position, counted from 0.

    Example:
        >>> from docid import DocsStore, Document
        >>> from docid.backends import MemoryBackend
        >>> store = DocsStore(MemoryBackend())
        >>> drafts = [Document(stage="draft", doc_id="d1", task_id=task_id, raw_text="once") for task_id in "ab"]
        >>> try:
        ...     store.write_many(drafts)
        ... except BatchError as error:
        ...     print([result and str(result.outcome) for result in error.results], *error.failures)
        ['created', None] 1
    """

    _SHOWN = 10

    def __init__(self, results: Sequence[WriteResult | None], failures: Mapping[int, Exception]) -> None:
        self.results = tuple(results)
        self.failures = dict(failures)
        lines = [f"{len(self.failures)} of {len(self.results)} documents were not written (the others are):"]
        lines += [f"position {number}: {error}" for number, error in list(self.failures.items())[: self._SHOWN]]
        if len(self.failures) > self._SHOWN:
            lines.append(f"… and {len(self.failures) - self._SHOWN} more")
        super().__init__("\n  ".join(lines))


class Problem(NamedTuple):
    """One fault in a task table.

    Attributes:
        file: the table's path as it was given; empty for rows that come from no file.
        row: the row as a spreadsheet numbers it, the header being row 1; for rows that come from no file,
            the position counted from 1; None for the table as a whole.
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
    """A task table with faults, all of them reported at once.

    Attributes:
        problems: the first 1,000 faults, as `Problem`.
        count: how many there are in all.

    Example:
        >>> from docid import DraftTask, reserve_tasks
        >>> list(reserve_tasks([DraftTask(task_id="t-1"), DraftTask(task_id=" t-2")], DraftTask))
        Traceback (most recent call last):
        docid.errors.TaskTableError: row 2, column draft_task_id: ' t-2'; white space at an end; expected the text ...
    """

    _SHOWN = 10

    def __init__(self, problems: Sequence[Problem], count: int | None = None) -> None:
        self.problems = tuple(problems)
        self.count = len(self.problems) if count is None else count
        lines = [str(problem) for problem in self.problems[: self._SHOWN]]
        if self.count == 1:
            super().__init__(lines[0])
            return
        if self.count > self._SHOWN:
            lines.append(f"… and {self.count - self._SHOWN} more")
        super().__init__("\n  ".join([f"{self.count} problems:", *lines]))

"""What a document is: a frozen value, checked when it is made, and the task row that it is made for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, cast

import orjson
from attrs import field, frozen

from docid._text import quote
from docid.core.ids import DocId, check_doc_id, check_stage, check_text, plain
from docid.core.stages import DEFAULT_STAGES, Stages
from docid.errors import InvalidDocument, InvalidName

if TYPE_CHECKING:
    import os
    from pathlib import Path

FORMAT = "docid/document/1"

PART_FILES = {"raw": "raw.txt", "parsed": "parsed.txt", "prompt": "prompt.txt"}
"""The file of each part of a document. `raw` is always there, the others where there is one."""

ALL_FILES = tuple(PART_FILES.values())

OUR_KEYS = ("format", "stage", "doc_id", "task_id", "parent_doc_id", "run_id", "created_at", "files", "docid")
"""The top-level keys of a record that are not the caller's, for ever; whatever comes later goes under `docid`."""

Part = Literal["raw", "parsed", "prompt"]
"""A text of a document."""

DEPTH = 250  # levels of lists and dicts in metadata; orjson writes 254
DEPTH_SHOWN = 200  # the same, in a notebook


class _Task(Protocol):
    """The identity and lineage of a task row, apart from its stage."""

    @property
    def doc_id(self) -> str: ...
    @property
    def task_id(self) -> str: ...
    @property
    def parent_doc_id(self) -> str | None: ...
    @property
    def doc_run_id(self) -> str | None: ...


class _StageOfClass(_Task, Protocol):
    stage: ClassVar[str]


class _StageOfRow(_Task, Protocol):
    @property
    def stage(self) -> str: ...


# What a document takes from a task row. Two protocols, because pyright keeps class variables and properties apart:
# `stage: ClassVar[str] = "outline"` matches the first only, a plain `stage = "outline"` the second only.
TaskLike = _StageOfClass | _StageOfRow


def require_doc_id(row: TaskLike) -> DocId:
    """Return the doc id of a row; raise InvalidName where it has none yet, TypeError for what is no row."""
    if not hasattr(row, "doc_run_id"):
        raise TypeError(f"row: expected a row of a task table (TaskRow), got {type(row).__name__}")
    if row.doc_id == "":
        problem = f"the row of task {quote(row.task_id)} is not reserved"
        raise InvalidName("doc_id", "", problem, "a row that went through reserve_tasks or 'docid reserve'")
    return check_doc_id(row.doc_id)


def source_of(row: Any) -> str:
    """Return the `source_doc_id` of a row, a field of its type or another column; empty where there is none."""
    source: str | None = getattr(row, "source_doc_id", None)
    return source or str(getattr(row, "extra", {}).get("source_doc_id", ""))


def file_of(part: str) -> str:
    """Return the file of a part; raise ValueError for any other text."""
    if part not in PART_FILES:
        raise ValueError(f"part: expected one of {', '.join(PART_FILES)}, got {part!r}")
    return PART_FILES[part]


def check_content(text: str, argument: str) -> str:
    """Return `text`; raise InvalidDocument where it has a lone surrogate, which UTF-8 cannot hold."""
    if not isinstance(text, str):
        raise TypeError(f"{argument}: expected a str, got {type(text).__name__}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidDocument(
                argument,
                f"character {error.start} is the lone surrogate U+{ord(text[error.start]):04X}, which UTF-8 "
                f"cannot hold; expected text without any",
            ) from None
    return plain(text)


def check_moment(value: datetime) -> datetime:
    """Return a moment in UTC; raise InvalidDocument where it has no time zone, or no year from 1 to 9999 in UTC."""
    if not isinstance(value, datetime):
        raise TypeError(f"created_at: expected a datetime, got {type(value).__name__}")
    if value.tzinfo is None:
        raise InvalidDocument("created_at", f"{value.isoformat()} has no time zone; expected one, such as UTC")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidDocument("created_at", f"{value.isoformat()} is in no year from 1 to 9999 in UTC") from None


def check_metadata(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of `value`; raise InvalidDocument, with the path of the first fault, unless JSON gives it back."""
    if not isinstance(value, Mapping):
        raise TypeError(f"metadata: expected a mapping, got {type(value).__name__}")
    copied = dict(value)
    copy = _as_json(copied)
    if copy is None or copy[0] != copied or is_too_deep(copied):
        raise InvalidDocument(*_first_fault("metadata", copied))
    return cast("dict[str, Any]", copy[0])


def is_too_deep(value: Any, depth: int = DEPTH) -> bool:
    """Return whether lists and dicts stand in each other deeper than this: than a record may have them."""
    level = [value]
    for _ in range(depth):
        children = (child for each in level for child in (each.values() if isinstance(each, dict) else each))
        # Each once: what holds itself would double with every level.
        level = list({id(child): child for child in children if isinstance(child, (dict, list))}.values())
        if not level:
            return False
    return True


def shallow(metadata: dict[str, Any], depth: int = DEPTH) -> dict[str, Any]:
    """Return metadata as the standard library can write it: values that are nested deeper are cut."""
    if not is_too_deep(metadata, depth):
        return metadata
    return {key: f"(more than {depth} deep)" if is_too_deep(each, depth) else each for key, each in metadata.items()}


def _as_json(value: Any) -> tuple[Any] | None:
    """Return a 1-tuple of `value` as it comes back from JSON; None where JSON cannot hold it at all."""
    try:
        return (orjson.loads(orjson.dumps(value)),)
    except (TypeError, ValueError):
        return None


def _first_fault(path: str, value: Any) -> tuple[str, str]:
    """Return the path to what JSON does not give back equal in `value`, and what is wrong with it."""
    if is_too_deep(value):
        return path, f"lists and dicts more than {DEPTH} deep; expected less"
    while True:
        children: list[tuple[str, Any]] = []
        if isinstance(value, dict):
            for key in value:
                if type(key) is not str or _as_json(key) is None:
                    return path, f"the key {quote(key)}; expected keys of text"
            children = [(f"{path}.{key}", child) for key, child in value.items()]
        elif isinstance(value, list):
            children = [(f"{path}[{position}]", child) for position, child in enumerate(value)]
        for place, child in children:
            copy = _as_json(child)
            if copy is None or copy[0] != child:
                path, value = place, child
                break
        else:
            return path, (
                f"{quote(value)} of type {type(value).__name__} does not come back equal from JSON; expected text, "
                f"finite numbers (integers of 64 bits), booleans, None, and lists and dicts of these"
            )


@frozen(kw_only=True, repr=False)
class Document:
    r"""A document of a pipeline: its name, its lineage and its texts. A frozen value, compared by value.

    Texts are kept as they are: no strip, no newline change. Everything is checked when the value is made, so
    that a store has nothing left to refuse but what it already holds.

    Attributes:
        stage: the stage that made it.
        doc_id: its name, unique in its stage.
        task_id: the task it answers; None only where it was read from a record of an older system without one.
        raw_text: what the model wrote, whole.
        parent_doc_id: the document of the parent stage that it was made from; None where there is none.
        parsed_text: what was parsed out of the raw text; None where nothing was.
        prompt_text: what the model was sent; None where it was not kept.
        run_id: the run that made it, if it is to be known; not part of the lineage.
        metadata: the caller's own keys, a JSON object; a copy is taken. A key of docid's own record may be
            repeated with the same value and is dropped.
        created_at: when it was made, with a time zone (kept as UTC, microseconds); now if not given. None only
            where it was read from a record of an older system.

    Raises:
        InvalidName: a stage, doc id, task id or run id that may not be one (a `ValueError`).
        InvalidDocument: text with a lone surrogate; metadata that JSON does not give back equal, or that has a
            key of docid's own with another value; a time without zone (a `ValueError`).
        TypeError: a value of the wrong type.

    Example:
        >>> document = Document(stage="draft", doc_id="a1", task_id="t-1", raw_text="Once upon a time\n")
        >>> document.raw_text, document.parsed_text, document.metadata
        ('Once upon a time\n', None, {})
    """

    stage: str
    doc_id: str
    task_id: str | None
    raw_text: str
    parent_doc_id: str | None = None
    parsed_text: str | None = None
    prompt_text: str | None = None
    run_id: str | None = None
    # Not hashed: a dict has no hash, and equal documents still hash equal without it.
    metadata: dict[str, Any] = field(factory=dict, converter=check_metadata, hash=False)
    created_at: datetime | None = field(factory=lambda: datetime.now(UTC), converter=check_moment)

    def __attrs_post_init__(self) -> None:
        # Checked in the order of the fields; what comes out is a plain str, also of an enum member.
        put = partial(object.__setattr__, self)
        put("stage", check_stage(self.stage))
        put("doc_id", check_doc_id(self.doc_id))
        put("task_id", check_text(cast("str", self.task_id), "task_id"))
        put("raw_text", check_content(self.raw_text, "raw_text"))
        if self.parent_doc_id is not None:
            put("parent_doc_id", check_doc_id(self.parent_doc_id, "parent_doc_id"))
        for name in ("parsed_text", "prompt_text"):
            if (text := getattr(self, name)) is not None:
                put(name, check_content(text, name))
        if self.run_id is not None:
            put("run_id", check_text(self.run_id, "run_id"))
        if not self.metadata.keys().isdisjoint(OUR_KEYS):
            for key in self.find_repeated_keys(self.own_keys()):
                del self.metadata[key]

    def find_repeated_keys(self, own: Mapping[str, Any]) -> list[str]:
        """Return the keys of `own` that the metadata repeats with the same value.

        Raises:
            InvalidDocument: one has another value, or is a key of docid's that only the store gives a value.
        """
        repeated = sorted(self.metadata.keys() & set(OUR_KEYS))
        for key in repeated:
            if key not in own or self.metadata[key] != own[key]:
                raise InvalidDocument(
                    f"metadata.{key}",
                    f"{quote(self.metadata[key])}, a key of docid's own record; expected another key"
                    + (f", or the document's own value {own[key]!r}" if key in own else ""),
                )
        return repeated

    def __repr__(self) -> str:
        parts = "+".join(PART_FILES[part].removesuffix(".txt") for part in self.parts())
        return f"<Document {self.stage}/{self.doc_id} task_id={quote(self.task_id)} {parts}>"

    def _repr_html_(self) -> str:
        from docid import _html  # noqa: PLC0415 - for notebooks alone

        title = _html.heading("Document", self.stage, self.doc_id)
        facts = _html.describe_document(document_facts(self))
        return _html.box(
            title, facts, *_html.fold_parts(self.parts()), _html.fold_metadata(shallow(self.metadata, DEPTH_SHOWN))
        )

    @classmethod
    def from_task(
        cls,
        row: TaskLike,
        *,
        raw_text: str,
        parsed_text: str | None = None,
        prompt_text: str | None = None,
        run_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        created_at: datetime | None = None,
    ) -> Document:
        """Return the document of a task row: identity and lineage from the row, the rest as given.

        Args:
            row: a reserved row (`doc_id` is set).
            raw_text, parsed_text, prompt_text, metadata, created_at: as for the class.
            run_id: as for the class; the row's `doc_run_id` if not given.

        Raises:
            InvalidName: the row's `doc_id` is empty or no doc id: reserve the row first.
            InvalidDocument, TypeError: as for the class.
        """
        return cls(
            doc_id=require_doc_id(row),
            stage=row.stage,
            task_id=row.task_id,
            parent_doc_id=row.parent_doc_id,
            raw_text=raw_text,
            parsed_text=parsed_text,
            prompt_text=prompt_text,
            run_id=row.doc_run_id if run_id is None else run_id,
            metadata={} if metadata is None else metadata,
            created_at=datetime.now(UTC) if created_at is None else created_at,
        )

    def parts(self) -> dict[str, str]:
        """Return the texts that this document has, by part: `raw`, `parsed`, `prompt`, in this order."""
        texts = {"raw": self.raw_text, "parsed": self.parsed_text, "prompt": self.prompt_text}
        return {part: text for part, text in texts.items() if text is not None}

    def write_files(
        self,
        docs_root: str | os.PathLike[str],
        *,
        stages: Stages | None = None,
        durability: Literal["full", "none"] = "full",
        if_exists: Literal["fail", "keep", "replace"] = "fail",
        require_parent: bool = True,
    ) -> Path:
        """Write this document below `docs_root` and return its directory.

        The short form of `DocsStore(docs_root, …).write(document, …)`, with the same guarantees and errors.

        Args:
            docs_root, durability: as for `DocsStore`.
            stages: as for `DocsStore`; the default ones if not given.
            if_exists, require_parent: as for `DocsStore.write`.
        """
        from docid.store.docs_store import DocsStore  # noqa: PLC0415 - the store stands on this module

        store = DocsStore(docs_root, stages=stages or DEFAULT_STAGES, durability=durability)
        return store.write(self, if_exists=if_exists, require_parent=require_parent).path

    def own_keys(self) -> dict[str, Any]:
        """Return docid's own keys of the record of this document, but for its files."""
        return {
            "format": FORMAT,
            "stage": self.stage,
            "doc_id": self.doc_id,
            "task_id": self.task_id,
            "parent_doc_id": self.parent_doc_id,
            "run_id": self.run_id,
            "created_at": None if self.created_at is None else timestamp(self.created_at),
        }


def timestamp(moment: datetime) -> str:
    """Return a moment as the record holds it: ISO 8601, UTC, microseconds, `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def document_facts(document: Any) -> dict[str, str | None]:
    """Return what people want to know of a document beside its name, as text: of a `Document` or a `StoredDocument`."""
    created_at: datetime | None = document.created_at
    return {
        "task_id": document.task_id,
        "parent_doc_id": document.parent_doc_id,
        "run_id": document.run_id,
        "created_at": None if created_at is None else timestamp(created_at),
    }

"""Documents: a frozen value that is validated when you create it, and the fields that it takes from a task row.

A `Reply` is what a model call returned, before it is a document.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, cast

from attrs import field, frozen

from docid._text import quote
from docid.core.ids import DocId, check_doc_id, check_stage, check_text, plain
from docid.core.lineage_rules import check_inputs, check_pins, get_inputs
from docid.core.metadata import convert_metadata, cut_deep_values
from docid.errors import InvalidDocument, InvalidName

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from docid.core.lineage_rules import Pin, Pins
    from docid.core.stages import Stages

FORMAT = "docid/document/1"

PART_FILES = {"raw": "raw.txt", "parsed": "parsed.txt", "prompt": "prompt.txt"}
"""The file name of each part. Every document has `raw`; `parsed` and `prompt` are optional."""

ALL_FILES = tuple(PART_FILES.values())

OUR_KEYS = ("format", "stage", "doc_id", "task_id", "parent_doc_id", "run_id", "created_at", "files", "docid")
"""The top-level keys of a record that docid uses. This list never grows: later additions go under `docid`."""

IDENTITY_KEYS = ("stage", "doc_id", "task_id", "parent_doc_id", "run_id")
"""The keys of a record that a document's metadata may repeat, with the same value."""

Part = Literal["raw", "parsed", "prompt"]
"""The name of a part: one text of a document."""

DEPTH_SHOWN = 200  # levels that a notebook shows


class _Task(Protocol):
    """The identity and lineage of a task row, except its stage."""

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


# A task row, as far as a document needs it. pyright distinguishes class variables from properties, so there are two
# protocols: `stage: ClassVar[str] = "outline"` matches only the first, `stage = "outline"` only the second.
TaskLike = _StageOfClass | _StageOfRow


class _Version(Protocol):
    """A version of a document: a `StoredDocument` or a `Document`."""

    @property
    def stage(self) -> str: ...
    @property
    def doc_id(self) -> str: ...
    @property
    def pin(self) -> Pin | None: ...


def require_doc_id(row: TaskLike) -> DocId:
    """Return the doc id of a row; raise InvalidName if the row is not reserved, and TypeError unless it is a row."""
    if not hasattr(row, "doc_run_id"):
        raise TypeError(f"row: expected a task row (TaskRow), got {type(row).__name__}")
    if row.doc_id == "":
        problem = f"the row of task {quote(row.task_id)} is not reserved"
        raise InvalidName("doc_id", "", problem, "a row from reserve_tasks or 'docid reserve'")
    return check_doc_id(row.doc_id)


def get_source_doc_id(row: Any) -> str:
    """Return the `source_doc_id` of a row, from a field or an extra column, or an empty text."""
    source: str | None = getattr(row, "source_doc_id", None)
    return source or str(getattr(row, "extra", {}).get("source_doc_id", ""))


def get_part_file(part: str) -> str:
    """Return the file name of a part; raise ValueError for an unknown part."""
    if part not in PART_FILES:
        raise ValueError(f"part: expected one of {', '.join(PART_FILES)}, got {part!r}")
    return PART_FILES[part]


def check_content(text: str, argument: str) -> str:
    """Return `text`; raise InvalidDocument if it has a lone surrogate, which UTF-8 cannot encode."""
    if not isinstance(text, str):
        raise TypeError(f"{argument}: expected a str, got {type(text).__name__}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidDocument(
                argument,
                f"character {error.start} is the lone surrogate U+{ord(text[error.start]):04X}, which UTF-8 "
                f"cannot encode; expected text without surrogates",
            ) from None
    return plain(text)


def _check_origin(origin: Any) -> None:
    """Raise TypeError unless this is a run id and a salt, each a text or None; or None."""
    if origin is not None and not (
        isinstance(origin, tuple) and len(origin) == 2 and all(each is None or isinstance(each, str) for each in origin)  # noqa: PLR2004
    ):
        raise TypeError(f"id_from: expected a tuple of a run id and a salt, got {quote(origin)}")


def check_moment(value: datetime) -> datetime:
    """Return a moment in UTC; raise InvalidDocument if it has no time zone, or its year in UTC is not 1 to 9999."""
    if not isinstance(value, datetime):
        raise TypeError(f"created_at: expected a datetime, got {type(value).__name__}")
    if value.tzinfo is None:
        raise InvalidDocument("created_at", f"{value.isoformat()} has no time zone; expected one, such as UTC")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        problem = f"{value.isoformat()} is out of range; expected a year from 1 to 9999 in UTC"
        raise InvalidDocument("created_at", problem) from None


@frozen(kw_only=True, repr=False)
class Document:
    r"""A document of a pipeline: its name, lineage and texts. A frozen value, compared by value.

    Texts stay exactly as you pass them: docid neither strips them nor changes newlines. The constructor validates
    all fields, so a store refuses a document only because of its lineage or an existing document.

    Attributes:
        stage: the stage that made it.
        doc_id: its name, unique in its stage.
        task_id: the task it answers. None only if it was read from an older system's record without a task id.
        raw_text: the complete output of the model.
        parent_doc_id: the document of the parent stage that it was made from; None if its stage has no parent.
        parsed_text: the text that you parsed from the raw text, or None.
        prompt_text: the prompt that you sent to the model; None if you do not keep it.
        run_id: the run that made it; optional, and not part of the lineage.
        metadata: your own keys. docid copies them and converts them to JSON (`docs/store.md` has the list). A key
            that repeats the identity (stage, doc id, task id, parent, run id) with the same value is dropped.
        created_at: when it was made, with a time zone (stored in UTC with microseconds); now by default. None only
            if it was read from an older system's record.
        inputs: other documents that it was made from, in order, each as `STAGE/ID`; at most 1,000. They are part of
            the lineage.
        pins: the versions that it was made from: of the parent by its doc id, of each input by its name. A version is
            the SHA-256 of `raw.txt` and `parsed.txt`; None is unknown. The store adds the present version of a parent
            or an input that has no version here. Not compared.
        id_from: the run id and the salt that `doc_id` was derived from, if you know them. Not compared.

    Raises:
        InvalidName: the stage, doc id, task id, run id or an input is not valid (a `ValueError`).
        InvalidDocument: a text has a lone surrogate; JSON cannot hold a value of the metadata; the metadata gives the
            identity another value; the time has no zone (a `ValueError`).
        TypeError: a value has the wrong type.

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
    metadata: dict[str, Any] = field(factory=dict, converter=convert_metadata, hash=False)
    created_at: datetime | None = field(factory=lambda: datetime.now(UTC), converter=check_moment)
    inputs: tuple[str, ...] = ()
    pins: Pins = field(factory=dict, eq=False)
    id_from: tuple[str | None, str | None] | None = field(default=None, eq=False)

    def __attrs_post_init__(self) -> None:
        # In the order of the fields. Each check returns a plain str, even for an enum member.
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
        if self.inputs != ():
            put("inputs", check_inputs(self.inputs, f"{self.stage}/{self.doc_id}"))
        if self.pins:
            put("pins", check_pins(self.pins, self.parent_doc_id, self.inputs))
        _check_origin(self.id_from)
        self._drop_identity(self.metadata)

    def _drop_identity(self, metadata: dict[str, Any]) -> None:
        """Drop the keys that repeat the document's identity; raise InvalidDocument if one has another value."""
        for key in IDENTITY_KEYS:
            if key in metadata and metadata[key] != (own := getattr(self, key)):
                problem = f"{quote(metadata[key])}, but the document's own value is {own!r}; expected another key"
                raise InvalidDocument(f"metadata.{key}", problem)
            metadata.pop(key, None)

    def convert_metadata(self) -> dict[str, Any]:
        """Return a converted copy of the metadata. Although the document is frozen, its dict may have changed."""
        metadata = convert_metadata(self.metadata)
        self._drop_identity(metadata)
        return metadata

    def __repr__(self) -> str:
        return f"<Document {self.stage}/{self.doc_id} task_id={quote(self.task_id)} {'+'.join(self.parts())}>"

    def _repr_html_(self) -> str:
        from docid import _html  # noqa: PLC0415 - only notebooks need it

        title = _html.heading("Document", self.stage, self.doc_id)
        facts = _html.describe_document(document_facts(self))
        metadata = _html.fold_metadata(cut_deep_values(self.metadata, DEPTH_SHOWN))
        return _html.box(title, facts, *_html.fold_parts(self.parts()), metadata)

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
        parent: _Version | None = None,
        inputs: Iterable[_Version] = (),
    ) -> Document:
        """Return the document of a task row, which provides its identity and lineage.

        Args:
            row: a reserved row: its `doc_id` is set.
            raw_text, parsed_text, prompt_text, metadata, created_at: as for the class.
            run_id: as for the class; by default the row's `doc_run_id`.
            parent: the parent as you read it, from `store.open_parent(row)`: the record names this version. By default,
                the version in the store at the time of the write.
            inputs: the same for the row's inputs, from `store.open_inputs(row)`.

        Raises:
            InvalidName: the row's `doc_id` is empty (reserve the row first) or not a doc id.
            InvalidDocument: `parent` or `inputs` are other documents than those of the row; or as for the class.
            TypeError: as for the class.
        """
        pins: Pins = {}
        if parent is not None:
            stage = getattr(row, "parent_stage", None) or parent.stage
            if (parent.stage, parent.doc_id) != (stage, row.parent_doc_id):
                expected = f"expected {stage}/{row.parent_doc_id}, the parent of the row"
                raise InvalidDocument("parent", f"{parent.stage}/{parent.doc_id}; {expected}")
            pins[parent.doc_id] = parent.pin
        for each in inputs:
            if (name := f"{each.stage}/{each.doc_id}") not in get_inputs(row):
                raise InvalidDocument("inputs", f"{name}; expected only documents in the input_doc_ids of the row")
            pins[name] = each.pin
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
            inputs=get_inputs(row),
            pins=pins,
            id_from=(row.doc_run_id, getattr(row, "doc_salt", None)),
        )

    @property
    def pin(self) -> Pin:
        """The version of this document, as the record of a child names it: SHA-256 in hex, by file name."""
        texts = {PART_FILES["raw"]: self.raw_text, PART_FILES["parsed"]: self.parsed_text}
        return {name: sha256(text.encode()).hexdigest() for name, text in texts.items() if text is not None}

    def parts(self) -> dict[str, str]:
        """Return the texts by part, in the order `raw`, `parsed`, `prompt`, without missing parts."""
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
        """Write this document to the store at `docs_root` and return its directory.

        This is short for `DocsStore(docs_root, …).write(document, …)`, with the same guarantees and errors.

        Args:
            docs_root, stages, durability: as for `DocsStore`.
            if_exists, require_parent: as for `DocsStore.write`.
        """
        from docid.store.docs_store import DocsStore  # noqa: PLC0415 - the store imports this module

        store = DocsStore(docs_root, stages=stages, durability=durability)
        return store.write(self, if_exists=if_exists, require_parent=require_parent).path

    def own_keys(self) -> dict[str, Any]:
        """Return docid's own keys of this document's record, except `files` and `docid`."""
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
    """Return a moment in the format of the record: ISO 8601 in UTC, with microseconds and `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def document_facts(document: Any) -> dict[str, str | None]:
    """Return the lineage, run and time of a `Document` or a `StoredDocument`, as text for people."""
    created_at: datetime | None = document.created_at
    return {
        "task_id": document.task_id,
        "parent_doc_id": document.parent_doc_id,
        **({"inputs": " ".join(document.inputs)} if document.inputs else {}),
        "run_id": document.run_id,
        "created_at": None if created_at is None else timestamp(created_at),
    }


@frozen(repr=False)
class Reply:
    """What a model call returned. `make` returns it to `DocsStore.ensure`, which stores it as the row's document.

    The constructor accepts any values, so a reply that was paid for is never lost there. docid checks them when it
    stores the document; if it cannot, it saves the reply in a rescue file.

    Attributes:
        raw_text: the complete output of the model.
        parsed_text: the text that you parsed from it, or None.
        prompt_text: the prompt that was sent, if it differs from the `prompt` that you passed to `ensure`.
        metadata: what the call reported, such as usage or the served model. These keys win over the `metadata` that
            you passed to `ensure`.
        created_at: when the reply was made, with a time zone; by default the time when docid stores it.

    Example:
        >>> Reply("Once upon a time", metadata={"usage": 12})
        <Reply of 16 characters>
    """

    raw_text: str
    parsed_text: str | None = field(default=None, kw_only=True)
    prompt_text: str | None = field(default=None, kw_only=True)
    metadata: Mapping[str, Any] | None = field(default=None, kw_only=True)
    created_at: datetime | None = field(default=None, kw_only=True)

    def __repr__(self) -> str:
        text = self.raw_text
        return f"<Reply of {len(text):,} characters>" if isinstance(text, str) else f"<Reply of {type(text).__name__}>"

"""What `ensure` returns."""

from __future__ import annotations

from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic

from attrs import fields, frozen

from docid.errors import ConvertedError, DocumentClaimed, describe_error

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import TypeVar

    from docid.core.outcomes import Outcome
    from docid.store.stored import StoredDocument

    RowT = TypeVar("RowT", default=Any)
    FoundT = TypeVar("FoundT", bound=StoredDocument | None, default=StoredDocument)
else:
    from typing import TypeVar

    RowT, FoundT = TypeVar("RowT"), TypeVar("FoundT")


@frozen(repr=False)
class Ensured(Generic[RowT, FoundT]):
    """What `DocsStore.ensure` did for a row.

    Attributes:
        row: the row.
        outcome: created, kept, completed, replaced or unchanged; `claimed` if another worker is making the document
            (only with `claim="skip"`); `failed` if `error` is set.
        document: the stored document. None if the outcome is claimed or failed.
        location: where the document is or would be, as text; `path` is the same as a `pathlib.Path`.
        called: whether `make` was called.
        changed: what differs from what the document was made from: `parent` and `input.STAGE/ID` (the store has another
            version now), `prompt`, `metadata.KEY`. Empty if `if_changed` is `ignore`.
        parse_error: why the document has no parsed text, if `parse` failed; None otherwise.
        error: the exception of this row, when many rows are ensured together; None otherwise.
        rescued: where docid saved a reply that it did not store, since another worker was first; None otherwise.

    Example:
        >>> from docid import DocsStore, DraftTask
        >>> row = DraftTask(task_id="t-1", doc_id="a1")
        >>> done = DocsStore("memory://").ensure(row, lambda row: f"a draft of {row.task_id}")
        >>> done.outcome, done.called, done.document.raw_text
        (<Outcome.CREATED: 'created'>, True, 'a draft of t-1')
    """

    row: RowT
    outcome: Outcome
    document: FoundT
    location: str
    called: bool = False
    changed: tuple[str, ...] = ()
    parse_error: str | None = None
    error: BaseException | None = None
    rescued: str | None = None

    if not TYPE_CHECKING:  # pragma: no branch  - always true at run time
        __class_getitem__ = classmethod(GenericAlias)  # so that `Ensured[Row]` works before Python 3.13, too

    @property
    def path(self) -> Path:
        """The location as a path."""
        from pathlib import Path  # noqa: PLC0415 - it would add a tenth to the time of `import docid`

        return Path(self.location)

    def unwrap(self) -> StoredDocument:
        """Return the document; raise the error of the row, or `DocumentClaimed` if another worker is making it."""
        if self.error is not None:
            raise self.error
        if self.document is None:
            row: Any = self.row
            raise DocumentClaimed(row.stage, row.doc_id, self.location, row.task_id, "another worker")
        return self.document

    def __getstate__(self) -> dict[str, Any]:
        """Convert an error that would not unpickle, such as those of some model clients."""
        state = {name: getattr(self, name) for name in _FIELDS}
        if self.error is not None:
            import pickle  # noqa: PLC0415 - only for this

            try:
                pickle.loads(pickle.dumps(self.error))  # noqa: S301 - its own
            except Exception:  # noqa: BLE001 - it does not pickle
                kind = type(self.error).__name__
                state["error"] = ConvertedError(kind, describe_error(self.error).removeprefix(f"{kind}: "))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        notes = [" after a call"] if self.called else []
        notes += [f" changed: {', '.join(self.changed)}"] if self.changed else []
        error = "" if self.error is None else f": {describe_error(self.error)}"
        stage, doc_id = self._name
        where = f" at {self.location}" if self.location else ""
        return f"<Ensured {self.outcome} {stage}/{doc_id}{where}{','.join(notes)}{error}>"

    @property
    def _name(self) -> tuple[str, str]:
        """The stage and the doc id of the row; of any other object, its type and an empty text."""
        row: Any = self.row
        return str(getattr(row, "stage", type(row).__name__)), str(getattr(row, "doc_id", ""))

    def _repr_html_(self) -> str:
        from docid import _html  # noqa: PLC0415 - only notebooks need it

        facts = {
            "location": self.location,
            "changed": ", ".join(self.changed),
            "parse error": self.parse_error,
            "error": None if self.error is None else describe_error(self.error),
            "reply saved": self.rescued,
        }
        table = _html.fact_table([(key, _html.name(value)) for key, value in facts.items() if value])
        return _html.box(_html.heading("Ensured", *self._name, str(self.outcome)), table)


_FIELDS = tuple(each.name for each in fields(Ensured))

"""`ensure` for one row: the rules, step by step. `docs/store.md` has them as a table.

The steps do the I/O; a driver decides in which thread they run, and calls `make` between them.
"""

from __future__ import annotations

import errno
import inspect
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol, TypedDict, TypeVar, cast, get_args

from attrs import define, field, frozen

from docid._text import escape_surrogates, quote
from docid.core.document import PART_FILES, Document, Reply, check_content, require_doc_id
from docid.core.ids import check_text
from docid.core.lineage_rules import ReadPins, check_inputs, find_changed, find_differences, get_inputs
from docid.core.metadata import convert_metadata, hash_given, hash_value
from docid.core.outcomes import Outcome, make_not_migrated_error
from docid.core.record import format_pins
from docid.errors import (
    ContentConflict,
    DocumentChanged,
    DurabilityUnknown,
    InvalidDocument,
    InvalidReply,
    ReplyRescued,
    describe_error,
)
from docid.store.backends.base import attempt
from docid.store.backends.claims import Claim, Holder
from docid.store.claiming import Claiming, Held, held
from docid.store.ensured import Ensured
from docid.store.writing import Draft

if TYPE_CHECKING:
    from contextvars import Token

    from docid.core.document import Part, TaskLike
    from docid.core.lineage_rules import Pins
    from docid.core.outcomes import WriteResult
    from docid.core.stages import Stages
    from docid.store.backends.base import Backend
    from docid.store.manifest import Manifest
    from docid.store.rescue import Rescue
    from docid.store.stored import StoredDocument
    from docid.store.writing import Writer

RowT = TypeVar("RowT")
Prompt = str | Callable[[Any], str] | None
Metadata = Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | None
Parse = Callable[[str], str | None] | None
IfExists = Literal["keep", "replace"]
IfChanged = Literal["ignore", "report", "replace", "fail"]
ClaimPolicy = Literal["wait", "skip", "off"]


class EnsureOptions(TypedDict, Generic[RowT], total=False):
    """The arguments that all forms of `ensure` share, except `prompt` and `claim`. See `DocsStore.ensure`."""

    metadata: Mapping[str, Any] | Callable[[RowT], Mapping[str, Any]] | None
    parse: Parse
    run_id: str | None
    if_exists: IfExists
    if_changed: IfChanged
    claim_timeout: float | None
    require_parent: bool


class ManyOptions(EnsureOptions[RowT], total=False):
    """The arguments of `ensure_many` and `aensure_many`, except `prompt` and `claim`."""

    concurrency: int
    stop_after: int | None
    progress: bool | Callable[[int, int | None], object] | None


@frozen(kw_only=True)
class Options:
    """The arguments of `ensure` that are the same for every row. See `DocsStore.ensure`."""

    prompt: Prompt = None
    metadata: Metadata = None
    parse: Parse = None
    run_id: str | None = None
    if_exists: IfExists = "keep"
    if_changed: IfChanged = "ignore"
    claim: ClaimPolicy = "wait"
    claim_timeout: float | None = None
    require_parent: bool = True
    find_pins: Callable[[Any], Pins] | None = None  # for orchestrators, which load a parent before the call

    def __attrs_post_init__(self) -> None:
        for name, allowed in (("if_exists", IfExists), ("if_changed", IfChanged), ("claim", ClaimPolicy)):
            if (value := getattr(self, name)) not in get_args(allowed):
                *others, last = map(repr, get_args(allowed))
                raise ValueError(f"{name}: expected {', '.join(others)} or {last}, got {value!r}")
        if self.if_exists == "replace" and self.if_changed != "ignore":
            problem = "if_exists='replace' makes every document again; expected if_changed='ignore' with it"
            raise ValueError(f"if_changed: {problem}")
        if self.claim_timeout is not None and not (_is_number(self.claim_timeout) and self.claim_timeout >= 0):
            raise ValueError(f"claim_timeout: expected seconds, 0 or more, got {self.claim_timeout!r}")
        if self.parse is not None and not callable(self.parse):
            raise TypeError(f"parse: expected a function, got {type(self.parse).__name__}")
        if self.run_id is not None:
            check_text(self.run_id, "run_id")
        if not callable(self.prompt) and self.prompt is not None:
            check_content(self.prompt, "prompt")
        if not callable(self.metadata) and self.metadata is not None:
            convert_metadata(self.metadata)

    def check_make(self, make: object, *, is_async: bool = False) -> None:
        """Raise TypeError unless `make` can be called with a row, and with a prompt if there is one."""
        if not callable(make):
            raise TypeError(f"make: expected a function, got {type(make).__name__}")
        if not is_async and is_coroutine_function(make):
            raise TypeError("make: a coroutine function; aensure(…) takes it, ensure(…) takes a plain function")
        arguments = ("row",) if self.prompt is None else ("row", "prompt")
        try:
            signature = inspect.signature(make)
        except (TypeError, ValueError):  # of some functions in C
            return
        try:
            signature.bind(*arguments)
        except TypeError:
            wanted = f"make({', '.join(arguments)})"
            example = f"lambda {', '.join(arguments)}: model({arguments[-1]})"
            problem = f"docid calls {wanted}, but it takes {signature}"
            raise TypeError(f"make: {problem}; expected for example {example}") from None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_coroutine_function(function: object) -> bool:
    """Return whether a call returns a coroutine, including that of a `partial` or a `__call__` method."""
    while isinstance(function, partial):
        function = function.func
    return any(map(inspect.iscoroutinefunction, (function, getattr(function, "__call__", None))))  # noqa: B004 - the method itself


class Given(NamedTuple):
    """The prompt and the metadata that `ensure` was given for a row, checked and converted."""

    prompt: str | None
    metadata: dict[str, Any] | None

    def find_changes(self, stored: StoredDocument) -> tuple[str, ...]:
        """Return what differs from the prompt and metadata that a document was made from.

        An unknown prompt or value does not differ.
        """
        given = stored.facts.notes.get("given")
        given = given if isinstance(given, dict) else {}
        now = hash_given(*self)
        changed = []
        if self.prompt is not None:
            entry = stored.facts.files.get(PART_FILES["prompt"])
            before = given.get("prompt") or (entry and entry.sha256)
            changed += ["prompt"] * (before not in {None, now["prompt"]})
        known = given.get("metadata")
        known = known if isinstance(known, dict) else {}
        for key, digest in now.get("metadata", {}).items():
            before = known.get(key)
            if before is None and key in stored.metadata:
                before = hash_value(stored.metadata[key])
            changed += [f"metadata.{key}"] * (before not in {None, digest})
        return tuple(changed)


class _Store(Protocol):
    """What an attempt needs of its `DocsStore`."""

    backend: Backend
    manifest: Manifest
    _rescue: Rescue

    @property
    def stages(self) -> Stages: ...
    @property
    def _writer(self) -> Writer: ...
    def _find_stored(self, row: TaskLike, stage: str, doc_id: str) -> StoredDocument | None: ...
    def add_part(self, stage: str, doc_id: str, part: Part, text: str) -> WriteResult: ...
    def open(self, stage: str, doc_id: str) -> StoredDocument: ...


@define(eq=False)
class Attempt:
    """One row on its way to a document.

    The steps, in order: `begin`, `take_claim` until it is free, `go_on`, the call of `make`, `take_result`, `release`.
    After a step that returns an `Ensured`, only `release` follows.

    Attributes:
        store, row, make, options: as for `DocsStore.ensure`.
        keeps_run: with `if_exists="replace"`: keep a document that this run has replaced already.
        pins: the versions of the parent and inputs that the prompt was made from; by default, those that the options
            find, or those in the store before docid renders the prompt.
        seen: the document that `begin` found.
    """

    store: _Store
    row: Any
    make: Callable[..., Any]
    options: Options
    keeps_run: bool = False
    pins: Pins | None = None
    stage: str = field(init=False)
    doc_id: str = field(init=False)
    task_id: str = field(init=False)
    claiming: Claiming = field(init=False)
    seen: StoredDocument | None = field(init=False, default=None)
    changed: tuple[str, ...] = field(init=False, default=())
    metadata: dict[str, Any] | None = field(init=False, default=None)
    given: Given | None = field(init=False, default=None)
    claim: Claim | None = field(init=False, default=None)
    has_waited: bool = field(init=False, default=False)
    is_pinned: bool = field(init=False, default=False)
    delays: Iterator[float] | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        """Check the row; no I/O but the manifest's."""
        row: TaskLike = self.row
        if self.pins is None and self.options.find_pins is not None:
            self.pins = self.options.find_pins(row)
        self.is_pinned = bool(self.pins)
        self.doc_id, self.stage = require_doc_id(row), self.store.stages.check(row.stage)
        self.task_id = check_text(row.task_id, "task_id")
        if row.doc_run_id is not None:
            check_text(row.doc_run_id, "doc_run_id")
        check_inputs(get_inputs(row), f"{self.stage}/{self.doc_id}")
        self._writer.list_sources(row)
        if not callable(self.options.metadata):
            self.metadata = self._check_metadata(self.options.metadata)
        timeout = self.options.claim_timeout
        self.claiming = Claiming(self.store.backend, self.store.stages, self.stage, self.doc_id, self.task_id, timeout)
        self.claiming.refuse_circle()

    @property
    def location(self) -> str:
        """The location of the document."""
        return self.store.backend.location(self.stage, self.doc_id)

    @property
    def _writer(self) -> Writer:
        return self.store._writer  # noqa: SLF001 - the same class, in two modules

    @property
    def _rescue(self) -> Rescue:
        return self.store._rescue  # noqa: SLF001

    def _look(self) -> Ensured[Any] | None:
        """Find the document without a claim; return None if a call is needed. Write at most a parsed part."""
        stored = self._find()
        self.seen = stored
        options = self.options
        if stored is None:
            return None
        if stored.legacy:
            if options.if_exists == "replace":
                raise make_not_migrated_error(stored.facts, self.stage, self.doc_id, stored.location)
            return self._answer(Outcome.KEPT, stored)
        if options.if_exists == "replace":
            is_replaced = self.keeps_run and stored.run_id == options.run_id
            return self._answer(Outcome.KEPT, stored) if is_replaced else None
        if options.if_changed != "ignore":
            # The versions first: so the prompt is rendered from these, or from later ones.
            sources = self._find_changed_sources(stored)
            self.changed = (*sources, *self._render().find_changes(stored))
            if self.changed and options.if_changed == "fail":
                facts = (self.stage, self.doc_id, stored.location, self.task_id, self.changed)
                raise DocumentChanged(*facts)
            if self.changed and options.if_changed == "replace":
                return None
        return self._complete(stored)

    def _prepare(self) -> None:
        """Check what a call needs: a parent, and a store that can be written."""
        self._writer.check_parent(self.stage, self.row.parent_doc_id, self.task_id)
        if self.options.require_parent:
            self._pin()
        self.store.manifest.refuse_conflict()
        self.store.backend.probe(self.stage, self.doc_id, replaces=self.seen is not None)

    def _find_changed_sources(self, stored: StoredDocument) -> tuple[str, ...]:
        """Return `parent`, and `input.STAGE/ID` of the inputs, that are other versions than the document was made from.

        One that is missing has not changed: a call would refuse it.
        """
        now = self._writer.pin(self.row, is_strict=False)
        self.pins = now if self.pins is None else self.pins
        keys = find_changed(stored.pins, now)
        return tuple("parent" if key == stored.parent_doc_id else f"input.{key}" for key in keys)

    def _pin(self) -> None:
        """Note the versions of the parent and inputs that are not known yet; raise MissingParent if one is missing."""
        known = self.pins or {}
        found = self._writer.pin(self.row, known)
        if found and known and not self.is_pinned:  # one was missing before, and the prompt may be older than this one
            self.given, known, found = None, {}, self._writer.pin(self.row)
        self.pins = {**found, **known}

    def skip(self) -> Ensured[Any, Any]:
        """Return the result of a row that another worker has claimed."""
        return Ensured(self.row, Outcome.CLAIMED, None, self.location)

    def fail(self, error: BaseException) -> Ensured[Any, Any]:
        """Return the result of a row that failed."""
        return Ensured(self.row, Outcome.FAILED, None, self.location, error=error)

    def call(self, *arguments: Any) -> Any:
        """Call `make` in this thread."""
        with self.holding():
            return self.make(*arguments)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Note in the context that this chain of calls makes the document: also in the functions of the caller."""
        token = self.hold()
        try:
            yield
        finally:
            held.reset(token)

    def hold(self) -> Token[tuple[Held, ...]]:
        """Begin `holding` in a context of its own."""
        return held.set((*held.get(), self.claiming.name))

    def take_claim(self) -> Holder | None:
        """Take the claim once; return its holder if another worker has it."""
        if self.options.claim != "off":
            taken = self.claiming.take()
            if isinstance(taken, Holder):
                self.has_waited = True
                return taken
            self.claim = taken
        return None

    def _look_again(self) -> Ensured[Any] | None:
        """Look again, now that no other worker makes the document; return None if a call is still needed."""
        first = self.seen
        stored = self._find()
        if stored is None:
            self.seen = None
            if rescued := self._rescue.find(self.stage, self.doc_id):
                raise ReplyRescued(self.stage, self.doc_id, self.location, self.task_id, tuple(rescued))
            return None
        if first is not None and first.is_version(stored):
            return None
        # Another worker has made it in the meantime: that one counts, so that several workers pay once.
        self.changed = ()
        return self._complete(stored)

    def _render(self) -> Given:
        """Call the functions among the options once, and check what they return.

        Raises:
            TypeError, InvalidDocument: a prompt or metadata that cannot be stored.
        """
        if self.given is None:
            row, prompt, metadata = self.row, self.options.prompt, self.metadata
            if callable(prompt):
                prompt = check_content(prompt(row), "prompt")
            if callable(self.options.metadata):
                metadata = self._check_metadata(self.options.metadata(row))
            self.given = Given(prompt, metadata)
        return self.given

    def _check_metadata(self, metadata: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Return metadata as JSON, without the identity of the row, which it may repeat."""
        if metadata is None:
            return None
        return Document.from_task(self.row, raw_text="", metadata=metadata, run_id=self.options.run_id).metadata

    def begin(self) -> Ensured[Any] | None:
        """Find the document; if a call is needed, check what it needs and return None."""
        with self.holding():
            if (done := self._look()) is not None:
                return done
            self._prepare()
        return None

    def go_on(self) -> Ensured[Any] | tuple[Any, ...]:
        """Look again under the claim; return the arguments of `make` if a call is still needed."""
        with self.holding():
            if (done := self._look_again()) is not None:
                return done
            if self.has_waited and self.given is None and self.options.require_parent and not self.is_pinned:
                self.pins = None  # the parent may have been replaced since
                self._pin()
            prompt = self._render().prompt
        self.store.manifest.record()
        return (self.row,) if self.options.prompt is None else (self.row, prompt)

    def take_result(self, made: object) -> Ensured[Any]:
        """Store what `make` returned. Whatever happens, a reply is stored, saved in a file, or on the exception.

        Raises:
            InvalidReply: `make` returned no reply (a `TypeError`).
            InvalidDocument: the reply cannot be stored.
            ContentConflict, LineageConflict, MissingParent, OSError, …: as for `DocsStore.write`.
        """
        try:
            draft = self.build(made)
            answer = self._writer.put_made(draft, require_parent=self.options.require_parent)
            return self.conclude(draft, answer)
        except BaseException as error:
            self.rescue(made, error)
            raise

    def build(self, made: object) -> Draft:
        """Return the document of what `make` returned, ready to be written."""
        with self.holding():
            document, problem, is_noted = self._make_document(made)
        new = self._writer.prepare(document, self._notes(problem if is_noted else None))
        return Draft(document, new, self.seen, made, problem)

    def conclude(self, draft: Draft, answer: tuple[WriteResult, StoredDocument]) -> Ensured[Any]:
        """Return the result of the row, once its document is written."""
        result, stored = answer
        outcome, rescued = result.outcome, None
        if outcome is Outcome.UNCHANGED and not (self.seen is not None and self.seen.is_version(stored)):
            outcome = Outcome.KEPT  # another writer stored the same text first
        if result.outcome is Outcome.KEPT and stored.read().parts() != draft.document.parts():
            problem = "another worker had already stored the document, with other text"
            saved = attempt(lambda: self._save(draft.made, problem))
            rescued = saved if isinstance(saved, str) else self._save(draft.made, problem, own=True)
        parse_error = None if outcome is Outcome.KEPT else draft.parse_error
        return self._answer(outcome, stored, parse_error=parse_error, called=True, rescued=rescued)

    def rescue(self, made: object, error: BaseException) -> None:
        """Save a reply whose document could not be stored. None, a generator or an awaitable is not a reply."""
        is_nothing = made is None or inspect.isgenerator(made) or isinstance(made, Awaitable)
        if not (is_nothing or isinstance(error, DurabilityUnknown)):
            self._save_reply(made, error)

    def release(self) -> None:
        """Give the claim back, if this attempt has it."""
        claim, self.claim = self.claim, None
        if claim is not None:
            attempt(claim.release)  # if it fails, the document is stored all the same

    def _save_reply(self, made: object, error: BaseException) -> None:
        """Save a reply that could not be stored, and name the file in its error; else put the reply on the error."""
        interrupt: BaseException | None = None
        try:
            location = self._save(made, error)
        except BaseException as failure:  # noqa: BLE001 - the reply is all that counts here
            interrupt = None if isinstance(failure, Exception) else failure
            if getattr(failure, "errno", None) in {errno.EMFILE, errno.ENFILE}:
                self.release()  # to get its descriptor
            try:
                location = self._save(made, error, own=True)
            except BaseException as again:  # noqa: BLE001 - as above
                interrupt = interrupt or (None if isinstance(again, Exception) else again)
                location = ""
        for each in filter(None, (error, interrupt)):
            with suppress(Exception):  # some exceptions refuse attributes and notes
                if location:
                    each.rescued = location  # type: ignore[attr-defined]
                    each.add_note(f"docid saved the reply in {location}; 'docid rescued' stores or discards it")
                else:
                    each.reply = made  # type: ignore[attr-defined]
                    each.add_note("docid could not save the reply; it is this exception's attribute `reply`")
        if interrupt is not None:
            raise interrupt

    def _save(self, made: object, problem: object, *, own: bool = False) -> str:
        notes = {**format_pins(self.row, self._list_pins(made)), **self._notes(None)}
        return self._rescue.save(self.row, self._run_id, self._merge(made), notes, problem, own=own)

    def _list_pins(self, made: object) -> Pins:
        """Return the versions for the record: those from before the call, or those that the caller has given."""
        pins = (self.pins or {}) if self.options.require_parent else {}
        if isinstance(made, Document) and not isinstance(made.pins, ReadPins):
            pins = {**pins, **made.pins}
        return pins

    def _merge(self, made: object) -> object:
        """Return a reply with the prompt and metadata that `ensure` was given, without checking anything."""
        given = self.given or Given(None, None)
        reply = Reply(made) if isinstance(made, str) else made
        if not isinstance(reply, (Reply, Document)):
            return reply
        own = reply.metadata
        metadata = {**(given.metadata or {}), **own} if isinstance(own, Mapping) else (own or given.metadata)
        prompt = given.prompt if reply.prompt_text is None else reply.prompt_text
        return Reply(
            reply.raw_text,
            parsed_text=reply.parsed_text,
            prompt_text=prompt,
            metadata=metadata,
            created_at=reply.created_at,
        )

    def _find(self) -> StoredDocument | None:
        return self.store._find_stored(self.row, self.stage, self.doc_id)  # noqa: SLF001

    def _complete(self, stored: StoredDocument) -> Ensured[Any]:
        """Add the parsed text that a stored document lacks, if `parse` gives one."""
        parse = self.options.parse
        if parse is None or stored.legacy or "parsed" in stored.sizes:
            return self._answer(Outcome.KEPT, stored)
        parsed, problem, _ = _try_parse(parse, stored.raw_text)
        if parsed is None:
            return self._answer(Outcome.KEPT, stored, parse_error=problem)
        try:
            result = self.store.add_part(self.stage, self.doc_id, "parsed", parsed)
        except ContentConflict:  # another worker has just parsed it in another way
            return self._answer(Outcome.KEPT, self.store.open(self.stage, self.doc_id))
        outcome = Outcome.KEPT if result.outcome is Outcome.UNCHANGED else result.outcome
        return self._answer(outcome, self.store.open(self.stage, self.doc_id))

    def _make_document(self, made: object) -> tuple[Document, str | None, bool]:
        """Return the document of a reply, why it has no parsed text, and whether the record notes that."""
        row, options = self.row, self.options
        if not isinstance(made, (str, Reply, Document)):
            if inspect.iscoroutine(made):
                made.close()
            returned = "None" if made is None else type(made).__name__
            raise InvalidReply(self.stage, self.doc_id, self.task_id, returned)
        if isinstance(made, Document):
            self._check_identity(made)
        reply = cast("Reply", self._merge(made))
        raw_text = check_content(reply.raw_text, "raw_text")
        parsed, problem, is_noted = reply.parsed_text, None, False
        if parsed is None and options.parse is not None:
            parsed, problem, is_noted = _try_parse(options.parse, raw_text)
        document = Document.from_task(
            row,
            raw_text=raw_text,
            parsed_text=parsed,
            prompt_text=reply.prompt_text,
            metadata=reply.metadata,
            run_id=made.run_id if isinstance(made, Document) and made.run_id is not None else options.run_id,
            created_at=reply.created_at,
        )
        # The row and the pins are checked.
        object.__setattr__(document, "pins", self._list_pins(made))
        return document, problem, is_noted

    def _check_identity(self, made: Document) -> None:
        row = self.row
        wrong = [name for name in ("stage", "doc_id") if getattr(made, name) != getattr(row, name)]
        wrong += find_differences(made, row, legacy=False)
        if wrong:
            found = getattr(made, wrong[0])
            expected = get_inputs(row) if wrong[0] == "inputs" else getattr(row, wrong[0])
            problem = f"make() returned {quote(found)}; expected {quote(expected)}, as in the row of {self._describe()}"
            raise InvalidDocument(wrong[0], problem)

    def _notes(self, parse_error: str | None) -> dict[str, Any]:
        given = {} if self.given is None else hash_given(*self.given)
        return {**({"given": given} if given else {}), **({"parse_error": parse_error} if parse_error else {})}

    @property
    def _run_id(self) -> str | None:
        run_id: str | None = self.row.doc_run_id if self.options.run_id is None else self.options.run_id
        return run_id

    def _describe(self) -> str:
        return f"task {quote(self.task_id)}"

    def _answer(self, outcome: Outcome, stored: StoredDocument, **facts: Any) -> Ensured[Any]:
        stored.outcome = outcome
        return Ensured(self.row, outcome, stored, stored.location, changed=self.changed, **facts)


def ensure(row: Attempt) -> Ensured[Any, Any]:
    """Take a row all the way, in this thread."""
    if (done := row.begin()) is not None:
        return done
    try:
        if (holder := row.take_claim()) is not None:
            if row.options.claim == "skip":
                return row.skip()
            for delay in row.claiming.delays(holder):  # pragma: no branch  - it ends by an exception
                time.sleep(delay)
                if row.take_claim() is None:
                    break
        step = row.go_on()
        if isinstance(step, Ensured):
            return step
        return row.take_result(row.call(*step))
    finally:
        row.release()


def _try_parse(parse: Callable[[str], str | None], raw_text: str) -> tuple[str | None, str | None, bool]:
    """Return the parsed text, or why there is none, and whether that is an error."""
    try:
        parsed = parse(raw_text)
        if parsed is not None:
            return check_content(parsed, "parse()"), None, False
    except Exception as error:  # noqa: BLE001 - the parser is the caller's
        return None, escape_surrogates(describe_error(error))[:1000], True
    return None, "parse() returned None", False

"""Records of older systems brought to the current format, and records completed: in place, one swap a document."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from docid._text import shown
from docid.core.document import ALL_FILES, FORMAT, OUR_KEYS, timestamp
from docid.core.ids import DOC_ID_EXPECTED, check_doc_id, check_text, is_doc_id
from docid.core.metadata import DEPTH, is_too_deep
from docid.core.record import RECORD_FILE, PartEntry, Record, nonce
from docid.core.task import is_missing
from docid.errors import DocidError, TaskTableError
from docid.operations.curate.notes import file_time
from docid.store.backends.base import TURNS
from docid.store.docs_store import check_store
from docid.store.scanning import leftovers
from docid.store.stored import StoredDocument
from docid.tables.csvfile import Faults, read_columns
from docid.tables.tasks import infer_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from docid.store.docs_store import DocsStore

__all__ = ["Change", "backfill", "migrate"]


class Change(NamedTuple):
    """What became of one document's record, or would.

    Attributes:
        action: `migrate`: it gets a record of the current format. `set`: it gets a key. `current`: nothing is to be
            done. `leave`: it cannot be done, and is left alone. `absent`: there is no such document. `empty`: the
            table has no value for it. `unnamed`: a row of the table without doc id.
        stage, doc_id: the document.
        task_id: its task, where that is known.
        location: where it is.
        message: what is set, or why it is left alone.
        sources: where the values of its record come from that the old one did not have.
        done: whether it was done; false in a plan.
        warning: what differs between the document and the table; the document's stays.
        error: what the file system said, where it failed.
    """

    action: Literal["migrate", "set", "current", "leave", "absent", "empty", "unnamed"]
    stage: str
    doc_id: str
    task_id: str | None
    location: str
    message: str = ""
    done: bool = False
    warning: str = ""
    error: Exception | None = None
    sources: tuple[str, ...] = ()


class _Undecided(Exception):
    """Why a record cannot become another one."""


def migrate(
    store: DocsStore,
    tables: Mapping[str, str | os.PathLike[str]] | None = None,
    *,
    apply: bool = False,
    assume_utc: bool = False,
) -> Iterator[Change]:
    """Bring the records that an older system wrote to the current format, in place; say what there is to do, or do it.

    Only the record of a document is changed, by one atomic swap: killed at any point, it is the old one or the new
    one, and a second run finishes. Its texts are neither moved nor copied nor written. The old record stays in
    history. Every key of the caller's is kept with its value. A second run changes nothing.

    A new record says stage, doc id, task id and parent (as the old one does, or else the table), size and SHA-256 of
    each part, and when it was made (as the old one does, or else the time of its `raw.txt`). Under `docid.migrated`
    it says where these come from. What cannot be decided, and a record whose values would not come back equal
    (NaN, integers past 64 bits, a key twice), is left alone, with the reason.

    Stop the older system first: it knows nothing of locks.

    Args:
        store: the store.
        tables: task tables, by stage, for lineage that a record does not say; rows are found by `doc_id`.
        apply: do it; otherwise nothing is changed.
        assume_utc: take a `created_at` without time zone for UTC; otherwise such a record is left alone.

    Returns:
        A stream, one value a document, in the order of stages and doc ids; the names of one stage are held.

    Raises:
        TaskTableError: a table is faulty.
        InvalidName: a table of a stage that is none of the store's.
        OSError: a table or a stage cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> from docid import DocsStore
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> old = root / "draft" / "0a1"
        >>> old.mkdir(parents=True)
        >>> _ = (old / "raw.txt").write_text("Once."), (old / "metadata.json").write_text('{"task_id": "t-1", "n": 1}')
        >>> store = DocsStore(root)
        >>> [(each.action, each.done, each.sources) for each in migrate(store, apply=True)]
        [('migrate', True, ('created_at from the time of raw.txt',))]
        >>> store.open("draft", "0a1").metadata, [each.action for each in migrate(store)]
        ({'n': 1}, ['current'])
    """
    check_store(store)
    known = {stage: _lineages(os.fspath(path), store.stages.check(stage)) for stage, path in (tables or {}).items()}
    return _migrated(store, known, apply=apply, assume_utc=assume_utc)


class _Plan(NamedTuple):
    """The record that is to take the place of another; None where nothing is to be done."""

    data: dict[str, Any] | None
    message: str = ""
    warning: str = ""
    sources: tuple[str, ...] = ()


_Lineages = dict[str, tuple[str, str] | None]


def _lineages(path: str, stage: str) -> _Lineages:
    """Return what a table says of its documents, by doc id: task id and parent; None where two rows differ."""
    found: _Lineages = {}
    for _, (task_id, doc_id, parent) in read_columns(path, (f"{stage}_task_id", "doc_id"), ("parent_doc_id",)):
        if not is_missing(doc_id):
            lineage = ("" if is_missing(task_id) else task_id, "" if is_missing(parent) else parent)
            found[doc_id] = lineage if found.get(doc_id, lineage) == lineage else None
    return found


def _migrated(store: DocsStore, known: dict[str, _Lineages], *, apply: bool, assume_utc: bool) -> Iterator[Change]:
    for stage in store.stages:
        rows = known.get(stage, {})

        def plan(version: StoredDocument, rows: _Lineages = rows) -> _Plan:
            if not version.legacy:
                return _Plan(None)
            upgrade = _Upgrade(store, version, rows, assume_utc=assume_utc)
            return _Plan(upgrade.data, "", "; ".join(upgrade.differs), tuple(upgrade.said))

        for finding in leftovers(store.backend, stage, stale_after=0):
            if finding.level == "error":
                message = f"{finding.code}: {finding.message}; {finding.hint}"
                yield Change("leave", stage, finding.doc_id, finding.task_id, finding.where, message)
        # Listed first: what is changed while a stage is listed may be listed twice.
        for doc_id in sorted(set(store.ids(stage))):
            change = _swapped(store, stage, doc_id, "migrate", plan, apply=apply)
            if change.action != "absent":
                yield change


def _swapped(
    store: DocsStore,
    stage: str,
    doc_id: str,
    action: Literal["migrate", "set"],
    plan: Callable[[StoredDocument], _Plan],
    *,
    apply: bool,
) -> Change:
    """Put the record of `plan` in the place of a document's, or say why not; a plan without data does nothing."""
    change = Change("leave", stage, doc_id, None, store.backend.location(stage, doc_id))
    try:
        for _ in range(TURNS):
            version = StoredDocument.load(store.backend, stage, doc_id)
            if version is None:
                return change._replace(action="absent", message="not in the store")
            change = change._replace(task_id=version.task_id)
            if is_too_deep(version.record):
                raise _Undecided(f"lists and dicts more than {DEPTH} deep")  # noqa: TRY301 - said as the others are
            planned = plan(version)
            change = change._replace(message=planned.message, warning=planned.warning, sources=planned.sources)
            if planned.data is None:
                return change._replace(action="current")
            record = _bytes(version, planned.data)
            if not apply or store.backend.amend(stage, doc_id, version.stored.record, record, {}):
                return change._replace(action=action, task_id=planned.data["task_id"], done=apply)
        raise _Undecided("others change it all the time; try again")  # noqa: TRY301 - said as the others are
    except _Undecided as reason:
        return change._replace(message=str(reason))
    except (DocidError, OSError) as error:
        return change._replace(message=str(error), error=error)


class _Upgrade:
    """The record of a document as it is to be in the current format.

    Attributes:
        data: the record.
        said: where its values come from, for people.
        differs: what it says otherwise than the table.

    Raises:
        _Undecided: there cannot be one.
    """

    def __init__(self, store: DocsStore, version: StoredDocument, rows: _Lineages, *, assume_utc: bool) -> None:
        self._store = store
        self._version = version
        self._assume_utc = assume_utc
        self.said: list[str] = []
        self.differs: list[str] = []
        self._notes: dict[str, str] = {}
        stage, doc_id = version.stage, version.doc_id
        old = _exactly(version.stored.record)
        self._own = {key: None if old.get(key) == "" else old.get(key) for key in OUR_KEYS}
        self._check_names()
        files = _files(store, version)  # whatever cannot be read is said first
        found = rows.get(doc_id, ("", ""))
        self._disagree = found is None  # rows of the table, about this document
        in_table = found or ("", "")
        self._has_parent = store.stages.parent_of(stage) is not None
        task_id = self._lineage("task_id", in_table[0])
        parent = self._lineage("parent_doc_id", in_table[1] if self._has_parent else "")
        self._check_lineage(task_id, parent)
        self.data = {
            "format": FORMAT,
            "stage": stage,
            "doc_id": doc_id,
            "task_id": task_id,
            "parent_doc_id": parent,
            "run_id": self._own["run_id"],
            "created_at": self._created_at(self._own["created_at"]),
            "files": files,
            "docid": {"nonce": nonce(), "migrated": self._notes},
            **{key: value for key, value in old.items() if key not in OUR_KEYS},
        }

    def _check_names(self) -> None:
        """Refuse a key of docid's own that the older system used for something else."""
        own = self._own
        expected = {"stage": self._version.stage, "doc_id": self._version.doc_id}
        for key in ("format", "files", "docid", "stage", "doc_id"):
            if own[key] is not None and own[key] != expected.get(key):
                raise _Undecided(f"{key} is {shown(own[key])} in its record, and that key is docid's own; rename it")

    def _lineage(self, key: str, in_table: str) -> str | None:
        found = self._own[key]
        if found is None:
            if in_table:
                self._say(f"{key} from the table", key, "table")
            return in_table or None
        if not isinstance(found, str):
            raise _Undecided(f"{key} is {shown(found)} in its record; expected text")
        if in_table and in_table != found:
            self.differs.append(
                f"{key} is {shown(found)} in its record, which stays, and {shown(in_table)} in the table"
            )
        return found

    def _check_lineage(self, task_id: str | None, parent: str | None) -> None:
        stage, run_id = self._version.stage, self._own["run_id"]
        if not self._has_parent and parent is not None:
            raise _Undecided(f"parent_doc_id is {shown(parent)}, and stage {stage} has no parent")
        for key, value in (("task_id", task_id), *((("parent_doc_id", parent),) if self._has_parent else ())):
            if value is None:
                if self._disagree:
                    raise _Undecided(f"its record does not say its {key}, and two rows of the table differ about it")
                raise _Undecided(f"neither its record nor a table says its {key}")
        try:
            check_text(task_id or "", "task_id")
            if parent is not None:
                check_doc_id(parent, "parent_doc_id")
            if run_id is not None:
                check_text(run_id, "run_id")
        except (ValueError, TypeError) as error:
            of_table = [key for key, source in self._notes.items() if source == "table" and str(error).startswith(key)]
            raise _Undecided(f"{error}{' (from the table)' if of_table else ''}") from None

    def _created_at(self, text: Any) -> str:
        if text is None:
            moment = file_time(self._store, self._version.stage, self._version.doc_id)
            if moment is None:
                raise _Undecided("neither its record nor a file says when it was made")
            self._say("created_at from the time of raw.txt", "created_at", "raw.txt")
            return timestamp(moment)
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is not None:
                moment.astimezone(UTC)
                return str(text)
        except (ValueError, TypeError, OverflowError):
            raise _Undecided(f"created_at is {shown(text)} in its record; expected a time in ISO 8601") from None
        if not self._assume_utc:
            raise _Undecided(f"created_at is {shown(text)}, without time zone; --assume-utc takes it for UTC")
        self._say("created_at taken for UTC", "created_at", f"{text}, taken for UTC")
        return timestamp(moment.replace(tzinfo=UTC))

    def _say(self, message: str, key: str, source: str) -> None:
        self.said.append(message)
        self._notes[key] = source


def _files(store: DocsStore, version: StoredDocument) -> dict[str, Any]:
    """Return what the new record says of the parts, which are read for that."""
    loaded = StoredDocument.load(store.backend, version.stage, version.doc_id, ALL_FILES)
    if loaded is None or loaded.stored.record != version.stored.record:
        raise _Undecided("it was changed at this moment; run it again")
    loaded.read()  # whole, and text
    return {name: PartEntry.of(data).to_json() for name, data in loaded.stored.parts.items()}


def _exactly(record: bytes) -> dict[str, Any]:
    """Return the values of a record exactly as they stand; numbers of any size.

    Raises:
        _Undecided: it holds what no reader gives back.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(items)
        if len(values) < len(items):
            twice = next(key for position, (key, _) in enumerate(items) if key in dict(items[:position]))
            raise _Undecided(f"{RECORD_FILE} has the key {shown(twice)} twice")
        return values

    def constant(text: str) -> Any:
        raise _Undecided(f"{RECORD_FILE} holds {text}, which is no JSON")

    # It was read as JSON before, and is not too deep.
    return dict(json.loads(record.decode("utf-8-sig"), object_pairs_hook=pairs, parse_constant=constant))


def _bytes(version: StoredDocument, data: dict[str, Any]) -> bytes:
    """Return a new record as it is stored, after a look whether each value of the old one comes back equal.

    Raises:
        _Undecided: one does not.
    """
    old = _exactly(version.stored.record)
    try:
        record = version.facts._replace(data=data).to_bytes()
        again = Record.from_bytes(record, version.stage, version.doc_id)
    except (TypeError, ValueError) as error:
        raise _Undecided(f"its values cannot stand in a record: {error}") from None
    for key, value in old.items():
        if key not in OUR_KEYS and json.dumps(again.data.get(key)) != json.dumps(value):
            raise _Undecided(f"{key} is {shown(value)} in its record, which would not come back equal")
    return record


def backfill(
    store: DocsStore,
    key: str,
    table: str | os.PathLike[str],
    column: str,
    *,
    stage: str | None = None,
    dry_run: bool = False,
) -> Iterator[Change]:
    r"""Add one key to the metadata of documents that lack it, from a column of their task table.

    Only the record is changed, by one atomic swap; the old one stays in history. A document that has the key keeps its
    value, also where that is another. A document of another task than the row's is left alone, and so is a record of an
    older system: migrate it first. A second run changes nothing.

    Args:
        store: the store.
        key: the key, `template_id`, `model_id` or `combo_id` say; none of docid's own.
        table: the table's path; documents are found by its column `doc_id`.
        column: the column that holds the values; they are set as text.
        stage: the stage of the table; if not given, the one that its name says.
        dry_run: change nothing.

    Returns:
        A stream, one value a document or a row without `doc_id`, in the table's order.

    Raises:
        ValueError: one of docid's own keys, or an empty one; a name that says no stage.
        TaskTableError: the table is faulty, or has two values for one document. Nothing is changed then.
        InvalidName: none of the store's stages.
        OSError: the table cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> from docid import DocsStore, Document
        >>> from docid.backends import MemoryBackend
        >>> store = DocsStore(MemoryBackend())
        >>> _ = store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="Once."))
        >>> table = pathlib.Path(tempfile.mkdtemp(), "draft_tasks.csv")
        >>> _ = table.write_text("draft_task_id,doc_id,model\nt-1,d1,m-1\nt-2,d2,m-2\n")
        >>> for change in backfill(store, "model_id", table, "model"):
        ...     print(change.action, change.doc_id, change.message)
        set d1 model_id='m-1'
        absent d2 not in the store
        >>> store.open("draft", "d1").metadata
        {'model_id': 'm-1'}
    """
    if key in OUR_KEYS or not key.strip() or re.search("[\ud800-\udfff\n]", key):
        raise ValueError(f"key: {key!r}; expected a key of metadata, none of {', '.join(OUR_KEYS)}")
    check_store(store)
    path = os.fspath(table)
    stage = infer_stage(path, store.stages) if stage is None else store.stages.check(stage)
    rows = _values(path, stage, column)
    return _backfilled(store, stage, key, rows, apply=not dry_run)


def _values(path: str, stage: str, column: str) -> list[tuple[str, str, str]]:
    """Return task id, doc id and value of each row, looked at whole before anything is changed."""
    faults = Faults(path)
    rows: list[tuple[str, str, str]] = []
    first: dict[str, tuple[int, str]] = {}
    try:
        for number, (task_id, cell, text) in read_columns(path, (f"{stage}_task_id", "doc_id", column)):
            doc_id, value = ("" if is_missing(each) else each for each in (cell, text))
            if doc_id and not is_doc_id(doc_id):
                faults.add(number, "doc_id", doc_id, f"not a doc id; expected {DOC_ID_EXPECTED}")
            other, there = first.setdefault(doc_id, (number, value))
            if doc_id and there != value:
                wrong = f"another value for the document {doc_id} than in row {other}; expected one"
                faults.add(number, column, value, wrong)
            elif not doc_id or other == number:
                rows.append((task_id, doc_id, value))
    except TaskTableError as error:
        faults.take_over(error)
    faults.raise_any()
    return rows


def _backfilled(
    store: DocsStore, stage: str, key: str, rows: list[tuple[str, str, str]], *, apply: bool
) -> Iterator[Change]:
    for task_id, doc_id, value in rows:
        if not doc_id:
            yield Change("unnamed", stage, "", task_id, "", "its row has no doc_id")
        elif not value:
            yield Change("empty", stage, doc_id, task_id, store.backend.location(stage, doc_id), "no value for it")
        else:
            plan = partial(_with_key, task_id=task_id, key=key, value=value)
            yield _swapped(store, stage, doc_id, "set", plan, apply=apply)


def _with_key(version: StoredDocument, task_id: str, key: str, value: str) -> _Plan:
    record = version.facts
    if record.legacy:
        raise _Undecided("its record was written by an older system; 'docid migrate' brings it to this format")
    if record.task_id != task_id:
        raise _Undecided(f"it is a document of task {shown(record.task_id)}; the table says {shown(task_id)}")
    if key not in record.data:
        own = {**record.data["docid"], "nonce": nonce()}
        return _Plan({**record.data, "docid": own, key: value}, f"{key}={value!r}")
    there = record.data[key]
    return _Plan(
        None, "", "" if there == value else f"{key} is {shown(there)}, which stays, and {shown(value)} in the table"
    )

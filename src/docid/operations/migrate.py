"""`migrate` and `backfill`: bring records to the current format and complete them, each in one atomic swap."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from docid._text import shown
from docid.core.document import ALL_FILES, DEPTH, FORMAT, OUR_KEYS, is_too_deep, timestamp
from docid.core.findings import Change
from docid.core.ids import DOC_ID_EXPECTED, check_doc_id, check_text, is_doc_id, is_missing
from docid.core.lineage_rules import contradicts, find_contradictions, find_unsaid
from docid.core.record import RECORD_FILE, PartEntry, Record, nonce
from docid.errors import DocidError, TaskTableError
from docid.operations.curate.notes import file_time
from docid.store.backends.base import TURNS
from docid.store.docs_store import check_store
from docid.store.scanning import find_leftovers
from docid.store.stored import StoredDocument
from docid.tables.csvfile import Faults, read_columns
from docid.tables.tasks import infer_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from docid.core.findings import ChangeOutcome
    from docid.store.docs_store import DocsStore

__all__ = ["backfill", "migrate"]


class _Undecided(Exception):
    """Why a record cannot become another one."""


class _Plan(NamedTuple):
    """The record that takes the place of another; None if nothing changes."""

    data: dict[str, Any] | None
    message: str = ""
    warning: str = ""
    sources: tuple[str, ...] = ()


def _swap_record(
    store: DocsStore,
    stage: str,
    doc_id: str,
    outcome: ChangeOutcome,
    make_plan: Callable[[StoredDocument], _Plan],
    *,
    apply: bool,
) -> Change:
    """Put the planned record in the place of a document's; or say why that cannot be done."""
    change = Change("leave", stage, doc_id, None, store.backend.location(stage, doc_id))
    try:
        for _ in range(TURNS):
            version = StoredDocument.load(store.backend, stage, doc_id)
            if version is None:
                return change._replace(outcome="absent", message="not in the store")
            change = change._replace(task_id=version.task_id)
            if is_too_deep(version.record):
                raise _Undecided(f"lists and dicts more than {DEPTH} deep")  # noqa: TRY301 - reported as the others are
            plan = make_plan(version)
            change = change._replace(message=plan.message, warning=plan.warning, sources=plan.sources)
            if plan.data is None:
                return change._replace(outcome="current")
            record = _to_bytes(version, plan.data)
            if not apply or store.backend.amend(stage, doc_id, version.stored.record, record, {}):
                return change._replace(outcome=outcome, task_id=plan.data["task_id"], done=apply)
        raise _Undecided("others change it all the time; try again")  # noqa: TRY301 - reported as the others are
    except _Undecided as reason:
        return change._replace(message=str(reason))
    except (DocidError, OSError) as error:
        return change._replace(message=str(error), error=error)


def _to_bytes(version: StoredDocument, data: dict[str, Any]) -> bytes:
    """Return a new record as it is stored.

    Raises:
        _Undecided: a value of the old record would not come back equal.
    """
    old = _parse_exactly(version.stored.record)
    try:
        record = version.facts._replace(data=data).to_bytes()
        again = Record.from_bytes(record, version.stage, version.doc_id)
    except (TypeError, ValueError) as error:
        raise _Undecided(f"its values cannot stand in a record: {error}") from None
    for key, value in old.items():
        if key not in OUR_KEYS and json.dumps(again.data.get(key)) != json.dumps(value):
            raise _Undecided(f"{key} is {shown(value)} in its record, which would not come back equal")
    return record


def _parse_exactly(record: bytes) -> dict[str, Any]:
    """Return the values of a record exactly as they stand; numbers of any size.

    Raises:
        _Undecided: it has a value that no reader gives back.
    """

    def refuse_repeated_keys(items: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(items)
        if len(values) < len(items):
            twice = next(key for position, (key, _) in enumerate(items) if key in dict(items[:position]))
            raise _Undecided(f"{RECORD_FILE} has the key {shown(twice)} twice")
        return values

    def refuse_constant(text: str) -> Any:
        raise _Undecided(f"{RECORD_FILE} holds {text}, which is no JSON")

    # It was read as JSON before, and is not too deep.
    text = record.decode("utf-8-sig")
    return dict(json.loads(text, object_pairs_hook=refuse_repeated_keys, parse_constant=refuse_constant))


# --- migrate -----------------------------------------------------------------------------------------------------


def migrate(
    store: DocsStore,
    tables: Mapping[str, str | os.PathLike[str]] | None = None,
    *,
    apply: bool = False,
    assume_utc: bool = False,
) -> Iterator[Change]:
    """Bring the records that an older system wrote to the current format, in place; plan it, or do it.

    Only the record of a document changes, by one atomic swap. Killed at any point, a document has the old record or
    the new one, and a second run finishes. Its texts are not moved, copied or written. The old record stays in history.
    Every key of the caller's keeps its value. A second run changes nothing.

    A new record has the stage, doc id, task id and parent (from the old one, or else from the table), the size and
    SHA-256 of each part, and its time (from the old one, or else from the file `raw.txt`). Under `docid.migrated` it
    says where these come from. A record that cannot be decided is left alone, with the reason. So is a record whose
    values would not come back equal (NaN, integers past 64 bits, a key twice).

    Stop the older system first: it knows nothing of locks.

    Args:
        store: the store.
        tables: task tables, by stage, for lineage that a record does not say; rows are found by `doc_id`.
        apply: do it; otherwise nothing is changed.
        assume_utc: take a `created_at` without time zone for UTC; otherwise such a record is left alone.

    Returns:
        A stream, one `Change` a document, in the order of stages and doc ids. The names of one stage are held.

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
        >>> [(each.outcome, each.done, each.sources) for each in migrate(store, apply=True)]
        [('migrate', True, ('created_at from the time of raw.txt',))]
        >>> store.open("draft", "0a1").metadata, [each.outcome for each in migrate(store)]
        ({'n': 1}, ['current'])
    """
    check_store(store)
    known = {
        stage: _read_lineages(os.fspath(path), store.stages.check(stage)) for stage, path in (tables or {}).items()
    }
    return _migrate(store, known, apply=apply, assume_utc=assume_utc)


_Lineages = dict[str, tuple[str | None, str | None] | None]
"""The task id and parent that a table has for each doc id; None if two of its rows differ."""


def _read_lineages(path: str, stage: str) -> _Lineages:
    found: _Lineages = {}
    for _, (task_id, doc_id, parent) in read_columns(path, (f"{stage}_task_id", "doc_id"), ("parent_doc_id",)):
        if not is_missing(doc_id):
            lineage = (None if is_missing(task_id) else task_id, None if is_missing(parent) else parent)
            found[doc_id] = lineage if found.get(doc_id, lineage) == lineage else None
    return found


def _migrate(store: DocsStore, known: dict[str, _Lineages], *, apply: bool, assume_utc: bool) -> Iterator[Change]:
    for stage in store.stages:
        rows = known.get(stage, {})

        def make_plan(version: StoredDocument, rows: _Lineages = rows) -> _Plan:
            return _plan_upgrade(store, version, rows, assume_utc=assume_utc) if version.legacy else _Plan(None)

        for finding in find_leftovers(store.backend, stage, stale_after=0):
            if finding.level == "error":
                message = f"{finding.code}: {finding.message}; {finding.hint}"
                yield Change("leave", stage, finding.doc_id, finding.task_id, finding.where, message)
        # Listed first: a document that changes while its stage is listed may be listed twice.
        for doc_id in sorted(set(store.ids(stage))):
            change = _swap_record(store, stage, doc_id, "migrate", make_plan, apply=apply)
            if change.outcome != "absent":
                yield change


class _Source(NamedTuple):
    """The source of a value in the new record: as the record names it, and as a message for people."""

    value: str
    message: str


def _plan_upgrade(store: DocsStore, version: StoredDocument, rows: _Lineages, *, assume_utc: bool) -> _Plan:
    """Return the record of an older system's document in the current format.

    Raises:
        _Undecided: there cannot be one.
    """
    old = _parse_exactly(version.stored.record)
    own = {key: None if old.get(key) == "" else old.get(key) for key in OUR_KEYS}
    _check_own_keys(version, own)
    files = _describe_files(store, version)  # damage is reported first
    has_parent = store.stages.parent_of(version.stage) is not None
    row = rows.get(version.doc_id, (None, None))
    task_id, parent = row or (None, None)
    differing = find_contradictions(version.facts, task_id, parent if has_parent else None)
    lineage, sources = _complete_lineage(version, own, row, has_parent=has_parent)
    created_at, source = _find_time(store, version, own["created_at"], assume_utc=assume_utc)
    if source is not None:
        sources["created_at"] = source
    data = {
        "format": FORMAT,
        "stage": version.stage,
        "doc_id": version.doc_id,
        "task_id": lineage.task_id,
        "parent_doc_id": lineage.parent_doc_id,
        "run_id": own["run_id"],
        "created_at": created_at,
        "files": files,
        "docid": {"nonce": nonce(), "migrated": {key: each.value for key, each in sources.items()}},
        **{key: value for key, value in old.items() if key not in OUR_KEYS},
    }
    warning = "; ".join(
        f"{key} is {shown(kept)} in its record, which stays, and {shown(in_table)} in the table"
        for key, (kept, in_table) in differing.items()
    )
    return _Plan(data, "", warning, tuple(each.message for each in sources.values()))


def _check_own_keys(version: StoredDocument, own: dict[str, Any]) -> None:
    """Refuse a key of docid's own that the older system used for something else."""
    expected = {"stage": version.stage, "doc_id": version.doc_id}
    for key in ("format", "files", "docid", "stage", "doc_id"):
        if own[key] is not None and own[key] != expected.get(key):
            raise _Undecided(f"{key} is {shown(own[key])} in its record, and that key is docid's own; rename it")


def _describe_files(store: DocsStore, version: StoredDocument) -> dict[str, Any]:
    """Read the parts, and return their entries for the new record."""
    loaded = StoredDocument.load(store.backend, version.stage, version.doc_id, ALL_FILES)
    if loaded is None or loaded.stored.record != version.stored.record:
        raise _Undecided("it was changed at this moment; run it again")
    loaded.read()  # whole, and text
    return {name: PartEntry.of(data).to_json() for name, data in loaded.stored.parts.items()}


def _complete_lineage(
    version: StoredDocument, own: dict[str, Any], row: tuple[str | None, str | None] | None, *, has_parent: bool
) -> tuple[Record, dict[str, _Source]]:
    """Return a record whose lineage is complete and valid, and which of its values come from the table.

    Args:
        version: the document.
        own: the values of docid's keys in its record.
        row: the task id and parent in the table; None if two rows differ.
        has_parent: whether documents of its stage have a parent.
    """
    for key in ("task_id", "parent_doc_id"):
        if own[key] is not None and not isinstance(own[key], str):
            raise _Undecided(f"{key} is {shown(own[key])} in its record; expected text")
    in_table = dict(zip(("task_id", "parent_doc_id"), row or (None, None), strict=True))
    unsaid = find_unsaid(version.facts, has_parent=has_parent)
    taken: dict[str, Any] = {key: in_table[key] for key in unsaid if in_table[key] is not None}
    lineage = version.facts._replace(**taken)
    if not has_parent and lineage.parent_doc_id is not None:
        problem = f"parent_doc_id is {shown(lineage.parent_doc_id)}, and stage {version.stage} has no parent"
        raise _Undecided(problem)
    for key in find_unsaid(lineage, has_parent=has_parent):
        if row is None:
            raise _Undecided(f"its record does not say its {key}, and two rows of the table differ about it")
        raise _Undecided(f"neither its record nor a table says its {key}")
    try:
        check_text(lineage.task_id or "", "task_id")
        if lineage.parent_doc_id is not None:
            check_doc_id(lineage.parent_doc_id, "parent_doc_id")
        if own["run_id"] is not None:
            check_text(own["run_id"], "run_id")
    except (ValueError, TypeError) as error:
        is_of_table = any(str(error).startswith(key) for key in taken)
        raise _Undecided(f"{error}{' (from the table)' if is_of_table else ''}") from None
    return lineage, {key: _Source("table", f"{key} from the table") for key in taken}


def _find_time(store: DocsStore, version: StoredDocument, text: Any, *, assume_utc: bool) -> tuple[str, _Source | None]:
    """Return when a document was made, and the source of that unless it is the record alone."""
    if text is None:
        moment = file_time(store, version.stage, version.doc_id)
        if moment is None:
            raise _Undecided("neither its record nor a file says when it was made")
        return timestamp(moment), _Source("raw.txt", "created_at from the time of raw.txt")
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            moment.astimezone(UTC)
            return str(text), None
    except (ValueError, TypeError, OverflowError):
        raise _Undecided(f"created_at is {shown(text)} in its record; expected a time in ISO 8601") from None
    if not assume_utc:
        raise _Undecided(f"created_at is {shown(text)}, without time zone; --assume-utc takes it for UTC")
    return timestamp(moment.replace(tzinfo=UTC)), _Source(f"{text}, taken for UTC", "created_at taken for UTC")


# --- backfill ----------------------------------------------------------------------------------------------------


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

    Only the record changes, by one atomic swap; the old one stays in history. A document that has the key keeps its
    value, also where the table has another. A document of another task than the row's is left alone. So is a record of
    an older system: migrate it first. A second run changes nothing.

    Args:
        store: the store.
        key: the key, for example `template_id`, `model_id` or `combo_id`; none of docid's own.
        table: the table's path; documents are found by its column `doc_id`.
        column: the column that holds the values; they are set as text.
        stage: the stage of the table; by default the one in its name.
        dry_run: change nothing.

    Returns:
        A stream, one `Change` for each document or row without `doc_id`, in the table's order.

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
        ...     print(change.outcome, change.doc_id, change.message)
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
    return _backfill(store, stage, key, _read_values(path, stage, column), apply=not dry_run)


def _read_values(path: str, stage: str, column: str) -> list[tuple[str, str, str]]:
    """Return task id, doc id and value of each row; all rows are checked before anything is changed."""
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


def _backfill(
    store: DocsStore, stage: str, key: str, rows: list[tuple[str, str, str]], *, apply: bool
) -> Iterator[Change]:
    for task_id, doc_id, value in rows:
        if not doc_id:
            yield Change("unnamed", stage, "", task_id, "", "its row has no doc_id")
        elif not value:
            yield Change("empty", stage, doc_id, task_id, store.backend.location(stage, doc_id), "no value for it")
        else:
            plan = partial(_plan_key, task_id=task_id, key=key, value=value)
            yield _swap_record(store, stage, doc_id, "set", plan, apply=apply)


def _plan_key(version: StoredDocument, task_id: str, key: str, value: str) -> _Plan:
    """Return the record of a document with one more key.

    Raises:
        _Undecided: it is a document of another task, or of an older system.
    """
    record = version.facts
    if record.legacy:
        raise _Undecided("its record was written by an older system; 'docid migrate' brings it to this format")
    if contradicts(record.task_id, task_id):
        raise _Undecided(f"it is a document of task {shown(record.task_id)}; the table says {shown(task_id)}")
    if key not in record.data:
        own = {**record.data["docid"], "nonce": nonce()}
        return _Plan({**record.data, "docid": own, key: value}, f"{key}={value!r}")
    there = record.data[key]
    differs = f"{key} is {shown(there)}, which stays, and {shown(value)} in the table"
    return _Plan(None, "", "" if there == value else differs)

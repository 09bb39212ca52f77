"""`migrate` and `backfill`: bring records to the current format and complete them, each in one atomic swap."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from docid._text import quote
from docid.core.document import ALL_FILES, DEPTH, FORMAT, OUR_KEYS, is_too_deep, timestamp
from docid.core.findings import Change, ChangeOutcome
from docid.core.ids import DOC_ID_EXPECTED, check_doc_id, check_text, is_doc_id, is_missing
from docid.core.lineage_rules import contradicts, find_contradictions, find_unsaid
from docid.core.record import RECORD_FILE, PartEntry, Record, nonce
from docid.errors import DocidError, TaskTableError
from docid.operations.curate.replay import file_time
from docid.store.backends.base import TURNS
from docid.store.docs_store import DocsStore, check_store
from docid.store.scanning import find_leftovers
from docid.store.stored import StoredDocument
from docid.tables.csvfile import Faults, read_columns
from docid.tables.tasks import infer_stage


class _Undecided(Exception):
    """Why a record cannot become another one."""


def _swap_record(
    store: DocsStore,
    stage: str,
    doc_id: str,
    outcome: ChangeOutcome,
    plan: Callable[[StoredDocument, Change], tuple[dict[str, Any] | None, Change]],
    *,
    apply: bool,
) -> Change:
    """Put the planned record in the place of a document's; or say why that cannot be done.

    A plan is the new record, or None if nothing changes, and the change with what there is to say.
    """
    change = Change("leave", stage, doc_id, None, store.backend.location(stage, doc_id))
    try:
        for _ in range(TURNS):
            version = StoredDocument.load(store.backend, stage, doc_id)
            if version is None:
                return change._replace(outcome="absent", message="not in the store")
            change = change._replace(task_id=version.task_id, message="")
            if is_too_deep(version.record):
                raise _Undecided(f"lists and dicts more than {DEPTH} deep")  # noqa: TRY301 - reported as the others are
            data, change = plan(version, change)
            if data is None:
                return change._replace(outcome="current")
            record = _to_bytes(version, data)
            if not apply or store.backend.amend(stage, doc_id, version.stored.record, record, {}):
                return change._replace(outcome=outcome, task_id=data["task_id"], done=apply)
        raise _Undecided("others change it all the time; try again")  # noqa: TRY301 - reported as the others are
    except _Undecided as reason:
        return change._replace(message=str(reason))
    except (DocidError, OSError) as error:
        return change._replace(message=str(error), error=error)


def _to_bytes(version: StoredDocument, data: dict[str, Any]) -> bytes:
    """Return a new record as it is stored, if every value of the old one comes back equal."""
    old = _parse_exactly(version.stored.record)
    try:
        record = version.facts._replace(data=data).to_bytes()
        again = Record.from_bytes(record, version.stage, version.doc_id)
    except (TypeError, ValueError) as error:
        raise _Undecided(f"its values cannot stand in a record: {error}") from None
    for key, value in old.items():
        if key not in OUR_KEYS and json.dumps(again.data.get(key)) != json.dumps(value):
            raise _Undecided(f"{key} is {quote(value)} in its record, which would not come back equal")
    return record


def _parse_exactly(record: bytes) -> dict[str, Any]:
    """Return the values of a record exactly as they stand, numbers of any size; refuse what no reader gives back."""

    def refuse_repeated_keys(items: list[tuple[str, Any]]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in items:
            if key in values:
                raise _Undecided(f"{RECORD_FILE} has the key {quote(key)} twice")
            values[key] = value
        return values

    def refuse_constant(text: str) -> Any:
        raise _Undecided(f"{RECORD_FILE} holds {text}, which is no JSON")

    # It was read as JSON before, and is not too deep.
    text = record.decode("utf-8-sig")
    return dict(json.loads(text, object_pairs_hook=refuse_repeated_keys, parse_constant=refuse_constant))


def migrate(
    store: DocsStore,
    tables: Mapping[str, str | os.PathLike[str]] | None = None,
    *,
    apply: bool = False,
    assume_utc: bool = False,
) -> Iterator[Change]:
    """Bring the records that an older system wrote to the current format, in place; plan it, or do it.

    Only the record of a document changes, by one atomic swap: killed at any point, a second run finishes. The old
    record stays in history. Every key of the caller's keeps its value. A second run changes nothing.

    A new record takes its task id and parent from the old one, or else from the table, and its time from the old one,
    or else from the file `raw.txt`; `docid.migrated` says which. A record that cannot be decided is left alone, with
    the reason. So is a record whose values would not come back equal (NaN, integers past 64 bits, a key twice).

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


_Lineage = tuple[str | None, str | None]
"""The task id and parent that a table has for a doc id."""


def _read_lineages(path: str, stage: str) -> dict[str, _Lineage | None]:
    """Return what a table has for each doc id; None if two of its rows differ."""
    found: dict[str, _Lineage | None] = {}
    for _, (task_id, doc_id, parent) in read_columns(path, (f"{stage}_task_id", "doc_id"), ("parent_doc_id",)):
        if not is_missing(doc_id):
            lineage = (None if is_missing(task_id) else task_id, None if is_missing(parent) else parent)
            found[doc_id] = lineage if found.get(doc_id, lineage) == lineage else None
    return found


def _migrate(
    store: DocsStore, known: dict[str, dict[str, _Lineage | None]], *, apply: bool, assume_utc: bool
) -> Iterator[Change]:
    for stage in store.stages:
        for finding in find_leftovers(store.backend, stage, stale_after=0):
            if finding.level == "error":
                message = f"{finding.code}: {finding.message}; {finding.hint}"
                yield Change("leave", stage, finding.doc_id, finding.task_id, finding.where, message)
        # Listed first: a document that changes while its stage is listed may be listed twice.
        for doc_id in sorted(set(store.ids(stage))):
            row = known.get(stage, {}).get(doc_id, (None, None))
            plan = partial(_plan_upgrade, store=store, row=row, assume_utc=assume_utc)
            change = _swap_record(store, stage, doc_id, "migrate", plan, apply=apply)
            if change.outcome != "absent":
                yield change


def _plan_upgrade(
    version: StoredDocument, change: Change, store: DocsStore, row: _Lineage | None, *, assume_utc: bool
) -> tuple[dict[str, Any] | None, Change]:
    """Return the record of an older system's document in the current format."""
    if not version.legacy:
        return None, change
    old = _parse_exactly(version.stored.record)
    own = {key: None if old.get(key) == "" else old.get(key) for key in OUR_KEYS}
    expected = {"stage": version.stage, "doc_id": version.doc_id}
    for key in ("format", "files", "docid", "stage", "doc_id"):
        if own[key] is not None and own[key] != expected.get(key):
            raise _Undecided(f"{key} is {quote(own[key])} in its record, and that key is docid's own; rename it")
    loaded = StoredDocument.load(store.backend, version.stage, version.doc_id, ALL_FILES)
    if loaded is None or loaded.stored.record != version.stored.record:
        raise _Undecided("it was changed at this moment; run it again")
    loaded.read()  # whole, and text: damage is reported first
    has_parent = store.stages.parent_of(version.stage) is not None
    lineage, from_table = _complete_lineage(version, own, row, has_parent=has_parent)
    created_at, time_source, time_message = _find_time(store, version, own["created_at"], assume_utc=assume_utc)
    migrated = dict.fromkeys(from_table, "table") | ({"created_at": time_source} if time_source else {})
    data = {
        "format": FORMAT,
        **expected,
        "task_id": lineage.task_id,
        "parent_doc_id": lineage.parent_doc_id,
        "run_id": own["run_id"],
        "created_at": created_at,
        "files": {name: PartEntry.of(part).to_json() for name, part in loaded.stored.parts.items()},
        "docid": {"nonce": nonce(), "migrated": migrated},
        **{key: value for key, value in old.items() if key not in OUR_KEYS},
    }
    task_id, parent = row or (None, None)
    differing = find_contradictions(version.facts, task_id, parent if has_parent else None)
    warning = "; ".join(
        f"{key} is {quote(kept)} in its record, which stays, and {quote(in_table)} in the table"
        for key, (kept, in_table) in differing.items()
    )
    sources = (*(f"{key} from the table" for key in from_table), *((time_message,) if time_message else ()))
    return data, change._replace(warning=warning, sources=sources)


def _complete_lineage(
    version: StoredDocument, own: dict[str, Any], row: _Lineage | None, *, has_parent: bool
) -> tuple[Record, list[str]]:
    """Return a record whose lineage is complete and valid, and which of its keys come from the table."""
    for key in ("task_id", "parent_doc_id"):
        if own[key] is not None and not isinstance(own[key], str):
            raise _Undecided(f"{key} is {quote(own[key])} in its record; expected text")
    in_table: dict[str, str | None] = dict(zip(("task_id", "parent_doc_id"), row or (None, None), strict=True))
    unsaid = find_unsaid(version.facts, has_parent=has_parent)
    taken: dict[str, Any] = {key: in_table[key] for key in unsaid if in_table[key] is not None}
    lineage = version.facts._replace(**taken)
    if not has_parent and lineage.parent_doc_id is not None:
        problem = f"parent_doc_id is {quote(lineage.parent_doc_id)}, and stage {version.stage} has no parent"
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
    return lineage, list(taken)


def _find_time(store: DocsStore, version: StoredDocument, text: Any, *, assume_utc: bool) -> tuple[str, str, str]:
    """Return when a document was made, and the source of that, for the record and for people; empty if the record."""
    if text is None:
        moment = file_time(store, version.stage, version.doc_id)
        if moment is None:
            raise _Undecided("neither its record nor a file says when it was made")
        return timestamp(moment), "raw.txt", "created_at from the time of raw.txt"
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            moment.astimezone(UTC)
            return str(text), "", ""
    except (ValueError, TypeError, OverflowError):
        raise _Undecided(f"created_at is {quote(text)} in its record; expected a time in ISO 8601") from None
    if not assume_utc:
        raise _Undecided(f"created_at is {quote(text)}, without time zone; --assume-utc takes it for UTC")
    return timestamp(moment.replace(tzinfo=UTC)), f"{text}, taken for UTC", "created_at taken for UTC"


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


def _plan_key(
    version: StoredDocument, change: Change, task_id: str, key: str, value: str
) -> tuple[dict[str, Any] | None, Change]:
    """Return the record of a document with one more key."""
    record = version.facts
    if record.legacy:
        raise _Undecided("its record was written by an older system; 'docid migrate' brings it to this format")
    if contradicts(record.task_id, task_id):
        raise _Undecided(f"it is a document of task {quote(record.task_id)}; the table says {quote(task_id)}")
    if key not in record.data:
        own = {**record.data["docid"], "nonce": nonce()}
        return {**record.data, "docid": own, key: value}, change._replace(message=f"{key}={value!r}")
    there = record.data[key]
    differs = f"{key} is {quote(there)}, which stays, and {quote(value)} in the table"
    return None, change._replace(warning="" if there == value else differs)

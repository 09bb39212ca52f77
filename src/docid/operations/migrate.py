"""`migrate` and `backfill`: convert and complete records, each in one atomic swap."""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from string import Formatter
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from docid._files import raise_time_limit
from docid._text import name_task, quote
from docid.core.document import ALL_FILES, FORMAT, OUR_KEYS, PART_FILES, timestamp
from docid.core.findings import Change, ChangeOutcome
from docid.core.ids import DOC_ID_EXPECTED, check_doc_id, check_text, is_doc_id, is_missing
from docid.core.lineage_rules import contradicts, find_contradictions, find_missing_lineage
from docid.core.metadata import DEPTH, is_too_deep
from docid.core.record import RECORD_FILE, PartEntry, Record, nonce
from docid.errors import DocidError, TaskTableError, UnreadableDocument
from docid.operations.curate.replay import file_time
from docid.store.backends.base import TURNS
from docid.store.docs_store import DocsStore, check_store
from docid.store.scanning import find_leftovers
from docid.store.stored import StoredDocument
from docid.tables.csvfile import read_columns
from docid.tables.faults import Faults
from docid.tables.tasks import infer_stage


class _Undecided(Exception):
    """The reason why docid leaves a record alone."""


def _swap_record(
    store: DocsStore,
    stage: str,
    doc_id: str,
    outcome: ChangeOutcome,
    plan: Callable[[StoredDocument, Change], tuple[dict[str, Any] | None, Change]],
    *,
    apply: bool,
    rename: Mapping[str, str] = MappingProxyType({}),
) -> Change:
    """Replace the record of a document with the planned one; return the outcome, or the reason why not.

    `plan` returns the new record, or None to keep the old one, and the change with its messages.
    """
    change = Change("leave", stage, doc_id, None, store.backend.location(stage, doc_id))
    try:
        for _ in range(TURNS):
            version = StoredDocument.load(store.backend, stage, doc_id)
            if version is None:
                return change._replace(outcome="absent", message="not in the store")
            change = change._replace(task_id=version.task_id, message="")
            if is_too_deep(version.record):
                raise _Undecided(f"its record nests lists and dicts more than {DEPTH} deep")  # noqa: TRY301 - caught with the others
            data, change = plan(version, change)
            if data is None:
                return change._replace(outcome="current")
            record = _to_bytes(version, data, rename)
            if apply:
                store.manifest.record()
            if not apply or store.backend.amend(stage, doc_id, version.stored.record, record, {}):
                return change._replace(outcome=outcome, task_id=data["task_id"], done=apply)
        raise _Undecided("other processes keep changing it; try again")  # noqa: TRY301 - caught with the others
    except _Undecided as reason:
        return change._replace(message=str(reason))
    except (DocidError, OSError) as error:
        raise_time_limit(error)
        return change._replace(message=str(error), error=error)


def _to_bytes(version: StoredDocument, data: dict[str, Any], rename: Mapping[str, str]) -> bytes:
    """Return the bytes of a new record; raise unless they keep every value of the old one, perhaps under a new key."""
    old = _parse_exactly(version.stored.record)
    try:
        record = version.facts._replace(data=data).to_bytes()
        again = Record.from_bytes(record, version.stage, version.doc_id)
    except (TypeError, ValueError) as error:
        raise _Undecided(f"its values cannot be stored in a record: {error}") from None
    for key, value in old.items():
        new = rename.get(key, key)
        if new not in OUR_KEYS and json.dumps(again.data.get(new)) != json.dumps(value):
            raise _Undecided(f"{key} is {quote(value)} in its record, and cannot be stored unchanged")
    return record


def _parse_exactly(record: bytes) -> dict[str, Any]:
    """Return the exact values of a record, numbers of any size; refuse repeated keys and invalid JSON."""

    def refuse_repeated_keys(items: list[tuple[str, Any]]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in items:
            if key in values:
                raise _Undecided(f"{RECORD_FILE} has the key {quote(key)} twice")
            values[key] = value
        return values

    def refuse_constant(text: str) -> Any:
        raise _Undecided(f"{RECORD_FILE} contains {text}, which is not valid JSON")

    # Safe to parse: `_swap_record` has read it as JSON and checked its depth.
    text = record.decode("utf-8-sig")
    return dict(json.loads(text, object_pairs_hook=refuse_repeated_keys, parse_constant=refuse_constant))


def migrate(
    store: DocsStore,
    tables: Mapping[str, str | os.PathLike[str]] | None = None,
    *,
    apply: bool = False,
    assume_utc: bool = False,
    rename: Mapping[str, str] | None = None,
    task_id: str | None = None,
) -> Iterator[Change]:
    """Convert the records of an older system to the current format in place; plan it, or do it with `apply`.

    Only records change, each by one atomic swap, and the old record stays in history. If the run is killed, a second
    run finishes it. Keys of the caller keep their values.

    The task id and parent come from the old record, or else from the table. The time comes from the old record, or
    else from the file time of `raw.txt`. The new record lists the added values and their sources under
    `docid.migrated`. Keys that docid uses itself (`format`, `files`, `docid`) stay as metadata. A record that is
    incomplete, or has values that cannot be stored unchanged (NaN, integers over 64 bits, repeated keys), is left
    alone, with the reason.

    Stop the older system first: it does not use docid's locks.

    Args:
        store: the store.
        tables: task tables by stage, for lineage that records lack; rows are found by `doc_id`.
        apply: change the records; otherwise only plan.
        assume_utc: treat a `created_at` without time zone as UTC; otherwise the record is left alone.
        rename: new names for keys of the old records, such as `{"parent": "parent_doc_id"}`. A record that has both
            keys is left alone.
        task_id: a template for the task ids that records and tables lack, such as `{combo_id}__{model_id}`: each name
            in braces is a key of the record.

    Returns:
        A stream with one `Change` per document, in the order of stages and doc ids. Memory holds the doc ids of one
        stage.

    Raises:
        TaskTableError: a table is faulty.
        InvalidName: the store lacks the stage of a table.
        ValueError: `rename` or `task_id` cannot be used.
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
    rules = _Rules.of(assume_utc, rename or {}, task_id)
    if apply:
        store.manifest.refuse_conflict()
    return _migrate(store, known, rules, apply=apply)


class _Rules(NamedTuple):
    """How to read the records of an older system: the arguments of `migrate`.

    Attributes:
        assume_utc, rename: as for `migrate`.
        template: the parts of the template for task ids: text, and the name of a key, or None at the end.
    """

    assume_utc: bool
    rename: Mapping[str, str]
    template: tuple[tuple[str, str | None], ...]

    @classmethod
    def of(cls, assume_utc: bool, rename: Mapping[str, str], task_id: str | None) -> "_Rules":  # noqa: FBT001 - of migrate
        """Return the rules; raise ValueError for arguments that cannot be used."""
        for key, new in rename.items():
            if not new or new in {"format", "files", "docid", "stage", "doc_id"}:
                raise ValueError(f"rename: {key} to {quote(new)}; expected another key than docid's own")
        if repeated := sorted(new for new, count in Counter(rename.values()).items() if count > 1):
            raise ValueError(f"rename: two keys to {quote(repeated[0])}; expected a new name for each")
        try:
            parsed = list(Formatter().parse(task_id or ""))
        except ValueError as error:
            raise ValueError(f"task_id: {quote(task_id)} is not a template: {error}") from None
        if task_id is not None and not any(name for _, name, _, _ in parsed):
            raise ValueError(f"task_id: {quote(task_id)}; expected keys of records in braces, such as {{combo_id}}")
        parts = []
        for text, name, form, conversion in parsed:
            if name is not None and (form or conversion or not name or not name.isidentifier()):
                raise ValueError(f"task_id: {quote(task_id)}; expected keys of records in braces, such as {{combo_id}}")
            parts.append((text, name))
        return cls(assume_utc, rename, tuple(parts))

    def rename_keys(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return a record with its new keys, in the same order."""
        for key, new in self.rename.items():
            if key in record and new in record:
                raise _Undecided(f"its record has both {key} and its new name {new}")
        return {self.rename.get(key, key): value for key, value in record.items()}

    def make_task_id(self, record: Mapping[str, Any]) -> str | None:
        """Return the task id that the template gives for a record; None without a template."""
        text = ""
        for before, name in self.template:
            value = "" if name is None else record.get(name)
            if not isinstance(value, (str, int)) or isinstance(value, bool) or (name and value == ""):
                raise _Undecided(f"the template of task ids needs {name}, which is {quote(value)} in its record")
            text += f"{before}{value}"
        return text or None


_Lineage = tuple[str | None, str | None]
"""The task id and parent of a doc id in a table."""


def _read_lineages(path: str, stage: str) -> dict[str, _Lineage | None]:
    """Return the lineage of each doc id of a table; None if its rows disagree."""
    found: dict[str, _Lineage | None] = {}
    for _, (task_id, doc_id, parent) in read_columns(path, (f"{stage}_task_id", "doc_id"), ("parent_doc_id",)):
        if not is_missing(doc_id):
            lineage = (None if is_missing(task_id) else task_id, None if is_missing(parent) else parent)
            found[doc_id] = lineage if found.get(doc_id, lineage) == lineage else None
    return found


def _migrate(
    store: DocsStore, known: dict[str, dict[str, _Lineage | None]], rules: _Rules, *, apply: bool
) -> Iterator[Change]:
    for stage in store.stages:
        for finding in find_leftovers(store.backend, stage, stale_after=0):
            if finding.level == "error":
                message = f"{finding.code}: {finding.message}; {finding.hint}"
                yield Change("leave", stage, finding.doc_id, finding.task_id, finding.where, message)
        # Listing ends before the first change: a document that changes during the listing may be listed twice.
        for doc_id in sorted(set(store.ids(stage))):
            row = known.get(stage, {}).get(doc_id, (None, None))
            plan = partial(_plan_upgrade, store=store, row=row, rules=rules)
            change = _swap_record(store, stage, doc_id, "migrate", plan, apply=apply, rename=rules.rename)
            if isinstance(change.error, UnreadableDocument) and change.error.code == "uncommitted-directory":
                change = change._replace(message=_explain_unfinished(store, stage, doc_id))
            if change.outcome != "absent":
                yield change


def _explain_unfinished(store: DocsStore, stage: str, doc_id: str) -> str:
    """Return why a directory without a record is left alone."""
    files = store.backend.sizes(stage, doc_id, ALL_FILES)
    if PART_FILES["raw"] in files:
        return f"it has {', '.join(sorted(files))}, but no {RECORD_FILE}: restore the record to keep the text"
    found = f"it has {', '.join(sorted(files))}, but no {RECORD_FILE}" if files else f"it has no {RECORD_FILE}"
    remedy = "once it is stopped, 'docid repair --stale-after 0s --apply' moves it aside, and a run makes the document"
    return f"{found}: the older system has not finished it; {remedy}"


def _plan_upgrade(
    version: StoredDocument, change: Change, store: DocsStore, row: _Lineage | None, rules: _Rules
) -> tuple[dict[str, Any] | None, Change]:
    """Plan the record of an older system in the current format."""
    if not version.legacy:
        return None, change
    old = rules.rename_keys(_parse_exactly(version.stored.record))
    own = {key: None if old.get(key) == "" else old.get(key) for key in OUR_KEYS}
    expected = {"stage": version.stage, "doc_id": version.doc_id}
    for key in ("stage", "doc_id"):
        if own[key] is not None and own[key] != expected.get(key):
            raise _Undecided(f"{key} is {quote(own[key])} in its record, but docid reserves this key; rename it")
    loaded = StoredDocument.load(store.backend, version.stage, version.doc_id, ALL_FILES)
    if loaded is None or loaded.stored.record != version.stored.record:
        raise _Undecided("another process changed it during the run; run it again")
    loaded.read()  # raises if a part is damaged
    has_parent = store.stages.parent_of(version.stage) is not None
    facts = version.facts
    if rules.rename:
        texts = {key: own[key] if isinstance(own[key], str) else None for key in ("task_id", "parent_doc_id", "run_id")}
        facts = facts._replace(**cast("Any", texts))
    lineage, found = _complete_lineage(facts, version.stage, own, row, old, rules, has_parent=has_parent)
    created_at, time_source, time_message = _find_time(store, version, own["created_at"], assume_utc=rules.assume_utc)
    migrated = found | ({"created_at": time_source} if time_source else {})
    kept = {key: old[key] for key in ("format", "files", "docid") if own[key] is not None}
    data = {
        "format": FORMAT,
        **expected,
        "task_id": lineage.task_id,
        "parent_doc_id": lineage.parent_doc_id,
        "run_id": own["run_id"],
        "created_at": created_at,
        "files": {name: PartEntry.of(part).to_json() for name, part in loaded.stored.parts.items()},
        "docid": {"nonce": nonce(), "migrated": migrated, **({"metadata": kept} if kept else {})},
        **{key: value for key, value in old.items() if key not in OUR_KEYS},
    }
    task_id, parent = row or (None, None)
    differing = find_contradictions(facts, task_id, parent if has_parent else None)
    warning = "; ".join(
        f"{key} is {quote(kept)} in its record (kept), and {quote(in_table)} in the table"
        for key, (kept, in_table) in differing.items()
    )
    sources = (*(f"{key} from the {source}" for key, source in found.items()), *filter(None, (time_message,)))
    return data, change._replace(warning=warning, sources=sources)


def _complete_lineage(  # noqa: PLR0917 - one caller
    facts: Record,
    stage: str,
    own: dict[str, Any],
    row: _Lineage | None,
    old: dict[str, Any],
    rules: _Rules,
    *,
    has_parent: bool,
) -> tuple[Record, dict[str, str]]:
    """Return a record with complete, valid lineage, and the sources of the keys that it lacked."""
    for key in ("task_id", "parent_doc_id"):
        if own[key] is not None and not isinstance(own[key], str):
            raise _Undecided(f"{key} is {quote(own[key])} in its record; expected text")
    in_table: dict[str, str | None] = dict(zip(("task_id", "parent_doc_id"), row or (None, None), strict=True))
    missing = find_missing_lineage(facts, has_parent=has_parent)
    taken: dict[str, Any] = {key: in_table[key] for key in missing if in_table[key] is not None}
    found = dict.fromkeys(taken, "table")
    if "task_id" in missing and "task_id" not in taken and (made := rules.make_task_id(old)) is not None:
        taken["task_id"], found["task_id"] = made, "template"
    lineage = facts._replace(**taken)
    if not has_parent and lineage.parent_doc_id is not None:
        problem = f"its record has parent_doc_id {quote(lineage.parent_doc_id)}, but stage {stage} has no parent"
        raise _Undecided(problem)
    for key in find_missing_lineage(lineage, has_parent=has_parent):
        if row is None:
            raise _Undecided(f"its record has no {key}, and two rows of the table disagree about it")
        raise _Undecided(f"neither its record nor a table has its {key}")
    try:
        check_text(lineage.task_id or "", "task_id")
        if lineage.parent_doc_id is not None:
            check_doc_id(lineage.parent_doc_id, "parent_doc_id")
        if own["run_id"] is not None:
            check_text(own["run_id"], "run_id")
    except (ValueError, TypeError) as error:
        source = next((f" (from the {source})" for key, source in found.items() if str(error).startswith(key)), "")
        raise _Undecided(f"{error}{source}") from None
    return lineage, found


def _find_time(store: DocsStore, version: StoredDocument, text: Any, *, assume_utc: bool) -> tuple[str, str, str]:
    """Return a creation time, and its source for the record and for people; both empty if the record has one."""
    if text is None:
        moment = file_time(store, version.stage, version.doc_id)
        if moment is None:
            raise _Undecided("its record has no created_at, and the store has no file time for it")
        return timestamp(moment), "raw.txt", "created_at from the time of raw.txt"
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            moment.astimezone(UTC)
            return str(text), "", ""
    except (ValueError, TypeError, OverflowError):
        raise _Undecided(f"created_at is {quote(text)} in its record; expected a time in ISO 8601") from None
    if not assume_utc:
        raise _Undecided(f"created_at is {quote(text)}, without time zone; use --assume-utc if it is UTC")
    return timestamp(moment.replace(tzinfo=UTC)), f"{text}, taken for UTC", "created_at read as UTC"


def backfill(
    store: DocsStore,
    key: str,
    table: str | os.PathLike[str],
    column: str,
    *,
    stage: str | None = None,
    dry_run: bool = False,
) -> Iterator[Change]:
    r"""Add a metadata key to documents that lack it, from a column of their task table.

    Only records change, each by one atomic swap, and the old record stays in history. A document that has the key
    keeps its value, even if the table has another. A document of another task than its row is left alone, and so is
    a record of an older system: migrate it first.

    Args:
        store: the store.
        key: the key to add, for example `template_id`, `model_id` or `combo_id`; not a key that docid reserves.
        table: the path of the table; its column `doc_id` names the documents.
        column: the column with the values, which are stored as text.
        stage: the stage of the table; by default the one in its name.
        dry_run: report the outcomes without changing records.

    Returns:
        A stream with one `Change` per document, or per row without `doc_id`, in the order of the table.

    Raises:
        ValueError: the key is empty or reserved, or the name of the table has no stage.
        TaskTableError: the table is faulty, or has two values for one document. No record changes.
        InvalidName: the store lacks the stage.
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
        raise ValueError(f"key: {key!r}; expected a metadata key other than {', '.join(OUR_KEYS)}")
    check_store(store)
    if not dry_run:
        store.manifest.refuse_conflict()
    path = os.fspath(table)
    stage = infer_stage(path, store.stages) if stage is None else store.stages.check(stage)
    return _backfill(store, stage, key, _read_values(path, stage, column), apply=not dry_run)


def _read_values(path: str, stage: str, column: str) -> list[tuple[str, str, str]]:
    """Return the task id, doc id and value of each row, after all rows are checked."""
    faults = Faults(path)
    rows: list[tuple[str, str, str]] = []
    first: dict[str, tuple[int, str]] = {}
    try:
        for number, (task_id, cell, text) in read_columns(path, (f"{stage}_task_id", "doc_id", column)):
            doc_id, value = ("" if is_missing(each) else each for each in (cell, text))
            if doc_id and not is_doc_id(doc_id):
                faults.add(number, "doc_id", doc_id, f"not a doc id; expected {DOC_ID_EXPECTED}")
            other, other_value = first.setdefault(doc_id, (number, value))
            if doc_id and other_value != value:
                wrong = f"differs from row {other} for the document {doc_id}{name_task(task_id)}; expected one value"
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
            yield Change(
                "empty", stage, doc_id, task_id, store.backend.location(stage, doc_id), "the table has no value for it"
            )
        else:
            plan = partial(_plan_key, task_id=task_id, key=key, value=value)
            yield _swap_record(store, stage, doc_id, "set", plan, apply=apply)


def _plan_key(
    version: StoredDocument, change: Change, task_id: str, key: str, value: str
) -> tuple[dict[str, Any] | None, Change]:
    """Plan the record of a document with one more key."""
    record = version.facts
    if record.legacy:
        raise _Undecided("its record was written by an older system; run 'docid migrate --apply' first")
    if contradicts(record.task_id, task_id):
        raise _Undecided(f"its task is {quote(record.task_id)}; the table has {quote(task_id)}")
    if key not in record.data:
        own = {**record.data["docid"], "nonce": nonce()}
        return {**record.data, "docid": own, key: value}, change._replace(message=f"{key}={value!r}")
    stored = record.data[key]
    differs = f"{key} is {quote(stored)} in its record (kept), and {quote(value)} in the table"
    return None, change._replace(warning="" if stored == value else differs)

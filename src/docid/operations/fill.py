"""Fill the empty ids of a task table on disk."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

from docid.core.findings import Progress
from docid.core.stages import DEFAULT_STAGES, Stages
from docid.operations.curate.link import keep_existing
from docid.operations.curate.replay import Note
from docid.store.docs_store import DocsStore
from docid.tables.faults import Faults
from docid.tables.replicates import Added, add_replicates
from docid.tables.reserve import reserve_with
from docid.tables.rows import TaskRow
from docid.tables.tasks import Pass, Row, TaskRows, TaskTable, check_writable, read_tasks, write_tasks


class Filled(NamedTuple):
    """The number of rows, of ids filled, of rows still `without_parent` (no `parent_doc_id`), of documents kept.

    `added` is the number of rows added for replicates, `above` that of existing rows that are replicates above the
    number, and `others` that of rows whose salt is not that of a replicate.
    """

    rows: int
    doc_ids: int
    parent_doc_ids: int
    without_parent: int
    existing: int = 0
    notes: tuple[Note, ...] = ()
    added: int = 0
    above: int = 0
    others: int = 0


def fill_table(
    path: str,
    row_type: type[TaskRow],
    *,
    run_id: str | None = None,
    salt: str | None = None,
    parents: Iterable[TaskRow] | None = None,
    store: DocsStore | None = None,
    delimiter: str = ",",
    dry_run: bool = False,
    progress: Progress | None = None,
    stages: Stages = DEFAULT_STAGES,
    replicates: int | None = None,
) -> Filled:
    """Fill the empty ids of a task table in place, atomically; keep ids already set.

    Arguments are those of `reserve_tasks` and `read_tasks`; with a `store`, see `keep_existing`, and with `replicates`,
    `add_replicates`. docid does not write a table if no id is empty and no row is added.
    """
    check_writable(path)
    before, after = _Count(), _Count()
    table = read_tasks(path, row_type, reserved=False, delimiter=delimiter)
    faults = Faults(path)
    rows = (row for _, row in table.scan(faults, Pass()))
    deque(before.watch(rows, f"reading {path}", None, progress), maxlen=0)
    faults.raise_any()
    options: dict[str, Any] = {"run_id": run_id, "salt": salt, "parents": parents}
    reserved, kept = reserve_existing(table, row_type, store, path, **options, stages=stages, replicates=replicates)
    added = kept.added
    before.rows += added.number
    before.ids += added.number
    if row_type.parent_stage is not None:
        before.parents += added.without_parent
    what = f"{'checking' if dry_run else 'reserving'} rows of stage {row_type.stage}"
    filled = after.watch(reserved, what, before.rows, progress)
    lacks_columns = {"doc_id", "parent_doc_id"} & (set(reserved.columns) - set(table.columns))
    if dry_run or not (before.parents or before.ids or (before.rows == 0 and lacks_columns)):
        deque(filled, maxlen=0)
    else:
        write_tasks(path, filled if before.rows else reserved, like=table)
    ids, parent_ids = before.ids - after.ids, before.parents - after.parents
    of_added = added.number, added.above, added.others
    return Filled(after.rows, ids, parent_ids, after.parents, kept.rows, tuple(kept.notes), *of_added)


def reserve_existing(
    rows: Iterable[Row | Mapping[str, Any]],
    row_type: type[Row],
    store: DocsStore | None,
    where: str,
    *,
    run_id: str | None = None,
    salt: str | None = None,
    parents: Iterable[TaskRow] | None = None,
    stages: Stages = DEFAULT_STAGES,
    replicates: int | None = None,
) -> tuple[TaskRows[Row], "Kept"]:
    """Return what `reserve_tasks` does, with the documents that a store has for the tasks; see `keep_existing`.

    The second result is complete when the rows have been read. A run id or a salt asks for documents of its own, so
    they link no row. With `replicates`, the rows are a table; see `add_replicates`. Memory holds all rows.
    """
    kept = Kept()
    uses_link = store is not None and run_id is None and salt is None
    if replicates is not None:
        parents = None if parents is None else list(parents)  # read twice
        table = cast("TaskTable[Row]", rows)
        kept.added = add_replicates(table, replicates, parents=parents, run_id=run_id, stages=stages)
        rows, run_id = kept.added.rows, None  # the rows have it

    def link(given: list[Row]) -> list[Row]:
        assert store is not None  # noqa: S101 - see below
        linked, kept.notes = keep_existing(given, store, where)
        kept.rows = sum(one is not other for one, other in zip(given, linked, strict=True))
        return linked

    options: dict[str, Any] = {"parents": parents, "stages": stages, "link": link if uses_link else None}
    return reserve_with(rows, row_type, run_id, salt, **options), kept


class Kept:
    """The number of rows that keep the id of an existing document, and notes; and the rows added for replicates."""

    def __init__(self) -> None:
        self.rows = 0
        self.notes: list[Note] = []
        self.added = Added(iter(()))


class _Count:
    """Counts the rows of a stream, and their empty ids."""

    def __init__(self) -> None:
        self.rows = self.ids = self.parents = 0

    def watch(self, rows: Iterable[TaskRow], what: str, of: int | None, progress: Progress | None) -> Iterator[TaskRow]:
        """Yield the rows, and report progress after each one."""
        for row in rows:
            self.rows += 1
            self.ids += not row.doc_id
            self.parents += row.parent_stage is not None and not row.parent_doc_id
            yield row
            if progress is not None:
                progress(what, self.rows, of)

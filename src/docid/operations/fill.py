"""Fill the empty ids of a task table on disk."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from docid.core.findings import Progress
from docid.operations.curate.link import keep_existing
from docid.operations.curate.replay import Note
from docid.store.docs_store import DocsStore
from docid.tables.faults import Faults
from docid.tables.reserve import reserve_tasks
from docid.tables.rows import TaskRow
from docid.tables.tasks import Pass, Row, TaskRows, check_writable, number_rows, read_tasks, write_tasks


class Filled(NamedTuple):
    """The number of rows, of ids filled, of rows still without a `parent_doc_id` (`orphans`), and of documents kept."""

    rows: int
    doc_ids: int
    parent_doc_ids: int
    orphans: int
    existing: int = 0
    notes: tuple[Note, ...] = ()


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
) -> Filled:
    """Fill the empty ids of a task table in place, atomically; keep ids already set.

    Arguments are those of `reserve_tasks` and `read_tasks`; with a `store`, see `keep_existing`. docid does not write a
    table without empty ids.
    """
    check_writable(path)
    before, after = _Count(), _Count()
    table = read_tasks(path, row_type, reserved=False, delimiter=delimiter)
    faults = Faults(path)
    rows = (row for _, row in table.scan(faults, Pass()))
    deque(before.watch(rows, f"reading {path}", None, progress), maxlen=0)
    faults.raise_any()
    kept = Kept(0, ())
    reserved = reserve_tasks(table, row_type, run_id, salt, parents=parents)
    if store is not None:
        reserved, kept = reserve_existing(table, reserved, store, path)
    what = f"{'checking' if dry_run else 'reserving'} rows of stage {row_type.stage}"
    filled = after.watch(reserved, what, before.rows, progress)
    lacks_columns = {"doc_id", "parent_doc_id"} & (set(reserved.columns) - set(table.columns))
    if dry_run or not (before.parents or before.ids or (before.rows == 0 and lacks_columns)):
        deque(filled, maxlen=0)
    else:
        write_tasks(path, filled if before.rows else reserved, like=table)
    return Filled(after.rows, before.ids - after.ids, before.parents - after.parents, after.parents, *kept)


class Kept(NamedTuple):
    """The number of rows that keep the id of an existing document, and notes."""

    rows: int
    notes: tuple[Note, ...]


def reserve_existing(
    before: Iterable[TaskRow | Mapping[str, object]], reserved: TaskRows[Row], store: DocsStore, where: str
) -> tuple[TaskRows[Row], Kept]:
    """Return reserved rows in which existing documents keep their ids. Memory holds all rows. See `keep_existing`.

    `before` are the same rows before they were reserved; iterate over them again.
    """
    numbered = list(number_rows(reserved))
    empty = [position for position, row in enumerate(before) if not _get_doc_id(row)]
    rows = [row for _, row in numbered]
    linked, notes = keep_existing(rows, empty, store, where)
    count = sum(one is not other for one, other in zip(rows, linked, strict=True))
    again = zip((number for number, _ in numbered), linked, strict=True)
    made = TaskRows(reserved.row_type, reserved.file, reserved.columns, again, reserved.state, reserved.delimiter)
    return made, Kept(count, tuple(notes))


def _get_doc_id(row: TaskRow | Mapping[str, object]) -> object:
    return row.doc_id if isinstance(row, TaskRow) else row.get("doc_id")


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

"""Replicates: several rows for one task, each with its own salt."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import attrs

from docid._text import quote
from docid.core.ids import reserve_doc_id
from docid.core.replicates import Path, find_depth, format_path, parse_path
from docid.core.stages import DEFAULT_STAGES, Stages, check_stages
from docid.errors import InvalidName
from docid.tables.faults import Faults
from docid.tables.parents import BySalt, describe_parent, index_parents
from docid.tables.tasks import NO_TABLE, Row, TaskRows, TaskTable, check_row, check_type, number_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from docid.tables.rows import TaskRow

MOST = 10_000  # replicates of a task: a larger number is a mistake
_REPLICATE = "a replicate already; expected only the first row of each task (docid reserve --replicates raises a table)"
_OTHER = "not the salt of a replicate"


def replicates(
    rows: Iterable[Row],
    n: int,
    *,
    parents: Iterable[TaskRow | Mapping[str, Any]] | None = None,
    stages: Stages = DEFAULT_STAGES,
) -> TaskRows[Row]:
    """Yield each row `n` times, for `n` documents of its task: the first as it is, the others with salts of their own.

    The salts of tasks without a parent are `2`, `3` and so on. If you raise `n` later, earlier rows keep their ids.
    Pass the result to `reserve_tasks`; it keeps the columns of the rows' table. Memory holds the rows.

    Args:
        rows: rows of one stage. A row with a salt is for the replicate of its parent that has this salt.
        n: the number of documents of each task, 1 or more.
        parents: the parents' rows. A row without a salt is then made for each replicate of its parent for which no
            row of its task has the salt; unless its `parent_doc_id` names another document than the first replicate.
        stages: the stages of the pipeline.

    Raises:
        TaskTableError: a salt that is not one of a parent's replicate; a parent that is missing from `parents`. All
            faults are reported together, before the first row.
        ValueError: `n` is less than 1; `stages` does not have the stage of the rows with their parent stage; rows or
            parents of another stage.
        TypeError: rows that are not task rows, or rows of several classes.

    Example:
        >>> from docid import DraftTask, EssayTask, reserve_tasks
        >>> drafts = list(reserve_tasks(replicates([DraftTask(task_id="t-1")], 2), DraftTask))
        >>> [(row.doc_salt, row.doc_id) for row in drafts]
        [(None, 'dqklum3h18qwxpcp'), ('2', 'dazdpjz36hkmsm67')]
        >>> essays = [EssayTask(task_id="t-1__x", draft_task_id="t-1")]
        >>> [row.doc_salt for row in replicates(essays, 2, parents=drafts)]
        [None, '1.2', '2', '2.2']
    """
    return replicate_rows(rows, n, parents, stages, keep_parents=False)


def replicate_rows(
    rows: Iterable[Row],
    n: int,
    parents: Iterable[TaskRow | Mapping[str, Any]] | None,
    stages: Stages,
    *,
    keep_parents: bool,
) -> TaskRows[Row]:
    """Do what `replicates` does. With `keep_parents`, a row with any `parent_doc_id` is for that parent."""
    check_number(n)
    numbered = list(number_rows(rows))
    known: Any = getattr(rows, "row_type", None)
    # Without rows the class is unknown; functions that need it have a parameter for it.
    row_type = cast("type[Row]", known or (check_row(numbered[0][1]) if numbered else None))
    file, columns, state, delimiter = NO_TABLE
    if isinstance(rows, (TaskRows, TaskTable)):
        file, columns, state, delimiter = rows.file, rows.columns, rows.state, rows.delimiter
    made: list[tuple[int, Row]] = []
    if numbered:
        depth, faults = _require_depth(row_type, stages), Faults(file)
        known_parents = _index(parents, row_type, depth - 1)
        for _, row in numbered:
            check_type(row, row_type)
        numbered = [(number, _take_salt(row, known_parents)) for number, row in numbered]
        claimed = _find_claimed((row for _, row in numbered), depth - 1)
        maker = _Maker(row_type, n, depth, known_parents, claimed, keep_parents)
        for number, row in numbered:
            made += [(number, each) for each in maker.make(number, row, faults)]
        faults.raise_any()
    if columns:
        columns = tuple(dict.fromkeys((*columns, "doc_salt")))
    return TaskRows(row_type, file, columns, iter(made), state, delimiter)


def check_number(n: int, argument: str = "n") -> None:
    """Raise ValueError unless `n` is a number of replicates."""
    if type(n) is not int or not 1 <= n <= MOST:
        raise ValueError(f"{argument}: expected a number of replicates from 1 to {MOST:,}, got {n!r}")


def _require_depth(row_type: type[TaskRow], stages: Stages) -> int:
    """Return the number of stages from the root to the rows'; raise ValueError for a stage that `stages` lacks."""
    stage, parent = row_type.stage, row_type.parent_stage
    if (depth := find_depth(stage, parent, check_stages(stages))) is not None:
        return depth
    name = f"stage {stage!r} with the parent stage {parent!r}" if parent else f"stage {stage!r} without a parent stage"
    chain = f"{parent!r}, {stage!r}" if parent else f"{stage!r}"
    raise ValueError(f"rows: {name} is not in {stages!r}; pass stages, such as Stages.chain({chain})")


class _Parents:
    """The parents of rows, by task id and by path.

    Args:
        column: the column of a row that has the task id of its parent.
        by_task: the result of `index_parents`.
        depth: the number of stages from the root to the parents'.
    """

    def __init__(self, column: str, by_task: Mapping[str, BySalt], depth: int) -> None:
        self._column = column
        self._by_task = by_task
        self._depth = depth
        self._sorted: dict[str, tuple[dict[Path, str | None], list[str]]] = {}

    def find(self, row: TaskRow) -> tuple[dict[Path, str | None], list[str]] | None:
        """Return the parents that a row names, by path and in order, and salts that are not paths; None if unknown."""
        task_id = row.cell(self._column)
        if task_id not in self._by_task:
            return None
        if task_id not in self._sorted:
            self._sorted[task_id] = _sort_parents(self._by_task[task_id], self._depth)
        return self._sorted[task_id]

    def list(self, row: TaskRow) -> dict[Path, str | None]:
        """Return the parents that a row names, by path and in order."""
        found = self.find(row)
        return {} if found is None else found[0]


def _index(
    parents: Iterable[TaskRow | Mapping[str, Any]] | None, row_type: type[TaskRow], depth: int
) -> _Parents | None:
    if parents is None or (stage := row_type.parent_stage) is None:
        return None
    return _Parents(f"{stage}_task_id", index_parents(parents, stage), depth)


def _take_salt(row: Row, parents: _Parents | None) -> Row:
    """Return a new row without a salt, but with the id of a replicate of its parent, with the salt of that one."""
    if parents is None or row.doc_id or row.doc_salt or not row.parent_doc_id:
        return row
    path = next((path for path, doc_id in parents.list(row).items() if doc_id == row.parent_doc_id), ())
    return attrs.evolve(row, doc_salt=format_path(path))


def _find_claimed(rows: Iterable[TaskRow], depth: int) -> dict[tuple[str, str | None], set[Path]]:
    """Return, by task and run, the paths of the parents that rows with salts are for."""
    claimed: dict[tuple[str, str | None], set[Path]] = {}
    for row in rows:
        if row.doc_salt is not None and (path := parse_path(row.doc_salt, depth)) is not None:
            claimed.setdefault((row.task_id, row.doc_run_id), set()).add(path)
    return claimed


class _Maker(NamedTuple):
    """Makes the replicates of rows."""

    row_type: type[TaskRow]
    n: int
    depth: int
    parents: _Parents | None
    claimed: dict[tuple[str, str | None], set[Path]]
    keep_parents: bool

    def make(self, number: int, row: Row, faults: Faults) -> Iterator[Row]:
        """Yield the replicates of a row, or note its faults."""
        for path, doc_id in self._find_parents(row, partial(faults.add, number)).items():
            for own in range(1, self.n + 1):
                salt = format_path((*path, own))
                if salt == row.doc_salt:
                    yield row if row.parent_doc_id or not doc_id else attrs.evolve(row, parent_doc_id=doc_id)
                else:
                    yield _copy(row, doc_salt=salt, parent_doc_id=doc_id or None)

    def _find_parents(self, row: TaskRow, note: Callable[[str, str, str], None]) -> Mapping[Path, str | None]:
        """Return the paths of the parents of a row, with their doc ids; none after a fault."""
        stage, depth = self.row_type.parent_stage, self.depth - 1
        if (path := parse_path(row.doc_salt, depth)) is None:
            expected = f"that of the {stage}, or none" if stage else "no salt"
            is_replicate = parse_path(row.doc_salt, self.depth) is not None
            note("doc_salt", row.doc_salt or "", _REPLICATE if is_replicate else f"{_OTHER}; expected {expected}")
            return {}
        if self.parents is None or (self.keep_parents and row.parent_doc_id):
            return {path: row.parent_doc_id}
        column = f"{stage}_task_id"
        task_id = row.cell(column)
        if (found := self.parents.find(row)) is None:
            note(column, task_id, "not in the parents' table; expected a task id from it")
            return {}
        known, others = found
        if row.parent_doc_id and (row.doc_salt is not None or row.parent_doc_id != known.get(path)):
            return {path: row.parent_doc_id}
        if others:
            wrong = f"several parents, and the doc_salt {quote(others[0])} of one is not that of a replicate"
            note(column, task_id, f"{wrong}; set parent_doc_id")
        elif row.doc_salt is not None and path not in known:
            note("doc_salt", row.doc_salt, f"{describe_parent(path)}, which the parents' table does not have")
        else:
            claimed = self.claimed.get((row.task_id, row.doc_run_id), set())
            paths = [each for each in known if each not in claimed] if row.doc_salt is None else [path]
            if not row.doc_id or path in paths:
                return {each: known[each] for each in paths}
            wrong = f"names a document of replicate {format_path(path) or 1} of its parent, which the table lacks"
            note("doc_id", row.doc_id, f"{wrong}; empty it, or set parent_doc_id")
        return {}


def _sort_parents(by_salt: BySalt, depth: int) -> tuple[dict[Path, str | None], list[str]]:
    """Return the parents of one task by path, in order, and salts that are not paths.

    The salt of a task's only parent may be of another kind: it counts as the first replicate.
    """
    paths = {salt: parse_path(salt, depth) for salt in by_salt}
    if len(paths) == 1:
        [(salt, path)] = paths.items()
        return {path or (1,) * depth: by_salt[salt]}, []
    known = {path: by_salt[salt] for salt, path in paths.items() if path is not None}
    return dict(sorted(known.items())), [str(salt) for salt, path in paths.items() if path is None]


class Added(NamedTuple):
    """The result of `add_replicates`.

    Attributes:
        rows: all rows; the new ones follow the existing rows of their task.
        number: the number of new rows.
        without_parent: the number of new rows without a `parent_doc_id`.
        above: the number of existing rows that are replicates above the number; they stay.
        others: the number of existing rows whose salt is not that of a replicate; they stay.
    """

    rows: Iterator[Any]
    number: int = 0
    without_parent: int = 0
    above: int = 0
    others: int = 0


def add_replicates(
    table: TaskTable[Any],
    n: int,
    *,
    parents: Iterable[TaskRow | Mapping[str, Any]] | None = None,
    run_id: str | None = None,
    stages: Stages = DEFAULT_STAGES,
) -> Added:
    """Add the rows that a table lacks of `n` replicates of each task: for each parent of its rows, and of `parents`.

    Unlike `replicates`, it takes the salt of a row as the row's own. Existing rows stay as they are, except that rows
    without a doc id get the run id. Memory holds the rows.

    Args:
        table: the table.
        n: the number of documents of each task and parent, 1 or more.
        parents: the parents' rows, if each of their replicates gets rows; else only parents that have rows already.
        run_id: the run id of rows without a doc id, and so of their replicates.
        stages: the stages of the pipeline.
    """
    check_number(n)
    row_type, number_of, above, others = table.row_type, dict[tuple[str, str | None], dict[Path, int]](), 0, 0
    depth = _require_depth(row_type, stages)
    index, faults = _index(parents, row_type, depth - 1), Faults(table.file)
    numbered = [(number, _copy_salt(_set_run_id(row, run_id), index, depth)) for number, row in number_rows(table)]
    for at, (number, row) in enumerate(numbered):
        if salt := _find_lost_salt(row):
            wrong = f"the doc_id is that of the salt {salt}, which a spreadsheet may have changed"
            faults.add(number, "doc_salt", row.doc_salt or "", f"{wrong}; set it to {salt}")
        if (path := parse_path(row.doc_salt, depth)) is None:
            others += 1
        else:
            path = _correct_path(path, row, index)
            number_of.setdefault((row.task_id, row.doc_run_id), {}).setdefault(path, at)
            above += path[-1] > n
    faults.raise_any()
    new: dict[int, list[Any]] = {}
    for known in number_of.values():
        by_path = {path: numbered[at][1] for path, at in sorted(known.items())}
        new[max(known.values())] = list(_make_missing(by_path, n, index))
    made = [(number, each) for at, (number, row) in enumerate(numbered) for each in (row, *new.get(at, ()))]
    columns = tuple(dict.fromkeys((*table.columns, "doc_salt")))
    rows = TaskRows(row_type, table.file, columns, iter(made), table.state, table.delimiter)
    added = [row for group in new.values() for row in group]
    return Added(rows, len(added), sum(not row.parent_doc_id for row in added), above, others)


def _copy(row: Row, **changes: Any) -> Row:
    """Return a row for another document of a task, without the ids of the first one."""
    column = f"{row.stage}_doc_id"  # of tables that `select` writes
    extra = {**row.extra, column: ""} if column in row.extra else row.extra
    return attrs.evolve(row, doc_id="", extra=extra, **changes)


def _set_run_id(row: Row, run_id: str | None) -> Row:
    return row if run_id is None or row.doc_id else attrs.evolve(row, doc_run_id=run_id)


def _copy_salt(row: Row, parents: _Parents | None, depth: int) -> Row:
    """Return a new row for the first replicate that its parent has; the row itself if it names another one."""
    if parents is None or row.doc_id or row.doc_salt:
        return row
    if row.parent_doc_id:
        return _take_salt(row, parents)
    first = min(parents.list(row), default=(1,) * (depth - 1))
    return attrs.evolve(row, doc_salt=format_path((*first, 1)))


def _find_lost_salt(row: TaskRow) -> str | None:
    """Return the salt of a row's doc id if a spreadsheet has changed it, such as `1.10` to `1.1`; otherwise None."""
    if not row.doc_id or not row.doc_salt or "." not in row.doc_salt:
        return None
    salts = (row.doc_salt, row.doc_salt.removesuffix(".0"), f"{row.doc_salt}0", f"{row.doc_salt}00")
    found = next((salt for salt in salts if _derive(row, salt) == row.doc_id), None)
    return None if found == row.doc_salt else found


def _derive(row: TaskRow, salt: str) -> str | None:
    try:
        return reserve_doc_id(row.stage, row.task_id, row.doc_run_id, salt)
    except InvalidName:
        return None


def _correct_path(path: Path, row: TaskRow, parents: _Parents | None) -> Path:
    """Return the path of a row whose salt names a replicate that its parent does not have.

    Its parent is the one with its `parent_doc_id`; without that, its only parent.
    """
    known = {} if parents is None else parents.list(row)
    if not known or path[:-1] in known:
        return path
    wanted = [each for each, doc_id in known.items() if row.parent_doc_id in {None, doc_id}]
    return (*wanted[0], path[-1]) if len(wanted) == 1 else path


def _make_missing(known: Mapping[Path, TaskRow], n: int, parents: _Parents | None) -> Iterator[TaskRow]:
    """Yield the replicates that a task lacks, given its rows by path."""
    first = next(iter(known.values()))
    of_parent: dict[Path, TaskRow | None] = {}
    for path, row in known.items():
        of_parent.setdefault(path[:-1], row)
    if parents is not None:
        found = parents.list(first)
        # A row that names another parent than the first replicate is for that one only.
        if first.parent_doc_id is None or (found and first.parent_doc_id == found[min(found)]):
            of_parent = dict.fromkeys(found) | of_parent
    for path, sibling in sorted(of_parent.items(), key=lambda item: item[0]):
        row = sibling or attrs.evolve(first, parent_doc_id=None)
        for own in range(1, n + 1):
            if (*path, own) not in known:
                yield _copy(row, doc_salt=format_path((*path, own)))

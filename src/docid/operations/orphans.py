"""`find_orphans`: list the documents that no row of their stage's table names."""

import os
from collections.abc import Iterable, Iterator, Mapping

from docid.core.document import get_source_doc_id
from docid.core.lineage_rules import get_inputs
from docid.errors import Problem, TaskTableError
from docid.store.docs_store import DocsStore
from docid.tables.rows import TaskRow, row_type_of
from docid.tables.tasks import read_tasks


def find_orphans(store: DocsStore, tables: Mapping[str, str | os.PathLike[str]]) -> Iterator[str]:
    """Yield the documents of the tables' stages that no row names, each as `STAGE/ID`.

    A row names its own document, its parent, its inputs and the source of its prompt. docid reads all tables before it
    yields a document, and refuses a table without rows: all documents of its stage would be orphans.

    Args:
        store: the store.
        tables: the path of a reserved table by stage. Documents of other stages are not listed.


    Raises:
        TaskTableError: a table is faulty, not reserved, or has no rows.
        OSError: a table cannot be read, or a stage cannot be listed.
    """
    named: set[str] = set()
    for stage, path in tables.items():
        row_type = row_type_of(store.stages.check(stage), store.stages)
        count = 0
        for row in read_tasks(path, row_type, delimiter="auto"):
            named.update(_name_documents(row))
            count += 1
        if not count:
            wrong = f"no rows, so every document of stage {stage} would be an orphan; name the documents instead"
            raise TaskTableError([Problem(os.fspath(path), None, None, "", wrong)])
    return (
        f"{stage}/{doc_id}"
        for stage in tables
        for doc_id in sorted(set(store.ids(stage)))
        if f"{stage}/{doc_id}" not in named
    )


def _name_documents(row: TaskRow) -> Iterable[str]:
    """Return the documents that a row names: its own, its parent, its source and its inputs."""
    names = ((row.stage, row.doc_id), (row.parent_stage, row.parent_doc_id), (row.stage, get_source_doc_id(row)))
    return (*(f"{stage}/{doc_id}" for stage, doc_id in names if doc_id), *get_inputs(row))

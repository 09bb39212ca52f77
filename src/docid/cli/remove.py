"""`docid remove`: move documents to quarantine, with or without their descendants.

List the documents to remove; with --apply, move them to ROOT/.docid/quarantine with their history. 'docid restore'
moves them back, and 'docid repair --purge' deletes them. A document with children stays unless these are removed, too.
To find them, docid reads every record, so name many documents in one command. Writers may keep running. Exit code
1 if a document was left, or if docid could not read a record, which may be that of a child.

Examples:
    # Show what would be removed with a draft
    docid remove draft/dyqgt4ths788xgx8 --descendants --store data/docs
    # Remove the documents that no row of the task tables names
    docid remove --orphans --tables data/2_tasks --store data/docs --apply
"""

import os
from collections.abc import Iterable, Mapping
from functools import partial

from docid.cli.arguments import APPLY, STORE, Arguments, UsageError, argument
from docid.cli.inputs import find_document, find_tables, hint_at_other_stages, open_store
from docid.cli.output import Output, print_stderr
from docid.core.document import get_source_doc_id
from docid.core.lineage_rules import get_inputs
from docid.errors import Problem, TaskTableError
from docid.store.docs_store import DocsStore
from docid.tables.rows import TaskRow, row_type_of
from docid.tables.tasks import read_tasks

_VERBS = {"remove": ("removed", "to remove"), "absent": ("gone", "gone"), "leave": ("left", "left")}


def run(arguments: Arguments, out: Output) -> int:
    """Remove documents, or list what would be removed; return 1 if one was left."""
    if bool(arguments.documents) == arguments.orphans:
        raise UsageError("expected either documents, or --orphans with a --tables for each table or directory")
    if arguments.orphans != bool(arguments.tables):
        raise UsageError("--orphans and --tables: expected both or neither")
    if arguments.orphans and arguments.descendants:
        raise UsageError("--descendants: a table may name a descendant of an orphan; expected it without --orphans")
    store = open_store(arguments)
    hint_at_other_stages(store)
    removal = store.remove_many(
        _list_names(arguments, store),
        descendants=arguments.descendants,
        dry_run=not arguments.apply,
        progress=partial(out.progress.count_document, store),
    )
    for finding in removal.findings:
        print_stderr(f"not read: {finding}")
    if not removal.changes:
        out.print("nothing to remove")
        return 0
    counts = out.print_moves(removal.changes, _VERBS, apply=arguments.apply, entries=removal.entries)
    for name in reversed(removal.entries):
        them = "it" if counts["remove"] == 1 else "them"
        out.print(f"  -> 'docid restore {name} --apply' moves {them} back")
    # An unreadable record may be that of a child.
    return 1 if counts["leave"] or removal.findings else 0


def _list_names(arguments: Arguments, store: DocsStore) -> list[str]:
    """Return the names of the documents to remove."""
    if arguments.orphans:
        tables, _ = find_tables(arguments.tables, store.stages)
        return find_orphans(store, tables)
    return ["/".join(find_document(store, name)) for name in arguments.documents]


def find_orphans(store: DocsStore, tables: Mapping[str, str | os.PathLike[str]]) -> list[str]:
    """Return the documents of the tables' stages that no row names, each as `STAGE/ID`.

    A row names its own document, its parent, its inputs and the source of its prompt. docid refuses a table without
    rows: all documents of its stage would be orphans.

    Args:
        store: the store.
        tables: the path of a reserved table by stage. Documents of other stages are not listed.

    Raises:
        TaskTableError: a table is faulty, not reserved, or has no rows.
        OSError: a table cannot be read, or a stage cannot be listed.
    """
    # List the store first: a row that is added now may have its document a moment later.
    found = {stage: sorted(set(store.ids(stage))) for stage in tables}
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
    names = (f"{stage}/{doc_id}" for stage, doc_ids in found.items() for doc_id in doc_ids)
    return [name for name in names if name not in named]


def _name_documents(row: TaskRow) -> Iterable[str]:
    """Return the documents that a row names: its own, its parent, its source and its inputs."""
    names = ((row.stage, row.doc_id), (row.parent_stage, row.parent_doc_id), (row.stage, get_source_doc_id(row)))
    return (*(f"{stage}/{doc_id}" for stage, doc_id in names if doc_id), *get_inputs(row))


ARGUMENTS = (
    argument("documents [STAGE/]ID ...", "documents to remove: doc ids or unique prefixes"),
    argument("--descendants", "also remove the documents that were made from them, as children or from inputs"),
    argument("--orphans", "remove the documents that no row of --tables names"),
    argument("--tables [STAGE=]TABLE|DIRECTORY ...", "with --orphans: the task tables; may be repeated"),
    APPLY,
    argument("--json", "print one line of JSON per document"),
    *STORE,
)

"""`docid remove`: move documents to quarantine, with or without their descendants.

List the documents to remove; with --apply, move them to ROOT/.docid/quarantine with their history. 'docid restore'
moves them back, and 'docid repair --purge' deletes them. A document with children stays unless these are removed, too.
To find them, docid reads every record once, so name many documents in one command. Writers may keep running. Exit code
1 if a document was left.

Examples:
    # Show what would be removed with a draft
    docid remove draft/dyqgt4ths788xgx8 --descendants --store data/docs
    # Remove the documents that no row of the task tables names
    docid remove --orphans --tables data/2_tasks --store data/docs --apply
"""

from functools import partial

from docid.cli.arguments import APPLY, STORE, Arguments, UsageError, argument
from docid.cli.inputs import find_document, find_tables, hint_at_other_stages, open_store
from docid.cli.output import Output, print_stderr
from docid.operations.orphans import find_orphans
from docid.store.docs_store import DocsStore

_VERBS = {"remove": ("removed", "to remove"), "absent": ("gone", "gone"), "leave": ("left", "left")}


def run(arguments: Arguments, out: Output) -> int:
    """Remove documents, or list what would be removed; return 1 if one was left."""
    if bool(arguments.documents) == arguments.orphans:
        raise UsageError("expected either documents or --orphans with --tables; see docid remove --help")
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
    counts = out.print_moves(removal.changes, _VERBS, apply=arguments.apply, runs=removal.runs)
    for name in reversed(removal.runs):
        them = "it" if counts["remove"] == 1 else "them"
        out.print(f"  -> 'docid restore {name} --apply' moves {them} back")
    return 1 if counts["leave"] else 0


def _list_names(arguments: Arguments, store: DocsStore) -> list[str]:
    """Return the names of the documents to remove."""
    if arguments.orphans:
        tables, _ = find_tables(arguments.tables, store.stages)
        return list(find_orphans(store, tables))
    return ["/".join(find_document(store, name)) for name in arguments.documents]


ARGUMENTS = (
    argument("documents [STAGE/]ID ...", "documents to remove: doc ids or unique prefixes"),
    argument("--descendants", "also remove the documents that were made from them, as children or from inputs"),
    argument("--orphans", "remove the documents that no row of --tables names"),
    argument("--tables [STAGE=]TABLE|DIRECTORY ...", "with --orphans: the task tables; may be repeated"),
    APPLY,
    argument("--json", "print one line of JSON per document"),
    *STORE,
)

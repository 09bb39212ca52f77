"""`docid restore`: move removed documents back.

Without arguments, list the removals and repairs in quarantine, each with its name, its time and its documents. With a
name, or its beginning, list the documents that would be moved back; with --apply, move them back with their history. A
document is left if the store has its id again, or lacks its parent or an input. Exit code 1 if a document was left.

Examples:
    # List the removals that can be undone
    docid restore --store data/docs
    # Undo one of them
    docid restore 20261129t0930 --store data/docs --apply
"""

from docid._text import format_count
from docid.cli.arguments import APPLY, STORE, Arguments, UsageError, argument
from docid.cli.inputs import open_store
from docid.cli.output import Output, join_few, print_stderr
from docid.store.backends.names import parse_entry_time
from docid.store.docs_store import DocsStore

_VERBS = {"restore": ("restored", "to restore"), "leave": ("left", "left")}


def run(arguments: Arguments, out: Output) -> int:
    """Restore a removal, or list all; return 1 if a document was left."""
    store = open_store(arguments)
    if arguments.entry is None:
        return _list_entries(store, out)
    if not arguments.entry:
        raise UsageError("ENTRY: empty; expected the name of a removal (is a shell variable unset?)")
    entry = _find_entry(store, arguments.entry)
    options = {"require_parent": not arguments.without_parents, "dry_run": not arguments.apply}
    changes = store.restore(entry, arguments.documents, **options)
    counts = out.print_moves(changes, _VERBS, apply=arguments.apply)
    return 1 if counts["leave"] else 0


def _find_entry(store: DocsStore, start: str) -> str:
    """Return the name of the removal or repair that begins like this."""
    found = sorted({removed.entry for removed in store.list_removed() if removed.entry.startswith(start)})
    if len(found) > 1:
        raise UsageError(f"{start}: matches {len(found):,} removals: {join_few(found)}; give more of the name")
    return found[0] if found else start


def _list_entries(store: DocsStore, out: Output) -> int:
    """Print each entry of quarantine, the latest first, with its documents."""
    out.ends_with_pipe = True
    entries: dict[str, list[str]] = {}
    for removed in store.list_removed():
        entries.setdefault(removed.entry, []).append(f"{removed.stage}/{removed.doc_id}")
    for entry in sorted(entries, reverse=True):
        names, moved = sorted(entries[entry]), parse_entry_time(entry)
        at = "" if moved is None else moved.isoformat(timespec="seconds")
        out.print_json({"entry": entry, "at": at, "documents": names})
        out.print(f"{entry}  {at}  {format_count(len(names), 'document')}")
        out.print_few(names)
    if not entries:
        print_stderr(f"nothing to restore in {store.root}")
    return 0


ARGUMENTS = (
    argument("entry ENTRY", "the name of a removal, or its beginning, as the list shows it", nargs="?"),
    argument("documents STAGE/ID ...", "restore only these documents (default: all of the removal)"),
    argument("--without-parents", "also restore documents whose parent or input is missing"),
    APPLY,
    argument("--json", "print one line of JSON per removal or document"),
    *STORE,
)

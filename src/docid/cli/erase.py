"""`docid erase`: delete every trace of a document's texts for good.

List everything in the store that holds a text of the document: the document itself, its history, its copies in
quarantine, and rescued replies. With --apply, delete all of it; nothing brings it back. The document need not exist any
more. docid cannot reach backups, exports and old versions that a bucket keeps (SECURITY.md). Exit code 1 if something
was not deleted, or if docid could not read a record, which may be that of a child.

Examples:
    # Show what would be deleted
    docid erase draft/dyqgt4ths788xgx8 --store data/docs
    # Delete it, with the documents that were made from it
    docid erase draft/dyqgt4ths788xgx8 --descendants --store data/docs --apply
"""

from functools import partial

from docid._text import format_count
from docid.cli.arguments import APPLY, STORE, Arguments, UsageError, argument
from docid.cli.inputs import hint_at_other_stages, open_store
from docid.cli.output import Output, print_stderr
from docid.core.lineage_rules import split_name
from docid.errors import DocumentClaimed, HasChildren


def run(arguments: Arguments, out: Output) -> int:
    """Erase a document, or list what holds its texts; return 1 if something was not deleted."""
    store = open_store(arguments)
    hint_at_other_stages(store)
    stage, doc_id = split_name(arguments.document, "document")
    try:
        erasure = store.erase(
            stage,
            doc_id,
            descendants=arguments.descendants,
            dry_run=not arguments.apply,
            progress=partial(out.progress.count_document, store),
        )
    except (HasChildren, DocumentClaimed) as error:
        print_stderr(error)
        return 1
    if not erasure.traces:
        raise UsageError(f"{arguments.document}: the store {store.root} has no text of this document")
    for finding in erasure.findings:
        print_stderr(f"not read: {finding}")
    failed = 0
    for trace in erasure.traces:
        failed += trace.error is not None
        facts = trace._asdict()
        out.print_json({**facts, "error": None if trace.error is None else str(trace.error)})
        verb = "failed" if trace.error else "deleted" if trace.done else "to delete"
        reason = f": {trace.error}" if trace.error else f" ({format_count(trace.size, 'byte')})"
        out.print(f"{verb:<10} {trace.location}{reason}")
    documents = format_count(len({trace.document for trace in erasure.traces}), "document")
    what = f"{format_count(len(erasure.traces) - failed, 'item')} of {documents}"
    if arguments.apply:
        out.print(f"{what} deleted" + (f", {failed:,} failed" if failed else ""))
    else:
        out.print(f"{what} to delete; dry run: --apply deletes for good")
    # An unreadable record may be that of a child.
    return 1 if failed or erasure.findings else 0


ARGUMENTS = (
    argument("document STAGE/ID", "the document, by its whole name"),
    argument("--descendants", "also erase the documents that were made from it: their prompts may quote its text"),
    APPLY,
    argument("--json", "print one line of JSON per item"),
    *STORE,
)

"""`docid copy`: copy documents between stores, directories or buckets.

Copy the documents of one store into another, byte for byte and with their history. The target declares the stages of
the source, too. docid skips documents that the target already has, so run an interrupted copy again to complete it. It
does not copy damaged documents, or those whose id belongs to another document there. Exit code 1 if one was not copied.

Examples:
    # Copy a store into a bucket, and read every copy back
    docid copy data/docs s3://bucket/docs --new-store --verify
    # Show which essays a copy from the bucket would bring
    docid copy s3://bucket/docs data/docs --stage essay --dry-run
"""

from typing import Any

from docid._text import name_task
from docid.cli.arguments import IN_FLIGHT, JSON_DOCUMENTS, NEW_STORE, STAGES, Arguments, argument, parse_root
from docid.cli.inputs import hint_at_other_stages, open_root
from docid.cli.output import Output, format_counts
from docid.core.findings import Change
from docid.operations.copy import copy

_WORDS = {"copied": "copied", "updated": "updated", "same": "same", "conflict": "in conflict", "refused": "refused"}


def run(arguments: Arguments, out: Output) -> int:
    """Copy a store, and print the number of documents by outcome; return 1 if some were not copied."""
    source = open_root(arguments, arguments.source)
    target = open_root(arguments, arguments.target, new=arguments.new_store)
    hint_at_other_stages(source)
    documents = copy(
        source,
        target,
        only=arguments.stage,
        history=not arguments.no_history,
        verify=arguments.verify,
        dry_run=arguments.dry_run,
    )
    counts = out.print_changes(source, documents, _describe)
    for stage in dict.fromkeys(stage for stage, _ in counts):
        words = {outcome: word for outcome, word in _WORDS.items() if counts[stage, outcome]}
        out.print(f"{stage}: {format_counts(counts, stage, words)}")
    if not counts:
        out.print("no documents")
    elif arguments.dry_run:
        out.print("dry run: no document was copied")
    return 1 if any(outcome in {"conflict", "refused"} for _, outcome in counts) else 0


def _describe(copied: Change) -> tuple[dict[str, Any], list[str]]:
    """Return the JSON facts and the printed lines of one document."""
    line = f"{copied.outcome}: {copied.stage}/{copied.doc_id}{name_task(copied.task_id)}: {copied.message}"
    return copied.to_dict("outcome", "stage", "doc_id", "task_id", "message"), [line] if copied.message else []


ARGUMENTS = (
    argument("source FROM", "the store to copy: its directory or bucket URL", type=parse_root),
    argument("target TO", "the store to fill; --new-store creates it", type=parse_root),
    argument("--stage STAGE", "copy only this stage; may be repeated (default: all stages)", action="append"),
    argument("--no-history", "copy only the current version of each document"),
    argument("--verify", "read each copy back, and compare the SHA-256 of every part with the record"),
    NEW_STORE,
    IN_FLIGHT,
    argument("--dry-run", "list the copies without making them"),
    JSON_DOCUMENTS,
    STAGES,
)

"""`docid copy`: copy the documents of one store into another: between directories and buckets, byte for byte.

Copy the documents of one store, with their history, into another. Each may be a directory or the URL of an object
store. What is there already is left alone: a copy that was interrupted is run again, and goes on. Documents whose
name is taken in the other store by another one, and damaged ones, are listed and left out; the exit code is 1 then.
"""

from typing import Any

from docid._text import name_task
from docid.cli.arguments import IN_FLIGHT, JSON_DOCUMENTS, STAGES, Arguments, argument, parse_root
from docid.cli.inputs import hint_at_other_stages, open_root
from docid.cli.output import Output, format_counts
from docid.core.findings import Change
from docid.operations.copy import copy


def run(arguments: Arguments, out: Output) -> int:
    """Copy a store, and say how many documents were copied; return 1 where some could not be."""
    source = open_root(arguments, arguments.source)
    target = open_root(arguments, arguments.target, new=True)
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
        words = {each: each for each in ("copied", "updated", "same", "conflict", "refused") if counts[stage, each]}
        out.print(f"{stage}: {format_counts(counts, stage, words)}")
    if not counts:
        out.print("no documents")
    elif arguments.dry_run:
        out.print("nothing was written (--dry-run)")
    return 1 if any(outcome in {"conflict", "refused"} for _, outcome in counts) else 0


def _describe(copied: Change) -> tuple[dict[str, Any], list[str]]:
    """Return what --json and the lines say of a document."""
    line = f"{copied.outcome}: {copied.stage}/{copied.doc_id}{name_task(copied.task_id)}: {copied.message}"
    return copied.to_dict("outcome", "stage", "doc_id", "task_id", "message"), [line] if copied.message else []


ARGUMENTS = (
    argument("source FROM", "a store: its directory, or its URL", type=parse_root),
    argument("target TO", "another one, which need not be there yet", type=parse_root),
    argument("--stage STAGE", "copy this stage alone; may be repeated (default: all)", action="append"),
    argument("--no-history", "leave out the versions that were replaced"),
    argument("--verify", "read each copy back, and compare the SHA-256 of every part with its record"),
    IN_FLIGHT,
    argument("--dry-run", "say what would be done; write nothing"),
    JSON_DOCUMENTS,
    STAGES,
)

"""`docid rescued`: list, store or delete replies that could not be stored.

docid saves a reply that was paid for and could not be stored in a rescue file. Until you decide, it makes no new call
for that document. List these replies, one line each: the name of the reply, task id, time, fault and file. With --adopt
or --discard, store or delete one. Exit code 1 if that failed.

Examples:
    # List the replies that wait for a decision
    docid rescued --store data/docs
    # Store the reply that was saved for an essay
    docid rescued --store data/docs --adopt essay/uu5r3k1m9pq2abcd
"""

from typing import Any

from docid._text import escape_controls, format_count, name_task
from docid.cli.arguments import STORE, Arguments, UsageError, argument, one_of
from docid.cli.inputs import hint_at_other_stages, open_store
from docid.cli.output import Output, join_few, print_stderr
from docid.errors import DocidError
from docid.store.docs_store import DocsStore
from docid.store.rescue import RescuedReply


def run(arguments: Arguments, out: Output) -> int:
    """List the rescued replies, or decide about some."""
    out.ends_with_pipe = True
    store = open_store(arguments)
    hint_at_other_stages(store)
    names = arguments.adopt or arguments.discard
    if names:
        # Find all of them first, so that a mistyped name changes nothing.
        chosen = [_find_reply(store, name) for name in names]
        return max(_decide(reply, out, adopts=bool(arguments.adopt)) for reply in chosen)
    hidden = 0
    for reply in store.list_rescued():
        if not reply.is_waiting and not arguments.all:
            hidden += 1
            continue
        facts = _list_facts(reply)
        out.print_json(facts)
        columns = (facts["task_id"] or "-", facts["saved_at"], facts["problem"], facts["location"])
        name = f"{reply.stage}/{reply.name}"
        out.print("\t".join((name, *(escape_controls(str(column)).replace("\n", " ") for column in columns))))
    if hidden:
        print_stderr(f"not listed: {format_count(hidden, 'document')} that another worker stored first; use --all")
    return 0


def _decide(reply: RescuedReply, out: Output, *, adopts: bool) -> int:
    """Store or delete a reply; return 1 if that failed."""
    name = f"{reply.stage}/{reply.doc_id}{name_task(reply.task_id)}"
    try:
        if adopts:
            result = reply.adopt()
            out.print_json({**_list_facts(reply), "outcome": str(result.outcome)})
            out.print(f"stored {name}: {result.outcome}")
        else:
            reply.discard()
            out.print_json({**_list_facts(reply), "outcome": "discarded"})
            out.print(f"deleted a reply for {name}: {reply.location}")
    except (DocidError, OSError, TypeError) as error:  # a person may have edited the file
        print_stderr(error)
        return 1
    return 0


def _find_reply(store: DocsStore, name: str) -> RescuedReply:
    """Return the only rescued reply with this doc id or name."""
    stage, _, rest = name.rpartition("/")
    found = [
        reply for reply in store.list_rescued() if rest in {reply.doc_id, reply.name} and stage in {"", reply.stage}
    ]
    if not found:
        raise UsageError(f"{name}: no such reply in {store.root}; 'docid rescued --all' lists them")
    if len(found) > 1:
        some = join_few([f"{reply.stage}/{reply.name}" for reply in found])
        raise UsageError(f"{name}: several replies: {some}; give one of these names")
    return found[0]


def _list_facts(reply: RescuedReply) -> dict[str, Any]:
    return {
        "stage": reply.stage,
        "doc_id": reply.doc_id,
        "task_id": reply.task_id,
        "parent_doc_id": reply.parent_doc_id,
        "inputs": list(reply.inputs),
        "run_id": reply.run_id,
        "name": reply.name,
        "location": reply.location,
        "saved_at": reply.saved_at,
        "problem": reply.problem,
        "waiting": reply.is_waiting,
    }


ARGUMENTS = (
    one_of(
        argument("--adopt [STAGE/]ID ...", "store this reply, given by its doc id or its name, and delete the file"),
        argument("--discard [STAGE/]ID ...", "delete this reply, so that the next run makes a new call"),
        argument("--all", "also list replies whose document another worker has stored"),
    ),
    argument("--json", "print one line of JSON per reply"),
    *STORE,
)

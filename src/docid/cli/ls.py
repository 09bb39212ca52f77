"""`docid ls`: list the documents of a store.

List documents, one a line: stage/id, task id, parent, when made, parts. Unordered.
"""

from functools import partial
from typing import Any

from docid.cli.arguments import JSON_DOCUMENTS, STORE, Arguments, argument, one_of
from docid.cli.inputs import hint_at_other_stages, open_store
from docid.cli.output import Output, complain
from docid.cli.show import list_facts
from docid.errors import DocidError
from docid.store.docs_store import DocsStore


def run(arguments: Arguments, out: Output) -> int:
    """Print one line a document; one that cannot be read does not end the list."""
    out.stops_unread = True
    store = open_store(arguments)
    code = 0
    if not arguments.stage:
        hint_at_other_stages(store)
    for stage in dict.fromkeys(arguments.stage or store.stages):
        try:
            if arguments.ids:
                for doc_id in store.ids(stage):
                    out.print(f"{stage}/{doc_id}")
                continue
            for facts in store.backend.each(partial(_look, store, stage), store.ids(stage)):
                if isinstance(facts, Exception):
                    complain(facts)
                    code = 2
                    continue
                out.print_json(facts)
                columns = (facts["task_id"], facts["parent_doc_id"], facts["created_at"], "+".join(facts["parts"]))
                out.print("\t".join((f"{stage}/{facts['doc_id']}", *(column or "-" for column in columns))))
        except BrokenPipeError:
            raise
        except (DocidError, OSError) as error:
            complain(error)
            code = 2
    return code


def _look(store: DocsStore, stage: str, doc_id: str) -> dict[str, Any] | Exception:
    """Return the facts of a document, or why it cannot be read."""
    try:
        return list_facts(store.open(stage, doc_id))
    except (DocidError, OSError) as error:
        return error


ARGUMENTS = (
    argument("stage STAGE ...", "the stages to list (default: all of --stages)"),
    one_of(argument("--ids", "print stage/id alone, without opening a document"), JSON_DOCUMENTS),
    *STORE,
)

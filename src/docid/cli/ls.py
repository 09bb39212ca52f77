"""`docid ls`: list the documents of a store.

Print one line per document, by stage and doc id: stage/id, task id, parent, creation time and parts. docid changes
nothing. Exit code 2 if a document cannot be read; the list goes on.

Examples:
    # List all essays
    docid ls essay --store data/docs
    # List the names of all documents
    docid ls --store data/docs --ids
"""

from functools import partial
from typing import Any

from docid.cli.arguments import JSON_DOCUMENTS, STORE, Arguments, argument, one_of
from docid.cli.inputs import hint_at_other_stages, open_store
from docid.cli.output import Output, print_stderr
from docid.cli.show import list_facts
from docid.errors import DocidError
from docid.store.docs_store import DocsStore


def run(arguments: Arguments, out: Output) -> int:
    """Print one line per document; go on after a document that cannot be read."""
    out.ends_with_pipe = True
    store = open_store(arguments)
    code = 0
    if not arguments.stage:
        hint_at_other_stages(store)
    for stage in dict.fromkeys(arguments.stage or store.stages):
        try:
            if arguments.claimed:
                _print_claims(store, stage, out, names_only=arguments.ids)
                continue
            doc_ids = store.ids(stage) if arguments.unsorted else iter(sorted(set(store.ids(stage))))
            if arguments.ids:
                for doc_id in doc_ids:
                    out.print(f"{stage}/{doc_id}")
                continue
            for facts in store.backend.each(partial(_try_list_facts, store, stage), doc_ids):
                if isinstance(facts, Exception):
                    print_stderr(facts)
                    code = 2
                    continue
                out.print_json(facts)
                columns = (facts["task_id"], facts["parent_doc_id"], facts["created_at"], "+".join(facts["parts"]))
                out.print("\t".join((f"{stage}/{facts['doc_id']}", *(column or "-" for column in columns))))
        except BrokenPipeError:
            raise
        except (DocidError, OSError) as error:
            print_stderr(error)
            code = 2
    return code


def _print_claims(store: DocsStore, stage: str, out: Output, *, names_only: bool) -> None:
    for doc_id, holder in sorted(store.backend.list_claims(store.stages.check(stage))):
        out.print_json({"stage": stage, "doc_id": doc_id, **holder._asdict()})
        out.print(f"{stage}/{doc_id}" if names_only else f"{stage}/{doc_id}\t{holder}")


def _try_list_facts(store: DocsStore, stage: str, doc_id: str) -> dict[str, Any] | Exception:
    """Return the facts of a document, or the error if it cannot be read."""
    try:
        return list_facts(store.open(stage, doc_id))
    except (DocidError, OSError) as error:
        return error


ARGUMENTS = (
    argument("stage STAGE ...", "the stages to list (default: all of --stages)"),
    one_of(argument("--ids", "print only stage/id, without opening documents"), JSON_DOCUMENTS),
    argument("--claimed", "list the documents that workers are making now, and which process makes each"),
    argument(
        "--unsorted", "print documents as the store lists them; a document replaced in the meantime may appear twice"
    ),
    *STORE,
)

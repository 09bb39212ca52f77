"""`docid show`: print one document.

Print the lineage, metadata and parsed text of a document, or its raw text if it has no parsed text. With --task, docid
takes the document whose id derives from the task alone, or else the only document of the task. docid changes nothing.
Exit code 2 if the document is damaged.

Examples:
    # Print an essay by the start of its doc id
    docid show essay/uu5r --store data/docs
    # Print only the prompt of the document of a task
    docid show --task draft tides__large-1 --store data/docs --prompt
"""

import json
from collections.abc import Iterable
from functools import partial
from typing import Any

from docid._text import format_count, name_task, quote
from docid.cli.arguments import OPTIONAL_DOCUMENT, STORE, Arguments, UsageError, argument, one_of
from docid.cli.inputs import find_document, open_store
from docid.cli.output import Output, join_few, print_stderr
from docid.core.document import PART_FILES, Document, Part, timestamp
from docid.core.ids import reserve_doc_id
from docid.core.metadata import cut_deep_values
from docid.errors import DocumentNotFound, UnreadableDocument
from docid.store.docs_store import DocsStore
from docid.store.stored import StoredDocument


def run(arguments: Arguments, out: Output) -> int:
    """Print a document, one of its parts, or its earlier versions."""
    out.ends_with_pipe = True
    if bool(arguments.document) == bool(arguments.task):
        raise UsageError("expected either a document or --task STAGE TASK_ID; see docid show --help")
    store = open_store(arguments)
    if arguments.task:
        stage, task_id = arguments.task
        document = _find_task(store, stage, task_id, out)
    else:
        document = store.open(*find_document(store, arguments.document))
    if arguments.history:
        return _print_history(arguments, out, document, store.history(document.stage, document.doc_id))
    if arguments.part is not None:
        text = document.text(arguments.part)
        if text is None:
            name = f"{document.stage}/{document.doc_id}{name_task(document.task_id)}"
            raise UsageError(f"{name}: no {arguments.part} text; stored parts: {_format_parts(document)}")
        out.print_bytes(text.encode())
    elif arguments.json:
        out.print_json(cut_deep_values(document.record))
    else:
        facts = list_facts(document)
        metadata = {f"metadata.{key}": value for key, value in facts.pop("metadata").items()}
        for key, value in {**facts, "parts": _format_parts(document), **metadata}.items():
            out.print_text(f"{key:<16} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
        part: Part = "parsed" if "parsed" in document.sizes else "raw"
        out.print_text(f"\n--- {part} ---")
        out.print_text(document.raw_text if part == "raw" else document.text(part) or "")
    out.stream.flush()
    document.read()  # also check the sizes of the parts that were not printed
    return 0


def _find_task(store: DocsStore, stage: str, task_id: str, out: Output) -> StoredDocument:
    """Return the document of a task: the one whose id derives from the task alone, or the only one of the stage.

    To find the latter, docid reads every record of the stage.
    """
    derived = _try_open(store, stage, reserve_doc_id(store.stages.check(stage), task_id))
    if isinstance(derived, UnreadableDocument):
        raise derived
    if derived is not None and derived.task_id in {task_id, None}:
        return derived
    found: dict[str, StoredDocument] = {}
    unreadable = 0
    for document in store.backend.each(partial(_try_open, store, stage), store.ids(stage)):
        out.progress.count_document(store, stage)
        if isinstance(document, UnreadableDocument):
            unreadable += 1
        elif document is not None and document.task_id == task_id:
            found[document.doc_id] = document
    if len(found) == 1:
        return next(iter(found.values()))
    name = f"--task {stage} {quote(task_id)}"
    if found:
        some = join_few([f"{stage}/{doc_id}" for doc_id in sorted(found)])
        raise UsageError(f"{name}: {format_count(len(found), 'document')} of this task: {some}; give one of these ids")
    more = f"; docid cannot read {format_count(unreadable, 'document')} of this stage" if unreadable else ""
    raise UsageError(f"{name}: no document of this task in {store.root}{more}")


def _try_open(store: DocsStore, stage: str, doc_id: str) -> StoredDocument | UnreadableDocument | None:
    """Open a document; return the error if it is damaged, or None if it does not exist."""
    try:
        return store.open(stage, doc_id)
    except DocumentNotFound:
        return None
    except UnreadableDocument as error:
        return error


def _print_history(arguments: Arguments, out: Output, document: StoredDocument, versions: Iterable[Document]) -> int:
    """Print the replaced versions of a document."""
    count = 0
    for count, version in enumerate(versions, 1):
        texts = version.parts()
        made = None if version.created_at is None else timestamp(version.created_at)
        if arguments.json:
            facts = {"stage": version.stage, "doc_id": version.doc_id, "created_at": made, "run_id": version.run_id}
            out.print_json({**facts, "metadata": cut_deep_values(version.metadata), "texts": texts})
            continue
        part = arguments.part or ("parsed" if "parsed" in texts else "raw")
        age = f"{format_count(count, 'version')} before the current one"
        out.print(f"--- {part}, {age}, created {made or 'at an unknown time'} ---")
        out.print_text(texts.get(part, f"(no {part} text)"))
    if not count and not arguments.json:
        print_stderr(f"{document.stage}/{document.doc_id}{name_task(document.task_id)} has no earlier versions")
    return 0


def list_facts(document: StoredDocument) -> dict[str, Any]:
    """Return the facts of a document, without its texts."""
    return {
        "stage": document.stage,
        "doc_id": document.doc_id,
        "task_id": document.task_id,
        "parent_doc_id": document.parent_doc_id,
        "inputs": list(document.inputs),
        "run_id": document.run_id,
        "created_at": None if document.created_at is None else timestamp(document.created_at),
        "location": document.location,
        "parts": document.sizes,
        "legacy": document.legacy,
        "metadata": cut_deep_values(document.metadata),
    }


def _format_parts(document: StoredDocument) -> str:
    """Return the parts of a document and their sizes."""
    return ", ".join(f"{part} {format_count(size, 'byte')}" for part, size in document.sizes.items())


ARGUMENTS = (
    OPTIONAL_DOCUMENT,
    argument("--task STAGE TASK_ID", "show the document of this task instead of one given by its id"),
    one_of(
        *(
            argument(
                f"--{part}", f"print only the {part} text, unchanged", action="store_const", const=part, dest="part"
            )
            for part in PART_FILES
        ),
        argument("--json", "print the stored record as one line of JSON; with --history, one line per version"),
    ),
    argument("--history", "print the replaced versions instead, the latest first"),
    *STORE,
)

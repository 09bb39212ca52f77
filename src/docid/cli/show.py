"""`docid show`: print one document.

Print the lineage, metadata and parsed text of a document, or its raw text if it has no parsed text. docid changes
nothing. Exit code 2 if the document is damaged.

Examples:
    # Print an essay by the start of its doc id
    docid show essay/uu5r --store data/docs
    # Print only its prompt
    docid show essay/uu5r --store data/docs --prompt
"""

import json
from collections.abc import Iterable
from typing import Any

from docid._text import format_count, name_task
from docid.cli.arguments import DOCUMENT, STORE, Arguments, UsageError, argument, one_of
from docid.cli.inputs import find_document, open_store
from docid.cli.output import Output, print_stderr
from docid.core.document import PART_FILES, Document, Part, timestamp
from docid.core.metadata import cut_deep_values
from docid.store.stored import StoredDocument


def run(arguments: Arguments, out: Output) -> int:
    """Print a document, one of its parts, or its earlier versions."""
    out.ends_with_pipe = True
    store = open_store(arguments)
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
        out.print_json(list_facts(document))
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
    DOCUMENT,
    one_of(
        *(
            argument(
                f"--{part}", f"print only the {part} text, unchanged", action="store_const", const=part, dest="part"
            )
            for part in PART_FILES
        ),
        argument("--json", "print the record as one line of JSON"),
    ),
    argument("--history", "print the replaced versions instead, the latest first"),
    *STORE,
)

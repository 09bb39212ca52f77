"""`docid show`: print one document.

Print a document's lineage and metadata, and its parsed text (the raw one where nothing was parsed). The id may be cut
short where that is unique.
"""

import json
from collections.abc import Iterable
from typing import Any

from docid.cli.arguments import STORE, Arguments, UsageError, argument, one_of
from docid.cli.inputs import find_document, open_store
from docid.cli.output import Output, complain
from docid.core.document import PART_FILES, Document, Part, cut_deep_values, timestamp
from docid.store.stored import StoredDocument


def run(arguments: Arguments, out: Output) -> int:
    """Print a document, one of its parts, or its earlier versions."""
    out.stops_unread = True
    store = open_store(arguments)
    document = store.open(*find_document(store, arguments.document))
    if arguments.history:
        return _print_history(arguments, out, document, store.history(document.stage, document.doc_id))
    if arguments.part is not None:
        text = document.text(arguments.part)
        if text is None:
            name, parts = f"{document.stage}/{document.doc_id}", _format_parts(document)
            raise UsageError(f"{name} has no {arguments.part} text, only {parts}")
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
    document.read()  # the sizes of the parts that were not printed, too
    return 0


def _print_history(arguments: Arguments, out: Output, document: StoredDocument, versions: Iterable[Document]) -> int:
    """Print the versions that others have replaced."""
    count = 0
    for count, version in enumerate(versions, 1):
        texts = version.parts()
        made = None if version.created_at is None else timestamp(version.created_at)
        if arguments.json:
            facts = {"stage": version.stage, "doc_id": version.doc_id, "created_at": made, "run_id": version.run_id}
            out.print_json({**facts, "metadata": cut_deep_values(version.metadata), "texts": texts})
            continue
        part = arguments.part or ("parsed" if "parsed" in texts else "raw")
        out.print(f"--- {part}, {count} before the one that is there; made {made or 'at a time not known'} ---")
        out.print_text(texts.get(part, f"(no {part} text)"))
    if not count and not arguments.json:
        complain(f"{document.stage}/{document.doc_id} has no earlier versions")
    return 0


def list_facts(document: StoredDocument) -> dict[str, Any]:
    """Return what is known of a document without its texts."""
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
    """Return its parts and their sizes."""
    return ", ".join(f"{part} {size:,} bytes" for part, size in document.sizes.items())


ARGUMENTS = (
    argument("document [STAGE/]ID", "the document; without a stage all stages are searched"),
    one_of(
        *(
            argument(
                f"--{part}", f"print the {part} text alone, as it is", action="store_const", const=part, dest="part"
            )
            for part in PART_FILES
        ),
        argument("--json", "print the record as one line of JSON"),
    ),
    argument("--history", "print the versions that were replaced instead, the latest first"),
    *STORE,
)

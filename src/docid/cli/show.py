"""`docid show` and `docid ls`: look at documents."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from docid.cli.options import UsageError, add_store, find, store_of
from docid.cli.output import (
    complain,
    facts_of,
    hint_at_other_stages,
    json_line,
    one_line,
    parts_line,
    print_text,
    printable,
)
from docid.core.document import PART_FILES, timestamp
from docid.core.metadata import shallow
from docid.errors import DocidError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from docid.core.document import Part
    from docid.store.docs_store import DocsStore
    from docid.store.stored import StoredDocument


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    show = verbs.add_parser(
        "show",
        allow_abbrev=False,
        help="print one document",
        description="Print a document's lineage and metadata, and its parsed text (the raw one where nothing was "
        "parsed). The id may be cut short where that is unique.",
    )
    show.add_argument("document", metavar="[STAGE/]ID", help="the document; without a stage all stages are searched")
    what = show.add_mutually_exclusive_group()
    for part in PART_FILES:
        what.add_argument(
            f"--{part}", action="store_const", const=part, dest="part", help=f"print the {part} text alone, as it is"
        )
    show.add_argument(
        "--history", action="store_true", help="print the versions that were replaced instead, the latest first"
    )
    what.add_argument("--json", action="store_true", help="print the record as one line of JSON")
    add_store(show)
    show.set_defaults(run=_show)

    listing = verbs.add_parser(
        "ls",
        allow_abbrev=False,
        help="list the documents of a store",
        description="List documents, one a line: stage/id, task id, parent, when made, parts. Unordered.",
    )
    listing.add_argument("stage", nargs="*", metavar="STAGE", help="the stages to list (default: all of --stages)")
    how = listing.add_mutually_exclusive_group()
    how.add_argument("--ids", action="store_true", help="print stage/id alone, without opening a document")
    how.add_argument("--json", action="store_true", help="print one line of JSON a document")
    add_store(listing)
    listing.set_defaults(run=_ls)


def _show(arguments: argparse.Namespace) -> int:
    document = find(arguments, arguments.document)
    if arguments.history:
        return _show_history(arguments, document)
    if arguments.part is not None:
        text = document.text(arguments.part)
        if text is None:
            raise UsageError(
                f"{document.stage}/{document.doc_id} has no {arguments.part} text, only {parts_line(document)}"
            )
        print_text(text)
    elif arguments.json:
        print(json_line(facts_of(document)))
    else:
        facts = facts_of(document)
        metadata = facts.pop("metadata")
        facts |= {"parts": parts_line(document), **{f"metadata.{key}": value for key, value in metadata.items()}}
        for key, value in facts.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            print(f"{printable(key):<16} {printable(text)}")
        part: Part = "parsed" if "parsed" in document.sizes else "raw"
        print(f"\n--- {part} ---")
        text = document.raw_text if part == "raw" else document.text(part) or ""
        print_text(printable(text if text.endswith("\n") else text + "\n"))
    sys.stdout.flush()
    # The sizes of the parts that were not read, too.
    document.read()
    return 0


def _show_history(arguments: argparse.Namespace, document: StoredDocument) -> int:
    """Print the versions that others have replaced."""
    versions = store_of(arguments).history(document.stage, document.doc_id)
    count = 0
    for count, version in enumerate(versions, 1):
        texts = version.parts()
        made = None if version.created_at is None else timestamp(version.created_at)
        if arguments.json:
            facts = {"stage": version.stage, "doc_id": version.doc_id, "created_at": made, "run_id": version.run_id}
            print(json_line({**facts, "metadata": shallow(version.metadata), "texts": texts}))
            continue
        part = arguments.part or ("parsed" if "parsed" in texts else "raw")
        print(one_line(f"--- {part}, {count} before the one that is there; made {made or 'at a time not known'} ---"))
        text = texts.get(part, f"(no {part} text)")
        print_text(printable(text if text.endswith("\n") else text + "\n"))
    if not count and not arguments.json:
        complain(f"{document.stage}/{document.doc_id} has no earlier versions")
    return 0


def _ls(arguments: argparse.Namespace) -> int:
    store = store_of(arguments)
    code = 0
    if not arguments.stage:
        hint_at_other_stages(arguments)
    for stage in dict.fromkeys(arguments.stage or store.stages):
        try:
            if arguments.ids:
                for doc_id in store.ids(stage):
                    print(f"{stage}/{doc_id}")
                continue
            for line in _lines(store, stage, as_json=arguments.json):
                if isinstance(line, Exception):
                    complain(line)  # one that cannot be read does not end the list
                    code = 2
                else:
                    print(line)
        except BrokenPipeError:
            raise
        except (DocidError, OSError) as error:
            complain(error)
            code = 2
    return code


def _lines(store: DocsStore, stage: str, *, as_json: bool) -> Iterator[str | Exception]:
    """Return of each document of a stage its line, or why it cannot be read."""

    def line(doc_id: str) -> str | Exception:
        try:
            facts = facts_of(store.open(stage, doc_id))
        except (DocidError, OSError) as error:
            return error
        if as_json:
            return json_line(facts)
        columns = (facts["task_id"], facts["parent_doc_id"], facts["created_at"], "+".join(facts["parts"]))
        return "\t".join((f"{stage}/{doc_id}", *(printable(column or "-") for column in columns)))

    return store.backend.each(line, store.ids(stage))

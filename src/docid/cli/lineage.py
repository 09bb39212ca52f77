"""`docid lineage`: where a document comes from, and what was made of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from docid.cli.options import SHOWN, add_store, named, store_of
from docid.cli.output import complain, one_line
from docid.cli.terminal import print_lineage

if TYPE_CHECKING:
    import argparse

_EDGES = 500  # as many as Mermaid draws by default


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    tree = verbs.add_parser(
        "lineage",
        allow_abbrev=False,
        help="show what a document was made from, and what was made from it",
        description="Show a document with its ancestors and its descendants as a tree, as the records name them. "
        "Descendants are found in one pass over the records of the stages below. The id may be cut short where that is "
        "unique.",
    )
    tree.add_argument("document", metavar="[STAGE/]ID", help="the document; without a stage all stages are searched")
    tree.add_argument("--ancestors", action="store_true", help="show the ancestors alone, which costs no pass")
    how = tree.add_mutually_exclusive_group()
    how.add_argument("--mermaid", action="store_true", help="print the tree as a Mermaid flowchart, for a document")
    how.add_argument("--json", action="store_true", help="print one line of JSON")
    add_store(tree)
    tree.set_defaults(run=_lineage)


def _lineage(arguments: argparse.Namespace) -> int:
    store = store_of(arguments)
    stage, doc_id = named(arguments, arguments.document)
    lineage = store.lineage(stage, doc_id, descendants=not arguments.ancestors)
    if arguments.json:
        print(json.dumps(lineage.to_dict()))
        return 0
    if arguments.mermaid:
        print(lineage.to_mermaid(), end="")
        if len(lineage.descendants) + len(lineage.ancestors) > _EDGES:
            complain(f"more than {_EDGES} lines: what draws Mermaid may refuse so many")
    else:
        print_lineage(lineage)
    for finding in lineage.findings[:SHOWN]:
        complain(one_line(f"not read: {finding}"))
    if len(lineage.findings) > SHOWN:
        complain(f"… and {len(lineage.findings) - SHOWN:,} more ('docid audit' lists all)")
    return 0

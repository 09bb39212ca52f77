"""`docid lineage`: show what a document was made from, and what was made from it.

Show a document with its ancestors and its descendants as a tree, as the records name them. Descendants are found in
one pass over the records of the stages below. The id may be cut short where that is unique.
"""

from docid.cli.arguments import STORE, Arguments, argument, one_of
from docid.cli.inputs import find_document, open_store
from docid.cli.output import Output, complain, cut_list

_EDGES = 500  # as many as Mermaid draws by default


def run(arguments: Arguments, out: Output) -> int:
    """Print the tree of a document."""
    out.stops_unread = True
    store = open_store(arguments)
    stage, doc_id = find_document(store, arguments.document)
    lineage = store.lineage(stage, doc_id, descendants=not arguments.ancestors)
    if arguments.json:
        out.print_json(lineage.to_dict())
        return 0
    if arguments.mermaid:
        out.print_text(lineage.to_mermaid())
        if len(lineage.descendants) + len(lineage.ancestors) > _EDGES:
            complain(f"more than {_EDGES} lines: what draws Mermaid may refuse so many")
    else:
        out.print_tree(lineage)
    for text in cut_list([f"not read: {each}" for each in lineage.findings], " ('docid audit' lists all)"):
        complain(text)
    return 0


ARGUMENTS = (
    argument("document [STAGE/]ID", "the document; without a stage all stages are searched"),
    argument("--ancestors", "show the ancestors alone, which costs no pass"),
    one_of(
        argument("--mermaid", "print the tree as a Mermaid flowchart, for a document"),
        argument("--json", "print one line of JSON"),
    ),
    *STORE,
)

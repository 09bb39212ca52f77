"""`docid lineage`: show the ancestors and descendants of a document.

Print a tree of a document, the documents it was made from, and the documents made from it. To find descendants, docid
reads every record of the later stages. It changes nothing.

Examples:
    # Show the draft of an essay and its evaluations
    docid lineage essay/uu5r --store data/docs
    # Print only the ancestors, as a Mermaid chart for a Markdown page
    docid lineage essay/uu5r --store data/docs --ancestors --mermaid
"""

from docid.cli.arguments import DOCUMENT, STORE, Arguments, argument, one_of
from docid.cli.inputs import find_document, open_store
from docid.cli.output import Output, cut_list, print_stderr

_EDGES = 500  # the most edges that Mermaid draws by default


def run(arguments: Arguments, out: Output) -> int:
    """Print the tree of a document."""
    out.ends_with_pipe = True
    store = open_store(arguments)
    stage, doc_id = find_document(store, arguments.document)
    lineage = store.lineage(stage, doc_id, descendants=not arguments.ancestors)
    if arguments.json:
        out.print_json(lineage.to_dict())
        return 0
    if arguments.mermaid:
        out.print_text(lineage.to_mermaid())
        if len(lineage.descendants) + len(lineage.ancestors) > _EDGES:
            print_stderr(f"the chart has more than {_EDGES} edges; Mermaid may refuse to draw it")
    else:
        out.print_tree(lineage)
    for text in cut_list([f"not read: {each}" for each in lineage.findings], " ('docid audit' lists all)"):
        print_stderr(text)
    return 0


ARGUMENTS = (
    DOCUMENT,
    argument("--ancestors", "show only the ancestors, without reading later stages"),
    one_of(
        argument("--mermaid", "print the tree as a Mermaid flowchart"),
        argument("--json", "print the tree as one line of JSON"),
    ),
    *STORE,
)

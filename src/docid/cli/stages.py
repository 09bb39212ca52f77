"""`docid stages`: show or declare the stages of a store.

Print the stages that a store declares, each with its parent stage. Commands and programs that name no stages use these.
--declare adds stages; writers add theirs, too. docid never removes a stage, and refuses another parent for one. Exit
code 2 then.

Examples:
    # Show the stages of a store
    docid stages --store data/docs
    # Start a store of a book
    docid stages --store book --declare outline,chapter,review --new-store
"""

from docid.cli.arguments import IN_FLIGHT, NEW_STORE, ROOT, Arguments, UsageError, argument, parse_stages
from docid.cli.inputs import open_store
from docid.cli.output import Output, join_few
from docid.core.stages import DEFAULT_STAGES
from docid.store.manifest import find_undeclared


def run(arguments: Arguments, out: Output) -> int:
    """Print the stages of a store, after adding those of --declare."""
    if arguments.new_store and arguments.declare is None:
        raise UsageError("--new-store starts a store; expected --declare LIST with it")
    store = open_store(arguments, needs_stages=False)
    manifest = store.manifest
    if arguments.declare is not None:
        manifest.declare(arguments.declare, overwrite_damaged=True)
    declared = manifest.read()
    stages = declared or DEFAULT_STAGES
    others = find_undeclared(store.backend, stages)
    parents = {stage: stages.parent_of(stage) for stage in stages}
    facts = {"store": store.root, "manifest": manifest.location, "declared": declared is not None}
    out.print_json({**facts, "stages": parents, "undeclared": others})
    width = max(map(len, parents))
    for stage, parent in parents.items():
        out.print(f"{stage:<{width}}  parent: {parent or '-'}")
    out.print(
        f"declared in {manifest.location}" if declared else f"{store.root} declares no stages; these are the default"
    )
    if others:
        out.print(f"{store.root} also holds documents of {join_few(others)}; --declare LIST adds their stages")
    return 0


ARGUMENTS = (
    argument(
        "--declare LIST",
        "add these stages, in order; each is made from the one before it, or from PARENT if written as STAGE:PARENT",
        type=parse_stages,
    ),
    argument("--json", "print the stages as one line of JSON"),
    NEW_STORE,
    ROOT,
    IN_FLIGHT,
)

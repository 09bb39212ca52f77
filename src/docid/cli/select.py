"""`docid select`: make a task table of the documents with the best scores.

Choose the best documents by a table of scores, and make a task table of them, with their own ids: they are there, and
are not made again. Of equal scores the first doc id is better. Documents that are gone are left out, and the next
ones take their places.
"""

from docid.cli.arguments import STORE, Arguments, UsageError, argument, expect_number, make_output_arguments
from docid.cli.inputs import check_table_output, open_store, split_ids
from docid.cli.output import FEW, Output
from docid.operations.curate.scores import read_scores, select
from docid.tables.rows import plain_text


def run(arguments: Arguments, out: Output) -> int:
    """Write the table of the best documents, and list some of them."""
    out.stops_unread = True
    store = open_store(arguments)
    check_table_output(arguments, store, [arguments.scores])
    templates = [each for given in arguments.templates for each in split_ids(given)]
    if arguments.templates and not templates:
        raise UsageError("--templates: expected ids of evaluation templates, separated by commas")
    chosen = select(
        read_scores(arguments.scores),
        store,
        top=arguments.top,
        templates=templates,
        aggregate=arguments.aggregate,
        stage=arguments.stage,
    )
    if not chosen.rows and arguments.output:
        # A table without rows would take the place of one that has some.
        out.print(f"{arguments.output}: nothing to write, left as it is")
    else:
        out = out.put_rows(arguments, chosen.rows, chosen.row_type)
    picks, stage = chosen.picks, chosen.stage
    out.print(
        f"{chosen.evaluations:,} evaluations, {chosen.scored:,} documents of stage {stage} with a score "
        f"({arguments.aggregate}); {len(picks):,} selected"
    )
    texts = [f"{plain_text(pick.score)}  {stage}/{pick.doc_id}  {pick.task_id}" for pick in picks]
    out.print_few(texts, limit=FEW * 2)
    if len(picks) < arguments.top:
        out.print(f"fewer than the {arguments.top:,} that were asked for")
    out.print_notes(chosen.notes, as_json=arguments.json)
    return 0


ARGUMENTS = (
    argument("--scores FILE", "the table that 'docid scores' made", required=True),
    argument("--top N", "how many", type=expect_number("documents"), required=True),
    argument(
        "--templates LIST ...",
        "count the scores of these evaluation templates only: ids, separated by commas; may be repeated",
    ),
    argument(
        "--aggregate {max,mean,median}",
        "how a document's score comes from those of its evaluations (default: max)",
        default="max",
    ),
    argument("--stage STAGE", "the stage of the documents (default: what the last of --stages comes from)"),
    *make_output_arguments("essay_generation_tasks.csv"),
    *STORE,
)

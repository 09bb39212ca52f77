"""`docid select`: write a task table of the documents with the best scores.

Write a task table of the documents with the best scores, with their existing ids. Ties are broken by doc id. docid
skips a document that the store no longer has, and takes the next best.

Examples:
    # Write the task table of the 5 best essays
    docid select --scores scores.csv --top 5 --store docs -o essay_tasks.csv
    # Rank the essays by the mean of their scores, and print the table
    docid select --scores scores.csv --top 5 --store docs --aggregate mean
"""

from collections.abc import Iterator

from docid._text import format_count
from docid.cli.arguments import STORE, Arguments, UsageError, argument, expect_number, make_output_arguments
from docid.cli.inputs import check_table_output, open_store, split_ids
from docid.cli.output import FEW, Output
from docid.cli.scores import COHORT, list_models, read_cohort
from docid.operations.curate.scores import Score, read_scores, select
from docid.store.docs_store import DocsStore
from docid.tables.values import plain_text


def run(arguments: Arguments, out: Output) -> int:
    """Write the table of the best documents, and print the first of them."""
    out.ends_with_pipe = True
    store = open_store(arguments)
    check_table_output(arguments, store, [arguments.scores] if arguments.scores else [])
    templates = [each for given in arguments.templates for each in split_ids(given)]
    if arguments.templates and not templates:
        raise UsageError("--templates: expected ids of evaluation templates separated by commas")
    chosen = select(
        _read(arguments, store),
        store,
        top=arguments.top,
        templates=templates,
        models=list_models(arguments),
        aggregate=arguments.aggregate,
        allow_changed=arguments.allow_changed,
        stage=arguments.stage,
    )
    if not chosen.rows and arguments.output:
        # Do not replace an existing table by an empty one.
        out.print(f"{arguments.output}: not written, because no document was selected")
    else:
        out = out.put_rows(arguments, chosen.rows, chosen.row_type)
    picks, stage = chosen.picks, chosen.stage
    out.print(
        f"{format_count(chosen.evaluations, 'evaluation')}, {format_count(chosen.scored, 'document')} of stage {stage} "
        f"with a score ({arguments.aggregate}); {len(picks):,} selected"
    )
    texts = [f"{plain_text(pick.score)}  {stage}/{pick.doc_id}  {pick.task_id}" for pick in picks]
    out.print_few(texts, limit=FEW * 2)
    if len(picks) < arguments.top:
        out.print(f"fewer than --top {arguments.top:,}")
    out.print_notes(chosen.notes, as_json=arguments.json)
    return 0


def _read(arguments: Arguments, store: DocsStore) -> Iterator[Score]:
    """Read the scores of the table, or of the store."""
    if not arguments.scores:
        stage = arguments.stage and next(iter(store.stages.children_of(arguments.stage)), None)
        return read_cohort(arguments, store, stage)
    if arguments.tables or arguments.pattern is not None or arguments.key is not None:
        raise UsageError("--tables, --pattern and --key read scores from the store; expected them without --scores")
    return read_scores(arguments.scores)


ARGUMENTS = (
    argument("--scores FILE", "the table that 'docid scores' wrote (default: the scores in the store)"),
    *COHORT,
    argument("--top N", "select the N best documents", type=expect_number("documents"), required=True),
    argument(
        "--templates LIST ...",
        "count only the scores of these evaluation templates: ids separated by commas; may be repeated",
    ),
    argument(
        "--aggregate {max,mean,median,min}",
        "combine the scores of a document's evaluations by this function (default: max)",
        default="max",
    ),
    argument(
        "--allow-changed",
        "also count scores that were given for another version of the document",
    ),
    argument("--stage STAGE", "stage of the documents (default: the parent stage of the last of --stages)"),
    *make_output_arguments("essay_generation_tasks.csv"),
    *STORE,
)

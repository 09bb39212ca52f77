"""`docid scores`: collect the scores of evaluations in a table.

Write a table with the score of each evaluation: the number in its parsed text, with the ids of its ancestors. It has
one row per document, sorted by doc id. If a document has no score, the column error has the reason.

Examples:
    # Write the scores of all evaluations
    docid scores --store data/docs -o scores.csv
    # Print the scores as JSON, for another program
    docid scores --store data/docs --json
"""

from collections import Counter
from collections.abc import Iterator

from docid._text import format_count
from docid.cli.arguments import STORE, Arguments, argument, make_output_arguments
from docid.cli.inputs import check_table_output, hint_at_other_stages, open_store
from docid.cli.output import Output
from docid.operations.curate.scores import Score, find_score_stage, score_columns, scores, write_scores


def run(arguments: Arguments, out: Output) -> int:
    """Write the table of scores, and print their number."""
    out.ends_with_pipe = True
    store = open_store(arguments)
    check_table_output(arguments, store)
    stage = find_score_stage(store, arguments.stage)
    columns = score_columns(store, stage)
    errors: Counter[str] = Counter()
    changed = 0

    def count() -> Iterator[Score]:
        nonlocal changed
        for score in scores(store, stage):
            changed += bool(score.changed)
            out.progress.count_document(store, stage)
            errors[score.error.partition(":")[0]] += 1
            yield score

    found = count()
    rows = ({**score.texts(), "score": score.score} for score in found)
    out = out.put_table(arguments, rows, lambda path: write_scores(path, found, columns))
    out.print(f"{format_count(errors.total(), 'document')} of stage {stage}: {errors.pop('', 0):,} with a score")
    for error, number in errors.most_common():
        out.print(f"  {error}: {number:,}")
    if changed:
        out.print(f"  given for another version of the document: {changed:,} (column changed)")
    hint_at_other_stages(store)
    return 0


ARGUMENTS = (
    argument("--stage STAGE", "stage of the evaluations (default: the last of --stages)"),
    *make_output_arguments("scores.csv"),
    *STORE,
)

"""`docid scores`: collect the scores of evaluations in a table.

Write a table with the score of each evaluation: the number in its parsed text, with the ids of its ancestors. It has
one row per document, sorted by doc id. If a document has no score, the column error has the reason. With --aggregate
it has one row for each evaluated task, template and model, over all replicates.

Examples:
    # Write the scores of all evaluations
    docid scores --store data/docs -o scores.csv
    # Write the mean score of each evaluated task
    docid scores --store data/docs --aggregate mean -o task_scores.csv
"""

from collections import Counter
from collections.abc import Collection, Iterator

from docid._text import format_count
from docid.cli.arguments import STORE, Arguments, UsageError, argument, make_output_arguments, one_of
from docid.cli.inputs import check_table_output, find_tables, hint_at_other_stages, open_store, split_ids
from docid.cli.output import Output
from docid.errors import TaskTableError
from docid.operations.curate.aggregate import TaskScore, aggregate_columns, aggregate_scores
from docid.operations.curate.scores import Score, find_score_stage, has_score, score_columns, scores, write_scores
from docid.store.docs_store import DocsStore
from docid.tables.rows import row_type_of
from docid.tables.tasks import read_tasks


def list_models(arguments: Arguments) -> list[str]:
    """Return the ids of --models."""
    models = [each for given in arguments.models for each in split_ids(given)]
    if arguments.models and not models:
        raise UsageError("--models: expected ids of models separated by commas")
    return models


def read_cohort(
    arguments: Arguments, store: DocsStore, stage: str | None, models: Collection[str] = ()
) -> Iterator[Score]:
    """Read the scores that the options ask for; of all models, unless some are given."""
    tables, _ = find_tables(arguments.tables, store.stages)
    named = find_score_stage(store, stage)
    usable = [each for each in (named, store.stages.parent_of(named)) if each in tables][:1]
    if tables and not usable:
        raise UsageError(f"--tables: expected the table of stage {named}, or of its parent stage")
    rows = None
    if usable:
        rows = read_tasks(tables[usable[0]], row_type_of(usable[0], store.stages), delimiter="auto")
    try:
        return scores(store, stage, rows=rows, models=models, pattern=arguments.pattern, key=arguments.key)
    except TaskTableError:
        raise
    except ValueError as error:
        raise UsageError(f"--{error}") from error


def run(arguments: Arguments, out: Output) -> int:
    """Write the table of scores, and print their number."""
    out.ends_with_pipe = True
    store = open_store(arguments)
    check_table_output(arguments, store)
    stage = find_score_stage(store, arguments.stage)
    if arguments.allow_changed and not arguments.aggregate:
        raise UsageError("--allow-changed says which scores --aggregate combines; expected it with --aggregate")
    columns = score_columns(store, stage)
    errors: Counter[str] = Counter()
    models, changed, without_parent = list_models(arguments), 0, 0
    documents: set[str] = set()

    def count() -> Iterator[Score]:
        nonlocal changed, without_parent
        for score in read_cohort(arguments, store, stage, models):
            changed += bool(score.changed) and (has_score(score) or not arguments.aggregate)
            without_parent += not score.parent_doc_id
            documents.add(score.parent_doc_id)
            out.progress.count_document(store, stage)
            errors[score.error.partition(":")[0]] += 1
            yield score

    found = count()
    tasks: list[TaskScore] = []
    if arguments.aggregate:
        tasks = aggregate_scores(found, arguments.aggregate, allow_changed=arguments.allow_changed)
        of_tasks = aggregate_columns(store, stage)
        values = (task.values() for task in tasks)
        out = out.put_table(arguments, values, lambda path: write_scores(path, tasks, of_tasks))
    else:
        rows = ({**score.texts(), "score": score.score} for score in found)
        out = out.put_table(arguments, rows, lambda path: write_scores(path, found, columns))
    of_models = f" and models {', '.join(models)}" if models else ""
    total = format_count(errors.total(), "document")
    out.print(f"{total} of stage {stage}{of_models}: {errors.pop('', 0):,} with a score")
    for error, number in errors.most_common():
        out.print(f"  {error}: {number:,}")
    if changed:
        out.print(f"  given for another version of the document: {changed:,} (column changed)")
    if arguments.aggregate:
        evaluated = format_count(len({(task.parent_task_id, task.parent_doc_id) for task in tasks}), "evaluated task")
        evaluations = format_count(sum(task.evaluations for task in tasks), "score")
        of_documents = format_count(len(documents - {""}), "document")
        out.print(f"{evaluated}: the {arguments.aggregate} of {evaluations} of {of_documents}")
        if without_parent:
            out.print(f"  without a parent_doc_id, left out: {without_parent:,}")
    hint_at_other_stages(store)
    return 0


COHORT = (
    argument(
        "--tables [STAGE=]TABLE|DIRECTORY ...",
        "read only the evaluations in these task tables, or else those of the documents in these; may be repeated",
    ),
    argument("--models LIST ...", "read only evaluations of these models: ids separated by commas; may be repeated"),
    one_of(
        argument("--pattern REGEX", "the score is the last match in the text, or its group 1: 'SCORE: *([0-9.]+)'"),
        argument("--key POINTER", "the score is the value at this JSON Pointer in the text, such as /score"),
    ),
)
ARGUMENTS = (
    argument("--stage STAGE", "stage of the evaluations (default: the last of --stages)"),
    *COHORT,
    argument(
        "--aggregate {max,mean,median,min}",
        "write one row for each evaluated task, evaluation template and model: this function of all its scores",
    ),
    argument("--allow-changed", "with --aggregate: also use scores given for another version of the document"),
    *make_output_arguments("scores.csv"),
    *STORE,
)

"""`docid replay`: build task rows that run stored documents again.

Build a task table from stored documents, without their old tables. In each row, source_doc_id names the document whose
prompt the run sends again. The rows keep the documents' ids, so that a run can replace them; --run-id or --salt gives
new ids. docid changes no document.

Examples:
    # Print the row of one essay under a new id
    docid replay essay/uu5r --store data/docs --salt again
    # Rebuild a table from the doc ids in it
    docid replay --from essay_tasks.csv --store data/docs -o new/essay_tasks.csv
"""

from docid._text import format_count
from docid.cli.arguments import SALT, STORE, Arguments, UsageError, argument, make_output_arguments
from docid.cli.inputs import check_table_output, choose_salt, find_document, find_table, open_store
from docid.cli.output import Output
from docid.core.ids import DOC_ID_EXPECTED, is_doc_id, is_missing
from docid.operations.curate.replay import replay
from docid.tables.csvfile import Faults, read_columns


def run(arguments: Arguments, out: Output) -> int:
    """Write the table of rows, and print their number."""
    out.ends_with_pipe = True
    if bool(arguments.documents) == bool(arguments.table):
        raise UsageError("expected either documents or --from TABLE; see docid replay --help")
    store = open_store(arguments)
    stage, path = find_table(arguments.table, store.stages) if arguments.table else ("", "")
    check_table_output(arguments, store, [path] if path else [])
    if path:
        faults = Faults(path)
        cells = [(number, each) for number, (each,) in read_columns(path, ("doc_id",)) if not is_missing(each)]
        for number, doc_id in cells:
            if not is_doc_id(doc_id):
                faults.add(number, "doc_id", doc_id, f"not a doc id; expected {DOC_ID_EXPECTED}")
        faults.raise_any()
        doc_ids = [doc_id for _, doc_id in cells]
    else:
        # Open all documents first: an unusable one must not leave a half-written table.
        documents = [store.open(*find_document(store, name)) for name in arguments.documents]
        stages = sorted({document.stage for document in documents})
        if len(stages) > 1:
            raise UsageError(f"documents of stages {', '.join(stages)}; expected one stage, because a table has one")
        stage, doc_ids = stages[0], [document.doc_id for document in documents]
    replayed = replay(store, stage, doc_ids, run_id=arguments.run_id, salt=choose_salt(arguments))
    rows = list(replayed)
    out = out.put_rows(arguments, rows, replayed.row_type)
    out.print(f"{format_count(len(rows), 'row')} of stage {stage}, from the documents of {arguments.store}")
    if rows and not arguments.run_id and not arguments.salt:
        out.print("the rows keep the documents' ids, so a run finds them done; --salt gives new ids")
    out.print_notes(replayed.notes, as_json=arguments.json)
    return 0


ARGUMENTS = (
    argument("documents [STAGE/]ID ...", "documents of one stage: doc ids or unique prefixes"),
    argument("--from [STAGE=]TABLE", "take the documents from the doc_id column of a table", dest="table"),
    *SALT,
    *make_output_arguments("essay_generation_tasks.csv"),
    *STORE,
)

"""`docid replay`: build the task rows of stored documents, to run them again.

Build task rows from stored documents alone, so that each can be run again exactly: source_doc_id names the document
whose prompt is sent again. With --run-id or --salt the rows have ids of their own.
"""

from docid.cli.arguments import SALT, STORE, Arguments, UsageError, argument, make_output_arguments
from docid.cli.inputs import check_table_output, choose_salt, find_document, find_table, open_store
from docid.cli.output import Output
from docid.core.ids import DOC_ID_EXPECTED, is_doc_id, is_missing
from docid.operations.curate.replay import replay
from docid.tables.csvfile import Faults, read_columns


def run(arguments: Arguments, out: Output) -> int:
    """Write the table of rows, and say how many there are."""
    out.stops_unread = True
    if bool(arguments.documents) == bool(arguments.table):
        raise UsageError("expected either documents, or --from TABLE; see docid replay --help")
    store = open_store(arguments)
    check_table_output(arguments, store, [arguments.table.rpartition("=")[2]] if arguments.table else [])
    if arguments.table:
        stage, path = find_table(arguments.table, store.stages)
        faults = Faults(path)
        cells = [(number, each) for number, (each,) in read_columns(path, ("doc_id",)) if not is_missing(each)]
        for number, doc_id in cells:
            if not is_doc_id(doc_id):
                faults.add(number, "doc_id", doc_id, f"not a doc id; expected {DOC_ID_EXPECTED}")
        faults.raise_any()
        doc_ids = [doc_id for _, doc_id in cells]
    else:
        # Opened before a table is replaced: one that cannot be used is an error.
        documents = [store.open(*find_document(store, name)) for name in arguments.documents]
        stages = sorted({document.stage for document in documents})
        if len(stages) > 1:
            raise UsageError(f"documents of the stages {', '.join(stages)}; expected one stage, as a table has one")
        stage, doc_ids = stages[0], [document.doc_id for document in documents]
    replayed = replay(store, stage, doc_ids, run_id=arguments.run_id, salt=choose_salt(arguments))
    rows = list(replayed)
    out = out.put_rows(arguments, rows, replayed.row_type)
    out.print(f"{len(rows):,} rows of stage {stage}, from the documents of {arguments.store}")
    if rows and not arguments.run_id and not arguments.salt:
        out.print(
            "they have the documents' own ids, which a run finds done; with --salt they are documents beside them"
        )
    out.print_notes(replayed.notes, as_json=arguments.json)
    return 0


ARGUMENTS = (
    argument("documents [STAGE/]ID ...", "documents of one stage"),
    argument("--from [STAGE=]TABLE", "the documents in a table's doc_id column", dest="table"),
    *SALT,
    *make_output_arguments("essay_generation_tasks.csv"),
    *STORE,
)

"""`docid replay`: build the task rows of stored documents, to run them again.

Build task rows from stored documents alone, so that each can be run again exactly: source_doc_id names the document
whose prompt is sent again. With --run-id or --salt the rows have ids of their own.
"""

from __future__ import annotations

from collections.abc import Iterator

from docid.cli.arguments import SALT, STORE, Arguments, UsageError, argument
from docid.cli.inputs import choose_salt, find_table, open_document, open_store
from docid.cli.output import Output
from docid.cli.table_output import check_table_output, make_output_arguments, put_rows
from docid.core.ids import DOC_ID_EXPECTED, is_doc_id, is_missing
from docid.operations.curate.replay import replay
from docid.tables.csvfile import Faults, read_columns
from docid.tables.rows import TaskRow


def run(arguments: Arguments, out: Output) -> int:
    """Write the table of rows, and say how many there are."""
    out = out.while_read()
    if bool(arguments.documents) == bool(arguments.table):
        raise UsageError("expected either documents, or --from TABLE; see docid replay --help")
    store = open_store(arguments)
    check_table_output(arguments, store, [arguments.table.rpartition("=")[2]] if arguments.table else [])
    if arguments.table:
        stage, path = find_table(arguments.table, store.stages)
        doc_ids = _read_doc_ids(path)
    else:
        stage, doc_ids = _find_documents(arguments)
    rows = replay(store, stage, doc_ids, run_id=arguments.run_id, salt=choose_salt(arguments))
    number = 0

    def count() -> Iterator[TaskRow]:
        nonlocal number
        for row in rows:
            number += 1
            yield row

    out = put_rows(arguments, out, count(), rows.row_type)
    out.print(f"{number:,} rows of stage {stage}, from the documents of {arguments.store}")
    if number and not arguments.run_id and not arguments.salt:
        out.print(
            "they have the documents' own ids, which a run finds done; with --salt they are documents beside them"
        )
    out.print_notes(rows.notes, as_json=arguments.json)
    return 0


def _find_documents(arguments: Arguments) -> tuple[str, list[str]]:
    """Return the one stage of the documents, and their doc ids."""
    documents = [open_document(arguments, name) for name in arguments.documents]
    stages = sorted({each.stage for each in documents})
    if len(stages) > 1:
        raise UsageError(f"documents of the stages {', '.join(stages)}; expected one stage, as a table has one")
    return stages[0], [each.doc_id for each in documents]


def _read_doc_ids(path: str) -> list[str]:
    """Return the doc ids of a table, in its order."""
    faults = Faults(path)
    doc_ids = []
    for number, (doc_id,) in read_columns(path, ("doc_id",)):
        if is_missing(doc_id):
            continue
        if not is_doc_id(doc_id):
            faults.add(number, "doc_id", doc_id, f"not a doc id; expected {DOC_ID_EXPECTED}")
        doc_ids.append(doc_id)
    faults.raise_any()
    return doc_ids


ARGUMENTS = (
    argument("documents [STAGE/]ID ...", "documents of one stage"),
    argument("--from [STAGE=]TABLE", "the documents in a table's doc_id column", dest="table"),
    *SALT,
    *make_output_arguments("essay_generation_tasks.csv"),
    *STORE,
)

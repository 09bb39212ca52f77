"""`docid link`, `scores`, `select` and `replay`: from a store back to tables."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from docid.cli.options import (
    SHOWN,
    UsageError,
    add_salt,
    add_store,
    check_output,
    find,
    is_replaced,
    salt_of,
    store_of,
    table_of,
    whole,
)
from docid.cli.output import (
    hint_at_other_stages,
    json_line,
    one_line,
    print_bytes,
    print_notes,
    printable,
    written_text,
)
from docid.core.ids import DOC_ID_EXPECTED, is_doc_id
from docid.core.task import is_missing
from docid.operations.curate.link import link
from docid.operations.curate.replay import replay
from docid.operations.curate.scores import read_scores, score_columns, scored_by, scores, write_scores
from docid.operations.curate.select import select
from docid.tables.csvfile import Faults, read_columns
from docid.tables.rows import format_cells, plain_text, row_type_of
from docid.tables.tasks import write_tasks

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from docid.operations.curate.scores import Score
    from docid.operations.curate.select import Selection
    from docid.tables.rows import TaskRow


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    linking = verbs.add_parser(
        "link",
        allow_abbrev=False,
        help="fill a table's ids from the documents that are there already",
        description="Fill the empty doc_id and parent_doc_id cells of a task table, in place and atomically, from "
        "stored documents of the same task id, so that they are used and not made again. Of several the newest is "
        "taken and the others are listed. What is set is kept, unless --force.",
    )
    linking.add_argument("table", metavar="[STAGE=]TABLE", help="the task table to fill")
    linking.add_argument("--force", action="store_true", help="replace ids that are set, too")
    linking.add_argument("--dry-run", action="store_true", help="say what would be filled; write nothing")
    linking.add_argument("--json", action="store_true", help="print one line of JSON a note, the summary last")
    add_store(linking)
    linking.set_defaults(run=_link)

    scoring = verbs.add_parser(
        "scores",
        allow_abbrev=False,
        help="gather the scores of evaluations in a table",
        description="Make a table of the numbers that the parsed texts of a stage are, one row a document, sorted by "
        "doc id, with what each was made from. A document without a number has the reason in the column error.",
    )
    scoring.add_argument(
        "--stage", metavar="STAGE", help="the stage of the evaluations (default: the last of --stages)"
    )
    _add_output(scoring, "scores.csv")
    add_store(scoring)
    scoring.set_defaults(run=_scores)

    selecting = verbs.add_parser(
        "select",
        allow_abbrev=False,
        help="make a task table of the documents with the best scores",
        description="Choose the best documents by a table of scores, and make a task table of them, with their own "
        "ids: they are there, and are not made again. Of equal scores the first doc id is better. Documents that are "
        "gone are left out, and the next ones take their places.",
    )
    selecting.add_argument("--scores", metavar="FILE", required=True, help="the table that 'docid scores' made")
    selecting.add_argument("--top", type=whole("documents"), metavar="N", required=True, help="how many")
    selecting.add_argument(
        "--templates",
        action="append",
        default=[],
        metavar="LIST",
        help="count the scores of these evaluation templates only: ids, separated by commas; may be repeated",
    )
    selecting.add_argument(
        "--aggregate",
        choices=("max", "mean", "median"),
        default="max",
        help="how a document's score comes from those of its evaluations (default: max)",
    )
    selecting.add_argument(
        "--stage", metavar="STAGE", help="the stage of the documents (default: what the last of --stages comes from)"
    )
    _add_output(selecting, "essay_generation_tasks.csv")
    add_store(selecting)
    selecting.set_defaults(run=_select)

    replaying = verbs.add_parser(
        "replay",
        allow_abbrev=False,
        help="build the task rows of stored documents, to run them again",
        description="Build task rows from stored documents alone, so that each can be run again exactly: source_doc_id "
        "names the document whose prompt is sent again. With --run-id or --salt the rows have ids of their own.",
    )
    replaying.add_argument("documents", nargs="*", metavar="[STAGE/]ID", help="documents of one stage")
    replaying.add_argument(
        "--from", dest="table", metavar="[STAGE=]TABLE", help="the documents in a table's doc_id column"
    )
    add_salt(replaying)
    _add_output(replaying, "essay_generation_tasks.csv")
    add_store(replaying)
    replaying.set_defaults(run=_replay)


def _add_output(parser: argparse.ArgumentParser, example: str) -> None:
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help=f"write the table to FILE ({example}), replacing it (default: print it)",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be written to --output; write nothing")
    parser.add_argument("--json", action="store_true", help="print one line of JSON a row instead")


def _link(arguments: argparse.Namespace) -> int:
    store = store_of(arguments)
    stage, path = table_of(arguments.table, store.stages)
    dry = arguments.dry_run
    linked = link(path, store, row_type=row_type_of(stage, store.stages), force=arguments.force, dry_run=dry)
    if arguments.json:
        print_notes(linked.notes, as_json=True)
        print(json.dumps({"summary": {"table": path, "dry_run": dry, **linked._asdict(), "notes": len(linked.notes)}}))
        return 0
    text = f"{path}: {linked.rows} rows, {'would be ' if dry else ''}linked: {linked.filled} ({linked.kept} kept)"
    if store.stages.parent_of(stage) is not None:
        text += f", {linked.parents_filled} parent_doc_id; {linked.parents_missing} without parent_doc_id"
    print(printable(text))
    print_notes(linked.notes)
    return 0


def _scores(arguments: argparse.Namespace) -> int:
    store = store_of(arguments)
    _check_output(arguments)
    stage = scored_by(store, arguments.stage)
    columns = score_columns(store, stage)
    counts: Counter[str] = Counter()
    found = _counted(scores(store, stage), counts)
    facts = ({**score.texts(), "score": score.score} for score in found)
    out = _put(arguments, facts, lambda path: write_scores(path, found, columns))
    print(f"{sum(counts.values()):,} documents of stage {stage}: {counts['']:,} with a score", file=out)
    for error, count in counts.most_common():
        if error:
            print(f"  {error}: {count:,}", file=out)
    hint_at_other_stages(arguments)
    return 0


def _counted(found: Iterator[Score], counts: Counter[str]) -> Iterator[Score]:
    for score in found:
        counts[score.error.partition(":")[0]] += 1
        yield score


def _select(arguments: argparse.Namespace) -> int:
    store = store_of(arguments)
    _check_output(arguments, [arguments.scores])
    templates = [each.strip() for given in arguments.templates for each in given.split(",") if each.strip()]
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
    if not chosen.rows and arguments.output and not arguments.json:
        # A table without rows would take the place of one that has some.
        print(printable(f"{arguments.output}: nothing to write, left as it is"))
        out: Any = sys.stdout
    else:
        out = _put_rows(arguments, chosen.rows, chosen.row_type)
    with contextlib.redirect_stdout(out):
        _print_selection(chosen, arguments)
    return 0


def _print_selection(chosen: Selection, arguments: argparse.Namespace) -> None:
    print(
        f"{chosen.evaluations:,} evaluations, {chosen.scored:,} documents of stage {chosen.stage} with a score "
        f"({arguments.aggregate}); {len(chosen.picks):,} selected"
    )
    for pick in chosen.picks[: SHOWN * 2]:
        print(one_line(f"  {plain_text(pick.score)}  {chosen.stage}/{pick.doc_id}  {pick.task_id}"))
    if len(chosen.picks) > SHOWN * 2:
        print(f"  … and {len(chosen.picks) - SHOWN * 2:,} more")
    if len(chosen.picks) < arguments.top:
        print(f"fewer than the {arguments.top:,} that were asked for")
    print_notes(chosen.notes, as_json=arguments.json)


def _replay(arguments: argparse.Namespace) -> int:
    if bool(arguments.documents) == bool(arguments.table):
        raise UsageError("expected either documents, or --from TABLE; see docid replay --help")
    store = store_of(arguments)
    _check_output(arguments, [arguments.table.rpartition("=")[2]] if arguments.table else [])
    if arguments.table:
        stage, path = table_of(arguments.table, store.stages)
        doc_ids: Iterable[str] = _doc_ids(path)
    else:
        documents = [find(arguments, name) for name in arguments.documents]
        stages = sorted({each.stage for each in documents})
        if len(stages) > 1:
            raise UsageError(f"documents of the stages {', '.join(stages)}; expected one stage, as a table has one")
        [stage], doc_ids = stages, [each.doc_id for each in documents]
    rows = replay(store, stage, doc_ids, run_id=arguments.run_id, salt=salt_of(arguments))
    count = 0

    def counted() -> Iterator[TaskRow]:
        nonlocal count
        for row in rows:
            count += 1
            yield row

    out = _put_rows(arguments, counted(), rows.row_type)
    with contextlib.redirect_stdout(out):
        print(f"{count:,} rows of stage {stage}, from the documents of {arguments.store}")
        if count and not arguments.run_id and not arguments.salt:
            print(
                "they have the documents' own ids, which a run finds done; with --salt they are documents beside them"
            )
        print_notes(rows.notes, as_json=arguments.json)
    return 0


def _doc_ids(path: str) -> list[str]:
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


def _put_rows(arguments: argparse.Namespace, rows: Iterable[TaskRow], row_type: type[TaskRow]) -> Any:
    return _put(arguments, map(format_cells, rows), lambda path: write_tasks(path, rows, row_type=row_type))


def _put(arguments: argparse.Namespace, facts: Iterator[dict[str, Any]], write: Any) -> Any:
    """Write the table, or print it, or its rows as JSON; return where to say what was done."""
    output: str | None = arguments.output
    if arguments.json:
        for row in facts:
            print(json_line(row))
        return sys.stderr
    if output is None:
        print_bytes(written_text(write))
        return sys.stderr
    if not is_replaced(output):
        with open(output, "wb") as pipe:
            pipe.write(written_text(write))
        return sys.stderr
    was_there = os.path.lexists(output)
    if arguments.dry_run:
        written_text(write)
    else:
        write(output)
    done = "would be " if arguments.dry_run else ""
    print(printable(f"{output}: {done}{'replaced' if was_there else 'written'}"))
    return sys.stdout


def _check_output(arguments: argparse.Namespace, inputs: Iterable[str] = ()) -> None:
    output: str | None = arguments.output
    if output is not None:
        check_output("--output", output, store_of(arguments), inputs)
    if arguments.json and output is not None:
        raise UsageError("--json prints the rows, --output writes them; expected one of the two")
    if arguments.dry_run and output is None:
        raise UsageError("--dry-run is about what would be written; expected --output with it")

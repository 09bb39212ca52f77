"""`docid audit`: check that task tables are safe to run and a store is undamaged.

Check task tables, a store, or both against each other, and report every fault; docid changes nothing. In a directory,
it reads the files named <stage>_generation_tasks.csv or <stage>_tasks.csv, also .gz. With --new-store, a store that
does not exist yet counts as empty. Exit code 1 if a finding reaches --fail-on.

Examples:
    # Check all tables of a directory against the store before a run
    docid audit data/2_tasks --store data/docs
    # List the documents whose parent was replaced after they were made
    docid audit --store data/docs --changed
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from docid._text import escape_controls, format_count, name_task
from docid.cli.arguments import NEW_STORE, STALE_AFTER, STORE, VERIFY, Arguments, UsageError, argument, expect_number
from docid.cli.inputs import DELIMITER, check_output, find_tables, hint_at_other_stages, is_url, open_root, split_ids
from docid.cli.output import Output, format_summary, is_replaced, join_few
from docid.core.findings import FIELDS, LABELS, LEVELS, ChangedSource
from docid.core.stages import DEFAULT_STAGES
from docid.errors import TaskTableError
from docid.operations.audit import AuditReport, audit
from docid.store.docs_store import DocsStore
from docid.tables.csvfile import Shape, TableWriter

if TYPE_CHECKING:
    from concurrent.futures import Executor  # slow to import


def run(arguments: Arguments, out: Output) -> int:
    """Audit tables and a store, and print the findings; return 1 if one reaches --fail-on."""
    root: str | None = arguments.store
    _check_usage(root, arguments)
    store = None if root is None else open_root(arguments, root, new=arguments.new_store)
    arguments.stages = arguments.stages or (DEFAULT_STAGES if store is None else store.stages)
    tables, others = find_tables(arguments.tables, arguments.stages)
    if store is not None:
        hint_at_other_stages(store)
    if arguments.csv is not None:
        check_output("--csv", arguments.csv, store, tables.values())
        if not is_replaced(arguments.csv):
            raise UsageError(f"--csv {arguments.csv}: a pipe or a device; expected a file")
    report = _audit(store, tables, arguments, out)
    columns, rows = FIELDS, report.rows()
    if arguments.changed:
        columns, rows = ChangedSource._fields, [each._asdict() for each in report.changed]
    if arguments.csv:
        _write_table(arguments.csv, columns, rows)
    if arguments.json:
        for row in rows:
            out.print_json(row)
        out.print_json({"summary": {**report.summary(), "skipped": others, "store": _describe_store(report, root)}})
    else:
        _print_report(report, arguments, out, others)
    fails = bool(report.findings) if arguments.fail_on == "warning" else not report.ok
    return 1 if fails else 0


def _list_ignored(arguments: Arguments) -> list[str]:
    """Return the codes of --ignore."""
    codes = [code for given in arguments.ignore for code in split_ids(given)]
    if arguments.ignore and not codes:
        raise UsageError("--ignore: expected codes separated by commas")
    if unknown := [code for code in codes if code not in LEVELS]:
        raise UsageError(f"--ignore {unknown[0]}: not a code; expected {', '.join(LEVELS)}")
    return codes


def _check_usage(root: str | None, arguments: Arguments) -> None:
    """Refuse options that leave nothing to audit."""
    if root == "":
        raise UsageError("--store: empty; expected a path (is a shell variable unset?)")
    if root is None and not arguments.tables:
        raise UsageError("nothing to audit; expected task tables, --store ROOT, or both (see docid audit --help)")
    if root is None and arguments.changed:
        raise UsageError("--changed compares stored documents; expected --store ROOT")


def _audit(store: DocsStore | None, tables: dict[str, str], arguments: Arguments, out: Output) -> AuditReport:
    try:
        with _workers(arguments) as executor:
            return audit(
                store,
                tables,
                stages=arguments.stages,
                verify=arguments.verify,
                executor=executor,
                stale_after=arguments.stale_after,
                ignore=_list_ignored(arguments),
                delimiter=arguments.delimiter,
                progress=out.progress.show,
            )
    except TaskTableError as error:
        if any(problem.row not in {None, 1} for problem in error.problems):
            raise
        # One line is enough for a file that is not a task table of this stage.
        more = f" (and {error.count - 1} more like it)" if error.count > 1 else ""
        raise UsageError(f"{error.problems[0]}{more}") from None


@contextmanager
def _workers(arguments: Arguments) -> Iterator[Executor | None]:
    """Return an executor of --jobs processes; None for one process."""
    if arguments.jobs == 1:
        yield None
        return
    import multiprocessing  # noqa: PLC0415 - slow to import
    from concurrent.futures import BrokenExecutor, ProcessPoolExecutor  # noqa: PLC0415 - as above

    # A forked process cannot use the object store client of its parent.
    context = multiprocessing.get_context("spawn") if is_url(arguments.store or "") else None
    try:
        with ProcessPoolExecutor(arguments.jobs, context) as executor:
            yield executor
    except BrokenExecutor as error:
        raise UsageError("a worker process was killed, perhaps for lack of memory; use fewer --jobs") from error


def _describe_store(report: AuditReport, root: str | None) -> dict[str, Any] | None:
    """Return the store's location, and whether it has a directory of a stage (in a bucket: a document)."""
    if root is None:
        return None
    if is_url(root):
        return {"location": root, "exists": any(facts.documents for facts in report.stages.values())}
    return {"location": root, "exists": any(os.path.isdir(os.path.join(root, stage)) for stage in report.stages)}


def _print_report(report: AuditReport, arguments: Arguments, out: Output, others: list[str]) -> None:
    """Print the counts by stage, then the first few findings of each code; or with --changed only the changes."""
    root: str | None = arguments.store
    if arguments.changed:
        _print_changed(report, out)
        return
    number = Counter(finding.stage for finding in report.findings)
    lines = [("stage", *LABELS.values(), "findings")]
    for stage, facts in report.stages.items():
        values = ["-" if value is None else f"{value:,}" for value in facts]
        lines.append((stage, *values, f"{number[stage]:,}"))
    out.print_table(lines)
    if root and not is_url(root) and not os.path.lexists(root):
        out.print(f"store {root} does not exist yet; docid treats it as an empty store")
    if others:
        out.print(f"ignored (not task tables): {format_count(len(others), 'file')} ({join_few(others)})")
    for code, findings in report.by_code().items():
        out.print()
        out.print_heading(f"{code} ({LEVELS[code]}): {len(findings):,}", LEVELS[code])
        hints = {each.hint for each in findings}
        texts = [f"{each.where}{name_task(each.task_id)}: {each.message}" for each in findings]
        if len(hints) > 1:
            texts = [f"{text}; {each.hint}" for text, each in zip(texts, findings, strict=True)]
        out.print_few(texts, " (--json or --csv lists all)")
        if len(hints) == 1:
            out.print(f"  -> {hints.pop()}")
    summary = report.summary()
    out.print()
    level = "error" if summary["errors"] else "warning" if summary["warnings"] else ""
    out.print_heading(format_summary(summary), level)


def _write_table(path: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    with TableWriter(path, Shape()) as writer:
        writer.start(columns)
        for number, row in enumerate(rows, 2):
            writer.add(number, {key: value or "" for key, value in row.items()})
        writer.commit()


def _print_changed(report: AuditReport, out: Output) -> None:
    """Print which documents were made from another version of their parent or input, and when that changed."""
    lines = [("document", "made", "from", "changed", "parts", "task")]
    for each in report.changed:
        moments = [moment[:19].replace("T", " ") for moment in (each.created_at, each.changed_at)]
        source, name = f"{each.role} {each.source}", f"{each.stage}/{each.doc_id}"
        lines.append((name, moments[0], source, moments[1], each.parts, escape_controls(each.task_id or "")))
    if report.changed:
        out.print_table(lines)
        out.print()
    documents = len({(each.stage, each.doc_id) for each in report.changed})
    what = "made from another version of a parent or an input"
    out.print_heading(f"{format_count(documents, 'document')} {what}", "warning" if documents else "")
    others = sum(not each.code.endswith("-changed") for each in report.findings)
    if others:
        out.print(f"{format_count(others, 'other finding')}: run it without --changed")


ARGUMENTS = (
    argument("tables [STAGE=]TABLE|DIRECTORY ...", "task tables, or directories with task tables"),
    VERIFY,
    argument("--fail-on {error,warning}", "the lowest level that gives exit code 1 (default: error)", default="error"),
    argument(
        "--changed",
        "print only the documents that were made from another version of a parent or an input than the stored one; "
        "applies to --json and --csv, too",
    ),
    argument(
        "--ignore CODE ...",
        "leave out findings of these codes, separated by commas, such as orphan-document for tables of a part of the "
        "store; may be repeated",
    ),
    argument("--json", "print one line of JSON per finding, then one for the summary"),
    argument("--csv FILE", "also write the findings to FILE, as CSV"),
    argument("--jobs N", "use N processes to check documents (default: 1)", type=expect_number("processes"), default=1),
    STALE_AFTER,
    DELIMITER,
    NEW_STORE,
    *STORE,
)

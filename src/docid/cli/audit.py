"""`docid audit`: say what is wrong with tables and a store."""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from docid._text import shown
from docid.cli.options import (
    SHOWN,
    UsageError,
    add_store,
    check_output,
    is_replaced,
    is_url,
    opened,
    seconds,
    tables_in,
    whole,
)
from docid.cli.output import hint_at_other_stages, one_line, printable, while_read
from docid.cli.terminal import Meter, print_heading, print_table
from docid.core.findings import FIELDS, LABELS, LEVELS
from docid.errors import TaskTableError
from docid.operations.audit import audit
from docid.tables.csvfile import Shape, TableWriter

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from docid.core.findings import Finding
    from docid.operations.audit import AuditReport
    from docid.store.docs_store import DocsStore


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    check = verbs.add_parser(
        "audit",
        allow_abbrev=False,
        help="look whether tables are safe to run, and whether a store is whole",
        description="Look at task tables, at a store, or at both against each other, and say all that is wrong. "
        "Nothing is written. In a directory the task tables are known by their names (<stage>_generation_tasks.csv or "
        "<stage>_tasks.csv, also .gz); files of other names are skipped and counted. A store that is not there yet is "
        "an empty one. Exit code 1 if there is something at --fail-on, 2 if a table cannot be read.",
    )
    check.add_argument(
        "tables", nargs="*", metavar="[STAGE=]TABLE|DIRECTORY", help="task tables, or directories of them"
    )
    check.add_argument("--verify", action="store_true", help="also compare the SHA-256 of every part with its record")
    check.add_argument(
        "--fail-on", choices=("error", "warning"), default="error", help="what makes the exit code 1 (default: error)"
    )
    check.add_argument("--json", action="store_true", help="print one line of JSON a finding, the summary last")
    check.add_argument("--csv", metavar="FILE", help="also write the findings to this file, as CSV")
    check.add_argument(
        "--jobs", type=whole("processes"), default=1, metavar="N", help="work in N processes (default: 1)"
    )
    check.add_argument(
        "--stale-after",
        type=seconds,
        default="1h",
        metavar="AGE",
        help="temporary and uncommitted directories touched in this time may be a writer's (default: 1h)",
    )
    add_store(check)
    check.set_defaults(run=_audit)


def _audit(arguments: argparse.Namespace) -> int:
    tables, skipped = tables_in(arguments.tables, arguments.stages)
    _check_audit(arguments, tables)
    store = None
    if arguments.store:
        store = opened(arguments.store, arguments.stages, new=True, in_flight=arguments.in_flight)
    if arguments.csv is not None:
        check_output("--csv", arguments.csv, store, tables.values())
        if not is_replaced(arguments.csv):
            raise UsageError(f"--csv {arguments.csv}: expected a file, which will be replaced")
    try:
        with Meter() as meter:
            report = _audit_report(store, tables, arguments, meter)
    except TaskTableError as error:
        if any(problem.row not in {None, 1} for problem in error.problems):
            raise
        # A file that is no such table is one line, whatever columns it lacks.
        more = f" (and {error.count - 1} more like it)" if error.count > 1 else ""
        raise UsageError(f"{error.problems[0]}{more}") from None
    if arguments.csv:
        _write_findings(arguments.csv, report.findings)
    # Whether or not somebody reads all of it, the exit code says what was found.
    with while_read():
        if arguments.json:
            for finding in report.findings:
                print(json.dumps(finding.to_dict()))
            summary = {**report.summary(), "skipped": skipped, "store": _store_facts(report, arguments.store)}
            print(json.dumps({"summary": summary}))
        else:
            _print_report(report, arguments, skipped)
    fails = bool(report.findings) if arguments.fail_on == "warning" else not report.ok
    return 1 if fails else 0


def _check_audit(arguments: argparse.Namespace, tables: dict[str, str]) -> None:
    """Refuse what cannot be meant, before anything is looked at; hint at what may be another mistake."""
    root = arguments.store
    if root == "":
        raise UsageError("--store: expected a path, got nothing (is a variable not set?)")
    if root is None:
        if not tables:
            raise UsageError("nothing to audit: expected task tables, --store ROOT, or both; see docid audit --help")
    else:
        hint_at_other_stages(arguments)


def _audit_report(
    store: DocsStore | None, tables: dict[str, str], arguments: argparse.Namespace, meter: Meter
) -> AuditReport:
    options: dict[str, Any] = {
        "stages": arguments.stages,
        "verify": arguments.verify,
        "stale_after": arguments.stale_after,
        "progress": meter.progress,
    }
    if arguments.jobs == 1:
        return audit(store, tables, **options)
    import multiprocessing  # noqa: PLC0415 - for this alone
    from concurrent.futures import BrokenExecutor, ProcessPoolExecutor  # noqa: PLC0415 - as above

    # An object store cannot be used in a process that was forked from one that uses it.
    context = multiprocessing.get_context("spawn") if is_url(arguments.store or "") else None
    try:
        with ProcessPoolExecutor(arguments.jobs, context) as executor:
            return audit(store, tables, executor=executor, **options)
    except BrokenExecutor as error:
        raise UsageError("a worker process was killed (is the memory full?); expected fewer --jobs") from error


def _write_findings(path: str, findings: Sequence[Finding]) -> None:
    with TableWriter(path, Shape()) as writer:
        writer.start(FIELDS)
        for number, finding in enumerate(findings, 2):
            writer.add(number, {key: value or "" for key, value in finding.to_dict().items()})
        writer.commit()


def _store_facts(report: AuditReport, root: str | None) -> dict[str, Any] | None:
    """Return where the store is, and whether there is one: a directory of a stage, in a bucket a document."""
    if root is None:
        return None
    if is_url(root):
        return {"location": root, "exists": any(facts.documents for facts in report.stages.values())}
    return {"location": root, "exists": any(os.path.isdir(os.path.join(root, stage)) for stage in report.stages)}


def _print_report(report: AuditReport, arguments: argparse.Namespace, skipped: list[str]) -> None:
    """Print the summary, then the findings by code, the first few of each."""
    _print_facts(report)
    if arguments.store and not is_url(arguments.store) and not os.path.lexists(arguments.store):
        print(f"the store {arguments.store} is not there yet: an empty one")
    if skipped:
        some = ", ".join(skipped[:SHOWN]) + (", …" if len(skipped) > SHOWN else "")
        print(printable(f"files of other names, skipped: {len(skipped)} ({some})"))
    for code, of_code in report.by_code().items():
        count = len(of_code)
        print()
        print_heading(f"{code} ({LEVELS[code]}): {count:,}", LEVELS[code])
        hints = {finding.hint for finding in of_code}
        for finding in of_code[:SHOWN]:
            task = "" if finding.task_id is None else f" (task_id={shown(finding.task_id)})"
            hint = f"; {finding.hint}" if len(hints) > 1 else ""
            print(one_line(f"  {finding.where}{task}: {finding.message}{hint}"))
        if count > SHOWN:
            print(f"  … and {count - SHOWN:,} more (--json or --csv gives all)")
        if len(hints) == 1:
            print(printable(f"  -> {hints.pop()}"))
    summary = report.summary()
    print()
    print_heading(
        f"{summary['errors']:,} errors, {summary['warnings']:,} warnings",
        "error" if summary["errors"] else "warning" if summary["warnings"] else "",
    )


def _print_facts(report: AuditReport) -> None:
    """Print a line a stage: what was counted, and how many findings there are."""
    found = Counter(finding.stage for finding in report.findings)
    lines = [("stage", *LABELS.values(), "findings")]
    for stage, facts in report.stages.items():
        values = ["-" if value is None else f"{value:,}" for value in facts]
        lines.append((stage, *values, f"{found[stage]:,}"))
    print_table(lines)

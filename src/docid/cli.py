"""The command `docid`: the only place that reads arguments, prints, and sets an exit code.

Exit codes: 0 fine; 1 an audit found something at `--fail-on`, or a command that changes files could not do all of it;
2 wrong usage or unreadable input, which standard error says without a traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from docid import __version__
from docid.audit import audit
from docid.csvfile import Shape, TableWriter
from docid.document import PART_FILES, timestamp
from docid.errors import DocidError, TaskTableError, shown
from docid.findings import FIELDS, LEVELS
from docid.ids import is_doc_id, reserve_doc_ids
from docid.repair import repair
from docid.shards import StageFacts
from docid.stages import DEFAULT_STAGES, Stages
from docid.store import DocsStore
from docid.tasks import read_tasks, reserve_tasks, row_type_of, stage_of_table, write_tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from docid.audit import AuditReport
    from docid.findings import Finding
    from docid.repair import Step
    from docid.stored import Part, StoredDocument
    from docid.tasks import TaskRow

_SHOWN = 5  # documents that a short id could mean, places of one code
_DEFAULT_STAGES = ",".join(DEFAULT_STAGES)


class _UsageError(Exception):
    """Wrong usage that argparse cannot see."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: the arguments behind the program's name; those of the process if None.
    """
    if sys.stdout is None:  # closed by the caller (>&-): nobody reads what is printed
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    if sys.stderr is None:  # as above; what is printed to None goes to standard output
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a character is no reason to stop.
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone (docid ls | head): nobody is left to tell. Python would complain at exit otherwise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (DocidError, OSError, ValueError, _UsageError) as error:
        print(f"docid: {error}", file=sys.stderr)
        return 2
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="docid",
        description="Name a pipeline's documents before they exist, and look at what is stored.",
    )
    parser.add_argument("--version", action="version", version=f"docid {__version__}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    reserve = verbs.add_parser(
        "reserve",
        allow_abbrev=False,
        help="fill doc_id and parent_doc_id in task tables, or print ids",
        description="Fill the empty doc_id and parent_doc_id cells of task tables, in place and atomically; what is "
        "set is kept. A table's stage is told by its name (<stage>_generation_tasks.csv or <stage>_tasks.csv, also "
        ".gz), or given as STAGE=TABLE. Parents are looked up in the other tables that are named, or in --parents. "
        "Where one table is faulty none is written. With --stage and --task-id no "
        "table is touched: the ids of these tasks are printed.",
    )
    reserve.add_argument("tables", nargs="*", metavar="[STAGE=]TABLE", help="task tables to fill")
    reserve.add_argument("--stage", metavar="STAGE", help="the stage of the --task-id values")
    reserve.add_argument(
        "--task-id", action="append", default=[], metavar="TEXT", help="a task to print the id of; may be repeated"
    )
    reserve.add_argument("--run-id", metavar="TEXT", help="derive the ids for this run alone")
    reserve.add_argument("--salt", metavar="TEXT", help="derive other ids for the same tasks")
    reserve.add_argument(
        "--parents",
        action="append",
        default=[],
        metavar="[STAGE=]TABLE",
        help="a reserved table to look parents up in; may be repeated",
    )
    reserve.add_argument("--dry-run", action="store_true", help="say what would be filled; write nothing")
    _add_stages(reserve)
    reserve.set_defaults(run=_reserve)

    show = verbs.add_parser(
        "show",
        allow_abbrev=False,
        help="print one document",
        description="Print a document's lineage and metadata, and its parsed text (the raw one where nothing was "
        "parsed). The id may be cut short where that is unique.",
    )
    show.add_argument("document", metavar="[STAGE/]ID", help="the document; without a stage all stages are searched")
    what = show.add_mutually_exclusive_group()
    for part in PART_FILES:
        what.add_argument(
            f"--{part}", action="store_const", const=part, dest="part", help=f"print the {part} text alone, as it is"
        )
    what.add_argument("--json", action="store_true", help="print the record as one line of JSON")
    _add_store(show)
    show.set_defaults(run=_show)

    listing = verbs.add_parser(
        "ls",
        allow_abbrev=False,
        help="list the documents of a store",
        description="List documents, one a line: stage/id, task id, parent, when made, parts. Unordered.",
    )
    listing.add_argument("stage", nargs="*", metavar="STAGE", help="the stages to list (default: all of --stages)")
    how = listing.add_mutually_exclusive_group()
    how.add_argument("--ids", action="store_true", help="print stage/id alone, without opening a document")
    how.add_argument("--json", action="store_true", help="print one line of JSON a document")
    _add_store(listing)
    listing.set_defaults(run=_ls)
    _add_audit(verbs)
    _add_repair(verbs)
    return parser


def _add_audit(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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
    check.add_argument("--jobs", type=_jobs, default=1, metavar="N", help="work in N processes (default: 1)")
    check.add_argument(
        "--stale-after",
        type=_seconds,
        default="1h",
        metavar="AGE",
        help="temporary and uncommitted directories touched in this time may be a writer's (default: 1h)",
    )
    _add_store(check)
    check.set_defaults(run=_audit)


def _jobs(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of processes, 1 or more")
    return int(text)


def _add_repair(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    mend = verbs.add_parser(
        "repair",
        allow_abbrev=False,
        help="clear away what dead writers left, and documents that cannot be used",
        description="Say what there is to repair in a store, and with --apply do it: unfinished documents of writers "
        "that died, interrupted replaces, documents that are torn or lie in the wrong place. Nothing is deleted: what "
        "is in the way is moved to ROOT/.docid/quarantine, until --purge. Safe beside writers. Exit code 1 if "
        "something could not be done.",
    )
    mend.add_argument("--apply", action="store_true", help="do it; without this nothing is changed")
    mend.add_argument("--verify", action="store_true", help="also compare the SHA-256 of every part with its record")
    mend.add_argument(
        "--stale-after",
        type=_seconds,
        default="1h",
        metavar="AGE",
        help="what was touched in this time may belong to a writer, and is left alone (default: 1h)",
    )
    mend.add_argument("--purge", action="store_true", help="delete what earlier runs moved to quarantine")
    mend.add_argument(
        "--history", action="store_true", help="with --purge: delete replaced versions too, of these stages"
    )
    mend.add_argument(
        "--older-than",
        type=_seconds,
        metavar="AGE",
        help="with --purge: only what was put aside longer ago than this: 30d, 12h, 0s (default: 30d)",
    )
    mend.add_argument("--json", action="store_true", help="print one line of JSON a step")
    _add_store(mend)
    mend.set_defaults(run=_repair)


def _seconds(text: str) -> float:
    """Return an age such as 30d in seconds."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number with s, m, h or d behind it, such as 30d or 12h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def _add_stages(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stages",
        type=_stages,
        default=os.environ.get("DOCID_STAGES") or _DEFAULT_STAGES,
        metavar="LIST",
        help="the stages in order, each from the one before unless its parent is named as STAGE:PARENT "
        f"(default: the environment variable DOCID_STAGES, or {_DEFAULT_STAGES})",
    )


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store",
        metavar="ROOT",
        default=os.environ.get("DOCID_STORE") or None,
        help="the store's directory (default: the environment variable DOCID_STORE)",
    )
    _add_stages(parser)


def _stages(text: str) -> Stages:
    try:
        return Stages.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _store(arguments: argparse.Namespace) -> DocsStore:
    if not arguments.store:
        raise _UsageError("which store? expected --store ROOT, or the environment variable DOCID_STORE")
    if not os.path.isdir(arguments.store):
        wrong = "that is no directory" if os.path.exists(arguments.store) else "there is no such directory"
        raise _UsageError(f"no store at {arguments.store}: {wrong}")
    return DocsStore(arguments.store, stages=arguments.stages)


def _other_stages(arguments: argparse.Namespace) -> str:
    """Return a hint at directories of the store that are none of the stages; empty where there are none."""
    with os.scandir(arguments.store) as entries:
        names = sorted(each.name for each in entries if each.is_dir() and not each.name.startswith("."))
    others = [name for name in names if name not in arguments.stages]
    if not others:
        return ""
    some = ", ".join(others[:_SHOWN]) + (", …" if len(others) > _SHOWN else "")
    return f"{arguments.store} also holds {some}: no stages of {', '.join(arguments.stages)}; --stages declares others"


def _reserve(arguments: argparse.Namespace) -> int:
    stages: Stages = arguments.stages
    if bool(arguments.tables) == bool(arguments.task_id) or bool(arguments.task_id) != bool(arguments.stage):
        raise _UsageError("expected either tables, or --stage with --task-id; see docid reserve --help")
    if arguments.task_id:
        if arguments.parents or arguments.dry_run:
            raise _UsageError("--parents and --dry-run are for tables; expected --stage and --task-id alone")
        stage = stages.check(arguments.stage)
        print("\n".join(reserve_doc_ids(stage, arguments.task_id, run_id=arguments.run_id, salt=arguments.salt)))
        return 0
    tables = _by_stage(arguments.tables, stages)
    known = {**_parent_tables(arguments, tables), **tables}
    # All of it without writing first: where one table is faulty none is changed.
    for dry in [True] if arguments.dry_run else [True, False]:
        for stage in stages:
            if stage in tables:
                parents = _parents_of(stage, known, tables, arguments, dry=dry)
                text = _reserve_table(arguments, stage, tables[stage], parents, dry=dry)
                if dry == arguments.dry_run:
                    print(text)
    return 0


def _parent_tables(arguments: argparse.Namespace, tables: dict[str, str]) -> dict[str, str]:
    """Return the tables of --parents by stage; each has to be of use."""
    stages: Stages = arguments.stages
    found = _by_stage(arguments.parents, stages)
    for stage, path in found.items():
        if stage in tables:
            raise _UsageError(f"{path}: expected one table of stage {stage}, got {tables[stage]} too")
        if not any(child in tables for child in stages.children_of(stage)):
            raise _UsageError(f"{path}: none of the tables is of a stage that comes from {stage}")
    return found


def _parents_of(
    stage: str, known: dict[str, str], tables: dict[str, str], arguments: argparse.Namespace, *, dry: bool
) -> Iterable[TaskRow] | None:
    """Return the rows of the parents' table; None where none was named."""
    stages: Stages = arguments.stages
    parent_stage = stages.parent_of(stage)
    if parent_stage is None or parent_stage not in known:
        return None
    parents = read_tasks(known[parent_stage], row_type_of(parent_stage, stages), reserved=False)
    if parent_stage in tables and dry:
        # Its file would have been filled by now.
        return reserve_tasks(parents, parents.row_type, arguments.run_id, arguments.salt)
    return parents


def _by_stage(tables: Sequence[str], stages: Stages) -> dict[str, str]:
    """Return the paths of `[STAGE=]TABLE` arguments by stage."""
    paths: dict[str, str] = {}
    for table in tables:
        stage, _, path = table.partition("=")
        if stage not in stages:
            stage, path = stage_of_table(table, stages) or "", table
        if not stage or not path:
            raise _UsageError(
                f"{table}: which stage's table? expected the name <stage>_tasks.csv or <stage>_generation_tasks.csv, "
                f"or STAGE=TABLE, with a stage of {', '.join(stages)}"
            )
        if stage in paths:
            raise _UsageError(f"{path}: expected one table of stage {stage}, got {paths[stage]} too")
        paths[stage] = path
    return paths


def _reserve_table(
    arguments: argparse.Namespace, stage: str, path: str, parents: Iterable[TaskRow] | None, *, dry: bool
) -> str:
    """Fill one table, or only look what there is to fill; return what to say of it."""
    row_type = row_type_of(stage, arguments.stages)
    before, after = _Empty(), _Empty()
    table = read_tasks(path, row_type, reserved=False)
    for _ in before.counted(table):
        pass
    rows = read_tasks(path, row_type, reserved=False)
    stream = reserve_tasks(rows, row_type, arguments.run_id, arguments.salt, parents=parents)
    reserved = after.counted(stream)
    without_rows = before.rows == 0 and {"doc_id", "parent_doc_id"} & (set(stream.columns) - set(table.columns))
    if dry or not (before.parents or before.ids or without_rows):
        for _ in reserved:
            pass
    else:
        write_tasks(path, reserved if before.rows else stream, like=path)
    would = "would be " if dry else ""
    ids, parent_ids = before.ids - after.ids, before.parents - after.parents
    text = f"{path}: {after.rows} rows, {would}filled: {ids} doc_id ({before.rows - before.ids} kept)"
    if row_type.parent_stage is not None:
        text += f", {parent_ids} parent_doc_id ({before.rows - before.parents} kept)"
        if after.parents:
            text += f"; {after.parents} without parent_doc_id (name the table of stage {row_type.parent_stage} too)"
    return text


class _Empty:
    """Rows that pass by, and how many of them have no id yet."""

    def __init__(self) -> None:
        self.rows = self.ids = self.parents = 0

    def counted(self, rows: Iterable[TaskRow]) -> Iterator[TaskRow]:
        for row in rows:
            self.rows += 1
            self.ids += not row.doc_id
            self.parents += row.parent_stage is not None and not row.parent_doc_id
            yield row


def _show(arguments: argparse.Namespace) -> int:
    document = _find(arguments)
    if arguments.part is not None:
        text = document.text(arguments.part)
        if text is None:
            raise _UsageError(
                f"{document.stage}/{document.doc_id} has no {arguments.part} text, only {_parts(document)}"
            )
        _print_text(text)
    elif arguments.json:
        print(_json(_facts(document)))
    else:
        facts = _facts(document)
        metadata = facts.pop("metadata")
        facts |= {"parts": _parts(document), **{f"metadata.{key}": value for key, value in metadata.items()}}
        for key, value in facts.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            print(f"{_plain(key):<16} {_plain(text)}")
        part: Part = "parsed" if "parsed" in document.sizes else "raw"
        print(f"\n--- {part} ---")
        text = document.raw_text if part == "raw" else document.text(part) or ""
        _print_text(_plain(text if text.endswith("\n") else text + "\n"))
    return 0


def _parts(document: StoredDocument) -> str:
    return ", ".join(f"{part} {size:,} bytes" for part, size in document.sizes.items())


def _find(arguments: argparse.Namespace) -> StoredDocument:
    """Return the document that `[STAGE/]ID` names, the id by unique prefix."""
    store, name = _store(arguments), arguments.document
    stage, slash, doc_id = name.rpartition("/")
    if not doc_id:
        raise _UsageError(f"{name!r} names no document; expected [STAGE/]ID")
    stages = [store.stages.check(stage)] if slash else list(store.stages)
    found: list[tuple[str, str]] = [
        (stage, doc_id) for stage in stages if is_doc_id(doc_id) and store.exists(stage, doc_id)
    ]
    if not found:
        names = [(stage, each) for stage in stages for each in store.ids(stage) if each.startswith(doc_id)]
        found = list(dict.fromkeys(names))
    if len(found) == 1:
        return store.open(*found[0])
    if found:
        some = ", ".join("/".join(each) for each in sorted(found)[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
        raise _UsageError(f"{name}: {len(found)} documents of that name: {some}; give more of the id, or STAGE/ID")
    hint = _other_stages(arguments)
    where = f"in stage {', '.join(stages)} of {arguments.store}" + (f"; {hint}" if hint else "")
    raise _UsageError(f"{name}: no document of that name {where}")


def _ls(arguments: argparse.Namespace) -> int:
    store = _store(arguments)
    code = 0
    if not arguments.stage and (hint := _other_stages(arguments)):
        print(f"docid: {hint}", file=sys.stderr)
    for stage in dict.fromkeys(arguments.stage or store.stages):
        try:
            for doc_id in store.ids(stage):
                if arguments.ids:
                    print(f"{stage}/{doc_id}")
                elif not _list_one(store, stage, doc_id, as_json=arguments.json):
                    code = 2
        except BrokenPipeError:
            raise
        except (DocidError, OSError) as error:
            print(f"docid: {error}", file=sys.stderr)
            code = 2
    return code


def _list_one(store: DocsStore, stage: str, doc_id: str, *, as_json: bool) -> bool:
    """Print the line of one document; return False where it cannot be read, which does not end the list."""
    try:
        facts = _facts(store.open(stage, doc_id))
    except (DocidError, OSError) as error:
        print(f"docid: {error}", file=sys.stderr)
        return False
    if as_json:
        print(_json(facts))
    else:
        columns = (facts["task_id"], facts["parent_doc_id"], facts["created_at"], "+".join(facts["parts"]))
        print("\t".join((f"{stage}/{doc_id}", *(_plain(column or "-") for column in columns))))
    return True


def _audit(arguments: argparse.Namespace) -> int:
    tables, skipped = _audited_tables(arguments)
    _check_audit(arguments, tables)
    store = DocsStore(arguments.store, stages=arguments.stages) if arguments.store else None
    meter = _Meter()
    try:
        report = _audit_report(store, tables, arguments, meter)
    except TaskTableError as error:
        if any(problem.row not in {None, 1} for problem in error.problems):
            raise
        # A file that is no such table is one line, whatever columns it lacks.
        more = f" (and {error.count - 1} more like it)" if error.count > 1 else ""
        raise _UsageError(f"{error.problems[0]}{more}") from None
    finally:
        meter.clear()
    if arguments.json:
        for finding in report.findings:
            print(json.dumps(finding.to_dict()))
        print(json.dumps({"summary": {**report.summary(), "skipped": skipped}}))
    else:
        _print_report(report, arguments, skipped)
    if arguments.csv:
        _write_findings(arguments.csv, report.findings)
    fails = bool(report.findings) if arguments.fail_on == "warning" else not report.ok
    return 1 if fails else 0


def _check_audit(arguments: argparse.Namespace, tables: dict[str, str]) -> None:
    """Refuse what cannot be meant, before anything is looked at; hint at what may be another mistake."""
    root, listed = arguments.store, arguments.csv
    if root == "" or listed == "":
        raise _UsageError("--store and --csv: expected a path, got nothing (is a variable not set?)")
    if listed is not None and os.path.realpath(listed) in {os.path.realpath(table) for table in tables.values()}:
        raise _UsageError(f"--csv {listed}: that is a table to be audited; expected another file")
    if listed is not None and os.path.exists(listed) and not os.path.isfile(listed):
        raise _UsageError(f"--csv {listed}: expected a file, which will be replaced")
    if root is None:
        if not tables:
            raise _UsageError("nothing to audit: expected task tables, --store ROOT, or both; see docid audit --help")
    elif os.path.isdir(root):
        with contextlib.suppress(OSError):  # what cannot be listed is a finding
            if hint := _other_stages(arguments):
                print(f"docid: {hint}", file=sys.stderr)
    elif os.path.lexists(root):
        raise _UsageError(f"no store at {root}: that is no directory")


def _audited_tables(arguments: argparse.Namespace) -> tuple[dict[str, str], list[str]]:
    """Return the tables that were named, by stage, and the files of directories that are none."""
    named, skipped = [], []
    for table in arguments.tables:
        if not os.path.isdir(table):
            named.append(table)
            continue
        names = sorted(os.listdir(table))
        found = [name for name in names if stage_of_table(name, arguments.stages) is not None]
        if not found:
            stages = ", ".join(arguments.stages)
            raise _UsageError(f"{table}: no task table of stage {stages} in it; expected <stage>_generation_tasks.csv")
        named += [f"{stage_of_table(name, arguments.stages)}={os.path.join(table, name)}" for name in found]
        others = (name.encode("utf-8", "backslashreplace").decode() for name in names if name not in found)
        skipped += [os.path.join(table, name) for name in others]
    return _by_stage(named, arguments.stages), skipped


def _audit_report(
    store: DocsStore | None, tables: dict[str, str], arguments: argparse.Namespace, meter: _Meter
) -> AuditReport:
    options: dict[str, Any] = {
        "stages": arguments.stages,
        "verify": arguments.verify,
        "stale_after": arguments.stale_after,
        "progress": meter.show if sys.stderr.isatty() else None,
    }
    if arguments.jobs == 1:
        return audit(store, tables, **options)
    from concurrent.futures import BrokenExecutor, ProcessPoolExecutor  # noqa: PLC0415 - for this alone

    try:
        with ProcessPoolExecutor(arguments.jobs) as executor:
            return audit(store, tables, executor=executor, shards=arguments.jobs, **options)
    except BrokenExecutor as error:
        raise _UsageError("a worker process was killed (is the memory full?); expected fewer --jobs") from error


class _Meter:
    """A line on a terminal that says how far something is."""

    def __init__(self) -> None:
        self._width = 0

    def show(self, what: str, done: int, of: int | None) -> None:
        text = f"{what}: {done:,}" + (f" of {of:,}" if of is not None else "")
        print(f"\r{text:<{self._width}}", end="", file=sys.stderr, flush=True)
        self._width = max(self._width, len(text))

    def clear(self) -> None:
        if self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)


def _write_findings(path: str, findings: Sequence[Finding]) -> None:
    with TableWriter(path, Shape()) as writer:
        writer.start(FIELDS)
        for number, finding in enumerate(findings, 2):
            writer.add(number, {key: value or "" for key, value in finding.to_dict().items()})
        writer.commit()


def _print_report(report: AuditReport, arguments: argparse.Namespace, skipped: list[str]) -> None:
    """Print the summary, then the findings by code, the first few of each."""
    _print_facts(report)
    if arguments.store and not os.path.lexists(arguments.store):
        print(f"the store {arguments.store} is not there yet: an empty one")
    if skipped:
        some = ", ".join(skipped[:_SHOWN]) + (", …" if len(skipped) > _SHOWN else "")
        print(_plain(f"files of other names, skipped: {len(skipped)} ({some})"))
    for code, count in report.counts.items():
        print(f"\n{code} ({LEVELS[code]}): {count:,}")
        of_code = [finding for finding in report.findings if finding.code == code]
        hints = {finding.hint for finding in of_code}
        for finding in of_code[:_SHOWN]:
            task = "" if finding.task_id is None else f" (task_id={shown(finding.task_id)})"
            hint = f"; {finding.hint}" if len(hints) > 1 else ""
            print(_plain(f"  {finding.where}{task}: {finding.message}{hint}").replace("\n", " "))
        if count > _SHOWN:
            print(f"  … and {count - _SHOWN:,} more (--json or --csv gives all)")
        if len(hints) == 1:
            print(_plain(f"  -> {hints.pop()}"))
    summary = report.summary()
    print(f"\n{summary['errors']:,} errors, {summary['warnings']:,} warnings")


def _print_facts(report: AuditReport) -> None:
    """Print a line a stage: what was counted, and how many findings there are."""
    found = Counter(finding.stage for finding in report.findings)
    lines = [("stage", *(name.replace("_", " ") for name in StageFacts._fields), "findings")]
    for stage, facts in report.stages.items():
        values = ["-" if value is None else f"{value:,}" for value in facts]
        lines.append((stage, *values, f"{found[stage]:,}"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        cells = (f"{text:>{width}}" for text, width in zip(others, widths[1:], strict=True))
        print("  ".join((f"{first:<{widths[0]}}", *cells)))


def _repair(arguments: argparse.Namespace) -> int:
    if not arguments.purge and (arguments.history or arguments.older_than is not None):
        raise _UsageError("--history and --older-than say what --purge deletes; expected --purge with them")
    store = _store(arguments)
    if hint := _other_stages(arguments):
        print(f"docid: {hint}", file=sys.stderr)
    steps = repair(
        store,
        apply=arguments.apply,
        verify=arguments.verify,
        stale_after=arguments.stale_after,
        purge=arguments.purge,
        history=arguments.history,
        older_than=_seconds("30d") if arguments.older_than is None else arguments.older_than,
    )
    counts: Counter[str] = Counter()
    for step in steps:
        state: str = step.action
        if step.error is not None:
            state = "failed"
        elif arguments.apply and not step.done and step.action != "leave":
            state = "skipped"
        counts[state] += 1
        if arguments.json:
            print(_json(_step_facts(step)))
        else:
            verb = _VERBS[step.action][not step.done] if state == step.action else state
            text = f"{verb:<12} {step.path}"
            if step.finding is not None and step.finding.task_id is not None:
                text += f" (task_id={shown(step.finding.task_id)})"
            text += f" -> {step.to}" if step.to else ""
            print(_plain(f"{text}: {step.error or step.message}").replace("\n", " "))
    if not arguments.json:
        print(_summary(counts, applied=arguments.apply))
    return 1 if counts["failed"] else 0


_VERBS = {
    "quarantine": ("moved", "to move"),
    "settle": ("settled", "to settle"),
    "purge": ("deleted", "to delete"),
    "leave": ("left alone", "left alone"),
}


def _step_facts(step: Step) -> dict[str, Any]:
    finding = {} if step.finding is None else step.finding.to_dict()
    return {
        "action": step.action,
        "path": step.path,
        "message": step.message,
        "done": step.done,
        "to": step.to,
        "error": None if step.error is None else str(step.error),
        "finding": finding or None,
    }


def _summary(counts: Counter[str], *, applied: bool) -> str:
    some = [f"{counts[action]:,} {verbs[not applied]}" for action, verbs in _VERBS.items() if counts[action]]
    some += [f"{counts[state]:,} {state}" for state in ("skipped", "failed") if counts[state]]
    if not some:
        return "nothing to repair"
    pending = not applied and any(counts[action] for action in ("quarantine", "settle", "purge"))
    return ", ".join(some) + ("; nothing was changed: --apply does it" if pending else "")


def _json(facts: dict[str, Any]) -> str:
    """Return facts as one line of JSON, which knows no NaN: what an older record may hold becomes null."""
    try:
        return json.dumps(facts, allow_nan=False)
    except ValueError:
        return json.dumps(json.loads(json.dumps(facts), parse_constant=lambda _: None))


def _facts(document: StoredDocument) -> dict[str, Any]:
    return {
        "stage": document.stage,
        "doc_id": document.doc_id,
        "task_id": document.task_id,
        "parent_doc_id": document.parent_doc_id,
        "run_id": document.run_id,
        "created_at": None if document.created_at is None else timestamp(document.created_at),
        "path": str(document.path),
        "parts": document.sizes,
        "legacy": document.legacy,
        "metadata": document.metadata,
    }


def _plain(text: str) -> str:
    """Return a text without what would steer a terminal: control characters as their escapes, but for newlines."""
    return re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: ascii(found[0])[1:-1], text.replace("\r\n", "\n"))


def _print_text(text: str) -> None:
    """Print a text as it is, whatever the terminal's encoding and line ends."""
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:  # a caller of main() in a notebook, say
        print(text, end="")
    else:
        sys.stdout.flush()
        buffer.write(text.encode())

"""`docid register`: the tables that follow from a curated one, and the Dagster partitions of their rows."""

from __future__ import annotations

import importlib
import os
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import attrs

from docid.cli.options import UsageError, add_salt, add_store, opened, salt_of, table_of
from docid.cli.output import printable, say
from docid.core.ids import check_doc_id
from docid.operations.curate.follow_up import FollowUp, Model, Template, follow_up
from docid.tables.csvfile import read_columns
from docid.tables.rows import row_type_of, schema_of
from docid.tables.tasks import read_tasks, stage_of_table, write_tasks

if TYPE_CHECKING:
    import argparse

    from docid.core.stages import Stages
    from docid.tables.rows import TaskRow


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    registering = verbs.add_parser(
        "register",
        allow_abbrev=False,
        help="make the tables that follow from a curated one, and register their rows in Dagster",
        description="From a curated table, of essays say: write the table of the drafts that they were made from, and "
        "that of their evaluations by the chosen templates and models, with ids reserved; and make the doc ids of all "
        "rows partitions of the Dagster instance. Nothing is written where a row of the curated table lacks its "
        "doc_id or parent_doc_id. Needs the extra dagster.",
    )
    registering.add_argument("table", metavar="[STAGE=]TABLE", help="the curated table")
    registering.add_argument(
        "--dagster-home",
        metavar="DIR",
        default=os.environ.get("DAGSTER_HOME"),
        help="the directory of the Dagster instance (default: the environment variable DAGSTER_HOME)",
    )
    registering.add_argument(
        "-o", "--output", metavar="DIR", help="where the tables go (default: beside the curated one)"
    )
    for option, what, columns in (
        ("--templates", "evaluation templates", "template_id, active, parser"),
        ("--models", "models that evaluate", "id, model, for_evaluation"),
    ):
        registering.add_argument(
            option, metavar="LIST|FILE", help=f"{what}: ids, separated by commas, or a CSV table with {columns}"
        )
    registering.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="STAGE/ID",
        help="a stored document whose prompt all rows of that stage send again; may be repeated, once a stage",
    )
    registering.add_argument(
        "--materialize",
        nargs="+",
        action="extend",
        default=[],
        metavar="ASSET",
        help="assets to materialise afterwards",
    )
    registering.add_argument(
        "--module",
        metavar="MODULE",
        help="the Python module of the Dagster definitions, for --materialize (default: module_name of [tool.dagster] "
        "in pyproject.toml)",
    )
    registering.add_argument(
        "--add-only", action="store_true", help="keep the rows that the tables have, and all partitions that are there"
    )
    registering.add_argument("--dry-run", action="store_true", help="say what would be done; change nothing")
    add_salt(registering)
    add_store(registering)
    registering.set_defaults(run=_register)


def _register(arguments: argparse.Namespace) -> int:
    stages: Stages = arguments.stages
    try:
        import dagster as dg  # noqa: PLC0415 - an extra, for this command alone

        from docid.integrations.dagster.partitions import register_partitions  # noqa: PLC0415 - as above
    except ImportError as error:
        raise UsageError("register needs Dagster: pip install 'docid-store[dagster]'") from error
    home = _home(arguments)
    stage, path = table_of(arguments.table, stages)
    tables = _tables(arguments, stage, path)
    job = _job(dg, arguments) if arguments.materialize else None
    out = arguments.output or os.path.dirname(path) or "."
    written = [_rows(out, rows, path, stages, arguments) for rows in tables if rows]
    would = "would be " if arguments.dry_run else ""
    with _instance(dg, home, dry_run=arguments.dry_run) as instance:
        for file, rows, gone in written:
            if not arguments.dry_run:
                os.makedirs(out, exist_ok=True)
                write_tasks(file, rows, row_type=type(rows[0]))
            registered = register_partitions(instance, rows, add_only=arguments.add_only, dry_run=arguments.dry_run)
            [(name, counts)] = registered.items()
            say(
                printable(
                    f"{file}: {len(rows)} rows, {would}written; partitions of {name}: "
                    f"{len(counts.added)} {would}added, {len(counts.removed)} {would}removed, {counts.kept} kept"
                )
            )
            if gone:
                say(f"  {gone} rows of the table that was there {would}gone (--add-only keeps them)")
        if not tables.children:
            say("no evaluations: --templates and --models make rows for them")
        if job is not None:
            _materialize(job, instance, arguments)
    return 0


def _home(arguments: argparse.Namespace) -> str:
    home: str | None = arguments.dagster_home
    if not home:
        raise UsageError(
            "which Dagster instance? expected --dagster-home DIR, or the environment variable DAGSTER_HOME"
        )
    if not os.path.isdir(home):
        raise UsageError(f"--dagster-home {home}: there is no such directory")
    if arguments.output and os.path.exists(arguments.output) and not os.path.isdir(arguments.output):
        raise UsageError(f"--output {arguments.output}: a file; expected a directory for the tables")
    return os.path.abspath(home)


def _instance(dg: Any, home: str, *, dry_run: bool) -> Any:
    """Return the Dagster instance of a directory; to look at one that has nothing yet, none is made there."""
    if dry_run and not os.listdir(home):
        return dg.DagsterInstance.ephemeral()
    try:
        return dg.DagsterInstance.from_config(home)
    except Exception as error:  # Dagster's own, or of YAML
        raise UsageError(f"--dagster-home {home}: not a Dagster instance that can be used: {_line(error)}") from error


def _line(error: BaseException) -> str:
    """Return an error of others as a line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _tables(arguments: argparse.Namespace, stage: str, path: str) -> FollowUp:
    stages: Stages = arguments.stages
    if (arguments.templates is None) != (arguments.models is None):
        raise UsageError("--templates and --models: expected both, or none")
    sources: dict[str, str] = {}
    for source in arguments.source:
        of, slash, doc_id = source.partition("/")
        if not slash or of not in stages or of in sources:
            raise UsageError(f"--source {source}: expected STAGE/ID, one of each stage")
        sources[of] = check_doc_id(doc_id)
        if arguments.store and opened(arguments.store, stages).open(of, doc_id).prompt_text is None:
            raise UsageError(f"--source {source}: it was stored without its prompt")
    templates, models = [], []
    if arguments.templates is not None:
        templates = [Template(*each) for each in _listed(arguments.templates, ("template_id", "parser"), "active")]
        models = [Model(*each) for each in _listed(arguments.models, ("id", "model"), "for_evaluation")]
    rows = list(read_tasks(path, row_type_of(stage, stages)))
    if not rows:
        raise UsageError(f"{path}: no rows in it; nothing can be registered")
    return follow_up(
        rows,
        templates=templates,
        models=models,
        run_id=arguments.run_id,
        salt=salt_of(arguments),
        sources=sources,
        stages=stages,
    )


def _listed(given: str, columns: tuple[str, str], wanted: str) -> list[tuple[str, ...]]:
    """Return the ids of a list, or the rows of a CSV table that are wanted."""
    if not given.endswith(".csv"):
        ids = [each.strip() for each in given.split(",") if each.strip()]
        found: list[tuple[str, ...]] = [(each,) for each in ids]
    else:
        rows = read_columns(given, columns[:1], (columns[1], wanted))
        found = [cells[:2] for _, cells in rows if cells[2].strip().lower() in {"", "true", "1", "yes"}]
    if not found:
        raise UsageError(f"{given}: expected ids, separated by commas, or a CSV table in which some are {wanted}")
    return found


def _file(out: str, stage: str, curated: str, stages: Stages) -> str:
    """Return the path of a stage's table: the one that is there, or a new one of the curated one's kind."""
    there = (
        sorted(name for name in os.listdir(out) if stage_of_table(name, stages) == stage) if os.path.isdir(out) else []
    )
    if len(there) > 1:
        raise UsageError(f"{out}: {' and '.join(there)} are both tables of stage {stage}; expected one")
    ending = "_generation_tasks.csv" if "_generation_tasks" in os.path.basename(curated) else "_tasks.csv"
    new = "evaluation_tasks.csv" if stage == "evaluation" else f"{stage}{ending}"
    return os.path.join(out, there[0] if there else new)


def _rows(
    out: str, rows: list[TaskRow], curated: str, stages: Stages, arguments: argparse.Namespace
) -> tuple[str, list[TaskRow], int]:
    """Return the path of a table, the rows that it is to have, and how many that it has it will not have."""
    path, row_type = _file(out, rows[0].stage, curated, stages), type(rows[0])
    # A file that is no table of the stage is not written over.
    there = list(read_tasks(path, row_type, reserved=arguments.add_only)) if os.path.exists(path) else []
    known = {row.doc_id: row for row in there}
    if not arguments.add_only:
        new = {row.doc_id for row in rows}
        columns = there[0].columns if there else ()
        rows = [_with_more(attrs.evolve(row, columns=columns or row.columns), known.get(row.doc_id)) for row in rows]
        return path, rows, sum(row.doc_id not in new for row in there)
    for row in rows:
        other = known.get(row.doc_id, row)
        if (other.task_id, other.parent_doc_id) != (row.task_id, row.parent_doc_id):
            raise UsageError(
                f"{path}: its row of {row.doc_id} has task {other.task_id!r}, parent {other.parent_doc_id}; the new "
                f"one has task {row.task_id!r}, parent {row.parent_doc_id}: correct one, or leave out --add-only"
            )
    return path, [*there, *(row for row in rows if row.doc_id not in known)], 0


def _with_more(row: TaskRow, other: TaskRow | None) -> TaskRow:
    """Return a row with what the one that was there for its document says beyond it: notes, run id, salt."""
    if other is None or (other.task_id, other.parent_doc_id) != (row.task_id, row.parent_doc_id):
        return row
    source = "source_doc_id"  # what is sent is this command's to say
    said = {
        column.argument: getattr(other, column.attribute)
        for column in schema_of(type(row)).columns
        if column.attribute != source and getattr(row, column.attribute) == column.default
    }
    extra = {name: text for name, text in other.extra.items() if name != source}
    return attrs.evolve(row, **said, extra=extra | row.extra)


def _module(arguments: argparse.Namespace) -> str:
    module: str | None = arguments.module
    if module is None and os.path.exists("pyproject.toml"):
        with open("pyproject.toml", "rb") as file:
            module = tomllib.load(file).get("tool", {}).get("dagster", {}).get("module_name")
    if module is None:
        raise UsageError("--materialize: whose assets? expected --module MODULE, that of the Dagster definitions")
    return module


def _job(dg: Any, arguments: argparse.Namespace) -> Any:
    """Return the job of the assets that are to be materialised, looked for before anything is written."""
    module, names = _module(arguments), ", ".join(arguments.materialize)
    sys.path.insert(0, os.getcwd())
    try:
        there = vars(importlib.import_module(module)).values()
    except Exception as error:
        raise UsageError(f"--module {module}: {_line(error)}") from error
    # One object may have several names; a function under @dagster.definitions makes one when it is called.
    lazy = [each for each in there if type(each).__name__ == "LazyDefinitions"]
    found = {id(each): each for each in there if isinstance(each, dg.Definitions)} or {
        id(each): each() for each in lazy
    }
    if len(found) != 1:
        raise UsageError(f"--module {module}: {len(found)} Definitions in it; expected one")
    [definitions] = found.values()
    try:
        selection = dg.AssetSelection.assets(*arguments.materialize)
        job = dg.Definitions.merge(definitions, dg.Definitions(jobs=[dg.define_asset_job(_JOB, selection)]))
        return job.resolve_job_def(_JOB)
    except dg.DagsterError as error:
        cause = error.__cause__ or error
        raise UsageError(f"--materialize {names}: {_line(cause)}") from error


_JOB = "docid_register"


def _materialize(job: Any, instance: Any, arguments: argparse.Namespace) -> None:
    names = ", ".join(arguments.materialize)
    if arguments.dry_run:
        say(f"would be materialised: {names}")
        return
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    if not result.success:
        raise UsageError(f"{names}: the run {result.run_id} failed; look at it in Dagster")
    say(f"materialised: {names}")

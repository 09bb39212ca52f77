"""`docid register`: write the parent and evaluation tables of a curated table, and register all rows in Dagster.

From a curated table, such as one of essays, write the table of their drafts and the table of their evaluations, with
ids reserved. docid then adds the doc ids of all rows to the partitions of a Dagster instance. Every row of the curated
table needs doc_id and parent_doc_id. The command needs the extra dagster.

Examples:
    # Show the tables and partitions for the selected essays
    docid register essay_tasks.csv --dagster-home dagster_home --dry-run
    # Evaluate the essays with two templates and the models of a table
    docid register essay_tasks.csv --templates novelty,style --models models.csv
"""

import importlib
import os
import sys
import tomllib
from typing import Any

from docid._text import format_count, name_task
from docid.cli.arguments import SALT, STORE, Arguments, UsageError, argument
from docid.cli.inputs import choose_salt, choose_stages, find_table, open_root, split_ids
from docid.cli.output import Output
from docid.core.ids import check_doc_id
from docid.operations.curate.follow_up import FollowUp, Model, Template, follow_up, merge_table
from docid.tables.csvfile import read_columns
from docid.tables.rows import row_type_of
from docid.tables.tasks import read_tasks, write_tasks

_JOB = "docid_register"


def run(arguments: Arguments, out: Output) -> int:
    """Write the tables, register their rows, and materialise the assets of --materialize."""
    stages = arguments.stages = choose_stages(arguments)
    try:
        import dagster as dg  # noqa: PLC0415 - an extra

        from docid.integrations.dagster.partitions import register_partitions  # noqa: PLC0415 - as above
    except ImportError as error:
        raise UsageError("register needs Dagster: pip install 'docid-store[dagster]'") from error
    instance_directory = _find_instance(arguments)
    stage, path = find_table(arguments.table, stages)
    follow = _follow_up(arguments, stage, path)
    names = ", ".join(arguments.materialize)
    job = _build_job(dg, arguments) if names else None
    directory = arguments.output or os.path.dirname(path) or "."
    tables = [merge_table(directory, rows, path, stages, keep=arguments.add_only) for rows in follow if rows]
    would = "would be " if arguments.dry_run else ""
    with _open_instance(dg, instance_directory, dry_run=arguments.dry_run) as instance:
        for file, rows, gone in tables:
            if not arguments.dry_run:
                os.makedirs(directory, exist_ok=True)
                write_tasks(file, rows, row_type=type(rows[0]))
            registered = register_partitions(instance, rows, add_only=arguments.add_only, dry_run=arguments.dry_run)
            [(name, counts)] = registered.items()
            out.print(
                f"{file}: {format_count(len(rows), 'row')}, {would}written; partitions of {name}: "
                f"{len(counts.added):,} {would}added, {len(counts.removed):,} {would}removed, {counts.kept:,} kept"
            )
            if gone:
                out.print(f"  {format_count(gone, 'row')} of the earlier table {would}removed (--add-only keeps all)")
        if not follow.children:
            out.print("no evaluation rows; --templates and --models add them")
        if job is not None and not arguments.dry_run:
            result = job.execute_in_process(instance=instance, raise_on_error=False)
            if not result.success:
                raise UsageError(f"{names}: the run {result.run_id} failed; Dagster has its log")
        if names:
            out.print(f"{would}materialised: {names}")
    return 0


def _find_instance(arguments: Arguments) -> str:
    """Return the absolute path of the Dagster instance; check the output directory too."""
    directory: str | None = arguments.dagster_home
    if not directory:
        raise UsageError(
            "no Dagster instance given; expected --dagster-home DIR, or the environment variable DAGSTER_HOME"
        )
    if not os.path.isdir(directory):
        raise UsageError(f"--dagster-home {directory}: no such directory")
    if arguments.output and os.path.exists(arguments.output) and not os.path.isdir(arguments.output):
        raise UsageError(f"--output {arguments.output}: a file; expected a directory for the tables")
    return os.path.abspath(directory)


def _follow_up(arguments: Arguments, stage: str, path: str) -> FollowUp:
    """Return the rows of the curated table, of its parents and of its evaluations."""
    if (arguments.templates is None) != (arguments.models is None):
        raise UsageError("--templates and --models: expected both or neither")
    sources: dict[str, str] = {}
    for source in arguments.source:
        of, slash, doc_id = source.partition("/")
        if not slash or of not in arguments.stages or of in sources:
            raise UsageError(f"--source {source}: expected STAGE/ID, once per stage")
        sources[of] = check_doc_id(doc_id)
        if arguments.store:
            document = open_root(arguments, arguments.store).open(of, doc_id)
            if document.prompt_text is None:
                raise UsageError(
                    f"--source {source}{name_task(document.task_id)}: the document has no stored prompt to send again"
                )
    templates, models = [], []
    if arguments.templates is not None:
        templates = [Template(*each) for each in _read_list(arguments.templates, ("template_id", "parser"), "active")]
        models = [Model(*each) for each in _read_list(arguments.models, ("id", "model"), "for_evaluation")]
    rows = list(read_tasks(path, row_type_of(stage, arguments.stages)))
    if not rows:
        raise UsageError(f"{path}: no rows to register")
    return follow_up(
        rows,
        templates=templates,
        models=models,
        run_id=arguments.run_id,
        salt=choose_salt(arguments),
        sources=sources,
        stages=arguments.stages,
    )


def _read_list(given: str, columns: tuple[str, str], wanted: str) -> list[tuple[str, ...]]:
    """Return the ids of a list, or the rows of a CSV table that its column `wanted` marks."""
    if not given.endswith(".csv"):
        found: list[tuple[str, ...]] = [(each,) for each in split_ids(given)]
    else:
        rows = read_columns(given, columns[:1], (columns[1], wanted))
        found = [cells[:2] for _, cells in rows if cells[2].strip().lower() in {"", "true", "1", "yes"}]
    if not found:
        raise UsageError(
            f"{given}: expected ids separated by commas, or a CSV table with at least one row marked {wanted}"
        )
    return found


def _open_instance(dg: Any, directory: str, *, dry_run: bool) -> Any:
    """Return the Dagster instance of a directory; a dry run in an empty directory creates none there."""
    if dry_run and not os.listdir(directory):
        return dg.DagsterInstance.ephemeral()
    try:
        return dg.DagsterInstance.from_config(directory)
    except Exception as error:  # of Dagster or of YAML
        raise UsageError(f"--dagster-home {directory}: cannot open the Dagster instance: {_describe(error)}") from error


def _build_job(dg: Any, arguments: Arguments) -> Any:
    """Return the job that materialises the assets; call it first, so that a fault leaves all files unchanged."""
    module: str | None = arguments.module
    if module is None and os.path.exists("pyproject.toml"):
        with open("pyproject.toml", "rb") as file:
            module = tomllib.load(file).get("tool", {}).get("dagster", {}).get("module_name")
    if module is None:
        raise UsageError(
            "--materialize: no definitions found; expected --module MODULE, the module with the Dagster definitions"
        )
    sys.path.insert(0, os.getcwd())
    try:
        values = vars(importlib.import_module(module)).values()
    except Exception as error:
        raise UsageError(f"--module {module}: {_describe(error)}") from error
    # One object may have several names. A function under @dagster.definitions returns one when called.
    found = {id(each): each for each in values if isinstance(each, dg.Definitions)}
    found = found or {id(each): each() for each in values if type(each).__name__ == "LazyDefinitions"}
    if len(found) != 1:
        raise UsageError(f"--module {module}: found {format_count(len(found), 'Definitions object')}; expected one")
    [definitions] = found.values()
    try:
        selection = dg.AssetSelection.assets(*arguments.materialize)
        job = dg.Definitions.merge(definitions, dg.Definitions(jobs=[dg.define_asset_job(_JOB, selection)]))
        return job.resolve_job_def(_JOB)
    except dg.DagsterError as error:
        names = ", ".join(arguments.materialize)
        raise UsageError(f"--materialize {names}: {_describe(error.__cause__ or error)}") from error


def _describe(error: BaseException) -> str:
    """Return an error of another library as one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


ARGUMENTS = (
    argument("table [STAGE=]TABLE", "the curated table"),
    argument(
        "--dagster-home DIR",
        "directory of the Dagster instance (default: $DAGSTER_HOME)",
        variable="DAGSTER_HOME",
    ),
    argument("-o --output DIR", "directory for the tables (default: that of the curated table)"),
    argument(
        "--templates LIST|FILE",
        "evaluation templates: ids separated by commas, or a CSV table with template_id, active and parser",
    ),
    argument(
        "--models LIST|FILE",
        "evaluation models: ids separated by commas, or a CSV table with id, model and for_evaluation",
    ),
    argument(
        "--source STAGE/ID ...",
        "stored document whose prompt all rows of its stage send again; may be repeated, once per stage",
    ),
    argument("--materialize ASSET", "Dagster assets to materialise afterwards", nargs="+", action="extend", default=[]),
    argument(
        "--module MODULE",
        "Python module with the Dagster definitions, for --materialize (default: module_name of [tool.dagster] in "
        "pyproject.toml)",
    ),
    argument("--add-only", "keep existing rows and partitions"),
    argument("--dry-run", "list the changes without making them"),
    *SALT,
    *STORE,
)

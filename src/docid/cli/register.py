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
import re
import sys
import tomllib
from typing import Any

from docid._text import format_count, name_task
from docid.cli.arguments import SALT, STORE, Arguments, UsageError, argument, expect_number
from docid.cli.inputs import DELIMITER, choose_salt, choose_stages, find_table, is_same_file, open_root, split_ids
from docid.cli.output import Output
from docid.core.ids import check_doc_id, check_text, is_missing
from docid.errors import InvalidName
from docid.operations.curate.follow_up import FollowUp, Model, Template, follow_up, merge_table
from docid.tables.csvfile import detect_delimiter, read_columns, read_shape
from docid.tables.faults import Faults
from docid.tables.headers import find_misspelling
from docid.tables.rows import row_type_of
from docid.tables.tasks import read_tasks, write_tasks

_JOB = "docid_register"
_TRUTH = dict.fromkeys(["true", "yes", "y", "on", "1", "1.0"], True) | dict.fromkeys(
    ["false", "no", "n", "off", "0", "0.0"], False
)
_TRUTH_EXPECTED = "expected true or false (or yes/no, y/n, on/off, 1/0, 1.0/0.0)"


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
    _check_lists(arguments, [table.path for table in tables])
    would = "would be " if arguments.dry_run else ""
    with _open_instance(dg, instance_directory, dry_run=arguments.dry_run) as instance:
        for file, rows, gone, old in tables:
            if not arguments.dry_run:
                os.makedirs(directory, exist_ok=True)
                write_tasks(file, rows, row_type=type(rows[0]), like=old)
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
    _check_evaluations(arguments)
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
        templates = [Template(*each) for each in _read_list(arguments.templates, "template_id", "parser", "active")]
        models = [Model(*each) for each in _read_list(arguments.models, "id", "model", "for_evaluation")]
    rows = list(read_tasks(path, row_type_of(stage, arguments.stages), delimiter=arguments.delimiter))
    if not rows:
        raise UsageError(f"{path}: no rows to register")
    made = follow_up(
        rows,
        templates=templates,
        models=models,
        run_id=arguments.run_id,
        salt=choose_salt(arguments),
        sources=sources,
        names=_read_names(arguments.models),
        replicates=arguments.replicates,
        stages=arguments.stages,
    )
    if unused := sources.keys() - {group[0].stage for group in made if group}:
        stage = min(unused)
        raise UsageError(f"--source {stage}/{sources[stage]}: the command writes no table of stage {stage}")
    return made


def _check_evaluations(arguments: Arguments) -> None:
    """Refuse options for evaluations that do not fit together."""
    if (arguments.templates is None) != (arguments.models is None):
        raise UsageError("--templates and --models: expected both or neither")
    if arguments.replicates > 1 and arguments.templates is None:
        raise UsageError("--replicates is the number of evaluations; expected --templates and --models with it")
    if arguments.replicates > 1 and arguments.salt is not None:
        raise UsageError("--replicates gives each row a salt of its own; expected it without --salt")


def _read_names(given: str | None) -> dict[str, str]:
    """Return the names of all models in a CSV table, those for generation too; empty for a list of ids."""
    if given is None or not os.path.isfile(given):
        return {}
    rows = read_columns(given, ("id",), ("model",))
    return {model: name for _, (model, name) in rows if not is_missing(model) and not is_missing(name)}


def _check_lists(arguments: Arguments, written: list[str]) -> None:
    """Refuse a list of templates or models in a file that the command would replace."""
    for given in filter(None, (arguments.templates, arguments.models)):
        if any(is_same_file(given, path) for path in written):
            raise UsageError(f"{given}: the command reads this file and would replace it; give another --output")


def _read_list(given: str, id_column: str, other: str, mark: str) -> list[tuple[str, ...]]:
    """Return the ids of a list; or, of a CSV table, the rows that its column `mark` selects, or all without it."""
    if not os.path.exists(given) and ("," in given or not _is_like_a_file(given)):
        ids = split_ids(given)
        for name in ids:
            if _is_like_a_file(name):
                raise UsageError(f"{given}: {name} looks like a file, not an id; expected ids, or one CSV table")
            if ids.count(name) > 1:
                raise UsageError(f"{given}: {name} is repeated; expected each id once")
        if not ids:
            raise UsageError(f"{given}: expected ids separated by commas, or a CSV table")
        return [(name,) for name in ids]
    if not os.path.isfile(given):
        wrong = "not a regular file" if os.path.exists(given) else "no such file"
        raise UsageError(f"{given}: {wrong}; expected ids separated by commas, or a CSV table")
    return _read_marked(given, id_column, other, mark)


def _is_like_a_file(text: str) -> bool:
    """Return whether a text has a separator or a suffix such as `.csv`, or is an existing path; gpt-4.1 is an id."""
    has_separator = "/" in text or os.sep in text
    return has_separator or bool(re.search(r"\.[A-Za-z]\w*$", text)) or os.path.exists(text)


def _read_marked(file: str, id_column: str, other: str, mark: str) -> list[tuple[str, ...]]:
    """Return two columns of the rows that a column of truth values marks; its name may have other case and blanks."""
    faults = Faults(file)
    columns = read_shape(file, detect_delimiter(file, id_column)).columns
    marks = [name for name in columns if name == mark or find_misspelling(mark, [name])]
    if len(marks) > 1:
        faults.add(1, marks[1], "", f"repeated; expected one column {mark}")
        faults.raise_any()
    first: dict[str, int] = {}
    found: list[tuple[str, ...]] = []
    for number, (name, text, *truth) in read_columns(file, (id_column,), (other, *marks)):
        try:
            check_text("" if is_missing(name) else name, id_column)
        except InvalidName as error:
            faults.add(number, id_column, name, f"{error.problem}; expected an id")
        if first.setdefault(name, number) != number:
            faults.add(number, id_column, name, f"repeated; row {first[name]} has it too. Remove one of them")
        is_marked = _TRUTH.get(truth[0].strip().lower()) if truth else True
        if is_marked is None:
            faults.add(number, marks[0], truth[0], _TRUTH_EXPECTED if truth[0] else f"empty; {_TRUTH_EXPECTED}")
        if is_marked:
            found.append((name, text))
    faults.raise_any()
    if not found:
        raise UsageError(f"{file}: no row is marked {mark}; expected at least one")
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
    DELIMITER,
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
        "--replicates N",
        "the number of evaluations of each document, template and model (default: 1)",
        type=expect_number("evaluations"),
        default=1,
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

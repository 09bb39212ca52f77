"""What arguments stand for: stores, documents, task tables, files to write. What cannot be meant is refused."""

import os
from collections.abc import Iterable, Sequence

from docid._text import escape_surrogates
from docid.cli.arguments import RANDOM, Arguments, UsageError
from docid.cli.output import FEW, complain, is_replaced, join_few
from docid.core.ids import is_doc_id
from docid.core.record import RECORD_FILE, nonce
from docid.core.stages import Stages
from docid.store.docs_store import DocsStore
from docid.tables.tasks import stage_of_table


def open_store(arguments: Arguments) -> DocsStore:
    """Return the store of --store, which has to be there."""
    if not arguments.store:
        raise UsageError("which store? expected --store ROOT, or the environment variable DOCID_STORE")
    return open_root(arguments, arguments.store)


def open_root(arguments: Arguments, root: str, *, new: bool = False) -> DocsStore:
    """Return the store of a directory, which has to be there unless it is to be `new`, or of a URL."""
    if root.startswith("memory:"):
        raise UsageError(f"{root}: empty in every process; expected a directory, or the URL of a bucket")
    if not is_url(root) and not os.path.isdir(root) and not (new and not os.path.lexists(root)):
        wrong = "that is no directory" if os.path.exists(root) else "there is no such directory"
        raise UsageError(f"no store at {root}: {wrong}")
    try:
        return DocsStore(root, stages=arguments.stages, in_flight=arguments.in_flight if is_url(root) else None)
    except ImportError as error:
        raise UsageError(str(error)) from error


def is_url(root: str) -> bool:
    """Return whether a store is named by a URL, of which no directory can be asked for."""
    return "://" in root


def hint_at_other_stages(store: DocsStore) -> None:
    """Say where a store has none of its stages, or other directories too."""
    if hint := _describe_other_stages(store):
        complain(hint)


def _describe_other_stages(store: DocsStore) -> str:
    """Return a hint at a store that has none of its stages, or other directories too; empty where neither is so."""
    root, declared = store.root, ", ".join(store.stages)
    try:
        with os.scandir(root) as entries:
            names = sorted(each.name for each in entries if each.is_dir() and not each.name.startswith("."))
    except OSError:  # a URL, or what cannot be listed: who needs it reports that
        return ""
    others = [name for name in names if name not in store.stages]
    if others != names:
        also = f"{root} also holds {join_few(others)}: no stages of {declared}; --stages declares others"
        return also if others else ""
    if any(os.path.isfile(os.path.join(root, name, RECORD_FILE)) for name in others[:FEW]):
        return f"{root} holds documents itself; was its parent directory meant?"
    hint = f"{root} holds no directory of stage {declared}: an empty store"
    return f"{hint}; it holds {join_few(others)}: --stages declares other stages" if others else hint


def find_document(store: DocsStore, name: str) -> tuple[str, str]:
    """Return stage and doc id of the document that `[STAGE/]ID` names, the id by unique prefix."""
    stage, slash, doc_id = name.rpartition("/")
    if not doc_id:
        raise UsageError(f"{name!r} names no document; expected [STAGE/]ID")
    stages = [store.stages.check(stage)] if slash else list(store.stages)
    found: list[tuple[str, str]] = []
    if is_doc_id(doc_id):
        found = [(each, doc_id) for each in stages if store.exists(each, doc_id)]
    how = "of that name"
    if not found:
        how = "begin so"
        found = list({(stage, each): None for stage in stages for each in store.ids(stage) if each.startswith(doc_id)})
    if len(found) == 1:
        return found[0]
    if found:
        some = join_few(["/".join(each) for each in sorted(found)])
        raise UsageError(f"{name}: {len(found)} documents {how}: {some}; give more of the id, or STAGE/ID")
    hint = _describe_other_stages(store)
    where = f"in stage {', '.join(stages)} of {store.root}" + (f"; {hint}" if hint else "")
    by_task = "of a task id 'docid reserve --stage STAGE --task-id ID' prints the doc id"
    raise UsageError(f"{name}: no document of that name {where}; {by_task}")


def find_table(table: str, stages: Stages) -> tuple[str, str]:
    """Return stage and path of one `[STAGE=]TABLE` argument."""
    stage, _, path = table.partition("=")
    if stage not in stages:
        stage, path = stage_of_table(table, stages) or "", table
    if not stage or not path:
        raise UsageError(
            f"{table}: which stage's table? expected the name <stage>_tasks.csv or <stage>_generation_tasks.csv, "
            f"or STAGE=TABLE, with a stage of {', '.join(stages)} (--stages or DOCID_STAGES declares others)"
        )
    return stage, path


def sort_tables(tables: Sequence[str], stages: Stages) -> dict[str, str]:
    """Return the paths of `[STAGE=]TABLE` arguments by stage, in the order of the stages."""
    paths: dict[str, str] = {}
    for table in tables:
        stage, path = find_table(table, stages)
        if stage in paths:
            raise UsageError(f"{path}: expected one table of stage {stage}, got {paths[stage]} too")
        paths[stage] = path
    return {stage: paths[stage] for stage in stages if stage in paths}


def find_tables(names: Sequence[str], stages: Stages) -> tuple[dict[str, str], list[str]]:
    """Return the tables of `[STAGE=]TABLE|DIRECTORY` arguments by stage, and the other files of directories."""
    tables, others = [], []
    for table in names:
        if os.path.isdir(table):
            in_directory = {name: stage_of_table(name, stages) for name in sorted(os.listdir(table))}
            if not any(in_directory.values()):
                raise UsageError(
                    f"{table}: no task table of stage {', '.join(stages)} in it; expected <stage>_generation_tasks.csv"
                    f"; --stages or DOCID_STAGES declares other stages"
                )
            tables += [f"{stage}={os.path.join(table, name)}" for name, stage in in_directory.items() if stage]
            others += [
                os.path.join(table, escape_surrogates(name)) for name, stage in in_directory.items() if not stage
            ]
        elif "=" not in table and not os.path.exists(table):
            raise UsageError(f"{table}: no such file or directory")
        else:
            tables.append(table)
    return sort_tables(tables, stages), others


def split_ids(text: str) -> list[str]:
    """Return the ids of a list that is separated by commas."""
    return [each.strip() for each in text.split(",") if each.strip()]


def choose_salt(arguments: Arguments) -> str | None:
    """Return the salt of --salt, a fresh one for `random`: 16 hexadecimal digits."""
    salt: str | None = arguments.salt
    return nonce() if salt == RANDOM else salt


def check_output(option: str, path: str, store: DocsStore | None, inputs: Iterable[str] = ()) -> None:
    """Refuse a file to be written that cannot be meant, before any work is done.

    Args:
        option: the option that names the file.
        path: the file.
        store: the store of the command, in whose stages no file of others has a place.
        inputs: files that the command reads.
    """
    if not path:
        raise UsageError(f"{option}: expected a path, got nothing (is a variable not set?)")
    directory = os.path.dirname(path) or "."
    real = os.path.realpath(path)
    if store is not None and not is_url(store.root):
        for stage in (*store.stages, ".docid"):
            if real.startswith(os.path.realpath(os.path.join(store.root, stage)) + os.sep):
                raise UsageError(f"{option} {path}: that is in the store, among its documents; expected another place")
    if os.path.isdir(path):
        raise UsageError(f"{option} {path}: that is a directory; expected a file")
    if not os.path.isdir(directory):
        raise UsageError(f"{option} {path}: there is no directory {directory}; make it first")
    if is_replaced(path) and not os.access(directory, os.W_OK):
        raise UsageError(f"{option} {path}: nothing can be written in {directory}; expected another place")
    if real in {os.path.realpath(each) for each in inputs}:
        raise UsageError(f"{option} {path}: that is a file to be read; expected another file")


def check_table_output(arguments: Arguments, store: DocsStore, inputs: Iterable[str] = ()) -> None:
    """Refuse an output of `make_output_arguments` that cannot be meant, before any work is done."""
    output: str | None = arguments.output
    if output is not None:
        check_output("--output", output, store, inputs)
    if arguments.json and output is not None:
        raise UsageError("--json prints the rows, --output writes them; expected one of the two")
    if arguments.dry_run and output is None:
        raise UsageError("--dry-run is about what would be written; expected --output with it")

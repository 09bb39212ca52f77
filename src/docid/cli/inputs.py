"""Resolve arguments to stores, documents, task tables and output files; refuse unusable ones."""

import os
import re
from argparse import ArgumentTypeError
from collections.abc import Iterable, Sequence

from docid._text import escape_surrogates, format_count, quote
from docid.cli.arguments import RANDOM, Arguments, UsageError, argument
from docid.cli.output import FEW, is_replaced, join_few, print_stderr
from docid.core.ids import is_doc_id
from docid.core.record import RECORD_FILE, nonce
from docid.core.stages import DEFAULT_STAGES, Stages
from docid.errors import StagesConflict, UnreadableManifest
from docid.store.docs_store import DocsStore
from docid.store.manifest import find_undeclared
from docid.tables.tasks import check_delimiter, stage_of_table


def _parse_delimiter(text: str) -> str:
    """Return the delimiter that `--delimiter` names."""
    named = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if named != "auto":
        try:
            check_delimiter(named)
        except ValueError:
            raise ArgumentTypeError(f"{text!r}: expected one character such as ';', or tab, or auto") from None
    return named


DELIMITER = argument(
    "--delimiter CHARACTER",
    "the character between the cells of the tables: ';', tab, or auto, which finds it in the header (default: ',')",
    type=_parse_delimiter,
    default=",",
)

_NEW_STORE = "check the path; 'docid stages --declare LIST --new-store' starts a store there"


def open_store(arguments: Arguments, *, needs_stages: bool = True) -> DocsStore:
    """Return the store of --store, which must exist unless the command has --new-store. See `open_root`."""
    if not arguments.store:
        raise UsageError("no store given; expected --store ROOT, or the environment variable DOCID_STORE")
    new: bool = getattr(arguments, "new_store", False)
    return open_root(arguments, arguments.store, new=new, needs_stages=needs_stages)


def open_root(arguments: Arguments, root: str, *, new: bool = False, needs_stages: bool = True) -> DocsStore:
    """Return the store of a URL or a directory.

    Args:
        arguments: those of the command; --stages takes precedence over what the store declares.
        root: the URL or directory.
        new: whether the store may be missing.
        needs_stages: whether to refuse a store with documents of other stages that declares none.
    """
    if root.startswith("memory:/"):
        raise UsageError(f"{root}: a memory store ends with its process; expected a directory or the URL of a bucket")
    if not is_url(root) and not os.path.isdir(root):
        if os.path.lexists(root):
            raise UsageError(f"no store at {root}: not a directory")
        if not new:
            raise UsageError(f"no store at {root}: no such directory; {_NEW_STORE}")
    stages: Stages | None = getattr(arguments, "stages", None)
    try:
        store = DocsStore(root, stages=stages, in_flight=arguments.in_flight if is_url(root) else None)
    except ImportError as error:
        raise UsageError(str(error)) from error
    if not new and (problem := find_no_store(store)):
        raise UsageError(f"no store at {root}: {problem}; {_NEW_STORE}")
    if needs_stages and stages is None:
        _check_declared(store)
    return store


def _check_declared(store: DocsStore) -> None:
    """Refuse a store without a manifest that holds documents of other stages than the default ones."""
    others = [] if store.manifest.read() else find_undeclared(store.backend, DEFAULT_STAGES)
    if others:
        raise UsageError(
            f"{store.root} does not declare its stages, and holds documents of {join_few(others)}; expected --stages "
            "LIST or DOCID_STAGES, or declare them once with 'docid stages --declare LIST'"
        )


def choose_stages(arguments: Arguments) -> Stages:
    """Return the stages of --stages, or else those of --store if it is given, or else the default ones."""
    stages: Stages | None = arguments.stages
    return stages or (open_store(arguments).stages if arguments.store else DEFAULT_STAGES)


def find_no_store(store: DocsStore) -> str:
    """Return why a root is not a store; empty if it has a manifest, a directory of a stage, or documents."""
    try:
        has_manifest = store.manifest.read() is not None
    except (UnreadableManifest, OSError):  # it is there, or the command itself reports the error
        has_manifest = True
    names = () if has_manifest else store.backend.directories()
    stages = DEFAULT_STAGES if store.manifest.given is None else store.manifest.given
    if has_manifest or any(name in stages for name in names) or find_undeclared(store.backend, stages):
        return ""
    if any(os.path.isfile(os.path.join(store.root, name, RECORD_FILE)) for name in sorted(names)[:FEW]):
        return "it holds documents directly; did you mean its parent directory?"
    return "it has no directory of a stage" if names else "it is empty"


def is_url(root: str) -> bool:
    """Return whether a root is a URL, not a directory; `./a://b` is a directory."""
    return bool(re.match("[^/]+://", root))


def hint_at_other_stages(store: DocsStore) -> None:
    """Print a hint if the store has none of its stages, or other directories too, or if its manifest is at odds."""
    try:
        store.manifest.check()
    except (StagesConflict, UnreadableManifest, OSError) as error:  # --stages or DOCID_STAGES takes precedence
        print_stderr(error)
    if hint := _describe_other_stages(store):
        print_stderr(hint)


def _describe_other_stages(store: DocsStore) -> str:
    """Return the hint about missing stages or other directories; empty if the store has neither."""
    root, declared = store.root, ", ".join(store.stages)
    try:
        with os.scandir(root) as entries:
            names = sorted(each.name for each in entries if each.is_dir() and not each.name.startswith("."))
    except OSError:  # a URL, or an unreadable directory: the command reports that itself
        return ""
    others = [name for name in names if name not in store.stages]
    if others != names:
        origin = "its manifest" if store.manifest.given is None else "--stages"
        also = f"{root} also holds {join_few(others)}; {origin} has only {declared}"
        return also if others else ""
    hint = f"{root} has no directory of stage {declared}; docid treats it as an empty store"
    return f"{hint}. It holds {join_few(others)} (--stages declares other stages)" if others else hint


def find_document(store: DocsStore, name: str) -> tuple[str, str]:
    """Return stage and doc id of the document `[STAGE/]ID`; a unique prefix of the id is enough."""
    stage, slash, doc_id = name.rpartition("/")
    if not doc_id:
        raise UsageError(f"{quote(name)}: no doc id; expected [STAGE/]ID")
    stages = [store.stages.check(stage)] if slash else list(store.stages)
    found: list[tuple[str, str]] = []
    if is_doc_id(doc_id):
        found = [(each, doc_id) for each in stages if store.exists(each, doc_id)]
    if not found:
        found = list({(stage, each): None for stage in stages for each in store.ids(stage) if each.startswith(doc_id)})
    if len(found) == 1:
        return found[0]
    if found:
        some = join_few(["/".join(each) for each in sorted(found)])
        number = format_count(len(found), "document")
        raise UsageError(f"{name}: matches {number}: {some}; give more of the id, or STAGE/ID")
    hint = _describe_other_stages(store)
    where = f"in stage {', '.join(stages)} of {store.root}" + (f"; {hint}" if hint else "")
    by_task = "'docid show --task STAGE TASK_ID' finds the document of a task"
    raise UsageError(f"{name}: no such document {where}; {by_task}")


def find_table(table: str, stages: Stages) -> tuple[str, str]:
    """Return stage and path of a `[STAGE=]TABLE` argument."""
    stage, path = _split_stage(table, stages)
    stage = stage or stage_of_table(path, stages) or ""
    if not stage or not path:
        raise UsageError(
            f"{table}: not the name of a task table; expected <stage>_tasks.csv, <stage>_generation_tasks.csv or "
            f"STAGE=TABLE, where the stage is one of {', '.join(stages)} (--stages or DOCID_STAGES declares others)"
        )
    return stage, path


def _split_stage(table: str, stages: Stages) -> tuple[str, str]:
    """Return the stage (or an empty text) and the path of `[STAGE=]TABLE`; an existing file keeps its whole name."""
    stage, _, path = table.partition("=")
    return (stage, path) if stage in stages and not os.path.exists(table) else ("", table)


def find_column(text: str, stages: Stages) -> tuple[str, str, str]:
    """Return stage, path and column of a `[STAGE=]TABLE:COLUMN` argument.

    The path and the column may contain colons. docid takes the longest path that exists.
    """
    ends = [found.start() for found in re.finditer(":", text)]
    pairs = [(text[:end], text[end + 1 :]) for end in reversed(ends) if text[:end] and text[end + 1 :]]
    known = [pair for pair in pairs if os.path.exists(_split_stage(pair[0], stages)[1])]
    if not pairs or (len(pairs) > 1 and not known):
        wrong = "" if not pairs else f"no such table as {' or '.join(table for table, _ in pairs)}; "
        raise UsageError(f"--from {text}: {wrong}expected [STAGE=]TABLE:COLUMN")
    table, column = [*known, *pairs][0]
    return *find_table(table, stages), column


def sort_tables(tables: Sequence[str], stages: Stages) -> dict[str, str]:
    """Return the paths of `[STAGE=]TABLE` arguments by stage, in the order of the stages."""
    return _sort_paths([find_table(table, stages) for table in tables], stages)


def _sort_paths(tables: Iterable[tuple[str, str]], stages: Stages) -> dict[str, str]:
    """Return paths by stage, in the order of the stages; refuse two tables of a stage, and a table of two stages."""
    paths: dict[str, str] = {}
    for stage, path in tables:
        if stage in paths:
            raise UsageError(f"{path}: second table of stage {stage}, after {paths[stage]}; expected one per stage")
        if others := [other for other, known in paths.items() if is_same_file(path, known)]:
            raise UsageError(f"{path}: the table of stages {others[0]} and {stage}; expected one table per stage")
        paths[stage] = path
    return {stage: paths[stage] for stage in stages if stage in paths}


def is_same_file(path: str, other: str) -> bool:
    """Return whether two paths name the same file, through links too. A missing file is compared by its path."""
    try:
        return os.path.samefile(path, other)
    except OSError:
        return os.path.realpath(path) == os.path.realpath(other)


def find_tables(names: Sequence[str], stages: Stages) -> tuple[dict[str, str], list[str]]:
    """Return the tables of `[STAGE=]TABLE|DIRECTORY` arguments by stage, and the ignored files of directories."""
    tables: list[tuple[str, str]] = []
    others: list[str] = []
    for table in names:
        if os.path.isdir(table):
            in_directory = {name: stage_of_table(name, stages) for name in sorted(os.listdir(table))}
            if not any(in_directory.values()):
                raise UsageError(
                    f"{table}: a directory without task tables; expected <stage>_generation_tasks.csv, where the "
                    f"stage is one of {', '.join(stages)} (--stages or DOCID_STAGES declares others)"
                )
            tables += [(stage, os.path.join(table, name)) for name, stage in in_directory.items() if stage]
            others += [
                os.path.join(table, escape_surrogates(name)) for name, stage in in_directory.items() if not stage
            ]
        elif "=" not in table and not os.path.exists(table):
            raise UsageError(f"{table}: no such file or directory")
        else:
            tables.append(find_table(table, stages))
    return _sort_paths(tables, stages), others


def split_ids(text: str) -> list[str]:
    """Return the ids of a comma-separated list."""
    return [each.strip() for each in text.split(",") if each.strip()]


def choose_salt(arguments: Arguments) -> str | None:
    """Return the salt of --salt; for `random` a fresh one: `s` and 16 hexadecimal digits."""
    salt: str | None = arguments.salt
    # Without the letter, a spreadsheet would turn one salt in 760 into a number.
    return f"s{nonce()}" if salt == RANDOM else salt


def check_output(option: str, path: str, store: DocsStore | None, inputs: Iterable[str] = ()) -> None:
    """Refuse an unusable output file before the command does any work.

    Args:
        option: the option that names the file.
        path: the file.
        store: the command's store; the file may not be inside one of its stages.
        inputs: the files that the command reads; the file may not be one of them.
    """
    if not path:
        raise UsageError(f"{option}: empty; expected a path (is a shell variable unset?)")
    directory = os.path.dirname(path) or "."
    real = os.path.realpath(path)
    if store is not None and not is_url(store.root):
        for stage in (*store.stages, ".docid"):
            if real.startswith(os.path.realpath(os.path.join(store.root, stage)) + os.sep):
                raise UsageError(f"{option} {path}: inside the store; expected a path outside of its stages")
    if os.path.isdir(path):
        raise UsageError(f"{option} {path}: a directory; expected a file")
    if not os.path.isdir(directory):
        raise UsageError(f"{option} {path}: directory {directory} does not exist; create it first")
    if is_replaced(path) and not os.access(directory, os.W_OK):
        raise UsageError(f"{option} {path}: directory {directory} is not writable; expected another path")
    if any(is_same_file(path, each) for each in inputs):
        raise UsageError(f"{option} {path}: the command reads this file; expected another one")


def check_table_output(arguments: Arguments, store: DocsStore, inputs: Iterable[str] = ()) -> None:
    """Refuse an unusable combination of `make_output_arguments` before the command does any work."""
    output: str | None = arguments.output
    if output is not None:
        check_output("--output", output, store, inputs)
    if arguments.json and output is not None:
        raise UsageError("--json prints the rows and --output writes them to a file; expected one of the two")
    if arguments.dry_run and output is None:
        raise UsageError("--dry-run reports what --output would write; expected --output with it")

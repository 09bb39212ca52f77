"""Arguments that several commands take, and what they stand for."""

from __future__ import annotations

import argparse
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from docid._text import utf8
from docid.core.ids import is_doc_id
from docid.core.record import RECORD_FILE, nonce
from docid.core.stages import DEFAULT_STAGES, Stages
from docid.store.docs_store import DocsStore
from docid.tables.tasks import stage_of_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from docid.store.stored import StoredDocument

SHOWN = 5  # documents that a short id could mean, places of one code
_DEFAULT_STAGES = ",".join(DEFAULT_STAGES)


class UsageError(Exception):
    """Wrong usage that argparse cannot see."""


def add_stages(parser: argparse.ArgumentParser) -> None:
    """Add --stages."""
    parser.add_argument(
        "--stages",
        type=_stages,
        default=_FromEnvironment(os.environ.get("DOCID_STAGES") or _DEFAULT_STAGES),
        metavar="LIST",
        help="the stages in order, each from the one before unless its parent is named as STAGE:PARENT "
        f"(default: the environment variable DOCID_STAGES, or {_DEFAULT_STAGES})",
    )


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add --store and --stages."""
    parser.add_argument(
        "--store",
        metavar="ROOT",
        type=root_of,
        default=os.environ.get("DOCID_STORE") or None,
        help="the store: a directory, or the URL of an object store, s3://bucket/prefix, whose credentials and "
        "endpoint come from the environment (default: the environment variable DOCID_STORE)",
    )
    parser.add_argument(
        "--in-flight",
        type=whole("requests"),
        metavar="N",
        help="requests to an object store at once (default: 32)",
    )
    add_stages(parser)


class _FromEnvironment(str):
    """A default that argparse looks at as at an argument."""

    __slots__ = ()


def _stages(text: str) -> Stages:
    try:
        return Stages.parse(text)
    except ValueError as error:
        origin = "DOCID_STAGES in the environment: " if isinstance(text, _FromEnvironment) else ""
        raise argparse.ArgumentTypeError(f"{origin}{error}") from None


def seconds(text: str) -> float:
    """Return an age such as 30d in seconds."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd])", "0s" if text == "0" else text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number with s, m, h or d behind it, such as 30d or 12h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def age(seconds: float) -> str:
    """Return an age as `seconds` takes it, in the largest unit that it is a whole number of."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"


def store_of(arguments: argparse.Namespace) -> DocsStore:
    """Return the store of --store, which has to be there."""
    if not arguments.store:
        raise UsageError("which store? expected --store ROOT, or the environment variable DOCID_STORE")
    return opened(arguments.store, arguments.stages, in_flight=arguments.in_flight)


def is_url(root: str) -> bool:
    """Return whether a store is named by a URL, of which no directory can be asked for."""
    return "://" in root


def root_of(text: str) -> str:
    """Return the root of a store as it was given; of a file:// URL the directory."""
    return unquote(text.removeprefix("file://")) if text.startswith("file:///") else text


def opened(root: str, stages: Stages, *, new: bool = False, in_flight: int | None = None) -> DocsStore:
    """Return the store of a directory, which has to be there unless it is to be `new`, or of a URL."""
    if root.startswith("memory:"):
        raise UsageError(f"{root}: empty in every process; expected a directory, or the URL of a bucket")
    if not is_url(root) and not os.path.isdir(root) and not (new and not os.path.lexists(root)):
        wrong = "that is no directory" if os.path.exists(root) else "there is no such directory"
        raise UsageError(f"no store at {root}: {wrong}")
    try:
        return DocsStore(root, stages=stages, in_flight=in_flight if is_url(root) else None)
    except ImportError as error:
        raise UsageError(str(error)) from error


def other_stages(root: str, stages: Stages) -> str:
    """Return a hint at a store that holds none of the stages, or other directories too; empty where neither is so."""
    if is_url(root):
        return ""
    try:
        with os.scandir(root) as entries:
            names = sorted(each.name for each in entries if each.is_dir() and not each.name.startswith("."))
    except OSError:
        return ""  # what cannot be listed is told by those who need it
    others = [name for name in names if name not in stages]
    some = ", ".join(others[:SHOWN]) + (", …" if len(others) > SHOWN else "")
    declared = ", ".join(stages)
    if others != names:
        return f"{root} also holds {some}: no stages of {declared}; --stages declares others" if others else ""
    if any(os.path.isfile(os.path.join(root, name, RECORD_FILE)) for name in others[:SHOWN]):
        return f"{root} holds documents itself; was its parent directory meant?"
    hint = f"{root} holds no directory of stage {declared}: an empty store"
    return f"{hint}; it holds {some}: --stages declares other stages" if others else hint


def whole(what: str, least: int = 1) -> Callable[[str], int]:
    """Return a type of arguments: a number of these, so many at least."""

    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a number of {what}, {least} or more")
        return int(text)

    return parse


def check_output(option: str, path: str, store: DocsStore | None, inputs: Iterable[str] = ()) -> None:
    """Refuse a file to be written that cannot be meant, before anything is looked at.

    Args:
        option: what it was given as.
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


def is_replaced(path: str) -> bool:
    """Return whether a file is put in the place of what is there; a pipe or a device is written to."""
    return os.path.isfile(path) or not os.path.exists(path)


def by_stage(tables: Sequence[str], stages: Stages) -> dict[str, str]:
    """Return the paths of `[STAGE=]TABLE` arguments by stage."""
    paths: dict[str, str] = {}
    for table in tables:
        stage, _, path = table.partition("=")
        if stage not in stages:
            stage, path = stage_of_table(table, stages) or "", table
        if not stage or not path:
            raise UsageError(
                f"{table}: which stage's table? expected the name <stage>_tasks.csv or <stage>_generation_tasks.csv, "
                f"or STAGE=TABLE, with a stage of {', '.join(stages)} "
                f"(--stages or DOCID_STAGES declares others)"
            )
        if stage in paths:
            raise UsageError(f"{path}: expected one table of stage {stage}, got {paths[stage]} too")
        paths[stage] = path
    return paths


def tables_in(named: Sequence[str], stages: Stages) -> tuple[dict[str, str], list[str]]:
    """Return the tables of `[STAGE=]TABLE|DIRECTORY` arguments by stage, and the files of directories that are none."""
    tables, skipped = [], []
    for table in named:
        if not os.path.isdir(table):
            if "=" not in table and not os.path.exists(table):
                raise UsageError(f"{table}: no such file or directory")
            tables.append(table)
            continue
        names = sorted(os.listdir(table))
        found = [name for name in names if stage_of_table(name, stages) is not None]
        if not found:
            raise UsageError(
                f"{table}: no task table of stage {', '.join(stages)} in it; expected <stage>_generation_tasks.csv"
                f"; --stages or DOCID_STAGES declares other stages"
            )
        tables += [f"{stage_of_table(name, stages)}={os.path.join(table, name)}" for name in found]
        others = (utf8(name) for name in names if name not in found)
        skipped += [os.path.join(table, name) for name in others]
    return by_stage(tables, stages), skipped


def table_of(named: str, stages: Stages) -> tuple[str, str]:
    """Return stage and path of one `[STAGE=]TABLE` argument."""
    [(stage, path)] = by_stage([named], stages).items()
    return stage, path


RANDOM = "random"


def add_salt(parser: argparse.ArgumentParser) -> None:
    """Add --run-id and --salt."""
    parser.add_argument("--run-id", metavar="TEXT", help="derive the ids for this run alone")
    parser.add_argument(
        "--salt",
        metavar="TEXT|random",
        help="derive other ids for the same tasks; 'random' is a fresh salt of 64 bits for the whole batch",
    )


def salt_of(arguments: argparse.Namespace) -> str | None:
    """Return the salt of --salt, a fresh one for `random`: 16 hexadecimal digits."""
    given: str | None = arguments.salt
    return nonce() if given == RANDOM else given


def find(arguments: argparse.Namespace, name: str) -> StoredDocument:
    """Return the document that `[STAGE/]ID` names, the id by unique prefix."""
    return store_of(arguments).open(*named(arguments, name))


def named(arguments: argparse.Namespace, name: str) -> tuple[str, str]:
    """Return stage and doc id of the document that `[STAGE/]ID` names, the id by unique prefix."""
    store = store_of(arguments)
    stage, slash, doc_id = name.rpartition("/")
    if not doc_id:
        raise UsageError(f"{name!r} names no document; expected [STAGE/]ID")
    stages = [store.stages.check(stage)] if slash else list(store.stages)
    found: list[tuple[str, str]] = [
        (stage, doc_id) for stage in stages if is_doc_id(doc_id) and store.exists(stage, doc_id)
    ]
    how = "of that name"
    if not found:
        how = "begin so"
        names = [(stage, each) for stage in stages for each in store.ids(stage) if each.startswith(doc_id)]
        found = list(dict.fromkeys(names))
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join("/".join(each) for each in sorted(found)[:SHOWN]) + (", …" if len(found) > SHOWN else "")
        raise UsageError(f"{name}: {len(found)} documents {how}: {some}; give more of the id, or STAGE/ID")
    hint = other_stages(arguments.store, arguments.stages)
    where = f"in stage {', '.join(stages)} of {arguments.store}" + (f"; {hint}" if hint else "")
    by_task = "of a task id 'docid reserve --stage STAGE --task-id ID' prints the doc id"
    raise UsageError(f"{name}: no document of that name {where}; {by_task}")

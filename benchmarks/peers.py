"""Compare docid with alternative libraries and with bare system calls, doing the same work in one run.

It measures ids, writes, reads, listings, checks of a whole store, and task tables. In each turn all contenders do the
same work on the same names in one process, so that noise affects all of them. The output shows the median, minimum and
maximum of the ratios, docid's speed / the other's: above 1, docid is ahead. Reads come from the system's cache and are
compared with the written texts. Each turn opens projects, caches and stores again, outside the measured time. Absolute
rates depend on the machine.

Every document is a record and three texts, 7 kB of ASCII in total. The time of a write includes making the id and the
object from a task id and the texts. Writes that sync are measured separately.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import json
import math
import os
import platform
import random
import secrets
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from functools import partial
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import diskcache
import joblib
import orjson
import polars as pl
import signac
from signac.job import calc_id

from docid import DocsStore, Document, DraftTask, audit, read_tasks, reserve_doc_id, reserve_doc_ids, write_tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

STAGE = "draft"
TEXTS = {"raw": "r" * 3000, "parsed": "p" * 2500, "prompt": "q" * 1500}
FILES = {f"{part}.txt": text.encode() for part, text in TEXTS.items()}
RECORD = "metadata.json"
METADATA = {"template_id": "recursive-light", "model_id": "large-1"}
BARE_RECORD = b"m" * 770  # about as long as a record of docid
NAMESPACE = uuid.UUID("9a1d0f5e-0f6c-4d7e-9d0c-5a2f6f0a1b2c")

ORDER = random.Random(9)
PACKAGES = ("docid-store", "attrs", "orjson", "signac", "joblib", "diskcache", "polars")
SAMPLE = 1000  # maximum number of documents to read, and of ids to make, per turn
FEW, FEW_TURNS = 10_000, 3  # above 10,000 documents, whole stores and tables are measured in 3 turns
HUGE = 1_000_000  # from here on only docid, signac and the bare calls: all contenders would write 30 million files
READ = os.O_RDONLY
BELOW = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL

# Targets by measure and contender: the median of docid's speed / the other's.
TARGETS = {
    ("ids", "str(uuid.uuid5)"): 2.0,
    ("ids", "signac, calc_id"): 2.0,
    ("write, not durable", "signac, init and three files"): 1.0,
    ("read", "bare reads"): 0.7,
    ("read", "bare reads, decoded and parsed"): 0.7,
    ("open a record", "bare open, read, orjson.loads"): 0.6,
    ("check a store", "signac, check"): 2.0,
}
FLOORS = ("bare", "sha256", "csv")  # not alternatives: NOT_DONE lists the work that they skip
EXTRA = {"audit, verify"}  # does more work than the others, so it has no target

NOT_DONE = {
    "the bare calls": "do not check for existing files, hash, lock, or handle a second writer.",
    "a file at a time": "(temporary name, rename) keeps each file complete, but not the document; a second write "
    "overwrites the first; it checks no content.",
    "signac": "writes files in place, never syncs, and has no durable mode; a second write overwrites silently; "
    "`check` compares state points with job ids, but checks no other file and no hash.",
    "joblib.Memory": "stores pickles under a hash of the arguments, drops them when the function's source changes, "
    "never syncs, and only warns if a write fails; it cannot list names or read a record alone, and checks no content.",
    "diskcache": "is one SQLite database of pickles, without readable files; it syncs a commit only if "
    "`sqlite_synchronous` is 2, as for the durable writes here: one sync per document, where four files and two "
    "directories take six; it cannot read a record alone; `check` covers the database, but compares no value with a "
    "hash.",
    "polars and csv": "validate no cell and know no lineage; polars holds the whole table in memory and uses all "
    "processors.",
    "uuid5, calc_id, sha256": "accept any text, including control characters, white space at the ends and "
    "unnormalised text.",
}


# --- contenders ------------------------------------------------------------------------------------------------------


class Docid:
    """docid. Its names are the doc ids from the rows of a task table."""

    inodes = 5

    def __init__(self, root: str, *, durable: bool = False) -> None:
        self.store = DocsStore(root, durability="full" if durable else "none")

    def make_document(self, task_id: str) -> Document:
        return Document(
            stage=STAGE,
            doc_id=reserve_doc_id(STAGE, task_id),
            task_id=task_id,
            raw_text=TEXTS["raw"],
            parsed_text=TEXTS["parsed"],
            prompt_text=TEXTS["prompt"],
            metadata=METADATA,
        )

    def write(self, task_ids: Sequence[str]) -> None:
        for task_id in task_ids:
            self.store.write(self.make_document(task_id))

    def write_many(self, task_ids: Sequence[str]) -> None:
        self.store.write_many(map(self.make_document, task_ids))

    def name(self, task_id: str) -> str:
        return reserve_doc_id(STAGE, task_id)

    def read(self, names: Sequence[str]) -> list[tuple[Any, ...]]:
        found = []
        for name in names:
            each = self.store.read(STAGE, name)
            found.append((each.task_id, each.raw_text, each.parsed_text, each.prompt_text))
        return found

    def open(self, names: Sequence[str]) -> list[Any]:
        return [self.store.open(STAGE, name).task_id for name in names]

    def names(self) -> list[str]:
        return list(self.store.ids(STAGE))

    def check(self, *, verify: bool = False) -> int | None:
        report = audit(self.store, verify=verify)
        assert report.findings == (), report.findings[:3]
        return report.stages[STAGE].documents

    def verify(self) -> int | None:
        return self.check(verify=True)


class Bare:
    """The bare system calls. It reads the files of docid's store."""

    inodes = 5

    def __init__(self, root: str, *, durable: bool = False) -> None:
        self.stage = f"{root}/{STAGE}"
        self.durable = durable
        os.makedirs(self.stage, exist_ok=True)

    def write(self, task_ids: Sequence[str]) -> None:
        stage, files = self.stage, {**FILES, RECORD: BARE_RECORD}
        above = os.open(stage, READ)
        for task_id in task_ids:
            temporary = f"{stage}/.tmp-{task_id}"
            os.mkdir(temporary)
            for name, data in files.items():
                fd = os.open(f"{temporary}/{name}", WRITE)
                os.write(fd, data)
                if self.durable:
                    os.fsync(fd)
                os.close(fd)
            if self.durable:
                sync(temporary)
            os.rename(temporary, f"{stage}/{task_id}")
            if self.durable:
                os.fsync(above)
        os.close(above)

    def name(self, task_id: str) -> str:
        return f"{self.stage}/{reserve_doc_id(STAGE, task_id)}"

    def read_bytes(self, names: Sequence[str]) -> int:
        """Read the bytes and discard them. This is less work than the others do; to keep them would cost memory."""
        return sum(len(self._read_files(name)) for name in names)

    @staticmethod
    def _read_files(name: str) -> list[bytes]:
        contents = []
        for file in (RECORD, *FILES):
            fd = os.open(f"{name}/{file}", READ)
            contents.append(os.read(fd, 1 << 16))
            os.close(fd)
        return contents

    def read(self, names: Sequence[str]) -> list[tuple[Any, ...]]:
        found = []
        for name in names:
            record, raw, parsed, prompt = self._read_files(name)
            found.append((orjson.loads(record)["task_id"], raw.decode(), parsed.decode(), prompt.decode()))
        return found

    def open(self, names: Sequence[str]) -> list[Any]:
        found = []
        for name in names:
            fd = os.open(f"{name}/{RECORD}", READ)
            found.append(orjson.loads(os.read(fd, 1 << 16))["task_id"])
            os.close(fd)
        return found

    def open_unlinked(self, names: Sequence[str]) -> list[Any]:
        """Open records as docid does: follow no symbolic link below the root, and read each file to its end."""
        found = []
        for name in names:
            above = os.open(self.stage, BELOW)
            document = os.open(name[len(self.stage) + 1 :], BELOW, dir_fd=above)
            os.close(above)
            fd = os.open(RECORD, READ | os.O_NOFOLLOW, dir_fd=document)
            data = os.read(fd, 1 << 16)
            assert not os.read(fd, 1)
            os.close(fd)
            os.close(document)
            found.append(orjson.loads(data)["task_id"])
        return found

    def names(self) -> list[str]:
        return os.listdir(self.stage)

    def check(self) -> int:
        number = 0
        with os.scandir(self.stage) as entries:
            for entry in entries:
                fd = os.open(f"{entry.path}/{RECORD}", READ)
                record = orjson.loads(os.read(fd, 1 << 16))
                os.close(fd)
                for name, listed in record["files"].items():
                    assert os.stat(f"{entry.path}/{name}").st_size == listed["bytes"]
                number += 1
        return number


class Plain:
    """Writes each file under a temporary name and renames it, as plain writers and atomicwrites do."""

    inodes = 5

    def __init__(self, root: str, *, durable: bool = False) -> None:
        self.stage = Path(root, STAGE)
        self.durable = durable
        self.stage.mkdir(exist_ok=True, parents=True)

    def write(self, task_ids: Sequence[str]) -> None:
        for task_id in task_ids:
            directory = self.stage / task_id
            directory.mkdir()
            record = json.dumps({"stage": STAGE, "task_id": task_id, **METADATA}, indent=2).encode()
            for name, data in {**FILES, RECORD: record}.items():
                put(directory / name, partial(write_bytes, data), durable=self.durable)
            if self.durable:
                sync(directory)
                sync(self.stage)

    def name(self, task_id: str) -> str:
        return task_id

    def read(self, names: Sequence[str]) -> list[tuple[Any, ...]]:
        found = []
        for name in names:
            record = json.loads((self.stage / name / RECORD).read_bytes())
            texts = [(self.stage / name / file).read_text(encoding="utf-8") for file in FILES]
            found.append((record["task_id"], *texts))
        return found

    def open(self, names: Sequence[str]) -> list[Any]:
        return [json.loads((self.stage / name / RECORD).read_bytes())["task_id"] for name in names]

    def names(self) -> list[str]:
        return [entry.name for entry in self.stage.iterdir()]


class Signac:
    """One signac job per document: the state point makes the id, texts are files, metadata is the job document."""

    inodes = 6
    document = True

    def __init__(self, root: str) -> None:
        os.makedirs(root, exist_ok=True)
        self.project = signac.init_project(root)

    def write(self, task_ids: Sequence[str]) -> None:
        for task_id in task_ids:
            job = self.project.open_job({"stage": STAGE, "task_id": task_id}).init()
            for name, data in FILES.items():
                with open(job.fn(name), "wb") as file:
                    file.write(data)
            if self.document:
                job.document.update(METADATA)

    def name(self, task_id: str) -> str:
        return str(calc_id({"stage": STAGE, "task_id": task_id}))

    def read(self, names: Sequence[str]) -> list[tuple[Any, ...]]:
        found = []
        for name in names:
            job = self.project.open_job(id=name)
            record = {**job.document(), **job.statepoint()}
            texts = []
            for file in FILES:
                with open(job.fn(file), encoding="utf-8") as stream:
                    texts.append(stream.read())
            found.append((record["task_id"], *texts))
        return found

    def open(self, names: Sequence[str]) -> list[Any]:
        return [self.project.open_job(id=name).statepoint()["task_id"] for name in names]

    def names(self) -> list[str]:
        return [job.id for job in self.project]

    def check(self) -> int:
        self.project.check()
        return len(self.project)

    def check_files(self) -> int:
        """Also check that every file exists with the right size, as docid's audit does."""
        self.project.check()
        number = 0
        for job in self.project:
            for name, data in FILES.items():
                assert os.stat(job.fn(name)).st_size == len(data)
            number += 1
        return number


class SignacBare(Signac):
    """signac without job documents, so without metadata."""

    inodes = 5
    document = False


def return_contents(_stage: str, _task_id: str, contents: object) -> object:
    """Replace a model call, whose return value joblib stores."""
    return contents


class Joblib:
    """A cached function call: the arguments are the key, and a pickle is the document."""

    inodes = 3

    def __init__(self, root: str) -> None:
        self.call = joblib.Memory(root, verbose=0).cache(return_contents, ignore=["contents"])

    def write(self, task_ids: Sequence[str]) -> None:
        for task_id in task_ids:
            self.call(STAGE, task_id, {"task_id": task_id, **METADATA, **TEXTS})

    def name(self, task_id: str) -> str:
        return task_id

    def read(self, names: Sequence[str]) -> list[tuple[Any, ...]]:
        found = []
        for name in names:
            each = self.call(STAGE, name, None)
            found.append((each["task_id"], each["raw"], each["parsed"], each["prompt"]))
        return found


class Diskcache:
    """One value per document in a SQLite database, without eviction. With `durable`, every commit is synced."""

    inodes = 0

    def __init__(self, root: str, *, durable: bool = False) -> None:
        options = {"sqlite_synchronous": 2} if durable else {}
        self.cache = diskcache.Cache(root, eviction_policy="none", size_limit=1 << 50, **options)

    def write(self, task_ids: Sequence[str]) -> None:
        for task_id in task_ids:
            self.cache.add(self.name(task_id), {"task_id": task_id, **METADATA, **TEXTS})

    def name(self, task_id: str) -> str:
        return f"{STAGE}/{task_id}"

    def read(self, names: Sequence[str]) -> list[tuple[Any, ...]]:
        found = []
        for name in names:
            each = self.cache[name]
            found.append((each["task_id"], each["raw"], each["parsed"], each["prompt"]))
        return found

    def names(self) -> list[str]:
        return list(self.cache)

    def check(self) -> int:
        assert self.cache.check() == []
        return len(self.cache)


def write_bytes(data: bytes, path: Path) -> None:
    path.write_bytes(data)


def put(path: Path, write: Callable[[Path], object], *, durable: bool) -> None:
    """Write a file under a temporary name, and rename it."""
    temporary = path.with_name(f"{path.name}.tmp")
    write(temporary)
    if durable:
        sync(temporary)
    temporary.replace(path)


def sync(path: str | Path) -> None:
    fd = os.open(path, READ)
    os.fsync(fd)
    os.close(fd)


# --- measures --------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One line of the results: docid compared with one other contender."""

    measure: str
    documents: int
    docid: str
    other: str
    docid_rate: float
    other_rate: float
    median: float
    least: float
    most: float
    target: float | None

    @property
    def met(self) -> bool:
        return self.target is None or self.median >= self.target

    @property
    def is_floor(self) -> bool:
        return self.other.startswith(FLOORS)

    def cells(self) -> tuple[str, ...]:
        target = "" if self.target is None else f"≥ {self.target:.1f} {'met' if self.met else 'MISSED'}"
        rates = (f"{self.docid_rate:,.0f}", f"{self.other_rate:,.0f}")
        ratios = (f"{self.median:.2f}", f"{self.least:.2f}", f"{self.most:.2f}")
        return (self.measure, self.docid, self.other, *rates, *ratios, target)


HEADER = ("measure", "docid", "other", "docid's rate/s", "its rate/s", "ratio", "min", "max", "target")


class Measure:
    """One measure: its contenders, and their seconds per document in each turn."""

    def __init__(self, title: str, documents: int, ours: Sequence[str]) -> None:
        self.title = title
        self.documents = documents
        self.ours = ours
        self.seconds: dict[str, list[float]] = {}
        self.names: list[str] = []  # in the order of the table

    def turn(
        self,
        contenders: Mapping[str, Callable[[], object]],
        number: int,
        expected: object = None,
        *,
        warm: bool = False,
    ) -> None:
        """Time each contender once, in random order, and check its result. A `warm` turn does not count.

        The order is random because a contender finds files in the processor's caches that another one has just read.
        """
        self.names = list(contenders)
        for name in ORDER.sample(self.names, len(self.names)):
            if "write" in self.title:
                os.sync()  # so that this contender does not pay for data that an earlier one left unwritten
            answer = None  # free the megabytes of the previous contender before the clock starts
            start = time.perf_counter()
            answer = contenders[name]()
            taken = time.perf_counter() - start
            assert expected is None or name == "bare reads" or answer == expected, name
            if not warm:
                self.seconds.setdefault(name, []).append(taken / number)

    def rows(self) -> list[Row]:
        """Return the lines of the results."""
        rows = []
        others = [name for name in self.names if name not in self.ours]
        for own in self.ours:
            for other in others:
                theirs = self.seconds[other]
                ratios = [its / mine for its, mine in zip(theirs, self.seconds[own], strict=True)]
                rates = (1 / statistics.median(self.seconds[own]), 1 / statistics.median(theirs))
                target = None if own in EXTRA else TARGETS.get((self.title, other))
                figures = (statistics.median(ratios), min(ratios), max(ratios))
                rows.append(Row(self.title, self.documents, own, other, *rates, *figures, target))
        return rows


def fresh_names(number: int) -> list[str]:
    return [f"combo_v1_{secrets.token_hex(6)}__recursive-light__gemini_2.5_flash" for _ in range(number)]


IDS: dict[str, Callable[[list[str]], list[Any]]] = {
    "reserve_doc_id": lambda names: [reserve_doc_id(STAGE, name) for name in names],
    "reserve_doc_ids": lambda names: list(reserve_doc_ids(STAGE, names)),
    "sha256 of a joined text": lambda names: [hashlib.sha256(f"{STAGE}|{name}".encode()).hexdigest() for name in names],
    "str(uuid.uuid5)": lambda names: [str(uuid.uuid5(NAMESPACE, name)) for name in names],
    "signac, calc_id": lambda names: [calc_id({"stage": STAGE, "task_id": name}) for name in names],
}


def measure_ids(size: int, turns: int) -> list[Row]:
    measure = Measure("ids", size, ("reserve_doc_id", "reserve_doc_ids"))
    number = min(size, FEW)
    for turn in range(turns + 1):
        names = fresh_names(number)
        measure.turn({title: partial(make, names) for title, make in IDS.items()}, number, warm=not turn)
    return measure.rows()


def measure_durable(directory: str, size: int, turns: int) -> list[Row]:
    """Measure writes that sync. The disk determines their time, whatever the size of the store."""
    makers: dict[str, Callable[[str], Any]] = {
        "write": partial(Docid, durable=True),
        "write_many": partial(Docid, durable=True),
        "bare calls": partial(Bare, durable=True),
        "a file at a time": partial(Plain, durable=True),
        "diskcache, synchronous 2": partial(Diskcache, durable=True),
    }
    measure = Measure("write, durable", size, ("write", "write_many"))
    for turn in range(turns + 1):
        names = fresh_names(size // turns)
        contenders = {
            title: partial(getattr(make(f"{directory}/{title}"), title if title == "write_many" else "write"), names)
            for title, make in makers.items()
        }
        measure.turn(contenders, len(names), warm=not turn)
    return measure.rows()


MAKERS: dict[str, Any] = {
    "write": Docid,
    "bare calls": Bare,
    "a file at a time": Plain,
    "signac, init and three files": SignacBare,
    "signac, and a job document": Signac,
    "joblib.Memory": Joblib,
    "diskcache": Diskcache,
}


def select_makers(size: int) -> dict[str, Any]:
    few = ("write", "bare calls", "signac, init and three files")
    return MAKERS if size < HUGE else {title: MAKERS[title] for title in few}


def measure_stores(directory: str, size: int, turns: int) -> list[Row]:
    """Fill one store of each kind, a part of it per turn; then read, list and check the stores."""
    makers = select_makers(size)
    warm = fresh_names(20)
    for title, make in makers.items():
        make(f"{directory}/warm {title}").write(warm)
    names: list[str] = []
    measure = Measure("write, not durable", size, ("write",))
    for _ in range(turns):
        chunk = fresh_names(size // turns)
        contenders = {title: partial(make(f"{directory}/{title}").write, chunk) for title, make in makers.items()}
        measure.turn(contenders, len(chunk))
        names += chunk

    stores: dict[str, Callable[[], Any]] = {
        "docid": lambda: Docid(f"{directory}/write"),
        "bare": lambda: Bare(f"{directory}/write"),
    }
    for key, title in (
        ("signac", "signac, and a job document" if size < HUGE else "signac, init and three files"),
        ("joblib.Memory", "joblib.Memory"),
        ("diskcache", "diskcache"),
        ("pathlib and json", "a file at a time"),
    ):
        if title in makers:
            stores[key] = partial(makers[title], f"{directory}/{title}")
    read = measure_reads(stores, names, turns)
    return [*measure.rows(), *read, *measure_wholes(stores, len(names), turns if size <= FEW else FEW_TURNS)]


def measure_reads(stores: Mapping[str, Callable[[], Any]], names: Sequence[str], turns: int) -> list[Row]:
    reading = Measure("read", len(names), ("read",))
    opening = Measure("open a record", len(names), ("open",))
    for turn in range(turns + 1):
        sample = ORDER.sample(names, min(len(names), SAMPLE))
        expected = [(name, *TEXTS.values()) for name in sample]
        readers: dict[str, Callable[[], object]] = {}
        openers: dict[str, Callable[[], object]] = {}
        for key, make in stores.items():
            store = make()
            its = [store.name(name) for name in sample]
            # Load the files into the cache: two contenders read the same ones, and the first would pay for both.
            make().read(its)
            if key == "bare":
                readers["bare reads"] = partial(store.read_bytes, its)
            readers[{"docid": "read", "bare": "bare reads, decoded and parsed"}.get(key, key)] = partial(
                store.read, its
            )
            if hasattr(store, "open"):
                # Use a new instance, because signac does not read a record twice.
                title = {"docid": "open", "bare": "bare open, read, orjson.loads"}.get(key, key)
                openers[title] = partial(make().open, its)
            if hasattr(store, "open_unlinked"):
                openers["bare, no link followed"] = partial(make().open_unlinked, its)
        for measure, contenders, right in ((reading, readers, expected), (opening, openers, sample)):
            measure.turn(contenders, len(sample), right, warm=not turn)
    return [*reading.rows(), *opening.rows()]


def measure_wholes(stores: Mapping[str, Callable[[], Any]], size: int, turns: int) -> list[Row]:
    listing = Measure("list names", size, ("ids",))
    checking = Measure("check a store", size, ("audit", "audit, verify"))
    times = max(1, FEW // size)

    def list_repeatedly(names: Callable[[], list[str]]) -> int:
        return sum(len(names()) for _ in range(times))

    for turn in range(turns + 1):
        listers: dict[str, Callable[[], object]] = {}
        checkers: dict[str, Callable[[], object]] = {}
        for key, make in stores.items():
            if hasattr(make(), "names"):
                title = {"docid": "ids", "bare": "bare os.listdir"}.get(key, key)
                listers[title] = partial(list_repeatedly, make().names)
            if hasattr(make(), "check"):
                title = {"docid": "audit", "bare": "bare record and stats"}.get(key, f"{key}, check")
                checkers[title] = make().check
        checkers["audit, verify"] = stores["docid"]().verify
        checkers["signac, check and file sizes"] = stores["signac"]().check_files
        for measure, contenders, number in ((listing, listers, size * times), (checking, checkers, size)):
            measure.turn(contenders, number, number, warm=not turn)
    return [*listing.rows(), *checking.rows()]


def measure_tables(directory: str, size: int, turns: int) -> list[Row]:
    """Write and read a task table. All writers use a temporary name, a sync, a rename, and a sync of the directory."""
    columns = ("draft_task_id", "combo_id", "draft_template", "generation_model", "note", "doc_id")
    cells = [
        [name, f"combo-{n}", "recursive-light", "large-1", f"about {n}"] for n, name in enumerate(fresh_names(size))
    ]
    ids = reserve_doc_ids(STAGE, [row[0] for row in cells])
    cells = [[*row, doc_id] for row, doc_id in zip(cells, ids, strict=True)]
    rows = [
        DraftTask(
            task_id=row[0],
            combo_id=row[1],
            draft_template=row[2],
            generation_model=row[3],
            extra={"note": row[4]},
            doc_id=row[5],
        )
        for row in cells
    ]
    frame = pl.DataFrame(cells, schema=list(columns), orient="row")

    def write_csv(path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(cells)

    def read_csv(path: Path) -> int:
        with path.open(encoding="utf-8", newline="") as file:
            return sum(1 for _ in csv.reader(file)) - 1

    def read_dicts(path: Path) -> int:
        with path.open(encoding="utf-8", newline="") as file:
            return sum(1 for _ in csv.DictReader(file))

    own, path, other = (Path(directory, f"{name}.csv") for name in ("docid", "csv", "polars"))

    def durably(path: Path, write: Callable[[Path], object]) -> None:
        put(path, write, durable=True)
        sync(directory)

    writers: dict[str, Callable[[], object]] = {
        "write_tasks": lambda: write_tasks(own, rows),
        "csv.writer": lambda: durably(path, write_csv),
        "polars": lambda: durably(other, frame.write_csv),
    }
    readers: dict[str, Callable[[], object]] = {
        "read_tasks": lambda: sum(1 for _ in read_tasks(own, DraftTask)),
        "csv.reader": lambda: read_csv(path),
        "csv.DictReader": lambda: read_dicts(path),
        "polars": lambda: pl.read_csv(other, infer_schema=False).height,
    }
    writing = Measure("write a table", size, ("write_tasks",))
    reading = Measure("read a table", size, ("read_tasks",))
    for turn in range(turns + 1):
        for measure, contenders, right in ((writing, writers, None), (reading, readers, size)):
            measure.turn(contenders, size, right, warm=not turn)
    return [*writing.rows(), *reading.rows()]


# --- output ----------------------------------------------------------------------------------------------------------


def describe_machine(directory: str) -> dict[str, str]:
    """Return the facts of this machine that the figures depend on."""
    cpu = platform.processor()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    kind, longest = "unknown", ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
            _, mount, its_kind, *_ = line.split()
            if len(mount) >= len(longest) and Path(os.path.realpath(directory)).is_relative_to(mount):
                kind, longest = its_kind, mount
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])} {platform.machine()}",
        "cpu": f"{cpu}, {os.cpu_count()} processors",
        "file system": kind,
    }


def list_versions() -> dict[str, str]:
    return {**{name: version(name) for name in PACKAGES}, "sqlite": sqlite3.sqlite_version}


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = (header, ["-" * width for width in widths], *rows)
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )


def format_summary(rows: Sequence[Row]) -> str:
    """Return the measures in which another is ahead, the missed targets, and the work that the others skip."""
    ahead = [row for row in rows if row.median < 1 and not row.is_floor]
    aimed = [row for row in rows if row.target is not None]
    missed = [row for row in aimed if not row.met]
    lines = ["Contenders ahead of docid (by the median):"]
    lines += [
        f"- {row.measure}, {row.documents:,}: {row.other} {1 / row.median:.2f} times as fast as {row.docid}"
        for row in ahead
    ] or ["- none"]
    lines += ["", f"Targets (by the median): {len(aimed) - len(missed)} of {len(aimed)} met."]
    lines += [
        f"- missed: {row.measure}, {row.documents:,}: {row.docid} / {row.other} {row.median:.2f}, target {row.target}"
        for row in missed
    ]
    lines += ["", "What the others do not do:"]
    lines += [f"- {name} {text}" for name, text in NOT_DONE.items()]
    return "\n".join(lines)


STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328 } .dim { fill: #59636e } .head { font-weight: 600 }
  .ahead { fill: #2f6feb } .behind { fill: #c4622d } .range { stroke: #1f2328 } .grid { stroke: #d1d9e0 }
  .target { stroke: #1a7f37; stroke-width: 2 } .ground { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .dim { fill: #9198a1 } .ahead { fill: #58a6ff } .behind { fill: #e8945f }
    .range { stroke: #e6edf3 } .grid { stroke: #3d444d } .target { stroke: #3fb950 } .ground { fill: #0d1117 }
  }
"""


def draw_svg(rows: Sequence[Row], about: str) -> str:
    """Return a plot of the ratios on a log scale: a bar from 1 to the median, and a line from minimum to maximum."""
    least, most = min(row.least for row in rows), max(row.most for row in rows)
    marks = [mark for mark in (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300) if least / 3 < mark < most * 3]
    left, width, step = 330, 400, 18
    low, high = math.log10(min(least, marks[0])), math.log10(max(most, marks[-1]))

    def x(ratio: float) -> str:
        return f"{left + width * (math.log10(ratio) - low) / (high - low):.1f}"

    body, y, title = [], 62, ""
    for row in rows:
        if row.measure != title:
            title = row.measure
            y += 8
            size = "" if row.documents == rows[-1].documents else f", {row.documents:,} documents"
            body.append(f'<text class="head" x="10" y="{y + 13}">{escape(title + size)}</text>')
            y += step
        kind, ends = ("ahead" if row.median >= 1 else "behind"), sorted((1.0, row.median))
        length = float(x(ends[1])) - float(x(ends[0]))
        label = escape(f"{row.docid} / {row.other}")
        body.append(f'<text x="20" y="{y + 13}">{label}</text>')
        body.append(f'<rect class="{kind}" x="{x(ends[0])}" y="{y + 4}" width="{length:.1f}" height="10"/>')
        body.append(f'<path class="range" d="M{x(row.least)} {y + 9}H{x(row.most)}"/>')
        if row.target is not None:
            body.append(f'<path class="target" d="M{x(row.target)} {y + 1}v16"/>')
        body.append(f'<text class="dim" x="{left + width + 12}" y="{y + 13}">{row.median:.2f}</text>')
        y += step
    grid = [
        f'<path class="grid" d="M{x(mark)} 62V{y}"/><text class="dim" text-anchor="middle" x="{x(mark)}" y="56">{mark}'
        "</text>"
        for mark in marks
    ]
    total = left + width + 60
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {y + 10}" role="img">\n<style>{STYLE}</style>\n'
        f'<rect class="ground" width="{total}" height="{y + 10}"/>\n'
        '<text class="head" x="10" y="20">Speed of docid / speed of the other: right of 1 docid is ahead</text>\n'
        f'<text class="dim" x="10" y="38">{escape(about)}</text>\n'
    )
    return head + "\n".join([*grid, *body]) + "\n</svg>\n"


def check_room(sizes: Sequence[int], directory: str) -> None:
    """Exit if the file system does not have enough room."""
    files = sum(size * sum(make.inodes for make in select_makers(size).values()) for size in sizes)
    room = os.statvfs(directory)
    # A file of a few kB needs one or two blocks, pickles and the database a little more.
    if files > room.f_favail > 0 or files * 4608 > room.f_bavail * room.f_frsize:
        sys.exit(f"{directory}: no room for {files:,} files and directories; pass another --directory or fewer --sizes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 10_000, 100_000], help="documents of each store")
    parser.add_argument("--full", action="store_true", help="add a million documents: 19 million files, 90 GB")
    parser.add_argument("--peers-turns", type=int, default=10)
    parser.add_argument("--directory", help="directory for the stores (default: the temporary directory)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to a file")
    parser.add_argument("--svg", metavar="FILE", help="write a plot of the largest size to a file")
    arguments, _ = parser.parse_known_args()
    sizes = [*arguments.sizes, *([HUGE] if arguments.full else [])]
    turns = arguments.peers_turns
    # Delete all files at the end: ext4 creates files slowly right after deletions.
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        check_room(sizes, directory)
        about, versions = describe_machine(directory), list_versions()
        print(f"peers: {turns} turns; ratio: docid's speed / the other's, above 1 docid is ahead")
        for facts in (about, versions):
            print("; ".join(f"{name} {value}" for name, value in facts.items()))
        rows: list[Row] = []
        for number, size in enumerate(sizes):
            started = time.perf_counter()
            root = f"{directory}/{size}"
            os.mkdir(root)
            of_size = measure_ids(size, turns)
            if number == 0:
                of_size += measure_durable(f"{root}/durable", size, turns)
            of_size += measure_stores(root, size, turns)
            of_size += measure_tables(root, size, turns if size <= FEW else FEW_TURNS)
            rows += of_size
            print(f"\n{size:,} documents ({time.perf_counter() - started:.0f} s)\n")
            print(format_table(HEADER, [row.cells() for row in of_size]), flush=True)
        print(f"\n{format_summary(rows)}")
    if arguments.json:
        lines = [{**row._asdict(), "met": None if row.target is None else row.met} for row in rows]
        report = {"machine": about, "versions": versions, "turns": turns, "rows": lines, "not_done": NOT_DONE}
        Path(arguments.json).write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    if arguments.svg:
        largest = [row for row in rows if row.documents == sizes[-1] or row.measure == "write, durable"]
        where = f"{about['python']}, {about['cpu']}, {about['file system']}"
        caption = f"{sizes[-1]:,} documents; {where}; median, min, max; green: the target"
        Path(arguments.svg).write_text(draw_svg(largest, caption), encoding="utf-8")


if __name__ == "__main__":
    main()

"""docid beside what a user would pick instead, and beside the bare calls, each doing the same work in one run.

Ids, writes, reads, listings, checks of a whole store, and task tables. In every turn each contender does the same work
on the same names, one after the other in one process, so that noise hits all alike; the figures are the median, least
and most of the turns' ratios, docid's speed / the other's: above 1 docid is ahead. What is read is in the system's
cache, and compared with what was written. Nothing is remembered from turn to turn: projects, caches and stores are
opened anew, outside of the time. Absolute rates are of this machine at this moment.

Every document is a record and three texts, 7 kB of ASCII in all. The time of a write begins with the task id and the
texts: whoever makes an id of them, or an object, does it in that time. Writes that sync are apart from those that do
not.
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
BARE_RECORD = b"m" * 770  # about as long as docid's
NAMESPACE = uuid.UUID("9a1d0f5e-0f6c-4d7e-9d0c-5a2f6f0a1b2c")

ORDER = random.Random(9)
PACKAGES = ("docid-store", "attrs", "orjson", "signac", "joblib", "diskcache", "polars")
SAMPLE = 1000  # so many documents are read, and so many ids made, in a turn at the most
FEW, FEW_TURNS = 10_000, 3  # with more documents, wholes and tables are measured in so many turns
HUGE = 1_000_000  # from here on docid, signac and the bare calls alone: all together would be 30 million files
READ = os.O_RDONLY
BELOW = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL

# By measure and contender: what docid aims at, its speed / the other's, by the median.
TARGETS = {
    ("ids", "str(uuid.uuid5)"): 2.0,
    ("ids", "signac, calc_id"): 2.0,
    ("write, not durable", "signac, init and three files"): 1.0,
    ("read", "bare reads"): 0.7,
    ("read", "bare reads, decoded and parsed"): 0.7,
    ("open a record", "bare open, read, orjson.loads"): 0.6,
    ("check a store", "signac, check"): 2.0,
}
FLOORS = ("bare", "sha256", "csv")  # these are no alternatives: what they leave out is in NOT_DONE
EXTRA = {"audit, verify"}  # does more than was asked for: it has no target

NOT_DONE = {
    "the bare calls": "look at nothing that is there, hash nothing, lock nothing, and know no second writer.",
    "a file at a time": "(temporary name, rename) keeps every file whole and no document; a second write takes the "
    "place of the first; nothing is checked.",
    "signac": "writes the user's files in place, syncs nothing, and has no durable mode; a second write wins silently; "
    "`check` compares state points with job ids and looks at no other file and no hash.",
    "joblib.Memory": "keeps pickles under a hash of the arguments, forgets them when the function's source changes, "
    "syncs nothing and only warns where a write fails; names cannot be listed, a record cannot be had alone, "
    "nothing is checked.",
    "diskcache": "is one SQLite database of pickles, without files to read; a commit is not synced unless "
    "`sqlite_synchronous` is 2, as it is among the durable writes here: one sync a document then, where four files "
    "and two directories take six; a record cannot be had alone; `check` is about the database and holds no value "
    "against a hash.",
    "polars and csv": "check no cell and keep no lineage; polars holds the whole table, and uses all processors.",
    "uuid5, calc_id, sha256": "take any text: blanks at an end, control characters and unnormalised text give ids too.",
}


# --- who keeps documents ---------------------------------------------------------------------------------------------


class Docid:
    """docid. Its names are the doc ids, which the rows of a task table hold."""

    inodes = 5

    def __init__(self, root: str, *, durable: bool = False) -> None:
        self.store = DocsStore(root, durability="full" if durable else "none")

    def document(self, task_id: str) -> Document:
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
            self.store.write(self.document(task_id))

    def write_many(self, task_ids: Sequence[str]) -> None:
        self.store.write_many(map(self.document, task_ids))

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
    """The system calls, and nothing else. What it reads is docid's store: the same files."""

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
        """Read the bytes and let them go: less than the others do. To keep them would cost it memory of its own."""
        return sum(len(self._contents(name)) for name in names)

    @staticmethod
    def _contents(name: str) -> list[bytes]:
        contents = []
        for file in (RECORD, *FILES):
            fd = os.open(f"{name}/{file}", READ)
            contents.append(os.read(fd, 1 << 16))
            os.close(fd)
        return contents

    def read(self, names: Sequence[str]) -> list[tuple[Any, ...]]:
        found = []
        for name in names:
            record, raw, parsed, prompt = self._contents(name)
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
        """Open records as docid has to: no symbolic link is followed below the root, and all of the file is read."""
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
    """Each file by a temporary name and a rename, in the final directory, as plain writers and atomicwrites do."""

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
    """A job a document: the state point gives the id, the texts are files, the metadata is the job document."""

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
        """Check what docid's audit looks at as well: that every file is there, and has its size."""
        self.project.check()
        number = 0
        for job in self.project:
            for name, data in FILES.items():
                assert os.stat(job.fn(name)).st_size == len(data)
            number += 1
        return number


class SignacBare(Signac):
    """The same without a job document: the metadata is not kept."""

    inodes = 5
    document = False


def kept(_stage: str, _task_id: str, contents: object) -> object:
    """Stand for a model: joblib keeps what a call returns."""
    return contents


class Joblib:
    """A call of a function that is remembered: the arguments are the key, a pickle is the document."""

    inodes = 3

    def __init__(self, root: str) -> None:
        self.call = joblib.Memory(root, verbose=0).cache(kept, ignore=["contents"])

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
    """One value a document, in a SQLite database. It evicts nothing here, and syncs every commit where told to."""

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
    """Have a file written under a temporary name, and rename it."""
    temporary = path.with_name(f"{path.name}.tmp")
    write(temporary)
    if durable:
        sync(temporary)
    temporary.replace(path)


def sync(path: str | Path) -> None:
    fd = os.open(path, READ)
    os.fsync(fd)
    os.close(fd)


# --- what is measured ------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One line of the table: docid beside one other."""

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


HEADER = ("measure", "docid", "beside", "docid's rate/s", "its rate/s", "ratio", "min", "max", "target")


class Measure:
    """One measure: contenders, ours and others, and the seconds a document that they took in every turn."""

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
        """Time each contender once, in an order drawn by lot, and look at what it gives; `warm` does not count.

        By lot, since whoever comes behind one that has read the same files finds them in the processor's caches.
        """
        self.names = list(contenders)
        for name in ORDER.sample(self.names, len(self.names)):
            if "write" in self.title:
                os.sync()  # what others left to be written is not on this one's bill
            answer = None  # let go before the clock starts: it is megabytes, of the contender before
            start = time.perf_counter()
            answer = contenders[name]()
            taken = time.perf_counter() - start
            assert expected is None or name == "bare reads" or answer == expected, name
            if not warm:
                self.seconds.setdefault(name, []).append(taken / number)

    def rows(self) -> list[Row]:
        """Return the lines of the table."""
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
    """Measure the writes that sync, which are the disk's time whatever the size of a store."""
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


def makers_of(size: int) -> dict[str, Any]:
    few = ("write", "bare calls", "signac, init and three files")
    return MAKERS if size < HUGE else {title: MAKERS[title] for title in few}


def measure_stores(directory: str, size: int, turns: int) -> list[Row]:
    """Fill one store of each kind, a part of it in every turn; then read, list and check them."""
    makers = makers_of(size)
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

    homes: dict[str, Callable[[], Any]] = {
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
            homes[key] = partial(makers[title], f"{directory}/{title}")
    read = measure_reads(homes, names, turns)
    return [*measure.rows(), *read, *measure_wholes(homes, len(names), turns if size <= FEW else FEW_TURNS)]


def measure_reads(homes: Mapping[str, Callable[[], Any]], names: Sequence[str], turns: int) -> list[Row]:
    read = Measure("read", len(names), ("read",))
    opened = Measure("open a record", len(names), ("open",))
    for turn in range(turns + 1):
        sample = ORDER.sample(names, min(len(names), SAMPLE))
        expected = [(name, *TEXTS.values()) for name in sample]
        readers: dict[str, Callable[[], object]] = {}
        openers: dict[str, Callable[[], object]] = {}
        for key, make in homes.items():
            home = make()
            its = [home.name(name) for name in sample]
            # Brought to memory, where one of many files may not be any more: two read the same ones, and the first of
            # them would pay the disk for both.
            make().read(its)
            if key == "bare":
                readers["bare reads"] = partial(home.read_bytes, its)
            readers[{"docid": "read", "bare": "bare reads, decoded and parsed"}.get(key, key)] = partial(home.read, its)
            if hasattr(home, "open"):
                # Of its own: what signac has read once it does not read again.
                title = {"docid": "open", "bare": "bare open, read, orjson.loads"}.get(key, key)
                openers[title] = partial(make().open, its)
            if hasattr(home, "open_unlinked"):
                openers["bare, no link followed"] = partial(make().open_unlinked, its)
        for measure, contenders, right in ((read, readers, expected), (opened, openers, sample)):
            measure.turn(contenders, len(sample), right, warm=not turn)
    return [*read.rows(), *opened.rows()]


def measure_wholes(homes: Mapping[str, Callable[[], Any]], size: int, turns: int) -> list[Row]:
    listed = Measure("list names", size, ("ids",))
    checked = Measure("check a store", size, ("audit", "audit, verify"))
    times = max(1, FEW // size)

    def repeated(names: Callable[[], list[str]]) -> int:
        return sum(len(names()) for _ in range(times))

    for turn in range(turns + 1):
        listers: dict[str, Callable[[], object]] = {}
        checkers: dict[str, Callable[[], object]] = {}
        for key, make in homes.items():
            if hasattr(make(), "names"):
                listers[{"docid": "ids", "bare": "bare os.listdir"}.get(key, key)] = partial(repeated, make().names)
            if hasattr(make(), "check"):
                title = {"docid": "audit", "bare": "bare record and stats"}.get(key, f"{key}, check")
                checkers[title] = make().check
        checkers["audit, verify"] = homes["docid"]().verify
        checkers["signac, check and file sizes"] = homes["signac"]().check_files
        for measure, contenders, number in ((listed, listers, size * times), (checked, checkers, size)):
            measure.turn(contenders, number, number, warm=not turn)
    return [*listed.rows(), *checked.rows()]


def measure_tables(directory: str, size: int, turns: int) -> list[Row]:
    """Write and read a task table; all by a temporary name, a sync, a rename, and a sync of the directory."""
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
    written = Measure("write a table", size, ("write_tasks",))
    read = Measure("read a table", size, ("read_tasks",))
    for turn in range(turns + 1):
        for measure, contenders, right in ((written, writers, None), (read, readers, size)):
            measure.turn(contenders, size, right, warm=not turn)
    return [*written.rows(), *read.rows()]


# --- what is told ----------------------------------------------------------------------------------------------------


def machine(directory: str) -> dict[str, str]:
    """Return what the figures are of."""
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


def versions() -> dict[str, str]:
    return {**{name: version(name) for name in PACKAGES}, "sqlite": sqlite3.sqlite_version}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, in columns."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = (header, ["-" * width for width in widths], *rows)
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )


def summary(rows: Sequence[Row]) -> str:
    """Say where another is ahead, what became of the targets, and what the others do not do."""
    ahead = [row for row in rows if row.median < 1 and not row.is_floor]
    aimed = [row for row in rows if row.target is not None]
    missed = [row for row in aimed if not row.met]
    lines = ["Where a peer is ahead of docid, by the median:"]
    lines += [
        f"- {row.measure}, {row.documents:,}: {row.other} {1 / row.median:.2f} times as fast as {row.docid}"
        for row in ahead
    ] or ["- nowhere"]
    lines += ["", f"Targets, by the median: {len(aimed) - len(missed)} of {len(aimed)} met."]
    lines += [
        f"- missed: {row.measure}, {row.documents:,}: {row.docid} / {row.other} {row.median:.2f}, not {row.target}"
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


def svg(rows: Sequence[Row], about: str) -> str:
    """Return a plot of the ratios: a bar from 1 to the median, on a scale of powers, and a line from least to most."""
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


def needed(sizes: Sequence[int], directory: str) -> None:
    """Refuse what the file system has no room for, before anything is written."""
    files = sum(size * sum(make.inodes for make in makers_of(size).values()) for size in sizes)
    room = os.statvfs(directory)
    # A file of a few kB takes one or two blocks; the pickles and the database a little more.
    if files > room.f_favail > 0 or files * 4608 > room.f_bavail * room.f_frsize:
        sys.exit(
            f"{directory}: no room for {files:,} files and directories; give another --directory, or fewer documents"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 10_000, 100_000], help="documents of each store")
    parser.add_argument("--full", action="store_true", help="a million as well: 19 million files, 90 GB")
    parser.add_argument("--peers-turns", type=int, default=10)
    parser.add_argument("--directory", help="where the stores are (default: the temporary directory)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument("--svg", metavar="FILE", help="write a plot of the largest size there")
    arguments, _ = parser.parse_known_args()
    sizes = [*arguments.sizes, *([HUGE] if arguments.full else [])]
    turns = arguments.peers_turns
    # Nothing is deleted before the end: ext4 makes files slowly where others were deleted a moment ago.
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        needed(sizes, directory)
        about, used = machine(directory), versions()
        print(f"peers: {turns} turns; ratio: docid's speed / the other's, above 1 docid is ahead")
        for facts in (about, used):
            print("; ".join(f"{name} {value}" for name, value in facts.items()))
        rows: list[Row] = []
        for number, size in enumerate(sizes):
            started = time.perf_counter()
            root = f"{directory}/{size}"
            os.mkdir(root)
            told = measure_ids(size, turns)
            if number == 0:
                told += measure_durable(f"{root}/durable", size, turns)
            told += measure_stores(root, size, turns)
            told += measure_tables(root, size, turns if size <= FEW else FEW_TURNS)
            rows += told
            print(f"\n{size:,} documents ({time.perf_counter() - started:.0f} s)\n")
            print(table(HEADER, [row.cells() for row in told]), flush=True)
        print(f"\n{summary(rows)}")
    if arguments.json:
        lines = [{**row._asdict(), "met": None if row.target is None else row.met} for row in rows]
        report = {"machine": about, "versions": used, "turns": turns, "rows": lines, "not_done": NOT_DONE}
        Path(arguments.json).write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    if arguments.svg:
        largest = [row for row in rows if row.documents == sizes[-1] or row.measure == "write, durable"]
        where = f"{about['python']}, {about['cpu']}, {about['file system']}"
        caption = f"{sizes[-1]:,} documents; {where}; median, min, max; green: the target"
        Path(arguments.svg).write_text(svg(largest, caption), encoding="utf-8")


if __name__ == "__main__":
    main()

"""One fault at a time in real tables and a real store: the audit finds what the fault implies, and nothing else.

The table below was written before the audit was run; `docs/audit.md` holds the same one.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from docid import AuditReport, DocsStore, audit
from tests import unpack
from tests.conftest import ROOT

TABLES = {
    "draft": "draft_generation_tasks.csv",
    "essay": "essay_generation_tasks.csv",
    "evaluation": "evaluation_tasks.csv",
}
Cells = list[dict[str, str]]


class World:
    """Real tables and the store of their documents, to be spoilt; `rows` are cells as text."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = {stage: root / "tables" / name for stage, name in TABLES.items()}

    def rows(self, stage: str) -> Cells:
        with open(self.paths[stage], encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def put(self, stage: str, rows: Cells) -> None:
        with open(self.paths[stage], "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(
                file, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n"
            )
            writer.writeheader()
            writer.writerows(rows)

    def set(self, stage: str, number: int, **cells: str) -> str:
        """Set cells of a row; return its doc id."""
        rows = self.rows(stage)
        doc_id = rows[number]["doc_id"]
        rows[number].update(cells)
        self.put(stage, rows)
        return doc_id

    def document(self, stage: str, number: int) -> Path:
        return self.root / "docs" / stage / self.rows(stage)[number]["doc_id"]

    def edit(self, stage: str, number: int, **keys: Any) -> str:
        """Set keys of a record; return the doc id."""
        path = self.document(stage, number)
        record = json.loads((path / "metadata.json").read_text("utf-8"))
        (path / "metadata.json").write_text(json.dumps({**record, **keys}), encoding="utf-8")
        return path.name

    def audit(self, **options: Any) -> AuditReport:
        # What was touched a moment ago could be a writer's: here there is none.
        return audit(DocsStore(self.root / "docs"), self.paths, stale_after=0, **options)


def found(text: str) -> Counter[tuple[str, str]]:
    """Return what a cell of the table means: `code of STAGE`, several of them with commas between."""
    return Counter((code, stage) for code, stage in re.findall(r"([a-z-]+) of ([a-z]+)", text))


class Fault(NamedTuple):
    """A fault, what it implies in a store of the current format and in the old one, and how it is done.

    `done` returns the ids that a finding may be about.
    """

    name: str
    current: str
    old: str
    done: Callable[[World], set[str]]
    verify: bool = False


SAME = "the same"
NOTHING = "nothing"
FAULTS: list[Fault] = []


def fault(
    name: str, current: str, old: str = SAME, *, verify: bool = False
) -> Callable[[Callable[[World], Any]], None]:
    def add(done: Callable[[World], Any]) -> None:
        FAULTS.append(Fault(name, current, current if old == SAME else old, done, verify))

    return add


# --- in a table ------------------------------------------------------------------------------------------------


@fault("an essay row's parent swapped for another draft", "lineage-conflict of essay")
def _(world: World) -> Any:
    return {world.set("essay", 3, parent_doc_id=world.rows("draft")[9]["doc_id"])}


@fault("an essay row's parent set to an essay", "wrong-stage-parent of essay, lineage-conflict of essay")
def _(world: World) -> Any:
    return {world.set("essay", 3, parent_doc_id=world.rows("essay")[4]["doc_id"])}


@fault("an essay row's parent set to an unknown id", "missing-parent of essay, lineage-conflict of essay")
def _(world: World) -> Any:
    return {world.set("essay", 3, parent_doc_id="nowhere")}


@fault("a parent cell emptied", "missing-parent-id of evaluation")
def _(world: World) -> Any:
    return {world.set("evaluation", 7, parent_doc_id="")}


@fault("a parent cell with a path in it", "malformed-id of evaluation")
def _(world: World) -> Any:
    return {world.set("evaluation", 7, parent_doc_id="../essay/x")}


@fault("a row copied", "duplicate-doc-id of essay, duplicate-task-id of essay")
def _(world: World) -> Any:
    rows = world.rows("essay")
    world.put("essay", [*rows, rows[2]])
    return {rows[2]["doc_id"]}


@fault("one row's doc id copied into another row", "duplicate-doc-id of evaluation, orphan-document of evaluation")
def _(world: World) -> Any:
    doc_id = world.rows("evaluation")[5]["doc_id"]
    return {doc_id, world.set("evaluation", 8, doc_id=doc_id)}


@fault("one row's task id copied into another row", "duplicate-task-id of evaluation, lineage-conflict of evaluation")
def _(world: World) -> Any:
    task_id = world.rows("evaluation")[5]["evaluation_task_id"]
    return {world.set("evaluation", 8, evaluation_task_id=task_id)}


@fault("a doc id emptied", "missing-doc-id of evaluation, orphan-document of evaluation")
def _(world: World) -> Any:
    return {"", world.set("evaluation", 8, doc_id="")}


@fault("a doc id in upper case", "malformed-id of evaluation, orphan-document of evaluation")
def _(world: World) -> Any:
    doc_id = world.rows("evaluation")[8]["doc_id"]
    return {"", world.set("evaluation", 8, doc_id=doc_id.upper())}


@fault("a space after a task id", "malformed-id of draft")
def _(world: World) -> Any:
    return {world.set("draft", 8, draft_task_id=world.rows("draft")[8]["draft_task_id"] + " ")}


@fault("a row removed", "orphan-document of evaluation")
def _(world: World) -> Any:
    rows = world.rows("evaluation")
    world.put("evaluation", [*rows[:20], *rows[21:]])
    return {rows[20]["doc_id"]}


@fault("a row of a new task added", NOTHING)
def _(world: World) -> Any:
    rows = world.rows("draft")
    world.put("draft", [*rows, {**rows[0], "draft_task_id": "new", "doc_id": "new"}])
    return set()


@fault("a source that is not in the store", "missing-source of draft")
def _(world: World) -> Any:
    return {world.set("draft", 4, source_doc_id="nowhere")}


# --- in the store ----------------------------------------------------------------------------------------------


@fault("`raw.txt` cut in the middle", "torn-document of essay", NOTHING)
def _(world: World) -> Any:
    path = world.document("essay", 6)
    data = (path / "raw.txt").read_bytes()
    (path / "raw.txt").write_bytes(data[: len(data) // 2])
    return {path.name}


@fault("`raw.txt` removed", "torn-document of essay")
def _(world: World) -> Any:
    path = world.document("essay", 6)
    (path / "raw.txt").unlink()
    return {path.name}


@fault("`parsed.txt` removed", "torn-document of essay", NOTHING)
def _(world: World) -> Any:
    path = world.document("essay", 6)
    (path / "parsed.txt").unlink()
    return {path.name}


def _one_byte(world: World) -> set[str]:
    path = world.document("evaluation", 30)
    data = (path / "raw.txt").read_bytes()
    (path / "raw.txt").write_bytes(bytes([data[0] ^ 1]) + data[1:])
    return {path.name}


fault("one byte of `raw.txt` edited", NOTHING)(_one_byte)
fault("one byte of `raw.txt` edited, with `--verify`", "hash-mismatch of evaluation", NOTHING, verify=True)(_one_byte)


@fault("the record cut in the middle", "unreadable-record of draft")
def _(world: World) -> Any:
    path = world.document("draft", 2)
    data = (path / "metadata.json").read_bytes()
    (path / "metadata.json").write_bytes(data[: len(data) // 2])
    return {path.name}


@fault("the record removed", "uncommitted-directory of draft")
def _(world: World) -> Any:
    path = world.document("draft", 2)
    (path / "metadata.json").unlink()
    return {path.name}


@fault("the record's task id edited", "lineage-conflict of draft")
def _(world: World) -> Any:
    return {world.edit("draft", 2, task_id="another")}


@fault("the record's parent edited", "lineage-conflict of evaluation")
def _(world: World) -> Any:
    return {world.edit("evaluation", 2, parent_doc_id=world.rows("essay")[9]["doc_id"])}


@fault("the record set to a later major format", "unreadable-record of draft")
def _(world: World) -> Any:
    return {world.edit("draft", 2, format="docid/document/2")}


@fault("a draft removed, its essay kept", NOTHING)
def _(world: World) -> Any:
    shutil.rmtree(world.document("draft", 2))
    return set()


@fault("a draft removed, its row and its document", "missing-parent of essay")
def _(world: World) -> Any:
    shutil.rmtree(world.document("draft", 2))
    rows = world.rows("draft")
    world.put("draft", [*rows[:2], *rows[3:]])
    return {row["doc_id"] for row in world.rows("essay") if row["parent_doc_id"] == rows[2]["doc_id"]}


@fault("a document moved to another stage", "misplaced-document of draft", "orphan-document of draft")
def _(world: World) -> Any:
    path = world.document("essay", 6)
    path.rename(path.parents[1] / "draft" / path.name)
    return {path.name}


@fault("a document renamed", "misplaced-document of essay", "orphan-document of essay")
def _(world: World) -> Any:
    path = world.document("essay", 6)
    path.rename(path.with_name("renamed"))
    return {"renamed"}


@fault("a document renamed to an invalid doc id", "malformed-id of essay")
def _(world: World) -> Any:
    path = world.document("essay", 6)
    path.rename(path.with_name("Renamed"))
    return {""}


@fault("a file added to a document", "unlisted-file of draft")
def _(world: World) -> Any:
    path = world.document("draft", 11)
    (path / "notes.txt").write_text("mine")
    return {path.name}


@fault("a `parsed.txt` put into a document without one", "unlisted-file of evaluation", NOTHING)
def _(world: World) -> Any:
    path = next(
        path for n in range(60) if not (path := world.document("evaluation", n)).joinpath("parsed.txt").exists()
    )
    (path / "parsed.txt").write_text("7.0")
    return {path.name}


@fault("a writer killed in a create", "stale-temporary of essay")
def _(world: World) -> Any:
    path = world.document("essay", 0).with_name(".tmp-e9-0123456789abcdef")
    path.mkdir()
    (path / "raw.txt").write_text("half")
    return {"e9"}


@fault("a document replaced by a link to it", "unreadable-record of draft")
def _(world: World) -> Any:
    path = world.document("draft", 2)
    path.rename(world.root / "elsewhere")
    path.symlink_to(world.root / "elsewhere")
    return {path.name}


@fault("a file where a document should be", "unreadable-record of draft")
def _(world: World) -> Any:
    path = world.document("draft", 2)
    shutil.rmtree(path)
    path.write_text("x")
    return {path.name}


@fault("a file where a stage should be", "unreadable-record of evaluation")
def _(world: World) -> Any:
    path = world.document("evaluation", 0).parent
    shutil.rmtree(path)
    path.write_text("x")
    return {""}


# ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def worlds(daydreaming: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, World]:
    """The active tables and the unpacked store; and the same with the store's documents in the current format."""
    made = {kind: World(tmp_path_factory.mktemp(kind)) for kind in ("old", "current")}
    for world in made.values():
        # As new files: the data may be read-only.
        shutil.copytree(daydreaming / "tables" / "active", world.root / "tables", copy_function=shutil.copyfile)
        unpack(daydreaming / "docs-store.tar.gz", world.root)
    old = DocsStore(made["old"].root / "docs")
    shutil.rmtree(made["current"].root / "docs")
    current = DocsStore(made["current"].root / "docs", durability="none")
    for stage in old.stages:
        documents = [document.read() for document in old.documents(stage)]
        current.write_many([_current(document) for document in documents])
    return made


def _current(document: Any) -> Any:
    """Return an older document as one of today."""
    from docid import Document  # noqa: PLC0415 - beside what it makes

    names = ("stage", "doc_id", "task_id", "parent_doc_id", "raw_text", "parsed_text", "prompt_text", "metadata")
    return Document(**{name: getattr(document, name) for name in names})


@pytest.fixture(params=["current", "old"])
def world(request: pytest.FixtureRequest, worlds: dict[str, World], tmp_path: Path) -> World:
    shutil.copytree(worlds[request.param].root, tmp_path / request.param)
    return World(tmp_path / request.param)


def is_old(world: World) -> bool:
    return world.root.name == "old"


def test_without_a_fault_nothing_is_found_but_that_the_old_store_is_old(world: World) -> None:
    report = world.audit(verify=True)
    assert report.ok
    assert report.counts == ({"legacy-record": 90} if is_old(world) else {})
    assert report.stages["evaluation"].parsed_missing == 56
    assert [facts.written for facts in report.stages.values()] == [15, 15, 60]


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in FAULTS])
def test_a_fault_is_found_and_nothing_else_is(world: World, fault: Fault) -> None:
    before = Counter((finding.code, finding.where) for finding in world.audit().findings)
    about = fault.done(world)
    findings = world.audit(verify=fault.verify).findings
    new = [finding for finding in findings if finding.code != "legacy-record"]
    assert Counter((finding.code, finding.stage) for finding in new) == found(
        fault.old if is_old(world) else fault.current
    )
    assert {finding.doc_id for finding in new} <= about
    # Of the old records as many are said as can be read.
    places = Counter((finding.code, finding.where) for finding in findings if finding.code == "legacy-record")
    assert sum((before - places).values()) <= (60 if fault.name.endswith("stage should be") else 1)


def test_the_documentation_has_the_same_table() -> None:
    text = (ROOT / "docs" / "audit.md").read_text("utf-8")
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", text[text.index("| the fault |") :], re.MULTILINE)[1:]

    assert [tuple(row) for row in rows[: len(FAULTS)]] == [documented(fault) for fault in FAULTS]
    assert len(FAULTS) >= 25


def documented(fault: Fault) -> tuple[str, str, str]:
    def cell(text: str) -> str:
        return re.sub(r"([a-z-]+) of ([a-z]+)", r"`\1` of \2", text)

    return fault.name, cell(fault.current), SAME if fault.old == fault.current else cell(fault.old)

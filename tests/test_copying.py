"""Copies between backends: every byte, both ways, again after a kill, and never over another document."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, Document, InvalidName, Stages, StoreUnavailable, UnreadableDocument, audit
from docid.backends import LocalBackend, MemoryBackend
from docid.backends.objects import ObjectsBackend
from docid.cli import main
from docid.copying import copy
from docid.core.record import Record, nonce
from docid.store.backends.base import Stored
from tests import unpack
from tests.servers import Moto


def documents(store: DocsStore, number: int = 5) -> None:
    """Fill a store: drafts with all kinds of parts, an essay of each, some with a history."""
    for n in range(number):
        texts: dict[str, Any] = {"raw_text": f"text\r\n{n}\x00é", "prompt_text": "p" if n % 2 else None}
        store.write(Document(stage="draft", doc_id=f"d{n}", task_id=f"t-{n}", metadata={"n": n, "f": 1.5}, **texts))
        store.write(Document(stage="essay", doc_id=f"e{n}", task_id=f"t-{n}__x", parent_doc_id=f"d{n}", raw_text=""))
    for text in ("second", "third"):
        store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text=text), if_exists="replace")
    store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="third", run_id="r"), if_exists="replace")
    store.add_part("draft", "d1", "parsed", "p")


def files(root: Path, *, of_documents: bool = True) -> dict[str, bytes]:
    """Return the files of a local store: those of its documents, not those that hold their history."""
    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if not of_documents or name[0] != "."}


def outcomes(copied: Any) -> Counter[str]:
    return Counter(each.outcome for each in copied)


@pytest.fixture
def s3_store(s3: Moto) -> DocsStore:
    return DocsStore(s3.bucket(), options=s3.options())


def test_a_round_trip_gives_the_same_bytes_and_the_same_history(
    local: DocsStore, s3_store: DocsStore, tmp_path: Path
) -> None:
    documents(local)
    back = DocsStore(tmp_path / "back", durability="none")
    assert outcomes(copy(local, s3_store, verify=True)) == {"copied": 10}
    assert outcomes(copy(s3_store, back, verify=True)) == {"copied": 10}
    assert files(tmp_path / "back") == files(tmp_path / "docs")
    for store in (s3_store, back):
        assert list(store.history("draft", "d1")) == list(local.history("draft", "d1"))
        assert audit(store, verify=True).findings == ()
        assert outcomes(copy(local, store)) == {"same": 10}


def test_a_real_store_of_an_older_system_goes_there_and_back(
    daydreaming: Path, s3_store: DocsStore, tmp_path: Path
) -> None:
    unpack(daydreaming / "docs-store.tar.gz", tmp_path / "old")
    [root] = [path.parent for path in (tmp_path / "old").rglob("draft") if path.is_dir()]
    old, back = DocsStore(root), DocsStore(tmp_path / "back", durability="none")
    assert outcomes(copy(old, s3_store, verify=True)) == {"copied": 90}
    assert outcomes(copy(s3_store, back)) == {"copied": 90}
    kept = ("metadata.json", "raw.txt", "parsed.txt", "prompt.txt")
    before = {name: data for name, data in files(root).items() if name.endswith(kept)}
    assert files(tmp_path / "back") == before
    assert outcomes(copy(old, s3_store)) == {"same": 90}


@pytest.mark.parametrize("backends", [("memory", "objects"), ("objects", "objects"), ("local", "memory")])
def test_copy_works_between_any_two_backends(backends: tuple[str, str], tmp_path: Path) -> None:
    made: dict[str, Any] = {
        "memory": MemoryBackend,
        "objects": lambda: ObjectsBackend("memory://"),
        "local": lambda: LocalBackend(tmp_path),
    }
    source, target = (DocsStore(made[backend]()) for backend in backends)
    documents(source)
    assert outcomes(copy(source, target, only=["draft"])) == {"copied": 5}
    assert list(target.ids("essay")) == []
    assert outcomes(copy(source, target)) == {"copied": 5, "same": 5}
    assert [each.raw_text for each in target.history("draft", "d1")] == ["third", "third", "second", "text\r\n1\x00é"]


def test_newer_versions_are_copied_and_other_documents_refused(local: DocsStore) -> None:
    there = DocsStore(ObjectsBackend("memory://"))
    documents(local)
    list(copy(local, there))
    # An earlier version of a document is brought up to date, and what was there goes to history.
    local.write(Document(stage="draft", doc_id="d2", task_id="t-2", raw_text="anew"), if_exists="replace")
    local.add_part("draft", "d3", "parsed", "late")
    [one, two] = [each for each in copy(local, there) if each.outcome != "same"]
    assert {one.outcome, two.outcome} == {"updated"}
    assert [each.raw_text for each in there.history("draft", "d2")] == ["text\r\n2\x00é"]
    assert there.read("draft", "d3") == local.read("draft", "d3")
    # Not the other way round: there it is the later one.
    assert outcomes(copy(there, local)) == {"same": 10}
    there.write(Document(stage="draft", doc_id="d2", task_id="t-2", raw_text="later"), if_exists="replace")
    there.write(Document(stage="draft", doc_id="x1", task_id="mine", raw_text=""))
    local.write(Document(stage="draft", doc_id="x1", task_id="other", raw_text=""))
    local.write(Document(stage="draft", doc_id="x2", task_id="t", raw_text="", metadata={"a": 1}))
    there.write(Document(stage="draft", doc_id="x2", task_id="t", raw_text="", metadata={"a": 2}))
    before = there.read("draft", "d2")
    conflicts = {each.doc_id: each for each in copy(local, there) if each.outcome == "conflict"}
    assert sorted(conflicts) == ["d2", "x1", "x2"]
    assert "has other texts than" in conflicts["d2"].message
    assert "has task_id='mine'" in conflicts["x1"].message
    assert "expected task_id='other'" in conflicts["x1"].message
    assert "has the same texts as" in conflicts["x2"].message
    assert there.read("draft", "d2") == before


def test_damaged_documents_are_refused(local: DocsStore, tmp_path: Path) -> None:
    documents(local)
    root = tmp_path / "docs"
    (root / "draft" / "d0" / "raw.txt").write_bytes(b"\xc3")
    raw = root / "draft" / "d2" / "raw.txt"
    raw.write_text(raw.read_text("utf-8").swapcase(), "utf-8")
    (root / "draft" / "d3" / "metadata.json").write_text("{")
    (root / "draft" / "d4" / "notes.txt").write_text("no part of it")
    record = root / "essay" / "e0" / "metadata.json"
    record.write_text(record.read_text().replace('"files": {', '"files": {"audio.ogg": {"bytes": 1, "sha256": "x"},'))
    (root / "essay" / "e1" / "metadata.json").write_text('{"texts": 1}')
    (root / "essay" / "e2" / "raw.txt").write_bytes(b"\xff")
    (root / "essay" / "e2" / "metadata.json").write_text("{}")
    there = DocsStore(ObjectsBackend("memory://"))
    for _ in range(2):
        refused = {each.doc_id: each.message for each in copy(local, there) if each.outcome == "refused"}
        assert sorted(refused) == ["d0", "d2", "d3", "e0", "e2"]
        assert "audio.ogg" in refused["e0"]
    stored = there.backend.load("essay", "e1")
    assert stored is not None
    assert stored.record == (root / "essay" / "e1" / "metadata.json").read_bytes()
    assert sorted(there.ids("draft")) == ["d1", "d4"]
    assert there.open("draft", "d4").sizes == local.open("draft", "d4").sizes
    # A history that is damaged does not keep the document back.
    entry = next(path for path in (root / ".docid" / "history" / "draft" / "d1").iterdir() if path.is_dir())
    (entry / "metadata.json").write_text("{")
    again = DocsStore(ObjectsBackend("memory://"))
    [told] = [each for each in copy(local, again, only=["draft"]) if each.doc_id == "d1"]
    assert told.outcome == "copied"
    assert "history incomplete, " in told.message
    assert again.read("draft", "d1") == local.read("draft", "d1")


def test_settings(local: DocsStore, tmp_path: Path) -> None:
    documents(local)
    there = DocsStore(tmp_path / "there", durability="none")
    planned = list(copy(local, there, dry_run=True))
    assert outcomes(planned) == {"copied": 10}
    assert not any(each.done for each in planned)
    assert not (tmp_path / "there").exists()
    changes = list(copy(local, there, history=False))
    assert outcomes(changes) == {"copied": 10}
    assert all(each.done for each in changes)
    assert changes[0].location == there.backend.location("draft", changes[0].doc_id)
    assert list(there.history("draft", "d1")) == []
    local.write(Document(stage="draft", doc_id="d2", task_id="t-2", raw_text="anew"), if_exists="replace")
    assert outcomes(copy(local, there, dry_run=True)) == {"same": 9, "updated": 1}
    assert there.read("draft", "d2").raw_text != "anew"
    with pytest.raises(InvalidName):
        copy(local, there, only=["other"])
    with pytest.raises(InvalidName):
        copy(local, DocsStore(ObjectsBackend("memory://"), stages=Stages.chain("draft")))


def test_verify_refuses_a_document_that_reads_back_differently(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents(local, 2)
    backend = ObjectsBackend("memory://")
    there = DocsStore(backend)
    create = backend.create
    monkeypatch.setattr(backend, "create", lambda stage, doc_id, record, parts: create(stage, doc_id, record, {}))
    [told] = [each for each in copy(local, there, verify=True) if each.doc_id == "d0"]
    assert told.outcome == "refused"
    assert "differs from the data that the copy wrote" in told.message


def test_other_writers_in_the_target_are_conflicts(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    documents(local, 2)
    # Another copy has been here between the first look and the write.
    there = DocsStore(ObjectsBackend("memory://"))
    list(copy(local, there, only=["draft"]))
    monkeypatch.setattr(there.backend, "ids", lambda _: iter(()))
    # (An object that is there with these very bytes is taken for its own.)
    assert outcomes(copy(local, there, only=["draft"])) == {"copied": 2}
    memory = DocsStore(MemoryBackend())
    list(copy(local, memory, only=["draft"]))
    monkeypatch.setattr(memory.backend, "ids", lambda _: iter(()))
    assert outcomes(copy(local, memory, only=["draft"])) == {"same": 2}
    # One that changes all the time, or goes.
    local.write(Document(stage="draft", doc_id="d0", task_id="t-0", raw_text="anew"), if_exists="replace")
    monkeypatch.setattr(there.backend, "replace", lambda *_: False)
    monkeypatch.setattr(there.backend, "amend", lambda *_: False)
    told = {each.doc_id: each for each in copy(local, there, only=["draft"])}
    assert "another writer changed it during the copy" in told["d0"].message
    monkeypatch.setattr(there.backend, "load", lambda *_: None)
    assert "another writer changed it" in next(copy(local, there, only=["draft"])).message
    # What vanishes from the source meanwhile is passed over.
    monkeypatch.setattr(local.backend, "ids", lambda _: iter(["gone"]))
    assert list(copy(local, there)) == []


def test_a_failing_backend_ends_the_copy_and_another_run_goes_on(
    local: DocsStore, s3_store: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents(local, 120)
    backend = s3_store.backend
    create, calls = backend.create, Counter[str]()

    def failing(stage: str, doc_id: str, record: bytes, parts: Any) -> bool:
        calls["create"] += 1
        if calls["create"] > 150:
            raise StoreUnavailable("write", doc_id, "the line is cut", "mend it")
        return create(stage, doc_id, record, parts)

    monkeypatch.setattr(backend, "create", failing)
    with pytest.raises(StoreUnavailable, match="the line is cut"):
        list(copy(local, s3_store))
    monkeypatch.undo()
    told = outcomes(copy(local, s3_store))
    assert told.total() == 240
    assert told["same"] + told["copied"] == 240
    assert told["same"] >= 150
    assert outcomes(copy(local, s3_store)) == {"same": 240}


def test_a_copy_that_is_killed_is_run_again(local: DocsStore, s3: Moto, tmp_path: Path) -> None:
    number = 600
    local.write_many(
        Document(stage="draft", doc_id=f"d{n}", task_id=f"t-{n}", raw_text="x" * 1000) for n in range(number)
    )
    url, environment = s3.bucket(), {**os.environ, **s3.environment()}
    command = [sys.executable, "-W", "ignore", "-m", "docid", "copy", str(tmp_path / "docs"), url]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    there = DocsStore(url, options=s3.options())
    while process.poll() is None and sum(1 for _ in there.ids("draft")) < 20:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = sum(1 for _ in there.ids("draft"))
    assert 20 <= found < number
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    told = re.fullmatch(r"draft: ([0-9,]+) copied, ([0-9,]+) same\n", done.stdout)
    assert told is not None
    assert sum(int(count.replace(",", "")) for count in told.groups()) == number
    assert audit(there, verify=True).stages["draft"].documents == number


# --- the command -----------------------------------------------------------------------------------------------


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["copy", *map(str, arguments)])
    out, err = capfd.readouterr()
    return code, out, err


def test_the_command_between_a_directory_and_a_bucket(
    local: DocsStore, s3: Moto, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    documents(local)
    docs, url = tmp_path / "docs", s3.bucket()
    assert run(capfd, docs, url, "--dry-run") == (
        0,
        "draft: 5 copied\nessay: 5 copied\ndry run: no document was copied\n",
        "",
    )
    assert run(capfd, docs, url, "--in-flight", 4) == (0, "draft: 5 copied\nessay: 5 copied\n", "")
    assert run(capfd, docs, url, "--stage", "draft") == (0, "draft: 5 same\n", "")
    assert run(capfd, url, tmp_path / "back", "--verify")[0] == 0
    assert files(tmp_path / "back") == files(docs)
    there = DocsStore(url)
    there.write(Document(stage="draft", doc_id="d0", task_id="t-0", raw_text="other"), if_exists="replace")
    code, out, err = run(capfd, docs, url, "--no-history")
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        f"conflict: draft/d0 (task_id='t-0'): {url}/draft/d0.json has other texts than {docs}/draft/d0, and is "
        "not an earlier version of it",
        "draft: 4 same, 1 conflict",
        "essay: 5 same",
    ]
    code, out, _ = run(capfd, docs, url, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 10
    assert lines[0].keys() == {"outcome", "stage", "doc_id", "task_id", "message"}
    assert run(capfd, tmp_path / "none", url) == (
        2,
        "",
        f"docid: no store at {tmp_path / 'none'}: no such directory\n",
    )
    (tmp_path / "file").write_text("")
    assert "not a directory" in run(capfd, docs, tmp_path / "file")[2]
    with pytest.raises(SystemExit):
        run(capfd, docs, url, "--in-flight", 0)
    assert "--in-flight: '0': expected a number of requests, at least 1" in capfd.readouterr().err
    assert run(capfd, "s3://no-such-bucket/x", tmp_path / "y")[0] == 2
    (tmp_path / "empty").mkdir()
    assert run(capfd, tmp_path / "empty", url) == (
        0,
        "no documents\n",
        f"docid: {tmp_path}/empty has no directory of stage draft, essay, evaluation; docid treats it as an empty store\n",
    )


def test_the_other_commands_take_a_url_too(
    s3: Moto, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    url = s3.bucket()
    documents(DocsStore(url))
    monkeypatch.setenv("DOCID_STORE", url)
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str, code: int = 0) -> str:
        assert main(list(arguments)) == code
        return capfd.readouterr().out

    assert len(command("ls", "draft").splitlines()) == 5
    assert f"{url}/draft/d1.json" in command("show", "draft/d1")
    assert command("show", "draft/d0", "--raw") == "text\r\n0\x00é"
    assert "0 errors, 0 warnings" in command("audit", "--verify", "--store", url)
    assert "0 errors, 0 warnings" in command("audit", "--jobs", "2", "--store", url)
    for where, exists in ((url, True), (f"{url}/nothing", False)):
        summary = json.loads(command("audit", "--json", "--store", where).splitlines()[-1])["summary"]
        assert summary["store"] == {"location": where, "exists": exists}
    assert command("repair") == "nothing to repair\n"
    command("scores", "-o", "scores.csv")
    assert Path("scores.csv").read_text().startswith("doc_id")
    assert "1 row of stage draft" in command("replay", "draft/d1", "-o", "draft_tasks.csv")
    Path("essay_tasks.csv").write_text("essay_task_id,doc_id,parent_doc_id\nt-1__x,,\n")
    command("link", "essay_tasks.csv")
    assert "t-1__x,e1,d1" in Path("essay_tasks.csv").read_text()
    Path("draft_tasks.csv").write_text("draft_task_id,doc_id,combo_id\nt-1,d1,tides\n")
    command("backfill", "--set", "combo_id", "--from", "draft_tasks.csv:combo_id")
    assert DocsStore(url).open("draft", "d1").metadata["combo_id"] == "tides"
    DocsStore(url).backend.create(
        "draft", "old", b'{"task_id": "t-old", "created_at": "2024-01-01T00:00:00Z"}', {"raw.txt": b"x"}
    )
    command("migrate", "--apply")
    assert DocsStore(url).read("draft", "old", verify=True).task_id == "t-old"
    assert not DocsStore(url).open("draft", "old").legacy
    assert main(["ls", "--store", "memory://", "draft"]) == 2
    assert "a memory store ends with its process; expected a directory" in capfd.readouterr().err
    monkeypatch.setitem(sys.modules, "obstore", None)
    for module in ("bucket", "backend"):
        monkeypatch.delitem(sys.modules, f"docid.store.backends.objects.{module}", raising=False)
    assert main(["ls", "draft"]) == 2
    assert capfd.readouterr().err == "docid: a store at a URL needs obstore: pip install 'docid-store[objects]'\n"


def test_unusable_documents_in_the_target_are_conflicts(local: DocsStore, tmp_path: Path) -> None:
    documents(local)
    there = DocsStore(tmp_path / "there", durability="none")
    assert outcomes(copy(local, there, only=["draft"])) == {"copied": 5}
    shutil.rmtree(tmp_path / "there" / "draft" / "d0")
    (tmp_path / "there" / "draft" / "d0").mkdir()
    (tmp_path / "there" / "draft" / "d0" / "raw.txt").write_text("half")
    (tmp_path / "there" / "draft" / "d2" / "metadata.json").write_text("{")
    told = {each.doc_id: each for each in copy(local, there, only=["draft"]) if each.outcome == "conflict"}
    assert sorted(told) == ["d0", "d2"]
    assert "cannot be used" in told["d0"].message
    (tmp_path / "other" / "draft").mkdir(parents=True)
    (tmp_path / "other" / "draft" / "d0").write_text("a file, where nothing is listed")
    told = {each.doc_id: each for each in copy(local, DocsStore(tmp_path / "other"), only=["draft"])}
    assert [doc_id for doc_id, each in told.items() if each.outcome == "conflict"] == ["d0"]


@pytest.mark.parametrize("inside", ["", "sub", "draft/sub", "link"])
def test_a_store_is_not_copied_into_itself(tmp_path: Path, inside: str) -> None:
    (tmp_path / "docs" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "docs" / "sub")
    place = tmp_path / "link" if inside == "link" else tmp_path / "docs" / inside
    for one, other in ((tmp_path / "docs", place), (place, tmp_path / "docs")):
        with pytest.raises(ValueError, match="overlap; expected two separate directories"):
            copy(DocsStore(one), DocsStore(other))
    assert list(copy(DocsStore(tmp_path / "docs"), DocsStore(tmp_path / "docs2"))) == []


class Unreadable(MemoryBackend):
    """A backend that may not read a document, or its history."""

    def __init__(self, error: OSError, call: str) -> None:
        super().__init__()
        self.error = error
        self.call = call

    def load(self, stage: str, doc_id: str, files: Collection[str] = ()) -> Stored | None:
        if self.call == "load" and doc_id == "d1":
            raise self.error
        return super().load(stage, doc_id, files)

    def history(self, stage: str, doc_id: str, files: Collection[str] = ()) -> Iterator[Stored]:
        if self.call == "history" and doc_id == "d1":
            raise self.error
        return super().history(stage, doc_id, files)


@pytest.mark.parametrize("call", ["load", "history"])
def test_an_unreadable_document_is_refused_and_the_others_are_copied(call: str) -> None:
    backend = Unreadable(PermissionError(errno.EACCES, "not allowed", "docs/draft/d1"), "")
    documents(DocsStore(backend))
    backend.call = call
    told = {
        each.doc_id: each for each in copy(DocsStore(backend), DocsStore(ObjectsBackend("memory://")), only=["draft"])
    }
    assert outcomes(iter(told.values())) == ({"copied": 4, "refused": 1} if call == "load" else {"copied": 5})
    assert "not allowed: 'docs/draft/d1'" in told["d1"].message
    assert ("history incomplete" in told["d1"].message) == (call == "history")


@pytest.mark.parametrize("call", ["load", "history"])
def test_a_store_that_does_not_answer_ends_the_copy(call: str) -> None:
    backend = Unreadable(StoreUnavailable("read", "s3://b", "the line is cut", "mend it"), "")
    documents(DocsStore(backend))
    backend.call = call
    with pytest.raises(StoreUnavailable, match="the line is cut"):
        list(copy(DocsStore(backend), DocsStore(ObjectsBackend("memory://")), only=["draft"]))


def test_history_of_another_lineage_is_not_a_documents_own(local: DocsStore, tmp_path: Path) -> None:
    local.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="1"))
    local.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="2"), if_exists="replace")
    shutil.rmtree(tmp_path / "docs" / "draft" / "d1")
    local.write(Document(stage="draft", doc_id="d1", task_id="another", raw_text="3"))
    there = DocsStore(ObjectsBackend("memory://"))
    assert outcomes(copy(local, there)) == {"copied": 1}
    assert list(there.history("draft", "d1")) == []


def test_earlier_versions_are_known_without_copying_history(local: DocsStore) -> None:
    documents(local)
    there = DocsStore(ObjectsBackend("memory://"))
    list(copy(local, there, history=False))
    for text in ("anew", "and anew"):
        local.write(Document(stage="draft", doc_id="d2", task_id="t-2", raw_text=text), if_exists="replace")
    assert outcomes(copy(local, there, history=False, dry_run=True)) == {"same": 9, "updated": 1}
    assert outcomes(copy(local, there, history=False)) == {"same": 9, "updated": 1}
    assert there.read("draft", "d2").raw_text == "and anew"
    assert len(list(there.history("draft", "d2"))) == 1  # the version that was there


def test_a_version_that_the_target_cannot_hold_does_not_keep_the_last_one_back(local: DocsStore) -> None:
    backend = local.backend
    old = b'{"task_id": "t-1"}'
    assert backend.create("draft", "d1", old, {"raw.txt": b"\xff", "parsed.txt": b"p"})
    assert [each.outcome for each in copy(local, DocsStore(ObjectsBackend("memory://")), dry_run=True)] == ["refused"]
    assert [each.outcome for each in copy(local, DocsStore(ObjectsBackend("memory://")))] == ["refused"]
    document = Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="x")
    record, parts = Record.from_document(document, nonce())
    assert backend.replace("draft", "d1", old, record.to_bytes(), parts)
    [told] = copy(local, DocsStore(ObjectsBackend("memory://")))
    assert (told.outcome, "history incomplete" in told.message) == ("copied", True)


def test_of_two_copies_at_once_the_slower_says_to_run_it_again(local: DocsStore) -> None:
    documents(local, 2)
    there = DocsStore(ObjectsBackend("memory://"))
    list(copy(local, there))
    for text in ("2", "3", "4"):
        local.write(Document(stage="draft", doc_id="d0", task_id="t-0", raw_text=text), if_exists="replace")
    backend = there.backend
    replace = backend.replace

    def beside(*arguments: Any) -> bool:
        backend.replace = replace  # type: ignore[method-assign]
        assert outcomes(copy(local, there))["conflict"] == 0
        return replace(*arguments)

    backend.replace = beside  # type: ignore[method-assign, assignment]
    [conflict] = [each for each in copy(local, there) if each.outcome == "conflict"]
    assert (conflict.doc_id, conflict.done) == ("d0", False)
    assert "another writer changed it during the copy; copy it again" in conflict.message
    assert outcomes(copy(local, there)) == {"same": 4}
    assert [each.raw_text for each in there.history("draft", "d0")][:2] == ["3", "2"]


def test_a_stage_that_is_named_twice_and_an_id_that_is_listed_twice(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents(local, 1)
    monkeypatch.setattr(local.backend, "ids", lambda _: iter(["d0", "d0"]))
    assert outcomes(copy(local, DocsStore(ObjectsBackend("memory://")), only=["draft", "draft"])) == {"copied": 1}


def test_a_file_url_is_its_directory(local: DocsStore, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    documents(local)
    assert run(capfd, f"file://{tmp_path}/docs", f"file://{tmp_path}/a%20b")[0] == 0
    assert files(tmp_path / "a b") == files(tmp_path / "docs")
    assert "no such directory" in run(capfd, "file:///no/such", tmp_path)[2]
    assert main(["ls", "--store", f"file://{tmp_path}/docs", "draft"]) == 0


def test_something_else_where_a_document_is_created_is_a_conflict(
    local: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents(local, 2)
    there = DocsStore(MemoryBackend())
    create = there.backend.create

    def refusing(stage: str, doc_id: str, record: bytes, parts: Any) -> bool:
        if doc_id == "d0":
            raise UnreadableDocument(stage, doc_id, "draft/d0", "a tool has left something there")
        return create(stage, doc_id, record, parts)

    monkeypatch.setattr(there.backend, "create", refusing)
    told = {each.doc_id: each for each in copy(local, there, only=["draft"])}
    assert (told["d0"].outcome, told["d1"].outcome) == ("conflict", "copied")
    assert "a tool has left something there" in told["d0"].message


def test_a_document_of_an_older_system_goes_from_directory_to_directory_byte_for_byte(
    local: DocsStore, tmp_path: Path
) -> None:
    old = Path(local.root, "draft", "old")
    old.mkdir(parents=True)
    (old / "metadata.json").write_bytes(b'{"task_id": "t-1", "cost": NaN}')
    (old / "raw.txt").write_bytes(b"once")
    there = DocsStore(tmp_path / "there", durability="none")
    assert outcomes(copy(local, there)) == {"copied": 1}
    assert files(Path(there.root)) == files(Path(local.root))

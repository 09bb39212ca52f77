"""Copies between backends: every byte, in both directions, resumed after a kill, never over another document."""

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


def fill_store(store: DocsStore, number: int = 5) -> None:
    """Write drafts with several parts, one essay per draft, and a history of one draft."""
    for n in range(number):
        texts: dict[str, Any] = {"raw_text": f"text\r\n{n}\x00é", "prompt_text": "p" if n % 2 else None}
        store.write(Document(stage="draft", doc_id=f"d{n}", task_id=f"t-{n}", metadata={"n": n, "f": 1.5}, **texts))
        store.write(Document(stage="essay", doc_id=f"e{n}", task_id=f"t-{n}__x", parent_doc_id=f"d{n}", raw_text=""))
    for text in ("second", "third"):
        store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text=text), if_exists="replace")
    store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="third", run_id="r"), if_exists="replace")
    store.add_part("draft", "d1", "parsed", "p")


def files(root: Path, *, of_documents: bool = True) -> dict[str, bytes]:
    """Return the files of a local store and their bytes; without history, unless `of_documents` is False."""
    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if not of_documents or name[0] != "."}


def count_outcomes(copied: Any) -> Counter[str]:
    return Counter(each.outcome for each in copied)


@pytest.fixture
def s3_store(s3: Moto) -> DocsStore:
    return DocsStore(s3.bucket(), options=s3.options())


def test_round_trip_keeps_bytes_and_history(local: DocsStore, s3_store: DocsStore, tmp_path: Path) -> None:
    fill_store(local)
    back = DocsStore(tmp_path / "back", durability="none")
    assert count_outcomes(copy(local, s3_store, verify=True)) == {"copied": 10}
    assert count_outcomes(copy(s3_store, back, verify=True)) == {"copied": 10}
    assert files(tmp_path / "back") == files(tmp_path / "docs")
    for store in (s3_store, back):
        assert list(store.history("draft", "d1")) == list(local.history("draft", "d1"))
        # The draft of e1 was replaced: copies keep the versions that documents were made from.
        report = audit(store, verify=True)
        assert [(each.code, each.doc_id) for each in report.findings] == [("parent-changed", "e1")]
        assert count_outcomes(copy(local, store)) == {"same": 10}


def test_round_trip_keeps_real_legacy_store(daydreaming: Path, s3_store: DocsStore, tmp_path: Path) -> None:
    unpack(daydreaming / "docs-store.tar.gz", tmp_path / "old")
    [root] = [path.parent for path in (tmp_path / "old").rglob("draft") if path.is_dir()]
    old, back = DocsStore(root), DocsStore(tmp_path / "back", durability="none")
    assert count_outcomes(copy(old, s3_store, verify=True)) == {"copied": 90}
    assert count_outcomes(copy(s3_store, back)) == {"copied": 90}
    kept = ("metadata.json", "raw.txt", "parsed.txt", "prompt.txt")
    before = {name: data for name, data in files(root).items() if name.endswith(kept)}
    assert files(tmp_path / "back") == before
    assert count_outcomes(copy(old, s3_store)) == {"same": 90}


@pytest.mark.parametrize("backends", [("memory", "objects"), ("objects", "objects"), ("local", "memory")])
def test_copy_works_between_any_two_backends(backends: tuple[str, str], tmp_path: Path) -> None:
    made: dict[str, Any] = {
        "memory": MemoryBackend,
        "objects": lambda: ObjectsBackend("memory://"),
        "local": lambda: LocalBackend(tmp_path),
    }
    source, target = (DocsStore(made[backend]()) for backend in backends)
    fill_store(source)
    assert count_outcomes(copy(source, target, only=["draft"])) == {"copied": 5}
    assert list(target.ids("essay")) == []
    assert count_outcomes(copy(source, target)) == {"copied": 5, "same": 5}
    assert [each.raw_text for each in target.history("draft", "d1")] == ["third", "third", "second", "text\r\n1\x00é"]


def test_newer_versions_are_copied_and_conflicts_reported(local: DocsStore) -> None:
    target = DocsStore(ObjectsBackend("memory://"))
    fill_store(local)
    list(copy(local, target))
    # An earlier version in the target is replaced, and goes to history.
    local.write(Document(stage="draft", doc_id="d2", task_id="t-2", raw_text="new"), if_exists="replace")
    local.add_part("draft", "d3", "parsed", "late")
    [one, two] = [each for each in copy(local, target) if each.outcome != "same"]
    assert {one.outcome, two.outcome} == {"updated"}
    assert [each.raw_text for each in target.history("draft", "d2")] == ["text\r\n2\x00é"]
    assert target.read("draft", "d3") == local.read("draft", "d3")
    # A copy back does not overwrite the later version.
    assert count_outcomes(copy(target, local)) == {"same": 10}
    target.write(Document(stage="draft", doc_id="d2", task_id="t-2", raw_text="later"), if_exists="replace")
    target.write(Document(stage="draft", doc_id="x1", task_id="mine", raw_text=""))
    local.write(Document(stage="draft", doc_id="x1", task_id="other", raw_text=""))
    local.write(Document(stage="draft", doc_id="x2", task_id="t", raw_text="", metadata={"a": 1}))
    target.write(Document(stage="draft", doc_id="x2", task_id="t", raw_text="", metadata={"a": 2}))
    before = target.read("draft", "d2")
    conflicts = {each.doc_id: each for each in copy(local, target) if each.outcome == "conflict"}
    assert sorted(conflicts) == ["d2", "x1", "x2"]
    assert "has other texts than" in conflicts["d2"].message
    assert "has task_id='mine'" in conflicts["x1"].message
    assert "expected task_id='other'" in conflicts["x1"].message
    assert "has the same texts as" in conflicts["x2"].message
    assert target.read("draft", "d2") == before


def test_damaged_documents_are_refused(local: DocsStore, tmp_path: Path) -> None:
    fill_store(local)
    root = tmp_path / "docs"
    (root / "draft" / "d0" / "raw.txt").write_bytes(b"\xc3")
    raw = root / "draft" / "d2" / "raw.txt"
    raw.write_text(raw.read_text("utf-8").swapcase(), "utf-8")
    (root / "draft" / "d3" / "metadata.json").write_text("{")
    (root / "draft" / "d4" / "notes.txt").write_text("not a part")
    record = root / "essay" / "e0" / "metadata.json"
    record.write_text(record.read_text().replace('"files": {', '"files": {"audio.ogg": {"bytes": 1, "sha256": "x"},'))
    (root / "essay" / "e1" / "metadata.json").write_text('{"texts": 1}')
    (root / "essay" / "e2" / "raw.txt").write_bytes(b"\xff")
    (root / "essay" / "e2" / "metadata.json").write_text("{}")
    target = DocsStore(ObjectsBackend("memory://"))
    for _ in range(2):
        refused = {each.doc_id: each.message for each in copy(local, target) if each.outcome == "refused"}
        assert sorted(refused) == ["d0", "d2", "d3", "e0", "e2"]
        assert "audio.ogg" in refused["e0"]
    stored = target.backend.load("essay", "e1")
    assert stored is not None
    assert stored.record == (root / "essay" / "e1" / "metadata.json").read_bytes()
    assert sorted(target.ids("draft")) == ["d1", "d4"]
    assert target.open("draft", "d4").sizes == local.open("draft", "d4").sizes
    # A damaged history does not stop the copy of its document.
    entry = next(path for path in (root / ".docid" / "history" / "draft" / "d1").iterdir() if path.is_dir())
    (entry / "metadata.json").write_text("{")
    again = DocsStore(ObjectsBackend("memory://"))
    [change] = [each for each in copy(local, again, only=["draft"]) if each.doc_id == "d1"]
    assert change.outcome == "copied"
    assert "history incomplete, " in change.message
    assert again.read("draft", "d1") == local.read("draft", "d1")


def test_copy_options(local: DocsStore, tmp_path: Path) -> None:
    fill_store(local)
    target = DocsStore(tmp_path / "there", durability="none")
    planned = list(copy(local, target, dry_run=True))
    assert count_outcomes(planned) == {"copied": 10}
    assert not any(each.done for each in planned)
    assert not (tmp_path / "there").exists()
    changes = list(copy(local, target, history=False))
    assert count_outcomes(changes) == {"copied": 10}
    assert all(each.done for each in changes)
    assert changes[0].location == target.backend.location("draft", changes[0].doc_id)
    assert list(target.history("draft", "d1")) == []
    local.write(Document(stage="draft", doc_id="d2", task_id="t-2", raw_text="new"), if_exists="replace")
    assert count_outcomes(copy(local, target, dry_run=True)) == {"same": 9, "updated": 1}
    assert target.read("draft", "d2").raw_text != "new"
    with pytest.raises(InvalidName):
        copy(local, target, only=["other"])
    with pytest.raises(InvalidName):
        copy(local, DocsStore(ObjectsBackend("memory://"), stages=Stages.chain("draft")))


def test_verify_refuses_changed_copy(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_store(local, 2)
    backend = ObjectsBackend("memory://")
    target = DocsStore(backend)
    create = backend.create
    monkeypatch.setattr(backend, "create", lambda stage, doc_id, record, parts: create(stage, doc_id, record, {}))
    [change] = [each for each in copy(local, target, verify=True) if each.doc_id == "d0"]
    assert change.outcome == "refused"
    assert "differs from the data that the copy wrote" in change.message


def test_concurrent_changes_of_target_are_conflicts(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_store(local, 2)
    # Another copy wrote the documents after this one listed the target.
    target = DocsStore(ObjectsBackend("memory://"))
    list(copy(local, target, only=["draft"]))
    monkeypatch.setattr(target.backend, "ids", lambda _: iter(()))
    # An existing object with the same bytes counts as copied by this run.
    assert count_outcomes(copy(local, target, only=["draft"])) == {"copied": 2}
    memory = DocsStore(MemoryBackend())
    list(copy(local, memory, only=["draft"]))
    monkeypatch.setattr(memory.backend, "ids", lambda _: iter(()))
    assert count_outcomes(copy(local, memory, only=["draft"])) == {"same": 2}
    # Another writer changes or deletes the document again and again.
    local.write(Document(stage="draft", doc_id="d0", task_id="t-0", raw_text="new"), if_exists="replace")
    monkeypatch.setattr(target.backend, "replace", lambda *_: False)
    monkeypatch.setattr(target.backend, "amend", lambda *_: False)
    changes = {each.doc_id: each for each in copy(local, target, only=["draft"])}
    assert "another writer changed it during the copy" in changes["d0"].message
    monkeypatch.setattr(target.backend, "load", lambda *_: None)
    assert "another writer changed it" in next(copy(local, target, only=["draft"])).message
    # A document that vanishes from the source during the copy is skipped.
    monkeypatch.setattr(local.backend, "ids", lambda _: iter(["gone"]))
    assert list(copy(local, target)) == []


def test_copy_resumes_after_backend_failure(
    local: DocsStore, s3_store: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_store(local, 120)
    backend = s3_store.backend
    create, calls = backend.create, Counter[str]()

    def fail_after_150(stage: str, doc_id: str, record: bytes, parts: Any) -> bool:
        calls["create"] += 1
        if calls["create"] > 150:
            raise StoreUnavailable("write", doc_id, "the line is cut", "try again")
        return create(stage, doc_id, record, parts)

    monkeypatch.setattr(backend, "create", fail_after_150)
    with pytest.raises(StoreUnavailable, match="the line is cut"):
        list(copy(local, s3_store))
    monkeypatch.undo()
    counts = count_outcomes(copy(local, s3_store))
    assert counts.total() == 240
    assert counts["same"] + counts["copied"] == 240
    assert counts["same"] >= 150
    assert count_outcomes(copy(local, s3_store)) == {"same": 240}


def test_copy_resumes_after_kill(local: DocsStore, s3: Moto, tmp_path: Path) -> None:
    number = 600
    local.write_many(
        Document(stage="draft", doc_id=f"d{n}", task_id=f"t-{n}", raw_text="x" * 1000) for n in range(number)
    )
    url, environment = s3.bucket(), {**os.environ, **s3.environment()}
    command = [sys.executable, "-W", "ignore", "-m", "docid", "copy", str(tmp_path / "docs"), url, "--new-store"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    target = DocsStore(url, options=s3.options())
    while process.poll() is None and sum(1 for _ in target.ids("draft")) < 20:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = sum(1 for _ in target.ids("draft"))
    assert 20 <= found < number
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    printed = re.fullmatch(r"draft: ([0-9,]+) copied, ([0-9,]+) same\n", done.stdout)
    assert printed is not None
    assert sum(int(count.replace(",", "")) for count in printed.groups()) == number
    assert audit(target, verify=True).stages["draft"].documents == number


# --- the command -----------------------------------------------------------------------------------------------


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["copy", *map(str, arguments)])
    out, err = capfd.readouterr()
    return code, out, err


def test_command_copies_between_directory_and_bucket(
    local: DocsStore, s3: Moto, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    fill_store(local)
    docs, url = tmp_path / "docs", s3.bucket()
    assert run(capfd, docs, url)[0] == 2
    assert run(capfd, docs, url, "--new-store", "--dry-run") == (
        0,
        "draft: 5 copied\nessay: 5 copied\ndry run: no document was copied\n",
        "",
    )
    assert run(capfd, docs, url, "--new-store", "--in-flight", 4) == (0, "draft: 5 copied\nessay: 5 copied\n", "")
    assert run(capfd, docs, url, "--stage", "draft") == (0, "draft: 5 same\n", "")
    assert run(capfd, url, tmp_path / "back", "--new-store", "--verify")[0] == 0
    assert files(tmp_path / "back") == files(docs)
    target = DocsStore(url)
    target.write(Document(stage="draft", doc_id="d0", task_id="t-0", raw_text="other"), if_exists="replace")
    code, out, err = run(capfd, docs, url, "--no-history")
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        f"conflict: draft/d0 (task_id='t-0'): {url}/draft/d0.json has other texts than {docs}/draft/d0, and is "
        "not an earlier version of it",
        "draft: 4 same, 1 in conflict",
        "essay: 5 same",
    ]
    code, out, _ = run(capfd, docs, url, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 10
    assert lines[0].keys() == {"outcome", "stage", "doc_id", "task_id", "message"}
    assert run(capfd, tmp_path / "none", url) == (
        2,
        "",
        f"docid: no store at {tmp_path / 'none'}: no such directory; check the path; 'docid stages --declare LIST "
        "--new-store' starts a store there\n",
    )
    (tmp_path / "file").write_text("")
    assert "not a directory" in run(capfd, docs, tmp_path / "file")[2]
    with pytest.raises(SystemExit):
        run(capfd, docs, url, "--in-flight", 0)
    assert "--in-flight: '0': expected a number of requests, at least 1" in capfd.readouterr().err
    assert run(capfd, "s3://no-such-bucket/x", tmp_path / "y", "--new-store")[0] == 2
    (tmp_path / "empty").mkdir()
    code, out, err = run(capfd, tmp_path / "empty", url)
    assert (code, out) == (2, "")
    assert err.startswith(f"docid: no store at {tmp_path}/empty: it is empty; check the path;")


def test_other_commands_accept_a_url(
    s3: Moto, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    url = s3.bucket()
    fill_store(DocsStore(url))
    monkeypatch.setenv("DOCID_STORE", url)
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str, code: int = 0) -> str:
        assert main(list(arguments)) == code
        return capfd.readouterr().out

    assert len(command("ls", "draft").splitlines()) == 5
    assert f"{url}/draft/d1.json" in command("show", "draft/d1")
    assert command("show", "draft/d0", "--raw") == "text\r\n0\x00é"
    assert "0 errors, 1 warning" in command("audit", "--verify", "--store", url)
    assert "0 errors, 1 warning" in command("audit", "--jobs", "2", "--store", url)
    assert "1 document made from another version" in command("audit", "--changed", "--store", url)
    command("audit", "--store", f"{url}/nothing", code=2)
    for where, exists in ((url, True), (f"{url}/nothing", False)):
        lines = command("audit", "--json", "--store", where, "--new-store").splitlines()
        summary = json.loads(lines[-1])["summary"]
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
    fill_store(local)
    target = DocsStore(tmp_path / "there", durability="none")
    assert count_outcomes(copy(local, target, only=["draft"])) == {"copied": 5}
    shutil.rmtree(tmp_path / "there" / "draft" / "d0")
    (tmp_path / "there" / "draft" / "d0").mkdir()
    (tmp_path / "there" / "draft" / "d0" / "raw.txt").write_text("half")
    (tmp_path / "there" / "draft" / "d2" / "metadata.json").write_text("{")
    changes = {each.doc_id: each for each in copy(local, target, only=["draft"]) if each.outcome == "conflict"}
    assert sorted(changes) == ["d0", "d2"]
    assert "cannot be used" in changes["d0"].message
    (tmp_path / "other" / "draft").mkdir(parents=True)
    (tmp_path / "other" / "draft" / "d0").write_text("a file instead of a directory")
    changes = {each.doc_id: each for each in copy(local, DocsStore(tmp_path / "other"), only=["draft"])}
    assert [doc_id for doc_id, each in changes.items() if each.outcome == "conflict"] == ["d0"]


@pytest.mark.parametrize("inside", ["", "sub", "draft/sub", "link"])
def test_store_is_not_copied_into_itself(tmp_path: Path, inside: str) -> None:
    (tmp_path / "docs" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "docs" / "sub")
    place = tmp_path / "link" if inside == "link" else tmp_path / "docs" / inside
    for one, other in ((tmp_path / "docs", place), (place, tmp_path / "docs")):
        with pytest.raises(ValueError, match="overlap; expected two separate directories"):
            copy(DocsStore(one), DocsStore(other))
    assert list(copy(DocsStore(tmp_path / "docs"), DocsStore(tmp_path / "docs2"))) == []


class Unreadable(MemoryBackend):
    """A backend that raises an error when d1, or its history, is read."""

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
def test_unreadable_document_does_not_stop_the_copy(call: str) -> None:
    backend = Unreadable(PermissionError(errno.EACCES, "not allowed", "docs/draft/d1"), "")
    fill_store(DocsStore(backend))
    backend.call = call
    changes = {
        each.doc_id: each for each in copy(DocsStore(backend), DocsStore(ObjectsBackend("memory://")), only=["draft"])
    }
    assert count_outcomes(iter(changes.values())) == ({"copied": 4, "refused": 1} if call == "load" else {"copied": 5})
    assert "not allowed: 'docs/draft/d1'" in changes["d1"].message
    assert ("history incomplete" in changes["d1"].message) == (call == "history")


@pytest.mark.parametrize("call", ["load", "history"])
def test_unavailable_store_ends_the_copy(call: str) -> None:
    backend = Unreadable(StoreUnavailable("read", "s3://b", "the line is cut", "try again"), "")
    fill_store(DocsStore(backend))
    backend.call = call
    with pytest.raises(StoreUnavailable, match="the line is cut"):
        list(copy(DocsStore(backend), DocsStore(ObjectsBackend("memory://")), only=["draft"]))


def test_history_of_another_lineage_is_not_copied(local: DocsStore, tmp_path: Path) -> None:
    local.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="1"))
    local.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="2"), if_exists="replace")
    shutil.rmtree(tmp_path / "docs" / "draft" / "d1")
    local.write(Document(stage="draft", doc_id="d1", task_id="another", raw_text="3"))
    target = DocsStore(ObjectsBackend("memory://"))
    assert count_outcomes(copy(local, target)) == {"copied": 1}
    assert list(target.history("draft", "d1")) == []


def test_update_recognises_earlier_version_without_history(local: DocsStore) -> None:
    fill_store(local)
    target = DocsStore(ObjectsBackend("memory://"))
    list(copy(local, target, history=False))
    for text in ("new", "newer"):
        local.write(Document(stage="draft", doc_id="d2", task_id="t-2", raw_text=text), if_exists="replace")
    assert count_outcomes(copy(local, target, history=False, dry_run=True)) == {"same": 9, "updated": 1}
    assert count_outcomes(copy(local, target, history=False)) == {"same": 9, "updated": 1}
    assert target.read("draft", "d2").raw_text == "newer"
    assert len(list(target.history("draft", "d2"))) == 1  # the replaced version


def test_uncopyable_old_version_does_not_stop_the_latest(local: DocsStore) -> None:
    backend = local.backend
    old = b'{"task_id": "t-1"}'
    assert backend.create("draft", "d1", old, {"raw.txt": b"\xff", "parsed.txt": b"p"})
    assert [each.outcome for each in copy(local, DocsStore(ObjectsBackend("memory://")), dry_run=True)] == ["refused"]
    assert [each.outcome for each in copy(local, DocsStore(ObjectsBackend("memory://")))] == ["refused"]
    document = Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="x")
    record, parts = Record.from_document(document, nonce())
    assert backend.replace("draft", "d1", old, record.to_bytes(), parts)
    [change] = copy(local, DocsStore(ObjectsBackend("memory://")))
    assert (change.outcome, "history incomplete" in change.message) == ("copied", True)


def test_slower_of_two_copies_reports_a_conflict(local: DocsStore) -> None:
    fill_store(local, 2)
    target = DocsStore(ObjectsBackend("memory://"))
    list(copy(local, target))
    for text in ("2", "3", "4"):
        local.write(Document(stage="draft", doc_id="d0", task_id="t-0", raw_text=text), if_exists="replace")
    backend = target.backend
    replace = backend.replace

    def copy_then_replace(*arguments: Any) -> bool:
        backend.replace = replace  # type: ignore[method-assign]
        assert count_outcomes(copy(local, target))["conflict"] == 0
        return replace(*arguments)

    backend.replace = copy_then_replace  # type: ignore[method-assign, assignment]
    [conflict] = [each for each in copy(local, target) if each.outcome == "conflict"]
    assert (conflict.doc_id, conflict.done) == ("d0", False)
    assert "another writer changed it during the copy; copy it again" in conflict.message
    assert count_outcomes(copy(local, target)) == {"same": 4}
    assert [each.raw_text for each in target.history("draft", "d0")][:2] == ["3", "2"]


def test_duplicate_stages_and_ids_are_copied_once(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_store(local, 1)
    monkeypatch.setattr(local.backend, "ids", lambda _: iter(["d0", "d0"]))
    assert count_outcomes(copy(local, DocsStore(ObjectsBackend("memory://")), only=["draft", "draft"])) == {"copied": 1}


def test_file_url_names_a_directory(local: DocsStore, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fill_store(local)
    assert run(capfd, f"file://{tmp_path}/docs", f"file://{tmp_path}/a%20b", "--new-store")[0] == 0
    assert files(tmp_path / "a b") == files(tmp_path / "docs")
    assert "no such directory" in run(capfd, "file:///no/such", tmp_path)[2]
    assert main(["ls", "--store", f"file://{tmp_path}/docs", "draft"]) == 0


def test_unreadable_target_document_is_a_conflict(local: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_store(local, 2)
    target = DocsStore(MemoryBackend())
    create = target.backend.create

    def refuse_d0(stage: str, doc_id: str, record: bytes, parts: Any) -> bool:
        if doc_id == "d0":
            raise UnreadableDocument(stage, doc_id, "draft/d0", "a tool has left something there")
        return create(stage, doc_id, record, parts)

    monkeypatch.setattr(target.backend, "create", refuse_d0)
    changes = {each.doc_id: each for each in copy(local, target, only=["draft"])}
    assert (changes["d0"].outcome, changes["d1"].outcome) == ("conflict", "copied")
    assert "a tool has left something there" in changes["d0"].message


def test_legacy_document_is_copied_byte_for_byte(local: DocsStore, tmp_path: Path) -> None:
    old = Path(local.root, "draft", "old")
    old.mkdir(parents=True)
    (old / "metadata.json").write_bytes(b'{"task_id": "t-1", "cost": NaN}')
    (old / "raw.txt").write_bytes(b"once")
    target = DocsStore(tmp_path / "there", durability="none")
    assert count_outcomes(copy(local, target)) == {"copied": 1}
    assert files(Path(target.root)) == files(Path(local.root))

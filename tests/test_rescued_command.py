"""`docid rescued` and `docid ls --claimed`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from docid import DocsStore, DraftTask, Reply
from docid.backends import Claim
from docid.cli import main
from tests.store_documents import draft

ROWS = [DraftTask(task_id=f"t-{number}", doc_id=f"a{number}") for number in range(3)]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DocsStore:
    """A store with a reply that waits (a0), a reply of a race (a1), and one that cannot be stored as it is (a2)."""
    monkeypatch.setenv("DOCID_RESCUE_DIR", str(tmp_path / "own"))
    store = DocsStore(tmp_path / "docs", durability="none")

    def lose_race(_: DraftTask) -> str:
        store.write(draft("a1", "t-1", raw_text="first"))
        return "second"

    with pytest.raises(ValueError, match="set"):
        store.ensure(ROWS[0], lambda row: Reply("paid", metadata={"k": {1}}))
    store.ensure(ROWS[1], lose_race)
    with pytest.raises(ValueError, match="surrogate"):
        store.ensure(ROWS[2], lambda row: "half \ud83d")
    return store


def run(store: DocsStore, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main([*arguments, "--store", store.root])
    found = capsys.readouterr()
    return code, found.out, found.err


def test_rescued_lists_replies_that_wait(store: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(store, capsys, "rescued")
    assert (code, [line.split("\t")[1] for line in out.splitlines()]) == (0, ["t-0", "t-2"])
    assert "not listed: 1 document that another worker stored first; use --all" in err
    code, out, err = run(store, capsys, "rescued", "--all")
    assert (code, len(out.splitlines()), err) == (0, 3, "")
    code, out, _ = run(store, capsys, "rescued", "--json")
    facts = [json.loads(line) for line in out.splitlines()]
    assert [(each["doc_id"], each["waiting"]) for each in facts] == [("a0", True), ("a2", True)]
    assert Path(facts[0]["location"]).exists()


def test_rescued_adopts_a_reply(store: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(store, capsys, "rescued", "--adopt", "draft/a0")[:2] == (0, "stored draft/a0 (task_id='t-0'): created\n")
    assert store.read("draft", "a0").metadata == {"k": {"type": "set", "repr": "{1}"}}
    code, out, err = run(store, capsys, "rescued", "--adopt", "a1", "--adopt", "a2")
    assert (code, out) == (1, "")
    assert "has other raw text" in err
    assert "lone surrogate" in err
    assert len(list(store.list_rescued())) == 2


def test_rescued_discards_a_reply(store: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(store, capsys, "rescued", "--discard", "a2", "--json")
    assert (code, json.loads(out)["outcome"]) == (0, "discarded")
    assert run(store, capsys, "rescued", "--discard", "a0")[1].startswith("deleted a reply for draft/a0")
    assert [each.doc_id for each in store.list_rescued()] == ["a1"]
    assert store.ensure(ROWS[2], lambda row: "again").outcome == "created"


def test_rescued_refuses_unknown_and_ambiguous_names(store: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a9", "essay/a0"):
        code, _, err = run(store, capsys, "rescued", "--adopt", "a0", "--adopt", name)
        assert (code, f"{name}: no such reply in" in err) == (2, True)
    assert not store.exists("draft", "a0")
    [name] = [each.name for each in store.list_rescued() if each.doc_id == "a0"]
    found = store.backend.read_file(f"rescued/draft/{name}.json")
    assert found is not None
    store.backend.write_file(f"rescued/draft/{name[:-1]}{'0' if name[-1] != '0' else '1'}.json", found.data)
    code, _, err = run(store, capsys, "rescued", "--discard", "a0")
    assert (code, "several replies: draft/a0-" in err) == (2, True)
    assert run(store, capsys, "rescued", "--discard", f"draft/{name}")[0] == 0


def test_ls_lists_claims(store: DocsStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(store, capsys, "ls", "--claimed") == (0, "", "")
    claims = [store.backend.take_claim("draft", doc_id) for doc_id in ("b2", "b1")]
    code, out, _ = run(store, capsys, "ls", "draft", "--claimed")
    assert (code, [line.split("\t")[0] for line in out.splitlines()]) == (0, ["draft/b1", "draft/b2"])
    assert " on " in out
    assert run(store, capsys, "ls", "--claimed", "--ids")[1] == "draft/b1\ndraft/b2\n"
    _, out, _ = run(store, capsys, "ls", "--claimed", "--json")
    assert json.loads(out.splitlines()[0]).keys() == {"stage", "doc_id", "host", "pid", "since"}
    for claim in claims:
        assert isinstance(claim, Claim)
        claim.release()

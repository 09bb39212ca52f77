"""The whole story: a parent is replaced, and everything that tells about its children says so."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from docid import DocsStore, Document, EssayTask, EvaluationTask, Stages, audit, read_tasks
from docid.backends import MemoryBackend
from docid.cli import main
from docid.copying import copy
from docid.curate import migrate, read_scores, scores, select
from docid.report import page
from tests.store_documents import draft, essay, put_legacy


def judge(store: DocsStore, score: str = "9") -> list[EvaluationTask]:
    """Store two drafts, two essays of each, and an evaluation of each essay; return the rows of the evaluations."""
    rows = []
    for name in ("1", "2"):
        store.write(draft(f"d{name}", task_id=f"d-{name}"))
        for version in ("a", "b"):
            doc_id = f"e{name}{version}"
            store.write(essay(doc_id, task_id=doc_id, parent=f"d{name}", raw_text=f"essay {doc_id}"))
            rows.append(EvaluationTask(task_id=f"{doc_id}__clarity", doc_id=f"v{name}{version}", parent_doc_id=doc_id))
    for row in rows:
        store.ensure(row, lambda _: score, parse=str.strip)
    return rows


def test_exactly_the_children_of_a_replaced_parent_are_flagged_and_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = DocsStore(tmp_path / "docs")
    rows = judge(store)
    assert audit(store, verify=True).findings == ()
    store.write(essay("e1a", task_id="e1a", parent="d1", raw_text="another essay"), if_exists="replace")

    # The audit flags exactly the evaluation of the replaced essay.
    report = audit(store, verify=True)
    [finding] = report.findings
    assert (finding.code, finding.stage, finding.doc_id, finding.level) == (
        "parent-changed",
        "evaluation",
        "v1a",
        "warning",
    )
    assert finding.message.startswith(
        "made from another version of its parent essay/e1a: the raw text in the store (made 2"
    )
    assert report.ok
    [changed] = report.changed
    assert (changed.doc_id, changed.role, changed.source, changed.parts) == ("v1a", "parent", "essay/e1a", "raw")
    assert changed.created_at < changed.changed_at

    # `docid audit --changed` is the table of what changed since.
    at = ("--store", str(tmp_path / "docs"))
    assert main(["audit", "--changed", "--csv", str(tmp_path / "changed.csv"), *at]) == 0
    header, line, _, total = capsys.readouterr().out.splitlines()
    assert header.split() == ["document", "made", "from", "changed", "parts", "task"]
    assert line.startswith("evaluation/v1a  ")
    assert "parent essay/e1a" in line
    assert total == "1 document made from another version of a parent or an input"
    [row] = csv.DictReader(io.StringIO((tmp_path / "changed.csv").read_text()))
    assert row == {key: value or "" for key, value in changed._asdict().items()}
    assert main(["audit", "--changed", "--json", "--fail-on", "warning", *at]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[0]) == changed._asdict()

    # Scores show it, and the selection leaves the score out and says why.
    assert main(["scores", "-o", str(tmp_path / "scores.csv"), *at]) == 0
    assert "given for another version of the document: 1" in capsys.readouterr().out
    found = list(read_scores(tmp_path / "scores.csv"))
    assert [each.changed for each in found] == ["parent", "", "", ""]
    assert [attrs_of(each) for each in scores(store)] == [attrs_of(each) for each in found]
    arguments = [
        "select",
        "--scores",
        str(tmp_path / "scores.csv"),
        "--top",
        "4",
        "-o",
        str(tmp_path / "essay_tasks.csv"),
    ]
    assert main([*arguments, *at]) == 0
    out = capsys.readouterr().out
    assert "3 selected" in out
    assert "its score was given for another version of its parent e1a" in out
    assert sorted(row.doc_id for row in read_tasks(tmp_path / "essay_tasks.csv", EssayTask)) == ["e1b", "e2a", "e2b"]
    assert main([*arguments, "--allow-changed", *at]) == 0
    assert "4 selected" in capsys.readouterr().out
    assert [note.kind for note in select(scores(store), store, top=4).notes] == ["changed", "unsaid"][:1] + [
        note.kind for note in select(scores(store), store, top=4, allow_changed=True).notes
    ]

    # The lineage and the report mark it.
    assert main(["lineage", "draft/d1", *at]) == 0
    assert "evaluation/v1a  e1a__clarity  (made from another version of essay/e1a)" in capsys.readouterr().out
    assert "parent-changed" in page(store).html

    # `ensure` makes exactly that one again, and keeps the old one in history.
    calls: list[str] = []

    def make(row: EvaluationTask) -> str:
        calls.append(row.doc_id)
        return "3"

    outcomes = [str(store.ensure(row, make, parse=str.strip, if_changed="replace").outcome) for row in rows]
    assert (calls, outcomes) == (["v1a"], ["replaced", "kept", "kept", "kept"])
    assert [each.raw_text for each in store.history("evaluation", "v1a")] == ["9"]
    assert audit(store, verify=True).findings == ()
    assert [each.changed for each in scores(store)] == [""] * 4


def attrs_of(score: Any) -> dict[str, Any]:
    return {**score._asdict(), "ancestors": {}, "origin": {}}


def test_audit_names_the_parts_that_changed() -> None:
    store = DocsStore(MemoryBackend())
    store.write(draft("d1", parsed_text="parsed"))
    store.write(essay("e1", parent="d1"))
    store.write(draft("d1", raw_text="new", parsed_text="new"), if_exists="replace")
    [finding] = audit(store).findings
    assert "the raw and parsed texts in the store (made 2" in finding.message


def test_no_change_is_found_where_nothing_changed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    judge(DocsStore(tmp_path))
    assert main(["audit", "--changed", "--store", str(tmp_path)]) == 0
    assert capsys.readouterr().out == ("0 documents made from another version of a parent or an input\n")


def test_changes_need_a_store_and_do_not_hide_other_findings(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = tmp_path / "draft_tasks.csv"
    table.write_text("draft_task_id,doc_id\nt-1,\n")
    assert main(["audit", "--changed", str(table)]) == 2
    assert "--changed compares stored documents; expected --store ROOT" in capsys.readouterr().err
    judge(DocsStore(tmp_path / "docs"))
    assert main(["audit", "--changed", str(table), "--store", str(tmp_path / "docs")]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "3 other findings: run it without --changed"


def test_selection_names_changed_inputs() -> None:
    store = DocsStore(MemoryBackend())
    judge(store)
    score = next(scores(store))._replace(changed="parent input.draft/parent-1")
    [note, *_] = select([score], store, top=1).notes
    assert "another version of its parent e1a and its input.draft/parent-1; evaluate that again" in note.message


def test_version_that_another_process_replaced_during_the_audit_is_compared_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The audit reads a parent, then another process replaces parent and child, then the audit reads the child."""
    store = DocsStore(MemoryBackend())
    judge(store)
    list_ids = store.backend.ids
    new_essay = essay("e1a", task_id="e1a", parent="d1", raw_text="another essay")
    row = EvaluationTask(task_id="e1a__clarity", doc_id="v1a", parent_doc_id="e1a")

    def ids(stage: str) -> Any:
        if stage == "evaluation":
            store.write(new_essay, if_exists="replace")
            store.write(Document.from_task(row, raw_text="3"), if_exists="replace")
        return list_ids(stage)

    monkeypatch.setattr(store.backend, "ids", ids)
    assert audit(store).findings == ()


def test_old_stores_have_no_changes(tmp_path: Path) -> None:
    """Records of docid 0.1 and of older systems name no versions: that is unknown, and never a finding."""
    store = DocsStore(tmp_path)
    put_legacy(store, "draft", "d1", {"task_id": "d-1"}, raw="once")
    put_legacy(store, "essay", "e1", {"task_id": "e-1", "parent_doc_id": "d1"}, raw="once")
    list(migrate(store, apply=True))
    store.write(draft("d1", task_id="d-1", raw_text="new"), if_exists="replace")
    assert audit(store).findings == ()
    assert store.lineage("essay", "e1").document.changed == ()


# --- A graph of documents against a model ----------------------------------------------------------------------

GRAPH = Stages.parse("source,copy,note:")
DOCUMENTS = ["source/s1", "source/s2", "copy/c1", "copy/c2", "note/n1", "note/n2"]
documents = st.sampled_from(DOCUMENTS)


class Graph(RuleBasedStateMachine):
    """Documents that are written, replaced, completed, migrated and copied, in any order.

    The model knows the texts that each document was made from, and those that each document has now.
    """

    @initialize(backend=st.sampled_from(["local", "memory"]))
    def start(self, backend: str) -> None:
        self.directory = tempfile.TemporaryDirectory()
        root: Any = Path(self.directory.name) / "docs" if backend == "local" else MemoryBackend()
        self.store = (
            DocsStore(root, stages=GRAPH, durability="none") if backend == "local" else DocsStore(root, stages=GRAPH)
        )
        self.copies = 0
        self.lineage: dict[str, tuple[str | None, tuple[str, ...]]] = {}
        self.texts: dict[str, dict[str, str]] = {}  # of raw and parsed
        self.made_from: dict[str, dict[str, dict[str, str] | None]] = {}  # None is unknown

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            self.directory.cleanup()

    def make(self, name: str, text: str, parsed: str | None) -> Document:
        stage, _, doc_id = name.partition("/")
        parent, inputs = self.lineage[name]
        return Document(
            stage=stage,
            doc_id=doc_id,
            task_id=f"t-{doc_id}",
            parent_doc_id=None if parent is None else parent.partition("/")[2],
            inputs=inputs,
            raw_text=text,
            parsed_text=parsed,
        )

    @rule(
        name=documents,
        text=st.sampled_from("abc"),
        parsed=st.none() | st.sampled_from("xy"),
        others=st.lists(documents, unique=True, max_size=3),
        parent=st.sampled_from(["source/s1", "source/s2"]),
        together=st.booleans(),
        is_legacy=st.booleans(),
    )
    def write(
        self, name: str, text: str, parsed: str | None, others: list[str], parent: str, together: bool, is_legacy: bool
    ) -> None:
        """Create or replace a document."""
        is_new = name not in self.texts
        if is_new:
            inputs = () if is_legacy else tuple(each for each in others if each in self.texts and each != name)
            needs_parent = name.startswith("copy/")
            if needs_parent and parent not in self.texts:
                return
            self.lineage[name] = (parent if needs_parent else None), inputs
        document = self.make(name, text, parsed)
        parent_name, inputs = self.lineage[name]
        sources = [*([parent_name] if parent_name else []), *inputs]
        if is_new and is_legacy:
            keys = {"task_id": document.task_id, "created_at": "2026-01-01T00:00:00Z"}
            keys |= {"parent_doc_id": document.parent_doc_id} if document.parent_doc_id else {}
            parts = {"raw": text, **({"parsed": parsed} if parsed is not None else {})}
            put_legacy(self.store, document.stage, document.doc_id, keys, **parts)
            list(migrate(self.store, apply=True))
            self.made_from[name] = dict.fromkeys(sources)
        else:
            if together:
                [result] = self.store.write_many([document], if_exists="replace")
            else:
                result = self.store.write(document, if_exists="replace")
            before = self.made_from.get(name, {})
            is_renewed = any(
                before.get(each) is not None and self.differs(before[each], self.texts[each]) for each in sources
            )
            if result.outcome != "unchanged" or is_renewed:
                assert result.outcome in {"created", "replaced"}
                self.made_from[name] = {each: dict(self.texts[each]) for each in sources}
        self.texts[name] = {"raw": text, **({"parsed": parsed} if parsed is not None else {})}

    @rule(name=documents, text=st.sampled_from("xy"))
    def add_parsed(self, name: str, text: str) -> None:
        if name in self.texts and "parsed" not in self.texts[name]:
            stage, _, doc_id = name.partition("/")
            self.store.add_part(stage, doc_id, "parsed", text)
            self.texts[name] = {**self.texts[name], "parsed": text}

    @rule()
    def copy_all(self) -> None:
        """Go on with a copy of the store."""
        self.copies += 1
        target = DocsStore(MemoryBackend(), stages=GRAPH)
        list(copy(self.store, target))
        self.store = target

    @staticmethod
    def differs(before: dict[str, str] | None, now: dict[str, str]) -> bool:
        return before is not None and any(now.get(part) != text for part, text in before.items())

    @invariant()
    def audit_flags_exactly_the_changed(self) -> None:
        if not hasattr(self, "texts"):
            return
        expected = {
            (name, source, role)
            for name, sources in self.made_from.items()
            for source, before in sources.items()
            for role, of_role in zip(("parent", "input"), ([self.lineage[name][0]], self.lineage[name][1]), strict=True)
            if source in of_role and self.differs(before, self.texts[source])
        }
        report = audit(self.store)
        assert {(f"{each.stage}/{each.doc_id}", each.source, each.role) for each in report.changed} == expected
        assert {each.code for each in report.findings} <= {"parent-changed", "input-changed"}
        assert len(report.findings) == len(expected)
        for name in self.texts:
            stage, _, doc_id = name.partition("/")
            changed = self.store.lineage(stage, doc_id, descendants=False).document.changed
            assert set(changed) == {source for of_name, source, _ in expected if of_name == name}


TestGraph = Graph.TestCase
TestGraph.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_counts_of_changed_scores_are_those_of_the_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An aggregate leaves out evaluations without a score, also those of a replaced document."""
    store = DocsStore(tmp_path / "docs", durability="none")
    store.write(draft())
    store.write(essay())
    for doc_id, text in (("v1", "7"), ("v2", None)):
        names = {"doc_id": doc_id, "task_id": f"t-{doc_id}", "parent_doc_id": "e1"}
        store.write(Document(stage="evaluation", raw_text="x", parsed_text=text, **names))  # type: ignore[arg-type]
    store.write(essay(raw_text="another"), if_exists="replace")
    for arguments, number in (([], 2), (["--aggregate", "mean"], 1)):
        path = tmp_path / f"{number}.csv"
        command = ["scores", *arguments, "--store", store.root, "-o", str(path)]
        assert main(command) == 0
        assert f"given for another version of the document: {number} (column changed)" in capsys.readouterr().out
        with path.open() as file:
            assert sum(bool(row["changed"].strip("0")) for row in csv.DictReader(file)) == number

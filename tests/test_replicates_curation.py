"""Curation over replicates: aggregates, selection, links, replay and follow-up."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from docid import (
    DocsStore,
    Document,
    DraftTask,
    EssayTask,
    EvaluationTask,
    TaskRow,
    TaskTableError,
    audit,
    read_tasks,
    replicates,
    reserve_doc_id,
    reserve_tasks,
    write_tasks,
)
from docid.cli import main
from docid.curate import (
    Model,
    Score,
    TaskScore,
    Template,
    aggregate_columns,
    aggregate_scores,
    follow_up,
    link,
    read_scores,
    replay,
    score_columns,
    scores,
    select,
    write_scores,
)
from docid.operations.curate.link import keep_existing
from tests.curation import kinds, put

# By task and model: the scores of the three evaluations of the first essay, then those of the second.
SCORES: dict[tuple[str, str], list[float | None]] = {
    ("t-0", "m-1"): [5, 5, 5, 5, 5, 5],
    ("t-0", "m-2"): [1, 3, 3, 3, 3, 5],
    ("t-1", "m-1"): [0, 0, 0, 10, 10, 10],
    ("t-1", "m-2"): [2, 4, 6, 8, 10, None],
    ("t-2", "m-1"): [1, 2, None, 3, None, 4],
    ("t-2", "m-2"): [None, None, 7, None, None, None],
    ("t-3", "m-1"): [None] * 6,
    ("t-3", "m-2"): [-1.5, -0.5, 0.5, 1.5, 0, 0],
    ("t-4", "m-1"): [9, 9, 9, 9, 9, 3],
    ("t-4", "m-2"): [6, 5, 4, 3, 2, 1],
}
# Worked out by hand: mean, median, lowest, highest, sample standard deviation, with a score, without.
EXPECTED: list[tuple[float | None, float | None, float | None, float | None, float | None, int, int]] = [
    (5, 5, 5, 5, 0, 6, 0),
    (3, 3, 1, 5, 1.6**0.5, 6, 0),
    (5, 5, 0, 10, 30**0.5, 6, 0),
    (6, 6, 2, 10, 10**0.5, 5, 1),
    (2.5, 2.5, 1, 4, (5 / 3) ** 0.5, 4, 2),
    (7, 7, 7, 7, None, 1, 5),
    (None, None, None, None, None, 0, 6),
    (0, 0, -1.5, 1.5, 1, 6, 0),
    (8, 9, 3, 9, 6**0.5, 6, 0),
    (3.5, 3.5, 1, 6, 3.5**0.5, 6, 0),
]


@pytest.fixture
def judged(local: DocsStore) -> DocsStore:
    """Store a draft of five tasks, two essays of each, and three evaluations of each essay by two models."""
    tasks = [f"t-{at}" for at in range(5)]
    drafts = list(reserve_tasks([DraftTask(task_id=task, combo_id=f"c-{task}") for task in tasks], DraftTask))
    rows = [EssayTask(task_id=f"{task}__x", draft_task_id=task) for task in tasks]
    essays = list(reserve_tasks(replicates(rows, 2, parents=drafts), EssayTask, parents=drafts))
    asked = [
        EvaluationTask(task_id=f"{task}__x__{model}", essay_task_id=f"{task}__x", evaluation_model=model)
        for task, model in SCORES
    ]
    evaluations = list(reserve_tasks(replicates(asked, 3, parents=essays), EvaluationTask, parents=essays))
    for draft in drafts:
        local.write(Document.from_task(draft, raw_text="…", metadata={"combo_id": draft.combo_id, "model_id": "dm"}))
    local.write_many(
        Document.from_task(row, raw_text="…", metadata={"model_id": f"em-{row.doc_salt}"}) for row in essays
    )
    texts = iter([number for numbers in SCORES.values() for number in numbers])
    for row in evaluations:
        number = next(texts)
        parsed = None if number is None else str(number)
        metadata = {"template_id": "clarity", "model_id": row.evaluation_model}
        local.write(Document.from_task(row, raw_text="…", parsed_text=parsed, metadata=metadata))
    report = audit(local, {"draft": drafts, "essay": essays, "evaluation": evaluations})
    assert {finding.code for finding in report.findings} <= {"unparsed"}
    return local


def approximate(numbers: tuple[float | None, ...]) -> list[Any]:
    return [None if number is None else pytest.approx(number) for number in numbers]


def test_scores_of_a_task_are_those_of_all_its_replicates(judged: DocsStore) -> None:
    by_mean, by_median = aggregate_scores(scores(judged)), aggregate_scores(scores(judged), "median")
    assert [(row.parent_task_id, row.model_id) for row in by_mean] == [(f"{task}__x", model) for task, model in SCORES]
    for row, median, (mean, middle, low, high, deviation, count, without) in zip(
        by_mean, by_median, EXPECTED, strict=True
    ):
        found = row.score, median.score, row.lowest, row.highest, row.deviation
        assert list(found) == approximate((mean, middle, low, high, deviation))
        assert (row.evaluations, row.no_score, row.documents, row.changed) == (count, without, 2, 0)
        assert (row.parent_doc_id, row.template_id) == ("", "clarity")
        # The two essays differ in their model, so the task has none.
        assert {name: text for name, text in row.origin.items() if text} == {
            "combo_id": f"c-{row.parent_task_id[:3]}",
            "draft_model": "dm",
        }
    assert [row.score for row in aggregate_scores(scores(judged), "max")] == [row.highest for row in by_mean]
    assert [row.score for row in aggregate_scores(scores(judged), "min")] == [row.lowest for row in by_mean]


def test_aggregates_leave_out_changed_scores_unless_allowed() -> None:
    kept = Score("v1", "e1", "", "", "", 4.0, "", "", "t", {})
    changed = kept._replace(doc_id="v2", score=8.0, changed="parent")
    [row] = aggregate_scores([kept, changed])
    assert (row.score, row.evaluations, row.changed) == (4.0, 1, 1)
    [row] = aggregate_scores([kept, changed], allow_changed=True)
    assert (row.score, row.evaluations, row.changed) == (6.0, 2, 1)


def test_documents_of_unknown_tasks_stay_apart() -> None:
    given = [
        Score(f"v{at}", parent, "", "", "", at, "", "", "", {}) for at, parent in enumerate(["e1", "e1", "e2", ""])
    ]
    assert [(row.parent_task_id, row.parent_doc_id, row.score) for row in aggregate_scores(given)] == [
        ("", "e1", 0.5),
        ("", "e2", 2.0),
    ]
    assert aggregate_scores([]) == []
    with pytest.raises(ValueError, match="by: expected one of max, mean, median, min, got 'sum'"):
        aggregate_scores([], "sum")  # type: ignore[arg-type]


def test_origin_of_a_task_is_what_its_documents_agree_on() -> None:
    origins = [{"combo_id": "c", "draft_model": "a"}, {"combo_id": "", "draft_model": "b"}]
    given = [Score(f"v{at}", "e1", "", "", "", 1.0, "", "", "t", {}, "", origin) for at, origin in enumerate(origins)]
    [row] = aggregate_scores(given)
    assert row.origin == {"combo_id": "c", "draft_model": ""}
    assert row == TaskScore("t", "", "", "", 1.0, 1, 2, 0, 0, 1.0, 1.0, 0.0, row.origin)


def test_command_writes_a_row_for_each_task(
    judged: DocsStore, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "task_scores.csv"
    run = ["scores", "--store", judged.root, "--aggregate", "mean"]
    put(judged, "evaluation", "stray", "t", parsed_text="1")
    assert main([*run, "-o", str(path)]) == 0
    printed = capfd.readouterr().out
    assert (
        "5 evaluated tasks: the mean of 46 scores of 10 documents\n  without a parent_doc_id, left out: 1\n" in printed
    )
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == aggregate_columns(judged)
    assert rows[3]["score"] == "6.0"
    assert rows[6] == {
        **dict.fromkeys(aggregate_columns(judged), ""),
        "parent_task_id": "t-3__x",
        "template_id": "clarity",
        "model_id": "m-1",
        "documents": "2",
        "evaluations": "0",
        "no_score": "6",
        "changed": "0",
        "combo_id": "c-t-3",
        "draft_model": "dm",
    }
    assert main([*run, "--json", "--models", "m-2"]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["score"] for line in lines] == [3.0, 6.0, 7.0, 0.0, 3.5]
    assert lines[2]["deviation"] is None

    assert main(["select", "--store", judged.root, "--scores", str(path), "--top", "1"]) == 2
    error = capfd.readouterr().err
    assert f"{path} row 1, column no_score: a table of 'docid scores --aggregate'" in error
    with pytest.raises(TaskTableError, match="run 'docid scores' without --aggregate"):
        list(read_scores(path))
    assert main(["scores", "--store", judged.root, "--allow-changed"]) == 2
    assert "expected it with --aggregate" in capfd.readouterr().err
    assert main([*run, "--allow-changed", "--json"]) == 0


def test_table_of_scores_gives_the_same_aggregates(judged: DocsStore, tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    write_scores(path, scores(judged), score_columns(judged))
    again = aggregate_scores(read_scores(path))
    assert again == [row._replace(origin={}) for row in aggregate_scores(scores(judged))]


def test_replicates_are_selected_as_documents_of_their_own(judged: DocsStore) -> None:
    chosen = select(scores(judged), judged, top=4, models=["m-1"], aggregate="mean")
    assert [(pick.task_id, pick.score, pick.evaluations) for pick in chosen.picks] == [
        ("t-1__x", 10.0, 3),
        ("t-4__x", 9.0, 3),
        ("t-4__x", 7.0, 3),
        ("t-0__x", 5.0, 3),
    ]
    assert [row.doc_salt for row in chosen.rows[:3]] == ["1.2", None, "1.2"]
    assert "same-task" not in kinds(chosen.notes)
    worst = select(scores(judged), judged, top=1, models=["m-1"], aggregate="min")
    assert worst.picks[0].score == 10.0
    # Two documents of one task without salts are still noted.
    put(judged, "essay", "e9", "t-1__x", parent_doc_id=reserve_doc_id("draft", "t-1"))
    first = reserve_doc_id("essay", "t-1__x")
    given = [Score(f"v{at}", parent, "", "", "", at, "", "", "", {}) for at, parent in enumerate(["e9", first])]
    assert "same-task" in kinds(select(given, judged, top=2).notes)


def test_replayed_replicates_have_their_ids_and_parents(judged: DocsStore) -> None:
    drafts = list(replay(judged, "draft", judged.ids("draft")))
    essays = list(replay(judged, "essay", judged.ids("essay")))
    evaluations = list(replay(judged, "evaluation", judged.ids("evaluation")))
    assert (len(drafts), len(essays), len(evaluations)) == (5, 10, 60)
    parents: list[TaskRow] | None = None
    for rows in (drafts, essays, evaluations):
        for row in rows:
            assert row.doc_id == reserve_doc_id(row.stage, row.task_id, row.doc_run_id, row.doc_salt)
        emptied = [attrs.evolve(row, doc_id="", parent_doc_id=None) for row in rows]
        assert list(reserve_tasks(emptied, type(rows[0]), parents=parents)) == rows
        parents = rows


def make_replicates(store: DocsStore, n: int) -> list[DraftTask]:
    rows = list(reserve_tasks(replicates([DraftTask(task_id="t-1")], n), DraftTask))
    store.write_many(Document.from_task(row, raw_text="…") for row in rows)
    return rows


def test_row_without_salt_gets_no_document_of_another_replicate(store: DocsStore, tmp_path: Path) -> None:
    first, second = make_replicates(store, 2)
    path = tmp_path / "draft_tasks.csv"
    path.write_text("draft_task_id,doc_salt\nt-1,\nt-1,2\n")
    linked = link(path, store)
    assert [row.doc_id for row in read_tasks(path, DraftTask)] == [first.doc_id, second.doc_id]
    assert linked.notes == ()


def test_first_replicate_is_not_linked_to_the_second(store: DocsStore, tmp_path: Path) -> None:
    second = DraftTask(task_id="t-1", doc_id=reserve_doc_id("draft", "t-1", salt="2"), doc_salt="2")
    store.write(Document.from_task(second, raw_text="…"))
    path = tmp_path / "draft_tasks.csv"
    path.write_text("draft_task_id\nt-1\n")
    linked = link(path, store)
    assert (linked.filled, kinds(linked.notes)) == (0, ["other-salt"])
    assert "the salts of replicates give their ids, and the row has none" in linked.notes[0].message
    rows = list(read_tasks(path, DraftTask, reserved=False))
    assert keep_existing(rows, store) == (rows, [])
    # An older system's document is still linked, and a salt of another kind too.
    other = DraftTask(task_id="t-1", doc_id=reserve_doc_id("draft", "t-1", salt="again"), doc_salt="again")
    store.write(Document.from_task(other, raw_text="…"))
    assert link(path, store, dry_run=True).filled == 1
    assert link(path, store, force=True, dry_run=True).filled == 1
    path.write_text("draft_task_id,doc_salt\nt-1,2\n")
    assert link(path, store).filled == 1
    assert [row.doc_id for row in read_tasks(path, DraftTask)] == [second.doc_id]


def test_force_links_a_row_to_a_replicate(store: DocsStore, tmp_path: Path) -> None:
    second = DraftTask(task_id="t-1", doc_id=reserve_doc_id("draft", "t-1", salt="2"), doc_salt="2")
    store.write(Document.from_task(second, raw_text="…"))
    path = tmp_path / "draft_tasks.csv"
    path.write_text("draft_task_id\nt-1\n")
    assert link(path, store, force=True).filled == 1
    [row] = read_tasks(path, DraftTask)
    assert (row.doc_id, row.doc_salt) == (second.doc_id, None)


def make_essays() -> tuple[list[DraftTask], list[EssayTask]]:
    drafts = list(reserve_tasks(replicates([DraftTask(task_id="t")], 2), DraftTask))
    rows = [EssayTask(task_id="t__x", draft_task_id="t")]
    return drafts, list(reserve_tasks(replicates(rows, 2, parents=drafts), EssayTask, parents=drafts))


def test_follow_up_copies_the_salts_of_replicates() -> None:
    drafts, essays = make_essays()
    tables = follow_up(essays, templates=[Template("a")], models=[Model("m")], replicates=2)
    assert tables.parents == drafts
    assert [row.doc_salt for row in tables.children] == [
        None, "1.1.2", "1.2", "1.2.2", "2", "2.1.2", "2.2", "2.2.2",
    ]  # fmt: skip
    assert [row.parent_doc_id for row in tables.children] == [row.doc_id for row in essays for _ in range(2)]
    for row in tables.children:
        assert row.doc_id == reserve_doc_id("evaluation", row.task_id, salt=row.doc_salt)
    once = follow_up(essays, templates=[Template("a")], models=[Model("m")])
    assert once.children == tables.children[::2]
    # The id of an evaluation of a first replicate is the one of a task without replicates.
    assert once.children[0].doc_id == reserve_doc_id("evaluation", f"{essays[0].doc_id}__a__m")


def test_follow_up_ignores_salts_of_other_kinds() -> None:
    [essay] = reserve_tasks([EssayTask(task_id="t__x", draft_task_id="t", parent_doc_id="d1")], EssayTask, salt="again")
    tables = follow_up([essay], templates=[Template("a")], models=[Model("m")])
    assert [row.doc_salt for row in (*tables.parents, *tables.children)] == [None, None]
    # A parent whose id the path does not give has no salt.
    [moved] = follow_up([attrs.evolve(essay, doc_salt="2")]).parents
    assert (moved.doc_id, moved.doc_salt) == ("d1", None)


def test_follow_up_refuses_wrong_numbers() -> None:
    _, essays = make_essays()
    for number in (0, True):
        with pytest.raises(ValueError, match="replicates: expected a number of replicates from 1 to 10,000"):
            follow_up(essays, replicates=number)
    with pytest.raises(ValueError, match="each replicate has a salt of its own"):
        follow_up(essays, replicates=2, salt="x")


def test_show_takes_the_first_replicate(local: DocsStore, capfd: pytest.CaptureFixture[str]) -> None:
    first, *_ = make_replicates(local, 3)
    assert main(["show", "--task", "draft", "t-1", "--store", local.root]) == 0
    assert first.doc_id in capfd.readouterr().out


def test_merged_tables_keep_salts(tmp_path: Path) -> None:
    drafts, essays = make_essays()
    path = tmp_path / "essay_tasks.csv"
    write_tasks(path, essays)
    assert [row.doc_salt for row in follow_up(read_tasks(path, EssayTask)).parents] == [row.doc_salt for row in drafts]


def test_follow_up_finds_run_and_salt_of_a_parent() -> None:
    drafts = list(reserve_tasks(replicates([DraftTask(task_id="t")], 2), DraftTask, "r1"))
    essays = [
        EssayTask(task_id="x", draft_task_id="t", parent_doc_id=draft.doc_id, doc_run_id="r1", doc_salt=draft.doc_salt)
        for draft in drafts
    ]
    made = follow_up(reserve_tasks(essays, EssayTask))
    assert [(row.doc_run_id, row.doc_salt, row.doc_id) for row in made.parents] == [
        ("r1", None, drafts[0].doc_id),
        ("r1", "2", drafts[1].doc_id),
    ]


def test_score_that_is_not_a_number_counts_as_missing(store: DocsStore) -> None:
    """A data frame has NaN where a score is missing."""
    given = {"v1": 1.0, "v2": float("nan"), "v3": None, "v4": 3.0}
    found = [Score(doc_id, f"e{doc_id}", "", "t", "m", score, "", "", "k", {}) for doc_id, score in given.items()]
    [row] = aggregate_scores(found)
    assert (row.score, row.evaluations, row.no_score, row.lowest, row.highest) == (2.0, 2, 2, 1.0, 3.0)
    store.write(Document(stage="draft", doc_id="d1", task_id="d", raw_text="x"))
    for doc_id in given:
        document = Document(stage="essay", doc_id=f"e{doc_id}", task_id=doc_id, parent_doc_id="d1", raw_text="x")
        store.write(document)
    selection = select(found, store, stage="essay", top=4)
    assert [pick.doc_id for pick in selection.picks] == ["ev4", "ev1"]

"""`replicates` gives each task several rows; a salt is the path of replicate numbers from the root stage."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from docid import (
    DEFAULT_STAGES,
    DraftTask,
    EssayTask,
    EvaluationTask,
    Stages,
    TaskRow,
    TaskTableError,
    read_tasks,
    replicates,
    reserve_doc_id,
    reserve_tasks,
    write_tasks,
)
from docid.core.replicates import format_path, parse_path
from tests.tables import ChapterTask, table

NAMES = ("one", "two", "three", "four")


def salts(rows: Any) -> list[str | None]:
    return [row.doc_salt for row in rows]


def problems(rows: Any, n: int = 2, **options: Any) -> list[str]:
    with pytest.raises(TaskTableError) as caught:
        replicates(rows, n, **options)
    return [str(problem) for problem in caught.value.problems]


def reserve_problem(rows: list[TaskRow], **options: Any) -> str:
    with pytest.raises(TaskTableError) as caught:
        list(reserve_tasks(rows, type(rows[0]), **options))
    [problem] = caught.value.problems
    return str(problem)


@pytest.mark.parametrize(
    ("path", "salt"),
    [
        ((1,), None),
        ((2,), "2"),
        ((1, 1), None),
        ((1, 2), "1.2"),
        ((2, 1), "2"),
        ((2, 2), "2.2"),
        ((1, 2, 1), "1.2"),
        ((1, 1, 2), "1.1.2"),
        ((10, 1, 999_999_999), "10.1.999999999"),
    ],
)
def test_salt_is_the_path_without_trailing_ones(path: tuple[int, ...], salt: str | None) -> None:
    assert format_path(path) == salt
    assert parse_path(salt, len(path)) == path


HOSTILE = ["", "1", "1.1", "2.1", "02", "0", "-2", "+2", "2.", ".2", "2..2", "²", "٢", "2\n", " 2", "2.0", "1_0"]


@pytest.mark.parametrize("salt", [*HOSTILE, "1000000000", "s1", "second try", "2.2.2.2", "2,2", "1.2 "])
def test_other_salts_are_no_paths(salt: str) -> None:
    assert parse_path(salt, 3) is None


def test_path_has_at_most_one_number_per_stage() -> None:
    assert parse_path("1.2", 1) is None
    assert parse_path("2", 0) is None
    assert parse_path(None, 0) == ()
    assert format_path(()) is None


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.data())
def test_paths_are_injective_and_lead_to_the_parent(numbers: list[int], data: st.DataObject) -> None:
    stages = Stages.chain(*NAMES[: len(numbers)])
    more = [data.draw(st.integers(number, 4)) for number in numbers]
    found = grow(stages, numbers)
    for rows, parents, depth in zip(found, [[], *found], itertools.count(1), strict=False):
        paths = [parse_path(row.doc_salt, depth) for row in rows]
        assert None not in paths
        assert len(set(salts(rows))) == len(rows) == len({row.doc_id for row in rows})
        by_salt = {row.doc_salt: row.doc_id for row in parents}
        for row, path in zip(rows, paths, strict=True):
            assert path is not None
            assert row.parent_doc_id == (by_salt[format_path(path[:-1])] if parents else None)
    for rows, others in zip(found, grow(stages, more), strict=True):  # larger numbers only add rows
        later = {row.doc_salt: (row.doc_id, row.parent_doc_id) for row in others}
        assert {row.doc_salt: (row.doc_id, row.parent_doc_id) for row in rows}.items() <= later.items()


def grow(stages: Stages, numbers: list[int]) -> list[list[TaskRow]]:
    """Return the rows of a task for each stage, with this many replicates of each parent."""
    made: list[list[TaskRow]] = []
    for stage, number in zip(stages, numbers, strict=True):
        parent = stages.parent_of(stage)
        row_type, parents = TaskRow.of(stage, parent), made[-1] if made else None
        rows = [row_type(task_id="t", extra={f"{parent}_task_id": "t"} if parent else {})]
        given = replicates(rows, number, parents=parents, stages=stages)
        # reserve_tasks finds the same parents by the salts.
        found = [attrs.evolve(row, parent_doc_id=None) for row in given]
        reserved = list(reserve_tasks(found, row_type, parents=parents, stages=stages))
        again = list(replicates(rows, number, parents=parents, stages=stages))
        assert [row.parent_doc_id for row in again] == [row.parent_doc_id for row in reserved]
        made.append(reserved)
    return made


def test_first_replicate_is_the_row_itself() -> None:
    rows = [
        EssayTask(task_id="a", doc_id="by-hand", parent_doc_id="d1", doc_run_id="r", extra={"note": "x"}),
        EssayTask(task_id="b", doc_salt="3", input_doc_ids=["essay/e1"]),
    ]
    first, second, third, fourth = replicates(rows, 2)
    assert (first, third) == (rows[0], rows[1])
    assert second == attrs.evolve(rows[0], doc_id="", doc_salt="1.2")
    assert fourth == attrs.evolve(rows[1], doc_salt="3.2")
    assert list(replicates(rows, 1)) == rows
    assert salts(replicates(rows, 3)) == [None, "1.2", "1.3", "3", "3.2", "3.3"]


def test_replicates_keep_the_columns_of_their_table(tmp_path: Path) -> None:
    path = table(tmp_path, "draft_task_id;note\na;x\nb;007\n", "draft_tasks.csv")
    tasks = read_tasks(path, DraftTask, reserved=False, delimiter=";")
    made = replicates(tasks, 2)
    assert (made.file, made.columns, made.delimiter, made.state) == (
        str(path),
        ("draft_task_id", "note", "doc_salt"),
        ";",
        tasks.state,
    )
    assert [(row.task_id, made.row) for row in made] == [("a", 2), ("a", 2), ("b", 3), ("b", 3)]
    write_tasks(path, reserve_tasks(replicates(tasks, 2), DraftTask), like=tasks)
    header, *lines = path.read_text().splitlines()
    assert header == "draft_task_id;note;doc_id;doc_salt"
    assert [line.split(";")[0::3] for line in lines] == [["a", ""], ["a", "2"], ["b", ""], ["b", "2"]]


def test_rows_of_no_table_have_no_columns() -> None:
    made = replicates(iter([DraftTask(task_id="a")]), 2)
    assert (made.file, made.columns, made.row_type) == ("", (), DraftTask)
    nothing: list[DraftTask] = []
    empty = replicates(nothing, 2)
    assert repr(empty) == "<TaskRows of an unknown class from memory, at row 1>"
    assert list(reserve_tasks(empty, DraftTask)) == []
    stream = reserve_tasks([DraftTask(task_id="a")], DraftTask)
    assert salts(replicates(stream, 2)) == [None, "2"]


def test_all_salts_of_other_kinds_are_reported_together(tmp_path: Path) -> None:
    assert problems([DraftTask(task_id="a", doc_salt="2"), DraftTask(task_id="b"), DraftTask(task_id="c", doc_salt="x")]) == [
        "row 1, column doc_salt: '2'; a replicate already; expected only the first row of each task (docid reserve "
        "--replicates raises a table)",
        "row 3, column doc_salt: 'x'; not the salt of a replicate; expected no salt",
    ]  # fmt: skip
    assert problems([EssayTask(task_id="a", doc_salt="x")]) == [
        "row 1, column doc_salt: 'x'; not the salt of a replicate; expected that of the draft, or none"
    ]
    assert problems([EssayTask(task_id="a", doc_salt="1.2")])[0].startswith(
        "row 1, column doc_salt: '1.2'; a replicate"
    )
    path = table(tmp_path, "draft_task_id,doc_salt\na,2.2\n", "draft_tasks.csv")
    assert problems(read_tasks(path, DraftTask, reserved=False))[0].startswith(f"{path} row 2, column doc_salt: '2.2'")


@pytest.mark.parametrize("salt", [salt for salt in HOSTILE if salt.strip() == salt != ""])
def test_hostile_salts_are_refused(salt: str) -> None:
    assert len(problems([EvaluationTask(task_id="a", doc_salt=salt)])) == 1


def test_row_with_an_id_that_has_no_parent_is_a_fault() -> None:
    drafts = [DraftTask(task_id="t", doc_id=f"d{number}", doc_salt=str(number)) for number in (2, 3)]
    essay = EssayTask(task_id="x", draft_task_id="t", doc_id="e1")
    with pytest.raises(
        TaskTableError, match="'e1'; names a document of replicate 1 of its parent, which the table lacks"
    ):
        list(replicates([essay], 1, parents=drafts))


def test_salt_for_all_replicates_is_refused() -> None:
    with pytest.raises(TaskTableError, match="two replicates of this row have the doc id .* pass no salt"):
        list(reserve_tasks(replicates([DraftTask(task_id="t")], 2), DraftTask, salt="x"))


def test_row_takes_over_the_salt_of_its_only_parent() -> None:
    drafts = [DraftTask(task_id="t", doc_id="d3", doc_salt="3"), DraftTask(task_id="u", doc_id="d4", doc_salt="other")]
    essays = [EssayTask(task_id="x", draft_task_id="t"), EssayTask(task_id="y", draft_task_id="u")]
    made = list(reserve_tasks(essays, EssayTask, parents=drafts))
    assert [(row.doc_salt, row.parent_doc_id) for row in made] == [("3", "d3"), (None, "d4")]
    assert made[0].doc_id == reserve_doc_id("essay", "x", salt="3")
    [reserved] = reserve_tasks([EssayTask(task_id="x", draft_task_id="t", doc_id="e1")], EssayTask, parents=drafts)
    assert (reserved.doc_salt, reserved.parent_doc_id) == (None, "d3")
    replicated = reserve_tasks(replicates(essays[:1], 1, parents=drafts), EssayTask, parents=drafts)
    assert next(replicated) == made[0]


@pytest.mark.parametrize("n", [0, -1, True, 1.0, "2", 10**9, None])
def test_number_of_replicates_is_a_whole_number(n: Any) -> None:
    with pytest.raises(ValueError, match="n: expected a number of replicates from 1 to 10,000"):
        replicates([DraftTask(task_id="a")], n)


def test_stages_must_have_the_stage_of_the_rows() -> None:
    chapter = ChapterTask(task_id="c", extra={"outline_task_id": "o"})
    with pytest.raises(
        ValueError,
        match=r"rows: stage 'chapter' with the parent stage 'outline' is not in Stages\(.*\); pass stages, such as "
        r"Stages.chain\('outline', 'chapter'\)",
    ):
        replicates([chapter], 2)
    with pytest.raises(ValueError, match=r"stage 'note' without a parent stage is not in .*Stages.chain\('note'\)"):
        replicates([TaskRow.of("note")(task_id="a")], 2)
    with pytest.raises(ValueError, match="stage 'essay' without a parent stage is not in"):
        replicates([TaskRow.of("essay")(task_id="a")], 2)
    assert salts(replicates([chapter], 2, stages=Stages.chain("outline", "chapter"))) == [None, "1.2"]


def test_rows_must_be_task_rows_of_one_class() -> None:
    with pytest.raises(TypeError, match="rows: expected rows of task tables"):
        replicates([{"draft_task_id": "a"}], 2)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="rows: expected rows of DraftTask, got EssayTask"):
        replicates([DraftTask(task_id="a"), EssayTask(task_id="b")], 2)


def make_drafts(n: int) -> list[DraftTask]:
    return list(reserve_tasks(replicates([DraftTask(task_id="t")], n), DraftTask))


def test_rows_are_made_for_each_replicate_of_their_parent() -> None:
    drafts = make_drafts(3)
    row = EssayTask(task_id="x", draft_task_id="t")
    made = list(replicates([row], 2, parents=drafts))
    assert salts(made) == [None, "1.2", "2", "2.2", "3", "3.2"]
    assert [each.parent_doc_id for each in made] == [draft.doc_id for draft in drafts for _ in range(2)]
    # A reserved row of the first replicate too; it keeps its id.
    reserved = attrs.evolve(row, doc_id="e1", parent_doc_id=drafts[0].doc_id)
    again = list(replicates([reserved], 2, parents=drafts))
    assert again[0] == reserved
    assert [attrs.evolve(each, doc_id="") for each in again] == made
    # Not for a replicate for which another row of the task has the salt.
    copied = [attrs.evolve(row, doc_salt=draft.doc_salt) for draft in drafts[:2]]
    assert salts(replicates(copied, 2, parents=drafts)) == [None, "1.2", "3", "3.2", "2", "2.2"]
    assert salts(replicates([row, attrs.evolve(copied[1], doc_run_id="r")], 1, parents=drafts)) == [
        None,
        "2",
        "3",
        "2",
    ]
    # A row with a salt, or with another replicate as its parent, is for that parent.
    assert [
        (each.doc_salt, each.parent_doc_id)
        for each in replicates([attrs.evolve(row, doc_salt="3")], 2, parents=iter(drafts))
    ] == [("3", drafts[2].doc_id), ("3.2", drafts[2].doc_id)]
    other: list[dict[str, Any]]
    other = [{"parent_doc_id": "d0"}, {"parent_doc_id": "d0", "doc_salt": "7"}]
    for changes in other:
        bound = attrs.evolve(row, **changes)
        first, second = replicates([bound], 2, parents=drafts)
        assert (first, second.parent_doc_id) == (bound, bound.parent_doc_id)
    # The salt follows from the id of a known parent.
    of_each = [attrs.evolve(row, parent_doc_id=draft.doc_id) for draft in drafts]
    assert salts(replicates(of_each, 2, parents=drafts)) == [None, "1.2", "2", "2.2", "3", "3.2"]
    [lone, _] = replicates(of_each[1:2], 2, parents=drafts)
    assert (lone.doc_salt, lone.parent_doc_id) == ("2", drafts[1].doc_id)
    # Drafts have no parents.
    assert salts(replicates([DraftTask(task_id="a")], 2, parents=drafts)) == [None, "2"]


def test_parents_may_be_unreserved_or_mappings() -> None:
    row = EssayTask(task_id="x", draft_task_id="t")
    unreserved = replicates([DraftTask(task_id="t")], 2)
    assert [(each.doc_salt, each.parent_doc_id) for each in replicates([row], 1, parents=unreserved)] == [
        (None, None),
        ("2", None),
    ]
    given = [{"draft_task_id": "t", "doc_id": "d1"}, {"draft_task_id": "t", "doc_id": "d2", "doc_salt": "2"}]
    assert [each.parent_doc_id for each in replicates([row], 1, parents=given)] == ["d1", "d2"]


def test_faults_of_parents_are_reported_together() -> None:
    drafts = [*make_drafts(2), DraftTask(task_id="u", doc_id="u1"), DraftTask(task_id="u", doc_id="u2", doc_salt="x")]
    rows = [
        EssayTask(task_id="a", draft_task_id="t", doc_salt="3"),
        EssayTask(task_id="b", draft_task_id="gone"),
        EssayTask(task_id="c"),
        EssayTask(task_id="d", draft_task_id="u"),
    ]
    assert problems(rows, parents=drafts) == [
        "row 1, column doc_salt: '3'; names replicate 3 of its parent, which the parents' table does not have",
        "row 2, column draft_task_id: 'gone'; not in the parents' table; expected a task id from it",
        "row 3, column draft_task_id: not in the parents' table; expected a task id from it",
        "row 4, column draft_task_id: 'u'; several parents, and the doc_salt 'x' of one is not that of a replicate; "
        "set parent_doc_id",
    ]


def test_only_parent_of_a_task_needs_no_path() -> None:
    [draft] = reserve_tasks([DraftTask(task_id="t")], DraftTask, salt="second try")
    row = EssayTask(task_id="x", draft_task_id="t")
    made = list(reserve_tasks(replicates([row], 2, parents=[draft]), EssayTask, parents=[draft]))
    assert [(each.doc_salt, each.parent_doc_id) for each in made] == [(None, draft.doc_id), ("1.2", draft.doc_id)]


def test_reserve_finds_the_parent_among_replicates() -> None:
    drafts = make_drafts(3)
    rows = [EssayTask(task_id="x", draft_task_id="t", doc_salt=salt) for salt in (None, "1.2", "2", "3.9")]
    found = list(reserve_tasks(rows, EssayTask, parents=drafts))
    assert [row.parent_doc_id for row in found] == [drafts[at].doc_id for at in (0, 0, 1, 2)]
    [of_argument] = reserve_tasks(rows[:1], EssayTask, salt="3.2", parents=drafts)
    assert of_argument.parent_doc_id == drafts[2].doc_id
    [own] = reserve_tasks([attrs.evolve(rows[2], doc_id="by-hand")], EssayTask, salt="3.2", parents=drafts)
    assert own.parent_doc_id == drafts[1].doc_id
    assert reserve_problem([EssayTask(task_id="x", draft_task_id="t", doc_salt="4")], parents=drafts) == (
        "row 1, column doc_salt: '4'; names replicate 4 of its parent, which the parents' table does not have"
    )
    assert reserve_problem([EssayTask(task_id="x", draft_task_id="t")], parents=drafts[1:]) == (
        "row 1, column doc_salt: names replicate 1 of its parent, which the parents' table does not have"
    )


def test_reserve_refuses_a_salt_that_names_another_parent_than_the_only_one() -> None:
    [draft] = make_drafts(1)
    assert reserve_problem([EssayTask(task_id="x", draft_task_id="t", doc_salt="2")], parents=[draft]) == (
        "row 1, column doc_salt: '2'; names replicate 2 of its parent, which the parents' table does not have; for a "
        "second document of the same parent use '1.2', or set parent_doc_id"
    )
    essays = [EssayTask(task_id="x", doc_id="e2", doc_salt="2.2")]
    assert "use '2.2.2', or" in reserve_problem(
        [EvaluationTask(task_id="v", essay_task_id="x", doc_salt="1.2")], parents=essays
    )
    for salt in (None, "2.2", "2.2.3", "x"):  # an unsalted row, and one with another salt, take the only parent
        judged = EvaluationTask(task_id="v", essay_task_id="x", doc_salt=salt)
        assert next(reserve_tasks([judged], EvaluationTask, parents=essays)).parent_doc_id == "e2"
    mapping = {"t": "d1"}
    [row] = reserve_tasks([EssayTask(task_id="x", draft_task_id="t", doc_salt="2")], EssayTask, parents=mapping)
    assert row.parent_doc_id == "d1"
    same = [DraftTask(task_id="t", doc_id="d1"), DraftTask(task_id="t", doc_id="d1", doc_salt="9")]
    [row] = reserve_tasks([EssayTask(task_id="x", draft_task_id="t", doc_salt="2")], EssayTask, parents=same)
    assert row.parent_doc_id == "d1"


@pytest.mark.parametrize("salt", [*(salt for salt in HOSTILE if salt.strip() == salt != ""), "s12ab", "1.2.2"])
def test_salt_of_another_kind_finds_no_parent_among_several(salt: str) -> None:
    row = EssayTask(task_id="x", draft_task_id="t", doc_salt=salt)
    assert reserve_problem([row], parents=make_drafts(2)) == (
        "row 1, column draft_task_id: 't'; has several doc ids in the parents' table; set parent_doc_id yourself"
    )


def test_unknown_stages_are_named_if_parents_are_replicates() -> None:
    outline = TaskRow.of("outline")
    outlines = [outline(task_id="o", doc_id="o1"), outline(task_id="o", doc_id="o2", doc_salt="2")]
    chapter = ChapterTask(task_id="c", doc_salt="2", extra={"outline_task_id": "o"})
    assert reserve_problem([chapter], parents=outlines).endswith(
        "set parent_doc_id yourself, or pass stages if they are replicates"
    )
    stages = Stages.chain("outline", "chapter")
    [found] = reserve_tasks([chapter], ChapterTask, parents=outlines, stages=stages)
    assert found.parent_doc_id == "o2"
    [found] = reserve_tasks([chapter], ChapterTask, parents=outlines[:1])
    assert found.parent_doc_id == "o1"


def test_twenty_drafts_grow_from_five_to_eight_replicates() -> None:
    tasks = [f"t-{number}" for number in range(20)]

    def build(drafts: int) -> Iterator[list[TaskRow]]:
        draft_rows = replicates([DraftTask(task_id=task) for task in tasks], drafts)
        made = list(reserve_tasks(draft_rows, DraftTask))
        essay_rows = [EssayTask(task_id=f"{task}__x", draft_task_id=task) for task in tasks]
        essays = list(reserve_tasks(replicates(essay_rows, 2, parents=made), EssayTask, parents=made))
        judged = [EvaluationTask(task_id=f"{row.task_id}__v", essay_task_id=row.task_id) for row in essay_rows]
        evaluations = reserve_tasks(replicates(judged, 3, parents=essays), EvaluationTask, parents=essays)
        yield [*made]
        yield [*essays]
        yield [*evaluations]

    before, after = list(build(5)), list(build(8))
    assert [len(rows) for rows in before] == [100, 200, 600]
    assert [len(rows) for rows in after] == [160, 320, 960]
    for rows, later in zip(before, after, strict=True):
        assert len({row.doc_id for row in rows}) == len(rows)
        known = {(row.task_id, row.doc_salt): row for row in later}
        assert [known[row.task_id, row.doc_salt] for row in rows] == rows
    [evaluation] = [row for row in before[2] if (row.task_id, row.doc_salt) == ("t-7__x__v", "4.2.3")]
    assert evaluation.doc_id == reserve_doc_id("evaluation", "t-7__x__v", salt="4.2.3")
    assert evaluation.parent_doc_id == reserve_doc_id("essay", "t-7__x", salt="4.2")


def test_stages_list_the_ancestors_of_a_stage() -> None:
    assert DEFAULT_STAGES.ancestors_of("evaluation") == ("essay", "draft")
    assert DEFAULT_STAGES.ancestors_of("draft") == ()
    with pytest.raises(ValueError, match="not a stage of this pipeline"):
        DEFAULT_STAGES.ancestors_of("note")

"""Data frames of pandas, polars and pyarrow: the same ids, the same order, the same kind of frame."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from docid import (
    DocsStore,
    Document,
    DraftTask,
    EssayTask,
    EvaluationTask,
    InvalidName,
    Stages,
    StoreUnavailable,
    TaskRow,
    TaskTableError,
    UnreadableDocument,
    audit,
    read_tasks,
    reserve_doc_id,
    reserve_tasks,
    write_tasks,
)
from docid.backends import MemoryBackend
from docid.core.ids import check_text
from docid.curate import Score, aggregate_scores, scores
from docid.frames import (
    documents_to_frame,
    findings_to_frame,
    frame_to_tasks,
    replicate_frame,
    reserve_frame,
    scores_to_frame,
    task_scores_to_frame,
    tasks_to_frame,
)


def pandas_object(data: dict[str, list[Any]]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in data.items()})


def task_ids() -> st.SearchStrategy[str]:
    texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=9)
    return texts.map(lambda text: unicodedata.normalize("NFC", text)).filter(is_task_id)


def is_task_id(text: str) -> bool:
    try:
        return bool(check_text(text, "task_id"))
    except InvalidName:
        return False


Make = Callable[[dict[str, list[Any]]], Any]
MAKERS: dict[str, Make] = {
    "pandas": pd.DataFrame,
    "pandas-object": pandas_object,
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
}
LIBRARIES = ["pandas", "polars", "pyarrow"]


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Make:
    return MAKERS[request.param]


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Any:
    return request.param


def column(frame: Any, name: str) -> list[Any]:
    series = nw.from_native(frame, eager_only=True)[name]
    return [None if null else value for value, null in zip(series.to_list(), series.is_null().to_list(), strict=True)]


def names(frame: Any) -> list[str]:
    return list(nw.from_native(frame, eager_only=True).columns)


def problems(error: pytest.ExceptionInfo[TaskTableError]) -> list[tuple[int | None, str | None]]:
    return [(each.row, each.column) for each in error.value.problems]


# --- reserve_frame -------------------------------------------------------------------------------------------------


def test_reserve_frame_adds_doc_id_to_a_copy(make: Make) -> None:
    frame = make({"words": [3, 2, 1], "draft_task_id": ["c", "a", "b"]})
    reserved = reserve_frame(frame, stage="draft")
    assert type(reserved) is type(frame)
    assert names(reserved) == ["words", "draft_task_id", "doc_id"]
    assert column(reserved, "doc_id") == [reserve_doc_id("draft", each) for each in "cab"]
    assert column(reserved, "words") == [3, 2, 1]
    assert names(frame) == ["words", "draft_task_id"]


@given(st.lists(task_ids(), unique=True, max_size=20), st.sampled_from(list(MAKERS)), st.booleans())
def test_frame_ids_equal_row_ids(tasks: list[str], maker: str, salted: bool) -> None:
    frame = MAKERS[maker]({"draft_task_id": tasks})
    if not tasks:
        frame = tasks_to_frame([], row_type=DraftTask, backend="polars")
    salt = "again" if salted else None
    rows = [DraftTask(task_id=each) for each in tasks]
    try:
        expected = [row.doc_id for row in reserve_tasks(rows, DraftTask, salt=salt)]
        if any(each.lower() in {"nan", "null", "none"} for each in tasks):
            expected = []
    except TaskTableError:
        expected = []
    if expected or not tasks:
        reserved = reserve_frame(frame, stage="draft", salt=salt)
        assert column(reserved, "doc_id") == expected
        assert ("doc_salt" in names(reserved)) == salted
    else:
        with pytest.raises(TaskTableError):
            reserve_frame(frame, stage="draft", salt=salt)


@pytest.mark.parametrize("index", [pd.Index([7, 7, 0]), pd.MultiIndex.from_tuples([(1, "x"), (1, "x"), (2, "y")])])
def test_pandas_keeps_its_index(index: Any) -> None:
    frame = pd.DataFrame({"draft_task_id": ["c", "a", "b"], "doc_id": [None, "d1", None]}, index=index)
    frame.attrs["made by"] = "hand"
    reserved = reserve_frame(frame, stage="draft")
    assert reserved.index.equals(index)
    assert list(reserved["doc_id"]) == [reserve_doc_id("draft", "c"), "d1", reserve_doc_id("draft", "b")]


def test_task_id_names_another_column(make: Make) -> None:
    reserved = reserve_frame(make({"key": ["a"], "draft_task_id": [None]}), stage="draft", task_id="key")
    assert column(reserved, "doc_id") == [reserve_doc_id("draft", "a")]
    with pytest.raises(TaskTableError) as error:
        reserve_frame(make({"key": ["a", None, " a"]}), stage="draft", task_id="key")
    assert problems(error) == [(2, "key"), (3, "key")]


def test_all_faulty_rows_are_reported_with_their_numbers(make: Make) -> None:
    tasks = ["a", None, "a b", " b", "nan", "", "c"]
    with pytest.raises(TaskTableError) as error:
        reserve_frame(make({"draft_task_id": tasks}), stage="draft")
    assert sorted(problems(error)) == [(row, "draft_task_id") for row in (2, 4, 5, 6)]
    assert "row 2, column draft_task_id: empty" in str(error.value)


@pytest.mark.parametrize("values", [[1, 2], [1.0, None], [True, False], [date(2026, 1, 1), None]])
def test_task_ids_that_are_not_text_are_refused(make: Make, values: list[Any]) -> None:
    with pytest.raises(TaskTableError, match=r"expected text") as error:
        reserve_frame(make({"draft_task_id": values}), stage="draft")
    assert problems(error)[0] == (1, "draft_task_id")


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(pd.DataFrame({"draft_task_id": pd.Categorical(["a", "b"])}), id="pandas"),
        pytest.param(pl.DataFrame({"draft_task_id": pl.Series(["a", "b"], dtype=pl.Categorical)}), id="polars"),
        pytest.param(pa.table({"draft_task_id": pa.array(["a", "b"]).dictionary_encode()}), id="pyarrow"),
    ],
)
def test_categories_count_as_text(frame: Any) -> None:
    assert column(reserve_frame(frame, stage="draft"), "doc_id") == [reserve_doc_id("draft", each) for each in "ab"]


@pytest.mark.parametrize("word", ["nan", "None", "NULL", " ", "", "a blank at an end "])
def test_missing_values_are_not_task_ids(make: Make, word: str) -> None:
    with pytest.raises(TaskTableError) as error:
        reserve_frame(make({"draft_task_id": ["a", word]}), stage="draft")
    assert problems(error) == [(2, "draft_task_id")]


def test_run_id_and_salt_are_recorded(make: Make) -> None:
    reserved = reserve_frame(make({"draft_task_id": ["a"]}), stage="draft", run_id="r", salt="s")
    assert names(reserved)[1:] in (["doc_id", "doc_run_id", "doc_salt"], ["doc_run_id", "doc_salt", "doc_id"])
    assert column(reserved, "doc_id") == [reserve_doc_id("draft", "a", "r", "s")]
    assert (column(reserved, "doc_run_id"), column(reserved, "doc_salt")) == (["r"], ["s"])


def test_run_id_and_salt_of_a_row_are_used(make: Make) -> None:
    frame = make({"draft_task_id": ["a", "a", "b"], "doc_salt": ["s", None, None], "doc_run_id": [None, None, "r"]})
    reserved = reserve_frame(frame, stage="draft")
    assert column(reserved, "doc_id") == [
        *(reserve_doc_id("draft", "a", salt="s"), reserve_doc_id("draft", "a"), reserve_doc_id("draft", "b", "r"))
    ]
    assert column(reserved, "doc_salt") == ["s", None, None]


def test_reserving_again_keeps_ids(make: Make) -> None:
    once = reserve_frame(make({"draft_task_id": ["a", "b"]}), stage="draft", salt="s")
    again = reserve_frame(once, stage="draft", salt="other")
    assert column(again, "doc_id") == column(once, "doc_id")
    assert column(again, "doc_salt") == ["s", "s"]


def test_rows_with_the_same_doc_id_are_refused(make: Make) -> None:
    with pytest.raises(TaskTableError, match=r"same doc id \w+ as row 1") as error:
        reserve_frame(make({"draft_task_id": ["a", "b", "a", "b"]}), stage="draft")
    assert problems(error) == [(3, "draft_task_id"), (4, "draft_task_id")]
    frame = make({"draft_task_id": ["a", "b", "c"], "doc_id": [None, "d1", "d1"]})
    with pytest.raises(TaskTableError, match=r"same doc id d1 as row 2") as error:
        reserve_frame(frame, stage="draft")
    assert problems(error) == [(3, "doc_id")]


def test_invalid_doc_ids_are_refused(make: Make) -> None:
    frame = make({"draft_task_id": ["a", "b"], "doc_id": ["No Id", "../x"]})
    with pytest.raises(TaskTableError) as error:
        reserve_frame(frame, stage="draft")
    assert problems(error) == [(1, "doc_id"), (2, "doc_id")]


def test_parents_are_found_by_task_id(make: Make) -> None:
    drafts = reserve_frame(make({"draft_task_id": ["a", "b"], "words": [1, 2]}), stage="draft")
    essays = make({"essay_task_id": ["b__x", "a__x"], "draft_task_id": ["b", "a"]})
    expected = [reserve_doc_id("draft", "b"), reserve_doc_id("draft", "a")]
    rows = list(frame_to_tasks(drafts, DraftTask))
    for parents in (drafts, rows, {row.task_id: row.doc_id for row in rows}):
        reserved = reserve_frame(essays, stage="essay", parents=parents)
        assert column(reserved, "parent_doc_id") == expected
        assert column(reserved, "doc_id") == [reserve_doc_id("essay", "b__x"), reserve_doc_id("essay", "a__x")]
    again = reserve_frame(reserved, stage="essay", parents=drafts)
    assert column(again, "parent_doc_id") == expected
    kept = reserve_frame(reserved, stage="essay")
    assert column(kept, "parent_doc_id") == expected
    with pytest.raises(TaskTableError) as error:
        reserve_frame(essays, stage="essay", parents={"a": "d1"})
    assert problems(error) == [(1, "draft_task_id")]


def test_replicates_of_a_frame_find_their_parents(make: Make) -> None:
    tasks = make({"draft_task_id": ["a", "b"], "words": [1, 2], "doc_id": [None, "by-hand"]})
    drafts = reserve_frame(replicate_frame(tasks, 2, stage="draft"), stage="draft")
    assert column(drafts, "draft_task_id") == ["a", "a", "b", "b"]
    assert column(drafts, "words") == [1, 1, 2, 2]
    ids = [reserve_doc_id("draft", "a"), reserve_doc_id("draft", "a", salt="2")]
    assert column(drafts, "doc_id") == [*ids, "by-hand", reserve_doc_id("draft", "b", salt="2")]
    essays = make({"name": ["a__x"], "draft_task_id": ["a"]})
    for parents in (drafts, list(frame_to_tasks(drafts, DraftTask))):
        made = replicate_frame(essays, 2, stage="essay", task_id="name", parents=parents)
        assert column(made, "doc_salt") == [None, "1.2", "2", "2.2"]
        assert column(made, "parent_doc_id") == [ids[0], ids[0], ids[1], ids[1]]
        reserved = reserve_frame(made, stage="essay", task_id="name", parents=drafts)
        assert len(set(column(reserved, "doc_id"))) == 4
    # Without parent_doc_id, reserve_frame finds the parents by doc_salt.
    given = make({"essay_task_id": ["a__x"] * 2, "draft_task_id": ["a"] * 2, "doc_salt": ["1.2", "2"]})
    assert column(reserve_frame(given, stage="essay", parents=drafts), "parent_doc_id") == ids
    with pytest.raises(TaskTableError) as error:
        replicate_frame(make({"name": ["a"], "doc_salt": ["x"]}), 2, stage="draft", task_id="name")
    assert problems(error) == [(1, "doc_salt")]
    with pytest.raises(TaskTableError) as error:
        replicate_frame(make({"name": ["a", None]}), 2, stage="draft", task_id="name")
    assert problems(error) == [(2, "name")]
    assert column(replicate_frame(make({"draft_task_id": ["a"]}), 1, stage="draft"), "draft_task_id") == ["a"]
    with pytest.raises(ValueError, match="stage 'note' without a parent stage is not in"):
        replicate_frame(make({"note_task_id": ["a"]}), 2, stage="note")


def test_reserved_frame_has_the_salt_of_a_parent(make: Make) -> None:
    drafts = make({"draft_task_id": ["t"], "doc_id": ["d2"], "doc_salt": ["2"]})
    essays = reserve_frame(make({"essay_task_id": ["t__x"], "draft_task_id": ["t"]}), stage="essay", parents=drafts)
    assert column(essays, "doc_salt") == ["2"]
    assert column(essays, "doc_id") == [reserve_doc_id("essay", "t__x", None, "2")]


def test_replicates_do_not_copy_the_doc_id_of_a_selected_row(make: Make) -> None:
    selected = make({"essay_task_id": ["a", "b"], "essay_doc_id": ["e1", "e2"], "doc_id": ["e1", "e2"]})
    made = replicate_frame(selected, 2, stage="essay")
    assert column(made, "essay_doc_id") == ["e1", None, "e2", None]


def test_replicates_of_a_pandas_frame_repeat_its_index() -> None:
    frame = pd.DataFrame({"draft_task_id": ["a", "b"], "words": [1, 2]}, index=["x", "y"])
    made = replicate_frame(frame, 2, stage="draft")
    assert list(made.index) == ["x", "x", "y", "y"]
    assert made["words"].dtype == frame["words"].dtype
    assert len(replicate_frame(frame.head(0), 2, stage="draft")) == 0
    empty = pl.DataFrame({"draft_task_id": []}, schema={"draft_task_id": pl.String})
    assert replicate_frame(empty, 2, stage="draft").rows() == []


def test_stage_without_parent_ignores_parents(make: Make) -> None:
    frame = make({"draft_task_id": ["a"], "parent_doc_id": ["kept as it is"]})
    reserved = reserve_frame(frame, stage="draft", parents=make({"x": ["y"]}))
    assert column(reserved, "parent_doc_id") == ["kept as it is"]
    other = reserve_frame(make({"chapter_task_id": ["a"]}), stage="chapter")
    assert column(other, "doc_id") == [reserve_doc_id("chapter", "a")]


def test_stages_name_the_parent_stage(make: Make) -> None:
    stages = Stages.chain("outline", "chapter")
    outlines = reserve_frame(make({"outline_task_id": ["o"]}), stage="outline")
    chapters = make({"chapter_task_id": ["o__1"], "outline_task_id": ["o"]})
    reserved = reserve_frame(chapters, stage="chapter", parents=outlines, stages=stages)
    assert column(reserved, "parent_doc_id") == column(outlines, "doc_id")


def test_wrong_arguments_raise(make: Make) -> None:
    frame = make({"task": ["a"]})
    with pytest.raises(TaskTableError, match=r"column draft_task_id: missing from the frame; the columns are task"):
        reserve_frame(frame, stage="draft")
    with pytest.raises(InvalidName, match="stage"):
        reserve_frame(frame, stage="Draft")
    with pytest.raises(InvalidName, match="salt"):
        reserve_frame(frame, stage="draft", task_id="task", salt=" ")
    with pytest.raises(TypeError, match=r"expected a data frame of pandas, polars or pyarrow, got builtins\.list"):
        reserve_frame(["a"], stage="draft")  # type: ignore[type-var]
    with pytest.raises(TypeError, match=r"LazyFrame; collect\(\) it first"):
        reserve_frame(pl.LazyFrame({"draft_task_id": ["a"]}), stage="draft")  # type: ignore[type-var]


@pytest.mark.parametrize("word", ["nan", "None", " null"])
def test_run_id_that_means_missing_is_refused(make: Make, word: str) -> None:
    frame = make({"draft_task_id": ["a"]})
    for argument in ("run_id", "salt"):
        with pytest.raises(InvalidName, match=argument):
            reserve_frame(frame, stage="draft", **{argument: word})  # type: ignore[arg-type]


def test_faults_of_parents_name_the_parents(make: Make) -> None:
    essays = make({"essay_task_id": ["a__x"], "draft_task_id": ["a"]})
    with pytest.raises(TaskTableError, match=r"^parents row 2, column draft_task_id: empty"):
        reserve_frame(essays, stage="essay", parents=make({"draft_task_id": ["a", None], "doc_id": ["d1", "d2"]}))
    with pytest.raises(
        TaskTableError, match=r"^parents, column draft_task_id: missing from the frame; the columns are"
    ):
        reserve_frame(essays, stage="essay", parents=make({"draft": ["a"], "doc_id": ["d1"]}))
    lazy: Any = pl.LazyFrame({"draft_task_id": ["a"], "doc_id": ["d1"]})
    with pytest.raises(
        TypeError, match=r"parents: expected a data frame .* got polars\.LazyFrame; collect\(\) it first"
    ):
        reserve_frame(essays, stage="essay", parents=lazy)
    with pytest.raises(TypeError, match=r"parents: expected a data frame .* got pandas\.Series"):
        reserve_frame(essays, stage="essay", parents=pd.Series(["d1"]))


def test_task_column_may_be_the_parent_column(make: Make) -> None:
    frame = make({"draft_task_id": ["a"]})
    reserved = reserve_frame(frame, stage="essay", task_id="draft_task_id", parents={"a": "d1"})
    assert column(reserved, "doc_id") == [reserve_doc_id("essay", "a")]
    assert column(reserved, "parent_doc_id") == ["d1"]


def test_parents_of_an_unknown_stage_are_refused(make: Make) -> None:
    frame = make({"chapter_task_id": ["a"], "outline_task_id": ["o"], "draft_task_id": ["t"]})
    with pytest.raises(ValueError, match=r"the parent stage of 'chapter' is unknown; pass stages=Stages"):
        reserve_frame(frame, stage="chapter", parents={"o": "o1"})
    with pytest.raises(TypeError, match="stages: expected Stages, such as .*, got str"):
        reserve_frame(frame, stage="chapter", stages="outline,chapter")  # type: ignore[arg-type]
    stages = Stages.chain("outline", "chapter")
    reserved = reserve_frame(frame, stage="chapter", parents={"o": "o1"}, stages=stages)
    assert column(reserved, "parent_doc_id") == ["o1"]


def test_misspelt_columns_are_refused(make: Make) -> None:
    with pytest.raises(TaskTableError, match="column doc_id: missing from the frame; is 'Doc ID' misspelled"):
        reserve_frame(make({"draft_task_id": ["a"], "Doc ID": ["d1"]}), stage="draft")
    with pytest.raises(TaskTableError, match="the columns are id; name the column with task_id="):
        reserve_frame(make({"id": ["a"]}), stage="draft")
    with pytest.raises(TaskTableError, match="column name: missing from the frame; the columns are id$"):
        reserve_frame(make({"id": ["a"]}), stage="draft", task_id="name")


def test_path_instead_of_rows_is_refused() -> None:
    rows: Any = "draft_tasks.csv"
    with pytest.raises(
        TypeError, match="rows: expected rows of task tables .*, got str; read_tasks makes them from a file"
    ):
        tasks_to_frame(rows)


def test_missing_parent_column_is_reported_without_a_row(make: Make) -> None:
    with pytest.raises(TaskTableError, match=r"^column draft_task_id: missing from the frame"):
        reserve_frame(make({"essay_task_id": ["a"]}), stage="essay", parents={"a": "d1"})


def test_pandas_keeps_odd_column_names_and_attrs() -> None:
    frame = pd.DataFrame([["a", 1, 2, 3]], columns=["draft_task_id", 0, None, 0])
    frame.attrs["from"] = "hand"
    reserved = reserve_frame(frame, stage="draft")
    assert list(reserved.columns) == ["draft_task_id", 0, None, 0, "doc_id"]
    assert reserved.attrs == {"from": "hand"}
    assert list(frame.columns) == ["draft_task_id", 0, None, 0]
    with pytest.raises(TypeError, match=r"expected column names that are text, got 0"):
        frame_to_tasks(frame, DraftTask, reserved=False)
    twice = pd.DataFrame([["a", "b"]], columns=["draft_task_id", "draft_task_id"])
    with pytest.raises(TaskTableError, match=r"column draft_task_id: repeated"):
        reserve_frame(twice, stage="draft")


def test_real_table_survives_a_frame(daydreaming: Path, library: Any) -> None:
    path = daydreaming / "tables" / "active" / "evaluation_tasks.csv"
    rows = list(read_tasks(path, EvaluationTask))
    frame = tasks_to_frame(read_tasks(path, EvaluationTask), backend=library)
    assert list(frame_to_tasks(frame, EvaluationTask)) == rows
    assert names(frame) == list(rows[0].columns)
    bare = nw.from_native(frame, eager_only=True).drop("doc_id").to_native()
    reserved = reserve_frame(bare, stage="evaluation")
    assert column(reserved, "doc_id") == [reserve_doc_id("evaluation", row.task_id) for row in rows]


# --- tasks ---------------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class ChapterTask(TaskRow):
    stage = "chapter"
    parent_stage = "outline"
    words: int | None = None
    weight: float = 1.0
    final: bool | None = None
    title: str = attrs.field(default="", metadata={"column": "chapter_title"})


CHAPTERS = [
    ChapterTask(task_id="1", doc_id="c1", parent_doc_id="o1", words=3, final=True, title="nan", extra={"note": "é"}),
    ChapterTask(task_id="007", weight=0.5, extra={"note": ""}),
]


def test_tasks_keep_their_types_in_a_frame(library: Any) -> None:
    frame = tasks_to_frame(CHAPTERS, backend=library)
    assert column(frame, "words") == [3, None]
    assert column(frame, "final") == [True, None]
    assert column(frame, "weight") == [1.0, 0.5]
    assert column(frame, "chapter_title") == ["nan", ""]
    assert column(frame, "doc_id") == ["c1", None]
    assert column(frame, "note") == ["é", ""]
    assert list(frame_to_tasks(frame, ChapterTask, reserved=False)) == CHAPTERS
    with pytest.raises(TaskTableError) as error:
        list(frame_to_tasks(frame, ChapterTask))
    assert problems(error) == [(2, "parent_doc_id"), (2, "doc_id")]


cells = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
chapters = st.builds(
    ChapterTask,
    task_id=task_ids(),
    words=st.none() | st.integers(-(2**70), 2**70),
    weight=st.floats(allow_nan=False, allow_infinity=False),
    final=st.none() | st.booleans(),
    title=cells,
    extra=st.fixed_dictionaries({"note": cells}),
)


@given(st.lists(chapters, min_size=1, max_size=8), st.sampled_from(LIBRARIES))
def test_any_rows_survive_a_frame(rows: list[ChapterTask], library: Any) -> None:
    frame = tasks_to_frame(rows, backend=library)
    try:
        back = list(frame_to_tasks(frame, ChapterTask, reserved=False))
    except TaskTableError as error:
        assert {each.column for each in error.problems} == {"chapter_task_id"}
        return
    assert back == rows


def test_empty_table_keeps_its_columns(library: Any, tmp_path: Path) -> None:
    path = tmp_path / "draft_tasks.csv"
    path.write_text("note,draft_task_id\n")
    assert names(tasks_to_frame(read_tasks(path, DraftTask, reserved=False), backend=library)) == [
        *("note", "draft_task_id")
    ]
    frame = tasks_to_frame([], row_type=DraftTask, backend=library)
    assert names(frame)[0] == "draft_task_id"
    assert list(frame_to_tasks(frame, DraftTask)) == []
    with pytest.raises(ValueError, match="pass row_type"):
        tasks_to_frame([], backend=library)
    with pytest.raises(TypeError, match="expected rows of DraftTask, got EssayTask"):
        tasks_to_frame([DraftTask(task_id="a"), EssayTask(task_id="b")], backend=library)


def test_frame_is_written_as_a_table(library: Any, tmp_path: Path) -> None:
    drafts = reserve_frame(tasks_to_frame([DraftTask(task_id="t-1")], backend=library), stage="draft")
    write_tasks(tmp_path / "draft_tasks.csv", frame_to_tasks(drafts, DraftTask))
    [row] = read_tasks(tmp_path / "draft_tasks.csv", DraftTask)
    assert row.doc_id == reserve_doc_id("draft", "t-1")


def test_numbers_become_cell_text(make: Make) -> None:
    frame = make(
        {
            "chapter_task_id": ["a", "b"],
            "words": [3.0, None],
            "weight": [2, 3],
            "final": [False, True],
            "chapter_title": [7, 8],
            "made": [datetime(2026, 1, 2, tzinfo=UTC), None],
            "ratio": [0.5, float("nan")],
        }
    )
    first, second = frame_to_tasks(frame, ChapterTask, reserved=False)
    assert (first.words, first.weight, first.final, first.title) == (3, 2.0, False, "7")
    assert second.words is None
    assert first.extra == {"made": "2026-01-02T00:00:00+00:00", "ratio": "0.5"}
    assert second.extra == {"made": "", "ratio": ""}


def test_cells_without_text_are_reported_with_their_rows() -> None:
    frame = pandas_object(
        {
            "draft_task_id": ["a", 1, "c", "d"],
            "note": ["x", "y", ["a", "list"], "\ud800"],
            "cost": [Decimal("1.50"), np.array([1, 2]), 2, 3],
        }
    )
    with pytest.raises(TaskTableError) as error:
        list(frame_to_tasks(frame, DraftTask, reserved=False))
    assert sorted(problems(error), key=str) == [*((2, "cost"), (2, "draft_task_id"), (3, "note"), (4, "note"))]
    rows = frame_to_tasks(frame, DraftTask, reserved=False)
    with pytest.raises(TaskTableError):
        list(rows)


@pytest.mark.parametrize("kind", ["pandas-object", "polars", "pyarrow"])
def test_decimals_are_numbers(kind: str) -> None:
    frame = MAKERS[kind]({"draft_task_id": ["a", "b"], "cost": [Decimal("1.50"), None]})
    assert [row.extra["cost"] for row in frame_to_tasks(frame, DraftTask, reserved=False)] == ["1.50", ""]


def test_missing_column_is_reported_at_once(make: Make) -> None:
    with pytest.raises(
        TaskTableError, match=r"^column draft_task_id: missing from the frame; is 'draft_task' misspelled"
    ):
        frame_to_tasks(make({"draft_task": ["a"]}), DraftTask, reserved=False)


def test_messages_name_reserve_frame(make: Make) -> None:
    tasks = {"draft_task_id": ["a"]}
    with pytest.raises(TaskTableError, match=r"^column doc_id: missing from the frame; .* \(reserve_frame adds it\)$"):
        frame_to_tasks(make(tasks), DraftTask)
    with pytest.raises(TaskTableError, match=r"^row 1, column doc_id: missing; .* \(reserve_frame fills it\)$"):
        list(frame_to_tasks(make(tasks | {"doc_id": [""]}), DraftTask))
    assert list(frame_to_tasks(reserve_frame(make(tasks), stage="draft"), DraftTask))


# --- documents, scores, findings -----------------------------------------------------------------------------------


@pytest.fixture
def filled() -> DocsStore:
    store = DocsStore(MemoryBackend())
    made = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    metadata: list[dict[str, Any]] = [
        {
            "model_id": "m",
            "words": 1,
            "cost": 1,
            "mixed": 1,
            "task": {"a": [1]},
            "location": "here",
            "big": 2**63,
            "exact": 2**60 + 1,
        },
        {"model_id": "n", "cost": 0.5, "mixed": "x", "good": True, "big": 1, "exact": 0.5},
    ]
    for number, each in enumerate(metadata):
        store.write(
            Document(
                stage="draft",
                doc_id=f"d{1 - number}",
                task_id=f"t-{number}",
                raw_text="é" * (number + 1),
                parsed_text="7.5" if number else None,
                run_id="r" if number else None,
                metadata=each,
                created_at=made,
            )
        )
    return store


def test_documents_become_a_frame(filled: DocsStore, library: Any) -> None:
    frame = documents_to_frame(filled, "draft", texts=["raw", "parsed"], backend=library)
    assert column(frame, "doc_id") == ["d0", "d1"]
    assert column(frame, "task_id") == ["t-1", "t-0"]
    assert column(frame, "parent_doc_id") == [None, None]
    assert column(frame, "run_id") == ["r", None]
    assert column(frame, "created_at") == [datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)] * 2
    assert column(frame, "raw_bytes") == [4, 2]
    assert column(frame, "parsed_bytes") == [3, None]
    assert column(frame, "raw_text") == ["éé", "é"]
    assert column(frame, "parsed_text") == ["7.5", None]
    assert column(frame, "words") == [None, 1]
    assert column(frame, "cost") == [0.5, 1.0]
    assert column(frame, "mixed") == ['"x"', "1"]
    assert column(frame, "task") == [None, '{"a": [1]}']
    assert column(frame, "good") == [True, None]
    assert column(frame, "big") == ["1", str(2**63)]
    assert column(frame, "exact") == ["0.5", str(2**60 + 1)]
    assert column(frame, "metadata.location") == [None, "here"]
    assert column(frame, "location")[0].endswith("d0")
    some = documents_to_frame(filled, "draft", metadata=["model_id", "nowhere"], backend=library)
    assert names(some)[-2:] == ["model_id", "nowhere"]
    assert column(some, "model_id") == ["n", "m"]
    empty = documents_to_frame(filled, "essay", backend=library)
    assert (names(empty)[0], column(empty, "doc_id")) == ("doc_id", [])


def test_unreadable_documents_raise_or_are_skipped(local: DocsStore, library: Any) -> None:
    for doc_id in ("d1", "d2"):
        local.write(Document(stage="draft", doc_id=doc_id, task_id=doc_id, raw_text="…"))
    Path(local.path("draft", "d1"), "metadata.json").write_text("{")
    with pytest.raises(UnreadableDocument):
        documents_to_frame(local, "draft", backend=library)
    frame = documents_to_frame(local, "draft", skip_unreadable=True, backend=library)
    assert column(frame, "doc_id") == ["d2"]
    with pytest.raises(ValueError, match="expected raw, parsed or prompt"):
        documents_to_frame(local, "draft", texts=["cooked"])  # type: ignore[list-item]
    with pytest.raises(InvalidName):
        documents_to_frame(local, "chapter")


@pytest.mark.parametrize("of_text", [False, True])
def test_unavailable_store_raises_despite_skip_unreadable(monkeypatch: pytest.MonkeyPatch, of_text: bool) -> None:
    store = DocsStore(MemoryBackend())
    for doc_id in ("d1", "d2"):
        store.write(Document(stage="draft", doc_id=doc_id, task_id=doc_id, raw_text="…"))
    load = MemoryBackend.load

    def fail_for_d1(self: MemoryBackend, stage: str, doc_id: str, files: Any = ()) -> Any:
        if doc_id == "d1" and (tuple(files) == ("raw.txt",) or not of_text):
            raise StoreUnavailable("read", "s3://bucket", "no answer", "try again")
        return load(self, stage, doc_id, files)

    monkeypatch.setattr(MemoryBackend, "load", fail_for_d1)
    with pytest.raises(StoreUnavailable):
        documents_to_frame(store, "draft", texts=["raw"], skip_unreadable=True)


def test_unlistable_stage_raises(local: DocsStore) -> None:
    Path(local.path("draft", "d1")).parent.parent.mkdir()
    Path(local.path("draft", "d1")).parent.write_text("a file")
    with pytest.raises(OSError, match="cannot be listed"):
        documents_to_frame(local, "draft", skip_unreadable=True)


def test_unreadable_texts_raise_or_are_skipped(local: DocsStore, library: Any) -> None:
    for doc_id in ("d1", "d2"):
        local.write(Document(stage="draft", doc_id=doc_id, task_id=doc_id, raw_text="abc"))
    Path(local.path("draft", "d1"), "raw.txt").write_bytes(b"\xff\xff\xff")  # of the same size
    with pytest.raises(UnreadableDocument, match="not UTF-8"):
        documents_to_frame(local, "draft", texts=["raw"], backend=library)
    frame = documents_to_frame(local, "draft", texts=["raw"], skip_unreadable=True, backend=library)
    assert column(frame, "doc_id") == ["d2"]


def test_odd_legacy_records_fit_into_a_frame(local: DocsStore, library: Any) -> None:
    directory = Path(local.path("draft", "d1"))
    directory.mkdir(parents=True)
    (directory / "raw.txt").write_text("…", "utf-8")
    odd = {"model_id": "half \ud800", "n": [float("nan"), "\ud800"], "\udfff": 1, "location": "x"}
    (directory / "metadata.json").write_text(json.dumps({**odd, "metadata.location": "y"}))
    frame = documents_to_frame(local, "draft", backend=library)
    assert column(frame, "\\udfff") == [1]
    assert column(frame, "metadata.location") == ["x"]
    assert column(frame, "metadata.metadata.location") == ["y"]
    assert column(frame, "model_id") == ["half \\ud800"]
    assert column(frame, "created_at") == [None]
    (directory / "metadata.json").write_text(f'{{"a": {"[" * 1000}{"]" * 1000}, "b": [1]}}')
    frame = documents_to_frame(local, "draft", backend=library)
    assert (column(frame, "a"), column(frame, "b")) == (["(more than 250 levels deep)"], ["[1]"])


def test_scores_become_a_frame(store: DocsStore, library: Any) -> None:
    text: dict[str, Any] = {"raw_text": "…"}
    store.write(Document(stage="draft", doc_id="d1", task_id="t", **text))
    store.write(Document(stage="essay", doc_id="e1", task_id="t__x", parent_doc_id="d1", **text))
    for number, parsed in enumerate(["7.5", "good"]):
        evaluation: dict[str, Any] = {"task_id": f"v-{number}", "parent_doc_id": "e1", "parsed_text": parsed, **text}
        store.write(Document(stage="evaluation", doc_id=f"v{number}", **evaluation))
    frame = scores_to_frame(scores(store), backend=library)
    assert column(frame, "score") == [7.5, None]
    assert column(frame, "error") == [None, "parsed text is not a number: 'good'"]
    assert column(frame, "created_at") == [
        each.created_at for each in (store.open("evaluation", f"v{n}") for n in (0, 1))
    ]
    assert column(frame, "draft_doc_id") == ["d1", "d1"]
    assert column(scores_to_frame([], backend=library), "score") == []


def test_scores_of_tasks_become_a_frame(library: Any) -> None:
    given = [
        Score("v1", "e1", "", "kind", "m", 6.0, "", "", "t-1", {}, "", {"combo_id": "c", "draft_model": ""}),
        Score("v2", "e1", "", "kind", "m", 8.0, "", "", "t-1", {}, "", {"combo_id": "c"}),
        Score("v3", "e2", "", "kind", "m", None, "", "", "t-2", {}),
    ]
    frame = task_scores_to_frame(aggregate_scores(given), backend=library)
    assert column(frame, "parent_task_id") == ["t-1", "t-2"]
    assert column(frame, "score") == [7.0, None]
    assert column(frame, "deviation") == [pytest.approx(2**0.5), None]
    assert column(frame, "no_score") == [0, 1]
    assert column(frame, "parent_doc_id") == [None, None]
    assert column(frame, "combo_id") == ["c", None]
    assert column(task_scores_to_frame([], backend=library), "score") == []


def test_findings_become_a_frame(library: Any) -> None:
    report = audit(None, {"draft": [DraftTask(task_id="t-1")]})
    frame = findings_to_frame(report, backend=library)
    assert names(frame) == ["code", "level", "stage", "doc_id", "task_id", "where", "message", "hint"]
    assert column(frame, "code") == ["missing-doc-id"]
    assert column(frame, "doc_id") == [None]
    assert column(findings_to_frame(audit(None), backend=library), "code") == []


def test_backend_is_the_named_library_or_the_first_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [DraftTask(task_id="t-1")]
    assert isinstance(tasks_to_frame(rows), pd.DataFrame)
    assert isinstance(tasks_to_frame(rows, backend="pyarrow"), pa.Table)
    with pytest.raises(ValueError, match="expected pandas, polars or pyarrow, got 'dask'"):
        tasks_to_frame(rows, backend="dask")  # type: ignore[arg-type]
    monkeypatch.setattr("docid.integrations.frames.find_spec", lambda name: None if name == "pandas" else object())
    assert isinstance(tasks_to_frame(rows), pl.DataFrame)
    monkeypatch.setattr("docid.integrations.frames.find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"needs pandas, polars or pyarrow: pip install pandas"):
        tasks_to_frame(rows)
    with pytest.raises(ImportError, match=r"needs polars: pip install polars"):
        tasks_to_frame(rows, backend="polars")


def test_missing_narwhals_names_the_extra() -> None:
    code = "import sys; sys.modules['narwhals'] = None; import docid.frames"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.splitlines()[-1] == (
        "ImportError: docid.frames needs narwhals: pip install 'docid-store[frames]'"
    )

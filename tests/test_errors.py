from __future__ import annotations

import copy
import inspect
import pickle
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

import docid
from docid._text import quote
from docid.core.document import Document
from docid.core.outcomes import WriteManyError
from docid.errors import (
    ContentConflict,
    ConvertedError,
    DocidError,
    DocumentBusy,
    DocumentChanged,
    DocumentClaimed,
    DocumentNotFound,
    DuplicateTaskId,
    DurabilityUnknown,
    HasChildren,
    InvalidDocument,
    InvalidName,
    InvalidReply,
    LineageConflict,
    MissingParent,
    Problem,
    ReplyRescued,
    StagesConflict,
    StoreUnavailable,
    TaskTableError,
    TooManyFailures,
    UnreadableDocument,
    UnreadableManifest,
)

EXAMPLES = [
    InvalidName("task_id", "x" * 500, "too long", "less"),
    DuplicateTaskId("t", (1, 3)),
    InvalidDocument("metadata.a", "wrong; expected right"),
    LineageConflict(
        stage="essay",
        doc_id="a1",
        task_id="t",
        parent_doc_id="p",
        stored_task_id="u",
        stored_parent_doc_id=None,
        location="docs/essay/a1",
    ),
    ContentConflict(
        stage="essay", doc_id="a1", task_id="t", parts=("raw", "parsed"), missing_parts=(), location="docs/essay/a1"
    ),
    ContentConflict(
        stage="essay", doc_id="a1", task_id="t", parts=("parsed",), missing_parts=("parsed",), location="docs/essay/a1"
    ),
    MissingParent(stage="essay", doc_id="a1", task_id="t", parent_stage="draft", parent_doc_id=None),
    MissingParent(
        stage="essay", doc_id="a1", task_id="t", parent_stage="draft", parent_doc_id="p1", found_in=("evaluation",)
    ),
    DocumentNotFound("essay", "a1", "docs/essay/a1", ("draft",)),
    UnreadableDocument("essay", "a1", "docs/essay/a1", "a hole in it"),
    DocumentBusy("essay", "a1", "docs/essay/a1", "t"),
    DocumentClaimed("essay", "a1", "docs/essay/a1", "t", "process 12 on node-3"),
    DocumentClaimed("essay", "a1", "docs/essay/a1", "t", "this very call", "make(row) must not ensure its own row"),
    DocumentClaimed("essay", "a1", "docs/essay/a1", "t", "process 12 on node-3", "wait", action="removed"),
    HasChildren("draft", "d1", "docs/draft/d1", "t", tuple(f"essay/e{number}" for number in range(20))),
    HasChildren("draft", "d1", "docs/draft/d1", "t", ("essay/e1",), "erase"),
    TooManyFailures(20, "AuthenticationError: the key was revoked"),
    ConvertedError("APIStatusError", "Error code: 529"),
    DocumentChanged("essay", "a1", "docs/essay/a1", "t", ("prompt", "metadata.model_id")),
    InvalidReply("essay", "a1", "t", "bytes"),
    ReplyRescued("essay", "a1", "docs/essay/a1", "t", ("docs/.docid/rescued/essay/a1-x.json",)),
    DurabilityUnknown("essay", "a1", "docs/essay/a1", "EIO"),
    StagesConflict("docs/.docid/store.json", "essay", "draft", "outline"),
    StagesConflict("docs/.docid/store.json", "essay", None, "outline"),
    UnreadableManifest("docs/.docid/store.json", "not JSON"),
    UnreadableManifest("docs/.docid/store.json", "its format is docid/store/2", is_later=True),
    StoreUnavailable("write", "s3://b/draft/d1.json", "no answer", "try again", refused=True),
    WriteManyError([None], {0: InvalidName("doc_id", "..", "not a doc id", "one")}),
    TaskTableError([Problem("t.csv", 12, "parent_doc_id", "", "missing; expected the doc id of a draft")]),
    TaskTableError([Problem("t.csv", n, None, "", "wrong") for n in range(20)], 4000),
]


def test_every_error_has_an_example() -> None:
    public = [value for name, value in vars(docid).items() if name in docid.__all__]
    classes = {each for each in public if inspect.isclass(each) and issubclass(each, DocidError)}
    assert classes - {DocidError} == {type(example) for example in EXAMPLES}


def test_base_error_takes_a_text_and_pickles() -> None:
    assert str(DocidError("a text")) == "a text"
    assert str(pickle.loads(pickle.dumps(DocidError("a text")))) == "a text"


def test_wrong_facts_are_refused() -> None:
    name: Any = InvalidName
    with pytest.raises(TypeError, match="InvalidName: expected the facts argument, value, problem, expected"):
        name("task_id", "", "empty", "text", "more")
    with pytest.raises(TypeError, match="InvalidName: expected the facts argument, value, problem, expected"):
        name("task_id", "", wrong="x")


def test_error_without_message_is_empty() -> None:
    class Short(DocidError):
        stage: str

    assert (str(Short("draft")), Short("draft").stage) == ("", "draft")


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_pickled_or_copied_error_keeps_its_facts(error: DocidError) -> None:
    error.add_note("seen by worker 3")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert (type(again), str(again), repr(vars(again))) == (type(error), str(error), repr(vars(error)))
    assert repr(vars(copy.copy(error))) == repr(vars(error))


def _fail() -> None:
    raise EXAMPLES[3]


def test_error_crosses_a_process_pool() -> None:
    with ProcessPoolExecutor(1) as pool, pytest.raises(LineageConflict) as caught:
        pool.submit(_fail).result()
    assert caught.value.stored_task_id == "u"


def test_lineage_conflict_names_both_lineages_path_and_remedy() -> None:
    message = str(EXAMPLES[3])
    for fact in ("essay/a1", "docs/essay/a1", "task_id='u'", "parent_doc_id=None", "task_id='t'", "'p'", "salt"):
        assert fact in message


def test_content_conflict_names_remedy() -> None:
    assert "if_exists='replace'" in str(EXAMPLES[4])
    assert "store.add_part('essay', 'a1', …) adds it" in str(EXAMPLES[5])


def test_table_error_shows_ten_problems_and_the_total() -> None:
    message = str(EXAMPLES[-1])
    assert message.startswith("4,000 problems:\n  t.csv row 0: wrong\n")
    assert message.endswith("\n  … and 3,990 more")
    assert message.count("\n") == 11
    assert str(EXAMPLES[-2]) == "t.csv row 12, column parent_doc_id: missing; expected the doc id of a draft"


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        pytest.param(Problem("t.csv", 2, "a", "x", "expected y"), "t.csv row 2, column a: 'x'; expected y", id="cell"),
        pytest.param(Problem("t.csv", None, None, "", "no header"), "t.csv: no header", id="table"),
        pytest.param(Problem("", 2, None, "", "short"), "row 2: short", id="rows of no file"),
        pytest.param(Problem("", None, "a", "", "missing"), "column a: missing", id="column of no file"),
        pytest.param(Problem("", None, None, "", "wrong"), "wrong", id="nothing known"),
        pytest.param(Problem("t.csv", 1, "", "", "twice"), "t.csv row 1, column without a name: twice", id="no name"),
    ],
)
def test_problem_prints_place_value_and_expectation(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_write_many_error_shows_ten_failures_and_the_total() -> None:
    message = str(WriteManyError([None] * 300, {number: OSError(28, "No space left") for number in range(100, 300)}))
    assert message.startswith(
        "200 of 300 documents failed (the others are stored); positions count from 0:\n  position 100: [Errno 28]"
    )
    assert message.endswith("… and 190 more")
    assert message.count("\n") == 11


def test_write_many_error_counts_documents_that_were_not_tried() -> None:
    documents = dict.fromkeys(range(1, 4), Document(stage="draft", doc_id="d1", task_id="t-1", raw_text=""))
    error = WriteManyError([None] * 4, {1: OSError(28, "No space left")}, documents, True)
    assert str(error) == (
        "1 of 4 documents failed, 2 were not tried (the others are stored); positions count from 0:\n  position 1: [Errno 28] No space left\n"
        "  the store failed, so docid took no more documents; `documents` holds those not written"
    )


def test_quote_cuts_long_value_in_the_middle() -> None:
    text = quote("a" * 50 + "b" * 1000 + "c" * 50)
    assert text.startswith("'aaa")
    assert text.endswith("ccc' (1102 characters)")
    assert len(text) < 100


def test_quote_escapes_text_that_is_not_nfc() -> None:
    assert (quote("caf\u00e9"), quote("cafe\u0301")) == ("'caf\u00e9'", r"'cafe\u0301'")

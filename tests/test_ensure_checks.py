"""What `ensure` refuses before it pays, and what `make` may return."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import decimal
import functools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from docid import DocsStore, Document, DraftTask, Ensured, EssayTask, InvalidDocument, InvalidReply, Reply, ReplyRescued
from docid.backends import MemoryBackend
from tests.store_documents import draft

ROW = DraftTask(task_id="t-1", doc_id="a1")


def model(row: object, prompt: str = "") -> str:
    pytest.fail("paid")


async def amodel(row: object) -> str:
    return "text"


class AsyncModel:
    async def __call__(self, row: object) -> str:
        return "text"


@pytest.mark.parametrize(
    ("options", "error", "problem"),
    [
        ({"if_exists": "fail"}, ValueError, "if_exists: expected 'keep' or 'replace', got 'fail'"),
        (
            {"if_changed": "keep"},
            ValueError,
            "if_changed: expected 'ignore', 'report', 'replace' or 'fail', got 'keep'",
        ),
        ({"claim": True}, ValueError, "claim: expected 'wait', 'skip' or 'off', got True"),
        ({"claim_timeout": -1}, ValueError, "claim_timeout: expected seconds, 0 or more, got -1"),
        ({"if_exists": "replace", "if_changed": "report"}, ValueError, "if_changed: if_exists='replace' makes every"),
        ({"run_id": " r"}, ValueError, "run_id ' r': leading"),
        ({"prompt": 5}, TypeError, "prompt: expected a str, got int"),
        ({"prompt": "\ud800"}, InvalidDocument, "prompt: character 0 is the lone surrogate"),
        ({"prompt": lambda row: None}, TypeError, "prompt: expected a str, got NoneType"),
        ({"prompt": lambda row: "\ud800"}, InvalidDocument, "prompt: character 0 is the lone surrogate"),
        ({"metadata": [1]}, TypeError, "metadata: expected a mapping, got list"),
        ({"metadata": {"k": float("nan")}}, InvalidDocument, "metadata.k: nan"),
        ({"metadata": {1: "x"}}, InvalidDocument, "the key 1 cannot be a JSON key"),
        ({"metadata": {"task_id": "t-2"}}, InvalidDocument, "metadata.task_id: 't-2', but"),
        ({"metadata": lambda row: {"k": decimal.Decimal(1)}}, InvalidDocument, "metadata.k: Decimal"),
        ({"colour": "red"}, TypeError, "colour"),
    ],
)
def test_wrong_argument_costs_nothing(options: dict[str, Any], error: type[Exception], problem: str) -> None:
    store = DocsStore("memory://")
    with pytest.raises(error, match=problem):
        store.ensure(ROW, model, **options)
    assert list(store.ids("draft")) == []
    assert list(store.backend.list_claims("draft")) == []


@pytest.mark.parametrize(
    ("make", "options", "problem"),
    [
        (lambda: "old form", {}, r"docid calls make\(row\), but it takes \(\); expected for example lambda row: model"),
        (lambda row: "", {"prompt": "p"}, r"docid calls make\(row, prompt\), but it takes \(row\)"),
        (lambda row, prompt: "", {}, r"docid calls make\(row\)"),
        (amodel, {}, "a coroutine function; aensure"),
        (functools.partial(amodel), {}, "a coroutine function"),
        (AsyncModel(), {}, "a coroutine function"),
        ("model", {}, "make: expected a function, got str"),
    ],
)
def test_make_that_does_not_fit_is_refused_before_anything(make: Any, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        DocsStore("memory://").ensure(ROW, make, **options)


def test_function_without_a_signature_is_called() -> None:
    class Model:
        __signature__ = "unknown"

        def __call__(self, row: object) -> str:
            return "text"

    assert DocsStore("memory://").ensure(ROW, Model()).outcome == "created"


@pytest.mark.parametrize("made", [None, (each for each in "ab"), asyncio.sleep(0)])
def test_none_generator_and_awaitable_are_refused(made: Any) -> None:
    store = DocsStore("memory://")
    with pytest.raises(InvalidReply, match=r"draft/a1 \(task_id='t-1'\) was not written: make\(\) returned "):
        store.ensure(ROW, lambda row: made)
    assert list(store.list_rescued()) == []


class Usage:
    def __init__(self) -> None:
        self.tokens = 12

    def model_dump(self) -> dict[str, int]:
        return {"tokens": 12}


@dataclasses.dataclass
class Timing:
    seconds: float = 1.5


class Span(NamedTuple):
    start: int
    end: int


# Ordinary replies, each with the metadata that is stored.
REPLIES = [
    ("tuple", Reply("x", metadata={"k": (1, 2)}), {"k": [1, 2]}),
    ("named tuple", Reply("x", metadata={"k": Span(1, 2)}), {"k": [1, 2]}),
    (
        "datetime",
        Reply("x", metadata={"k": dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC)}),
        {"k": "2026-01-02T03:00:00+00:00"},
    ),
    ("date", Reply("x", metadata={"k": dt.date(2026, 1, 2)}), {"k": "2026-01-02"}),
    ("path", Reply("x", metadata={"k": Path("a/b")}), {"k": "a/b"}),
    ("dataclass", Reply("x", metadata={"k": Timing()}), {"k": {"seconds": 1.5}}),
    ("SDK object", Reply("x", metadata={"usage": Usage()}), {"usage": {"tokens": 12}}),
    ("NumPy scalar", Reply("x", metadata={"k": np.float64(0.5), "n": np.int64(3)}), {"k": 0.5, "n": 3}),
    ("NumPy array", Reply("x", metadata={"k": np.arange(3)}), {"k": [0, 1, 2]}),
    (
        "key of docid",
        Reply("x", metadata={"files": ["a"], "format": "f", "docid": 1}),
        {"files": ["a"], "format": "f", "docid": 1},
    ),
    ("empty text", Reply(""), {}),
    ("text", "x", {}),
]


@pytest.mark.parametrize(("made", "stored"), [each[1:] for each in REPLIES], ids=[each[0] for each in REPLIES])
def test_ordinary_reply_is_stored(store: DocsStore, made: Any, stored: dict[str, Any]) -> None:
    done = store.ensure(ROW, lambda row: made)
    assert (done.outcome, done.document.metadata) == ("created", stored)
    assert store.read("draft", "a1").metadata == stored
    assert store.ensure(ROW, model).outcome == "kept"


# Replies that cannot be stored, the error, and the raw text in the rescue file.
UNSTORABLE: list[tuple[str, Any, type[Exception], str]] = [
    ("half a surrogate pair", Reply("half \ud83d"), InvalidDocument, "half \ud83d"),
    ("half a pair as text", "half \ud83d", InvalidDocument, "half \ud83d"),
    ("NaN", Reply("x", metadata={"k": float("nan")}), InvalidDocument, "x"),
    ("NumPy NaN", Reply("x", metadata={"k": np.float64("nan")}), InvalidDocument, "x"),
    ("int key", Reply("x", metadata={1: 2}), InvalidDocument, "x"),  # type: ignore[dict-item]
    ("Decimal", Reply("x", metadata={"k": decimal.Decimal("0.1")}), InvalidDocument, "x"),
    ("set", Reply("x", metadata={"k": {1}}), InvalidDocument, "x"),
    ("big integer", Reply("x", metadata={"k": 2**70}), InvalidDocument, "x"),
    ("other task", Reply("x", metadata={"task_id": "t-2"}), InvalidDocument, "x"),
    ("metadata that is no mapping", Reply("x", metadata=[1]), TypeError, "x"),  # type: ignore[arg-type]
    ("time without a zone", Reply("x", created_at=dt.datetime(2026, 1, 1)), InvalidDocument, "x"),
    ("time that is no time", Reply("x", created_at="now"), TypeError, "x"),  # type: ignore[arg-type]
    ("parsed text that is no text", Reply("x", parsed_text=5), TypeError, "x"),  # type: ignore[arg-type]
    ("raw text that is no text", Reply(b"bytes"), TypeError, ""),  # type: ignore[arg-type]
    ("number", 5, InvalidReply, ""),
    ("dict", {"text": "x"}, InvalidReply, ""),
    ("SDK object", Usage(), InvalidReply, ""),
    ("document of another row", draft(task_id="t-2", raw_text="x"), InvalidDocument, "x"),
]


@pytest.mark.parametrize(
    ("made", "error", "text"), [each[1:] for each in UNSTORABLE], ids=[each[0] for each in UNSTORABLE]
)
def test_reply_that_cannot_be_stored_is_rescued_and_not_paid_again(
    store: DocsStore, made: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        store.ensure(ROW, lambda row, prompt: made, prompt="sent", metadata={"model": "m"})
    assert caught.value.rescued in caught.value.__notes__[0]  # type: ignore[attr-defined]
    assert not store.exists("draft", "a1")
    with pytest.raises(ReplyRescued) as again:
        store.ensure(ROW, model)
    assert again.value.rescued == (caught.value.rescued,)  # type: ignore[attr-defined]
    [rescued] = store.list_rescued()
    assert (rescued.stage, rescued.doc_id, rescued.task_id, rescued.is_waiting) == ("draft", "a1", "t-1", True)
    if text:
        assert rescued.reply.raw_text == text
        assert rescued.reply.prompt_text == "sent"
    assert type(caught.value).__name__ in rescued.problem
    rescued.discard()
    assert list(store.list_rescued()) == []
    assert store.ensure(ROW, lambda row: "again").outcome == "created"


def test_reply_of_any_content_can_be_made() -> None:
    for value in (None, 5, b"x", "half \ud83d"):
        reply = Reply(value, parsed_text=value, prompt_text=value, metadata=value, created_at=value)  # type: ignore[arg-type]
        assert reply.raw_text is value
        assert "Reply of" in repr(reply)
    assert repr(Reply("x" * 1200)) == "<Reply of 1,200 characters>"


def test_result_pickles_and_describes_itself(store: DocsStore) -> None:
    done = store.ensure(ROW, lambda row: "text")
    assert repr(done).startswith("<Ensured created draft/a1 at ")
    assert done.path.name.startswith("a1")
    assert "Ensured" in done._repr_html_()
    assert Ensured[DraftTask] is not None
    if isinstance(store.backend, MemoryBackend) or "memory" in store.root:
        return
    copy = pickle.loads(pickle.dumps(done))
    assert (copy.outcome, copy.row, copy.document.raw_text) == ("created", ROW, "text")


def test_row_is_checked_before_the_arguments_are_called() -> None:
    store = DocsStore("memory://")

    def render(_: object) -> str:
        pytest.fail("rendered")

    for row in (DraftTask(task_id="t-1"), EssayTask(task_id="e", doc_id="e1", parent_doc_id="a1")):
        with pytest.raises((ValueError, LookupError)):
            store.ensure(row, model, prompt=render)
    with pytest.raises(TypeError, match="expected a task row"):
        store.ensure(draft(), model)  # type: ignore[call-overload]


@pytest.mark.parametrize("is_there", [False, True])
def test_functions_are_called_only_for_a_call(store: DocsStore, is_there: bool) -> None:
    calls: list[str] = []

    def note(name: str, value: Any) -> Callable[..., Any]:
        def called(*_: object) -> Any:
            calls.append(name)
            return value

        return called

    if is_there:
        store.write(draft())
    store.ensure(ROW, note("make", ""), prompt=note("prompt", "p"), metadata=note("metadata", {}))
    assert calls == ([] if is_there else ["prompt", "metadata", "make"])


def test_exception_of_make_passes_and_frees_the_claim(store: DocsStore) -> None:
    def make(_: object) -> str:
        raise TimeoutError("no answer")

    with pytest.raises(TimeoutError):
        store.ensure(ROW, make)
    assert list(store.list_rescued()) == []
    assert store.ensure(ROW, lambda row: "later").outcome == "created"


def test_pending_yields_rows_without_documents(store: DocsStore) -> None:
    rows = [DraftTask(task_id=f"t-{number}", doc_id=f"d{number}") for number in range(30)]
    for row in rows[::3]:
        store.ensure(row, lambda row: Document.from_task(row, raw_text="x"))
    assert list(store.pending(rows)) == [row for number, row in enumerate(rows) if number % 3]
    assert list(store.pending([])) == []
    with pytest.raises(ValueError, match="not reserved"):
        list(store.pending([DraftTask(task_id="t")]))

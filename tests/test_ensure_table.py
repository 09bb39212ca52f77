"""The decision table of `ensure` in `docs/store.md`: one case for each cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from docid import (
    DocsStore,
    Document,
    DocumentChanged,
    DocumentClaimed,
    DraftTask,
    DurabilityUnknown,
    EssayTask,
    LineageConflict,
    MissingParent,
    Outcome,
    Reply,
    ReplyRescued,
    UnreadableDocument,
)
from docid.backends import Claim
from tests.store_documents import damage, draft, essay, never, put_legacy

ROW = DraftTask(task_id="t-1", doc_id="a1")
PROMPT = "write"
METADATA = {"temperature": 1}


def put_nothing(_: DocsStore) -> None:
    """No document."""


def put_document(store: DocsStore) -> None:
    store.write(draft(parsed_text="p"))


def put_unparsed(store: DocsStore) -> None:
    store.write(draft())


def put_ensured(store: DocsStore) -> None:
    store.ensure(ROW, lambda row, prompt: "once", prompt=PROMPT, metadata=METADATA, parse=str.upper)


def put_damaged(store: DocsStore) -> None:
    put_document(store)
    damage(store, "raw.txt", b"onc")


def put_other_task(store: DocsStore) -> None:
    store.write(draft(task_id="t-2"))


def put_legacy_unknown(store: DocsStore) -> None:
    put_legacy(store, "draft", "a1", {"model": "m"}, raw="once")


def put_legacy_same(store: DocsStore) -> None:
    put_legacy(store, "draft", "a1", {"task_id": "t-1"}, raw="once")


def fail_to_parse(_: str) -> str:
    raise LookupError("no score")


# What is found, the arguments, the answer, and whether `make` was called.
LOOKS: list[tuple[Callable[[DocsStore], None], dict[str, Any], Any, bool]] = [
    *((put_damaged, {"if_exists": each}, UnreadableDocument, False) for each in ("keep", "replace")),
    (put_damaged, {"if_changed": "report"}, UnreadableDocument, False),
    *((put_other_task, {"if_exists": each}, LineageConflict, False) for each in ("keep", "replace")),
    *((put_other_task, {"claim": each}, LineageConflict, False) for each in ("skip", "off")),
    (put_legacy_unknown, {}, UnreadableDocument, False),
    (put_legacy_same, {"parse": str.upper}, "kept", False),
    (put_legacy_same, {"prompt": PROMPT, "if_changed": "fail"}, "kept", False),
    (put_legacy_same, {"if_exists": "replace"}, UnreadableDocument, False),
    (put_document, {}, "kept", False),
    (put_document, {"parse": fail_to_parse}, "kept", False),
    (put_document, {"if_exists": "replace"}, "replaced", True),
    (put_ensured, {"prompt": PROMPT, "metadata": METADATA, "if_changed": "fail"}, "kept", False),
    (put_ensured, {"prompt": "another", "if_changed": "fail"}, DocumentChanged, False),
    (put_ensured, {"metadata": {"temperature": 1.0}, "if_changed": "fail"}, DocumentChanged, False),
    (put_ensured, {"prompt": "another", "if_changed": "replace"}, "replaced", True),
    (put_ensured, {"prompt": PROMPT, "if_changed": "replace"}, "kept", False),
    (put_ensured, {"prompt": "another", "if_changed": "report"}, "kept", False),
    (put_ensured, {"prompt": "another"}, "kept", False),
    (put_unparsed, {"parse": str.upper}, "completed", False),
    (put_unparsed, {"parse": fail_to_parse}, "kept", False),
    (put_unparsed, {"parse": lambda _: None}, "kept", False),
    (put_nothing, {}, "created", True),
    (put_nothing, {"if_exists": "replace"}, "created", True),
    (put_nothing, {"if_changed": "replace"}, "created", True),
    (put_nothing, {"claim": "off"}, "created", True),
    (put_nothing, {"claim": "skip"}, "created", True),
]


@pytest.mark.parametrize(("put", "options", "expected", "is_called"), LOOKS)
def test_what_is_found_decides(
    store: DocsStore, put: Callable[[DocsStore], None], options: dict[str, Any], expected: Any, is_called: bool
) -> None:
    put(store)
    calls: list[object] = []

    def make(*arguments: object) -> str:
        calls.append(arguments)
        return "made"

    if isinstance(expected, str):
        done = store.ensure(ROW, make, **options)
        assert (done.outcome, done.called, done.row) == (expected, is_called, ROW)
        assert done.unwrap().outcome == expected
        assert done.document.raw_text == ("made" if is_called else "once")
    else:
        with pytest.raises(expected):
            store.ensure(ROW, make, **options)
    assert calls == ([(ROW, options["prompt"]) if "prompt" in options else (ROW,)] if is_called else [])
    assert list(store.backend.list_claims("draft")) == []


ESSAY = EssayTask(task_id="e-1", doc_id="e1", parent_doc_id="a1", input_doc_ids=("draft/b1",))


def put_drafts(store: DocsStore) -> None:
    store.write_many([draft("a1"), draft("b1", task_id="t-2")])


def put_essay(store: DocsStore) -> None:
    put_drafts(store)
    store.ensure(ESSAY, lambda _: "once")


def put_essay_of_earlier_parent(store: DocsStore) -> None:
    put_essay(store)
    store.write(draft("a1", raw_text="new"), if_exists="replace")


def put_essay_of_earlier_input(store: DocsStore) -> None:
    put_essay(store)
    store.write(draft("b1", task_id="t-2", raw_text="new"), if_exists="replace")


def put_essay_of_unknown_versions(store: DocsStore) -> None:
    put_drafts(store)
    store.ensure(ESSAY, lambda _: "once", require_parent=False)
    store.write_many([draft("a1", raw_text="new"), draft("b1", task_id="t-2", raw_text="new")], if_exists="replace")


def put_essay_of_other_inputs(store: DocsStore) -> None:
    put_drafts(store)
    store.ensure(attrs.evolve(ESSAY, input_doc_ids=("draft/b1", "draft/a1")), lambda _: "once")


def put_essay_alone(store: DocsStore) -> None:
    store.ensure(ESSAY, lambda _: "once", require_parent=False)


def put_parent_alone(store: DocsStore) -> None:
    store.write(draft("a1"))


def put_input_alone(store: DocsStore) -> None:
    store.write(draft("b1", task_id="t-2"))


EARLIER = (put_essay_of_earlier_parent, put_essay_of_earlier_input)
# The same for a row with a parent and an input.
MADE_FROM: list[tuple[Callable[[DocsStore], None], dict[str, Any], Any, bool]] = [
    (put_drafts, {}, "created", True),
    (put_drafts, {"if_changed": "fail"}, "created", True),
    *((put_essay, {"if_changed": each}, "kept", False) for each in ("ignore", "report", "replace", "fail")),
    *((put, {}, "kept", False) for put in EARLIER),
    *((put, {"if_changed": "report"}, "kept", False) for put in EARLIER),
    *((put, {"if_changed": "replace"}, "replaced", True) for put in EARLIER),
    *((put, {"if_changed": "replace", "claim": "off"}, "replaced", True) for put in EARLIER),
    *((put, {"if_changed": "fail"}, DocumentChanged, False) for put in EARLIER),
    *((put, {"if_exists": "replace"}, "replaced", True) for put in EARLIER),
    *((put_essay_of_unknown_versions, {"if_changed": each}, "kept", False) for each in ("report", "replace", "fail")),
    *((put_essay_of_other_inputs, {"if_exists": each}, LineageConflict, False) for each in ("keep", "replace")),
    *((put_essay_of_other_inputs, {"if_changed": each}, LineageConflict, False) for each in ("replace", "fail")),
    *((put_essay_alone, {"if_changed": each}, "kept", False) for each in ("ignore", "report", "replace", "fail")),
    (put_essay_alone, {"if_exists": "replace"}, MissingParent, False),
    *((put_nothing, {"claim": each}, MissingParent, False) for each in ("wait", "skip", "off")),
    (put_parent_alone, {}, MissingParent, False),
    (put_input_alone, {}, MissingParent, False),
    (put_nothing, {"require_parent": False}, "created", True),
]


@pytest.mark.parametrize(("put", "options", "expected", "is_called"), MADE_FROM)
def test_parent_and_inputs_decide(
    store: DocsStore, put: Callable[[DocsStore], None], options: dict[str, Any], expected: Any, is_called: bool
) -> None:
    put(store)
    calls: list[object] = []

    def make(row: object) -> str:
        calls.append(row)
        return "made"

    if isinstance(expected, str):
        done = store.ensure(ESSAY, make, **options)
        assert (done.outcome, done.called) == (expected, is_called)
        names: dict[Callable[[DocsStore], None], tuple[str, ...]]
        names = {put_essay_of_earlier_parent: ("parent",), put_essay_of_earlier_input: ("input.draft/b1",)}
        assert done.changed == (names.get(put, ()) if "if_changed" in options else ())
        assert done.document.raw_text == ("made" if is_called else "once")
    else:
        with pytest.raises(expected):
            store.ensure(ESSAY, make, **options)
    assert calls == ([ESSAY] if is_called else [])
    assert list(store.backend.list_claims("essay")) == []


def test_changes_are_named(store: DocsStore) -> None:
    put_ensured(store)
    changes: dict[str, Any] = {"prompt": lambda row: f"write {row.task_id}", "metadata": {"temperature": 2, "new": 1}}
    done = store.ensure(ROW, lambda row, prompt: "made", if_changed="report", **changes)
    assert done.changed == ("prompt", "metadata.temperature")
    with pytest.raises(DocumentChanged, match="made from another prompt, another metadata.temperature"):
        store.ensure(ROW, lambda row, prompt: "made", if_changed="fail", **changes)
    done = store.ensure(ROW, lambda row, prompt: "made", if_changed="replace", **changes)
    assert (done.outcome, done.changed) == ("replaced", ("prompt", "metadata.temperature"))
    assert store.ensure(ROW, lambda row, prompt: "", if_changed="report", **changes).changed == ()


def test_changes_are_found_in_what_was_stored(store: DocsStore) -> None:
    """A document that `write` stored has no hashes of what was given; its prompt and metadata count."""
    store.write(draft(prompt_text="old", metadata={"model": "m-1"}))

    def changed(**given: Any) -> tuple[str, ...]:
        return store.ensure(ROW, lambda *_: "", if_changed="report", **given).changed

    assert changed(prompt="old", metadata={"model": "m-1", "other": 1}) == ()
    assert changed(prompt="new", metadata={"model": "m-2"}) == ("prompt", "metadata.model")
    assert changed() == ()


def test_what_was_given_counts_and_not_what_make_reported(store: DocsStore) -> None:
    def make(_: DraftTask, prompt: str) -> Reply:
        return Reply("once", prompt_text=f"system: {prompt}", metadata={"model": "m-1-2026", "usage": 12})

    options: dict[str, Any] = {"prompt": PROMPT, "metadata": {"model": "m-1", "top": 1}}
    done = store.ensure(ROW, make, **options)
    assert done.document.metadata == {"model": "m-1-2026", "top": 1, "usage": 12}
    assert done.document.prompt_text == "system: write"
    assert store.ensure(ROW, make, if_changed="fail", **options).outcome == "kept"


def test_equal_text_is_unchanged_and_other_given_values_replace_the_record(store: DocsStore) -> None:
    put_ensured(store)
    given: dict[str, Any] = {"prompt": PROMPT, "metadata": METADATA, "parse": str.upper}
    same = store.ensure(ROW, lambda *_: "once", if_exists="replace", **given)
    assert (same.outcome, same.called) == ("unchanged", True)
    assert list(store.history("draft", "a1")) == []
    # The stored prompt is the same, but `given` is not.
    again = store.ensure(
        ROW, lambda *_: Reply("once", prompt_text=PROMPT), if_exists="replace", **given | {"prompt": "x"}
    )
    assert again.outcome == "replaced"
    assert store.ensure(ROW, lambda *_: "", prompt="x", if_changed="fail").outcome == "kept"


@pytest.mark.parametrize("options", [{}, {"claim": "skip"}, {"claim": "off"}, {"if_exists": "replace"}])
def test_missing_parent_and_rescued_reply_are_found_before_the_call(store: DocsStore, options: dict[str, Any]) -> None:
    row = EssayTask(task_id="e-1", doc_id="e1", parent_doc_id="a1")
    with pytest.raises(MissingParent):
        store.ensure(row, never, **options)
    assert store.ensure(row, lambda row: "made", require_parent=False, **options).outcome == "created"
    with pytest.raises(TypeError):
        store.ensure(ROW, lambda row: 5)  # type: ignore[arg-type,return-value]
    with pytest.raises(ReplyRescued):
        store.ensure(ROW, never, **options)


@pytest.mark.parametrize(("claim", "expected"), [("wait", DocumentClaimed), ("skip", "claimed"), ("off", "created")])
def test_held_claim_decides(store: DocsStore, claim: Any, expected: Any) -> None:
    held = store.backend.take_claim("draft", "a1")
    assert isinstance(held, Claim)
    try:
        if expected is DocumentClaimed:
            with pytest.raises(
                DocumentClaimed, match=r"draft/a1 \(task_id='t-1'\) was not made: process \d+ on .* holds"
            ):
                store.ensure(ROW, never, claim=claim, claim_timeout=0.05)
            return
        done = store.ensure(ROW, lambda row: "made", claim=claim)
        assert done.outcome == expected
        if expected == "claimed":
            assert (done.document, done.called) == (None, False)
            with pytest.raises(DocumentClaimed):
                done.unwrap()
    finally:
        held.release()


def write_during_call(store: DocsStore, document: Document, if_exists: Any = "keep") -> Callable[[object], str]:
    def make(_: object) -> str:
        store.write(document, if_exists=if_exists)
        return "mine"

    return make


@pytest.mark.parametrize(
    ("before", "during", "if_exists", "expected", "rescues"),
    [
        pytest.param(None, draft(raw_text="other"), "keep", "kept", True, id="other text was first"),
        pytest.param(None, draft(raw_text="mine"), "keep", "kept", False, id="the same text was first"),
        pytest.param(None, draft(raw_text="other"), "replace", "kept", True, id="other text, replace"),
        pytest.param(draft(), draft(raw_text="other"), "replace", "kept", True, id="a newer version"),
        pytest.param(draft(), draft(raw_text="mine"), "replace", "kept", False, id="a newer version, same text"),
        pytest.param(None, draft(task_id="t-2"), "keep", LineageConflict, True, id="another lineage"),
    ],
)
def test_what_another_writer_stored_during_the_call_decides(
    store: DocsStore, before: Document | None, during: Document, if_exists: Any, expected: Any, rescues: bool
) -> None:
    if before is not None:
        store.write(before)
    make = write_during_call(store, during, "replace")
    if isinstance(expected, str):
        done = store.ensure(ROW, make, if_exists=if_exists)
        assert (done.outcome, done.called, done.rescued is not None) == (expected, True, rescues)
        assert done.document.raw_text == during.raw_text
    else:
        with pytest.raises(expected) as caught:
            store.ensure(ROW, make, if_exists=if_exists)
        assert caught.value.rescued in str(caught.value.__notes__)
    found = list(store.list_rescued())
    assert [(each.reply.raw_text, each.is_waiting) for each in found] == [("mine", False)] * rescues


def test_replace_keeps_what_was_added_to_its_version_during_the_call(store: DocsStore) -> None:
    store.write(draft())

    def make(_: object) -> str:
        store.add_part("draft", "a1", "prompt", "sent")
        return "mine"

    assert store.ensure(ROW, make, if_exists="replace").outcome == "replaced"
    assert [version.prompt_text for version in store.history("draft", "a1")] == ["sent", None]


def test_durability_unknown_is_raised_and_the_document_is_there(
    store: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = store.backend.create

    def create_and_fail(stage: str, doc_id: str, *contents: Any) -> bool:
        create(stage, doc_id, *contents)
        raise DurabilityUnknown(stage, doc_id, "there", "EIO")

    monkeypatch.setattr(store.backend, "create", create_and_fail)
    with pytest.raises(DurabilityUnknown):
        store.ensure(ROW, lambda row: "mine")
    assert store.read("draft", "a1").raw_text == "mine"
    assert list(store.list_rescued()) == []


def test_parse_error_is_recorded_and_dropped_again(store: DocsStore) -> None:
    done = store.ensure(ROW, lambda row: "once", parse=fail_to_parse)
    assert (done.outcome, done.parse_error, done.document.parsed_text) == ("created", "LookupError: no score", None)
    assert done.document.record["docid"]["parse_error"] == "LookupError: no score"
    done = store.ensure(ROW, never, parse=fail_to_parse)
    assert (done.outcome, done.parse_error) == ("kept", "LookupError: no score")
    done = store.ensure(ROW, never, parse=str.upper)
    assert (done.outcome, done.parse_error, done.document.parsed_text) == ("completed", None, "ONCE")
    assert "parse_error" not in done.document.record["docid"]
    store.ensure(ROW, lambda row: "twice", parse=lambda _: "\ud800", if_exists="replace")  # parsed text that is no text
    assert "surrogate" in store.open("draft", "a1").record["docid"]["parse_error"]
    store.write(draft(raw_text="three"), if_exists="replace")
    assert "parse_error" not in store.open("draft", "a1").record["docid"]


def test_parser_that_returns_none_is_no_error_in_the_record(store: DocsStore) -> None:
    done = store.ensure(ROW, lambda row: "once", parse=lambda _: None)
    assert (done.parse_error, done.document.parsed_text) == ("parse() returned None", None)
    assert "parse_error" not in done.document.record["docid"]


def test_document_of_make_keeps_its_own_values(store: DocsStore) -> None:
    made = draft(raw_text="r", prompt_text="sent", metadata={"k": 2}, run_id="r-2")
    done = store.ensure(ROW, lambda row, prompt: made, prompt="given", metadata={"k": 1, "j": 1}, run_id="r-1")
    assert done.document.read() == attrs.evolve(made, metadata={"k": 2, "j": 1})


def test_run_id_of_ensure_wins_over_the_row(store: DocsStore) -> None:
    row = DraftTask(task_id="t-1", doc_id="a1", doc_run_id="of the row")
    assert store.ensure(row, lambda row: "once").document.run_id == "of the row"
    done = store.ensure(row, lambda row: "once", run_id="r-9", if_exists="replace")
    assert (done.outcome, done.document.run_id) == ("replaced", "r-9")


def test_essay_is_made_after_its_parent_is_found(store: DocsStore) -> None:
    store.write(draft(parsed_text="parsed"))
    row = EssayTask(task_id="e-1", doc_id="e1", parent_doc_id="a1")

    def render(row: EssayTask) -> str:
        return f"expand: {store.open('draft', row.parent_doc_id or '').parsed_text}"

    done = store.ensure(row, lambda row, prompt: prompt.upper(), prompt=render)
    assert done.document.raw_text == "EXPAND: PARSED"
    assert done.document.prompt_text == "expand: parsed"
    assert store.read("essay", "e1") == essay(
        raw_text="EXPAND: PARSED", prompt_text="expand: parsed", created_at=done.document.created_at
    )
    assert done.outcome is Outcome.CREATED

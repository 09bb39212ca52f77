"""What a notebook shows, and the one line of a plain terminal: all escaped, nothing run, nothing dumped."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docid import DocsStore, Document, DraftTask, Stages, StoreUnavailable, audit
from docid.backends import LocalBackend, MemoryBackend
from docid.backends.objects import ObjectsBackend
from docid.testing import documents

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202e"


class Outline(HTMLParser):
    """The elements of a view, each closed where it should be, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not [name for name, _ in attrs if name.startswith("on") or name in {"src", "href"}]
        self.tags.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


ALLOWED = {"div", "table", "tr", "th", "td", "bdi", "details", "summary", "pre"}


def seen(value: object) -> str:
    """Return the text of what a notebook shows."""
    html = value._repr_html_()  # type: ignore[attr-defined]
    outline = Outline(html)
    assert outline.tags <= ALLOWED
    assert "url(" not in html
    return outline.text


def document(**fields: object) -> Document:
    given = {"stage": "draft", "doc_id": "d1", "task_id": "t-1", "raw_text": "Once.", **fields}
    return Document(**given)  # type: ignore[arg-type]


def test_a_document(store: DocsStore) -> None:
    held = document(parsed_text="parsed", prompt_text="prompt", run_id="r", metadata={"model_id": "m"})
    text = seen(held)
    for part in ("draft/d1", "t-1", "Once.", "parsed (6 characters)", "prompt (6 characters)", '"model_id": "m"', "r"):
        assert part in text
    assert held._repr_html_().count("<details open") == 1
    assert repr(held) == "<Document draft/d1 task_id='t-1' raw+parsed+prompt>"


def test_a_stored_document(store: DocsStore) -> None:
    result = store.write(document(metadata={"model_id": "m"}))
    stored = store.open("draft", "d1")
    text = seen(stored)
    for part in ("StoredDocument draft/d1", "t-1", "Once.", result.location, '"model_id": "m"'):
        assert part in text
    assert repr(stored) == "<StoredDocument draft/d1 task_id='t-1'>"
    ensured = store.ensure(DraftTask(task_id="t-1", doc_id="d1"), lambda: pytest.fail("made again"))
    assert "draft/d1 · kept" in seen(ensured)


def test_a_stored_document_that_cannot_be_read_is_shown_all_the_same(local: DocsStore) -> None:
    local.write(document())
    stored = local.open("draft", "d1")
    Path(stored.path, "raw.txt").unlink()
    text = seen(stored)
    assert "cannot be read: draft/d1" in text
    assert "t-1" in text


def test_a_write_result(store: DocsStore) -> None:
    created = store.write(document())
    assert "WriteResult draft/d1 · created" in seen(created)
    assert repr(created) == f"<WriteResult created draft/d1 at {created.location}>"
    kept = store.write(document(parsed_text="x", metadata={"n": 1}), if_exists="keep")
    assert "parsed: store.add_part adds them" in seen(kept)
    assert repr(kept) == f"<WriteResult kept draft/d1 at {created.location} metadata differs, without parsed>"


def test_a_store(store: DocsStore) -> None:
    store.write_many(document(doc_id=f"d{number}", task_id=f"t-{number}") for number in range(3))
    text = seen(store)
    assert f"DocsStore {store.root}" in text
    assert re.search(r"draft\s*—\s*3", text)
    assert re.search(r"essay\s*draft\s*0", text)
    assert repr(store).startswith("<DocsStore draft, essay, evaluation in ")
    assert "\n" not in repr(store)


def test_the_root_of_a_store_is_told_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert DocsStore("docs").root == "docs"
    assert DocsStore(".").root == "."
    assert DocsStore(tmp_path / "docs").root == str(tmp_path / "docs")
    assert DocsStore(ObjectsBackend("memory://")).root.startswith("memory:")


def test_a_store_with_many_documents_is_not_counted_to_the_end(
    store: DocsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docid.store.docs_store._COUNT_LIMIT", 2)
    monkeypatch.setattr("docid.store.docs_store._COUNT_LIMIT_REMOTE", 2)
    store.write_many(document(doc_id=f"d{number}", task_id=f"t-{number}") for number in range(3))
    assert "more than 2" in seen(store)


def test_a_store_that_does_not_answer_is_shown_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailable("list", "s3://bucket", "no answer", "try again")

    monkeypatch.setattr(MemoryBackend, "ids", away)
    assert "cannot be listed: cannot list s3://bucket: no answer" in seen(DocsStore(MemoryBackend()))


def test_an_audit() -> None:
    rows = [DraftTask(task_id=f"t-{number}") for number in range(25)]
    report = audit(DocsStore(MemoryBackend()), {"draft": rows})
    text = seen(report)
    assert "AuditReport · 25 errors, 0 warnings" in text
    assert "missing-doc-id (error): 25" in text
    assert "… and 5 more" in text
    assert "run 'docid reserve' to fill it" in text
    assert "AuditReport · no errors, 0 warnings" in seen(audit(None))
    assert repr(report) == "<AuditReport 25 errors, 0 warnings: missing-doc-id 25>"


def test_hostile_text_is_text() -> None:
    held = document(
        task_id=f"t {HOSTILE}", raw_text=f"{HOSTILE}\x00\x1b[31m\r\n\u200f", metadata={HOSTILE: HOSTILE, "n": [HOSTILE]}
    )
    text = seen(held)
    assert text.count("onerror=alert(2)") == 5
    assert "\\x00\\x1b[31m\r\n\u200f" in text
    assert "\u202e" not in text
    store = DocsStore(MemoryBackend())
    store.write(held)
    assert "onerror" in seen(store.open("draft", "d1"))
    report = audit(store, {"draft": [DraftTask(task_id=f"x {HOSTILE}")]})
    assert "onerror" in seen(report)


def test_long_text_is_cut() -> None:
    held = document(raw_text="x" * 10_000_000, metadata={"long": "y" * 10_000})
    html = held._repr_html_()
    assert len(html) < 8_000
    assert "raw (10,000,000 characters)" in html
    assert "… and 9,998,000 more characters" in html
    assert len(repr(document(task_id="t" * 10_000))) < 200


@given(documents(), st.booleans())
def test_any_document_has_a_view(held: Document, is_stored: bool) -> None:
    store = DocsStore(MemoryBackend())
    store.write(held, require_parent=False)
    text = seen(store.open(held.stage, held.doc_id) if is_stored else held)
    assert f"{held.stage}/{held.doc_id}" in text
    assert "\n" not in repr(held)


def test_views_are_made_of_what_a_home_says_of_itself(tmp_path: Path) -> None:
    stages = Stages({"outline": None})
    store = DocsStore(LocalBackend(tmp_path / "<b>docs"), stages=stages)
    assert "&lt;b&gt;docs" in store._repr_html_()

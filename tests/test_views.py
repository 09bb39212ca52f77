"""Views in a notebook, and reprs: text is escaped, and long text is cut."""

from __future__ import annotations

import pickle
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
    """The text and elements of a view; fails unless each element is closed in order."""

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


def read_view(value: object) -> str:
    """Return the text of a view, and check its elements."""
    html = value._repr_html_()  # type: ignore[attr-defined]
    outline = Outline(html)
    assert html.startswith('<div class="tex2jax_ignore mathjax_ignore" ')
    assert outline.tags <= ALLOWED
    assert "url(" not in html
    return outline.text


def document(**fields: object) -> Document:
    values = {"stage": "draft", "doc_id": "d1", "task_id": "t-1", "raw_text": "Once.", **fields}
    return Document(**values)  # type: ignore[arg-type]


def test_document_view_shows_texts_and_metadata(store: DocsStore) -> None:
    shown = document(parsed_text="parsed", prompt_text="prompt", run_id="r", metadata={"model_id": "m"})
    text = read_view(shown)
    for part in ("draft/d1", "t-1", "Once.", "parsed (6 characters)", "prompt (6 characters)", '"model_id": "m"', "r"):
        assert part in text
    assert shown._repr_html_().count("<details open") == 1
    assert repr(shown) == "<Document draft/d1 task_id='t-1' raw+parsed+prompt>"


def test_stored_document_view_shows_location_and_outcome(store: DocsStore) -> None:
    result = store.write(document(metadata={"model_id": "m"}))
    stored = store.open("draft", "d1")
    text = read_view(stored)
    for part in ("StoredDocument draft/d1", "t-1", "Once.", result.location, '"model_id": "m"'):
        assert part in text
    assert repr(stored) == "<StoredDocument draft/d1 task_id='t-1'>"
    done = store.ensure(DraftTask(task_id="t-1", doc_id="d1"), lambda _: pytest.fail("made again"))
    assert "StoredDocument draft/d1 · kept" in read_view(done.document)
    assert "Ensured draft/d1 · kept" in read_view(done)


def test_views_keep_mathjax_away_from_names(store: DocsStore) -> None:
    shown = document(task_id="price $5 to $9", metadata={"cost": r"\(5\)"})
    store.write(shown)
    for view in (shown, store.open("draft", "d1"), store, audit(store, {"draft": [DraftTask(task_id="$5 to $9")]})):
        assert (
            "$5" in read_view(view) or view is store
        )  # read_view checks that the view's outer element ignores formulas


def test_unreadable_document_still_has_a_view(local: DocsStore) -> None:
    local.write(document())
    stored = local.open("draft", "d1")
    Path(stored.path, "raw.txt").unlink()
    text = read_view(stored)
    assert "cannot be read: draft/d1" in text
    assert "t-1" in text


def test_write_result_view_names_outcome_and_missing_parts(store: DocsStore) -> None:
    created = store.write(document())
    assert "WriteResult draft/d1 · created" in read_view(created)
    assert repr(created) == f"<WriteResult created draft/d1 at {created.location}>"
    kept = store.write(document(parsed_text="x", metadata={"n": 1}), if_exists="keep")
    assert "parsed: store.add_part adds them" in read_view(kept)
    assert repr(kept) == f"<WriteResult kept draft/d1 at {created.location} metadata differs, without parsed>"


def test_store_view_counts_documents(store: DocsStore) -> None:
    store.write_many(document(doc_id=f"d{number}", task_id=f"t-{number}") for number in range(3))
    text = read_view(store)
    assert f"DocsStore {store.root}" in text
    assert re.search(r"draft\s*—\s*3", text)
    assert re.search(r"essay\s*draft\s*0", text)
    assert repr(store).startswith("<DocsStore draft, essay, evaluation in ")
    assert "\n" not in repr(store)


def test_root_is_resolved_when_the_store_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    roots = {
        "docs": tmp_path / "docs",
        "./docs//": tmp_path / "docs",
        ".": tmp_path,
        "link/../docs/": f"{tmp_path}/link/../docs",  # the link may lead elsewhere
        "~": tmp_path / "home",
        "~/docs/": tmp_path / "home/docs",
        "~nobody-has-this-name/docs": tmp_path / "~nobody-has-this-name/docs",
        "docs/~": tmp_path / "docs/~",
        "/": "/",
        "/..": "/..",
        f"file://{tmp_path}/docs": tmp_path / "docs",
    }
    stores = {given: DocsStore(given) for given in roots}
    stores["~/docs/"].write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="once"))
    monkeypatch.chdir("/")
    assert {given: store.root for given, store in stores.items()} == {given: str(root) for given, root in roots.items()}
    again = pickle.loads(pickle.dumps(stores["docs"]))
    again.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="once"))
    assert (tmp_path / "docs/draft/d1/raw.txt").read_text() == "once"
    assert (tmp_path / "home/docs/draft/d1/raw.txt").read_text() == "once"
    assert DocsStore(tmp_path / "docs").root == str(tmp_path / "docs")
    assert DocsStore(ObjectsBackend("memory://")).root.startswith("memory:")


def test_store_view_stops_counting_at_a_limit(store: DocsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docid.store.docs_store._COUNT_LIMIT", 2)
    monkeypatch.setattr("docid.store.docs_store._COUNT_LIMIT_REMOTE", 2)
    store.write_many(document(doc_id=f"d{number}", task_id=f"t-{number}") for number in range(3))
    assert "more than 2" in read_view(store)


def test_unavailable_store_still_has_a_view(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise StoreUnavailable("list", "s3://bucket", "no answer", "try again")

    monkeypatch.setattr(MemoryBackend, "ids", fail)
    assert "cannot be listed: cannot list s3://bucket: no answer" in read_view(DocsStore(MemoryBackend()))


def test_audit_view_groups_findings() -> None:
    rows = [DraftTask(task_id=f"t-{number}") for number in range(25)]
    report = audit(DocsStore(MemoryBackend()), {"draft": rows})
    text = read_view(report)
    assert "AuditReport · 25 errors, 0 warnings" in text
    assert "missing-doc-id (error): 25" in text
    assert "… and 5 more" in text
    assert "run 'docid reserve' to fill it" in text
    assert "AuditReport · no errors, 0 warnings" in read_view(audit(None))
    assert repr(report) == "<AuditReport 25 errors, 0 warnings: missing-doc-id 25>"


def test_hostile_text_is_escaped() -> None:
    shown = document(
        task_id=f"t {HOSTILE}", raw_text=f"{HOSTILE}\x00\x1b[31m\r\n\u200f", metadata={HOSTILE: HOSTILE, "n": [HOSTILE]}
    )
    text = read_view(shown)
    assert text.count("onerror=alert(2)") == 5
    assert "\\x00\\x1b[31m\r\n\u200f" in text
    assert "\u202e" not in text
    store = DocsStore(MemoryBackend())
    store.write(shown)
    assert "onerror" in read_view(store.open("draft", "d1"))
    report = audit(store, {"draft": [DraftTask(task_id=f"x {HOSTILE}")]})
    assert "onerror" in read_view(report)


def test_long_text_is_cut() -> None:
    shown = document(raw_text="x" * 10_000_000, metadata={"long": "y" * 10_000})
    html = shown._repr_html_()
    assert len(html) < 8_000
    assert "raw (10,000,000 characters)" in html
    assert "… and 9,998,000 more characters" in html
    assert len(repr(document(task_id="t" * 10_000))) < 200


@given(documents(), st.booleans())
def test_any_document_has_a_view(shown: Document, is_stored: bool) -> None:
    store = DocsStore(MemoryBackend())
    store.write(shown, require_parent=False)
    text = read_view(store.open(shown.stage, shown.doc_id) if is_stored else shown)
    assert f"{shown.stage}/{shown.doc_id}" in text
    assert "\n" not in repr(shown)


def test_store_view_escapes_its_root(tmp_path: Path) -> None:
    stages = Stages({"outline": None})
    store = DocsStore(LocalBackend(tmp_path / "<b>docs"), stages=stages)
    assert "&lt;b&gt;docs" in store._repr_html_()

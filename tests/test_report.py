"""The HTML of the report page: content, limits and links. `test_browser.py` opens the page."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docid import DocsStore, Document, DraftTask, EssayTask, InvalidName, Stages, TaskTableError, audit, reserve_tasks
from docid.backends import LocalBackend, MemoryBackend
from docid.cli import main
from docid.integrations.report.gathering import Limits
from docid.integrations.report.rendering import draw_coverage_bar, draw_histogram
from docid.report import page, write_report
from docid.tables.tasks import write_tasks


class Outline(HTMLParser):
    """The elements of a page; fails unless each is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.ids: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []
        assert len(set(self.ids)) == len(self.ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        if "id" in given:
            self.ids.append(str(given["id"]))
        assert not [name for name in given if name.startswith("on") or name == "style"]
        if tag not in {"meta", "link", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def data_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html)
    assert found is not None
    return dict(json.loads(found[1]))


def documents_of(html: str, stage: str) -> dict[str, dict[str, Any]]:
    [found_stage] = [each for each in data_of(html)["stages"] if each["name"] == stage]
    return {row["id"]: row for row in found_stage["documents"]}


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """Two tables and a store: three drafts and three essays, one of each pending, and three evaluations."""
    drafts = list(reserve_tasks([DraftTask(task_id=f"t-{n}") for n in range(3)], DraftTask))
    rows = [EssayTask(task_id=f"t-{n}__x", draft_task_id=f"t-{n}") for n in range(3)]
    essays = list(reserve_tasks(rows, EssayTask, parents=drafts))
    (tmp_path / "tables").mkdir()
    write_tasks(tmp_path / "tables" / "draft_tasks.csv", drafts)
    write_tasks(tmp_path / "tables" / "essay_tasks.csv", essays)
    store = DocsStore(tmp_path / "docs", durability="none")
    store.write_many(Document.from_task(row, raw_text=f"raw of {row.task_id}") for row in (*drafts[:2], *essays[:2]))
    for number, parsed in enumerate(["7.5", "8", "good"]):
        evaluation = Document(
            stage="evaluation",
            doc_id=f"v{number}",
            task_id=f"v-{number}",
            parent_doc_id=essays[number % 2].doc_id,
            raw_text="…",
            parsed_text=parsed,
            prompt_text="judge",
            metadata={"template_id": "novelty", "model_id": "m"},
        )
        store.write(evaluation)
    return tmp_path


def tables(pipeline: Path) -> dict[str, str]:
    return {stage: str(pipeline / "tables" / f"{stage}_tasks.csv") for stage in ("draft", "essay")}


def test_page_holds_documents_texts_and_scores(pipeline: Path) -> None:
    made = page(pipeline / "docs", tables(pipeline), title="Tides & moss")
    outline = Outline(made.html)
    text = " ".join(outline.texts)
    assert (made.documents, made.shown, made.texts, made.texts_there, made.scores) == (7, 7, 13, 13, 2)
    assert made.summary()["audit"] == made.audit.summary()
    assert made.html.count("Tides &amp; moss") == 2
    assert "of 3 rows: 2 written, 1 pending, 0 other" in text
    assert "2 scores from 7.5 to 8, median 7.75" in text
    assert documents_of(made.html, "evaluation")["v0"] == {
        "id": "v0",
        "task": "v-0",
        "parent": next(iter(documents_of(made.html, "essay"))),
        "created": documents_of(made.html, "evaluation")["v0"]["created"],
        "sizes": [3, 3, 5],
        "sha256": documents_of(made.html, "evaluation")["v0"]["sha256"],
        "metadata": {"template_id": "novelty", "model_id": "m"},
        "texts": {"raw": "…", "parsed": "7.5", "prompt": "judge"},
    }


def test_page_loads_nothing_and_runs_only_its_own_script(pipeline: Path) -> None:
    html = page(pipeline / "docs").html
    outline = Outline(html)
    assert outline.tags.count("script") == 2
    assert not {"img", "iframe", "object", "embed", "base", "form"} & set(outline.tags)
    assert not re.search(r"https?://", html)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy[1]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_page_escapes_any_text(raw: str, title: str) -> None:
    store = DocsStore(MemoryBackend())
    metadata = {"template_id": raw, title: raw} if title not in {"files", "format"} else {}
    document = Document(stage="draft", doc_id="d1", task_id="t", raw_text=raw, parsed_text=title, metadata=metadata)
    store.write(document)
    made = page(store, title=title)
    outline = Outline(made.html)
    assert outline.tags.count("script") == 2
    row = documents_of(made.html, "draft")["d1"]
    assert row["texts"] == {"raw": raw, "parsed": title}
    assert row.get("metadata", {}) == metadata


def test_page_without_tables_has_no_coverage(pipeline: Path) -> None:
    made = page(DocsStore(pipeline / "docs"))
    assert made.html.count("no table") == 3
    assert "No findings." in made.html


def test_empty_store_has_a_page(tmp_path: Path) -> None:
    made = page(tmp_path / "nothing", {"draft": []})
    Outline(made.html)
    assert made.summary()["documents"] == 0
    assert "of 0 rows: 0 written, 0 pending, 0 other" in made.html
    assert "No scores. Documents without a number as their parsed text: 0." in made.html


def test_findings_name_their_places(pipeline: Path) -> None:
    store = DocsStore(pipeline / "docs")
    Path(store.path("evaluation", "v0"), "metadata.json").write_text("{")
    Path(store.path("evaluation", "v1"), "raw.txt").write_text("torn")
    made = page(store, {**tables(pipeline), "evaluation": []})
    text = " ".join(Outline(made.html).texts)
    assert "unreadable-record (error): 1" in text
    assert "torn-document (error): 1" in text
    assert "orphan-document (warning): 1" in text
    assert str(store.path("evaluation", "v0")) in text
    assert '<a href="#evaluation/v1">' in made.html
    rows = documents_of(made.html, "evaluation")
    # The record of v1 is readable; that of v0 is not.
    assert (rows["v1"]["broken"], rows["v1"]["task"], rows["v1"]["parent"]) == (True, "v-1", rows["v1"]["parent"])
    assert rows["v0"] == {"id": "v0", "broken": True, "sizes": [None, None, None]}
    assert (made.documents, made.shown) == (7, 7)
    levels = {(each[0], each[1]) for each in data_of(made.html)["findings"]}
    assert ("evaluation/v2", "warning") in levels


def test_unlisted_files_are_not_documents(pipeline: Path) -> None:
    store = DocsStore(pipeline / "docs")
    Path(store.path("evaluation", "v0"), "note.txt").write_text("…", "utf-8")
    made = page(store, stale_after=0.0)
    assert made.audit.counts == {"unlisted-file": 1}
    assert made.documents == 7


def test_many_findings_of_a_code_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docid.integrations.report.rendering._FINDINGS", 3)
    made = page(DocsStore(MemoryBackend()), {"draft": [DraftTask(task_id=f"t-{n}") for n in range(5)]})
    text = " ".join(Outline(made.html).texts)
    assert "missing-doc-id (error): 5" in text
    assert "… and 2 more." in text
    assert "row 3," in text
    assert "row 4," not in text


def test_hash_mismatch_is_found_with_verify_only(pipeline: Path) -> None:
    store = DocsStore(pipeline / "docs")
    Path(store.path("evaluation", "v0"), "raw.txt").write_text("abc")
    assert page(store).audit.ok
    assert page(store, verify=True).audit.counts == {"hash-mismatch": 1}
    with ThreadPoolExecutor(2) as executor:
        assert page(store, verify=True, executor=executor).audit.counts == {"hash-mismatch": 1}


# --- limits ----------------------------------------------------------------------------------------------------------


def test_texts_limit_leaves_out_prompts_first(pipeline: Path) -> None:
    full = page(pipeline / "docs")
    size = sum(len(json.dumps(text, ensure_ascii=False).encode()) for text in texts_of(full.html))
    cut = page(pipeline / "docs", limits=Limits(texts=size - 5))
    left = [row["texts"] for row in all_rows(cut.html)]
    assert cut.texts == 12
    assert sum("prompt" in texts for texts in left) == 2
    assert "It contains 12 of 13 texts" in cut.html
    none = page(pipeline / "docs", limits=Limits(texts=0))
    assert none.texts == 0
    assert all("texts" not in row for row in all_rows(none.html))


def texts_of(html: str) -> list[str]:
    return [text for row in all_rows(html) for text in row.get("texts", {}).values()]


def test_texts_limit_counts_escaped_bytes(store: DocsStore) -> None:
    store.write(Document(stage="draft", doc_id="d1", task_id="t", raw_text="\x00" * 1000))
    assert page(store, limits=Limits(texts=5000)).texts == 0
    assert page(store, limits=Limits(texts=7000)).texts == 1


def test_long_names_are_cut(store: DocsStore) -> None:
    store.write(Document(stage="draft", doc_id="d1", task_id="t" * 1_000_000, raw_text="…"))
    assert len(page(store).html) < 100_000


def all_rows(html: str) -> list[dict[str, Any]]:
    return [row for stage in data_of(html)["stages"] for row in stage["documents"]]


def test_text_limit_leaves_out_long_texts_only(pipeline: Path) -> None:
    made = page(pipeline / "docs", limits=Limits(text=4))
    assert {part for row in all_rows(made.html) for part in row.get("texts", ())} == {"raw", "parsed"}
    assert made.texts == 6


def test_one_large_record_is_cut_alone(store: DocsStore) -> None:
    for number, size in enumerate((3_000, 10, 10)):
        metadata = {"note": "x" * size}
        store.write(
            Document(stage="draft", doc_id=f"d{number}", task_id=f"t-{number}", raw_text="…", metadata=metadata)
        )
    cut = [row["id"] for row in all_rows(page(store, limits=Limits(records=2_000)).html) if row.get("cut")]
    assert cut == ["d0"]


def test_deeply_nested_record_is_cut(store: DocsStore) -> None:
    nested: Any = "deep"
    for _ in range(248):
        nested = [nested]
    store.write(Document(stage="draft", doc_id="d1", task_id="t", raw_text="…", metadata={"a": nested}))
    row = documents_of(page(store).html, "draft")["d1"]
    assert row["cut"] is True
    assert "metadata" not in row
    assert "more than 200 levels deep" in store.read("draft", "d1")._repr_html_()


def test_records_limit_cuts_records(pipeline: Path) -> None:
    made = page(pipeline / "docs", limits=Limits(records=0))
    assert all(row["cut"] is True and "metadata" not in row and "sha256" not in row for row in all_rows(made.html))


def test_documents_limit_still_counts_all_documents(pipeline: Path) -> None:
    made = page(pipeline / "docs", limits=Limits(documents=5))
    assert (made.documents, made.shown) == (7, 5)
    assert [len(stage["documents"]) for stage in data_of(made.html)["stages"]] == [1, 2, 2]
    assert "v0" in documents_of(made.html, "evaluation")
    assert "The page shows 5 of 7 documents" in made.html
    assert data_of(made.html)["isCut"] is True
    none = page(pipeline / "docs", limits=Limits(documents=0))
    assert (none.documents, none.shown, none.scores) == (7, 0, 2)


def test_vanished_text_is_left_out(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_not_found(*_: object) -> None:
        raise FileNotFoundError(2, "gone")

    monkeypatch.setattr("docid.store.stored.StoredDocument.text", raise_not_found)
    assert page(pipeline / "docs").texts == 0


def test_numbers_that_a_browser_rounds_become_text(store: DocsStore) -> None:
    metadata = {"big": 2**53 + 1, "fits": 2**53, "list": [-(2**60)], "truth": True, "ratio": 0.1}
    store.write(Document(stage="draft", doc_id="d1", task_id="t", raw_text="…", metadata=metadata))
    row = documents_of(page(store).html, "draft")["d1"]
    assert row["metadata"] == {
        **metadata,
        "big": "9007199254740993",
        "list": ["-1152921504606846976"],
    }


def test_odd_legacy_record_is_shown(tmp_path: Path) -> None:
    directory = tmp_path / "docs" / "draft" / "d1"
    directory.mkdir(parents=True)
    (directory / "raw.txt").write_text("old")
    (directory / "metadata.json").write_text(
        json.dumps({"task_id": "t\ud800", "half": "\ud800", "not": float("nan"), "\udfff": 1})
    )
    row = documents_of(page(tmp_path / "docs").html, "draft")["d1"]
    assert row["metadata"] == {"half": "\\ud800", "not": "nan", "\\udfff": 1}
    assert row["legacy"] is True
    assert row["task"] == "t\\ud800"
    assert "sha256" not in row


# --- links -----------------------------------------------------------------------------------------------------------


def link_of(html: str, stage: str) -> str | None:
    [found_stage] = [each for each in data_of(html)["stages"] if each["name"] == stage]
    return found_stage["link"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("where", [".", "reports/deep", "a b#c?d%20:e", "docs", os.fsdecode(b"caf\xe9")])
def test_links_lead_from_the_page_to_the_files(pipeline: Path, where: str) -> None:
    directory = pipeline / where
    directory.mkdir(parents=True, exist_ok=True)
    write_report(directory / "report.html", pipeline / "docs")
    html = (directory / "report.html").read_text("utf-8")
    link = link_of(html, "draft")
    assert link is not None
    assert link.startswith("./")
    doc_id = next(iter(documents_of(html, "draft")))
    target = unquote(f"{link}{doc_id}/raw.txt", errors="surrogateescape")
    assert (directory / target).read_text().startswith("raw of t-")
    assert not re.search(r"[ #?]", link)


def test_store_directory_may_have_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"caf\xe9")
    store = DocsStore(root, durability="none")
    store.write(Document(stage="draft", doc_id="d1", task_id="t", raw_text="…"))
    write_report(tmp_path / "report.html", store)
    html = (tmp_path / "report.html").read_text("utf-8")
    assert link_of(html, "draft") == "./caf%E9/draft/"


def test_links_without_a_directory_are_absolute(pipeline: Path) -> None:
    link = link_of(page(pipeline / "docs").html, "draft")
    assert link == (pipeline / "docs" / "draft").as_uri() + "/"


@pytest.mark.parametrize("root", ["memory://", MemoryBackend()])
def test_backend_without_files_has_locations_but_no_links(root: Any) -> None:
    store = DocsStore(root)
    store.write(Document(stage="draft", doc_id="d1", task_id="t", raw_text="…"))
    html = page(store).html
    [draft, *_] = data_of(html)["stages"]
    assert draft["link"] is None
    assert f"{draft['before']}d1{draft['after']}" == store.location("draft", "d1")


# --- stages, and errors ----------------------------------------------------------------------------------------------


def test_score_stage_and_other_stages(tmp_path: Path) -> None:
    stages = Stages({"outline": None, "review": "outline", "blurb": "outline"})
    store = DocsStore(tmp_path / "docs", stages=stages, durability="none")
    store.write(Document(stage="outline", doc_id="o1", task_id="o", raw_text="…"))
    store.write(Document(stage="review", doc_id="r1", task_id="r", raw_text="…", parent_doc_id="o1", parsed_text="3"))
    assert page(tmp_path / "docs", stages=stages).scores == 0
    made = page(store, score_stage="review")
    assert made.scores == 1
    assert "Scores of stage <bdi>review</bdi>" in made.html
    assert [stage["parent"] for stage in data_of(made.html)["stages"]] == [None, "outline", "outline"]
    with pytest.raises(InvalidName):
        page(store, score_stage="essay", progress=lambda *_: pytest.fail("the store was read first"))


def test_failed_page_keeps_the_old_file(pipeline: Path) -> None:
    output = pipeline / "report.html"
    output.write_text("the old one")
    (pipeline / "tables" / "draft_tasks.csv").write_text("no,table\n")
    with pytest.raises(TaskTableError):
        write_report(output, pipeline / "docs", tables(pipeline))
    assert output.read_text() == "the old one"
    with pytest.raises(FileNotFoundError):
        write_report(pipeline / "nowhere" / "report.html", pipeline / "docs")
    assert not [name for name in os.listdir(pipeline) if name.startswith(".tmp")]


def test_failed_write_keeps_the_old_file(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = pipeline / "report.html"
    output.write_text("the old one")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("docid.tables.csvfile.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_report(output, pipeline / "docs")
    assert output.read_text() == "the old one"
    assert not [name for name in os.listdir(pipeline) if name.startswith(".tmp")]


def test_progress_is_reported(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docid.integrations.report.gathering._STRIDE", 1)
    labels: list[str] = []
    page(pipeline / "docs", progress=lambda label, *_: labels.append(label))
    assert {"records of stage draft", "texts", "scores of stage evaluation"} <= set(labels)


# --- plots -----------------------------------------------------------------------------------------------------------


numbers = st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=50)


@given(numbers)
def test_histogram_has_a_bar_for_each_bin_with_numbers(values: list[float]) -> None:
    plot = draw_histogram(values, min(values), max(values))
    bars = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', plot)
    assert 1 <= len(bars) <= min(20, len(values))
    for x, y, width, height in bars:
        assert 0 <= float(x) <= float(x) + float(width) <= 160
        assert float(y) + float(height) == pytest.approx(28, abs=0.11)
    assert max(float(bar[3]) for bar in bars) == 28
    assert f"{len(values)} score" in plot


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_coverage_bar_is_as_wide_as_its_rows(written: int, pending: int, other: int) -> None:
    rows = written + pending + other
    widths = [
        float(each)
        for each in re.findall(r'width="([\d.]+)" height="\d+.0"', draw_coverage_bar(written, pending, rows))
    ]
    assert sum(widths) == pytest.approx(160 if rows else 0, abs=0.2)


# --- the command -----------------------------------------------------------------------------------------------------


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    try:
        code = main([str(each) for each in arguments])
    except SystemExit as error:
        code = int(error.code or 0)
    out, err = capfd.readouterr()
    return code, out, err


@pytest.fixture
def here(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(pipeline)
    monkeypatch.setenv("DOCID_STORE", "docs")
    return pipeline


def test_command_writes_the_page_and_prints_a_summary(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "tables" / "notes.txt").write_text("…", "utf-8")
    options = ("report", "--tables", "tables", "-o", "report.html")
    code, out, err = run(capfd, *options, "--dry-run")
    assert (code, err, (here / "report.html").exists()) == (0, "", False)
    assert out.splitlines()[0] == "report.html: would be written, 0.0 MB"
    code, out, err = run(capfd, *options)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "report.html: written, 0.0 MB",
        "7 of 7 documents, 13 of 13 texts",
        "0 errors, 0 warnings; 2 scores",
        "ignored (not task tables): 1 file",
    ]
    assert "raw of t-0" in (here / "report.html").read_text("utf-8")
    code, out, _ = run(capfd, *options, "--json", "--documents", 3, "--texts", "1k", "--title", "x", "--verify")
    summary = json.loads(out)
    assert (code, summary["documents"], summary["shown"], summary["output"]) == (0, 7, 3, "report.html")
    assert summary["bytes"] == (here / "report.html").stat().st_size


def test_command_prints_the_page_to_a_pipe(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run(capfd, "report")
    assert (code, err) == (0, "")
    Outline(out)
    assert link_of(out, "draft") == "./docs/draft/"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    code, out, err = run(capfd, "report")
    assert (code, out) == (2, "")
    assert "expected --output FILE or a pipe" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["-o", ""], "empty; expected a path", id="nothing"),
        pytest.param(["-o", "tables"], "a directory; expected a file", id="a directory"),
        pytest.param(["-o", "nowhere/x.html"], "directory nowhere does not exist", id="nowhere"),
        pytest.param(
            ["--tables", "tables", "-o", "tables/draft_tasks.csv"], "the command reads this file", id="a table"
        ),
        pytest.param(["-o", "docs/draft/x.html"], "inside the store", id="in the store"),
        pytest.param(["-o", "docs/.docid/x.html"], "inside the store", id="beside its history"),
        pytest.param(["--in-flight", "0"], "expected a number of requests, at least 1", id="no request"),
        pytest.param(["--stale-after", "1"], "expected a number followed by s, m, h or d", id="an age"),
        pytest.param(["--dry-run"], "expected --output with them", id="nothing to write"),
        pytest.param(["--json"], "expected --output with them", id="two things to print"),
        pytest.param(["--texts", "5T"], "expected a number of bytes, such as 5M", id="a size"),
        pytest.param(["--documents", "all"], "expected a number of documents", id="a number"),
        pytest.param(["--tables", "missing.csv", "-o", "x.html"], "no such file", id="a table that is not there"),
        pytest.param(["--score-stage", "chapter", "-o", "x.html"], "not a stage of this pipeline", id="a stage"),
        pytest.param(["--store", "missing", "-o", "x.html"], "no store at missing", id="a store"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], message: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capfd, "report", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert not (here / "x.html").exists()


def test_output_may_be_a_named_pipe(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(here / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((here / "pipe").read_text("utf-8")))
    reader.start()
    code, out, err = run(capfd, "report", "-o", "pipe")
    reader.join(10)
    assert (code, out, err.splitlines()[0]) == (0, "", "pipe: written, 0.0 MB")
    assert link_of(read[0], "draft") == "./docs/draft/"
    assert stat.S_ISFIFO((here / "pipe").stat().st_mode)


def test_unwritable_directory_is_refused_first(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docid.cli.report.page", lambda *_, **__: pytest.fail("the page was made"))
    monkeypatch.setattr("docid.cli.inputs.os.access", lambda *_: False)
    code, _, err = run(capfd, "report", "-o", "x.html")
    assert (code, err) == (2, "docid: --output x.html: directory . is not writable; expected another path\n")


def test_store_that_cannot_be_listed_has_a_page(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "docs" / "loop").symlink_to("loop")
    code, out, err = run(capfd, "report", "-o", "x.html")
    assert (code, out.splitlines()[0], err) == (0, "x.html: written, 0.0 MB", "")


def test_hint_names_directories_of_other_stages(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "docs" / "chapter").mkdir()
    code, _, err = run(capfd, "report", "-o", "x.html")
    assert code == 0
    assert "docs also holds chapter" in err


def test_page_audit_equals_audit(here: Path) -> None:
    assert page("docs", tables(here)).audit == audit(DocsStore(LocalBackend("docs")), tables(here))

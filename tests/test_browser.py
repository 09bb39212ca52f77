"""The report page in a real browser: click, search, fold, read; the page sends no request."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from docid import DocsStore, Document, Stages, reserve_doc_id
from docid.report import write_report
from tests import unpack

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("DOCID_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is here; DOCID_CHROMIUM names one")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    # Chromium puts a socket into TMPDIR. Socket paths have at most 107 bytes; nox's TMPDIR may be longer.
    with tempfile.TemporaryDirectory(dir="/tmp") as directory, playwright.sync_playwright() as running:
        # Chromium has no sandbox as root. It opens only files that these tests made.
        chromium = running.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], env={**os.environ, "TMPDIR": directory}
        )
        yield chromium
        chromium.close()


Open = Callable[..., Any]


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Open a file; check at the end that the page logged nothing and requested nothing else."""
    messages: list[str] = []
    requests: list[str] = []
    contexts = []
    opened: list[str] = []

    def open_file(path: Path, **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("dialog", lambda dialog: messages.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: requests.append(request.url))
        opened.append(path.as_uri())
        page.goto(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == opened


def status(page: Any, pattern: str) -> str:
    """Wait until the status line matches a pattern, and return the line."""
    line = page.locator("#status", has_text=re.compile(pattern))
    line.wait_for()
    return str(line.inner_text())


def names(page: Any) -> list[str]:
    return [str(each) for each in page.locator("#tree .name").all_inner_texts()]


def search(page: Any, text: str) -> None:
    page.fill("#search", text)


@pytest.fixture(scope="module")
def real(daydreaming: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the real store and its tables."""
    directory = tmp_path_factory.mktemp("real")
    unpack(daydreaming / "docs-store.tar.gz", directory)
    tables = {
        stage: next((daydreaming / "tables" / "active").glob(f"{stage}*_tasks.csv"))
        for stage in ("draft", "essay", "evaluation")
    }
    write_report(directory / "report.html", directory / "docs", tables)
    return directory / "report.html"


def test_page_shows_the_real_store(real: Path, open_page: Open) -> None:
    store = DocsStore(real.parent / "docs")
    page = open_page(real)
    assert page.locator("h1").inner_text() == "docid report"
    assert page.locator(".state").inner_text() == "0 errors, 90 warnings"
    cells = page.locator("#coverage-heading + .scroll tbody tr").all_inner_texts()
    assert [re.findall(r"\d+", each)[:3] for each in cells] == [["15", "15", "0"], ["15", "15", "0"], ["60", "60", "0"]]
    assert status(page, "at the top") == "90 documents, 15 at the top."

    draft = next(store.documents("draft"))
    search(page, draft.doc_id)
    status(page, "^1 of 90 documents found")
    page.locator("#tree .name", has_text=draft.doc_id).click()
    assert page.locator("#detail h3").inner_text() == f"draft/{draft.doc_id}"
    assert page.locator("#detail details.text pre").first.text_content() == draft.raw_text
    record = page.locator("#detail details.record pre").text_content()
    assert draft.task_id is not None
    assert draft.task_id in record
    assert page.url.endswith(f"#draft/{draft.doc_id}")

    # Go down to a child, and up again by its link.
    search(page, "")
    status(page, "at the top")
    chosen = page.locator("#tree li[aria-selected='true']")
    chosen.locator(".fold").first.click()
    essay = chosen.locator("li .name").first
    essay_name = essay.inner_text()
    essay.click()
    assert page.locator("#detail h3").inner_text() == essay_name
    page.locator("#detail a", has_text=draft.doc_id).click()
    page.locator("#detail h3", has_text=f"draft/{draft.doc_id}").wait_for()


def test_page_shows_the_whole_record(tmp_path: Path, open_page: Open) -> None:
    store = DocsStore(tmp_path / "docs", durability="none")
    metadata = {"model_id": "m", "usage": {"tokens": 12, "cost": 0.5}, "big": 2**60, "none": None, "é": ["ü"]}
    written = Document(
        stage="draft", doc_id="d1", task_id="t-1", raw_text="raw\n", prompt_text="p", run_id="r", metadata=metadata
    )
    store.write(written)
    write_report(tmp_path / "report.html", store)
    page = open_page(tmp_path / "report.html")
    page.locator("#tree .name").first.click()
    shown = page.evaluate("document.querySelector('#detail .record pre').textContent")
    record = store.open("draft", "d1").record
    expected = {key: value for key, value in record.items() if key not in {"format", "docid"}}
    expected["big"] = str(2**60)  # text, because a browser rounds large integers
    assert orjson.loads(shown) == expected


def test_tree_works_by_keyboard(real: Path, open_page: Open) -> None:
    page = open_page(real)
    first = names(page)
    page.locator("#search").focus()
    for _ in range(3):  # past both buttons
        page.keyboard.press("Tab")
    focused = "document.activeElement.querySelector('.name').textContent"
    assert page.evaluate(focused) == first[0]
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == first[1]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    page.keyboard.press("ArrowRight")
    essay = page.evaluate(focused)
    assert essay.startswith("essay/")
    page.keyboard.press("Enter")
    assert page.locator("#detail h3").inner_text() == essay
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "false"
    page.keyboard.press("End")
    assert page.evaluate(focused) == first[-1]
    page.keyboard.press("Home")
    assert page.evaluate(focused) == first[0]
    page.keyboard.press("Space")
    assert page.locator("#detail h3").inner_text() == first[0]
    assert names(page) == first


def test_unfold_opens_one_level_at_a_time(real: Path, open_page: Open) -> None:
    page = open_page(real)
    assert len(names(page)) == 15
    page.click("#unfold")
    assert len(names(page)) == 30
    page.click("#unfold")
    assert len(names(page)) == 90
    assert status(page, "in view") == "90 documents in view."
    page.click("#fold")
    assert len(names(page)) == 15


def test_search_shows_matches_with_ancestors(real: Path, open_page: Open) -> None:
    page = open_page(real)
    search(page, "novelty SONNET-4")
    assert status(page, "found") == "15 of 90 documents found."
    shown = names(page)
    assert len([each for each in shown if each.startswith("evaluation/")]) == 15
    assert len([each for each in shown if each.startswith("draft/")]) == 15
    search(page, "no match")
    status(page, "^0 of 90 documents found")
    assert names(page) == []
    page.locator("#search").press("Escape")
    status(page, "at the top")
    assert len(names(page)) == 15


def test_finding_links_to_its_document(real: Path, open_page: Open) -> None:
    page = open_page(real)
    page.locator("details.warning summary").click()
    link = page.locator("details.warning tbody a").first
    name = link.inner_text()
    link.click()
    page.locator("#detail h3", has_text=name).wait_for()
    assert page.locator("#detail .message").inner_text().startswith("legacy-record: ")
    assert page.evaluate("document.activeElement.querySelector('.name').textContent") == name


def test_url_fragment_selects_a_document(real: Path, open_page: Open) -> None:
    store = DocsStore(real.parent / "docs")
    name = f"evaluation/{next(store.ids('evaluation'))}"
    page = open_page(real)
    page.evaluate(f"location.hash = '#{name}'")
    page.locator("#detail h3", has_text=name).wait_for()
    page.evaluate("location.hash = '#evaluation/nothing'")
    assert page.locator("#detail h3").inner_text() == name


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`${alert(3)}\u2028<!--"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("hostile")
    store = DocsStore(directory / "docs", durability="none")
    attack = HOSTILE.replace("\u2028", "")
    store.write(
        Document(
            stage="draft",
            doc_id="d1",
            task_id=f"{attack} \u202eevil \u2066x",
            raw_text=f"{HOSTILE}\x00\x1b[31m\u202ereversed\r\nשלום \u200fmark",
            parsed_text=HOSTILE,
            metadata={attack: attack, "template_id": attack, "__proto__": {"x": 1}, "constructor": "c"},
        )
    )
    store.write(Document(stage="draft", doc_id="d2", task_id="long", raw_text="x" * 10_000_000))
    store.write(Document(stage="draft", doc_id="d3", task_id="__proto__", raw_text="…"))
    evaluation = {"parsed_text": "7.5", "metadata": {"template_id": attack, "model_id": attack}}
    store.write(
        Document(stage="evaluation", doc_id="v1", task_id="v", parent_doc_id="e1", raw_text="…", **evaluation),  # type: ignore[arg-type]
        require_parent=False,
    )
    (directory / "docs" / "draft" / "torn").mkdir()
    (directory / "docs" / "draft" / "torn" / "metadata.json").write_text(attack)
    write_report(directory / "report.html", store, title=f"{attack}\u202e")
    return directory / "report.html"


def test_hostile_text_is_shown_as_text(hostile: Path, open_page: Open) -> None:
    page = open_page(hostile)
    assert page.locator("h1").inner_text() == HOSTILE.replace("\u2028", "") + "\\u202e"
    assert page.locator("script").count() == 2  # the data and the page's own
    assert page.locator("img").count() == 0
    assert page.locator("iframe, object, embed, link[rel=stylesheet]").count() == 0
    page.locator("#tree .name", has_text="draft/d1").click()
    raw, parsed = (page.locator("#detail details.text pre").nth(at).text_content() for at in (0, 1))
    assert raw.startswith(HOSTILE.replace("\u2028", "\\u2028"))
    assert "\\u0000\\u001b[31m\\u202ereversed\r\nשלום \u200fmark" in raw
    assert parsed == HOSTILE.replace("\u2028", "\\u2028")
    assert "\\u202eevil" in page.locator("#tree .task").first.inner_text()
    search(page, "onerror")
    assert "found" in status(page, "found")
    for each in page.locator("details").all():
        each.evaluate("element => element.open = true")
    for _ in range(2):
        page.click("#unfold")
    for name in page.locator("#tree .name").all():
        name.click()
    assert page.locator("img").count() == 0


def test_ten_megabyte_text_is_linked(hostile: Path, open_page: Open) -> None:
    assert hostile.stat().st_size < 200_000
    page = open_page(hostile)
    page.locator("#tree .name", has_text="draft/d2").click()
    link = page.locator("#detail .left-out a")
    assert link.inner_text() == "raw (10,000,000 bytes)"
    target = hostile.parent / link.get_attribute("href")
    assert target.resolve() == (hostile.parent / "docs" / "draft" / "d2" / "raw.txt").resolve()


def test_missing_parent_is_at_the_top(hostile: Path, open_page: Open) -> None:
    page = open_page(hostile)
    page.locator("#tree .name", has_text="essay/e1").click()
    assert page.locator("#detail p").inner_text() == "It is not in the store."


def test_content_security_policy_blocks_injected_script(hostile: Path, browser: Any, tmp_path: Path) -> None:
    html = hostile.read_text("utf-8")
    injected = tmp_path / "injected.html"
    attack = "<script>document.title = 'taken over'</script><img src='https://example.com/x.png'>"
    injected.write_text(html.replace("<main>", f"<main>{attack}"), "utf-8")
    context = browser.new_context()
    page = context.new_page()
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.goto(injected.as_uri())
    page.locator("#status", has_text="at the top").wait_for()
    assert page.title() != "taken over"
    assert len([each for each in messages if "Content Security Policy" in each]) == 2
    context.close()


def test_page_has_light_and_dark_scheme(real: Path, open_page: Open) -> None:
    backgrounds = []
    for scheme in ("light", "dark"):
        page = open_page(real, color_scheme=scheme)
        colours = page.evaluate(
            "(() => { const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]; })()"
        )
        assert colours[0] != colours[1]
        backgrounds.append(colours[0])
    assert backgrounds[0] != backgrounds[1]


def test_page_without_script_shows_all_but_lineage(real: Path, open_page: Open) -> None:
    page = open_page(real, java_script_enabled=False)
    assert page.locator("#coverage-heading").is_visible()
    assert page.locator("noscript").is_visible()
    assert not page.locator("#lineage").is_visible()


def test_long_list_is_shown_in_steps(tmp_path: Path, open_page: Open) -> None:
    store = DocsStore(tmp_path / "docs", durability="none")
    store.write_many(
        Document(stage="draft", doc_id=f"d{number:03}", task_id=f"t-{number:03}", raw_text="…") for number in range(450)
    )
    write_report(tmp_path / "report.html", store)
    page = open_page(tmp_path / "report.html")
    assert len(names(page)) == 200
    page.locator("button.more", has_text="Show 200 more").click()
    assert page.evaluate("document.activeElement.querySelector('.name').textContent") == "draft/d200"
    page.locator("button.more", has_text="Show 50 more").click()
    assert len(names(page)) == 450
    page.evaluate("location.hash = '#draft/d449'")
    page.locator("#detail h3", has_text="d449").wait_for()


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of a store with one torn draft, one unreadable record, and one missing draft."""
    directory = tmp_path_factory.mktemp("damaged")
    store = DocsStore(directory / "docs", durability="none")
    for number in range(3):
        store.write(Document(stage="draft", doc_id=f"d{number}", task_id=f"t-{number}", raw_text="…"))
        essay = Document(
            stage="essay", doc_id=f"e{number}", task_id=f"e-{number}", parent_doc_id=f"d{number}", raw_text="…"
        )
        store.write(essay)
    (directory / "docs" / "draft" / "d0" / "raw.txt").unlink()
    (directory / "docs" / "draft" / "d1" / "metadata.json").write_text("{")
    shutil.rmtree(directory / "docs" / "draft" / "d2")
    write_report(directory / "report.html", store)
    return directory / "report.html"


def test_damaged_document_is_not_called_missing(damaged: Path, open_page: Open) -> None:
    page = open_page(damaged)
    assert status(page, "at the top") == "5 documents, 3 at the top."
    told = {}
    for line in page.locator("#tree .node").all():
        told[line.locator(".name").inner_text()] = line.locator(".flag.warning").last.inner_text()
    assert told == {"draft/d0": "(unreadable)", "draft/d1": "(unreadable)", "draft/d2": "(not in the store)"}
    page.locator("#tree .name", has_text="draft/d0").click()
    assert page.locator("#detail .message.error").inner_text().startswith("torn-document: raw.txt")
    assert page.locator("#detail p").inner_text() == "It is unreadable."
    assert page.locator("#tree li[aria-selected='true']").get_attribute("aria-label") == (
        "draft/d0, t-0, unreadable, 1 child, 1 finding"
    )
    page.locator("#tree .name", has_text="draft/d2").click()
    assert page.locator("#detail p").inner_text() == "It is not in the store."


def test_invalid_url_fragment_is_harmless(real: Path, open_page: Open) -> None:
    page = open_page(real)
    page.evaluate("location.hash = '#%E0%A4%A'")
    page.evaluate("location.hash = '#draft/nope'")
    assert status(page, "nope") == "draft/nope is not on this page."


def test_link_works_repeatedly(real: Path, open_page: Open) -> None:
    page = open_page(real)
    page.locator("details.warning summary").click()
    link = page.locator("details.warning tbody a").last
    for _ in range(2):
        link.click()
        assert page.locator("#tree li[aria-selected='true'] > .node .name").inner_text() == link.inner_text()
        page.click("#fold")
    search(page, "novelty")
    status(page, "found")
    link.click()
    assert status(page, "is shown") == f"{link.inner_text()} is shown."


def test_match_can_be_unfolded(real: Path, open_page: Open) -> None:
    store = DocsStore(real.parent / "docs")
    page = open_page(real)
    draft = next(store.ids("draft"))
    search(page, draft)
    status(page, "^1 of 90")
    page.locator("#tree .fold").first.click()
    assert len(names(page)) == 2


def test_late_search_result_keeps_focus(real: Path, open_page: Open) -> None:
    page = open_page(real)
    page.focus("#search")
    page.keyboard.type("combo")
    for _ in range(3):
        page.keyboard.press("Tab")
    assert page.evaluate("document.getElementById('tree').contains(document.activeElement)")
    status(page, "found")
    assert page.evaluate("document.getElementById('tree').contains(document.activeElement)")


def test_arrow_keys_reach_show_more_button(tmp_path: Path, open_page: Open) -> None:
    store = DocsStore(tmp_path / "docs", durability="none")
    store.write_many(
        Document(stage="draft", doc_id=f"d{number:03}", task_id=f"t-{number:03}", raw_text="…") for number in range(201)
    )
    write_report(tmp_path / "report.html", store)
    page = open_page(tmp_path / "report.html")
    page.locator("#tree li").first.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert len(names(page)) == 201
    assert page.evaluate("document.activeElement.querySelector('.name').textContent") == "draft/d200"


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page whose texts and store path have no place for a line break."""
    directory = tmp_path_factory.mktemp("unbroken") / ("d" * 200)
    directory.mkdir()
    stage, task = "s" * 64, "t" * 200
    store = DocsStore(directory / "docs", stages=Stages({stage: None, "essay": stage}))
    draft = reserve_doc_id(stage, task)
    store.write(Document(stage=stage, doc_id=draft, task_id=task, raw_text="r" * 500))
    store.write(
        Document(
            stage="essay",
            doc_id=reserve_doc_id("essay", task),
            task_id=task,
            parent_doc_id=draft,
            raw_text="e" * 500,
            metadata={"m" * 100: "v" * 500},
        )
    )
    (directory / "docs" / stage / ("x" * 200)).mkdir()
    table = directory / f"{'f' * 100}.csv"
    table.write_text(f"{stage}_task_id,doc_id\n{task},{draft}\n{'u' * 200},{reserve_doc_id(stage, 'u' * 200)}\n")
    write_report(directory / "report.html", store, {stage: table})
    return directory / "report.html"


@pytest.mark.parametrize("fixture", ["real", "damaged", "unbroken"])
@pytest.mark.parametrize("width", [1280, 640, 320])
def test_page_does_not_scroll_sideways(
    fixture: str, request: pytest.FixtureRequest, open_page: Open, width: int
) -> None:
    page = open_page(request.getfixturevalue(fixture), viewport={"width": width, "height": 700}, bypass_csp=True)
    # Users and other fonts may widen the text: https://www.w3.org/TR/WCAG22/#text-spacing
    page.add_style_tag(content="* { letter-spacing: .12em !important; word-spacing: .16em !important; }")
    for each in page.locator("details").all():
        each.evaluate("element => element.open = true")
    page.locator("#tree .name").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#detail h3").is_visible()


def luminance(colour: str) -> float:
    shares = [int(each) / 255 for each in re.findall(r"[0-9]+", colour)[:3]]
    linear = [each / 12.92 if each <= 0.03928 else ((each + 0.055) / 1.055) ** 2.4 for each in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(damaged: Path, open_page: Open, scheme: str) -> None:
    page = open_page(damaged, color_scheme=scheme)
    page.locator("#tree .name").first.click()
    for each in page.locator("details").all():
        each.evaluate("element => element.open = true")
    pairs = page.evaluate(
        """(() => [...document.querySelectorAll("body *")].filter((e) => e.innerText && !e.closest("svg")).map((e) => {
            let ground = e;
            while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
            return [e.className, getComputedStyle(e).color, getComputedStyle(ground).backgroundColor];
        }))()"""
    )
    assert len(pairs) > 50
    for name, ink, ground in pairs:
        lighter, darker = sorted((luminance(ink), luminance(ground)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (name, ink, ground)


@pytest.fixture(scope="module")
def large(daydreaming: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the 25,630 documents that the essays example makes from all templates."""
    directory = tmp_path_factory.mktemp("large")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}
    replies = ["--replies", str(daydreaming / "eval_responses")]
    options = ["--all-templates", "--raw-data", str(daydreaming / "1_raw"), *replies]
    command = [sys.executable, "-m", "examples.essays", "--data-root", str(directory), "--durability", "none", *options]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    tables = ["--tables", str(directory / "2_tasks"), "-o", str(directory / "report.html")]
    command = [sys.executable, "-m", "docid", "report", "--store", str(directory / "docs"), *tables]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return directory / "report.html"


def test_page_of_25_630_documents_is_searched_and_unfolded(large: Path, open_page: Open) -> None:
    assert large.stat().st_size < 25_000_000
    page = open_page(large)
    assert status(page, "at the top") == "25,630 documents, 110 at the top."
    search(page, "novelty")
    assert status(page, "found") == "1,760 of 25,630 documents found."
    search(page, reserve_doc_id("draft", "none"))
    status(page, "^0 of 25,630 documents found")
    page.locator("#search").press("Escape")
    status(page, "at the top")
    page.click("#unfold")
    assert len(names(page)) == 110 + 880
    name = names(page)[1]
    page.locator("#tree .name").nth(1).click()
    assert page.locator("#detail h3").inner_text() == name
    stage, _, doc_id = name.partition("/")
    stored = DocsStore(large.parent / "docs").read(stage, doc_id)
    assert page.locator("#detail details.text pre").first.text_content() == stored.raw_text
    assert page.locator("#scores-heading + .scroll tbody tr").count() == 28

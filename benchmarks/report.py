"""Measure the cost of a report page, and how soon it is usable in a browser.

The store has 25,630 documents, like the essays example with all templates, with texts as long as typical replies. The
browser is Chromium, controlled by playwright. Without Chromium, the benchmark writes the page but does not open it.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docid import DocsStore, Document, reserve_doc_id
from docid.report import write_report

if TYPE_CHECKING:
    from collections.abc import Iterator

DRAFTS, ESSAYS, TEMPLATES, MODELS = 110, 8, 14, 2
CHROMIUM = os.environ.get("DOCID_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
TARGET_SIZE, TARGET_SECONDS = 25, 3


def make_documents() -> Iterator[Document]:
    """Yield the documents of a pipeline, parents first."""
    chance = random.Random(1)
    words = [f"{chance.choice('abcdefghij')}{number}ing" for number in range(500)]

    def text(size: int) -> str:
        return " ".join(chance.choices(words, k=size // 6))

    def make(stage: str, task_id: str, parent: str | None, **fields: Any) -> Document:
        doc_id = reserve_doc_id(stage, task_id)
        return Document(stage=stage, doc_id=doc_id, task_id=task_id, parent_doc_id=parent, **fields)

    for draft_number in range(DRAFTS):
        task_id = f"combo_{draft_number % 5}__outline-v{draft_number}__large-1"
        draft = make("draft", task_id, None, raw_text=text(3000), prompt_text=text(4000))
        yield draft
        for essay_number in range(ESSAYS):
            essay = make("essay", f"{task_id}__plain-v{essay_number}", draft.doc_id, raw_text=text(5000))
            yield essay
            for template in range(TEMPLATES):
                for model in range(MODELS):
                    yield make(
                        "evaluation",
                        f"{essay.doc_id}__clarity-v{template}__judge-{model}",
                        essay.doc_id,
                        raw_text=text(2500),
                        parsed_text=f"{chance.gauss(6 + model, 1.5):.1f}",
                        prompt_text=text(5000),
                        metadata={"template_id": f"clarity-v{template}", "model_id": f"judge-{model}"},
                    )


def measure_page(browser: Any, page: Path) -> tuple[float, float]:
    """Return the seconds until a page is usable, and the seconds that a search takes."""
    context = browser.new_context()
    tab = context.new_page()
    begin = time.perf_counter()
    tab.goto(page.as_uri())
    tab.locator("#tree li").first.wait_for()
    tab.locator("#status", has_text="at the top").wait_for()
    ready = time.perf_counter() - begin
    begin = time.perf_counter()
    tab.fill("#search", "clarity-v3 judge-1")
    tab.locator("#status", has_text="documents found").wait_for()
    searched = time.perf_counter() - begin
    context.close()
    return ready, searched


def take_screenshots(browser: Any, directory: Path, images: Path) -> None:
    """Take screenshots of the page of the essays example, light and dark."""
    command = [sys.executable, "-m", "examples.essays", "--fresh", "--data-root", str(directory)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parent.parent)
    options = ["--store", "docs", "--tables", "2_tasks", "-o", "report.html", "--title", "The essays example"]
    subprocess.run([sys.executable, "-m", "docid", "report", *options], check=True, cwd=directory)
    draft = min(DocsStore(directory / "docs").ids("draft"))
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 800})
        tab = context.new_page()
        tab.goto((directory / "report.html").as_uri() + f"#draft/{draft}")
        tab.locator("#tree li[aria-selected=true]").press("ArrowRight")
        tab.screenshot(path=images / f"report-{scheme}.png", full_page=True)
        context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screenshots", type=Path, metavar="DIRECTORY", help="also take screenshots, light and dark")
    parser.add_argument("--report-turns", type=int, default=3, help="times to open the page (default: 3)")
    arguments, _ = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        store = DocsStore(directory / "docs", durability="none")
        count = len(store.write_many(make_documents()))
        begin = time.perf_counter()
        page = write_report(directory / "report.html", store)
        seconds = time.perf_counter() - begin
        size = (directory / "report.html").stat().st_size / 1e6
        print(f"page of {count:,} documents: {size:.1f} MB (target {TARGET_SIZE}), written in {seconds:.1f} s")
        print(f"contents: {page.texts:,} of {page.texts_there:,} texts, {page.scores:,} scores")
        if CHROMIUM is None:
            print("Chromium not found, so the page was not opened; set DOCID_CHROMIUM to its path")
            return
        from playwright.sync_api import sync_playwright  # noqa: PLC0415 - needed only with a browser

        with sync_playwright() as playwright:
            # Chromium has no sandbox for root. The page is a file that this program wrote, so that is safe.
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            times = [measure_page(browser, directory / "report.html") for _ in range(arguments.report_turns)]
            ready, searched = (statistics.median(each) for each in zip(*times, strict=True))
            slowest = max(first for first, _ in times)
            print(
                f"Chromium {browser.version}: usable after {ready:.1f} s (max {slowest:.1f}, target {TARGET_SECONDS})"
            )
            print(f"a search takes {searched:.1f} s")
            if arguments.screenshots is not None:
                take_screenshots(browser, directory / "example", arguments.screenshots)
                print(f"screenshots in {arguments.screenshots}")
            browser.close()


if __name__ == "__main__":
    main()

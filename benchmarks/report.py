"""What a report page costs, and how soon it can be used in a browser: `python benchmarks/report.py`.

A store of 25,630 documents, as many as the essays example makes of many templates, with texts of the size that models
write. The browser is Chromium, driven by playwright; without one the page is made and weighed, and not opened.
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


def documents() -> Iterator[Document]:
    """Yield the documents of a pipeline, parents first."""
    chance = random.Random(1)
    words = [f"{chance.choice('abcdefghij')}{number}ing" for number in range(500)]

    def text(size: int) -> str:
        return " ".join(chance.choices(words, k=size // 6))

    def made(stage: str, task_id: str, parent: str | None, **fields: Any) -> Document:
        doc_id = reserve_doc_id(stage, task_id)
        return Document(stage=stage, doc_id=doc_id, task_id=task_id, parent_doc_id=parent, **fields)

    for draft_number in range(DRAFTS):
        task_id = f"combo_{draft_number % 5}__outline-v{draft_number}__large-1"
        draft = made("draft", task_id, None, raw_text=text(3000), prompt_text=text(4000))
        yield draft
        for essay_number in range(ESSAYS):
            essay = made("essay", f"{task_id}__plain-v{essay_number}", draft.doc_id, raw_text=text(5000))
            yield essay
            for template in range(TEMPLATES):
                for model in range(MODELS):
                    yield made(
                        "evaluation",
                        f"{essay.doc_id}__clarity-v{template}__judge-{model}",
                        essay.doc_id,
                        raw_text=text(2500),
                        parsed_text=f"{chance.gauss(6 + model, 1.5):.1f}",
                        prompt_text=text(5000),
                        metadata={"template_id": f"clarity-v{template}", "model_id": f"judge-{model}"},
                    )


def opened(browser: Any, page: Path) -> tuple[float, float]:
    """Return the seconds until a page can be used, and until a search is answered."""
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


def shoot(browser: Any, directory: Path, images: Path) -> None:
    """Take pictures of the page of the essays example, light and dark."""
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
    parser.add_argument("--screenshots", type=Path, metavar="DIRECTORY", help="also take pictures, light and dark")
    parser.add_argument("--report-turns", type=int, default=3, help="how often the page is opened (default: 3)")
    arguments, _ = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        store = DocsStore(directory / "docs", durability="none")
        count = len(store.write_many(documents()))
        begin = time.perf_counter()
        made = write_report(directory / "report.html", store)
        seconds = time.perf_counter() - begin
        size = (directory / "report.html").stat().st_size / 1e6
        print(f"page of {count:,} documents: {size:.1f} MB (target {TARGET_SIZE}), made in {seconds:.1f} s")
        print(f"on it: {made.texts:,} of {made.texts_there:,} texts, {made.scores:,} scores")
        if CHROMIUM is None:
            print("not opened: no Chromium is here; DOCID_CHROMIUM names one")
            return
        from playwright.sync_api import sync_playwright  # noqa: PLC0415 - where there is a browser

        with sync_playwright() as running:
            # As root there is no sandbox; what is opened is a file that was just made.
            browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            times = [opened(browser, directory / "report.html") for _ in range(arguments.report_turns)]
            ready, searched = (statistics.median(each) for each in zip(*times, strict=True))
            most = max(first for first, _ in times)
            print(f"Chromium {browser.version}: usable after {ready:.1f} s (most {most:.1f}, target {TARGET_SECONDS}),")
            print(f"a search is answered after {searched:.1f} s")
            if arguments.screenshots is not None:
                shoot(browser, directory / "example", arguments.screenshots)
                print(f"pictures in {arguments.screenshots}")
            browser.close()


if __name__ == "__main__":
    main()

"""The files of the documentation: tables of contents, links, titles. `nox -s docs` builds the site."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")])
TEXTS = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *sorted(DOCS.rglob("*.md"))]


def read_prose(path: Path) -> str:
    """Return a page without its code and comments."""
    text = path.read_text("utf-8")
    text = re.sub(r"^(`{3,}).*?^\1$|<!--.*?-->", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^    .*$", "", text, flags=re.MULTILINE)


def find_entries(page: Path) -> list[Path]:
    """Return the pages in the tables of contents of a page, without suffix."""
    text = re.sub(r"<!--.*?-->", "", page.read_text("utf-8"), flags=re.DOTALL)
    blocks = re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    names = [line.strip() for block in blocks for line in block.splitlines() if line.strip() and line[0] != ":"]
    return [page.parent / (titled[1] if (titled := re.search(r"<(.+)>$", name)) else name) for name in names]


def find_anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub and the site make from a page's headings."""
    headings = re.findall(r"^#{1,6} (.+)$", read_prose(page), re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return {f"{slug}-{slugs[:n].count(slug)}" if slug in slugs[:n] else slug for n, slug in enumerate(slugs)}


def test_every_page_is_in_one_table_of_contents() -> None:
    named = [entry for page in DOCS.rglob("*.md") for entry in find_entries(page)]
    assert sorted([DOCS / "index", *named]) == sorted(page.with_suffix("") for page in PAGES)


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", read_prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in find_anchors(target)):
            wrong.append(link)
    assert not wrong


def test_including_page_repeats_title_of_its_file() -> None:
    """The include leaves out the first line of the file."""
    for name in ("changelog", "contributing", "security"):
        page = (DOCS / f"{name}.md").read_text("utf-8")
        [source] = re.findall(r"^```\{include\} \.\./(\S+)$", page, re.MULTILINE)
        first = (ROOT / source).read_text("utf-8").splitlines()[0]
        assert page.startswith(f"{first}\n")

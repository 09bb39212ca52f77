"""The documentation as files: every page has its place, every link leads somewhere. `nox -s docs` builds the site."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")])
TEXTS = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *sorted(DOCS.rglob("*.md"))]


def prose(path: Path) -> str:
    """Return a page without its code and comments."""
    text = path.read_text("utf-8")
    text = re.sub(r"^(`{3,}).*?^\1$|<!--.*?-->", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^    .*$", "", text, flags=re.MULTILINE)


def entries(page: Path) -> list[Path]:
    """Return the pages that the tables of contents in a page name, without their endings."""
    text = re.sub(r"<!--.*?-->", "", page.read_text("utf-8"), flags=re.DOTALL)
    blocks = re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    names = [line.strip() for block in blocks for line in block.splitlines() if line.strip() and line[0] != ":"]
    return [page.parent / (titled[1] if (titled := re.search(r"<(.+)>$", name)) else name) for name in names]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#{1,6} (.+)$", prose(page), re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return {f"{slug}-{slugs[:n].count(slug)}" if slug in slugs[:n] else slug for n, slug in enumerate(slugs)}


def test_every_page_stands_in_one_table_of_contents() -> None:
    named = [entry for page in DOCS.rglob("*.md") for entry in entries(page)]
    assert sorted([DOCS / "index", *named]) == sorted(page.with_suffix("") for page in PAGES)


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            wrong.append(link)
    assert not wrong


def test_a_page_that_takes_over_a_file_of_the_root_has_its_title() -> None:
    """The file's own first line is left out there."""
    for name in ("changelog", "contributing", "security"):
        page = (DOCS / f"{name}.md").read_text("utf-8")
        [source] = re.findall(r"^```\{include\} \.\./(\S+)$", page, re.MULTILINE)
        first = (ROOT / source).read_text("utf-8").splitlines()[0]
        assert page.startswith(f"{first}\n")

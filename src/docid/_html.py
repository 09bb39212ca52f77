"""HTML as text, for the report page and for notebooks: every value escaped, and no script."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from docid._text import escape_controls

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_SHOWN = 2_000  # characters of a text
# Colours are those of the notebook, light or dark: what stands out does so by its weight, and lines are faint.
_BOX = "border:1px solid color-mix(in srgb, currentColor 25%, transparent);border-radius:4px;padding:.6em .8em;"
_PRE = "white-space:pre-wrap;overflow-wrap:anywhere;max-height:24em;overflow:auto;margin:.4em 0;text-align:start;"
_CELL = "text-align:start;vertical-align:top;"


def text(value: str) -> str:
    """Return a text of a document, escaped for HTML; what HTML knows no character for is shown as its escape."""
    return escape(escape_controls(value, keep="\t\n\r\u061c\u200e\u200f"))


def name(value: object) -> str:
    """Return a name for people, escaped for HTML and apart from the direction of what stands around it."""
    return f"<bdi>{escape(escape_controls(str(value)))}</bdi>"


def number(value: int | None) -> str:
    """Return a number with its thousands apart; a dash where it is not known."""
    return "—" if value is None else f"{value:,}"


def element(tag: str, *content: str, **attributes: str) -> str:
    """Return an element of markup that is escaped already; attributes are escaped here, `class_` is `class`."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(escape_controls(value))}"' for key, value in attributes.items()
    )
    return f"<{tag}{given}>{''.join(content)}</{tag}>"


def head(cells: list[str]) -> str:
    """Return the row above a table, of cells that are escaped already."""
    return element("tr", *(element("th", each, scope="col") for each in cells))


def row(cells: list[str], *, texts: int) -> str:
    """Return a row of a table, of cells that are escaped already; the first so many are texts, the others numbers."""
    first, *others = cells
    return element(
        "tr",
        element("th", first, scope="row"),
        *(element("td", each) for each in others[: texts - 1]),
        *(element("td", each, class_="number") for each in others[texts - 1 :]),
    )


def heading(kind: str, stage: str, doc_id: str, note: str = "") -> str:
    """Return the heading of a document's view: the class, the document, a note."""
    return f"{kind} {name(f'{stage}/{doc_id}')}{f' · {text(note)}' if note else ''}"


def box(title: str, *content: str) -> str:
    """Return a box with a title above content, both escaped already."""
    bold = element("div", title, style="font-weight:600;margin-bottom:.4em;")
    return element("div", bold, *content, style=_BOX)


def fact_table(facts: Iterable[tuple[str, str]]) -> str:
    """Return a table of names and values; the values are escaped already."""
    rows = (
        element("tr", element("th", text(key), scope="row", style=_CELL), element("td", value, style=_CELL))
        for key, value in facts
    )
    return element("table", *rows)


def describe_document(facts: Mapping[str, str | None]) -> str:
    """Return a table of what is known of a document; None is left out."""
    return fact_table((key, name(value)) for key, value in facts.items() if value is not None)


def fold(summary: str, content: str, *, is_open: bool = False) -> str:
    """Return content that unfolds; both are escaped already."""
    opened = {"open": ""} if is_open else {}
    return element("details", element("summary", summary), content, **opened)


def fold_parts(parts: Mapping[str, str]) -> Iterator[str]:
    """Return the texts of a document, folded: the parsed one open, the raw one where nothing was parsed."""
    opened = "parsed" if "parsed" in parts else "raw"
    return (_fold_text(part, content, is_open=part == opened) for part, content in parts.items())


def fold_metadata(metadata: Mapping[str, Any]) -> str:
    """Return metadata as JSON, folded; nothing where there is none."""
    import json  # noqa: PLC0415 - for notebooks alone

    if not metadata:
        return ""
    return _fold_text("metadata", json.dumps(metadata, ensure_ascii=False, indent=2), is_open=False)


def _fold_text(part: str, content: str, *, is_open: bool) -> str:
    """Return one text, its beginning, folded."""
    size = len(content)
    more = "" if size <= _SHOWN else element("div", f"… and {number(size - _SHOWN)} characters more")
    body = element("pre", text(content[:_SHOWN]), dir="auto", style=_PRE) + more
    return fold(f"{part} ({number(size)} characters)", body, is_open=is_open)

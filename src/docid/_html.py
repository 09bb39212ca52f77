"""HTML helpers for the report page and for notebooks. They escape every value and write no script."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from docid._text import escape_controls

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# Keep MathJax 2 and 3 away: they take two dollar signs in a task id for a formula.
_NO_MATH = "tex2jax_ignore mathjax_ignore"
_SHOWN = 2_000  # characters of a part that a notebook shows
# No colours: the view must fit light and dark notebooks. Headings are bold, borders are faint.
_BOX = "border:1px solid color-mix(in srgb, currentColor 25%, transparent);border-radius:4px;padding:.6em .8em;"
_PRE = "white-space:pre-wrap;overflow-wrap:anywhere;max-height:24em;overflow:auto;margin:.4em 0;text-align:start;"
_CELL = "text-align:start;vertical-align:top;"


def text(value: str) -> str:
    """Escape the text of a document for HTML. Characters that HTML does not allow become visible escapes."""
    return escape(escape_controls(value, keep="\t\n\r\u061c\u200e\u200f"))


def name(value: object) -> str:
    """Escape a name for HTML, and isolate its text direction from the surrounding text."""
    return f"<bdi>{escape(escape_controls(str(value)))}</bdi>"


def number(value: int | None) -> str:
    """Return a number with thousands separators, or a dash if it is unknown."""
    return "—" if value is None else f"{value:,}"


def element(tag: str, *content: str, **attributes: str) -> str:
    """Return an element with already escaped content. Attribute values are escaped here; `class_` means `class`."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(escape_controls(value))}"' for key, value in attributes.items()
    )
    return f"<{tag}{given}>{''.join(content)}</{tag}>"


def head(cells: list[str]) -> str:
    """Return the header row of a table, from escaped cells."""
    return element("tr", *(element("th", each, scope="col") for each in cells))


def row(cells: list[str], *, texts: int) -> str:
    """Return a row of a table, from escaped cells: the first `texts` cells are text, the others are numbers."""
    first, *others = cells
    return element(
        "tr",
        element("th", first, scope="row"),
        *(element("td", each) for each in others[: texts - 1]),
        *(element("td", each, class_="number") for each in others[texts - 1 :]),
    )


def heading(kind: str, stage: str, doc_id: str, note: str = "") -> str:
    """Return the heading of a view: the class, the name of the document, and a note."""
    return f"{kind} {name(f'{stage}/{doc_id}')}{f' · {text(note)}' if note else ''}"


def box(title: str, *content: str) -> str:
    """Return a box with a title above its content, both already escaped."""
    bold = element("div", title, style="font-weight:600;margin-bottom:.4em;")
    return element("div", bold, *content, class_=_NO_MATH, style=_BOX)


def fact_table(facts: Iterable[tuple[str, str]]) -> str:
    """Return a two-column table of names and escaped values."""
    rows = (
        element("tr", element("th", text(key), scope="row", style=_CELL), element("td", value, style=_CELL))
        for key, value in facts
    )
    return element("table", *rows)


def describe_document(facts: Mapping[str, str | None]) -> str:
    """Return a table of the known facts about a document."""
    return fact_table((key, name(value)) for key, value in facts.items() if value is not None)


def fold(summary: str, content: str, *, is_open: bool = False) -> str:
    """Return a foldable section; the summary and the content are already escaped."""
    opened = {"open": ""} if is_open else {}
    return element("details", element("summary", summary), content, **opened)


def fold_parts(parts: Mapping[str, str]) -> Iterator[str]:
    """Return the parts of a document as foldable sections. The parsed text is open; without one, the raw text."""
    opened = "parsed" if "parsed" in parts else "raw"
    return (_fold_text(part, content, is_open=part == opened) for part, content in parts.items())


def fold_metadata(metadata: Mapping[str, Any]) -> str:
    """Return metadata as JSON in a foldable section, or an empty text if it is empty."""
    import json  # noqa: PLC0415 - only notebooks need it

    if not metadata:
        return ""
    return _fold_text("metadata", json.dumps(metadata, ensure_ascii=False, indent=2), is_open=False)


def _fold_text(part: str, content: str, *, is_open: bool) -> str:
    """Return the beginning of a text in a foldable section."""
    size = len(content)
    more = "" if size <= _SHOWN else element("div", f"… and {number(size - _SHOWN)} more characters")
    body = element("pre", text(content[:_SHOWN]), dir="auto", style=_PRE) + more
    return fold(f"{part} ({number(size)} characters)", body, is_open=is_open)

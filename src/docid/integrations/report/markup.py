"""HTML as text: every value escaped, every name without what would turn the order of its characters."""

from __future__ import annotations

from html import escape

from docid._text import visible

_VOID = {"input"}  # elements without content, and without an end

__all__ = ["element", "head", "name", "number", "row", "text"]


def text(value: str) -> str:
    """Return a text of a document, escaped for HTML; what HTML knows no character for is shown as its escape."""
    return escape(visible(value, keep="\t\n\r\u061c\u200e\u200f"))


def name(value: object) -> str:
    """Return a name for people, escaped for HTML and apart from the direction of what stands around it."""
    return f"<bdi>{escape(visible(str(value)))}</bdi>"


def number(value: int | None) -> str:
    """Return a number with its thousands apart; a dash where it is not known."""
    return "—" if value is None else f"{value:,}"


def element(tag: str, *content: str, **attributes: str) -> str:
    """Return an element of markup that is escaped already; attributes are escaped here, `class_` is `class`."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(visible(value))}"' for key, value in attributes.items()
    )
    return f"<{tag}{given}>" if tag in _VOID else f"<{tag}{given}>{''.join(content)}</{tag}>"


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

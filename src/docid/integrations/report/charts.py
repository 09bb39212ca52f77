"""SVG plots without colours of their own; each says in words what it shows."""

from __future__ import annotations

from statistics import fmean, median
from typing import TYPE_CHECKING, NamedTuple

from docid._html import element

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Spread", "draw_coverage_bar", "draw_histogram"]

_BINS = 20
_WIDTH, _HEIGHT = 160, 28


class Spread(NamedTuple):
    """The spread of some numbers."""

    least: float
    median: float
    mean: float
    most: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Spread:
        """Return the spread of numbers, at least one."""
        return cls(min(numbers), median(numbers), fmean(numbers), max(numbers))


def draw_coverage_bar(written: int, pending: int, rows: int) -> str:
    """Return a bar of the rows of a stage: written, pending, and the others, which have findings."""
    shares = [("written", written), ("pending", pending), ("other", max(0, rows - written - pending))]
    bars, x = [], 0.0
    for (kind, count), height in zip(shares, (12, 8, 4), strict=True):  # heights, for those who see no colours
        width = _WIDTH * count / rows if rows else 0.0
        bars.append(_draw_bar(x, 12 - height, width, height, kind))
        x += width
    counts = ", ".join(f"{count:,} {kind}" for kind, count in shares)
    return _draw_picture(12, f"of {rows:,} rows: {counts}", bars)


def draw_histogram(numbers: Sequence[float], least: float, most: float) -> str:
    """Return a plot of how many numbers are in each of 20 equal parts of the range from `least` to `most`."""
    counts = [0] * _BINS
    span = most - least
    for number in numbers:
        counts[min(_BINS - 1, int((number - least) / span * _BINS)) if span else _BINS // 2] += 1
    width = _WIDTH / _BINS
    heights = [_HEIGHT * count / max(counts) for count in counts]
    shapes = [
        _draw_bar(position * width + 0.5, _HEIGHT - height, width - 1, height)
        for position, height in enumerate(heights)
        if height
    ]
    x = f"{(median(numbers) - least) / span * _WIDTH if span else _WIDTH / 2:.1f}"
    shapes.append(element("line", x1=x, x2=x, y1="0", y2=f"{_HEIGHT}", class_="median"))
    title = f"{len(numbers):,} scores from {min(numbers):g} to {max(numbers):g}, median {median(numbers):g}"
    return _draw_picture(_HEIGHT, title, shapes)


def _draw_bar(x: float, y: float, width: float, height: float, kind: str = "bar") -> str:
    return element("rect", x=f"{x:.1f}", y=f"{y:.1f}", width=f"{width:.1f}", height=f"{height:.1f}", class_=kind)


def _draw_picture(height: int, title: str, shapes: Sequence[str]) -> str:
    size = {"width": str(_WIDTH), "height": str(height), "viewBox": f"0 0 {_WIDTH} {height}"}
    return element("svg", element("title", title), *shapes, role="img", aria_label=title, **size)

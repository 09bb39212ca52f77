"""Plots as SVG inside of a page: they have no colours of their own, and say in words what they show."""

from __future__ import annotations

from statistics import fmean, median
from typing import TYPE_CHECKING, NamedTuple

from docid._html import element

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Spread", "coverage_bar", "histogram"]

_BINS = 20
_WIDTH, _HEIGHT = 160, 28


class Spread(NamedTuple):
    """How numbers are spread."""

    least: float
    median: float
    mean: float
    most: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Spread:
        """Return the spread of some numbers, one at least."""
        return cls(min(numbers), median(numbers), fmean(numbers), max(numbers))


def coverage_bar(written: int, pending: int, rows: int) -> str:
    """Return a bar of the rows of a stage: written, pending, and the rest, which have findings."""
    shares = [("written", written), ("pending", pending), ("other", max(0, rows - written - pending))]
    told = ", ".join(f"{count:,} {kind}" for kind, count in shares)
    drawn, at = [], 0.0
    for (kind, count), height in zip(shares, (12, 8, 4), strict=True):  # told apart without colours too
        width = _WIDTH * count / rows if rows else 0.0
        drawn.append(_rectangle(at, 12 - height, width, height, kind))
        at += width
    return _picture(12, f"of {rows:,} rows: {told}", drawn)


def histogram(numbers: Sequence[float], least: float, most: float) -> str:
    """Return how often numbers are in each of 20 parts of the range from `least` to `most`."""
    counts = [0] * _BINS
    span = most - least
    for number in numbers:
        counts[min(_BINS - 1, int((number - least) / span * _BINS)) if span else _BINS // 2] += 1
    highest, width = max(counts), _WIDTH / _BINS
    drawn = [
        _rectangle(position * width + 0.5, _HEIGHT - _HEIGHT * count / highest, width - 1, _HEIGHT * count / highest)
        for position, count in enumerate(counts)
        if count
    ]
    middle = (median(numbers) - least) / span * _WIDTH if span else _WIDTH / 2
    drawn.append(element("line", x1=f"{middle:.1f}", x2=f"{middle:.1f}", y1="0", y2=f"{_HEIGHT}", class_="median"))
    told = f"{len(numbers):,} scores from {min(numbers):g} to {max(numbers):g}, median {median(numbers):g}"
    return _picture(_HEIGHT, told, drawn)


def _rectangle(x: float, y: float, width: float, height: float, kind: str = "bar") -> str:
    return element("rect", x=f"{x:.1f}", y=f"{y:.1f}", width=f"{width:.1f}", height=f"{height:.1f}", class_=kind)


def _picture(height: int, told: str, drawn: Sequence[str]) -> str:
    size = {"width": str(_WIDTH), "height": str(height), "viewBox": f"0 0 {_WIDTH} {height}"}
    return element("svg", element("title", told), *drawn, role="img", aria_label=told, **size)

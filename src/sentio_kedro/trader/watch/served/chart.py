"""The equity curve as plain SVG, once for a wide screen and once for a phone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sentio_kedro.trader.watch.band import Band
from sentio_kedro.trader.watch.metrics import band_ends
from sentio_kedro.trader.watch.view import View

SIZES = ((1_000, 260), (360, 220))  # wide, phone
LEFT, BOTTOM, TOP = 66, 26, 10
TICKS = 4
BAND_POINTS = 80


@dataclass(frozen=True)
class Tick:
    """A line of the grid.

    Attributes:
        y: Height from above.
        text: Its equity.
    """

    y: float
    text: str


@dataclass(frozen=True)
class Chart:
    """What the template draws.

    Attributes:
        width: Of the view box.
        height: Of the view box.
        left: Where the plot begins.
        ticks: Grid.
        line: Points of the equity.
        band: Points around the band; empty without one.
        first: Text below the first point.
        last: Below the last.
    """

    width: int
    height: int
    left: int
    ticks: tuple[Tick, ...]
    line: str
    band: str
    first: str
    last: str


def charts_of(view: View, band: Band | None) -> tuple[Chart, ...]:
    """Return the chart in both sizes; none for fewer than two decisions."""
    points = list(view.curve)
    if points and points[-1][0] != view.decisions - 1:
        points.append((view.decisions - 1, view.decided, view.equity))
    if len(points) < 2:  # noqa: PLR2004 - a line has two ends
        return ()
    edges = _band_edges(view, band, points[-1][0])
    return tuple(_chart(points, edges, width, height) for width, height in SIZES)


def _band_edges(view: View, band: Band | None, last: int) -> list[tuple[float, float, float]]:
    numbers = sorted({round(last * part / BAND_POINTS) for part in range(1, BAND_POINTS + 1)} - {0})
    found = [(number, band_ends(view, band, number)) for number in numbers]
    edges = [(float(number), *ends) for number, ends in found if ends is not None]
    return [(0.0, view.first_equity, view.first_equity), *edges] if edges else []


def _chart(
    points: list[tuple[int, str, float]], edges: list[tuple[float, float, float]], width: int, height: int
) -> Chart:
    values = [equity for _, _, equity in points] + [end for edge in edges for end in edge[1:]]
    step = _round_step((max(values) - min(values) or abs(values[0]) * 1e-4 or 1.0) / TICKS)
    lowest, highest = math.floor(min(values) / step) * step, math.ceil(max(values) / step) * step
    highest = highest if highest > lowest else lowest + step
    last, plot = points[-1][0] or 1, height - BOTTOM - TOP

    def place(number: float, equity: float) -> str:
        return f"{LEFT + number / last * (width - LEFT):.1f},{TOP + (highest - equity) / (highest - lowest) * plot:.1f}"

    ticks = []
    for number in range(round((highest - lowest) / step) + 1):
        equity = lowest + number * step
        digits = max(0, -math.floor(math.log10(step)))
        ticks.append(Tick(round(TOP + (highest - equity) / (highest - lowest) * plot, 1), f"{equity:,.{digits}f}"))
    upper, lower = [place(x, top) for x, _, top in edges], [place(x, low) for x, low, _ in reversed(edges)]
    line = " ".join(place(number, equity) for number, _, equity in points)
    first, end = (stamp[:16].replace("T", " ") for stamp in (points[0][1], points[-1][1]))
    return Chart(width, height, LEFT, tuple(ticks), line, " ".join(upper + lower), first, end)


def _round_step(step: float) -> float:
    """Return the next larger of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= step * (1 - 1e-9))

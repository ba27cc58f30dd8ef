"""A plot with two logarithmic axes, as SVG text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, LEFT, BOTTOM, RIGHT, TOP = 560, 380, 64, 52, 110, 20
COLOURS = ("#1f6feb", "#d1603d", "#2e8b57", "#8250a8", "#6e7781")


def log_plot(curves: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str) -> str:
    """Draw curves of points above 0 with a dashed line of slope 1, and axes in powers of two.

    Args:
        curves: By name, points that start at (1, 1).
        across: Title of the horizontal axis.
        up: Title of the vertical axis.
    """
    points = [point for curve in curves.values() for point in curve]
    highest = math.ceil(max(math.log2(max(point)) for point in points))
    lowest = math.floor(min(0.0, *(math.log2(y) for _, y in points)))

    def place(x: float, y: float) -> tuple[float, float]:
        right = LEFT + (WIDTH - LEFT - RIGHT) * math.log2(x) / highest
        down = HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (math.log2(y) - lowest) / (highest - lowest)
        return round(right, 1), round(down, 1)

    def line(ends: Sequence[tuple[float, float]], style: str) -> str:
        path = " ".join(f"{x},{y}" for x, y in (place(*end) for end in ends))
        return f'<polyline points="{path}" fill="none" {style}/>'

    def text(x: float, y: float, words: str, style: str = 'text-anchor="middle"') -> str:
        return f'<text x="{x}" y="{y}" {style}>{words}</text>'

    grid = 'stroke="#d8dee4"'
    parts = [line([(2.0**k, 2.0**lowest), (2.0**k, 2.0**highest)], grid) for k in range(highest + 1)]
    parts += [line([(1.0, 2.0**k), (2.0**highest, 2.0**k)], grid) for k in range(lowest, highest + 1)]
    for k in range(highest + 1):
        parts.append(text(place(2.0**k, 1.0)[0], HEIGHT - BOTTOM + 18, f"{2.0**k:g}"))
    for k in range(lowest, highest + 1):
        parts.append(text(LEFT - 8, place(1.0, 2.0**k)[1] + 4, f"{2.0**k:g}", 'text-anchor="end"'))
    parts.append(text((WIDTH + LEFT - RIGHT) / 2, HEIGHT - 12, across))
    middle = (HEIGHT - BOTTOM + TOP) / 2
    parts.append(text(16, middle, up, f'text-anchor="middle" transform="rotate(-90 16 {middle})"'))
    parts.append(line([(1.0, 1.0), (2.0**highest, 2.0**highest)], 'stroke="#6e7781" stroke-dasharray="5 4"'))
    taken: list[float] = [place(1.0, 2.0**highest)[1] + 4]
    parts.append(text(WIDTH - RIGHT + 6, taken[0], "linear", 'fill="#6e7781"'))
    for (name, curve), colour in zip(sorted(curves.items(), key=lambda of: -of[1][-1][1]), COLOURS, strict=False):
        parts.append(line(curve, f'stroke="{colour}" stroke-width="2"'))
        taken.append(max(place(*curve[-1])[1] + 4, taken[-1] + 15))  # labels do not overlap
        parts.append(text(WIDTH - RIGHT + 6, taken[-1], name, f'fill="{colour}"'))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )

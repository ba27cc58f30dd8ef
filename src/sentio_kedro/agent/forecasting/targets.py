"""What is forecast: returns over disjoint segments of the bars after a decision, in units of volatility."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sentio_kedro.market.ingestion.adjustment import adjusted
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.timestamps import Floats

LIMIT = 6.0  # volatilities at which the return of a bar is clipped
INTRADAY = ((1, 1), (2, 4), (5, 16), (17, 48), (49, 192))  # first and last bar after the decision
DAILY = ((1, 1), (2, 2), (3, 5), (6, 10), (11, 21))
RELATIVE, DIRECTIONAL, PREMIUM = "relative", "directional", "premium"


class Horizon(NamedTuple):
    """A segment of the bars after a decision.

    Attributes:
        first: First bar, 1 is the bar that begins with the fill.
        last: Last bar.
    """

    first: int
    last: int

    @property
    def bars(self) -> int:
        """Number of bars."""
        return self.last - self.first + 1

    @property
    def stride(self) -> int:
        """Every so many rows are examples: those of long segments overlap."""
        return max(1, self.last // 8) if self.last >= 16 else 1  # noqa: PLR2004


def horizons(bars_per_day: float) -> tuple[Horizon, ...]:
    """Segments for bars of this density; those of daily bars are shorter."""
    return tuple(Horizon(*pair) for pair in (INTRADAY if bars_per_day > 1.0 else DAILY))


def bar_targets(bars: AlignedBars, volatility: Floats, latency: int) -> Floats:
    """Return of a position from the open that fills an order to the open after it, in volatilities ``[T, A]``.

    Clipped at ``LIMIT``; NaN where it is not known or the asset has no bar at one of the opens.
    """
    opened = np.log(adjusted(bars).open)
    targets = np.full(opened.shape, np.nan)
    first = 1 + latency
    if len(opened) > first + 1:
        targets[: -first - 1] = opened[first + 1 :] - opened[first:-1]
    return np.asarray(np.clip(targets / volatility, -LIMIT, LIMIT))


def less_mean(values: Floats, known: np.ndarray) -> Floats:
    """Subtract from ``[n, A]`` the mean of a row's ``known`` ones; the others are 0."""
    own = np.where(known, values, 0.0)
    mean = own.sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)
    return np.where(known, own - mean, 0.0)


def segment_targets(targets: Floats, segments: Sequence[Horizon], sleeve: str, rows: np.ndarray) -> Floats:
    """Sum of bar targets over each segment, over the root of its length ``[T, A, segments]``.

    Args:
        targets: ``[T, A]`` from ``bar_targets``.
        segments: The segments.
        sleeve: ``RELATIVE`` subtracts the mean over the assets that have a value, ``DIRECTIONAL`` the mean of all
            assets over the train ``rows``, ``PREMIUM`` nothing.
        rows: Train rows.

    Returns:
        NaN where a bar of the segment is beyond the data; a bar that a halt has taken counts as 0.
    """
    known = np.isfinite(targets)
    own = np.where(known, targets, 0.0)
    if sleeve == RELATIVE:
        own = less_mean(own, known)
    elif sleeve == DIRECTIONAL:
        own = np.where(known, own - own[rows].sum() / max(known[rows].sum(), 1), 0.0)
    present = np.flatnonzero(known.any(axis=1))
    end = present[-1] + 1 if present.size else 0
    path = np.concatenate([np.zeros((1, own.shape[1])), np.cumsum(own, axis=0)])
    found = np.full((*own.shape, len(segments)), np.nan)
    for index, part in enumerate(segments):
        count = max(0, end - part.last + 1)
        total = path[part.last : part.last + count] - path[part.first - 1 : part.first - 1 + count]
        found[:count, :, index] = total / np.sqrt(part.bars)
    return np.where(known[..., None], found, np.nan)

"""Drift of live features, with limits calibrated on blocks of the train bars that are as long as what is watched.

A bound such as 0.25 on the population stability index is crossed by a slow feature at every look: few of its values are
independent. So each feature's limit is the 99 % quantile of the index of train blocks against the other train bars,
and the worst ratio of index to limit has a limit of its own, the 99 % quantile of the worst ratio of a block: with many
features one is always near its own limit. A change of scale by 1.6 is found in one of six cases only: a weak alarm.

Live features are computed from the journal's bars, as the backtest computes them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentio_kedro.config import FeatureColumn
from sentio_kedro.evaluation.comparison.drift import BINS, PRIOR
from sentio_kedro.market.indicators import INDICATORS, column_times, compute_features, longest_lookback
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bar_checks import OPTIONAL_COLUMNS, VALUE_COLUMNS
from sentio_kedro.market.ingestion.timestamps import moment

Floats = NDArray[np.float64]
WATCHED_BARS = 1_000
QUANTILE = 0.99
FEWEST_BLOCKS = 20  # that have such a quantile
STEPS = 4  # blocks begin this often within the length of one
EVERY = 50  # bars from one look at the features to the next


@dataclass(frozen=True)
class Reference:
    """What live features are compared with.

    Attributes:
        bars: Bars of the blocks that limits were calibrated on.
        borders: Ends of the bins of each feature, deciles of the train values, ascending.
        shares: Share of the train values in each bin, by feature.
        limits: Index that 99 % of the blocks stay below, by feature.
        worst: Ratio of index to limit that the worst feature of 99 % of the blocks stays below, at least 1.
    """

    bars: int
    borders: Mapping[str, Floats]
    shares: Mapping[str, Floats]
    limits: Mapping[str, float]
    worst: float

    def indices(self, names: Sequence[str], values: Floats) -> dict[str, float]:
        """Return the population stability index of the features that are known.

        Args:
            names: Features [F].
            values: Theirs on the newest bars [T, A, F]; those that are not finite are left out.
        """
        found = {}
        for number, name in enumerate(names):
            counts = _counts(values[..., number], self.borders[name]).sum(axis=0) if name in self.borders else ()
            if np.sum(counts) > 0:
                found[name] = _divergence(self.shares[name], _shares(np.asarray(counts)))
        return found

    def ratio(self, indices: Mapping[str, float]) -> float | None:
        """Return the worst ratio of index to limit, relative to that of blocks; above 1 is drift."""
        worst = max((index / self.limits[name] for name, index in indices.items()), default=None)
        return None if worst is None else worst / self.worst


def calibrate(names: Sequence[str], train: Floats, bars: int = WATCHED_BARS) -> Reference | None:
    """Calibrate limits on the train bars.

    Args:
        names: Features [F].
        train: Values [T, A, F]; those that are not finite are left out.
        bars: Bars that are watched.

    Returns:
        The reference; None if the train bars are too few for ``FEWEST_BLOCKS`` blocks.
    """
    starts = np.arange(0, len(train) - bars + 1, max(1, bars // STEPS))
    if len(starts) < FEWEST_BLOCKS:
        return None
    borders: dict[str, Floats] = {}
    shares: dict[str, Floats] = {}
    limits: dict[str, float] = {}
    ratios = []
    for number, name in enumerate(names):
        values = train[..., number]
        ends = _borders(values[np.isfinite(values)])
        before = np.concatenate([np.zeros((1, len(ends) + 1)), np.cumsum(_counts(values, ends), axis=0)])
        blocks = before[starts + bars] - before[starts]
        index = np.array([_divergence(_shares(before[-1] - block), _shares(block)) for block in blocks])
        borders[name], shares[name] = ends, _shares(before[-1])
        limits[name] = max(float(np.quantile(index, QUANTILE)), float(np.finfo(float).tiny))
        ratios.append(index / limits[name])
    worst = float(np.quantile(np.max(ratios, axis=0), QUANTILE)) if ratios else 1.0
    return Reference(bars, borders, shares, limits, max(worst, 1.0))


class DriftMeter:
    """Keeps the newest bars, and compares their features with the reference every ``EVERY`` bars.

    Attributes:
        reference: What they are compared with.
    """

    def __init__(
        self, reference: Reference, columns: Sequence[FeatureColumn], symbols: Sequence[str], calendar: str | None
    ) -> None:
        """Begin without bars.

        Args:
            reference: Of the agents that decide.
            columns: Features, whose names the reference knows.
            symbols: In the order of the reference.
            calendar: Of the sessions that some features read.
        """
        self.reference, self._columns, self._symbols, self._calendar = reference, columns, tuple(symbols), calendar
        self._rows: deque[tuple[str, Mapping[str, Floats]]] = deque(maxlen=reference.bars + longest_lookback(columns))
        self._names: tuple[str, ...] = ()
        self._fresh = EVERY
        self._indices: dict[str, float] = {}

    @property
    def missing(self) -> int:
        """Bars that are still too few."""
        return (self._rows.maxlen or 0) - len(self._rows)

    def take(self, stamp: str, bars: Mapping[str, Mapping[str, float]]) -> None:
        """Take the row of a stamp; a symbol without a bar has none."""
        if not self._names:
            given = {name for values in bars.values() for name in values}
            self._names = tuple(name for name in (*VALUE_COLUMNS, *OPTIONAL_COLUMNS) if name in given)
        row = {
            name: np.array([bars.get(symbol, {}).get(name, math.nan) for symbol in self._symbols], np.float64)
            for name in self._names
        }
        self._rows.append((stamp, row))
        self._fresh += 1

    def indices(self) -> dict[str, float]:
        """Return the index of each feature; nothing before there are enough bars."""
        if not self.missing and self._fresh >= EVERY:
            self._fresh = 0
            self._indices = self._measured()
        return self._indices

    def _measured(self) -> dict[str, float]:
        stamps = np.array([moment(stamp) for stamp, _ in self._rows], "datetime64[ns]")
        values = {name: np.stack([row[name] for _, row in self._rows]) for name in self._names}
        bars = AlignedBars.of(stamps, self._symbols, values)
        features = compute_features(bars, self._columns, column_times(stamps, self._columns, self._calendar))
        return self.reference.indices([column.name for column in self._columns], features[-self.reference.bars :])


def watchable(columns: Sequence[FeatureColumn]) -> list[FeatureColumn]:
    """Return the features that can drift and that a feed's bars give: none of the calendar, no own columns."""
    return [
        column
        for column in columns
        if INDICATORS[column.indicator].calendar is None and INDICATORS[column.indicator].own is None
    ]


def _borders(values: Floats) -> Floats:
    """Return the ends of the bins: deciles of the values, each once."""
    return np.unique(np.quantile(values, np.linspace(0.0, 1.0, BINS + 1)[1:-1])) if len(values) else np.empty(0)


def _counts(values: Floats, borders: Floats) -> Floats:
    """Return how many of the values [T, A] lie in each bin, by row [T, bins]."""
    places = np.searchsorted(borders, values, side="left")
    finite = np.isfinite(values)
    return np.stack([((places == bin) & finite).sum(axis=1) for bin in range(len(borders) + 1)], axis=1).astype(float)


def _shares(counts: Floats) -> Floats:
    shares: Floats = (counts + PRIOR) / (counts + PRIOR).sum()
    return shares


def _divergence(expected: Floats, observed: Floats) -> float:
    return float(((observed - expected) * np.log(observed / expected)).sum())

"""Where a return stands among those that resampled out-of-sample returns of the backtest give over as many bars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentio_kedro.config.live.alarms import BAND_PROBABILITY, FALSE_ALARMS

Floats = NDArray[np.float64]
PROBABILITIES = np.array([0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999])
LENGTHS = 60  # numbers of bars, evenly spaced in their logarithms
SAMPLES = 2_000
CHUNK = 4_000_000  # values drawn at once
LEAST_BARS = 50  # fewer say nothing of where a return stands


@dataclass(frozen=True)
class Band:
    """Quantiles of resampled logarithmic returns.

    Attributes:
        lengths: Numbers of bars [L].
        quantiles: By length and ``PROBABILITIES`` [L, P].
        furthest: Distance below the median that 99.5 % of the resampled paths never exceed, see ``distance``. Of paths
            that are looked at after every bar one in five is below the 2.5 % quantile at some of them.
    """

    lengths: Floats
    quantiles: Floats
    furthest: float

    def at(self, bars: float, probability: float) -> float | None:
        """Return a quantile over a number of bars; None beyond the backtest's own length."""
        if not 0 < bars <= self.lengths[-1]:
            return None
        row = self._row(bars)
        return float(np.interp(probability, PROBABILITIES, row))

    def percentile(self, bars: float, growth: float) -> float | None:
        """Return the share of resampled returns below one, 0.001 to 0.999; None for too few bars, or too many.

        Args:
            bars: Over how many.
            growth: Logarithmic return.
        """
        if not LEAST_BARS <= bars <= self.lengths[-1]:
            return None
        row = self._row(bars)
        if row[-1] - row[0] <= 0.0:
            return None
        return float(np.interp(growth, row, PROBABILITIES))

    def distance(self, bars: float, growth: float) -> float | None:
        """Return how far a return lies below the median, 1 being the 2.5 % quantile; None as for ``percentile``."""
        if self.percentile(bars, growth) is None:
            return None
        middle, low = (float(np.interp(p, PROBABILITIES, self._row(bars))) for p in (0.5, BAND_PROBABILITY))
        return (middle - growth) / (middle - low) if middle > low else None

    def _row(self, bars: float) -> Floats:
        return np.array([np.interp(bars, self.lengths, column) for column in self.quantiles.T])


def band_of(returns: Floats, mean_block: float | None = None, seed: int = 0) -> Band | None:
    """Resample the returns of a backtest in blocks.

    Args:
        returns: Simple returns per bar out of sample [T].
        mean_block: Mean length of a block, bars; null is the automatic choice.
        seed: Of the draws.

    Returns:
        The band for up to T bars; None for fewer returns than ``LEAST_BARS``.
    """
    from sentio_kedro.evaluation.statistics.bootstrap import (  # noqa: PLC0415 - compiles, and imports `arch`
        RUIN,
        automatic_block,
        stationary_bootstrap_indices,
    )

    bars = len(returns)
    if bars < LEAST_BARS:
        return None
    logs, rng = np.log(np.maximum(1.0 + returns, RUIN)), np.random.default_rng(seed)
    block = automatic_block(returns) if mean_block is None else mean_block
    lengths = np.unique(np.geomspace(1, bars, LENGTHS).round().astype(np.int64))
    sums, size = [], max(1, CHUNK // bars)
    for first in range(0, SAMPLES, size):
        rows = stationary_bootstrap_indices(bars, min(size, SAMPLES - first), block, rng)
        sums.append(np.cumsum(logs[rows], axis=1)[:, lengths - 1])
    growth = np.concatenate(sums)  # [samples, L]
    quantiles = np.quantile(growth, PROBABILITIES, axis=0).T
    middle, low = (
        quantiles[:, list(PROBABILITIES).index(0.5)],
        quantiles[:, list(PROBABILITIES).index(BAND_PROBABILITY)],
    )
    looked = (lengths >= LEAST_BARS) & (middle > low)
    distances = (middle - growth)[:, looked] / (middle - low)[looked]
    furthest = float(np.quantile(distances.max(axis=1), 1.0 - FALSE_ALARMS)) if looked.any() else 1.0
    return Band(lengths.astype(np.float64), quantiles, max(furthest, 1.0))

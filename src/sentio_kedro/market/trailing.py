"""Trailing sums and means without running sums, which would accumulate rounding errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sentio_kedro.market.aligned_bars import hold
from sentio_kedro.market.timestamps import Floats


def trailing_sum(values: Floats, length: int) -> Floats:
    """Return the sum of the last ``length`` rows of ``values`` [n, ...]; of fewer at the start.

    Windows of 1, 2, 4, ... rows are put together, so that the work grows with the logarithm of ``length``.
    """
    rows = len(values)
    total, passed = np.zeros(values.shape), 0  # sum of the last `passed` rows
    window, span = values, 1  # sum of `span` rows
    while length and passed < rows:
        if length & 1:
            total[passed:] += window[: rows - passed]
            passed += span
        length >>= 1
        if length and span < rows:
            doubled = window.copy()
            doubled[span:] += window[:-span]
            window = doubled
        span *= 2
    return total


def trailing_mean(values: Floats, length: int, valid: NDArray[np.bool_] | None = None) -> Floats:
    """Return the mean of the last ``length`` rows of ``values`` [n, ...].

    Args:
        values: Finite where they count.
        length: Rows averaged; fewer at the start.
        valid: Which values count, [n, ...]; null counts all.

    Returns:
        [n, ...]; 0 until a value counts.
    """
    if valid is None:
        counts = np.minimum(np.arange(1.0, len(values) + 1.0), length).reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray(trailing_sum(values, length) / counts)
    sums = trailing_sum(np.where(valid, values, 0.0), length)
    return np.asarray(sums / np.maximum(trailing_sum(valid.astype(np.float64), length), 1.0))


def estimated_spread(high: Floats, low: Floats, close: Floats, bars: int) -> Floats:
    """Estimate the full quoted spread from high, low and close (Abdi and Ranaldo 2017, their two-day estimator).

    With logs c of the close and eta of the middle of high and low, s^2 = max(4 mean[(c_t - eta_t)(c_t - eta_(t+1))], 0)
    over the last ``bars`` pairs of neighbouring bars: c_t is half a spread off the efficient price, which both middles
    estimate. All of it is observed by the close of the pair's second bar.

    Args:
        high: Highest prices [T, A], free of splits and dividends, NaN where the asset has no bar.
        low: Lowest prices [T, A].
        close: Closing prices [T, A].
        bars: Pairs averaged; fewer at the start.

    Returns:
        Fraction of the mid price [T, A]; 0 until an asset has two bars; held where it has no bar.
    """
    spread = np.full(close.shape, np.nan)
    for asset in range(close.shape[1]):
        rows = np.flatnonzero(np.isfinite(close[:, asset]))
        last = np.log(close[rows, asset])
        middle = 0.5 * (np.log(high[rows, asset]) + np.log(low[rows, asset]))
        square = trailing_mean(4.0 * (last[:-1] - middle[:-1]) * (last[:-1] - middle[1:]), bars)
        spread[rows[1:], asset] = np.sqrt(np.maximum(square, 0.0))
    return np.nan_to_num(hold(spread), nan=0.0)

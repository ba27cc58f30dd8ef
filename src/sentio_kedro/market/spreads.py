"""Quoted spreads, estimated where a feed has none."""

from __future__ import annotations

import numpy as np

from sentio_kedro.market.aligned import hold
from sentio_kedro.market.stamps import Floats
from sentio_kedro.market.trailing import trailing_mean


def estimated_spread(high: Floats, low: Floats, close: Floats, bars: int) -> Floats:
    """Estimate the full quoted spread from high, low and close (Abdi and Ranaldo 2017, their two-day estimator).

    With logs c of the close and eta of the middle of high and low, s^2 = max(4 mean[(c_t - eta_t)(c_t - eta_(t+1))], 0)
    over the last ``bars`` pairs of neighbouring bars: c_t lies half a spread beside the efficient price, for which both
    middles stand. Everything is known at the close of the pair's second bar.

    Args:
        high: Highest prices [T, A], free of splits and dividends, NaN where the asset has no bar.
        low: Lowest prices [T, A].
        close: Closing prices [T, A].
        bars: Pairs averaged; those known so far at the start.

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

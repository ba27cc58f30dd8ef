"""Total-return prices that never rewrite history.

Back-adjustment divides all earlier prices by each new split, which changes them later. Here the factor runs forward
from 1 at an asset's first bar: prices up to a bar depend on the bars up to it alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from sentio_kedro.market.ingestion.aligned_bars import AlignedBars, acts
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.large_arrays import large_array


class Factors(NamedTuple):
    """Factors of forward adjustment; held where an asset has no bar, 1 up to its first one.

    Attributes:
        price: [T, A] prices times this are total-return prices.
        split: [T, A] shares of the row per share of the asset's first bar.
    """

    price: Floats
    split: Floats

    def assets(self, index: slice) -> Factors:
        """Return the factors of the assets ``index``."""
        return Factors(self.price[:, index], self.split[:, index])

    def applied(self, bars: AlignedBars) -> AlignedBars:
        """Return ``bars`` with prices times the factor, volume over its split part, and neither dividend nor split."""
        return replace(
            bars,
            open=bars.open * self.price,
            high=bars.high * self.price,
            low=bars.low * self.price,
            close=bars.close * self.price,
            volume=bars.volume / self.split,
            dividend=None,
            split=None,
        )


def adjustment_factors(bars: AlignedBars) -> Factors | None:
    """Return the forward factors of ``bars``, null if they neither split nor pay anything and no asset rejoins.

    f_t = f_(t-1) * split_t * c / (c - dividend_t), where c is the previous close over split_t: dividends are reinvested
    at the price after their payment, as in the adjusted prices of CRSP, but forward. The return of a bar is then
    close_t / (c - dividend_t) - 1. Splits and dividends of an asset's first bar have no holder and are left out. So is
    what an asset did outside a dated universe: its price goes on from its last one there, at the open of its next bar.

    Raises:
        ValueError: If a dividend is not below the previous close, with symbol and timestamp.
    """
    active, rejoins = acts(bars), None if bars.leavers is None else bars.rejoins
    if rejoins is not None:
        active |= rejoins
    if not active.any():
        return None
    price, split = large_array(bars.close.shape), large_array(bars.close.shape)
    price[:], split[:] = 1.0, 1.0
    for asset in np.flatnonzero(active.any(axis=0)):
        rows = np.flatnonzero(bars.present[:, asset])
        splits = np.ones(rows.size) if bars.split is None else bars.split[rows, asset]
        dividends = np.zeros(rows.size) if bars.dividend is None else bars.dividend[rows, asset]
        before = bars.close[rows[:-1], asset] / splits[1:]  # previous close per share of this bar
        if rejoins is not None:
            back = np.flatnonzero(rejoins[rows, asset])
            splits[back], dividends[back], before[back - 1] = 1.0, 0.0, bars.close[rows[back - 1], asset]
        after = before - dividends[1:]
        if (after <= 0.0).any():
            _raise_dividend(bars, int(asset), int(rows[1 + np.argmax(after <= 0.0)]), float(before[after <= 0.0][0]))
        last = np.maximum(np.cumsum(bars.present[:, asset]) - 1, 0)  # [T] number of the asset's last bar
        steps = splits[1:] * before / after
        if rejoins is not None:
            steps[back - 1] = before[back - 1] / bars.open[rows[back], asset]
        price[:, asset] = np.cumprod(np.concatenate([[1.0], steps]))[last]
        split[:, asset] = np.cumprod(np.concatenate([[1.0], splits[1:]]))[last]
    return Factors(price, split)


def _raise_dividend(bars: AlignedBars, asset: int, row: int, price: float) -> None:
    paid = 0.0 if bars.dividend is None else float(bars.dividend[row, asset])
    timestamp = np.datetime_as_string(bars.timestamps[row], unit="s")
    raise ValueError(
        f"`dividend` must be below the previous close over `split`: {bars.symbols[asset]} {timestamp}Z paid {paid:g} "
        f"on a price of {price:g}; correct the dividend (cash per share after the split) or the price."
    )


def adjusted(bars: AlignedBars) -> AlignedBars:
    """Return the bars with splits and dividends worked into prices and volume, causally.

    Args:
        bars: Bars as traded.

    Returns:
        Bars with prices times the forward factor, volume over its split part, and neither dividend nor split; the same
        object if nothing was split or paid. Values up to a row depend on bars up to that row alone.

    Raises:
        ValueError: If a dividend is not below the previous close, with symbol and timestamp.
    """
    factors = adjustment_factors(bars)
    return bars if factors is None else factors.applied(bars)

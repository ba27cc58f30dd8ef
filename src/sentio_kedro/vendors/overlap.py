"""Bars that the store holds against the same bars fetched again."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sentio_kedro.vendors.contract import PRICES

ROUNDING = 1e-6
"""Relative difference that is rounding: Yahoo's prices are 32-bit numbers, multiplied back by later splits."""
_SAME_FACTOR = 1e-3
_LARGEST_RATIO = 100  # new shares per old, or old per new
_LARGEST_DENOMINATOR = 4  # 3:2, 4:3, 5:4


def unannounced_splits(held: pd.DataFrame, fetched: pd.DataFrame) -> dict[str, str]:
    """Find symbols of which all prices of the oldest common bars differ by one factor, as after a split.

    A price that was as traded does not change by a later split; it does where a vendor rewrites its history.

    Args:
        held: ``timestamp, symbol`` and prices from the store.
        fetched: The same from the vendor.

    Returns:
        What is wrong, with both values, by symbol.
    """
    problems = {}
    both = held.merge(fetched, on=["symbol", "timestamp"], suffixes=("", "_now")).sort_values("timestamp")
    for symbol, bars in both.groupby("symbol", sort=True):
        ratios = np.stack([(bars[f"{name}_now"] / bars[name]).to_numpy() for name in PRICES], axis=1)  # [n, 4]
        factor = float(ratios[0, -1])
        scaled = np.isclose(ratios, factor, rtol=_SAME_FACTOR).all(axis=1)
        if _is_split(factor) and scaled[: min(2, len(scaled))].all():
            count = len(scaled) if scaled.all() else int(np.argmin(scaled))
            first = bars.iloc[0]
            problems[str(symbol)] = (
                f"Prices of {symbol} must be those of the store, but of {count} bar(s) from "
                f"{first['timestamp']:%Y-%m-%dT%H:%MZ} all four are now {factor:g} of them (close {first['close']:g} "
                f"held, {first['close_now']:g} now), as after a split that the vendor does not tell. Try again when "
                "it tells it; if it has corrected its history instead, download into a new store (`filepath`)."
            )
    return problems


def _is_split(factor: float) -> bool:
    """Return whether a price factor is that of a split or reverse split."""
    if not np.isfinite(factor) or factor <= 0.0:
        return False
    ratio = max(factor, 1.0 / factor)
    parts = np.arange(1, _LARGEST_DENOMINATOR + 1)
    whole = np.round(ratio * parts)
    near = np.abs(ratio * parts / whole - 1.0) < _SAME_FACTOR
    return bool(1.0 + _SAME_FACTOR < ratio <= _LARGEST_RATIO and (near & (whole > parts)).any())

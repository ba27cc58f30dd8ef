"""Pages of bars in the form of the contract: ends, events, prices as traded, and the bars that are absent."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from sentio_kedro.vendors.contract import COLUMNS, PRICES, VendorError

_DAY = pd.Timedelta(days=1)
_FRIDAY = 4


def date_ends(dates: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Return the ends of daily bars: the UTC midnight after the date, whatever zone ``dates`` are in."""
    return dates.tz_localize(None).normalize().tz_localize("UTC") + _DAY


def page(symbol: str, ends: pd.DatetimeIndex, values: pd.DataFrame, events: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return bars with ``COLUMNS``, oldest first; rows without a close are no bars, rows told twice count once.

    Args:
        symbol: Name of the asset.
        ends: Bar ends [n] in UTC.
        values: Prices and volume [n], in any order of rows.
        events: ``end, dividend, split``, ``end`` being that of the first bar which may hold the event; an event goes to
            the first bar that ends then or later, and waits where there is none yet.

    Raises:
        VendorError: If a value is no number, or a bar is told twice with different values.
    """
    try:
        bars = values[[*PRICES, "volume"]].astype(np.float64).reset_index(drop=True)
    except (KeyError, TypeError, ValueError) as error:
        raise VendorError(f"Bars of {symbol} must have numbers as prices and volume ({error}); report it.") from None
    bars.insert(0, "timestamp", ends.as_unit("ns"))
    bars = bars[bars["close"].notna()].drop_duplicates().sort_values("timestamp", kind="stable")
    twice = bars["timestamp"].duplicated(keep=False)
    if twice.any():
        stamp = bars["timestamp"][twice].iloc[0]
        closes = bars["close"][bars["timestamp"] == stamp].tolist()
        raise VendorError(
            f"A bar must be told once: {symbol} {stamp:%Y-%m-%dT%H:%MZ} came with closes {closes}; try later, or take "
            "another vendor for this symbol."
        )
    dividend, split = np.zeros(len(bars)), np.ones(len(bars))
    if events is not None:
        rows = pd.DatetimeIndex(bars["timestamp"]).searchsorted(pd.DatetimeIndex(events["end"]))
        for row, paid, ratio in zip(rows.tolist(), events["dividend"], events["split"], strict=True):
            if row < len(bars):  # a bar takes the events of the days without one before it, too
                dividend[row] = dividend[row] / ratio + paid
                split[row] *= ratio
    bars = bars.reset_index(drop=True).assign(symbol=symbol, dividend=dividend, split=split)
    return bars[list(COLUMNS)]


def as_traded(bars: pd.DataFrame, splits: pd.Series) -> pd.DataFrame:
    """Undo the split adjustment of a vendor that divides earlier prices by each later split.

    Args:
        bars: ``open, high, low, close, volume, dividend`` [n] as adjusted, indexed by date.
        splits: New shares per old, indexed by date; a bar is undone by the splits of later dates.

    Returns:
        Prices and dividends times the later ratios, volume over them in whole shares where it was whole.
    """
    order = splits.sort_index()
    later = np.append(np.cumprod(order.to_numpy()[::-1])[::-1], 1.0)  # [m + 1] product from each split on
    factor = later[order.index.searchsorted(bars.index, side="right")]
    undone = {name: bars[name] * factor for name in (*PRICES, "dividend")}
    volume = np.where(factor == 1.0, bars["volume"], np.round(bars["volume"] / factor))
    return bars.assign(**undone, volume=volume)


def inside(bars: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp, length: pd.Timedelta) -> pd.DataFrame:
    """Return the bars that begin at ``start`` or later and end by ``end``."""
    kept = (bars["timestamp"] - length >= start) & (bars["timestamp"] <= end)
    return bars[kept].reset_index(drop=True)


def absent(
    ends: Iterable[pd.Timestamp], first: pd.Timestamp, last: pd.Timestamp, length: pd.Timedelta, always_open: bool
) -> pd.DatetimeIndex:
    """Return bar ends between ``first`` and ``last``, both included, that one would expect and that did not come.

    Of an exchange whose holidays are unknown, whole weekdays: every holiday is among them.

    Args:
        ends: Bar ends that came.
        first: A bar end.
        last: Latest bar end that may be expected.
        length: Length of a bar.
        always_open: Whether the market never closes.
    """
    came = pd.DatetimeIndex(list(ends), tz="UTC")
    if always_open:
        return pd.date_range(first, last, freq=length).difference(came)
    days = pd.date_range(first.ceil("D"), last.floor("D"), freq=_DAY)  # midnights at which days end
    days = days[(days - _DAY).dayofweek <= _FRIDAY]
    return days.difference(came.ceil("D"))

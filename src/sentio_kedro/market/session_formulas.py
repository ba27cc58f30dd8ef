"""Indicator formulas that compare a bar with its session so far, or with sessions before.

Each takes the bars that an asset has, with the number and the minute of their sessions among ``extra``, and looks back
on the last ``horizon`` bars alone, which must be more than a session has (see ``indicators.require_inputs``). A session
that the asset missed counts as none.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sentio_kedro.market.formulas import LARGEST, MIN_VOLATILITY, MIN_VOLUME, AssetBars
from sentio_kedro.market.ingestion.sessions import Integers
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.trailing import SessionRows, trailing_sum

SESSION, MINUTE = "__session__", "__minute__"
"""Names among ``extra`` of the number of each bar's session, and of the minutes since its open."""


def _of_each_asset(formula: Callable[[AssetBars, int], Floats]) -> Callable[[AssetBars, int], Floats]:
    """Apply a formula of one asset's bars [n] to those of each of several assets [A, n]."""

    def applied(bars: AssetBars, horizon: int) -> Floats:
        if bars.close.ndim == 1:
            return formula(bars, horizon)
        return np.stack([formula(bars.of(asset), horizon) for asset in range(len(bars.close))])

    applied.__doc__ = formula.__doc__
    return applied


@_of_each_asset
def overnight_gap(bars: AssetBars, horizon: int) -> Floats:
    """Return log(open of the session's first bar / close before it) [n]; 0 if that lies beyond the horizon."""
    before, known = _before_session(bars, horizon)
    return np.where(known, np.log(bars.open[before + 1] / bars.close[before]), 0.0)


@_of_each_asset
def prior_close_gap(bars: AssetBars, horizon: int) -> Floats:
    """Return log(close / close before the session) in units of a session's volatility [n]; 0 beyond the horizon."""
    before, known = _before_session(bars, horizon)
    gap = np.log(bars.close / bars.close[before]) / _session_volatility(bars, horizon)
    return np.where(known, np.clip(gap, -LARGEST, LARGEST), 0.0)


@_of_each_asset
def session_vwap_gap(bars: AssetBars, horizon: int) -> Floats:
    """Return log(close / volume-weighted average price of the session so far) in units of a session's volatility [n].

    The price of a bar is the mean of high, low and close. 0 where nothing has traded.
    """
    rows = SessionRows.of(_sessions(bars))
    traded = rows.so_far(bars.volume[:, None])[:, 0]
    paid = rows.so_far((bars.volume * (bars.high + bars.low + bars.close) / 3.0)[:, None])[:, 0]
    average = np.divide(paid, traded, out=bars.close.copy(), where=traded > 0.0)
    gap = np.log(bars.close / average) / _session_volatility(bars, horizon)
    return np.clip(gap, -LARGEST, LARGEST)


@_of_each_asset
def minute_profile(bars: AssetBars, horizon: int) -> Floats:
    """Return log(volume / its mean at the same minute of the sessions before, within ``horizon`` bars) [n].

    0 if there was no such bar, or none traded. Zero volume counts as ``MIN_VOLUME`` of the mean.
    """
    rows, (_, minute) = np.arange(bars.close.size), np.unique(bars.extra[MINUTE], return_inverse=True)
    order = np.argsort(minute, kind="stable")  # [n] rows by minute, in order of time within each
    volume, place = bars.volume[order], minute[order] * bars.close.size + order
    oldest = minute[order] * bars.close.size + np.maximum(order - horizon + 1, 0)
    first, last = np.searchsorted(place, oldest), rows  # its rows before are [first, last) of the ordered ones
    count = last - first
    pairs = np.stack([first, last], axis=-1).ravel()
    total = np.where(count > 0, np.add.reduceat(volume, pairs)[::2], 0.0)
    mean = total / np.maximum(count, 1)
    share = np.divide(volume, mean, out=np.ones(volume.size), where=mean > 0.0)
    result = np.empty(volume.size)
    result[order] = np.log((share + MIN_VOLUME) / (1.0 + MIN_VOLUME))
    return result


def _sessions(bars: AssetBars) -> Integers:
    return bars.extra[SESSION].astype(np.int64)


def _before_session(bars: AssetBars, horizon: int) -> tuple[Integers, np.ndarray]:
    """Return the last row before each bar's session [n], and whether it is one of the last ``horizon`` [n]."""
    session = _sessions(bars)
    before = np.searchsorted(session, session) - 1
    known = (before >= 0) & (before > np.arange(session.size) - horizon)
    return np.maximum(before, 0), known


def _session_volatility(bars: AssetBars, horizon: int) -> Floats:
    """Return the root of the sum of squared one-bar log returns, gaps among them, a session [n].

    Counted are the last ``horizon`` - 1 returns, over the sessions that begin with one of them.
    """
    squares, begins = np.zeros(bars.close.size), np.zeros(bars.close.size)
    squares[1:] = np.log(bars.close[1:] / bars.close[:-1]) ** 2
    begins[1:] = np.diff(bars.extra[SESSION]) != 0
    variance = trailing_sum(squares, horizon - 1) / np.maximum(trailing_sum(begins, horizon - 1), 1.0)
    return np.maximum(np.sqrt(variance), MIN_VOLATILITY)

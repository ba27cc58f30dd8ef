"""What bars hold, counted: per symbol, gaps, hours, order of prices, adjustment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentio_kedro.market.ingestion.problems import Problem, listed
from sentio_kedro.market.ingestion.timestamps import Floats, Timestamps, shortest_common_gap

ROUNDING = 1e-6  # relative; a close above the high by less is rounding of an adjustment
LONGEST_GAPS = 3  # told of each feed
_DAY, _HOUR = 1_440.0, 60.0  # minutes
_OFTEN = 0.1  # share of the bars; early closes are rarer
_DENSE, _THIN = 10, 3  # bars of a day that holds minutes; days with one bar that are daily rows

SPLITS: dict[str, tuple[tuple[date, float], ...]] = {
    "AAPL": ((date(2014, 6, 9), 7.0), (date(2020, 8, 31), 4.0)),
    "AMZN": ((date(2022, 6, 6), 20.0),),
    "GOOGL": ((date(2022, 7, 18), 20.0),),
    "NFLX": ((date(2015, 7, 15), 7.0),),
    "NVDA": ((date(2021, 7, 20), 4.0), (date(2024, 6, 10), 10.0)),
    "TSLA": ((date(2020, 8, 31), 5.0), (date(2022, 8, 25), 3.0)),
}
"""Splits that everybody knows, first day after and new shares per old one: prices that span one show what they are."""


@dataclass(frozen=True)
class SymbolFacts:
    """What one symbol's bars are.

    Attributes:
        rows: Number of bars.
        first: First stamp.
        last: Last stamp.
        bar_minutes: Usual distance of the bars, minutes; null of one bar.
        last_close: Last close, quote currency.
    """

    rows: int
    first: str
    last: str
    bar_minutes: float | None
    last_close: float


@dataclass(frozen=True)
class Gap:
    """A hole in the stamps of all symbols.

    Attributes:
        after: Last stamp before it.
        until: First stamp after it.
        days: Days between them.
    """

    after: str
    until: str
    days: float


def stamp_text(stamp: Any) -> str:
    """Return a stamp as people write it: to the minute, or the date at midnight."""
    text = pd.Timestamp(stamp).tz_localize(None).isoformat(timespec="minutes")
    return text.removesuffix("T00:00")


def naive_stamps(frame: pd.DataFrame) -> Timestamps:
    """Return the stamps of bars [n] in nanoseconds, in UTC or, where no zone is known, as they are written."""
    stamps: Timestamps = frame["timestamp"].dt.tz_localize(None).to_numpy(dtype="datetime64[ns]")
    return stamps


def symbol_facts(frame: pd.DataFrame) -> dict[str, SymbolFacts]:
    """Return the facts of each symbol of bars that are sorted by symbol and stamp."""
    stamps, facts = naive_stamps(frame), {}
    for symbol, rows in frame.groupby("symbol", sort=True).indices.items():
        own = np.sort(stamps[rows])
        gaps = np.diff(np.unique(own))
        minutes = float(shortest_common_gap(gaps) / np.timedelta64(1, "m")) if gaps.size else None
        last = float(frame["close"].to_numpy(dtype=np.float64)[rows[-1]])
        facts[str(symbol)] = SymbolFacts(len(rows), stamp_text(own[0]), stamp_text(own[-1]), minutes, last)
    return facts


def longest_gaps(grid: Timestamps, length: np.timedelta64, usual: np.timedelta64) -> list[Gap]:
    """Return the longest distances of neighbouring stamps [n] beyond ``length`` and the ``usual``, longest first.

    Args:
        grid: Distinct stamps in order.
        length: Length of a bar.
        usual: A distance that a market which closes has anyway, such as that of a long weekend.
    """
    sizes = np.diff(grid)
    rows = [
        row
        for row in np.argsort(-sizes, kind="stable")[:LONGEST_GAPS].tolist()
        if sizes[row] > max(1.5 * length, usual)
    ]
    return [
        Gap(stamp_text(grid[row]), stamp_text(grid[row + 1]), float(sizes[row] / np.timedelta64(1, "D")))
        for row in rows
    ]


def order_violations(frame: pd.DataFrame) -> dict[str, Any]:
    """Count the bars whose open or close lies outside [low, high], by size; of the largest, symbol, stamp, size.

    Returns:
        ``rounding`` and ``larger`` than ``ROUNDING``, and ``worst`` in words, null if there is none.
    """
    low, high = (frame[name].to_numpy(dtype=np.float64) for name in ("low", "high"))
    ends = frame[["open", "close"]].to_numpy(dtype=np.float64)
    beyond = np.maximum(ends.max(axis=1) - high, low - ends.min(axis=1)) / np.abs(high)
    beyond = np.where(np.isfinite(beyond), beyond, 0.0)
    worst = None
    if (beyond > 0.0).any():
        row = int(np.argmax(beyond))
        worst = (
            f"{frame['symbol'].iloc[row]} {stamp_text(frame['timestamp'].iloc[row])}, by {beyond[row]:.2g} of the high"
        )
    rounding, larger = (beyond > 0.0) & (beyond <= ROUNDING), beyond > ROUNDING
    return {"rounding": int(rounding.sum()), "larger": int(larger.sum()), "worst": worst}


def mixed_lengths(frame: pd.DataFrame) -> list[Problem]:
    """Find daily rows among those of minutes, however few, and daily bars whose stamps are of several zones."""
    lengths, zones, stamps = [], [], naive_stamps(frame)
    for symbol, rows in frame.groupby("symbol", sort=True).indices.items():
        own = stamps[rows]
        days, counts = np.unique(own.astype("datetime64[D]"), return_counts=True)
        single, dense = days[counts == 1], days[counts >= _DENSE]
        if len(single) >= _THIN and len(dense):
            lengths.append(
                f"{symbol} has one bar a day on {len(single)} days, such as {single[0]}, up to {int(counts.max())} on "
                f"others, such as {dense[0]}"
            )
        clock, times = np.unique(own - own.astype("datetime64[D]"), return_counts=True)
        often = clock[times > _OFTEN * len(own)] / np.timedelta64(1, "m")
        if (counts == 1).all() and len(own) > _DENSE and len(often) > 1 and _HOUR < np.ptp(often) < _DAY - _HOUR:
            zones.append(f"{symbol} has bars at {' and '.join(f'{one / _HOUR:g}' for one in often[:3])} o'clock in UTC")
    rule = "daily bars must be stamped at one time of day: are their stamps of several zones? Give all one"
    return [
        *listed("bars of a day must not lie among shorter ones: put each length into a file of its own", lengths),
        *listed(rule, zones),
    ]


def known_splits(frame: pd.DataFrame) -> list[str]:
    """Say, of each split that everybody knows and that the bars span, whether their prices fall by it."""
    sentences = []
    for symbol in sorted(set(frame["symbol"].unique()) & set(SPLITS)):
        own = frame[frame["symbol"] == symbol]
        stamps, close = naive_stamps(own), own["close"].to_numpy(dtype=np.float64)
        for day, shares in SPLITS[symbol]:
            row = int(np.searchsorted(stamps, np.datetime64(day)))
            if 0 < row < len(stamps):
                fell = abs(np.log(close[row] / close[row - 1]) + np.log(shares)) < np.log(shares) / 2.0
                kind = "not adjusted for splits" if fell else "adjusted for splits"
                verb = "fell" if fell else "did not fall"
                sentences.append(f"{symbol} {verb} by its {shares:g}:1 split of {day}: {kind}")
    return sentences


def hours(grid: Timestamps) -> dict[str, str]:
    """Return the earliest and the latest time of day of the stamps [n], and their weekdays."""
    minutes = (grid - grid.astype("datetime64[D]")) // np.timedelta64(1, "m")
    first, last = (f"{int(value) // 60:02}:{int(value) % 60:02}" for value in (minutes.min(), minutes.max()))
    return {"first": first, "last": last, "weekdays": _weekdays(grid)}


def _weekdays(grid: Timestamps) -> str:
    days: NDArray[np.int64] = (grid.astype("datetime64[D]").astype(np.int64) + 3) % 7
    counts = np.bincount(days, minlength=7)
    names = np.array(["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"])
    return ", ".join(names[counts > 0])


def volume_share(frame: pd.DataFrame) -> float:
    """Return the share of the bars that have a volume above 0."""
    volume: Floats = frame["volume"].to_numpy(dtype=np.float64)
    return float((volume > 0.0).mean()) if len(volume) else 0.0

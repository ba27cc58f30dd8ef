"""Bars that are missing against the sessions of a calendar, or against what the bars themselves usually hold."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentio_kedro.market.ingestion.sessions import DAILY, Schedule
from sentio_kedro.market.ingestion.timestamps import Timestamps, closing_days

WEEK, SATURDAY, SUNDAY = 7, 5, 6  # Monday is 0
NEARLY_FULL = 0.9  # of a day's bars, which a quarter of the days of a market that never closes has
USUAL = 0.5  # of the weeks, from which on a weekday usually has bars
_DAY = np.timedelta64(1, "D")

Integers = NDArray[np.int64]


class Holes(NamedTuple):
    """Missing bars between the first and the last.

    Attributes:
        expected: Bars that there should be.
        missing: Bars that are not there.
        longest: Missing bars of the longest hole.
        after: End of the last bar before it; null if there is no hole.
        before: End of the first bar after it.
    """

    expected: int
    missing: int
    longest: int = 0
    after: np.datetime64 | None = None
    before: np.datetime64 | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values as ``data_quality`` holds them."""
        longest = None
        if self.after is not None and self.before is not None:
            ends = (f"{pd.Timestamp(stamp).isoformat()}Z" for stamp in (self.after, self.before))
            longest = {"bars": self.longest, **dict(zip(("after", "before"), ends, strict=True))}
        share = self.missing / self.expected if self.expected else 0.0
        return {"expected_bars": self.expected, "missing_share": share, "longest_hole": longest}


def find_holes(
    timestamps: Timestamps, length: np.timedelta64, schedule: Schedule | None = None, *, never_closes: bool = False
) -> Holes:
    """Count missing bars.

    With a calendar each of its sessions should have the bars that sessions of its length usually have. Without one, a
    market that trades on weekends, on days that are nearly full, should have a bar every ``length``; another one should
    have, on each weekday that usually has bars, as many as that weekday usually has: nights, weekends and breaks are
    then no holes, but holidays and half days are. The first and the last day or session have what they have.

    Args:
        timestamps: Bar ends [T] in UTC, increasing.
        length: Length of a bar.
        schedule: Sessions around the bars; null is without calendar.
        never_closes: The days of other symbols are nearly full, so that those of this one should be.
    """
    if len(timestamps) < 2:  # noqa: PLR2004 - no hole is between fewer
        return Holes(len(timestamps), 0)
    steps = np.maximum(np.round(np.diff(timestamps) / length).astype(np.int64) - 1, 0)  # [T - 1] at most missing
    missing = int(steps.sum())
    full = max(1, round(_DAY / length))
    closes = schedule is not None or not trades_daily(timestamps, full, never_closes=never_closes)
    if missing and closes and length <= DAILY * 1.5:
        units, kinds = _weekdays(timestamps) if schedule is None else _sessions(timestamps, length, schedule)
        counts = np.bincount(units, minlength=len(kinds))
        lacking = np.maximum(_usual(counts, kinds, weekly=schedule is None) - counts, 0)
        if length < DAILY:
            lacking[[0, -1]] = 0
        total = np.concatenate([[0], np.cumsum(lacking)])
        steps, missing = np.minimum(steps, total[units[1:] + 1] - total[units[:-1]]), int(lacking.sum())
    worst = int(steps.argmax())
    if not missing or not steps[worst]:
        return Holes(len(timestamps) + missing, missing)
    return Holes(len(timestamps) + missing, missing, int(steps[worst]), timestamps[worst], timestamps[worst + 1])


def trades_daily(timestamps: Timestamps, full: int, *, never_closes: bool = False) -> bool:
    """Return whether bars [T] are of a market that never closes.

    Args:
        timestamps: Bar ends in UTC.
        full: Bars of a whole day.
        never_closes: Its days are known to be nearly full.
    """
    days = closing_days(timestamps)
    weekdays, hours = (days.astype(np.int64) + 3) % WEEK, (timestamps - days) / np.timedelta64(1, "h")
    if full == 1:
        weekends = bool((weekdays == SATURDAY).any() and (weekdays == SUNDAY).any())
        return weekends and np.isin([SATURDAY, SUNDAY], weekdays).mean() >= USUAL
    # markets of currencies and futures are closed then, in every zone
    weekends = bool((((weekdays == SATURDAY) & (hours > 4.0)) | ((weekdays == SUNDAY) & (hours <= 16.0))).any())  # noqa: PLR2004
    counts = np.unique(days, return_counts=True)[1]
    return weekends and (never_closes or bool(np.quantile(counts, 0.75) >= NEARLY_FULL * full))


def _sessions(timestamps: Timestamps, length: np.timedelta64, schedule: Schedule) -> tuple[Integers, Integers]:
    """Return the number of each bar's session [T] from the first, and the kind of each session [n] by its length."""
    if length >= DAILY:
        sessions = np.maximum(np.searchsorted(schedule.closes, timestamps, side="right") - 1, 0)
    else:
        sessions = np.minimum(np.searchsorted(schedule.closes, timestamps, side="left"), len(schedule.closes) - 1)
    bars = ((schedule.closes - schedule.opens) / length).round(3)[sessions[0] : sessions[-1] + 1]
    return sessions - sessions[0], np.unique(bars, return_inverse=True)[1]


def _weekdays(timestamps: Timestamps) -> tuple[Integers, Integers]:
    """Return the number of each bar's UTC day [T] from the first, and the weekday of each day [n]."""
    days = closing_days(timestamps).astype(np.int64)
    return days - days[0], (np.arange(days[0], days[-1] + 1) + 3) % WEEK


def _usual(counts: Integers, kinds: Integers, *, weekly: bool) -> Integers:
    """Return the usual bars of each day or session [n]: the median of its kind where it has bars.

    Args:
        counts: Bars [n] of each.
        kinds: Kind [n] of each.
        weekly: A kind that has bars in less than half of the weeks usually has none; weeks without any bar say nothing.
    """
    near = np.concatenate([np.zeros(WEEK // 2 + 1), counts, np.zeros(WEEK // 2)]).cumsum()
    judged = (near[WEEK:] > near[:-WEEK]) | (not weekly)  # has bars within three days
    usual = np.zeros(len(kinds), dtype=np.int64)
    for kind in np.unique(kinds):
        own = counts[(kinds == kind) & judged]
        having = own[own > 0]
        if having.size and (not weekly or having.size >= USUAL * own.size):
            usual[kinds == kind] = np.sort(having)[len(having) // 2]
    return usual

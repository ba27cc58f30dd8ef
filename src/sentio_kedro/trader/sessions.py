"""When a market is open: ages count in open time, so that a week-end makes no bar old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BEFORE, AFTER = timedelta(days=400), timedelta(days=300)  # sessions around the start of the process


class Sessions(Protocol):
    """Open times of a market."""

    def is_open(self, when: float) -> bool:
        """Whether the market is open at a time, seconds since 1970."""
        ...

    def open_seconds(self, start: float, stop: float) -> float:
        """Return the seconds between two times in which it is open."""
        ...

    def bar_seconds(self, seconds: float) -> float:
        """Return how long the market is open within a bar of a length; a daily bar is one session."""
        ...


class AlwaysOpen:
    """A market that never closes."""

    def is_open(self, when: float) -> bool:
        """Return true."""
        return True

    def open_seconds(self, start: float, stop: float) -> float:
        """Return the seconds between two times, 0 if the second is the earlier."""
        return max(0.0, stop - start)

    def bar_seconds(self, seconds: float) -> float:
        """Return the length as it is."""
        return seconds


class ExchangeSessions:
    """Sessions given by their opens and closes."""

    def __init__(self, opens: NDArray[np.float64], closes: NDArray[np.float64]) -> None:
        """Take opens and closes [N], seconds since 1970, in order of time."""
        self._opens, self._closes = opens, closes
        self._before = np.concatenate([[0.0], np.cumsum(closes - opens)])  # open time before each open

    def is_open(self, when: float) -> bool:
        """Whether a time lies in a session."""
        number = int(np.searchsorted(self._opens, when, side="right")) - 1
        return number >= 0 and when < float(self._closes[number])

    def open_seconds(self, start: float, stop: float) -> float:
        """Return the open seconds between two times, 0 if the second is the earlier."""
        return max(0.0, self._until(stop) - self._until(start))

    def bar_seconds(self, seconds: float) -> float:
        """Return the shorter of the length and the median session."""
        return min(seconds, float(np.median(self._closes - self._opens)))

    def _until(self, when: float) -> float:
        number = int(np.searchsorted(self._opens, when, side="right")) - 1
        if number < 0:
            return 0.0
        return float(self._before[number] + min(when, self._closes[number]) - self._opens[number])


def sessions_of(calendar: str | None, now: float) -> Sessions:
    """Return the sessions of a calendar around a time.

    Args:
        calendar: A name of ``exchange_calendars``; null or ``24/7`` never closes.
        now: Seconds since 1970.
    """
    if calendar in (None, "24/7"):
        return AlwaysOpen()
    import exchange_calendars  # noqa: PLC0415 - slow to import, and a market that never closes needs none

    day = datetime.fromtimestamp(now, UTC).date()
    found = exchange_calendars.get_calendar(calendar, start=str(day - BEFORE), end=str(day + AFTER))
    seconds = (
        times.dt.tz_convert(None).to_numpy("datetime64[ns]").astype(np.float64) / 1e9
        for times in (found.opens, found.closes)
    )
    return ExchangeSessions(*seconds)

"""Trading sessions: the session of each bar, and the minutes from its end to the session's open and close."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentio_kedro.market.ingestion.timestamps import (
    Floats,
    Timestamps,
    bars_per_session,
    closing_days,
    days_since_previous,
    most_common_gap,
    wall_clock,
)

Integers = NDArray[np.int64]
DAY = np.timedelta64(1, "D")
DAILY = np.timedelta64(20, "h")  # bars at least this far apart are daily
MARGIN = np.timedelta64(15, "D")  # longer than any exchange closes, so that a session ends before the first bar
_MINUTE = 60_000_000_000  # nanoseconds


class SymbolClock(NamedTuple):
    """Sessions of the symbols of one calendar in a panel of several.

    Attributes:
        calendar: Name of the calendar.
        assets: Columns of its symbols [n].
        rows: Rows of the grid where any of them has a bar [m].
        clock: Clock of these rows.
        behind: Sessions of the calendar that closed after the last of them, up to the end of the grid.
    """

    calendar: str
    assets: Integers
    rows: Integers
    clock: Clock
    behind: int

    def taken(self, rows: Integers, take: Callable[[Clock, Integers], Clock]) -> SymbolClock:
        """Return the clock of a grid that is made of ``rows`` [k] of this one; ``take`` picks rows of the own clock."""
        found = np.isin(rows, self.rows)
        own = np.searchsorted(self.rows, rows[found])
        return self._replace(rows=np.flatnonzero(found), clock=take(self.clock, own), behind=0)


class Clock(NamedTuple):
    """Position of each bar in its session.

    Attributes:
        elapsed: Days since the previous bar [T], 0 for the first.
        session: Number of the session [T], one more for each session of the calendar.
        minutes_since_open: Minutes from the session's open to the bar's end [T]; infinite without a calendar.
        minutes_to_close: Minutes from the bar's end to the session's close [T]; infinite without a calendar.
        bars_per_session: Bars of a session.
        own: Sessions of all symbols, by calendar, if some have another one than the account; else empty.
    """

    elapsed: Floats
    session: Integers
    minutes_since_open: Floats
    minutes_to_close: Floats
    bars_per_session: float
    own: tuple[SymbolClock, ...] = ()

    def rows(self, index: slice | Integers) -> Clock:
        """Return the clock of the rows ``index`` as they are."""
        return Clock(
            elapsed=self.elapsed[index],
            session=self.session[index],
            minutes_since_open=self.minutes_since_open[index],
            minutes_to_close=self.minutes_to_close[index],
            bars_per_session=self.bars_per_session,
            own=tuple(part.taken(np.arange(len(self.session))[index], Clock.rows) for part in self.own),
        )

    def along(self, rows: Integers) -> Clock:
        """Return the clock of a path that is made of ``rows`` [n] in any order.

        A new session begins where the row's session differs from the one before, or the row does not follow it; session
        numbers increase along the path from 0.
        """
        path = self.rows(rows)
        begins = np.zeros(len(rows), dtype=np.int64)
        begins[1:] = (np.diff(path.session) != 0) | (np.diff(rows) != 1)
        own = tuple(part.taken(rows, Clock.along) for part in self.own)
        return path._replace(session=np.cumsum(begins), own=own)


class Schedule(NamedTuple):
    """The sessions of an exchange around some timestamps.

    Attributes:
        calendar: Its name.
        opens: When each session opens, UTC.
        closes: When it closes.
    """

    calendar: str
    opens: Timestamps
    closes: Timestamps


def market_clock(timestamps: Timestamps, calendar: str | None, schedule: Schedule | None = None) -> Clock:
    """Place bars in the sessions of an exchange.

    A bar that ends less than its own length after a close belongs to the session that closed. Bars at least 20 hours
    apart are daily: such a bar belongs to the last session that ended by its timestamp if that is a UTC midnight, which
    stands for a date, or outside every session. ``minutes_to_close`` is 0 for all of these. Other bars outside of every
    session (``outside_sessions``) belong to the nearer one, 0 minutes from its open or its close.

    Args:
        timestamps: Bar ends [T] in UTC, increasing.
        calendar: A name of the package exchange_calendars, such as ``XNYS``; null is a market that never closes, whose
            sessions are UTC days (a bar that ends at midnight belongs to the day that it closes).
        schedule: The calendar's sessions, if already loaded; null loads them.

    Returns:
        The clock of the bars.

    Raises:
        ValueError: If there is no such calendar, or it does not cover the timestamps.
    """
    elapsed, count = days_since_previous(timestamps), bars_per_session(timestamps)
    if calendar is None:
        days = closing_days(timestamps).astype(np.int64)
        endless = np.full(len(timestamps), np.inf)
        return Clock(elapsed, days - days[0], endless, endless, count)
    schedule = session_schedule(timestamps, calendar) if schedule is None else schedule
    opens, closes = schedule.opens, schedule.closes
    session, _ = _sessions(timestamps, schedule)
    ends = np.clip(timestamps, opens[session], closes[session])
    since_open, to_close = _minutes(opens[session], ends), _minutes(ends, closes[session])
    return Clock(elapsed, session - session[0], since_open, to_close, count)


class BarTimes(NamedTuple):
    """When bars end, as feature columns read it.

    Attributes:
        timestamps: Bar ends [T], UTC.
        session: Number of the session [T], which never decreases.
        minute: Minutes from the session's open to the bar's end [T]; from midnight UTC without a calendar.
        share: Share of the session that has passed at the bar's end [T], in (0, 1].
        local: Bar ends [T] by the clock on the exchange's wall, or the session's close if that is earlier; UTC without
            a calendar.
    """

    timestamps: Timestamps
    session: Integers
    minute: Floats
    share: Floats
    local: Timestamps

    def rows(self, index: slice | Integers) -> BarTimes:
        """Return the times of the rows ``index``."""
        return BarTimes._make(values[index] for values in self)

    def at(self, row: int) -> BarTimes:
        """Return the times of one row [1]."""
        return self.rows(np.array([row]))

    def along(self, rows: Integers) -> BarTimes:
        """Return the times of a path that is made of ``rows`` [n] in any order; see ``Clock.along``."""
        path = self.rows(rows)
        begins = np.zeros(len(rows), dtype=np.int64)
        begins[1:] = (np.diff(path.session) != 0) | (np.diff(rows) != 1)
        return path._replace(session=np.cumsum(begins))


def bar_times(timestamps: Timestamps, calendar: str | None = None, schedule: Schedule | None = None) -> BarTimes:
    """Place bars in the sessions of an exchange and on its clock; see ``market_clock``.

    Raises:
        ValueError: If there is no such calendar, or it does not cover the timestamps.
    """
    if calendar is None:
        days = closing_days(timestamps)
        minute = _minutes(days.astype("datetime64[ns]"), timestamps)
        return BarTimes(timestamps, days.astype(np.int64), minute, minute / (DAY / np.timedelta64(1, "m")), timestamps)
    schedule = session_schedule(timestamps, calendar) if schedule is None else schedule
    session, _ = _sessions(timestamps, schedule)
    opens, closes = schedule.opens[session], schedule.closes[session]
    ends = np.clip(timestamps, opens, closes)
    minute = _minutes(opens, ends)
    local = wall_clock(ends, exchange_zone(calendar))
    return BarTimes(timestamps, session, minute, minute / _minutes(opens, closes), local)


@cache
def exchange_zone(calendar: str) -> str:
    """Return the zone of an exchange's clocks, by the name of its calendar."""
    import exchange_calendars  # noqa: PLC0415 - slow to import, and a market that never closes needs none

    return str(exchange_calendars.get_calendar(calendar, start="2024-01-02", end="2024-01-31").tz)


def _minutes(start: Timestamps, stop: Timestamps) -> Floats:
    return np.asarray((stop - start).astype(np.int64) / _MINUTE)


def expected_timestamps(timestamps: Timestamps, count: int, schedule: Schedule | None = None) -> Timestamps:
    """Return the timestamps of the next ``count`` bars, if none of them is missing.

    Their distance is the most common one of ``timestamps``. On an exchange a session's first bar ends one bar after the
    open, and daily bars end as long after the close as the newest one, or at UTC midnight if that one does.

    Args:
        timestamps: Bar ends [T] in UTC, increasing, at least two.
        count: Bars wanted.
        schedule: Sessions of the exchange that last beyond them; null is a market that never closes.

    Raises:
        ValueError: If the schedule has no session after one that is needed.
    """
    length, ends, newest = most_common_gap(timestamps), [], timestamps[-1]
    for _ in range(count):
        newest = newest + length if schedule is None else _next_timestamp(newest, length, schedule)
        ends.append(newest)
    return np.array(ends, dtype="datetime64[ns]")


def _next_timestamp(timestamp: np.datetime64, length: np.timedelta64, schedule: Schedule) -> np.datetime64:
    session = int(_sessions(np.array([timestamp]), schedule, length)[0][0])
    close = schedule.closes[session]
    if session + 1 == len(schedule.closes) and (length >= DAILY or timestamp >= close):
        raise ValueError(
            f"`trading.calendar` {schedule.calendar} is defined up to {np.datetime_as_string(close, unit='D')} only, "
            "before the next session opens; upgrade the package exchange_calendars."
        )
    if length >= DAILY:
        following = schedule.closes[session + 1]
        if timestamp == timestamp.astype("datetime64[D]"):  # a date, which daylight saving does not move
            close, following = close.astype("datetime64[D]"), following.astype("datetime64[D]")
        return np.datetime64(timestamp + (following - close))
    return np.datetime64(timestamp + length if timestamp < close else schedule.opens[session + 1] + length)


def session_schedule(timestamps: Timestamps, calendar: str, ahead: np.timedelta64 | None = None) -> Schedule:
    """Load the sessions around timestamps; all sessions of a calendar are slow to compute.

    Args:
        timestamps: Bar ends [T] in UTC, increasing.
        calendar: A name of the package exchange_calendars.
        ahead: Time to cover beyond the last timestamp; less where the calendar ends earlier (the holidays of ``XSHG``
            are published a year at a time). Null covers one day.

    Raises:
        ValueError: If there is no such calendar, or it does not cover the timestamps.
    """
    import exchange_calendars  # noqa: PLC0415 - slow to import, and a market that never closes needs none
    from exchange_calendars.errors import CalendarError, InvalidCalendarName  # noqa: PLC0415

    first, last = (str(day) for day in (timestamps[[0, -1]] + np.array([-MARGIN, DAY])).astype("datetime64[D]"))
    try:
        sessions = exchange_calendars.get_calendar(calendar, start=first, end=last)
        if ahead is not None:
            wanted, bound = timestamps[-1] + ahead, sessions.bound_max()
            last = str((wanted if bound is None else min(wanted, bound.to_datetime64())).astype("datetime64[D]"))
            sessions = exchange_calendars.get_calendar(calendar, start=first, end=last)
    except InvalidCalendarName:
        names = exchange_calendars.get_calendar_names()
        close = difflib.get_close_matches(calendar.upper(), names, n=3, cutoff=0.5) or ["XNYS", "XLON", "CMES"]
        raise ValueError(
            f"`trading.calendar` must be a name of the package exchange_calendars, was {calendar!r}; names like it: "
            f"{', '.join(close)}; null is a market that never closes."
        ) from None
    except (CalendarError, ValueError) as error:
        raise ValueError(
            f"`trading.calendar` {calendar} does not cover the bars from {first} to {last} ({error}); cut the bars, "
            "name another calendar, or set null."
        ) from error
    opens = np.asarray(sessions.opens_nanos, dtype=np.int64).astype("datetime64[ns]")
    closes = np.asarray(sessions.closes_nanos, dtype=np.int64).astype("datetime64[ns]")
    return Schedule(calendar, opens, closes)


def outside_sessions(timestamps: Timestamps, calendar: str, schedule: Schedule | None = None) -> NDArray[np.bool_]:
    """Return which bars [T] end outside of every session of a calendar; see ``market_clock``.

    Args:
        timestamps: Bar ends [T] in UTC, increasing.
        calendar: A name of the package exchange_calendars.
        schedule: The calendar's sessions, if already loaded; null loads them.

    Raises:
        ValueError: If there is no such calendar, or it does not cover the timestamps.
    """
    return _sessions(timestamps, session_schedule(timestamps, calendar) if schedule is None else schedule)[1]


def require_sessions(timestamps: Timestamps, calendar: str | None, schedule: Schedule | None = None) -> None:
    """Refuse bars that end outside of every session.

    Args:
        timestamps: Bar ends [T] in UTC, increasing.
        calendar: A name of the package exchange_calendars; null is a market that never closes.
        schedule: The calendar's sessions, if already loaded; null loads them.

    Raises:
        ValueError: With the first of them, or if there is no such calendar or it does not cover the timestamps.
    """
    lost = np.flatnonzero(calendar is not None and outside_sessions(timestamps, calendar, schedule))
    if lost.size:
        examples = ", ".join(f"{np.datetime_as_string(timestamps[row], unit='s')}Z" for row in lost[:3])
        raise ValueError(
            f"{lost.size} of {len(timestamps)} bars end outside the sessions of `trading.calendar` {calendar}: "
            f"{examples}; set `ingestion.outside_session` to `drop` (or to `keep`, if you trade extended hours), check "
            "`ingestion.bar_label` and `ingestion.timezone`, or name another calendar."
        )


def _sessions(
    timestamps: Timestamps, schedule: Schedule, length: np.timedelta64 | None = None
) -> tuple[Integers, NDArray[np.bool_]]:
    """Return the row of the schedule of each timestamp, and which lie outside of all sessions, both [T].

    A null ``length`` of a bar is read from the timestamps.
    """
    opens, closes = schedule.opens, schedule.closes
    if length is None:
        length = most_common_gap(timestamps) if len(timestamps) > 1 else np.timedelta64(0, "ns")
    daily = bool(length >= DAILY)
    last = len(closes) - 1
    current = np.searchsorted(closes, timestamps, side="left")  # [T] first session that ends at the timestamp or later
    coming = np.minimum(current, last)
    inside = (current <= last) & (opens[coming] < timestamps)
    if daily:
        inside &= timestamps.astype("datetime64[D]") != timestamps
    ended = np.searchsorted(closes, timestamps, side="right") - 1  # [T] last session that has ended, -1 if none
    before = np.maximum(ended, 0)
    straddling = timestamps < closes[before] + length
    lost = np.asarray(~inside & ((ended < 0) | (not daily and ~straddling)))
    nearer = (current <= last) & ((ended < 0) | (opens[coming] - timestamps < timestamps - closes[before]))
    return np.where(inside | (lost & nearer), coming, before), lost

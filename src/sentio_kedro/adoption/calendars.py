"""Which exchange's sessions bars fit: candidates ranked by the bars that lie inside, and by those that are lacking."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentio_kedro.market.ingestion.sessions import DAILY, Schedule, session_schedule
from sentio_kedro.market.ingestion.timestamps import Timestamps

ENDLESS = "24/7"
"""Name of the market that never closes, which is ``trading.calendar: null``."""

_SAMPLED = 20_000  # newest bar ends that candidates are compared on; more tell no more
_SLOW = ("XKRX",)  # to load, a second or two
_DAY = np.timedelta64(1, "D")
_MINUTE = np.timedelta64(1, "m")
_NANOSECOND = np.timedelta64(1, "ns")


class Exchange(NamedTuple):
    """A calendar of the package exchange_calendars, its figures counted over 2015 to 2024.

    Attributes:
        market: What it is, for people.
        zone: Zone of the exchange.
        minutes: Median length of a session.
        sessions: Sessions of a year.
    """

    market: str
    zone: str
    minutes: int
    sessions: float


EXCHANGES: Mapping[str, Exchange] = {
    "XNYS": Exchange("New York, and Nasdaq, which keeps the same sessions", "America/New_York", 390, 252),
    "XTSE": Exchange("Toronto", "America/Toronto", 390, 251),
    "XLON": Exchange("London", "Europe/London", 510, 253),
    "XETR": Exchange("Frankfurt, Xetra", "Europe/Berlin", 510, 254),
    "XPAR": Exchange("Paris", "Europe/Paris", 510, 256),
    "XTKS": Exchange("Tokyo", "Asia/Tokyo", 360, 244),
    "XKRX": Exchange("Seoul", "Asia/Seoul", 390, 246),
    "XBOM": Exchange("Mumbai, and NSE, which keeps the same sessions", "Asia/Kolkata", 375, 246),
    "XHKG": Exchange("Hong Kong", "Asia/Hong_Kong", 390, 246),
    "XSHG": Exchange("Shanghai, and Shenzhen", "Asia/Shanghai", 330, 243),
    "XASX": Exchange("Sydney", "Australia/Sydney", 360, 253),
    "CMES": Exchange("CME futures, 23 hours a day", "America/Chicago", 1440, 258),
    "24/5": Exchange("Monday to Friday in UTC, all hours", "UTC", 1440, 261),
    ENDLESS: Exchange("never closes, such as crypto", "UTC", 1440, 365),
}


@dataclass(frozen=True)
class Fit:
    """How bars fit a calendar.

    Attributes:
        calendar: Its name, or ``24/7``.
        zone: Zone in which stamps without one were read.
        bars: Bar ends that were compared.
        inside: Those inside its sessions.
        lacking: Bars that its sessions would have between the first and the last one, and are not there.
        outside: The first end that lies outside; null if none does.
    """

    calendar: str
    zone: str
    bars: int
    inside: int
    lacking: int
    outside: np.datetime64 | None

    @property
    def score(self) -> float:
        """Share of the bars, there or lacking, that are there and inside."""
        return self.inside / max(1, self.bars + self.lacking)

    @property
    def text(self) -> str:
        """The fit in a sentence."""
        first = "" if self.outside is None else f", outside e.g. {np.datetime_as_string(self.outside, unit='m')}Z"
        read = "" if self.zone == "UTC" else f", read in {self.zone},"
        return (
            f"{self.inside:,} of {self.bars:,} bars{read} lie inside its sessions{first}; "
            f"{self.lacking:,} bars of its sessions are not there"
        )


def rank_calendars(
    stamps: Timestamps, length: np.timedelta64, starts: bool, zone: str | None, home: str | None
) -> list[Fit]:
    """Rank the calendars by how bars fit them, and where stamps name no zone, each with the zone that fits it best.

    Args:
        stamps: Distinct stamps [n] in order, UTC, or naive where ``zone`` is null.
        length: Length of a bar.
        starts: Whether stamps are the starts of bars.
        zone: Zone of the stamps; null tries those of the exchanges.
        home: Calendar that the names of symbols suggest; the slow ones are compared only if they are it.

    Returns:
        The fits, best first.
    """
    if not len(stamps):
        return []
    daily, stamps = bool(length >= DAILY), stamps[-_SAMPLED:]
    zones = (
        [zone]
        if zone is not None
        else ["UTC"]
        if daily
        else ["UTC", *sorted({one.zone for one in EXCHANGES.values()} - {"UTC"})]
    )
    around = stamps[[0, -1]] + np.array([-_DAY, _DAY])
    fits: dict[str, Fit] = {}
    for name, schedule in _schedules(around, home):
        for tried in dict.fromkeys([EXCHANGES[name].zone, *zones]) if zone is None and not daily else zones:
            ends = zoned(stamps, tried) if zone is None else stamps
            fit = _fit(name, tried, ends + length if starts and not daily else ends, length, schedule)
            if name not in fits or fit.score > fits[name].score:
                fits[name] = fit
    return sorted(fits.values(), key=lambda fit: -fit.score)


def zoned(stamps: Timestamps, zone: str) -> Timestamps:
    """Return naive stamps [n] of ``zone`` in UTC; those that daylight saving skips or doubles are left out."""
    local = pd.DatetimeIndex(stamps).tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    known: Timestamps = local.dropna().tz_convert("UTC").tz_localize(None).to_numpy(dtype="datetime64[ns]")
    return known


def session_label(stamps: Timestamps, calendar: str) -> str | None:
    """Tell whether stamps [n] are starts or ends: whether more of them are opens or closes of sessions.

    Returns:
        ``start`` or ``end``; null where the stamps do not tell.
    """
    if calendar == ENDLESS:
        return None
    try:
        schedule = session_schedule(stamps[[0, -1]], calendar)
    except ValueError:
        return None
    at_open = int(np.isin(schedule.opens, stamps).sum())
    at_close = int(np.isin(schedule.closes, stamps).sum())
    return None if at_open == at_close else "start" if at_open > at_close else "end"


def _schedules(around: Timestamps, home: str | None) -> Iterator[tuple[str, Schedule]]:
    """Yield the calendars that cover the time ``around`` [2], slow ones only if they are ``home``."""
    days = np.arange(around[0].astype("datetime64[D]"), around[1].astype("datetime64[D]") + _DAY)
    for name in EXCHANGES:
        if name in _SLOW and name != home:
            continue
        if name == ENDLESS:
            opens = days.astype("datetime64[ns]")
            yield name, Schedule(name, opens, np.asarray(opens + _DAY, dtype="datetime64[ns]"))
            continue
        try:
            yield name, session_schedule(around, name)
        except ValueError:  # it begins later, or is published up to an earlier year
            continue


def _fit(name: str, zone: str, ends: Timestamps, length: np.timedelta64, schedule: Schedule) -> Fit:
    opens, closes = schedule.opens, schedule.closes
    if length >= DAILY:
        return _daily_fit(name, zone, ends, length, (closes - _NANOSECOND).astype("datetime64[D]"))
    within = _within(ends, length, schedule)
    first, last = ends[0] - length, ends[-1]
    open_time = np.minimum(closes, last) - np.maximum(opens, first)
    expected = int(np.ceil(np.maximum(open_time, np.timedelta64(0, "ns")) / length).sum())
    inside = int(within.sum())
    return Fit(name, zone, len(ends), inside, max(0, expected - inside), _first(ends, within))


def inside_sessions(ends: Timestamps, length: np.timedelta64, calendar: str) -> NDArray[np.bool_]:
    """Return which bar ends [n] lie in the sessions of a calendar; daily ones and those of no calendar all do.

    Raises:
        ValueError: If there is no such calendar, or it does not cover the ends.
    """
    if calendar == ENDLESS or length >= DAILY:
        return np.ones(len(ends), dtype=bool)
    return _within(ends, length, session_schedule(ends, calendar))


def _within(ends: Timestamps, length: np.timedelta64, schedule: Schedule) -> NDArray[np.bool_]:
    opens, closes = schedule.opens, schedule.closes
    place = np.minimum(np.searchsorted(closes, ends, side="left"), len(closes) - 1)
    before = np.maximum(place - 1, 0)
    within = (opens[place] < ends) & (ends <= closes[place])
    straddling = (closes[before] < ends) & (ends < closes[before] + length)
    return np.asarray(within | straddling)


def _daily_fit(name: str, zone: str, stamps: Timestamps, length: np.timedelta64, days: Timestamps) -> Fit:
    """Compare dates with the dates of sessions; bars of a week or a month lie in every calendar."""
    dates = stamps.astype("datetime64[D]")
    if length >= 2 * DAILY:
        return Fit(name, zone, len(dates), len(dates), 0, None)
    within = np.isin(dates, days)
    expected = int(((days >= dates[0]) & (days <= dates[-1])).sum())
    inside = int(within.sum())
    return Fit(name, zone, len(dates), inside, max(0, expected - inside), _first(stamps, within))


def _first(ends: Timestamps, within: NDArray[np.bool_]) -> np.datetime64 | None:
    return None if within.all() else np.datetime64(ends[int(np.argmin(within))])

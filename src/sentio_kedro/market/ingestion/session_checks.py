"""Checks of aligned bars against sessions, the year and the clock on the wall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sentio_kedro.config import IngestionParameters, TradingParameters
from sentio_kedro.config.trading import calendar_of, is_mixed
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import whole_rows
from sentio_kedro.market.ingestion.problems import Problem
from sentio_kedro.market.ingestion.sessions import (
    DAILY,
    DAY,
    Schedule,
    exchange_zone,
    outside_sessions,
    require_sessions,
    session_schedule,
)
from sentio_kedro.market.ingestion.timestamps import Timestamps, closing_days, most_common_gap, wall_clock

DAYS_PER_YEAR = 365.25
TOLERANCE = 0.1  # of sessions a year, beyond which a difference is told
FACTOR = 2.0  # between sessions a year, from which on they are refused
MIN_SESSIONS, MIN_SPAN = 30, 180  # sessions, and days, of which fewer do not tell how many sessions a year has
MOST = 0.9  # of the bars
LONGEST_PAUSE = 3.0  # usual distances of two sessions, and four days more, from which on a pause is a hole
FEW_SHARED = 0.2  # share of the timestamps of two symbols or more


def placed_in_sessions(bars: AlignedBars, parameters: IngestionParameters, trading: TradingParameters) -> AlignedBars:
    """Return the bars that end in sessions of their exchange, as ``ingestion.outside_session`` says.

    Args:
        bars: Aligned bars.
        parameters: What to do with bars outside of all sessions.
        trading: Calendars of the account and of symbols; to a market that never closes nothing is outside.

    Returns:
        The same object if no bar is dropped. Splits and dividends of dropped bars move to the asset's next bar.

    Raises:
        ValueError: If there is no such calendar, bars lie outside its sessions and are to be refused, none is left, or
            dates that name a session are read as its end.
    """
    loaded: dict[str, Schedule] = {}

    def schedule_of(calendar: str) -> Schedule:
        if calendar not in loaded:
            loaded[calendar] = session_schedule(bars.timestamps, calendar)
        return loaded[calendar]

    outside = outside_bars(bars, trading, schedule_of, refused=parameters.outside_session == "refuse")
    if parameters.bar_label == "end":
        for calendar, schedule in loaded.items():
            of_calendar = [calendar_of(trading, symbol) == calendar for symbol in bars.symbols]
            rows = bars.present[:, of_calendar].any(axis=1)
            _refuse_dates(bars.timestamps[rows], schedule.closes, calendar)
    if parameters.outside_session != "drop" or not outside.any():
        return bars
    left = bars.without(outside)
    inside = np.asarray(left.present.any(axis=1))
    if not inside.any():
        raise ValueError(
            f"`ingestion.outside_session: drop` leaves no bar: all {len(inside)} end outside the sessions of "
            f"{', '.join(f'`{calendar}`' for calendar in loaded)}; check `ingestion.timezone` and "
            "`ingestion.bar_label`, or name another calendar."
        )
    kept = left if inside.all() else _kept_rows(left, inside)
    return whole_rows(kept) if parameters.missing == "drop_bar" else kept


def _kept_rows(bars: AlignedBars, inside: NDArray[np.bool_]) -> AlignedBars:
    """Return the rows ``inside`` [T]; what is settled at another one is settled at the next of them."""
    kept, leavers = bars.rows(inside), bars.leavers
    if leavers is None or kept.leavers is None:
        return kept
    row, asset = np.nonzero(leavers.settled)
    after = np.searchsorted(np.flatnonzero(inside), row)
    found = after < len(kept.timestamps)
    settled, returns = np.zeros(kept.close.shape, dtype=bool), np.full(kept.close.shape, np.nan)
    settled[after[found], asset[found]] = True
    returns[after[found], asset[found]] = leavers.delisting_return[row, asset][found]
    return replace(kept, leavers=replace(kept.leavers, settled=settled, delisting_return=returns))


def outside_bars(
    bars: AlignedBars, trading: TradingParameters, schedule_of: Callable[[str], Schedule], *, refused: bool
) -> NDArray[np.bool_]:
    """Return which bars [T, A] end outside of all sessions of their symbol's calendar.

    Args:
        bars: Aligned bars T x A.
        trading: Calendars of the account and of symbols.
        schedule_of: Returns the sessions of a calendar around the bars.
        refused: Whether there must be none.

    Raises:
        ValueError: If there are some and they are ``refused``, or a calendar is not known or does not cover them.
    """
    present, outside = bars.present, np.zeros(bars.close.shape, dtype=bool)
    if bars.leavers is not None:
        present = present | bars.leavers.bars.present
    calendars = [calendar_of(trading, symbol) for symbol in bars.symbols]
    for calendar in sorted({name for name in calendars if name is not None}):
        assets = np.flatnonzero([name == calendar for name in calendars])
        rows = np.flatnonzero(present[:, assets].any(axis=1))
        if rows.size:
            try:
                schedule = schedule_of(calendar)
                if refused:
                    require_sessions(bars.timestamps[rows], calendar, schedule)
            except ValueError as error:
                raise ValueError(_of_symbols(str(error), [bars.symbols[asset] for asset in assets], trading)) from None
            lost = rows[outside_sessions(bars.timestamps[rows], calendar, schedule)]
            outside[np.ix_(lost, assets)] = present[np.ix_(lost, assets)]
    return outside


def _of_symbols(text: str, symbols: list[str], trading: TradingParameters) -> str:
    """Name the calendar of symbols, if it is their own, in a text about that of the account."""
    own = [symbol for symbol in symbols if symbol in trading.symbols and trading.symbols[symbol].calendar]
    if not own:
        return text
    more = f" (and of {len(own) - 1} more)" if len(own) > 1 else ""
    return text.replace("`trading.calendar`", f"`trading.symbols.{own[0]}.calendar`{more}")


def _refuse_dates(timestamps: Timestamps, closes: Timestamps, calendar: str) -> None:
    """Refuse daily dates that each name a session, read as its end: the bar would be known a day before its close."""
    if len(timestamps) < MIN_SESSIONS or most_common_gap(timestamps) < DAILY:
        return
    local = wall_clock(timestamps, exchange_zone(calendar))
    midnights = [stamps for stamps in (timestamps, local) if (stamps == stamps.astype("datetime64[D]")).mean() > MOST]
    if not midnights:
        return
    days, sessions = midnights[0].astype("datetime64[D]"), closes.astype("datetime64[D]")
    if np.isin(days, sessions).mean() > MOST >= np.isin(days - DAY, sessions).mean():
        raise ValueError(
            f"`ingestion.bar_label` must be `start` for dates that name their session of `trading.calendar` "
            f"{calendar}, such as {days[0]}, was `end`: the bar of a day would be stamped before the day begins; set "
            "`start`, or give the time of the close."
        )


def sessions_per_year(timestamps: Timestamps, calendar: str | None) -> float | None:
    """Return the sessions that a year has; null if the bars are too few to tell.

    Args:
        timestamps: Bar ends [T] in UTC, increasing.
        calendar: Whose sessions are counted; null counts the UTC days that have bars, holes left out. A bar of a week
            or a month is one session.
    """
    if calendar is not None and len(timestamps) > 1 and most_common_gap(timestamps) < 2 * DAY:
        year = timestamps[-1] - np.array([round(DAYS_PER_YEAR) * DAY, 0 * DAY])
        closes = session_schedule(year, calendar).closes
        return float(((closes > year[0]) & (closes <= year[1])).sum())
    days = np.unique(closing_days(timestamps))
    gaps = np.diff(days) / DAY
    if len(gaps) < MIN_SESSIONS or gaps.sum() < MIN_SPAN:
        return None
    gaps = gaps[gaps <= LONGEST_PAUSE * np.median(gaps) + 4.0]
    return float(DAYS_PER_YEAR * len(gaps) / gaps.sum())


def year_problem(timestamps: Timestamps, stated: float, calendar: str | None) -> str | None:
    """Return a sentence if ``ingestion.sessions_per_year`` is not what the bars or the calendar have; else None.

    Args:
        timestamps: Bar ends [T] in UTC, increasing.
        stated: The parameter.
        calendar: ``trading.calendar``.

    Raises:
        ValueError: With that sentence, if a calendar says so or the figures differ by ``FACTOR``.
    """
    measured = sessions_per_year(timestamps, calendar)
    if measured is None or abs(stated / measured - 1.0) <= TOLERANCE:
        return None
    source = "the bars have" if calendar is None else f"`trading.calendar` {calendar} has"
    text = (
        f"`ingestion.sessions_per_year` is {stated:g}, but {source} {measured:.1f} sessions a year: Sharpe ratios "
        f"would be {np.sqrt(stated / measured):.2f} times what they are; set it to {measured:.0f}."
    )
    if calendar is not None or not 1.0 / FACTOR < stated / measured < FACTOR:
        raise ValueError(text)
    return text


def shared_problem(bars: AlignedBars) -> str | None:
    """Return a sentence if symbols share few timestamps, with the hours of each; None if they meet.

    Only timestamps from the second symbol's first bar to the last but one's last bar count.

    Raises:
        ValueError: With that sentence, if no timestamp has two symbols.
    """
    present = bars.present
    if len(bars.symbols) == 1:
        return None
    alive = np.maximum.accumulate(present, axis=0) & np.maximum.accumulate(present[::-1], axis=0)[::-1]
    common = alive.sum(axis=1) > 1
    if not common.any():
        return None
    share = float((present[common].sum(axis=1) > 1).mean())
    if share >= FEW_SHARED:
        return None
    hours = "; ".join(f"{name} {_hours(bars.timestamps[present[:, place]])}" for place, name in enumerate(bars.symbols))
    text = (
        f"Only {share:.1%} of the timestamps have bars of two symbols or more, so that ranks, market returns and "
        f"portfolios see one symbol at a time. Their bars end at (UTC): {hours}. Give all symbols the same timestamps "
        "(of daily bars their dates, with `ingestion.bar_label: start`), or an environment each."
    )
    if share == 0.0:
        raise ValueError(text)
    return text


def _hours(timestamps: Timestamps) -> str:
    minutes = np.unique((timestamps - timestamps.astype("datetime64[D]")) // np.timedelta64(1, "m")).astype(int)
    texts = [f"{minute // 60:02d}:{minute % 60:02d}" for minute in minutes.tolist()]
    return ", ".join(texts) if len(texts) <= 3 else f"{texts[0]} to {texts[-1]}"  # noqa: PLR2004 - shown


def future_problem(timestamps: Timestamps, now: np.datetime64) -> str | None:
    """Return a sentence if the newest bars have not ended ``now`` (UTC); None if all have."""
    late = int((timestamps > now).sum())
    if not late:
        return None
    return (
        f"{late} bar(s) have not ended: the newest ends at {np.datetime_as_string(timestamps[-1], unit='s')}Z, now it "
        f"is {np.datetime_as_string(now, unit='s')}Z; leave out bars that are still being made, or check "
        "`ingestion.timezone` and `ingestion.bar_label`."
    )


def session_findings(bars: AlignedBars, parameters: IngestionParameters, trading: TradingParameters) -> list[Problem]:
    """Return what is odd about the year and the hours of bars.

    Args:
        bars: Aligned bars, placed in sessions.
        parameters: How they were read.
        trading: Calendars; with several, the bars of a year are counted and sessions a year not used.

    Raises:
        ValueError: With every sentence about what makes figures wrong.
    """
    told: list[str | None] = []
    refused: list[str] = []
    checks: list[Callable[[], str | None]] = [lambda: shared_problem(bars)]
    if not is_mixed(trading):
        checks.insert(0, lambda: year_problem(bars.timestamps, parameters.sessions_per_year, trading.calendar))
    for check in checks:
        try:
            told.append(check())
        except ValueError as error:
            refused.append(str(error))
    if refused:
        raise ValueError("\n".join(refused))
    return [Problem(text, 1, (), "told") for text in told if text is not None]


def future_findings(timestamps: Timestamps, now: np.datetime64) -> list[Problem]:
    """Return the finding of ``future_problem``, none if all bars have ended."""
    text = future_problem(timestamps, now)
    return [] if text is None else [Problem(text, int((timestamps > now).sum()), (), "told")]

"""Panels of symbols with calendars of their own, such as crypto beside stocks, on one grid of bars."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sentio_kedro.config import TradingParameters
from sentio_kedro.config.symbols import ALWAYS_OPEN
from sentio_kedro.config.trading import own_calendars
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars, Mask
from sentio_kedro.market.ingestion.sessions import Clock, Schedule, SymbolClock, market_clock, session_schedule
from sentio_kedro.market.ingestion.timestamps import Floats, Timestamps, bars_per_session, closing_days


def panel_clock(bars: AlignedBars, trading: TradingParameters) -> Clock:
    """Place the rows of a grid in the sessions of the account, and bars in those of their symbols.

    Raises:
        ValueError: If a calendar is unknown, does not cover the bars, or a bar lies outside its sessions.
    """
    clock = market_clock(bars.timestamps, trading.calendar)
    return clock._replace(own=symbol_clocks(bars, own_calendars(trading, bars.symbols)))


def symbol_clocks(
    bars: AlignedBars, calendars: Mapping[str, str | None], schedules: Mapping[str, Schedule] | None = None
) -> tuple[SymbolClock, ...]:
    """Place bars in the sessions of their symbols, each calendar on a grid of its own symbols' bars.

    Args:
        bars: Aligned bars T x A.
        calendars: Calendar of each symbol, null for a market that never closes; symbols that it lacks are left out.
        schedules: Sessions by calendar, if already loaded; null loads them.

    Raises:
        ValueError: As ``market_clock``, with the symbols.
    """
    by_calendar: dict[str | None, list[int]] = {}
    for asset, symbol in enumerate(bars.symbols):
        if symbol in calendars:
            by_calendar.setdefault(calendars[symbol], []).append(asset)
    return tuple(
        _symbol_clock(bars, calendar, assets, (schedules or {}).get(calendar or ALWAYS_OPEN))
        for calendar, assets in by_calendar.items()
    )


def _symbol_clock(bars: AlignedBars, calendar: str | None, assets: list[int], schedule: Schedule | None) -> SymbolClock:
    name, rows = calendar or ALWAYS_OPEN, np.flatnonzero(np.isfinite(bars.close[:, assets]).any(axis=1))
    if not rows.size:
        none = np.zeros(0)
        return SymbolClock(name, np.array(assets), rows, Clock(none, rows, none, none, 1.0), 0)
    timestamps = bars.timestamps[rows]
    try:
        if calendar is not None and schedule is None:
            schedule = session_schedule(bars.timestamps, calendar)
        clock = market_clock(timestamps, calendar, schedule)
    except ValueError as error:
        more = f" (and of {len(assets) - 1} more)" if len(assets) > 1 else ""
        key = f"`trading.symbols.{bars.symbols[assets[0]]}.calendar`{more}"
        raise ValueError(str(error).replace("`trading.calendar`", key)) from None
    behind = _sessions_between(timestamps[-1], bars.timestamps[-1], schedule)
    return SymbolClock(name, np.array(assets), rows, clock, behind)


def _sessions_between(first: np.datetime64, last: np.datetime64, schedule: Schedule | None) -> int:
    """Count the sessions that close after ``first``, up to ``last``; UTC days without a schedule."""
    ends: Timestamps = np.array([first, last])
    if schedule is None:
        return int(np.diff(closing_days(ends).astype(np.int64))[0])
    return int(np.diff(np.searchsorted(schedule.closes, ends, side="right"))[0])


def session_bars(bars: AlignedBars, trading: TradingParameters) -> float | Floats:
    """Return the bars of a session: one number, or those of each asset ``[A]`` where calendars differ."""
    own = symbol_clocks(bars, own_calendars(trading, bars.symbols))
    if not own:
        return bars_per_session(bars.timestamps)
    counts = np.ones(len(bars.symbols))
    for part in own:
        counts[part.assets] = part.clock.bars_per_session
    return counts


def bar_share(present: Mask) -> Floats:
    """Return the share of the rows between its first and its last bar that each asset has ``[A]``; 1 without a bar."""
    first, after = present.argmax(axis=0), len(present) - present[::-1].argmax(axis=0)
    return np.where(present.any(axis=0), present.sum(axis=0) / (after - first), 1.0)

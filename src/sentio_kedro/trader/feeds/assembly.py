"""Rows of bars from the bars of single symbols, in whatever order and however often they come.

A stamp is released when all symbols have a bar, or ``grace_seconds`` after its end without those that are missing;
each stamp once, in order. What is released is never taken back: what comes later is a note.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sentio_kedro.market.ingestion.sessions import DAILY, Schedule, exchange_zone, session_schedule
from sentio_kedro.market.ingestion.timestamps import Timestamps, wall_clock
from sentio_kedro.trader.clock import seconds_of, stamp_of
from sentio_kedro.trader.contract import BarRow, Note, RawBar

Expected = Callable[[str, str], Sequence[str]]
"""Stamps later than the first that bars should have, up to and including the second; the first is one of them."""

_REMEMBERED = 200  # stamps whose bars are compared with what comes again
_AHEAD = np.timedelta64(40, "D")  # sessions that are loaded at once


class Assembled(NamedTuple):
    """What new bars, or the time that passed, make.

    Attributes:
        rows: Rows that are complete now, in order.
        notes: Late and revised bars, and gaps.
    """

    rows: tuple[BarRow, ...] = ()
    notes: tuple[Note, ...] = ()


class Assembler:
    """Bars on their way to rows. It has no clock: the caller says what the time is at the venue."""

    def __init__(
        self,
        symbols: Sequence[str],
        source: str,
        expected: Expected,
        after: str,
        *,
        grace_seconds: float,
        max_gap_bars: int,
    ) -> None:
        """Begin after a stamp.

        Args:
            symbols: All that a row should have.
            source: Feed that the bars come from.
            expected: Stamps that bars should have; see ``every`` and ``in_sessions``.
            after: Newest stamp that is known already; bars up to it are passed over.
            grace_seconds: Time after a bar's end within which all symbols must come.
            max_gap_bars: Missed stamps beyond which there is a note.
        """
        self._symbols, self._source, self._expected = tuple(symbols), source, expected
        self._grace, self._most = grace_seconds, max_gap_bars
        self._begin = self._newest = after
        self._waiting: dict[str, dict[str, RawBar]] = {}
        self._released: dict[str, dict[str, Mapping[str, float]]] = {}

    @property
    def newest(self) -> str:
        """Newest stamp that was released."""
        return self._newest

    def expects(self, stamp: str) -> bool:
        """Return whether a stamp is one of this feed's bars: a bar outside sessions, or of another length, is not."""
        if stamp <= self._newest:
            return stamp <= self._begin or stamp in self._released
        return stamp in self._waiting or stamp in self._expected(self._newest, stamp)

    def missing(self, stamp: str) -> list[str]:
        """Return the symbols without a bar at a stamp that is not released yet."""
        have = self._waiting.get(stamp, {})
        return [symbol for symbol in self._symbols if symbol not in have]

    def due(self) -> float | None:
        """Return when the oldest stamp that has a bar is released at the latest; null if none waits."""
        return seconds_of(min(self._waiting)) + self._grace if self._waiting else None

    def take(self, bars: Iterable[RawBar], now: float) -> Assembled:
        """Take bars and release what is complete, or has waited long enough.

        What was missed is to be given at once, for a bar alone whose grace is over is released without the others.

        Args:
            bars: In any order; what came before may come again.
            now: Time at the venue, seconds since 1970. A bar that ends later is open yet, and is passed over.

        Raises:
            ValueError: If a bar has another symbol, source or length.
        """
        notes, latest = [], stamp_of(int(now))
        for bar in bars:
            if bar.stamp > latest:
                continue
            self._refuse_others(bar)
            if bar.stamp > self._newest:
                self._waiting.setdefault(bar.stamp, {})[bar.symbol] = bar
            elif bar.stamp > self._begin:
                notes += self._afterwards(bar)
        before, rows = self._newest, []
        for stamp in sorted(self._waiting):
            if any(now < seconds_of(one) + self._grace for one in self._incomplete(stamp)):
                break
            rows.append(self._release(stamp))
        if rows:
            notes += self._gap(before, [row.stamp for row in rows])
        return Assembled(tuple(rows), tuple(notes))

    def _incomplete(self, stamp: str) -> list[str]:
        """Return a stamp if symbols are missing, and the one before it if that has no bar at all."""
        skipped = [one for one in self._expected(self._newest, stamp) if one < stamp][-1:]
        return skipped + [stamp] * bool(self.missing(stamp))

    def _release(self, stamp: str) -> BarRow:
        for passed in self._expected(self._newest, stamp):  # without any bar: the market was closed
            self._released[passed] = {}
        bars = self._waiting.pop(stamp)
        values = {symbol: bars[symbol].values for symbol in self._symbols if symbol in bars}
        self._released[stamp], self._newest = dict(values), stamp
        while len(self._released) > _REMEMBERED:
            self._begin = min(self._released)
            del self._released[self._begin]
        return BarRow(stamp, values, self._source, max(bar.arrived for bar in bars.values()))

    def _afterwards(self, bar: RawBar) -> list[Note]:
        known = self._released[bar.stamp]
        before, known[bar.symbol] = known.get(bar.symbol), bar.values
        about = {"stamp": bar.stamp, "symbol": bar.symbol}
        if before is None:
            return [_note("late_bar", about | {"values": dict(bar.values)})]
        if _text(before) == _text(bar.values):
            return []
        return [_note("revised_bar", about | {"before": dict(before), "after": dict(bar.values)})]

    def _gap(self, before: str, released: Sequence[str]) -> list[Note]:
        missed = len(self._expected(before, released[-1])) - 1
        if missed <= self._most:
            return []
        filled = len(released) - 1
        body = {"after": before, "until": released[-1], "missed": missed, "filled": filled}
        return [Note("gap", f"{before}|{released[-1]}", body)]

    def _refuse_others(self, bar: RawBar) -> None:
        for what, value, allowed in (
            ("symbol", bar.symbol, self._symbols),
            ("source", bar.source, (self._source,)),
        ):
            if value not in allowed:
                raise ValueError(
                    f"A bar's {what} must be one of {', '.join(allowed)}, was {value!r} at {bar.stamp}; ask the feed "
                    "for what the agents trade alone."
                )
        if not self.expects(bar.stamp):
            raise ValueError(
                f"A bar of {bar.symbol} must end where a bar of this feed ends, was {bar.stamp} after {self._newest}; "
                "check `trader.feed.interval` and `trading.calendar`, or pass bars outside of sessions over."
            )


def every(length_seconds: float) -> Expected:
    """Return the stamps of a market that never closes."""

    def expected(after: str, until: str) -> list[str]:
        begin = seconds_of(after)
        count = int((seconds_of(until) - begin) // length_seconds)
        return [stamp_of(begin + length_seconds * number) for number in range(1, count + 1)]

    return expected


def in_sessions(length_seconds: float, calendar: str) -> Expected:
    """Return the stamps of an exchange by its calendar.

    Bars end at whole multiples of their length by UTC: of hours in New York the first ends at 10:00, as US vendors have
    it. A day's bar ends at the midnight of UTC after its date.

    Args:
        length_seconds: Length of a bar; some weeks of sessions are loaded when they are asked for.
        calendar: A name of the package exchange_calendars.

    Returns:
        A function that raises ``ValueError`` if the calendar does not cover what it is asked for.
    """
    stamps, begin, end = list[str](), "", ""

    def expected(after: str, until: str) -> list[str]:
        nonlocal stamps, begin, end
        if not stamps or after < begin or until > end:
            first, last = (np.datetime64(stamp.rstrip("Z"), "ns") for stamp in (after, max(until, end)))
            schedule = session_schedule(np.array([first, last]), calendar, _AHEAD)
            stamps = [f"{stamp}Z" for stamp in np.datetime_as_string(_ends(schedule, int(length_seconds)), unit="s")]
            begin, end = after, f"{np.datetime_as_string(last + _AHEAD // 2, unit='s')}Z"
        return stamps[bisect_right(stamps, after) : bisect_right(stamps, until)]

    return expected


def _ends(schedule: Schedule, length: int) -> Timestamps:
    if np.timedelta64(length, "s") >= DAILY:
        dates = wall_clock(schedule.closes, exchange_zone(schedule.calendar)).astype("datetime64[D]")
        return (dates + np.timedelta64(1, "D")).astype("datetime64[ns]")
    numbers = [times.astype("datetime64[s]").astype(np.int64) // length for times in (schedule.opens, schedule.closes)]
    ends = [np.arange(opened, closed, dtype=np.int64) + 1 for opened, closed in zip(*numbers, strict=True)]
    return (np.concatenate(ends) * length).astype("datetime64[s]").astype("datetime64[ns]")


def _note(kind: str, body: Mapping[str, Any]) -> Note:
    """Return a note whose key tells one revision of a bar from another, also after a restart."""
    digest = hashlib.sha256(_text(body).encode()).hexdigest()[:12]
    return Note(kind, f"{body['stamp']}|{body['symbol']}|{digest}", body)


def _text(body: Mapping[str, Any]) -> str:
    return json.dumps(body, sort_keys=True)

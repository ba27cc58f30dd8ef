"""Lengths of bars: one for all symbols and all rows, so that no bar is stamped before its end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.ingestion.checks.keys import Delivered, Order
from sentio_kedro.market.ingestion.checks.values import Values
from sentio_kedro.market.ingestion.problems import Problem, listed
from sentio_kedro.market.ingestion.timestamps import Floats, shortest_common_gap

RARE = 0.1  # share of a symbol's gaps, below which it has no bars of a length
MOST = 0.5  # share of a symbol's gaps, above which they say its length
FEW_GAPS = 3  # fewer say no length
LONG_STRETCH = 20  # gaps in a row of another length, of which ``DOMINANT`` are one, from which on the interval changes
SHORT_STRETCH = 10  # the same for gaps shorter than a bar
DOMINANT = 0.6
LONGEST_PAUSE = np.timedelta64(180, "D")  # no exchange has closed that long since 1914
MIN_BARS = 20  # with fewer, a pause says nothing
MIN_MISSING = 10  # bars that a pause must leave out
SUMMARY_VOLUME, SUMMARY_ROWS, SUMMARY_DAYS = 0.4, 4, 0.5
MOST_VOLUME, SAME = 0.75, 1e-6  # share of a day that its summary may have; of a price, by which two are the same
_MINUTE = 60_000_000_000  # nanoseconds
_DAY, _HOUR = 1440 * _MINUTE, 60 * _MINUTE

Gaps = NDArray[np.int64]


def length_problems(
    bars: Delivered, order: Order, values: Values, parameters: IngestionParameters | None
) -> list[Problem]:
    """List symbols of other lengths than the rest, changes of the length within a symbol, and a pause of all symbols.

    Sessions, weekends, holidays and missing bars make gaps longer than a bar, each of them now and then. Another length
    is a gap that is the most common one of a symbol, or of a stretch of it.

    Args:
        bars: The bars.
        order: Rows by symbol and time.
        values: Numbers of the bars by column, [n] each.
        parameters: For ``bar_minutes``; null if they are not known yet.
    """
    stamps = bars.stamps[order.rows].view(np.int64)
    gaps = np.diff(stamps)
    inner = np.ones(len(gaps), dtype=bool)
    inner[order.bounds[1:-1][(order.bounds[1:-1] > 0) & (order.bounds[1:-1] <= len(gaps))] - 1] = False
    if not inner.any():
        return []
    length = _length(gaps[inner])
    problems = _other_lengths(bars, order, gaps, length, parameters)
    if not problems:
        problems = _changes(bars, order, gaps, length) or _summaries(bars, order, values, stamps, length)
    return problems + _pauses(bars, order, stamps, length)


def _length(gaps: Gaps) -> int:
    return int(shortest_common_gap(gaps.view("timedelta64[ns]")).astype(np.int64))


def _is(gaps: Gaps, length: int) -> NDArray[np.bool_]:
    """Return which gaps are of a length; a day may have an hour more or less, a month three days."""
    slack = 0 if length < 20 * _HOUR else _HOUR if length < 20 * _DAY else 4 * _DAY
    return np.abs(gaps - length) <= slack


def _per_symbol(bars: Delivered, order: Order, gaps: Gaps) -> Iterator[tuple[str, int, Gaps]]:
    """Yield name, first position in ``order.rows`` and gaps of each symbol that has any."""
    for place, symbol in enumerate(bars.symbols):
        begin, end = int(order.bounds[place]), int(order.bounds[place + 1])
        if end - begin > 1:
            yield str(symbol), begin, gaps[begin : end - 1]


def _other_lengths(
    bars: Delivered, order: Order, gaps: Gaps, length: int, parameters: IngestionParameters | None
) -> list[Problem]:
    lengths: dict[str, int] = {}
    other, short = [], []
    stated = None if parameters is None or parameters.bar_minutes is None else parameters.bar_minutes * _MINUTE
    for symbol, _, own in _per_symbol(bars, order, gaps):
        common = _length(own)
        clear = len(own) >= FEW_GAPS and bool(_is(own, common).mean() > MOST)
        lengths[symbol] = common
        if clear and not _is(np.array([common]), length)[0] and _is(own, length).mean() < RARE:
            other.append(f"{symbol} has bars of {_text(common)}")
        if clear and stated is not None and common < stated and not _is(np.array([common]), round(stated))[0]:
            short.append(f"{symbol} has a bar every {_text(common)}")
    problems = []
    if other:
        rest = [symbol for symbol in lengths if all(not text.startswith(f"{symbol} has") for text in other)]
        rule = (
            f"all bars must have one length, but only {', '.join(rest[:3])}{' and others' if len(rest) > 3 else ''} "  # noqa: PLR2004
            f"ha{'s' if len(rest) == 1 else 've'} bars of {_text(length)}: resample the others, or give each length an "
            "environment of its own"
        )
        problems += listed(rule, other)
    rule = "bars overlap: `ingestion.bar_minutes` must not exceed the distance of the bars; lower it, or set null"
    return problems + listed(rule, short)


def _changes(bars: Delivered, order: Order, gaps: Gaps, length: int) -> list[Problem]:
    """Find the first row of another length within each symbol."""
    cases = []
    for _, begin, own in _per_symbol(bars, order, gaps):
        common = length if _is(own, length).mean() >= RARE else _length(own)
        found = _first_stretch(own, common)
        if found is not None:
            place, other = found
            row = int(order.rows[begin + place])
            cases.append(
                f"{bars.key(row)} row {row}: from here on a bar every {_text(other)}, elsewhere every {_text(common)}"
            )
    rule = (
        "the length of the bars must not change within a symbol: resample the shorter ones, or give each part an "
        "environment of its own"
    )
    return listed(rule, cases)


def _first_stretch(gaps: Gaps, length: int) -> tuple[int, int] | None:
    """Return place and length of the first stretch without a gap of ``length`` that has one of its own."""
    strange = np.concatenate([[False], ~_is(gaps, length), [False]])
    edges = np.flatnonzero(np.diff(strange.astype(np.int8)))
    begins, ends = edges[::2], edges[1::2]
    for begin, end in zip(begins[ends - begins >= SHORT_STRETCH], ends[ends - begins >= SHORT_STRETCH], strict=True):
        part = gaps[begin:end]
        common = _length(part)
        enough = len(part) >= (SHORT_STRETCH if common < length else LONG_STRETCH)
        if enough and _is(part, common).mean() >= DOMINANT:
            return int(begin), common
    return None


def _summaries(bars: Delivered, order: Order, values: Values, stamps: Gaps, length: int) -> list[Problem]:
    """Find rows that sum up the other rows of their day: a day's bar among those of minutes."""
    if length >= _DAY // 2 or len(stamps) < SUMMARY_ROWS:
        return []
    symbols = np.repeat(np.arange(len(bars.symbols)), np.diff(order.bounds))
    columns = [values[name][order.rows] for name in ("high", "low", "volume")]
    cases = []
    for days in (stamps // _DAY, (stamps - 1) // _DAY):  # stamped at the day's begin, or at its end
        found, judged = _day_sums(days, symbols, *columns)
        counts = np.bincount(symbols[found], minlength=len(bars.symbols))
        for place in np.flatnonzero(counts > SUMMARY_DAYS * np.bincount(symbols[judged], minlength=len(bars.symbols))):
            row = int(order.rows[np.flatnonzero(found & (symbols == place))[0]])
            cases.append(
                f"{bars.key(row)} row {row}: its high, low and volume are those of the day's other bars of "
                f"{_text(length)} together, as of {int(counts[place])} row(s)"
            )
        if cases:
            break
    rule = "bars of a day must not lie among shorter ones: drop them, or give each length an environment of its own"
    return listed(rule, cases)


def _day_sums(
    days: Gaps, symbols: Gaps, high: Floats, low: Floats, volume: Floats
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return the rows [m] that sum up their day, and the first row of each day of ``SUMMARY_ROWS`` or more."""
    begins = np.flatnonzero(np.append(True, (np.diff(days) != 0) | (np.diff(symbols) != 0)))
    counts = np.diff(np.append(begins, len(days)))
    sums, highs, lows = (
        np.add.reduceat(volume, begins),
        np.maximum.reduceat(high, begins),
        np.minimum.reduceat(low, begins),
    )
    highs[(counts < SUMMARY_ROWS) | (sums <= 0.0)] = np.inf
    found = high >= np.repeat(highs, counts)
    rows = np.flatnonzero(found)
    day = np.searchsorted(begins, rows, side="right") - 1
    found[rows] = (low[rows] <= lows[day]) & (volume[rows] >= SUMMARY_VOLUME * sums[day])
    found[rows] &= volume[rows] <= MOST_VOLUME * sums[day]  # the others traded as well
    rows, day = rows[found[rows]], day[found[rows]]
    rest_high, rest_low = high.copy(), low.copy()
    rest_high[rows], rest_low[rows] = -np.inf, np.inf
    found[rows] &= np.maximum.reduceat(rest_high, begins)[day] >= high[rows] * (1.0 - SAME)
    found[rows] &= np.minimum.reduceat(rest_low, begins)[day] <= low[rows] * (1.0 + SAME)
    return found, begins[counts >= SUMMARY_ROWS]


def _pauses(bars: Delivered, order: Order, stamps: Gaps, length: int) -> list[Problem]:
    """Find a pause of all symbols that no exchange makes."""
    longest = max(int(LONGEST_PAUSE / np.timedelta64(1, "ns")), MIN_MISSING * length)
    if len(stamps) < MIN_BARS or (np.diff(stamps) <= longest).all():  # no symbol pauses
        return []
    moments = np.sort(stamps)
    cases = []
    for place in np.flatnonzero(np.diff(moments) > longest):
        row = int(order.rows[np.flatnonzero(stamps == moments[place + 1])[0]])
        before = np.datetime64(int(moments[place]), "ns")
        days = int((moments[place + 1] - moments[place]) // _DAY)
        cases.append(
            f"{bars.key(row)} row {row}: no symbol has a bar in the {days} days since "
            f"{np.datetime_as_string(before, unit='m')}"
        )
    rule = "bars of all symbols pause for longer than any exchange closes: fill in the bars, or begin after the pause"
    return listed(rule, cases)


def _text(nanoseconds: int) -> str:
    minutes = nanoseconds / _MINUTE
    for size, name in ((1440.0, "day"), (60.0, "hour"), (1.0, "minute")):
        if minutes >= size and (minutes % size == 0.0 or name == "minute"):
            return f"{minutes / size:g} {name}{'' if minutes == size else 's'}"
    return f"{minutes * 60.0:g} seconds"

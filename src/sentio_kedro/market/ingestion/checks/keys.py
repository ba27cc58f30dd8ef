"""Keys of delivered bars: symbols and timestamps, what is wrong with them, and the order of the rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentio_kedro.config import IngestionParameters
from sentio_kedro.config.symbols import SYMBOL_RULE, alike, symbol_fault
from sentio_kedro.market.ingestion.problems import Problem, Severity, counted, listed, shown
from sentio_kedro.market.ingestion.timestamps import (
    RANGE,
    Epochs,
    Timestamps,
    localize_timestamps,
    parse_timestamps,
    read_epochs,
)

LONGEST_SPAN = 2**63 - 1  # nanoseconds, 292 years
_FEW_SYMBOLS = 2**15  # numbers that numpy sorts by their digits, in linear time
_WRITTEN_DATES = (19_000_101, 21_001_231)
_SPREADSHEET_DATES = (20_000, 80_000)  # days since 1900, of the years 1954 to 2119

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Delivered:
    """Bars as delivered, and their keys as read.

    Attributes:
        frame: The bars, numbered from 0.
        timestamps: The result of ``parse_timestamps``.
        epochs: The numbers that the timestamps were read from; null if they are no numbers.
        place: Number of each row's symbol in ``symbols``, -1 where it is no text.
        symbols: Texts in the order of their first rows, each once; other values of the column are among them.
    """

    frame: pd.DataFrame
    timestamps: pd.Series
    epochs: Epochs | None
    place: Rows
    symbols: list[object]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Delivered:
        """Read the keys of ``frame``."""
        column, epochs = frame["symbol"], read_epochs(frame["timestamp"])
        try:
            place, values = pd.factorize(column)
        except TypeError:  # lists and other values that cannot be compared
            place, values = pd.factorize(column.where(column.map(lambda value: isinstance(value, str))))
        symbols = list(values)
        texts = np.array([isinstance(symbol, str) for symbol in symbols] + [False])  # the last is that of -1
        place = place if texts[:-1].all() else np.where(texts[place], place, -1)
        timestamps = parse_timestamps(frame["timestamp"]) if epochs is None else epochs.timestamps
        return cls(frame, timestamps, epochs, place, symbols)

    @cached_property
    def stamps(self) -> Timestamps:
        """Timestamps [n] without their zone, NaT where unread."""
        column = self.timestamps
        zoned = isinstance(column.dtype, pd.DatetimeTZDtype)
        stamps: Timestamps = (column.dt.tz_localize(None) if zoned else column).to_numpy(dtype="datetime64[ns]")
        return stamps

    def problem(
        self, rule: str, wrong: Mask, value: Callable[[int], str], severity: Severity = "refused"
    ) -> list[Problem]:
        """Count the ``wrong`` rows [n], and show the first with what ``value`` says of them."""
        return self.problem_of_rows(rule, np.flatnonzero(wrong), value, severity)

    def problem_of_rows(
        self, rule: str, rows: Rows, value: Callable[[int], str], severity: Severity = "refused"
    ) -> list[Problem]:
        """Count ``rows``, and show the first with what ``value`` says of them."""
        return counted(rule, rows, lambda row: f"{self.key(row)} {value(row)}", severity)

    def key(self, row: int) -> str:
        """Return symbol and timestamp of a row."""
        symbol = self.frame["symbol"].iloc[row]
        name = shown(symbol) if not isinstance(symbol, str) or symbol_fault(symbol) else symbol
        return f"{name} {self.time(row)}"

    def time(self, row: int) -> str:
        """Return the timestamp of a row, as delivered if it could not be read."""
        timestamp = self.timestamps.iloc[row]
        if not isinstance(timestamp, pd.Timestamp):  # NaT is none
            return shown(self.frame["timestamp"].iloc[row])
        zone = "" if timestamp.tzinfo is None else "Z"
        return f"{timestamp.tz_localize(None).isoformat().removesuffix(':00')}{zone}"


def symbol_problems(bars: Delivered) -> list[Problem]:
    """List symbols that are empty, no texts, mislead the eye or differ by case or blanks alone."""
    empty = bars.frame["symbol"].isna().to_numpy(dtype=bool)
    symbols = [symbol for symbol in bars.symbols if isinstance(symbol, str)]
    rule = "symbol must not be empty: name the asset; one such as NA needs `load_args: {keep_default_na: false}`"
    problems = bars.problem(rule, empty, lambda row: f"in row {row}")
    problems += bars.problem(
        "symbol must be text, since numbers have lost their leading zeros and ON and NO of a YAML file are true and "
        "false: read it as text (`load_args: {dtype: {symbol: str}, keep_default_na: false}` in the catalog)",
        (bars.place < 0) & ~empty,
        lambda row: f"in row {row}",
    )
    faults = {symbol: fault for symbol in symbols if (fault := symbol_fault(symbol))}
    counts: dict[object, int] = {}
    if faults:
        rows = np.bincount(bars.place[bars.place >= 0], minlength=len(bars.symbols)).tolist()
        counts = dict(zip(bars.symbols, rows, strict=True))
    problems += listed(
        f"symbol must be {SYMBOL_RULE}: correct the symbol",
        [f"{shown(symbol)} {fault}, {counts[symbol]} row(s)" for symbol, fault in faults.items()],
    )
    return problems + listed(
        "symbols must not differ by case or blanks alone: write the same symbol everywhere",
        [" and ".join(map(shown, group)) for group in alike(symbols)],
    )


def timestamp_problems(bars: Delivered, parameters: IngestionParameters | None) -> list[Problem]:
    """List timestamps that cannot be read or have no zone, and tell the unit of epochs."""
    unread = np.isnat(bars.stamps)
    problems = _epoch_problems(bars, unread) if bars.epochs is not None else []
    if bars.epochs is None:
        problems = bars.problem(
            f"timestamp must be an ISO 8601 date and time in {RANGE} with at most nine decimals, which nanoseconds "
            "hold, all with a zone or all without: rewrite the timestamp, or drop the bar",
            unread,
            lambda row: f"in row {row}",
        )
    if parameters is not None:
        zone = parameters.timezone
        rule = (
            "timestamp is naive: set `ingestion.timezone` to the feed's zone, or write timestamps with a zone"
            if zone is None
            else f"timestamp is skipped or doubled by daylight saving in {zone}: write timestamps with a zone"
        )
        if not isinstance(bars.timestamps.dtype, pd.DatetimeTZDtype):
            lost = localize_timestamps(bars.timestamps, zone).isna().to_numpy() & ~unread
            problems += bars.problem(rule, lost, lambda row: "has no zone" if zone is None else f"in {zone}")
    read = bars.stamps[~unread].view(np.int64)
    if read.size and int(read.max()) - int(read.min()) > LONGEST_SPAN:
        first, last = (bars.time(int(np.flatnonzero(~unread)[place])) for place in (read.argmin(), read.argmax()))
        rule = "all bars must lie within 292 years, the longest time that nanoseconds hold: correct the timestamps"
        problems.append(Problem(rule, 1, (f"{first} to {last}",)))
    return problems


def _epoch_problems(bars: Delivered, unread: Mask) -> list[Problem]:
    epochs = bars.epochs
    assert epochs is not None  # noqa: S101 - the caller asked
    problems = bars.problem(
        "timestamp is a number that counts no time since 1970 in one unit (s, ms, us or ns, of the years 1990 to "
        "2100): write all in one unit, or as ISO 8601; dates that are numbers are read as text with "
        "`load_args: {dtype: {timestamp: str}}`",
        unread,
        lambda row: (
            f"in row {row}{_looks_like(bars.frame['timestamp'].iloc[row], str(epochs.units[row]), epochs.unit)}"
        ),
    )
    if epochs.unit is not None:
        read = bars.stamps[~unread]
        rule = f"timestamps are numbers and were read as {epochs.unit} since 1970, UTC"
        first, last = (np.datetime_as_string(stamp, unit="s") for stamp in (read.min(), read.max()))
        problems.append(Problem(rule, len(read), (f"{first}Z to {last}Z",), "told"))
    return problems


def _looks_like(value: object, unit: str, expected: str | None) -> str:
    """Return what a number that is no epoch may be."""
    if unit:
        return f" looks like {unit}, those before are {expected}"
    number = pd.to_numeric(pd.Series([value]), errors="coerce").iloc[0]
    if _WRITTEN_DATES[0] <= number <= _WRITTEN_DATES[1]:
        return " looks like a date yyyymmdd"
    if _SPREADSHEET_DATES[0] <= number <= _SPREADSHEET_DATES[1]:
        date = pd.Timestamp("1899-12-30") + pd.Timedelta(days=float(number))
        return f" looks like the date number {date.date()} of a spreadsheet: export dates as text"
    return " looks like digits of a date" if str(value)[:2] in ("19", "20") else ""


@dataclass(frozen=True, eq=False)
class Order:
    """Rows by symbol and time.

    Attributes:
        rows: Row numbers [m] of the usable rows, sorted by symbol and time, each key once.
        bounds: Where each symbol begins in ``rows``, and its end [A + 1].
        dropped: Row numbers of exact duplicates.
        moved: Rows that were not later than the one before of their symbol.
    """

    rows: Rows
    bounds: Rows
    dropped: Rows
    moved: Rows


def sort_rows(bars: Delivered, usable: Mask, values: dict[str, NDArray[np.float64]]) -> tuple[Order, list[Problem]]:
    """Sort rows by symbol and time, and find those whose key occurs before.

    Args:
        bars: The bars.
        usable: Rows [n] that have both keys and are bars.
        values: Numbers of the bars by column, [n] each.

    Returns:
        The order, and the problems: rows that were sorted, duplicates that were dropped or refused.
    """
    place = bars.place.astype(np.int16) if len(bars.symbols) < _FEW_SYMBOLS else bars.place
    rows: Rows = np.flatnonzero(usable)
    if (np.diff(place[rows]) < 0).any():
        rows = rows[np.argsort(place[rows], kind="stable")]
    same = np.diff(place[rows]) == 0
    late = same & (np.diff(bars.stamps[rows]) <= np.timedelta64(0, "ns"))
    problems, dropped, moved = [], np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    if late.any():
        moved = np.sort(rows[1:][same & (np.diff(bars.stamps[rows]) < np.timedelta64(0, "ns"))])
        rows = rows[np.lexsort((bars.stamps[rows], place[rows]))]
        again = (np.diff(place[rows]) == 0) & (np.diff(bars.stamps[rows]) == np.timedelta64(0, "ns"))
        begins = np.maximum.accumulate(np.where(np.append(True, ~again), np.arange(len(rows)), 0))
        first = rows[begins]  # of the rows of one key
        equal = np.logical_and.reduce(
            [
                (column[rows] == column[first]) | (np.isnan(column[rows]) & np.isnan(column[first]))
                for column in values.values()
            ]
        )
        repeated = np.append(False, again)
        dropped = np.sort(rows[repeated & equal])
        earlier = dict(zip(rows[repeated & ~equal].tolist(), first[repeated & ~equal].tolist(), strict=True))
        rows = rows[~repeated]
        problems = _order_problems(bars, values, earlier, dropped, moved)
    bounds: Rows = np.searchsorted(place[rows], np.arange(len(bars.symbols) + 1))
    return Order(rows, bounds, dropped, moved), problems


def _order_problems(
    bars: Delivered, values: dict[str, NDArray[np.float64]], earlier: dict[int, int], dropped: Rows, moved: Rows
) -> list[Problem]:
    def differs(row: int) -> str:
        first = earlier[row]
        texts = [
            f"{name}={shown(column[row])} after {shown(column[first])}"
            for name, column in values.items()
            if column[row] != column[first] and not (np.isnan(column[row]) and np.isnan(column[first]))
        ]
        return f"row {row} after row {first}: {', '.join(texts)}"

    return [
        *bars.problem_of_rows(
            "timestamp is duplicated within its symbol with other values: keep one bar; if these are bars of two "
            "symbols or of two lengths, give each a symbol of its own or a file of its own",
            np.sort(np.fromiter(earlier, dtype=np.int64)),
            differs,
        ),
        *bars.problem_of_rows(
            "rows that repeat a bar exactly were dropped", dropped, lambda row: f"row {row}", "repaired"
        ),
        *bars.problem_of_rows(
            "rows were not in order of time within their symbol and were sorted",
            moved,
            lambda row: f"row {row}",
            "told",
        ),
    ]

"""Checks of a frame of bars, all reported at once with symbol, timestamp, value and remedy. Nothing is repaired."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentio_kedro.config import IngestionParameters
from sentio_kedro.config.symbols import SYMBOL_RULE, alike, symbol_fault
from sentio_kedro.market.ingestion.problems import EXAMPLES, BarsError, Problem, shown
from sentio_kedro.market.ingestion.timestamps import RANGE, Floats, localize_timestamps, parse_timestamps

PRICE_COLUMNS = ("open", "high", "low", "close")
VALUE_COLUMNS = (*PRICE_COLUMNS, "volume")
COLUMNS = ("timestamp", "symbol", *VALUE_COLUMNS)
OPTIONAL_COLUMNS = ("dividend", "split", "spread", "funding")
LONGEST_SPAN = 2**63 - 1  # nanoseconds, 292 years

Mask = NDArray[np.bool_]


def check_bars(frame: pd.DataFrame, parameters: IngestionParameters | None = None) -> None:
    """Check long bars.

    Args:
        frame: Long frame with ``timestamp, symbol, open, high, low, close, volume`` and optional columns.
        parameters: How bars are read; without them naive timestamps pass, since their zone may be configured.

    Raises:
        BarsError: With every problem, its symbol, timestamp, value and remedy.
    """
    missing = [column for column in COLUMNS if column not in frame.columns]
    twice = [column for column in (*COLUMNS, *OPTIONAL_COLUMNS) if (frame.columns == column).sum() > 1]
    columns = [
        Problem(rule, len(names), tuple(f"column `{column}`" for column in names))
        for rule, names in (
            ("columns are missing: rename the feed's columns, or add them", missing),
            ("columns occur more than once: keep one of each", twice),
        )
        if names
    ]
    if columns:
        raise BarsError(tuple(columns))
    if frame.empty:
        raise BarsError((Problem("there must be bars: point `bars` in the catalog at a feed", 1, ("0 rows",)),))
    bars = _Delivered.of(frame.reset_index(drop=True))
    problems = [*_symbol_problems(bars), *_timestamp_problems(bars, parameters), *_value_problems(bars)]
    if problems:
        raise BarsError(tuple(problems))


def numbers(column: pd.Series) -> Floats:
    """Return a column of a feed as numbers [n]; NaN where there is none."""
    if column.dtype.kind == "c" or not pd.api.types.is_numeric_dtype(column.dtype):
        texts = column if isinstance(column.dtype, pd.StringDtype) else column.astype(object).map(_text_or_number)
        column = pd.to_numeric(texts, errors="coerce")
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def _text_or_number(value: object) -> object:
    """Return a text, or a number that a float holds, as it is; None for dates, lists and the like."""
    if isinstance(value, int):
        return value if abs(value) <= sys.float_info.max else None
    if isinstance(value, Decimal):
        return float(value)
    return value if isinstance(value, str | float | np.integer | np.floating) else None


@dataclass(frozen=True, eq=False)
class _Delivered:
    """Bars as delivered, and their keys as read.

    Attributes:
        frame: The bars, numbered from 0.
        timestamps: The result of ``parse_timestamps``.
        place: Number of each row's symbol in ``symbols``, -1 where it is no text.
        symbols: Texts in the order of their first rows, each once; other values of the column are among them.
    """

    frame: pd.DataFrame
    timestamps: pd.Series
    place: NDArray[np.int64]
    symbols: list[object]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> _Delivered:
        """Read the keys of ``frame``."""
        column = frame["symbol"]
        try:
            place, values = pd.factorize(column)
        except TypeError:  # lists and other values that cannot be compared
            place, values = pd.factorize(column.where(column.map(lambda value: isinstance(value, str))))
        symbols = list(values)
        texts = np.array([isinstance(symbol, str) for symbol in symbols] + [False])  # the last is that of -1
        return cls(frame, parse_timestamps(frame["timestamp"]), np.where(texts[place], place, -1), symbols)

    def problem(self, rule: str, wrong: Mask, value: Callable[[int], str]) -> list[Problem]:
        """Count the ``wrong`` rows [n], and show the first with what ``value`` says of them."""
        rows = np.flatnonzero(wrong)
        cases = tuple(f"{self.key(row)} {value(row)}" for row in rows[:EXAMPLES].tolist())
        return [Problem(rule, rows.size, cases)] if rows.size else []

    def key(self, row: int) -> str:
        """Return symbol and timestamp of a row."""
        symbol, timestamp = self.frame["symbol"].iloc[row], self.timestamps.iloc[row]
        name = shown(symbol) if not isinstance(symbol, str) or symbol_fault(symbol) else symbol
        return f"{name} {self.time(timestamp, row)}"

    def time(self, timestamp: object, row: int) -> str:
        """Return the ``timestamp`` of a row, as delivered if it could not be read."""
        if not isinstance(timestamp, pd.Timestamp):  # NaT is none
            return shown(self.frame["timestamp"].iloc[row])
        zone = "" if timestamp.tzinfo is None else "Z"
        return f"{timestamp.tz_localize(None).isoformat().removesuffix(':00')}{zone}"


def _symbol_problems(bars: _Delivered) -> list[Problem]:
    empty = bars.frame["symbol"].isna().to_numpy(dtype=bool)
    symbols = [symbol for symbol in bars.symbols if isinstance(symbol, str)]
    rule = "symbol must not be empty: name the asset; one such as NA needs `load_args: {keep_default_na: false}`"
    problems = bars.problem(rule, empty, lambda row: f"in row {row}")
    problems += bars.problem(
        "symbol must be text, since numbers have lost their leading zeros: read it as text "
        "(`load_args: {dtype: {symbol: str}, keep_default_na: false}` in the catalog)",
        (bars.place < 0) & ~empty,
        lambda row: f"in row {row}",
    )
    faults = {symbol: fault for symbol in symbols if (fault := symbol_fault(symbol))}
    rows = np.bincount(bars.place[bars.place >= 0], minlength=len(bars.symbols))
    counts = {symbol: int(count) for symbol, count in zip(bars.symbols, rows, strict=True)} if faults else {}
    problems += _listed(
        f"symbol must be {SYMBOL_RULE}: correct the symbol",
        [f"{shown(symbol)} {fault}, {counts[symbol]} row(s)" for symbol, fault in faults.items()],
    )
    return problems + _listed(
        "symbols must not differ by case or blanks alone: write the same symbol everywhere",
        [" and ".join(map(shown, group)) for group in alike(symbols)],
    )


def _listed(rule: str, cases: Sequence[str]) -> list[Problem]:
    return [Problem(rule, len(cases), tuple(cases[:EXAMPLES]))] if cases else []


def _timestamp_problems(bars: _Delivered, parameters: IngestionParameters | None) -> list[Problem]:
    timestamps = bars.timestamps
    unread = timestamps.isna().to_numpy()
    problems = bars.problem(
        f"timestamp must be an ISO 8601 date and time in {RANGE} with at most nine decimals, which nanoseconds hold, "
        "all with a zone or all without: rewrite the timestamp, or drop the bar",
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
        lost = localize_timestamps(timestamps, zone).isna().to_numpy() & ~unread
        problems += bars.problem(rule, lost, lambda row: "has no zone" if zone is None else f"in {zone}")
    return problems + _span_problems(bars) + _order_problems(bars)


def _span_problems(bars: _Delivered) -> list[Problem]:
    first, last = bars.timestamps.min(), bars.timestamps.max()
    if pd.isna(first) or last.value - first.value <= LONGEST_SPAN:
        return []
    rule = "all bars must lie within 292 years, the longest time that nanoseconds hold: correct the timestamps"
    return [Problem(rule, 1, (f"{bars.time(first, 0)} to {bars.time(last, 0)}",))]


def _order_problems(bars: _Delivered) -> list[Problem]:
    timestamps, named = bars.timestamps, bars.place >= 0
    previous = timestamps.groupby(bars.place, sort=False).shift()
    if not ((timestamps <= previous).to_numpy() & named).any():
        return []
    keyed = pd.DataFrame({"symbol": bars.place, "timestamp": timestamps})
    twice = keyed.duplicated().to_numpy() & timestamps.notna().to_numpy() & named
    return [
        *bars.problem("timestamp is duplicated within its symbol: keep one bar", twice, lambda row: f"row {row}"),
        *bars.problem(
            "timestamps must increase within a symbol: sort by symbol and timestamp",
            (timestamps < previous).to_numpy() & ~twice & named,
            lambda row: f"row {row}",
        ),
    ]


def _value_problems(bars: _Delivered) -> list[Problem]:
    frame = bars.frame
    names = [*VALUE_COLUMNS, *(name for name in OPTIONAL_COLUMNS if name in frame.columns)]
    number = {name: numbers(frame[name]) for name in names}
    finite = {name: np.isfinite(values) for name, values in number.items()}
    empty = {name: _empty(frame[name]) for name in names if name in OPTIONAL_COLUMNS}
    finite_bar = np.logical_and.reduce([finite[name] for name in VALUE_COLUMNS])

    def listing(wrong: dict[str, Mask]) -> tuple[Mask, Callable[[int], str]]:
        masks = [*wrong.values(), np.zeros(len(frame), dtype=bool)]
        return np.logical_or.reduce(masks), lambda row: ", ".join(
            f"{name}={shown(frame[name].iloc[row])}" for name, mask in wrong.items() if mask[row]
        )

    below = {"high": finite_bar & (number["high"] < number["low"])}
    ends = {
        name: finite_bar & ~below["high"] & ((number[name] > number["high"]) | (number[name] < number["low"]))
        for name in ("open", "close")
    }
    amounts = {name: finite[name] & (number[name] < 0.0) for name in names if name in ("volume", "spread")}
    amounts |= {name: finite[name] & (number[name] <= 0.0) for name in names if name == "split"}
    rules = [
        (
            "values must be finite numbers: fill in or drop the bar (a missing bar is allowed)",
            listing({name: ~finite[name] & ~empty.get(name, np.False_) for name in names}),
        ),
        (
            "prices must be above 0: drop the bar or correct the price",
            listing({name: finite[name] & (number[name] <= 0.0) for name in PRICE_COLUMNS}),
        ),
        (
            "high must not be below low: check the column order of the feed",
            (below["high"], lambda row: f"high={shown(number['high'][row])} low={shown(number['low'][row])}"),
        ),
        ("open and close must lie in [low, high]: correct or drop the bar", listing(ends)),
        ("volume and spread must be 0 or more, split above 0: correct the value", listing(amounts)),
        (
            "dividend must be 0 or more: correct the value",
            listing({"dividend": number["dividend"] < 0.0} if "dividend" in number else {}),
        ),
    ]
    problems = [problem for rule, (mask, value) in rules for problem in bars.problem(rule, mask, value)]
    return problems + _constant_problems(bars, number)


def _empty(column: pd.Series) -> Mask:
    """Return where an optional column is empty [n]; a file that keeps NA as text has empty texts."""
    texts = not pd.api.types.is_numeric_dtype(column.dtype)
    return (column.isna() | (column == "") if texts else column.isna()).to_numpy(dtype=bool, na_value=True)


def _constant_problems(bars: _Delivered, number: dict[str, Floats]) -> list[Problem]:
    rows = pd.DataFrame({name: number[name] for name in ("low", "high")}).groupby(bars.place, sort=True)
    low, high, count = rows["low"].min(), rows["high"].max(), rows.size()
    flat = low.index[(count > 1) & (low == high) & (low.index >= 0)]
    first = np.isin(bars.place, flat) & ~pd.Series(bars.place).duplicated().to_numpy()
    return bars.problem(
        "prices never change: drop the symbol, or check that its feed is alive",
        first,
        lambda row: f"price={shown(number['low'][row])}",
    )

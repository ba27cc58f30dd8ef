"""The table of a dated universe: which symbol was a member when, as intervals or as snapshots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentio_kedro.config.symbols import SYMBOL_RULE, symbol_fault
from sentio_kedro.market.ingestion.bar_checks import numbers
from sentio_kedro.market.ingestion.problems import EXAMPLES, Problem, UniverseError, shown

Days = NDArray[np.datetime64]
OPEN = np.datetime64("9999-12-31", "D")  # end of an interval without one
SNAPSHOT_COLUMNS = ("symbols", "tickers")
REFUSED_RETURN = "delisting_return must be a number of at least -1, a fraction of the last price: correct it"
INTERVALS = ("symbol", "asset", "start", "end", "delisting_return", "row")


def read_universe(table: pd.DataFrame) -> pd.DataFrame:
    """Read and check a table of members.

    Args:
        table: Intervals ``symbol, start, end[, asset][, delisting_return]``, where an empty ``end`` is still a member,
            or snapshots ``date, symbols``, each of which holds until the next. Column names are case-insensitive.

    Returns:
        Intervals: ``symbol``, ``asset``, first and last day ``start`` and ``end`` (``OPEN`` without one), both
        included, ``delisting_return`` (NaN without one) and ``row`` of the table, sorted by asset and start.

    Raises:
        UniverseError: With every problem, its row, value and remedy.
    """
    table = table.rename(columns=lambda name: str(name).strip().lower()).reset_index(drop=True)
    names = set(table.columns)
    of_snapshots = [name for name in SNAPSHOT_COLUMNS if name in names]
    if "date" in names and of_snapshots:
        return _from_snapshots(table, of_snapshots[0])
    lacking = [name for name in ("symbol", "start", "end") if name not in names]
    if lacking or table.empty:
        rule = "there must be intervals `symbol, start, end` or snapshots `date, symbols`: name the columns so"
        raise UniverseError((Problem(rule, 1, (f"{len(table)} rows of columns {sorted(names)}",)),))
    problems: list[Problem] = []
    start = _days(table["start"], "start", problems, empty=False)
    end = _days(table["end"], "end", problems, empty=True)
    symbol = _symbols(table["symbol"], "symbol", problems)
    asset = symbol
    if "asset" in names:
        named = table["asset"].notna() & (table["asset"] != "")
        asset = _symbols(table["asset"].astype(object).where(named, symbol), "asset", [] if problems else problems)
    paid = np.full(len(table), np.nan)
    if "delisting_return" in names:
        paid = numbers(table["delisting_return"])
        given = table["delisting_return"].notna().to_numpy() & (table["delisting_return"] != "").to_numpy()
        problems += _rows(REFUSED_RETURN, given & ~(paid >= -1.0), lambda row: shown(table["delisting_return"][row]))
    late = (end < start) & (start != OPEN)
    problems += _rows(
        "end must not be before start: correct the dates", late, lambda row: f"{symbol[row]} {start[row]} to {end[row]}"
    )
    columns = (symbol, asset, start, end, paid, np.arange(len(table)))
    found = pd.DataFrame(dict(zip(INTERVALS, columns, strict=True)))
    if not problems:
        problems = _overlaps(found, "symbol") or _overlaps(found, "asset")
    if problems:
        raise UniverseError(tuple(problems))
    return found.sort_values(["asset", "start"], ignore_index=True)


def _rows(rule: str, wrong: NDArray[np.bool_], value: Callable[[int], str]) -> list[Problem]:
    rows = np.flatnonzero(wrong).tolist()
    return [Problem(rule, len(rows), tuple(f"row {row}: {value(row)}" for row in rows[:EXAMPLES]))] if rows else []


def _days(column: pd.Series, name: str, problems: list[Problem], *, empty: bool) -> Days:
    """Return the days [n] of a column, ``OPEN`` where it may be empty and is."""
    blank = (column.isna() | (column.astype(str).str.strip() == "")).to_numpy()
    written = ~blank & (not pd.api.types.is_numeric_dtype(column))  # a number is no date, whatever it counts
    read = pd.to_datetime(column.astype(str).where(written), errors="coerce", format="ISO8601", utc=True)
    whole = (read.dt.normalize() == read).to_numpy()
    rule = f"{name} must be a date such as 2015-01-31 without a time of day: write it as year-month-day"
    problems += _rows(rule, ~whole & ~blank, lambda row: shown(column[row]))
    if not empty:
        problems += _rows(f"{name} must not be empty: write the first day of membership", blank, lambda _: "empty")
    days = read.dt.tz_localize(None).to_numpy(dtype="datetime64[D]")
    return np.where(np.isnat(days), OPEN, days)


def _symbols(column: pd.Series, name: str, problems: list[Problem]) -> pd.Series:
    texts = column.map(lambda value: isinstance(value, str)).to_numpy(dtype=bool)
    remedy = f"`load_args: {{dtype: {{{name}: str}}, keep_default_na: false}}`"
    rule = f"{name} must be text, {SYMBOL_RULE}: correct it, or read it by {remedy}"
    wrong = np.array([not text or symbol_fault(value) is not None for text, value in zip(texts, column, strict=True)])
    problems += _rows(rule, wrong, lambda row: "empty" if pd.isna(column[row]) else shown(column[row]))
    return column.astype(object)


def _overlaps(intervals: pd.DataFrame, key: str) -> list[Problem]:
    """List intervals of one ``key`` that begin before an earlier one has ended."""
    found = intervals.sort_values([key, "start"], ignore_index=True)
    name, start, end, row = (found[part].to_numpy() for part in (key, "start", "end", "row"))
    wrong = np.concatenate([[False], (name[1:] == name[:-1]) & (start[1:] <= end[:-1])])
    cases = [
        f"row {row[place]}: {name[place]} from {_day(start[place])} is in row {row[place - 1]}, which lasts until "
        f"{_day(end[place - 1])}"
        for place in np.flatnonzero(wrong)[:EXAMPLES]
    ]
    rule = f"intervals of one {key} must not overlap: end the earlier one before the later one starts"
    return [Problem(rule, int(wrong.sum()), tuple(cases))] if cases else []


def _day(value: Any) -> str:
    return str(np.datetime64(value, "D"))


def _from_snapshots(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the intervals of snapshots: from the first that holds a symbol to the day before one that does not."""
    problems: list[Problem] = []
    days = _days(table["date"], "date", problems, empty=False)
    empty = (table[name].isna() | (table[name].astype(str).str.strip() == "")).to_numpy()
    problems += _rows(f"{name} must not be empty: list the members, or drop the row", empty, lambda _: "empty")
    twice = pd.Series(days).duplicated().to_numpy() & (days != OPEN)
    problems += _rows("date must not occur twice: keep one snapshot of each day", twice, lambda row: str(days[row]))
    if problems or table.empty:
        raise UniverseError(tuple(problems) or (Problem("there must be snapshots: add rows", 1, ("0 rows",)),))
    order = np.argsort(days)
    lists = table[name].iloc[order].astype(str).str.split(r"[\s,;]+", regex=True)
    listed = lists.reset_index(drop=True).explode()
    listed = listed[listed != ""]
    held = pd.DataFrame({"symbol": listed.to_numpy(dtype=object), "place": listed.index}).drop_duplicates()
    held = held.sort_values(["symbol", "place"], ignore_index=True)
    begins = (held["symbol"] != held["symbol"].shift()) | (held["place"] != held["place"].shift() + 1)
    runs = held.groupby(begins.cumsum()).agg(symbol=("symbol", "first"), first=("place", "min"), last=("place", "max"))
    starts = days[order]
    ends = np.append(starts[1:] - np.timedelta64(1, "D"), OPEN)
    columns = (
        *(runs["symbol"], runs["symbol"], starts[runs["first"]], ends[runs["last"]], np.full(len(runs), np.nan)),
        order[runs["first"]],
    )
    found = pd.DataFrame({part: np.asarray(column) for part, column in zip(INTERVALS, columns, strict=True)})
    _symbols(found["symbol"], name, problems)
    if problems:
        raise UniverseError(tuple(problems))
    return found.sort_values(["asset", "start"], ignore_index=True)

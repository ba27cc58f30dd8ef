"""Checks of a frame of bars, all reported at once with symbol, timestamp, value and remedy. Nothing is repaired."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentio_kedro.config import IngestionParameters

PRICE_COLUMNS = ("open", "high", "low", "close")
VALUE_COLUMNS = (*PRICE_COLUMNS, "volume")
COLUMNS = ("timestamp", "symbol", *VALUE_COLUMNS)
OPTIONAL_COLUMNS = ("dividend", "split", "spread", "funding")
EXAMPLES = 10
_OFFSET = r"(?:[zZ]|[+-]\d{2}:?\d{2}|UTC)$"

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Problem:
    """One kind of problem and its occurrences.

    Attributes:
        rule: What must hold, and the remedy.
        cases: One text per occurrence: symbol, timestamp, value.
    """

    rule: str
    cases: tuple[str, ...]


class BarsError(ValueError):
    """The bars cannot be used; the message lists every kind of problem with examples.

    Attributes:
        problems: The problems by kind.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        """Render ``problems`` into one readable message."""
        self.problems = problems
        lines = [f"The bars have {sum(len(problem.cases) for problem in problems)} problem(s):"]
        for problem in problems:
            lines.append(f"- {problem.rule} ({len(problem.cases)} case(s))")
            lines.extend(f"    {case}" for case in problem.cases[:EXAMPLES])
            if len(problem.cases) > EXAMPLES:
                lines.append(f"    ... and {len(problem.cases) - EXAMPLES} more")
        super().__init__("\n".join(lines))


def parse_timestamps(column: pd.Series) -> pd.Series:
    """Parse a column of ISO 8601 texts, dates or timestamps.

    Args:
        column: The ``timestamp`` column of a feed.

    Returns:
        Timestamps in UTC if they name their zone, else naive ones; NaT where unreadable, or naive among zoned ones.
    """
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        converted: pd.Series = column.dt.tz_convert("UTC")
        return converted
    if pd.api.types.is_datetime64_dtype(column.dtype):
        return column
    if pd.api.types.is_numeric_dtype(column.dtype):  # an epoch has no unit
        return pd.Series(pd.NaT, index=column.index, dtype="datetime64[ns]")
    text = column.astype("string").str.strip()
    zoned = text.str.contains(_OFFSET, regex=True).fillna(False).to_numpy(dtype=bool)
    if zoned.any():
        timestamps = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)
        read: pd.Series = timestamps.where(pd.Series(zoned, index=column.index))
        return read
    naive: pd.Series = pd.to_datetime(text, format="ISO8601", errors="coerce")
    return naive


def localize_timestamps(timestamps: pd.Series, timezone: str | None) -> pd.Series:
    """Read naive timestamps in ``timezone`` and return them in UTC.

    Args:
        timestamps: The result of ``parse_timestamps``.
        timezone: Zone of naive timestamps; null turns them into NaT.

    Returns:
        Timestamps in UTC; NaT where daylight saving makes them ambiguous or skips them.
    """
    if isinstance(timestamps.dtype, pd.DatetimeTZDtype):
        return timestamps
    if timezone is None:
        return pd.Series(pd.NaT, index=timestamps.index, dtype="datetime64[ns, UTC]")
    zoned: pd.Series = timestamps.dt.tz_localize(timezone, ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC")
    return zoned


def check_bars(frame: pd.DataFrame, parameters: IngestionParameters | None = None) -> None:
    """Check long bars.

    Args:
        frame: Long frame with ``timestamp, symbol, open, high, low, close, volume`` and optional columns.
        parameters: How bars are read; without them naive timestamps pass, since their zone may be configured.

    Raises:
        BarsError: With every problem, its symbol, timestamp, value and remedy.
    """
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        rule = "columns are missing: rename the feed's columns, or add them"
        raise BarsError((Problem(rule, tuple(f"column `{column}`" for column in missing)),))
    if frame.empty:
        raise BarsError((Problem("there must be bars: point `bars` in the catalog at a feed", ("0 rows",)),))
    frame = frame.reset_index(drop=True)
    problems = [*_timestamp_problems(frame, parameters), *_value_problems(frame)]
    if problems:
        raise BarsError(tuple(problems))


def _problem(frame: pd.DataFrame, rule: str, wrong: Mask, value: Callable[[int], Any]) -> list[Problem]:
    rows = np.flatnonzero(wrong)
    if not rows.size:
        return []
    return [Problem(rule, tuple(f"{_place(frame, row)} {value(row)}" for row in rows.tolist()))]


def _place(frame: pd.DataFrame, row: int) -> str:
    """Return symbol and timestamp of a row, short: the catalog cuts examples at 40 characters."""
    raw = frame["timestamp"].iloc[row]
    timestamp = None if isinstance(raw, int | float) else pd.to_datetime(raw, errors="coerce")
    if not isinstance(timestamp, pd.Timestamp):  # NaT is none
        return f"{frame['symbol'].iloc[row]} {raw}"
    zone = "" if timestamp.tzinfo is None else "Z"
    text = (timestamp if timestamp.tzinfo is None else timestamp.tz_convert("UTC")).tz_localize(None).isoformat()
    return f"{frame['symbol'].iloc[row]} {text.removesuffix(':00')}{zone}"


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _timestamp_problems(frame: pd.DataFrame, parameters: IngestionParameters | None) -> list[Problem]:
    timestamps = parse_timestamps(frame["timestamp"])
    unread = timestamps.isna().to_numpy()
    problems = _problem(
        frame,
        "timestamp must be an ISO 8601 date and time, all with a zone or all without: rewrite the timestamp",
        unread,
        lambda row: f"is {frame['timestamp'].iloc[row]!r}",
    )
    if parameters is not None:
        zone = parameters.timezone
        rule = (
            "timestamp is naive: set `ingestion.timezone` to the feed's zone, or write timestamps with a zone"
            if zone is None
            else f"timestamp is skipped or doubled by daylight saving in {zone}: write timestamps with a zone"
        )
        lost = localize_timestamps(timestamps, zone).isna().to_numpy() & ~unread
        problems += _problem(frame, rule, lost, lambda row: "has no zone" if zone is None else f"in {zone}")
    keyed = pd.DataFrame({"symbol": frame["symbol"], "timestamp": timestamps})
    twice = keyed.duplicated().to_numpy() & ~unread
    step = timestamps.groupby(frame["symbol"], sort=False).diff()
    back = (step < pd.Timedelta(0)).to_numpy() & ~twice
    problems += _problem(
        frame, "timestamp is duplicated within its symbol: keep one bar", twice, lambda row: f"row {row}"
    )
    problems += _problem(
        frame,
        "timestamps must increase within a symbol: sort by symbol and timestamp",
        back,
        lambda row: f"row {row}",
    )
    return problems


def _value_problems(frame: pd.DataFrame) -> list[Problem]:
    names = [*VALUE_COLUMNS, *(name for name in OPTIONAL_COLUMNS if name in frame.columns)]
    number = {
        name: pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan) for name in names
    }
    finite = {name: np.isfinite(values) for name, values in number.items()}
    empty = {name: frame[name].isna().to_numpy(dtype=bool) for name in names if name in OPTIONAL_COLUMNS}
    nameless = frame["symbol"].isna().to_numpy()
    finite_bar = np.logical_and.reduce([finite[name] for name in VALUE_COLUMNS])

    def listing(wrong: dict[str, Mask]) -> tuple[Mask, Callable[[int], str]]:
        masks = [*wrong.values(), np.zeros(len(frame), dtype=bool)]
        return np.logical_or.reduce(masks), lambda row: ", ".join(
            f"{name}={_short(frame[name].iloc[row])}" for name, mask in wrong.items() if mask[row]
        )

    below = {"high": finite_bar & (number["high"] < number["low"])}
    ends = {
        name: finite_bar & ~below["high"] & ((number[name] > number["high"]) | (number[name] < number["low"]))
        for name in ("open", "close")
    }
    amounts: dict[str, Mask] = {}
    for name in ("volume", "spread"):
        if name in number:
            amounts[name] = finite[name] & (number[name] < 0.0)
    if "split" in number:
        amounts["split"] = finite["split"] & (number["split"] <= 0.0)
    rules = [
        ("symbol must not be empty: name the asset", listing({"symbol": nameless})),
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
            (below["high"], lambda row: f"high={_short(number['high'][row])} low={_short(number['low'][row])}"),
        ),
        ("open and close must lie in [low, high]: correct or drop the bar", listing(ends)),
        (
            "volume and spread must be 0 or more, split above 0: correct the value",
            listing(amounts),
        ),
        (
            "dividend must be 0 or more: correct the value",
            listing({"dividend": number["dividend"] < 0.0} if "dividend" in number else {}),
        ),
    ]
    problems = [problem for rule, (mask, value) in rules for problem in _problem(frame, rule, mask, value)]
    return problems + _constant_problems(frame, number)


def _constant_problems(frame: pd.DataFrame, number: dict[str, NDArray[np.float64]]) -> list[Problem]:
    prices = pd.DataFrame({name: number[name] for name in PRICE_COLUMNS}).groupby(frame["symbol"], sort=True)
    low, high, rows = prices["low"].min(), prices["high"].max(), prices.size()
    flat = [symbol for symbol in low.index if rows[symbol] > 1 and low[symbol] == high[symbol]]
    if not flat:
        return []
    first = frame.drop_duplicates("symbol").set_index("symbol").index
    cases = tuple(
        f"{_place(frame, int(np.flatnonzero(frame['symbol'] == symbol)[0]))} price={_short(low[symbol])}"
        for symbol in first
        if symbol in flat
    )
    return [Problem("prices never change: drop the symbol, or check that its feed is alive", cases)]

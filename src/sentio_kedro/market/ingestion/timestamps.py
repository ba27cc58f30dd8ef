"""Timestamps of bars: reading them, their range, and arithmetic on the ends of bars."""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Timestamps = NDArray[np.datetime64]

FIRST_YEAR, LAST_YEAR = 1678, 2261
"""Whole years that nanoseconds since 1970 hold; beyond 1677-09-21 and 2262-04-11 they wrap around."""
RANGE = f"the years {FIRST_YEAR} to {LAST_YEAR}"
_BEGIN, _END = np.datetime64(f"{FIRST_YEAR}-01-01"), np.datetime64(f"{LAST_YEAR + 1}-01-01")
_OFFSET = r"(?:[zZ]|UTC|[Tt ]\d{2}.*[+-]\d{2}(?::?\d{2})?)$"
_YEAR = np.timedelta64(36_525 * 24 * 36, "s")  # 365.25 days
_FINER = r"\.\d{10}"  # than nanoseconds
EPOCH_UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""Units of epochs and their nanoseconds; of the years 1990 to 2100 each has numbers of its own."""
_FIRST_SECOND, _LAST_SECOND = 631_152_000, 4_133_980_800  # 1990-01-01 and 2101-01-01
_WHOLE_FLOATS = 2**53  # beyond, floats skip integers
_EPOCH_TEXT = r"\d{9,19}(?:\.0*)?"


class Epochs(NamedTuple):
    """A column of numbers that count time since 1970.

    Attributes:
        timestamps: Moments in UTC; NaT where a number is none of ``unit``.
        unit: One of ``EPOCH_UNITS``, that of the first number that has one; null if none has.
        units: Unit of each row [n], "" where it has none.
    """

    timestamps: pd.Series
    unit: str | None
    units: NDArray[np.str_]


def read_epochs(column: pd.Series) -> Epochs | None:
    """Read numbers, or texts of digits alone, as time since 1970 by their magnitude; null if the column holds others.

    A column is read in one unit, and never beyond the years 1990 to 2100: dates that are written as numbers (20240102,
    45293 of a spreadsheet, 2024010209) are none.
    """
    numbers, whole = _whole_numbers(column)
    if numbers is None:
        return None
    units = np.full(len(numbers), "", dtype="<U2")
    for name, size in EPOCH_UNITS.items():
        scale = 10**9 // size
        units[whole & (numbers >= _FIRST_SECOND * scale) & (numbers < _LAST_SECOND * scale)] = name
    if _are_written_hours(numbers[units == "s"]):
        units[units == "s"] = ""
    named = np.flatnonzero(units != "")
    unit = str(units[named[0]]) if named.size else None
    good = units == unit
    moments = np.where(good, numbers * EPOCH_UNITS.get(unit or "", 1), np.iinfo(np.int64).min)  # the smallest is NaT
    timestamps = pd.Series(moments.view("datetime64[ns]"), index=column.index).dt.tz_localize("UTC")
    return Epochs(timestamps, unit, units)


def _whole_numbers(column: pd.Series) -> tuple[NDArray[np.int64] | None, NDArray[np.bool_]]:
    """Return a column as integers [n] and where they are exact; null for one of dates or other texts."""
    numeric = pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)
    if not numeric:
        first = column.iloc[int(np.argmax(column.notna().to_numpy()))] if len(column) else None
        if isinstance(first, str) and re.fullmatch(_EPOCH_TEXT, first.strip()):
            texts = column.astype("string").str.strip()
            digits = texts.str.fullmatch(_EPOCH_TEXT).fillna(False)
            column = texts.where(digits, "0").str.partition(".")[0]
        elif not isinstance(first, int | float | np.integer | np.floating) or isinstance(first, bool):
            return None, np.zeros(0, dtype=bool)
        column = pd.to_numeric(column, errors="coerce")
    if column.dtype.kind in "iu":
        values = column.to_numpy()
        return values.astype(np.int64), np.asarray(values >= 0) & (values <= np.iinfo(np.int64).max)
    floats = column.to_numpy(dtype=np.float64, na_value=np.nan)
    whole = np.isfinite(floats) & (np.abs(floats) < _WHOLE_FLOATS)
    whole[whole] = floats[whole] == np.floor(floats[whole])
    return np.where(whole, floats, 0.0).astype(np.int64), whole


def _are_written_hours(seconds: NDArray[np.int64]) -> bool:
    """Return whether numbers look like 2024010209, a date and an hour, which are seconds of the year 2034."""
    month, day, hour = seconds // 10_000 % 100, seconds // 100 % 100, seconds % 100
    inside = (seconds // 10**6 >= 1990) & (seconds // 10**6 <= 2100)  # noqa: PLR2004
    written = inside & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31) & (hour <= 24)  # noqa: PLR2004
    return bool(seconds.size and written.all())


def parse_timestamps(column: pd.Series) -> pd.Series:
    """Parse a column of ISO 8601 texts, dates, timestamps of any resolution, or epochs (see ``read_epochs``).

    Args:
        column: The ``timestamp`` column of a feed.

    Returns:
        Nanoseconds, in UTC if the timestamps name their zone, else naive. NaT where unreadable, outside ``RANGE``,
        finer than nanoseconds, or naive among zoned ones.
    """
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return _in_range(column.dt.tz_convert("UTC"))
    if pd.api.types.is_datetime64_dtype(column.dtype):
        return _in_range(column)
    epochs = read_epochs(column)
    if epochs is not None:
        return epochs.timestamps
    try:
        text = column.astype("string").str.strip()
    except UnicodeError:  # among bytes or halves of characters
        text = column.map(lambda value: ascii(str(value))[1:-1]).astype("string").str.strip()
    text = text.mask(text.str.contains(_FINER, regex=True))
    zoned = text.str.contains(_OFFSET, regex=True).fillna(False).to_numpy(dtype=bool)
    if zoned.any():
        return _in_range(pd.to_datetime(text.where(zoned), format="ISO8601", errors="coerce", utc=True))
    return _in_range(pd.to_datetime(text, format="ISO8601", errors="coerce"))


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


def utc_timestamps(timestamps: pd.Series) -> Timestamps:
    """Return timestamps [n] in UTC of any resolution as an array of nanoseconds.

    Raises:
        ValueError: If nanoseconds do not hold one.
    """
    try:
        exact = timestamps.dt.tz_localize(None).dt.as_unit("ns")
    except pd.errors.OutOfBoundsDatetime as error:
        raise ValueError(_outside("timestamp", error)) from None
    ends: Timestamps = exact.to_numpy(dtype="datetime64[ns]")
    return ends


def wall_clock(timestamps: Timestamps, timezone: str) -> Timestamps:
    """Return what clocks in ``timezone`` show at ``timestamps`` [n] in UTC, daylight saving included."""
    shown = pd.DatetimeIndex(timestamps).tz_localize("UTC").tz_convert(timezone).tz_localize(None)
    return np.asarray(shown.to_numpy(dtype="datetime64[ns]"))


def moment(time: str | datetime, name: str = "time") -> np.datetime64:
    """Return one ``time``, UTC if it names no zone, in nanoseconds.

    Raises:
        ValueError: If it cannot be read or nanoseconds do not hold it, with its ``name``.
    """
    stamp = pd.Timestamp(time)
    stamp = stamp if stamp.tzinfo is None else stamp.tz_convert("UTC").tz_localize(None)
    try:
        return stamp.as_unit("ns").to_datetime64()
    except pd.errors.OutOfBoundsDatetime as error:
        raise ValueError(_outside(name, error)) from None


def _outside(name: str, error: pd.errors.OutOfBoundsDatetime) -> str:
    return f"`{name}` must lie in {RANGE}, which nanoseconds hold ({error}); correct it."


def _in_range(timestamps: pd.Series) -> pd.Series:
    """Convert timestamps of any resolution, naive or in UTC, to nanoseconds; NaT outside ``RANGE``."""
    parts = timestamps.dt
    values = timestamps.to_numpy(dtype=f"datetime64[{parts.unit}]")
    inside = (values >= _BEGIN.astype(values.dtype)) & (values < _END.astype(values.dtype))
    exact: pd.Series = (parts if inside.all() else timestamps.where(inside).dt).as_unit("ns")
    return exact


def shortest_common_gap(gaps: NDArray[np.timedelta64]) -> np.timedelta64:
    """Return the most common of ``gaps`` [n]; the shortest one if several are.

    Raises:
        ValueError: If there is no gap.
    """
    if not gaps.size:
        raise ValueError(
            "The length of a bar does not follow from one bar per symbol; set `ingestion.bar_minutes` to its minutes."
        )
    place, lengths = pd.factorize(gaps.astype("timedelta64[ns]").view(np.int64))  # quicker than to sort millions
    counts = np.bincount(place, minlength=len(lengths))
    return np.timedelta64(lengths[counts == counts.max()].min(), "ns")


def most_common_gap(timestamps: Timestamps) -> np.timedelta64:
    """Return the most common distance of neighbouring timestamps [T]; the shortest one if several are.

    Raises:
        ValueError: If there are fewer than two timestamps.
    """
    return shortest_common_gap(np.diff(timestamps))


def days_since_previous(timestamps: Timestamps) -> Floats:
    """Return the days since the previous bar [T]; 0 for the first."""
    elapsed = np.zeros(len(timestamps))
    elapsed[1:] = np.diff(timestamps) / np.timedelta64(1, "D")
    return elapsed


def closing_days(timestamps: Timestamps) -> NDArray[np.datetime64]:
    """Return the UTC day of each bar [T]; a bar that ends at midnight belongs to the day that it closes."""
    return (timestamps - np.timedelta64(1, "ns")).astype("datetime64[D]")


def bars_per_session(timestamps: Timestamps) -> float:
    """Return the median number of bars of a UTC day that has bars.

    Args:
        timestamps: Bar ends [T]; a bar that ends at midnight belongs to the day that it closes.
    """
    _, counts = np.unique(closing_days(timestamps), return_counts=True)
    return float(np.median(counts))


def periods_per_year(timestamps: Timestamps, sessions_per_year: float, *, mixed: bool = False) -> float:
    """Return the bars of a year: trading days a year times the median bars of a UTC day that has bars.

    Where symbols have calendars of their own, days differ, and the bars of the grid over its years count instead.

    Args:
        timestamps: Bar ends [T]; a bar that ends at midnight belongs to the day that it closes.
        sessions_per_year: Trading days a year (365 for crypto, 252 for US equities).
        mixed: Whether symbols have calendars of their own.
    """
    if mixed and len(timestamps) > 1:
        return float((len(timestamps) - 1) / ((timestamps[-1] - timestamps[0]) / _YEAR))
    return float(sessions_per_year * bars_per_session(timestamps))

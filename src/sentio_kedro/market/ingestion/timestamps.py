"""Timestamps of bars: reading them, their range, and arithmetic on the ends of bars."""

from __future__ import annotations

from datetime import datetime

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
_FINER = r"\.\d{10}"  # than nanoseconds


def parse_timestamps(column: pd.Series) -> pd.Series:
    """Parse a column of ISO 8601 texts, dates or timestamps of any resolution.

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
    if pd.api.types.is_numeric_dtype(column.dtype):  # an epoch has no unit
        return pd.Series(pd.NaT, index=column.index, dtype="datetime64[ns]")
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
    lengths, counts = np.unique(gaps.astype("timedelta64[ns]"), return_counts=True)
    return np.timedelta64(lengths[np.argmax(counts)], "ns")


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


def periods_per_year(timestamps: Timestamps, sessions_per_year: float) -> float:
    """Return the bars of a year: trading days a year times the median bars of a UTC day that has bars.

    Args:
        timestamps: Bar ends [T]; a bar that ends at midnight belongs to the day that it closes.
        sessions_per_year: Trading days a year (365 for crypto, 252 for US equities).
    """
    return float(sessions_per_year * bars_per_session(timestamps))

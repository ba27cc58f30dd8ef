"""Timestamps of vendors' files: texts of many forms, epochs by their magnitude, dates and times in two columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sentio_kedro.market.formats.cells.shapes import NUMERAL, PLACE, Shape, shape_of
from sentio_kedro.market.formats.records import DateOrder
from sentio_kedro.market.ingestion.timestamps import FIRST_YEAR, LAST_YEAR, RANGE, localize_timestamps

Fault = Callable[[int, str, str], Exception]
"""Makes the refusal of a row from its number, what is wrong and the remedy."""

_EPOCHS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_FIRST, _LAST = 631_152_000.0, 4_102_444_800.0  # 1990 to 2100, seconds
_EXCEL = (25_569.0, 80_000.0)  # 1970 to 2119, days


@dataclass(frozen=True, eq=False)
class Stamps:
    """Timestamps that were read.

    Attributes:
        values: Naive, or in UTC if their zone is known, [n].
        shape: How the first is written.
        order: Order of day and month, if it mattered.
        told: How they were read, one sentence.
    """

    values: pd.Series
    shape: Shape
    order: DateOrder | None = None
    told: str = ""


def joined(dates: pd.Series, times: pd.Series) -> pd.Series:
    """Return dates and times of two columns as one text each; times that lost leading zeros get them back."""
    time = _text(times)
    digits = time.str.fullmatch(r"\d{1,6}")
    if digits.all() and len(time):
        longest = int(time.str.len().max())
        width = 6 if longest > 4 or (time.astype(float) > 2359).any() else 4  # noqa: PLR2004 - HHMMSS or HHMM
        time = time.str.zfill(width)
    return _text(dates) + " " + time


def _text(column: pd.Series) -> pd.Series:
    text: pd.Series = column.astype("str").str.strip().str.strip("'\"")
    return text.str.removesuffix(".0") if pd.api.types.is_float_dtype(column.dtype) else text


def read_stamps(column: pd.Series, order: DateOrder | None, fault: Fault) -> Stamps:
    """Read a column of timestamps.

    Args:
        column: Texts, numbers or datetimes, without gaps.
        order: Order of day and month where no row decides it.
        fault: Makes a refusal.

    Raises:
        Exception: What ``fault`` makes, for the first row that cannot be read as the others are.
    """
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return _typed(column, fault)
    if column.dtype == object and len(column) and hasattr(column.iloc[0], "year"):
        return read_stamps(pd.to_datetime(column), order, fault)
    text = _text(column)
    empty = np.flatnonzero((text.isin(["", "nan", "null", "None", "NaN", "<NA>"]) | text.isna()).to_numpy(dtype=bool))
    if empty.size:
        raise fault(int(empty[0]), "has no timestamp", "write it, or delete the row")
    named = PLACE.search(text.iloc[0])
    if named is not None:
        return _in_zone(text, named[0], order, fault)
    shape = shape_of(text.iloc[0])
    if shape.kind == "unknown":
        raise fault(
            0, f"has the timestamp {text.iloc[0]!r}, which has no form that is known", "write it as 2024-01-31 14:30:00"
        )
    if shape.kind == "epoch":
        return _epochs(text, shape, fault)
    how = ""
    if shape.kind == "day or month first":
        order, how = _date_order(text, order, shape, fault)
    return Stamps(_parsed(text, shape, order, fault), shape, order, how)


def _in_zone(text: pd.Series, suffix: str, order: DateOrder | None, fault: Fault) -> Stamps:
    """Read times that end with the name of their zone, such as ``US/Eastern``."""
    other = np.flatnonzero(~text.str.endswith(suffix).to_numpy(dtype=bool))
    if other.size:
        stamp = text.iloc[int(other[0])]
        raise fault(int(other[0]), f"has the timestamp {stamp!r}, and others are of {suffix.strip()}", "write one zone")
    read = read_stamps(text.str.removesuffix(suffix), order, fault)
    try:
        values = localize_timestamps(read.values, suffix.strip())
    except (KeyError, ValueError):
        raise fault(0, f"has the zone {suffix.strip()!r}, which is unknown", "write times with an offset") from None
    lost = np.flatnonzero(values.isna().to_numpy())
    if lost.size:
        stamp = text.iloc[int(lost[0])]
        raise fault(
            int(lost[0]), f"has the timestamp {stamp!r}, skipped or doubled there", "write times with an offset"
        )
    return Stamps(values, replace(read.shape, has_zone=True), read.order, read.told)


def _typed(column: pd.Series, fault: Fault) -> Stamps:
    empty = np.flatnonzero(column.isna().to_numpy())
    if empty.size:
        raise fault(int(empty[0]), "has no timestamp", "write it, or delete the row")
    zoned = isinstance(column.dtype, pd.DatetimeTZDtype)
    values = column.dt.tz_convert("UTC") if zoned else column
    outside = np.flatnonzero(((values.dt.year < FIRST_YEAR) | (values.dt.year > LAST_YEAR)).to_numpy())
    if outside.size:
        row = int(outside[0])
        raise fault(row, f"has the timestamp {column.iloc[row]}, outside of {RANGE}", "correct it, or delete the row")
    midnight = bool((column == column.dt.normalize()).all())
    return Stamps(values.dt.as_unit("ns"), Shape("typed", has_time=zoned or not midnight, has_zone=zoned))


def _epochs(text: pd.Series, shape: Shape, fault: Fault) -> Stamps:
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    values = np.full(len(text), np.nan)
    units = []
    for unit, per_second in _EPOCHS.items():
        inside = (numbers >= _FIRST * per_second) & (numbers < _LAST * per_second)
        if inside.any():
            units.append((int(np.argmax(inside)), unit))
            values[inside] = 1e9 / per_second
    wrong = np.flatnonzero(np.isnan(values))
    if wrong.size:
        raise _no_epoch(int(wrong[0]), text.iloc[wrong[0]], numbers[wrong[0]], units, fault)
    whole = pd.to_numeric(text).to_numpy()
    exact = whole.astype(np.int64) * values.astype(np.int64)
    if whole.dtype.kind == "f":
        exact += np.round((whole - np.floor(whole)) * values).astype(np.int64)
    stamps = pd.Series(pd.DatetimeIndex(exact.view("datetime64[ns]"), tz="UTC"), index=text.index)
    names = " and then ".join(
        {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}[u] for _, u in sorted(units)
    )
    first, last = stamps.min(), stamps.max()
    return Stamps(
        stamps,
        shape,
        None,
        f"Timestamps are {names} since 1970 in UTC: {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}.",
    )


def _no_epoch(row: int, text: str, number: float, units: Sequence[tuple[int, str]], fault: Fault) -> Exception:
    if not units and _EXCEL[0] <= number <= _EXCEL[1]:
        day = pd.Timestamp("1899-12-30") + pd.Timedelta(days=number)
        return fault(
            row,
            f"has the timestamp {text}, which looks like an Excel date number ({day:%Y-%m-%d}, or four years later "
            "if it is from an old Excel for Mac)",
            "format the column as yyyy-mm-dd hh:mm:ss in Excel and export it again",
        )
    return fault(
        row,
        f"has the timestamp {text!r}, which is no date and no seconds, milliseconds, microseconds or nanoseconds "
        "since 1970 of the years 1990 to 2099",
        "write it as 2024-01-31 14:30:00",
    )


def date_order_of(column: pd.Series) -> DateOrder | None:
    """Return the order of day and month that some row decides, or points between them say; none if nothing does."""
    text = _text(column)
    days = _days(text)
    for part, order in enumerate(("dmy", "mdy")):
        if (days[part] > 12).any():  # noqa: PLR2004 - months
            return "dmy" if order == "dmy" else "mdy"
    return "dmy" if _matching(text, r"^\d{1,2}\.\d{1,2}\.").all() else None


def _date_order(text: pd.Series, order: DateOrder | None, shape: Shape, fault: Fault) -> tuple[DateOrder, str]:
    days = _days(text)
    first, second = (days.index[(days[part] > 12).fillna(False)].to_numpy() for part in (0, 1))  # noqa: PLR2004
    if first.size and second.size:
        row, other = max(first[0], second[0]), min(first[0], second[0])
        raise fault(
            int(row),
            f"has the date {text.iloc[row]!r}, which is month and day the other way round than {text.iloc[other]!r}",
            "export the dates again as yyyy-mm-dd",
        )
    if first.size or second.size:
        found: DateOrder = "dmy" if first.size else "mdy"
        row = int(first[0] if first.size else second[0])
        if order is not None and order != found:
            raise fault(row, f"has the date {text.iloc[row]!r}, which is not `{order}`", f"set `date_order: {found}`")
        return found, f"Dates are {'day' if first.size else 'month'} first: {text.iloc[row]!r} decides it."
    if order is not None:
        return order, ""
    if "." in shape.form[:5]:
        return "dmy", f"Dates such as {text.iloc[0]!r} with points are day first."
    raise fault(
        0,
        f"has the date {text.iloc[0]!r}, and no row says whether day or month is first",
        "set `date_order: dmy` or `date_order: mdy`",
    )


def _parsed(text: pd.Series, shape: Shape, order: DateOrder | None, fault: Fault) -> pd.Series:
    """Parse texts that are written as the first, but for a fraction of seconds or seconds that may be absent."""
    named = _names_zone(text)
    odd = np.flatnonzero(named != shape.has_zone)
    if odd.size:
        kind = (
            "names a zone where the rows before do not" if named[odd[0]] else "has no zone where the rows before have"
        )
        raise fault(
            int(odd[0]),
            f"has the timestamp {text.iloc[odd[0]]!r}, which {kind}",
            "write all timestamps with a zone, or all without",
        )
    if shape.has_zone:
        text = text.str.replace(r"(?:UTC|GMT|\s)*([+-]\d{2}(?::?\d{2})?)$", r"\1", regex=True)
        text = text.str.replace(r"\s*(?:Z|UTC|GMT)$", "+00:00", regex=True)
        text = text.str.replace(r"([+-]\d{2})$", r"\1:00", regex=True)
    result = pd.Series(pd.NaT, index=text.index, dtype="datetime64[ns, UTC]" if shape.has_zone else "datetime64[ns]")
    left = np.arange(len(text))
    for _ in range(6):  # seconds and fractions may be absent: few forms
        own = shape_of(text.iloc[left[0]])
        if (own.kind, own.has_time) != (shape.kind, shape.has_time) or _date_of(own) != _date_of(shape):
            break
        form = own.ordered(order) + ("%z" if shape.has_zone else "")
        some = text.iloc[left] if len(left) < len(text) else text
        parsed = pd.to_datetime(some, format=form, errors="coerce", utc=shape.has_zone, cache=False)
        good = (parsed.notna() & parsed.dt.year.between(FIRST_YEAR, LAST_YEAR)).to_numpy()
        result.iloc[left[good]] = parsed[good].astype(result.dtype)
        left, before = left[~good], len(left)
        if not left.size:
            return result
        if len(left) == before:
            break
    row = int(left[0])
    if NUMERAL.match(text.iloc[row]) and _EXCEL[0] <= float(text.iloc[row]) <= _EXCEL[1]:
        raise _no_epoch(row, text.iloc[row], float(text.iloc[row]), (), fault)
    raise fault(
        row,
        f"has the timestamp {text.iloc[row]!r}, which is not written as {text.iloc[0]!r} of the first row",
        "correct it; daily and intraday bars belong in files of their own",
    )


def _date_of(shape: Shape) -> str:
    return shape.form[:8].replace("%B", "%b")  # May


def _names_zone(text: pd.Series) -> NDArray[np.bool_]:
    return _matching(text, r"(?:Z|UTC|GMT|:\d{2}(?:\.\d+)?\s*(?:UTC|GMT)?\s*[+-]\d{2}(?::?\d{2})?)$")


def _matching(text: pd.Series, pattern: str) -> NDArray[np.bool_]:
    """Return where a pattern is found in texts [n]; by Arrow, which is ten times faster than pandas here."""
    found = pc.match_substring_regex(pa.array(text, type=pa.string()), pattern)
    values: NDArray[np.bool_] = found.to_numpy(zero_copy_only=False)
    return values.astype(bool)


def _days(text: pd.Series) -> pd.DataFrame:
    """Return the two numbers that begin each different date of texts, with its first row as index."""
    begin = pa.array(text.str.slice(0, 10), type=pa.string())
    begin = begin.combine_chunks() if isinstance(begin, pa.ChunkedArray) else begin
    codes = begin.dictionary_encode()
    first = np.unique(codes.indices.to_numpy(zero_copy_only=False), return_index=True)[1]
    parts = pd.Series(codes.dictionary.to_pylist(), index=first, dtype="str").str.extract(
        r"^(\d{1,2})[-/.](\d{1,2})[-/.]\d"
    )
    return parts.astype("Float64").sort_index()

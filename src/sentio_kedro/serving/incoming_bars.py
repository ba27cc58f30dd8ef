"""Checks of the bars that arrive at a decision session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentio_kedro.config import IngestionParameters, OwnColumn
from sentio_kedro.config.symbols import unknown_symbols
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars, Leavers
from sentio_kedro.market.ingestion.bar_checks import (
    COLUMNS,
    OPTIONAL_COLUMNS,
    VALUE_COLUMNS,
    check_bars,
)
from sentio_kedro.market.ingestion.bars import align_bars, bars_on_grid, whole_rows
from sentio_kedro.market.ingestion.checks.values import delivered_values
from sentio_kedro.market.ingestion.own_columns import known_columns
from sentio_kedro.market.ingestion.problems import BarsError, Problem, shown
from sentio_kedro.market.ingestion.timestamps import Floats, Timestamps, parse_timestamps

_NANOSECONDS = pd.DatetimeTZDtype("ns", "UTC")
_MINUTE = 60_000_000_000  # nanoseconds

RawBars = AlignedBars | pd.DataFrame
"""Aligned bars, or a long frame whose timestamps are ends of bars with a zone."""


class GapBounds(NamedTuple):
    """Bounds of the time from one bar to the next.

    Attributes:
        shortest: Of the history; a bar that comes sooner has another length.
        longest: Beyond it, bars are missing.
    """

    shortest: np.timedelta64
    longest: np.timedelta64


def new_rows(
    new_bars: RawBars,
    earlier: AlignedBars,
    bounds: GapBounds,
    *,
    drop_bar: bool = False,
    own: Sequence[str] = (),
) -> list[AlignedBars]:
    """Return new rows of the grid one by one, if all of them may follow the ``earlier`` bars.

    A symbol without a bar at a timestamp is halted there.

    Args:
        new_bars: The bars.
        earlier: Bars so far.
        bounds: Of the time from one bar to the next.
        drop_bar: Drop timestamps that not all symbols have, instead of halting symbols without a bar.
        own: Own columns that the agents read, as known at each bar's end; NaN where nothing is new.

    Raises:
        ValueError: If the bars are of other symbols, lack an own column, are not later than the earlier ones, leave a
            gap, come too soon, or are none.
        BarsError: If a value is invalid.
    """
    bars = new_bars if isinstance(new_bars, AlignedBars) else aligned_new(new_bars, own)
    bars = with_own(of_symbols(bars, earlier.symbols), own)
    if not len(bars.timestamps):
        raise ValueError("There must be new bars, were 0 rows; give a bar, or null to decide again at the newest one.")
    _refuse_disorder(bars.timestamps, earlier.timestamps[-1], bounds)
    _refuse_invalid(bars)
    bars = whole_rows(bars) if drop_bar else bars
    return [bars.rows(slice(row, row + 1)) for row in range(len(bars.timestamps))]


def _refuse_disorder(timestamps: Timestamps, newest: np.datetime64, bounds: GapBounds) -> None:
    before = np.concatenate([[newest], timestamps[:-1]])
    late = int((~(timestamps > np.maximum(before, newest))).sum())  # NaT is too
    if late:
        raise ValueError(
            f"New bars must be later than the newest bar known, {_text(newest)}, the first was {_text(timestamps[0])}; "
            f"give each bar once, in order of time ({late} of {len(timestamps)} are too old)."
        )
    require_gaps(timestamps, newest, bounds, "if there were none, give `decide` a `longest_gap` of that length")


def require_gaps(timestamps: Timestamps, newest: np.datetime64, bounds: GapBounds, remedy: str) -> None:
    """Refuse bars at ``timestamps`` [n], increasing and later than the ``newest``, that come too soon or too late.

    Args:
        timestamps: Ends of the bars, UTC.
        newest: End of the bar before them.
        bounds: Of the time from one bar to the next.
        remedy: What to do about a gap in which there were no bars.

    Raises:
        ValueError: With the first of them and the bound.
    """
    before = np.concatenate([[newest], timestamps[:-1]])
    gaps = (timestamps - before).view(np.uint64) / _MINUTE  # of up to 584 years
    shortest, longest = (bound / np.timedelta64(1, "m") for bound in bounds)
    if (gaps < shortest).any():
        row = int(np.argmax(gaps < shortest))
        raise ValueError(
            f"The bar at {_text(timestamps[row])} ends {gaps[row]:g} minutes after the one before, bars of the history "
            f"at least {shortest:g}: it has another length, or is not complete; give whole bars of the same length."
        )
    if (gaps > longest).any():
        row = int(np.argmax(gaps > longest))
        raise ValueError(
            f"The bars from {_text(before[row])} to {_text(timestamps[row])} are missing: {gaps[row]:g} minutes "
            f"have passed, at most {longest:g} may; give the bars in between; {remedy}."
        )


def read_history(frame: pd.DataFrame, own: Sequence[str], timezone: str | None = None) -> AlignedBars:
    """Align a long frame of bars whose own columns are what was known at each bar's end.

    Args:
        frame: The bars.
        own: Own columns that the agents read.
        timezone: Zone of naive timestamps; null refuses them.

    Raises:
        BarsError: If the bars cannot be used.
    """
    return align_bars(frame, _as_known(frame, own, timezone))


def _as_known(frame: pd.DataFrame, own: Sequence[str], timezone: str | None = None) -> IngestionParameters:
    """Return how bars are read whose own columns hold what was known; a missing one is refused by ``with_own``."""
    present = {name: OwnColumn(known_at="bar_end") for name in own if name in frame and name not in OPTIONAL_COLUMNS}
    return IngestionParameters(timezone=timezone, columns=present)


def aligned_new(frame: pd.DataFrame, own: Sequence[str] = ()) -> AlignedBars:
    """Put a long frame of a few bars on a grid, with the columns ``own`` that it has.

    Raises:
        BarsError: If columns, timestamps or values are invalid; see ``check_bars``.
    """
    if not frame.columns.is_unique:
        check_bars(frame, IngestionParameters())  # passes if other columns occur twice
        frame = frame[[name for name in dict.fromkeys((*COLUMNS, *OPTIONAL_COLUMNS, *own)) if name in frame]]
    columns = {str(name): column for name, column in frame.items()}  # quicker than one by one
    if not set(COLUMNS) <= set(columns) or not len(frame):
        check_bars(frame, IngestionParameters())
    timestamps, symbols = columns["timestamp"], columns["symbol"].to_numpy(dtype=object)
    if timestamps.dtype != _NANOSECONDS:
        timestamps = parse_timestamps(timestamps)
    read = [name for name in (*VALUE_COLUMNS, *OPTIONAL_COLUMNS) if name in columns]
    numeric = all(columns[name].dtype.kind in "iuf" for name in read)
    if timestamps.dtype != _NANOSECONDS or not numeric:
        check_bars(frame, IngestionParameters())
    ends, values = timestamps.to_numpy(dtype="datetime64[ns]"), delivered_values(columns)
    values |= known_columns(frame, ends, _as_known(frame, own)) if own else {}
    if _unusable(ends, symbols, [values[name] for name in VALUE_COLUMNS]):
        check_bars(frame, IngestionParameters())
    return bars_on_grid(ends, symbols, values)


def _unusable(ends: Timestamps, symbols: NDArray[np.object_], values: Sequence[Floats]) -> bool:
    """Return whether keys or numbers are missing or of another kind, or a bar occurs twice, which a grid would hide."""
    named = all(isinstance(symbol, str) for symbol in symbols)
    gaps = np.isnat(ends).any() or not named or any(np.isnan(column).any() for column in values)
    return bool(gaps or len(set(zip(ends.view(np.int64).tolist(), symbols.tolist(), strict=True))) < len(ends))


def with_own(bars: AlignedBars, own: Sequence[str]) -> AlignedBars:
    """Return the bars with no other own columns than ``own``.

    Raises:
        ValueError: If one is missing.
    """
    missing = [name for name in own if name not in bars.own]
    if missing:
        raise ValueError(
            f"The agents read the own columns {list(own)}, the bars lack {missing}; give each bar the value that is "
            "known at its end, or nothing where there is no new one."
        )
    return replace(bars, extra={name: bars.extra[name] for name in own if name in bars.extra})


def of_symbols(bars: AlignedBars, symbols: Sequence[str]) -> AlignedBars:
    """Return the bars with a column for each of ``symbols``, NaN where the bars have none.

    Raises:
        ValueError: If the bars hold other symbols too.
    """
    if bars.symbols == tuple(symbols):
        return bars
    unknown = unknown_symbols(bars.symbols, symbols)
    if unknown:
        raise ValueError(f"The agents trade {list(symbols)}, the bars hold {unknown} too; correct or leave those out.")
    place = [symbols.index(symbol) for symbol in bars.symbols]

    def widened(column: NDArray[Any], missing: Any = np.nan) -> NDArray[Any]:
        wide = np.full((len(bars.timestamps), len(symbols)), missing)
        wide[:, place] = column
        return wide

    wide = replace(bars.map_columns(widened), symbols=tuple(symbols))
    if bars.leavers is None:
        return wide
    settled = widened(bars.leavers.settled, missing=False)
    left = Leavers(of_symbols(bars.leavers.bars, symbols), settled, widened(bars.leavers.delisting_return))
    return replace(wide, leavers=left)


def _refuse_invalid(bars: AlignedBars) -> None:
    """Refuse the values that ``check_bars`` refuses, in a fraction of its time."""
    columns = bars.columns()
    present = np.logical_or.reduce([np.isfinite(columns[name]) for name in VALUE_COLUMNS])  # [T, A]
    empty = np.flatnonzero(~present.any(axis=1))
    if empty.size:
        raise ValueError(f"At {_text(bars.timestamps[empty[0]])} no symbol has a bar; leave out such rows.")
    with np.errstate(invalid="ignore"):
        sane = np.logical_and.reduce(
            [
                *(np.isfinite(columns[name]) for name in VALUE_COLUMNS),
                bars.low > 0.0,
                bars.volume >= 0.0,
                *(price >= bars.low for price in (bars.open, bars.close)),
                *(price <= bars.high for price in (bars.open, bars.close)),
                *(np.isfinite(columns[name]) for name in OPTIONAL_COLUMNS if name in columns),
                *(columns[name] >= 0.0 for name in ("dividend", "spread") if name in columns),
                *(columns[name] > 0.0 for name in ("split",) if name in columns),
                *(~np.isinf(values) for values in bars.extra.values()),
            ]
        )
    invalid = present & ~sane
    if not invalid.any():
        return
    row, asset = (int(index[0]) for index in np.nonzero(invalid))
    values = ", ".join(f"{name}={shown(column[row, asset])}" for name, column in columns.items())
    rule = "values must be finite and fit together (0 < low <= open, close <= high): correct the bar"
    first = f"{bars.symbols[asset]} {_text(bars.timestamps[row])} {values}"
    raise BarsError((Problem(rule, int(invalid.sum()), (first,)),))


def _text(timestamp: np.datetime64) -> str:
    return f"{np.datetime_as_string(timestamp, unit='s')}Z"

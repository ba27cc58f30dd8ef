"""Bars of several assets on one time grid."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.ingestion.adjustment import adjusted
from sentio_kedro.market.ingestion.aligned_bars import NEUTRAL, AlignedBars
from sentio_kedro.market.ingestion.bar_checks import (
    COLUMNS,
    OPTIONAL_COLUMNS,
    VALUE_COLUMNS,
    check_bars,
    numbers,
)
from sentio_kedro.market.ingestion.own_columns import known_columns
from sentio_kedro.market.ingestion.timestamps import (
    RANGE,
    Floats,
    Timestamps,
    localize_timestamps,
    most_common_gap,
    parse_timestamps,
    shortest_common_gap,
    utc_timestamps,
)

_MINUTE = 60_000_000_000  # nanoseconds


def align_bars(frame: pd.DataFrame, parameters: IngestionParameters) -> AlignedBars:
    """Put long bars on one grid of bar ends.

    Args:
        frame: Long bars as a feed delivers them.
        parameters: Label, zone and what to do with missing bars.

    Returns:
        Bars on the union of all timestamps (``missing: halt``) or on those that all symbols have (``drop_bar``). A
        missing bar is NaN. Optional columns that the feed lacks are null; where a bar has no value in one it is neutral
        (dividend 0, split 1, spread 0, funding 0). Splits and dividends of a dropped bar move to the asset's next bar.
        Own columns hold what was known at each bar's end.

    Raises:
        BarsError: If the bars cannot be used.
        ValueError: If no bar is left, or starts have no ends that can be told.
    """
    check_bars(frame, parameters)
    frame = frame.reset_index(drop=True)
    timestamps = localize_timestamps(parse_timestamps(frame["timestamp"]), parameters.timezone)
    ends = utc_timestamps(timestamps)
    if parameters.bar_label == "start":
        ends = _moved_to_ends(ends, frame["symbol"], parameters)
    own = known_columns(frame, ends, parameters)
    bars = bars_on_grid(ends, frame["symbol"].astype(str), delivered_values(frame) | own)
    return bars if parameters.missing == "halt" else whole_rows(bars)


def whole_rows(bars: AlignedBars) -> AlignedBars:
    """Return the rows that all symbols have; splits and dividends of dropped bars move to the asset's next bar.

    Raises:
        ValueError: If no row is left.
    """
    complete = np.asarray(bars.present.all(axis=1))
    if not complete.any():
        raise ValueError(
            "`ingestion.missing: drop_bar` leaves no bar: no timestamp has bars of all symbols "
            f"{list(bars.symbols)}; set `ingestion.missing: halt`, drop a symbol, or, in a session, give the bars "
            "together with the next that all symbols have."
        )
    return bars.without(~complete[:, None]).rows(complete)


def delivered_values(frame: pd.DataFrame | Mapping[str, pd.Series]) -> dict[str, Floats]:
    """Return the numbers of long bars by column, [n] each; NaN where there is none."""
    return {name: numbers(frame[name]) for name in (*VALUE_COLUMNS, *OPTIONAL_COLUMNS) if name in frame}


def bars_on_grid(
    ends: Timestamps, symbols: NDArray[np.object_] | pd.Series, values: Mapping[str, Floats]
) -> AlignedBars:
    """Put long bars [n] whose ends are ``ends`` [n] on one grid; a missing value of an optional column is neutral.

    ``values`` are those of ``delivered_values`` and own columns as known at the bars' ends.
    """
    grid, row = np.unique(ends, return_inverse=True)
    place, names = pd.factorize(symbols, sort=True)
    columns = {name: np.full((len(grid), len(names)), np.nan) for name in values}
    for name, delivered in values.items():
        columns[name][row, place] = np.where(np.isnan(delivered), NEUTRAL.get(name, np.nan), delivered)
    return AlignedBars.of(grid, [str(name) for name in names], columns)


def _moved_to_ends(starts: Timestamps, symbols: pd.Series, parameters: IngestionParameters) -> Timestamps:
    """Return the ends of bars [n] from their ``starts`` [n]."""
    length = _bar_length(starts, symbols, parameters)
    ends = starts + length
    if (ends < starts).any():  # wrapped around
        minutes = length / np.timedelta64(1, "m")
        raise ValueError(
            f"Bars of {minutes:g} minutes that start at {_iso(starts.max())} must end in {RANGE}; correct the "
            "timestamps or `ingestion.bar_minutes`."
        )
    return ends


def _bar_length(starts: Timestamps, symbols: pd.Series, parameters: IngestionParameters) -> np.timedelta64:
    if parameters.bar_minutes is not None:
        return np.timedelta64(round(parameters.bar_minutes * _MINUTE), "ns")
    place = pd.factorize(symbols)[0]
    order = np.argsort(place, kind="stable")
    return shortest_common_gap(np.diff(starts[order])[np.diff(place[order]) == 0])


def aligned_to_frame(bars: AlignedBars) -> pd.DataFrame:
    """Return the present bars as a long frame with all their columns, sorted by ``timestamp`` (UTC) and ``symbol``."""
    row, column = np.nonzero(bars.present)
    values = {name: values[row, column] for name, values in bars.columns().items()}
    timestamps = pd.DatetimeIndex(bars.timestamps[row]).tz_localize("UTC")
    symbols = np.asarray(bars.symbols, dtype=object)[column]
    return pd.DataFrame({"timestamp": timestamps, "symbol": pd.Series(symbols, dtype="str"), **values})


def aligned_from_frame(frame: pd.DataFrame) -> AlignedBars:
    """Read what ``aligned_to_frame`` returned; its values are not checked again.

    Raises:
        ValueError: If the frame lacks a column or is not sorted by bar end and symbol.
    """
    lacking = [name for name in COLUMNS if name not in frame.columns]
    if lacking:
        raise ValueError(f"Aligned bars lack the columns {lacking}; run `kedro run --pipeline ingestion`.")
    ends = utc_timestamps(frame["timestamp"])
    place, gaps = pd.factorize(frame["symbol"], sort=True)[0], np.diff(ends).astype(np.int64)
    if not ((gaps > 0) | ((gaps == 0) & (np.diff(place) > 0))).all():
        raise ValueError("Aligned bars must be sorted by timestamp and symbol; run `kedro run --pipeline ingestion`.")
    own = {str(name): numbers(frame[name]) for name in frame if name not in (*COLUMNS, *OPTIONAL_COLUMNS)}
    return bars_on_grid(ends, frame["symbol"].astype(str), delivered_values(frame) | own)


def data_quality(frame: pd.DataFrame, bars: AlignedBars, parameters: IngestionParameters) -> dict[str, Any]:
    """Describe the bars and their gaps.

    Args:
        frame: The bars as delivered.
        bars: The same bars aligned.
        parameters: How they were read.

    Returns:
        Plain values for the grid and per symbol. A gap is a run of grid bars that a symbol lacks between its first and
        its last bar.
    """
    adjusted_bars = adjusted(bars)  # a split is no return
    minutes = most_common_gap(bars.timestamps) / np.timedelta64(1, "m") if len(bars.timestamps) > 1 else None
    return {
        "rows": len(frame),
        "grid_bars": len(bars.timestamps),
        "symbols": len(bars.symbols),
        "bar_minutes": None if minutes is None else float(minutes),
        "first": _iso(bars.timestamps[0]),
        "last": _iso(bars.timestamps[-1]),
        "bar_label": parameters.bar_label,
        "missing": parameters.missing,
        "universe": parameters.universe,
        "per_symbol": {symbol: _symbol_quality(adjusted_bars, asset) for asset, symbol in enumerate(bars.symbols)},
    }


def _symbol_quality(bars: AlignedBars, asset: int) -> dict[str, Any]:
    rows = np.flatnonzero(bars.present[:, asset])
    if not rows.size:
        return {"bars": 0}
    gaps = np.diff(rows) - 1  # grid bars missing between two bars
    sizes = np.abs(np.diff(np.log(bars.close[rows, asset])))
    return {
        "bars": int(rows.size),
        "first": _iso(bars.timestamps[rows[0]]),
        "last": _iso(bars.timestamps[rows[-1]]),
        "missing_bars": int(gaps.sum()),
        "gaps": int((gaps > 0).sum()),
        "longest_gap_bars": int(gaps.max(initial=0)),
        "zero_volume_bars": int((bars.volume[rows, asset] == 0.0).sum()),
        "biggest_log_return": float(sizes.max(initial=0.0)),
    }


def _iso(timestamp: np.datetime64) -> str:
    return f"{pd.Timestamp(timestamp).isoformat()}Z"


def bars_hash(frame: pd.DataFrame, own: Collection[str] = ()) -> str:
    """Return the SHA-256 of the bars, the same for any order of rows and columns.

    Args:
        frame: Long bars.
        own: Own columns that count (see ``feed_columns``); other columns than these and the bars' are ignored.
    """
    names = [name for name in (*COLUMNS, *OPTIONAL_COLUMNS, *sorted(own)) if name in frame.columns]
    timestamps = parse_timestamps(frame["timestamp"].reset_index(drop=True))
    zone = "UTC" if isinstance(timestamps.dtype, pd.DatetimeTZDtype) else "naive"
    values = (
        frame[names]
        .reset_index(drop=True)
        .assign(
            timestamp=utc_timestamps(timestamps).astype(np.int64),
            symbol=frame["symbol"].astype(str).to_numpy(dtype=object),
        )
    )
    values = values.sort_values(["timestamp", "symbol"], kind="stable")
    digest = hashlib.sha256(zone.encode())
    for name in names:
        digest.update(f"\n{name}:{len(values)}\n".encode())
        if name == "symbol" or (name in own and not pd.api.types.is_numeric_dtype(values[name].dtype)):
            digest.update("\0".join(values[name].astype(str)).encode())
        else:
            kind = np.int64 if name == "timestamp" else np.float64
            digest.update(np.ascontiguousarray(pd.to_numeric(values[name]).to_numpy(dtype=kind)).tobytes())
    return digest.hexdigest()

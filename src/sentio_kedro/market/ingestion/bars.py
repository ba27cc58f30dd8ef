"""Bars of several assets on one time grid."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.ingestion.aligned_bars import NEUTRAL, AlignedBars
from sentio_kedro.market.ingestion.bar_checks import examine_bars
from sentio_kedro.market.ingestion.checks.columns import COLUMNS, OPTIONAL_COLUMNS, named_columns
from sentio_kedro.market.ingestion.checks.values import delivered_values, empty_cells, numbers, tidied
from sentio_kedro.market.ingestion.own_columns import known_columns
from sentio_kedro.market.ingestion.problems import Problem
from sentio_kedro.market.ingestion.timestamps import (
    RANGE,
    Floats,
    Timestamps,
    localize_timestamps,
    parse_timestamps,
    shortest_common_gap,
    utc_timestamps,
)

_MINUTE = 60_000_000_000  # nanoseconds


def align_bars(frame: pd.DataFrame, parameters: IngestionParameters) -> AlignedBars:
    """Put long bars on one grid of bar ends; see ``align_and_find``, which returns what was found as well."""
    return align_and_find(frame, parameters)[0]


def align_and_find(frame: pd.DataFrame, parameters: IngestionParameters) -> tuple[AlignedBars, tuple[Problem, ...]]:
    """Put long bars on one grid of bar ends, and return what was repaired in them or is only told.

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
    examined = examine_bars(frame, parameters)
    frame = examined.usable
    timestamps = localize_timestamps(parse_timestamps(frame["timestamp"]), parameters.timezone)
    ends = utc_timestamps(timestamps)
    if parameters.bar_label == "start":
        ends = _moved_to_ends(ends, frame["symbol"], parameters)
    own = known_columns(frame, ends, parameters)
    bars = bars_on_grid(ends, frame["symbol"], delivered_values(frame) | own)
    return bars if parameters.missing == "halt" else whole_rows(bars), examined.findings


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


def bars_on_grid(
    ends: Timestamps, symbols: NDArray[np.object_] | pd.Series, values: Mapping[str, Floats]
) -> AlignedBars:
    """Put long bars [n] whose ends are ``ends`` [n] on one grid; a missing value of an optional column is neutral.

    ``values`` are those of ``delivered_values`` and own columns as known at the bars' ends.
    """
    row, moments = pd.factorize(ends.view(np.int64))  # quicker than to sort millions
    place, names = pd.factorize(symbols)
    texts = np.array([str(name) for name in names], dtype=object)
    row, place = _ranks(moments)[row], _ranks(texts)[place]
    columns = {}
    for name, delivered in tidied(values).items():
        column = columns[name] = np.full((len(moments), len(names)), np.nan)
        column[row, place] = np.where(np.isnan(delivered), NEUTRAL[name], delivered) if name in NEUTRAL else delivered
    return AlignedBars.of(np.sort(moments).view("datetime64[ns]"), sorted(texts), columns)


def _ranks(values: NDArray[np.int64] | NDArray[np.object_]) -> NDArray[np.int64]:
    """Return the place of each of the distinct ``values`` [n] among them in order."""
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[np.argsort(values)] = np.arange(len(values))
    return ranks


def _moved_to_ends(starts: Timestamps, symbols: pd.Series, parameters: IngestionParameters) -> Timestamps:
    """Return the ends of bars [n] from their ``starts`` [n]."""
    length = _bar_length(starts, symbols, parameters)
    ends = starts + length
    if (ends < starts).any():  # wrapped around
        minutes = length / np.timedelta64(1, "m")
        raise ValueError(
            f"Bars of {minutes:g} minutes that start at {pd.Timestamp(starts.max()).isoformat()}Z must end in {RANGE}; "
            "correct the timestamps or `ingestion.bar_minutes`."
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


def bars_hash(frame: pd.DataFrame, own: Collection[str] = ()) -> str:
    """Return the SHA-256 of the bars as delivered, the same for any order of rows and columns.

    Args:
        frame: Long bars.
        own: Own columns that count (see ``feed_columns``); other columns than these and the bars' are ignored.

    Raises:
        ValueError: If a column is missing, or a text is no number.
    """
    frame = named_columns(frame)
    timestamps = parse_timestamps(frame["timestamp"].reset_index(drop=True))
    zone = "UTC" if isinstance(timestamps.dtype, pd.DatetimeTZDtype) else "naive"
    moments = utc_timestamps(timestamps).astype(np.int64)
    place, names = pd.factorize(frame["symbol"].astype(str))
    texts = np.array(names, dtype=object)
    order = np.lexsort((_ranks(texts)[place], moments))
    digest = hashlib.sha256(zone.encode())
    for name in (name for name in (*COLUMNS, *OPTIONAL_COLUMNS, *sorted(own)) if name in frame.columns):
        digest.update(f"\n{name}:{len(frame)}\n".encode())
        if name == "symbol":
            digest.update("\0".join(texts[place[order]]).encode())
        elif name in own and not pd.api.types.is_numeric_dtype(frame[name].dtype):
            digest.update("\0".join(frame[name].astype(str).to_numpy(dtype=object)[order]).encode())
        else:
            values = moments if name == "timestamp" else _exact_numbers(frame[name])
            digest.update(np.ascontiguousarray(values[order]).tobytes())
    return digest.hexdigest()


def _exact_numbers(column: pd.Series) -> Floats:
    if not pd.api.types.is_numeric_dtype(column.dtype):
        column = pd.to_numeric(column.mask(empty_cells(column)))
    return column.to_numpy(dtype=np.float64, na_value=np.nan)

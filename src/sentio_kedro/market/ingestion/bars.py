"""Bars of several assets on one time grid."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentio_kedro.config import IngestionParameters, UniverseParameters
from sentio_kedro.market.ingestion.aligned_bars import NEUTRAL, AlignedBars, Leavers
from sentio_kedro.market.ingestion.bar_checks import examine_bars
from sentio_kedro.market.ingestion.checks.columns import COLUMNS, OPTIONAL_COLUMNS, named_columns
from sentio_kedro.market.ingestion.checks.values import delivered_values, empty_cells, numbers, tidied
from sentio_kedro.market.ingestion.membership import Belonging, with_leavers
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
from sentio_kedro.market.ingestion.universe import read_universe

_MINUTE = 60_000_000_000  # nanoseconds
OF_MEMBERSHIP = ("member", "delisting_return")  # columns of aligned bars of a dated universe


def align_bars(
    frame: pd.DataFrame,
    parameters: IngestionParameters,
    universe: pd.DataFrame | None = None,
    leaving: UniverseParameters | None = None,
) -> AlignedBars:
    """Put long bars on one grid of bar ends; see ``align_and_find``, which returns what was found as well."""
    return align_and_find(frame, parameters, universe, leaving)[0]


def align_and_find(
    frame: pd.DataFrame,
    parameters: IngestionParameters,
    universe: pd.DataFrame | None = None,
    leaving: UniverseParameters | None = None,
) -> tuple[AlignedBars, tuple[Problem, ...]]:
    """Put long bars on one grid of bar ends, and return what was repaired in them or is only told.

    Args:
        frame: Long bars as a feed delivers them.
        parameters: Label, zone and what to do with missing bars.
        universe: Table of a dated universe, see ``read_universe``; null: all symbols are members throughout.
        leaving: How assets leave it; null takes the defaults.

    Returns:
        Bars on the union of all timestamps (``missing: halt``) or on those that all symbols have (``drop_bar``). A
        missing bar is NaN. Optional columns that the feed lacks are null; where a bar has no value in one it is neutral
        (dividend 0, split 1, spread 0, funding 0). Splits and dividends of a dropped bar move to the asset's next bar.
        Own columns hold what was known at each bar's end. Of a dated universe a column per asset that has a bar as a
        member, and the bars of members alone.

    Raises:
        BarsError: If the bars cannot be used, or the table of the universe.
        ValueError: If no bar is left, starts have no ends that can be told, or the parameters contradict the table.
    """
    examined = examine_bars(frame, parameters)
    frame = examined.usable
    intervals = None if universe is None else read_universe(universe)
    if intervals is not None:
        _refuse_contradictions(parameters)
        listed = frame["symbol"].isin(set(intervals["symbol"]))  # others have no say in the length of a bar
        frame = frame[listed].reset_index(drop=True)
    timestamps = localize_timestamps(parse_timestamps(frame["timestamp"]), parameters.timezone)
    ends = utc_timestamps(timestamps)
    if parameters.bar_label == "start" and len(frame):
        ends = _moved_to_ends(ends, frame["symbol"], parameters)
    values = delivered_values(frame) | known_columns(frame, ends, parameters)
    if intervals is not None:
        of = Belonging.of(ends, frame["symbol"], intervals, parameters.timezone)
        members = {name: column[of.member] for name, column in values.items()}
        bars = bars_on_grid(ends[of.member], of.asset[of.member], members)
        exit_bars = (leaving or UniverseParameters()).exit_bars
        return with_leavers(bars, ends, values, of, exit_bars), examined.findings
    bars = bars_on_grid(ends, frame["symbol"], values)
    return bars if parameters.missing == "halt" else whole_rows(bars), examined.findings


def _refuse_contradictions(parameters: IngestionParameters) -> None:
    """Refuse parameters that do not fit a table of the universe."""
    if parameters.universe != "dated":
        raise ValueError(
            f"`ingestion.universe` is {parameters.universe}, but the catalog gives a table `universe`; set "
            "`ingestion.universe: dated`, or take the table away."
        )
    if parameters.missing == "drop_bar":
        raise ValueError(
            "`ingestion.missing: drop_bar` drops each timestamp that not all symbols have, which leaves nothing of a "
            "dated universe; set `ingestion.missing: halt`."
        )


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
    """Return the present bars as a long frame with all their columns, sorted by ``timestamp`` (UTC) and ``symbol``.

    With ``leavers`` there are rows for their bars and settlements too, and the columns ``member`` and
    ``delisting_return``.
    """
    leavers, present = bars.leavers, bars.present
    kept = present if leavers is None else present | leavers.bars.present | leavers.settled
    row, column = np.nonzero(kept)
    values: dict[str, Any] = {name: values[row, column] for name, values in bars.columns().items()}
    if leavers is not None:
        own = present[row, column]
        values = {name: np.where(own, values[name], x[row, column]) for name, x in leavers.bars.columns().items()}
        values |= {"member": own, "delisting_return": leavers.delisting_return[row, column]}
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
    own = [str(name) for name in frame if name not in (*COLUMNS, *OPTIONAL_COLUMNS, *OF_MEMBERSHIP)]
    values = delivered_values(frame) | {name: numbers(frame[name]) for name in own}
    bars = bars_on_grid(ends, frame["symbol"].astype(str), values)
    return bars if "member" not in frame else _split_by_membership(bars, ends, place, frame)


def _split_by_membership(
    bars: AlignedBars, ends: Timestamps, place: NDArray[np.int64], frame: pd.DataFrame
) -> AlignedBars:
    """Take members, leavers and settlements of ``aligned_to_frame`` apart again."""
    row, member = np.searchsorted(bars.timestamps, ends), np.zeros(bars.close.shape, dtype=bool)
    settled, returns = member.copy(), np.full(member.shape, np.nan)
    member[row, place] = frame["member"].to_numpy(dtype=bool)
    settled[row, place] = np.isnan(numbers(frame["close"]))
    returns[row, place] = numbers(frame["delisting_return"])
    left = bars.map_columns(lambda column: np.where(member | settled, np.nan, column))
    own = bars.map_columns(lambda column: np.where(member, column, np.nan))
    return replace(own, leavers=Leavers(left, settled, returns))


def bars_hash(frame: pd.DataFrame, own: Collection[str] = (), universe: pd.DataFrame | None = None) -> str:
    """Return the SHA-256 of the bars as delivered, for any order of rows and columns, and of their universe's table.

    Args:
        frame: Long bars.
        own: Own columns that count (see ``feed_columns``); other columns than these and the bars' are ignored.
        universe: Table of a dated universe, as it was read; null without one.

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
    if universe is not None:
        digest.update(f"\nuniverse:{universe.to_csv(index=False)}".encode())
    return digest.hexdigest()


def _exact_numbers(column: pd.Series) -> Floats:
    if not pd.api.types.is_numeric_dtype(column.dtype):
        column = pd.to_numeric(column.mask(empty_cells(column)))
    return column.to_numpy(dtype=np.float64, na_value=np.nan)

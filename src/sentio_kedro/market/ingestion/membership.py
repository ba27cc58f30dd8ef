"""Bars of a dated universe: which are of members, and what happens to positions in assets that leave it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentio_kedro.config.symbols import EXAMPLES
from sentio_kedro.market.ingestion.aligned_bars import NEUTRAL, AlignedBars, Leavers, Mask
from sentio_kedro.market.ingestion.problems import Problem, UniverseError
from sentio_kedro.market.ingestion.timestamps import Floats, Timestamps
from sentio_kedro.market.ingestion.universe import OPEN, Days

logger = logging.getLogger(__name__)

MISSED = np.timedelta64(30, "D")  # without a bar, after which a member's bars count as ended
SHORTEST = np.timedelta64(1, "ns")

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Belonging:
    """What the table says of each of n bars.

    Attributes:
        intervals: Intervals of ``read_universe``.
        began: Interval [n] of the bar's symbol that began last; -1 before the first.
        asset: Asset [n] of that interval.
        member: Whether the bar is of a member [n].
        timezone: Zone of the days; null is UTC.
    """

    intervals: pd.DataFrame
    began: Integers
    asset: NDArray[np.object_]
    member: Mask
    timezone: str | None

    @classmethod
    def of(cls, ends: Timestamps, symbols: pd.Series, intervals: pd.DataFrame, timezone: str | None) -> Belonging:
        """Look bars up by their ``ends`` [n] and ``symbols`` [n]; one that ends at midnight is of the day before.

        Raises:
            UniverseError: If no bar is of a member.
        """
        day, began = _days(ends, timezone), np.full(len(ends), -1)
        rows = _groups(symbols.to_frame("symbol"), "symbol")
        for symbol, own in _groups(intervals, "symbol").items():
            bars = rows.get(symbol)
            if bars is not None:
                began[bars] = _latest(intervals, own, day[bars])
        member = (began >= 0) & (day <= _ends(intervals)[began])
        if not member.any():
            rule = "some bar must be of a member: write the symbols and dates of the bars"
            spans = f"bars of {sorted(rows)[:EXAMPLES]} from {day.min()} to {day.max()}" if rows else "bars of others"
            raise UniverseError((Problem(rule, 1, (spans,)),))
        return cls(intervals, began, intervals["asset"].to_numpy(dtype=object)[began], member, timezone)


def with_leavers(
    bars: AlignedBars, ends: Timestamps, values: Mapping[str, Floats], of: Belonging, exit_bars: int
) -> AlignedBars:
    """Add what happens to positions in assets that leave the universe.

    Args:
        bars: The bars of members T x A.
        ends: Ends of all bars [n].
        values: Their columns [n].
        of: What the table says of them.
        exit_bars: Rows after a membership in which positions are only reduced. What is left after them is settled; at
            once if the table gives the return of a delisting and no bar is left.
    """
    grid = _Grid.of(bars, of)
    window = (grid.away > 0) & (grid.away <= exit_bars)
    row = np.minimum(np.searchsorted(bars.timestamps, ends), len(bars.timestamps) - 1)
    column = pd.Index(bars.symbols).get_indexer(pd.Index(of.asset))
    after = (of.began >= 0) & ~of.member & (column >= 0) & (bars.timestamps[row] == ends)
    after &= window[row, column] & (grid.began[row, column] == of.began)
    columns: dict[str, Any] = {}
    for name, delivered in values.items():
        columns[name] = np.full(bars.close.shape, np.nan)
        known = delivered[after]
        columns[name][row[after], column[after]] = np.where(np.isnan(known), NEUTRAL.get(name, np.nan), known)
    left = bars.with_columns(columns)
    settled, paid = _settlements(bars, left, grid, of.intervals, exit_bars)
    return replace(bars, leavers=Leavers(left, settled, paid))


@dataclass(frozen=True, eq=False)
class _Grid:
    """The table on the grid: the asset's last interval [T, A], rows since it was a member (0: it is, or never was)."""

    began: Integers
    away: Integers

    @classmethod
    def of(cls, bars: AlignedBars, of: Belonging) -> _Grid:
        day, own = _days(bars.timestamps, of.timezone), _groups(of.intervals, "asset")
        began = np.stack([_latest(of.intervals, own[asset], day) for asset in bars.symbols], axis=1)
        inside = (began >= 0) & (day[:, None] <= _ends(of.intervals)[began])
        rows = np.arange(len(day))[:, None]
        last = np.maximum.accumulate(np.where(inside, rows, -1), axis=0)
        return cls(began, np.where(last >= 0, rows - last, 0))


def _settlements(
    bars: AlignedBars, left: AlignedBars, grid: _Grid, intervals: pd.DataFrame, exit_bars: int
) -> tuple[Mask, Floats]:
    """Return where what is left is settled, and the return of the table there, [T, A] both."""
    settled, returns = grid.away == exit_bars + 1, intervals["delisting_return"].to_numpy(dtype=np.float64)
    seen, ended = bars.present | left.present, []
    for asset, symbol in enumerate(bars.symbols):
        for interval in np.unique(grid.began[:, asset][seen[:, asset]]).tolist():
            own = np.flatnonzero((grid.began[:, asset] == interval) & seen[:, asset])
            following = int(own[-1]) + 1
            if following == len(seen) or left.present[own[-1], asset]:
                continue
            if np.isfinite(returns[interval]):
                settled[following, asset] = True
            elif _has_ended(bars, following, grid.away[:, asset], exit_bars):
                ended.append(f"{symbol} {np.datetime_as_string(bars.timestamps[own[-1]], unit='D')}")
    if ended:
        more = f" and {len(ended) - EXAMPLES} more" if len(ended) > EXAMPLES else ""
        logger.warning(
            "Bars end with or inside the membership of %s%s: positions are settled there by "
            "`trading.delisting_return`; if they were delisted, give `delisting_return` in the table `universe`.",
            *(", ".join(ended[:EXAMPLES]), more),
        )
    return settled, np.where(settled, returns[grid.began], np.nan)


def _has_ended(bars: AlignedBars, following: int, away: Integers, exit_bars: int) -> bool:
    """Whether an asset had no bar in time for an exit, or none for ``MISSED``, from the row ``following`` on."""
    missed = bars.timestamps[-1] - bars.timestamps[following - 1]
    inside, on_time = away[following] == 0, exit_bars > 0 and away[following] == 1
    return bool((inside or on_time) and missed > MISSED)


def _latest(intervals: pd.DataFrame, own: Integers, day: Days) -> Integers:
    """Return which of the intervals ``own``, sorted by start, began last by each day [n]; -1 before the first."""
    starts = intervals["start"].to_numpy(dtype="datetime64[D]")[own]
    return np.append(own, -1)[np.searchsorted(starts, day, side="right") - 1]


def _groups(frame: pd.DataFrame, name: str) -> dict[str, Integers]:
    """Return the places of the rows of each value of a column of texts."""
    return {str(value): np.asarray(rows, np.int64) for value, rows in frame.groupby(name, sort=True).indices.items()}


def _ends(intervals: pd.DataFrame) -> Days:
    return intervals["end"].to_numpy(dtype="datetime64[D]")


def _days(ends: Timestamps, timezone: str | None) -> Days:
    """Return the day [n] of ``timezone`` on which each bar ends."""
    inside = ends - SHORTEST
    if timezone is not None:
        inside = pd.DatetimeIndex(inside).tz_localize("UTC").tz_convert(timezone).tz_localize(None).to_numpy()
    return inside.astype("datetime64[D]")


def universe_label(bars: AlignedBars, stated: str) -> str:
    """Return what the report says of the universe: ``stated``, unless the table dates entries alone.

    A table that nobody leaves within the bars was written with the knowledge of who survived.
    """
    leavers = bars.leavers
    survived = leavers is not None and not (leavers.bars.present | leavers.settled).any()
    return "survivorship_biased" if survived else stated


def membership_quality(frame: pd.DataFrame, bars: AlignedBars, intervals: pd.DataFrame) -> dict[str, Any]:
    """Describe a dated universe.

    Args:
        frame: The bars as delivered.
        bars: The aligned bars of its members.
        intervals: Intervals of ``read_universe``.

    Returns:
        Plain values: ``intervals``, ``assets``, ``left`` (assets that left within the bars), ``still_members``
        (intervals without an end), symbols ``without_bars`` and ``without_membership``, ``unseen_bars``, and
        ``members`` by day: at the first bar of each year and at the last.
    """
    named, delivered = set(intervals["symbol"]), set(frame["symbol"].astype(str))
    seen, inside = bars.present.sum(), (~bars.outside).sum(axis=1)
    left = 0
    if bars.leavers is not None:
        seen += bars.leavers.bars.present.sum()
        left = int((bars.leavers.bars.present | bars.leavers.settled).any(axis=0).sum())
    year = bars.timestamps.astype("datetime64[Y]")
    shown = [0, *(np.flatnonzero(year[1:] != year[:-1]) + 1).tolist(), len(year) - 1]
    return {
        "intervals": len(intervals),
        "assets": len(bars.symbols),
        "left": left,
        "still_members": int((intervals["end"].to_numpy(dtype="datetime64[D]") == OPEN).sum()),
        "without_bars": sorted(named - delivered),
        "without_membership": sorted(delivered - named),
        "unseen_bars": int(len(frame) - seen),
        "members": {str(bars.timestamps[row].astype("datetime64[D]")): int(inside[row]) for row in shown},
    }

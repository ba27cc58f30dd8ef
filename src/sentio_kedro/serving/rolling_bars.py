"""The newest bars of a feed: enough of them for all that a decision at the newest one reads, and no more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sentio_kedro.market.aligned_bars import NEUTRAL, AlignedBars, hold
from sentio_kedro.market.timestamps import Floats, Timestamps


@dataclass(frozen=True, eq=False)
class RollingBars:
    """The last bars on the grid, and the last bars that each asset has of its own.

    Attributes:
        grid: The last rows of the grid. An asset that has no bar in the first of them shows its last one before it
            there, so that its price is known however long it has been halted.
        own: The last bars of each asset, the newest in the last row whatever its stamp; NaN above an asset's first.
        rows: Rows that ``grid`` keeps at most.
    """

    grid: AlignedBars
    own: AlignedBars
    rows: int

    @classmethod
    def of(cls, bars: AlignedBars, rows: int, own_rows: int) -> RollingBars:
        """Keep the last ``rows`` rows of the grid and ``own_rows`` bars of each asset."""
        return cls(newest_rows(bars, rows), _own(bars, own_rows), rows)

    def with_bar(self, bar: AlignedBars) -> RollingBars:
        """Add one row of the grid, later than all others, with at least one asset's bar."""
        present = bar.present[0]
        joint = appended(self.own, bar)
        own = replace(
            joint.map_columns(lambda column: np.where(present, column[1:], column[:-1])),
            timestamps=joint.timestamps[1:],
        )
        return RollingBars(newest_rows(appended(self.grid, bar), self.rows), own, self.rows)


def newest_rows(bars: AlignedBars, rows: int) -> AlignedBars:
    """Return the last ``rows`` rows; what has no bar in the first of them shows its last one before it there.

    Splits and dividends of such a bar are over, and so are not shown.
    """
    first = len(bars.timestamps) - rows
    if first <= 0:
        return bars
    kept = bars.rows(slice(first, None))
    if kept.present[0].all():
        return kept
    halted = ~kept.present[0]
    known = hold(bars.close[: first + 1])[-1]
    changed: dict[str, Any] = {}
    for name, column in bars.columns().items():
        before = hold(column[: first + 1])[-1]
        neutral = NEUTRAL[name] if name in ("dividend", "split", "funding") else before
        changed[name] = column[first:].copy()
        changed[name][0] = np.where(halted, np.where(np.isnan(known), np.nan, neutral), column[first])
    return replace(kept, **changed)


def appended(bars: AlignedBars, more: AlignedBars) -> AlignedBars:
    """Return ``bars`` [T, A] followed by ``more`` [n, A]; what only one of them has is neutral in the other."""
    parts = bars.columns(), more.columns()
    columns: dict[str, Any] = {}
    for name in (*parts[0], *(name for name in parts[1] if name not in parts[0])):
        columns[name] = np.concatenate(
            [
                part[name] if name in part else np.where(own.present, NEUTRAL[name], np.nan)
                for own, part in zip((bars, more), parts, strict=True)
            ]
        )
    return AlignedBars(np.concatenate([bars.timestamps, more.timestamps]), bars.symbols, **columns)


def missing_rows(bars: AlignedBars, timestamps: Timestamps) -> AlignedBars:
    """Return rows at ``timestamps`` [n] in which no asset has a bar, with the columns of ``bars``."""
    empty = bars.map_columns(lambda column: np.full((len(timestamps), column.shape[1]), np.nan))
    return replace(empty, timestamps=timestamps)


def _own(bars: AlignedBars, rows: int) -> AlignedBars:
    """Move each asset's last ``rows`` bars to the end, one after the other."""
    chosen = [np.flatnonzero(bars.present[:, asset])[-rows:] for asset in range(len(bars.symbols))]

    def moved(column: Floats) -> Floats:
        values = np.full((rows, column.shape[1]), np.nan)
        for asset, index in enumerate(chosen):
            values[rows - len(index) :, asset] = column[index, asset]
        return values

    timestamps = np.full(rows, bars.timestamps[-1])  # they belong to no common grid
    return replace(bars.map_columns(moved), timestamps=timestamps)

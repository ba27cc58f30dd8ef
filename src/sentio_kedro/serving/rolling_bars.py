"""The newest bars of a feed, as many as a decision at the newest one reads."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sentio_kedro.market.ingestion.aligned_bars import NEUTRAL, AlignedBars, Leavers, hold
from sentio_kedro.market.ingestion.timestamps import Floats, Timestamps


@dataclass(frozen=True, eq=False)
class RollingBars:
    """The last bars on the grid, and the last bars that each asset has of its own.

    Attributes:
        grid: The last rows of the grid. The first of them holds the last earlier bar of an asset without a bar there,
            so that its price is available however long it has been halted.
        by_asset: The last bars of each asset, the newest in the last row whatever its timestamp; NaN above the first.
        rows: Rows of ``grid`` at most.
    """

    grid: AlignedBars
    by_asset: AlignedBars
    rows: int

    @classmethod
    def of(cls, bars: AlignedBars, rows: int, asset_rows: int) -> RollingBars:
        """Take the last ``rows`` rows of the grid and ``asset_rows`` bars of each asset."""
        return cls(newest_rows(bars, rows), _by_asset(bars, asset_rows), rows)

    def with_bar(self, bar: AlignedBars) -> RollingBars:
        """Add one row of the grid, later than all others, with at least one asset's bar."""
        present = bar.present[0]
        longer = appended(self.by_asset, bar)
        by_asset = replace(
            longer.map_columns(lambda column: np.where(present, column[1:], column[:-1])),
            timestamps=longer.timestamps[1:],
        )
        return RollingBars(newest_rows(appended(self.grid, bar), self.rows), by_asset, self.rows)


def newest_rows(bars: AlignedBars, rows: int) -> AlignedBars:
    """Return the last ``rows`` rows; the first holds the last earlier bar of an asset without a bar there.

    Splits and dividends of such a bar are neutral, because they are over.
    """
    first = len(bars.timestamps) - rows
    if first <= 0:
        return bars
    newest = bars.rows(slice(first, None))
    if newest.present[0].all():
        return newest
    halted = ~newest.present[0]
    close = hold(bars.close[: first + 1])[-1]
    changed: dict[str, Floats] = {}
    for name, column in bars.columns().items():
        before = hold(column[: first + 1])[-1]
        neutral = NEUTRAL[name] if name in ("dividend", "split", "funding") else before
        changed[name] = column[first:].copy()
        changed[name][0] = np.where(halted, np.where(np.isnan(close), np.nan, neutral), column[first])
    return newest.with_columns(changed)


def appended(bars: AlignedBars, more: AlignedBars) -> AlignedBars:
    """Return ``bars`` [T, A] followed by ``more`` [n, A]; columns of only one of them are neutral in the other."""
    parts = bars.columns(), more.columns()
    columns: dict[str, Floats] = {}
    for name in (*parts[0], *(name for name in parts[1] if name not in parts[0])):
        columns[name] = np.concatenate(
            [
                part[name] if name in part else np.where(one.present, NEUTRAL.get(name, np.nan), np.nan)
                for one, part in zip((bars, more), parts, strict=True)
            ]
        )
    longer = AlignedBars.of(np.concatenate([bars.timestamps, more.timestamps]), bars.symbols, columns)
    if bars.leavers is None or more.leavers is None:
        return longer
    left, later = bars.leavers, more.leavers
    settled = np.concatenate([left.settled, later.settled])
    paid = np.concatenate([left.delisting_return, later.delisting_return])
    return replace(longer, leavers=Leavers(appended(left.bars, later.bars), settled, paid))


def missing_rows(bars: AlignedBars, timestamps: Timestamps) -> AlignedBars:
    """Return empty rows at ``timestamps`` [n], with the columns of ``bars``."""
    shape = (len(timestamps), len(bars.symbols))
    empty = replace(bars.map_columns(lambda column: np.full(shape, np.nan)), timestamps=timestamps)
    if bars.leavers is None:
        return empty
    return replace(empty, leavers=Leavers(empty, np.zeros(shape, dtype=bool), np.full(shape, np.nan)))


def _by_asset(bars: AlignedBars, rows: int) -> AlignedBars:
    """Return each asset's last ``rows`` bars, aligned at the last row."""
    chosen = [np.flatnonzero(bars.present[:, asset])[-rows:] for asset in range(len(bars.symbols))]

    def moved(column: Floats) -> Floats:
        values = np.full((rows, column.shape[1]), np.nan)
        for asset, index in enumerate(chosen):
            values[rows - len(index) :, asset] = column[index, asset]
        return values

    timestamps = np.full(rows, bars.timestamps[-1])  # assets have no common grid here
    return replace(bars.map_columns(moved), timestamps=timestamps)

"""The container of bars on one time grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from sentio_kedro.market.ingestion.checks.columns import OPTIONAL_COLUMNS, VALUE_COLUMNS
from sentio_kedro.market.ingestion.timestamps import Floats, Timestamps

Mask = NDArray[np.bool_]
READABLE = ("spread", "funding")  # columns of bars that are no prices: features read them like own ones
NEUTRAL = {"dividend": 0.0, "split": 1.0, "spread": 0.0, "funding": 0.0}  # values that a bar without one gets


@dataclass(frozen=True, eq=False)
class Leavers:
    """What happens to positions in assets that have left a dated universe, on the grid of the members' bars.

    Attributes:
        bars: Bars after an asset has left [T, A], in which positions are only reduced; NaN elsewhere.
        settled: First row [T, A] at which an asset that has left cannot be traded any more.
        delisting_return: Return of what is left there [T, A], fraction of the last price; NaN: the default.
    """

    bars: AlignedBars
    settled: Mask
    delisting_return: Floats

    @property
    def paid(self) -> Floats:
        """Return of a position that is closed where an asset leaves [T, A]: 0, but for settlements."""
        return np.where(self.settled, self.delisting_return, 0.0)

    def map(self, bars: Callable[[AlignedBars], AlignedBars], column: Callable[[Any], Any]) -> Leavers:
        """Return what is left after ``bars`` of the bars and ``column`` of the other columns [T, A]."""
        return Leavers(bars(self.bars), column(self.settled), column(self.delisting_return))


@dataclass(frozen=True, eq=False)
class AlignedBars:
    """Bars on one time grid, as traded: prices are not adjusted for splits and dividends.

    Every column is NaN where the asset has no bar; where it has one, an optional column is finite (see ``NEUTRAL``) and
    an own column is what was known at the bar's end, NaN before its first value.

    Attributes:
        timestamps: Bar ends [T], datetime64[ns] in UTC, strictly increasing.
        symbols: Names of the assets, A of them, sorted.
        open: First price of the bar [T, A], NaN where the asset has no bar.
        high: Highest price of the bar [T, A].
        low: Lowest price of the bar [T, A].
        close: Last price of the bar [T, A].
        volume: Traded shares or coins [T, A].
        dividend: Cash per share of the bar [T, A], for shares held since the bar before; null if the feed has none.
        split: New shares per old share [T, A], applied before the bar opens and before its dividend; null if none.
        spread: Quoted spread [T, A], fraction of the mid price; null if the feed has none.
        funding: Funding rate of the bar [T, A], fraction of notional, paid by longs to shorts; null if none.
        extra: Own columns [T, A] by name, as known at each bar's end; empty if none are kept.
        leavers: What is known of assets that have left a dated universe; the columns hold members alone. Null: all
            assets are members throughout.
    """

    timestamps: Timestamps
    symbols: tuple[str, ...]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    dividend: Floats | None = None
    split: Floats | None = None
    spread: Floats | None = None
    funding: Floats | None = None
    extra: Mapping[str, Floats] = field(default_factory=dict)
    leavers: Leavers | None = None

    def __post_init__(self) -> None:
        """Refuse timestamps of another resolution, which numpy would let wrap around.

        Raises:
            ValueError: With the resolution.
        """
        if self.timestamps.dtype != "datetime64[ns]":
            raise ValueError(
                f"`timestamps` of aligned bars must be datetime64[ns], were {self.timestamps.dtype}; let `align_bars` "
                "make the bars from a frame, or convert with `utc_timestamps`."
            )

    @classmethod
    def of(cls, timestamps: Timestamps, symbols: Sequence[str], columns: Mapping[str, Floats]) -> AlignedBars:
        """Make bars of ``columns`` [T, A] by name; names that bars do not use themselves are own columns."""
        named: dict[str, Any] = {
            name: values for name, values in columns.items() if name in (*VALUE_COLUMNS, *OPTIONAL_COLUMNS)
        }
        own = {name: values for name, values in columns.items() if name not in named}
        return cls(timestamps, tuple(symbols), **named, extra=own)

    @property
    def present(self) -> Mask:
        """Mask of the bars that assets have [T, A]."""
        return np.isfinite(self.close)

    @property
    def outside(self) -> Mask:
        """Whether an asset has left the universe or has not had a bar in it [T, A]."""
        if self.leavers is None:
            return np.asarray(~np.maximum.accumulate(self.present, axis=0))
        left = self.leavers.bars.present | self.leavers.settled
        inside = hold(np.where(self.present, 1.0, np.where(left, 0.0, np.nan)))
        return np.asarray(~(inside > 0.0))

    @property
    def rejoins(self) -> Mask:
        """First bars of assets that come back to the universe [T, A]: they go on at the price of the bar before."""
        left = self.outside & np.maximum.accumulate(self.present, axis=0)
        return np.asarray(self.present & np.concatenate([np.zeros_like(left[:1]), left[:-1]]))

    def columns(self) -> dict[str, Floats]:
        """Return the columns that the bars have, each [T, A], by name."""
        values = {name: getattr(self, name) for name in (*VALUE_COLUMNS, *OPTIONAL_COLUMNS)}
        return {name: column for name, column in values.items() if column is not None} | dict(self.extra)

    @property
    def own(self) -> dict[str, Floats]:
        """The columns [T, A] that features of own columns may read: own ones, and the bars' spread and funding."""
        return {name: column for name, column in self.columns().items() if name in (*READABLE, *self.extra)}

    def with_columns(self, columns: Mapping[str, Floats]) -> AlignedBars:
        """Return the bars with ``columns`` [T, A] in the place of their own or added to them."""
        bars = AlignedBars.of(self.timestamps, self.symbols, self.columns() | dict(columns))
        return replace(bars, leavers=self.leavers)

    def map_columns(self, change: Callable[[Floats], Floats]) -> AlignedBars:
        """Return the bars with every column [T, A] that they have replaced by ``change`` of it, without leavers."""
        changed = {name: change(column) for name, column in self.columns().items()}
        return AlignedBars.of(self.timestamps, self.symbols, changed)

    def _with_leavers(self, of: AlignedBars, cut: Callable[[AlignedBars], AlignedBars], part: Any) -> AlignedBars:
        leavers = of.leavers
        return self if leavers is None else replace(self, leavers=leavers.map(cut, lambda column: column[part]))

    def rows(self, index: slice | NDArray[np.int64] | Mask) -> AlignedBars:
        """Return the bars of the rows ``index``, a slice, row numbers or a mask [T].

        Splits and dividends of bars between the rows are not carried on; ``without`` does that.
        """
        bars = replace(self.map_columns(lambda column: column[index]), timestamps=self.timestamps[index])
        return bars._with_leavers(self, lambda left: left.rows(index), index)

    def assets(self, index: slice) -> AlignedBars:
        """Return the bars of the assets ``index``."""
        bars = replace(self.map_columns(lambda column: column[:, index]), symbols=self.symbols[index])
        return bars._with_leavers(self, lambda left: left.assets(index), np.s_[:, index])

    def without(self, hidden: Mask) -> AlignedBars:
        """Make bars missing and carry their splits and dividends to the asset's next bar.

        Args:
            hidden: Bars to take away, [T, A] or [T, 1].

        Returns:
            The bars on the same grid. A carried split multiplies the next one; a carried dividend is added to the next
            one, per share after the splits in between; without a next bar both are lost.
        """
        hidden = np.broadcast_to(hidden, self.close.shape)
        bars = self.map_columns(lambda column: np.where(hidden, np.nan, column))
        carried = hidden & self.present & acts(self)
        for row, asset in np.argwhere(carried):  # in order of time
            later = np.flatnonzero(bars.present[row + 1 :, asset])
            if later.size:
                _carry(self, bars, int(row), int(row + 1 + later[0]), int(asset))
        return bars._with_leavers(self, lambda left: left.without(hidden), np.s_[:])

    def held_close(self) -> Floats:
        """Return the last close [T, A]: forward only, NaN before an asset's first bar."""
        return hold(self.close)

    def traded_close(self) -> Floats:
        """Return the last close [T, A] as of ``held_close``, of bars after an asset has left the universe too."""
        left = self.leavers
        return hold(self.close if left is None else np.where(self.present, self.close, left.bars.close))


def hold(values: Floats) -> Floats:
    """Return the last finite value of each column [T, A]: forward only, NaN before the first."""
    held = np.array(values, dtype=np.float64)
    _hold(held)
    return held


@numba.njit(nogil=True, cache=True)
def _hold(values: Floats) -> None:
    for row in range(len(values)):
        for asset in range(values.shape[1]):
            if not np.isfinite(values[row, asset]):
                values[row, asset] = values[row - 1, asset] if row else np.nan


def acts(bars: AlignedBars) -> Mask:
    """Return where a bar splits its shares or pays a dividend [T, A]."""
    active = np.zeros(bars.close.shape, dtype=bool)
    for name, column in (("dividend", bars.dividend), ("split", bars.split)):
        if column is not None:
            active |= bars.present & (column != NEUTRAL[name])
    return active


def _carry(before: AlignedBars, bars: AlignedBars, row: int, target: int, asset: int) -> None:
    """Add split and dividend of ``before`` at ``row`` to the bar of ``bars`` at ``target``, in place."""
    if bars.dividend is not None and before.dividend is not None:
        splits = 1.0 if before.split is None else float(np.nanprod(before.split[row + 1 : target + 1, asset]))
        bars.dividend[target, asset] += before.dividend[row, asset] / splits
    if bars.split is not None and before.split is not None:
        bars.split[target, asset] *= before.split[row, asset]

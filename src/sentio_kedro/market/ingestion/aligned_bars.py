"""The container of bars on one time grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numba
import numpy as np
from numpy.typing import NDArray

from sentio_kedro.market.ingestion.checks.columns import OPTIONAL_COLUMNS, VALUE_COLUMNS
from sentio_kedro.market.ingestion.timestamps import Floats, Timestamps

Mask = NDArray[np.bool_]
READABLE = ("spread", "funding")  # columns of bars that are no prices: features read them like own ones
NEUTRAL = {"dividend": 0.0, "split": 1.0, "spread": 0.0, "funding": 0.0}  # values that a bar without one gets


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
        named = {name: values for name, values in columns.items() if name in (*VALUE_COLUMNS, *OPTIONAL_COLUMNS)}
        own = {name: values for name, values in columns.items() if name not in named}
        return cls(timestamps, tuple(symbols), **named, extra=own)

    @property
    def present(self) -> Mask:
        """Mask of the bars that assets have [T, A]."""
        return np.isfinite(self.close)

    def columns(self) -> dict[str, Floats]:
        """Return the columns that the bars have, each [T, A], by name."""
        values = {name: getattr(self, name) for name in (*VALUE_COLUMNS, *OPTIONAL_COLUMNS)}
        return {name: column for name, column in values.items() if column is not None} | dict(self.extra)

    @property
    def own(self) -> dict[str, Floats]:
        """The columns [T, A] that features of own columns may read: own ones, and the bars' spread and funding."""
        return {name: column for name, column in self.columns().items() if name in (*READABLE, *self.extra)}

    def with_columns(self, columns: Mapping[str, Floats]) -> AlignedBars:
        """Return the bars with ``columns`` [T, A] in the place of those of the same name, or added to them."""
        return AlignedBars.of(self.timestamps, self.symbols, self.columns() | dict(columns))

    def map_columns(self, change: Callable[[Floats], Floats]) -> AlignedBars:
        """Return the bars with every column [T, A] that they have replaced by ``change`` of it."""
        return self.with_columns({name: change(column) for name, column in self.columns().items()})

    def rows(self, index: slice | NDArray[np.int64] | Mask) -> AlignedBars:
        """Return the bars of the rows ``index``, a slice, row numbers or a mask [T].

        Splits and dividends of bars between the rows are not carried on; ``without`` does that.
        """
        return replace(self.map_columns(lambda column: column[index]), timestamps=self.timestamps[index])

    def assets(self, index: slice) -> AlignedBars:
        """Return the bars of the assets ``index``."""
        return replace(self.map_columns(lambda column: column[:, index]), symbols=self.symbols[index])

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
        return bars

    def held_close(self) -> Floats:
        """Return the last close [T, A]: forward only, NaN before an asset's first bar."""
        return hold(self.close)


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

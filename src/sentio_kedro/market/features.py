"""Features on the grid of the bars, and as a long frame for files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.timestamps import Floats, Timestamps, utc_timestamps


@dataclass(frozen=True, eq=False)
class Features:
    """Feature columns on the grid of the bars.

    Attributes:
        names: Names of the columns, F of them.
        timestamps: Bar ends [T], UTC.
        symbols: Names of the assets, A of them.
        values: [T, A, F], NaN in warm-up.
    """

    names: Sequence[str]
    timestamps: Timestamps
    symbols: Sequence[str]
    values: Floats

    def on(self, bars: AlignedBars) -> Floats:
        """Return the values [T, A, F].

        Raises:
            ValueError: If they are not on the grid of ``bars``.
        """
        if not np.array_equal(self.timestamps, bars.timestamps) or tuple(self.symbols) != bars.symbols:
            raise ValueError(
                f"`features` must have a row for each of {len(bars.timestamps)} bars x {len(bars.symbols)} symbols of "
                f"`aligned_bars`, had {len(self.timestamps)} x {len(self.symbols)} of another grid; run "
                "`kedro run --pipeline features`."
            )
        return self.values

    def to_frame(self) -> pd.DataFrame:
        """Return one row per bar and asset: ``timestamp``, ``symbol`` and a column per feature."""
        rows, assets, _ = self.values.shape
        keys = {
            "timestamp": pd.to_datetime(np.repeat(self.timestamps, assets), utc=True),
            "symbol": np.tile(np.array(self.symbols, dtype=object), rows),
        }
        columns = {name: self.values[:, :, index].ravel() for index, name in enumerate(self.names)}
        return pd.DataFrame({**keys, **columns})

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Features:
        """Read what ``to_frame`` returned.

        Raises:
            ValueError: If a bar lacks the row of a symbol, or rows are not sorted by bar end and symbol.
        """
        ends = utc_timestamps(frame["timestamp"])
        place, symbols = pd.factorize(frame["symbol"], sort=True)
        assets = max(1, len(symbols))
        grid = ends[::assets]
        if not np.array_equal(ends, np.repeat(grid, assets)) or (place != np.arange(len(ends)) % assets).any():
            raise ValueError("Features must have a row per bar and symbol; run `kedro run --pipeline features`.")
        columns = frame.drop(columns=["timestamp", "symbol"])
        values = columns.to_numpy(dtype=np.float64).reshape(len(grid), assets, -1)
        return cls(columns.columns.tolist(), grid, symbols.tolist(), values)

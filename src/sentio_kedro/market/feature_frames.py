"""Features as a long frame, for people and files, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.timestamps import Floats


def features_to_frame(bars: AlignedBars, features: Floats, names: Sequence[str]) -> pd.DataFrame:
    """Return one row per bar of the grid and asset: ``timestamp``, ``symbol`` and a column per feature.

    Args:
        bars: Bars on the grid of the features, T x A.
        features: Features [T, A, F], NaN in warm-up.
        names: Their names, F of them.
    """
    rows, assets, _ = features.shape
    keys = {
        "timestamp": pd.to_datetime(np.repeat(bars.timestamps, assets), utc=True),
        "symbol": np.tile(np.array(bars.symbols, dtype=object), rows),
    }
    columns = {name: features[:, :, index].ravel() for index, name in enumerate(names)}
    return pd.DataFrame({**keys, **columns})


def features_from_frame(frame: pd.DataFrame, bars: AlignedBars) -> Floats:
    """Return the features [T, A, F] that ``features_to_frame`` put in a frame.

    Args:
        frame: Rows by timestamp and, within it, by symbol.
        bars: The bars that the features were computed on, T x A.

    Raises:
        ValueError: If the frame is not on the grid of ``bars``.
    """
    shape = len(bars.timestamps), len(bars.symbols)
    values = frame.drop(columns=["timestamp", "symbol"]).to_numpy(dtype=np.float64)
    timestamps = frame["timestamp"].dt.tz_localize(None).to_numpy(dtype="datetime64[ns]")
    fits = len(frame) == shape[0] * shape[1] and (
        np.array_equal(timestamps, np.repeat(bars.timestamps, shape[1]))
        and np.array_equal(frame["symbol"].astype(str), np.tile(bars.symbols, shape[0]))
    )
    if not fits:
        raise ValueError(
            f"`features` must have a row for each of {shape[0]} bars x {shape[1]} symbols of `aligned_bars`, in that "
            f"order, had {len(frame)} rows of another grid; run `kedro run --pipeline features`."
        )
    return values.reshape(*shape, -1)

"""What every account earned at each bar that judged it, kept so that runs can be compared on the same rows."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentio_kedro.evaluation.run_frames import SEED_PREFIX, RunFrames, account_table, row_times
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.regimes import market_return

SAME_MOVE = 1e-9  # two log returns of one market at most so far apart are equal but for rounding
_DECIMALS = 9


def out_of_sample_returns(frames: RunFrames, bars: AlignedBars) -> pd.DataFrame:
    """Return the net return of each account at each test row, and what identifies the row.

    Args:
        frames: Frames of the run.
        bars: Bars that were traded.

    Returns:
        One row per fold and test row, in order: ``timestamp`` (end of the bar of the decision), ``fold``, ``market``
        (mean log total return of the assets until the end of the next bar) and one column per account of simple net
        returns over the same time.
    """
    table = account_table(frames, "return")
    rows = table.index.get_level_values("row").to_numpy()
    known = pd.DataFrame(
        {
            "timestamp": row_times(frames).loc[rows].to_numpy(),
            "fold": table.index.get_level_values("fold").to_numpy(),
            "market": market_return(bars)[rows + 1],
        }
    )
    return pd.concat([known, table.reset_index(drop=True)], axis=1)


def agent_columns(returns: pd.DataFrame) -> list[str]:
    """Columns of the independent agents."""
    return [str(name) for name in returns.columns if str(name).startswith(SEED_PREFIX)]


def shared_rows(one: pd.DataFrame, other: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cut two frames of ``out_of_sample_returns`` to the rows that judged both.

    Rows are the same where decision time and move of the market are; where moments recur (combinatorial folds), the
    fold must be the same as well.

    Returns:
        Both frames on these rows, in the same order.
    """
    recurring = one["timestamp"].duplicated().any() or other["timestamp"].duplicated().any()
    keys = ["timestamp", "fold"] if recurring else ["timestamp"]
    mine, theirs = one.reset_index(drop=True), other.reset_index(drop=True)
    pairs = mine[[*keys, "market"]].reset_index().merge(theirs[[*keys, "market"]].reset_index(), on=keys)
    pairs = pairs[(pairs["market_x"] - pairs["market_y"]).abs() <= SAME_MOVE].sort_values("index_x")
    return (
        mine.iloc[pairs["index_x"]].reset_index(drop=True),
        theirs.iloc[pairs["index_y"]].reset_index(drop=True),
    )


def rows_digest(returns: pd.DataFrame) -> str:
    """Digest of the rows that judged a run: equal digests, equal moments and equal moves of the market."""
    digest = hashlib.sha256(_moments(returns).tobytes())
    if returns["timestamp"].duplicated().any():
        digest.update(returns["fold"].to_numpy(dtype=np.int64).tobytes())
    market_returns = np.round(returns["market"].to_numpy(dtype=np.float64), _DECIMALS) + 0.0  # no minus zero
    digest.update(market_returns.tobytes())
    return digest.hexdigest()


def describe_rows(returns: pd.DataFrame) -> str:
    """Say which rows judged a run, such as ``2018-10-06 to 2019-10-01, 17,245 bars``."""
    first, last = returns["timestamp"].min(), returns["timestamp"].max()
    return f"{first:%Y-%m-%d} to {last:%Y-%m-%d}, {returns['timestamp'].nunique():,} bars"


def _moments(returns: pd.DataFrame) -> NDArray[np.int64]:
    timestamps = pd.DatetimeIndex(returns["timestamp"]).tz_convert("UTC").tz_localize(None)
    return timestamps.to_numpy(dtype="datetime64[ns]").astype(np.int64)

"""Out-of-sample returns of every account by bar, and the rows that two runs share."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from sentio_kedro.evaluation.run_frames import ENSEMBLE, SEED_PREFIX, RunFrames, account_table, row_times
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.regimes import market_return

DECIMALS = 9  # of a market return; a difference beyond them is rounding


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
    columns = {
        "timestamp": row_times(frames).loc[rows].to_numpy(),
        "fold": table.index.get_level_values("fold").to_numpy(),
        "market": market_return(bars)[rows + 1],
    }
    return pd.concat([pd.DataFrame(columns), table.reset_index(drop=True)], axis=1)


def headline_column(returns: pd.DataFrame) -> str | None:
    """Column of the account that is judged: the ensemble, or the only agent; None of a run that was not judged so."""
    seeds = [str(name) for name in returns.columns if str(name).startswith(SEED_PREFIX)]
    if ENSEMBLE in returns.columns:
        return ENSEMBLE
    return seeds[0] if len(seeds) == 1 else None


def shared_rows(one: pd.DataFrame, other: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cut two frames of ``out_of_sample_returns`` to the rows that both have, in the same order.

    Rows are the same if timestamp and market return are; where timestamps recur (combinatorial folds), the fold must
    be the same too.
    """
    recurring = one["timestamp"].duplicated().any() or other["timestamp"].duplicated().any()
    keys = ["timestamp", "fold"] if recurring else ["timestamp"]
    first, second = (frame[[*keys, "market"]].reset_index(drop=True).reset_index() for frame in (one, other))
    pairs = first.merge(second, on=keys)
    pairs = pairs[(pairs["market_x"] - pairs["market_y"]).abs() <= 10.0**-DECIMALS].sort_values("index_x")
    return (
        one.iloc[pairs["index_x"]].reset_index(drop=True),
        other.iloc[pairs["index_y"]].reset_index(drop=True),
    )


def rows_digest(returns: pd.DataFrame) -> str:
    """Digest of a run's test rows: equal for equal timestamps and equal market returns."""
    digest = hashlib.sha256(pd.DatetimeIndex(returns["timestamp"]).as_unit("ns").asi8.tobytes())
    if returns["timestamp"].duplicated().any():
        digest.update(returns["fold"].to_numpy(dtype=np.int64).tobytes())
    market_returns = np.round(returns["market"].to_numpy(dtype=np.float64), DECIMALS) + 0.0  # no minus zero
    digest.update(market_returns.tobytes())
    return digest.hexdigest()


def describe_rows(returns: pd.DataFrame) -> str:
    """Describe test rows, such as ``2018-10-06 to 2019-10-01, 17,245 bars``."""
    first, last = returns["timestamp"].min(), returns["timestamp"].max()
    return f"{first:%Y-%m-%d} to {last:%Y-%m-%d}, {returns['timestamp'].nunique():,} bars"

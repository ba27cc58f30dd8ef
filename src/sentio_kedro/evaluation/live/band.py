"""How likely a live return was, given the out-of-sample record: a stationary bootstrap of its length."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sentio_kedro.config import ReportingParameters
from sentio_kedro.evaluation.comparison.returns import headline_column
from sentio_kedro.evaluation.measures.targets import TARGETS
from sentio_kedro.evaluation.statistics.bootstrap import (
    CHUNK_VALUES,
    RUIN,
    Floats,
    automatic_block,
    percentile_interval,
    stationary_bootstrap_indices,
)

POINTS = 120  # of the band that is drawn
NORMAL_95 = 1.959964  # two-sided 95 % quantile of the normal distribution
DAYS = 365.25


class Band(NamedTuple):
    """Growth of resampled paths of the record, ``[samples, points]``: value of 1 after so many bars.

    Attributes:
        bars: ``[points]`` bars since the start; the last is the length of the live path.
        growth: ``[samples, points]``.
        block: Mean block length, bars.
    """

    bars: np.ndarray
    growth: Floats
    block: float


def record_returns(test_returns: pd.DataFrame) -> Floats:
    """Out-of-sample returns of the account that is judged, each bar once.

    Raises:
        ValueError: If no account is judged.
    """
    column = headline_column(test_returns)
    if column is None:
        raise ValueError("`test_returns` has no account of all agents; run `kedro run --pipeline backtest` again.")
    return test_returns.drop_duplicates("timestamp")[column].to_numpy(np.float64)


def bootstrap_band(record: Floats, length: int, parameters: ReportingParameters) -> Band:
    """Resample paths of ``length`` bars from a record of returns.

    A resample of the record's length is cut, or several are joined, to the length of the live path.

    Args:
        record: Simple returns per bar.
        length: Bars of the live path.
        parameters: Samples, block and seed.
    """
    rng, block = np.random.default_rng(parameters.seed), parameters.bootstrap_block or automatic_block(record)
    bars = np.unique(np.linspace(1, length, min(length, POINTS)).astype(np.int64))
    logs, parts = np.log(np.maximum(1.0 + record, RUIN)), -(-length // len(record))
    chunk = max(1, CHUNK_VALUES // (len(record) * parts))
    growth = []
    for start in range(0, parameters.bootstrap_samples, chunk):
        count = min(chunk, parameters.bootstrap_samples - start)
        drawn = [stationary_bootstrap_indices(len(record), count, block, rng) for _ in range(parts)]
        growth.append(np.exp(logs[np.concatenate(drawn, axis=1)[:, :length]].cumsum(axis=1)[:, bars - 1]))
    return Band(bars, np.concatenate(growth), float(block))


def percentile(samples: Floats, value: float) -> float:
    """Share of samples below a value, those within rounding counted half."""
    near = np.isclose(samples, value, rtol=0.0, atol=1e-12)
    return float(((samples < value) & ~near).mean() + 0.5 * near.mean())


def band_metrics(band: Band, live_return: float, confidence: float) -> dict[str, Any]:
    """Place of a live return among resampled ones: ``percentile``, ``low``, ``median``, ``high`` and the block."""
    returns = band.growth[:, -1] - 1.0
    low, high = percentile_interval(returns, confidence)
    return {
        "percentile": percentile(returns, live_return),
        "low": low,
        "median": float(np.median(returns)),
        "high": high,
        "confidence": confidence,
        "samples": len(returns),
        "mean_block_bars": band.block,
    }


def length_note(bars: int, periods_per_year: float, measured: Mapping[str, float | None]) -> str:
    """Say what so many bars cannot show.

    Args:
        bars: Bars of the live path.
        periods_per_year: Bars a year.
        measured: Out-of-sample ``sharpe``.
    """
    years = bars / periods_per_year
    bound = NORMAL_95 / math.sqrt(years)
    days = years * DAYS
    record = measured.get("sharpe")
    goal = TARGETS[0][3] if not record or record <= 0.0 else record
    whose = "the target" if not record or record <= 0.0 else "the out-of-sample record"
    needed = (NORMAL_95 / goal) ** 2
    return (
        f"{days:,.0f} days cannot show a Sharpe ratio below {bound:,.1f}: over {years:,.2f} years its standard error "
        f"is about {1.0 / math.sqrt(years):,.1f}. To tell a ratio of {goal:,.2f}, that of {whose}, from 0 takes about "
        f"{needed * DAYS:,.0f} days. Until then the live figures say whether the trader does what was tested, not "
        "whether it earns."
    )

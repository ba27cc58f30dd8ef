"""How sure a Sharpe ratio is: stationary block bootstrap.

Bars are not independent, so whole blocks of consecutive bars are drawn (Politis and Romano 1994, The Stationary
Bootstrap, Journal of the American Statistical Association 89). All accounts share the rows of a sample: a difference
between two accounts on the same market is judged with the market's luck in common.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sentio_kedro.trading.performance import sharpe_ratio

Floats = NDArray[np.float64]
CHUNK_VALUES = 1_000_000  # resampled returns held at once, 8 MB


class Interval(NamedTuple):
    """A percentile interval.

    Attributes:
        low: Lower end.
        high: Upper end.
    """

    low: float
    high: float


def default_block(bars: int) -> float:
    """Return the mean block length taken when none is given: the square root of the number of bars."""
    return math.sqrt(bars)


def stationary_bootstrap_indices(
    bars: int, samples: int, mean_block: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw rows in blocks of geometric length, wrapping from the last bar to the first.

    Args:
        bars: Number of rows T to draw from, and of rows drawn.
        samples: Number of resamples.
        mean_block: Mean block length in bars, at least 1; 1 draws bars independently.
        rng: Random generator.

    Returns:
        Row numbers, [samples, T].

    Raises:
        ValueError: If a size is below 1.
    """
    problems = [
        f"`{name}` must be at least 1, was {value}"
        for name, value in (("bars", bars), ("samples", samples), ("mean_block", mean_block))
        if not value >= 1
    ]
    if problems:
        raise ValueError("; ".join(problems) + ".")
    starts = rng.random((samples, bars)) < 1.0 / mean_block
    starts[:, 0] = True
    firsts = rng.integers(0, bars, int(starts.sum()))
    column = np.arange(bars)
    start_column = np.maximum.accumulate(np.where(starts, column, 0), axis=1)
    block = np.cumsum(starts).reshape(samples, bars) - 1  # every row starts a block, so blocks never span samples
    drawn: NDArray[np.int64] = (firsts[block] + column - start_column) % bars
    return drawn


def sharpe_samples(
    returns: Floats, periods_per_year: float, samples: int, mean_block: float | None, rng: np.random.Generator
) -> Floats:
    """Sharpe ratios of resampled paths, the same rows for all accounts of a sample.

    Args:
        returns: Simple returns per bar, [T, N]; T bars, N accounts.
        periods_per_year: Bars a year.
        samples: Number of resamples.
        mean_block: Mean block length in bars; None takes the square root of T.
        rng: Random generator.

    Returns:
        Annualised Sharpe ratios, [samples, N]. Memory stays bounded: resamples are made in chunks.
    """
    bars, accounts = returns.shape
    block = default_block(bars) if mean_block is None else mean_block
    chunk = max(1, CHUNK_VALUES // (bars * accounts))
    by_account = torch.from_numpy(np.ascontiguousarray(returns.T))  # [N, T]
    parts = []
    for first in range(0, samples, chunk):
        drawn = torch.from_numpy(stationary_bootstrap_indices(bars, min(chunk, samples - first), block, rng))
        paths = by_account[:, drawn]  # [N, chunk, T], bars side by side: reductions run along memory
        parts.append(sharpe_ratio(paths.permute(2, 1, 0), periods_per_year))
    ratios: Floats = torch.cat(parts).numpy()
    return ratios


def percentile_interval(samples: Floats, confidence: float) -> Interval:
    """Return the central interval of ``samples`` [samples] that holds the share ``confidence`` of them."""
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(samples, [tail, 1.0 - tail])
    return Interval(float(low), float(high))


def sharpe_interval(
    returns: Floats,
    periods_per_year: float,
    confidence: float = 0.95,
    *,
    samples: int = 1_000,
    mean_block: float | None = None,
    rng: np.random.Generator,
) -> Interval:
    """Interval of the median Sharpe ratio over accounts.

    Bars are resampled jointly, so the interval holds the market's luck but not that of drawing other seeds.

    Args:
        returns: Simple returns per bar, [T] or [T, N]; N accounts (seeds) of which the median is taken.
        periods_per_year: Bars a year.
        confidence: Share of the resamples inside the interval.
        samples: Number of resamples.
        mean_block: Mean block length in bars; None takes the square root of T.
        rng: Random generator.

    Returns:
        The percentile interval.
    """
    paths = returns[:, None] if returns.ndim == 1 else returns
    ratios = sharpe_samples(paths, periods_per_year, samples, mean_block, rng)
    return percentile_interval(np.median(ratios, axis=1), confidence)

"""How sure a Sharpe ratio is: its samples and its interval under the stationary block bootstrap."""

from __future__ import annotations

import numpy as np

from sentio_kedro.evaluation.bootstrap import (
    Floats,
    Interval,
    default_block,
    headline_samples,
    on_paths,
    path_medians,
    percentile_interval,
    stationary_bootstrap_indices,
)

__all__ = [
    "Floats",
    "Interval",
    "default_block",
    "on_paths",
    "path_medians",
    "percentile_interval",
    "sharpe_interval",
    "sharpe_samples",
    "stationary_bootstrap_indices",
]


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
        Annualised Sharpe ratios, [samples, N].
    """
    return headline_samples(returns, periods_per_year, samples, mean_block, rng)["sharpe"]


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

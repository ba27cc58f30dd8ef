"""Abstention gate: an agent stays flat unless its validation t exceeds a threshold."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MIN_BARS = 2  # bars whose returns have a deviation
MIN_VARIATION = 1e-24  # a variance below this share of the mean square is rounding, not variation


def newey_west_lags(bars: int) -> int:
    """Return the lags of a Bartlett kernel by rule of thumb: floor(4 (bars / 100)^(2/9)), at most ``bars`` - 1.

    Newey and West (1994), Automatic Lag Selection in Covariance Matrix Estimation, Review of Economic Studies 61.

    Raises:
        ValueError: If there are fewer than two bars.
    """
    if bars < MIN_BARS:
        raise ValueError(f"`bars` must be at least {MIN_BARS} to test a mean, was {bars}; give more rows.")
    return min(int(4.0 * math.pow(bars / 100.0, 2.0 / 9.0)), bars - 1)


def mean_t_statistic(returns: Tensor, lags: int | None = None) -> Tensor:
    """Return the mean return per bar over its Newey-West standard error, robust to autocorrelation.

    The squared standard error is the long-run variance over T with the Bartlett kernel (Newey and West 1987, A Simple,
    Positive Semi-Definite, Heteroskedasticity and Autocorrelation Consistent Covariance Matrix, Econometrica 55),
    without a correction for small samples.

    Args:
        returns: Simple net returns per bar in order of time, [T, ...].
        lags: Lags of the autocovariance; None takes ``newey_west_lags``.

    Returns:
        [...] in float64; 0 where the returns do not vary.

    Raises:
        ValueError: If there are fewer than two bars, or ``lags`` is not in [0, T).
    """
    values = returns.double()
    bars = values.shape[0] if values.dim() else 0
    last_lag = newey_west_lags(bars) if lags is None else lags
    if not 0 <= last_lag < bars:
        raise ValueError(f"`lags` must be in [0, {bars}), the number of bars, was {last_lag}; lower it.")
    mean = values.mean(dim=0)
    centred = values - mean
    variance = centred.square().sum(dim=0) / bars
    long_run = variance.clone()
    for lag in range(1, last_lag + 1):
        weight = 1.0 - lag / (last_lag + 1.0)
        long_run += 2.0 * weight * (centred[lag:] * centred[:-lag]).sum(dim=0) / bars
    varies = long_run > MIN_VARIATION * values.square().mean(dim=0)
    return torch.where(varies, mean / torch.where(varies, long_run / bars, 1.0).sqrt(), 0.0)


def abstains(validation_t: float, threshold: float | None) -> bool:
    """Return whether an agent stays flat: a threshold is set and ``validation_t`` is not above it, or is NaN."""
    return threshold is not None and not validation_t > threshold

"""Probabilistic and deflated Sharpe ratio, minimum track record length.

Probabilistic Sharpe ratio and minimum track record length: Bailey and Lopez de Prado 2012, The Sharpe Ratio Efficient
Frontier, Journal of Risk 15. Deflated Sharpe ratio and number of independent trials: the same 2014, The Deflated Sharpe
Ratio, Journal of Portfolio Management 40. Sharpe ratios are per bar here, never annualised: the number of bars carries
the time. A probability here is a confidence, one less the p-value of a one-sided test: it says nothing of how likely
skill was before the test.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy

from sentio_kedro.evaluation.statistics.bootstrap import Floats
from sentio_kedro.trading.performance import STILL

NORMAL_KURTOSIS = 3.0
MIN_COMMON_ROWS = 30  # for a correlation between two trials
ROUNDING = 1e-9  # of a number of trials


class SharpeMoments(NamedTuple):
    """Moments that determine the distribution of an estimated Sharpe ratio.

    Attributes:
        sharpe: Mean over sample deviation of the returns per bar, not annualised.
        skewness: Third standardised moment; 0 for normal returns.
        kurtosis: Fourth standardised moment, not in excess; 3 for normal returns.
        bars: Number of returns.
    """

    sharpe: float
    skewness: float
    kurtosis: float
    bars: int


def sharpe_moments(returns: Floats) -> SharpeMoments:
    """Estimate the moments of simple returns per bar [T]; Sharpe ratio 0 and normal moments if they do not vary.

    Raises:
        ValueError: If there are fewer than two bars.
    """
    bars = len(returns)
    if bars < 2:  # noqa: PLR2004 - a deviation needs two
        raise ValueError(f"`returns` must hold at least 2 bars, held {bars}; give more bars.")
    mean, deviation = float(np.mean(returns)), float(np.std(returns, ddof=1))
    if not deviation > STILL * abs(mean):
        return SharpeMoments(0.0, 0.0, NORMAL_KURTOSIS, bars)
    kurtosis = float(scipy.stats.kurtosis(returns, fisher=False))
    return SharpeMoments(mean / deviation, float(scipy.stats.skew(returns)), kurtosis, bars)


def sharpe_error(moments: SharpeMoments) -> float:
    """Standard error of an estimated Sharpe ratio per bar (equation 5 of the paper of 2012)."""
    sharpe = moments.sharpe
    variance = 1.0 - moments.skewness * sharpe + (moments.kurtosis - 1.0) / 4.0 * sharpe**2
    return math.sqrt(max(variance, 0.0) / (moments.bars - 1))


def probabilistic_sharpe(moments: SharpeMoments, benchmark: float = 0.0) -> float:
    """Confidence that the true Sharpe ratio exceeds ``benchmark``, per bar."""
    difference, error = moments.sharpe - benchmark, sharpe_error(moments)
    if error == 0.0:
        return 0.5 if difference == 0.0 else float(difference > 0.0)
    return float(scipy.stats.norm.cdf(difference / error))


def minimum_track_record(moments: SharpeMoments, benchmark: float = 0.0, confidence: float = 0.95) -> float:
    """Bars after which such returns show with ``confidence`` that the true Sharpe ratio exceeds ``benchmark``.

    Args:
        moments: Of the returns; their own number of bars does not matter.
        benchmark: Sharpe ratio per bar.
        confidence: Required probability, above 0.5.

    Returns:
        Infinity if the Sharpe ratio is not above ``benchmark``.
    """
    difference = moments.sharpe - benchmark
    if difference <= 0.0:
        return math.inf
    spread = sharpe_error(moments) ** 2 * (moments.bars - 1)
    return float(1.0 + spread * (scipy.stats.norm.ppf(confidence) / difference) ** 2)


def effective_trials(returns: Floats, trials: int) -> int:
    """Number of independent trials that correlated ones amount to (appendix of the paper of 2014).

    M trials with the mean correlation rho between two of them count as rho + (1 - rho) M. A negative rho counts as 0,
    and so does the correlation of two trials with fewer than ``MIN_COMMON_ROWS`` rows in common or without variation.

    Args:
        returns: Returns per bar of the trials whose returns are known, NaN on rows that they did not test, [T, M].
        trials: Number of trials; each one with unknown returns counts as one.

    Returns:
        Rounded up: trials that differ at all are at least two.
    """
    known, is_known = returns.shape[1], ~np.isnan(returns)
    if known < 2:  # noqa: PLR2004 - a correlation needs two
        return trials
    tested, values = is_known.astype(np.float64), np.nan_to_num(returns)
    mean = values.sum(axis=0) / np.maximum(tested.sum(axis=0), 1.0)
    centred = np.where(is_known, values - mean, 0.0)
    rows, sums = np.maximum(tested.T @ tested, 1.0), centred.T @ tested  # [M, M], of trial i on rows that j tested too
    variance = (centred**2).T @ tested - sums**2 / rows
    scale = np.sqrt(np.where((variance > 0.0) & (rows >= MIN_COMMON_ROWS), variance, np.inf))
    correlation = (centred.T @ centred - sums * sums.T / rows) / (scale * scale.T)
    mean_of_pairs = float(correlation[~np.eye(known, dtype=np.bool_)].mean())
    number: int = math.ceil(trials - max(mean_of_pairs, 0.0) * (known - 1) - ROUNDING)
    return number


def expected_maximum_sharpe(trials: int, deviation: float) -> float:
    """Expected Sharpe ratio of the best of ``trials`` trials without skill.

    Args:
        trials: Number of independent trials, see ``effective_trials``.
        deviation: Deviation of the Sharpe ratios over trials.

    Returns:
        In the unit of ``deviation``; 0 for a single trial.

    Raises:
        ValueError: If there is no trial.
    """
    if trials < 1:
        raise ValueError(f"`trials` must be at least 1, was {trials}: count the tested one too.")
    if trials == 1:
        return 0.0
    high, higher = scipy.stats.norm.ppf([1.0 - 1.0 / trials, 1.0 - 1.0 / (trials * math.e)])
    return float(deviation * ((1.0 - np.euler_gamma) * high + np.euler_gamma * higher))


def deflated_sharpe(moments: SharpeMoments, trials: int, deviation: float) -> float:
    """Confidence that the true Sharpe ratio exceeds the expected best of ``trials`` trials without skill.

    Args:
        moments: Of the returns of the selected trial.
        trials: Number of independent trials, the selected one included.
        deviation: Deviation of their Sharpe ratios per bar.
    """
    return probabilistic_sharpe(moments, expected_maximum_sharpe(trials, deviation))

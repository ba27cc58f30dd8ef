"""Interquartile mean over seeds and folds, with a bootstrap over seeds.

Agarwal, Schwarzer, Castro, Courville and Bellemare 2021, Deep Reinforcement Learning at the Edge of the Statistical
Precipice, Advances in Neural Information Processing Systems 34. It uses more of the seeds than a median and is moved
less by one outlying seed than a mean.
"""

from __future__ import annotations

import numpy as np
import scipy

from sentio_kedro.evaluation.statistics.bootstrap import Floats, Interval, percentile_interval

QUARTER = 0.25


def interquartile_mean(scores: Floats) -> float:
    """Return the mean of the middle half of ``scores``, of any shape."""
    return float(scipy.stats.trim_mean(scores, QUARTER, axis=None))


def interquartile_interval(
    scores: Floats, confidence: float = 0.95, *, samples: int = 1_000, rng: np.random.Generator
) -> Interval | None:
    """Interval of the interquartile mean by the stratified bootstrap: seeds are resampled within each fold.

    Args:
        scores: One score per seed and fold, [seeds, folds].
        confidence: Share of the resamples inside the interval.
        samples: Number of resamples.
        rng: Random generator.

    Returns:
        The percentile interval; None for one seed, or seeds that are all alike (a rule decides for them): they have no
        dispersion, and an interval without width would look like certainty.
    """
    seeds, folds = scores.shape
    if not np.ptp(scores, axis=0).any():
        return None
    drawn = rng.integers(0, seeds, (samples, seeds, folds))
    resampled = np.take_along_axis(scores[None], drawn, axis=1).reshape(samples, -1)
    return percentile_interval(scipy.stats.trim_mean(resampled, QUARTER, axis=1), confidence)

"""Probability of backtest overfitting (CSCV, Bailey et al. 2017).

Combinatorially symmetric cross-validation (Bailey, Borwein, Lopez de Prado and Zhu 2017, The Probability of Backtest
Overfitting, Journal of Computational Finance 20): the rows are cut into blocks, every half of the blocks selects the
trial with the best Sharpe ratio, and the other half ranks that trial among all.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np

from sentio_kedro.evaluation.statistics.bootstrap import Floats
from sentio_kedro.trading.performance import STILL

MIN_TRIALS = 2


class Overfitting(NamedTuple):
    """Out-of-sample rank of the trials that were best in sample.

    Attributes:
        probability: Share of the splits in which the selected trial was no better than the median of all.
        logits: Logit of the selected trial's relative rank on the other half, one per split; 0 is the median.
        trials: Number of trials.
        blocks: Number of blocks.
    """

    probability: float
    logits: Floats
    trials: int
    blocks: int


def backtest_overfitting(returns: Floats, blocks: int = 16) -> Overfitting:
    """Estimate the probability of backtest overfitting.

    Args:
        returns: Simple returns per bar of every trial on the same rows, [T, M]; M trials.
        blocks: Blocks that the rows are cut into, in order; even. 16 give 12,870 splits.

    Raises:
        ValueError: If there are fewer than two trials, or too few rows for the blocks, or the blocks are odd.
    """
    bars, trials = returns.shape
    problems = []
    if trials < MIN_TRIALS:
        problems.append(f"`returns` must hold at least {MIN_TRIALS} trials, held {trials}")
    if blocks < 2 or blocks % 2:  # noqa: PLR2004 - two halves
        problems.append(f"`blocks` must be even and at least 2, was {blocks}")
    elif bars < 2 * blocks:
        problems.append(f"`returns` must hold at least 2 bars a block, held {bars} for {blocks} blocks")
    if problems:
        raise ValueError("; ".join(problems) + ".")
    centred = returns - returns.mean(axis=0)  # sums of squares of small deviations lose no digits
    edges = np.linspace(0, bars, blocks + 1).astype(np.int64)
    sums = np.add.reduceat(np.stack([centred, centred**2]), edges[:-1], axis=1)  # [2, S, M]
    lengths = np.diff(edges).astype(np.float64)
    halves = np.array(list(combinations(range(blocks), blocks // 2)))
    selection = np.zeros((len(halves), blocks))  # [splits, S], 1 in the half that selects
    np.put_along_axis(selection, halves, 1.0, axis=1)
    inside = _sharpe(selection, sums, lengths, returns.mean(axis=0))
    outside = _sharpe(1.0 - selection, sums, lengths, returns.mean(axis=0))
    best = np.take_along_axis(outside, inside.argmax(axis=1)[:, None], axis=1)
    rank = (outside < best).sum(axis=1) + ((outside == best).sum(axis=1) + 1.0) / 2.0  # equals share their ranks
    share = rank / (trials + 1.0)
    logits = np.log(share / (1.0 - share))
    return Overfitting(float(np.mean(logits <= 0.0)), logits, trials, blocks)


def _sharpe(half: Floats, sums: Floats, lengths: Floats, centre: Floats) -> Floats:
    """Sharpe ratios per bar on the blocks of a half, [splits, M]; 0 where returns do not vary."""
    bars = (half @ lengths)[:, None]
    shift, square = half @ sums[0] / bars, half @ sums[1] / bars
    deviation = np.sqrt(np.maximum(square - shift**2, 0.0) * bars / (bars - 1.0))
    mean = centre + shift
    varies = deviation > STILL * np.abs(mean)
    ratio: Floats = np.where(varies, mean / np.where(varies, deviation, 1.0), 0.0)
    return ratio

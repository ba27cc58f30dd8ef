"""Intervals of a Sharpe ratio cover what they should."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sentio_kedro.evaluation.significance import sharpe_interval


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    truth, covered = 0.1 * math.sqrt(252.0), 0
    for _ in range(100):
        returns = rng.normal(0.001, 0.01, 400)
        low, high = sharpe_interval(returns, 252.0, 0.9, samples=200, mean_block=5.0, rng=rng)
        covered += low <= truth <= high
    assert 82 <= covered <= 97


def test_blocks_widen_the_interval_of_dependent_returns() -> None:
    rng = np.random.default_rng(0)
    returns = np.repeat(rng.normal(0.0, 0.01, 200), 10)  # each return lasts ten bars
    single, blocks = (
        sharpe_interval(returns, 252.0, samples=200, mean_block=block, rng=np.random.default_rng(0))
        for block in (1.0, 40.0)
    )
    assert blocks.high - blocks.low > 2.0 * (single.high - single.low)


def test_the_interval_of_several_seeds_is_that_of_their_median() -> None:
    rng = np.random.default_rng(0)
    path = rng.normal(0.0, 0.01, 500)
    seeds = np.stack([path, path, path + 0.05], axis=1)  # one lucky seed moves nothing
    alone = sharpe_interval(path, 252.0, samples=100, rng=np.random.default_rng(0))
    assert sharpe_interval(seeds, 252.0, samples=100, rng=np.random.default_rng(0)) == pytest.approx(alone, abs=1e-9)

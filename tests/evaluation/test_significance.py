"""Blocks have the length asked for, and intervals cover what they should."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.evaluation import significance
from sentio_kedro.evaluation.significance import (
    default_block,
    percentile_interval,
    sharpe_interval,
    sharpe_samples,
    stationary_bootstrap_indices,
)
from sentio_kedro.trading.performance import sharpe_ratio


@settings(max_examples=20, deadline=None)
@given(bars=st.integers(1, 60), samples=st.integers(1, 5), block=st.floats(1.0, 40.0), seed=st.integers(0, 99))
def test_indices_are_rows_of_the_path(bars: int, samples: int, block: float, seed: int) -> None:
    rows = stationary_bootstrap_indices(bars, samples, block, np.random.default_rng(seed))
    assert rows.shape == (samples, bars)
    assert rows.min() >= 0
    assert rows.max() < bars


def test_blocks_are_consecutive_wrap_around_and_have_the_mean_length_asked_for() -> None:
    rows = stationary_bootstrap_indices(1_000, 200, 25.0, np.random.default_rng(0))
    follows = (rows[:, 1:] - rows[:, :-1]) % 1_000 == 1
    assert follows.mean() == pytest.approx(1.0 - 1.0 / 25.0, abs=0.005)
    assert ((rows[:, 1:] == 0) & (rows[:, :-1] == 999)).any()


def test_every_bar_is_drawn_equally_often_so_that_the_ends_are_not_neglected() -> None:
    rows = stationary_bootstrap_indices(50, 4_000, 10.0, np.random.default_rng(0))
    share = np.bincount(rows.ravel(), minlength=50) / rows.size
    assert share == pytest.approx(np.full(50, 0.02), rel=0.1)


def test_wrong_sizes_are_refused_together() -> None:
    with pytest.raises(ValueError, match=r"`samples` must be at least 1, was 0; `mean_block`.*was 0.5"):
        stationary_bootstrap_indices(10, 0, 0.5, np.random.default_rng(0))


def test_samples_are_the_sharpe_ratios_of_the_drawn_paths() -> None:
    returns = np.random.default_rng(1).normal(0.0, 0.01, (80, 2))
    rows = stationary_bootstrap_indices(80, 7, 5.0, np.random.default_rng(3))
    expected = np.stack([sharpe_ratio(torch.from_numpy(returns[path]), 252.0).numpy() for path in rows])
    assert sharpe_samples(returns, 252.0, 7, 5.0, np.random.default_rng(3)) == pytest.approx(expected, abs=1e-9)


def test_accounts_share_the_rows_of_a_sample() -> None:
    path = np.random.default_rng(1).normal(0.0, 0.01, 300)
    samples = sharpe_samples(np.stack([path, 2.0 * path], axis=1), 252.0, 50, None, np.random.default_rng(0))
    assert samples[:, 0] == pytest.approx(samples[:, 1], abs=1e-9)


def test_chunks_bound_the_memory_and_give_every_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(significance, "CHUNK_VALUES", 1_000)
    returns = np.random.default_rng(1).normal(0.0, 0.01, (100, 3))
    assert sharpe_samples(returns, 252.0, 11, None, np.random.default_rng(0)).shape == (11, 3)


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


def test_percentile_interval_is_central() -> None:
    assert percentile_interval(np.arange(101.0), 0.9) == pytest.approx((5.0, 95.0))
    assert default_block(400) == 20.0

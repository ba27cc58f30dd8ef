"""Blocks have the length asked for, figures are those of the drawn paths, intervals are central."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from sentio_kedro.evaluation.statistics import bootstrap
from sentio_kedro.evaluation.statistics.bootstrap import (
    automatic_block,
    headline_samples,
    percentile_interval,
    round_trip_samples,
    stationary_bootstrap_indices,
)
from sentio_kedro.trading.performance import annual_return, annual_volatility, maximum_drawdown, sharpe_ratio

PERIODS = 252.0


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


def test_blocks_start_anywhere_with_equal_chance_and_go_on_for_a_geometric_length() -> None:
    rows = stationary_bootstrap_indices(10, 20_000, 4.0, np.random.default_rng(1))
    goes_on = (rows[:, 1:] - rows[:, :-1]) % 10 == 1
    assert goes_on.mean() == pytest.approx(0.75 + 0.25 / 10.0, abs=0.005)  # a new block begins at the next bar too
    assert (goes_on[:, 1:] & goes_on[:, :-1]).mean() == pytest.approx(0.775**2, abs=0.005)  # without memory
    jumps = rows[:, 1:][~goes_on]
    assert np.bincount(jumps, minlength=10) / jumps.size == pytest.approx(np.full(10, 0.1), abs=0.006)


def test_one_bar_a_block_draws_bars_independently() -> None:
    rows = stationary_bootstrap_indices(40, 2_000, 1.0, np.random.default_rng(2))
    assert np.mean((rows[:, 1:] - rows[:, :-1]) % 40 == 1) == pytest.approx(1.0 / 40.0, abs=0.002)


@pytest.mark.parametrize("correlation", [0.3, 0.5, 0.8])
def test_the_automatic_block_of_an_autoregression_is_that_of_the_formula(correlation: float) -> None:
    shocks = np.random.default_rng(0).normal(size=100_000)
    path = lfilter([1.0], [1.0, -correlation], shocks)
    expected = (2.0 * correlation / (1.0 - correlation**2)) ** (2.0 / 3.0) * len(path) ** (1.0 / 3.0)
    assert automatic_block(path) == pytest.approx(expected, rel=0.1)
    assert automatic_block(0.01 * path + 1.0) == pytest.approx(automatic_block(path))


def test_the_automatic_block_of_noise_is_short_and_what_has_none_is_drawn_bar_by_bar() -> None:
    noise = np.random.default_rng(0).normal(size=(50, 2_000))
    blocks = [automatic_block(path) for path in noise]
    assert np.median(blocks) < 5.0  # the root of 2,000 is 45
    assert min(blocks) == 1.0
    for path in (np.zeros(500), np.full(500, 0.1), np.arange(15.0)):
        assert automatic_block(path) == 1.0


def test_wrong_sizes_are_refused_together() -> None:
    with pytest.raises(ValueError, match=r"`samples` must be at least 1, was 0; `mean_block`.*was 0.5"):
        stationary_bootstrap_indices(10, 0, 0.5, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"`mean_block` must be at least 1, was 0\.5"):
        headline_samples(np.zeros((10, 2)), PERIODS, 5, 0.5, np.random.default_rng(0))


def test_one_bar_has_no_figures() -> None:
    with pytest.raises(ValueError, match="at least 2 bars, held 1"):
        headline_samples(np.zeros((1, 2)), PERIODS, 5, 1.0, np.random.default_rng(0))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 999),
    bars=st.integers(2, 60),
    scale=st.sampled_from([1e-6, 0.01, 0.3]),
    block=st.sampled_from([1.0, 1.5, 5.0, 80.0]),
)
def test_samples_are_the_figures_of_the_drawn_paths(seed: int, bars: int, scale: float, block: float) -> None:
    returns = np.random.default_rng(seed).normal(0.0, scale, (bars, 2)).clip(-0.9)
    rows = stationary_bootstrap_indices(bars, 7, block, np.random.default_rng(3))
    samples = headline_samples(returns, PERIODS, 7, block, np.random.default_rng(3))
    paths = torch.from_numpy(returns[rows]).permute(1, 0, 2)  # [T, samples, N]
    expected = {
        "sharpe": sharpe_ratio(paths, PERIODS),
        "annual_return": annual_return(paths, PERIODS),
        "annual_volatility": annual_volatility(paths, PERIODS),
        "max_drawdown": maximum_drawdown(paths),
        "total_return": torch.prod(1.0 + paths, dim=0) - 1.0,
    }
    for name, values in expected.items():
        assert samples[name] == pytest.approx(values.numpy(), rel=1e-6, abs=1e-9), name
    downside = np.sqrt(np.mean(np.minimum(returns[rows], 0.0) ** 2, axis=1))
    with np.errstate(divide="ignore"):
        sortino = returns[rows].mean(axis=1) / downside * np.sqrt(PERIODS)
        calmar = samples["annual_return"] / samples["max_drawdown"]
    assert samples["sortino"] == pytest.approx(sortino, rel=1e-6)
    assert samples["calmar"] == pytest.approx(calmar)


def test_an_account_in_cash_has_figures_of_zero_and_one_that_lost_everything_stays_lost() -> None:
    returns = np.stack([np.zeros(40), np.r_[-1.0, np.zeros(39)]], axis=1)
    samples = headline_samples(returns, PERIODS, 50, 40.0, np.random.default_rng(0))
    assert all((values[:, 0] == 0.0).all() for values in samples.values())
    lost = samples["total_return"][:, 1] < -0.99
    assert lost.any()
    assert samples["max_drawdown"][lost, 1] == pytest.approx(1.0)
    assert all(np.isfinite(values).all() for values in samples.values())


def test_accounts_share_the_rows_of_a_sample() -> None:
    path = np.random.default_rng(1).normal(0.0, 0.01, 300)
    samples = headline_samples(np.stack([path, 2.0 * path], axis=1), PERIODS, 50, 17.0, np.random.default_rng(0))
    assert samples["sharpe"][:, 0] == pytest.approx(samples["sharpe"][:, 1], abs=1e-9)
    assert samples["sortino"][:, 0] == pytest.approx(samples["sortino"][:, 1], abs=1e-9)


def test_chunks_bound_the_memory_and_give_every_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "CHUNK_VALUES", 400)
    returns = np.random.default_rng(1).normal(0.0, 0.01, (100, 3))
    samples = headline_samples(returns, PERIODS, 11, 10.0, np.random.default_rng(0))
    assert {values.shape for values in samples.values()} == {(11, 3)}
    round_trips = round_trip_samples(np.ones((3, 100, 2)), 11, 10.0, np.random.default_rng(0))
    assert round_trips["win_rate"].shape == (11, 2)


def test_round_trips_are_drawn_with_the_rows_of_their_entry() -> None:
    results = np.r_[np.full(60, 0.01), np.full(40, -0.02)]
    sums = np.stack([np.ones(100), results > 0.0, results])[:, :, None]
    round_trips = round_trip_samples(sums, 4_000, 1.0, np.random.default_rng(0))
    assert round_trips["win_rate"].mean() == pytest.approx(0.6, abs=0.005)
    assert round_trips["win_rate"].std() == pytest.approx(np.sqrt(0.6 * 0.4 / 100), rel=0.05)
    assert round_trips["expectancy"] == pytest.approx(0.03 * round_trips["win_rate"] - 0.02)
    rows = stationary_bootstrap_indices(100, 5, 10.0, np.random.default_rng(7))
    drawn = round_trip_samples(sums, 5, 10.0, np.random.default_rng(7))["expectancy"]
    assert drawn[:, 0] == pytest.approx(results[rows].mean(axis=1))


def test_a_resample_without_a_round_trip_has_no_win_rate_and_counts_in_no_interval() -> None:
    sums = np.zeros((3, 10, 1))
    sums[:, 4, 0] = 1.0
    drawn = round_trip_samples(sums, 200, 1.0, np.random.default_rng(0))["win_rate"][:, 0]
    assert np.isnan(drawn).mean() == pytest.approx(0.9**10, abs=0.1)
    assert percentile_interval(drawn, 0.95) == (1.0, 1.0)
    assert np.isnan(percentile_interval(np.full(3, np.nan), 0.95)).all()


def test_percentile_interval_is_central() -> None:
    assert percentile_interval(np.arange(101.0), 0.9) == pytest.approx((5.0, 95.0))


@pytest.mark.filterwarnings("error")
def test_an_interval_bears_samples_without_a_bound() -> None:
    assert percentile_interval(np.r_[np.arange(96.0), np.full(5, np.inf)], 0.9) == (5.0, 95.0)
    assert percentile_interval(np.r_[-np.inf, np.arange(50.0), np.full(50, np.inf)], 0.95) == (1.0, np.inf)
    assert percentile_interval(np.full(9, np.inf), 0.95) == (np.inf, np.inf)


def sharpe_interval(returns: np.ndarray, confidence: float, samples: int, block: float, seed: int):
    paths = returns[:, None] if returns.ndim == 1 else returns
    ratios = headline_samples(paths, PERIODS, samples, block, np.random.default_rng(seed))["sharpe"]
    return percentile_interval(np.median(ratios, axis=1), confidence)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    truth, covered = 0.1 * math.sqrt(PERIODS), 0
    for seed in range(100):
        low, high = sharpe_interval(rng.normal(0.001, 0.01, 400), 0.9, 200, 5.0, seed)
        covered += low <= truth <= high
    assert 82 <= covered <= 97


def test_blocks_widen_the_interval_of_dependent_returns() -> None:
    returns = np.repeat(np.random.default_rng(0).normal(0.0, 0.01, 200), 10)  # each return lasts ten bars
    single, blocks = (sharpe_interval(returns, 0.95, 200, block, 0) for block in (1.0, 40.0))
    assert blocks.high - blocks.low > 2.0 * (single.high - single.low)


def test_the_interval_of_several_seeds_is_that_of_their_median() -> None:
    path = np.random.default_rng(0).normal(0.0, 0.01, 500)
    seeds = np.stack([path, path, path + 0.05], axis=1)  # one outlying seed moves nothing
    alone = sharpe_interval(path, 0.95, 100, 20.0, 0)
    assert sharpe_interval(seeds, 0.95, 100, 20.0, 0) == pytest.approx(alone, abs=1e-9)

"""Worked numbers of the papers, and how selection among trials is taken off.

Bailey and Lopez de Prado 2012, The Sharpe Ratio Efficient Frontier, Journal of Risk 15; the same 2014, The Deflated
Sharpe Ratio, Journal of Portfolio Management 40.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sentio_kedro.evaluation.statistics.deflated_sharpe import (
    SharpeMoments,
    deflated_sharpe,
    effective_trials,
    expected_maximum_sharpe,
    minimum_track_record,
    probabilistic_sharpe,
    sharpe_moments,
)

# Paper of 2014, a numerical example: an annual Sharpe ratio of 2.5 over five years of 250 daily returns, skewness -3,
# kurtosis 10, Sharpe ratios of the trials with an annual variance of one half.
CHOSEN = SharpeMoments(2.5 / math.sqrt(250.0), -3.0, 10.0, 1_250)
NORMAL = CHOSEN._replace(skewness=0.0, kurtosis=3.0)
DEVIATION = math.sqrt(0.5 / 250.0)

# Paper of 2012: a hedge fund's two years of monthly returns with a Sharpe ratio of 0.458 a month, 1.59 a year.
FUND = SharpeMoments(0.458, -2.448, 10.164, 24)


def test_the_best_of_a_hundred_trials_of_the_paper_deflates_to_its_worked_numbers() -> None:
    assert expected_maximum_sharpe(100, DEVIATION) == pytest.approx(0.1132, abs=5e-5)
    assert deflated_sharpe(CHOSEN, 100, DEVIATION) == pytest.approx(0.9004, abs=5e-5)


def test_fewer_trials_or_normal_returns_would_have_passed_as_the_paper_says() -> None:
    assert deflated_sharpe(CHOSEN, 46, DEVIATION) == pytest.approx(0.9505, abs=5e-5)
    assert deflated_sharpe(NORMAL, 88, DEVIATION) == pytest.approx(0.9505, abs=5e-5)


def test_skewness_and_fat_tails_lower_the_probability_as_in_the_papers_hedge_fund() -> None:
    assert probabilistic_sharpe(FUND._replace(skewness=0.0, kurtosis=3.0)) == pytest.approx(0.982, abs=5e-4)
    assert probabilistic_sharpe(FUND) == pytest.approx(0.913, abs=5e-4)


@pytest.mark.parametrize(("periods", "years"), [(250.0, 2.73), (52.0, 2.83), (12.0, 3.24)])
def test_years_that_tell_a_sharpe_ratio_of_two_from_one_are_those_of_the_paper(periods: float, years: float) -> None:
    moments = SharpeMoments(2.0 / math.sqrt(periods), 0.0, 3.0, 100)
    assert minimum_track_record(moments, 1.0 / math.sqrt(periods)) / periods == pytest.approx(years, abs=5e-3)


def test_at_its_minimum_length_a_track_record_has_just_the_probability_wanted() -> None:
    bars = minimum_track_record(FUND, 0.1, 0.9)
    longer = FUND._replace(bars=math.ceil(bars))
    assert probabilistic_sharpe(longer, 0.1) >= 0.9 > probabilistic_sharpe(longer._replace(bars=math.floor(bars)), 0.1)
    assert minimum_track_record(FUND, 0.458) == math.inf


@given(trials=st.integers(1, 500), more=st.integers(1, 500), deviation=st.floats(1e-3, 0.1))
def test_it_falls_as_trials_or_their_dispersion_grow(trials: int, more: int, deviation: float) -> None:
    before = deflated_sharpe(CHOSEN, trials, deviation)
    assert deflated_sharpe(CHOSEN, trials + more, deviation) < before
    if trials > 1:
        assert deflated_sharpe(CHOSEN, trials, 1.1 * deviation) < before


def test_one_trial_gives_the_probabilistic_sharpe_ratio_and_none_is_refused() -> None:
    assert deflated_sharpe(CHOSEN, 1, 0.3) == probabilistic_sharpe(CHOSEN)
    with pytest.raises(ValueError, match="`trials` must be at least 1, was 0"):
        expected_maximum_sharpe(0, 0.1)


def test_the_expected_maximum_is_that_of_normal_draws() -> None:
    draws = np.random.default_rng(0).normal(0.0, 0.3, (20_000, 50)).max(axis=1)
    assert expected_maximum_sharpe(50, 0.3) == pytest.approx(draws.mean(), rel=0.02)


def test_moments_are_per_bar_and_not_in_excess() -> None:
    returns = np.random.default_rng(0).gamma(2.0, 0.01, 5_000) - 0.015
    moments = sharpe_moments(returns)
    assert moments.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1))
    assert moments.skewness == pytest.approx(stats.skew(returns))
    assert moments.kurtosis == pytest.approx(3.0 + stats.kurtosis(returns))
    assert moments.bars == 5_000
    assert sharpe_moments(2.0 * returns) == pytest.approx(moments)


def test_an_account_in_cash_is_as_likely_good_as_bad() -> None:
    moments = sharpe_moments(np.zeros(50))
    assert moments == (0.0, 0.0, 3.0, 50)
    assert probabilistic_sharpe(moments) == 0.5
    with pytest.raises(ValueError, match="at least 2 bars, held 1"):
        sharpe_moments(np.zeros(1))


def test_the_probability_is_calibrated_on_skewed_returns() -> None:
    rng = np.random.default_rng(1)
    worthless = rng.gamma(1.0, 0.01, (400, 500)) - 0.01  # a true Sharpe ratio of zero
    estimate = np.array([probabilistic_sharpe(sharpe_moments(path)) for path in worthless])
    assert np.mean(estimate > 0.95) == pytest.approx(0.05, abs=0.03)


def _with_correlation(trials: int, correlation: float, rows: int = 400) -> np.ndarray:
    """Returns whose sample correlations are exactly ``correlation``, [rows, trials]."""
    draws = np.random.default_rng(0).normal(size=(rows, trials))
    white = np.linalg.qr(draws - draws.mean(axis=0))[0]
    root = np.linalg.cholesky(np.full((trials, trials), correlation) + (1.0 - correlation) * np.eye(trials))
    return 0.001 + 0.01 * white @ root.T


@pytest.mark.parametrize(("correlation", "number"), [(0.0, 20), (0.5, 11), (0.8, 5), (0.79, 5), (0.999, 2)])
def test_correlated_trials_count_as_the_papers_number_of_independent_ones(correlation: float, number: int) -> None:
    assert effective_trials(_with_correlation(20, correlation), 20) == number  # rho + (1 - rho) 20, rounded up


def test_equal_trials_are_one_and_opposite_or_unknown_ones_count_each() -> None:
    path = np.random.default_rng(0).normal(0.0, 0.01, 100)
    equal = np.stack([path, path, 3.0 * path + 0.001, path], axis=1)
    assert effective_trials(equal, 4) == 1
    assert effective_trials(equal, 7) == 4  # three of unknown returns
    assert effective_trials(np.stack([path, -path], axis=1), 2) == 2
    assert effective_trials(np.stack([path, np.full(100, 1e-6), np.zeros(100)], axis=1), 3) == 3  # cash does not vary
    assert effective_trials(path[:, None], 5) == 5


def test_a_correlation_is_that_of_the_rows_in_common_if_they_are_enough() -> None:
    first, second = _with_correlation(2, 0.6, 30).T
    later = np.random.default_rng(1).normal(0.0, 0.01, (2, 30))
    returns = np.stack([np.r_[first, later[0], np.full(30, np.nan)], np.r_[second, np.full(30, np.nan), later[1]]], 1)
    third = np.r_[first, later.ravel()]
    assert effective_trials(np.column_stack([returns, third]), 3) == 2  # 0.6, 0.8 and 0.6 or so of three pairs
    few = returns.copy()
    few[0, 0] = np.nan  # 29 rows in common
    assert (effective_trials(returns, 100), effective_trials(few, 100)) == (100, 100)
    assert (effective_trials(np.tile(first, (2, 1)).T, 2), effective_trials(np.tile(first[:29], (2, 1)).T, 2)) == (1, 2)


def test_an_account_that_is_flat_on_the_rows_in_common_correlates_with_none() -> None:
    rng = np.random.default_rng(0)
    for mean in (0.1, 0.01, 0.003):
        flat = np.r_[np.zeros(100), rng.normal(mean, 0.01, 100)]
        steady = np.full(200, mean)
        early = [np.r_[rng.normal(0.0, 0.01, 100), np.full(100, np.nan)] for _ in range(2)]
        assert effective_trials(np.stack([flat, early[0]], axis=1), 2) == 2
        assert effective_trials(np.stack([flat, flat, early[0]], axis=1), 3) == 3  # 1/3 + 2/3 3, rounded up
        assert effective_trials(np.stack([steady, early[1]], axis=1), 2) == 2


@given(trials=st.integers(2, 60), seed=st.integers(0, 99))
def test_equal_trials_of_any_scale_are_one(trials: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = rng.normal(0.001, 0.01, 50)
    assert effective_trials(path[:, None] * rng.uniform(0.1, 3.0, trials), trials) == 1


def test_a_copy_of_a_trial_does_not_lower_the_number() -> None:
    returns = _with_correlation(10, 0.0)
    copies = np.column_stack([returns, *[returns[:, :1]] * 90])
    assert effective_trials(returns, 10) == 10
    assert effective_trials(copies, 100) == 19  # by the mean correlation, no fewer than the ten

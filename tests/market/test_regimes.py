"""Regimes: filtered and never smoothed, finite memory, fitted on train rows alone, ordered, guarded."""

import json
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.config import RegimeParameters
from sentio_kedro.market.regimes import RegimeModel, fit_regimes, market_return, stationary_distribution


def model_of(states=3, memory=16, seed=0):
    rng = np.random.default_rng([seed, states])
    transition = 0.9 * np.eye(states) + 0.1 * rng.dirichlet(np.ones(states), size=states)
    deviations = np.sort(rng.uniform(0.001, 0.02, states))
    return RegimeModel(rng.normal(0, 1e-4, states), deviations, transition, stationary_distribution(transition), memory)


def slow_filter(model, returns):
    """The forward recursion, row by row, from the stationary distribution over the last ``memory`` rows."""
    posterior = []
    for row in range(len(returns)):
        belief = model.stationary
        for value in returns[max(0, row - model.memory + 1) : row + 1]:
            logs = -0.5 * ((value - model.means) / model.deviations) ** 2 - np.log(model.deviations)
            belief = (belief @ model.transition) * np.exp(logs - logs.max())
            belief = belief / belief.sum()
        posterior.append(belief)
    return np.array(posterior)


def switching(rows, seed=0, deviations=(0.002, 0.01), stay=0.98):
    rng = np.random.default_rng(seed)
    state = np.zeros(rows, dtype=int)
    for row in range(1, rows):
        state[row] = state[row - 1] if rng.random() < stay else 1 - state[row - 1]
    return np.array(deviations)[state] * rng.standard_normal(rows), state


def returns_of(rows, seed):
    return 0.01 * np.random.default_rng(seed).standard_t(3, rows)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 80), states=st.integers(2, 4), memory=st.integers(1, 90), seed=st.integers(0, 99))
def test_filter_equals_the_slow_recursion(rows, states, memory, seed):
    model = model_of(states, memory, seed)
    returns = returns_of(rows, seed)
    np.testing.assert_allclose(model.filter(returns), slow_filter(model, returns), rtol=0, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(2, 120), cut=st.integers(1, 120), memory=st.integers(1, 64), seed=st.integers(0, 99))
def test_filtered_regimes_do_not_read_the_future(rows, cut, memory, seed):
    model = model_of(3, memory, seed)
    returns = returns_of(rows, seed)
    np.testing.assert_array_equal(model.filter(returns[:cut]), model.filter(returns)[:cut])


@pytest.mark.parametrize("memory", [1, 7, 512])
def test_one_pass_equals_chained_passes_equals_a_window_of_memory_rows(memory):
    model = model_of(3, memory)
    returns = returns_of(1_200, 3)
    whole = model.filter(returns)
    for row in (0, memory - 1, memory, 600, 1_199):
        window = returns[max(0, row - memory + 1) : row + 1]
        np.testing.assert_allclose(model.filter(window)[-1], whole[row], rtol=0, atol=1e-9)
    chained = [whole[:700]]
    for start in range(700, 1_200, 100):
        context = max(0, start - memory + 1)
        chained.append(model.filter(returns[context : start + 100])[start - context :])
    np.testing.assert_allclose(np.concatenate(chained), whole, rtol=0, atol=1e-9)


def test_an_extreme_return_is_not_nan_and_names_the_wildest_state():
    model = model_of(3, 64)
    returns = returns_of(300, 1)
    returns[[100, 101, 200]] = [50.0, -1e6, 1e12]
    posterior = model.filter(returns)
    assert np.isfinite(posterior).all()
    np.testing.assert_allclose(posterior.sum(axis=1), 1.0, atol=1e-12)
    assert posterior[[100, 101, 200], 2] == pytest.approx(1.0)


def test_a_return_that_no_reachable_state_explains_is_not_nan():
    transition = np.array([[1.0, 0.0], [1.0, 0.0]])
    model = RegimeModel(np.zeros(2), np.array([0.001, 0.01]), transition, np.array([1.0, 0.0]), 4)
    np.testing.assert_allclose(model.filter(np.array([0.0, 50.0, 0.0])), [[1.0, 0.0]] * 3)


def test_one_state_is_certain():
    model = fit_regimes([returns_of(50, 0)], RegimeParameters(states=1), 0)
    np.testing.assert_array_equal(model.filter(returns_of(7, 1)), np.ones((7, 1)))
    assert model.filter(np.zeros(0)).shape == (0, 1)


def test_fit_finds_the_planted_states_ordered_by_volatility():
    returns, state = switching(6_000)
    for seed in (0, 1):
        model = fit_regimes([returns[:2_500], returns[3_000:]], RegimeParameters(states=2, memory=128), seed)
        np.testing.assert_allclose(model.deviations, [0.002, 0.01], rtol=0.1)
        np.testing.assert_allclose(np.diag(model.transition), 0.98, atol=0.01)
        assert (model.filter(returns).argmax(axis=1) == state).mean() > 0.95
    swapped, _ = switching(3_000, deviations=(0.01, 0.002))
    assert np.diff(fit_regimes([swapped], RegimeParameters(), 0).deviations).min() > 0


def test_rows_after_the_train_end_do_not_touch_the_fit():
    returns, _ = switching(1_500)
    changed = returns.copy()
    changed[1_000:] *= 10.0
    parameters = RegimeParameters(states=2)
    first, second = (
        json.dumps(fit_regimes([x[:400], x[450:1_000]], parameters, 5).to_dict()) for x in (returns, changed)
    )
    assert first == second


def test_a_state_of_few_rows_is_merged_with_a_warning(caplog):
    returns = 0.001 * np.random.default_rng(0).standard_normal(2_000)
    returns[1_000:1_010] *= 300.0
    with caplog.at_level(logging.WARNING):
        model = fit_regimes([returns], RegimeParameters(states=2, min_occupancy=0.02), 0)
    assert model.states == 1
    assert "`regimes.min_occupancy`" in caplog.text
    assert fit_regimes([returns], RegimeParameters(states=2, min_occupancy=0.0), 0).states == 2


def test_a_fit_cut_short_warns_and_nothing_else_is_said(caplog):
    returns, _ = switching(600)
    with caplog.at_level(logging.DEBUG):
        fit_regimes([returns], RegimeParameters(states=2, iterations=2), 0)
    assert [record.name for record in caplog.records] == ["sentio_kedro.market.regimes"]
    assert "did not converge" in caplog.text


@pytest.mark.parametrize("rows", [np.zeros(100), np.array([0.0, 0.01] * 50)])
def test_returns_of_few_values_fall_back_to_fewer_states(rows):
    model = fit_regimes([rows], RegimeParameters(states=3), 0)
    assert model.states <= len(np.unique(rows))
    assert np.isfinite(model.filter(rows)).all()


@pytest.mark.parametrize("segments", [[], [np.zeros(1)], [np.array([0.1, np.nan, 0.2])]])
def test_unusable_returns_are_refused(segments):
    with pytest.raises(ValueError, match="at least 2 finite returns"):
        fit_regimes(segments, RegimeParameters(), 0)


def test_model_survives_json_to_the_bit():
    model = model_of(4, 33)
    again = RegimeModel.from_dict(json.loads(json.dumps(model.to_dict())))
    for name in ("means", "deviations", "transition", "stationary"):
        np.testing.assert_array_equal(getattr(again, name), getattr(model, name))
    assert again.memory == 33
    np.testing.assert_array_equal(again.filter(returns_of(50, 0)), model.filter(returns_of(50, 0)))


def test_stationary_distribution_exactly():
    np.testing.assert_allclose(stationary_distribution(np.array([[0.9, 0.1], [0.3, 0.7]])), [0.75, 0.25])


def test_market_return_weighs_present_assets_equally(walk):
    bars = walk(6, 2)
    bars.close[:] = [[1, 1], [2, np.nan], [2, 4], [np.nan, np.nan], [4, 4], [4, 2]]
    expected = [0.0, np.log(2), np.log(4) / 2, 0.0, np.log(2) / 2, -np.log(2) / 2]
    np.testing.assert_allclose(market_return(bars), expected)


@pytest.mark.parametrize("rows", [1, 2, 5, 63, 64, 65, 200])
def test_the_newest_posterior_alone_is_the_last_of_all(rows: int) -> None:
    model = RegimeModel(
        np.array([0.001, 0.0, -0.002]), np.array([0.002, 0.006, 0.02]),
        np.array([[0.97, 0.02, 0.01], [0.02, 0.96, 0.02], [0.01, 0.05, 0.94]]), np.array([0.4, 0.4, 0.2]), memory=64,
    )  # fmt: skip
    returns = 0.01 * np.random.default_rng(3).standard_normal(rows)
    np.testing.assert_allclose(model.newest(returns), model.filter(returns)[-1], rtol=0, atol=1e-12)

"""The best positions are the best: against every policy of tiny markets, and where the answer is plain."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planted.control import (
    autoregressive_positions,
    flat_level,
    follow,
    following_worth,
    gaussian_transition,
)
from planted.paths import autoregression, autoregressive_returns

LEVELS = np.array([-1.0, 0.0, 1.0])
COST = 2e-4
MEANS = st.integers(-10, 10).map(lambda value: value * 1e-4)  # coarse: a drift of almost nothing takes for ever to pay
STAYS = st.integers(1, 19).map(lambda value: value / 20.0)


def long_run(choice: np.ndarray, transition: np.ndarray, means: np.ndarray, cost: float) -> np.ndarray:
    """Mean profit per bar ``[N]`` of policies ``[N, X, P]`` (position chosen), from state 0 and flat, for ever."""
    count, states, size = choice.shape
    transitions = np.zeros((count, states, size, states, size))
    policy, state, position = np.indices(choice.shape)
    transitions[policy, state, position, :, choice] = transition[state]
    transitions = transitions.reshape(count, states * size, states * size)
    profit = means[None, :, None] * LEVELS[choice] - cost * np.abs(LEVELS[choice] - LEVELS)
    mean = np.broadcast_to(np.eye(states * size), transitions.shape)  # of the first 2^k powers
    for _ in range(40):
        mean = 0.5 * (mean + transitions @ mean)
        transitions = transitions @ transitions
    return (mean @ profit.reshape(count, -1, 1))[:, flat_level(LEVELS), 0]


@settings(max_examples=40, deadline=None)
@given(
    stay=st.tuples(STAYS, STAYS),
    means=st.tuples(MEANS, MEANS),
    cost=st.floats(1e-5, 2e-3),
)
def test_no_policy_of_a_market_of_two_states_earns_more(
    stay: tuple[float, float], means: tuple[float, float], cost: float
) -> None:
    transition = np.array([[stay[0], 1.0 - stay[0]], [1.0 - stay[1], stay[1]]])
    mean = np.array(means)
    worth = following_worth(mean, lambda following: transition @ following, cost, LEVELS)
    trade = cost * np.abs(LEVELS[None] - LEVELS[:, None])
    best = ((mean[:, None] * LEVELS + worth)[:, None] - trade).argmax(-1)
    every = np.array(list(product(range(3), repeat=6))).reshape(-1, 2, 3)  # 729 policies
    earned = long_run(every, transition, mean, cost)
    assert long_run(best[None], transition, mean, cost)[0] == pytest.approx(earned.max(), abs=1e-6 * cost + 1e-12)


@settings(max_examples=40, deadline=None)
@given(means=st.tuples(MEANS, MEANS, MEANS), cost=st.floats(1e-5, 2e-3))
def test_no_round_of_a_market_that_is_certain_earns_more(means: tuple[float, float, float], cost: float) -> None:
    """Three states in turn foretell every bar: the best of all rounds of 3, 6 and 9 positions is known."""
    mean, turn = np.array(means), np.roll(np.eye(3), 1, axis=1)
    worth = following_worth(mean, lambda following: turn @ following, cost, LEVELS)
    states = np.arange(900) % 3
    positions = follow(mean[states], worth[states], cost, LEVELS)
    rounds = [np.array(list(product(LEVELS, repeat=length))) for length in (6, 9)]
    earned = [(held @ mean[np.arange(held.shape[1]) % 3] - cost * turns(held)) / held.shape[1] for held in rounds]
    best = max(profits.max() for profits in earned)
    late = positions[-18:][None]  # whatever the way there cost
    assert (late @ mean[states[-18:]] - cost * turns(late))[0] / 18 == pytest.approx(best, abs=1e-6 * cost + 1e-12)


def turns(rounds: np.ndarray) -> np.ndarray:
    """What is traded in each of ``rounds`` ``[N, length]``, from its end back to its start included."""
    return np.abs(rounds - np.roll(rounds, 1, axis=1)).sum(1)


def test_without_costs_positions_follow_the_sign_of_the_mean() -> None:
    returns = autoregressive_returns(500, 0.1, 0.004, seed=2)
    for lag in (1, 2, 3):
        positions = autoregressive_positions(returns, 0.1, 0.004, 0.1, 0.0, LEVELS, lag)
        moving = np.concatenate([np.zeros(lag - 1), returns])[: len(returns)]
        assert np.array_equal(positions[lag:], np.sign(moving)[lag:])


def test_with_prohibitive_costs_they_stay_flat() -> None:
    returns = autoregressive_returns(500, 0.1, 0.004, seed=2)
    assert not autoregressive_positions(returns, 0.1, 0.004, 0.1, 0.05, LEVELS).any()


def test_independent_means_are_turned_on_where_they_pay_the_cost() -> None:
    """Both sides are worth the same to bars to come, so to turn from one to the other takes a mean of the cost."""
    means = np.random.default_rng(0).standard_normal(20_000) * 4e-4
    positions = autoregressive_positions(means, 0.0, 4e-4, 1.0, COST, LEVELS)
    before = np.concatenate([[0.0], positions[:-1]])
    assert means[(before == -1.0) & (positions == 1.0)].min() == pytest.approx(COST, rel=1e-2)
    assert means[(before == -1.0) & (positions == 1.0)].min() >= COST
    assert means[(before == -1.0) & (positions == -1.0)].max() <= COST


def test_a_lag_is_worth_something_to_who_knows_the_next_bars() -> None:
    phi, sigma = 0.1, 0.004
    noise = np.random.default_rng(1).standard_normal(30_000) * sigma
    values = autoregression(noise, phi, lag=3)
    means = phi * np.concatenate([np.zeros(2), values])[: len(values)]

    def profit(positions: np.ndarray) -> float:
        return float(positions @ means - COST * np.abs(np.diff(positions, prepend=0.0)).sum())

    knowing = profit(autoregressive_positions(values, phi, sigma, phi, COST, LEVELS, lag=3))
    not_knowing = profit(autoregressive_positions(means, 0.0, phi * sigma, 1.0, COST, LEVELS))
    worth = np.zeros((len(means) + 1, 3))  # who knows all means to the end
    trade = COST * np.abs(LEVELS[None] - LEVELS[:, None])
    for t in range(len(means) - 1, -1, -1):
        worth[t] = (means[t] * LEVELS + worth[t + 1] - trade).max(-1)
    assert 1.02 * not_knowing < knowing < worth[0, 1]


def test_lags_of_a_coarse_grid_agree_with_the_chain_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lags on 9 points: the same worth as the 81 states with their full matrix."""
    monkeypatch.setattr("planted.control.POINTS", {2: 9})
    phi, sigma, cost = 0.3, 1.0, 0.2
    width = 6.0 * sigma / np.sqrt(1.0 - phi * phi)
    grid = np.linspace(-width, width, 9)
    matrix = np.zeros((9, 9, 9, 9))
    for old in range(9):
        for new in range(9):
            matrix[old, new, new] = gaussian_transition(phi * grid[old : old + 1], sigma, grid)[0]
    flat = matrix.reshape(81, 81)
    means = phi * np.repeat(grid, 9)
    worth = following_worth(means, lambda following: flat @ following, cost, LEVELS)
    places = np.random.default_rng(0).integers(9, size=200)
    states = np.concatenate([[4], places])[:200] * 9 + places  # before the first bar: 0, the middle of the grid
    expected = follow(means[states], worth[states], cost, LEVELS)
    found = autoregressive_positions(grid[places], phi, sigma, phi, cost, LEVELS, lag=2)
    told = means[states] != 0.0  # where nothing is expected, to trade now or at the next bar is worth the same
    assert np.array_equal(found[told], expected[told])
    turnover = [np.abs(np.diff(positions, prepend=0.0)).sum() for positions in (found, expected)]
    assert turnover[0] == turnover[1]


def test_chances_sum_to_one_and_keep_the_mean_and_the_deviation() -> None:
    grid = np.linspace(-6.0, 6.0, 49)
    chance = gaussian_transition(np.array([0.0, 0.4]), 1.0, grid)
    assert chance.sum(-1) == pytest.approx(np.ones(2))
    assert chance @ grid == pytest.approx([0.0, 0.4], abs=1e-6)
    assert (chance @ grid**2) - (chance @ grid) ** 2 == pytest.approx(np.ones(2), abs=1e-5)


def test_a_drift_too_small_beside_the_cost_is_reported() -> None:
    with pytest.raises(RuntimeError, match="must settle"):
        following_worth(np.full(1, 1e-9), lambda following: following, 2e-3, LEVELS)


def test_levels_without_flat_and_lags_beyond_the_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="`levels` must hold 0"):
        flat_level(np.array([-1.0, 1.0]))
    with pytest.raises(ValueError, match="`lag` must be in"):
        autoregressive_positions(np.zeros(3), 0.1, 1.0, 0.1, COST, LEVELS, lag=4)

"""Planted markets: the optimum is what it claims to be, and agents are judged by the known law."""

import numpy as np
import pytest

from sentio_kedro.evaluation.planted import (
    autoregressive_returns,
    expected_profit,
    optimal_positions,
    planted_bars,
    share_of_optimum,
)

LEVELS = np.array([-1.0, 0.0, 1.0])


def test_bars_open_at_the_previous_close_and_give_the_returns_back() -> None:
    returns = autoregressive_returns(50, 0.1, 0.004, seed=0)
    frame = planted_bars(returns)
    assert np.allclose(np.diff(np.log(frame["close"])), returns[1:])
    assert np.array_equal(frame["open"][1:], frame["close"][:-1])
    assert (frame["high"] >= frame[["open", "close"]].max(axis=1)).all()


def test_the_law_is_the_autoregression() -> None:
    returns = autoregressive_returns(200_000, 0.3, 0.01, seed=1)
    assert np.corrcoef(returns[1:], returns[:-1])[0, 1] == pytest.approx(0.3, abs=0.01)
    assert returns.std() == pytest.approx(0.01 / (1 - 0.09) ** 0.5, rel=0.02)


def test_without_costs_the_optimum_follows_the_sign_of_the_last_return() -> None:
    returns = autoregressive_returns(500, 0.1, 0.004, seed=2)
    clear = np.abs(returns) > 2e-4  # beyond half a cell of the grid
    assert np.array_equal(optimal_positions(returns, 0.1, 0.004, 0.0, LEVELS)[clear], np.sign(returns)[clear])


def test_with_prohibitive_costs_the_optimum_stays_flat() -> None:
    returns = autoregressive_returns(500, 0.1, 0.004, seed=2)
    assert not optimal_positions(returns, 0.1, 0.004, 0.05, LEVELS).any()


def test_no_threshold_rule_beats_the_optimum() -> None:
    phi, sigma, cost = 0.1, 0.004, 2e-4
    returns = autoregressive_returns(60_000, phi, sigma, seed=3)
    best = expected_profit(optimal_positions(returns, phi, sigma, cost, LEVELS), returns, phi, cost).mean()
    for enter in np.linspace(0, 0.008, 9):
        for leave in np.linspace(-0.008, enter, 7):
            held, rule = 0.0, np.empty(len(returns))
            for t, r in enumerate(returns):
                if abs(r) > enter:
                    held = float(np.sign(r))
                elif held * r < leave:
                    held = 0.0
                rule[t] = held
            assert expected_profit(rule, returns, phi, cost).mean() <= best * 1.001


def test_expected_profit_charges_the_entry_and_every_change() -> None:
    profit = expected_profit(np.array([1.0, 1.0, -1.0]), np.array([0.01, -0.02, 0.03]), 0.5, 0.001)
    assert profit.tolist() == pytest.approx([0.005 - 0.001, -0.01, -0.015 - 0.002])


def test_the_optimum_earns_a_share_of_one_and_nothing_earns_nothing() -> None:
    returns = autoregressive_returns(1_000, 0.1, 0.004, seed=4)
    optimum = optimal_positions(returns, 0.1, 0.004, 2e-4, LEVELS)
    assert share_of_optimum(optimum, optimum, returns, 0.1, 2e-4) == 1.0
    assert share_of_optimum(np.zeros(1_000), optimum, returns, 0.1, 2e-4) == 0.0

"""Positions are scored by the profit that the law promises them, net of costs."""

import numpy as np
import pytest

from planted.catalogue import MARKETS
from planted.scores import expected_profit, expected_sharpe, share_of_optimum, shares_per_asset


def test_expected_profit_charges_the_entry_and_every_change() -> None:
    positions = np.array([[1.0, 0.0], [1.0, 0.5], [-1.0, 0.5]])
    means = np.array([[0.005, 0.1], [-0.01, 0.002], [0.015, 0.0]])
    profit = expected_profit(positions, means, 0.001)
    assert profit[:, 0].tolist() == pytest.approx([0.005 - 0.001, -0.01, -0.015 - 0.002])
    assert profit[:, 1].tolist() == pytest.approx([0.0, 0.001 - 0.0005, 0.0])


def test_the_optimum_earns_a_share_of_one_and_nothing_earns_nothing() -> None:
    law, levels = MARKETS["ar1"].law, np.array([-1.0, 0.0, 1.0])
    path = law.draw(1_000, seed=4)
    optimum = law.optimum(path, 2e-4, levels)
    assert share_of_optimum(optimum, optimum, path.means, 2e-4) == 1.0
    assert share_of_optimum(0.0 * optimum, optimum, path.means, 2e-4) == 0.0
    assert share_of_optimum(0.5 * optimum, optimum, path.means, 2e-4) == pytest.approx(0.5)


def test_assets_are_scored_together_and_alone() -> None:
    means = np.full((10, 3), 0.01) * np.array([1.0, 3.0, 0.0])
    optimum = np.ones((10, 3)) * np.array([1.0, 1.0, 0.0])
    held = np.ones((10, 3)) * np.array([1.0, 0.0, 0.0])
    assert share_of_optimum(held, optimum, means, 0.0) == pytest.approx(0.25)
    one, other, nothing = shares_per_asset(held, optimum, means, 0.0)
    assert (one, other) == (1.0, 0.0)
    assert np.isnan(nothing)  # nothing to earn there


def test_the_sharpe_ratio_takes_the_mean_from_the_law_and_the_deviation_from_what_came() -> None:
    positions, means = np.ones((4, 1)), np.full((4, 1), 0.001)
    returns = np.array([[0.02], [-0.02], [0.02], [-0.02]])
    assert expected_sharpe(positions, means, returns, 0.0, 100.0) == pytest.approx(0.001 / 0.02 * 10.0)
    assert np.isnan(expected_sharpe(0.0 * positions, means, returns, 0.0, 100.0))

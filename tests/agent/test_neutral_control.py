"""Positions that sum to 0: assets pay for each other, and nothing moves that is not worth both costs."""

import numpy as np
import pytest

from sentio_kedro.agent.control import SNAP, Control
from sentio_kedro.agent.neutral_control import PLACES, balance

LENGTHS = np.array([1, 3, 12, 32, 40])
PLACE = np.linspace(-1.0, 1.0, PLACES)


def control(surprise: float = 0.1, price: float = 0.01) -> Control:
    return Control(LENGTHS, price, surprise)


def balanced(values: list[float], costs: list[float], held: list[float]) -> np.ndarray:
    """Positions where D(u) is each of ``values`` less u."""
    moved = np.array(held)
    balance(np.array(values)[:, None] - PLACE, np.array(costs), moved)
    return moved


def follow(forecasts: np.ndarray, cost: float, start: list[float], rule: Control) -> np.ndarray:
    return rule.positions(forecasts, np.full(forecasts.shape[:2], cost), np.array(start), neutral=True)


def test_without_costs_positions_are_the_deviations_from_the_mean() -> None:
    assert balanced([0.5, 0.1, 0.0], [0.0] * 3, [0.0] * 3) == pytest.approx([0.3, -0.1, -0.2], abs=1e-9)


def test_the_multiplier_by_hand() -> None:
    # mu = 0.2: 0.5 - u = mu + 0.1 for the first, -u = mu - 0.1 for the others
    assert balanced([0.5, 0.0, 0.0], [0.1] * 3, [0.0] * 3) == pytest.approx([0.2, -0.1, -0.1], abs=1e-9)
    # the dearer of two counterparts stays
    assert balanced([0.5, 0.0, 0.0], [0.1, 0.1, 0.9], [0.0] * 3) == pytest.approx([0.15, -0.15, 0.0], abs=1e-9)
    assert balanced([0.5, 0.0, 0.0], [0.1, 0.1, np.inf], [0.0, 0.0, 0.7]) == pytest.approx([0.15, -0.15, 0.7], abs=1e-9)
    assert balanced([9.0, 9.0, 0.0], [0.1] * 3, [0.0] * 3) == pytest.approx([0.5, 0.5, -1.0], abs=1e-9)


def test_no_order_that_pays_one_cost_but_not_its_counterparts() -> None:
    forecasts = np.zeros((1, 2, len(LENGTHS)))
    for forecast, trades in ((0.15, False), (0.19, False), (0.25, True)):
        forecasts[0, 0, 0] = forecast
        found = follow(forecasts, 0.1, [0.0, 0.0], control(surprise=0.0, price=1e-4))
        assert found.any() == trades, forecast


def test_two_mirrored_assets_are_each_traded_as_alone() -> None:
    rng = np.random.default_rng(0)
    signal = np.zeros(600)
    for row in range(1, len(signal)):
        signal[row] = 0.95 * signal[row - 1] + 0.02 * rng.standard_normal()
    forecasts = np.zeros((len(signal), 2, len(LENGTHS)))
    forecasts[:, 0, :3], forecasts[:, 1, :3] = signal[:, None], -signal[:, None]
    found = follow(forecasts, 0.1, [0.0, 0.0], control())
    alone = control().positions(forecasts[:, :1], np.full((len(signal), 1), 0.1), np.zeros(1), neutral=False)
    assert np.abs(alone).max() > 0.5
    np.testing.assert_allclose(found[:, 0], alone[:, 0], atol=0.02)
    np.testing.assert_allclose(found.sum(axis=1), 0.0, atol=1e-9)


def test_positions_sum_to_zero_and_do_not_remember_where_they_began() -> None:
    rng = np.random.default_rng(1)
    rows, assets = 2_000, 4
    forecasts = np.zeros((rows, assets, len(LENGTHS)))
    signal = np.zeros((rows, assets))
    for row in range(1, rows):
        signal[row] = 0.95 * signal[row - 1] + 0.02 * rng.standard_normal(assets)
    forecasts[:, :, :3] = signal[..., None]
    paths = [follow(forecasts, 0.1, start, control()) for start in ([0.0] * 4, [1.0, -1.0, 0.5, -0.5])]
    assert np.abs(paths[0].sum(axis=1)).max() <= (assets - 1) * SNAP
    assert np.abs(paths[0]).max() > 0.5
    np.testing.assert_allclose(paths[0][500:], paths[1][500:], atol=1e-9)


def test_an_asset_that_cannot_be_traded_keeps_its_position_and_the_others_sum_to_zero() -> None:
    forecasts = np.zeros((6, 3, len(LENGTHS)))
    forecasts[:, 0], forecasts[:, 1] = 0.2, 0.05
    costs = np.full((6, 3), 0.1)
    costs[3:, 0] = np.inf
    found = control().positions(forecasts, costs, np.zeros(3), neutral=True)
    assert found[2, 0] > 0.0 > found[2, 2]
    assert (found[3:, 0] == found[2, 0]).all()
    assert np.abs(found[3:, 1:].sum(axis=1)).max() <= SNAP


def test_rows_one_by_one_give_the_path_of_all() -> None:
    rng = np.random.default_rng(2)
    forecasts = 0.1 * rng.standard_normal((50, 3, len(LENGTHS)))
    whole, held = follow(forecasts, 0.1, [0.0] * 3, control()), [0.0] * 3
    for row in range(len(forecasts)):
        held = follow(forecasts[row : row + 1], 0.1, held, control())[0].tolist()
        assert held == whole[row].tolist()

"""The rule: expectations in closed form, the band around a position, and what no forecast is worth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.agent.control import Control, target_units
from sentio_kedro.agent.marginal_value import expected_clip, marginal_value

LENGTHS = np.array([1, 3, 12, 32, 40])
BARS_A_YEAR = 48 * 365


def control(surprise: float = 0.1, price: float = 1.0) -> Control:
    return Control(LENGTHS, price / BARS_A_YEAR**0.5, surprise)


def forecasts(*first: float, rows: int = 1, assets: int = 1) -> np.ndarray:
    values = np.zeros((rows, assets, len(LENGTHS)))
    values[..., : len(first)] = first
    return values


@settings(deadline=None)  # the first example compiles
@given(st.floats(-3, 3), st.floats(0.0, 2.0), st.floats(0.01, 2.0))
def test_the_expected_clip_is_the_mean_over_the_uniform_law(value: float, cost: float, half: float) -> None:
    draws = value + half * ((np.arange(20_000) + 0.5) / 10_000 - 1.0)
    assert expected_clip(value, cost, half) == pytest.approx(np.clip(draws, -cost, cost).mean(), abs=1e-6)


def test_without_a_surprise_the_value_is_clipped_as_it_is() -> None:
    assert expected_clip(0.7, 0.2, 0.0) == 0.2
    assert expected_clip(-0.1, 0.2, 0.0) == -0.1


def test_the_marginal_value_of_two_bars_by_hand() -> None:
    # D_end = -0.1 x 0.5 / (1 - 0.9) = -0.5; D_2 = 0.3 - 0.05 + 0.9 clip(-0.5, 0.2) = 0.07; D_1 = 1 - 0.05 + 0.9 x 0.07
    now, following = marginal_value(np.array([1.0, 0.3]), 0.2, 0.5, np.array([1, 1]), 0.1, 0.9, 0.0)
    assert following == pytest.approx(0.07)
    assert now == pytest.approx(1.013)


@settings(deadline=None)  # the first example compiles
@given(st.floats(-0.2, 0.2), st.floats(0.01, 1.0), st.floats(0.0, 0.3))
def test_the_marginal_value_falls_in_the_position(forecast: float, cost: float, surprise: float) -> None:
    rule = control(surprise)
    values = [rule.marginal_values(forecasts(forecast), np.array([[cost]]), u)[0][0, 0] for u in np.linspace(-1, 1, 9)]
    assert (np.diff(values) < 0.0).all()


@settings(deadline=None)  # the first example compiles
@given(st.floats(-0.3, 0.3), st.floats(-1.0, 1.0), st.floats(0.01, 1.0))
def test_a_position_moves_to_the_edge_of_its_band_or_stays(forecast: float, held: float, cost: float) -> None:
    constants = (LENGTHS, control().price, 0.999, 0.1)
    given_ = forecasts(forecast)[0, 0]
    moved = target_units(given_, cost, held, *constants)
    value, _ = marginal_value(given_, cost, held, *constants)
    assert -1.0 <= moved <= 1.0
    if abs(value) <= cost:
        assert moved == held
    elif 1.0 - abs(moved) > 1e-5:
        assert marginal_value(given_, cost, moved, *constants)[0] == pytest.approx(np.sign(value) * cost, abs=1e-5)
    assert target_units(given_, cost, moved, *constants) == pytest.approx(moved, abs=1e-5)


def test_without_costs_the_position_is_forecast_over_price_of_risk() -> None:
    rule = control(surprise=0.0)
    found = rule.positions(forecasts(0.5 * rule.price), np.zeros((1, 1)), np.zeros(1), neutral=False)
    assert found[0, 0] == pytest.approx(0.5, abs=1e-5)


def test_the_price_of_risk_is_an_annual_sharpe_ratio() -> None:
    made = Control.of([1, 3, 144], BARS_A_YEAR, 2.0)
    assert made.price == pytest.approx(2.0 / BARS_A_YEAR**0.5)
    assert made.lengths.tolist() == [1, 3, 40]
    assert Control.of([1], BARS_A_YEAR).price == pytest.approx(1.0 / BARS_A_YEAR**0.5)


def test_a_position_without_a_forecast_is_left() -> None:
    rows = 400
    for start in (-1.0, 0.2, 1.0):
        found = control(0.0).positions(forecasts(rows=rows), np.full((rows, 1), 0.3), np.array([start]), neutral=False)
        assert found[-1, 0] == 0.0
    free = control(0.0, price=0.0).positions(forecasts(rows=rows), np.full((rows, 1), 0.3), np.ones(1), neutral=False)
    assert free[-1, 0] == 1.0  # where risk costs nothing it is kept for ever


def test_positions_do_not_remember_where_they_began() -> None:
    rng = np.random.default_rng(0)
    rows = 3_000
    signal = np.zeros(rows)
    for row in range(1, rows):
        signal[row] = 0.95 * signal[row - 1] + 0.02 * rng.standard_normal()
    values = forecasts(rows=rows)
    values[:, 0, :3] = signal[:, None]
    costs = np.full((rows, 1), 0.3)
    paths = [control().positions(values, costs, np.array([start]), neutral=False)[500:] for start in (-1.0, 0.0, 1.0)]
    assert np.abs(paths[0]).max() > 0.5
    np.testing.assert_array_equal(paths[0], paths[1])
    np.testing.assert_array_equal(paths[2], paths[1])


def test_the_positions_that_are_given_stay_as_they_are() -> None:
    start = np.array([0.3, -0.2])
    found = control().positions(forecasts(0.3, assets=2), np.full((1, 2), 0.01), start, neutral=False)
    assert (found[0] != start).all()
    assert start.tolist() == [0.3, -0.2]


def test_the_surprise_is_the_deviation_of_the_next_value_from_what_was_expected() -> None:
    rng = np.random.default_rng(1)
    values = forecasts(rows=2_000)
    values[:, 0, 0] = 0.1 * rng.standard_normal(2_000)
    costs = np.full((2_000, 1), 1.0)
    rule = Control(LENGTHS, 1e-9).with_surprise(values, costs)
    assert rule.surprise == pytest.approx(0.1, rel=0.05)
    assert Control(LENGTHS, 1e-9).with_surprise(forecasts(rows=9), np.ones((9, 1))).surprise == pytest.approx(0.0)


@pytest.mark.parametrize("neutral", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_forecast_that_is_no_number_is_refused_and_not_traded(value: float, neutral: bool) -> None:
    given_ = forecasts(rows=3, assets=2)
    given_[1, 0, 2] = value
    with pytest.raises(ValueError, match=rf"`forecasts` must be finite, was {value} at .* = \[1, 0, 2\]"):
        control().positions(given_, np.full((3, 2), 0.1), np.zeros(2), neutral=neutral)

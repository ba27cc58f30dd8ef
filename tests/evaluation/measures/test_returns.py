"""Figures of returns agree with empyrical, annualised by the calendar of the bars, and with definitions by hand."""

from __future__ import annotations

import empyrical
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.evaluation.measures.returns import EMPIRICAL, daily_returns, return_metrics
from sentio_kedro.trading.performance import annual_return, annual_volatility, maximum_drawdown, sharpe_ratio

LOST = -30.0  # log growth from which on both have lost everything but rounding
CALENDARS = (252.0, 365.0, 365.0 * 48.0, 252.0 * 13.0)  # sessions, days, half hours of coins, half hours of stocks


def _returns(seed: int, bars: int, scale: float, flat: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    returns = rng.standard_t(4, bars) * scale + 0.05 * scale
    return np.where(rng.random(bars) < flat, 0.0, returns).clip(-0.5, 0.5)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    bars=st.integers(30, 400),
    scale=st.floats(1e-4, 0.03),
    flat=st.sampled_from((0.0, 0.5)),
    calendar=st.sampled_from(CALENDARS),
)
def test_tensors_agree_with_empyrical(seed: int, bars: int, scale: float, flat: float, calendar: float) -> None:
    returns = _returns(seed, bars, scale, flat)
    tensor = torch.from_numpy(returns.copy())
    own = {
        "sharpe": sharpe_ratio(tensor, calendar),
        "annual_volatility": annual_volatility(tensor, calendar),
        "max_drawdown": -maximum_drawdown(tensor),
        "log_growth": torch.log1p(annual_return(tensor, calendar)).clamp_min(LOST),
    }
    theirs = {
        "sharpe": empyrical.sharpe_ratio(returns, annualization=calendar),
        "annual_volatility": empyrical.annual_volatility(returns, annualization=calendar),
        "max_drawdown": empyrical.max_drawdown(returns),
        "log_growth": np.maximum(np.log1p(empyrical.annual_return(returns, annualization=calendar)), LOST),
    }
    for name, value in theirs.items():
        assert own[name].item() == pytest.approx(value, rel=1e-10, abs=1e-10), name


@pytest.mark.parametrize("calendar", CALENDARS)
def test_every_figure_is_empyricals_by_that_calendar(calendar: float) -> None:
    returns, other = _returns(1, 600, 0.01, 0.2), _returns(2, 600, 0.01, 0.0)
    table = pd.DataFrame({"seed_0": returns, "equal_weight": other})
    found = return_metrics(table, np.arange(600), calendar)["seed_0"]
    expected = {
        "sharpe": empyrical.sharpe_ratio(returns, annualization=calendar),
        "sortino": empyrical.sortino_ratio(returns, annualization=calendar),
        "calmar": empyrical.calmar_ratio(returns, annualization=calendar),
        "annual_return": empyrical.cagr(returns, annualization=calendar),
        "annual_volatility": empyrical.annual_volatility(returns, annualization=calendar),
        "total_return": empyrical.cum_returns_final(returns),
        "max_drawdown": -empyrical.max_drawdown(returns),
        "omega": empyrical.omega_ratio(returns),
        "tail_ratio": empyrical.tail_ratio(returns),
        "value_at_risk": -empyrical.value_at_risk(returns, 0.05),
        "conditional_value_at_risk": -empyrical.conditional_value_at_risk(returns, 0.05),
        "daily_value_at_risk": -empyrical.value_at_risk(returns, 0.05),  # one bar is one day here
        "information_ratio": empyrical.sharpe_ratio(returns - other, annualization=calendar),
        "skew": pd.Series(returns).skew() * (600 - 2) / np.sqrt(600 * 599),  # without the correction for bias
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-10, abs=1e-12), name
    downside = np.sqrt((np.minimum(returns, 0.0) ** 2).mean())
    assert found["sortino"] == pytest.approx(returns.mean() / downside * np.sqrt(calendar), rel=1e-10)


def test_flat_bars_count_in_every_ratio() -> None:
    returns = _returns(3, 200, 0.01, 0.0)
    with_flat = np.stack([returns, np.zeros(200)], axis=1).reshape(-1)
    busy, idle = (
        return_metrics(pd.DataFrame({"seed_0": values}), np.arange(len(values)), 252.0)["seed_0"]
        for values in (returns, with_flat)
    )
    for name in ("sharpe", "sortino", "annual_volatility"):
        assert abs(idle[name]) < 0.8 * abs(busy[name]), name
    assert idle["kurtosis"] > busy["kurtosis"]


def test_a_first_loss_is_a_drawdown_with_a_length_and_a_recovery() -> None:
    returns = np.array([-0.1, 0.0, 1.0 / 0.9 - 1.0, 0.2, -0.5, 0.1, 0.0, 0.0, 0.0])
    found = return_metrics(pd.DataFrame({"seed_0": returns}), np.arange(9), 252.0)["seed_0"]
    assert found["max_drawdown"] == pytest.approx(0.5)
    assert (found["drawdown_bars"], found["recovery_bars"]) == (5, None)  # the last one has not ended
    assert found["under_water"] == pytest.approx(7 / 9)
    early = return_metrics(pd.DataFrame({"seed_0": returns[:4]}), np.arange(4), 252.0)["seed_0"]
    assert early["max_drawdown"] == pytest.approx(0.1)  # of the starting capital
    assert (early["drawdown_bars"], early["recovery_bars"]) == (2, 2)


def test_days_compound_the_bars_of_a_day() -> None:
    returns = np.array([[0.1], [0.1], [-0.2], [0.05]])
    assert daily_returns(returns, np.array([7, 7, 8, 9])).ravel() == pytest.approx([0.21, -0.2, 0.05])
    table = pd.DataFrame({"seed_0": np.tile([0.01, -0.03], 50)})
    found = return_metrics(table, np.repeat(np.arange(50), 2), 252.0)["seed_0"]
    assert found["value_at_risk"] == pytest.approx(0.03)
    assert found["daily_value_at_risk"] == pytest.approx(1.0 - 1.01 * 0.97)


@pytest.mark.parametrize("value", [0.0, 0.001])
def test_returns_that_do_not_vary_have_no_ratios_and_no_nan(value: float) -> None:
    found = return_metrics(pd.DataFrame({"seed_0": np.full(50, value)}), np.arange(50), 252.0)["seed_0"]
    assert found["sharpe"] == 0.0
    assert {found[name] for name in EMPIRICAL} == {None}


def test_one_bar_is_no_sample() -> None:
    found = return_metrics(pd.DataFrame({"seed_0": [-0.1]}), np.arange(1), 252.0)["seed_0"]
    assert (found["sharpe"], found["value_at_risk"], found["max_drawdown"]) == (None, None, pytest.approx(0.1))


def test_the_reference_has_no_information_ratio() -> None:
    table = pd.DataFrame({"seed_0": _returns(4, 50, 0.01, 0.0), "equal_weight": _returns(5, 50, 0.01, 0.0)})
    found = return_metrics(table, np.arange(50), 252.0)
    assert found["equal_weight"]["information_ratio"] is None
    assert found["seed_0"]["information_ratio"] is not None

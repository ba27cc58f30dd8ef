"""Trailing portfolios: known weights, nothing of later bars, and something to hold whatever happens."""

import logging

import numpy as np
import pytest
import torch
from skfolio.exceptions import SolverError
from skfolio.optimization import MeanRisk

from sentio_kedro.config import BacktestParameters, TradingParameters
from sentio_kedro.evaluation.backtest.baselines import portfolios
from sentio_kedro.evaluation.backtest.baselines.portfolios import eligible_assets, portfolio_weights, trailing_portfolio
from sentio_kedro.market.tensors import MarketTensors

STAMPS = np.datetime64("2020-01-01T08:00", "ns") + np.arange(120) * np.timedelta64(8, "h")
PARAMETERS = BacktestParameters(portfolio_bars=30)
TRADING = TradingParameters()
DATES = [0, 21, 42, 63, 84]  # steps of the schedule below, one a week


def orthogonal(rows: int, sizes: tuple[float, ...]) -> np.ndarray:
    """Returns of mean 0 that are not correlated, with exact deviations ``sizes``."""
    waves = [np.where(np.arange(rows) // 2**place % 2 == 0, 1.0, -1.0) for place in range(len(sizes))]
    return np.stack(waves, axis=1) * np.array(sizes)


def market(returns: np.ndarray, tradable: np.ndarray | None = None) -> MarketTensors:
    close = torch.from_numpy(100.0 * np.cumprod(1.0 + returns, axis=0))
    everything = torch.ones_like(close, dtype=torch.bool) if tradable is None else torch.from_numpy(tradable)
    log_returns = torch.log1p(torch.from_numpy(returns))
    ones = torch.ones(len(close), 1, dtype=close.dtype)
    return MarketTensors(
        close[..., None], close, close, everything, torch.full_like(close, 0.01), ones, returns=log_returns
    )


def schedule(known: MarketTensors, rule: portfolios.Rule = "minimum_variance", trading: TradingParameters = TRADING):
    return trailing_portfolio(rule, known, STAMPS, 31, 119, PARAMETERS, trading)


def test_weights_of_two_uncorrelated_assets_are_known() -> None:
    returns = orthogonal(4_096, (0.01, 0.02))
    assert portfolio_weights("minimum_variance", returns, 1.0) == pytest.approx([0.8, 0.2], abs=0.002)  # 1 / variance
    assert portfolio_weights("risk_parity", returns, 1.0) == pytest.approx([2 / 3, 1 / 3], abs=0.002)  # 1 / deviation


def test_no_weight_exceeds_the_largest_one() -> None:
    returns = orthogonal(4_096, (0.01, 0.02))
    assert portfolio_weights("minimum_variance", returns, 0.6) == pytest.approx([0.6, 0.4], abs=1e-6)
    assert portfolio_weights("minimum_variance", returns, 0.5).tolist() == [0.5, 0.5]
    assert portfolio_weights("minimum_variance", returns, 0.2).tolist() == [0.2, 0.2]


@pytest.mark.parametrize("rule", ["minimum_variance", "risk_parity"])
def test_one_asset_is_held_whole_and_none_not_at_all(rule: portfolios.Rule) -> None:
    assert portfolio_weights(rule, orthogonal(64, (0.01,)), 1.0).tolist() == [1.0]
    assert portfolio_weights(rule, np.zeros((64, 0)), 1.0).tolist() == []
    assert np.flatnonzero(schedule(market(orthogonal(120, (0.01,))), rule) == 1.0).tolist() == DATES


@pytest.mark.parametrize("allocation", [None, 0.1])
def test_positions_are_weights_of_the_gross_limit(allocation: float | None) -> None:
    trading = TradingParameters(gross_limit=1.5, allocation=allocation)
    targets = schedule(market(orthogonal(120, (0.01, 0.02))), trading=trading)
    due = ~np.isnan(targets[:, 0])
    assert np.flatnonzero(due).tolist() == DATES
    assert targets[due].sum(-1).tolist() == pytest.approx([1.5] * 5)
    assert targets[due, 0].max() <= 1.0 + 1e-9  # `max_position`


def test_an_asset_without_an_allocation_gets_no_weight() -> None:
    trading = TradingParameters(allocation={"A": 0.0, "B": 0.5})
    targets = schedule(market(orthogonal(120, (0.01, 0.02))), trading=trading)
    assert targets[DATES].tolist() == [[0.0, 1.0]] * 5


def test_later_bars_change_no_earlier_weight() -> None:
    returns = np.random.default_rng(0).normal(0.0, 0.01, (120, 3))
    changed = returns.copy()
    changed[74:] *= np.array([5.0, 0.1, 1.0])
    first, second = (schedule(market(path)) for path in (returns, changed))
    assert np.array_equal(first[: 74 - 31], second[: 74 - 31], equal_nan=True)
    assert not np.array_equal(first[74 - 31 :], second[74 - 31 :], equal_nan=True)


def test_bars_before_the_window_are_forgotten() -> None:
    returns = np.random.default_rng(0).normal(0.0, (0.01, 0.02, 0.03), (120, 3))
    changed = returns.copy()
    changed[: 52 - 29] *= np.array([5.0, 0.1, 1.0])
    first, second = (schedule(market(path)) for path in (returns, changed))
    assert np.allclose(first[52 - 31 :], second[52 - 31 :], atol=1e-9, equal_nan=True)
    changed[52 - 29] += 0.1  # the first bar of the window of 30
    assert not np.allclose(first[52 - 31], schedule(market(changed))[52 - 31], atol=1e-4)


def test_assets_that_do_not_trade_were_just_listed_or_stand_still_get_no_weight() -> None:
    tradable = np.ones((120, 4), dtype=bool)
    tradable[52, 0] = False  # a halt at the second date
    tradable[:45, 1] = False  # listed eight bars before it
    returns = orthogonal(120, (0.01, 0.01, 0.01, 0.0))
    known = market(returns, tradable)
    assert eligible_assets(known, 23, 52).tolist() == [False, False, True, False]
    assert schedule(known)[52 - 31].tolist() == pytest.approx([0.0, 0.0, 1.0, 0.0])
    assert (schedule(known)[73 - 31, :3] > 0.0).all()


def test_nothing_to_hold_is_no_failure() -> None:
    targets = schedule(market(orthogonal(120, (0.01, 0.02)), np.zeros((120, 2), dtype=bool)))
    assert (targets[DATES] == 0.0).all()


def test_a_solver_that_fails_leaves_equal_weights_and_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise SolverError("no optimum")

    monkeypatch.setattr(MeanRisk, "fit", fail)
    with caplog.at_level(logging.WARNING):
        weights = portfolio_weights("minimum_variance", orthogonal(64, (0.01, 0.02, 0.03)), 1.0)
    assert weights == pytest.approx([1 / 3] * 3)
    assert "skfolio found no weights of minimum_variance (no optimum)" in caplog.text


def test_a_market_that_is_mostly_closed_gets_a_weight_in_a_mixed_panel() -> None:
    tradable = np.ones((120, 2), dtype=bool)
    tradable[:, 1] = np.arange(120) % 5 == 1
    returns = np.where(tradable, orthogonal(120, (0.01, 0.02)), 0.0)
    known = market(returns, tradable)
    assert eligible_assets(known, 23, 52).tolist() == [True, False]
    assert eligible_assets(known, 23, 52, mixed=True).tolist() == [True, True]

"""The rule that trades signals: exact positions, and costs that keep it out."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from planted.paths import autoregressive_returns, planted_bars
from sentio_kedro.agent.forecasting.market import trade_cost
from sentio_kedro.config import CostParameters, IngestionParameters, TradingParameters
from sentio_kedro.evaluation.backtest.baselines.signal_rule import (
    ForecastSignal,
    held_sides,
    persistence,
    signal_schedule,
)
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.purged_folds import Segment

BARS = 200
TRADING = TradingParameters(costs=CostParameters(commission_bps=3, half_spread_bps=1))


def context_of(trading: TradingParameters = TRADING, assets: int = 2) -> BacktestContext:
    frames = [
        planted_bars(autoregressive_returns(BARS, 0.2, 0.01, seed), f"S{seed}", minutes=60) for seed in range(assets)
    ]
    bars = align_bars(pd.concat(frames), IngestionParameters())
    return BacktestContext.of(bars, np.zeros((BARS, assets, 1)), {}, trading)


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)[:, None]


def ordered(targets: np.ndarray) -> list[dict[int, float]]:
    """Orders of each asset by step."""
    return [{step: x for step, x in enumerate(of_asset.tolist()) if not np.isnan(x)} for of_asset in targets.T]


def test_a_side_is_taken_beyond_the_threshold_and_kept_until_as_far_beyond_on_the_other_side() -> None:
    forecasts = column(0.5, 1.5, 0.2, -0.9, -1.0, -1.1, 0.9, 1.1, 0.0)
    assert held_sides(forecasts, np.ones_like(forecasts)).ravel().tolist() == [0, 1, 1, 1, 1, -1, -1, 1, 1]
    assert held_sides(forecasts, np.zeros_like(forecasts)).ravel().tolist() == [1, 1, 1, -1, -1, -1, 1, 1, 1]
    assert not held_sides(np.zeros_like(forecasts), np.zeros_like(forecasts)).any()


def test_persistence_is_that_of_the_autoregression_and_does_not_cross_segments() -> None:
    forecasts = autoregressive_returns(20_000, 0.7, 1.0, seed=0)[:, None]
    assert persistence(forecasts, [Segment(0, 20_000)]) == pytest.approx(0.7, abs=0.02)
    steps = column(1.0, 1.0, -1.0, -1.0, 99.0, 1.0, 1.0, -1.0, -1.0)
    assert persistence(steps, [Segment(0, 4), Segment(5, 9)]) == pytest.approx(1 / 3)
    assert persistence(column(1.0, -1.0, 1.0, -1.0), [Segment(0, 4)]) == 0.0
    assert persistence(np.ones((9, 1)), [Segment(0, 9)]) == 0.99


def test_costs_of_a_trade_are_commission_and_half_spread() -> None:
    close = context_of().market.close.numpy()
    assert trade_cost(close, None, TRADING) == pytest.approx(np.full((BARS, 2), 4e-4))
    per_share = replace(TRADING, costs=CostParameters(commission_bps=0, commission_per_share=0.05, half_spread_bps=2))
    assert trade_cost(close, None, per_share) == pytest.approx(2e-4 + 0.05 / close)
    costs = replace(TRADING, costs=CostParameters(commission_bps=3, half_spread="bars", half_spread_bps=1))
    assert trade_cost(close, np.full_like(close, 30e-4), costs) == pytest.approx(np.full((BARS, 2), 18e-4))


def test_an_edge_that_lasts_may_be_smaller() -> None:
    forecasts = np.zeros((BARS, 2))
    forecasts[10:14] = [[5e-4, 3e-4], [-3e-4, 3e-4], [-5e-4, 3e-4], [0.0, 3e-4]]
    rows = Segment(10, 14)
    fleeting = signal_schedule(context_of(), ForecastSignal(forecasts, 0.0), rows)
    assert ordered(fleeting) == [{0: 0.5, 2: -0.5}, {0: 0.0}]  # a trade costs 4e-4
    lasting = signal_schedule(context_of(), ForecastSignal(forecasts, 0.5), rows)
    assert ordered(lasting) == [{0: 0.5, 1: -0.5}, {0: 0.5}]


def test_orders_are_sent_where_the_side_changes_and_once_a_day() -> None:
    forecasts = np.zeros((BARS, 2))
    forecasts[5:] = 1.0
    forecasts[40:, 0] = -1.0
    first, second = ordered(signal_schedule(context_of(), ForecastSignal(forecasts, 0.0), Segment(0, 60)))
    assert first == {0: 0.0, 5: 0.5, 24: 0.5, 40: -0.5, 48: -0.5}
    assert second == {0: 0.0, 5: 0.5, 24: 0.5, 48: 0.5}


def test_nothing_is_sold_short_where_levels_or_the_asset_forbid_it() -> None:
    forecasts = np.full((BARS, 2), -1.0)
    long_only = replace(TRADING, levels=[0.0, 0.5])
    for side, target in ((1.0, 0.0), (-1.0, 0.25)):
        signal = ForecastSignal(side * forecasts, 0.0)
        assert ordered(signal_schedule(context_of(long_only), signal, Segment(0, 9))) == [{0: target}] * 2
    forbidden = replace(TRADING, masks=replace(TRADING.masks, no_short=["S1"]))
    targets = signal_schedule(context_of(forbidden), ForecastSignal(forecasts, 0.0), Segment(0, 9))
    assert ordered(targets) == [{0: -0.5}, {0: 0.0}]


def test_a_flat_signal_stays_flat_even_where_trading_is_free() -> None:
    free = replace(TRADING, costs=CostParameters(commission_bps=0, half_spread_bps=0))
    signal = ForecastSignal(np.ones((BARS, 2)), 0.5).flat()
    assert np.nan_to_num(signal_schedule(context_of(free), signal, Segment(0, 99))).max() == 0.0

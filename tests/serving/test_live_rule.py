"""A rule followed bar by bar takes the positions that it takes over the whole history."""

import numpy as np
import pandas as pd
import pytest

from planted.catalogue import MARKETS
from planted.paths import path_bars
from sentio_kedro.agent.forecasting.fold import forecast_fold
from sentio_kedro.agent.forecasting.market import ForecastMarket
from sentio_kedro.agent.forecasting.rule import ForecastRule
from sentio_kedro.config import CostParameters, ForecastingParameters, IngestionParameters, TradingParameters
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.serving.live_rule import LiveRule, asset_rows
from sentio_kedro.serving.rolling_bars import RollingBars

ROWS, BEGIN = 4_400, 4_000
POSTERIOR = np.random.default_rng(0).dirichlet([1.0, 1.0], ROWS)


def trading(half_spread: str) -> TradingParameters:
    return TradingParameters(costs=CostParameters(commission_bps=1, half_spread_bps=1, half_spread=half_spread))


@pytest.fixture(scope="module")
def bars() -> AlignedBars:
    """Two assets whose returns revert, with gaps and halts of either and of both, and spreads."""
    frames = [
        path_bars(MARKETS["reversal"].law.draw(ROWS, seed)).assign(symbol=f"S{seed}", spread=0.0001 * seed)
        for seed in (3, 4)
    ]
    hidden = np.zeros((ROWS, 2), bool)
    hidden[[2_000, 4_050, 4_051, 4_200], 1] = True
    hidden[4_100:4_110, 0] = True
    whole = align_bars(pd.concat(frames), IngestionParameters()).without(hidden)
    return whole.rows(~np.isin(np.arange(ROWS), [4_150, 4_151]))  # a gap in the grid


@pytest.fixture(scope="module")
def rule(bars: AlignedBars) -> ForecastRule:
    count = len(bars.timestamps)
    market = ForecastMarket.of(bars, trading("constant"), 17_520.0).with_regimes(POSTERIOR[:count])
    fold = Fold(0, (Segment(600, BEGIN),), (), (Segment(BEGIN, count),))
    return forecast_fold(market, fold, ForecastingParameters(sleeves=("directional", "relative"))).rule


@pytest.mark.parametrize("half_spread", ["constant", "bars", "estimated"])
@pytest.mark.parametrize("start", [BEGIN - 30, BEGIN + 60])
def test_bar_by_bar_equals_the_whole_history(
    rule: ForecastRule, bars: AlignedBars, half_spread: str, start: int
) -> None:
    costs, count = trading(half_spread), len(bars.timestamps)
    whole = rule.follow(bars, POSTERIOR[:count], costs)
    assert np.abs(np.diff(whole.units[start:], axis=0)).sum() > 20.0
    history = bars.rows(slice(0, start))
    rolling = RollingBars.of(history, 3, asset_rows(costs))
    live = LiveRule.of(rule, history, POSTERIOR[:start], costs)
    for name, column in live.path._asdict().items():
        np.testing.assert_array_equal(column, getattr(whole, name)[:start])
    for row in range(start, count):
        bar, before = bars.rows(slice(row, row + 1)), live.held.copy()
        rolling = rolling.with_bar(bar)
        after = live.with_bar(rolling.by_asset, bar, POSTERIOR[row])
        np.testing.assert_array_equal(live.held, before)  # the market one bar earlier stays
        live = after
        for name, column in live.path._asdict().items():
            np.testing.assert_array_equal(column, getattr(whole, name)[row : row + 1], err_msg=f"{name} at {row}")

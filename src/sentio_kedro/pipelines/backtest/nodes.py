"""Test agents on rows that no training used."""

from __future__ import annotations

import pandas as pd

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.forecasting.frames import units_from_frame
from sentio_kedro.config import BacktestParameters, IngestionParameters, TradingParameters
from sentio_kedro.evaluation.backtest.backtest import backtest_folds
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.features import Features
from sentio_kedro.market.folds import Folds
from sentio_kedro.market.timestamps import periods_per_year

OUTPUTS = ("accounts", "positions", "trades", "holdings", "actions", "masks", "value_at_risk", "robustness")


def run_backtest(
    agents: dict[str, AgentBundle],
    aligned_bars: AlignedBars,
    features: Features,
    folds: Folds,
    forecasts: pd.DataFrame,
    parameters: BacktestParameters,
    trading: TradingParameters,
    ingestion: IngestionParameters,
) -> tuple[pd.DataFrame, ...]:
    """Let agents, the forecast rule and baselines trade the test rows; the bars of the lockbox are left out.

    Returns:
        Accounts, positions, trades, holdings, actions, masks, exceedances of the value at risk, and robustness.
    """
    values, bars = features.on(aligned_bars)[folds.open_bars], aligned_bars.rows(folds.open_bars)
    per_year = periods_per_year(bars.timestamps, ingestion.sessions_per_year)
    units = {fold.number: units_from_frame(forecasts, bars, fold.number) for fold in folds.folds}
    frames = backtest_folds(bars, values, folds.folds, agents, trading, parameters, per_year, units)
    return tuple(frames[name] for name in OUTPUTS)

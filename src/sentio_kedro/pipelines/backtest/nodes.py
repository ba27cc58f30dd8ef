"""Test agents on rows that no training used."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.forecasting.frames import units_from_frame
from sentio_kedro.config import BacktestParameters, IngestionParameters, TradingParameters
from sentio_kedro.config.trading import is_mixed
from sentio_kedro.evaluation.backtest.backtest import backtest_folds
from sentio_kedro.market.features import Features
from sentio_kedro.market.folds import Folds
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.timestamps import periods_per_year
from sentio_kedro.serving.accounts import account_report, accounts_to_json

FRAMES = ("accounts", "positions", "trades", "holdings", "actions", "masks", "value_at_risk", "robustness")
OUTPUTS = (*FRAMES, "account_states")


def run_backtest(
    agents: dict[str, AgentBundle],
    aligned_bars: AlignedBars,
    features: Features,
    folds: Folds,
    forecasts: pd.DataFrame,
    parameters: BacktestParameters,
    trading: TradingParameters,
    ingestion: IngestionParameters,
) -> tuple[pd.DataFrame | dict[str, Any], ...]:
    """Let agents, the forecast rule and baselines trade the test rows; the bars of the lockbox are left out.

    Returns:
        Accounts, positions, trades, holdings, actions, masks, exceedances of the value at risk, robustness, and the
        state of the account ``ensemble`` at the first row of each fold's last test segment.
    """
    values, bars = features.on(aligned_bars)[folds.open_bars], aligned_bars.rows(folds.open_bars)
    per_year = periods_per_year(bars.timestamps, ingestion.sessions_per_year, mixed=is_mixed(trading))
    units = {fold.number: units_from_frame(forecasts, bars, fold.number) for fold in folds.folds}
    frames = backtest_folds(bars, values, folds.folds, agents, trading, parameters, per_year, units)
    columns = (frames["states"][name].to_numpy() for name in ("fold", "account", "timestamp"))
    states = {f"fold_{fold}": account_report(held, bars.symbols, bar) for fold, held, bar in zip(*columns, strict=True)}
    return *(frames[name] for name in FRAMES), accounts_to_json(states)

"""Agents trade rows that no training saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import BacktestParameters, IngestionParameters, TradingParameters
from sentio_kedro.evaluation.backtest import backtest_agent, backtest_folds
from sentio_kedro.market.bars import aligned_from_frame, periods_per_year
from sentio_kedro.market.feature_frames import features_from_frame
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.splits import folds_from_dict

OUTPUTS = ("accounts", "positions", "trades", "actions")


def run_backtest(
    agents: dict[str, AgentBundle],
    aligned_bars: pd.DataFrame,
    features: pd.DataFrame,
    folds: dict[str, Any],
    parameters: BacktestParameters,
    trading: TradingParameters,
    ingestion: IngestionParameters,
) -> tuple[pd.DataFrame, ...]:
    """Let the agents of each fold and the baselines trade the fold's test rows.

    Args:
        agents: Agents by name.
        aligned_bars: Long bars on one grid.
        features: Features on that grid.
        folds: Spans and folds.
        parameters: Capital and baselines.
        trading: Limits and costs.
        ingestion: Sessions per year.

    Returns:
        Accounts, positions, trades and actions.
    """
    bars = aligned_from_frame(aligned_bars)
    per_year = periods_per_year(bars.timestamps, ingestion.sessions_per_year)
    known = features_from_frame(features, bars)
    frames = backtest_folds(bars, known, folds_from_dict(folds), agents, trading, parameters, per_year)
    return tuple(frames[name] for name in OUTPUTS)


def run_external_backtest(
    aligned_bars: pd.DataFrame, parameters: BacktestParameters, ingestion: IngestionParameters
) -> tuple[pd.DataFrame, ...]:
    """Let an agent trained elsewhere trade all rows of bars that it has not seen.

    Args:
        aligned_bars: Long bars on one grid.
        parameters: Names the agent's folder in ``backtest.agent``.
        ingestion: Sessions per year.

    Returns:
        Accounts, positions, trades and actions.
    """
    bars = aligned_from_frame(aligned_bars)
    agent = AgentBundle.load(Path(str(parameters.agent)))
    per_year = periods_per_year(bars.timestamps, ingestion.sessions_per_year)
    features = compute_features(bars, agent.spec.features)
    frames = backtest_agent(bars, features, agent, parameters, per_year)
    return tuple(frames[name] for name in OUTPUTS)

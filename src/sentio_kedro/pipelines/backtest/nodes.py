"""Agents trade rows that no training saw."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import BacktestParameters, IngestionParameters, TradingParameters
from sentio_kedro.evaluation.backtest.backtest import backtest_agent, backtest_folds
from sentio_kedro.evaluation.backtest.ledger_frames import Frames
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.features import Features
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.splits import Folds
from sentio_kedro.market.timestamps import periods_per_year

logger = logging.getLogger(__name__)

OUTPUTS = ("accounts", "positions", "trades", "actions", "masks", "robustness")


def run_backtest(
    agents: dict[str, AgentBundle],
    aligned_bars: AlignedBars,
    features: Features | None,
    folds: Folds | None,
    parameters: BacktestParameters,
    trading: TradingParameters,
    ingestion: IngestionParameters,
) -> tuple[pd.DataFrame, ...]:
    """Let agents and baselines trade rows that no training saw.

    The project's own agents leave the bars of the lockbox out. An agent from elsewhere (``backtest.agent``) trades all
    bars that it is given, those of the lockbox among them, which the log tells.

    Args:
        agents: Agents of this project's folds by name; not read if ``backtest.agent`` names one.
        aligned_bars: Long bars on one grid.
        features: Features on that grid; not read if ``backtest.agent`` names an agent, which brings its own.
        folds: Spans and folds; of those only the lockbox is read if ``backtest.agent`` names one.
        parameters: Baselines, robustness, and perhaps a table of targets or an agent trained elsewhere.
        trading: Limits, costs and starting equity; an agent trained elsewhere brings its own.
        ingestion: Sessions per year.

    Returns:
        Accounts, positions, trades, actions, masks and robustness.
    """
    bars, sessions = aligned_bars, ingestion.sessions_per_year
    if parameters.agent is not None:
        per_year = periods_per_year(bars.timestamps, sessions)
        frames = _test_elsewhere(bars, Path(parameters.agent), parameters, per_year)
        _tell_of_lockbox(bars, frames, None if folds is None else folds.lockbox_dates)
    elif features is None or folds is None:
        raise ValueError("`features` or `folds` are missing; run `kedro run`, or name an agent in `backtest.agent`.")
    else:
        values, bars = features.on(bars)[folds.open_bars], bars.rows(folds.open_bars)
        per_year = periods_per_year(bars.timestamps, sessions)
        frames = backtest_folds(bars, values, folds.folds, agents, trading, parameters, per_year)
    return tuple(frames[name] for name in OUTPUTS)


def _test_elsewhere(bars: AlignedBars, folder: Path, parameters: BacktestParameters, per_year: float) -> Frames:
    agent = AgentBundle.load(folder)
    return backtest_agent(bars, compute_features(bars, agent.spec.features), agent, parameters, per_year)


def _tell_of_lockbox(bars: AlignedBars, frames: Frames, lockbox: dict[str, Any] | None) -> None:
    if lockbox is None:
        return
    timestamps = pd.DatetimeIndex(bars.timestamps[frames["accounts"]["row"].unique()]).tz_localize("UTC")
    looked = int(((timestamps >= pd.Timestamp(lockbox["first"])) & (timestamps <= pd.Timestamp(lockbox["last"]))).sum())
    if looked:
        logger.warning(
            "`backtest.agent` was tested on %d bars of this project's lockbox (%s to %s), which no ledger of openings "
            "tells: for agents that are chosen after this, these bars are no lockbox any more.",
            *(looked, lockbox["first"], lockbox["last"]),
        )

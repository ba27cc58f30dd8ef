"""Open the lockbox: record the opening, then simulate and measure."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import (
    BacktestParameters,
    IngestionParameters,
    ReportingParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.evaluation import lockbox
from sentio_kedro.evaluation.backtest.ledger_frames import Frames
from sentio_kedro.evaluation.run_frames import RunFacts
from sentio_kedro.manifests import agents_identity, flatten_parameters
from sentio_kedro.market.bars import aligned_from_frame
from sentio_kedro.market.feature_frames import features_from_frame
from sentio_kedro.market.splits import folds_from_dict, lockbox_rows, open_bars
from sentio_kedro.market.timestamps import periods_per_year
from sentio_kedro.serving.newest import choose_agents
from sentio_kedro.tracking import client as tracking

OPENINGS_TAG = "sentio.lockbox_openings"
"""Tag of a parent run: number of openings of the lockbox for its agents."""

logger = logging.getLogger(__name__)


def record_opening(
    agents: dict[str, AgentBundle],
    aligned_bars: pd.DataFrame,
    folds: dict[str, Any],
    data_quality: dict[str, Any],
    sections: dict[str, Any],
    backtest: BacktestParameters,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Record the opening before anything of the lockbox is computed.

    Returns:
        The record twice: for the ledger, and for the nodes that need it.

    Raises:
        ValueError: If there is no lockbox, or the agents are not this project's; nothing is opened then.
    """
    if backtest.agent is not None:
        raise ValueError(
            f"`backtest.agent` must be null to open the lockbox, was {backtest.agent}: its bars are kept from the "
            "agents of this project's folds, and nobody knows what an agent from elsewhere has seen. Leave it out."
        )
    rows, bars = lockbox_rows(folds), aligned_from_frame(aligned_bars)
    model = agents_identity(data_quality["bars_hash"], flatten_parameters(sections))
    chosen = choose_agents(agents, None)
    record = lockbox.opening_record(datetime.now(UTC), model, chosen, bars, rows, data_quality["bars_hash"])
    logger.info("Opening the lockbox, %s to %s. This goes on record.", record["first"], record["last"])
    return record, record


def trade_lockbox(
    records: list[dict[str, Any]],
    opening: dict[str, Any],
    agents: dict[str, AgentBundle],
    aligned_bars: pd.DataFrame,
    features: pd.DataFrame,
    folds: dict[str, Any],
    parameters: BacktestParameters,
    trading: TradingParameters,
    ingestion: IngestionParameters,
) -> tuple[pd.DataFrame, Frames]:
    """Simulate the latest fold's agents and the baselines on the lockbox.

    Returns:
        Accounts, and all frames.
    """
    openings = lockbox.openings(records, opening["model"], opening["symbols"], opening)
    count = sum(entry["this_model"] for entry in openings)
    tracking.log_tags({OPENINGS_TAG: str(count)})
    bars = aligned_from_frame(aligned_bars)
    per_year = periods_per_year(bars.timestamps[open_bars(folds)], ingestion.sessions_per_year)
    values, chosen = features_from_frame(features, bars), choose_agents(agents, None)
    fold = next(fold for fold in folds_from_dict(folds) if fold.number == chosen[0].spec.fold)
    frames = lockbox.trade_lockbox(bars, values, fold, lockbox_rows(folds), chosen, trading, parameters, per_year)
    return frames["accounts"], frames


def measure_lockbox(
    frames: Frames,
    opening: dict[str, Any],
    aligned_bars: pd.DataFrame,
    folds: dict[str, Any],
    ingestion: IngestionParameters,
    training: TrainingParameters,
    trading: TradingParameters,
    parameters: ReportingParameters,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compute the metrics of the lockbox, and log them to MLflow.

    Returns:
        The content of ``lockbox_metrics.json``, and the result for the ledger.
    """
    timestamps = aligned_from_frame(aligned_bars).timestamps[open_bars(folds)]
    per_year = periods_per_year(timestamps, ingestion.sessions_per_year)
    facts = RunFacts(per_year, ingestion.universe, training.episode_bars, max_drawdown=trading.max_drawdown)
    metrics = lockbox.lockbox_metrics(frames, facts, parameters)
    for name in ("agent", *metrics["baselines"]):
        tracking.log_metrics(metrics[name], prefix=f"lockbox.{name}.")
    result = lockbox.result_record(datetime.now(UTC), opening, metrics)
    return {"opening": opening, **metrics}, result

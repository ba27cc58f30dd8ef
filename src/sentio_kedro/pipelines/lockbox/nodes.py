"""Open the lockbox: record the opening, then trade and measure."""

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
)
from sentio_kedro.config.trading import is_mixed
from sentio_kedro.evaluation import lockbox
from sentio_kedro.evaluation.backtest.ledger_frames import Frames
from sentio_kedro.evaluation.run_frames import RunFacts
from sentio_kedro.manifests import agents_identity, flatten_parameters, tracked_identity
from sentio_kedro.market.features import Features
from sentio_kedro.market.folds import Folds
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.membership import universe_label
from sentio_kedro.market.ingestion.timestamps import periods_per_year
from sentio_kedro.serving.newest import choose_agents
from sentio_kedro.tracking import client as tracking
from sentio_kedro.tracking.metrics import OF_LOCKBOX, chosen_metrics

OPENINGS_TAG = "sentio.lockbox_openings"
"""Tag of a parent run: number of openings of the lockbox for its agents."""

logger = logging.getLogger(__name__)


def record_opening(
    agents: dict[str, AgentBundle],
    aligned_bars: AlignedBars,
    folds: Folds,
    data_quality: dict[str, Any],
    sections: dict[str, Any],
    earlier: list[dict[str, Any]],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Put the opening on record, before anything of the lockbox is computed.

    One of the same agents that was killed before it had a result, and that no other record follows, is continued.

    Returns:
        The record twice: for the ledger, and for the nodes that need it.

    Raises:
        ValueError: If there is no lockbox.
    """
    rows = folds.lockbox_rows()
    model = agents_identity(data_quality["bars_hash"], flatten_parameters(sections))
    chosen = choose_agents(agents, None)
    record = lockbox.opening_record(datetime.now(UTC), model, chosen, aligned_bars, rows, data_quality["bars_hash"])
    record["tracked"] = tracked_identity(model)
    record = lockbox.or_unfinished(record, earlier)
    logger.info("Opening the lockbox, %s to %s. This goes on record.", record["first"], record["last"])
    return record, record


def trade_lockbox(
    records: list[dict[str, Any]],
    opening: dict[str, Any],
    agents: dict[str, AgentBundle],
    aligned_bars: AlignedBars,
    features: Features,
    folds: Folds,
    parameters: BacktestParameters,
    trading: TradingParameters,
    ingestion: IngestionParameters,
) -> tuple[pd.DataFrame, Frames]:
    """Let the latest fold's agents and the baselines trade the lockbox.

    Returns:
        Accounts, and all frames.
    """
    openings = lockbox.openings(records, opening["model"], opening["symbols"], opening)
    count = sum(entry["this_model"] for entry in openings)
    tracking.log_tags({OPENINGS_TAG: str(count)})
    per_year = periods_per_year(
        aligned_bars.timestamps[folds.open_bars], ingestion.sessions_per_year, mixed=is_mixed(trading)
    )
    values, chosen = features.on(aligned_bars), choose_agents(agents, None)
    fold = next(fold for fold in folds.folds if fold.number == chosen[0].spec.fold)
    rows = folds.lockbox_rows()
    frames = lockbox.trade_lockbox(aligned_bars, values, fold, rows, chosen, trading, parameters, per_year)
    return frames["accounts"], frames


def measure_lockbox(
    frames: Frames,
    opening: dict[str, Any],
    aligned_bars: AlignedBars,
    folds: Folds,
    ingestion: IngestionParameters,
    trading: TradingParameters,
    parameters: ReportingParameters,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compute the metrics of the lockbox's accounts; MLflow gets them as well.

    Returns:
        The content of ``lockbox_metrics.json``, and the result for the ledger.
    """
    timestamps = aligned_bars.timestamps[folds.open_bars]
    per_year = periods_per_year(timestamps, ingestion.sessions_per_year, mixed=is_mixed(trading))
    label = universe_label(aligned_bars, ingestion.universe)
    facts = RunFacts(per_year, label, max_drawdown=trading.max_drawdown)
    metrics = lockbox.lockbox_metrics(frames, facts, parameters)
    tracking.log_metrics(chosen_metrics(metrics, OF_LOCKBOX), prefix="lockbox.")
    result = lockbox.result_record(datetime.now(UTC), opening, metrics)
    return {"opening": opening, **metrics}, result

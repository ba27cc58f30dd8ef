"""Test an agent trained elsewhere on all bars of this environment."""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import (
    BacktestParameters,
    CrossValidationParameters,
    IngestionParameters,
    TrainingParameters,
)
from sentio_kedro.config.trading import is_mixed
from sentio_kedro.evaluation.backtest.backtest import backtest_agent
from sentio_kedro.evaluation.lockbox import TRADED
from sentio_kedro.evaluation.run_frames import COLUMNS, RunFacts, RunFrames
from sentio_kedro.manifests import flatten_parameters
from sentio_kedro.market.folds import Folds, lockbox_bars
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.membership import universe_label
from sentio_kedro.market.ingestion.session_checks import placed_in_sessions
from sentio_kedro.market.ingestion.timestamps import periods_per_year
from sentio_kedro.market.purged_folds import Fold, Segment, Spans
from sentio_kedro.tracking.trials import AgentsOrigin, external_origin

logger = logging.getLogger(__name__)


def trade_bars(
    agent: AgentBundle, aligned_bars: AlignedBars, parameters: BacktestParameters, ingestion: IngestionParameters
) -> tuple[pd.DataFrame, RunFrames]:
    """Let the agent, with its own features, limits and costs, and the baselines trade all bars, the lockbox included.

    Returns:
        Accounts, and all frames of the run; those of regimes and training are empty.

    Raises:
        ValueError: If bars end outside the sessions of the agent's calendar and are to be refused.
    """
    if ingestion.outside_session == "refuse":
        placed_in_sessions(aligned_bars, IngestionParameters(bar_label="start"), agent.spec.trading)
    mixed = is_mixed(agent.spec.trading)
    per_year = periods_per_year(aligned_bars.timestamps, ingestion.sessions_per_year, mixed=mixed)
    frames = backtest_agent(aligned_bars, agent.inputs(aligned_bars), agent, parameters, per_year)
    empty = {name: pd.DataFrame(columns=list(columns)) for name, columns in COLUMNS.items() if name not in TRADED}
    return frames["accounts"], RunFrames(**{name: frames[name] for name in TRADED}, **empty)


def locate_test_rows(
    agent: AgentBundle,
    aligned_bars: AlignedBars,
    accounts: pd.DataFrame,
    cross_validation: CrossValidationParameters,
    training: TrainingParameters,
) -> Folds:
    """Describe the traded rows as the one fold of this test, with this project's lockbox.

    Returns:
        A fold of test rows alone. A warning says how many of them lie in the lockbox.
    """
    rows = Segment(int(accounts["row"].min()), int(accounts["row"].max()) + 1)
    lockbox = lockbox_bars(len(aligned_bars.timestamps), cross_validation)
    spans = Spans(agent.spec.required_bars, 1 + agent.spec.trading.orders.latency_bars, training.episode_bars)
    folds = Folds.of([Fold(agent.spec.fold, (), (), (rows,))], spans, aligned_bars.timestamps, lockbox)
    traded = rows.stop - max(rows.start, lockbox.start)
    if folds.lockbox_dates is not None and traded > 0:
        logger.warning(
            "The external agent traded %d bars of this project's lockbox (%s to %s), which the ledger of openings does "
            "not record: for agents that are chosen after this, these bars are no lockbox any more.",
            *(traded, *folds.lockbox_dates.values()),
        )
    return folds


def state_facts(agent: AgentBundle, aligned_bars: AlignedBars, ingestion: IngestionParameters) -> RunFacts:
    """State the facts of the test that its frames do not hold."""
    return RunFacts(
        periods_per_year=periods_per_year(
            aligned_bars.timestamps, ingestion.sessions_per_year, mixed=is_mixed(agent.spec.trading)
        ),
        universe=universe_label(aligned_bars, ingestion.universe),
        max_drawdown=agent.spec.trading.max_drawdown,
    )


def describe_agent(
    agent: AgentBundle, data_quality: dict[str, Any], sections: dict[str, Any]
) -> tuple[AgentsOrigin, dict[str, Any]]:
    """Describe the agent's origin, and its model in MLflow: none."""
    return external_origin(data_quality["bars_hash"], flatten_parameters(sections), agent), {}

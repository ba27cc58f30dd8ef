"""Compare live trading with the backtest on the bars of its journal."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.ensemble import as_one
from sentio_kedro.config import IngestionParameters, ReportingParameters
from sentio_kedro.config.live.trader import TraderParameters
from sentio_kedro.config.trading import is_mixed
from sentio_kedro.evaluation.live.account import JournalFrames, live_account, stamps_of
from sentio_kedro.evaluation.live.band import Band, bootstrap_band, record_returns
from sentio_kedro.evaluation.live.bars import live_bars
from sentio_kedro.evaluation.live.figures import CAPTIONS, live_figures
from sentio_kedro.evaluation.live.measures import Comparison, live_metrics
from sentio_kedro.evaluation.live.page import live_sentences, render_live
from sentio_kedro.evaluation.live.split import by_day, model_account, split_difference
from sentio_kedro.manifests import dotted_values
from sentio_kedro.market.indicators import own_columns
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.ingestion.session_checks import placed_in_sessions
from sentio_kedro.market.ingestion.timestamps import periods_per_year
from sentio_kedro.pipelines.live.replay import replay
from sentio_kedro.serving.following.state import state_from_json
from sentio_kedro.serving.incoming_bars import of_symbols, read_history, with_own
from sentio_kedro.tracking import client as tracking
from sentio_kedro.tracking.registry import model_id
from sentio_kedro.trader.launch.models import ChosenAgents, own_agents, registered_agents
from sentio_kedro.trading.accounts import for_symbols

LIVE_TAG = "sentio.live"
"""Tag of the run that holds the live metrics of a trader: its name."""

DRAWN = tuple(CAPTIONS)

logger = logging.getLogger(__name__)


def choose(
    parameters: TraderParameters,
    agents: dict[str, AgentBundle],
    logged_model: dict[str, Any],
    model: str | None,
    promotions: Sequence[Mapping[str, Any]],
) -> ChosenAgents:
    """Choose the agents that trade, and tell the version of the environment's own."""
    if parameters.model != "agents":
        return registered_agents(parameters, model, promotions)
    chosen = own_agents(agents, parameters.fold)
    logged = [agent.name for agent in chosen.agents] == logged_model.get("agents")
    return chosen._replace(version=str(logged_model["version"])) if logged and logged_model.get("version") else chosen


def compare(
    chosen: ChosenAgents,
    states: pd.DataFrame,
    accounts: pd.DataFrame,
    trades: pd.DataFrame,
    decisions: pd.DataFrame,
    bars: pd.DataFrame,
    dataset: pd.DataFrame,
    ingestion: IngestionParameters,
    trader: TraderParameters,
) -> Comparison:
    """Let the agents trade the journal's bars from its first account, and split what differs.

    Raises:
        ValueError: If the journal, the bars and the agents do not fit each other.
    """
    if states.empty:
        raise ValueError("The journal holds no decision; let `kedro trader run` trade some bars first.")
    frames = JournalFrames.since(states["stamp"].iloc[0], accounts, trades, decisions, bars)
    spec = as_one(chosen.agents).spec
    symbols, trading = tuple(spec.symbols), for_symbols(spec.trading, spec.symbols)
    state, end = (state_from_json(json.loads(account), symbols, trading) for account in states["account"])
    own = own_columns(spec.features)
    seen = read_history(frames.bars, own)
    known = with_own(of_symbols(seen, symbols), own)
    journal = known.rows((known.timestamps >= state.bar) & (known.timestamps <= end.bar))
    delivered = placed_in_sessions(align_bars(dataset, ingestion), ingestion, spec.trading)
    both = live_bars(with_own(of_symbols(delivered, symbols), own), journal, state.bar)
    silent = np.setdiff1d(both.journaled.timestamps, stamps_of(frames.accounts["stamp"]))
    nobody = silent[:0]
    journaled = replay(chosen.agents, both.journaled, state, silent, end.closed)
    whole = not both.missed.any() and not (silent > state.bar).any()
    as_seen = journaled if whole else replay(chosen.agents, both.seen, state, nobody, end.closed)
    unchanged = not both.revised.any()
    as_delivered = as_seen if unchanged else replay(chosen.agents, both.delivered, state, nobody, end.closed)
    held = dict(zip(symbols, state.accounts.holdings.shares[0].tolist(), strict=True))
    account = live_account(frames, journaled.timestamps, symbols, held)
    model = model_account(account, journaled, trading)
    per_year = periods_per_year(both.seen.timestamps, ingestion.sessions_per_year, mixed=is_mixed(trading))
    return Comparison(
        symbols=symbols,
        trading=trading,
        frames=frames,
        bars=both,
        account=account,
        model=model,
        replay=journaled,
        delivered=as_delivered,
        steps=split_difference(account, model, as_delivered, as_seen, journaled),
        periods_per_year=per_year,
        about={"trader": trader.name, "model": chosen.name, "version": chosen.version},
    )


def resample(comparison: Comparison, test_returns: pd.DataFrame, parameters: ReportingParameters) -> Band:
    """Resample the out-of-sample record to the length of the live path."""
    return bootstrap_band(record_returns(test_returns), len(comparison.account.stamps) - 1, parameters)


def measure(
    comparison: Comparison, band: Band, tested: dict[str, Any], parameters: ReportingParameters
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Measure live trading beside its backtest; return metrics, and the difference by day."""
    metrics = live_metrics(comparison, band, tested, parameters)
    for sentence in live_sentences(metrics):
        logger.info("%s", sentence)
    return metrics, by_day(comparison.steps)


def draw(comparison: Comparison, band: Band, metrics: dict[str, Any]) -> tuple[go.Figure, ...]:
    """Draw the figures ``DRAWN``, in that order."""
    figures = live_figures(comparison, band, metrics)
    return tuple(figures[name] for name in DRAWN)


def write(metrics: dict[str, Any], *drawn: go.Figure) -> str:
    """Write the page from metrics and the figures ``DRAWN``."""
    return render_live(metrics, dict(zip(DRAWN, drawn, strict=True)))


def track(
    metrics: dict[str, Any], differences: pd.DataFrame, page: str, model: str | None, experiment: str, *drawn: go.Figure
) -> None:
    """Log metrics, differences, figures and page to the trader's MLflow run; the metrics to its model, too."""
    trader = metrics["trader"]
    with tracking.own_run(experiment, f"live {trader}", {LIVE_TAG: trader}):
        tracking.log_tags({"sentio.model": metrics["model"]})
        served = model_id(model, metrics["version"]) if model and metrics["version"] else None
        tracking.log_metrics(tracked_metrics(metrics), prefix="live.", model_id=served)
        tracking.log_frame(differences, "live_differences.csv")
        tracking.log_figures(dict(zip(DRAWN, drawn, strict=True)), folder="figures")
        tracking.log_text(json.dumps(metrics, indent=2), "live_metrics.json")
        tracking.log_text(page, "live_report.html")


def tracked_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the single numbers of the live account, the difference and the band, by dotted name."""
    wanted = {name: metrics[name] for name in ("live", "backtest", "decisions", "bars_seen", "slippage", "band")}
    wanted |= {"difference": metrics["difference"]["fraction"], "span": {"bars": metrics["bars"]}}
    flat = {key: leaf for name, values in wanted.items() for key, leaf in dotted_values(name, values).items()}
    return {key: float(leaf) for key, leaf in flat.items() if isinstance(leaf, int | float)}

"""Compute metrics, draw figures and write the report."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import (
    IngestionParameters,
    ReportingParameters,
    TradingParameters,
)
from sentio_kedro.config.trading import is_mixed
from sentio_kedro.datasets.trials import TrialLedger
from sentio_kedro.evaluation.comparison.returns import out_of_sample_returns
from sentio_kedro.evaluation.lockbox import openings
from sentio_kedro.evaluation.metrics import build_metrics
from sentio_kedro.evaluation.plots.draw import CAPTIONS, draw_figures
from sentio_kedro.evaluation.report.report import render_report
from sentio_kedro.evaluation.run_frames import RunFacts, RunFrames, Scheme
from sentio_kedro.evaluation.skill.trials import RecordedTrials, make_trial, recorded_trials, trial_returns
from sentio_kedro.manifests import flatten_parameters
from sentio_kedro.market.folds import Folds
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.membership import universe_label
from sentio_kedro.market.ingestion.timestamps import periods_per_year
from sentio_kedro.tracking import client as tracking
from sentio_kedro.tracking.descriptions import NOTE_TAG, log_bars, with_test
from sentio_kedro.tracking.metrics import METRICS_FILE, chosen_metrics
from sentio_kedro.tracking.registry import describe_tested, metric_tags, tag_tested_version, tag_version
from sentio_kedro.tracking.runs import PREFIX
from sentio_kedro.tracking.tags import describe_test_rows
from sentio_kedro.tracking.trials import (
    TRIAL_FILE,
    TRIAL_TAG,
    AgentsOrigin,
    agents_origin,
    record_context,
    universe_of,
)

UNIVERSE_TAG, VERDICT_TAG = "sentio.universe", "sentio.verdict"
"""Tags of a run: on which universe it is a trial, and whether it was called skill."""

DRAWN = tuple(name for name in CAPTIONS if name != "folds")  # `<name>_figure` in the catalog; folds are drawn earlier


def collect_frames(
    accounts: pd.DataFrame,
    positions: pd.DataFrame,
    trades: pd.DataFrame,
    holdings: pd.DataFrame,
    actions: pd.DataFrame,
    masks: pd.DataFrame,
    value_at_risk: pd.DataFrame,
    robustness: pd.DataFrame,
    regime_posteriors: pd.DataFrame,
    training_curves: pd.DataFrame,
    agent_table: pd.DataFrame,
    evidence: pd.DataFrame,
) -> RunFrames:
    """Bring the frames of a run together and check them."""
    return RunFrames(
        accounts=accounts,
        positions=positions,
        trades=trades,
        holdings=holdings,
        actions=actions,
        masks=masks,
        value_at_risk=value_at_risk,
        robustness=robustness,
        regime_posteriors=regime_posteriors,
        training_curves=training_curves,
        agent_table=agent_table,
        evidence=evidence,
    )


def state_facts(
    aligned_bars: AlignedBars,
    folds: Folds,
    ingestion: IngestionParameters,
    trading: TradingParameters,
    scheme: Scheme,
) -> RunFacts:
    """State the facts of the run that its frames do not hold."""
    return RunFacts(
        periods_per_year=periods_per_year(
            aligned_bars.timestamps[folds.open_bars], ingestion.sessions_per_year, mixed=is_mixed(trading)
        ),
        universe=universe_label(aligned_bars, ingestion.universe),
        scheme=scheme,
        max_drawdown=trading.max_drawdown,
        latency_bars=trading.orders.latency_bars,
    )


def describe_agents(
    agents: dict[str, AgentBundle], data_quality: dict[str, Any], sections: dict[str, Any]
) -> AgentsOrigin:
    """Describe the origin of the agents under test."""
    return agents_origin(data_quality["bars_hash"], flatten_parameters(sections), agents)


def export_returns(frames: RunFrames, aligned_bars: AlignedBars) -> pd.DataFrame:
    """Export the return of every account at each test row, to MLflow too, to compare runs on equal rows."""
    returns = out_of_sample_returns(frames, aligned_bars)
    tracking.log_frame(returns, tracking.RETURNS_FILE)
    tracking.log_tags(describe_test_rows(returns))
    return returns


def record_trial(
    frames: RunFrames,
    facts: RunFacts,
    origin: AgentsOrigin,
    data_quality: dict[str, Any],
    folds: Folds,
    trials: TrialLedger,
    parameters: ReportingParameters,
) -> RecordedTrials:
    """Enter the run into the ledger of trials, before its metrics are computed; return the trials related to it."""
    log_bars(data_quality, "test")
    returns, universe = trial_returns(frames), universe_of(data_quality)
    bars, about = data_quality["bars_hash"], record_context(periods_per_year=facts.periods_per_year)
    trial = make_trial(origin.parameters, origin.code, universe, returns, "test", about, bars_hash=bars)
    if parameters.trials.record:
        trials.append(trial.record, trial.returns)
    tracking.log_tags({TRIAL_TAG: trial.identity, UNIVERSE_TAG: universe})
    tracking.log_text(trial.returns.to_csv(index=False), TRIAL_FILE)
    return recorded_trials(trial, trials.records(), trials.returns, folds.lockbox_dates)


def measure(
    frames: RunFrames,
    facts: RunFacts,
    recorded_trials: RecordedTrials,
    lockbox_records: list[dict[str, Any]],
    origin: AgentsOrigin,
    data_quality: dict[str, Any],
    folds: Folds,
    parameters: ReportingParameters,
) -> dict[str, Any]:
    """Compute the metrics of agents and baselines, and test for skill; MLflow gets the metrics as well."""
    symbols = list(data_quality["per_symbol"])
    lockbox_openings = openings(lockbox_records, origin.identity, symbols, folds.lockbox_dates)
    breaks = data_quality.get("price_breaks", ())
    metrics = build_metrics(frames, facts, parameters, recorded_trials, lockbox_openings, breaks)
    tracking.log_metrics(chosen_metrics(metrics), prefix=PREFIX)
    tracking.log_text(json.dumps(metrics, indent=2), METRICS_FILE)
    note = with_test(tracking.run_tags(NOTE_TAG).get(NOTE_TAG), metrics)
    tracking.log_tags({VERDICT_TAG: metrics["skill"]["verdict"], NOTE_TAG: note})
    return metrics


def draw(frames: RunFrames, facts: RunFacts, metrics: dict[str, Any], folds_figure: go.Figure) -> tuple[go.Figure, ...]:
    """Draw the figures ``DRAWN``, in that order; MLflow gets them and that of the folds."""
    figures = draw_figures(frames, facts, metrics, folds_figure)
    tracking.log_figures(figures)
    return tuple(figures[name] for name in DRAWN)


def tag_model_version(metrics: dict[str, Any], logged_model: dict[str, Any]) -> None:
    """Tag the registered version of these agents with what they earned out of sample, and tie it to the run."""
    if logged_model["version"] is not None:
        tag_version(logged_model["model"], logged_model["version"], metric_tags(metrics))
        describe_tested(logged_model["model"], logged_model["version"], metrics)
        tag_tested_version(logged_model["model"], logged_model["version"])


def write_report(
    metrics: dict[str, Any],
    data_quality: dict[str, Any],
    logged_model: dict[str, Any],
    parameters: dict[str, Any],
    folds_figure: go.Figure,
    *drawn: go.Figure,
) -> str:
    """Write the report as one HTML page from metrics and the figures ``DRAWN``; MLflow gets a copy.

    The page names the agents by their digest, not by an address in MLflow, so that the same run gives the same page.
    """
    figures = {"folds": folds_figure, **dict(zip(DRAWN, drawn, strict=True))}
    hashes = {"bars": data_quality.get("bars_hash"), "agents": logged_model.get("content")}
    context = hashes | dict(sorted(flatten_parameters(parameters).items()))
    page = render_report(metrics, figures, data_quality=data_quality, context=context)
    tracking.log_text(page, "report.html")
    return page

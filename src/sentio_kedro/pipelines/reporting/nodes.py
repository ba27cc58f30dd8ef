"""Figures, metrics and the report that a person reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import (
    BacktestParameters,
    IngestionParameters,
    ReportingParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.datasets.trials import TrialLedger
from sentio_kedro.evaluation.comparison.returns import out_of_sample_returns
from sentio_kedro.evaluation.lockbox import openings
from sentio_kedro.evaluation.metrics import build_metrics
from sentio_kedro.evaluation.plots.draw import CAPTIONS, draw_figures
from sentio_kedro.evaluation.report.report import render_report
from sentio_kedro.evaluation.run_frames import COLUMNS, RunFacts, RunFrames, Scheme
from sentio_kedro.evaluation.skill.trials import RecordedTrials, make_trial, recorded_trials, trial_returns
from sentio_kedro.manifests import agents_identity, flatten_parameters
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.fold_shapes import count_rows
from sentio_kedro.market.splits import Folds
from sentio_kedro.market.timestamps import periods_per_year
from sentio_kedro.tracking import client as tracking
from sentio_kedro.tracking.registry import metric_tags, tag_tested_version, tag_version
from sentio_kedro.tracking.tags import describe_test_rows
from sentio_kedro.tracking.trials import TRIAL_FILE, TRIAL_TAG, agents_origin, record_context, universe_of

UNIVERSE_TAG, VERDICT_TAG = "sentio.universe", "sentio.verdict"
"""Tags of a run: on which universe it is a trial, and whether it was called skill."""

SHOWN = tuple(name for name in CAPTIONS if name != "folds")  # `<name>_figure` in the catalog; folds are drawn earlier


def collect_frames(
    accounts: pd.DataFrame,
    positions: pd.DataFrame,
    trades: pd.DataFrame,
    actions: pd.DataFrame,
    masks: pd.DataFrame,
    robustness: pd.DataFrame,
    regime_posteriors: pd.DataFrame | None,
    training_curves: pd.DataFrame | None,
    agent_table: pd.DataFrame | None,
    backtest: BacktestParameters,
) -> RunFrames:
    """Bring the frames of a run together.

    What this project knows of its own training is left out for an agent from elsewhere (``backtest.agent``).

    Returns:
        The frames, checked.
    """
    if backtest.agent is not None:
        regime_posteriors = training_curves = agent_table = None
    made = {"accounts": accounts, "positions": positions, "trades": trades, "actions": actions}
    made |= {"masks": masks, "robustness": robustness}
    maybe = {
        "regime_posteriors": regime_posteriors,
        "training_curves": training_curves,
        "agent_table": agent_table,
    }
    empty = {name: pd.DataFrame(columns=list(COLUMNS[name])) for name, frame in maybe.items() if frame is None}
    return RunFrames(**made, **{name: frame for name, frame in maybe.items() if frame is not None}, **empty)


def state_facts(
    aligned_bars: AlignedBars,
    folds: Folds | None,
    frames: RunFrames,
    ingestion: IngestionParameters,
    training: TrainingParameters,
    trading: TradingParameters,
    scheme: Scheme,
    backtest: BacktestParameters,
) -> RunFacts:
    """State what the frames do not say; an agent from elsewhere (``backtest.agent``) brings its own limits.

    Returns:
        The facts.
    """
    if backtest.agent is not None:  # one walk over later bars
        folds, scheme = None, "walk_forward"
        trading = AgentBundle.load(Path(backtest.agent)).spec.trading
    lengths = [] if folds is None else [count_rows(fold.train) for fold in folds.folds]
    table = frames.agent_table
    peak = table["peak_device_bytes"].max() if "peak_device_bytes" in table else float("nan")
    timestamps = aligned_bars.timestamps if folds is None else aligned_bars.timestamps[folds.open_bars]
    return RunFacts(
        periods_per_year=periods_per_year(timestamps, ingestion.sessions_per_year),
        universe=ingestion.universe,
        episode_bars=training.episode_bars,
        train_bars=max(lengths, default=None),
        accelerator_peak_bytes=None if pd.isna(peak) else float(peak),
        scheme=scheme,
        max_drawdown=trading.max_drawdown,
    )


def keep_returns(frames: RunFrames, aligned_bars: AlignedBars) -> pd.DataFrame:
    """Keep what every account earned at each test row, here and in MLflow, so that runs can be compared on equal rows.

    Returns:
        See ``out_of_sample_returns``.
    """
    returns = out_of_sample_returns(frames, aligned_bars)
    tracking.log_frame(returns, tracking.RETURNS_FILE)
    tracking.log_tags(describe_test_rows(returns))
    return returns


def record_trial(
    frames: RunFrames,
    data_quality: dict[str, Any],
    sections: dict[str, Any],
    agents: dict[str, AgentBundle] | None,
    trials: TrialLedger,
    parameters: ReportingParameters,
    folds: Folds | None,
) -> RecordedTrials:
    """Enter the run into the ledger of trials, before anybody has seen how it did.

    Returns:
        What the run was chosen from: all trials on its universe.
    """
    shaping, code = agents_origin(flatten_parameters(sections), agents)
    returns, universe = trial_returns(frames), universe_of(data_quality)
    bars = data_quality["bars_hash"]
    trial = make_trial(shaping, code, universe, returns, "test", record_context(), bars_hash=bars)
    if parameters.trials.record:
        trials.append(trial.record, trial.returns)
    tracking.log_tags({TRIAL_TAG: trial.identity, UNIVERSE_TAG: universe})
    tracking.log_text(trial.returns.to_csv(index=False), TRIAL_FILE)
    return recorded_trials(trial, trials.records(), trials.returns, None if folds is None else folds.lockbox_dates)


def measure(
    frames: RunFrames,
    facts: RunFacts,
    parameters: ReportingParameters,
    recorded_trials: RecordedTrials,
    lockbox_records: list[dict[str, Any]],
    data_quality: dict[str, Any],
    sections: dict[str, Any],
    folds: Folds | None,
) -> dict[str, Any]:
    """Compute the figures of agents and baselines, and whether it is skill; the agent's go to MLflow as well.

    Returns:
        The content of ``metrics.json``.
    """
    model = agents_identity(data_quality["bars_hash"], flatten_parameters(sections))
    looks = openings(
        lockbox_records, model, list(data_quality["per_symbol"]), None if folds is None else folds.lockbox_dates
    )
    metrics = build_metrics(frames, facts, parameters, recorded_trials, looks)
    tracking.log_metrics(metrics["skill"], prefix="out_of_sample.agent.")
    tracking.log_metrics(metrics["skill"]["iqm"], prefix="out_of_sample.agent.iqm.")
    tracking.log_tags({VERDICT_TAG: metrics["skill"]["verdict"]})
    for name in ("agent", *metrics["baselines"]):
        tracking.log_metrics(metrics[name], prefix=f"out_of_sample.{name}.")
        tracking.log_metrics(metrics[name]["costs"], prefix=f"out_of_sample.{name}.costs.")
    return metrics


def draw(
    frames: RunFrames,
    facts: RunFacts,
    metrics: dict[str, Any],
    folds_figure: go.Figure | None,
    backtest: BacktestParameters,
) -> tuple[dict[str, go.Figure] | go.Figure, ...]:
    """Draw all figures; an agent from elsewhere (``backtest.agent``) knows nothing of this project's folds.

    Returns:
        Figures by name, and those of ``SHOWN`` for kedro-viz.
    """
    figures = draw_figures(frames, facts, metrics, folds_figure if backtest.agent is None else None)
    tracking.log_figures(figures)
    return figures, *(figures[name] for name in SHOWN)


def describe_version(
    metrics: dict[str, Any], logged_model: dict[str, Any] | None, backtest: BacktestParameters
) -> None:
    """Tag the registered version of these agents with what they earned out of sample, and tie it to the run."""
    known = logged_model or {}
    if backtest.agent is None and known.get("version") is not None:
        tag_version(known["model"], known["version"], metric_tags(metrics))
        tag_tested_version(known["model"], known["version"])


def write_report(
    metrics: dict[str, Any],
    figures: dict[str, go.Figure],
    data_quality: dict[str, Any],
    logged_model: dict[str, Any] | None,
    parameters: dict[str, Any],
    backtest: BacktestParameters,
) -> str:
    """Write the report; MLflow gets a copy.

    Returns:
        One HTML page.
    """
    model = logged_model if backtest.agent is None and logged_model else {}
    context = {"parameters": parameters, "bars_hash": data_quality.get("bars_hash"), "model": model}
    page = render_report(metrics, figures, data_quality=data_quality, context=context)
    tracking.log_text(page, "report.html")
    return page

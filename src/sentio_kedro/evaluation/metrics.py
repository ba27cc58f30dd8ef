"""Content of ``metrics.json``: metrics of every account, their intervals, comparisons and tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sentio_kedro.config import ReportingParameters
from sentio_kedro.evaluation.alarms import alarms
from sentio_kedro.evaluation.measures.accounts import (
    Metrics,
    ledger_tables,
    median_metrics,
    path_metrics,
    split_paths,
)
from sentio_kedro.evaluation.measures.behaviour import behaviour_metrics
from sentio_kedro.evaluation.measures.breakdowns import (
    fold_metrics,
    generalisation_gap,
    regime_metrics,
    sleeve_metrics,
    symbol_metrics,
    year_metrics,
)
from sentio_kedro.evaluation.measures.drawdowns import drawdown_limit, worst_drawdowns
from sentio_kedro.evaluation.measures.limits import mask_shares, order_metrics, value_at_risk_test
from sentio_kedro.evaluation.measures.path_sharpes import sharpe_paths
from sentio_kedro.evaluation.measures.paths import table_paths
from sentio_kedro.evaluation.measures.returns import information_ratio
from sentio_kedro.evaluation.measures.robustness import stress_metrics
from sentio_kedro.evaluation.measures.targets import measure_targets
from sentio_kedro.evaluation.run_frames import (
    RunFacts,
    RunFrames,
    metric_key,
    row_times,
    seed_number,
)
from sentio_kedro.evaluation.skill.intervals import (
    account_samples,
    added_by_networks,
    headline_block,
    interval_metrics,
    skill_metrics,
)
from sentio_kedro.evaluation.skill.trials import RecordedTrials
from sentio_kedro.evaluation.statistics.bootstrap import Floats, percentile_interval


def build_metrics(
    frames: RunFrames,
    facts: RunFacts,
    parameters: ReportingParameters,
    trials: RecordedTrials | None = None,
    openings: Sequence[Mapping[str, Any]] = (),
    price_breaks: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Evaluate the agents and the baselines on the out-of-sample rows.

    The agent's metrics are those of the headline account, in which the agents of each fold decide as one, never those
    of a seed that was chosen. All accounts are resampled with the same rows. Where folds test rows again, metrics are
    medians over backtest paths, so that each bar counts once.

    Args:
        frames: Frames of the run.
        facts: Facts of the run.
        parameters: Bootstrap and confidence.
        trials: Trials that the agents were chosen from; None counts them as the only trial.
        openings: Records of the lockbox's openings.
        price_breaks: Those of ``data_quality``.

    Returns:
        The JSON content of ``metrics.json``, None where a metric is undefined. ``agent`` and one entry per name in
        ``baselines`` hold ``account_metrics``, ``behaviour_metrics``, ``order_metrics``, ``sharpe_low``,
        ``sharpe_high``, ``intervals`` (both ends of every headline metric), ``sharpe_seed_min``, ``sharpe_seed_max``
        and the span of the rows. ``seeds`` holds the metrics of every agent alone, ``comparisons`` the differences to
        each baseline with the interval, ``added_by_networks`` that of the networks to the rule that they act on, None
        if they act on none. The other keys are those of the functions in ``measures`` and ``skill``, and
        the settings ``universe``, ``scheme``, ``confidence``, ``periods_per_year`` and ``bootstrap``.
    """
    tables = ledger_tables(frames)
    paths = split_paths(tables)
    by_account = path_metrics(paths, frames.trades, facts.periods_per_year)
    for more in (order_metrics(frames), behaviour_metrics(frames, paths, facts)):
        for name, found in more.items():
            by_account[name] |= found
    metrics = _agent_and_baselines(frames, facts, parameters, tables["return"], by_account)
    metrics["seeds"] = [{"seed": seed_number(name)} | by_account[name] for name in frames.seeds]
    metrics["folds"] = fold_metrics(frames, tables, facts.periods_per_year)
    metrics["generalisation_gap"] = generalisation_gap(metrics["folds"])
    metrics["paths"] = sharpe_paths(frames, facts.scheme, facts.periods_per_year)
    metrics["symbols"] = symbol_metrics(frames)
    metrics["sleeves"] = sleeve_metrics(frames)
    metrics["regimes"] = regime_metrics(frames, tables, facts.periods_per_year)
    metrics["years"] = year_metrics(frames, tables, facts.periods_per_year)
    metrics["masks"] = mask_shares(frames)
    metrics["value_at_risk_test"] = value_at_risk_test(frames)
    metrics["drawdown_limit"] = drawdown_limit(frames, facts)
    metrics["drawdowns"] = worst_drawdowns(frames)
    metrics["robustness"] = stress_metrics(frames)
    metrics["targets"] = measure_targets(metrics["agent"])
    metrics["skill"] = skill_metrics(frames, facts, parameters, tables["return"], metrics, trials, openings)
    block = headline_block(frames, parameters, tables["return"])
    metrics["added_by_networks"] = added_by_networks(frames, facts, parameters, block)
    metrics["alarms"] = alarms(frames, metrics["agent"], metrics["robustness"]["start_dates"], price_breaks)
    metrics |= {"universe": facts.universe, "scheme": facts.scheme, "confidence": parameters.confidence}
    metrics |= {"periods_per_year": facts.periods_per_year}
    metrics["bootstrap"] = {"samples": parameters.bootstrap_samples, "mean_block_bars": block, "seed": parameters.seed}
    plain: dict[str, Any] = json_ready(metrics)
    return plain


def _agent_and_baselines(
    frames: RunFrames,
    facts: RunFacts,
    parameters: ReportingParameters,
    returns: pd.DataFrame,
    by_account: Mapping[str, Metrics],
) -> dict[str, Any]:
    """Metrics of the agent and the baselines with their intervals, and the comparison of the agent with each."""
    samples = account_samples(frames, facts, parameters, returns)
    agent_samples = samples[frames.headline]
    span = _span(frames, returns, facts)
    agent = dict(by_account[frames.headline])
    members = frames.agent_table["members"]
    sharpes = [by_account[name]["sharpe"] for name in frames.seeds]
    agent |= interval_metrics(agent_samples, parameters.confidence)
    agent |= {"sharpe_seed_min": min(sharpes), "sharpe_seed_max": max(sharpes)}
    agent |= {"seeds": len(sharpes), "members": int(members.max()) if len(members) else None} | span
    metrics: dict[str, Any] = {"agent": agent, "comparisons": {}}
    metrics["baselines"] = [metric_key(name) for name in frames.baselines]
    for name, key in zip(frames.baselines, metrics["baselines"], strict=True):
        sharpe = by_account[name]["sharpe"]
        other = by_account[name] | interval_metrics(samples[name], parameters.confidence)
        other |= {"sharpe_seed_min": sharpe, "sharpe_seed_max": sharpe, "seeds": 1, "members": 1} | span
        metrics[key] = other
        differences = agent_samples["sharpe"] - samples[name]["sharpe"]
        comparison = _comparison(agent, other, differences, parameters.confidence)
        metrics["comparisons"][key] = comparison | _active(returns, frames.headline, name, facts.periods_per_year)
    return metrics


def json_ready(value: object) -> Any:
    """Convert NumPy and pandas scalars to plain ones and non-finite numbers to None, at any depth."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def _comparison(agent: Metrics, other: Metrics, differences: Floats, confidence: float) -> Metrics:
    low, high = percentile_interval(differences, confidence)
    return {
        "sharpe_difference": agent["sharpe"] - other["sharpe"],
        "low": low,
        "high": high,
        "annual_return_difference": agent["annual_return"] - other["annual_return"],
    }


def _active(returns: pd.DataFrame, account: str, baseline: str, periods_per_year: float) -> Metrics:
    """Information ratio of an account against a baseline, the median over paths."""
    pair = [returns[name].to_numpy(dtype=np.float64) for name in (account, baseline)]
    return median_metrics(
        [
            {"information_ratio": information_ratio(pair[0][places], pair[1][places], periods_per_year)}
            for places in table_paths(returns)
        ]
    )


def _span(frames: RunFrames, returns: pd.DataFrame, facts: RunFacts) -> Metrics:
    times = row_times(frames)
    return {
        "folds": int(returns.index.get_level_values("fold").nunique()),
        "bars": len(times),
        "periods_per_year": facts.periods_per_year,
        "first_bar": int(times.index[0]),
        "last_bar": int(times.index[-1]),
        "first_timestamp": times.iloc[0],
        "last_timestamp": times.iloc[-1],
    }

"""Confidence intervals of every account, and the skill of the headline account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from sentio_kedro.config import ReportingParameters
from sentio_kedro.evaluation.measures.accounts import entered_on
from sentio_kedro.evaluation.measures.paths import Places, once_a_bar, table_paths
from sentio_kedro.evaluation.run_frames import FORECAST_RULE, NETWORKS, RunFacts, RunFrames, metric_key
from sentio_kedro.evaluation.skill.skill import assess_skill
from sentio_kedro.evaluation.skill.trials import RecordedTrials, lone_trial
from sentio_kedro.evaluation.statistics.bootstrap import (
    Floats,
    automatic_block,
    headline_samples,
    on_paths,
    path_medians,
    percentile_interval,
    round_trip_samples,
)
from sentio_kedro.trading.performance import sharpe_ratio

Metrics = dict[str, Any]


def headline_block(frames: RunFrames, parameters: ReportingParameters, returns: pd.DataFrame) -> float:
    """Mean block length of the intervals: ``bootstrap_block``, or the automatic one of the headline account's returns.

    ``returns`` as in ``account_samples``.
    """
    agent = once_a_bar(returns, frames.headline)[frames.headline].to_numpy(dtype=np.float64)
    return parameters.bootstrap_block or automatic_block(agent)


def account_samples(
    frames: RunFrames, facts: RunFacts, parameters: ReportingParameters, returns: pd.DataFrame
) -> dict[str, dict[str, Floats]]:
    """Resample the headline metrics of every account, all with the same rows.

    Where folds test rows again, a resample draws distinct rows, of all backtest paths the same, and a metric is the
    median over an account's paths.

    ``returns`` are simple and net, with index ``(fold, row)`` and one column per account.

    Returns:
        Per account the samples of each metric, [samples]: those of ``headline_samples``, and of ``round_trip_samples``
        if it made any round trip.
    """
    rng, count = np.random.default_rng(parameters.seed), parameters.bootstrap_samples
    paths, block = table_paths(returns), headline_block(frames, parameters, returns)
    values = on_paths(returns.to_numpy(dtype=np.float64), paths)
    by_path = headline_samples(values, facts.periods_per_year, count, block, rng)
    medians = {name: path_medians(metrics, len(paths)) for name, metrics in by_path.items()}
    samples = {
        account: {name: metrics[:, index] for name, metrics in medians.items()}
        for index, account in enumerate(returns.columns)
    }
    for account, metrics in _round_trip_samples(frames, parameters, block, returns, paths).items():
        samples[account] |= metrics
    return samples


def _round_trip_samples(
    frames: RunFrames,
    parameters: ReportingParameters,
    block: float,
    returns: pd.DataFrame,
    paths: Sequence[Places],
) -> dict[str, dict[str, Floats]]:
    """Samples of the round trips of every account that made any, with the rows of the headline metrics."""
    sums = np.stack([_round_trip_sums(frames.trades, returns.iloc[places]) for places in paths], axis=2)  # [3, T, P, N]
    rng = np.random.default_rng(parameters.seed)
    flat = sums.reshape(*sums.shape[:2], -1)
    samples = round_trip_samples(flat, parameters.bootstrap_samples, block, rng)
    by_path = {name: metrics.reshape(len(metrics), len(paths), -1) for name, metrics in samples.items()}
    return {
        str(account): {name: _median(metrics[:, :, index].T) for name, metrics in by_path.items()}
        for index, account in enumerate(returns.columns)
        if sums[0, :, :, index].any()
    }


def _round_trip_sums(trades: pd.DataFrame, path: pd.DataFrame) -> Floats:
    """Round trips, those that won, and the sum of their results by row of entry, [3, T, N]."""
    round_trips = entered_on(trades[trades["account"].isin(path.columns)], path.index)
    rows = pd.Index(path.index.get_level_values("row")).get_indexer(pd.Index(round_trips["entry_row"]))
    accounts = path.columns.get_indexer(pd.Index(round_trips["account"]))
    results = round_trips["return"].to_numpy(dtype=np.float64)
    sums = np.zeros((3, *path.shape))
    for values, each in zip(sums, (np.ones(len(round_trips)), results > 0.0, results), strict=True):
        np.add.at(values, (rows, accounts), each)
    return sums


def _median(samples: Floats) -> Floats:
    """Median over the first axis without NaN, [K, samples] to [samples]."""
    if not np.isnan(samples).any():
        return np.median(samples, axis=0)
    return pd.DataFrame(samples).median().to_numpy(dtype=np.float64)


def interval_metrics(samples: Mapping[str, Floats], confidence: float) -> Metrics:
    """Intervals of an account's samples: ``sharpe_low``, ``sharpe_high`` and ``intervals`` (both ends by metric)."""
    ends = {name: list(percentile_interval(values, confidence)) for name, values in samples.items()}
    return {"sharpe_low": ends["sharpe"][0], "sharpe_high": ends["sharpe"][1], "intervals": ends}


def skill_metrics(
    frames: RunFrames,
    facts: RunFacts,
    parameters: ReportingParameters,
    returns: pd.DataFrame,
    metrics: Mapping[str, Any],
    trials: RecordedTrials | None,
    openings: Sequence[Mapping[str, Any]],
) -> Metrics:
    """Assess the headline account's skill, where folds test rows again on its median backtest path.

    ``returns`` as in ``account_samples``; ``metrics`` hold ``agent``, ``seeds`` and ``folds``. Without ``trials`` the
    run counts as the only one.
    """
    by_bar = once_a_bar(returns, frames.headline)
    agent = by_bar[frames.headline].to_numpy(dtype=np.float64)
    baselines = {metric_key(name): by_bar[name].to_numpy(dtype=np.float64) for name in frames.baselines}
    scores = pd.DataFrame(metrics["folds"]).pivot(index="seed", columns="fold", values="sharpe")
    return assess_skill(
        *(agent, baselines, scores.to_numpy(dtype=np.float64), trials or lone_trial(agent)),
        *(facts.periods_per_year, parameters),
        traded=bool(metrics["agent"]["trades"]),
        intervals=metrics["agent"]["intervals"],
        openings=openings,
    )


def added_by_networks(
    frames: RunFrames, facts: RunFacts, parameters: ReportingParameters, block: float
) -> Metrics | None:
    """What the networks would add to the rule that they act on, were they to decide in all folds.

    Returns:
        ``sharpe`` of their account, ``rule_sharpe``, and ``low`` and ``high`` of the difference, resampled on the same
        bars in blocks of ``block`` bars; None where folds test rows again or without a rule.
    """
    pair, names = frames.accounts["account"], [NETWORKS, FORECAST_RULE]
    if facts.scheme != "walk_forward" or not set(names) <= set(pair.unique()):
        return None
    table = frames.accounts[pair.isin(names)].pivot(index="row", columns="account", values="return")[names].dropna()
    returns, rng = np.ascontiguousarray(table, np.float64), np.random.default_rng(parameters.seed)
    ratios = headline_samples(returns, facts.periods_per_year, parameters.bootstrap_samples, block, rng)["sharpe"]
    low, high = percentile_interval(ratios[:, 0] - ratios[:, 1], parameters.confidence)
    networks, rule = sharpe_ratio(torch.from_numpy(returns), facts.periods_per_year).tolist()
    return {"sharpe": networks, "rule_sharpe": rule, "low": low, "high": high}

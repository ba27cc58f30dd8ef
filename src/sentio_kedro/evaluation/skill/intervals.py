"""How sure a run's figures are: intervals of every account, and whether the agent shows skill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sentio_kedro.config import ReportingParameters
from sentio_kedro.evaluation.measures.accounts import entered_on
from sentio_kedro.evaluation.measures.paths import Places, once_a_bar, table_paths
from sentio_kedro.evaluation.run_frames import RunFacts, RunFrames, median_seed, metric_key
from sentio_kedro.evaluation.skill.skill import assess_skill
from sentio_kedro.evaluation.skill.trials import RecordedTrials, lone_trial
from sentio_kedro.evaluation.statistics.bootstrap import (
    Floats,
    headline_samples,
    on_paths,
    path_medians,
    percentile_interval,
    round_trip_samples,
)

Metrics = dict[str, Any]
AGENT = "agent"


def account_samples(
    frames: RunFrames, facts: RunFacts, parameters: ReportingParameters, returns: pd.DataFrame
) -> dict[str, dict[str, Floats]]:
    """Resample the headline figures of every account, all with the same rows.

    Where folds test rows again, a resample draws distinct rows, of all backtest paths the same, and an account's figure
    is the median over its paths.

    Args:
        frames: Frames of the run.
        facts: Facts of the run.
        parameters: Number of resamples, block length and seed.
        returns: Simple net returns, index ``(fold, row)``, one column per account.

    Returns:
        Per account the samples of each figure, [samples]: see ``bootstrap.headline_samples``, and of its round trips
        ``win_rate`` and ``expectancy`` if it made any (NaN where a resample drew none, see
        ``bootstrap.round_trip_samples``); as ``agent`` the median over seeds of each resample, of figures that all
        seeds have.
    """
    rng, count = np.random.default_rng(parameters.seed), parameters.bootstrap_samples
    paths, block = table_paths(returns), parameters.bootstrap_block
    values = on_paths(returns.to_numpy(dtype=np.float64), paths)
    drawn = headline_samples(values, facts.periods_per_year, count, block, rng)
    medians = {name: path_medians(figures, len(paths)) for name, figures in drawn.items()}
    samples = {
        account: {name: figures[:, index] for name, figures in medians.items()}
        for index, account in enumerate(returns.columns)
    }
    for account, figures in _round_trip_samples(frames, parameters, returns, paths).items():
        samples[account] |= figures
    seeds = [samples[name] for name in frames.seeds]
    shared = [name for name in seeds[0] if all(name in seed for seed in seeds)]
    return samples | {AGENT: {name: _median(np.stack([seed[name] for seed in seeds])) for name in shared}}


def _round_trip_samples(
    frames: RunFrames, parameters: ReportingParameters, returns: pd.DataFrame, paths: Sequence[Places]
) -> dict[str, dict[str, Floats]]:
    """Samples of the round trips of every account that made any, all with the rows of the headline figures."""
    sums = np.stack([_round_trip_sums(frames.trades, returns.iloc[places]) for places in paths], axis=2)  # [3, T, P, N]
    rng = np.random.default_rng(parameters.seed)
    flat = sums.reshape(*sums.shape[:2], -1)
    drawn = round_trip_samples(flat, parameters.bootstrap_samples, parameters.bootstrap_block, rng)
    by_path = {name: figures.reshape(len(figures), len(paths), -1) for name, figures in drawn.items()}
    return {
        str(account): {name: _median(figures[:, :, index].T) for name, figures in by_path.items()}
        for index, account in enumerate(returns.columns)
        if sums[0, :, :, index].any()
    }


def _round_trip_sums(trades: pd.DataFrame, path: pd.DataFrame) -> Floats:
    """Number of round trips, of those that won, and sum of their results by row of entry, [3, T, N]."""
    round_trips = entered_on(trades[trades["account"].isin(path.columns)], path.index)
    rows = pd.Index(path.index.get_level_values("row")).get_indexer(pd.Index(round_trips["entry_row"]))
    accounts, results = (
        path.columns.get_indexer(pd.Index(round_trips["account"])),
        round_trips["return"].to_numpy(dtype=np.float64),
    )
    sums = np.zeros((3, *path.shape))
    for values, each in zip(sums, (np.ones(len(round_trips)), results > 0.0, results), strict=True):
        np.add.at(values, (rows, accounts), each)
    return sums


def _median(samples: Floats) -> Floats:
    """Median over the first axis of those that are a number, [K, samples] to [samples]."""
    if not np.isnan(samples).any():
        return np.median(samples, axis=0)
    return pd.DataFrame(samples).median().to_numpy(dtype=np.float64)


def interval_metrics(samples: Mapping[str, Floats], confidence: float) -> Metrics:
    """Intervals of one account: ``sharpe_low``, ``sharpe_high``, and ``intervals`` with both ends of every figure.

    Args:
        samples: Samples of each figure, [samples].
        confidence: Share of the samples inside.
    """
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
    """Judge the median agent's skill, where folds test rows again on its median backtest path.

    Args:
        frames: Frames of the run.
        facts: Facts of the run.
        parameters: Bootstrap and thresholds.
        returns: Simple net returns, index ``(fold, row)``, one column per account.
        metrics: ``agent``, ``seeds`` and ``folds`` of the metrics.
        trials: What the agents were chosen from; None takes them for the only trial.
        openings: Records of the lockbox's openings.

    Returns:
        See ``skill.judge_skill``.
    """
    median = median_seed(frames)
    by_bar = once_a_bar(returns, median)
    agent = by_bar[median].to_numpy(dtype=np.float64)
    baselines = {metric_key(name): by_bar[name].to_numpy(dtype=np.float64) for name in frames.baselines}
    scores = pd.DataFrame(metrics["folds"]).pivot(index="seed", columns="fold", values="sharpe")
    return assess_skill(
        *(agent, baselines, scores.to_numpy(dtype=np.float64), trials or lone_trial(agent)),
        *(facts.periods_per_year, parameters),
        traded=any(seed["trades"] for seed in metrics["seeds"]),
        intervals=metrics["agent"]["intervals"],
        openings=openings,
    )

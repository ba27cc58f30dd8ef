"""Runs side by side: their figures, and whether one is better than another on the same rows.

Two runs are compared only if bars, test rows and what an account pays are the same: otherwise the difference of their
figures says nothing of the agents. The interval of a difference resamples both runs with the same rows, so that the
luck of the market, which both had, cancels (Ledoit and Wolf 2008, Robust Performance Hypothesis Testing with the Sharpe
Ratio, Journal of Empirical Finance 15; here with the stationary bootstrap of Politis and Romano 1994).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch

from sentio_kedro.config import ComparisonParameters
from sentio_kedro.evaluation.comparison.returns import agent_columns, describe_rows, rows_digest, shared_rows
from sentio_kedro.evaluation.measures.paths import path_places
from sentio_kedro.evaluation.statistics.bootstrap import (
    Floats,
    on_paths,
    path_medians,
    percentile_interval,
    sharpe_samples,
)
from sentio_kedro.trading.performance import sharpe_ratio

ORIGINS = {"bars": "bars", "execution": "costs or execution"}
"""What must be equal of two runs beside their rows, and how it is called."""


@dataclass(frozen=True, eq=False)
class TestedRun:
    """A finished run as it was tracked.

    Attributes:
        run_id: Id in MLflow.
        name: Name for people.
        variant: Learner.
        started: When it began, UTC.
        metrics: Metrics by name, without ``out_of_sample.``.
        origin: Digests of the bars and of what an account pays (see ``ORIGINS``).
        returns: Frame of ``out_of_sample_returns``; None if the run kept none.
        periods_per_year: Bars a year.
    """

    run_id: str
    name: str
    variant: str
    started: pd.Timestamp
    metrics: Mapping[str, float]
    origin: Mapping[str, str]
    returns: pd.DataFrame | None
    periods_per_year: float


class Resampling(Protocol):
    """Settings of a bootstrap."""

    @property
    def bootstrap_samples(self) -> int:
        """Resamples."""

    @property
    def bootstrap_block(self) -> float | None:
        """Mean block length in bars; None takes the square root of the number of bars."""

    @property
    def confidence(self) -> float:
        """Coverage of the interval."""

    @property
    def seed(self) -> int:
        """Seed of the draws."""


class Difference(NamedTuple):
    """A difference of Sharpe ratios, median over seeds each.

    Attributes:
        value: Of the first run less that of the second.
        low: Lower end of its interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def compare_runs(runs: Sequence[TestedRun], parameters: ComparisonParameters) -> pd.DataFrame:
    """Set runs side by side; the first one is the reference.

    Args:
        runs: Runs, the reference first.
        parameters: Metrics and bootstrap.

    Returns:
        One row per run: ``run``, ``name``, ``variant``, ``started``, ``rows`` (the rows that judged it, in words),
        ``comparable`` (with the reference), ``differs_in`` (why it is not, empty if it is), the metrics, and
        ``sharpe_difference``, ``difference_low``, ``difference_high`` (run less reference, missing for the reference
        and where they are not comparable).

    Raises:
        ValueError: If there is no run.
    """
    if not runs:
        raise ValueError("There is no run to compare.")
    reference, entries = runs[0], []
    for run in runs:
        reasons = differing(run, reference)
        entry: dict[str, object] = {"run": run.run_id, "name": run.name, "variant": run.variant, "started": run.started}
        entry["rows"] = None if run.returns is None else describe_rows(run.returns)
        entry |= {"comparable": not reasons, "differs_in": "; ".join(reasons)}
        entry |= {name: run.metrics.get(name, np.nan) for name in parameters.metrics}
        found = Difference(np.nan, np.nan, np.nan)
        if run is not reference and not reasons and run.returns is not None and reference.returns is not None:
            found = sharpe_difference(run.returns, reference.returns, run.periods_per_year, parameters)
        entry |= {"sharpe_difference": found.value, "difference_low": found.low, "difference_high": found.high}
        entries.append(entry)
    return pd.DataFrame(entries)


def differing(run: TestedRun, reference: TestedRun) -> list[str]:
    """Say in what two runs differ that must be equal for a comparison; empty if nothing does."""
    reasons = []
    for key, title in ORIGINS.items():
        mine, theirs = run.origin.get(key), reference.origin.get(key)
        if mine is None or theirs is None:
            reasons.append(f"{title} unknown")
        elif mine != theirs:
            reasons.append(f"other {title}")
    if run.returns is None or reference.returns is None:
        return [*reasons, "its returns were not kept" if run.returns is None else "the reference kept no returns"]
    if rows_digest(run.returns) != rows_digest(reference.returns):
        reasons.append(f"other test rows ({describe_rows(run.returns)})")
    return reasons


def sharpe_difference(
    one: pd.DataFrame, other: pd.DataFrame, periods_per_year: float, parameters: Resampling
) -> Difference:
    """Compare two runs on the rows that judged both, resampled together.

    Where moments recur (combinatorial folds), a resample draws distinct rows, of all backtest paths the same, and an
    agent's Sharpe ratio is the median over its paths.

    Args:
        one: Frame of ``out_of_sample_returns``.
        other: That of the run to compare with.
        periods_per_year: Bars a year.
        parameters: Bootstrap.

    Returns:
        The difference of the Sharpe ratios, each the median over the run's agents, and its percentile interval.
    """
    mine, theirs = shared_rows(one, other)
    first, second = (frame[agent_columns(frame)].to_numpy(dtype=np.float64) for frame in (mine, theirs))
    both = np.concatenate([first, second], axis=1)  # [T, N]
    split, paths = first.shape[1], path_places(pd.DatetimeIndex(mine["timestamp"]).as_unit("ns").asi8)
    both = on_paths(both, paths)
    drawn = sharpe_samples(
        both,
        periods_per_year,
        parameters.bootstrap_samples,
        parameters.bootstrap_block,
        np.random.default_rng(parameters.seed),
    )
    low, high = percentile_interval(_medians(path_medians(drawn, len(paths)), split), parameters.confidence)
    observed = path_medians(sharpe_ratio(torch.from_numpy(both), periods_per_year).numpy()[None], len(paths))
    return Difference(float(_medians(observed, split)[0]), low, high)


def _medians(ratios: Floats, split: int) -> Floats:
    """Median over the first ``split`` accounts less that over the others: ``[S, N]`` to ``[S]``."""
    difference: Floats = np.median(ratios[:, :split], axis=1) - np.median(ratios[:, split:], axis=1)
    return difference

"""Comparison of runs: their metrics, and Sharpe differences on the same test rows.

Two runs are comparable only if bars, test rows and costs are the same: otherwise a difference says nothing about the
agents. The interval of a difference resamples both runs with the same rows, so that what the market did to both
cancels (Ledoit and Wolf 2008, Robust Performance Hypothesis Testing with the Sharpe Ratio, Journal of Empirical Finance
15; here with the stationary bootstrap of Politis and Romano 1994).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from sentio_kedro.config import ComparisonParameters, PromotionParameters
from sentio_kedro.evaluation.comparison.returns import describe_rows, headline_column, rows_digest, shared_rows
from sentio_kedro.evaluation.measures.paths import path_places
from sentio_kedro.evaluation.statistics.bootstrap import (
    Floats,
    automatic_block,
    headline_samples,
    on_paths,
    path_medians,
    percentile_interval,
)
from sentio_kedro.trading.performance import sharpe_ratio

ORIGINS = {"bars": "bars", "execution": "costs or execution"}
"""Digests that must be equal for a comparison, and their titles; test rows must be equal too."""


@dataclass(frozen=True, eq=False)
class TestedRun:
    """A finished run as it was tracked.

    Attributes:
        run_id: Id in MLflow.
        name: Display name.
        variant: Learner.
        started: Start, UTC.
        metrics: Metrics by name, without ``out_of_sample.``.
        origin: Digests by the keys of ``ORIGINS``.
        returns: Frame of ``out_of_sample_returns``; None if the run stored none.
        periods_per_year: Bars a year.
    """

    __test__ = False  # no test of pytest
    run_id: str
    name: str
    variant: str
    started: pd.Timestamp
    metrics: Mapping[str, float]
    origin: Mapping[str, str]
    returns: pd.DataFrame | None
    periods_per_year: float


class Difference(NamedTuple):
    """Difference of two runs' Sharpe ratios.

    Attributes:
        value: First run less second.
        low: Lower end of its interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def compare_runs(runs: Sequence[TestedRun], parameters: ComparisonParameters) -> pd.DataFrame:
    """Compare runs with a reference.

    Args:
        runs: Runs, the reference first.
        parameters: Metrics and bootstrap.

    Returns:
        One row per run: ``run``, ``name``, ``variant``, ``started``, ``rows`` (its test rows, in words), ``comparable``
        (with the reference), ``differs_in`` (why it is not, empty if it is), the metrics, and ``sharpe_difference``,
        ``difference_low``, ``difference_high`` (run less reference; missing for the reference and if not comparable).

    Raises:
        ValueError: If there is no run.
    """
    if not runs:
        raise ValueError("There is no run to compare.")
    return pd.DataFrame([_entry(run, runs[0], parameters) for run in runs])


def _entry(run: TestedRun, reference: TestedRun, parameters: ComparisonParameters) -> dict[str, object]:
    reasons = differences(run, reference)
    difference = Difference(np.nan, np.nan, np.nan)
    if run is not reference and not reasons and run.returns is not None and reference.returns is not None:
        difference = sharpe_difference(run.returns, reference.returns, run.periods_per_year, parameters)
    return {
        **{"run": run.run_id, "name": run.name, "variant": run.variant, "started": run.started},
        "rows": None if run.returns is None else describe_rows(run.returns),
        **{"comparable": not reasons, "differs_in": "; ".join(reasons)},
        **{name: run.metrics.get(name, np.nan) for name in parameters.metrics},
        "sharpe_difference": difference.value,
        **{"difference_low": difference.low, "difference_high": difference.high},
    }


def differences(run: TestedRun, reference: TestedRun) -> list[str]:
    """List the differences that rule out a comparison of two runs."""
    reasons = []
    for key, title in ORIGINS.items():
        digest, other = run.origin.get(key), reference.origin.get(key)
        if digest is None or other is None:
            reasons.append(f"{title} unknown")
        elif digest != other:
            reasons.append(f"other {title}")
    if run.returns is None or reference.returns is None:
        return [*reasons, "its returns were not stored" if run.returns is None else "the reference stored no returns"]
    if headline_column(run.returns) is None or headline_column(reference.returns) is None:
        reasons.append("tested before agents decided as one; run its backtest again")
    if rows_digest(run.returns) != rows_digest(reference.returns):
        reasons.append(f"other test rows ({describe_rows(run.returns)})")
    return reasons


def sharpe_difference(
    one: pd.DataFrame,
    other: pd.DataFrame,
    periods_per_year: float,
    parameters: ComparisonParameters | PromotionParameters,
) -> Difference:
    """Sharpe difference of two runs on their shared test rows, resampled together.

    Where timestamps recur (combinatorial folds), a resample draws distinct rows, of all backtest paths the same, and a
    Sharpe ratio is the median over paths.

    Args:
        one: Frame of ``out_of_sample_returns``.
        other: Frame of the run to compare with.
        periods_per_year: Bars a year.
        parameters: Bootstrap.
    """
    rows, other_rows = shared_rows(one, other)
    first, second = (frame[headline_column(frame)].to_numpy(dtype=np.float64) for frame in (rows, other_rows))
    paths = path_places(pd.DatetimeIndex(rows["timestamp"]).as_unit("ns").asi8)
    both = on_paths(np.stack([first, second], axis=1), paths)  # [T, P 2]
    rng = np.random.default_rng(parameters.seed)
    block = parameters.bootstrap_block or automatic_block((first - second)[paths[0]])
    ratios = headline_samples(both, periods_per_year, parameters.bootstrap_samples, block, rng)["sharpe"]
    resampled = _difference(path_medians(ratios, len(paths)))
    observed = path_medians(sharpe_ratio(torch.from_numpy(both), periods_per_year).numpy()[None], len(paths))
    value = float(_difference(observed)[0])
    return Difference(value, *percentile_interval(resampled, parameters.confidence))


def _difference(ratios: Floats) -> Floats:
    """First account less the second, ``[S, 2]`` to ``[S]``."""
    return ratios[:, 0] - ratios[:, 1]

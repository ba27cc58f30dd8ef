"""Stress tests: the agent with other costs, later fills, other starts, on bootstrapped paths and without a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from sentio_kedro.config import RobustnessParameters
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.evaluation.backtest.start_dates import simulate_starts
from sentio_kedro.evaluation.backtest.stress_variants import Variant, VariantResults, simulate_variants
from sentio_kedro.evaluation.run_frames import COLUMNS, ENSEMBLE
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.purged_folds import Fold
from sentio_kedro.trading.performance import annual_return, maximum_drawdown, sharpe_ratio

BPS = 1e4
MIN_SEEDS = 2  # of which one can be left out


def no_robustness() -> pd.DataFrame:
    """Return the frame without rows."""
    return pd.DataFrame(columns=list(COLUMNS["robustness"]))


def stress_frame(
    alone: BacktestContext,
    context: BacktestContext,
    folds: Sequence[Fold],
    parameters: RobustnessParameters,
    periods_per_year: float,
) -> pd.DataFrame:
    """Run all stress tests that ``parameters`` name.

    Args:
        alone: The agents of each fold, each on its own.
        context: The same, deciding as one.
        folds: Folds that make one path.
        parameters: Stress tests.
        periods_per_year: Bars a year.

    Returns:
        Rows of ``robustness_frame``, ``start_frame`` and ``without_each_seed``.
    """
    parts = [robustness_frame(context, folds, parameters, periods_per_year)]
    if parameters.start_shares is not None:
        parts.append(start_frame(context, folds, parameters.start_shares, periods_per_year))
    if parameters.without_seeds:
        parts.append(without_each_seed(alone, folds, periods_per_year))
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else no_robustness()


def without_each_seed(context: BacktestContext, folds: Sequence[Fold], periods_per_year: float) -> pd.DataFrame:
    """Simulate the ensembles that lack one seed each.

    Args:
        context: The agents of each fold, the same seeds in all, each on its own.
        folds: Folds that make one path.
        periods_per_year: Bars a year.

    Returns:
        Rows of ``robustness_frame`` of the kind ``without``, whose value is the seed; none for a single seed.
    """
    seeds = [agent.spec.seed for agent in context.by_fold[folds[0].number]]
    if len(seeds) < MIN_SEEDS:
        return no_robustness()
    variants, parts = [Variant(latency=context.trading.orders.latency_bars)], []
    for place, seed in enumerate(seeds):
        results = simulate_variants(context.ensembles(without=place), folds, variants, None, 0)
        metrics = {name: values[0] for name, values in _metrics(results, periods_per_year).items()}  # [1]
        parts.append(pd.DataFrame({"kind": "without", "value": float(seed), "account": ENSEMBLE, **metrics}))
    return pd.concat(parts, ignore_index=True).reindex(columns=list(COLUMNS["robustness"]))


def start_frame(
    context: BacktestContext, folds: Sequence[Fold], shares: Sequence[float], periods_per_year: float
) -> pd.DataFrame:
    """Begin the headline account at shares of each fold's test rows.

    Returns:
        Rows of ``robustness_frame`` of the kind ``start``, whose value is the share; the figures are those of the rows
        on which all have started, ``correlation`` is that of ``StartResults``.
    """
    rising = sorted(shares)
    found = simulate_starts(context, folds, rising)
    returns = torch.from_numpy(found.returns)
    columns = {
        "sharpe": sharpe_ratio(returns, periods_per_year).numpy(),
        "annual_return": annual_return(returns, periods_per_year).numpy(),
        "total_return": np.expm1(_growth(found.returns)),
        "max_drawdown": maximum_drawdown(returns).numpy(),
        "turnover": found.turnover.mean(axis=0),
        "correlation": found.correlation,
    }
    (account,) = context.accounts(folds[0].number)
    frame = pd.DataFrame({"kind": "start", "value": rising, "account": account, **columns})
    return frame.reindex(columns=list(COLUMNS["robustness"]))


def robustness_frame(
    context: BacktestContext, folds: Sequence[Fold], parameters: RobustnessParameters, periods_per_year: float
) -> pd.DataFrame:
    """Simulate all variants of the headline account in one batch over the test rows.

    Returns:
        One row per ``kind``, ``value`` and ``account``: ``cost`` (multiplier), ``latency`` (bars) and ``path``
        (number) with ``sharpe``, ``annual_return``, ``total_return``,
        ``max_drawdown``, ``turnover`` (per bar) and ``cost_bps`` (commission, spread and impact per traded notional,
        bps per side); ``break_even`` with the multiplier and ``cost_bps`` of ``break_even_cost`` alone.
    """
    latency = context.trading.orders.latency_bars
    named = _variants(parameters, latency)
    if not named:
        return no_robustness()
    accounts = context.accounts(folds[0].number)
    multipliers = sorted({*parameters.cost_multipliers, 1.0}) if parameters.cost_multipliers else []
    curve = [Variant(multiplier=multiplier, latency=latency) for multiplier in multipliers]
    variants = list(dict.fromkeys([*(variant for _, _, variant in named), *curve]))
    results = simulate_variants(context, folds, variants, parameters.block_bars, parameters.seed)
    metrics, growth = _metrics(results, periods_per_year), _growth(results.returns)  # [V, N]
    parts = []
    for kind, value, variant in named:
        row = variants.index(variant)
        columns = {name: values[row] for name, values in metrics.items()}
        parts.append(pd.DataFrame({"kind": kind, "value": value, "account": accounts, **columns}))
    if curve:
        rows, costs = [variants.index(variant) for variant in curve], results.costs
        table = pd.DataFrame({"kind": "break_even", "account": accounts})
        table[["value", "cost_bps"]] = [
            break_even_cost(np.array(multipliers), growth[rows, n], costs[rows, n], metrics["cost_bps"][rows, n])
            for n in range(len(accounts))
        ]
        parts.append(table)
    return pd.concat(parts, ignore_index=True).reindex(columns=list(COLUMNS["robustness"]))


def _variants(parameters: RobustnessParameters, latency: int) -> list[tuple[str, float, Variant]]:
    """Kind, value and settings of what is reported."""
    return [
        *(("cost", m, Variant(multiplier=m, latency=latency)) for m in parameters.cost_multipliers or ()),
        *(("latency", float(bars), Variant(latency=bars)) for bars in parameters.latency_bars or ()),
        *(("path", float(path), Variant(latency=latency, path=path)) for path in range(parameters.paths or 0)),
    ]


def _growth(returns: Floats) -> Floats:
    """Log return over all rows of returns ``[T, ...]``; minus infinity where nothing is left."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log1p(returns).sum(axis=0))


def _metrics(results: VariantResults, periods_per_year: float) -> dict[str, Floats]:
    """Metrics ``[V, N]`` by column."""
    returns, turnover = torch.from_numpy(results.returns), results.turnover
    paid = np.where(turnover > 0.0, results.costs / np.where(turnover > 0.0, turnover, 1.0), np.nan)
    return {
        "sharpe": sharpe_ratio(returns, periods_per_year).numpy(),
        "annual_return": annual_return(returns, periods_per_year).numpy(),
        "total_return": np.expm1(_growth(results.returns)),
        "max_drawdown": maximum_drawdown(returns).numpy(),
        "turnover": turnover / len(returns),
        "cost_bps": BPS * paid,
    }


def break_even_cost(multipliers: Floats, growth: Floats, costs: Floats, cost_bps: Floats) -> tuple[float, float]:
    """Trading costs at which one account earns nothing, by linear interpolation between simulated multipliers.

    No account without costs is simulated: its log return is taken as that at the smallest multiplier plus the costs
    paid there.

    Args:
        multipliers: ``[M]`` factors on commission, spread and impact, rising.
        growth: ``[M]`` log return of the account at each.
        costs: ``[M]`` commission, spread and impact, sum over bars of fractions of equity.
        cost_bps: ``[M]`` the same per traded notional, bps per side; NaN where nothing is traded.

    Returns:
        Multiplier at which the log return first falls to zero, and bps per side there; 0 and 0 if the account loses
        even without costs, infinity and NaN if it earns at every multiplier, NaN twice if it does not trade.
    """
    if np.isnan(cost_bps[0]):
        return math.nan, math.nan
    growth = np.insert(growth, 0, growth[0] + costs[0])
    if growth[0] <= 0.0:
        return 0.0, 0.0
    losing = np.flatnonzero(growth <= 0.0)
    if not len(losing):
        return math.inf, math.nan
    right = losing[0]
    share = growth[right - 1] / (growth[right - 1] - growth[right])
    curve = np.insert(np.stack([multipliers, cost_bps]), 0, 0.0, axis=1)  # [2, M + 1]
    multiplier, bps = curve[:, right - 1] + share * (curve[:, right] - curve[:, right - 1])
    return float(multiplier), float(bps)

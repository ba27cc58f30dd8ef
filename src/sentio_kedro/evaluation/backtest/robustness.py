"""How robust agents are: the same test with other costs, later fills, a later start and on bootstrapped paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentio_kedro.config import RobustnessParameters
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.evaluation.backtest.stress_variants import Variant, VariantResults, simulate_variants
from sentio_kedro.market.fold_shapes import Fold
from sentio_kedro.trading.performance import annual_return, maximum_drawdown, sharpe_ratio

COLUMNS = (
    "kind",
    "value",
    "account",
    "sharpe",
    "annual_return",
    "total_return",
    "max_drawdown",
    "turnover",
    "cost_bps",
)
BPS = 1e4
PROBES = (0.7, 0.9, 0.97, 1.0, 1.03, 1.1, 1.3)  # multipliers simulated about an estimate of the break-even
ENOUGH = 5e-4  # log return that counts as none
ROUNDS = 1  # simulations after the first one to find the break-even
HIGHEST = 1_000.0  # multiplier beyond which costs do not matter

Point = tuple[float, float]
"""A multiplier of costs and the log return that it leaves."""


def no_robustness() -> pd.DataFrame:
    """Return the frame without rows."""
    return pd.DataFrame(columns=list(COLUMNS))


def robustness_frame(
    context: BacktestContext,
    folds: Sequence[Fold],
    parameters: RobustnessParameters,
    accounts: pd.DataFrame,
    periods_per_year: float,
) -> pd.DataFrame:
    """Simulate all variants of all agents in one batch over the joined test rows.

    The break-even is simulated, not interpolated: multipliers around an estimate walk with the first batch, and
    another batch narrows the gap between a multiplier that wins and one that loses, by its parts and
    by the secant, until the log return of each agent is below 5e-4. Where an agent's behaviour jumps at a multiplier,
    the one with the smallest log return is told.

    Args:
        context: Market and agents.
        folds: Folds whose tests join to one path.
        parameters: Which variants.
        accounts: Frame ``accounts`` of the test, from which the break-even is first estimated.
        periods_per_year: Bars per year.

    Returns:
        One row per ``kind``, ``value`` and ``account``: ``cost`` (multiplier), ``latency`` (bars), ``start`` (bars out
        of the market at first), ``path`` (number of the bootstrapped path) and ``break_even`` (multiplier at which the
        total return is zero; 0 if it is not positive even without costs, infinite if no multiplier up to 1000 takes it
        away, NaN if nothing is traded). Figures are ``sharpe``, ``annual_return``, ``total_return``, ``max_drawdown``,
        ``turnover`` (per bar) and ``cost_bps`` (commission, spread and impact per traded notional, bps per side).
    """
    named = _variants(parameters, context.trading.orders.latency_bars)
    if not named:
        return no_robustness()
    names = [f"seed_{agent.spec.seed}" for agent in context.by_fold[folds[0].number]]
    probes: list[Variant] = []
    if parameters.cost_multipliers:
        about = [(0.0, *(share * m for share in PROBES)) for m in estimated_break_even(accounts, names)]
        probes = _probes(about, context.trading.orders.latency_bars)
    variants = list(dict.fromkeys([*(variant for _, _, variant in named), *probes]))
    outcomes = simulate_variants(context, folds, variants, parameters.block_bars, parameters.seed)
    figures = _metrics(outcomes, periods_per_year)
    parts = [_rows(kind, value, names, figures, variants.index(variant)) for kind, value, variant in named]
    if parameters.cost_multipliers:
        parts += _break_even(context, folds, names, variants, outcomes, periods_per_year)
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def _variants(parameters: RobustnessParameters, latency: int) -> list[tuple[str, float, Variant]]:
    """Kind, value and settings of what is reported."""
    return [
        *(("cost", m, Variant(multipliers=(m,), latency=latency)) for m in parameters.cost_multipliers),
        *(("latency", float(bars), Variant(latency=bars)) for bars in parameters.latency_bars),
        *(("start", float(rows), Variant(latency=latency, offset=rows)) for rows in parameters.start_offsets),
        *(("path", float(path), Variant(latency=latency, path=path)) for path in range(parameters.paths)),
    ]


def _metrics(outcomes: VariantResults, periods_per_year: float) -> Mapping[str, Tensor]:
    """Figures ``[V, N]`` by column."""
    returns = outcomes.returns
    traded = outcomes.turnover > 0.0
    return {
        "sharpe": sharpe_ratio(returns, periods_per_year),
        "annual_return": annual_return(returns, periods_per_year),
        "total_return": torch.expm1(outcomes.log_growth()),
        "max_drawdown": maximum_drawdown(returns),
        "turnover": outcomes.turnover / returns.shape[0],
        "cost_bps": torch.where(traded, BPS * outcomes.costs / outcomes.turnover, torch.nan),
    }


def _rows(kind: str, value: float, names: Sequence[str], figures: Mapping[str, Tensor], variant: int) -> pd.DataFrame:
    columns = {name: figure[variant].numpy() for name, figure in figures.items()}
    return pd.DataFrame({"kind": kind, "value": value, "account": list(names), **columns})


def estimated_break_even(accounts: pd.DataFrame, names: Sequence[str]) -> list[float]:
    """Estimate the multiplier of costs that leaves no return, as if trades did not depend on it.

    Args:
        accounts: Frame ``accounts``.
        names: Accounts.

    Returns:
        One multiplier per account: the root of the log return of ``return + costs - multiplier x costs``; 0 if it is
        not positive without costs, at most 1000.
    """
    found = []
    for name in names:
        rows = accounts[accounts["account"] == name]
        costs = rows[["commission", "spread", "impact"]].to_numpy(dtype=np.float64).sum(axis=1)
        free = rows["return"].to_numpy(dtype=np.float64) + costs
        low, high = 0.0, HIGHEST
        if _growth(free, costs, low) <= 0.0:
            found.append(0.0)
            continue
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if _growth(free, costs, middle) > 0.0 else (low, middle)
        found.append(low)
    return found


def _growth(free: NDArray[np.float64], costs: NDArray[np.float64], multiplier: float) -> float:
    return float(np.log(np.maximum(1.0 + free - multiplier * costs, 1e-300)).sum())


def _probes(multipliers: Sequence[tuple[float, ...]], latency: int) -> list[Variant]:
    """Variants with costs of their own for each of N agents, given K multipliers of each."""
    return [Variant(multipliers=chosen, latency=latency) for chosen in zip(*multipliers, strict=True)]


def _break_even(
    context: BacktestContext,
    folds: Sequence[Fold],
    names: Sequence[str],
    variants: Sequence[Variant],
    outcomes: VariantResults,
    periods_per_year: float,
) -> list[pd.DataFrame]:
    """Close in on the multiplier at which each agent's return is nothing; figures are those simulated there."""
    latency = context.trading.orders.latency_bars
    points: list[dict[float, float]] = [{} for _ in names]
    rows: list[dict[float, pd.DataFrame]] = [{} for _ in names]
    for attempt in range(1 + ROUNDS):
        figures, growth = _metrics(outcomes, periods_per_year), outcomes.log_growth()
        for place, variant in enumerate(variants):
            if variant.latency == latency and not variant.offset and variant.path is None:
                for agent, name in enumerate(names):
                    multiplier = variant.multipliers[agent % len(variant.multipliers)]
                    points[agent][multiplier] = float(growth[place, agent])
                    own = {column: figure[:, agent : agent + 1] for column, figure in figures.items()}
                    rows[agent][multiplier] = _rows("break_even", multiplier, [name], own, place)
        wanted = [next_multipliers(sorted(known.items())) for known in points]
        if attempt == ROUNDS or not any(wanted):
            break
        variants = _probes([chosen or (0.0,) * len(PROBES) for chosen in wanted], latency)
        outcomes = simulate_variants(context, folds, variants, None, 0)
    return [_settled(sorted(known.items()), found) for known, found in zip(points, rows, strict=True)]


def next_multipliers(points: Sequence[Point]) -> tuple[float, ...]:
    """Say where to look next for the multiplier that leaves no return.

    Args:
        points: Multipliers in rising order, 0 first, and the log returns that they leave.

    Returns:
        The secant's root and six even parts of the gap between the first multiplier that loses and the one before it,
        or multipliers about the root beyond the last point. None if a point is close enough, nothing is won without
        costs, or costs never take it away.
    """
    if points[0][1] <= 0.0 or any(abs(growth) < ENOUGH for _, growth in points):
        return ()
    losing = next((place for place, (_, growth) in enumerate(points) if growth <= 0.0), None)
    (left, above), (right, below) = points[-2:] if losing is None else points[losing - 1 : losing + 1]
    if below >= above:
        return ()
    root = left + (right - left) * above / (above - below)
    if losing is None:
        return tuple(share * root for share in PROBES) if root <= HIGHEST else ()
    parts = len(PROBES)
    return (root, *(left + (right - left) * part / parts for part in range(1, parts)))


def _settled(points: Sequence[Point], rows: Mapping[float, pd.DataFrame]) -> pd.DataFrame:
    """Row of the multiplier with the smallest return, or of none."""
    if float(rows[0.0]["turnover"].iloc[0]) == 0.0:
        return rows[0.0].assign(value=np.nan)
    if points[0][1] <= 0.0:
        return rows[0.0]
    if all(growth > ENOUGH for _, growth in points):
        return rows[points[-1][0]].assign(value=np.inf)
    return rows[min(points, key=lambda point: abs(point[1]))[0]]

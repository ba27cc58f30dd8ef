"""What rule and agents earn under a drawdown limit and session ends: their shares of the optimum. Prints JSON.

    python benchmarks/limits.py                  # tuning seeds 0 to 4
    python benchmarks/limits.py --networks       # agents, too, whose networks decide whatever their evidence

``reference`` is the rule as if there were no limit, whose positions are scaled by ``scale`` x room / span, at most 1,
and are flat in the last ``flat`` bars of a session. Room is the drawdown limit less the drawdown, span the room at
which the step begins to cut exposure. Both constants are those that earned most on the validation rows: realised
profit, without knowledge of the law. ``rule`` is the rule as it trades: the limit raises its price of risk, and the
step scales its positions. ``informed`` is that rule with the true means as its forecasts: what better forecasts would
be worth.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from limited_agents import agent_walk
from planted.limited_control import LimitedOptimum, solve
from planted.limited_market import Decision, LimitedMarket, LimitedPath, Policy, Walk, walk
from sentio_kedro.agent.control import Control
from sentio_kedro.agent.forecasting.fold import FoldForecasts, forecast_fold
from sentio_kedro.agent.forecasting.market import ForecastMarket
from sentio_kedro.config import ForecastingParameters, IngestionParameters, RegimeParameters, TradingParameters
from sentio_kedro.market.ingestion.timestamps import Floats, periods_per_year
from sentio_kedro.market.regimes import RegimeModel, fit_regimes, market_return

SCALES = (0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.25, 1.6, 2.0)
FLAT_BARS = (0, 1, 2, 4)


def regimes_of(path: LimitedPath) -> RegimeModel:
    """Regimes of the train rows."""
    train = market_return(path.bars)[slice(*path.market.fold.train[0])]
    return fit_regimes([train], RegimeParameters(), seed=0)


def forecast_market(path: LimitedPath, model: RegimeModel, trading: TradingParameters) -> ForecastMarket:
    """Inputs and targets of all rows."""
    per_year = periods_per_year(path.bars.timestamps, IngestionParameters().sessions_per_year)
    prepared = ForecastMarket.of(path.bars, trading, per_year)
    return prepared.with_regimes(model.filter(market_return(path.bars)))


def forecasts_of(market: ForecastMarket, path: LimitedPath) -> FoldForecasts:
    """Forecast the rows after the train rows, by experts fitted on those; ``units[:, 0]`` are the rule's positions."""
    return forecast_fold(market, path.market.fold, ForecastingParameters(sleeves=("directional", "premium")))


def informed_units(market: ForecastMarket, path: LimitedPath, found: FoldForecasts) -> Floats:
    """Positions ``[T]`` of the rule with the true means of the next bar."""
    forecasts = np.zeros((*market.costs.shape, len(market.segments)))
    forecasts[:, 0, 0] = path.path.means[:, 0] / path.market.law.sigma
    price, bars = market.price_of_risk(found.train_rows, 1.0), [part.bars for part in market.segments]
    control = Control.of(bars, market.periods_per_year, price)
    control = control.with_surprise(forecasts[found.train_rows], market.costs[found.train_rows])
    units, rows = np.zeros(len(market.costs)), found.later_rows
    units[rows] = control.positions(forecasts[rows], market.costs[rows], np.zeros(1), neutral=False)[:, 0]
    return units


def scaled_rule(units: Floats, span: float, scale: Floats, flat: Floats) -> Policy:
    """Scale the rule's positions ``[T]`` by what the drawdown leaves, for N accounts.

    Args:
        units: ``[T]`` positions of the rule.
        span: Room at which the step begins to cut exposure, fraction.
        scale: ``[N]`` share of the rule's positions held there.
        flat: ``[N]`` bars at the session's end without a position.
    """

    def policy(known: Decision) -> Floats:
        size = np.minimum(scale * known.room / span, 1.0)
        return np.asarray(np.where(known.left > flat, units[known.row] * np.maximum(size, 0.0), 0.0))

    return policy


def best_constants(path: LimitedPath, units: Floats) -> tuple[float, int]:
    """Scale and flat bars that earn most on the validation rows."""
    pairs = np.array(list(product(SCALES, FLAT_BARS)))
    policy = scaled_rule(units, path.market.limits.span, pairs[:, 0], pairs[:, 1])
    earned = walk([path], path.market.fold.validation[0], policy, len(pairs)).realised.mean(axis=0)
    scale, flat = pairs[int(np.argmax(earned))]
    return float(scale), int(flat)


def as_traded(units: Floats, span: float) -> Policy:
    """The rule's positions ``[T]``, scaled by the step alone."""
    return scaled_rule(units, span, np.ones(1), np.zeros(1))


def measure(market: LimitedMarket, optimum: LimitedOptimum, seed: int, networks: bool) -> dict[str, Any]:
    """Shares of the optimum's expected profit on the test rows of one path."""
    path, (test,), span = market.draw(seed), market.fold.test, market.limits.span
    model = regimes_of(path)
    prepared = forecast_market(path, model, market.trading)
    found = forecasts_of(prepared, path)
    unlimited = forecasts_of(forecast_market(path, model, replace(market.trading, max_drawdown=None)), path).units[:, 0]
    scale, flat = best_constants(path, unlimited)
    walks = {
        "optimum": walk(
            [path], test, lambda known: optimum.targets(known.signal, known.position, known.room, known.left)
        ),
        "reference": walk([path], test, scaled_rule(unlimited, span, np.array([scale]), np.array([flat]))),
        "rule": walk([path], test, as_traded(found.units[:, 0], span)),
        "informed": walk([path], test, as_traded(informed_units(prepared, path, found), span)),
    }
    if networks:
        walks["networks"] = agent_walk(path, model, prepared, found)
    best = float(walks["optimum"].expected.sum())
    return {
        "seed": seed,
        "gate_t": {sleeve.name: sleeve.gate_t for sleeve in found.sleeves},
        "scale": scale,
        "flat": flat,
        "shares": {name: float(part.expected.sum()) / best for name, part in walks.items()},
        **{name: summary(part) for name, part in walks.items()},
    }


def mean_difference(first: list[float], second: list[float]) -> dict[str, float]:
    """Mean of ``first`` less ``second``, seed by seed, and its standard error."""
    difference = np.array(first) - np.array(second)
    error = difference.std(ddof=1) / len(difference) ** 0.5 if len(difference) > 1 else np.nan
    return {"mean": float(difference.mean()), "standard_error": float(error)}


def summary(part: Walk) -> dict[str, float]:
    """Mean expected profit, share of the bars on which the limit cuts the cap, and largest drawdown, of one account."""
    equity = np.cumprod(1.0 + part.realised[:, 0])
    peak = np.maximum.accumulate(np.maximum(equity, 1.0))
    return {
        "profit_bps": float(part.expected.mean() * 1e4),
        "limit_binds": float((part.headroom < 1.0).mean()),
        "headroom": float(part.headroom.mean()),
        "exposure": float(np.abs(part.positions).mean()),
        "drawdown": float((1.0 - equity / peak).max()),
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--networks", action="store_true", help="train agents, too")
    arguments = parser.parse_args()
    market = LimitedMarket()
    optimum = solve(market.limits)
    runs = [measure(market, optimum, seed, arguments.networks) for seed in arguments.seeds]
    shares = {name: [run["shares"][name] for run in runs] for name in runs[0]["shares"]}
    served = "networks" if arguments.networks else "rule"
    found = {
        "median": {name: float(np.median(part)) for name, part in shares.items()},
        "shares": shares,
        f"{served}_less_reference": mean_difference(shares[served], shares["reference"]),
        "runs": runs,
    }
    if arguments.networks:
        found["networks_less_rule"] = mean_difference(shares["networks"], shares["rule"])
    sys.stdout.write(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

"""What the forecast rule earns under a drawdown limit and session ends: its share of the optimum. Prints JSON.

    python benchmarks/limits.py                  # tuning seeds 0 to 4
    python benchmarks/limits.py --seeds 0

The rule's positions are scaled by ``scale`` x room / span, at most 1, and are flat in the last ``flat`` bars of a
session. Room is the drawdown limit less the drawdown, span the room at which the step begins to cut exposure. Both
constants are those that earned most on the validation rows: realised profit, without knowledge of the law. ``unscaled``
is the share of the rule as it is, which the step alone limits.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import product
from typing import Any

import numpy as np

from planted.limited_control import LimitedOptimum, solve
from planted.limited_market import Decision, LimitedMarket, LimitedPath, Policy, Walk, walk
from sentio_kedro.agent.forecasting.fold import FoldForecasts, forecast_fold
from sentio_kedro.agent.forecasting.market import ForecastMarket
from sentio_kedro.config import ForecastingParameters, IngestionParameters, RegimeParameters
from sentio_kedro.market.regimes import fit_regimes, market_return
from sentio_kedro.market.timestamps import Floats, periods_per_year

SCALES = (0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.25, 1.6, 2.0)
FLAT_BARS = (0, 1, 2, 4)


def forecasts_of(path: LimitedPath, price_of_risk: float = 1.0) -> FoldForecasts:
    """Forecast the rows after the train rows, by experts fitted on those; ``units[:, 0]`` are the rule's positions."""
    fold, returns = path.market.fold, market_return(path.bars)
    per_year = periods_per_year(path.bars.timestamps, IngestionParameters().sessions_per_year)
    prepared = ForecastMarket.of(path.bars, path.market.trading, per_year)
    model = fit_regimes([returns[slice(*fold.train[0])]], RegimeParameters(), seed=0)
    parameters = ForecastingParameters(sleeves=("directional", "premium"), price_of_risk=price_of_risk)
    return forecast_fold(prepared.with_regimes(model.filter(returns)), fold, parameters)


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


def measure(market: LimitedMarket, optimum: LimitedOptimum, seed: int, price_of_risk: float) -> dict[str, Any]:
    """Share of the optimum's expected profit on the test rows of one path."""
    path, (test,) = market.draw(seed), market.fold.test
    found = forecasts_of(path, price_of_risk)
    units, span = found.units[:, 0], market.limits.span
    scale, flat = best_constants(path, units)
    best = walk([path], test, lambda known: optimum.targets(known.signal, known.position, known.room, known.left))
    reference = walk([path], test, scaled_rule(units, span, np.array([scale]), np.array([flat])))
    unscaled = walk([path], test, scaled_rule(units, span, np.array([np.inf]), np.array([0])))
    return {
        "seed": seed,
        "gate_t": {sleeve.name: sleeve.gate_t for sleeve in found.sleeves},
        "scale": scale,
        "flat": flat,
        "share": float(reference.expected.sum() / best.expected.sum()),
        "unscaled": float(unscaled.expected.sum() / best.expected.sum()),
        **{name: summary(part) for name, part in (("optimum", best), ("reference", reference), ("rule", unscaled))},
    }


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
    parser.add_argument("--price-of-risk", type=float, default=1.0, help="`forecasting.price_of_risk` of the rule")
    arguments = parser.parse_args()
    market = LimitedMarket()
    optimum = solve(market.limits)
    runs = [measure(market, optimum, seed, arguments.price_of_risk) for seed in arguments.seeds]
    shares = [run["share"] for run in runs]
    sys.stdout.write(json.dumps({"median": float(np.median(shares)), "worst": min(shares), "runs": runs}, indent=2))


if __name__ == "__main__":
    main()

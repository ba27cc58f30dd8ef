"""What forecasts and rule earn on planted markets: shares of the optimum's expected profit. Prints JSON.

    python benchmarks/forecast_rule.py --markets ar1 hours --seeds 20 21 22
    python benchmarks/forecast_rule.py --markets garch_noise --seeds $(seq 0 99)  # how often noise is traded

Train rows are all bars before the test that are long enough ago; a closed gate counts as a share of 0. On noise
``traded`` counts the seeds on which a position was taken.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np

from planted.catalogue import CONDITIONAL, MARKETS
from planted.paths import path_bars
from planted.scores import share_of_optimum
from sentio_kedro.agent.forecasting.fold import forecast_fold
from sentio_kedro.agent.forecasting.market import ForecastMarket
from sentio_kedro.config import (
    CostParameters,
    ForecastingParameters,
    IngestionParameters,
    RegimeParameters,
    TradingParameters,
)
from sentio_kedro.config.forecasting import SleeveName
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.ingestion.timestamps import periods_per_year
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.market.regimes import fit_regimes, market_return

KNOWN = MARKETS | CONDITIONAL
SLEEVES: dict[bool, tuple[SleeveName, ...]] = {  # by whether it is noise of several assets
    False: ("directional", "premium"),
    True: ("relative", "directional", "premium"),
}
WARM_UP = 1_027  # bars before the first train row
LEVELS = np.array([-1.0, 0.0, 1.0])


def measure(name: str, seed: int) -> dict[str, Any]:
    """Forecast and trade one path."""
    market = KNOWN[name]
    path = market.law.draw(market.train_bars + market.test_bars, seed)
    bars = align_bars(path_bars(path), IngestionParameters())
    trading = TradingParameters(costs=CostParameters(commission_bps=market.cost_bps, half_spread_bps=0.0))
    per_year = periods_per_year(bars.timestamps, IngestionParameters().sessions_per_year)
    began = time.perf_counter()
    prepared = ForecastMarket.of(bars, trading, per_year)
    train, test = Segment(WARM_UP, market.train_bars), Segment(market.train_bars, len(bars.timestamps) - 1)
    returns = market_return(bars)
    model = fit_regimes([returns[slice(*train)]], RegimeParameters(), seed=0)
    fold = Fold(0, (train,), (), (test,))
    noise = name.endswith("noise")
    parameters = ForecastingParameters(sleeves=SLEEVES[noise and market.law.assets > 1])
    found = forecast_fold(prepared.with_regimes(model.filter(returns)), fold, parameters)
    seconds, part = time.perf_counter() - began, slice(*test)
    positions = found.units[part] / market.law.assets
    result = {
        "seed": seed,
        "traded": bool(positions.any()),
        "gate_t": {sleeve.name: sleeve.gate_t for sleeve in found.sleeves},
        "turnover": float(np.abs(np.diff(positions, axis=0)).sum()),
        "seconds": seconds,
    }
    if not noise:
        cost = market.cost_bps * 1e-4
        optimum = market.law.optimum(path, cost, LEVELS / market.law.assets)[part]
        result["share"] = share_of_optimum(positions, optimum, path.means[part], cost)
    return result


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markets", nargs="+", default=sorted(KNOWN), choices=sorted(KNOWN))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(20, 25)))
    arguments = parser.parse_args()
    measured: dict[str, Any] = {}
    for name in arguments.markets:
        runs = [measure(name, seed) for seed in arguments.seeds]
        shares = sorted(run["share"] for run in runs if "share" in run)
        measured[name] = {
            "traded": sum(run["traded"] for run in runs),
            "seeds": len(runs),
            **({"median": float(np.median(shares)), "worst": shares[0]} if shares else {}),
            "runs": runs,
        }
        sys.stderr.write(f"{name}: { ({k: v for k, v in measured[name].items() if k != 'runs'}) }\n")
    sys.stdout.write(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""How often accounts without skill meet the drawdown limit, by target volatility. Prints JSON.

    python benchmarks/no_skill.py --assets 1 --targets 0.0025 0.0035 0.005

The preset `realistic` should let under a tenth of simulated years reach headroom 0, or agents spend their time idle.
Markets are four years of 12 bars a day with volatility that clusters, t(4) shocks and a correlation of one half; each
account draws a side of every asset anew for five days at a time.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np
import torch

from sentio_kedro.config import TradingParameters
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.simulate import simulate
from sentio_kedro.trading.step.policies import TARGETS, make_policies

YEARS, DAYS, PER_DAY, HELD_DAYS = 4, 365, 12, 5
DAILY_VOLATILITY, CORRELATION, MEMORY_DAYS = 0.03, 0.5, 20


def clustered_market(assets: int, rng: np.random.Generator) -> MarketTensors:
    """Draw prices whose daily log volatility follows a first-order autoregression."""
    days, rows = YEARS * DAYS, YEARS * DAYS * PER_DAY + 1
    level = np.zeros(days)
    for day in range(1, days):
        level[day] = 0.98 * level[day - 1] + 0.1 * rng.normal()
    deviation = np.repeat(DAILY_VOLATILITY * np.exp(level - level.var() / 2), PER_DAY) / PER_DAY**0.5
    common, own = (rng.standard_t(4, (rows - 1, n)) / 2**0.5 for n in (1, assets))
    returns = deviation[:, None] * (CORRELATION**0.5 * common + (1.0 - CORRELATION) ** 0.5 * own)
    returns = np.vstack([np.zeros((1, assets)), returns])
    close = 100.0 * np.exp(returns.cumsum(0))
    squares = np.vstack([np.zeros((1, assets)), (returns**2).cumsum(0)])
    first = np.maximum(np.arange(rows) + 1 - MEMORY_DAYS * PER_DAY, 0)
    seen = np.maximum(np.arange(rows) + 1 - first, PER_DAY)[:, None]
    volatility = np.sqrt(np.maximum(squares[1:] - squares[first], 1e-6) / seen)
    facts = {
        "open": np.vstack([close[:1], close[:-1]]),
        "close": close,
        "volatility": volatility,
        "daily_volatility": volatility * PER_DAY**0.5,
        "posterior": np.ones((rows, 1)),
        "elapsed": np.full(rows, 1.0 / PER_DAY),
        "session": np.arange(rows) // PER_DAY,
        "correlation": np.full(rows, CORRELATION),
    }
    return MarketTensors(
        features=torch.zeros(rows, assets, 1),
        tradable=torch.ones(rows, assets, dtype=torch.bool),
        **{name: torch.from_numpy(values) for name, values in facts.items()},
    )


def measure(market: MarketTensors, target: float, accounts: int, rng: np.random.Generator) -> dict[str, float]:
    """Let accounts trade at random under one target volatility."""
    trading = TradingParameters(
        preset="realistic",
        masks={"target_volatility": target, "kelly_fraction": None},  # type: ignore[arg-type]
    )
    terms, rows = terms_of(trading, market.assets), market.bars - 1
    period = np.arange(rows) // (HELD_DAYS * PER_DAY)
    sides = rng.choice(terms.levels, size=(period[-1] + 1, accounts, market.assets))
    policies = make_policies(
        np.full(accounts, TARGETS),
        market.assets,
        len(terms.levels),
        source=np.arange(accounts),
        targets=sides[period] * terms.allocation,
    )
    ledger = simulate(
        market_facts(market, 0, rows, trading), open_accounts(accounts, market.assets, trading), policies, terms
    )
    headroom, equity = ledger.total.headroom, ledger.total.equity
    drawdown = 1.0 - equity / np.maximum.accumulate(equity, axis=0)
    return {
        "years_at_the_limit": float((headroom.reshape(YEARS, -1, accounts).min(1) <= 0.0).mean()),
        "idle_bars": float((headroom <= 0.0).mean()),
        "annual_volatility": float(np.diff(np.log(equity[::PER_DAY]), axis=0).std() * DAYS**0.5),
        "median_drawdown": float(np.median(drawdown.max(0))),
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--targets", type=float, nargs="+", default=[0.0025, 0.0035, 0.005])
    parser.add_argument("--accounts", type=int, default=200)
    arguments, result = parser.parse_args(), dict[str, Any]()
    for assets in arguments.assets:
        market = clustered_market(assets, np.random.default_rng(1))
        result[f"{assets} assets"] = {
            str(target): measure(market, target, arguments.accounts, np.random.default_rng(2))
            for target in arguments.targets
        }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

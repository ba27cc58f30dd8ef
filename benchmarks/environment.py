"""Steps per second of the environment alone: no network, actions drawn beforehand. Prints JSON.

One asset, a path of 8,192 bars of 30 minutes, sessions of 13 bars; the preset ``realistic`` with every other layer of
the mask, every cost and every kind of order as well, episodes of 128 decisions, actions at random. A step is one
account and one decision, its observation and its legal levels included. The best of several short runs counts; steps
per second of processor time are those of one core, on a machine that is busy with other things.

    python benchmarks/environment.py
    python benchmarks/environment.py --threads 1
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from typing import Any

import numba
import numpy as np
import torch

from sentio_kedro.agent.training.allocator import keep_freed_memory
from sentio_kedro.config import TradingParameters
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.environment.episodes import Episodes
from sentio_kedro.trading.records import Integers

BARS, FEATURES, EPISODE, SESSION, SIGMA = 8192, 8, 128, 13, 0.004
ACCOUNTS = (1024, 4096, 16384, 65536)
TRADING = TradingParameters(
    preset="realistic",
    levels=[-1.0, -0.5, 0.0, 0.5, 1.0],
    calendar="XNYS",
    costs={"commission_per_share": 0.005, "min_commission": 1.0, "half_spread": "bars", "impact": 1.0},
    orders={
        "latency_bars": 1,
        "participation": 0.1,
        "lot_size": 1.0,
        "min_notional": 10.0,
        "stop_loss": 0.05,
        "take_profit": 0.1,
        "flat_at_close": True,
    },
    masks={
        "daily_loss": 0.02,
        "position_var": 0.04,
        "target_volatility": 0.01,
        "regime_exposure": [1.0, 1.0, 0.5],
        "crisis_probability": 0.99,
        "first_minutes": 30.0,
        "last_minutes": 30.0,
        "overnight": False,
        "liquidity": 0.05,
        "no_short": ["AAA"],
        "trades_per_day": 6,
        "pattern_day_trader": True,
        "min_holding_bars": 2,
        "kelly_fraction": 0.5,
    },
)


def random_market() -> MarketTensors:
    """Random walk with every fact that a market can have, in sessions of thirteen half hours."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(BARS, 1, generator=generator) * SIGMA
    close = 50.0 * steps.cumsum(0).exp()
    open_ = torch.cat([close[:1], close[:-1]]) * (1.0 + 0.2 * SIGMA * torch.randn(BARS, 1, generator=generator))
    wick = 1.0 + SIGMA * torch.rand(BARS, 1, generator=generator)
    volume = 1e5 * (0.5 + torch.rand(BARS, 1, generator=generator))
    bar, elapsed = torch.arange(BARS) % SESSION, torch.full((BARS,), 1.0 / 48.0)
    elapsed[bar == 0] += 17.5 / 24.0
    rarely = torch.arange(BARS)[:, None] % 1000 == 0
    return MarketTensors(
        features=torch.randn(BARS, 1, FEATURES, generator=generator),
        open=open_,
        close=close,
        tradable=torch.arange(BARS)[:, None] % 97 > 0,
        volatility=SIGMA * (0.5 + torch.rand(BARS, 1, generator=generator)),
        posterior=torch.softmax(torch.randn(BARS, 3, generator=generator), -1),
        high=torch.maximum(open_, close) * wick,
        low=torch.minimum(open_, close) / wick,
        volume=volume,
        present=torch.arange(BARS)[:, None] % 97 > 0,
        returns=steps,
        daily_volatility=SIGMA * SESSION**0.5 * (0.5 + torch.rand(BARS, 1, generator=generator)),
        daily_volume=volume * SESSION,
        elapsed=elapsed,
        session=torch.arange(BARS) // SESSION,
        minutes_since_open=30.0 * (bar + 1),
        minutes_to_close=30.0 * (SESSION - 1 - bar),
        spread=1e-4 * (1.0 + torch.rand(BARS, 1, generator=generator)),
        dividend=torch.where(rarely, 0.1, 0.0),
        split=torch.where(rarely.roll(500, 0), 2.0, 1.0),
        funding=1e-5 * torch.randn(BARS, 1, generator=generator),
        delisted=torch.zeros(BARS, 1, dtype=torch.bool),
        shortable=torch.zeros(1, dtype=torch.bool),
    ).to(torch.device("cpu"), torch.float32)


def prepare(accounts: int) -> tuple[Episodes, Integers]:
    """Make reset episodes and actions ``[64, N, 1]`` to take."""
    generator = np.random.default_rng(1)
    segments = [Segment(96, 4000), Segment(4200, BARS)]
    episodes = Episodes(random_market(), segments, TRADING, EPISODE, accounts, generator)
    episodes.reset()
    return episodes, generator.integers(len(TRADING.levels), size=(64, accounts, 1))


def measure(accounts: int, seconds: float, runs: int) -> dict[str, float]:
    """Time ``runs`` runs of about ``seconds`` each; the best counts."""
    began = time.perf_counter()
    episodes, actions = prepare(accounts)
    episodes.step(actions[0])
    first = time.perf_counter() - began
    rates, per_core = [], []
    for _ in range(runs):
        taken, began, spent, used = 0, time.perf_counter(), 0.0, time.process_time()
        while spent < seconds:
            episodes.step(actions[taken % len(actions)])
            taken += 1
            spent = time.perf_counter() - began
        rates.append(accounts * taken / spent)
        per_core.append(accounts * taken / (time.process_time() - used))
    return {
        "env_steps_per_second": max(rates),
        "slowest_run": min(rates),
        "env_steps_per_cpu_second": max(per_core),
        "seconds_before_second_step": first,
    }


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None, help="default: numba's own choice")
    parser.add_argument("--accounts", type=int, nargs="+", default=list(ACCOUNTS))
    arguments = parser.parse_args()
    if arguments.threads:
        numba.set_num_threads(arguments.threads)
    keep_freed_memory()
    runs = [{"accounts": count, **measure(count, arguments.seconds, arguments.runs)} for count in arguments.accounts]
    result: dict[str, Any] = {**max(runs, key=lambda run: run["env_steps_per_second"]), "runs": runs}
    result["machine"] = {"threads": numba.get_num_threads(), "numba": numba.__version__, "cpu": platform.machine()}
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

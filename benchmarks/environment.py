"""Steps per second of the environment alone: no network, actions drawn beforehand. Prints JSON.

One asset, a path of 8,192 bars of 30 minutes, sessions of 13 bars; the preset ``realistic`` with every other layer of
the mask, every cost and every kind of order as well, float32, episodes of 128 decisions, actions at random. A step is
one account and one decision, its observation and its legal actions included. The best of several short runs counts;
steps per second of processor time are those of one core, on a machine that is busy with other things.

    python benchmarks/environment.py                     # eager
    python benchmarks/environment.py --compile           # and compiled
    python benchmarks/environment.py --profile           # and where the time goes
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sentio_kedro.agent.training.allocator import keep_freed_memory
from sentio_kedro.config import TradingParameters
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.episodes import Episodes, EpisodeState, Transition, play

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
        "unfilled": "carry",
        "lot_size": 1.0,
        "min_notional": 10.0,
        "stop_loss": 0.05,
        "take_profit": 0.1,
        "flat_at_close": True,
    },
    masks={
        "concentration": 0.9,
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


Play = Callable[[EpisodeState, Tensor, Tensor, Any, TradingParameters, int], tuple[EpisodeState, Transition]]


def prepare(accounts: int, step: Play = play) -> tuple[Episodes, Tensor]:
    """Make reset episodes and actions ``[64, N, 1]`` to take."""
    generator = torch.Generator().manual_seed(1)
    segments = [Segment(96, 4000), Segment(4200, BARS)]
    episodes = Episodes(random_market(), segments, TRADING, EPISODE, accounts, generator, advance=step)
    episodes.reset()
    return episodes, torch.randint(len(TRADING.levels) + 1, (64, accounts, 1), generator=generator)


def measure(accounts: int, seconds: float, runs: int, step: Play = play) -> dict[str, float]:
    """Time ``runs`` runs of about ``seconds`` each; the best counts."""
    began = time.perf_counter()
    episodes, actions = prepare(accounts, step)
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


def profile(accounts: int, steps: int = 50) -> str:
    """Return a table of the slowest operations."""
    episodes, actions = prepare(accounts)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for index in range(steps):
            episodes.step(actions[index % len(actions)])
    return str(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None, help="torch threads; default: torch's own choice")
    parser.add_argument("--accounts", type=int, nargs="+", default=list(ACCOUNTS))
    parser.add_argument("--compile", action="store_true", help="also time the compiled step")
    parser.add_argument("--profile", action="store_true", help="print the slowest operations to stderr")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    modes: dict[str, Play] = {"eager": play}
    if arguments.compile:
        modes["compiled"] = torch.compile(play, dynamic=False, fullgraph=True)
    runs = [
        {"mode": mode, "accounts": count, **measure(count, arguments.seconds, arguments.runs, step)}
        for mode, step in modes.items()
        for count in arguments.accounts
    ]
    result: dict[str, Any] = {**max(runs, key=lambda run: run["env_steps_per_second"]), "runs": runs}
    if arguments.compile:
        compiled = [run["seconds_before_second_step"] for run in runs if run["mode"] == "compiled"]
        result["compile_seconds"] = max(compiled)
    if arguments.profile:
        sys.stderr.write(profile(result["accounts"]) + "\n")
    result["machine"] = {"threads": torch.get_num_threads(), "torch": torch.__version__, "cpu": platform.machine()}
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

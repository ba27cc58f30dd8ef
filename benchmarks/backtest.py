"""Speed of the backtest with policy head and all layers of the mask, in float64. Prints JSON.

    python benchmarks/backtest.py                         # 1, 16 and 256 accounts, eager and compiled
    python benchmarks/backtest.py --accounts 16 --eager   # a part of it

The workload is fixed: 5 assets, 35,000 bars, an agent of two default networks with random weights, the preset
`realistic` with every layer of the mask. Asset-bars are accounts x assets x bars. Step data, embeddings, head, masks,
execution and telemetry are all in the measured time; compilation is measured apart.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from typing import Any

import torch

from sentio_kedro.agent.ensemble import AgentsPolicy
from sentio_kedro.agent.network.encoder import NetworkShape, receptive_field
from sentio_kedro.agent.network.network import PolicyNetwork, build_network
from sentio_kedro.agent.ppo.compiled import CompiledStep
from sentio_kedro.config import NetworkParameters, TradingParameters
from sentio_kedro.evaluation.backtest.walk import final_account, simulate_rows
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import open_accounts
from sentio_kedro.trading.simulate import Advance, advance

BARS, ASSETS, FEATURES, REGIMES = 35_000, 5, 21, 3
DOUBLE = torch.float64
PER_SESSION = 48
CHUNK = 64  # decision rows whose ledger is held at once; results do not depend on it
TRADING = TradingParameters(
    preset="realistic",
    calendar="XNYS",  # the sessions below are made by hand
    masks={  # type: ignore[arg-type]
        "first_minutes": 30,
        "last_minutes": 30,
        "trades_per_day": 20,
        "pattern_day_trader": True,
        "min_holding_bars": 2,
        "no_short": ["E"],
        "overnight": False,
    },
)


def random_market(bars: int = BARS, assets: int = ASSETS) -> MarketTensors:
    """Draw random walks with volumes, spreads, sessions and weekends."""
    draws = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draws, dtype=DOUBLE)

    returns = 0.005 * normal(bars, assets)
    close = 100.0 * returns.cumsum(0).exp()
    opening = torch.cat([close[:1], close[:-1]]) * (0.001 * normal(bars, assets)).exp()
    place = torch.arange(bars) % PER_SESSION
    return MarketTensors(
        features=normal(bars, assets, FEATURES),
        open=opening,
        close=close,
        tradable=torch.rand((bars, assets), generator=draws) > 0.01,  # noqa: PLR2004 - one bar in a hundred is missing
        volatility=torch.full_like(close, 0.005),
        posterior=(2.0 * normal(bars, REGIMES)).softmax(-1),
        high=torch.maximum(opening, close) * 1.001,
        low=torch.minimum(opening, close) * 0.999,
        volume=1e6 * normal(bars, assets).exp(),
        returns=returns,
        daily_volatility=torch.full_like(close, 0.005 * PER_SESSION**0.5),
        daily_volume=torch.full_like(close, 1e6 * PER_SESSION),
        elapsed=torch.where(place == 0, 0.5, 0.01).to(DOUBLE),
        session=torch.arange(bars) // PER_SESSION,
        minutes_since_open=(place * 10.0).to(DOUBLE),
        minutes_to_close=((PER_SESSION - 1 - place) * 10.0).to(DOUBLE),
        shortable=torch.arange(assets) < assets - 1,
    )


class Agent:
    """One agent of two networks, which decides for all accounts."""

    def __init__(self, market: MarketTensors) -> None:
        """Build the networks with random weights."""
        sizes, actions = NetworkParameters(), 1 + len(TRADING.levels)
        shape = NetworkShape(FEATURES, market.assets, REGIMES, actions)
        self.market = market
        self.context = receptive_field(sizes) - 1
        self.members = [_opinionated(build_network(sizes, shape, torch.Generator().manual_seed(s))) for s in (0, 1)]

    def policy(self, rows: Segment) -> AgentsPolicy:
        """Embed the rows and prepare to decide at them."""
        posterior = self.market.posterior[rows.start : rows.stop]
        features = self.market.features[None, max(0, rows.start - self.context) : rows.stop]
        count = rows.stop - rows.start
        projected = [m.head.project(m.encoder(features, count)[0], posterior) for m in self.members]
        heads = [[member.head for member in self.members]]
        return AgentsPolicy(heads, torch.stack(projected, dim=1)[:, None], posterior[:, None], TRADING)


def _opinionated(network: PolicyNetwork) -> PolicyNetwork:
    with torch.no_grad():
        network.head.policy.weight.mul_(300.0)  # a fresh policy is nearly indifferent
    return network.to(DOUBLE)


def measure(market: MarketTensors, accounts: int, step: Advance, bars: int) -> dict[str, float]:
    """Simulate ``accounts`` over ``bars`` bars."""
    agent = Agent(market)
    cash = torch.linspace(1e4, 1e6, accounts, dtype=DOUBLE)[:, None]  # different layers bind small and large accounts
    start = open_accounts(cash, market.assets, TRADING.orders.latency_bars)
    began = time.perf_counter()
    rows = Segment(0, bars - 1)
    chunks = simulate_rows(market, rows, agent.policy, start, TRADING, telemetry=True, step=step, chunk=CHUNK)
    end = final_account(chunks)
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "asset_bars_per_second": accounts * market.assets * (bars - 1) / seconds,
        "alive": float(end.alive.double().mean()),
        "mean_equity": float(end.equity.mean()),
    }


def compare(market: MarketTensors, accounts: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one number of accounts, eager and compiled."""
    result: dict[str, Any] = {}
    if not arguments.compiled:
        result["eager"] = measure(market, accounts, advance, arguments.bars)
    if not arguments.eager:
        step = CompiledStep()
        began = time.perf_counter()
        measure(market, accounts, step, 4)
        seconds = time.perf_counter() - began
        result["compiled"] = measure(market, accounts, step, arguments.bars)
        result["compiled"] |= {"compile_seconds": seconds, "compiled": step.works}
    return result


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--bars", type=int, default=BARS)
    parser.add_argument("--assets", type=int, default=ASSETS)
    parser.add_argument("--eager", action="store_true", help="eager steps alone")
    parser.add_argument("--compiled", action="store_true", help="compiled steps alone")
    arguments = parser.parse_args()
    market = random_market(arguments.bars, arguments.assets)
    with torch.inference_mode():
        result: dict[str, Any] = {str(n): compare(market, n, arguments) for n in arguments.accounts}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    result["machine"] = {"torch": torch.__version__, "cpu": platform.machine(), "peak_gigabytes": peak}
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

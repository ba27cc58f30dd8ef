"""Speed of the accounting, and of the backtest with an agent of four members, in float64. Prints JSON.

    python benchmarks/backtest.py                                        # 5 assets x 35,000 bars
    python benchmarks/backtest.py --assets 50 --bars 1000000 --accounts 1   # a large panel

The market is random; the preset is `realistic` with every layer of the mask. Asset-bars are accounts x assets x bars.
`accounting` walks tables of targets, ledger off. `backtest` has embeddings, heads, facts, ledger and telemetry in the
measured time. Loading compiled code is measured apart; delete the cache to see compilation. The floor of the accounting
is what reading the facts once per account and step takes at the bandwidth that a copy of memory reaches.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from typing import Any

import numba
import numpy as np
import torch

from sentio_kedro.agent.ensemble import encode_members
from sentio_kedro.agent.network.encoder import NetworkShape, receptive_field
from sentio_kedro.agent.network.head_arrays import network_heads
from sentio_kedro.agent.network.network import PolicyNetwork, build_network
from sentio_kedro.config import NetworkParameters, TradingParameters
from sentio_kedro.evaluation.backtest.walk import final_accounts, simulate_rows
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.policies import HEADS, TARGETS, Policies, make_policies, with_heads
from sentio_kedro.trading.records import FACTS, Accounts
from sentio_kedro.trading.simulate import simulate

BARS, ASSETS, FEATURES, REGIMES, MEMBERS = 35_000, 5, 21, 3, 4
DOUBLE = torch.float64
PER_SESSION = 48
FACT_ROWS = 4096  # rows of facts that the accounting walks at a time
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


def random_market(bars: int, assets: int) -> MarketTensors:
    """Draw random walks with volumes, spreads, sessions and weekends."""
    draws = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draws, dtype=DOUBLE)

    returns = 0.005 * normal(bars, assets)
    close = 100.0 * returns.cumsum(0).exp()
    opening = torch.cat([close[:1], close[:-1]]) * (0.001 * normal(bars, assets)).exp()
    place = torch.arange(bars) % PER_SESSION
    return MarketTensors(
        features=torch.randn((bars, assets, FEATURES), generator=draws),
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
        bar_volume=torch.full_like(close, 1e6),
        correlation=torch.full((bars,), 0.5, dtype=DOUBLE),
        tail=torch.full((bars,), 2.5, dtype=DOUBLE),
        elapsed=torch.where(place == 0, 0.5, 0.01).to(DOUBLE),
        session=torch.arange(bars) // PER_SESSION,
        minutes_since_open=(place * 10.0).to(DOUBLE),
        minutes_to_close=((PER_SESSION - 1 - place) * 10.0).to(DOUBLE),
        shortable=torch.arange(assets) < assets - 1,
    )


def varied_accounts(accounts: int, assets: int) -> Accounts:
    """Open accounts of different sizes, so that different layers bind."""
    opened = open_accounts(accounts, assets, TRADING)
    for name in ("cash", "equity", "peak_equity", "initial_equity", "session_equity"):
        opened.account[name] = np.linspace(1e4, 1e6, accounts)
    opened.session_highs[:, 0] = opened.account.equity
    return opened


def accounting(market: MarketTensors, accounts: int) -> dict[str, float]:
    """Walk tables of targets over the first rows, again and again."""
    assets, rows = market.assets, min(FACT_ROWS, market.bars - 1)
    facts, terms = market_facts(market, 0, rows, TRADING), terms_of(TRADING, assets)
    sides = np.random.default_rng(0).choice(terms.levels, size=(rows, 1, assets))
    policies = make_policies(np.full(accounts, TARGETS), assets, len(terms.levels), targets=sides * terms.allocation)
    began = time.perf_counter()
    simulate(facts, varied_accounts(accounts, assets), policies, terms, np.arange(2)[None], fills=False)
    loading, times = time.perf_counter() - began, []
    for _ in range(5):
        opened, began = varied_accounts(accounts, assets), time.perf_counter()
        simulate(facts, opened, policies, terms, fills=False)
        times.append(time.perf_counter() - began)
    steps = accounts * assets * rows
    return {
        "asset_bars_per_second": steps / float(np.median(times)),
        "floor_asset_bars_per_second": copied_bytes_per_second() / FACTS.itemsize,
        "loading_seconds": loading,
    }


def copied_bytes_per_second() -> float:
    """Bytes that a copy of memory reads a second."""
    source = np.zeros(2**25)
    target, began = np.empty_like(source), time.perf_counter()
    for _ in range(4):
        np.copyto(target, source)
    return 4 * source.nbytes / (time.perf_counter() - began)


class Agent:
    """One agent of four networks with random weights, which decides for all accounts."""

    def __init__(self, market: MarketTensors, accounts: int) -> None:
        """Build the networks."""
        sizes = NetworkParameters()
        shape = NetworkShape(FEATURES, market.assets, REGIMES, len(TRADING.levels))
        self.market, self.accounts = market, accounts
        self.context = receptive_field(sizes) - 1
        draws = [torch.Generator().manual_seed(seed) for seed in range(MEMBERS)]
        self.members = [_opinionated(build_network(sizes, shape, generator)) for generator in draws]

    @torch.inference_mode()
    def policies(self, rows: Segment) -> Policies:
        """Embed the rows and prepare to decide at them."""
        features = self.market.features[max(0, rows.start - self.context) : rows.stop].to(DOUBLE)
        first = rows.start - max(0, rows.start - self.context)
        encoders = [member.encoder for member in self.members]
        embeddings = encode_members(encoders, features, first, len(features), self.context)
        heads = network_heads(self.members, embeddings, self.market.posterior[slice(*rows)])
        empty = make_policies(np.full(self.accounts, HEADS), self.market.assets, len(TRADING.levels))
        return with_heads(empty, heads)


def _opinionated(network: PolicyNetwork) -> PolicyNetwork:
    with torch.no_grad():
        network.head.policy.weight.mul_(300.0)  # a fresh policy is nearly indifferent
    return network.to(DOUBLE)


def backtest(market: MarketTensors, accounts: int, chunk: int) -> dict[str, float]:
    """Simulate ``accounts`` over all bars."""
    agent, opened = Agent(market, accounts), varied_accounts(accounts, market.assets)
    rows = Segment(0, market.bars - 1)
    began = time.perf_counter()
    end = final_accounts(simulate_rows(market, rows, agent.policies, opened, TRADING, telemetry=True, chunk=chunk))
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "asset_bars_per_second": accounts * market.assets * (market.bars - 1) / seconds,
        "alive": float(end.account.alive.mean()),
        "mean_equity": float(end.account.equity.mean()),
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--bars", type=int, default=BARS)
    parser.add_argument("--assets", type=int, default=ASSETS)
    parser.add_argument("--chunk", type=int, default=1024, help="rows whose facts and ledger are in memory at a time")
    arguments = parser.parse_args()
    market = random_market(arguments.bars, arguments.assets)
    result: dict[str, Any] = {}
    for accounts in arguments.accounts:
        result[str(accounts)] = {
            "accounting": accounting(market, accounts),
            "backtest": backtest(market, accounts, arguments.chunk),
        }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    versions = {"torch": torch.__version__, "numba": numba.__version__, "cpu": platform.machine()}
    result["machine"] = versions | {"threads": numba.get_num_threads(), "peak_gigabytes": peak}
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

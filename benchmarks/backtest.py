"""Speed of the accounting, and of the backtest with an agent of four members, in float64. Prints JSON.

    python benchmarks/backtest.py                                        # 5 assets x 35,000 bars
    python benchmarks/backtest.py --assets 50 --bars 1000000 --accounts 1  # a large panel

The market is random; the preset is `realistic` with every layer of the mask. Asset-bars are accounts x assets x bars.
`accounting` walks tables of targets, ledger off. `backtest` has embeddings, heads, facts, ledger and telemetry in the
measured time. With the extra `gpu` and a GPU the accounting is also measured there. Large arrays lie in temporary
files, whose pages are no anonymous memory. Loading compiled code is measured apart; delete the cache to see
compilation. The floor of the accounting is what reading the facts once per account and step takes at the bandwidth that
a copy of memory reaches.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

from sentio_kedro.agent.ensemble import project_rows
from sentio_kedro.agent.network.encoder import NetworkShape, receptive_field
from sentio_kedro.agent.network.head_arrays import head_arrays, head_weights
from sentio_kedro.agent.network.network import PolicyNetwork, build_network
from sentio_kedro.config import NetworkParameters, TradingParameters
from sentio_kedro.evaluation.backtest.walk import final_accounts, row_chunks, simulate_rows
from sentio_kedro.market.large_arrays import large_array
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.records import FACTS, Accounts
from sentio_kedro.trading.simulate import simulate, walks_on
from sentio_kedro.trading.step.policies import HEADS, TARGETS, Policies, make_policies, with_heads

BARS, ASSETS, FEATURES, REGIMES, MEMBERS = 35_000, 5, 21, 3, 4
DOUBLE = torch.float64
PER_SESSION = 48
MISSING = 0.01  # share of the bars
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
    """Draw random walks with volumes, spreads, sessions and weekends, piece by piece into arrays of any size."""
    draws = torch.Generator().manual_seed(0)
    levels = {"volatility": 0.005, "daily_volatility": 0.005 * PER_SESSION**0.5, "daily_volume": 1e6 * PER_SESSION}
    floats = ("open", "high", "low", "close", "volume", "returns", "bar_volume", *levels)
    columns = {name: torch.from_numpy(large_array((bars, assets))) for name in floats}
    columns["features"] = torch.from_numpy(large_array((bars, assets, FEATURES), np.float32))
    columns["tradable"] = torch.from_numpy(large_array((bars, assets), np.bool_))
    last = torch.zeros(assets, dtype=DOUBLE)  # log price
    for part in row_chunks(Segment(0, bars), FACT_ROWS):
        shape = (part.stop - part.start, assets)
        returns, gaps, traded = (torch.randn(shape, generator=draws, dtype=DOUBLE) for _ in range(3))
        prices = last + (0.005 * returns).cumsum(0)
        close, opening = 100.0 * prices.exp(), 100.0 * (torch.cat([last[None], prices[:-1]]) + 0.001 * gaps).exp()
        drawn = {
            "open": opening,
            "high": torch.maximum(opening, close) * 1.001,
            "low": torch.minimum(opening, close) * 0.999,
            "close": close,
            "volume": 1e6 * traded.exp(),
            "returns": 0.005 * returns,
            "bar_volume": torch.full_like(close, 1e6),
            "features": torch.randn((*shape, FEATURES), generator=draws),
            "tradable": torch.rand(shape, generator=draws) > MISSING,
            **{name: torch.full_like(close, level) for name, level in levels.items()},
        }
        for name, values in drawn.items():
            columns[name][slice(*part)] = values
        last = prices[-1]
    place = torch.arange(bars) % PER_SESSION
    return MarketTensors(
        **columns,
        posterior=(2.0 * torch.randn((bars, REGIMES), generator=draws, dtype=DOUBLE)).softmax(-1),
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


def accounting(market: MarketTensors, accounts: int, device: torch.device | None = None) -> dict[str, float]:
    """Walk tables of targets over the first rows, again and again; on a GPU if ``device`` names one."""
    assets, rows = market.assets, min(FACT_ROWS, market.bars - 1)
    facts, terms = market_facts(market, 0, rows, TRADING), terms_of(TRADING, assets)
    sides = np.random.default_rng(0).choice(terms.levels, size=(rows, 1, assets))
    policies = make_policies(np.full(accounts, TARGETS), assets, len(terms.levels), targets=sides * terms.allocation)
    if device is not None:
        policies = policies._replace(targets=torch.from_numpy(policies.targets).to(device))  # type: ignore[arg-type]
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

    def policies(self, rows: Segment) -> Policies:
        """Embed the rows and prepare to decide at them."""
        features = self.market.features[max(0, rows.start - self.context) : rows.stop].to(DOUBLE)
        first = rows.start - max(0, rows.start - self.context)
        posterior = self.market.posterior[max(0, rows.start - self.context) : rows.stop]
        regimes = [posterior] * len(self.members)
        projected = project_rows(self.members, regimes, features, first, len(features), self.context)
        heads = head_arrays(
            head_weights([[member.head for member in self.members]]), projected[:, None], posterior[first:, None]
        )
        empty = make_policies(np.full(self.accounts, HEADS), self.market.assets, len(TRADING.levels))
        return with_heads(empty, heads)


def _opinionated(network: PolicyNetwork) -> PolicyNetwork:
    with torch.no_grad():
        network.head.policy.weight.mul_(300.0)  # a fresh policy is nearly indifferent
    return network.to(DOUBLE)


def backtest(market: MarketTensors, accounts: int, rows: int) -> dict[str, float]:
    """Simulate ``accounts`` over the first ``rows`` decision rows."""
    agent, opened = Agent(market, accounts), varied_accounts(accounts, market.assets)
    began, used = time.perf_counter(), time.process_time()
    with AnonymousMemory() as memory:
        end = final_accounts(simulate_rows(market, Segment(0, rows), agent.policies, opened, TRADING, telemetry=True))
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "processor_seconds": time.process_time() - used,
        "asset_bars_per_second": accounts * market.assets * rows / seconds,
        "peak_anonymous_gigabytes": memory.peak,
        "alive": float(end.account.alive.mean()),
        "mean_equity": float(end.account.equity.mean()),
    }


class AnonymousMemory:
    """Largest memory of the process that no file backs, GB, looked up every 20 ms; 0 where there is no ``/proc``."""

    def __init__(self) -> None:
        """Start at nothing."""
        self.peak, self._done = 0.0, threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> AnonymousMemory:
        """Begin to watch."""
        self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop."""
        self._done.set()
        self._watch.join()

    def _look(self) -> None:
        status = Path("/proc/self/status")
        while status.exists():
            lines = status.read_text().splitlines()
            kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            self.peak = max(self.peak, kilobytes * 1024 / 1e9)
            if self._done.wait(0.02):
                return


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--bars", type=int, default=BARS)
    parser.add_argument("--assets", type=int, default=ASSETS)
    arguments = parser.parse_args()
    market = random_market(arguments.bars, arguments.assets)
    backtest(market, 1, min(market.bars - 1, 2))  # loads compiled code
    result: dict[str, Any] = {}
    for accounts in arguments.accounts:
        result[str(accounts)] = {
            "accounting": accounting(market, accounts),
            "backtest": backtest(market, accounts, market.bars - 1),
        }
        if torch.cuda.is_available() and walks_on(torch.device("cuda")):
            result[str(accounts)]["accounting_on_gpu"] = accounting(market, accounts, torch.device("cuda"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    versions = {"torch": torch.__version__, "numba": numba.__version__, "cpu": platform.machine()}
    result["machine"] = versions | {"threads": numba.get_num_threads(), "peak_gigabytes": peak}
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

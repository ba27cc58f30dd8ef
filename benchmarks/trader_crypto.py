"""A trader at a crypto exchange, killed and cut off at random: the real ccxt, a fake of Binance. Prints JSON.

    python benchmarks/trader_crypto.py                       # 6 runs of 60 bars, a minute or two
    python benchmarks/trader_crypto.py --runs 50 --bars 200

Each run trades two symbols in bars of a minute, with agents that want a position that follows from the bar alone; time
jumps. A share of all requests fails after or before it took effect, answers are pages of a proxy, half a text or
nothing, look-ups lag by 2 s (and with `--trades-lag` executions behind balances), some candles are late, commission is
kept back from what is bought, and the process ends at random boundaries and starts again from its journal. `lost`:
orders that the journal takes for accepted and the exchange does not have. `doubled`: client ids under which more than
one order was executed. `astray`: runs that end with other shares or cash in the journal than at the exchange, or not
active. `posts`: most POSTs of one order.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from pydantic import SecretStr

from sentio_kedro.config.live.trader import BrokerParameters, FeedParameters, SendingParameters, TraderLimits
from sentio_kedro.trader.brokers.exchanges import ExchangeBroker
from sentio_kedro.trader.clock import ReplayClock
from sentio_kedro.trader.contract import BarRow, Decision, Settled, Simulated
from sentio_kedro.trader.feeds.polling import PollingFeed
from sentio_kedro.trader.journal.store import Journal, JournalReader
from sentio_kedro.trader.runtime import Trader
from sentio_kedro.trader.stamps import seconds_of, stamp_of
from sentio_kedro.trader.state import Rules, State

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "venues"))
from fake_binance import KEY, SECRET, FakeBinance

BAR, START = 60.0, seconds_of("2026-05-01T12:00:00Z")
SYMBOLS = {"BTC": ("BTCUSDT", 50_000.0), "ETH": ("ETHUSDT", 2_500.0)}
FAULTS = ("reset", "504", "html", "truncated", "empty", "429")
LIMITS = TraderLimits(order_notional=0.5, orders_per_minute=1_000, turnover_per_day=1e6, daily_loss=0.9, drawdown=0.9)
FAILING, LATE, DYING = 0.1, 0.1, 1 / 150  # shares of requests, of candles, and of boundaries
MONEY = 1e-6


class KilledError(BaseException):
    """The process ends here."""


def close(bar: int, symbol: str) -> float:
    """Close of a bar; the exchange executes at the newest one."""
    return SYMBOLS[symbol][1] * (1.0 + ((bar * 13 + len(symbol)) % 11) / 10_000)


class Agents:
    """Agents without a model: between a tenth and a third of equity in each symbol, by the bar."""

    symbols, source, model, required_bars = tuple(SYMBOLS), "stub", "stub/1", 2

    def __init__(self, last: str) -> None:
        """Decide nothing from a stamp on, so that a run ends with all answered."""
        self._last = last

    def start(self, history: pd.DataFrame, account: Mapping[str, Any] | None, sent: frozenset[str]) -> Decision:
        """Take the newest row of a history."""
        newest = history[history["timestamp"] == history["timestamp"].max()]
        self._closes = history.sort_values("timestamp").groupby("symbol")["close"].last().to_dict()
        given = {"cash": 0.0, "shares": {}} if account is None else account
        return self._decision(stamp_of(newest["timestamp"].iloc[0].timestamp()), given["cash"], given["shares"])

    def advance(self, row: BarRow, execution: Simulated | Settled) -> Decision:
        """Decide from what the exchange says."""
        if not isinstance(execution, Settled):
            raise TypeError("these agents trade at an exchange")
        self._closes |= {symbol: values["close"] for symbol, values in row.bars.items()}
        return self._decision(row.stamp, execution.cash, execution.shares)

    def _decision(self, stamp: str, cash: float, shares: Mapping[str, float]) -> Decision:
        bar = round((seconds_of(stamp) - START) / BAR)
        held = {symbol: shares.get(symbol, 0.0) for symbol in self.symbols}
        equity = cash + sum(held[symbol] * self._closes.get(symbol, 0.0) for symbol in held)
        shares_wanted = {s: (0.0, 0.1, 0.2, 0.3)[(bar + j) % 4] for j, s in enumerate(self.symbols)}
        orders = {s: shares_wanted[s] * equity / self._closes[s] - held[s] for s in self.symbols if s in self._closes}
        orders |= {symbol: -held[symbol] for symbol in orders if not shares_wanted[symbol]}
        orders = {} if stamp >= self._last else orders
        return Decision(
            bar=stamp,
            orders={symbol: shares for symbol, shares in orders.items() if shares},
            targets=shares_wanted,
            actions=dict.fromkeys(self.symbols, 0),
            legal={symbol: [True] for symbol in self.symbols},
            closes=dict(self._closes),
            equity=equity,
            shares=held,
            cash=cash,
            account={"cash": cash, "shares": held},
        )


class Until(PollingFeed):
    """A feed that ends after a stamp."""

    last = ""

    async def rows(self, after: str) -> AsyncIterator[BarRow]:
        """Yield rows up to it."""
        if after >= self.last:
            return
        async with aclosing(super().rows(after)) as rows:  # type: ignore[type-var]
            async for row in rows:
                yield row
                if row.stamp >= self.last:
                    return


async def process(venue: FakeBinance, clock: ReplayClock, path: Path, last: str, dice: random.Random) -> State:
    """Run a trader until two bars after a stamp, or until it is killed."""
    keys = {"api_key": SecretStr(KEY), "secret_key": SecretStr(SECRET)}
    sending = SendingParameters(decide_within=0.9)
    broker = ExchangeBroker(BrokerParameters("ccxt", url=venue.url), sending, list(SYMBOLS), keys, False, clock)
    feed = Until(FeedParameters("ccxt", url=venue.url, max_gap_bars=1_000), list(SYMBOLS), "1m", clock)
    feed.last = stamp_of(seconds_of(last) + 2 * BAR)

    def boundary(name: str) -> None:
        if dice.random() < DYING:
            raise KilledError(name)

    try:
        lattices = await broker.lattices(list(SYMBOLS))
        rules = Rules("crypto", tuple(SYMBOLS), BAR, LIMITS, sending, lattices, simulated=False)
        with Journal(path) as journal:
            return await Trader(rules, journal, broker, feed, Agents(last), clock, boundary=boundary).run()
    finally:
        await broker.close()
        await feed.close()


async def run(seed: int, bars: int, path: Path, trades_lag: float) -> dict[str, Any]:
    """Trade some bars, from restart to restart."""
    dice, clock, kills = random.Random(seed), ReplayClock(START + 1), 0  # noqa: S311

    def chaos(method: str, path: str) -> tuple[str, bool]:
        return (dice.choice(FAULTS), dice.choice([True, False])) if dice.random() < FAILING else ("", True)

    async with FakeBinance(clock.now, blind_seconds=2.0, trades_lag=trades_lag) as venue:
        for symbol, (name, _) in SYMBOLS.items():
            for bar in range(-20, bars + 3):
                values = dict.fromkeys(("open", "high", "low", "close"), close(bar, symbol)) | {"volume": 10.0}
                venue.set_kline(name, "1m", START + BAR * bar, values)
                if dice.random() < LATE:
                    venue.late[name, START + BAR * bar] = START + BAR * bar + dice.choice([3, 30])
            venue.prices[name] = Decimal(str(round(close(0, symbol), 2)))
        while True:
            venue.chaos = chaos
            try:
                state = await process(venue, clock, path, stamp_of(START + BAR * bars), dice)
                break
            except KilledError:
                kills += 1
            except RuntimeError:  # the exchange did not answer at the start
                clock.set(clock.now() + 1)
        venue.chaos = lambda *_: ("", True)
        return judged(venue, state, path) | {"kills": kills}


def judged(venue: FakeBinance, state: State, path: Path) -> dict[str, Any]:
    """Compare journal and exchange."""
    with JournalReader(path) as reader:
        kinds = Counter(stored.event.kind for stored in reader.events())
        accepted = {stored.event.key for stored in reader.events(kinds={"accepted"})}
    executed = Counter(order.client for order in venue.orders if order.filled)
    posts = Counter(params["newClientOrderId"] for method, path, params in venue.requests if method == "POST")
    off = [
        abs(state.shares.get(symbol, 0.0) - float(venue.balances.get(symbol, 0))) * SYMBOLS[symbol][1]
        for symbol in SYMBOLS
    ]
    off.append(abs(state.cash - float(venue.balances["USDT"])))
    return {
        "mode": state.mode,
        "reason": state.reason,
        "lost": len(accepted - {order.client for order in venue.orders}),
        "doubled": sum(count > 1 for count in executed.values()),
        "off": max(off),
        "orders": len(venue.orders),
        "posts": max(posts.values(), default=0),
        "facts": dict(sorted(kinds.items())),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--bars", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trades-lag", type=float, default=0.0)
    given = parser.parse_args()
    begin, told = time.perf_counter(), []
    for seed in range(given.seed, given.seed + given.runs):
        with TemporaryDirectory() as folder:
            told.append(
                {"seed": seed} | asyncio.run(run(seed, given.bars, Path(folder) / "journal.sqlite", given.trades_lag))
            )
    summary = {
        "runs": given.runs,
        "bars": given.bars,
        "lost": sum(one["lost"] for one in told),
        "doubled": sum(one["doubled"] for one in told),
        "astray": sum(one["off"] > MONEY or one["mode"] != "active" for one in told),
        "kills": sum(one["kills"] for one in told),
        "orders": sum(one["orders"] for one in told),
        "seconds": round(time.perf_counter() - begin, 1),
    }
    print(json.dumps(summary | {"each": told}, indent=1))


if __name__ == "__main__":
    main()

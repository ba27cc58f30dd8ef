"""Journals of a trader that never ran, written by the trader's own constructors of events."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sentio_kedro.trader import events
from sentio_kedro.trader.clock import seconds_of, stamp_of
from sentio_kedro.trader.contract import BarRow, Decision
from sentio_kedro.trader.events import Event
from sentio_kedro.trader.identity import order_id
from sentio_kedro.trader.journal.store import Journal
from sentio_kedro.trader.orders import Fill, Order

BEGIN = seconds_of("2026-03-02T00:00:00Z")


@dataclass
class Author:
    """Writes the events of one bar after the other.

    Attributes:
        seconds: Length of a bar.
        symbols: What is traded.
        seed: Of prices and decisions.
        slip: What fills cost beyond half a spread of 2 bps, as a fraction.
        trades: Chance that a symbol is traded at a bar.
        level: Always this action; None draws one.
        simulated: Whether fills tell their cost by the model.
    """

    seconds: float = 60.0
    symbols: Sequence[str] = ("BTC", "ETH")
    seed: int = 0
    mode: str = "paper"
    slip: float = 0.0
    trades: float = 0.05
    level: int | None = None
    simulated: bool = False
    number: int = 0
    equity: float = 100_000.0
    cash: float = 100_000.0
    shares: dict[str, float] = field(default_factory=dict)
    prices: dict[str, float] = field(default_factory=dict)
    working: list[Order] = field(default_factory=list)
    drift: float = 2e-5

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311
        self.prices = {symbol: 100.0 * (1 + place) for place, symbol in enumerate(self.symbols)}

    @property
    def end(self) -> float:
        """End of the newest bar, seconds since 1970."""
        return BEGIN + self.number * self.seconds

    def start(self, **facts: object) -> list[Event]:
        told = {"mode": self.mode, "broker": "ccxt-binance", "account": "memory-1", "model": "replay fold 3", **facts}
        at = self.end + 1.0
        return [events.started(f"run-{self.number}", at, **told), events.reconciled(f"start-{self.number}", [], at)]

    def bar(self, *, closed: bool = True) -> list[Event]:
        """All events of the next bar, the heartbeat last."""
        self.number += 1
        at, stamp = self.end + 0.8, stamp_of(self.end)
        opens = {symbol: price * (1 + 1e-4 * self.random.gauss(0, 1)) for symbol, price in self.prices.items()}
        facts = list(self._fills(opens, at))
        for symbol in self.symbols:
            self.prices[symbol] = opens[symbol] * (1 + self.drift + 4e-4 * self.random.gauss(0, 1))
        bars = {s: {"open": opens[s], "high": p, "low": p, "close": p, "volume": 9.0} for s, p in self.prices.items()}
        row = BarRow(stamp, bars, "ccxt-binance", at)
        decision = self._decision(stamp)
        found = [events.bar(row, at), *facts, events.decided(decision, at + 0.05)]
        for symbol, shares in decision.orders.items():
            order = Order(order_id("paper", stamp, symbol), stamp, symbol, shares, self.prices[symbol])
            self.working.append(order)
            found += [
                events.intended(order, at + 0.06),
                events.sent(order.id, 1, at + 0.06),
                events.accepted(order.id, f"v{order.id[:6]}", at + 0.09),
            ]
        return [*found, events.closed_bar(stamp, at + 0.1)] if closed else found

    def _fills(self, opens: dict[str, float], at: float) -> Iterator[Event]:
        for order in self.working:
            side = 1 if order.shares > 0 else -1
            price = opens[order.symbol] * (1 + side * (0.0 if self.simulated else 2e-4 + self.slip))
            notional = abs(order.shares * price)
            costs = {"commission": 1e-4 * notional, "spread": 2e-4 * notional, "impact": 0.0} if self.simulated else {}
            fee = 0.0 if self.simulated else 1e-4 * notional
            self.cash -= order.shares * price + fee + sum(costs.values())
            held = self.shares.get(order.symbol, 0.0) + order.shares
            self.shares[order.symbol] = 0.0 if abs(held) < 1e-9 else held
            yield events.filled(Fill(f"x{order.id}", order.id, order.symbol, order.shares, price, fee, at, costs), at)
        self.working = []

    def _decision(self, stamp: str) -> Decision:
        worth = {symbol: self.shares.get(symbol, 0.0) * price for symbol, price in self.prices.items()}
        self.equity = self.cash + sum(worth.values())
        actions, orders, targets = {}, {}, {}
        for symbol in self.symbols:
            level = self.random.randrange(4) if self.level is None else self.level
            actions[symbol] = level
            targets[symbol] = 0.01 * (level - 1)
            wanted = (targets[symbol] * self.equity - worth[symbol]) / self.prices[symbol]
            if self.random.random() < self.trades and abs(wanted * self.prices[symbol]) > 50:
                orders[symbol] = round(wanted, 6)
        return Decision(
            bar=stamp, orders=orders, targets=targets, actions=actions,
            legal={symbol: (True,) * 4 for symbol in self.symbols}, closes=dict(self.prices), equity=self.equity,
            shares=dict(self.shares), cash=self.cash, account={},
            model={"regime": [0.8, 0.2]},
        )  # fmt: skip


def write(path: Path, bars: int, author: Author | None = None) -> Author:
    """Write a journal of a start and some bars."""
    author = author or Author()
    with Journal(path) as journal:
        journal.append(author.start())
        for _ in range(bars):
            journal.append(author.bar())
    return author

"""Agents and a feed without a model: what they do follows from the bar and the position alone. No torch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pandas as pd

from sentio_kedro.config.live.trader import SendingParameters, TraderLimits
from sentio_kedro.trader.clock import Clock, ReplayClock, seconds_of, stamp_of
from sentio_kedro.trader.contract import BarRow, Decision, Note, Settled, Simulated
from sentio_kedro.trader.identity import order_id
from sentio_kedro.trader.orders import Fill
from sentio_kedro.trader.state import Rules

BAR = 60.0
START = seconds_of("2026-03-02T14:30:00Z")
CAPITAL = 100_000.0
FEE = 0.01  # a share


def price(bar: int, symbol: int) -> float:
    """Close of a bar, in quarters, so that sums are exact."""
    return 100.0 + ((bar * 13 + symbol * 7) % 11) * 0.25


def row(bar: int, symbols: Sequence[str]) -> BarRow:
    """The row of a bar; it opens at the close before."""
    bars = {
        symbol: {
            "open": price(bar - 1, j),
            "high": max(price(bar - 1, j), price(bar, j)),
            "low": min(price(bar - 1, j), price(bar, j)),
            "close": price(bar, j),
            "volume": 1e6,
        }
        for j, symbol in enumerate(symbols)
    }
    end = START + bar * BAR
    return BarRow(stamp_of(end), bars, "stub", end)


def frame(rows: Sequence[BarRow]) -> pd.DataFrame:
    """Rows as the catalog's long frame."""
    return pd.DataFrame(
        [
            {"timestamp": pd.Timestamp(row.stamp), "symbol": symbol, **values}
            for row in rows
            for symbol, values in row.bars.items()
        ]
    )


class StubFeed:
    """Rows of bars, all there at once; ``first`` is the newest bar of the history."""

    source = "stub"

    def __init__(
        self, symbols: Sequence[str], clock: Clock, last: int, first: int = 0, prices: dict[str, float] | None = None
    ) -> None:
        self.symbols, self.clock, self.last, self.first, self.prices = symbols, clock, last, first, prices
        self.waiting: list[Note] = []

    async def history(self, bars: int) -> pd.DataFrame:
        """The bars until the first."""
        if self.clock.now() <= START + self.first * BAR:
            self._move(self.first)
        return frame([row(bar, self.symbols) for bar in range(self.first - bars + 1, self.first + 1)])

    async def rows(self, after: str) -> AsyncIterator[BarRow]:
        """The bars after a stamp."""
        begin = round((seconds_of(after) - START) / BAR) if after else self.first
        for bar in range(begin + 1, self.last + 1):
            self._move(bar)
            yield row(bar, self.symbols)

    def _move(self, bar: int) -> None:
        """Let time and the venue's prices be those at a bar's end."""
        if isinstance(self.clock, ReplayClock):
            self.clock.set(START + bar * BAR)
        if self.prices is not None:
            self.prices.update({symbol: price(bar, j) for j, symbol in enumerate(self.symbols)})

    def notes(self) -> list[Note]:
        """What else happened."""
        waiting, self.waiting = self.waiting, []
        return waiting

    async def close(self) -> None:
        """There is nothing to close."""


class StubDecider:
    """Wants a position that follows from the bar, and orders the difference."""

    source, model = "stub", "stub/1"
    required_bars = 2

    def __init__(self, name: str, symbols: Sequence[str], capital: float = CAPITAL) -> None:
        self.name, self.symbols, self.capital = name, tuple(symbols), capital
        self._cash, self._shares, self._closes = capital, dict.fromkeys(self.symbols, 0.0), dict[str, float]()
        self._orders: dict[str, float] = {}
        self._bar = ""

    def start(self, history: pd.DataFrame, account: Mapping[str, Any] | None, sent: frozenset[str]) -> Decision:
        """Take the newest row of a history."""
        newest = history[history["timestamp"] == history["timestamp"].max()]
        self._cash = self.capital if account is None else account["cash"]
        self._shares = dict.fromkeys(self.symbols, 0.0) | ({} if account is None else dict(account["shares"]))
        self._closes = dict(zip(newest["symbol"], newest["close"].astype(float), strict=True))
        return self._decision(stamp_of(newest["timestamp"].iloc[0].timestamp()), [])

    def advance(self, row: BarRow, execution: Simulated | Settled) -> Decision:
        """Fill at the open what was sent, or take what a venue says; then decide."""
        fills: list[Fill] = []
        if row.closing and isinstance(execution, Simulated):
            self._orders = {symbol: 0.0 for symbol in self.symbols}
        if isinstance(execution, Settled):
            self._cash = execution.cash
            self._shares = dict.fromkeys(self.symbols, 0.0) | dict(execution.shares)
        else:
            fills = [fill for symbol in self._orders if (fill := self._fill(row, symbol, execution.sent))]
        self._closes |= {symbol: values["close"] for symbol, values in row.bars.items()}
        return self._decision(row.stamp, fills)

    def _fill(self, row: BarRow, symbol: str, sent: frozenset[str]) -> Fill | None:
        key, shares = order_id(self.name, self._bar, symbol), self._orders[symbol]
        if key not in sent or symbol not in row.bars:
            return None
        paid, fee = row.bars[symbol]["open"], FEE * abs(shares)
        self._cash -= shares * paid + fee
        self._shares[symbol] += shares
        return Fill(f"{row.stamp}|{symbol}", key, symbol, shares, paid, fee, seconds_of(row.stamp))

    def _decision(self, stamp: str, fills: list[Fill]) -> Decision:
        bar = round((seconds_of(stamp) - START) / BAR)
        wanted = {symbol: 10.0 * ((bar * 7 + j * 3) % 5 - 2) for j, symbol in enumerate(self.symbols)}
        held = {symbol: self._shares[symbol] for symbol in self.symbols}
        self._bar = stamp
        self._orders = {s: wanted[s] - held[s] for s in self.symbols if wanted[s] != held[s]}
        equity = self._cash + sum(held[s] * self._closes[s] for s in self.symbols)
        return Decision(
            bar=stamp,
            orders=dict(self._orders),
            targets={s: wanted[s] * self._closes[s] / equity for s in self.symbols},
            actions={s: (bar * 7 + j * 3) % 5 for j, s in enumerate(self.symbols)},
            legal={s: [True] * 5 for s in self.symbols},
            closes=dict(self._closes),
            equity=equity,
            shares=held,
            cash=self._cash,
            account={"cash": self._cash, "shares": held},
            fills=fills,
        )


def stub_rules(name: str, symbols: Sequence[str], *, simulated: bool, **sending: float) -> Rules:
    """Rules under which the stub's orders pass."""
    limits = TraderLimits(orders_per_minute=1_000, turnover_per_day=1e6, daily_loss=1.0, drawdown=1.0)
    return Rules(name, tuple(symbols), BAR, limits, SendingParameters(**sending), simulated=simulated)

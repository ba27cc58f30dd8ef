"""Close everything by the venue's credentials alone: no model, no feed, no journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sentio_kedro.trader.clock import Clock, stamp_of
from sentio_kedro.trader.contract import Broker
from sentio_kedro.trader.identity import order_id
from sentio_kedro.trader.orders import Order, UnreadableError

PAUSE = 0.5  # seconds between questions
PATIENCE = 10  # refusals in a row after which a position is left: dust, or no market
SETTLE = 4.0  # seconds after the answer was missed; an order that the venue does not know then has never reached it


@dataclass(frozen=True)
class Flattened:
    """What came of it.

    Attributes:
        flat: Whether the venue says that nothing is held and nothing is open.
        seconds: How long it took.
        held: Positions as they were found.
        left: Positions that are still held.
        problems: What the venue did not answer, or refused.
    """

    flat: bool
    seconds: float
    held: dict[str, float]
    left: dict[str, float]
    problems: tuple[str, ...]

    def data(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


async def flatten(
    broker: Broker, clock: Clock, name: str, symbols: Sequence[str] | None = None, seconds: float = 60.0
) -> Flattened:
    """Cancel all orders, then close positions round after round until the venue says that nothing is left.

    A round asks for the positions first and begins only when the orders of the one before have ended, so that no order
    is larger than what is held and nothing is turned to the other side.

    Args:
        broker: The venue.
        clock: The time.
        name: Of the trader, for the orders' ids.
        symbols: What to close; null is everything that the account holds.
        seconds: When to give up; orders that wait for the market to open stay there.
    """
    begin, closing = clock.now(), _Closing(broker, clock, name, symbols)
    while True:
        left = await closing.round()
        if left == {} or closing.hopeless(left) or clock.now() - begin >= seconds:
            break
        await clock.wait_until(clock.now() + PAUSE)
    problems = tuple(dict.fromkeys(closing.problems))
    return Flattened(left == {}, clock.now() - begin, closing.held or {}, left or {}, problems)


@dataclass
class _Closing:
    """Rounds of closing orders."""

    broker: Broker
    clock: Clock
    name: str
    symbols: Sequence[str] | None
    held: dict[str, float] | None = None
    problems: list[str] = field(default_factory=list)
    ours: set[str] = field(default_factory=set)
    uncertain: dict[str, tuple[Order, float]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)

    def hopeless(self, left: dict[str, float] | None) -> bool:
        """Whether the venue refuses to close all that is left."""
        return left is not None and all(self.refused.get(symbol, 0) >= PATIENCE for symbol in left)

    async def round(self) -> dict[str, float] | None:
        """Cancel what is not ours, and close what is held. Returns what is held, None if that is not known yet."""
        try:
            working = await self.broker.open_orders()
            if any(order.id not in self.ours for order in working):
                await self.broker.cancel_all()
                return None
            if working or await self._in_transit():
                return None  # their end changes what is held
            held = await self.broker.holdings()
        except UnreadableError as error:
            self.problems.append(str(error))
            return None
        left = {s: shares for s, shares in held.shares.items() if self.symbols is None or s in self.symbols}
        left = await self._without_dust(left)
        self.held = dict(left) if self.held is None else self.held
        for symbol, shares in left.items():
            if self.refused.get(symbol, 0) < PATIENCE:
                await self._close(symbol, shares)
        return left

    async def _without_dust(self, left: dict[str, float]) -> dict[str, float]:
        """Leave out what is less than the venue takes in any order, and say so; all stay if it does not tell that."""
        try:
            lattices = await self.broker.lattices(sorted(left))
        except (UnreadableError, ValueError):
            return left
        least = {name: max(lattice.least, lattice.step) for name, lattice in lattices.items()}
        dust = {symbol: shares for symbol, shares in left.items() if abs(shares) < least.get(symbol, 0.0)}
        self.problems += [f"{s}: {shares:.8g} is less than any order, and stays" for s, shares in dust.items()]
        return {symbol: shares for symbol, shares in left.items() if symbol not in dust}

    async def _in_transit(self) -> bool:
        """Look up orders that were not answered; one that the venue does not know may still be on its way."""
        for key, (order, since) in list(self.uncertain.items()):
            if await self.broker.find(order) is not None or self.clock.now() - since >= SETTLE:
                del self.uncertain[key]
        return bool(self.uncertain)

    async def _close(self, symbol: str, shares: float) -> None:
        now = self.clock.now()
        key = order_id(self.name, f"flatten {now!r}", symbol)
        order = Order(key, stamp_of(now), symbol, -shares, 0.0, closing=True)
        self.ours.add(key)
        outcome = await self.broker.submit(order)
        self.refused[symbol] = self.refused.get(symbol, 0) + 1 if outcome.kind == "refused" else 0
        if outcome.kind == "refused":
            self.problems.append(f"{symbol}: {outcome.reason}")
        elif outcome.kind == "unknown":
            self.uncertain[key] = (order, self.clock.now())

"""The simulated venue: takes every order; the backtest's step fills them with the next decision."""

from __future__ import annotations

from collections.abc import Sequence

from sentio_kedro.trader.clock import Clock
from sentio_kedro.trader.orders import (
    CorporateAction,
    Fill,
    Holdings,
    Lattice,
    Order,
    Outcome,
    UnreadableError,
    VenueOrder,
)


class SimulatedBroker:
    """An account at no venue: what it holds is what the agents' session says."""

    name, crosses_zero, simulated = "simulated", True, True

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def account_id(self) -> str:
        """Return ``simulated``."""
        return "simulated"

    async def now(self) -> float:
        """Return the trader's own clock."""
        return self._clock.now()

    async def lattices(self, symbols: Sequence[str]) -> dict[str, Lattice]:
        """Return no bounds: the execution step has its own."""
        return {symbol: Lattice() for symbol in symbols}

    async def window(self, order: Order) -> tuple[float, float] | None:
        """Orders may be sent at once."""
        return None

    async def submit(self, order: Order) -> Outcome:
        """Take an order."""
        return Outcome("accepted", order.id)

    async def find(self, order: Order) -> VenueOrder | None:
        """Say that an order is there: whatever was intended is filled with the next bar."""
        return VenueOrder(order.id, order.id, order.symbol, order.shares, 0.0, "working")

    async def cancel(self, order: Order) -> Outcome:
        """Refuse: orders last until the next open."""
        return Outcome("refused", reason="a simulated order lasts until the next bar")

    async def cancel_all(self) -> None:
        """There is nothing to cancel."""

    async def open_orders(self) -> list[VenueOrder]:
        """There are none but the journal's."""
        return []

    async def fills(self, since: float) -> list[Fill]:
        """Fills come with decisions."""
        return []

    async def holdings(self) -> Holdings:
        """Refuse to say: the journal has the account."""
        raise UnreadableError("The simulated account is the journal's own.")

    async def actions(self, since: float) -> list[CorporateAction]:
        """They come with decisions."""
        return []

    async def arm(self, seconds: float) -> bool:
        """There is nothing to arm."""
        return False

    async def close(self) -> None:
        """There is nothing to close."""

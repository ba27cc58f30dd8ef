"""What the trader asks the venue, and what of the answers is kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import ParamSpec, TypeVar

from sentio_kedro.trader import events, reconcile
from sentio_kedro.trader.contract import Broker
from sentio_kedro.trader.orders import Fill, Holdings, Order, UnreadableError
from sentio_kedro.trader.runtime.book import Book
from sentio_kedro.trader.state import Action

OVERLAP = 60.0  # seconds before the newest fill from which on fills are asked for: venues book them out of order
BOOKED_LATE = 7 * 86_400.0  # seconds for which cash flows and splits are asked for again
READINGS = 3  # of holdings, until no fill came in between

P = ParamSpec("P")
T = TypeVar("T")


class Venue:
    """A broker's answers, as facts and signals.

    Attributes:
        began: Since when executions of the account are looked at, by the venue's clock.
        skew: Venue's clock minus the trader's when last asked, seconds.
    """

    def __init__(self, book: Book, broker: Broker) -> None:
        """Join a journal and a venue."""
        self._book, self._broker = book, broker
        self.began = 0.0
        self.skew = 0.0

    async def ask(self, name: str, question: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await an answer between two boundaries."""
        self._book.boundary(f"before {name}")
        answer = await question(*args, **kwargs)
        self._book.boundary(f"after {name}")
        return answer

    async def post(self, order: Order, number: int) -> list[Action]:
        """POST an order once and keep the outcome as soon as it is known."""
        outcome = await self.ask("submit", self._broker.submit, order)
        now = self._book.now()
        if outcome.kind == "accepted":
            return self._book.keep([events.accepted(order.id, outcome.venue_id, now)])
        if outcome.kind == "refused":
            return self._book.keep([events.refused(order.id, outcome.reason, now)])
        return self._book.keep([events.unknown(order.id, number, outcome.reason, now)])

    async def cancel(self, order: Order) -> None:
        """Ask for the end of an order; what came of it is what a look-up says."""
        await self.ask("cancel", self._broker.cancel, order)

    async def find(self, order: Order) -> list[Action]:
        """Look an order up, keep its new fills, and tell the state."""
        try:
            told = await self.ask("find", self._broker.find, order)
            actions = await self.fills()
        except UnreadableError:
            return self._book.learn(events.unreadable("order", order.id, self._book.now()))
        now = self._book.now()
        return actions + self._book.learn(events.absent(order.id, now) if told is None else events.found(told, now))

    async def fills(self) -> list[Action]:
        """Keep the executions that the journal has not, whoever ordered them: the account is what they all make.

        Raises:
            UnreadableError: If the venue does not say.
        """
        if self._broker.simulated:
            return []
        since = max(self.began, self._book.state.fills_since - OVERLAP)
        told = await self.ask("fills", self._broker.fills, since)
        new = {one.id: one for one in told if one.at >= since and not self._book.holds("filled", one.id)}
        return await self.corporate_actions(list(new.values())) if new else []

    async def corporate_actions(self, fills: Sequence[Fill] = ()) -> list[Action]:
        """Keep dividends, fees, interest, transfers and splits that the venue booked, and new fills.

        All in the order of the venue's clock: shares that are filled after a split are others than those before it.

        Raises:
            UnreadableError: If the venue does not say.
        """
        if self._broker.simulated:
            return []
        since, now = max(self.began, self._book.now() - BOOKED_LATE), self._book.now()
        told = {one.id: one for one in await self.ask("actions", self._broker.actions, since) if one.at >= since}
        booked = [(one.at, events.booked(one, now)) for one in told.values()]
        new = [(at, event) for at, event in booked if not self._book.holds(event.kind, event.key)]
        new += [(one.at, events.filled(one, now)) for one in fills]
        return self._book.keep([event for _, event in sorted(new, key=lambda dated: dated[0])])

    async def measure_skew(self) -> float:
        """Ask for the venue's clock; the answer is taken to be half as old as the question.

        Raises:
            UnreadableError: If the venue does not say.
        """
        begin = self._book.now()
        told = await self.ask("now", self._broker.now)
        self.skew = told - (begin + self._book.now()) / 2
        return self.skew

    async def compare(self) -> list[Action]:
        """Compare venue and journal and tell the state what differs."""
        book, actions = self._book, list[Action]()
        try:
            actions += await self.corporate_actions()
            holdings = await self.holdings(actions)
            orders = await self.ask("open orders", self._broker.open_orders)
            await self.measure_skew()
        except UnreadableError as error:
            return actions + book.learn(events.unreadable("account", str(error), book.now()))
        found = reconcile.differences(book.state, holdings, orders, self.skew, book.rules)
        return actions + book.learn(events.compared(reconcile.rows(found), book.now()))

    async def holdings(self, actions: list[Action]) -> Holdings:
        """Read holdings such that all fills in them are kept: a fill in between would look like a difference.

        Args:
            actions: What follows from the fills is appended.

        Raises:
            UnreadableError: If the venue does not say.
        """
        book = self._book
        actions += await self.fills()
        for _ in range(READINGS):
            holdings = await self.ask("holdings", self._broker.holdings)
            before = book.state.cash, book.state.shares
            actions += await self.fills()
            if before == (book.state.cash, book.state.shares):
                break
        return holdings
